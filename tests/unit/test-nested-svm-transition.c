/* SPDX-License-Identifier: MIT */
/*
 * What passes between vmcb12, vmcb02 and the CPU at VMRUN and VMEXIT where the CPU does the work for L2: the
 * TSC ratio. The test plays the CPU: it writes into vmcb02 what an exit would. Source: APM vol. 2 15.30.5.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/msr.h"
#include "arch/print.h"
#include "arch/x86.h"
#include "mm/guest-mem.h"
#include "nested/svm-nested.h"
#include "svm/capability.h"
#include "tests/unit/svm-case.h"

static struct vmcb vmcb12 __attribute__((aligned(4096))), vmcb02;
static struct nested_svm nested;
static struct svm_frame frame;

enum { VMCB12_ADDRESS = 0x1000 };

const char svm_enter_guest[1], svm_enter_l2[1];

/* --- what is not tried here --- */

void *guest_page(gpa_t page)
{
    return page.raw == VMCB12_ADDRESS ? &vmcb12 : NULL;
}

void nested_svm_translate(struct vcpu *of)
{
    assert_true(of->l2_running);
}

void nested_svm_obey_tlb_control(struct nested_svm *of, u8 tlb_control)
{
    (void)of;
    (void)tlb_control;
    fail();
}

void shadow_wrote(struct shadow *shadow, gpa_t address, u64 bytes)
{
    (void)shadow;
    assert_int_equal(address.raw, VMCB12_ADDRESS);
    assert_int_equal(bytes, PAGE_SIZE);
}

void svm_flush_changes(struct svm_vcpu *of)
{
    (void)of;
    fail();
}

enum exit_action svm_handle(struct svm_vcpu *of, u32 index)
{
    (void)of;
    (void)index;
    fail();
    return EXIT_RESUME;
}

bool nested_svm_npf_filled(struct nested_svm *of)
{
    (void)of;
    fail();
    return false;
}

enum exit_action nested_svm_npf(struct vcpu *of)
{
    (void)of;
    fail();
    return EXIT_RESUME;
}

enum exit_action nested_svm_instruction(struct vcpu *of, u32 exit_code)
{
    (void)of;
    (void)exit_code;
    fail();
    return EXIT_RESUME;
}

void svm_take_pending(void)
{
}

void svm_guest_init(struct svm_vcpu *of)
{
    (void)of;
    fail();
}

void svm_set_gif(struct svm_vcpu *of, bool set)
{
    (void)of;
    (void)set;
    fail();
}

void svm_l2_exit_ends(struct svm_vcpu *of, enum exit_action action)
{
    assert_int_equal(action, EXIT_RESUME);
    of->vmcb->save.rax = of->vcpu->gpr[GPR_RAX];
}

void fatal(const char *format, ...)
{
    (void)format;
    fail();
    abort();
}

/* --- L1, and the CPU --- */

static int set_up(void **state)
{
    static const struct svm_features all = {
        .lbr_virtualization = true, .clean_bits = true, .tsc_ratio = true, .virtual_vmload = true};

    svm_case_set_up(state);
    svm_features = all;
    memset(&vmcb12, 0, sizeof(vmcb12));
    memset(&vmcb02, 0, sizeof(vmcb02));
    memset(&nested, 0, sizeof(nested));
    vmcb.save.cr4 = CR4_PAE;
    svm.vmcb01 = &vmcb;
    svm.frame = &frame;
    svm.l1_svme = true;
    vcpu.nested = &nested;
    nested.slots[0] = (struct svm_slot){.address = VMCB12_ADDRESS, .vmcb12 = &vmcb12, .vmcb02 = &vmcb02};
    nested.slots[0].io_map.base = nested.slots[0].looked_up_msr_map.base = SVM_SLOT_FREE;
    nested.slot = nested.other = &nested.slots[0];
    nested.facts = (struct svm_check_facts){
        .physical_limit = BIT(40), .efer_valid = EFER_SVME | EFER_LME | EFER_LMA, .cr4_valid = BITS(12, 0)};
    svm_own_intercepts(nested.own_intercepts);
    vmcb12.save.efer = EFER_SVME | EFER_LME | EFER_LMA;
    vmcb12.save.cr0 = CR0_PG | CR0_PE;
    vmcb12.save.cr4 = CR4_PAE;
    vmcb12.save.cs.attributes = SEGMENT_L;
    vmcb12.control.asid = 1;
    vmcb12.control.intercept[VMEXIT_VMRUN / 32] = 1u << VMEXIT_VMRUN % 32 | 1u << VMEXIT_VMMCALL % 32;
    return 0;
}

/* VMRUN by L1. False: it was refused. */
static bool run(void)
{
    assert_false(vcpu.l2_running);
    nested_svm_enter(&vcpu, &nested.slots[0]);
    return vcpu.l2_running;
}

/* What the CPU does at an exit of L2. */
static void exit_by(u64 exit_code)
{
    assert_true(vcpu.l2_running);
    assert_ptr_equal(svm.vmcb, &vmcb02);
    vmcb02.control.exit_code = exit_code;
    vmcb02.control.event_inj = 0;
    vmcb02.control.clean = svm.clean;
    nested_svm_l2_exit(&vcpu, (u32)exit_code);
}

/* --- TSC ratio --- */

static void write_ratio(u64 value, bool accepted)
{
    u64 before = svm.tsc_ratio, read;

    assert_int_equal(nested_svm_write_msr(&vcpu, MSR_TSC_RATIO, value), accepted);
    assert_true(nested_svm_read_msr(&vcpu, MSR_TSC_RATIO, &read));
    assert_int_equal(read, accepted ? value : before);
    assert_int_equal(live_tsc_ratio, vcpu.l2_running ? read : TSC_RATIO_ONE);
}

static void test_tsc_ratio_msr(void **state)
{
    u64 read;

    (void)state;
    assert_true(nested_svm_read_msr(&vcpu, MSR_TSC_RATIO, &read));
    assert_int_equal(read, TSC_RATIO_ONE);
    write_ratio(TSC_RATIO_ONE / 2, true);
    for (unsigned bit = 0; bit < 64; bit++)
        write_ratio(BIT(bit), bit < 40);
    write_ratio(0, true);
    svm_features.tsc_ratio = false;
    assert_false(nested_svm_read_msr(&vcpu, MSR_TSC_RATIO, &read));
    assert_false(nested_svm_write_msr(&vcpu, MSR_TSC_RATIO, TSC_RATIO_ONE));
}

/* L1 has 1.0 whatever it writes; L2 has what L1 wrote, and its offset is not scaled. */
static void test_tsc_ratio_of_l2(void **state)
{
    const u64 ratio = 3 * TSC_RATIO_ONE + 7;

    (void)state;
    vmcb12.control.tsc_offset = 0x1234;
    write_ratio(ratio, true);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(run());
        assert_int_equal(live_tsc_ratio, ratio);
        assert_int_equal(vmcb02.control.tsc_offset, 0x1234);
        exit_by(VMEXIT_VMMCALL);
        assert_false(vcpu.l2_running);
        assert_int_equal(live_tsc_ratio, TSC_RATIO_ONE);
    }
    /* An entry that is refused. */
    vmcb12.control.asid = 0;
    vmcb12.control.clean = 0;
    assert_false(run());
    assert_int_equal(vmcb12.control.exit_code, VMEXIT_INVALID);
    assert_int_equal(live_tsc_ratio, TSC_RATIO_ONE);
    /* An L2 to which L1 leaves the MSR changes its own. */
    vmcb12.control.asid = 1;
    assert_true(run());
    write_ratio(ratio + 1, true);
    write_ratio(TSC_RATIO_ONE, true);
    write_ratio(ratio, true);
    exit_by(VMEXIT_VMMCALL);
    assert_int_equal(live_tsc_ratio, TSC_RATIO_ONE);
}

/* Nothing is written to the CPU's MSR where it is not used. */
static void test_tsc_ratio_unused(void **state)
{
    (void)state;
    live_tsc_ratio = 42;
    assert_true(run());
    exit_by(VMEXIT_VMMCALL);
    assert_int_equal(live_tsc_ratio, 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_tsc_ratio_msr, set_up),
        cmocka_unit_test_setup(test_tsc_ratio_of_l2, set_up),
        cmocka_unit_test_setup(test_tsc_ratio_unused, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
