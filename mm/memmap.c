/* SPDX-License-Identifier: MIT */
/*
 * Physical memory maps. Every change rebuilds the map in one ordered sweep over the old ranges and the new
 * one, so that ordering, disjointness and joining have a single place. It never writes a map that it cannot
 * complete. Locking: maps are changed by one CPU, at boot (the sweep's output buffer is shared).
 */
#include "mm/memmap.h"

struct memmap guest_memmap;
struct mem_range umbra_region;
struct mem_range guest_main_memory;

/*
 * How little can be done with a type: of two that overlap, the higher rank wins. ACPI tables can be reclaimed
 * by the guest, persistent memory keeps data, NVS belongs to firmware. Numbers that ACPI does not define are
 * to be treated as reserved (ACPI 6.5 section 15, table 15.1).
 */
static unsigned type_rank(u32 type)
{
    switch (type) {
    case MEM_RAM:
        return 0;
    case MEM_ACPI:
        return 1;
    case MEM_PERSISTENT:
        return 2;
    case MEM_NVS:
        return 3;
    default:
        return 4;
    case MEM_UNUSABLE:
        return 5;
    }
}

/* Among types of the same rank the higher number wins, so that the result does not depend on the order of
 * calls. */
static u32 less_usable(u32 a, u32 b)
{
    if (type_rank(a) != type_rank(b))
        return type_rank(a) > type_rank(b) ? a : b;
    return a > b ? a : b;
}

/* Appends [start, end), which lies behind all that the map holds; an empty range is nothing. False if it is
 * full. */
static bool append(struct memmap *map, u64 start, u64 end, u32 type)
{
    if (start >= end)
        return true;
    if (map->count != 0) {
        struct mem_range *last = &map->range[map->count - 1];
        if (last->end == start && last->type == type) {
            last->end = end;
            return true;
        }
    }
    if (map->count == MEMMAP_MAX)
        return false;
    map->range[map->count++] = (struct mem_range){start, end, type};
    return true;
}

/* Puts `added` into the map; where it meets an old range, it replaces it or the less usable type wins. */
static enum memmap_status merge(struct memmap *map, const struct mem_range *added, bool replace)
{
    static struct memmap merged;
    u64 done = added->start; /* the part of `added` below this address is in `merged` */
    bool fits = true;

    merged.count = 0;
    for (unsigned i = 0; i < map->count; i++) {
        const struct mem_range *old = &map->range[i];
        u32 both = replace ? added->type : less_usable(old->type, added->type);

        fits = fits && append(&merged, done, min_u64(old->start, added->end), added->type);
        fits = fits && append(&merged, old->start, min_u64(old->end, added->start), old->type);
        fits =
            fits && append(&merged, max_u64(old->start, added->start), min_u64(old->end, added->end), both);
        fits = fits && append(&merged, max_u64(old->start, added->end), old->end, old->type);
        done = max_u64(done, old->end);
    }
    fits = fits && append(&merged, done, added->end, added->type);
    if (!fits)
        return MEMMAP_FULL;

    *map = merged;
    return MEMMAP_OK;
}

enum memmap_status memmap_add(struct memmap *map, u64 start, u64 bytes, u32 type)
{
    if (bytes == 0 || start + bytes < start)
        return MEMMAP_BAD_RANGE;
    return merge(map, &(struct mem_range){start, start + bytes, type}, false);
}

enum memmap_status memmap_set(struct memmap *map, u64 start, u64 end, u32 type)
{
    if (start >= end)
        return MEMMAP_BAD_RANGE;
    return merge(map, &(struct mem_range){start, end, type}, true);
}

/* The first range to avoid that overlaps [start, end); NULL if none does. Empty ranges overlap nothing. */
static const struct mem_range *find_overlap(const struct mem_range *avoid, size_t count, u64 start, u64 end)
{
    for (size_t i = 0; i < count; i++) {
        if (avoid[i].start < avoid[i].end && avoid[i].start < end && avoid[i].end > start)
            return &avoid[i];
    }
    return NULL;
}

static bool is_power_of_two(u64 value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

/* The highest place in [low, high). Each round ends or moves `high` down to a range that is in the way. */
static bool highest_in(u64 low, u64 high, u64 bytes, u64 alignment, const struct mem_range *avoid,
                       size_t avoid_count, u64 *start)
{
    while (high > low && high - low >= bytes) {
        u64 candidate = align_down(high - bytes, alignment);
        if (candidate < low)
            return false;
        const struct mem_range *obstacle = find_overlap(avoid, avoid_count, candidate, candidate + bytes);
        if (!obstacle) {
            *start = candidate;
            return true;
        }
        high = obstacle->start;
    }
    return false;
}

/* The lowest place in [low, high). Each round ends or moves `low` up behind a range that is in the way. */
static bool lowest_in(u64 low, u64 high, u64 bytes, u64 alignment, const struct mem_range *avoid,
                      size_t avoid_count, u64 *start)
{
    while (low < high) {
        u64 candidate = align_up(low, alignment);
        if (candidate < low || candidate >= high || high - candidate < bytes)
            return false;
        const struct mem_range *obstacle = find_overlap(avoid, avoid_count, candidate, candidate + bytes);
        if (!obstacle) {
            *start = candidate;
            return true;
        }
        low = obstacle->end;
    }
    return false;
}

enum memmap_status memmap_find_highest(const struct memmap *map, u64 bytes, u64 alignment, u64 limit,
                                       const struct mem_range *avoid, size_t avoid_count, u64 *start)
{
    if (bytes == 0 || !is_power_of_two(alignment))
        return MEMMAP_BAD_RANGE;
    for (unsigned i = map->count; i-- > 0;) {
        const struct mem_range *ram = &map->range[i];
        if (ram->type == MEM_RAM &&
            highest_in(ram->start, min_u64(ram->end, limit), bytes, alignment, avoid, avoid_count, start))
            return MEMMAP_OK;
    }
    return MEMMAP_NOT_FOUND;
}

enum memmap_status memmap_find_lowest(const struct memmap *map, u64 bytes, u64 alignment, u64 floor,
                                      u64 limit, const struct mem_range *avoid, size_t avoid_count,
                                      u64 *start)
{
    if (bytes == 0 || !is_power_of_two(alignment))
        return MEMMAP_BAD_RANGE;
    for (unsigned i = 0; i < map->count; i++) {
        const struct mem_range *ram = &map->range[i];
        if (ram->type == MEM_RAM && lowest_in(max_u64(ram->start, floor), min_u64(ram->end, limit), bytes,
                                              alignment, avoid, avoid_count, start))
            return MEMMAP_OK;
    }
    return MEMMAP_NOT_FOUND;
}

/* The index of the first range that ends above `address`; map->count if there is none. */
static unsigned find_range(const struct memmap *map, u64 address)
{
    unsigned low = 0, high = map->count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (map->range[middle].end > address)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* True if each byte of [start, start + bytes) has one of two types. */
static bool covers_either(const struct memmap *map, u64 start, u64 bytes, u32 type, u32 other)
{
    if (bytes == 0 || start + bytes < start)
        return false;
    u64 end = start + bytes;
    for (unsigned i = find_range(map, start); i < map->count; i++) {
        const struct mem_range *range = &map->range[i];
        if (range->start > start || (range->type != type && range->type != other))
            return false;
        if (range->end >= end)
            return true;
        start = range->end;
    }
    return false;
}

bool memmap_covers(const struct memmap *map, u64 start, u64 bytes, u32 type)
{
    return covers_either(map, start, bytes, type, type);
}

u64 memmap_ram_top(const struct memmap *map)
{
    for (unsigned i = map->count; i-- > 0;) {
        if (map->range[i].type == MEM_RAM)
            return map->range[i].end;
    }
    return 0;
}

u64 memmap_ram_bytes(const struct memmap *map)
{
    u64 bytes = 0;
    for (unsigned i = 0; i < map->count; i++) {
        if (map->range[i].type == MEM_RAM)
            bytes += map->range[i].end - map->range[i].start;
    }
    return bytes;
}

void memmap_guest_settled(void)
{
    guest_main_memory = (struct mem_range){0};
    for (unsigned i = 0; i < guest_memmap.count; i++) {
        const struct mem_range *range = &guest_memmap.range[i];
        if (range->type == MEM_RAM && !umbra_region_overlaps(range->start, range->end - range->start) &&
            range->end - range->start > guest_main_memory.end - guest_main_memory.start)
            guest_main_memory = *range;
    }
}

bool memmap_guest_owns(gpa_t start, u64 bytes)
{
    if (start.raw >= guest_main_memory.start && start.raw < guest_main_memory.end && bytes != 0 &&
        bytes <= guest_main_memory.end - start.raw)
        return true;
    return covers_either(&guest_memmap, start.raw, bytes, MEM_RAM, MEM_ACPI) &&
           !umbra_region_overlaps(start.raw, bytes);
}
