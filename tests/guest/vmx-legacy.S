/* SPDX-License-Identifier: MIT */
/*
 * L1 in 32-bit mode with PAE paging: VMX instructions with operands of 32 bits, and one round trip into an L2 whose VMCS was
 * written before, in 64-bit mode. Each step leaves its flags in struct vmx_legacy (vmx-modes.c).
 */
#include "tests/guest/layout.h"

#define CR0_PG         0x80000000
#define TSC_OFFSET     0x2010
#define TSC_OFFSET_HIGH 0x2011
#define HOST_RSP       0x6c14
#define HOST_RIP       0x6c16
#define EXIT_REASON    0x4402
#define NO_FIELD       0x6

/* struct vmx_legacy */
#define CR3      0
#define VMXON    8
#define REGION   16
#define POINTER  24
#define HIGH     32
#define FULL     36
#define GUARD    40
#define CLEARED  44
#define REASON   48
#define HOST_CR3 52
#define HOST_CS  56
#define FLAGS    64

    .macro step index
    pushfl
    popl FLAGS + 4 * \index(%esi)
    .endm

    .text
    .code64
    /* void trip_vmx(struct vmx_legacy *): in the first 4 GByte; outside VMX operation */
    .globl trip_vmx
trip_vmx:
    movl %edi, %esi
    movl $vmx32, %edi
    jmp trip

    .code32
vmx32:
    movl %esi, argument
    movl CR3(%esi), %eax
    movl %eax, %cr3
    movl %cr0, %eax
    orl $CR0_PG, %eax
    movl %eax, %cr0
    jmp 1f
1:  vmxon VMXON(%esi)
    step 0
    vmptrld REGION(%esi)
    step 1
    vmptrst POINTER(%esi)
    step 2
    movl $TSC_OFFSET, %edx
    movl $0x89abcdef, %ecx
    vmwrite %ecx, %edx
    step 3
    movl $TSC_OFFSET_HIGH, %edx
    movl $0x01234567, %ecx
    vmwrite %ecx, %edx
    step 4
    xorl %ecx, %ecx
    vmread %edx, %ecx
    step 5
    movl %ecx, HIGH(%esi)
    movl $TSC_OFFSET, %edx
    vmread %edx, FULL(%esi)
    step 6
    vmwrite FULL(%esi), %edx        /* 32 bits: the others are cleared */
    step 7
    movl $TSC_OFFSET_HIGH, %edx
    vmread %edx, CLEARED(%esi)
    movl $NO_FIELD, %edx
    vmread %edx, %ecx
    step 8
    movl $TSC_OFFSET, %edx
    xorl %ecx, %ecx
    vmwrite %ecx, %edx
    movl $HOST_RSP, %edx
    vmwrite %esp, %edx
    movl $HOST_RIP, %edx
    movl $back32, %ecx
    vmwrite %ecx, %edx
    vmlaunch
    step 9
    jmp 2f
back32:
    movl argument, %esi
    step 10
    movl $EXIT_REASON, %edx
    vmread %edx, REASON(%esi)
    movl %cr3, %eax
    movl %eax, HOST_CR3(%esi)
    movl %cs, %eax
    movl %eax, HOST_CS(%esi)
2:  vmclear REGION(%esi)
    step 11
    vmxoff
    step 12
    movl %cr0, %eax
    andl $~CR0_PG, %eax
    movl %eax, %cr0
    ret

    .data
    .balign 4
argument: .long 0
    .section .note.GNU-stack, "", @progbits
