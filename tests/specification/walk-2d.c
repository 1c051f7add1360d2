/* SPDX-License-Identifier: MIT */
/*
 * Translation of a guest linear address through the guest's tables and the second-level tables: SDM 29.3.3.3
 * (the order in which faults are found), APM 15.25.5.
 */
#include "tests/specification/specification.h"

/* What the guest walk's reads go through: each is an access to a guest-physical address of its own. */
struct guest_memory {
    const struct spec_second *second;
    const struct spec_memory *memory;
    struct spec_flag_sets *flags;
    const struct spec_access *access;
    enum spec_format format;        /* of the guest's tables */
    struct spec_translation nested; /* of the last entry read */
    u64 host[SPEC_LEVELS_MAX];      /* where each entry lies that was read, in order */
    unsigned reads;
};

/* SDM 29.3.3.2, APM 15.25.5: accesses to guest tables are data accesses of the CPU itself, for any guest
 * access. */
static struct spec_second_access table_access(enum spec_kind kind, const struct spec_access *access)
{
    return (struct spec_second_access){.kind = kind, .guest_table = true, .cpl = access->cpl};
}

/* SDM 29.3.3.3, "1. An attempt is made to access a guest paging-structure entry". */
static bool read_guest_entry(void *context, u64 gpa, unsigned bytes, u64 *value)
{
    struct guest_memory *guest = context;
    struct spec_second_access access = table_access(SPEC_READ, guest->access);

    guest->nested = spec_walk_second(guest->second, guest->memory, gpa, &access, guest->flags);
    if (guest->nested.result != SPEC_TRANSLATED)
        return false;
    if (guest->reads < SPEC_LEVELS_MAX)
        guest->host[guest->reads++] = guest->nested.address;
    if (spec_read(guest->memory, guest->flags, guest->nested.address, bytes, value))
        return true;
    guest->nested.result = SPEC_NO_MEMORY;
    return false;
}

/*
 * SDM 4.8 with 29.3.3.2: setting a flag in a guest's entry is a write to a guest-physical address, which EPT
 * may forbid: then an EPT violation follows. With EPT's own flags on, and in NPT, the read already counted as
 * a write.
 */
static bool set_guest_flag(struct guest_memory *guest, unsigned step, u64 gpa, u32 bits)
{
    bool read_was_write = guest->second->kind != SPEC_SECOND_EPT || guest->second->tables.ept_ad;
    struct spec_second_access access = table_access(SPEC_WRITE, guest->access);
    u64 now = 0;

    if (!spec_read(guest->memory, guest->flags, guest->host[step], 4, &now)) {
        guest->nested.result = SPEC_NO_MEMORY;
        return false;
    }
    if ((now & bits) == bits)
        return true;
    if (!read_was_write) {
        guest->nested = spec_walk_second(guest->second, guest->memory, gpa, &access, guest->flags);
        if (guest->nested.result != SPEC_TRANSLATED)
            return false;
    }
    spec_set_flags(guest->memory, guest->flags, guest->host[step], bits);
    return true;
}

/* Top to bottom: in each entry the accessed flag, in the leaf the dirty flag too. False: a nested fault. */
static bool set_guest_flags(const struct spec_path *path, bool write, struct guest_memory *guest)
{
    unsigned reads = 0;

    if (guest->flags == NULL)
        return true;
    for (unsigned i = 0; i < path->count; i++) {
        bool leaf = i + 1 == path->count;
        bool pae_pdpte = guest->format == SPEC_PAE && path->step[i].level == 3;

        if (!pae_pdpte && !set_guest_flag(guest, reads, path->step[i].address, leaf && write ? 0x60 : 0x20))
            return false;
        reads += path->step[i].loaded ? 0 : 1;
    }
    return true;
}

/*
 * The final access, SDM 29.3.3.3 item 2.b. MBEC asks for the mode of the linear *address* (SDM 29.3.3.2),
 * GMET for the CPL. A supervisor shadow-stack access is a shadow-stack access that is not a user-mode access.
 */
static struct spec_second_access final_access(const struct spec_access *access,
                                              const struct spec_translation *linear)
{
    return (struct spec_second_access){
        .kind = access->kind,
        .linear_user = linear->user_address,
        .linear_write = linear->writable,
        .linear_nx = linear->execute_disabled,
        .shadow_stack = access->shadow_stack,
        .supervisor_shadow_stack = access->shadow_stack && !spec_user_mode_access(access),
        .cpl = access->cpl,
    };
}

/*
 * Guest tables first, entry by entry, each through the second level; then the guest's rights (#PF); then the
 * guest's flags; then the final guest-physical address. A nested fault on the way ends everything and is the
 * result.
 */
struct spec_translation_2d spec_walk_2d(const struct spec_paging *guest, const struct spec_second *second,
                                        const struct spec_memory *memory, u64 linear,
                                        const struct spec_access *access, struct spec_flag_sets *flags)
{
    struct guest_memory through = {
        .second = second, .memory = memory, .flags = flags, .access = access, .format = guest->format};
    struct spec_memory guest_memory = {.context = &through, .read = read_guest_entry};
    struct spec_translation_2d out = {.final = false};
    struct spec_second_access final;

    out.guest = spec_walk_entries(guest, &guest_memory, linear, access, NULL);
    for (unsigned i = 0; i < through.reads; i++)
        out.entry_host[i] = through.host[i];
    out.whole = out.guest.result == SPEC_NO_MEMORY ? through.nested : out.guest;
    if (out.guest.result != SPEC_TRANSLATED)
        return out;
    if (!set_guest_flags(&out.guest.path, access->kind == SPEC_WRITE, &through)) {
        out.whole = through.nested;
        return out;
    }
    final = final_access(access, &out.guest);
    out.final = true;
    out.whole = spec_walk_second(second, memory, out.guest.address, &final, flags);
    return out;
}
