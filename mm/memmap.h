/* SPDX-License-Identifier: MIT */
/*
 * Physical memory maps: ordered, non-overlapping ranges with their E820 types, built from what the loader
 * says. Pure and without allocation. Two maps exist at run time: what firmware reported, and what the guest
 * is told.
 */
#ifndef UMBRA_MM_MEMMAP_H
#define UMBRA_MM_MEMMAP_H

#include "arch/types.h"

/* E820 type numbers, ACPI 6.5 section 15. */
enum mem_type {
    MEM_RAM = 1,
    MEM_RESERVED = 2,
    MEM_ACPI = 3,
    MEM_NVS = 4,
    MEM_UNUSABLE = 5,
    MEM_PERSISTENT = 7,
};

struct mem_range {
    u64 start; /* host-physical = guest-physical */
    u64 end;   /* one past the last byte */
    u32 type;  /* enum mem_type, or a number of the firmware's own */
};

enum { MEMMAP_MAX = 256 };

struct memmap {
    struct mem_range range[MEMMAP_MAX];
    unsigned count;
};

enum memmap_status {
    MEMMAP_OK,
    MEMMAP_FULL,      /* more than MEMMAP_MAX ranges would result; the map is unchanged */
    MEMMAP_BAD_RANGE, /* empty, or its end is no 64-bit number; for searches: no bytes, or no power of two */
    MEMMAP_NOT_FOUND,
};

/*
 * Adds [start, start + bytes) and keeps the map ordered and disjoint. Where it overlaps what is there, the
 * less usable type wins, in the order RAM, ACPI, persistent, NVS, reserved and unknown types, unusable. Equal
 * neighbours are joined.
 */
enum memmap_status memmap_add(struct memmap *map, u64 start, u64 bytes, u32 type);

/* Makes [start, end) that type whatever it was before. */
enum memmap_status memmap_set(struct memmap *map, u64 start, u64 end, u32 type);

/*
 * The highest `bytes` of RAM, aligned to `alignment` (a power of two), that end at or below `limit` and
 * overlap none of the `avoid` ranges; its start in *start.
 */
enum memmap_status memmap_find_highest(const struct memmap *map, u64 bytes, u64 alignment, u64 limit,
                                       const struct mem_range *avoid, size_t avoid_count, u64 *start);
/* As above, the lowest that starts at or above `floor`. */
enum memmap_status memmap_find_lowest(const struct memmap *map, u64 bytes, u64 alignment, u64 floor,
                                      u64 limit, const struct mem_range *avoid, size_t avoid_count,
                                      u64 *start);

/* True if every byte of [start, start + bytes) has that type; false for empty or wrapping ranges. */
bool memmap_covers(const struct memmap *map, u64 start, u64 bytes, u32 type);

/* One past the last byte of RAM; 0 if there is none. */
u64 memmap_ram_top(const struct memmap *map);
u64 memmap_ram_bytes(const struct memmap *map);

/* The map that the guest is told; set once at boot. */
extern struct memmap guest_memmap;

/*
 * The guest's largest range of RAM: where nearly all of its pages are, so that most checks are two compares.
 * Empty before memmap_guest_settled(), which is to be called once, when guest_memmap and umbra_region are
 * final.
 */
extern struct mem_range guest_main_memory;
void memmap_guest_settled(void);

/* True if all of [start, start + bytes) is RAM or ACPI memory that belongs to the guest. */
bool memmap_guest_owns(gpa_t start, u64 bytes);

/* Umbra's own region [start, end), set once at boot. */
extern struct mem_range umbra_region;

static inline bool umbra_region_overlaps(u64 start, u64 bytes)
{
    return start < umbra_region.end && bytes != 0 && start + (bytes - 1) >= umbra_region.start;
}

#endif
