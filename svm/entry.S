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
        .set    FRAME_NEXT, 24
        .set    FRAME_L2_VMCB, 32
        .set    FRAME_L2_INTERRUPTS, 40

/* From VMEXIT to C. RAX is the address that VMSAVE takes. Before anything loads FS, GS, TR or LDTR. */
.macro LEAVE_GUEST
        vmsave  %rax
        mov     FRAME_VCPU(%rsp), %rax  /* the one free register, since RAX is saved already */
        SAVE_GUEST_REGISTERS %rax
        mov     %rdi, VCPU_GPR_RDI(%rax)
        mov     %rax, %rdi
        mov     FRAME_HOST_VMCB(%rsp), %rax
        /* Umbra's GS base and TR are back: C may run. */
        vmload  %rax
        xor     %ebp, %ebp              /* a backtrace ends here, not in the guest's frame pointers */
.endm

        .global svm_run_loop
        .type   svm_run_loop, @function
svm_run_loop:
        mov     %rcx, %rsp
        push    $0                      /* struct svm_frame; RSP stays 16-byte aligned for the calls below */
        push    $0
        movq    $svm_enter_guest, %rax
        push    %rax
        push    %rdx
        push    %rsi
        push    %rdi
        .global svm_enter_guest
svm_enter_guest:
        mov     FRAME_VMCB(%rsp), %rax
        /* From VMLOAD on FS, GS, TR, LDTR are the guest's: no per-CPU data, no exception until the other VMLOAD. */
        vmload  %rax
        LOAD_GUEST_REGISTERS %rdi
        mov     VCPU_GPR_RDI(%rdi), %rdi /* last: it was the pointer */
        vmrun   %rax
        /* RAX is the VMCB's address again, as at VMRUN. */
        LEAVE_GUEST
        call    svm_exit
        mov     FRAME_VCPU(%rsp), %rdi  /* svm_exit may clobber RDI */
        jmp     *FRAME_NEXT(%rsp)

/*
 * L2: what VMLOAD and VMSAVE switch is shared with L1, whose VMRUN switches none of it either. With V_INTR_MASKING
 * it is RFLAGS.IF at VMRUN that lets physical interrupts come; VMEXIT brings it back, and GIF is 0 on both sides.
 */
        .global svm_enter_l2
svm_enter_l2:
        mov     FRAME_VMCB(%rsp), %rax
        vmload  %rax
        LOAD_GUEST_REGISTERS %rdi
        mov     VCPU_GPR_RDI(%rdi), %rdi
        mov     FRAME_L2_VMCB(%rsp), %rax
        testb   $1, FRAME_L2_INTERRUPTS(%rsp)
        jz      1f
        sti
        nop                             /* STI's interrupt shadow ends before VMRUN */
1:      vmrun   %rax
        cli
        mov     FRAME_VMCB(%rsp), %rax
        LEAVE_GUEST
        call    svm_l2_exit
        mov     FRAME_VCPU(%rsp), %rdi
        jmp     *FRAME_NEXT(%rsp)
        .size   svm_run_loop, . - svm_run_loop

/* void svm_vmsave(u64 vmcb): clobbers RAX. */
        .global svm_vmsave
        .type   svm_vmsave, @function
svm_vmsave:
        mov     %rdi, %rax
        vmsave  %rax
        ret
        .size   svm_vmsave, . - svm_vmsave

/* void svm_vmrun(u64 vmcb): clobbers RAX, which VMEXIT brings back as it is here, like RSP and RFLAGS. */
        .global svm_vmrun
        .type   svm_vmrun, @function
svm_vmrun:
        mov     %rdi, %rax
        vmrun   %rax
        ret
        .size   svm_vmrun, . - svm_vmrun

/* All that the guest of svm/halt.c executes, in real mode. */
        .global svm_halt_code
        .type   svm_halt_code, @function
svm_halt_code:
        hlt
        vmmcall
        .size   svm_halt_code, . - svm_halt_code

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

/*
 * void svm_wait_for_write(const u64 *word): the same, but the moment lasts until the word is written, if it is still 0,
 * or something has come. Clobbers RAX, RCX, RDX.
 */
        .global svm_wait_for_write
        .type   svm_wait_for_write, @function
svm_wait_for_write:
        mov     %rdi, %rax
        xor     %ecx, %ecx
        xor     %edx, %edx
        monitor %rax, %ecx, %edx
        cmpq    $0, (%rdi)
        jne     3f
        xor     %eax, %eax
        stgi
1:      mwait   %eax, %ecx
2:      clgi
3:      ret
        .size   svm_wait_for_write, . - svm_wait_for_write

        .pushsection .fixups, "a"
        .quad   1b, 2b
        .quad   2b, 2b
        .popsection

        .section .note.GNU-stack, "", @progbits
