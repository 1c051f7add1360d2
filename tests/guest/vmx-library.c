/* SPDX-License-Identifier: MIT */
/*
 * The test guest's own little L1: VMX operation, one VMCS that is reset between checks, and the VMX
 * instructions with how they ended. Source: SDM vol. 3C ch. 25, 32.5, appendix A.
 */
#include "tests/guest/vmx.h"

#define PAGE_ALIGNED __attribute__((aligned(4096)))

u8 vmx_region[PAGE_SIZE] PAGE_ALIGNED, vmcs_region[PAGE_SIZE] PAGE_ALIGNED,
    other_region[PAGE_SIZE] PAGE_ALIGNED;
u64 ept_pml4[512] L1_TABLE, ept_pdpt[512] L1_TABLE, ept_directory[4 * 512] L1_TABLE;
u64 ept_window_directory[512] L1_TABLE, ept_window[512] L1_TABLE;
extern u64 gdt_tss[2];

static bool launched;

void vmcs_access_failed(enum vmcs_field field)
{
    print("guest: VMCS field 0x%x\n", (u32)field);
    give_up("a VMCS field that must be there can be accessed");
}

/* --- instructions --- */

#define TRY(instruction, ...)                                                                                \
    u64 flags = 0;                                                                                           \
    fault.vector = NO_FAULT;                                                                                 \
    __asm__ volatile("xorl %%eax, %%eax\n" FAULTABLE(instruction) "pushfq\npopq %0"                          \
                     : "=&r"(flags)                                                                          \
                     : __VA_ARGS__                                                                           \
                     : "memory", "cc", "rax");                                                               \
    return fault.vector != NO_FAULT ? END_FAULT + fault.vector : flags & END_FLAGS

u64 try_vmxon(u64 pointer)
{
    TRY("vmxon %1", "m"(pointer));
}

u64 try_vmxoff(void)
{
    TRY("vmxoff", "i"(0));
}

u64 try_vmclear(u64 pointer)
{
    if (pointer == (u64)vmcs_region)
        launched = false;
    TRY("vmclear %1", "m"(pointer));
}

u64 try_vmptrld(u64 pointer)
{
    TRY("vmptrld %1", "m"(pointer));
}

u64 try_vmptrst(u64 *pointer)
{
    TRY("vmptrst (%1)", "r"(pointer));
}

u64 try_vmread(u64 field, u64 *value)
{
    TRY("vmread %2, (%1)", "r"(value), "r"(field));
}

u64 try_vmwrite(u64 field, u64 value)
{
    TRY("vmwrite %1, %2", "r"(value), "r"(field));
}

u64 try_invept(u64 type, u64 pointer, u64 reserved)
{
    const u64 descriptor[2] = {pointer, reserved};
    TRY("invept (%1), %2", "r"(descriptor), "r"(type));
}

u64 try_invept_at(u64 type, const void *descriptor)
{
    TRY("invept (%1), %2", "r"(descriptor), "r"(type));
}

u64 try_invvpid(u64 type, u64 vpid, u64 address)
{
    const u64 descriptor[2] = {vpid, address};
    TRY("invvpid (%1), %2", "r"(descriptor), "r"(type));
}

u64 try_vmlaunch(void)
{
    TRY("vmlaunch", "i"(0));
}

u64 try_vmresume(void)
{
    TRY("vmresume", "i"(0));
}

/* --- VMX operation --- */

void vmx_begin(u8 *vmxon, u8 *vmcs)
{
    u64 control = 0;

    (void)try_rdmsr(MSR_IA32_FEATURE_CONTROL, &control);
    if ((control & IA32_FEATURE_CONTROL_LOCK) == 0)
        wrmsr(MSR_IA32_FEATURE_CONTROL, IA32_FEATURE_CONTROL_LOCK | IA32_FEATURE_CONTROL_VMX_OUTSIDE_SMX);
    write_cr0(read_cr0() | rdmsr(MSR_IA32_VMX_CR0_FIXED0));
    write_cr4(read_cr4() | rdmsr(MSR_IA32_VMX_CR4_FIXED0) | CR4_OSXSAVE);
    u32 revision = (u32)rdmsr(MSR_IA32_VMX_BASIC) & 0x7fffffff;
    memcpy(vmxon, &revision, sizeof(revision));
    memcpy(vmcs, &revision, sizeof(revision));
    memcpy(other_region, &revision, sizeof(revision));
    if (try_vmxon((u64)vmxon) != END_SUCCEED || try_vmclear((u64)vmcs) != END_SUCCEED ||
        try_vmptrld((u64)vmcs) != END_SUCCEED)
        give_up("VMX operation can be entered");
}

bool vmx_start(const char *group)
{
    if (!is_intel || (cpuid(1, 0).ecx & BIT(5)) == 0) {
        note_skipped(group, "the CPU has no VMX");
        return false;
    }
    vmx_begin(vmx_region, vmcs_region);
    vmx_reset();
    return true;
}

void vmx_stop(void)
{
    (void)try_vmclear((u64)vmcs_region);
    check_eq("vmx.vmxoff", try_vmxoff(), END_SUCCEED);
    write_cr4(read_cr4() & ~(CR4_VMXE | CR4_OSXSAVE));
}

/* --- controls --- */

static const struct {
    u32 plain, precise;
    enum vmcs_field field;
} words[WORDS] = {
    {MSR_IA32_VMX_PINBASED_CTLS, MSR_IA32_VMX_TRUE_PINBASED_CTLS, VMCS_PIN_CONTROLS},
    {MSR_IA32_VMX_PROCBASED_CTLS, MSR_IA32_VMX_TRUE_PROCBASED_CTLS, VMCS_PRIMARY_CONTROLS},
    {MSR_IA32_VMX_PROCBASED_CTLS2, MSR_IA32_VMX_PROCBASED_CTLS2, VMCS_SECONDARY_CONTROLS},
    {MSR_IA32_VMX_EXIT_CTLS, MSR_IA32_VMX_TRUE_EXIT_CTLS, VMCS_EXIT_CONTROLS},
    {MSR_IA32_VMX_ENTRY_CTLS, MSR_IA32_VMX_TRUE_ENTRY_CTLS, VMCS_ENTRY_CONTROLS},
};

static u64 allowed(enum vmx_word word)
{
    bool precise = (rdmsr(MSR_IA32_VMX_BASIC) & BIT(55)) != 0;
    return rdmsr(precise ? words[word].precise : words[word].plain);
}

bool vmx_has(enum vmx_word word, u64 bits)
{
    return (allowed(word) >> 32 & bits) == bits;
}

u64 vmx_required(enum vmx_word word)
{
    return allowed(word) & BITS(31, 0);
}

void vmx_set(enum vmx_word word, u64 bits)
{
    vmwrite(words[word].field, vmread(words[word].field) | bits);
}

void vmx_clear(enum vmx_word word, u64 bits)
{
    vmwrite(words[word].field, vmread(words[word].field) & ~bits);
}

static void reset_controls(void)
{
    static const u64 wanted[WORDS] = {
        [WORD_PRIMARY] = PRIMARY_SECONDARY_CONTROLS,
        [WORD_SECONDARY] = SECONDARY_EPT | SECONDARY_RDTSCP | SECONDARY_INVPCID | SECONDARY_XSAVES,
        [WORD_EXIT] =
            EXIT_HOST_64 | EXIT_SAVE_EFER | EXIT_LOAD_EFER | EXIT_SAVE_PAT | EXIT_LOAD_PAT | EXIT_SAVE_DEBUG,
        [WORD_ENTRY] = ENTRY_IA32E_GUEST | ENTRY_LOAD_EFER | ENTRY_LOAD_PAT | ENTRY_LOAD_DEBUG,
    };
    static const enum vmcs_field zero[] = {
        VMCS_PAGE_FAULT_MASK,
        VMCS_PAGE_FAULT_MATCH,
        VMCS_CR3_TARGET_COUNT,
        VMCS_EXIT_MSR_STORE_COUNT,
        VMCS_EXIT_MSR_LOAD_COUNT,
        VMCS_ENTRY_MSR_LOAD_COUNT,
        VMCS_ENTRY_INTERRUPTION,
        VMCS_ENTRY_ERROR_CODE,
        VMCS_ENTRY_INSTRUCTION_LENGTH,
        VMCS_EXIT_MSR_STORE,
        VMCS_EXIT_MSR_LOAD,
        VMCS_ENTRY_MSR_LOAD,
        VMCS_TSC_OFFSET,
        VMCS_CR0_MASK,
        VMCS_CR4_MASK,
        VMCS_CR0_SHADOW,
        VMCS_CR4_SHADOW,
        VMCS_TPR_THRESHOLD,
    };

    for (unsigned word = 0; word < WORDS; word++) {
        u64 both = allowed((enum vmx_word)word);
        vmwrite(words[word].field, (wanted[word] & both >> 32) | (both & BITS(31, 0)));
    }
    for (unsigned i = 0; i < ARRAY_SIZE(zero); i++)
        vmwrite(zero[i], 0);
    vmwrite(VMCS_EXCEPTION_BITMAP, 0xffffffff);
    vmwrite(VMCS_EPT_POINTER, ept_pointer());
    if (vmx_has(WORD_SECONDARY, SECONDARY_VPID))
        vmwrite(VMCS_VPID, 1);
    if (vmx_has(WORD_SECONDARY, SECONDARY_XSAVES))
        vmwrite(VMCS_XSS_EXITING_BITMAP, 0);
}

static void reset_host(void)
{
    struct {
        u16 limit;
        u64 base;
    } __attribute__((packed)) table;

    vmwrite(VMCS_HOST_CR0, read_cr0());
    vmwrite(VMCS_HOST_CR3, read_cr3());
    vmwrite(VMCS_HOST_CR4, read_cr4());
    vmwrite(VMCS_HOST_CS_SELECTOR, SEL_CODE64);
    vmwrite(VMCS_HOST_SS_SELECTOR, SEL_DATA);
    vmwrite(VMCS_HOST_DS_SELECTOR, SEL_DATA);
    vmwrite(VMCS_HOST_ES_SELECTOR, SEL_DATA);
    vmwrite(VMCS_HOST_FS_SELECTOR, SEL_DATA);
    vmwrite(VMCS_HOST_GS_SELECTOR, SEL_DATA);
    vmwrite(VMCS_HOST_TR_SELECTOR, SEL_TSS);
    vmwrite(VMCS_HOST_FS_BASE, 0);
    vmwrite(VMCS_HOST_GS_BASE, 0);
    vmwrite(VMCS_HOST_TR_BASE, (gdt_tss[0] >> 16 & 0xffffff) | (gdt_tss[0] >> 56) << 24 | gdt_tss[1] << 32);
    __asm__ volatile("sgdt %0" : "=m"(table));
    vmwrite(VMCS_HOST_GDTR_BASE, table.base);
    vmwrite(VMCS_GUEST_GDTR_BASE, table.base);
    vmwrite(VMCS_GUEST_GDTR_LIMIT, table.limit);
    __asm__ volatile("sidt %0" : "=m"(table));
    vmwrite(VMCS_HOST_IDTR_BASE, table.base);
    vmwrite(VMCS_HOST_SYSENTER_CS, 0);
    vmwrite(VMCS_HOST_SYSENTER_ESP, 0);
    vmwrite(VMCS_HOST_SYSENTER_EIP, 0);
    vmwrite(VMCS_HOST_PAT, rdmsr(MSR_IA32_PAT));
    vmwrite(VMCS_HOST_EFER, rdmsr(MSR_EFER));
    vmwrite(VMCS_HOST_RIP, (u64)vmx_exit_point);
}

static void reset_segment(enum vmcs_segment segment, u16 selector, u32 limit, u32 rights)
{
    vmwrite(vmcs_segment_field(VMCS_GUEST_ES_SELECTOR, segment), selector);
    vmwrite(vmcs_segment_field(VMCS_GUEST_ES_BASE, segment), 0);
    vmwrite(vmcs_segment_field(VMCS_GUEST_ES_LIMIT, segment), limit);
    vmwrite(vmcs_segment_field(VMCS_GUEST_ES_RIGHTS, segment), rights);
}

static void reset_guest(void)
{
    static const enum vmcs_field zero[] = {
        VMCS_GUEST_DEBUGCTL,      VMCS_GUEST_SYSENTER_CS,      VMCS_GUEST_SYSENTER_ESP,
        VMCS_GUEST_SYSENTER_EIP,  VMCS_GUEST_INTERRUPTIBILITY, VMCS_GUEST_ACTIVITY,
        VMCS_GUEST_PENDING_DEBUG, VMCS_GUEST_SMBASE,
    };

    for (unsigned i = 0; i < ARRAY_SIZE(zero); i++)
        vmwrite(zero[i], 0);
    vmwrite(VMCS_LINK_POINTER, ~0ull);
    vmwrite(VMCS_GUEST_CR0, read_cr0());
    vmwrite(VMCS_GUEST_CR3, read_cr3());
    vmwrite(VMCS_GUEST_CR4, read_cr4());
    vmwrite(VMCS_GUEST_PAT, rdmsr(MSR_IA32_PAT));
    vmwrite(VMCS_GUEST_EFER, rdmsr(MSR_EFER));
    vmwrite(VMCS_GUEST_DR7, 0x400);
    vmwrite(VMCS_GUEST_RFLAGS, 2);
    vmwrite(VMCS_GUEST_RSP, (u64)l2_stack + PAGE_SIZE - 64);
    vmwrite(VMCS_GUEST_IDTR_BASE, (u64)l2_idt);
    vmwrite(VMCS_GUEST_IDTR_LIMIT, sizeof(l2_idt) - 1);
    reset_segment(VMCS_CS, SEL_CODE64, 0xffffffff, 0xa09b);
    reset_segment(VMCS_SS, SEL_DATA, 0xffffffff, 0xc093);
    reset_segment(VMCS_DS, SEL_DATA, 0xffffffff, 0xc093);
    reset_segment(VMCS_ES, SEL_DATA, 0xffffffff, 0xc093);
    reset_segment(VMCS_FS, SEL_DATA, 0xffffffff, 0xc093);
    reset_segment(VMCS_GS, SEL_DATA, 0xffffffff, 0xc093);
    reset_segment(VMCS_LDTR, 0, 0, 0x10000);
    reset_segment(VMCS_TR, SEL_TSS, 0x67, 0x8b);
    vmwrite(VMCS_GUEST_TR_BASE, vmread(VMCS_HOST_TR_BASE));
}

void vmx_reset_vmcs(void)
{
    reset_controls();
    reset_host();
    reset_guest();
}

void vmx_reset(void)
{
    l2_init(l2_vectors);
    ept_init();
    vmx_reset_vmcs();
}

u64 vmx_resume(void)
{
    u64 flags = vmx_enter(&l2, !launched);

    if ((flags & END_INVALID) != 0)
        return RUN_INVALID;
    if ((flags & END_VALID) != 0)
        return RUN_FAILED + vmread(VMCS_INSTRUCTION_ERROR);
    u64 reason = vmread(VMCS_EXIT_REASON);
    if ((reason & EXIT_REASON_ENTRY_FAILURE) == 0)
        launched = true;
    return reason;
}

u64 vmx_run(const struct l2_code *code)
{
    vmwrite(VMCS_GUEST_RIP, (u64)code->start);
    return vmx_resume();
}

/* --- EPT --- */

bool ept_has(u64 capability)
{
    return (rdmsr(MSR_IA32_VMX_EPT_VPID_CAP) & capability) == capability;
}

u64 ept_pointer(void)
{
    return (u64)ept_pml4 | 3 << 3 | 6;
}

void ept_init(void)
{
    ept_pml4[0] = (u64)ept_pdpt | EPT_RWX | EPT_XU;
    for (unsigned i = 0; i < 4; i++)
        ept_pdpt[i] = (u64)&ept_directory[512 * i] | EPT_RWX | EPT_XU;
    for (u64 i = 0; i < ARRAY_SIZE(ept_directory); i++)
        ept_directory[i] = i << 21 | EPT_RWX | EPT_XU | EPT_WB | EPT_PS;
    ept_pdpt[4] = (u64)ept_window_directory | EPT_RWX | EPT_XU;
    memset(ept_window_directory, 0, sizeof(ept_window_directory));
    ept_window_directory[0] = (u64)ept_window | EPT_RWX | EPT_XU;
    memset(ept_window, 0, sizeof(ept_window));
    (void)try_invept(2, 0, 0);
}

void vmx_unblock_nmis(void)
{
    __asm__ volatile("movl %%ss, %%eax\npushq %%rax\nleaq 8(%%rsp), %%rax\npushq %%rax\npushfq\n"
                     "movl %%cs, %%eax\npushq %%rax\nleaq 1f(%%rip), %%rax\npushq %%rax\niretq\n1:" ::
                         : "rax", "memory", "cc");
}
