/* SPDX-License-Identifier: MIT */
/*
 * The SVM instructions of L1 (and of an L2 to which L1 leaves them), each with the manual's checks in the
 * manual's order. Source: APM vol. 3 chapter 4, vol. 2 15.5 and 15.17.
 */
#include "nested/svm-nested.h"
#include "svm/event.h"
#include "svm/instruction.h"

/* Of the VMCB that rAX names. NULL: #GP, as for an address that is no memory a VMCB can be in. */
static struct svm_slot *operand(const struct svm_vcpu *svm)
{
    return nested_svm_slot(nested_svm_of(svm->vcpu), svm->vcpu->gpr[GPR_RAX] & svm->address_mask);
}

static enum exit_action vmrun(struct svm_vcpu *svm)
{
    struct svm_slot *slot = operand(svm);

    if (slot == NULL)
        return EXIT_GP;
    svm_skip_instruction(svm);
    nested_svm_enter(svm->vcpu, slot);
    return EXIT_RESUME;
}

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

static enum exit_action vmload(struct svm_vcpu *svm)
{
    const struct svm_slot *slot = operand(svm);

    if (slot == NULL)
        return EXIT_GP;
    move_switched(&svm->vmcb01->save, &slot->vmcb12->save);
    return EXIT_SKIP;
}

static enum exit_action vmsave(struct svm_vcpu *svm)
{
    const struct svm_slot *slot = operand(svm);

    if (slot == NULL)
        return EXIT_GP;
    move_switched(&slot->vmcb12->save, &svm->vmcb01->save);
    shadow_wrote(nested_svm_of(svm->vcpu)->shadow, gpa(slot->address), PAGE_SIZE);
    return EXIT_SKIP;
}

static enum exit_action stgi(struct svm_vcpu *svm)
{
    svm_skip_instruction(svm);
    svm_set_gif(svm, true);
    return EXIT_RESUME;
}

static enum exit_action clgi(struct svm_vcpu *svm)
{
    svm_set_gif(svm, false);
    return EXIT_SKIP;
}

/* ASID 0 is the host's: L1's own translations. More than the one page is dropped, which the manual allows. */
static enum exit_action invlpga(struct svm_vcpu *svm)
{
    u32 asid = (u32)svm->vcpu->gpr[GPR_RCX];

    if (asid == 0)
        svm_flush_guest(svm);
    else
        nested_svm_invalidate_linear(nested_svm_of(svm->vcpu), asid);
    return EXIT_SKIP;
}

/* EFER.SVME was found set. */
enum exit_action nested_svm_instruction(struct vcpu *vcpu, u32 code)
{
    struct svm_vcpu *svm = svm_of(vcpu);
    const struct vmcb_save *save = &svm->vmcb->save;

    if ((save->cr0 & CR0_PE) == 0 || (save->rflags & RFLAGS_VM) != 0)
        return EXIT_UD;
    if (save->cpl != 0)
        return EXIT_GP;
    switch (code) {
    case VMEXIT_VMRUN:
        return svm_find_next_rip(svm, SVM_INSTRUCTION_VMRUN) ? vmrun(svm) : EXIT_RESUME;
    case VMEXIT_VMLOAD:
        return svm_find_next_rip(svm, SVM_INSTRUCTION_VMLOAD) ? vmload(svm) : EXIT_RESUME;
    case VMEXIT_VMSAVE:
        return svm_find_next_rip(svm, SVM_INSTRUCTION_VMSAVE) ? vmsave(svm) : EXIT_RESUME;
    case VMEXIT_STGI:
        return svm_find_next_rip(svm, SVM_INSTRUCTION_STGI) ? stgi(svm) : EXIT_RESUME;
    case VMEXIT_CLGI:
        return svm_find_next_rip(svm, SVM_INSTRUCTION_CLGI) ? clgi(svm) : EXIT_RESUME;
    case VMEXIT_INVLPGA:
        return svm_find_next_rip(svm, SVM_INSTRUCTION_INVLPGA) ? invlpga(svm) : EXIT_RESUME;
    default:
        return EXIT_UD; /* the table of verdicts, and Umbra's intercepts, let nothing else come here */
    }
}
