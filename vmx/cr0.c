/* SPDX-License-Identifier: MIT */
/*
 * A write to CR0 exits only if it changes a bit that VMX keeps (NE), but then Umbra has to do all of it, so
 * all the CPU's checks are here.
 */
#include "vmx/cr0.h"

#include "arch/x86.h"

#define CR0_DEFINED                                                                                          \
    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)
#define CR0_LMSW (CR0_PE | CR0_MP | CR0_EM | CR0_TS)

u64 cr0_effective(u64 written)
{
    return (written & CR0_DEFINED) | CR0_ET;
}

u64 cr0_lmsw(u64 old, u64 source)
{
    return (old & ~(CR0_LMSW & ~CR0_PE)) | (source & CR0_LMSW);
}

static bool consistent(u64 cr0)
{
    if ((cr0 & BITS(63, 32)) != 0)
        return false;
    if ((cr0 & CR0_PG) != 0 && (cr0 & CR0_PE) == 0)
        return false;
    return (cr0 & CR0_NW) == 0 || (cr0 & CR0_CD) != 0;
}

static bool may_start_paging(const struct cr0_change *change)
{
    if ((change->efer & EFER_LME) == 0)
        return true;
    return (change->cr4 & CR4_PAE) != 0 && !change->cs_long && !change->tss16;
}

static bool may_stop_paging(const struct cr0_change *change)
{
    return !change->code64 && (change->cr4 & CR4_PCIDE) == 0;
}

bool cr0_change_valid(const struct cr0_change *change)
{
    u64 set = change->new & ~change->old;
    u64 cleared = change->old & ~change->new;

    if (!consistent(change->new))
        return false;
    if ((set & CR0_PG) != 0 && !may_start_paging(change))
        return false;
    if ((cleared & CR0_PG) != 0 && !may_stop_paging(change))
        return false;
    return (change->new &CR0_WP) != 0 || (change->cr4 & CR4_CET) == 0;
}

u64 cr0_change_efer(const struct cr0_change *change)
{
    bool active = (change->new &CR0_PG) != 0 && (change->efer & EFER_LME) != 0;
    return active ? change->efer | EFER_LMA : change->efer & ~EFER_LMA;
}

bool cr0_change_loads_pdptes(const struct cr0_change *change)
{
    bool pae = (change->new &CR0_PG) != 0 && (change->cr4 & CR4_PAE) != 0 && (change->efer & EFER_LME) == 0;
    return pae && ((change->new ^ change->old) & (CR0_PG | CR0_CD | CR0_NW)) != 0;
}
