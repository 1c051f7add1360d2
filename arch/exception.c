/* SPDX-License-Identifier: MIT */
/*
 * Descriptor tables of Umbra itself and what happens on an exception in Umbra. Sources: SDM vol. 3A ch. 3.4.5
 * (segment descriptors), 6.14 (64-bit IDT and stack switching), 8.7 (64-bit TSS).
 */
#include "arch/exception.h"

#include "arch/cpu.h"
#include "arch/msr.h"
#include "arch/print.h"

enum { EXCEPTION_VECTORS = 32, ENTRY_BYTES = 16 };

/* Interrupt-stack-table indices, 1-based as the IDT counts them. */
enum { IST_NONE = 0, IST_NMI = 1, IST_FAULT = 2 };

#define GDT_CODE64         0x00af9b000000ffffull /* present, DPL 0, code, readable, accessed, L */
#define GDT_DATA           0x00cf93000000ffffull /* present, DPL 0, data, writable, accessed */
#define GDT_TSS_AVAILABLE  0x0000890000000000ull
#define IDT_INTERRUPT_GATE 0x8e00u

struct idt_gate {
    u16 offset_low, selector, attributes, offset_middle;
    u32 offset_high, reserved;
};

static struct idt_gate idt[EXCEPTION_VECTORS];

extern const u8 exception_entries[];

struct fixup {
    u64 from, to;
};
extern const struct fixup fixups_start[], fixups_end[];

static const char *const exception_names[EXCEPTION_VECTORS] = {
    "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "9",   "#TS",
    "#NP", "#SS", "#GP", "#PF", "15",  "#MF", "#AC", "#MC", "#XM", "#VE", "#CP",
    "22",  "23",  "24",  "25",  "26",  "27",  "28",  "#VC", "#SX", "31",
};

u64 idt_base(void)
{
    return (u64)(uintptr_t)idt;
}

static u16 idt_limit(void)
{
    return sizeof(idt) - 1;
}

static unsigned exception_ist(unsigned vector)
{
    switch (vector) {
    case EXC_NMI:
        return IST_NMI;
    case EXC_DF:
    case EXC_MC:
        return IST_FAULT;
    default:
        return IST_NONE;
    }
}

void idt_init(void)
{
    for (unsigned vector = 0; vector < EXCEPTION_VECTORS; vector++) {
        u64 entry = (u64)(uintptr_t)&exception_entries[(size_t)vector * ENTRY_BYTES];
        idt[vector] = (struct idt_gate){
            .offset_low = (u16)entry,
            .selector = SELECTOR_CODE,
            .attributes = (u16)(IDT_INTERRUPT_GATE | exception_ist(vector)),
            .offset_middle = (u16)(entry >> 16),
            .offset_high = (u32)(entry >> 32),
        };
    }
}

static void load_segments(const struct percpu *cpu)
{
    struct descriptor_pointer gdt = {.limit = sizeof(cpu->gdt) - 1, .base = (u64)(uintptr_t)cpu->gdt};
    struct descriptor_pointer interrupts = {.limit = idt_limit(), .base = idt_base()};

    __asm__ volatile("lgdt %0\n\t"
                     "mov %2, %%ds\n\t"
                     "mov %2, %%es\n\t"
                     "mov %2, %%ss\n\t"
                     "mov %3, %%fs\n\t"
                     "mov %3, %%gs\n\t"
                     "pushq %4\n\t"
                     "lea 1f(%%rip), %%rax\n\t"
                     "push %%rax\n\t"
                     "lretq\n"
                     "1:\n\t"
                     "ltr %w5\n\t"
                     "lidt %1"
                     :
                     : "m"(gdt), "m"(interrupts), "r"(SELECTOR_DATA), "r"(0), "i"(SELECTOR_CODE),
                       "r"(SELECTOR_TSS)
                     : "rax", "memory");
}

void cpu_tables_load(struct percpu *cpu, const struct cpu_stacks *stacks)
{
    u64 tss = (u64)(uintptr_t)&cpu->tss;
    u64 limit = sizeof(cpu->tss) - 1;

    cpu->self = cpu;
    cpu->stack_top = stacks->exit;
    cpu->tss.ist[IST_NMI - 1] = stacks->nmi;
    cpu->tss.ist[IST_FAULT - 1] = stacks->fault;
    cpu->tss.io_map_base = sizeof(cpu->tss);
    cpu->gdt[SELECTOR_CODE / 8] = GDT_CODE64;
    cpu->gdt[SELECTOR_DATA / 8] = GDT_DATA;
    cpu->gdt[SELECTOR_TSS / 8] =
        GDT_TSS_AVAILABLE | limit | (tss & BITS(23, 0)) << 16 | (tss >> 24 & BITS(7, 0)) << 56;
    cpu->gdt[SELECTOR_TSS / 8 + 1] = tss >> 32;
    load_segments(cpu);
    wrmsr(MSR_FS_BASE, 0);
    wrmsr(MSR_GS_BASE, (u64)(uintptr_t)cpu);
}

static bool fix_up(struct exception_frame *frame)
{
    size_t count = ((uintptr_t)fixups_end - (uintptr_t)fixups_start) / sizeof(fixups_start[0]);
    for (size_t i = 0; i < count; i++) {
        if (fixups_start[i].from == frame->rip) {
            frame->rip = fixups_start[i].to;
            return true;
        }
    }
    return false;
}

static _Noreturn void exception_report(const struct exception_frame *frame)
{
    log_quiet(false);
    log_error("exception %s in Umbra, error code %lx, at %016lx",
              exception_names[frame->vector % EXCEPTION_VECTORS], frame->error_code, frame->rip);
    log_error("  cs %04lx rflags %08lx ss:rsp %04lx:%016lx", frame->cs, frame->rflags, frame->ss, frame->rsp);
    log_error("  cr0 %lx cr2 %lx cr3 %lx cr4 %lx", read_cr0(), read_cr2(), read_cr3(), read_cr4());
    log_registers(frame->gpr);
    fatal("an exception in Umbra itself: %s at %016lx; please report it with the lines above",
          exception_names[frame->vector % EXCEPTION_VECTORS], frame->rip);
}

void exception_handler(struct exception_frame *frame)
{
    if (frame->vector == EXC_NMI) {
        struct percpu *cpu = this_cpu();
        if (cpu->nmi_hook != NULL)
            cpu->nmi_hook(cpu->vcpu);
        return;
    }
    /*
     * A redirected INIT is noted wherever it comes: in a moment with GIF set, or, if a guest sends many,
     * before the entry for the one before has executed its CLGI. It stays clear on return, which ends that
     * moment.
     */
    if (frame->vector == EXC_SX && frame->error_code == SX_INIT) {
        this_cpu()->init_came = true;
        (void)fix_up(frame);
        return;
    }
    if (frame->vector == EXC_GP && fix_up(frame))
        return;
    exception_report(frame);
}
