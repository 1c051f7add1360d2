/* SPDX-License-Identifier: MIT */
/*
 * Exits of L2 in the middle of an event's delivery, from svm_l2_exit() to what L1 finds in its VMCB: the
 * second exception of a double fault or shutdown, and deliveries through memory that only Umbra has. The test
 * plays VMEXIT. What nested/ and svm/ call beyond these doubles has no part in it: a call would crash.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "arch/print.h"
#include "arch/reset.h"
#include "nested/svm-nested.h"
#include "svm/capability.h"
#include "svm/controls.h"
#include "svm/event.h"
#include "svm/instruction.h"
#include "svm/nmi.h"
#include "svm/npf.h"
#include "svm/startup.h"
#include "svm/step.h"
#include "vcpu/cpuid.h"
#include "vcpu/nested.h"

enum { ERROR_CODE = 0x5a, FAULT_ADDRESS = 0x7000, L1_RAX = 0x1111, L2_RAX = 0x2222 };

struct machine machine;
struct svm_features svm_features;
const char svm_enter_guest[1], svm_enter_l2[1];

static struct vmcb vmcb01, vmcb02, vmcb12;
static struct nested_svm nested;
static struct svm_vcpu svm;
static struct svm_frame frame;
static struct vcpu vcpu;
static bool page_lent; /* one of Umbra's, for one step */
static u8 obeyed;      /* TLB_CONTROL */
static bool l1_denies; /* the nested page fault is L1's */
static jmp_buf reset_jump;

/* --- doubles --- */

void machine_reset(void)
{
    longjmp(reset_jump, 1);
}

void violation_step_done(struct vcpu *of)
{
    assert_ptr_equal(of, &vcpu);
    page_lent = false;
}

enum exit_action violation_exit(struct vcpu *of, const struct violation *violation,
                                const struct exit_context *context)
{
    (void)context;
    assert_ptr_equal(of, &vcpu);
    assert_int_equal(violation->gpa.raw, FAULT_ADDRESS);
    page_lent = true;
    return EXIT_STEP;
}

bool nested_svm_npf_filled(struct nested_svm *of)
{
    assert_ptr_equal(of, &nested);
    return false;
}

/* The shadow finds Umbra's memory behind L1's tables, unless those deny first. */
enum exit_action nested_svm_npf(struct vcpu *of)
{
    const struct violation violation = {.gpa = gpa(FAULT_ADDRESS)};

    if (!l1_denies)
        return svm_violation(&svm, &violation);
    nested_svm_reflect(of, VMEXIT_NPF, NPF_FINAL, FAULT_ADDRESS);
    return EXIT_RESUME;
}

bool svm_startup_write_page(struct svm_vcpu *of, const struct violation *violation, enum exit_action *action)
{
    (void)of;
    (void)violation;
    (void)action;
    return false;
}

bool svm_nmi_at_iret(const struct svm_vcpu *of)
{
    (void)of;
    return false;
}

struct exit_context svm_context(const struct svm_vcpu *of)
{
    (void)of;
    return (struct exit_context){0};
}

bool rdmsr_safe(u32 msr, u64 *value)
{
    (void)msr;
    *value = 0;
    return true;
}

void svm_startup_step_done(struct svm_vcpu *of)
{
    (void)of;
}

void nested_svm_set_l2_gif(struct svm_vcpu *of)
{
    (void)of;
}

void nested_svm_obey_tlb_control(struct nested_svm *of, u8 tlb_control)
{
    assert_ptr_equal(of, &nested);
    obeyed = tlb_control;
}

void nested_svm_translate(struct vcpu *of)
{
    assert_true(of->l2_running);
}

enum exit_action cpuid_exit(struct vcpu *of, u64 guest_cr4)
{
    (void)guest_cr4;
    of->gpr[GPR_RAX] = L2_RAX;
    return EXIT_SKIP;
}

/* The instruction at RIP of an L2 that VMRUN refuses: MOV to CR4. */
bool svm_fetch_instruction(struct svm_vcpu *of, struct instruction *decoded)
{
    (void)of;
    *decoded = (struct instruction){0};
    return true;
}

bool svm_instruction_moves_to_paging_cr(const struct instruction *decoded)
{
    (void)decoded;
    return true;
}

/* The report of a shutdown that is nobody's but the machine's. */
void log_quiet(bool quiet)
{
    (void)quiet;
}

void log_line(enum log_level level, const char *fmt, ...)
{
    (void)level;
    (void)fmt;
}

void svm_dump(struct vcpu *of)
{
    (void)of;
}

void vcpu_report(const struct vcpu *of)
{
    (void)of;
}

/* --- L1, L2 and the CPU --- */

static const struct nested_hooks hooks = {.svm_l2_exit = nested_svm_l2_exit};
const struct nested_hooks *nested_hooks = &hooks;

static u64 event(u64 type, unsigned vector)
{
    return EVENT_VALID | type | vector;
}

static u64 fault(unsigned vector)
{
    return event(EVENT_TYPE_EXCEPTION, vector) | EVENT_ERROR_VALID;
}

static void l1_intercepts(u64 code)
{
    nested.slot->control.intercept[code / 32] |= 1u << code % 32;
}

static int set_up(void **state)
{
    (void)state;
    memset(&vmcb01, 0, sizeof(vmcb01));
    memset(&vmcb02, 0, sizeof(vmcb02));
    memset(&vmcb12, 0, sizeof(vmcb12));
    memset(&nested, 0, sizeof(nested));
    svm = (struct svm_vcpu){.vcpu = &vcpu,
                            .vmcb = &vmcb02,
                            .vmcb01 = &vmcb01,
                            .frame = &frame,
                            .clean = CLEAN_KNOWN,
                            .tsc_ratio = TSC_RATIO_ONE,
                            .l1_svme = true};
    vcpu = (struct vcpu){.vendor = &svm, .nested = &nested, .l2_running = true};
    svm_features = (struct svm_features){.clean_bits = true, .lbr_virtualization = true};
    nested.slot = &nested.slots[0];
    nested.slot->vmcb02 = &vmcb02;
    nested.slot->vmcb12 = &vmcb12;
    vmcb01.save.rax = L1_RAX;
    vmcb02.save.rax = L2_RAX;
    vmcb02.save.cr0 = CR0_PE | CR0_PG;
    page_lent = l1_denies = false;
    obeyed = TLB_CONTROL_NOTHING;
    return 0;
}

/* True: the machine was reset. */
static bool l2_exits(u64 code, u64 in_flight, u64 info_1, u64 info_2)
{
    vmcb02.control.exit_code = code;
    vmcb02.control.exit_int_info = in_flight;
    vmcb02.control.exit_info_1 = info_1;
    vmcb02.control.exit_info_2 = info_2;
    if (setjmp(reset_jump) != 0)
        return true;
    svm_l2_exit(&vcpu);
    return false;
}

/* An exception that L1 does not intercept, found since Umbra injects the first or steps over something. */
static bool second_exception(unsigned vector, u64 in_flight)
{
    return l2_exits(VMEXIT_EXCP0 + vector, in_flight, ERROR_CODE, FAULT_ADDRESS);
}

static void assert_l1_sees(u64 code, u64 info_1, u64 info_2, u64 in_flight)
{
    assert_false(vcpu.l2_running);
    assert_ptr_equal(svm.vmcb, &vmcb01);
    assert_int_equal(frame.next, (uintptr_t)svm_enter_guest);
    assert_int_equal(vmcb12.control.exit_code, code);
    assert_int_equal(vmcb12.control.exit_info_1, info_1);
    assert_int_equal(vmcb12.control.exit_info_2, info_2);
    assert_int_equal(vmcb12.control.exit_int_info, in_flight);
    assert_int_equal(vmcb12.control.event_inj, 0);
    assert_int_equal(vmcb12.save.rax, L2_RAX);
    assert_int_equal(vmcb01.save.rax, L1_RAX);
    assert_int_equal(vmcb01.control.event_inj, 0);
    assert_int_equal(svm.unusual, 0);
    assert_false(page_lent);
}

static void assert_l2_gets(u64 injected)
{
    assert_true(vcpu.l2_running);
    assert_ptr_equal(svm.vmcb, &vmcb02);
    assert_int_equal(vmcb02.control.event_inj, injected);
    assert_int_equal(vmcb02.save.rax, L2_RAX);
}

/* --- two exceptions --- */

static void test_exception_in_double_fault_is_a_shutdown_of_l2(void **state)
{
    static const unsigned vectors[] = {EXC_DE, EXC_TS, EXC_NP, EXC_SS, EXC_GP, EXC_PF, EXC_CP};

    for (unsigned i = 0; i < ARRAY_SIZE(vectors); i++) {
        set_up(state);
        l1_intercepts(VMEXIT_SHUTDOWN);
        svm_event_inject(&svm, fault(EXC_DF));
        assert_int_equal(svm.unusual, SVM_WATCHING);
        assert_false(second_exception(vectors[i], fault(EXC_DF)));
        assert_l1_sees(VMEXIT_SHUTDOWN, 0, 0, fault(EXC_DF));
    }
}

static void test_exception_in_double_fault_ends_the_machine_if_l1_does_not_care(void **state)
{
    (void)state;
    l1_intercepts(VMEXIT_EXCP0 + EXC_DF);
    svm_event_inject(&svm, fault(EXC_DF));
    assert_true(second_exception(EXC_GP, fault(EXC_DF)));
    assert_true(vcpu.l2_running);
}

/* It comes before what the two would combine to, APM vol. 2 15.12. */
static void test_exception_that_l1_intercepts_is_not_combined(void **state)
{
    (void)state;
    l1_intercepts(VMEXIT_SHUTDOWN);
    l1_intercepts(VMEXIT_EXCP0 + EXC_PF);
    svm_event_inject(&svm, fault(EXC_DF));
    assert_false(second_exception(EXC_PF, fault(EXC_DF)));
    assert_l1_sees(VMEXIT_EXCP0 + EXC_PF, ERROR_CODE, FAULT_ADDRESS, fault(EXC_DF));
}

static void test_benign_exception_in_double_fault_is_delivered(void **state)
{
    (void)state;
    l1_intercepts(VMEXIT_SHUTDOWN);
    svm_step_begin(&svm);
    assert_false(second_exception(EXC_AC, fault(EXC_DF)));
    assert_l2_gets(fault(EXC_AC) | (u64)ERROR_CODE << EVENT_ERROR_SHIFT);
    assert_int_equal(svm.unusual, 0);
}

static void test_double_fault_is_l1s_if_it_asked(void **state)
{
    for (unsigned asked = 0; asked < 2; asked++) {
        set_up(state);
        /* The shutdown's intercept has nothing to do with it. */
        l1_intercepts(asked != 0 ? VMEXIT_EXCP0 + EXC_DF : VMEXIT_SHUTDOWN);
        svm_event_inject(&svm, fault(EXC_PF));
        assert_false(second_exception(EXC_GP, fault(EXC_PF)));
        if (asked != 0)
            assert_l1_sees(VMEXIT_EXCP0 + EXC_DF, 0, 0, fault(EXC_PF));
        else
            assert_l2_gets(fault(EXC_DF));
    }
}

/* What is in flight is no exception: whatever its vector, nothing combines. */
static void test_fault_in_an_interrupt_is_just_that(void **state)
{
    (void)state;
    l1_intercepts(VMEXIT_SHUTDOWN);
    l1_intercepts(VMEXIT_EXCP0 + EXC_DF);
    svm_step_begin(&svm);
    assert_false(second_exception(EXC_GP, event(EVENT_TYPE_INTR, 0x80)));
    assert_l2_gets(fault(EXC_GP) | (u64)ERROR_CODE << EVENT_ERROR_SHIFT);
}

/* --- deliveries through Umbra's memory --- */

static void test_delivery_through_umbras_memory_is_a_shutdown_of_l2(void **state)
{
    const u64 events[] = {fault(EXC_PF), fault(EXC_DF), event(EVENT_TYPE_INTR, 0x30),
                          event(EVENT_TYPE_NMI, EXC_NMI), event(EVENT_TYPE_SOFTWARE, 0x80)};

    for (unsigned i = 0; i < ARRAY_SIZE(events); i++) {
        for (unsigned stepping = 0; stepping < 2; stepping++) {
            set_up(state);
            l1_intercepts(VMEXIT_SHUTDOWN);
            if (stepping != 0)
                svm_step_begin(&svm);
            assert_false(l2_exits(VMEXIT_NPF, events[i], NPF_FINAL, FAULT_ADDRESS));
            assert_l1_sees(VMEXIT_SHUTDOWN, 0, 0, events[i]);
        }
    }
}

static void test_delivery_through_umbras_memory_ends_the_machine_if_l1_does_not_care(void **state)
{
    (void)state;
    assert_true(l2_exits(VMEXIT_NPF, fault(EXC_PF), NPF_FINAL, FAULT_ADDRESS));
    assert_false(page_lent);
}

static void test_access_to_umbras_memory_is_stepped(void **state)
{
    (void)state;
    l1_intercepts(VMEXIT_SHUTDOWN);
    assert_false(l2_exits(VMEXIT_NPF, 0, NPF_FINAL, FAULT_ADDRESS));
    assert_l2_gets(0);
    assert_int_equal(svm.unusual, SVM_STEPPING);
    assert_true(page_lent);
}

static void test_delivery_that_l1s_own_tables_stop_is_l1s_fault(void **state)
{
    (void)state;
    l1_intercepts(VMEXIT_SHUTDOWN);
    l1_denies = true;
    assert_false(l2_exits(VMEXIT_NPF, fault(EXC_PF), NPF_FINAL, FAULT_ADDRESS));
    assert_l1_sees(VMEXIT_NPF, NPF_FINAL, FAULT_ADDRESS, fault(EXC_PF));
}

/* --- instructions that Umbra executes, or refuses --- */

enum { RIP = 0x401000, NEXT_RIP = RIP + 2, DR6_BS = BIT(14) };

static void l2_is_at_an_instruction(u64 rflags)
{
    svm_features.nrip_save = svm_features.decode_assists = true;
    vmcb02.save.rip = RIP;
    vmcb02.save.rflags = RFLAGS_RESERVED1 | rflags;
    vmcb02.control.n_rip = NEXT_RIP;
    vmcb02.control.bytes_fetched = 5;
}

static void test_trap_after_an_instruction_is_l1s_if_it_asked(void **state)
{
    const u64 trap = event(EVENT_TYPE_EXCEPTION, EXC_DB);

    for (unsigned asked = 0; asked < 2; asked++) {
        set_up(state);
        l2_is_at_an_instruction(RFLAGS_TF);
        if (asked != 0)
            l1_intercepts(VMEXIT_EXCP0 + EXC_DB);
        assert_false(l2_exits(VMEXIT_CPUID, 0, 0, 0));
        if (asked == 0) {
            assert_l2_gets(trap);
            continue;
        }
        assert_l1_sees(VMEXIT_EXCP0 + EXC_DB, 0, 0, 0);
        assert_int_equal(vmcb12.save.rip, NEXT_RIP);
        assert_int_equal(vmcb12.save.dr6 & DR6_BS, DR6_BS);
        assert_int_equal(vmcb12.control.n_rip, 0);
    }
}

static void test_trap_at_the_end_of_a_step_is_l1s_if_it_asked(void **state)
{
    (void)state;
    l2_is_at_an_instruction(RFLAGS_TF);
    l1_intercepts(VMEXIT_EXCP0 + EXC_DB);
    svm_step_begin(&svm);
    vmcb02.save.dr6 |= DR6_BS;
    assert_false(l2_exits(VMEXIT_EXCP0 + EXC_DB, 0, 0, 0));
    assert_l1_sees(VMEXIT_EXCP0 + EXC_DB, 0, 0, 0);
    assert_int_equal(vmcb12.save.dr6 & DR6_BS, DR6_BS);
    assert_int_equal(vmcb12.save.rflags & RFLAGS_TF, RFLAGS_TF);
}

/* What L1 itself injects it does not intercept. */
static void test_trap_that_l1_injected_is_delivered(void **state)
{
    const u64 trap = event(EVENT_TYPE_EXCEPTION, EXC_DB);

    (void)state;
    l2_is_at_an_instruction(0);
    l1_intercepts(VMEXIT_EXCP0 + EXC_DB);
    assert_false(l2_exits(VMEXIT_CPUID, trap, 0, 0));
    assert_l2_gets(trap);
}

static void test_exception_of_umbras_has_no_next_rip(void **state)
{
    (void)state;
    l2_is_at_an_instruction(0);
    l1_intercepts(VMEXIT_EXCP0 + EXC_UD);
    assert_false(l2_exits(VMEXIT_VMMCALL, 0, 0, 0));
    assert_l1_sees(VMEXIT_EXCP0 + EXC_UD, 0, 0, 0);
    assert_int_equal(vmcb12.save.rip, RIP);
    assert_int_equal(vmcb12.control.n_rip, 0);
    assert_int_equal(vmcb12.control.bytes_fetched, 0);
    /* One that the CPU reports has it. */
    set_up(state);
    l2_is_at_an_instruction(0);
    l1_intercepts(VMEXIT_CPUID);
    assert_false(l2_exits(VMEXIT_CPUID, 0, 0, 0));
    assert_int_equal(vmcb12.control.n_rip, NEXT_RIP);
}

/* A CPU that goes on refusing an L2 whose RIP is at a MOV to CR4: not for ever. */
static void test_refusal_by_the_cpu_reaches_l1(void **state)
{
    (void)state;
    assert_false(l2_exits(VMEXIT_INVALID, 0, 0, 0));
    assert_true(vcpu.l2_running);
    assert_int_equal(vmcb02.control.event_inj & ~BITS(63, EVENT_ERROR_SHIFT), fault(EXC_GP));
    assert_false(l2_exits(VMEXIT_INVALID, 0, 0, 0));
    assert_false(vcpu.l2_running);
    assert_int_equal(vmcb12.control.exit_code, VMEXIT_INVALID);
    assert_int_equal(vmcb12.save.rax, 0);
    assert_int_equal(svm.unusual, 0);
    /* What that VMRUN was to flush is flushed with the next. */
    assert_int_equal(vmcb01.control.tlb_control, TLB_CONTROL_FLUSH_ALL);
    assert_int_equal(obeyed, TLB_CONTROL_FLUSH_ALL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_exception_in_double_fault_is_a_shutdown_of_l2, set_up),
        cmocka_unit_test_setup(test_exception_in_double_fault_ends_the_machine_if_l1_does_not_care, set_up),
        cmocka_unit_test_setup(test_exception_that_l1_intercepts_is_not_combined, set_up),
        cmocka_unit_test_setup(test_benign_exception_in_double_fault_is_delivered, set_up),
        cmocka_unit_test_setup(test_double_fault_is_l1s_if_it_asked, set_up),
        cmocka_unit_test_setup(test_fault_in_an_interrupt_is_just_that, set_up),
        cmocka_unit_test_setup(test_delivery_through_umbras_memory_is_a_shutdown_of_l2, set_up),
        cmocka_unit_test_setup(test_delivery_through_umbras_memory_ends_the_machine_if_l1_does_not_care,
                               set_up),
        cmocka_unit_test_setup(test_access_to_umbras_memory_is_stepped, set_up),
        cmocka_unit_test_setup(test_delivery_that_l1s_own_tables_stop_is_l1s_fault, set_up),
        cmocka_unit_test_setup(test_trap_after_an_instruction_is_l1s_if_it_asked, set_up),
        cmocka_unit_test_setup(test_trap_at_the_end_of_a_step_is_l1s_if_it_asked, set_up),
        cmocka_unit_test_setup(test_trap_that_l1_injected_is_delivered, set_up),
        cmocka_unit_test_setup(test_exception_of_umbras_has_no_next_rip, set_up),
        cmocka_unit_test_setup(test_refusal_by_the_cpu_reaches_l1, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
