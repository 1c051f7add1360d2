/* SPDX-License-Identifier: MIT */
/*
 * Switching SVM on and building the VMCB. The functions are those of vcpu/vendor.h.
 */
#ifndef UMBRA_SVM_SETUP_H
#define UMBRA_SVM_SETUP_H

#include "vcpu/vcpu.h"

const char *svm_enable(struct vcpu *vcpu);
const char *svm_prepare(struct vcpu *vcpu, const struct start_state *start);
_Noreturn void svm_run(struct vcpu *vcpu);

#endif
