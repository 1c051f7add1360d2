/* SPDX-License-Identifier: MIT */
/*
 * The ordinary fault in a straight line: L1 maps the page, by entries whose flags are set, Umbra's own map
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

void shadow_quick_init(struct shadow *shadow)
{
    const struct tdp_config *format = &shadow->format;
    struct shadow_plain *plain = &shadow->plain;

    plain->right = tdp_table_entry(format, hpa(0)) & ~PTE_A;
    plain->link_mask = plain->right | ENTRY_PS | (format->format == TDP_NPT ? PTE_XD : 0);
    plain->own_mask = plain->link_mask & ~ENTRY_PS;
    plain->own =
        format->format == TDP_NPT && format->mode_based_execute ? plain->right & ~PTE_U : plain->right;
}

const u64 *shadow_quick_source(const struct shadow *shadow, const struct shadow_page *page)
{
    const struct paging_memory *memory = shadow->config.memory;
    const struct shadow_root *root = &shadow->root[page->root];
    u64 offset = page->identity.source - memory->window_start;

    if (page->identity.kind != SHADOW_TABLE || page->identity.above != RIGHTS_ALL_BUT_SS ||
        root->paging.quick.format != QUICK_HOST || root->pat[0] != 0 || offset >= memory->window_bytes)
        return NULL;
    return (const u64 *)(const void *)(memory->window + offset);
}

/*
 * Umbra's own entry for the page, as a leaf of that size at least, with the address of the page in it; 0: it
 * is not a plain one. Tables that are unlinked are not freed before this section has ended: see
 * shadow_follow_own_map().
 */
INLINE u64 own_page(const struct shadow *shadow, u64 address, unsigned map_level)
{
    u64 table = shadow->config.tdp->root.raw, entry, within;
    unsigned level = SHADOW_LEVELS;

    if (unlikely(address >> 48 != 0))
        return 0;
    for (;; level--) {
        entry = atomic_acquire((const u64 *)phys_to_virt(hpa(table)) + shadow_index(address, level));
        if (level == map_level || (entry & ENTRY_PS) != 0)
            break;
        if (unlikely((entry & PTE_P) == 0))
            return 0;
        table = entry & ENTRY_ADDRESS;
    }
    if (unlikely(((entry ^ shadow->plain.own) & shadow->plain.own_mask) != 0))
        return 0;
    within = tdp_entry_span(level) - 1;
    if (unlikely(level > 1 && (entry & ENTRY_PS) == 0))
        return 0;
    return (entry & ~(within & ENTRY_ADDRESS)) | (address & within);
}

/* The shadow's leaf. L1's type is the ordinary one, so Umbra's remains (see combine() of shadow-lay.c). */
INLINE u64 compose(const struct shadow *shadow, const struct shadow_root *root, u64 own, u64 leaf)
{
    bool mode_based = shadow->format.mode_based_execute;

    if (root->dirty_bit != 0 && (leaf & root->dirty_bit) == 0)
        leaf &= ~PTE_W;
    if (shadow->format.format == TDP_EPT) {
        u64 user = role_has(root->key.role, ROLE_MBEC) ? leaf & EPTE_XU : (leaf & EPTE_X) << 8;
        return (own & (ENTRY_ADDRESS | BITS(5, 3))) | (leaf & (EPTE_R | EPTE_W | EPTE_X | EPTE_IPAT)) |
               (mode_based ? user : 0);
    }
    bool user = !mode_based || (role_has(root->key.role, ROLE_GMET) && (leaf & (PTE_U | PTE_XD)) == PTE_U);
    return (own & ENTRY_ADDRESS) | (leaf & (PTE_W | PTE_XD)) | PTE_P | PTE_A | PTE_D | (user ? PTE_U : 0);
}

static void use_path(struct shadow *shadow, u32 page)
{
    for (; page != SHADOW_NONE; page = shadow->pages[page].parent)
        atomic_poke(&shadow->pages[page].used, atomic_peek(&shadow->clock));
}

/* Does L1's leaf allow the access, with nothing reserved or special, and no flag owed? */
INLINE bool allows(const struct shadow *shadow, const struct shadow_root *root, unsigned level, u64 leaf,
                   unsigned access)
{
    const struct paging_quick *quick = &root->paging.quick;
    u64 pat =
        shadow->format.format == TDP_NPT ? PTE_PWT | PTE_PCD | (level == 1 ? PTE_PAT_4K : PTE_PAT_LARGE) : 0;

    return (leaf & quick->leaf_mask[access]) == quick->leaf_value[access] &&
           (leaf & quick->granted_mask[access]) == quick->granted_value[access] &&
           (level == 1 || (leaf & quick->large[level]) == ENTRY_PS) && (leaf & pat) == 0;
}

/* The slot of that level is empty, in a page that stands for L1's table `source`. */
INLINE bool fill_slot(struct shadow *shadow, const struct shadow_root *root, u64 address, unsigned access,
                      unsigned level, u32 page, u64 *table, const u64 *source)
{
    unsigned slot = shadow_index(address, level);
    u64 leaf = atomic_peek(&source[slot]);

    if (!allows(shadow, root, level, leaf, access))
        return false;
    u64 target = leaf & ENTRY_ADDRESS & ~(tdp_entry_span(level) - 1);
    u64 own = own_page(shadow, target, level);
    if (unlikely(own == 0))
        return false;
    u64 entry = compose(shadow, root, own, leaf) | (level > 1 ? ENTRY_PS : 0);
    if ((entry & PTE_W) != 0)
        shadow_mark_writable(shadow, target, tdp_entry_span(level));
    if (unlikely(!atomic_cas(&table[slot], 0, SLOT_BUSY)))
        return false;
    atomic_poke(&table[slot + shadow->to_snapshot], leaf);
    atomic_release(&table[slot], entry);
    if (atomic_peek(&shadow->clock) - atomic_peek(&shadow->pages[page].used) >= RECENT_USES)
        use_path(shadow, page);
    return true;
}

/*
 * A link that leaves all rights, and whose entry of L1 is as it was when it was made, has nothing to add: all
 * entries of L1 on the way are then plain ones that have been checked, and their accessed flags are set.
 */
static bool fill(struct shadow *shadow, const struct shadow_state *cpu, u64 address, unsigned access)
{
    const struct shadow_root *root = &shadow->root[cpu->pinned];
    u32 page = atomic_acquire(&root->page);

    if (unlikely(atomic_acquire(&root->generation) != cpu->tag[cpu->last].generation ||
                 page != cpu->root_page || (address >> 48) != 0 ||
                 atomic_acquire(&shadow->own_changes) != atomic_acquire(&shadow->config.tdp->changes)))
        return false;
#pragma GCC unroll 4
    for (unsigned level = SHADOW_LEVELS; level >= 1; level--) {
        unsigned slot = shadow_index(address, level);
        u64 *table = shadow_table(shadow, page);
        const u64 *source = shadow->source[page];
        if (unlikely(source == NULL))
            return false;
        if (level == 1)
            return fill_slot(shadow, root, address, access, 1, page, table, source);
        u64 entry = atomic_acquire(&table[slot]);
        if (level == 2 && entry == 0)
            return fill_slot(shadow, root, address, access, 2, page, table, source);
        if (unlikely(((entry ^ shadow->plain.right) & shadow->plain.link_mask) != 0 ||
                     atomic_peek(&source[slot]) != atomic_peek(&table[slot + shadow->to_snapshot])))
            return false;
        page = shadow_child(shadow, entry);
    }
    return false;
}

bool shadow_fault_quick(struct shadow *shadow, struct shadow_cpu *storage, l2_gpa_t address, unsigned access)
{
    struct shadow_state *cpu = shadow_state_of(storage);

    shadow_enter(cpu);
    bool filled = fill(shadow, cpu, address.raw, access);
    shadow_leave(cpu);
    cpu->statistics.faults += filled;
    cpu->statistics.filled += filled;
    return filled;
}
