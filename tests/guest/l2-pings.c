/* SPDX-License-Identifier: MIT */
/* Interrupts from L2 to L2, for the groups vmx-smp and svm-smp; see tests/guest/l2.h. */
#include "tests/guest/l2.h"

enum { PINGS = 40 };

static const struct l2_pings *job;
static volatile unsigned taken[2], exits[2]; /* by whether it is the other CPU */
static volatile bool go;
static u32 own_id;

bool l2_take_ping(struct frame *at)
{
    (void)at;
    taken[apic_id() == smp_id(0)]++;
    apic_write(APIC_EOI, 0);
    return true;
}

static void let_interrupts_in(void)
{
    __asm__ volatile("sti\nnop\nnop\ncli" ::: "memory");
}

static void wait_in_l2(bool other, bool first)
{
    exits[other] += job->run(other, first);
    let_interrupts_in();
}

static void answer(void)
{
    job->prepare(true);
    while (!go)
        __asm__ volatile("pause");
    /* What has woken this CPU up is not to be the first. */
    let_interrupts_in();
    for (unsigned i = 0; i < PINGS; i++) {
        wait_in_l2(true, i == 0);
        apic_send(own_id, ICR_FIXED | VECTOR_PING);
    }
}

void l2_check_pings(const struct l2_pings *pings)
{
    job = pings;
    own_id = apic_id();
    for (unsigned i = 0; i < 2; i++)
        taken[i] = exits[i] = 0;
    go = false;
    trap_set_hook(VECTOR_PING, l2_take_ping);
    check_part(job->prefix, "interrupts.begin", smp_call_one(0, answer), true);
    smp_settle();
    job->prepare(false);
    go = true;
    smp_settle();
    for (unsigned i = 0; i < PINGS; i++) {
        apic_send(smp_id(0), ICR_FIXED | VECTOR_PING);
        wait_in_l2(false, i == 0);
    }
    check_part(job->prefix, "interrupts.return", smp_returned(0), true);
    for (unsigned i = 0; i < 2; i++) {
        check_part(job->prefix, "interrupts.exits", exits[i], PINGS);
        check_part(job->prefix, "interrupts.taken", taken[i], PINGS);
    }
}
