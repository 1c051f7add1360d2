/* SPDX-License-Identifier: MIT */
/*
 * HLT of a guest that has several CPUs. A VMCB does not say that its guest was halted, so an NMI that is
 * Umbra's own would wake it up, in code that may not be there any more. So HLT is intercepted; Umbra takes
 * over the waiting, in a guest of its own that has nothing but a HLT, and what would have woken the CPU ends
 * it. With one CPU no NMI is Umbra's, and HLT costs nothing. Source: APM vol. 3 HLT, vol. 2 15.9, 15.13.
 */
#ifndef UMBRA_SVM_HALT_H
#define UMBRA_SVM_HALT_H

#include "svm/svm.h"

/* At boot, before the guest's state is loaded. The page of the host's VMCB is used: VMRUN and VMLOAD have
 * different parts of it. */
void svm_halt_prepare(struct svm_vcpu *svm);

/* VMEXIT_HLT of L1. Returns when the guest is awake, and behind the HLT, with the event that is due to it. */
enum exit_action svm_halt(struct svm_vcpu *svm);

#endif
