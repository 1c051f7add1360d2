/* SPDX-License-Identifier: MIT */
/*
 * Access rights of linear addresses: SDM 4.6 and 4.7, APM 5.6 and 8.4.2, a function for each rule.
 */
#include "tests/specification/specification.h"

/*
 * SDM 4.6.1: an access at CPL 3 is a user-mode access, at CPL 0..2 a supervisor-mode access; implicit
 * accesses to system data structures are supervisor-mode at any CPL, and WRUSS makes a user-mode access at
 * any CPL.
 */
bool spec_user_mode_access(const struct spec_access *access)
{
    if (access->implicit)
        return false;
    if (access->wruss)
        return true;
    return access->cpl == 3;
}

/* SDM table 4-8: a PAE PDPTE has no R/W, U/S or XD flag; it neither allows nor forbids. */
static bool has_rights(const struct spec_paging *paging, unsigned level)
{
    return !(paging->format == SPEC_PAE && level == 3);
}

/* SDM 4.6.1: a user-mode address has U/S (bit 2) = 1 in every entry that controls its translation. */
bool spec_path_user(const struct spec_paging *paging, const struct spec_path *path)
{
    for (unsigned i = 0; i < path->count; i++)
        if (has_rights(paging, path->step[i].level) && (path->step[i].entry & 0x4) == 0)
            return false;
    return true;
}

/* SDM 4.6.1: "the R/W flag (bit 1) is 1 in every paging-structure entry controlling the translation". */
bool spec_path_writable(const struct spec_paging *paging, const struct spec_path *path)
{
    for (unsigned i = 0; i < path->count; i++)
        if (has_rights(paging, path->step[i].level) && (path->step[i].entry & 0x2) == 0)
            return false;
    return true;
}

/*
 * SDM 4.6.1: XD (bit 63) set in any entry, with EFER.NXE = 1 and a format with 8-byte entries; 32-bit paging
 * has none.
 */
bool spec_path_execute_disabled(const struct spec_paging *paging, const struct spec_path *path)
{
    if (!paging->nxe || paging->format == SPEC_32BIT)
        return false;
    for (unsigned i = 0; i < path->count; i++)
        if (has_rights(paging, path->step[i].level) && path->step[i].entry >> 63 != 0)
            return true;
    return false;
}

/*
 * SDM 4.6.1: with CR4.CET = 1 an address is a shadow-stack address if in the entry that maps the page R/W is
 * 0 and the dirty flag (bit 6) is 1, and R/W is 1 in every other entry that controls the translation.
 */
bool spec_path_shadow_stack(const struct spec_paging *paging, const struct spec_path *path)
{
    if (!paging->cet || path->count == 0)
        return false;
    for (unsigned i = 0; i + 1 < path->count; i++)
        if (has_rights(paging, path->step[i].level) && (path->step[i].entry & 0x2) == 0)
            return false;
    return (path->step[path->count - 1].entry & 0x42) == 0x40;
}

/*
 * SDM 4.6.2 (APM 5.6.7): in 4- and 5-level paging the leaf's bits 62:59 are the page's protection key.
 * CR4.PKE applies PKRU to user-mode addresses, CR4.PKS applies IA32_PKRS to supervisor-mode addresses;
 * instruction fetches are not affected. ADi (bit 2i) forbids every data access. WDi (bit 2i+1) forbids
 * user-mode writes, and supervisor-mode writes if CR0.WP = 1. The mode is that of the *address*; the access
 * may be of either mode.
 */
bool spec_key_denies(const struct spec_paging *paging, const struct spec_access *access,
                     const struct spec_path *path)
{
    bool user_address = spec_path_user(paging, path);
    u32 rights = user_address ? paging->pkru : paging->pkrs;
    unsigned key;

    if (paging->format != SPEC_LONG4 && paging->format != SPEC_LONG5)
        return false;
    if (user_address ? !paging->pke : !paging->pks)
        return false;
    if (access->kind == SPEC_FETCH || path->count == 0)
        return false;
    key = (unsigned)(path->step[path->count - 1].entry >> 59) & 0xF;
    if ((rights >> (2 * key) & 1) != 0)
        return true;
    return access->kind == SPEC_WRITE && (rights >> (2 * key + 1) & 1) != 0 &&
           (spec_user_mode_access(access) || paging->wp);
}

/*
 * SDM 4.6.1, SMAP: with CR4.SMAP = 1 a supervisor-mode data access to a user-mode address is allowed only if
 * it is explicit and EFLAGS.AC = 1.
 */
static bool smap_allows(const struct spec_paging *paging, const struct spec_access *access)
{
    return !paging->smap || (access->ac && !access->implicit);
}

/*
 * SDM 4.6.1, supervisor-mode data accesses: reads from any supervisor-mode address, and from a user-mode
 * address as SMAP allows; writes likewise, and with CR0.WP = 1 only where R/W is 1 throughout.
 */
static bool supervisor_data_allowed(const struct spec_paging *paging, const struct spec_access *access,
                                    const struct spec_path *path)
{
    if (spec_path_user(paging, path) && !smap_allows(paging, access))
        return false;
    if (access->kind == SPEC_WRITE && paging->wp && !spec_path_writable(paging, path))
        return false;
    return true;
}

/* SDM 4.6.1: user-mode data accesses reach only user-mode addresses, and write only where R/W is 1
 * throughout. */
static bool user_data_allowed(const struct spec_paging *paging, const struct spec_access *access,
                              const struct spec_path *path)
{
    if (!spec_path_user(paging, path))
        return false;
    return access->kind != SPEC_WRITE || spec_path_writable(paging, path);
}

/*
 * SDM 4.6.1, instruction fetches: never from an execute-disabled address; user-mode ones only from user-mode
 * addresses; supervisor-mode ones from a user-mode address only if CR4.SMEP = 0.
 */
static bool fetch_allowed(const struct spec_paging *paging, const struct spec_access *access,
                          const struct spec_path *path)
{
    if (spec_path_execute_disabled(paging, path))
        return false;
    if (spec_user_mode_access(access))
        return spec_path_user(paging, path);
    return !(paging->smep && spec_path_user(paging, path));
}

/*
 * SDM 4.6.1, shadow-stack accesses: only to shadow-stack addresses, and only to those of the access's own
 * mode.
 */
static bool shadow_stack_allowed(const struct spec_paging *paging, const struct spec_access *access,
                                 const struct spec_path *path)
{
    return spec_path_shadow_stack(paging, path) &&
           spec_path_user(paging, path) == spec_user_mode_access(access);
}

/* SDM 4.6: all rules of the access's kind must allow it, and the protection key too. */
bool spec_permission_guest(const struct spec_paging *paging, const struct spec_access *access,
                           const struct spec_path *path)
{
    if (access->kind == SPEC_FETCH)
        return fetch_allowed(paging, access, path);
    if (spec_key_denies(paging, access, path))
        return false;
    if (access->shadow_stack)
        return shadow_stack_allowed(paging, access, path);
    if (spec_user_mode_access(access))
        return user_data_allowed(paging, access, path);
    return supervisor_data_allowed(paging, access, path);
}

/*
 * SDM 4.7 (APM 8.4.2). P 0: there was a translation, or a reserved bit spoiled it; W/R 1: a write; U/S 2: a
 * user-mode access; RSVD 3; I/D 4: a fetch, with CR4.SMEP = 1, or with EFER.NXE = 1 and CR4.PAE = 1; PK 5: a
 * data access that the key of an existing translation forbids, whatever else forbids it too; SS 6: a
 * shadow-stack access.
 */
u32 spec_page_fault_code(const struct spec_paging *paging, const struct spec_access *access,
                         const struct spec_path *path, bool present, bool reserved)
{
    u32 code = 0;

    if (present)
        code |= 0x01;
    if (access->kind == SPEC_WRITE)
        code |= 0x02;
    if (spec_user_mode_access(access))
        code |= 0x04;
    if (reserved)
        code |= 0x08;
    if (access->kind == SPEC_FETCH && (paging->smep || (paging->nxe && paging->format != SPEC_32BIT)))
        code |= 0x10;
    if (present && !reserved && spec_key_denies(paging, access, path))
        code |= 0x20;
    if (access->shadow_stack)
        code |= 0x40;
    return code;
}
