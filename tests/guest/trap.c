/* SPDX-License-Identifier: MIT */
/*
 * Descriptor tables and the C half of exception handling: a hook may take an event; else it ends the
 * faultable instruction or the attempt() in which it happened; else it ends the run with a failure.
 */
#include "tests/guest/guest.h"

struct gate {
    u16 offset_low, selector;
    u8 ist, attributes;
    u16 offset_middle;
    u32 offset_high, reserved;
} __attribute__((packed));

struct task_state {
    u32 reserved0;
    u64 rsp[3];
    u64 reserved1;
    u64 ist[7];
    u64 reserved2;
    u16 reserved3, io_map;
} __attribute__((packed));

struct pointer {
    u16 limit;
    u64 base;
} __attribute__((packed));

struct fixup {
    u64 start, resume;
};

/* A fault while pushing the frame (#SS) or after one went wrong (#DF) needs a stack that is known to be good.
 */
enum { IST_DF = 1, IST_SS = 2, GATE_INTERRUPT = 0x8e, GATE_PRESENT = 0x80, GATE_DPL3 = 0x60 };

extern const u8 vectors[];
extern u64 gdt_tss[2];
extern u64 attempt_stack;
extern const struct fixup fixups_start[], fixups_end[];
extern _Noreturn void attempt_unwind(void);
void trap(struct frame *frame);

struct fault fault;
static struct gate idt[256] __attribute__((aligned(16)));
static struct task_state tss;
static trap_hook *hooks[256];
static u8 stacks[3][STACK_BYTES] __attribute__((aligned(16)));

static void set_gate(unsigned vector, u8 ist, u8 attributes)
{
    u64 offset = (u64)vectors + 16 * (u64)vector;
    idt[vector] = (struct gate){.offset_low = (u16)offset,
                                .selector = SEL_CODE64,
                                .ist = ist,
                                .attributes = attributes,
                                .offset_middle = (u16)(offset >> 16)};
}

void trap_init(void)
{
    struct pointer pointer = {sizeof(idt) - 1, (u64)idt};
    u64 base = (u64)&tss;

    for (unsigned i = 0; i < 256; i++)
        set_gate(i, 0, GATE_INTERRUPT);
    set_gate(EXC_DF, IST_DF, GATE_INTERRUPT);
    set_gate(EXC_SS, IST_SS, GATE_INTERRUPT);
    set_gate(EXC_BP, 0, GATE_INTERRUPT | GATE_DPL3);
    set_gate(EXC_OF, 0, GATE_INTERRUPT | GATE_DPL3);
    set_gate(VECTOR_DONE, 0, GATE_INTERRUPT | GATE_DPL3);
    __asm__ volatile("lidt %0" ::"m"(pointer));

    tss.rsp[0] = (u64)stacks[0] + STACK_BYTES;
    tss.ist[IST_DF - 1] = (u64)stacks[1] + STACK_BYTES;
    tss.ist[IST_SS - 1] = (u64)stacks[2] + STACK_BYTES;
    tss.io_map = sizeof(tss);
    gdt_tss[0] = (u64)(sizeof(tss) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
    gdt_tss[1] = base >> 32;
    __asm__ volatile("ltr %w0" ::"r"(SEL_TSS));
}

void trap_set_hook(unsigned vector, trap_hook *hook)
{
    hooks[vector] = hook;
}

void trap_set_present(unsigned vector, bool present)
{
    if (present)
        idt[vector].attributes |= GATE_PRESENT;
    else
        idt[vector].attributes &= (u8)~GATE_PRESENT;
}

static void record(const struct frame *frame)
{
    fault.vector = frame->vector;
    fault.error = frame->error;
    fault.cr2 = read_cr2();
    __asm__ volatile("mov %%dr6, %0" : "=r"(fault.dr6));
    fault.frame = *frame;
}

void trap(struct frame *frame)
{
    if (hooks[frame->vector] && hooks[frame->vector](frame))
        return;
    record(frame);
    for (const struct fixup *fixup = fixups_start; fixup < fixups_end; fixup++) {
        if (fixup->start == frame->rip) {
            frame->rip = fixup->resume;
            return;
        }
    }
    if (attempt_stack)
        attempt_unwind();
    print("guest: unexpected vector %lu error 0x%lx rip 0x%lx cr2 0x%lx rsp 0x%lx\n", frame->vector,
          frame->error, frame->rip, fault.cr2, frame->rsp);
    give_up("no unexpected exception");
}
