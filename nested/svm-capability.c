/* SPDX-License-Identifier: MIT */
/* The table of SVM features for L1; see nested/svm-capability.h. */
#include "nested/svm-capability.h"

const struct svm_feature_row svm_feature_rows[] = {
    {SVM_EDX_NP, false, "the shadow of L1's tables"},
    {SVM_EDX_LBR, false, "vmcb02 has L2's DebugCtl and last branches, or L1's where L1 shares its own"},
    {SVM_EDX_NRIPS, false, "nRIP is handed on with the exit, and taken for an injected software interrupt"},
    {SVM_EDX_TSC_RATIO, false, "the CPU's MSR holds L1's ratio while L2 runs"},
    {SVM_EDX_VMCB_CLEAN, true, "may be ignored: all of vmcb12 is read at each VMRUN"},
    {SVM_EDX_FLUSH_BY_ASID, true, "TLB_CONTROL is obeyed whatever the CPU can do"},
    {SVM_EDX_DECODE_ASSISTS, false, "EXITINFO1 and the instruction bytes are handed on with the exit"},
    {SVM_EDX_PAUSE_FILTER, false, "the count is the CPU's"},
    {SVM_EDX_PAUSE_THRESHOLD, false, "so is the threshold"},
    {SVM_EDX_VIRTUAL_VMLOAD, false, "goes through the shadow's tables; outside 64-bit mode it is L1's exit"},
    {SVM_EDX_VGIF, false, "V_GIF of vmcb02 is L1's; Umbra has no use for it, since L1's interrupts are real"},
    {SVM_EDX_GMET, false, "the shadow's tables are GMET's"},
    {SVM_EDX_VNMI, false, "V_NMI and V_NMI_MASK of vmcb02 are L1's; Umbra injects no NMI into such an L2"},
    {SVM_EDX_ADDRESS_CHECK, false, "it is the CPU that puts L2's #GP for rAX before or behind the intercept"},
};
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
