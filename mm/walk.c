/* SPDX-License-Identifier: MIT */
/*
 * One-dimensional walks; see mm/walk.h. The formats that second-level tables have today are walked in a
 * straight line, in which ordinary entries take one test each; all else is for the general walker.
 */
#include "mm/walk-general.h"

/* The entry of `level`, whose address is recorded, is not in the window. */
NOINLINE enum walk_status walk_outside(const struct paging *paging, const struct paging_memory *memory,
                                       unsigned level, u64 address, unsigned access, struct walk *result)
{
    struct walk_entry *entry = &result->entry[level];

    if (memory->load(memory, gpa(entry->address), sizeof(entry->value), &entry->value) != MEMORY_OK)
        return walk_not_memory(paging, result, level, entry->address);
    return walk_rest(paging, memory, NULL, level, address, access, result);
}

/* Of a format with 8-byte entries and four levels. */
INLINE enum walk_status walk_hot(const struct paging *paging, const struct paging_memory *memory, u64 root,
                                 u64 address, unsigned access, struct walk *result,
                                 enum paging_format_id format)
{
    const u64 page_type = paging_plain_bits(format, 1, true) ^ paging_plain_bits(format, 1, false);
    const u8 *window = memory->window;
    u64 table = root & ENTRY_ADDRESS;
    u64 denied = 0;
    unsigned level = paging_formats[format].levels;

#pragma GCC unroll 4
    while (level >= 1) {
        u64 where = paging_entry_address(format, table, address, level);
        u64 offset = where - memory->window_start;
        result->entry[level].address = where;
        if (unlikely(offset >= memory->window_bytes))
            return walk_outside(paging, memory, level, address, access, result);
        u64 entry = __atomic_load_n((const u64 *)(const void *)(window + offset), __ATOMIC_RELAXED);
        result->entry[level].value = entry;

        u64 deviations = entry ^ paging_plain_bits(format, level, false);
        if (level == 1) {
            if (unlikely(((deviations ^ page_type) & paging->plain_page[level]) != 0))
                break;
            return finish(paging, format, level, denied, entry, address, access, result);
        }
        if (unlikely((deviations & paging->plain_table[level]) != 0)) {
            if (level <= 3 && ((deviations ^ page_type) & paging->plain_page[level]) == ENTRY_PS)
                return finish(paging, format, level, denied, entry, address, access, result);
            break;
        }
        denied |= deviations;
        table = entry & ENTRY_ADDRESS;
        level--;
    }
    return walk_rest(paging, memory, NULL, level, address, access, result);
}

NOINLINE enum walk_status walk_4level(const struct paging *paging, const struct paging_memory *memory,
                                      u64 root, u64 address, unsigned access, struct walk *result)
{
    if (unlikely((address & paging->input_reserved) != 0))
        return walk_beyond_tables(paging, result, address, access);
    return walk_hot(paging, memory, root, address, access, result, PAGING_4LEVEL);
}

NOINLINE enum walk_status walk_ept4(const struct paging *paging, const struct paging_memory *memory, u64 root,
                                    u64 address, unsigned access, struct walk *result)
{
    if (unlikely((address & paging->input_reserved) != 0))
        return walk_beyond_tables(paging, result, address, access);
    return walk_hot(paging, memory, root, address, access, result, PAGING_EPT4);
}

enum walk_status walk(const struct paging *paging, const struct paging_memory *memory, u64 root, u64 address,
                      unsigned access, struct walk *result)
{
    switch (role_format(paging->role)) {
    case PAGING_NONE:
        return walk_nothing(address, result);
    case PAGING_4LEVEL:
        return walk_4level(paging, memory, root, address, access, result);
    case PAGING_EPT4:
        return walk_ept4(paging, memory, root, address, access, result);
    default:
        return walk_general(paging, memory, NULL, root, address, access, result);
    }
}
