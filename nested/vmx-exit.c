/* SPDX-License-Identifier: MIT */
/*
 * From L2 back to L1: what an exit saves, tells and loads; and the exits of L2 that Umbra handles itself.
 * Source: SDM vol. 3C ch. 28.
 */
#include "arch/cpu.h"
#include "arch/print.h"
#include "arch/reset.h"
#include "mm/guest-mem.h"
#include "nested/vmx-capability.h"
#include "nested/vmx-shadowing.h"
#include "nested/vmx-verdict.h"
#include "nested/vmx-vmcs02.h"
#include "vcpu/shootdown.h"
#include "vmx/exit-reason.h"

/* Access rights that an exit gives to L1's segments, SDM vol. 3C 28.5.2. */
#define HOST_CODE64   0xa09b
#define HOST_CODE32   0xc09b
#define HOST_DATA     0xc093
#define HOST_TSS      0x008b
#define HOST_LIMIT    0xffffffff
#define HOST_TR_LIMIT 0x67
#define HOST_DT_LIMIT 0xffff

/* VMX-abort indicators, SDM vol. 3C 28.7. */
enum vmx_abort { ABORT_MSR_STORE = 1, ABORT_HOST_PDPTE = 2, ABORT_MSR_LOAD = 4 };

/* --- the end of L2 --- */

static void end_l2(struct vcpu *vcpu)
{
    vcpu->l2_running = false;
    if (__builtin_expect(vcpu->waiting, false))
        shootdown_wait_ends(vcpu);
}

void l2_leave_vmcs02(struct vcpu *vcpu)
{
    const struct vmcs02_state *state = vmcs02_state_of(vcpu);
    struct nested_vmx *nested = nested_vmx_of(vcpu);

    /* vmcs02 has what the list has loaded, vmcs12 what L1 wrote. */
    if (nested->vmcs12.entry_msr_load_count != 0)
        nested->dirty = VMCS12_ALL;
    end_l2(vcpu);
    vmx_switch_vmcs(vcpu, vmx_of(vcpu)->vmcs, state->primary01, PRIMARY_NMI_WINDOW);
}

/* A step over an access to Umbra's memory that another exit has cut short: L2 makes the access again. */
static void forget_step(struct vcpu *vcpu, struct vmcs02_state *state)
{
    if (!state->stepping)
        return;
    state->stepping = false;
    violation_step_done(vcpu);
}

/* The CPU would shut down, and the machine with it. */
static _Noreturn void vmx_abort(struct vcpu *vcpu, enum vmx_abort indicator)
{
    const struct nested_vmx *nested = nested_vmx_of(vcpu);
    u32 value = indicator;

    (void)guest_write(gpa(nested->current + offsetof(struct vmcs12, abort_indicator)), &value, sizeof(value));
    log_quiet(false);
    log_error("the guest's VM exit ends in VMX abort %u (exit reason %x): the machine is reset, as a CPU's "
              "shutdown does",
              value, nested->vmcs12.exit_reason);
    vcpu_report(vcpu);
    machine_reset();
}

/* --- L1's state --- */

/*
 * Every exit of L2 that L1 gets comes through here: all fields are constants to the compiler, and each CPU
 * has them.
 */
static inline __attribute__((always_inline)) void load_segment(enum vmcs_segment segment, const u16 *selector,
                                                               const u64 *base, u32 limit, const u64 *rights)
{
    vmwrite_from(vmcs_segment_field(VMCS_GUEST_ES_SELECTOR, segment), selector);
    vmwrite_from(vmcs_segment_field(VMCS_GUEST_ES_BASE, segment), base);
    vmwrite_unchecked(vmcs_segment_field(VMCS_GUEST_ES_LIMIT, segment), limit);
    vmwrite_from(vmcs_segment_field(VMCS_GUEST_ES_RIGHTS, segment), rights);
}

void l1_take_host_segments(struct vmcs02 *vmcs02, const struct vmcs12 *vmcs12)
{
    for (unsigned i = VMCS_ES; i <= VMCS_GS; i++)
        vmcs02->host_rights[i] = HOST_DATA | (vmcs12->host_selector[i] == 0 ? RIGHTS_UNUSABLE : 0);
    vmcs02->host_rights[VMCS_CS] = (vmcs12->exit_controls & EXIT_HOST_64) != 0 ? HOST_CODE64 : HOST_CODE32;
}

static void load_host_segments(const struct vmcs02 *vmcs02, const struct vmcs12 *vmcs12)
{
    static const u64 none, tss = HOST_TSS, unusable = RIGHTS_UNUSABLE;
    const u16 *selector = vmcs12->host_selector;
    const u64 *rights = vmcs02->host_rights;

    load_segment(VMCS_CS, &selector[VMCS_CS], &none, HOST_LIMIT, &rights[VMCS_CS]);
    load_segment(VMCS_ES, &selector[VMCS_ES], &none, HOST_LIMIT, &rights[VMCS_ES]);
    load_segment(VMCS_SS, &selector[VMCS_SS], &none, HOST_LIMIT, &rights[VMCS_SS]);
    load_segment(VMCS_DS, &selector[VMCS_DS], &none, HOST_LIMIT, &rights[VMCS_DS]);
    load_segment(VMCS_FS, &selector[VMCS_FS], &vmcs12->host_fs_base, HOST_LIMIT, &rights[VMCS_FS]);
    load_segment(VMCS_GS, &selector[VMCS_GS], &vmcs12->host_gs_base, HOST_LIMIT, &rights[VMCS_GS]);
    load_segment(VMCS_TR, &selector[VMCS_TR], &vmcs12->host_tr_base, HOST_TR_LIMIT, &tss);
    load_segment(VMCS_LDTR, (const u16 *)(const void *)&none, &none, 0, &unusable);
    vmwrite_from(VMCS_GUEST_GDTR_BASE, &vmcs12->host_gdtr_base);
    vmwrite_unchecked(VMCS_GUEST_GDTR_LIMIT, HOST_DT_LIMIT);
    vmwrite_from(VMCS_GUEST_IDTR_BASE, &vmcs12->host_idtr_base);
    vmwrite_unchecked(VMCS_GUEST_IDTR_LIMIT, HOST_DT_LIMIT);
}

/* Whether L1 is in IA-32e mode is checked at an entry, and it is again what it was then. */
static void load_host_control_registers(struct vcpu *vcpu, const struct vmcs12 *vmcs12, bool host64)
{
    const u64 loaded = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    u64 cr4 = host64 ? vmcs12->host_cr4 | CR4_PAE : vmcs12->host_cr4 & ~CR4_PCIDE;

    vmx_set_guest_cr0((vmcs12->host_cr0 & loaded) | (read_cr0() & (CR0_CD | CR0_NW)) | CR0_ET);
    vmx_set_guest_cr4(cr4);
    vmwrite_from(VMCS_GUEST_CR3, &vmcs12->host_cr3);
    if (!host64 && (cr4 & CR4_PAE) != 0 && !vmx_load_pdptes())
        vmx_abort(vcpu, ABORT_HOST_PDPTE);
}

/* vmcs01 is current. `blocking`: NMI blocking of L1 from now on. */
static void load_host_state(struct vcpu *vcpu, const struct switch_plan *plan,
                            const struct carried_registers *kept, u64 blocking)
{
    const struct nested_vmx *nested = nested_vmx_of(vcpu);
    const struct vmcs12 *vmcs12 = &nested->vmcs12;
    bool host64 = (vmcs12->exit_controls & EXIT_HOST_64) != 0;

    load_host_control_registers(vcpu, vmcs12, host64);
    l1_switched_registers_load(vmcs12, plan, kept);
    load_host_segments(nested->vmcs02->active, vmcs12);
    vmwrite_from(VMCS_GUEST_SYSENTER_CS, &vmcs12->host_sysenter_cs);
    vmwrite_from(VMCS_GUEST_SYSENTER_ESP, &vmcs12->host_sysenter_esp);
    vmwrite_from(VMCS_GUEST_SYSENTER_EIP, &vmcs12->host_sysenter_eip);
    vmwrite_from(VMCS_GUEST_RSP, &vmcs12->host_rsp);
    vmwrite_from(VMCS_GUEST_RIP, &vmcs12->host_rip);
    vmwrite_unchecked(VMCS_GUEST_RFLAGS, RFLAGS_RESERVED1);
    vmwrite_unchecked(VMCS_GUEST_PENDING_DEBUG, 0);
    vmwrite_unchecked(VMCS_GUEST_INTERRUPTIBILITY, blocking);
    if (l1_vpid(vmcs12) == 0)
        vmx_flush_linear(vcpu);
    if (vmcs12->exit_msr_load_count != 0 &&
        msr_list_load(vcpu, vmcs12->exit_msr_load, vmcs12->exit_msr_load_count) != MSR_LIST_DONE)
        vmx_abort(vcpu, ABORT_MSR_LOAD);
}

enum exit_action nested_vmx_entry_failure(struct vcpu *vcpu, u32 basic_reason, u64 qualification)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);
    struct vmcs12 *vmcs12 = &nested->vmcs12;
    struct switch_plan plan = l2_switch_plan(vmcs12);

    vmcs12->exit_reason = (u32)(EXIT_REASON_ENTRY_FAILURE | basic_reason);
    vmcs12->exit_qualification = qualification;
    nested->shadowing.stale |= SHADOWED(EXIT_REASON) | SHADOWED(EXIT_QUALIFICATION);
    vmx_shadowing_publish(vcpu, vmx_of(vcpu)->primary);
    /* L1 has its own values still. */
    plan.kept = 0;
    l1_take_host_segments(nested->vmcs02->active, vmcs12);
    load_host_state(vcpu, &plan, NULL, vmread(VMCS_GUEST_INTERRUPTIBILITY) & BLOCKING_BY_NMI);
    return EXIT_RESUME;
}

/* --- L2's state and the exit's information --- */

void l2_exit_information_read(struct l2_exit_information *information)
{
    *information = (struct l2_exit_information){
        .reason = (u32)vmread(VMCS_EXIT_REASON),
        .interruption = (u32)vmread(VMCS_EXIT_INTERRUPTION),
        .error_code = (u32)vmread(VMCS_EXIT_ERROR_CODE),
        .vectoring = (u32)vmread(VMCS_VECTORING),
        .vectoring_error_code = (u32)vmread(VMCS_VECTORING_ERROR_CODE),
        .instruction_length = (u32)vmread(VMCS_EXIT_INSTRUCTION_LENGTH),
        .instruction_information = (u32)vmread(VMCS_EXIT_INSTRUCTION_INFORMATION),
        .qualification = vmread(VMCS_EXIT_QUALIFICATION),
        .guest_linear_address = vmread(VMCS_GUEST_LINEAR_ADDRESS),
        .guest_physical_address = vmread(VMCS_GUEST_PHYSICAL_ADDRESS),
    };
}

static void tell(struct vmcs12 *vmcs12, const struct l2_exit_information *information)
{
    vmcs12->exit_reason = information->reason;
    vmcs12->exit_interruption = information->interruption;
    vmcs12->exit_error_code = information->error_code;
    vmcs12->vectoring = information->vectoring;
    vmcs12->vectoring_error_code = information->vectoring_error_code;
    vmcs12->exit_instruction_length = information->instruction_length;
    vmcs12->exit_instruction_information = information->instruction_information;
    vmcs12->exit_qualification = information->qualification;
    vmcs12->guest_linear_address = information->guest_linear_address;
    vmcs12->guest_physical_address = information->guest_physical_address;
}

static bool is_nmi_exit(const struct vmcs12 *vmcs12)
{
    const u64 nmi = INTERRUPTION_VALID | INTERRUPTION_NMI;

    return vmcs12->exit_reason == REASON_EXCEPTION_OR_NMI &&
           (vmcs12->exit_interruption & (INTERRUPTION_VALID | INTERRUPTION_TYPE)) == nmi;
}

/* The exit's information is in vmcs12; `stale`: which of it the shadow VMCS has not. */
static enum exit_action leave(struct vcpu *vcpu, u32 stale)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);
    struct vmcs12 *vmcs12 = &nested->vmcs12;
    struct carried_registers kept;

    stale |= l2_state_save(nested, &kept);
    if ((vmcs12->entry_interruption & INTERRUPTION_VALID) != 0) {
        vmcs12->entry_interruption &= (u32)~INTERRUPTION_VALID;
        stale |= SHADOWED(ENTRY_INTERRUPTION);
    }
    if (vmcs12->exit_msr_store_count != 0 &&
        msr_list_store(vcpu, vmcs12->exit_msr_store, vmcs12->exit_msr_store_count) != MSR_LIST_DONE)
        vmx_abort(vcpu, ABORT_MSR_STORE);
    forget_step(vcpu, nested->vmcs02);
    end_l2(vcpu);
    nested->shadowing.stale |= stale;
    vmx_shadowing_publish(vcpu, nested->vmcs02->primary01);
    load_host_state(vcpu, &nested->vmcs02->active->plan, &kept,
                    l1_nmi_blocking_after_exit(vmcs12, is_nmi_exit(vmcs12)));
    return EXIT_RESUME;
}

enum exit_action l2_reflect(struct vcpu *vcpu, const struct l2_exit_information *information)
{
    tell(&nested_vmx_of(vcpu)->vmcs12, information);
    return leave(vcpu, SHADOWED_INFORMATION_ALL);
}

static enum exit_action reflect_as_is(struct vcpu *vcpu)
{
    return leave(vcpu, l2_information_save(&nested_vmx_of(vcpu)->vmcs12));
}

/* --- exits --- */

enum exit_action l2_nmi_exit(struct vcpu *vcpu)
{
    static const struct l2_exit_information information = {
        .reason = REASON_EXCEPTION_OR_NMI,
        .interruption = (u32)(INTERRUPTION_VALID | INTERRUPTION_NMI | EXC_NMI),
    };

    vcpu->nmi_pending = false;
    /* Breakpoints that are not enabled: SDM vol. 3C 28.3.4. */
    vmwrite(VMCS_GUEST_PENDING_DEBUG, 0);
    return l2_reflect(vcpu, &information);
}

enum exit_action l2_init_exit(struct vcpu *vcpu)
{
    static const struct l2_exit_information information = {.reason = REASON_INIT};

    vmx_of(vcpu)->init_pending = false;
    return l2_reflect(vcpu, &information);
}

/*
 * An NMI that came while Umbra ran is L1's exit now, at the first instruction boundary of L2 that takes NMIs.
 * The MTF exit that announces it comes before what an NMI has to wait for.
 */
static enum exit_action waiting_nmi(struct vcpu *vcpu, u32 reason)
{
    if (reason == REASON_NMI_WINDOW)
        vmx_nmi_window_exit(vcpu);
    else if (l2_nmi_is_next(&nested_vmx_of(vcpu)->vmcs12, vmread(VMCS_GUEST_INTERRUPTIBILITY),
                            vmread(VMCS_GUEST_PENDING_DEBUG), vmread_unchecked(VMCS_GUEST_PREEMPTION_TIMER)))
        return l2_nmi_exit(vcpu);
    return EXIT_RESUME;
}

static enum exit_action nmi_to_l1(struct vcpu *vcpu)
{
    if (shootdown_nmi(vcpu))
        return EXIT_RESUME;
    if (!vmcs02_state_of(vcpu)->nmi_blocked)
        return reflect_as_is(vcpu);
    vcpu->nmi_pending = true;
    return EXIT_RESUME;
}

static enum exit_action nmi_to_l2(struct vcpu *vcpu)
{
    vmx_nmi_exit(vcpu);
    return EXIT_RESUME;
}

/* The step is over: an INIT that waited for it comes first; if L1 asked for MTF itself, the exit is its, too.
 */
static enum exit_action step_done(struct vcpu *vcpu)
{
    const struct vmcs12 *vmcs12 = &nested_vmx_of(vcpu)->vmcs12;

    l2_set_step(vcpu, false);
    violation_step_done(vcpu);
    if (vmx_of(vcpu)->init_pending)
        return l2_init_exit(vcpu);
    return (vmcs12->primary_controls & PRIMARY_MONITOR_TRAP_FLAG) != 0 ? reflect_as_is(vcpu) : EXIT_RESUME;
}

static u64 cr_operand(const struct vcpu *vcpu, u64 qualification)
{
    unsigned index = qualification >> 8 & 15;
    u64 value = index == GPR_RSP ? vmread(VMCS_GUEST_RSP) : vcpu->gpr[index];

    return vmx_code64() ? value : value & BITS(31, 0);
}

static void facts_of(const struct vcpu *vcpu, u32 reason, struct l2_exit_facts *facts)
{
    const struct nested_vmx *nested = nested_vmx_of(vcpu);

    *facts = (struct l2_exit_facts){
        .reason = reason,
        .nmi_waits = vcpu->nmi_pending,
        .stepping = nested->vmcs02->stepping,
    };
    if (reason == REASON_EXCEPTION_OR_NMI)
        facts->interruption = (u32)vmread(VMCS_EXIT_INTERRUPTION);
    if (reason == REASON_RDMSR || reason == REASON_WRMSR)
        facts->intercepted = l1_intercepts_msr(vcpu, &nested->vmcs12, reason == REASON_WRMSR);
    if (reason == REASON_VMREAD || reason == REASON_VMWRITE)
        facts->intercepted = l1_intercepts_field(vcpu, &nested->vmcs12, reason == REASON_VMWRITE);
    if (reason == REASON_CONTROL_REGISTER) {
        facts->qualification = vmread(VMCS_EXIT_QUALIFICATION);
        facts->operand = cr_operand(vcpu, facts->qualification);
    }
}

/* L1 leaves the MSR to L2; if Umbra does, too, L2 makes the access again, and from now on without an exit. */
static enum exit_action use_msr(struct vcpu *vcpu, bool write)
{
    struct vmcs02 *vmcs02 = vmcs02_state_of(vcpu)->active;

    if (vmx_msr_learn(&vmcs02->msr_merge, vmcs02->l1_msr_bitmap, (u32)vcpu->gpr[GPR_RCX], write))
        return EXIT_RESUME;
    return write ? wrmsr_exit(vcpu) : rdmsr_exit(vcpu);
}

static enum exit_action handle(struct vcpu *vcpu, u32 reason)
{
    struct l2_exit_facts facts;

    /* The most frequent of those that depend on no facts. */
    if (reason == REASON_EPT_VIOLATION)
        return l2_second_level_exit(vcpu, reason);
    facts_of(vcpu, reason, &facts);
    switch (l2_exit_verdict(&nested_vmx_of(vcpu)->vmcs12, &facts)) {
    case VERDICT_L1:
        return reflect_as_is(vcpu);
    case VERDICT_NMI_TO_L1:
        return nmi_to_l1(vcpu);
    case VERDICT_NMI_TO_L2:
        return nmi_to_l2(vcpu);
    case VERDICT_WAITING_NMI:
        return waiting_nmi(vcpu, reason);
    case VERDICT_SECOND_LEVEL:
        return l2_second_level_exit(vcpu, reason);
    case VERDICT_MSR:
        return use_msr(vcpu, reason == REASON_WRMSR);
    case VERDICT_GP:
        return EXIT_GP;
    case VERDICT_STEP:
        return step_done(vcpu);
    case VERDICT_VMFUNC:
        return l2_vmfunc_exit(vcpu);
    case VERDICT_FIELD:
        return l2_field_access(vcpu, reason == REASON_VMWRITE);
    }
    return EXIT_RESUME;
}

/* A fault may be an exit to L1, and a step in L2 is not one of L1's: the others are as in L1. */
static enum exit_action finish(struct vcpu *vcpu, enum exit_action action)
{
    switch (action) {
    case EXIT_UD:
        return l2_exception(vcpu, EXC_UD, false, 0);
    case EXIT_GP:
        return l2_exception(vcpu, EXC_GP, true, 0);
    case EXIT_STEP:
        l2_set_step(vcpu, true);
        return EXIT_RESUME;
    default:
        return action;
    }
}

/*
 * Umbra has executed an instruction for L2. If L1 steps, its exit follows, before a debug trap of that
 * instruction (SDM vol. 3C 26.5.2); with MTF on, L2 would execute another one first.
 */
static enum exit_action step_of_l1(struct vcpu *vcpu)
{
    struct l2_exit_information information;

    vmx_finish_exit(vcpu, EXIT_SKIP, vmread(VMCS_GUEST_RIP));
    l2_exit_information_read(&information);
    information.reason = REASON_MONITOR_TRAP_FLAG;
    information.qualification = 0;
    information.interruption = 0;
    return l2_reflect(vcpu, &information);
}

/* The hardware found in L2's state what the checks did not: the entry fails as one that they refuse. */
static __attribute__((noinline)) enum exit_action entry_failure(struct vcpu *vcpu, u32 reason)
{
    u64 qualification = vmread(VMCS_EXIT_QUALIFICATION);

    l2_leave_vmcs02(vcpu);
    return nested_vmx_entry_failure(vcpu, (u32)(reason & BITS(15, 0)), qualification);
}

static __attribute__((noinline)) enum exit_action general_exit(struct vcpu *vcpu, struct nested_vmx *nested,
                                                               u32 reason)
{
    if (l2_exit_is_l1s(reason))
        return reflect_as_is(vcpu);
    enum exit_action action = finish(vcpu, handle(vcpu, reason));
    if (!vcpu->l2_running)
        return action;
    if (action == EXIT_SKIP && (nested->vmcs12.primary_controls & PRIMARY_MONITOR_TRAP_FLAG) != 0)
        return step_of_l1(vcpu);
    l2_acquire_tables(vcpu, nested);
    return action;
}

static __attribute__((noinline)) enum exit_action ept_violation_exit(struct vcpu *vcpu,
                                                                     struct nested_vmx *nested)
{
    if (l2_second_level_filled(nested))
        return EXIT_RESUME;
    return general_exit(vcpu, nested, REASON_EPT_VIOLATION);
}

/* Without a stack of its own: it is on the way of all exits. */
enum exit_action nested_vmx_l2_exit(struct vcpu *vcpu, u32 reason)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);

    if (__builtin_expect((reason & EXIT_REASON_ENTRY_FAILURE) != 0, false))
        return entry_failure(vcpu, reason);
    nested->vmcs02->active->launched = true;
    nested->vmcs12.launch_state = VMCS12_LAUNCHED;
    if (reason == REASON_EPT_VIOLATION)
        return ept_violation_exit(vcpu, nested);
    return general_exit(vcpu, nested, reason);
}
