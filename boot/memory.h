/* SPDX-License-Identifier: MIT */
/*
 * Where Umbra lives: chooses its region at the top of memory below 4 GByte, moves the running image there,
 * and runs it on page tables of its own from then on.
 */
#ifndef UMBRA_BOOT_MEMORY_H
#define UMBRA_BOOT_MEMORY_H

#include "arch/exception.h"
#include "boot/info.h"

/*
 * For so many CPUs: sets umbra_region and guest_memmap, fills the frame pool, and returns on the new page
 * tables, with the image running from the region. NULL, or one sentence that says why there is no place.
 */
const char *boot_memory_init(const struct boot_info *info, unsigned cpus);

/* Maps the stacks of a CPU, each above an unmapped page, and says where they end; false if the frame pool is
 * empty. */
bool boot_memory_map_stacks(unsigned cpu, struct cpu_stacks *tops);

/* Maps that page, uncached, for cpu->local_apic; false as above. */
bool boot_memory_map_local_apic(struct percpu *cpu, hpa_t page);

#endif
