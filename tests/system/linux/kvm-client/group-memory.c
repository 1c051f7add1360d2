/* SPDX-License-Identifier: MIT */
/*
 * L2's memory: code that changes itself, slots that go, come back elsewhere and move while L2 loops,
 * read-only slots, one memory at two addresses, and the dirty log.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/system/linux/kvm-client/client.h"

L2(modify_self64);
L2(write_code64);
L2(call_loop64);
L2(read_loop64);
L2(write_read64);
L2(write_pages64);
L2(read_pages64);

enum { SLOT = 1, SLOT_AT = 0x10000000, SLOT_MOVED = 0x18000000 };

static struct kvm_regs with_regs(struct vcpu *vcpu, u64 rdi, u64 rcx, u64 rax)
{
    struct kvm_regs regs = get_regs(vcpu);
    regs.rdi = rdi;
    regs.rcx = rcx;
    regs.rax = rax;
    set_regs(vcpu, &regs);
    return regs;
}

static u64 sum_to(u64 n)
{
    return n * (n + 1) / 2;
}

static void self_modifying(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, modify_self64, MODE_LONG);
    with_regs(vcpu, 0, 200, 0);
    check("memory.modify_self_ends", finishes(vcpu));
    check_eq("memory.modify_self", get_regs(vcpu).rbx, sum_to(200));
    START(vm, write_code64, MODE_LONG);
    with_regs(vcpu, L2_DATA, 300, 0);
    check("memory.write_code_ends", finishes(vcpu));
    check_eq("memory.write_code", get_regs(vcpu).rbx, sum_to(300));
}

/* The next OUT to PORT_VALUE, with what it said; all ones if something else came. */
static u64 told(struct vcpu *vcpu)
{
    return stops_at_port(vcpu, PORT_VALUE) ? io_value(vcpu) : ~0ull;
}

static void client_modifies(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    u8 code[] = {0xb8, 0, 0, 0, 0, 0xc3};
    START(vm, call_loop64, MODE_LONG);
    with_regs(vcpu, L2_DATA + 0x5ffd, 0, 0); /* crosses a page */
    bool good = true;
    for (u32 i = 1; i <= 50; i++) {
        u32 value = i * 0x01020304;
        memcpy(code + 1, &value, 4);
        memcpy(vm->memory + L2_DATA + 0x5ffd, code, sizeof(code));
        good &= told(vcpu) == value;
    }
    check("memory.client_modifies_code", good);
}

/* A load that finds no memory: answers it. */
static bool misses(struct vcpu *vcpu, u64 address)
{
    bool miss =
        stops(vcpu, KVM_EXIT_MMIO) && !vcpu->run->mmio.is_write && vcpu->run->mmio.phys_addr == address;
    memcpy(vcpu->run->mmio.data, "\xde\xad\xbe\xef", 4);
    return miss;
}

static void slots(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    u32 *first = fresh_memory(MIB(2)), *second = fresh_memory(MIB(2));
    bool good = true;
    first[0] = 0x1111;
    second[0] = 0x2222;
    START(vm, read_loop64, MODE_LONG);
    with_regs(vcpu, SLOT_AT, 0, 0);
    check("memory.no_slot", misses(vcpu, SLOT_AT) && told(vcpu) == 0xefbeadde);
    for (u32 i = 0; i < 10; i++) {
        vm_slot(vm, SLOT, SLOT_AT, MIB(2), i % 2 ? second : first, 0);
        good &= told(vcpu) == (i % 2 ? 0x2222 : 0x1111);
        good &= told(vcpu) == (i % 2 ? 0x2222 : 0x1111);
        vm_slot(vm, SLOT, SLOT_AT, 0, NULL, 0);
        good &= misses(vcpu, SLOT_AT) && told(vcpu) == 0xefbeadde;
    }
    check("memory.slot_removed_and_added", good);

    vm_slot(vm, SLOT, SLOT_MOVED, MIB(2), first, 0);
    check("memory.slot_elsewhere", misses(vcpu, SLOT_AT) && told(vcpu) == 0xefbeadde);
    vm_slot(vm, SLOT, SLOT_AT, MIB(2), first, 0);
    check("memory.slot_moved", told(vcpu) == 0x1111);
    vm_slot(vm, SLOT, SLOT_MOVED, MIB(2), first, 0);
    check("memory.slot_moved_away", misses(vcpu, SLOT_AT) && told(vcpu) == 0xefbeadde);
    with_regs(vcpu, SLOT_MOVED, 0, 0);
    check("memory.slot_moved_there", told(vcpu) == 0x1111);
    vm_slot(vm, SLOT, SLOT_MOVED, 0, NULL, 0);
}

static void read_only(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    u8 *memory = fresh_memory(MIB(2));
    memcpy(memory, "\xb8\x78\x56\x34\x12\xc3", 6);
    vm_slot(vm, SLOT, SLOT_AT, MIB(2), memory, KVM_MEM_READONLY);
    START(vm, call_loop64, MODE_LONG);
    with_regs(vcpu, SLOT_AT, 0, 0);
    check_eq("memory.read_only_executes", told(vcpu), 0x12345678);
    START(vm, read_loop64, MODE_LONG);
    with_regs(vcpu, SLOT_AT, 0, 0);
    check_eq("memory.read_only_reads", told(vcpu), 0x345678b8);
    START(vm, write_read64, MODE_LONG);
    with_regs(vcpu, SLOT_AT, 0, 0x99);
    bool stored = stops(vcpu, KVM_EXIT_MMIO) && vcpu->run->mmio.is_write &&
                  vcpu->run->mmio.phys_addr == SLOT_AT && mmio_value(vcpu) == 0x99;
    check("memory.read_only_write_exits", stored);
    check("memory.read_only_ends", finishes(vcpu));
    check_eq("memory.read_only_unchanged", get_regs(vcpu).rbx & 0xffffffff, 0x345678b8);
    check_eq("memory.read_only_unchanged_here", memory[0], 0xb8);
    vm_slot(vm, SLOT, SLOT_AT, 0, NULL, 0);
    vm_slot(vm, SLOT, SLOT_AT, MIB(2), memory, 0);
    START(vm, write_read64, MODE_LONG);
    with_regs(vcpu, SLOT_AT, 0, 0x99);
    check("memory.writable_again_ends", finishes(vcpu));
    check_eq("memory.writable_again", memory[0], 0x99);
    vm_slot(vm, SLOT, SLOT_AT, 0, NULL, 0);
}

static void alias(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    u64 *memory = fresh_memory(MIB(2));
    vm_slot(vm, SLOT, SLOT_AT, MIB(2), memory, 0);
    vm_slot(vm, SLOT + 1, SLOT_MOVED, MIB(2), memory, 0);
    START(vm, write_read64, MODE_LONG);
    with_regs(vcpu, SLOT_AT + 0x3000, 0, 0x5150);
    bool good = finishes(vcpu);
    START(vm, read_loop64, MODE_LONG);
    with_regs(vcpu, SLOT_MOVED + 0x3000, 0, 0);
    check("memory.alias", good && told(vcpu) == 0x5150 && memory[0x3000 / 8] == 0x5150);
    vm_slot(vm, SLOT, SLOT_AT, 0, NULL, 0);
    vm_slot(vm, SLOT + 1, SLOT_MOVED, 0, NULL, 0);
}

void group_memory(void)
{
    struct vm vm;
    vm_create(&vm, SMALL_VM, VM_PLAIN);
    self_modifying(&vm);
    client_modifies(&vm);
    slots(&vm);
    read_only(&vm);
    alias(&vm);
    vm_destroy(&vm);
}

/* --- the dirty log
 * ---------------------------------------------------------------------------------------------------- */

enum { LOG_PAGES = 1024, LOG_WORDS = LOG_PAGES / 64 };

/* L2 writes these pages of the slot. */
static bool write_pages(struct vm *vm, const u32 *pages, u32 count)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, write_pages64, MODE_LONG);
    memcpy(vm->memory + L2_DATA, pages, count * sizeof(*pages));
    struct kvm_regs regs = with_regs(vcpu, SLOT_AT, count, 0x77);
    regs.rsi = L2_DATA;
    set_regs(vcpu, &regs);
    return finishes(vcpu);
}

static bool read_pages(struct vm *vm, u64 count)
{
    START(vm, read_pages64, MODE_LONG);
    with_regs(&vm->vcpu[0], SLOT_AT, count, 0);
    return finishes(&vm->vcpu[0]);
}

static void get_log(struct vm *vm, u64 *bitmap)
{
    struct kvm_dirty_log log = {.slot = SLOT, .dirty_bitmap = bitmap};
    memset(bitmap, 0, LOG_WORDS * sizeof(*bitmap));
    must(vm->fd, KVM_GET_DIRTY_LOG, &log, "KVM_GET_DIRTY_LOG");
}

/* Whether the log has exactly the pages of the list. */
static bool log_is(struct vm *vm, const u32 *pages, u32 count)
{
    u64 got[LOG_WORDS], want[LOG_WORDS] = {0};
    for (u32 i = 0; i < count; i++)
        want[pages[i] / 64] |= BIT(pages[i] % 64);
    get_log(vm, got);
    for (u32 i = 0; i < LOG_WORDS; i++) {
        if (got[i] != want[i])
            note("dirty log word %u: got 0x%llx, want 0x%llx", i, (unsigned long long)got[i],
                 (unsigned long long)want[i]);
    }
    return memcmp(got, want, sizeof(got)) == 0;
}

/* Each `stride`th page from `first` on. */
static u32 pick(u32 *pages, u32 first, u32 stride)
{
    u32 count = 0;
    for (u32 page = first; page < LOG_PAGES; page += stride)
        pages[count++] = page;
    return count;
}

static void rounds(struct vm *vm, const char *written, const char *empty, const char *read)
{
    static const struct {
        u32 first, stride;
    } pattern[] = {{0, 1}, {3, 7}, {0, 2}, {511, 512}, {1, 64}, {0, 1}, {1023, 1024}};
    u32 pages[LOG_PAGES];
    bool good = true, empties = true, reads = true;
    for (size_t i = 0; i < ARRAY_SIZE(pattern); i++) {
        u32 count = pick(pages, pattern[i].first, pattern[i].stride);
        good &= write_pages(vm, pages, count) && log_is(vm, pages, count);
        empties &= log_is(vm, pages, 0);
        reads &= read_pages(vm, LOG_PAGES) && log_is(vm, pages, 0);
    }
    check(written, good);
    check(empty, empties);
    check(read, reads);
}

/* With KVM_CLEAR_DIRTY_LOG: a page stays in the log until it is cleared by hand. */
static void manual_protect(struct vm *vm, void *memory)
{
    const struct kvm_enable_cap enable = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = {1}};
    if (may(vm->fd, KVM_ENABLE_CAP, &enable) != 0) {
        skip("dirty.clear_log", "KVM does not offer it");
        return;
    }
    vm_slot(vm, SLOT, SLOT_AT, LOG_PAGES * PAGE_SIZE, memory, 0);
    vm_slot(vm, SLOT, SLOT_AT, LOG_PAGES * PAGE_SIZE, memory, KVM_MEM_LOG_DIRTY_PAGES);
    u32 pages[LOG_PAGES];
    u64 bitmap[LOG_WORDS];
    u32 count = pick(pages, 5, 13);
    bool good = write_pages(vm, pages, count) && log_is(vm, pages, count) && log_is(vm, pages, count);
    get_log(vm, bitmap);
    struct kvm_clear_dirty_log clear = {.slot = SLOT, .num_pages = LOG_PAGES, .dirty_bitmap = bitmap};
    must(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear, "KVM_CLEAR_DIRTY_LOG");
    good &= log_is(vm, pages, 0) && write_pages(vm, pages, 20) && log_is(vm, pages, 20);
    check("dirty.clear_log", good);
}

void group_dirty(void)
{
    struct vm vm;
    u32 pages[LOG_PAGES];
    vm_create(&vm, SMALL_VM, VM_PLAIN);
    u8 *area = fresh_memory(LOG_PAGES * PAGE_SIZE + MIB(2));
    u8 *memory = area + (-(u64)area & (MIB(2) - 1)); /* huge pages are possible */
    vm_slot(&vm, SLOT, SLOT_AT, LOG_PAGES * PAGE_SIZE, memory, KVM_MEM_LOG_DIRTY_PAGES);
    rounds(&vm, "dirty.fresh_exact", "dirty.fresh_empty_after", "dirty.fresh_reads_leave_none");

    /* Off, writes, on again: nothing of what was written in between. */
    vm_slot(&vm, SLOT, SLOT_AT, LOG_PAGES * PAGE_SIZE, memory, 0);
    u32 count = pick(pages, 0, 1);
    bool good = write_pages(&vm, pages, count);
    vm_slot(&vm, SLOT, SLOT_AT, LOG_PAGES * PAGE_SIZE, memory, KVM_MEM_LOG_DIRTY_PAGES);
    check("dirty.off_and_on", good && log_is(&vm, pages, 0));
    rounds(&vm, "dirty.mapped_exact", "dirty.mapped_empty_after", "dirty.mapped_reads_leave_none");

    /* Memory outside the slot does not count. */
    check("dirty.other_slot", vm.memory[L2_DATA] != 0xee && log_is(&vm, pages, 0));
    manual_protect(&vm, memory);
    vm_destroy(&vm);
}
