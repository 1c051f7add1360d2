/* SPDX-License-Identifier: MIT */
/*
 * The cache of vmcs02s, and the controls that go from vmcs12 to the current one of them. An address that L1
 * names is used by hardware only if the memory is L1's own; else a page of Umbra's stands in, as if there
 * were no memory.
 */
#include "nested/vmx-vmcs02.h"

#include "arch/print.h"
#include "arch/string.h"
#include "mm/frame.h"
#include "mm/guest-mem.h"
#include "mm/memmap.h"
#include "mm/phys.h"
#include "vmx/instructions.h"

_Static_assert(sizeof(struct vmcs02_state) <= PAGE_SIZE, "it lives in one frame");

/* --- the cache --- */

static bool alloc_vmcs02(struct vmcs02 *vmcs02)
{
    vmcs02->region = NO_VMCS;
    return vmx_alloc_region(&vmcs02->vmcs) && frame_alloc(&vmcs02->msr_bitmap);
}

bool nested_vmx_transitions_init(struct vcpu *vcpu)
{
    hpa_t frame;

    if (!frame_alloc(&frame))
        return false;
    struct vmcs02_state *state = phys_to_virt(frame);
    nested_vmx_of(vcpu)->vmcs02 = state;
    if (!frame_alloc(&state->ones) || !frame_alloc(&state->sink))
        return false;
    memset(phys_to_virt(state->ones), 0xff, PAGE_SIZE);
    for (unsigned i = 0; i < VMCS02_CACHE; i++) {
        if (!alloc_vmcs02(&state->cache[i]))
            return false;
    }
    if (nested_vmx_shadow() == NULL)
        return false;
    return shadow_cpu_init(nested_vmx_shadow(), &state->shadow_cpu,
                           (u16)(FIRST_L2_VPID + vcpu->index * L2_VPIDS), vcpu);
}

static struct vmcs02 *find(struct vmcs02_state *state, u64 region)
{
    struct vmcs02 *oldest = &state->cache[0];

    for (unsigned i = 0; i < VMCS02_CACHE; i++) {
        struct vmcs02 *vmcs02 = &state->cache[i];
        if (vmcs02->region == region)
            return vmcs02;
        if (vmcs02->used < oldest->used)
            oldest = vmcs02;
    }
    return oldest;
}

/* What never changes while the vmcs02 serves one region. */
static void write_constants(struct vcpu *vcpu, const struct vmcs02 *vmcs02)
{
    const struct vmx_vcpu *v = vmx_of(vcpu);

    vmx_write_host_state();
    vmwrite(VMCS_HOST_RSP, v->host_rsp);
    vmwrite(VMCS_HOST_RIP, (u64)(uintptr_t)vmx_l2_exit_entry);
    vmwrite(VMCS_LINK_POINTER, ~0ull);
    vmwrite(VMCS_MSR_BITMAPS, vmcs02->msr_bitmap.raw);
    vmwrite(VMCS_EXIT_MSR_STORE_COUNT, 0);
    vmwrite(VMCS_EXIT_MSR_LOAD_COUNT, 0);
    vmwrite(VMCS_ENTRY_MSR_LOAD_COUNT, 0);
    vmwrite(VMCS_GUEST_SMBASE, 0);
    if (vmx_capability.controls.feature[FEATURE_RTIT_CTL])
        vmwrite(VMCS_GUEST_RTIT_CTL, 0);
}

/* A vmcs02 for a region that had none: all of it is written again at the next entry, since dirty is all. */
static void assign(struct vcpu *vcpu, struct vmcs02 *vmcs02, u64 region)
{
    struct vmx_vcpu *v = vmx_of(vcpu);

    ASSERT(vmclear(vmcs02->vmcs), "a region of Umbra's own pool can be cleared");
    vmcs02->region = region;
    vmcs02->launched = false;
    vmcs02->ept_pointer = 0;
    vmcs02->vpid = 0;
    vmcs02_state_of(vcpu)->acquired_for = NULL;
    vmcs02->msr_merge.own = phys_to_virt(v->msr_bitmap);
    vmcs02->msr_merge.merged = phys_to_virt(vmcs02->msr_bitmap);
    vmx_msr_forget(&vmcs02->msr_merge);
    u32 primary = v->primary;
    vmx_switch_vmcs(vcpu, vmcs02->vmcs, primary, PRIMARY_NMI_WINDOW);
    write_constants(vcpu, vmcs02);
    vmx_switch_vmcs(vcpu, v->vmcs, primary, PRIMARY_NMI_WINDOW);
}

void nested_vmx_select_vmcs02(struct vcpu *vcpu)
{
    const struct nested_vmx *nested = nested_vmx_of(vcpu);
    struct vmcs02_state *state = nested->vmcs02;

    state->active = NULL;
    if (nested->current == NO_VMCS)
        return;
    state->active = find(state, nested->current);
    state->active->used = ++state->clock;
    if (state->active->region != nested->current)
        assign(vcpu, state->active, nested->current);
}

void nested_vmx_forget_vmcs02(struct vcpu *vcpu, u64 region)
{
    struct vmcs02_state *state = vmcs02_state_of(vcpu);

    for (unsigned i = 0; i < VMCS02_CACHE; i++) {
        struct vmcs02 *vmcs02 = &state->cache[i];
        if (region != NO_VMCS && vmcs02->region != region)
            continue;
        if (state->active == vmcs02)
            state->active = NULL;
        vmcs02->region = NO_VMCS;
        vmcs02->used = 0;
    }
}

/* --- addresses of L1 --- */

static u64 read_page(const struct vmcs02_state *state, u64 address)
{
    return memmap_guest_owns(gpa(address), PAGE_SIZE) ? address : state->ones.raw;
}

/* Hardware writes there by this address, not through EPT. */
static u64 written_page(const struct vmcs02_state *state, u64 address, u64 bytes)
{
    if (!memmap_guest_owns(gpa(address), bytes))
        return state->sink.raw;
    nested_vmx_will_write(gpa(address), bytes);
    return address;
}

/* --- controls --- */

enum { POSTED_INTERRUPT_DESCRIPTOR_BYTES = 64 };

static void write_apic_controls(const struct vmcs02_state *state, const struct vmcs12 *vmcs12, u32 secondary)
{
    if ((vmcs12->primary_controls & PRIMARY_TPR_SHADOW) != 0) {
        vmwrite(VMCS_VIRTUAL_APIC, written_page(state, vmcs12->virtual_apic, PAGE_SIZE));
        vmwrite(VMCS_TPR_THRESHOLD, vmcs12->tpr_threshold);
    }
    if ((secondary & SECONDARY_APIC_ACCESSES) != 0) {
        vmwrite(VMCS_APIC_ACCESS, vmcs12->apic_access);
        /* Only a 4-KByte page is sure to be virtualized (SDM vol. 3C 30.4.5): on Umbra's own tables it has to
         * become one. */
        if (!l1_uses_ept(vmcs12))
            (void)tdp_track(&machine.tdp, gpa(vmcs12->apic_access));
    }
    if ((secondary & SECONDARY_VIRTUAL_INTERRUPTS) != 0) {
        for (unsigned i = 0; i < EOI_EXIT_BITMAPS; i++)
            vmwrite((enum vmcs_field)(VMCS_EOI_EXIT_BITMAP0 + 2 * i), vmcs12->eoi_exit_bitmap[i]);
    }
    if ((vmcs12->pin_controls & PIN_POSTED_INTERRUPTS) != 0) {
        u64 descriptor = vmcs12->posted_interrupt_descriptor;
        vmwrite(VMCS_POSTED_INTERRUPT_DESCRIPTOR,
                written_page(state, descriptor, POSTED_INTERRUPT_DESCRIPTOR_BYTES));
        vmwrite(VMCS_POSTED_INTERRUPT_VECTOR, vmcs12->posted_interrupt_vector);
    }
}

static void write_secondary_fields(const struct vmcs12 *vmcs12, u32 secondary)
{
    if ((secondary & SECONDARY_XSAVES) != 0)
        vmwrite(VMCS_XSS_EXITING_BITMAP, vmcs12->xss_exiting_bitmap);
    if ((secondary & SECONDARY_ENCLS_EXITING) != 0)
        vmwrite(VMCS_ENCLS_EXITING_BITMAP, vmcs12->encls_exiting_bitmap);
    if ((secondary & SECONDARY_TSC_SCALING) != 0)
        vmwrite(VMCS_TSC_MULTIPLIER, vmcs12->tsc_multiplier);
    if ((secondary & SECONDARY_VM_FUNCTIONS) != 0)
        vmwrite(VMCS_VM_FUNCTION_CONTROLS, 0);
    if ((secondary & SECONDARY_PAUSE_LOOP_EXITING) != 0) {
        vmwrite(VMCS_PLE_GAP, vmcs12->ple_gap);
        vmwrite(VMCS_PLE_WINDOW, vmcs12->ple_window);
    }
}

static void write_masks(const struct vmcs12 *vmcs12)
{
    vmwrite(VMCS_CR0_MASK, vmcs12->cr0_mask);
    vmwrite(VMCS_CR0_SHADOW, vmcs12->cr0_shadow);
    vmwrite(VMCS_CR4_MASK, vmx_merge_cr4_mask(vmcs12));
    vmwrite(VMCS_CR4_SHADOW, vmx_merge_cr4_shadow(vmcs12));
    vmwrite(VMCS_EXCEPTION_BITMAP, vmcs12->exception_bitmap);
    vmwrite(VMCS_PAGE_FAULT_MASK, vmcs12->page_fault_mask);
    vmwrite(VMCS_PAGE_FAULT_MATCH, vmcs12->page_fault_match);
    vmwrite(VMCS_CR3_TARGET_COUNT, vmcs12->cr3_target_count);
    for (unsigned i = 0; i < vmcs12->cr3_target_count && i < CR3_TARGETS; i++)
        vmwrite((enum vmcs_field)(VMCS_CR3_TARGET0 + 2 * i), vmcs12->cr3_target[i]);
}

static void write_controls(const struct vmcs02_state *state, const struct vmcs12 *vmcs12)
{
    const u32 *word = state->active->controls;

    vmwrite(VMCS_PIN_CONTROLS, word[CONTROL_PIN]);
    vmwrite(VMCS_SECONDARY_CONTROLS, word[CONTROL_SECONDARY]);
    vmwrite(VMCS_EXIT_CONTROLS, word[CONTROL_EXIT]);
    vmwrite(VMCS_ENTRY_CONTROLS, word[CONTROL_ENTRY]);
    write_masks(vmcs12);
    if ((word[CONTROL_PRIMARY] & PRIMARY_IO_BITMAPS) != 0) {
        vmwrite(VMCS_IO_BITMAP_A, read_page(state, vmcs12->io_bitmap_a));
        vmwrite(VMCS_IO_BITMAP_B, read_page(state, vmcs12->io_bitmap_b));
    }
    if ((word[CONTROL_PRIMARY] & PRIMARY_TSC_OFFSETTING) != 0)
        vmwrite(VMCS_TSC_OFFSET, vmcs12->tsc_offset);
    write_apic_controls(state, vmcs12, word[CONTROL_SECONDARY]);
    write_secondary_fields(vmcs12, word[CONTROL_SECONDARY]);
}

/* The guest's memory is what it is since boot. */
static const u64 *l1_msr_bitmap(const struct vmcs12 *vmcs12)
{
    return (vmcs12->primary_controls & PRIMARY_MSR_BITMAPS) != 0
               ? guest_view(gpa(vmcs12->msr_bitmaps), PAGE_SIZE)
               : NULL;
}

static struct control_modes modes_of(const struct vmcs12 *vmcs12)
{
    return (struct control_modes){
        .ept_pointer = vmcs12->ept_pointer,
        .pin = vmcs12->pin_controls,
        .secondary = vmcs12_secondary(vmcs12),
        .exit = vmcs12->exit_controls,
        .entry = vmcs12->entry_controls,
        .vpid = vmcs12->vpid,
    };
}

bool vmcs02_modes_same(const struct vmcs02 *vmcs02, const struct vmcs12 *vmcs12)
{
    const struct control_modes *last = &vmcs02->modes, modes = modes_of(vmcs12);

    return last->ept_pointer == modes.ept_pointer && last->pin == modes.pin &&
           last->secondary == modes.secondary && last->exit == modes.exit && last->entry == modes.entry &&
           last->vpid == modes.vpid;
}

/* Before vmcs02 is current. False: the modes and with them the plan are as they were. */
static bool take_controls(struct vmcs02_state *state, const struct vmcs12 *vmcs12, struct switch_plan *plan)
{
    struct vmcs02 *vmcs02 = state->active;
    const u64 *bitmap = l1_msr_bitmap(vmcs12);

    if (bitmap != vmcs02->l1_msr_bitmap)
        vmx_msr_forget(&vmcs02->msr_merge);
    vmcs02->l1_msr_bitmap = bitmap;
    vmx_merge_controls(vmcs12, vmx_capability.controls.word, vmcs02->controls);
    if (vmcs02_modes_same(vmcs02, vmcs12))
        return false;
    state->acquired_for = NULL;
    vmcs02->modes = modes_of(vmcs12);
    vmcs02->key = l2_shadow_key(vmcs12);
    *plan = l2_switch_plan(vmcs12);
    return true;
}

void vmcs02_load(struct vcpu *vcpu, struct nested_vmx *nested)
{
    struct vmcs02_state *state = nested->vmcs02;
    struct vmcs02 *vmcs02 = state->active;
    const struct vmcs12 *vmcs12 = &nested->vmcs12;
    bool controls = (nested->dirty & VMCS12_CONTROLS) != 0, modes = false;
    struct carried_registers carried;
    struct switch_plan plan;

    l2_take_nmi_blocking(state, vmcs12);
    if (controls)
        modes = take_controls(state, vmcs12, &plan);
    if ((nested->dirty & VMCS12_HOST) != 0 || modes)
        l1_take_host_segments(vmcs02, vmcs12);
    l2_state_carry(modes ? &plan : &vmcs02->plan, &carried);
    vmx_switch_vmcs(vcpu, vmcs02->vmcs, vmcs02->controls[CONTROL_PRIMARY], l2_nmi_controls(state, vmcs12));
    if (controls)
        write_controls(state, vmcs12);
    if (modes)
        l2_state_change_plan(nested, &plan);
    /* L1 may write its bitmap at any time, so each entry reads it. */
    vmx_msr_merge(&vmcs02->msr_merge, vmcs02->l1_msr_bitmap);
    l2_state_load(nested, &carried);
    nested->dirty = 0;
}
