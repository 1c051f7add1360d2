/* SPDX-License-Identifier: MIT */
/*
 * L2's registers between vmcs12 and vmcs02. An exit saves what L1's exit loop reads, compared with what L1
 * knows already; all else stays in vmcs02 until L1 asks for a part of it, and an entry writes what L1 has
 * changed. What L1's controls switch or not is decided by a plan that is made when the controls change.
 * Source: SDM vol. 3C 27.3.2, 28.3, 28.5.
 */
#include "nested/vmx-shadowing.h"
#include "nested/vmx-vmcs02.h"

/* --- the plan: registers that L1's controls switch or not --- */

/* Offsets in struct vmcs12; guest 0: L1 has no such field; host 0: an exit that loads the register makes it
 * 0.
 */
struct switched_register {
    enum vmcs_field field;
    u16 guest, host;
    u32 load, save, host_load; /* entry control; exit controls; save 0: saved by every exit */
    enum control_feature feature;
};

#define GUEST(member) offsetof(struct vmcs12, guest_##member)
#define HOST(member)  offsetof(struct vmcs12, host_##member)

static const struct switched_register switched[SWITCHED_REGISTERS] = {
    [SWITCHED_EFER] = {VMCS_GUEST_EFER, GUEST(efer), HOST(efer), ENTRY_LOAD_EFER, EXIT_SAVE_EFER,
                       EXIT_LOAD_EFER, FEATURE_NONE},
    {VMCS_GUEST_PAT, GUEST(pat), HOST(pat), ENTRY_LOAD_PAT, EXIT_SAVE_PAT, EXIT_LOAD_PAT, FEATURE_NONE},
    {VMCS_GUEST_DEBUGCTL, GUEST(debugctl), 0, ENTRY_LOAD_DEBUG, EXIT_SAVE_DEBUG, 0, FEATURE_NONE},
    {VMCS_GUEST_DR7, GUEST(dr7), 0, ENTRY_LOAD_DEBUG, EXIT_SAVE_DEBUG, 0, FEATURE_NONE},
    {VMCS_GUEST_PERF_GLOBAL_CTRL, GUEST(perf_global_ctrl), HOST(perf_global_ctrl),
     ENTRY_LOAD_PERF_GLOBAL_CTRL, EXIT_SAVE_PERF_GLOBAL_CTRL, EXIT_LOAD_PERF_GLOBAL_CTRL,
     FEATURE_PERF_GLOBAL_CTRL},
    {VMCS_GUEST_BNDCFGS, GUEST(bndcfgs), 0, ENTRY_LOAD_BNDCFGS, 0, EXIT_CLEAR_BNDCFGS, FEATURE_BNDCFGS},
    {VMCS_GUEST_PKRS, GUEST(pkrs), HOST(pkrs), ENTRY_LOAD_PKRS, 0, EXIT_LOAD_PKRS, FEATURE_PKRS},
    {VMCS_GUEST_S_CET, GUEST(s_cet), HOST(s_cet), ENTRY_LOAD_CET, 0, EXIT_LOAD_CET, FEATURE_CET},
    {VMCS_GUEST_SSP, GUEST(ssp), HOST(ssp), ENTRY_LOAD_CET, 0, EXIT_LOAD_CET, FEATURE_CET},
    {VMCS_GUEST_INTERRUPT_SSP_TABLE, GUEST(interrupt_ssp_table), HOST(interrupt_ssp_table), ENTRY_LOAD_CET, 0,
     EXIT_LOAD_CET, FEATURE_CET},
    /* L1 has no control of it, so L2 goes on with L1's, and back. */
    {VMCS_GUEST_LBR_CTL, 0, 0, 0, 0, 0, FEATURE_LBR_CTL},
};

/* An exit gives these to L1 as constants, whatever the controls. */
#define DEBUG_REGISTERS (1u << SWITCHED_DEBUGCTL | 1u << SWITCHED_DR7)
#define DR7_INIT        0x400

static u64 *member(struct vmcs12 *vmcs12, u16 offset)
{
    return (u64 *)(void *)((u8 *)vmcs12 + offset);
}

static u64 value_of(const struct vmcs12 *vmcs12, u16 offset)
{
    return *(const u64 *)(const void *)((const u8 *)vmcs12 + offset);
}

#define FOR_EACH_BIT(index, mask)                                                                            \
    for (u32 rest = (mask), index; rest != 0 && (index = (u32)__builtin_ctz(rest), true); rest &= rest - 1)

static void add_to_plan(struct switch_plan *plan, const struct vmcs12 *vmcs12, u32 index)
{
    const struct switched_register *row = &switched[index];
    u16 bit = (u16)(1u << index);
    bool loaded = (vmcs12->entry_controls & row->load) != 0;
    bool saved = row->guest != 0 && (row->save == 0 || (vmcs12->exit_controls & row->save) != 0);

    if (row->feature != FEATURE_NONE && !vmx_capability.controls.feature[row->feature])
        return;
    if (loaded)
        plan->loaded |= bit;
    else
        plan->carried |= bit;
    if (loaded && !saved)
        plan->renewed |= bit;
    if (saved)
        *(loaded ? &plan->saved : &plan->saved_at_once) |= bit;
    if ((vmcs12->exit_controls & row->host_load) != 0)
        plan->host |= bit;
    else if ((bit & DEBUG_REGISTERS) == 0)
        plan->kept |= bit;
}

struct switch_plan l2_switch_plan(const struct vmcs12 *vmcs12)
{
    struct switch_plan plan = {.pdptes = l1_uses_ept(vmcs12)};

    for (u32 i = 0; i < SWITCHED_REGISTERS; i++)
        add_to_plan(&plan, vmcs12, i);
    return plan;
}

static bool same_plan(const struct switch_plan *a, const struct switch_plan *b)
{
    return a->loaded == b->loaded && a->carried == b->carried && a->renewed == b->renewed &&
           a->saved == b->saved && a->saved_at_once == b->saved_at_once && a->pdptes == b->pdptes;
}

/* --- the entry --- */

/* SDM vol. 3C 27.3.2.1: without "load IA32_EFER" LMA and LME follow "IA-32e mode guest". */
static u64 carried_efer(const struct vmcs12 *vmcs12, u64 efer)
{
    bool long_mode = (vmcs12->entry_controls & ENTRY_IA32E_GUEST) != 0;

    efer = long_mode ? efer | EFER_LMA : efer & ~EFER_LMA;
    if ((vmcs12->guest_cr0 & CR0_PG) != 0)
        efer = long_mode ? efer | EFER_LME : efer & ~EFER_LME;
    return efer;
}

void l2_state_carry(const struct switch_plan *plan, struct carried_registers *carried)
{
    FOR_EACH_BIT(index, plan->carried)
    {
        carried->value[index] = vmread(switched[index].field);
    }
}

static void write_segments(const struct vmcs12 *vmcs12)
{
    for (unsigned i = 0; i < VMCS_SEGMENTS; i++) {
        vmwrite(vmcs_segment_field(VMCS_GUEST_ES_SELECTOR, i), vmcs12->guest_selector[i]);
        vmwrite(vmcs_segment_field(VMCS_GUEST_ES_BASE, i), vmcs12->guest_base[i]);
        vmwrite(vmcs_segment_field(VMCS_GUEST_ES_LIMIT, i), vmcs12->guest_limit[i]);
        vmwrite(vmcs_segment_field(VMCS_GUEST_ES_RIGHTS, i), vmcs12->guest_rights[i]);
    }
    vmwrite(VMCS_GUEST_GDTR_BASE, vmcs12->guest_gdtr_base);
    vmwrite(VMCS_GUEST_GDTR_LIMIT, vmcs12->guest_gdtr_limit);
    vmwrite(VMCS_GUEST_IDTR_BASE, vmcs12->guest_idtr_base);
    vmwrite(VMCS_GUEST_IDTR_LIMIT, vmcs12->guest_idtr_limit);
}

/* All fields are constants to the compiler, and each CPU has them: every exit that L1 gets reads them. */
static inline __attribute__((always_inline)) void read_segment(struct vmcs12 *vmcs12,
                                                               enum vmcs_segment segment)
{
    vmcs12->guest_selector[segment] =
        (u16)vmread_unchecked(vmcs_segment_field(VMCS_GUEST_ES_SELECTOR, segment));
    vmcs12->guest_base[segment] = vmread_unchecked(vmcs_segment_field(VMCS_GUEST_ES_BASE, segment));
    vmcs12->guest_limit[segment] = (u32)vmread_unchecked(vmcs_segment_field(VMCS_GUEST_ES_LIMIT, segment));
    vmcs12->guest_rights[segment] = (u32)vmread_unchecked(vmcs_segment_field(VMCS_GUEST_ES_RIGHTS, segment));
}

static void read_segments(struct vmcs12 *vmcs12)
{
    read_segment(vmcs12, VMCS_ES);
    read_segment(vmcs12, VMCS_CS);
    read_segment(vmcs12, VMCS_SS);
    read_segment(vmcs12, VMCS_DS);
    read_segment(vmcs12, VMCS_FS);
    read_segment(vmcs12, VMCS_GS);
    read_segment(vmcs12, VMCS_LDTR);
    read_segment(vmcs12, VMCS_TR);
    vmcs12->guest_gdtr_base = vmread_unchecked(VMCS_GUEST_GDTR_BASE);
    vmcs12->guest_gdtr_limit = (u32)vmread_unchecked(VMCS_GUEST_GDTR_LIMIT);
    vmcs12->guest_idtr_base = vmread_unchecked(VMCS_GUEST_IDTR_BASE);
    vmcs12->guest_idtr_limit = (u32)vmread_unchecked(VMCS_GUEST_IDTR_LIMIT);
}

static enum vmcs_field pdpte_field(unsigned index)
{
    return (enum vmcs_field)(VMCS_GUEST_PDPTE0 + 2 * index);
}

static void write_registers(const struct vmcs12 *vmcs12)
{
    vmwrite(VMCS_GUEST_CR0, vmcs12->guest_cr0);
    vmwrite(VMCS_GUEST_CR3, vmcs12->guest_cr3);
    vmwrite(VMCS_GUEST_CR4, vmcs12->guest_cr4);
    vmwrite(VMCS_GUEST_SYSENTER_CS, vmcs12->guest_sysenter_cs);
    vmwrite(VMCS_GUEST_SYSENTER_ESP, vmcs12->guest_sysenter_esp);
    vmwrite(VMCS_GUEST_SYSENTER_EIP, vmcs12->guest_sysenter_eip);
    vmwrite(VMCS_GUEST_ACTIVITY, vmcs12->guest_activity);
    vmwrite(VMCS_GUEST_PENDING_DEBUG, vmcs12->guest_pending_debug);
    if (l1_uses_ept(vmcs12)) {
        for (unsigned i = 0; i < VMCS_PDPTES; i++)
            vmwrite(pdpte_field(i), vmcs12->guest_pdpte[i]);
    }
}

static void write_hot(const struct vmcs02_state *state, const struct vmcs12 *vmcs12, u32 dirty)
{
    const u32 *word = state->active->controls;

    if ((dirty & VMCS12_HOT) != 0) {
        vmwrite_unchecked(VMCS_GUEST_RSP, vmcs12->guest_rsp);
        vmwrite_unchecked(VMCS_GUEST_RIP, vmcs12->guest_rip);
    }
    if ((dirty & VMCS12_EVENT) != 0)
        vmwrite_unchecked(VMCS_GUEST_RFLAGS, vmcs12->guest_rflags);
    /* What vmcs02 has of NMI blocking depends on the controls, too. */
    if ((dirty & (VMCS12_EVENT | VMCS12_CONTROLS)) != 0 || l2_interruptibility_differs(vmcs12))
        vmwrite_unchecked(VMCS_GUEST_INTERRUPTIBILITY, l2_interruptibility(vmcs12));
    if ((word[CONTROL_SECONDARY] & SECONDARY_VIRTUAL_INTERRUPTS) != 0)
        vmwrite(VMCS_GUEST_INTERRUPT_STATUS, vmcs12->guest_interrupt_status);
    /* Each entry winds the timer up, whether L1 wrote the field or not. */
    if ((word[CONTROL_PIN] & PIN_PREEMPTION_TIMER) != 0)
        vmwrite(VMCS_GUEST_PREEMPTION_TIMER, vmcs12->guest_preemption_timer);
}

/* With other controls vmcs02 has in part what L1 does not want, so vmcs12 has to have all before all is
 * written. */
void l2_state_change_plan(struct nested_vmx *nested, const struct switch_plan *plan)
{
    struct switch_plan *old = &nested->vmcs02->active->plan;

    if (same_plan(old, plan)) {
        *old = *plan;
        return;
    }
    if (nested->unsaved)
        l2_state_read(nested);
    *old = *plan;
    nested->dirty |= VMCS12_GUEST;
}

void l2_state_load(struct nested_vmx *nested, const struct carried_registers *carried)
{
    const struct vmcs12 *vmcs12 = &nested->vmcs12;
    const struct switch_plan *plan = &nested->vmcs02->active->plan;
    u32 dirty = nested->dirty, written = plan->renewed;

    if ((dirty & VMCS12_SEGMENTS) != 0)
        write_segments(vmcs12);
    if ((dirty & VMCS12_GUEST) != 0) {
        write_registers(vmcs12);
        written = plan->loaded;
    }
    write_hot(nested->vmcs02, vmcs12, dirty);
    FOR_EACH_BIT(index, written)
    {
        vmwrite_unchecked(switched[index].field, value_of(vmcs12, switched[index].guest));
    }
    FOR_EACH_BIT(other, plan->carried)
    {
        u64 value = carried->value[other];
        vmwrite_unchecked(switched[other].field,
                          other == SWITCHED_EFER ? carried_efer(vmcs12, value) : value);
    }
}

/* --- the exit --- */

#define TAKE(name, field)                                                                                    \
    {                                                                                                        \
        __typeof__(vmcs12->field) value = (__typeof__(vmcs12->field))vmread_unchecked(VMCS_##name);          \
        if (__builtin_expect(vmcs12->field != value, false)) {                                               \
            vmcs12->field = value;                                                                           \
            stale |= SHADOWED(name);                                                                         \
        }                                                                                                    \
    }

u32 l2_information_save(struct vmcs12 *vmcs12)
{
    u32 stale = 0;

    VMX_SHADOWED_INFORMATION(TAKE)
    return stale;
}

static u32 save_interruptibility(const struct vmcs02_state *state, struct vmcs12 *vmcs12)
{
    u32 value = l2_saved_interruptibility(state, vmcs12, vmread_unchecked(VMCS_GUEST_INTERRUPTIBILITY));

    if (value == vmcs12->guest_interruptibility)
        return 0;
    vmcs12->guest_interruptibility = value;
    return SHADOWED(GUEST_INTERRUPTIBILITY);
}

static void save_by_controls(const u32 *word, struct vmcs12 *vmcs12)
{
    if ((word[CONTROL_SECONDARY] & SECONDARY_VIRTUAL_INTERRUPTS) != 0)
        vmcs12->guest_interrupt_status = (u16)vmread(VMCS_GUEST_INTERRUPT_STATUS);
    if ((vmcs12->exit_controls & EXIT_SAVE_PREEMPTION_TIMER) != 0 &&
        (vmcs12->pin_controls & PIN_PREEMPTION_TIMER) != 0)
        vmcs12->guest_preemption_timer = (u32)vmread(VMCS_GUEST_PREEMPTION_TIMER);
    /* "IA-32e mode guest" follows EFER.LMA (SDM vol. 3C 28.2, IA32_VMX_MISC bit 5). */
    vmcs12->entry_controls = (u32)((vmcs12->entry_controls & ~ENTRY_IA32E_GUEST) |
                                   (vmread_unchecked(VMCS_ENTRY_CONTROLS) & ENTRY_IA32E_GUEST));
}

u32 l2_state_save(struct nested_vmx *nested, struct carried_registers *kept)
{
    struct vmcs12 *vmcs12 = &nested->vmcs12;
    const struct vmcs02 *vmcs02 = nested->vmcs02->active;
    u32 stale = 0;

    VMX_SHADOWED_POINTERS(TAKE)
    VMX_SHADOWED_STATE(TAKE)
    TAKE(GUEST_RFLAGS, guest_rflags)
    stale |= save_interruptibility(nested->vmcs02, vmcs12);
    vmcs12->guest_activity = (u32)vmread_unchecked(VMCS_GUEST_ACTIVITY);
    vmcs12->guest_pending_debug = vmread_unchecked(VMCS_GUEST_PENDING_DEBUG);
    save_by_controls(vmcs02->controls, vmcs12);
    nested->unsaved = true;
    FOR_EACH_BIT(carried, vmcs02->plan.saved_at_once)
    {
        *member(vmcs12, switched[carried].guest) = vmread(switched[carried].field);
    }
    FOR_EACH_BIT(index, vmcs02->plan.kept)
    {
        kept->value[index] = vmread(switched[index].field);
    }
    return stale;
}

/* Saved with EPT only, but then whatever the paging mode: SDM vol. 3C 28.3.4. */
static void read_pdptes(struct vmcs12 *vmcs12)
{
    for (unsigned i = 0; i < VMCS_PDPTES; i++)
        vmcs12->guest_pdpte[i] = vmread(pdpte_field(i));
}

/* What the exit has saved already has not changed. */
void l2_state_read(struct nested_vmx *nested)
{
    struct vmcs12 *vmcs12 = &nested->vmcs12;
    const struct switch_plan *plan = &nested->vmcs02->active->plan;

    read_segments(vmcs12);
    vmcs12->guest_sysenter_cs = (u32)vmread(VMCS_GUEST_SYSENTER_CS);
    vmcs12->guest_sysenter_esp = vmread(VMCS_GUEST_SYSENTER_ESP);
    vmcs12->guest_sysenter_eip = vmread(VMCS_GUEST_SYSENTER_EIP);
    if (plan->pdptes)
        read_pdptes(vmcs12);
    FOR_EACH_BIT(index, plan->saved)
    {
        *member(vmcs12, switched[index].guest) = vmread(switched[index].field);
    }
    nested->unsaved = false;
}

void nested_vmx_save_state(struct vcpu *vcpu)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);

    if (!nested->unsaved)
        return;
    vmx_visit_vmcs(nested->vmcs02->active->vmcs);
    l2_state_read(nested);
    vmx_return_to_vmcs01(vcpu);
}

/* SDM vol. 3C 28.5.1: what no control loads keeps L2's value. */
void l1_switched_registers_load(const struct vmcs12 *vmcs12, const struct switch_plan *plan,
                                const struct carried_registers *kept)
{
    const u64 long_mode = EFER_LMA | EFER_LME;
    bool host64 = (vmcs12->exit_controls & EXIT_HOST_64) != 0;

    vmwrite_unchecked(VMCS_GUEST_DEBUGCTL, 0);
    vmwrite_unchecked(VMCS_GUEST_DR7, DR7_INIT);
    FOR_EACH_BIT(index, plan->host)
    {
        u16 host = switched[index].host;
        vmwrite_unchecked(switched[index].field, host == 0 ? 0 : value_of(vmcs12, host));
    }
    FOR_EACH_BIT(other, plan->kept)
    {
        u64 value = kept->value[other];
        if (other == SWITCHED_EFER)
            value = host64 ? value | long_mode : value & ~long_mode;
        /* L2 may have been in 64-bit mode by itself; what is above 4 GByte no entry to L1 would take. */
        if (switched[other].field == VMCS_GUEST_SSP && !host64)
            value &= BITS(31, 0);
        vmwrite_unchecked(switched[other].field, value);
    }
}
