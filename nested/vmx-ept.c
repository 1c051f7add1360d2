/* SPDX-License-Identifier: MIT */
/*
 * L2's second-level translation: the shadow of L1's EPT, or Umbra's own tables if L1 uses none; what is owed
 * to the TLB before an entry; and the exits that come of it. No answer of hardware reaches L1 but for what
 * only hardware knows of the first stage.
 */
#include "arch/percpu.h"
#include "arch/print.h"
#include "mm/fault.h"
#include "mm/guest-mem.h"
#include "nested/nested.h"
#include "nested/vmx-capability.h"
#include "nested/vmx-check.h"
#include "nested/vmx-vmcs02.h"
#include "vmx/exit-reason.h"

/* EPTP, SDM vol. 3C table 25-9 */
#define EPTP_WRITE_BACK     6ull
#define EPTP_WALK_4         (3ull << 3)
#define EPTP_ACCESSED_DIRTY BIT(6)

static struct shadow *the_shadow;

/* --- what Umbra writes for L1 --- */

void nested_vmx_will_write(gpa_t address, u64 bytes)
{
    shadow_will_write(the_shadow, nested_vmx_shadow_cpu(this_cpu()->vcpu), address, bytes);
}

enum guest_mem_status nested_vmx_write(gpa_t address, const void *src, size_t bytes)
{
    nested_vmx_will_write(address, bytes);
    return guest_write(address, src, bytes);
}

/* --- page-modification logging for L1, SDM vol. 3C 29.3.6 --- */

enum { PML_ENTRIES = 512 };

/* True also if the log's page is not L1's: the entry then goes where all writes to no memory go. */
static bool log_dirty(void *context, l2_gpa_t address, bool dirties)
{
    struct vmcs12 *vmcs12 = &nested_vmx_of(this_cpu()->vcpu)->vmcs12;
    u64 page = align_down(address.raw, PAGE_SIZE);

    (void)context;
    if ((vmcs12_secondary(vmcs12) & SECONDARY_PML) == 0)
        return true;
    if (vmcs12->pml_index >= PML_ENTRIES)
        return false;
    if (!dirties)
        return true;
    gpa_t at = gpa(vmcs12->pml_address + vmcs12->pml_index * sizeof(page));
    vmcs12->pml_index--;
    (void)nested_vmx_write(at, &page, sizeof(page));
    return true;
}

/* --- set-up --- */

static bool advanced_information(void)
{
    return (nested_vmx_msr(&nested_vmx_capability, MSR_IA32_VMX_EPT_VPID_CAP) & EPT_ADVANCED_INFORMATION) !=
           0;
}

/* Not part of nested_vmx_shadow(), which each INVEPT calls. */
static __attribute__((noinline)) struct shadow *make_shadow(void)
{
    struct shadow_config config = nested_shadow_config();

    config.advanced_information = advanced_information();
    config.log_dirty = log_dirty;
    return shadow_init(&config);
}

struct shadow *nested_vmx_shadow(void)
{
    if (the_shadow == NULL)
        the_shadow = make_shadow();
    return the_shadow;
}

/* A CPU that has not come so far yet uses no shadow either. */
void nested_vmx_own_map_changed(struct vcpu *vcpu)
{
    if (the_shadow != NULL && vcpu->nested != NULL)
        shadow_follow_own_map(the_shadow, nested_vmx_shadow_cpu(vcpu));
}

struct shadow_cpu *nested_vmx_shadow_cpu(const struct vcpu *vcpu)
{
    return &vmcs02_state_of(vcpu)->shadow_cpu;
}

void nested_vmx_invalidate_linear(struct vcpu *vcpu, u32 l1_vpid)
{
    struct vmcs02_state *state = vmcs02_state_of(vcpu);

    shadow_invalidate_linear(&state->shadow_cpu, l1_vpid);
    state->unshadowed_flush = true;
}

/* --- before an entry --- */

static void set_translation(const struct vcpu *vcpu, struct vmcs02 *vmcs02, u64 ept_pointer, u16 vpid)
{
    if (vmcs02->ept_pointer != ept_pointer) {
        vmwrite(VMCS_EPT_POINTER, ept_pointer);
        vmcs02->ept_pointer = ept_pointer;
    }
    if (vmx_of(vcpu)->vpid != 0 && vmcs02->vpid != vpid) {
        vmwrite(VMCS_VPID, vpid);
        vmcs02->vpid = vpid;
    }
}

/*
 * One VPID for all L2s that run on Umbra's own tables, flushed whenever another one may have used it: such an
 * L1 shadows page tables itself and flushes far more.
 */
static void use_own_tables(struct vcpu *vcpu, struct vmcs02_state *state, const struct vmcs12 *vmcs12)
{
    struct vmcs02 *vmcs02 = state->active;
    u16 vpid = (u16)(FIRST_L2_VPID + vcpu->index * L2_VPIDS + SHADOW_TAGS);

    if (state->unshadowed_user != vmcs02 || state->unshadowed_vpid != l1_vpid(vmcs12))
        state->unshadowed_flush = true;
    state->unshadowed_user = vmcs02;
    state->unshadowed_vpid = l1_vpid(vmcs12);
    set_translation(vcpu, vmcs02, vmx_of(vcpu)->ept_pointer, vpid);
    if (state->unshadowed_flush && vmx_of(vcpu)->vpid != 0)
        vmx_flush_vpid(vpid);
    state->unshadowed_flush = false;
}

struct shadow_key l2_shadow_key(const struct vmcs12 *vmcs12)
{
    const struct paging_cpu cpu = {
        .maxphyaddr = nested_vmx_capability.maxphyaddr,
        .page_1g = (nested_vmx_msr(&nested_vmx_capability, MSR_IA32_VMX_EPT_VPID_CAP) & EPT_PAGE_1G) != 0,
        .execute_only =
            (nested_vmx_msr(&nested_vmx_capability, MSR_IA32_VMX_EPT_VPID_CAP) & EPT_EXECUTE_ONLY) != 0,
    };
    bool mbec = (vmcs12_secondary(vmcs12) & SECONDARY_MBEC) != 0;

    return (struct shadow_key){
        .pointer = vmcs12->ept_pointer,
        .role = paging_role_ept(&cpu, vmcs12->ept_pointer, mbec, false),
    };
}

/*
 * Whether an access to the APIC-access page is virtualized is cached with its translation: L1 executes INVEPT
 * when that changes (SDM vol. 3C 30.4.5), though its tables, and so the shadow, may have nothing new.
 */
static bool owes_flush_of_apic_access(const struct nested_vmx *nested, struct vmcs02 *vmcs02)
{
    if ((vmcs02->controls[CONTROL_SECONDARY] & SECONDARY_APIC_ACCESSES) == 0 ||
        vmcs02->invepts == nested->invepts)
        return false;
    vmcs02->invepts = nested->invepts;
    return true;
}

static void use_shadow(struct vcpu *vcpu, struct vmcs02_state *state, const struct vmcs12 *vmcs12)
{
    struct shadow_use *use = &state->use;
    enum shadow_acquire_status status =
        shadow_acquire(the_shadow, &state->shadow_cpu, &state->active->key, l1_vpid(vmcs12), use);

    if (status != SHADOW_ACQUIRED)
        fatal("there is no shadow of the guest's EPT pointer %lx (%s)", vmcs12->ept_pointer,
              status == SHADOW_NO_PAGES ? "no memory" : "a feature that was not offered");
    u64 pointer = use->root.raw | EPTP_WALK_4 | EPTP_WRITE_BACK;
    if (machine.tdp.config.accessed_dirty)
        pointer |= vmcs12->ept_pointer & EPTP_ACCESSED_DIRTY;
    set_translation(vcpu, state->active, pointer, use->tag);
    if (owes_flush_of_apic_access(nested_vmx_of(vcpu), state->active) || use->flush_tables)
        vmx_flush_ept_pointer(pointer);
    if (use->flush_linear && vmx_of(vcpu)->vpid != 0)
        vmx_flush_vpid(use->tag);
    state->acquired_for = state->active;
}

static void flush_renewed(const struct vcpu *vcpu, const struct vmcs02 *vmcs02, unsigned renewal)
{
    if ((renewal & SHADOW_FLUSH_TABLES) != 0)
        vmx_flush_ept_pointer(vmcs02->ept_pointer);
    if ((renewal & SHADOW_FLUSH_LINEAR) != 0 && vmx_of(vcpu)->vpid != 0)
        vmx_flush_vpid(vmcs02->vpid);
}

void l2_acquire_tables(struct vcpu *vcpu, struct nested_vmx *nested)
{
    struct vmcs02_state *state = nested->vmcs02;

    unsigned renewal =
        state->acquired_for == state->active ? shadow_renew(the_shadow, &state->shadow_cpu) : SHADOW_EXPIRED;
    if (__builtin_expect(renewal == SHADOW_RENEWED, true))
        return;
    if (renewal != SHADOW_EXPIRED) {
        flush_renewed(vcpu, state->active, renewal);
        return;
    }
    state->acquired_for = NULL;
    if (l1_uses_ept(&nested->vmcs12))
        use_shadow(vcpu, state, &nested->vmcs12);
    else
        use_own_tables(vcpu, state, &nested->vmcs12);
}

/* --- exits --- */

#define SUPPLIED_FIRST_STAGE                                                                                 \
    (FAULT_LINEAR_VALID | FAULT_FINAL | FAULT_NMI_UNBLOCKED | FAULT_GUEST_VERIFY | FAULT_ASYNCHRONOUS)
#define SUPPLIED_ADVANCED (FAULT_LINEAR_USER | FAULT_LINEAR_WRITE | FAULT_LINEAR_XD)

static bool has_advanced_information(void)
{
    return (vmx_capability.ept_vpid & EPT_ADVANCED_INFORMATION) != 0;
}

static unsigned fetch_access(u64 qualification)
{
    bool user = has_advanced_information() && (qualification & FAULT_LINEAR_USER) != 0;
    return ACCESS_FETCH | (user ? ACCESS_USER : 0);
}

static struct shadow_access access_of(u64 qualification)
{
    struct shadow_access access = {
        .address = l2_gpa(vmread(VMCS_GUEST_PHYSICAL_ADDRESS)),
        .access = ACCESS_READ,
        .supplied = (u32)(qualification &
                          (SUPPLIED_FIRST_STAGE | (has_advanced_information() ? SUPPLIED_ADVANCED : 0))),
        .rip = vmread(VMCS_GUEST_RIP),
    };

    if ((qualification & EPT_VIOLATION_FETCH) != 0) {
        access.access = fetch_access(qualification);
        return access;
    }
    if ((qualification & EPT_VIOLATION_WRITE) != 0)
        access.access |= ACCESS_WRITE;
    if ((qualification & EPT_VIOLATION_SS) != 0 && (vmread(VMCS_GUEST_CR4) & CR4_CET) != 0)
        access.access |= ACCESS_SHADOW_STACK;
    return access;
}

/* What faulted, for L1: by hardware, or when Umbra made an access for L2. */
struct second_level_fault {
    u64 guest_linear_address, guest_physical_address;
};

static enum exit_action reflect(struct vcpu *vcpu, const struct second_level_fault *fault, u32 reason,
                                u64 qualification)
{
    struct l2_exit_information information;

    l2_exit_information_read(&information);
    information.reason = reason;
    information.guest_linear_address = fault->guest_linear_address;
    information.guest_physical_address = fault->guest_physical_address;
    information.qualification = qualification;
    information.interruption = 0;
    information.instruction_information = 0;
    return l2_reflect(vcpu, &information);
}

/* Virtualization-exception information area, SDM vol. 3C table 26-1. */
struct ve_information {
    u32 exit_reason, busy;
    u64 qualification, guest_linear_address, guest_physical_address;
    u16 eptp_index;
} __attribute__((packed));

#define VE_BUSY 0xffffffffu

/* SDM vol. 3C 26.5.7.1, besides the control and bit 63 of the EPT entry. */
static bool ve_possible(const struct vmcs12 *vmcs12, u64 qualification)
{
    u32 busy;

    return (vmread(VMCS_GUEST_CR0) & CR0_PE) != 0 && (vmread(VMCS_VECTORING) & INTERRUPTION_VALID) == 0 &&
           (qualification & FAULT_ASYNCHRONOUS) == 0 &&
           guest_load_u32(gpa(vmcs12->ve_information + offsetof(struct ve_information, busy)), &busy) ==
               GUEST_MEM_OK &&
           busy == 0;
}

static enum exit_action raise_ve(struct vcpu *vcpu, const struct vmcs12 *vmcs12,
                                 const struct second_level_fault *fault, u64 qualification)
{
    const struct ve_information information = {
        .exit_reason = REASON_EPT_VIOLATION,
        .busy = VE_BUSY,
        .qualification = qualification,
        .guest_linear_address = fault->guest_linear_address,
        .guest_physical_address = fault->guest_physical_address,
        .eptp_index = vmcs12->eptp_index,
    };

    (void)nested_vmx_write(gpa(vmcs12->ve_information), &information, sizeof(information));
    if ((qualification & FAULT_NMI_UNBLOCKED) != 0)
        vmx_restore_events(qualification);
    return l2_exception(vcpu, EXC_VE, false, 0);
}

/* L1's tables deny the access: an exit, or the exception that L1 has chosen instead. */
static enum exit_action denied(struct vcpu *vcpu, const struct second_level_fault *fault,
                               const struct shadow_result *result)
{
    const struct vmcs12 *vmcs12 = &nested_vmx_of(vcpu)->vmcs12;
    u64 qualification = result->qualification;

    if ((vmcs12_secondary(vmcs12) & SECONDARY_EPT_VIOLATION_VE) != 0 && result->convertible &&
        ve_possible(vmcs12, qualification))
        return raise_ve(vcpu, vmcs12, fault, qualification);
    return reflect(vcpu, fault, REASON_EPT_VIOLATION, qualification);
}

/* True: L1's tables, or its log, stop the access, and L1 has it. */
static bool stopped_by_l1(struct vcpu *vcpu, const struct second_level_fault *fault,
                          enum shadow_outcome outcome, const struct shadow_result *result, u32 supplied,
                          enum exit_action *action)
{
    switch (outcome) {
    case SHADOW_REFLECT:
        *action = denied(vcpu, fault, result);
        return true;
    case SHADOW_MISCONFIGURED:
        *action = reflect(vcpu, fault, REASON_EPT_MISCONFIGURATION, 0);
        return true;
    case SHADOW_LOG_FULL:
        *action = reflect(vcpu, fault, REASON_PML_FULL, supplied & FAULT_NMI_UNBLOCKED);
        return true;
    default:
        return false;
    }
}

const struct paging *l2_second_stage(const struct vcpu *vcpu, u64 *ept_pointer)
{
    const struct nested_vmx *nested = nested_vmx_of(vcpu);

    if (!l1_uses_ept(&nested->vmcs12))
        return NULL;
    return shadow_paging(the_shadow, nested->vmcs02->use.handle, ept_pointer);
}

bool l2_writes_log(const struct vcpu *vcpu)
{
    return (vmcs12_secondary(&nested_vmx_of(vcpu)->vmcs12) & SECONDARY_PML) != 0;
}

bool l2_second_level_allows(struct vcpu *vcpu, const struct shadow_access *access, u64 linear,
                            enum exit_action *action)
{
    const struct second_level_fault fault = {linear, access->address.raw};
    struct shadow_result result;
    enum shadow_outcome outcome = shadow_fault(the_shadow, nested_vmx_shadow_cpu(vcpu),
                                               nested_vmx_of(vcpu)->vmcs02->use.handle, access, &result);

    return !stopped_by_l1(vcpu, &fault, outcome, &result, access->supplied, action);
}

/* What makes an EPT violation another one than most. */
#define VIOLATION_UNUSUAL (EPT_VIOLATION_SS | FAULT_NMI_UNBLOCKED | FAULT_GUEST_VERIFY | FAULT_ASYNCHRONOUS)

bool l2_second_level_filled(struct nested_vmx *nested)
{
    struct vmcs02_state *state = nested->vmcs02;
    u64 qualification = vmread_unchecked(VMCS_EXIT_QUALIFICATION);
    unsigned access = (unsigned)(qualification & EPT_VIOLATION_WRITE) / EPT_VIOLATION_WRITE * ACCESS_WRITE;

    if (state->acquired_for != state->active || (qualification & VIOLATION_UNUSUAL) != 0 ||
        (vmread_unchecked(VMCS_VECTORING) & INTERRUPTION_VALID) != 0)
        return false;
    if ((qualification & EPT_VIOLATION_FETCH) != 0)
        access = fetch_access(qualification);
    return shadow_fault_quick(the_shadow, &state->shadow_cpu,
                              l2_gpa(vmread_unchecked(VMCS_GUEST_PHYSICAL_ADDRESS)), access);
}

enum exit_action l2_second_level_exit(struct vcpu *vcpu, u32 reason)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);
    u64 qualification = reason == REASON_EPT_VIOLATION ? vmread(VMCS_EXIT_QUALIFICATION) : 0;
    struct shadow_result result;

    if (!l1_uses_ept(&nested->vmcs12) && reason == REASON_EPT_VIOLATION)
        return vmx_violation_exit(vcpu);
    struct shadow_access access = access_of(qualification);
    enum shadow_outcome outcome =
        shadow_fault(the_shadow, nested_vmx_shadow_cpu(vcpu), nested->vmcs02->use.handle, &access, &result);
    switch (outcome) {
    case SHADOW_FILLED:
    case SHADOW_STALE:
        vmx_restore_events(qualification);
        return EXIT_RESUME;
    case SHADOW_POLICY:
    case SHADOW_UMBRA_MEMORY:
        /* As if L1 itself had made the access. */
        return vmx_denied_by_own_map(vcpu, result.own.address, result.own.access, qualification);
    case SHADOW_NO_PROGRESS:
        break;
    default: {
        const struct second_level_fault fault = {vmread(VMCS_GUEST_LINEAR_ADDRESS), access.address.raw};
        enum exit_action action = EXIT_RESUME;
        (void)stopped_by_l1(vcpu, &fault, outcome, &result, access.supplied, &action);
        return action;
    }
    }
    fatal("a guest of the guest faults again and again at guest-physical %lx, RIP %lx, qualification %lx, "
          "though its tables are filled",
          access.address.raw, access.rip, qualification);
}

/* --- VM functions, SDM vol. 3C 26.5.6 --- */

enum { EPTP_LIST_ENTRIES = 512 };

/* False: the VMFUNC is an exit to L1. */
static bool switch_ept_pointer(struct vmcs12 *vmcs12, struct vmcs02_state *state, u64 index)
{
    u64 pointer;

    if (index >= EPTP_LIST_ENTRIES || (vmcs12->vm_function_controls & VMFUNC_EPTP_SWITCHING) == 0 ||
        guest_load_u64(gpa(vmcs12->eptp_list + index * sizeof(pointer)), &pointer) != GUEST_MEM_OK ||
        !vmx_check_eptp(&nested_vmx_capability, pointer))
        return false;
    vmcs12->ept_pointer = pointer;
    state->active->modes.ept_pointer = pointer;
    state->active->key = l2_shadow_key(vmcs12);
    state->acquired_for = NULL;
    if ((vmcs12_secondary(vmcs12) & SECONDARY_EPT_VIOLATION_VE) != 0)
        vmcs12->eptp_index = (u16)index;
    return true;
}

enum exit_action l2_vmfunc_exit(struct vcpu *vcpu)
{
    struct l2_exit_information information;

    struct nested_vmx *nested = nested_vmx_of(vcpu);

    if ((u32)vcpu->gpr[GPR_RAX] == 0 &&
        switch_ept_pointer(&nested->vmcs12, nested->vmcs02, (u32)vcpu->gpr[GPR_RCX]))
        return EXIT_SKIP;
    l2_exit_information_read(&information);
    return l2_reflect(vcpu, &information);
}
