/* SPDX-License-Identifier: MIT */
/*
 * Memory maps against the plainest model there is: one type per byte of a small window, which is moved to
 * both ends of the 64-bit space. Searches are compared with trying every place.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "mm/memmap.h"
#include "tests/unit/random.h"

enum { WINDOW = 96, HOLE = 0 };

static const u32 types[] = {MEM_RAM,      MEM_RESERVED,   MEM_ACPI, MEM_NVS,
                            MEM_UNUSABLE, MEM_PERSISTENT, 6,        0x80000001};

/* From the most to the least usable; what is not in it is as reserved, and among those the higher number
 * wins. */
static u32 model_less_usable(u32 a, u32 b)
{
    static const u32 order[] = {MEM_RAM, MEM_ACPI, MEM_PERSISTENT, MEM_NVS};

    if (a == MEM_UNUSABLE || b == MEM_UNUSABLE)
        return MEM_UNUSABLE;
    for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
        if (a == order[i])
            return b;
        if (b == order[i])
            return a;
    }
    return a > b ? a : b;
}

static void assert_well_formed(const struct memmap *map)
{
    assert_true(map->count <= MEMMAP_MAX);
    for (unsigned i = 0; i < map->count; i++) {
        const struct mem_range *range = &map->range[i];
        assert_true(range->start < range->end);
        if (i != 0) {
            const struct mem_range *before = &map->range[i - 1];
            assert_true(before->end <= range->start);
            assert_false(before->end == range->start && before->type == range->type);
        }
    }
}

static u32 type_at(const struct memmap *map, u64 address)
{
    for (unsigned i = 0; i < map->count; i++) {
        if (address >= map->range[i].start && address < map->range[i].end)
            return map->range[i].type;
    }
    return HOLE;
}

static void assert_equals_model(const struct memmap *map, u64 base, const u32 *model)
{
    u64 ram = 0, top = 0;

    assert_well_formed(map);
    for (u64 i = 0; i < WINDOW; i++) {
        assert_int_equal(type_at(map, base + i), model[i]);
        if (model[i] == MEM_RAM) {
            ram++;
            top = base + i + 1;
        }
    }
    if (map->count != 0)
        assert_true(map->range[0].start >= base && map->range[map->count - 1].end <= base + WINDOW);
    assert_int_equal(memmap_ram_bytes(map), ram);
    assert_int_equal(memmap_ram_top(map), top);
}

static void change_both(struct memmap *map, u64 base, u32 *model)
{
    u64 start = random_below(WINDOW), end = start + 1 + random_below(WINDOW - start);
    u32 type = types[random_below(ARRAY_SIZE(types))];

    if (random_chance(30))
        end = min_u64(end, start + 3);
    if (random_chance(50)) {
        assert_int_equal(memmap_set(map, base + start, base + end, type), MEMMAP_OK);
        for (u64 i = start; i < end; i++)
            model[i] = type;
    } else {
        assert_int_equal(memmap_add(map, base + start, end - start, type), MEMMAP_OK);
        for (u64 i = start; i < end; i++)
            model[i] = model[i] == HOLE ? type : model_less_usable(model[i], type);
    }
}

static bool model_covers(const u32 *model, u64 start, u64 bytes, u32 type)
{
    bool all = bytes != 0 && start + bytes <= WINDOW;
    for (u64 i = start; all && i < start + bytes; i++)
        all = model[i] == type;
    return all;
}

static void compare_covers(const struct memmap *map, u64 base, const u32 *model)
{
    u32 type = types[random_below(ARRAY_SIZE(types))];
    u64 start = random_below(WINDOW), bytes = random_below(WINDOW - start + 1);
    if (random_chance(70))
        bytes = min_u64(bytes, random_below(5));
    assert_int_equal(memmap_covers(map, base + start, bytes, type), model_covers(model, start, bytes, type));
}

struct search {
    u64 bytes, alignment, floor, limit; /* floor and limit relative to the window's base */
    struct mem_range avoid[3];
};

static bool place_is_good(const u32 *model, u64 base, const struct search *search, u64 offset)
{
    u64 start = base + offset, end = start + search->bytes;

    if (start % search->alignment != 0 || offset < search->floor || offset + search->bytes > search->limit)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(search->avoid); i++) {
        for (u64 at = search->avoid[i].start; at < search->avoid[i].end; at++) {
            if (at >= start && at < end)
                return false;
        }
    }
    return model_covers(model, offset, search->bytes, MEM_RAM);
}

static void compare_searches(const struct memmap *map, u64 base, const u32 *model)
{
    struct search search = {
        .bytes = 1 + random_below(12),
        .alignment = BIT(random_below(5)),
        .limit = random_chance(50) ? WINDOW : random_below(WINDOW),
    };
    u64 lowest = WINDOW, highest = WINDOW, start = 0;

    for (size_t i = 0; i < ARRAY_SIZE(search.avoid); i++) {
        u64 from = base + random_below(WINDOW - 8);
        search.avoid[i] = (struct mem_range){from, from + random_below(8), 0};
    }
    for (u64 i = 0; i < WINDOW; i++) {
        if (place_is_good(model, base, &search, i))
            highest = i;
    }
    enum memmap_status status = memmap_find_highest(map, search.bytes, search.alignment, base + search.limit,
                                                    search.avoid, ARRAY_SIZE(search.avoid), &start);
    assert_int_equal(status, highest < WINDOW ? MEMMAP_OK : MEMMAP_NOT_FOUND);
    if (status == MEMMAP_OK)
        assert_int_equal(start, base + highest);

    search.floor = random_chance(50) ? 0 : random_below(WINDOW);
    for (u64 i = WINDOW; i-- > 0;) {
        if (place_is_good(model, base, &search, i))
            lowest = i;
    }
    status = memmap_find_lowest(map, search.bytes, search.alignment, base + search.floor, base + search.limit,
                                search.avoid, ARRAY_SIZE(search.avoid), &start);
    assert_int_equal(status, lowest < WINDOW ? MEMMAP_OK : MEMMAP_NOT_FOUND);
    if (status == MEMMAP_OK)
        assert_int_equal(start, base + lowest);
}

static void random_changes_equal_a_byte_model(void **state)
{
    (void)state;
    static const u64 bases[] = {0, 0x100000, 0xffffffd0, ~0ull - WINDOW};
    static struct memmap map;

    for (unsigned round = 0; round < 400; round++) {
        u64 base = bases[round % ARRAY_SIZE(bases)];
        u32 model[WINDOW] = {HOLE};
        map.count = 0;
        for (int i = 0; i < 40; i++) {
            change_both(&map, base, model);
            assert_equals_model(&map, base, model);
            for (int k = 0; k < 5; k++)
                compare_covers(&map, base, model);
            compare_searches(&map, base, model);
        }
    }
}

/* Every way in which two ranges can lie to each other, with every pair of types, in both orders. */
static void every_overlap_of_two(void **state)
{
    (void)state;
    static struct memmap map;

    for (u64 start = 0; start < 10; start++) {
        for (u64 end = start + 1; end <= 10; end++) {
            for (size_t pair = 0; pair < ARRAY_SIZE(types) * ARRAY_SIZE(types); pair++) {
                u32 a = types[pair / ARRAY_SIZE(types)], b = types[pair % ARRAY_SIZE(types)];
                u32 model[WINDOW] = {HOLE};
                for (u64 i = 0; i < 10; i++) {
                    bool in_a = i >= 3 && i < 7, in_b = i >= start && i < end;
                    model[i] = in_a && in_b ? model_less_usable(a, b) : in_a ? a : in_b ? b : HOLE;
                }
                map.count = 0;
                assert_int_equal(memmap_add(&map, 3, 4, a), MEMMAP_OK);
                assert_int_equal(memmap_add(&map, start, end - start, b), MEMMAP_OK);
                assert_equals_model(&map, 0, model);
                map.count = 0;
                assert_int_equal(memmap_add(&map, start, end - start, b), MEMMAP_OK);
                assert_int_equal(memmap_add(&map, 3, 4, a), MEMMAP_OK);
                assert_equals_model(&map, 0, model);
            }
        }
    }
}

static void bad_ranges_change_nothing(void **state)
{
    (void)state;
    static struct memmap map, before;
    u64 start = 77;

    assert_int_equal(memmap_add(&map, 0x1000, 0x1000, MEM_RAM), MEMMAP_OK);
    before = map;
    assert_int_equal(memmap_add(&map, 0x1000, 0, MEM_RESERVED), MEMMAP_BAD_RANGE);
    assert_int_equal(memmap_add(&map, ~0ull, 1, MEM_RESERVED), MEMMAP_BAD_RANGE);
    assert_int_equal(memmap_add(&map, 0x1000, ~0ull, MEM_RESERVED), MEMMAP_BAD_RANGE);
    assert_int_equal(memmap_set(&map, 0x1000, 0x1000, MEM_RESERVED), MEMMAP_BAD_RANGE);
    assert_int_equal(memmap_set(&map, 0x2000, 0x1000, MEM_RESERVED), MEMMAP_BAD_RANGE);
    assert_int_equal(memmap_find_highest(&map, 0, 1, ~0ull, NULL, 0, &start), MEMMAP_BAD_RANGE);
    assert_int_equal(memmap_find_highest(&map, 1, 3, ~0ull, NULL, 0, &start), MEMMAP_BAD_RANGE);
    assert_int_equal(memmap_find_lowest(&map, 1, 0, 0, ~0ull, NULL, 0, &start), MEMMAP_BAD_RANGE);
    assert_int_equal(memmap_find_highest(&map, ~0ull, 1, ~0ull, NULL, 0, &start), MEMMAP_NOT_FOUND);
    assert_int_equal(memmap_find_lowest(&map, ~0ull, BIT(63), 0, ~0ull, NULL, 0, &start), MEMMAP_NOT_FOUND);
    assert_int_equal(start, 77);
    assert_memory_equal(&map, &before, sizeof(map));

    assert_false(memmap_covers(&map, 0x1000, 0, MEM_RAM));
    assert_false(memmap_covers(&map, 0x1000, ~0ull, MEM_RAM));
    assert_false(memmap_covers(&map, ~0ull, 2, MEM_RAM));
    assert_true(memmap_covers(&map, 0x1fff, 1, MEM_RAM));
    assert_false(memmap_covers(&map, 0x1fff, 2, MEM_RAM));
}

static void the_last_bytes_of_the_address_space(void **state)
{
    (void)state;
    static struct memmap map;
    u64 start;

    assert_int_equal(memmap_add(&map, 0, ~0ull, MEM_RAM), MEMMAP_OK);
    assert_int_equal(map.count, 1);
    assert_int_equal(memmap_ram_top(&map), ~0ull);
    assert_true(memmap_covers(&map, 0, ~0ull, MEM_RAM));
    assert_int_equal(memmap_find_highest(&map, 0x1000, 0x1000, ~0ull, NULL, 0, &start), MEMMAP_OK);
    assert_int_equal(start, ~0ull - 0x1fff);
    assert_int_equal(memmap_find_lowest(&map, 1, 0x1000, ~0ull - 5, ~0ull, NULL, 0, &start),
                     MEMMAP_NOT_FOUND);
    assert_int_equal(memmap_add(&map, ~0ull - 1, 1, MEM_NVS), MEMMAP_OK);
    assert_int_equal(type_at(&map, ~0ull - 1), MEM_NVS);
    assert_int_equal(memmap_ram_top(&map), ~0ull - 1);
}

/* Every second byte, alternating between two types, until no further range fits. */
static void fill(struct memmap *map)
{
    map->count = 0;
    for (u64 i = 0; i < MEMMAP_MAX; i++)
        assert_int_equal(memmap_add(map, 1000 + 2 * i, 1, i % 2 == 0 ? MEM_RAM : MEM_NVS), MEMMAP_OK);
    assert_int_equal(map->count, MEMMAP_MAX);
}

static void a_full_map_stays_as_it_is(void **state)
{
    (void)state;
    static struct memmap map, before;
    fill(&map);
    before = map;

    assert_int_equal(memmap_add(&map, 0, 1, MEM_RAM), MEMMAP_FULL);
    assert_int_equal(memmap_add(&map, 5000, 1, MEM_RAM), MEMMAP_FULL);
    assert_int_equal(memmap_set(&map, 0, 999, MEM_RESERVED), MEMMAP_FULL);
    assert_int_equal(memmap_add(&map, 1001, 1, MEM_ACPI), MEMMAP_FULL);
    /* It joins many gaps and RAM ranges, but each NVS range splits it: more ranges than before, and one too
     * many. */
    assert_int_equal(memmap_add(&map, 0, 5000, MEM_ACPI), MEMMAP_FULL);
    assert_memory_equal(&map, &before, sizeof(map));

    /* Same count, or fewer: each of these fits. */
    assert_int_equal(memmap_set(&map, 1000, 1001, MEM_UNUSABLE), MEMMAP_OK);
    assert_int_equal(memmap_add(&map, 1001, 1, MEM_UNUSABLE), MEMMAP_OK);
    assert_int_equal(memmap_add(&map, 1000, 1 + 2 * (MEMMAP_MAX - 1), MEM_ACPI), MEMMAP_OK);
    assert_int_equal(memmap_set(&map, 0, 5000, MEM_RAM), MEMMAP_OK);
    assert_int_equal(map.count, 1);
}

static void check_ownership(void)
{
    assert_true(memmap_guest_owns(gpa(0x1000), 0x6000));
    assert_true(memmap_guest_owns(gpa(0x4fff), 2));
    assert_true(memmap_guest_owns(gpa(0x6fff), 1));
    assert_false(memmap_guest_owns(gpa(0x6fff), 2));
    assert_false(memmap_guest_owns(gpa(0xfff), 2));
    assert_false(memmap_guest_owns(gpa(0x7000), 1));
    assert_false(memmap_guest_owns(gpa(0x1000), 0));
    assert_false(memmap_guest_owns(gpa(0x1000), ~0ull));
}

static void the_guest_owns_its_ram_and_acpi_tables(void **state)
{
    (void)state;
    guest_memmap.count = 0;
    assert_int_equal(memmap_add(&guest_memmap, 0x1000, 0x4000, MEM_RAM), MEMMAP_OK);
    assert_int_equal(memmap_add(&guest_memmap, 0x5000, 0x1000, MEM_ACPI), MEMMAP_OK);
    assert_int_equal(memmap_add(&guest_memmap, 0x6000, 0x1000, MEM_RAM), MEMMAP_OK);
    assert_int_equal(memmap_add(&guest_memmap, 0x7000, 0x1000, MEM_NVS), MEMMAP_OK);
    umbra_region = (struct mem_range){0x9000, 0xa000, MEM_RESERVED};

    check_ownership();
    memmap_guest_settled();
    check_ownership();
}

static void umbra_region_is_never_the_guests(void **state)
{
    (void)state;
    guest_memmap.count = 0;
    assert_int_equal(memmap_add(&guest_memmap, 0x1000, 0x6000, MEM_RAM), MEMMAP_OK);

    /* Even if the map were wrong about it, Umbra's region is not the guest's. */
    umbra_region = (struct mem_range){0x3000, 0x4000, MEM_RESERVED};
    assert_true(memmap_guest_owns(gpa(0x2fff), 1));
    assert_false(memmap_guest_owns(gpa(0x2fff), 2));
    assert_false(memmap_guest_owns(gpa(0x3fff), 1));
    assert_true(memmap_guest_owns(gpa(0x4000), 1));
    memmap_guest_settled();
    assert_false(memmap_guest_owns(gpa(0x3fff), 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_changes_equal_a_byte_model),
        cmocka_unit_test(every_overlap_of_two),
        cmocka_unit_test(bad_ranges_change_nothing),
        cmocka_unit_test(the_last_bytes_of_the_address_space),
        cmocka_unit_test(a_full_map_stays_as_it_is),
        cmocka_unit_test(umbra_region_is_never_the_guests),
        cmocka_unit_test(the_guest_owns_its_ram_and_acpi_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
