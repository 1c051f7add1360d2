/* SPDX-License-Identifier: MIT */
/* Operands of VMX instructions of L1 and L2; see nested/vmx-operand.h. The pure half is vmx-operand-decode.c.
 */
#include "nested/vmx-operand.h"

#include "arch/atomic.h"
#include "arch/cpu.h"
#include "arch/msr.h"
#include "arch/string.h"
#include "mm/guest-paging.h"
#include "mm/linear.h"
#include "nested/shadow.h"
#include "nested/vmx-vmcs02.h"

#define CPUID_EXTENDED_FEATURES 0x80000001u
#define CPUID_EDX_PAGE_1G       BIT(26)

/* Access rights of a segment, SDM vol. 3C table 25-2. */
#define RIGHTS_TYPE(rights) ((rights)&BITS(3, 0))

/* --- L1's memory --- */

/* The shadow MMU learns from hardware what L1 writes; what Umbra writes for L1 it has to be told. */
static enum memory_status write_for_l1(const struct paging_memory *memory, gpa_t address, const void *src,
                                       size_t bytes)
{
    nested_vmx_will_write(address, bytes);
    return guest_paging_memory.write(memory, address, src, bytes);
}

/* The flags of L1's EPT are not those of what it translates to, and mean nothing else to the shadow. */
static enum memory_status mark_for_l1(const struct paging_memory *memory, gpa_t address, unsigned bytes,
                                      u64 expected, u64 desired)
{
    if (((expected ^ desired) & (PTE_A | PTE_D)) != 0)
        nested_vmx_will_write(address, bytes);
    return guest_paging_memory.compare_exchange(memory, address, bytes, expected, desired);
}

static struct paging_memory l1_memory;

/* --- paging --- */

void vmx_operand_init(struct nested_vmx *nested)
{
    l1_memory = guest_paging_memory;
    l1_memory.write = write_for_l1;
    l1_memory.compare_exchange = mark_for_l1;
    nested->operand_cpu = (struct paging_cpu){
        .maxphyaddr = machine.tdp.config.maxphyaddr,
        .page_1g = (cpuid(CPUID_EXTENDED_FEATURES, 0).edx & CPUID_EDX_PAGE_1G) != 0,
    };
    paging_init(&nested->operand_paging, paging_role_guest(&nested->operand_cpu, 0, 0, 0));
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

static const struct paging *first_stage(struct nested_vmx *nested, u64 cr0, u64 cr4, u64 efer)
{
    struct paging *paging = &nested->operand_paging;
    u64 *last = nested->operand_registers;

    if (last[0] != cr0 || last[1] != cr4 || last[2] != efer) {
        paging_init(paging, paging_role_guest(&nested->operand_cpu, cr0, cr4, efer));
        last[0] = cr0;
        last[1] = cr4;
        last[2] = efer;
    }
    struct paging_role role = paging->role;
    if (role_has(role, ROLE_PKU) || role_has(role, ROLE_PKS)) {
        permission_set_keys(&paging->permission, role, role_has(role, ROLE_PKU) ? read_pkru() : 0,
                            role_has(role, ROLE_PKS) ? read_pkrs() : 0);
    }
    paging->pdptes = NULL;
    if (role_format(role) == PAGING_PAE) {
        for (unsigned i = 0; i < VMCS_PDPTES; i++)
            nested->operand_pdptes[i] = vmread((enum vmcs_field)(VMCS_GUEST_PDPTE0 + 2 * i));
        paging->pdptes = nested->operand_pdptes;
    }
    return paging;
}

/* --- the access --- */

struct operand_access {
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

static void prepare(struct vcpu *vcpu, const struct vmx_operand *operand, u32 bytes,
                    struct operand_access *access)
{
    struct exit_context state;

    vmx_exit_context(vcpu, &state); /* RSP among the registers */
    access->operand = (struct linear_operand){
        .segment = segment_of(operand->segment, state.code64),
        .offset = vmx_operand_offset(operand, vcpu->gpr, vmread(VMCS_EXIT_QUALIFICATION)),
        .bytes = bytes,
    };
    access->context = (struct linear_context){
        .paging = first_stage(nested_vmx_of(vcpu), state.cr0, state.cr4, state.efer),
        .root = vmread(VMCS_GUEST_CR3),
        .memory = &l1_memory,
        .cr0 = state.cr0,
        .cr4 = state.cr4,
        .efer = state.efer,
        .rflags = state.rflags,
        .cpl = (u8)state.cpl,
        .code_64 = state.code64,
    };
    if (vcpu->l2_running)
        access->context.host = l2_second_stage(vcpu, &access->context.host_root);
}

/* --- L2 --- */

/* The second stage is asked as by L2's own access: L1's flags are set, and its log is written. */
static bool second_stage_allows(struct vcpu *vcpu, u64 address, unsigned access, u32 supplied, u64 linear,
                                enum exit_action *action)
{
    const struct shadow_access wanted = {
        .address = l2_gpa(address),
        .access = access,
        .supplied = supplied,
        .rip = vmread(VMCS_GUEST_RIP),
    };

    return l2_second_level_allows(vcpu, &wanted, linear, action);
}

static u64 linear_of(const struct operand_access *access, unsigned kind)
{
    struct linear_result ignored;
    u64 linear = 0;

    (void)linear_address(&access->context, &access->operand, kind, &linear, &ignored);
    return linear;
}

/*
 * The walker sets L1's dirty flags, but knows of no log: with one, whatever the access will dirty is written
 * to first. A walk that fails leaves the fault to the access itself.
 */
static bool log_page(struct vcpu *vcpu, const struct linear_context *context, u64 linear, unsigned access,
                     enum exit_action *action)
{
    const struct walk_2d_tables tables = {context->paging, context->root, context->host, context->host_root};
    enum paging_format_id format = role_format(context->paging->role);
    u64 table = context->root & paging_formats[format].root_mask;
    const unsigned table_access = ACCESS_READ | ACCESS_WRITE;
    struct walk_2d walked;

    enum walk_status status = walk_2d(&tables, context->memory, linear, access, &walked);
    if (status != WALK_OK && (status != WALK_FAULT || walked.stage != WALK_STAGE_GUEST))
        return true;
    for (unsigned level = walked.guest.root_level; level > 0 && level >= walked.guest.level; level--) {
        u64 entry = paging_entry_address(format, table, linear, level);
        bool in_register = context->paging->pdptes != NULL && level == walked.guest.root_level;
        if (!in_register &&
            !second_stage_allows(vcpu, entry, table_access, FAULT_LINEAR_VALID, linear, action))
            return false;
        table = walked.guest.entry[level].value & ENTRY_ADDRESS;
    }
    return status != WALK_OK || second_stage_allows(vcpu, walked.guest_address, access,
                                                    FAULT_LINEAR_VALID | FAULT_FINAL, linear, action);
}

static bool log_operand(struct vcpu *vcpu, const struct operand_access *access, unsigned kind,
                        enum exit_action *action)
{
    if (!vcpu->l2_running || !l2_writes_log(vcpu))
        return true;
    u64 linear = linear_of(access, kind);
    u64 last = linear + access->operand.bytes - 1;
    return log_page(vcpu, &access->context, linear, kind, action) &&
           ((linear ^ last) < PAGE_SIZE ||
            log_page(vcpu, &access->context, align_down(last, PAGE_SIZE), kind, action));
}

/* The walk of the page that faulted: if it is not the operand's first one, it starts with the page. */
static enum exit_action host_fault(struct vcpu *vcpu, const struct operand_access *access, unsigned kind,
                                   const struct fault *fault)
{
    u64 linear = linear_of(access, kind);
    bool second = (fault->supplied & FAULT_FINAL) != 0 && ((fault->address ^ linear) & PAGE_MASK) != 0;
    enum exit_action action = EXIT_RESUME;

    if (second)
        linear = align_down(linear + access->operand.bytes - 1, PAGE_SIZE);
    (void)second_stage_allows(vcpu, fault->address, fault->access, fault->supplied, linear, &action);
    return action;
}

static void raise(struct vcpu *vcpu, const struct linear_result *result, enum exit_action *action)
{
    enum exception_vector vector = (enum exception_vector)result->vector;

    if (vcpu->l2_running && vector == EXC_PF) {
        *action = l2_page_fault(vcpu, result->error_code, result->cr2);
        return;
    }
    if (vcpu->l2_running) {
        *action = l2_exception(vcpu, vector, true, result->error_code);
        return;
    }
    if (vector == EXC_PF)
        write_cr2(result->cr2);
    vmx_inject_exception(vector, true, result->error_code);
}

/* True if the operand was accessed. */
static bool finish(struct vcpu *vcpu, const struct operand_access *access, unsigned kind,
                   enum linear_status status, const struct linear_result *result, enum exit_action *action)
{
    *action = EXIT_RESUME;
    switch (status) {
    case LINEAR_OK:
    case LINEAR_NOT_MEMORY:
        return true;
    case LINEAR_EXCEPTION:
        raise(vcpu, result, action);
        return false;
    case LINEAR_HOST_FAULT:
        *action = host_fault(vcpu, access, kind, &result->fault);
        return false;
    default: /* contended: once more */
        return false;
    }
}

static bool read_operand(struct vcpu *vcpu, const struct vmx_operand *operand, void *dst, u32 bytes,
                         struct operand_access *access, enum exit_action *action)
{
    struct linear_result result;

    prepare(vcpu, operand, bytes, access);
    if (!log_operand(vcpu, access, ACCESS_READ, action))
        return false;
    enum linear_status status = linear_read(&access->context, &access->operand, ACCESS_READ, dst, &result);
    if (status == LINEAR_NOT_MEMORY)
        memset(dst, 0xff, bytes);
    return finish(vcpu, access, ACCESS_READ, status, &result, action);
}

bool vmx_operand_read(struct vcpu *vcpu, const struct vmx_operand *operand, void *dst, u32 bytes,
                      enum exit_action *action)
{
    struct operand_access access;

    return read_operand(vcpu, operand, dst, bytes, &access, action);
}

bool vmx_operand_write(struct vcpu *vcpu, const struct vmx_operand *operand, const void *src, u32 bytes,
                       enum exit_action *action)
{
    struct operand_access access;
    struct linear_result result;

    prepare(vcpu, operand, bytes, &access);
    if (!log_operand(vcpu, &access, ACCESS_WRITE, action))
        return false;
    enum linear_status status = linear_write(&access.context, &access.operand, ACCESS_WRITE, src, &result);
    return finish(vcpu, &access, ACCESS_WRITE, status, &result, action);
}

/* --- operands of L1, the straight way --- */

#define CODE_64_OPERAND      (2u << 7) /* 64-bit addresses, and a segment without a base */
#define CODE_64_OPERAND_MASK (7u << 7 | 1u << 17)

static struct vmx_operand_path *path_of(struct nested_vmx *nested, u64 linear)
{
    return &nested->operand_path[(linear >> PAGE_SHIFT) % VMX_OPERAND_PATHS];
}

/* Where in the window; NULL: not there. */
static const u8 *in_window(u64 address)
{
    u64 offset = address - l1_memory.window_start;

    return offset < l1_memory.window_bytes ? l1_memory.window + offset : NULL;
}

/* The way to the operand that was just read; what is read here decides, not what was read for it. */
static void remember_path(struct nested_vmx *nested, const struct operand_access *access)
{
    const struct linear_context *context = &access->context;
    struct paging_role role = context->paging->role;
    u64 linear = linear_of(access, ACCESS_READ);
    struct vmx_operand_path *path = path_of(nested, linear);
    struct walk walked;

    path->page = 0;
    if (!context->code_64 || role_format(role) != PAGING_4LEVEL || role_has(role, ROLE_PKS) ||
        walk(context->paging, &l1_memory, context->root, linear, ACCESS_READ, &walked) != WALK_OK ||
        (walked.rights & RIGHT_U) != 0)
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(path->entry); i++) {
        unsigned level = walked.level > i + 1 ? walked.level : i + 1;
        path->entry[i] = (const void *)in_window(walked.entry[level].address);
        path->value[i] = walked.entry[level].value;
        if (path->entry[i] == NULL || (path->value[i] & PTE_A) == 0)
            return;
    }
    path->memory = in_window(align_down(walked.address, PAGE_SIZE));
    path->cr0 = vmread(VMCS_GUEST_CR0);
    path->cr3 = context->root;
    path->cr4 = vmread(VMCS_GUEST_CR4);
    path->efer = context->efer;
    if (path->memory != NULL)
        path->page = align_down(linear, PAGE_SIZE);
}

const u64 *vmx_operand_find_of_l1(struct vcpu *vcpu, u32 information, u32 bytes)
{
    u64 linear = vmread_unchecked(VMCS_EXIT_QUALIFICATION);

    if ((information & CODE_64_OPERAND_MASK) != CODE_64_OPERAND)
        return NULL;
    vcpu->gpr[GPR_RSP] = vmread_unchecked(VMCS_GUEST_RSP);
    if ((information & VMX_OPERAND_NO_BASE) == 0)
        linear += vcpu->gpr[VMX_OPERAND_BASE(information)];
    if ((information & VMX_OPERAND_NO_INDEX) == 0)
        linear += vcpu->gpr[VMX_OPERAND_INDEX(information)] << VMX_OPERAND_SCALE(information);

    const struct vmx_operand_path *path = path_of(nested_vmx_of(vcpu), linear);
    u64 offset = linear ^ path->page;
    if (path->page == 0 || offset > PAGE_SIZE - bytes || offset % sizeof(u64) != 0)
        return NULL;
    u64 other =
        (vmread_unchecked(VMCS_GUEST_CR0) ^ path->cr0) | (vmread_unchecked(VMCS_GUEST_CR3) ^ path->cr3) |
        (vmread_unchecked(VMCS_GUEST_CR4) ^ path->cr4) | (vmread_unchecked(VMCS_GUEST_EFER) ^ path->efer);
#pragma GCC unroll 4
    for (unsigned i = 0; i < ARRAY_SIZE(path->entry); i++)
        other |= atomic_peek(path->entry[i]) ^ path->value[i];
    return other == 0 ? (const u64 *)(const void *)(path->memory + offset) : NULL;
}

static __attribute__((noinline)) bool read_and_remember(struct vcpu *vcpu, void *dst, u32 bytes,
                                                        enum exit_action *action)
{
    struct vmx_operand operand = vmx_operand_decode((u32)vmread(VMCS_EXIT_INSTRUCTION_INFORMATION));
    struct operand_access access;

    if (!read_operand(vcpu, &operand, dst, bytes, &access, action))
        return false;
    remember_path(nested_vmx_of(vcpu), &access);
    return true;
}

bool vmx_operand_read_of_l1(struct vcpu *vcpu, void *dst, u32 bytes, enum exit_action *action)
{
    const u64 *from =
        vmx_operand_find_of_l1(vcpu, (u32)vmread_unchecked(VMCS_EXIT_INSTRUCTION_INFORMATION), bytes);
    u64 *to = dst;

    if (__builtin_expect(from == NULL, false))
        return read_and_remember(vcpu, dst, bytes, action);
    to[0] = atomic_peek(&from[0]);
    if (bytes > sizeof(u64))
        to[1] = atomic_peek(&from[1]);
    return true;
}
