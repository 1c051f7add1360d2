/* SPDX-License-Identifier: MIT */
/*
 * Exits of L2, and what L1 sees of them. Source: APM vol. 2 15.6, 15.7.
 */
#include "arch/print.h"
#include "nested/svm-nested.h"
#include "nested/svm-verdict.h"
#include "svm/capability.h"
#include "svm/event.h"
#include "svm/exit-name.h"
#include "svm/instruction.h"
#include "svm/nmi.h"
#include "svm/step.h"

#define DR7_DISABLED 0x400ull

/* --- VMEXIT --- */

/* Nothing of this is read before the next VMRUN, when it counts only as far as L1 says. */
static void write_back_state(struct vmcb_save *to, const struct vmcb_save *from, bool np)
{
    to->es = from->es;
    to->cs = from->cs;
    to->ss = from->ss;
    to->ds = from->ds;
    to->gdtr = from->gdtr;
    to->idtr = from->idtr;
    to->cpl = from->cpl;
    to->efer = from->efer;
    to->cr4 = from->cr4;
    to->cr3 = from->cr3;
    to->cr0 = from->cr0;
    to->dr7 = from->dr7;
    to->dr6 = from->dr6;
    to->rflags = from->rflags;
    to->rip = from->rip;
    to->rsp = from->rsp;
    to->s_cet = from->s_cet;
    to->ssp = from->ssp;
    to->isst_addr = from->isst_addr;
    to->rax = from->rax;
    to->cr2 = from->cr2;
    if (np)
        to->g_pat = from->g_pat;
}

/* The CPU's to change while the guest runs. */
#define V_INTR_WRITTEN (V_TPR | V_IRQ | V_GIF | V_NMI | V_NMI_MASK)

static inline void write_back_control(const struct nested_svm *nested, struct svm_slot *slot)
{
    const struct vmcb_control *from = &slot->vmcb02->control;
    struct vmcb_control *to = &slot->vmcb12->control;
    u64 written = nested->v_intr_for_l2 & V_INTR_WRITTEN;

    to->v_intr = (slot->control.v_intr & ~written) | (from->v_intr & written);
    to->interrupt_state = from->interrupt_state;
    to->exit_int_info =
        (from->exit_int_info & EVENT_VALID) != 0 ? svm_event_in_flight(from->exit_int_info) : 0;
    to->event_inj = 0;
    if (svm_features.nrip_save)
        to->n_rip = from->n_rip;
    if (svm_features.decode_assists) {
        to->bytes_fetched = from->bytes_fetched;
        for (unsigned i = 0; i < sizeof(to->instruction_bytes); i++)
            to->instruction_bytes[i] = from->instruction_bytes[i];
    }
}

/* What VMEXIT changes in the host. */
static inline void back_to_l1(struct svm_vcpu *svm)
{
    svm_switch_to_l1(svm);
    svm->vmcb01->save.dr7 = DR7_DISABLED;
    svm_hold_events(svm);
}

/* What the guest leaves behind in registers that VMEXIT does not load; and those that L1 may have it load. */
static inline void leave_behind(const struct svm_slot *slot, bool np, struct vmcb *vmcb01)
{
    const struct vmcb_save *l2 = &slot->vmcb02->save;
    struct vmcb_save *l1 = &vmcb01->save;

    vmcb01->control.clean &= ~(u32)(CLEAN_DRX | CLEAN_CR2);
    l1->dr6 = l2->dr6;
    l1->cr2 = l2->cr2;
    l1->spec_ctrl = l2->spec_ctrl;
    if (!np) {
        l1->g_pat = l2->g_pat;
        vmcb01->control.clean &= ~(u32)CLEAN_NP;
    }
    if (!svm_features.lbr_virtualization)
        return;
    if ((slot->control.lbr_control & LBR_VIRTUALIZATION_ENABLE) != 0) {
        svm_copy_lbr(&slot->vmcb12->save, l2);
        return;
    }
    vmcb01->control.clean &= ~(u32)CLEAN_LBR;
    svm_copy_lbr(l1, l2);
}

static inline void reflect(struct vcpu *vcpu, u64 code, u64 info_1, u64 info_2)
{
    struct nested_svm *nested = nested_svm_of(vcpu);
    struct svm_vcpu *svm = svm_of(vcpu);
    struct svm_slot *slot = nested->slot;
    struct vmcb_control *control12 = &slot->vmcb12->control;
    bool np = nested_svm_has_np(nested);

    control12->exit_code = code;
    control12->exit_info_1 = info_1;
    control12->exit_info_2 = info_2;
    write_back_control(nested, slot);
    write_back_state(&slot->vmcb12->save, &slot->vmcb02->save, np);
    slot->loaded = true;
    leave_behind(slot, np, svm->vmcb01);
    back_to_l1(svm);
}

void nested_svm_reflect(struct vcpu *vcpu, u64 code, u64 info_1, u64 info_2)
{
    struct vmcb *vmcb02 = nested_svm_of(vcpu)->slot->vmcb02;

    svm_of(vcpu)->unusual &= ~(u32)SVM_L2_GUESSED;
    /* nRIP and the bytes are those of the instruction that the CPU intercepted: 15.7.1. */
    if (code != vmcb02->control.exit_code) {
        vmcb02->control.n_rip = 0;
        vmcb02->control.bytes_fetched = 0;
    }
    /* A nested page fault may come in the middle of a step. */
    svm_step_cancel(svm_of(vcpu));
    vmcb02->save.rax = vcpu->gpr[GPR_RAX];
    nested_svm_set_l2_gif(svm_of(vcpu));
    reflect(vcpu, code, info_1, info_2);
    vcpu->gpr[GPR_RAX] = svm_of(vcpu)->vmcb01->save.rax;
}

/* Whether a VMRUN that fails flushes what TLB_CONTROL says is not written anywhere: all is flushed before the
 * next, also what the CPU was told to flush by one that it refused. */
void nested_svm_refuse(struct vcpu *vcpu)
{
    struct nested_svm *nested = nested_svm_of(vcpu);
    struct vmcb_control *control12 = &nested->slot->vmcb12->control;

    control12->exit_code = VMEXIT_INVALID;
    control12->exit_info_1 = control12->exit_info_2 = 0;
    control12->exit_int_info = 0;
    control12->event_inj = 0;
    svm_release_tpr(svm_of(vcpu));
    back_to_l1(svm_of(vcpu));
    vcpu->gpr[GPR_RAX] = svm_of(vcpu)->vmcb01->save.rax;
    svm_of(vcpu)->vmcb01->control.clean &= ~(u32)CLEAN_DRX;
    svm_of(vcpu)->vmcb01->control.tlb_control = TLB_CONTROL_FLUSH_ALL;
    nested_svm_obey_tlb_control(nested, TLB_CONTROL_FLUSH_ALL);
}

/* --- staying in L2 --- */

/* Is the interrupted delivery that of what L1 injected, and not of the same vector by L2 itself, later on? L2
 * is where it was at VMRUN then. */
static bool is_injected(const struct nested_svm *nested, u64 in_flight)
{
    return nested->injected.rip == nested->slot->vmcb02->save.rip &&
           ((nested->injected.event ^ in_flight) & (EVENT_VALID | EVENT_TYPE_MASK | EVENT_VECTOR_MASK)) == 0;
}

/* The delivery that the exit interrupted goes on. An INT n of L2's is executed again; one that L1 injected
 * has no instruction at RIP. */
static void finish_delivery(struct nested_svm *nested)
{
    struct vmcb_control *control = &nested->slot->vmcb02->control;
    u64 in_flight = svm_event_in_flight(control->exit_int_info);
    u64 again = svm_event_reinjection(in_flight);

    if (!is_injected(nested, in_flight))
        nested->injected.event = 0;
    control->event_inj = again != 0 ? again : nested->injected.event;
    /* A virtual interrupt: QEMU's TCG takes V_IRQ away after the delivery only, which injection finishes now.
     */
    if (control->event_inj == (EVENT_VALID | EVENT_TYPE_INTR | (control->v_intr & V_INTR_VECTOR) >> 32) &&
        nested->injected.event == 0)
        control->v_intr &= ~V_IRQ;
}

/* What two exceptions come to is L1's, too, if it asked for that. */
static bool reflect_combined(struct vcpu *vcpu, unsigned vector)
{
    const struct svm_slot *slot = nested_svm_of(vcpu)->slot;
    enum svm_delivery delivery = svm_event_combine(slot->vmcb02->control.exit_int_info, vector);
    u64 code = delivery == SVM_DELIVER_SHUTDOWN ? VMEXIT_SHUTDOWN : VMEXIT_EXCP0 + EXC_DF;

    if (delivery == SVM_DELIVER_IT || !svm_intercepts_code(&slot->control, code))
        return false;
    nested_svm_reflect(vcpu, code, 0, 0);
    return true;
}

/* An exception that only Umbra's step asked for is L2's own; so is an NMI, which comes again. */
static enum exit_action after_step(struct vcpu *vcpu, u64 code)
{
    struct svm_vcpu *svm = svm_of(vcpu);
    const struct vmcb_control *control = &svm->vmcb->control;

    if (code == VMEXIT_NMI)
        return svm_nmi_intercepted() ? svm_nmi_deliver(svm) : EXIT_RESUME;
    unsigned vector = (unsigned)(code - VMEXIT_EXCP0);
    if (vector == EXC_BP || vector == EXC_OF)
        return EXIT_RESUME;
    if (vector == EXC_PF)
        svm_event_set_cr2(svm, control->exit_info_2);
    if (!reflect_combined(vcpu, vector))
        svm_event_raise(svm, vector, (u32)control->exit_info_1);
    return EXIT_RESUME;
}

/*
 * L1 does not ask for it: it is reset with L2, and knows none any more. With VM_CR.R_INIT it is an exception
 * of L2's, which L1 may have asked for. GIF is 1.
 */
static enum exit_action init(struct vcpu *vcpu)
{
    struct svm_vcpu *svm = svm_of(vcpu);

    if (svm->init_is_sx) {
        if (!svm->init_pending)
            svm_take_events(svm);
        if (!svm_intercepts_code(&nested_svm_of(vcpu)->slot->control, VMEXIT_EXCP0 + EXC_SX)) {
            svm_guest_init(svm);
            return svm_nmi_deliver(svm);
        }
        svm->init_pending = false;
        nested_svm_reflect(vcpu, VMEXIT_EXCP0 + EXC_SX, SX_INIT, 0);
        return EXIT_RESUME;
    }
    svm_switch_to_l1(svm);
    svm_set_gif(svm, true);
    vcpu->gpr[GPR_RAX] = svm->vmcb01->save.rax;
    return svm_handle(svm, VMEXIT_INIT);
}

/*
 * With the exit it stays pending, since that clears GIF, and what was to be injected is named for L1 to
 * inject it again. An NMI, or #SX, that L2 is to have after another event comes with a later VMRUN or STGI.
 */
bool nested_svm_take_held(struct vcpu *vcpu)
{
    const struct svm_slot *slot = nested_svm_of(vcpu)->slot;
    struct vmcb_control *control = &slot->vmcb02->control;
    u64 code = svm_of(vcpu)->init_pending ? VMEXIT_INIT : VMEXIT_NMI;

    if (svm_intercepts_code(&slot->control, code)) {
        control->exit_code = VMEXIT_INVALID; /* whichever it was: L2 has not run since */
        control->exit_int_info = control->event_inj;
        nested_svm_reflect(vcpu, code, 0, 0);
    } else if (code == VMEXIT_INIT && (!svm_of(vcpu)->init_is_sx || control->event_inj == 0)) {
        (void)init(vcpu);
    } else if (code == VMEXIT_NMI && control->event_inj == 0) {
        (void)svm_nmi_deliver(svm_of(vcpu));
    }
    return vcpu->l2_running;
}

/*
 * QEMU's TCG says VMEXIT_INVALID also when a guest sets a reserved bit of CR3 or CR4, which is #GP(0). All
 * else is a check that only the CPU makes; so it is if the #GP does not come either.
 */
static enum exit_action invalid(struct vcpu *vcpu, bool guessed)
{
    struct svm_vcpu *svm = svm_of(vcpu);
    struct instruction decoded;

    if (!guessed && (svm->vmcb->control.exit_int_info & EVENT_VALID) == 0 &&
        svm_fetch_instruction(svm, &decoded) && svm_instruction_moves_to_paging_cr(&decoded)) {
        svm->unusual |= SVM_L2_GUESSED;
        return EXIT_GP;
    }
    nested_svm_refuse(vcpu);
    return EXIT_RESUME;
}

static bool msr_intercepted(const struct svm_slot *slot, u32 msr, bool write)
{
    return slot->msr_map == NULL || svm_msr_intercepted(slot->msr_map, msr, write);
}

/* L1 leaves it to L2: it is L2's own from now on, or Umbra's to answer. */
static enum exit_action own_msr(struct vcpu *vcpu, bool write)
{
    struct nested_svm *nested = nested_svm_of(vcpu);

    if (nested->slot->msr_map != NULL &&
        svm_msr_learn(&nested->msr_merge, nested->slot->msr_map, (u32)vcpu->gpr[GPR_RCX], write))
        return EXIT_RESUME;
    return svm_handle(svm_of(vcpu), VMEXIT_MSR);
}

static enum exit_action handle(struct vcpu *vcpu, u32 index)
{
    struct nested_svm *nested = nested_svm_of(vcpu);
    struct svm_vcpu *svm = svm_of(vcpu);
    const struct vmcb_control *control = &svm->vmcb->control;
    u64 code = control->exit_code;
    bool write = control->exit_info_1 != 0;
    bool guessed = (svm->unusual & SVM_L2_GUESSED) != 0;
    bool msr = code == VMEXIT_MSR && msr_intercepted(nested->slot, (u32)vcpu->gpr[GPR_RCX], write);

    svm->unusual &= ~(u32)SVM_L2_GUESSED;
    /* Not every NMI is the guest's, and not each that is may come now. */
    if (code == VMEXIT_NMI && svm_nmi_intercepted()) {
        svm_take_events(svm);
        if (svm->init_pending && !svm_gif_is_clear(svm)) {
            (void)nested_svm_take_held(vcpu);
            return EXIT_RESUME;
        }
        if (!svm_nmi_is_due(svm) || svm_gif_is_clear(svm))
            return EXIT_RESUME;
    }
    /* It waits, whoever asked for it. */
    if ((code == VMEXIT_NMI || code == VMEXIT_INIT) && svm_gif_is_clear(svm))
        return svm_handle(svm, index);
    /* The firmware has it now, and L1 its exit at STGI. */
    if (code == VMEXIT_SMI && svm_gif_is_clear(svm)) {
        svm_take_events(svm);
        nested->gif.smi = true;
        return EXIT_RESUME;
    }
    switch (svm_verdict(&nested->slot->control, code, msr)) {
    case SVM_VERDICT_L1:
        nested_svm_reflect(vcpu, code, control->exit_info_1, control->exit_info_2);
        return EXIT_RESUME;
    case SVM_VERDICT_UMBRA:
        return code == VMEXIT_MSR ? own_msr(vcpu, write) : svm_handle(svm, index);
    case SVM_VERDICT_INSTRUCTION:
        return nested_svm_instruction(vcpu, (u32)code);
    case SVM_VERDICT_UNDEFINED:
        return EXIT_UD;
    case SVM_VERDICT_NPF:
        return nested_svm_npf(vcpu);
    case SVM_VERDICT_INIT:
        return init(vcpu);
    case SVM_VERDICT_STEP:
        return after_step(vcpu, code);
    case SVM_VERDICT_INVALID:
        return invalid(vcpu, guessed);
    case SVM_VERDICT_UNEXPECTED:
    default:
        fatal("exit %s (%lx) of a guest of the guest, which nobody asked for", svm_exit_name(index), code);
    }
}

/* An NMI that has waited for the end of the step. */
static void take_nmi(struct svm_vcpu *svm)
{
    if (!svm_nmi_is_due(svm) || svm_gif_is_clear(svm))
        return;
    if (svm_intercepts_code(&nested_svm_of(svm->vcpu)->slot->control, VMEXIT_NMI))
        (void)nested_svm_take_held(svm->vcpu);
    else
        (void)svm_nmi_deliver(svm);
}

/* The #DB that ends an instruction which Umbra has executed, or stepped over, is L1's if L1 asked for #DB;
 * one whose delivery goes on is not. */
static bool reflect_debug_trap(struct vcpu *vcpu)
{
    const struct svm_slot *slot = nested_svm_of(vcpu)->slot;
    const struct vmcb_control *control = &slot->vmcb02->control;

    if (control->event_inj != (EVENT_VALID | EVENT_TYPE_EXCEPTION | EXC_DB) ||
        (control->exit_int_info & EVENT_VALID) != 0 ||
        !svm_intercepts_code(&slot->control, VMEXIT_EXCP0 + EXC_DB))
        return false;
    nested_svm_reflect(vcpu, VMEXIT_EXCP0 + EXC_DB, 0, 0);
    return true;
}

/* True: the exit was the end of Umbra's own single step, and nothing is left of it. */
static bool end_step(struct svm_vcpu *svm, u32 index)
{
    if ((svm->unusual & SVM_STEPPING) == 0)
        return false;
    if (index == VMEXIT_EXCP0 + EXC_DB) {
        svm_step_exception(svm, EXC_DB);
        if (!reflect_debug_trap(svm->vcpu))
            take_nmi(svm);
        return true;
    }
    if (index != SVM_EXIT_NPF || (svm->vmcb->control.exit_int_info & EVENT_VALID) != 0)
        svm_step_cancel(svm);
    return false;
}

/* An IDT or a stack in memory that is not there: the end for L2, of which L1 hears if it wants to. */
static enum exit_action shut_down(struct vcpu *vcpu)
{
    violation_step_done(vcpu);
    if (!svm_intercepts_code(&nested_svm_of(vcpu)->slot->control, VMEXIT_SHUTDOWN))
        svm_guest_shutdown(svm_of(vcpu), "an event is delivered through memory that the guest does not have");
    nested_svm_reflect(vcpu, VMEXIT_SHUTDOWN, 0, 0);
    return EXIT_RESUME;
}

/* An exception that Umbra finds in an instruction of L2's is L1's if L1 asked for exceptions of that kind. */
static enum exit_action raise(struct vcpu *vcpu, enum exit_action action)
{
    unsigned vector = action == EXIT_UD ? EXC_UD : EXC_GP;

    if (!vcpu->l2_running)
        return action;
    if (action == EXIT_SKIP)
        svm_skip_to(svm_of(vcpu), svm_of(vcpu)->next_rip);
    if (action == EXIT_SKIP || action == EXIT_RESUME) {
        (void)reflect_debug_trap(vcpu);
        return EXIT_RESUME;
    }
    if (action == EXIT_STEP && svm_step_is_impossible(svm_of(vcpu)))
        return shut_down(vcpu);
    if ((action != EXIT_UD && action != EXIT_GP) ||
        !svm_intercepts_code(&nested_svm_of(vcpu)->slot->control, VMEXIT_EXCP0 + vector))
        return action;
    nested_svm_reflect(vcpu, VMEXIT_EXCP0 + vector, 0, 0);
    return EXIT_RESUME;
}

static void end_exit(struct vcpu *vcpu, enum exit_action action)
{
    struct svm_vcpu *svm = svm_of(vcpu);

    if (vcpu->l2_running) {
        svm->vmcb->control.n_rip = nested_svm_of(vcpu)->injected.next_rip;
        nested_svm_translate(vcpu);
        svm->frame->l2_interrupts = nested_svm_of(vcpu)->interrupts && action != EXIT_STEP &&
                                    (svm->unusual & (SVM_STEPPING | SVM_L2_GIF_CLEAR)) == 0;
    }
    svm_l2_exit_ends(svm, action);
}

static __attribute__((noinline)) void general_exit(struct vcpu *vcpu, u32 index)
{
    struct svm_vcpu *svm = svm_of(vcpu);
    enum exit_action action = EXIT_RESUME;

    if ((svm->unusual & SVM_WATCHING) != 0)
        svm_event_delivery_over(svm);
    finish_delivery(nested_svm_of(vcpu));
    if (!end_step(svm, index))
        action = raise(vcpu, handle(vcpu, index));
    end_exit(vcpu, action);
}

/* Most often the shadow has a new entry, and nothing else has changed. */
static __attribute__((noinline)) void npf_exit(struct vcpu *vcpu)
{
    struct nested_svm *nested = nested_svm_of(vcpu);
    enum exit_action action;

    nested->slot->vmcb02->control.event_inj = 0;
    nested->injected.event = 0;
    if (nested_svm_npf_filled(nested)) {
        if (machine.tdp.flush_pending)
            end_exit(vcpu, EXIT_RESUME);
        return;
    }
    action = nested_svm_npf(vcpu);
    if (action == EXIT_RESUME && vcpu->l2_running && !machine.tdp.flush_pending)
        nested_svm_translate(vcpu);
    else
        end_exit(vcpu, raise(vcpu, action));
}

/* What L1 asked for, at an ordinary moment, is the way of nearly all exits. */
void nested_svm_l2_exit(struct vcpu *vcpu, u32 index)
{
    const struct svm_slot *slot = nested_svm_of(vcpu)->slot;
    const struct vmcb_control *control = &slot->vmcb02->control;
    u64 code = control->exit_code;

    if (svm_of(vcpu)->unusual == 0 && (control->exit_int_info & EVENT_VALID) == 0) {
        /* An NMI need not be L1's. */
        if (code != VMEXIT_MSR && code != VMEXIT_NMI && svm_intercepts_code(&slot->control, code)) {
            reflect(vcpu, code, control->exit_info_1, control->exit_info_2);
            return;
        }
        if (code == VMEXIT_NPF) {
            npf_exit(vcpu);
            return;
        }
    }
    general_exit(vcpu, index);
}
