/* SPDX-License-Identifier: MIT */
/* The table of vmcs12's fields, and its use; see nested/vmx-fields.h. */
#include "nested/vmx-fields.h"

#include "arch/string.h"

/* Of an encoding, SDM vol. 3C table 25-21. */
#define ENCODING_WIDTH BITS(14, 13)
#define WIDTH_64       BIT(13) /* the only one with two halves */

#define ALWAYS         CONTROL_WORDS, 0
#define OF(word, bit)  CONTROL_##word, __builtin_ctzll(bit)

#define ROW(field, member, group, readonly, ...)                                                             \
    [VMCS_FIELD_SLOT(VMCS_##field)] = {offsetof(struct vmcs12, member),                                      \
                                       sizeof(((struct vmcs12 *)0)->member), group, __VA_ARGS__, readonly}
#define FIELD(field, member, group, ...) ROW(field, member, VMCS12_##group, false, __VA_ARGS__)
/* Read-only data. */
#define DATA(field, member, ...) ROW(field, member, VMCS12_INFORMATION, true, __VA_ARGS__)

const struct vmcs12_field vmcs12_fields[VMCS12_SLOTS] = {
    /* 16-bit control fields */
    FIELD(VPID, vpid, CONTROLS, OF(SECONDARY, SECONDARY_VPID)),
    FIELD(POSTED_INTERRUPT_VECTOR, posted_interrupt_vector, CONTROLS, OF(PIN, PIN_POSTED_INTERRUPTS)),
    FIELD(EPTP_INDEX, eptp_index, CONTROLS, OF(SECONDARY, SECONDARY_EPT_VIOLATION_VE)),

    /* 16-bit guest-state fields */
    FIELD(GUEST_ES_SELECTOR, guest_selector[VMCS_ES], SEGMENTS, ALWAYS),
    FIELD(GUEST_CS_SELECTOR, guest_selector[VMCS_CS], SEGMENTS, ALWAYS),
    FIELD(GUEST_SS_SELECTOR, guest_selector[VMCS_SS], SEGMENTS, ALWAYS),
    FIELD(GUEST_DS_SELECTOR, guest_selector[VMCS_DS], SEGMENTS, ALWAYS),
    FIELD(GUEST_FS_SELECTOR, guest_selector[VMCS_FS], SEGMENTS, ALWAYS),
    FIELD(GUEST_GS_SELECTOR, guest_selector[VMCS_GS], SEGMENTS, ALWAYS),
    FIELD(GUEST_LDTR_SELECTOR, guest_selector[VMCS_LDTR], SEGMENTS, ALWAYS),
    FIELD(GUEST_TR_SELECTOR, guest_selector[VMCS_TR], SEGMENTS, ALWAYS),
    FIELD(GUEST_INTERRUPT_STATUS, guest_interrupt_status, HOT, OF(SECONDARY, SECONDARY_VIRTUAL_INTERRUPTS)),
    FIELD(PML_INDEX, pml_index, HOT, OF(SECONDARY, SECONDARY_PML)),

    /* 16-bit host-state fields */
    FIELD(HOST_ES_SELECTOR, host_selector[VMCS_ES], HOST, ALWAYS),
    FIELD(HOST_CS_SELECTOR, host_selector[VMCS_CS], HOST, ALWAYS),
    FIELD(HOST_SS_SELECTOR, host_selector[VMCS_SS], HOST, ALWAYS),
    FIELD(HOST_DS_SELECTOR, host_selector[VMCS_DS], HOST, ALWAYS),
    FIELD(HOST_FS_SELECTOR, host_selector[VMCS_FS], HOST, ALWAYS),
    FIELD(HOST_GS_SELECTOR, host_selector[VMCS_GS], HOST, ALWAYS),
    FIELD(HOST_TR_SELECTOR, host_selector[VMCS_TR], HOST, ALWAYS),

    /* 64-bit control fields */
    FIELD(IO_BITMAP_A, io_bitmap_a, CONTROLS, OF(PRIMARY, PRIMARY_IO_BITMAPS)),
    FIELD(IO_BITMAP_B, io_bitmap_b, CONTROLS, OF(PRIMARY, PRIMARY_IO_BITMAPS)),
    FIELD(MSR_BITMAPS, msr_bitmaps, CONTROLS, OF(PRIMARY, PRIMARY_MSR_BITMAPS)),
    FIELD(EXIT_MSR_STORE, exit_msr_store, CONTROLS, ALWAYS),
    FIELD(EXIT_MSR_LOAD, exit_msr_load, CONTROLS, ALWAYS),
    FIELD(ENTRY_MSR_LOAD, entry_msr_load, CONTROLS, ALWAYS),
    FIELD(EXECUTIVE_VMCS, executive_vmcs, CONTROLS, ALWAYS),
    FIELD(PML_ADDRESS, pml_address, CONTROLS, OF(SECONDARY, SECONDARY_PML)),
    FIELD(TSC_OFFSET, tsc_offset, CONTROLS, ALWAYS),
    FIELD(VIRTUAL_APIC, virtual_apic, CONTROLS, OF(PRIMARY, PRIMARY_TPR_SHADOW)),
    FIELD(APIC_ACCESS, apic_access, CONTROLS, OF(SECONDARY, SECONDARY_APIC_ACCESSES)),
    FIELD(POSTED_INTERRUPT_DESCRIPTOR, posted_interrupt_descriptor, CONTROLS, OF(PIN, PIN_POSTED_INTERRUPTS)),
    FIELD(VM_FUNCTION_CONTROLS, vm_function_controls, CONTROLS, OF(SECONDARY, SECONDARY_VM_FUNCTIONS)),
    FIELD(EPT_POINTER, ept_pointer, CONTROLS, OF(SECONDARY, SECONDARY_EPT)),
    FIELD(EOI_EXIT_BITMAP0, eoi_exit_bitmap[0], CONTROLS, OF(SECONDARY, SECONDARY_VIRTUAL_INTERRUPTS)),
    FIELD(EOI_EXIT_BITMAP1, eoi_exit_bitmap[1], CONTROLS, OF(SECONDARY, SECONDARY_VIRTUAL_INTERRUPTS)),
    FIELD(EOI_EXIT_BITMAP2, eoi_exit_bitmap[2], CONTROLS, OF(SECONDARY, SECONDARY_VIRTUAL_INTERRUPTS)),
    FIELD(EOI_EXIT_BITMAP3, eoi_exit_bitmap[3], CONTROLS, OF(SECONDARY, SECONDARY_VIRTUAL_INTERRUPTS)),
    FIELD(EPTP_LIST, eptp_list, CONTROLS, OF(SECONDARY, SECONDARY_VM_FUNCTIONS)),
    FIELD(VMREAD_BITMAP, vmread_bitmap, CONTROLS, OF(SECONDARY, SECONDARY_VMCS_SHADOWING)),
    FIELD(VMWRITE_BITMAP, vmwrite_bitmap, CONTROLS, OF(SECONDARY, SECONDARY_VMCS_SHADOWING)),
    FIELD(VE_INFORMATION, ve_information, CONTROLS, OF(SECONDARY, SECONDARY_EPT_VIOLATION_VE)),
    FIELD(XSS_EXITING_BITMAP, xss_exiting_bitmap, CONTROLS, OF(SECONDARY, SECONDARY_XSAVES)),
    FIELD(ENCLS_EXITING_BITMAP, encls_exiting_bitmap, CONTROLS, OF(SECONDARY, SECONDARY_ENCLS_EXITING)),
    FIELD(TSC_MULTIPLIER, tsc_multiplier, CONTROLS, OF(SECONDARY, SECONDARY_TSC_SCALING)),

    /* 64-bit read-only data field */
    DATA(GUEST_PHYSICAL_ADDRESS, guest_physical_address, OF(SECONDARY, SECONDARY_EPT)),

    /* 64-bit guest-state fields */
    FIELD(LINK_POINTER, link_pointer, GUEST, ALWAYS),
    FIELD(GUEST_DEBUGCTL, guest_debugctl, GUEST, ALWAYS),
    FIELD(GUEST_PAT, guest_pat, GUEST, OF(ENTRY, ENTRY_LOAD_PAT)),
    FIELD(GUEST_EFER, guest_efer, GUEST, OF(ENTRY, ENTRY_LOAD_EFER)),
    FIELD(GUEST_PERF_GLOBAL_CTRL, guest_perf_global_ctrl, GUEST, OF(ENTRY, ENTRY_LOAD_PERF_GLOBAL_CTRL)),
    FIELD(GUEST_PDPTE0, guest_pdpte[0], GUEST, OF(SECONDARY, SECONDARY_EPT)),
    FIELD(GUEST_PDPTE1, guest_pdpte[1], GUEST, OF(SECONDARY, SECONDARY_EPT)),
    FIELD(GUEST_PDPTE2, guest_pdpte[2], GUEST, OF(SECONDARY, SECONDARY_EPT)),
    FIELD(GUEST_PDPTE3, guest_pdpte[3], GUEST, OF(SECONDARY, SECONDARY_EPT)),
    FIELD(GUEST_BNDCFGS, guest_bndcfgs, GUEST, OF(ENTRY, ENTRY_LOAD_BNDCFGS)),
    FIELD(GUEST_PKRS, guest_pkrs, GUEST, OF(ENTRY, ENTRY_LOAD_PKRS)),

    /* 64-bit host-state fields */
    FIELD(HOST_PAT, host_pat, HOST, OF(EXIT, EXIT_LOAD_PAT)),
    FIELD(HOST_EFER, host_efer, HOST, OF(EXIT, EXIT_LOAD_EFER)),
    FIELD(HOST_PERF_GLOBAL_CTRL, host_perf_global_ctrl, HOST, OF(EXIT, EXIT_LOAD_PERF_GLOBAL_CTRL)),
    FIELD(HOST_PKRS, host_pkrs, HOST, OF(EXIT, EXIT_LOAD_PKRS)),

    /* 32-bit control fields */
    FIELD(PIN_CONTROLS, pin_controls, CONTROLS, ALWAYS),
    FIELD(PRIMARY_CONTROLS, primary_controls, CONTROLS, ALWAYS),
    FIELD(EXCEPTION_BITMAP, exception_bitmap, CONTROLS, ALWAYS),
    FIELD(PAGE_FAULT_MASK, page_fault_mask, CONTROLS, ALWAYS),
    FIELD(PAGE_FAULT_MATCH, page_fault_match, CONTROLS, ALWAYS),
    FIELD(CR3_TARGET_COUNT, cr3_target_count, CONTROLS, ALWAYS),
    FIELD(EXIT_CONTROLS, exit_controls, CONTROLS, ALWAYS),
    FIELD(EXIT_MSR_STORE_COUNT, exit_msr_store_count, CONTROLS, ALWAYS),
    FIELD(EXIT_MSR_LOAD_COUNT, exit_msr_load_count, CONTROLS, ALWAYS),
    FIELD(ENTRY_CONTROLS, entry_controls, CONTROLS, ALWAYS),
    FIELD(ENTRY_MSR_LOAD_COUNT, entry_msr_load_count, CONTROLS, ALWAYS),
    FIELD(ENTRY_INTERRUPTION, entry_interruption, EVENT, ALWAYS),
    FIELD(ENTRY_ERROR_CODE, entry_error_code, EVENT, ALWAYS),
    FIELD(ENTRY_INSTRUCTION_LENGTH, entry_instruction_length, EVENT, ALWAYS),
    FIELD(TPR_THRESHOLD, tpr_threshold, CONTROLS, OF(PRIMARY, PRIMARY_TPR_SHADOW)),
    FIELD(SECONDARY_CONTROLS, secondary_controls, CONTROLS, OF(PRIMARY, PRIMARY_SECONDARY_CONTROLS)),
    FIELD(PLE_GAP, ple_gap, CONTROLS, OF(SECONDARY, SECONDARY_PAUSE_LOOP_EXITING)),
    FIELD(PLE_WINDOW, ple_window, CONTROLS, OF(SECONDARY, SECONDARY_PAUSE_LOOP_EXITING)),

    /* 32-bit read-only data fields */
    DATA(INSTRUCTION_ERROR, instruction_error, ALWAYS),
    DATA(EXIT_REASON, exit_reason, ALWAYS),
    DATA(EXIT_INTERRUPTION, exit_interruption, ALWAYS),
    DATA(EXIT_ERROR_CODE, exit_error_code, ALWAYS),
    DATA(VECTORING, vectoring, ALWAYS),
    DATA(VECTORING_ERROR_CODE, vectoring_error_code, ALWAYS),
    DATA(EXIT_INSTRUCTION_LENGTH, exit_instruction_length, ALWAYS),
    DATA(EXIT_INSTRUCTION_INFORMATION, exit_instruction_information, ALWAYS),

    /* 32-bit guest-state fields */
    FIELD(GUEST_ES_LIMIT, guest_limit[VMCS_ES], SEGMENTS, ALWAYS),
    FIELD(GUEST_CS_LIMIT, guest_limit[VMCS_CS], SEGMENTS, ALWAYS),
    FIELD(GUEST_SS_LIMIT, guest_limit[VMCS_SS], SEGMENTS, ALWAYS),
    FIELD(GUEST_DS_LIMIT, guest_limit[VMCS_DS], SEGMENTS, ALWAYS),
    FIELD(GUEST_FS_LIMIT, guest_limit[VMCS_FS], SEGMENTS, ALWAYS),
    FIELD(GUEST_GS_LIMIT, guest_limit[VMCS_GS], SEGMENTS, ALWAYS),
    FIELD(GUEST_LDTR_LIMIT, guest_limit[VMCS_LDTR], SEGMENTS, ALWAYS),
    FIELD(GUEST_TR_LIMIT, guest_limit[VMCS_TR], SEGMENTS, ALWAYS),
    FIELD(GUEST_GDTR_LIMIT, guest_gdtr_limit, SEGMENTS, ALWAYS),
    FIELD(GUEST_IDTR_LIMIT, guest_idtr_limit, SEGMENTS, ALWAYS),
    FIELD(GUEST_ES_RIGHTS, guest_rights[VMCS_ES], SEGMENTS, ALWAYS),
    FIELD(GUEST_CS_RIGHTS, guest_rights[VMCS_CS], SEGMENTS, ALWAYS),
    FIELD(GUEST_SS_RIGHTS, guest_rights[VMCS_SS], SEGMENTS, ALWAYS),
    FIELD(GUEST_DS_RIGHTS, guest_rights[VMCS_DS], SEGMENTS, ALWAYS),
    FIELD(GUEST_FS_RIGHTS, guest_rights[VMCS_FS], SEGMENTS, ALWAYS),
    FIELD(GUEST_GS_RIGHTS, guest_rights[VMCS_GS], SEGMENTS, ALWAYS),
    FIELD(GUEST_LDTR_RIGHTS, guest_rights[VMCS_LDTR], SEGMENTS, ALWAYS),
    FIELD(GUEST_TR_RIGHTS, guest_rights[VMCS_TR], SEGMENTS, ALWAYS),
    FIELD(GUEST_INTERRUPTIBILITY, guest_interruptibility, EVENT, ALWAYS),
    FIELD(GUEST_ACTIVITY, guest_activity, GUEST, ALWAYS),
    FIELD(GUEST_SMBASE, guest_smbase, GUEST, ALWAYS),
    FIELD(GUEST_SYSENTER_CS, guest_sysenter_cs, GUEST, ALWAYS),
    FIELD(GUEST_PREEMPTION_TIMER, guest_preemption_timer, HOT, OF(PIN, PIN_PREEMPTION_TIMER)),

    /* 32-bit host-state field */
    FIELD(HOST_SYSENTER_CS, host_sysenter_cs, HOST, ALWAYS),

    /* Natural-width control fields */
    FIELD(CR0_MASK, cr0_mask, CONTROLS, ALWAYS),
    FIELD(CR4_MASK, cr4_mask, CONTROLS, ALWAYS),
    FIELD(CR0_SHADOW, cr0_shadow, CONTROLS, ALWAYS),
    FIELD(CR4_SHADOW, cr4_shadow, CONTROLS, ALWAYS),
    FIELD(CR3_TARGET0, cr3_target[0], CONTROLS, ALWAYS),
    FIELD(CR3_TARGET1, cr3_target[1], CONTROLS, ALWAYS),
    FIELD(CR3_TARGET2, cr3_target[2], CONTROLS, ALWAYS),
    FIELD(CR3_TARGET3, cr3_target[3], CONTROLS, ALWAYS),

    /* Natural-width read-only data fields */
    DATA(EXIT_QUALIFICATION, exit_qualification, ALWAYS),
    DATA(IO_RCX, io_rcx, ALWAYS),
    DATA(IO_RSI, io_rsi, ALWAYS),
    DATA(IO_RDI, io_rdi, ALWAYS),
    DATA(IO_RIP, io_rip, ALWAYS),
    DATA(GUEST_LINEAR_ADDRESS, guest_linear_address, ALWAYS),

    /* Natural-width guest-state fields */
    FIELD(GUEST_CR0, guest_cr0, GUEST, ALWAYS),
    FIELD(GUEST_CR3, guest_cr3, GUEST, ALWAYS),
    FIELD(GUEST_CR4, guest_cr4, GUEST, ALWAYS),
    FIELD(GUEST_ES_BASE, guest_base[VMCS_ES], SEGMENTS, ALWAYS),
    FIELD(GUEST_CS_BASE, guest_base[VMCS_CS], SEGMENTS, ALWAYS),
    FIELD(GUEST_SS_BASE, guest_base[VMCS_SS], SEGMENTS, ALWAYS),
    FIELD(GUEST_DS_BASE, guest_base[VMCS_DS], SEGMENTS, ALWAYS),
    FIELD(GUEST_FS_BASE, guest_base[VMCS_FS], SEGMENTS, ALWAYS),
    FIELD(GUEST_GS_BASE, guest_base[VMCS_GS], SEGMENTS, ALWAYS),
    FIELD(GUEST_LDTR_BASE, guest_base[VMCS_LDTR], SEGMENTS, ALWAYS),
    FIELD(GUEST_TR_BASE, guest_base[VMCS_TR], SEGMENTS, ALWAYS),
    FIELD(GUEST_GDTR_BASE, guest_gdtr_base, SEGMENTS, ALWAYS),
    FIELD(GUEST_IDTR_BASE, guest_idtr_base, SEGMENTS, ALWAYS),
    FIELD(GUEST_DR7, guest_dr7, GUEST, ALWAYS),
    FIELD(GUEST_RSP, guest_rsp, HOT, ALWAYS),
    FIELD(GUEST_RIP, guest_rip, HOT, ALWAYS),
    FIELD(GUEST_RFLAGS, guest_rflags, EVENT, ALWAYS),
    FIELD(GUEST_PENDING_DEBUG, guest_pending_debug, GUEST, ALWAYS),
    FIELD(GUEST_SYSENTER_ESP, guest_sysenter_esp, GUEST, ALWAYS),
    FIELD(GUEST_SYSENTER_EIP, guest_sysenter_eip, GUEST, ALWAYS),
    FIELD(GUEST_S_CET, guest_s_cet, GUEST, OF(ENTRY, ENTRY_LOAD_CET)),
    FIELD(GUEST_SSP, guest_ssp, GUEST, OF(ENTRY, ENTRY_LOAD_CET)),
    FIELD(GUEST_INTERRUPT_SSP_TABLE, guest_interrupt_ssp_table, GUEST, OF(ENTRY, ENTRY_LOAD_CET)),

    /* Natural-width host-state fields */
    FIELD(HOST_CR0, host_cr0, HOST, ALWAYS),
    FIELD(HOST_CR3, host_cr3, HOST, ALWAYS),
    FIELD(HOST_CR4, host_cr4, HOST, ALWAYS),
    FIELD(HOST_FS_BASE, host_fs_base, HOST, ALWAYS),
    FIELD(HOST_GS_BASE, host_gs_base, HOST, ALWAYS),
    FIELD(HOST_TR_BASE, host_tr_base, HOST, ALWAYS),
    FIELD(HOST_GDTR_BASE, host_gdtr_base, HOST, ALWAYS),
    FIELD(HOST_IDTR_BASE, host_idtr_base, HOST, ALWAYS),
    FIELD(HOST_SYSENTER_ESP, host_sysenter_esp, HOST, ALWAYS),
    FIELD(HOST_SYSENTER_EIP, host_sysenter_eip, HOST, ALWAYS),
    FIELD(HOST_RSP, host_rsp, HOST, ALWAYS),
    FIELD(HOST_RIP, host_rip, HOST, ALWAYS),
    FIELD(HOST_S_CET, host_s_cet, HOST, OF(EXIT, EXIT_LOAD_CET)),
    FIELD(HOST_SSP, host_ssp, HOST, OF(EXIT, EXIT_LOAD_CET)),
    FIELD(HOST_INTERRUPT_SSP_TABLE, host_interrupt_ssp_table, HOST, OF(EXIT, EXIT_LOAD_CET)),
};

_Static_assert(VMCS_FIELD_SLOT(0x7fffu) < VMCS12_SLOTS,
               "the table has a slot for each width, type and index");

u32 vmcs12_slot_encoding(unsigned slot)
{
    return (slot >> (VMCS_FIELD_INDEX_BITS + 2)) << 13 | (slot >> VMCS_FIELD_INDEX_BITS & 3) << 10 |
           (slot & VMCS_FIELD_INDEX_MAX) << 1;
}

static bool exists(const struct vmcs12_field *field, const struct nested_vmx_capability *capability)
{
    if (field->bytes == 0)
        return false;
    return field->word == CONTROL_WORDS ||
           nested_vmx_offers(capability, (enum control_word)field->word, BIT(field->control));
}

static void offer(struct nested_vmx_capability *capability, u32 encoding, struct vmcs12_field field)
{
    field.unused_bits = (u8)(64 - 8 * field.bytes);
    capability->fields[VMCS_FIELD_NUMBER(encoding)] = field;
}

void vmcs12_offer_fields(struct nested_vmx_capability *capability)
{
    memset(capability->fields, 0, sizeof(capability->fields));
    for (unsigned slot = 0; slot < VMCS12_SLOTS; slot++) {
        struct vmcs12_field field = vmcs12_fields[slot];
        u32 encoding = vmcs12_slot_encoding(slot);
        if (!exists(&field, capability))
            continue;
        offer(capability, encoding, field);
        if ((encoding & ENCODING_WIDTH) != WIDTH_64)
            continue;
        field.offset += sizeof(u32);
        field.bytes = sizeof(u32);
        offer(capability, (u32)(encoding | VMCS_FIELD_HIGH), field);
    }
}

unsigned vmcs12_highest_index(const struct nested_vmx_capability *capability)
{
    unsigned highest = 0;

    for (unsigned number = 0; number < NESTED_VMX_FIELDS; number++) {
        unsigned index = number >> 1 & VMCS_FIELD_INDEX_MAX;
        if (capability->fields[number].bytes != 0 && index > highest)
            highest = index;
    }
    return highest;
}
