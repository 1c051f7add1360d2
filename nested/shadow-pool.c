/* SPDX-License-Identifier: MIT */
/*
 * The pool of shadow pages: two frames each, carved at boot, of which one is the table that hardware walks
 * and one keeps the entries of L1 from which it was made. Pages are taken from a free list, else from the
 * least recently used of a sample; whatever is freed goes with all that is linked below it. A frame that was
 * unlinked may be used again at once: its old root's translations are flushed before that root runs again.
 */
#include "nested/shadow-internal.h"

#include "arch/print.h"
#include "arch/string.h"
#include "mm/frame.h"
#include "mm/phys.h"

enum {
    EVICTION_SAMPLE = 8,
    /* Frames that are left to Umbra's own map: to answer the guest is worth more than to know what it wrote.
     */
    OWN_MAP_RESERVE = 256,
};

/* --- frames that hold L1's tables --- */

static u32 *frame_bucket(const struct shadow *shadow, u64 frame)
{
    return &shadow->frame_heads[(frame ^ frame >> 9) & shadow->frame_mask];
}

static u64 frame_of(const struct shadow_page *page)
{
    return page->identity.source >> PAGE_SHIFT;
}

static u32 of_frame(const struct shadow *shadow, u32 page, u64 frame)
{
    while (page != SHADOW_NONE && frame_of(&shadow->pages[page]) != frame)
        page = shadow->pages[page].frame_next;
    return page;
}

u32 shadow_first_of_frame(const struct shadow *shadow, u64 frame)
{
    return of_frame(shadow, *frame_bucket(shadow, frame), frame);
}

u32 shadow_next_of_frame(const struct shadow *shadow, u32 page, u64 frame)
{
    return of_frame(shadow, shadow->pages[page].frame_next, frame);
}

static void track(struct shadow *shadow, u32 number)
{
    struct shadow_page *page = &shadow->pages[number];
    struct shadow_root *root = &shadow->root[page->root];
    u32 *bucket = frame_bucket(shadow, frame_of(page));
    gpa_t frame = gpa(page->identity.source & ENTRY_ADDRESS);

    page->frame_next = *bucket;
    *bucket = number;
    page->tracked_prev = SHADOW_NONE;
    page->tracked_next = root->tracked;
    if (root->tracked != SHADOW_NONE)
        shadow->pages[root->tracked].tracked_prev = number;
    root->tracked = number;
    page->dirty = frame_free_count() >= OWN_MAP_RESERVE ? tdp_track(shadow->config.tdp, frame) : NULL;
    page->always = page->dirty == NULL || shadow_may_be_written(shadow, frame.raw);
}

static void untrack(struct shadow *shadow, u32 number)
{
    struct shadow_page *page = &shadow->pages[number];
    u32 *link = frame_bucket(shadow, frame_of(page));

    while (*link != number)
        link = &shadow->pages[*link].frame_next;
    *link = page->frame_next;
    if (shadow->sync_next == number)
        shadow->sync_next = page->tracked_next;
    if (page->tracked_prev != SHADOW_NONE)
        shadow->pages[page->tracked_prev].tracked_next = page->tracked_next;
    else
        shadow->root[page->root].tracked = page->tracked_next;
    if (page->tracked_next != SHADOW_NONE)
        shadow->pages[page->tracked_next].tracked_prev = page->tracked_prev;
}

/* --- what L2 may write to --- */

static bool test_bit(const u64 *bits, u64 n)
{
    return (bits[n / 64] >> n % 64 & 1) != 0;
}

/* Sets it; was it clear? */
static bool set_bit(u64 *bits, u64 n)
{
    bool was_clear = !test_bit(bits, n);

    bits[n / 64] |= BIT(n % 64);
    return was_clear;
}

bool shadow_may_be_written(const struct shadow *shadow, u64 address)
{
    if (address >= shadow->config.memory_limit)
        return true;
    return test_bit(shadow->writable_4k, address >> PAGE_SHIFT) ||
           test_bit(shadow->writable_2m, address / MIB(2));
}

static void distrust(struct shadow *shadow, u64 address, u64 bytes)
{
    if (bytes == PAGE_SIZE) {
        u64 frame = address >> PAGE_SHIFT;
        for (u32 i = shadow_first_of_frame(shadow, frame); i != SHADOW_NONE;
             i = shadow_next_of_frame(shadow, i, frame))
            shadow->pages[i].always = true;
        return;
    }
    for (u32 i = 0; i < shadow->config.pages; i++) {
        struct shadow_page *page = &shadow->pages[i];
        if (page->in_use && page->identity.kind == SHADOW_TABLE && page->identity.source - address < bytes)
            page->always = true;
    }
}

void shadow_mark_writable(struct shadow *shadow, u64 address, u64 bytes)
{
    u64 limit = shadow->config.memory_limit;
    bool news = false;

    if (bytes == PAGE_SIZE)
        news = address < limit && set_bit(shadow->writable_4k, address >> PAGE_SHIFT);
    else
        for (u64 at = address; at < min_u64(address + bytes, limit); at += MIB(2))
            news |= set_bit(shadow->writable_2m, at / MIB(2));
    if (news)
        distrust(shadow, address, bytes);
}

/* --- pages --- */

static void page_free(struct shadow *shadow, u32 number);

static void entry_clear(struct shadow *shadow, u32 page, unsigned slot)
{
    u64 *entry = &shadow_table(shadow, page)[slot];
    u32 child = shadow->pages[page].level > 1 ? shadow_child(shadow, *entry) : SHADOW_NONE;

    __atomic_store_n(entry, 0, __ATOMIC_RELAXED);
    if (child != SHADOW_NONE)
        page_free(shadow, child);
}

void shadow_page_empty(struct shadow *shadow, u32 page)
{
    const u64 *table = shadow_table(shadow, page);

    for (unsigned slot = 0; slot < SHADOW_ENTRIES; slot++) {
        if (table[slot] != 0)
            entry_clear(shadow, page, slot);
    }
    shadow->root[shadow->pages[page].root].generation++;
}

/* The recursion is as deep as the tree: at most four. */
/* NOLINTNEXTLINE(misc-no-recursion) */
static void page_free(struct shadow *shadow, u32 number)
{
    struct shadow_page *page = &shadow->pages[number];

    if (page->level > 1)
        shadow_page_empty(shadow, number);
    if (page->identity.kind == SHADOW_TABLE)
        untrack(shadow, number);
    page->in_use = false;
    page->tracked_next = shadow->free_list;
    shadow->free_list = number;
    shadow->statistics.pages_used--;
}

void shadow_entry_drop(struct shadow *shadow, u32 page, unsigned slot)
{
    entry_clear(shadow, page, slot);
    shadow->root[shadow->pages[page].root].generation++;
}

void shadow_root_free(struct shadow *shadow, struct shadow_root *root)
{
    page_free(shadow, root->page);
    root->page = SHADOW_NONE;
    root->handle += SHADOW_ROOTS;
}

/* The page with the oldest use among some that are not on the current path; there are more pages than a path
 * has. */
static u32 find_victim(struct shadow *shadow)
{
    u32 victim = SHADOW_NONE, age = 0, seen = 0;

    for (u32 i = 0; i < shadow->config.pages && seen < EVICTION_SAMPLE; i++) {
        shadow->hand = shadow->hand + 1 < shadow->config.pages ? shadow->hand + 1 : 0;
        const struct shadow_page *page = &shadow->pages[shadow->hand];
        if (!page->in_use || page->used == shadow->clock)
            continue;
        seen++;
        if (shadow->clock - page->used > age) {
            age = shadow->clock - page->used;
            victim = shadow->hand;
        }
    }
    return victim;
}

static bool evict(struct shadow *shadow)
{
    u32 victim = find_victim(shadow);

    if (victim == SHADOW_NONE)
        return false;
    const struct shadow_page *page = &shadow->pages[victim];
    shadow->statistics.pages_evicted++;
    if (page->parent != SHADOW_NONE) {
        shadow_entry_drop(shadow, page->parent, page->slot);
        return true;
    }
    shadow->statistics.roots_evicted++;
    shadow_root_free(shadow, &shadow->root[page->root]);
    return true;
}

u32 shadow_page_new(struct shadow *shadow, unsigned root, unsigned level,
                    const struct shadow_identity *identity)
{
    if (shadow->free_list == SHADOW_NONE && !evict(shadow))
        return SHADOW_NONE;

    u32 number = shadow->free_list;
    struct shadow_page *page = &shadow->pages[number];
    shadow->free_list = page->tracked_next;
    *page = (struct shadow_page){
        .identity = *identity,
        .parent = SHADOW_NONE,
        .used = shadow->clock,
        .root = (u8)root,
        .level = (u8)level,
        .in_use = true,
    };
    memset(shadow_table(shadow, number), 0, PAGE_SIZE);
    if (identity->kind == SHADOW_TABLE)
        track(shadow, number);
    shadow->statistics.pages_used++;
    return number;
}

void shadow_page_become(struct shadow *shadow, u32 page, const struct shadow_identity *identity)
{
    shadow_page_empty(shadow, page);
    if (shadow->pages[page].identity.kind == SHADOW_TABLE)
        untrack(shadow, page);
    shadow->pages[page].identity = *identity;
    if (identity->kind == SHADOW_TABLE)
        track(shadow, page);
}
