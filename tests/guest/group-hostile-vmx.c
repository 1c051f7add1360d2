/* SPDX-License-Identifier: MIT */
/*
 * Group `hostile-vmx`: an L1 that uses VMX as no sane hypervisor does: random instructions with random
 * operands, states that are valid but for a few random fields, garbage in VMCS memory, random EPT tables that
 * L1 and L2 change meanwhile, L2s of random code. It ends well if L1 reaches the end with its own state and
 * memory as they were. Repeatable: seed=N, steps=N; from=N starts at another episode.
 */
#include "tests/guest/hostile-vmx.h"

enum { NOT_ENTERED = 0xffff };

static struct {
    bool suspect; /* the current VMCS may have any content */
    bool launched;
    u64 current; /* the region that L1 last made current */
} run;
static struct hostile_result result;

/* --- instructions --- */

/* One VMX instruction with its operand in memory at `at`; faults are part of the game. */
#define OPERATE(instruction) __asm__ volatile(FAULTABLE(instruction)::"r"(at), "r"(value) : "memory", "cc")

static void operate(unsigned operation, u64 at, u64 value)
{
    fault.vector = NO_FAULT;
    switch (operation) {
    case 0:
        OPERATE("vmptrld (%0)");
        break;
    case 1:
        OPERATE("vmclear (%0)");
        break;
    case 2:
        OPERATE("vmptrst (%0)");
        break;
    case 3:
        OPERATE("vmxon (%0)");
        break;
    case 4:
        OPERATE("vmread %1, (%0)");
        break;
    case 5:
        OPERATE("vmwrite (%0), %1");
        break;
    case 6:
        OPERATE("invept (%0), %1");
        break;
    case 7:
        OPERATE("invvpid (%0), %1");
        break;
    case 8:
        __asm__ volatile(FAULTABLE("vmfunc")::"a"(value & 3), "c"(value >> 2 & 3) : "memory", "cc");
        break;
    default:
        __asm__ volatile(FAULTABLE("vmcall")::"a"(value | BIT(40)) : "memory", "cc");
        break;
    }
}

static u64 random_encoding(void)
{
    if (hostile_chance(60))
        return fields.encoding[hostile_below(fields.count)] | (hostile_chance(10) ? 1 : 0);
    if (hostile_chance(80))
        return hostile_random() & 0x7fff;
    return hostile_odd_value();
}

/*
 * Where an instruction's operand lies: of L1's memory only the playground may be written. With VMCS shadowing
 * the CPU itself writes there, and Bochs ends itself at eight bytes to an APIC.
 */
static u64 operand_place(void)
{
    if (hostile_chance(70))
        return play_page(PAGE_LISTS + hostile_below(LIST_PAGES)) + 8 * hostile_below(512);
    if (hostile_chance(60)) {
        u64 page = hostile_page() & BITS(47, 0);
        return (page >= 0xfec00000 && page < 0xff000000 ? 0xe0000000 : page) + 8 * hostile_below(512);
    }
    return hostile_chance(50) ? play_page(PAGE_LISTS) - 1 - hostile_below(15) : hostile_odd_value() | BIT(62);
}

/* A VMCS region that is L1's own memory would be written to. */
static bool points_at_l1(u64 at)
{
    u64 pointer = 0;

    return at - PLAYGROUND < MIB(2) && try_read64(at, &pointer) == NO_FAULT &&
           pointer - PLAYGROUND >= MIB(2) && boot_is_ram(pointer & ~PAGE_MASK, PAGE_SIZE);
}

static void random_instruction(void)
{
    unsigned operation = hostile_below(10);
    u64 at = operand_place(), value = hostile_odd_value();

    if (operation <= 3 && hostile_chance(75)) {
        /* A pointer that means something, in memory that can be read. */
        at = play_page(PAGE_LISTS) + 8 * hostile_below(512);
        *(u64 *)at =
            hostile_chance(50) ? play_page(PAGE_CONTROL + hostile_below(CONTROL_PAGES)) : hostile_pointer();
    } else if (operation == 4 || operation == 5) {
        value = random_encoding();
    } else if (operation == 6 || operation == 7) {
        value = hostile_chance(80) ? hostile_below(5) : value;
        if (hostile_chance(70)) {
            at = play_page(PAGE_LISTS) + 16 * hostile_below(256);
            ((u64 *)at)[0] = hostile_chance(70)
                                 ? (operation == 6 ? play_page(PAGE_NESTED) | 0x1e : hostile_below(4))
                                 : hostile_odd_value();
            ((u64 *)at)[1] = hostile_chance(70) ? 0 : hostile_odd_value();
        }
    }
    if ((operation == 0 || operation == 1 || operation == 3) && points_at_l1(at))
        return;
    operate(operation, at, value);
    u64 current = 0;
    run.suspect = run.suspect || try_vmptrst(&current) != END_SUCCEED || current != run.current;
    if (operation == 5)
        hostile_restore_field(value);
}

static void enter_vmx_operation(void)
{
    u32 revision = (u32)rdmsr(MSR_IA32_VMX_BASIC) & 0x7fffffff;

    memcpy((void *)play_page(PAGE_VMXON), &revision, sizeof(revision));
    (void)try_vmxon(play_page(PAGE_VMXON)); /* an error if L1 is in it already */
}

static void begin_episode(void)
{
    hostile_write_lists();
    hostile_write_nested();
    hostile_write_l2_tables(true);
    hostile_write_descriptors();
    hostile_write_code(hostile_below(CODE_PAGES));
    hostile_want_state();
    enter_vmx_operation();
    u64 region = play_page(PAGE_CONTROL + hostile_below(CONTROL_PAGES));
    u32 revision = (u32)rdmsr(MSR_IA32_VMX_BASIC) & 0x7fffffff;
    (void)try_vmclear(region);
    memcpy((void *)region, &revision, sizeof(revision));
    (void)try_vmptrld(region);
    run.current = region;
    hostile_write_wanted(false);
    run.suspect = run.launched = false;
}

static void change_nested_tables(void)
{
    hostile_change_nested();
    if (hostile_chance(50))
        (void)try_invept(1 + hostile_below(2), play_page(PAGE_NESTED + hostile_below(NESTED_ROOTS)) | 0x1e,
                         0);
}

static void repair_nested_tables(void)
{
    hostile_map_nested(hostile_chance(30));
    (void)try_invept(2, 0, 0);
}

/* --- entries --- */

static void enter(const void *unused)
{
    (void)unused;
    (void)vmx_enter(&l2, !run.launched);
}

/* Counts what came of an entry; what fails the same way each time is repaired now and then. */
static void note_result(void)
{
    u64 reason = 0;

    if (fault.vector != NO_FAULT || try_vmread(VMCS_EXIT_REASON, &reason) != END_SUCCEED)
        return;
    if (reason == NOT_ENTERED || (reason & EXIT_REASON_ENTRY_FAILURE) != 0) {
        result.failed++;
        if (hostile_chance(25))
            hostile_write_wanted(false);
        return;
    }
    result.entered++;
    if ((reason & 0xffff) < HOSTILE_EXITS)
        result.seen[(reason & 0xffff) / 64] |= BIT(reason % 64);
    if ((reason == REASON_EPT_VIOLATION || reason == REASON_EPT_MISCONFIGURATION) && hostile_chance(60))
        repair_nested_tables();
    if ((reason == REASON_TRIPLE_FAULT || reason == REASON_EXCEPTION_OR_NMI) && hostile_chance(50)) {
        hostile_write_l2_tables(true);
        hostile_write_descriptors();
        repair_nested_tables();
        hostile_write_wanted(false);
    }
}

/* The next instruction, or anywhere else in the code. */
static void choose_rip(void)
{
    u64 rip = 0, length = 0;

    if (hostile_chance(40) && try_vmread(VMCS_GUEST_RIP, &rip) == END_SUCCEED &&
        try_vmread(VMCS_EXIT_INSTRUCTION_LENGTH, &length) == END_SUCCEED) {
        (void)try_vmwrite(VMCS_GUEST_RIP, rip + length);
        return;
    }
    u64 base = 0;
    (void)try_vmread(VMCS_GUEST_CS_BASE, &base);
    (void)try_vmwrite(VMCS_GUEST_RIP, hostile_code_address() - base);
}

static void choose_registers(void)
{
    u64 *registers = &l2.rax;

    for (unsigned i = 0; i < sizeof(l2) / sizeof(u64); i++)
        registers[i] = hostile_l2_value();
    l2.rcx = hostile_chance(50) ? hostile_msr() : hostile_below(64);
}

/* Enters as the VMCS's launch state demands; a wrong guess is an error to be corrected. */
static void try_enter(void)
{
    for (unsigned i = 0; i < 2; i++) {
        u64 error = 0;
        (void)try_vmwrite(VMCS_EXIT_REASON, NOT_ENTERED);
        (void)attempt(enter, NULL);
        if (fault.vector != NO_FAULT || try_vmread(VMCS_INSTRUCTION_ERROR, &error) != END_SUCCEED)
            return;
        u64 reason = NOT_ENTERED;
        (void)try_vmread(VMCS_EXIT_REASON, &reason);
        if (reason != NOT_ENTERED) {
            run.launched = run.launched || (reason & EXIT_REASON_ENTRY_FAILURE) == 0;
            return;
        }
        if (error != 4 && error != 5)
            return;
        run.launched = error == 4;
    }
}

static void random_entry(void)
{
    unsigned changed[4], changes = hostile_chance(40) ? 0 : 1 + hostile_below(3);

    if (run.suspect)
        hostile_write_wanted(hostile_chance(30));
    run.suspect = false;
    for (unsigned i = 0; i < changes; i++) {
        changed[i] = hostile_below(fields.count);
        if (fields.use[changed[i]] != USE_GUARD)
            (void)try_vmwrite(fields.encoding[changed[i]], hostile_field_value(changed[i]));
    }
    if (hostile_chance(4))
        changed[changes++] = hostile_spoil_host();
    if (hostile_chance(8))
        apic_send_self(hostile_chance(90) ? VECTOR_SELF : EXC_NMI);
    choose_registers();
    try_enter();
    note_result();
    /* A VM exit leaves CD and NW as L2 had them: SDM vol. 3C 28.5.1. */
    if (!hostile_own_state(CR0_CD | CR0_NW))
        result.state_lost++;
    hostile_take_interrupts();
    for (unsigned i = 0; i < changes; i++) {
        if (fields.use[changed[i]] != USE_STATE || hostile_chance(60))
            (void)try_vmwrite(fields.encoding[changed[i]], fields.wanted[changed[i]]);
    }
    choose_rip();
    if (hostile_chance(5))
        hostile_write_wanted(false);
}

/* --- everything else --- */

static void garbage_in_vmcs_memory(void)
{
    u64 *words = (u64 *)play_page(PAGE_CONTROL + hostile_below(CONTROL_PAGES));

    if (hostile_chance(10)) {
        for (unsigned i = 1; i < 512; i++)
            words[i] = hostile_odd_value();
    } else {
        for (unsigned i = hostile_below(8); i > 0; i--)
            words[hostile_below(140)] = hostile_odd_value();
    }
    if (hostile_chance(70)) {
        u64 region = (u64)words;
        *(u32 *)words = (u32)rdmsr(MSR_IA32_VMX_BASIC) & 0x7fffffff;
        (void)try_vmptrld(region);
        run.suspect = true;
    }
}

static void other_nastiness(void)
{
    switch (hostile_below(6)) {
    case 0:
        (void)try_vmxoff();
        if (hostile_chance(50))
            (void)try_vmxon(hostile_pointer());
        enter_vmx_operation();
        run.suspect = true;
        break;
    case 1: /* bits that VMX operation keeps, and those of L1's own paging that nothing depends on */
        (void)try_write_cr4(read_cr4() & ~CR4_VMXE);
        (void)try_write_cr0(read_cr0() & ~CR0_NE);
        (void)try_write_cr0(read_cr0() ^ CR0_TS);
        (void)hostile_own_state(0);
        break;
    case 2:
        hostile_write_lists();
        break;
    case 3:
        hostile_write_code(hostile_below(CODE_PAGES));
        break;
    case 4:
        hostile_write_l2_tables(true);
        hostile_write_descriptors();
        break;
    default:
        (void)try_invvpid(hostile_below(4), 1 + hostile_below(3), hostile_l2_value());
        break;
    }
}

static void step(void)
{
    unsigned choice = hostile_below(100);

    if (choice < 60)
        random_entry();
    else if (choice < 78)
        random_instruction();
    else if (choice < 90)
        change_nested_tables();
    else if (choice < 95)
        garbage_in_vmcs_memory();
    else
        other_nastiness();
}

void group_hostile_vmx(void)
{
    static const struct hostile_group group = {"hostile-vmx", begin_episode, step, &result};

    if (!vmx_start(group.name))
        return;
    hostile_fields_init();
    hostile_run(&group);
    (void)try_vmxoff();
}
