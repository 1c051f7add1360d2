/* SPDX-License-Identifier: MIT */
/*
 * Umbra's own second-level ("two-dimensional paging") tables, EPT or NPT: an identity map of what the guest
 * owns, with execute permission for supervisor and user kept apart where the CPU has MBEC or GMET. Pure:
 * tables are reached through mm/phys.h, frames come from mm/frame.h, and flushing is asked for, never done,
 * here. Locking: each function takes the map's own lock, for work whose length no guest decides; two changes
 * that belong together, and a change with its flush, are the caller's to serialise.
 */
#ifndef UMBRA_MM_TDP_H
#define UMBRA_MM_TDP_H

#include "arch/atomic.h"
#include "arch/types.h"
#include "mm/mtrr.h"
#include "mm/paging-format.h"

enum tdp_format { TDP_EPT, TDP_NPT };

/* Access vocabulary of both formats: docs/architecture.md, "Second-level tables". */
enum tdp_access {
    TDP_R = 1,
    TDP_W = 2,
    TDP_XS = 4, /* fetch by supervisor */
    TDP_XU = 8, /* fetch by user */
    TDP_RWX = 15,
};

struct tdp_config {
    enum tdp_format format;
    bool mode_based_execute; /* EPT: MBEC is on; NPT: GMET is on */
    bool execute_only;       /* EPT: R=0 with XS or XU is legal */
    bool accessed_dirty;     /* EPT A/D flags are enabled in the EPTP; NPT always has them */
    bool page_1g;
    unsigned maxphyaddr; /* bits, as the CPU reports; 4 levels translate at most 48 */
};

struct tdp {
    struct tdp_config config;
    struct spinlock lock;
    hpa_t root; /* the PML4 table; EPTP and nCR3 are composed from it by the vendor */
    /*
     * A present entry has changed: some TLB may hold what is now wrong. The vendor flushes every CPU's
     * translations of this tdp before it enters a guest again, and then calls tdp_flushed(). What only was
     * not present before needs no flush.
     */
    bool flush_pending;
    /*
     * Counts whenever what a present entry translated to has changed, or a table that was tracked may be
     * gone: whatever was derived from this map, and each address that tdp_track() gave, is void then.
     */
    u64 changes;
    u64 wakes; /* counts before a page that is asleep can be written again */
    /* Frames of tables that were unlinked; freed after a flush. A list through the frames' first word. */
    u64 retired;
};

enum tdp_status {
    TDP_OK,
    TDP_NO_MEMORY, /* the frame pool is empty; all is as it was (tdp_retype: some types may be changed) */
    TDP_BAD_RANGE, /* unaligned, empty, beyond MAXPHYADDR or 48 bits */
    TDP_UNREPRESENTABLE, /* this format cannot say that access or type; see tdp_map */
    TDP_NOT_MAPPED,      /* tdp_protect met a hole; all is as it was */
};

/*
 * An empty map. TDP_NO_MEMORY if there is no frame for the root. After any TDP_NO_MEMORY with flush_pending
 * set, a flush and tdp_flushed() may give back enough frames to try again.
 */
enum tdp_status tdp_init(struct tdp *tdp, const struct tdp_config *config);

/*
 * Maps guest-physical [start, end) to the same host-physical addresses, or to `target` onwards if given by
 * tdp_map_to, in the largest pages that alignment and config allow. Replaces what was there. Access 0 unmaps.
 * `type` is the memory type for EPT leaves; NPT leaves are always PAT entry 0 (write-back), MTRRs apply to
 * them. TDP_UNREPRESENTABLE: write or (without `execute_only`, and always in NPT) fetch, but no read; without
 * `mode_based_execute`, a fetch by one of supervisor and user; in NPT, a fetch by the supervisor alone; in
 * EPT, a type that is none.
 */
enum tdp_status tdp_map(struct tdp *tdp, u64 start, u64 end, unsigned access, enum memory_type type);
enum tdp_status tdp_map_to(struct tdp *tdp, u64 start, u64 end, u64 target, unsigned access,
                           enum memory_type type);
enum tdp_status tdp_unmap(struct tdp *tdp, u64 start, u64 end);

/*
 * Changes the access of mapped [start, end) at 4-KByte granularity, splitting and (where all entries agree
 * again) merging; target, type, accessed and dirty flags are kept. Access 0 unmaps: only tdp_map brings such
 * pages back.
 */
enum tdp_status tdp_protect(struct tdp *tdp, u64 start, u64 end, unsigned access);

/*
 * Gives all mapped memory in [start, end) the type that the MTRRs give to its guest-physical address; access
 * is kept and holes stay. EPT only; NPT: nothing to do. Each uniform piece changes as a whole or not at all.
 */
enum tdp_status tdp_retype(struct tdp *tdp, u64 start, u64 end, const struct mtrr_state *mtrr);

struct tdp_leaf {
    bool present;
    u64 target; /* host-physical address that `gpa` translates to */
    u64 size;   /* of the page, or of the hole, in bytes: 4 KByte, 2 MByte, 1 GByte, 512 GByte */
    unsigned access;
    enum memory_type type;
    u64 entry;      /* as it stands in the table */
    unsigned level; /* 1 = 4 KByte */
};
struct tdp_leaf tdp_lookup(struct tdp *tdp, gpa_t gpa);

/*
 * Whether a 4-KByte page of the guest is written: gives the page an entry of its own, splitting what is
 * larger (at most two frames), and returns where it stands: valid until `changes` counts. NULL if the CPU
 * keeps no dirty flags, the page is not mapped, or there is no frame. The mapping itself stays. The parts of
 * a page that was split count as dirty.
 */
u64 *tdp_track(struct tdp *tdp, gpa_t page);

/* Was the page of that entry written since the last clear? Accesses of Umbra and of devices do not count. */
static inline bool tdp_is_dirty(const struct tdp *tdp, const u64 *entry)
{
    return (atomic_peek(entry) & (tdp->config.format == TDP_NPT ? PTE_D : EPTE_D)) != 0;
}

/*
 * Clears the flag. TLBs, of each CPU, may hold that the page is dirty already: flush_pending is set, and what
 * is written before all of them are flushed may go unseen. False, and nothing is written, if `changes` has
 * counted on: the entry is void then.
 */
bool tdp_clear_dirty(struct tdp *tdp, u64 *entry, u64 changes);

/*
 * The page of an entry that tdp_track() gave is write-protected until its first write, as if it were not: its
 * access stays what it is, and `changes` counts nothing. flush_pending is set: until all TLBs are flushed,
 * writes may go on, but for the first of them the dirty flag is set. Nothing happens if `changes` has counted
 * on.
 */
void tdp_sleep(struct tdp *tdp, u64 *entry, u64 changes);
/* After a violation by a write: true if that was why, and the access is to be made again. No flush is owed.
 */
bool tdp_wake(struct tdp *tdp, gpa_t page);

/*
 * Around a flush of every CPU's translations of this tdp: what was changed or retired after the first call is
 * not part of it. The second call gives frames back to the pool; it takes what the first returned.
 */
u64 tdp_flush_begins(struct tdp *tdp);
void tdp_flush_ends(u64 retired);
/* Both in one: no translation of this tdp can be in use. */
void tdp_flushed(struct tdp *tdp);

#endif
