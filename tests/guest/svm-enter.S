/* SPDX-License-Identifier: MIT */
/* Into L2 and back to the caller of svm_enter(); and L2's interrupt handlers, which tell L1 of what they got. */
#include "tests/guest/enter-macros.inc"

    .text
    .code64
    .globl svm_enter
svm_enter:
    PUSH_CALLERS
    pushq %rdx
    pushq %rdi
    movq %rsi, %rax
    testb $4, %dl
    jnz 1f
    clgi
1:  testb $1, %dl
    jz 2f
    sti
2:  LOAD_L2 %rdi
    movq 48(%rdi), %rdi
    vmrun %rax
    cli
    movq (%rsp), %rax
    movq %rdi, 48(%rax)
    SAVE_L2 %rax
    popq %rdi
    popq %rdx
    testb $2, %dl
    jnz 3f
    stgi
3:  POP_CALLERS
    ret

    .balign 16
    .globl svm_l2_vectors
svm_l2_vectors:
    L2_VECTORS vmmcall
    .section .note.GNU-stack, "", @progbits
