/* SPDX-License-Identifier: MIT */
/*
 * Group vmx-checks: entries that must fail, each for one reason: control fields (error 7), host state (error
 * 8), guest state (exit reason 33 with its qualification); and neighbours that must not. Source: SDM vol.
 * 3C 27.2, 27.3.1, 27.8.
 */
#include "tests/guest/vmx.h"

enum outcome { RUNS, CONTROLS, HOST, GUEST, GUEST_LINK };

struct change {
    u16 field;
    enum { UNUSED, PUT, XOR } how;
    u64 value;
};

struct row {
    const char *name;
    enum outcome want;
    struct change change[3];
};

L2_CODE(code_nothing, "", "nop");

static u8 page[PAGE_SIZE] __attribute__((aligned(4096)));

#define SET(field, value)                                                                                    \
    {                                                                                                        \
        VMCS_##field, PUT, value                                                                             \
    }
#define FLIP(field, value)                                                                                   \
    {                                                                                                        \
        VMCS_##field, XOR, value                                                                             \
    }
#define INJECT(value)                                                                                        \
    {                                                                                                        \
        VMCS_ENTRY_INTERRUPTION, PUT, 0x80000000 | (value)                                                   \
    }
#define BEYOND BIT(52)

static const struct row rows[] = {
    {"nothing", RUNS, {{0}}},
    /* 27.2.1.1 */
    {"pin_reserved", CONTROLS, {FLIP(PIN_CONTROLS, BIT(31))}},
    {"pin_default1", CONTROLS, {FLIP(PIN_CONTROLS, BIT(1))}},
    {"primary_reserved", CONTROLS, {FLIP(PRIMARY_CONTROLS, BIT(0))}},
    {"primary_default1", CONTROLS, {FLIP(PRIMARY_CONTROLS, BIT(1))}},
    {"cr3_targets_4", RUNS, {SET(CR3_TARGET_COUNT, 4)}},
    {"cr3_targets_5", CONTROLS, {SET(CR3_TARGET_COUNT, 5)}},
    {"io_bitmap_a", CONTROLS, {FLIP(PRIMARY_CONTROLS, PRIMARY_IO_BITMAPS), SET(IO_BITMAP_A, 1)}},
    {"io_bitmap_b", CONTROLS, {FLIP(PRIMARY_CONTROLS, PRIMARY_IO_BITMAPS), SET(IO_BITMAP_B, BEYOND)}},
    {"msr_bitmaps", CONTROLS, {FLIP(PRIMARY_CONTROLS, PRIMARY_MSR_BITMAPS), SET(MSR_BITMAPS, 0x800)}},
    {"msr_bitmaps_off", RUNS, {SET(MSR_BITMAPS, 0x800)}},
    {"virtual_apic", CONTROLS, {FLIP(PRIMARY_CONTROLS, PRIMARY_TPR_SHADOW), SET(VIRTUAL_APIC, BIT(4))}},
    {"x2apic_without_tpr_shadow", CONTROLS, {FLIP(SECONDARY_CONTROLS, SECONDARY_X2APIC_MODE)}},
    {"virtual_nmis_alone", CONTROLS, {FLIP(PIN_CONTROLS, PIN_VIRTUAL_NMIS)}},
    {"nmi_window_alone", CONTROLS, {FLIP(PRIMARY_CONTROLS, PRIMARY_NMI_WINDOW)}},
    {"apic_access", CONTROLS, {FLIP(SECONDARY_CONTROLS, SECONDARY_APIC_ACCESSES), SET(APIC_ACCESS, 0x10)}},
    {"vpid_0", CONTROLS, {FLIP(SECONDARY_CONTROLS, SECONDARY_VPID), SET(VPID, 0)}},
    {"eptp_type", CONTROLS, {FLIP(EPT_POINTER, 1)}},
    {"eptp_walk", CONTROLS, {FLIP(EPT_POINTER, BIT(3))}},
    {"eptp_bit_8", CONTROLS, {FLIP(EPT_POINTER, BIT(8))}},
    {"eptp_width", CONTROLS, {FLIP(EPT_POINTER, BIT(51))}},
    {"unrestricted_without_ept",
     CONTROLS,
     {FLIP(SECONDARY_CONTROLS, SECONDARY_EPT | SECONDARY_UNRESTRICTED_GUEST)}},
    {"mbec_without_ept", CONTROLS, {FLIP(SECONDARY_CONTROLS, SECONDARY_EPT | SECONDARY_MBEC)}},
    {"pml_without_ept", CONTROLS, {FLIP(SECONDARY_CONTROLS, SECONDARY_EPT | SECONDARY_PML)}},
    /* 27.2.1.2 */
    {"exit_reserved", CONTROLS, {FLIP(EXIT_CONTROLS, BIT(0))}},
    {"save_timer_alone", CONTROLS, {FLIP(EXIT_CONTROLS, EXIT_SAVE_PREEMPTION_TIMER)}},
    {"exit_store", CONTROLS, {SET(EXIT_MSR_STORE_COUNT, 1), SET(EXIT_MSR_STORE, 8)}},
    {"exit_store_width", CONTROLS, {SET(EXIT_MSR_STORE_COUNT, 1), SET(EXIT_MSR_STORE, BEYOND)}},
    {"exit_load_width", CONTROLS, {SET(EXIT_MSR_LOAD_COUNT, 1), SET(EXIT_MSR_LOAD, BEYOND)}},
    {"exit_load", CONTROLS, {SET(EXIT_MSR_LOAD_COUNT, 1), SET(EXIT_MSR_LOAD, 4)}},
    /* 27.2.1.3 */
    {"entry_reserved", CONTROLS, {FLIP(ENTRY_CONTROLS, BIT(0))}},
    {"entry_to_smm", CONTROLS, {FLIP(ENTRY_CONTROLS, ENTRY_TO_SMM)}},
    {"entry_load", CONTROLS, {SET(ENTRY_MSR_LOAD_COUNT, 1), SET(ENTRY_MSR_LOAD, 1)}},
    {"entry_load_width", CONTROLS, {SET(ENTRY_MSR_LOAD_COUNT, 1), SET(ENTRY_MSR_LOAD, BEYOND)}},
    {"inject_mtf_vector", CONTROLS, {INJECT(0x701)}},
    {"inject_type_1", CONTROLS, {INJECT(0x120)}},
    {"inject_nmi_vector", CONTROLS, {INJECT(0x203)}},
    {"inject_exception_32", CONTROLS, {INJECT(0x320)}},
    {"inject_error_code_with_nmi", CONTROLS, {INJECT(0xa02)}},
    {"inject_error_code_high", CONTROLS, {INJECT(0xb0d), SET(ENTRY_ERROR_CODE, BIT(16))}},
    {"inject_reserved", CONTROLS, {INJECT(0x306 | BIT(12))}},
    {"inject_length_16", CONTROLS, {INJECT(0x480), SET(ENTRY_INSTRUCTION_LENGTH, 16)}},
    /* 27.2.2 to 27.2.4 */
    {"host_cr0_pg", HOST, {FLIP(HOST_CR0, CR0_PG)}},
    {"host_cr0_high", HOST, {FLIP(HOST_CR0, BIT(32))}},
    {"host_cr4_vmxe", HOST, {FLIP(HOST_CR4, CR4_VMXE)}},
    {"host_cr4_reserved", HOST, {FLIP(HOST_CR4, BIT(63))}},
    {"host_cr4_pae", HOST, {FLIP(HOST_CR4, CR4_PAE)}},
    {"host_cr3", HOST, {FLIP(HOST_CR3, BEYOND)}},
    {"host_sysenter_esp", HOST, {SET(HOST_SYSENTER_ESP, BIT(60))}},
    {"host_sysenter_eip", HOST, {SET(HOST_SYSENTER_EIP, BIT(60))}},
    {"host_pat", HOST, {SET(HOST_PAT, 2)}},
    {"host_efer_reserved", HOST, {FLIP(HOST_EFER, BIT(1))}},
    {"host_efer_lma", HOST, {FLIP(HOST_EFER, EFER_LMA)}},
    {"host_efer_lme", HOST, {FLIP(HOST_EFER, EFER_LME)}},
    {"host_cs_rpl", HOST, {FLIP(HOST_CS_SELECTOR, 1)}},
    {"host_ds_ti", HOST, {FLIP(HOST_DS_SELECTOR, 4)}},
    {"host_tr_rpl", HOST, {FLIP(HOST_TR_SELECTOR, 2)}},
    {"host_cs_null", HOST, {SET(HOST_CS_SELECTOR, 0)}},
    {"host_tr_null", HOST, {SET(HOST_TR_SELECTOR, 0)}},
    {"host_fs_base", HOST, {SET(HOST_FS_BASE, BIT(60))}},
    {"host_gs_base", HOST, {SET(HOST_GS_BASE, BIT(60))}},
    {"host_tr_base", HOST, {SET(HOST_TR_BASE, BIT(60))}},
    {"host_gdtr_base", HOST, {SET(HOST_GDTR_BASE, BIT(60))}},
    {"host_idtr_base", HOST, {SET(HOST_IDTR_BASE, BIT(60))}},
    {"host_rip", HOST, {SET(HOST_RIP, BIT(60))}},
    {"host_size", HOST, {FLIP(EXIT_CONTROLS, EXIT_HOST_64)}},
    /* 27.3.1.1 */
    {"cr0_pg", GUEST, {FLIP(GUEST_CR0, CR0_PG)}},
    {"cr0_ne", GUEST, {FLIP(GUEST_CR0, CR0_NE)}},
    {"cr0_cd", RUNS, {FLIP(GUEST_CR0, CR0_CD)}},
    {"cr4_vmxe", GUEST, {FLIP(GUEST_CR4, CR4_VMXE)}},
    {"cr4_pae", GUEST, {FLIP(GUEST_CR4, CR4_PAE)}},
    {"cr4_reserved", GUEST, {FLIP(GUEST_CR4, BIT(40))}},
    {"cr3_width", GUEST, {FLIP(GUEST_CR3, BEYOND)}},
    {"debugctl", GUEST, {SET(GUEST_DEBUGCTL, BIT(32))}},
    {"dr7", GUEST, {SET(GUEST_DR7, BIT(32))}},
    {"sysenter_esp", GUEST, {SET(GUEST_SYSENTER_ESP, BIT(60))}},
    {"sysenter_eip", GUEST, {SET(GUEST_SYSENTER_EIP, BIT(60))}},
    {"pat", GUEST, {SET(GUEST_PAT, 3ull << 56)}},
    {"efer_reserved", GUEST, {FLIP(GUEST_EFER, BIT(1))}},
    {"efer_lma", GUEST, {FLIP(GUEST_EFER, EFER_LMA)}},
    {"efer_lme", GUEST, {FLIP(GUEST_EFER, EFER_LME)}},
    {"ia32e_off", GUEST, {FLIP(ENTRY_CONTROLS, ENTRY_IA32E_GUEST)}},
    /* 27.3.1.2, 27.3.1.3 */
    {"tr_ti", GUEST, {FLIP(GUEST_TR_SELECTOR, 4)}},
    {"ss_rpl", GUEST, {FLIP(GUEST_SS_SELECTOR, 3)}},
    {"cs_base", GUEST, {SET(GUEST_CS_BASE, BIT(32))}},
    {"ds_base", GUEST, {SET(GUEST_DS_BASE, BIT(32))}},
    {"gs_base", GUEST, {SET(GUEST_GS_BASE, BIT(60))}},
    {"tr_base", GUEST, {SET(GUEST_TR_BASE, BIT(60))}},
    {"cs_type", GUEST, {SET(GUEST_CS_RIGHTS, 0xa09a)}},
    {"cs_not_present", GUEST, {SET(GUEST_CS_RIGHTS, 0xa01b)}},
    {"cs_system", GUEST, {SET(GUEST_CS_RIGHTS, 0xa08b)}},
    {"cs_l_and_d", GUEST, {SET(GUEST_CS_RIGHTS, 0xe09b)}},
    {"cs_reserved", GUEST, {SET(GUEST_CS_RIGHTS, 0xa19b)}},
    {"cs_granularity", GUEST, {SET(GUEST_CS_RIGHTS, 0x209b)}},
    {"cs_dpl", GUEST, {SET(GUEST_CS_RIGHTS, 0xa0bb)}},
    {"ss_type", GUEST, {SET(GUEST_SS_RIGHTS, 0xc091)}},
    {"ss_unusable", RUNS, {SET(GUEST_SS_RIGHTS, 0x10000)}},
    {"ds_type", GUEST, {SET(GUEST_DS_RIGHTS, 0xc092)}},
    {"es_execute_only", GUEST, {SET(GUEST_ES_RIGHTS, 0xc099)}},
    {"fs_reserved", GUEST, {SET(GUEST_FS_RIGHTS, 0x2c093)}},
    {"gs_unusable", RUNS, {SET(GUEST_GS_RIGHTS, 0x10000)}},
    {"tr_type", GUEST, {SET(GUEST_TR_RIGHTS, 0x89)}},
    {"tr_16_bits", GUEST, {SET(GUEST_TR_RIGHTS, 0x83)}},
    {"tr_unusable", GUEST, {SET(GUEST_TR_RIGHTS, 0x1008b)}},
    {"tr_granularity", GUEST, {SET(GUEST_TR_RIGHTS, 0x808b)}},
    {"ldtr_type", GUEST, {SET(GUEST_LDTR_RIGHTS, 0x83)}},
    {"ldtr_not_present", GUEST, {SET(GUEST_LDTR_RIGHTS, 0x02)}},
    {"ldtr_ti", GUEST, {SET(GUEST_LDTR_RIGHTS, 0x82), SET(GUEST_LDTR_SELECTOR, 4)}},
    {"ldtr_base", GUEST, {SET(GUEST_LDTR_RIGHTS, 0x82), SET(GUEST_LDTR_BASE, BIT(60))}},
    {"ldtr_granularity", GUEST, {SET(GUEST_LDTR_RIGHTS, 0x8082)}},
    {"ldtr_usable", RUNS, {SET(GUEST_LDTR_RIGHTS, 0x82)}},
    {"fs_base", GUEST, {SET(GUEST_FS_BASE, BIT(60))}},
    {"es_base_unusable", RUNS, {SET(GUEST_ES_RIGHTS, 0x10000), SET(GUEST_ES_BASE, BIT(32))}},
    {"gdtr_limit", GUEST, {SET(GUEST_GDTR_LIMIT, BIT(16))}},
    {"idtr_base", GUEST, {SET(GUEST_IDTR_BASE, BIT(60))}},
    {"gdtr_base", GUEST, {SET(GUEST_GDTR_BASE, BIT(60))}},
    {"idtr_limit", GUEST, {SET(GUEST_IDTR_LIMIT, BIT(16))}},
    /* 27.3.1.4 */
    {"rflags_1", GUEST, {SET(GUEST_RFLAGS, 0)}},
    {"rflags_3", GUEST, {SET(GUEST_RFLAGS, 0xa)}},
    {"rflags_5", GUEST, {SET(GUEST_RFLAGS, 2 | BIT(5))}},
    {"rflags_15", GUEST, {SET(GUEST_RFLAGS, 2 | BIT(15))}},
    {"rflags_22", GUEST, {SET(GUEST_RFLAGS, 2 | BIT(22))}},
    {"rflags_vm", GUEST, {SET(GUEST_RFLAGS, 2 | RFLAGS_VM)}},
    {"rflags_if", GUEST, {INJECT(0x20)}},
    /* 27.3.1.5 */
    {"activity_4", GUEST, {SET(GUEST_ACTIVITY, 4)}},
    {"activity_blocked",
     GUEST,
     {SET(GUEST_ACTIVITY, ACTIVITY_HLT), SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS)}},
    {"activity_event", GUEST, {SET(GUEST_ACTIVITY, ACTIVITY_HLT), INJECT(0x306)}},
    {"blocking_reserved", GUEST, {SET(GUEST_INTERRUPTIBILITY, BIT(5))}},
    {"blocking_enclave", GUEST, {SET(GUEST_INTERRUPTIBILITY, BIT(4))}},
    {"blocking_both", GUEST, {SET(GUEST_INTERRUPTIBILITY, 3), SET(GUEST_RFLAGS, 2 | RFLAGS_IF)}},
    {"blocking_sti_if", GUEST, {SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI)}},
    {"blocking_mov_ss", RUNS, {SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS)}},
    {"blocking_smi", GUEST, {SET(GUEST_INTERRUPTIBILITY, BIT(2))}},
    {"blocking_nmi_mov_ss", GUEST, {INJECT(0x202), SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS)}},
    {"pending_reserved", GUEST, {SET(GUEST_PENDING_DEBUG, BIT(13))}},
    {"pending_bs",
     GUEST,
     {SET(GUEST_PENDING_DEBUG, PENDING_DEBUG_BS), SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS)}},
    {"link_unaligned", GUEST_LINK, {SET(LINK_POINTER, 0x10)}},
    {"link_width", GUEST_LINK, {SET(LINK_POINTER, BEYOND)}},
    {"link_current", GUEST_LINK, {SET(LINK_POINTER, (u64)0)}},
    {"link_revision", GUEST_LINK, {SET(LINK_POINTER, (u64)1)}},
};

/* The addresses that only the linker knows: 0 and 1 in the table of link pointers. */
static u64 value_of(const struct change *change)
{
    if (change->how == XOR)
        return vmread((enum vmcs_field)change->field) ^ change->value;
    if (change->field == VMCS_LINK_POINTER && change->value == 0)
        return (u64)vmcs_region;
    if (change->field == VMCS_LINK_POINTER && change->value == 1)
        return (u64)page;
    return change->value;
}

/* A control that this CPU does not have gives the same error: what is wrong with the row is wrong twice. */
static void run_row(const struct row *row)
{
    static const u64 outcome[] = {
        [RUNS] = REASON_VMCALL,
        [CONTROLS] = RUN_FAILED + 7,
        [HOST] = RUN_FAILED + 8,
        [GUEST] = EXIT_REASON_ENTRY_FAILURE | REASON_ENTRY_GUEST_STATE,
        [GUEST_LINK] = EXIT_REASON_ENTRY_FAILURE | REASON_ENTRY_GUEST_STATE,
    };
    char name[64];

    vmx_reset();
    for (unsigned i = 0; i < ARRAY_SIZE(row->change); i++) {
        const struct change *change = &row->change[i];
        if (change->how != UNUSED)
            vmwrite((enum vmcs_field)change->field, value_of(change));
    }
    print_to(name, sizeof(name), "vmx-checks.%s", row->name);
    check_eq(name, vmx_run(&code_nothing), outcome[row->want]);
    if (row->want >= GUEST)
        check_part(name, "qualification", vmread(VMCS_EXIT_QUALIFICATION), row->want == GUEST_LINK ? 4 : 0);
}

/* PDPTEs of a guest in PAE paging, in the VMCS. */
static void pdptes(void)
{
    vmx_reset();
    vmx_clear(WORD_ENTRY, ENTRY_IA32E_GUEST);
    vmwrite(VMCS_GUEST_EFER, 0);
    vmwrite(VMCS_GUEST_CR4, vmread(VMCS_GUEST_CR4) & ~CR4_PCIDE);
    vmwrite(VMCS_GUEST_CS_RIGHTS, 0xc09b);
    vmwrite(VMCS_GUEST_PDPTE0, 1 | BIT(1));
    check_eq("vmx-checks.pdpte", vmx_run(&code_nothing),
             EXIT_REASON_ENTRY_FAILURE | REASON_ENTRY_GUEST_STATE);
    check_eq("vmx-checks.pdpte.qualification", vmread(VMCS_EXIT_QUALIFICATION), 2);
    for (unsigned i = 0; i < 4; i++)
        vmwrite((enum vmcs_field)(VMCS_GUEST_PDPTE0 + 2 * i), 0);
}

void group_vmx_checks(void)
{
    if (!vmx_start("vmx-checks"))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        run_row(&rows[i]);
    pdptes();
    vmx_reset();
    check_eq("vmx-checks.at_the_end", vmx_run(&code_nothing), REASON_VMCALL);
    vmx_stop();
}
