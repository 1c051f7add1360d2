/* SPDX-License-Identifier: MIT */
/*
 * What leaves L2: all that L1 asked for, and all that Umbra needs. Intercepts and MSR permission maps. Pure.
 */
#ifndef UMBRA_NESTED_SVM_MERGE_H
#define UMBRA_NESTED_SVM_MERGE_H

#include "svm/vmcb.h"

enum { MSR_MAP_WORDS = 2 * PAGE_SIZE / sizeof(u64) };

/* Umbra's own, for L2: #GP is the only exception that Umbra itself intercepts, and for L2 it need not. */
void svm_own_intercepts(u32 own[VMCB_INTERCEPT_WORDS]);
/* L1's and Umbra's. `virtual_gif`: L2 has one of its own. A CPU without takes no notice of L1's bit for it.
 */
void svm_merge_intercepts(const struct vmcb_control *control12, const u32 own[VMCB_INTERCEPT_WORDS],
                          bool virtual_gif, u32 merged[VMCB_INTERCEPT_WORDS]);

/* L1 lets L2 execute VMLOAD and VMSAVE on L2's own memory: with nested paging only. */
static inline bool svm_virtual_vmload(const struct vmcb_control *control12)
{
    return (control12->lbr_control & VMLOAD_VIRTUALIZATION_ENABLE) != 0 &&
           (control12->nested_control & NP_ENABLE) != 0;
}

/* What L1 may say in V_INTR; the rest is reserved, and stays as it is in vmcb12. */
static inline u64 svm_v_intr_for_l2(bool virtual_gif, bool virtual_nmi)
{
    return V_TPR | V_IRQ | V_INTR_PRIO | V_IGN_TPR | V_INTR_MASKING | V_INTR_VECTOR |
           (virtual_gif ? V_GIF | V_GIF_ENABLE : 0) | (virtual_nmi ? V_NMI | V_NMI_MASK | V_NMI_ENABLE : 0);
}

/* What L1 may say in the control of LBR virtualization, likewise. */
static inline u64 svm_lbr_control_for_l2(bool lbr, bool virtual_vmload)
{
    return (lbr ? LBR_VIRTUALIZATION_ENABLE : 0) | (virtual_vmload ? VMLOAD_VIRTUALIZATION_ENABLE : 0);
}

/* Clean bit LBR: DebugCtl, and what of branches and exceptions was last. */
static inline void svm_copy_lbr(struct vmcb_save *to, const struct vmcb_save *from)
{
    to->dbgctl = from->dbgctl;
    to->br_from = from->br_from;
    to->br_to = from->br_to;
    to->last_excp_from = from->last_excp_from;
    to->last_excp_to = from->last_excp_to;
}

static inline bool svm_intercepts_code(const struct vmcb_control *control, u64 code)
{
    return code < 32 * VMCB_INTERCEPT_WORDS && (control->intercept[code / 32] >> code % 32 & 1) != 0;
}

/*
 * MSR permission maps of 8 KByte, of which a VMRUN reads only the words that matter: the merged map
 * intercepts everything but in words in which L2 has used an MSR that neither L1 nor Umbra intercept.
 */
enum { SVM_MSR_WORDS = 16 };
struct svm_msr_merge {
    const u64 *own;
    u64 *merged; /* all ones at first */
    u16 word[SVM_MSR_WORDS];
    u16 count;
};

/* At VMRUN: the words in use follow L1's map. */
static inline void svm_msr_merge(const struct svm_msr_merge *merge, const u64 *l1)
{
    for (unsigned i = 0; i < merge->count; i++) {
        unsigned word = merge->word[i];
        merge->merged[word] = merge->own[word] | __atomic_load_n(&l1[word], __ATOMIC_RELAXED);
    }
}

/*
 * L2 was intercepted at an MSR that L1 leaves to it. True: Umbra has no interest either, it is not
 * intercepted any more, and L2 has to execute the instruction again: what VMLOAD and VMSAVE switch is not in
 * the MSRs now. When all places are taken, the others' begin anew.
 */
bool svm_msr_learn(struct svm_msr_merge *merge, const u64 *l1, u32 msr, bool write);

/* Does a permission map ask for that exit? MSRs that it has no bits for: yes (15.11). */
bool svm_msr_intercepted(const u64 *map, u32 msr, bool write);

#endif
