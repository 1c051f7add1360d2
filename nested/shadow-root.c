/* SPDX-License-Identifier: MIT */
/*
 * Roots and tags: which shadow an L1 root has, and under which VPID or ASID a CPU runs it. It decides when
 * L1's invalidations take effect (before L2 runs next, SDM vol. 3C 29.4.3) and which flushes the vendor owes.
 */
#include "nested/shadow-internal.h"

#include "arch/print.h"
#include "arch/string.h"
#include "mm/frame.h"
#include "mm/phys.h"

static struct shadow the_shadow;

/* --- making it --- */

static size_t pages_of(u64 bytes)
{
    return (size_t)(align_up(bytes, PAGE_SIZE) / PAGE_SIZE);
}

static void *carve(u64 bytes)
{
    hpa_t first;

    return frame_alloc_contiguous(pages_of(bytes), &first) ? phys_to_virt(first) : NULL;
}

static bool carve_pool(struct shadow *shadow)
{
    const struct shadow_config *config = &shadow->config;
    u32 buckets = 64;
    hpa_t tables, snapshots;

    while (buckets < config->pages)
        buckets *= 2;
    shadow->frame_mask = buckets - 1;
    shadow->pages = carve(config->pages * sizeof(struct shadow_page));
    shadow->frame_heads = carve(buckets * sizeof(u32));
    shadow->writable_4k = carve(config->memory_limit / PAGE_SIZE / 8 + 8);
    shadow->writable_2m = carve(config->memory_limit / MIB(2) / 8 + 8);
    if (shadow->pages == NULL || shadow->frame_heads == NULL || shadow->writable_4k == NULL ||
        shadow->writable_2m == NULL || !frame_alloc_contiguous(config->pages, &tables) ||
        !frame_alloc_contiguous(config->pages, &snapshots))
        return false;
    shadow->tables = tables.raw;
    shadow->snapshots = snapshots.raw;
    memset(shadow->frame_heads, 0xff, buckets * sizeof(u32));
    return true;
}

struct shadow *shadow_init(const struct shadow_config *config)
{
    struct shadow *shadow = &the_shadow;

    *shadow = (struct shadow){.config = *config, .format = config->tdp->config};
    if (config->pages < SHADOW_PAGES_MIN || !carve_pool(shadow))
        return NULL;
    shadow->own_changes = config->tdp->changes;
    shadow->sync_next = SHADOW_NONE;
    shadow->free_list = SHADOW_NONE;
    for (u32 i = config->pages; i-- > 0;) {
        shadow->pages[i].tracked_next = shadow->free_list;
        shadow->free_list = i;
    }
    for (unsigned i = 0; i < SHADOW_ROOTS; i++) {
        shadow->root[i].page = SHADOW_NONE;
        shadow->root[i].handle = i;
    }
    return shadow;
}

const struct shadow_statistics *shadow_statistics(const struct shadow *shadow)
{
    return &shadow->statistics;
}

static struct shadow_tags *tags_of(struct shadow_cpu *cpu)
{
    return (struct shadow_tags *)(void *)cpu->opaque;
}

void shadow_cpu_init(struct shadow_cpu *cpu, u16 first_tag)
{
    *tags_of(cpu) = (struct shadow_tags){.first = first_tag};
}

/* --- roots --- */

struct shadow_root *shadow_root_of(struct shadow *shadow, u32 handle)
{
    struct shadow_root *root = &shadow->root[handle % SHADOW_ROOTS];

    return root->page != SHADOW_NONE && root->handle == handle ? root : NULL;
}

static u64 table_of(const struct shadow_key *key)
{
    return key->pointer & paging_formats[role_format(key->role)].root_mask;
}

static bool key_is(const struct shadow_root *root, const struct shadow_key *key, u64 table)
{
    return root->key.pointer == table && role_equal(root->key.role, key->role) && root->key.pat == key->pat &&
           root->page != SHADOW_NONE;
}

static struct shadow_root *find_root(struct shadow *shadow, const struct shadow_key *key)
{
    u64 table = table_of(key);

    if (key_is(&shadow->root[shadow->last_root], key, table))
        return &shadow->root[shadow->last_root];
    for (unsigned i = 0; i < SHADOW_ROOTS; i++) {
        if (key_is(&shadow->root[i], key, table))
            return &shadow->root[i];
    }
    return NULL;
}

/* A free slot, or that of the least recently used root. */
static struct shadow_root *root_slot(struct shadow *shadow)
{
    struct shadow_root *oldest = &shadow->root[0];

    for (unsigned i = 0; i < SHADOW_ROOTS; i++) {
        struct shadow_root *root = &shadow->root[i];
        if (root->page == SHADOW_NONE)
            return root;
        if (shadow->clock - root->used > shadow->clock - oldest->used)
            oldest = root;
    }
    shadow->statistics.roots_evicted++;
    shadow_root_free(shadow, oldest);
    return oldest;
}

static unsigned table_levels(struct paging_role role)
{
    return paging_formats[role_format(role)].levels;
}

static bool make_root(struct shadow *shadow, const struct shadow_key *key, struct shadow_root **made)
{
    struct shadow_root *root = root_slot(shadow);
    unsigned index = (unsigned)(root - shadow->root), levels = table_levels(key->role);
    struct shadow_identity identity = {.kind = SHADOW_TOP, .above = RIGHTS_ALL_BUT_SS};
    shadow->root_slots = index >= shadow->root_slots ? index + 1 : shadow->root_slots;
    u32 handle = root->handle, generation = root->generation;

    *root = (struct shadow_root){
        .key = {table_of(key), key->role, key->pat},
        .page = SHADOW_NONE,
        .handle = handle,
        .generation = generation + 1,
        .tracked = SHADOW_NONE,
        .stale = true, /* 5 levels: the top entry is not read yet */
        .accessed_bit = paging_formats[role_format(key->role)].accessed,
        .dirty_bit = paging_formats[role_format(key->role)].dirty,
        .top_level = (u8)(levels < SHADOW_LEVELS ? levels : SHADOW_LEVELS),
        .top_rights = TDP_RWX,
    };
    if (role_is_ept(key->role) && !role_has(key->role, ROLE_EPT_AD))
        root->accessed_bit = root->dirty_bit = 0;
    paging_init(&root->paging, key->role);
    if (shadow->first_format == PAGING_NONE)
        shadow->first_format = (u8)role_format(key->role);
    shadow->flags_alias |=
        role_format(key->role) == PAGING_PAE || role_format(key->role) != shadow->first_format;
    if (role_has(key->role, ROLE_NPT))
        shadow_translate_pat(root->pat, key->pat, shadow->config.host_pat);
    if (levels == SHADOW_LEVELS)
        identity = (struct shadow_identity){
            .source = root->key.pointer, .kind = SHADOW_TABLE, .above = RIGHTS_ALL_BUT_SS};
    root->page = shadow_page_new(shadow, index, SHADOW_LEVELS, &identity);
    *made = root;
    return root->page != SHADOW_NONE;
}

static bool supported(struct paging_role role)
{
    enum paging_format_id format = role_format(role);

    if (format == PAGING_NONE || role_has(role, ROLE_EPT_SSS | ROLE_SPP))
        return false;
    return role_is_ept(role) != role_has(role, ROLE_NPT);
}

/* --- tags --- */

/* The tag of (root, l1_tag), or the least recently used, made theirs. */
static struct shadow_tag *find_tag(struct shadow_tags *tags, u32 handle, u32 l1_tag, bool *made)
{
    struct shadow_tag *oldest = &tags->tag[0], *last = &tags->tag[tags->last];

    *made = false;
    if (last->in_use && last->handle == handle && last->l1_tag == l1_tag)
        return last;
    for (unsigned i = 0; i < SHADOW_TAGS; i++) {
        struct shadow_tag *tag = &tags->tag[i];
        if (tag->in_use && tag->handle == handle && tag->l1_tag == l1_tag)
            return tag;
        if (!tag->in_use || (oldest->in_use && tags->clock - tag->used > tags->clock - oldest->used))
            oldest = tag;
    }
    *made = true;
    *oldest = (struct shadow_tag){.handle = handle, .l1_tag = l1_tag, .in_use = true, .flush_linear = true};
    return oldest;
}

static bool nothing_owed(const struct shadow_tag *tag, const struct shadow_root *root)
{
    return tag->in_use && tag->generation == root->generation && !tag->flush_linear && !root->stale &&
           root->handle == tag->handle;
}

static void mark_used(struct shadow *shadow, const struct shadow_tags *tags, struct shadow_tag *tag,
                      struct shadow_root *root)
{
    root->used = shadow->clock;
    shadow->pages[root->page].used = shadow->clock;
    tag->used = tags->clock;
}

bool shadow_renew(struct shadow *shadow, struct shadow_cpu *cpu)
{
    struct shadow_tags *tags = tags_of(cpu);
    struct shadow_tag *tag = &tags->tag[tags->last];
    struct shadow_root *root = &shadow->root[tag->handle % SHADOW_ROOTS];

    if (shadow->own_changes != shadow->config.tdp->changes || !nothing_owed(tag, root))
        return false;
    shadow->clock++;
    tags->clock++;
    mark_used(shadow, tags, tag, root);
    return true;
}

/* The tag that was used last, if it still is the one and nothing is to be done. */
static bool reuse_last(struct shadow *shadow, struct shadow_tags *tags, const struct shadow_key *key,
                       u32 l1_tag, struct shadow_use *use)
{
    struct shadow_tag *tag = &tags->tag[tags->last];
    struct shadow_root *root = &shadow->root[tag->handle % SHADOW_ROOTS];

    if (!nothing_owed(tag, root) || tag->l1_tag != l1_tag || !key_is(root, key, table_of(key)))
        return false;
    mark_used(shadow, tags, tag, root);
    *use = (struct shadow_use){
        .root = shadow_table_address(shadow, root->page),
        .tag = (u16)(tags->first + tags->last),
        .handle = tag->handle,
    };
    return true;
}

enum shadow_acquire_status shadow_acquire(struct shadow *shadow, struct shadow_cpu *cpu,
                                          const struct shadow_key *key, u32 l1_tag, struct shadow_use *use)
{
    struct shadow_tags *tags = tags_of(cpu);
    bool made;

    shadow->clock++;
    tags->clock++;
    if (shadow->own_changes == shadow->config.tdp->changes && reuse_last(shadow, tags, key, l1_tag, use))
        return SHADOW_ACQUIRED;
    if (!supported(key->role))
        return SHADOW_ROLE_UNSUPPORTED;
    shadow_follow_own_map(shadow);

    struct shadow_root *root = find_root(shadow, key);
    if (root == NULL && !make_root(shadow, key, &root))
        return SHADOW_NO_PAGES;
    root->used = shadow->clock;
    shadow->last_root = (u32)(root - shadow->root);
    shadow->pages[root->page].used = shadow->clock;

    struct shadow_tag *tag = find_tag(tags, root->handle, l1_tag, &made);
    /* NPT: an ASID that never ran this root holds nothing of it, and so L1 owes no flush for what it changed.
     */
    if (root->stale || tag->stale || (made && role_has(root->key.role, ROLE_NPT)))
        shadow_synchronise(shadow, root);

    *use = (struct shadow_use){
        .root = shadow_table_address(shadow, root->page),
        .tag = (u16)(tags->first + (tag - tags->tag)),
        .flush_tables = made || tag->generation != root->generation,
        .flush_linear = tag->flush_linear,
        .handle = tag->handle,
    };
    shadow->statistics.flushes += use->flush_tables || use->flush_linear;
    tag->generation = root->generation;
    tag->flush_linear = false;
    tag->stale = false;
    tag->used = tags->clock;
    tags->last = (u16)(tag - tags->tag);
    return SHADOW_ACQUIRED;
}

const struct paging *shadow_paging(const struct shadow *shadow, u32 handle, u64 *pointer)
{
    const struct shadow_root *root = &shadow->root[handle % SHADOW_ROOTS];

    if (root->page == SHADOW_NONE || root->handle != handle)
        return NULL;
    *pointer = root->key.pointer;
    return &root->paging;
}

enum walk_status shadow_translate(const struct shadow *shadow, u32 handle, l2_gpa_t address, unsigned access,
                                  struct walk *result)
{
    u64 pointer;
    const struct paging *paging = shadow_paging(shadow, handle, &pointer);

    if (paging == NULL)
        return WALK_CONTENDED;
    return walk(paging, shadow->config.memory, pointer, address.raw, access, result);
}

/* --- invalidation by L1 --- */

static void invalidate(struct shadow *shadow, struct shadow_root *root)
{
    root->stale = true;
    root->generation++;
    shadow->repeated.count = 0;
}

void shadow_invalidate_pointer(struct shadow *shadow, u64 pointer)
{
    u64 table = pointer & ENTRY_ADDRESS;

    for (unsigned i = 0; i < shadow->root_slots; i++) {
        if ((shadow->root[i].key.pointer & ENTRY_ADDRESS) == table)
            invalidate(shadow, &shadow->root[i]);
    }
}

static void invalidate_tags(struct shadow_cpu *cpu, u32 l1_tag, bool tables)
{
    struct shadow_tags *tags = tags_of(cpu);

    for (unsigned i = 0; i < SHADOW_TAGS; i++) {
        if (l1_tag != SHADOW_ALL_TAGS && tags->tag[i].l1_tag != l1_tag)
            continue;
        tags->tag[i].flush_linear = true;
        tags->tag[i].stale |= tables;
    }
}

void shadow_invalidate_all(struct shadow *shadow, struct shadow_cpu *cpu)
{
    for (unsigned i = 0; i < shadow->root_slots; i++)
        invalidate(shadow, &shadow->root[i]);
    invalidate_tags(cpu, SHADOW_ALL_TAGS, true);
}

void shadow_invalidate_l1_tag(struct shadow *shadow, struct shadow_cpu *cpu, u32 l1_tag)
{
    shadow->repeated.count = 0;
    invalidate_tags(cpu, l1_tag, true);
}

void shadow_invalidate_linear(struct shadow_cpu *cpu, u32 l1_tag)
{
    invalidate_tags(cpu, l1_tag, false);
}
