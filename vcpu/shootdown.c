/* SPDX-License-Identifier: MIT */
#include "vcpu/shootdown.h"

#include "arch/atomic.h"
#include "arch/cpu.h"
#include "arch/print.h"
#include "drivers/local-apic.h"
#include "vcpu/nested.h"
#include "vcpu/vendor.h"

enum {
    RETRY_POLLS = 1 << 22,  /* so long without an answer: the guest may have changed an APIC ID */
    PATIENCE_RETRIES = 256, /* no CPU stays so long in SMM */
    STOP_POLLS = 1 << 22,   /* one may be dead */
};

static u64 generation; /* of flushes that were asked for */
static bool locked, stopping;
static unsigned stopped;

static u64 current_generation(void)
{
    return atomic_load(&generation);
}

/* An NMI in between may answer by itself; what it has said must not be taken back unseen. */
static void flush(struct vcpu *vcpu)
{
    u64 now;

    do {
        now = current_generation();
        machine.vendor->flush(vcpu);
        (void)atomic_exchange(&vcpu->flushed, now);
    } while (current_generation() != now);
}

static void stop_if_told(void)
{
    if (!atomic_peek(&stopping))
        return;
    atomic_add(&stopped, 1);
    cpu_stop();
}

void shootdown_answer(struct vcpu *vcpu)
{
    stop_if_told();
    if (vcpu->flushed != current_generation())
        flush(vcpu);
}

bool shootdown_nmi(struct vcpu *vcpu)
{
    if (!atomic_exchange(&vcpu->kicked, false))
        return false;
    shootdown_answer(vcpu);
    return true;
}

void machine_lock(struct vcpu *vcpu)
{
    while (atomic_exchange(&locked, true)) {
        while (atomic_peek(&locked)) {
            shootdown_answer(vcpu);
            cpu_relax();
        }
    }
}

static bool answered(const struct vcpu *other, u64 wanted)
{
    return atomic_load(&other->waiting) || atomic_load(&other->flushed) >= wanted;
}

/* If the flag is set, an NMI is on its way, and finds whatever was asked for until then. */
static void kick(struct vcpu *other)
{
    if (!atomic_exchange(&other->kicked, true))
        local_apic_send(other->apic_id, APIC_SEND_NMI);
}

/* By shorthand, so that no ID matters. Each NMI that a CPU takes for the guest's is one too many: last
 * resort. */
static void kick_all(const struct vcpu *self)
{
    for (unsigned i = 0; i < machine.cpus; i++) {
        if (machine.vcpu[i] != self)
            atomic_poke(&machine.vcpu[i]->kicked, true);
    }
    local_apic_send(0, APIC_SEND_NMI | APIC_TO_OTHERS);
}

static void wait_for(const struct vcpu *self, const struct vcpu *other, u64 wanted)
{
    for (u64 polls = 1; !answered(other, wanted); polls++) {
        cpu_relax();
        if (polls % RETRY_POLLS == 0)
            kick_all(self);
        if (polls == (u64)RETRY_POLLS * PATIENCE_RETRIES)
            fatal("CPU %u does not answer CPU %u", other->index, self->index);
    }
}

void shootdown(struct vcpu *vcpu)
{
    if (nested_hooks != NULL)
        nested_hooks->own_map_changed(vcpu);
    u64 retired = tdp_flush_begins(&machine.tdp);
    u64 wanted = atomic_add(&generation, 1) + 1;

    for (unsigned i = 0; i < machine.cpus; i++) {
        if (machine.vcpu[i] != vcpu && !answered(machine.vcpu[i], wanted))
            kick(machine.vcpu[i]);
    }
    flush(vcpu);
    for (unsigned i = 0; i < machine.cpus; i++) {
        if (machine.vcpu[i] != vcpu)
            wait_for(vcpu, machine.vcpu[i], wanted);
    }
    tdp_flush_ends(retired);
}

void machine_unlock(struct vcpu *vcpu)
{
    if (machine.cpus > 1 && atomic_peek(&machine.tdp.flush_pending))
        shootdown(vcpu);
    atomic_release(&locked, false);
}

void shootdown_if_pending(struct vcpu *vcpu)
{
    machine_lock(vcpu);
    if (atomic_peek(&machine.tdp.flush_pending))
        shootdown(vcpu);
    machine_unlock(vcpu);
}

void shootdown_wait_begins(struct vcpu *vcpu)
{
    (void)atomic_exchange(&vcpu->waiting, true);
}

/*
 * A kick from before the wait was held back until this exit, and taken; or it is lost, and its flag would
 * swallow an NMI of the guest's.
 */
void shootdown_wait_ends(struct vcpu *vcpu)
{
    atomic_poke(&vcpu->kicked, false);
    (void)atomic_exchange(&vcpu->waiting, false);
    stop_if_told();
    flush(vcpu);
}

static bool all_stopped(void)
{
    unsigned quiet = 1 + atomic_load(&stopped);

    for (unsigned i = 0; i < machine.cpus; i++)
        quiet += atomic_load(&machine.vcpu[i]->waiting);
    return quiet >= machine.cpus;
}

void shootdown_stop_others(const struct vcpu *vcpu)
{
    if (machine.cpus <= 1)
        return;
    (void)atomic_exchange(&stopping, true);
    kick_all(vcpu);
    for (unsigned i = 0; i < STOP_POLLS && !all_stopped(); i++)
        cpu_relax();
}
