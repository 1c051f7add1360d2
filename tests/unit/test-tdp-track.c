/* SPDX-License-Identifier: MIT */
/*
 * Dirty tracking of single pages in Umbra's own map: each write that the guest makes after a clear and its
 * flush is seen, though the TLB sets no flag for a page that it holds as dirty, and whatever happens to the
 * rest of the map meanwhile. Tracking changes no translation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/checked-frames.h"
#include "tests/unit/random.h"
#include "tests/unit/simulated-tlb.h"

enum { PAGES = 10, STEPS = 20000 };

/* Neighbours, and pages of the same and of other 2-MByte and 1-GByte pages. */
static const u64 page_address[PAGES] = {
    0,      PAGE_SIZE, MIB(2) - PAGE_SIZE, MIB(2), MIB(4), GIB(1), GIB(1) + MIB(6), GIB(2), GIB(2) + MIB(512),
    GIB(3),
};

static struct tdp tdp;
static struct simulated_tlb tlb;
static struct {
    u64 *entry;   /* of tdp_track(), while it is valid */
    bool written; /* since the last clear */
} page[PAGES];

static void honour_flush(void)
{
    if (!tdp.flush_pending)
        return;
    tlb_flush(&tlb);
    tdp_flushed(&tdp);
}

static void start_with(const struct tdp_config *config)
{
    checked_frames_reset();
    memset(page, 0, sizeof(page));
    assert_int_equal(tdp_init(&tdp, config), TDP_OK);
    assert_int_equal(tdp_map(&tdp, 0, GIB(4), TDP_RWX, MT_WB), TDP_OK);
    tlb_init(&tlb, config, tdp.root.raw);
    honour_flush();
}

static void track(unsigned i)
{
    struct spec_walk before = spec_walk(&tdp.config, tdp.root.raw, page_address[i]);
    u64 changes = tdp.changes;

    page[i].entry = tdp_track(&tdp, gpa(page_address[i]));
    struct spec_walk now = spec_walk(&tdp.config, tdp.root.raw, page_address[i]);
    assert_int_equal(tdp.changes, changes);
    assert_int_equal(now.result, before.result);
    if (before.result != SPEC_TRANSLATED) {
        assert_null(page[i].entry);
        return;
    }
    assert_ptr_equal(page[i].entry, now.slot[now.depth - 1]);
    assert_int_equal(now.size, PAGE_SIZE);
    assert_true(now.target == before.target && now.type == before.type && now.write == before.write &&
                now.fetch_supervisor == before.fetch_supervisor && now.fetch_user == before.fetch_user);
    /* What is not known to be clean counts as written. */
    page[i].written = page[i].written && tdp_is_dirty(&tdp, page[i].entry);
    honour_flush();
}

static void clear(unsigned i)
{
    if (page[i].entry == NULL)
        return;
    assert_true(tdp_clear_dirty(&tdp, page[i].entry, tdp.changes));
    assert_true(tdp.flush_pending);
    assert_false(tdp_is_dirty(&tdp, page[i].entry));
    honour_flush();
    page[i].written = false;
}

static void change_something(void)
{
    static const unsigned accesses[] = {TDP_RWX, TDP_R | TDP_W, TDP_R, 0};
    u64 bytes = random_chance(70) ? PAGE_SIZE : MIB(2);
    u64 start = align_down(page_address[random_below(PAGES)] + random_below(2) * PAGE_SIZE, bytes);
    u64 changes = tdp.changes;

    if (random_chance(50))
        bytes = MIB(2), start = align_down(start, MIB(2));
    assert_int_equal(tdp_map(&tdp, start, start + bytes, accesses[random_below(ARRAY_SIZE(accesses))], MT_WB),
                     TDP_OK);
    honour_flush();
    if (tdp.changes == changes)
        return;
    for (unsigned i = 0; i < PAGES; i++) {
        /* The entry is void: its frame may be another table by now. */
        if (page[i].entry != NULL)
            assert_false(tdp_clear_dirty(&tdp, page[i].entry, changes));
        page[i].entry = NULL;
    }
}

/* A write that succeeds is remembered; a new mapping knows nothing of those before it. */
static void write_to(unsigned i)
{
    struct spec_walk walk = spec_walk(&tdp.config, tdp.root.raw, page_address[i]);

    tlb_write(&tlb, page_address[i]);
    page[i].written |= walk.result == SPEC_TRANSLATED && walk.write;
}

static void check(void)
{
    for (unsigned i = 0; i < PAGES; i++) {
        if (page[i].entry != NULL && page[i].written)
            assert_true(tdp_is_dirty(&tdp, page[i].entry));
    }
}

static void no_write_is_missed(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 6; c++) {
        const struct tdp_config config = {
            .format = c < 4 ? TDP_EPT : TDP_NPT,
            .mode_based_execute = (c & 1) != 0,
            .page_1g = (c & 2) != 0,
            .accessed_dirty = true,
            .maxphyaddr = 40,
        };
        unsigned clean = 0;

        start_with(&config);
        for (unsigned step = 0; step < STEPS; step++) {
            unsigned i = (unsigned)random_below(PAGES);
            u64 dice = random_below(100);
            if (dice < 20 && page[i].entry == NULL)
                track(i);
            else if (dice < 45)
                clear(i);
            else if (dice < 48)
                change_something();
            else if (dice < 75)
                write_to(i);
            else
                tlb_access(&tlb, page_address[i], false);
            check();
            clean += page[i].entry != NULL && !tdp_is_dirty(&tdp, page[i].entry);
        }
        assert_true(clean > 0);
    }
}

/* The flag of a large page tells nothing of the small ones that it is split into: all may have been written.
 */
static void a_split_page_counts_as_written(void **state)
{
    static const struct tdp_config config = {
        .format = TDP_EPT, .page_1g = true, .accessed_dirty = true, .maxphyaddr = 40};

    (void)state;
    start_with(&config);
    tlb_write(&tlb, MIB(2));
    track(0);
    assert_true(tdp_is_dirty(&tdp, page[0].entry));
    clear(0);
    track(1);
    assert_true(tdp_is_dirty(&tdp, page[1].entry));
    assert_false(tdp_is_dirty(&tdp, page[0].entry));
}

static void nothing_is_tracked_that_cannot_be(void **state)
{
    struct tdp_config config = {.format = TDP_EPT, .page_1g = true, .maxphyaddr = 40};

    (void)state;
    start_with(&config);
    assert_null(tdp_track(&tdp, gpa(0)));
    config.accessed_dirty = true;
    start_with(&config);
    assert_null(tdp_track(&tdp, gpa(GIB(4))));
    assert_null(tdp_track(&tdp, gpa(BIT(48))));
    /* Without frames the page stays as it is, whether it fails at the first table or at the second. */
    for (size_t frames = 0; frames < 2; frames++) {
        checked_frames_limit(frames);
        assert_null(tdp_track(&tdp, gpa(MIB(8))));
        struct spec_walk walk = spec_walk(&config, tdp.root.raw, MIB(8));
        assert_true(walk.result == SPEC_TRANSLATED && walk.target == MIB(8) && walk.write);
    }
    checked_frames_limit(SIZE_MAX);
    assert_non_null(tdp_track(&tdp, gpa(MIB(8))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_write_is_missed),
        cmocka_unit_test(a_split_page_counts_as_written),
        cmocka_unit_test(nothing_is_tracked_that_cannot_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
