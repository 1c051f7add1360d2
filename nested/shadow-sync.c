/* SPDX-License-Identifier: MIT */
/*
 * Bringing shadow tables up to date after L1 has invalidated translations: of the tables that L1 may have
 * written since the last time, each entry that is present is compared with the entry of L1 from which it was
 * made, and dropped if that has changed. Nothing is ever added here: L2's next access does.
 */
#include "nested/shadow-internal.h"

#include "arch/string.h"

u64 shadow_source_address(const struct shadow *shadow, const struct shadow_page *page, unsigned slot)
{
    const struct shadow_root *root = &shadow->root[page->root];

    if (role_format(root->key.role) != PAGING_32BIT)
        return page->identity.source + (u64)slot * sizeof(u64);
    /* 1,024 entries of L1: four pages of level 2, two entries each of them; two pages of level 1. */
    u64 index = page->level == 2 ? page->identity.part * 256u + slot / 2u : page->identity.part * 512u + slot;
    return page->identity.source + index * sizeof(u32);
}

static bool source_changed(const struct shadow *shadow, const struct shadow_page *page, unsigned slot,
                           u64 expected)
{
    const struct paging_memory *memory = shadow->config.memory;
    u64 address = shadow_source_address(shadow, page, slot);
    u64 now;
    enum memory_status status = role_format(shadow->root[page->root].key.role) == PAGING_32BIT
                                    ? paging_load_u32(memory, address, &now)
                                    : paging_load_u64(memory, address, &now);

    return status != MEMORY_OK || now != expected;
}

static void compare_page(struct shadow *shadow, u32 number)
{
    const struct shadow_page *page = &shadow->pages[number];
    const u64 *table = shadow_table(shadow, number);
    const u64 *snapshot = shadow_snapshot(shadow, number);

    shadow->statistics.tables_compared++;
    for (unsigned slot = 0; slot < SHADOW_ENTRIES; slot++) {
        if (table[slot] == 0 || !source_changed(shadow, page, slot, snapshot[slot]))
            continue;
        shadow_entry_drop(shadow, number, slot);
        shadow->statistics.entries_dropped++;
    }
}

/*
 * The dirty flag is cleared before the entries are read, and what it has told is used up: so all shadow pages
 * of that frame are compared, those of other roots too. Comparing early what L1 has not invalidated there is
 * allowed. A comparison frees only pages of lower levels than its own in the same tree, but these may be of
 * the same frame.
 */
static void compare_frame(struct shadow *shadow, u32 number)
{
    u64 frame = shadow->pages[number].identity.source >> PAGE_SHIFT;
    u32 next;

    (void)tdp_clear_dirty(shadow->config.tdp, shadow->pages[number].dirty, shadow->own_changes);
    for (u32 i = shadow_first_of_frame(shadow, frame); i != SHADOW_NONE; i = next) {
        compare_page(shadow, i);
        next = shadow_next_of_frame(shadow, i, frame);
    }
}

void shadow_set_top(struct shadow *shadow, struct shadow_root *root, u64 entry)
{
    struct paging_role role = root->key.role;
    unsigned above = RIGHTS_ALL_BUT_SS;
    bool present = (entry & paging_present_bits(role)) != 0;

    if (role_has(role, ROLE_GMET) && (entry & PTE_U) == 0)
        above &= ~(unsigned)RIGHT_U;
    root->top_entry = entry;
    root->top_rights = (u8)shadow_entry_rights(role, SHADOW_LEVELS + 1, entry);
    shadow_page_become(shadow, root->page,
                       &(struct shadow_identity){
                           .source = entry & ENTRY_ADDRESS,
                           .kind = present ? SHADOW_TABLE : SHADOW_TOP,
                           .above = (u8)above,
                       });
}

/* 5-level formats: the entry for addresses below 2^48; no memory counts as not present. */
static void refresh_top(struct shadow *shadow, struct shadow_root *root)
{
    u64 entry;

    if (paging_formats[role_format(root->key.role)].levels <= SHADOW_LEVELS)
        return;
    if (paging_load_u64(shadow->config.memory, root->key.pointer, &entry) != MEMORY_OK)
        entry = 0;
    if (entry != root->top_entry)
        shadow_set_top(shadow, root, entry);
}

void shadow_synchronise(struct shadow *shadow, struct shadow_root *root)
{
    u32 next;

    shadow->statistics.synchronisations++;
    root->stale = false;
    refresh_top(shadow, root);
    for (u32 i = root->tracked; i != SHADOW_NONE; i = next) {
        const struct shadow_page *page = &shadow->pages[i];
        bool written = page->dirty != NULL && tdp_is_dirty(shadow->config.tdp, page->dirty);
        next = page->tracked_next;
        if (!written && !page->always)
            continue;
        /* Of the pages that a comparison frees, one may be the next. */
        shadow->sync_next = next;
        if (written)
            compare_frame(shadow, i);
        else
            compare_page(shadow, i);
        next = shadow->sync_next;
    }
    shadow->sync_next = SHADOW_NONE;
}

void shadow_wrote(struct shadow *shadow, gpa_t address, u64 bytes)
{
    u64 last = (address.raw + bytes - 1) >> PAGE_SHIFT;

    for (u64 frame = address.raw >> PAGE_SHIFT; bytes != 0 && frame <= last; frame++) {
        for (u32 i = shadow_first_of_frame(shadow, frame); i != SHADOW_NONE;
             i = shadow_next_of_frame(shadow, i, frame))
            shadow->pages[i].always = true;
    }
}

void shadow_drop_everything(struct shadow *shadow)
{
    u64 limit = shadow->config.memory_limit;

    shadow->statistics.drops_of_everything++;
    for (unsigned i = 0; i < SHADOW_ROOTS; i++) {
        struct shadow_root *root = &shadow->root[i];
        if (root->page == SHADOW_NONE)
            continue;
        struct shadow_identity same = shadow->pages[root->page].identity;
        shadow_page_become(shadow, root->page, &same);
    }
    /* No entry is left through which L2 could write. */
    memset(shadow->writable_4k, 0, limit / PAGE_SIZE / 8 + 8);
    memset(shadow->writable_2m, 0, limit / MIB(2) / 8 + 8);
}

void shadow_follow_own_map(struct shadow *shadow)
{
    if (shadow->own_changes == shadow->config.tdp->changes)
        return;
    shadow->own_changes = shadow->config.tdp->changes;
    shadow->own_leaf.present = false;
    shadow_drop_everything(shadow);
}
