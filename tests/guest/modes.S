/* SPDX-License-Identifier: MIT */
/*
 * Trips out of long mode and back: protected mode without paging, with PAE paging, with 32-bit paging, real mode with
 * a BIOS call, and an INIT. Each executes CPUID there, since it exits to a hypervisor from every mode, and leaves what it saw in
 * mode_result. Interrupts are off; an exception on the way is a triple fault.
 */
#include "tests/guest/layout.h"

#define CR0_PE   0x1
#define CR0_NW   0x20000000
#define CR0_CD   0x40000000
#define CR0_PG   0x80000000
#define CR4_PSE  0x10
#define CR4_PAE  0x20
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define EFER_NXE 0x800

    .text
    .code64
/* Calls the 32-bit code at EDI with paging and long mode off; its argument in ESI. */
    .globl trip
trip:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushfq
    cli
    movq %rsp, saved_rsp
    movq %cr3, %rax
    movq %rax, saved_cr3
    movq %cr4, %rax
    movq %rax, saved_cr4
    sidt saved_idt
    pushq $SEL_CODE32
    pushq $1f
    lretq
    .code32
1:  movl $SEL_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $trip_stack_end, %esp
    movl %cr0, %eax
    andl $~CR0_PG, %eax
    movl %eax, %cr0
    movl $MSR_EFER, %ecx
    rdmsr
    andl $~EFER_LME, %eax
    wrmsr
    call *%edi
    movl saved_cr4, %eax
    movl %eax, %cr4
    movl saved_cr3, %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl $EFER_LME, %eax
    wrmsr
    movl %cr0, %eax
    orl $CR0_PG, %eax
    movl %eax, %cr0
    ljmp $SEL_CODE64, $2f
    .code64
2:  movl $SEL_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movq saved_rsp, %rsp
    lidt saved_idt
    popfq
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

    .code32
look:
    movl %cr0, %eax
    movl %eax, mode_result + 16
    movl %cr4, %eax
    movl %eax, mode_result + 20
    movl $MSR_EFER, %ecx
    rdmsr
    movl %eax, mode_result + 24
    xorl %eax, %eax
    xorl %ecx, %ecx
    cpuid
    movl %eax, mode_result
    movl %ebx, mode_result + 4
    movl %ecx, mode_result + 8
    movl %edx, mode_result + 12
    ret

    .code64
    .globl trip_flat
trip_flat:
    movl $look, %edi
    jmp trip

/* EDI = physical address of four PAE page-directory-pointer entries */
    .globl trip_pae
trip_pae:
    movl %edi, %esi
    movl $pae32, %edi
    jmp trip
    .code32
pae32:
    movl %esi, %cr3
    movl %cr0, %eax
    orl $CR0_PG, %eax
    movl %eax, %cr0
    jmp 1f
1:  call look
    movl %cr0, %eax
    andl $~CR0_PG, %eax
    movl %eax, %cr0
    ret

    .code64
/* EDI = physical address of a 32-bit page directory of 4-MByte pages */
    .globl trip_legacy
trip_legacy:
    movl %edi, %esi
    movl $legacy32, %edi
    jmp trip
    .code32
legacy32:
    movl %cr4, %eax
    andl $~CR4_PAE, %eax
    orl $CR4_PSE, %eax
    movl %eax, %cr4
    movl %esi, %cr3
    movl %cr0, %eax
    orl $CR0_PG, %eax
    movl %eax, %cr0
    jmp 1f
1:  call look
    movl %cr0, %eax
    andl $~CR0_PG, %eax
    movl %eax, %cr0
    ret

    .code64
    .globl trip_real
trip_real:
    movl $real32, %edi
    jmp trip
    .code32
real32:
    movl %esp, saved_esp
    pushl %esi
    movl $real_code, %esi
    movl $REAL_BASE, %edi
    movl $real_code_end - real_code, %ecx
    cld
    rep movsb
    popl %esi
    lidt real_idt
    ljmp $SEL_CODE16, $REAL_BASE

/* Runs at REAL_BASE: addresses in it are offsets from there. */
#define AT(label) (REAL_BASE + (label - real_code))
    .code16
real_code:
    movw $SEL_DATA16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw %ax, %fs
    movw %ax, %gs
    movl %cr0, %eax
    andl $~CR0_PE, %eax
    movl %eax, %cr0
    ljmp $0, $AT(1f)
1:  xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw %ax, %fs
    movw %ax, %gs
    movl $REAL_STACK, %esp

    /* E820 entries of 20 bytes from REAL_BUFFER + 64 on; their number at REAL_BUFFER. */
    movl $0, REAL_BUFFER
    xorl %ebx, %ebx
    movl $REAL_BUFFER + 64, %edi
2:  movl $0xe820, %eax
    movl $0x534d4150, %edx
    movl $20, %ecx
    pushl %edi
    int $0x15
    popl %edi
    jc 3f
    cmpl $0x534d4150, %eax
    jne 3f
    addl $20, %edi
    incl REAL_BUFFER
    cmpl $64, REAL_BUFFER
    jae 3f
    testl %ebx, %ebx
    jnz 2b
3:  cli
    cld

    /* An invalid opcode in real mode goes through the vector table: count it and step over its two bytes. */
    movl $0, REAL_BUFFER + 4
    movl 6 * 4, %eax
    movl %eax, REAL_BUFFER + 8
    movw $AT(6f), 6 * 4
    movw $0, 6 * 4 + 2
    ud2
    movl REAL_BUFFER + 8, %eax
    movl %eax, 6 * 4

    smsw %ax
    movw %ax, REAL_BUFFER + 12
    xorl %eax, %eax
    xorl %ecx, %ecx
    cpuid
    movl %eax, REAL_BUFFER + 16
    movl %ebx, REAL_BUFFER + 20
    movl %ecx, REAL_BUFFER + 24
    movl %edx, REAL_BUFFER + 28
    movl $MSR_EFER, %ecx
    rdmsr
    movl %eax, REAL_BUFFER + 32

    movl %cr0, %eax
    orl $CR0_PE, %eax
    movl %eax, %cr0
    ljmpl $SEL_CODE32, $real_back
6:  pushw %bp
    movw %sp, %bp
    addw $2, 2(%bp)
    popw %bp
    incl REAL_BUFFER + 4
    iretw

/* The BIOS comes here after a reset of the CPU, by the vector that trip_init() left: nothing but CS is known. */
resume_code:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl %cs:AT(resume_gdt)
    movl %cr0, %eax
    movl %eax, REAL_BUFFER
    andl $~(CR0_CD | CR0_NW), %eax
    orl $CR0_PE, %eax
    movl %eax, %cr0
    ljmpl $SEL_CODE32, $resume32
    .balign 8
resume_gdt:
    .skip 6
real_code_end:

    .code64
/* EDI = function that resets this CPU without the machine. Returns when the CPU has come back through its BIOS. */
    .globl trip_init
trip_init:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushfq
    cli
    movq %rsp, saved_rsp
    movq %cr3, %rax
    movq %rax, saved_cr3
    movq %cr4, %rax
    movq %rax, saved_cr4
    movq %cr0, %rax
    movq %rax, saved_cr0
    sidt saved_idt
    movq %rdi, %rax
    movl $real_code, %esi
    movl $REAL_BASE, %edi
    movl $real_code_end - real_code, %ecx
    cld
    rep movsb
    sgdt AT(resume_gdt)             /* ten bytes: the last four lie behind the code */
    movl $AT(resume_code), 0x467    /* offset and segment 0 */
    call *%rax
1:  pause
    jmp 1b

    .code32
resume32:
    movl $SEL_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    movl %cr4, %eax
    movl %eax, mode_result + 20
    movl $MSR_EFER, %ecx
    rdmsr
    movl %eax, mode_result + 24
    movl REAL_BUFFER, %eax
    movl %eax, mode_result + 16
    movl saved_cr4, %eax
    movl %eax, %cr4
    movl saved_cr3, %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    xorl %edx, %edx
    movl $(EFER_LME | EFER_NXE), %eax
    wrmsr
    movl saved_cr0, %eax
    movl %eax, %cr0
    ljmp $SEL_CODE64, $1f
    .code64
1:  movq saved_rsp, %rsp
    lidt saved_idt
    andb $~2, gdt_tss + 5           /* the task is not busy any more */
    movl $SEL_TSS, %eax
    ltr %ax
    popfq
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

    .code32
real_back:
    movl $SEL_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %eax, %fs
    movl %eax, %gs
    movl saved_esp, %esp
    ret

    .data
    .balign 8
saved_rsp: .quad 0
saved_cr3: .quad 0
saved_cr4: .quad 0
saved_cr0: .quad 0
saved_esp: .long 0
    .balign 8
saved_idt: .skip 10
    .balign 8
real_idt:
    .short 0x3ff
    .long 0
    .balign 8
    .globl mode_result
mode_result: .skip 32
    .bss
    .balign 16
    .skip 4096
trip_stack_end:
    .section .note.GNU-stack, "", @progbits
