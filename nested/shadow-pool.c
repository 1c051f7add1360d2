/* SPDX-License-Identifier: MIT */
/*
 * The pool of shadow pages: two frames each, carved at boot, of which one is the table that hardware walks
 * and one keeps the entries of L1 from which it was made. A page that is unlinked is retired with its whole
 * tree at once; it is dead when no section knows it any more, and free after a shoot-down. When none is free,
 * the least recently used of a sample make room. No list here needs a lock.
 */
#include "nested/shadow-internal.h"

#include "arch/string.h"
#include "mm/frame.h"

enum {
    EVICTION_SAMPLE = 8,
    EVICTION_SHARE = 64, /* so that few shoot-downs are needed, one in so many pages goes at a time */
    /* Frames that are left to Umbra's own map: to answer the guest is worth more than to know what it wrote.
     */
    OWN_MAP_RESERVE = 256,
};

/* --- other CPUs --- */

void shadow_wait(struct shadow *shadow, const struct shadow_state *cpu)
{
    for (struct shadow_state *other = atomic_load(&shadow->cpus); other != NULL; other = other->next) {
        u32 inside = atomic_load(&other->inside);

        while (other != cpu && inside % 2 != 0 && atomic_load(&other->inside) == inside)
            cpu_relax();
    }
}

void shadow_shoot_down(struct shadow *shadow, const struct shadow_state *cpu)
{
    if (shadow_alone(shadow))
        return;
    u64 number = atomic_add(&shadow->shootdowns_begun, 1) + 1;
    shadow->config.shoot_down(cpu->owner);
    for (u64 done = atomic_load(&shadow->shootdowns_done); done < number;
         done = atomic_load(&shadow->shootdowns_done)) {
        if (atomic_cas(&shadow->shootdowns_done, done, number))
            return;
    }
}

/* --- lists through shadow.next[] --- */

static void push(struct shadow *shadow, u64 *list, u32 page)
{
    u64 head;

    do {
        head = atomic_peek(list);
        atomic_poke(&shadow->next[page], (u32)head);
    } while (!atomic_cas(list, head, page));
}

/* The free list's count makes sure that a page that went and came back meanwhile is noticed. */
static void free_push(struct shadow *shadow, u32 page)
{
    u64 head;

    do {
        head = atomic_peek(&shadow->free_list);
        atomic_poke(&shadow->next[page], (u32)head);
    } while (!atomic_cas(&shadow->free_list, head, ((head >> 32) + 1) << 32 | page));
}

static u32 free_pop(struct shadow *shadow)
{
    for (;;) {
        u64 head = atomic_load(&shadow->free_list);
        u32 page = (u32)head;
        if (page == SHADOW_NONE)
            return page;
        u64 rest = atomic_peek(&shadow->next[page]);
        if (atomic_cas(&shadow->free_list, head, ((head >> 32) + 1) << 32 | rest))
            return page;
    }
}

/* --- tables of L1 --- */

/*
 * From now on the table's dirty flag is looked at. A new page is compared once in any case: L1 may have
 * written the table between the walk that led here and now.
 */
void shadow_track(struct shadow *shadow, u32 number)
{
    struct shadow_page *page = &shadow->pages[number];
    struct shadow_root *root = &shadow->root[page->root];
    u64 table = page->identity.source & ENTRY_ADDRESS;
    bool frames = frame_free_count() >= OWN_MAP_RESERVE;

    page->changes = atomic_acquire(&shadow->config.tdp->changes);
    u64 *dirty = frames ? tdp_track(shadow->config.tdp, gpa(table)) : NULL;
    atomic_release(&page->dirty, dirty);
    atomic_poke(&page->seen, 0);
    u64 *tracked = &root->tracked[page->level][number / 64];
    if ((atomic_or(tracked, BIT(number % 64)) >> number % 64 & 1) == 0)
        atomic_add(&shadow->table_count[page->written], 1);
    atomic_or(&root->tracked_words[page->level], BIT(number / 64 % 64));
    /* Who lets L2 write sets the bit first and looks for pages then: one of the two sees the other. */
    if (shadow_may_be_written(shadow, table))
        atomic_poke(&page->dirty, NULL);
    atomic_add(&shadow->events, 1);
}

static void untrack(struct shadow *shadow, u32 number)
{
    const struct shadow_page *page = &shadow->pages[number];

    atomic_and(&shadow->root[page->root].tracked[page->level][number / 64], ~BIT(number % 64));
    atomic_add(&shadow->table_count[page->written], -1);
}

/* --- what L2 may write to --- */

static bool test_bit(const u64 *bits, u64 n)
{
    return (atomic_load(&bits[n / 64]) >> n % 64 & 1) != 0;
}

bool shadow_may_be_written(const struct shadow *shadow, u64 address)
{
    if (address >= shadow->config.memory_limit)
        return true;
    return test_bit(shadow->writable_4k, address >> PAGE_SHIFT) ||
           test_bit(shadow->writable_2m, address / MIB(2));
}

/* May a table be in that page, or in one of those of 2 MByte? */
static bool may_have_table(const struct shadow *shadow, u64 address, u64 bytes)
{
    return bytes != PAGE_SIZE ||
           atomic_load(&shadow->table_count[shadow_written_index(shadow, address)]) != 0;
}

/*
 * It is no news where no table is; who tracks one counts it, and looks at the bit then. An event is counted
 * before the bit is there, which other CPUs may act upon, and after, for a watch that began meanwhile.
 */
static void set_bit(struct shadow *shadow, u64 *bits, u64 address, u64 bytes)
{
    u64 n = address / bytes;

    if (test_bit(bits, n))
        return;
    if (may_have_table(shadow, address, bytes))
        atomic_add(&shadow->events, 1);
    atomic_or(&bits[n / 64], BIT(n % 64));
    if (may_have_table(shadow, address, bytes)) {
        atomic_add(&shadow->news, 1);
        atomic_add(&shadow->events, 1);
    }
}

void shadow_mark_writable(struct shadow *shadow, u64 address, u64 bytes)
{
    u64 limit = shadow->config.memory_limit;

    if (bytes == PAGE_SIZE && address < limit)
        set_bit(shadow, shadow->writable_4k, address, PAGE_SIZE);
    else if (bytes != PAGE_SIZE)
        for (u64 at = address; at < min_u64(address + bytes, limit); at += MIB(2))
            set_bit(shadow, shadow->writable_2m, at, MIB(2));
}

/* In a section, as for L2, so that no other CPU acts upon a bit whose event and news an INVEPT has not waited
 * for. */
void shadow_will_write(struct shadow *shadow, struct shadow_cpu *storage, gpa_t address, u64 bytes)
{
    struct shadow_state *cpu = shadow_state_of(storage);
    bool inside = cpu->inside % 2 != 0;

    if (!inside)
        shadow_enter(cpu);
    for (u64 page = align_down(address.raw, PAGE_SIZE); page < address.raw + bytes; page += PAGE_SIZE)
        shadow_mark_writable(shadow, page, PAGE_SIZE);
    if (!inside)
        shadow_leave(cpu);
}

/* --- slots --- */

bool shadow_slot_take(const struct shadow *shadow, u64 *slot, u64 entry)
{
    /* Hardware may set flags between the reading and this. */
    while (!atomic_cas(slot, entry, SLOT_BUSY)) {
        u64 now = atomic_acquire(slot);
        if (!slot_present(now) || !shadow_entry_same(&shadow->format, entry, now))
            return false;
        entry = now;
    }
    return true;
}

bool shadow_entry_drop(struct shadow *shadow, u32 page, unsigned slot, u64 entry)
{
    u64 *place = &shadow_table(shadow, page)[slot];
    u32 child = shadow->pages[page].level > 1 ? shadow_child(shadow, entry) : SHADOW_NONE;

    if (!shadow_slot_take(shadow, place, entry))
        return false;
    atomic_add(&shadow->root[shadow->pages[page].root].generation, 1);
    if (child != SHADOW_NONE)
        shadow_retire(shadow, child);
    u64 begun = atomic_load(&shadow->shootdowns_begun);
    atomic_release(place, shadow_alone(shadow) ? 0 : SLOT_OWED | begun << SLOT_NUMBER_SHIFT);
    return true;
}

/* --- from linked to free --- */

void shadow_retire(struct shadow *shadow, u32 page)
{
    push(shadow, &shadow->retired, page);
}

/*
 * No section adds anything to the tree any more; a link that someone else drops at the same time is taken by
 * one of the two. The recursion is as deep as the tree: at most four.
 */
/* NOLINTNEXTLINE(misc-no-recursion) */
static void bury(struct shadow *shadow, struct shadow_state *cpu, u32 number)
{
    struct shadow_page *page = &shadow->pages[number];
    u64 *table = shadow_table(shadow, number);

    for (unsigned slot = 0; page->level > 1 && slot < SHADOW_ENTRIES; slot++) {
        if (!slot_present(atomic_peek(&table[slot])))
            continue;
        u64 entry = atomic_exchange(&table[slot], 0);
        u32 child = slot_present(entry) ? shadow_child(shadow, entry) : SHADOW_NONE;
        if (child != SHADOW_NONE)
            bury(shadow, cpu, child);
    }
    if (page->identity.kind == SHADOW_TABLE)
        untrack(shadow, number);
    atomic_release(&page->in_use, false);
    push(shadow, &shadow->dead, number);
    cpu->statistics.pages_used--;
}

void shadow_collect(struct shadow *shadow, struct shadow_state *cpu)
{
    if ((u32)atomic_peek(&shadow->retired) == SHADOW_NONE)
        return;
    u32 page = (u32)atomic_exchange(&shadow->retired, SHADOW_NONE), next;

    shadow_wait(shadow, cpu);
    for (; page != SHADOW_NONE; page = next) {
        next = atomic_peek(&shadow->next[page]);
        bury(shadow, cpu, page);
    }
}

/* Whatever is looked at stays what it is until the section ends. */
static u32 find_victim(const struct shadow *shadow, u32 *hand)
{
    u32 victim = SHADOW_NONE, age = 0, seen = 0, clock = atomic_peek(&shadow->clock);

    for (u32 i = 0; i < shadow->config.pages && seen < EVICTION_SAMPLE; i++) {
        *hand = *hand + 1 < shadow->config.pages ? *hand + 1 : 0;
        const struct shadow_page *page = &shadow->pages[*hand];
        if (!atomic_acquire(&page->in_use))
            continue;
        u32 unused = clock - atomic_peek(&page->used);
        seen += unused != 0;
        if (unused > age) {
            age = unused;
            victim = *hand;
        }
    }
    return victim;
}

/* A root goes if no CPU has it: its slot is free at once, its tree is retired. */
static void evict_root(struct shadow *shadow, struct shadow_state *cpu, u32 victim, unsigned index)
{
    struct shadow_root *root = &shadow->root[index];

    spin_lock(&shadow->lock);
    if (root->page == victim && root->pins == 0) {
        cpu->statistics.roots_evicted++;
        shadow_root_free(shadow, root);
    }
    spin_unlock(&shadow->lock);
}

static void evict(struct shadow *shadow, struct shadow_state *cpu)
{
    u32 hand = atomic_peek(&shadow->hand);
    unsigned root = SHADOW_SLOTS;

    shadow_enter(cpu);
    u32 victim = find_victim(shadow, &hand);
    atomic_poke(&shadow->hand, hand);
    if (victim != SHADOW_NONE) {
        const struct shadow_page *page = &shadow->pages[victim];
        u64 entry =
            page->parent == SHADOW_NONE ? 0 : atomic_acquire(&shadow_table(shadow, page->parent)[page->slot]);
        if (page->parent == SHADOW_NONE)
            root = page->root;
        else if (slot_present(entry) && shadow_child(shadow, entry) == victim)
            cpu->statistics.pages_evicted += shadow_entry_drop(shadow, page->parent, page->slot, entry);
    }
    shadow_leave(cpu);
    if (root != SHADOW_SLOTS)
        evict_root(shadow, cpu, victim, root);
}

/*
 * A CPU may still enter L2 with a root's page that was replaced since it was told to, though it has flushed
 * what it cached. The page is empty.
 */
static bool is_root_of_some_cpu(const struct shadow *shadow, u32 page)
{
    const struct shadow_state *cpu = atomic_load(&shadow->cpus);

    while (cpu != NULL && atomic_load(&cpu->root_page) != page)
        cpu = cpu->next;
    return cpu != NULL;
}

static bool some_free(const struct shadow *shadow)
{
    return (u32)atomic_load(&shadow->free_list) != SHADOW_NONE;
}

/* The dead are free, but for a few. */
static bool release_dead(struct shadow *shadow, struct shadow_state *cpu)
{
    u32 page = (u32)atomic_exchange(&shadow->dead, SHADOW_NONE), next;

    if (page == SHADOW_NONE)
        return some_free(shadow);
    shadow_shoot_down(shadow, cpu);
    shadow_wait(shadow, cpu);
    for (; page != SHADOW_NONE; page = next) {
        next = atomic_peek(&shadow->next[page]);
        if (is_root_of_some_cpu(shadow, page))
            push(shadow, &shadow->dead, page);
        else
            free_push(shadow, page);
    }
    return some_free(shadow);
}

bool shadow_reclaim(struct shadow *shadow, struct shadow_state *cpu)
{
    shadow_collect(shadow, cpu);
    if (release_dead(shadow, cpu))
        return true;
    for (u32 i = 0; i <= shadow->config.pages / EVICTION_SHARE; i++)
        evict(shadow, cpu);
    /* Even what was used just now may go the next time. */
    atomic_add(&shadow->clock, 1);
    shadow_collect(shadow, cpu);
    return release_dead(shadow, cpu);
}

u32 shadow_page_new(struct shadow *shadow, struct shadow_state *cpu, unsigned root, unsigned level,
                    const struct shadow_identity *identity)
{
    u32 number = free_pop(shadow);

    if (number == SHADOW_NONE)
        return SHADOW_NONE;
    struct shadow_page *page = &shadow->pages[number];
    page->identity = *identity;
    page->parent = SHADOW_NONE;
    page->top_entry = 0;
    page->top_rights = TDP_RWX;
    page->root = (u8)root;
    page->level = (u8)level;
    atomic_poke(&page->used, atomic_peek(&shadow->clock));
    memset(shadow_table(shadow, number), 0, PAGE_SIZE);
    page->written = shadow_written_index(shadow, identity->source);
    shadow->source[number] = shadow_quick_source(shadow, page);
    if (identity->kind == SHADOW_TABLE)
        shadow_track(shadow, number);
    cpu->statistics.pages_used++;
    return number;
}
