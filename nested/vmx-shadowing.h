/* SPDX-License-Identifier: MIT */
/*
 * VMCS shadowing (SDM vol. 3C 25.10), as Umbra uses it: while L1 has a current VMCS, the fields that its exit
 * loop touches most are in a VMCS of the hardware's, so that its VMREAD and VMWRITE of them do not exit.
 * vmcs12 stays the authoritative copy whenever Umbra's code looks at it. Nothing here does anything where the
 * CPU has no such control, or with vmcs-shadowing=off.
 */
#ifndef UMBRA_NESTED_VMX_SHADOWING_H
#define UMBRA_NESTED_VMX_SHADOWING_H

#include "vcpu/vcpu.h"

/* At boot. False if the frame pool is empty. */
bool vmx_shadowing_init(struct vcpu *vcpu);

/* All of these with vmcs01 as the hardware's current VMCS, before and after. */

/* L1 has a current VMCS from now on, or has none any more; the latter collects first. */
void vmx_shadowing_begin(struct vcpu *vcpu);
void vmx_shadowing_end(struct vcpu *vcpu);
/* L1 ran: what it wrote goes to vmcs12, with nested_vmx.dirty and checked as a VMWRITE that exits sets them.
 */
void vmx_shadowing_collect(struct vcpu *vcpu);
/* L1 will run, and Umbra has changed vmcs12. */
void vmx_shadowing_publish(struct vcpu *vcpu);

#endif
