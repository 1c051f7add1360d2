/* SPDX-License-Identifier: MIT */
/*
 * From a guest linear address to a guest-physical one, and the bytes of the instruction at CS:RIP, for CPUs
 * that give neither with an exit. It only reads: no accessed or dirty flag is set, since the CPU did so
 * itself when it fetched the instruction that is fetched here again, and it checks no permission, for the
 * same reason.
 */
#ifndef UMBRA_MM_GUEST_WALK_H
#define UMBRA_MM_GUEST_WALK_H

#include "arch/decode.h"
#include "arch/types.h"

/* What translation and the fetch depend on, as the guest sees it. */
struct guest_paging {
    u64 cr0, cr3, cr4, efer;
    u64 cs_base;    /* linear address; not used in 64-bit mode */
    bool cs_long;   /* CS.L */
    bool cs_32_bit; /* CS.D */
};

enum guest_walk_status {
    GUEST_WALK_OK,
    GUEST_WALK_NON_CANONICAL,
    GUEST_WALK_NOT_PRESENT,
    GUEST_WALK_RESERVED, /* a large page where the format has none */
    GUEST_WALK_NO_TABLE, /* a paging structure lies outside the guest's memory */
};

/* CS.L counts only while EFER.LMA is 1 (SDM volume 3A, section 3.4.5; APM volume 2, section 4.8). */
enum decode_mode guest_decode_mode(const struct guest_paging *paging);

/*
 * Translates by the guest's paging mode: none, 32-bit (with PSE and PSE-36), PAE, 4-level or 5-level (SDM
 * volume 3A, chapter 4). The PDPTEs of PAE paging are read from memory at each walk, as SVM with nested
 * paging does (APM volume 2, section 15.25.10). *translated is set with GUEST_WALK_OK only; it is not checked
 * for being the guest's memory. Needs no lock.
 */
enum guest_walk_status guest_walk(const struct guest_paging *paging, gva_t address, gpa_t *translated);

/*
 * Copies up to `bytes` instruction bytes from CS:rip to dst and returns how many could be had: fewer than
 * asked for if a page after the first is not mapped, 0 if already the first is not, or if that memory is not
 * RAM of the guest. The CS limit is not checked.
 */
size_t guest_fetch(const struct guest_paging *paging, u64 rip, u8 *dst, size_t bytes);

#endif
