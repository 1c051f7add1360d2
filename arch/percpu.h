/* SPDX-License-Identifier: MIT */
/*
 * What each CPU has for itself. Reached through GS, whose base Umbra sets on each CPU and at each VM exit.
 */
#ifndef UMBRA_ARCH_PERCPU_H
#define UMBRA_ARCH_PERCPU_H

#include "arch/types.h"

struct vcpu;

/* 64-bit TSS, SDM vol. 3A 8.7. */
struct tss {
    u32 reserved0;
    u64 rsp[3];
    u64 reserved1;
    u64 ist[7];
    u64 reserved2;
    u16 reserved3;
    u16 io_map_base;
} __attribute__((packed));

/* Umbra's selectors; the same on each CPU. */
enum {
    SELECTOR_CODE = 0x08,
    SELECTOR_DATA = 0x10,
    SELECTOR_TSS = 0x18, /* two slots */
    GDT_SLOTS = 5,
};

struct percpu {
    struct percpu *self; /* first: read through GS:0 */
    struct vcpu *vcpu;
    unsigned index;
    u64 stack_top; /* 16-byte aligned; the stack on which exits are handled */
    u64 gdt[GDT_SLOTS];
    struct tss tss;
    /* Called by the NMI handler, which runs on its own stack at any instruction of Umbra; NULL before the
     * vendor sets it. */
    void (*nmi_hook)(struct vcpu *vcpu);
    bool init_came; /* as #SX, and is taken out of here by svm/ */
    u8 *local_apic; /* drivers/local-apic.h; NULL on a machine with one CPU */
};

static inline struct percpu *this_cpu(void)
{
    struct percpu *cpu;
    __asm__("mov %%gs:0, %0" : "=r"(cpu));
    return cpu;
}

/* The IDT, shared by all CPUs: what the VMCS host state needs. */
u64 idt_base(void);

#endif
