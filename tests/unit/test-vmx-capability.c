/* SPDX-License-Identifier: MIT */
/*
 * What L1 is told of its VMX: on a CPU like Ice Lake, on one that has everything and one that has next to
 * nothing; that nothing is offered which the hardware or the table lacks; and that what KVM demands is there.
 * At the end, what the checks of VM entry make of lesser CPUs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86.h"
#include "nested/vmx-fields.h"
#include "tests/unit/vmx-check-case.h"
#include "vmx/capability.h"

#define INDEX(msr) ((msr)-MSR_IA32_VMX_BASIC)

/* As Bochs 3.0's corei7_icelake_u has them. */
static const struct vmx_hardware ice_lake = {
    .msr =
        {
            [INDEX(MSR_IA32_VMX_BASIC)] = 0x00d810000000002b,
            [INDEX(MSR_IA32_VMX_PINBASED_CTLS)] = 0x000000ff00000016,
            [INDEX(MSR_IA32_VMX_PROCBASED_CTLS)] = 0xfff9fffe0401e172,
            [INDEX(MSR_IA32_VMX_EXIT_CTLS)] = 0x007fffff00036dff,
            [INDEX(MSR_IA32_VMX_ENTRY_CTLS)] = 0x0000ffff000011ff,
            [INDEX(MSR_IA32_VMX_MISC)] = 0x00000000600401e0,
            [INDEX(MSR_IA32_VMX_CR0_FIXED0)] = 0x80000021,
            [INDEX(MSR_IA32_VMX_CR0_FIXED1)] = 0xffffffff,
            [INDEX(MSR_IA32_VMX_CR4_FIXED0)] = 0x2000,
            [INDEX(MSR_IA32_VMX_CR4_FIXED1)] = 0x00776fff,
            [INDEX(MSR_IA32_VMX_VMCS_ENUM)] = 0x38,
            [INDEX(MSR_IA32_VMX_PROCBASED_CTLS2)] = 0x00d7ffff00000000,
            [INDEX(MSR_IA32_VMX_EPT_VPID_CAP)] = 0x00000f01067341c1,
            [INDEX(MSR_IA32_VMX_TRUE_PINBASED_CTLS)] = 0x000000ff00000016,
            [INDEX(MSR_IA32_VMX_TRUE_PROCBASED_CTLS)] = 0xfff9fffe04006172,
            [INDEX(MSR_IA32_VMX_TRUE_EXIT_CTLS)] = 0x007fffff00036dfb,
            [INDEX(MSR_IA32_VMX_TRUE_ENTRY_CTLS)] = 0x0000ffff000011fb,
            [INDEX(MSR_IA32_VMX_VMFUNC)] = 0x1,
        },
    .maxphyaddr = 40,
};

static const enum control_word words[] = {CONTROL_SECONDARY, CONTROL_PIN, CONTROL_PRIMARY, CONTROL_EXIT,
                                          CONTROL_ENTRY};

static struct nested_vmx_capability computed(const struct vmx_hardware *hardware)
{
    struct nested_vmx_capability capability;

    nested_vmx_capability_compute(hardware, &capability);
    return capability;
}

static u64 hardware_true(const struct vmx_hardware *hardware, enum control_word word)
{
    static const u32 msr[CONTROL_WORDS] = {[CONTROL_PIN] = MSR_IA32_VMX_TRUE_PINBASED_CTLS,
                                           [CONTROL_PRIMARY] = MSR_IA32_VMX_TRUE_PROCBASED_CTLS,
                                           [CONTROL_SECONDARY] = MSR_IA32_VMX_PROCBASED_CTLS2,
                                           [CONTROL_EXIT] = MSR_IA32_VMX_TRUE_EXIT_CTLS,
                                           [CONTROL_ENTRY] = MSR_IA32_VMX_TRUE_ENTRY_CTLS};
    return hardware->msr[INDEX(msr[word])];
}

static bool is_in_table(enum control_word word, u64 bit)
{
    for (size_t i = 0; i < nested_control_count; i++) {
        if (nested_control_rows[i].word == word && nested_control_rows[i].bit == bit)
            return true;
    }
    return false;
}

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < nested_control_count; i++) {
        const struct nested_control_row *row = &nested_control_rows[i];
        assert_true(row->bit != 0 && (row->bit & (row->bit - 1)) == 0);
        for (size_t other = 0; other < i; other++)
            assert_false(nested_control_rows[other].word == row->word &&
                         nested_control_rows[other].bit == row->bit);
    }
}

/* For any hardware: no control that it lacks, none that the table lacks but for those that must be 1. */
static void check_is_subset(const struct vmx_hardware *hardware)
{
    struct nested_vmx_capability capability = computed(hardware);

    for (size_t w = 0; w < ARRAY_SIZE(words); w++) {
        u64 real = hardware_true(hardware, words[w]);
        u64 offered = nested_vmx_allowed(&capability, words[w]);
        for (unsigned bit = 0; bit < 32; bit++) {
            bool may = (offered >> 32 & BIT(bit)) != 0, must = (offered & BIT(bit)) != 0;
            assert_true(!must || may);
            assert_true(!may || (real >> 32 & BIT(bit)) != 0);
            assert_true((real & BIT(bit)) == 0 || must);
            assert_true(!may || must || is_in_table(words[w], BIT(bit)));
        }
    }
}

static void test_subset(void **state)
{
    struct vmx_hardware everything = ice_lake;

    (void)state;
    check_is_subset(&ice_lake);
    everything.perf_global_ctrl = true;
    for (u32 msr = MSR_IA32_VMX_PINBASED_CTLS; msr <= MSR_IA32_VMX_TRUE_ENTRY_CTLS; msr++) {
        if (msr <= MSR_IA32_VMX_ENTRY_CTLS || msr >= MSR_IA32_VMX_TRUE_PINBASED_CTLS ||
            msr == MSR_IA32_VMX_PROCBASED_CTLS2)
            everything.msr[INDEX(msr)] |= 0xffffffff00000000;
    }
    check_is_subset(&everything);
    /* Each control of the hardware alone missing. */
    for (unsigned bit = 0; bit < 32; bit++) {
        struct vmx_hardware lesser = ice_lake;
        lesser.msr[INDEX(MSR_IA32_VMX_PROCBASED_CTLS2)] &= ~(BIT(bit) << 32);
        check_is_subset(&lesser);
        struct nested_vmx_capability capability = computed(&lesser);
        assert_false(nested_vmx_offers(&capability, CONTROL_SECONDARY, BIT(bit)));
    }
}

/* What kvm_intel of Linux 7.2 refuses to load without. */
static void test_kvm_needs(void **state)
{
    static const struct {
        enum control_word word;
        u64 bits;
    } needs[] = {
        {CONTROL_PIN, PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING},
        {CONTROL_PRIMARY, PRIMARY_HLT_EXITING | PRIMARY_CR8_LOAD_EXITING | PRIMARY_CR8_STORE_EXITING |
                              PRIMARY_CR3_LOAD_EXITING | PRIMARY_CR3_STORE_EXITING | PRIMARY_IO_EXITING |
                              PRIMARY_MOV_DR_EXITING | PRIMARY_TSC_OFFSETTING | PRIMARY_MWAIT_EXITING |
                              PRIMARY_MONITOR_EXITING | PRIMARY_INVLPG_EXITING | PRIMARY_RDPMC_EXITING |
                              PRIMARY_INTERRUPT_WINDOW},
        {CONTROL_EXIT, EXIT_SAVE_DEBUG | EXIT_ACKNOWLEDGE_INTERRUPT | EXIT_HOST_64},
        {CONTROL_ENTRY, ENTRY_LOAD_DEBUG | ENTRY_IA32E_GUEST},
        {CONTROL_SECONDARY, SECONDARY_EPT | SECONDARY_UNRESTRICTED_GUEST | SECONDARY_VPID | SECONDARY_MBEC},
    };
    struct nested_vmx_capability capability = computed(&ice_lake);

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(needs); i++) {
        for (unsigned bit = 0; bit < 32; bit++) {
            if ((needs[i].bits & BIT(bit)) != 0)
                assert_true(nested_vmx_offers(&capability, needs[i].word, BIT(bit)));
        }
    }
    u64 basic = nested_vmx_msr(&capability, MSR_IA32_VMX_BASIC);
    assert_int_equal(basic & VMX_BASIC_REVISION, VMCS12_REVISION);
    assert_int_equal(basic >> 32 & 0x1fff, PAGE_SIZE);
    assert_int_equal(basic >> 50 & 15, 6);
    assert_int_equal(basic & BIT(31), 0);
    assert_int_equal(nested_vmx_msr(&capability, MSR_IA32_VMX_EPT_VPID_CAP), 0x00000f0106734041);
    assert_int_equal(nested_vmx_msr(&capability, MSR_IA32_VMX_CR4_FIXED1) & CR4_SMXE, 0);
    assert_int_equal(nested_vmx_msr(&capability, MSR_IA32_VMX_CR4_FIXED1) & CR4_VMXE, CR4_VMXE);
}

/* CR3 exiting and debug controls are 1 in the plain MSRs and free in the TRUE ones: SDM vol. 3D A.2. */
static void test_true_controls(void **state)
{
    struct nested_vmx_capability capability = computed(&ice_lake);
    u64 plain = nested_vmx_msr(&capability, MSR_IA32_VMX_PROCBASED_CTLS);
    u64 precise = nested_vmx_msr(&capability, MSR_IA32_VMX_TRUE_PROCBASED_CTLS);
    u64 cr3 = PRIMARY_CR3_LOAD_EXITING | PRIMARY_CR3_STORE_EXITING;

    (void)state;
    assert_int_equal(plain & cr3, cr3);
    assert_int_equal(precise & cr3, 0);
    assert_int_equal(plain | cr3, precise | cr3);
    assert_int_equal(nested_vmx_msr(&capability, MSR_IA32_VMX_EXIT_CTLS) & EXIT_SAVE_DEBUG, EXIT_SAVE_DEBUG);
    assert_int_equal(nested_vmx_msr(&capability, MSR_IA32_VMX_TRUE_EXIT_CTLS) & EXIT_SAVE_DEBUG, 0);

    struct vmx_hardware old = ice_lake;
    old.msr[INDEX(MSR_IA32_VMX_BASIC)] &= ~VMX_BASIC_TRUE_CONTROLS;
    capability = computed(&old);
    assert_false(nested_vmx_msr_exists(&capability, MSR_IA32_VMX_TRUE_PINBASED_CTLS));
    assert_int_equal(nested_vmx_msr(&capability, MSR_IA32_VMX_TRUE_PROCBASED_CTLS), 0);
    assert_int_equal(nested_vmx_allowed(&capability, CONTROL_PRIMARY) & cr3, cr3);
}

static void test_msrs_that_exist(void **state)
{
    struct nested_vmx_capability capability = computed(&ice_lake);
    struct vmx_hardware plain = ice_lake;

    (void)state;
    for (u32 msr = MSR_IA32_VMX_BASIC; msr <= MSR_IA32_VMX_TRUE_ENTRY_CTLS; msr++)
        assert_true(nested_vmx_msr_exists(&capability, msr));
    assert_false(nested_vmx_msr_exists(&capability, MSR_IA32_VMX_PROCBASED_CTLS3));
    assert_false(nested_vmx_msr_exists(&capability, MSR_IA32_VMX_EXIT_CTLS2));
    assert_int_equal(nested_vmx_msr_exists(&capability, MSR_IA32_VMX_VMFUNC),
                     nested_vmx_offers(&capability, CONTROL_SECONDARY, SECONDARY_VM_FUNCTIONS));

    plain.msr[INDEX(MSR_IA32_VMX_TRUE_PROCBASED_CTLS)] &= ~(PRIMARY_SECONDARY_CONTROLS << 32);
    plain.msr[INDEX(MSR_IA32_VMX_PROCBASED_CTLS2)] = 0;
    capability = computed(&plain);
    assert_false(nested_vmx_msr_exists(&capability, MSR_IA32_VMX_PROCBASED_CTLS2));
    assert_false(nested_vmx_msr_exists(&capability, MSR_IA32_VMX_EPT_VPID_CAP));
    assert_int_equal(nested_vmx_msr(&capability, MSR_IA32_VMX_EPT_VPID_CAP), 0);
}

static void test_counters(void **state)
{
    struct vmx_hardware hardware = ice_lake;

    (void)state;
    struct nested_vmx_capability capability = computed(&hardware);
    assert_false(nested_vmx_offers(&capability, CONTROL_ENTRY, ENTRY_LOAD_PERF_GLOBAL_CTRL));
    assert_false(nested_vmx_offers(&capability, CONTROL_EXIT, EXIT_LOAD_PERF_GLOBAL_CTRL));
    hardware.perf_global_ctrl = true;
    hardware.perf_global_valid = 0x70000000f;
    capability = computed(&hardware);
    assert_true(nested_vmx_offers(&capability, CONTROL_ENTRY, ENTRY_LOAD_PERF_GLOBAL_CTRL));
    assert_int_equal(capability.perf_global_valid, 0x70000000f);
}

static void test_valid_bits(void **state)
{
    struct vmx_hardware hardware = ice_lake;

    (void)state;
    struct nested_vmx_capability capability = computed(&hardware);
    assert_int_equal(capability.cr3_valid, BITS(39, 0));
    assert_int_equal(capability.efer_valid, EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE);
    assert_int_equal(capability.s_cet_valid, 0);
    assert_int_equal(capability.debugctl_valid, 0);
    hardware.debugctl_valid = BITS(1, 0) | BIT(2) | BIT(15);
    hardware.lam = hardware.rtm = hardware.cet_ibt = hardware.cet_shadow_stack = true;
    hardware.la57 = true;
    hardware.maxphyaddr = 52;
    capability = computed(&hardware);
    assert_int_equal(capability.cr3_valid, BITS(51, 0) | BIT(61) | BIT(62));
    assert_int_equal(capability.s_cet_valid, BITS(5, 0) | BITS(63, 10));
    assert_int_equal(capability.debugctl_valid, hardware.debugctl_valid);
    assert_true(capability.la57 && capability.rtm);
}

/* --- VM entry on lesser CPUs --- */

static void expect(const struct check_case *check_case, enum vmx_check expected)
{
    enum vmx_check found = check_case_run(check_case);

    if (found != expected)
        fail_msg("found %s, expected %s", vmx_check_text(found)->rule, vmx_check_text(expected)->rule);
}

/* What a CPU does not offer. */
static void test_entry_on_lesser_cpus(void **state)
{
    struct check_case check_case;
    u64 *misc;

    (void)state;
    for (u32 activity = 0; activity < 4; activity++) {
        check_case_init(&check_case, BASE_64);
        check_case.capability.msr[MSR_IA32_VMX_MISC - MSR_IA32_VMX_BASIC] = 0;
        check_case.vmcs12.guest_activity = activity;
        expect(&check_case, activity == 0 ? VMX_CHECK_OK : VMX_CHECK_ACTIVITY_UNSUPPORTED);
    }
    check_case_init(&check_case, BASE_64);
    misc = &check_case.capability.msr[MSR_IA32_VMX_MISC - MSR_IA32_VMX_BASIC];
    *misc &= ~VMX_MISC_INJECT_LENGTH_0;
    check_case.vmcs12.entry_interruption = 0x80000480;
    expect(&check_case, VMX_CHECK_EVENT_LENGTH);

    check_case_init(&check_case, BASE_64);
    check_case.capability.rtm = false;
    check_case.vmcs12.guest_pending_debug = 0x11000;
    expect(&check_case, VMX_CHECK_PENDING_DEBUG_RTM);

    check_case_init(&check_case, BASE_64);
    check_case.capability.la57 = true;
    check_case.vmcs12.guest_rip = BIT(55) | BIT(48);
    check_case.vmcs12.host_fs_base = BIT(55);
    expect(&check_case, VMX_CHECK_OK);
    check_case.vmcs12.host_fs_base = BIT(56);
    expect(&check_case, VMX_CHECK_HOST_BASE);
    check_case.vmcs12.host_fs_base = 0;
    check_case.vmcs12.guest_rip = BIT(57);
    expect(&check_case, VMX_CHECK_RIP);

    check_case_init(&check_case, BASE_64);
    check_case.capability.msr[MSR_IA32_VMX_EPT_VPID_CAP - MSR_IA32_VMX_BASIC] &= ~(u64)BIT(21);
    check_case.vmcs12.ept_pointer |= BIT(6);
    expect(&check_case, VMX_CHECK_EPT_POINTER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),           cmocka_unit_test(test_subset),
        cmocka_unit_test(test_kvm_needs),       cmocka_unit_test(test_true_controls),
        cmocka_unit_test(test_msrs_that_exist), cmocka_unit_test(test_counters),
        cmocka_unit_test(test_valid_bits),      cmocka_unit_test(test_entry_on_lesser_cpus),
    };
    return cmocka_run_group_tests_name("vmx-capability", tests, NULL, NULL);
}
