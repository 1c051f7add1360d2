/* SPDX-License-Identifier: MIT */
/* The sound vmcs12s of tests/unit/vmx-check-case.h. */
#include "tests/unit/vmx-check-case.h"

#include <string.h>

#include "arch/x86.h"
#include "vmx/capability.h"

u8 case_memory[CASE_MEMORY_BYTES];

#define CR0_64    (CR0_PE | CR0_NE | CR0_WP | CR0_PG | CR0_ET)
#define CR4_64    (CR4_PAE | CR4_VMXE)
#define PAT_VALUE 0x0007040600070406ull

static enum memory_status read(const struct paging_memory *memory, gpa_t address, void *dst, size_t bytes)
{
    (void)memory;
    if (address.raw >= CASE_MEMORY_BYTES || bytes > CASE_MEMORY_BYTES - address.raw)
        return MEMORY_NOT_OWNED;
    memcpy(dst, case_memory + address.raw, bytes);
    return MEMORY_OK;
}

static enum memory_status load(const struct paging_memory *memory, gpa_t address, unsigned bytes, u64 *value)
{
    *value = 0;
    return read(memory, address, value, bytes);
}

static void make_memory(struct paging_memory *memory)
{
    const u32 shadow = VMCS12_REVISION | (u32)VMCS_SHADOW_INDICATOR;

    memset(case_memory, 0, sizeof(case_memory));
    memcpy(case_memory + CASE_LINK, &shadow, sizeof(shadow));
    case_memory[CASE_VIRTUAL_APIC + 0x80] = 0x50;
    *memory = (struct paging_memory){.read = read, .load = load};
}

/* Every control that has a name may be 1, and what is reserved may not. */
static const u32 default1[CONTROL_WORDS] = {[CONTROL_PIN] = 0x16,
                                            [CONTROL_PRIMARY] = 0x04006172,
                                            [CONTROL_EXIT] = 0x00036dfb,
                                            [CONTROL_ENTRY] = 0x000011fb};
static const u32 named[CONTROL_WORDS] = {[CONTROL_PIN] = 0xe9,
                                         [CONTROL_PRIMARY] = 0xfbf99e8c,
                                         [CONTROL_SECONDARY] = 0x027fffff,
                                         [CONTROL_EXIT] = 0x70fc9204,
                                         [CONTROL_ENTRY] = 0x0051e204};

static void set_allowed(struct nested_vmx_capability *capability, u32 msr, enum control_word word)
{
    capability->msr[msr - MSR_IA32_VMX_BASIC] = (u64)(default1[word] | named[word]) << 32 | default1[word];
}

static void make_capability(struct nested_vmx_capability *capability)
{
    u64 *msr = capability->msr;

    memset(capability, 0, sizeof(*capability));
    msr[MSR_IA32_VMX_BASIC - MSR_IA32_VMX_BASIC] = VMCS12_REVISION | VMX_BASIC_TRUE_CONTROLS;
    set_allowed(capability, MSR_IA32_VMX_TRUE_PINBASED_CTLS, CONTROL_PIN);
    set_allowed(capability, MSR_IA32_VMX_TRUE_PROCBASED_CTLS, CONTROL_PRIMARY);
    set_allowed(capability, MSR_IA32_VMX_PROCBASED_CTLS2, CONTROL_SECONDARY);
    set_allowed(capability, MSR_IA32_VMX_TRUE_EXIT_CTLS, CONTROL_EXIT);
    set_allowed(capability, MSR_IA32_VMX_TRUE_ENTRY_CTLS, CONTROL_ENTRY);
    msr[MSR_IA32_VMX_MISC - MSR_IA32_VMX_BASIC] = VMX_MISC_ACTIVITY_HLT | VMX_MISC_ACTIVITY_SHUTDOWN |
                                                  VMX_MISC_ACTIVITY_SIPI | VMX_MISC_INJECT_LENGTH_0;
    msr[MSR_IA32_VMX_CR0_FIXED0 - MSR_IA32_VMX_BASIC] = CR0_PE | CR0_NE | CR0_PG;
    msr[MSR_IA32_VMX_CR0_FIXED1 - MSR_IA32_VMX_BASIC] = BITS(31, 0);
    msr[MSR_IA32_VMX_CR4_FIXED0 - MSR_IA32_VMX_BASIC] = CR4_VMXE;
    msr[MSR_IA32_VMX_CR4_FIXED1 - MSR_IA32_VMX_BASIC] = CR4_GUEST_OWNED | CR4_VMXE;
    msr[MSR_IA32_VMX_EPT_VPID_CAP - MSR_IA32_VMX_BASIC] = EPT_WALK_4 | EPT_WRITE_BACK | EPT_ACCESSED_DIRTY;
    msr[MSR_IA32_VMX_VMFUNC - MSR_IA32_VMX_BASIC] = VMFUNC_EPTP_SWITCHING;
    capability->maxphyaddr = CASE_MAXPHYADDR;
    capability->debugctl_valid = BITS(1, 0) | BITS(15, 6);
    capability->efer_valid = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    capability->perf_global_valid = BITS(3, 0) | BITS(34, 32);
    capability->s_cet_valid = BITS(5, 0) | BITS(63, 10);
    capability->cr3_valid = BITS(CASE_MAXPHYADDR - 1, 0);
    capability->rtm = true;
}

static void make_host(struct vmcs12 *vmcs12)
{
    vmcs12->exit_controls = default1[CONTROL_EXIT] | named[CONTROL_EXIT];
    vmcs12->host_cr0 = CR0_64;
    vmcs12->host_cr3 = 0x5000;
    vmcs12->host_cr4 = CR4_64;
    vmcs12->host_efer = EFER_LME | EFER_LMA | EFER_NXE;
    vmcs12->host_pat = PAT_VALUE;
    vmcs12->host_selector[VMCS_CS] = 0x10;
    vmcs12->host_selector[VMCS_SS] = 0x18;
    vmcs12->host_selector[VMCS_TR] = 0x40;
    vmcs12->host_gs_base = 0xffff888000000000;
    vmcs12->host_rip = 0xffffffff81000000;
}

static void set_segment(struct vmcs12 *vmcs12, enum vmcs_segment segment, u16 selector, u64 base, u32 limit,
                        u32 rights)
{
    vmcs12->guest_selector[segment] = selector;
    vmcs12->guest_base[segment] = base;
    vmcs12->guest_limit[segment] = limit;
    vmcs12->guest_rights[segment] = rights;
}

static void make_segments(struct vmcs12 *vmcs12, u32 code, u32 data)
{
    set_segment(vmcs12, VMCS_CS, 0x10, 0, 0xffffffff, code);
    set_segment(vmcs12, VMCS_SS, 0x18, 0, 0xffffffff, data);
    set_segment(vmcs12, VMCS_DS, 0x18, 0, 0xffffffff, data);
    set_segment(vmcs12, VMCS_ES, 0x18, 0, 0xffffffff, data);
    set_segment(vmcs12, VMCS_FS, 0x18, 0, 0xffffffff, data);
    set_segment(vmcs12, VMCS_GS, 0x18, 0, 0xffffffff, data);
    set_segment(vmcs12, VMCS_LDTR, 0x20, 0x6000, 0x1000, 0x82);
    set_segment(vmcs12, VMCS_TR, 0x28, 0x7000, 0x67, 0x8b);
}

static void make_guest_64(struct vmcs12 *vmcs12)
{
    vmcs12->entry_controls = default1[CONTROL_ENTRY] | named[CONTROL_ENTRY];
    vmcs12->guest_cr0 = CR0_64;
    vmcs12->guest_cr3 = 0x6000;
    vmcs12->guest_cr4 = CR4_64;
    vmcs12->guest_efer = EFER_LME | EFER_LMA;
    vmcs12->guest_pat = PAT_VALUE;
    vmcs12->guest_dr7 = 0x400;
    make_segments(vmcs12, 0xa09b, 0xc093);
    vmcs12->guest_rip = 0xffffffff82000000;
    vmcs12->guest_rflags = RFLAGS_RESERVED1 | RFLAGS_IF;
    vmcs12->link_pointer = CASE_LINK;
}

/* x2APIC mode excludes APIC accesses; both have rows of their own. */
static void make_controls(struct vmcs12 *vmcs12)
{
    vmcs12->pin_controls = default1[CONTROL_PIN] | named[CONTROL_PIN];
    vmcs12->primary_controls =
        (default1[CONTROL_PRIMARY] | named[CONTROL_PRIMARY]) & ~(u32)PRIMARY_TERTIARY_CONTROLS;
    vmcs12->secondary_controls = named[CONTROL_SECONDARY] & ~(u32)SECONDARY_X2APIC_MODE;
    vmcs12->virtual_apic = CASE_VIRTUAL_APIC;
    vmcs12->vpid = 1;
    vmcs12->ept_pointer = 0x8000 | 6 | 3 << 3;
    vmcs12->vm_function_controls = VMFUNC_EPTP_SWITCHING;
    vmcs12->tsc_multiplier = 1ull << 48;
}

static void make_guest_32(struct vmcs12 *vmcs12)
{
    vmcs12->entry_controls &= ~(u32)ENTRY_IA32E_GUEST;
    vmcs12->guest_efer = 0;
    vmcs12->guest_cr4 = CR4_VMXE;
    make_segments(vmcs12, 0xc09b, 0xc093);
    vmcs12->guest_rip = 0x100000;
    vmcs12->primary_controls &= ~(u32)(PRIMARY_SECONDARY_CONTROLS);
    vmcs12->pin_controls &= ~(u32)PIN_POSTED_INTERRUPTS;
    vmcs12->link_pointer = ~0ull;
    vmcs12->tpr_threshold = 5;
}

static void make_guest_pae(struct vmcs12 *vmcs12)
{
    make_guest_32(vmcs12);
    vmcs12->primary_controls |= (u32)PRIMARY_SECONDARY_CONTROLS;
    vmcs12->secondary_controls = SECONDARY_EPT;
    vmcs12->guest_cr3 = CASE_PDPTES;
    vmcs12->guest_cr4 |= CR4_PAE;
    vmcs12->guest_pdpte[0] = 0x9001;
}

static void make_guest_real(struct vmcs12 *vmcs12)
{
    make_guest_32(vmcs12);
    vmcs12->primary_controls |= (u32)PRIMARY_SECONDARY_CONTROLS;
    vmcs12->secondary_controls = SECONDARY_EPT | SECONDARY_UNRESTRICTED_GUEST;
    vmcs12->guest_cr0 = CR0_NE | CR0_ET;
    set_segment(vmcs12, VMCS_CS, 0xf000, 0xffff0000, 0xffff, 0x93);
    for (unsigned i = 0; i <= VMCS_GS; i++) {
        if (i != VMCS_CS)
            set_segment(vmcs12, (enum vmcs_segment)i, 0, 0, 0xffff, 0x93);
    }
}

static void make_guest_virtual_8086(struct vmcs12 *vmcs12)
{
    make_guest_32(vmcs12);
    vmcs12->guest_rflags |= RFLAGS_VM;
    for (unsigned i = 0; i <= VMCS_GS; i++)
        set_segment(vmcs12, (enum vmcs_segment)i, (u16)(0x1003 + i), (0x1003ull + i) << 4, 0xffff, 0xf3);
}

static void make_host_32(struct vmcs12 *vmcs12)
{
    vmcs12->exit_controls &= ~(u32)EXIT_HOST_64;
    vmcs12->host_efer = 0;
    vmcs12->host_rip = 0x100000;
}

void check_case_init(struct check_case *check_case, enum base base)
{
    struct vmcs12 *vmcs12 = &check_case->vmcs12;

    memset(vmcs12, 0, sizeof(*vmcs12));
    make_memory(&check_case->memory);
    make_capability(&check_case->capability);
    make_host(vmcs12);
    make_controls(vmcs12);
    make_guest_64(vmcs12);
    check_case->input = (struct vmx_check_input){.vmcs12 = vmcs12,
                                                 .capability = &check_case->capability,
                                                 .memory = &check_case->memory,
                                                 .current = CASE_CURRENT,
                                                 .l1_long_mode = base != BASE_32_HOST};
    if (base == BASE_32 || base == BASE_32_HOST)
        make_guest_32(vmcs12);
    if (base == BASE_32_HOST)
        make_host_32(vmcs12);
    if (base == BASE_PAE || base == BASE_PAE_NO_EPT)
        make_guest_pae(vmcs12);
    if (base == BASE_PAE_NO_EPT)
        vmcs12->secondary_controls = 0;
    if (base == BASE_REAL)
        make_guest_real(vmcs12);
    if (base == BASE_VIRTUAL_8086)
        make_guest_virtual_8086(vmcs12);
}

enum vmx_check check_case_run(const struct check_case *check_case)
{
    enum vmx_check check = vmx_check_controls(&check_case->input);

    if (check == VMX_CHECK_OK)
        check = vmx_check_event(&check_case->input);
    if (check == VMX_CHECK_OK)
        check = vmx_check_host(&check_case->input);
    return check == VMX_CHECK_OK ? vmx_check_guest(&check_case->input) : check;
}
