/* SPDX-License-Identifier: MIT */
#include "vcpu/shootdown.h"

#include "arch/cpu.h"
#include "arch/print.h"
#include "drivers/local-apic.h"
#include "vcpu/vendor.h"

enum {
    RETRY_POLLS = 1 << 22,  /* so long without an answer: the guest may have changed an APIC ID */
    PATIENCE_RETRIES = 256, /* no CPU stays so long in SMM */
};

static u64 generation; /* of flushes that were asked for */
static bool locked, stopping;

static u64 current_generation(void)
{
    return __atomic_load_n(&generation, __ATOMIC_SEQ_CST);
}

/* An NMI in between may answer by itself; what it has said must not be taken back unseen. */
static void flush(struct vcpu *vcpu)
{
    u64 now;

    do {
        now = current_generation();
        machine.vendor->flush(vcpu);
        __atomic_store_n(&vcpu->flushed, now, __ATOMIC_SEQ_CST);
    } while (current_generation() != now);
}

void shootdown_answer(struct vcpu *vcpu)
{
    if (__atomic_load_n(&stopping, __ATOMIC_RELAXED))
        cpu_stop();
    if (vcpu->flushed != current_generation())
        flush(vcpu);
}

bool shootdown_nmi(struct vcpu *vcpu)
{
    if (!__atomic_exchange_n(&vcpu->kicked, false, __ATOMIC_SEQ_CST))
        return false;
    shootdown_answer(vcpu);
    return true;
}

void machine_lock(struct vcpu *vcpu)
{
    while (__atomic_exchange_n(&locked, true, __ATOMIC_ACQUIRE)) {
        while (__atomic_load_n(&locked, __ATOMIC_RELAXED)) {
            shootdown_answer(vcpu);
            cpu_relax();
        }
    }
}

void machine_unlock(void)
{
    __atomic_store_n(&locked, false, __ATOMIC_RELEASE);
}

static bool answered(const struct vcpu *other, u64 wanted)
{
    return __atomic_load_n(&other->waiting, __ATOMIC_SEQ_CST) ||
           __atomic_load_n(&other->flushed, __ATOMIC_SEQ_CST) >= wanted;
}

/* If the flag is set, an NMI is on its way, and finds whatever was asked for until then. */
static void kick(struct vcpu *other)
{
    if (!__atomic_exchange_n(&other->kicked, true, __ATOMIC_SEQ_CST))
        local_apic_send(other->apic_id, APIC_SEND_NMI);
}

/* By shorthand, so that no ID matters. Each NMI that a CPU takes for the guest's is one too many: last
 * resort. */
static void kick_all(const struct vcpu *self)
{
    for (unsigned i = 0; i < machine.cpus; i++) {
        if (machine.vcpu[i] != self)
            machine.vcpu[i]->kicked = true;
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
    u64 wanted = __atomic_add_fetch(&generation, 1, __ATOMIC_SEQ_CST);

    for (unsigned i = 0; i < machine.cpus; i++) {
        if (machine.vcpu[i] != vcpu && !answered(machine.vcpu[i], wanted))
            kick(machine.vcpu[i]);
    }
    flush(vcpu);
    for (unsigned i = 0; i < machine.cpus; i++) {
        if (machine.vcpu[i] != vcpu)
            wait_for(vcpu, machine.vcpu[i], wanted);
    }
    tdp_flushed(&machine.tdp);
}

void shootdown_if_pending(struct vcpu *vcpu)
{
    machine_lock(vcpu);
    if (machine.tdp.flush_pending)
        shootdown(vcpu);
    machine_unlock();
}

void shootdown_wait_begins(struct vcpu *vcpu)
{
    __atomic_store_n(&vcpu->waiting, true, __ATOMIC_SEQ_CST);
}

/*
 * A kick from before the wait was held back until this exit, and taken; or it is lost, and its flag would
 * swallow an NMI of the guest's.
 */
void shootdown_wait_ends(struct vcpu *vcpu)
{
    vcpu->kicked = false;
    __atomic_store_n(&vcpu->waiting, false, __ATOMIC_SEQ_CST);
    flush(vcpu);
}

void shootdown_stop_others(const struct vcpu *vcpu)
{
    if (machine.cpus <= 1)
        return;
    __atomic_store_n(&stopping, true, __ATOMIC_SEQ_CST);
    kick_all(vcpu);
}
