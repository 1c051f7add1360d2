/* SPDX-License-Identifier: MIT */
/*
 * A virtual CPU of svm/ without a CPU: the test plays VMEXIT by writing into the VMCB, and doubles stand in
 * for what svm/ calls. State is global, made new by svm_case_set_up().
 */
#ifndef UMBRA_TESTS_UNIT_SVM_CASE_H
#define UMBRA_TESTS_UNIT_SVM_CASE_H

#include <setjmp.h>

#include "svm/svm.h"
#include "svm/instruction.h"

extern struct vmcb vmcb;
extern struct vcpu vcpu;
extern struct svm_vcpu svm;
extern u8 code[INSTRUCTION_MAX_BYTES]; /* at RIP, as far as code_bytes */
extern size_t code_bytes;
extern unsigned fetches, steps_done; /* calls of the doubles */
extern unsigned own_nmis;            /* NMIs that this CPU sent to itself */
extern bool nmi_is_kick;             /* the next NMI is another CPU's shoot-down */
extern jmp_buf shutdown_jump;        /* where svm_guest_shutdown() leads */
extern u64 live_debugctl;            /* the MSR, without LBR virtualization */
extern u64 live_tsc_ratio;           /* the MSR */

/* For cmocka: a 64-bit guest in user memory, nothing pending. */
int svm_case_set_up(void **state);
void set_code(const char *bytes, size_t count);

#endif
