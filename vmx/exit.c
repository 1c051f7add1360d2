/* SPDX-License-Identifier: MIT */
/*
 * What Umbra does at each VM exit: one table of all reasons with the manual's names, one handler for each
 * that a guest can cause, and the end of the guest's instruction. Source: SDM vol. 3C ch. 28, vol. 3D
 * appendix C.
 */
#include "arch/cpu.h"
#include "arch/print.h"
#include "arch/reset.h"
#include "drivers/local-apic.h"
#include "mm/fault.h"
#include "vcpu/nested.h"
#include "vcpu/shootdown.h"
#include "vmx/capability.h"
#include "vmx/exit-reason.h"
#include "vmx/vmx.h"

struct exit_row {
    const char *name;
    enum exit_action (*handle)(struct vcpu *vcpu);
};

/* --- the end of a report --- */

/* Reads the exit qualification, which the trace gets too: only for reasons to which it says something. */
static u64 exit_qualification(struct vcpu *vcpu)
{
    struct accounting *accounting = &vcpu->accounting;
    u64 qualification = vmread(VMCS_EXIT_QUALIFICATION);

    accounting->ring[(accounting->exits - 1) % ACCOUNTING_RING].qualification = qualification;
    return qualification;
}

static enum exit_action handle_unexpected(struct vcpu *vcpu)
{
    u64 reason = vmread(VMCS_EXIT_REASON);

    fatal("VM exit \"%s\" (reason %lu, qualification %lx) at %lx, which no control of Umbra's asks for",
          vmx_reason_name((u32)reason), reason, exit_qualification(vcpu), vmread(VMCS_GUEST_RIP));
}

static enum exit_action handle_triple_fault(struct vcpu *vcpu)
{
    log_quiet(false);
    log_error("guest triple fault at %lx: the machine is reset, as a CPU's shutdown does",
              vmread(VMCS_GUEST_RIP));
    vmx_dump(vcpu);
    vcpu_report(vcpu);
    machine_reset();
}

static enum exit_action handle_task_switch(struct vcpu *vcpu)
{
    static const char *const sources[] = {"CALL", "IRET", "JMP", "a task gate"};

    u64 qualification = exit_qualification(vcpu);

    fatal("the guest switched to the task of TSS selector %llx by %s at %lx: VMX cannot do that, and Umbra "
          "does not emulate it",
          qualification & BITS(15, 0), sources[qualification >> 30 & 3], vmread(VMCS_GUEST_RIP));
}

static enum exit_action handle_misconfiguration(struct vcpu *vcpu)
{
    u64 address = vmread(VMCS_GUEST_PHYSICAL_ADDRESS);
    struct tdp_leaf leaf = tdp_lookup(&machine.tdp, gpa(address));

    (void)vcpu;
    fatal("EPT misconfiguration at guest-physical %lx (rip %lx): the entry of level %u is %lx, target %lx, "
          "type %u; a bug in Umbra",
          address, vmread(VMCS_GUEST_RIP), leaf.level, leaf.entry, leaf.target, (unsigned)leaf.type);
}

/* --- instructions --- */

static enum exit_action handle_cpuid(struct vcpu *vcpu)
{
    return cpuid_exit(vcpu, vmread_unchecked(VMCS_GUEST_CR4) & CR4_GUEST_OWNED);
}

/* As on a CPU without SMX and what else is hidden. */
static enum exit_action handle_hidden(struct vcpu *vcpu)
{
    (void)vcpu;
    return EXIT_UD;
}

/* As on a CPU without VMX, unless the guest is shown it. */
static enum exit_action handle_vmx_instruction(struct vcpu *vcpu)
{
    if (!machine.nested)
        return EXIT_UD;
    return nested_hooks->instruction(vcpu, (u32)vmread(VMCS_EXIT_REASON));
}

static enum exit_action handle_vmread(struct vcpu *vcpu)
{
    return machine.nested ? nested_hooks->vmread(vcpu) : EXIT_UD;
}

static enum exit_action handle_vmwrite(struct vcpu *vcpu)
{
    return machine.nested ? nested_hooks->vmwrite(vcpu) : EXIT_UD;
}

static enum exit_action handle_vmresume(struct vcpu *vcpu)
{
    return machine.nested ? nested_hooks->vmresume(vcpu) : EXIT_UD;
}

static enum exit_action handle_invept(struct vcpu *vcpu)
{
    return machine.nested ? nested_hooks->invept(vcpu) : EXIT_UD;
}

static enum exit_action handle_invd(struct vcpu *vcpu)
{
    (void)vcpu;
    return invd_exit();
}

static enum exit_action handle_vmcall(struct vcpu *vcpu)
{
    struct exit_context context;

    vmx_exit_context(vcpu, &context);
    enum exit_action action = hypercall_exit(vcpu, &context);
    return action == EXIT_UD ? handle_vmx_instruction(vcpu) : action;
}

static enum exit_action handle_xsetbv(struct vcpu *vcpu)
{
    struct exit_context context;

    vmx_exit_context(vcpu, &context);
    return xsetbv_exit(vcpu, &context);
}

static enum exit_action handle_rdmsr(struct vcpu *vcpu)
{
    return rdmsr_exit(vcpu);
}

static enum exit_action handle_wrmsr(struct vcpu *vcpu)
{
    return wrmsr_exit(vcpu);
}

static enum exit_action handle_control_register(struct vcpu *vcpu)
{
    return vmx_control_register_exit(vcpu, exit_qualification(vcpu));
}

/* --- events --- */

static enum exit_action handle_exception_or_nmi(struct vcpu *vcpu)
{
    if ((vmread(VMCS_EXIT_INTERRUPTION) & INTERRUPTION_TYPE) != INTERRUPTION_NMI)
        return handle_unexpected(vcpu);
    vmx_nmi_exit(vcpu);
    return EXIT_RESUME;
}

static enum exit_action handle_nmi_window(struct vcpu *vcpu)
{
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

/*
 * An INIT that came while the CPU waited for the SIPI does nothing to a CPU that is not in VMX operation.
 * Here it is blocked (SDM vol. 3C 26.2), and may turn up after the SIPI, before the guest's first
 * instruction.
 */
static bool is_stale_init(const struct vcpu *vcpu)
{
    return vmx_of(vcpu)->sipi_exit != 0 && vcpu->accounting.exits == vmx_of(vcpu)->sipi_exit + 1 &&
           vmread(VMCS_GUEST_RIP) == 0;
}

/*
 * The boot CPU starts at the reset vector; all others wait for a SIPI (SDM vol. 3A 9.4). A SIPI is lost from
 * this exit to the next entry, as it is while a CPU carries out the INIT: software waits between the two, and
 * so nothing is logged here (SDM vol. 3A 9.4.4).
 */
static enum exit_action handle_init(struct vcpu *vcpu)
{
    struct start_state start;

    if (is_stale_init(vcpu))
        return EXIT_RESUME;
    if (vmx_of(vcpu)->root_operation) {
        vmx_of(vcpu)->init_pending = true;
        return EXIT_RESUME;
    }
    start_state_init(&start);
    reset_vcpu(vcpu, &start);
    local_apic_reset();
    if (vcpu->index != 0) {
        vmwrite(VMCS_GUEST_ACTIVITY, ACTIVITY_WAIT_FOR_SIPI);
        shootdown_wait_begins(vcpu);
    }
    return EXIT_RESUME;
}

bool vmx_set_root_operation(struct vcpu *vcpu, bool on)
{
    struct vmx_vcpu *v = vmx_of(vcpu);

    v->root_operation = on;
    /* A bit that is kept from now on, or no longer, has its value in the read shadow. */
    vmx_set_guest_cr0(vmx_guest_cr0());
    vmx_write_cr0_mask(vcpu);
    if (on || !v->init_pending)
        return false;
    v->init_pending = false;
    (void)handle_init(vcpu);
    return true;
}

static enum exit_action handle_sipi(struct vcpu *vcpu)
{
    struct start_state start;

    shootdown_wait_ends(vcpu);
    start_state_sipi(&start, (u8)exit_qualification(vcpu));
    vcpu->nmi_pending = false;
    reset_vcpu(vcpu, &start);
    vmx_of(vcpu)->sipi_exit = vcpu->accounting.exits;
    return EXIT_RESUME;
}

/* --- second-level translation --- */

/*
 * MBEC judges a fetch by U/S of the linear address's page, not by CPL; only advanced information tells it,
 * and only for the final translation.
 */
static unsigned fetch_access(u64 qualification)
{
    const u64 final = FAULT_LINEAR_VALID | FAULT_FINAL;

    if ((vmx_capability.ept_vpid & EPT_ADVANCED_INFORMATION) == 0 || (qualification & final) != final)
        return TDP_XS | TDP_XU;
    return (qualification & FAULT_LINEAR_USER) != 0 ? TDP_XU : TDP_XS;
}

static unsigned attempted_access(u64 qualification)
{
    unsigned access = 0;

    if ((qualification & EPT_VIOLATION_READ) != 0)
        access |= TDP_R;
    if ((qualification & EPT_VIOLATION_WRITE) != 0)
        access |= TDP_W;
    if ((qualification & EPT_VIOLATION_FETCH) != 0)
        access |= fetch_access(qualification);
    return access;
}

/*
 * The event whose delivery was interrupted is redone by the next entry, also one that steps: then the step is
 * the delivery. If the interrupted instruction was an IRET that had unblocked NMIs, it is executed again and
 * needs them blocked. A fetch, the only violation that ends in an exception of its own, never happens during
 * a delivery.
 */
void vmx_restore_events(u64 qualification)
{
    bool delivery = (vmread(VMCS_VECTORING) & INTERRUPTION_VALID) != 0;

    if (!delivery && (qualification & FAULT_NMI_UNBLOCKED) == 0)
        return;
    if (!vmx_resume_delivery())
        vmwrite(VMCS_GUEST_INTERRUPTIBILITY, vmread(VMCS_GUEST_INTERRUPTIBILITY) | BLOCKING_BY_NMI);
}

enum exit_action vmx_denied_by_own_map(struct vcpu *vcpu, gpa_t address, unsigned access, u64 qualification)
{
    struct violation violation = {
        .gpa = address,
        .gva_valid = (qualification & FAULT_LINEAR_VALID) != 0,
        .access = access,
        .raw = qualification,
    };
    struct exit_context context;

    if (violation.gva_valid)
        violation.gva = gva(vmread(VMCS_GUEST_LINEAR_ADDRESS));
    vmx_restore_events(qualification);
    vmx_exit_context(vcpu, &context);
    return violation_exit(vcpu, &violation, &context);
}

enum exit_action vmx_violation_exit(struct vcpu *vcpu)
{
    u64 qualification = exit_qualification(vcpu);

    return vmx_denied_by_own_map(vcpu, gpa(vmread(VMCS_GUEST_PHYSICAL_ADDRESS)),
                                 attempted_access(qualification), qualification);
}

/*
 * The one instruction, or the delivery of one event, of EXIT_STEP is over. The guest's own debugging is not
 * disturbed: this exit comes before the debug trap of the same instruction, which the CPU has saved as a
 * pending debug exception and takes at the next entry (SDM vol. 3C 26.5.2). An interrupt or NMI may have been
 * delivered in place of the instruction; it then comes back after its handler, and violates again.
 */
static enum exit_action handle_monitor_trap_flag(struct vcpu *vcpu)
{
    vmx_set_single_step(vcpu, false);
    violation_step_done(vcpu);
    return EXIT_RESUME;
}

/* --- the table --- */

static const struct exit_row exit_table[EXIT_REASONS] = {
    [REASON_EXCEPTION_OR_NMI] = {"Exception or NMI", handle_exception_or_nmi},
    [REASON_EXTERNAL_INTERRUPT] = {"External interrupt", handle_unexpected},
    [REASON_TRIPLE_FAULT] = {"Triple fault", handle_triple_fault},
    [REASON_INIT] = {"INIT signal", handle_init},
    [REASON_SIPI] = {"Start-up IPI", handle_sipi},
    [REASON_IO_SMI] = {"I/O system-management interrupt", handle_unexpected},
    [REASON_OTHER_SMI] = {"Other SMI", handle_unexpected},
    [REASON_INTERRUPT_WINDOW] = {"Interrupt window", handle_unexpected},
    [REASON_NMI_WINDOW] = {"NMI window", handle_nmi_window},
    [REASON_TASK_SWITCH] = {"Task switch", handle_task_switch},
    [REASON_CPUID] = {"CPUID", handle_cpuid},
    [REASON_GETSEC] = {"GETSEC", handle_hidden},
    [REASON_HLT] = {"HLT", handle_unexpected},
    [REASON_INVD] = {"INVD", handle_invd},
    [REASON_INVLPG] = {"INVLPG", handle_unexpected},
    [REASON_RDPMC] = {"RDPMC", handle_unexpected},
    [REASON_RDTSC] = {"RDTSC", handle_unexpected},
    [REASON_RSM] = {"RSM", handle_unexpected},
    [REASON_VMCALL] = {"VMCALL", handle_vmcall},
    [REASON_VMCLEAR] = {"VMCLEAR", handle_vmx_instruction},
    [REASON_VMLAUNCH] = {"VMLAUNCH", handle_vmx_instruction},
    [REASON_VMPTRLD] = {"VMPTRLD", handle_vmx_instruction},
    [REASON_VMPTRST] = {"VMPTRST", handle_vmx_instruction},
    [REASON_VMREAD] = {"VMREAD", handle_vmread},
    [REASON_VMRESUME] = {"VMRESUME", handle_vmresume},
    [REASON_VMWRITE] = {"VMWRITE", handle_vmwrite},
    [REASON_VMXOFF] = {"VMXOFF", handle_vmx_instruction},
    [REASON_VMXON] = {"VMXON", handle_vmx_instruction},
    [REASON_CONTROL_REGISTER] = {"Control-register accesses", handle_control_register},
    [REASON_MOV_DR] = {"MOV DR", handle_unexpected},
    [REASON_IO] = {"I/O instruction", handle_unexpected},
    [REASON_RDMSR] = {"RDMSR", handle_rdmsr},
    [REASON_WRMSR] = {"WRMSR", handle_wrmsr},
    [REASON_ENTRY_GUEST_STATE] = {"VM-entry failure due to invalid guest state", handle_unexpected},
    [REASON_ENTRY_MSR_LOADING] = {"VM-entry failure due to MSR loading", handle_unexpected},
    [35] = {"reserved (35)", handle_unexpected},
    [REASON_MWAIT] = {"MWAIT", handle_unexpected},
    [REASON_MONITOR_TRAP_FLAG] = {"Monitor trap flag", handle_monitor_trap_flag},
    [38] = {"reserved (38)", handle_unexpected},
    [REASON_MONITOR] = {"MONITOR", handle_unexpected},
    [REASON_PAUSE] = {"PAUSE", handle_unexpected},
    [REASON_ENTRY_MACHINE_CHECK] = {"VM-entry failure due to machine-check event", handle_unexpected},
    [42] = {"reserved (42)", handle_unexpected},
    [REASON_TPR_BELOW_THRESHOLD] = {"TPR below threshold", handle_unexpected},
    [REASON_APIC_ACCESS] = {"APIC access", handle_unexpected},
    [REASON_VIRTUALIZED_EOI] = {"Virtualized EOI", handle_unexpected},
    [REASON_GDTR_IDTR] = {"Access to GDTR or IDTR", handle_unexpected},
    [REASON_LDTR_TR] = {"Access to LDTR or TR", handle_unexpected},
    [REASON_EPT_VIOLATION] = {"EPT violation", vmx_violation_exit},
    [REASON_EPT_MISCONFIGURATION] = {"EPT misconfiguration", handle_misconfiguration},
    [REASON_INVEPT] = {"INVEPT", handle_invept},
    [REASON_RDTSCP] = {"RDTSCP", handle_unexpected},
    [REASON_PREEMPTION_TIMER] = {"VMX-preemption timer expired", handle_unexpected},
    [REASON_INVVPID] = {"INVVPID", handle_vmx_instruction},
    [REASON_WBINVD] = {"WBINVD or WBNOINVD", handle_unexpected},
    [REASON_XSETBV] = {"XSETBV", handle_xsetbv},
    [REASON_APIC_WRITE] = {"APIC write", handle_unexpected},
    [REASON_RDRAND] = {"RDRAND", handle_unexpected},
    [REASON_INVPCID] = {"INVPCID", handle_unexpected},
    [REASON_VMFUNC] = {"VMFUNC", handle_vmx_instruction},
    [REASON_ENCLS] = {"ENCLS", handle_unexpected},
    [REASON_RDSEED] = {"RDSEED", handle_unexpected},
    [REASON_PML_FULL] = {"Page-modification log full", handle_unexpected},
    [REASON_XSAVES] = {"XSAVES", handle_unexpected},
    [REASON_XRSTORS] = {"XRSTORS", handle_unexpected},
    [REASON_PCONFIG] = {"PCONFIG", handle_unexpected},
    [REASON_SPP] = {"SPP-related event", handle_unexpected},
    [REASON_UMWAIT] = {"UMWAIT", handle_unexpected},
    [REASON_TPAUSE] = {"TPAUSE", handle_unexpected},
    [REASON_LOADIWKEY] = {"LOADIWKEY", handle_unexpected},
    [REASON_ENCLV] = {"ENCLV", handle_unexpected},
    [71] = {"reserved (71)", handle_unexpected},
    [REASON_ENQCMD_PASID] = {"ENQCMD PASID translation failure", handle_unexpected},
    [REASON_ENQCMDS_PASID] = {"ENQCMDS PASID translation failure", handle_unexpected},
    [REASON_BUS_LOCK] = {"Bus lock", handle_unexpected},
    [REASON_INSTRUCTION_TIMEOUT] = {"Instruction timeout", handle_unexpected},
    [REASON_SEAMCALL] = {"SEAMCALL", handle_hidden},
    [REASON_TDCALL] = {"TDCALL", handle_hidden},
    [REASON_RDMSRLIST] = {"RDMSRLIST", handle_unexpected},
    [REASON_WRMSRLIST] = {"WRMSRLIST", handle_unexpected},
    [80] = {"reserved (80)", handle_unexpected},
    [81] = {"reserved (81)", handle_unexpected},
    [82] = {"reserved (82)", handle_unexpected},
    [83] = {"reserved (83)", handle_unexpected},
    /* CPUID hides these, but nothing keeps a guest from executing them. */
    [REASON_RDMSR_IMMEDIATE] = {"RDMSR with an immediate operand", handle_hidden},
    [REASON_WRMSRNS_IMMEDIATE] = {"WRMSRNS with an immediate operand", handle_hidden},
};

_Static_assert((unsigned)EXIT_REASONS <= (unsigned)ACCOUNTING_REASONS,
               "a basic exit reason is the accounting's index");

const char *vmx_reason_name(u32 reason)
{
    return reason < EXIT_REASONS ? exit_table[reason].name : "unknown";
}

/* --- the way through --- */

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

/*
 * The instruction of this exit is done. Nearly always RIP is all that changes; an interrupt shadow, RFLAGS.TF
 * or RF, and an instruction at the end of a 4-GByte range need more.
 */
static inline __attribute__((always_inline)) void skip_instruction(u64 rip)
{
    u64 next = rip + vmread_unchecked(VMCS_EXIT_INSTRUCTION_LENGTH);
    u64 shadow = vmread_unchecked(VMCS_GUEST_INTERRUPTIBILITY) & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);
    u64 flags = vmread_unchecked(VMCS_GUEST_RFLAGS) & (RFLAGS_TF | RFLAGS_RF);

    bool carry = (u32)next < (u32)rip;

    if (__builtin_expect((shadow | flags) != 0 || carry, false))
        vmx_skip_special_instruction(next, rip);
    else
        vmwrite_unchecked(VMCS_GUEST_RIP, next);
}

static inline __attribute__((always_inline)) void end_exit(struct vcpu *vcpu, enum exit_action action,
                                                           u64 rip)
{
    if (__builtin_expect(action == EXIT_SKIP, true))
        skip_instruction(rip);
    else if (__builtin_expect(action != EXIT_RESUME, false))
        finish_exit(vcpu, action);
    if (__builtin_expect(machine.tdp.flush_pending, false))
        shootdown_if_pending(vcpu);
}

void vmx_finish_exit(struct vcpu *vcpu, enum exit_action action, u64 rip)
{
    end_exit(vcpu, action, rip);
}

void vmx_exit(struct vcpu *vcpu)
{
    u64 reason = vmread(VMCS_EXIT_REASON);

    if (__builtin_expect(reason >= EXIT_REASONS, false))
        strange_exit(reason);
    u64 rip = vmread_unchecked(VMCS_GUEST_RIP);
    account_exit(&vcpu->accounting, (u32)reason, read_tsc(), rip, 0);
    end_exit(vcpu, exit_table[reason].handle(vcpu), rip);
}

/* Basic exit reasons, a power of two. */
enum { L2_REASONS = 128 };
_Static_assert((unsigned)EXIT_REASONS <= (unsigned)L2_REASONS &&
                   (unsigned)L2_REASONS <= (unsigned)ACCOUNTING_REASONS,
               "the remainder is a basic exit reason's own index");

/*
 * If the hook goes back to L1, the action is EXIT_RESUME, and what is left to do for L1 does not depend on
 * where L2 was.
 */
void vmx_l2_exit(struct vcpu *vcpu)
{
    u32 reason = (u32)vmread(VMCS_EXIT_REASON);
    u64 rip = vmread_unchecked(VMCS_GUEST_RIP);

    account_exit(&vcpu->accounting, reason % L2_REASONS, read_tsc(), rip, 0);
    end_exit(vcpu, nested_hooks->l2_exit(vcpu, reason), rip);
}

void vmx_entry_failed(struct vcpu *vcpu, bool valid)
{
    if (!valid)
        fatal("VM entry failed: there is no current VMCS (VMfailInvalid); a bug in Umbra");
    u64 error = vmread(VMCS_INSTRUCTION_ERROR);
    if (vcpu->l2_running) {
        enum exit_action action = nested_hooks->l2_entry_failed(vcpu, (u32)error);
        vmx_finish_exit(vcpu, action, vmread(VMCS_GUEST_RIP));
        return;
    }
    fatal("VM entry failed: VM-instruction error %lu, \"%s\"; a bug in Umbra or in the hypervisor below",
          error, vmx_instruction_error_name(error));
}
