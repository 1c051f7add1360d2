/* SPDX-License-Identifier: MIT */
/* CPUID, and register accesses that report an exception instead of dying of it. */
#include "tests/guest/guest.h"

bool is_intel;
unsigned physical_bits;

struct cpuid cpuid(u32 leaf, u32 subleaf)
{
    struct cpuid out;
    __asm__ volatile("cpuid"
                     : "=a"(out.eax), "=b"(out.ebx), "=c"(out.ecx), "=d"(out.edx)
                     : "a"(leaf), "c"(subleaf));
    return out;
}

void cpu_init(void)
{
    is_intel = cpuid(0, 0).ebx == 0x756e6547; /* "Genu" */
    physical_bits = cpuid(0x80000008, 0).eax & 0xff;
}

bool on_tcg(void)
{
    struct cpuid leaf = cpuid(0x40000000, 0);
    return leaf.ebx == 0x54474354 && leaf.ecx == 0x43544743; /* "TCGTCGTCGTCG" */
}

bool reserved_cr4_is_deadly(void)
{
    return on_tcg();
}

bool on_bochs(void)
{
    /* Bochs's port_e9_hack and its absence alike leave no mark in CPUID; no other emulator of ours shows an
     * Intel CPU. */
    return !on_tcg();
}

u64 try_rdmsr(u32 msr, u64 *value)
{
    u32 low = 0, high = 0;
    fault.vector = NO_FAULT;
    __asm__ volatile(FAULTABLE("rdmsr") : "+a"(low), "+d"(high) : "c"(msr) : "memory");
    *value = (u64)high << 32 | low;
    return fault.vector;
}

u64 try_wrmsr(u32 msr, u64 value)
{
    fault.vector = NO_FAULT;
    __asm__ volatile(FAULTABLE("wrmsr")::"c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
    return fault.vector;
}

u64 rdmsr(u32 msr)
{
    u64 value;
    if (try_rdmsr(msr, &value) != NO_FAULT)
        give_up("an MSR that must be there can be read");
    return value;
}

void wrmsr(u32 msr, u64 value)
{
    if (try_wrmsr(msr, value) != NO_FAULT)
        give_up("an MSR that must be there can be written");
}

u64 try_write_cr0(u64 value)
{
    fault.vector = NO_FAULT;
    __asm__ volatile(FAULTABLE("mov %0, %%cr0")::"r"(value) : "memory");
    return fault.vector;
}

u64 try_write_cr3(u64 value)
{
    fault.vector = NO_FAULT;
    __asm__ volatile(FAULTABLE("mov %0, %%cr3")::"r"(value) : "memory");
    return fault.vector;
}

u64 try_write_cr4(u64 value)
{
    fault.vector = NO_FAULT;
    __asm__ volatile(FAULTABLE("mov %0, %%cr4")::"r"(value) : "memory");
    return fault.vector;
}

u64 try_xsetbv(u32 index, u64 value)
{
    fault.vector = NO_FAULT;
    __asm__ volatile(FAULTABLE("xsetbv")::"c"(index), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
    return fault.vector;
}

u64 try_read64(u64 address, u64 *value)
{
    u64 read = 0;
    fault.vector = NO_FAULT;
    __asm__ volatile(FAULTABLE("movq (%1), %0") : "+r"(read) : "r"(address) : "memory");
    *value = read;
    return fault.vector;
}

u64 try_write64(u64 address, u64 value)
{
    fault.vector = NO_FAULT;
    __asm__ volatile(FAULTABLE("movq %1, (%0)")::"r"(address), "r"(value) : "memory");
    return fault.vector;
}
