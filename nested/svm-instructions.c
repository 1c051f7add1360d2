/* SPDX-License-Identifier: MIT */
/*
 * The SVM instructions of L1 (and of an L2 to which L1 leaves them), each with the manual's checks in the
 * manual's order. Source: APM vol. 3 chapter 4, vol. 2 15.5 and 15.17.
 */
#include "mm/guest-mem.h"
#include "nested/svm-nested.h"
#include "svm/event.h"
#include "svm/instruction.h"

/* RAX as the instruction's address size sees it, which a prefix may have changed: then it is longer. */
static u64 operand(struct svm_vcpu *svm)
{
    enum { BYTES_WITHOUT_PREFIX = 3 };
    u64 rax = svm->vcpu->gpr[GPR_RAX];
    bool all = svm_decode_mode(svm) == DECODE_MODE_64;
    struct instruction decoded;

    if (svm->next_rip - svm->vmcb->save.rip != BYTES_WITHOUT_PREFIX && svm_fetch_instruction(svm, &decoded))
        all = decoded.address_bytes == sizeof(rax);
    return all ? rax : (u32)rax;
}

/* False: #GP, as for an address that is no memory a VMCB can be in. */
static bool vmcb_address(struct svm_vcpu *svm, u64 *address)
{
    *address = operand(svm);
    return *address % PAGE_SIZE == 0 && *address < nested_svm_of(svm->vcpu)->facts.physical_limit &&
           guest_view(gpa(*address), PAGE_SIZE) != NULL;
}

static enum exit_action vmrun(struct svm_vcpu *svm)
{
    u64 address;

    if (!vmcb_address(svm, &address))
        return EXIT_GP;
    svm_skip_instruction(svm);
    nested_svm_enter(svm->vcpu, address);
    return EXIT_RESUME;
}

/* What VMLOAD and VMSAVE move, APM vol. 2 15.5.2: L1's, and L2's alike, is in vmcb01. */
static const struct {
    u16 offset, bytes;
} switched[] = {
    {offsetof(struct vmcb, save.fs), 2 * sizeof(struct vmcb_segment)}, /* and GS */
    {offsetof(struct vmcb, save.ldtr), sizeof(struct vmcb_segment)},
    {offsetof(struct vmcb, save.tr), sizeof(struct vmcb_segment)},
    {offsetof(struct vmcb, save.star), offsetof(struct vmcb, save.cr2) - offsetof(struct vmcb, save.star)},
};

static enum exit_action vmload(struct svm_vcpu *svm)
{
    u8 *vmcb01 = (u8 *)svm->vmcb01;
    u64 address;

    if (!vmcb_address(svm, &address))
        return EXIT_GP;
    for (unsigned i = 0; i < ARRAY_SIZE(switched); i++)
        (void)guest_read(gpa(address + switched[i].offset), vmcb01 + switched[i].offset, switched[i].bytes);
    return EXIT_SKIP;
}

static enum exit_action vmsave(struct svm_vcpu *svm)
{
    const u8 *vmcb01 = (const u8 *)svm->vmcb01;
    u64 address;

    if (!vmcb_address(svm, &address))
        return EXIT_GP;
    for (unsigned i = 0; i < ARRAY_SIZE(switched); i++)
        (void)guest_write(gpa(address + switched[i].offset), vmcb01 + switched[i].offset, switched[i].bytes);
    shadow_wrote(nested_svm_of(svm->vcpu)->shadow, gpa(address), PAGE_SIZE);
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

static const struct {
    u32 code;
    enum svm_instruction instruction;
    enum exit_action (*execute)(struct svm_vcpu *svm);
} instructions[] = {
    {VMEXIT_VMRUN, SVM_INSTRUCTION_VMRUN, vmrun},    {VMEXIT_VMLOAD, SVM_INSTRUCTION_VMLOAD, vmload},
    {VMEXIT_VMSAVE, SVM_INSTRUCTION_VMSAVE, vmsave}, {VMEXIT_STGI, SVM_INSTRUCTION_STGI, stgi},
    {VMEXIT_CLGI, SVM_INSTRUCTION_CLGI, clgi},       {VMEXIT_INVLPGA, SVM_INSTRUCTION_INVLPGA, invlpga},
};

/* EFER.SVME was found set. SKINIT has no row: L1's CPU does not have it. */
enum exit_action nested_svm_instruction(struct vcpu *vcpu, u32 code)
{
    struct svm_vcpu *svm = svm_of(vcpu);
    const struct vmcb_save *save = &svm->vmcb->save;

    for (unsigned i = 0; i < ARRAY_SIZE(instructions); i++) {
        if (instructions[i].code != code)
            continue;
        if ((save->cr0 & CR0_PE) == 0 || (save->rflags & RFLAGS_VM) != 0)
            return EXIT_UD;
        if (save->cpl != 0)
            return EXIT_GP;
        if (!svm_find_next_rip(svm, instructions[i].instruction))
            return EXIT_RESUME;
        return instructions[i].execute(svm);
    }
    return EXIT_UD;
}
