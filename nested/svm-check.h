/* SPDX-License-Identifier: MIT */
/*
 * VMRUN's consistency checks on a vmcb12, APM vol. 2 15.5.1, on a copy that L1 cannot change meanwhile. Pure.
 */
#ifndef UMBRA_NESTED_SVM_CHECK_H
#define UMBRA_NESTED_SVM_CHECK_H

#include "svm/vmcb.h"

/* Each but the first ends the VMRUN with VMEXIT_INVALID. */
enum svm_check {
    SVM_CHECK_PASSED,
    SVM_CHECK_SVME_CLEAR,
    SVM_CHECK_EFER_RESERVED,
    SVM_CHECK_CR0_NW_WITHOUT_CD,
    SVM_CHECK_CR0_HIGH,
    SVM_CHECK_CR3_RESERVED,
    SVM_CHECK_CR4_RESERVED,
    SVM_CHECK_DR6_HIGH,
    SVM_CHECK_DR7_HIGH,
    SVM_CHECK_LONG_MODE_WITHOUT_PAE,
    SVM_CHECK_LONG_MODE_WITHOUT_PE,
    SVM_CHECK_CS_L_AND_D,
    SVM_CHECK_VMRUN_NOT_INTERCEPTED,
    SVM_CHECK_PERMISSION_MAP_ADDRESS,
    SVM_CHECK_ASID_ZERO,
    SVM_CHECK_EVENT,
    SVM_CHECK_VIRTUAL_NMI,                  /* 15.21.10: it needs the intercept of NMIs */
    SVM_CHECK_NESTED_PAGING_WITHOUT_PAGING, /* 15.25.3: CR0.PG of the host is 0 */
    SVM_CHECK_NESTED_CR3,
    SVM_CHECK_GUEST_PAT, /* 15.25.4: with nested paging, a memory type that is none */
};

/* What the checks need to know of L1's CPU and of L1 itself. */
struct svm_check_facts {
    u64 physical_limit; /* 1 << MAXPHYADDR */
    u64 efer_valid;     /* bits that may be set, SVME among them */
    u64 cr4_valid;
    bool virtual_nmi; /* L1 has it */
    bool host_paging; /* CR0.PG of L1 */
};

enum svm_check svm_check_vmcb(const struct vmcb_control *control, const struct vmcb_save *save,
                              const struct svm_check_facts *facts);

#endif
