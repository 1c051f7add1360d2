/* SPDX-License-Identifier: MIT */
/*
 * Two-dimensional walks; see mm/walk.h: each entry of the first stage is found by a walk of the second.
 */
#include "mm/walk-general.h"

enum walk_status walk_host(const struct walk_second_stage *second, const struct paging_memory *memory,
                           u64 address, unsigned access, u64 supplied)
{
    struct walk *host = &second->result->host;
    enum walk_status status = second->mark
                                  ? walk_and_mark(second->paging, memory, second->root, address, access, host)
                                  : walk(second->paging, memory, second->root, address, access, host);

    if (unlikely(status != WALK_OK)) {
        second->result->stage = WALK_STAGE_HOST;
        host->fault.supplied = (u32)supplied;
    }
    return status;
}

static enum walk_status walk_first_stage(const struct walk_2d_tables *tables,
                                         const struct paging_memory *memory,
                                         const struct walk_second_stage *second, u64 linear, unsigned access)
{
    struct walk *guest = &second->result->guest;

    if (role_format(tables->guest->role) == PAGING_NONE)
        return walk_nothing(linear, guest);
    for (unsigned attempt = 0; attempt < WALK_ATTEMPTS; attempt++) {
        enum walk_status status =
            walk_general(tables->guest, memory, second, tables->guest_root, linear, access, guest);

        if (status != WALK_OK || !second->mark || !walk_owes_flags(tables->guest, guest, access))
            return status;
        status = walk_set_flags(tables->guest, memory, second, tables->guest_root, linear, access, guest);
        if (status != WALK_CONTENDED || second->result->stage == WALK_STAGE_HOST)
            return status;
    }
    return WALK_CONTENDED;
}

/* Bits 7 to 11 of the exit qualification for the access to the final address. */
static u64 final_supplied(unsigned guest_rights)
{
    return FAULT_LINEAR_VALID | FAULT_FINAL | ((guest_rights & RIGHT_U) != 0 ? FAULT_LINEAR_USER : 0) |
           ((guest_rights & RIGHT_W) != 0 ? FAULT_LINEAR_WRITE : 0) |
           ((guest_rights & RIGHT_X) == 0 ? FAULT_LINEAR_XD : 0);
}

static enum walk_status walk_two_stages(const struct walk_2d_tables *tables,
                                        const struct paging_memory *memory, u64 linear, unsigned access,
                                        bool mark, struct walk_2d *result)
{
    result->stage = WALK_STAGE_GUEST;
    struct walk_second_stage second = {tables->host, tables->host_root, mark, result};
    enum walk_status status = walk_first_stage(tables, memory, &second, linear, access);
    if (status != WALK_OK)
        return status;

    unsigned rights = result->guest.rights;
    result->guest_address = result->guest.address;
    status = walk_host(&second, memory, result->guest_address,
                       walk_final_access(tables->host, access, rights), final_supplied(rights));
    result->address = result->host.address;
    return status;
}

enum walk_status walk_2d(const struct walk_2d_tables *tables, const struct paging_memory *memory, u64 linear,
                         unsigned access, struct walk_2d *result)
{
    return walk_two_stages(tables, memory, linear, access, false, result);
}

enum walk_status walk_2d_and_mark(const struct walk_2d_tables *tables, const struct paging_memory *memory,
                                  u64 linear, unsigned access, struct walk_2d *result)
{
    return walk_two_stages(tables, memory, linear, access, true, result);
}
