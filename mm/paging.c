/* SPDX-License-Identifier: MIT */
/*
 * Everything that a walk needs of a role, computed once; see mm/paging.h.
 */
#include "mm/paging.h"

/* See struct paging. Bit 0 is P or R. In the 32-bit format without PSE, bit 7 is ignored. */
static u64 plain_table(struct paging_role role, unsigned level)
{
    bool ps_ignored = role_format(role) == PAGING_32BIT && !role_has(role, ROLE_PSE);

    if (level == 1)
        return 0;
    return paging_reserved_bits(role, level, false) | PTE_P | (ps_ignored ? 0 : ENTRY_PS);
}

static u64 plain_page(struct paging_role role, unsigned level)
{
    u64 bits = PTE_P | (role_is_ept(role) ? BITS(5, 3) : 0);
    u64 reserved = paging_reserved_bits(role, level, level > 1);

    if (level == 1)
        return bits | reserved;
    if (!paging_maps_page(role, level, ENTRY_PS) || (reserved & ENTRY_PS) != 0)
        return 0;
    return bits | reserved | ENTRY_PS;
}

/* --- mm/walk-quick.c --- */

/* The bit that is 1 in an entry which grants a right; XD is 0 there, see quick_kind(). */
static u64 granting_bit(bool ept, unsigned right)
{
    switch (right) {
    case RIGHT_W:
        return PTE_W;
    case RIGHT_U:
        return PTE_U;
    case RIGHT_X:
        return ept ? EPTE_X : 0;
    default:
        return EPTE_XU;
    }
}

/*
 * From the engine's set of faulting combinations: but for shadow stacks and keys, each rule wants one right,
 * or in some modes that the page is no user's. A right without which nothing faults is of no account.
 */
static void quick_kind(struct paging *paging, unsigned kind)
{
    struct paging_quick *quick = &paging->quick;
    bool ept = role_is_ept(paging->role);
    bool writes = (kind & (ACCESS_WRITE | ACCESS_FETCH)) == ACCESS_WRITE;
    u64 faults = paging->permission.faults[kind];
    u64 value = paging->accessed | PTE_P, mask = value;
    u64 leaf = PTE_P | (ept ? 6u << EPTE_TYPE_SHIFT : 0) | (writes ? paging->dirty : 0);
    unsigned best = RIGHTS_ALL_BUT_SS;

    if ((faults >> best & 1) != 0) {
        best &= ~(unsigned)RIGHT_U;
        mask |= PTE_U;
    }
    for (unsigned right = RIGHT_W; right <= RIGHT_XU; right <<= 1) {
        if ((best & right) != 0 && (faults >> (best & ~right) & 1) != 0)
            value |= granting_bit(ept, right);
    }
    quick->leaf_value[kind] = leaf;
    quick->leaf_mask[kind] = paging->plain_page[1] | leaf;
    if (!ept && (faults >> (best & ~(unsigned)RIGHT_X) & 1) != 0)
        quick->leaf_mask[kind] |= PTE_XD;
    if (role_has(paging->role, ROLE_PKU | ROLE_PKS) && (kind & ACCESS_FETCH) == 0)
        value &= ~PTE_P;
    quick->granted_value[kind] = value;
    quick->granted_mask[kind] = mask | value;
}

static enum paging_quick_format quick_format(struct paging_role role)
{
    switch (role_format(role)) {
    case PAGING_4LEVEL:
        return role_has(role, ROLE_NPT) ? QUICK_HOST : QUICK_GUEST;
    case PAGING_EPT4:
        return QUICK_HOST;
    default:
        return QUICK_NONE;
    }
}

static void quick_init(struct paging *paging)
{
    struct paging_quick *quick = &paging->quick;

    unsigned width = role_maxphyaddr(paging->role);

    quick->format = quick_format(paging->role);
    if (paging_formats[role_format(paging->role)].levels < 4)
        return;
    for (unsigned kind = 0; kind < ACCESS_KINDS; kind++) {
        if ((kind & ACCESS_SHADOW_STACK) == 0) {
            quick_kind(paging, kind);
        } else {
            quick->granted_mask[kind] = quick->leaf_mask[kind] = 0;
            quick->granted_value[kind] = quick->leaf_value[kind] = PTE_W;
        }
    }
    for (unsigned level = 2; level <= 3; level++)
        quick->large[level] = paging->plain_page[level] & ~paging->plain_page[1];
    quick->frames = BIT((width < 48 ? width : 48) - PAGE_SHIFT);
    /* The root's entries have all reserved bits of those below; a table's XD is for the general walker. */
    quick->table = ENTRY_ADDRESS | paging->plain_table[4] | (role_is_ept(paging->role) ? 0 : PTE_XD);
}

void paging_init(struct paging *paging, struct paging_role role)
{
    const struct paging_format *format = &paging_formats[role_format(role)];

    paging->role = role;
    paging->pdptes = NULL;
    paging->present = paging_present_bits(role);
    bool has_flags = !role_is_ept(role) || role_has(role, ROLE_EPT_AD);
    paging->accessed = has_flags ? format->accessed : 0;
    paging->dirty = has_flags ? format->dirty : 0;
    paging->input_reserved =
        role_is_ept(role) || role_has(role, ROLE_NPT) ? ~(BIT(format->address_bits) - 1) : 0;
    paging->misconfigured[0] = role_is_ept(role) ? paging_ept_misconfigured(role, false) : 0;
    paging->misconfigured[1] = role_is_ept(role) ? paging_ept_misconfigured(role, true) : 0;
    for (unsigned level = 0; level <= PAGING_LEVELS_MAX; level++) {
        bool used = level >= 1 && level <= format->levels;

        paging->reserved[0][level] = used ? paging_reserved_bits(role, level, false) : 0;
        paging->reserved[1][level] = used ? paging_reserved_bits(role, level, true) : 0;
        paging->plain_table[level] = used ? plain_table(role, level) : 0;
        paging->plain_page[level] = used ? plain_page(role, level) : 0;
    }
    permission_init(&paging->permission, role);
    quick_init(paging);
}
