/* SPDX-License-Identifier: MIT */
/*
 * Several CPUs: all start by INIT and SIPI, take IPIs and NMIs, are stopped and started again, and see no
 * stale translation after the hypercall that took access away has returned. cpus=N on the command line says
 * how many there are. The other CPUs use no FAULTABLE instruction that faults. Waits have PAUSE, and who has
 * nothing to do sleeps.
 */
#include "tests/guest/guest.h"

enum {
    VECTOR_IPI = 0x42,
    VECTOR_WAKE = 0x43,
    ROUNDS = 40,
    NMIS = 40,
    PATIENCE = 400000,
    PATIENCE_THREADS = 40000000, /* where CPUs are threads, which wait for each other */
    TSC_SETTLE = 20000,
    SEND_DELAY = 30000,
    TSC_SETTLE_THREADS = 100000000,
    MSR_APIC_BASE = 0x1b
};
#define APIC_BASE_ENABLE BIT(11)
#define APIC_BASE_X2APIC BIT(10)

/* What the other CPUs do; `order` tells, and each change of it is acknowledged by `doing`. */
enum order {
    WAIT,
    SLEEP,  /* no order, but until wake() */
    EXIT,   /* CPUID without end */
    HALT,   /* HLT with interrupts on */
    STOP,   /* HLT with interrupts off */
    HAMMER, /* write to the page without end */
    COUNT,  /* ask for the number of violations */
    TOUCH,  /* read Umbra's memory, then write to it */
    APIC_OFF,
    APIC_ON,
    X2APIC,
    CALL_ONE,  /* a function, which one does, once */
    RETURNED,  /* it has */
    SEND,      /* an IPI, again and again */
    SEND_ONCE, /* one, after a moment */
    CALL,      /* what another group wants, once */
};

static struct other {
    u32 id;
    volatile unsigned starts, ipis, nmis;
    volatile enum order doing;
    volatile u64 turns, seen, violations, apic_base, wrong;
} others[SMP_MAX];

extern const u8 smp_trampoline[], smp_trampoline_end[];
extern volatile u32 smp_cr3, smp_cr4, smp_arrivals;
_Noreturn void smp_main(u32 number);

static volatile enum order order;
/* For whom the order is, a bit for each; the others sleep, so that no more CPUs spin than the host may have.
 */
static volatile u32 at_work = ~0u;
static volatile u64 epoch;
static unsigned count;
static u64 umbra_page;
static volatile u32 send_to, send_command, send_count;
static void (*volatile work)(unsigned cpu);
static void (*volatile called)(void);
static volatile bool call_begun;
volatile unsigned smp_own_nmis;
static struct {
    u16 limit;
    u64 base;
} __attribute__((packed)) idt;
static volatile u64 page[512] __attribute__((aligned(4096)));

static struct other *self(void)
{
    u32 id = apic_id();
    for (unsigned i = 0; i < SMP_MAX; i++) {
        if (others[i].starts != 0 && others[i].id == id)
            return &others[i];
    }
    return NULL;
}

static bool on_ipi(struct frame *frame)
{
    struct other *other = self();
    (void)frame;
    if (other != NULL)
        other->ipis++;
    apic_write(APIC_EOI, 0);
    return true;
}

static bool on_wake(struct frame *frame)
{
    (void)frame;
    apic_write(APIC_EOI, 0);
    return true;
}

static bool on_nmi(struct frame *frame)
{
    struct other *other = self();
    (void)frame;
    if (other != NULL)
        other->nmis++;
    else
        smp_own_nmis++;
    return true;
}

/* --- on the other CPUs --- */

static void touch(struct other *other)
{
    volatile u64 *at = (volatile u64 *)umbra_page;

    for (unsigned i = 0; i < ROUNDS; i++)
        other->wrong += at[i] != ~0ull;
    other->turns++;
    while (order == TOUCH)
        at[other->id] = 0;
}

static void set_apic(struct other *other, bool on)
{
    u64 base = rdmsr(MSR_APIC_BASE) & ~APIC_BASE_ENABLE;

    wrmsr(MSR_APIC_BASE, on ? base | APIC_BASE_ENABLE : base);
    other->apic_base = rdmsr(MSR_APIC_BASE);
    if (on)
        apic_init();
}

static void sleep(void)
{
    __asm__ volatile("sti; hlt; cli" ::: "memory");
}

static void obey(struct other *other)
{
    enum order now = order;

    if (!(at_work >> (other - others) & 1)) {
        other->doing = SLEEP;
        sleep();
        return;
    }
    other->doing = now;
    switch (now) {
    case EXIT:
        cpuid(0, 0);
        break;
    case HALT:
        sleep();
        break;
    case STOP:
        for (;;)
            __asm__ volatile("cli; hlt");
    case HAMMER: {
        u64 before = epoch;
        page[other->id] = other->turns;
        other->seen = before;
        break;
    }
    case COUNT:
        other->violations = hypercall(HYPERCALL_TEST_LAST_VIOLATION, 0, 0, 0).rbx;
        break;
    case TOUCH:
        touch(other);
        break;
    case APIC_OFF:
    case APIC_ON:
        set_apic(other, now == APIC_ON);
        while (order == now)
            ;
        break;
    case X2APIC:
        wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_X2APIC);
        other->apic_base = rdmsr(MSR_APIC_BASE);
        while (order == now)
            ;
        apic_init();
        break;
    case CALL_ONE:
        call_begun = true;
        called();
        other->doing = RETURNED;
        while (order == now)
            __asm__ volatile("pause");
        break;
    case SEND:
    case SEND_ONCE:
        if (other != &others[0])
            break;
        for (unsigned i = 0; i < SEND_DELAY; i++)
            __asm__ volatile("pause");
        apic_send(send_to, send_command);
        send_count++;
        while (now == SEND_ONCE && order == now)
            ;
        break;
    case CALL:
        work(1 + (unsigned)(other - others));
        while (order == now)
            __asm__ volatile("pause");
        break;
    case WAIT:
    default:
        break;
    }
    other->turns++;
}

_Noreturn void smp_main(u32 number)
{
    u32 id = apic_id();
    unsigned slot = number % SMP_MAX;

    __asm__ volatile("lidt %0" ::"m"(idt));
    /* One that was here before keeps its place. */
    for (unsigned i = 0; i < SMP_MAX; i++) {
        if (others[i].starts != 0 && others[i].id == id)
            slot = i;
    }
    struct other *other = &others[slot];
    other->id = id;
    apic_init();
    other->starts++;
    for (;;)
        obey(other);
}

/* --- on the boot CPU --- */

/*
 * Time for another CPU to do what was asked. Bochs' CPUs take turns of a few instructions; QEMU's are
 * threads, and the counter runs on while the host lets one of them wait.
 */
static unsigned patience(void)
{
    return is_intel ? PATIENCE : PATIENCE_THREADS;
}

void smp_settle(void)
{
    u64 start = rdtsc(), enough = is_intel ? TSC_SETTLE : TSC_SETTLE_THREADS;
    while (rdtsc() - start < enough)
        __asm__ volatile("pause");
}

static void start(u32 id, u32 shorthand, u32 where)
{
    apic_send(id, shorthand | ICR_INIT);
    smp_settle();
    apic_send(id, shorthand | ICR_STARTUP | where >> 12);
    smp_settle();
}

static bool wait_starts(const struct other *other, unsigned want)
{
    for (unsigned i = 0; i < patience() && other->starts != want; i++)
        __asm__ volatile("pause");
    return other->starts == want;
}

static bool starts_again(const struct other *other, unsigned before)
{
    for (unsigned i = 0; i < patience() && other->starts == before; i++)
        __asm__ volatile("pause");
    return other->starts != before;
}

static bool comes_to(unsigned i, enum order what)
{
    for (unsigned n = 0; n < patience() && others[i].doing != what; n++)
        __asm__ volatile("pause");
    return others[i].doing == what;
}

static bool does(unsigned i, enum order what)
{
    order = what;
    return comes_to(i, what);
}

static bool all_do(enum order what)
{
    bool good = true;

    order = what;
    for (unsigned i = 0; i < count; i++)
        good = comes_to(i, what) && good;
    return good;
}

/* The others sleep, until wake(~0u). */
static void wake(u32 who)
{
    at_work = who;
    apic_send(0, ICR_OTHERS | ICR_FIXED | VECTOR_WAKE);
}

static bool one_does(unsigned i, enum order what)
{
    order = what;
    wake(1u << i);
    return comes_to(i, what);
}

static void put_trampoline(u32 where)
{
    memcpy((void *)(u64)where, smp_trampoline, (size_t)(smp_trampoline_end - smp_trampoline));
}

static bool has_started(u32 id)
{
    unsigned i = 0;
    while (i < SMP_MAX && (others[i].starts == 0 || others[i].id != id))
        i++;
    return i < SMP_MAX;
}

static void start_all(void)
{
    const char *option_cpus = option(boot.command_line, "cpus");
    u64 cpus = option_cpus != NULL ? number(option_cpus, NULL) : 1;

    apic_init();
    __asm__ volatile("sidt %0" : "=m"(idt));
    smp_cr3 = (u32)read_cr3();
    smp_cr4 = (u32)read_cr4();
    put_trampoline(SMP_PAGE);
    put_trampoline(SMP_OTHER_PAGE);
    trap_set_hook(VECTOR_IPI, on_ipi);
    trap_set_hook(VECTOR_WAKE, on_wake);
    trap_set_hook(EXC_NMI, on_nmi);
    start(0, ICR_OTHERS, SMP_PAGE);
    for (unsigned i = 0; i < patience() && smp_arrivals + 1 < cpus; i++)
        __asm__ volatile("pause");
    check_eq("smp.all_start_by_one_ipi", smp_arrivals + 1, cpus);
    /* Should they not: APIC IDs of a machine without holes. */
    for (u32 id = 0; id < cpus && smp_arrivals + 1 < cpus; id++) {
        if (id != apic_id() && !has_started(id))
            start(id, 0, SMP_PAGE);
    }
    check_eq("smp.all_start", smp_arrivals + 1, cpus);
    count = smp_arrivals;
    bool distinct = true;
    for (unsigned i = 0; i < count; i++) {
        (void)wait_starts(&others[i], 1);
        for (unsigned j = 0; j < i; j++)
            distinct = distinct && others[i].id != others[j].id;
        distinct = distinct && others[i].id != apic_id();
    }
    check("smp.ids_differ", distinct);
}

/* One after the other, each waited for: none is lost and none comes twice. */
static unsigned interrupt(struct other *other, volatile unsigned *counter, u32 command)
{
    unsigned sent = 0;

    while (sent < NMIS) {
        unsigned before = *counter;
        apic_send(other->id, command);
        for (unsigned i = 0; i < patience() && *counter == before; i++)
            __asm__ volatile("pause");
        if (*counter != before + 1)
            break;
        sent++;
    }
    return sent;
}

static void interrupts(void)
{
    static const struct {
        enum order order;
        const char *name;
    } states[] = {{WAIT, "running"}, {EXIT, "exiting"}, {HALT, "halted"}};
    char name[64];

    for (size_t s = 0; s < ARRAY_SIZE(states); s++) {
        unsigned nmis = 0, ipis = 0;
        for (unsigned i = 0; i < count; i++) {
            (void)one_does(i, states[s].order);
            nmis += interrupt(&others[i], &others[i].nmis, ICR_NMI);
            if (states[s].order == HALT)
                ipis += interrupt(&others[i], &others[i].ipis, ICR_FIXED | VECTOR_IPI);
        }
        print_to(name, sizeof(name), "smp.nmis_%s", states[s].name);
        check_eq(name, nmis, (u64)count * NMIS);
        if (states[s].order == HALT)
            check_eq("smp.ipis_wake", ipis, (u64)count * NMIS);
        order = WAIT;
        wake(~0u);
    }
}

static void restart_one(struct other *other, enum order state, u32 where, bool *stops, bool *starts,
                        bool *ignores)
{
    unsigned before = other->starts;

    apic_send(other->id, ICR_INIT);
    smp_settle();
    u64 turns = other->turns;
    smp_settle();
    *stops = *stops && other->turns == turns && other->starts == before;
    order = state == STOP ? WAIT : state;
    apic_send(other->id, ICR_STARTUP | where >> 12);
    *starts = wait_starts(other, before + 1) && *starts;
    apic_send(other->id, ICR_STARTUP | where >> 12);
    smp_settle();
    *ignores = *ignores && other->starts == before + 1;
}

static void check_in(const char *state, const char *what, bool good)
{
    char name[64];
    print_to(name, sizeof(name), "smp.%s.%s", state, what);
    check(name, good);
}

static void restart(void)
{
    static const struct {
        enum order order;
        const char *name;
        u32 where;
    } states[] = {
        {WAIT, "running", SMP_PAGE}, {STOP, "stopped", SMP_OTHER_PAGE}, {EXIT, "exiting", SMP_PAGE}};

    for (size_t s = 0; s < ARRAY_SIZE(states); s++) {
        bool stops = true, starts = true, ignores = true;
        bool doing = all_do(states[s].order);
        for (unsigned i = 0; i < count; i++)
            restart_one(&others[i], states[s].order, states[s].where, &stops, &starts, &ignores);
        check_in(states[s].name, "all_do_it", doing);
        check_in(states[s].name, "init_stops", stops);
        check_in(states[s].name, "sipi_starts", starts);
        check_in(states[s].name, "second_sipi_ignored", ignores);
    }
}

/* Whatever is sent in whatever order: an INIT and a SIPI bring each CPU back. */
static void storm(void)
{
    u32 random = 12345;

    (void)all_do(WAIT);
    for (unsigned i = 0; i < 400; i++) {
        static const u32 commands[] = {ICR_INIT, ICR_STARTUP | SMP_PAGE >> 12,
                                       ICR_STARTUP | SMP_OTHER_PAGE >> 12, ICR_FIXED | VECTOR_IPI};
        random = random * 1103515245 + 12345;
        apic_send(others[(random >> 16) % count].id, commands[(random >> 24) % ARRAY_SIZE(commands)]);
    }
    smp_settle();
    for (unsigned i = 0; i < count; i++) {
        apic_send(others[i].id, ICR_INIT);
        smp_settle();
        unsigned starts = others[i].starts;
        apic_send(others[i].id, ICR_STARTUP | SMP_PAGE >> 12);
        /* On a busy host one of the storm's own may come as late as here. */
        (void)starts_again(&others[i], starts);
    }
    check("smp.storm_survived", all_do(EXIT) && all_do(WAIT));
}

/* A CPU that waits for a SIPI gets one, and before it can do much a further INIT and SIPI. */
static void start_in_a_row(void)
{
    bool good = true;

    for (unsigned n = 0; n < ROUNDS && good; n++) {
        const struct other *other = &others[n % count];
        apic_send(other->id, ICR_INIT);
        smp_settle();
        unsigned starts = other->starts;
        apic_send(other->id, ICR_STARTUP | SMP_PAGE >> 12);
        apic_send(other->id, ICR_INIT);
        apic_send(other->id, ICR_STARTUP | SMP_OTHER_PAGE >> 12);
        good = starts_again(other, starts) && does(n % count, EXIT) && does(n % count, WAIT);
    }
    check("smp.starts_in_a_row", good);
}

/*
 * Each CPU writes again after it has seen that the hypercall is over: one of them meets the violation each
 * time, and opens the page for all.
 */
static void shoot_down(const char *name)
{
    u64 at = (u64)page, before = 0, after = 0, nmis = 0, answered = 0;
    char text[64];

    (void)all_do(COUNT);
    (void)all_do(WAIT);
    for (unsigned i = 0; i < count; i++) {
        before += others[i].violations;
        nmis -= others[i].nmis;
    }
    (void)all_do(HAMMER);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct hypercall call = hypercall(HYPERCALL_TEST_PROTECT, at, at + sizeof(page), 1);
        answered += call.vector == NO_FAULT && call.status == HYPERCALL_OK;
        epoch++;
        for (unsigned i = 0; i < count; i++) {
            for (unsigned n = 0; n < patience() && others[i].seen != epoch; n++)
                __asm__ volatile("pause");
            answered += others[i].seen == epoch;
        }
    }
    (void)all_do(COUNT);
    (void)all_do(WAIT);
    for (unsigned i = 0; i < count; i++) {
        after += others[i].violations;
        nmis += others[i].nmis;
    }
    print_to(text, sizeof(text), "smp.%s_all_rounds", name);
    check_eq(text, answered, (u64)ROUNDS * (count + 1));
    print_to(text, sizeof(text), "smp.%s_no_stale_write", name);
    check(text, after - before >= ROUNDS);
    print_to(text, sizeof(text), "smp.%s_no_nmi_seen", name);
    check_eq(text, nmis, 0);
}

static void umbra_memory(void)
{
    u64 end;
    u64 wrong = 0, turned = 0;

    if (!umbra_region(&umbra_page, &end)) {
        note_skipped("smp.umbra_memory", "where Umbra's memory lies is not known");
        return;
    }
    bool good = all_do(TOUCH);
    volatile u64 *at = (volatile u64 *)(umbra_page + 2048);
    for (unsigned i = 0; i < ROUNDS; i++)
        at[0] = i;
    good = all_do(WAIT) && good;
    for (unsigned i = 0; i < count; i++) {
        wrong += others[i].wrong;
        turned += others[i].turns != 0;
    }
    check("smp.umbra_memory_used_at_once", good && turned == count);
    check_eq("smp.umbra_memory_is_ones_afterwards", ((volatile u64 *)umbra_page)[1], ~0ull);
    fact("smp.umbra_memory_not_ones", wrong);
}

static void apic_off(void)
{
    bool off = all_do(APIC_OFF) && all_do(WAIT), on;

    for (unsigned i = 0; i < count; i++)
        off = off && (others[i].apic_base & APIC_BASE_ENABLE) == 0;
    check("smp.apic_off_seen", off);
    shoot_down("apic_off");
    on = all_do(APIC_ON) && all_do(WAIT);
    for (unsigned i = 0; i < count; i++)
        on = on && (others[i].apic_base & APIC_BASE_ENABLE) != 0;
    check("smp.apic_on_again", on);
    interrupts();
}

bool smp_x2apic(void)
{
    bool good = true;

    (void)all_do(X2APIC);
    for (unsigned i = 0; i < count; i++) {
        for (unsigned n = 0; n < patience() && !(others[i].apic_base & APIC_BASE_X2APIC); n++)
            __asm__ volatile("pause");
        good = good && (others[i].apic_base & APIC_BASE_X2APIC);
    }
    return apic_enable_x2apic() && all_do(WAIT) && good;
}

static void x2apic(void)
{
    if (!(cpuid(1, 0).ecx & BIT(21))) {
        note_skipped("smp.x2apic", "the CPU has none");
        return;
    }
    check("smp.x2apic", smp_x2apic());
    interrupts();
}

void group_smp(void)
{
    start_all();
    if (count == 0)
        return;
    interrupts();
    restart();
    storm();
    start_in_a_row();
    if (under_umbra && test_build) {
        shoot_down("shoot_down");
        umbra_memory();
        apic_off();
    } else {
        note_skipped("smp.shoot_down", "no test hypercalls");
    }
    x2apic();
    if (under_umbra && test_build)
        shoot_down("x2apic");
}

/* --- for other groups --- */

unsigned smp_start(void)
{
    if (count == 0)
        start_all();
    return count;
}

void smp_send(u32 id, u32 command)
{
    send_to = id;
    send_command = command;
    order = SEND;
}

void smp_send_once(u32 id, u32 command)
{
    send_to = id;
    send_command = command;
    order = SEND_ONCE;
}

void smp_send_and_wait(u32 id, u32 command)
{
    u32 before = send_count;

    smp_send_once(id, command);
    for (unsigned i = 0; i < patience() && send_count == before; i++)
        __asm__ volatile("pause");
}

bool smp_call(void (*function)(unsigned cpu))
{
    work = function;
    return all_do(CALL);
}

bool smp_rest(void)
{
    return all_do(WAIT);
}

u32 smp_id(unsigned who)
{
    return others[who].id;
}

unsigned smp_starts(unsigned who)
{
    return others[who].starts;
}

bool smp_call_one(unsigned who, void (*function)(void))
{
    call_begun = false;
    called = function;
    order = CALL_ONE;
    wake(1u << who);
    for (unsigned i = 0; i < patience() && !call_begun; i++)
        __asm__ volatile("pause");
    return call_begun;
}

bool smp_returned(unsigned who)
{
    bool returned = comes_to(who, RETURNED);

    order = WAIT;
    wake(~0u);
    return returned && comes_to(who, WAIT);
}

void smp_forget_call(void)
{
    order = WAIT;
    at_work = ~0u;
}

bool smp_has_started(unsigned who, unsigned starts)
{
    return wait_starts(&others[who], starts);
}
