/* SPDX-License-Identifier: MIT */
/* See tests/unit/vcpu-doubles.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "arch/cpu.h"
#include "arch/print.h"
#include "tests/unit/vcpu-doubles.h"

enum { MSRS_MAX = 32, LOG_LINES = 256, LOG_BYTES = 256 };

static struct {
    u32 msr;
    u64 value, read_only;
} msrs[MSRS_MAX];
static unsigned msr_count, msr_writes;

static char lines[LOG_LINES][LOG_BYTES];
static unsigned line_count;

bool double_xsetbv_faults;
u64 double_xcr0;

jmp_buf double_fatal_jump;
bool double_fatal_expected;
char double_fatal_text[512];

void doubles_reset(void)
{
    msr_count = msr_writes = line_count = 0;
    double_xsetbv_faults = false;
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
    longjmp(double_fatal_jump, 1);
}
