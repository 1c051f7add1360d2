/* SPDX-License-Identifier: MIT */
/* The operands of L1's VMX instructions; see nested/vmx-operand.h. The pure half is in vmx-operand-decode.c.
 */
#include "nested/vmx-operand.h"

#include "arch/cpu.h"
#include "arch/msr.h"
#include "arch/string.h"
#include "mm/guest-paging.h"
#include "mm/linear.h"
#include "nested/shadow.h"
#include "nested/vmx-nested.h"
#include "vmx/vmx.h"

#define CPUID_EXTENDED_FEATURES 0x80000001u
#define CPUID_EDX_PAGE_1G       BIT(26)

/* Access rights of a segment, SDM vol. 3C table 25-2. */
#define RIGHTS_TYPE(rights) ((rights)&BITS(3, 0))

/* --- L1's memory --- */

/* The shadow MMU learns from hardware what L1 writes; what Umbra writes for L1 it has to be told. */
static enum memory_status write_for_l1(const struct paging_memory *memory, gpa_t address, const void *src,
                                       size_t bytes)
{
    enum memory_status status = guest_paging_memory.write(memory, address, src, bytes);

    if (status == MEMORY_OK)
        shadow_wrote(nested_vmx_shadow(), address, bytes);
    return status;
}

static struct paging_memory l1_memory;

/* --- L1's paging --- */

void vmx_operand_init(struct nested_vmx *nested)
{
    l1_memory = guest_paging_memory;
    l1_memory.write = write_for_l1;
    nested->l1_cpu = (struct paging_cpu){
        .maxphyaddr = machine.tdp.config.maxphyaddr,
        .page_1g = (cpuid(CPUID_EXTENDED_FEATURES, 0).edx & CPUID_EDX_PAGE_1G) != 0,
    };
    paging_init(&nested->l1_paging, paging_role_guest(&nested->l1_cpu, 0, 0, 0));
}

/* PKRU is L1's while Umbra runs, and can be read only with CR4.PKE. Umbra has no user pages that it could
 * concern. */
static u32 read_pkru(void)
{
    u64 cr4 = read_cr4();
    u32 pkru;

    write_cr4(cr4 | CR4_PKE);
    __asm__ volatile("rdpkru" : "=a"(pkru) : "c"(0) : "rdx");
    write_cr4(cr4);
    return pkru;
}

static u32 read_pkrs(void)
{
    u64 value = 0;

    if (vmx_capability.controls.feature[FEATURE_PKRS])
        return (u32)vmread(VMCS_GUEST_PKRS);
    (void)rdmsr_safe(MSR_IA32_PKRS, &value);
    return (u32)value;
}

static const struct paging *l1_paging(struct nested_vmx *nested, u64 cr0, u64 cr4, u64 efer)
{
    struct paging *paging = &nested->l1_paging;
    struct paging_role role = paging_role_guest(&nested->l1_cpu, cr0, cr4, efer);

    if (!role_equal(role, paging->role))
        paging_init(paging, role);
    if (role_has(role, ROLE_PKU) || role_has(role, ROLE_PKS)) {
        permission_set_keys(&paging->permission, role, role_has(role, ROLE_PKU) ? read_pkru() : 0,
                            role_has(role, ROLE_PKS) ? read_pkrs() : 0);
    }
    paging->pdptes = NULL;
    if (role_format(role) == PAGING_PAE) {
        for (unsigned i = 0; i < VMCS_PDPTES; i++)
            nested->l1_pdptes[i] = vmread((enum vmcs_field)(VMCS_GUEST_PDPTE0 + 2 * i));
        paging->pdptes = nested->l1_pdptes;
    }
    return paging;
}

/* --- the access --- */

struct l1_access {
    struct linear_context context;
    struct linear_operand operand;
};

static struct linear_segment segment_of(enum vmcs_segment segment, bool code_64)
{
    u64 rights = vmread(vmcs_segment_field(VMCS_GUEST_ES_RIGHTS, segment));
    bool has_base = !code_64 || segment == VMCS_FS || segment == VMCS_GS;

    return (struct linear_segment){
        .base = has_base ? vmread(vmcs_segment_field(VMCS_GUEST_ES_BASE, segment)) : 0,
        .limit = (u32)vmread(vmcs_segment_field(VMCS_GUEST_ES_LIMIT, segment)),
        .type = (u8)RIGHTS_TYPE(rights),
        .usable = (rights & RIGHTS_UNUSABLE) == 0,
        .big = (rights & RIGHTS_BIG) != 0,
        .stack = segment == VMCS_SS,
    };
}

static void prepare(struct vcpu *vcpu, const struct vmx_operand *operand, u32 bytes, struct l1_access *access)
{
    struct exit_context state;

    vmx_exit_context(vcpu, &state); /* RSP among the registers */
    access->operand = (struct linear_operand){
        .segment = segment_of(operand->segment, state.code64),
        .offset = vmx_operand_offset(operand, vcpu->gpr, vmread(VMCS_EXIT_QUALIFICATION)),
        .bytes = bytes,
    };
    access->context = (struct linear_context){
        .paging = l1_paging(nested_vmx_of(vcpu), state.cr0, state.cr4, state.efer),
        .root = vmread(VMCS_GUEST_CR3),
        .memory = &l1_memory,
        .cr0 = state.cr0,
        .cr4 = state.cr4,
        .efer = state.efer,
        .rflags = state.rflags,
        .cpl = (u8)state.cpl,
        .code_64 = state.code64,
    };
}

/* True if the operand was accessed. */
static bool finish(enum linear_status status, const struct linear_result *result, enum exit_action *action)
{
    *action = EXIT_RESUME;
    switch (status) {
    case LINEAR_OK:
    case LINEAR_NOT_MEMORY:
        return true;
    case LINEAR_EXCEPTION:
        if (result->vector == EXC_PF)
            write_cr2(result->cr2);
        vmx_inject_exception((enum exception_vector)result->vector, true, result->error_code);
        return false;
    default: /* contended: once more; there is no second stage */
        return false;
    }
}

bool vmx_operand_read(struct vcpu *vcpu, const struct vmx_operand *operand, void *dst, u32 bytes,
                      enum exit_action *action)
{
    struct l1_access access;
    struct linear_result result;

    prepare(vcpu, operand, bytes, &access);
    enum linear_status status = linear_read(&access.context, &access.operand, ACCESS_READ, dst, &result);
    if (status == LINEAR_NOT_MEMORY)
        memset(dst, 0xff, bytes);
    return finish(status, &result, action);
}

bool vmx_operand_write(struct vcpu *vcpu, const struct vmx_operand *operand, const void *src, u32 bytes,
                       enum exit_action *action)
{
    struct l1_access access;
    struct linear_result result;

    prepare(vcpu, operand, bytes, &access);
    return finish(linear_write(&access.context, &access.operand, ACCESS_WRITE, src, &result), &result,
                  action);
}
