/* SPDX-License-Identifier: MIT */
/*
 * Groups `exits` and `triple`: Umbra's ordinary hypercalls and what an exit costs in time-stamp counts (which
 * an emulator that counts instructions makes exact); and a deliberate triple fault, after which nothing of
 * this guest runs.
 */
#include "tests/guest/guest.h"

enum { LOOPS = 1000 };

static u64 cpuid_loop(void)
{
    u64 start = rdtsc();
    for (unsigned i = 0; i < LOOPS; i++)
        cpuid(0, 0);
    return rdtsc() - start;
}

static u64 empty_loop(void)
{
    u64 start = rdtsc();
    for (unsigned i = 0; i < LOOPS; i++)
        __asm__ volatile("nop" ::: "memory", "eax", "ebx", "ecx", "edx");
    return rdtsc() - start;
}

static void bench(void)
{
    u64 warm = cpuid_loop() + empty_loop();
    u64 exits = under_umbra ? hypercall(HYPERCALL_EXITS, 0, 0, 0).rbx : 0;
    u64 with = cpuid_loop();
    if (under_umbra)
        exits = hypercall(HYPERCALL_EXITS, 0, 0, 0).rbx - exits;
    u64 without = empty_loop();
    print("guest: bench cpuid loops=%u exits=%lu tsc=%lu per=%lu (warm-up %lu)\n", LOOPS, exits, with,
          (with - without) / LOOPS, warm);
    if (under_umbra)
        check_eq("exits.one_per_cpuid", exits, LOOPS + 1);
}

void group_exits(void)
{
    bench();
    struct hypercall features = hypercall(HYPERCALL_FEATURES, 0, 0, 0);
    if (!under_umbra) {
        check_eq("exits.hypercall_on_a_bare_cpu", features.vector, EXC_UD);
        return;
    }
    check_eq("exits.features", features.status, HYPERCALL_OK);
    check("exits.version", features.rcx != 0 && features.rcx != HYPERCALL_FEATURES);
    print("guest: fact exits.features 0x%lx version 0x%lx\n", features.rbx, features.rcx);
    struct hypercall exits = hypercall(HYPERCALL_EXITS, 0, 0, 0), again = hypercall(HYPERCALL_EXITS, 0, 0, 0);
    check("exits.count", exits.status == HYPERCALL_OK && again.rbx == exits.rbx + 1);
    check("exits.arguments_unchanged", exits.rdx == 0 && exits.rsi == 0 && exits.rdi == 0);
    check_eq("exits.report", hypercall(HYPERCALL_REPORT, 5, 0, 0).status, HYPERCALL_OK);
    check_eq("exits.unknown_function", hypercall(99, 0, 0, 0).vector, EXC_UD);
    /* A build without the test hypercalls must behave as if they did not exist. */
    struct hypercall region = hypercall(HYPERCALL_TEST_REGION, 0, 0, 0);
    check("exits.test_hypercalls_only_in_test_builds",
          test_build ? region.status == HYPERCALL_OK : region.vector == EXC_UD);
}

void group_triple(void)
{
    struct {
        u16 limit;
        u64 base;
    } __attribute__((packed)) empty = {0, 0};
    print("guest: triple fault follows\n");
    __asm__ volatile("lidt %0; ud2" ::"m"(empty));
}
