/* SPDX-License-Identifier: MIT */
/*
 * MTRRs: which writes raise #GP, and the type of every page against a specification that looks at one page
 * alone and is written from SDM vol. 3A 12.11, with random registers, masks with holes among them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "mm/mtrr.h"
#include "tests/unit/random.h"

enum {
    CAP = 0xfe,
    DEF_TYPE = 0x2ff,
    FIXED_64K = 0x250,
    FIXED_16K = 0x258,
    FIXED_4K = 0x268,
    VARIABLE = 0x200
};

static const u64 enable = BIT(11), fixed_enable = BIT(10), mask_valid = BIT(11);
static const u8 all_types[] = {0, 1, 4, 5, 6};

static struct mtrr_state new_state(void)
{
    return (struct mtrr_state){.cap = 0x500 | 8, .variable_count = 8, .maxphyaddr = 40};
}

/* ---- specification ---- */

/* SDM vol. 3A table 12-9: the sub-ranges in ascending order are bytes in ascending order of the registers. */
static u64 specified_fixed(const struct mtrr_state *state, u64 page)
{
    u64 byte;
    if (page < 0x80000)
        byte = page / 0x10000;
    else if (page < 0xc0000)
        byte = 8 + (page - 0x80000) / 0x4000;
    else
        byte = 24 + (page - 0xc0000) / 0x1000;
    return state->fixed[byte / 8] >> (byte % 8 * 8) & 0xff;
}

/* SDM vol. 3A 12.11.4.1, for one page. */
static u64 specified_type(const struct mtrr_state *state, u64 page)
{
    unsigned matches = 0;
    bool has[256] = {false};

    if ((state->def_type & enable) == 0)
        return MT_UC;
    if ((state->cap & BIT(8)) != 0 && (state->def_type & fixed_enable) != 0 && page < 0x100000)
        return specified_fixed(state, page);
    for (unsigned i = 0; i < state->variable_count; i++) {
        u64 mask = state->variable[i].mask, base = state->variable[i].base;
        bool match = true;
        for (unsigned bit = 12; bit < 64; bit++) {
            if ((mask >> bit & 1) != 0 && (base >> bit & 1) != (page >> bit & 1))
                match = false;
        }
        if ((mask & mask_valid) != 0 && match) {
            has[base & 0xff] = true;
            matches++;
        }
    }
    if (matches == 0)
        return state->def_type & 0xff;
    for (u64 type = 0; type < 256; type++) {
        bool alone = has[type];
        for (u64 other = 0; other < 256; other++)
            alone = alone && (other == type || !has[other]);
        if (alone)
            return type;
    }
    if (has[MT_WT] && has[MT_WB] && !has[MT_UC] && !has[MT_WC] && !has[MT_WP])
        return MT_WT;
    return MT_UC;
}

/* ---- registers ---- */

static void owned_registers(void **state)
{
    (void)state;
    struct mtrr_state mtrr = new_state();

    for (u32 msr = 0; msr < 0x400; msr++) {
        bool fixed = msr == 0x250 || msr == 0x258 || msr == 0x259 || (msr >= 0x268 && msr <= 0x26f);
        bool other = msr == CAP || msr == DEF_TYPE || (msr >= VARIABLE && msr < VARIABLE + 16);
        mtrr.cap |= BIT(8);
        assert_int_equal(mtrr_owns(&mtrr, msr), fixed || other);
        mtrr.cap &= ~BIT(8);
        assert_int_equal(mtrr_owns(&mtrr, msr), other);
        assert_int_equal(mtrr_write(&mtrr, msr, 0), other && msr != CAP);
    }
    mtrr.variable_count = MTRR_VARIABLE_MAX;
    assert_true(mtrr_owns(&mtrr, 0x23f));
    assert_false(mtrr_owns(&mtrr, 0x240));
    assert_int_equal(mtrr_read(&mtrr, 0x277), 0);
}

static void values_are_kept_apart(void **state)
{
    (void)state;
    struct mtrr_state mtrr = new_state();

    mtrr.cap = 0x508;
    for (u32 i = 0; i < 16; i++)
        assert_true(mtrr_write(&mtrr, VARIABLE + i, (u64)i << 12));
    for (u32 msr = FIXED_64K; msr < FIXED_4K + 8; msr++) {
        if (mtrr_owns(&mtrr, msr))
            assert_true(mtrr_write(&mtrr, msr, 0x0606060606060600 | all_types[msr % 5]));
    }
    assert_true(mtrr_write(&mtrr, DEF_TYPE, fixed_enable | all_types[DEF_TYPE % 5]));

    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(mtrr_read(&mtrr, VARIABLE + i), (u64)i << 12);
    assert_int_equal(mtrr_read(&mtrr, FIXED_64K), 0x0606060606060600 | all_types[FIXED_64K % 5]);
    for (u32 msr = FIXED_4K; msr < FIXED_4K + 8; msr++)
        assert_int_equal(mtrr_read(&mtrr, msr), 0x0606060606060600 | all_types[msr % 5]);
    assert_int_equal(mtrr_read(&mtrr, DEF_TYPE), fixed_enable | all_types[DEF_TYPE % 5]);
    assert_int_equal(mtrr_read(&mtrr, CAP), 0x508);
}

static bool is_type(u64 type)
{
    return type == 0 || type == 1 || type == 4 || type == 5 || type == 6;
}

/* One write and what must come of it: the value is there, or nothing changed. */
static void check_write(struct mtrr_state *mtrr, u32 msr, u64 value, bool allowed)
{
    struct mtrr_state before = *mtrr;

    assert_int_equal(mtrr_write(mtrr, msr, value), allowed);
    if (allowed)
        assert_int_equal(mtrr_read(mtrr, msr), value);
    else
        assert_memory_equal(mtrr, &before, sizeof(before));
}

static void reserved_bits_fault(void **state)
{
    (void)state;
    for (unsigned maxphyaddr = 36; maxphyaddr <= 52; maxphyaddr += 4) {
        struct mtrr_state mtrr = new_state();
        mtrr.cap |= BIT(8);
        mtrr.maxphyaddr = maxphyaddr;
        for (unsigned bit = 8; bit < 64; bit++) {
            check_write(&mtrr, DEF_TYPE, BIT(bit) | MT_WB, bit == 10 || bit == 11);
            check_write(&mtrr, VARIABLE + 4, BIT(bit) | MT_WB, bit >= 12 && bit < maxphyaddr);
        }
        for (unsigned bit = 0; bit < 64; bit++)
            check_write(&mtrr, VARIABLE + 5, BIT(bit), bit >= 11 && bit < maxphyaddr);
    }
}

static void undefined_types_fault(void **state)
{
    (void)state;
    struct mtrr_state mtrr = new_state();

    mtrr.cap |= BIT(8);
    for (u64 type = 0; type < 256; type++) {
        check_write(&mtrr, DEF_TYPE, type, is_type(type));
        check_write(&mtrr, VARIABLE, BIT(20) | type, is_type(type));
        for (unsigned byte = 0; byte < 8; byte++) {
            u64 others = 0x0601040506000104;
            check_write(&mtrr, FIXED_16K, (others & ~(0xffull << (8 * byte))) | type << (8 * byte),
                        is_type(type));
        }
    }
    mtrr.cap &= ~BIT(10); /* no write-combining */
    check_write(&mtrr, DEF_TYPE, MT_WC, false);
    check_write(&mtrr, VARIABLE, MT_WC, false);
    check_write(&mtrr, FIXED_4K, MT_WC, false);
    check_write(&mtrr, CAP, mtrr.cap, false);
}

/* ---- types ---- */

static enum memory_type type_of(const struct mtrr_state *mtrr, u64 page)
{
    u64 end;
    enum memory_type type = mtrr_type(mtrr, page, page + PAGE_SIZE, &end);
    assert_int_equal(end, page + PAGE_SIZE);
    return type;
}

static void enable_bits(void **state)
{
    (void)state;
    struct mtrr_state mtrr = new_state();
    u64 end;

    mtrr.cap |= BIT(8);
    assert_int_equal(mtrr_type(&mtrr, 0, BIT(40), &end), MT_UC);
    assert_int_equal(end, BIT(40));
    mtrr.def_type = fixed_enable | MT_WB; /* FE without E: still all UC */
    assert_int_equal(mtrr_type(&mtrr, 0, BIT(40), &end), MT_UC);
    assert_int_equal(end, BIT(40));
    mtrr.def_type = enable | MT_WB;
    assert_int_equal(mtrr_type(&mtrr, 0, BIT(40), &end), MT_WB);
    assert_int_equal(end, BIT(40));
    mtrr.def_type = enable | fixed_enable | MT_WB; /* fixed registers are all UC */
    assert_int_equal(mtrr_type(&mtrr, 0, BIT(40), &end), MT_UC);
    assert_int_equal(end, MIB(1));
    mtrr.cap &= ~BIT(8);
    assert_int_equal(mtrr_type(&mtrr, 0, BIT(40), &end), MT_WB);
}

/* The register values that PC firmware leaves: RAM below 640 KByte and of 2 GByte, a hole, a frame buffer. */
static void a_usual_machine(void **state)
{
    (void)state;
    struct mtrr_state mtrr = new_state();
    u64 end;

    mtrr.cap |= BIT(8);
    mtrr.def_type = enable | fixed_enable | MT_WB;
    mtrr.fixed[0] = 0x0606060606060606;
    mtrr.fixed[1] = 0x0606060606060606;
    for (unsigned i = 3; i < MTRR_FIXED_COUNT; i++)
        mtrr.fixed[i] = 0x0505050505050505;
    mtrr.variable[0].base = GIB(2) | MT_UC;
    mtrr.variable[0].mask = (BITS(39, 0) & ~(GIB(2) - 1)) | mask_valid;
    mtrr.variable[1].base = MIB(2047) | MT_UC;
    mtrr.variable[1].mask = (BITS(39, 0) & ~(MIB(1) - 1)) | mask_valid;

    static const struct {
        u64 start, end;
        enum memory_type type;
    } pieces[] = {
        {0, 0xa0000, MT_WB},          {0xa0000, 0xc0000, MT_UC},  {0xc0000, 0x100000, MT_WP},
        {0x100000, MIB(2047), MT_WB}, {MIB(2047), GIB(4), MT_UC}, {GIB(4), BIT(40), MT_WB},
    };
    for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
        assert_int_equal(mtrr_type(&mtrr, pieces[i].start, BIT(40), &end), pieces[i].type);
        assert_int_equal(end, pieces[i].end);
        assert_int_equal(mtrr_type(&mtrr, pieces[i].end - PAGE_SIZE, BIT(40), &end), pieces[i].type);
        assert_int_equal(end, pieces[i].end);
    }
}

/* Every set of types that can overlap at one page. */
static void every_mix_of_types(void **state)
{
    (void)state;
    for (unsigned set = 0; set < 32; set++) {
        for (unsigned reversed = 0; reversed < 2; reversed++) {
            struct mtrr_state mtrr = new_state();
            mtrr.def_type = enable | MT_WP;
            for (unsigned i = 0; i < 5; i++) {
                unsigned n = reversed != 0 ? 4 - i : i;
                mtrr.variable[i].base = MIB(16) | all_types[n];
                mtrr.variable[i].mask = BITS(39, 24) | ((set >> n & 1) != 0 ? mask_valid : 0);
            }
            assert_int_equal(type_of(&mtrr, MIB(16)), specified_type(&mtrr, MIB(16)));
            assert_int_equal(type_of(&mtrr, MIB(15)), MT_WP);
            assert_int_equal(type_of(&mtrr, MIB(32)), MT_WP);
        }
    }
}

static u64 random_mask(void)
{
    static const unsigned lowest[] = {12, 14, 17, 20, 22, 23};
    u64 mask = BITS(35, 0) & ~(BIT(lowest[random_below(ARRAY_SIZE(lowest))]) - 1);

    if (random_chance(30)) /* holes in the mask */
        mask &= ~(random_u64() & random_u64());
    if (random_chance(2))
        mask = 0;
    return mask & BITS(35, 12);
}

static struct mtrr_state random_state_in_low_memory(void)
{
    struct mtrr_state mtrr = new_state();

    mtrr.maxphyaddr = 36;
    mtrr.cap |= random_chance(80) ? BIT(8) : 0;
    mtrr.variable_count = (unsigned)random_below(7);
    mtrr.def_type = (random_chance(95) ? enable : 0) | (random_chance(70) ? fixed_enable : 0) |
                    all_types[random_below(5)];
    for (unsigned i = 0; i < MTRR_FIXED_COUNT; i++) {
        u8 same = all_types[random_below(5)];
        for (unsigned byte = 0; byte < 8; byte++)
            mtrr.fixed[i] |= (u64)(random_chance(80) ? same : all_types[random_below(5)]) << (8 * byte);
    }
    for (unsigned i = 0; i < mtrr.variable_count; i++) {
        u64 base = (random_below(MIB(16)) | (random_chance(10) ? random_u64() : 0)) & BITS(35, 12);
        mtrr.variable[i].base = base | all_types[random_chance(50) ? 4 : random_below(5)];
        mtrr.variable[i].mask = random_mask() | (random_chance(90) ? mask_valid : 0);
    }
    return mtrr;
}

/* In the lowest 16 MByte page by page; above it pages are picked from the piece that is said to be uniform.
 */
static void random_registers_equal_the_specification(void **state)
{
    (void)state;
    for (int round = 0; round < 150; round++) {
        struct mtrr_state mtrr = random_state_in_low_memory();
        u64 limit = MIB(16), end;

        for (u64 at = 0; at < limit; at = end) {
            enum memory_type type = mtrr_type(&mtrr, at, limit, &end);
            assert_true(end > at && end <= limit && (end & PAGE_MASK) == 0);
            for (u64 page = at; page < end; page += PAGE_SIZE)
                assert_int_equal(specified_type(&mtrr, page), type);
        }
        for (int k = 0; k < 50; k++) {
            u64 at = random_u64() & BITS(35, 12);
            enum memory_type type = mtrr_type(&mtrr, at, BIT(36), &end);
            assert_true(end > at && end <= BIT(36) && (end & PAGE_MASK) == 0);
            for (int pick = 0; pick < 8; pick++) {
                u64 page = at + align_down(random_below(end - at), PAGE_SIZE);
                assert_int_equal(specified_type(&mtrr, page), type);
            }
            assert_int_equal(specified_type(&mtrr, end - PAGE_SIZE), type);
        }
    }
}

/* With whole masks the pieces are as long as they can be, so that nobody splits a large page for nothing. */
static void pieces_are_maximal(void **state)
{
    (void)state;
    unsigned checked = 0;

    for (int round = 0; round < 300; round++) {
        struct mtrr_state mtrr = random_state_in_low_memory();
        u64 end;
        bool holes = false;
        for (unsigned i = 0; i < mtrr.variable_count; i++) {
            u64 mask = mtrr.variable[i].mask & ~mask_valid;
            holes = holes || mask + (mask & -mask) != BIT(36);
        }
        for (u64 at = 0; at < MIB(16) && !holes; at = end) {
            enum memory_type type = mtrr_type(&mtrr, at, MIB(16), &end);
            if (end < MIB(16))
                assert_int_not_equal(specified_type(&mtrr, end), type);
            checked++;
        }
    }
    assert_true(checked > 100);
}

/* A mask that makes every second page different costs a piece per page and no more. */
static void the_worst_mask_makes_progress(void **state)
{
    (void)state;
    struct mtrr_state mtrr = new_state();
    u64 end, pieces = 0;

    mtrr.def_type = enable | MT_WB;
    mtrr.variable[0].base = MT_UC;
    mtrr.variable[0].mask = BIT(12) | mask_valid;
    for (u64 at = 0; at < MIB(4); at = end, pieces++)
        mtrr_type(&mtrr, at, MIB(4), &end);
    assert_int_equal(pieces, 1024);
    mtrr.variable[0].base = MT_WB; /* the same type everywhere, in pieces that the search may cut short */
    assert_int_equal(mtrr_type(&mtrr, 0, BIT(40), &end), MT_WB);
    assert_true(end >= MIB(1) / 2);

    mtrr.variable[0].mask = mask_valid; /* compares nothing: matches everywhere */
    assert_int_equal(mtrr_type(&mtrr, MIB(1), BIT(40), &end), MT_WB);
    assert_int_equal(end, BIT(40));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(owned_registers),     cmocka_unit_test(values_are_kept_apart),
        cmocka_unit_test(reserved_bits_fault), cmocka_unit_test(undefined_types_fault),
        cmocka_unit_test(enable_bits),         cmocka_unit_test(a_usual_machine),
        cmocka_unit_test(every_mix_of_types),  cmocka_unit_test(random_registers_equal_the_specification),
        cmocka_unit_test(pieces_are_maximal),  cmocka_unit_test(the_worst_mask_makes_progress),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
