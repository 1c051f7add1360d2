/* SPDX-License-Identifier: MIT */
/*
 * The guest's EFER: the real one with SVME hidden. Pure.
 */
#ifndef UMBRA_SVM_EFER_H
#define UMBRA_SVM_EFER_H

#include "arch/types.h"

/* CPUID words that say which EFER bits exist: APM vol. 2 3.1.7, vol. 3 appendix E. */
struct efer_features {
    u32 leaf_80000001_ecx, leaf_80000001_edx;
    u32 leaf_80000008_ebx;
    u32 leaf_80000021_eax;
};

/* The EFER bits that a guest may change: SVME and LMA are never among them. */
u64 svm_efer_writable(const struct efer_features *features);

/*
 * WRMSR of EFER by the guest at CPL 0. `current` is EFER as it stands in the VMCB, SVME included; the new
 * VMCB value goes to *result. False where the CPU raises #GP: a reserved bit, SVME (which looks reserved), or
 * a change of LME while paging is on (APM vol. 2 3.1.7 and 14.6.1). LMA as written is ignored: the CPU keeps
 * it.
 */
bool svm_efer_write(u64 current, u64 wanted, u64 cr0, u64 writable, u64 *result);

/* What RDMSR shows the guest. */
u64 svm_efer_visible(u64 current);

#endif
