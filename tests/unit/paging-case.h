/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the paging core share: a machine state told once and given both to the specification
 * (tests/specification) and to mm/, a small physical memory with a journal of what was written, a generator
 * of mostly valid and sometimes malicious tables, and the comparison of two walks.
 */
#ifndef UMBRA_TESTS_UNIT_PAGING_CASE_H
#define UMBRA_TESTS_UNIT_PAGING_CASE_H

#include "mm/walk.h"
#include "tests/specification/specification.h"

/* --- machine states ----------------------------------------------------------------------------------------
 */

struct case_machine {
    struct paging_cpu cpu;
    u64 cr0, cr4, efer;
    u32 pkru, pkrs;
    bool pdpte_loaded; /* PAE: the four entries below are in the PDPTE registers */
    u64 pdpte[4];
};

struct case_ept {
    struct paging_cpu cpu;
    u64 eptp; /* without the address of the first table */
    bool mbec, spp, advanced;
};

/* One hierarchy as both sides see it. `code.pdptes` points into `spec`: copies need case_relink(). */
struct case_tables {
    struct spec_paging spec;
    struct paging code;
};

void case_guest(struct case_tables *tables, const struct case_machine *machine);
void case_npt(struct case_tables *tables, const struct case_machine *host, bool gmet);
void case_ept(struct case_tables *tables, const struct case_ept *ept);

/* `format` with random other bits; SPEC_NO_PAGING gives CR0.PG = 0. */
struct case_machine case_random_machine(enum spec_format format);
struct case_ept case_random_ept(enum spec_format format);

/* --- accesses
 * -------------------------------------------------------------------------------------------------- */

/* All that an instruction can do, without combinations that do not exist. */
enum { CASE_ACCESSES_MAX = 32 };
unsigned case_accesses(struct spec_access out[CASE_ACCESSES_MAX]);

/* As mm/rights.h names it, in the guest's own tables. */
unsigned case_guest_access(const struct spec_access *access);
/* As mm/rights.h names a final access, in NPT and EPT. */
unsigned case_second_access(const struct spec_second *second, const struct spec_second_access *access);

/* --- memory
 * ----------------------------------------------------------------------------------------------------- */

enum { CASE_FRAMES = 24, CASE_JOURNAL = 128 };
#define CASE_BYTES (CASE_FRAMES * PAGE_SIZE)

struct case_memory {
    struct paging_memory code; /* first: the callbacks find the rest through it */
    struct spec_memory spec;
    u64 base;                 /* physical address of byte 0, a multiple of 1 GByte; nothing else is memory */
    unsigned disturb_percent; /* how often an entry changes under a compare-and-exchange */
    bool disturb_nothing;     /* ... in a bit that means nothing */
    unsigned disturbances;
    unsigned writes;
    struct {
        u64 address, before, after;
        unsigned bytes;
    } journal[CASE_JOURNAL];
    unsigned data_writes; /* calls of write(), the first of them noted */
    struct {
        u64 address, bytes;
    } data_write[2];
    u8 bytes[CASE_BYTES] __attribute__((aligned(4096)));
};

void case_memory_init(struct case_memory *memory);
/* A new place for memory, with and without a window, and an empty journal. */
void case_memory_place(struct case_memory *memory, u64 base);
u64 case_peek(const struct case_memory *memory, u64 address, unsigned bytes);
void case_poke(struct case_memory *memory, u64 address, unsigned bytes, u64 value);

/* --- tables
 * ------------------------------------------------------------------------------------------------------ */

/* How the tables of one translation are to look. */
struct case_chain {
    const struct spec_paging *spec;
    u64 address; /* to be translated */
    u64 target;  /* where the leaf should lead, as far as its size allows */
    unsigned leaf_level;
    u64 table_address[SPEC_LEVELS_MAX + 1]; /* [level]: as entries point to it */
    u64 table_host[SPEC_LEVELS_MAX + 1];    /* [level]: where it lies in memory */
    unsigned odd_percent;                   /* chance that an entry is not an ordinary one */
    unsigned plain_percent;                 /* chance that an ordinary entry allows everything */
    bool settled;                           /* flags are set, memory is write-back: for quick walks */
};

/* A level that may map pages, mostly the lowest. */
unsigned case_random_leaf_level(const struct spec_paging *spec);
void case_build_chain(struct case_memory *memory, const struct case_chain *chain);
/* An ordinary entry of a level; `leaf`: maps a page. */
u64 case_ordinary_entry(const struct spec_paging *spec, unsigned level, bool leaf, u64 address);
u64 case_spoil_entry(const struct spec_paging *spec, unsigned level, u64 entry);

/* --- comparison
 * -------------------------------------------------------------------------------------------------- */

/*
 * Did the code set the specification's flags since case_memory_place(), all of them or (`some`) only some,
 * and nothing else? NULL, or what is wrong.
 */
const char *case_compare_flags(const struct case_memory *memory, const struct spec_flag_sets *flags,
                               bool some);

/* One walk of one hierarchy, entries, rights and fault included. NULL, or what is wrong. */
const char *case_compare_walk(const struct case_tables *tables, const struct spec_translation *spec,
                              enum walk_status status, const struct walk *code);
/* A fault of the second stage; `second` tells how to encode. */
const char *case_compare_second(const struct spec_second *second, const struct case_tables *tables,
                                const struct spec_translation *spec, enum walk_status status,
                                const struct walk *code);

void case_print_tables(const char *name, const struct spec_paging *spec);
void case_print_access(const struct spec_access *access);
void case_print_translation(const char *name, const struct spec_translation *spec);
void case_print_walk(const char *name, enum walk_status status, const struct walk *code);
void case_print_flags(const struct case_memory *memory, const struct spec_flag_sets *flags);

#endif
