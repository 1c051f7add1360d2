/* SPDX-License-Identifier: MIT */
/*
 * Exception and interrupt entry: 256 stubs of 16 bytes that build a struct frame and call trap(); and the two ways
 * around it: attempt(), which an exception ends, and enter_code(), which loads all registers and enters any ring.
 */
    .text
    .code64
    .balign 16
    .globl vectors
vectors:
vector = 0
    .rept 256
    .balign 16
    .if vector == 8 || vector == 10 || vector == 11 || vector == 12 || vector == 13 || vector == 14 || vector == 17 || vector == 21 || vector == 30
    .else
    pushq $0
    .endif
    pushq $vector
    jmp common
vector = vector + 1
    .endr

    .balign 16
common:
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rbx
    pushq %rbp
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    cld
    movq %rsp, %rdi
    call trap
    /* enter_code(const struct frame *): the frame is left as it is and everything in it loaded. */
restore:
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rbp
    popq %rbx
    popq %rdx
    popq %rcx
    popq %rax
    addq $16, %rsp
    iretq

    .globl enter_code
enter_code:
    movq %rdi, %rsp
    jmp restore

    /* u64 attempt(void (*code)(const void *), const void *argument) */
    .globl attempt, attempt_unwind
attempt:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushfq
    pushq attempt_stack
    movq %rsp, attempt_stack
    subq $8, %rsp
    movl $0xffff, fault             /* NO_FAULT */
    movq %rdi, %rax
    movq %rsi, %rdi
    call *%rax
attempt_unwind:
    movq attempt_stack, %rsp
    popq attempt_stack
    popfq
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    movq fault, %rax
    ret

    .data
    .balign 8
    .globl attempt_stack
attempt_stack: .quad 0
    .section .note.GNU-stack, "", @progbits
