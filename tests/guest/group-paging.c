/* SPDX-License-Identifier: MIT */
/*
 * Group `paging`: thousands of tables for one page, in every machine state that the CPU has (WP, SMEP, SMAP,
 * NXE, protection keys). For each, Umbra's paging core says what a read, a write and a fetch at CPL 0 and 3
 * do; then the CPU does it, and fault or not, error code, CR2, and every bit of every entry are compared.
 */
#include "arch/msr.h"
#include "tests/guest/guest.h"
#include "tests/guest/oracle.h"
#include "tests/unit/random.h"

enum { LEVELS = 4, SLOT = 300, CONFIGURATIONS = 200, REPORTED_MAX = 3, PAGE_OF_CODE = 60 };
enum { AT_READ = 0, AT_WRITE = 16, DATA = 256 };
#define CR4_STATES  (CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_PKS)
#define IA32_PKRS   0x6e1
#define FLAGS_ENTRY (PTE_A | PTE_D)
#define KEY_SHIFT   59

extern u64 pml4[512];

static u64 tables[LEVELS][512] __attribute__((aligned(4096))); /* [level]; level 4 is pml4 itself */
static u8 page[PAGE_SIZE] __attribute__((aligned(4096)));
static u8 accessors[PAGE_SIZE] __attribute__((aligned(4096)));
static struct oracle_machine machine;
static u64 cr4_possible;
static bool nx_possible;

/* One configuration of the tables. */
static u64 entries[LEVELS + 1];
static unsigned leaf_level;

/* Comparisons and differences, apart for what an emulator is known to do otherwise: a check for each. */
enum aspect { PLAIN, KEY_OF_SUPERVISOR_PAGE, KEY_BY_SUPERVISOR, KEY_AND_RIGHTS, PML4E_BIT_8, ASPECTS };
static const char *const aspect_name[ASPECTS] = {"", "_key_of_supervisor_page", "_key_by_supervisor",
                                                 "_key_and_rights", "_pml4e_bit_8"};
static u64 compared[ASPECTS], different[ASPECTS], faulted, left_out;

/* The page has the same offset in the GByte as its linear address, so leaves of any size lead to it. */
static u64 linear_page(void)
{
    return 0xffff000000000000ull | (u64)SLOT << 39 | ((u64)page & (GIB(1) - 1));
}

static u64 *entry_at(unsigned level)
{
    unsigned index = linear_page() >> (12 + 9 * (level - 1)) & 511;

    return level == LEVELS ? &pml4[index] : &tables[level][index];
}

/* --- tables --- */

static u64 span(unsigned level)
{
    return BIT(12 + 9 * (level - 1));
}

/* Now and then a bit that is reserved, or that changes what the entry is. */
static u64 spoil(unsigned level, u64 entry)
{
    u64 reserved = BITS(51, 0) & ~(BIT(machine.maxphyaddr) - 1);

    switch (random_below(8)) {
    case 0:
        return entry & ~(u64)PTE_P;
    case 1:
        return level > 1 ? entry ^ PTE_PS : entry;
    case 2:
        return entry | (reserved & BIT(51 - random_below(16)));
    case 3:
        return level == leaf_level && level > 1 ? entry | (BIT(13 + random_below(8)) & (span(level) - 1))
                                                : entry;
    case 4:
        return entry | PTE_G;
    case 5:
        return entry | (random_u64() & BITS(58, 52));
    case 6:
        return 0;
    default:
        return entry | (random_u64() & FLAGS_ENTRY);
    }
}

static u64 make_entry(unsigned level)
{
    u64 entry = PTE_P | PTE_W | PTE_U;

    if (level == leaf_level)
        entry |= align_down((u64)page, span(level)) | (level > 1 ? PTE_PS : 0);
    else
        entry |= (u64)tables[level - 1];
    if (random_below(5) == 0)
        entry &= ~(u64)PTE_W;
    if (random_below(5) == 0)
        entry &= ~(u64)PTE_U;
    if (random_below(6) == 0 && (nx_possible || random_below(4) == 0))
        entry |= PTE_NX;
    entry |= random_u64() & random_u64() & FLAGS_ENTRY;
    entry |= random_below(4) == 0 ? (random_u64() & 15) << KEY_SHIFT : 0;
    return random_below(16) == 0 ? spoil(level, entry) : entry;
}

static void make_configuration(void)
{
    u64 choice = random_below(10);

    leaf_level = choice < 7 ? 1 : choice < 9 || !machine.page_1g ? 2 : 3;
    for (unsigned level = LEVELS; level >= 1; level--)
        entries[level] = level < leaf_level ? 0 : make_entry(level);
}

static void put_tables(void)
{
    for (unsigned level = LEVELS; level >= 1; level--)
        *entry_at(level) = entries[level];
    invlpg((const void *)linear_page());
}

/* --- one access --- */

static u64 address_of(const struct oracle_access *access)
{
    return linear_page() + (access->kind == ORACLE_FETCH ? 0 : DATA);
}

static u64 do_access(const struct oracle_access *access)
{
    enum code_mode mode = access->user ? RING3_64 : RING0_64;
    u64 code = access->user ? WINDOW + PAGE_OF_CODE * PAGE_SIZE : (u64)accessors;
    const struct code registers = {.rsi = address_of(access), .rflags = access->ac ? RFLAGS_AC : 0};

    if (access->kind == ORACLE_FETCH)
        return execute_at(mode, address_of(access), &registers);
    return execute_at(mode, code + (access->kind == ORACLE_WRITE ? AT_WRITE : AT_READ), &registers);
}

/*
 * Entries after a translation must be as the oracle left them. After a fault the CPU may have set accessed
 * flags in what it read (SDM vol. 3A 4.8), and nothing else.
 */
static bool entries_right(const struct oracle_answer *answer, const u64 *expected, const u64 *got)
{
    bool right = true;

    for (unsigned level = LEVELS; level >= 1; level--) {
        u64 difference = got[level] ^ expected[level];

        if (answer->fault && level >= answer->level)
            difference &= ~(u64)(got[level] & PTE_A);
        right = right && difference == 0;
    }
    return right;
}

static bool outcome_right(const struct oracle_access *access, const struct oracle_answer *answer, u64 vector)
{
    if (!answer->fault)
        return vector == VECTOR_DONE;
    return vector == EXC_PF && fault.error == answer->error_code && fault.cr2 == address_of(access);
}

static void report(const struct oracle_access *access, const struct oracle_answer *answer, u64 vector,
                   const u64 *expected, const u64 *got)
{
    print("guest: differs: %s cpl %u ac %u cr0 0x%lx cr4 0x%lx efer 0x%lx pkru 0x%x pkrs 0x%x\n",
          access->kind == ORACLE_READ    ? "read"
          : access->kind == ORACLE_WRITE ? "write"
                                         : "fetch",
          access->user ? 3u : 0u, access->ac, machine.cr0, machine.cr4, machine.efer, machine.pkru,
          machine.pkrs);
    print("guest:   oracle %s error 0x%x level %u, CPU vector %lu error 0x%lx cr2 0x%lx of 0x%lx\n",
          answer->fault ? "#PF" : "ok", answer->error_code, answer->level, vector, fault.error, fault.cr2,
          address_of(access));
    for (unsigned level = LEVELS; level >= 1; level--)
        print("guest:   level %u 0x%lx, oracle 0x%lx, CPU 0x%lx\n", level, entries[level], expected[level],
              got[level]);
}

/* Does PKRU say anything of the page's key, or PKRS of a page that PKRU is not for? */
static bool key_matters(const struct oracle_answer *answer)
{
    u64 key = entries[leaf_level] >> KEY_SHIFT & 15;
    u64 pkru = (machine.cr4 & CR4_PKE) != 0 ? machine.pkru : 0;
    u64 pkrs = (machine.cr4 & CR4_PKS) != 0 ? machine.pkrs : 0;

    return answer->walked && ((pkru | pkrs) >> (2 * key) & 3) != 0;
}

static enum aspect aspect_of(const struct oracle_access *access, const struct oracle_answer *answer)
{
    if (machine.amd && (entries[LEVELS] & PTE_P) != 0 && (entries[LEVELS] & BIT(8)) != 0)
        return PML4E_BIT_8;
    if (!key_matters(answer) || access->kind == ORACLE_FETCH)
        return PLAIN;
    if (answer->key && answer->rights)
        return KEY_AND_RIGHTS;
    if (!answer->user_page)
        return KEY_OF_SUPERVISOR_PAGE;
    return access->user ? PLAIN : KEY_BY_SUPERVISOR;
}

static void compare(const struct oracle_access *access)
{
    u64 expected[LEVELS + 1], got[LEVELS + 1], vector;
    struct oracle_answer answer;
    enum aspect aspect;

    put_tables();
    answer = oracle_access(address_of(access), access);
    for (unsigned level = LEVELS; level >= 1; level--)
        expected[level] = *entry_at(level);
    /* Tables that lead elsewhere are not tried: what lies there may be needed. */
    if (!answer.fault && answer.physical - (u64)page >= PAGE_SIZE) {
        left_out++;
        return;
    }
    put_tables();
    vector = do_access(access);
    for (unsigned level = LEVELS; level >= 1; level--)
        got[level] = *entry_at(level);
    aspect = aspect_of(access, &answer);
    compared[aspect]++;
    faulted += answer.fault;
    if (outcome_right(access, &answer, vector) && entries_right(&answer, expected, got))
        return;
    if (different[aspect]++ < REPORTED_MAX)
        report(access, &answer, vector, expected, got);
}

static void all_accesses(void)
{
    for (unsigned kind = 0; kind < ORACLE_KINDS; kind++) {
        for (unsigned user = 0; user < 2; user++)
            compare(&(const struct oracle_access){.kind = (enum oracle_kind)kind, .user = user != 0});
        if (kind != ORACLE_FETCH && (machine.cr4 & CR4_SMAP) != 0)
            compare(&(const struct oracle_access){.kind = (enum oracle_kind)kind, .ac = true});
    }
}

/* --- machine states --- */

static void write_pkru(u32 value)
{
    __asm__ volatile("wrpkru" ::"a"(value), "c"(0), "d"(0));
}

/* Key 0 is that of everything else that the guest uses. */
static void set_keys(void)
{
    machine.pkru = (u32)random_u64() & ~3u;
    machine.pkrs = (u32)random_u64() & ~3u;
    if ((machine.cr4 & CR4_PKE) != 0)
        write_pkru(machine.pkru);
    if ((machine.cr4 & CR4_PKS) != 0)
        wrmsr(IA32_PKRS, machine.pkrs);
}

/* Bit n of `state` is one of the mode bits. */
static bool set_machine(unsigned state)
{
    u64 cr4 = machine.cr4 & ~(u64)CR4_STATES;

    cr4 |= (state & 1) != 0 ? CR4_SMEP : 0;
    cr4 |= (state & 2) != 0 ? CR4_SMAP : 0;
    cr4 |= (state & 4) != 0 ? CR4_PKE : 0;
    cr4 |= (state & 8) != 0 ? CR4_PKS : 0;
    if ((cr4 & CR4_STATES & ~cr4_possible) != 0)
        return false;
    machine.cr4 = cr4;
    machine.cr0 = (state & 16) != 0 ? machine.cr0 | CR0_WP : machine.cr0 & ~(u64)CR0_WP;
    machine.efer = (state & 32) != 0 ? machine.efer | EFER_NXE : machine.efer & ~(u64)EFER_NXE;
    nx_possible = (state & 32) != 0;
    write_cr4(machine.cr4);
    write_cr0(machine.cr0);
    wrmsr(MSR_EFER, machine.efer);
    set_keys();
    oracle_set(&machine);
    return true;
}

static void read_machine(void)
{
    struct cpuid features = cpuid(7, 0);

    machine = (struct oracle_machine){.cr0 = read_cr0(),
                                      .cr3 = read_cr3(),
                                      .cr4 = read_cr4(),
                                      .efer = rdmsr(MSR_EFER),
                                      .maxphyaddr = physical_bits,
                                      .page_1g = (cpuid(0x80000001, 0).edx & BIT(26)) != 0,
                                      .amd = !is_intel};
    cr4_possible =
        ((features.ebx & BIT(7)) != 0 ? CR4_SMEP : 0) | ((features.ebx & BIT(20)) != 0 ? CR4_SMAP : 0) |
        ((features.ecx & BIT(3)) != 0 ? CR4_PKE : 0) | ((features.ecx & BIT(31)) != 0 ? CR4_PKS : 0);
}

static void all_states(void)
{
    const struct oracle_machine before = machine;

    for (unsigned state = 0; state < 64; state++) {
        if (!set_machine(state))
            continue;
        for (unsigned n = 0; n < CONFIGURATIONS; n++) {
            make_configuration();
            all_accesses();
        }
    }
    write_cr4(before.cr4);
    write_cr0(before.cr0);
    wrmsr(MSR_EFER, before.efer);
}

static void prepare_code(void)
{
    memcpy(accessors + AT_READ, "\x8a\x06\xcd\x80", 4);  /* mov al, [rsi]; int 80h */
    memcpy(accessors + AT_WRITE, "\x88\x06\xcd\x80", 4); /* mov [rsi], al; int 80h */
    memcpy(page, "\xcd\x80", 2);
    window_map(PAGE_OF_CODE, (u64)accessors, PTE_P | PTE_U);
}

void group_paging(void)
{
    char name[64];
    u64 total = 0;
    const char *seed = option(boot.command_line, "seed");

    random_state ^= seed != NULL ? number(seed, NULL) : 0;
    prepare_code();
    read_machine();
    all_states();
    for (unsigned aspect = 0; aspect < ASPECTS; aspect++)
        total += compared[aspect];
    pml4[SLOT] = 0;
    flush_tlb();
    print("guest: paging: %lu accesses compared, %lu of them faults, %lu left out; CR4 bits 0x%lx\n", total,
          faulted, left_out, cr4_possible);
    for (unsigned aspect = 0; aspect < ASPECTS; aspect++) {
        if (compared[aspect] == 0)
            continue;
        print_to(name, sizeof(name), "paging.four_level%s", aspect_name[aspect]);
        print("guest: %s: %lu of %lu differ\n", name, different[aspect], compared[aspect]);
        check_eq(name, different[aspect], 0);
    }
    check("paging.enough_compared", compared[PLAIN] > 5000 && faulted > 1000);
}
