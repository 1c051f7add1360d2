/* SPDX-License-Identifier: MIT */
/* Checks on the guest-state area of a VM entry, SDM vol. 3C 27.3.1; see nested/vmx-check.h. */
#include "arch/x86.h"
#include "nested/vmx-check-parts.h"

static bool is_ia32e(const struct vmx_check_input *input)
{
    return entry_on(input, ENTRY_IA32E_GUEST);
}

static bool is_code64(const struct vmx_check_input *input)
{
    return is_ia32e(input) && (input->vmcs12->guest_rights[VMCS_CS] & RIGHTS_LONG) != 0;
}

/* --- 27.3.1.1 control registers, debug registers and MSRs --- */

static enum vmx_check check_control_registers(const struct vmx_check_input *input)
{
    const struct vmcs12 *vmcs12 = input->vmcs12;
    u64 exempt = secondary_on(input, SECONDARY_UNRESTRICTED_GUEST) ? CR0_PE | CR0_PG : 0;
    u64 cr0 = vmcs12->guest_cr0, cr4 = vmcs12->guest_cr4;

    REQUIRE(has_fixed_bits(input, cr0, MSR_IA32_VMX_CR0_FIXED0, exempt), GUEST_CR0);
    REQUIRE((cr0 & CR0_PG) == 0 || (cr0 & CR0_PE) != 0, GUEST_PG_WITHOUT_PE);
    REQUIRE(has_fixed_bits(input, cr4, MSR_IA32_VMX_CR4_FIXED0, 0), GUEST_CR4);
    REQUIRE((cr4 & CR4_CET) == 0 || (cr0 & CR0_WP) != 0, GUEST_CET_WITHOUT_WP);
    if (is_ia32e(input))
        REQUIRE((cr0 & CR0_PG) != 0 && (cr4 & CR4_PAE) != 0, GUEST_64_PAGING);
    else
        REQUIRE((cr4 & CR4_PCIDE) == 0, GUEST_32_PCIDE);
    REQUIRE((vmcs12->guest_cr3 & ~input->capability->cr3_valid) == 0, GUEST_CR3);
    return VMX_CHECK_OK;
}

static enum vmx_check check_debug(const struct vmx_check_input *input)
{
    if (!entry_on(input, ENTRY_LOAD_DEBUG))
        return VMX_CHECK_OK;
    REQUIRE((input->vmcs12->guest_debugctl & ~input->capability->debugctl_valid) == 0, GUEST_DEBUGCTL);
    REQUIRE(input->vmcs12->guest_dr7 >> 32 == 0, GUEST_DR7);
    return VMX_CHECK_OK;
}

static enum vmx_check check_efer(const struct vmx_check_input *input)
{
    u64 efer = input->vmcs12->guest_efer;
    bool lma = (efer & EFER_LMA) != 0, lme = (efer & EFER_LME) != 0;

    if (!entry_on(input, ENTRY_LOAD_EFER))
        return VMX_CHECK_OK;
    REQUIRE((efer & ~input->capability->efer_valid) == 0, GUEST_EFER_RESERVED);
    REQUIRE(lma == is_ia32e(input), GUEST_EFER_LMA);
    REQUIRE(lma == lme || (input->vmcs12->guest_cr0 & CR0_PG) == 0, GUEST_EFER_LME);
    return VMX_CHECK_OK;
}

static enum vmx_check check_cet(const struct vmx_check_input *input)
{
    const struct vmcs12 *vmcs12 = input->vmcs12;

    if (!entry_on(input, ENTRY_LOAD_CET))
        return VMX_CHECK_OK;
    REQUIRE(is_s_cet(input, vmcs12->guest_s_cet), GUEST_S_CET);
    REQUIRE(is_canonical(input, vmcs12->guest_interrupt_ssp_table), GUEST_SSP_TABLE);
    return VMX_CHECK_OK;
}

#define BNDCFGS_RESERVED BITS(11, 2)

static enum vmx_check check_msrs(const struct vmx_check_input *input)
{
    const struct vmcs12 *vmcs12 = input->vmcs12;

    REQUIRE(is_canonical(input, vmcs12->guest_sysenter_esp) &&
                is_canonical(input, vmcs12->guest_sysenter_eip),
            GUEST_SYSENTER);
    REQUIRE_OK(check_cet(input));
    if (entry_on(input, ENTRY_LOAD_PERF_GLOBAL_CTRL)) {
        REQUIRE((vmcs12->guest_perf_global_ctrl & ~input->capability->perf_global_valid) == 0,
                GUEST_PERF_GLOBAL_CTRL);
    }
    if (entry_on(input, ENTRY_LOAD_PAT))
        REQUIRE(is_pat(vmcs12->guest_pat), GUEST_PAT);
    REQUIRE_OK(check_efer(input));
    if (entry_on(input, ENTRY_LOAD_BNDCFGS)) {
        u64 base = vmcs12->guest_bndcfgs & ~PAGE_MASK;
        REQUIRE((vmcs12->guest_bndcfgs & BNDCFGS_RESERVED) == 0 && is_canonical(input, base), GUEST_BNDCFGS);
    }
    if (entry_on(input, ENTRY_LOAD_PKRS))
        REQUIRE(vmcs12->guest_pkrs >> 32 == 0, GUEST_PKRS);
    return VMX_CHECK_OK;
}

/* --- 27.3.1.3 descriptor-table registers --- */

static enum vmx_check check_descriptor_tables(const struct vmx_check_input *input)
{
    const struct vmcs12 *vmcs12 = input->vmcs12;

    REQUIRE(is_canonical(input, vmcs12->guest_gdtr_base) && is_canonical(input, vmcs12->guest_idtr_base),
            DESCRIPTOR_TABLE_BASE);
    REQUIRE(((vmcs12->guest_gdtr_limit | vmcs12->guest_idtr_limit) & BITS(31, 16)) == 0,
            DESCRIPTOR_TABLE_LIMIT);
    return VMX_CHECK_OK;
}

/* --- 27.3.1.4 RIP, RFLAGS and SSP --- */

#define RFLAGS_MUST_BE_0 (BITS(63, 22) | BIT(15) | BIT(5) | BIT(3))

static enum vmx_check check_rflags(const struct vmx_check_input *input)
{
    u64 rflags = input->vmcs12->guest_rflags;
    bool v86_possible = !is_ia32e(input) && (input->vmcs12->guest_cr0 & CR0_PE) != 0;

    REQUIRE((rflags & RFLAGS_MUST_BE_0) == 0 && (rflags & RFLAGS_RESERVED1) != 0, RFLAGS_RESERVED);
    REQUIRE(v86_possible || (rflags & RFLAGS_VM) == 0, VM_FLAG);
    return VMX_CHECK_OK;
}

/* RIP may be one past the last canonical address, so only bits beyond the width are compared, not its sign.
 */
static bool rip_valid(const struct vmx_check_input *input)
{
    u64 rip = input->vmcs12->guest_rip;
    u64 above = rip >> (input->capability->la57 ? 57 : 48);

    if (!is_code64(input))
        return rip >> 32 == 0;
    return above == 0 || above == (input->capability->la57 ? BITS(6, 0) : BITS(15, 0));
}

static bool ssp_valid(const struct vmx_check_input *input)
{
    u64 ssp = input->vmcs12->guest_ssp;

    return (ssp & BITS(1, 0)) == 0 && is_canonical(input, ssp) && (is_code64(input) || ssp >> 32 == 0);
}

enum vmx_check vmx_check_rip(const struct vmx_check_input *input)
{
    REQUIRE(rip_valid(input), RIP);
    if (injects_type(input, INTERRUPTION_EXTERNAL))
        REQUIRE((input->vmcs12->guest_rflags & RFLAGS_IF) != 0, INTERRUPT_FLAG);
    if (entry_on(input, ENTRY_LOAD_CET))
        REQUIRE(ssp_valid(input), SSP);
    return VMX_CHECK_OK;
}

/* --- 27.3.1.5 non-register state: activity --- */

static bool is_blocked_for_one_instruction(const struct vmcs12 *vmcs12)
{
    return (vmcs12->guest_interruptibility & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS)) != 0;
}

bool vmx_check_reads_debugctl(const struct vmcs12 *vmcs12)
{
    return is_blocked_for_one_instruction(vmcs12) || vmcs12->guest_activity == ACTIVITY_HLT;
}

static bool activity_supported(const struct vmx_check_input *input)
{
    u64 misc = nested_vmx_msr(input->capability, MSR_IA32_VMX_MISC);
    u32 activity = input->vmcs12->guest_activity;

    if (activity > ACTIVITY_WAIT_FOR_SIPI)
        return false;
    return activity == ACTIVITY_ACTIVE || (misc & (VMX_MISC_ACTIVITY_HLT << (activity - ACTIVITY_HLT))) != 0;
}

static bool injects_exception(const struct vmx_check_input *input, unsigned vector)
{
    return injects_type(input, INTERRUPTION_HARDWARE) && injected_vector(input) == vector;
}

/* Which events wake the CPU up. */
static bool activity_takes_event(const struct vmx_check_input *input)
{
    switch (input->vmcs12->guest_activity) {
    case ACTIVITY_ACTIVE:
        return true;
    case ACTIVITY_HLT:
        return injects_type(input, INTERRUPTION_EXTERNAL) || injects_type(input, INTERRUPTION_NMI) ||
               injects_exception(input, EXC_DB) || injects_exception(input, EXC_MC) ||
               injects_type(input, INTERRUPTION_OTHER);
    case ACTIVITY_SHUTDOWN:
        return injects_type(input, INTERRUPTION_NMI) || injects_exception(input, EXC_MC);
    default:
        return false;
    }
}

static enum vmx_check check_activity(const struct vmx_check_input *input)
{
    u32 activity = input->vmcs12->guest_activity;

    REQUIRE(activity_supported(input), ACTIVITY_UNSUPPORTED);
    if (activity == ACTIVITY_HLT)
        REQUIRE(RIGHTS_DPL(input->vmcs12->guest_rights[VMCS_SS]) == 0, ACTIVITY_HLT_DPL);
    if (is_blocked_for_one_instruction(input->vmcs12))
        REQUIRE(activity == ACTIVITY_ACTIVE, ACTIVITY_BLOCKING);
    if (injects(input))
        REQUIRE(activity_takes_event(input), ACTIVITY_EVENT);
    return VMX_CHECK_OK;
}

/* --- 27.3.1.5 non-register state: interruptibility --- */

static enum vmx_check check_interruptibility(const struct vmx_check_input *input)
{
    const u32 known = BLOCKING_BY_STI | BLOCKING_BY_MOV_SS | BLOCKING_BY_NMI;
    const u32 both = BLOCKING_BY_STI | BLOCKING_BY_MOV_SS;
    u32 blocking = input->vmcs12->guest_interruptibility;

    REQUIRE((blocking & ~known) == 0, INTERRUPTIBILITY_RESERVED);
    REQUIRE((blocking & both) != both, BLOCKING_BOTH);
    if ((blocking & BLOCKING_BY_STI) != 0)
        REQUIRE((input->vmcs12->guest_rflags & RFLAGS_IF) != 0, BLOCKING_STI_IF);
    if (injects_type(input, INTERRUPTION_EXTERNAL))
        REQUIRE((blocking & both) == 0, BLOCKING_EXTERNAL);
    if (injects_type(input, INTERRUPTION_NMI)) {
        REQUIRE((blocking & BLOCKING_BY_MOV_SS) == 0, BLOCKING_NMI_MOV_SS);
        REQUIRE(!pin_on(input, PIN_VIRTUAL_NMIS) || (blocking & BLOCKING_BY_NMI) == 0, BLOCKING_NMI);
    }
    return VMX_CHECK_OK;
}

/* --- 27.3.1.5 non-register state: pending debug exceptions --- */

#define PENDING_DEBUG_BREAKPOINT    BIT(12) /* enabled breakpoint */
#define PENDING_DEBUG_RTM_BIT       BIT(16)
#define PENDING_DEBUG_RESERVED_BITS (BITS(11, 4) | BIT(13) | BIT(15) | BITS(63, 17))
#define DEBUGCTL_BTF                BIT(1)

static bool step_trap_due(const struct vmx_check_input *input)
{
    return (input->vmcs12->guest_rflags & RFLAGS_TF) != 0 &&
           (input->vmcs12->guest_debugctl & DEBUGCTL_BTF) == 0;
}

static bool pending_rtm_valid(const struct vmx_check_input *input)
{
    u64 pending = input->vmcs12->guest_pending_debug;
    bool alone = (pending & (BITS(11, 0) | BITS(15, 13))) == 0 && (pending & PENDING_DEBUG_BREAKPOINT) != 0;

    return alone && input->capability->rtm &&
           (input->vmcs12->guest_interruptibility & BLOCKING_BY_MOV_SS) == 0;
}

static enum vmx_check check_pending_debug(const struct vmx_check_input *input)
{
    const struct vmcs12 *vmcs12 = input->vmcs12;
    u64 pending = vmcs12->guest_pending_debug;

    REQUIRE((pending & PENDING_DEBUG_RESERVED_BITS) == 0, PENDING_DEBUG_RESERVED);
    if (vmx_check_reads_debugctl(vmcs12))
        REQUIRE(((pending & PENDING_DEBUG_BS) != 0) == step_trap_due(input), PENDING_DEBUG_STEP);
    if ((pending & PENDING_DEBUG_RTM_BIT) != 0)
        REQUIRE(pending_rtm_valid(input), PENDING_DEBUG_RTM);
    return VMX_CHECK_OK;
}

/* --- 27.3.1.5 non-register state: VMCS link pointer --- */

static enum vmx_check check_link_pointer(const struct vmx_check_input *input)
{
    u64 link = input->vmcs12->link_pointer;
    u32 expected = VMCS12_REVISION;
    u64 found = ~0ull;

    if (link == ~0ull)
        return VMX_CHECK_OK;
    REQUIRE(is_address(input, link, PAGE_SIZE), LINK_POINTER_ADDRESS);
    REQUIRE(link != input->current, LINK_POINTER_CURRENT);
    if (secondary_on(input, SECONDARY_VMCS_SHADOWING))
        expected |= VMCS_SHADOW_INDICATOR;
    /* What is not RAM has no revision. */
    if (input->memory->load(input->memory, gpa(link), sizeof(u32), &found) != MEMORY_OK)
        return VMX_CHECK_LINK_POINTER_REVISION;
    REQUIRE((u32)found == expected, LINK_POINTER_REVISION);
    return VMX_CHECK_OK;
}

/* --- 27.3.1.6 PDPTEs --- */

#define CR3_PAE_BASE   BITS(31, 5)
#define PDPTE_PRESENT  BIT(0)
#define PDPTE_RESERVED (BITS(2, 1) | BITS(8, 5))

static bool uses_pae(const struct vmx_check_input *input)
{
    const struct vmcs12 *vmcs12 = input->vmcs12;

    return (vmcs12->guest_cr0 & CR0_PG) != 0 && (vmcs12->guest_cr4 & CR4_PAE) != 0 && !is_ia32e(input);
}

/* With EPT they come from the VMCS, else from memory, where what is not RAM reads as ones. */
static bool pdptes_valid(const struct vmx_check_input *input)
{
    const struct paging_memory *memory = input->memory;
    u64 reserved = PDPTE_RESERVED | ~(BIT(input->capability->maxphyaddr) - 1);
    u64 loaded[VMCS_PDPTES];
    const u64 *pdpte = input->vmcs12->guest_pdpte;

    if (!secondary_on(input, SECONDARY_EPT)) {
        gpa_t base = gpa(input->vmcs12->guest_cr3 & CR3_PAE_BASE);
        if (memory->read(memory, base, loaded, sizeof(loaded)) != MEMORY_OK)
            return false;
        pdpte = loaded;
    }
    for (unsigned i = 0; i < VMCS_PDPTES; i++) {
        if ((pdpte[i] & PDPTE_PRESENT) != 0 && (pdpte[i] & reserved) != 0)
            return false;
    }
    return true;
}

/* --- all of it --- */

enum vmx_check vmx_check_guest_rare(const struct vmx_check_input *input)
{
    REQUIRE_OK(check_control_registers(input));
    REQUIRE_OK(check_debug(input));
    REQUIRE_OK(check_msrs(input));
    REQUIRE_OK(check_rflags(input));
    REQUIRE_OK(vmx_check_segments(input));
    REQUIRE_OK(check_descriptor_tables(input));
    REQUIRE(!uses_pae(input) || !secondary_on(input, SECONDARY_EPT) || pdptes_valid(input), PDPTES);
    return VMX_CHECK_OK;
}

enum vmx_check vmx_check_guest_always(const struct vmx_check_input *input)
{
    REQUIRE_OK(vmx_check_rip(input));
    REQUIRE_OK(check_rflags(input));
    REQUIRE_OK(check_activity(input));
    REQUIRE_OK(check_interruptibility(input));
    REQUIRE_OK(check_pending_debug(input));
    REQUIRE_OK(check_link_pointer(input));
    REQUIRE(!uses_pae(input) || secondary_on(input, SECONDARY_EPT) || pdptes_valid(input), PDPTES);
    return VMX_CHECK_OK;
}

enum vmx_check vmx_check_guest(const struct vmx_check_input *input)
{
    REQUIRE_OK(vmx_check_guest_rare(input));
    return vmx_check_guest_always(input);
}

/* Exit qualification of an entry failure, SDM vol. 3C 27.8. */
enum { QUALIFICATION_PDPTE = 2, QUALIFICATION_LINK_POINTER = 4 };

u64 vmx_check_qualification(enum vmx_check check)
{
    switch (check) {
    case VMX_CHECK_PDPTES:
        return QUALIFICATION_PDPTE;
    case VMX_CHECK_LINK_POINTER_ADDRESS:
    case VMX_CHECK_LINK_POINTER_REVISION:
    case VMX_CHECK_LINK_POINTER_CURRENT:
        return QUALIFICATION_LINK_POINTER;
    default:
        return 0;
    }
}
