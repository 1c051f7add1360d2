/* SPDX-License-Identifier: MIT */
/*
 * Group `facts`: prints what this CPU says about itself, CPUID leaves and MSRs, one `guest: fact` line each,
 * for a comparison of a bare run with one under Umbra. It judges nothing itself.
 */
#include "tests/guest/guest.h"

static void cpuid_fact(u32 leaf, u32 subleaf)
{
    struct cpuid out = cpuid(leaf, subleaf);
    if (!(out.eax | out.ebx | out.ecx | out.edx))
        return;
    print("guest: fact cpuid.%08x.%x eax=%08x ebx=%08x ecx=%08x edx=%08x\n", leaf, subleaf, out.eax, out.ebx,
          out.ecx, out.edx);
}

static u32 last_subleaf(u32 leaf)
{
    switch (leaf) {
    case 4:
    case 0xb:
    case 0xf:
    case 0x10:
    case 0x12:
    case 0x14:
    case 0x17:
    case 0x18:
    case 0x1f:
    case 0x8000001d:
        return 4;
    case 7:
    case 0x20:
        return 2;
    case 0xd:
        return 63;
    default:
        return 0;
    }
}

static void cpuid_range(u32 first, u32 most)
{
    u32 last = cpuid(first, 0).eax;
    if (last < first || last - first > most)
        last = first;
    for (u32 leaf = first; leaf <= last; leaf++) {
        for (u32 subleaf = 0; subleaf <= last_subleaf(leaf); subleaf++)
            cpuid_fact(leaf, subleaf);
    }
}

struct msr_range {
    u32 first, last;
    bool moving; /* the value changes by itself: only whether it can be read is a fact */
};

/* Intel and AMD alike: an MSR that a CPU lacks is #GP, which is a fact too. */
static const struct msr_range msr_ranges[] = {
    {0x0, 0x1, false},
    {0x10, 0x10, true},
    {0x17, 0x17, false},
    {0x1b, 0x1b, false},
    {0x34, 0x34, true},
    {0x3a, 0x3b, false},
    {0x48, 0x49, false},
    {0x79, 0x79, false},
    {0x8b, 0x8b, false},
    {0x9b, 0x9b, false},
    {0xc1, 0xc8, true},
    {0xce, 0xcf, false},
    {0xe1, 0xe1, false},
    {0xe2, 0xe2, false},
    {0xe7, 0xe8, true},
    {0xfe, 0xfe, false},
    {0x10a, 0x10b, false},
    {0x122, 0x123, false},
    {0x174, 0x176, false},
    {0x179, 0x17b, false},
    {0x186, 0x18d, false},
    {0x198, 0x19c, false},
    {0x1a0, 0x1a2, false},
    {0x1a4, 0x1a7, false},
    {0x1b0, 0x1b2, false},
    {0x1c4, 0x1c5, false},
    {0x1c8, 0x1c9, false},
    {0x1d9, 0x1e0, false},
    {0x1f2, 0x1f3, false},
    {0x1f8, 0x1fc, false},
    {0x200, 0x213, false},
    {0x250, 0x250, false},
    {0x258, 0x259, false},
    {0x268, 0x26f, false},
    {0x277, 0x277, false},
    {0x280, 0x283, false},
    {0x2ff, 0x2ff, false},
    {0x309, 0x30c, true},
    {0x345, 0x345, false},
    {0x38d, 0x390, false},
    {0x3f1, 0x3f1, false},
    {0x400, 0x413, false},
    {0x480, 0x493, false},
    {0x4c1, 0x4c8, true},
    {0x4d0, 0x4d0, false},
    {0x500, 0x500, false},
    {0x560, 0x561, false},
    {0x570, 0x572, false},
    {0x580, 0x587, false},
    {0x600, 0x600, false},
    {0x606, 0x606, false},
    {0x611, 0x611, true},
    {0x6a0, 0x6a8, false},
    {0x6e0, 0x6e1, false},
    {0x770, 0x774, false},
    {0x7a3, 0x7a5, false},
    {0x802, 0x803, false},
    {0x808, 0x808, false},
    {0x80a, 0x80a, true},
    {0x80d, 0x80f, false},
    {0x828, 0x828, false},
    {0x832, 0x838, false},
    {0x839, 0x839, true},
    {0x83e, 0x83e, false},
    {0xc80, 0xc81, false},
    {0xc8d, 0xc90, false},
    {0xd10, 0xd11, false},
    {0xd90, 0xd90, false},
    {0xda0, 0xda0, false},
    {0x1200, 0x1201, false},
    {0x14ce, 0x14cf, false},
    {0x17d0, 0x17d4, false},
    {0xc0000080, 0xc0000084, false},
    {0xc0000100, 0xc0000104, false},
    {0xc0000108, 0xc0000108, false},
    {0xc0000300, 0xc0000302, false},
    {0xc0010000, 0xc0010007, false},
    {0xc0010010, 0xc0010010, false},
    {0xc0010015, 0xc001001f, false},
    {0xc0010020, 0xc0010020, false},
    {0xc0010030, 0xc0010035, false},
    {0xc0010055, 0xc0010055, false},
    {0xc0010058, 0xc0010058, false},
    {0xc0010061, 0xc001006b, false},
    {0xc0010111, 0xc0010119, false},
    {0xc0010130, 0xc0010131, false},
    {0xc0010140, 0xc0010141, false},
    {0xc0011000, 0xc0011005, false},
    {0xc0011020, 0xc001102d, false},
};

static void msr_fact(u32 msr, bool moving)
{
    u64 value;
    u64 vector = try_rdmsr(msr, &value);
    if (vector == EXC_GP)
        print("guest: fact msr.%08x #GP\n", msr);
    else if (vector != NO_FAULT)
        print("guest: fact msr.%08x vector %lu\n", msr, vector);
    else if (moving)
        print("guest: fact msr.%08x readable\n", msr);
    else
        print("guest: fact msr.%08x %lx\n", msr, value);
}

void group_facts(void)
{
    cpuid_range(0, 0x40);
    cpuid_fact(0x40, 0);
    cpuid_range(0x40000000, 0x10);
    cpuid_range(0x80000000, 0x40);
    cpuid_fact(0xc0000000, 0);
    cpuid_fact(0xffffffff, 0);
    for (size_t i = 0; i < ARRAY_SIZE(msr_ranges); i++) {
        for (u32 msr = msr_ranges[i].first; msr <= msr_ranges[i].last; msr++)
            msr_fact(msr, msr_ranges[i].moving);
    }
    fact("cr0", read_cr0());
    fact("cr4", read_cr4());
    check("facts.printed", true);
}
