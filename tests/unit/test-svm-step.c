/* SPDX-License-Identifier: MIT */
/* The single step of svm/step.c with all its ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "arch/cpu.h"
#include "arch/msr.h"
#include "arch/x86.h"
#include "mm/guest-mem.h"
#include "mm/guest-paging.h"
#include "svm/capability.h"
#include "svm/controls.h"
#include "svm/efer.h"
#include "svm/event.h"
#include "svm/exit-name.h"
#include "svm/instruction.h"
#include "svm/npf.h"
#include "svm/step.h"
#include "tests/unit/svm-case.h"

/* After VMEXIT the clean bits are all set; what a step changes must not stay so. */
static void exit_from_step(void)
{
    vmcb.control.clean = CLEAN_KNOWN;
}

static void assert_step_gone(void)
{
    assert_int_equal(svm.unusual, 0);
    assert_int_equal(steps_done, 1);
    assert_int_equal(vmcb.control.v_intr & V_INTR_MASKING, 0);
    assert_int_equal(vmcb.control.intercept[2], svm_controls_exceptions());
    assert_int_equal(vmcb.control.intercept[3] & 1u << 1, 0);
    assert_int_equal(vmcb.control.clean & (CLEAN_INTERCEPTS | CLEAN_TPR | CLEAN_DRX), 0);
}

static void begin_step(void)
{
    svm_step_begin(&svm);
    assert_int_equal(svm.unusual, SVM_STEPPING);
    assert_true((vmcb.save.rflags & RFLAGS_TF) != 0);
    assert_true((vmcb.control.v_intr & V_INTR_MASKING) != 0);
    assert_int_equal(vmcb.control.interrupt_state & INTERRUPT_SHADOW, 0);
    assert_true((vmcb.control.intercept[2] & 1u << EXC_DB) != 0);
    assert_true((vmcb.control.intercept[3] & 1u << 1) != 0);
    assert_int_equal(vmcb.control.clean & (CLEAN_INTERCEPTS | CLEAN_TPR | CLEAN_DRX), 0);
    exit_from_step();
}

static void test_step_completes(void **state)
{
    (void)state;
    vmcb.control.interrupt_state = INTERRUPT_SHADOW;
    begin_step();
    vmcb.save.rip += 4;
    vmcb.save.dr6 = 0xffff4ff0;
    svm_step_exception(&svm, EXC_DB);
    assert_step_gone();
    assert_int_equal(vmcb.save.rflags & RFLAGS_TF, 0);
    assert_int_equal(vmcb.save.dr6, 0xffff0ff0);
    assert_int_equal(vmcb.control.interrupt_state, 0);
    assert_int_equal(vmcb.control.event_inj, 0);
}

static void test_step_of_a_stepping_guest(void **state)
{
    (void)state;
    vmcb.save.rflags |= RFLAGS_TF;
    begin_step();
    vmcb.save.rip += 4;
    vmcb.save.dr6 = 0xffff4ff0;
    svm_step_exception(&svm, EXC_DB);
    assert_step_gone();
    assert_true((vmcb.save.rflags & RFLAGS_TF) != 0);
    assert_int_equal(vmcb.save.dr6, 0xffff4ff0);
    assert_int_equal(vmcb.control.event_inj, 0x80000301);
}

static void test_step_with_branch_trap(void **state)
{
    (void)state;
    vmcb.save.rflags |= RFLAGS_TF;
    vmcb.save.dbgctl = 3;
    begin_step();
    assert_int_equal(vmcb.save.dbgctl, 1);
    vmcb.save.rip += 15;
    vmcb.save.dr6 = 0xffff4ff0;
    svm_step_exception(&svm, EXC_DB);
    assert_step_gone();
    assert_int_equal(vmcb.save.dbgctl, 3);
    assert_int_equal(vmcb.control.event_inj, 0);

    begin_step();
    vmcb.save.rip += 0x1000;
    vmcb.save.dr6 = 0xffff4ff0;
    svm_step_exception(&svm, EXC_DB);
    assert_int_equal(vmcb.control.event_inj, 0x80000301);
}

static void test_step_with_live_branch_trap(void **state)
{
    (void)state;
    svm_features.lbr_virtualization = false;
    live_debugctl = 3;
    begin_step();
    assert_int_equal(live_debugctl, 1);
    vmcb.save.dr6 = 0xffff4ff0;
    vmcb.save.rip += 2;
    svm_step_exception(&svm, EXC_DB);
    assert_step_gone();
    assert_int_equal(live_debugctl, 3);
    assert_int_equal(vmcb.save.dbgctl, 0);
}

static void test_step_hits_data_breakpoint(void **state)
{
    (void)state;
    vmcb.save.dr7 = 0x400 | 1u << 2; /* L1 */
    begin_step();
    vmcb.save.rip += 4;
    vmcb.save.dr6 = 0xffff4ff3; /* BS, B1, and B0, which is not enabled */
    svm_step_exception(&svm, EXC_DB);
    assert_step_gone();
    assert_int_equal(vmcb.save.dr6, 0xffff0ff3);
    assert_int_equal(vmcb.control.event_inj, 0x80000301);
    assert_int_equal(vmcb.save.rflags & RFLAGS_TF, 0);

    vmcb.save.dr7 = 0x400;
    vmcb.save.dr6 = 0xffff0ff0;
    vmcb.control.event_inj = 0;
    steps_done = 0;
    begin_step();
    vmcb.save.dr6 = 0xffff4ff1;
    svm_step_exception(&svm, EXC_DB);
    assert_step_gone();
    assert_int_equal(vmcb.control.event_inj, 0);
}

static void test_step_meets_instruction_breakpoint(void **state)
{
    (void)state;
    begin_step();
    vmcb.save.dr6 = 0xffff0ff1;
    svm_step_exception(&svm, EXC_DB);
    assert_step_gone();
    assert_int_equal(vmcb.save.dr6, 0xffff0ff1);
    assert_int_equal(vmcb.control.event_inj, 0x80000301);
    assert_int_equal(vmcb.save.rflags & RFLAGS_TF, 0);
}

static void test_step_raises_page_fault(void **state)
{
    (void)state;
    vmcb.control.interrupt_state = INTERRUPT_SHADOW;
    begin_step();
    vmcb.control.exit_info_1 = 6;
    vmcb.control.exit_info_2 = 0x7fff1000;
    svm_step_exception(&svm, EXC_PF);
    assert_int_equal(svm.unusual, SVM_WATCHING);
    svm_event_delivery_over(&svm);
    assert_step_gone();
    assert_int_equal(vmcb.save.cr2, 0x7fff1000);
    assert_int_equal(vmcb.control.clean & CLEAN_CR2, 0);
    assert_int_equal(vmcb.control.event_inj, 0x0000000680000b0eull);
    assert_int_equal(vmcb.save.rflags & RFLAGS_TF, 0);
    assert_int_equal(vmcb.control.interrupt_state, INTERRUPT_SHADOW);
    assert_int_equal(vmcb.save.dr6, 0xffff0ff0);
}

static void test_step_is_undone(void **state)
{
    const unsigned vectors[] = {EXC_NMI, EXC_BP, EXC_OF};

    for (unsigned i = 0; i < ARRAY_SIZE(vectors); i++) {
        svm_case_set_up(state);
        vmcb.save.rflags |= RFLAGS_TF | RFLAGS_RF;
        begin_step();
        svm_step_exception(&svm, vectors[i]);
        assert_step_gone();
        assert_int_equal(vmcb.control.event_inj, 0);
        assert_int_equal(vmcb.save.rflags & (RFLAGS_TF | RFLAGS_RF), RFLAGS_TF | RFLAGS_RF);
        assert_int_equal(vmcb.save.rip, 0x401000);
    }
    svm_step_cancel(&svm);
    assert_int_equal(steps_done, 1);
}

static void test_second_page_keeps_the_step(void **state)
{
    (void)state;
    begin_step();
    svm_step_begin(&svm);
    assert_int_equal(svm.unusual, SVM_STEPPING);
    assert_int_equal(svm.step.rflags & RFLAGS_TF, 0);
    assert_int_equal(steps_done, 0);
}

static void test_trap_after_emulation(void **state)
{
    (void)state;
    vmcb.save.dbgctl = 2;
    svm_step_emulated(&svm);
    assert_int_equal(vmcb.control.event_inj, 0);
    vmcb.save.dbgctl = 0;
    svm_step_emulated(&svm);
    assert_int_equal(vmcb.control.event_inj, 0x80000301);
    assert_int_equal(vmcb.save.dr6, 0xffff4ff0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_step_completes, svm_case_set_up),
        cmocka_unit_test_setup(test_step_of_a_stepping_guest, svm_case_set_up),
        cmocka_unit_test_setup(test_step_with_branch_trap, svm_case_set_up),
        cmocka_unit_test_setup(test_step_with_live_branch_trap, svm_case_set_up),
        cmocka_unit_test_setup(test_step_hits_data_breakpoint, svm_case_set_up),
        cmocka_unit_test_setup(test_step_meets_instruction_breakpoint, svm_case_set_up),
        cmocka_unit_test_setup(test_step_raises_page_fault, svm_case_set_up),
        cmocka_unit_test_setup(test_step_is_undone, svm_case_set_up),
        cmocka_unit_test_setup(test_second_page_keeps_the_step, svm_case_set_up),
        cmocka_unit_test_setup(test_trap_after_emulation, svm_case_set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
