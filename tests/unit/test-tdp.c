/* SPDX-License-Identifier: MIT */
/*
 * Umbra's own second-level tables: random and chosen changes under every configuration, compared with an
 * interval model by a walker that is written from the manuals, while a TLB that never forgets looks for what
 * a flush was not asked for, every frame is accounted for, and every allocation is made to fail.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "mm/phys.h"
#include "tests/unit/checked-frames.h"
#include "tests/unit/random.h"
#include "tests/unit/simulated-tlb.h"
#include "tests/unit/tdp-model.h"

enum { DIRTIED = 24, SEEN_TABLES = CHECKED_FRAMES };

static struct tdp tdp;
static struct model model;
static struct simulated_tlb tlb;
static u64 limit; /* of guest-physical addresses */

/* Pages that the guest has written since they were mapped: their dirty flags must not get lost. */
static u64 dirtied[DIRTIED];
static unsigned dirtied_count;

/* Tables that can be reached, by address and, for a later comparison, by content. */
static struct {
    u64 address;
    u64 entry[512];
} seen[SEEN_TABLES];
static unsigned seen_count;

/* ---- configurations ---- */

enum { CONFIGURATIONS = 20 };

static struct tdp_config configuration(unsigned i)
{
    static const unsigned widths[] = {36, 40, 46, 48, 52};

    return (struct tdp_config){
        .format = i < 16 ? TDP_EPT : TDP_NPT,
        .mode_based_execute = (i & 1) != 0,
        .page_1g = (i & 2) != 0,
        .execute_only = i < 16 && (i & 4) != 0,
        .accessed_dirty = i < 16 && (i & 8) != 0,
        .maxphyaddr = widths[i % ARRAY_SIZE(widths)],
    };
}

static void start_with(const struct tdp_config *config)
{
    checked_frames_reset();
    assert_int_equal(tdp_init(&tdp, config), TDP_OK);
    assert_false(tdp.flush_pending);
    model_init(&model);
    tlb_init(&tlb, config, tdp.root.raw);
    limit = BIT(config->maxphyaddr < 48 ? config->maxphyaddr : 48);
    dirtied_count = 0;
}

/* SDM vol. 3C 29.3.3.1 and APM vol. 2 15.25.13, as a list of what cannot be said. */
static bool sayable(const struct tdp_config *config, unsigned access)
{
    bool r = (access & TDP_R) != 0, w = (access & TDP_W) != 0;
    bool xs = (access & TDP_XS) != 0, xu = (access & TDP_XU) != 0;

    if (!config->mode_based_execute && xs != xu)
        return false;
    if (config->format == TDP_EPT)
        return !(w && !r) && !((xs || xu) && !r && !config->execute_only);
    return !((w || xs || xu) && !r) && !(xs && !xu);
}

static unsigned model_type(enum memory_type type)
{
    return tdp.config.format == TDP_NPT ? MT_WB : type;
}

/* ---- comparison of the tables with the model ---- */

static void assert_flags(const struct spec_walk *walk)
{
    for (unsigned i = 0; i < walk->depth; i++) {
        u64 entry = *walk->slot[i];
        bool leaf = i == walk->depth - 1;
        if (tdp.config.format == TDP_NPT)
            assert_int_equal(entry & (leaf ? BIT(5) | BIT(6) : BIT(5)), leaf ? BIT(5) | BIT(6) : BIT(5));
        else if (!tdp.config.accessed_dirty)
            assert_int_equal(entry & (BIT(8) | BIT(9)), 0);
        if (tdp.config.format == TDP_EPT && !tdp.config.mode_based_execute)
            assert_int_equal(entry & BIT(10), 0);
    }
}

static void assert_page(const struct spec_walk *walk, u64 page, bool compare_types)
{
    const struct model_interval *interval = model_at(&model, page);

    assert_true(interval->start <= page && interval->end >= page + walk->size);
    assert_int_equal(walk->target, page + interval->displacement);
    assert_int_equal(walk->read, (interval->access & TDP_R) != 0);
    assert_int_equal(walk->write, (interval->access & TDP_W) != 0);
    assert_int_equal(walk->fetch_supervisor, (interval->access & TDP_XS) != 0);
    assert_int_equal(walk->fetch_user, (interval->access & TDP_XU) != 0);
    if (compare_types)
        assert_int_equal(walk->type, interval->type);
    assert_flags(walk);

    /* The page is as large as it can be. */
    u64 larger = walk->size * 512;
    bool allowed = larger == MIB(2) || (larger == GIB(1) && tdp.config.page_1g);
    u64 start = align_down(page, larger);
    if (allowed && compare_types)
        assert_false(interval->start <= start && interval->end >= start + larger &&
                     (start + interval->displacement) % larger == 0);
}

static void assert_lookup(const struct spec_walk *walk, u64 page)
{
    u64 inside = random_below(walk->size);
    struct tdp_leaf leaf = tdp_lookup(&tdp, gpa(page + inside));

    assert_int_equal(leaf.present, walk->result == SPEC_TRANSLATED);
    assert_int_equal(leaf.size, walk->size);
    assert_int_equal(leaf.entry, *walk->slot[walk->depth - 1]);
    assert_int_equal(leaf.level, 5 - walk->depth);
    if (leaf.present) {
        assert_int_equal(leaf.target, walk->target + inside);
        assert_int_equal(leaf.type, walk->type);
        assert_int_equal(leaf.access, model_at(&model, page)->access);
    }
}

static void compare_with_model(u64 start, u64 end, bool compare_types)
{
    u64 next;

    for (u64 at = start; at < end; at = next) {
        struct spec_walk walk = spec_walk(&tdp.config, tdp.root.raw, at);
        u64 page = align_down(at, walk.size);

        next = page + walk.size;
        if (walk.result == SPEC_MISCONFIGURED)
            fail_msg("misconfigured entry for %#llx: %s", (unsigned long long)at, walk.reason);
        if (walk.result == SPEC_TRANSLATED) {
            walk.target -= at - page;
            assert_page(&walk, page, compare_types);
        } else {
            u64 above = align_down(page, walk.size * 512);
            assert_true(model_is_hole(&model, page, next));
            if (walk.depth > 1) /* no empty tables */
                assert_false(model_is_hole(&model, above, above + walk.size * 512));
        }
        assert_lookup(&walk, page);
    }
}

/* ---- frames, flushes and dirty flags ---- */

static void see_table(void *context, struct spec_start table, u64 gpa)
{
    (void)context;
    (void)gpa;
    assert_true(checked_frame_in_use(table.table));
    assert_true(seen_count < SEEN_TABLES);
    seen[seen_count].address = table.table;
    memcpy(seen[seen_count].entry, phys_to_virt(hpa(table.table)), sizeof(seen[0].entry));
    seen_count++;
}

static void see_tables(void)
{
    seen_count = 0;
    spec_each_table(&tdp.config, tdp.root.raw, see_table, NULL);
}

/* Each frame in use is a table that can be reached, or one that waits for a flush. */
static void account_for_frames(void)
{
    see_tables();
    if (tdp.retired == 0)
        assert_int_equal(checked_frames_in_use(), seen_count);
    else
        assert_true(tdp.flush_pending && checked_frames_in_use() > seen_count);
}

/* Has a present entry of the tables that were seen changed, in more than its accessed and dirty flags? */
static bool present_entry_changed(void)
{
    u64 flags = tdp.config.format == TDP_EPT ? BIT(8) | BIT(9) : BIT(5) | BIT(6);

    for (unsigned t = 0; t < seen_count; t++) {
        const u64 *now = phys_to_virt(hpa(seen[t].address));
        for (unsigned i = 0; i < 512; i++) {
            if (spec_present(&tdp.config, seen[t].entry[i]) && ((now[i] ^ seen[t].entry[i]) & ~flags) != 0)
                return true;
        }
    }
    return false;
}

static void flush(void)
{
    tlb_flush(&tlb);
    tdp_flushed(&tdp);
    assert_false(tdp.flush_pending);
    account_for_frames();
}

static void guest_access(u64 address)
{
    bool write = random_chance(50);
    struct spec_walk walk = spec_walk(&tdp.config, tdp.root.raw, address);

    tlb_access(&tlb, address, write);
    if (write && walk.result == SPEC_TRANSLATED && walk.write && tdp.config.accessed_dirty) {
        unsigned slot = dirtied_count < DIRTIED ? dirtied_count++ : (unsigned)random_below(DIRTIED);
        dirtied[slot] = address;
    }
}

static void forget_dirtied(u64 start, u64 end)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < dirtied_count; i++) {
        if (dirtied[i] < start || dirtied[i] >= end)
            dirtied[kept++] = dirtied[i];
    }
    dirtied_count = kept;
}

static void assert_dirty_flags_kept(void)
{
    for (unsigned i = 0; i < dirtied_count; i++) {
        struct spec_walk walk = spec_walk(&tdp.config, tdp.root.raw, dirtied[i]);
        assert_int_equal(walk.result, SPEC_TRANSLATED);
        assert_true(spec_is_dirty(&tdp.config, &walk));
    }
}

/* ---- one change ---- */

enum kind { MAP, UNMAP, PROTECT, RETYPE };

struct operation {
    enum kind kind;
    u64 start, end, target;
    unsigned access;
    enum memory_type type;
    struct mtrr_state mtrr;
};

static enum tdp_status perform(const struct operation *op)
{
    switch (op->kind) {
    case MAP:
        if (op->target == op->start)
            return tdp_map(&tdp, op->start, op->end, op->access, op->type);
        return tdp_map_to(&tdp, op->start, op->end, op->target, op->access, op->type);
    case UNMAP:
        return tdp_unmap(&tdp, op->start, op->end);
    case PROTECT:
        return tdp_protect(&tdp, op->start, op->end, op->access);
    case RETYPE:
        return tdp_retype(&tdp, op->start, op->end, &op->mtrr);
    }
    return TDP_BAD_RANGE;
}

static enum tdp_status expected(const struct operation *op)
{
    bool says_access = op->kind == MAP || op->kind == PROTECT;

    if (says_access && !sayable(&tdp.config, op->access))
        return TDP_UNREPRESENTABLE;
    if (op->kind == PROTECT && model_has_hole(&model, op->start, op->end))
        return TDP_NOT_MAPPED;
    return TDP_OK;
}

static void update_model(const struct operation *op)
{
    u64 next;

    switch (op->kind) {
    case MAP:
        model_map(&model, op->start, op->end, op->access, model_type(op->type), op->target - op->start);
        forget_dirtied(op->start, op->end);
        break;
    case UNMAP:
        model_map(&model, op->start, op->end, 0, 0, 0);
        forget_dirtied(op->start, op->end);
        break;
    case PROTECT:
        model_protect(&model, op->start, op->end, op->access);
        if (op->access == 0)
            forget_dirtied(op->start, op->end);
        break;
    case RETYPE:
        for (u64 at = op->start; at < op->end; at = next) {
            enum memory_type type = mtrr_type(&op->mtrr, at, op->end, &next);
            model_retype(&model, at, next, model_type(type));
        }
        break;
    }
}

/* A flush must be owed exactly if a present entry changed; a change that failed may owe one, but changes
 * none. */
static void assert_flush_owed_rightly(enum tdp_status status)
{
    bool changed = present_entry_changed();

    if (status == TDP_OK)
        assert_int_equal(tdp.flush_pending, changed);
    else
        assert_false(changed);
}

static void compare_around(const struct operation *op, bool compare_types)
{
    u64 before = op->start - min_u64(op->start, MIB(2)), behind = min_u64(op->end + MIB(2), limit);
    compare_with_model(before, behind, compare_types);
}

static enum tdp_status perform_checked(const struct operation *op)
{
    bool flush_was_pending = tdp.flush_pending;
    see_tables();

    enum tdp_status status = perform(op);
    bool refused = checked_frames_refused();

    assert_true(tlb_tables_sound(&tlb));
    if (status == TDP_NO_MEMORY)
        assert_true(refused);
    else
        assert_int_equal(status, expected(op));
    if (refused)
        assert_true(status == TDP_NO_MEMORY || status == TDP_NOT_MAPPED);
    bool may_be_half_done = status == TDP_NO_MEMORY && op->kind == RETYPE;
    if (!flush_was_pending && !may_be_half_done)
        assert_flush_owed_rightly(status);
    if (status == TDP_OK)
        update_model(op);
    account_for_frames();
    if (!tdp.flush_pending) {
        const char *stale = tlb_staleness(&tlb);
        if (stale)
            fail_msg("no flush was asked for, but %s", stale);
    }
    assert_dirty_flags_kept();
    compare_around(op, !may_be_half_done);
    return status;
}

/* ---- random changes ---- */

static u64 random_unit(void)
{
    static const u64 units[] = {KIB(4), KIB(4), MIB(2), MIB(2), GIB(1)};
    return units[random_below(ARRAY_SIZE(units))];
}

/* Ranges that begin near a boundary of some table or page, and end near another; or inside what is mapped. */
static void random_range(u64 *start, u64 *end)
{
    const u64 anchors[] = {0, GIB(1), GIB(510), limit - GIB(3), limit / 2 - GIB(1)};
    u64 unit = random_unit(), jitter = KIB(4) * random_below(3);
    const struct model_interval *interval = &model.interval[random_below(model.count)];

    *start = anchors[random_below(ARRAY_SIZE(anchors))] % limit + random_below(3) * random_unit();
    if (interval->access != 0 && random_chance(70)) {
        *start = interval->start + random_below(3) * random_unit();
        *start = *start < interval->end ? *start : interval->start;
    }
    *start = *start < limit ? *start : limit - unit;
    if (random_chance(50))
        *start -= min_u64(*start, jitter);
    *end = *start + (1 + random_below(3)) * unit + (random_chance(50) ? jitter : 0);
    if (interval->access != 0 && *start >= interval->start && *start < interval->end && random_chance(80))
        *end = min_u64(*end, interval->end);
    *end = min_u64(*end, limit);
}

static void random_target(struct operation *op)
{
    u64 unit = random_unit(), top = BIT(tdp.config.maxphyaddr);

    op->target = op->start;
    if (random_chance(60))
        return;
    if (unit == KIB(4))
        op->end = min_u64(op->end, op->start + MIB(3));
    op->target = random_chance(50) ? op->start + random_below(5) * unit : op->start - random_below(5) * unit;
    if (random_chance(10))
        op->target = top - (op->end - op->start);
    if (op->target > top - (op->end - op->start))
        op->target = op->start;
    if (op->target % MIB(2) != op->start % MIB(2))
        op->end = min_u64(op->end, op->start + MIB(3));
}

static enum memory_type random_type(void)
{
    static const enum memory_type types[] = {MT_UC, MT_WC, MT_WT, MT_WP, MT_WB, MT_WB, MT_WB};
    return types[random_below(ARRAY_SIZE(types))];
}

static struct mtrr_state random_mtrrs(void)
{
    static const u64 sizes[] = {KIB(64), MIB(1), MIB(2), MIB(64), GIB(1), GIB(2)};
    u64 address_bits = BITS(tdp.config.maxphyaddr - 1, 12);
    struct mtrr_state mtrr = {.cap = 0x508, .variable_count = (unsigned)random_below(4), .maxphyaddr = 52};

    mtrr.def_type = BIT(11) | (random_chance(50) ? BIT(10) : 0) | (random_chance(80) ? MT_WB : random_type());
    for (unsigned i = 0; i < MTRR_FIXED_COUNT; i++)
        mtrr.fixed[i] = i < 2 ? 0x0606060606060606 : i < 3 ? 0 : 0x0505050505050505;
    for (unsigned i = 0; i < mtrr.variable_count; i++) {
        u64 size = sizes[random_below(ARRAY_SIZE(sizes))], start, end;
        random_range(&start, &end);
        mtrr.variable[i].base = align_down(start, size) | random_type();
        mtrr.variable[i].mask = (address_bits & ~(size - 1)) | BIT(11);
    }
    return mtrr;
}

static struct operation random_operation(void)
{
    struct operation op = {.kind = MAP, .access = (unsigned)random_below(16), .type = random_type()};
    u64 dice = random_below(100);

    random_range(&op.start, &op.end);
    if (random_chance(40))
        op.access = TDP_RWX;
    if (dice < 35) {
        random_target(&op);
    } else if (dice < 45) {
        op.kind = UNMAP;
    } else if (dice < 88) {
        op.kind = PROTECT;
        op.access = op.access == 0 ? TDP_R : op.access;
        op.access = random_chance(3) ? 0 : op.access;
    } else {
        op.kind = RETYPE;
        op.mtrr = random_mtrrs();
    }
    if (checked_frames_in_use() > CHECKED_FRAMES / 2)
        op = (struct operation){.kind = UNMAP, .start = 0, .end = limit};
    return op;
}

static void random_step(void)
{
    struct operation op = random_operation();

    checked_frames_limit(random_chance(20) ? random_below(4) : SIZE_MAX);
    if (perform_checked(&op) == TDP_NO_MEMORY) {
        /* With memory it goes through, also where a part was done. */
        checked_frames_limit(SIZE_MAX);
        assert_int_not_equal(perform_checked(&op), TDP_NO_MEMORY);
    }
    for (int i = 0; i < 4; i++)
        guest_access(min_u64(
            op.start - min_u64(op.start, PAGE_SIZE) + random_below(op.end - op.start + MIB(2)), limit - 1));
    if (random_chance(tdp.flush_pending ? 50 : 2))
        flush();
}

static void random_changes(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CONFIGURATIONS; i++) {
        struct tdp_config config = configuration(i);
        start_with(&config);
        for (int step = 0; step < 200; step++)
            random_step();
        compare_with_model(0, limit, true);
        assert_int_equal(tdp_unmap(&tdp, 0, limit), TDP_OK);
        flush();
        assert_int_equal(checked_frames_in_use(), 1);
    }
}

/* ---- chosen changes ---- */

/* Every access, known or not, with every number in the place of a type. */
static void every_access_and_type(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CONFIGURATIONS; i++) {
        struct tdp_config config = configuration(i);
        start_with(&config);
        for (unsigned access = 1; access < 32; access++) {
            for (unsigned type = 0; type < 9; type++) {
                bool type_exists =
                    type == 0 || type == 1 || (type >= 4 && type <= 6) || config.format == TDP_NPT;
                bool good = access < 16 && sayable(&config, access) && type_exists;
                enum tdp_status status =
                    tdp_map(&tdp, GIB(1), GIB(1) + KIB(8), access, (enum memory_type)type);
                assert_int_equal(status, good ? TDP_OK : TDP_UNREPRESENTABLE);
                if (good) {
                    model_map(&model, GIB(1), GIB(1) + KIB(8), access, model_type((enum memory_type)type), 0);
                    status = tdp_protect(&tdp, GIB(1), GIB(1) + KIB(4), access);
                    assert_int_equal(status, TDP_OK);
                }
                compare_with_model(0, GIB(2), true);
            }
        }
    }
}

static void bad_ranges_are_refused(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CONFIGURATIONS; i++) {
        struct tdp_config config = configuration(i);
        start_with(&config);
        u64 top = BIT(config.maxphyaddr);
        const u64 bad[][2] = {{0, 0},
                              {PAGE_SIZE, 0},
                              {1, PAGE_SIZE},
                              {0, PAGE_SIZE + 8},
                              {limit, limit + PAGE_SIZE},
                              {0, limit + PAGE_SIZE},
                              {0, ~0ull & ~PAGE_MASK}};
        struct mtrr_state mtrr = {0};
        for (size_t k = 0; k < ARRAY_SIZE(bad); k++) {
            assert_int_equal(tdp_map(&tdp, bad[k][0], bad[k][1], TDP_RWX, MT_WB), TDP_BAD_RANGE);
            assert_int_equal(tdp_unmap(&tdp, bad[k][0], bad[k][1]), TDP_BAD_RANGE);
            assert_int_equal(tdp_protect(&tdp, bad[k][0], bad[k][1], TDP_RWX), TDP_BAD_RANGE);
            assert_int_equal(tdp_retype(&tdp, bad[k][0], bad[k][1], &mtrr), TDP_BAD_RANGE);
        }
        assert_int_equal(tdp_map_to(&tdp, 0, KIB(8), top - KIB(4), TDP_RWX, MT_WB), TDP_BAD_RANGE);
        assert_int_equal(tdp_map_to(&tdp, 0, KIB(8), 12, TDP_RWX, MT_WB), TDP_BAD_RANGE);
        assert_int_equal(tdp_map_to(&tdp, 0, KIB(8), ~0ull - KIB(4) + 1, TDP_RWX, MT_WB), TDP_BAD_RANGE);
        assert_int_equal(tdp_map_to(&tdp, 0, KIB(8), top - KIB(8), TDP_RWX, MT_WB), TDP_OK);
        assert_false(tdp_lookup(&tdp, gpa(BIT(48))).present); /* not an alias of 0 */
        assert_false(tdp_lookup(&tdp, gpa(~0ull)).present);
        assert_true(tdp_lookup(&tdp, gpa(0)).present);
    }
}

/* For each allocation that a change makes: fail it, find all as it was, and then let the change succeed. */
static void fail_each_allocation(const struct tdp_config *config, const struct operation *setup,
                                 const struct operation *op)
{
    for (size_t allowed = 0;; allowed++) {
        start_with(config);
        checked_frames_limit(SIZE_MAX);
        assert_int_equal(perform_checked(setup), TDP_OK);
        for (u64 at = setup->start; at < setup->end;
             at += max_u64(PAGE_SIZE, (setup->end - setup->start) / 8))
            guest_access(at);
        flush();

        checked_frames_limit(allowed);
        enum tdp_status status = perform_checked(op);
        bool refused = checked_frames_refused();
        checked_frames_limit(SIZE_MAX);
        if (op->kind != RETYPE || status == TDP_OK)
            compare_with_model(0, min_u64(limit, GIB(1024)), true);
        if (!refused)
            return;
        assert_true(allowed < 64);
        flush();
        if (op->kind != RETYPE)
            assert_int_equal(checked_frames_in_use(), seen_count);
        assert_int_equal(perform_checked(op), TDP_OK);
    }
}

static void memory_runs_out_anywhere(void **state)
{
    (void)state;
    struct mtrr_state mtrr = {
        .cap = 0x508, .def_type = BIT(11) | MT_WB, .variable_count = 1, .maxphyaddr = 36};
    mtrr.variable[0].base = GIB(1) + MIB(4) + KIB(64);
    mtrr.variable[0].mask = (BITS(35, 0) & ~(KIB(64) - 1)) | BIT(11);
    const struct operation setup = {MAP, 0, GIB(4), 0, TDP_RWX, MT_WB, {0}};
    const struct operation far_setup = {MAP, GIB(511), GIB(512), GIB(511), TDP_RWX, MT_WB, {0}};
    const struct operation ops[] = {
        {MAP, KIB(8), GIB(3) + MIB(4) + KIB(12), KIB(8), TDP_R, MT_UC, {0}},
        {MAP, MIB(2), MIB(8), MIB(64) + KIB(4), TDP_RWX, MT_WB, {0}},
        {MAP, MIB(2), GIB(2) + KIB(4), GIB(8) + MIB(4), TDP_RWX, MT_WT, {0}},
        {UNMAP, GIB(1) - KIB(4), GIB(2) + KIB(4), 0, 0, MT_WB, {0}},
        {PROTECT, KIB(4), GIB(4) - KIB(4), 0, TDP_R, MT_WB, {0}},
        {PROTECT, MIB(2), MIB(4), 0, TDP_R | TDP_W, MT_WB, {0}},
        {RETYPE, 0, GIB(4), 0, 0, MT_WB, mtrr},
    };
    const struct operation far = {MAP, GIB(511) - KIB(8), GIB(513) + KIB(4), GIB(513) - KIB(8), TDP_R, MT_WB,
                                  {0}};

    for (unsigned i = 0; i < CONFIGURATIONS; i++) {
        struct tdp_config config = configuration(i);
        for (size_t k = 0; k < ARRAY_SIZE(ops); k++)
            fail_each_allocation(&config, &setup, &ops[k]);
        if (config.maxphyaddr >= 46)
            fail_each_allocation(&config, &far_setup, &far);
    }
    checked_frames_limit(0);
    assert_int_equal(tdp_init(&tdp, &tdp.config), TDP_NO_MEMORY);
}

/* ---- main ---- */

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_access_and_type),
        cmocka_unit_test(bad_ranges_are_refused),
        cmocka_unit_test(memory_runs_out_anywhere),
        cmocka_unit_test(random_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
