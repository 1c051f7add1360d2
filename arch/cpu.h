/* SPDX-License-Identifier: MIT */
/*
 * One inline function per privileged or otherwise unspeakable x86 instruction. Nothing here decides
 * anything; the constants that the instructions take are in arch/msr.h and arch/x86.h.
 */
#ifndef UMBRA_ARCH_CPU_H
#define UMBRA_ARCH_CPU_H

#include "arch/types.h"

struct cpuid_regs {
    u32 eax, ebx, ecx, edx;
};

static inline struct cpuid_regs cpuid(u32 leaf, u32 subleaf)
{
    struct cpuid_regs r;
    __asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
    return r;
}

static inline u64 rdmsr(u32 msr)
{
    u32 lo, hi;
    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return (u64)hi << 32 | lo;
}

static inline void wrmsr(u32 msr, u64 value)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

/* As rdmsr and wrmsr, but a #GP of the CPU is caught: false, and *value is untouched. */
bool rdmsr_safe(u32 msr, u64 *value);
bool wrmsr_safe(u32 msr, u64 value);
/* XSETBV of XCR `index`; false if the CPU raised #GP. CR4.OSXSAVE must be set. */
bool xsetbv_safe(u32 index, u64 value);

static inline u64 xgetbv(u32 index)
{
    u32 lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(index));
    return (u64)hi << 32 | lo;
}

/* RDTSC clears the upper halves of both registers in 64-bit mode (SDM vol. 2B). */
static inline u64 read_tsc(void)
{
    u64 lo, hi;
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return hi << 32 | lo;
}

#define UMBRA_CR_ACCESS(n)                                                                                   \
    static inline u64 read_cr##n(void)                                                                       \
    {                                                                                                        \
        u64 value;                                                                                           \
        __asm__ volatile("mov %%cr" #n ", %0" : "=r"(value));                                                \
        return value;                                                                                        \
    }                                                                                                        \
    static inline void write_cr##n(u64 value)                                                                \
    {                                                                                                        \
        __asm__ volatile("mov %0, %%cr" #n : : "r"(value) : "memory");                                       \
    }
UMBRA_CR_ACCESS(0)
UMBRA_CR_ACCESS(2)
UMBRA_CR_ACCESS(3)
UMBRA_CR_ACCESS(4)
UMBRA_CR_ACCESS(8)
#undef UMBRA_CR_ACCESS

#define UMBRA_DR_ACCESS(n)                                                                                   \
    static inline u64 read_dr##n(void)                                                                       \
    {                                                                                                        \
        u64 value;                                                                                           \
        __asm__ volatile("mov %%dr" #n ", %0" : "=r"(value));                                                \
        return value;                                                                                        \
    }                                                                                                        \
    static inline void write_dr##n(u64 value)                                                                \
    {                                                                                                        \
        __asm__ volatile("mov %0, %%dr" #n : : "r"(value));                                                  \
    }
UMBRA_DR_ACCESS(6)
UMBRA_DR_ACCESS(7)
#undef UMBRA_DR_ACCESS

static inline u8 inb(u16 port)
{
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void outb(u16 port, u8 value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline void invlpg(const void *address)
{
    __asm__ volatile("invlpg (%0)" : : "r"(address) : "memory");
}

static inline void wbinvd(void)
{
    __asm__ volatile("wbinvd" : : : "memory");
}

static inline void cpu_relax(void)
{
    __asm__ volatile("pause");
}

static inline _Noreturn void cpu_stop(void)
{
    for (;;)
        __asm__ volatile("cli; hlt");
}

/* Descriptor-table registers as SGDT, SIDT and LGDT, LIDT take them in 64-bit mode. */
struct descriptor_pointer {
    u16 limit;
    u64 base;
} __attribute__((packed));

#endif
