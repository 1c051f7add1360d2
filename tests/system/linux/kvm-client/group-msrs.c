/* SPDX-License-Identifier: MIT */
/*
 * MSRs of L2: values written and read back by L2, seen by the client and kept apart between two guests;
 * unknown MSRs, MSRs that the client handles itself; SYSCALL, SYSRET and SWAPGS.
 */
#include <string.h>

#include "tests/system/linux/kvm-client/client.h"

L2(msr64);
L2(fault_rdmsr);
L2(fault_wrmsr);
L2(syscall64);

enum {
    KERNEL_GS_BASE = 0xc0000102,
    GS_BASE = 0xc0000101,
    STAR = 0xc0000081,
    LSTAR = 0xc0000082,
    FMASK = 0xc0000084
};

static const struct {
    const char *name;
    u32 msr;
    u64 value;
} kept[] = {
    {"msrs.star", STAR, 0x001b000800000000},
    {"msrs.lstar", LSTAR, 0xffff800012345678},
    {"msrs.cstar", 0xc0000083, 0xffff800087654321},
    {"msrs.fmask", FMASK, 0x47700},
    {"msrs.fs_base", 0xc0000100, 0x7fff12345678},
    {"msrs.gs_base", GS_BASE, 0xffff888000001000},
    {"msrs.kernel_gs_base", KERNEL_GS_BASE, 0xffff888000002000},
    {"msrs.sysenter_cs", 0x174, 0x8},
    {"msrs.sysenter_esp", 0x175, 0x12345678},
    {"msrs.sysenter_eip", 0x176, 0x87654321},
    {"msrs.pat", 0x277, 0x0007010600070106},
    {"msrs.mtrr_default", 0x2ff, 0xc06},
    {"msrs.misc_enable", 0x1a0, 0x1801},
};

static void start_msr(struct vm *vm, u32 msr, u64 value)
{
    START(vm, msr64, MODE_LONG);
    struct kvm_regs regs = get_regs(&vm->vcpu[0]);
    regs.rcx = msr;
    regs.rsi = value;
    set_regs(&vm->vcpu[0], &regs);
}

static void written_and_read(struct vm *vm, struct vm *other)
{
    for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
        u64 before = get_msr(&other->vcpu[0], kept[i].msr);
        start_msr(vm, kept[i].msr, kept[i].value);
        bool good = finishes(&vm->vcpu[0]);
        struct kvm_regs regs = get_regs(&vm->vcpu[0]);
        start_msr(other, kept[i].msr, before);
        good &= finishes(&other->vcpu[0]);
        check(kept[i].name, good && regs.r8 == 3 && regs.rdi == kept[i].value &&
                                get_msr(&vm->vcpu[0], kept[i].msr) == kept[i].value &&
                                get_regs(&other->vcpu[0]).rbx == before);
    }
}

static void set_by_client(struct vm *vm)
{
    start_msr(vm, LSTAR, 0x1000);
    bool good = set_msr(&vm->vcpu[0], LSTAR, 0xffff800055556666) && finishes(&vm->vcpu[0]);
    check("msrs.set_by_client", good && get_regs(&vm->vcpu[0]).rbx == 0xffff800055556666);
    start_msr(vm, LSTAR, 0x800000000000);
    good = finishes(&vm->vcpu[0]);
    check("msrs.not_canonical", good && record_of(vm)->vector == 13 && get_regs(&vm->vcpu[0]).r8 == 1);
}

static void unknown(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, fault_rdmsr, MODE_LONG);
    check("msrs.unknown_read_ends", finishes(vcpu));
    check_eq("msrs.unknown_read", record_of(vm)->vector << 32 | record_of(vm)->count, 13ull << 32 | 1);
    START(vm, fault_wrmsr, MODE_LONG);
    check("msrs.unknown_write_ends", finishes(vcpu));
    check_eq("msrs.unknown_write", record_of(vm)->vector << 32 | record_of(vm)->count, 13ull << 32 | 1);
}

/* The client answers for unknown MSRs, and for one that a filter takes from KVM. */
static void in_user_space(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    const struct kvm_enable_cap enable = {.cap = KVM_CAP_X86_USER_SPACE_MSR,
                                          .args = {KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER}};
    u8 denied[8] = {0};
    struct kvm_msr_filter filter = {.flags = KVM_MSR_FILTER_DEFAULT_ALLOW};
    filter.ranges[0] = (struct kvm_msr_filter_range){.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
                                                     .nmsrs = 1,
                                                     .base = KERNEL_GS_BASE,
                                                     .bitmap = denied};
    must(vm->fd, KVM_ENABLE_CAP, &enable, "KVM_CAP_X86_USER_SPACE_MSR");
    must(vm->fd, KVM_X86_SET_MSR_FILTER, &filter, "KVM_X86_SET_MSR_FILTER");

    start_msr(vm, KERNEL_GS_BASE, 0x5555666677778888);
    bool good = stops(vcpu, KVM_EXIT_X86_RDMSR) && vcpu->run->msr.index == KERNEL_GS_BASE;
    vcpu->run->msr.data = 0x1122334455667788;
    good &= stops(vcpu, KVM_EXIT_X86_WRMSR) && vcpu->run->msr.data == 0x5555666677778888;
    good &= stops(vcpu, KVM_EXIT_X86_RDMSR);
    vcpu->run->msr.error = 1;
    good &= finishes(vcpu);
    check("msrs.filtered", good);
    check_eq("msrs.filtered_value", get_regs(vcpu).rbx, 0x1122334455667788);
    check_eq("msrs.filtered_error_is_gp", record_of(vm)->vector << 8 | get_regs(vcpu).r8, 13 << 8 | 2);

    START(vm, fault_rdmsr, MODE_LONG);
    good = stops(vcpu, KVM_EXIT_X86_RDMSR) && vcpu->run->msr.index == 0x12345;
    vcpu->run->msr.data = 0xabcd;
    vcpu->run->msr.error = 0;
    check("msrs.unknown_to_client", good && finishes(vcpu) && (get_regs(vcpu).rax & 0xffff) == 0xabcd);
    filter.ranges[0].nmsrs = 0;
    filter.ranges[0].flags = 0;
    must(vm->fd, KVM_X86_SET_MSR_FILTER, &filter, "KVM_X86_SET_MSR_FILTER");
}

/* From user mode through SYSCALL to supervisor mode and back, with GS for both. */
static void system_call(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, syscall64, MODE_LONG_USER);
    vm->next_table = L2_TABLES;
    u64 root = new_root(vm, FORMAT_LONG, true);
    map(vm, FORMAT_LONG, root, L2_DATA, L2_DATA, 1, PTE_P | PTE_W | PTE_U);
    map(vm, FORMAT_LONG, root, L2_DATA + 0x1000, L2_DATA + 0x1000, 1, PTE_P | PTE_W);
    *(u64 *)(void *)(vm->memory + L2_DATA) = 0x1111;
    *(u64 *)(void *)(vm->memory + L2_DATA + 0x1000) = 0x2222;
    struct kvm_sregs sregs = get_sregs(vcpu);
    sregs.cr3 = root;
    sregs.efer |= 1;
    sregs.gs.base = L2_DATA;
    set_sregs(vcpu, &sregs);
    bool good = set_msr(vcpu, STAR, 0x001b000800000000) && set_msr(vcpu, LSTAR, L2_CODE + 64) &&
                set_msr(vcpu, FMASK, 0x200) && set_msr(vcpu, KERNEL_GS_BASE, L2_DATA + 0x1000);
    check("msrs.syscall_ends", good && finishes(vcpu));
    struct kvm_regs regs = get_regs(vcpu);
    check_eq("msrs.syscall_ran", regs.r13, 0x600d);
    check_eq("msrs.syscall_cs", regs.r12, CODE64);
    check_eq("msrs.gs_before", regs.r8, 0x1111);
    check_eq("msrs.gs_swapped", regs.r9, 0x2222);
    check_eq("msrs.gs_after", regs.r10, 0x1111);
    check_eq("msrs.sysret_cpl", get_sregs(vcpu).cs.dpl, 3);
}

void group_msrs(void)
{
    struct vm vm, other;
    vm_create(&vm, SMALL_VM, VM_PLAIN);
    vm_create(&other, SMALL_VM, VM_PLAIN);
    written_and_read(&vm, &other);
    set_by_client(&vm);
    unknown(&vm);
    system_call(&vm);
    in_user_space(&other);
    vm_destroy(&vm);
    vm_destroy(&other);
}
