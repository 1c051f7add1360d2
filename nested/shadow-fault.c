/* SPDX-License-Identifier: MIT */
/*
 * A fault of L2: L1's tables decide first, as they are now; then Umbra's own map; then the way to the page is
 * laid in the shadow, each entry of L1 expressed at the place where it stands in L1's tables. What is found
 * in the shadow is used only if it is what would be made now. No answer of hardware but the access itself
 * counts.
 */
#include "nested/shadow-internal.h"

#include "mm/memmap.h"
#include "mm/phys.h"
#include "mm/tdp-format.h"

enum {
    FLUSH_AFTER_REPEATS = 2,
    RECENT_USES =
        32, /* so seldom the whole path of a page that is touched again and again is marked as used */
};

/* What one fault has to lay. */
struct fill {
    struct shadow_root *root;
    unsigned root_index;
    const struct walk *walk;
    const struct tdp_leaf *own;
    u64 address;
    unsigned map_level; /* of the entry that will map the page */
    unsigned above;     /* identity.above of the next page down */
    bool writable;      /* L1's dirty flag is set, or L1 has none */
    bool changed;       /* something was not yet as it should be */
};

static unsigned entry_index(u64 address, unsigned level)
{
    return (unsigned)(address >> (PAGE_SHIFT + 9 * (level - 1))) % SHADOW_ENTRIES;
}

/* --- laying --- */

/* What L1's entry at a level allows; levels that L1 does not have, or that are within its large page, allow
 * all. */
static inline unsigned level_rights(const struct fill *fill, unsigned level)
{
    const struct shadow_root *root = fill->root;
    unsigned rights = TDP_RWX;

    if (level <= root->top_level && level >= fill->walk->level) {
        rights = shadow_entry_rights(root->key.role, level, fill->walk->entry[level].value);
        if (level == fill->walk->level && !fill->writable)
            rights &= ~(unsigned)TDP_W;
    }
    return level == SHADOW_LEVELS ? rights & root->top_rights : rights;
}

/* The page of `level` - 1 that the entry of `level` is to link. */
static struct shadow_identity wanted_child(const struct fill *fill, unsigned level)
{
    const struct shadow_root *root = fill->root;
    const struct walk *walk = fill->walk;
    struct shadow_identity child = {.kind = SHADOW_TOP, .above = (u8)fill->above};
    unsigned below = level - 1;

    if (below > root->top_level)
        return child;
    if (below < walk->level) {
        child.kind = SHADOW_DIRECT;
        child.source = align_down(walk->address, BIT(PAGE_SHIFT + 9 * below));
        child.type = (u8)shadow_leaf_type(root, walk->level, walk->leaf);
        return child;
    }
    child.kind = SHADOW_TABLE;
    child.source = below == root->top_level && root->top_level < SHADOW_LEVELS
                       ? root->key.pointer
                       : align_down(walk->entry[below].address, PAGE_SIZE);
    if (role_format(root->key.role) == PAGING_32BIT)
        child.part = below == 2 ? (u8)(fill->address >> 30 & 3) : (u8)(fill->address >> 21 & 1);
    return child;
}

static bool same_identity(const struct shadow_identity *a, const struct shadow_identity *b)
{
    return a->source == b->source && a->kind == b->kind && a->part == b->part && a->type == b->type &&
           a->above == b->above;
}

/* GMET: a set U/S bit takes fetches from the supervisor if it is set at all levels, so it can only stand in
 * the leaf. */
static void pass_down(struct fill *fill, unsigned level)
{
    const struct shadow_root *root = fill->root;

    if (role_has(root->key.role, ROLE_GMET) && level <= root->top_level && level >= fill->walk->level &&
        (role_format(root->key.role) != PAGING_PAE || level != 3) &&
        (fill->walk->entry[level].value & PTE_U) == 0)
        fill->above &= ~(unsigned)RIGHT_U;
}

static void remember_source(struct shadow *shadow, const struct fill *fill, u32 page, unsigned level,
                            unsigned slot)
{
    if (shadow->pages[page].identity.kind == SHADOW_TABLE)
        shadow_snapshot(shadow, page)[slot] = fill->walk->entry[level].value;
}

/* Replaces an entry by one for the same page of memory or the same table; what allows less needs a flush. */
/* NOLINTNEXTLINE(readability-non-const-parameter): the builtin writes *entry, unseen by the checker. */
static void rewrite(struct shadow *shadow, struct fill *fill, u64 *entry, u64 now)
{
    if (shadow_entry_same(&shadow->format, *entry, now))
        return;
    if (!shadow_entry_widened(&shadow->format, *entry, now))
        fill->root->generation++;
    __atomic_store_n(entry, now, __ATOMIC_RELEASE);
    fill->changed = true;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): as above. */
static inline void put(struct shadow *shadow, struct fill *fill, u64 *entry, u64 now)
{
    if (*entry != 0) {
        rewrite(shadow, fill, entry, now);
        return;
    }
    __atomic_store_n(entry, now, __ATOMIC_RELEASE);
    fill->changed = true;
}

/* The page below the entry of `level`; what is there is kept if it is what would be made. SHADOW_NONE: no
 * page. */
static u32 lay_link(struct shadow *shadow, struct fill *fill, u32 page, unsigned level)
{
    unsigned slot = entry_index(fill->address, level);
    u64 *entry = &shadow_table(shadow, page)[slot];
    struct shadow_identity wanted;
    u32 child = SHADOW_NONE;

    pass_down(fill, level);
    wanted = wanted_child(fill, level);
    if (*entry != 0) {
        child = shadow_child(shadow, *entry);
        if (child == SHADOW_NONE || !same_identity(&shadow->pages[child].identity, &wanted)) {
            shadow_entry_drop(shadow, page, slot);
            child = SHADOW_NONE;
        }
    }
    if (child == SHADOW_NONE) {
        child = shadow_page_new(shadow, fill->root_index, level - 1, &wanted);
        if (child == SHADOW_NONE)
            return child;
        shadow->pages[child].parent = page;
        shadow->pages[child].slot = (u16)slot;
        shadow->pages[child].start = align_down(fill->address, tdp_entry_span(level));
    }
    shadow->pages[child].used = shadow->clock;
    put(shadow, fill, entry,
        shadow_compose_link(&shadow->format, shadow_table_address(shadow, child), level_rights(fill, level)));
    remember_source(shadow, fill, page, level, slot);
    return child;
}

static void lay_leaf(struct shadow *shadow, struct fill *fill, u32 page)
{
    const struct shadow_root *root = fill->root;
    unsigned level = fill->map_level, slot = entry_index(fill->address, level);
    u64 *entry = &shadow_table(shadow, page)[slot];
    u64 offset = fill->walk->address - shadow->own_leaf_start;
    u64 target = align_down(fill->own->target + offset, tdp_entry_span(level));
    unsigned rights = level_rights(fill, level) & fill->own->access;

    if (role_has(root->key.role, ROLE_GMET) && (fill->walk->rights & RIGHT_U) != 0)
        rights &= ~(unsigned)TDP_XS;
    if (*entry != 0 && level > 1 && shadow_child(shadow, *entry) != SHADOW_NONE)
        shadow_entry_drop(shadow, page, slot);
    put(shadow, fill, entry,
        shadow_compose_leaf(shadow, level, target, rights,
                            shadow_leaf_type(root, fill->walk->level, fill->walk->leaf), fill->own->type));
    remember_source(shadow, fill, page, level, slot);
    if ((rights & TDP_W) != 0)
        shadow_mark_writable(shadow, align_down(fill->walk->address, tdp_entry_span(level)),
                             tdp_entry_span(level));
}

/*
 * Down the links that are as they would be made: in a right page, a link is right if the entry of L1 from
 * which it was made has not changed; where there is no such entry, it always is. Returns the page and its
 * level.
 */
static u32 follow(struct shadow *shadow, struct fill *fill, unsigned *reached)
{
    const struct walk *walk = fill->walk;
    const u64 *pool = shadow_table(shadow, 0);
    u64 tables = shadow->tables, to_snapshot = (shadow->snapshots - tables) / sizeof(u64);
    unsigned level = SHADOW_LEVELS, top = fill->root->top_level, bottom = fill->map_level;
    u32 page = fill->root->page, now = shadow->clock;

    for (; level > bottom; level--) {
        const u64 *slot = pool + (u64)page * SHADOW_ENTRIES + entry_index(fill->address, level);
        u64 entry = *slot;
        if (entry == 0 || (entry & ENTRY_PS) != 0)
            break;
        if (level <= top && level >= walk->level && slot[to_snapshot] != walk->entry[level].value)
            break;
        page = (u32)(((entry & ENTRY_ADDRESS) - tables) / PAGE_SIZE);
        shadow->pages[page].used = now;
    }
    fill->above = shadow->pages[page].identity.above;
    *reached = level;
    return page;
}

/*
 * Neighbours are touched one after the other: the page that got an entry last is the one, if it stands for
 * that address and the entries of L1 above it are those of the last time, by which its way was laid.
 */
static bool is_recent(const struct shadow *shadow, const struct fill *fill)
{
    const struct shadow_page *page = &shadow->pages[shadow->recent];
    const struct walk *walk = fill->walk;

    if (page->start != align_down(fill->address, tdp_entry_span(2)) || page->root != fill->root_index ||
        page->level != 1 || !page->in_use || fill->map_level != 1 || walk->level != 1)
        return false;
    for (unsigned level = walk->root_level; level > 1; level--) {
        if (walk->entry[level].value != shadow->recent_entry[level])
            return false;
    }
    return page->identity.kind == SHADOW_TABLE;
}

static void remember_recent(struct shadow *shadow, const struct fill *fill, u32 page)
{
    shadow->recent = page;
    for (unsigned level = fill->walk->root_level; level > 1 && level >= fill->walk->level; level--)
        shadow->recent_entry[level] = fill->walk->entry[level].value;
}

static void use_path(struct shadow *shadow, u32 page)
{
    for (; page != SHADOW_NONE; page = shadow->pages[page].parent)
        shadow->pages[page].used = shadow->clock;
}

static bool lay(struct shadow *shadow, struct fill *fill)
{
    if (is_recent(shadow, fill)) {
        if (shadow->clock - shadow->pages[shadow->recent].used >= RECENT_USES)
            use_path(shadow, shadow->recent);
        lay_leaf(shadow, fill, shadow->recent);
        return true;
    }

    unsigned level;
    u32 page = follow(shadow, fill, &level);

    shadow->pages[fill->root->page].used = shadow->clock;
    for (; level > fill->map_level; level--) {
        page = lay_link(shadow, fill, page, level);
        if (page == SHADOW_NONE)
            return false;
    }
    lay_leaf(shadow, fill, page);
    remember_recent(shadow, fill, page);
    return true;
}

/* --- L1's answer --- */

static u64 deciding_entry(const struct walk *walk)
{
    return walk->fault.level > walk->root_level ? 0 : walk->entry[walk->fault.level].value;
}

/* The entries that translate the address, in every root whose tables start where this one's do. */
static void drop_address(struct shadow *shadow, u64 table, u64 address)
{
    if (address >= BIT(48))
        return;
    for (unsigned i = 0; i < SHADOW_ROOTS; i++) {
        u32 page = shadow->root[i].page;
        if (page == SHADOW_NONE || shadow->root[i].key.pointer != table)
            continue;
        for (unsigned level = SHADOW_LEVELS;; level--) {
            unsigned slot = entry_index(address, level);
            u64 entry = shadow_table(shadow, page)[slot];
            u32 child = entry != 0 && level > 1 ? shadow_child(shadow, entry) : SHADOW_NONE;
            if (child == SHADOW_NONE) {
                if (entry != 0)
                    shadow_entry_drop(shadow, page, slot);
                break;
            }
            page = child;
        }
    }
}

static enum shadow_outcome refuse(struct shadow *shadow, const struct shadow_root *root,
                                  const struct shadow_access *access, const struct walk *walk,
                                  struct shadow_result *result)
{
    struct paging_role role = root->key.role;

    shadow->statistics.reflected++;
    shadow->repeated.count = 0;
    drop_address(shadow, root->key.pointer, access->address.raw);
    result->fault = walk->fault;
    result->fault.supplied = access->supplied;
    if (!role_is_ept(role)) {
        result->exit_info_1 = fault_npf_exit_info_1(role, &result->fault);
        return SHADOW_REFLECT;
    }
    if (walk->fault.reason == FAULT_RESERVED)
        return SHADOW_MISCONFIGURED;
    result->qualification =
        fault_ept_qualification(role, &result->fault, shadow->config.advanced_information);
    result->convertible = (deciding_entry(walk) & EPTE_SUPPRESS_VE) == 0;
    return SHADOW_REFLECT;
}

/* A table of L1 that is not in its RAM reads as ones, as a hole and Umbra's memory do: reserved bits are set.
 */
static void read_as_ones(struct walk *walk, const struct shadow_access *access)
{
    walk->fault = (struct fault){
        .address = access->address.raw,
        .reason = FAULT_RESERVED,
        .level = walk->level,
        .access = (u8)access->access,
    };
    walk->entry[walk->level].value = ~0ull;
}

/* More than four levels: L1 may map what Umbra's tables cannot translate; it does not exist for L2. */
static void beyond_reach(struct walk *walk, const struct shadow_access *access)
{
    walk->fault = (struct fault){
        .address = access->address.raw,
        .reason = FAULT_NOT_PRESENT,
        .level = (u8)(walk->root_level + 1),
        .access = (u8)access->access,
    };
}

static bool writes(unsigned access)
{
    return (access & (ACCESS_WRITE | ACCESS_FETCH)) == ACCESS_WRITE;
}

enum l1_answer { L1_ALLOWS, L1_REFUSES, L1_LOG_FULL, L1_AGAIN };

/*
 * Setting flags changes what an entry means where it is at the same time an entry of another kind: of a PDPT
 * of PAE, which has no flags but reserved bits there, or of tables of another format. Umbra's map does not
 * see such writes.
 */
static void distrust_aliases(struct shadow *shadow, const struct shadow_root *root, const struct walk *walk)
{
    enum paging_format_id format = role_format(root->key.role);

    for (unsigned level = walk->level; level <= walk->root_level; level++) {
        u64 frame = walk->entry[level].address >> PAGE_SHIFT;
        for (u32 i = shadow_first_of_frame(shadow, frame); i != SHADOW_NONE;
             i = shadow_next_of_frame(shadow, i, frame)) {
            struct shadow_page *page = &shadow->pages[i];
            enum paging_format_id other = role_format(shadow->root[page->root].key.role);
            if (other != format || (other == PAGING_PAE && page->level == 3))
                page->always = true;
        }
    }
}

static enum walk_status mark(struct shadow *shadow, const struct shadow_root *root,
                             const struct shadow_access *access, struct walk *result)
{
    const struct paging_memory *memory = shadow->config.memory;
    u64 pointer = root->key.pointer, address = access->address.raw;
    enum walk_status status = walk_and_mark(&root->paging, memory, pointer, address, access->access, result);

    if (status != WALK_OK || !shadow->flags_alias)
        return status;
    distrust_aliases(shadow, root, result);
    return walk(&root->paging, memory, pointer, address, access->access, result);
}

static enum l1_answer ask_l1(struct shadow *shadow, const struct shadow_root *root,
                             const struct shadow_access *access, struct walk *result)
{
    const struct paging_memory *memory = shadow->config.memory;
    u64 address = access->address.raw;
    enum walk_status status = walk(&root->paging, memory, root->key.pointer, address, access->access, result);

    if (status == WALK_OK && root->dirty_bit != 0) {
        bool dirties = writes(access->access) && (result->leaf & root->dirty_bit) == 0;
        bool marks = dirties || (result->deviations & root->accessed_bit) != 0;
        if (marks && shadow->config.log_dirty != NULL &&
            !shadow->config.log_dirty(shadow->config.context, access->address, dirties))
            return L1_LOG_FULL;
        if (marks)
            status = mark(shadow, root, access, result);
    }
    if (status == WALK_CONTENDED)
        return L1_AGAIN;
    if (status == WALK_NOT_MEMORY)
        read_as_ones(result, access);
    else if (status == WALK_OK && address >= BIT(48))
        beyond_reach(result, access);
    return status == WALK_OK && address < BIT(48) ? L1_ALLOWS : L1_REFUSES;
}

/* --- Umbra's answer --- */

static unsigned own_access(const struct tdp_config *format, unsigned access)
{
    if ((access & ACCESS_FETCH) != 0)
        return (access & ACCESS_USER) != 0 || !format->mode_based_execute ? TDP_XU : TDP_XS;
    return writes(access) ? TDP_W : TDP_R;
}

/* As tdp_lookup(), for the start of the page; the last answer holds until the map changes, but for holes. */
static const struct tdp_leaf *own_leaf(struct shadow *shadow, u64 address)
{
    struct tdp_leaf *leaf = &shadow->own_leaf;

    if (leaf->present && address - shadow->own_leaf_start < leaf->size)
        return leaf;
    *leaf = tdp_lookup(shadow->config.tdp, gpa(address));
    shadow->own_leaf_start = align_down(address, leaf->size);
    leaf->target -= address - shadow->own_leaf_start;
    return leaf;
}

static enum shadow_outcome own_denies(struct shadow *shadow, const struct walk *walk, unsigned wanted,
                                      struct shadow_result *result)
{
    shadow->statistics.policy++;
    result->own.address = gpa(walk->address);
    result->own.access = wanted;
    return umbra_region_overlaps(walk->address, 1) ? SHADOW_UMBRA_MEMORY : SHADOW_POLICY;
}

/* --- progress --- */

static bool is_repeated(struct shadow *shadow, const struct shadow_access *access)
{
    u64 page = align_down(access->address.raw, PAGE_SIZE);

    if (shadow->repeated.page == page && shadow->repeated.rip == access->rip &&
        shadow->repeated.access == access->access)
        return true;
    shadow->repeated.page = page;
    shadow->repeated.rip = access->rip;
    shadow->repeated.access = access->access;
    shadow->repeated.count = 0;
    return false;
}

/* Nothing was left to fill. A stale translation may be why: then a flush helps. If it does not, nothing will.
 */
static enum shadow_outcome spurious(struct shadow *shadow, struct shadow_root *root,
                                    const struct shadow_access *access)
{
    shadow->statistics.spurious++;
    if (!is_repeated(shadow, access))
        return SHADOW_FILLED;
    shadow->repeated.count++;
    if (shadow->repeated.count >= FLUSH_AFTER_REPEATS)
        root->generation++;
    return shadow->repeated.count < SHADOW_REPEAT_LIMIT ? SHADOW_FILLED : SHADOW_NO_PROGRESS;
}

static unsigned smaller(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

enum shadow_outcome shadow_fault(struct shadow *shadow, u32 handle, const struct shadow_access *access,
                                 struct shadow_result *result)
{
    struct shadow_root *root = shadow_root_of(shadow, handle);
    struct walk walked;

    shadow->statistics.faults++;
    shadow->clock++;
    if (root == NULL)
        return SHADOW_STALE;
    shadow_follow_own_map(shadow);
    root->used = shadow->clock;
    switch (ask_l1(shadow, root, access, &walked)) {
    case L1_REFUSES:
        return refuse(shadow, root, access, &walked, result);
    case L1_LOG_FULL:
        return SHADOW_LOG_FULL;
    case L1_AGAIN:
        return spurious(shadow, root, access);
    case L1_ALLOWS:
        break;
    }

    const struct tdp_leaf *own = own_leaf(shadow, walked.address);
    unsigned wanted = own_access(&shadow->format, access->access);
    if ((wanted & ~own->access) != 0)
        return own_denies(shadow, &walked, wanted, result);

    struct fill fill = {
        .root = root,
        .root_index = handle % SHADOW_ROOTS,
        .walk = &walked,
        .own = own,
        .address = access->address.raw,
        .map_level = smaller(walked.level, own->level),
        .writable = root->dirty_bit == 0 || (walked.leaf & root->dirty_bit) != 0,
    };
    if (walked.root_level > SHADOW_LEVELS && walked.entry[walked.root_level].value != root->top_entry)
        shadow_set_top(shadow, root, walked.entry[walked.root_level].value);
    if (!lay(shadow, &fill))
        return SHADOW_STALE;
    shadow->statistics.filled++;
    return fill.changed ? SHADOW_FILLED : spurious(shadow, root, access);
}
