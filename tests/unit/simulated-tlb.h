/* SPDX-License-Identifier: MIT */
/*
 * A TLB that never forgets on its own: translations and paging-structure-cache entries (SDM vol. 3C 29.4.1;
 * APM vol. 2 15.16) stay until a flush, and new ones are made also from old paging-structure-cache entries,
 * as the manuals allow. Emulators flush at every transition and so forgive what this does not.
 */
#ifndef UMBRA_TESTS_UNIT_SIMULATED_TLB_H
#define UMBRA_TESTS_UNIT_SIMULATED_TLB_H

#include "tests/unit/tdp-specification.h"

enum { TLB_TRANSLATIONS = 192, TLB_TABLES = 96 };

struct simulated_tlb {
    struct tdp_config controls;
    u64 root;
    bool met_garbage; /* a walk, perhaps through a cached table, came to an entry that no table may hold */
    unsigned translation_count, table_count;
    struct {
        u64 gpa; /* of the page */
        struct spec_walk walk;
        bool dirty; /* writes set no flag any more */
    } translation[TLB_TRANSLATIONS];
    struct {
        u64 gpa; /* first address of the span that the table stands for */
        struct spec_start start;
    } table[TLB_TABLES];
};

void tlb_init(struct simulated_tlb *tlb, const struct tdp_config *controls, u64 root);

/*
 * The guest accesses `gpa`: caches what any legal walk yields, from the root and from each cached table, and
 * sets the accessed and dirty flags. When an array is full, a random element makes room.
 */
void tlb_access(struct simulated_tlb *tlb, u64 gpa, bool write);

/* A write that sets the dirty flag only if no translation is cached that already knows it as set. */
void tlb_write(struct simulated_tlb *tlb, u64 gpa);

void tlb_flush(struct simulated_tlb *tlb);

/* Does every cached table still belong to the tables' owner, and was no garbage met? Must hold at any time.
 */
bool tlb_tables_sound(const struct simulated_tlb *tlb);

/*
 * Is nothing cached that permits more, goes elsewhere, has another type or another page size than a walk from
 * the root does now? NULL if so, else what is wrong. Must hold whenever no flush is owed.
 */
const char *tlb_staleness(const struct simulated_tlb *tlb);

#endif
