/* SPDX-License-Identifier: MIT */
/*
 * The permission tables, built by set algebra: a set of right combinations is a 64-bit word, and each rule is
 * one operation on such words. See mm/permission.h for the rules and their sources.
 */
#include "mm/permission.h"

/* The combinations that include a right: bit n is set if n has that bit. */
#define WITH_R  0xAAAAAAAAAAAAAAAAull
#define WITH_W  0xCCCCCCCCCCCCCCCCull
#define WITH_U  0xF0F0F0F0F0F0F0F0ull
#define WITH_X  0xFF00FF00FF00FF00ull
#define WITH_XU 0xFFFF0000FFFF0000ull
#define WITH_SS 0xFFFFFFFF00000000ull

#define KEY_AD  1u /* access disable and write disable: the two bits of a key in PKRU and PKRS */
#define KEY_WD  2u

static u64 guest_fetch_faults(struct paging_role role, bool user)
{
    u64 faults = ~WITH_R;

    if (role_has(role, ROLE_NXE))
        faults |= ~WITH_X;
    if (user)
        faults |= ~WITH_U;
    else if (role_has(role, ROLE_SMEP))
        faults |= WITH_U;
    return faults;
}

static u64 guest_shadow_stack_faults(struct paging_role role, bool user)
{
    if (!role_has(role, ROLE_CET))
        return ~0ull;
    return ~WITH_R | ~WITH_SS | (user ? ~WITH_U : WITH_U);
}

static u64 guest_data_faults(struct paging_role role, unsigned access, bool user)
{
    u64 faults = ~WITH_R;

    if ((access & ACCESS_WRITE) != 0 && (user || role_has(role, ROLE_WP)))
        faults |= ~WITH_W;
    if (user)
        faults |= ~WITH_U;
    else if (role_has(role, ROLE_SMAP) && (access & ACCESS_AC) == 0)
        faults |= WITH_U;
    return faults;
}

static u64 guest_faults(struct paging_role role, unsigned access)
{
    bool user = (access & ACCESS_USER) != 0;

    if ((access & ACCESS_FETCH) != 0)
        return guest_fetch_faults(role, user);
    if ((access & ACCESS_SHADOW_STACK) != 0)
        return guest_shadow_stack_faults(role, user);
    return guest_data_faults(role, access, user);
}

static u64 npt_faults(struct paging_role role, unsigned access)
{
    bool gmet = role_has(role, ROLE_GMET);
    u64 faults = ~WITH_R | (gmet ? 0 : ~WITH_U);

    if ((access & ACCESS_FETCH) == 0)
        return faults | ((access & ACCESS_WRITE) != 0 ? ~WITH_W : 0);
    if (role_has(role, ROLE_NXE))
        faults |= ~WITH_X;
    if (gmet && (access & ACCESS_USER) == 0)
        faults |= WITH_U;
    return faults;
}

static u64 ept_faults(struct paging_role role, unsigned access)
{
    bool user = (access & ACCESS_USER) != 0;

    if ((access & ACCESS_FETCH) != 0)
        return role_has(role, ROLE_MBEC) && user ? ~WITH_XU : ~WITH_X;
    if ((access & ACCESS_SHADOW_STACK) != 0 && !user && role_has(role, ROLE_EPT_SSS))
        return ~WITH_R | ~WITH_SS;
    return (access & ACCESS_WRITE) != 0 ? ~WITH_W : ~WITH_R;
}

static u64 faults(struct paging_role role, unsigned access)
{
    if (role_format(role) == PAGING_NONE)
        return 0;
    if (role_is_ept(role))
        return ept_faults(role, access);
    return role_has(role, ROLE_NPT) ? npt_faults(role, access) : guest_faults(role, access);
}

static u8 key_bits(struct paging_role role, unsigned access)
{
    bool user = (access & ACCESS_USER) != 0;

    if ((access & ACCESS_FETCH) != 0)
        return 0;
    if ((access & ACCESS_WRITE) != 0 && (user || role_has(role, ROLE_WP)))
        return KEY_AD | KEY_WD;
    return KEY_AD;
}

void permission_init(struct permission *permission, struct paging_role role)
{
    for (unsigned access = 0; access < ACCESS_KINDS; access++) {
        permission->faults[access] = faults(role, access);
        permission->key_bits[access] = key_bits(role, access);
    }
    permission_set_keys(permission, role, 0, 0);
}

void permission_set_keys(struct permission *permission, struct paging_role role, u32 pkru, u32 pkrs)
{
    for (unsigned rights = 0; rights < ARRAY_SIZE(permission->keys); rights++) {
        if ((rights & RIGHT_U) != 0)
            permission->keys[rights] = role_has(role, ROLE_PKU) ? pkru : 0;
        else
            permission->keys[rights] = role_has(role, ROLE_PKS) ? pkrs : 0;
    }
}
