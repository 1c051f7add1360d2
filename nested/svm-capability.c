/* SPDX-License-Identifier: MIT */
/* The table of SVM features for L1; see nested/svm-capability.h. */
#include "nested/svm-capability.h"

/* How it comes that L1's use of a feature has its effect on L2 is for readers only. */
#define OF_THE_CPU(feature, how)                                                                             \
    {                                                                                                        \
        SVM_EDX_##feature, false                                                                             \
    }
#define EMULATED(feature, how)                                                                               \
    {                                                                                                        \
        SVM_EDX_##feature, true                                                                              \
    }

const struct svm_feature_row svm_feature_rows[] = {
    OF_THE_CPU(NP, "the shadow of L1's tables"),
    OF_THE_CPU(LBR, "vmcb02 has L2's DebugCtl and last branches, or L1's where L1 shares its own"),
    OF_THE_CPU(NRIPS, "nRIP is handed on with the exit, and taken for an injected software interrupt"),
    OF_THE_CPU(TSC_RATIO, "the CPU's MSR holds L1's ratio while L2 runs"),
    EMULATED(VMCB_CLEAN, "groups that L1 calls clean are not read again while the same VMCB runs again"),
    EMULATED(FLUSH_BY_ASID, "TLB_CONTROL is obeyed whatever the CPU can do"),
    OF_THE_CPU(DECODE_ASSISTS, "EXITINFO1 and the instruction bytes are handed on with the exit"),
    OF_THE_CPU(PAUSE_FILTER, "the count is the CPU's"),
    OF_THE_CPU(PAUSE_THRESHOLD, "so is the threshold"),
    OF_THE_CPU(VIRTUAL_VMLOAD, "goes through the shadow's tables; outside 64-bit mode it is L1's exit"),
    OF_THE_CPU(VGIF, "V_GIF of vmcb02 is L1's; Umbra has no use for it, since L1's interrupts are real"),
    OF_THE_CPU(GMET, "the shadow's tables are GMET's"),
    OF_THE_CPU(VNMI, "V_NMI and V_NMI_MASK of vmcb02 are L1's; Umbra injects no NMI into such an L2"),
    OF_THE_CPU(ADDRESS_CHECK, "it is the CPU that puts L2's #GP for rAX before or behind the intercept"),
};

#undef OF_THE_CPU
#undef EMULATED

const unsigned svm_feature_row_count = ARRAY_SIZE(svm_feature_rows);

struct cpuid_regs svm_capability_leaf(struct cpuid_regs hardware, bool gmet)
{
    struct cpuid_regs leaf = {.eax = hardware.eax & 0xff, .ebx = hardware.ebx};

    for (unsigned i = 0; i < svm_feature_row_count; i++) {
        const struct svm_feature_row *row = &svm_feature_rows[i];
        if (row->emulated || (hardware.edx & row->bit) != 0)
            leaf.edx |= (u32)row->bit;
    }
    if (!gmet)
        leaf.edx &= ~(u32)SVM_EDX_GMET;
    return leaf;
}
