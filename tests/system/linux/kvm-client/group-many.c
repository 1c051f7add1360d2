/* SPDX-License-Identifier: MIT */
/*
 * Several guests that take turns on one CPU, two vCPUs of one guest, ends that a guest brings about itself,
 * and what exits and turns cost.
 */
#include <stdio.h>
#include <string.h>

#include "tests/system/linux/kvm-client/client.h"

L2(counter64);
L2(real_loop16);
L2(fault_triple);
L2(fault_jump_hole);
L2(arithmetic64);
L2(pio_loop64);
L2(cpuid_loop64);
L2(mmio_loop64);
L2(empty_loop64);

enum { VMS = 20 };

static void start_counter(struct vcpu *vcpu, u64 address, u64 rsp)
{
    vm_code(vcpu->vm, L2_CODE, l2_counter64, l2_counter64_end);
    start_in(vcpu, MODE_LONG, L2_CODE);
    struct kvm_regs regs = get_regs(vcpu);
    regs.rdi = address;
    regs.rsp = rsp;
    set_regs(vcpu, &regs);
}

static void take_turns(struct vm *vms, u64 count, u64 rounds, const char *name, const char *cost)
{
    bool good = true;
    for (u64 i = 0; i < count; i++) {
        start_counter(&vms[i].vcpu[0], L2_DATA + i * 8, L2_STACK);
        *(u64 *)(void *)(vms[i].memory + L2_DATA + i * 8) = i * 1000;
    }
    u64 started = time_stamp();
    for (u64 round = 1; round <= rounds; round++) {
        for (u64 i = 0; i < count; i++)
            good &= vcpu_run(&vms[i].vcpu[0]) == KVM_EXIT_IO && io_value(&vms[i].vcpu[0]) == i * 1000 + round;
    }
    bench(cost, rounds * count, time_stamp() - started, "exits");
    check(name, good);
}

static void two_vcpus(struct vm *vm)
{
    struct vcpu *first = &vm->vcpu[0], *second = vcpu_create(vm);
    const struct kvm_mp_state runnable = {KVM_MP_STATE_RUNNABLE};
    must(second->fd, KVM_SET_MP_STATE, &runnable, "KVM_SET_MP_STATE");
    start_counter(first, L2_DATA, L2_STACK);
    start_counter(second, L2_DATA, L2_STACK - 0x400);
    *(u64 *)(void *)(vm->memory + L2_DATA) = 0;
    bool good = true;
    for (u64 i = 1; i <= 100; i++) {
        struct vcpu *vcpu = i % 2 ? first : second;
        good &= stops_at_port(vcpu, PORT_VALUE) && io_value(vcpu) == i;
    }
    check("many.two_vcpus", good);
    check_eq("many.first_rbx", get_regs(first).rbx, 50);
    check_eq("many.second_rbx", get_regs(second).rbx, 50);

    /* One of them in real mode, beside the other in 64-bit mode. */
    vm_code(vm, L2_CODE + 0x800, l2_real_loop16, l2_real_loop16_end);
    start_in(second, MODE_REAL, L2_CODE + 0x800);
    start_counter(first, L2_DATA, L2_STACK);
    good = true;
    for (u8 i = 0; i < 30; i++) {
        good &= stops_at_port(first, PORT_VALUE);
        good &= vcpu_run(second) == KVM_EXIT_IO && second->run->io.port == 0x60;
        answer_io(second, i);
        good &= stops_at_port(second, PORT_VALUE) && io_value(second) == i;
    }
    check("many.two_modes", good);
}

void group_many(void)
{
    static struct vm vms[VMS];
    for (unsigned i = 0; i < VMS; i++)
        vm_create(&vms[i], SMALL_VM, VM_PLAIN);
    take_turns(vms, 1, 200, "many.one_vm", "turns-1");
    take_turns(vms, 2, 100, "many.two_vms", "turns-2");
    take_turns(vms, 4, 50, "many.four_vms", "turns-4");
    take_turns(vms, VMS, 20, "many.twenty_vms", "turns-20");
    two_vcpus(&vms[1]);
    for (unsigned i = 0; i < VMS; i += 2)
        vm_destroy(&vms[i]);
    bool good = true;
    for (unsigned i = 1; i < VMS; i += 2) {
        start_counter(&vms[i].vcpu[0], L2_DATA, L2_STACK);
        good &= stops_at_port(&vms[i].vcpu[0], PORT_VALUE);
        vm_destroy(&vms[i]);
    }
    check("many.half_left", good);
}

/* --- ends
 * --------------------------------------------------------------------------------------------------------------
 */

static void triple_fault(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, fault_triple, MODE_LONG);
    struct kvm_sregs sregs = get_sregs(vcpu);
    sregs.idt.limit = 0;
    set_sregs(vcpu, &sregs);
    check("errors.triple_fault", stops(vcpu, KVM_EXIT_SHUTDOWN));
    check_eq("errors.triple_fault_no_event", record_of(vm)->count, 0);
}

static void works_again(struct vm *vm, const char *name)
{
    START(vm, arithmetic64, MODE_LONG);
    check(name, finishes(&vm->vcpu[0]) && get_regs(&vm->vcpu[0]).rdi == 5050);
}

/* Without unrestricted guests KVM does not enter a guest in a state of that kind: it emulates its
 * instructions. */
static bool kvm_emulates_invalid_state(void)
{
    FILE *file = fopen("/sys/module/kvm_intel/parameters/unrestricted_guest", "r");
    bool emulates = file && fgetc(file) == 'N';
    if (file)
        fclose(file);
    return emulates;
}

/* Guest state that the CPU refuses to enter: Intel an impossible task register; AMD L and D set in CS. */
static void invalid_state(struct vm *vm)
{
    if (kvm_emulates_invalid_state()) {
        skip("errors.invalid_state", "L1's KVM runs without unrestricted guests");
        return;
    }
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, arithmetic64, MODE_LONG);
    struct kvm_sregs sregs = get_sregs(vcpu);
    if (on_amd())
        sregs.cs.db = 1;
    else
        sregs.tr.type = 0;
    set_sregs(vcpu, &sregs);
    u32 reason = vcpu_run(vcpu);
    check_eq("errors.invalid_state", reason, KVM_EXIT_FAIL_ENTRY);
    u64 hardware = vcpu->run->fail_entry.hardware_entry_failure_reason;
    /* Basic exit reason 33 with bit 31, or VMEXIT_INVALID. */
    check_eq("errors.invalid_state_reason", hardware & 0xffffffff, on_amd() ? 0xffffffff : 0x80000021);
    check_eq("errors.invalid_state_ran_nothing", get_regs(vcpu).rip, L2_CODE);
}

static void jump_to_hole(struct vm *vm)
{
    START(vm, fault_jump_hole, MODE_LONG);
    u32 reason = vcpu_run(&vm->vcpu[0]);
    check_eq("errors.fetch_from_hole", reason, KVM_EXIT_INTERNAL_ERROR);
    check_eq("errors.fetch_from_hole_suberror", vm->vcpu[0].run->internal.suberror,
             KVM_INTERNAL_ERROR_EMULATION);
}

void group_errors(void)
{
    struct vm vm;
    vm_create(&vm, SMALL_VM, VM_PLAIN);
    triple_fault(&vm);
    works_again(&vm, "errors.after_triple_fault");
    invalid_state(&vm);
    works_again(&vm, "errors.after_invalid_state");
    jump_to_hole(&vm);
    works_again(&vm, "errors.after_fetch_from_hole");
    vm_destroy(&vm);
}

/* --- costs
 * ---------------------------------------------------------------------------------------------------------------
 */

/* Runs a loop of `count`; exits of `reason` are counted and nothing else is done with them. */
static void timed_loop(struct vm *vm, u64 count, u32 reason, const char *name, const char *checked)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    struct kvm_regs regs = get_regs(vcpu);
    regs.rcx = regs.rsi = count;
    regs.rdi = L2_HOLE;
    set_regs(vcpu, &regs);
    u64 exits = 0;
    u32 last;
    u64 started = time_stamp();
    while ((last = vcpu_run(vcpu)) == reason && !(last == KVM_EXIT_IO && vcpu->run->io.port == PORT_END))
        exits++;
    bench(name, count, time_stamp() - started, "exits");
    check_eq(checked, last == KVM_EXIT_IO && vcpu->run->io.port == PORT_END ? exits : ~0ull,
             reason ? count : 0);
    complete(vcpu);
}

void group_bench(void)
{
    struct vm vm;
    vm_create(&vm, SMALL_VM, VM_PLAIN);
    START(&vm, pio_loop64, MODE_LONG);
    timed_loop(&vm, 1000, KVM_EXIT_IO, "pio", "bench.pio_1000");
    START(&vm, pio_loop64, MODE_LONG);
    timed_loop(&vm, 20000, KVM_EXIT_IO, "pio-long", "bench.pio_20000");
    START(&vm, mmio_loop64, MODE_LONG);
    timed_loop(&vm, 2000, KVM_EXIT_MMIO, "mmio", "bench.mmio");
    START(&vm, cpuid_loop64, MODE_LONG);
    timed_loop(&vm, 20000, 0, "cpuid", "bench.cpuid");
    START(&vm, empty_loop64, MODE_LONG);
    timed_loop(&vm, 1000000, 0, "none", "bench.none");
    vm_destroy(&vm);
}
