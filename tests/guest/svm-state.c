/* SPDX-License-Identifier: MIT */
/*
 * Group svm-state: what of L2's state is taken from the VMCB at a VMRUN: fields that L1 does not call clean,
 * more VMCBs and more nested trees than anyone keeps, each with its own; CR8 while GIF is 0; virtual VMLOAD
 * and VMSAVE. Source: APM vol. 2 15.5.2, 15.15, 15.16, 15.17, 15.33.1.
 */
#include "tests/guest/svm.h"

L2_CODE(code_nothing, "", "nop");
L2_CODE(code_cpuid, "", "cpuid");
L2_CODE(code_out, "", "out %al, $0x80");
L2_CODE(code_read, "", "mov (%rbx), %rax");
L2_CODE(code_look,
        "mov %cr0, %rsi\nmov %cr2, %rdi\nmov %cr4, %r8\nmov %dr6, %r9\nmov %dr7, %r10\nmov %ds, %r11d\nsgdt "
        "(%rbx)\n"
        "movzwl (%rbx), %r12d\nsidt (%rbx)\nmovzwl (%rbx), %r13d\nmov %cr3, %r14",
        "nop");
L2_CODE(code_vmload, "", "vmload %rax");
L2_CODE(code_vmsave, "", "vmsave %rax");

enum { MANY = 20, PAGE_TEST = 8 };

static u64 data[512] __attribute__((aligned(4096)));
static struct vmcb many[MANY] __attribute__((aligned(4096)));
static u8 other_io_map[3 * PAGE_SIZE] __attribute__((aligned(4096)));
static struct tree {
    u64 pml4[512], pdpt[512], directory[512], window[512], page[512];
} trees[MANY] __attribute__((aligned(4096)));

/* --- clean bits --- */

#define CLEAN_PERMISSION_MAPS BIT(1)
#define CLEAN_TABLES          BIT(7) /* GDT, IDT */
#define CLEAN_SEGMENTS        BIT(8)

/* After a run in which all was new: only what is not called clean has changed. */
static void prepare(u32 changed)
{
    svm_reset();
    l2.rbx = (u64)data;
    (void)svm_run(&code_nothing);
    vmcb.control.clean = ~changed;
}

static void look(const char *name, const u64 *value, u64 want)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "svm-state.clean.%s", name);
    check_part(prefix, "exit", svm_run(&code_look), VMEXIT_VMMCALL);
    check_part(prefix, "value", *value, want);
    /* The next run finds it as L2 left it. */
    vmcb.control.clean = ~0u;
    check_part(prefix, "again", svm_run(&code_look), VMEXIT_VMMCALL);
    check_part(prefix, "kept", *value, want);
}

static void check_clean_state(void)
{
    prepare(CLEAN_CRX);
    vmcb.save.cr0 |= CR0_TS;
    look("cr0", &l2.rsi, read_cr0() | CR0_TS);
    prepare(CLEAN_CRX);
    vmcb.save.cr4 |= CR4_PGE;
    look("cr4", &l2.r8, read_cr4() | CR4_PGE);
    prepare(CLEAN_CRX);
    vmcb.save.cr3 |= 0x18;
    look("cr3", &l2.r14, read_cr3() | 0x18);
    prepare(CLEAN_CR2);
    vmcb.save.cr2 = 0x98765000;
    look("cr2", &l2.rdi, 0x98765000);
    prepare(CLEAN_DRX);
    vmcb.save.dr6 = 0xffff4ff0;
    look("dr6", &l2.r9, 0xffff4ff0);
    prepare(CLEAN_DRX);
    vmcb.save.dr7 = 0x600;
    look("dr7", &l2.r10, 0x600);
    prepare(CLEAN_SEGMENTS);
    vmcb.save.ds.selector = SEL_USER_DATA;
    look("ds", &l2.r11, SEL_USER_DATA);
    prepare(CLEAN_TABLES);
    vmcb.save.gdtr.limit = 0x4f;
    look("gdtr", &l2.r12, 0x4f);
    prepare(CLEAN_TABLES);
    vmcb.save.idtr.limit = 0x7ff;
    look("idtr", &l2.r13, 0x7ff);
}

static void check_clean_control(void)
{
    prepare(CLEAN_INTERCEPTS);
    svm_intercept(VMEXIT_CPUID);
    check_eq("svm-state.clean.intercept", svm_run(&code_cpuid), VMEXIT_CPUID);
    vmcb.control.clean = ~(u32)CLEAN_INTERCEPTS;
    svm_allow(VMEXIT_CPUID);
    check_eq("svm-state.clean.no_intercept", svm_run(&code_cpuid), VMEXIT_VMMCALL);
    svm_reset();
    svm_intercept(VMEXIT_IOIO);
    check_eq("svm-state.clean.map_open", svm_run(&code_out), VMEXIT_VMMCALL);
    memset(other_io_map, 0, sizeof(other_io_map));
    other_io_map[0x80 / 8] = 1;
    vmcb.control.iopm_base_pa = (u64)other_io_map;
    vmcb.control.clean = ~(u32)CLEAN_PERMISSION_MAPS;
    check_eq("svm-state.clean.other_map", svm_run(&code_out), VMEXIT_IOIO);
    /* The map's content is never cached. */
    other_io_map[0x80 / 8] = 0;
    vmcb.control.clean = ~0u;
    check_eq("svm-state.clean.map_opened", svm_run(&code_out), VMEXIT_VMMCALL);
    prepare(CLEAN_TPR);
    vmcb.control.v_intr = V_IRQ | V_IGN_TPR | 0x51ull << 32;
    vmcb.save.rflags |= RFLAGS_IF;
    check_eq("svm-state.clean.virtual_interrupt", svm_run_vector(&code_nothing), L2_VECTOR + 0x51);
    prepare(CLEAN_ASID);
    vmcb.control.asid = 3;
    check_eq("svm-state.clean.asid", svm_run(&code_nothing), VMEXIT_VMMCALL);
    /* No bit covers these. */
    prepare(0);
    vmcb.control.event_inj = EVENT_VALID | EVENT_TYPE_INTR | 0x52;
    check_eq("svm-state.clean.event", svm_run_vector(&code_nothing), L2_VECTOR + 0x52);
    prepare(0);
    vmcb.save.rflags |= RFLAGS_TF;
    check_eq("svm-state.clean.rflags", svm_run(&code_look), VMEXIT_EXCP0 + EXC_DB);
    prepare(0);
    vmcb.save.rsp -= 0x100;
    check_eq("svm-state.clean.rsp_exit", svm_run(&code_nothing), VMEXIT_VMMCALL);
    check_eq("svm-state.clean.rsp", vmcb.save.rsp, (u64)l2_stack + PAGE_SIZE - 64 - 0x100);
    /* What VMRUN refuses is refused again, and the next one that is good runs. */
    prepare(CLEAN_ASID);
    vmcb.control.asid = 0;
    check_eq("svm-state.clean.refused", svm_run(&code_nothing), VMEXIT_INVALID);
    prepare(CLEAN_CRX);
    vmcb.save.cr0 |= BIT(40);
    check_eq("svm-state.clean.refused_cr0", svm_run(&code_nothing), VMEXIT_INVALID);
    svm_reset();
    check_eq("svm-state.clean.good_again", svm_run(&code_nothing), VMEXIT_VMMCALL);
}

/* --- many VMCBs, many trees --- */

static void build_tree(struct tree *tree, u64 value)
{
    memcpy(tree->pml4, npt_pml4, PAGE_SIZE);
    memcpy(tree->pdpt, npt_pdpt, PAGE_SIZE);
    memset(tree->directory, 0, PAGE_SIZE);
    memset(tree->window, 0, PAGE_SIZE);
    tree->pml4[0] = (u64)tree->pdpt | NPT_ALL;
    tree->pdpt[4] = (u64)tree->directory | NPT_ALL;
    tree->directory[0] = (u64)tree->window | NPT_ALL;
    tree->window[PAGE_TEST] = (u64)tree->page | NPT_ALL;
    tree->page[0] = value;
}

static u64 run_one(struct vmcb *which, const struct l2_code *code)
{
    which->save.rip = (u64)code->start;
    svm_enter(&l2, (u64)which, 0);
    which->control.clean = ~0u;
    return which->control.exit_code;
}

static void check_many_vmcbs(void)
{
    svm_reset();
    for (unsigned i = 0; i < MANY; i++) {
        many[i] = vmcb;
        many[i].save.cr2 = 0x1000 * i;
        many[i].control.asid = i + 1;
    }
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < MANY; i++) {
            l2.rbx = (u64)data;
            check_eq("svm-state.many_vmcbs.exit", run_one(&many[i], &code_look), VMEXIT_VMMCALL);
            check_eq("svm-state.many_vmcbs.cr2", l2.rdi, 0x1000 * i + round);
            many[i].save.cr2++;
            many[i].control.clean &= ~(u32)CLEAN_CR2;
        }
    }
    /* A page that was a VMCB and is so again, after it was something else. */
    memset(&many[0], 0xff, sizeof(many[0]));
    (void)run_one(&many[1], &code_nothing);
    many[0] = vmcb;
    many[0].save.cr2 = 0x777;
    check_eq("svm-state.many_vmcbs.reused", run_one(&many[0], &code_look), VMEXIT_VMMCALL);
    check_eq("svm-state.many_vmcbs.reused_cr2", l2.rdi, 0x777);
}

static void check_many_trees(void)
{
    svm_reset();
    for (unsigned i = 0; i < MANY; i++) {
        build_tree(&trees[i], 0x4444000 + i);
        many[i] = vmcb;
        many[i].control.n_cr3 = (u64)trees[i].pml4;
        many[i].control.asid = i + 1;
    }
    l2.rbx = (u64)l2_window(PAGE_TEST, PTE_P | PTE_W | PTE_A | PTE_D);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < MANY; i++) {
            check_eq("svm-state.many_trees.exit", run_one(&many[i], &code_read), VMEXIT_VMMCALL);
            check_eq("svm-state.many_trees.value", many[i].save.rax, 0x4444000 + i);
            many[i].control.tlb_control = TLB_CONTROL_NOTHING;
        }
    }
    /* One VMCB takes turns with two trees, and says so. */
    for (unsigned i = 0; i < 6; i++) {
        many[0].control.n_cr3 = (u64)trees[i % 2].pml4;
        many[0].control.asid = i % 2 + 1;
        many[0].control.clean = ~(u32)(CLEAN_NP | CLEAN_ASID);
        check_eq("svm-state.turns.exit", run_one(&many[0], &code_read), VMEXIT_VMMCALL);
        check_eq("svm-state.turns.value", many[0].save.rax, 0x4444000 + i % 2);
    }
    /* L1 without nested paging in between. */
    many[1].control.nested_control = 0;
    many[1].control.clean = 0;
    check_eq("svm-state.turns.without", run_one(&many[1], &code_nothing), VMEXIT_VMMCALL);
    check_eq("svm-state.turns.with_again", run_one(&many[0], &code_read), VMEXIT_VMMCALL);
    check_eq("svm-state.turns.with_again_value", many[0].save.rax, 0x4444001);
}

/* The nested tables go by L1's registers at each VMRUN, which no clean bit covers. */
static void check_registers_of_l1(void)
{
    u64 efer = rdmsr(MSR_EFER);

    svm_reset();
    npt_window[PAGE_TEST] = (u64)data | NPT_ALL | PTE_NX;
    l2.rbx = (u64)l2_window(PAGE_TEST, PTE_P | PTE_W | PTE_A | PTE_D);
    for (unsigned round = 0; round < 2; round++) {
        check_eq("svm-state.registers.with_nxe", svm_run(&code_read), VMEXIT_VMMCALL);
        vmcb.control.clean = ~0u;
        wrmsr(MSR_EFER, efer & ~EFER_NXE);
        check_eq("svm-state.registers.without_nxe", svm_run(&code_read), VMEXIT_NPF);
        check_eq("svm-state.registers.without_nxe_info_1", vmcb.control.exit_info_1,
                 NPF_FINAL | NPF_USER | NPF_PRESENT | NPF_RESERVED);
        vmcb.control.clean = ~0u;
        wrmsr(MSR_EFER, efer);
    }
    if ((cpuid(7, 0).ebx & BIT(7)) == 0)
        return;
    /* A fetch is told where L1 has NXE or SMEP. */
    wrmsr(MSR_EFER, efer & ~EFER_NXE);
    svm_reset();
    u64 address = (u64)l2_window(PAGE_TEST, PTE_P | PTE_W | PTE_A | PTE_D);
    for (unsigned round = 0; round < 4; round++) {
        write_cr4((read_cr4() & ~CR4_SMEP) | (round % 2 != 0 ? CR4_SMEP : 0));
        vmcb.save.rip = address;
        check_eq("svm-state.registers.fetch", svm_resume(), VMEXIT_NPF);
        check_eq("svm-state.registers.fetch_info_1", vmcb.control.exit_info_1,
                 NPF_FINAL | NPF_USER | (round % 2 != 0 ? NPF_FETCH : 0));
        vmcb.control.clean = ~0u;
    }
    write_cr4(read_cr4() & ~CR4_SMEP);
    wrmsr(MSR_EFER, efer);
}

/* --- CR8 while GIF is 0 --- */

static u64 read_cr8(void)
{
    u64 value;

    __asm__ volatile("mov %%cr8, %0" : "=r"(value));
    return value;
}

static void write_cr8(u64 value)
{
    __asm__ volatile("mov %0, %%cr8" ::"r"(value));
}

static void check_task_priority(void)
{
    enum { TASK_PRIORITY = 0x80 };

    apic_init();
    write_cr8(2);
    (void)try_clgi();
    check_eq("svm-state.cr8.read", read_cr8(), 2);
    write_cr8(5);
    check_eq("svm-state.cr8.read_back", read_cr8(), 5);
    (void)try_stgi();
    check_eq("svm-state.cr8.after_stgi", read_cr8(), 5);
    check_eq("svm-state.cr8.apic", apic_read(TASK_PRIORITY), 0x50);
    /* The APIC's own register, which has more bits. */
    (void)try_clgi();
    apic_write(TASK_PRIORITY, 0x37);
    (void)try_stgi();
    check_eq("svm-state.cr8.register", apic_read(TASK_PRIORITY), 0x37);
    check_eq("svm-state.cr8.of_register", read_cr8(), 3);
    /* Across a run of L2's. */
    svm_reset();
    svm_enter_flags = ENTER_KEEP_GIF;
    (void)svm_run(&code_nothing);
    check_eq("svm-state.cr8.after_exit", read_cr8(), 3);
    write_cr8(6);
    (void)svm_run(&code_nothing);
    check_eq("svm-state.cr8.after_two", read_cr8(), 6);
    (void)try_stgi();
    check_eq("svm-state.cr8.at_last", apic_read(TASK_PRIORITY), 0x60);
    write_cr8(0);
}

/* --- virtual VMLOAD and VMSAVE: the address is L2's --- */

static void prepare_virtual(void)
{
    svm_reset();
    vmcb.control.lbr_control = BIT(1);
    npt_window[PAGE_TEST] = (u64)&many[0] | NPT_ALL;
    l2.rax = NPT_WINDOW + PAGE_TEST * PAGE_SIZE;
}

static void check_virtual_load(void)
{
    enum { SVM_HAS_VIRTUAL_VMLOAD = 1 << 15 };
    const u64 value = 0x123456000;
    u64 before = rdmsr(MSR_LSTAR);

    if (!svm_has(SVM_HAS_VIRTUAL_VMLOAD)) {
        note_skipped("svm-state.virtual_vmload", "not offered");
        return;
    }
    prepare_virtual();
    memset(&many[0], 0x5a, sizeof(many[0]));
    wrmsr(MSR_LSTAR, value);
    check_eq("svm-state.virtual.vmsave", svm_run(&code_vmsave), VMEXIT_VMMCALL);
    check_eq("svm-state.virtual.saved", many[0].save.lstar, value);
    check_eq("svm-state.virtual.rest", many[0].save.cr0, 0x5a5a5a5a5a5a5a5a);
    wrmsr(MSR_LSTAR, before);
    check_eq("svm-state.virtual.vmload", svm_run(&code_vmload), VMEXIT_VMMCALL);
    check_eq("svm-state.virtual.loaded", rdmsr(MSR_LSTAR), value);
    wrmsr(MSR_LSTAR, before);
    prepare_virtual();
    npt_window[PAGE_TEST] = 0;
    check_eq("svm-state.virtual.not_present", svm_run(&code_vmload), VMEXIT_NPF);
    check_eq("svm-state.virtual.not_present_page", vmcb.control.exit_info_2 & ~(u64)PAGE_MASK,
             NPT_WINDOW + PAGE_TEST * PAGE_SIZE);
    check_eq("svm-state.virtual.not_present_rip", vmcb.save.rip, (u64)code_vmload.at);
    npt_window[PAGE_TEST] = (u64)&many[0] | PTE_P | PTE_U;
    check_eq("svm-state.virtual.read_only_load", svm_run(&code_vmload), VMEXIT_VMMCALL);
    check_eq("svm-state.virtual.read_only_save", svm_run(&code_vmsave), VMEXIT_NPF);
    check_eq("svm-state.virtual.read_only_write", vmcb.control.exit_info_1 & NPF_WRITE, NPF_WRITE);
    wrmsr(MSR_LSTAR, before);
    /* The intercept has the first word, and a fault before it. */
    prepare_virtual();
    svm_intercept(VMEXIT_VMLOAD);
    check_eq("svm-state.virtual.intercepted", svm_run(&code_vmload), VMEXIT_VMLOAD);
    l2.rax++;
    check_eq("svm-state.virtual.odd", svm_run(&code_vmload), VMEXIT_EXCP0 + EXC_GP);
}

void group_svm_state(void)
{
    if (!svm_start("svm-state"))
        return;
    check_clean_state();
    check_clean_control();
    check_many_vmcbs();
    check_many_trees();
    check_registers_of_l1();
    check_task_priority();
    check_virtual_load();
    svm_stop();
}
