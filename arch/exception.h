/* SPDX-License-Identifier: MIT */
/*
 * Exceptions and NMIs that hit Umbra itself. An exception is fatal and fully reported unless the instruction
 * has an entry in the fix-up table; an NMI is handed to the vendor's hook; interrupts never come, since Umbra
 * never sets RFLAGS.IF.
 */
#ifndef UMBRA_ARCH_EXCEPTION_H
#define UMBRA_ARCH_EXCEPTION_H

#include "arch/percpu.h"
#include "arch/types.h"
#include "arch/x86.h"

/* What arch/exception-entry.S leaves on the stack, lowest address first. */
struct exception_frame {
    u64 gpr[GPR_COUNT]; /* the slot of RSP is not valid: see rsp */
    u64 vector;
    u64 error_code; /* 0 where the exception has none */
    u64 rip, cs, rflags, rsp, ss;
};

void exception_handler(struct exception_frame *frame);

/* Fills the IDT; once, before cpu_tables_load(). */
void idt_init(void);

/* Tops of a CPU's stacks, 16-byte aligned: for exits, for NMIs, and for #DF and #MC. */
struct cpu_stacks {
    u64 exit, nmi, fault;
};

/* Loads GDT, TSS, IDT and the GS base of this CPU, for good or until it is called with another structure. */
void cpu_tables_load(struct percpu *cpu, const struct cpu_stacks *stacks);

#endif
