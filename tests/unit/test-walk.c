/* SPDX-License-Identifier: MIT */
/*
 * Random differential test of single walks: every format, guest tables, NPT and EPT, against the
 * specification in tests/specification. Each case has a random machine state, access and address, and tables
 * that are mostly in order: some entries are spoiled, some tables refer to themselves, lie at the end of
 * memory or outside.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "mm/walk-quick.h"
#include "tests/unit/paging-case.h"
#include "tests/unit/random.h"

/* Smaller where the test is built slow, with all sanitizers. */
#ifndef WALK_CASES
#define WALK_CASES 1500000u
#endif
/* So many cases share one machine state, since its preparation costs more than a walk. */
#define CASES_PER_MACHINE 16u

static struct case_memory memory;
static struct spec_access accesses[CASE_ACCESSES_MAX];
static unsigned access_count;
static u64 compared, faulted, quick;

static int set_up(void **state)
{
    (void)state;
    case_memory_init(&memory);
    access_count = case_accesses(accesses);
    return 0;
}

/* One translation's input: the same for both sides. */
struct input {
    struct case_tables tables;
    struct spec_second second; /* kind NONE: guest tables; else `tables` once more, as a second level */
    struct spec_access access;
    struct spec_second_access second_access;
    u64 address;
};

static void fail_case(const struct input *in, const char *what, const char *function,
                      const struct spec_translation *spec, enum walk_status status, const struct walk *code,
                      const struct spec_flag_sets *flags)
{
    printf("%s: %s differs in case %llu, address %#llx\n", function, what, (unsigned long long)compared,
           (unsigned long long)in->address);
    case_print_tables("tables", &in->tables.spec);
    if (in->second.kind == SPEC_SECOND_NONE)
        case_print_access(&in->access);
    else
        printf("  access to a guest-physical address: kind %u cpl %u user %d ss %d supervisor ss %d\n",
               in->second_access.kind, in->second_access.cpl, in->second_access.linear_user,
               in->second_access.shadow_stack, in->second_access.supervisor_shadow_stack);
    case_print_translation("specification", spec);
    case_print_walk("walk", status, code);
    case_print_flags(&memory, flags);
    fail();
}

static struct spec_translation run_spec(const struct input *in, struct spec_flag_sets *flags)
{
    if (in->second.kind == SPEC_SECOND_NONE)
        return spec_walk(&in->tables.spec, &memory.spec, in->address, &in->access, flags);
    return spec_walk_second(&in->second, &memory.spec, in->address, &in->second_access, flags);
}

static const char *compare(const struct input *in, const struct spec_translation *spec,
                           enum walk_status status, struct walk *code)
{
    const struct spec_second_access *access = &in->second_access;

    if (in->second.kind == SPEC_SECOND_NONE)
        return case_compare_walk(&in->tables, spec, status, code);
    code->fault.supplied =
        (u32)(FAULT_LINEAR_VALID | FAULT_FINAL | (access->linear_user ? FAULT_LINEAR_USER : 0) |
              (access->linear_write ? FAULT_LINEAR_WRITE : 0) | (access->linear_nx ? FAULT_LINEAR_XD : 0));
    return case_compare_second(&in->second, &in->tables, spec, status, code);
}

/* walk_quick() may give up; what it answers must be right, and only if there is no flag to set. */
static const char *compare_quick(const struct input *in, unsigned access, const struct spec_translation *spec,
                                 const struct spec_flag_sets *flags)
{
    u64 found = walk_quick(&in->tables.code, &memory.code, in->tables.spec.root, in->address, access);

    if (found == WALK_NOT_QUICK)
        return NULL;
    quick++;
    if (spec->result != SPEC_TRANSLATED || found != spec->address)
        return "quick translation";
    return flags->count != 0 ? "quick translation with a flag to set" : NULL;
}

/* What a walk has recorded of its entries is what memory holds; a PDPTE of the registers has the address ~0.
 */
static bool entries_stand(const struct paging *paging, const struct walk *walk)
{
    unsigned bytes = paging_formats[role_format(paging->role)].entry_bytes;

    for (unsigned level = walk->level; level != 0 && level <= walk->root_level; level++) {
        const struct walk_entry *entry = &walk->entry[level];

        if (entry->address != ~0ull && case_peek(&memory, entry->address, bytes) != entry->value)
            return false;
    }
    return true;
}

/*
 * walk() must agree and write nothing; then walk_and_mark() must agree and set the flags; and then, that
 * being done, there is nothing left to set.
 */
static void compare_case(const struct input *in, struct spec_flag_sets *flags)
{
    unsigned access = in->second.kind == SPEC_SECOND_NONE
                          ? case_guest_access(&in->access)
                          : case_second_access(&in->second, &in->second_access);
    struct spec_translation spec = run_spec(in, flags);
    const struct paging *paging = &in->tables.code;
    struct walk code;
    enum walk_status status = walk(paging, &memory.code, in->tables.spec.root, in->address, access, &code);
    const char *wrong = compare(in, &spec, status, &code);

    compared++;
    faulted += status == WALK_FAULT;
    if (wrong != NULL || memory.writes != 0)
        fail_case(in, wrong != NULL ? wrong : "memory", "walk", &spec, status, &code, flags);
    wrong = compare_quick(in, access, &spec, flags);
    if (wrong != NULL || memory.writes != 0)
        fail_case(in, wrong != NULL ? wrong : "memory", "walk_quick", &spec, status, &code, flags);
    status = walk_and_mark(paging, &memory.code, in->tables.spec.root, in->address, access, &code);
    wrong = compare(in, &spec, status, &code);
    if (wrong == NULL)
        wrong = case_compare_flags(&memory, flags, false);
    if (wrong == NULL && status == WALK_OK && !entries_stand(paging, &code))
        wrong = "entries";
    if (wrong != NULL)
        fail_case(in, wrong, "walk_and_mark", &spec, status, &code, flags);
    if (status == WALK_OK)
        wrong = compare_quick(in, access, &spec, &(struct spec_flag_sets){.count = 0});
    if (wrong != NULL)
        fail_case(in, wrong, "walk_quick after walk_and_mark", &spec, status, &code, flags);
}

static u64 random_base(const struct spec_paging *spec)
{
    bool low = spec->format == SPEC_32BIT || spec->format == SPEC_PAE || spec->maxphyaddr < 37;

    switch (random_below(3)) {
    case 0:
        return 0;
    case 1:
        return GIB(1) * (random_below(2) + 1);
    default:
        return low ? GIB(3) : BIT(spec->maxphyaddr - 1);
    }
}

static u64 random_frame(void)
{
    /* The last frame now and then: what comes after it is no memory. */
    return memory.base + (random_chance(15) ? CASE_FRAMES - 1 : random_below(CASE_FRAMES)) * PAGE_SIZE;
}

static u64 random_address(const struct spec_paging *spec, bool second)
{
    unsigned bits = spec_address_bits(spec->format);
    u64 address = random_u64();

    if (random_chance(20))
        address |= random_u64() | random_u64();
    if (bits == 0 || (second && random_chance(3)))
        return address & BITS(51, 0);
    address &= BIT(bits) - 1;
    if (!second && bits > 32 && (address >> (bits - 1)) != 0)
        address |= ~(BIT(bits) - 1);
    return address;
}

static u64 random_target(const struct spec_paging *spec)
{
    u64 target = random_u64() & (BIT(spec->maxphyaddr) - 1);

    return random_chance(50) ? target & 0xFFFFFFFFu : target;
}

/* Tables for one address, each mostly in a frame of its own, sometimes the same one twice or outside memory.
 */
static void build(struct input *in)
{
    struct spec_paging *spec = &in->tables.spec;
    struct case_chain chain = {.spec = spec,
                               .address = in->address,
                               .odd_percent = random_chance(50) ? 4 : 0,
                               .plain_percent = random_chance(40) ? 95 : 0};
    unsigned levels = spec_levels(spec->format);

    chain.leaf_level = case_random_leaf_level(spec);
    chain.target = random_target(spec);
    for (unsigned level = 1; level <= levels; level++) {
        chain.table_address[level] = random_frame();
        if (level > 1 && random_chance(2))
            chain.table_address[level] = chain.table_address[level - 1];
        if (random_chance(1) && level < levels)
            chain.table_address[level] = memory.base + CASE_BYTES;
        chain.table_host[level] = chain.table_address[level];
    }
    if (spec->format == SPEC_PAE)
        chain.table_host[3] = chain.table_address[3] += random_below(128) * 32;
    spec->root = levels == 0 ? random_u64() : chain.table_address[levels];
    if (levels >= 4 && !spec_is_ept(spec->format))
        spec->root |= random_u64() & (random_chance(30) ? BITS(62, 61) | 0xFFF : 0xFFF); /* LAM and PCID */
    else if (spec->format == SPEC_32BIT)
        spec->root |= random_u64() & (BITS(63, 32) | 0xFFF);
    if (levels == 0)
        return;
    case_build_chain(&memory, &chain);
    /* What the registers hold was loaded from memory, and valid then. */
    for (unsigned i = 0; spec->pdpte_loaded && i < 4; i++) {
        spec->pdpte[i] =
            random_chance(90) ? case_ordinary_entry(spec, 3, false, chain.table_address[2]) : random_u64();
        spec->pdpte[i] &= ~spec_reserved_bits(spec, 3, spec->pdpte[i]);
    }
}

static void random_guest_case(struct input *in, struct spec_flag_sets *flags)
{
    in->access = accesses[random_below(access_count)];
    in->address = random_address(&in->tables.spec, false);
    case_memory_place(&memory, random_base(&in->tables.spec));
    build(in);
    flags->count = 0;
    compare_case(in, flags);
}

static void random_second_case(struct input *in, struct spec_flag_sets *flags)
{
    const struct spec_access *access = &accesses[random_below(access_count)];

    in->second_access = (struct spec_second_access){
        .kind = access->kind,
        .cpl = access->cpl,
        .shadow_stack = access->shadow_stack,
        .supervisor_shadow_stack = access->shadow_stack && !spec_user_mode_access(access),
        .linear_user = random_chance(50),
        .linear_write = random_chance(50),
        .linear_nx = random_chance(50),
    };
    in->address = random_address(&in->tables.spec, true);
    case_memory_place(&memory, random_base(&in->tables.spec));
    build(in);
    in->second.tables = in->tables.spec;
    flags->count = 0;
    compare_case(in, flags);
}

static void report(const char *name, u64 before, u64 faults_before)
{
    printf("  %-8s %9llu walks compared, %llu of them faults, %llu quick\n", name,
           (unsigned long long)(compared - before), (unsigned long long)(faulted - faults_before),
           (unsigned long long)quick);
    quick = 0;
}

static void guest_tables(void **state)
{
    static const enum spec_format formats[] = {SPEC_NO_PAGING, SPEC_32BIT, SPEC_PAE, SPEC_LONG4, SPEC_LONG5};
    static const char *const names[] = {"none", "32-bit", "PAE", "4-level", "5-level"};
    static struct input in;
    struct spec_flag_sets flags;

    (void)state;
    for (unsigned f = 0; f < ARRAY_SIZE(formats); f++) {
        u64 before = compared, faults = faulted;

        in.second.kind = SPEC_SECOND_NONE;
        for (u64 n = 0; n < (f == 0 ? WALK_CASES / 100 : WALK_CASES); n++) {
            if (n % CASES_PER_MACHINE == 0) {
                struct case_machine machine = case_random_machine(formats[f]);

                case_guest(&in.tables, &machine);
            }
            random_guest_case(&in, &flags);
        }
        report(names[f], before, faults);
    }
}

static void nested_paging(void **state)
{
    static const enum spec_format formats[] = {SPEC_32BIT, SPEC_PAE, SPEC_LONG4, SPEC_LONG5};
    static const char *const names[] = {"NPT 32", "NPT PAE", "NPT 4", "NPT 5"};
    static struct input in;
    struct spec_flag_sets flags;

    (void)state;
    in.second.kind = SPEC_SECOND_NPT;
    for (unsigned f = 0; f < ARRAY_SIZE(formats); f++) {
        u64 before = compared, faults = faulted;

        for (u64 n = 0; n < WALK_CASES / 2; n++) {
            if (n % CASES_PER_MACHINE == 0) {
                struct case_machine host = case_random_machine(formats[f]);

                host.cpu.amd = true;
                host.pdpte_loaded = false;
                case_npt(&in.tables, &host, random_chance(50));
            }
            random_second_case(&in, &flags);
        }
        report(names[f], before, faults);
    }
}

static void extended_page_tables(void **state)
{
    static const enum spec_format formats[] = {SPEC_EPT4, SPEC_EPT5};
    static const char *const names[] = {"EPT 4", "EPT 5"};
    static struct input in;
    struct spec_flag_sets flags;

    (void)state;
    in.second.kind = SPEC_SECOND_EPT;
    for (unsigned f = 0; f < ARRAY_SIZE(formats); f++) {
        u64 before = compared, faults = faulted;

        for (u64 n = 0; n < WALK_CASES; n++) {
            if (n % CASES_PER_MACHINE == 0) {
                struct case_ept ept = case_random_ept(formats[f]);

                case_ept(&in.tables, &ept);
                in.second.advanced = ept.advanced;
            }
            random_second_case(&in, &flags);
        }
        report(names[f], before, faults);
    }
}

/*
 * Another CPU changes entries while flags are being set. Whatever it did, the result must be what a walk says
 * after the last disturbance; and a walk that is disturbed all the time must end.
 */
static void disturbed_walks(void **state)
{
    static const enum spec_format formats[] = {SPEC_32BIT, SPEC_PAE, SPEC_LONG4, SPEC_LONG5};
    static struct input in;
    u64 contended = 0, disturbed = 0;

    (void)state;
    for (u64 n = 0; n < WALK_CASES / 10; n++) {
        struct case_machine machine = case_random_machine(formats[random_below(ARRAY_SIZE(formats))]);
        struct spec_translation spec;
        enum walk_status status;
        const char *wrong;
        struct walk code;

        in.second.kind = SPEC_SECOND_NONE;
        in.access = accesses[random_below(access_count)];
        machine.pdpte_loaded = false;
        case_guest(&in.tables, &machine);
        in.address = random_address(&in.tables.spec, false);
        case_memory_place(&memory, random_base(&in.tables.spec));
        build(&in);
        memory.disturb_percent = random_chance(5) ? 100 : 25;
        status = walk_and_mark(&in.tables.code, &memory.code, in.tables.spec.root, in.address,
                               case_guest_access(&in.access), &code);
        memory.disturb_percent = 0;
        disturbed += memory.disturbances != 0;
        if (status == WALK_CONTENDED) {
            assert_int_equal(memory.disturbances, WALK_ATTEMPTS);
            contended++;
            continue;
        }
        spec = spec_walk(&in.tables.spec, &memory.spec, in.address, &in.access, NULL);
        wrong = compare(&in, &spec, status, &code);
        if (wrong == NULL && status == WALK_OK && !entries_stand(&in.tables.code, &code))
            wrong = "entries";
        if (wrong != NULL)
            fail_case(&in, wrong, "disturbed walk_and_mark", &spec, status, &code,
                      &(struct spec_flag_sets){.count = 0});
    }
    printf("  disturbed %llu walks, %llu of them given up\n", (unsigned long long)disturbed,
           (unsigned long long)contended);
    assert_true(disturbed > 0 && contended > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guest_tables),
        cmocka_unit_test(nested_paging),
        cmocka_unit_test(extended_page_tables),
        cmocka_unit_test(disturbed_walks),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
