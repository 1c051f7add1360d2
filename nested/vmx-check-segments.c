/* SPDX-License-Identifier: MIT */
/* Checks on the guest's segment registers at a VM entry, SDM vol. 3C 27.3.1.2; see nested/vmx-check.h. */
#include "arch/x86.h"
#include "nested/vmx-check-parts.h"

#define SELECTOR_RPL BITS(1, 0)
#define SELECTOR_TI  BIT(2)

/* Access rights, SDM vol. 3C table 25-2; those that other files need are in vmx/vmcs.h. */
#define RIGHTS_TYPE     BITS(3, 0)
#define RIGHTS_S        BIT(4) /* code or data */
#define RIGHTS_PRESENT  BIT(7)
#define RIGHTS_GRANULAR BIT(15)
#define RIGHTS_RESERVED (BITS(11, 8) | BITS(31, 17))

/* Types, SDM vol. 3A 3.4.5.1 and 3.5. */
#define TYPE_ACCESSED BIT(0)
#define TYPE_READABLE BIT(1) /* of code */
#define TYPE_CODE     BIT(3)
enum {
    TYPE_DATA_RW = 3,
    TYPE_DATA_RW_DOWN = 7,
    TYPE_CODE_ACCESSED = 9, /* and 11: readable */
    TYPE_CODE_READABLE = 11,
    TYPE_CONFORMING = 13, /* and 15 */
    TYPE_CONFORMING_READABLE = 15,
    TYPE_LDT = 2,
    TYPE_TSS16_BUSY = 3,
    TYPE_TSS_BUSY = 11, /* of 32 or 64 bits */
};

#define V86_RIGHTS_VALUE 0xf3u
#define V86_LIMIT_VALUE  0xffffu

/* One segment register of the vmcs12. */
struct segment {
    u16 selector;
    u64 base;
    u32 limit, rights;
};

static struct segment segment_of(const struct vmx_check_input *input, enum vmcs_segment number)
{
    const struct vmcs12 *vmcs12 = input->vmcs12;

    return (struct segment){
        .selector = vmcs12->guest_selector[number],
        .base = vmcs12->guest_base[number],
        .limit = vmcs12->guest_limit[number],
        .rights = vmcs12->guest_rights[number],
    };
}

static bool is_usable(const struct segment *segment)
{
    return (segment->rights & RIGHTS_UNUSABLE) == 0;
}

static unsigned type_of(const struct segment *segment)
{
    return segment->rights & RIGHTS_TYPE;
}

static unsigned dpl_of(const struct segment *segment)
{
    return RIGHTS_DPL(segment->rights);
}

static bool is_virtual_8086(const struct vmx_check_input *input)
{
    return (input->vmcs12->guest_rflags & RFLAGS_VM) != 0;
}

static bool is_unrestricted(const struct vmx_check_input *input)
{
    return secondary_on(input, SECONDARY_UNRESTRICTED_GUEST);
}

/* If any of bits 11:0 of the limit is 0, G must be 0; if any of bits 31:20 is 1, G must be 1. */
static bool granularity_valid(const struct segment *segment)
{
    bool granular = (segment->rights & RIGHTS_GRANULAR) != 0;

    if ((~segment->limit & BITS(11, 0)) != 0 && granular)
        return false;
    return (segment->limit & BITS(31, 20)) == 0 || granular;
}

/* --- selectors, bases --- */

static enum vmx_check check_selectors(const struct vmx_check_input *input)
{
    const u16 *selector = input->vmcs12->guest_selector;
    struct segment ldtr = segment_of(input, VMCS_LDTR);

    REQUIRE((selector[VMCS_TR] & SELECTOR_TI) == 0, TR_SELECTOR);
    REQUIRE(!is_usable(&ldtr) || (ldtr.selector & SELECTOR_TI) == 0, LDTR_SELECTOR);
    if (!is_virtual_8086(input) && !is_unrestricted(input)) {
        REQUIRE((selector[VMCS_SS] & SELECTOR_RPL) == (selector[VMCS_CS] & SELECTOR_RPL), SS_RPL);
    }
    return VMX_CHECK_OK;
}

static enum vmx_check check_bases(const struct vmx_check_input *input)
{
    const u64 *base = input->vmcs12->guest_base;
    struct segment ldtr = segment_of(input, VMCS_LDTR);

    REQUIRE(is_canonical(input, base[VMCS_TR]) && is_canonical(input, base[VMCS_FS]) &&
                is_canonical(input, base[VMCS_GS]) && (!is_usable(&ldtr) || is_canonical(input, ldtr.base)),
            CANONICAL_BASE);
    for (unsigned i = VMCS_ES; i <= VMCS_DS; i++) {
        struct segment segment = segment_of(input, (enum vmcs_segment)i);
        if (i == VMCS_CS || is_usable(&segment))
            REQUIRE(segment.base >> 32 == 0, BASE_32);
    }
    return VMX_CHECK_OK;
}

/* --- virtual-8086 mode --- */

static enum vmx_check check_virtual_8086(const struct vmx_check_input *input)
{
    for (unsigned i = VMCS_ES; i <= VMCS_GS; i++) {
        struct segment segment = segment_of(input, (enum vmcs_segment)i);
        REQUIRE(segment.base == (u64)segment.selector << 4, V86_BASE);
        REQUIRE(segment.limit == V86_LIMIT_VALUE, V86_LIMIT);
        REQUIRE(segment.rights == V86_RIGHTS_VALUE, V86_RIGHTS);
    }
    return VMX_CHECK_OK;
}

/* --- access rights elsewhere --- */

static bool cs_type_valid(const struct vmx_check_input *input, unsigned type)
{
    switch (type) {
    case TYPE_CODE_ACCESSED:
    case TYPE_CODE_READABLE:
    case TYPE_CONFORMING:
    case TYPE_CONFORMING_READABLE:
        return true;
    case TYPE_DATA_RW:
        return is_unrestricted(input);
    default:
        return false;
    }
}

static bool cs_dpl_valid(const struct segment *cs, const struct segment *ss)
{
    switch (type_of(cs)) {
    case TYPE_DATA_RW:
        return dpl_of(cs) == 0;
    case TYPE_CODE_ACCESSED:
    case TYPE_CODE_READABLE:
        return dpl_of(cs) == dpl_of(ss);
    default: /* conforming */
        return dpl_of(cs) <= dpl_of(ss);
    }
}

/* What CS and all other usable segments have in common. */
static enum vmx_check check_common_rights(const struct segment *segment)
{
    REQUIRE((segment->rights & RIGHTS_S) != 0, SEGMENT_S);
    REQUIRE((segment->rights & RIGHTS_PRESENT) != 0, SEGMENT_PRESENT);
    REQUIRE((segment->rights & RIGHTS_RESERVED) == 0, SEGMENT_RESERVED);
    REQUIRE(granularity_valid(segment), SEGMENT_GRANULARITY);
    return VMX_CHECK_OK;
}

static enum vmx_check check_cs(const struct vmx_check_input *input)
{
    struct segment cs = segment_of(input, VMCS_CS);
    struct segment ss = segment_of(input, VMCS_SS);

    REQUIRE(cs_type_valid(input, type_of(&cs)), CS_TYPE);
    REQUIRE(cs_dpl_valid(&cs, &ss), CS_DPL);
    REQUIRE_OK(check_common_rights(&cs));
    if (entry_on(input, ENTRY_IA32E_GUEST) && (cs.rights & RIGHTS_LONG) != 0)
        REQUIRE((cs.rights & RIGHTS_BIG) == 0, CS_L_AND_D);
    return VMX_CHECK_OK;
}

/* The DPL of SS is the CPL, so it counts even if the segment is unusable. */
static enum vmx_check check_ss(const struct vmx_check_input *input)
{
    struct segment cs = segment_of(input, VMCS_CS);
    struct segment ss = segment_of(input, VMCS_SS);

    if (is_usable(&ss))
        REQUIRE(type_of(&ss) == TYPE_DATA_RW || type_of(&ss) == TYPE_DATA_RW_DOWN, SS_TYPE);
    if (!is_unrestricted(input))
        REQUIRE(dpl_of(&ss) == (ss.selector & SELECTOR_RPL), SS_DPL_RPL);
    if (type_of(&cs) == TYPE_DATA_RW || (input->vmcs12->guest_cr0 & CR0_PE) == 0)
        REQUIRE(dpl_of(&ss) == 0, SS_DPL_0);
    return is_usable(&ss) ? check_common_rights(&ss) : VMX_CHECK_OK;
}

static enum vmx_check check_data(const struct vmx_check_input *input, enum vmcs_segment number)
{
    struct segment segment = segment_of(input, number);
    unsigned type = type_of(&segment);

    if (!is_usable(&segment))
        return VMX_CHECK_OK;
    REQUIRE((type & TYPE_ACCESSED) != 0 && ((type & TYPE_CODE) == 0 || (type & TYPE_READABLE) != 0),
            DATA_TYPE);
    if (!is_unrestricted(input) && type <= TYPE_CODE_READABLE)
        REQUIRE(dpl_of(&segment) >= (segment.selector & SELECTOR_RPL), DATA_DPL);
    return check_common_rights(&segment);
}

static enum vmx_check check_rights(const struct vmx_check_input *input)
{
    static const enum vmcs_segment data[] = {VMCS_DS, VMCS_ES, VMCS_FS, VMCS_GS};

    REQUIRE_OK(check_cs(input));
    REQUIRE_OK(check_ss(input));
    for (unsigned i = 0; i < ARRAY_SIZE(data); i++)
        REQUIRE_OK(check_data(input, data[i]));
    return VMX_CHECK_OK;
}

/* --- TR, LDTR --- */

static bool system_rights_valid(const struct segment *segment)
{
    return (segment->rights & (RIGHTS_S | RIGHTS_RESERVED)) == 0 && (segment->rights & RIGHTS_PRESENT) != 0;
}

static enum vmx_check check_tr(const struct vmx_check_input *input)
{
    struct segment tr = segment_of(input, VMCS_TR);
    bool tss16_allowed = !entry_on(input, ENTRY_IA32E_GUEST);

    REQUIRE(type_of(&tr) == TYPE_TSS_BUSY || (tss16_allowed && type_of(&tr) == TYPE_TSS16_BUSY), TR_TYPE);
    REQUIRE(is_usable(&tr) && system_rights_valid(&tr), TR_RIGHTS);
    REQUIRE(granularity_valid(&tr), TR_GRANULARITY);
    return VMX_CHECK_OK;
}

static enum vmx_check check_ldtr(const struct vmx_check_input *input)
{
    struct segment ldtr = segment_of(input, VMCS_LDTR);

    if (!is_usable(&ldtr))
        return VMX_CHECK_OK;
    REQUIRE(type_of(&ldtr) == TYPE_LDT, LDTR_TYPE);
    REQUIRE(system_rights_valid(&ldtr), LDTR_RIGHTS);
    REQUIRE(granularity_valid(&ldtr), LDTR_GRANULARITY);
    return VMX_CHECK_OK;
}

enum vmx_check vmx_check_segments(const struct vmx_check_input *input)
{
    REQUIRE_OK(check_selectors(input));
    REQUIRE_OK(check_bases(input));
    REQUIRE_OK(is_virtual_8086(input) ? check_virtual_8086(input) : check_rights(input));
    REQUIRE_OK(check_tr(input));
    return check_ldtr(input);
}
