/* SPDX-License-Identifier: MIT */
/*
 * What this CPU's SVM can do, and whether it can do all that Umbra needs.
 */
#ifndef UMBRA_SVM_CAPABILITY_H
#define UMBRA_SVM_CAPABILITY_H

#include "mm/tdp.h"

/* CPUID 8000_000A EDX, APM vol. 3 E.4.9 */
#define SVM_EDX_NP              BIT(0)
#define SVM_EDX_LBR             BIT(1)
#define SVM_EDX_SVML            BIT(2)
#define SVM_EDX_NRIPS           BIT(3)
#define SVM_EDX_TSC_RATIO       BIT(4)
#define SVM_EDX_VMCB_CLEAN      BIT(5)
#define SVM_EDX_FLUSH_BY_ASID   BIT(6)
#define SVM_EDX_DECODE_ASSISTS  BIT(7)
#define SVM_EDX_PAUSE_FILTER    BIT(10)
#define SVM_EDX_PAUSE_THRESHOLD BIT(12)
#define SVM_EDX_VIRTUAL_VMLOAD  BIT(15)
#define SVM_EDX_VGIF            BIT(16)
#define SVM_EDX_GMET            BIT(17)
#define SVM_EDX_VNMI            BIT(25)
#define SVM_EDX_ADDRESS_CHECK   BIT(28)

/* Those that Umbra uses where they are, and does without where they are not. */
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
