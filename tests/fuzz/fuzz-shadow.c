/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: the shadow MMU under a simulated L1, on hardware that forgets nothing. The input decides the
 * configuration, L1's edits and invalidations, L2's accesses, roots, evictions and changes of Umbra's own
 * map; the checks are those of the unit test.
 */
#include "tests/fuzz/fuzz.h"

#define main unit_test_shadow
int unit_test_shadow(void);
#include "tests/unit/test-shadow.c"
#undef main

enum { INPUT_STEPS_MAX = 512 };

static struct world_plan plan_of_input(void)
{
    u64 choice = random_u64();
    enum spec_format formats[] = {SPEC_EPT4,  SPEC_EPT4, SPEC_EPT4,  SPEC_EPT5,
                                  SPEC_LONG4, SPEC_PAE,  SPEC_LONG5, SPEC_32BIT};

    return (struct world_plan){
        .format = formats[choice & 7],
        .mode_based_execute = (choice & BIT(3)) != 0,
        .l1_mode_based = (choice & BIT(3)) != 0,
        .accessed_dirty = (choice & BIT(4)) != 0,
        .execute_only = (choice & BIT(5)) != 0,
        .page_1g = (choice & BIT(6)) != 0,
        .nxe = (choice & BIT(7)) != 0,
        .hostile_percent = (choice & BIT(8)) != 0 ? 5 : 0,
        .pages = SHADOW_PAGES_MIN + (u32)(choice >> 9 & 63),
        .quiet = (u32)(choice >> 15 & 3),
    };
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t bytes)
{
    input_begin(data, bytes);
    /* A failed assertion of cmocka, in the world and its hardware too, is a crash. */
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    const struct world_plan plan = plan_of_input();
    world_make(&plan);
    world.disturb_percent = random_chance(20) ? 20 : 0;
    current = (struct hardware_use){0};
    running = false;
    for (unsigned i = 0; i < INPUT_STEPS_MAX && !input_ended(); i++)
        step();
    check_all();
    return 0;
}
