/* SPDX-License-Identifier: MIT */
/* The two halves of group vmx-random: random changes of a VMCS, and the entries with it. */
#ifndef UMBRA_TESTS_GUEST_VMX_RANDOM_H
#define UMBRA_TESTS_GUEST_VMX_RANDOM_H

#include "tests/guest/vmx.h"

/* --- vmx-random-state.c: all of it is for the current VMCS --- */

/* A VMCS that can be entered, from which a series of changes starts. */
void random_reset(void);
/* One random change of one thing. */
void random_change(void);
/* Before each entry: registers of L2's, whose instruction is `at`, and what it must not be entered without.
 */
void random_prepare(const u8 *at);
/* Memory that L2 or an exit may have written to, where it is not what random_prepare() has left. */
void random_print_memory(void);

/*
 * Of the exit qualification of an EPT violation: access, permissions, whether there is a linear address and
 * whether that is being translated. The others are not the same in Bochs as in the manual: the user-execute
 * permission (bit 13 instead of 6), and what a walk with EPT A/D was (bit 0).
 */
#define EPT_VIOLATION_COMPARED (BITS(5, 1) | BITS(8, 7))

#endif
