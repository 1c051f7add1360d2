/* SPDX-License-Identifier: MIT */
/*
 * The SVM instructions of L1 (and of an L2 to which L1 leaves them), each with the manual's checks in the
 * manual's order. Source: APM vol. 3 chapter 4, vol. 2 15.5 and 15.17.
 */
#include "nested/svm-nested.h"
#include "svm/event.h"
#include "svm/instruction.h"
#include "svm/nmi.h"

/* What VMLOAD and VMSAVE move, APM vol. 2 15.5.2: L1's, and L2's alike, is in vmcb01. */
static inline void move_switched(struct vmcb_save *to, const struct vmcb_save *from)
{
    to->fs = from->fs;
    to->gs = from->gs;
    to->ldtr = from->ldtr;
    to->tr = from->tr;
    to->star = from->star;
    to->lstar = from->lstar;
    to->cstar = from->cstar;
    to->sfmask = from->sfmask;
    to->kernel_gs_base = from->kernel_gs_base;
    to->sysenter_cs = from->sysenter_cs;
    to->sysenter_esp = from->sysenter_esp;
    to->sysenter_eip = from->sysenter_eip;
}

/*
 * --- the quick way: L1, CPL 0, 64-bit code, no prefix, a VMCB that was used just now ---
 * Each is a function that keeps nothing over a call, for which nothing has to be saved.
 */

static inline bool is_plain(const struct svm_vcpu *svm, enum svm_instruction which)
{
    return svm->vmcb->save.cpl == 0 && svm_l1_is_at_plain(svm, which);
}

/* NULL: not the quick way. */
static inline struct svm_slot *plain_operand(const struct vcpu *vcpu, enum svm_instruction which)
{
    const struct nested_svm *nested = nested_svm_of(vcpu);
    u64 address = vcpu->gpr[GPR_RAX];

    if (!is_plain(svm_of(vcpu), which))
        return NULL;
    if (nested->slot->address == address)
        return nested->slot;
    return nested->other->address == address ? nested->other : NULL;
}

static inline void skip_plain(struct svm_vcpu *svm)
{
    svm_skip_to(svm, svm->vmcb->save.rip + 3);
}

static void quick_vmload(struct vcpu *vcpu)
{
    const struct svm_slot *slot = plain_operand(vcpu, SVM_INSTRUCTION_VMLOAD);

    if (slot == NULL) {
        svm_exit_general(svm_of(vcpu), VMEXIT_VMLOAD);
        return;
    }
    move_switched(&svm_of(vcpu)->vmcb01->save, &slot->vmcb12->save);
    skip_plain(svm_of(vcpu));
}

static void quick_vmsave(struct vcpu *vcpu)
{
    const struct svm_slot *slot = plain_operand(vcpu, SVM_INSTRUCTION_VMSAVE);

    if (slot == NULL) {
        svm_exit_general(svm_of(vcpu), VMEXIT_VMSAVE);
        return;
    }
    move_switched(&slot->vmcb12->save, &svm_of(vcpu)->vmcb01->save);
    skip_plain(svm_of(vcpu));
}

static void quick_vmrun(struct vcpu *vcpu)
{
    struct svm_slot *slot = plain_operand(vcpu, SVM_INSTRUCTION_VMRUN);

    if (slot == NULL) {
        svm_exit_general(svm_of(vcpu), VMEXIT_VMRUN);
        return;
    }
    skip_plain(svm_of(vcpu));
    nested_svm_enter(vcpu, slot);
}

static void quick_stgi(struct vcpu *vcpu)
{
    struct svm_vcpu *svm = svm_of(vcpu);

    if (!is_plain(svm, SVM_INSTRUCTION_STGI)) {
        svm_exit_general(svm, VMEXIT_STGI);
        return;
    }
    skip_plain(svm);
    svm_set_gif(svm, true);
}

static void quick_clgi(struct vcpu *vcpu)
{
    struct svm_vcpu *svm = svm_of(vcpu);

    if (!is_plain(svm, SVM_INSTRUCTION_CLGI)) {
        svm_exit_general(svm, VMEXIT_CLGI);
        return;
    }
    if (!svm->events_held)
        svm_hold_events(svm);
    skip_plain(svm);
}

static void no_quick_way(struct vcpu *vcpu)
{
    svm_exit_general(svm_of(vcpu), VMEXIT_VMMCALL);
}

void (*const nested_svm_l1_exits[NESTED_SVM_L1_EXITS])(struct vcpu *vcpu) = {
    quick_vmrun, no_quick_way, quick_vmload, quick_vmsave, quick_stgi, quick_clgi,
};

/* --- any other --- */

/* Of the VMCB that rAX names. NULL: #GP, as for an address that is no memory a VMCB can be in. */
static struct svm_slot *operand(const struct svm_vcpu *svm)
{
    return nested_svm_slot(nested_svm_of(svm->vcpu), svm->vcpu->gpr[GPR_RAX] & svm->address_mask);
}

static enum exit_action stgi(struct svm_vcpu *svm)
{
    svm_skip_to(svm, svm->next_rip);
    if (!svm->vcpu->l2_running) {
        svm_set_gif(svm, true);
        return EXIT_RESUME;
    }
    bool smi = (svm->unusual & SVM_L2_GIF_CLEAR) != 0 && nested_svm_of(svm->vcpu)->gif.smi;
    nested_svm_set_l2_gif(svm);
    if (smi)
        nested_svm_reflect(svm->vcpu, VMEXIT_SMI, 0, 0);
    else if (svm_nmi_is_due(svm) || svm->init_pending)
        (void)nested_svm_take_held(svm->vcpu);
    return EXIT_RESUME;
}

static enum exit_action clgi(struct svm_vcpu *svm)
{
    if (svm->vcpu->l2_running)
        nested_svm_clear_l2_gif(svm);
    else
        svm_set_gif(svm, false);
    return EXIT_SKIP;
}

/* ASID 0 is the host's: L1's own translations. More than the one page is dropped, which the manual allows. */
static enum exit_action invlpga(struct svm_vcpu *svm)
{
    u32 asid = (u32)svm->vcpu->gpr[GPR_RCX];

    if (asid == 0)
        svm_flush_l1(svm);
    else
        nested_svm_invalidate_linear(nested_svm_of(svm->vcpu), asid);
    return EXIT_SKIP;
}

static enum exit_action execute(struct svm_vcpu *svm, u32 code)
{
    struct svm_slot *slot = operand(svm);

    if (slot == NULL)
        return EXIT_GP;
    switch (code) {
    case VMEXIT_VMLOAD:
        move_switched(&svm->vmcb01->save, &slot->vmcb12->save);
        return EXIT_SKIP;
    case VMEXIT_VMSAVE:
        move_switched(&slot->vmcb12->save, &svm->vmcb01->save);
        return EXIT_SKIP;
    default: /* VMRUN */
        svm_skip_to(svm, svm->next_rip);
        nested_svm_enter(svm->vcpu, slot);
        svm->vcpu->gpr[GPR_RAX] = svm->vmcb->save.rax;
        return EXIT_RESUME;
    }
}

/* EFER.SVME was found set. */
enum exit_action nested_svm_instruction(struct vcpu *vcpu, u32 code)
{
    static const u8 which[] = {
        [0] = SVM_INSTRUCTION_VMRUN,
        [VMEXIT_VMLOAD - VMEXIT_VMRUN] = SVM_INSTRUCTION_VMLOAD,
        [VMEXIT_VMSAVE - VMEXIT_VMRUN] = SVM_INSTRUCTION_VMSAVE,
        [VMEXIT_STGI - VMEXIT_VMRUN] = SVM_INSTRUCTION_STGI,
        [VMEXIT_CLGI - VMEXIT_VMRUN] = SVM_INSTRUCTION_CLGI,
    };
    struct svm_vcpu *svm = svm_of(vcpu);
    const struct vmcb_save *save = &svm->vmcb->save;

    if ((save->cr0 & CR0_PE) == 0 || (save->rflags & RFLAGS_VM) != 0)
        return EXIT_UD;
    if (save->cpl != 0)
        return EXIT_GP;
    if (!svm_find_next_rip(svm, code == VMEXIT_INVLPGA ? SVM_INSTRUCTION_INVLPGA
                                                       : (enum svm_instruction)which[code - VMEXIT_VMRUN]))
        return EXIT_RESUME;
    switch (code) {
    case VMEXIT_STGI:
        return stgi(svm);
    case VMEXIT_CLGI:
        return clgi(svm);
    case VMEXIT_INVLPGA:
        return invlpga(svm);
    default:
        return execute(svm, code);
    }
}
