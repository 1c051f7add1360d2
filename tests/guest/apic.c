/* SPDX-License-Identifier: MIT */
/* The legacy interrupt controllers and timer, and the local APIC in both its modes: just enough for tests. */
#include "tests/guest/guest.h"

enum { PIC1 = 0x20, PIC2 = 0xa0, PIT_CHANNEL0 = 0x40, PIT_COMMAND = 0x43, PIT_HZ = 1193182 };
enum {
    MSR_APIC_BASE = 0x1b,
    MSR_X2APIC = 0x800,
    APIC_MMIO = 0xfee00000,
    BASE_X2APIC = 0x400,
    BASE_ENABLE = 0x800
};
enum { SVR_ENABLE = 0x100, ICR_BUSY = 0x1000 };

bool apic_is_x2apic;

void pic_init(void)
{
    out8(PIC1, 0x11);
    out8(PIC2, 0x11);
    out8(PIC1 + 1, VECTOR_PIT);
    out8(PIC2 + 1, VECTOR_PIT + 8);
    out8(PIC1 + 1, 4);
    out8(PIC2 + 1, 2);
    out8(PIC1 + 1, 1);
    out8(PIC2 + 1, 1);
    pic_mask(0xffff);
}

void pic_mask(u16 mask)
{
    out8(PIC1 + 1, (u8)mask);
    out8(PIC2 + 1, (u8)(mask >> 8));
}

void pic_eoi(void)
{
    out8(PIC1, 0x20);
}

void pit_periodic(u32 hertz)
{
    u32 divisor = PIT_HZ / hertz;
    out8(PIT_COMMAND, 0x34);
    out8(PIT_CHANNEL0, (u8)divisor);
    out8(PIT_CHANNEL0, (u8)(divisor >> 8));
}

void apic_init(void)
{
    apic_is_x2apic = rdmsr(MSR_APIC_BASE) & BASE_X2APIC;
    apic_write(APIC_SVR, SVR_ENABLE | VECTOR_SPURIOUS);
}

bool apic_enable_x2apic(void)
{
    if (!(cpuid(1, 0).ecx & BIT(21)))
        return false;
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | BASE_ENABLE | BASE_X2APIC);
    apic_init();
    return apic_is_x2apic;
}

u32 apic_read(unsigned offset)
{
    if (apic_is_x2apic)
        return (u32)rdmsr(MSR_X2APIC + offset / 16);
    return *(volatile u32 *)(u64)(APIC_MMIO + offset);
}

void apic_write(unsigned offset, u32 value)
{
    if (apic_is_x2apic)
        wrmsr(MSR_X2APIC + offset / 16, value);
    else
        *(volatile u32 *)(u64)(APIC_MMIO + offset) = value;
}

u32 apic_id(void)
{
    u32 id = apic_read(APIC_ID);
    return apic_is_x2apic ? id : id >> 24;
}

void apic_send(u32 id, u32 command)
{
    if (apic_is_x2apic) {
        wrmsr(MSR_X2APIC + APIC_ICR / 16, (u64)id << 32 | command);
        return;
    }
    apic_write(APIC_ICR + 0x10, id << 24);
    apic_write(APIC_ICR, command);
    while (apic_read(APIC_ICR) & ICR_BUSY)
        ;
}

void apic_send_self(unsigned vector)
{
    /* The self shorthand is for fixed interrupts only: an NMI goes to this CPU by its APIC ID. */
    apic_send(apic_id(), vector == EXC_NMI ? (u32)ICR_NMI : ICR_SELF | ICR_FIXED | vector);
}

void apic_send_init(void)
{
    apic_send(apic_id(), ICR_INIT);
}
