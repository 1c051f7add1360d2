/* SPDX-License-Identifier: MIT */
/*
 * The one way to guest memory. Each call checks that all its bytes are RAM of the guest (guest_read: or the
 * ROM area below 1 MByte): never Umbra's own region, never a device, never beyond memory. Guest-physical and
 * host-physical addresses are the same by Umbra's identity map; this file is the only one that relies on it.
 * Contents are the guest's and may change between two reads.
 */
#ifndef UMBRA_MM_GUEST_MEM_H
#define UMBRA_MM_GUEST_MEM_H

#include "arch/types.h"

enum guest_mem_status {
    GUEST_MEM_OK,
    GUEST_MEM_NOT_OWNED, /* empty, wrapping, or some byte is not RAM of the guest; nothing was read or written
                          */
    GUEST_MEM_MISALIGNED, /* of a single load only; nothing was read */
};

/* Copies `bytes` bytes, not atomically, between dst or src in Umbra and the guest's memory. Needs no lock. */
enum guest_mem_status guest_read(gpa_t source, void *dst, size_t bytes);
enum guest_mem_status guest_write(gpa_t target, const void *src, size_t bytes);

/*
 * Where `bytes` bytes of the guest's RAM, inside one page, can be read again and again without a new check:
 * valid for ever, since what the guest owns does not change after boot. NULL if they are not all RAM of the
 * guest.
 */
const void *guest_view(gpa_t source, size_t bytes);
/* The same for reading and writing the whole page that starts at `page`; NULL also if none starts there. */
void *guest_page(gpa_t page);

/* One load, not torn and never repeated: for paging-structure entries, which the guest may change meanwhile.
 */
enum guest_mem_status guest_load_u32(gpa_t source, u32 *value);
enum guest_mem_status guest_load_u64(gpa_t source, u64 *value);

#endif
