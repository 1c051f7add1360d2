/* SPDX-License-Identifier: MIT */
/*
 * Group vmx-instructions: how each VMX instruction ends, with each error that it can have, in the manual's
 * order; VMREAD and VMWRITE of every field; VMX operation's hold on CR0 and CR4. Source: SDM vol. 3D ch. 31,
 * vol. 3C 24.8.
 */
#include "tests/guest/vmx.h"

#define GP (END_FAULT + EXC_GP)
#define UD (END_FAULT + EXC_UD)

L2_CODE(code_nothing, "", "nop");

static void expect(const char *what, u64 got, u64 want)
{
    check_part("vmx-instructions", what, got, want);
}

/* VMfailValid with that error. */
static void expect_error(const char *what, u64 got, u64 error)
{
    expect(what, got, END_VALID);
    expect(what, vmread(VMCS_INSTRUCTION_ERROR), error);
}

static u64 width(void)
{
    return BIT(cpuid(0x80000008, 0).eax & 0xff);
}

/* With CR4.VMXE = 0: the guest is not in VMX operation here. */
static void outside(void)
{
    u64 value = 0, cr4 = read_cr4();

    write_cr4(cr4 & ~CR4_VMXE);
    expect("vmxon_without_vmxe", try_vmxon((u64)vmx_region), UD);
    write_cr4(cr4 | CR4_VMXE);
    expect("outside.vmxoff", try_vmxoff(), UD);
    expect("outside.vmclear", try_vmclear((u64)other_region), UD);
    expect("outside.vmptrld", try_vmptrld((u64)other_region), UD);
    expect("outside.vmptrst", try_vmptrst(&value), UD);
    expect("outside.vmread", try_vmread(VMCS_GUEST_RIP, &value), UD);
    expect("outside.vmwrite", try_vmwrite(VMCS_GUEST_RIP, 0), UD);
    expect("outside.vmlaunch", try_vmlaunch(), UD);
    expect("outside.vmresume", try_vmresume(), UD);
    expect("outside.invept", try_invept(2, 0, 0), UD);
    expect("outside.invvpid", try_invvpid(2, 0, 0), UD);
}

static void vmxon_operands(void)
{
    u32 revision = (u32)rdmsr(MSR_IA32_VMX_BASIC) & 0x7fffffff, wrong = revision ^ 1;

    expect("vmxon_unaligned", try_vmxon((u64)vmx_region + 1), END_INVALID);
    expect("vmxon_beyond_width", try_vmxon((u64)vmx_region | width()), END_INVALID);
    memcpy(vmx_region, &wrong, sizeof(wrong));
    expect("vmxon_revision", try_vmxon((u64)vmx_region), END_INVALID);
    wrong = revision | (u32)BIT(31);
    memcpy(vmx_region, &wrong, sizeof(wrong));
    expect("vmxon_shadow", try_vmxon((u64)vmx_region), END_INVALID);
    memcpy(vmx_region, &revision, sizeof(revision));
    expect("vmxon", try_vmxon((u64)vmx_region), END_SUCCEED);
}

/* In VMX operation, with no current VMCS. */
static void without_current(void)
{
    u64 value = 0;

    expect("none.vmptrst", try_vmptrst(&value), END_SUCCEED);
    expect("none.pointer", value, ~0ull);
    expect("none.vmxon", try_vmxon((u64)vmx_region), END_INVALID);
    expect("none.vmread", try_vmread(VMCS_GUEST_RIP, &value), END_INVALID);
    expect("none.vmread_no_field", try_vmread(0xffff, &value), END_INVALID);
    expect("none.vmwrite", try_vmwrite(VMCS_GUEST_RIP, 0), END_INVALID);
    expect("none.vmlaunch", try_vmlaunch(), END_INVALID);
    expect("none.vmresume", try_vmresume(), END_INVALID);
    expect("none.vmclear_unaligned", try_vmclear(1), END_INVALID);
    expect("none.vmptrld_unaligned", try_vmptrld(1), END_INVALID);
    expect("none.invept_type", try_invept(9, 0, 0), END_INVALID);
    expect("none.invvpid_type", try_invvpid(9, 0, 0), END_INVALID);
}

static void regions(void)
{
    u32 revision = (u32)rdmsr(MSR_IA32_VMX_BASIC) & 0x7fffffff, wrong = revision ^ 2;
    u64 value = 0;

    expect("vmclear", try_vmclear((u64)vmcs_region), END_SUCCEED);
    expect("vmptrld", try_vmptrld((u64)vmcs_region), END_SUCCEED);
    expect("vmptrst", try_vmptrst(&value), END_SUCCEED);
    expect("vmptrst_pointer", value, (u64)vmcs_region);
    expect_error("vmxon_in_root", try_vmxon((u64)vmx_region), 15);
    expect_error("vmclear_unaligned", try_vmclear((u64)other_region + 8), 2);
    expect_error("vmclear_beyond_width", try_vmclear((u64)other_region | width()), 2);
    expect_error("vmclear_vmxon_pointer", try_vmclear((u64)vmx_region), 3);
    expect_error("vmptrld_unaligned", try_vmptrld((u64)other_region + 8), 9);
    expect_error("vmptrld_beyond_width", try_vmptrld((u64)other_region | width()), 9);
    expect_error("vmptrld_vmxon_pointer", try_vmptrld((u64)vmx_region), 10);
    memcpy(other_region, &wrong, sizeof(wrong));
    expect_error("vmptrld_revision", try_vmptrld((u64)other_region), 11);
    memcpy(other_region, &revision, sizeof(revision));
    expect("still_current", try_vmptrst(&value), END_SUCCEED);
    expect("still_current_pointer", value, (u64)vmcs_region);
}

/* Two VMCSs keep apart what is written to them, whichever is current. */
static void two_vmcss(void)
{
    u64 value = 0;

    vmwrite(VMCS_GUEST_RIP, 0x1111);
    vmwrite(VMCS_TSC_OFFSET, 0x2222);
    expect("other.vmclear", try_vmclear((u64)other_region), END_SUCCEED);
    expect("other.vmptrld", try_vmptrld((u64)other_region), END_SUCCEED);
    vmwrite(VMCS_GUEST_RIP, 0x3333);
    vmwrite(VMCS_TSC_OFFSET, 0x4444);
    expect("first.vmptrld", try_vmptrld((u64)vmcs_region), END_SUCCEED);
    expect("first.rip", vmread(VMCS_GUEST_RIP), 0x1111);
    expect("first.tsc_offset", vmread(VMCS_TSC_OFFSET), 0x2222);
    expect("other.again", try_vmptrld((u64)other_region), END_SUCCEED);
    expect("other.rip", vmread(VMCS_GUEST_RIP), 0x3333);
    expect("other.tsc_offset", vmread(VMCS_TSC_OFFSET), 0x4444);
    expect("other.clear_current", try_vmclear((u64)other_region), END_SUCCEED);
    expect("other.none_current", try_vmread(VMCS_GUEST_RIP, &value), END_INVALID);
    expect("first.back", try_vmptrld((u64)vmcs_region), END_SUCCEED);
}

static void fields(void)
{
    static const u64 missing[] = {0x6,        0x0814,     0x2080,  0x6810 | BIT(12),
                                  0x6800 | 1, 0x4000 | 1, BIT(15), BIT(32) | 0x681e};
    u64 value = 0, any = rdmsr(MSR_IA32_VMX_MISC) & BIT(29);

    for (unsigned i = 0; i < ARRAY_SIZE(missing); i++) {
        expect_error("vmread_no_field", try_vmread(missing[i], &value), 12);
        expect_error("vmwrite_no_field", try_vmwrite(missing[i], 0), 12);
    }
    vmwrite(VMCS_TSC_OFFSET, 0x1122334455667788);
    expect("vmread_high", try_vmread(VMCS_TSC_OFFSET | 1, &value), END_SUCCEED);
    expect("vmread_high_value", value, 0x11223344);
    expect("vmwrite_high", try_vmwrite(VMCS_TSC_OFFSET | 1, 0x99aabbccddeeff00), END_SUCCEED);
    expect("vmwrite_high_value", vmread(VMCS_TSC_OFFSET), 0xddeeff0055667788);
    vmwrite(VMCS_TSC_OFFSET, 0);
    vmwrite(VMCS_GUEST_ES_SELECTOR, 0x123456789);
    expect("vmwrite_16", vmread(VMCS_GUEST_ES_SELECTOR), 0x6789);
    vmwrite(VMCS_GUEST_ES_LIMIT, 0x123456789);
    expect("vmwrite_32", vmread(VMCS_GUEST_ES_LIMIT), 0x23456789);
    if (any != 0) {
        expect("vmwrite_read_only", try_vmwrite(VMCS_EXIT_QUALIFICATION, 0x55), END_SUCCEED);
        expect("vmwrite_read_only_value", vmread(VMCS_EXIT_QUALIFICATION), 0x55);
        vmwrite(VMCS_GUEST_RIP, 0x77);
        vmwrite(VMCS_ENTRY_ERROR_CODE, 0x88);
        expect("vmwrite_exit_reason", try_vmwrite(VMCS_EXIT_REASON, 0x66), END_SUCCEED);
        expect("vmwrite_exit_reason_value", vmread(VMCS_EXIT_REASON), 0x66);
        /* With VMCS shadowing these were in another place than the exit reason. */
        expect("written_before", vmread(VMCS_GUEST_RIP), 0x77);
        expect("written_before", vmread(VMCS_ENTRY_ERROR_CODE), 0x88);
    } else {
        expect_error("vmwrite_read_only", try_vmwrite(VMCS_EXIT_QUALIFICATION, 0x55), 13);
    }
}

/* Every field that the highest index leaves room for: it keeps what is written, cut to its width. */
static void every_field(void)
{
    static const u64 mask[] = {BITS(15, 0), ~0ull, BITS(31, 0), ~0ull};
    u64 any = rdmsr(MSR_IA32_VMX_MISC) & BIT(29), highest = rdmsr(MSR_IA32_VMX_VMCS_ENUM) >> 1 & 0x1ff;
    unsigned present = 0, wrong = 0, largest = 0;

    for (u32 encoding = 0; encoding < 0x8000; encoding += 2) {
        u64 before = 0, after = 0, written = 0xa5a5a5a5a5a5a5a5;
        bool read_only = (encoding >> 10 & 3) == 1;
        if (try_vmread(encoding, &before) != END_SUCCEED)
            continue;
        present++;
        if ((encoding >> 1 & 0x1ff) > largest)
            largest = encoding >> 1 & 0x1ff;
        if (read_only && any == 0)
            continue;
        if (try_vmwrite(encoding, written) != END_SUCCEED || try_vmread(encoding, &after) != END_SUCCEED ||
            ((after ^ written) & mask[encoding >> 13 & 3]) != 0) {
            /* Access rights: a CPU may drop reserved bits. */
            wrong += (encoding & ~0xeu) == 0x4810 || (encoding & ~0xeu) == 0x4820 ? 0 : 1;
        }
        (void)try_vmwrite(encoding, before);
    }
    check("vmx-instructions.fields_present", present > 120);
    expect("fields_that_forget", wrong, 0);
    check("vmx-instructions.highest_index", largest <= highest);
}

static u64 try_vmcall(void)
{
    u64 flags;

    __asm__ volatile("xorl %%eax, %%eax\nvmcall\npushfq\npopq %0" : "=r"(flags)::"rax", "memory", "cc");
    return flags & END_FLAGS;
}

static void launch_state(void)
{
    vmx_reset();
    expect_error("vmresume_clear", try_vmresume(), 5);
    expect("run", vmx_run(&code_nothing), REASON_VMCALL);
    expect_error("vmlaunch_launched", try_vmlaunch(), 4);
    /* There is no SMM monitor to call. */
    expect_error("vmcall_in_root", try_vmcall(), 1);
    expect("resume", vmx_run(&code_nothing), REASON_VMCALL);
    expect("first.vmptrld", try_vmptrld((u64)other_region), END_SUCCEED);
    expect("first.vmptrld", try_vmptrld((u64)vmcs_region), END_SUCCEED);
    expect("resume_after_exchange", vmx_run(&code_nothing), REASON_VMCALL);
    expect("vmclear", try_vmclear((u64)vmcs_region), END_SUCCEED);
    expect("vmptrld", try_vmptrld((u64)vmcs_region), END_SUCCEED);
    expect_error("vmresume_cleared", try_vmresume(), 5);
    expect("launch_again", vmx_run(&code_nothing), REASON_VMCALL);
}

/* More VMCSs than a hypervisor below may keep ready at a time: each has its own state and launch state. */
enum { MANY = 12, ROUNDS = 4 };
L2_CODE(code_identify, "mov %rsp, %rax\nmov %fs:0, %rcx", "add $8, %rsp");

static void many_vmcss(void)
{
    static u8 regions[MANY][PAGE_SIZE] __attribute__((aligned(4096)));
    static u64 names[MANY];
    u32 revision = (u32)rdmsr(MSR_IA32_VMX_BASIC) & 0x7fffffff;
    unsigned wrong = 0;

    for (u64 i = 0; i < MANY; i++) {
        memcpy(regions[i], &revision, sizeof(revision));
        names[i] = 0xabc000 + i;
        if (try_vmclear((u64)regions[i]) != END_SUCCEED || try_vmptrld((u64)regions[i]) != END_SUCCEED)
            wrong++;
        vmx_reset();
        vmwrite(VMCS_GUEST_FS_BASE, (u64)&names[i]);
        vmwrite(VMCS_GUEST_RSP, (u64)l2_stack + 8 * i);
    }
    for (u64 round = 0; round < ROUNDS; round++) {
        for (u64 i = 0; i < MANY; i++) {
            wrong += try_vmptrld((u64)regions[i]) != END_SUCCEED;
            vmwrite(VMCS_GUEST_RIP, (u64)code_identify.start);
            wrong += vmx_enter(&l2, round == 0) != 0 || vmread(VMCS_EXIT_REASON) != REASON_VMCALL;
            wrong += l2.rcx != names[i] || l2.rax != (u64)l2_stack + 8 * (i + round);
            /* L2's state is read of some only, and one is put away and launched anew. */
            if (i % 3 == 0)
                wrong += vmread(VMCS_GUEST_RSP) != (u64)l2_stack + 8 * (i + round + 1) ||
                         vmread(VMCS_GUEST_FS_BASE) != (u64)&names[i] ||
                         vmread(VMCS_GUEST_TR_SELECTOR) != SEL_TSS;
        }
    }
    wrong += try_vmclear((u64)regions[1]) != END_SUCCEED || try_vmptrld((u64)regions[1]) != END_SUCCEED;
    expect_error("many.resume_cleared", try_vmresume(), 5);
    for (unsigned i = 0; i < MANY; i++)
        wrong += try_vmclear((u64)regions[i]) != END_SUCCEED;
    expect("many.wrong", wrong, 0);
    expect("many.first_again", try_vmptrld((u64)vmcs_region), END_SUCCEED);
}

static void invalidation(void)
{
    u64 capability = rdmsr(MSR_IA32_VMX_EPT_VPID_CAP), pointer = ept_pointer();

    expect_error("invept_type_0", try_invept(0, pointer, 0), 28);
    expect_error("invept_type_3", try_invept(3, pointer, 0), 28);
    expect_error("invept_type_large", try_invept(BIT(32) | 1, pointer, 0), 28);
    expect_error("invept_pointer_0", try_invept(1, 0, 0), 28);
    expect("invept_single", try_invept(1, pointer, 0), END_SUCCEED);
    expect("invept_all", try_invept(2, ~0ull, 0), END_SUCCEED);
    expect_error("invept_pointer", try_invept(1, pointer | 7, 0), 28);
    expect_error("invept_walk", try_invept(1, pointer ^ BIT(3), 0), 28);
    expect_error("invept_width", try_invept(1, pointer | width(), 0), 28);
    if ((capability & BIT(32)) == 0)
        return;
    expect_error("invvpid_type", try_invvpid(4, 1, 0), 28);
    for (u64 type = 0; type < 4; type++) {
        if ((capability & BIT(40 + type)) == 0)
            continue;
        expect("invvpid", try_invvpid(type, 1, 0x1000), END_SUCCEED);
        expect_error("invvpid_reserved", try_invvpid(type, 0x10001, 0), 28);
        if (type != 2)
            expect_error("invvpid_0", try_invvpid(type, 0, 0), 28);
    }
    expect_error("invvpid_not_canonical", try_invvpid(0, 1, BIT(60)), 28);
}

/*
 * The operand's page changes under its linear address: each INVEPT reads what L1's tables say at that moment,
 * however often it has read there before. Of the two descriptors the second is one that fails.
 */
static void moved_operand(void)
{
    enum { PAGE = 9, AT = 4080 / 8 };
    static u64 page[2][512] __attribute__((aligned(4096)));
    const u64 flags = PTE_P | PTE_W | PTE_A | PTE_D, cr4 = read_cr4();
    const u64 *at = (u64 *)window_map(PAGE, (u64)page[0], flags) + AT;

    page[0][AT] = page[1][AT] = ept_pointer();
    page[1][AT] |= 7;
    for (unsigned i = 0; i < 3; i++)
        expect("moved.here", try_invept_at(1, at), END_SUCCEED);
    window_set(PAGE, (u64)page[1] | flags);
    expect_error("moved.there", try_invept_at(1, at), 28);
    expect_error("moved.there", try_invept_at(1, at), 28);
    window_set(PAGE, (u64)page[0] | (flags ^ PTE_A));
    expect("moved.accessed", try_invept_at(1, at), END_SUCCEED);
    expect("moved.accessed_flag", window_get(PAGE) & PTE_A, PTE_A);
    expect("moved.before_crossing", try_invept_at(1, at), END_SUCCEED);
    window_set(PAGE + 1, 0);
    expect("moved.crossing", try_invept_at(1, at + 1), END_FAULT + EXC_PF);
    window_set(PAGE, 0);
    expect("moved.away", try_invept_at(1, at), END_FAULT + EXC_PF);
    window_set(PAGE, (u64)page[0] | flags | BIT(51));
    expect("moved.reserved", try_invept_at(1, at), END_FAULT + EXC_PF);
    window_set(PAGE, (u64)page[0] | flags);
    expect("moved.back", try_invept_at(1, at), END_SUCCEED);
    page[0][AT] ^= 1;
    expect_error("moved.content", try_invept_at(1, at), 28);
    page[0][AT] ^= 1;
    expect("moved.content", try_invept_at(1, at), END_SUCCEED);
    window_set(PAGE, (u64)page[0] | flags | PTE_U);
    expect("moved.user", try_invept_at(1, at), END_SUCCEED);
    if ((cpuid(7, 0).ebx & BIT(20)) != 0) {
        write_cr4(cr4 | CR4_SMAP);
        expect("moved.user_smap", try_invept_at(1, at), END_FAULT + EXC_PF);
        write_cr4(cr4);
    }
    window_set(PAGE, 0);
}

/* VMX operation keeps bits of CR0 and CR4. */
static void control_registers(void)
{
    u64 cr0 = read_cr0(), cr4 = read_cr4();

    expect("cr4_vmxe_kept", try_write_cr4(cr4 & ~CR4_VMXE), EXC_GP);
    expect("cr4", read_cr4(), cr4);
    expect("cr0_ne_kept", try_write_cr0(cr0 & ~CR0_NE), EXC_GP);
    expect("cr0_pg_kept", try_write_cr0(cr0 & ~CR0_PG), EXC_GP);
    expect("cr0", read_cr0(), cr0);
    expect("cr0_ts", try_write_cr0(cr0 | CR0_TS), NO_FAULT);
    expect("cr0_ts_value", read_cr0(), cr0 | CR0_TS);
    expect("cr0_back", try_write_cr0(cr0), NO_FAULT);
}

static void msrs(void)
{
    u64 value = 0;

    expect("feature_control", rdmsr(MSR_IA32_FEATURE_CONTROL) & 5, 5);
    for (u32 msr = MSR_IA32_VMX_BASIC; msr <= MSR_IA32_VMX_VMCS_ENUM; msr++) {
        expect("capability_read", try_rdmsr(msr, &value), NO_FAULT);
        expect("capability_write", try_wrmsr(msr, value), EXC_GP);
    }
}

void group_vmx_instructions(void)
{
    if (!vmx_start("vmx-instructions"))
        return;
    u64 cr4 = read_cr4();
    vmx_stop();
    write_cr4(cr4);
    outside();
    vmxon_operands();
    without_current();
    regions();
    two_vmcss();
    fields();
    every_field();
    launch_state();
    many_vmcss();
    invalidation();
    moved_operand();
    control_registers();
    msrs();
    vmx_stop();
}
