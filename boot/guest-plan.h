/* SPDX-License-Identifier: MIT */
/*
 * Where everything of a guest goes, decided in full before the first byte is moved. Sources (modules as the
 * boot loader left them) and destinations may overlap in any way; the plan orders the moves so that nothing
 * is overwritten that is still needed, with a detour through free memory only where moves wait for each other
 * in a circle.
 *
 * Invariants: taken ranges are RAM of the guest and disjoint; each destination, zero range and module that
 * stays where it is lies in one of them; nothing outside of them is written but free RAM, for detours.
 */
#ifndef UMBRA_BOOT_GUEST_PLAN_H
#define UMBRA_BOOT_GUEST_PLAN_H

#include "boot/elf.h"
#include "boot/guest.h"
#include "boot/span.h"

enum {
    PLAN_MOVES_MAX = ELF_SEGMENTS_MAX + BOOT_MODULES_MAX,
    PLAN_TAKEN_MAX = PLAN_MOVES_MAX + 4, /* and what the loaders build for the guest themselves */
    PLAN_NO_MODULE = BOOT_MODULES_MAX,
};

struct guest_move {
    u64 source, destination, bytes; /* physical */
};

struct guest_plan {
    const struct boot_info *info;
    const struct memmap *memory;
    char *sentence;
    size_t sentence_bytes;
    unsigned move_count, zero_count, taken_count, step_count;
    struct guest_move move[PLAN_MOVES_MAX]; /* plan_schedule() uses it up */
    struct mem_range zero[PLAN_MOVES_MAX];
    struct mem_range taken[PLAN_TAKEN_MAX];
    struct guest_move step[2 * PLAN_MOVES_MAX]; /* the moves in their order, detours included */
    u64 module_at[BOOT_MODULES_MAX];            /* where each of the guest's own modules will be */
    /* Read before anything moves: firmware's RSDP, else the loader's copy (then the address is 0), else 0
     * bytes. */
    u64 rsdp_address;
    unsigned rsdp_bytes;
    u8 rsdp[BOOT_RSDP_BYTES];
};

struct plan_request {
    u64 bytes, alignment;
    u64 floor, limit; /* the place starts at or above floor and ends at or below limit */
    bool highest;     /* rather than lowest */
    unsigned module;  /* the one that is to go there, PLAN_NO_MODULE if none */
};

/* Writes the sentence; returns `status`. */
enum guest_status plan_refuse(struct guest_plan *plan, enum guest_status status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* True, and taken, if all of it is RAM that nothing else has taken. */
bool plan_take(struct guest_plan *plan, u64 start, u64 bytes);

/* Finds and takes RAM, by preference where no module lies now, so that a move there needs no detour. */
bool plan_place(struct guest_plan *plan, const struct plan_request *request, u64 *start);

/* Both lie in taken ranges. The caller keeps to the maximum numbers of segments and modules. */
void plan_move(struct guest_plan *plan, u64 source, u64 destination, u64 bytes);
void plan_zero(struct guest_plan *plan, u64 start, u64 bytes);

/* Decides the order; false if a detour is needed and no free RAM is large enough. */
bool plan_schedule(struct guest_plan *plan);

/* Moves and fills; the first thing that changes memory. Spans over modules are invalid afterwards. */
void plan_execute(const struct guest_plan *plan);

/* The guest image as the boot loader left it. */
struct span plan_image(const struct guest_plan *plan);

/* One per kind of guest; `at` is the offset of its header. They return after plan_execute(), or refuse. */
enum guest_status linux_load(struct guest_plan *plan, struct start_state *start);
enum guest_status multiboot1_load(struct guest_plan *plan, u64 at, struct start_state *start);
enum guest_status multiboot2_load(struct guest_plan *plan, u64 at, struct start_state *start);

/* Does the image have the setup header of a Linux kernel? */
bool linux_recognise(struct span image);

enum header_search { HEADER_FOUND, HEADER_BAD_CHECKSUM, HEADER_NONE };

/* The offset of the first header with a right checksum; with HEADER_BAD_CHECKSUM, of the first magic number.
 */
enum header_search multiboot1_find_header(struct span image, u64 *header);
enum header_search multiboot2_find_header(struct span image, u64 *header);

#endif
