/* SPDX-License-Identifier: MIT */
/*
 * What CPUs owe each other: one of them changes second-level tables, and must know that no CPU uses the old
 * translation any more. Each CPU that may is interrupted by an NMI, flushes, and says so by its generation;
 * nothing is asked of a CPU that does not do this, so entries and exits cost nothing.
 *
 * - The NMI finds the CPU in its guest, which is an exit, or in Umbra, where the NMI handler (Intel) or the
 *   next exit (AMD, where GIF holds it back until then) answers. Umbra uses no guest translation, so a flush
 *   between the two entries is as good at one place as at another.
 * - A CPU that waits for something of another's calls shootdown_answer() meanwhile: NMIs may be blocked
 *   there.
 * - A CPU that waits for a SIPI takes no NMI and uses no translation: it is not asked, and flushes before it
 *   goes on.
 * - An NMI is Umbra's if vcpu->kicked was set before, and else the guest's. If both come, the first takes the
 *   flag, whichever it is, so the guest gets one, late by a moment. Both may merge into one only while NMIs
 *   are blocked in the CPU, from an NMI exit to the next entry, as any two NMIs of one guest do.
 */
#ifndef UMBRA_VCPU_SHOOTDOWN_H
#define UMBRA_VCPU_SHOOTDOWN_H

#include "vcpu/vcpu.h"

/*
 * Serialises what belongs together: changes of machine.tdp with their flush, machine.mtrr with the types made
 * from it, lent pages, and what test hypercalls remember. Who has unlocked may let its guest go on: all CPUs
 * have flushed what was changed (alone, at the end of the exit). Not recursive; held for bounded work only,
 * never while a guest runs. Tables and frames have locks of their own, inside this one.
 */
void machine_lock(struct vcpu *vcpu);
void machine_unlock(struct vcpu *vcpu);

/*
 * Returns when no CPU can use a translation, of L1 or of its guests, that was made before the call from
 * second-level tables as they were then; what machine.tdp had unlinked is free. The lock is held.
 */
void shootdown(struct vcpu *vcpu);
/* For the end of an exit: the same if machine.tdp.flush_pending. Takes the lock. */
void shootdown_if_pending(struct vcpu *vcpu);

/* Does what other CPUs wait for. For every loop that waits for another CPU; callable from the NMI handler. */
void shootdown_answer(struct vcpu *vcpu);
/* An NMI has come: true if it was Umbra's, and answered. */
bool shootdown_nmi(struct vcpu *vcpu);

/* This CPU begins to wait for a SIPI, with NMIs blocked; or has got one, and all its translations are
 * flushed.
 */
void shootdown_wait_begins(struct vcpu *vcpu);
void shootdown_wait_ends(struct vcpu *vcpu);

/* Stops all CPUs but this one, for a fatal report, and waits for them, though not for ever. Once. */
void shootdown_stop_others(const struct vcpu *vcpu);

#endif
