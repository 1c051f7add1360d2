/* SPDX-License-Identifier: MIT */
/*
 * The permission engine. For a role, it precomputes for each kind of access the set of accumulated rights
 * that fault, one bit for each of the 64 combinations, so that a check is one look-up.
 * It reads no paging-structure entry and knows no address. Pure; a const struct permission needs no lock.
 */
#ifndef UMBRA_MM_PERMISSION_H
#define UMBRA_MM_PERMISSION_H

#include "arch/types.h"
#include "mm/paging-role.h"
#include "mm/rights.h"

struct permission {
    u64 faults[ACCESS_KINDS]; /* bit n: the access faults if the accumulated rights are n */
    /*
     * Protection keys, SDM vol. 3A 4.6.2: PKRU or PKRS, selected by the lowest three bits of the rights
     * (RIGHT_U decides), 0 while the CR4 bit is off; and which of a key's two bits (AD, WD) forbid this kind
     * of access.
     */
    u32 keys[8];
    u8 key_bits[ACCESS_KINDS];
};

/*
 * Rules, for each of the 32 access kinds and all 64 combinations of rights:
 *
 * Guest formats, SDM vol. 3A 4.6.1, data accesses without SHADOW_STACK:
 *   all: RIGHT_R is needed. User: RIGHT_U is needed; a write needs RIGHT_W. Supervisor: a write needs RIGHT_W
 *   if WP; with SMAP a page with RIGHT_U faults unless ACCESS_AC.
 * Guest formats, fetches: RIGHT_R; RIGHT_X if NXE; user: RIGHT_U; supervisor with SMEP: no RIGHT_U.
 * Guest formats, shadow-stack accesses, read or write: CET, RIGHT_R, RIGHT_SS, and RIGHT_U exactly if the
 *   access is a user's. Neither WP nor SMAP matters.
 * NPT: R; a write needs W; a fetch needs X (if NXE). Without GMET every access needs U. With GMET U matters
 *   only to fetches: with U set they fault unless ACCESS_USER (CPL 3). SHADOW_STACK and AC change nothing.
 * EPT, SDM vol. 3C 29.3.3.2: a read needs R; a write needs W; a fetch needs X, or with MBEC and ACCESS_USER
 * XU instead. A shadow-stack access with ACCESS_USER or without EPT_SSS is a read or write like any other; a
 *   supervisor's with EPT_SSS needs R and SS, and no W.
 * PAGING_NONE: nothing faults.
 * Excluded kinds: FETCH together with other bits is a fetch: WRITE, SHADOW_STACK and AC are ignored. AC
 *   together with USER is ignored.
 */
void permission_init(struct permission *permission, struct paging_role role);

/*
 * The protection-key registers in force; each counts only if the role has PKU or PKS. To be called again when
 * the guest changes one. They are not part of the role since no table's meaning depends on them.
 */
void permission_set_keys(struct permission *permission, struct paging_role role, u32 pkru, u32 pkrs);

/*
 * Does the protection key (0 to 15) of the page forbid the access? Data accesses only. AD forbids all, WD
 * forbids writes: a user's always, a supervisor's if WP (SDM vol. 3A 4.6.2). This is bit 5 of a #PF error
 * code too, which is set whether or not the rights would have denied the access (4.7).
 */
static inline bool permission_key_faults(const struct permission *permission, unsigned access,
                                         unsigned rights, unsigned key)
{
    return (permission->keys[rights & 7] >> (2 * key) & permission->key_bits[access]) != 0;
}

/* The same without the keys: for formats that have none. */
static inline bool permission_rights_fault(const struct permission *permission, unsigned access,
                                           unsigned rights)
{
    return (permission->faults[access] >> rights & 1) != 0;
}

/* Is the access (enum access) to a page of these accumulated rights and this key a fault? */
static inline bool permission_faults(const struct permission *permission, unsigned access, unsigned rights,
                                     unsigned key)
{
    return permission_rights_fault(permission, access, rights) ||
           permission_key_faults(permission, access, rights, key);
}

#endif
