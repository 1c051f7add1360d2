/* SPDX-License-Identifier: MIT */
/*
 * What the hostile groups share: numbers that can be repeated, addresses that hurt, a playground that L2 may
 * destroy as it likes, and canaries in the memory that nobody has any business with. Nothing of L1's own
 * (its code, stack, tables, host state) is in the playground, so that L1 outlives whatever happens there.
 */
#ifndef UMBRA_TESTS_GUEST_HOSTILE_H
#define UMBRA_TESTS_GUEST_HOSTILE_H

#include "tests/guest/guest.h"

/* --- hostile-random.c --- */

/* The same seed gives the same numbers everywhere; 0 will do, too. */
void hostile_seed(u64 seed);
u64 hostile_random(void);
/* 0 to limit - 1. */
unsigned hostile_below(unsigned limit);
bool hostile_chance(unsigned percent);
/* Values at the edges are likelier to matter than random ones. */
u64 hostile_odd_value(void);
/* MSRs whose change takes the ground from under this guest, on a bare CPU too. */
bool hostile_deadly_msr(u32 msr);
/* An MSR that this guest survives, whatever is written to it. */
u32 hostile_msr(void);

/* --- hostile-memory.c --- */

/*
 * The playground: 2 MByte of RAM from PLAYGROUND on, mapped one to one by everything here. Whichever byte of
 * an address in it is overwritten with 0, the result is memory that L1 does not use: an entry that L2 has
 * damaged leads nowhere that matters.
 */
#define PLAYGROUND MIB(46)
enum {
    PAGE_CODE = 0, /* CODE_PAGES of L2's code, then what its interrupt gates lead to */
    CODE_PAGES = 4,
    PAGE_HANDLERS = 4,
    PAGE_IDT = 5,
    PAGE_GDT = 6,
    PAGE_STACK = 7,
    PAGE_DATA = 8,       /* 4 pages */
    PAGE_L2_TABLES = 12, /* PML4, PDPT, directory, table; PDPT of PAE, directory and table of 32-bit paging */
    L2_TABLES = 7,
    PAGE_NESTED = 20, /* L1's tables for L2: NESTED_PAGES */
    NESTED_PAGES = 10,
    NESTED_ROOTS = 3,  /* the first of them */
    PAGE_CONTROL = 32, /* VMCSs or VMCBs */
    CONTROL_PAGES = 4,
    PAGE_VMXON = 36,
    PAGE_LISTS = 40, /* bitmaps, lists, APIC pages and the like: LIST_PAGES */
    LIST_PAGES = 8,
    PLAYGROUND_PAGES = 64, /* what is used of it by all, and: */
    PAGE_APIC = 70,        /* APIC-access page: apart, as Bochs ends itself at a fetch from it */
};

static inline u64 play_page(unsigned index)
{
    return PLAYGROUND + index * PAGE_SIZE;
}

/* Plants the canaries, and remembers the image's constant part. False if the memory is not all RAM. */
bool hostile_memory_init(void);
/* How many words outside the playground are not what they were. */
u64 hostile_canaries_lost(void);
/* True if Umbra's memory reads as ones (or is not known). */
bool hostile_umbra_hidden(void);

/* A page address: mostly of the playground, else Umbra's, a device's, no memory's, or none at all. */
u64 hostile_page(void);
/* As hostile_page(), sometimes misaligned. */
u64 hostile_pointer(void);
/* TCG waits for itself if code is fetched from a page in which the fetch sets an accessed flag: no table is
 * for fetches there. */
bool hostile_may_execute(u64 page);
/* An entry for a second-level table in the format of EPT or NPT, of any level. */
u64 hostile_ept_entry(void);
u64 hostile_npt_entry(void);
/*
 * L2's tables for all modes, and its descriptor tables. With `reachable` L2 can change and execute its own
 * tables; without, where they are all that keeps it in the playground, it cannot.
 */
void hostile_write_l2_tables(bool reachable);
bool hostile_l2_tables_reachable(void);
void hostile_write_descriptors(void);

/* --- hostile-nested.c: no invalidation is done here --- */

/* A new set of tables. */
void hostile_write_nested(void);
/* The playground's own entries again; L2 may write to the tables themselves only if `own_tables`. */
void hostile_map_nested(bool own_tables);
/* Some entries anywhere become random ones. */
void hostile_change_nested(void);

/* --- hostile-code.c --- */

/* Fills a page of L2's code, 0 to CODE_PAGES - 1, with random instructions. */
void hostile_write_code(unsigned page);
/* Where L2 may go on: mostly where an instruction starts. */
u64 hostile_code_address(void);
/* A value for a register of L2. */
u64 hostile_l2_value(void);

/* --- hostile-run.c --- */

enum { HOSTILE_EXITS = 0x480 };
struct hostile_result {
    u64 entered, failed, state_lost;
    u64 seen[HOSTILE_EXITS / 64]; /* bit n: an exit with code n */
};

struct hostile_group {
    const char *name;
    void (*begin_episode)(void);
    void (*step)(void);
    struct hostile_result *result; /* filled by step() */
};

/* Runs it as the command line says (seed, steps, from, trace) and checks what came of it. */
void hostile_run(const struct hostile_group *group);
/* Interrupts that were sent are taken, or have been by an exit. */
void hostile_take_interrupts(void);
/* Whether control registers are as they were at the start, but for some bits of CR0; they are afterwards. */
bool hostile_own_state(u64 cr0_ignored);

/* --- the groups --- */
void group_hostile_vmx(void);
void group_hostile_svm(void);

#endif
