/* SPDX-License-Identifier: MIT */
/*
 * Translation for callers that want to know only where an address leads: ordinary walks in the formats that
 * guests use today, without a record of the entries, and all others by mm/walk.h. Each has the same answer as
 * its sister there, and the same faults, priorities and flags.
 */
#ifndef UMBRA_MM_WALK_QUICK_H
#define UMBRA_MM_WALK_QUICK_H

#include "mm/walk.h"

#define WALK_NOT_QUICK (~0ull)

/*
 * The quick half: the translation, if every entry is an ordinary one inside the memory's window, all of them
 * allow the access, and none owes a flag. Else WALK_NOT_QUICK, which says nothing. Nothing is written, each
 * entry is read at most once. Addresses and `access` as for walk() and walk_2d().
 */
u64 walk_quick(const struct paging *paging, const struct paging_memory *memory, u64 root, u64 address,
               u64 access);
u64 walk_2d_quick(const struct walk_2d_tables *tables, const struct paging_memory *memory, u64 linear,
                  u64 access);

/* As walk() and its sisters, but with WALK_OK only result->address is valid. */
static inline enum walk_status walk_translate(const struct paging *paging, const struct paging_memory *memory,
                                              u64 root, u64 address, unsigned access, struct walk *result)
{
    result->address = walk_quick(paging, memory, root, address, access);
    if (result->address != WALK_NOT_QUICK)
        return WALK_OK;
    return walk(paging, memory, root, address, access, result);
}

static inline enum walk_status walk_translate_and_mark(const struct paging *paging,
                                                       const struct paging_memory *memory, u64 root,
                                                       u64 address, unsigned access, struct walk *result)
{
    result->address = walk_quick(paging, memory, root, address, access);
    if (result->address != WALK_NOT_QUICK)
        return WALK_OK;
    return walk_and_mark(paging, memory, root, address, access, result);
}

static inline enum walk_status walk_translate_2d(const struct walk_2d_tables *tables,
                                                 const struct paging_memory *memory, u64 linear,
                                                 unsigned access, struct walk_2d *result)
{
    result->address = walk_2d_quick(tables, memory, linear, access);
    if (result->address != WALK_NOT_QUICK)
        return WALK_OK;
    return walk_2d(tables, memory, linear, access, result);
}

static inline enum walk_status walk_translate_2d_and_mark(const struct walk_2d_tables *tables,
                                                          const struct paging_memory *memory, u64 linear,
                                                          unsigned access, struct walk_2d *result)
{
    result->address = walk_2d_quick(tables, memory, linear, access);
    if (result->address != WALK_NOT_QUICK)
        return WALK_OK;
    return walk_2d_and_mark(tables, memory, linear, access, result);
}

#endif
