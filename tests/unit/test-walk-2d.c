/* SPDX-License-Identifier: MIT */
/*
 * Random differential test of two-dimensional walks: guest tables of every format reached through EPT or NPT
 * of every format, against the specification. The guest's tables lie where the second level maps them; some
 * entries of either are spoiled, and some tables lie in frames that hold a table of the other stage.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/x86.h"
#include "mm/walk-quick.h"
#include "tests/unit/paging-case.h"
#include "tests/unit/random.h"

/* Smaller where the test is built slow, with all sanitizers. */
#ifndef WALK_2D_CASES
#define WALK_2D_CASES 250000u
#endif
#define CASES_PER_MACHINE 16u

enum {
    SECOND_FRAMES = 6
}; /* the first frames hold tables of the second level, the others those of the guest */

static struct case_memory memory;
static struct spec_access accesses[CASE_ACCESSES_MAX];
static unsigned access_count;
static u64 compared, quick;
static u64 outcomes[SPEC_NO_MEMORY + 1];

static int set_up(void **state)
{
    (void)state;
    case_memory_init(&memory);
    memory.disturb_nothing = true;
    access_count = case_accesses(accesses);
    return 0;
}

struct input {
    struct case_tables guest, host;
    struct spec_second second;
    struct spec_access access;
    u64 linear;
};

static void fail_case(const struct input *in, const char *what, const char *function,
                      const struct spec_translation_2d *spec, enum walk_status status,
                      const struct walk_2d *code, const struct spec_flag_sets *flags)
{
    printf("%s: %s differs in case %llu, linear address %#llx\n", function, what,
           (unsigned long long)compared, (unsigned long long)in->linear);
    case_print_tables("guest", &in->guest.spec);
    case_print_tables("second level", &in->second.tables);
    case_print_access(&in->access);
    case_print_translation("specification, guest's tables,", &spec->guest);
    case_print_translation("specification", &spec->whole);
    printf("  code: stage %s, address %#llx, guest address %#llx\n",
           code->stage == WALK_STAGE_GUEST ? "guest" : "host", (unsigned long long)code->address,
           (unsigned long long)code->guest_address);
    case_print_walk("walk_2d, guest's tables,", status, &code->guest);
    case_print_walk("walk_2d, second level,", status, &code->host);
    case_print_flags(&memory, flags);
    fail();
}

/* The guest's entries, where the second level found them. */
static const char *compare_guest_entries(const struct spec_translation_2d *spec, const struct walk_2d *code)
{
    unsigned reads = 0;

    for (unsigned i = 0; i < spec->guest.path.count; i++) {
        bool loaded = spec->guest.path.step[i].loaded;
        unsigned level = spec->guest.path.step[i].level;

        if (code->guest.entry[level].address != (loaded ? ~0ull : spec->entry_host[reads]))
            return "address of a guest entry";
        if (((code->guest.entry[level].value ^ spec->guest.path.step[i].entry) & ~0x360ull) != 0)
            return "value of a guest entry";
        reads += loaded ? 0 : 1;
    }
    return NULL;
}

static const char *compare_guest_result(const struct input *in, const struct spec_translation_2d *spec,
                                        const struct walk_2d *code)
{
    if (code->guest_address != spec->guest.address)
        return "guest-physical address";
    if (in->guest.spec.format == SPEC_NO_PAGING)
        return NULL;
    if (paging_level_span(role_format(in->guest.code.role), code->guest.level) != spec->guest.page_size)
        return "guest page size";
    if (((code->guest.rights & RIGHT_U) != 0) != spec->guest.user_address ||
        ((code->guest.rights & RIGHT_W) != 0) != spec->guest.writable ||
        ((code->guest.rights & RIGHT_X) != 0) == spec->guest.execute_disabled)
        return "guest rights";
    return compare_guest_entries(spec, code);
}

static const char *compare(const struct input *in, const struct spec_translation_2d *spec,
                           enum walk_status status, const struct walk_2d *code)
{
    const char *wrong = NULL;

    if (spec->whole.result == SPEC_NO_MEMORY || status == WALK_NOT_MEMORY)
        return spec->whole.result == SPEC_NO_MEMORY && status == WALK_NOT_MEMORY ? NULL : "memory";
    if (spec->whole.result == SPEC_TRANSLATED) {
        if (status != WALK_OK || code->address != spec->whole.address)
            return "translation";
        wrong = case_compare_second(&in->second, &in->host, &spec->whole, status, &code->host);
        return wrong != NULL ? wrong : compare_guest_result(in, spec, code);
    }
    if (status != WALK_FAULT)
        return "fault or not";
    if (spec->whole.result == SPEC_PAGE_FAULT) {
        if (code->stage != WALK_STAGE_GUEST)
            return "stage";
        if (fault_pf_error_code(in->guest.code.role, &code->guest.fault) != spec->whole.code)
            return "#PF error code";
        if (code->guest.fault.address != in->linear)
            return "faulting linear address";
        return compare_guest_entries(spec, code);
    }
    if (code->stage != WALK_STAGE_HOST)
        return "stage";
    if (spec->final)
        wrong = compare_guest_result(in, spec, code);
    return wrong != NULL ? wrong
                         : case_compare_second(&in->second, &in->host, &spec->whole, status, &code->host);
}

/* walk_2d_quick() may give up; what it answers must be right, and only if there is no flag to set. */
static const char *compare_quick(const struct spec_translation_2d *spec, u64 found, bool flags_owed)
{
    if (found == WALK_NOT_QUICK)
        return NULL;
    quick++;
    if (spec->whole.result != SPEC_TRANSLATED || found != spec->whole.address)
        return "quick translation";
    return flags_owed ? "quick translation with a flag to set" : NULL;
}

static void compare_case(struct input *in)
{
    const struct walk_2d_tables tables = {.guest = &in->guest.code,
                                          .guest_root = in->guest.spec.root,
                                          .host = &in->host.code,
                                          .host_root = in->host.spec.root};
    struct spec_flag_sets flags = {.count = 0};
    unsigned access = case_guest_access(&in->access);
    struct spec_translation_2d spec;
    enum walk_status status;
    const char *wrong;
    struct walk_2d code;
    u64 found;

    spec = spec_walk_2d(&in->guest.spec, &in->second, &memory.spec, in->linear, &in->access, NULL);
    found = walk_2d_quick(&tables, &memory.code, in->linear, access);
    status = walk_2d(&tables, &memory.code, in->linear, access, &code);
    wrong = compare(in, &spec, status, &code);
    if (wrong != NULL || memory.writes != 0)
        fail_case(in, wrong != NULL ? wrong : "memory", "walk_2d", &spec, status, &code, &flags);
    spec = spec_walk_2d(&in->guest.spec, &in->second, &memory.spec, in->linear, &in->access, &flags);
    status = walk_2d_and_mark(&tables, &memory.code, in->linear, access, &code);
    wrong = compare(in, &spec, status, &code);
    if (wrong == NULL)
        wrong = case_compare_flags(&memory, &flags, status != WALK_OK);
    if (wrong == NULL)
        wrong = compare_quick(&spec, found, flags.count != 0);
    if (wrong == NULL && status == WALK_OK)
        wrong = compare_quick(&spec, walk_2d_quick(&tables, &memory.code, in->linear, access), false);
    if (wrong != NULL)
        fail_case(in, wrong, "walk_2d_and_mark", &spec, status, &code, &flags);
    outcomes[spec.whole.result]++;
    compared++;
}

/* 1-GByte aligned, below what either stage can use. */
static u64 random_region(unsigned bits)
{
    return GIB(1) * random_below(1ull << (bits - 30));
}

static u64 frame_for(bool second)
{
    if (random_chance(1))
        return random_below(CASE_FRAMES); /* perhaps a table of the other stage */
    return second ? random_below(SECOND_FRAMES) : SECOND_FRAMES + random_below(CASE_FRAMES - SECOND_FRAMES);
}

/* Where the tables of the second level lie, and a leaf size; the address and target come later. */
static void plan_second(struct input *in, struct case_chain *chain)
{
    const struct spec_paging *spec = &in->second.tables;

    *chain = (struct case_chain){
        .spec = spec, .odd_percent = random_chance(50) ? 2 : 0, .plain_percent = random_chance(80) ? 99 : 50};
    chain->leaf_level = case_random_leaf_level(spec);
    chain->settled = random_chance(40);
    for (unsigned level = 1; level <= spec_levels(spec->format); level++) {
        /* Neighbouring levels have different frames, or no translation would end where it should. */
        do
            chain->table_host[level] = memory.base + frame_for(true) * PAGE_SIZE;
        while (level > 1 && chain->table_host[level] == chain->table_host[level - 1]);
        chain->table_address[level] = chain->table_host[level];
    }
}

/* Maps the page of `gpa`, which is in the guest's region but for `extra`, to the same place in memory; others
 * anywhere. */
static void map_second(struct case_chain *chain, u64 gpa, u64 region, u64 extra)
{
    u64 offset = (gpa & ~extra) - region;

    chain->address = gpa;
    chain->target =
        offset < GIB(1) ? memory.base + offset : random_u64() & (BIT(chain->spec->maxphyaddr) - 1);
    case_build_chain(&memory, chain);
}

static u64 random_linear(const struct spec_paging *spec)
{
    unsigned bits = spec_address_bits(spec->format);
    u64 address = random_u64() & (BIT(bits > 57 || bits == 0 ? 40 : bits) - 1);

    if (bits > 32 && (address >> (bits - 1)) != 0)
        address |= ~(BIT(bits) - 1);
    return address;
}

static u64 random_final(u64 region, unsigned bits)
{
    if (random_chance(70))
        return region + random_below(CASE_BYTES);
    return random_u64() & (BIT(bits) - 1);
}

/*
 * A bit that MAXPHYADDR reserves in the guest's entries, though the second level translates it: a reference
 * with it must not be followed, even where the second level leads on.
 */
static u64 random_extra(const struct spec_paging *guest, bool low)
{
    if (low || guest->maxphyaddr >= 47 || !random_chance(10))
        return 0;
    return BIT(guest->maxphyaddr + random_below(47 - guest->maxphyaddr));
}

static void plan_guest(struct input *in, struct case_chain *chain, u64 region, unsigned bits)
{
    const struct spec_paging *spec = &in->guest.spec;

    *chain = (struct case_chain){.spec = spec,
                                 .address = in->linear,
                                 .odd_percent = random_chance(40) ? 3 : 0,
                                 .plain_percent = random_chance(80) ? 90 : 0};
    chain->leaf_level = case_random_leaf_level(spec);
    chain->settled = random_chance(40);
    chain->target = random_final(region, bits);
    for (unsigned level = 1; level <= spec_levels(spec->format); level++) {
        u64 frame = frame_for(false);

        chain->table_address[level] = region + frame * PAGE_SIZE;
        chain->table_host[level] = memory.base + frame * PAGE_SIZE;
    }
    if (spec->format == SPEC_PAE) {
        u64 line = random_below(128) * 32;

        chain->table_address[3] += line;
        chain->table_host[3] += line;
    }
}

/* Guest tables, then for each table and for the final page a way through the second level. */
static void build(struct input *in)
{
    struct spec_paging *guest = &in->guest.spec;
    bool low = guest->format == SPEC_32BIT || guest->format == SPEC_PAE ||
               in->second.tables.format == SPEC_32BIT || in->second.tables.format == SPEC_PAE;
    unsigned bits = low ? 32 : guest->maxphyaddr < 47 ? guest->maxphyaddr : 47;
    bool low_host = in->second.tables.format == SPEC_32BIT || in->second.tables.format == SPEC_PAE;
    struct case_chain guest_chain, second_chain;
    unsigned levels = spec_levels(guest->format);
    u64 region = random_region(bits), extra = random_extra(guest, low), size, final;

    case_memory_place(&memory, random_chance(50) ? 0 : random_region(low_host ? 32 : 35));
    if (in->second.tables.maxphyaddr < 36)
        case_memory_place(&memory, 0);
    plan_second(in, &second_chain);
    plan_guest(in, &guest_chain, region, bits);
    guest->root = levels == 0 ? 0 : guest_chain.table_address[levels];
    if (extra != 0 && levels != 0)
        guest_chain.table_address[1 + random_below(levels - 1)] |= extra;
    in->second.tables.root = second_chain.table_host[spec_levels(in->second.tables.format)];
    in->host.spec.root = in->second.tables.root;
    if (levels == 0) {
        final = in->linear = random_final(region, bits);
    } else {
        case_build_chain(&memory, &guest_chain);
        size = spec_entry_page_size(guest->format, guest_chain.leaf_level);
        final = (guest_chain.target - guest_chain.target % size) + in->linear % size;
    }
    for (unsigned i = 0; guest->pdpte_loaded && i < 4; i++)
        guest->pdpte[i] = guest_chain.table_address[2] | 1;
    map_second(&second_chain, final, region, 0);
    for (unsigned level = levels; level >= 1; level--)
        map_second(&second_chain, guest_chain.table_address[level], region, extra);
}

static void random_input(struct input *in)
{
    in->access = accesses[random_below(access_count)];
    /* Under GMET EXITINFO1 tells the CPL, which enum access does not name where it is not the access's mode.
     */
    if (in->second.kind == SPEC_SECOND_NPT && in->host.spec.gmet && (in->access.implicit || in->access.wruss))
        in->access.cpl = spec_user_mode_access(&in->access) ? 3 : 0;
    in->linear = random_linear(&in->guest.spec);
    build(in);
}

static void random_second(struct input *in, enum spec_second_kind kind)
{
    static const enum spec_format npt_formats[] = {SPEC_LONG4, SPEC_LONG4, SPEC_LONG5, SPEC_PAE, SPEC_32BIT};

    in->second.kind = kind;
    if (kind == SPEC_SECOND_EPT) {
        struct case_ept ept = case_random_ept(random_chance(70) ? SPEC_EPT4 : SPEC_EPT5);

        in->second.advanced = ept.advanced;
        case_ept(&in->host, &ept);
    } else {
        struct case_machine host = case_random_machine(npt_formats[random_below(ARRAY_SIZE(npt_formats))]);

        host.cpu.amd = true;
        host.pdpte_loaded = false;
        case_npt(&in->host, &host, random_chance(50));
    }
    in->second.tables = in->host.spec;
}

static void two_stages(enum spec_second_kind kind, const char *name)
{
    static const enum spec_format formats[] = {SPEC_NO_PAGING, SPEC_32BIT, SPEC_PAE, SPEC_LONG4, SPEC_LONG5};
    static struct input in;
    u64 before = compared;

    memset(outcomes, 0, sizeof(outcomes));
    for (unsigned f = 0; f < ARRAY_SIZE(formats); f++) {
        for (u64 n = 0; n < (f == 0 ? WALK_2D_CASES / 10 : WALK_2D_CASES); n++) {
            if (n % CASES_PER_MACHINE == 0) {
                struct case_machine machine = case_random_machine(formats[f]);

                machine.cpu.amd = kind == SPEC_SECOND_NPT;
                machine.pdpte_loaded = machine.pdpte_loaded && kind == SPEC_SECOND_EPT;
                case_guest(&in.guest, &machine);
                random_second(&in, kind);
            }
            random_input(&in);
            compare_case(&in);
        }
    }
    printf("  %s: %llu walks compared: %llu translated, %llu #PF, %llu violations, %llu misconfigurations, "
           "%llu #NPF, "
           "%llu without memory\n",
           name, (unsigned long long)(compared - before), (unsigned long long)outcomes[SPEC_TRANSLATED],
           (unsigned long long)outcomes[SPEC_PAGE_FAULT], (unsigned long long)outcomes[SPEC_EPT_VIOLATION],
           (unsigned long long)outcomes[SPEC_EPT_MISCONFIGURATION], (unsigned long long)outcomes[SPEC_NPF],
           (unsigned long long)outcomes[SPEC_NO_MEMORY]);
    printf("  %llu of them quick\n", (unsigned long long)quick);
    assert_true(quick > (compared - before) / 400);
    quick = 0;
    assert_true(outcomes[SPEC_TRANSLATED] > (compared - before) / 20);
    assert_true(outcomes[SPEC_PAGE_FAULT] > (compared - before) / 20);
}

static void through_ept(void **state)
{
    (void)state;
    two_stages(SPEC_SECOND_EPT, "EPT");
}

static void through_npt(void **state)
{
    (void)state;
    two_stages(SPEC_SECOND_NPT, "NPT");
}

static bool same_way(const struct spec_translation_2d *a, const struct spec_translation_2d *b)
{
    return a->whole.result == b->whole.result && a->whole.gpa == b->whole.gpa &&
           a->whole.path.count == b->whole.path.count && a->whole.address == b->whole.address &&
           a->whole.qualification == b->whole.qualification && a->whole.exitinfo1 == b->whole.exitinfo1 &&
           a->guest.path.count == b->guest.path.count && a->guest.address == b->guest.address &&
           a->guest.code == b->guest.code;
}

/*
 * Another CPU changes entries while flags are being set, though only in bits that mean nothing: the result
 * must be the same as without, and no walk may give up before it was disturbed so often.
 */
static void disturbed_walks(void **state)
{
    static const enum spec_format formats[] = {SPEC_32BIT, SPEC_PAE, SPEC_LONG4, SPEC_LONG5};
    static struct input in;
    u64 contended = 0, disturbed = 0, judged = 0;

    (void)state;
    for (u64 n = 0; n < WALK_2D_CASES / 4; n++) {
        struct case_machine machine = case_random_machine(formats[random_below(ARRAY_SIZE(formats))]);
        struct spec_translation_2d spec, undisturbed;
        enum walk_status status;
        const char *wrong;
        struct walk_2d code;

        machine.pdpte_loaded = false;
        case_guest(&in.guest, &machine);
        random_second(&in, random_chance(50) ? SPEC_SECOND_EPT : SPEC_SECOND_NPT);
        random_input(&in);
        undisturbed = spec_walk_2d(&in.guest.spec, &in.second, &memory.spec, in.linear, &in.access,
                                   &(struct spec_flag_sets){.count = 0});
        memory.disturb_percent = random_chance(5) ? 100 : 20;
        status = walk_2d_and_mark(
            &(struct walk_2d_tables){&in.guest.code, in.guest.spec.root, &in.host.code, in.host.spec.root},
            &memory.code, in.linear, case_guest_access(&in.access), &code);
        memory.disturb_percent = 0;
        disturbed += memory.disturbances != 0;
        if (status == WALK_CONTENDED) {
            assert_true(memory.disturbances >= WALK_ATTEMPTS);
            contended++;
            continue;
        }
        spec = spec_walk_2d(&in.guest.spec, &in.second, &memory.spec, in.linear, &in.access,
                            &(struct spec_flag_sets){.count = 0});
        /* Flags set in a table that serves twice, at different levels, may make its entries invalid. */
        if (!same_way(&spec, &undisturbed))
            continue;
        judged++;
        wrong = compare(&in, &spec, status, &code);
        if (wrong != NULL)
            fail_case(&in, wrong, "disturbed walk_2d_and_mark", &spec, status, &code,
                      &(struct spec_flag_sets){.count = 0});
    }
    printf("  disturbed %llu walks, %llu of them given up\n", (unsigned long long)disturbed,
           (unsigned long long)contended);
    assert_true(disturbed > 0 && contended > 0 && judged > WALK_2D_CASES / 5);
}

/* --- an EPT entry that moves during a walk
 * ------------------------------------------------------------------------ */

enum {
    EPT_FRAME = 1,
    GUEST_FRAME = 8,
    OTHER_FRAME = 14
}; /* the highest table of each; and a copy of the guest's */

static struct {
    unsigned loads, move_at;
    u64 slot;  /* of the EPT entry that maps the guest's highest table */
    u64 found; /* the frame that the last look at it gave */
    bool wrote_elsewhere;
} mover;

static enum memory_status moving_load(const struct paging_memory *code, gpa_t address, unsigned bytes,
                                      u64 *value)
{
    if (++mover.loads == mover.move_at)
        case_poke(&memory, mover.slot, 8, OTHER_FRAME * PAGE_SIZE | 7);
    (void)code;
    *value = case_peek(&memory, address.raw, bytes);
    if (address.raw == mover.slot)
        mover.found = *value & ~PAGE_MASK;
    return MEMORY_OK;
}

static enum memory_status moving_compare_exchange(const struct paging_memory *code, gpa_t address,
                                                  unsigned bytes, u64 expected, u64 desired)
{
    u64 frame = address.raw & ~PAGE_MASK;

    (void)code;
    if ((frame == GUEST_FRAME * PAGE_SIZE || frame == OTHER_FRAME * PAGE_SIZE) && frame != mover.found)
        mover.wrote_elsewhere = true;
    if (case_peek(&memory, address.raw, bytes) != expected)
        return MEMORY_CHANGED;
    case_poke(&memory, address.raw, bytes, desired);
    return MEMORY_OK;
}

static const struct paging_memory moving = {.load = moving_load, .compare_exchange = moving_compare_exchange};

static void put_moving_tables(void)
{
    for (unsigned level = 4; level >= 1; level--) {
        unsigned below = 5 - level;

        case_poke(&memory, (EPT_FRAME + 4 - level) * PAGE_SIZE, 8, (EPT_FRAME + below) * PAGE_SIZE | 7);
        case_poke(&memory, (GUEST_FRAME + 4 - level) * PAGE_SIZE, 8, (GUEST_FRAME + below) * PAGE_SIZE | 7);
    }
    for (u64 frame = 0; frame < CASE_FRAMES; frame++)
        case_poke(&memory, (EPT_FRAME + 3) * PAGE_SIZE + frame * 8, 8, frame * PAGE_SIZE | 7);
    case_poke(&memory, OTHER_FRAME * PAGE_SIZE, 8, (GUEST_FRAME + 1) * PAGE_SIZE | 7);
}

/*
 * EPT without A/D: an entry is read by one nested translation and written after another. Between any two
 * loads the guest's highest table moves: no flag may be set where the newest translation does not lead.
 */
static void tables_that_move(void **state)
{
    struct case_machine machine = case_random_machine(SPEC_LONG4);
    struct case_ept ept = {.cpu = {.maxphyaddr = 40}, .eptp = EPT_FRAME * PAGE_SIZE | 0x1E};
    struct case_tables guest, host;
    const struct walk_2d_tables tables = {&guest.code, GUEST_FRAME * PAGE_SIZE, &host.code,
                                          EPT_FRAME * PAGE_SIZE};

    (void)state;
    machine.cpu.maxphyaddr = 40;
    machine.cr4 &= CR4_PAE;
    case_guest(&guest, &machine);
    case_ept(&host, &ept);
    mover.slot = (EPT_FRAME + 3) * PAGE_SIZE + GUEST_FRAME * 8;
    for (mover.move_at = 1; mover.move_at <= mover.loads + 1; mover.move_at++) {
        struct walk_2d code;

        case_memory_place(&memory, 0);
        put_moving_tables();
        mover.loads = 0;
        assert_int_equal(walk_2d_and_mark(&tables, &moving, 0, ACCESS_WRITE, &code), WALK_OK);
        assert_false(mover.wrote_elsewhere);
        assert_true(code.address == (GUEST_FRAME + 4) * PAGE_SIZE);
    }
    assert_true(mover.move_at > 30);
}

/* --- table references with reserved address bits --- */

/* One way through guest tables and EPT; EPT has entry 2^n of its highest table for each address bit 39 + n,
 * too. */
static void put_wide_tables(void)
{
    for (unsigned level = 4; level >= 1; level--)
        case_poke(&memory, (GUEST_FRAME + 4 - level) * PAGE_SIZE, 8,
                  (GUEST_FRAME + 5 - level) * PAGE_SIZE | 0x67);
    for (unsigned level = 4; level >= 2; level--)
        case_poke(&memory, (EPT_FRAME + 4 - level) * PAGE_SIZE, 8, (EPT_FRAME + 5 - level) * PAGE_SIZE | 7);
    for (unsigned bit = 39; bit < 48; bit++)
        case_poke(&memory, EPT_FRAME * PAGE_SIZE + BIT(bit - 39) * 8, 8, (EPT_FRAME + 1) * PAGE_SIZE | 7);
    for (u64 frame = 0; frame < CASE_FRAMES; frame++)
        case_poke(&memory, (EPT_FRAME + 3) * PAGE_SIZE + frame * 8, 8, frame * PAGE_SIZE | 0x37);
}

static void check_wide_reference(const struct walk_2d_tables *tables, unsigned level, unsigned bit)
{
    u64 slot = (GUEST_FRAME + 4 - level) * PAGE_SIZE;
    struct walk_2d code;

    put_wide_tables();
    assert_true(walk_2d_quick(tables, &memory.code, 0, ACCESS_WRITE) == (GUEST_FRAME + 4) * PAGE_SIZE);
    case_poke(&memory, slot, 8, case_peek(&memory, slot, 8) | BIT(bit));
    assert_true(walk_2d_quick(tables, &memory.code, 0, ACCESS_WRITE) == WALK_NOT_QUICK);
    assert_int_equal(walk_translate_2d(tables, &memory.code, 0, ACCESS_WRITE, &code), WALK_FAULT);
    assert_int_equal(code.stage, WALK_STAGE_GUEST);
    assert_int_equal(fault_pf_error_code(tables->guest->role, &code.guest.fault), PF_P | PF_W | PF_RSVD);
}

/* The second stage translates 48 bits and maps them all: those from MAXPHYADDR up are reserved no less. */
static void reserved_references(void **state)
{
    struct case_machine machine = {.cpu = {.maxphyaddr = 39, .page_1g = true},
                                   .cr0 = CR0_PE | CR0_PG,
                                   .cr4 = CR4_PAE,
                                   .efer = EFER_LME | EFER_LMA};
    struct case_ept ept = {.cpu = {.maxphyaddr = 39}, .eptp = EPT_FRAME * PAGE_SIZE | 0x1E};
    struct case_tables guest, host;
    const struct walk_2d_tables tables = {&guest.code, GUEST_FRAME * PAGE_SIZE, &host.code,
                                          EPT_FRAME * PAGE_SIZE};

    (void)state;
    case_guest(&guest, &machine);
    case_ept(&host, &ept);
    case_memory_place(&memory, 0);
    paging_set_window(&memory.code, memory.bytes, 0, CASE_BYTES);
    for (unsigned level = 4; level >= 2; level--) {
        for (unsigned bit = 39; bit < 48; bit++)
            check_wide_reference(&tables, level, bit);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(through_ept),         cmocka_unit_test(through_npt),
        cmocka_unit_test(disturbed_walks),     cmocka_unit_test(tables_that_move),
        cmocka_unit_test(reserved_references),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
