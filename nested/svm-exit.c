/* SPDX-License-Identifier: MIT */
/*
 * Exits of L2, and what L1 sees of them. Source: APM vol. 2 15.6, 15.7.
 */
#include "arch/print.h"
#include "mm/guest-mem.h"
#include "nested/svm-nested.h"
#include "nested/svm-verdict.h"
#include "svm/capability.h"
#include "svm/event.h"
#include "svm/exit-name.h"
#include "svm/instruction.h"
#include "svm/step.h"

#define DR7_DISABLED 0x400ull

/* --- VMEXIT --- */

/* Into vmcb12: `bytes` of `copy` from `offset` on. It was L1's RAM at VMRUN, and that does not change. */
static void write_back(const struct nested_svm *nested, const struct vmcb *copy, size_t offset, size_t bytes)
{
    (void)guest_write(gpa(nested->vmcb12_address + offset), (const u8 *)copy + offset, bytes);
}

#define WRITE_BACK(nested, copy, first, after)                                                               \
    write_back(nested, copy, offsetof(struct vmcb, first),                                                   \
               offsetof(struct vmcb, after) - offsetof(struct vmcb, first))

static void write_back_state(const struct nested_svm *nested)
{
    const struct vmcb *vmcb02 = nested->vmcb02;

    WRITE_BACK(nested, vmcb02, save.es, save.fs);
    WRITE_BACK(nested, vmcb02, save.gdtr, save.ldtr);
    WRITE_BACK(nested, vmcb02, save.idtr, save.tr);
    WRITE_BACK(nested, vmcb02, save.cpl, save.reserved_0cc);
    WRITE_BACK(nested, vmcb02, save.efer, save.reserved_0d8);
    WRITE_BACK(nested, vmcb02, save.cr4, save.reserved_180);
    WRITE_BACK(nested, vmcb02, save.rsp, save.star);
    WRITE_BACK(nested, vmcb02, save.cr2, save.reserved_248);
    if (nested_svm_has_np(nested))
        WRITE_BACK(nested, vmcb02, save.g_pat, save.dbgctl);
}

static void write_back_control(struct nested_svm *nested)
{
    WRITE_BACK(nested, &nested->vmcb12, control.v_intr, control.nested_control);
    WRITE_BACK(nested, &nested->vmcb12, control.event_inj, control.n_cr3);
    WRITE_BACK(nested, &nested->vmcb12, control.n_rip, control.reserved_0e0);
    shadow_wrote(nested->shadow, gpa(nested->vmcb12_address), PAGE_SIZE);
}

/* V_TPR, V_IRQ and V_GIF are the CPU's to change while the guest runs. */
#define V_INTR_WRITTEN (V_TPR | V_IRQ | V_GIF)

static void collect_control(struct nested_svm *nested)
{
    const struct vmcb_control *control02 = &nested->vmcb02->control;
    struct vmcb_control *control12 = &nested->vmcb12.control;

    control12->v_intr = (control12->v_intr & ~V_INTR_WRITTEN) | (control02->v_intr & V_INTR_WRITTEN);
    control12->interrupt_state = control02->interrupt_state;
    control12->exit_int_info = svm_event_in_flight(control02->exit_int_info);
    control12->event_inj = 0;
    if (svm_features.nrip_save)
        control12->n_rip = control02->n_rip;
    control12->bytes_fetched = control02->bytes_fetched;
    for (unsigned i = 0; i < sizeof(control12->instruction_bytes); i++)
        control12->instruction_bytes[i] = control02->instruction_bytes[i];
}

/* What VMEXIT changes in the host, and what the guest leaves behind in registers that VMEXIT does not load.
 */
static void back_to_l1(struct vcpu *vcpu)
{
    struct svm_vcpu *svm = svm_of(vcpu);
    struct vmcb *vmcb01 = svm->vmcb01;

    svm_switch_to_l1(svm);
    vmcb01->save.dr7 = DR7_DISABLED;
    vcpu->gpr[GPR_RAX] = vmcb01->save.rax;
    svm_set_gif(svm, false);
}

static void leave_behind(const struct nested_svm *nested, struct vmcb_save *l1)
{
    const struct vmcb_save *l2 = &nested->vmcb02->save;

    l1->dr6 = l2->dr6;
    l1->cr2 = l2->cr2;
    if (!nested_svm_has_np(nested))
        l1->g_pat = l2->g_pat;
    if (!svm_features.lbr_virtualization)
        return;
    l1->dbgctl = l2->dbgctl;
    l1->br_from = l2->br_from;
    l1->br_to = l2->br_to;
    l1->last_excp_from = l2->last_excp_from;
    l1->last_excp_to = l2->last_excp_to;
}

void nested_svm_reflect(struct vcpu *vcpu, u64 code, u64 info_1, u64 info_2)
{
    struct nested_svm *nested = nested_svm_of(vcpu);
    struct svm_vcpu *svm = svm_of(vcpu);

    nested->vmcb02->save.rax = vcpu->gpr[GPR_RAX];
    collect_control(nested);
    nested->vmcb12.control.exit_code = code;
    nested->vmcb12.control.exit_info_1 = info_1;
    nested->vmcb12.control.exit_info_2 = info_2;
    write_back_state(nested);
    write_back_control(nested);
    leave_behind(nested, &svm->vmcb01->save);
    back_to_l1(vcpu);
    svm_changed(svm, CLEAN_TPR | CLEAN_CRX | CLEAN_DRX | CLEAN_CR2 | CLEAN_LBR | CLEAN_NP);
}

void nested_svm_refuse(struct vcpu *vcpu)
{
    struct nested_svm *nested = nested_svm_of(vcpu);

    nested->vmcb12.control.exit_code = VMEXIT_INVALID;
    nested->vmcb12.control.exit_info_1 = nested->vmcb12.control.exit_info_2 = 0;
    nested->vmcb12.control.exit_int_info = 0;
    nested->vmcb12.control.event_inj = 0;
    write_back_control(nested);
    back_to_l1(vcpu);
    svm_changed(svm_of(vcpu), CLEAN_DRX);
}

/* --- staying in L2 --- */

/*
 * The delivery that the exit interrupted goes on. What L1 injected is injected as L1 said it: an INT n has no
 * instruction at RIP then.
 */
static u64 event_to_finish(const struct nested_svm *nested, u64 in_flight)
{
    if ((in_flight & EVENT_VALID) == 0)
        return 0;
    if ((nested->injected.event & EVENT_VALID) != 0 &&
        ((nested->injected.event ^ in_flight) & EVENT_VECTOR_MASK) == 0)
        return nested->injected.event;
    return svm_event_reinjection(in_flight);
}

static void finish_delivery(struct nested_svm *nested)
{
    struct vmcb_control *control = &nested->vmcb02->control;

    control->event_inj = event_to_finish(nested, control->exit_int_info);
    if (control->event_inj == 0)
        nested->injected.event = 0;
    else
        control->n_rip = nested->injected.next_rip;
}

/* An exception that only Umbra's step asked for is L2's own; so is an NMI, which comes again. */
static enum exit_action after_step(struct svm_vcpu *svm, u64 code)
{
    const struct vmcb_control *control = &svm->vmcb->control;

    if (code == VMEXIT_NMI)
        return EXIT_RESUME;
    unsigned vector = (unsigned)(code - VMEXIT_EXCP0);
    if (vector == EXC_BP || vector == EXC_OF)
        return EXIT_RESUME;
    if (vector == EXC_PF)
        svm_event_set_cr2(svm, control->exit_info_2);
    svm_event_raise(svm, vector, (u32)control->exit_info_1);
    return EXIT_RESUME;
}

/* L1 is reset with it, and knows no L2 any more. */
static enum exit_action init(struct vcpu *vcpu)
{
    svm_switch_to_l1(svm_of(vcpu));
    vcpu->gpr[GPR_RAX] = svm_of(vcpu)->vmcb01->save.rax;
    return svm_handle(svm_of(vcpu), VMEXIT_INIT);
}

/*
 * QEMU's TCG says VMEXIT_INVALID also when a guest sets a reserved bit of CR3 or CR4, which is #GP(0). All
 * else is a check that only the CPU makes.
 */
static enum exit_action invalid(struct vcpu *vcpu)
{
    struct svm_vcpu *svm = svm_of(vcpu);
    struct instruction decoded;

    if ((svm->vmcb->control.exit_int_info & EVENT_VALID) == 0 && svm_fetch_instruction(svm, &decoded) &&
        svm_instruction_moves_to_paging_cr(&decoded))
        return EXIT_GP;
    nested_svm_refuse(vcpu);
    return EXIT_RESUME;
}

static bool msr_intercepted(const struct nested_svm *nested, const struct vcpu *vcpu)
{
    return nested->l1_msr_map == NULL || svm_msr_intercepted(nested->l1_msr_map, (u32)vcpu->gpr[GPR_RCX],
                                                             nested->vmcb02->control.exit_info_1 != 0);
}

static enum exit_action handle(struct vcpu *vcpu, u32 index)
{
    struct nested_svm *nested = nested_svm_of(vcpu);
    struct svm_vcpu *svm = svm_of(vcpu);
    const struct vmcb_control *control = &nested->vmcb02->control;
    u64 code = control->exit_code;

    switch (svm_verdict(&nested->vmcb12.control, code, code == VMEXIT_MSR && msr_intercepted(nested, vcpu))) {
    case SVM_VERDICT_L1:
        nested_svm_reflect(vcpu, code, control->exit_info_1, control->exit_info_2);
        return EXIT_RESUME;
    case SVM_VERDICT_UMBRA:
        return svm_handle(svm, index);
    case SVM_VERDICT_INSTRUCTION:
        return nested_svm_instruction(vcpu, (u32)code);
    case SVM_VERDICT_UNDEFINED:
        return EXIT_UD;
    case SVM_VERDICT_NPF:
        return nested_svm_npf(vcpu);
    case SVM_VERDICT_INIT:
        return init(vcpu);
    case SVM_VERDICT_STEP:
        return after_step(svm, code);
    case SVM_VERDICT_INVALID:
        return invalid(vcpu);
    case SVM_VERDICT_UNEXPECTED:
    default:
        fatal("exit %s (%lx) of a guest of the guest, which nobody asked for", svm_exit_name(index), code);
    }
}

/* True: the exit was the end of Umbra's own single step, and nothing is left of it. */
static bool end_step(struct svm_vcpu *svm, u32 index)
{
    if ((svm->unusual & SVM_STEPPING) == 0)
        return false;
    if (index == VMEXIT_EXCP0 + EXC_DB) {
        svm_step_exception(svm, EXC_DB);
        return true;
    }
    if (index != SVM_EXIT_NPF || (svm->vmcb->control.exit_int_info & EVENT_VALID) != 0)
        svm_step_cancel(svm);
    return false;
}

/* An exception that Umbra finds in an instruction of L2's is L1's if L1 asked for exceptions of that kind. */
static enum exit_action raise(struct vcpu *vcpu, enum exit_action action)
{
    unsigned vector = action == EXIT_UD ? EXC_UD : EXC_GP;

    if ((action != EXIT_UD && action != EXIT_GP) ||
        !svm_intercepts_code(&nested_svm_of(vcpu)->vmcb12.control, VMEXIT_EXCP0 + vector))
        return action;
    svm_step_cancel(svm_of(vcpu));
    nested_svm_reflect(vcpu, VMEXIT_EXCP0 + vector, 0, 0);
    return EXIT_RESUME;
}

enum exit_action nested_svm_l2_exit(struct vcpu *vcpu, u32 index)
{
    struct nested_svm *nested = nested_svm_of(vcpu);
    struct svm_vcpu *svm = svm_of(vcpu);
    enum exit_action action = EXIT_RESUME;

    if ((svm->unusual & SVM_WATCHING) != 0)
        svm_event_delivery_over(svm);
    finish_delivery(nested);
    if (!end_step(svm, index))
        action = raise(vcpu, handle(vcpu, index));
    if (vcpu->l2_running) {
        nested_svm_translate(vcpu);
        svm->frame->l2_interrupts =
            nested->interrupts && action != EXIT_STEP && (svm->unusual & SVM_STEPPING) == 0;
    }
    return action;
}
