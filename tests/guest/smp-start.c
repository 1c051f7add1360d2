/* SPDX-License-Identifier: MIT */
/*
 * Group smp-start: INIT and SIPI at awkward moments and in awkward ways, in xAPIC mode; cpus=N as for group
 * smp. They count whatever else is sent to the same CPU, whichever instruction sends them, and whatever was
 * sent before. Source: SDM vol. 3A 9.4.4, 11.6.1; APM vol. 2 15.27, 16.5.
 */
#include "tests/guest/guest.h"

enum { ROUNDS = 20, SETTLES = 4, FEW_WRITES = 1000, MANY_WRITES = 1 << 14, ICR_ADDRESS = 0xfee00300 };
#define SIPI (ICR_STARTUP | SMP_PAGE >> 12)

static unsigned others;

static bool starts_by_sipi(unsigned who)
{
    unsigned starts = smp_starts(who);

    apic_send(smp_id(who), SIPI);
    return smp_has_started(who, starts + 1);
}

/* Exits of so many writes to the local APIC. */
static u64 exits_of_writes(unsigned writes)
{
    u64 before = hypercall(HYPERCALL_EXITS, 0, 0, 0).rbx;

    for (unsigned i = 0; i < writes; i++)
        apic_write(APIC_TPR, 0);
    return hypercall(HYPERCALL_EXITS, 0, 0, 0).rbx - before - 1;
}

/* AMD, before any other CPU has started: Umbra looks for SIPIs, but not for ever. */
static void unused_cpus(void)
{
    check_eq("smp-start.sipi_is_looked_for", exits_of_writes(FEW_WRITES), FEW_WRITES);
    (void)exits_of_writes(MANY_WRITES);
    check("smp-start.unused_cpus_cost_nothing", exits_of_writes(FEW_WRITES) <= 1);
}

static volatile bool go;
static u64 page[512] __attribute__((aligned(4096)));

static void shoot_down_again_and_again(void)
{
    for (u64 i = 0; !go; i++)
        (void)hypercall(HYPERCALL_TEST_PROTECT, (u64)page, (u64)page + sizeof(page), i % 2 != 0 ? 1 : 15);
}

/*
 * While Umbra's own NMIs come to the same CPU. Not on Bochs, where an INIT that comes in VMX root operation
 * is lost.
 */
static void init_in_shoot_down(void)
{
    unsigned who = others - 1, good = 0;

    if (who == 0)
        return;
    for (unsigned n = 0; n < ROUNDS; n++) {
        go = false;
        good += smp_call_one(0, shoot_down_again_and_again);
        for (unsigned i = 0; i < 100 * n; i++)
            __asm__ volatile("pause");
        apic_send(smp_id(who), ICR_INIT);
        for (unsigned i = 0; i < 10000; i++)
            __asm__ volatile("pause");
        go = true;
        good += starts_by_sipi(who);
        (void)smp_returned(0);
    }
    check_eq("smp-start.init_in_shoot_down", good, 2 * ROUNDS);
}

/*
 * A CPU that waits gets a SIPI, and at once an INIT: whether or not it has started in between, it waits
 * again. Not on Bochs, where the SIPI is an exit to Umbra's VMX root operation.
 */
static void init_after_sipi(void)
{
    unsigned who = others - 1, good = 0;

    for (unsigned n = 0; n < ROUNDS; n++) {
        apic_send(smp_id(who), ICR_INIT);
        smp_settle();
        apic_send(smp_id(who), SIPI);
        for (unsigned i = 0; i < 2 * n; i++)
            __asm__ volatile("pause");
        apic_send(smp_id(who), ICR_INIT);
        smp_settle();
        good += starts_by_sipi(who);
    }
    check_eq("smp-start.init_after_sipi", good, ROUNDS);
}

/* Other CPUs run meanwhile. */
static void start_by_string_store(void)
{
    bool good = true;

    for (unsigned who = 0; who < others; who++) {
        u64 at = ICR_ADDRESS;
        unsigned starts = smp_starts(who);
        apic_send(smp_id(who), ICR_INIT);
        smp_settle();
        apic_write(APIC_ICR + 0x10, smp_id(who) << 24);
        __asm__ volatile("stosl" : "+D"(at) : "a"(SIPI) : "memory");
        good = smp_has_started(who, starts + 1) && good;
        if (!good)
            break;
    }
    check("smp-start.start_by_string_store", good);
}

static void send_init_to_last(void)
{
    while (!go)
        __asm__ volatile("pause");
    apic_send(smp_id(others - 1), ICR_INIT);
}

/* This CPU's SIPI, which comes to a CPU that runs, means nothing to it after another CPU's INIT. */
static void sipi_before_init(void)
{
    unsigned who = others - 1, starts = smp_starts(who);

    if (who == 0) {
        note_skipped("smp-start.sipi_before_init", "two CPUs");
        return;
    }
    go = false;
    check("smp-start.init_of_another", smp_call_one(0, send_init_to_last));
    apic_send(smp_id(who), SIPI);
    smp_settle();
    go = true;
    for (unsigned i = 0; i < SETTLES; i++)
        smp_settle();
    check_eq("smp-start.sipi_before_init", smp_starts(who), starts);
    check("smp-start.sipi_after_init", starts_by_sipi(who));
    (void)smp_returned(0);
}

void group_smp_start(void)
{
    if (under_umbra && test_build && !is_intel)
        unused_cpus();
    others = smp_start();
    if (others == 0) {
        note_skipped("smp-start", "one CPU");
        return;
    }
    if (under_umbra && test_build && !is_intel)
        init_in_shoot_down();
    if (under_umbra && !is_intel)
        init_after_sipi();
    start_by_string_store();
    sipi_before_init();
    check("smp-start.all_rest", smp_rest());
}
