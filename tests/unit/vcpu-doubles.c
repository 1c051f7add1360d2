/* SPDX-License-Identifier: MIT */
/* See tests/unit/vcpu-doubles.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "arch/cpu.h"
#include "arch/print.h"
#include "drivers/local-apic.h"
#include "tests/unit/vcpu-doubles.h"
#include "vcpu/shootdown.h"

enum { MSRS_MAX = 32, LOG_LINES = 256, LOG_BYTES = 256 };

static struct {
    u32 msr;
    u64 value, read_only;
} msrs[MSRS_MAX];
static unsigned msr_count, msr_writes;

static char lines[LOG_LINES][LOG_BYTES];
static unsigned line_count;

u32 double_apic_command, double_apic_destination;
unsigned double_apic_sent, double_apic_resets;
void (*double_apic_hook)(u32 destination, u32 command);

void local_apic_send(u32 destination, u32 command)
{
    double_apic_destination = destination;
    double_apic_command = command;
    double_apic_sent++;
    if (double_apic_hook != NULL)
        double_apic_hook(destination, command);
}

void local_apic_reset(void)
{
    double_apic_resets++;
}

bool double_xsetbv_faults;
u64 double_xcr0;

jmp_buf double_fatal_jump;
bool double_fatal_expected;
char double_fatal_text[512];

void doubles_reset(void)
{
    msr_count = msr_writes = line_count = 0;
    double_xsetbv_faults = false;
    double_apic_sent = double_apic_resets = 0;
    double_apic_hook = NULL;
}

static int find(u32 msr)
{
    for (unsigned i = 0; i < msr_count; i++) {
        if (msrs[i].msr == msr)
            return (int)i;
    }
    return -1;
}

void double_msr(u32 msr, u64 value)
{
    int at = find(msr);
    if (at < 0) {
        assert_true(msr_count < MSRS_MAX);
        at = (int)msr_count++;
    }
    msrs[at].msr = msr;
    msrs[at].value = value;
    msrs[at].read_only = 0;
}

void double_msr_read_only(u32 msr, u64 bits)
{
    assert_true(find(msr) >= 0);
    msrs[find(msr)].read_only = bits;
}

u64 double_msr_value(u32 msr)
{
    assert_true(find(msr) >= 0);
    return msrs[find(msr)].value;
}

unsigned double_msr_writes(void)
{
    return msr_writes;
}

bool rdmsr_safe(u32 msr, u64 *value)
{
    int at = find(msr);
    if (at < 0)
        return false;
    *value = msrs[at].value;
    return true;
}

bool wrmsr_safe(u32 msr, u64 value)
{
    int at = find(msr);
    if (at < 0 || ((msrs[at].value ^ value) & msrs[at].read_only) != 0)
        return false;
    msrs[at].value = value;
    msr_writes++;
    return true;
}

bool xsetbv_safe(u32 index, u64 value)
{
    assert_int_equal(index, 0);
    if (double_xsetbv_faults)
        return false;
    double_xcr0 = value;
    return true;
}

void log_line(enum log_level level, const char *fmt, ...)
{
    va_list args;
    assert_true(level <= LOG_DEBUG);
    assert_true(line_count < LOG_LINES);
    va_start(args, fmt);
    vsnprintf(lines[line_count++], LOG_BYTES, fmt, args);
    va_end(args);
}

unsigned double_log_count(const char *text)
{
    unsigned count = 0;
    for (unsigned i = 0; i < line_count; i++)
        count += strstr(lines[i], text) != NULL;
    return count;
}

void fatal(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(double_fatal_text, sizeof(double_fatal_text), fmt, args);
    va_end(args);
    if (!double_fatal_expected)
        fail_msg("unexpected fatal(): %s", double_fatal_text);
    machine_unlock(NULL); /* it may have been held, by the only CPU there is */
    longjmp(double_fatal_jump, 1);
}
