/* SPDX-License-Identifier: MIT */
/*
 * What the files of vcpu/ call and a host test cannot have: MSRs, XCR0, the log, and fatal(), which ends the
 * call under test instead of the CPU.
 */
#ifndef UMBRA_TESTS_UNIT_VCPU_DOUBLES_H
#define UMBRA_TESTS_UNIT_VCPU_DOUBLES_H

#include "arch/types.h"

#include <setjmp.h>

/* What was asked of this CPU's local APIC: the last command sent and its destination, and numbers. */
extern u32 double_apic_command, double_apic_destination;
extern unsigned double_apic_sent, double_apic_resets;
/* Called when one is sent, if not NULL: plays the other CPU. */
extern void (*double_apic_hook)(u32 destination, u32 command);

/* Forgets MSRs, log and local APIC; XSETBV succeeds. */
void doubles_reset(void);

/* The MSR exists from now on. Without this, RDMSR and WRMSR of it are #GP. */
void double_msr(u32 msr, u64 value);
/* WRMSR of it is #GP if one of these bits changes. */
void double_msr_read_only(u32 msr, u64 bits);
u64 double_msr_value(u32 msr);
unsigned double_msr_writes(void);

extern bool double_xsetbv_faults;
extern u64 double_xcr0;

/* How many logged lines contain that text. */
unsigned double_log_count(const char *text);

extern jmp_buf double_fatal_jump;
extern bool double_fatal_expected;
extern char double_fatal_text[512];

/* Runs the statement, which must end in fatal() with a sentence that contains that text. */
#define ASSERT_FATAL(statement, text)                                                                        \
    do {                                                                                                     \
        double_fatal_expected = true;                                                                        \
        double_fatal_text[0] = 0;                                                                            \
        if (setjmp(double_fatal_jump) == 0) {                                                                \
            statement;                                                                                       \
            fail_msg("fatal() was not called");                                                              \
        }                                                                                                    \
        double_fatal_expected = false;                                                                       \
        if (strstr(double_fatal_text, text) == NULL)                                                         \
            fail_msg("unexpected sentence: %s", double_fatal_text);                                          \
    } while (0)

#endif
