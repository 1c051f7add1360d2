/* SPDX-License-Identifier: MIT */
/* What the random L2s of both vendors have in common; see tests/guest/random-l2.h. */
#include "tests/guest/random-l2.h"

#include "arch/msr.h"

u8 random_data[PAGE_SIZE] __attribute__((aligned(4096)));
unsigned random_interrupts, random_nmis;
static void (*in_nmi)(void);

static bool take_interrupt(struct frame *at)
{
    (void)at;
    random_interrupts++;
    apic_write(APIC_EOI, 0);
    return true;
}

static bool take_nmi(struct frame *at)
{
    void (*function)(void) = in_nmi;

    (void)at;
    in_nmi = NULL;
    if (function == NULL) {
        random_nmis++;
        return true;
    }
    apic_send_self(EXC_NMI);
    function();
    return true;
}

void random_begin(void)
{
    apic_init();
    trap_set_hook(VECTOR_SELF, take_interrupt);
    trap_set_hook(EXC_NMI, take_nmi);
}

void random_end(void)
{
    trap_set_hook(VECTOR_SELF, NULL);
    trap_set_hook(EXC_NMI, NULL);
}

void random_begin_series(unsigned series)
{
    const char *seed = option(boot.command_line, "seed");

    hostile_seed((seed != NULL ? number(seed, NULL) : 1) << 32 | series);
    l2.rbx = (u64)random_data;
}

void random_registers(u64 rax)
{
    static const u32 msrs[] = {MSR_EFER, MSR_STAR, MSR_LSTAR, MSR_KERNEL_GS_BASE, MSR_IA32_SYSENTER_CS};
    static const u16 ports[] = {0x80, 0xed, 0xfffd, 0xffff};
    u64 data = l2.rbx;

    memset(&l2, 0, sizeof(l2));
    l2.rax = rax;
    l2.rbx = data;
    l2.rcx = msrs[hostile_below(ARRAY_SIZE(msrs))];
    l2.rdx = ports[hostile_below(ARRAY_SIZE(ports))];
    l2.rsi = 0x1234;
}

void random_events_begin(void)
{
    random_interrupts = random_nmis = 0;
}

void random_with_nmi(void (*function)(void))
{
    in_nmi = function;
    apic_send_self(EXC_NMI);
}

void random_events_drain(void)
{
    apic_write(APIC_EOI, 0);
    apic_write(APIC_TPR, 0);
    __asm__ volatile("sti\nnop\nnop\ncli");
    /* The IRET of an interrupt ends the blocking of NMIs. */
    apic_send_self(VECTOR_SELF);
    __asm__ volatile("sti\nnop\nnop\ncli");
}
