/* SPDX-License-Identifier: MIT */
/* Nested VMX at boot: capabilities, memory, hooks; and the small hooks, for MSRs and CPUID. */
#include "arch/cpu.h"
#include "mm/frame.h"
#include "mm/phys.h"
#include "nested/vmx-capability.h"
#include "nested/vmx-nested.h"
#include "nested/vmx-operand.h"
#include "nested/vmx-shadowing.h"

#define LEAF1_ECX_VMX BIT(5)

/* IA32_FEATURE_CONTROL is the other MSR of VMX; vcpu/msr.c answers it. */
static bool read_msr(struct vcpu *vcpu, u32 msr, u64 *value)
{
    const struct nested_vmx_capability *capability = &nested_vmx_capability;

    (void)vcpu;
    if (msr < MSR_IA32_VMX_BASIC || msr > MSR_IA32_VMX_EXIT_CTLS2 || !nested_vmx_msr_exists(capability, msr))
        return false;
    *value = nested_vmx_msr(capability, msr);
    return true;
}

/* They are read-only, all of them. */
static bool write_msr(struct vcpu *vcpu, u32 msr, u64 value)
{
    (void)vcpu;
    (void)msr;
    (void)value;
    return false;
}

static void show_vmx(u32 leaf, u32 subleaf, struct cpuid_regs *regs)
{
    (void)subleaf;
    if (leaf == 1)
        regs->ecx |= (u32)LEAF1_ECX_VMX;
}

static const struct nested_hooks hooks = {
    .instruction = nested_vmx_instruction,
    .vmread = nested_vmx_vmread,
    .vmwrite = nested_vmx_vmwrite,
    .vmresume = nested_vmx_vmresume,
    .invept = nested_vmx_invept,
    .l2_exit = nested_vmx_l2_exit,
    .l2_entry_failed = nested_vmx_l2_entry_failed,
    .msr_read = read_msr,
    .msr_write = write_msr,
    .own_map_changed = nested_vmx_own_map_changed,
    .cpuid = show_vmx,
};

bool nested_vmx_init(struct vcpu *vcpu)
{
    const size_t frames = (sizeof(struct nested_vmx) + PAGE_MASK) / PAGE_SIZE;
    struct vmx_hardware hardware;
    hpa_t memory;

    if (!frame_alloc_contiguous(frames, &memory))
        return false;
    struct nested_vmx *nested = phys_to_virt(memory);
    nested->current = NO_VMCS;
    vcpu->nested = nested;
    vmx_operand_init(nested);
    vmx_hardware_read(&hardware);
    nested_vmx_capability_compute(&hardware, &nested_vmx_capability);
    nested_hooks = &hooks;
    return vmx_shadowing_init(vcpu) && nested_vmx_transitions_init(vcpu);
}
