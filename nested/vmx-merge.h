/* SPDX-License-Identifier: MIT */
/*
 * What vmcs02 has to say so that L2 runs as vmcs12 says and Umbra keeps what is its own: controls and MSR
 * bitmaps as functions of both. Pure.
 */
#ifndef UMBRA_NESTED_VMX_MERGE_H
#define UMBRA_NESTED_VMX_MERGE_H

#include "nested/vmcs12.h"
#include "vmx/controls.h"

/* The secondary controls that count: none unless they are activated. */
static inline u32 vmcs12_secondary(const struct vmcs12 *vmcs12)
{
    return (vmcs12->primary_controls & PRIMARY_SECONDARY_CONTROLS) != 0 ? vmcs12->secondary_controls : 0;
}

/* `own` is what Umbra runs L1 with; the result goes to vmcs02, except that NMI and step controls may be
 * added. */
void vmx_merge_controls(const struct vmcs12 *vmcs12, const u32 own[CONTROL_WORDS], u32 merged[CONTROL_WORDS]);

/* CR4 guest/host mask and read shadow: bits that L1 itself may not set are Umbra's and read as 0. */
u64 vmx_merge_cr4_mask(const struct vmcs12 *vmcs12);
u64 vmx_merge_cr4_shadow(const struct vmcs12 *vmcs12);

/*
 * MSR bitmaps (SDM vol. 3C 25.6.9), as 512 words. An L2's access to an MSR in one of the hot words exits only
 * if L1 or Umbra asks for it; all others exit and are decided by software, so that an entry needs to look at
 * a few words only. Every MSR that VMCS fields switch is in a hot word. `merged` is all ones before the first
 * call; `l1` is NULL if L1 intercepts all MSRs.
 */
enum { MSR_BITMAP_WORDS = 512 };
void vmx_merge_msr_bitmap(const u64 *l1, const u64 *own, u64 *merged);

/* Does L1's bitmap intercept this access? MSRs outside of its ranges always are. */
bool vmx_msr_intercepted(const u8 *bitmap, u32 msr, bool write);

#endif
