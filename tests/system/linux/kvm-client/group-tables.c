/* SPDX-License-Identifier: MIT */
/*
 * L2 manages page tables of its own: changes of CR3, INVLPG, global pages, a change of page size, PCIDs, and
 * tables whose memory L1's KVM has dropped from its EPT or NPT, so that the walk itself faults.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>

#include "tests/system/linux/kvm-client/client.h"

L2(switch_cr3_64);
L2(invlpg64);
L2(access64);

#define VA      0x7f4041201000ull
#define VA_NEXT 0x7f4041205000ull
#define FIRST   0x300000ull
#define SECOND  0x302000ull

static u64 root_to(struct vm *vm, u64 pa, u64 flags)
{
    u64 root = new_root(vm, FORMAT_LONG, false);
    map(vm, FORMAT_LONG, root, VA, pa, 1, PTE_P | PTE_W | flags);
    return root;
}

static void set_root(struct vcpu *vcpu, u64 root, u64 cr4)
{
    struct kvm_sregs sregs = get_sregs(vcpu);
    sregs.cr3 = root;
    sregs.cr4 |= cr4;
    set_sregs(vcpu, &sregs);
}

static void switch_cr3(struct vm *vm, u64 cr4, u64 first_pcid, u64 second_pcid, const char *name)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, switch_cr3_64, MODE_LONG);
    vm->next_table = L2_TABLES;
    u64 first = root_to(vm, FIRST, 0), second = root_to(vm, SECOND, 0);
    set_root(vcpu, first, cr4);
    struct kvm_regs regs = get_regs(vcpu);
    regs.rdi = VA;
    regs.r8 = first | first_pcid;
    regs.r9 = second | second_pcid;
    set_regs(vcpu, &regs);
    bool good = finishes(vcpu);
    regs = get_regs(vcpu);
    check(name, good && regs.r10 == 0x1111 && regs.r11 == 0x2222 && regs.r12 == 0x1111);
}

/* The last-level entry of `va`, as L2 sees its tables: they are in its identity-mapped memory. */
static void invlpg(struct vm *vm, u64 flags, u64 cr4, const char *name)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, invlpg64, MODE_LONG);
    vm->next_table = L2_TABLES;
    u64 root = root_to(vm, FIRST, flags);
    set_root(vcpu, root, cr4);
    struct kvm_regs regs = get_regs(vcpu);
    regs.rdi = VA;
    regs.r8 = entry_of(vm, FORMAT_LONG, root, VA, 1);
    regs.r9 = SECOND | PTE_P | PTE_W | flags;
    set_regs(vcpu, &regs);
    bool good = finishes(vcpu);
    regs = get_regs(vcpu);
    check(name, good && regs.r10 == 0x1111 && regs.r11 == 0x2222);
}

/* A 2-MByte page becomes a table of 4-KByte pages under L2's feet. */
static void split(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, invlpg64, MODE_LONG);
    vm->next_table = L2_TABLES;
    u64 root = new_root(vm, FORMAT_LONG, false), large = VA & ~(MIB(2) - 1);
    map(vm, FORMAT_LONG, root, large, 0x200000, 2, PTE_P | PTE_W);
    map(vm, FORMAT_LONG, root, VA + MIB(4), SECOND, 1, PTE_P | PTE_W);
    set_root(vcpu, root, 0);
    struct kvm_regs regs = get_regs(vcpu);
    regs.rdi = large + (FIRST - 0x200000);
    regs.r8 = entry_of(vm, FORMAT_LONG, root, large, 2);
    u64 table = entry_of(vm, FORMAT_LONG, root, VA + MIB(4), 1) & ~PAGE_MASK;
    regs.r9 = table | PTE_P | PTE_W;
    set_entry(vm, FORMAT_LONG, table + (FIRST - 0x200000) / PAGE_SIZE * 8, SECOND | PTE_P | PTE_W);
    set_regs(vcpu, &regs);
    bool good = finishes(vcpu);
    regs = get_regs(vcpu);
    check("tables.split", good && regs.r10 == 0x1111 && regs.r11 == 0x2222);
}

static bool access_va(struct vm *vm, u64 va, u64 kind)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    struct kvm_regs regs = {.rip = L2_CODE, .rsp = L2_STACK, .rflags = 2, .rdi = va, .rsi = kind};
    set_regs(vcpu, &regs);
    return finishes(vcpu) && get_regs(vcpu).rbx == 1;
}

/* L1 gives the same content in other pages: every level of L2's walk has to be mapped again by L1's KVM. */
static void zapped(struct vm *vm)
{
    START(vm, access64, MODE_LONG);
    vm->next_table = L2_TABLES;
    u64 root = root_to(vm, FIRST, 0);
    map(vm, FORMAT_LONG, root, VA_NEXT, SECOND, 1, PTE_P | PTE_W);
    set_root(&vm->vcpu[0], root, 0);
    bool good = true, marks = true;
    for (unsigned round = 0; round < 6; round++) {
        u8 *copy = fresh_memory(vm->bytes);
        memcpy(copy, vm->memory, vm->bytes);
        good &= mremap(copy, vm->bytes, vm->bytes, MREMAP_MAYMOVE | MREMAP_FIXED, vm->memory) == vm->memory;
        u64 entry = entry_of(vm, FORMAT_LONG, root, round % 2 ? VA_NEXT : VA, 1);
        set_entry(vm, FORMAT_LONG, entry, get_entry(vm, FORMAT_LONG, entry) & ~(u64)(PTE_A | PTE_D));
        good &= access_va(vm, round % 2 ? VA_NEXT : VA, round / 2 % 2);
        u64 marked = get_entry(vm, FORMAT_LONG, entry);
        /* L2's TLB may still hold the first round's translation and need not set A again; D it has to. */
        marks &= round / 2 % 2 == 0 || (marked & PTE_D) != 0;
    }
    check("tables.zapped", good);
    check("tables.zapped_marks", marks);
    check_eq("tables.zapped_faults", record_of(vm)->count, 0);
}

void group_tables(void)
{
    struct vm vm;
    vm_create(&vm, SMALL_VM, VM_PLAIN);
    *(u64 *)(void *)(vm.memory + FIRST) = 0x1111;
    *(u64 *)(void *)(vm.memory + SECOND) = 0x2222;
    switch_cr3(&vm, 0, 0, 0, "tables.switch_cr3");
    switch_cr3(&vm, BIT(7), 0, 0, "tables.switch_cr3_pge");
    if (supported_cpuid_register(1, 0, 2) & BIT(17))
        switch_cr3(&vm, BIT(17), 0, 5, "tables.switch_cr3_pcid");
    else
        skip("tables.switch_cr3_pcid", "KVM does not offer it");
    invlpg(&vm, 0, 0, "tables.invlpg");
    invlpg(&vm, PTE_G, BIT(7), "tables.invlpg_global");
    split(&vm);
    zapped(&vm);
    vm_destroy(&vm);
}
