/* SPDX-License-Identifier: MIT */
/*
 * The shadow MMU after L1's invalidations, case by case: what is compared and what is not, which flushes are
 * owed, and writes to L1's tables that Umbra's own map does not tell of.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "mm/phys.h"
#include "mm/tdp-format.h"
#include "tests/unit/shadow-case.h"

static void start_with_page_in_use(void)
{
    start_with_page(&ept_plan);
    assert_int_equal(run(0, final_read), SHADOW_FILLED);
}

/* L1 runs, so that all flushes that were owed are done, and executes INVEPT; then L2 is entered. */
static void run_l1_and_invalidate(void)
{
    world_honour_flush();
    invalidate(0);
    enter(0);
}

/* --- what an invalidation costs --- */

static void only_written_tables_are_compared(void **state)
{
    (void)state;
    world_make(&ept_plan);
    for (unsigned i = 0; i < 4; i++)
        assert_true(world_map(0, MIB(2) * i, 1, GIB(1) + MIB(4) + i * PAGE_SIZE));
    enter(0);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(run(MIB(2) * i, final_read), SHADOW_FILLED);
    /* The first time, the flags tell of the writes that made the tables. */
    invalidate(0);
    enter(0);
    u64 compared = statistics()->tables_compared;
    run_l1_and_invalidate();
    assert_true(use.use.flush_tables);
    assert_int_equal(statistics()->tables_compared, compared);
    assert_false(world.tdp.flush_pending);
    /* One table is changed: one is compared, one entry goes. */
    world_l1_store(entry_at(0, MIB(4), 1), 0);
    invalidate(0);
    enter(0);
    assert_int_equal(statistics()->tables_compared, compared + 1);
    assert_int_equal(statistics()->entries_dropped, 1);
    assert_true(world.tdp.flush_pending);
    assert_int_equal(run(MIB(4), final_read), SHADOW_REFLECT);
    assert_int_equal(run(MIB(6), final_read), SHADOW_FILLED);
}

/* What L1 changes between its INVEPT and the entry counts, for no translation can have been cached meanwhile.
 */
static void changes_after_the_invalidation_count(void **state)
{
    (void)state;
    start_with_page_in_use();
    invalidate(0);
    world_l1_store(entry_at(0, 0, 1), 0);
    enter(0);
    assert_int_equal(run(0, final_read), SHADOW_REFLECT);
}

static void nothing_new_costs_no_flush(void **state)
{
    (void)state;
    start_with_page(&ept_plan);
    assert_true(use.use.flush_tables && use.use.flush_linear);
    assert_int_equal(run(0, final_read), SHADOW_FILLED);
    enter(0);
    assert_false(use.use.flush_tables || use.use.flush_linear);
    enter(1);
    u16 tag = use.use.tag;
    enter(0);
    assert_false(use.use.flush_tables || use.use.flush_linear);
    assert_int_not_equal(use.use.tag, tag);
    shadow_invalidate_linear(&world.cpu, 0);
    enter(0);
    assert_true(use.use.flush_linear && !use.use.flush_tables);
}

/* An ASID that was flushed must find the tables as they are, though another ASID has synchronised them since.
 */
static void each_asid_is_flushed_for_itself(void **state)
{
    (void)state;
    world_make(&npt_plan);
    assert_true(world_map(0, 0, 1, GIB(1)));
    hardware_enter(0, 1, &use);
    hardware_enter(0, 0, &use);
    assert_int_equal(run(0, final_read), SHADOW_FILLED);
    shadow_invalidate_l1_tag(&world.cpu, 0);
    hardware_enter(0, 1, &use);
    world_l1_store(entry_at(0, 0, 1), 0);
    hardware_enter(0, 0, &use);
    assert_int_equal(run(0, final_read), SHADOW_REFLECT);
}

static void writes_that_set_no_flag_are_found(void **state)
{
    (void)state;
    start_with_page_in_use();
    invalidate(0);
    enter(0);
    world_honour_flush();
    u64 where = entry_at(0, 0, 1);
    shadow_will_write(world.shadow, &world.cpu, gpa(where + 7), 1);
    world_store(where, 0);
    invalidate(0);
    enter(0);
    assert_int_equal(run(0, final_read), SHADOW_REFLECT);
}

/* Two of them are enough here; the first one compares what is new. */
static void quiet_tables_sleep_until_their_first_write(void **state)
{
    (void)state;
    start_with_page_in_use();
    for (unsigned i = 0; i < 4; i++) {
        run_l1_and_invalidate();
    }
    u64 where = entry_at(0, 0, 1);
    struct tdp_leaf own = tdp_lookup(&world.tdp, gpa(where));
    assert_true((own.entry & TDP_ASLEEP) != 0 && (own.entry & EPTE_W) == 0 && own.access == TDP_RWX);
    world_honour_flush();
    assert_int_equal(world.wakes, 0);
    world_l1_store(where, 0);
    assert_int_equal(world.wakes, 1);
    invalidate(0);
    enter(0);
    assert_int_equal(run(0, final_read), SHADOW_REFLECT);
}

/* It sets no flag, and needs no violation. */
static void what_umbra_writes_while_they_sleep_is_found(void **state)
{
    (void)state;
    start_with_page_in_use();
    for (unsigned i = 0; i < 4; i++)
        run_l1_and_invalidate();
    u64 where = entry_at(0, 0, 1);
    assert_true((tdp_lookup(&world.tdp, gpa(where)).entry & TDP_ASLEEP) != 0);
    shadow_will_write(world.shadow, &world.cpu, gpa(where), 1);
    world_store(where, 0);
    run_l1_and_invalidate();
    assert_int_equal(run(0, final_read), SHADOW_REFLECT);
}

/* L2 may write to a page before L1 makes it a table: its writes come through the shadow, where Umbra's map
 * sees nothing. */
static void tables_that_l2_can_write_are_compared(void **state)
{
    u64 table = WORLD_FRAMES_START + 5 * PAGE_SIZE;

    (void)state;
    world_make(&ept_plan);
    assert_true(world_map(0, 0, 1, table));
    enter(0);
    assert_int_equal(run(0, final_write), SHADOW_FILLED);
    world_l1_store(table, GIB(2) | 0x737);
    world_l1_store(entry_at(0, MIB(2), 2), table | 0x707);
    assert_int_equal(run(MIB(2), final_read), SHADOW_FILLED);
    invalidate(0);
    enter(0);
    world_honour_flush();
    world_store(table, 0);
    invalidate(0);
    enter(0);
    assert_int_equal(run(MIB(2), final_read), SHADOW_REFLECT);
}

/*
 * The same the other way round: L1's table is there, and was looked at without anything to compare, before L2
 * may write to it.
 */
static void tables_that_l2_comes_to_write_are_compared(void **state)
{
    u64 where;

    (void)state;
    world_make(&ept_plan);
    assert_true(world_map(0, MIB(2), 1, GIB(1)));
    where = entry_at(0, MIB(2), 1);
    assert_true(world_map(0, 0, 1, align_down(where, PAGE_SIZE)));
    u64 leaf = world_peek(entry_at(0, 0, 1));
    world_l1_store(entry_at(0, 0, 1), leaf & ~(u64)EPTE_W);
    enter(0);
    assert_int_equal(run(MIB(2), final_read), SHADOW_FILLED);
    assert_int_equal(run(0, final_read), SHADOW_FILLED);
    for (unsigned i = 0; i < 3; i++) {
        run_l1_and_invalidate();
    }
    u64 synchronisations = statistics()->synchronisations;
    invalidate(0);
    enter(0);
    assert_int_equal(statistics()->synchronisations, synchronisations);
    world_l1_store(entry_at(0, 0, 1), leaf);
    invalidate(0);
    enter(0);
    run_l1_and_invalidate();
    assert_int_equal(run(0, final_write), SHADOW_FILLED);
    world_store(where, 0);
    invalidate(0);
    enter(0);
    assert_int_equal(run(MIB(2), final_read), SHADOW_REFLECT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_written_tables_are_compared),
        cmocka_unit_test(changes_after_the_invalidation_count),
        cmocka_unit_test(nothing_new_costs_no_flush),
        cmocka_unit_test(each_asid_is_flushed_for_itself),
        cmocka_unit_test(writes_that_set_no_flag_are_found),
        cmocka_unit_test(quiet_tables_sleep_until_their_first_write),
        cmocka_unit_test(what_umbra_writes_while_they_sleep_is_found),
        cmocka_unit_test(tables_that_l2_can_write_are_compared),
        cmocka_unit_test(tables_that_l2_comes_to_write_are_compared),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
