/* SPDX-License-Identifier: MIT */
/* Into L2 and back to the caller of svm_enter(); and L2's interrupt handlers, which tell L1 of what they got. */

    .text
    .code64
    .globl svm_enter
svm_enter:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushq %rdx
    pushq %rdi
    movq %rsi, %rax
    testb $4, %dl
    jnz 1f
    clgi
1:  testb $1, %dl
    jz 2f
    sti
2:  movq 8(%rdi), %rcx
    movq 16(%rdi), %rdx
    movq 24(%rdi), %rbx
    movq 32(%rdi), %rbp
    movq 40(%rdi), %rsi
    movq 56(%rdi), %r8
    movq 64(%rdi), %r9
    movq 72(%rdi), %r10
    movq 80(%rdi), %r11
    movq 88(%rdi), %r12
    movq 96(%rdi), %r13
    movq 104(%rdi), %r14
    movq 112(%rdi), %r15
    movq 48(%rdi), %rdi
    vmrun %rax
    cli
    movq (%rsp), %rax
    movq %rdi, 48(%rax)
    movq %rcx, 8(%rax)
    movq %rdx, 16(%rax)
    movq %rbx, 24(%rax)
    movq %rbp, 32(%rax)
    movq %rsi, 40(%rax)
    movq %r8, 56(%rax)
    movq %r9, 64(%rax)
    movq %r10, 72(%rax)
    movq %r11, 80(%rax)
    movq %r12, 88(%rax)
    movq %r13, 96(%rax)
    movq %r14, 104(%rax)
    movq %r15, 112(%rax)
    popq %rdi
    popq %rdx
    testb $2, %dl
    jnz 3f
    stgi
3:  popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

    .balign 16
    .globl svm_l2_vectors
svm_l2_vectors:
vector = 0
    .rept 256
    .balign 16
    movl $0x5600 + vector, %eax
    vmmcall
    vmmcall
vector = vector + 1
    .endr
    .section .note.GNU-stack, "", @progbits
