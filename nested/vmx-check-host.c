/* SPDX-License-Identifier: MIT */
/* Checks on the host-state area of a VM entry, SDM vol. 3C 27.2.2 to 27.2.4; see nested/vmx-check.h. */
#include "arch/x86.h"
#include "nested/vmx-check-parts.h"

#define SELECTOR_TI_RPL BITS(2, 0)

/* --- 27.2.2 control registers, MSRs and SSP --- */

static enum vmx_check check_control_registers(const struct vmx_check_input *input)
{
    const struct vmcs12 *vmcs12 = input->vmcs12;

    REQUIRE(has_fixed_bits(input, vmcs12->host_cr0, MSR_IA32_VMX_CR0_FIXED0, 0), HOST_CR0);
    REQUIRE(has_fixed_bits(input, vmcs12->host_cr4, MSR_IA32_VMX_CR4_FIXED0, 0), HOST_CR4);
    if ((vmcs12->host_cr4 & CR4_CET) != 0)
        REQUIRE((vmcs12->host_cr0 & CR0_WP) != 0, HOST_CET_WITHOUT_WP);
    REQUIRE((vmcs12->host_cr3 & ~input->capability->cr3_valid) == 0, HOST_CR3);
    REQUIRE(is_canonical(input, vmcs12->host_sysenter_esp) && is_canonical(input, vmcs12->host_sysenter_eip),
            HOST_SYSENTER);
    return VMX_CHECK_OK;
}

static enum vmx_check check_efer(const struct vmx_check_input *input)
{
    u64 efer = input->vmcs12->host_efer;
    u64 expected = exit_on(input, EXIT_HOST_64) ? EFER_LMA | EFER_LME : 0;

    if (!exit_on(input, EXIT_LOAD_EFER))
        return VMX_CHECK_OK;
    REQUIRE((efer & ~input->capability->efer_valid) == 0, HOST_EFER_RESERVED);
    REQUIRE((efer & (EFER_LMA | EFER_LME)) == expected, HOST_EFER_MODE);
    return VMX_CHECK_OK;
}

static enum vmx_check check_cet(const struct vmx_check_input *input)
{
    const struct vmcs12 *vmcs12 = input->vmcs12;

    if (!exit_on(input, EXIT_LOAD_CET))
        return VMX_CHECK_OK;
    REQUIRE(is_s_cet(input, vmcs12->host_s_cet), HOST_S_CET);
    REQUIRE((vmcs12->host_ssp & BITS(1, 0)) == 0 && is_canonical(input, vmcs12->host_ssp), HOST_SSP);
    REQUIRE(is_canonical(input, vmcs12->host_interrupt_ssp_table), HOST_SSP_TABLE);
    return VMX_CHECK_OK;
}

static enum vmx_check check_msrs(const struct vmx_check_input *input)
{
    const struct vmcs12 *vmcs12 = input->vmcs12;

    if (exit_on(input, EXIT_LOAD_PERF_GLOBAL_CTRL)) {
        REQUIRE((vmcs12->host_perf_global_ctrl & ~input->capability->perf_global_valid) == 0,
                HOST_PERF_GLOBAL_CTRL);
    }
    if (exit_on(input, EXIT_LOAD_PAT))
        REQUIRE(is_pat(vmcs12->host_pat), HOST_PAT);
    REQUIRE_OK(check_efer(input));
    REQUIRE_OK(check_cet(input));
    if (exit_on(input, EXIT_LOAD_PKRS))
        REQUIRE(vmcs12->host_pkrs >> 32 == 0, HOST_PKRS);
    return VMX_CHECK_OK;
}

/* --- 27.2.3 segment and descriptor-table registers --- */

static enum vmx_check check_selectors(const struct vmx_check_input *input)
{
    const u16 *selector = input->vmcs12->host_selector;

    for (unsigned i = 0; i < HOST_SEGMENTS; i++) {
        if (i != VMCS_LDTR)
            REQUIRE((selector[i] & SELECTOR_TI_RPL) == 0, HOST_SELECTOR);
    }
    REQUIRE(selector[VMCS_CS] != 0, HOST_CS);
    REQUIRE(selector[VMCS_TR] != 0, HOST_TR);
    REQUIRE(exit_on(input, EXIT_HOST_64) || selector[VMCS_SS] != 0, HOST_SS);
    return VMX_CHECK_OK;
}

static enum vmx_check check_bases(const struct vmx_check_input *input)
{
    const struct vmcs12 *vmcs12 = input->vmcs12;

    REQUIRE(is_canonical(input, vmcs12->host_fs_base) && is_canonical(input, vmcs12->host_gs_base) &&
                is_canonical(input, vmcs12->host_gdtr_base) && is_canonical(input, vmcs12->host_idtr_base) &&
                is_canonical(input, vmcs12->host_tr_base),
            HOST_BASE);
    return VMX_CHECK_OK;
}

/* --- 27.2.4 address-space size --- */

static enum vmx_check check_address_space(const struct vmx_check_input *input)
{
    const struct vmcs12 *vmcs12 = input->vmcs12;
    bool host_64 = exit_on(input, EXIT_HOST_64);
    bool guest_64 = entry_on(input, ENTRY_IA32E_GUEST);

    REQUIRE(input->l1_long_mode || (!host_64 && !guest_64), L1_NOT_IN_IA32E);
    REQUIRE(!input->l1_long_mode || host_64, L1_IN_IA32E);
    if (!host_64) {
        REQUIRE(!guest_64, HOST_32_GUEST_64);
        REQUIRE((vmcs12->host_cr4 & CR4_PCIDE) == 0, HOST_32_PCIDE);
        REQUIRE(vmcs12->host_rip >> 32 == 0, HOST_32_RIP);
        if (exit_on(input, EXIT_LOAD_CET))
            REQUIRE((vmcs12->host_s_cet | vmcs12->host_ssp) >> 32 == 0, HOST_32_CET);
        return VMX_CHECK_OK;
    }
    REQUIRE((vmcs12->host_cr4 & CR4_PAE) != 0, HOST_64_PAE);
    REQUIRE(is_canonical(input, vmcs12->host_rip), HOST_64_RIP);
    return VMX_CHECK_OK;
}

enum vmx_check vmx_check_host(const struct vmx_check_input *input)
{
    REQUIRE_OK(check_control_registers(input));
    REQUIRE_OK(check_msrs(input));
    REQUIRE_OK(check_selectors(input));
    REQUIRE_OK(check_bases(input));
    return check_address_space(input);
}
