/* SPDX-License-Identifier: MIT */
/*
 * Group `paging-legacy`: as group `paging`, for PAE and 32-bit tables. Each access is a trip out of long mode
 * (legacy.S), at CPL 0; WP, SMEP, SMAP and, in PAE, NXE are on and off.
 */
#include "arch/msr.h"
#include "tests/guest/guest.h"
#include "tests/guest/oracle.h"
#include "tests/unit/random.h"

enum { CONFIGURATIONS = 40, REPORTED_MAX = 3, DATA = 256, GATES = EXC_PF + 1, GATE_INTERRUPT_32 = 0x8e00 };
#define SLOT 0xc0000000u /* where the page is: its place in the last GByte of linear addresses */

struct legacy_access {
    u32 cr3, cr4, linear, kind; /* enum oracle_kind */
    u32 vector, error, cr2;
};

struct pointer32 {
    u16 limit;
    u32 base;
} __attribute__((packed));

extern u64 directories[4 * 512];
extern const u8 legacy_page_fault[];
extern struct pointer32 legacy_idt_pointer;
void trip_access(struct legacy_access *access);

struct pointer32 legacy_idt_pointer;
static u64 idt[GATES];
static u8 page[PAGE_SIZE] __attribute__((aligned(4096)));
static u64 pae_pointers[4] __attribute__((aligned(32)));
static u64 pae_tables[3][512] __attribute__((aligned(4096)));     /* [level] */
static u32 legacy_tables[3][1024] __attribute__((aligned(4096))); /* [level] */
static struct oracle_machine machine;
static bool pae;
static u64 entries[3];
static unsigned leaf_level;
static u64 compared, different, faulted, left_out;

static u32 linear_page(void)
{
    return SLOT | (u32)((u64)page & (GIB(1) - 1));
}

static u64 span(unsigned level)
{
    return level == 1 ? PAGE_SIZE : pae ? MIB(2) : MIB(4);
}

static u64 get(unsigned level)
{
    if (pae)
        return pae_tables[level][linear_page() >> (12 + 9 * (level - 1)) & 511];
    return legacy_tables[level][linear_page() >> (12 + 10 * (level - 1)) & 1023];
}

static void put(unsigned level, u64 entry)
{
    if (pae)
        pae_tables[level][linear_page() >> (12 + 9 * (level - 1)) & 511] = entry;
    else
        legacy_tables[level][linear_page() >> (12 + 10 * (level - 1)) & 1023] = (u32)entry;
}

static void put_tables(void)
{
    for (unsigned level = 1; level <= 2; level++)
        put(level, entries[level]);
}

/* Not present, a bit of the page size's, one that is reserved in some formats, or none of it. */
static u64 spoil(unsigned level, u64 entry)
{
    switch (random_below(4)) {
    case 0:
        return entry & ~(u64)PTE_P;
    case 1:
        return level == 2 ? entry ^ PTE_PS : entry;
    case 2:
        return entry | (pae ? BIT(52 + random_below(11)) : BIT(21));
    default:
        return pae ? entry | BIT(51 - random_below(12)) : entry | PTE_G;
    }
}

static u64 make_entry(unsigned level)
{
    u64 entry = PTE_P | PTE_W | PTE_U;

    if (level == leaf_level)
        entry |= align_down((u64)page, span(level)) | (level == 2 ? PTE_PS : 0);
    else
        entry |= pae ? (u64)pae_tables[1] : (u64)legacy_tables[1];
    if (random_below(4) == 0)
        entry &= ~(u64)PTE_W;
    if (random_below(3) == 0)
        entry &= ~(u64)PTE_U;
    if (pae && random_below(5) == 0 && ((machine.efer & EFER_NXE) != 0 || random_below(4) == 0))
        entry |= PTE_NX;
    entry |= random_u64() & random_u64() & (PTE_A | PTE_D);
    return random_below(8) == 0 ? spoil(level, entry) : entry;
}

/* After a fault accessed flags may have been set in what was read, and nothing else. */
static bool entries_right(const struct oracle_answer *answer, const u64 *expected)
{
    bool right = true;

    for (unsigned level = 1; level <= 2; level++) {
        u64 difference = get(level) ^ expected[level];

        if (answer->fault && level >= answer->level)
            difference &= ~(u64)(get(level) & PTE_A);
        right = right && difference == 0;
    }
    return right;
}

static void compare(enum oracle_kind kind)
{
    struct legacy_access access = {.cr3 = (u32)machine.cr3,
                                   .cr4 = (u32)machine.cr4,
                                   .linear = linear_page() + (kind == ORACLE_FETCH ? 0 : DATA),
                                   .kind = kind,
                                   .vector = NO_FAULT};
    struct oracle_answer answer;
    u64 expected[3];
    bool good;

    put_tables();
    answer = oracle_access(access.linear, &(const struct oracle_access){.kind = kind});
    for (unsigned level = 1; level <= 2; level++)
        expected[level] = get(level);
    /* Tables that lead elsewhere are not tried: what lies there may be needed. */
    if (!answer.fault && answer.physical - (u64)page >= PAGE_SIZE) {
        left_out++;
        return;
    }
    put_tables();
    trip_access(&access);
    compared++;
    faulted += answer.fault;
    good = answer.fault
               ? access.vector == EXC_PF && access.error == answer.error_code && access.cr2 == access.linear
               : access.vector == NO_FAULT;
    if ((good && entries_right(&answer, expected)) || different++ >= REPORTED_MAX)
        return;
    print("guest: differs: kind %u cr0 0x%lx cr4 0x%lx efer 0x%lx\n", kind, machine.cr0, machine.cr4,
          machine.efer);
    print("guest:   oracle %s error 0x%x level %u, CPU vector %u error 0x%x cr2 0x%x of 0x%x\n",
          answer.fault ? "#PF" : "ok", answer.error_code, answer.level, access.vector, access.error,
          access.cr2, access.linear);
    for (unsigned level = 2; level >= 1; level--)
        print("guest:   level %u 0x%lx, oracle 0x%lx, CPU 0x%lx\n", level, entries[level], expected[level],
              get(level));
}

static void compare_configurations(void)
{
    for (unsigned n = 0; n < CONFIGURATIONS; n++) {
        leaf_level = random_below(3) == 0 ? 2 : 1;
        for (unsigned level = 1; level <= 2; level++)
            entries[level] = level < leaf_level ? 0 : make_entry(level);
        for (unsigned kind = 0; kind < ORACLE_KINDS; kind++)
            compare((enum oracle_kind)kind);
    }
}

/* Bits 0 to 3 of `state`: SMEP, SMAP, WP, NXE. What CR4 is to be in 64-bit mode stays as it is. */
static void set_machine(unsigned state, u64 possible)
{
    u64 cr0 = read_cr0() & ~(u64)CR0_WP, efer = rdmsr(MSR_EFER) & ~(u64)EFER_NXE;
    u64 modes = ((state & 1) != 0 ? CR4_SMEP : 0) | ((state & 2) != 0 ? CR4_SMAP : 0);

    write_cr0(cr0 | ((state & 4) != 0 ? CR0_WP : 0));
    wrmsr(MSR_EFER, efer | ((state & 8) != 0 ? EFER_NXE : 0));
    machine.cr0 = read_cr0();
    machine.cr4 = (pae ? CR4_PAE : CR4_PSE) | (modes & possible);
    machine.efer = rdmsr(MSR_EFER) & ~(u64)(EFER_LME | EFER_LMA);
    machine.cr3 = pae ? (u64)pae_pointers : (u64)legacy_tables[2];
    machine.pdptes = pae ? pae_pointers : NULL;
    machine.maxphyaddr = physical_bits;
    machine.amd = !is_intel;
    oracle_set(&machine);
}

static void prepare(void)
{
    u64 handler = (u64)legacy_page_fault;

    page[0] = 0xc3; /* RET */
    for (unsigned i = 0; i < 3; i++)
        pae_pointers[i] = (u64)&directories[i * 512] | PTE_P;
    pae_pointers[3] = (u64)pae_tables[2] | PTE_P;
    for (unsigned i = 0; i < 768; i++)
        legacy_tables[2][i] = i << 22 | PTE_PS | PTE_W | PTE_P;
    idt[EXC_PF] =
        (handler & 0xffff) | SEL_CODE32 << 16 | (u64)GATE_INTERRUPT_32 << 32 | (handler >> 16) << 48;
    legacy_idt_pointer = (struct pointer32){.limit = sizeof(idt) - 1, .base = (u32)(u64)idt};
}

static void one_format(const char *name, bool with_pae, u64 possible)
{
    const u64 cr0 = read_cr0(), efer = rdmsr(MSR_EFER);

    pae = with_pae;
    compared = different = faulted = left_out = 0;
    for (unsigned state = 0; state < 16; state++) {
        set_machine(state, possible);
        compare_configurations();
    }
    write_cr0(cr0);
    wrmsr(MSR_EFER, efer);
    print("guest: %s: %lu accesses compared, %lu of them faults, %lu left out\n", name, compared, faulted,
          left_out);
    check_eq(name, different, 0);
    check("paging_legacy.enough_compared", compared > 1000 && faulted > 200);
}

void group_paging_legacy(void)
{
    struct cpuid features = cpuid(7, 0);
    u64 possible =
        ((features.ebx & BIT(7)) != 0 ? CR4_SMEP : 0) | ((features.ebx & BIT(20)) != 0 ? CR4_SMAP : 0);

    prepare();
    one_format("paging_legacy.pae", true, possible);
    one_format("paging_legacy.32bit", false, possible);
}
