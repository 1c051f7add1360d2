/* SPDX-License-Identifier: MIT */
/*
 * L2's exits that reach the client, with their values: CPUID, port and string I/O, MMIO of each size, HLT,
 * and instructions that KVM handles in silence.
 */
#include <stdlib.h>
#include <string.h>

#include <linux/kvm_para.h>

#include "tests/system/linux/kvm-client/client.h"

L2(cpuid64);
L2(pio64);
L2(string_pio64);
L2(mmio64);
L2(mmio_modify64);
L2(hlt64);
L2(wbinvd64);
L2(fault_hypercall_intel);
L2(fault_hypercall_amd);

enum { OWN_LEAF = 0x40000100 };

static struct kvm_regs cpuid_in_l2(struct vm *vm, u32 leaf, u32 subleaf)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, cpuid64, MODE_LONG);
    struct kvm_regs regs = get_regs(vcpu);
    regs.rax = 0xffffffff00000000 | leaf;
    regs.rcx = subleaf;
    set_regs(vcpu, &regs);
    check("exits.cpuid_ends", finishes(vcpu));
    return get_regs(vcpu);
}

static void cpuid_values(struct vm *vm)
{
    struct kvm_cpuid2 *supported = supported_cpuid();
    size_t bytes = sizeof(*supported) + (supported->nent + 1) * sizeof(supported->entries[0]);
    struct kvm_cpuid2 *leaves = malloc(bytes);
    memcpy(leaves, supported, bytes - sizeof(supported->entries[0]));
    leaves->entries[leaves->nent++] = (struct kvm_cpuid_entry2){
        .function = OWN_LEAF, .eax = 0x11111111, .ebx = 0x22222222, .ecx = 0x33333333, .edx = 0x44444444};
    /* KVM takes new leaves only before the first KVM_RUN. */
    must(vm->vcpu[0].fd, KVM_SET_CPUID2, leaves, "KVM_SET_CPUID2");
    free(leaves);

    struct kvm_regs regs = cpuid_in_l2(vm, OWN_LEAF, 0);
    check_eq("exits.cpuid_own_eax", regs.r8, 0x11111111);
    check_eq("exits.cpuid_own_ebx", regs.rbx, 0x22222222);
    check_eq("exits.cpuid_own_ecx", regs.rcx, 0x33333333);
    check_eq("exits.cpuid_own_edx", regs.rdx, 0x44444444);
    regs = cpuid_in_l2(vm, 0, 0);
    check_eq("exits.cpuid_vendor", regs.rbx, supported_cpuid_register(0, 0, 1));
    regs = cpuid_in_l2(vm, 7, 0);
    check_eq("exits.cpuid_leaf_7", regs.rbx, supported_cpuid_register(7, 0, 1));
}

/* One exit for an OUT of `size` bytes with `value`. */
static bool saw_out(struct vcpu *vcpu, u8 size, u64 value)
{
    return stops(vcpu, KVM_EXIT_IO) && vcpu->run->io.direction == KVM_EXIT_IO_OUT &&
           vcpu->run->io.port == 0x5a0 && vcpu->run->io.size == size && vcpu->run->io.count == 1 &&
           io_value(vcpu) == value;
}

static bool answered_in(struct vcpu *vcpu, u16 port, u8 size, u64 value)
{
    bool good = stops(vcpu, KVM_EXIT_IO) && vcpu->run->io.direction == KVM_EXIT_IO_IN &&
                vcpu->run->io.port == port && vcpu->run->io.size == size;
    answer_io(vcpu, value);
    return good;
}

static void port_io(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, pio64, MODE_LONG);
    check("exits.out_8", saw_out(vcpu, 1, 0x44));
    check("exits.out_16", saw_out(vcpu, 2, 0x3344));
    check("exits.out_32", saw_out(vcpu, 4, 0x11223344));
    check("exits.in_8", answered_in(vcpu, 0x5a0, 1, 0xab));
    check("exits.in_16", answered_in(vcpu, 0x5a0, 2, 0xabcd));
    check("exits.in_32", answered_in(vcpu, 0x5a0, 4, 0x89abcdef));
    check("exits.in_immediate", answered_in(vcpu, 0x71, 1, 0x5a));
    check("exits.pio_ends", finishes(vcpu));
    struct kvm_regs regs = get_regs(vcpu);
    check_eq("exits.in_8_value", regs.r8, 0x11111111111111ab);
    check_eq("exits.in_16_value", regs.r9, 0x222222222222abcd);
    check_eq("exits.in_32_value", regs.r10, 0x89abcdef);
    check_eq("exits.in_immediate_value", regs.r11, 0x89abcd5a);
}

static void string_io(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, string_pio64, MODE_LONG);
    struct kvm_regs regs = get_regs(vcpu);
    u8 sent[16], got[16], *source = vm->memory + L2_DATA;
    for (u8 i = 0; i < 16; i++) {
        source[i] = (u8)(i * 3 + 1);
        sent[i] = (u8)(200 - i);
    }
    regs.rsi = L2_DATA;
    regs.rdi = L2_DATA + 0x1ffc; /* crosses a page */
    set_regs(vcpu, &regs);
    u32 taken = 0, given = 0;
    while (given < sizeof(sent) && stops(vcpu, KVM_EXIT_IO) && vcpu->run->io.port == 0x5a4) {
        u8 *data = (u8 *)vcpu->run + vcpu->run->io.data_offset;
        u32 length = vcpu->run->io.count * vcpu->run->io.size;
        if (vcpu->run->io.direction == KVM_EXIT_IO_OUT && taken + length <= sizeof(got)) {
            memcpy(got + taken, data, length);
            taken += length;
        } else if (vcpu->run->io.direction == KVM_EXIT_IO_IN && given + length <= sizeof(sent)) {
            memcpy(data, sent + given, length);
            given += length;
        } else {
            break;
        }
    }
    check("exits.string_io_ends", finishes(vcpu));
    check("exits.outs", taken == 16 && memcmp(got, source, 16) == 0);
    check("exits.ins", given == 16 && memcmp(vm->memory + L2_DATA + 0x1ffc, sent, 16) == 0);
    regs = get_regs(vcpu);
    check_eq("exits.outs_rsi", regs.rsi, L2_DATA + 16);
    check_eq("exits.ins_rdi", regs.rdi, L2_DATA + 0x1ffc + 16);
}

static bool saw_store(struct vcpu *vcpu, u64 offset, u32 length, u64 value)
{
    return stops(vcpu, KVM_EXIT_MMIO) && vcpu->run->mmio.is_write &&
           vcpu->run->mmio.phys_addr == L2_HOLE + offset && vcpu->run->mmio.len == length &&
           mmio_value(vcpu) == value;
}

static bool answered_load(struct vcpu *vcpu, u64 offset, u32 length, u64 value)
{
    bool good = stops(vcpu, KVM_EXIT_MMIO) && !vcpu->run->mmio.is_write &&
                vcpu->run->mmio.phys_addr == L2_HOLE + offset && vcpu->run->mmio.len == length;
    memcpy(vcpu->run->mmio.data, &value, 8);
    return good;
}

static void mmio(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, mmio64, MODE_LONG);
    struct kvm_regs regs = get_regs(vcpu);
    regs.rdi = L2_HOLE;
    set_regs(vcpu, &regs);
    check("exits.store_8", saw_store(vcpu, 0, 1, 0x11));
    check("exits.store_16", saw_store(vcpu, 2, 2, 0x2211));
    check("exits.store_32", saw_store(vcpu, 4, 4, 0x44332211));
    check("exits.store_64", saw_store(vcpu, 8, 8, 0x8877665544332211));
    check("exits.store_immediate", saw_store(vcpu, 16, 4, 0x12345678));
    check("exits.load_8", answered_load(vcpu, 0, 1, 0x5a));
    check("exits.load_16", answered_load(vcpu, 2, 2, 0x5a5b));
    check("exits.load_32", answered_load(vcpu, 4, 4, 0x8badf00d));
    check("exits.load_64", answered_load(vcpu, 8, 8, 0x0123456789abcdef));
    check("exits.load_sign_extended", answered_load(vcpu, 3, 1, 0x80));
    check("exits.load_zero_extended", answered_load(vcpu, 6, 2, 0xfffe));
    check("exits.mmio_ends", finishes(vcpu));
    regs = get_regs(vcpu);
    check_eq("exits.load_8_value", regs.r8, 0xffffffffffffff5a);
    check_eq("exits.load_16_value", regs.r9, 0xffffffffffff5a5b);
    check_eq("exits.load_32_value", regs.r10, 0x8badf00d);
    check_eq("exits.load_64_value", regs.r11, 0x0123456789abcdef);
    check_eq("exits.load_sign_extended_value", regs.r12, 0xffffffffffffff80);
    check_eq("exits.load_zero_extended_value", regs.r13, 0xfffe);
}

static void mmio_modify(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, mmio_modify64, MODE_LONG);
    struct kvm_regs regs = get_regs(vcpu);
    memcpy(vm->memory + L2_DATA, "abcdefgh", 8);
    regs.rdi = L2_HOLE + 0x1000;
    regs.rsi = L2_DATA;
    set_regs(vcpu, &regs);
    check("exits.modify_load", answered_load(vcpu, 0x1000, 4, 37));
    check("exits.modify_store", saw_store(vcpu, 0x1000, 4, 42));
    check("exits.move_first", saw_store(vcpu, 0x1000, 4, 0x64636261));
    check("exits.move_second", saw_store(vcpu, 0x1004, 4, 0x68676665));
    check("exits.modify_ends", finishes(vcpu));
}

static void hlt(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, hlt64, MODE_LONG);
    bool halted = stops(vcpu, KVM_EXIT_HLT);
    check_eq("exits.hlt", halted ? get_regs(vcpu).rbx : 0, 1);
    halted = stops(vcpu, KVM_EXIT_HLT);
    check_eq("exits.hlt_again", halted ? get_regs(vcpu).rbx : 0, 2);
    check("exits.hlt_ends", finishes(vcpu));
    check_eq("exits.hlt_over", get_regs(vcpu).rbx, 3);
}

static void silent(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, wbinvd64, MODE_LONG);
    check("exits.wbinvd_ends", finishes(vcpu));
    check_eq("exits.wbinvd", get_regs(vcpu).rbx, 7);

    if (on_amd())
        START(vm, fault_hypercall_amd, MODE_LONG);
    else
        START(vm, fault_hypercall_intel, MODE_LONG);
    struct kvm_regs regs = get_regs(vcpu);
    regs.rax = 99;
    set_regs(vcpu, &regs);
    check("exits.hypercall_ends", finishes(vcpu));
    check_eq("exits.hypercall_no_event", record_of(vm)->count, 0);
    check_eq("exits.hypercall_unknown", get_regs(vcpu).rax, (u64)-KVM_ENOSYS);
}

void group_exits(void)
{
    struct vm vm;
    vm_create(&vm, SMALL_VM, VM_PLAIN);
    cpuid_values(&vm);
    port_io(&vm);
    string_io(&vm);
    mmio(&vm);
    mmio_modify(&vm);
    hlt(&vm);
    silent(&vm);
    vm_destroy(&vm);
}
