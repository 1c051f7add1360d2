/* SPDX-License-Identifier: MIT */
/* The shadow MMU, case by case: which faults count as the same one without progress, and end in a report. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/unit/shadow-case.h"

static void no_progress_is_reported(void **state)
{
    const struct shadow_access access = {.access = ACCESS_READ, .rip = 5};
    unsigned count = 0, flushes = 0;

    (void)state;
    start_with_page(&ept_plan);
    while (shadow_fault(world.shadow, &world.cpu, use.use.handle, &access, &result) == SHADOW_FILLED) {
        enter(0);
        flushes += use.use.flush_tables;
        assert_in_range(++count, 1, SHADOW_REPEAT_LIMIT + 2);
    }
    assert_in_range(count, SHADOW_REPEAT_LIMIT - 2, SHADOW_REPEAT_LIMIT + 2);
    assert_true(flushes > 0);
}

/* Another CPU is first at each fault of a loop of L2's: this one finds nothing to fill, but L2 gets on. */
static void loop_that_others_fill_for_makes_progress(void **state)
{
    const struct shadow_access access = {.access = ACCESS_READ, .rip = 5};

    (void)state;
    world_make(&ept_plan);
    assert_true(world_map(0, 0, 1, GIB(1)));
    for (unsigned i = 0; i < SHADOW_REPEAT_LIMIT + 2; i++) {
        /* Umbra's own map changes elsewhere: the shadow is empty again. */
        world.tdp.changes++;
        enter(0);
        for (unsigned fault = 0; fault < 2; fault++)
            assert_int_equal(shadow_fault(world.shadow, &world.cpu, use.use.handle, &access, &result),
                             SHADOW_FILLED);
    }
    assert_true(statistics()->spurious > SHADOW_REPEAT_LIMIT);
}

static enum memory_status never_unchanged(const struct paging_memory *memory, gpa_t address, unsigned bytes,
                                          u64 expected, u64 desired)
{
    (void)memory;
    (void)address;
    (void)bytes;
    (void)expected;
    (void)desired;
    return MEMORY_CHANGED;
}

/* A CPU of L1's that writes its own entry all the time holds up this L2, and nobody else. */
static void entry_that_never_rests_is_l1s_own_doing(void **state)
{
    const struct shadow_access access = {.access = ACCESS_WRITE, .rip = 5};

    (void)state;
    start_with_page(&ept_plan);
    u64 where = entry_at(0, 0, 1);
    world_l1_store(where, world_peek(where) & ~(EPTE_A | EPTE_D));
    world.memory.compare_exchange = never_unchanged;
    for (unsigned i = 0; i < 2 * SHADOW_REPEAT_LIMIT; i++) {
        assert_int_equal(shadow_fault(world.shadow, &world.cpu, use.use.handle, &access, &result),
                         SHADOW_FILLED);
        enter(0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_progress_is_reported),
        cmocka_unit_test(loop_that_others_fill_for_makes_progress),
        cmocka_unit_test(entry_that_never_rests_is_l1s_own_doing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
