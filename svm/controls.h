/* SPDX-License-Identifier: MIT */
/*
 * Which acts of the guest leave it: one visible table of intercepts, each with its reason. Pure.
 */
#ifndef UMBRA_SVM_CONTROLS_H
#define UMBRA_SVM_CONTROLS_H

#include "svm/vmcb.h"

struct svm_intercept {
    u32 code;           /* enum vmexit_code below 0xC0; it also names the intercept bit */
    const char *reason; /* why Umbra cannot leave it to the guest */
};

extern const struct svm_intercept svm_intercepts[];
extern const unsigned svm_intercept_count;

/* Fills the intercept words from the table. */
void svm_controls_set_intercepts(u32 words[VMCB_INTERCEPT_WORDS]);

/*
 * VMLOAD and VMSAVE of a guest that may use them: the CPU takes rAX for guest-physical if it can (15.33.1),
 * so that what nested paging keeps from the guest stays kept; else they are intercepted.
 */
void svm_controls_vmload(struct vmcb_control *control, bool direct);

/* Exception intercepts in normal operation, while an exception is delivered (svm/event.h), and while one
 * instruction is stepped (svm/step.h). */
u32 svm_controls_exceptions(void);
u32 svm_controls_delivery_exceptions(void);
u32 svm_controls_step_exceptions(void);

#endif
