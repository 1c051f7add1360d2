/* SPDX-License-Identifier: MIT */
/*
 * Who handles an exit of L2: a decision made of the exit code and vmcb12's intercepts alone, one row per code
 * that Umbra's own intercepts can cause, too. Pure.
 */
#ifndef UMBRA_NESTED_SVM_VERDICT_H
#define UMBRA_NESTED_SVM_VERDICT_H

#include "nested/svm-merge.h"

enum svm_verdict {
    SVM_VERDICT_L1,          /* L1 asked for it, and gets it as the hardware reported it */
    SVM_VERDICT_UMBRA,       /* L1 does not want it: as for L1 itself (svm_handle) */
    SVM_VERDICT_INSTRUCTION, /* an SVM instruction that L1 leaves to L2 */
    SVM_VERDICT_UNDEFINED,   /* #UD in L2 */
    SVM_VERDICT_NPF,         /* the shadow's, or Umbra's own tables' */
    SVM_VERDICT_INIT,        /* takes L1 with it */
    SVM_VERDICT_STEP,        /* an exception or NMI that only Umbra's single step asked for */
    SVM_VERDICT_INVALID,     /* VMEXIT_INVALID */
    SVM_VERDICT_UNEXPECTED,  /* nobody asked for it */
};

/* `msr_intercepted`: for VMEXIT_MSR, L1's permission map asks for the exit. */
enum svm_verdict svm_verdict(const struct vmcb_control *control12, u64 code, bool msr_intercepted);

#endif
