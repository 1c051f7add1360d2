/* SPDX-License-Identifier: MIT */
/*
 * Events on their way to the guest: exceptions that Umbra raises, and events whose delivery an exit
 * interrupted.
 */
#ifndef UMBRA_SVM_EVENT_H
#define UMBRA_SVM_EVENT_H

#include "svm/svm.h"

/* What the CPU delivers when an exception is raised while another event is being delivered. */
enum svm_delivery { SVM_DELIVER_IT, SVM_DELIVER_DOUBLE_FAULT, SVM_DELIVER_SHUTDOWN };

/* Pure. `in_flight` is an EXITINTINFO; APM vol. 2 8.2.9. */
enum svm_delivery svm_event_combine(u64 in_flight, unsigned vector);

/*
 * Pure. The EVENTINJ that finishes the interrupted delivery which EXITINTINFO describes; 0 if there is none,
 * or if the guest does so itself by executing its INT, INT3 or INTO again.
 */
u64 svm_event_reinjection(u64 exit_int_info);

/*
 * Pure: EXITINTINFO with the type corrected that QEMU's TCG gets wrong for an NMI and a directly delivered
 * interrupt; 0 if there is none.
 */
u64 svm_event_in_flight(u64 exit_int_info);

/*
 * Raises an exception of the guest at its current RIP, as the outcome of the present exit. A fault, if not
 * #DB. If the exit interrupted the delivery of another event, the two combine to #DF or to a shutdown.
 */
void svm_event_raise(struct svm_vcpu *svm, unsigned vector, u32 error_code);

/*
 * Finishes an interrupted delivery: `event` is an EVENTINJ or 0.
 *
 * While an exception is injected that could make a double fault with another, those others are intercepted
 * until the next exit. A CPU finds the double fault by itself, but QEMU's TCG forgets that an injected
 * exception is being delivered.
 */
void svm_event_inject(struct svm_vcpu *svm, u64 event);

/* At an exit: takes those intercepts away again. */
void svm_event_delivery_over(struct svm_vcpu *svm);

/*
 * The exit of an exception that was intercepted for that reason: a second fault, which is combined with the
 * first and raised; or a new one after all was well, which the guest raises again by itself, unintercepted
 * now.
 */
void svm_event_second_exception(struct svm_vcpu *svm, unsigned vector);

/* A trap-like #DB; DR6 is the caller's business. */
void svm_event_debug_trap(struct svm_vcpu *svm);

/* An intercepted #PF has not changed CR2 yet: what it would be. */
void svm_event_set_cr2(struct svm_vcpu *svm, u64 address);

void svm_event_init_redirected(struct svm_vcpu *svm);

/* An NMI that Umbra took on the guest's behalf. */
void svm_event_nmi(struct svm_vcpu *svm);

#endif
