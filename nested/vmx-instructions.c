/* SPDX-License-Identifier: MIT */
/*
 * The VMX instructions that L1 executes, each with the manual's checks in the manual's order. What they work
 * on is in Umbra's memory (struct nested_vmx); L1's VMCS regions are read at VMPTRLD and written back at
 * VMCLEAR. Source: SDM vol. 3D ch. 31, vol. 3C 24.7, 25.11.
 */
#include "arch/atomic.h"
#include "arch/print.h"
#include "mm/guest-mem.h"
#include "mm/guest-paging.h"
#include "mm/linear.h"
#include "nested/shadow.h"
#include "nested/vmx-check.h"
#include "nested/vmx-fields.h"
#include "nested/vmx-merge.h"
#include "nested/vmx-nested.h"
#include "nested/vmx-operand.h"
#include "nested/vmx-shadowing.h"
#include "nested/vmx-vmcs02.h"
#include "vmx/exit-reason.h"
#include "vmx/vmx.h"

/* RFLAGS that VMX instructions define, SDM vol. 3D 31.2. */
#define RFLAGS_CF     BIT(0)
#define RFLAGS_ZF     BIT(6)
#define RFLAGS_STATUS (RFLAGS_CF | BIT(2) | BIT(4) | RFLAGS_ZF | BIT(7) | BIT(11))

/* --- how an instruction ends --- */

static enum exit_action end(u64 flag)
{
    vmwrite_unchecked(VMCS_GUEST_RFLAGS, (vmread_unchecked(VMCS_GUEST_RFLAGS) & ~RFLAGS_STATUS) | flag);
    return EXIT_SKIP;
}

static enum exit_action succeed(void)
{
    return end(0);
}

enum exit_action nested_vmx_fail_invalid(void)
{
    return end(RFLAGS_CF);
}

enum exit_action nested_vmx_fail(struct vcpu *vcpu, enum vmx_instruction_error error)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);

    if (nested->current == NO_VMCS)
        return nested_vmx_fail_invalid();
    nested->vmcs12.instruction_error = error;
    return end(RFLAGS_ZF);
}

/* --- L1's registers --- */

/* VMX instructions are #UD in compatibility mode, so IA-32e mode is 64-bit mode here. */
static bool in_64_bit_mode(void)
{
    return (vmread_unchecked(VMCS_GUEST_EFER) & EFER_LMA) != 0;
}

static u64 read_register(const struct vcpu *vcpu, unsigned index)
{
    u64 value = index == GPR_RSP ? vmread(VMCS_GUEST_RSP) : vcpu->gpr[index];
    return in_64_bit_mode() ? value : value & BITS(31, 0);
}

static void write_register(struct vcpu *vcpu, unsigned index, u64 value)
{
    if (!in_64_bit_mode())
        value &= BITS(31, 0);
    if (index == GPR_RSP)
        vmwrite(VMCS_GUEST_RSP, value);
    else
        vcpu->gpr[index] = value;
}

static unsigned privilege_level(void)
{
    return (unsigned)RIGHTS_DPL(vmread_unchecked(VMCS_GUEST_SS_RIGHTS));
}

static struct vmx_operand operand_of_exit(void)
{
    return vmx_operand_decode((u32)vmread_unchecked(VMCS_EXIT_INSTRUCTION_INFORMATION));
}

/* --- regions in L1's memory --- */

static bool is_region_address(u64 address)
{
    return (address & PAGE_MASK) == 0 && address >> nested_vmx_capability.maxphyaddr == 0;
}

/* What is not L1's RAM has no revision of ours. */
static u32 revision_at(u64 region)
{
    u32 revision = ~0u;

    if (guest_view(gpa(region), PAGE_SIZE) != NULL)
        (void)guest_load_u32(gpa(region), &revision);
    return revision;
}

/* The region has what vmcs12 has, and there is no current VMCS. */
static void put_current_away(struct vcpu *vcpu)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);

    if (nested->current == NO_VMCS)
        return;
    nested_vmx_save_state(vcpu);
    vmx_shadowing_end(vcpu);
    (void)nested_vmx_write(gpa(nested->current), &nested->vmcs12, sizeof(nested->vmcs12));
    nested->current = NO_VMCS;
    nested->plain = false;
}

/* The region was found to be L1's RAM; the revision that was checked counts, whatever is there now. */
static void make_current(struct vcpu *vcpu, u64 region, u32 revision)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);

    put_current_away(vcpu);
    (void)guest_read(gpa(region), &nested->vmcs12, sizeof(nested->vmcs12));
    nested->vmcs12.revision = revision;
    nested->current = region;
    nested->plain = in_64_bit_mode();
    nested->dirty = VMCS12_ALL;
    nested_vmx_select_vmcs02(vcpu);
    vmx_shadowing_begin(vcpu);
}

/* --- VMXON, VMXOFF --- */

/* SDM vol. 3C 24.8. IA32_FEATURE_CONTROL, the other condition, is always as it must be. */
static bool control_registers_allow_vmx(void)
{
    u64 cr0 = vmx_guest_cr0();
    u64 cr4 = vmx_guest_cr4();
    u64 cr0_missing = nested_vmx_msr(&nested_vmx_capability, MSR_IA32_VMX_CR0_FIXED0) & ~cr0;
    u64 cr4_missing = nested_vmx_msr(&nested_vmx_capability, MSR_IA32_VMX_CR4_FIXED0) & ~cr4;

    return cr0_missing == 0 && cr4_missing == 0;
}

static enum exit_action vmxon_for_l1(struct vcpu *vcpu)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);
    enum exit_action action;
    u64 region;

    if (nested->vmx_operation)
        return nested_vmx_fail(vcpu, VMX_ERROR_VMXON_IN_ROOT);
    if (!control_registers_allow_vmx())
        return EXIT_GP;
    if (!vmx_operand_read_of_l1(vcpu, &region, sizeof(region), &action))
        return action;
    if (!is_region_address(region) || revision_at(region) != VMCS12_REVISION)
        return nested_vmx_fail_invalid();
    nested->vmx_operation = true;
    nested->vmxon_pointer = region;
    nested->current = NO_VMCS;
    (void)vmx_set_root_operation(vcpu, true);
    return succeed();
}

static enum exit_action vmxoff_for_l1(struct vcpu *vcpu)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);

    put_current_away(vcpu);
    nested_vmx_forget_vmcs02(vcpu, NO_VMCS);
    nested->vmx_operation = false;
    (void)succeed();
    return vmx_set_root_operation(vcpu, false) ? EXIT_RESUME : EXIT_SKIP;
}

/* --- VMCLEAR, VMPTRLD, VMPTRST --- */

static enum exit_action vmclear_for_l1(struct vcpu *vcpu)
{
    static const u32 clear = VMCS12_CLEAR;
    struct nested_vmx *nested = nested_vmx_of(vcpu);
    enum exit_action action;
    u64 region;

    if (!vmx_operand_read_of_l1(vcpu, &region, sizeof(region), &action))
        return action;
    if (!is_region_address(region))
        return nested_vmx_fail(vcpu, VMX_ERROR_VMCLEAR_ADDRESS);
    if (region == nested->vmxon_pointer)
        return nested_vmx_fail(vcpu, VMX_ERROR_VMCLEAR_VMXON_POINTER);
    if (region == nested->current)
        put_current_away(vcpu);
    (void)nested_vmx_write(gpa(region + offsetof(struct vmcs12, launch_state)), &clear, sizeof(clear));
    nested_vmx_forget_vmcs02(vcpu, region);
    return succeed();
}

/* A shadow VMCS may be current only where VMCS shadowing is offered. */
static bool revision_acceptable(u32 revision)
{
    bool shadowing = nested_vmx_offers(&nested_vmx_capability, CONTROL_SECONDARY, SECONDARY_VMCS_SHADOWING);

    return revision == VMCS12_REVISION ||
           (shadowing && revision == (VMCS12_REVISION | VMCS_SHADOW_INDICATOR));
}

static enum exit_action vmptrld_for_l1(struct vcpu *vcpu)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);
    enum exit_action action;
    u64 region;

    if (!vmx_operand_read_of_l1(vcpu, &region, sizeof(region), &action))
        return action;
    if (!is_region_address(region))
        return nested_vmx_fail(vcpu, VMX_ERROR_VMPTRLD_ADDRESS);
    if (region == nested->vmxon_pointer)
        return nested_vmx_fail(vcpu, VMX_ERROR_VMPTRLD_VMXON_POINTER);
    u32 revision = revision_at(region);
    if (!revision_acceptable(revision))
        return nested_vmx_fail(vcpu, VMX_ERROR_VMPTRLD_REVISION);
    if (region != nested->current)
        make_current(vcpu, region, revision);
    return succeed();
}

static enum exit_action vmptrst_for_l1(struct vcpu *vcpu)
{
    struct vmx_operand operand = operand_of_exit();
    enum exit_action action;
    u64 current = nested_vmx_of(vcpu)->current;

    if (!vmx_operand_write(vcpu, &operand, &current, sizeof(current), &action))
        return action;
    return succeed();
}

/* --- VMREAD, VMWRITE --- */

static u32 operand_bytes(void)
{
    return in_64_bit_mode() ? sizeof(u64) : sizeof(u32);
}

/* The end of a VMREAD, of L1 or of L2. */
static enum exit_action give_value(struct vcpu *vcpu, const struct vmx_operand *operand, u64 value)
{
    enum exit_action action;

    if (operand->in_register)
        write_register(vcpu, operand->reg, value);
    else if (!vmx_operand_write(vcpu, operand, &value, operand_bytes(), &action))
        return action;
    return succeed();
}

static enum exit_action vmread_for_l1(struct vcpu *vcpu)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);
    struct vmx_operand operand = operand_of_exit();

    if (nested->current == NO_VMCS)
        return nested_vmx_fail_invalid();
    u64 encoding = read_register(vcpu, operand.second);
    const struct vmcs12_field *field = vmcs12_find_field(encoding, &nested_vmx_capability);
    if (field == NULL)
        return nested_vmx_fail(vcpu, VMX_ERROR_UNSUPPORTED_FIELD);
    if ((field->group & VMCS12_LAZY) != 0)
        nested_vmx_save_state(vcpu);
    u64 value = vmcs12_read(&nested->vmcs12, field);
    return give_value(vcpu, &operand, value);
}

static bool may_write(const struct vmcs12_field *field)
{
    u64 misc = nested_vmx_msr(&nested_vmx_capability, MSR_IA32_VMX_MISC);
    return !field->read_only || (misc & VMX_MISC_VMWRITE_ANY) != 0;
}

/* Groups of which vmcs12 is not all there is. */
#define SPECIAL_GROUPS (VMCS12_INFORMATION | VMCS12_LAZY)

static void write_field(struct vcpu *vcpu, const struct vmcs12_field *field, u64 encoding, u64 value)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);

    if ((field->group & VMCS12_LAZY) != 0)
        nested_vmx_save_state(vcpu);
    nested->dirty |= field->group;
    vmcs12_write(&nested->vmcs12, field, value);
    if ((field->group & SPECIAL_GROUPS) == 0)
        return;
    encoding &= ~VMCS_FIELD_HIGH;
    field = vmcs12_find_field(encoding, &nested_vmx_capability);
    vmx_shadowing_update(vcpu, encoding, vmcs12_read(&nested->vmcs12, field));
}

static enum exit_action vmwrite_for_l1(struct vcpu *vcpu)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);
    struct vmx_operand operand = operand_of_exit();
    enum exit_action action;
    u64 value = 0;

    if (nested->current == NO_VMCS)
        return nested_vmx_fail_invalid();
    if (operand.in_register)
        value = read_register(vcpu, operand.reg);
    else if (!vmx_operand_read(vcpu, &operand, &value, operand_bytes(), &action))
        return action;
    u64 encoding = read_register(vcpu, operand.second);
    const struct vmcs12_field *field = vmcs12_find_field(encoding, &nested_vmx_capability);
    if (field == NULL)
        return nested_vmx_fail(vcpu, VMX_ERROR_UNSUPPORTED_FIELD);
    if (!may_write(field))
        return nested_vmx_fail(vcpu, VMX_ERROR_READ_ONLY_FIELD);
    write_field(vcpu, field, encoding, value);
    return succeed();
}

/*
 * The same where all is as it nearly always is: the field that L1 names, if both operands are registers and
 * not RSP, or NULL, and then nothing has happened.
 */
static inline const struct vmcs12_field *plain_field(const struct vcpu *vcpu, u32 information)
{
    u32 reg = VMX_OPERAND_REGISTER(information), second = VMX_OPERAND_SECOND(information);

    if (!nested_vmx_of(vcpu)->plain || privilege_level() > 0 ||
        (information & VMX_OPERAND_IN_REGISTER) == 0 || reg == GPR_RSP || second == GPR_RSP)
        return NULL;
    return vmcs12_find_field(vcpu->gpr[second], &nested_vmx_capability);
}

enum exit_action nested_vmx_vmread(struct vcpu *vcpu)
{
    u32 information = (u32)vmread_unchecked(VMCS_EXIT_INSTRUCTION_INFORMATION);
    const struct vmcs12_field *field = plain_field(vcpu, information);

    if (field == NULL)
        return nested_vmx_instruction(vcpu, REASON_VMREAD);
    if ((field->group & VMCS12_LAZY) != 0)
        nested_vmx_save_state(vcpu);
    vcpu->gpr[VMX_OPERAND_REGISTER(information)] = vmcs12_read(&nested_vmx_of(vcpu)->vmcs12, field);
    return end(0);
}

enum exit_action nested_vmx_vmwrite(struct vcpu *vcpu)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);
    u32 information = (u32)vmread_unchecked(VMCS_EXIT_INSTRUCTION_INFORMATION);
    const struct vmcs12_field *field = plain_field(vcpu, information);

    if (field == NULL || (field->group & SPECIAL_GROUPS) != 0)
        return nested_vmx_instruction(vcpu, REASON_VMWRITE);
    nested->dirty |= field->group;
    vmcs12_write(&nested->vmcs12, field, vcpu->gpr[VMX_OPERAND_REGISTER(information)]);
    return end(0);
}

/* --- VMREAD and VMWRITE of L2, SDM vol. 3C 25.10, 26.1.3 --- */

bool l1_intercepts_field(const struct vcpu *vcpu, const struct vmcs12 *vmcs12, bool write)
{
    u64 bitmap = write ? vmcs12->vmwrite_bitmap : vmcs12->vmread_bitmap;
    u8 byte = 0xff;

    if ((vmcs12_secondary(vmcs12) & SECONDARY_VMCS_SHADOWING) == 0)
        return true;
    u64 encoding = read_register(vcpu, operand_of_exit().second);
    if (encoding > BITS(14, 0))
        return true;
    (void)guest_read(gpa(bitmap + encoding / 8), &byte, sizeof(byte));
    return (byte >> encoding % 8 & 1) != 0;
}

/*
 * The shadow VMCS is not current, so L1's memory has it; the entry has found it there. VMREAD gives the
 * value, VMWRITE exchanges a part of it.
 */
static enum exit_action access_shadow_vmcs(struct vcpu *vcpu, const struct vmx_operand *operand, bool write,
                                           u64 encoding, u64 value)
{
    const struct vmcs12_field *field = vmcs12_find_field(encoding, &nested_vmx_capability);
    u64 content = 0;

    if (field == NULL)
        return nested_vmx_fail(vcpu, VMX_ERROR_UNSUPPORTED_FIELD);
    u64 at = nested_vmx_of(vcpu)->vmcs12.link_pointer + field->offset;
    (void)guest_read(gpa(at), &content, field->bytes);
    if (!write)
        return give_value(vcpu, operand, content);
    if (!may_write(field))
        return nested_vmx_fail(vcpu, VMX_ERROR_READ_ONLY_FIELD);
    (void)nested_vmx_write(gpa(at), &value, field->bytes);
    return succeed();
}

enum exit_action l2_field_access(struct vcpu *vcpu, bool write)
{
    struct vmx_operand operand = operand_of_exit();
    enum exit_action action;
    u64 value = 0;

    if (privilege_level() > 0)
        return EXIT_GP;
    if (nested_vmx_of(vcpu)->vmcs12.link_pointer == NO_VMCS)
        return nested_vmx_fail_invalid();
    if (write && operand.in_register)
        value = read_register(vcpu, operand.reg);
    else if (write && !vmx_operand_read(vcpu, &operand, &value, operand_bytes(), &action))
        return action;
    return access_shadow_vmcs(vcpu, &operand, write, read_register(vcpu, operand.second), value);
}

/* --- INVEPT, INVVPID --- */

/* SDM vol. 3D 31.3 */
enum { INVEPT_SINGLE_CONTEXT = 1, INVEPT_ALL_CONTEXTS = 2 };
enum { INVVPID_ADDRESS, INVVPID_SINGLE_CONTEXT, INVVPID_ALL_CONTEXTS, INVVPID_RETAINING_GLOBALS };

#define EPT_INVEPT_TYPE(type)   (EPT_INVEPT_SINGLE_CONTEXT << ((type)-INVEPT_SINGLE_CONTEXT))
#define VPID_INVVPID_TYPE(type) (VPID_INVVPID_ADDRESS << (type))

static bool invept_type_offered(u64 type)
{
    u64 offered = nested_vmx_msr(&nested_vmx_capability, MSR_IA32_VMX_EPT_VPID_CAP);

    return (type == INVEPT_SINGLE_CONTEXT || type == INVEPT_ALL_CONTEXTS) &&
           (offered & EPT_INVEPT_TYPE(type)) != 0;
}

/* The register operand. */
static u64 invalidation_type(const struct vcpu *vcpu)
{
    return read_register(vcpu, VMX_OPERAND_SECOND((u32)vmread_unchecked(VMCS_EXIT_INSTRUCTION_INFORMATION)));
}

/* That of the last one is checked already. */
static bool invept_pointer_valid(struct nested_vmx *nested, u64 pointer)
{
    if (pointer == 0 || pointer != nested->ept_pointer) {
        if (!vmx_check_eptp(&nested_vmx_capability, pointer))
            return false;
        nested->ept_pointer = pointer;
    }
    return true;
}

static enum exit_action invept_for_l1(struct vcpu *vcpu)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);
    struct {
        u64 ept_pointer, reserved;
    } descriptor;
    enum exit_action action;

    u64 type = invalidation_type(vcpu);
    if (!invept_type_offered(type))
        return nested_vmx_fail(vcpu, VMX_ERROR_INVALIDATION_OPERAND);
    if (!vmx_operand_read_of_l1(vcpu, &descriptor, sizeof(descriptor), &action))
        return action;
    if (descriptor.reserved != 0 ||
        (type == INVEPT_SINGLE_CONTEXT && !invept_pointer_valid(nested, descriptor.ept_pointer)))
        return nested_vmx_fail(vcpu, VMX_ERROR_INVALIDATION_OPERAND);
    if (type == INVEPT_ALL_CONTEXTS)
        shadow_invalidate_all(nested_vmx_shadow_cpu(vcpu));
    else
        shadow_invalidate_pointer(nested_vmx_shadow(), nested_vmx_shadow_cpu(vcpu), descriptor.ept_pointer);
    nested->invepts++;
    return succeed();
}

/* The same where all is as it nearly always is: the pointer is the one of the last time. */
enum exit_action nested_vmx_invept(struct vcpu *vcpu)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);
    u32 information = (u32)vmread_unchecked(VMCS_EXIT_INSTRUCTION_INFORMATION);
    const u64 *descriptor = NULL;

    if (nested->plain && privilege_level() == 0 &&
        vcpu->gpr[VMX_OPERAND_SECOND(information)] == INVEPT_SINGLE_CONTEXT &&
        VMX_OPERAND_SECOND(information) != GPR_RSP)
        descriptor = vmx_operand_find_of_l1(vcpu, information, sizeof(u64[2]));
    if (descriptor == NULL || atomic_peek(&descriptor[0]) != nested->ept_pointer ||
        nested->ept_pointer == 0 || atomic_peek(&descriptor[1]) != 0)
        return nested_vmx_instruction(vcpu, REASON_INVEPT);
    shadow_invalidate_pointer(nested_vmx_shadow(), &vmcs02_state_of(vcpu)->shadow_cpu, nested->ept_pointer);
    nested->invepts++;
    return end(0);
}

struct invvpid_descriptor {
    u64 vpid, linear_address;
};

static bool invvpid_valid(u64 type, const struct invvpid_descriptor *descriptor)
{
    if ((descriptor->vpid & ~BITS(15, 0)) != 0)
        return false;
    if (type == INVVPID_ALL_CONTEXTS)
        return true;
    if (type == INVVPID_ADDRESS && !linear_canonical(descriptor->linear_address, nested_vmx_capability.la57))
        return false;
    return descriptor->vpid != 0;
}

/* Umbra drops all linear translations of a VPID, which each type allows (SDM vol. 3C 29.4.3.1). */
static enum exit_action invvpid_for_l1(struct vcpu *vcpu)
{
    u64 offered = nested_vmx_msr(&nested_vmx_capability, MSR_IA32_VMX_EPT_VPID_CAP);
    struct invvpid_descriptor descriptor;
    enum exit_action action;

    u64 type = invalidation_type(vcpu);
    if (type > INVVPID_RETAINING_GLOBALS || (offered & VPID_INVVPID_TYPE(type)) == 0)
        return nested_vmx_fail(vcpu, VMX_ERROR_INVALIDATION_OPERAND);
    if (!vmx_operand_read_of_l1(vcpu, &descriptor, sizeof(descriptor), &action))
        return action;
    if (!invvpid_valid(type, &descriptor))
        return nested_vmx_fail(vcpu, VMX_ERROR_INVALIDATION_OPERAND);
    nested_vmx_invalidate_linear(vcpu, type == INVVPID_ALL_CONTEXTS ? SHADOW_ALL_TAGS : (u32)descriptor.vpid);
    return succeed();
}

/* --- all of them --- */

/* #UD outside protected mode, in virtual-8086 and in compatibility mode; a CPU gives that before it exits. */
static bool mode_allows_vmx(void)
{
    if (in_64_bit_mode())
        return (vmread_unchecked(VMCS_GUEST_CS_RIGHTS) & RIGHTS_LONG) != 0;
    return (vmread(VMCS_GUEST_CR0) & CR0_PE) != 0 && (vmread(VMCS_GUEST_RFLAGS) & RFLAGS_VM) == 0;
}

static bool ept_vpid_offered(u64 bit)
{
    return (nested_vmx_msr(&nested_vmx_capability, MSR_IA32_VMX_EPT_VPID_CAP) & bit) != 0;
}

/* In VMX operation, by CPL 0. */
static enum exit_action execute(struct vcpu *vcpu, u32 reason)
{
    switch (reason) {
    case REASON_VMREAD:
        return vmread_for_l1(vcpu);
    case REASON_VMWRITE:
        return vmwrite_for_l1(vcpu);
    case REASON_VMRESUME:
        return nested_vmx_launch(vcpu, false);
    case REASON_VMLAUNCH:
        return nested_vmx_launch(vcpu, true);
    case REASON_INVEPT:
        return invept_for_l1(vcpu);
    case REASON_INVVPID:
        return invvpid_for_l1(vcpu);
    case REASON_VMPTRLD:
        return vmptrld_for_l1(vcpu);
    case REASON_VMCLEAR:
        return vmclear_for_l1(vcpu);
    case REASON_VMPTRST:
        return vmptrst_for_l1(vcpu);
    case REASON_VMXOFF:
        return vmxoff_for_l1(vcpu);
    case REASON_VMXON:
        return vmxon_for_l1(vcpu);
    default: /* VMCALL: there is no SMM monitor */
        return nested_vmx_fail(vcpu, VMX_ERROR_VMCALL_IN_ROOT);
    }
}

/* #UD: not in VMX operation, or an instruction that this L1 has not or that is for guests only. */
static bool is_defined(const struct nested_vmx *nested, u32 reason)
{
    switch (reason) {
    case REASON_VMXON:
        return (vmx_guest_cr4() & CR4_VMXE) != 0;
    case REASON_INVEPT:
        return nested->vmx_operation && ept_vpid_offered(EPT_INVEPT);
    case REASON_INVVPID:
        return nested->vmx_operation && ept_vpid_offered(VPID_INVVPID);
    case REASON_VMFUNC:
        return false;
    default:
        return nested->vmx_operation;
    }
}

enum exit_action nested_vmx_vmresume(struct vcpu *vcpu)
{
    if (!nested_vmx_of(vcpu)->plain || privilege_level() > 0)
        return nested_vmx_instruction(vcpu, REASON_VMRESUME);
    return nested_vmx_launch(vcpu, false);
}

/* For all but VMCALL a CPU checks the mode before it exits. */
enum exit_action nested_vmx_instruction(struct vcpu *vcpu, u32 reason)
{
    const struct nested_vmx *nested = nested_vmx_of(vcpu);

    if ((reason == REASON_VMCALL && !mode_allows_vmx()) || !is_defined(nested, reason))
        return EXIT_UD;
    return privilege_level() > 0 ? EXIT_GP : execute(vcpu, reason);
}
