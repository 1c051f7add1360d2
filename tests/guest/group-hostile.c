/* SPDX-License-Identifier: MIT */
/*
 * Group `hostile`: a guest kernel that does at random what it may, and what it may not, do at ring 0.
 * Whatever happens to it must be an exception in the guest; that it reaches its own last line is the test.
 * Repeatable: seed=N on the command line. Left out is only what would make the guest end itself on a bare
 * CPU.
 */
#include "tests/guest/hostile.h"

enum { ROUNDS = 4000, PAGE_PROBE = 60, MSR_APIC_BASE = 0x1b, MSR_EFER = 0xc0000080 };

static u32 random_msr(void)
{
    static const u32 bases[] = {0,          0x100,      0x400,      0x480,      0x500,      0x600,
                                0x700,      0xc00,      0xd00,      0x1200,     0x40000000, 0x4b564d00,
                                0xc0000080, 0xc0000100, 0xc0010000, 0xc0010100, 0xc0010200, 0xc0011000};
    if (hostile_random() % 8 == 0)
        return (u32)hostile_random();
    return bases[hostile_random() % ARRAY_SIZE(bases)] + (u32)(hostile_random() % 0x100);
}

static void msrs(void)
{
    u64 value, saved;
    unsigned refused = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        u32 msr = random_msr();
        u64 vector = try_rdmsr(msr, &saved);
        if (vector != NO_FAULT)
            refused++;
        if (hostile_deadly_msr(msr))
            continue;
        if (try_wrmsr(msr, hostile_odd_value()) == NO_FAULT && vector == NO_FAULT)
            try_wrmsr(msr, saved);
        try_rdmsr(msr, &value);
    }
    print("guest: fact hostile.msrs_refused %u of %u\n", refused, ROUNDS);
    check("hostile.msrs", refused < ROUNDS);
}

static void control_registers(void)
{
    u64 cr0 = read_cr0(), cr3 = read_cr3(), cr4 = read_cr4(), efer = rdmsr(MSR_EFER);
    for (unsigned i = 0; i < ROUNDS; i++) {
        try_write_cr0(cr0 ^ (hostile_odd_value() & ~(CR0_PG | CR0_PE)));
        write_cr0(cr0);
        if (!reserved_cr4_is_deadly()) {
            try_write_cr4(cr4 ^ (hostile_odd_value() & ~(CR4_PAE | CR4_CET)));
            write_cr4(cr4);
            try_write_cr3(cr3 | (hostile_odd_value() & (PAGE_MASK | BITS(63, physical_bits))));
            write_cr3(cr3);
        }
        /* NXE is in use and LME in force. */
        try_wrmsr(MSR_EFER, efer ^ (hostile_odd_value() & ~(EFER_NXE | EFER_LME | EFER_LMA)));
        wrmsr(MSR_EFER, efer);
        __asm__ volatile("mov %0, %%cr2" ::"r"(hostile_random()));
        try_wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | BITS(63, physical_bits));
    }
    check("hostile.control_registers", read_cr0() == cr0 && read_cr4() == cr4 && read_cr3() == cr3);
    if (!(cpuid(1, 0).ecx & BIT(26)))
        return;
    write_cr4(cr4 | CR4_OSXSAVE);
    for (unsigned i = 0; i < ROUNDS; i++)
        try_xsetbv((u32)(hostile_random() % 4 ? 0 : hostile_random()), hostile_odd_value());
    try_xsetbv(0, 1);
    write_cr4(cr4);
    check("hostile.xcr0", true);
}

static void hypercalls(void)
{
    static const u32 functions[] = {HYPERCALL_FEATURES,
                                    HYPERCALL_EXITS,
                                    HYPERCALL_TEST_PROTECT,
                                    HYPERCALL_TEST_LAST_VIOLATION,
                                    HYPERCALL_TEST_REGION,
                                    HYPERCALL_TEST_MEMORY_ACCESSES,
                                    3,
                                    0xff,
                                    0x105,
                                    0xffffffff};
    static u8 victim[PAGE_SIZE] __attribute__((aligned(4096)));
    if (!under_umbra)
        return;
    for (unsigned i = 0; i < ROUNDS; i++) {
        u32 function = functions[hostile_random() % ARRAY_SIZE(functions)];
        u64 start = hostile_odd_value(), end = hostile_odd_value();
        /* A valid range would take permissions from this guest's own code, which opens it again: slow, not
         * wrong. */
        if (function == HYPERCALL_TEST_PROTECT && end > start && end - start > MIB(1))
            end = start + MIB(1);
        hypercall(function, start, end, hostile_random() % 4 ? 15 : hostile_odd_value());
    }
    hypercall(HYPERCALL_TEST_PROTECT, (u64)victim, (u64)victim + PAGE_SIZE, 0);
    check_eq("hostile.hypercalls", *(volatile u8 *)victim, 0);
}

/* Every power of two and much in between, to the end of the physical address space: RAM, holes, devices,
 * Umbra. */
static void physical_memory(void)
{
    u64 limit = BIT(physical_bits < 52 ? physical_bits : 52), value;
    unsigned faults = 0;
    for (unsigned bit = 20; bit < physical_bits; bit++) {
        for (unsigned i = 0; i < 8; i++) {
            u64 address = (BIT(bit) + (hostile_random() & (BIT(bit) - 1))) & (limit - 1) & ~PAGE_MASK;
            void *page = window_map(PAGE_PROBE, address, PTE_P | PTE_W | PTE_PCD);
            if (try_read64((u64)page + 8 * (hostile_random() % 256), &value) != NO_FAULT)
                faults++;
        }
    }
    void *last = window_map(PAGE_PROBE, limit - PAGE_SIZE, PTE_P | PTE_PCD);
    if (try_read64((u64)last + 0xff8, &value) != NO_FAULT)
        faults++;
    check_eq("hostile.physical_memory", faults, 0);
}

static void umbra_memory(void)
{
    u64 start, end, value;
    bool ones = true;
    if (!umbra_region(&start, &end))
        return;
    for (unsigned i = 0; i < ROUNDS / 4; i++) {
        /* Few pages, as Umbra says a line for each, spread over all of the region. */
        u64 page = align_down(start + (end - start) / 16 * (hostile_random() % 16), PAGE_SIZE);
        u64 address = (u64)window_map(PAGE_PROBE, page, PTE_P | PTE_W) + 8 * (hostile_random() % 512);
        try_write64(address, hostile_random());
        ones = ones && try_read64(address, &value) == NO_FAULT && value == ~0ull;
        u64 base = rdmsr(MSR_APIC_BASE);
        if (try_wrmsr(MSR_APIC_BASE, (base & PAGE_MASK) | page) == NO_FAULT) {
            wrmsr(MSR_APIC_BASE, base);
            ones = false;
        }
    }
    check("hostile.umbra_memory", ones);
}

/* Virtualization instructions with operands of every kind, and random bytes after 0F 01 and 0F C7. */
static void instructions(void)
{
    unsigned survived = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        u8 bytes[5] = {0x0f, 0x01, 0, 0, 0};
        enum code_mode mode = hostile_random() % 4;
        /* The register forms C0 to DF hold all the virtualization instructions; no XSETBV, MONITOR or SWAPGS
         * here. */
        static const u8 forms[] = {0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xcf, 0xd4,
                                   0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf};
        static const u8 others[][4] = {{0x0f, 0x78, 0xd8, 0x90}, {0x0f, 0x79, 0xd8, 0x90},
                                       {0x0f, 0xc7, 0x36, 0x90}, {0x66, 0x0f, 0xc7, 0x36},
                                       {0xf3, 0x0f, 0xc7, 0x36}, {0x0f, 0xc7, 0x3e, 0x90},
                                       {0x0f, 0x37, 0x90, 0x90}, {0x0f, 0xaa, 0x90, 0x90}};
        if (hostile_random() % 2)
            bytes[2] = forms[hostile_random() % ARRAY_SIZE(forms)];
        else
            memcpy(bytes, others[hostile_random() % ARRAY_SIZE(others)], 4);
        struct code code = {.bytes = (const char *)bytes,
                            .size = 4,
                            .rax = hostile_odd_value(),
                            .rbx = hostile_odd_value(),
                            .rcx = hostile_odd_value(),
                            .rdx = hostile_odd_value(),
                            .rsi = hostile_odd_value(),
                            .rdi = hostile_odd_value()};
        bytes[3] = bytes[3] ? bytes[3] : 0x90;
        if (execute(mode, &code) == VECTOR_DONE)
            survived++;
    }
    check_eq("hostile.instructions_all_fault", survived, 0);
}

static void cpuid_everywhere(void)
{
    for (unsigned i = 0; i < ROUNDS; i++)
        cpuid((u32)hostile_odd_value(), (u32)hostile_odd_value());
    check("hostile.cpuid", true);
}

void group_hostile(void)
{
    const char *seed = option(boot.command_line, "seed");
    u64 value = seed ? number(seed, NULL) : 1;

    print("guest: hostile seed %lu\n", value);
    hostile_seed(value);
    cpuid_everywhere();
    msrs();
    control_registers();
    physical_memory();
    umbra_memory();
    instructions();
    hypercalls();
    check("hostile.still_alive", true);
}
