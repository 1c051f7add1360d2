/* SPDX-License-Identifier: MIT */
/*
 * Bringing shadow tables up to date after L1 has invalidated translations: of the tables that L1 may have
 * written since the last time, each entry that is present is compared with the entry of L1 from which it was
 * made, and dropped if that has changed. Nothing is ever added here: L2's next access does. No lock is held;
 * what is done at a time is one page, or the flags of 64.
 */
#include "nested/shadow-internal.h"

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

static void compare_page(struct shadow *shadow, struct shadow_state *cpu, u32 number)
{
    const struct shadow_page *page = &shadow->pages[number];
    const u64 *table = shadow_table(shadow, number);
    const u64 *snapshot = shadow_snapshot(shadow, number);

    cpu->statistics.tables_compared++;
    for (unsigned slot = 0; slot < SHADOW_ENTRIES; slot++) {
        u64 entry = atomic_acquire(&table[slot]);
        if (!slot_present(entry) || !source_changed(shadow, page, slot, atomic_peek(&snapshot[slot])))
            continue;
        cpu->statistics.entries_dropped += shadow_entry_drop(shadow, number, slot, entry);
    }
}

/*
 * The flag is cleared, and what it has told is noted: before, for those who come to see the flag clear and
 * must not think that nothing was written; and after, for what was written until it was clear.
 */
static void harvest(struct shadow *shadow, const struct shadow_page *page, u64 *dirty)
{
    shadow_note_write(shadow, page->written);
    (void)tdp_clear_dirty(shadow->config.tdp, dirty, page->changes);
    shadow_note_write(shadow, page->written);
}

enum { NOTHING_OWED = 0, COMPARISON_OWED = 1, SHOOTDOWN_OWED = 2 };

static __attribute__((noinline)) unsigned look_closer(struct shadow *shadow, const struct shadow_page *page)
{
    u64 *dirty = atomic_acquire(&page->dirty);

    if (dirty == NULL)
        return COMPARISON_OWED;
    if (tdp_is_dirty(shadow->config.tdp, dirty))
        harvest(shadow, page, dirty);
    return COMPARISON_OWED | SHOOTDOWN_OWED;
}

/* The flag is read before the number. `flag`: D of Umbra's own map. */
static inline bool is_unwritten(const struct shadow_page *page, u64 flag, const u64 *written)
{
    const u64 *dirty = atomic_peek(&page->dirty);

    return dirty != NULL && (atomic_acquire(dirty) & flag) == 0 &&
           atomic_load(&written[page->written]) <= atomic_peek(&page->seen);
}

/* Which of these pages can L2 write by now? */
static void distrust(struct shadow *shadow, u64 bits, struct shadow_page *pages)
{
    for (; bits != 0; bits &= bits - 1) {
        struct shadow_page *page = &pages[__builtin_ctzll(bits)];
        if (shadow_may_be_written(shadow, page->identity.source))
            atomic_poke(&page->dirty, NULL);
    }
}

/* What is owed for the pages of one word of `tracked`. */
static unsigned look_at_word(struct shadow *shadow, struct shadow_state *cpu, const u64 *word,
                             struct shadow_page *pages, bool news)
{
    const u64 *written = shadow->written;
    u64 flag = shadow->format.format == TDP_NPT ? PTE_D : EPTE_D;
    unsigned owed = NOTHING_OWED;

    shadow_enter(cpu);
    u64 bits = atomic_load(word);
    if (news)
        distrust(shadow, bits, pages);
    for (; bits != 0; bits &= bits - 1) {
        const struct shadow_page *page = &pages[__builtin_ctzll(bits)];
        if (__builtin_expect(!is_unwritten(page, flag, written), 0))
            owed |= look_closer(shadow, page);
    }
    shadow_leave(cpu);
    return owed;
}

static unsigned look_at_level(struct shadow *shadow, struct shadow_state *cpu, struct shadow_root *root,
                              unsigned level, bool news)
{
    u32 words = (shadow->config.pages + 63) / 64;
    unsigned owed = NOTHING_OWED;

    for (u64 bits = atomic_load(&root->tracked_words[level]); bits != 0; bits &= bits - 1) {
        for (u32 word = (u32)__builtin_ctzll(bits); word < words; word += 64)
            owed |= look_at_word(shadow, cpu, &root->tracked[level][word], &shadow->pages[(size_t)word * 64],
                                 news);
    }
    return owed;
}

/* A page that is not tracked any more needs no comparison. */
static void compare_if_owed(struct shadow *shadow, struct shadow_state *cpu, const u64 *word, u32 number,
                            u64 noticed)
{
    struct shadow_page *page = &shadow->pages[number];

    shadow_enter(cpu);
    if ((atomic_acquire(word) & BIT(number % 64)) != 0 &&
        (atomic_peek(&page->dirty) == NULL ||
         (noticed != 0 && atomic_load(&shadow->written[page->written]) > atomic_peek(&page->seen)))) {
        compare_page(shadow, cpu, number);
        if (noticed != 0)
            atomic_release(&page->seen, noticed);
    }
    shadow_leave(cpu);
}

/* `noticed`: the last write that was noticed before the shoot-down and the wait; 0: there were none of them.
 */
static void compare_level(struct shadow *shadow, struct shadow_state *cpu, const struct shadow_root *root,
                          unsigned level, u64 noticed)
{
    u32 words = (shadow->config.pages + 63) / 64;

    for (u32 i = 0; i < words; i++) {
        const u64 *word = &root->tracked[level][i];
        for (u64 bits = atomic_acquire(word); bits != 0; bits &= bits - 1)
            compare_if_owed(shadow, cpu, word, i * 64 + (u32)__builtin_ctzll(bits), noticed);
    }
}

/*
 * It waits for faults of other CPUs that have read an entry of L1 and may not yet have laid their own: before
 * the first look, so that what they lay is seen; and before a comparison, since the flags that the look has
 * used up were also those of L1's writes that such a fault has missed. Before that comes the shoot-down:
 * until it ends, other CPUs may write to tables without setting a flag. What is noticed after the look is for
 * those to compare who noticed it.
 *
 * Level by level from the root, so that all that stays was read from L1's tables in the order in which a walk
 * reads it: L1 may take a table away, change it and link it again while this goes on.
 */
void shadow_synchronise(struct shadow *shadow, struct shadow_state *cpu, struct shadow_root *root)
{
    u32 known = atomic_load(&shadow->news);
    bool news = known != atomic_acquire(&root->news);

    cpu->statistics.synchronisations++;
    shadow_wait(shadow, cpu);
    for (unsigned level = root->top_level; level >= 1; level--) {
        unsigned owed = look_at_level(shadow, cpu, root, level, news);
        u64 noticed = 0;
        if (owed == NOTHING_OWED)
            continue;
        if ((owed & SHOOTDOWN_OWED) != 0) {
            noticed = atomic_load(&shadow->writes);
            shadow_shoot_down(shadow, cpu);
            shadow_wait(shadow, cpu);
        }
        compare_level(shadow, cpu, root, level, noticed);
    }
    if (news)
        atomic_release(&root->news, known);
    shadow_collect(shadow, cpu);
}

void shadow_wrote(struct shadow *shadow, gpa_t address, u64 bytes)
{
    u64 last = (address.raw + bytes - 1) >> PAGE_SHIFT;

    for (u64 frame = address.raw >> PAGE_SHIFT; bytes != 0 && frame <= last; frame++)
        shadow_note_write(shadow, shadow_written_index(shadow, frame << PAGE_SHIFT));
}
