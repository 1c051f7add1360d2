/* SPDX-License-Identifier: MIT */
/*
 * Offsets of structure members for assembly, so that none is typed by hand: compiled to assembly only, from
 * which the Makefile takes the marked lines into asm-offsets.h. Never linked.
 */
#include "arch/percpu.h"
#include "vcpu/vcpu.h"

#define DEFINE(name, value) __asm__ volatile("\n->" #name " %0" : : "i"(value))

#define DEFINE_GPR(reg)     DEFINE(VCPU_GPR_##reg, offsetof(struct vcpu, gpr) + GPR_##reg * sizeof(u64))

void asm_offsets(void);

void asm_offsets(void)
{
    DEFINE_GPR(RAX);
    DEFINE_GPR(RCX);
    DEFINE_GPR(RDX);
    DEFINE_GPR(RBX);
    DEFINE_GPR(RSP);
    DEFINE_GPR(RBP);
    DEFINE_GPR(RSI);
    DEFINE_GPR(RDI);
    DEFINE_GPR(R8);
    DEFINE_GPR(R9);
    DEFINE_GPR(R10);
    DEFINE_GPR(R11);
    DEFINE_GPR(R12);
    DEFINE_GPR(R13);
    DEFINE_GPR(R14);
    DEFINE_GPR(R15);

    DEFINE(PERCPU_SELF, offsetof(struct percpu, self));
    DEFINE(PERCPU_STACK_TOP, offsetof(struct percpu, stack_top));
    DEFINE(PERCPU_VCPU, offsetof(struct percpu, vcpu));
}
