/* SPDX-License-Identifier: MIT */
/*
 * Group bench-vmx: what an L1 pays for VMX under Umbra, in time-stamp counts of loops that run bare, too;
 * tests/bench/run takes the difference. Not a test of results: an operation that does not end as it must
 * fails the run.
 */
#include "tests/guest/vmx.h"

enum {
    LOOPS = 512,
    ROUNDS = 16,
    TABLES = 64,        /* page tables of L1's EPT below the benched directory */
    SMALL_FIRST = 128,  /* window pages that are touched one by one */
    SMALL_PAGES = 256,  /* and how many */
    LARGE_PAGES = 128,  /* 2-MByte pages */
    LARGE_FIRST = 96,   /* from this one on: RAM that nothing else uses */
    TABLE_WINDOW = 400, /* window pages that lead through one table each */
};
#define TABLES_GPA (EPT_WINDOW + MIB(2)) /* guest-physical: beyond the library's own window */

u64 bench_trips(u64 count);
u64 bench_reads(u64 field, u64 count);
u64 bench_writes(u64 field, u64 value, u64 count);
extern const u8 bench_cpuid_start[], bench_touch_start[], bench_time_start[];

static u8 msr_bitmap[PAGE_SIZE] __attribute__((aligned(4096)));
static u64 tables[TABLES][512] __attribute__((aligned(4096)));
static u8 target[2][PAGE_SIZE] __attribute__((aligned(4096)));

/* Its own is among them. */
static u64 exits(void)
{
    return under_umbra ? hypercall(HYPERCALL_EXITS, 0, 0, 0).rbx : 0;
}

static void row(const char *name, u64 loops, u64 exit_count, u64 ticks)
{
    print("guest: bench %s loops=%lu exits=%lu tsc=%lu\n", name, loops, exit_count, ticks);
}

static void require(const char *what, bool good)
{
    if (good)
        return;
    check(what, false);
    give_up(what);
}

/* With what every hypervisor of today uses where the CPU has it. */
static void set_up(void)
{
    memset(msr_bitmap, 0xff, sizeof(msr_bitmap));
    vmwrite(VMCS_MSR_BITMAPS, (u64)msr_bitmap);
    vmx_set(WORD_PRIMARY, PRIMARY_MSR_BITMAPS);
    if (vmx_has(WORD_SECONDARY, SECONDARY_VPID))
        vmx_set(WORD_SECONDARY, SECONDARY_VPID);
    if (vmx_has(WORD_SECONDARY, SECONDARY_MBEC))
        vmx_set(WORD_SECONDARY, SECONDARY_MBEC);
}

/* --- transitions --- */

static u64 trips(u64 count)
{
    u64 start = rdtsc();
    u64 end = bench_trips(count);
    u64 ticks = rdtsc() - start;

    require("bench.trips", end == 0);
    vmwrite(VMCS_HOST_RIP, (u64)vmx_exit_point);
    return ticks;
}

/* L2 executes CPUID for ever, each time emulated by L1. What begins and ends a loop cancels out. */
static void bench_round_trip(void)
{
    vmwrite(VMCS_GUEST_RIP, (u64)bench_cpuid_start);
    require("bench.cpuid", vmx_resume() == REASON_CPUID);
    u64 before = exits();
    u64 once = trips(LOOPS);
    u64 between = exits();
    u64 twice = trips(2 * LOOPS);
    u64 after = exits();
    row("l2-cpuid", LOOPS, (after - between) - (between - before), twice - once);
}

/* Entry and exit apart, the first entry after VMCLEAR and VMPTRLD; L2 says when it runs. */
static void bench_launch(void)
{
    u64 clear = 0, load = 0, launch = 0, leave = 0, start;

    for (unsigned i = 0; i < ROUNDS; i++) {
        start = rdtsc();
        u64 end = try_vmclear((u64)vmcs_region);
        clear += rdtsc() - start;
        start = rdtsc();
        end |= try_vmptrld((u64)vmcs_region);
        load += rdtsc() - start;
        require("bench.vmptrld", end == END_SUCCEED);
        vmwrite(VMCS_GUEST_RIP, (u64)bench_time_start);
        start = rdtsc();
        require("bench.vmlaunch", vmx_resume() == REASON_VMCALL);
        u64 back = rdtsc(), in_l2 = l2.rdx << 32 | (u32)l2.rax;
        launch += in_l2 - start;
        leave += back - in_l2;
    }
    row("vmclear", ROUNDS, 0, clear);
    row("vmptrld", ROUNDS, 0, load);
    row("vmlaunch", ROUNDS, 0, launch);
    row("exit-after-vmlaunch", ROUNDS, 0, leave);
}

/* --- VMREAD, VMWRITE --- */

static void bench_read(const char *name, enum vmcs_field field)
{
    u64 before = exits(), start = rdtsc();
    (void)bench_reads(field, LOOPS);
    u64 ticks = rdtsc() - start;
    row(name, LOOPS, exits() - before - under_umbra, ticks);
}

static void bench_write(const char *name, enum vmcs_field field)
{
    u64 value = vmread(field), before = exits(), start = rdtsc();
    (void)bench_writes(field, value, LOOPS);
    u64 ticks = rdtsc() - start;
    row(name, LOOPS, exits() - before - under_umbra, ticks);
}

/* The first VMREAD after an exit of a field that few hypervisors read at each exit. */
static void bench_first_read(void)
{
    u64 ticks = 0, value;

    for (unsigned i = 0; i < ROUNDS; i++) {
        vmwrite(VMCS_GUEST_RIP, (u64)bench_time_start);
        require("bench.first_read", vmx_resume() == REASON_VMCALL);
        u64 start = rdtsc();
        value = vmread(VMCS_GUEST_TR_BASE);
        ticks += rdtsc() - start;
        require("bench.first_read", value == vmread(VMCS_HOST_TR_BASE));
    }
    row("vmread-first", ROUNDS, 0, ticks);
}

static void bench_fields(void)
{
    bench_read("vmread-hot", VMCS_EXIT_REASON);
    bench_write("vmwrite-hot", VMCS_GUEST_RIP);
    bench_read("vmread", VMCS_EXCEPTION_BITMAP);
    bench_write("vmwrite", VMCS_EXCEPTION_BITMAP);
    bench_first_read();
}

/* --- pages touched for the first time --- */

static u64 touch(const void *first, u64 stride, u64 count)
{
    l2.rbx = (u64)first;
    l2.rsi = stride;
    l2.rcx = count;
    vmwrite(VMCS_GUEST_RIP, (u64)bench_touch_start);
    u64 start = rdtsc();
    u64 reason = vmx_resume();
    u64 ticks = rdtsc() - start;

    require("bench.touch", reason == REASON_VMCALL);
    return ticks;
}

/* What touching costs more than touching again. */
static void bench_touched(const char *name, const void *first, u64 stride, u64 count)
{
    u64 before = exits();
    u64 cold = touch(first, stride, count);
    u64 between = exits();
    u64 warm = touch(first, stride, count);
    u64 after = exits();

    row(name, count, (between - before) - (after - between), cold - warm);
}

static void bench_small_pages(void)
{
    const u64 flags = PTE_P | PTE_W | PTE_A | PTE_D;
    u8 *first = l2_window(SMALL_FIRST, flags);

    for (unsigned i = 0; i < SMALL_PAGES; i++) {
        (void)l2_window(SMALL_FIRST + i, flags);
        ept_window[SMALL_FIRST + i] = (u64)target[i & 1] | EPT_RWX | EPT_XU | EPT_WB | EPT_A | EPT_D;
    }
    (void)touch(first, PAGE_SIZE, 1);
    bench_touched("touch-4k", first + PAGE_SIZE, PAGE_SIZE, SMALL_PAGES - 1);
}

static void bench_large_pages(void)
{
    u64 saved[LARGE_PAGES];

    memcpy(saved, &ept_directory[LARGE_FIRST], sizeof(saved));
    memset(&ept_directory[LARGE_FIRST], 0, sizeof(saved));
    (void)try_invept(2, 0, 0);
    memcpy(&ept_directory[LARGE_FIRST], saved, sizeof(saved));
    (void)touch((const void *)(LARGE_FIRST * MIB(2)), PAGE_SIZE, 1);
    bench_touched("touch-2m", (const void *)((LARGE_FIRST + 1) * MIB(2)), MIB(2), LARGE_PAGES - 1);
}

/* --- INVEPT --- */

/* One INVEPT, and the entry after it, which may do what the INVEPT has put off; L2 only exits again. */
static u64 invept_and_enter(bool invalidate, u64 pointer)
{
    vmwrite(VMCS_GUEST_RIP, (u64)bench_time_start);
    u64 start = rdtsc();
    u64 end = invalidate ? try_invept(1, pointer, 0) : END_SUCCEED;
    u64 reason = vmx_resume();
    u64 ticks = rdtsc() - start;

    require("bench.invept", end == END_SUCCEED && reason == REASON_VMCALL);
    return ticks;
}

/* L2 reads one page through each of L1's tables, so that all of them are in use. */
static void bench_invept(const char *name, unsigned changed)
{
    const u8 *first = (const u8 *)WINDOW + TABLE_WINDOW * PAGE_SIZE;
    u64 pointer = vmread(VMCS_EPT_POINTER), ticks = 0;

    /* The first round finds what earlier parts have changed, and is not counted. */
    for (unsigned i = 0; i <= ROUNDS; i++) {
        (void)touch(first, PAGE_SIZE, TABLES);
        u64 without = invept_and_enter(false, pointer);
        for (unsigned table = 0; table < changed; table++)
            tables[table][0] ^= (u64)target[0] ^ (u64)target[1];
        u64 with = invept_and_enter(true, pointer);
        ticks += i == 0 ? 0 : with - without;
    }
    row(name, ROUNDS, 0, ticks);
}

static void bench_invalidations(void)
{
    for (unsigned i = 0; i < TABLES; i++) {
        (void)window_map(TABLE_WINDOW + i, TABLES_GPA + i * MIB(2), PTE_P | PTE_W | PTE_A | PTE_D);
        tables[i][0] = (u64)target[0] | EPT_RWX | EPT_XU | EPT_WB | EPT_A | EPT_D;
        ept_window_directory[1 + i] = (u64)tables[i] | EPT_RWX | EPT_XU;
    }
    bench_invept("invept-0", 0);
    bench_invept("invept-1", 1);
    bench_invept("invept-64", TABLES);
}

void group_bench_vmx(void)
{
    if (!vmx_start("bench-vmx"))
        return;
    set_up();
    bench_round_trip();
    bench_launch();
    bench_fields();
    bench_small_pages();
    bench_large_pages();
    bench_invalidations();
    vmx_stop();
}
