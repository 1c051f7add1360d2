/* SPDX-License-Identifier: MIT */
/*
 * The little of ACPI that Umbra needs: finding the root pointer and the CPUs in the MADT. Tables are
 * firmware's, yet every length and address in them is checked. Pure: memory is reached through a window that
 * the caller describes.
 */
#ifndef UMBRA_DRIVERS_ACPI_H
#define UMBRA_DRIVERS_ACPI_H

#include "arch/types.h"

/* Physical memory [0, limit) as the caller has it mapped from `base` on. */
struct acpi_window {
    const u8 *base;
    u64 limit;
};

enum { ACPI_RSDP_MIN_BYTES = 20 };

/* Searches the EBDA and E0000H..FFFFFH (ACPI 6.5 section 5.2.5.1). Physical address of a valid RSDP, 0 if
 * there is none. */
u64 acpi_find_rsdp(const struct acpi_window *window);

enum { ACPI_CPUS_MAX = 64 };

/* Local APIC IDs of all CPUs that firmware has enabled; `count` may be larger than what fits. */
struct acpi_cpus {
    unsigned count;
    u32 apic_id[ACPI_CPUS_MAX];
};

/*
 * Enabled processors, local APIC and x2APIC entries, each ID once, of the MADT that the RSDP leads to (ACPI
 * 6.5 sections 5.2.12.2 and .12). `rsdp` is a copy of `rsdp_bytes`. None if there is no valid MADT within the
 * window. One that could be plugged in later is not enabled.
 */
void acpi_find_cpus(const struct acpi_window *window, const u8 *rsdp, size_t rsdp_bytes,
                    struct acpi_cpus *cpus);

#endif
