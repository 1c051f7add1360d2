/* SPDX-License-Identifier: MIT */
/*
 * What L2's code in assembly and the client in C share: ports, the record of events, and how a snippet begins
 * and ends.
 */
#ifndef KVM_CLIENT_L2_H
#define KVM_CLIENT_L2_H

/* What L2 says by writing to a port. */
#define PORT_END        0xe0
#define PORT_UNEXPECTED 0xe1
#define PORT_VALUE      0xe2
#define PORT_READY      0xe3
#define PORT_COUNT      0xe4

/* Bits of the record's flags, which steer the exception stubs. */
#define EOI_PIC    1
#define EOI_APIC   2
#define NMI_TELLS  4
#define EOI_X2APIC 8

/* Guest-physical address of struct l2_record, and its fields. */
#define RECORD        0x800
#define RECORD_VECTOR 8
#define RECORD_ERROR  16
#define RECORD_RIP    24
#define RECORD_CS     32
#define RECORD_RFLAGS 40
#define RECORD_RSP    48
#define RECORD_CR2    56
#define RECORD_FLAGS  64
#define RECORD_LOG    72

#ifdef __ASSEMBLER__
/* clang-format off */
	.macro BEGIN name
	.section .rodata
	.globl l2_\name
	.balign 16
l2_\name:
	.endm

	.macro END name
	.globl l2_\name\()_end
l2_\name\()_end:
	.endm
/* clang-format on */
#endif

#endif
