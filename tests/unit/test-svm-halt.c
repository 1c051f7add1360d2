/* SPDX-License-Identifier: MIT */
/* HLT of a guest with several CPUs: svm/halt.c, with a CPU whose halted guest leaves as the test says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "arch/layout.h"
#include "arch/print.h"
#include "arch/x86.h"
#include "mm/memmap.h"
#include "mm/phys.h"
#include "svm/capability.h"
#include "svm/halt.h"
#include "svm/nmi.h"
#include "tests/unit/svm-case.h"

enum { LEAVES_MAX = 8, HLT_END = 0x401001, REGION = 0x3f200000 };
#define NMI_EVENT 0x80000202u
#define DB_EVENT  0x80000301u
#define MC_EVENT  0x80000312u
#define DR6_BS    BIT(14)

u64 direct_map_base;
struct mem_range umbra_region;
const char svm_halt_code[2];

static struct vmcb halt __attribute__((aligned(4096)));
static u64 leaves[LEAVES_MAX]; /* EXITCODE of each VMRUN, in this order */
static unsigned leave_count, runs, inits;
static bool is_init; /* what svm_take_events() finds is an INIT, and no NMI */

/* --- doubles --- */

static void expect_leaves(const u64 *codes, unsigned count)
{
    memcpy(leaves, codes, count * sizeof(codes[0]));
    leave_count = count;
}
#define LEAVES(...)                                                                                          \
    expect_leaves((const u64[]){__VA_ARGS__}, sizeof((const u64[]){__VA_ARGS__}) / sizeof(u64))

void svm_vmrun(u64 address)
{
    assert_int_equal(address, svm.host_vmcb_frame.raw);
    assert_true(runs < leave_count);
    assert_int_equal(halt.save.rip, 0);
    halt.control.exit_code = leaves[runs++];
    halt.save.rip = 1;
}

void svm_take_events(struct svm_vcpu *of)
{
    if (is_init)
        of->init_pending = true;
    else
        svm_nmi_hook(of->vcpu);
}

enum exit_action svm_deliver_held(struct svm_vcpu *of)
{
    if (of->init_pending) {
        of->init_pending = false;
        inits++;
    }
    return svm_nmi_deliver(of);
}

void svm_load_start(struct svm_vcpu *of, const struct start_state *start)
{
    assert_ptr_equal(of->vmcb, &halt);
    assert_int_equal(start->mode, START_REAL);
    assert_int_equal(start->rip, 0);
    of->vmcb->save.cs.base = start->cs_base;
    of->vmcb->control.tlb_control = TLB_CONTROL_FLUSH_ALL;
}

static jmp_buf fatal_jump;

void fatal(const char *format, ...)
{
    (void)format;
    longjmp(fatal_jump, 1);
}

/* --- tests --- */

static int two_cpus(void **state)
{
    (void)svm_case_set_up(state);
    machine.cpus = 2;
    memset(&halt, 0, sizeof(halt));
    svm.vmcb01 = &vmcb;
    svm.host_vmcb_frame = hpa((uintptr_t)&halt);
    runs = leave_count = inits = 0;
    is_init = false;
    set_code("\xf4", 1);
    vmcb.control.interrupt_state = INTERRUPT_SHADOW;
    return 0;
}

static void assert_is_awake(enum exit_action action, u64 event)
{
    assert_int_equal(action, EXIT_RESUME);
    assert_int_equal(runs, leave_count);
    assert_int_equal(vmcb.save.rip, HLT_END);
    assert_int_equal(vmcb.control.interrupt_state, 0);
    assert_int_equal(vmcb.control.event_inj, event);
}

static void test_interrupt_wakes(void **state)
{
    (void)state;
    LEAVES(VMEXIT_INTR);
    vmcb.save.cr4 = CR4_MCE | CR4_PAE;
    assert_is_awake(svm_halt(&svm), 0);
    assert_int_equal(halt.save.rflags, RFLAGS_RESERVED1 | RFLAGS_IF);
    assert_int_equal(halt.save.cr4, CR4_MCE);
}

static void test_interrupts_wait_as_in_the_guest(void **state)
{
    (void)state;
    LEAVES(VMEXIT_VMMCALL);
    vmcb.save.rflags = RFLAGS_RESERVED1;
    assert_is_awake(svm_halt(&svm), 0);
    assert_int_equal(halt.save.rflags, RFLAGS_RESERVED1);
    assert_int_equal(halt.save.cr4, 0);
}

static void test_shoot_downs_wake_nobody(void **state)
{
    (void)state;
    LEAVES(VMEXIT_NMI, VMEXIT_NMI, VMEXIT_NMI, VMEXIT_INTR);
    nmi_is_kick = true;
    assert_is_awake(svm_halt(&svm), 0);
}

static void test_nmi_wakes(void **state)
{
    (void)state;
    LEAVES(VMEXIT_NMI);
    assert_is_awake(svm_halt(&svm), NMI_EVENT);
    assert_true(svm.nmi_blocked);
}

static void test_nmi_that_waited_already_wakes(void **state)
{
    (void)state;
    vcpu.nmi_pending = true;
    assert_is_awake(svm_halt(&svm), NMI_EVENT);
}

static void test_blocked_nmi_wakes_nobody(void **state)
{
    (void)state;
    LEAVES(VMEXIT_NMI, VMEXIT_NMI, VMEXIT_INTR);
    svm.nmi_blocked = true;
    assert_is_awake(svm_halt(&svm), 0);
    assert_true(vcpu.nmi_pending);
}

/* The IRET that was waited for is behind it, even if the same one follows. */
static void test_nmi_comes_before_an_iret_that_follows(void **state)
{
    (void)state;
    LEAVES(VMEXIT_NMI);
    svm.nmi_blocked = svm.iret_begun = true;
    svm.iret_rip = HLT_END;
    assert_is_awake(svm_halt(&svm), NMI_EVENT);
}

static void test_init_wakes(void **state)
{
    (void)state;
    LEAVES(VMEXIT_INIT);
    is_init = true;
    assert_is_awake(svm_halt(&svm), 0);
    assert_int_equal(inits, 1);
}

/* Nothing but a machine check ends a HLT with GIF = 0; what came meanwhile goes on waiting. */
static void test_gif_holds_all_back(void **state)
{
    (void)state;
    LEAVES(VMEXIT_NMI, VMEXIT_NMI, VMEXIT_EXCP0 + EXC_MC);
    svm.events_held = true;
    assert_int_equal(vmcb.save.rflags & RFLAGS_IF, RFLAGS_IF);
    svm.init_pending = true;
    (void)svm_halt(&svm);
    assert_int_equal(halt.save.rflags, RFLAGS_RESERVED1);
    assert_int_equal(runs, 3);
    assert_int_equal(vmcb.control.event_inj, MC_EVENT);
    assert_true(vcpu.nmi_pending);
}

static void test_single_step_does_not_halt(void **state)
{
    (void)state;
    vmcb.save.rflags |= RFLAGS_TF;
    assert_is_awake(svm_halt(&svm), DB_EVENT);
    assert_int_equal(vmcb.save.dr6 & DR6_BS, DR6_BS);
}

static void test_machine_check_is_the_guests(void **state)
{
    (void)state;
    LEAVES(VMEXIT_NMI, VMEXIT_EXCP0 + EXC_MC);
    nmi_is_kick = true;
    assert_is_awake(svm_halt(&svm), MC_EVENT);
}

static void test_shutdown_is_the_guests(void **state)
{
    (void)state;
    LEAVES(VMEXIT_SHUTDOWN);
    if (setjmp(shutdown_jump) == 0) {
        (void)svm_halt(&svm);
        fail_msg("it goes on");
    }
}

static void test_any_other_exit_is_fatal(void **state)
{
    (void)state;
    LEAVES(VMEXIT_INVALID);
    if (setjmp(fatal_jump) == 0) {
        (void)svm_halt(&svm);
        fail_msg("it goes on");
    }
}

static void test_end_of_the_instruction(void **state)
{
    (void)state;
    LEAVES(VMEXIT_INTR, VMEXIT_INTR, VMEXIT_INTR);
    /* By the CPU. */
    svm_features.nrip_save = true;
    vmcb.control.n_rip = 0x401005;
    (void)svm_halt(&svm);
    assert_int_equal(vmcb.save.rip, 0x401005);
    /* By the bytes: with REP, and without. */
    svm_features.nrip_save = false;
    set_code("\xf3\xf4", 2);
    vmcb.save.rip = 0x402000;
    (void)svm_halt(&svm);
    assert_int_equal(vmcb.save.rip, 0x402002);
    set_code("\xf4\xf4", 2);
    vmcb.save.rip = 0x403000;
    (void)svm_halt(&svm);
    assert_int_equal(vmcb.save.rip, 0x403001);
}

/* Another CPU has written there since: what is there now is executed. */
static void test_code_that_is_no_hlt_any_more(void **state)
{
    (void)state;
    set_code("\x0f\xf4\xc0", 3);
    assert_int_equal(svm_halt(&svm), EXIT_RESUME);
    assert_int_equal(vmcb.save.rip, HLT_END - 1);
    assert_int_equal(vmcb.control.interrupt_state, INTERRUPT_SHADOW);
}

static void test_vmcb_of_the_halted_guest(void **state)
{
    (void)state;
    umbra_region = (struct mem_range){REGION, REGION + MIB(4), MEM_RESERVED};
    svm_halt_prepare(&svm);
    assert_ptr_equal(svm.vmcb, &vmcb);
    assert_int_equal(halt.save.cs.base, REGION + ((uintptr_t)svm_halt_code - LAYOUT_IMAGE));
    assert_int_equal(halt.control.intercept[VMCB_INTERCEPT_EXCEPTIONS], ~0u);
    static const unsigned asked_for[] = {VMEXIT_INTR,  VMEXIT_NMI,     VMEXIT_INIT,
                                         VMEXIT_VMRUN, VMEXIT_VMMCALL, VMEXIT_SHUTDOWN};
    for (size_t i = 0; i < sizeof(asked_for) / sizeof(asked_for[0]); i++)
        assert_true((halt.control.intercept[asked_for[i] / 32] >> asked_for[i] % 32 & 1) != 0);
    assert_false((halt.control.intercept[VMEXIT_HLT / 32] >> VMEXIT_HLT % 32 & 1) != 0);
    assert_int_equal(halt.control.asid, ASID_HALT);
    assert_int_equal(halt.control.nested_control, 0);
    assert_int_equal(halt.control.tlb_control, TLB_CONTROL_NOTHING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_interrupt_wakes, two_cpus),
        cmocka_unit_test_setup(test_interrupts_wait_as_in_the_guest, two_cpus),
        cmocka_unit_test_setup(test_shoot_downs_wake_nobody, two_cpus),
        cmocka_unit_test_setup(test_nmi_wakes, two_cpus),
        cmocka_unit_test_setup(test_nmi_that_waited_already_wakes, two_cpus),
        cmocka_unit_test_setup(test_blocked_nmi_wakes_nobody, two_cpus),
        cmocka_unit_test_setup(test_nmi_comes_before_an_iret_that_follows, two_cpus),
        cmocka_unit_test_setup(test_init_wakes, two_cpus),
        cmocka_unit_test_setup(test_gif_holds_all_back, two_cpus),
        cmocka_unit_test_setup(test_single_step_does_not_halt, two_cpus),
        cmocka_unit_test_setup(test_machine_check_is_the_guests, two_cpus),
        cmocka_unit_test_setup(test_shutdown_is_the_guests, two_cpus),
        cmocka_unit_test_setup(test_any_other_exit_is_fatal, two_cpus),
        cmocka_unit_test_setup(test_end_of_the_instruction, two_cpus),
        cmocka_unit_test_setup(test_code_that_is_no_hlt_any_more, two_cpus),
        cmocka_unit_test_setup(test_vmcb_of_the_halted_guest, two_cpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
