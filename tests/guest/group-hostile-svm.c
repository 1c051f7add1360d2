/* SPDX-License-Identifier: MIT */
/*
 * Group `hostile-svm`: an L1 that uses SVM as no sane hypervisor does: VMCBs that are valid but for a few
 * random words, clean bits that lie, garbage in VMCB memory, random nested tables that L1 and L2 change
 * meanwhile, instructions with random operands, L2s of random code. It ends well if L1 reaches the end with
 * its own state and memory as they were. Repeatable (where the timer is): seed=N, steps=N, from=N.
 */
#include "tests/guest/hostile.h"
#include "tests/guest/svm.h"

enum { L2_LIMIT = 20000 }; /* ticks of the local APIC's timer */

static struct {
    struct vmcb plain; /* as the episode begins */
    u64 current;
    bool nested_paging;
} run;
static struct hostile_result result;

/* L1's own pages, which no table leads L2 to: they decide what L2's ports and MSRs are. */
static u8 io_map[3 * PAGE_SIZE] __attribute__((aligned(4096))),
    msr_map[2 * PAGE_SIZE] __attribute__((aligned(4096))),
    own_state[PAGE_SIZE] __attribute__((aligned(4096)));

static struct vmcb *current(void)
{
    return (struct vmcb *)run.current;
}

/* --- a VMCB that can be entered --- */

static void write_maps(void)
{
    static const u16 ports[] = {0x80, 0x84, 0xed, 0x86};

    memset(io_map, 0xff, sizeof(io_map));
    memset(msr_map, 0xff, sizeof(msr_map));
    for (unsigned i = 0; i < ARRAY_SIZE(ports); i++)
        io_map[ports[i] / 8] &= (u8) ~(hostile_chance(50) << ports[i] % 8);
    for (unsigned i = 0; i < 24; i++) {
        u32 msr = hostile_msr(), bit = (msr & 0x1fff) * 2 + hostile_below(2);
        if (msr < 0x2000)
            msr_map[bit / 8] &= (u8) ~(1 << bit % 8);
        else if (msr >= 0xc0000000 && msr < 0xc0002000)
            msr_map[0x800 + bit / 8] &= (u8) ~(1 << bit % 8);
    }
    for (unsigned page = 0; page < LIST_PAGES; page++) {
        u64 *words = (u64 *)play_page(PAGE_LISTS + page);
        for (unsigned i = hostile_below(64); i < 512; i += 1 + hostile_below(64))
            words[i] = hostile_odd_value();
    }
}

static struct vmcb_segment segment(u16 selector, u16 attributes, u64 base, u32 limit)
{
    return (struct vmcb_segment){
        .selector = selector, .attributes = attributes, .limit = limit, .base = base};
}

static void set_segments(struct vmcb_save *save, struct vmcb_segment code, struct vmcb_segment data)
{
    save->cs = code;
    save->ss = save->ds = save->es = save->fs = save->gs = data;
}

/* One of the modes that an L2 can be in: 64-bit in rings 0 and 3, real, and 32-bit with each kind of paging.
 */
static void set_mode(struct vmcb_save *save)
{
    const u64 without_long_mode = ~(EFER_LME | EFER_LMA | EFER_NXE);

    save->cr3 = play_page(PAGE_L2_TABLES);
    unsigned mode = hostile_below(8);
    if (!run.nested_paging && mode < 2)
        mode = 7; /* without any tables L2 would have L1's memory */
    if (mode < 4) {
        save->efer &= without_long_mode;
        set_segments(save, segment(SEL_CODE32, 0xc9b, 0, 0xffffffff),
                     segment(SEL_DATA, 0xc93, 0, 0xffffffff));
    }
    switch (mode) {
    case 0: /* real mode */
        save->cr0 &= ~(CR0_PG | CR0_PE);
        set_segments(save, segment(0, 0x9b, PLAYGROUND, 0xffff), segment(0, 0x93, PLAYGROUND, 0xffff));
        save->rsp = 0x7f00;
        save->rip = hostile_below(CODE_PAGES * PAGE_SIZE);
        break;
    case 1:
        save->cr0 &= ~CR0_PG;
        break;
    case 2: /* PAE */
        save->cr3 = play_page(PAGE_L2_TABLES + 4);
        break;
    case 3: /* 32-bit paging */
        save->cr3 = play_page(PAGE_L2_TABLES + 5);
        save->cr4 = (save->cr4 & ~CR4_PAE) | CR4_PSE;
        break;
    case 4:
        set_segments(save, segment(SEL_USER_CODE64, 0xafb, 0, 0xffffffff),
                     segment(SEL_USER_DATA, 0xcf3, 0, 0xffffffff));
        save->cpl = 3;
        break;
    default:
        break;
    }
}

static void set_control(struct vmcb_control *control)
{
    for (unsigned word = 0; word < VMCB_INTERCEPT_WORDS; word++)
        control->intercept[word] = hostile_chance(40) ? 0 : (u32)(hostile_random() & hostile_random());
    if (hostile_chance(60))
        control->intercept[VMCB_INTERCEPT_EXCEPTIONS] = 0;
    control->tlb_control = TLB_CONTROL_FLUSH_ALL;
    control->asid = 1 + hostile_below(4);
    control->n_cr3 = play_page(PAGE_NESTED + hostile_below(NESTED_ROOTS));
    control->nested_control = run.nested_paging ? NP_ENABLE : 0;
    if (run.nested_paging && svm_has(SVM_HAS_GMET) && hostile_chance(50))
        control->nested_control |= GMET_ENABLE;
    if (hostile_chance(25))
        control->v_intr |= V_IRQ | (u64)(32 + hostile_below(224)) << 32 | (u64)hostile_below(16) << 16;
}

/*
 * TCG does not load the host's CR0 at an exit from an L2 with EFER.LME = 1, CR0.PG = 0 and CR4.PAE = 0, which
 * is a state like any other (APM vol. 2 14.6.1), and goes on in Umbra without paging. It ends itself when
 * L2 writes CR8 while a virtual interrupt waits, and when the trap of an HLT or MWAIT with RFLAGS.TF
 * cannot be delivered.
 */
static void guard_against_tcg(struct vmcb *vmcb12)
{
    vmcb12->control.intercept[0] |= 1u << (VMEXIT_CR0_WRITE + 8);
    vmcb12->control.intercept[EXIT_HLT / 32] |= 1u << EXIT_HLT % 32;
    vmcb12->control.intercept[EXIT_MWAIT / 32] |= 1u << EXIT_MWAIT % 32;
    if ((vmcb12->save.efer & EFER_LME) == 0)
        return;
    if ((vmcb12->save.cr0 & CR0_PG) == 0)
        vmcb12->save.efer &= ~(EFER_LME | EFER_LMA);
    vmcb12->control.intercept[0] |= 1u << (VMEXIT_CR0_WRITE + 4);
}

/*
 * L2's own tables, which it cannot reach, are all that keeps it in the playground: a random directory entry
 * of 32-bit paging maps 4 MByte of anything. TCG besides waits for itself where L2 executes a page that is
 * a table of its own.
 */
static void guard_without_nested_paging(struct vmcb *vmcb12)
{
    struct vmcb_control *control = &vmcb12->control;
    struct vmcb_save *save = &vmcb12->save;

    control->intercept[0] |=
        1u << VMEXIT_CR0_WRITE | 1u << (VMEXIT_CR0_WRITE + 3) | 1u << (VMEXIT_CR0_WRITE + 4);
    control->intercept[EXIT_TASK_SWITCH / 32] |= 1u << EXIT_TASK_SWITCH % 32;
    control->intercept[VMEXIT_VMSAVE / 32] |= 1u << VMEXIT_VMSAVE % 32;
    if (hostile_l2_tables_reachable())
        hostile_write_l2_tables(false);
    save->cr0 |= CR0_PG | CR0_PE | CR0_WP;
    save->cr4 &= ~CR4_LA57;
    /* In long mode also where no memory is. */
    if ((save->efer & EFER_LME) == 0)
        save->cr3 = play_page(PAGE_L2_TABLES + ((save->cr4 & CR4_PAE) != 0 ? 4 : 5));
    else if ((save->cr3 & BITS(51, 32)) == 0)
        save->cr3 = play_page(PAGE_L2_TABLES);
}

/*
 * What any L2 of ours needs lest it take L1 with it: a way to stop it, intercepts for all that is not its
 * own, and no way out of the playground.
 */
static void guard(struct vmcb *vmcb12)
{
    guard_against_tcg(vmcb12);

    static const u16 always[] = {VMEXIT_INTR, VMEXIT_SHUTDOWN, VMEXIT_VMRUN,
                                 VMEXIT_CLGI, VMEXIT_IOIO,     VMEXIT_MSR};
    struct vmcb_control *control = &vmcb12->control;

    for (unsigned i = 0; i < ARRAY_SIZE(always); i++)
        control->intercept[always[i] / 32] |= 1u << always[i] % 32;
    control->v_intr |= V_INTR_MASKING;
    /* In the playground, or in any other memory, the maps would have holes; no memory reads as ones. */
    if (boot_is_ram(control->iopm_base_pa & ~PAGE_MASK, PAGE_SIZE) || control->iopm_base_pa < MIB(1))
        control->iopm_base_pa = (u64)io_map;
    if (boot_is_ram(control->msrpm_base_pa & ~PAGE_MASK, PAGE_SIZE) || control->msrpm_base_pa < MIB(1))
        control->msrpm_base_pa = (u64)msr_map;
    if ((control->nested_control & NP_ENABLE) != 0) {
        if (boot_is_ram(control->n_cr3 & BITS(51, 12), PAGE_SIZE) && control->n_cr3 - PLAYGROUND >= MIB(2))
            control->n_cr3 = play_page(PAGE_NESTED);
        return;
    }
    guard_without_nested_paging(vmcb12);
}

static void begin_episode(void)
{
    struct vmcb_save *save = &run.plain.save;

    run.nested_paging = hostile_chance(85);
    write_maps();
    hostile_write_nested();
    hostile_write_l2_tables(run.nested_paging);
    hostile_write_descriptors();
    hostile_write_code(hostile_below(CODE_PAGES));
    svm_reset();
    memcpy(&run.plain, &vmcb, sizeof(vmcb));
    set_control(&run.plain.control);
    run.plain.control.iopm_base_pa = (u64)io_map;
    run.plain.control.msrpm_base_pa = (u64)msr_map;
    save->gdtr.base = play_page(PAGE_GDT);
    save->idtr.base = play_page(PAGE_IDT);
    save->rsp = play_page(PAGE_STACK) + 0x800;
    save->rip = hostile_code_address();
    save->rflags = 2 | (hostile_chance(50) ? RFLAGS_IF : 0);
    set_mode(save);
    guard(&run.plain);
    run.current = play_page(PAGE_CONTROL + hostile_below(CONTROL_PAGES));
    memcpy(current(), &run.plain, sizeof(run.plain));
}

/* --- random VMCBs --- */

static u64 random_event(void)
{
    if (hostile_chance(20))
        return hostile_odd_value();
    return EVENT_VALID | (u64)hostile_below(5) << 8 | (hostile_chance(40) ? EVENT_ERROR_VALID : 0) |
           hostile_below(hostile_chance(70) ? 32 : 256) | hostile_random() << 32;
}

static void change_control(struct vmcb_control *control)
{
    switch (hostile_below(12)) {
    case 0:
        control->iopm_base_pa = hostile_pointer();
        break;
    case 1:
        control->msrpm_base_pa = hostile_pointer();
        break;
    case 2:
        control->asid = hostile_chance(80) ? hostile_below(20) : (u32)hostile_odd_value();
        break;
    case 3:
        control->tlb_control = (u8)hostile_below(hostile_chance(80) ? 8 : 256);
        break;
    case 4:
        control->v_intr ^= BIT(hostile_below(64));
        break;
    case 5:
        control->nested_control ^= BIT(hostile_below(8));
        break;
    case 6:
        control->n_cr3 =
            hostile_chance(70) ? play_page(PAGE_NESTED + hostile_below(NESTED_PAGES)) : hostile_pointer();
        break;
    case 7:
        control->event_inj = random_event();
        break;
    case 8:
        control->interrupt_state = hostile_below(4);
        break;
    case 9:
        control->lbr_control ^= BIT(hostile_below(4));
        break;
    case 10:
        control->intercept[hostile_below(VMCB_INTERCEPT_WORDS)] = (u32)hostile_random();
        break;
    default:
        ((u64 *)control)[hostile_below(0xe0 / 8)] = hostile_odd_value();
        break;
    }
}

static void change_save(struct vmcb_save *save)
{
    u64 *word = &((u64 *)save)[hostile_below(0x2a0 / 8)];

    switch (hostile_below(4)) {
    case 0:
        *word = hostile_odd_value();
        break;
    case 1:
        *word ^= BIT(hostile_below(64));
        break;
    case 2:
        *word = hostile_l2_value();
        break;
    default:
        save->cr0 ^= hostile_chance(30) ? BIT(hostile_below(32)) : 0;
        save->cr4 ^= hostile_chance(30) ? BIT(hostile_below(24)) : 0;
        save->efer ^= hostile_chance(30) ? BIT(hostile_below(16)) : 0;
        save->dr7 ^= hostile_chance(10) ? BIT(hostile_below(64)) : 0;
        break;
    }
}

/* --- entries --- */

static void take_interrupts(void)
{
    apic_write(APIC_INITIAL, 0);
    (void)try_stgi();
    hostile_take_interrupts();
}

static void enter(const void *address)
{
    svm_enter(&l2, (u64)address, ENTER_INTERRUPTS);
}

/* L2 under a time limit: the timer's interrupt is intercepted, and L1's IF lets it in whatever L2's is. */
static void enter_at(u64 address)
{
    u64 *registers = &l2.rax;

    for (unsigned i = 0; i < sizeof(l2) / sizeof(u64); i++)
        registers[i] = hostile_l2_value();
    l2.rcx = hostile_chance(50) ? hostile_msr() : hostile_below(64);
    apic_write(APIC_INITIAL, 1 + hostile_below(L2_LIMIT));
    (void)attempt(enter, (const void *)address);
    take_interrupts();
    if (!hostile_own_state(0) || try_vmload((u64)own_state) != NO_FAULT)
        result.state_lost++;
}

static void note_result(void)
{
    u64 code = current()->control.exit_code;

    if (fault.vector != NO_FAULT || code == VMEXIT_INVALID) {
        result.failed++;
        if (hostile_chance(60))
            memcpy(current(), &run.plain, sizeof(run.plain));
        return;
    }
    result.entered++;
    if (code < HOSTILE_EXITS)
        result.seen[code / 64] |= BIT(code % 64);
    if (code == VMEXIT_NPF && hostile_chance(60)) {
        hostile_map_nested(hostile_chance(30));
        current()->control.tlb_control = TLB_CONTROL_FLUSH_ALL;
    }
    if ((code == VMEXIT_SHUTDOWN || (code >= VMEXIT_EXCP0 && code < VMEXIT_INTR)) && hostile_chance(50)) {
        hostile_write_l2_tables(run.nested_paging);
        hostile_write_descriptors();
        hostile_map_nested(hostile_chance(30));
        memcpy(current(), &run.plain, sizeof(run.plain));
    }
}

static void random_entry(void)
{
    struct vmcb *vmcb12 = current();

    if (hostile_chance(60)) {
        for (unsigned i = 1 + hostile_below(3); i > 0; i--)
            hostile_chance(50) ? change_control(&vmcb12->control) : change_save(&vmcb12->save);
    }
    /* Sometimes true, sometimes not. */
    vmcb12->control.clean = hostile_chance(50) ? 0 : (u32)hostile_random();
    guard(vmcb12);
    vmcb12->save.rax = hostile_l2_value();
    if (hostile_chance(8))
        apic_send_self(hostile_chance(90) ? VECTOR_SELF : EXC_NMI);
    fault.vector = NO_FAULT;
    enter_at(run.current);
    note_result();
    /* What was changed stays for a while. */
    if (hostile_chance(25))
        memcpy(current(), &run.plain, sizeof(run.plain));
    if (hostile_chance(70))
        current()->save.rip = hostile_code_address() - current()->save.cs.base;
    current()->control.tlb_control = hostile_chance(70) ? TLB_CONTROL_NOTHING : TLB_CONTROL_FLUSH_ALL;
}

/* --- everything else --- */

/*
 * Where an instruction may write: of L1's memory only the playground. TCG ends itself when an SVM instruction
 * reaches what is no RAM, so all else are addresses that do not exist.
 */
static u64 operand_place(void)
{
    u64 place = hostile_chance(50) ? play_page(PAGE_LISTS + hostile_below(LIST_PAGES)) : hostile_pointer();

    return place >= MIB(1) && boot_is_ram(place & ~PAGE_MASK, PAGE_SIZE) ? place : place | BIT(62);
}

static void random_instruction(void)
{
    switch (hostile_below(8)) {
    case 0:
        (void)try_vmload(operand_place());
        break;
    case 1:
        (void)try_vmsave(operand_place());
        break;
    case 2:
        (void)try_invlpga(hostile_l2_value(),
                          hostile_chance(80) ? hostile_below(6) : (u32)hostile_odd_value());
        break;
    case 3:
        (void)try_clgi();
        (void)try_stgi();
        break;
    case 4:
        (void)try_skinit(operand_place());
        break;
    case 5:
        __asm__ volatile(FAULTABLE("vmmcall")::"a"(hostile_odd_value() | BIT(40)) : "memory");
        break;
    case 6:
        (void)try_wrmsr(MSR_VM_HSAVE_PA, hostile_pointer());
        break;
    default: {
        u64 address = hostile_pointer();
        /* What is in the playground is a VMCB of some kind, and L1 means to survive it. */
        if (address - PLAYGROUND < play_page(PLAYGROUND_PAGES) - PLAYGROUND && (address & PAGE_MASK) == 0)
            guard((struct vmcb *)address);
        enter_at(address);
        break;
    }
    }
    (void)try_wrmsr(MSR_VM_HSAVE_PA, (u64)svm_host_area);
    (void)try_vmload((u64)own_state);
}

static void garbage_in_vmcb_memory(void)
{
    u64 *words = (u64 *)play_page(PAGE_CONTROL + hostile_below(CONTROL_PAGES));

    if (hostile_chance(10)) {
        for (unsigned i = 0; i < 512; i++)
            words[i] = hostile_odd_value();
    } else {
        for (unsigned i = hostile_below(8); i > 0; i--)
            words[hostile_below(512)] = hostile_odd_value();
    }
    if (hostile_chance(50))
        run.current = (u64)words;
}

static void other_nastiness(void)
{
    switch (hostile_below(5)) {
    case 0: /* SVM off, with and without an instruction that then is #UD */
        (void)try_wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~EFER_SVME);
        if (hostile_chance(50))
            (void)try_vmload((u64)own_state);
        wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
        break;
    case 1:
        write_maps();
        break;
    case 2:
        hostile_write_code(hostile_below(CODE_PAGES));
        break;
    case 3:
        hostile_write_l2_tables(run.nested_paging);
        hostile_write_descriptors();
        break;
    default: /* another VMCB, a copy of this one */
        run.current = play_page(PAGE_CONTROL + hostile_below(CONTROL_PAGES));
        memcpy(current(), &run.plain, sizeof(run.plain));
        break;
    }
}

static void step(void)
{
    unsigned choice = hostile_below(100);

    if (choice < 65)
        random_entry();
    else if (choice < 80)
        random_instruction();
    else if (choice < 90)
        hostile_change_nested();
    else if (choice < 95)
        garbage_in_vmcb_memory();
    else
        other_nastiness();
}

void group_hostile_svm(void)
{
    static const struct hostile_group group = {"hostile-svm", begin_episode, step, &result};

    if (!svm_start(group.name))
        return;
    (void)try_vmsave((u64)own_state);
    apic_init();
    apic_write(APIC_DIVIDE, 0xb);
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER);
    hostile_run(&group);
    svm_stop();
}
