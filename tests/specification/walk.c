/* SPDX-License-Identifier: MIT */
/*
 * Translation by one hierarchy of tables, entry by entry: SDM 4.3 to 4.8 for linear addresses, SDM 29.3.2
 * to 29.3.5 and APM 15.25 for guest-physical ones. Memory is not changed: the flags that the CPU would set
 * come back as a list.
 */
#include "tests/specification/specification.h"

/* How far the entries led: all the way, or to the last one of the path, which is not present or not valid. */
enum descent { DESCENT_LEAF, DESCENT_NOT_PRESENT, DESCENT_RESERVED, DESCENT_NO_MEMORY };

bool spec_read(const struct spec_memory *memory, const struct spec_flag_sets *flags, u64 address,
               unsigned bytes, u64 *value)
{
    if (!memory->read(memory->context, address, bytes, value))
        return false;
    for (unsigned i = 0; flags != NULL && i < flags->count; i++) {
        if (flags->set[i].address == address)
            *value |= flags->set[i].bits;
        if (bytes == 8 && flags->set[i].address == address + 4)
            *value |= (u64)flags->set[i].bits << 32;
    }
    return true;
}

void spec_set_flags(const struct spec_memory *memory, struct spec_flag_sets *flags, u64 address, u32 bits)
{
    u64 now = 0;

    if (flags == NULL)
        return;
    if (!spec_read(memory, flags, address, 4, &now) || (now & bits) == bits)
        return;
    if (flags->count < SPEC_FLAG_SETS_MAX)
        flags->set[flags->count++] = (struct spec_flag_set){.address = address, .bits = bits};
}

/* SDM 4.8: the accessed flag is bit 5 and the dirty flag bit 6; a PAE PDPTE has neither (table 4-8). */
static void set_accessed_dirty(const struct spec_paging *paging, const struct spec_memory *memory,
                               const struct spec_path *path, bool write, struct spec_flag_sets *flags)
{
    for (unsigned i = 0; i < path->count; i++) {
        bool leaf = i + 1 == path->count;

        if (paging->format == SPEC_PAE && path->step[i].level == 3)
            continue;
        spec_set_flags(memory, flags, path->step[i].address, leaf && write ? 0x60 : 0x20);
    }
}

/* SDM 29.3.5: in EPT, if EPTP bit 6 is 1, bit 8 is the accessed and bit 9 the dirty flag. */
static void set_ept_accessed_dirty(const struct spec_memory *memory, const struct spec_path *path, bool write,
                                   struct spec_flag_sets *flags)
{
    for (unsigned i = 0; i < path->count; i++) {
        bool leaf = i + 1 == path->count;

        spec_set_flags(memory, flags, path->step[i].address, leaf && write ? 0x300 : 0x100);
    }
}

/* One entry: from the PDPTE registers (SDM 4.4.1), or from memory. */
static bool read_entry(const struct spec_paging *paging, const struct spec_memory *memory,
                       const struct spec_flag_sets *flags, u64 table, unsigned level, u64 address,
                       struct spec_path *path)
{
    u64 index = spec_index(paging->format, level, address);
    u64 where = table + index * spec_entry_bytes(paging->format);
    bool loaded = paging->format == SPEC_PAE && level == 3 && paging->pdpte_loaded;
    u64 entry = 0;

    if (loaded) {
        entry = paging->pdpte[index];
        where = 0;
    } else if (!spec_read(memory, flags, where, spec_entry_bytes(paging->format), &entry)) {
        return false;
    }
    path->step[path->count].address = where;
    path->step[path->count].entry = entry;
    path->step[path->count].level = level;
    path->step[path->count].loaded = loaded;
    path->count++;
    return true;
}

/*
 * Is the entry invalid? A PDPTE register was checked when it was loaded (SDM 4.4.1), so a walk checks nothing
 * there; in memory it is checked when it is used (APM 15.25.10).
 */
static bool entry_invalid(const struct spec_paging *paging, unsigned level, u64 entry, bool loaded)
{
    if (loaded)
        return false;
    if (spec_is_ept(paging->format))
        return spec_ept_misconfigured(paging, level, entry);
    return (entry & spec_reserved_bits(paging, level, entry)) != 0;
}

/*
 * SDM 29.3.3.3, item 1, and SDM 4.7: at each entry "present" is looked at first, then reserved bits or
 * configuration; rights are evaluated only when the leaf has been reached. An entry that is not present has
 * no reserved bits.
 */
static enum descent descend(const struct spec_paging *paging, const struct spec_memory *memory,
                            const struct spec_flag_sets *flags, u64 address, struct spec_translation *out)
{
    u64 table = spec_root_table(paging);

    for (unsigned level = spec_levels(paging->format); level >= 1; level--) {
        u64 entry, page_size;

        if (!read_entry(paging, memory, flags, table, level, address, &out->path))
            return DESCENT_NO_MEMORY;
        entry = out->path.step[out->path.count - 1].entry;
        if (!spec_present(paging, level, entry))
            return DESCENT_NOT_PRESENT;
        if (entry_invalid(paging, level, entry, out->path.step[out->path.count - 1].loaded))
            return DESCENT_RESERVED;
        table = spec_entry_address(paging, level, entry);
        if (!spec_maps_page(paging, level, entry))
            continue;
        page_size = spec_entry_page_size(paging->format, level);
        out->page_size = page_size;
        out->address = table + address % page_size;
        return DESCENT_LEAF;
    }
    return DESCENT_NO_MEMORY; /* not reached: level 1 always maps a page */
}

static void page_fault(const struct spec_paging *paging, const struct spec_access *access,
                       enum descent descent, struct spec_translation *out)
{
    out->result = SPEC_PAGE_FAULT;
    out->code = spec_page_fault_code(paging, access, &out->path, descent != DESCENT_NOT_PRESENT,
                                     descent == DESCENT_RESERVED);
}

/*
 * SDM 4.1 to 4.7. With CR0.PG = 0 a linear address is the physical one, and counts as a user-mode, writable,
 * executable address (table 28-7).
 */
struct spec_translation spec_walk_entries(const struct spec_paging *paging, const struct spec_memory *memory,
                                          u64 linear, const struct spec_access *access,
                                          const struct spec_flag_sets *flags)
{
    struct spec_translation out = {.result = SPEC_TRANSLATED};
    enum descent descent;

    if (paging->format == SPEC_NO_PAGING) {
        out.address = linear;
        out.user_address = true;
        out.writable = true;
        return out;
    }
    descent = descend(paging, memory, flags, linear, &out);
    if (descent == DESCENT_NO_MEMORY) {
        out.result = SPEC_NO_MEMORY;
        return out;
    }
    if (descent != DESCENT_LEAF || !spec_permission_guest(paging, access, &out.path)) {
        page_fault(paging, access, descent, &out);
        return out;
    }
    out.user_address = spec_path_user(paging, &out.path);
    out.writable = spec_path_writable(paging, &out.path);
    out.execute_disabled = spec_path_execute_disabled(paging, &out.path);
    return out;
}

/*
 * SDM 4.8: the accessed flag is set in every entry that the translation used, the dirty flag in the leaf for
 * a write. An access that faults sets none here: what a faulting access sets is model specific.
 */
struct spec_translation spec_walk(const struct spec_paging *paging, const struct spec_memory *memory,
                                  u64 linear, const struct spec_access *access, struct spec_flag_sets *flags)
{
    struct spec_translation out = spec_walk_entries(paging, memory, linear, access, flags);

    if (out.result == SPEC_TRANSLATED)
        set_accessed_dirty(paging, memory, &out.path, access->kind == SPEC_WRITE, flags);
    return out;
}

/*
 * SDM 29.3.3.3: not present: EPT violation; misconfigured: EPT misconfiguration; a right is missing: EPT
 * violation. SDM 29.3.2: 4-level EPT translates 48 bits; an address beyond them is an EPT violation without
 * any entry.
 */
static void translate_ept(const struct spec_second *second, const struct spec_memory *memory, u64 gpa,
                          const struct spec_second_access *access, struct spec_flag_sets *flags,
                          struct spec_translation *out)
{
    const struct spec_paging *ept = &second->tables;
    bool beyond = gpa >> spec_address_bits(ept->format) != 0;
    enum descent descent = beyond ? DESCENT_NOT_PRESENT : descend(ept, memory, flags, gpa, out);

    if (descent == DESCENT_NO_MEMORY) {
        out->result = SPEC_NO_MEMORY;
    } else if (descent == DESCENT_RESERVED) {
        out->result = SPEC_EPT_MISCONFIGURATION;
    } else if (descent == DESCENT_NOT_PRESENT || !spec_permission_ept(ept, access, &out->path)) {
        out->result = SPEC_EPT_VIOLATION;
        out->qualification = spec_ept_qualification(second, access, &out->path, descent == DESCENT_LEAF,
                                                    &out->qualification_undefined);
    } else if (ept->ept_ad) {
        set_ept_accessed_dirty(memory, &out->path, access->kind == SPEC_WRITE || access->guest_table, flags);
    }
}

/*
 * APM 15.25.3 to 15.25.6: the nested tables have the host's format; every fault is a #NPF. A guest-page-table
 * access is a write, so it sets the dirty flag. A guest-physical address beyond what the host's format
 * translates is not present.
 */
static void translate_npt(const struct spec_second *second, const struct spec_memory *memory, u64 gpa,
                          const struct spec_second_access *access, struct spec_flag_sets *flags,
                          struct spec_translation *out)
{
    const struct spec_paging *npt = &second->tables;
    bool beyond = gpa >> spec_address_bits(npt->format) != 0;
    enum descent descent = beyond ? DESCENT_NOT_PRESENT : descend(npt, memory, flags, gpa, out);

    if (descent == DESCENT_NO_MEMORY) {
        out->result = SPEC_NO_MEMORY;
    } else if (descent != DESCENT_LEAF || !spec_permission_npt(npt, access, &out->path)) {
        out->result = SPEC_NPF;
        out->exitinfo1 =
            spec_npf_exitinfo1(npt, access, descent != DESCENT_NOT_PRESENT, descent == DESCENT_RESERVED);
    } else {
        set_accessed_dirty(npt, memory, &out->path, access->kind == SPEC_WRITE || access->guest_table, flags);
    }
}

struct spec_translation spec_walk_second(const struct spec_second *second, const struct spec_memory *memory,
                                         u64 gpa, const struct spec_second_access *access,
                                         struct spec_flag_sets *flags)
{
    struct spec_translation out = {.result = SPEC_TRANSLATED, .gpa = gpa};

    if (second->kind == SPEC_SECOND_EPT)
        translate_ept(second, memory, gpa, access, flags, &out);
    else if (second->kind == SPEC_SECOND_NPT)
        translate_npt(second, memory, gpa, access, flags, &out);
    else
        out.address = gpa;
    return out;
}
