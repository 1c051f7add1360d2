/* SPDX-License-Identifier: MIT */
/*
 * From a CPU that can do VMX to a guest that runs: VMX operation, the regions it needs, the VMCS's control
 * and host-state areas, and the first entry. Source: SDM vol. 3C 24.7, 25.11, 27.2.
 */
#include "arch/cpu.h"
#include "arch/msr.h"
#include "arch/percpu.h"
#include "arch/print.h"
#include "mm/frame.h"
#include "mm/phys.h"
#include "vcpu/msr-policy.h"
#include "vcpu/vendor.h"
#include "vmx/capability.h"
#include "vmx/instructions.h"
#include "vmx/vmx.h"

/* EPTP, SDM vol. 3C table 25-9 */
#define EPTP_WRITE_BACK     6ull
#define EPTP_WALK_4         (3ull << 3)
#define EPTP_ACCESSED_DIRTY BIT(6)

/* CPUID.01H:ECX */
#define CPUID_1_ECX_XSAVE BIT(26)

#define NO_MEMORY         "Umbra's pool of memory is too small for the VMX regions of a CPU: please report it"

_Static_assert(sizeof(struct vmx_vcpu) <= PAGE_SIZE, "it lives in one frame");

/* A VMXON region or VMCS starts with the revision identifier (SDM vol. 3C 25.2, 25.11.5). */
bool vmx_alloc_region(hpa_t *region)
{
    if (!frame_alloc(region))
        return false;
    *(u32 *)phys_to_virt(*region) = vmx_capability.revision;
    return true;
}

static bool alloc_vcpu(struct vcpu *vcpu)
{
    hpa_t frame;

    if (!frame_alloc(&frame))
        return false;
    struct vmx_vcpu *v = phys_to_virt(frame);
    vcpu->vendor = v;
    return vmx_alloc_region(&v->vmxon_region) && vmx_alloc_region(&v->vmcs) && frame_alloc(&v->msr_bitmap);
}

/* Firmware that left IA32_FEATURE_CONTROL unlocked lets us choose; vmx_probe() has refused the locked and
 * disabled case. */
static void unlock_vmx(void)
{
    u64 control = rdmsr(MSR_IA32_FEATURE_CONTROL);
    if ((control & IA32_FEATURE_CONTROL_LOCK) == 0) {
        wrmsr(MSR_IA32_FEATURE_CONTROL,
              control | IA32_FEATURE_CONTROL_LOCK | IA32_FEATURE_CONTROL_VMX_OUTSIDE_SMX);
    }
}

const char *vmx_enable(struct vcpu *vcpu)
{
    if (!alloc_vcpu(vcpu))
        return NO_MEMORY;
    unlock_vmx();
    write_cr0((read_cr0() | vmx_capability.cr0_fixed0) & vmx_capability.cr0_fixed1);
    u64 cr4 = (read_cr4() | vmx_capability.cr4_fixed0) & vmx_capability.cr4_fixed1;
    /* Umbra executes XSETBV for the guest. */
    if ((cpuid(1, 0).ecx & CPUID_1_ECX_XSAVE) != 0)
        cr4 |= CR4_OSXSAVE;
    write_cr4(cr4);
    if (!vmxon(vmx_of(vcpu)->vmxon_region))
        return "VMXON failed although CPUID and firmware allow VMX: another hypervisor or a debugger may be "
               "in VMX operation";
    vmx_flush_all();
    return NULL;
}

static void write_execution_controls(struct vcpu *vcpu)
{
    struct vmx_vcpu *v = vmx_of(vcpu);
    const u32 *word = vmx_capability.controls.word;

    v->primary = word[CONTROL_PRIMARY];
    v->nmi_controls = PRIMARY_NMI_WINDOW;
    vmwrite(VMCS_PIN_CONTROLS, word[CONTROL_PIN]);
    vmwrite(VMCS_PRIMARY_CONTROLS, v->primary);
    vmwrite(VMCS_SECONDARY_CONTROLS, word[CONTROL_SECONDARY]);
    /* No exception exits: for #PF the bitmap's bit decides as mask and match are equal (SDM vol. 3C 26.2). */
    vmwrite(VMCS_EXCEPTION_BITMAP, 0);
    vmwrite(VMCS_PAGE_FAULT_MASK, 0);
    vmwrite(VMCS_PAGE_FAULT_MATCH, 0);
    vmwrite(VMCS_CR3_TARGET_COUNT, 0);
    vmwrite(VMCS_MSR_BITMAPS, v->msr_bitmap.raw);
    vmwrite(VMCS_EPT_POINTER, v->ept_pointer);
    if (v->vpid != 0)
        vmwrite(VMCS_VPID, v->vpid);
    if ((word[CONTROL_SECONDARY] & SECONDARY_XSAVES) != 0)
        vmwrite(VMCS_XSS_EXITING_BITMAP, 0);
}

static void write_transition_controls(void)
{
    vmwrite(VMCS_EXIT_CONTROLS, vmx_capability.controls.word[CONTROL_EXIT]);
    vmwrite(VMCS_EXIT_MSR_STORE_COUNT, 0);
    vmwrite(VMCS_EXIT_MSR_LOAD_COUNT, 0);
    vmwrite(VMCS_ENTRY_MSR_LOAD_COUNT, 0);
    vmwrite(VMCS_ENTRY_ERROR_CODE, 0);
    vmwrite(VMCS_ENTRY_INSTRUCTION_LENGTH, 0);
}

/* Guest state that INIT keeps, as a loader finds it; the rest is vmx_guest_state_reset()'s. */
static void write_initial_msrs(void)
{
    const bool *feature = vmx_capability.controls.feature;

    vmwrite(VMCS_LINK_POINTER, ~0ull);
    vmwrite(VMCS_GUEST_PAT, IA32_PAT_RESET); /* which loaders leave alone */
    vmwrite(VMCS_GUEST_SYSENTER_CS, 0);
    vmwrite(VMCS_GUEST_SYSENTER_ESP, 0);
    vmwrite(VMCS_GUEST_SYSENTER_EIP, 0);
    vmwrite(VMCS_GUEST_SMBASE, 0);
    /* Bochs has the controls but not the MSR: no performance counter counts there. */
    if (feature[FEATURE_PERF_GLOBAL_CTRL]) {
        u64 value = 0;
        rdmsr_safe(MSR_IA32_PERF_GLOBAL_CTRL, &value);
        vmwrite(VMCS_GUEST_PERF_GLOBAL_CTRL, value);
    }
    if (feature[FEATURE_BNDCFGS])
        vmwrite(VMCS_GUEST_BNDCFGS, 0);
    if (feature[FEATURE_RTIT_CTL])
        vmwrite(VMCS_GUEST_RTIT_CTL, 0);
    if (feature[FEATURE_LBR_CTL])
        vmwrite(VMCS_GUEST_LBR_CTL, 0);
    if (feature[FEATURE_PKRS])
        vmwrite(VMCS_GUEST_PKRS, 0);
    if (feature[FEATURE_CET]) {
        vmwrite(VMCS_GUEST_S_CET, 0);
        vmwrite(VMCS_GUEST_SSP, 0);
        vmwrite(VMCS_GUEST_INTERRUPT_SSP_TABLE, 0);
    }
}

/* Host state that the optional controls load: all off, since Umbra uses none of it. */
static void write_host_features(void)
{
    const bool *feature = vmx_capability.controls.feature;

    if (feature[FEATURE_PERF_GLOBAL_CTRL])
        vmwrite(VMCS_HOST_PERF_GLOBAL_CTRL, 0);
    if (feature[FEATURE_PKRS])
        vmwrite(VMCS_HOST_PKRS, 0);
    if (feature[FEATURE_CET]) {
        vmwrite(VMCS_HOST_S_CET, 0);
        vmwrite(VMCS_HOST_SSP, 0);
        vmwrite(VMCS_HOST_INTERRUPT_SSP_TABLE, 0);
    }
}

/* The state that each exit restores is the one of this moment. */
void vmx_write_host_state(void)
{
    const struct percpu *cpu = this_cpu();

    vmwrite(VMCS_HOST_CR0, read_cr0());
    vmwrite(VMCS_HOST_CR3, read_cr3());
    vmwrite(VMCS_HOST_CR4, read_cr4());
    vmwrite(VMCS_HOST_EFER, rdmsr(MSR_EFER));
    vmwrite(VMCS_HOST_PAT, rdmsr(MSR_IA32_PAT));
    vmwrite(VMCS_HOST_CS_SELECTOR, SELECTOR_CODE);
    vmwrite(VMCS_HOST_SS_SELECTOR, SELECTOR_DATA);
    vmwrite(VMCS_HOST_DS_SELECTOR, SELECTOR_DATA);
    vmwrite(VMCS_HOST_ES_SELECTOR, SELECTOR_DATA);
    vmwrite(VMCS_HOST_FS_SELECTOR, 0);
    vmwrite(VMCS_HOST_GS_SELECTOR, 0);
    vmwrite(VMCS_HOST_TR_SELECTOR, SELECTOR_TSS);
    vmwrite(VMCS_HOST_FS_BASE, 0);
    vmwrite(VMCS_HOST_GS_BASE, (u64)(uintptr_t)cpu);
    vmwrite(VMCS_HOST_TR_BASE, (u64)(uintptr_t)&cpu->tss);
    vmwrite(VMCS_HOST_GDTR_BASE, (u64)(uintptr_t)cpu->gdt);
    vmwrite(VMCS_HOST_IDTR_BASE, idt_base());
    vmwrite(VMCS_HOST_SYSENTER_CS, 0);
    vmwrite(VMCS_HOST_SYSENTER_ESP, 0);
    vmwrite(VMCS_HOST_SYSENTER_EIP, 0);
    write_host_features();
}

const char *vmx_prepare(struct vcpu *vcpu, const struct start_state *start)
{
    struct vmx_vcpu *v = vmx_of(vcpu);
    struct start_state init;

    if (!vmclear(v->vmcs) || !vmptrld(v->vmcs))
        return "the CPU does not accept a VMCS that was set up as its manual says: please report it";
    v->vmcs_current = true;
    v->ept_pointer = machine.tdp.root.raw | EPTP_WALK_4 | EPTP_WRITE_BACK;
    if (machine.tdp.config.accessed_dirty)
        v->ept_pointer |= EPTP_ACCESSED_DIRTY;
    if ((vmx_capability.controls.word[CONTROL_SECONDARY] & SECONDARY_VPID) != 0)
        v->vpid = (u16)(vcpu->index + 1);

    u8 *bitmap = phys_to_virt(v->msr_bitmap);
    for (unsigned i = 0; i < PAGE_SIZE; i++)
        bitmap[i] = 0xff;
    msr_policy_fill_vmx_bitmap(bitmap);

    write_execution_controls(vcpu);
    write_transition_controls();
    write_initial_msrs();
    if (start == NULL)
        start_state_init(&init);
    vmx_guest_state_reset(vcpu, start == NULL ? &init : start);
    if (start == NULL)
        vmwrite(VMCS_GUEST_ACTIVITY, ACTIVITY_WAIT_FOR_SIPI);
    return NULL;
}

/* The stack is the one that this CPU runs on: exits start at its top again, with the address of the vcpu on
 * it. */
void vmx_run(struct vcpu *vcpu)
{
    u64 rsp =
        this_cpu()->stack_top - 2 * sizeof(u64); /* keeps the alignment of 16 bytes that the ABI asks for */

    *(struct vcpu **)rsp = vcpu; // NOLINT(performance-no-int-to-ptr)
    vmx_of(vcpu)->host_rsp = rsp;
    vmx_write_host_state();
    vmwrite(VMCS_HOST_RSP, rsp);
    vmwrite(VMCS_HOST_RIP, (u64)(uintptr_t)vmx_exit_entry);
    this_cpu()->nmi_hook = vmx_nmi_hook;
    vmx_launch(vcpu, rsp);
}

const struct vendor vmx_vendor = {
    .name = "VMX",
    .probe = vmx_probe,
    .match = vmx_match,
    .enable = vmx_enable,
    .prepare = vmx_prepare,
    .run = vmx_run,
    .flush = vmx_flush_guests,
    .reason_name = vmx_reason_name,
    .dump = vmx_dump,
};
