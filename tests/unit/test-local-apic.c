/* SPDX-License-Identifier: MIT */
/* Whom a command of the interrupt command register reaches, of CPUs that have had an INIT. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "arch/cpu.h"
#include "drivers/local-apic.h"

#define TO(destination) ((u64)(destination) << 32)
#define LOGICAL         0x800u
#define SELF            0x40000u
#define ALL             0x80000u

bool wrmsr_safe(u32 msr, u64 value)
{
    (void)msr;
    (void)value;
    fail_msg("no MSR is written");
    return false;
}

static void test_reach(void **state)
{
    static const struct {
        u64 command;
        bool x2apic;
        u32 id;
        bool self, reached;
    } cases[] = {
        /* physical */
        {TO(3), false, 3, false, true},
        {TO(3), false, 2, false, false},
        {TO(3), true, 3, false, true},
        {TO(0x103), true, 3, false, false},
        /* broadcast: FFH, and in x2APIC mode FFFFFFFFH */
        {TO(0xff), false, 3, false, true},
        {TO(0xff), true, 3, false, false},
        {TO(0xffffffff), true, 3, false, true},
        {TO(0xff) | LOGICAL, false, 3, false, true},
        {TO(0xffffffff) | LOGICAL, true, 3, false, true},
        /* shorthands; the destination does not matter */
        {TO(3) | SELF, false, 3, false, false},
        {TO(3) | SELF, true, 2, true, true},
        {TO(9) | ALL, false, 3, false, true},
        {TO(9) | ALL, true, 3, true, true},
        {TO(9) | APIC_TO_OTHERS, false, 3, false, true},
        {TO(9) | APIC_TO_OTHERS, true, 9, true, false},
        /* logical: cluster and bit in x2APIC mode; after INIT nobody in xAPIC mode */
        {TO(0x00000008) | LOGICAL, true, 3, false, true},
        {TO(0x00000009) | LOGICAL, true, 3, false, true},
        {TO(0x00000007) | LOGICAL, true, 3, false, false},
        {TO(0x00010008) | LOGICAL, true, 3, false, false},
        {TO(0x00010008) | LOGICAL, true, 0x13, false, true},
        {TO(8) | LOGICAL, false, 3, false, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(apic_command_reaches(cases[i].command | APIC_SEND_STARTUP | 0x55, cases[i].x2apic,
                                              cases[i].id, cases[i].self),
                         cases[i].reached);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reach),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
