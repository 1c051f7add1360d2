/* SPDX-License-Identifier: MIT */
/*
 * Group bench-svm: what an L1 pays for SVM under Umbra, in time-stamp counts of loops that run bare, too;
 * tests/bench/run takes the difference.
 */
#include "tests/guest/bench.h"
#include "tests/guest/svm.h"

void bench_svm_trips(u64 vmcb_address, u64 count);
void bench_svm_full_trips(u64 vmcb_address, u64 count, u64 host);
void bench_svm_vmload(u64 vmcb_address, u64 count);
void bench_svm_vmsave(u64 vmcb_address, u64 count);
void bench_svm_gif(u64 unused, u64 count);
void bench_svm_invlpga(u64 address, u64 count);
extern const u8 bench_svm_cpuid_start[], bench_svm_touch_start[], bench_svm_call_start[];

static u8 host_state[PAGE_SIZE] __attribute__((aligned(4096)));

/* What begins and ends a loop cancels out. */
static void bench_loop(const char *name, void (*loop)(u64 address, u64 count), const void *address)
{
    u64 exits[3], ticks[2];

    exits[0] = bench_exits();
    for (unsigned i = 0; i < 2; i++) {
        u64 start = rdtsc();
        loop((u64)address, (i + 1) * BENCH_LOOPS);
        ticks[i] = rdtsc() - start;
        exits[i + 1] = bench_exits();
    }
    bench_row(name, BENCH_LOOPS, (exits[2] - exits[1]) - (exits[1] - exits[0]), ticks[1] - ticks[0]);
}

static void full_trips(u64 vmcb_address, u64 count)
{
    bench_svm_full_trips(vmcb_address, count, (u64)host_state);
}

static void bench_round_trips(void)
{
    svm_intercept(VMEXIT_CPUID);
    bench_svm_vmsave((u64)host_state, 1);
    bench_svm_vmsave((u64)&vmcb, 1);
    vmcb.save.rip = (u64)bench_svm_cpuid_start;
    bench_require("bench.cpuid", svm_resume() == VMEXIT_CPUID);
    bench_loop("l2-cpuid", bench_svm_trips, &vmcb);
    bench_loop("l2-cpuid-full", full_trips, &vmcb);
    bench_require("bench.cpuid", vmcb.control.exit_code == VMEXIT_CPUID);
}

/* --- second-level tables --- */

static u64 run(const u8 *code)
{
    vmcb.save.rip = (u64)code;
    u64 start = rdtsc();
    u64 exit_code = svm_resume();
    u64 ticks = rdtsc() - start;

    bench_require("bench.run", exit_code == VMEXIT_VMMCALL);
    return ticks;
}

static u64 touch(const void *first, u64 stride, u64 count)
{
    l2.rbx = (u64)first;
    l2.rsi = stride;
    l2.rcx = count;
    return run(bench_svm_touch_start);
}

static void flush_at_next_entry(void)
{
    vmcb.control.tlb_control = TLB_CONTROL_FLUSH_ALL;
}

static void flush_now(void)
{
    flush_at_next_entry();
    (void)run(bench_svm_call_start);
}

static u64 flush_and_enter(bool really)
{
    if (really)
        flush_at_next_entry();
    return run(bench_svm_call_start);
}

static void bench_second_level(void)
{
    static const char *const flushes[3] = {"flush-0", "flush-1", "flush-64"};

    bench_map(npt_window, npt_window_directory, NPT_ALL | PTE_A | PTE_D, NPT_ALL);
    bench_first_touch("touch-4k", touch, (const u8 *)WINDOW + BENCH_SMALL_FIRST * PAGE_SIZE, PAGE_SIZE,
                      BENCH_SMALL_PAGES);
    bench_renew_large(npt_directory, PTE_A | PTE_D, flush_now);
    bench_first_touch("touch-2m", touch, (const void *)(BENCH_LARGE_FIRST * MIB(2)), MIB(2),
                      BENCH_LARGE_PAGES);
    bench_changed_tables(flushes, touch, flush_and_enter);
}

void group_bench_svm(void)
{
    if (!svm_start("bench-svm"))
        return;
    bench_round_trips();
    bench_loop("vmload", bench_svm_vmload, &vmcb);
    bench_loop("vmsave", bench_svm_vmsave, host_state);
    bench_loop("gif", bench_svm_gif, NULL);
    bench_loop("invlpga", bench_svm_invlpga, host_state);
    bench_second_level();
    svm_stop();
}
