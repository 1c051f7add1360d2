/* SPDX-License-Identifier: MIT */
/*
 * Where the other CPUs start: from a start-up IPI in real mode to smp_main() in long mode, on the boot CPU's tables and
 * on a stack of their own. What lies between the first two labels is copied to a page below 1 MByte.
 */
#include "tests/guest/layout.h"

#define CR0_PE       0x1
#define CR0_PG_WP_NE_PE 0x80010021
#define MSR_EFER     0xc0000080
#define EFER_LME_NXE 0x900

    .text
    .code16
    .globl smp_trampoline, smp_trampoline_end
smp_trampoline:
    cli
    lgdtl %cs:(1f - smp_trampoline)
    movl $CR0_PE, %eax
    movl %eax, %cr0
    ljmpl $SEL_CODE32, $start32
    .balign 4
1:  .short SEL_TSS - 1
    .long gdt
smp_trampoline_end:

    .code32
start32:
    movl $SEL_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl smp_cr4, %eax
    movl %eax, %cr4
    movl smp_cr3, %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl $EFER_LME_NXE, %eax
    wrmsr
    movl $CR0_PG_WP_NE_PE, %eax
    movl %eax, %cr0
    ljmp $SEL_CODE64, $start64

    .code64
start64:
    /* By the APIC ID, so that one that comes again gets its own stack again. */
    movl $1, %eax
    cpuid
    shrl $24, %ebx
    andl $SMP_MAX - 1, %ebx
    incl %ebx
    imull $SMP_STACK_BYTES, %ebx
    leaq smp_stacks(%rbx), %rsp
    movl $1, %edi
    lock xaddl %edi, smp_arrivals
    xorl %ebp, %ebp
    pushq $0
    pushq $0
    call smp_main
    ud2

    .bss
    .globl smp_cr3, smp_cr4, smp_arrivals
    .balign 16
smp_cr3: .skip 4
smp_cr4: .skip 4
smp_arrivals: .skip 4                   /* the next one's number */
    .balign 16
smp_stacks: .skip SMP_STACK_BYTES * SMP_MAX
    .section .note.GNU-stack, "", @progbits
