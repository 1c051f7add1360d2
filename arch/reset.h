/* SPDX-License-Identifier: MIT */
/* Resets the whole machine, as a CPU's shutdown does on real hardware. */
#ifndef UMBRA_ARCH_RESET_H
#define UMBRA_ARCH_RESET_H

/* Tries the ways that PCs have, most common first; the last one is a triple fault of this CPU, so it does not
 * return. */
_Noreturn void machine_reset(void);

#endif
