/* SPDX-License-Identifier: MIT */
/*
 * Second-level violations on real tables: Umbra's memory is lent as ones for one instruction and leaves no
 * trace, device memory is mapped around Umbra's region and with its types, and what cannot go on ends in a
 * report. In both formats.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "arch/msr.h"
#include "mm/memmap.h"
#include "mm/phys.h"
#include "tests/unit/checked-frames.h"
#include "tests/unit/vcpu-doubles.h"
#include "vcpu/shootdown.h"
#include "vcpu/vendor.h"

static struct vcpu vcpu;
static const struct exit_context context = {.rip = 0xffffffff81000123, .cpl = 0, .code64 = true};

static void start(enum tdp_format format, bool page_1g)
{
    struct tdp_config config = {
        .format = format, .mode_based_execute = true, .page_1g = page_1g, .maxphyaddr = 40};

    checked_frames_reset();
    doubles_reset();
    memset(&vcpu, 0, sizeof(vcpu));
    memset(&machine, 0, sizeof(machine));
    assert_int_equal(tdp_init(&machine.tdp, &config), TDP_OK);
    machine.physical_limit = BIT(40);
    if (format == TDP_EPT)
        machine.mtrr = (struct mtrr_state){.cap = 2 | IA32_MTRRCAP_WC,
                                           .def_type = IA32_MTRR_DEF_TYPE_E | MT_UC,
                                           .variable_count = 2,
                                           .maxphyaddr = 40};
    assert_true(vcpu_init(&vcpu, 0));
    umbra_region = (struct mem_range){.start = MIB(512), .end = MIB(520)};
    assert_int_equal(tdp_map(&machine.tdp, 0, GIB(1), TDP_RWX, MT_WB), TDP_OK);
    assert_int_equal(tdp_unmap(&machine.tdp, umbra_region.start, umbra_region.end), TDP_OK);
    tdp_flushed(&machine.tdp);
}

static enum exit_action violate(u64 address, unsigned access)
{
    struct violation violation = {
        .gpa = gpa(address), .gva = gva(address + 1), .gva_valid = true, .access = access, .raw = 0x181};
    vcpu.accounting.exits++;
    return violation_exit(&vcpu, &violation, &context);
}

static bool present(u64 address)
{
    return tdp_lookup(&machine.tdp, gpa(address)).present;
}

static u8 *scratch(void)
{
    return phys_to_virt(vcpu.scratch);
}

static void check_scratch_is_ones(void)
{
    for (unsigned i = 0; i < PAGE_SIZE; i++)
        assert_int_equal(scratch()[i], 0xff);
}

static void check_region_is_closed(void)
{
    for (u64 at = umbra_region.start; at < umbra_region.end; at += PAGE_SIZE)
        assert_false(present(at));
}

static void check_lend(u64 address, unsigned access)
{
    struct tdp_leaf leaf;
    size_t frames = checked_frames_in_use();
    u64 count = vcpu.accounting.umbra_memory_accesses;

    assert_int_equal(violate(address, access), EXIT_STEP);
    check_scratch_is_ones();
    leaf = tdp_lookup(&machine.tdp, gpa(address));
    assert_true(leaf.present);
    assert_int_equal(leaf.size, PAGE_SIZE);
    assert_int_equal(leaf.access, TDP_R | TDP_W);
    assert_int_equal(leaf.target & ~PAGE_MASK, vcpu.scratch.raw);
    assert_int_equal(vcpu.accounting.umbra_memory_accesses, count + 1);

    scratch()[address & PAGE_MASK] = 0x42; /* what the guest writes goes nowhere */
    machine.tdp.flush_pending = false;
    violation_step_done(&vcpu);
    assert_true(machine.tdp.flush_pending);
    check_region_is_closed();
    assert_int_equal(vcpu.scratch_count, 0);
    tdp_flushed(&machine.tdp);
    assert_int_equal(checked_frames_in_use(), frames);
}

static void test_region_reads_as_ones(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        start((i & 1) != 0 ? TDP_EPT : TDP_NPT, (i & 2) != 0);
        check_lend(umbra_region.start, TDP_R);
        check_lend(umbra_region.start + 0xabc, TDP_W);
        check_lend(umbra_region.end - 1, TDP_R | TDP_W);
        check_lend(umbra_region.start + MIB(3), TDP_R);
    }
}

/* The log remembers pages for good, so this test takes pages that no other does. */
static void test_one_log_line_per_page(void **state)
{
    u64 page = MIB(512) + MIB(1);
    (void)state;
    start(TDP_EPT, true);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(violate(page + 8 * i, TDP_R), EXIT_STEP);
        violation_step_done(&vcpu);
    }
    assert_int_equal(double_log_count("reads as ones"), 1);
    assert_int_equal(violate(page + PAGE_SIZE, TDP_W), EXIT_STEP);
    violation_step_done(&vcpu);
    assert_int_equal(double_log_count("reads as ones"), 2);
    assert_int_equal(vcpu.accounting.umbra_memory_accesses, 4);
}

static void test_fetch_from_region(void **state)
{
    static const unsigned fetches[] = {TDP_XS, TDP_XU, TDP_XS | TDP_XU, TDP_R | TDP_XS};
    (void)state;
    start(TDP_EPT, true);
    for (size_t i = 0; i < ARRAY_SIZE(fetches); i++)
        assert_int_equal(violate(umbra_region.start, fetches[i]), EXIT_UD);
    assert_int_equal(vcpu.accounting.umbra_memory_accesses, ARRAY_SIZE(fetches));
    check_region_is_closed();

    /* Nor from a page that is lent for data at the moment. */
    assert_int_equal(violate(umbra_region.start, TDP_R), EXIT_STEP);
    assert_int_equal(violate(umbra_region.start, TDP_XS), EXIT_UD);
    violation_step_done(&vcpu);
    check_region_is_closed();
}

static void test_many_pages_in_one_instruction(void **state)
{
    (void)state;
    start(TDP_EPT, true);
    for (u64 i = 0; i < SCRATCH_MAX; i++)
        assert_int_equal(violate(umbra_region.start + i * MIB(2) / 4, TDP_W), EXIT_STEP);
    violation_step_done(&vcpu);
    check_region_is_closed();
    for (u64 i = 0; i < SCRATCH_MAX; i++)
        assert_int_equal(violate(umbra_region.start + i * PAGE_SIZE, TDP_R), EXIT_STEP);
    ASSERT_FATAL(violate(umbra_region.start + SCRATCH_MAX * PAGE_SIZE, TDP_R), "too many pages");
}

static void test_lent_page_violates_again(void **state)
{
    (void)state;
    start(TDP_EPT, true);
    assert_int_equal(violate(umbra_region.start, TDP_R), EXIT_STEP);
    tdp_flushed(&machine.tdp);
    assert_int_equal(violate(umbra_region.start, TDP_R), EXIT_STEP);
    assert_true(machine.tdp.flush_pending);
    assert_int_equal(vcpu.scratch_count, 1);
    ASSERT_FATAL(
        {
            for (unsigned i = 0; i <= 1000; i++)
                violate(umbra_region.start, TDP_R);
        },
        "again and again");
}

static void test_no_memory_to_lend(void **state)
{
    (void)state;
    start(TDP_EPT, true);
    checked_frames_limit(0);
    ASSERT_FATAL(violate(umbra_region.start, TDP_R), "no memory is left to answer");
}

static void test_device_memory(void **state)
{
    (void)state;
    for (unsigned format = TDP_EPT; format <= TDP_NPT; format++) {
        start(format, true);
        assert_int_equal(violate(GIB(64) + 0x1234, TDP_R), EXIT_RESUME);
        struct tdp_leaf leaf = tdp_lookup(&machine.tdp, gpa(GIB(64) + 0x1234));
        assert_true(leaf.present);
        assert_int_equal(leaf.size, GIB(1));
        assert_int_equal(leaf.target, GIB(64) + 0x1234);
        assert_int_equal(leaf.access, TDP_RWX);
        if (format == TDP_EPT)
            assert_int_equal(leaf.type, MT_UC);
        assert_false(present(GIB(65)));
        assert_false(present(GIB(63)));
        assert_false(machine.tdp.flush_pending);
    }
}

static void test_device_memory_has_mtrr_types(void **state)
{
    (void)state;
    start(TDP_EPT, true);
    machine.mtrr.variable[0].base = GIB(64) + MIB(256) + MT_WC;
    machine.mtrr.variable[0].mask = (BITS(39, 0) & ~(MIB(256) - 1)) | BIT(11);
    assert_int_equal(violate(GIB(64), TDP_W), EXIT_RESUME);
    assert_int_equal(tdp_lookup(&machine.tdp, gpa(GIB(64))).type, MT_UC);
    assert_int_equal(tdp_lookup(&machine.tdp, gpa(GIB(64) + MIB(256))).type, MT_WC);
    assert_int_equal(tdp_lookup(&machine.tdp, gpa(GIB(64) + MIB(511))).type, MT_WC);
    assert_int_equal(tdp_lookup(&machine.tdp, gpa(GIB(64) + MIB(512))).type, MT_UC);
}

/* The hole around the region is a whole gigabyte, or smaller: never is a page of the region mapped. */
static void test_device_memory_beside_the_region(void **state)
{
    static const struct {
        u64 start, end, touched, size;
    } cases[] = {
        {GIB(8) + MIB(512), GIB(8) + MIB(520), GIB(8), MIB(2)},
        {GIB(8) + MIB(512), GIB(8) + MIB(520), GIB(8) + MIB(510), MIB(2)},
        {GIB(8) + MIB(512), GIB(8) + MIB(520), GIB(8) + MIB(520), MIB(2)},
        {GIB(8) + MIB(512), GIB(8) + MIB(520), GIB(9), GIB(1)},
        {GIB(8) + MIB(512), GIB(8) + MIB(520), GIB(8) - 1, GIB(1)},
        {GIB(8) + 0x3000, GIB(8) + 0x5000, GIB(8) + 0x2fff, PAGE_SIZE},
        {GIB(8) + 0x3000, GIB(8) + 0x5000, GIB(8) + 0x5000, PAGE_SIZE},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        start(TDP_EPT, true);
        umbra_region = (struct mem_range){.start = cases[i].start, .end = cases[i].end};
        assert_int_equal(violate(cases[i].touched, TDP_R), EXIT_RESUME);
        struct tdp_leaf leaf = tdp_lookup(&machine.tdp, gpa(cases[i].touched));
        assert_true(leaf.present);
        assert_int_equal(leaf.size, cases[i].size);
        check_region_is_closed();
        assert_int_equal(violate(umbra_region.start, TDP_R), EXIT_STEP);
        violation_step_done(&vcpu);
        check_region_is_closed();
    }
}

static void test_end_of_physical_addresses(void **state)
{
    (void)state;
    start(TDP_EPT, true);
    assert_int_equal(violate(machine.physical_limit - 1, TDP_R), EXIT_RESUME);
    ASSERT_FATAL(violate(machine.physical_limit, TDP_R), "no such guest-physical address");
    ASSERT_FATAL(violate(~0ull, TDP_W), "no such guest-physical address");
    /* Key bits leave less: the same memory must not be reached by a second name. */
    machine.physical_limit = BIT(38);
    ASSERT_FATAL(violate(BIT(38) | umbra_region.start, TDP_R), "no such guest-physical address");
}

static void test_no_memory_for_devices(void **state)
{
    (void)state;
    start(TDP_EPT, false);
    checked_frames_limit(1);
    ASSERT_FATAL(violate(GIB(600), TDP_R), "no memory is left to map device memory");
}

static void test_stale_translation(void **state)
{
    (void)state;
    start(TDP_EPT, true);
    assert_int_equal(violate(MIB(4), TDP_W), EXIT_RESUME);
    assert_true(machine.tdp.flush_pending);
}

static void test_denied(void **state)
{
    (void)state;
    start(TDP_EPT, true);
    assert_int_equal(tdp_protect(&machine.tdp, MIB(4), MIB(4) + PAGE_SIZE, TDP_R), TDP_OK);
    assert_int_equal(violate(MIB(4), TDP_R), EXIT_RESUME);
    ASSERT_FATAL(violate(MIB(4), TDP_W), "denied by Umbra's second-level tables: guest write");
    ASSERT_FATAL(violate(MIB(4), TDP_XS), "guest fetch at guest-physical 400000");
}

static void test_endless_loop(void **state)
{
    (void)state;
    start(TDP_EPT, true);
    /* Another exit in between is progress, another page is another violation. */
    for (unsigned i = 0; i < 3000; i++) {
        assert_int_equal(violate(MIB(4), TDP_W), EXIT_RESUME);
        vcpu.accounting.exits++;
    }
    for (unsigned i = 0; i < 3000; i++)
        assert_int_equal(violate((i & 1) != 0 ? MIB(4) : MIB(5), TDP_W), EXIT_RESUME);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(violate(MIB(4), TDP_R), EXIT_RESUME);
    ASSERT_FATAL(violate(MIB(4), TDP_R), "again and again");
}

/* --- two CPUs --- */

static struct vcpu second;
static unsigned flushes;

static void count_flush(struct vcpu *flushed)
{
    (void)flushed;
    flushes++;
}

static void other_answers(u32 destination, u32 command)
{
    (void)destination;
    (void)command;
    assert_true(shootdown_nmi(&second) || shootdown_nmi(&vcpu));
}

static enum exit_action second_violates(u64 address)
{
    struct violation violation = {.gpa = gpa(address), .access = TDP_W};
    return violation_exit(&second, &violation, &context);
}

/* A page that two CPUs step over stays until the second is done, and is full of ones when it is lent again,
 * though the second has written to it last. */
static void test_page_lent_to_two(void **state)
{
    static const struct vendor vendor = {.flush = count_flush};
    u64 page = umbra_region.start + MIB(2);

    (void)state;
    start(TDP_EPT, true);
    memset(&second, 0, sizeof(second));
    assert_true(vcpu_init(&second, 1));
    machine.vendor = &vendor;
    machine.vcpu[0] = &vcpu;
    machine.vcpu[1] = &second;
    machine.cpus = 2;
    double_apic_hook = other_answers;
    size_t frames = checked_frames_in_use();

    assert_int_equal(violate(page, TDP_W), EXIT_STEP);
    assert_int_equal(second_violates(page), EXIT_STEP);
    assert_int_equal(second_violates(page + PAGE_SIZE), EXIT_STEP);
    assert_int_equal(tdp_lookup(&machine.tdp, gpa(page)).target, vcpu.scratch.raw);
    violation_step_done(&vcpu);
    assert_true(present(page));
    scratch()[7] = 0x42;

    flushes = 0;
    violation_step_done(&second);
    check_region_is_closed();
    assert_true(flushes >= 2); /* both CPUs, before it returned */
    assert_false(machine.tdp.flush_pending);
    assert_int_equal(second.scratch_count, 0);
    assert_int_equal(checked_frames_in_use(), frames);
    /* Nothing was lent: nobody is disturbed. */
    flushes = 0;
    violation_step_done(&second);
    assert_int_equal(flushes, 0);
    assert_int_equal(violate(page, TDP_R), EXIT_STEP);
    check_scratch_is_ones();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_region_reads_as_ones),
        cmocka_unit_test(test_one_log_line_per_page),
        cmocka_unit_test(test_fetch_from_region),
        cmocka_unit_test(test_many_pages_in_one_instruction),
        cmocka_unit_test(test_lent_page_violates_again),
        cmocka_unit_test(test_no_memory_to_lend),
        cmocka_unit_test(test_device_memory),
        cmocka_unit_test(test_device_memory_has_mtrr_types),
        cmocka_unit_test(test_device_memory_beside_the_region),
        cmocka_unit_test(test_end_of_physical_addresses),
        cmocka_unit_test(test_no_memory_for_devices),
        cmocka_unit_test(test_stale_translation),
        cmocka_unit_test(test_denied),
        cmocka_unit_test(test_endless_loop),
        cmocka_unit_test(test_page_lent_to_two),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
