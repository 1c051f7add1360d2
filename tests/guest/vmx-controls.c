/* SPDX-License-Identifier: MIT */
/*
 * Group vmx-controls: VM entries that fail for one control, one host field or one guest field, one at a time,
 * with the failure's kind. Source: SDM vol. 3C 27.2, 27.3, 27.8.
 */
#include "tests/guest/vmx.h"

L2_CODE(code_nothing, "", "nop");

#define GUEST_STATE (EXIT_REASON_ENTRY_FAILURE | REASON_ENTRY_GUEST_STATE)

static const struct bad_field {
    const char *name;
    enum vmcs_field field;
    u64 value, result;
} bad_fields[] = {
    {"pin_reserved", VMCS_PIN_CONTROLS, 0, RUN_FAILED + 7},
    {"primary_reserved", VMCS_PRIMARY_CONTROLS, 0, RUN_FAILED + 7},
    {"exit_reserved", VMCS_EXIT_CONTROLS, 0, RUN_FAILED + 7},
    {"entry_reserved", VMCS_ENTRY_CONTROLS, 0, RUN_FAILED + 7},
    {"cr3_targets", VMCS_CR3_TARGET_COUNT, 5, RUN_FAILED + 7},
    {"event_type_1", VMCS_ENTRY_INTERRUPTION, 0x80000130, RUN_FAILED + 7},
    {"event_nmi_vector", VMCS_ENTRY_INTERRUPTION, 0x80000203, RUN_FAILED + 7},
    {"event_exception_vector", VMCS_ENTRY_INTERRUPTION, 0x80000320, RUN_FAILED + 7},
    {"event_reserved", VMCS_ENTRY_INTERRUPTION, 0x80002306, RUN_FAILED + 7},
    {"host_cr0", VMCS_HOST_CR0, 0, RUN_FAILED + 8},
    {"host_cr4", VMCS_HOST_CR4, 0, RUN_FAILED + 8},
    {"host_cr3", VMCS_HOST_CR3, BIT(60), RUN_FAILED + 8},
    {"host_cs", VMCS_HOST_CS_SELECTOR, 0, RUN_FAILED + 8},
    {"host_cs_rpl", VMCS_HOST_CS_SELECTOR, SEL_CODE64 | 3, RUN_FAILED + 8},
    {"host_ds_ti", VMCS_HOST_DS_SELECTOR, SEL_DATA | 4, RUN_FAILED + 8},
    {"host_tr", VMCS_HOST_TR_SELECTOR, 0, RUN_FAILED + 8},
    {"host_fs_base", VMCS_HOST_FS_BASE, BIT(63), RUN_FAILED + 8},
    {"host_idtr_base", VMCS_HOST_IDTR_BASE, BIT(63), RUN_FAILED + 8},
    {"host_sysenter", VMCS_HOST_SYSENTER_EIP, BIT(63), RUN_FAILED + 8},
    {"host_rip", VMCS_HOST_RIP, BIT(63), RUN_FAILED + 8},
    {"host_pat", VMCS_HOST_PAT, 2, RUN_FAILED + 8},
    {"host_efer", VMCS_HOST_EFER, 0, RUN_FAILED + 8},
    {"guest_cr0", VMCS_GUEST_CR0, CR0_PE, GUEST_STATE},
    {"guest_cr4", VMCS_GUEST_CR4, CR4_PAE, GUEST_STATE},
    {"guest_cr3", VMCS_GUEST_CR3, BIT(60), GUEST_STATE},
    {"guest_dr7", VMCS_GUEST_DR7, BIT(32), GUEST_STATE},
    {"guest_pat", VMCS_GUEST_PAT, 3, GUEST_STATE},
    {"guest_efer", VMCS_GUEST_EFER, 0, GUEST_STATE},
    {"guest_rflags", VMCS_GUEST_RFLAGS, 0, GUEST_STATE},
    {"guest_rflags_vm", VMCS_GUEST_RFLAGS, 2 | RFLAGS_VM, GUEST_STATE},
    {"guest_cs_rights", VMCS_GUEST_CS_RIGHTS, 0xa093, GUEST_STATE},
    {"guest_cs_l_and_d", VMCS_GUEST_CS_RIGHTS, 0xe09b, GUEST_STATE},
    {"guest_ss_rpl", VMCS_GUEST_SS_SELECTOR, SEL_DATA | 3, GUEST_STATE},
    {"guest_tr_rights", VMCS_GUEST_TR_RIGHTS, 0x89, GUEST_STATE},
    {"guest_tr_unusable", VMCS_GUEST_TR_RIGHTS, 0x1008b, GUEST_STATE},
    {"guest_gdtr_limit", VMCS_GUEST_GDTR_LIMIT, 0x10000, GUEST_STATE},
    {"guest_idtr_base", VMCS_GUEST_IDTR_BASE, BIT(63), GUEST_STATE},
    {"guest_activity", VMCS_GUEST_ACTIVITY, 4, GUEST_STATE},
    {"guest_blocking_both", VMCS_GUEST_INTERRUPTIBILITY, 3, GUEST_STATE},
    {"guest_blocking_sti", VMCS_GUEST_INTERRUPTIBILITY, 1, GUEST_STATE},
    {"guest_pending_debug", VMCS_GUEST_PENDING_DEBUG, BIT(4), GUEST_STATE},
    {"guest_link_pointer", VMCS_LINK_POINTER, 1, GUEST_STATE},
};

void group_vmx_controls(void)
{
    char prefix[64];

    if (!vmx_start("vmx-controls"))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(bad_fields); i++) {
        const struct bad_field *bad = &bad_fields[i];
        print_to(prefix, sizeof(prefix), "vmx-controls.%s", bad->name);
        vmx_reset();
        vmwrite(bad->field, bad->value);
        check_part(prefix, "result", vmx_run(&code_nothing), bad->result);
        if (bad->result == GUEST_STATE)
            check_part(prefix, "qualification", vmread(VMCS_EXIT_QUALIFICATION),
                       bad->field == VMCS_LINK_POINTER ? 4 : 0);
        vmx_reset();
        check_part(prefix, "good_again", vmx_run(&code_nothing), REASON_VMCALL);
    }
    vmx_stop();
}
