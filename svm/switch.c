/* SPDX-License-Identifier: MIT */
/*
 * Two guests on one CPU: which VMCB is entered next, and the global interrupt flag of L1. The CPU's own GIF
 * is 0 in Umbra and 1 in every guest, so that what L1's GIF = 0 holds back is held back by other means.
 * Source: APM vol. 2 15.17, 15.21.1.
 */
#include "arch/cpu.h"
#include "svm/controls.h"
#include "svm/event.h"
#include "svm/svm.h"

enum { INTERCEPT_WORD_NMI = VMEXIT_NMI / 32 };
#define INTERCEPT_NMI (1u << VMEXIT_NMI % 32)

static void set_next(struct svm_vcpu *svm, const char *head)
{
    svm->frame->next = (uintptr_t)head;
}

void svm_switch_to_l2(struct svm_vcpu *svm, struct vmcb *vmcb, hpa_t address, bool interrupts)
{
    svm->vmcb = vmcb;
    svm->exceptions = vmcb->control.intercept[VMCB_INTERCEPT_EXCEPTIONS];
    svm->frame->l2_vmcb = address.raw;
    svm->frame->l2_interrupts = interrupts;
    /* Two guests may have the same RIP and CR3. */
    svm->last.cs_attributes = SVM_LAST_NONE;
    svm->vcpu->l2_running = true;
    set_next(svm, svm_enter_l2);
}

void svm_switch_to_l1(struct svm_vcpu *svm)
{
    svm->vmcb = svm->vmcb01;
    svm->exceptions = svm->vmcb01->control.intercept[VMCB_INTERCEPT_EXCEPTIONS];
    svm->host = NULL;
    svm->last.cs_attributes = SVM_LAST_NONE;
    svm->vcpu->l2_running = false;
    set_next(svm, svm_enter_guest);
}

void svm_set_l1_svme(struct svm_vcpu *svm, bool set)
{
    svm->l1_svme = set;
    svm->exceptions = set ? 0 : svm_controls_exceptions();
    svm->vmcb01->control.intercept[VMCB_INTERCEPT_EXCEPTIONS] = svm->exceptions;
    svm_changed(svm, CLEAN_INTERCEPTS);
    /* What follows a cleared SVME with GIF = 0 is undefined; the machine goes on. */
    if (!set)
        svm_set_gif(svm, true);
}

/* With V_INTR_MASKING, MOV to and from CR8 means V_TPR and no longer the APIC's. */
static void clear_gif(struct vmcb_control *control)
{
    control->v_intr = (control->v_intr & ~V_TPR) | V_INTR_MASKING | read_cr8();
    control->intercept[INTERCEPT_WORD_NMI] |= INTERCEPT_NMI;
}

static void set_gif(struct vmcb_control *control)
{
    write_cr8(control->v_intr & BITS(3, 0)); /* the half of V_TPR that CR8 shows */
    control->v_intr &= ~(V_INTR_MASKING | V_TPR);
    control->intercept[INTERCEPT_WORD_NMI] &= ~INTERCEPT_NMI;
}

void svm_set_gif(struct svm_vcpu *svm, bool set)
{
    struct vmcb_control *control = &svm->vmcb01->control;

    if (set == !svm->gif_clear)
        return;
    svm->gif_clear = !set;
    svm_changed(svm, CLEAN_INTERCEPTS | CLEAN_TPR);
    if (!set) {
        clear_gif(control);
        return;
    }
    set_gif(control);
    if (svm->init_pending) {
        svm_guest_init(svm);
    } else if (svm->vcpu->nmi_pending && (control->event_inj & EVENT_VALID) == 0) {
        svm->vcpu->nmi_pending = false;
        svm_event_nmi(svm);
    }
}
