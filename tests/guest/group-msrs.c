/* SPDX-License-Identifier: MIT */
/* Group `msrs`: reads and writes of the MSRs that a guest uses, values that a CPU refuses, XCR0, and the
 * time-stamp counter. */
#include "tests/guest/guest.h"

enum {
    MSR_TSC = 0x10,
    MSR_APIC_BASE = 0x1b,
    MSR_MICROCODE = 0x8b,
    MSR_MTRR_CAP = 0xfe,
    MSR_SYSENTER_EIP = 0x176,
    MSR_MTRR_BASE0 = 0x200,
    MSR_MTRR_MASK0 = 0x201,
    MSR_MTRR_FIX64K = 0x250,
    MSR_PAT = 0x277,
    MSR_MTRR_DEF_TYPE = 0x2ff,
    MSR_EFER = 0xc0000080,
    MSR_LSTAR = 0xc0000082,
    MSR_FS_BASE = 0xc0000100,
    MSR_KERNEL_GS_BASE = 0xc0000102,
    MSR_TSC_AUX = 0xc0000103,
};

static void read_back(const char *name, u32 msr, u64 value)
{
    u64 saved, got = 0;
    bool good = try_rdmsr(msr, &saved) == NO_FAULT && try_wrmsr(msr, value) == NO_FAULT &&
                try_rdmsr(msr, &got) == NO_FAULT;
    if (good)
        good = try_wrmsr(msr, saved) == NO_FAULT;
    check(name, good && got == value);
}

static void refused(const char *name, u32 msr, u64 value)
{
    u64 before, after = 0;
    bool readable = try_rdmsr(msr, &before) == NO_FAULT;
    u64 vector = try_wrmsr(msr, value);
    check_eq(name, vector, EXC_GP);
    if (vector == NO_FAULT && readable)
        try_wrmsr(msr, before);
    else if (readable && try_rdmsr(msr, &after) == NO_FAULT && before != after)
        check(name, false);
}

static void memory_types(void)
{
    read_back("msrs.pat", MSR_PAT, 0x0007010600070406);
    refused("msrs.pat_type_2", MSR_PAT, 0x0007010600070402);
    refused("msrs.pat_type_3", MSR_PAT, 0x0307040600070406);
    refused("msrs.pat_high_bits", MSR_PAT, 0x0807040600070406);
    u64 type = rdmsr(MSR_MTRR_DEF_TYPE);
    read_back("msrs.mtrr_def_type", MSR_MTRR_DEF_TYPE, (type & ~0xffull) | ((type & 0xff) == 6 ? 0 : 6));
    refused("msrs.mtrr_def_type_reserved", MSR_MTRR_DEF_TYPE, type | BIT(13));
    refused("msrs.mtrr_def_type_bad_type", MSR_MTRR_DEF_TYPE, (type & ~0xffull) | 2);
    refused("msrs.mtrr_base_bad_type", MSR_MTRR_BASE0, 2);
    refused("msrs.mtrr_base_too_high", MSR_MTRR_BASE0, BIT(physical_bits));
    refused("msrs.mtrr_mask_reserved", MSR_MTRR_MASK0, BIT(10));
    refused("msrs.mtrr_fixed_bad_type", MSR_MTRR_FIX64K, 2);
    refused("msrs.mtrr_cap_read_only", MSR_MTRR_CAP, 0);
    read_back("msrs.mtrr_base", MSR_MTRR_BASE0, 0x40000000);
    read_back("msrs.mtrr_fixed", MSR_MTRR_FIX64K, 0x0606060606060606);
}

static void addresses_and_efer(void)
{
    u64 efer = rdmsr(MSR_EFER);
    read_back("msrs.lstar", MSR_LSTAR, 0xffffffff81000000);
    read_back("msrs.kernel_gs_base", MSR_KERNEL_GS_BASE, 0xffff888000000000);
    read_back("msrs.fs_base", MSR_FS_BASE, 0x00007fffffffffff);
    read_back("msrs.sysenter_eip", MSR_SYSENTER_EIP, 0x12345678);
    refused("msrs.efer_reserved", MSR_EFER, efer | BIT(9));
    refused("msrs.efer_high", MSR_EFER, efer | BIT(40));
    refused("msrs.lstar_not_canonical", MSR_LSTAR, 0x8000000000000000);
    refused("msrs.kernel_gs_base_not_canonical", MSR_KERNEL_GS_BASE, 0x8000000000000000);
    if (on_tcg())
        note_skipped("msrs.efer_lme_with_paging", "TCG would leave long mode");
    else
        refused("msrs.efer_lme_with_paging", MSR_EFER, efer & ~EFER_LME);
    read_back("msrs.efer_sce", MSR_EFER, efer ^ EFER_SCE);
    if (cpuid(0x80000001, 0).edx & BIT(27)) {
        read_back("msrs.tsc_aux", MSR_TSC_AUX, 0x89abcdef);
        wrmsr(MSR_TSC_AUX, 77);
        u32 aux;
        __asm__ volatile("rdtscp" : "=c"(aux)::"eax", "edx");
        check_eq("msrs.rdtscp", aux, 77);
    }
}

static void unknown(void)
{
    static const u32 numbers[] = {0x5,        0x2000,     0x12345678, 0x40000000, 0x4b564d00, 0x4b564d01,
                                  0x4000007f, 0xbfffffff, 0xc0004000, 0xc0012000, 0xffffffff};
    char name[64];
    u64 value;
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        print_to(name, sizeof(name), "msrs.unknown_%x_read", numbers[i]);
        check_eq(name, try_rdmsr(numbers[i], &value), EXC_GP);
        print_to(name, sizeof(name), "msrs.unknown_%x_write", numbers[i]);
        check_eq(name, try_wrmsr(numbers[i], 0), EXC_GP);
    }
    const struct code rdmsr3 = {CODE("\x0f\x32"), .rcx = MSR_TSC},
                      wrmsr3 = {CODE("\x0f\x30"), .rcx = MSR_PAT};
    check_eq("msrs.rdmsr_ring3", execute(RING3_64, &rdmsr3), EXC_GP);
    check_eq("msrs.rdmsr_ring3_error", fault.error, 0);
    check_eq("msrs.wrmsr_ring3", execute(RING3_64, &wrmsr3), EXC_GP);
    const struct code rdmsr_unknown = {CODE("\x0f\x32"), .rcx = 0x12345678, .rax = 7, .rdx = 8};
    u64 vector = execute(RING0_64, &rdmsr_unknown);
    check("msrs.refused_read_changes_nothing", vector == EXC_GP && fault.error == 0 && fault.frame.rax == 7 &&
                                                   fault.frame.rdx == 8 &&
                                                   fault.frame.rip == execute_address(RING0_64));
}

/* The order in which an operating system asks for its microcode revision. */
static void microcode(void)
{
    u64 first, second;
    u64 vector = try_rdmsr(MSR_MICROCODE, &first);
    if (is_intel) {
        u64 write = try_wrmsr(MSR_MICROCODE, 0);
        cpuid(1, 0);
        check("msrs.microcode_sequence",
              vector == NO_FAULT && write == NO_FAULT && try_rdmsr(MSR_MICROCODE, &second) == NO_FAULT);
        print("guest: fact msrs.microcode %lx\n", second);
    } else {
        print("guest: fact msrs.microcode vector %lx value %lx\n", vector, vector == NO_FAULT ? first : 0);
    }
}

static u64 xgetbv(u32 index)
{
    u32 low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(index));
    return (u64)high << 32 | low;
}

static void xcr0(void)
{
    u64 cr4 = read_cr4();
    const struct code code = {CODE("\x0f\x01\xd1"), .rax = 1};
    if (!(cpuid(1, 0).ecx & BIT(26))) {
        note_skipped("msrs.xcr0", "no XSAVE");
        return;
    }
    check_eq("msrs.xsetbv_without_osxsave", try_xsetbv(0, 1), EXC_UD);
    write_cr4(cr4 | CR4_OSXSAVE);
    u64 saved = xgetbv(0);
    struct cpuid leaf = cpuid(0xd, 0);
    u64 supported = (u64)leaf.edx << 32 | leaf.eax;
    print("guest: fact msrs.xcr0_supported %lx\n", supported);
    check_eq("msrs.xcr0_all", try_xsetbv(0, supported), NO_FAULT);
    check_eq("msrs.xcr0_read_back", xgetbv(0), supported);
    check_eq("msrs.xsave_area_follows_xcr0", cpuid(0xd, 0).ebx, cpuid(0xd, 0).ecx);
    check_eq("msrs.xcr0_x87_only", try_xsetbv(0, 1), NO_FAULT);
    check_eq("msrs.xsave_area_of_x87", cpuid(0xd, 0).ebx, 576);
    check_eq("msrs.xcr0_zero", try_xsetbv(0, 0), EXC_GP);
    check_eq("msrs.xcr0_without_x87", try_xsetbv(0, 2), EXC_GP);
    check_eq("msrs.xcr0_avx_without_sse", try_xsetbv(0, 5), EXC_GP);
    check_eq("msrs.xcr0_bit_63", try_xsetbv(0, BIT(63) | 1), EXC_GP);
    check_eq("msrs.xcr0_unsupported", try_xsetbv(0, supported | BIT(60)), EXC_GP);
    check_eq("msrs.xcr1", try_xsetbv(1, 1), EXC_GP);
    check_eq("msrs.xcr_number", try_xsetbv(0xffffffff, 1), EXC_GP);
    check_eq("msrs.xcr0_unchanged", xgetbv(0), 1);
    check_eq("msrs.xsetbv_ring3", execute(RING3_64, &code), EXC_GP);
    check_eq("msrs.xsetbv_ring0-32", execute(RING0_32, &code), VECTOR_DONE);
    check_eq("msrs.xcr0_restored", try_xsetbv(0, saved), NO_FAULT);
    write_cr4(cr4);
}

static void time_stamp(void)
{
    u64 last = rdtsc();
    bool rising = true;
    for (unsigned i = 0; i < 1000; i++) {
        u64 now = rdtsc();
        rising = rising && now > last;
        last = now;
        if (i % 100 == 0)
            cpuid(0, 0);
    }
    check("msrs.tsc_rises", rising);
    u64 from_msr = rdmsr(MSR_TSC), after = rdtsc();
    check("msrs.tsc_msr_agrees", from_msr > last && after > from_msr && after - from_msr < 1000000000);
    const struct code code = {CODE("\x0f\x31")};
    u64 cr4 = read_cr4();
    write_cr4(cr4 | CR4_TSD);
    check_eq("msrs.rdtsc_ring3_with_tsd", execute(RING3_64, &code), EXC_GP);
    write_cr4(cr4);
    check_eq("msrs.rdtsc_ring3", execute(RING3_64, &code), VECTOR_DONE);
    u64 before = rdtsc();
    wrmsr(MSR_TSC, before + BIT(40));
    check("msrs.tsc_write", rdtsc() - before >= BIT(40));
}

static void apic_base(void)
{
    u64 base = rdmsr(MSR_APIC_BASE), start, end;
    check_eq("msrs.apic_base_at_reset_address", base & BITS(35, 12), 0xfee00000);
    check("msrs.apic_base_enabled", (base & BIT(11)) != 0);
    if (!umbra_region(&start, &end))
        return;
    check_eq("msrs.apic_base_over_umbra",
             try_wrmsr(MSR_APIC_BASE, (base & PAGE_MASK) | align_down(start, PAGE_SIZE)), EXC_GP);
    check_eq("msrs.apic_base_unchanged", rdmsr(MSR_APIC_BASE), base);
}

/* Counters are the guest's own: if the CPU has them, one that counts instructions must move. */
static void performance_counters(void)
{
    u64 value;
    if (!is_intel || (cpuid(0xa, 0).eax & 0xff) == 0) {
        note_skipped("msrs.performance_counters", "no architectural PMU");
        return;
    }
    check_eq("msrs.perf_event_select", try_wrmsr(0x186, 0), NO_FAULT);
    check_eq("msrs.perf_counter", try_rdmsr(0xc1, &value), NO_FAULT);
}

void group_msrs(void)
{
    memory_types();
    addresses_and_efer();
    unknown();
    microcode();
    xcr0();
    time_stamp();
    apic_base();
    performance_counters();
}
