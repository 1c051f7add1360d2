/* SPDX-License-Identifier: MIT */
/*
 * The MSR allow-list: the table is sound, the permission maps say what it says (bit positions written here a
 * second time, from the manuals), and what would open Umbra's memory is guarded whatever the table looks
 * like.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "vcpu/msr-policy.h"

static void test_rows_are_sound(void **state)
{
    (void)state;
    for (size_t i = 0; i < msr_policy_rows; i++) {
        const struct msr_policy_row *row = &msr_policy_table[i];
        assert_true(row->first <= row->last);
        assert_true(row->vendor == MSR_INTEL || row->vendor == MSR_AMD || row->vendor == MSR_BOTH);
        assert_true(strlen(row->reason) > 4);
    }
}

static void test_rows_do_not_overlap(void **state)
{
    (void)state;
    for (size_t i = 0; i < msr_policy_rows; i++) {
        for (size_t j = i + 1; j < msr_policy_rows; j++) {
            const struct msr_policy_row *a = &msr_policy_table[i], *b = &msr_policy_table[j];
            if ((a->vendor & b->vendor) != 0 && a->first <= b->last && b->first <= a->last)
                fail_msg("rows overlap: %x (%s) and %x (%s)", a->first, a->reason, b->first, b->reason);
        }
    }
}

static void check_reachable(const struct msr_policy_row *row, u32 msr, bool intel)
{
    struct msr_rules rules = msr_policy(msr, intel);
    assert_ptr_equal(msr_policy_reason(msr, intel), row->reason);
    assert_int_equal(rules.read, row->read);
    assert_int_equal(rules.write, row->write);
}

static void test_rows_are_reachable(void **state)
{
    (void)state;
    for (size_t i = 0; i < msr_policy_rows; i++) {
        const struct msr_policy_row *row = &msr_policy_table[i];
        for (unsigned intel = 0; intel < 2; intel++) {
            if ((row->vendor & (intel != 0 ? MSR_INTEL : MSR_AMD)) == 0)
                continue;
            check_reachable(row, row->first, intel != 0);
            check_reachable(row, row->last, intel != 0);
        }
    }
}

static void test_unnamed_is_denied(void **state)
{
    static const u32 unnamed[] = {0x2,        0x1fff,     0x2000,     0x12345678, 0x40000000,
                                  0xc0001fff, 0xc0003000, 0xc0011fff, 0xffffffff, 0xbfffffff};
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(unnamed); i++) {
        for (unsigned intel = 0; intel < 2; intel++) {
            struct msr_rules rules = msr_policy(unnamed[i], intel != 0);
            assert_int_equal(rules.read, MSR_DENY);
            assert_int_equal(rules.write, MSR_DENY);
            assert_non_null(msr_policy_reason(unnamed[i], intel != 0));
        }
    }
}

static bool map_bit(const u8 *map, size_t bit)
{
    return (map[bit / 8] >> bit % 8 & 1) != 0;
}

static void test_vmx_bitmap(void **state)
{
    static u8 map[4096 + 1];
    (void)state;
    memset(map, 0xff, sizeof(map));
    msr_policy_fill_vmx_bitmap(map);
    for (u32 i = 0; i < 0x2000; i++) {
        struct msr_rules low = msr_policy(i, true), high = msr_policy(0xc0000000 + i, true);
        assert_int_equal(map_bit(map, i), low.read != MSR_PASS);
        assert_int_equal(map_bit(map, 0x400 * 8 + i), high.read != MSR_PASS);
        assert_int_equal(map_bit(map, 0x800 * 8 + i), low.write != MSR_PASS);
        assert_int_equal(map_bit(map, 0xc00 * 8 + i), high.write != MSR_PASS);
    }
    assert_int_equal(map[4096], 0xff);
}

static void test_svm_map(void **state)
{
    static u8 map[8192 + 1];
    static const struct {
        u32 msr;
        size_t byte;
    } ranges[] = {{0, 0}, {0xc0000000, 0x800}, {0xc0010000, 0x1000}};
    (void)state;
    memset(map, 0xff, sizeof(map));
    msr_policy_fill_svm_map(map);
    for (size_t range = 0; range < ARRAY_SIZE(ranges); range++) {
        for (u32 i = 0; i < 0x2000; i++) {
            struct msr_rules rules = msr_policy(ranges[range].msr + i, false);
            size_t bit = ranges[range].byte * 8 + 2 * i;
            assert_int_equal(map_bit(map, bit), rules.read != MSR_PASS);
            assert_int_equal(map_bit(map, bit + 1), rules.write != MSR_PASS);
        }
    }
    for (size_t byte = 0x1800; byte <= 8192; byte++)
        assert_int_equal(map[byte], 0xff);
}

/* With any of these in the guest's hands Umbra's memory, or its control, would be too. */
static const struct guarded {
    u32 first, last;
    enum msr_vendor vendor;
    bool read; /* the read must be guarded, too */
} guarded[] = {
    {0x1b, 0x1b, MSR_BOTH, false},            /* APIC base onto Umbra's memory */
    {0x3a, 0x3a, MSR_INTEL, true},            /* virtualization is hidden */
    {0x480, 0x493, MSR_INTEL, true},          /* virtualization is hidden */
    {0x79, 0x79, MSR_INTEL, true},            /* microcode from a linear address of Umbra's */
    {0x9b, 0x9b, MSR_INTEL, true},            /* dual-monitor SMM */
    {0x9e, 0x9e, MSR_INTEL, true},            /* SMBASE */
    {0x150, 0x150, MSR_INTEL, true},          /* voltage */
    {0x1a0, 0x1a0, MSR_INTEL, true},          /* execute disable off, PEBS shown */
    {0x1f2, 0x1f5, MSR_INTEL, true},          /* SMRR, PRMRR */
    {0x200, 0x26f, MSR_INTEL, true},          /* MTRRs without effect through EPT */
    {0x2ff, 0x2ff, MSR_INTEL, true},          /* as above */
    {0x3f1, 0x3f1, MSR_INTEL, true},          /* PEBS records into Umbra's space */
    {0x3f4, 0x3f5, MSR_INTEL, true},          /* architectural PEBS base and index */
    {0x560, 0x587, MSR_INTEL, true},          /* processor trace output */
    {0x982, 0x982, MSR_INTEL, false},         /* memory encryption */
    {0xc80, 0xc80, MSR_INTEL, false},         /* silicon debug */
    {0xda0, 0xda0, MSR_BOTH, false},          /* processor trace by XRSTORS */
    {0x17d0, 0x17d4, MSR_INTEL, true},        /* feedback table at any physical address */
    {0x1900, 0x19ff, MSR_INTEL, true},        /* new PMU with PEBS enables among its registers */
    {0xc0000080, 0xc0000080, MSR_AMD, true},  /* EFER.SVME */
    {0xc0000104, 0xc0000105, MSR_AMD, true},  /* TSC ratio; lightweight profiling */
    {0xc0010010, 0xc0010010, MSR_AMD, false}, /* memory routing, encryption */
    {0xc0010015, 0xc001001f, MSR_AMD, false}, /* HWCR, IORR, TOP_MEM, NB_CFG */
    {0xc0010020, 0xc0010020, MSR_AMD, true},  /* microcode from a linear address of Umbra's */
    {0xc0010050, 0xc0010058, MSR_AMD, false}, /* SMI on I/O, MMIO configuration base */
    {0xc0010064, 0xc0010073, MSR_AMD, false}, /* voltages, C-state ports */
    {0xc0010111, 0xc001011f, MSR_AMD, false}, /* SMM, SVM */
    {0xc0010114, 0xc001011f, MSR_AMD, true},  /* SVM */
    {0xc0010130, 0xc001013f, MSR_AMD, true},  /* SEV, RMP */
    {0xc0011000, 0xc0011018, MSR_AMD, false}, /* CPUID overrides */
    {0xc0011020, 0xc0011026, MSR_AMD, false}, /* core configuration */
    {0xc0011028, 0xc001102f, MSR_AMD, false}, /* core configuration */
};

static void test_guarded_msrs(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(guarded); i++) {
        for (u32 msr = guarded[i].first; msr <= guarded[i].last; msr++) {
            for (unsigned intel = 0; intel < 2; intel++) {
                struct msr_rules rules = msr_policy(msr, intel != 0);
                if ((guarded[i].vendor & (intel != 0 ? MSR_INTEL : MSR_AMD)) == 0)
                    continue;
                if (rules.write == MSR_PASS || (guarded[i].read && rules.read == MSR_PASS))
                    fail_msg("MSR %x is not guarded", msr);
            }
        }
    }
}

/* What a kernel uses all the time must not exit. */
static void test_hot_msrs_pass(void **state)
{
    static const u32 hot[] = {0x10,       0x48,       0x49,       0x174,      0x176,
                              0x1d9,      0x277,      0x38f,      0x6e0,      0x80b,
                              0x830,      0x838,      0xc0000081, 0xc0000082, 0xc0000084,
                              0xc0000100, 0xc0000101, 0xc0000102, 0xc0000103};
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(hot); i++) {
        for (unsigned intel = 0; intel < 2; intel++) {
            struct msr_rules rules = msr_policy(hot[i], intel != 0);
            if (hot[i] == 0x38f && intel == 0)
                continue;
            assert_int_equal(rules.read, MSR_PASS);
            assert_int_equal(rules.write, MSR_PASS);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_are_sound),     cmocka_unit_test(test_rows_do_not_overlap),
        cmocka_unit_test(test_rows_are_reachable), cmocka_unit_test(test_unnamed_is_denied),
        cmocka_unit_test(test_vmx_bitmap),         cmocka_unit_test(test_svm_map),
        cmocka_unit_test(test_guarded_msrs),       cmocka_unit_test(test_hot_msrs_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
