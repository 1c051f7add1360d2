/* SPDX-License-Identifier: MIT */
/*
 * 64-bit code that L2 runs. Every snippet is copied alone to L2's memory, so that it may only use relative
 * addresses within itself, and ends with an OUT to PORT_END. The exception stubs note each event in the record at
 * 0x800 (struct l2_record); after a fault they go on at R15 if that is not 0.
 */
#include "tests/system/linux/kvm-client/l2.h"

	.code64

BEGIN stubs64
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
1:	push %rax
	push %rbx
	push %rcx
	mov $RECORD, %ebx
	mov (%rbx), %rcx
	incq (%rbx)
	and $63, %ecx
	mov 24(%rsp), %rax
	mov %rax, RECORD_VECTOR(%rbx)
	mov %al, RECORD_LOG(%rbx,%rcx)
	mov 32(%rsp), %rax
	mov %rax, RECORD_ERROR(%rbx)
	mov 40(%rsp), %rax
	mov %rax, RECORD_RIP(%rbx)
	mov 48(%rsp), %rax
	mov %rax, RECORD_CS(%rbx)
	mov 56(%rsp), %rax
	mov %rax, RECORD_RFLAGS(%rbx)
	mov 64(%rsp), %rax
	mov %rax, RECORD_RSP(%rbx)
	mov %cr2, %rax
	mov %rax, RECORD_CR2(%rbx)
	mov RECORD_FLAGS(%rbx), %ecx
	cmpq $32, 24(%rsp)
	jae 3f
	cmpq $2, 24(%rsp)
	je 5f
	test %r15, %r15
	jz 2f
	mov %r15, 40(%rsp)
	jmp 9f
2:	cmpq $4, 24(%rsp)
	jbe 9f
	out %al, $PORT_UNEXPECTED
	jmp 9f
3:	mov $0x20, %al
	test $EOI_PIC, %cl
	jz 4f
	out %al, $0x20
4:	test $EOI_APIC, %cl
	jz 4f
	mov $0xfee000b0, %eax
	movl $0, (%rax)
4:	test $EOI_X2APIC, %cl
	jz 9f
	push %rdx
	xor %eax, %eax
	xor %edx, %edx
	mov $0x80b, %ecx
	wrmsr
	pop %rdx
	jmp 9f
5:	test $NMI_TELLS, %cl
	jz 9f
	out %al, $PORT_READY
9:	pop %rcx
	pop %rbx
	pop %rax
	add $16, %rsp
	iretq
END stubs64

/* Sum and product of numbers that only 64-bit registers hold. */
BEGIN arithmetic64
	movabs $0x123456789abcdef0, %rax
	movabs $0xfedcba9876543210, %rcx
	lea (%rax,%rcx), %rbx
	mul %rcx
	mov %rdx, %r8
	mov %rax, %r9
	xor %esi, %esi
	mov $100, %ecx
1:	add %rcx, %rsi
	loop 1b
	push %rsi
	pop %rdi
	out %al, $PORT_END
END arithmetic64

/* CPUID with EAX and ECX as set; the answer stays in the registers. */
BEGIN cpuid64
	cpuid
	mov %eax, %r8d
	out %al, $PORT_END
END cpuid64

/* IN and OUT of each size; values in RAX, R8 to R13. */
BEGIN pio64
	mov $0x5a0, %edx
	mov $0x11223344, %eax
	out %al, %dx
	out %ax, %dx
	out %eax, %dx
	movabs $0x1111111111111111, %rax
	in %dx, %al
	mov %rax, %r8
	movabs $0x2222222222222222, %rax
	in %dx, %ax
	mov %rax, %r9
	movabs $0x3333333333333333, %rax
	in %dx, %eax
	mov %rax, %r10
	in $0x71, %al
	mov %rax, %r11
	out %al, $PORT_END
END pio64

/* OUTS of 8 words from RSI, INS of 16 bytes to RDI. */
BEGIN string_pio64
	mov $0x5a4, %edx
	mov $8, %ecx
	rep outsw
	mov $16, %ecx
	rep insb
	out %al, $PORT_END
END string_pio64

/* Loads and stores of each size at RDI, where no memory is. */
BEGIN mmio64
	movabs $0x8877665544332211, %rax
	mov %al, (%rdi)
	mov %ax, 2(%rdi)
	mov %eax, 4(%rdi)
	mov %rax, 8(%rdi)
	movl $0x12345678, 16(%rdi)
	movabs $-1, %rbx
	mov (%rdi), %bl
	mov %rbx, %r8
	movabs $-1, %rbx
	mov 2(%rdi), %bx
	mov %rbx, %r9
	movabs $-1, %rbx
	mov 4(%rdi), %ebx
	mov %rbx, %r10
	mov 8(%rdi), %rbx
	mov %rbx, %r11
	movsbq 3(%rdi), %r12
	movzwl 6(%rdi), %r13d
	out %al, $PORT_END
END mmio64

/* Read, modify, write at RDI; a string move from RSI to RDI. */
BEGIN mmio_modify64
	addl $5, (%rdi)
	mov $2, %ecx
	rep movsl
	out %al, $PORT_END
END mmio_modify64

BEGIN hlt64
	mov $1, %ebx
	hlt
	mov $2, %ebx
	hlt
	mov $3, %ebx
	out %al, $PORT_END
END hlt64

BEGIN wbinvd64
	wbinvd
	pause
	mov $7, %ebx
	out %al, $PORT_END
END wbinvd64

/* RCX times OUT to a port of the client. */
BEGIN pio_loop64
1:	out %al, $PORT_COUNT
	dec %rcx
	jnz 1b
	out %al, $PORT_END
END pio_loop64

/* RSI times CPUID, which KVM handles by itself. */
BEGIN cpuid_loop64
1:	xor %eax, %eax
	cpuid
	dec %rsi
	jnz 1b
	out %al, $PORT_END
END cpuid_loop64

/* RCX times a load from RDI, where no memory is. */
BEGIN mmio_loop64
1:	mov (%rdi), %eax
	dec %rcx
	jnz 1b
	out %al, $PORT_END
END mmio_loop64

/* The least that takes no exit: the same loop, to be taken off. */
BEGIN empty_loop64
1:	dec %rcx
	jnz 1b
	out %al, $PORT_END
END empty_loop64

/* Counts in memory at RDI, and tells each number: VMs and vCPUs that take turns. */
BEGIN counter64
1:	lock incq (%rdi)
	inc %rbx
	mov (%rdi), %rax
	out %eax, $PORT_VALUE
	jmp 1b
END counter64

/* Counts at RDI until there is something at RSI. */
BEGIN hammer64
1:	lock incq (%rdi)
	cmpq $0, (%rsi)
	je 1b
	out %al, $PORT_END
END hammer64

/* Writes one word to each page of a list of page numbers: RSI list, RCX length, RDI base, RAX value. */
BEGIN write_pages64
1:	mov (%rsi), %edx
	shl $12, %rdx
	mov %rax, (%rdi,%rdx)
	add $4, %rsi
	dec %rcx
	jnz 1b
	out %al, $PORT_END
END write_pages64

/* Adds up the first word of RCX pages from RDI on, in RAX. */
BEGIN read_pages64
	xor %eax, %eax
1:	add (%rdi), %rax
	add $4096, %rdi
	dec %rcx
	jnz 1b
	out %al, $PORT_END
END read_pages64

/* Writes RAX to RCX pages from RDI on. */
BEGIN touch_pages64
1:	mov %rax, (%rdi)
	add $4096, %rdi
	dec %rcx
	jnz 1b
	out %al, $PORT_END
END touch_pages64

/* Changes an instruction just before it runs, RCX times; the sum of what ran in RBX. */
BEGIN modify_self64
	lea 2f(%rip), %rdi
	xor %ebx, %ebx
1:	mov %ecx, 1(%rdi)
	jmp 2f
2:	mov $0x11111111, %eax
	add %rax, %rbx
	dec %rcx
	jnz 1b
	out %al, $PORT_END
END modify_self64

/* Writes code (mov $N,%eax; ret) at RDI, calls it there, RCX times with other numbers and places. */
BEGIN write_code64
	xor %ebx, %ebx
1:	movb $0xb8, (%rdi)
	mov %ecx, 1(%rdi)
	movb $0xc3, 5(%rdi)
	call *%rdi
	add %rax, %rbx
	add $0x1003, %rdi
	dec %rcx
	jnz 1b
	out %al, $PORT_END
END write_code64

/* Calls RDI again and again; the client changes what is there in between. */
BEGIN call_loop64
1:	call *%rdi
	out %eax, $PORT_VALUE
	jmp 1b
END call_loop64

/* Tells the word at RDI again and again. */
BEGIN read_loop64
1:	mov (%rdi), %eax
	out %eax, $PORT_VALUE
	jmp 1b
END read_loop64

/* Writes RAX to RDI, reads it back to RBX. */
BEGIN write_read64
	mov %rax, (%rdi)
	mov (%rdi), %rbx
	out %al, $PORT_END
END write_read64

/* One access to RDI: RSI 0 reads, 1 writes, 2 executes (a RET is there). RBX is 1 if nothing happened. */
BEGIN access64
	lea 9f(%rip), %r15
	xor %ebx, %ebx
	cmp $1, %esi
	je 1f
	ja 2f
	mov (%rdi), %rax
	inc %ebx
	jmp 9f
1:	mov %al, (%rdi)
	inc %ebx
	jmp 9f
2:	call *%rdi
	inc %ebx
9:	out %al, $PORT_END
END access64

/* Reads RDI through the tables at R8, then at R9 and again at R8. */
BEGIN switch_cr3_64
	mov %r8, %cr3
	mov (%rdi), %r10
	mov %r9, %cr3
	mov (%rdi), %r11
	mov %r8, %cr3
	mov (%rdi), %r12
	out %al, $PORT_END
END switch_cr3_64

/* Reads RDI, stores R9 in the entry at R8, INVLPG, reads RDI again. */
BEGIN invlpg64
	mov (%rdi), %r10
	mov %r9, (%r8)
	invlpg (%rdi)
	mov (%rdi), %r11
	out %al, $PORT_END
END invlpg64

/* Waits for events with interrupts on; never leaves by itself. */
BEGIN sti_loop64
	mov $1, %ebx
	sti
	nop
1:	pause
	inc %rbx
	cmp $3000000, %ebx
	jb 1b
	out %al, $PORT_UNEXPECTED
END sti_loop64

/* Turns interrupts on late. */
BEGIN sti_late64
	out %al, $PORT_READY
	mov $2, %ebx
	mov $3, %ebx
	sti
	nop
	nop
	nop
	cli
	mov $4, %ebx
	out %al, $PORT_END
END sti_late64

/* Tells, and tells again after an event. */
BEGIN tell_twice64
	out %al, $PORT_READY
	nop
	out %al, $PORT_END
END tell_twice64

BEGIN sti_hlt64
1:	sti
	hlt
	out %al, $PORT_READY
	jmp 1b
END sti_hlt64

/* One instruction each that raises an exception; R15 skips it. */
#define FAULT(name, ...)                                                   \
	BEGIN fault_##name;                                                  \
	lea 9f(%rip), %r15;                                                  \
	__VA_ARGS__;                                                         \
9:	out %al, $PORT_END;                                                  \
	END fault_##name

FAULT(de, xor %ecx, %ecx; div %ecx)
FAULT(bp, int3)
FAULT(db, .byte 0xf1)
FAULT(ud, ud2)
FAULT(nm, fninit)
FAULT(gp_canonical, movabs $0x800000000000, %rax; mov (%rax), %rax)
FAULT(gp_selector, mov $0x800, %eax; mov %eax, %fs)
FAULT(gp_int, int $0x81)
FAULT(ss_canonical, movabs $0x800000000000, %rbp; mov (%rbp), %rax)
FAULT(np, mov $0x48, %eax; mov %eax, %fs)
FAULT(pf, movabs $0x123456789000, %rax; mov %al, (%rax))
FAULT(int30, xor %r15d, %r15d; int $0x30)
FAULT(rdmsr, mov $0x12345, %ecx; rdmsr)
FAULT(wrmsr, mov $0x12345, %ecx; wrmsr)
FAULT(mov_cr4, mov $0x80000000, %eax; mov %rax, %cr4)
FAULT(mov_cr0, mov %cr0, %rax; btr $0, %rax; mov %rax, %cr0)
FAULT(vmxon, push $0; .byte 0xf3, 0x0f, 0xc7, 0x34, 0x24)
FAULT(vmrun, xor %eax, %eax; .byte 0x0f, 0x01, 0xd8)
FAULT(tf, xor %r15d, %r15d; pushf; orl $0x100, (%rsp); popf; nop; nop; pushf; andl $~0x100, (%rsp); popf)
FAULT(hypercall_intel, .byte 0x0f, 0x01, 0xc1)
FAULT(hypercall_amd, .byte 0x0f, 0x01, 0xd9)
FAULT(triple, ud2)
FAULT(jump_hole, mov $0xd0000000, %eax; jmp *%rax)

/* RDMSR of RCX to RBX, WRMSR of RSI, RDMSR again to RDI. */
BEGIN msr64
	lea 9f(%rip), %r15
	xor %r8d, %r8d
	rdmsr
	shl $32, %rdx
	lea (%rdx,%rax), %rbx
	inc %r8d
	mov %esi, %eax
	mov %rsi, %rdx
	shr $32, %rdx
	wrmsr
	inc %r8d
	rdmsr
	shl $32, %rdx
	lea (%rdx,%rax), %rdi
	inc %r8d
9:	out %al, $PORT_END
END msr64

/* Each general register keeps its value over an exit to KVM and one to the client. */
BEGIN registers64
	out %al, $PORT_READY
	wbinvd
	out %al, $PORT_END
END registers64

/* Loads x87, XMM and MXCSR from RDI (512 bytes of FXSAVE), exits, stores them to RSI. */
BEGIN fpu64
	fxrstor64 (%rdi)
	out %al, $PORT_READY
	fxsave64 (%rsi)
	out %al, $PORT_END
END fpu64

/* The same with the upper halves of YMM0 and YMM15. */
BEGIN avx64
	vmovups (%rdi), %ymm0
	vmovups 32(%rdi), %ymm15
	out %al, $PORT_READY
	vmovups %ymm0, (%rsi)
	vmovups %ymm15, 32(%rsi)
	xor %ecx, %ecx
	xgetbv
	out %al, $PORT_END
END avx64

/* Debug registers in and, after an exit, out again. */
BEGIN debug_registers64
	mov %r8, %dr0
	mov %r9, %dr1
	mov %r10, %dr2
	mov %r11, %dr3
	mov %r12, %dr7
	out %al, $PORT_READY
	mov %dr0, %r8
	mov %dr1, %r9
	mov %dr2, %r10
	mov %dr3, %r11
	mov %dr7, %r12
	out %al, $PORT_END
END debug_registers64

/* A write to the address in RDI, watched by DR0. */
BEGIN watch64
	mov %rdi, %dr0
	mov $0xd0602, %eax
	mov %rax, %dr7
	movl $1, (%rdi)
	mov %dr6, %rbx
	xor %eax, %eax
	mov %rax, %dr7
	out %al, $PORT_END
END watch64

/* For the client's breakpoints and single steps. */
BEGIN steps64
	nop
	mov $1, %eax
	cpuid
	nop
	mov $2, %ebx
	nop
	out %al, $PORT_END
END steps64

BEGIN tsc64
	rdtsc
	shl $32, %rdx
	lea (%rdx,%rax), %rbx
	out %al, $PORT_READY
	rdtsc
	shl $32, %rdx
	lea (%rdx,%rax), %rsi
	out %al, $PORT_END
END tsc64

BEGIN rdtscp64
	rdtscp
	out %al, $PORT_END
END rdtscp64

/* In user mode: SYSCALL to the code after it, which leaves by SYSRET; SWAPGS on the way. */
BEGIN syscall64
	mov %gs:0, %r8
	syscall
	mov %gs:0, %r10
	out %al, $PORT_END
	.org l2_syscall64 + 64
	swapgs
	mov %gs:0, %r9
	mov %cs, %r12d
	swapgs
	mov $0x600d, %r13d
	sysretq
END syscall64

/* Programs the 8259A pair (vectors 0x30 and 0x38), unmasks IRQ 5, waits. */
BEGIN pic64
	mov $0x11, %al
	out %al, $0x20
	out %al, $0xa0
	mov $0x30, %al
	out %al, $0x21
	mov $0x38, %al
	out %al, $0xa1
	mov $4, %al
	out %al, $0x21
	mov $2, %al
	out %al, $0xa1
	mov $1, %al
	out %al, $0x21
	out %al, $0xa1
	mov %r8d, %eax
	out %al, $0x21
	mov $0xff, %al
	out %al, $0xa1
	out %al, $PORT_READY
	mov %r9d, %ecx
1:	sti
	hlt
	cli
	cmp %ecx, RECORD
	jb 1b
	out %al, $PORT_END
END pic64

/* Channel 0 of the 8254 at 1,000 Hz, then as above. */
BEGIN pit64
	mov $0x34, %al
	out %al, $0x43
	mov $0xa9, %al
	out %al, $0x40
	mov $0x04, %al
	out %al, $0x40
	out %al, $PORT_END
END pit64

/* Local APIC in xAPIC mode: software enable, then the ICR from R8 (low) and R9 (high), wait for R10 events. */
BEGIN apic_ipi64
	mov $0xfee00000, %ebx
	movl $0x1ff, 0xf0(%rbx)
	mov 0x20(%rbx), %r11d
	mov 0x30(%rbx), %r12d
	mov %r9d, 0x310(%rbx)
	mov %r8d, 0x300(%rbx)
	mov %r10d, %ecx
	test %ecx, %ecx
	jz 2f
1:	sti
	nop
	cli
	cmp %ecx, RECORD
	jb 1b
2:	out %al, $PORT_END
END apic_ipi64

/* Task priority above and below a pending self-IPI (vector 0x35), by CR8; counts in R13 and R14. */
BEGIN apic_tpr64
	mov $0xfee00000, %ebx
	movl $0x1ff, 0xf0(%rbx)
	mov $8, %eax
	mov %rax, %cr8
	sti
	movl $0x40035, 0x300(%rbx)
	mov $1000, %ecx
1:	pause
	loop 1b
	mov RECORD, %r13
	mov 0x80(%rbx), %r12d
	mov %cr8, %r11
	xor %eax, %eax
	mov %rax, %cr8
	nop
	nop
	mov RECORD, %r14
	cli
	out %al, $PORT_END
END apic_tpr64

/* One-shot timer of the local APIC, vector 0x36. */
BEGIN apic_timer64
	mov $0xfee00000, %ebx
	movl $0x1ff, 0xf0(%rbx)
	movl $0xb, 0x3e0(%rbx)
	movl $0x36, 0x320(%rbx)
	movl $100000, 0x380(%rbx)
1:	sti
	hlt
	cli
	cmpq $0, RECORD
	je 1b
	mov 0x390(%rbx), %r11d
	out %al, $PORT_END
END apic_timer64

/* x2APIC: self-IPI, vector 0x37. */
BEGIN apic_x2apic64
	mov $0x1b, %ecx
	rdmsr
	or $0xc00, %eax
	wrmsr
	mov $0x80f, %ecx
	mov $0x1ff, %eax
	xor %edx, %edx
	wrmsr
	mov $0x802, %ecx
	rdmsr
	mov %eax, %r11d
	mov $0x83f, %ecx
	mov $0x37, %eax
	xor %edx, %edx
	sti
	wrmsr
	nop
	cli
	out %al, $PORT_END
END apic_x2apic64

/* Enables the local APIC and sleeps until an event comes, for ever. */
BEGIN apic_sleep64
	mov $0xfee00000, %ebx
	movl $0x1ff, 0xf0(%rbx)
	out %al, $PORT_READY
1:	sti
	hlt
	cli
	out %al, $PORT_READY
	jmp 1b
END apic_sleep64

	.section .note.GNU-stack, "", @progbits
