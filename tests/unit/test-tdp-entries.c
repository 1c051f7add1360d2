/* SPDX-License-Identifier: MIT */
/*
 * Second-level entries bit by bit, as a reader of the manuals would write them down, and page sizes in chosen
 * cases. Also the tools of test-tdp themselves: the specification walker must object to every kind of bad
 * entry, and the simulated TLB to every kind of missing flush, or their silence would mean nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "mm/phys.h"
#include "tests/unit/checked-frames.h"
#include "tests/unit/simulated-tlb.h"

enum { RW = TDP_R | TDP_W, RX = TDP_R | TDP_XS | TDP_XU };

static const u64 nx = BIT(63);
static struct tdp tdp;

static const struct tdp_config ept = {.format = TDP_EPT, .page_1g = true, .maxphyaddr = 40};
static const struct tdp_config ept_mbec = {
    .format = TDP_EPT, .mode_based_execute = true, .execute_only = true, .page_1g = true, .maxphyaddr = 40};
static const struct tdp_config npt = {.format = TDP_NPT, .page_1g = true, .maxphyaddr = 40};
static const struct tdp_config npt_gmet = {
    .format = TDP_NPT, .mode_based_execute = true, .page_1g = true, .maxphyaddr = 40};

static void start_with(const struct tdp_config *config)
{
    checked_frames_reset();
    assert_int_equal(tdp_init(&tdp, config), TDP_OK);
}

/* The entry that maps `gpa` alone, apart from its address, after mapping `size` bytes there. */
static u64 attributes(const struct tdp_config *config, u64 size, unsigned access, enum memory_type type)
{
    start_with(config);
    assert_int_equal(tdp_map(&tdp, GIB(3), GIB(3) + size, access, type), TDP_OK);
    struct tdp_leaf leaf = tdp_lookup(&tdp, gpa(GIB(3)));
    assert_true(leaf.present);
    assert_int_equal(leaf.size, size);
    assert_int_equal(leaf.entry & BITS(51, 12), GIB(3));
    return leaf.entry & ~BITS(51, 12);
}

/* R 0, W 1, XS 2, type 5:3, PS 7, XU 10. */
static void ept_entries(void **state)
{
    (void)state;
    assert_int_equal(attributes(&ept, KIB(4), TDP_RWX, MT_WB), 0x037);
    assert_int_equal(attributes(&ept, MIB(2), TDP_RWX, MT_WB), 0x0b7);
    assert_int_equal(attributes(&ept, GIB(1), RW, MT_UC), 0x083);
    assert_int_equal(attributes(&ept_mbec, KIB(4), TDP_RWX, MT_WB), 0x437);
    assert_int_equal(attributes(&ept_mbec, MIB(2), TDP_RWX, MT_WT), 0x4a7);
    assert_int_equal(attributes(&ept_mbec, GIB(1), RX, MT_WP), 0x4ad);
    assert_int_equal(attributes(&ept_mbec, KIB(4), RW | TDP_XS, MT_WB), 0x037);
    assert_int_equal(attributes(&ept_mbec, KIB(4), RW | TDP_XU, MT_WC), 0x40b);
    assert_int_equal(attributes(&ept_mbec, KIB(4), TDP_XU, MT_WB), 0x430);
    assert_int_equal(attributes(&ept_mbec, MIB(2), TDP_XS, MT_WB), 0x0b4);
}

/* P 0, RW 1, US 2, A 5, D 6, PS 7, NX 63. With GMET, US=1 forbids the supervisor to fetch. */
static void npt_entries(void **state)
{
    (void)state;
    assert_int_equal(attributes(&npt, KIB(4), TDP_RWX, MT_WB), 0x67);
    assert_int_equal(attributes(&npt, MIB(2), TDP_RWX, MT_UC), 0xe7);
    assert_int_equal(attributes(&npt, KIB(4), TDP_R, MT_WB), 0x65 | nx);
    assert_int_equal(attributes(&npt_gmet, KIB(4), TDP_RWX, MT_WB), 0x63);
    assert_int_equal(attributes(&npt_gmet, GIB(1), TDP_RWX, MT_WB), 0xe3);
    assert_int_equal(attributes(&npt_gmet, KIB(4), RX, MT_WB), 0x61);
    assert_int_equal(attributes(&npt_gmet, MIB(2), RW | TDP_XU, MT_WB), 0xe7);
    assert_int_equal(attributes(&npt_gmet, MIB(2), RW, MT_WB), 0xe3 | nx);
}

static void entries_that_refer_to_tables(void **state)
{
    (void)state;
    static const struct {
        const struct tdp_config *config;
        u64 bits;
    } cases[] = {{&ept, 0x007}, {&ept_mbec, 0x407}, {&npt, 0x27}, {&npt_gmet, 0x27}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        start_with(cases[i].config);
        assert_int_equal(tdp_map(&tdp, 0, PAGE_SIZE, TDP_R, MT_WB), TDP_OK);
        u64 table = tdp.root.raw;
        for (unsigned level = 4; level > 1; level--) {
            const u64 *entries = phys_to_virt(hpa(table));
            assert_int_equal(entries[0] & ~BITS(51, 12), cases[i].bits);
            table = entries[0] & BITS(51, 12);
        }
    }
}

/* ---- page sizes ---- */

static u64 page_size_at(u64 address)
{
    struct tdp_leaf leaf = tdp_lookup(&tdp, gpa(address));
    assert_true(leaf.present);
    return leaf.size;
}

static void the_whole_memory_in_large_pages(void **state)
{
    (void)state;
    start_with(&ept_mbec);
    assert_int_equal(tdp_map(&tdp, 0, GIB(1024), TDP_RWX, MT_WB), TDP_OK);
    assert_int_equal(checked_frames_in_use(), 3); /* the root and two tables of 1-GByte pages */
    assert_false(tdp.flush_pending);
    assert_int_equal(page_size_at(GIB(1023)), GIB(1));

    /* Edges take the sizes that their alignment allows. */
    start_with(&npt_gmet);
    assert_int_equal(tdp_map(&tdp, GIB(1) - MIB(4) - KIB(8), GIB(2) + MIB(2) + KIB(4), TDP_RWX, MT_WB),
                     TDP_OK);
    assert_int_equal(page_size_at(GIB(1) - MIB(4) - KIB(8)), KIB(4));
    assert_int_equal(page_size_at(GIB(1) - MIB(4)), MIB(2));
    assert_int_equal(page_size_at(GIB(1)), GIB(1));
    assert_int_equal(page_size_at(GIB(2)), MIB(2));
    assert_int_equal(page_size_at(GIB(2) + MIB(2)), KIB(4));
}

static void a_page_is_split_and_merged_again(void **state)
{
    (void)state;
    static const struct tdp_config *const configs[] = {&ept_mbec, &npt_gmet};

    for (size_t i = 0; i < ARRAY_SIZE(configs); i++) {
        start_with(configs[i]);
        u64 page = GIB(5) + MIB(6) + KIB(12);
        assert_int_equal(tdp_map(&tdp, 0, GIB(8), TDP_RWX, MT_WB), TDP_OK);
        size_t frames = checked_frames_in_use();

        assert_int_equal(tdp_protect(&tdp, page, page + PAGE_SIZE, RW | TDP_XU), TDP_OK);
        assert_true(tdp.flush_pending);
        assert_int_equal(checked_frames_in_use(), frames + 2);
        assert_int_equal(page_size_at(page), KIB(4));
        assert_int_equal(page_size_at(page + MIB(2)), MIB(2));
        assert_int_equal(page_size_at(page + GIB(1)), GIB(1));
        assert_int_equal(tdp_lookup(&tdp, gpa(page)).access, RW | TDP_XU);
        assert_int_equal(tdp_lookup(&tdp, gpa(page - 1)).access, TDP_RWX);
        assert_int_equal(tdp_lookup(&tdp, gpa(page + PAGE_SIZE)).access, TDP_RWX);
        tdp_flushed(&tdp);

        assert_int_equal(tdp_protect(&tdp, page, page + PAGE_SIZE, TDP_RWX), TDP_OK);
        assert_true(tdp.flush_pending);
        assert_int_equal(page_size_at(page), GIB(1));
        assert_int_equal(checked_frames_in_use(), frames + 2); /* a TLB may still lead through them */
        tdp_flushed(&tdp);
        assert_int_equal(checked_frames_in_use(), frames);
    }
}

/* What says what is there already changes nothing, splits nothing and asks for nothing. */
static void the_same_again_is_nothing(void **state)
{
    (void)state;
    start_with(&ept_mbec);
    assert_int_equal(tdp_map(&tdp, 0, GIB(8), TDP_RWX, MT_WB), TDP_OK);
    checked_frames_limit(0);
    assert_int_equal(tdp_map(&tdp, MIB(2), GIB(2) + KIB(4), TDP_RWX, MT_WB), TDP_OK);
    assert_int_equal(tdp_protect(&tdp, KIB(4), KIB(8), TDP_RWX), TDP_OK);
    assert_int_equal(tdp_unmap(&tdp, GIB(9), GIB(10) + KIB(4)), TDP_OK);
    assert_false(tdp.flush_pending);
    assert_false(checked_frames_refused());
    assert_int_equal(page_size_at(0), GIB(1));
}

static void accessed_and_dirty_flags_follow_the_pages(void **state)
{
    (void)state;
    struct tdp_config config = ept_mbec;
    config.accessed_dirty = true;
    start_with(&config);
    assert_int_equal(tdp_map(&tdp, 0, GIB(1), TDP_RWX, MT_WB), TDP_OK);
    assert_int_equal(tdp_lookup(&tdp, gpa(0)).entry & (BIT(8) | BIT(9)), 0);
    struct spec_walk walk = spec_walk(&config, tdp.root.raw, 0);
    spec_set_accessed_dirty(&config, &walk, true);

    /* Any of the parts may have been written. */
    assert_int_equal(tdp_protect(&tdp, 0, KIB(4), TDP_R), TDP_OK);
    assert_int_equal(tdp_lookup(&tdp, gpa(0)).entry & (BIT(8) | BIT(9)), BIT(8) | BIT(9));
    assert_int_equal(tdp_lookup(&tdp, gpa(MIB(512))).entry & (BIT(8) | BIT(9)), BIT(8) | BIT(9));

    /* Flags do not keep parts from becoming one page, which has the flags of all. */
    walk = spec_walk(&config, tdp.root.raw, KIB(8));
    *walk.slot[walk.depth - 1] &= ~BIT(9);
    walk = spec_walk(&config, tdp.root.raw, MIB(4));
    *walk.slot[walk.depth - 1] &= ~(BIT(8) | BIT(9));
    assert_int_equal(tdp_protect(&tdp, 0, KIB(4), TDP_RWX), TDP_OK);
    assert_int_equal(tdp_lookup(&tdp, gpa(0)).entry & ~BITS(51, 12), 0x4b7 | BIT(8) | BIT(9));

    /* A new mapping begins clean. */
    assert_int_equal(tdp_map(&tdp, 0, GIB(1), TDP_R, MT_WB), TDP_OK);
    assert_int_equal(tdp_lookup(&tdp, gpa(0)).entry & ~BITS(51, 12), 0x0b1);
}

/* ---- the tools ---- */

/* A walk through hand-made tables whose entry at `level` is `entry`. */
static enum spec_result result_of(const struct tdp_config *config, unsigned level, u64 entry)
{
    start_with(config);
    assert_int_equal(tdp_map(&tdp, 0, PAGE_SIZE, TDP_RWX, MT_WB), TDP_OK);
    struct spec_walk walk = spec_walk(config, tdp.root.raw, 0);
    assert_int_equal(walk.depth, 4);
    *walk.slot[4 - level] = entry;
    return spec_walk(config, tdp.root.raw, 0).result;
}

static void the_specification_objects(void **state)
{
    (void)state;
    struct tdp_config small_npt = npt, plain = ept;
    small_npt.page_1g = false;
    plain.page_1g = false;
    const struct {
        const struct tdp_config *config;
        unsigned level;
        u64 entry;
        enum spec_result result;
    } cases[] = {
        {&ept, 1, 0x032, SPEC_MISCONFIGURED},      /* W without R */
        {&ept, 1, 0x034, SPEC_MISCONFIGURED},      /* X without R */
        {&ept_mbec, 1, 0x034, SPEC_TRANSLATED},    /* the same with execute-only support */
        {&ept_mbec, 1, 0x430, SPEC_TRANSLATED},    /* XU alone */
        {&ept, 1, 0x430, SPEC_NOT_PRESENT},        /* bit 10 means nothing without MBEC */
        {&ept_mbec, 1, 0x436, SPEC_MISCONFIGURED}, /* W and X without R */
        {&ept, 1, 0x017, SPEC_MISCONFIGURED},      /* types 2, 3, 7 */
        {&ept, 1, 0x01f, SPEC_MISCONFIGURED},
        {&ept, 1, 0x03f, SPEC_MISCONFIGURED},
        {&ept, 1, BIT(40) | 0x037, SPEC_MISCONFIGURED}, /* MAXPHYADDR is 40 */
        {&ept, 1, BIT(39) | 0x037, SPEC_TRANSLATED},
        {&ept, 2, 0x00f, SPEC_MISCONFIGURED}, /* bits 6:3 of a reference */
        {&ept, 3, 0x047, SPEC_MISCONFIGURED},
        {&ept, 4, 0x087, SPEC_MISCONFIGURED}, /* PS in a PML4 entry */
        {&ept, 2, 0x0b7, SPEC_TRANSLATED},
        {&ept, 2, 0x0b7 | BIT(12), SPEC_MISCONFIGURED}, /* low address bits */
        {&ept, 3, 0x0b7 | BIT(29), SPEC_MISCONFIGURED},
        {&ept, 3, 0x0b7 | BIT(30), SPEC_TRANSLATED},
        {&plain, 3, 0x0b7 | BIT(30), SPEC_MISCONFIGURED}, /* no 1-GByte pages */
        {&npt, 1, BIT(40) | 0x67, SPEC_MISCONFIGURED},
        {&npt, 4, 0xa7, SPEC_MISCONFIGURED},
        {&npt, 2, 0xe7 | BIT(13), SPEC_MISCONFIGURED},
        {&npt, 3, 0xe7 | BIT(21), SPEC_MISCONFIGURED},
        {&small_npt, 3, 0xe7, SPEC_MISCONFIGURED},
        {&npt, 1, 0x66, SPEC_NOT_PRESENT},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(result_of(cases[i].config, cases[i].level, cases[i].entry), cases[i].result);
}

static void the_specification_combines_levels(void **state)
{
    (void)state;
    start_with(&npt);
    assert_int_equal(tdp_map(&tdp, 0, PAGE_SIZE, TDP_RWX, MT_WB), TDP_OK);
    struct spec_walk walk = spec_walk(&npt, tdp.root.raw, 0);
    u64 reference = *walk.slot[1];

    *walk.slot[1] = reference & ~BIT(1);
    assert_false(spec_walk(&npt, tdp.root.raw, 0).write);
    *walk.slot[1] = reference & ~BIT(2); /* a supervisor page, and every nested access is a user access */
    assert_false(spec_walk(&npt, tdp.root.raw, 0).read);
    assert_true(spec_walk(&npt_gmet, tdp.root.raw, 0).fetch_supervisor);
    *walk.slot[1] = reference | nx;
    assert_false(spec_walk(&npt_gmet, tdp.root.raw, 0).fetch_user);
    *walk.slot[1] = reference;
    assert_true(spec_walk(&npt_gmet, tdp.root.raw, 0).fetch_user);
    assert_false(spec_walk(&npt_gmet, tdp.root.raw, 0).fetch_supervisor); /* this leaf has U set */
}

static void the_tlb_sees_what_was_not_flushed(void **state)
{
    (void)state;
    static struct simulated_tlb tlb;
    u64 *slot;

    for (unsigned wrong = 0; wrong < 6; wrong++) {
        start_with(&ept_mbec);
        tlb_init(&tlb, &ept_mbec, tdp.root.raw);
        assert_int_equal(tdp_map(&tdp, MIB(2), MIB(2) + KIB(8), TDP_RWX, MT_WB), TDP_OK);
        tlb_access(&tlb, MIB(2), true);
        assert_null(tlb_staleness(&tlb));
        struct spec_walk walk = spec_walk(&ept_mbec, tdp.root.raw, MIB(2));
        slot = walk.slot[3];
        switch (wrong) {
        case 0:
            *slot &= ~BIT(10);
            break;
        case 1:
            *slot = 0;
            break;
        case 2:
            *slot ^= BIT(20);
            break;
        case 3:
            *slot ^= 0x30;
            break;
        case 4: /* the table is unlinked, a page takes its place */
            *walk.slot[2] = MIB(2) | 0x4b7;
            break;
        case 5: /* the table is unlinked, and the page was never used: only the cached table leads to it */
            tlb_flush(&tlb);
            tlb_access(&tlb, MIB(2) + KIB(4), true);
            slot[1] = 0;
            tlb.translation_count = 0;
            *walk.slot[2] = 0;
            break;
        default:
            break;
        }
        const char *stale = NULL;
        for (int i = 0; i < 200 && !stale; i++) /* it looks at some entries of a table only, in most cases */
            stale = tlb_staleness(&tlb);
        assert_non_null(stale);
        tlb_flush(&tlb);
        assert_null(tlb_staleness(&tlb));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ept_entries),
        cmocka_unit_test(npt_entries),
        cmocka_unit_test(entries_that_refer_to_tables),
        cmocka_unit_test(the_whole_memory_in_large_pages),
        cmocka_unit_test(a_page_is_split_and_merged_again),
        cmocka_unit_test(the_same_again_is_nothing),
        cmocka_unit_test(accessed_and_dirty_flags_follow_the_pages),
        cmocka_unit_test(the_specification_objects),
        cmocka_unit_test(the_specification_combines_levels),
        cmocka_unit_test(the_tlb_sees_what_was_not_flushed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
