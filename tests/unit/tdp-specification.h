/* SPDX-License-Identifier: MIT */
/*
 * What the CPU does with second-level tables, as the manuals say it and as slowly as they say it: EPT from
 * SDM vol. 3C 29.3, NPT from APM vol. 2 5.3, 5.4 and 15.25, MBEC and GMET included. It shares no code with
 * mm/tdp*.c; it takes only the controls' names from there.
 */
#ifndef UMBRA_TESTS_UNIT_TDP_SPECIFICATION_H
#define UMBRA_TESTS_UNIT_TDP_SPECIFICATION_H

#include "mm/tdp.h"

enum spec_result {
    SPEC_TRANSLATED,
    SPEC_NOT_PRESENT,
    SPEC_MISCONFIGURED, /* EPT misconfiguration, or a reserved bit in NPT */
};

/* The permission bits of the entries so far, combined as the CPU combines them. */
struct spec_bits {
    bool r, w, x, xu; /* EPT */
    bool rw, us, nx;  /* NPT */
};

/* A table and how the CPU came to it: the root, or a paging-structure-cache entry. */
struct spec_start {
    u64 table;
    unsigned level; /* of the table; 4 = PML4 table */
    struct spec_bits bits;
};

struct spec_walk {
    enum spec_result result;
    const char *reason; /* of a misconfiguration */
    u64 target;         /* host-physical address for the guest-physical one */
    u64 size;           /* of the page or hole */
    bool read, write, fetch_supervisor, fetch_user;
    unsigned type; /* EPT memory type; 6 for NPT */
    unsigned depth;
    struct spec_start path[4]; /* the tables that were used */
    u64 *slot[4];              /* the entry that was used in each */
};

struct spec_start spec_root(u64 root);
struct spec_walk spec_walk_from(const struct tdp_config *controls, struct spec_start start, u64 gpa);
struct spec_walk spec_walk(const struct tdp_config *controls, u64 root, u64 gpa);

/* The accessed and dirty flags that the CPU sets for an access through this walk. */
void spec_set_accessed_dirty(const struct tdp_config *controls, const struct spec_walk *walk, bool write);
bool spec_is_dirty(const struct tdp_config *controls, const struct spec_walk *walk);

/* Calls `visit` for each table that can be reached, with the address span that it stands for. */
typedef void spec_visitor(void *context, struct spec_start table, u64 gpa);
void spec_each_table(const struct tdp_config *controls, u64 root, spec_visitor *visit, void *context);

bool spec_present(const struct tdp_config *controls, u64 entry);

#endif
