/* SPDX-License-Identifier: MIT */
/*
 * Laying the way to a page in the shadow: each entry of L1 is expressed at the place where it stands in L1's
 * tables. What is found there is used only if it is what would be made now. CPUs lay in parallel: a slot
 * belongs to the one that has made it SLOT_BUSY, which is for as long as it takes to write it; the others let
 * L2 try again.
 */
#include "nested/shadow-internal.h"

#include "mm/tdp-format.h"

#define NPT_PWT       BIT(3)
#define NPT_PCD       BIT(4)
#define NPT_PAT_4K    BIT(7)
#define NPT_PAT_LARGE BIT(12)

/* A type in an EPT leaf is bits 6:3 of it, ignore-PAT included; in NPT it is Umbra's PAT index. */
#define TYPE_IGNORE_PAT 8u

/* --- entries --- */

static inline u64 compose_link(const struct tdp_config *format, hpa_t table, unsigned rights)
{
    if (format->format == TDP_EPT) {
        u64 user = format->mode_based_execute ? (u64)(rights & TDP_XU) << 7 : 0;
        return table.raw | (rights & (TDP_R | TDP_W | TDP_XS)) | user;
    }
    return table.raw | PTE_P | PTE_U | PTE_A | (rights & TDP_W) | ((rights & TDP_XU) != 0 ? 0 : PTE_XD);
}

/*
 * L1's type over Umbra's, as page attributes over MTRRs (SDM vol. 3A table 12-7): on the bare machine an EPT
 * type stands in for the MTRRs, and L1's MTRRs are what Umbra's own map expresses. Ordinary memory takes the
 * type that L1 wants; a device stays uncacheable.
 */
static enum memory_type combine(enum memory_type own, enum memory_type l1)
{
    if (own == MT_WB || own == l1)
        return l1;
    if (l1 == MT_WB && own != MT_UC)
        return own;
    if (l1 == MT_WC)
        return MT_WC;
    if ((own == MT_WT && l1 == MT_WP) || (own == MT_WP && l1 == MT_WT))
        return l1;
    return MT_UC;
}

static inline u64 npt_pat_bits(unsigned level, unsigned index)
{
    u64 pat = level == 1 ? NPT_PAT_4K : NPT_PAT_LARGE;

    return ((index & 1) != 0 ? NPT_PWT : 0) | ((index & 2) != 0 ? NPT_PCD : 0) | ((index & 4) != 0 ? pat : 0);
}

static inline u64 compose_leaf(const struct shadow *shadow, unsigned level, u64 target, unsigned rights,
                               unsigned type, enum memory_type own)
{
    const struct tdp_config *format = &shadow->format;

    if (rights == 0)
        return 0;
    if (format->format == TDP_NPT)
        return tdp_leaf_entry(format, level, target, rights, MT_WB) | npt_pat_bits(level, type);
    enum memory_type combined =
        own == MT_WB ? (enum memory_type)(type & 7) : combine(own, (enum memory_type)(type & 7));
    return compose_link(format, hpa(target), rights) | (u64)combined << EPTE_TYPE_SHIFT |
           ((type & TYPE_IGNORE_PAT) != 0 ? EPTE_IPAT : 0) | (level > 1 ? ENTRY_PS : 0);
}

/* --- what is wanted --- */

/* What L1's entry at a level allows; levels that L1 does not have, or that are within its large page, allow
 * all. */
static inline unsigned level_rights(const struct shadow_fill *fill, const struct shadow_page *page)
{
    const struct shadow_root *root = fill->root;
    unsigned level = page->level, rights = page->top_rights;

    if (level <= root->top_level && level >= fill->walk->level) {
        rights &= shadow_entry_rights(root->key.role, level, fill->walk->entry[level].value);
        if (level == fill->walk->level && !fill->writable)
            rights &= ~(unsigned)TDP_W;
    }
    return rights;
}

/* The page of `level` - 1 that the entry of `level` is to link. */
static struct shadow_identity wanted_child(const struct shadow_fill *fill, unsigned level)
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
static void pass_down(struct shadow_fill *fill, unsigned level)
{
    const struct shadow_root *root = fill->root;

    if (role_has(root->key.role, ROLE_GMET) && level <= root->top_level && level >= fill->walk->level &&
        (role_format(root->key.role) != PAGING_PAE || level != 3) &&
        (fill->walk->entry[level].value & PTE_U) == 0)
        fill->above &= ~(unsigned)RIGHT_U;
}

/*
 * A present entry is to be another one. What only allows less may replace it at once, with a flush; what goes
 * elsewhere, or by another size, only on a machine where no other CPU can hold the old one.
 */
static enum shadow_laid replace(struct shadow *shadow, struct shadow_fill *fill, u32 page, unsigned slot,
                                u64 old, u64 now)
{
    bool widened = shadow_entry_widened(&shadow->format, old, now);
    u64 *entry = &shadow_table(shadow, page)[slot];

    fill->changed = true;
    if (!widened && !shadow_alone(shadow))
        return shadow_entry_drop(shadow, page, slot, old) ? SHADOW_NEEDS_SHOOTDOWN : SHADOW_RACED;
    if (!shadow_slot_take(shadow, entry, old))
        return SHADOW_RACED;
    if (!widened) {
        u32 child = shadow->pages[page].level > 1 ? shadow_child(shadow, old) : SHADOW_NONE;
        if (child != SHADOW_NONE && (now & (ENTRY_PS | ENTRY_ADDRESS)) != (old & ENTRY_ADDRESS))
            shadow_retire(shadow, child);
        atomic_add(&fill->root->generation, 1);
    }
    return SHADOW_LAID;
}

/*
 * The entry in the place of `old`, and of a table of L1 the entry from which it is made. LAID: it stands
 * there, or did for a moment; anything else: it never did. What another CPU has put there since `old` was
 * read stays: two that undo each other's work could go on so for ever.
 */
static enum shadow_laid put(struct shadow *shadow, struct shadow_fill *fill, u32 page, unsigned slot, u64 old,
                            u64 now)
{
    bool table = shadow->pages[page].identity.kind == SHADOW_TABLE;
    u64 *entry = &shadow_table(shadow, page)[slot], *snapshot = &shadow_snapshot(shadow, page)[slot];
    u64 source = fill->walk->entry[shadow->pages[page].level].value;

    /* Until the table was known, nobody has seen what L1 wrote there: an INVEPT that came before, and has not
     * waited for this fault, does not allow what was read before it. */
    if (table && shadow_source_changed(shadow, &shadow->pages[page], slot, source)) {
        fill->changed = true;
        return SHADOW_RACED;
    }
    if (slot_present(old)) {
        if (shadow_entry_same(&shadow->format, old, now) && (!table || atomic_peek(snapshot) == source))
            return SHADOW_LAID;
        enum shadow_laid taken = replace(shadow, fill, page, slot, old, now);
        if (taken != SHADOW_LAID)
            return taken;
    } else {
        if (slot_owed(shadow, old))
            return SHADOW_NEEDS_SHOOTDOWN;
        if (!slot_present(now))
            return SHADOW_RACED;
        fill->changed = true;
        if (old == SLOT_BUSY || !atomic_cas(entry, old, SLOT_BUSY))
            return SHADOW_RACED;
    }
    if (table)
        atomic_poke(snapshot, source);
    atomic_release(entry, now);
    return SHADOW_LAID;
}

/* The page below, if it is linked and what would be made. */
static u32 right_child(const struct shadow *shadow, u64 entry, const struct shadow_identity *wanted)
{
    u32 child = slot_present(entry) ? shadow_child(shadow, entry) : SHADOW_NONE;

    return child != SHADOW_NONE && same_identity(&shadow->pages[child].identity, wanted) ? child
                                                                                         : SHADOW_NONE;
}

/* The link from *page at its level; *page becomes the one below. */
static enum shadow_laid lay_link(struct shadow *shadow, struct shadow_state *cpu, struct shadow_fill *fill,
                                 u32 *page)
{
    unsigned level = shadow->pages[*page].level, slot = shadow_index(fill->address, level);
    u64 *entry = &shadow_table(shadow, *page)[slot];

    pass_down(fill, level);
    const struct shadow_identity wanted = wanted_child(fill, level);
    u64 old = atomic_acquire(entry);
    if (slot_owed(shadow, old))
        return SHADOW_NEEDS_SHOOTDOWN;
    u32 child = right_child(shadow, old, &wanted);
    bool made = child == SHADOW_NONE;
    if (made) {
        child = shadow_page_new(shadow, cpu, fill->root_index, level - 1, &wanted);
        if (child == SHADOW_NONE)
            return SHADOW_NEEDS_PAGE;
        shadow->pages[child].parent = *page;
        shadow->pages[child].slot = (u16)slot;
        atomic_release(&shadow->pages[child].in_use, true);
    }
    atomic_poke(&shadow->pages[child].used, atomic_peek(&shadow->clock));
    u64 now = compose_link(&shadow->format, shadow_table_address(shadow, child),
                           level_rights(fill, &shadow->pages[*page]));
    enum shadow_laid laid = put(shadow, fill, *page, slot, old, now);
    if (made && laid != SHADOW_LAID)
        shadow_retire(shadow, child);
    *page = child;
    return laid;
}

/* Marked as writable, should it be, before it is there. */
static u64 leaf_of(struct shadow *shadow, const struct shadow_fill *fill, u32 page)
{
    const struct shadow_root *root = fill->root;
    const struct walk *walk = fill->walk;
    unsigned level = fill->map_level;
    u64 span = tdp_entry_span(level);
    u64 target = align_down(fill->own->target + (walk->address - fill->own_start), span);
    unsigned rights = level_rights(fill, &shadow->pages[page]) & fill->own->access;

    if (role_has(root->key.role, ROLE_GMET) && (walk->rights & RIGHT_U) != 0)
        rights &= ~(unsigned)TDP_XS;
    if ((rights & TDP_W) != 0)
        shadow_mark_writable(shadow, align_down(walk->address, span), span);
    return compose_leaf(shadow, level, target, rights, shadow_leaf_type(root, walk->level, walk->leaf),
                        fill->own->type);
}

/*
 * Down the links that are as they would be made: in a right page, a link is right if the entry of L1 from
 * which it was made has not changed; where there is no such entry, it always is. The link is read again after
 * the entry of L1, which another CPU may be replacing together with it.
 */
static u32 follow(struct shadow *shadow, struct shadow_fill *fill)
{
    const struct walk *walk = fill->walk;
    unsigned top = fill->root->top_level;
    u32 page = atomic_acquire(&fill->root->page), now = atomic_peek(&shadow->clock);
    const u64 *pool = shadow_table(shadow, 0);
    u64 tables = shadow->tables, to_snapshot = (shadow->snapshots - tables) / sizeof(u64);

    atomic_poke(&shadow->pages[page].used, now);
    for (unsigned level = SHADOW_LEVELS; level > fill->map_level; level--) {
        const u64 *slot = pool + (u64)page * SHADOW_ENTRIES + shadow_index(fill->address, level);
        u64 entry = atomic_acquire(slot);
        if (!slot_present(entry) || (entry & ENTRY_PS) != 0)
            break;
        if (level <= top && level >= walk->level &&
            (atomic_acquire(&slot[to_snapshot]) != walk->entry[level].value || atomic_peek(slot) != entry))
            break;
        page = (u32)(((entry & ENTRY_ADDRESS) - tables) / PAGE_SIZE);
        atomic_poke(&shadow->pages[page].used, now);
    }
    fill->above = shadow->pages[page].identity.above;
    return page;
}

enum shadow_laid shadow_lay(struct shadow *shadow, struct shadow_state *cpu, struct shadow_fill *fill)
{
    atomic_add(&shadow->clock, 1);
    u32 page = follow(shadow, fill);
    while (shadow->pages[page].level > fill->map_level) {
        enum shadow_laid laid = lay_link(shadow, cpu, fill, &page);
        if (laid != SHADOW_LAID)
            return laid;
    }
    u64 leaf = leaf_of(shadow, fill, page);
    unsigned slot = shadow_index(fill->address, fill->map_level);
    return put(shadow, fill, page, slot, atomic_acquire(&shadow_table(shadow, page)[slot]), leaf);
}
