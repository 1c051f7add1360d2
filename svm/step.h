/* SPDX-License-Identifier: MIT */
/*
 * Executing exactly one guest instruction, for EXIT_STEP of vcpu/vcpu.h: with RFLAGS.TF, all exceptions and
 * NMI intercepted, and interrupts held off. The guest sees neither TF, nor BS in DR6, nor anything that came
 * between:
 *
 * - The instruction ends: #DB with DR6.BS. TF, DR6 and DebugCtl.BTF are the guest's again; a trap that
 *   the guest itself is due (its own TF, a data breakpoint) is delivered.
 * - It raises an exception: the step is undone first and the exception injected then, so that the guest's
 *   handler finds its own RFLAGS on its stack. #BP and #OF touch no memory before they are raised: they
 *   are executed anew.
 * - An NMI or INIT comes: the step is undone, and the instruction begins again when the guest comes back
 *   to it.
 * - It touches another page of Umbra's: the step goes on with that page lent as well.
 * - A repeated string instruction traps after each iteration, so each is a step of its own.
 *
 * What it cannot do: an event delivery cannot be stepped (its end is a shutdown), and POPF or IRET from
 * Umbra's memory, where all reads are ones, do not set TF.
 */
#ifndef UMBRA_SVM_STEP_H
#define UMBRA_SVM_STEP_H

#include "svm/svm.h"

/* The exit came during the delivery of an event: that clears TF before the first instruction. */
static inline bool svm_step_is_impossible(const struct svm_vcpu *svm)
{
    return (svm->vmcb->control.exit_int_info & EVENT_VALID) != 0;
}

/* The next VMRUN executes one instruction. Nothing if a step is going on. */
void svm_step_begin(struct svm_vcpu *svm);

/* The guest's instruction counts as not begun: all is as before svm_step_begin(), and the lent pages are
 * gone. */
void svm_step_cancel(struct svm_vcpu *svm);

/* An exception exit during a step, or an NMI exit: ends the step in one of the ways above. */
void svm_step_exception(struct svm_vcpu *svm, unsigned vector);

#endif
