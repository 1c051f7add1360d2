/* SPDX-License-Identifier: MIT */
/*
 * What Umbra does at each VM exit: one table of all reasons with the manual's names, one handler for each
 * that a guest can cause, and the end of the guest's instruction. Source: SDM vol. 3C ch. 28, vol. 3D
 * appendix C.
 */
#include "arch/cpu.h"
#include "arch/print.h"
#include "arch/reset.h"
#include "vmx/capability.h"
#include "vmx/exit-reason.h"
#include "vmx/vmx.h"

struct vmx_exit {
    u64 reason, rip;
    u64 qualification; /* 0 where the table says that the reason has none */
};

struct exit_row {
    const char *name;
    enum exit_action (*handle)(struct vcpu *vcpu, const struct vmx_exit *exit);
    bool qualified; /* the exit qualification says something */
};

/* Exit qualification of an EPT violation, SDM vol. 3C table 28-7 */
#define VIOLATION_READ         BIT(0)
#define VIOLATION_WRITE        BIT(1)
#define VIOLATION_FETCH        BIT(2)
#define VIOLATION_LINEAR_VALID BIT(7)
#define VIOLATION_FINAL                                                                                      \
    BIT(8) /* of the translation of the linear address, not of a paging-structure entry                      \
            */
#define VIOLATION_USER_PAGE     BIT(9)
#define VIOLATION_NMI_UNBLOCKED BIT(12)

/* --- the end of a report
 * ------------------------------------------------------------------------------------------- */

static enum exit_action handle_unexpected(struct vcpu *vcpu, const struct vmx_exit *exit)
{
    (void)vcpu;
    fatal("VM exit \"%s\" (reason %lu, qualification %lx) at %lx, which no control of Umbra's asks for",
          vmx_reason_name((u32)exit->reason), exit->reason, vmread(VMCS_EXIT_QUALIFICATION), exit->rip);
}

static enum exit_action handle_triple_fault(struct vcpu *vcpu, const struct vmx_exit *exit)
{
    log_quiet(false);
    log_error("guest triple fault at %lx: the machine is reset, as a CPU's shutdown does", exit->rip);
    vmx_dump(vcpu);
    vcpu_report(vcpu);
    machine_reset();
}

static enum exit_action handle_task_switch(struct vcpu *vcpu, const struct vmx_exit *exit)
{
    static const char *const sources[] = {"CALL", "IRET", "JMP", "a task gate"};

    (void)vcpu;
    fatal("the guest switched to the task of TSS selector %llx by %s at %lx: VMX cannot do that, and Umbra "
          "does not emulate it",
          exit->qualification & BITS(15, 0), sources[exit->qualification >> 30 & 3], exit->rip);
}

static enum exit_action handle_misconfiguration(struct vcpu *vcpu, const struct vmx_exit *exit)
{
    u64 address = vmread(VMCS_GUEST_PHYSICAL_ADDRESS);
    struct tdp_leaf leaf = tdp_lookup(&machine.tdp, gpa(address));

    (void)vcpu;
    fatal("EPT misconfiguration at guest-physical %lx (rip %lx): the entry of level %u is %lx, target %lx, "
          "type %u; a bug in "
          "Umbra",
          address, exit->rip, leaf.level, leaf.entry, leaf.target, (unsigned)leaf.type);
}

/* --- instructions
 * -------------------------------------------------------------------------------------------------- */

static enum exit_action handle_cpuid(struct vcpu *vcpu, const struct vmx_exit *exit)
{
    (void)exit;
    return cpuid_exit(vcpu, vmx_guest_cr4());
}

/* As on a CPU without VMX, SMX and their instructions. */
static enum exit_action handle_hidden(struct vcpu *vcpu, const struct vmx_exit *exit)
{
    (void)vcpu;
    (void)exit;
    return EXIT_UD;
}

static enum exit_action handle_invd(struct vcpu *vcpu, const struct vmx_exit *exit)
{
    (void)vcpu;
    (void)exit;
    return invd_exit();
}

static enum exit_action handle_vmcall(struct vcpu *vcpu, const struct vmx_exit *exit)
{
    struct exit_context context;

    (void)exit;
    vmx_exit_context(vcpu, &context);
    return hypercall_exit(vcpu, &context);
}

static enum exit_action handle_xsetbv(struct vcpu *vcpu, const struct vmx_exit *exit)
{
    struct exit_context context;

    (void)exit;
    vmx_exit_context(vcpu, &context);
    return xsetbv_exit(vcpu, &context);
}

static enum exit_action handle_rdmsr(struct vcpu *vcpu, const struct vmx_exit *exit)
{
    (void)exit;
    return rdmsr_exit(vcpu);
}

static enum exit_action handle_wrmsr(struct vcpu *vcpu, const struct vmx_exit *exit)
{
    (void)exit;
    return wrmsr_exit(vcpu);
}

static enum exit_action handle_control_register(struct vcpu *vcpu, const struct vmx_exit *exit)
{
    return vmx_control_register_exit(vcpu, exit->qualification);
}

/* --- events
 * -------------------------------------------------------------------------------------------------------- */

static enum exit_action handle_exception_or_nmi(struct vcpu *vcpu, const struct vmx_exit *exit)
{
    if ((vmread(VMCS_EXIT_INTERRUPTION) & INTERRUPTION_TYPE) != INTERRUPTION_NMI)
        return handle_unexpected(vcpu, exit);
    vmx_nmi_exit(vcpu);
    return EXIT_RESUME;
}

static enum exit_action handle_nmi_window(struct vcpu *vcpu, const struct vmx_exit *exit)
{
    (void)exit;
    vmx_nmi_window_exit(vcpu);
    return EXIT_RESUME;
}

/* An access to Umbra's own memory that was still to be stepped over is forgotten with all else. */
static void reset_vcpu(struct vcpu *vcpu, const struct start_state *start)
{
    vmx_set_single_step(vcpu, false);
    violation_step_done(vcpu);
    vmx_guest_state_reset(vcpu, start);
}

/* The boot CPU starts at the reset vector; all others wait for a SIPI (SDM vol. 3A 9.4). */
static enum exit_action handle_init(struct vcpu *vcpu, const struct vmx_exit *exit)
{
    struct start_state start;

    log_info("INIT for CPU %u at %lx", vcpu->index, exit->rip);
    start_state_init(&start);
    reset_vcpu(vcpu, &start);
    if (vcpu->index != 0)
        vmwrite(VMCS_GUEST_ACTIVITY, ACTIVITY_WAIT_FOR_SIPI);
    return EXIT_RESUME;
}

static enum exit_action handle_sipi(struct vcpu *vcpu, const struct vmx_exit *exit)
{
    struct start_state start;

    start_state_sipi(&start, (u8)exit->qualification);
    reset_vcpu(vcpu, &start);
    return EXIT_RESUME;
}

/* --- second-level translation
 * -------------------------------------------------------------------------------------- */

/*
 * MBEC judges a fetch by U/S of the linear address's page, not by CPL; only advanced information tells it,
 * and only for the final translation.
 */
static unsigned fetch_access(u64 qualification)
{
    const u64 final = VIOLATION_LINEAR_VALID | VIOLATION_FINAL;

    if ((vmx_capability.ept_vpid & EPT_ADVANCED_INFORMATION) == 0 || (qualification & final) != final)
        return TDP_XS | TDP_XU;
    return (qualification & VIOLATION_USER_PAGE) != 0 ? TDP_XU : TDP_XS;
}

static unsigned attempted_access(u64 qualification)
{
    unsigned access = 0;

    if ((qualification & VIOLATION_READ) != 0)
        access |= TDP_R;
    if ((qualification & VIOLATION_WRITE) != 0)
        access |= TDP_W;
    if ((qualification & VIOLATION_FETCH) != 0)
        access |= fetch_access(qualification);
    return access;
}

/*
 * The event whose delivery was interrupted is redone by the next entry, also one that steps: then the step is
 * the delivery. If the interrupted instruction was an IRET that had unblocked NMIs, it is executed again and
 * needs them blocked. A fetch, the only violation that ends in an exception of its own, never happens during
 * a delivery.
 */
static void restore_events(u64 qualification)
{
    if (!vmx_resume_delivery() && (qualification & VIOLATION_NMI_UNBLOCKED) != 0)
        vmwrite(VMCS_GUEST_INTERRUPTIBILITY, vmread(VMCS_GUEST_INTERRUPTIBILITY) | BLOCKING_BY_NMI);
}

static enum exit_action handle_violation(struct vcpu *vcpu, const struct vmx_exit *exit)
{
    u64 qualification = exit->qualification;
    struct violation violation = {
        .gpa = gpa(vmread(VMCS_GUEST_PHYSICAL_ADDRESS)),
        .gva_valid = (qualification & VIOLATION_LINEAR_VALID) != 0,
        .access = attempted_access(qualification),
        .raw = qualification,
    };
    struct exit_context context;

    if (violation.gva_valid)
        violation.gva = gva(vmread(VMCS_GUEST_LINEAR_ADDRESS));
    restore_events(qualification);
    vmx_exit_context(vcpu, &context);
    return violation_exit(vcpu, &violation, &context);
}

/*
 * The one instruction, or the delivery of one event, of EXIT_STEP is over. The guest's own debugging is not
 * disturbed: this exit comes before the debug trap of the same instruction, which the CPU has saved as a
 * pending debug exception and takes at the next entry (SDM vol. 3C 26.5.2). An interrupt or NMI may have been
 * delivered in place of the instruction; it then comes back after its handler, and violates again.
 */
static enum exit_action handle_monitor_trap_flag(struct vcpu *vcpu, const struct vmx_exit *exit)
{
    (void)exit;
    vmx_set_single_step(vcpu, false);
    violation_step_done(vcpu);
    return EXIT_RESUME;
}

/* --- the table
 * ----------------------------------------------------------------------------------------------------- */

static const struct exit_row exit_table[EXIT_REASONS] = {
    [REASON_EXCEPTION_OR_NMI] = {"Exception or NMI", handle_exception_or_nmi, false},
    [REASON_EXTERNAL_INTERRUPT] = {"External interrupt", handle_unexpected, false},
    [REASON_TRIPLE_FAULT] = {"Triple fault", handle_triple_fault, false},
    [REASON_INIT] = {"INIT signal", handle_init, false},
    [REASON_SIPI] = {"Start-up IPI", handle_sipi, true},
    [REASON_IO_SMI] = {"I/O system-management interrupt", handle_unexpected, false},
    [REASON_OTHER_SMI] = {"Other SMI", handle_unexpected, false},
    [REASON_INTERRUPT_WINDOW] = {"Interrupt window", handle_unexpected, false},
    [REASON_NMI_WINDOW] = {"NMI window", handle_nmi_window, false},
    [REASON_TASK_SWITCH] = {"Task switch", handle_task_switch, true},
    [REASON_CPUID] = {"CPUID", handle_cpuid, false},
    [REASON_GETSEC] = {"GETSEC", handle_hidden, false},
    [REASON_HLT] = {"HLT", handle_unexpected, false},
    [REASON_INVD] = {"INVD", handle_invd, false},
    [REASON_INVLPG] = {"INVLPG", handle_unexpected, true},
    [REASON_RDPMC] = {"RDPMC", handle_unexpected, false},
    [REASON_RDTSC] = {"RDTSC", handle_unexpected, false},
    [REASON_RSM] = {"RSM", handle_unexpected, false},
    [REASON_VMCALL] = {"VMCALL", handle_vmcall, false},
    [REASON_VMCLEAR] = {"VMCLEAR", handle_hidden, false},
    [REASON_VMLAUNCH] = {"VMLAUNCH", handle_hidden, false},
    [REASON_VMPTRLD] = {"VMPTRLD", handle_hidden, false},
    [REASON_VMPTRST] = {"VMPTRST", handle_hidden, false},
    [REASON_VMREAD] = {"VMREAD", handle_hidden, false},
    [REASON_VMRESUME] = {"VMRESUME", handle_hidden, false},
    [REASON_VMWRITE] = {"VMWRITE", handle_hidden, false},
    [REASON_VMXOFF] = {"VMXOFF", handle_hidden, false},
    [REASON_VMXON] = {"VMXON", handle_hidden, false},
    [REASON_CONTROL_REGISTER] = {"Control-register accesses", handle_control_register, true},
    [REASON_MOV_DR] = {"MOV DR", handle_unexpected, true},
    [REASON_IO] = {"I/O instruction", handle_unexpected, true},
    [REASON_RDMSR] = {"RDMSR", handle_rdmsr, false},
    [REASON_WRMSR] = {"WRMSR", handle_wrmsr, false},
    [REASON_ENTRY_GUEST_STATE] = {"VM-entry failure due to invalid guest state", handle_unexpected, true},
    [REASON_ENTRY_MSR_LOADING] = {"VM-entry failure due to MSR loading", handle_unexpected, true},
    [35] = {"reserved (35)", handle_unexpected, true},
    [REASON_MWAIT] = {"MWAIT", handle_unexpected, true},
    [REASON_MONITOR_TRAP_FLAG] = {"Monitor trap flag", handle_monitor_trap_flag, false},
    [38] = {"reserved (38)", handle_unexpected, true},
    [REASON_MONITOR] = {"MONITOR", handle_unexpected, false},
    [REASON_PAUSE] = {"PAUSE", handle_unexpected, false},
    [REASON_ENTRY_MACHINE_CHECK] = {"VM-entry failure due to machine-check event", handle_unexpected, true},
    [42] = {"reserved (42)", handle_unexpected, true},
    [REASON_TPR_BELOW_THRESHOLD] = {"TPR below threshold", handle_unexpected, false},
    [REASON_APIC_ACCESS] = {"APIC access", handle_unexpected, true},
    [REASON_VIRTUALIZED_EOI] = {"Virtualized EOI", handle_unexpected, true},
    [REASON_GDTR_IDTR] = {"Access to GDTR or IDTR", handle_unexpected, true},
    [REASON_LDTR_TR] = {"Access to LDTR or TR", handle_unexpected, true},
    [REASON_EPT_VIOLATION] = {"EPT violation", handle_violation, true},
    [REASON_EPT_MISCONFIGURATION] = {"EPT misconfiguration", handle_misconfiguration, false},
    [REASON_INVEPT] = {"INVEPT", handle_hidden, false},
    [REASON_RDTSCP] = {"RDTSCP", handle_unexpected, false},
    [REASON_PREEMPTION_TIMER] = {"VMX-preemption timer expired", handle_unexpected, false},
    [REASON_INVVPID] = {"INVVPID", handle_hidden, false},
    [REASON_WBINVD] = {"WBINVD or WBNOINVD", handle_unexpected, false},
    [REASON_XSETBV] = {"XSETBV", handle_xsetbv, false},
    [REASON_APIC_WRITE] = {"APIC write", handle_unexpected, true},
    [REASON_RDRAND] = {"RDRAND", handle_unexpected, false},
    [REASON_INVPCID] = {"INVPCID", handle_unexpected, true},
    [REASON_VMFUNC] = {"VMFUNC", handle_hidden, false},
    [REASON_ENCLS] = {"ENCLS", handle_unexpected, false},
    [REASON_RDSEED] = {"RDSEED", handle_unexpected, false},
    [REASON_PML_FULL] = {"Page-modification log full", handle_unexpected, true},
    [REASON_XSAVES] = {"XSAVES", handle_unexpected, true},
    [REASON_XRSTORS] = {"XRSTORS", handle_unexpected, true},
    [REASON_PCONFIG] = {"PCONFIG", handle_unexpected, false},
    [REASON_SPP] = {"SPP-related event", handle_unexpected, true},
    [REASON_UMWAIT] = {"UMWAIT", handle_unexpected, false},
    [REASON_TPAUSE] = {"TPAUSE", handle_unexpected, false},
    [REASON_LOADIWKEY] = {"LOADIWKEY", handle_unexpected, false},
    [REASON_ENCLV] = {"ENCLV", handle_unexpected, false},
    [71] = {"reserved (71)", handle_unexpected, true},
    [REASON_ENQCMD_PASID] = {"ENQCMD PASID translation failure", handle_unexpected, false},
    [REASON_ENQCMDS_PASID] = {"ENQCMDS PASID translation failure", handle_unexpected, false},
    [REASON_BUS_LOCK] = {"Bus lock", handle_unexpected, false},
    [REASON_INSTRUCTION_TIMEOUT] = {"Instruction timeout", handle_unexpected, true},
    [REASON_SEAMCALL] = {"SEAMCALL", handle_hidden, false},
    [REASON_TDCALL] = {"TDCALL", handle_hidden, false},
    [REASON_RDMSRLIST] = {"RDMSRLIST", handle_unexpected, true},
    [REASON_WRMSRLIST] = {"WRMSRLIST", handle_unexpected, true},
};

_Static_assert((unsigned)EXIT_REASONS <= (unsigned)ACCOUNTING_REASONS,
               "a basic exit reason is the accounting's index");

const char *vmx_reason_name(u32 reason)
{
    return reason < EXIT_REASONS ? exit_table[reason].name : "unknown";
}

/* --- the way through
 * ------------------------------------------------------------------------------------------------ */

/* Exits that are no exits, and reasons beyond the table. */
static _Noreturn void strange_exit(u64 reason)
{
    u64 qualification = vmread(VMCS_EXIT_QUALIFICATION);

    if ((reason & EXIT_REASON_ENTRY_FAILURE) != 0) {
        u64 basic = reason & BITS(15, 0);
        fatal("VM entry failed: \"%s\" (reason %lu, qualification %lx)", vmx_reason_name((u32)basic), basic,
              qualification);
    }
    fatal("VM exit with the unknown reason %lx, qualification %lx, at %lx", reason, qualification,
          vmread(VMCS_GUEST_RIP));
}

/* What an exit leaves to do but for the common case. */
static void finish_exit(struct vcpu *vcpu, enum exit_action action)
{
    switch (action) {
    case EXIT_RESUME:
    case EXIT_SKIP:
        break;
    case EXIT_UD:
        vmx_inject_exception(EXC_UD, false, 0);
        break;
    case EXIT_GP:
        vmx_inject_exception(EXC_GP, true, 0);
        break;
    case EXIT_STEP:
        vmx_set_single_step(vcpu, true);
        break;
    }
}

void vmx_exit(struct vcpu *vcpu)
{
    struct vmx_exit exit = {.reason = vmread(VMCS_EXIT_REASON)};

    if (__builtin_expect(exit.reason >= EXIT_REASONS, false))
        strange_exit(exit.reason);
    const struct exit_row *row = &exit_table[exit.reason];
    exit.rip = vmread(VMCS_GUEST_RIP);
    if (row->qualified)
        exit.qualification = vmread(VMCS_EXIT_QUALIFICATION);
    account_exit(&vcpu->accounting, (u32)exit.reason, read_tsc(), exit.rip, exit.qualification);

    enum exit_action action = row->handle(vcpu, &exit);
    if (__builtin_expect(action == EXIT_SKIP, true))
        vmx_skip_instruction(exit.rip);
    else
        finish_exit(vcpu, action);
    if (__builtin_expect(machine.tdp.flush_pending, false))
        vmx_flush_tdp(vcpu);
}

void vmx_entry_failed(struct vcpu *vcpu, bool valid)
{
    (void)vcpu;
    if (!valid)
        fatal("VM entry failed: there is no current VMCS (VMfailInvalid); a bug in Umbra");
    u64 error = vmread(VMCS_INSTRUCTION_ERROR);
    fatal("VM entry failed: VM-instruction error %lu, \"%s\"; a bug in Umbra or in the hypervisor below",
          error, vmx_instruction_error_name(error));
}
