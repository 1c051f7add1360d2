/* SPDX-License-Identifier: MIT */
/*
 * The ordinary fault in a straight line: L1 maps the page, at most its leaf owes flags, Umbra's own map
 * leaves it all rights, and the shadow has each table down to the empty slot. What is anything else is left
 * alone: shadow_fault() starts over. Nothing is decided here that it would not decide.
 */
#include "nested/shadow-internal.h"

#include "mm/tdp-format.h"

enum {
    RECENT_USES =
        32, /* so seldom the whole path of a page that is touched again and again is marked as used */
};

#define unlikely(condition) __builtin_expect((condition), 0)
#define INLINE              static inline __attribute__((always_inline))

/* --- known beforehand --- */

void shadow_quick_init(struct shadow *shadow)
{
    const struct tdp_config *format = &shadow->format;
    struct shadow_plain *plain = &shadow->plain;
    u64 right = tdp_table_entry(format, hpa(0)) & ~PTE_A;

    plain->link = plain->own = right;
    plain->link_mask = right | ENTRY_PS;
    plain->own_mask = right;
    plain->kept = ENTRY_ADDRESS;
    if (format->format == TDP_EPT) {
        plain->kept |= BITS(5, 3);
        return;
    }
    plain->link_mask |= PTE_XD;
    plain->own_mask |= PTE_XD;
    plain->set = PTE_P | PTE_A | PTE_D | PTE_U;
    if (format->mode_based_execute) {
        plain->own &= ~PTE_U;
        plain->set &= ~PTE_U;
    }
}

/* What L1's leaf says that is not the same in the shadow's, or that its type is not the ordinary one. */
static u64 special_bits(const struct shadow_root *root)
{
    struct paging_role role = root->key.role;

    if (role_is_ept(role))
        return 0;
    return PTE_PWT | PTE_PCD | PTE_PAT_4K | (role_has(role, ROLE_GMET) ? PTE_XD : 0);
}

/* Where L1's table can be read at any time, or NULL. */
static const u64 *in_window(const struct shadow *shadow, u64 table)
{
    const struct paging_memory *memory = shadow->config.memory;
    u64 offset = table - memory->window_start;

    return offset < memory->window_bytes ? (const u64 *)(const void *)(memory->window + offset) : NULL;
}

void shadow_quick_root(const struct shadow *shadow, struct shadow_root *root)
{
    const struct paging_quick *paging = &root->paging.quick;
    struct shadow_quick *quick = &root->quick;
    struct paging_role role = root->key.role;
    bool mode_based = shadow->format.mode_based_execute;

    *quick = (struct shadow_quick){.writable = root->dirty_bit != 0 ? root->dirty_bit : PTE_P};
    if (paging_formats[role_format(role)].levels > SHADOW_LEVELS)
        quick->top = in_window(shadow, root->key.pointer);
    for (unsigned access = 0; access < SHADOW_QUICK_KINDS; access++) {
        quick->mask[access] = paging->leaf_mask[access] | paging->granted_mask[access] | special_bits(root);
        quick->value[access] = paging->leaf_value[access] | paging->granted_value[access];
    }
    if (role_is_ept(role)) {
        quick->kept = EPTE_R | EPTE_W | EPTE_X | EPTE_IPAT;
        if (mode_based && role_has(role, ROLE_MBEC))
            quick->kept |= EPTE_XU;
        else if (mode_based)
            quick->execute = EPTE_X;
    } else {
        quick->kept = PTE_W | PTE_XD | (role_has(role, ROLE_GMET) && mode_based ? PTE_U : 0);
    }
}

/* The page is one of level 4. Does L1's entry above it take nothing away, and can it be read at any time? */
static bool top_is_plain(const struct shadow_root *root, const struct shadow_page *page)
{
    enum paging_format_id format = role_format(root->key.role);
    unsigned top = paging_formats[format].levels;

    if (top <= SHADOW_LEVELS)
        return true;
    u64 deviations = page->top_entry ^ paging_plain_bits(format, top, false);
    return root->quick.top != NULL && page->top_rights == TDP_RWX &&
           (deviations & (root->paging.plain_table[top] | root->paging.accessed)) == 0;
}

const u64 *shadow_quick_source(const struct shadow *shadow, const struct shadow_page *page)
{
    const struct shadow_root *root = &shadow->root[page->root];

    if (page->identity.kind != SHADOW_TABLE || page->identity.above != RIGHTS_ALL_BUT_SS ||
        paging_formats[role_format(root->key.role)].levels < SHADOW_LEVELS || root->pat[0] != 0 ||
        (page->level == SHADOW_LEVELS && !top_is_plain(root, page)))
        return NULL;
    return in_window(shadow, page->identity.source);
}

/* --- one fault --- */

/*
 * Umbra's own entry for the page, as a leaf of that size at least, with the address of the page in it; 0: it
 * is not a plain one. Tables that are unlinked are not freed before this section has ended: see
 * shadow_follow_own_map().
 */
INLINE u64 own_page(const struct shadow *shadow, u64 address, unsigned map_level)
{
    u64 table = shadow->config.tdp->root.raw, entry = 0;
    unsigned level = SHADOW_LEVELS;

    if (unlikely(address >> 48 != 0))
        return 0;
#pragma GCC unroll 4
    for (; level >= map_level; level--) {
        const u64 *entries = phys_to_virt(hpa(table));
        entry = atomic_acquire(&entries[shadow_index(address, level)]);
        if (level == 1 || (level < SHADOW_LEVELS && (entry & ENTRY_PS) != 0))
            break;
        if (unlikely((entry & PTE_P) == 0))
            return 0;
        table = entry & ENTRY_ADDRESS;
    }
    if (unlikely(level < map_level || (entry & shadow->plain.own_mask) != shadow->plain.own))
        return 0;
    if (level == 1)
        return entry;
    u64 within = tdp_entry_span(level) - 1;
    return (entry & ~(within & ENTRY_ADDRESS)) | (address & within);
}

static void use_path(struct shadow *shadow, const struct shadow_page *page)
{
    u32 number = (u32)(page - shadow->pages);

    for (; number != SHADOW_NONE; number = shadow->pages[number].parent)
        atomic_poke(&shadow->pages[number].used, atomic_peek(&shadow->clock));
}

INLINE bool is_marked_writable(const struct shadow *shadow, u64 address)
{
    u64 frame = address >> PAGE_SHIFT;

    return address < shadow->config.memory_limit &&
           (atomic_load(&shadow->writable_4k[frame / 64]) >> frame % 64 & 1) != 0;
}

/* Where a page of the shadow stands, in bytes of the pool, and L1's table. */
struct place {
    u64 offset;
    const u64 *source;
};

INLINE u64 *slot_at(const struct shadow *shadow, const struct place *place, u64 address, unsigned level)
{
    return shadow_table(shadow, 0) + place->offset / sizeof(u64) + shadow_index(address, level);
}

INLINE void go_to(const struct shadow *shadow, struct place *place, u64 offset)
{
    place->offset = offset;
    place->source = shadow->source[offset / PAGE_SIZE];
}

/*
 * L1's leaf owes these flags and nothing else. False: they are not set. What other CPUs of L1 change
 * meanwhile is not lost.
 */
static __attribute__((noinline)) bool mark(struct shadow *shadow, const u64 *source, u64 address, u64 leaf,
                                           u64 owed, const struct shadow_root *root)
{
    const struct shadow_config *config = &shadow->config;
    const struct paging_memory *memory = config->memory;
    u64 where = memory->window_start + (u64)((const u8 *)source - memory->window);

    if ((owed & ~(root->accessed_bit | root->dirty_bit)) != 0 || atomic_peek(&shadow->flags_alias))
        return false;
    if (config->log_dirty != NULL &&
        !config->log_dirty(config->context, l2_gpa(address), (owed & root->dirty_bit) != 0))
        return false;
    return memory->compare_exchange(memory, gpa(where), sizeof(leaf), leaf, leaf | owed) == MEMORY_OK;
}

/*
 * The slot of that level, 1 or 2, is empty. L1's type is the ordinary one, so that Umbra's remains: see
 * combine() of shadow-lay.c.
 */
INLINE bool fill_slot(struct shadow *shadow, const struct shadow_root *root, u64 address, unsigned access,
                      unsigned level, const struct place *place)
{
    const struct shadow_quick *quick = &root->quick;
    u64 *slot = slot_at(shadow, place, address, level), span = tdp_entry_span(level);
    const u64 *source = &place->source[shadow_index(address, level)];
    u64 leaf = atomic_peek(source), plain = leaf;

    if (level == 2) {
        plain ^= ENTRY_PS;
        if ((plain & (root->paging.quick.large[2] | PTE_PAT_LARGE)) != 0)
            return false;
    }
    u64 owed = (plain & quick->mask[access]) ^ quick->value[access];
    if (unlikely(owed != 0)) {
        if (!mark(shadow, source, address, leaf, owed, root))
            return false;
        leaf |= owed;
    }
    u64 target = leaf & ENTRY_ADDRESS & ~(span - 1);
    u64 own = own_page(shadow, target, level);
    if (unlikely(own == 0))
        return false;
    u64 entry = (own & shadow->plain.kept) | (leaf & quick->kept) | (leaf & quick->execute) << 8 |
                shadow->plain.set | (level > 1 ? ENTRY_PS : 0);
    if (unlikely((leaf & quick->writable) == 0))
        entry &= ~PTE_W;
    if ((entry & PTE_W) != 0 && (level > 1 || unlikely(!is_marked_writable(shadow, target))))
        shadow_mark_writable(shadow, target, span);
    if (unlikely(!atomic_cas(slot, 0, SLOT_BUSY)))
        return false;
    atomic_poke(&slot[shadow->to_snapshot], leaf);
    atomic_release(slot, entry);
    const struct shadow_page *page = &shadow->pages[place->offset / PAGE_SIZE];
    if (unlikely(atomic_peek(&shadow->clock) - atomic_peek(&page->used) >= RECENT_USES))
        use_path(shadow, page);
    return true;
}

/*
 * A link that leaves all rights, and whose entry of L1 is as it was when it was made, has nothing to add: all
 * entries of L1 on the way are then plain ones that have been checked, and their accessed flags are set.
 */
INLINE bool fill(struct shadow *shadow, const struct shadow_state *cpu, u64 address, unsigned access)
{
    const struct shadow_root *root = &shadow->root[cpu->pinned];
    u32 page = atomic_acquire(&root->page);
    struct place place;

    if (unlikely(atomic_acquire(&root->generation) != cpu->tag[cpu->last].generation ||
                 page != cpu->root_page || (address >> 48) != 0 ||
                 atomic_acquire(&shadow->own_changes) != atomic_acquire(&shadow->config.tdp->changes)))
        return false;
    if (root->quick.top != NULL && atomic_peek(root->quick.top) != shadow->pages[page].top_entry)
        return false;
    go_to(shadow, &place, (u64)page * PAGE_SIZE);
#pragma GCC unroll 4
    for (unsigned level = SHADOW_LEVELS; level > 1; level--) {
        const u64 *slot = slot_at(shadow, &place, address, level);
        u64 entry = atomic_acquire(slot);
        if (unlikely(place.source == NULL))
            return false;
        if (unlikely((entry & shadow->plain.link_mask) != shadow->plain.link))
            return level == 2 && entry == 0 && fill_slot(shadow, root, address, access, 2, &place);
        if (unlikely(atomic_peek(&place.source[shadow_index(address, level)]) !=
                     atomic_peek(&slot[shadow->to_snapshot])))
            return false;
        go_to(shadow, &place, (entry & ENTRY_ADDRESS) - shadow->tables);
    }
    return place.source != NULL && fill_slot(shadow, root, address, access, 1, &place);
}

bool shadow_fault_quick(struct shadow *shadow, struct shadow_cpu *storage, l2_gpa_t address, unsigned access)
{
    struct shadow_state *cpu = shadow_state_of(storage);
    bool filled;

    if (access >= SHADOW_QUICK_KINDS)
        return false;
    shadow_enter(cpu);
    filled = fill(shadow, cpu, address.raw, access);
    shadow_leave(cpu);
    if (unlikely(!filled))
        return false;
    cpu->statistics.faults++;
    cpu->statistics.filled++;
    return true;
}
