/* SPDX-License-Identifier: MIT */
/*
 * Group bench-vmx: what an L1 pays for VMX under Umbra, in time-stamp counts of loops that run bare, too;
 * tests/bench/run takes the difference.
 */
#include "tests/guest/bench.h"
#include "tests/guest/vmx.h"

u64 bench_trips(u64 count);
u64 bench_reads(u64 field, u64 count);
u64 bench_writes(u64 field, u64 value, u64 count);
extern const u8 bench_cpuid_start[], bench_touch_start[], bench_time_start[];

static u8 msr_bitmap[PAGE_SIZE] __attribute__((aligned(4096)));
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

    bench_require("bench.trips", end == 0);
    vmwrite(VMCS_HOST_RIP, (u64)vmx_exit_point);
    return ticks;
}

/* L2 executes CPUID for ever, each time emulated by L1. What begins and ends a loop cancels out. */
static void bench_round_trip(void)
{
    vmwrite(VMCS_GUEST_RIP, (u64)bench_cpuid_start);
    bench_require("bench.cpuid", vmx_resume() == REASON_CPUID);
    u64 before = bench_exits();
    u64 once = trips(BENCH_LOOPS);
    u64 between = bench_exits();
    u64 twice = trips(2 * BENCH_LOOPS);
    u64 after = bench_exits();
    bench_row("l2-cpuid", BENCH_LOOPS, (after - between) - (between - before), twice - once);
}

/* Entry and exit apart, the first entry after VMCLEAR and VMPTRLD; L2 says when it runs. */
static void bench_launch(void)
{
    u64 clear = 0, load = 0, launch = 0, leave = 0, start;

    for (unsigned i = 0; i < BENCH_ROUNDS; i++) {
        start = rdtsc();
        u64 end = try_vmclear((u64)vmcs_region);
        clear += rdtsc() - start;
        start = rdtsc();
        end |= try_vmptrld((u64)vmcs_region);
        load += rdtsc() - start;
        bench_require("bench.vmptrld", end == END_SUCCEED);
        vmwrite(VMCS_GUEST_RIP, (u64)bench_time_start);
        start = rdtsc();
        bench_require("bench.vmlaunch", vmx_resume() == REASON_VMCALL);
        u64 back = rdtsc(), in_l2 = l2.rdx << 32 | (u32)l2.rax;
        launch += in_l2 - start;
        leave += back - in_l2;
    }
    bench_row("vmclear", BENCH_ROUNDS, 0, clear);
    bench_row("vmptrld", BENCH_ROUNDS, 0, load);
    bench_row("vmlaunch", BENCH_ROUNDS, 0, launch);
    bench_row("exit-after-vmlaunch", BENCH_ROUNDS, 0, leave);
}

/* --- VMREAD, VMWRITE --- */

static void bench_read(const char *name, enum vmcs_field field)
{
    u64 before = bench_exits(), start = rdtsc();
    (void)bench_reads(field, BENCH_LOOPS);
    u64 ticks = rdtsc() - start;
    bench_row(name, BENCH_LOOPS, bench_exits() - before - under_umbra, ticks);
}

static void bench_write(const char *name, enum vmcs_field field)
{
    u64 value = vmread(field), before = bench_exits(), start = rdtsc();
    (void)bench_writes(field, value, BENCH_LOOPS);
    u64 ticks = rdtsc() - start;
    bench_row(name, BENCH_LOOPS, bench_exits() - before - under_umbra, ticks);
}

/* The first VMREAD after an exit of a field that few hypervisors read at each exit. */
static void bench_first_read(void)
{
    u64 ticks = 0, value;

    for (unsigned i = 0; i < BENCH_ROUNDS; i++) {
        vmwrite(VMCS_GUEST_RIP, (u64)bench_time_start);
        bench_require("bench.first_read", vmx_resume() == REASON_VMCALL);
        u64 start = rdtsc();
        value = vmread(VMCS_GUEST_TR_BASE);
        ticks += rdtsc() - start;
        bench_require("bench.first_read", value == vmread(VMCS_HOST_TR_BASE));
    }
    bench_row("vmread-first", BENCH_ROUNDS, 0, ticks);
}

/* A VMRESUME after L1 has changed the bit of an execution control or the exception bitmap, as for an
 * interrupt window. */
static void bench_changed(const char *name, enum vmcs_field field, u64 bit)
{
    u64 changed = 0, same = 0;

    for (unsigned i = 0; i < 2 * BENCH_ROUNDS; i++) {
        vmwrite(VMCS_GUEST_RIP, (u64)bench_time_start);
        if (i % 2 != 0)
            vmwrite(field, vmread(field) ^ bit);
        u64 start = rdtsc();
        bench_require("bench.changed", vmx_resume() == REASON_VMCALL);
        *(i % 2 != 0 ? &changed : &same) += rdtsc() - start;
    }
    bench_row(name, BENCH_ROUNDS, 0, changed - same);
}

static void bench_fields(void)
{
    bench_read("vmread-hot", VMCS_EXIT_REASON);
    bench_write("vmwrite-hot", VMCS_GUEST_RIP);
    bench_read("vmread", VMCS_EXCEPTION_BITMAP);
    bench_write("vmwrite", VMCS_EXCEPTION_BITMAP);
    bench_first_read();
    bench_changed("entry-control", VMCS_PRIMARY_CONTROLS, PRIMARY_CR8_STORE_EXITING);
    bench_changed("entry-state", VMCS_GUEST_CR3, PTE_PCD);
}

/* --- second-level tables --- */

static u64 touch(const void *first, u64 stride, u64 count)
{
    l2.rbx = (u64)first;
    l2.rsi = stride;
    l2.rcx = count;
    vmwrite(VMCS_GUEST_RIP, (u64)bench_touch_start);
    u64 start = rdtsc();
    u64 reason = vmx_resume();
    u64 ticks = rdtsc() - start;

    bench_require("bench.touch", reason == REASON_VMCALL);
    return ticks;
}

static void invept_all(void)
{
    (void)try_invept(2, 0, 0);
}

/* INVEPT, and the entry after it, which may do what the INVEPT has put off; L2 only exits again. */
static u64 invept_and_enter(bool really)
{
    u64 pointer = vmread(VMCS_EPT_POINTER), end = END_SUCCEED;

    vmwrite(VMCS_GUEST_RIP, (u64)bench_time_start);
    u64 start = rdtsc();
    if (really)
        end = try_invept(1, pointer, 0);
    u64 reason = vmx_resume();
    u64 ticks = rdtsc() - start;

    bench_require("bench.invept", end == END_SUCCEED && reason == REASON_VMCALL);
    return ticks;
}

/* The instructions alone. */
static void bench_invalidations(void)
{
    u64 pointer = vmread(VMCS_EPT_POINTER), end = 0, start = rdtsc();

    for (unsigned i = 0; i < BENCH_LOOPS; i++)
        end |= try_invept(1, pointer, 0);
    bench_row("invept", BENCH_LOOPS, 0, rdtsc() - start);
    start = rdtsc();
    for (unsigned i = 0; i < BENCH_LOOPS; i++)
        end |= try_invvpid(1, 1, 0);
    bench_row("invvpid", BENCH_LOOPS, 0, rdtsc() - start);
    bench_require("bench.invalidations", end == END_SUCCEED);
}

static void bench_second_level(void)
{
    static const char *const names[3] = {"invept-0", "invept-1", "invept-64"};

    bench_map(ept_window, ept_window_directory, EPT_RWX | EPT_XU | EPT_WB | EPT_A | EPT_D, EPT_RWX | EPT_XU);
    bench_first_touch("touch-4k", touch, (const u8 *)WINDOW + BENCH_SMALL_FIRST * PAGE_SIZE, PAGE_SIZE,
                      BENCH_SMALL_PAGES);
    bench_renew_large(ept_directory, EPT_A | EPT_D, invept_all);
    bench_first_touch("touch-2m", touch, (const void *)(BENCH_LARGE_FIRST * MIB(2)), MIB(2),
                      BENCH_LARGE_PAGES);
    bench_changed_tables(names, touch, invept_and_enter);
    bench_invalidations();
}

void group_bench_vmx(void)
{
    if (!vmx_start("bench-vmx"))
        return;
    set_up();
    bench_round_trip();
    bench_launch();
    bench_fields();
    bench_second_level();
    vmx_stop();
}
