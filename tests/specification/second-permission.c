/* SPDX-License-Identifier: MIT */
/*
 * Access rights of guest-physical addresses: EPT by SDM 29.3.3 and table 28-7, NPT by APM 15.25, a function
 * for each rule.
 */
#include "tests/specification/specification.h"

/* The AND of one bit over the entries of the walk. */
static bool all_entries(const struct spec_path *path, u64 bit)
{
    for (unsigned i = 0; i < path->count; i++)
        if ((path->step[i].entry & bit) == 0)
            return false;
    return true;
}

/*
 * SDM 29.3.3.2: with EPTP bit 6 (accessed and dirty flags) an access to a guest paging-structure entry is
 * treated as a write as well; without, it is a read, and setting a flag in the entry is a write of its own.
 */
static bool ept_counts_as_write(const struct spec_paging *ept, const struct spec_second_access *access)
{
    return access->kind == SPEC_WRITE || (access->guest_table && ept->ept_ad);
}

/*
 * SDM 29.3.3.2, MBEC: a fetch needs bit 2 in every entry if the linear address is a supervisor-mode one, bit
 * 10 if it is a user-mode one. Without MBEC bit 2 counts for both.
 */
static bool ept_fetch_allowed(const struct spec_paging *ept, const struct spec_second_access *access,
                              const struct spec_path *path)
{
    return all_entries(path, ept->mbec && access->linear_user ? 0x400 : 0x4);
}

/*
 * SDM 29.3.3.2, EPTP bit 7: a supervisor shadow-stack access is allowed if bit 60 of the leaf is 1, bit 0 of
 * every entry, and bit 1 of every entry but the leaf. It does not need bit 1 of the leaf.
 */
static bool ept_supervisor_shadow_stack_allowed(const struct spec_path *path)
{
    for (unsigned i = 0; i < path->count; i++) {
        bool leaf = i + 1 == path->count;

        if ((path->step[i].entry & 0x1) == 0 || (!leaf && (path->step[i].entry & 0x2) == 0))
            return false;
        if (leaf && (path->step[i].entry >> 60 & 1) == 0)
            return false;
    }
    return true;
}

/* SDM 29.3.3.2: a read needs bit 0 in every entry, a write bit 1. */
bool spec_permission_ept(const struct spec_paging *ept, const struct spec_second_access *access,
                         const struct spec_path *path)
{
    if (access->kind == SPEC_FETCH)
        return ept_fetch_allowed(ept, access, path);
    if (access->supervisor_shadow_stack && ept->supervisor_shadow_stack)
        return ept_supervisor_shadow_stack_allowed(path);
    if (access->kind == SPEC_READ && !all_entries(path, 0x1))
        return false;
    return !ept_counts_as_write(ept, access) || all_entries(path, 0x2);
}

/*
 * Table 28-7, bits 2:0: read, write, fetch. An access to a guest paging-structure entry sets bits 0 and 1 if
 * EPT's accessed and dirty flags are on. Setting a flag in such an entry sets bit 1; it is a
 * read-modify-write, for which the manual leaves bit 0 to the CPU; kvm-unit-tests, right on Intel's, has it
 * set.
 */
static u64 qualification_access(const struct spec_paging *ept, const struct spec_second_access *access)
{
    if (access->guest_table && (ept->ept_ad || access->kind == SPEC_WRITE))
        return 0x3;
    return access->kind == SPEC_READ ? 0x1 : access->kind == SPEC_WRITE ? 0x2 : 0x4;
}

/*
 * Table 28-7, bits 6:3: the AND of bits 0, 1, 2 and 10 over the entries; all 0 if one of them was not
 * present. Bit 6 is undefined without MBEC; Umbra reports 0.
 */
static u64 qualification_rights(const struct spec_paging *ept, const struct spec_path *path, bool present)
{
    u64 bits = 0;

    if (!present)
        return 0;
    bits |= all_entries(path, 0x1) ? 0x08 : 0;
    bits |= all_entries(path, 0x2) ? 0x10 : 0;
    bits |= all_entries(path, 0x4) ? 0x20 : 0;
    bits |= ept->mbec && all_entries(path, 0x400) ? 0x40 : 0;
    return bits;
}

/*
 * Table 28-7, bits 9, 10, 11 ("advanced information"): the linear address is a user-mode address, is
 * writable, is execute-disabled; only for the final translation, else undefined.
 */
static u64 qualification_linear(const struct spec_second *second, const struct spec_second_access *access,
                                u64 *undefined)
{
    if (!second->advanced || access->guest_table) {
        *undefined |= 0xE00;
        return 0;
    }
    return (access->linear_user ? 0x200u : 0) | (access->linear_write ? 0x400u : 0) |
           (access->linear_nx ? 0x800u : 0);
}

/*
 * Table 28-7, bit 13: a shadow-stack access. Bit 14: bit 60 of the entry that maps the page, if EPTP bit 7 is
 * 1 and the walk came that far; else undefined.
 */
static u64 qualification_shadow_stack(const struct spec_paging *ept, const struct spec_second_access *access,
                                      const struct spec_path *path, bool present, u64 *undefined)
{
    u64 bits = access->shadow_stack ? 0x2000 : 0;

    if (!ept->supervisor_shadow_stack || !present) {
        *undefined |= 0x4000;
        return bits;
    }
    return bits | ((path->step[path->count - 1].entry >> 60 & 1) != 0 ? 0x4000u : 0);
}

/* Table 28-7. Bit 7: the linear address is valid; bit 8: the access is to its translation, not to a guest
 * table. */
u64 spec_ept_qualification(const struct spec_second *second, const struct spec_second_access *access,
                           const struct spec_path *path, bool present, u64 *undefined)
{
    *undefined = second->tables.mbec ? 0 : 0x40;
    return qualification_access(&second->tables, access) |
           qualification_rights(&second->tables, path, present) | 0x80u | (access->guest_table ? 0 : 0x100u) |
           qualification_linear(second, access, undefined) |
           qualification_shadow_stack(&second->tables, access, path, present, undefined);
}

/*
 * APM 15.25.5: accesses to guest page tables are user *writes* for the nested tables, whatever the guest's
 * access is. All others keep their kind.
 */
static enum spec_kind npt_kind(const struct spec_second_access *access)
{
    return access->guest_table ? SPEC_WRITE : access->kind;
}

/*
 * APM 15.25.5: every nested access is a user access, so U/S (bit 2) must be 1 in every entry. With GMET
 * (15.25.13) reads and writes ignore U/S, and a fetch at CPL < 3 must *not* find it 1 in every
 * entry.
 */
static bool npt_mode_allowed(const struct spec_paging *npt, const struct spec_second_access *access,
                             const struct spec_path *path)
{
    if (!npt->gmet)
        return spec_path_user(npt, path);
    if (npt_kind(access) == SPEC_FETCH && access->cpl < 3)
        return !spec_path_user(npt, path);
    return true;
}

/* APM 15.25.5: writes need R/W in every entry, as if CR0.WP were 1; fetches need NX clear in every entry. */
bool spec_permission_npt(const struct spec_paging *npt, const struct spec_second_access *access,
                         const struct spec_path *path)
{
    if (npt_kind(access) == SPEC_WRITE && !spec_path_writable(npt, path))
        return false;
    if (npt_kind(access) == SPEC_FETCH && spec_path_execute_disabled(npt, path))
        return false;
    return npt_mode_allowed(npt, access, path);
}

/*
 * APM 15.25.6. P 0, W 1, RSVD 3 as in 8.4.2. U 2: 1; with GMET and outside guest-table walks, CPL = 3
 * (15.25.13). I/D 4: a fetch, if the host has CR4.SMEP = 1, or EFER.NXE = 1 with a format that has NX.
 * SS 6. Bit 32: the final translation; bit 33: a guest page table.
 */
u64 spec_npf_exitinfo1(const struct spec_paging *npt, const struct spec_second_access *access, bool present,
                       bool reserved)
{
    u64 info = access->guest_table ? 1ull << 33 : 1ull << 32;

    if (present)
        info |= 0x01;
    if (npt_kind(access) == SPEC_WRITE)
        info |= 0x02;
    if (!npt->gmet || access->guest_table || access->cpl == 3)
        info |= 0x04;
    if (reserved)
        info |= 0x08;
    if (npt_kind(access) == SPEC_FETCH && (npt->smep || (npt->nxe && npt->format != SPEC_32BIT)))
        info |= 0x10;
    if (access->shadow_stack)
        info |= 0x40;
    return info;
}
