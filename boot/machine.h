/* SPDX-License-Identifier: MIT */
/*
 * Sets up what all virtual CPUs share: the second-level tables over everything the guest owns, with the
 * firmware's memory types.
 */
#ifndef UMBRA_BOOT_MACHINE_H
#define UMBRA_BOOT_MACHINE_H

#include "mm/tdp.h"

/*
 * Fills `machine` for second-level tables of that configuration: all RAM and the low 4 GByte at once; device
 * memory above is mapped when the guest first touches it. NULL, or one sentence that says what failed.
 */
const char *boot_machine_init(const struct tdp_config *config);

/* Whether this CPU's MTRRs, as firmware left them, are those that the boot CPU had; true on AMD. */
bool boot_machine_mtrrs_agree(void);

#endif
