/* SPDX-License-Identifier: MIT */
/*
 * The rules of a write to CR4, as values: what the CPU checks. Pure; the VMCS is in vmx/control-registers.c.
 * Source: SDM vol. 3A 2.5, 4.10.1, vol. 3C 24.8.
 */
#ifndef UMBRA_VMX_CR4_H
#define UMBRA_VMX_CR4_H

#include "arch/types.h"

struct cr4_change {
    u64 old, new;       /* as the guest sees them */
    u64 allowed;        /* bits that this guest may set */
    u64 cr0, cr3, efer; /* as the guest sees them */
    bool vmx_operation; /* the guest has executed VMXON: VMXE stays 1 */
};

/* False where the CPU raises #GP(0). */
bool cr4_change_valid(const struct cr4_change *change);
/* Does the write load the PDPTEs of PAE paging? */
bool cr4_change_loads_pdptes(const struct cr4_change *change);

#endif
