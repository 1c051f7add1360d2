/* SPDX-License-Identifier: MIT */
/*
 * Interrupt controllers and timer in the kernel: 8259A and 8254 with KVM_IRQ_LINE, and the local APIC with
 * IPIs, task priority, timer, MSI and x2APIC.
 */
#include <string.h>

#include "tests/system/linux/kvm-client/client.h"

L2(pic64);
L2(pit64);
L2(apic_ipi64);
L2(apic_tpr64);
L2(apic_timer64);
L2(apic_x2apic64);
L2(apic_sleep64);

static void line(struct vm *vm, u32 number, u32 level)
{
    const struct kvm_irq_level request = {{number}, level};
    must(vm->fd, KVM_IRQ_LINE, &request, "KVM_IRQ_LINE");
}

/* Runs pic64 with the lines of `mask` open until `events` came. */
static void start_pic(struct vm *vm, u8 mask, u64 events)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, pic64, MODE_LONG);
    record_of(vm)->flags = EOI_PIC;
    struct kvm_regs regs = get_regs(vcpu);
    regs.r8 = (u8)~mask;
    regs.r9 = events;
    set_regs(vcpu, &regs);
}

/*
 * Two lines are raised before L2 takes interrupts, and one that stays masked. The timer must not run: KVM
 * gives the ticks that a slow L2 missed one after another, and they come before every other line.
 */
static void lines(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    start_pic(vm, 1 << 3, 2);
    check("irqchip.pic_ready", stops_at_port(vcpu, PORT_READY));
    line(vm, 5, 1);
    line(vm, 5, 0);
    line(vm, 3, 1);
    line(vm, 3, 0);
    line(vm, 6, 1);
    line(vm, 6, 0);
    vcpu->run->immediate_exit = 0;
    struct kvm_irqchip pic = {.chip_id = KVM_IRQCHIP_PIC_MASTER};
    must(vm->fd, KVM_GET_IRQCHIP, &pic, "KVM_GET_IRQCHIP");
    check_eq("irqchip.pic_requests", pic.chip.pic.irr, 1 << 6 | 1 << 5 | 1 << 3);
    pic.chip.pic.imr = (u8) ~(1 << 5 | 1 << 3);
    must(vm->fd, KVM_SET_IRQCHIP, &pic, "KVM_SET_IRQCHIP");
    check("irqchip.lines_end", finishes(vcpu));
    const struct l2_record *record = record_of(vm);
    check_eq("irqchip.lines", record->count, 2);
    check_eq("irqchip.line_3_is_first", record->log[0], 0x33);
    check_eq("irqchip.line_5_is_second", record->log[1], 0x35);
}

static void timer(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, pit64, MODE_LONG);
    check("irqchip.pit_set", finishes(vcpu));
    start_pic(vm, 1, 10);
    check("irqchip.pit_ready", stops_at_port(vcpu, PORT_READY));
    check("irqchip.pit_ends", finishes(vcpu));
    check("irqchip.pit_ticks", record_of(vm)->count >= 10);
    check_eq("irqchip.pit_vector", record_of(vm)->vector, 0x30);
}

void group_irqchip(void)
{
    struct vm vm;
    vm_create(&vm, SMALL_VM, VM_IRQCHIP);
    lines(&vm);
    timer(&vm);
    vm_destroy(&vm);
}

static void self_ipi(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, apic_ipi64, MODE_LONG);
    record_of(vm)->flags = EOI_APIC;
    struct kvm_regs regs = get_regs(vcpu);
    regs.r8 = 0x40034; /* to itself, fixed, vector 34H */
    regs.r10 = 1;
    set_regs(vcpu, &regs);
    check("apic.self_ipi_ends", finishes(vcpu));
    check_eq("apic.self_ipi", record_of(vm)->vector, 0x34);
    check_eq("apic.id", get_regs(vcpu).r11 >> 24, 0);
    check_eq("apic.version", get_regs(vcpu).r12 & 0xf0, 0x10);
}

static void task_priority(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, apic_tpr64, MODE_LONG);
    record_of(vm)->flags = EOI_APIC;
    check("apic.tpr_ends", finishes(vcpu));
    struct kvm_regs regs = get_regs(vcpu);
    check_eq("apic.tpr_holds_back", regs.r13, 0);
    check_eq("apic.tpr_lets_through", regs.r14, 1);
    check_eq("apic.tpr_register", regs.r12, 0x80);
    check_eq("apic.cr8", regs.r11, 8);
    check_eq("apic.tpr_vector", record_of(vm)->vector, 0x35);
}

static void apic_timer(struct vm *vm)
{
    START(vm, apic_timer64, MODE_LONG);
    record_of(vm)->flags = EOI_APIC;
    check("apic.timer_ends", finishes(&vm->vcpu[0]));
    check_eq("apic.timer_vector", record_of(vm)->vector, 0x36);
    check_eq("apic.timer_once", record_of(vm)->count, 1);
}

/* vCPU 0 sends an IPI to vCPU 1, which sleeps; then an MSI from the client. */
static void between_vcpus(struct vm *vm)
{
    struct vcpu *first = &vm->vcpu[0], *second = vcpu_create(vm);
    const struct kvm_mp_state runnable = {KVM_MP_STATE_RUNNABLE};
    must(second->fd, KVM_SET_MP_STATE, &runnable, "KVM_SET_MP_STATE");
    vm_code(vm, L2_CODE + 0x400, l2_apic_sleep64, l2_apic_sleep64_end);
    start_in(second, MODE_LONG, L2_CODE + 0x400);
    struct kvm_regs regs = get_regs(second);
    regs.rsp = L2_STACK - 0x800;
    set_regs(second, &regs);
    check("apic.second_ready", stops_at_port(second, PORT_READY));

    START(vm, apic_ipi64, MODE_LONG);
    record_of(vm)->flags = EOI_APIC;
    regs = get_regs(first);
    regs.r8 = 0x4038;
    regs.r9 = 1u << 24;
    set_regs(first, &regs);
    check("apic.ipi_sent", finishes(first));
    check("apic.ipi_wakes", stops_at_port(second, PORT_READY));
    check_eq("apic.ipi_vector", record_of(vm)->vector, 0x38);

    const struct kvm_msi msi = {.address_lo = 0xfee01000, .data = 0x39};
    must(vm->fd, KVM_SIGNAL_MSI, &msi, "KVM_SIGNAL_MSI");
    check("apic.msi_wakes", stops_at_port(second, PORT_READY));
    check_eq("apic.msi_vector", record_of(vm)->vector, 0x39);
    check_eq("apic.events", record_of(vm)->count, 2);

    /* NMI by IPI: it needs no STI, so that it comes before the second sleeps again. */
    START(vm, apic_ipi64, MODE_LONG);
    record_of(vm)->flags = NMI_TELLS;
    regs = get_regs(first);
    regs.r8 = 0x4400;
    regs.r9 = 1u << 24;
    set_regs(first, &regs);
    check("apic.nmi_sent", finishes(first));
    check("apic.nmi_seen", stops_at_port(second, PORT_READY));
    check_eq("apic.nmi_vector", record_of(vm)->vector, 2);
}

static void x2apic(struct vm *vm)
{
    if ((supported_cpuid_register(1, 0, 2) & BIT(21)) == 0) {
        skip("apic.x2apic", "KVM does not offer it");
        return;
    }
    START(vm, apic_x2apic64, MODE_LONG);
    record_of(vm)->flags = EOI_X2APIC;
    check("apic.x2apic_ends", finishes(&vm->vcpu[0]));
    check_eq("apic.x2apic_vector", record_of(vm)->vector, 0x37);
    check_eq("apic.x2apic_once", record_of(vm)->count, 1);
    check_eq("apic.x2apic_id", get_regs(&vm->vcpu[0]).r11, 0);
}

void group_apic(void)
{
    struct vm vm;
    vm_create(&vm, SMALL_VM, VM_IRQCHIP);
    self_ipi(&vm);
    task_priority(&vm);
    apic_timer(&vm);
    between_vcpus(&vm);
    x2apic(&vm);
    vm_destroy(&vm);
}
