/* SPDX-License-Identifier: MIT */
/*
 * From the exit code to its handler, and what the handler's answer does to the guest's instruction. Each
 * handled exit has one function; an exit without one ends in a report, since Umbra asked for no such
 * intercept.
 */
#include "arch/cpu.h"
#include "arch/msr.h"
#include "arch/print.h"
#include "arch/reset.h"
#include "drivers/local-apic.h"
#include "mm/memmap.h"
#include "svm/capability.h"
#include "svm/efer.h"
#include "svm/event.h"
#include "svm/exit-name.h"
#include "svm/halt.h"
#include "svm/instruction.h"
#include "svm/nmi.h"
#include "svm/npf.h"
#include "svm/startup.h"
#include "svm/step.h"
#include "vcpu/cpuid.h"
#include "vcpu/nested.h"
#include "vcpu/shootdown.h"

typedef enum exit_action exit_handler(struct svm_vcpu *svm);

void svm_guest_shutdown(struct svm_vcpu *svm, const char *reason)
{
    const struct vmcb_save *save = &svm->vmcb->save;

    log_quiet(false);
    log_error("guest triple fault at %04x:%016lx: %s", save->cs.selector, save->rip, reason);
    svm_dump(svm->vcpu);
    vcpu_report(svm->vcpu);
    log_error("the machine is reset, as it would have been without Umbra");
    machine_reset();
}

static enum exit_action exit_cpuid(struct svm_vcpu *svm)
{
    if (!svm_find_next_rip(svm, SVM_INSTRUCTION_CPUID))
        return EXIT_RESUME;
    return cpuid_exit(svm->vcpu, svm->vmcb->save.cr4);
}

static enum exit_action read_efer(struct svm_vcpu *svm)
{
    u64 efer = svm_efer_visible(svm->vmcb->save.efer);

    if (svm->l1_svme)
        efer |= EFER_SVME;
    svm->vcpu->gpr[GPR_RAX] = (u32)efer;
    svm->vcpu->gpr[GPR_RDX] = efer >> 32;
    return EXIT_SKIP;
}

static u64 edx_eax(const struct vcpu *vcpu)
{
    return vcpu->gpr[GPR_RDX] << 32 | (u32)vcpu->gpr[GPR_RAX];
}

static enum exit_action write_efer(struct svm_vcpu *svm)
{
    struct vmcb_save *save = &svm->vmcb->save;
    u64 wanted = edx_eax(svm->vcpu);
    u64 svme = machine.nested ? wanted & EFER_SVME : 0;

    if (!svm_efer_write(save->efer, wanted & ~svme, save->cr0, svm->efer_writable, &save->efer))
        return EXIT_GP;
    /* L2 keeps it whatever it writes, since VMRUN wants it set: what would happen is undefined (15.4). */
    if (machine.nested && !svm->vcpu->l2_running)
        svm_set_l1_svme(svm, svme != 0);
    svm_changed(svm, CLEAN_CRX);
    /* WRMSR would have dropped translations that were made under the old NXE; VMRUN alone does not. */
    svm_flush_guest(svm);
    return EXIT_SKIP;
}

static enum exit_action exit_msr(struct svm_vcpu *svm)
{
    bool write = svm->vmcb->control.exit_info_1 != 0;
    bool efer = (u32)svm->vcpu->gpr[GPR_RCX] == MSR_EFER;

    if (!svm_find_next_rip(svm, write ? SVM_INSTRUCTION_WRMSR : SVM_INSTRUCTION_RDMSR))
        return EXIT_RESUME;
    /* EFER is in the VMCB and thus not the neutral policy's. */
    if (efer)
        return write ? write_efer(svm) : read_efer(svm);
    if (write && (u32)svm->vcpu->gpr[GPR_RCX] == MSR_X2APIC_ICR && machine.cpus > 1)
        return svm_startup_write_msr(edx_eax(svm->vcpu)) ? EXIT_SKIP : EXIT_GP;
    return write ? wrmsr_exit(svm->vcpu) : rdmsr_exit(svm->vcpu);
}

static enum exit_action exit_xsetbv(struct svm_vcpu *svm)
{
    struct exit_context context = svm_context(svm);

    if (!svm_find_next_rip(svm, SVM_INSTRUCTION_XSETBV))
        return EXIT_RESUME;
    return xsetbv_exit(svm->vcpu, &context);
}

static enum exit_action exit_invd(struct svm_vcpu *svm)
{
    /* The CPU checks CPL before the intercept; QEMU's TCG does not check it at all. */
    if (svm->vmcb->save.cpl != 0)
        return EXIT_GP;
    if (!svm_find_next_rip(svm, SVM_INSTRUCTION_INVD))
        return EXIT_RESUME;
    return invd_exit();
}

static enum exit_action exit_vmmcall(struct svm_vcpu *svm)
{
    struct exit_context context = svm_context(svm);

    if (!svm_find_next_rip(svm, SVM_INSTRUCTION_VMMCALL))
        return EXIT_RESUME;
    return hypercall_exit(svm->vcpu, &context);
}

/* With SVM hidden, or switched off by the guest, these opcodes are undefined. */
static enum exit_action exit_svm_instruction(struct svm_vcpu *svm)
{
    if (!svm->l1_svme)
        return EXIT_UD;
    return nested_hooks->instruction(svm->vcpu, (u32)svm->vmcb->control.exit_code);
}

/* SKINIT, which no guest's CPU has. */
static enum exit_action exit_undefined(struct svm_vcpu *svm)
{
    (void)svm;
    return EXIT_UD;
}

/*
 * With EFER.SVME set the CPU checks the CPL of an SVM instruction, and the address in its RAX, before the
 * intercept; without SVM it never gets that far, because #UD comes first. Those checks raise #GP(0) and
 * interrupt no event delivery. (With EFER.SVME set for the guest, too, #GP is intercepted only while another
 * exception is being delivered, and it is right.)
 */
static enum exit_action exit_general_protection(struct svm_vcpu *svm)
{
    const struct vmcb_control *control = &svm->vmcb->control;
    struct instruction decoded;

    if (!svm->l1_svme && control->exit_info_1 == 0 && (control->exit_int_info & EVENT_VALID) == 0 &&
        svm_fetch_instruction(svm, &decoded) && svm_instruction_needs_svm(&decoded))
        return EXIT_UD;
    svm_event_raise(svm, EXC_GP, (u32)control->exit_info_1);
    return EXIT_RESUME;
}

static enum exit_action exit_second_exception(struct svm_vcpu *svm)
{
    svm_event_second_exception(svm, (unsigned)(svm->vmcb->control.exit_code - VMEXIT_EXCP0));
    return EXIT_RESUME;
}

static enum exit_action exit_shutdown(struct svm_vcpu *svm)
{
    svm_guest_shutdown(svm, "an exception during the delivery of #DF");
}

enum exit_action svm_deliver_held(struct svm_vcpu *svm)
{
    if (svm->init_pending && !svm_gif_is_clear(svm))
        svm_guest_init(svm);
    return svm_nmi_deliver(svm);
}

/* What the exit is for is still pending. NMIs are asked for while GIF is 0, and where there are several CPUs.
 */
static enum exit_action exit_init_or_nmi(struct svm_vcpu *svm)
{
    svm_take_events(svm);
    return svm_deliver_held(svm);
}

static enum exit_action exit_iret(struct svm_vcpu *svm)
{
    return svm_nmi_iret(svm);
}

void svm_guest_init(struct svm_vcpu *svm)
{
    struct start_state start = {0};

    svm->init_pending = false;
    if (svm->init_is_sx) {
        svm_event_init_redirected(svm);
        return;
    }
    svm_set_l1_svme(svm, false);
    svm_nmi_reset(svm);
    start_state_init(&start);
    svm_load_start(svm, &start);
    /* Not done by the CPU, which has taken #SX instead. */
    local_apic_reset();
    if (svm->vcpu->index != 0) {
        svm_startup_wait_begins(svm);
        svm_startup_wait(svm);
    }
}

enum exit_action svm_violation(struct svm_vcpu *svm, const struct violation *violation)
{
    struct exit_context context = svm_context(svm);
    enum exit_action action;

    if (!svm_startup_write_page(svm, violation, &action))
        action = violation_exit(svm->vcpu, violation, &context);
    if (action == EXIT_STEP && !svm->vcpu->l2_running && svm_step_is_impossible(svm)) {
        violation_step_done(svm->vcpu);
        svm_startup_step_done(svm);
        svm_guest_shutdown(svm, "an event is delivered through memory that the guest does not have");
    }
    return action;
}

/* Virtual VMLOAD or VMSAVE of what is no RAM of L1's: refused, as where Umbra executes them. */
static bool is_vmload_of_no_memory(struct svm_vcpu *svm, gpa_t address)
{
    struct instruction decoded;

    return svm->l1_svme && svm_features.virtual_vmload && !svm->vcpu->l2_running &&
           !memmap_guest_owns(address, 1) && svm_fetch_instruction(svm, &decoded) &&
           (svm_instruction_is(&decoded, SVM_INSTRUCTION_VMLOAD) ||
            svm_instruction_is(&decoded, SVM_INSTRUCTION_VMSAVE));
}

static enum exit_action exit_npf(struct svm_vcpu *svm)
{
    const struct vmcb_control *control = &svm->vmcb->control;
    struct violation violation = {
        .gpa = gpa(control->exit_info_2),
        .access = svm_npf_access(control->exit_info_1, svm->vmcb->save.cpl, machine.mode_based_execute),
        .raw = control->exit_info_1,
    };

    if ((violation.raw & NPF_RESERVED) != 0)
        fatal("nested paging met a reserved bit in Umbra's own tables at guest-physical %lx (EXITINFO1 %lx): "
              "a bug of Umbra's, please report it",
              violation.gpa.raw, violation.raw);
    if (is_vmload_of_no_memory(svm, violation.gpa))
        return EXIT_GP;
    return svm_violation(svm, &violation);
}

/*
 * A real CPU says VMEXIT_INVALID for a VMCB that VMRUN refuses: Umbra's own fault. QEMU's TCG says it also
 * when the guest sets a reserved bit of CR3 or CR4, which is #GP(0).
 */
static enum exit_action exit_invalid(struct svm_vcpu *svm)
{
    struct instruction decoded;

    if ((svm->vmcb->control.exit_int_info & EVENT_VALID) == 0 && svm_fetch_instruction(svm, &decoded) &&
        svm_instruction_moves_to_paging_cr(&decoded))
        return EXIT_GP;
    fatal("VMRUN refused the VMCB (VMEXIT_INVALID): a bug of Umbra's, please report it");
}

static exit_handler *const handlers[SVM_EXIT_COUNT] = {
    [VMEXIT_EXCP0 + EXC_TS] = exit_second_exception,
    [VMEXIT_EXCP0 + EXC_NP] = exit_second_exception,
    [VMEXIT_EXCP0 + EXC_SS] = exit_second_exception,
    [VMEXIT_EXCP0 + EXC_PF] = exit_second_exception,
    [VMEXIT_EXCP0 + EXC_CP] = exit_second_exception,
    [VMEXIT_EXCP0 + EXC_GP] = exit_general_protection,
    [VMEXIT_NMI] = exit_init_or_nmi,
    [VMEXIT_INIT] = exit_init_or_nmi,
    [VMEXIT_CPUID] = exit_cpuid,
    [VMEXIT_IRET] = exit_iret,
    [VMEXIT_INVD] = exit_invd,
    [VMEXIT_HLT] = svm_halt,
    [VMEXIT_INVLPGA] = exit_svm_instruction,
    [VMEXIT_MSR] = exit_msr,
    [VMEXIT_SHUTDOWN] = exit_shutdown,
    [VMEXIT_VMRUN] = exit_svm_instruction,
    [VMEXIT_VMMCALL] = exit_vmmcall,
    [VMEXIT_VMLOAD] = exit_svm_instruction,
    [VMEXIT_VMSAVE] = exit_svm_instruction,
    [VMEXIT_STGI] = exit_svm_instruction,
    [VMEXIT_CLGI] = exit_svm_instruction,
    [VMEXIT_SKINIT] = exit_undefined,
    [VMEXIT_XSETBV] = exit_xsetbv,
    [SVM_EXIT_NPF] = exit_npf,
    [SVM_EXIT_INVALID] = exit_invalid,
};

enum exit_action svm_handle(struct svm_vcpu *svm, u32 index)
{
    exit_handler *handler = handlers[index];

    if (handler != NULL)
        return handler(svm);
    fatal("exit %s (%lx), which Umbra did not ask for and cannot handle", svm_exit_name(index),
          svm->vmcb->control.exit_code);
}

static void apply(struct svm_vcpu *svm, enum exit_action action)
{
    switch (action) {
    case EXIT_RESUME:
        break;
    case EXIT_SKIP:
        svm_skip_to(svm, svm->next_rip);
        break;
    case EXIT_UD:
        svm_step_cancel(svm);
        svm_event_raise(svm, EXC_UD, 0);
        break;
    case EXIT_GP:
        svm_step_cancel(svm);
        svm_event_raise(svm, EXC_GP, 0);
        break;
    case EXIT_STEP:
        svm_step_begin(svm);
        break;
    }
}

/* Everything but a further violation ends a step, and most of it undoes the step first. */
static void exit_during_step(struct svm_vcpu *svm, u32 index)
{
    if (index >= VMEXIT_EXCP0 && index < VMEXIT_EXCP0 + 32) {
        svm_step_exception(svm, index - VMEXIT_EXCP0);
        return;
    }
    if (index == VMEXIT_NMI) {
        svm_step_exception(svm, EXC_NMI);
        return;
    }
    if (index != SVM_EXIT_NPF || (svm->vmcb->control.exit_int_info & EVENT_VALID) != 0)
        svm_step_cancel(svm);
    apply(svm, svm_handle(svm, index));
}

static void flush(struct vmcb *vmcb)
{
    /* Not to take a flush of everything back. */
    if (vmcb->control.tlb_control == TLB_CONTROL_NOTHING)
        vmcb->control.tlb_control =
            svm_features.flush_by_asid ? TLB_CONTROL_FLUSH_GUEST : TLB_CONTROL_FLUSH_ALL;
}

void svm_flush_guest(struct svm_vcpu *svm)
{
    flush(svm->vmcb);
}

void svm_flush_l1(struct svm_vcpu *svm)
{
    flush(svm->vmcb01);
}

/* No guest instruction runs between here and the flush. */
void svm_flush_guests(struct vcpu *vcpu)
{
    struct svm_vcpu *svm = svm_of(vcpu);

    svm_startup_look_for_missed();
    svm_flush_guest(svm);
    /* L2's ASIDs hold translations by Umbra's tables, too. */
    if (machine.nested)
        svm->vmcb->control.tlb_control = TLB_CONTROL_FLUSH_ALL;
}

void svm_flush_changes(struct svm_vcpu *svm)
{
    if (machine.tdp.flush_pending)
        shootdown_if_pending(svm->vcpu);
}

static void end_exit(struct svm_vcpu *svm)
{
    svm_flush_changes(svm);
    svm->vmcb->save.rax = svm->vcpu->gpr[GPR_RAX];
}

__attribute__((noinline)) void svm_exit_general(struct svm_vcpu *svm, u32 index)
{
    u64 in_flight = svm->vmcb->control.exit_int_info;

    if ((svm->unusual & SVM_WATCHING) != 0)
        svm_event_delivery_over(svm);
    if ((in_flight & EVENT_VALID) != 0)
        svm_event_inject(svm, svm_event_reinjection(in_flight));

    if ((svm->unusual & SVM_STEPPING) != 0)
        exit_during_step(svm, index);
    else
        apply(svm, svm_handle(svm, index));

    end_exit(svm);
}

/* `index` is the exit's. */
static inline void begin_exit(struct vcpu *vcpu, const struct svm_vcpu *svm, u32 index)
{
    struct vmcb *vmcb = svm->vmcb;

    vcpu->gpr[GPR_RAX] = vmcb->save.rax;
    vmcb->control.clean = svm->clean;
    vmcb->control.tlb_control = TLB_CONTROL_NOTHING;
    account_exit(&vcpu->accounting, index, read_tsc(), vmcb->save.rip, vmcb->control.exit_info_1);
}

void svm_l2_exit_ends(struct svm_vcpu *svm, enum exit_action action)
{
    apply(svm, action);
    end_exit(svm);
}

void svm_l2_exit(struct vcpu *vcpu)
{
    const struct svm_vcpu *svm = svm_of(vcpu);
    u32 index = svm_exit_index(svm->vmcb->control.exit_code);

    begin_exit(vcpu, svm, index);
    nested_hooks->svm_l2_exit(vcpu, index);
}

/*
 * The one exit whose length a guest notices; it interrupts no event delivery and changes no tables. Most
 * leaves are the CPU's own.
 */
static void exit_by_cpuid(struct vcpu *vcpu, struct svm_vcpu *svm)
{
    struct vmcb *vmcb = svm->vmcb;
    u64 next_rip = svm_features.nrip_save ? vmcb->control.n_rip : vmcb->save.rip + 2;
    u32 leaf = (u32)vmcb->save.rax;

    if (cpuid_is_corrected(leaf) ||
        (!svm_features.nrip_save && !svm_is_known_site(svm, SVM_INSTRUCTION_CPUID))) {
        svm_exit_general(svm, VMEXIT_CPUID);
        return;
    }
    struct cpuid_regs regs = cpuid(leaf, (u32)vcpu->gpr[GPR_RCX]);
    vmcb->save.rax = regs.eax;
    vcpu->gpr[GPR_RBX] = regs.ebx;
    vcpu->gpr[GPR_RCX] = regs.ecx;
    vcpu->gpr[GPR_RDX] = regs.edx;
    svm_skip_to(svm, next_rip);
}

/* Of a high number, or unknown: a function of its own, so that the others need no stack. */
static __attribute__((noinline)) void exit_beyond(struct vcpu *vcpu, struct svm_vcpu *svm)
{
    u32 index = svm_exit_index_slow(svm->vmcb->control.exit_code);

    begin_exit(vcpu, svm, index);
    svm_exit_general(svm, index);
}

void svm_exit(struct vcpu *vcpu)
{
    struct svm_vcpu *svm = svm_of(vcpu);
    u64 code = svm->vmcb->control.exit_code;

    if (__builtin_expect(code >= SVM_EXIT_DENSE, 0)) {
        exit_beyond(vcpu, svm);
        return;
    }
    u32 index = (u32)code;
    begin_exit(vcpu, svm, index);
    if (__builtin_expect(svm->unusual == 0, 1)) {
        if (index == VMEXIT_CPUID) {
            exit_by_cpuid(vcpu, svm);
            return;
        }
        if (index - VMEXIT_VMRUN < NESTED_SVM_L1_EXITS && svm->l1_svme) {
            nested_hooks->svm_l1_exit[index - VMEXIT_VMRUN](vcpu);
            return;
        }
    }
    svm_exit_general(svm, index);
}
