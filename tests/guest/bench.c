/* SPDX-License-Identifier: MIT */
/* The halves of the benchmarks that are the same for both vendors; see tests/guest/bench.h. */
#include "tests/guest/bench.h"

u64 bench_tables[BENCH_TABLES][512] L1_TABLE;
u8 bench_target[2][PAGE_SIZE] __attribute__((aligned(4096)));

u64 bench_exits(void)
{
    return under_umbra ? hypercall(HYPERCALL_EXITS, 0, 0, 0).rbx : 0;
}

void bench_row(const char *name, u64 loops, u64 exits, u64 ticks)
{
    print("guest: bench %s loops=%lu exits=%lu tsc=%lu\n", name, loops, exits, ticks);
}

void bench_require(const char *what, bool good)
{
    if (good)
        return;
    check(what, false);
    give_up(what);
}

/* --- pages --- */

void bench_map(u64 *window, u64 *window_directory, u64 leaf, u64 table)
{
    const u64 flags = PTE_P | PTE_W | PTE_A | PTE_D;

    for (unsigned i = 0; i < BENCH_SMALL_PAGES; i++) {
        (void)l2_window(BENCH_SMALL_FIRST + i, flags);
        window[BENCH_SMALL_FIRST + i] = (u64)bench_target[i & 1] | leaf;
    }
    for (unsigned i = 0; i < BENCH_TABLES; i++) {
        (void)window_map(BENCH_TABLE_WINDOW + i, BENCH_TABLES_GPA + i * MIB(2), flags);
        bench_tables[i][0] = (u64)bench_target[0] | leaf;
        window_directory[1 + i] = (u64)bench_tables[i] | table;
    }
}

void bench_renew_large(u64 *directory, u64 flags, void (*invalidate)(void))
{
    u64 saved[BENCH_LARGE_PAGES];

    memcpy(saved, &directory[BENCH_LARGE_FIRST], sizeof(saved));
    memset(&directory[BENCH_LARGE_FIRST], 0, sizeof(saved));
    invalidate();
    for (unsigned i = 0; i < BENCH_LARGE_PAGES; i++)
        directory[BENCH_LARGE_FIRST + i] = saved[i] | flags;
}

void bench_first_touch(const char *name, bench_touch *touch, const void *first, u64 stride, u64 count)
{
    const u8 *second = (const u8 *)first + stride;

    (void)touch(first, stride, 1);
    u64 before = bench_exits();
    u64 cold = touch(second, stride, count - 1);
    u64 between = bench_exits();
    u64 warm = touch(second, stride, count - 1);
    u64 after = bench_exits();

    bench_row(name, count - 1, (between - before) - (after - between), cold - warm);
}

/* --- changed tables --- */

/*
 * The first rounds are not counted: they find what others have changed, and if nothing is to change, Umbra
 * may come to rely on it.
 */
static u64 measure(unsigned changed, bench_touch *touch, u64 (*invalidate)(bool really))
{
    const u8 *first = (const u8 *)WINDOW + BENCH_TABLE_WINDOW * PAGE_SIZE;
    unsigned settling = changed == 0 ? BENCH_ROUNDS : 1;
    u64 ticks = 0;

    for (unsigned i = 0; i < settling + BENCH_ROUNDS; i++) {
        (void)touch(first, PAGE_SIZE, BENCH_TABLES);
        u64 without = invalidate(false);
        for (unsigned table = 0; table < changed; table++)
            bench_tables[table][0] ^= (u64)bench_target[0] ^ (u64)bench_target[1];
        u64 with = invalidate(true);
        ticks += i < settling ? 0 : with - without;
    }
    return ticks;
}

void bench_changed_tables(const char *const names[3], bench_touch *touch, u64 (*invalidate)(bool really))
{
    bench_row(names[0], BENCH_ROUNDS, 0, measure(0, touch, invalidate));
    bench_row(names[1], BENCH_ROUNDS, 0, measure(1, touch, invalidate));
    bench_row(names[2], BENCH_ROUNDS, 0, measure(BENCH_TABLES, touch, invalidate));
}
