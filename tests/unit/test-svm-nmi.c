/* SPDX-License-Identifier: MIT */
/* The guest's NMIs where Umbra intercepts all of them: svm/nmi.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "arch/x86.h"
#include "svm/event.h"
#include "svm/nmi.h"
#include "svm/step.h"
#include "tests/unit/svm-case.h"

#define NMI_EVENT      0x80000202u
#define INTERCEPT_IRET (1u << VMEXIT_IRET % 32)

static bool iret_intercepted(void)
{
    return (vmcb.control.intercept[VMEXIT_IRET / 32] & INTERCEPT_IRET) != 0;
}

static int two_cpus(void **state)
{
    (void)svm_case_set_up(state);
    machine.cpus = 2;
    return 0;
}

/* An NMI exit: what the handler does in the moment with GIF set, and then the exit's own part. */
static enum exit_action nmi_exit(void)
{
    svm_nmi_hook(&vcpu);
    return svm_nmi_deliver(&svm);
}

static void assert_delivered(void)
{
    assert_int_equal(vmcb.control.event_inj, NMI_EVENT);
    assert_false(vcpu.nmi_pending);
    assert_true(iret_intercepted());
    vmcb.control.event_inj = 0;
}

static void test_kick_is_not_the_guests(void **state)
{
    (void)state;
    nmi_is_kick = true;
    assert_int_equal(nmi_exit(), EXIT_RESUME);
    assert_int_equal(vmcb.control.event_inj, 0);
    assert_false(vcpu.nmi_pending);
}

static void test_one_cpu_needs_no_iret(void **state)
{
    (void)state;
    assert_int_equal(nmi_exit(), EXIT_RESUME);
    assert_int_equal(vmcb.control.event_inj, NMI_EVENT);
    assert_false(iret_intercepted());
    vmcb.control.event_inj = 0;
    assert_int_equal(nmi_exit(), EXIT_RESUME);
    assert_int_equal(vmcb.control.event_inj, NMI_EVENT);
}

static void test_second_waits_for_the_end_of_iret(void **state)
{
    (void)state;
    assert_int_equal(nmi_exit(), EXIT_RESUME);
    assert_delivered();
    /* In the handler two more come, which are one. */
    vmcb.save.rip = 0x1000;
    assert_int_equal(nmi_exit(), EXIT_RESUME);
    assert_int_equal(nmi_exit(), EXIT_RESUME);
    assert_int_equal(vmcb.control.event_inj, 0);
    assert_true(vcpu.nmi_pending);
    /* IRET begins: it is executed alone. */
    vmcb.save.rip = 0x1010;
    assert_int_equal(svm_nmi_iret(&svm), EXIT_STEP);
    assert_false(iret_intercepted());
    assert_int_equal(vmcb.control.event_inj, 0);
    svm_step_begin(&svm);
    vmcb.save.rip = 0x401000;
    vmcb.save.rflags = RFLAGS_RESERVED1;
    vmcb.save.dr6 |= 0x4000;
    svm_step_exception(&svm, EXC_DB);
    assert_delivered();
    assert_int_equal(vmcb.save.rflags, RFLAGS_RESERVED1);
    /* The second handler's IRET leaves nothing. */
    vmcb.save.rip = 0x1010;
    assert_int_equal(svm_nmi_iret(&svm), EXIT_RESUME);
    vmcb.save.rip = 0x401000;
    assert_int_equal(nmi_exit(), EXIT_RESUME);
    assert_delivered();
}

static void test_iret_that_was_interrupted_is_stepped_again(void **state)
{
    (void)state;
    assert_int_equal(nmi_exit(), EXIT_RESUME);
    assert_delivered();
    vmcb.save.rip = 0x1010;
    assert_int_equal(svm_nmi_iret(&svm), EXIT_RESUME);
    /* An NMI between the exit and the instruction. */
    assert_int_equal(nmi_exit(), EXIT_STEP);
    assert_int_equal(vmcb.control.event_inj, 0);
    /* The IRET faults: the handler of that fault has left it behind. */
    vmcb.save.rip = 0x2000;
    assert_int_equal(svm_nmi_deliver(&svm), EXIT_RESUME);
    assert_delivered();
}

static void test_iret_keeps_the_trap_flag_that_it_loads(void **state)
{
    (void)state;
    (void)nmi_exit();
    assert_delivered();
    (void)nmi_exit();
    vmcb.save.rip = 0x1010;
    assert_int_equal(svm_nmi_iret(&svm), EXIT_STEP);
    svm_step_begin(&svm);
    vmcb.save.rip = 0x401000;
    vmcb.save.rflags = RFLAGS_RESERVED1 | RFLAGS_TF;
    vmcb.save.dr6 |= 0x4000;
    svm_step_exception(&svm, EXC_DB);
    assert_int_equal(vmcb.save.rflags, RFLAGS_RESERVED1 | RFLAGS_TF);
    assert_delivered();
}

static void test_nmi_waits_for_another_event(void **state)
{
    (void)state;
    vmcb.control.event_inj = 0x80000b0e;
    assert_int_equal(nmi_exit(), EXIT_RESUME);
    assert_int_equal(vmcb.control.event_inj, 0x80000b0e);
    assert_true(vcpu.nmi_pending);
    assert_int_equal(own_nmis, 1);
    vmcb.control.event_inj = 0;
    vmcb.control.interrupt_state = INTERRUPT_SHADOW;
    assert_int_equal(nmi_exit(), EXIT_RESUME);
    assert_delivered();
    assert_int_equal(vmcb.control.interrupt_state, 0);
    assert_int_equal(own_nmis, 1);
}

static void test_gif_holds_it(void **state)
{
    (void)state;
    svm.events_held = true;
    assert_int_equal(nmi_exit(), EXIT_RESUME);
    assert_true(vcpu.nmi_pending);
    svm.events_held = false;
    assert_int_equal(svm_nmi_deliver(&svm), EXIT_RESUME);
    assert_delivered();
}

static void test_init_ends_the_blocking(void **state)
{
    (void)state;
    (void)nmi_exit();
    assert_delivered();
    svm_nmi_reset(&svm);
    assert_false(iret_intercepted());
    (void)nmi_exit();
    assert_delivered();
}

/* What an instruction stores in the page of the local APIC. */
static void test_stored_values(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        bool stores;
        u32 value;
    } cases[] = {
        {"\x89\x0f", 2, true, 0x22222222},                             /* mov %ecx, (%rdi) */
        {"\x44\x89\x87\x00\x03\x00\x00", 7, true, 0x88888888},         /* mov %r8d, 0x300(%rdi) */
        {"\xc7\x07\x78\x56\x34\x12", 6, true, 0x12345678},             /* movl $0x12345678, (%rdi) */
        {"\xa3\x00\x03\xe0\xfe\x00\x00\x00\x00", 9, true, 0x11111111}, /* movabs %eax, 0xfee00300 */
        {"\x66\x89\x0f", 3, false, 0},                                 /* mov %cx, (%rdi) */
        {"\x48\x89\x0f", 3, false, 0},                                 /* mov %rcx, (%rdi) */
        {"\x88\x0f", 2, false, 0},                                     /* mov %cl, (%rdi) */
        {"\x87\x0f", 2, false, 0},                                     /* xchg %ecx, (%rdi) */
        {"\x09\x0f", 2, false, 0},                                     /* or %ecx, (%rdi) */
        {"\x0f\x11\x07", 3, false, 0},                                 /* movups %xmm0, (%rdi) */
        {"\x89\xcf", 2, false, 0},                                     /* mov %ecx, %edi */
        {"\xab", 1, false, 0},                                         /* stos %eax, (%rdi) */
    };
    u64 gpr[GPR_COUNT] = {0};

    (void)state;
    gpr[GPR_RAX] = 0xffffffff11111111;
    gpr[GPR_RCX] = 0xffffffff22222222;
    gpr[GPR_RAX + 8] = 0xffffffff88888888;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct instruction decoded;
        u32 value = 0;
        assert_int_equal(
            decode_instruction((const u8 *)cases[i].bytes, cases[i].size, DECODE_MODE_64, &decoded),
            DECODE_OK);
        assert_int_equal(svm_instruction_stores(&decoded, gpr, &value), cases[i].stores);
        if (cases[i].stores)
            assert_int_equal(value, cases[i].value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_kick_is_not_the_guests, two_cpus),
        cmocka_unit_test_setup(test_one_cpu_needs_no_iret, svm_case_set_up),
        cmocka_unit_test_setup(test_second_waits_for_the_end_of_iret, two_cpus),
        cmocka_unit_test_setup(test_iret_that_was_interrupted_is_stepped_again, two_cpus),
        cmocka_unit_test_setup(test_iret_keeps_the_trap_flag_that_it_loads, two_cpus),
        cmocka_unit_test_setup(test_nmi_waits_for_another_event, two_cpus),
        cmocka_unit_test_setup(test_gif_holds_it, two_cpus),
        cmocka_unit_test_setup(test_init_ends_the_blocking, two_cpus),
        cmocka_unit_test(test_stored_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
