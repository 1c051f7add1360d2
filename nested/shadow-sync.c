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

bool shadow_source_changed(const struct shadow *shadow, const struct shadow_page *page, unsigned slot,
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

/* Words are read by one instruction each, of which there are enough in any case. */

/* The word's bits, too. */
static inline u64 or_word(u64 bits, const u64 *word)
{
    __asm__ volatile("orq %1, %0" : "+r"(bits) : "m"(*word) : "cc", "memory");
    return bits;
}

/* The bits in which two words differ, too. */
static inline u64 or_difference(u64 bits, const u64 *a, const u64 *b)
{
    u64 word;

    __asm__ volatile("movq %1, %0; xorq %2, %0" : "=&r"(word) : "m"(*a), "m"(*b) : "cc", "memory");
    return bits | word;
}

enum { GROUP = 8, LARGE_GROUP = 32 };

static inline __attribute__((always_inline)) bool some_present(const u64 *slots, unsigned count)
{
    u64 bits = 0;

#pragma GCC unroll 32
    for (unsigned i = 0; i < count; i++)
        bits = or_word(bits, &slots[i]);
    return slot_present(bits);
}

static inline bool some_differ(const u64 *sources, const u64 *snapshots)
{
    u64 bits = 0;

#pragma GCC unroll 8
    for (unsigned i = 0; i < GROUP; i++)
        bits = or_difference(bits, &sources[i], &snapshots[i]);
    return bits != 0;
}

/* L1's table, if it is in the window and each of its entries stands for one of the page's; or NULL. */
static const u64 *source_in_window(const struct shadow *shadow, const struct shadow_page *page)
{
    const struct paging_memory *memory = shadow->config.memory;
    u64 source = page->identity.source, offset = source - memory->window_start;

    if (role_format(shadow->root[page->root].key.role) == PAGING_32BIT || source % PAGE_SIZE != 0 ||
        offset >= memory->window_bytes)
        return NULL;
    return (const void *)(memory->window + offset);
}

static __attribute__((noinline)) void compare_group(struct shadow *shadow, struct shadow_state *cpu,
                                                    u32 number, unsigned first)
{
    const struct shadow_page *page = &shadow->pages[number];
    const u64 *table = shadow_table(shadow, number);
    const u64 *snapshot = shadow_snapshot(shadow, number);

    for (unsigned slot = first; slot < first + GROUP; slot++) {
        u64 entry = atomic_acquire(&table[slot]);
        if (!slot_present(entry) || !shadow_source_changed(shadow, page, slot, atomic_peek(&snapshot[slot])))
            continue;
        cpu->statistics.entries_dropped += shadow_entry_drop(shadow, number, slot, entry);
    }
}

static void compare_large_group(struct shadow *shadow, struct shadow_state *cpu, u32 number, unsigned first,
                                const u64 *source)
{
    const u64 *table = shadow_table(shadow, number);
    const u64 *snapshot = shadow_snapshot(shadow, number);

    for (unsigned slot = first; slot < first + LARGE_GROUP; slot += GROUP) {
        if (some_present(&table[slot], GROUP) &&
            (source == NULL || some_differ(&source[slot], &snapshot[slot])))
            compare_group(shadow, cpu, number, slot);
    }
}

static void compare_page(struct shadow *shadow, struct shadow_state *cpu, u32 number)
{
    const u64 *table = shadow_table(shadow, number), *end = table + SHADOW_ENTRIES;
    const u64 *source = source_in_window(shadow, &shadow->pages[number]);

    cpu->statistics.tables_compared++;
    for (const u64 *slots = table; slots < end; slots += LARGE_GROUP) {
        if (some_present(slots, LARGE_GROUP))
            compare_large_group(shadow, cpu, number, (unsigned)(slots - table), source);
    }
}

enum { EVENTS_OF_HARVEST = 2 };

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

/*
 * A page that is to be compared. What is noted here are no events for the watch: unless the table may be that
 * of another page, too, which has not been looked at since. Returns what is to be watched, or NULL.
 */
static __attribute__((noinline)) u64 *look_closer(struct shadow *shadow, struct shadow_watch *watch,
                                                  const struct shadow_page *page)
{
    u64 *dirty = atomic_acquire(&page->dirty);

    watch->owed[watch->owed_count++] = (u32)(page - shadow->pages);
    if (dirty == NULL || atomic_load(&shadow->table_count[page->written]) > 1)
        watch->impossible = true;
    if (dirty == NULL)
        return NULL;
    watch->written = true;
    if (tdp_is_dirty(shadow->config.tdp, dirty)) {
        harvest(shadow, page, dirty);
        watch->events += EVENTS_OF_HARVEST;
    }
    return dirty;
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

static void begin_watch(const struct shadow *shadow, const struct shadow_root *root,
                        struct shadow_watch *watch)
{
    watch->count = 0;
    watch->quiet = 0;
    watch->complete = watch->impossible = watch->asleep = false;
    watch->handle = root->handle;
    watch->events = atomic_load(&shadow->events);
    watch->changes = atomic_load(&shadow->own_changes);
}

/* The last one stands there more than once, to make the number even. */
static void complete_watch(struct shadow_watch *watch)
{
    if (watch->count == 0 || watch->impossible)
        return;
    for (; watch->count % SHADOW_WATCH_STEP != 0; watch->count++)
        watch->entry[watch->count] = watch->entry[watch->count - 1];
    watch->complete = true;
}

/* Which pages of one word of `tracked` are to be compared; all that have an entry are watched. */
static void look_at_word(struct shadow *shadow, struct shadow_state *cpu, const u64 *word,
                         struct shadow_page *pages, bool news)
{
    struct shadow_watch *watch = &cpu->watch;
    const u64 *written = shadow->written;
    u64 **watched;
    u64 flag = shadow->format.format == TDP_NPT ? PTE_D : EPTE_D;

    /* Pages that move while this goes on may be seen at two levels. */
    if (watch->count > shadow->config.pages) {
        watch->count = 0;
        watch->impossible = true;
    }
    watched = &watch->entry[watch->count];
    shadow_enter(cpu);
    u64 bits = atomic_load(word);
    if (news)
        distrust(shadow, bits, pages);
    for (; bits != 0; bits &= bits - 1) {
        const struct shadow_page *page = &pages[(u32)__builtin_ctzll(bits)];
        u64 *dirty = atomic_peek(&page->dirty);
        /* The flag is read before the number. */
        if (__builtin_expect(dirty == NULL || (atomic_acquire(dirty) & flag) != 0 ||
                                 atomic_load(&written[page->written]) > atomic_peek(&page->seen),
                             0)) {
            dirty = look_closer(shadow, watch, page);
            if (dirty == NULL)
                continue;
        }
        *watched++ = dirty;
    }
    shadow_leave(cpu);
    watch->count = (u32)(watched - watch->entry);
}

static void look_at_level(struct shadow *shadow, struct shadow_state *cpu, struct shadow_root *root,
                          unsigned level, bool news)
{
    u32 words = (shadow->config.pages + 63) / 64;

    cpu->watch.owed_count = 0;
    cpu->watch.written = false;
    for (u64 bits = atomic_load(&root->tracked_words[level]); bits != 0; bits &= bits - 1) {
        for (u32 word = (u32)__builtin_ctzll(bits); word < words; word += 64)
            look_at_word(shadow, cpu, &root->tracked[level][word], &shadow->pages[(size_t)word * 64], news);
    }
}

/*
 * A page that is not tracked any more, or of another root or level by now, needs no comparison. `noticed`:
 * the last write that was noticed before the shoot-down and the wait; 0: there were none of them.
 */
static void compare_owed(struct shadow *shadow, struct shadow_state *cpu, const struct shadow_root *root,
                         unsigned level, u64 noticed)
{
    for (u32 i = 0; i < cpu->watch.owed_count; i++) {
        u32 number = cpu->watch.owed[i];
        shadow_enter(cpu);
        if ((atomic_acquire(&root->tracked[level][number / 64]) >> number % 64 & 1) != 0) {
            compare_page(shadow, cpu, number);
            if (noticed != 0)
                atomic_release(&shadow->pages[number].seen, noticed);
        }
        shadow_leave(cpu);
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
    /* First, so that what comes in meanwhile makes the watch void. */
    begin_watch(shadow, root, &cpu->watch);
    cpu->statistics.synchronisations++;
    shadow_wait(shadow, cpu);
    /* Not before: what may be written by now, and is, is no news until that CPU's section has ended. */
    u32 known = atomic_load(&shadow->news);
    bool news = known != atomic_acquire(&root->news);
    for (unsigned level = root->top_level; level >= 1; level--) {
        look_at_level(shadow, cpu, root, level, news);
        if (cpu->watch.owed_count == 0)
            continue;
        u64 noticed = 0;
        if (cpu->watch.written) {
            noticed = atomic_load(&shadow->writes);
            shadow_shoot_down(shadow, cpu);
            shadow_wait(shadow, cpu);
        }
        compare_owed(shadow, cpu, root, level, noticed);
    }
    if (news)
        atomic_release(&root->news, known);
    complete_watch(&cpu->watch);
    shadow_collect(shadow, cpu);
}

/* The flags are read first, and then what counts before a flag is cleared, or is none any more. */
static bool nothing_is_dirty(const struct shadow *shadow, struct shadow_state *cpu)
{
    const struct shadow_watch *watch = &cpu->watch;
    u64 flag = shadow->format.format == TDP_NPT ? PTE_D : EPTE_D, flags = 0;

    shadow_enter(cpu);
    u64 *const *end = watch->entry + watch->count;
    for (u64 *const *entry = watch->entry; entry < end; entry += SHADOW_WATCH_STEP) {
#pragma GCC unroll 8
        for (unsigned i = 0; i < SHADOW_WATCH_STEP; i++)
            flags = or_word(flags, entry[i]);
    }
    bool valid = watch->events == atomic_load(&shadow->events) &&
                 watch->changes == atomic_load(&shadow->config.tdp->changes);
    shadow_leave(cpu);
    return valid && (flags & flag) == 0;
}

/*
 * What is written before the shoot-down ends sets a flag, and is found by the second look; what is written
 * after it wakes a page, which counts before it can be.
 */
static __attribute__((noinline)) void put_to_sleep(struct shadow *shadow, struct shadow_state *cpu)
{
    struct shadow_watch *watch = &cpu->watch;
    struct tdp *tdp = shadow->config.tdp;

    watch->wakes = atomic_load(&tdp->wakes);
    for (u32 i = 0; i < watch->count; i++)
        tdp_sleep(tdp, watch->entry[i], watch->changes);
    shadow_shoot_down(shadow, cpu);
    watch->asleep = watch->complete = nothing_is_dirty(shadow, cpu);
}

/* There is nothing to wait for: the look that the watch comes from has waited for those who knew what was in
 * L1's tables before; and who makes a table known reads its entry again. */
bool shadow_is_unchanged(struct shadow *shadow, struct shadow_state *cpu, const struct shadow_root *root)
{
    struct shadow_watch *watch = &cpu->watch;
    const struct tdp *tdp = shadow->config.tdp;

    if (!watch->complete || watch->handle != root->handle)
        return false;
    if (watch->asleep) {
        if (watch->wakes == atomic_load(&tdp->wakes) && watch->changes == atomic_load(&tdp->changes) &&
            watch->events == atomic_load(&shadow->events))
            return true;
        watch->asleep = false;
        watch->quiet = 0;
    }
    watch->complete = nothing_is_dirty(shadow, cpu);
    if (watch->complete && ++watch->quiet == shadow->config.quiet)
        put_to_sleep(shadow, cpu);
    return watch->complete;
}
