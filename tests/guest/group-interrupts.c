/* SPDX-License-Identifier: MIT */
/*
 * Groups `interrupts` and `nmi`: the legacy timer through the PIC, the local APIC's timer and self-interrupts
 * in xAPIC and x2APIC mode, HLT, interrupt shadows, and NMIs. None of this exits under Umbra; it must be
 * exactly the bare CPU's.
 */
#include "tests/guest/guest.h"

enum {
    PIT_HERTZ = 1000,
    PAGE_CODE = 0,
    LVT_PERIODIC = 0x20000,
    LVT_MASKED = 0x10000,
    LVT_NMI = 0x400,
    LVT_EXTINT = 0x700,
    DIVIDE_BY_1 = 0xb
};

static volatile unsigned ticks, timer_count, self_count, nmi_count;
static volatile u64 interrupted_rip;
static volatile bool nmi_nested_early;

static bool on_pit(struct frame *frame)
{
    interrupted_rip = frame->rip;
    ticks++;
    pic_eoi();
    return true;
}

static bool on_timer(struct frame *frame)
{
    interrupted_rip = frame->rip;
    timer_count++;
    apic_write(APIC_EOI, 0);
    return true;
}

static bool on_self(struct frame *frame)
{
    interrupted_rip = frame->rip;
    self_count++;
    apic_write(APIC_EOI, 0);
    return true;
}

/* Waits with interrupts on until *counter reaches `wanted`, executing CPUID meanwhile; false if that takes
 * for ever. */
static bool wait_for(volatile unsigned *counter, unsigned wanted)
{
    __asm__ volatile("sti");
    for (unsigned i = 0; i < 3000000 && *counter < wanted; i++) {
        if (i % 64 == 0)
            cpuid(0, 0);
    }
    __asm__ volatile("cli");
    return *counter >= wanted;
}

static void legacy_timer(void)
{
    trap_set_hook(VECTOR_PIT, on_pit);
    pit_periodic(PIT_HERTZ);
    pic_mask(0xfffe);
    check("interrupts.pit_while_running", wait_for(&ticks, 5));
    unsigned before = ticks;
    for (unsigned i = 0; i < 5; i++)
        __asm__ volatile("sti; hlt; cli" ::: "memory");
    check("interrupts.pit_wakes_hlt", ticks - before >= 5);
    pic_mask(0xffff);
}

/* A pending interrupt with IF = 0, then these bytes: returns how far into them it was taken. */
static u64 taken_at(struct code code)
{
    unsigned before = self_count;
    interrupted_rip = 0;
    apic_send_self(VECTOR_SELF);
    u64 vector = execute(RING0_64, &code);
    return vector == VECTOR_DONE && self_count == before + 1 ? interrupted_rip - execute_address(RING0_64)
                                                             : ~0ull;
}

static void shadows(const char *mode)
{
    char name[64];
    print_to(name, sizeof(name), "interrupts.%s_sti_nop", mode);
    check_eq(name, taken_at((struct code){CODE("\xfb\x90\x90\x90\xfa")}), 2);
    print_to(name, sizeof(name), "interrupts.%s_sti_cpuid", mode);
    check_eq(name, taken_at((struct code){CODE("\xfb\x0f\xa2\x90\x90\xfa")}), 3);
    print_to(name, sizeof(name), "interrupts.%s_sti_rdmsr", mode);
    check_eq(name, taken_at((struct code){CODE("\xfb\x0f\x32\x90\x90\xfa"), .rcx = 0xfe}), 3);
    /* STI; MOV SS, AX; CPUID */
    print_to(name, sizeof(name), "interrupts.%s_mov_ss_cpuid", mode);
    u64 at = taken_at((struct code){CODE("\xfb\x8e\xd0\x0f\xa2\x90\x90\xfa"), .rax = SEL_DATA});
    check(name, at == 3 || at == 5);
    if (!under_umbra)
        return;
    print_to(name, sizeof(name), "interrupts.%s_sti_hypercall", mode);
    struct code code = {CODE("\xfb\x0f\x01\xc1\x90\x90\xfa"), .rax = HYPERCALL_MAGIC, .rcx = HYPERCALL_EXITS};
    if (!is_intel)
        code.bytes = "\xfb\x0f\x01\xd9\x90\x90\xfa";
    check_eq(name, taken_at(code), 4);
}

static void local_apic(const char *mode)
{
    char name[64];
    trap_set_hook(VECTOR_TIMER, on_timer);
    trap_set_hook(VECTOR_SELF, on_self);
    timer_count = 0;
    apic_write(APIC_DIVIDE, DIVIDE_BY_1);
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER);
    apic_write(APIC_INITIAL, 20000);
    print_to(name, sizeof(name), "interrupts.%s_timer_once", mode);
    check(name, wait_for(&timer_count, 1));
    print_to(name, sizeof(name), "interrupts.%s_timer_stops", mode);
    check(name, apic_read(APIC_CURRENT) == 0 && timer_count == 1);
    apic_write(APIC_LVT_TIMER, LVT_PERIODIC | VECTOR_TIMER);
    apic_write(APIC_INITIAL, 50000);
    print_to(name, sizeof(name), "interrupts.%s_timer_periodic", mode);
    check(name, wait_for(&timer_count, 6));
    unsigned before = timer_count;
    for (unsigned i = 0; i < 3; i++)
        __asm__ volatile("sti; hlt; cli" ::: "memory");
    print_to(name, sizeof(name), "interrupts.%s_timer_wakes_hlt", mode);
    check(name, timer_count - before >= 3);
    apic_write(APIC_LVT_TIMER, LVT_MASKED | VECTOR_TIMER);
    apic_write(APIC_INITIAL, 0);

    self_count = 0;
    apic_send_self(VECTOR_SELF);
    print_to(name, sizeof(name), "interrupts.%s_self_waits_for_if", mode);
    check_eq(name, self_count, 0);
    __asm__ volatile("sti; nop; nop; cli" ::: "memory");
    print_to(name, sizeof(name), "interrupts.%s_self_taken", mode);
    check_eq(name, self_count, 1);
    /* CR8 holds back what is not above its class. */
    __asm__ volatile("mov %0, %%cr8" ::"r"((u64)VECTOR_SELF >> 4));
    apic_send_self(VECTOR_SELF);
    __asm__ volatile("sti; nop; nop; cli" ::: "memory");
    print_to(name, sizeof(name), "interrupts.%s_cr8_holds_back", mode);
    check_eq(name, self_count, 1);
    __asm__ volatile("mov %0, %%cr8" ::"r"(0ull));
    __asm__ volatile("sti; nop; nop; cli" ::: "memory");
    print_to(name, sizeof(name), "interrupts.%s_cr8_lets_through", mode);
    check_eq(name, self_count, 2);
    shadows(mode);
}

void group_interrupts(void)
{
    legacy_timer();
    apic_init();
    bool already = apic_is_x2apic;
    local_apic(already ? "x2apic" : "xapic");
    if (!already && apic_enable_x2apic())
        local_apic("x2apic");
    else if (!already)
        note_skipped("interrupts.x2apic", "the CPU has none");
}

/* The first NMI sends a second one, which has to wait for the IRETQ, whatever exits in between. */
static bool on_nmi(struct frame *frame)
{
    (void)frame;
    if (nmi_count++ == 0) {
        apic_send_self(EXC_NMI);
        for (unsigned i = 0; i < 50; i++)
            cpuid(0, 0);
        nmi_nested_early = nmi_count > 1;
    }
    return true;
}

static bool on_nmi_count(struct frame *frame)
{
    interrupted_rip = frame->rip;
    nmi_count++;
    return true;
}

static void delay(void)
{
    for (volatile unsigned i = 0; i < 1000; i++)
        ;
}

/* NMIs from the timer, at moments that the guest does not choose, while it does nothing but exit. */
static void nmi_storm(void)
{
    if (!on_tcg() || apic_is_x2apic) {
        note_skipped("nmi.storm", "no LINT0 that delivers NMIs here");
        return;
    }
    u32 saved = apic_read(APIC_LVT_LINT0);
    trap_set_hook(EXC_NMI, on_nmi_count);
    nmi_count = 0;
    pit_periodic(5000);
    apic_write(APIC_LVT_LINT0, LVT_NMI);
    pic_mask(0xfffe);
    u32 want = cpuid(0, 0).ebx;
    bool same = true;
    for (unsigned i = 0; i < 2000000 && nmi_count < 200; i++) {
        same = same && cpuid(0, 0).ebx == want;
        /* The PIC holds its line until it is acknowledged and told that the interrupt is over. */
        out8(0x20, 0x0c);
        in8(0x20);
        pic_eoi();
    }
    pic_mask(0xffff);
    apic_write(APIC_LVT_LINT0, saved);
    check("nmi.storm_delivered", nmi_count >= 200);
    check("nmi.storm_cpuid_unharmed", same);
}

void group_nmi(void)
{
    apic_init();
    trap_set_hook(EXC_NMI, on_nmi);
    apic_send_self(EXC_NMI);
    delay();
    check_eq("nmi.delivered", nmi_count, 2);
    check("nmi.second_waits_for_iret", !nmi_nested_early);

    trap_set_hook(EXC_NMI, on_nmi_count);
    for (unsigned i = 0; i < 20; i++) {
        unsigned before = nmi_count;
        apic_send_self(EXC_NMI);
        cpuid(0, 0);
        delay();
        if (nmi_count != before + 1) {
            check_eq("nmi.once_each", nmi_count, before + 1);
            break;
        }
    }
    check("nmi.twenty", nmi_count == 22);
    nmi_storm();
}
