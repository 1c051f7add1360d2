/* SPDX-License-Identifier: MIT */
/*
 * Proof: for every role of one format, every access, every address and every content of memory, mm/walk.c
 * does what the specification says: the same entries in the same order, the same translation, rights and key,
 * or the same fault in the same encoding. It ends, it reads only 8- (or 4-) byte aligned entries inside the
 * table that the entry before named, each once, and the translation lies in the page that a validated leaf
 * names. Memory is not an array but a stream: what the walker reads is arbitrary, and the specification,
 * which walks second, must ask for the same addresses.
 *
 * FORMAT is an enum spec_format, KIND a stage: guest tables, NPT or EPT.
 */
#include <assert.h>

#include "arch/x86.h"
#include "tests/unit/paging-case.h"

enum { GUEST, NPT, EPT };

u64 nondet_u64(void);
unsigned nondet_unsigned(void);
_Bool nondet_bool(void);

enum { READS_MAX = SPEC_LEVELS_MAX };
static struct {
    u64 address, value;
    unsigned bytes;
} stream[READS_MAX];
static unsigned reads;

static enum memory_status load_anything(const struct paging_memory *memory, gpa_t address, unsigned bytes,
                                        u64 *value)
{
    (void)memory;
    assert(reads < READS_MAX);
    assert(bytes == 4 || bytes == 8);
    assert(address.raw % bytes == 0);
    /* Every table but the first is a whole page: the entry lies in the page that the entry before named. */
    if (reads != 0) {
        u64 table = stream[reads - 1].value & (bytes == 4 ? BITS(31, 12) : BITS(51, 12));
        assert((address.raw & ~PAGE_MASK) == table);
    }
    *value = bytes == 4 ? nondet_u64() & BITS(31, 0) : nondet_u64();
    stream[reads].address = address.raw;
    stream[reads].bytes = bytes;
    stream[reads].value = *value;
    reads++;
    return MEMORY_OK;
}

static bool replay(void *context, u64 address, unsigned bytes, u64 *value)
{
    unsigned *next = context;
    assert(*next < reads);
    assert(stream[*next].address == address && stream[*next].bytes == bytes);
    *value = stream[*next].value;
    (*next)++;
    return true;
}

static struct case_machine any_machine(void)
{
    struct case_machine machine = {
        .cpu = {.maxphyaddr = MAXPHYADDR, .page_1g = nondet_bool(), .amd = nondet_bool()},
        .cr0 = CR0_PE | CR0_PG | (nondet_u64() & CR0_WP),
        .cr4 = nondet_u64() & (CR4_PSE | CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_PKS | CR4_CET),
        .efer = nondet_u64() & EFER_NXE,
        .pkru = (u32)nondet_u64(),
        .pkrs = (u32)nondet_u64(),
    };
    if (FORMAT == SPEC_PAE && KIND == GUEST) {
        machine.pdpte_loaded = nondet_bool();
        for (unsigned i = 0; i < 4; i++)
            machine.pdpte[i] = nondet_u64();
    }
    if (FORMAT != SPEC_32BIT)
        machine.cr4 |= CR4_PAE;
    if (FORMAT == SPEC_LONG4 || FORMAT == SPEC_LONG5)
        machine.efer |= EFER_LME | EFER_LMA;
    if (FORMAT == SPEC_LONG5)
        machine.cr4 |= CR4_LA57;
    /* CR4.CET needs CR0.WP, SDM vol. 3A 2.5. */
    __CPROVER_assume((machine.cr4 & CR4_CET) == 0 || (machine.cr0 & CR0_WP) != 0);
    return machine;
}

static struct spec_access any_access(void)
{
    struct spec_access all[CASE_ACCESSES_MAX];
    unsigned count = case_accesses(all), chosen = nondet_unsigned();
    __CPROVER_assume(chosen < count);
    return all[chosen];
}

static struct spec_second_access any_second_access(void)
{
    struct spec_second_access access = {
        .kind = nondet_bool()   ? SPEC_READ
                : nondet_bool() ? SPEC_WRITE
                                : SPEC_FETCH,
        .linear_user = nondet_bool(),
        .linear_write = nondet_bool(),
        .linear_nx = nondet_bool(),
        .shadow_stack = nondet_bool(),
        .cpl = nondet_bool() ? 3 : 0,
    };
    /* A fetch is no shadow-stack access, which in turn is a supervisor's or a user's. */
    if (access.kind == SPEC_FETCH)
        access.shadow_stack = false;
    access.supervisor_shadow_stack = access.shadow_stack && !access.linear_user;
    return access;
}

static void check_guest(void)
{
    struct paging_memory memory = {.load = load_anything};
    struct spec_memory spec_memory;
    struct spec_flag_sets flags = {0};
    struct case_machine machine = any_machine();
    struct spec_access access = any_access();
    struct case_tables tables;
    struct walk walked;
    unsigned replayed = 0;
    u64 address = nondet_u64();

    __CPROVER_assume(FORMAT == SPEC_LONG5 || FORMAT == SPEC_LONG4 || address < BIT(32));
    __CPROVER_assume(FORMAT != SPEC_LONG4 || spec_canonical(address, false));
    __CPROVER_assume(FORMAT != SPEC_LONG5 || spec_canonical(address, true));
    case_guest(&tables, &machine);
    tables.spec.root = nondet_u64();
    enum walk_status status =
        walk(&tables.code, &memory, tables.spec.root, address, case_guest_access(&access), &walked);
    spec_memory = (struct spec_memory){.context = &replayed, .read = replay};
    struct spec_translation spec = spec_walk_entries(&tables.spec, &spec_memory, address, &access, &flags);
    assert(case_compare_walk(&tables, &spec, status, &walked) == NULL);
    assert(replayed == reads);
    assert(status != WALK_OK ||
           walked.address >> (FORMAT == SPEC_32BIT && MAXPHYADDR < 40 ? 40 : MAXPHYADDR) == 0);
}

static void check_second(void)
{
    struct paging_memory memory = {.load = load_anything};
    struct spec_memory spec_memory;
    struct spec_second second = {.kind = KIND == EPT ? SPEC_SECOND_EPT : SPEC_SECOND_NPT,
                                 .advanced = nondet_bool()};
    struct spec_second_access access = any_second_access();
    struct case_tables tables;
    struct walk walked;
    unsigned replayed = 0;
    u64 address = nondet_u64();

    if (KIND == EPT) {
        u64 eptp = 6 | (FORMAT == SPEC_EPT5 ? 4u << 3 : 3u << 3) | (nondet_u64() & 0xc0);
        struct case_ept ept = {
            .cpu = {.maxphyaddr = MAXPHYADDR, .page_1g = nondet_bool(), .execute_only = nondet_bool()},
            .eptp = eptp,
            .mbec = nondet_bool(),
            .spp = nondet_bool()};
        case_ept(&tables, &ept);
        tables.spec.root = eptp | (nondet_u64() & BITS(51, 12));
    } else {
        struct case_machine machine = any_machine();
        case_npt(&tables, &machine, nondet_bool());
        tables.spec.root = nondet_u64();
    }
    second.tables = tables.spec;
    enum walk_status status =
        walk(&tables.code, &memory, tables.spec.root, address, case_second_access(&second, &access), &walked);
    /* What the first stage knows is its caller's to add. */
    if (status == WALK_FAULT)
        walked.fault.supplied =
            (u32)(FAULT_LINEAR_VALID | FAULT_FINAL | (access.linear_user ? FAULT_LINEAR_USER : 0) |
                  (access.linear_write ? FAULT_LINEAR_WRITE : 0) | (access.linear_nx ? FAULT_LINEAR_XD : 0));
    spec_memory = (struct spec_memory){.context = &replayed, .read = replay};
    struct spec_translation spec = spec_walk_second(&second, &spec_memory, address, &access, NULL);
    assert(case_compare_second(&second, &tables, &spec, status, &walked) == NULL);
    assert(replayed == reads);
    assert(status != WALK_OK ||
           walked.address >> (FORMAT == SPEC_32BIT && MAXPHYADDR < 40 ? 40 : MAXPHYADDR) == 0);
}

int main(void)
{
    if (KIND == GUEST)
        check_guest();
    else
        check_second();
    return 0;
}
