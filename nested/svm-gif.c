/* SPDX-License-Identifier: MIT */
/*
 * GIF of an L2 to which L1 leaves CLGI and STGI and gives no virtual GIF: it is L1's own then. While it is 0,
 * L2 runs with what L1 has with GIF = 0 (svm/switch.c); virtual interrupts and NMIs wait as well. Source: APM
 * vol. 2 15.17, 15.21.4.
 */
#include "arch/cpu.h"
#include "nested/svm-nested.h"
#include "svm/svm.h"

#define INTERCEPT_NMI (1u << VMEXIT_NMI % 32)

void nested_svm_clear_l2_gif(struct svm_vcpu *svm)
{
    struct nested_svm *nested = nested_svm_of(svm->vcpu);
    struct vmcb_control *control = &svm->vmcb->control;

    if ((svm->unusual & SVM_L2_GIF_CLEAR) != 0)
        return;
    svm->unusual |= SVM_L2_GIF_CLEAR;
    nested->gif.smi = false;
    nested->gif.v_intr = control->v_intr;
    nested->gif.tpr = read_cr8();
    if ((control->v_intr & V_INTR_MASKING) == 0)
        control->v_intr = (control->v_intr & ~V_TPR) | V_INTR_MASKING | nested->gif.tpr;
    control->v_intr &= ~(V_IRQ | V_NMI);
    control->intercept[VMEXIT_NMI / 32] |= INTERCEPT_NMI;
    svm_changed(svm, CLEAN_INTERCEPTS | CLEAN_TPR);
}

void nested_svm_set_l2_gif(struct svm_vcpu *svm)
{
    struct nested_svm *nested = nested_svm_of(svm->vcpu);
    struct vmcb_control *control = &svm->vmcb->control;
    u64 before = nested->gif.v_intr, tpr = control->v_intr & BITS(3, 0);

    if ((svm->unusual & SVM_L2_GIF_CLEAR) == 0)
        return;
    svm->unusual &= ~(u32)SVM_L2_GIF_CLEAR;
    if ((before & V_INTR_MASKING) == 0) {
        if (tpr != nested->gif.tpr)
            write_cr8(tpr);
        control->v_intr = (control->v_intr & ~(V_INTR_MASKING | V_TPR)) | (before & V_TPR);
    }
    control->v_intr |= before & (V_IRQ | V_NMI);
    if (!svm_intercepts_code(&nested->slot->control, VMEXIT_NMI))
        control->intercept[VMEXIT_NMI / 32] &= ~INTERCEPT_NMI | nested->own_intercepts[VMEXIT_NMI / 32];
    svm_changed(svm, CLEAN_INTERCEPTS | CLEAN_TPR);
}
