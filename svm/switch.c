/* SPDX-License-Identifier: MIT */
/*
 * Two guests on one CPU: which VMCB is entered next, and the global interrupt flag of L1. The CPU's own GIF
 * is 0 in Umbra and 1 in every guest, so that what L1's GIF = 0 holds back is held back by other means.
 * Source: APM vol. 2 15.17, 15.21.1.
 */
#include "arch/cpu.h"
#include "svm/capability.h"
#include "svm/controls.h"
#include "svm/nmi.h"
#include "svm/step.h"
#include "svm/svm.h"

enum { INTERCEPT_WORD_NMI = VMEXIT_NMI / 32 };
#define INTERCEPT_NMI (1u << VMEXIT_NMI % 32)

void svm_set_l1_svme(struct svm_vcpu *svm, bool set)
{
    svm->l1_svme = set;
    svm->l1_svme_change = true;
    svm->exceptions = set ? 0 : svm_controls_exceptions();
    svm->vmcb01->control.intercept[VMCB_INTERCEPT_EXCEPTIONS] = svm->exceptions;
    svm_controls_vmload(&svm->vmcb01->control, set && svm_features.virtual_vmload);
    svm_changed(svm, CLEAN_INTERCEPTS | CLEAN_LBR);
    /* What follows a cleared SVME with GIF = 0 is undefined; the machine goes on. */
    if (!set)
        svm_set_gif(svm, true);
}

static void release_events(struct svm_vcpu *svm)
{
    struct vmcb_control *control = &svm->vmcb01->control;

    svm_release_tpr(svm);
    svm->events_held = false;
    control->v_intr &= ~(V_INTR_MASKING | V_TPR);
    if (!svm_nmi_intercepted())
        control->intercept[INTERCEPT_WORD_NMI] &= ~INTERCEPT_NMI;
    control->clean &= ~(u32)(CLEAN_INTERCEPTS | CLEAN_TPR);
    if (svm->init_pending)
        svm_guest_init(svm);
    if (svm_nmi_deliver(svm) == EXIT_STEP)
        svm_step_begin(svm);
}

void svm_set_gif(struct svm_vcpu *svm, bool set)
{
    if (set == !svm->events_held)
        return;
    if (set)
        release_events(svm);
    else
        svm_hold_events(svm);
}
