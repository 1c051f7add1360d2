/* SPDX-License-Identifier: MIT */
/*
 * The MSRs of SVM as L1 sees them, and an L2 to which L1 leaves them. What they do is done elsewhere: here
 * is what may be written, and what is read. Source: APM vol. 2 15.30.
 */
#include "arch/cpu.h"
#include "arch/msr.h"
#include "nested/svm-nested.h"
#include "svm/capability.h"

bool nested_svm_read_msr(struct vcpu *vcpu, u32 msr, u64 *value)
{
    const struct svm_vcpu *svm = svm_of(vcpu);

    switch (msr) {
    case MSR_VM_CR:
        /* Locked with SVM allowed: writes to LOCK and SVMDIS are ignored. So are those to DPD and DIS_A20M,
         * which are about debug ports and the A20 line. */
        *value = VM_CR_LOCK | (svm->init_is_sx ? VM_CR_R_INIT : 0);
        return true;
    case MSR_VM_HSAVE_PA:
        *value = nested_svm_of(vcpu)->hsave_pa;
        return true;
    case MSR_TSC_RATIO:
        *value = svm->tsc_ratio;
        return svm_features.tsc_ratio;
    default:
        return false;
    }
}

/* It is the CPU that says which ratios it can have. L1 itself always runs with 1.0. */
static bool write_tsc_ratio(struct svm_vcpu *svm, u64 value)
{
    if (!svm_features.tsc_ratio || (value & TSC_RATIO_RESERVED) != 0 || !wrmsr_safe(MSR_TSC_RATIO, value))
        return false;
    svm->tsc_ratio = value;
    if (!svm->vcpu->l2_running)
        (void)wrmsr_safe(MSR_TSC_RATIO, TSC_RATIO_ONE);
    return true;
}

bool nested_svm_write_msr(struct vcpu *vcpu, u32 msr, u64 value)
{
    struct nested_svm *nested = nested_svm_of(vcpu);

    switch (msr) {
    case MSR_VM_CR:
        if ((value & VM_CR_RESERVED) != 0)
            return false;
        svm_of(vcpu)->init_is_sx = (value & VM_CR_R_INIT) != 0;
        return true;
    case MSR_VM_HSAVE_PA:
        if (value % PAGE_SIZE != 0 || value >= nested->facts.physical_limit)
            return false;
        nested->hsave_pa = value;
        return true;
    case MSR_TSC_RATIO:
        return write_tsc_ratio(svm_of(vcpu), value);
    default:
        return false;
    }
}
