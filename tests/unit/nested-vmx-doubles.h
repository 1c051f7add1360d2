/* SPDX-License-Identifier: MIT */
/*
 * What the transitions of nested VMX call and a host test cannot have: memory of L1, the shadow MMU, the
 * first entry through a VMCS, and the log.
 */
#ifndef UMBRA_TESTS_UNIT_NESTED_VMX_DOUBLES_H
#define UMBRA_TESTS_UNIT_NESTED_VMX_DOUBLES_H

#include <setjmp.h>

#include "nested/vmx-vmcs02.h"

/* L1's RAM, from guest-physical address 0 on. */
enum { DOUBLE_MEMORY_BYTES = 0x10000 };
extern u8 double_memory[DOUBLE_MEMORY_BYTES];
/* What the memory operand of the next instruction of L1 has. */
extern u64 double_operand;
/* vmx_launch() jumps there. */
extern jmp_buf double_launched;

#endif
