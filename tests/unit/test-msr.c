/* SPDX-License-Identifier: MIT */
/*
 * Intercepted MSR accesses with mocked MSRs and real second-level tables: what is written through, what
 * becomes #GP, what is counted, and that MTRRs reach the EPT.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "arch/msr.h"
#include "mm/memmap.h"
#include "tests/unit/checked-frames.h"
#include "tests/unit/vcpu-doubles.h"
#include "vcpu/msr-policy.h"
#include "vcpu/vcpu.h"

static struct vcpu vcpu;

static void start(enum tdp_format format)
{
    struct tdp_config config = {.format = format, .page_1g = true, .maxphyaddr = 40};

    checked_frames_reset();
    doubles_reset();
    memset(&vcpu, 0, sizeof(vcpu));
    memset(&machine, 0, sizeof(machine));
    assert_int_equal(tdp_init(&machine.tdp, &config), TDP_OK);
    machine.physical_limit = machine_physical_limit(config.maxphyaddr);
    machine.mtrr = (struct mtrr_state){.cap = IA32_MTRRCAP_FIX | IA32_MTRRCAP_WC | 4,
                                       .def_type = IA32_MTRR_DEF_TYPE_E | IA32_MTRR_DEF_TYPE_FE | MT_WB,
                                       .variable_count = 4,
                                       .maxphyaddr = config.maxphyaddr};
    if (format == TDP_NPT)
        memset(&machine.mtrr, 0, sizeof(machine.mtrr));
    umbra_region = (struct mem_range){.start = MIB(512), .end = MIB(516)};
}

/* Upper halves of ECX, EAX and EDX are the guest's rubbish. */
static enum exit_action write_msr(u32 msr, u64 value)
{
    vcpu.gpr[GPR_RCX] = 0xdead000000000000 | msr;
    vcpu.gpr[GPR_RAX] = 0xdead000000000000 | (u32)value;
    vcpu.gpr[GPR_RDX] = 0xdead000000000000 | value >> 32;
    return wrmsr_exit(&vcpu);
}

static u64 read_msr(u32 msr)
{
    vcpu.gpr[GPR_RCX] = 0xdead000000000000 | msr;
    vcpu.gpr[GPR_RAX] = vcpu.gpr[GPR_RDX] = ~0ull;
    assert_int_equal(rdmsr_exit(&vcpu), EXIT_SKIP);
    assert_int_equal(vcpu.gpr[GPR_RAX] >> 32, 0);
    assert_int_equal(vcpu.gpr[GPR_RDX] >> 32, 0);
    return vcpu.gpr[GPR_RDX] << 32 | vcpu.gpr[GPR_RAX];
}

static enum exit_action try_read(u32 msr)
{
    enum exit_action action;
    vcpu.gpr[GPR_RCX] = msr;
    vcpu.gpr[GPR_RAX] = vcpu.gpr[GPR_RDX] = 0x55;
    action = rdmsr_exit(&vcpu);
    if (action == EXIT_GP) {
        assert_int_equal(vcpu.gpr[GPR_RAX], 0x55);
        assert_int_equal(vcpu.gpr[GPR_RDX], 0x55);
    }
    return action;
}

static void test_denied(void **state)
{
    (void)state;
    start(TDP_EPT);
    double_msr(MSR_IA32_VMX_BASIC, 1);
    assert_int_equal(try_read(MSR_IA32_VMX_BASIC), EXIT_GP);
    assert_int_equal(try_read(MSR_IA32_VMX_BASIC), EXIT_GP);
    assert_int_equal(write_msr(MSR_IA32_VMX_BASIC, 0), EXIT_GP);
    assert_int_equal(write_msr(0x12345678, 0), EXIT_GP);
    assert_int_equal(vcpu.accounting.denied_msrs, 4);
    assert_int_equal(double_log_count("MSR 480"), 1);
    assert_int_equal(double_log_count("MSR 12345678"), 1);
    assert_int_equal(double_msr_writes(), 0);
}

static void test_denied_log_is_bounded(void **state)
{
    (void)state;
    start(TDP_EPT);
    for (unsigned round = 0; round < 2; round++) {
        for (u32 i = 0; i < 100; i++)
            assert_int_equal(try_read(0x40000000 + i), EXIT_GP);
    }
    assert_int_equal(vcpu.accounting.denied_msrs, 200);
    assert_true(double_log_count("denied") <= 64);
}

static void test_feature_control(void **state)
{
    (void)state;
    start(TDP_EPT);
    assert_int_equal(read_msr(MSR_IA32_FEATURE_CONTROL), IA32_FEATURE_CONTROL_LOCK);
    double_msr(MSR_IA32_FEATURE_CONTROL, 0xffffffff);
    assert_int_equal(read_msr(MSR_IA32_FEATURE_CONTROL), BIT(0) | BIT(20));
    assert_int_equal(write_msr(MSR_IA32_FEATURE_CONTROL, BIT(0)), EXIT_GP);
}

static void test_vm_cr(void **state)
{
    (void)state;
    start(TDP_NPT);
    double_msr(MSR_VM_CR, 0);
    assert_int_equal(read_msr(MSR_VM_CR), BIT(3) | BIT(4));
    assert_int_equal(write_msr(MSR_VM_CR, 0x1f), EXIT_SKIP);
    assert_int_equal(write_msr(MSR_VM_CR, 0x20), EXIT_GP);
    assert_int_equal(double_msr_value(MSR_VM_CR), 0);
    assert_int_equal(read_msr(MSR_VM_CR), BIT(3) | BIT(4));
    start(TDP_EPT);
    assert_int_equal(try_read(MSR_VM_CR), EXIT_GP);
}

static void check_apic_base(u64 base, enum exit_action action)
{
    u64 before = double_msr_value(MSR_IA32_APIC_BASE);
    u64 value = base | IA32_APIC_BASE_EN | IA32_APIC_BASE_BSP;
    assert_int_equal(write_msr(MSR_IA32_APIC_BASE, value), action);
    assert_int_equal(double_msr_value(MSR_IA32_APIC_BASE), action == EXIT_SKIP ? value : before);
}

static void test_apic_base(void **state)
{
    (void)state;
    for (unsigned format = TDP_EPT; format <= TDP_NPT; format++) {
        start(format);
        double_msr(MSR_IA32_APIC_BASE, 0xfee00900);
        check_apic_base(0xfee00000, EXIT_SKIP);
        check_apic_base(umbra_region.start - PAGE_SIZE, EXIT_SKIP);
        check_apic_base(umbra_region.start, EXIT_GP);
        check_apic_base(umbra_region.end - PAGE_SIZE, EXIT_GP);
        check_apic_base(umbra_region.end, EXIT_SKIP);
        check_apic_base(machine.physical_limit - PAGE_SIZE, EXIT_SKIP);
        check_apic_base(machine.physical_limit, EXIT_GP);
        check_apic_base(BITS(63, 12), EXIT_GP);
        double_msr_read_only(MSR_IA32_APIC_BASE, BIT(9));
        check_apic_base(0xfee00000 | BIT(9), EXIT_GP);
    }
}

static void test_microcode(void **state)
{
    (void)state;
    start(TDP_EPT);
    double_msr(MSR_IA32_BIOS_UPDT_TRIG, 0);
    assert_int_equal(write_msr(MSR_IA32_BIOS_UPDT_TRIG, 0xffff888001000030), EXIT_SKIP);
    assert_int_equal(write_msr(MSR_IA32_BIOS_UPDT_TRIG, 0xffff888001000030), EXIT_SKIP);
    assert_int_equal(try_read(MSR_IA32_BIOS_UPDT_TRIG), EXIT_GP);
    assert_int_equal(double_msr_writes(), 0);
    assert_int_equal(double_log_count("microcode"), 1);
    start(TDP_NPT);
    double_msr(MSR_PATCH_LOADER, 0);
    assert_int_equal(write_msr(MSR_PATCH_LOADER, 0x1000), EXIT_SKIP);
    assert_int_equal(double_msr_writes(), 0);
}

static void test_misc_enable(void **state)
{
    (void)state;
    start(TDP_EPT);
    assert_int_equal(try_read(MSR_IA32_MISC_ENABLE), EXIT_GP);
    assert_int_equal(write_msr(MSR_IA32_MISC_ENABLE, 0), EXIT_GP);
    double_msr(MSR_IA32_MISC_ENABLE, 0x850089 & ~BIT(12));
    double_msr_read_only(MSR_IA32_MISC_ENABLE, BIT(12));
    assert_int_equal(read_msr(MSR_IA32_MISC_ENABLE), 0x850089 | BIT(12));
    assert_int_equal(write_msr(MSR_IA32_MISC_ENABLE, 0x850088 | BIT(12)), EXIT_SKIP);
    assert_int_equal(double_msr_value(MSR_IA32_MISC_ENABLE), 0x850088 & ~BIT(12));
    assert_int_equal(write_msr(MSR_IA32_MISC_ENABLE, 0x850089 | BIT(34)), EXIT_GP);
    assert_int_equal(double_msr_value(MSR_IA32_MISC_ENABLE), 0x850088 & ~BIT(12));
}

static void test_perf_capabilities_and_xss(void **state)
{
    (void)state;
    start(TDP_EPT);
    double_msr(MSR_IA32_PERF_CAPABILITIES, ~0ull);
    assert_int_equal(read_msr(MSR_IA32_PERF_CAPABILITIES) & 0x34fc0, 0);
    assert_int_equal(read_msr(MSR_IA32_PERF_CAPABILITIES) & 0xb03f, 0xb03f);
    double_msr(MSR_IA32_XSS, 0);
    double_msr_read_only(MSR_IA32_XSS, ~(BIT(8) | BIT(11) | BIT(12)));
    assert_int_equal(write_msr(MSR_IA32_XSS, BIT(11) | BIT(12)), EXIT_SKIP);
    assert_int_equal(write_msr(MSR_IA32_XSS, BIT(8)), EXIT_GP);
    assert_int_equal(write_msr(MSR_IA32_XSS, BIT(0)), EXIT_GP);
    assert_int_equal(double_msr_value(MSR_IA32_XSS), BIT(11) | BIT(12));
}

static enum memory_type type_at(u64 at)
{
    struct tdp_leaf leaf = tdp_lookup(&machine.tdp, gpa(at));
    assert_true(leaf.present);
    return leaf.type;
}

static void test_mtrrs_shape_the_ept(void **state)
{
    (void)state;
    start(TDP_EPT);
    assert_int_equal(tdp_map(&machine.tdp, 0, GIB(4), TDP_RWX, MT_WB), TDP_OK);
    assert_int_equal(read_msr(MSR_IA32_MTRRCAP), IA32_MTRRCAP_FIX | IA32_MTRRCAP_WC | 4);
    assert_int_equal(write_msr(MSR_IA32_MTRRCAP, 0), EXIT_GP);

    /* A0000 to BFFFF uncached: 4-KByte pages below 2 MByte. */
    for (unsigned i = 0; i < MTRR_FIXED_COUNT; i++)
        machine.mtrr.fixed[i] = 0x0606060606060606;
    assert_int_equal(write_msr(MSR_IA32_MTRR_FIX16K_A0000, 0), EXIT_SKIP);
    assert_int_equal(type_at(0xa0000), MT_UC);
    assert_int_equal(type_at(0xbf000), MT_UC);
    assert_int_equal(type_at(0x9f000), MT_WB);
    assert_int_equal(type_at(0xc0000), MT_WB);
    assert_true(machine.tdp.flush_pending);

    /* 3 to 4 GByte uncached by a variable range. */
    assert_int_equal(write_msr(MSR_IA32_MTRR_PHYSBASE0, GIB(3) | MT_UC), EXIT_SKIP);
    assert_int_equal(type_at(GIB(3)), MT_WB);
    assert_int_equal(write_msr(MSR_IA32_MTRR_PHYSMASK0, (BITS(39, 30)) | BIT(11)), EXIT_SKIP);
    assert_int_equal(type_at(GIB(3)), MT_UC);
    assert_int_equal(type_at(GIB(2)), MT_WB);
    assert_int_equal(read_msr(MSR_IA32_MTRR_PHYSMASK0), BITS(39, 30) | BIT(11));

    /* Off: everything is uncached, and what is written meanwhile shows when they are on again. */
    assert_int_equal(write_msr(MSR_IA32_MTRR_DEF_TYPE, MT_WB), EXIT_SKIP);
    assert_int_equal(type_at(GIB(1)), MT_UC);
    tdp_flushed(&machine.tdp);
    assert_int_equal(write_msr(MSR_IA32_MTRR_PHYSMASK0, 0), EXIT_SKIP);
    assert_false(machine.tdp.flush_pending);
    assert_int_equal(write_msr(MSR_IA32_MTRR_DEF_TYPE, BIT(11) | BIT(10) | MT_WB), EXIT_SKIP);
    assert_int_equal(type_at(GIB(3)), MT_WB);
    assert_int_equal(type_at(0xa0000), MT_UC);
}

static void test_mtrr_faults_and_no_change(void **state)
{
    (void)state;
    start(TDP_EPT);
    assert_int_equal(tdp_map(&machine.tdp, 0, GIB(4), TDP_RWX, MT_WB), TDP_OK);
    tdp_flushed(&machine.tdp);
    assert_int_equal(write_msr(MSR_IA32_MTRR_DEF_TYPE, machine.mtrr.def_type), EXIT_SKIP);
    assert_false(machine.tdp.flush_pending);
    assert_int_equal(write_msr(MSR_IA32_MTRR_DEF_TYPE, 2), EXIT_GP);
    assert_int_equal(write_msr(MSR_IA32_MTRR_PHYSBASE0, BIT(40)), EXIT_GP);
    assert_int_equal(write_msr(MSR_IA32_MTRR_PHYSBASE0 + 8, MT_WB), EXIT_GP);
    assert_int_equal(try_read(MSR_IA32_MTRR_PHYSBASE0 + 8), EXIT_GP);
    assert_int_equal(machine.mtrr.def_type, IA32_MTRR_DEF_TYPE_E | IA32_MTRR_DEF_TYPE_FE | MT_WB);
}

/* A mask with holes changes the type every 4 KByte: no pool is large enough for that. */
static void test_mtrrs_out_of_memory(void **state)
{
    (void)state;
    start(TDP_EPT);
    assert_int_equal(tdp_map(&machine.tdp, 0, GIB(4), TDP_RWX, MT_WB), TDP_OK);
    assert_int_equal(write_msr(MSR_IA32_MTRR_PHYSBASE0, MT_UC), EXIT_SKIP);
    checked_frames_limit(3);
    assert_int_equal(write_msr(MSR_IA32_MTRR_PHYSMASK0, BIT(12) | BIT(11)), EXIT_SKIP);
    assert_int_equal(type_at(0), MT_UC);
    assert_int_equal(type_at(0x1000), MT_UC);
    assert_int_equal(type_at(GIB(4) - PAGE_SIZE), MT_UC);
    assert_true(machine.tdp.flush_pending);
    /* The next write that can be followed is. */
    tdp_flushed(&machine.tdp);
    checked_frames_limit(SIZE_MAX);
    assert_int_equal(write_msr(MSR_IA32_MTRR_PHYSMASK0, 0), EXIT_SKIP);
    assert_int_equal(type_at(GIB(4) - PAGE_SIZE), MT_WB);
}

static void test_amd_changeable_bits(void **state)
{
    (void)state;
    start(TDP_NPT);
    assert_int_equal(write_msr(MSR_SYSCFG, 0), EXIT_GP);
    double_msr(MSR_SYSCFG, 0x740000 | BIT(19));
    assert_int_equal(write_msr(MSR_SYSCFG, 0x740000), EXIT_SKIP);
    assert_int_equal(double_msr_value(MSR_SYSCFG), 0x740000);
    assert_int_equal(write_msr(MSR_SYSCFG, 0x740000 | BIT(23)), EXIT_GP);
    assert_int_equal(write_msr(MSR_SYSCFG, 0x640000), EXIT_GP);
    assert_int_equal(double_msr_value(MSR_SYSCFG), 0x740000);

    double_msr(MSR_HWCR, BIT(0) | BIT(4));
    assert_int_equal(write_msr(MSR_HWCR, BIT(0) | BIT(4) | BIT(6) | BIT(18)), EXIT_SKIP);
    assert_int_equal(write_msr(MSR_HWCR, BIT(4)), EXIT_GP);
    assert_int_equal(write_msr(MSR_HWCR, BIT(0)), EXIT_GP);

    double_msr(MSR_DE_CFG, 0);
    assert_int_equal(write_msr(MSR_DE_CFG, BIT(1)), EXIT_SKIP);
    assert_int_equal(write_msr(MSR_DE_CFG, BIT(2)), EXIT_GP);
    assert_int_equal(double_msr_value(MSR_DE_CFG), BIT(1));
}

/* Every row that says `handled` ends in a handler, and none reaches the real MSR with an arbitrary value. */
static void test_every_handled_write_is_checked(void **state)
{
    (void)state;
    for (size_t i = 0; i < msr_policy_rows; i++) {
        const struct msr_policy_row *row = &msr_policy_table[i];
        for (u32 msr = row->first; row->write == MSR_HANDLE && msr <= row->last; msr++) {
            start((row->vendor & MSR_INTEL) != 0 ? TDP_EPT : TDP_NPT);
            double_msr(msr, 0);
            (void)write_msr(msr, ~0ull);
            if (double_msr_writes() != 0)
                fail_msg("MSR %x takes anything", msr);
        }
    }
}

/* The SVM map has no bits for C000_2000: such accesses exit though they are allowed. */
static void test_passed_outside_the_map(void **state)
{
    (void)state;
    start(TDP_NPT);
    double_msr(0xc0002005, 0x123456789abcdef0);
    assert_int_equal(read_msr(0xc0002005), 0x123456789abcdef0);
    assert_int_equal(write_msr(0xc0002005, 0xfedcba9876543210), EXIT_SKIP);
    assert_int_equal(double_msr_value(0xc0002005), 0xfedcba9876543210);
    assert_int_equal(try_read(0xc0002006), EXIT_GP);
    assert_int_equal(write_msr(0xc0002006, 0), EXIT_GP);
    assert_int_equal(vcpu.accounting.denied_msrs, 0);
}

/* With several CPUs the local APIC stays where it is, and on: another CPU's NMI has to arrive. */
static void test_apic_base_of_many(void **state)
{
    const u64 on = 0xfee00000 | IA32_APIC_BASE_EN, x2apic = on | IA32_APIC_BASE_EXTD;

    (void)state;
    start(TDP_EPT);
    machine.cpus = 2;
    double_msr(MSR_IA32_APIC_BASE, on);
    assert_int_equal(write_msr(MSR_IA32_APIC_BASE, on + PAGE_SIZE), EXIT_GP);
    assert_int_equal(write_msr(MSR_IA32_APIC_BASE, on | IA32_APIC_BASE_BSP), EXIT_GP);
    assert_int_equal(double_apic_resets, 0);

    assert_int_equal(write_msr(MSR_IA32_APIC_BASE, 0xfee00000), EXIT_SKIP);
    assert_int_equal(double_msr_value(MSR_IA32_APIC_BASE), on);
    assert_int_equal(double_apic_resets, 1);
    assert_int_equal(read_msr(MSR_IA32_APIC_BASE), 0xfee00000);
    /* There is no way from off to x2APIC mode. */
    assert_int_equal(write_msr(MSR_IA32_APIC_BASE, x2apic), EXIT_GP);
    assert_int_equal(write_msr(MSR_IA32_APIC_BASE, x2apic & ~IA32_APIC_BASE_EN), EXIT_GP);
    assert_int_equal(write_msr(MSR_IA32_APIC_BASE, on), EXIT_SKIP);
    assert_int_equal(read_msr(MSR_IA32_APIC_BASE), on);
    assert_int_equal(write_msr(MSR_IA32_APIC_BASE, x2apic), EXIT_SKIP);
    assert_int_equal(read_msr(MSR_IA32_APIC_BASE), x2apic);
    /* Out of x2APIC mode through the state that the guest asked for. */
    assert_int_equal(write_msr(MSR_IA32_APIC_BASE, 0xfee00000), EXIT_SKIP);
    assert_int_equal(double_msr_value(MSR_IA32_APIC_BASE), on);
    assert_int_equal(double_apic_resets, 2);
    assert_int_equal(read_msr(MSR_IA32_APIC_BASE), 0xfee00000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_denied),
        cmocka_unit_test(test_denied_log_is_bounded),
        cmocka_unit_test(test_feature_control),
        cmocka_unit_test(test_vm_cr),
        cmocka_unit_test(test_apic_base),
        cmocka_unit_test(test_microcode),
        cmocka_unit_test(test_misc_enable),
        cmocka_unit_test(test_perf_capabilities_and_xss),
        cmocka_unit_test(test_mtrrs_shape_the_ept),
        cmocka_unit_test(test_mtrr_faults_and_no_change),
        cmocka_unit_test(test_mtrrs_out_of_memory),
        cmocka_unit_test(test_amd_changeable_bits),
        cmocka_unit_test(test_every_handled_write_is_checked),
        cmocka_unit_test(test_passed_outside_the_map),
        cmocka_unit_test(test_apic_base_of_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
