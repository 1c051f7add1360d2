/* SPDX-License-Identifier: MIT */
#include "svm/nmi.h"

#include "drivers/local-apic.h"
#include "svm/event.h"
#include "vcpu/shootdown.h"

enum { INTERCEPT_WORD_IRET = VMEXIT_IRET / 32 };
#define INTERCEPT_IRET (1u << VMEXIT_IRET % 32)

void svm_nmi_hook(struct vcpu *vcpu)
{
    if (!shootdown_nmi(vcpu))
        vcpu->nmi_pending = true;
}

static void intercept_iret(struct svm_vcpu *svm, bool on)
{
    u32 *word = &svm->vmcb->control.intercept[INTERCEPT_WORD_IRET];

    *word = (*word & ~INTERCEPT_IRET) | (on ? INTERCEPT_IRET : 0);
    svm_changed(svm, CLEAN_INTERCEPTS);
}

bool svm_nmi_at_iret(const struct svm_vcpu *svm)
{
    return svm->iret_begun && svm->vmcb->save.rip == svm->iret_rip;
}

static void inject(struct svm_vcpu *svm)
{
    svm->vcpu->nmi_pending = false;
    svm_event_nmi(svm);
    /* Where the CPU exits for an NMI it would have taken one: a shadow of STI holds interrupts only. */
    svm->vmcb->control.interrupt_state &= ~INTERRUPT_SHADOW;
    if (svm_nmi_intercepted()) {
        svm->nmi_blocked = true;
        svm->iret_begun = false;
        intercept_iret(svm, true);
    }
}

enum exit_action svm_nmi_deliver(struct svm_vcpu *svm)
{
    const struct vmcb_control *control = &svm->vmcb->control;

    if (!svm_nmi_is_due(svm) || svm_gif_is_clear(svm))
        return EXIT_RESUME;
    if (svm->nmi_blocked && svm_nmi_at_iret(svm))
        return EXIT_STEP;
    svm->nmi_blocked = false;
    if ((control->event_inj & EVENT_VALID) == 0)
        inject(svm);
    else if (svm_nmi_intercepted())
        /* An NMI of this CPU to itself merges with the one that waits, and exits as soon as it could come. */
        local_apic_send(svm->vcpu->apic_id, APIC_SEND_NMI);
    return EXIT_RESUME;
}

void svm_nmi_follow(struct svm_vcpu *svm)
{
    /* An L2 with virtual NMIs unblocks those by its IRET, and no others. */
    if (!svm->iret_begun && (svm->vmcb->control.v_intr & V_NMI_ENABLE) == 0)
        intercept_iret(svm, true);
}

enum exit_action svm_nmi_iret(struct svm_vcpu *svm)
{
    intercept_iret(svm, false);
    svm->iret_begun = true;
    svm->iret_rip = svm->vmcb->save.rip;
    return svm_nmi_deliver(svm);
}

void svm_nmi_reset(struct svm_vcpu *svm)
{
    if (svm->nmi_blocked && !svm->iret_begun)
        intercept_iret(svm, false);
    svm->nmi_blocked = svm->iret_begun = false;
}
