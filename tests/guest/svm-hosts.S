/* SPDX-License-Identifier: MIT */
/*
 * VMRUN by an L1 that is not in 64-bit mode: out of long mode, into the paging mode that struct svm_host names, VMRUN from
 * 32-bit code, and back. Interrupts are off, and L2 gets no register but RBX.
 */
#include "tests/guest/layout.h"

#define CR0_PG    0x80000000
#define MSR_EFER  0xc0000080
#define EFER_LME  0x100
#define HOST_CR3  0
#define HOST_CR4  4
#define HOST_LME  8
#define HOST_VMCB 12
#define HOST_RBX  16
#define HOST_PG   20

    .text
    .code64
    /* void svm_enter_from_host(struct svm_host *): in the first 4 GByte */
    .globl svm_enter_from_host
svm_enter_from_host:
    movl %edi, %esi
    movl $host32, %edi
    jmp trip

    .code32
host32:
    movl HOST_CR4(%esi), %eax
    movl %eax, %cr4
    movl HOST_CR3(%esi), %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl HOST_LME(%esi), %eax
    wrmsr
    movl %cr0, %eax
    orl HOST_PG(%esi), %eax
    movl %eax, %cr0
    jmp 1f
1:  movl HOST_VMCB(%esi), %eax
    movl HOST_RBX(%esi), %ebx
    clgi
    vmrun %eax
    stgi
    movl %cr0, %eax
    andl $~CR0_PG, %eax
    movl %eax, %cr0
    movl $MSR_EFER, %ecx
    rdmsr
    andl $~EFER_LME, %eax
    wrmsr
    ret
    .section .note.GNU-stack, "", @progbits
