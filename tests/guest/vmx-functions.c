/* SPDX-License-Identifier: MIT */
/*
 * Group vmx-functions: VM functions, virtualization exceptions, page-modification logging, XSAVES and
 * XRSTORS, the TSC of L2, PAUSE loops, and instructions that a control makes invalid, as L2 meets them while
 * it runs. Source: SDM vol. 3C 26.1.3, 26.3, 26.5.6, 26.5.7, 29.3.6.
 */
#include "tests/guest/vmx.h"

enum { PAGE_TEST = 8, PAGE_OTHER = 9, PAGE_TABLE = 10, LIST_ENTRIES = 512, LOG_ENTRIES = 512 };

static u8 page[PAGE_SIZE] __attribute__((aligned(4096))), page2[PAGE_SIZE] __attribute__((aligned(4096)));
static u64 list[LIST_ENTRIES] __attribute__((aligned(4096))), log[LOG_ENTRIES] __attribute__((aligned(4096)));
static u64 other_pml4[512] __attribute__((aligned(4096))), other_pdpt[512] __attribute__((aligned(4096))),
    other_directory[512] __attribute__((aligned(4096))), other_window[512] __attribute__((aligned(4096)));

/* Virtualization-exception information, SDM vol. 3C table 26-1. */
static struct {
    u32 reason, busy;
    u64 qualification, linear, physical;
    u16 eptp_index;
    u8 rest[PAGE_SIZE - 34];
} __attribute__((packed)) ve __attribute__((aligned(4096)));

L2_CODE(code_vmfunc, "", "vmfunc");
L2_CODE(code_vmfunc_read, "vmfunc", "mov (%rbx), %rax");
L2_CODE(code_read, "", "mov (%rbx), %rax");
L2_CODE(code_write, "", "mov %rax, (%rbx)");
L2_CODE(code_nothing, "", "nop");
L2_CODE(code_int, "", "int $0x45");
L2_CODE(code_xsaves, "", "xsaves (%rbx)");
L2_CODE(code_xrstors, "", "xrstors (%rbx)");
L2_CODE(code_rdtsc, "", "rdtsc");
L2_CODE(code_rdtscp, "", "rdtscp");
L2_CODE(code_rdmsr, "", "rdmsr");
L2_CODE(code_invpcid, "", "invpcid (%rbx), %rax");
L2_CODE(code_getsec, "xor %eax, %eax", "getsec");
L2_CODE(code_pauses, "mov $100000, %ecx", "1: pause\nloop 1b");
L2_CODE(code_rdmsr_two, "", "rdmsr\nnop");

static void expect(const char *what, u64 got, u64 want)
{
    check_part("vmx-functions", what, got, want);
}

static void set_leaf(unsigned index, u64 entry)
{
    ept_window[index] = entry;
    (void)try_invept(2, 0, 0);
}

static void prepare(void)
{
    vmx_reset();
    l2.rbx = (u64)l2_window(PAGE_TEST, PTE_P | PTE_W | PTE_A | PTE_D);
    set_leaf(PAGE_TEST, (u64)page | EPT_RWX | EPT_XU | EPT_WB);
    memset(page, 0, sizeof(page));
    memset(page2, 0, sizeof(page2));
}

static u64 vector_of_exit(void)
{
    return vmread(VMCS_EXIT_INTERRUPTION) & (INTERRUPTION_TYPE | INTERRUPTION_VECTOR);
}

static void expect_ud(const char *what, const struct l2_code *code)
{
    expect(what, vmx_run(code), REASON_EXCEPTION_OR_NMI);
    expect(what, vector_of_exit(), INTERRUPTION_HARDWARE | EXC_UD);
}

/* --- VM functions --- */

/* As the first tables, but for the page at PAGE_TEST. */
static u64 other_pointer(void)
{
    other_pml4[0] = (u64)other_pdpt | EPT_RWX | EPT_XU;
    memcpy(other_pdpt, ept_pdpt, 32);
    other_pdpt[4] = (u64)other_directory | EPT_RWX | EPT_XU;
    other_directory[0] = (u64)other_window | EPT_RWX | EPT_XU;
    other_window[PAGE_TEST] = (u64)page2 | EPT_RWX | EPT_XU | EPT_WB;
    return (u64)other_pml4 | 3 << 3 | 6;
}

static void prepare_functions(void)
{
    prepare();
    memset(list, 0, sizeof(list));
    list[0] = ept_pointer();
    list[1] = list[511] = other_pointer();
    list[2] = other_pointer() | BIT(11);
    list[3] = (other_pointer() & ~7ull) | 3;
    list[4] = other_pointer() | BIT(physical_bits);
    (void)try_invept(2, 0, 0);
    vmx_set(WORD_SECONDARY, SECONDARY_VM_FUNCTIONS);
    vmwrite(VMCS_VM_FUNCTION_CONTROLS, 1);
    vmwrite(VMCS_EPTP_LIST, (u64)list);
    *(u64 *)page = 0x1111;
    *(u64 *)page2 = 0x2222;
}

static void vmfunc_exits(const char *what, u64 function, u64 index)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "vmx-functions.vmfunc.%s", what);
    prepare_functions();
    l2.rax = function;
    l2.rcx = index;
    check_part(prefix, "reason", vmx_run(&code_vmfunc), REASON_VMFUNC);
    check_part(prefix, "rip", vmread(VMCS_GUEST_RIP), (u64)code_vmfunc.at);
    check_part(prefix, "length", vmread(VMCS_EXIT_INSTRUCTION_LENGTH), 3);
    check_part(prefix, "pointer_kept", vmread(VMCS_EPT_POINTER), ept_pointer());
}

static void check_vm_functions(void)
{
    prepare();
    expect_ud("vmfunc.off", &code_vmfunc);
    if (!vmx_has(WORD_SECONDARY, SECONDARY_VM_FUNCTIONS)) {
        note_skipped("vmx-functions.vmfunc", "not offered");
        return;
    }
    prepare_functions();
    vmwrite(VMCS_VM_FUNCTION_CONTROLS, 0);
    expect("vmfunc.none_enabled", vmx_run(&code_vmfunc), REASON_VMFUNC);
    vmwrite(VMCS_VM_FUNCTION_CONTROLS, 2);
    expect("vmfunc.control_reserved", vmx_run(&code_vmfunc), RUN_FAILED + 7);
    vmwrite(VMCS_VM_FUNCTION_CONTROLS, 1);
    vmwrite(VMCS_EPTP_LIST, (u64)list + 8);
    expect("vmfunc.list_unaligned", vmx_run(&code_vmfunc), RUN_FAILED + 7);
    prepare_functions();
    vmx_clear(WORD_SECONDARY, SECONDARY_EPT | SECONDARY_XSAVES);
    expect("vmfunc.without_ept", vmx_run(&code_vmfunc), RUN_FAILED + 7);
    vmfunc_exits("function_1", 1, 0);
    vmfunc_exits("function_63", 63, 0);
    vmfunc_exits("index_512", 0, 512);
    vmfunc_exits("index_large", 0, BIT(31));
    vmfunc_exits("pointer_reserved", 0, 2);
    vmfunc_exits("pointer_type", 0, 3);
    vmfunc_exits("pointer_width", 0, 4);
    vmfunc_exits("pointer_zero", 0, 5);
    prepare_functions();
    l2.rax = 64;
    expect_ud("vmfunc.function_64", &code_vmfunc);
    prepare_functions();
    l2.rcx = 1;
    expect("vmfunc.switch", vmx_run(&code_vmfunc_read), REASON_VMCALL);
    expect("vmfunc.switched", l2.rax, 0x2222);
    expect("vmfunc.pointer", vmread(VMCS_EPT_POINTER), list[1]);
    l2.rax = 0;
    l2.rcx = 0;
    expect("vmfunc.back", vmx_run(&code_vmfunc_read), REASON_VMCALL);
    expect("vmfunc.switched_back", l2.rax, 0x1111);
    expect("vmfunc.pointer_back", vmread(VMCS_EPT_POINTER), list[0]);
    l2.rax = BIT(40); /* EAX and ECX count, not RAX and RCX */
    l2.rcx = BIT(40) | 511;
    expect("vmfunc.last_index", vmx_run(&code_vmfunc_read), REASON_VMCALL);
    expect("vmfunc.last_switched", l2.rax, 0x2222);
    /* The new tables count for faults, too. */
    prepare_functions();
    other_window[PAGE_TEST] = 0;
    (void)try_invept(2, 0, 0);
    l2.rcx = 1;
    expect("vmfunc.violation", vmx_run(&code_vmfunc_read), REASON_EPT_VIOLATION);
    expect("vmfunc.violation_rip", vmread(VMCS_GUEST_RIP), (u64)code_vmfunc_read.at);
}

/* --- virtualization exceptions --- */

static void prepare_ve(void)
{
    prepare();
    memset(&ve, 0, sizeof(ve));
    ve.qualification = ve.linear = ve.physical = ~0ull;
    vmx_set(WORD_SECONDARY, SECONDARY_EPT_VIOLATION_VE);
    vmwrite(VMCS_VE_INFORMATION, (u64)&ve);
    vmwrite(VMCS_EPTP_INDEX, 7);
    vmwrite(VMCS_EXCEPTION_BITMAP, 0);
    set_leaf(PAGE_TEST, (u64)page | EPT_R | EPT_WB);
    l2.rbx += 0x20;
}

static void check_ve(void)
{
    const u64 qualification = 2 | EPT_R << 3 | BIT(7) | BIT(8);

    prepare_ve();
    expect("ve.vector", vmx_run(&code_write) == REASON_VMCALL ? l2.rax : 0, L2_VECTOR + EXC_VE);
    expect("ve.rip", *(u64 *)vmread(VMCS_GUEST_RSP), (u64)code_write.at);
    expect("ve.reason", ve.reason, REASON_EPT_VIOLATION);
    expect("ve.busy", ve.busy, 0xffffffff);
    expect("ve.qualification", ve.qualification & 0x1bf, qualification);
    expect("ve.linear", ve.linear, l2.rbx);
    expect("ve.physical", ve.physical, EPT_WINDOW + PAGE_TEST * PAGE_SIZE + 0x20);
    expect("ve.eptp_index", ve.eptp_index, 7);
    /* While the area is busy, violations exit. */
    expect("ve.while_busy", vmx_run(&code_write), REASON_EPT_VIOLATION);
    expect("ve.while_busy_qualification", vmread(VMCS_EXIT_QUALIFICATION) & 0x1bf, qualification);
    ve.busy = 0;
    expect("ve.again", vmx_run(&code_write) == REASON_VMCALL ? l2.rax : 0, L2_VECTOR + EXC_VE);
    prepare_ve();
    vmwrite(VMCS_EXCEPTION_BITMAP, BIT(EXC_VE));
    expect("ve.intercepted", vmx_run(&code_write), REASON_EXCEPTION_OR_NMI);
    expect("ve.intercepted_vector", vmread(VMCS_EXIT_INTERRUPTION) & ~BIT(12),
           INTERRUPTION_VALID | INTERRUPTION_HARDWARE | EXC_VE);
    expect("ve.intercepted_area", ve.busy, 0xffffffff);
    /* Bit 63 keeps it an exit, in the leaf and in an entry that is not present. */
    prepare_ve();
    set_leaf(PAGE_TEST, (u64)page | EPT_R | EPT_WB | BIT(63));
    expect("ve.suppressed", vmx_run(&code_write), REASON_EPT_VIOLATION);
    expect("ve.suppressed_area", ve.busy, 0);
    set_leaf(PAGE_TEST, BIT(63));
    expect("ve.not_present_suppressed", vmx_run(&code_write), REASON_EPT_VIOLATION);
    set_leaf(PAGE_TEST, 0);
    expect("ve.not_present", vmx_run(&code_write) == REASON_VMCALL ? l2.rax : 0, L2_VECTOR + EXC_VE);
    expect("ve.not_present_qualification", ve.qualification & 0x1bf, 2 | BIT(7) | BIT(8));
    prepare_ve();
    set_leaf(PAGE_TEST, (u64)page | EPT_W | EPT_WB);
    expect("ve.misconfiguration", vmx_run(&code_write), REASON_EPT_MISCONFIGURATION);
    expect("ve.misconfiguration_area", ve.busy, 0);
    /* A violation on the way to a handler exits. */
    prepare_ve();
    vmwrite(VMCS_GUEST_IDTR_BASE, (u64)l2_window(PAGE_OTHER, PTE_P | PTE_W | PTE_A | PTE_D));
    expect("ve.vectoring", vmx_run(&code_int), REASON_EPT_VIOLATION);
    expect("ve.vectoring_information", vmread(VMCS_VECTORING),
           INTERRUPTION_VALID | INTERRUPTION_SOFTWARE | 0x45);
    /* The area has to be an aligned page. */
    prepare_ve();
    vmwrite(VMCS_VE_INFORMATION, (u64)&ve + 8);
    expect("ve.unaligned", vmx_run(&code_nothing), RUN_FAILED + 7);
}

static void check_ve_and_functions(void)
{
    prepare_functions();
    memset(&ve, 0, sizeof(ve));
    vmx_set(WORD_SECONDARY, SECONDARY_EPT_VIOLATION_VE);
    vmwrite(VMCS_VE_INFORMATION, (u64)&ve);
    vmwrite(VMCS_EPTP_INDEX, 0);
    vmwrite(VMCS_EXCEPTION_BITMAP, 0);
    other_window[PAGE_TEST] = 0;
    (void)try_invept(2, 0, 0);
    l2.rcx = 511;
    expect("ve.after_vmfunc", vmx_run(&code_vmfunc_read) == REASON_VMCALL ? l2.rax : 0, L2_VECTOR + EXC_VE);
    expect("ve.after_vmfunc_index", ve.eptp_index, 511);
    expect("ve.after_vmfunc_field", vmread(VMCS_EPTP_INDEX), 511);
}

/* --- page-modification log --- */

static bool logged(u64 index, u64 address)
{
    return log[index] == address;
}

static void check_pml(void)
{
    if (!vmx_has(WORD_SECONDARY, SECONDARY_PML) || !ept_has(BIT(21))) {
        note_skipped("vmx-functions.pml", "not offered");
        return;
    }
    prepare();
    set_leaf(PAGE_OTHER, (u64)page2 | EPT_RWX | EPT_WB);
    (void)l2_window(PAGE_OTHER, PTE_P | PTE_W | PTE_A | PTE_D);
    memset(log, 0, sizeof(log));
    vmx_set(WORD_SECONDARY, SECONDARY_PML);
    vmwrite(VMCS_EPT_POINTER, ept_pointer() | EPTP_AD);
    vmwrite(VMCS_PML_ADDRESS, (u64)log);
    vmwrite(VMCS_PML_INDEX, 511);
    /* The first run dirties its own stack, code and tables, too. */
    expect("pml.first", vmx_run(&code_write), REASON_VMCALL);
    u64 index = vmread(VMCS_PML_INDEX);
    check("vmx-functions.pml.logged", index < 511 && logged(index + 1, EPT_WINDOW + PAGE_TEST * PAGE_SIZE));
    expect("pml.again", vmx_run(&code_write), REASON_VMCALL);
    expect("pml.again_index", vmread(VMCS_PML_INDEX), index);
    l2.rbx += PAGE_SIZE + 0x123;
    expect("pml.read", vmx_run(&code_read), REASON_VMCALL);
    expect("pml.read_index", vmread(VMCS_PML_INDEX), index);
    expect("pml.other", vmx_run(&code_write), REASON_VMCALL);
    expect("pml.other_index", vmread(VMCS_PML_INDEX), index - 1);
    check("vmx-functions.pml.other_logged", logged(index, EPT_WINDOW + PAGE_OTHER * PAGE_SIZE));
    /* The last entry, then none left. */
    ept_window[PAGE_OTHER] &= ~(u64)EPT_D;
    (void)try_invept(2, 0, 0);
    vmwrite(VMCS_PML_INDEX, 0);
    expect("pml.last", vmx_run(&code_write), REASON_VMCALL);
    expect("pml.last_index", vmread(VMCS_PML_INDEX), 0xffff);
    check("vmx-functions.pml.last_logged", logged(0, EPT_WINDOW + PAGE_OTHER * PAGE_SIZE));
    expect("pml.full_not_needed", vmx_run(&code_write), REASON_VMCALL);
    ept_window[PAGE_OTHER] &= ~(u64)EPT_D;
    (void)try_invept(2, 0, 0);
    expect("pml.full", vmx_run(&code_write), REASON_PML_FULL);
    expect("pml.full_rip", vmread(VMCS_GUEST_RIP), (u64)code_write.at);
    expect("pml.full_qualification", vmread(VMCS_EXIT_QUALIFICATION), 0);
    expect("pml.full_not_dirty", ept_window[PAGE_OTHER] & EPT_D, 0);
    /* An accessed flag alone needs no entry, but a log that is not full (SDM vol. 3C 29.3.6). */
    ept_window[PAGE_OTHER] &= ~(u64)EPT_A;
    (void)try_invept(2, 0, 0);
    expect("pml.full_accessed", vmx_run(&code_read), REASON_PML_FULL);
    expect("pml.full_not_accessed", ept_window[PAGE_OTHER] & EPT_A, 0);
    vmwrite(VMCS_PML_INDEX, 511);
    expect("pml.accessed", vmx_run(&code_read), REASON_VMCALL);
    expect("pml.accessed_index", vmread(VMCS_PML_INDEX), 511);
    expect("pml.goes_on", vmx_run(&code_write), REASON_VMCALL);
    expect("pml.goes_on_index", vmread(VMCS_PML_INDEX), 510);
    prepare();
    vmx_set(WORD_SECONDARY, SECONDARY_PML);
    vmwrite(VMCS_PML_ADDRESS, (u64)log | 8);
    expect("pml.unaligned", vmx_run(&code_nothing), RUN_FAILED + 7);
}

/* --- instructions that a control makes invalid, and XSAVES --- */

static void check_invalid(void)
{
    static const struct {
        const char *name;
        u64 control;
        const struct l2_code *code;
    } cases[] = {{"rdtscp", SECONDARY_RDTSCP, &code_rdtscp},
                 {"invpcid", SECONDARY_INVPCID, &code_invpcid},
                 {"xsaves", SECONDARY_XSAVES, &code_xsaves},
                 {"xrstors", SECONDARY_XSAVES, &code_xrstors}};

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        prepare();
        vmx_clear(WORD_SECONDARY, cases[i].control);
        expect_ud(cases[i].name, cases[i].code);
    }
    /* Without CR4.SMXE, which the CPU does not have. */
    prepare();
    expect_ud("getsec", &code_getsec);
}

/* The components that XSAVES handles need a bit in IA32_XSS: 1 if this CPU has none. */
static u64 supervisor_component(void)
{
    u64 known = cpuid(0xd, 1).ecx;

    for (unsigned bit = 8; bit < 32; bit++) {
        if ((known >> bit & 1) != 0 && try_wrmsr(MSR_IA32_XSS, BIT(bit)) == NO_FAULT)
            return BIT(bit);
    }
    return 1;
}

static void check_xsaves(void)
{
    if (!vmx_has(WORD_SECONDARY, SECONDARY_XSAVES)) {
        note_skipped("vmx-functions.xsaves", "not offered");
        return;
    }
    u64 component = supervisor_component();
    prepare();
    l2.rax = component | 1;
    vmwrite(VMCS_XSS_EXITING_BITMAP, ~component);
    expect("xsaves.runs", vmx_run(&code_xsaves), REASON_VMCALL);
    expect("xrstors.runs", vmx_run(&code_xrstors), REASON_VMCALL);
    vmwrite(VMCS_XSS_EXITING_BITMAP, component);
    if (component == 1) {
        /* IA32_XSS is 0, so that the bitmap has nothing to choose from. */
        expect("xsaves.without_xss", vmx_run(&code_xsaves), REASON_VMCALL);
        note_skipped("vmx-functions.xsaves.exits", "the CPU has no supervisor state");
        return;
    }
    expect("xsaves.exits", vmx_run(&code_xsaves), REASON_XSAVES);
    expect("xsaves.length", vmread(VMCS_EXIT_INSTRUCTION_LENGTH), 3);
    expect("xrstors.exits", vmx_run(&code_xrstors), REASON_XRSTORS);
    l2.rax = 1;
    expect("xsaves.not_asked_for", vmx_run(&code_xsaves), REASON_VMCALL);
    wrmsr(MSR_IA32_XSS, 0);
}

/* --- time --- */

static u64 l2_tsc(const struct l2_code *code)
{
    (void)vmx_run(code);
    return (l2.rdx << 32 | (l2.rax & BITS(31, 0)));
}

/* What L2 read is that much ahead of L1's own counter, give or take what passes between them. */
static void check_tsc_at(const char *what, u64 got, u64 l1_before, u64 offset)
{
    char name[64];
    u64 ahead = got - offset - l1_before;

    print_to(name, sizeof(name), "vmx-functions.tsc.%s", what);
    check(name, ahead < 1000000);
}

static void check_tsc(void)
{
    static u8 bitmap[PAGE_SIZE] __attribute__((aligned(4096)));
    const u64 offset = BIT(45) + 0x1234567890;

    prepare();
    vmx_clear(WORD_PRIMARY, PRIMARY_RDTSC_EXITING);
    u64 before = rdtsc();
    check_tsc_at("plain", l2_tsc(&code_rdtsc), before, 0);
    vmwrite(VMCS_TSC_OFFSET, offset);
    before = rdtsc();
    check_tsc_at("offset_without_control", l2_tsc(&code_rdtsc), before, 0);
    vmx_set(WORD_PRIMARY, PRIMARY_TSC_OFFSETTING | PRIMARY_MSR_BITMAPS);
    vmwrite(VMCS_MSR_BITMAPS, (u64)bitmap);
    before = rdtsc();
    check_tsc_at("offset", l2_tsc(&code_rdtsc), before, offset);
    before = rdtsc();
    check_tsc_at("offset_rdtscp", l2_tsc(&code_rdtscp), before, offset);
    l2.rcx = MSR_IA32_TSC;
    before = rdtsc();
    check_tsc_at("offset_rdmsr", l2_tsc(&code_rdmsr), before, offset);
    vmwrite(VMCS_TSC_OFFSET, -BIT(20));
    before = rdtsc();
    check_tsc_at("negative_offset", l2_tsc(&code_rdtsc), before, -BIT(20));
    if (!vmx_has(WORD_SECONDARY, SECONDARY_TSC_SCALING)) {
        note_skipped("vmx-functions.tsc.scaling", "not offered");
        return;
    }
    vmwrite(VMCS_TSC_OFFSET, offset);
    vmx_set(WORD_SECONDARY, SECONDARY_TSC_SCALING);
    vmwrite(VMCS_TSC_MULTIPLIER, 0);
    expect("tsc.multiplier_0", vmx_run(&code_rdtsc), RUN_FAILED + 7);
    vmwrite(VMCS_TSC_MULTIPLIER, 3ull << 48);
    before = rdtsc();
    check_tsc_at("scaled", l2_tsc(&code_rdtsc), before * 3, offset);
    vmwrite(VMCS_TSC_MULTIPLIER, 1ull << 47);
    before = rdtsc();
    check_tsc_at("halved", l2_tsc(&code_rdtsc), before / 2, offset);
}

/* --- PAUSE loops, and a step over what Umbra executes for L2 --- */

static void check_pause_loop(void)
{
    if (!vmx_has(WORD_SECONDARY, SECONDARY_PAUSE_LOOP_EXITING)) {
        note_skipped("vmx-functions.pause_loop", "not offered");
        return;
    }
    prepare();
    vmx_clear(WORD_PRIMARY, PRIMARY_PAUSE_EXITING);
    vmx_set(WORD_SECONDARY, SECONDARY_PAUSE_LOOP_EXITING);
    vmwrite(VMCS_PLE_GAP, 100);
    vmwrite(VMCS_PLE_WINDOW, 2000);
    expect("pause_loop.exits", vmx_run(&code_pauses), REASON_PAUSE);
    check("vmx-functions.pause_loop.not_at_once", l2.rcx < 99990);
    vmwrite(VMCS_PLE_WINDOW, 0x7fffffff);
    expect("pause_loop.window_too_large", vmx_run(&code_pauses), REASON_VMCALL);
}

/* MTRRcap: an MSR that L1 does not intercept here and Umbra may. */
static void check_step_over_msr(void)
{
    static u8 bitmap[PAGE_SIZE] __attribute__((aligned(4096)));

    if (!vmx_has(WORD_PRIMARY, PRIMARY_MONITOR_TRAP_FLAG)) {
        note_skipped("vmx-functions.step", "not offered");
        return;
    }
    prepare();
    vmx_set(WORD_PRIMARY, PRIMARY_MONITOR_TRAP_FLAG | PRIMARY_MSR_BITMAPS);
    vmwrite(VMCS_MSR_BITMAPS, (u64)bitmap);
    l2.rcx = MSR_IA32_MTRR_DEF_TYPE;
    expect("step.rdmsr", vmx_run(&code_rdmsr_two), REASON_MONITOR_TRAP_FLAG);
    expect("step.rdmsr_rip", vmread(VMCS_GUEST_RIP), (u64)code_rdmsr_two.at + 2);
    expect("step.nop", vmx_resume(), REASON_MONITOR_TRAP_FLAG);
    expect("step.nop_rip", vmread(VMCS_GUEST_RIP), (u64)code_rdmsr_two.at + 3);
    if (!vmx_has(WORD_SECONDARY, SECONDARY_VM_FUNCTIONS))
        return;
    prepare_functions();
    vmx_set(WORD_PRIMARY, PRIMARY_MONITOR_TRAP_FLAG);
    l2.rcx = 1;
    expect("step.vmfunc", vmx_run(&code_vmfunc_read), REASON_MONITOR_TRAP_FLAG);
    expect("step.vmfunc_rip", vmread(VMCS_GUEST_RIP), (u64)code_vmfunc_read.at);
}

void group_vmx_functions(void)
{
    if (!vmx_start("vmx-functions"))
        return;
    check_vm_functions();
    if (vmx_has(WORD_SECONDARY, SECONDARY_EPT_VIOLATION_VE)) {
        check_ve();
        if (vmx_has(WORD_SECONDARY, SECONDARY_VM_FUNCTIONS))
            check_ve_and_functions();
    } else {
        note_skipped("vmx-functions.ve", "not offered");
    }
    check_pml();
    check_invalid();
    check_xsaves();
    check_tsc();
    check_pause_loop();
    check_step_over_msr();
    vmx_stop();
}
