/* SPDX-License-Identifier: MIT */
/*
 * Interrupts that the client injects (KVM_INTERRUPT, no interrupt controller in the kernel) through the
 * interrupt window, and NMIs with their blocking.
 */
#include <string.h>

#include "tests/system/linux/kvm-client/client.h"

L2(sti_loop64);
L2(sti_late64);
L2(tell_twice64);
L2(hlt64);

enum { FRESH = 0x280000, INTERRUPTS = 20 };

static void interrupt(struct vcpu *vcpu, u32 vector)
{
    const struct kvm_interrupt request = {vector};
    must(vcpu->fd, KVM_INTERRUPT, &request, "KVM_INTERRUPT");
}

static void nmi(struct vcpu *vcpu)
{
    must(vcpu->fd, KVM_NMI, NULL, "KVM_NMI");
}

static bool window(struct vcpu *vcpu)
{
    vcpu->run->request_interrupt_window = 1;
    bool open = stops(vcpu, KVM_EXIT_IRQ_WINDOW_OPEN) && vcpu->run->ready_for_interrupt_injection;
    vcpu->run->request_interrupt_window = 0;
    return open;
}

/* Many interrupts, each through a window, to a guest that loops with interrupts on. */
static void windows(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, sti_loop64, MODE_LONG);
    bool open = true, in_order = true;
    u32 sent = 0;
    for (; sent < INTERRUPTS && (open = window(vcpu)); sent++)
        interrupt(vcpu, 0x20 + sent % 16);
    open = open && window(vcpu);
    const struct l2_record *record = record_of(vm);
    for (u32 i = 0; i < sent; i++)
        in_order &= record->log[i] == 0x20 + i % 16;
    check("events.windows", open);
    check_eq("events.window_interrupts", record->count, INTERRUPTS);
    check("events.window_order", in_order);
    check_eq("events.window_if", record->rflags & 0x200, 0x200);
}

/* No window while interrupts are off, nor right after STI. */
static void window_after_sti(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, sti_late64, MODE_LONG);
    check("events.sti_ready", stops_at_port(vcpu, PORT_READY));
    check_eq("events.not_ready_with_if_0", vcpu->run->ready_for_interrupt_injection, 0);
    check_eq("events.if_flag_0", vcpu->run->if_flag, 0);
    bool open = window(vcpu);
    struct kvm_regs regs = get_regs(vcpu);
    check("events.sti_window", open);
    /* OUT 2, MOV 5, MOV 5, STI 1, and the one instruction of the shadow. */
    check_eq("events.sti_window_after_shadow", regs.rip, L2_CODE + 2 + 5 + 5 + 1 + 1);
    check_eq("events.sti_window_rbx", regs.rbx, 3);
    interrupt(vcpu, 0x31);
    check("events.sti_ends", finishes(vcpu));
    check_eq("events.sti_interrupt", record_of(vm)->vector, 0x31);
    check_eq("events.sti_interrupt_rip", record_of(vm)->rip, regs.rip);
    check_eq("events.sti_interrupt_once", record_of(vm)->count, 1);
}

static void interrupt_ends_hlt(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, hlt64, MODE_LONG);
    struct kvm_regs regs = get_regs(vcpu);
    regs.rflags |= 0x200;
    set_regs(vcpu, &regs);
    bool halted = stops(vcpu, KVM_EXIT_HLT);
    check("events.hlt", halted && vcpu->run->ready_for_interrupt_injection);
    interrupt(vcpu, 0x3f);
    check("events.hlt_again", stops(vcpu, KVM_EXIT_HLT));
    check_eq("events.hlt_interrupt", record_of(vm)->vector, 0x3f);
    check_eq("events.hlt_interrupt_rip", record_of(vm)->rip, L2_CODE + 5 + 1);
    check("events.hlt_ends", finishes(vcpu));
}

/* The stack of the event is memory that L1's KVM has not mapped: the delivery itself exits. */
static void fresh_stack(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    bool good = true;
    for (u64 i = 0; i < 8; i++) {
        START(vm, sti_loop64, MODE_LONG);
        good &= window(vcpu);
        struct kvm_regs regs = get_regs(vcpu);
        regs.rsp = FRESH + i * PAGE_SIZE + 0x800;
        set_regs(vcpu, &regs);
        if (i % 2 == 0)
            interrupt(vcpu, 0x32);
        else
            nmi(vcpu);
        good &= window(vcpu);
        good &= record_of(vm)->count == 1 && record_of(vm)->vector == (i % 2 == 0 ? 0x32u : 2u) &&
                record_of(vm)->rsp == regs.rsp && record_of(vm)->rip == regs.rip;
    }
    check("events.fresh_stack", good);
}

static void nmis(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, tell_twice64, MODE_LONG);
    check("events.nmi_ready", stops_at_port(vcpu, PORT_READY));
    nmi(vcpu);
    check("events.nmi_ends", finishes(vcpu));
    check_eq("events.nmi", record_of(vm)->vector, 2);
    check_eq("events.nmi_once", record_of(vm)->count, 1);
    check_eq("events.nmi_rip", record_of(vm)->rip, L2_CODE + 2);
}

/* A second NMI while the first is handled waits for its IRET; a third is lost in it. */
static void nmi_blocking(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, tell_twice64, MODE_LONG);
    record_of(vm)->flags = NMI_TELLS;
    bool good = stops_at_port(vcpu, PORT_READY);
    nmi(vcpu);
    check("events.nmi_handler", good & stops_at_port(vcpu, PORT_READY));
    check_eq("events.nmi_first", record_of(vm)->count, 1);
    struct kvm_vcpu_events events;
    must(vcpu->fd, KVM_GET_VCPU_EVENTS, &events, "KVM_GET_VCPU_EVENTS");
    check_eq("events.nmi_masked", events.nmi.masked, 1);
    nmi(vcpu);
    check("events.nmi_second_handler", stops_at_port(vcpu, PORT_READY));
    check_eq("events.nmi_second", record_of(vm)->count, 2);
    check_eq("events.nmi_second_after_iret", record_of(vm)->rip, L2_CODE + 2);
    check("events.nmi_blocking_ends", finishes(vcpu));
    check_eq("events.nmi_total", record_of(vm)->count, 2);
    must(vcpu->fd, KVM_GET_VCPU_EVENTS, &events, "KVM_GET_VCPU_EVENTS");
    check_eq("events.nmi_unmasked", events.nmi.masked, 0);
}

static void nmi_before_interrupt(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, sti_loop64, MODE_LONG);
    bool good = window(vcpu);
    u64 rip = get_regs(vcpu).rip;
    interrupt(vcpu, 0x33);
    nmi(vcpu);
    good &= window(vcpu);
    check("events.both_window", good);
    check_eq("events.both", record_of(vm)->count, 2);
    check("events.both_seen", (record_of(vm)->log[0] == 2 && record_of(vm)->log[1] == 0x33) ||
                                  (record_of(vm)->log[0] == 0x33 && record_of(vm)->log[1] == 2));
    check("events.both_return",
          rip >= L2_CODE && get_regs(vcpu).rip >= L2_CODE && get_regs(vcpu).rip < L2_CODE + 0x40);
}

void group_events(void)
{
    struct vm vm;
    vm_create(&vm, SMALL_VM, VM_PLAIN);
    windows(&vm);
    window_after_sti(&vm);
    interrupt_ends_hlt(&vm);
    fresh_stack(&vm);
    nmis(&vm);
    nmi_blocking(&vm);
    nmi_before_interrupt(&vm);
    vm_destroy(&vm);
}
