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
#define MAY_READ(name, member)  clear_bit(read, VMCS_##name);
#define MAY_WRITE(name, member) clear_bit(write, VMCS_##name);
    VMX_SHADOWED(MAY_READ)
    VMX_SHADOWED_POINTERS(MAY_WRITE)
    VMX_SHADOWED_EVENT(MAY_WRITE)
    VMX_SHADOWED_EVENT_DETAILS(MAY_WRITE)
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
    vmx_visit_vmcs(shadowing->vmcs);
}

/* What was written has to be in memory before it is reached through the link pointer. Not current any more.
 */
static void put_away(const struct vmcs_shadowing *shadowing)
{
    ASSERT(vmclear(shadowing->vmcs), "a shadow VMCS that Umbra has set up itself can be cleared");
}

static void write_stale(struct nested_vmx *nested)
{
    static const struct {
        u16 encoding, offset;
    } fields[SHADOWED_FIELDS] = {
#define ROW(name, member) {VMCS_##name, offsetof(struct vmcs12, member)},
        VMX_SHADOWED(ROW)
#undef ROW
    };

    for (u32 stale = nested->shadowing.stale; stale != 0; stale &= stale - 1) {
        u32 index = (u32)__builtin_ctz(stale);
        vmwrite_from((enum vmcs_field)fields[index].encoding,
                     (const u8 *)&nested->vmcs12 + fields[index].offset);
    }
    nested->shadowing.stale = 0;
}

void vmx_shadowing_publish(struct vcpu *vcpu, u32 primary)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);
    bool needed = nested->shadowing.active && nested->shadowing.stale != 0;

    if (needed) {
        use_shadow(&nested->shadowing);
        write_stale(nested);
    }
    vmx_switch_vmcs(vcpu, vmx_of(vcpu)->vmcs, primary, PRIMARY_NMI_WINDOW);
    if (needed)
        put_away(&nested->shadowing);
}

void vmx_shadowing_update(struct vcpu *vcpu, u64 encoding, u64 value)
{
    const struct vmcs_shadowing *shadowing = &nested_vmx_of(vcpu)->shadowing;

    if (!shadowing->active)
        return;
    const u8 *unshadowed = phys_to_virt(shadowing->vmread_bitmap);
    if ((unshadowed[encoding / 8] >> encoding % 8 & 1) != 0)
        return;
    use_shadow(shadowing);
    vmwrite((enum vmcs_field)encoding, value);
    vmx_return_to_vmcs01(vcpu);
    put_away(shadowing);
}

/* `all`: also what no entry would use. */
static void collect(struct vcpu *vcpu, bool all)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);
    struct vmcs12 *vmcs12 = &nested->vmcs12;
    u32 changed = 0, group = VMCS12_HOT;

    if (!nested->shadowing.active)
        return;
    use_shadow(&nested->shadowing);
#define COLLECT(name, member)                                                                                \
    {                                                                                                        \
        __typeof__(vmcs12->member) value = (__typeof__(vmcs12->member))vmread_unchecked(VMCS_##name);        \
        if (vmcs12->member != value) {                                                                       \
            vmcs12->member = value;                                                                          \
            changed |= group;                                                                                \
        }                                                                                                    \
    }
    VMX_SHADOWED_POINTERS(COLLECT)
    group = VMCS12_EVENT;
    VMX_SHADOWED_EVENT(COLLECT)
    if (all || (vmcs12->entry_interruption & INTERRUPTION_VALID) != 0) {
        VMX_SHADOWED_EVENT_DETAILS(COLLECT)
    }
#undef COLLECT
    nested->dirty |= changed;
    vmx_return_to_vmcs01(vcpu);
    put_away(&nested->shadowing);
}

void vmx_shadowing_collect(struct vcpu *vcpu)
{
    collect(vcpu, false);
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
    shadowing->stale = SHADOWED_ALL;
    vmx_shadowing_publish(vcpu, vmx_of(vcpu)->primary);
    switch_control(true, shadowing->vmcs.raw);
}

void vmx_shadowing_end(struct vcpu *vcpu)
{
    struct vmcs_shadowing *shadowing = &nested_vmx_of(vcpu)->shadowing;

    if (!shadowing->active)
        return;
    collect(vcpu, true);
    shadowing->active = false;
    switch_control(false, NO_VMCS);
}
