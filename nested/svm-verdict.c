/* SPDX-License-Identifier: MIT */
/* The table of exits of L2; see nested/svm-verdict.h. Source: APM vol. 2 15.7 to 15.14, appendix C. */
#include "nested/svm-verdict.h"

#include "svm/exit-name.h"

/* What becomes of an exit that L1 did not ask for; 0 is SVM_VERDICT_L1, which cannot be meant here. */
static const u8 rows[SVM_EXIT_DENSE] = {
    [VMEXIT_NMI] = SVM_VERDICT_STEP,
    [VMEXIT_INIT] = SVM_VERDICT_INIT,
    [VMEXIT_CPUID] = SVM_VERDICT_UMBRA,
    [VMEXIT_IRET] = SVM_VERDICT_UMBRA,
    [VMEXIT_INVD] = SVM_VERDICT_UMBRA,
    [VMEXIT_MSR] = SVM_VERDICT_UMBRA,
    [VMEXIT_XSETBV] = SVM_VERDICT_UMBRA,
    [VMEXIT_SHUTDOWN] = SVM_VERDICT_UMBRA,
    [VMEXIT_VMMCALL] = SVM_VERDICT_UNDEFINED, /* 15.35: #UD where it is not intercepted */
    [VMEXIT_VMLOAD] = SVM_VERDICT_INSTRUCTION,
    [VMEXIT_VMSAVE] = SVM_VERDICT_INSTRUCTION,
    [VMEXIT_INVLPGA] = SVM_VERDICT_INSTRUCTION,
    [VMEXIT_STGI] = SVM_VERDICT_INSTRUCTION,
    [VMEXIT_CLGI] = SVM_VERDICT_INSTRUCTION,
    [VMEXIT_SKINIT] = SVM_VERDICT_UNDEFINED,
};

static enum svm_verdict not_asked_for(u64 code)
{
    if (code >= VMEXIT_EXCP0 && code < VMEXIT_EXCP0 + 32)
        return SVM_VERDICT_STEP;
    if (code >= ARRAY_SIZE(rows) || rows[code] == 0)
        return SVM_VERDICT_UNEXPECTED;
    return (enum svm_verdict)rows[code];
}

enum svm_verdict svm_verdict(const struct vmcb_control *control12, u64 code, bool msr_intercepted)
{
    if (code == VMEXIT_NPF)
        return SVM_VERDICT_NPF;
    if (code == VMEXIT_INVALID)
        return SVM_VERDICT_INVALID;
    if (svm_intercepts_code(control12, code) && (code != VMEXIT_MSR || msr_intercepted))
        return SVM_VERDICT_L1;
    /* The CPU does so outside 64-bit mode. */
    if ((code == VMEXIT_VMLOAD || code == VMEXIT_VMSAVE) && svm_virtual_vmload(control12))
        return SVM_VERDICT_L1;
    return not_asked_for(code);
}
