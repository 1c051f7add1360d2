/* SPDX-License-Identifier: MIT */
/*
 * Entry from the boot loader: saves the state that the loader handed over, then goes to 64-bit mode on tables that map
 * the first 4 GByte one to one. Uses no memory but the guest's own.
 */
#include "tests/guest/layout.h"

#define CR0_PG      0x80000000
#define CR0_WP_NE   0x00010020
#define CR4_PAE     0x20
#define MSR_EFER    0xc0000080
#define EFER_LME_NXE 0x900
#define ENTRY_2M    0x83            /* present, writable, large */
#define ENTRY_TABLE 0x07            /* present, writable, user: the leaves decide */

    .text
    .code32
    .globl _start
_start:
    movl %eax, entry_eax
    movl %ebx, entry_ebx
    movl %cr0, %eax
    movl %eax, entry_cr0
    movl %cr4, %eax
    movl %eax, entry_cr4
    movw %cs, entry_selectors
    movw %ds, entry_selectors + 2
    movw %ss, entry_selectors + 4
    movl $boot_stack_end, %esp
    pushf
    popl entry_eflags
    /* Each data segment must reach the end of 4 GByte: a shorter limit is a #GP, here a triple fault. */
    movl %ds:0xfffffffc, %eax
    movl %es:0xfffffffc, %eax
    movl %fs:0xfffffffc, %eax
    movl %gs:0xfffffffc, %eax
    movl %ss:0xfffffffc, %eax
    cld

    movl $pdpt + ENTRY_TABLE, pml4
    movl $directories, %edi
    movl $pdpt, %ebx
    xorl %eax, %eax
    movl $4, %edx
1:  leal ENTRY_TABLE(%edi), %esi
    movl %esi, (%ebx)
    addl $8, %ebx
    movl $512, %ecx
2:  leal ENTRY_2M(%eax), %esi
    movl %esi, (%edi)
    addl $8, %edi
    addl $0x200000, %eax
    loop 2b
    decl %edx
    jnz 1b

    movl %cr4, %eax
    orl $CR4_PAE, %eax
    movl %eax, %cr4
    movl $pml4, %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl $EFER_LME_NXE, %eax
    wrmsr
    movl %cr0, %eax
    orl $CR0_PG | CR0_WP_NE, %eax
    movl %eax, %cr0
    lgdt gdt_pointer32
    ljmp $SEL_CODE64, $start64

    .code64
start64:
    movl $SEL_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    movq $boot_stack_end, %rsp
    call main
1:  hlt
    jmp 1b

    .data
    .balign 8
    .globl gdt, gdt_pointer, gdt_tss
gdt:
    .quad 0
    .quad 0x00af9b000000ffff        /* SEL_CODE64 */
    .quad 0x00cf93000000ffff        /* SEL_DATA */
    .quad 0x00cf9b000000ffff        /* SEL_CODE32 */
    .quad 0x00cffb000000ffff        /* SEL_USER_CODE32 */
    .quad 0x00cff3000000ffff        /* SEL_USER_DATA */
    .quad 0x00affb000000ffff        /* SEL_USER_CODE64 */
    .quad 0x00009b000000ffff        /* SEL_CODE16 */
    .quad 0x000093000000ffff        /* SEL_DATA16 */
    .quad 0x00cf13000000ffff        /* SEL_NOT_PRESENT */
gdt_tss:
    .quad 0, 0                      /* SEL_TSS, filled in by trap_init */
gdt_end:
    .balign 8
gdt_pointer:
    .short gdt_end - gdt - 1
    .quad gdt
    .balign 8
gdt_pointer32:
    .short gdt_end - gdt - 1
    .long gdt

    .globl entry_eax, entry_ebx, entry_cr0, entry_cr4, entry_eflags, entry_selectors
entry_eax: .long 0
entry_ebx: .long 0
entry_cr0: .long 0
entry_cr4: .long 0
entry_eflags: .long 0
entry_selectors: .short 0, 0, 0, 0

    .bss
    .balign 4096
    .globl pml4, pdpt, directories
pml4: .skip 4096
pdpt: .skip 4096
directories: .skip 4 * 4096
    .skip STACK_BYTES
boot_stack_end:
    .section .note.GNU-stack, "", @progbits
