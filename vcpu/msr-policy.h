/* SPDX-License-Identifier: MIT */
/*
 * The allow-list of MSRs: one visible table that says for each group who may read and write it and why. The
 * vendors build their permission maps from it, and the handlers of intercepted accesses use the same rows.
 */
#ifndef UMBRA_VCPU_MSR_POLICY_H
#define UMBRA_VCPU_MSR_POLICY_H

#include "arch/types.h"

enum msr_rule {
    MSR_DENY,   /* intercepted, #GP(0): also everything that the table does not name */
    MSR_PASS,   /* not intercepted */
    MSR_HANDLE, /* intercepted, and a handler in vcpu/msr.c decides */
};

struct msr_rules {
    enum msr_rule read, write;
};

/* `intel` chooses the vendor's rows. */
struct msr_rules msr_policy(u32 msr, bool intel);

/*
 * Clears the bit of each passed-through MSR in a permission map that is all ones before.
 * VMX: 4 KByte, SDM vol. 3C 25.6.9; SVM: 8 KByte, APM vol. 2 15.11.
 */
void msr_policy_fill_vmx_bitmap(u8 *bitmap);
void msr_policy_fill_svm_map(u8 *map);

#endif
