/* SPDX-License-Identifier: MIT */
/*
 * Accessed and dirty flags; see mm/walk.h. A flag is set by compare-and-exchange against the entry that a
 * walk has read and found to allow the access, so neither a change by the guest nor another CPU's is ever
 * lost.
 */
#include "mm/walk-general.h"

static bool is_write(unsigned access)
{
    return (access & (ACCESS_WRITE | ACCESS_FETCH)) == ACCESS_WRITE;
}

/* Which flags does a successful walk for that access owe to the entry of a level? */
static u64 flags_owed(const struct paging *paging, const struct walk *walk, unsigned level, unsigned access)
{
    bool dirties = level == walk->level && is_write(access);

    if (!has_flags(role_format(paging->role), level))
        return 0;
    return (paging->accessed | (dirties ? paging->dirty : 0)) & ~walk->entry[level].value;
}

/* Does it owe any? */
bool walk_owes_flags(const struct paging *paging, const struct walk *walk, unsigned access)
{
    return (walk->deviations & paging->accessed) != 0 ||
           (is_write(access) && (paging->dirty & ~walk->leaf) != 0);
}

/*
 * The second stage must allow the write to an entry of the first. Where reads of entries already counted as
 * writes, it has; WALK_CONTENDED if the entry is to be found elsewhere by now.
 */
static enum walk_status may_write_entry(const struct walk_second_stage *second,
                                        const struct paging_memory *memory, u64 guest_address, u64 address)
{
    if (walk_table_access(second->paging) != ACCESS_READ)
        return WALK_OK;
    enum walk_status status = walk_host(second, memory, guest_address, ACCESS_WRITE, FAULT_LINEAR_VALID);
    if (status != WALK_OK)
        return status;
    return second->result->host.address == address ? WALK_OK : WALK_CONTENDED;
}

/* Flags were set in an entry: in tables that refer to themselves, it may have served at several levels. */
static void record_flags(struct walk *result, u64 address, u64 value, u64 flags)
{
    for (unsigned level = result->level; level <= result->root_level; level++) {
        struct walk_entry *entry = &result->entry[level];

        if (entry->address == address && entry->value == value)
            entry->value |= flags;
    }
}

/* WALK_CONTENDED: an entry has changed since it was read. */
enum walk_status walk_set_flags(const struct paging *paging, const struct paging_memory *memory,
                                const struct walk_second_stage *second, u64 root, u64 address,
                                unsigned access, struct walk *result)
{
    enum paging_format_id format = role_format(paging->role);
    u64 table = root & paging_formats[format].root_mask;

    for (unsigned level = result->root_level; level >= result->level; level--) {
        struct walk_entry *entry = &result->entry[level];
        u64 owed = flags_owed(paging, result, level, access);
        u64 guest_address = paging_entry_address(format, table, address, level);

        table = entry->value & ENTRY_ADDRESS;
        if (owed == 0)
            continue;
        if (second != NULL) {
            enum walk_status status = may_write_entry(second, memory, guest_address, entry->address);
            if (status != WALK_OK)
                return status;
        }
        enum memory_status written =
            memory->compare_exchange(memory, gpa(entry->address), paging_formats[format].entry_bytes,
                                     entry->value, entry->value | owed);
        if (written == MEMORY_CHANGED)
            return WALK_CONTENDED;
        if (written != MEMORY_OK)
            return walk_not_memory(paging, result, level, entry->address);
        record_flags(result, entry->address, entry->value, owed);
    }
    result->leaf = result->entry[result->level].value;
    result->deviations &= ~paging->accessed;
    return WALK_OK;
}

NOINLINE enum walk_status mark(const struct paging *paging, const struct paging_memory *memory, u64 root,
                               u64 address, unsigned access, struct walk *result)
{
    for (unsigned attempt = 1;; attempt++) {
        enum walk_status status = walk_set_flags(paging, memory, NULL, root, address, access, result);

        if (status != WALK_CONTENDED || attempt == WALK_ATTEMPTS)
            return status;
        status = walk(paging, memory, root, address, access, result);
        if (status != WALK_OK || !walk_owes_flags(paging, result, access))
            return status;
    }
}

enum walk_status walk_and_mark(const struct paging *paging, const struct paging_memory *memory, u64 root,
                               u64 address, unsigned access, struct walk *result)
{
    enum walk_status status = walk(paging, memory, root, address, access, result);

    if (status != WALK_OK || likely(!walk_owes_flags(paging, result, access)))
        return status;
    return mark(paging, memory, root, address, access, result);
}
