/* SPDX-License-Identifier: MIT */
/*
 * The MSR lists of VM entries and exits, done for L1 entry by entry as the CPU would (SDM vol. 3C 27.4, 28.4,
 * 28.6): what the VMCS switches goes through its guest-state area, with the checks that WRMSR makes, all else
 * through Umbra's policy. No value that a VM entry would refuse gets into a VMCS here.
 */
#include "arch/msr.h"
#include "mm/guest-mem.h"
#include "mm/linear.h"
#include "nested/vmx-capability.h"
#include "nested/vmx-vmcs02.h"

/* SDM vol. 3C table 25-15 */
struct msr_list_entry {
    u32 index, reserved;
    u64 value;
};

/* IA32_VMX_MISC bits 27:25 are 0 for L1: lists are recommended to have at most so many entries. */
enum { MSR_LIST_MAX = 512 };

#define X2APIC_PAGE(msr) ((msr) >> 8 == MSR_X2APIC_FIRST >> 8)

static bool canonical(u64 value)
{
    return linear_canonical(value, nested_vmx_capability.la57);
}

/* --- MSRs that the VMCS switches --- */

static bool valid_efer(u64 value)
{
    u64 changed = value ^ vmread(VMCS_GUEST_EFER);
    bool paging = (vmread(VMCS_GUEST_CR0) & CR0_PG) != 0;

    return (value & ~nested_vmx_capability.efer_valid) == 0 && (!paging || (changed & EFER_LME) == 0);
}

#define PAT_UC_MINUS 7u
/* SDM vol. 3A 12.12.2 */
static bool valid_pat(u64 value)
{
    for (unsigned i = 0; i < 8; i++) {
        u64 type = value >> 8 * i & 0xff;
        if (type > PAT_UC_MINUS || type == 2 || type == 3)
            return false;
    }
    return true;
}

static bool valid_debugctl(u64 value)
{
    return (value & ~nested_vmx_capability.debugctl_valid) == 0;
}

static bool valid_perf_global(u64 value)
{
    return (value & ~nested_vmx_capability.perf_global_valid) == 0;
}

#define BNDCFGS_RESERVED BITS(11, 2)
static bool valid_bndcfgs(u64 value)
{
    return canonical(value) && (value & BNDCFGS_RESERVED) == 0;
}

#define S_CET_SUPPRESS   BIT(10)
#define S_CET_WAIT_ENDBR BIT(11)
static bool valid_s_cet(u64 value)
{
    const u64 both = S_CET_SUPPRESS | S_CET_WAIT_ENDBR;

    return canonical(value) && (value & both) != both && (value & ~nested_vmx_capability.s_cet_valid) == 0;
}

static bool valid_32_bit(u64 value)
{
    return (value & BITS(63, 32)) == 0;
}

static bool any_value(u64 value)
{
    (void)value;
    return true;
}

static const struct vmcs_msr {
    u32 msr;
    enum vmcs_field field;
    enum control_feature feature;
    bool (*valid)(u64 value);
} vmcs_msrs[] = {
    {MSR_EFER, VMCS_GUEST_EFER, FEATURE_NONE, valid_efer},
    {MSR_IA32_PAT, VMCS_GUEST_PAT, FEATURE_NONE, valid_pat},
    {MSR_IA32_DEBUGCTL, VMCS_GUEST_DEBUGCTL, FEATURE_NONE, valid_debugctl},
    {MSR_IA32_SYSENTER_CS, VMCS_GUEST_SYSENTER_CS, FEATURE_NONE, any_value},
    {MSR_IA32_SYSENTER_ESP, VMCS_GUEST_SYSENTER_ESP, FEATURE_NONE, canonical},
    {MSR_IA32_SYSENTER_EIP, VMCS_GUEST_SYSENTER_EIP, FEATURE_NONE, canonical},
    {MSR_FS_BASE, VMCS_GUEST_FS_BASE, FEATURE_NONE, canonical},
    {MSR_GS_BASE, VMCS_GUEST_GS_BASE, FEATURE_NONE, canonical},
    {MSR_IA32_PERF_GLOBAL_CTRL, VMCS_GUEST_PERF_GLOBAL_CTRL, FEATURE_PERF_GLOBAL_CTRL, valid_perf_global},
    {MSR_IA32_BNDCFGS, VMCS_GUEST_BNDCFGS, FEATURE_BNDCFGS, valid_bndcfgs},
    {MSR_IA32_S_CET, VMCS_GUEST_S_CET, FEATURE_CET, valid_s_cet},
    {MSR_IA32_INTERRUPT_SSP_TABLE, VMCS_GUEST_INTERRUPT_SSP_TABLE, FEATURE_CET, canonical},
    {MSR_IA32_PKRS, VMCS_GUEST_PKRS, FEATURE_PKRS, valid_32_bit},
};

static const struct vmcs_msr *find_vmcs_msr(u32 msr)
{
    for (size_t i = 0; i < ARRAY_SIZE(vmcs_msrs); i++) {
        const struct vmcs_msr *row = &vmcs_msrs[i];
        if (row->msr == msr &&
            (row->feature == FEATURE_NONE || vmx_capability.controls.feature[row->feature]))
            return row;
    }
    return NULL;
}

static bool load_vmcs_msr(const struct vmcs_msr *row, u64 value)
{
    if (!row->valid(value))
        return false;
    /* WRMSR ignores LMA (SDM vol. 3A 2.2.1). */
    if (row->msr == MSR_EFER)
        value = (value & ~EFER_LMA) | (vmread(VMCS_GUEST_EFER) & EFER_LMA);
    vmwrite(row->field, value);
    return true;
}

/* --- all others --- */

typedef enum exit_action msr_exit(struct vcpu *vcpu);

/* The handler of an intercepted access, with the registers that it takes; the guest's own come back
 * afterwards. */
static bool access_msr(struct vcpu *vcpu, msr_exit *handle, u32 msr, u64 *value)
{
    u64 rax = vcpu->gpr[GPR_RAX], rcx = vcpu->gpr[GPR_RCX], rdx = vcpu->gpr[GPR_RDX];

    vcpu->gpr[GPR_RAX] = (u32)*value;
    vcpu->gpr[GPR_RDX] = *value >> 32;
    vcpu->gpr[GPR_RCX] = msr;
    enum exit_action action = handle(vcpu);
    *value = vcpu->gpr[GPR_RDX] << 32 | (u32)vcpu->gpr[GPR_RAX];
    vcpu->gpr[GPR_RAX] = rax;
    vcpu->gpr[GPR_RCX] = rcx;
    vcpu->gpr[GPR_RDX] = rdx;
    return action == EXIT_SKIP;
}

static bool load_entry(struct vcpu *vcpu, const struct msr_list_entry *entry)
{
    const struct vmcs_msr *row = find_vmcs_msr(entry->index);
    u64 value = entry->value;

    if (entry->reserved != 0 || X2APIC_PAGE(entry->index) || entry->index == MSR_FS_BASE ||
        entry->index == MSR_GS_BASE || entry->index == MSR_IA32_BIOS_UPDT_TRIG)
        return false;
    return row != NULL ? load_vmcs_msr(row, value) : access_msr(vcpu, wrmsr_exit, entry->index, &value);
}

static bool store_entry(struct vcpu *vcpu, struct msr_list_entry *entry)
{
    const struct vmcs_msr *row = find_vmcs_msr(entry->index);

    if (entry->reserved != 0 || X2APIC_PAGE(entry->index))
        return false;
    if (row != NULL) {
        entry->value = vmread(row->field);
        return true;
    }
    return access_msr(vcpu, rdmsr_exit, entry->index, &entry->value);
}

u32 msr_list_load(struct vcpu *vcpu, u64 list, u32 count)
{
    struct msr_list_entry entry;

    for (u32 i = 0; i < count; i++) {
        if (i == MSR_LIST_MAX ||
            guest_read(gpa(list + i * sizeof(entry)), &entry, sizeof(entry)) != GUEST_MEM_OK ||
            !load_entry(vcpu, &entry))
            return i + 1;
    }
    return MSR_LIST_DONE;
}

u32 msr_list_store(struct vcpu *vcpu, u64 list, u32 count)
{
    struct msr_list_entry entry;

    for (u32 i = 0; i < count; i++) {
        gpa_t at = gpa(list + i * sizeof(entry));
        if (i == MSR_LIST_MAX || guest_read(at, &entry, sizeof(entry)) != GUEST_MEM_OK ||
            !store_entry(vcpu, &entry))
            return i + 1;
        /* Only the value: the rest is L1's, which may change it. */
        at.raw += offsetof(struct msr_list_entry, value);
        if (nested_vmx_write(at, &entry.value, sizeof(entry.value)) != GUEST_MEM_OK)
            return i + 1;
    }
    return MSR_LIST_DONE;
}

/* --- L1's bitmap --- */

bool l1_intercepts_msr(const struct vcpu *vcpu, const struct vmcs12 *vmcs12, bool write)
{
    if ((vmcs12->primary_controls & PRIMARY_MSR_BITMAPS) == 0)
        return true;
    const u8 *bitmap = guest_view(gpa(vmcs12->msr_bitmaps), PAGE_SIZE);
    return bitmap == NULL || vmx_msr_intercepted(bitmap, (u32)vcpu->gpr[GPR_RCX], write);
}
