/* SPDX-License-Identifier: MIT */
/*
 * The rules of a write to CR0, as values: what the CPU checks and what it changes with it. Pure; the VMCS is
 * in vmx/control-registers.c. Source: SDM vol. 3A 2.5, 4.1.1 and 10.8.5, vol. 2B MOV to control registers,
 * LMSW.
 */
#ifndef UMBRA_VMX_CR0_H
#define UMBRA_VMX_CR0_H

#include "arch/types.h"

struct cr0_change {
    u64 old, new;  /* as the guest sees them */
    u64 cr4, efer; /* before the write */
    bool code64;   /* CS.L in IA-32e mode */
    bool cs_long;  /* CS.L, whatever the mode */
    bool tss16;    /* TR holds a 16-bit TSS */
};

/* The value that CR0 takes: reserved bits of the low half are ignored and ET is always 1. */
u64 cr0_effective(u64 written);
/* What LMSW writes: PE, MP, EM and TS, but it cannot clear PE. */
u64 cr0_lmsw(u64 old, u64 source);

/* False where the CPU raises #GP(0). `change->new` may have reserved bits of the high half set. */
bool cr0_change_valid(const struct cr0_change *change);
/* EFER after the write: LMA follows PG while LME is 1. */
u64 cr0_change_efer(const struct cr0_change *change);
/* Does the write load the PDPTEs of PAE paging? */
bool cr0_change_loads_pdptes(const struct cr0_change *change);

#endif
