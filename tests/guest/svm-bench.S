/* SPDX-License-Identifier: MIT */
/* Loops of L1 and L2 whose every instruction counts, for the group bench-svm; L2 keeps L1's registers but RAX and RSP. */
#define VMCB_RIP     0x578
#define CPUID_LENGTH 2

    .text
    .code64

/*
 * void bench_svm_trips(u64 vmcb, u64 count): VMRUN `count` times; after each exit L1 steps RIP over L2's CPUID. GIF
 * is 1 before and after.
 */
    .globl bench_svm_trips
bench_svm_trips:
    pushq %rbx
    movq %rdi, %rax
    movq %rsi, %r8
1:  vmrun %rax
    addq $CPUID_LENGTH, VMCB_RIP(%rax)
    decq %r8
    jnz 1b
    stgi
    popq %rbx
    ret

/* void bench_svm_full_trips(u64 vmcb, u64 count, u64 host): the same with all that a hypervisor has around a VMRUN. */
    .globl bench_svm_full_trips
bench_svm_full_trips:
    pushq %rbx
    movq %rdx, %r9
    movq %rsi, %r8
1:  movq %rdi, %rax
    clgi
    vmload %rax
    vmrun %rax
    vmsave %rax
    addq $CPUID_LENGTH, VMCB_RIP(%rax)
    movq %r9, %rax
    vmload %rax
    stgi
    decq %r8
    jnz 1b
    popq %rbx
    ret

/* L2: as many CPUIDs as it is let run. */
    .globl bench_svm_cpuid_start
bench_svm_cpuid_start:
1:  cpuid
    jmp 1b

/* L2: one byte read at RBX and at each RSI bytes further, RCX times; then VMMCALL. */
    .globl bench_svm_touch_start
bench_svm_touch_start:
1:  movb (%rbx), %al
    pause
    addq %rsi, %rbx
    decq %rcx
    jnz 1b
    vmmcall

    .globl bench_svm_call_start
bench_svm_call_start:
    vmmcall

/* void bench_svm_NAME(u64 address, u64 count): the instructions with that operand, count times. */
.macro LOOP name:req
    .globl bench_svm_\name
bench_svm_\name:
    movq %rdi, %rax
1:
.endm
.macro LOOP_END
    decq %rsi
    jnz 1b
    ret
.endm

    LOOP vmload
    vmload %rax
    LOOP_END

    LOOP vmsave
    vmsave %rax
    LOOP_END

    LOOP gif
    clgi
    stgi
    LOOP_END

    LOOP invlpga
    movl $1, %ecx
    invlpga %rax, %ecx
    LOOP_END

    .section .note.GNU-stack, "", @progbits
