/* SPDX-License-Identifier: MIT */
/*
 * What the groups bench-vmx and bench-svm share: the rows that they print, and memory for L2 to touch. They
 * are no tests of results: an operation that does not end as it must ends the run.
 */
#ifndef UMBRA_TESTS_GUEST_BENCH_H
#define UMBRA_TESTS_GUEST_BENCH_H

#include "tests/guest/l2.h"

enum {
    BENCH_LOOPS = 512,
    BENCH_ROUNDS = 16,
    BENCH_TABLES = 64,       /* page tables of L1's second level, each for 2 MByte */
    BENCH_SMALL_FIRST = 128, /* window pages that are touched one by one */
    BENCH_SMALL_PAGES = 256, /* and how many */
    BENCH_LARGE_FIRST = 96,  /* 2-MByte pages from this one on: RAM that nothing else uses */
    BENCH_LARGE_PAGES = 128,
    BENCH_TABLE_WINDOW = 400, /* window pages that lead through one table each */
};
/* Guest-physical for L2: what the tables map, beyond its window. */
#define BENCH_TABLES_GPA (L2_WINDOW + MIB(2))

extern u64 bench_tables[BENCH_TABLES][512];
extern u8 bench_target[2][PAGE_SIZE];

/* Exits of Umbra's so far, the hypercall's own included; 0 without Umbra. */
u64 bench_exits(void);
/* Ticks and exits of that many loops; tests/bench/run takes the difference to a bare run. */
void bench_row(const char *name, u64 loops, u64 exits, u64 ticks);
void bench_require(const char *what, bool good);

/* L2's time for one byte read at `first` and at each `stride` bytes further. */
typedef u64 bench_touch(const void *first, u64 stride, u64 count);
/* The row: what touching for the first time costs more than touching again. */
void bench_first_touch(const char *name, bench_touch *touch, const void *first, u64 stride, u64 count);
/*
 * L1's second-level entries for the pages that are touched, all 2-MByte leaves of `directory` from
 * BENCH_LARGE_FIRST on taken away and, after `invalidate`, given back with accessed and dirty flags.
 */
void bench_renew_large(u64 *directory, u64 flags, void (*invalidate)(void));
/* A row per number of tables: what `invalidate` costs, after that many entries of bench_tables have changed.
 */
void bench_changed_tables(const char *const names[3], bench_touch *touch, u64 (*invalidate)(bool really));
/* Entries of the window's tables that the functions above use: `leaf` are the flags of a leaf, `table`
 * others'. */
void bench_map(u64 *window, u64 *window_directory, u64 leaf, u64 table);

#endif
