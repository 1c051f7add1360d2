/* SPDX-License-Identifier: MIT */
/*
 * Hypercalls of the test build on real tables, and the rest of vcpu/ that needs no more than values: who may
 * call, 32-bit callers, bad arguments, the recorded violation, start states, XSETBV, the report.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "mm/memmap.h"
#include "tests/unit/checked-frames.h"
#include "tests/unit/vcpu-doubles.h"
#include "vcpu/hypercall.h"
#include "vcpu/vendor.h"

static const char *reason_name(u32 reason)
{
    (void)reason;
    return "an exit";
}

static const struct vendor vendor = {.reason_name = reason_name};

static struct vcpu vcpu;
static struct exit_context context;

static void start(enum tdp_format format, bool mode_based_execute)
{
    struct tdp_config config = {
        .format = format, .mode_based_execute = mode_based_execute, .page_1g = true, .maxphyaddr = 40};

    checked_frames_reset();
    doubles_reset();
    memset(&vcpu, 0, sizeof(vcpu));
    memset(&machine, 0, sizeof(machine));
    machine.vendor = &vendor;
    context = (struct exit_context){.rip = 0x1000, .code64 = true};
    assert_int_equal(tdp_init(&machine.tdp, &config), TDP_OK);
    machine.physical_limit = BIT(40);
    machine.mode_based_execute = mode_based_execute;
    machine.hypercalls = HYPERCALLS_KERNEL;
    machine.mtrr = (struct mtrr_state){.def_type = BIT(11) | MT_WB, .maxphyaddr = 40};
    umbra_region = (struct mem_range){.start = MIB(512), .end = MIB(520)};
    assert_int_equal(tdp_map(&machine.tdp, 0, GIB(1), TDP_RWX, MT_WB), TDP_OK);
    assert_int_equal(tdp_unmap(&machine.tdp, umbra_region.start, umbra_region.end), TDP_OK);
    tdp_flushed(&machine.tdp);
}

static enum exit_action call(u32 function, u64 rdx, u64 rsi, u64 rdi)
{
    vcpu.gpr[GPR_RAX] = 0xdead00000000ull | HYPERCALL_MAGIC;
    vcpu.gpr[GPR_RCX] = 0xdead00000000 | function;
    vcpu.gpr[GPR_RDX] = rdx;
    vcpu.gpr[GPR_RSI] = rsi;
    vcpu.gpr[GPR_RDI] = rdi;
    return hypercall_exit(&vcpu, &context);
}

static void test_who_may_call(void **state)
{
    (void)state;
    start(TDP_EPT, true);
    for (unsigned callers = HYPERCALLS_OFF; callers <= HYPERCALLS_USER; callers++) {
        for (unsigned cpl = 0; cpl < 4; cpl++) {
            bool may = callers == HYPERCALLS_USER || (callers == HYPERCALLS_KERNEL && cpl == 0);
            machine.hypercalls = callers;
            context.cpl = cpl;
            assert_int_equal(call(HYPERCALL_EXITS, 0, 0, 0), may ? EXIT_SKIP : EXIT_UD);
            assert_int_equal(call(HYPERCALL_TEST_REGION, 0, 0, 0), may ? EXIT_SKIP : EXIT_UD);
        }
    }
    context.cpl = 0;
    assert_int_equal(call(3, 0, 0, 0), EXIT_UD);
    assert_int_equal(call(0x1ff, 0, 0, 0), EXIT_UD);
    vcpu.gpr[GPR_RAX] = HYPERCALL_MAGIC ^ 1;
    vcpu.gpr[GPR_RCX] = HYPERCALL_FEATURES;
    assert_int_equal(hypercall_exit(&vcpu, &context), EXIT_UD);
}

static void test_features_and_exits(void **state)
{
    (void)state;
    for (unsigned mode_based = 0; mode_based < 2; mode_based++) {
        start(TDP_NPT, mode_based != 0);
        assert_int_equal(call(HYPERCALL_FEATURES, 0, 0, 0), EXIT_SKIP);
        assert_int_equal(vcpu.gpr[GPR_RAX], HYPERCALL_OK);
        assert_int_equal(vcpu.gpr[GPR_RBX], HYPERCALL_FEATURE_TEST_BUILD |
                                                (mode_based != 0 ? HYPERCALL_FEATURE_MODE_BASED_EXECUTE : 0));
        assert_int_equal(vcpu.gpr[GPR_RCX], HYPERCALL_VERSION);
    }
    vcpu.accounting.exits = 0x500000007;
    assert_int_equal(call(HYPERCALL_EXITS, 0, 0, 0), EXIT_SKIP);
    assert_int_equal(vcpu.gpr[GPR_RBX], 0x500000007);
    context.code64 = false;
    assert_int_equal(call(HYPERCALL_EXITS, 0, 0, 0), EXIT_SKIP);
    assert_int_equal(vcpu.gpr[GPR_RBX], 7);
}

static void test_report(void **state)
{
    (void)state;
    start(TDP_EPT, true);
    for (unsigned i = 0; i < 300; i++)
        account_exit(&vcpu.accounting, i % 2, i, 0xabc000 + i, 0);
    assert_int_equal(call(HYPERCALL_REPORT, 5, 0, 0), EXIT_SKIP);
    assert_int_equal(double_log_count("exits 300"), 1);
    assert_int_equal(double_log_count("150 an exit"), 2);
    assert_int_equal(double_log_count("abc"), 5);
    assert_int_equal(double_log_count("abc12b"), 1); /* the last: 299 */
    assert_int_equal(double_log_count("abc127"), 1); /* the first of five */

    doubles_reset();
    memset(&vcpu.accounting, 0, sizeof(vcpu.accounting));
    account_exit(&vcpu.accounting, 0, 0, 0xabc000, 0);
    assert_int_equal(call(HYPERCALL_REPORT, ~0u, 0, 0), EXIT_SKIP);
    assert_int_equal(double_log_count("abc"), 1);
    doubles_reset();
    for (unsigned i = 0; i < 100; i++)
        account_exit(&vcpu.accounting, 0, i, 0xabc000 + i, 0);
    vcpu_report(&vcpu);
    assert_int_equal(double_log_count("abc"), 16);
}

static void check_protect(u64 from, u64 to, u64 access, enum hypercall_status status)
{
    assert_int_equal(call(HYPERCALL_TEST_PROTECT, from, to, access), EXIT_SKIP);
    assert_int_equal(vcpu.gpr[GPR_RAX], status);
}

static void test_protect_arguments(void **state)
{
    (void)state;
    start(TDP_EPT, true);
    check_protect(0x1000, 0x1800, TDP_R, HYPERCALL_BAD_ARGUMENT);
    check_protect(0x1001, 0x2000, TDP_R, HYPERCALL_BAD_ARGUMENT);
    check_protect(0x1000, 0x1000, TDP_R, HYPERCALL_BAD_ARGUMENT);
    check_protect(0x2000, 0x1000, TDP_R, HYPERCALL_BAD_ARGUMENT);
    check_protect(0x1000, 0x2000, 16, HYPERCALL_BAD_ARGUMENT);
    check_protect(0x1000, 0x2000, BIT(32) | TDP_R, HYPERCALL_BAD_ARGUMENT);
    check_protect(0x1000, BIT(40) + PAGE_SIZE, TDP_R, HYPERCALL_BAD_ARGUMENT);
    check_protect(BIT(52), BIT(52) + PAGE_SIZE, TDP_R, HYPERCALL_BAD_ARGUMENT);
    check_protect(umbra_region.start, umbra_region.start + PAGE_SIZE, TDP_R, HYPERCALL_REFUSED);
    check_protect(umbra_region.end - PAGE_SIZE, umbra_region.end, TDP_RWX, HYPERCALL_REFUSED);
    check_protect(0, GIB(1), TDP_RWX, HYPERCALL_REFUSED);
    check_protect(umbra_region.start - PAGE_SIZE, umbra_region.start + PAGE_SIZE, 0, HYPERCALL_REFUSED);
    check_protect(0x1000, 0x2000, TDP_W, HYPERCALL_REFUSED); /* write without read */
    for (u64 at = umbra_region.start; at < umbra_region.end; at += PAGE_SIZE)
        assert_false(tdp_lookup(&machine.tdp, gpa(at)).present);
}

static enum exit_action violate(u64 address, unsigned access)
{
    struct violation violation = {.gpa = gpa(address),
                                  .gva = gva(0xffff800000001234),
                                  .gva_valid = true,
                                  .access = access,
                                  .raw = 0x100000184};
    vcpu.accounting.exits++;
    return violation_exit(&vcpu, &violation, &context);
}

static void check_protected(u64 at, unsigned access, unsigned attempted)
{
    u64 count = vcpu.last_violation.count;

    check_protect(at, at + 2 * PAGE_SIZE, access, HYPERCALL_OK);
    assert_true(machine.tdp.flush_pending);
    assert_int_equal(tdp_lookup(&machine.tdp, gpa(at)).access, access);
    assert_int_equal(violate(at + PAGE_SIZE + 8, attempted), EXIT_RESUME);
    assert_int_equal(tdp_lookup(&machine.tdp, gpa(at)).access, access);
    assert_int_equal(tdp_lookup(&machine.tdp, gpa(at + PAGE_SIZE)).access, TDP_RWX);

    assert_int_equal(call(HYPERCALL_TEST_LAST_VIOLATION, 0, 0, 0), EXIT_SKIP);
    assert_int_equal(vcpu.gpr[GPR_RBX], count + 1);
    assert_int_equal(vcpu.gpr[GPR_RDX], 0x100000184);
    assert_int_equal(vcpu.gpr[GPR_RSI], at + PAGE_SIZE + 8);
    assert_int_equal(vcpu.gpr[GPR_RDI], 0xffff800000001234);
    assert_int_equal(vcpu.last_violation.rip, context.rip);

    /* What is allowed by now was only stale, and is not counted. */
    assert_int_equal(violate(at + PAGE_SIZE, attempted), EXIT_RESUME);
    assert_int_equal(vcpu.last_violation.count, count + 1);
}

static void test_protect_and_violate(void **state)
{
    (void)state;
    start(TDP_EPT, true);
    for (unsigned i = 0; i < 40; i++) {
        check_protected(MIB(4), TDP_R | TDP_W | TDP_XU, TDP_XS);
        check_protected(MIB(4), TDP_R | TDP_W | TDP_XS, TDP_XU);
        check_protected(MIB(4), TDP_R | TDP_XS | TDP_XU, TDP_W);
        check_protected(MIB(4), 0, TDP_R);
    }
    check_protected(GIB(70), TDP_R, TDP_W); /* device memory that nobody has touched yet */
    start(TDP_NPT, true);
    check_protected(MIB(4), TDP_R | TDP_W | TDP_XU, TDP_XS);
    check_protected(MIB(4), 0, TDP_W);
    check_protect(MIB(4), MIB(4) + PAGE_SIZE, TDP_R | TDP_XS, HYPERCALL_REFUSED);
    /* Opened for good: a later violation there is none of the test's. */
    check_protect(MIB(4), MIB(4) + 2 * PAGE_SIZE, TDP_RWX, HYPERCALL_OK);
    assert_int_equal(violate(MIB(4), TDP_XS), EXIT_RESUME);
    assert_int_equal(vcpu.last_violation.count, 2);
}

static void test_too_many_protections(void **state)
{
    (void)state;
    start(TDP_EPT, true);
    check_protect(0, MIB(512), TDP_RWX, HYPERCALL_OK); /* swallows what earlier tests left */
    check_protect(MIB(520), BIT(39), TDP_RWX, HYPERCALL_OK);
    for (u64 i = 0; i < 30; i++)
        check_protect(MIB(4) + i * 2 * PAGE_SIZE, MIB(4) + i * 2 * PAGE_SIZE + PAGE_SIZE, TDP_R,
                      HYPERCALL_OK);
    check_protect(MIB(8), MIB(8) + PAGE_SIZE, TDP_R, HYPERCALL_REFUSED);
    assert_int_equal(tdp_lookup(&machine.tdp, gpa(MIB(8))).access, TDP_RWX);
}

static void test_32_bit_caller(void **state)
{
    (void)state;
    start(TDP_EPT, true);
    context.code64 = false;
    check_protect(0xdead00000000 | MIB(4), 0xbeef00000000 | (MIB(4) + PAGE_SIZE), BIT(40) | TDP_R,
                  HYPERCALL_OK);
    assert_int_equal(tdp_lookup(&machine.tdp, gpa(MIB(4))).access, TDP_R);
    assert_int_equal(violate(MIB(4), TDP_W), EXIT_RESUME);
    assert_int_equal(call(HYPERCALL_TEST_LAST_VIOLATION, 0, 0, 0), EXIT_SKIP);
    assert_int_equal(vcpu.gpr[GPR_RDX], 0x184);
    assert_int_equal(vcpu.gpr[GPR_RDI], 0x1234);
}

static void test_region_and_memory_accesses(void **state)
{
    (void)state;
    start(TDP_EPT, true);
    assert_int_equal(call(HYPERCALL_TEST_REGION, 0, 0, 0), EXIT_SKIP);
    assert_int_equal(vcpu.gpr[GPR_RDX], umbra_region.start);
    assert_int_equal(vcpu.gpr[GPR_RSI], umbra_region.end);
    assert_true(vcpu_init(&vcpu, 3));
    assert_int_equal(vcpu.index, 3);
    assert_int_equal(violate(umbra_region.start, TDP_R), EXIT_STEP);
    violation_step_done(&vcpu);
    assert_int_equal(call(HYPERCALL_TEST_MEMORY_ACCESSES, 0, 0, 0), EXIT_SKIP);
    assert_int_equal(vcpu.gpr[GPR_RBX], 1);
    checked_frames_limit(0);
    assert_false(vcpu_init(&vcpu, 0));
}

static enum exit_action xsetbv(u32 index, u64 value)
{
    vcpu.gpr[GPR_RCX] = 0xdead00000000 | index;
    vcpu.gpr[GPR_RAX] = 0xdead00000000 | (u32)value;
    vcpu.gpr[GPR_RDX] = 0xdead00000000 | value >> 32;
    return xsetbv_exit(&vcpu, &context);
}

static void test_xsetbv(void **state)
{
    (void)state;
    start(TDP_EPT, true);
    assert_int_equal(xsetbv(0, 7), EXIT_UD);
    context.cr4 = CR4_OSXSAVE;
    assert_int_equal(xsetbv(0, 7), EXIT_SKIP);
    assert_int_equal(double_xcr0, 7);
    assert_int_equal(xsetbv(0, BIT(33) | 3), EXIT_SKIP);
    assert_int_equal(double_xcr0, BIT(33) | 3);
    assert_int_equal(xsetbv(1, 7), EXIT_GP);
    assert_int_equal(xsetbv(0, BIT(62) | 7), EXIT_GP);
    double_xsetbv_faults = true;
    assert_int_equal(xsetbv(0, 7), EXIT_GP);
    double_xsetbv_faults = false;
    context.cpl = 3;
    assert_int_equal(xsetbv(0, 7), EXIT_GP);
    assert_int_equal(double_xcr0, BIT(33) | 3);
}

static void test_start_states(void **state)
{
    struct start_state init, sipi;
    (void)state;
    memset(&init, 0x55, sizeof(init));
    memset(&sipi, 0x55, sizeof(sipi));
    start_state_init(&init);
    assert_int_equal(init.mode, START_REAL);
    assert_int_equal(init.cs_base + init.rip, 0xfffffff0);
    assert_int_equal(init.cs_selector, 0xf000);
    assert_int_equal(init.data_selector, 0);
    assert_int_equal(init.gdt_base, 0);
    assert_int_equal(init.gdt_limit, 0xffff);
    for (unsigned i = 0; i < GPR_COUNT; i++)
        assert_true(i == GPR_RDX || init.gpr[i] == 0);
    start_state_sipi(&sipi, 0x9a);
    assert_int_equal(sipi.cs_selector, 0x9a00);
    assert_int_equal(sipi.cs_base, 0x9a000);
    assert_int_equal(sipi.rip, 0);
    assert_int_equal(sipi.gpr[GPR_RDX], init.gpr[GPR_RDX]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_may_call),
        cmocka_unit_test(test_features_and_exits),
        cmocka_unit_test(test_report),
        cmocka_unit_test(test_protect_arguments),
        cmocka_unit_test(test_protect_and_violate),
        cmocka_unit_test(test_too_many_protections),
        cmocka_unit_test(test_32_bit_caller),
        cmocka_unit_test(test_region_and_memory_accesses),
        cmocka_unit_test(test_xsetbv),
        cmocka_unit_test(test_start_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
