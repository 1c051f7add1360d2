/* SPDX-License-Identifier: MIT */
/*
 * What L1 is told of SVM: hardware AND implemented. Pure.
 */
#ifndef UMBRA_NESTED_SVM_CAPABILITY_H
#define UMBRA_NESTED_SVM_CAPABILITY_H

#include "arch/cpu.h"
#include "svm/capability.h"

/* One feature that L1 may see. */
struct svm_feature_row {
    u32 bit;
    bool emulated; /* offered without the CPU's help */
};
extern const struct svm_feature_row svm_feature_rows[];
extern const unsigned svm_feature_row_count;

/* CPUID 8000_000A for L1 from the CPU's own. `gmet`: Umbra's own tables use it. */
struct cpuid_regs svm_capability_leaf(struct cpuid_regs hardware, bool gmet);

#endif
