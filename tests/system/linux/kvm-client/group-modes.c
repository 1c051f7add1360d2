/* SPDX-License-Identifier: MIT */
/*
 * Operating modes of L2: real, protected with and without paging, PAE, 64-bit, and one guest that goes
 * through all of them.
 */
#include <string.h>

#include "tests/system/linux/kvm-client/client.h"

L2(real16);
L2(real_interrupt16);
L2(all_modes16);
L2(arithmetic32);
L2(arithmetic64);
L2(hole32);

static void real_mode(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, real16, MODE_REAL);
    struct kvm_regs regs = get_regs(vcpu);
    regs.rdx = 0;
    set_regs(vcpu, &regs);
    memset(vm->memory, 0, 0x400);
    /* Segment FFFFH with an offset of 10H is the first byte above 1 MByte. */
    memcpy(vm->memory + L2_DATA, "\x42\x77", 2);
    check("modes.real_ends", finishes(vcpu));
    regs = get_regs(vcpu);
    check_eq("modes.real_add", regs.rbx & 0xffff, 0x5555);
    check_eq("modes.real_interrupt", regs.rdx & 0xffff, 0x2121);
    check_eq("modes.real_stack", regs.rbp & 0xffff, 0x5555);
    check_eq("modes.real_segment", *(u32 *)(void *)(vm->memory + 0x20010), 0xcafef00d);
    check_eq("modes.real_above_1m", regs.rdi & 0xffff, 0x7742);
    check("modes.real_string", memcmp(vm->memory + 0x20100, vm->memory + L2_CODE, 16) == 0);
    struct kvm_sregs sregs = get_sregs(vcpu);
    check_eq("modes.real_segment_base", sregs.es.base, 0x20000);
    check_eq("modes.real_cr0", sregs.cr0 & 0x80000001, 0);
}

static void real_interrupts(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    const struct kvm_interrupt interrupt = {0x30};
    START(vm, real_interrupt16, MODE_REAL);
    vcpu->run->request_interrupt_window = 1;
    bool windows = true;
    for (unsigned i = 0; i < 3; i++) {
        windows &= stops(vcpu, KVM_EXIT_IRQ_WINDOW_OPEN);
        must(vcpu->fd, KVM_INTERRUPT, &interrupt, "KVM_INTERRUPT");
    }
    vcpu->run->request_interrupt_window = 0;
    check("modes.real_windows", windows);
    check("modes.real_interrupts_end", finishes(vcpu));
    check_eq("modes.real_interrupts", *(u32 *)(void *)(vm->memory + 0x9000), 3);
}

static void protected_mode(struct vm *vm, enum mode mode, const char *end, const char *sum, const char *high)
{
    START(vm, arithmetic32, mode);
    check(end, finishes(&vm->vcpu[0]));
    struct kvm_regs regs = get_regs(&vm->vcpu[0]);
    check_eq(sum, regs.rcx & 0xffffffff, 5050);
    check_eq(high, (regs.rdi & 0xffffffff) << 32 | (regs.rsi & 0xffffffff), 0x12345678ull * 0x9abcdef0ull);
}

static void hole_in_protected_mode(struct vm *vm, enum mode mode, const char *write, const char *read)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, hole32, mode);
    struct kvm_regs regs = get_regs(vcpu);
    regs.rax = 0xbeef;
    set_regs(vcpu, &regs);
    bool out = stops(vcpu, KVM_EXIT_MMIO);
    check_eq(write, out && vcpu->run->mmio.is_write ? vcpu->run->mmio.phys_addr << 16 | mmio_value(vcpu) : 0,
             L2_HOLE << 16 | 0xbeef);
    bool in = stops(vcpu, KVM_EXIT_MMIO);
    memcpy(vcpu->run->mmio.data, "\x11\x22\x33\x44", 4);
    in &= finishes(vcpu);
    check_eq(read, in ? get_regs(vcpu).rbx & 0xffffffff : 0, 0x44332211);
}

static void long_mode(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    unsigned __int128 product = (unsigned __int128)0x123456789abcdef0ull * 0xfedcba9876543210ull;
    START(vm, arithmetic64, MODE_LONG);
    check("modes.long_ends", finishes(vcpu));
    struct kvm_regs regs = get_regs(vcpu);
    check_eq("modes.long_add", regs.rbx, 0x123456789abcdef0ull + 0xfedcba9876543210ull);
    check_eq("modes.long_multiply_high", regs.r8, (u64)(product >> 64));
    check_eq("modes.long_multiply_low", regs.r9, (u64)product);
    check_eq("modes.long_loop_and_stack", regs.rdi, 5050);
    check_eq("modes.long_rsp", regs.rsp, L2_STACK);
    struct kvm_sregs sregs = get_sregs(vcpu);
    check_eq("modes.long_efer", sregs.efer & 0x500, 0x500);
    check_eq("modes.long_cs", sregs.cs.l, 1);
}

static void all_modes(struct vm *vm)
{
    static const u32 marks[] = {1, 2, 3, 0, 0x55667788, 0x11223344, 5, 6, 7};
    START(vm, all_modes16, MODE_REAL);
    memset(vm->memory + 0x9000, 0, 0x100);
    check("modes.all_ends", finishes(&vm->vcpu[0]));
    check("modes.all_marks", memcmp(vm->memory + 0x9000, marks, sizeof(marks)) == 0);
    struct kvm_sregs sregs = get_sregs(&vm->vcpu[0]);
    check_eq("modes.all_cr0", sregs.cr0 & 0x80000001, 0);
    check_eq("modes.all_efer", sregs.efer & 0x500, 0);
}

void group_modes(void)
{
    struct vm vm;
    vm_create(&vm, SMALL_VM, VM_PLAIN);
    real_mode(&vm);
    real_interrupts(&vm);
    protected_mode(&vm, MODE_FLAT32, "modes.flat32_ends", "modes.flat32_sum", "modes.flat32_product");
    protected_mode(&vm, MODE_PAGED32, "modes.paged32_ends", "modes.paged32_sum", "modes.paged32_product");
    protected_mode(&vm, MODE_PAE, "modes.pae_ends", "modes.pae_sum", "modes.pae_product");
    hole_in_protected_mode(&vm, MODE_FLAT32, "modes.flat32_mmio_write", "modes.flat32_mmio_read");
    hole_in_protected_mode(&vm, MODE_PAGED32, "modes.paged32_mmio_write", "modes.paged32_mmio_read");
    hole_in_protected_mode(&vm, MODE_PAE, "modes.pae_mmio_write", "modes.pae_mmio_read");
    long_mode(&vm);
    all_modes(&vm);
    /* Again, now that the vCPU has been in every mode. */
    real_mode(&vm);
    vm_destroy(&vm);
}
