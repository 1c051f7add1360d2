/* SPDX-License-Identifier: MIT */
/*
 * The way into the guest and back, and the few SVM instructions that C cannot say.
 *
 * Register contract of svm_run_loop(vcpu RDI, vmcb RSI, host_vmcb RDX, stack_top RCX): never returns. At VMRUN all
 * registers but RAX and RSP hold the guest's values from vcpu->gpr; those two, RIP and RFLAGS are in the VMCB. VMEXIT
 * gives back Umbra's RAX, RSP, RIP, RFLAGS, CS, SS, DS, ES, GDTR, IDTR, CR0, CR3, CR4, EFER and nothing else: every
 * other register is the guest's until it is saved. GIF is 0 in Umbra for ever: svm_clgi() before the first round,
 * VMRUN sets it, VMEXIT clears it; so interrupts, NMI, SMI and INIT wait for the guest, and no handler of Umbra's
 * runs on half-switched state.
 */
#include "vcpu/stub-registers.inc"

        .text

        /* The frame at RSP in the loop. */
        .set    FRAME_VCPU, 0
        .set    FRAME_VMCB, 8
        .set    FRAME_HOST_VMCB, 16

        .global svm_run_loop
        .type   svm_run_loop, @function
svm_run_loop:
        mov     %rcx, %rsp
        push    $0                      /* keeps the call below 16-byte aligned */
        push    %rdx
        push    %rsi
        push    %rdi
1:      mov     FRAME_VMCB(%rsp), %rax
        /* From VMLOAD on FS, GS, TR, LDTR are the guest's: no per-CPU data, no exception until the other VMLOAD. */
        vmload  %rax
        LOAD_GUEST_REGISTERS %rdi
        mov     VCPU_GPR_RDI(%rdi), %rdi /* last: it was the pointer */
        vmrun   %rax
        /* RAX is the VMCB's address again, as at VMRUN. Before anything loads FS, GS, TR or LDTR. */
        vmsave  %rax
        mov     FRAME_VCPU(%rsp), %rax  /* the one free register, since RAX is saved already */
        SAVE_GUEST_REGISTERS %rax
        mov     %rdi, VCPU_GPR_RDI(%rax)
        mov     %rax, %rdi
        mov     FRAME_HOST_VMCB(%rsp), %rax
        /* Umbra's GS base and TR are back: C may run. */
        vmload  %rax
        xor     %ebp, %ebp              /* a backtrace ends here, not in the guest's frame pointers */
        call    svm_exit
        mov     FRAME_VCPU(%rsp), %rdi  /* svm_exit may clobber RDI */
        jmp     1b
        .size   svm_run_loop, . - svm_run_loop

/* void svm_vmsave(u64 vmcb): clobbers RAX. */
        .global svm_vmsave
        .type   svm_vmsave, @function
svm_vmsave:
        mov     %rdi, %rax
        vmsave  %rax
        ret
        .size   svm_vmsave, . - svm_vmsave

/* void svm_clgi(void): clobbers nothing. */
        .global svm_clgi
        .type   svm_clgi, @function
svm_clgi:
        clgi
        ret
        .size   svm_clgi, . - svm_clgi

/*
 * void svm_take_pending(void): one moment with GIF set. A pending INIT, which VM_CR.R_INIT has turned into #SX, ends
 * here in the fix-up table; an NMI goes to Umbra's handler; interrupts do not come, because RFLAGS.IF is 0.
 * Clobbers nothing.
 */
        .global svm_take_pending
        .type   svm_take_pending, @function
svm_take_pending:
        stgi
1:      nop
2:      clgi
        ret
        .size   svm_take_pending, . - svm_take_pending

        .pushsection .fixups, "a"
        .quad   1b, 2b
        .quad   2b, 2b
        .popsection

        .section .note.GNU-stack, "", @progbits
