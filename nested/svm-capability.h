/* SPDX-License-Identifier: MIT */
/*
 * What L1 is told of SVM: hardware AND implemented. Pure.
 */
#ifndef UMBRA_NESTED_SVM_CAPABILITY_H
#define UMBRA_NESTED_SVM_CAPABILITY_H

#include "arch/cpu.h"

/* CPUID 8000_000A EDX, APM vol. 3 E.4.9 */
#define SVM_EDX_NP              BIT(0)
#define SVM_EDX_LBR             BIT(1)
#define SVM_EDX_NRIPS           BIT(3)
#define SVM_EDX_TSC_RATIO       BIT(4)
#define SVM_EDX_VMCB_CLEAN      BIT(5)
#define SVM_EDX_FLUSH_BY_ASID   BIT(6)
#define SVM_EDX_DECODE_ASSISTS  BIT(7)
#define SVM_EDX_PAUSE_FILTER    BIT(10)
#define SVM_EDX_PAUSE_THRESHOLD BIT(12)
#define SVM_EDX_VIRTUAL_VMLOAD  BIT(15)
#define SVM_EDX_VGIF            BIT(16)
#define SVM_EDX_GMET            BIT(17)
#define SVM_EDX_VNMI            BIT(25)
#define SVM_EDX_ADDRESS_CHECK   BIT(28)

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
