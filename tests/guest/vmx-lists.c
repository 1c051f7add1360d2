/* SPDX-License-Identifier: MIT */
/*
 * Group vmx-lists: the MSR lists of entries and exits, with each entry that must fail, and the registers that
 * controls load, save or leave alone. The groups vmx-abort-* end in a VMX abort, which is the end of the
 * machine. Source: SDM vol. 3C 27.3.2.1, 27.4, 27.8, 28.3.1, 28.4, 28.5.1, 28.6, 28.7.
 */
#include "tests/guest/vmx.h"

struct list_entry {
    u32 index, reserved;
    u64 value;
};

#define LIST_MAX       4
#define LOADING_FAILED (EXIT_REASON_ENTRY_FAILURE | REASON_ENTRY_MSR_LOADING)
#define NOT_AN_MSR     0x4fff
#define MSR_VMX_BASIC  MSR_IA32_VMX_BASIC
#define ADDRESS        0xffff800000001000ull

static struct list_entry entry_load[LIST_MAX] __attribute__((aligned(16))),
    exit_store[LIST_MAX] __attribute__((aligned(16))), exit_load[LIST_MAX] __attribute__((aligned(16)));
static u8 bitmap[PAGE_SIZE] __attribute__((aligned(4096)));

L2_CODE(code_rdmsr, "", "rdmsr");
L2_CODE(code_wrmsr, "", "wrmsr");
L2_CODE(code_nothing, "", "nop");
L2_CODE(code_read_dr7, "", "mov %dr7, %rax");

static void expect(const char *what, u64 got, u64 want)
{
    check_part("vmx-lists", what, got, want);
}

static u64 l2_value(void)
{
    return l2.rdx << 32 | (l2.rax & BITS(31, 0));
}

/* L2 may use every MSR that L1 may. */
static void prepare(void)
{
    vmx_reset();
    memset(entry_load, 0, sizeof(entry_load));
    memset(exit_store, 0, sizeof(exit_store));
    memset(exit_load, 0, sizeof(exit_load));
    memset(bitmap, 0, sizeof(bitmap));
    vmx_set(WORD_PRIMARY, PRIMARY_MSR_BITMAPS);
    vmwrite(VMCS_MSR_BITMAPS, (u64)bitmap);
    vmwrite(VMCS_ENTRY_MSR_LOAD, (u64)entry_load);
    vmwrite(VMCS_EXIT_MSR_STORE, (u64)exit_store);
    vmwrite(VMCS_EXIT_MSR_LOAD, (u64)exit_load);
}

/* --- lists --- */

static void check_lists(void)
{
    u64 lstar = rdmsr(MSR_LSTAR), cstar = rdmsr(MSR_CSTAR);

    prepare();
    wrmsr(MSR_LSTAR, ADDRESS);
    entry_load[0] = (struct list_entry){MSR_LSTAR, 0, ADDRESS + 1};
    entry_load[1] = (struct list_entry){MSR_KERNEL_GS_BASE, 0, ADDRESS + 2};
    exit_store[0] = (struct list_entry){MSR_LSTAR, 0, 0};
    exit_store[1] = (struct list_entry){MSR_KERNEL_GS_BASE, 0, 0};
    exit_load[0] = (struct list_entry){MSR_LSTAR, 0, ADDRESS + 3};
    exit_load[1] = (struct list_entry){MSR_CSTAR, 0, ADDRESS + 4};
    vmwrite(VMCS_ENTRY_MSR_LOAD_COUNT, 2);
    vmwrite(VMCS_EXIT_MSR_STORE_COUNT, 2);
    vmwrite(VMCS_EXIT_MSR_LOAD_COUNT, 2);
    l2.rcx = MSR_LSTAR;
    expect("load", vmx_run(&code_rdmsr), REASON_VMCALL);
    expect("load.in_l2", l2_value(), ADDRESS + 1);
    expect("store", exit_store[0].value, ADDRESS + 1);
    expect("store.second", exit_store[1].value, ADDRESS + 2);
    expect("store.index_kept", exit_store[1].index, MSR_KERNEL_GS_BASE);
    expect("exit_load", rdmsr(MSR_LSTAR), ADDRESS + 3);
    expect("exit_load.second", rdmsr(MSR_CSTAR), ADDRESS + 4);
    expect("entry_load.stays", rdmsr(MSR_KERNEL_GS_BASE), ADDRESS + 2);
    /* What L2 itself writes is what is stored. */
    l2.rcx = MSR_KERNEL_GS_BASE;
    l2.rax = 0x77;
    l2.rdx = 0;
    expect("l2_writes", vmx_run(&code_wrmsr), REASON_VMCALL);
    expect("l2_writes.stored", exit_store[1].value, 0x77);
    /* The registers that the VMCS has fields for, too. */
    exit_store[0] = (struct list_entry){MSR_EFER, 0, 0};
    exit_store[1] = (struct list_entry){MSR_IA32_SYSENTER_EIP, 0, 0};
    entry_load[0] = (struct list_entry){MSR_IA32_SYSENTER_EIP, 0, ADDRESS + 5};
    entry_load[1] = (struct list_entry){MSR_IA32_TSC, 0, rdtsc() + BIT(40)};
    exit_load[0] = (struct list_entry){MSR_IA32_SYSENTER_ESP, 0, ADDRESS + 6};
    u64 before = rdtsc();
    expect("fields", vmx_run(&code_nothing), REASON_VMCALL);
    expect("fields.efer", exit_store[0].value, rdmsr(MSR_EFER));
    expect("fields.sysenter_eip", exit_store[1].value, ADDRESS + 5);
    expect("fields.sysenter_esp", rdmsr(MSR_IA32_SYSENTER_ESP), ADDRESS + 6);
    expect("fields.sysenter_eip_of_l1", rdmsr(MSR_IA32_SYSENTER_EIP), 0);
    check("vmx-lists.fields.tsc", rdtsc() - before >= BIT(39));
    wrmsr(MSR_LSTAR, lstar);
    wrmsr(MSR_CSTAR, cstar);
    wrmsr(MSR_KERNEL_GS_BASE, 0);
    wrmsr(MSR_IA32_SYSENTER_ESP, 0);
}

/* --- entries of the list that fail --- */

static const struct {
    const char *name;
    struct list_entry entry;
} bad_loads[] = {
    {"fs_base", {MSR_FS_BASE, 0, 0}},
    {"gs_base", {MSR_GS_BASE, 0, 0}},
    {"x2apic", {MSR_X2APIC_SVR, 0, 0}},
    {"reserved", {MSR_LSTAR, 1, 0}},
    {"unknown", {NOT_AN_MSR, 0, 0}},
    {"read_only", {MSR_VMX_BASIC, 0, 0}},
    {"not_canonical", {MSR_LSTAR, 0, BIT(60)}},
    {"sysenter_not_canonical", {MSR_IA32_SYSENTER_EIP, 0, BIT(60)}},
    {"pat", {MSR_IA32_PAT, 0, 2}},
    {"efer_reserved", {MSR_EFER, 0, BIT(1)}},
    {"efer_lme_with_paging", {MSR_EFER, 0, EFER_SCE}},
    {"microcode", {MSR_IA32_BIOS_UPDT_TRIG, 0, 0}},
};

/*
 * The virtual TPR is looked at before the list, also if no field has changed since the last entry; and the
 * list leaves nothing behind in the VMCS.
 */
static void check_refused_before_list(void)
{
    static u8 vapic[PAGE_SIZE] __attribute__((aligned(4096)));

    if (!vmx_has(WORD_PRIMARY, PRIMARY_TPR_SHADOW)) {
        note_skipped("vmx-lists.refused", "not offered");
        return;
    }
    prepare();
    vmx_set(WORD_PRIMARY, PRIMARY_TPR_SHADOW);
    vmwrite(VMCS_VIRTUAL_APIC, (u64)vapic);
    vmwrite(VMCS_TPR_THRESHOLD, 3);
    vapic[0x80] = 0x50;
    entry_load[0] = (struct list_entry){MSR_KERNEL_GS_BASE, 0, ADDRESS};
    vmwrite(VMCS_ENTRY_MSR_LOAD_COUNT, 1);
    expect("refused.not_yet", vmx_run(&code_nothing), REASON_VMCALL);
    wrmsr(MSR_KERNEL_GS_BASE, ADDRESS + 1);
    vapic[0x80] = 0x20;
    expect("refused.error", vmx_run(&code_nothing), RUN_FAILED + 7);
    expect("refused.list_not_loaded", rdmsr(MSR_KERNEL_GS_BASE), ADDRESS + 1);
    vapic[0x80] = 0x30;
    expect("refused.good_again", vmx_run(&code_nothing), REASON_VMCALL);
    expect("refused.then_loaded", rdmsr(MSR_KERNEL_GS_BASE), ADDRESS);
    wrmsr(MSR_KERNEL_GS_BASE, 0);
}

/* Which bits of IA32_DEBUGCTL a CPU has, only WRMSR tells; a list takes the same. */
static void check_debugctl_bits(void)
{
    u64 before;

    if (try_rdmsr(MSR_IA32_DEBUGCTL, &before) != NO_FAULT) {
        note_skipped("vmx-lists.debugctl", "no such MSR");
        return;
    }
    for (unsigned bit = 0; bit < 16; bit++) {
        char name[32];
        bool taken = try_wrmsr(MSR_IA32_DEBUGCTL, BIT(bit)) == NO_FAULT;
        print_to(name, sizeof(name), "debugctl.bit%u", bit);
        prepare();
        entry_load[0] = (struct list_entry){MSR_IA32_DEBUGCTL, 0, BIT(bit)};
        vmwrite(VMCS_ENTRY_MSR_LOAD_COUNT, 1);
        expect(name, vmx_run(&code_nothing), taken ? REASON_VMCALL : LOADING_FAILED);
    }
    (void)try_wrmsr(MSR_IA32_DEBUGCTL, before);
}

static void check_bad_loads(void)
{
    char prefix[64];

    for (unsigned i = 0; i < ARRAY_SIZE(bad_loads); i++) {
        print_to(prefix, sizeof(prefix), "vmx-lists.bad.%s", bad_loads[i].name);
        prepare();
        entry_load[0] = (struct list_entry){MSR_CSTAR, 0, ADDRESS + i};
        entry_load[1] = bad_loads[i].entry;
        exit_store[0] = (struct list_entry){MSR_CSTAR, 0, 0x1234};
        exit_load[0] = (struct list_entry){MSR_LSTAR, 0, ADDRESS + 16 + i};
        vmwrite(VMCS_ENTRY_MSR_LOAD_COUNT, 3);
        vmwrite(VMCS_EXIT_MSR_STORE_COUNT, 1);
        vmwrite(VMCS_EXIT_MSR_LOAD_COUNT, 1);
        vmwrite(VMCS_ENTRY_INTERRUPTION, INTERRUPTION_VALID | INTERRUPTION_HARDWARE | EXC_UD);
        vmwrite(VMCS_GUEST_RSP, 0x5555);
        check_part(prefix, "reason", vmx_run(&code_nothing), LOADING_FAILED);
        check_part(prefix, "qualification", vmread(VMCS_EXIT_QUALIFICATION), 2);
        check_part(prefix, "first_loaded", rdmsr(MSR_CSTAR), ADDRESS + i);
        check_part(prefix, "exit_load_done", rdmsr(MSR_LSTAR), ADDRESS + 16 + i);
        check_part(prefix, "nothing_stored", exit_store[0].value, 0x1234);
        check_part(prefix, "event_kept", vmread(VMCS_ENTRY_INTERRUPTION),
                   INTERRUPTION_VALID | INTERRUPTION_HARDWARE | EXC_UD);
        check_part(prefix, "state_kept", vmread(VMCS_GUEST_RSP), 0x5555);
    }
    prepare();
    expect("good_again", vmx_run(&code_nothing), REASON_VMCALL);
    /* The launch state does not change by an entry that failed (SDM vol. 3C 27.8). */
    (void)try_vmclear((u64)vmcs_region);
    (void)try_vmptrld((u64)vmcs_region);
    prepare();
    entry_load[0] = (struct list_entry){NOT_AN_MSR, 0, 0};
    vmwrite(VMCS_ENTRY_MSR_LOAD_COUNT, 1);
    expect("launch.fails", vmx_run(&code_nothing), LOADING_FAILED);
    expect("launch.first_entry", vmread(VMCS_EXIT_QUALIFICATION), 1);
    vmwrite(VMCS_ENTRY_MSR_LOAD_COUNT, 0);
    expect("launch.still_clear", vmx_run(&code_nothing), REASON_VMCALL);
    /* A list in no memory reads as ones: reserved bits are set. */
    prepare();
    vmwrite(VMCS_ENTRY_MSR_LOAD, BIT(physical_bits - 1));
    vmwrite(VMCS_ENTRY_MSR_LOAD_COUNT, 1);
    expect("no_memory", vmx_run(&code_nothing), LOADING_FAILED);
    expect("no_memory.qualification", vmread(VMCS_EXIT_QUALIFICATION), 1);
}

/* --- registers that controls switch --- */

static void check_pat(void)
{
    u64 pat = rdmsr(MSR_IA32_PAT), other = 0x0007040600070404, third = 0x0006040600070406;

    for (unsigned entry = 0; entry < 2; entry++) {
        for (unsigned exit = 0; exit < 4; exit++) {
            char prefix[64];
            bool load = (exit & 1) != 0, save = (exit & 2) != 0;
            u64 in_l2 = entry ? other : pat;
            print_to(prefix, sizeof(prefix), "vmx-lists.pat.entry%u_load%u_save%u", entry, load, save);
            prepare();
            if (!entry)
                vmx_clear(WORD_ENTRY, ENTRY_LOAD_PAT);
            if (!load)
                vmx_clear(WORD_EXIT, EXIT_LOAD_PAT);
            if (!save)
                vmx_clear(WORD_EXIT, EXIT_SAVE_PAT);
            vmwrite(VMCS_GUEST_PAT, other);
            vmwrite(VMCS_HOST_PAT, pat);
            l2.rcx = MSR_IA32_PAT;
            check_part(prefix, "reason", vmx_run(&code_rdmsr), REASON_VMCALL);
            check_part(prefix, "in_l2", l2_value(), in_l2);
            check_part(prefix, "in_l1", rdmsr(MSR_IA32_PAT), load ? pat : in_l2);
            wrmsr(MSR_IA32_PAT, pat);
            l2.rax = (u32)third;
            l2.rdx = third >> 32;
            check_part(prefix, "write", vmx_run(&code_wrmsr), REASON_VMCALL);
            check_part(prefix, "saved", vmread(VMCS_GUEST_PAT), save ? third : other);
            check_part(prefix, "written_in_l1", rdmsr(MSR_IA32_PAT), load ? pat : third);
            wrmsr(MSR_IA32_PAT, pat);
        }
    }
}

static void check_efer(void)
{
    u64 efer = rdmsr(MSR_EFER), other = efer ^ EFER_SCE;

    for (unsigned controls = 0; controls < 8; controls++) {
        char prefix[64];
        bool entry = (controls & 1) != 0, load = (controls & 2) != 0, save = (controls & 4) != 0;
        u64 in_l2 = entry ? other : efer;
        print_to(prefix, sizeof(prefix), "vmx-lists.efer.entry%u_load%u_save%u", entry, load, save);
        prepare();
        if (!entry)
            vmx_clear(WORD_ENTRY, ENTRY_LOAD_EFER);
        if (!load)
            vmx_clear(WORD_EXIT, EXIT_LOAD_EFER);
        if (!save)
            vmx_clear(WORD_EXIT, EXIT_SAVE_EFER);
        vmwrite(VMCS_GUEST_EFER, other);
        l2.rcx = MSR_EFER;
        check_part(prefix, "reason", vmx_run(&code_rdmsr), REASON_VMCALL);
        check_part(prefix, "in_l2", l2_value(), in_l2);
        check_part(prefix, "saved", vmread(VMCS_GUEST_EFER), save ? in_l2 : other);
        check_part(prefix, "in_l1", rdmsr(MSR_EFER), load ? efer : in_l2);
        wrmsr(MSR_EFER, efer);
    }
}

/* DR7 and IA32_DEBUGCTL: an exit always resets both for L1. */
static void check_debug_registers(void)
{
    for (unsigned controls = 0; controls < 4; controls++) {
        char prefix[64];
        bool load = (controls & 1) != 0, save = (controls & 2) != 0;
        print_to(prefix, sizeof(prefix), "vmx-lists.debug.load%u_save%u", load, save);
        if ((!load && (vmx_required(WORD_ENTRY) & ENTRY_LOAD_DEBUG) != 0) ||
            (!save && (vmx_required(WORD_EXIT) & EXIT_SAVE_DEBUG) != 0))
            continue;
        prepare();
        if (!load)
            vmx_clear(WORD_ENTRY, ENTRY_LOAD_DEBUG);
        if (!save)
            vmx_clear(WORD_EXIT, EXIT_SAVE_DEBUG);
        vmwrite(VMCS_GUEST_DR7, 0x755);
        __asm__ volatile("mov %0, %%dr7" ::"r"(0x401ull));
        check_part(prefix, "reason", vmx_run(&code_read_dr7), REASON_VMCALL);
        check_part(prefix, "in_l2", l2.rax, load ? 0x755 : 0x401);
        check_part(prefix, "saved", vmread(VMCS_GUEST_DR7), save && !load ? 0x401 : 0x755);
        u64 dr7;
        __asm__ volatile("mov %%dr7, %0" : "=r"(dr7));
        check_part(prefix, "in_l1", dr7, 0x400);
        if (try_rdmsr(MSR_IA32_DEBUGCTL, &dr7) == NO_FAULT)
            check_part(prefix, "debugctl_of_l1", dr7, 0);
    }
}

/* PKRS and CET, where the CPU has them. */
static void check_supervisor_state(const char *name, u64 entry, u64 exit, u32 msr, enum vmcs_field guest,
                                   enum vmcs_field host, u64 value)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "vmx-lists.%s", name);
    if (!vmx_has(WORD_ENTRY, entry) || !vmx_has(WORD_EXIT, exit)) {
        note_skipped(prefix, "not offered");
        return;
    }
    prepare();
    for (unsigned on = 0; on < 2; on++) {
        if (on) {
            vmx_set(WORD_ENTRY, entry);
            vmx_set(WORD_EXIT, exit);
        }
        vmwrite(guest, value);
        vmwrite(host, value * 2);
        wrmsr(msr, value * 4);
        l2.rcx = msr;
        check_part(prefix, on ? "reason" : "off_reason", vmx_run(&code_rdmsr), REASON_VMCALL);
        check_part(prefix, on ? "in_l2" : "off_in_l2", l2_value(), on ? value : value * 4);
        check_part(prefix, on ? "in_l1" : "off_in_l1", rdmsr(msr), on ? value * 2 : value * 4);
        l2.rax = (u32)value * 3;
        l2.rdx = 0;
        check_part(prefix, on ? "write" : "off_write", vmx_run(&code_wrmsr), REASON_VMCALL);
        check_part(prefix, on ? "saved" : "off_saved", vmread(guest), value * 3);
    }
    wrmsr(msr, 0);
}

void group_vmx_lists(void)
{
    if (!vmx_start("vmx-lists"))
        return;
    check_lists();
    check_bad_loads();
    check_refused_before_list();
    check_debugctl_bits();
    check_pat();
    check_efer();
    check_debug_registers();
    check_supervisor_state("pkrs", ENTRY_LOAD_PKRS, EXIT_LOAD_PKRS, MSR_IA32_PKRS, VMCS_GUEST_PKRS,
                           VMCS_HOST_PKRS, 5);
    check_supervisor_state("ssp_table", ENTRY_LOAD_CET, EXIT_LOAD_CET, MSR_IA32_INTERRUPT_SSP_TABLE,
                           VMCS_GUEST_INTERRUPT_SSP_TABLE, VMCS_HOST_INTERRUPT_SSP_TABLE, 0x1000);
    vmx_stop();
}

/* --- aborts --- */

static void abort_start(const char *group)
{
    if (!vmx_start(group))
        give_up("there is VMX");
    prepare();
    print("guest: VMX abort follows\n");
}

/* Indicator 1: an MSR that cannot be stored. */
void group_vmx_abort_store(void)
{
    abort_start("vmx-abort-store");
    exit_store[0] = (struct list_entry){NOT_AN_MSR, 0, 0};
    vmwrite(VMCS_EXIT_MSR_STORE_COUNT, 1);
    (void)vmx_run(&code_nothing);
    check("the exit does not come back", false);
}

/* Indicator 4: an MSR that cannot be loaded. (Indicator 2 is in vmx-modes.c.) */
void group_vmx_abort_load(void)
{
    abort_start("vmx-abort-load");
    exit_load[0] = (struct list_entry){MSR_LSTAR, 0, BIT(60)};
    vmwrite(VMCS_EXIT_MSR_LOAD_COUNT, 1);
    (void)vmx_run(&code_nothing);
    check("the exit does not come back", false);
}
