/* SPDX-License-Identifier: MIT */
/*
 * The small interface behind which Intel's VMX and AMD's SVM differ; implemented once in vmx/ and once in
 * svm/ and chosen at run time.
 */
#ifndef UMBRA_VCPU_VENDOR_H
#define UMBRA_VCPU_VENDOR_H

#include "vcpu/vcpu.h"

struct vendor {
    const char *name; /* "VMX" or "SVM" */

    /*
     * Checks that this CPU has and firmware allows all that Umbra needs; fills in what the second-level
     * tables need to know. NULL if it is fine, else one sentence that says what is missing and what to do.
     * Changes nothing.
     */
    const char *(*probe)(struct tdp_config *config);

    /*
     * Checks that this CPU, another than the one that probe() saw, is like it and can wait for a SIPI: NULL,
     * or a sentence as above.
     */
    const char *(*match)(void);

    /* Enters VMX operation, or sets EFER.SVME, on this CPU; once per CPU. NULL, or a sentence as above. */
    const char *(*enable)(struct vcpu *vcpu);

    /*
     * Builds the VMCS or VMCB of this CPU's guest on machine.tdp; `start` NULL: the guest waits for a SIPI.
     * NULL, or a sentence as above.
     */
    const char *(*prepare)(struct vcpu *vcpu, const struct start_state *start);

    /*
     * Runs the guest on this CPU for ever: enter, handle the exit, repeat. It does not return. One that waits
     * for a SIPI misses none from a few instructions after the call on.
     */
    void (*run)(struct vcpu *vcpu);

    /*
     * This CPU, whose vcpu it is, drops all translations of its guest, and of that guest's guests, before it
     * enters one of them again. May be called by the NMI handler. See vcpu/shootdown.h.
     */
    void (*flush)(struct vcpu *vcpu);

    /* Name of an exit reason index of the accounting. */
    const char *(*reason_name)(u32 reason);

    /* Prints the guest's state (registers, segments, controls) for a fatal report; may be called in any
     * state. */
    void (*dump)(struct vcpu *vcpu);
};

extern const struct vendor vmx_vendor;
extern const struct vendor svm_vendor;

#endif
