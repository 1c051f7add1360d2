/* SPDX-License-Identifier: MIT */
/*
 * How an L2 guest starts: descriptor tables with exception stubs, identity page tables, and the registers of
 * each operating mode.
 */
#include <string.h>

#include "tests/system/linux/kvm-client/client.h"

L2(stubs64);
L2(stubs32);

enum { STUB_BYTES = 16, GATE_BYTES_64 = 16, GATE_BYTES_32 = 8 };

/* Descriptors as SDM volume 3, section 3.4.5, lays them out; by index of the selectors in client.h. */
static const u64 descriptors[] = {
    [CODE64 >> 3] = 0x00af9b000000ffff,      [DATA0 >> 3] = 0x00cf93000000ffff,
    [CODE32 >> 3] = 0x00cf9b000000ffff,      [DATA3 >> 3] = 0x00cff3000000ffff,
    [CODE64_USER >> 3] = 0x00affb000000ffff, [CODE32_USER >> 3] = 0x00cffb000000ffff,
    [TASK >> 3] = 0x00008b0030000067,        [NOT_PRESENT_DATA >> 3] = 0x00cf13000000ffff,
    [CODE16 >> 3] = 0x00009b000000ffff,
};

static void put(struct vm *vm, u64 address, u64 value, unsigned bytes)
{
    memcpy(vm->memory + address, &value, bytes);
}

void write_l2_tables(struct vm *vm)
{
    memcpy(vm->memory + L2_GDT, descriptors, sizeof(descriptors));
    put(vm, L2_TSS + 102, 104, 2); /* no I/O permission map */
}

static void write_idt64(struct vm *vm)
{
    vm_code(vm, L2_STUBS, l2_stubs64, l2_stubs64_end);
    put(vm, L2_TSS + 4, L2_KERNEL_STACK, 8);
    for (u64 i = 0; i < L2_VECTORS; i++) {
        u64 stub = L2_STUBS + i * STUB_BYTES;
        put(vm, L2_IDT + i * GATE_BYTES_64,
            stub | CODE64 << 16 | (i == 3 || i >= 32 ? 0xeeull : 0x8eull) << 40, 8);
        put(vm, L2_IDT + i * GATE_BYTES_64 + 8, 0, 8);
    }
}

static void write_idt32(struct vm *vm)
{
    vm_code(vm, L2_STUBS, l2_stubs32, l2_stubs32_end);
    put(vm, L2_TSS + 4, L2_KERNEL_STACK, 4);
    /* A 32-bit TSS has SS0 where the upper half of RSP0 is. */
    put(vm, L2_TSS + 8, DATA0, 4);
    for (u64 i = 0; i < L2_VECTORS; i++)
        put(vm, L2_IDT + i * GATE_BYTES_32, (L2_STUBS + i * STUB_BYTES) | CODE32 << 16 | 0x8eull << 40, 8);
}

void write_identity_tables(struct vm *vm)
{
    put(vm, L2_PML4, L2_PDPT | 7, 8);
    for (u64 i = 0; i < 4; i++) {
        put(vm, L2_PDPT + i * 8, (L2_PD + i * PAGE_SIZE) | 7, 8);
        put(vm, L2_PDPT_PAE + i * 8, (L2_PD + i * PAGE_SIZE) | 1, 8);
    }
    for (u64 i = 0; i < 2048; i++)
        put(vm, L2_PD + i * 8, i << 21 | 0x83, 8);
    for (u64 i = 0; i < 1024; i++)
        put(vm, L2_PD32 + i * 4, i << 22 | 0x83, 4);
}

void set_segment(struct kvm_segment *segment, u16 selector)
{
    u64 descriptor = descriptors[selector >> 3];
    u64 attributes = descriptor >> 40;
    memset(segment, 0, sizeof(*segment));
    segment->selector = selector;
    segment->base = (descriptor >> 16 & 0xffffff) | (descriptor >> 56) << 24;
    segment->limit = (u32)((descriptor & 0xffff) | (descriptor >> 32 & 0xf0000));
    segment->type = attributes & 15;
    segment->s = attributes >> 4 & 1;
    segment->dpl = attributes >> 5 & 3;
    segment->present = attributes >> 7 & 1;
    segment->l = attributes >> 13 & 1;
    segment->db = attributes >> 14 & 1;
    segment->g = attributes >> 15 & 1;
    if (segment->g)
        segment->limit = segment->limit << 12 | 0xfff;
}

static void real_segment(struct kvm_segment *segment, u8 type)
{
    *segment = (struct kvm_segment){.limit = 0xffff, .type = type, .s = 1, .present = 1};
}

static void all_data(struct kvm_sregs *sregs, const struct kvm_segment *segment)
{
    sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = *segment;
}

static void protected_segments(struct kvm_sregs *sregs, u16 code, u16 data)
{
    struct kvm_segment segment;
    set_segment(&segment, data);
    all_data(sregs, &segment);
    set_segment(&sregs->cs, code);
    set_segment(&sregs->tr, TASK);
    sregs->ldt = (struct kvm_segment){.unusable = 1, .type = 2};
    sregs->gdt = (struct kvm_dtable){.base = L2_GDT, .limit = sizeof(descriptors) - 1};
    sregs->idt = (struct kvm_dtable){.base = L2_IDT, .limit = 0xfff};
}

static void real_mode(struct kvm_sregs *sregs)
{
    struct kvm_segment segment;
    real_segment(&segment, 3);
    all_data(sregs, &segment);
    real_segment(&sregs->cs, 11);
    sregs->idt = (struct kvm_dtable){.base = 0, .limit = 0x3ff};
    sregs->cr0 = 0x10;
    sregs->cr3 = sregs->cr4 = sregs->efer = 0;
}

void start_in(struct vcpu *vcpu, enum mode mode, u64 rip)
{
    bool user = mode == MODE_LONG_USER, wide = user || mode == MODE_LONG;
    struct kvm_sregs sregs = get_sregs(vcpu);
    /* CR0: PE, ET, NE, WP, PG. CR4: PSE, PAE, OSFXSR, OSXMMEXCPT. EFER: LME, LMA, NXE. */
    static const struct {
        u64 cr0, cr3, cr4, efer;
    } control[] = {[MODE_FLAT32] = {0x31, 0, 0, 0},
                   [MODE_PAGED32] = {0x80010031, L2_PD32, 0x610, 0},
                   [MODE_PAE] = {0x80010031, L2_PDPT_PAE, 0x620, 0x800},
                   [MODE_LONG] = {0x80010031, L2_PML4, 0x620, 0xd00},
                   [MODE_LONG_USER] = {0x80010031, L2_PML4, 0x620, 0xd00}};
    if (mode == MODE_REAL) {
        real_mode(&sregs);
    } else {
        protected_segments(&sregs, wide ? (user ? CODE64_USER : CODE64) : CODE32, user ? DATA3 : DATA0);
        sregs.cr0 = control[mode].cr0;
        sregs.cr3 = control[mode].cr3;
        sregs.cr4 = control[mode].cr4;
        sregs.efer = control[mode].efer;
        if (wide)
            write_idt64(vcpu->vm);
        else
            write_idt32(vcpu->vm);
    }
    set_sregs(vcpu, &sregs);
    /* I/O privilege level 3: user code may use OUT to say something. */
    struct kvm_regs regs = {.rip = rip, .rsp = L2_STACK, .rflags = user ? 0x3002 : 2};
    set_regs(vcpu, &regs);
    memset(record_of(vcpu->vm), 0, sizeof(struct l2_record));
}

struct kvm_regs get_regs(struct vcpu *vcpu)
{
    struct kvm_regs regs = {0};
    must(vcpu->fd, KVM_GET_REGS, &regs, "KVM_GET_REGS");
    return regs;
}

void set_regs(struct vcpu *vcpu, const struct kvm_regs *regs)
{
    must(vcpu->fd, KVM_SET_REGS, regs, "KVM_SET_REGS");
}

struct kvm_sregs get_sregs(struct vcpu *vcpu)
{
    struct kvm_sregs sregs = {0};
    must(vcpu->fd, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
    return sregs;
}

void set_sregs(struct vcpu *vcpu, const struct kvm_sregs *sregs)
{
    must(vcpu->fd, KVM_SET_SREGS, sregs, "KVM_SET_SREGS");
}

struct one_msr {
    struct kvm_msrs header;
    struct kvm_msr_entry entry;
};

u64 get_msr(struct vcpu *vcpu, u32 msr)
{
    struct one_msr list = {{.nmsrs = 1}, {.index = msr}};
    return must(vcpu->fd, KVM_GET_MSRS, &list, "KVM_GET_MSRS") == 1 ? list.entry.data : ~0ull;
}

bool set_msr(struct vcpu *vcpu, u32 msr, u64 value)
{
    struct one_msr list = {{.nmsrs = 1}, {.index = msr, .data = value}};
    return may(vcpu->fd, KVM_SET_MSRS, &list) == 1;
}
