/* SPDX-License-Identifier: MIT */
/*
 * Everything that a walk needs of a role, computed once; see mm/paging.h.
 */
#include "mm/paging.h"

/* See struct paging: bit 0 (P or R) is to be 1; a level-1 entry of EPT is plain with type WB only. */
static u64 not_plain(struct paging_role role, unsigned level)
{
    u64 bits = PTE_P | paging_reserved_bits(role, level, false);

    if (level == 1)
        return role_is_ept(role) ? bits | BITS(5, 3) : bits;
    return role_format(role) == PAGING_32BIT && !role_has(role, ROLE_PSE) ? bits : bits | ENTRY_PS;
}

void paging_init(struct paging *paging, struct paging_role role)
{
    const struct paging_format *format = &paging_formats[role_format(role)];

    paging->role = role;
    paging->pdptes = NULL;
    paging->present = paging_present_bits(role);
    paging->input_reserved =
        role_is_ept(role) || role_has(role, ROLE_NPT) ? ~(BIT(format->address_bits) - 1) : 0;
    paging->misconfigured[0] = role_is_ept(role) ? paging_ept_misconfigured(role, false) : 0;
    paging->misconfigured[1] = role_is_ept(role) ? paging_ept_misconfigured(role, true) : 0;
    for (unsigned level = 0; level <= PAGING_LEVELS_MAX; level++) {
        bool used = level >= 1 && level <= format->levels;

        paging->reserved[0][level] = used ? paging_reserved_bits(role, level, false) : 0;
        paging->reserved[1][level] = used ? paging_reserved_bits(role, level, true) : 0;
        paging->not_plain[level] = used ? not_plain(role, level) : 0;
    }
    permission_init(&paging->permission, role);
}
