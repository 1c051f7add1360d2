/* SPDX-License-Identifier: MIT */
/*
 * The shoot-down: what is asked of whom, and, with a thread for each CPU, that no CPU uses a translation that
 * was taken away before a shoot-down returned. NMIs are flags that a thread looks at between any two steps of
 * its guest and of Umbra, but for the time that it waits for a SIPI.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <pthread.h>
#include <sched.h>

#include "arch/atomic.h"
#include "drivers/local-apic.h"
#include "tests/unit/vcpu-doubles.h"
#include "vcpu/shootdown.h"
#include "vcpu/vendor.h"

enum { CPUS = 4, DEFAULT_STEPS = 5000 };

static struct vcpu vcpus[CPUS];
static bool nmi[CPUS]; /* one that the CPU has not taken yet */

/* The table is one number, which grows, and a TLB is a copy of it. */
static u64 table, tlb[CPUS], flushes[CPUS];
static bool waiting_at_flush; /* of the last one */

static void flush_tlb(struct vcpu *vcpu)
{
    atomic_poke(&waiting_at_flush, atomic_load(&vcpu->waiting));
    /* Long enough for others to go on, should they believe that it is done. */
    if (atomic_add(&flushes[vcpu->index], 1) % 4 == 0)
        sched_yield();
    atomic_release(&tlb[vcpu->index], atomic_acquire(&table));
}

static const struct vendor vendor = {.flush = flush_tlb};

static void send(u32 destination, u32 command)
{
    for (u32 i = 0; i < CPUS; i++) {
        if ((command & APIC_TO_OTHERS) == APIC_TO_OTHERS || vcpus[i].apic_id == destination)
            (void)atomic_exchange(&nmi[i], true);
    }
}

static int start(void **state)
{
    (void)state;
    doubles_reset();
    double_apic_hook = send;
    memset(&machine, 0, sizeof(machine));
    memset(vcpus, 0, sizeof(vcpus));
    memset(nmi, 0, sizeof(nmi));
    memset(flushes, 0, sizeof(flushes));
    machine.vendor = &vendor;
    machine.cpus = CPUS;
    for (unsigned i = 0; i < CPUS; i++) {
        vcpus[i].index = i;
        vcpus[i].apic_id = 2 * i;
        machine.vcpu[i] = &vcpus[i];
        /* Up to date, whatever earlier tests have asked for. */
        shootdown_wait_ends(&vcpus[i]);
        flushes[i] = 0;
    }
    return 0;
}

/* --- one after the other: the others answer at once, in the NMI that is sent to them --- */

static void answer_at_once(u32 destination, u32 command)
{
    send(destination, command);
    for (unsigned i = 0; i < CPUS; i++) {
        if (atomic_exchange(&nmi[i], false))
            assert_true(shootdown_nmi(&vcpus[i]));
    }
}

static void test_all_flush(void **state)
{
    (void)state;
    double_apic_hook = answer_at_once;
    machine_lock(&vcpus[1]);
    machine.tdp.flush_pending = true;
    machine_unlock(&vcpus[1]);
    for (unsigned i = 0; i < CPUS; i++)
        assert_int_equal(flushes[i], 1);
    assert_int_equal(double_apic_sent, CPUS - 1);
    assert_false(machine.tdp.flush_pending);
    shootdown_if_pending(&vcpus[1]);
    assert_int_equal(double_apic_sent, CPUS - 1);
}

static void test_nothing_without_a_change(void **state)
{
    (void)state;
    machine_lock(&vcpus[0]);
    machine_unlock(&vcpus[0]);
    assert_int_equal(double_apic_sent, 0);
}

static void test_waiting_cpu_is_left_alone(void **state)
{
    (void)state;
    double_apic_hook = answer_at_once;
    shootdown_wait_begins(&vcpus[2]);
    machine.tdp.flush_pending = true;
    shootdown_if_pending(&vcpus[0]);
    assert_int_equal(double_apic_sent, CPUS - 2);
    assert_int_equal(flushes[2], 0);
    shootdown_wait_ends(&vcpus[2]);
    assert_int_equal(flushes[2], 1);
    /* Who asks after the flush is answered by another one. */
    assert_false(waiting_at_flush);
    machine.tdp.flush_pending = true;
    shootdown_if_pending(&vcpus[0]);
    assert_int_equal(flushes[2], 2);
}

/* An NMI without a flag is the guest's; one with a flag is answered, whoever sent it. */
static void test_whose_nmi(void **state)
{
    (void)state;
    assert_false(shootdown_nmi(&vcpus[3]));
    vcpus[3].kicked = true;
    assert_true(shootdown_nmi(&vcpus[3]));
    assert_false(shootdown_nmi(&vcpus[3]));
}

static void test_one_cpu_flushes_at_the_end(void **state)
{
    (void)state;
    machine.cpus = 1;
    machine_lock(&vcpus[0]);
    machine.tdp.flush_pending = true;
    machine_unlock(&vcpus[0]);
    assert_true(machine.tdp.flush_pending);
    assert_int_equal(flushes[0], 0);
    shootdown_if_pending(&vcpus[0]);
    assert_false(machine.tdp.flush_pending);
    assert_int_equal(flushes[0], 1);
    shootdown_stop_others(&vcpus[0]);
    assert_int_equal(double_apic_sent, 0);
}

/* --- at once --- */

static u64 oldest;  /* no CPU may use an older table */
static u64 changes; /* of the table, counted by those who make them */
static unsigned running;
static u64 stale;

static unsigned long wanted(const char *variable, unsigned long otherwise)
{
    const char *text = getenv(variable);
    return text == NULL ? otherwise : strtoul(text, NULL, 10);
}

static u64 next_random(u64 *random)
{
    *random = *random * 6364136223846793005ull + 1442695040888963407ull;
    return *random >> 33;
}

static void take_nmi(struct vcpu *vcpu)
{
    if (atomic_exchange(&nmi[vcpu->index], false))
        (void)shootdown_nmi(vcpu);
}

static void guest_uses_memory(const struct vcpu *vcpu)
{
    u64 allowed = atomic_load(&oldest);

    if (atomic_acquire(&tlb[vcpu->index]) < allowed)
        atomic_add(&stale, 1);
    if (vcpu->index != 0 && allowed % 16 == 0)
        sched_yield();
}

static void change_table(struct vcpu *vcpu)
{
    machine_lock(vcpu);
    u64 new = atomic_add(&table, 1) + 1;
    machine.tdp.flush_pending = true;
    machine_unlock(vcpu);
    atomic_add(&changes, 1);
    /* Others may have raised it further already. */
    for (u64 old = atomic_load(&oldest); old < new && !atomic_cas(&oldest, old, new);)
        old = atomic_load(&oldest);
}

static void wait_for_sipi(struct vcpu *vcpu, u64 *random)
{
    shootdown_wait_begins(vcpu);
    for (u64 i = next_random(random) % 50; i != 0; i--)
        sched_yield();
    /* The NMI that was held back comes before anything else. */
    take_nmi(vcpu);
    shootdown_wait_ends(vcpu);
}

static void *cpu_thread(void *argument)
{
    struct vcpu *vcpu = argument;
    u64 random = vcpu->index + 1 + CPUS * wanted("SHOOTDOWN_SEED", 0);

    for (unsigned long i = wanted("SHOOTDOWN_STEPS", DEFAULT_STEPS); i != 0; i--) {
        u64 choice = next_random(&random) % 64;
        take_nmi(vcpu);
        if (choice == 0)
            change_table(vcpu);
        else if (choice == 1)
            wait_for_sipi(vcpu, &random);
        else
            guest_uses_memory(vcpu);
    }
    /* The others still need its answers. */
    shootdown_wait_begins(vcpu);
    (void)__atomic_sub_fetch(&running, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void test_no_stale_translation(void **state)
{
    pthread_t threads[CPUS];

    (void)state;
    running = CPUS;
    for (unsigned i = 0; i < CPUS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, cpu_thread, &vcpus[i]), 0);
    for (unsigned i = 0; i < CPUS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(running, 0);
    assert_int_equal(stale, 0);
    assert_true(changes > 0);
    assert_int_equal(oldest, table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_all_flush, start),
        cmocka_unit_test_setup(test_nothing_without_a_change, start),
        cmocka_unit_test_setup(test_waiting_cpu_is_left_alone, start),
        cmocka_unit_test_setup(test_whose_nmi, start),
        cmocka_unit_test_setup(test_one_cpu_flushes_at_the_end, start),
        cmocka_unit_test_setup(test_no_stale_translation, start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
