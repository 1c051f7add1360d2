/* SPDX-License-Identifier: MIT */
/*
 * What leaves L2: all that L1 asked for, and all that Umbra needs. Intercepts and MSR permission maps. Pure.
 */
#ifndef UMBRA_NESTED_SVM_MERGE_H
#define UMBRA_NESTED_SVM_MERGE_H

#include "svm/vmcb.h"

enum { MSR_MAP_WORDS = 2 * PAGE_SIZE / sizeof(u64) };

/* L1's and Umbra's; #GP is the only exception that Umbra itself intercepts, and for L2 it need not. */
void svm_merge_intercepts(const struct vmcb_control *control12, u32 merged[VMCB_INTERCEPT_WORDS]);

static inline bool svm_intercepts_code(const struct vmcb_control *control, u64 code)
{
    return code < 32 * VMCB_INTERCEPT_WORDS && (control->intercept[code / 32] >> code % 32 & 1) != 0;
}

/*
 * MSR permission maps of 8 KByte. The words in which Umbra's map lets anything pass are known beforehand: all
 * others are ones in the merged map for ever.
 */
struct svm_msr_merge {
    const u64 *own;
    u16 count;
    u16 word[MSR_MAP_WORDS]; /* their indices */
};

void svm_msr_merge_init(struct svm_msr_merge *merge, const u64 *own);
/* `merged` was filled with ones once, and with nothing but this function since. */
void svm_msr_merge(const struct svm_msr_merge *merge, const u64 *l1, u64 *merged);

/* Does a permission map ask for that exit? MSRs that it has no bits for: yes (15.11). */
bool svm_msr_intercepted(const u64 *map, u32 msr, bool write);

#endif
