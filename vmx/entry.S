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
#include "asm-offsets.h"

/* RDI = vcpu. RDI itself is loaded last, since it is the base of all the others. */
.macro LOAD_GUEST_REGISTERS
        mov     VCPU_GPR_RAX(%rdi), %rax
        mov     VCPU_GPR_RCX(%rdi), %rcx
        mov     VCPU_GPR_RDX(%rdi), %rdx
        mov     VCPU_GPR_RBX(%rdi), %rbx
        mov     VCPU_GPR_RBP(%rdi), %rbp
        mov     VCPU_GPR_RSI(%rdi), %rsi
        mov     VCPU_GPR_R8(%rdi), %r8
        mov     VCPU_GPR_R9(%rdi), %r9
        mov     VCPU_GPR_R10(%rdi), %r10
        mov     VCPU_GPR_R11(%rdi), %r11
        mov     VCPU_GPR_R12(%rdi), %r12
        mov     VCPU_GPR_R13(%rdi), %r13
        mov     VCPU_GPR_R14(%rdi), %r14
        mov     VCPU_GPR_R15(%rdi), %r15
        mov     VCPU_GPR_RDI(%rdi), %rdi
.endm

        .text

/* RDI = vcpu, RSI = host RSP. */
        .globl  vmx_launch
        .type   vmx_launch, @function
vmx_launch:
        mov     %rsi, %rsp
        LOAD_GUEST_REGISTERS
        vmlaunch
        jmp     entry_failed

/* (RSP) = vcpu; all other registers are the guest's. */
        .balign 16
        .globl  vmx_exit_entry
        .type   vmx_exit_entry, @function
vmx_exit_entry:
        push    %rdi
        mov     8(%rsp), %rdi
        mov     %rax, VCPU_GPR_RAX(%rdi)
        mov     %rcx, VCPU_GPR_RCX(%rdi)
        mov     %rdx, VCPU_GPR_RDX(%rdi)
        mov     %rbx, VCPU_GPR_RBX(%rdi)
        mov     %rbp, VCPU_GPR_RBP(%rdi)
        mov     %rsi, VCPU_GPR_RSI(%rdi)
        mov     %r8, VCPU_GPR_R8(%rdi)
        mov     %r9, VCPU_GPR_R9(%rdi)
        mov     %r10, VCPU_GPR_R10(%rdi)
        mov     %r11, VCPU_GPR_R11(%rdi)
        mov     %r12, VCPU_GPR_R12(%rdi)
        mov     %r13, VCPU_GPR_R13(%rdi)
        mov     %r14, VCPU_GPR_R14(%rdi)
        mov     %r15, VCPU_GPR_R15(%rdi)
        pop     VCPU_GPR_RDI(%rdi)
        xor     %ebp, %ebp              /* ends a backtrace: the guest's frames are not ours */
        call    vmx_exit
        mov     (%rsp), %rdi
        LOAD_GUEST_REGISTERS
        vmresume                        /* an NMI up to here has set NMI-window exiting in the VMCS */

/* VMfail leaves RFLAGS as VMX instructions do: ZF = 1 is VMfailValid (SDM vol. 3D 31.2); no MOV changes it. */
entry_failed:
        mov     (%rsp), %rdi
        setz    %sil
        movzbl  %sil, %esi
        xor     %ebp, %ebp
        call    vmx_entry_failed

        .section .note.GNU-stack, "", @progbits
