/* SPDX-License-Identifier: MIT */
/*
 * 16-bit and 32-bit code that L2 runs: as l2-64.S, with EBP in the place of R15. The last snippet goes through all
 * operating modes, from real mode to 64-bit mode and back.
 */
#include "tests/system/linux/kvm-client/l2.h"

	.code32

BEGIN stubs32
	.set vector, 0
	.rept 64
	.balign 16
	.if vector != 8 && (vector < 10 || vector > 14) && vector != 17 && vector != 21
	push $0
	.endif
	push $vector
	jmp 1f
	.set vector, vector + 1
	.endr
1:	push %eax
	push %ebx
	push %ecx
	mov $RECORD, %ebx
	mov (%ebx), %ecx
	incl (%ebx)
	and $63, %ecx
	mov 12(%esp), %eax
	mov %eax, RECORD_VECTOR(%ebx)
	mov %al, RECORD_LOG(%ebx,%ecx)
	mov 16(%esp), %eax
	mov %eax, RECORD_ERROR(%ebx)
	mov 20(%esp), %eax
	mov %eax, RECORD_RIP(%ebx)
	mov 24(%esp), %eax
	mov %eax, RECORD_CS(%ebx)
	mov 28(%esp), %eax
	mov %eax, RECORD_RFLAGS(%ebx)
	mov %cr2, %eax
	mov %eax, RECORD_CR2(%ebx)
	cmpl $32, 12(%esp)
	jae 9f
	test %ebp, %ebp
	jz 2f
	mov %ebp, 20(%esp)
	jmp 9f
2:	cmpl $4, 12(%esp)
	jbe 9f
	out %al, $PORT_UNEXPECTED
9:	pop %ecx
	pop %ebx
	pop %eax
	add $8, %esp
	iret
END stubs32

BEGIN arithmetic32
	mov $0x12345678, %eax
	mov $0x9abcdef0, %ecx
	mul %ecx
	mov %eax, %esi
	mov %edx, %edi
	xor %ebx, %ebx
	mov $100, %ecx
1:	add %ecx, %ebx
	loop 1b
	push %ebx
	pop %ecx
	out %al, $PORT_END
END arithmetic32

/* One access to EDI: ESI 0 reads, 1 writes, 2 executes. EBX is 1 if nothing happened. */
BEGIN access32
	call 3f
3:	pop %ebp
	add $(9f - 3b), %ebp
	xor %ebx, %ebx
	cmp $1, %esi
	je 1f
	ja 2f
	mov (%edi), %eax
	inc %ebx
	jmp 9f
1:	mov %al, (%edi)
	inc %ebx
	jmp 9f
2:	call *%edi
	inc %ebx
9:	out %al, $PORT_END
END access32

BEGIN hole32
	mov $0xd0000000, %edi
	mov %ax, (%edi)
	mov 4(%edi), %ebx
	out %al, $PORT_END
END hole32

	.code16

/* Real mode: an interrupt through the vector table, a string move, a far pointer, stack and segments. */
BEGIN real16
	mov $0x1234, %ax
	add $0x4321, %ax
	mov %ax, %bx
	movw $(2f - l2_real16 + 0x8000), 0x21 * 4
	movw $0, 0x21 * 4 + 2
	int $0x21
	mov $0x2000, %ax
	mov %ax, %es
	movl $0xcafef00d, %es:0x10
	mov $0x8000, %si
	mov $0x100, %di
	mov $16, %cx
	cld
	rep movsb
	push %bx
	pop %bp
	mov $0xffff, %ax
	mov %ax, %ds
	mov 0x10, %ax
	mov %ax, %di
	out %al, $PORT_END
2:	mov $0x2121, %dx
	iret
END real16

BEGIN real_loop16
1:	in $0x60, %al
	out %al, $PORT_VALUE
	jmp 1b
END real_loop16

/* Interrupts in real mode: the handler counts at 0x9000. */
BEGIN real_interrupt16
	movw $(2f - l2_real_interrupt16 + 0x8000), 0x30 * 4
	movw $0, 0x30 * 4 + 2
	movl $0, 0x9000
	sti
1:	pause
	cmpl $3, 0x9000
	jb 1b
	cli
	out %al, $PORT_END
2:	incl 0x9000
	iret
END real_interrupt16

#define CODE(label) ((label) - l2_all_modes16 + 0x8000)

/* Real mode, flat 32-bit, paged 32-bit, 64-bit, compatibility mode, 32-bit, 16-bit protected, real mode. Each leaves
 * its mark in memory from 0x9000 on. */
BEGIN all_modes16
	movl $1, 0x9000
	lgdtl CODE(10f)
	mov %cr0, %eax
	or $1, %al
	mov %eax, %cr0
	ljmpl $0x18, $CODE(1f)
	.code32
1:	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $0x7ff0, %esp
	movl $2, 0x9004
	/* 32-bit paging with 4-MByte pages. */
	mov %cr4, %eax
	or $0x10, %eax
	mov %eax, %cr4
	mov $0x16000, %eax
	mov %eax, %cr3
	mov %cr0, %eax
	or $0x80000000, %eax
	mov %eax, %cr0
	jmp 2f
2:	movl $3, 0x9008
	/* Paging off, PAE and long mode on. */
	mov %cr0, %eax
	and $0x7fffffff, %eax
	mov %eax, %cr0
	mov %cr4, %eax
	or $0x20, %eax
	mov %eax, %cr4
	mov $0x10000, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx
	rdmsr
	or $0x100, %eax
	wrmsr
	mov %cr0, %eax
	or $0x80000000, %eax
	mov %eax, %cr0
	ljmp $0x08, $CODE(3f)
	.code64
3:	movabs $0x1122334455667788, %rax
	mov %rax, 0x9010
	ljmpl *CODE(11f)
	.code32
4:	movl $5, 0x9018
	/* Out of long mode. */
	mov %cr0, %eax
	and $0x7fffffff, %eax
	mov %eax, %cr0
	mov $0xc0000080, %ecx
	rdmsr
	and $~0x100, %eax
	wrmsr
	movl $6, 0x901c
	ljmp $0x50, $CODE(5f)
	.code16
5:	mov %cr0, %eax
	and $0xfe, %al
	mov %eax, %cr0
	ljmp $0, $CODE(6f)
6:	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	movl $7, 0x9020
	out %al, $PORT_END
	.balign 8
10:	.word 0x57
	.long 0x1000
	.balign 8
11:	.long CODE(4b)
	.word 0x18
END all_modes16

	.section .note.GNU-stack, "", @progbits
