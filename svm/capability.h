/* SPDX-License-Identifier: MIT */
/*
 * What this CPU's SVM can do, and whether it can do all that Umbra needs.
 */
#ifndef UMBRA_SVM_CAPABILITY_H
#define UMBRA_SVM_CAPABILITY_H

#include "mm/tdp.h"

/* CPUID 8000_000A, APM vol. 3 E.4.9. Umbra does without any of them. */
struct svm_features {
    bool lbr_virtualization;
    bool nrip_save;
    bool clean_bits;
    bool flush_by_asid;
    bool decode_assists;
    bool tsc_ratio;
    bool virtual_vmload; /* and VMSAVE */
    bool virtual_gif;
    bool virtual_nmi;
    bool gmet;
};

/* Set by svm_probe(), the same for all CPUs. */
extern struct svm_features svm_features;

/* vendor.probe: see vcpu/vendor.h. */
const char *svm_probe(struct tdp_config *config);
/* For vendor.match. One CPU at a time. */
const char *svm_match(void);

#endif
