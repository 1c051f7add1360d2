/* SPDX-License-Identifier: MIT */
/*
 * One access at CPL 0 under PAE or 32-bit paging: out of long mode, to the tables and the CR4 that struct legacy_access
 * names, and back. A page fault there ends the access and is noted; any other exception is a triple fault.
 */
#include "tests/guest/layout.h"

#define CR0_PG        0x80000000
#define ACCESS_CR3    0
#define ACCESS_CR4    4
#define ACCESS_LINEAR 8
#define ACCESS_KIND   12
#define ACCESS_VECTOR 16
#define ACCESS_ERROR  20
#define ACCESS_CR2    24

    .text
    .code64
    /* void trip_access(struct legacy_access *): in the first 4 GByte */
    .globl trip_access
trip_access:
    movl %edi, %esi
    movl $access32, %edi
    jmp trip

    .code32
access32:
    movl ACCESS_CR4(%esi), %eax
    movl %eax, %cr4
    movl ACCESS_CR3(%esi), %eax
    movl %eax, %cr3
    lidt legacy_idt_pointer
    movl %esp, access_esp
    movl %cr0, %eax
    orl $CR0_PG, %eax
    movl %eax, %cr0
    jmp 1f
1:  movl ACCESS_LINEAR(%esi), %edi
    movl ACCESS_KIND(%esi), %ecx    /* enum oracle_kind */
    cmpl $1, %ecx
    je 2f
    ja 3f
    movb (%edi), %al
    jmp access_done
2:  movb %al, (%edi)
    jmp access_done
3:  call *%edi                      /* the page begins with RET */
access_done:
    movl %cr0, %eax
    andl $~CR0_PG, %eax
    movl %eax, %cr0
    ret

    .globl legacy_page_fault
legacy_page_fault:
    popl ACCESS_ERROR(%esi)
    movl $14, ACCESS_VECTOR(%esi)
    movl %cr2, %eax
    movl %eax, ACCESS_CR2(%esi)
    movl access_esp, %esp
    jmp access_done

    .data
    .balign 4
access_esp: .long 0
    .section .note.GNU-stack, "", @progbits
