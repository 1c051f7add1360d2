/* SPDX-License-Identifier: MIT */
/*
 * Which exit of L2 is whose, row by row; what vmcs02's controls and MSR bitmap are made of; and where L1's
 * bitmap has its bits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "nested/vmx-merge.h"
#include "nested/vmx-verdict.h"
#include "vmx/capability.h"
#include "vmx/exit-reason.h"

#define NMI       (u32)(INTERRUPTION_VALID | INTERRUPTION_NMI | 2)
#define EXCEPTION (u32)(INTERRUPTION_VALID | INTERRUPTION_HARDWARE | 14)
#define MOV_TO    0u
#define MOV_FROM  (1u << 4)
#define CLTS      (2u << 4)

struct row {
    const char *name;
    u64 pin, primary;
    u64 cr4_mask, cr4_shadow, functions;
    struct l2_exit_facts facts;
    enum l2_verdict verdict;
};

static const struct row rows[] = {
    {"an exception", 0, 0, 0, 0, 0, {.reason = 0, .interruption = EXCEPTION}, VERDICT_L1},
    {"an NMI, not asked for", 0, 0, 0, 0, 0, {.reason = 0, .interruption = NMI}, VERDICT_NMI_TO_L2},
    {"an NMI, asked for", PIN_NMI_EXITING, 0, 0, 0, 0, {.reason = 0, .interruption = NMI}, VERDICT_NMI_TO_L1},
    {"external interrupt", 1, 0, 0, 0, 0, {.reason = REASON_EXTERNAL_INTERRUPT}, VERDICT_L1},
    {"triple fault", 0, 0, 0, 0, 0, {.reason = REASON_TRIPLE_FAULT}, VERDICT_L1},
    {"INIT", 0, 0, 0, 0, 0, {.reason = REASON_INIT}, VERDICT_L1},
    {"SIPI", 0, 0, 0, 0, 0, {.reason = REASON_SIPI}, VERDICT_L1},
    {"L1's NMI window",
     PIN_NMI_EXITING | PIN_VIRTUAL_NMIS,
     PRIMARY_NMI_WINDOW,
     0,
     0,
     0,
     {.reason = REASON_NMI_WINDOW, .nmi_waits = true},
     VERDICT_L1},
    {"Umbra's NMI window",
     0,
     0,
     0,
     0,
     0,
     {.reason = REASON_NMI_WINDOW, .nmi_waits = true},
     VERDICT_WAITING_NMI},
    {"CPUID", 0, 0, 0, 0, 0, {.reason = REASON_CPUID}, VERDICT_L1},
    {"VMCALL", 0, 0, 0, 0, 0, {.reason = REASON_VMCALL}, VERDICT_L1},
    {"VMLAUNCH", 0, 0, 0, 0, 0, {.reason = REASON_VMLAUNCH}, VERDICT_L1},
    {"XSETBV", 0, 0, 0, 0, 0, {.reason = REASON_XSETBV}, VERDICT_L1},
    {"INVD", 0, 0, 0, 0, 0, {.reason = REASON_INVD}, VERDICT_L1},
    {"MTF of L1",
     0,
     PRIMARY_MONITOR_TRAP_FLAG,
     0,
     0,
     0,
     {.reason = REASON_MONITOR_TRAP_FLAG, .nmi_waits = true},
     VERDICT_L1},
    {"MTF of an NMI",
     PIN_NMI_EXITING,
     0,
     0,
     0,
     0,
     {.reason = REASON_MONITOR_TRAP_FLAG, .nmi_waits = true},
     VERDICT_WAITING_NMI},
    {"MTF of a step",
     PIN_NMI_EXITING,
     PRIMARY_MONITOR_TRAP_FLAG,
     0,
     0,
     0,
     {.reason = REASON_MONITOR_TRAP_FLAG, .nmi_waits = true, .stepping = true},
     VERDICT_STEP},
    {"RDMSR, L1's", 0, 0, 0, 0, 0, {.reason = REASON_RDMSR, .intercepted = true}, VERDICT_L1},
    {"RDMSR, Umbra's", 0, 0, 0, 0, 0, {.reason = REASON_RDMSR}, VERDICT_MSR},
    {"WRMSR, L1's", 0, 0, 0, 0, 0, {.reason = REASON_WRMSR, .intercepted = true}, VERDICT_L1},
    {"WRMSR, Umbra's", 0, 0, 0, 0, 0, {.reason = REASON_WRMSR}, VERDICT_MSR},
    {"VMREAD, L1's", 0, 0, 0, 0, 0, {.reason = REASON_VMREAD, .intercepted = true}, VERDICT_L1},
    {"VMREAD of a shadow VMCS", 0, 0, 0, 0, 0, {.reason = REASON_VMREAD}, VERDICT_FIELD},
    {"VMWRITE, L1's", 0, 0, 0, 0, 0, {.reason = REASON_VMWRITE, .intercepted = true}, VERDICT_L1},
    {"VMWRITE to a shadow VMCS", 0, 0, 0, 0, 0, {.reason = REASON_VMWRITE}, VERDICT_FIELD},
    {"MOV to CR0",
     0,
     0,
     0,
     0,
     0,
     {.reason = REASON_CONTROL_REGISTER, .qualification = MOV_TO | 0},
     VERDICT_L1},
    {"MOV to CR3",
     0,
     0,
     0,
     0,
     0,
     {.reason = REASON_CONTROL_REGISTER, .qualification = MOV_TO | 3},
     VERDICT_L1},
    {"MOV from CR8",
     0,
     0,
     0,
     0,
     0,
     {.reason = REASON_CONTROL_REGISTER, .qualification = MOV_FROM | 8},
     VERDICT_L1},
    {"CLTS", 0, 0, 0, 0, 0, {.reason = REASON_CONTROL_REGISTER, .qualification = CLTS}, VERDICT_L1},
    {"MOV to CR4 of a bit that L1 keeps",
     0,
     0,
     CR4_SMEP,
     0,
     0,
     {.reason = REASON_CONTROL_REGISTER, .qualification = MOV_TO | 4, .operand = CR4_SMEP},
     VERDICT_L1},
    {"MOV to CR4 of a bit that nobody may set",
     0,
     0,
     CR4_SMEP,
     CR4_SMEP,
     0,
     {.reason = REASON_CONTROL_REGISTER, .qualification = MOV_TO | 4, .operand = CR4_SMEP | CR4_SMXE},
     VERDICT_GP},
    {"EPT violation", 0, 0, 0, 0, 0, {.reason = REASON_EPT_VIOLATION}, VERDICT_SECOND_LEVEL},
    {"EPT misconfiguration", 0, 0, 0, 0, 0, {.reason = REASON_EPT_MISCONFIGURATION}, VERDICT_SECOND_LEVEL},
    {"VMFUNC without functions", 0, 0, 0, 0, 0, {.reason = REASON_VMFUNC}, VERDICT_L1},
    {"VMFUNC", 0, 0, 0, 0, 1, {.reason = REASON_VMFUNC}, VERDICT_VMFUNC},
    {"preemption timer", PIN_PREEMPTION_TIMER, 0, 0, 0, 0, {.reason = REASON_PREEMPTION_TIMER}, VERDICT_L1},
    {"a reason that is none", 0, 0, 0, 0, 0, {.reason = EXIT_REASONS}, VERDICT_L1},
};

static void test_verdicts(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct vmcs12 vmcs12 = {
            .pin_controls = (u32)rows[i].pin,
            .primary_controls = (u32)rows[i].primary,
            .cr4_mask = rows[i].cr4_mask,
            .cr4_shadow = rows[i].cr4_shadow,
            .vm_function_controls = rows[i].functions,
        };
        if (l2_exit_verdict(&vmcs12, &rows[i].facts) != rows[i].verdict)
            fail_msg("%s", rows[i].name);
    }
}

/* What is not in the table above as Umbra's is L1's, whatever the controls are. */
/* A pending MTF exit that L1 injects is no messenger of an NMI that waits. */
static void test_injected_mtf(void **state)
{
    const struct l2_exit_facts facts = {.reason = REASON_MONITOR_TRAP_FLAG, .nmi_waits = true};
    struct vmcs12 vmcs12 = {.pin_controls = (u32)PIN_NMI_EXITING};

    (void)state;
    assert_int_equal(l2_exit_verdict(&vmcs12, &facts), VERDICT_WAITING_NMI);
    vmcs12.entry_interruption = (u32)(INTERRUPTION_VALID | INTERRUPTION_OTHER);
    assert_int_equal(l2_exit_verdict(&vmcs12, &facts), VERDICT_L1);
    vmcs12.entry_interruption = NMI;
    assert_int_equal(l2_exit_verdict(&vmcs12, &facts), VERDICT_WAITING_NMI);
}

static void test_all_others(void **state)
{
    static const bool umbras[EXIT_REASONS] = {
        [REASON_EXCEPTION_OR_NMI] = true,
        [REASON_NMI_WINDOW] = true,
        [REASON_CONTROL_REGISTER] = true,
        [REASON_RDMSR] = true,
        [REASON_VMREAD] = true,
        [REASON_VMWRITE] = true,
        [REASON_WRMSR] = true,
        [REASON_MONITOR_TRAP_FLAG] = true,
        [REASON_EPT_VIOLATION] = true,
        [REASON_VMFUNC] = true,
        [REASON_EPT_MISCONFIGURATION] = true,
    };
    struct vmcs12 vmcs12;

    (void)state;
    for (u32 reason = 0; reason < EXIT_REASONS; reason++) {
        struct l2_exit_facts facts = {.reason = reason, .nmi_waits = true, .stepping = true};
        memset(&vmcs12, reason & 1 ? 0xff : 0, sizeof(vmcs12));
        if (!umbras[reason])
            assert_int_equal(l2_exit_verdict(&vmcs12, &facts), VERDICT_L1);
    }
}

static const u32 own[CONTROL_WORDS] = {
    [CONTROL_PIN] = (u32)(PIN_NMI_EXITING | PIN_VIRTUAL_NMIS) | 0x16,
    [CONTROL_PRIMARY] = (u32)(PRIMARY_MSR_BITMAPS | PRIMARY_SECONDARY_CONTROLS) | 0x04006172,
    [CONTROL_SECONDARY] = (u32)(SECONDARY_EPT | SECONDARY_VPID | SECONDARY_MBEC | SECONDARY_RDTSCP |
                                SECONDARY_UNRESTRICTED_GUEST | SECONDARY_XSAVES | SECONDARY_INVPCID),
    [CONTROL_EXIT] = (u32)(EXIT_SAVE_DEBUG | EXIT_HOST_64 | EXIT_LOAD_EFER | EXIT_SAVE_EFER) | 0x36dfb,
    [CONTROL_ENTRY] = (u32)(ENTRY_LOAD_DEBUG | ENTRY_LOAD_EFER) | 0x11fb,
};

/* An L1 that asks for nothing: what Umbra needs stays, what it gives L1 freely is not given to L2. */
static void test_merge_nothing(void **state)
{
    const struct vmcs12 vmcs12 = {0};
    u32 merged[CONTROL_WORDS];

    (void)state;
    vmx_merge_controls(&vmcs12, own, merged);
    assert_int_equal(merged[CONTROL_PIN], own[CONTROL_PIN]);
    assert_int_equal(merged[CONTROL_PRIMARY], own[CONTROL_PRIMARY]);
    assert_int_equal(merged[CONTROL_SECONDARY], SECONDARY_EPT | SECONDARY_VPID | SECONDARY_MBEC);
    assert_int_equal(merged[CONTROL_EXIT], own[CONTROL_EXIT]);
    assert_int_equal(merged[CONTROL_ENTRY], own[CONTROL_ENTRY] & ~ENTRY_IA32E_GUEST);
}

static void test_merge_everything(void **state)
{
    struct vmcs12 vmcs12;
    u32 merged[CONTROL_WORDS];

    (void)state;
    memset(&vmcs12, 0xff, sizeof(vmcs12));
    vmx_merge_controls(&vmcs12, own, merged);
    assert_true(merged[CONTROL_PIN] & PIN_POSTED_INTERRUPTS);
    assert_true(merged[CONTROL_PRIMARY] & PRIMARY_TPR_SHADOW);
    assert_false(merged[CONTROL_PRIMARY] & PRIMARY_TERTIARY_CONTROLS);
    assert_true(merged[CONTROL_SECONDARY] & SECONDARY_UNRESTRICTED_GUEST);
    /* Umbra's shadow stands for these. */
    assert_false(merged[CONTROL_SECONDARY] &
                 (SECONDARY_PML | SECONDARY_EPT_VIOLATION_VE | SECONDARY_VMCS_SHADOWING | SECONDARY_SPP));
    assert_int_equal(merged[CONTROL_EXIT],
                     own[CONTROL_EXIT] | EXIT_ACKNOWLEDGE_INTERRUPT | EXIT_SAVE_PREEMPTION_TIMER);
    assert_int_equal(merged[CONTROL_ENTRY], own[CONTROL_ENTRY] | ENTRY_IA32E_GUEST);
}

/* Secondary controls that are not activated do not count. */
static void test_inactive_secondary(void **state)
{
    const struct vmcs12 vmcs12 = {.secondary_controls = 0xffffffff};
    u32 merged[CONTROL_WORDS];

    (void)state;
    vmx_merge_controls(&vmcs12, own, merged);
    assert_int_equal(merged[CONTROL_SECONDARY], SECONDARY_EPT | SECONDARY_VPID | SECONDARY_MBEC);
}

static void test_cr4(void **state)
{
    const struct vmcs12 vmcs12 = {.cr4_mask = CR4_VMXE | CR4_SMXE,
                                  .cr4_shadow = CR4_SMEP | CR4_SMXE | BIT(40)};

    (void)state;
    assert_true(vmx_merge_cr4_mask(&vmcs12) & CR4_VMXE);
    assert_false(vmx_merge_cr4_mask(&vmcs12) & CR4_PAE);
    assert_true(vmx_merge_cr4_mask(&vmcs12) & BIT(40));
    assert_int_equal(vmx_merge_cr4_shadow(&vmcs12), CR4_SMEP | CR4_SMXE);
}

/* No access that either side intercepts passes, and the MSRs that the VMCS switches pass if both allow it. */
/* What is not intercepted is neither L1's nor Umbra's, and what was learned is not intercepted. */
static void test_msr_bitmap(void **state)
{
    static const u32 msrs[] = {0x10,       0x174,      0x1d9,      0x277,     0x38f,  0x6a2,
                               0x6e1,      0x832,      0xd90,      0x14ce,    0x1fff, 0xc0000080,
                               0xc0000081, 0xc0000100, 0xc0000102, 0xc0001fff};
    static u64 l1[MSR_BITMAP_WORDS], umbra[MSR_BITMAP_WORDS], merged[MSR_BITMAP_WORDS];
    struct vmx_msr_merge merge = {.own = umbra, .merged = merged};

    (void)state;
    vmx_msr_forget(&merge);
    for (unsigned i = 0; i < MSR_BITMAP_WORDS; i++)
        assert_int_equal(merged[i], ~0ull);
    for (unsigned round = 0; round < 100; round++) {
        for (unsigned i = 0; i < MSR_BITMAP_WORDS; i++) {
            l1[i] = 0x9e3779b97f4a7c15ull * (i + 1 + round);
            umbra[i] = 0xc2b2ae3d27d4eb4full * (i + 7);
        }
        vmx_msr_merge(&merge, l1);
        for (size_t i = 0; i < ARRAY_SIZE(msrs); i++) {
            bool write = (i + round) % 2 != 0;
            if (vmx_msr_intercepted((const u8 *)l1, msrs[i], write) ||
                !vmx_msr_intercepted((const u8 *)merged, msrs[i], write))
                continue;
            bool learned = vmx_msr_learn(&merge, l1, msrs[i], write);
            assert_int_equal(learned, !vmx_msr_intercepted((const u8 *)umbra, msrs[i], write));
            assert_int_equal(learned, !vmx_msr_intercepted((const u8 *)merged, msrs[i], write));
        }
        for (unsigned i = 0; i < MSR_BITMAP_WORDS; i++)
            assert_int_equal(~merged[i] & (l1[i] | umbra[i]), 0);
        assert_in_range(merge.count, 1, VMX_MSR_WORDS);
    }
    assert_false(vmx_msr_learn(&merge, NULL, 0x10, false));
    assert_false(vmx_msr_learn(&merge, l1, 0x2000, false));
    assert_false(vmx_msr_learn(&merge, l1, 0x40000000, true));
}

static void test_msr_intercepted(void **state)
{
    static u8 bitmap[4096];

    (void)state;
    bitmap[0x10 / 8] = 1;             /* read of 10H */
    bitmap[1024 + 0x80 / 8] = 2;      /* read of C0000081H */
    bitmap[2048 + 0x1fff / 8] = 0x80; /* write of 1FFFH */
    bitmap[3072 + 0x1fff / 8] = 0x80; /* write of C0001FFFH */
    assert_true(vmx_msr_intercepted(bitmap, 0x10, false));
    assert_false(vmx_msr_intercepted(bitmap, 0x10, true));
    assert_true(vmx_msr_intercepted(bitmap, 0xc0000081, false));
    assert_false(vmx_msr_intercepted(bitmap, 0xc0000080, false));
    assert_true(vmx_msr_intercepted(bitmap, 0x1fff, true));
    assert_true(vmx_msr_intercepted(bitmap, 0xc0001fff, true));
    assert_false(vmx_msr_intercepted(bitmap, 0xc0001fff, false));
    assert_true(vmx_msr_intercepted(bitmap, 0x2000, false));
    assert_true(vmx_msr_intercepted(bitmap, 0x40000000, true));
    assert_true(vmx_msr_intercepted(bitmap, 0xc0002000, false));
    assert_true(vmx_msr_intercepted(bitmap, 0xffffffff, false));
}

/* What goes to L1 without a judgement would by one, too. */
static void test_no_judgement_needed(void **state)
{
    const struct vmcs12 vmcs12 = {.vm_function_controls = 1};
    unsigned judged = 0;

    (void)state;
    for (u32 reason = 0; reason < 128; reason++) {
        const struct l2_exit_facts facts = {.reason = reason, .nmi_waits = true, .stepping = true};
        if (l2_exit_is_l1s(reason))
            assert_int_equal(l2_exit_verdict(&vmcs12, &facts), VERDICT_L1);
        else
            judged++;
    }
    assert_in_range(judged, 64 + 5, 64 + 20);
    assert_false(l2_exit_is_l1s(REASON_EPT_VIOLATION));
    assert_false(l2_exit_is_l1s((u32)EXIT_REASON_ENTRY_FAILURE | REASON_ENTRY_GUEST_STATE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_injected_mtf),
        cmocka_unit_test(test_all_others),
        cmocka_unit_test(test_merge_nothing),
        cmocka_unit_test(test_merge_everything),
        cmocka_unit_test(test_inactive_secondary),
        cmocka_unit_test(test_cr4),
        cmocka_unit_test(test_msr_bitmap),
        cmocka_unit_test(test_msr_intercepted),
        cmocka_unit_test(test_no_judgement_needed),
    };
    return cmocka_run_group_tests_name("nested-vmx-exit", tests, NULL, NULL);
}
