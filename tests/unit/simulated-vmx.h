/* SPDX-License-Identifier: MIT */
/*
 * A CPU's VMCSs for host tests: each has all fields, cut to their widths; one is current, or none, and then
 * an access ends the test. What a VM entry or exit does to them is the test's business.
 */
#ifndef UMBRA_TESTS_UNIT_SIMULATED_VMX_H
#define UMBRA_TESTS_UNIT_SIMULATED_VMX_H

#include "arch/types.h"

/* Forgets all VMCSs; none is current. */
void simulated_vmx_reset(void);
u64 simulated_vmx_current(void);
/* A field of any VMCS, current or not; a VMCS is made when it is named first. */
u64 simulated_vmx_get(u64 vmcs, u64 field);
void simulated_vmx_set(u64 vmcs, u64 field, u64 value);
/* How many VMREADs and VMWRITEs the objects under test have executed. */
u64 simulated_vmx_accesses(void);

#endif
