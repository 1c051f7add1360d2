/* SPDX-License-Identifier: MIT */
/*
 * What the exits of L2 that tests/unit/test-nested-svm-exit.c plays have no business to call, though the
 * objects refer to it. Each is the end of the test; no header is included, so that one shape does for all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define NEVER(function)                                                                                      \
    void function(void);                                                                                     \
    void function(void)                                                                                      \
    {                                                                                                        \
        fail_msg("%s() was called", #function);                                                              \
    }

NEVER(fatal)
NEVER(hypercall_exit)
NEVER(invd_exit)
NEVER(local_apic_reset)
NEVER(memmap_guest_owns)
NEVER(nested_svm_instruction)
NEVER(rdmsr_exit)
NEVER(shootdown_if_pending)
NEVER(start_state_init)
NEVER(svm_decode_next_rip)
NEVER(svm_efer_visible)
NEVER(svm_efer_write)
NEVER(svm_halt)
NEVER(svm_instruction_is)
NEVER(svm_instruction_needs_svm)
NEVER(svm_load_start)
NEVER(svm_msr_intercepted)
NEVER(svm_msr_learn)
NEVER(svm_nmi_deliver)
NEVER(svm_nmi_follow)
NEVER(svm_nmi_iret)
NEVER(svm_nmi_reset)
NEVER(svm_set_gif)
NEVER(svm_set_l1_svme)
NEVER(svm_startup_look_for_missed)
NEVER(svm_startup_wait)
NEVER(svm_startup_wait_begins)
NEVER(svm_startup_write_msr)
NEVER(svm_take_events)
NEVER(wrmsr_exit)
NEVER(wrmsr_safe)
NEVER(xsetbv_exit)
