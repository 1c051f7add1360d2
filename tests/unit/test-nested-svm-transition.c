/* SPDX-License-Identifier: MIT */
/*
 * What passes between vmcb12, vmcb02 and the CPU at VMRUN and VMEXIT where the CPU does the work for L2: the
 * TSC ratio, virtual NMIs among real ones, and LBR virtualization. The test plays the CPU: it writes into
 * vmcb02 what an exit would. Source: APM vol. 2 15.21.10, 15.23, 15.30.5.
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
#include "svm/nmi.h"
#include "svm/step.h"
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

void shadow_will_write(struct shadow *shadow, struct shadow_cpu *storage, gpa_t address, u64 bytes)
{
    (void)shadow;
    (void)storage;
    (void)address;
    (void)bytes;
}

/* Only a VMRUN that is refused asks for it here. */
void nested_svm_obey_tlb_control(struct nested_svm *of, u8 tlb_control)
{
    assert_ptr_equal(of, &nested);
    assert_int_equal(tlb_control, TLB_CONTROL_FLUSH_ALL);
}

void svm_flush_l1(struct svm_vcpu *of)
{
    (void)of;
    fail();
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

static bool init_comes;

void svm_take_events(struct svm_vcpu *of)
{
    of->init_pending |= init_comes;
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
    static const struct svm_features all = {.lbr_virtualization = true,
                                            .clean_bits = true,
                                            .tsc_ratio = true,
                                            .virtual_vmload = true,
                                            .virtual_nmi = true};

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
    nested.facts.virtual_nmi = true;
    nested.v_intr_for_l2 = svm_v_intr_for_l2(true, true);
    nested.lbr_control_for_l2 = svm_lbr_control_for_l2(true, true);
    vmcb.control.lbr_control = LBR_VIRTUALIZATION_ENABLE;
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

static u64 in_flight; /* the event whose delivery the next exit interrupts */

/* What the CPU does at an exit of L2. */
static void exit_by(u64 exit_code)
{
    assert_true(vcpu.l2_running);
    assert_ptr_equal(svm.vmcb, &vmcb02);
    vmcb02.control.exit_code = exit_code;
    vmcb02.control.event_inj = 0;
    vmcb02.control.exit_int_info = in_flight;
    in_flight = 0;
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

/* --- virtual NMIs --- */

#define NMI_EVENT (EVENT_VALID | EVENT_TYPE_NMI | EXC_NMI)

static bool intercepts(const struct vmcb *which, u32 exit_code)
{
    return svm_intercepts_code(&which->control, exit_code);
}

static void enable_virtual_nmis(u64 more)
{
    vmcb12.control.v_intr = V_NMI_ENABLE | more;
    vmcb12.control.intercept[VMEXIT_NMI / 32] |= 1u << VMEXIT_NMI % 32;
    vmcb12.control.clean = 0;
}

static int two_cpus(void **state)
{
    (void)set_up(state);
    machine.cpus = 2;
    nested.own_intercepts[VMEXIT_NMI / 32] |= 1u << VMEXIT_NMI % 32;
    enable_virtual_nmis(0);
    return 0;
}

static void test_virtual_nmi_passes(void **state)
{
    (void)state;
    enable_virtual_nmis(V_NMI | BIT(62));
    assert_true(run());
    assert_int_equal(vmcb02.control.v_intr, V_NMI_ENABLE | V_NMI);
    /* The CPU takes it ... */
    vmcb02.control.v_intr = V_NMI_ENABLE | V_NMI_MASK;
    exit_by(VMEXIT_VMMCALL);
    assert_int_equal(vmcb12.control.v_intr, V_NMI_ENABLE | V_NMI_MASK | BIT(62));
    /* ... and L1 asks for another while L2 is in its handler, by an event, too. */
    vmcb12.control.v_intr |= V_NMI;
    vmcb12.control.event_inj = NMI_EVENT;
    vmcb12.control.clean = ~0u;
    assert_true(run());
    assert_int_equal(vmcb02.control.v_intr, V_NMI_ENABLE | V_NMI_MASK | V_NMI);
    assert_int_equal(vmcb02.control.event_inj, NMI_EVENT);
    vmcb02.control.v_intr = V_NMI_ENABLE | V_NMI;
    exit_by(VMEXIT_VMMCALL);
    assert_int_equal(vmcb12.control.v_intr, V_NMI_ENABLE | V_NMI | BIT(62));
}

static void test_virtual_nmi_needs_the_intercept(void **state)
{
    (void)state;
    assert_true(run());
    exit_by(VMEXIT_VMMCALL);
    /* No group with a clean bit has changed. */
    vmcb12.control.clean = ~0u;
    vmcb12.control.v_intr = V_NMI_ENABLE;
    assert_false(run());
    assert_int_equal(vmcb12.control.exit_code, VMEXIT_INVALID);
    vmcb12.control.v_intr = 0;
    assert_true(run());
    exit_by(VMEXIT_VMMCALL);
    enable_virtual_nmis(0);
    assert_true(run());
    exit_by(VMEXIT_VMMCALL);
    vmcb12.control.intercept[VMEXIT_NMI / 32] &= ~(1u << VMEXIT_NMI % 32);
    vmcb12.control.clean = ~(u32)CLEAN_INTERCEPTS;
    assert_false(run());
}

/* On a CPU without them the bits are reserved. */
static void test_virtual_nmi_unknown(void **state)
{
    (void)state;
    svm_features.virtual_nmi = nested.facts.virtual_nmi = false;
    nested.v_intr_for_l2 = svm_v_intr_for_l2(true, false);
    vmcb12.control.v_intr = V_NMI_ENABLE | V_NMI | V_NMI_MASK | V_IRQ;
    assert_true(run());
    assert_int_equal(vmcb02.control.v_intr, V_IRQ);
    vmcb02.control.v_intr = 0;
    exit_by(VMEXIT_VMMCALL);
    assert_int_equal(vmcb12.control.v_intr, V_NMI_ENABLE | V_NMI | V_NMI_MASK);
}

/* A real NMI is L1's, whatever becomes of L2's virtual ones; one that is Umbra's own is nobody's. */
static void test_real_nmi_of_l2(void **state)
{
    (void)state;
    enable_virtual_nmis(V_NMI | V_NMI_MASK);
    assert_true(run());
    nmi_is_kick = true;
    svm_nmi_hook(&vcpu);
    exit_by(VMEXIT_NMI);
    assert_true(vcpu.l2_running);
    assert_int_equal(vmcb02.control.v_intr, V_NMI_ENABLE | V_NMI | V_NMI_MASK);
    nmi_is_kick = false;
    svm_nmi_hook(&vcpu);
    exit_by(VMEXIT_NMI);
    assert_false(vcpu.l2_running);
    assert_int_equal(vmcb12.control.exit_code, VMEXIT_NMI);
    assert_int_equal(vmcb12.control.v_intr, V_NMI_ENABLE | V_NMI | V_NMI_MASK);
    assert_int_equal(vmcb02.control.event_inj, 0);
    assert_true(vcpu.nmi_pending);
}

/* An INIT that comes while Umbra takes an NMI of its own is L1's exit all the same, and stays pending. */
static void test_init_while_a_kick_is_taken(void **state)
{
    (void)state;
    vmcb12.control.intercept[VMEXIT_INIT / 32] |= 1u << VMEXIT_INIT % 32;
    init_comes = run();
    exit_by(VMEXIT_NMI);
    init_comes = false;
    assert_int_equal(vmcb12.control.exit_code, VMEXIT_INIT);
    assert_true(svm.init_pending);
}

/* L1 is in its NMI handler: that L2's virtual NMI ends does not let in L1's next. */
static void test_iret_of_virtual_nmi(void **state)
{
    (void)state;
    svm.nmi_blocked = true;
    assert_true(run());
    assert_false(intercepts(&vmcb02, VMEXIT_IRET));
    vcpu.nmi_pending = true;
    exit_by(VMEXIT_NMI);
    assert_true(vcpu.l2_running);
    exit_by(VMEXIT_VMMCALL);
    assert_true(intercepts(&vmcb, VMEXIT_IRET));
    /* An L2 without them unblocks L1's. */
    vmcb12.control.v_intr = 0;
    vcpu.nmi_pending = false;
    assert_true(run());
    assert_true(intercepts(&vmcb02, VMEXIT_IRET));
}

/* Umbra's step is not to end in a handler of L2's. */
static void test_step_holds_virtual_events(void **state)
{
    (void)state;
    enable_virtual_nmis(V_NMI | V_IRQ);
    vmcb12.control.interrupt_state = INTERRUPT_SHADOW;
    assert_true(run());
    svm_step_begin(&svm);
    assert_int_equal(vmcb02.control.v_intr, V_NMI_ENABLE | V_INTR_MASKING);
    vmcb02.save.dr6 |= 0x4000;
    exit_by(VMEXIT_EXCP0 + EXC_DB);
    assert_true(vcpu.l2_running);
    assert_int_equal(vmcb02.control.v_intr, V_NMI_ENABLE | V_NMI | V_IRQ);
    /* What the CPU changes meanwhile stays: an IRET. */
    vmcb02.control.v_intr |= V_NMI_MASK;
    svm_step_begin(&svm);
    assert_int_equal(vmcb02.control.v_intr, V_NMI_ENABLE | V_NMI_MASK | V_INTR_MASKING);
    vmcb02.control.v_intr &= ~V_NMI_MASK;
    svm_step_cancel(&svm);
    assert_int_equal(vmcb02.control.v_intr, V_NMI_ENABLE | V_NMI | V_IRQ);
}

/* One that came while Umbra was busy, before the step: L1 asked for it, and L2 never sees it. */
static void test_nmi_at_the_end_of_a_step(void **state)
{
    (void)state;
    assert_true(run());
    vcpu.nmi_pending = true;
    vmcb02.save.rflags |= RFLAGS_TF; /* L2 is due a trap, too */
    svm_step_begin(&svm);
    vmcb02.save.dr6 |= 0x4000;
    exit_by(VMEXIT_EXCP0 + EXC_DB);
    assert_false(vcpu.l2_running);
    assert_int_equal(vmcb12.control.exit_code, VMEXIT_NMI);
    assert_int_equal(vmcb12.control.exit_int_info, EVENT_VALID | EVENT_TYPE_EXCEPTION | EXC_DB);
    assert_int_equal(vmcb12.control.v_intr, V_NMI_ENABLE);
    assert_true(vcpu.nmi_pending);
    /* Where L1 leaves NMIs to L2, it has it. */
    vmcb12.save.rflags = RFLAGS_RESERVED1;
    vmcb12.control.v_intr = 0;
    vmcb12.control.intercept[VMEXIT_NMI / 32] &= ~(1u << VMEXIT_NMI % 32);
    vmcb12.control.clean = 0;
    vcpu.nmi_pending = false;
    assert_true(run());
    svm_step_begin(&svm);
    vcpu.nmi_pending = true;
    vmcb02.save.dr6 |= 0x4000;
    exit_by(VMEXIT_EXCP0 + EXC_DB);
    assert_true(vcpu.l2_running);
    assert_int_equal(vmcb02.control.event_inj, NMI_EVENT);
}

/* Without a virtual GIF, L2's CLGI holds virtual NMIs back, too. */
static void test_lent_gif_holds_virtual_nmis(void **state)
{
    (void)state;
    enable_virtual_nmis(V_NMI | V_IRQ);
    assert_true(run());
    nested_svm_clear_l2_gif(&svm);
    assert_int_equal(vmcb02.control.v_intr & (V_NMI | V_IRQ), 0);
    nested_svm_set_l2_gif(&svm);
    assert_int_equal(vmcb02.control.v_intr, V_NMI_ENABLE | V_NMI | V_IRQ);
    nested_svm_clear_l2_gif(&svm);
    exit_by(VMEXIT_VMMCALL);
    assert_int_equal(vmcb12.control.v_intr, V_NMI_ENABLE | V_NMI | V_IRQ);
}

/* Its delivery meets a fault of the shadow's: it is finished as an event, which masks it again. */
static void test_delivery_of_virtual_nmi_goes_on(void **state)
{
    (void)state;
    enable_virtual_nmis(V_NMI);
    assert_true(run());
    vmcb02.control.v_intr = V_NMI_ENABLE;
    in_flight = NMI_EVENT;
    nmi_is_kick = true;
    svm_nmi_hook(&vcpu);
    exit_by(VMEXIT_NMI); /* any exit that L1 does not see */
    assert_true(vcpu.l2_running);
    assert_int_equal(vmcb02.control.event_inj, NMI_EVENT);
    assert_int_equal(vmcb02.control.v_intr, V_NMI_ENABLE);
}

/* L1's INT n has been delivered. A later one is L2's own, which the handler returns behind. */
static void test_own_event_after_the_injected(void **state)
{
    const u64 event = EVENT_VALID | EVENT_TYPE_SOFTWARE | 0x80;

    (void)state;
    for (unsigned own = 0; own < 2; own++) {
        enable_virtual_nmis(0);
        vmcb12.control.event_inj = event;
        vmcb12.control.n_rip = 0x1002;
        vmcb12.save.rip = 0x1000;
        assert_true(run());
        vmcb02.save.rip += own * 0x100;
        in_flight = event;
        nmi_is_kick = true;
        svm_nmi_hook(&vcpu);
        exit_by(VMEXIT_NMI);
        assert_int_equal(vmcb02.control.event_inj, own != 0 ? 0 : event);
        if (own == 0)
            assert_int_equal(vmcb02.control.n_rip, 0x1002);
        exit_by(VMEXIT_VMMCALL);
    }
}

/* What L1 is told of nRIP comes from the CPU, also if the exit interrupts the delivery of what L1 injected.
 */
static void test_next_rip_of_an_exit_in_delivery(void **state)
{
    (void)state;
    svm_features.nrip_save = true;
    enable_virtual_nmis(0);
    vmcb12.control.intercept[VMCB_INTERCEPT_EXCEPTIONS] = 1u << EXC_GP;
    vmcb12.control.event_inj = EVENT_VALID | EVENT_TYPE_SOFTWARE | 0x80;
    vmcb12.control.n_rip = 0x1002;
    assert_true(run());
    in_flight = vmcb12.control.event_inj;
    vmcb02.control.n_rip = 0;
    exit_by(VMEXIT_EXCP0 + EXC_GP);
    assert_false(vcpu.l2_running);
    assert_int_equal(vmcb12.control.n_rip, 0);
}

/* Nor has an exception of L2's own the error code of one that L1 injected, were it at the same place. */
static void test_error_code_of_own_exception(void **state)
{
    const u64 fault = EVENT_VALID | EVENT_TYPE_EXCEPTION | EVENT_ERROR_VALID | EXC_PF;

    (void)state;
    enable_virtual_nmis(0);
    vmcb12.control.event_inj = fault | 6ull << EVENT_ERROR_SHIFT;
    assert_true(run());
    in_flight = fault | 7ull << EVENT_ERROR_SHIFT;
    nmi_is_kick = true;
    svm_nmi_hook(&vcpu);
    exit_by(VMEXIT_NMI);
    assert_int_equal(vmcb02.control.event_inj, fault | 7ull << EVENT_ERROR_SHIFT);
}

/* Where the CPU virtualizes SPEC_CTRL it does so for L2, too; L1, which is not told, lends its own. */
static void test_spec_ctrl_is_shared(void **state)
{
    (void)state;
    vmcb.save.spec_ctrl = 1;
    assert_true(run());
    assert_int_equal(vmcb02.save.spec_ctrl, 1);
    vmcb02.save.spec_ctrl = 4;
    exit_by(VMEXIT_VMMCALL);
    assert_int_equal(vmcb.save.spec_ctrl, 4);
}

/* --- LBR virtualization --- */

static void set_lbr(struct vmcb *of, u64 value)
{
    of->save.dbgctl = value;
    of->save.br_from = value + 1;
    of->save.br_to = value + 2;
    of->save.last_excp_from = value + 3;
    of->save.last_excp_to = value + 4;
}

static void assert_lbr(const struct vmcb *of, u64 value)
{
    assert_int_equal(of->save.dbgctl, value);
    assert_int_equal(of->save.br_from, value + 1);
    assert_int_equal(of->save.br_to, value + 2);
    assert_int_equal(of->save.last_excp_from, value + 3);
    assert_int_equal(of->save.last_excp_to, value + 4);
}

/* A run of L2, which has `before` and leaves `after`. Umbra has the CPU switch in any case. */
static void run_lbr(u64 before, u64 after)
{
    assert_true(run());
    assert_int_not_equal(vmcb02.control.lbr_control & LBR_VIRTUALIZATION_ENABLE, 0);
    assert_lbr(&vmcb02, before);
    set_lbr(&vmcb02, after);
    vmcb.control.clean = CLEAN_KNOWN;
    exit_by(VMEXIT_VMMCALL);
}

static void test_lbr_shared(void **state)
{
    (void)state;
    set_lbr(&vmcb, 0x100);
    set_lbr(&vmcb12, 0x200);
    run_lbr(0x100, 0x300);
    assert_lbr(&vmcb, 0x300);
    assert_int_equal(vmcb.control.clean & CLEAN_LBR, 0);
    assert_lbr(&vmcb12, 0x200);
    /* L1 changes its own, which no clean bit of vmcb12 tells. */
    set_lbr(&vmcb, 0x400);
    vmcb12.control.clean = ~0u;
    run_lbr(0x400, 0x500);
    assert_lbr(&vmcb, 0x500);
    assert_int_equal(vmcb02.control.clean & CLEAN_LBR, CLEAN_LBR);
    assert_true(run());
    assert_int_equal(vmcb02.control.clean & CLEAN_LBR, 0);
}

static void test_lbr_virtualized(void **state)
{
    (void)state;
    set_lbr(&vmcb, 0x100);
    set_lbr(&vmcb12, 0x200);
    vmcb12.control.lbr_control = LBR_VIRTUALIZATION_ENABLE;
    run_lbr(0x200, 0x300);
    assert_lbr(&vmcb12, 0x300);
    assert_lbr(&vmcb, 0x100);
    /* Clean: as L2 left it, whatever is in vmcb12; else what is there. */
    set_lbr(&vmcb12, 0x400);
    vmcb12.control.clean = ~0u;
    run_lbr(0x300, 0x310);
    assert_lbr(&vmcb12, 0x310);
    set_lbr(&vmcb12, 0x500);
    vmcb12.control.clean = ~(u32)CLEAN_LBR;
    run_lbr(0x500, 0x600);
    assert_lbr(&vmcb12, 0x600);
    assert_lbr(&vmcb, 0x100);
    /* Switched off and on again: nothing of before counts. */
    vmcb12.control.clean = ~0u;
    vmcb12.control.lbr_control = 0;
    run_lbr(0x100, 0x110);
    assert_lbr(&vmcb, 0x110);
    assert_lbr(&vmcb12, 0x600);
    set_lbr(&vmcb12, 0x700);
    vmcb12.control.lbr_control = LBR_VIRTUALIZATION_ENABLE;
    run_lbr(0x700, 0x800);
    assert_lbr(&vmcb12, 0x800);
    assert_lbr(&vmcb, 0x110);
}

/* Umbra's step takes BTF from whoever runs, and gives it back to him. */
static void test_lbr_and_step(void **state)
{
    enum { BTF = 2 };

    (void)state;
    set_lbr(&vmcb, 0x100);
    set_lbr(&vmcb12, 0x200 + BTF);
    vmcb12.control.lbr_control = LBR_VIRTUALIZATION_ENABLE;
    assert_true(run());
    svm_step_begin(&svm);
    assert_int_equal(vmcb02.save.dbgctl, 0x200);
    vmcb02.save.dr6 |= 0x4000;
    exit_by(VMEXIT_EXCP0 + EXC_DB);
    assert_lbr(&vmcb02, 0x200 + BTF);
    svm_step_begin(&svm);
    exit_by(VMEXIT_VMMCALL); /* in the middle */
    assert_false(vcpu.l2_running);
    assert_lbr(&vmcb12, 0x200 + BTF);
    assert_lbr(&vmcb, 0x100);
}

static void test_lbr_unknown(void **state)
{
    (void)state;
    svm_features.lbr_virtualization = false;
    nested.lbr_control_for_l2 = svm_lbr_control_for_l2(false, true);
    vmcb.control.lbr_control = 0;
    set_lbr(&vmcb, 0x100);
    set_lbr(&vmcb12, 0x200);
    vmcb12.control.lbr_control = LBR_VIRTUALIZATION_ENABLE | VMLOAD_VIRTUALIZATION_ENABLE;
    vmcb12.control.nested_control = 0;
    assert_true(run());
    assert_int_equal(vmcb02.control.lbr_control, 0);
    set_lbr(&vmcb02, 0x300);
    exit_by(VMEXIT_VMMCALL);
    assert_lbr(&vmcb, 0x100);
    assert_lbr(&vmcb12, 0x200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_tsc_ratio_msr, set_up),
        cmocka_unit_test_setup(test_tsc_ratio_of_l2, set_up),
        cmocka_unit_test_setup(test_tsc_ratio_unused, set_up),
        cmocka_unit_test_setup(test_virtual_nmi_passes, set_up),
        cmocka_unit_test_setup(test_virtual_nmi_needs_the_intercept, set_up),
        cmocka_unit_test_setup(test_virtual_nmi_unknown, set_up),
        cmocka_unit_test_setup(test_real_nmi_of_l2, two_cpus),
        cmocka_unit_test_setup(test_init_while_a_kick_is_taken, two_cpus),
        cmocka_unit_test_setup(test_iret_of_virtual_nmi, two_cpus),
        cmocka_unit_test_setup(test_step_holds_virtual_events, two_cpus),
        cmocka_unit_test_setup(test_nmi_at_the_end_of_a_step, two_cpus),
        cmocka_unit_test_setup(test_lent_gif_holds_virtual_nmis, set_up),
        cmocka_unit_test_setup(test_delivery_of_virtual_nmi_goes_on, two_cpus),
        cmocka_unit_test_setup(test_own_event_after_the_injected, two_cpus),
        cmocka_unit_test_setup(test_next_rip_of_an_exit_in_delivery, set_up),
        cmocka_unit_test_setup(test_error_code_of_own_exception, two_cpus),
        cmocka_unit_test_setup(test_spec_ctrl_is_shared, set_up),
        cmocka_unit_test_setup(test_lbr_shared, set_up),
        cmocka_unit_test_setup(test_lbr_virtualized, set_up),
        cmocka_unit_test_setup(test_lbr_and_step, set_up),
        cmocka_unit_test_setup(test_lbr_unknown, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
