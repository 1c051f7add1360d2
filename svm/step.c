/* SPDX-License-Identifier: MIT */
/*
 * One guest instruction at a time; see svm/step.h. Source: APM vol. 2 13.1 (debug registers), 15.12, 15.21.1.
 */
#include "svm/step.h"

#include "arch/cpu.h"
#include "arch/msr.h"
#include "arch/x86.h"
#include "svm/capability.h"
#include "svm/controls.h"
#include "svm/event.h"
#include "svm/nmi.h"
#include "svm/startup.h"

#define DEBUGCTL_BTF BIT(1)

/* DR6, APM vol. 2 13.1.1.3 */
#define DR6_BREAKPOINTS BITS(3, 0)
#define DR6_BD          BIT(13)
#define DR6_BS          BIT(14)
#define DR6_BT          BIT(15)
#define DR6_NONE        0xffff0ff0ull

enum { INTERCEPT_WORD_NMI = VMEXIT_NMI / 32 };
#define INTERCEPT_NMI (1u << VMEXIT_NMI % 32)

/* RFLAGS bits that a step changes and gives back. */
#define STEP_RFLAGS (RFLAGS_TF | RFLAGS_RF)
/* Likewise of V_INTR: a virtual event would come in the interrupt shadow that is taken away. */
#define STEP_V_INTR (V_INTR_MASKING | V_IRQ | V_NMI)

/* With LBR virtualization VMRUN switches DebugCtl; else the guest's value is live. Not every emulated CPU has
 * it. */
static u64 debugctl_read(const struct svm_vcpu *svm)
{
    u64 value = 0;

    if (svm_features.lbr_virtualization)
        return svm->vmcb->save.dbgctl;
    (void)rdmsr_safe(MSR_IA32_DEBUGCTL, &value);
    return value;
}

static void debugctl_write(struct svm_vcpu *svm, u64 value)
{
    if (svm_features.lbr_virtualization) {
        svm->vmcb->save.dbgctl = value;
        svm_changed(svm, CLEAN_LBR);
    } else {
        (void)wrmsr_safe(MSR_IA32_DEBUGCTL, value);
    }
}

void svm_step_begin(struct svm_vcpu *svm)
{
    struct vmcb *vmcb = svm->vmcb;
    struct svm_step *step = &svm->step;
    u64 debugctl;

    if ((svm->unusual & SVM_STEPPING) != 0)
        return;
    svm->unusual |= SVM_STEPPING;
    debugctl = debugctl_read(svm);
    *step = (struct svm_step){
        .guest_btf = (debugctl & DEBUGCTL_BTF) != 0,
        .rip = vmcb->save.rip,
        .rflags = vmcb->save.rflags,
        .dr6 = vmcb->save.dr6,
        .interrupt_state = vmcb->control.interrupt_state,
        .v_intr = vmcb->control.v_intr & STEP_V_INTR,
        .loads_flags = svm_nmi_at_iret(svm),
        .nmi_intercept = vmcb->control.intercept[INTERCEPT_WORD_NMI] & INTERCEPT_NMI,
    };
    if (step->guest_btf)
        debugctl_write(svm, debugctl & ~DEBUGCTL_BTF);
    /* RF: an instruction breakpoint on it was taken before, when the instruction began. */
    vmcb->save.rflags |= STEP_RFLAGS;
    vmcb->save.dr6 = DR6_NONE;
    /* Interrupts obey Umbra's IF, which is 0, and not the guest's: stronger than an interrupt shadow, and no
     * #DB is held back. */
    vmcb->control.interrupt_state &= ~INTERRUPT_SHADOW;
    vmcb->control.v_intr = (vmcb->control.v_intr & ~STEP_V_INTR) | V_INTR_MASKING;
    vmcb->control.intercept[VMCB_INTERCEPT_EXCEPTIONS] = svm_controls_step_exceptions();
    vmcb->control.intercept[INTERCEPT_WORD_NMI] |= INTERCEPT_NMI;
    svm_changed(svm, CLEAN_INTERCEPTS | CLEAN_TPR | CLEAN_DRX);
}

/* Gives back everything but RFLAGS and the interrupt shadow, which depend on how the step ended. */
static void step_end(struct svm_vcpu *svm)
{
    struct vmcb *vmcb = svm->vmcb;

    svm->unusual &= ~(u32)SVM_STEPPING;
    if (svm->step.guest_btf)
        debugctl_write(svm, debugctl_read(svm) | DEBUGCTL_BTF);
    vmcb->save.dr6 = svm->step.dr6;
    vmcb->control.v_intr = (vmcb->control.v_intr & ~STEP_V_INTR) | svm->step.v_intr;
    vmcb->control.intercept[VMCB_INTERCEPT_EXCEPTIONS] = svm->exceptions;
    vmcb->control.intercept[INTERCEPT_WORD_NMI] =
        (vmcb->control.intercept[INTERCEPT_WORD_NMI] & ~INTERCEPT_NMI) | svm->step.nmi_intercept;
    svm_changed(svm, CLEAN_INTERCEPTS | CLEAN_TPR | CLEAN_DRX);
    violation_step_done(svm->vcpu);
    svm_startup_step_done(svm);
}

void svm_step_cancel(struct svm_vcpu *svm)
{
    if ((svm->unusual & SVM_STEPPING) == 0)
        return;
    step_end(svm);
    svm->vmcb->save.rflags = (svm->vmcb->save.rflags & ~STEP_RFLAGS) | (svm->step.rflags & STEP_RFLAGS);
    svm->vmcb->control.interrupt_state |= svm->step.interrupt_state & INTERRUPT_SHADOW;
}

/* Those of DR0 to DR3 that matched and that the guest's DR7 enables, locally or globally. */
static u64 enabled_breakpoints(u64 matched, u64 dr7)
{
    u64 enabled = 0;

    for (unsigned i = 0; i < 4; i++) {
        if ((matched & BIT(i)) != 0 && (dr7 >> 2 * i & 3) != 0)
            enabled |= BIT(i);
    }
    return enabled;
}

/* With BTF the guest asked for a trap after branches only: those do not end within an instruction's length.
 */
static bool guest_wants_single_step(const struct svm_vcpu *svm)
{
    u64 advance = svm->vmcb->save.rip - svm->step.rip;

    if ((svm->step.rflags & RFLAGS_TF) == 0)
        return false;
    return !svm->step.guest_btf || advance == 0 || advance > INSTRUCTION_MAX_BYTES;
}

static void step_debug_exception(struct svm_vcpu *svm)
{
    struct vmcb *vmcb = svm->vmcb;
    u64 dr6 = vmcb->save.dr6;

    if ((dr6 & DR6_BS) == 0) {
        /* Raised before the instruction: the guest's own, and none of Umbra's doing. */
        svm_step_cancel(svm);
        vmcb->save.dr6 |= dr6 & (DR6_BREAKPOINTS | DR6_BD | DR6_BT);
        svm_event_raise(svm, EXC_DB, 0);
        return;
    }
    step_end(svm);
    /* IRET has loaded its own. */
    if (!svm->step.loads_flags)
        vmcb->save.rflags = (vmcb->save.rflags & ~RFLAGS_TF) | (svm->step.rflags & RFLAGS_TF);

    u64 reasons = enabled_breakpoints(dr6 & DR6_BREAKPOINTS, vmcb->save.dr7);
    if (guest_wants_single_step(svm))
        reasons |= DR6_BS;
    if (reasons != 0) {
        vmcb->save.dr6 |= reasons | (dr6 & DR6_BREAKPOINTS);
        svm_event_debug_trap(svm);
    }
    /* Whether L2 or L1 is to have an NMI, nested/ knows. */
    if (!svm->vcpu->l2_running)
        (void)svm_nmi_deliver(svm);
}

void svm_step_exception(struct svm_vcpu *svm, unsigned vector)
{
    if (vector == EXC_DB) {
        step_debug_exception(svm);
        return;
    }
    svm_step_cancel(svm);
    if (vector == EXC_NMI || vector == EXC_BP || vector == EXC_OF)
        return;
    if (vector == EXC_PF)
        svm_event_set_cr2(svm, svm->vmcb->control.exit_info_2);
    svm_event_raise(svm, vector, (u32)svm->vmcb->control.exit_info_1);
}

void svm_step_emulated(struct svm_vcpu *svm)
{
    /* None of the instructions that Umbra executes is a branch. */
    if ((debugctl_read(svm) & DEBUGCTL_BTF) != 0)
        return;
    svm->vmcb->save.dr6 |= DR6_BS;
    svm_changed(svm, CLEAN_DRX);
    svm_event_debug_trap(svm);
}
