/* SPDX-License-Identifier: MIT */
/*
 * Loops of L1 and L2 whose every instruction counts, for the group bench-vmx: the same instructions run bare and
 * under Umbra, so that the difference is Umbra's alone. L2 keeps L1's general-purpose registers.
 */
#define VMCS_EXIT_REASON             0x4402
#define VMCS_EXIT_INSTRUCTION_LENGTH 0x440c
#define VMCS_GUEST_RIP               0x681e
#define VMCS_HOST_RSP                0x6c14
#define VMCS_HOST_RIP                0x6c16

    .text
    .code64

/*
 * u64 bench_trips(u64 count): VMRESUME `count` times; after each exit L1 reads the reason and steps RIP over L2's
 * instruction, as a hypervisor that emulates it. Returns RFLAGS of a VMRESUME that failed, else 0. The caller
 * writes VMCS_HOST_RSP and VMCS_HOST_RIP anew.
 */
    .globl bench_trips, bench_cpuid_start
bench_trips:
    pushq %rbx
    movq %rdi, %rbx
    movl $VMCS_HOST_RSP, %eax
    vmwrite %rsp, %rax
    movl $VMCS_HOST_RIP, %eax
    leaq 2f(%rip), %rcx
    vmwrite %rcx, %rax
1:  vmresume
    pushfq
    popq %rax
    popq %rbx
    ret
2:  movl $VMCS_EXIT_REASON, %eax
    vmread %rax, %rcx
    movl $VMCS_EXIT_INSTRUCTION_LENGTH, %eax
    vmread %rax, %rdx
    movl $VMCS_GUEST_RIP, %eax
    vmread %rax, %rsi
    addq %rdx, %rsi
    vmwrite %rsi, %rax
    decq %rbx
    jnz 1b
    xorl %eax, %eax
    popq %rbx
    ret

/* L2: as many CPUIDs as it is let run. */
bench_cpuid_start:
1:  cpuid
    jmp 1b

/* L2: one byte read at RBX and at each RSI bytes further, RCX times; then VMCALL. */
    .globl bench_touch_start
bench_touch_start:
1:  movb (%rbx), %al
    pause
    addq %rsi, %rbx
    decq %rcx
    jnz 1b
    vmcall

/* L2: its time-stamp counter to RDX:RAX as soon as it runs; then VMCALL. */
    .globl bench_time_start
bench_time_start:
1:  rdtsc
    vmcall
    jmp 1b

/* u64 bench_reads(u64 field, u64 count), bench_writes(u64 field, u64 value, u64 count): one field, count times. */
    .globl bench_reads, bench_writes
bench_reads:
1:  vmread %rdi, %rax
    decq %rsi
    jnz 1b
    ret
bench_writes:
1:  vmwrite %rsi, %rdi
    decq %rdx
    jnz 1b
    ret
    .section .note.GNU-stack, "", @progbits
