/* SPDX-License-Identifier: MIT */
/*
 * Roots and tags: which shadow an L1 root has, and under which VPID or ASID a CPU runs it. It decides when
 * L1's invalidations take effect (before L2 runs next, SDM vol. 3C 29.4.3) and which flushes the vendor owes.
 * What L1 invalidates on a CPU is owed by that CPU; what is dropped for it is flushed by each.
 */
#include "nested/shadow-internal.h"

#include "arch/print.h"
#include "arch/string.h"
#include "mm/frame.h"

/* Other CPUs that make pages free may hold all there are for so long. */
enum { RECLAIM_TRIES = 1 << 20 };

static struct shadow the_shadow;

/* --- making it --- */

static void *carve(u64 bytes)
{
    hpa_t first;

    return frame_alloc_contiguous((size_t)(align_up(bytes, PAGE_SIZE) / PAGE_SIZE), &first)
               ? phys_to_virt(first)
               : NULL;
}

static bool carve_pages(struct shadow *shadow)
{
    u32 pages = shadow->config.pages, counts = 256;
    u64 limit = shadow->config.memory_limit;
    hpa_t tables, snapshots;

    /* Many, so that few frames share a count. */
    while (counts < pages * 4 && counts <= UINT16_MAX / 2)
        counts *= 2;
    shadow->written_mask = counts - 1;
    shadow->pages = carve(pages * sizeof(struct shadow_page));
    shadow->next = carve(pages * sizeof(u32));
    shadow->source = carve(pages * sizeof(*shadow->source));
    shadow->written = carve(counts * sizeof(u64));
    shadow->table_count = carve(counts * sizeof(u16));
    shadow->writable_4k = carve(limit / PAGE_SIZE / 8 + 8);
    shadow->writable_2m = carve(limit / MIB(2) / 8 + 8);
    if (shadow->pages == NULL || shadow->next == NULL || shadow->source == NULL || shadow->written == NULL ||
        shadow->table_count == NULL || shadow->writable_4k == NULL || shadow->writable_2m == NULL ||
        !frame_alloc_contiguous(pages, &tables) || !frame_alloc_contiguous(pages, &snapshots))
        return false;
    shadow->tables = tables.raw;
    shadow->snapshots = snapshots.raw;
    shadow->to_snapshot = (snapshots.raw - tables.raw) / sizeof(u64);
    /* No page has seen number 1. */
    shadow->writes = 1;
    for (u32 i = 0; i < counts; i++)
        shadow->written[i] = 1;
    return true;
}

/* As many as there may be CPUs, each of which pins one, and SHADOW_ROOTS more; or SHADOW_SLOTS. */
static bool carve_roots(struct shadow *shadow)
{
    u32 count = SHADOW_ROOTS, words = (shadow->config.pages + 63) / 64;

    while (count < SHADOW_ROOTS + shadow->config.cpus - 1 && count < SHADOW_SLOTS)
        count *= 2;
    shadow->root_count = count;
    shadow->root = carve(count * sizeof(struct shadow_root));
    u64 *tracked = carve((u64)count * SHADOW_LEVELS * words * sizeof(u64));
    if (shadow->root == NULL || tracked == NULL)
        return false;
    for (u32 i = 0; i < count; i++) {
        shadow->root[i].page = SHADOW_NONE;
        shadow->root[i].handle = i;
        for (unsigned level = 1; level <= SHADOW_LEVELS; level++, tracked += words)
            shadow->root[i].tracked[level] = tracked;
    }
    return true;
}

struct shadow *shadow_init(const struct shadow_config *config)
{
    struct shadow *shadow = &the_shadow;

    *shadow = (struct shadow){.config = *config, .format = config->tdp->config};
    if (config->pages < SHADOW_PAGES_MIN || config->cpus == 0 || config->cpus > SHADOW_CPUS_MAX ||
        !carve_pages(shadow) || !carve_roots(shadow))
        return NULL;
    for (u32 i = 0; i < config->pages; i++)
        shadow->next[i] = i + 1 < config->pages ? i + 1 : SHADOW_NONE;
    shadow->retired = shadow->dead = SHADOW_NONE;
    shadow->own_changes = config->tdp->changes;
    shadow_quick_init(shadow);
    return shadow;
}

void shadow_statistics(const struct shadow *shadow, struct shadow_statistics *sum)
{
    u64 *to = (u64 *)(void *)sum;

    memset(sum, 0, sizeof(*sum));
    for (const struct shadow_state *cpu = atomic_load(&shadow->cpus); cpu != NULL; cpu = cpu->next) {
        const u64 *from = (const u64 *)(const void *)&cpu->statistics;
        for (size_t i = 0; i < sizeof(*sum) / sizeof(u64); i++)
            to[i] += atomic_peek(&from[i]);
    }
}

bool shadow_cpu_init(struct shadow *shadow, struct shadow_cpu *storage, u16 first_tag, void *owner)
{
    struct shadow_state *cpu = shadow_state_of(storage);

    *cpu = (struct shadow_state){
        .first = first_tag,
        .pinned = SHADOW_NONE,
        .root_page = SHADOW_NONE,
        .owner = owner,
        .watch.entry = carve((shadow->config.pages + 64 + SHADOW_WATCH_STEP) * sizeof(u64 *)),
        .watch.owed = carve(shadow->config.pages * sizeof(u32)),
    };
    if (cpu->watch.entry == NULL || cpu->watch.owed == NULL)
        return false;
    spin_lock(&shadow->lock);
    cpu->next = shadow->cpus;
    atomic_store(&shadow->cpus, cpu);
    atomic_poke(&shadow->cpu_count, shadow->cpu_count + 1);
    spin_unlock(&shadow->lock);
    return true;
}

/*
 * A page is needed and none is free. False: the pool is too small. Another CPU that has the dead ones waits
 * for this one to flush, so it is no use just to wait for it.
 */
static bool more_pages(struct shadow *shadow, struct shadow_state *cpu)
{
    for (unsigned i = 0; i < RECLAIM_TRIES; i++) {
        if (shadow_reclaim(shadow, cpu))
            return true;
        if (shadow_alone(shadow))
            return false;
        shadow_shoot_down(shadow, cpu);
    }
    return false;
}

/* --- roots --- */

static u64 table_of(const struct shadow_key *key)
{
    return key->pointer & paging_formats[role_format(key->role)].root_mask;
}

static bool key_is(const struct shadow_root *root, const struct shadow_key *key, u64 table)
{
    return root->key.pointer == table && role_equal(root->key.role, key->role) && root->key.pat == key->pat &&
           root->page != SHADOW_NONE;
}

static struct shadow_root *find_root(const struct shadow *shadow, const struct shadow_key *key)
{
    u64 table = table_of(key);

    for (unsigned i = 0; i < shadow->root_slots; i++) {
        if (key_is(&shadow->root[i], key, table))
            return &shadow->root[i];
    }
    return NULL;
}

void shadow_root_free(struct shadow *shadow, struct shadow_root *root)
{
    u32 page = root->page;

    atomic_poke(&root->handle, root->handle + shadow->root_count);
    atomic_store(&root->page, SHADOW_NONE);
    shadow_retire(shadow, page);
}

/* A free slot, or that of the least recently used root; there are more slots than CPUs that pin one. */
static struct shadow_root *root_slot(struct shadow *shadow, struct shadow_state *cpu)
{
    u32 clock = atomic_peek(&shadow->clock);
    u64 limit = min_u64(shadow->root_count, SHADOW_ROOTS - 1 + shadow->cpu_count), oldest = limit;

    for (unsigned i = 0; i < limit; i++) {
        struct shadow_root *root = &shadow->root[i];
        if (root->page == SHADOW_NONE)
            return root;
        if (root->pins == 0 && (oldest == limit || clock - root->used > clock - shadow->root[oldest].used))
            oldest = i;
    }
    ASSERT(oldest < limit, "there are more slots than CPUs, and each keeps one");
    cpu->statistics.roots_evicted++;
    shadow_root_free(shadow, &shadow->root[oldest]);
    return &shadow->root[oldest];
}

static unsigned table_levels(struct paging_role role)
{
    return paging_formats[role_format(role)].levels;
}

/* 5-level formats: L1's entry for addresses below 2^48; no memory counts as not present. Else 0. */
static u64 top_entry_of(const struct shadow *shadow, const struct shadow_root *root)
{
    u64 entry;

    if (table_levels(root->key.role) <= SHADOW_LEVELS ||
        paging_load_u64(shadow->config.memory, root->key.pointer, &entry) != MEMORY_OK)
        return 0;
    return entry;
}

/* SHADOW_NONE: no page is free. */
static u32 root_page_new(struct shadow *shadow, struct shadow_state *cpu, const struct shadow_root *root,
                         u64 top_entry)
{
    struct paging_role role = root->key.role;
    unsigned levels = table_levels(role);
    struct shadow_identity identity = {.kind = SHADOW_TOP, .above = RIGHTS_ALL_BUT_SS};

    if (levels == SHADOW_LEVELS || (top_entry & paging_present_bits(role)) != 0) {
        identity.kind = SHADOW_TABLE;
        identity.source = levels == SHADOW_LEVELS ? root->key.pointer : top_entry & ENTRY_ADDRESS;
    }
    if (levels > SHADOW_LEVELS && role_has(role, ROLE_GMET) && (top_entry & PTE_U) == 0)
        identity.above &= (u8) ~(unsigned)RIGHT_U;
    u32 number = shadow_page_new(shadow, cpu, (unsigned)(root - shadow->root), SHADOW_LEVELS, &identity);
    if (number == SHADOW_NONE)
        return number;
    struct shadow_page *page = &shadow->pages[number];
    page->top_entry = top_entry;
    if (levels > SHADOW_LEVELS)
        page->top_rights = (u8)shadow_entry_rights(role, levels, top_entry);
    shadow->source[number] = shadow_quick_source(shadow, page);
    atomic_release(&page->in_use, true);
    return number;
}

/* A root of that table is about to be there: what invalidates one of them by its pointer concerns all. */
static void find_relatives(struct shadow *shadow, unsigned index, u64 table)
{
    u64 relatives = BIT(index);

    for (unsigned i = 0; i < shadow->root_slots; i++) {
        struct shadow_root *other = &shadow->root[i];
        bool related = ((other->key.pointer ^ table) & ENTRY_ADDRESS) == 0;
        u64 others = other->relatives & ~BIT(index);
        atomic_poke(&other->relatives, related ? others | BIT(index) : others);
        relatives |= related ? BIT(i) : 0;
    }
    atomic_poke(&shadow->root[index].relatives, relatives);
}

/* Flags that are set in tables of one kind may be seen in another: every fault knows it from now on. */
static void note_format(struct shadow *shadow, enum paging_format_id format)
{
    if (shadow->first_format == PAGING_NONE)
        shadow->first_format = (u8)format;
    if (format == PAGING_PAE || format != shadow->first_format)
        atomic_store(&shadow->flags_alias, true);
}

/* NULL: no page is free. */
static struct shadow_root *make_root(struct shadow *shadow, struct shadow_state *cpu,
                                     const struct shadow_key *key)
{
    struct shadow_root *root = root_slot(shadow, cpu);
    unsigned index = (unsigned)(root - shadow->root), levels = table_levels(key->role);
    enum paging_format_id format = role_format(key->role);
    bool flags = !role_is_ept(key->role) || role_has(key->role, ROLE_EPT_AD);

    note_format(shadow, format);
    /* Nobody is left in a section that knows the slot's last root, or does not know of the format. */
    shadow_wait(shadow, cpu);
    root->key = (struct shadow_key){table_of(key), key->role, key->pat};
    find_relatives(shadow, index, root->key.pointer);
    root->accessed_bit = flags ? paging_formats[format].accessed : 0;
    root->dirty_bit = flags ? paging_formats[format].dirty : 0;
    root->top_level = (u8)(levels < SHADOW_LEVELS ? levels : SHADOW_LEVELS);
    paging_init(&root->paging, key->role);
    if (role_has(key->role, ROLE_NPT))
        shadow_translate_pat(root->pat, key->pat, shadow->config.host_pat);
    shadow_quick_root(shadow, root);
    u32 page = root_page_new(shadow, cpu, root, top_entry_of(shadow, root));
    if (page == SHADOW_NONE)
        return NULL;
    atomic_add(&root->generation, 1);
    if (index >= shadow->root_slots)
        atomic_poke(&shadow->root_slots, index + 1);
    atomic_release(&root->page, page);
    return root;
}

/* It was in use until now. */
static void unpin(struct shadow *shadow, struct shadow_root *root, u32 clock)
{
    root->pins--;
    root->used = clock;
    atomic_poke(&shadow->pages[root->page].used, clock);
}

static struct shadow_root *find_and_pin(struct shadow *shadow, struct shadow_state *cpu,
                                        const struct shadow_key *key)
{
    u32 clock = atomic_add(&shadow->clock, 1) + 1;

    if (cpu->pinned != SHADOW_NONE)
        unpin(shadow, &shadow->root[cpu->pinned], clock);
    cpu->pinned = SHADOW_NONE;
    struct shadow_root *root = find_root(shadow, key);
    if (root == NULL)
        root = make_root(shadow, cpu, key);
    if (root == NULL)
        return NULL;
    root->pins++;
    cpu->pinned = (u32)(root - shadow->root);
    root->used = clock;
    atomic_poke(&shadow->pages[root->page].used, clock);
    return root;
}

/* The root of that key, which stays as long as this CPU uses no other. NULL: the pool is too small. */
static struct shadow_root *pinned_root(struct shadow *shadow, struct shadow_state *cpu,
                                       const struct shadow_key *key)
{
    struct shadow_root *root = cpu->pinned != SHADOW_NONE ? &shadow->root[cpu->pinned] : NULL;

    if (root != NULL && key_is(root, key, table_of(key)))
        return root;
    do {
        spin_lock(&shadow->lock);
        root = find_and_pin(shadow, cpu, key);
        spin_unlock(&shadow->lock);
    } while (root == NULL && more_pages(shadow, cpu));
    return root;
}

/* Umbra's own map was another when these were made: every root's page is emptied, and tracked anew. */
static void empty_roots(struct shadow *shadow, struct shadow_state *cpu)
{
    for (unsigned i = 0; i < shadow->root_slots; i++) {
        u32 page = shadow->root[i].page;
        for (unsigned slot = 0; page != SHADOW_NONE && slot < SHADOW_ENTRIES; slot++) {
            u64 entry = atomic_acquire(&shadow_table(shadow, page)[slot]);
            if (slot_present(entry))
                (void)shadow_entry_drop(shadow, page, slot, entry);
        }
        if (page != SHADOW_NONE && shadow->pages[page].identity.kind == SHADOW_TABLE)
            shadow_track(shadow, page);
    }
    cpu->statistics.drops_of_everything++;
}

/* No fault is filled from when the map changes until own_changes is what it counts. */
static void follow(struct shadow *shadow, struct shadow_state *cpu, u64 changes)
{
    for (unsigned i = 0; i < shadow->root_slots; i++) {
        if (shadow->root[i].page != SHADOW_NONE)
            atomic_store(&shadow->pages[shadow->root[i].page].dirty, NULL);
    }
    shadow_wait(shadow, cpu);
    empty_roots(shadow, cpu);
    atomic_release(&shadow->own_changes, changes);
}

void shadow_follow_own_map(struct shadow *shadow, struct shadow_cpu *storage)
{
    struct shadow_state *cpu = shadow_state_of(storage);

    if (atomic_acquire(&shadow->own_changes) == atomic_acquire(&shadow->config.tdp->changes))
        return;
    spin_lock(&shadow->lock);
    u64 changes = atomic_acquire(&shadow->config.tdp->changes);
    if (shadow->own_changes != changes)
        follow(shadow, cpu, changes);
    spin_unlock(&shadow->lock);
}

/* False: no page is free. */
static bool try_renew(struct shadow *shadow, struct shadow_state *cpu, struct shadow_root *root,
                      u64 top_entry)
{
    if (shadow->pages[root->page].top_entry == top_entry)
        return true;
    u32 old = root->page, page = root_page_new(shadow, cpu, root, top_entry);
    if (page == SHADOW_NONE)
        return false;
    atomic_store(&root->page, page);
    atomic_add(&root->generation, 1);
    shadow_retire(shadow, old);
    return true;
}

/* 5-level formats: another top entry has another tree. False: the pool is too small. */
static bool renew(struct shadow *shadow, struct shadow_state *cpu, struct shadow_root *root)
{
    bool done;

    if (table_levels(root->key.role) <= SHADOW_LEVELS)
        return true;
    do {
        spin_lock(&shadow->lock);
        done = try_renew(shadow, cpu, root, top_entry_of(shadow, root));
        spin_unlock(&shadow->lock);
    } while (!done && more_pages(shadow, cpu));
    shadow_collect(shadow, cpu);
    return done;
}

/* What L2 runs on now: from here on the page is not used for anything else. */
static u32 use_root_page(struct shadow_state *cpu, const struct shadow_root *root)
{
    u32 page;

    do {
        page = atomic_load(&root->page);
        if (cpu->root_page != page)
            atomic_store(&cpu->root_page, page);
    } while (atomic_load(&root->page) != page);
    return page;
}

static bool supported(struct paging_role role)
{
    enum paging_format_id format = role_format(role);

    if (format == PAGING_NONE || role_has(role, ROLE_EPT_SSS | ROLE_SPP))
        return false;
    return role_is_ept(role) != role_has(role, ROLE_NPT);
}

/* --- tags --- */

/*
 * The tag of (root, l1_tag), or the least recently used, made theirs. `known`: L2 may have run here with that
 * root.
 */
static struct shadow_tag *find_tag(struct shadow_state *cpu, u32 handle, u32 l1_tag, bool *made, bool *known)
{
    struct shadow_tag *oldest = &cpu->tag[cpu->tags < SHADOW_TAGS ? cpu->tags : 0];
    struct shadow_tag *last = &cpu->tag[cpu->last];

    *made = *known = false;
    if (last->in_use && last->handle == handle && last->l1_tag == l1_tag)
        return last;
    for (unsigned i = 0; i < cpu->tags; i++) {
        struct shadow_tag *tag = &cpu->tag[i];
        bool same = tag->handle == handle;
        if (same && tag->l1_tag == l1_tag)
            return tag;
        *known |= same;
        if (oldest->in_use && cpu->clock - tag->used > cpu->clock - oldest->used)
            oldest = tag;
    }
    *made = true;
    cpu->tags += !oldest->in_use;
    *oldest = (struct shadow_tag){.handle = handle, .l1_tag = l1_tag, .in_use = true, .flush_linear = true};
    return oldest;
}

/* Does the answer of the last shadow_acquire() hold, but for what L1 has invalidated since? */
static inline bool answer_holds(const struct shadow *shadow, const struct shadow_state *cpu,
                                const struct shadow_tag *tag)
{
    if (cpu->pinned == SHADOW_NONE)
        return false;
    const struct shadow_root *root = &shadow->root[cpu->pinned];
    return tag->generation == atomic_acquire(&root->generation) && root->handle == tag->handle &&
           atomic_acquire(&root->page) == cpu->root_page &&
           atomic_acquire(&shadow->own_changes) == atomic_acquire(&shadow->config.tdp->changes);
}

static inline bool is_stale(const struct shadow_state *cpu, const struct shadow_tag *tag)
{
    return (cpu->stale >> cpu->pinned & 1) != 0 || tag->stale;
}

unsigned shadow_renew(struct shadow *shadow, struct shadow_cpu *storage)
{
    struct shadow_state *cpu = shadow_state_of(storage);
    struct shadow_tag *tag = &cpu->tag[cpu->last];
    unsigned renewal = SHADOW_RENEWED;

    cpu->clock++;
    if (!answer_holds(shadow, cpu, tag))
        return SHADOW_EXPIRED;
    tag->used = cpu->clock;
    if (!is_stale(cpu, tag) && !tag->flush_linear)
        return SHADOW_RENEWED;
    if (is_stale(cpu, tag)) {
        const struct shadow_root *root = &shadow->root[cpu->pinned];
        if (table_levels(root->key.role) > SHADOW_LEVELS || !shadow_is_unchanged(shadow, cpu, root))
            return SHADOW_EXPIRED;
        cpu->stale &= ~BIT(cpu->pinned);
        tag->stale = false;
        renewal |= SHADOW_FLUSH_TABLES;
    }
    if (tag->flush_linear)
        renewal |= SHADOW_FLUSH_LINEAR;
    tag->flush_linear = false;
    cpu->statistics.flushes++;
    return renewal;
}

/* The tag that was used last, if it still is the one and nothing is to be done. */
static bool reuse_last(const struct shadow *shadow, struct shadow_state *cpu, const struct shadow_key *key,
                       u32 l1_tag, struct shadow_use *use)
{
    struct shadow_tag *tag = &cpu->tag[cpu->last];

    if (!answer_holds(shadow, cpu, tag) || is_stale(cpu, tag) || tag->flush_linear || tag->l1_tag != l1_tag ||
        !key_is(&shadow->root[cpu->pinned], key, table_of(key)))
        return false;
    tag->used = cpu->clock;
    *use = (struct shadow_use){
        .root = shadow_table_address(shadow, cpu->root_page),
        .tag = (u16)(cpu->first + cpu->last),
        .handle = tag->handle,
    };
    return true;
}

/* EPT: what is cached is of the root, whatever the VPID; an ASID that never ran this root holds nothing of
 * it. L1 owes no flush for what it changed before L2 runs here for the first time. */
static bool owes_synchronisation(const struct shadow_state *cpu, const struct shadow_root *root,
                                 const struct shadow_tag *tag, bool made, bool known)
{
    return is_stale(cpu, tag) || (made && (!known || role_has(root->key.role, ROLE_NPT)));
}

enum shadow_acquire_status shadow_acquire(struct shadow *shadow, struct shadow_cpu *storage,
                                          const struct shadow_key *key, u32 l1_tag, struct shadow_use *use)
{
    struct shadow_state *cpu = shadow_state_of(storage);
    bool made, known;

    cpu->clock++;
    if (reuse_last(shadow, cpu, key, l1_tag, use))
        return SHADOW_ACQUIRED;
    if (!supported(key->role))
        return SHADOW_ROLE_UNSUPPORTED;
    shadow_follow_own_map(shadow, storage);
    struct shadow_root *root = pinned_root(shadow, cpu, key);
    if (root == NULL)
        return SHADOW_NO_PAGES;

    struct shadow_tag *tag = find_tag(cpu, root->handle, l1_tag, &made, &known);
    bool owed = owes_synchronisation(cpu, root, tag, made, known);
    cpu->stale &= ~BIT(cpu->pinned);
    tag->stale = false;
    if (!renew(shadow, cpu, root))
        return SHADOW_NO_PAGES;
    if (owed && !shadow_is_unchanged(shadow, cpu, root)) {
        shadow_synchronise(shadow, cpu, root);
        /* The flags that it went by are void if the map has changed meanwhile: then everything goes. */
        shadow_follow_own_map(shadow, storage);
    }

    /* Before the page is read: a newer page with an older generation is flushed once too often. */
    u32 generation = atomic_acquire(&root->generation);
    *use = (struct shadow_use){
        .root = shadow_table_address(shadow, use_root_page(cpu, root)),
        .tag = (u16)(cpu->first + (tag - cpu->tag)),
        .flush_tables = owed || made || tag->generation != generation,
        .flush_linear = tag->flush_linear,
        .handle = tag->handle,
    };
    cpu->statistics.flushes += use->flush_tables || use->flush_linear;
    tag->generation = generation;
    tag->flush_linear = false;
    tag->used = cpu->clock;
    cpu->last = (u16)(tag - cpu->tag);
    return SHADOW_ACQUIRED;
}

const struct paging *shadow_paging(const struct shadow *shadow, u32 handle, u64 *pointer)
{
    const struct shadow_root *root = shadow_root_of(shadow, handle);

    if (root == NULL)
        return NULL;
    *pointer = root->key.pointer;
    return &root->paging;
}

/* --- invalidation by L1 --- */

/* One bit for each slot with a root that has this table; the root used last is pinned, and stays what it is.
 */
static u64 roots_of_table(const struct shadow *shadow, struct shadow_state *cpu, u64 table)
{
    u64 roots = 0;

    shadow_enter(cpu);
    for (unsigned i = 0; i < atomic_peek(&shadow->root_slots); i++) {
        const struct shadow_root *root = &shadow->root[i];
        if (atomic_acquire(&root->page) != SHADOW_NONE && (root->key.pointer & ENTRY_ADDRESS) == table)
            roots |= BIT(i);
    }
    shadow_leave(cpu);
    return roots;
}

void shadow_invalidate_pointer(struct shadow *shadow, struct shadow_cpu *storage, u64 pointer)
{
    struct shadow_state *cpu = shadow_state_of(storage);
    const struct shadow_root *last = cpu->pinned != SHADOW_NONE ? &shadow->root[cpu->pinned] : NULL;

    /* What became a relative just now has not run here yet. */
    if (last != NULL && ((last->key.pointer ^ pointer) & ENTRY_ADDRESS) == 0)
        cpu->stale |= atomic_peek(&last->relatives);
    else
        cpu->stale |= roots_of_table(shadow, cpu, pointer & ENTRY_ADDRESS);
    cpu->repeated.count = 0;
}

static void invalidate_tags(struct shadow_state *cpu, u32 l1_tag, bool tables)
{
    for (unsigned i = 0; i < cpu->tags; i++) {
        if (l1_tag != SHADOW_ALL_TAGS && cpu->tag[i].l1_tag != l1_tag)
            continue;
        cpu->tag[i].flush_linear = true;
        cpu->tag[i].stale |= tables;
    }
}

void shadow_invalidate_all(struct shadow_cpu *storage)
{
    shadow_state_of(storage)->stale = ~0ull;
    shadow_state_of(storage)->repeated.count = 0;
    invalidate_tags(shadow_state_of(storage), SHADOW_ALL_TAGS, true);
}

void shadow_invalidate_l1_tag(struct shadow_cpu *storage, u32 l1_tag)
{
    shadow_state_of(storage)->repeated.count = 0;
    invalidate_tags(shadow_state_of(storage), l1_tag, true);
}

void shadow_invalidate_linear(struct shadow_cpu *storage, u32 l1_tag)
{
    invalidate_tags(shadow_state_of(storage), l1_tag, false);
}
