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
 * MSR bitmaps (SDM vol. 3C 25.6.9), as 512 words, of which an entry reads only those that matter: the merged
 * bitmap intercepts everything but in words in which L2 has used an MSR that neither L1 nor Umbra intercepts.
 */
enum { MSR_BITMAP_WORDS = 512, VMX_MSR_WORDS = 16 };
struct vmx_msr_merge {
    const u64 *own;
    u64 *merged;
    u16 word[VMX_MSR_WORDS];
    u16 count;
};

/* All is intercepted from now on. */
void vmx_msr_forget(struct vmx_msr_merge *merge);

/* At each entry: the words in use follow L1's bitmap, which is there if any word is in use. */
static inline void vmx_msr_merge(const struct vmx_msr_merge *merge, const u64 *l1)
{
    for (unsigned i = 0; i < merge->count; i++) {
        unsigned word = merge->word[i];
        merge->merged[word] = merge->own[word] | __atomic_load_n(&l1[word], __ATOMIC_RELAXED);
    }
}

/*
 * L2 was intercepted at an MSR that L1 leaves to it. True: Umbra does, too, and if L2 makes the access again,
 * there is no exit. When all places are taken, the others' begin anew.
 */
bool vmx_msr_learn(struct vmx_msr_merge *merge, const u64 *l1, u32 msr, bool write);

/* Does L1's bitmap intercept this access? MSRs outside of its ranges always are. */
bool vmx_msr_intercepted(const u8 *bitmap, u32 msr, bool write);

#endif
