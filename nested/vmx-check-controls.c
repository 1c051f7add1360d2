/* SPDX-License-Identifier: MIT */
/* Checks on the control fields of a VM entry, SDM vol. 3C 27.2.1; see nested/vmx-check.h. */
#include "nested/vmx-check-parts.h"
#include "vmx/capability.h"

enum { MSR_LIST_ENTRY = 16, TPR_OFFSET = 0x80, POSTED_DESCRIPTOR_ALIGNMENT = 64 };

/* VMFUNC controls, SDM vol. 3C table 25-10. */
#define EPTP_SWITCHING VMFUNC_EPTP_SWITCHING

static bool is_allowed(const struct vmx_check_input *input, enum control_word word, u32 value)
{
    u64 allowed = nested_vmx_allowed(input->capability, word);

    return ((u32)allowed & ~value) == 0 && (value & ~(u32)(allowed >> 32)) == 0;
}

static bool is_page(const struct vmx_check_input *input, u64 address)
{
    return is_address(input, address, PAGE_SIZE);
}

/* Of `count` entries of 16 bytes; where it is does not matter if there are none. */
static bool is_msr_list(const struct vmx_check_input *input, u64 address, u32 count)
{
    return count == 0 || (is_address(input, address, MSR_LIST_ENTRY) &&
                          within_width(input, address + (u64)count * MSR_LIST_ENTRY - 1));
}

/* --- 27.2.1.1 VM-execution control fields --- */

static enum vmx_check check_allowed_settings(const struct vmx_check_input *input)
{
    const struct vmcs12 *vmcs12 = input->vmcs12;

    REQUIRE(is_allowed(input, CONTROL_PIN, vmcs12->pin_controls), PIN_RESERVED);
    REQUIRE(is_allowed(input, CONTROL_PRIMARY, vmcs12->primary_controls), PRIMARY_RESERVED);
    if (primary_on(input, PRIMARY_SECONDARY_CONTROLS))
        REQUIRE(is_allowed(input, CONTROL_SECONDARY, vmcs12->secondary_controls), SECONDARY_RESERVED);
    return VMX_CHECK_OK;
}

static enum vmx_check check_bitmaps(const struct vmx_check_input *input)
{
    const struct vmcs12 *vmcs12 = input->vmcs12;

    REQUIRE(vmcs12->cr3_target_count <= CR3_TARGETS, CR3_TARGET_COUNT);
    if (primary_on(input, PRIMARY_IO_BITMAPS))
        REQUIRE(is_page(input, vmcs12->io_bitmap_a) && is_page(input, vmcs12->io_bitmap_b), IO_BITMAP);
    if (primary_on(input, PRIMARY_MSR_BITMAPS))
        REQUIRE(is_page(input, vmcs12->msr_bitmaps), MSR_BITMAPS);
    return VMX_CHECK_OK;
}

/* What is not RAM reads as ones. */
static u8 virtual_tpr(const struct vmx_check_input *input)
{
    u8 tpr = 0xff;

    (void)input->memory->read(input->memory, gpa(input->vmcs12->virtual_apic + TPR_OFFSET), &tpr, 1);
    return tpr;
}

enum vmx_check vmx_check_virtual_tpr(const struct vmx_check_input *input)
{
    if (primary_on(input, PRIMARY_TPR_SHADOW) &&
        !secondary_on(input, SECONDARY_VIRTUAL_INTERRUPTS | SECONDARY_APIC_ACCESSES))
        REQUIRE(input->vmcs12->tpr_threshold <= virtual_tpr(input) >> 4, TPR_THRESHOLD_VTPR);
    return VMX_CHECK_OK;
}

static enum vmx_check check_tpr_shadow(const struct vmx_check_input *input)
{
    const struct vmcs12 *vmcs12 = input->vmcs12;

    if (!primary_on(input, PRIMARY_TPR_SHADOW)) {
        REQUIRE(!secondary_on(input, SECONDARY_X2APIC_MODE | SECONDARY_APIC_REGISTERS |
                                         SECONDARY_VIRTUAL_INTERRUPTS),
                NEEDS_TPR_SHADOW);
        return VMX_CHECK_OK;
    }
    REQUIRE(is_page(input, vmcs12->virtual_apic), VIRTUAL_APIC);
    if (!secondary_on(input, SECONDARY_VIRTUAL_INTERRUPTS))
        REQUIRE((vmcs12->tpr_threshold & BITS(31, 4)) == 0, TPR_THRESHOLD_RESERVED);
    return vmx_check_virtual_tpr(input);
}

static enum vmx_check check_nmis(const struct vmx_check_input *input)
{
    bool virtual_nmis = pin_on(input, PIN_VIRTUAL_NMIS);

    REQUIRE(pin_on(input, PIN_NMI_EXITING) || !virtual_nmis, VIRTUAL_NMIS);
    REQUIRE(virtual_nmis || !primary_on(input, PRIMARY_NMI_WINDOW), NMI_WINDOW);
    return VMX_CHECK_OK;
}

static enum vmx_check check_apic(const struct vmx_check_input *input)
{
    bool accesses = secondary_on(input, SECONDARY_APIC_ACCESSES);

    REQUIRE(!accesses || is_page(input, input->vmcs12->apic_access), APIC_ACCESS);
    REQUIRE(!accesses || !secondary_on(input, SECONDARY_X2APIC_MODE), X2APIC_AND_APIC_ACCESSES);
    if (secondary_on(input, SECONDARY_VIRTUAL_INTERRUPTS))
        REQUIRE(pin_on(input, PIN_EXTERNAL_INTERRUPT_EXITING), VIRTUAL_INTERRUPTS);
    return VMX_CHECK_OK;
}

static enum vmx_check check_posted_interrupts(const struct vmx_check_input *input)
{
    const struct vmcs12 *vmcs12 = input->vmcs12;

    if (!pin_on(input, PIN_POSTED_INTERRUPTS))
        return VMX_CHECK_OK;
    REQUIRE(secondary_on(input, SECONDARY_VIRTUAL_INTERRUPTS) && exit_on(input, EXIT_ACKNOWLEDGE_INTERRUPT),
            POSTED_INTERRUPTS);
    REQUIRE(vmcs12->posted_interrupt_vector <= 0xff, POSTED_INTERRUPT_VECTOR);
    REQUIRE(is_address(input, vmcs12->posted_interrupt_descriptor, POSTED_DESCRIPTOR_ALIGNMENT),
            POSTED_INTERRUPT_DESCRIPTOR);
    return VMX_CHECK_OK;
}

/* EPTP, SDM vol. 3C table 25-9. */
#define EPTP_TYPE                BITS(2, 0)
#define EPTP_WALK                BITS(5, 3)
#define EPTP_WALK_LEVELS(levels) ((u64)((levels)-1) << 3)
#define EPTP_ACCESSED_DIRTY      BIT(6)
#define EPTP_SUPERVISOR_SHADOW   BIT(7)
#define EPTP_RESERVED            BITS(11, 8)
#define EPTP_TYPE_UNCACHEABLE    0u
#define EPTP_TYPE_WRITE_BACK     6u

static bool eptp_type_valid(u64 offered, u64 eptp)
{
    switch (eptp & EPTP_TYPE) {
    case EPTP_TYPE_UNCACHEABLE:
        return (offered & EPT_UNCACHEABLE) != 0;
    case EPTP_TYPE_WRITE_BACK:
        return (offered & EPT_WRITE_BACK) != 0;
    default:
        return false;
    }
}

static bool eptp_walk_valid(u64 offered, u64 eptp)
{
    u64 walk = eptp & EPTP_WALK;

    return (walk == EPTP_WALK_LEVELS(4) && (offered & EPT_WALK_4) != 0) ||
           (walk == EPTP_WALK_LEVELS(5) && (offered & EPT_WALK_5) != 0);
}

bool vmx_check_eptp(const struct nested_vmx_capability *capability, u64 eptp)
{
    u64 offered = nested_vmx_msr(capability, MSR_IA32_VMX_EPT_VPID_CAP);
    u64 reserved = EPTP_RESERVED;

    if ((offered & EPT_ACCESSED_DIRTY) == 0)
        reserved |= EPTP_ACCESSED_DIRTY;
    if ((offered & EPT_SUPERVISOR_SHADOW_STACK) == 0)
        reserved |= EPTP_SUPERVISOR_SHADOW;
    return eptp_type_valid(offered, eptp) && eptp_walk_valid(offered, eptp) && (eptp & reserved) == 0 &&
           eptp >> capability->maxphyaddr == 0;
}

static enum vmx_check check_ept(const struct vmx_check_input *input)
{
    const struct vmcs12 *vmcs12 = input->vmcs12;
    bool ept = secondary_on(input, SECONDARY_EPT);

    if (secondary_on(input, SECONDARY_VPID))
        REQUIRE(vmcs12->vpid != 0, VPID);
    REQUIRE(!ept || vmx_check_eptp(input->capability, vmcs12->ept_pointer), EPT_POINTER);
    if (secondary_on(input, SECONDARY_PML)) {
        REQUIRE(ept, PML_WITHOUT_EPT);
        REQUIRE(is_page(input, vmcs12->pml_address), PML_ADDRESS);
    }
    REQUIRE(ept || !secondary_on(input, SECONDARY_UNRESTRICTED_GUEST), UNRESTRICTED_WITHOUT_EPT);
    REQUIRE(ept || !secondary_on(input, SECONDARY_MBEC), MBEC_WITHOUT_EPT);
    return VMX_CHECK_OK;
}

static enum vmx_check check_vm_functions(const struct vmx_check_input *input)
{
    const struct vmcs12 *vmcs12 = input->vmcs12;
    u64 functions = vmcs12->vm_function_controls;

    if (!secondary_on(input, SECONDARY_VM_FUNCTIONS))
        return VMX_CHECK_OK;
    REQUIRE((functions & ~nested_vmx_msr(input->capability, MSR_IA32_VMX_VMFUNC)) == 0,
            VM_FUNCTIONS_RESERVED);
    if ((functions & EPTP_SWITCHING) == 0)
        return VMX_CHECK_OK;
    REQUIRE(secondary_on(input, SECONDARY_EPT), EPTP_SWITCHING_WITHOUT_EPT);
    REQUIRE(is_page(input, vmcs12->eptp_list), EPTP_LIST);
    return VMX_CHECK_OK;
}

static enum vmx_check check_other_addresses(const struct vmx_check_input *input)
{
    const struct vmcs12 *vmcs12 = input->vmcs12;

    if (secondary_on(input, SECONDARY_VMCS_SHADOWING)) {
        REQUIRE(is_page(input, vmcs12->vmread_bitmap), VMREAD_BITMAP);
        REQUIRE(is_page(input, vmcs12->vmwrite_bitmap), VMWRITE_BITMAP);
    }
    if (secondary_on(input, SECONDARY_EPT_VIOLATION_VE))
        REQUIRE(is_page(input, vmcs12->ve_information), VE_INFORMATION);
    if (secondary_on(input, SECONDARY_TSC_SCALING))
        REQUIRE(vmcs12->tsc_multiplier != 0, TSC_MULTIPLIER);
    return VMX_CHECK_OK;
}

/* --- 27.2.1.2, 27.2.1.3 VM-exit and VM-entry control fields --- */

static enum vmx_check check_transition_controls(const struct vmx_check_input *input)
{
    const struct vmcs12 *vmcs12 = input->vmcs12;

    REQUIRE(is_allowed(input, CONTROL_EXIT, vmcs12->exit_controls), EXIT_RESERVED);
    REQUIRE(pin_on(input, PIN_PREEMPTION_TIMER) || !exit_on(input, EXIT_SAVE_PREEMPTION_TIMER),
            SAVE_PREEMPTION_TIMER);
    REQUIRE(is_msr_list(input, vmcs12->exit_msr_store, vmcs12->exit_msr_store_count), EXIT_MSR_STORE);
    REQUIRE(is_msr_list(input, vmcs12->exit_msr_load, vmcs12->exit_msr_load_count), EXIT_MSR_LOAD);
    REQUIRE(is_allowed(input, CONTROL_ENTRY, vmcs12->entry_controls), ENTRY_RESERVED);
    REQUIRE(is_msr_list(input, vmcs12->entry_msr_load, vmcs12->entry_msr_load_count), ENTRY_MSR_LOAD);
    return VMX_CHECK_OK;
}

enum vmx_check vmx_check_controls(const struct vmx_check_input *input)
{
    REQUIRE_OK(check_allowed_settings(input));
    REQUIRE_OK(check_bitmaps(input));
    REQUIRE_OK(check_tpr_shadow(input));
    REQUIRE_OK(check_nmis(input));
    REQUIRE_OK(check_apic(input));
    REQUIRE_OK(check_posted_interrupts(input));
    REQUIRE_OK(check_ept(input));
    REQUIRE_OK(check_vm_functions(input));
    REQUIRE_OK(check_other_addresses(input));
    return check_transition_controls(input);
}

/* --- 27.2.1.3 event injection --- */

#define EVENT_RESERVED_BITS      BITS(30, 12)
#define ERROR_CODE_RESERVED_BITS BITS(31, 16)
enum { INSTRUCTION_LENGTH_MAX = 15 };

/* Exceptions that push an error code, SDM vol. 3A table 7-1; #CP is not among those that an entry demands one
 * for. */
#define WITH_ERROR_CODE                                                                                      \
    (BIT(EXC_DF) | BIT(EXC_TS) | BIT(EXC_NP) | BIT(EXC_SS) | BIT(EXC_GP) | BIT(EXC_PF) | BIT(EXC_AC))

static bool event_type_valid(const struct vmx_check_input *input)
{
    bool mtf = nested_vmx_offers(input->capability, CONTROL_PRIMARY, PRIMARY_MONITOR_TRAP_FLAG);

    return !injects_type(input, EVENT_TYPE_RESERVED) && (mtf || !injects_type(input, INTERRUPTION_OTHER));
}

static bool event_vector_valid(const struct vmx_check_input *input)
{
    unsigned vector = injected_vector(input);

    if (injects_type(input, INTERRUPTION_NMI))
        return vector == EXC_NMI;
    if (injects_type(input, INTERRUPTION_HARDWARE))
        return vector <= 31;
    return !injects_type(input, INTERRUPTION_OTHER) || vector == 0;
}

static bool event_error_code_valid(const struct vmx_check_input *input)
{
    bool delivers = (input->vmcs12->entry_interruption & INTERRUPTION_ERROR_CODE) != 0;
    u64 basic = nested_vmx_msr(input->capability, MSR_IA32_VMX_BASIC);

    bool real_mode =
        secondary_on(input, SECONDARY_UNRESTRICTED_GUEST) && (input->vmcs12->guest_cr0 & CR0_PE) == 0;

    if (!injects_type(input, INTERRUPTION_HARDWARE) || real_mode)
        return !delivers;
    if ((basic & VMX_BASIC_ANY_ERROR_CODE) != 0)
        return true;
    return delivers == ((WITH_ERROR_CODE >> injected_vector(input) & 1) != 0);
}

static bool event_length_valid(const struct vmx_check_input *input)
{
    u64 misc = nested_vmx_msr(input->capability, MSR_IA32_VMX_MISC);
    u32 length = input->vmcs12->entry_instruction_length;

    if (!injects_type(input, INTERRUPTION_SOFTWARE) && !injects_type(input, INTERRUPTION_PRIVILEGED) &&
        !injects_type(input, INTERRUPTION_TRAP))
        return true;
    return length <= INSTRUCTION_LENGTH_MAX && (length != 0 || (misc & VMX_MISC_INJECT_LENGTH_0) != 0);
}

enum vmx_check vmx_check_event(const struct vmx_check_input *input)
{
    const struct vmcs12 *vmcs12 = input->vmcs12;

    if (!injects(input))
        return VMX_CHECK_OK;
    REQUIRE(event_type_valid(input), EVENT_TYPE);
    REQUIRE(event_vector_valid(input), EVENT_VECTOR);
    REQUIRE(event_error_code_valid(input), EVENT_ERROR_CODE);
    REQUIRE((vmcs12->entry_interruption & EVENT_RESERVED_BITS) == 0, EVENT_RESERVED);
    if ((vmcs12->entry_interruption & INTERRUPTION_ERROR_CODE) != 0)
        REQUIRE((vmcs12->entry_error_code & ERROR_CODE_RESERVED_BITS) == 0, EVENT_ERROR_CODE_RESERVED);
    REQUIRE(event_length_valid(input), EVENT_LENGTH);
    return VMX_CHECK_OK;
}
