/* SPDX-License-Identifier: MIT */
/*
 * Ordinary faults of L2, which the shadow MMU fills in a straight line: what counts as one, and that all
 * others are left as they are.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/shadow-case.h"

static const struct world_plan npt5_plan = {
    .format = SPEC_LONG5,
    .mode_based_execute = true,
    .l1_mode_based = true,
    .nxe = true,
    .page_1g = true,
    .pages = 64,
};

static bool quickly(u64 address, unsigned access)
{
    u64 filled = statistics()->filled, faults = statistics()->faults;
    bool done = shadow_fault_quick(world.shadow, &world.cpu, l2_gpa(address), access);

    assert_int_equal(statistics()->filled, filled + done);
    assert_int_equal(statistics()->faults, faults + done);
    return done;
}

/* Pages 0 to 7, of which 0 is filled, so that the tables are there; L1's memory can be read at any time. */
static void with_neighbours(const struct world_plan *plan)
{
    do
        world_make(plan);
    while (world.memory.window_bytes == 0);
    for (u64 page = 0; page < 8; page++)
        assert_true(world_map(0, page * PAGE_SIZE, 1, GIB(1) + page * PAGE_SIZE));
    enter(0);
    assert_int_equal(run(0, final_read), SHADOW_FILLED);
}

static void an_ordinary_fault_is_filled_at_once(void **state)
{
    const struct world_plan *plans[] = {&ept_plan, &npt_plan, &npt5_plan};
    unsigned level;

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(plans); i++) {
        unsigned user = i == 0 ? 0 : ACCESS_USER;
        with_neighbours(plans[i]);
        assert_true(quickly(PAGE_SIZE, ACCESS_READ | user));
        assert_int_equal(shadow_leaf(PAGE_SIZE, &level) & ENTRY_ADDRESS, GIB(1) + PAGE_SIZE);
        assert_int_equal(level, 1);
        assert_true(quickly(2 * PAGE_SIZE, ACCESS_WRITE | user));
        assert_true(quickly(3 * PAGE_SIZE, ACCESS_FETCH | ACCESS_USER));
        /* It is there, and a second time there is nothing to do. */
        assert_false(quickly(PAGE_SIZE, ACCESS_READ | user));
        /* A large page, where the table is there. */
        assert_true(world_map(0, MIB(2), 2, GIB(1) + MIB(2)));
        assert_true(quickly(MIB(2) + 5 * PAGE_SIZE, ACCESS_WRITE | user));
        assert_int_equal(shadow_leaf(MIB(2), &level) & ENTRY_ADDRESS, GIB(1) + MIB(2));
        assert_int_equal(level, 2);
        for (u64 page = 0; page < 4; page++)
            hardware_check(&use, page * PAGE_SIZE);
        hardware_check(&use, MIB(2));
    }
}

/* Each needs what shadow_fault() does besides: nothing happens. */
static void all_other_faults_are_left_alone(void **state)
{
    (void)state;
    with_neighbours(&ept_plan);
    u64 leaf = world_peek(entry_at(0, PAGE_SIZE, 1));
    const u64 others[] = {
        0,                     /* L1's fault */
        leaf & ~EPTE_W,        /* L1's fault */
        leaf ^ 2 << 3,         /* another memory type; it does not exist */
        leaf | BIT(45),        /* beyond MAXPHYADDR */
        leaf ^ GIB(1) ^ GIB(6) /* nothing is there */
    };
    for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
        world_l1_store(entry_at(0, PAGE_SIZE, 1), others[i]);
        assert_false(quickly(PAGE_SIZE, ACCESS_WRITE));
    }
    world_l1_store(entry_at(0, PAGE_SIZE, 1), leaf);
    assert_false(quickly(PAGE_SIZE, ACCESS_READ | ACCESS_SHADOW_STACK));
    assert_false(quickly(PAGE_SIZE + BIT(48), ACCESS_WRITE));
    assert_false(quickly(PAGE_SIZE + GIB(512), ACCESS_WRITE));
    /* Each entry of L1 above counts as it is now. */
    for (unsigned level = 2; level <= 4; level++) {
        u64 where = entry_at(0, PAGE_SIZE, level), entry = world_peek(where);
        world_l1_store(where, entry & ~EPTE_W);
        assert_false(quickly(PAGE_SIZE, ACCESS_READ));
        world_l1_store(where, entry);
    }
    /* Umbra's own map has a rule for the page, or has changed. */
    assert_int_equal(tdp_protect(&world.tdp, GIB(1) + PAGE_SIZE, GIB(1) + 2 * PAGE_SIZE, TDP_R | TDP_W),
                     TDP_OK);
    assert_false(quickly(PAGE_SIZE, ACCESS_WRITE));
    world_honour_flush();
    enter(0);
    assert_int_equal(run(0, final_read), SHADOW_FILLED);
    assert_false(quickly(PAGE_SIZE, ACCESS_WRITE));
    assert_true(quickly(2 * PAGE_SIZE, ACCESS_WRITE));
}

/* Flags that L1's leaf owes are set, if L1's log has room. */
static void flags_of_the_leaf_are_set(void **state)
{
    (void)state;
    with_neighbours(&ept_plan);
    u64 where = entry_at(0, PAGE_SIZE, 1), leaf = world_peek(where), logged = world.logged;
    world_l1_store(where, leaf & ~(EPTE_A | EPTE_D));
    world.log_full = true;
    assert_false(quickly(PAGE_SIZE, ACCESS_WRITE));
    assert_int_equal(world_peek(where), leaf & ~(EPTE_A | EPTE_D));
    world.log_full = false;
    world.shadow->flags_alias = true;
    assert_false(quickly(PAGE_SIZE, ACCESS_WRITE));
    world.shadow->flags_alias = false;
    assert_int_equal(world.logged, logged);
    assert_true(quickly(PAGE_SIZE, ACCESS_WRITE));
    assert_int_equal(world_peek(where), leaf);
    assert_int_equal(world.logged, logged + 1);
    /* A read leaves the dirty flag clear, and the next write is seen. */
    where = entry_at(0, 2 * PAGE_SIZE, 1);
    world_l1_store(where, world_peek(where) & ~(EPTE_A | EPTE_D));
    assert_true(quickly(2 * PAGE_SIZE, ACCESS_READ));
    assert_int_equal(world_peek(where) & (EPTE_A | EPTE_D), EPTE_A);
    assert_false(quickly(2 * PAGE_SIZE, ACCESS_WRITE));
    assert_int_equal(run(2 * PAGE_SIZE, final_write), SHADOW_FILLED);
    assert_int_equal(world_peek(where) & (EPTE_A | EPTE_D), EPTE_A | EPTE_D);
}

/* L1's entry of level 5, which the shadow's four levels do not have. */
static void the_entry_above_five_levels_counts(void **state)
{
    (void)state;
    with_neighbours(&npt5_plan);
    u64 where = entry_at(0, 0, 5), entry = world_peek(where);
    assert_true(quickly(PAGE_SIZE, ACCESS_READ | ACCESS_USER));
    world_l1_store(where, entry & ~PTE_W);
    assert_false(quickly(2 * PAGE_SIZE, ACCESS_READ | ACCESS_USER));
    assert_int_equal(run(2 * PAGE_SIZE, final_write), SHADOW_REFLECT);
    assert_int_equal(run(2 * PAGE_SIZE, final_read), SHADOW_FILLED);
    assert_false(quickly(3 * PAGE_SIZE, ACCESS_READ | ACCESS_USER));
    world_l1_store(where, entry);
    assert_int_equal(run(2 * PAGE_SIZE, final_write), SHADOW_FILLED);
    assert_true(quickly(3 * PAGE_SIZE, ACCESS_READ | ACCESS_USER));
}

/* What another CPU has dropped has to be flushed, which shadow_acquire() says. */
static void nothing_is_filled_while_a_flush_is_owed(void **state)
{
    (void)state;
    with_neighbours(&ept_plan);
    assert_true(quickly(PAGE_SIZE, ACCESS_READ));
    world.shadow->root[use.use.handle % world.shadow->root_count].generation++;
    assert_false(quickly(2 * PAGE_SIZE, ACCESS_READ));
    enter(0);
    assert_true(use.use.flush_tables);
    assert_true(quickly(2 * PAGE_SIZE, ACCESS_READ));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_ordinary_fault_is_filled_at_once),
        cmocka_unit_test(all_other_faults_are_left_alone),
        cmocka_unit_test(flags_of_the_leaf_are_set),
        cmocka_unit_test(the_entry_above_five_levels_counts),
        cmocka_unit_test(nothing_is_filled_while_a_flush_is_owed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
