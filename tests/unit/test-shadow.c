/* SPDX-License-Identifier: MIT */
/*
 * The shadow MMU under a simulated L1 that edits its tables at random, invalidates sometimes what it owes,
 * and runs L2 on hardware that forgets nothing: at every point L2 reaches no more than L1 and Umbra permit,
 * and each fault ends. SHADOW_STEPS in the environment sets the number of steps for each configuration,
 * SHADOW_SEED what they are.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "mm/tdp-format.h"
#include "tests/unit/random.h"
#include "tests/unit/shadow-world.h"

#ifndef SHADOW_DEFAULT_STEPS
#define SHADOW_DEFAULT_STEPS 20000
#endif

enum { BOOTS = 8 };

static struct hardware_use current;
static bool running; /* `current` was acquired and nothing that ends it has happened since */

static void invalidate_pointer(unsigned root)
{
    u64 pointer = world.root[root].key.pointer;

    shadow_invalidate_pointer(world.shadow, &world.cpu, pointer);
    for (unsigned i = 0; i < WORLD_ROOTS; i++) {
        if (((world.root[i].key.pointer ^ pointer) & ENTRY_ADDRESS) == 0)
            memset(world.invalidated[i], 1, sizeof(world.invalidated[i]));
    }
}

static void invalidate_all(void)
{
    shadow_invalidate_all(&world.cpu);
    memset(world.invalidated, 1, sizeof(world.invalidated));
}

static void invalidate_tag(unsigned tag)
{
    shadow_invalidate_l1_tag(&world.cpu, tag);
    for (unsigned i = 0; i < WORLD_ROOTS; i++)
        world.invalidated[i][tag] = true;
}

static void random_invalidation(void)
{
    unsigned kind = (unsigned)random_below(10);

    if (kind == 0)
        invalidate_all();
    else if (kind == 1)
        shadow_invalidate_linear(&world.cpu,
                                 random_chance(20) ? SHADOW_ALL_TAGS : (u32)random_below(WORLD_TAGS));
    else if (world.ept)
        invalidate_pointer((unsigned)random_below(WORLD_ROOTS));
    else
        invalidate_tag((unsigned)random_below(WORLD_TAGS));
}

/* Umbra protects, unmaps, maps or retypes some of its own map. */
static void own_edit(void)
{
    static const unsigned accesses[] = {TDP_RWX,        TDP_RWX, TDP_R | TDP_W, TDP_R, TDP_R | TDP_W | TDP_XU,
                                        TDP_R | TDP_XS, 0};
    static const enum memory_type types[] = {MT_WB, MT_WB, MT_UC, MT_WT, MT_WP, MT_WC};
    u64 target = world_random_target() & ~PAGE_MASK;
    u64 bytes = random_chance(60) ? PAGE_SIZE : MIB(2);
    unsigned access = accesses[random_below(ARRAY_SIZE(accesses))];

    target &= ~(bytes - 1);
    if (target + bytes > WORLD_MAPPED || (target >= WORLD_UMBRA_START && target < WORLD_END))
        return;
    if (target < WORLD_FRAMES_END && target + bytes > WORLD_FRAMES_START)
        access |= TDP_R | TDP_W;
    if (!tdp_representable(&world.tdp.config, access, MT_WB))
        return;
    enum tdp_status status =
        tdp_map(&world.tdp, target, target + bytes, access, types[random_below(ARRAY_SIZE(types))]);
    assert_int_equal(status, TDP_OK);
    world_honour_flush();
}

static void run_l2(void)
{
    struct shadow_result result;

    if (!running || random_chance(20)) {
        unsigned root = current.root, tag = current.tag;
        if (random_chance(30))
            root = (unsigned)random_below(random_chance(80) ? 4 : WORLD_ROOTS);
        if (random_chance(20))
            tag = (unsigned)random_below(WORLD_TAGS);
        hardware_enter(root, tag, &current);
    } else {
        hardware_enter(current.root, current.tag, &current);
    }
    running = true;
    hardware_check(&current, world.address[random_below(WORLD_ADDRESSES)]);
    for (u64 i = random_below(4); i-- > 0;) {
        const struct world_access access = world_random_access();
        world.log_full = random_chance(3);
        if (hardware_run(&current, &access, &result) != SHADOW_FILLED)
            hardware_enter(current.root, current.tag, &current);
    }
    hardware_check(&current, world.address[random_below(WORLD_ADDRESSES)]);
}

/* A whole machine that is not used any more can be checked as a whole. */
static void check_all(void)
{
    hardware_enter(current.root, current.tag, &current);
    for (unsigned i = 0; i < WORLD_ADDRESSES; i++)
        hardware_check(&current, world.address[i]);
}

static void step(void)
{
    u64 dice = random_below(1000);

    if (dice < 500)
        run_l2();
    else if (dice < 900)
        world_random_edit();
    else if (dice < 975)
        random_invalidation();
    else if (dice < 982)
        own_edit();
    else
        check_all();
    if (world.overflow) {
        invalidate_all();
        memset(world.history, 0, sizeof(world.history));
        world.overflow = false;
        hardware_enter(current.root, current.tag, &current);
    }
}

static unsigned long wanted(const char *variable, unsigned long otherwise)
{
    const char *text = getenv(variable);

    return text != NULL ? strtoul(text, NULL, 10) : otherwise;
}

/* Of all runs of a test. */
static struct shadow_statistics sum;
static u64 quick;

static void add_statistics(void)
{
    struct shadow_statistics part;

    shadow_statistics(world.shadow, &part);
    sum.filled += part.filled;
    sum.reflected += part.reflected;
    sum.policy += part.policy;
    sum.entries_dropped += part.entries_dropped;
    sum.pages_evicted += part.pages_evicted;
    sum.roots_evicted += part.roots_evicted;
    quick += world.quick;
}

/* Has everything happened that was to be tested? */
static void check_statistics(void)
{
    if (getenv("SHADOW_STEPS") != NULL)
        print_message(
            "filled %lu, %lu quickly, reflected %lu, policy %lu, dropped %lu, evicted %lu pages, %lu roots\n",
            sum.filled, quick, sum.reflected, sum.policy, sum.entries_dropped, sum.pages_evicted,
            sum.roots_evicted);
    assert_true(sum.filled > 0 && quick > 0 && sum.reflected > 0 && sum.policy > 0);
    assert_true(sum.entries_dropped > 0 && sum.pages_evicted > 0 && sum.roots_evicted > 0);
    memset(&sum, 0, sizeof(sum));
    quick = 0;
}

static void run(const struct world_plan *plan, unsigned disturb_percent)
{
    static const u32 pools[BOOTS] = {16, 17, 24, 32, 48, 64, 128, 256};

    for (unsigned boot = 0; boot < BOOTS; boot++) {
        struct world_plan sized = *plan;
        sized.pages = pools[boot];
        sized.quiet = (u32)random_below(4);
        world_make(&sized);
        world.disturb_percent = disturb_percent;
        current = (struct hardware_use){0};
        running = false;
        for (unsigned long i = 0; i < wanted("SHADOW_STEPS", SHADOW_DEFAULT_STEPS) / BOOTS; i++)
            step();
        add_statistics();
    }
}

static void random_ept(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 16; i++) {
        const struct world_plan plan = {
            .format = i == 15 ? SPEC_EPT5 : SPEC_EPT4,
            .mode_based_execute = (i & 1) != 0,
            .l1_mode_based = (i & 1) != 0,
            .accessed_dirty = (i & 2) != 0,
            .execute_only = (i & 4) != 0,
            .page_1g = (i & 8) != 0,
        };
        run(&plan, 0);
    }
    check_statistics();
}

static void random_npt(void **state)
{
    static const enum spec_format formats[] = {SPEC_LONG4, SPEC_LONG5, SPEC_PAE, SPEC_32BIT};

    (void)state;
    for (unsigned i = 0; i < 16; i++) {
        const struct world_plan plan = {
            .format = formats[i % 4],
            .mode_based_execute = (i & 4) != 0,
            .l1_mode_based = (i & 4) != 0,
            .nxe = true,
            .page_1g = (i & 8) != 0,
        };
        run(&plan, 0);
    }
    check_statistics();
}

/* Other CPUs of L1 change entries while Umbra sets flags in them: nothing is expected but that all ends well.
 */
static void random_disturbed(void **state)
{
    const struct world_plan ept = {.format = SPEC_EPT4,
                                   .mode_based_execute = true,
                                   .l1_mode_based = true,
                                   .accessed_dirty = true,
                                   .page_1g = true};
    const struct world_plan npt = {.format = SPEC_LONG4, .nxe = true, .page_1g = true};

    (void)state;
    run(&ept, 20);
    run(&npt, 20);
    check_statistics();
}

/* An L1 whose tables are mostly garbage: it gets what it asks for, and nothing of Umbra's. */
static void random_hostile(void **state)
{
    static const enum spec_format formats[] = {SPEC_EPT4,  SPEC_EPT5, SPEC_LONG4,
                                               SPEC_LONG5, SPEC_PAE,  SPEC_32BIT};

    (void)state;
    for (unsigned i = 0; i < 2 * ARRAY_SIZE(formats); i++) {
        const struct world_plan plan = {
            .format = formats[i / 2],
            .mode_based_execute = i % 2 != 0,
            .l1_mode_based = i % 2 != 0,
            .accessed_dirty = true,
            .execute_only = i % 2 != 0,
            .page_1g = true,
            .nxe = true,
            .hostile_percent = 2 + 10 * (i % 2),
        };
        run(&plan, i % 2 != 0 ? 5 : 0);
    }
    check_statistics();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_ept),
        cmocka_unit_test(random_npt),
        cmocka_unit_test(random_disturbed),
        cmocka_unit_test(random_hostile),
    };

    world_seed(wanted("SHADOW_SEED", 0));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
