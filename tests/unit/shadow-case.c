/* SPDX-License-Identifier: MIT */
/* What the tests of single cases share; see tests/unit/shadow-case.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "mm/phys.h"
#include "tests/unit/shadow-case.h"

const struct spec_second_access final_read = {.kind = SPEC_READ};
const struct spec_second_access final_write = {.kind = SPEC_WRITE};
const struct spec_second_access kernel_fetch = {.kind = SPEC_FETCH};
const struct spec_second_access user_fetch = {.kind = SPEC_FETCH, .linear_user = true, .cpl = 3};

const struct world_plan ept_plan = {
    .format = SPEC_EPT4,
    .mode_based_execute = true,
    .l1_mode_based = true,
    .accessed_dirty = true,
    .execute_only = true,
    .page_1g = true,
    .pages = 64,
    .quiet = 2,
};
const struct world_plan npt_plan = {
    .format = SPEC_LONG4,
    .mode_based_execute = true,
    .l1_mode_based = true,
    .nxe = true,
    .page_1g = true,
    .pages = 64,
    .quiet = 2,
};

struct hardware_use use;
struct shadow_result result;

enum shadow_outcome run(u64 address, struct spec_second_access access)
{
    const struct world_access wanted = {address, access};

    return hardware_run(&use, &wanted, &result);
}

void enter(unsigned root)
{
    hardware_enter(root, 0, &use);
}

void start_with_page(const struct world_plan *plan)
{
    world_make(plan);
    assert_true(world_map(0, 0, 1, GIB(1)));
    enter(0);
}

u64 entry_at(unsigned root, u64 address, unsigned level)
{
    u64 where;

    assert_true(world_entry(root, address, level, &where));
    return where;
}

void invalidate(unsigned root)
{
    shadow_invalidate_pointer(world.shadow, &world.cpu, world.root[root].key.pointer);
    for (unsigned i = 0; i < WORLD_ROOTS; i++)
        if (((world.root[i].key.pointer ^ world.root[root].key.pointer) & ENTRY_ADDRESS) == 0)
            memset(world.invalidated[i], 1, sizeof(world.invalidated[i]));
}

const struct shadow_statistics *statistics(void)
{
    static struct shadow_statistics sum;

    shadow_statistics(world.shadow, &sum);
    return &sum;
}

u64 shadow_leaf(u64 address, unsigned *level)
{
    u64 table = use.use.root.raw;

    for (*level = SHADOW_LEVELS;; (*level)--) {
        const u64 *entries = phys_to_virt(hpa(table));
        u64 entry = entries[address >> (12 + 9 * (*level - 1)) & 511];
        if (entry == 0 || *level == 1 || (entry & ENTRY_PS) != 0)
            return entry;
        table = entry & ENTRY_ADDRESS;
    }
}
