/* SPDX-License-Identifier: MIT */
/*
 * NMIs of a guest that has several CPUs. With one CPU they go to the guest without Umbra, and so does the
 * blocking of further ones until IRET. With several, an NMI may be a shoot-down's (vcpu/shootdown.h): all are
 * intercepted, the guest's are injected, and Umbra keeps track of the blocking by intercepting IRET. Source:
 * APM vol. 2 15.13.4, 15.20, 15.21.9.
 */
#ifndef UMBRA_SVM_NMI_H
#define UMBRA_SVM_NMI_H

#include "svm/svm.h"

/* percpu.nmi_hook */
void svm_nmi_hook(struct vcpu *vcpu);

/* Are NMIs intercepted whatever L1's GIF is? */
static inline bool svm_nmi_intercepted(void)
{
    return machine.cpus > 1;
}

/*
 * The guest, L1 or L2, whose VMCB is the current one, gets the NMI that waits for it, if any, as soon as it
 * can have one. EXIT_STEP: one instruction first, and then again.
 */
enum exit_action svm_nmi_deliver(struct svm_vcpu *svm);
/* May it have one now, but for another event in the way? */
static inline bool svm_nmi_is_due(const struct svm_vcpu *svm)
{
    return svm->vcpu->nmi_pending && (!svm->nmi_blocked || svm->iret_begun);
}
/* VMEXIT_IRET */
enum exit_action svm_nmi_iret(struct svm_vcpu *svm);
/* Is the instruction at RIP the IRET whose end is waited for? */
bool svm_nmi_at_iret(const struct svm_vcpu *svm);
/* INIT: nothing is blocked, nothing waits. */
void svm_nmi_reset(struct svm_vcpu *svm);

#endif
