/* SPDX-License-Identifier: MIT */
/*
 * Exit codes as a dense index for tables and counters, and the manual's names of them. Pure.
 */
#ifndef UMBRA_SVM_EXIT_NAME_H
#define UMBRA_SVM_EXIT_NAME_H

#include "arch/types.h"
#include "vcpu/accounting.h"

/* Codes below SVM_EXIT_DENSE are their own index; 400h to 403h, VMEXIT_INVALID and all that is unknown
 * follow. */
enum svm_exit_index {
    SVM_EXIT_DENSE = 0xa8,
    SVM_EXIT_NPF = SVM_EXIT_DENSE,
    SVM_EXIT_INVALID = SVM_EXIT_DENSE + 4,
    SVM_EXIT_UNKNOWN,
    SVM_EXIT_COUNT,
};
_Static_assert((int)SVM_EXIT_COUNT <= (int)ACCOUNTING_REASONS, "each exit index has a counter");

/* Always below SVM_EXIT_COUNT, whatever the CPU wrote into EXITCODE. */
u32 svm_exit_index_slow(u64 code);

static inline u32 svm_exit_index(u64 code)
{
    return __builtin_expect(code < SVM_EXIT_DENSE, 1) ? (u32)code : svm_exit_index_slow(code);
}

/* APM vol. 2 appendix C; "unknown" for a hole and beyond the end. */
const char *svm_exit_name(u32 index);

#endif
