/* SPDX-License-Identifier: MIT */
/*
 * A world for the shadow MMU's tests: L1's memory with tables whose every entry remembers the values it had,
 * Umbra's own map, some L1 roots and roles on the same few frames, and hardware
 * (tests/unit/shadow-hardware.c) that caches whatever the manuals allow. One world at a time.
 */
#ifndef UMBRA_TESTS_UNIT_SHADOW_WORLD_H
#define UMBRA_TESTS_UNIT_SHADOW_WORLD_H

#include "nested/shadow-internal.h"
#include "tests/specification/specification.h"

enum {
    WORLD_FRAMES = 24,    /* of L1, for tables */
    WORLD_ROOTS = 20,     /* more than SHADOW_ROOTS */
    WORLD_ADDRESSES = 36, /* of L2 */
    WORLD_TAGS = 3,       /* VPIDs or ASIDs of L1 */
    WORLD_HISTORY = 6,
    WORLD_WORDS = WORLD_FRAMES * 1024,
};

#define WORLD_FRAMES_START (MIB(4) - 12 * PAGE_SIZE) /* in two 2-MByte pages */
#define WORLD_FRAMES_END   (WORLD_FRAMES_START + WORLD_FRAMES * PAGE_SIZE)
#define WORLD_UMBRA_START  MIB(16)
#define WORLD_END          MIB(32) /* of the arena */
#define WORLD_MAPPED       GIB(4)  /* of Umbra's own map */

/* How a world is set up. */
struct world_plan {
    enum spec_format format; /* of L1's tables */
    bool mode_based_execute; /* MBEC or GMET of the hardware; roles have it or not */
    bool l1_mode_based;      /* some roles have it */
    bool accessed_dirty, execute_only, page_1g, nxe;
    /* Of L1's edits, so many fill a table with garbage; and some roots are no memory, or Umbra's. */
    unsigned hostile_percent;
    u32 pages, quiet;
    bool window;                     /* L1's memory can be read at any time; else in some worlds only */
    void (*shoot_down)(void *owner); /* there is a second CPU */
};

/* One access to a guest-physical address, as hardware makes it. */
struct world_access {
    u64 address;
    struct spec_second_access access;
};

struct world_root {
    struct shadow_key key;
    struct spec_second second; /* L1's tables, for the specification */
};

struct world {
    struct paging_memory memory; /* first: the callbacks find the rest through it */
    struct world_plan plan;
    bool ept;
    struct tdp tdp;
    struct shadow *shadow;
    struct shadow_cpu cpu, second_cpu;
    struct spec_memory l1_memory, all_memory;
    struct spec_second own;   /* Umbra's map as hardware sees it; .tables.root */
    struct spec_paging entry; /* the format of L1's tables, for making entries */
    struct world_root root[WORLD_ROOTS];
    u64 address[WORLD_ADDRESSES];
    u32 now; /* counts changes of L1's tables */
    /* [root][tag of L1]: what L1 had in its tables before this may no longer be used. */
    u32 since[WORLD_ROOTS][WORLD_TAGS];
    bool invalidated[WORLD_ROOTS][WORLD_TAGS];
    u32 address_since[WORLD_ROOTS][WORLD_ADDRESSES];
    bool overflow;                      /* some entry has forgotten a value: everything must be invalidated */
    bool l1_dirty_cached[WORLD_FRAMES]; /* L1's TLB has these pages as dirty */
    u64 wakes;                          /* pages that were asleep when L1 wrote there */
    bool log_full;                      /* what the log_dirty hook is to say */
    unsigned logged, disturb_percent, next_frame;
    u64 quick; /* ordinary faults so far */
    struct {
        u64 value[WORLD_HISTORY];
        u32 end[WORLD_HISTORY];
        u8 count;
    } history[WORLD_WORDS];
};

extern struct world world;

/* Other random worlds and edits; 0 is what they are without. */
void world_seed(u64 seed);
void world_make(const struct world_plan *plan);

u64 world_peek(u64 address);
/* A change of L1's table without a trace: by Umbra, or by a device. */
void world_store(u64 address, u64 value);
/* L1's CPU writes: sets the dirty flag in Umbra's own map, unless L1's TLB holds it as set. */
void world_l1_store(u64 address, u64 value);
/* Before L1 runs: what flush_pending asks for. */
void world_honour_flush(void);
bool world_is_table(u64 address);

/* The entry of a root's tables for an address at a level, by the tables as they are; false if none is
 * reached. */
bool world_entry(unsigned root, u64 address, unsigned level, u64 *where);
/* Tables all the way to a page of `target` at that level, with all rights, A and D set. False: tables that
 * refer to themselves changed on the way. */
bool world_map(unsigned root, u64 address, unsigned level, u64 target);
void world_random_edit(void);
u64 world_random_target(void);

/*
 * Is there a way, over values that each entry has had since `since`, that leads to this page with this access
 * and the memory type of this leaf of the shadow?
 */
bool world_permits(unsigned root, u32 since, const struct world_access *access, u64 target, u64 shadow_leaf,
                   unsigned shadow_level);
/* Umbra's own map, now; a root's A/D flags make accesses to tables writes. */
bool world_own_permits(unsigned root, u64 address, const struct spec_second_access *access);
unsigned world_own_type(u64 address);

struct spec_translation world_l1_walk(unsigned root, const struct world_access *access);
unsigned world_access_bits(unsigned root, const struct spec_second_access *access);
u32 world_supplied_bits(const struct spec_second_access *access);

/* --- shadow-hardware.c --- */

struct hardware_use {
    struct shadow_use use;
    unsigned root, tag; /* of the world */
};

void hardware_reset(void);
/* shadow_acquire(), the flushes it asks for, and what the world knows of it. */
void hardware_enter(unsigned root, unsigned tag, struct hardware_use *use);
enum hardware_result { HARDWARE_DONE, HARDWARE_FAULT };
/* One access: through the TLB, or by a walk from anywhere that is cached. DONE: it was checked to be
 * permitted. */
enum hardware_result hardware_access(const struct hardware_use *use, const struct world_access *access);
/* Everything that is cached or can be walked for one address is permitted. */
void hardware_check(const struct hardware_use *use, u64 address);
/* The access with all its faults, until it is done or L1 or Umbra must decide. */
enum shadow_outcome hardware_run(struct hardware_use *use, const struct world_access *access,
                                 struct shadow_result *result);
struct world_access world_random_access(void);

#endif
