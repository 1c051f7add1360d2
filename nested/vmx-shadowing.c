/* SPDX-License-Identifier: MIT */
/* L1's hot fields in a VMCS that the hardware reads and writes for it; see nested/vmx-shadowing.h. */
#include "nested/vmx-shadowing.h"

#include "arch/msr.h"
#include "arch/print.h"
#include "arch/string.h"
#include "mm/frame.h"
#include "mm/phys.h"
#include "nested/vmx-capability.h"
#include "nested/vmx-nested.h"
#include "vmx/instructions.h"
#include "vmx/vmx.h"

/* Information about an exit: L1 reads it, and its rare VMWRITEs of it exit. X(encoding, member) */
#define READ_FIELDS(X)                                                                                       \
    X(VMCS_EXIT_REASON, exit_reason)                                                                         \
    X(VMCS_EXIT_INTERRUPTION, exit_interruption)                                                             \
    X(VMCS_EXIT_ERROR_CODE, exit_error_code)                                                                 \
    X(VMCS_VECTORING, vectoring)                                                                             \
    X(VMCS_VECTORING_ERROR_CODE, vectoring_error_code)                                                       \
    X(VMCS_EXIT_INSTRUCTION_LENGTH, exit_instruction_length)                                                 \
    X(VMCS_EXIT_INSTRUCTION_INFORMATION, exit_instruction_information)                                       \
    X(VMCS_EXIT_QUALIFICATION, exit_qualification)                                                           \
    X(VMCS_GUEST_LINEAR_ADDRESS, guest_linear_address)                                                       \
    X(VMCS_GUEST_PHYSICAL_ADDRESS, guest_physical_address)

/*
 * State of L2 that L1 reads and writes: X(encoding, member, group). Only fields without a second half. The
 * primary processor-based controls cannot be here: an NMI that comes while the shadow VMCS is current writes
 * them.
 */
#define WRITE_FIELDS(X)                                                                                      \
    X(VMCS_GUEST_RIP, guest_rip, VMCS12_HOT)                                                                 \
    X(VMCS_GUEST_RSP, guest_rsp, VMCS12_HOT)                                                                 \
    X(VMCS_GUEST_RFLAGS, guest_rflags, VMCS12_GUEST)                                                         \
    X(VMCS_GUEST_INTERRUPTIBILITY, guest_interruptibility, VMCS12_HOT)                                       \
    X(VMCS_GUEST_PENDING_DEBUG, guest_pending_debug, VMCS12_HOT)                                             \
    X(VMCS_GUEST_ACTIVITY, guest_activity, VMCS12_HOT)                                                       \
    X(VMCS_GUEST_CR0, guest_cr0, VMCS12_GUEST)                                                               \
    X(VMCS_GUEST_CR3, guest_cr3, VMCS12_GUEST)                                                               \
    X(VMCS_GUEST_CR4, guest_cr4, VMCS12_GUEST)                                                               \
    X(VMCS_GUEST_CS_RIGHTS, guest_rights[VMCS_CS], VMCS12_SEGMENTS)                                          \
    X(VMCS_GUEST_SS_RIGHTS, guest_rights[VMCS_SS], VMCS12_SEGMENTS)                                          \
    X(VMCS_ENTRY_INTERRUPTION, entry_interruption, VMCS12_EVENT)                                             \
    X(VMCS_ENTRY_ERROR_CODE, entry_error_code, VMCS12_EVENT)                                                 \
    X(VMCS_ENTRY_INSTRUCTION_LENGTH, entry_instruction_length, VMCS12_EVENT)

/* --- set-up --- */

static bool hardware_can(void)
{
    u64 secondary = 0, misc = 0;

    (void)rdmsr_safe(MSR_IA32_VMX_PROCBASED_CTLS2, &secondary);
    (void)rdmsr_safe(MSR_IA32_VMX_MISC, &misc);
    /* Without the second, Umbra itself could not write the information into the shadow VMCS. */
    return (secondary >> 32 & SECONDARY_VMCS_SHADOWING) != 0 && (misc & VMX_MISC_VMWRITE_ANY) != 0;
}

/* A set bit makes the access to that encoding exit (SDM vol. 3C 25.6.15). */
static void clear_bit(u8 *bitmap, u32 encoding)
{
    bitmap[encoding / 8] &= (u8) ~(1u << encoding % 8);
}

static void fill_bitmaps(const struct vmcs_shadowing *shadowing)
{
    u8 *read = phys_to_virt(shadowing->vmread_bitmap);
    u8 *write = phys_to_virt(shadowing->vmwrite_bitmap);

    memset(read, 0xff, PAGE_SIZE);
    memset(write, 0xff, PAGE_SIZE);
#define MAY_READ(encoding, member)         clear_bit(read, encoding);
#define MAY_WRITE(encoding, member, group) clear_bit(read, encoding), clear_bit(write, encoding);
    READ_FIELDS(MAY_READ)
    WRITE_FIELDS(MAY_WRITE)
#undef MAY_READ
#undef MAY_WRITE
}

bool vmx_shadowing_init(struct vcpu *vcpu)
{
    struct vmcs_shadowing *shadowing = &nested_vmx_of(vcpu)->shadowing;

    if (!machine.vmcs_shadowing || !hardware_can())
        return true;
    if (!vmx_alloc_region(&shadowing->vmcs) || !frame_alloc(&shadowing->vmread_bitmap) ||
        !frame_alloc(&shadowing->vmwrite_bitmap))
        return false;
    *(u32 *)phys_to_virt(shadowing->vmcs) |= (u32)VMCS_SHADOW_INDICATOR;
    fill_bitmaps(shadowing);
    ASSERT(vmclear(shadowing->vmcs), "a shadow VMCS that Umbra has set up itself can be cleared");
    vmwrite(VMCS_VMREAD_BITMAP, shadowing->vmread_bitmap.raw);
    vmwrite(VMCS_VMWRITE_BITMAP, shadowing->vmwrite_bitmap.raw);
    shadowing->available = true;
    return true;
}

/* --- the two copies --- */

static void use_shadow(const struct vmcs_shadowing *shadowing)
{
    ASSERT(vmptrld(shadowing->vmcs), "a shadow VMCS that Umbra has set up itself can be made current");
}

/* What was written has to be in memory before it is reached through the link pointer. */
static void use_vmcs01(struct vcpu *vcpu, const struct vmcs_shadowing *shadowing)
{
    const struct vmx_vcpu *v = vmx_of(vcpu);

    ASSERT(vmclear(shadowing->vmcs), "a shadow VMCS that was current can be cleared");
    vmx_switch_vmcs(vcpu, v->vmcs, v->primary, v->nmi_controls);
}

void vmx_shadowing_publish(struct vcpu *vcpu)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);
    const struct vmcs12 *vmcs12 = &nested->vmcs12;

    if (!nested->shadowing.active)
        return;
    use_shadow(&nested->shadowing);
#define PUBLISH_READ(encoding, member)         vmwrite_unchecked(encoding, vmcs12->member);
#define PUBLISH_WRITE(encoding, member, group) vmwrite_unchecked(encoding, vmcs12->member);
    READ_FIELDS(PUBLISH_READ)
    WRITE_FIELDS(PUBLISH_WRITE)
#undef PUBLISH_READ
#undef PUBLISH_WRITE
    use_vmcs01(vcpu, &nested->shadowing);
}

void vmx_shadowing_collect(struct vcpu *vcpu)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);
    struct vmcs12 *vmcs12 = &nested->vmcs12;
    u32 changed = 0;

    if (!nested->shadowing.active)
        return;
    use_shadow(&nested->shadowing);
#define COLLECT(encoding, member, group)                                                                     \
    {                                                                                                        \
        u64 value = vmread_unchecked(encoding);                                                              \
        if (vmcs12->member != value) {                                                                       \
            vmcs12->member = (__typeof__(vmcs12->member))value;                                              \
            changed |= (group);                                                                              \
        }                                                                                                    \
    }
    WRITE_FIELDS(COLLECT)
#undef COLLECT
    nested->dirty |= changed;
    nested->checked &= ~changed;
    use_vmcs01(vcpu, &nested->shadowing);
}

/* --- begin and end --- */

static void switch_control(bool on, u64 link_pointer)
{
    u64 secondary = vmread(VMCS_SECONDARY_CONTROLS) & ~SECONDARY_VMCS_SHADOWING;

    vmwrite(VMCS_SECONDARY_CONTROLS, on ? secondary | SECONDARY_VMCS_SHADOWING : secondary);
    vmwrite(VMCS_LINK_POINTER, link_pointer);
}

void vmx_shadowing_begin(struct vcpu *vcpu)
{
    struct vmcs_shadowing *shadowing = &nested_vmx_of(vcpu)->shadowing;

    if (!shadowing->available)
        return;
    shadowing->active = true;
    vmx_shadowing_publish(vcpu);
    switch_control(true, shadowing->vmcs.raw);
}

void vmx_shadowing_end(struct vcpu *vcpu)
{
    struct vmcs_shadowing *shadowing = &nested_vmx_of(vcpu)->shadowing;

    if (!shadowing->active)
        return;
    vmx_shadowing_collect(vcpu);
    shadowing->active = false;
    switch_control(false, NO_VMCS);
}
