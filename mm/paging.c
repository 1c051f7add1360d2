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
}
