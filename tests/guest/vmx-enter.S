/* SPDX-License-Identifier: MIT */
/* Into L2 and back to the caller of vmx_enter(); and L2's interrupt handlers, which tell L1 of what they got. */
#include "tests/guest/enter-macros.inc"

#define VMCS_HOST_RSP 0x6c14

    .text
    .code64
    .globl vmx_enter, vmx_exit_point
vmx_enter:
    PUSH_CALLERS
    pushq %rdi
    movl $VMCS_HOST_RSP, %eax
    vmwrite %rsp, %rax
    testl %esi, %esi
    movq (%rdi), %rax
    LOAD_L2 %rdi
    movq 48(%rdi), %rdi
    jz 1f
    vmlaunch
    jmp 2f
1:  vmresume
2:  pushfq
    popq %rax
    popq %rdi
    jmp 3f

vmx_exit_point:
    pushq %rdi
    movq 8(%rsp), %rdi
    movq %rax, (%rdi)
    popq %rax
    movq %rax, 48(%rdi)
    SAVE_L2 %rdi
    popq %rdi
    xorl %eax, %eax
3:  POP_CALLERS
    ret

    .balign 16
    .globl l2_vectors
l2_vectors:
    L2_VECTORS vmcall
    .section .note.GNU-stack, "", @progbits
