/* SPDX-License-Identifier: MIT */
/*
 * The one way into the guest and the one way out of it.
 *
 * Register contract. The VMCS holds the guest's RIP, RSP and RFLAGS; its other general-purpose registers are in vcpu->gpr
 * whenever Umbra's C code runs, and are all loaded at once before an entry. Everything else that instructions of the guest
 * can see (x87, SSE, AVX state, XCR0, CR2, DR0-3, DR6, most MSRs) stays in the CPU: Umbra does not touch it.
 * An exit starts with host RSP, where the address of the vcpu lies; nothing of Umbra's own survives from before the entry, so
 * the stub saves no callee-saved registers of ours.
 */
#include "vcpu/stub-registers.inc"

/* RDI = vcpu. RDI itself is loaded last, since it is the base of all the others. */
.macro LOAD_GUEST
        mov     VCPU_GPR_RAX(%rdi), %rax
        LOAD_GUEST_REGISTERS %rdi
        mov     VCPU_GPR_RDI(%rdi), %rdi
.endm

/* (RSP) = vcpu; all other registers are the guest's. `handler` is a function of C that takes the vcpu. */
.macro EXIT handler
        push    %rdi
        mov     8(%rsp), %rdi
        mov     %rax, VCPU_GPR_RAX(%rdi)
        SAVE_GUEST_REGISTERS %rdi
        pop     VCPU_GPR_RDI(%rdi)
        xor     %ebp, %ebp              /* ends a backtrace: the guest's frames are not ours */
        call    \handler
        mov     (%rsp), %rdi
        LOAD_GUEST
        vmresume                        /* an NMI up to here has set NMI-window exiting in the VMCS */
.endm

        .text

/* RDI = vcpu, RSI = host RSP. */
        .globl  vmx_launch
        .type   vmx_launch, @function
vmx_launch:
        mov     %rsi, %rsp
        LOAD_GUEST
        vmlaunch
        jmp     entry_failed

/* Which VMCS the CPU left tells whose exit it is: vmcs01 names the second entry, a vmcs02 the first. */
        .balign 16
        .globl  vmx_l2_exit_entry
        .type   vmx_l2_exit_entry, @function
vmx_l2_exit_entry:
        EXIT    vmx_l2_exit
        jmp     entry_failed

        .balign 16
        .globl  vmx_exit_entry
        .type   vmx_exit_entry, @function
vmx_exit_entry:
        EXIT    vmx_exit

/* VMfail leaves RFLAGS as VMX instructions do: ZF = 1 is VMfailValid (SDM vol. 3D 31.2); no MOV changes it. */
entry_failed:
        mov     (%rsp), %rdi
        setz    %sil
        movzbl  %sil, %esi
        xor     %ebp, %ebp
        call    vmx_entry_failed        /* returns if it was L2's entry: L1 goes on */
        mov     (%rsp), %rdi
        LOAD_GUEST
        vmresume
        jmp     entry_failed

        .section .note.GNU-stack, "", @progbits
