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
    APIC_ICR = 0x300,
    APIC_ICR_HIGH = 0x310,
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
#define ICR_SEND_PENDING   BIT(12)
#define LVT_MASKED         0x10000u
#define SVR_RESET          0xffu
#define DFR_RESET          0xffffffffu
#define VERSION_MAX_LVT(v) ((v) >> 16 & 0xff)

static bool x2apic_mode(void)
{
    return (rdmsr(MSR_IA32_APIC_BASE) & IA32_APIC_BASE_EXTD) != 0;
}

static u32 read_register(unsigned offset)
{
    return x2apic_mode() ? (u32)rdmsr(MSR_X2APIC_FIRST + offset / 16)
                         : *(const volatile u32 *)&this_cpu()->local_apic[offset];
}

static void write_register(unsigned offset, u32 value)
{
    if (x2apic_mode())
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
    return x2apic_mode() ? read_register(APIC_ID) : read_register(APIC_ID) >> 24;
}

static void wait_until_sent(void)
{
    unsigned polls = IDLE_POLLS;
    while ((read_register(APIC_ICR) & ICR_SEND_PENDING) != 0 && polls-- != 0)
        cpu_relax();
}

/* The guest may be between the two writes of its own ICR: what it has put into the upper half stays. */
void local_apic_send(u32 destination, u32 command)
{
    if (x2apic_mode()) {
        /* This WRMSR does not wait for earlier stores (SDM vol. 3A 11.12.3). */
        __asm__ volatile("mfence; lfence" : : : "memory");
        wrmsr(MSR_X2APIC_ICR, (u64)destination << 32 | command);
        return;
    }
    wait_until_sent();
    u32 high = read_register(APIC_ICR_HIGH);
    write_register(APIC_ICR_HIGH, destination << 24);
    write_register(APIC_ICR, command);
    wait_until_sent();
    write_register(APIC_ICR_HIGH, high);
}

static bool in_service(void)
{
    u32 any = 0;
    for (unsigned i = 0; i < VECTORS / 32; i++)
        any |= read_register(APIC_ISR + i * 16);
    return any != 0;
}

void local_apic_reset(void)
{
    static const u16 lvt[] = {APIC_TIMER,       APIC_LINT0,   APIC_LINT1, APIC_ERROR,
                              APIC_PERFORMANCE, APIC_THERMAL, APIC_CMCI};

    if (!x2apic_mode() && this_cpu()->local_apic == NULL)
        return;
    for (unsigned i = 0; i < VECTORS && in_service(); i++)
        write_register(APIC_EOI, 0);
    unsigned last = VERSION_MAX_LVT(read_register(APIC_VERSION));
    for (unsigned i = 0; i < ARRAY_SIZE(lvt) && i <= last; i++)
        write_register(lvt[i], LVT_MASKED);
    write_register(APIC_INITIAL_COUNT, 0);
    write_register(APIC_DIVIDE, 0);
    write_register(APIC_TPR, 0);
    write_register(APIC_ESR, 0);
    if (!x2apic_mode()) {
        write_register(APIC_LDR, 0);
        write_register(APIC_DFR, DFR_RESET);
    }
    write_register(APIC_SVR, SVR_RESET);
}
