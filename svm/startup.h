/* SPDX-License-Identifier: MIT */
/*
 * CPUs that wait for the guest's start-up IPI. SVM cannot intercept one, so such a CPU waits in Umbra, and
 * the IPI is caught where it is sent: while any CPU expects one, writes to the ICR are intercepted on all of
 * them (the hook): the x2APIC MSR, and the page of the local APIC. With no CPU expecting one the APIC costs
 * nothing.
 *
 * The hook goes on when a CPU takes an INIT, which the guest has sent a moment before its SIPI. One that was
 * faster than the hook is not lost: every CPU looks into its own ICR when it answers the shoot-down, and
 * Umbra's own interrupts leave it there. The hook goes off when all have started, or when those that wait
 * have waited long: then it takes an INIT, which CPUs that wait see, too. Sources: APM vol. 2 15.21.8, 15.27,
 * 16; SDM vol. 3A 9.4.4, 11.6.1, 11.12.9 for what both vendors share.
 */
#ifndef UMBRA_SVM_STARTUP_H
#define UMBRA_SVM_STARTUP_H

#include "svm/svm.h"

/* At boot, for a CPU that is to wait from the start; svm_startup_begin() follows on the boot CPU. */
void svm_startup_expect(struct svm_vcpu *svm);
/* The boot CPU is about to enter the guest: puts the hook on if another CPU waits. */
void svm_startup_begin(void);

/* This CPU, which is not the boot CPU, has taken an INIT: it waits in Umbra from now on. */
void svm_startup_wait_begins(struct svm_vcpu *svm);
/* Returns when the SIPI has come, and the VMCB is as after it; at once if this CPU does not wait. */
void svm_startup_wait(struct svm_vcpu *svm);

/* WRMSR to the ICR that the hook intercepted: done. False: #GP. */
bool svm_startup_write_msr(u64 command);

/*
 * #NPF: was it the hook's? Then *action says what to do; the instruction is done (EXIT_SKIP), or it is
 * executed with the hook off (EXIT_STEP), and svm_startup_step_done() puts it back.
 */
bool svm_startup_write_page(struct svm_vcpu *svm, const struct violation *violation,
                            enum exit_action *action);
void svm_startup_step_done(struct svm_vcpu *svm);

/* This CPU answers a shoot-down: a SIPI that its guest has sent past the hook reaches who waits for it. */
void svm_startup_look_for_missed(void);

#endif
