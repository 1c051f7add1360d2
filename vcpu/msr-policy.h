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
    MSR_PASS,   /* not intercepted; outside the ranges of the permission map: intercepted and executed */
    MSR_HANDLE, /* intercepted, and a handler in vcpu/msr.c decides */
};

struct msr_rules {
    enum msr_rule read, write;
};

/* `intel` chooses the vendor's rows. */
struct msr_rules msr_policy(u32 msr, bool intel);

/* Why the rules of that MSR are what they are, for log lines: never NULL. */
const char *msr_policy_reason(u32 msr, bool intel);

/*
 * Clears the bit of each passed-through MSR in a permission map that is all ones before.
 * VMX: 4 KByte, SDM vol. 3C 25.6.9; SVM: 8 KByte, APM vol. 2 15.11.
 */
void msr_policy_fill_vmx_bitmap(u8 *bitmap);
void msr_policy_fill_svm_map(u8 *map);

/* The table itself, for its tests. */
enum msr_vendor { MSR_INTEL = 1, MSR_AMD = 2, MSR_BOTH = MSR_INTEL | MSR_AMD };

struct msr_policy_row {
    u32 first, last; /* MSR numbers, both included */
    u8 vendor;       /* enum msr_vendor */
    u8 read, write;  /* enum msr_rule */
    const char *reason;
};

extern const struct msr_policy_row msr_policy_table[];
extern const size_t msr_policy_rows;

#endif
