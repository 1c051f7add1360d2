/* SPDX-License-Identifier: MIT */
/*
 * The checks of VM entry: a vmcs12 that passes them all, and then every way to violate one of them, alone. A
 * case changes a few fields and says which check has to find it, or that none may.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86.h"
#include "tests/unit/vmx-check-case.h"
#include "vmx/capability.h"

static bool seen[VMX_CHECKS];
static unsigned cases;

static void expect(const struct check_case *check_case, enum vmx_check expected, const char *what, u64 detail)
{
    enum vmx_check found = check_case_run(check_case);

    cases++;
    seen[expected] = true;
    if (found != expected)
        fail_msg("%s (%llx): found %s, expected %s", what, (unsigned long long)detail,
                 vmx_check_text(found)->rule, vmx_check_text(expected)->rule);
}

/* --- single cases --- */

/* XOR, so that a control that is on goes off and one that is off goes on; SET for values. */
enum operation { XOR, SET };

struct edit {
    enum operation operation;
    u16 offset, bytes;
    u64 value;
};

#define MEMBER(member) offsetof(struct vmcs12, member), sizeof(((struct vmcs12 *)0)->member)
#define FLIP(member, value)                                                                                  \
    {                                                                                                        \
        XOR, MEMBER(member), value                                                                           \
    }
#define PUT(member, value)                                                                                   \
    {                                                                                                        \
        SET, MEMBER(member), value                                                                           \
    }
#define OK(base, ...)                                                                                        \
    {                                                                                                        \
        VMX_CHECK_OK, BASE_##base,                                                                           \
        {                                                                                                    \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }
#define FAILS(check, base, ...)                                                                              \
    {                                                                                                        \
        VMX_CHECK_##check, BASE_##base,                                                                      \
        {                                                                                                    \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }

struct single {
    enum vmx_check expected;
    enum base base;
    struct edit edits[6];
};

#define NMI_INJECTED      PUT(entry_interruption, 0x80000202)
#define EXTERNAL_INJECTED PUT(entry_interruption, 0x80000020)
#define HLT               PUT(guest_activity, ACTIVITY_HLT)
#define NO_SHADOW_VMCS    FLIP(secondary_controls, SECONDARY_VMCS_SHADOWING), PUT(link_pointer, ~0ull)

static const struct single singles[] = {
    /* 27.2.1.1 */
    FAILS(PIN_RESERVED, 64, FLIP(pin_controls, BIT(1))), FAILS(PIN_RESERVED, 64, FLIP(pin_controls, BIT(31))),
    FAILS(PRIMARY_RESERVED, 64, FLIP(primary_controls, BIT(1))),
    FAILS(PRIMARY_RESERVED, 64, FLIP(primary_controls, BIT(0))),
    FAILS(SECONDARY_RESERVED, 64, FLIP(secondary_controls, BIT(31))),
    OK(32, FLIP(secondary_controls, BIT(31))), /* not activated */
    OK(64, PUT(cr3_target_count, 4)), FAILS(CR3_TARGET_COUNT, 64, PUT(cr3_target_count, 5)),
    OK(64, FLIP(primary_controls, PRIMARY_IO_BITMAPS), PUT(io_bitmap_a, 1)),
    OK(64, FLIP(primary_controls, PRIMARY_MSR_BITMAPS), PUT(msr_bitmaps, 1)), OK(32, PUT(tpr_threshold, 5)),
    FAILS(TPR_THRESHOLD_VTPR, 32, PUT(tpr_threshold, 6)), /* without EPT: CVE-2026-72287 was of that */
    FAILS(TPR_THRESHOLD_RESERVED, 32, PUT(tpr_threshold, 0x10)),
    OK(64, PUT(tpr_threshold, 0x1f)), /* virtual-interrupt delivery */
    OK(64, FLIP(secondary_controls, SECONDARY_VIRTUAL_INTERRUPTS), FLIP(pin_controls, PIN_POSTED_INTERRUPTS),
       PUT(tpr_threshold, 15)),                                  /* APIC accesses */
    OK(32, PUT(virtual_apic, 0x100000), PUT(tpr_threshold, 15)), /* not RAM */
    FAILS(NEEDS_TPR_SHADOW, 64, FLIP(primary_controls, PRIMARY_TPR_SHADOW)),
    FAILS(NEEDS_TPR_SHADOW, PAE, FLIP(primary_controls, PRIMARY_TPR_SHADOW),
          FLIP(secondary_controls, SECONDARY_X2APIC_MODE)),
    FAILS(NEEDS_TPR_SHADOW, PAE, FLIP(primary_controls, PRIMARY_TPR_SHADOW),
          FLIP(secondary_controls, SECONDARY_APIC_REGISTERS)),
    FAILS(NEEDS_TPR_SHADOW, PAE, FLIP(primary_controls, PRIMARY_TPR_SHADOW),
          FLIP(secondary_controls, SECONDARY_VIRTUAL_INTERRUPTS)),
    OK(32, FLIP(primary_controls, PRIMARY_TPR_SHADOW), PUT(virtual_apic, 1), PUT(tpr_threshold, 0xff)),
    FAILS(VIRTUAL_NMIS, 64, FLIP(pin_controls, PIN_NMI_EXITING)),
    FAILS(NMI_WINDOW, 64, FLIP(pin_controls, PIN_VIRTUAL_NMIS)),
    OK(64, FLIP(pin_controls, PIN_VIRTUAL_NMIS | PIN_NMI_EXITING),
       FLIP(primary_controls, PRIMARY_NMI_WINDOW)),
    FAILS(X2APIC_AND_APIC_ACCESSES, 64, FLIP(secondary_controls, SECONDARY_X2APIC_MODE)),
    OK(64, FLIP(secondary_controls, SECONDARY_X2APIC_MODE | SECONDARY_APIC_ACCESSES), PUT(apic_access, 1)),
    FAILS(VIRTUAL_INTERRUPTS, 64, FLIP(pin_controls, PIN_EXTERNAL_INTERRUPT_EXITING)),
    FAILS(POSTED_INTERRUPTS, 64, FLIP(secondary_controls, SECONDARY_VIRTUAL_INTERRUPTS)),
    FAILS(POSTED_INTERRUPTS, 64, FLIP(exit_controls, EXIT_ACKNOWLEDGE_INTERRUPT)),
    OK(64, PUT(posted_interrupt_vector, 0xff)),
    FAILS(POSTED_INTERRUPT_VECTOR, 64, PUT(posted_interrupt_vector, 0x100)),
    OK(64, PUT(posted_interrupt_descriptor, 0x1040)), FAILS(VPID, 64, PUT(vpid, 0)),
    OK(64, PUT(vpid, 0), FLIP(secondary_controls, SECONDARY_VPID)), OK(64, FLIP(ept_pointer, BIT(6))),
    FAILS(EPT_POINTER, 64, FLIP(ept_pointer, BIT(7))),
    FAILS(EPT_POINTER, 64, PUT(ept_pointer, 0x8000 | 0 | 3 << 3)),
    FAILS(EPT_POINTER, 64, PUT(ept_pointer, 0x8000 | 6 | 4 << 3)),
    FAILS(EPT_POINTER, 64, PUT(ept_pointer, 0x8000 | 6 | 2 << 3)),
    FAILS(EPT_POINTER, 64, PUT(ept_pointer, 0x8000 | 4 | 3 << 3)),
    FAILS(EPT_POINTER, 64, FLIP(ept_pointer, BIT(8))), FAILS(EPT_POINTER, 64, FLIP(ept_pointer, BIT(11))),
    FAILS(EPT_POINTER, 64, FLIP(ept_pointer, BIT(40))), FAILS(EPT_POINTER, 64, FLIP(ept_pointer, BIT(63))),
    OK(32, PUT(ept_pointer, 1)), FAILS(PML_WITHOUT_EPT, PAE_NO_EPT, PUT(secondary_controls, SECONDARY_PML)),
    FAILS(UNRESTRICTED_WITHOUT_EPT, PAE_NO_EPT, PUT(secondary_controls, SECONDARY_UNRESTRICTED_GUEST)),
    FAILS(MBEC_WITHOUT_EPT, PAE_NO_EPT, PUT(secondary_controls, SECONDARY_MBEC)),
    FAILS(VM_FUNCTIONS_RESERVED, 64, FLIP(vm_function_controls, BIT(1))),
    FAILS(EPTP_SWITCHING_WITHOUT_EPT, PAE_NO_EPT, PUT(secondary_controls, SECONDARY_VM_FUNCTIONS)),
    OK(PAE_NO_EPT, PUT(secondary_controls, SECONDARY_VM_FUNCTIONS), PUT(vm_function_controls, 0),
       PUT(eptp_list, 1)),
    FAILS(TSC_MULTIPLIER, 64, PUT(tsc_multiplier, 0)),

    /* 27.2.1.2 */
    FAILS(EXIT_RESERVED, 64, FLIP(exit_controls, BIT(0))),
    FAILS(EXIT_RESERVED, 64, FLIP(exit_controls, BIT(31))),
    FAILS(SAVE_PREEMPTION_TIMER, 64, FLIP(pin_controls, PIN_PREEMPTION_TIMER)),
    OK(64, FLIP(pin_controls, PIN_PREEMPTION_TIMER), FLIP(exit_controls, EXIT_SAVE_PREEMPTION_TIMER)),
    OK(64, PUT(exit_msr_store, 1)), /* no entries */
    OK(64, PUT(exit_msr_store, 0xfffffffff0), PUT(exit_msr_store_count, 1)),
    FAILS(EXIT_MSR_STORE, 64, PUT(exit_msr_store, 0xfffffffff0), PUT(exit_msr_store_count, 2)),
    FAILS(EXIT_MSR_STORE, 64, PUT(exit_msr_store_count, 0xffffffff), PUT(exit_msr_store, 0xf000000020)),
    FAILS(EXIT_MSR_LOAD, 64, PUT(exit_msr_load, 0xfffffffff0), PUT(exit_msr_load_count, 2)),
    FAILS(ENTRY_MSR_LOAD, 64, PUT(entry_msr_load, 0xfffffffff0), PUT(entry_msr_load_count, 2)),

    /* 27.2.1.3 */
    FAILS(ENTRY_RESERVED, 64, FLIP(entry_controls, BIT(0))),
    FAILS(ENTRY_RESERVED, 64, FLIP(entry_controls, ENTRY_TO_SMM)),
    FAILS(ENTRY_RESERVED, 64, FLIP(entry_controls, ENTRY_END_DUAL_MONITOR)), OK(64, EXTERNAL_INJECTED),
    OK(64, NMI_INJECTED), OK(64, PUT(entry_interruption, 0x80000306)),
    OK(64, PUT(entry_interruption, 0x80000b0e), PUT(entry_error_code, 0xffff)),
    OK(64, PUT(entry_interruption, 0x80000480), PUT(entry_instruction_length, 2)),
    OK(64, PUT(entry_interruption, 0x80000501), PUT(entry_instruction_length, 0)),
    OK(64, PUT(entry_interruption, 0x80000603), PUT(entry_instruction_length, 15)),
    OK(64, PUT(entry_interruption, 0x80000700)), OK(64, PUT(entry_interruption, 0x00000101)), /* not valid */
    FAILS(EVENT_TYPE, 64, PUT(entry_interruption, 0x80000120)),
    FAILS(EVENT_VECTOR, 64, PUT(entry_interruption, 0x80000203)),
    FAILS(EVENT_VECTOR, 64, PUT(entry_interruption, 0x80000320)),
    FAILS(EVENT_VECTOR, 64, PUT(entry_interruption, 0x80000701)),
    FAILS(EVENT_ERROR_CODE, 64, PUT(entry_interruption, 0x80000820)),
    FAILS(EVENT_ERROR_CODE, 64, PUT(entry_interruption, 0x80000c80)),
    FAILS(EVENT_ERROR_CODE, REAL, PUT(entry_interruption, 0x80000b0d)),
    OK(REAL, PUT(entry_interruption, 0x8000030d)),
    FAILS(EVENT_ERROR_CODE, 32, FLIP(guest_cr0, CR0_PE | CR0_PG), PUT(entry_interruption, 0x8000030d)),
    FAILS(GUEST_CR0, 32, FLIP(guest_cr0, CR0_PE | CR0_PG), PUT(entry_interruption, 0x80000b0d)),
    FAILS(EVENT_ERROR_CODE_RESERVED, 64, PUT(entry_interruption, 0x80000b0e), PUT(entry_error_code, 0x10000)),
    FAILS(EVENT_ERROR_CODE_RESERVED, 64, PUT(entry_interruption, 0x80000b0e), PUT(entry_error_code, BIT(31))),
    OK(64, PUT(entry_interruption, 0x80000306), PUT(entry_error_code, 0xffffffff)),
    FAILS(EVENT_LENGTH, 64, PUT(entry_interruption, 0x80000480), PUT(entry_instruction_length, 16)),
    FAILS(EVENT_LENGTH, 64, PUT(entry_interruption, 0x80000501), PUT(entry_instruction_length, 16)),
    FAILS(EVENT_LENGTH, 64, PUT(entry_interruption, 0x80000603), PUT(entry_instruction_length, BIT(31))),
    OK(64, PUT(entry_interruption, 0x80000306), PUT(entry_instruction_length, 16)),

    /* 27.2.2 */
    FAILS(HOST_CET_WITHOUT_WP, 64, FLIP(host_cr4, CR4_CET), FLIP(host_cr0, CR0_WP)),
    OK(64, FLIP(host_cr4, CR4_CET)), OK(64, FLIP(host_cr0, CR0_WP)),
    FAILS(HOST_CR3, 64, FLIP(host_cr3, BIT(40))), FAILS(HOST_CR3, 64, FLIP(host_cr3, BIT(63))),
    FAILS(HOST_SYSENTER, 64, PUT(host_sysenter_esp, BIT(47))),
    FAILS(HOST_SYSENTER, 64, PUT(host_sysenter_eip, BIT(63))),
    FAILS(HOST_PERF_GLOBAL_CTRL, 64, PUT(host_perf_global_ctrl, BIT(4))),
    OK(64, PUT(host_perf_global_ctrl, BIT(4)), FLIP(exit_controls, EXIT_LOAD_PERF_GLOBAL_CTRL)),
    OK(64, PUT(host_pat, 2), FLIP(exit_controls, EXIT_LOAD_PAT)),
    FAILS(HOST_EFER_RESERVED, 64, FLIP(host_efer, BIT(1))),
    FAILS(HOST_EFER_RESERVED, 64, FLIP(host_efer, BIT(32))),
    FAILS(HOST_EFER_MODE, 64, FLIP(host_efer, EFER_LMA)),
    FAILS(HOST_EFER_MODE, 64, FLIP(host_efer, EFER_LME)),
    FAILS(HOST_EFER_MODE, 32_HOST, FLIP(host_efer, EFER_LME)),
    OK(64, PUT(host_efer, BIT(1)), FLIP(exit_controls, EXIT_LOAD_EFER)),
    FAILS(HOST_S_CET, 64, PUT(host_s_cet, BIT(6))), FAILS(HOST_S_CET, 64, PUT(host_s_cet, BIT(10) | BIT(11))),
    FAILS(HOST_S_CET, 64, PUT(host_s_cet, BIT(50))), OK(64, PUT(host_s_cet, BIT(10) | BIT(0))),
    OK(64, PUT(host_s_cet, BIT(6)), FLIP(exit_controls, EXIT_LOAD_CET)),
    FAILS(HOST_SSP, 64, PUT(host_ssp, BIT(0))), FAILS(HOST_SSP, 64, PUT(host_ssp, BIT(1))),
    FAILS(HOST_SSP, 64, PUT(host_ssp, BIT(50))),
    FAILS(HOST_SSP_TABLE, 64, PUT(host_interrupt_ssp_table, BIT(50))),
    FAILS(HOST_PKRS, 64, PUT(host_pkrs, BIT(32))),
    OK(64, PUT(host_pkrs, BIT(32)), FLIP(exit_controls, EXIT_LOAD_PKRS)),

    /* 27.2.3 */
    FAILS(HOST_CS, 64, PUT(host_selector[VMCS_CS], 0)), FAILS(HOST_TR, 64, PUT(host_selector[VMCS_TR], 0)),
    FAILS(HOST_SS, 32_HOST, PUT(host_selector[VMCS_SS], 0)), OK(64, PUT(host_selector[VMCS_SS], 0)),
    FAILS(HOST_BASE, 64, PUT(host_fs_base, BIT(47))), FAILS(HOST_BASE, 64, PUT(host_gs_base, BIT(47))),
    FAILS(HOST_BASE, 64, PUT(host_gdtr_base, BIT(47))), FAILS(HOST_BASE, 64, PUT(host_idtr_base, BIT(47))),
    FAILS(HOST_BASE, 64, PUT(host_tr_base, BIT(47))),

    /* 27.2.4 */
    FAILS(L1_NOT_IN_IA32E, 32_HOST, FLIP(exit_controls, EXIT_HOST_64), PUT(host_efer, EFER_LME | EFER_LMA)),
    FAILS(L1_NOT_IN_IA32E, 32_HOST, FLIP(entry_controls, ENTRY_IA32E_GUEST)),
    FAILS(L1_IN_IA32E, 32, FLIP(exit_controls, EXIT_HOST_64), PUT(host_efer, 0)),
    FAILS(HOST_32_PCIDE, 32_HOST, FLIP(host_cr4, CR4_PCIDE)), OK(64, FLIP(host_cr4, CR4_PCIDE)),
    FAILS(HOST_32_RIP, 32_HOST, PUT(host_rip, BIT(32))), FAILS(HOST_64_PAE, 64, FLIP(host_cr4, CR4_PAE)),
    FAILS(HOST_32_CET, 32_HOST, PUT(host_s_cet, BIT(32))),
    FAILS(HOST_32_CET, 32_HOST, PUT(host_ssp, BIT(32))),
    OK(32_HOST, PUT(host_ssp, BIT(32)), FLIP(exit_controls, EXIT_LOAD_CET)),
    OK(32_HOST, FLIP(host_cr4, CR4_PAE)), FAILS(HOST_64_RIP, 64, PUT(host_rip, BIT(47))),

    /* 27.3.1.1 */
    FAILS(GUEST_PG_WITHOUT_PE, REAL, FLIP(guest_cr0, CR0_PG)), OK(REAL, FLIP(guest_cr0, CR0_PE)),
    FAILS(GUEST_CR0, 32, FLIP(guest_cr0, CR0_PG)), FAILS(GUEST_CR0, REAL, FLIP(guest_cr0, CR0_NE)),
    OK(64, FLIP(guest_cr0, CR0_CD | CR0_NW)),
    FAILS(GUEST_CET_WITHOUT_WP, 64, FLIP(guest_cr4, CR4_CET), FLIP(guest_cr0, CR0_WP)),
    OK(64, FLIP(guest_cr4, CR4_CET)), FAILS(GUEST_64_PAGING, 64, FLIP(guest_cr4, CR4_PAE)),
    FAILS(GUEST_64_PAGING, 64, FLIP(guest_cr0, CR0_PG)),
    FAILS(GUEST_32_PCIDE, 32, FLIP(guest_cr4, CR4_PCIDE)), OK(64, FLIP(guest_cr4, CR4_PCIDE)),
    FAILS(GUEST_CR3, 64, FLIP(guest_cr3, BIT(40))), FAILS(GUEST_CR3, 64, FLIP(guest_cr3, BIT(62))),
    FAILS(GUEST_DEBUGCTL, 64, PUT(guest_debugctl, BIT(3))),
    FAILS(GUEST_DEBUGCTL, 64, PUT(guest_debugctl, BIT(16))), FAILS(GUEST_DR7, 64, PUT(guest_dr7, BIT(32))),
    OK(64, PUT(guest_dr7, BIT(32)), PUT(guest_debugctl, BIT(3)), FLIP(entry_controls, ENTRY_LOAD_DEBUG)),
    FAILS(GUEST_SYSENTER, 64, PUT(guest_sysenter_esp, BIT(47))),
    FAILS(GUEST_SYSENTER, 64, PUT(guest_sysenter_eip, BIT(47))),
    FAILS(GUEST_S_CET, 64, PUT(guest_s_cet, BIT(6))),
    FAILS(GUEST_S_CET, 64, PUT(guest_s_cet, BIT(10) | BIT(11))),
    FAILS(GUEST_S_CET, 64, PUT(guest_s_cet, BIT(48))),
    FAILS(GUEST_SSP_TABLE, 64, PUT(guest_interrupt_ssp_table, BIT(48))),
    OK(64, PUT(guest_s_cet, BIT(6)), PUT(guest_ssp, 1), PUT(guest_interrupt_ssp_table, BIT(48)),
       FLIP(entry_controls, ENTRY_LOAD_CET)),
    FAILS(GUEST_PERF_GLOBAL_CTRL, 64, PUT(guest_perf_global_ctrl, BIT(35))),
    OK(64, PUT(guest_perf_global_ctrl, BIT(35)), FLIP(entry_controls, ENTRY_LOAD_PERF_GLOBAL_CTRL)),
    OK(64, PUT(guest_pat, 2), FLIP(entry_controls, ENTRY_LOAD_PAT)),
    FAILS(GUEST_EFER_RESERVED, 64, FLIP(guest_efer, BIT(12))),
    FAILS(GUEST_EFER_LMA, 64, FLIP(guest_efer, EFER_LMA)),
    FAILS(GUEST_EFER_LMA, 32, FLIP(guest_efer, EFER_LMA)),
    FAILS(GUEST_EFER_LME, 64, FLIP(guest_efer, EFER_LME)),
    FAILS(GUEST_EFER_LME, 32, FLIP(guest_efer, EFER_LME)),
    OK(REAL, FLIP(guest_efer, EFER_LME)), /* paging is off */
    OK(64, PUT(guest_efer, BIT(1)), FLIP(entry_controls, ENTRY_LOAD_EFER)), OK(64, PUT(guest_bndcfgs, 3)),
    FAILS(GUEST_BNDCFGS, 64, PUT(guest_bndcfgs, BIT(2))),
    FAILS(GUEST_BNDCFGS, 64, PUT(guest_bndcfgs, BIT(11))),
    FAILS(GUEST_BNDCFGS, 64, PUT(guest_bndcfgs, BIT(60))),
    OK(64, PUT(guest_bndcfgs, BIT(2)), FLIP(entry_controls, ENTRY_LOAD_BNDCFGS)),
    FAILS(GUEST_PKRS, 64, PUT(guest_pkrs, BIT(32))),
    OK(64, PUT(guest_pkrs, BIT(32)), FLIP(entry_controls, ENTRY_LOAD_PKRS)),

    /* 27.3.1.2 */
    FAILS(TR_SELECTOR, 64, FLIP(guest_selector[VMCS_TR], BIT(2))),
    FAILS(LDTR_SELECTOR, 64, FLIP(guest_selector[VMCS_LDTR], BIT(2))),
    OK(64, FLIP(guest_selector[VMCS_LDTR], BIT(2)), FLIP(guest_rights[VMCS_LDTR], RIGHTS_UNUSABLE)),
    FAILS(SS_RPL, 32, FLIP(guest_selector[VMCS_SS], 1)), FAILS(SS_RPL, 32, FLIP(guest_selector[VMCS_CS], 3)),
    OK(64, FLIP(guest_selector[VMCS_SS], 1)), /* unrestricted */
    OK(64, FLIP(guest_rights[VMCS_LDTR], RIGHTS_UNUSABLE), PUT(guest_base[VMCS_LDTR], BIT(47))),
    FAILS(V86_BASE, VIRTUAL_8086, FLIP(guest_base[VMCS_GS], 16)),
    FAILS(V86_LIMIT, VIRTUAL_8086, PUT(guest_limit[VMCS_ES], 0xfffff)),
    FAILS(V86_RIGHTS, VIRTUAL_8086, PUT(guest_rights[VMCS_CS], 0x93)),
    FAILS(V86_RIGHTS, VIRTUAL_8086, PUT(guest_rights[VMCS_SS], 0x100f3)),
    OK(64, PUT(guest_rights[VMCS_CS], 0xa099)), OK(64, PUT(guest_rights[VMCS_CS], 0xa09d)),
    OK(64, PUT(guest_rights[VMCS_CS], 0xa09f)),
    OK(64, PUT(guest_rights[VMCS_CS], 0xc093), PUT(guest_rip, 0)), /* unrestricted */
    FAILS(CS_TYPE, 32, PUT(guest_rights[VMCS_CS], 0xc093)),
    FAILS(CS_TYPE, 64, PUT(guest_rights[VMCS_CS], 0xa09a)),
    FAILS(CS_TYPE, 64, PUT(guest_rights[VMCS_CS], 0xa097)),
    FAILS(CS_DPL, 64, PUT(guest_rights[VMCS_CS], 0xa0bb)),
    FAILS(CS_DPL, 64, PUT(guest_rights[VMCS_CS], 0xa0bf)),
    FAILS(CS_DPL, 64, PUT(guest_rights[VMCS_CS], 0xc0b3)),
    OK(64, PUT(guest_rights[VMCS_SS], 0xc0f3), PUT(guest_rights[VMCS_CS], 0xa0fb)),
    OK(64, PUT(guest_rights[VMCS_SS], 0xc0f3), PUT(guest_rights[VMCS_CS], 0xa09f)),
    FAILS(CS_DPL, 64, PUT(guest_rights[VMCS_SS], 0xc0f3), PUT(guest_rights[VMCS_CS], 0xa09b)),
    FAILS(SEGMENT_S, 64, FLIP(guest_rights[VMCS_CS], BIT(4))),
    FAILS(SEGMENT_PRESENT, 64, FLIP(guest_rights[VMCS_CS], BIT(7))),
    FAILS(SEGMENT_RESERVED, 64, FLIP(guest_rights[VMCS_CS], BIT(8))),
    FAILS(SEGMENT_RESERVED, 64, FLIP(guest_rights[VMCS_CS], BIT(31))),
    OK(64, FLIP(guest_rights[VMCS_CS], RIGHTS_UNUSABLE)), /* no meaning for CS */
    FAILS(CS_L_AND_D, 64, FLIP(guest_rights[VMCS_CS], RIGHTS_BIG)),
    OK(32, FLIP(guest_rights[VMCS_CS], RIGHTS_LONG)), FAILS(SS_TYPE, 64, PUT(guest_rights[VMCS_SS], 0xc091)),
    FAILS(SS_TYPE, 64, PUT(guest_rights[VMCS_SS], 0xc09b)), OK(64, PUT(guest_rights[VMCS_SS], 0xc097)),
    FAILS(SS_DPL_RPL, 32, PUT(guest_rights[VMCS_SS], 0xc0f3), PUT(guest_rights[VMCS_CS], 0xc0fb)),
    FAILS(SS_DPL_RPL, 32, PUT(guest_rights[VMCS_SS], 0x100f3), PUT(guest_rights[VMCS_CS], 0xc0fb)),
    FAILS(SS_DPL_0, REAL, PUT(guest_rights[VMCS_SS], 0xf3)),
    FAILS(SS_DPL_0, 64, PUT(guest_rights[VMCS_SS], 0xc0f3), PUT(guest_rights[VMCS_CS], 0xc093)),
    OK(64, PUT(guest_rights[VMCS_SS], 0x10000)), FAILS(DATA_DPL, 32, FLIP(guest_selector[VMCS_DS], 3)),
    OK(32, FLIP(guest_selector[VMCS_DS], 3), PUT(guest_rights[VMCS_DS], 0xc09f)), /* conforming */
    FAILS(DATA_DPL, 32, FLIP(guest_selector[VMCS_DS], 3), PUT(guest_rights[VMCS_DS], 0xc09b)),
    OK(32, FLIP(guest_selector[VMCS_DS], 3), PUT(guest_rights[VMCS_DS], 0x10000)),
    OK(64, FLIP(guest_selector[VMCS_DS], 3)), OK(32, PUT(guest_rights[VMCS_TR], 0x83)),
    FAILS(TR_TYPE, 64, PUT(guest_rights[VMCS_TR], 0x83)),
    FAILS(TR_TYPE, 64, PUT(guest_rights[VMCS_TR], 0x89)),
    FAILS(TR_TYPE, 32, PUT(guest_rights[VMCS_TR], 0x82)),
    FAILS(TR_RIGHTS, 64, FLIP(guest_rights[VMCS_TR], BIT(4))),
    FAILS(TR_RIGHTS, 64, FLIP(guest_rights[VMCS_TR], BIT(7))),
    FAILS(TR_RIGHTS, 64, FLIP(guest_rights[VMCS_TR], BIT(8))),
    FAILS(TR_RIGHTS, 64, FLIP(guest_rights[VMCS_TR], BIT(11))),
    FAILS(TR_RIGHTS, 64, FLIP(guest_rights[VMCS_TR], BIT(17))),
    FAILS(TR_RIGHTS, 64, FLIP(guest_rights[VMCS_TR], RIGHTS_UNUSABLE)),
    FAILS(TR_GRANULARITY, 64, FLIP(guest_rights[VMCS_TR], BIT(15))),
    FAILS(TR_GRANULARITY, 64, PUT(guest_limit[VMCS_TR], BIT(20))),
    FAILS(LDTR_TYPE, 64, PUT(guest_rights[VMCS_LDTR], 0x83)),
    FAILS(LDTR_RIGHTS, 64, FLIP(guest_rights[VMCS_LDTR], BIT(4))),
    FAILS(LDTR_RIGHTS, 64, FLIP(guest_rights[VMCS_LDTR], BIT(7))),
    FAILS(LDTR_RIGHTS, 64, FLIP(guest_rights[VMCS_LDTR], BIT(9))),
    FAILS(LDTR_RIGHTS, 64, FLIP(guest_rights[VMCS_LDTR], BIT(20))),
    FAILS(LDTR_GRANULARITY, 64, FLIP(guest_rights[VMCS_LDTR], BIT(15))),
    FAILS(LDTR_GRANULARITY, 64, PUT(guest_limit[VMCS_LDTR], BIT(31))),
    OK(64, PUT(guest_rights[VMCS_LDTR], RIGHTS_UNUSABLE)),

    /* 27.3.1.3 */
    FAILS(DESCRIPTOR_TABLE_BASE, 64, PUT(guest_gdtr_base, BIT(47))),
    FAILS(DESCRIPTOR_TABLE_BASE, 64, PUT(guest_idtr_base, BIT(47))),
    FAILS(DESCRIPTOR_TABLE_LIMIT, 64, PUT(guest_gdtr_limit, BIT(16))),
    FAILS(DESCRIPTOR_TABLE_LIMIT, 64, PUT(guest_idtr_limit, BIT(31))),

    /* 27.3.1.4 */
    OK(64, PUT(guest_rip, 0x0000800000000000)), /* one past the last canonical address */
    FAILS(RIP, 64, PUT(guest_rip, 0x0001000000000000)), FAILS(RIP, 64, PUT(guest_rip, 0xfffe800000000000)),
    FAILS(RIP, 32, PUT(guest_rip, BIT(32))),
    FAILS(RIP, 64, PUT(guest_rights[VMCS_CS], 0xc09b)), /* compatibility mode */
    OK(64, PUT(guest_rights[VMCS_CS], 0xc09b), PUT(guest_rip, 0xffffffff)),
    FAILS(VM_FLAG, 64, FLIP(guest_rflags, RFLAGS_VM)), FAILS(VM_FLAG, REAL, FLIP(guest_rflags, RFLAGS_VM)),
    FAILS(INTERRUPT_FLAG, 64, EXTERNAL_INJECTED, FLIP(guest_rflags, RFLAGS_IF)),
    OK(64, NMI_INJECTED, FLIP(guest_rflags, RFLAGS_IF)), FAILS(SSP, 64, PUT(guest_ssp, 2)),
    FAILS(SSP, 64, PUT(guest_ssp, BIT(47))), FAILS(SSP, 32, PUT(guest_ssp, BIT(32))),
    OK(64, PUT(guest_ssp, BIT(32))),

    /* 27.3.1.5 */
    OK(64, HLT), OK(64, PUT(guest_activity, ACTIVITY_SHUTDOWN)),
    OK(64, PUT(guest_activity, ACTIVITY_WAIT_FOR_SIPI)),
    FAILS(ACTIVITY_UNSUPPORTED, 64, PUT(guest_activity, 4)),
    FAILS(ACTIVITY_UNSUPPORTED, 64, PUT(guest_activity, BIT(31))),
    FAILS(ACTIVITY_HLT_DPL, 64, HLT, PUT(guest_rights[VMCS_SS], 0xc0f3), PUT(guest_rights[VMCS_CS], 0xa0fb)),
    FAILS(ACTIVITY_BLOCKING, 64, HLT, PUT(guest_interruptibility, BLOCKING_BY_STI)),
    FAILS(ACTIVITY_BLOCKING, 64, PUT(guest_activity, 2), PUT(guest_interruptibility, BLOCKING_BY_MOV_SS)),
    OK(64, HLT, PUT(guest_interruptibility, BLOCKING_BY_NMI)), OK(64, HLT, EXTERNAL_INJECTED),
    OK(64, HLT, NMI_INJECTED), OK(64, HLT, PUT(entry_interruption, 0x80000301)),
    OK(64, HLT, PUT(entry_interruption, 0x80000312)), OK(64, HLT, PUT(entry_interruption, 0x80000700)),
    FAILS(ACTIVITY_EVENT, 64, HLT, PUT(entry_interruption, 0x80000306)),
    FAILS(ACTIVITY_EVENT, 64, HLT, PUT(entry_interruption, 0x80000480), PUT(entry_instruction_length, 2)),
    OK(64, PUT(guest_activity, ACTIVITY_SHUTDOWN), NMI_INJECTED),
    OK(64, PUT(guest_activity, ACTIVITY_SHUTDOWN), PUT(entry_interruption, 0x80000312)),
    FAILS(ACTIVITY_EVENT, 64, PUT(guest_activity, ACTIVITY_SHUTDOWN), EXTERNAL_INJECTED),
    FAILS(ACTIVITY_EVENT, 64, PUT(guest_activity, ACTIVITY_SHUTDOWN), PUT(entry_interruption, 0x80000301)),
    FAILS(ACTIVITY_EVENT, 64, PUT(guest_activity, ACTIVITY_WAIT_FOR_SIPI), NMI_INJECTED),
    FAILS(BLOCKING_BOTH, 64, PUT(guest_interruptibility, 3)),
    OK(64, PUT(guest_interruptibility, BLOCKING_BY_STI)),
    OK(64, PUT(guest_interruptibility, BLOCKING_BY_MOV_SS)),
    FAILS(BLOCKING_STI_IF, 64, PUT(guest_interruptibility, BLOCKING_BY_STI), FLIP(guest_rflags, RFLAGS_IF)),
    OK(64, PUT(guest_interruptibility, BLOCKING_BY_MOV_SS), FLIP(guest_rflags, RFLAGS_IF)),
    FAILS(BLOCKING_EXTERNAL, 64, PUT(guest_interruptibility, BLOCKING_BY_STI), EXTERNAL_INJECTED),
    FAILS(BLOCKING_EXTERNAL, 64, PUT(guest_interruptibility, BLOCKING_BY_MOV_SS), EXTERNAL_INJECTED),
    OK(64, PUT(guest_interruptibility, BLOCKING_BY_NMI), EXTERNAL_INJECTED),
    FAILS(BLOCKING_NMI_MOV_SS, 64, PUT(guest_interruptibility, BLOCKING_BY_MOV_SS), NMI_INJECTED),
    OK(64, PUT(guest_interruptibility, BLOCKING_BY_STI), NMI_INJECTED),
    FAILS(BLOCKING_NMI, 64, PUT(guest_interruptibility, BLOCKING_BY_NMI), NMI_INJECTED),
    OK(64, PUT(guest_interruptibility, BLOCKING_BY_NMI), NMI_INJECTED, FLIP(pin_controls, PIN_VIRTUAL_NMIS),
       FLIP(primary_controls, PRIMARY_NMI_WINDOW)),
    OK(64, PUT(guest_pending_debug, 0x500f)),
    FAILS(PENDING_DEBUG_STEP, 64, PUT(guest_interruptibility, BLOCKING_BY_STI),
          FLIP(guest_rflags, RFLAGS_TF)),
    FAILS(PENDING_DEBUG_STEP, 64, PUT(guest_interruptibility, BLOCKING_BY_MOV_SS),
          PUT(guest_pending_debug, 0x4000)),
    FAILS(PENDING_DEBUG_STEP, 64, HLT, PUT(guest_pending_debug, 0x4000)),
    FAILS(PENDING_DEBUG_STEP, 64, HLT, FLIP(guest_rflags, RFLAGS_TF)),
    OK(64, HLT, FLIP(guest_rflags, RFLAGS_TF), PUT(guest_pending_debug, 0x4000)),
    OK(64, HLT, FLIP(guest_rflags, RFLAGS_TF), PUT(guest_debugctl, 2)),
    FAILS(PENDING_DEBUG_STEP, 64, HLT, FLIP(guest_rflags, RFLAGS_TF), PUT(guest_debugctl, 2),
          PUT(guest_pending_debug, 0x4000)),
    OK(64, PUT(guest_pending_debug, 0x11000)),
    FAILS(PENDING_DEBUG_RTM, 64, PUT(guest_pending_debug, 0x10000)),
    FAILS(PENDING_DEBUG_RTM, 64, PUT(guest_pending_debug, 0x11001)),
    FAILS(PENDING_DEBUG_RTM, 64, PUT(guest_pending_debug, 0x15000)),
    FAILS(PENDING_DEBUG_RTM, 64, PUT(guest_pending_debug, 0x11000),
          PUT(guest_interruptibility, BLOCKING_BY_MOV_SS)),
    OK(64, PUT(link_pointer, ~0ull)), FAILS(LINK_POINTER_CURRENT, 64, PUT(link_pointer, CASE_CURRENT)),
    FAILS(LINK_POINTER_REVISION, 64, PUT(link_pointer, CASE_PDPTES)),
    FAILS(LINK_POINTER_REVISION, 64, PUT(link_pointer, 0x100000)), /* not RAM */
    FAILS(LINK_POINTER_REVISION, 64, FLIP(secondary_controls, SECONDARY_VMCS_SHADOWING)),
    OK(64, NO_SHADOW_VMCS),

    /* 27.3.1.6 */
    FAILS(PDPTES, PAE, PUT(guest_pdpte[0], 3)), OK(PAE, PUT(guest_pdpte[0], 2)), /* not present */
    OK(32, PUT(guest_pdpte[0], 3)), OK(64, PUT(guest_pdpte[0], 3)), OK(PAE_NO_EPT, PUT(guest_pdpte[0], 3)),
    FAILS(PDPTES, PAE_NO_EPT, PUT(guest_cr3, 0x100000)), /* not RAM */
};

static void apply(struct vmcs12 *vmcs12, const struct edit *edit)
{
    u64 value = 0;

    memcpy(&value, (u8 *)vmcs12 + edit->offset, edit->bytes);
    value = edit->operation == XOR ? value ^ edit->value : edit->value;
    memcpy((u8 *)vmcs12 + edit->offset, &value, edit->bytes);
}

static void test_singles(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(singles); i++) {
        struct check_case check_case;

        check_case_init(&check_case, singles[i].base);
        for (unsigned e = 0; e < ARRAY_SIZE(singles[i].edits) && singles[i].edits[e].bytes != 0; e++)
            apply(&check_case.vmcs12, &singles[i].edits[e]);
        expect(&check_case, singles[i].expected, "single case", i);
    }
}

static void test_bases(void **state)
{
    (void)state;
    for (unsigned base = 0; base < BASES; base++) {
        struct check_case check_case;
        check_case_init(&check_case, (enum base)base);
        expect(&check_case, VMX_CHECK_OK, "base", base);
    }
}

/* --- sweeps: every bit of a kind --- */

static void try_value(enum base base, u16 offset, u16 bytes, u64 value, enum vmx_check expected)
{
    const struct edit edit = {SET, offset, bytes, value};
    struct check_case check_case;

    check_case_init(&check_case, base);
    apply(&check_case.vmcs12, &edit);
    expect(&check_case, expected, "sweep", (u64)offset << 48 ^ value);
}

static void test_addresses(void **state)
{
    static const struct {
        u16 offset, bytes;
        u64 alignment;
        enum vmx_check check;
        u16 count; /* offset of a list's count, which has to be 1 */
    } fields[] = {
        {MEMBER(io_bitmap_a), PAGE_SIZE, VMX_CHECK_IO_BITMAP, 0},
        {MEMBER(io_bitmap_b), PAGE_SIZE, VMX_CHECK_IO_BITMAP, 0},
        {MEMBER(msr_bitmaps), PAGE_SIZE, VMX_CHECK_MSR_BITMAPS, 0},
        {MEMBER(virtual_apic), PAGE_SIZE, VMX_CHECK_VIRTUAL_APIC, 0},
        {MEMBER(apic_access), PAGE_SIZE, VMX_CHECK_APIC_ACCESS, 0},
        {MEMBER(posted_interrupt_descriptor), 64, VMX_CHECK_POSTED_INTERRUPT_DESCRIPTOR, 0},
        {MEMBER(pml_address), PAGE_SIZE, VMX_CHECK_PML_ADDRESS, 0},
        {MEMBER(eptp_list), PAGE_SIZE, VMX_CHECK_EPTP_LIST, 0},
        {MEMBER(vmread_bitmap), PAGE_SIZE, VMX_CHECK_VMREAD_BITMAP, 0},
        {MEMBER(vmwrite_bitmap), PAGE_SIZE, VMX_CHECK_VMWRITE_BITMAP, 0},
        {MEMBER(ve_information), PAGE_SIZE, VMX_CHECK_VE_INFORMATION, 0},
        {MEMBER(exit_msr_store), 16, VMX_CHECK_EXIT_MSR_STORE, offsetof(struct vmcs12, exit_msr_store_count)},
        {MEMBER(exit_msr_load), 16, VMX_CHECK_EXIT_MSR_LOAD, offsetof(struct vmcs12, exit_msr_load_count)},
        {MEMBER(entry_msr_load), 16, VMX_CHECK_ENTRY_MSR_LOAD, offsetof(struct vmcs12, entry_msr_load_count)},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        for (unsigned bit = 0; bit < 64; bit++) {
            struct check_case check_case;
            bool bad = BIT(bit) < fields[i].alignment || bit >= CASE_MAXPHYADDR;
            const struct edit edit = {SET, fields[i].offset, fields[i].bytes, BIT(bit)};

            check_case_init(&check_case, BASE_64);
            apply(&check_case.vmcs12, &edit);
            if (fields[i].count != 0)
                *(u32 *)((u8 *)&check_case.vmcs12 + fields[i].count) = 1;
            expect(&check_case, bad ? fields[i].check : VMX_CHECK_OK, "address", i << 8 | bit);
        }
    }
    for (unsigned bit = 0; bit < 64; bit++) {
        bool bad = bit < 12 || bit >= CASE_MAXPHYADDR;
        /* CASE_LINK is not touched, so no address but it has a revision. */
        if (bad)
            try_value(BASE_64, MEMBER(link_pointer), BIT(bit), VMX_CHECK_LINK_POINTER_ADDRESS);
    }
}

static void test_fixed_bits(void **state)
{
    struct check_case check_case;

    (void)state;
    check_case_init(&check_case, BASE_64);
    const u64 cr0 = check_case.vmcs12.host_cr0;
    for (unsigned bit = 0; bit < 64; bit++) {
        bool must = (BIT(bit) & (CR0_PE | CR0_NE | CR0_PG)) != 0;
        bool bad = must || bit >= 32;
        try_value(BASE_64, MEMBER(host_cr0), cr0 ^ BIT(bit), bad ? VMX_CHECK_HOST_CR0 : VMX_CHECK_OK);
        try_value(BASE_32, MEMBER(guest_cr0), cr0 ^ BIT(bit), bad ? VMX_CHECK_GUEST_CR0 : VMX_CHECK_OK);
        bool allowed = (BIT(bit) & CR4_GUEST_OWNED) != 0;
        if (BIT(bit) == CR4_PAE)
            continue;
        try_value(BASE_64, MEMBER(host_cr4), (CR4_PAE | CR4_VMXE) ^ BIT(bit),
                  allowed ? VMX_CHECK_OK : VMX_CHECK_HOST_CR4);
        try_value(BASE_64, MEMBER(guest_cr4), (CR4_PAE | CR4_VMXE) ^ BIT(bit),
                  allowed ? VMX_CHECK_OK : VMX_CHECK_GUEST_CR4);
    }
}

static void test_pat(void **state)
{
    (void)state;
    for (unsigned byte = 0; byte < 8; byte++) {
        for (u64 type = 0; type < 256; type++) {
            bool good = type <= 7 && type != 2 && type != 3;
            u64 pat = type << 8 * byte;
            try_value(BASE_64, MEMBER(host_pat), pat, good ? VMX_CHECK_OK : VMX_CHECK_HOST_PAT);
            try_value(BASE_64, MEMBER(guest_pat), pat, good ? VMX_CHECK_OK : VMX_CHECK_GUEST_PAT);
        }
    }
}

static void test_single_bits(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        /* RFLAGS: 0, 2, 4, 6 to 14, 16 to 21 are defined; VM has rows of its own. */
        bool defined = (BIT(bit) & 0x3f7fd5) != 0;
        if (BIT(bit) != RFLAGS_VM)
            try_value(BASE_64, MEMBER(guest_rflags), BIT(1) ^ BIT(bit),
                      defined ? VMX_CHECK_OK : VMX_CHECK_RFLAGS_RESERVED);
        bool pending = bit <= 3 || bit == 12 || bit == 14;
        if (bit != 16)
            try_value(BASE_64, MEMBER(guest_pending_debug), BIT(bit),
                      pending ? VMX_CHECK_OK : VMX_CHECK_PENDING_DEBUG_RESERVED);
    }
    for (unsigned bit = 0; bit < 32; bit++) {
        bool known = bit <= 1 || bit == 3;
        try_value(BASE_64, MEMBER(guest_interruptibility), BIT(bit),
                  known ? VMX_CHECK_OK : VMX_CHECK_INTERRUPTIBILITY_RESERVED);
        if (bit >= 12 && bit < 31)
            try_value(BASE_64, MEMBER(entry_interruption), 0x80000020 | BIT(bit), VMX_CHECK_EVENT_RESERVED);
    }
    for (unsigned bit = 1; bit < 64; bit++) {
        bool reserved = bit <= 2 || (bit >= 5 && bit <= 8) || bit >= CASE_MAXPHYADDR;
        for (unsigned i = 0; i < VMCS_PDPTES; i++)
            try_value(BASE_PAE, (u16)(offsetof(struct vmcs12, guest_pdpte) + 8 * i), 8, 1 | BIT(bit),
                      reserved ? VMX_CHECK_PDPTES : VMX_CHECK_OK);
    }
}

/* The same PDPTEs, from memory. */
static void test_pdptes_in_memory(void **state)
{
    (void)state;
    for (unsigned bit = 1; bit < 64; bit++) {
        bool reserved = bit <= 2 || (bit >= 5 && bit <= 8) || bit >= CASE_MAXPHYADDR;
        struct check_case check_case;
        u64 pdpte = 1 | BIT(bit);

        check_case_init(&check_case, BASE_PAE_NO_EPT);
        memcpy(case_memory + CASE_PDPTES + 8 * (bit % 4), &pdpte, sizeof(pdpte));
        expect(&check_case, reserved ? VMX_CHECK_PDPTES : VMX_CHECK_OK, "PDPTE in memory", bit);
    }
}

static void test_selectors(void **state)
{
    (void)state;
    for (unsigned segment = 0; segment < HOST_SEGMENTS; segment++) {
        u16 offset = (u16)(offsetof(struct vmcs12, host_selector) + 2 * segment);
        for (unsigned bit = 0; bit < 16 && segment != VMCS_LDTR; bit++)
            try_value(BASE_64, offset, 2, 0x4000 ^ BIT(bit) ^ (bit == 14 ? BIT(13) : 0),
                      bit < 3 ? VMX_CHECK_HOST_SELECTOR : VMX_CHECK_OK);
    }
}

/* DS, ES, FS, GS: all 16 types, each bit of the rights, each base. */
static void test_data_segments(void **state)
{
    static const enum vmcs_segment data[] = {VMCS_DS, VMCS_ES, VMCS_FS, VMCS_GS};

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(data); i++) {
        u16 rights = (u16)(offsetof(struct vmcs12, guest_rights) + 4 * data[i]);
        u16 limit = (u16)(offsetof(struct vmcs12, guest_limit) + 4 * data[i]);
        u16 base = (u16)(offsetof(struct vmcs12, guest_base) + 8 * data[i]);
        bool wide = data[i] == VMCS_FS || data[i] == VMCS_GS;

        for (unsigned type = 0; type < 16; type++) {
            bool good = (type & 1) != 0 && ((type & 8) == 0 || (type & 2) != 0);
            try_value(BASE_64, rights, 4, 0xc090 | type, good ? VMX_CHECK_OK : VMX_CHECK_DATA_TYPE);
            try_value(BASE_64, rights, 4, 0x1c090 | type, VMX_CHECK_OK); /* unusable */
        }
        for (unsigned bit = 8; bit < 32; bit++) {
            bool reserved = bit <= 11 || bit >= 17;
            if (bit != 15)
                try_value(BASE_64, rights, 4, 0xc093 ^ BIT(bit),
                          reserved ? VMX_CHECK_SEGMENT_RESERVED : VMX_CHECK_OK);
        }
        try_value(BASE_64, rights, 4, 0xc083, VMX_CHECK_SEGMENT_S);
        try_value(BASE_64, rights, 4, 0xc013, VMX_CHECK_SEGMENT_PRESENT);
        try_value(BASE_64, rights, 4, 0x4093, VMX_CHECK_SEGMENT_GRANULARITY);
        for (unsigned bit = 0; bit < 32; bit++) {
            try_value(BASE_64, limit, 4, ~(u32)BIT(bit),
                      bit < 12 ? VMX_CHECK_SEGMENT_GRANULARITY : VMX_CHECK_OK);
        }
        try_value(BASE_64, base, 8, BIT(32), wide ? VMX_CHECK_OK : VMX_CHECK_BASE_32);
        try_value(BASE_64, base, 8, BIT(47), wide ? VMX_CHECK_CANONICAL_BASE : VMX_CHECK_BASE_32);
        try_value(BASE_64, base, 8, 0xffff800000000000, wide ? VMX_CHECK_OK : VMX_CHECK_BASE_32);
    }
    try_value(BASE_64, MEMBER(guest_base[VMCS_CS]), BIT(32), VMX_CHECK_BASE_32);
    try_value(BASE_64, MEMBER(guest_base[VMCS_SS]), BIT(32), VMX_CHECK_BASE_32);
    try_value(BASE_64, MEMBER(guest_base[VMCS_TR]), BIT(47), VMX_CHECK_CANONICAL_BASE);
    try_value(BASE_64, MEMBER(guest_base[VMCS_LDTR]), BIT(47), VMX_CHECK_CANONICAL_BASE);
}

/* Every exception: with an error code, and without, on both kinds of CPU. */
static void test_error_codes(void **state)
{
    const u32 with = 1u << 8 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 17;

    (void)state;
    for (unsigned vector = 0; vector < 32; vector++) {
        for (unsigned delivers = 0; delivers < 2; delivers++) {
            struct check_case check_case;
            bool right = delivers == (with >> vector & 1);

            check_case_init(&check_case, BASE_64);
            check_case.vmcs12.entry_interruption = 0x80000300 | vector | delivers << 11;
            expect(&check_case, right ? VMX_CHECK_OK : VMX_CHECK_EVENT_ERROR_CODE, "exception", vector);
            check_case.capability.msr[0] |= VMX_BASIC_ANY_ERROR_CODE;
            expect(&check_case, VMX_CHECK_OK, "exception on a lenient CPU", vector);
        }
    }
}

static void test_qualifications(void **state)
{
    (void)state;
    for (unsigned check = 0; check < VMX_CHECKS; check++) {
        u64 expected = 0;
        if (check == VMX_CHECK_PDPTES)
            expected = 2;
        if (check == VMX_CHECK_LINK_POINTER_ADDRESS || check == VMX_CHECK_LINK_POINTER_CURRENT ||
            check == VMX_CHECK_LINK_POINTER_REVISION)
            expected = 4;
        assert_int_equal(vmx_check_qualification((enum vmx_check)check), expected);
    }
}

/*
 * Those that no vmcs12 can reach, since an earlier check catches it: host state that contradicts L1's mode
 * has to be wrong twice.
 */
static bool is_shadowed(unsigned check)
{
    return check == VMX_CHECK_HOST_32_GUEST_64;
}

static void test_every_check_was_seen(void **state)
{
    (void)state;
    for (unsigned check = 0; check < VMX_CHECKS; check++) {
        if (!seen[check] && !is_shadowed(check))
            fail_msg("no case for %s", vmx_check_text((enum vmx_check)check)->rule);
    }
    assert_true(cases > 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bases),
        cmocka_unit_test(test_singles),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_fixed_bits),
        cmocka_unit_test(test_pat),
        cmocka_unit_test(test_single_bits),
        cmocka_unit_test(test_pdptes_in_memory),
        cmocka_unit_test(test_selectors),
        cmocka_unit_test(test_data_segments),
        cmocka_unit_test(test_error_codes),
        cmocka_unit_test(test_qualifications),
        cmocka_unit_test(test_every_check_was_seen),
    };
    return cmocka_run_group_tests_name("vmx-check", tests, NULL, NULL);
}
