/* SPDX-License-Identifier: MIT */
#include "drivers/local-apic.h"

#include "arch/cpu.h"
#include "arch/msr.h"
#include "arch/percpu.h"

/* Offsets in the page of xAPIC mode; x2APIC mode has the same registers as MSRs, one per 16 bytes. */
enum {
    APIC_ID = 0x20,
    APIC_VERSION = 0x30,
    APIC_TPR = 0x80,
    APIC_EOI = 0xb0,
    APIC_LDR = 0xd0,
    APIC_DFR = 0xe0,
    APIC_SVR = 0xf0,
    APIC_ISR = 0x100,
    APIC_ESR = 0x280,
    APIC_CMCI = 0x2f0,
    APIC_TIMER = 0x320,
    APIC_THERMAL = 0x330,
    APIC_PERFORMANCE = 0x340,
    APIC_LINT0 = 0x350,
    APIC_LINT1 = 0x360,
    APIC_ERROR = 0x370,
    APIC_INITIAL_COUNT = 0x380,
    APIC_DIVIDE = 0x3e0,
};

enum { VECTORS = 256, IDLE_POLLS = 1000000 };
#define ICR_ANY_VECTOR     0xffu
#define ICR_LEVEL_ASSERT   0x4000u
#define ICR_LOGICAL        0x800u
#define ICR_SEND_PENDING   BIT(12)
#define ICR_SHORTHAND      0xc0000u
#define ICR_TO_SELF        0x40000u
#define ICR_TO_ALL         0x80000u
#define XAPIC_EVERYBODY    0xffu
#define LVT_MASKED         0x10000u
#define SVR_RESET          0xffu
#define DFR_RESET          0xffffffffu
#define VERSION_MAX_LVT(v) ((v) >> 16 & 0xff)

bool local_apic_is_x2apic(void)
{
    return (rdmsr(MSR_IA32_APIC_BASE) & IA32_APIC_BASE_EXTD) != 0;
}

u32 local_apic_read(unsigned offset)
{
    return local_apic_is_x2apic() ? (u32)rdmsr(MSR_X2APIC_FIRST + offset / 16)
                                  : *(const volatile u32 *)&this_cpu()->local_apic[offset];
}

void local_apic_write(unsigned offset, u32 value)
{
    if (local_apic_is_x2apic())
        (void)wrmsr_safe(MSR_X2APIC_FIRST + offset / 16, value);
    else
        *(volatile u32 *)&this_cpu()->local_apic[offset] = value;
}

hpa_t local_apic_page(void)
{
    return hpa(rdmsr(MSR_IA32_APIC_BASE) & BITS(51, 12));
}

u32 local_apic_id(void)
{
    return local_apic_is_x2apic() ? local_apic_read(APIC_ID) : local_apic_read(APIC_ID) >> 24;
}

static void wait_until_sent(void)
{
    unsigned polls = IDLE_POLLS;
    while ((local_apic_read(APIC_ICR) & ICR_SEND_PENDING) != 0 && polls-- != 0)
        cpu_relax();
}

static bool keep_startup;

void local_apic_keep_startup(void)
{
    keep_startup = true;
}

static void send_x2apic(u64 command)
{
    /* This WRMSR does not wait for earlier stores (SDM vol. 3A 11.12.3). */
    __asm__ volatile("mfence; lfence" : : : "memory");
    wrmsr(MSR_X2APIC_ICR, command);
}

static void send_xapic(u32 high, u32 command)
{
    wait_until_sent();
    local_apic_write(APIC_ICR_HIGH, high);
    local_apic_write(APIC_ICR, command);
    wait_until_sent();
}

/* The guest may be between the two writes of its own ICR: what it has put into the upper half stays. */
static void send(u32 destination, u32 command, bool keep)
{
    bool x2apic = local_apic_is_x2apic();
    u64 before = x2apic ? rdmsr(MSR_X2APIC_ICR) : local_apic_read(APIC_ICR);
    u32 high = x2apic ? 0 : local_apic_read(APIC_ICR_HIGH);

    keep = keep && (before & APIC_DELIVERY_MODE) == APIC_DELIVERY_STARTUP;
    if (x2apic) {
        send_x2apic((u64)destination << 32 | command);
        if (keep)
            send_x2apic(before);
        return;
    }
    send_xapic(destination << 24, command);
    if (keep)
        send_xapic(high, (u32)before);
    else
        local_apic_write(APIC_ICR_HIGH, high);
}

void local_apic_send(u32 destination, u32 command)
{
    send(destination, command, keep_startup);
}

u64 local_apic_command(void)
{
    if (local_apic_is_x2apic())
        return rdmsr(MSR_X2APIC_ICR);
    return (u64)(local_apic_read(APIC_ICR_HIGH) >> 24) << 32 | local_apic_read(APIC_ICR);
}

/* The logical destination 0 is nobody's, in each mode. */
void local_apic_forget_command(void)
{
    send(0, ICR_LOGICAL | ICR_LEVEL_ASSERT | ICR_ANY_VECTOR, false);
}

bool apic_command_reaches(u64 command, bool x2apic, u32 apic_id, bool self)
{
    u32 destination = (u32)(command >> 32), everybody = x2apic ? ~0u : XAPIC_EVERYBODY;

    switch (command & ICR_SHORTHAND) {
    case ICR_TO_SELF:
        return self;
    case ICR_TO_ALL:
        return true;
    case APIC_TO_OTHERS:
        return !self;
    default:
        break;
    }
    if (destination == everybody)
        return true;
    if ((command & ICR_LOGICAL) == 0)
        return destination == apic_id;
    /* The logical ID of x2APIC mode follows from the APIC ID: SDM vol. 3A 11.12.10.2. */
    return x2apic && destination >> 16 == (apic_id >> 4 & 0xffff) && (destination & BIT(apic_id & 15)) != 0;
}

static bool in_service(void)
{
    u32 any = 0;
    for (unsigned i = 0; i < VECTORS / 32; i++)
        any |= local_apic_read(APIC_ISR + i * 16);
    return any != 0;
}

void local_apic_reset(void)
{
    static const u16 lvt[] = {APIC_TIMER,       APIC_LINT0,   APIC_LINT1, APIC_ERROR,
                              APIC_PERFORMANCE, APIC_THERMAL, APIC_CMCI};

    if (!local_apic_is_x2apic() && this_cpu()->local_apic == NULL)
        return;
    for (unsigned i = 0; i < VECTORS && in_service(); i++)
        local_apic_write(APIC_EOI, 0);
    unsigned last = VERSION_MAX_LVT(local_apic_read(APIC_VERSION));
    for (unsigned i = 0; i < ARRAY_SIZE(lvt) && i <= last; i++)
        local_apic_write(lvt[i], LVT_MASKED);
    local_apic_write(APIC_INITIAL_COUNT, 0);
    local_apic_write(APIC_DIVIDE, 0);
    local_apic_write(APIC_TPR, 0);
    local_apic_write(APIC_ESR, 0);
    if (!local_apic_is_x2apic()) {
        local_apic_write(APIC_LDR, 0);
        local_apic_write(APIC_DFR, DFR_RESET);
    }
    local_apic_write(APIC_SVR, SVR_RESET);
}
