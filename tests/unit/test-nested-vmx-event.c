/* SPDX-License-Identifier: MIT */
/*
 * NMI blocking over the transitions of nested VMX, for the three ways in which L1 may want NMIs; and the
 * faults that Umbra raises in L2. What else the file needs is played here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "nested/vmx-vmcs02.h"

static struct nested_vmx nested;
static struct vmcs02_state transitions;
static struct vcpu vcpu_of_test = {.nested = &nested};
static bool stepped;

void vmx_set_single_step(struct vcpu *vcpu, bool on)
{
    (void)vcpu;
    stepped = on;
}

void vmx_inject_exception(enum exception_vector vector, bool has_error_code, u32 error_code)
{
    assert_int_equal(vector, EXC_UD);
    assert_false(has_error_code);
    assert_int_equal(error_code, 0);
}

/* No VMCS is there in this test. */
void vmcs_access_failed(enum vmcs_field field)
{
    fail_msg("access to VMCS field %x", field);
    for (;;)
        ;
}

void l2_exit_information_read(struct l2_exit_information *information)
{
    (void)information;
    fail_msg("no exit is reflected here");
}

enum exit_action l2_reflect(struct vcpu *vcpu, const struct l2_exit_information *information)
{
    (void)vcpu;
    (void)information;
    fail_msg("no exit is reflected here");
    return EXIT_RESUME;
}

#define NMI_INJECTION (u32)(INTERRUPTION_VALID | INTERRUPTION_NMI | EXC_NMI)
#define BLOCKED       (u32) BLOCKING_BY_NMI
#define STI           (u32) BLOCKING_BY_STI
#define EXITING       (u32) PIN_NMI_EXITING
#define VIRTUAL       (u32)(PIN_NMI_EXITING | PIN_VIRTUAL_NMIS)

static const struct {
    const char *name;
    u32 pin, interruptibility, injection;
    u64 controls;         /* that announce an NMI */
    u32 entered;          /* interruptibility state of vmcs02 */
    u32 hardware, saved;  /* the same at an exit, and what vmcs12 gets */
    u32 l1, l1_after_nmi; /* NMI blocking of L1 then */
} rows[] = {
    {"none of L1's", 0, 0, 0, PRIMARY_NMI_WINDOW, 0, 0, 0, 0, BLOCKED},
    {"blocked", 0, BLOCKED, 0, PRIMARY_NMI_WINDOW, BLOCKED, BLOCKED, BLOCKED, BLOCKED, BLOCKED},
    {"blocked, then IRET", 0, BLOCKED | STI, 0, PRIMARY_NMI_WINDOW, BLOCKED | STI, 0, 0, 0, BLOCKED},
    {"an NMI injected while blocked", 0, BLOCKED, NMI_INJECTION, PRIMARY_NMI_WINDOW, 0, BLOCKED, BLOCKED,
     BLOCKED, BLOCKED},
    {"exiting", EXITING, STI, 0, PRIMARY_MONITOR_TRAP_FLAG, STI, 0, 0, 0, BLOCKED},
    {"exiting, blocked: IRET changes nothing", EXITING, BLOCKED, 0, 0, 0, 0, BLOCKED, BLOCKED, BLOCKED},
    {"exiting, vmcs02's own blocking is not L1's", EXITING, 0, 0, PRIMARY_MONITOR_TRAP_FLAG, 0, BLOCKED, 0, 0,
     BLOCKED},
    {"exiting, an NMI injected", EXITING, 0, NMI_INJECTION, 0, 0, 0, BLOCKED, BLOCKED, BLOCKED},
    {"virtual", VIRTUAL, 0, 0, PRIMARY_MONITOR_TRAP_FLAG, 0, BLOCKED, BLOCKED, 0, BLOCKED},
    {"virtual, blocked", VIRTUAL, BLOCKED, 0, PRIMARY_MONITOR_TRAP_FLAG, BLOCKED, 0, 0, 0, BLOCKED},
};

static void test_nmi_blocking(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct vmcs12 vmcs12 = {
            .pin_controls = rows[i].pin,
            .guest_interruptibility = rows[i].interruptibility,
            .entry_interruption = rows[i].injection,
        };
        l2_take_nmi_blocking(&transitions, &vmcs12);
        if (l2_nmi_controls(&transitions, &vmcs12) != rows[i].controls ||
            l2_interruptibility(&vmcs12) != rows[i].entered)
            fail_msg("entry: %s", rows[i].name);
        vmcs12.guest_interruptibility = l2_saved_interruptibility(&transitions, &vmcs12, rows[i].hardware);
        if (vmcs12.guest_interruptibility != rows[i].saved ||
            l1_nmi_blocking_after_exit(&vmcs12, false) != rows[i].l1 ||
            l1_nmi_blocking_after_exit(&vmcs12, true) != rows[i].l1_after_nmi)
            fail_msg("exit: %s", rows[i].name);
    }
}

/* When Umbra's step is over, MTF stays on if L1 wants it. */
static void test_step(void **state)
{
    (void)state;
    nested.vmcs02 = &transitions;
    nested.vmcs12.primary_controls = 0;
    l2_set_step(&vcpu_of_test, true);
    assert_true(stepped && transitions.stepping);
    l2_set_step(&vcpu_of_test, false);
    assert_false(stepped || transitions.stepping);
    nested.vmcs12.primary_controls = (u32)PRIMARY_MONITOR_TRAP_FLAG;
    l2_set_step(&vcpu_of_test, false);
    assert_true(stepped && !transitions.stepping);
}

static void test_exception(void **state)
{
    (void)state;
    nested.vmcs12.exception_bitmap = ~(1u << EXC_UD);
    assert_int_equal(l2_exception(&vcpu_of_test, EXC_UD, false, 0), EXIT_RESUME);
}

/* A waiting NMI exits before L2 does anything, unless something holds it back or comes first. */
static void test_nmi_is_first(void **state)
{
    const struct {
        const char *name;
        struct vmcs12 vmcs12;
        bool blocked, first;
    } cases[] = {
        {"exiting", {.pin_controls = EXITING}, false, true},
        {"virtual, blocked", {.pin_controls = VIRTUAL, .guest_interruptibility = BLOCKED}, false, true},
        {"in HLT", {.pin_controls = EXITING, .guest_activity = ACTIVITY_HLT}, false, true},
        {"not L1's", {.pin_controls = 0}, false, false},
        {"blocked", {.pin_controls = EXITING}, true, false},
        {"MOV SS", {.pin_controls = EXITING, .guest_interruptibility = BLOCKING_BY_MOV_SS}, false, false},
        {"after an event", {.pin_controls = EXITING, .entry_interruption = NMI_INJECTION}, false, false},
        {"after a debug trap",
         {.pin_controls = EXITING, .guest_pending_debug = PENDING_DEBUG_BS},
         false,
         false},
        {"not after a breakpoint that is not enabled",
         {.pin_controls = EXITING, .guest_pending_debug = 1},
         false,
         true},
        {"after the NMI window",
         {.pin_controls = VIRTUAL, .primary_controls = (u32)PRIMARY_NMI_WINDOW},
         false,
         false},
        {"before the NMI window, which is blocked",
         {.pin_controls = VIRTUAL,
          .primary_controls = (u32)PRIMARY_NMI_WINDOW,
          .guest_interruptibility = BLOCKED},
         false,
         true},
        {"after the timer", {.pin_controls = EXITING | (u32)PIN_PREEMPTION_TIMER}, false, false},
        {"before the timer",
         {.pin_controls = EXITING | (u32)PIN_PREEMPTION_TIMER, .guest_preemption_timer = 1},
         false,
         true},
    };

    (void)state;
    nested.vmcs02 = &transitions;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        nested.vmcs12 = cases[i].vmcs12;
        transitions.nmi_blocked = cases[i].blocked;
        if (l2_nmi_is_first(&vcpu_of_test) != cases[i].first)
            fail_msg("%s", cases[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nmi_blocking),
        cmocka_unit_test(test_step),
        cmocka_unit_test(test_exception),
        cmocka_unit_test(test_nmi_is_first),
    };
    return cmocka_run_group_tests_name("nested-vmx-event", tests, NULL, NULL);
}
