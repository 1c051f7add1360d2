/* SPDX-License-Identifier: MIT */
/*
 * A write to CR4 exits only if it changes a bit that the guest does not own (VMXE), but then Umbra has to do
 * all of it, so all the CPU's checks are here.
 */
#include "vmx/cr4.h"

#include "arch/x86.h"

#define CR3_PCID BITS(11, 0)

static bool valid_in_ia32e(const struct cr4_change *change)
{
    return (change->new &CR4_PAE) != 0 && ((change->old ^ change->new) & CR4_LA57) == 0;
}

static bool may_start_pcids(const struct cr4_change *change)
{
    return (change->efer & EFER_LMA) != 0 && (change->cr3 & CR3_PCID) == 0;
}

bool cr4_change_valid(const struct cr4_change *change)
{
    u64 set = change->new & ~change->old;

    if ((change->new & ~change->allowed) != 0)
        return false;
    if ((change->efer & EFER_LMA) != 0 && !valid_in_ia32e(change))
        return false;
    if ((set & CR4_PCIDE) != 0 && !may_start_pcids(change))
        return false;
    if ((set & CR4_CET) != 0 && (change->cr0 & CR0_WP) == 0)
        return false;
    return !change->vmx_operation || (change->new &CR4_VMXE) != 0;
}

bool cr4_change_loads_pdptes(const struct cr4_change *change)
{
    const u64 shaping = CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP;
    bool pae = (change->cr0 & CR0_PG) != 0 && (change->new &CR4_PAE) != 0 && (change->efer & EFER_LMA) == 0;

    return pae && ((change->new ^ change->old) & shaping) != 0;
}
