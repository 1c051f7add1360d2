/* SPDX-License-Identifier: MIT */
/*
 * The CPUs of the machine: each gets its own data, stacks and virtual CPU. All but the boot CPU are started
 * by Umbra itself, one after the other, before the guest is loaded, and wait inside their guests for its
 * SIPI.
 */
#ifndef UMBRA_BOOT_PROCESSORS_H
#define UMBRA_BOOT_PROCESSORS_H

#include "arch/percpu.h"
#include "boot/info.h"
#include "drivers/acpi.h"

/* CR4, PAT and so on of this CPU, as Umbra wants them on each. */
void processors_set_control_registers(void);

/* The boot CPU's data, with its tables loaded. Fatal if the frame pool is empty. */
struct percpu *processors_create_first(void);

/*
 * On the boot CPU in VMX operation, or with EFER.SVME set, while its loader's memory is as it was: starts all
 * others of *cpus. A CPU that does not come, or that Umbra cannot use, is fatal.
 */
void processors_start_others(const struct acpi_cpus *cpus, const struct memmap *memory);

/* For fatal_stop_hook: stops the other CPUs. */
void processors_stop_others(void);
/* For fatal_hook: prints what is known of this CPU's guest. */
void processors_report_death(void);

#endif
