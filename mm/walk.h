/* SPDX-License-Identifier: MIT */
/*
 * The walker: from an address through paging structures of any format to a translation or a fault; and the
 * two-dimensional one, where the structures of the first stage are themselves reached through EPT or NPT.
 * Each entry is read exactly once, and every decision is made on the value read. Pure; needs no lock: what
 * changes under a walk is the guest's own race.
 */
#ifndef UMBRA_MM_WALK_H
#define UMBRA_MM_WALK_H

#include "mm/fault.h"
#include "mm/paging.h"

enum walk_status {
    WALK_OK,
    WALK_FAULT,      /* the architecture's answer; see walk.fault */
    WALK_NOT_MEMORY, /* a paging structure is not in RAM of the guest; see walk.entry[walk.level].address */
    WALK_CONTENDED,  /* A/D flags could not be set: the entries changed WALK_ATTEMPTS times in a row */
};

enum { WALK_ATTEMPTS = 8 };

struct walk_entry {
    u64 address; /* guest-physical of L1, where it was read; PDPTE from registers: ~0 */
    u64 value;   /* as it stands in memory after the walk: A/D flags that were set are in it */
};

/*
 * The result. With WALK_OK all is valid, but fault. With WALK_FAULT: fault, level, and the entries from the
 * root's level down to `level`. Entries of levels that were not reached are not written.
 */
struct walk {
    u64 address;    /* the translation, offset within the page included */
    u64 deviations; /* walk.c's: where the entries deviate from paging_plain_bits() */
    u64 leaf;       /* value of the entry that maps the page: memory type, PAT, G, SPP, suppress-#VE bits */
    u8 level;       /* of that entry: the page has paging_level_span() bytes. 0 for PAGING_NONE */
    u8 root_level;
    u8 rights; /* enum right, accumulated */
    u8 key;    /* protection key; 0 for formats without */
    struct walk_entry
        entry[PAGING_LEVELS_MAX + 1]; /* by level; valid for level..root_level; [0] is not used */
    struct fault fault;
};

/*
 * Translates `address` for an access (enum access) and checks permission; sets no flag in memory. `root` is
 * CR3, EPTP or nCR3: bits that are no address are ignored. Bits of `address` beyond the format's width are
 * ignored in guest formats (the caller has checked that it is canonical, or cut it to 32 bits); in EPT and
 * NPT (where roles have no such caller) they are FAULT_NOT_PRESENT with level = the root's + 1 and nothing
 * read.
 *
 * Priority: the first entry on the way down that is not present or has a reserved bit (EPT: is misconfigured)
 * decides; permission is checked after the leaf (SDM vol. 3A 4.7, vol. 3C 29.3.3.2). In 4- and 5-level
 * formats protection keys are checked, too.
 */
enum walk_status walk(const struct paging *paging, const struct paging_memory *memory, u64 root, u64 address,
                      unsigned access, struct walk *result);

/*
 * The same, and if there is no fault it sets the accessed flag in every entry used and, for a write, the
 * dirty flag in the leaf, each with compare-and-exchange against the value read (SDM vol. 3A 4.8;
 * EPT: 29.3.5, only with ROLE_EPT_AD). When an entry has changed meanwhile, it walks anew; flags set by then
 * stay set, which the architecture allows. A PDPTE of PAE has no flags.
 */
enum walk_status walk_and_mark(const struct paging *paging, const struct paging_memory *memory, u64 root,
                               u64 address, unsigned access, struct walk *result);

/* A guest's translation in two stages. */
struct walk_2d_tables {
    const struct paging *guest; /* first stage: a guest format, PAGING_NONE included */
    u64 guest_root;             /* CR3, an address that the second stage translates */
    const struct paging *host;  /* second stage: EPT or NPT role */
    u64 host_root;
};

enum walk_stage { WALK_STAGE_GUEST, WALK_STAGE_HOST };

struct walk_2d {
    u64 address;           /* the translation through both stages: guest-physical of L1 */
    u64 guest_address;     /* through the first stage: guest-physical of L2 */
    struct walk guest;     /* first stage; entry[].address is where the second stage found it (L1's) */
    struct walk host;      /* of the final address; or the one that failed with WALK_STAGE_HOST */
    enum walk_stage stage; /* WALK_FAULT and WALK_NOT_MEMORY: guest.fault or host.fault (.entry) tells */
};

/* What an access to a structure of the first stage is to the second, and what the final access is to it. */
static inline unsigned walk_table_access(const struct paging *host)
{
    if (!role_is_ept(host->role))
        return ACCESS_WRITE | ACCESS_USER;
    return role_has(host->role, ROLE_EPT_AD) ? ACCESS_WRITE : ACCESS_READ;
}

static inline unsigned walk_final_access(const struct paging *host, unsigned access, unsigned guest_rights)
{
    if (!role_is_ept(host->role))
        return access & ~(unsigned)ACCESS_AC;
    if ((access & ACCESS_FETCH) != 0)
        return ACCESS_FETCH | ((guest_rights & RIGHT_U) != 0 ? ACCESS_USER : 0);
    if ((access & ACCESS_SHADOW_STACK) != 0)
        return access & ~(unsigned)ACCESS_AC;
    return access & ACCESS_WRITE;
}

/*
 * Translates a linear address (canonical, LAM removed) for an access as the first stage's rules name it.
 * Second stage, SDM vol. 3C 29.3.3.2, APM vol. 2 15.25.6:
 * - every read of a guest entry: EPT a read, with A/D flags on a read and write; NPT a user's write;
 * - setting A/D in a guest entry (walk_2d_and_mark): EPT also a write, NPT nothing new;
 * - the final address: the access itself, with ACCESS_USER in EPT from the linear address's U/S for a fetch
 *   (user if paging is off), in NPT as given (CPL 3).
 * The order of faults is the CPU's: a fault on a guest entry, be it of either stage, comes before those of
 * entries further down; the guest's permission before A/D flags; these before the final address.
 * A host fault has `supplied` filled in. PDPTEs of registers (guest->pdptes) are not read.
 */
enum walk_status walk_2d(const struct walk_2d_tables *tables, const struct paging_memory *memory, u64 linear,
                         unsigned access, struct walk_2d *result);

/*
 * The same, and sets A/D flags in the guest's tables and, where enabled, in EPT or NPT. Flags of the second
 * stage may be set for structures used by a walk that ends in a fault.
 */
enum walk_status walk_2d_and_mark(const struct walk_2d_tables *tables, const struct paging_memory *memory,
                                  u64 linear, unsigned access, struct walk_2d *result);

#endif
