/* SPDX-License-Identifier: MIT */
/*
 * The memory behind a slot changes under L2: dropped, replaced, copied on write after fork(). L1's KVM then
 * zaps its EPT or NPT entries and owes an invalidation. Also what the first touch of fresh memory costs, in
 * small and in huge pages.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/system/linux/kvm-client/client.h"

L2(touch_pages64);
L2(read_pages64);
L2(read_loop64);
L2(write_read64);

enum { SLOT = 1, SLOT_AT = 0x10000000, PAGES = 512 };
#define BACKING_BYTES (PAGES * PAGE_SIZE)

static struct vcpu *prepare(struct vm *vm, u64 rdi, u64 rcx, u64 rax)
{
    struct kvm_regs regs = get_regs(&vm->vcpu[0]);
    regs.rdi = rdi;
    regs.rcx = rcx;
    regs.rax = rax;
    set_regs(&vm->vcpu[0], &regs);
    return &vm->vcpu[0];
}

static bool touch(struct vm *vm, u64 pages, u64 value)
{
    START(vm, touch_pages64, MODE_LONG);
    return finishes(prepare(vm, SLOT_AT, pages, value));
}

static u64 read_sum(struct vm *vm, u64 pages)
{
    START(vm, read_pages64, MODE_LONG);
    return finishes(prepare(vm, SLOT_AT, pages, 0)) ? get_regs(&vm->vcpu[0]).rax : ~0ull;
}

static void *replace(void *place, u64 value)
{
    u64 *other = fresh_memory(BACKING_BYTES);
    for (u64 i = 0; i < PAGES; i++)
        other[i * PAGE_SIZE / 8] = value;
    return mremap(other, BACKING_BYTES, BACKING_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, place);
}

static void dropped_and_replaced(struct vm *vm, u8 *memory)
{
    bool dropped = true, replaced = true, half = true;
    for (u64 round = 1; round <= 4; round++) {
        dropped &= touch(vm, PAGES, round) && read_sum(vm, PAGES) == PAGES * round;
        madvise(memory, BACKING_BYTES, MADV_DONTNEED);
        dropped &= read_sum(vm, PAGES) == 0;
        /* Now zero pages are mapped, read-only. */
        dropped &= touch(vm, PAGES, round + 1) && *(u64 *)(void *)memory == round + 1;
        replaced &= replace(memory, 100 + round) == memory && read_sum(vm, PAGES) == PAGES * (100 + round);
        madvise(memory + BACKING_BYTES / 2, BACKING_BYTES / 2, MADV_DONTNEED);
        half &= read_sum(vm, PAGES) == PAGES / 2 * (100 + round);
    }
    check("backing.dropped", dropped);
    check("backing.replaced", replaced);
    check("backing.half_dropped", half);
}

/* One page changes hands while L2 loops on it. */
static void while_running(struct vm *vm, u8 *memory)
{
    START(vm, read_loop64, MODE_LONG);
    struct vcpu *vcpu = prepare(vm, SLOT_AT + 0x7000, 0, 0);
    bool good = true;
    for (u32 i = 0; i < 30; i++) {
        *(u32 *)(void *)(memory + 0x7000) = i + 1000;
        good &= stops_at_port(vcpu, PORT_VALUE) && io_value(vcpu) == i + 1000;
        madvise(memory + 0x7000, PAGE_SIZE, MADV_DONTNEED);
        good &= stops_at_port(vcpu, PORT_VALUE) && io_value(vcpu) == 0;
    }
    check("backing.page_dropped_while_running", good);
}

static void protected_by_client(struct vm *vm, u8 *memory)
{
    bool good = touch(vm, 4, 0x21);
    mprotect(memory, PAGE_SIZE, PROT_READ);
    good &= read_sum(vm, 4) == 4 * 0x21;
    START(vm, write_read64, MODE_LONG);
    u32 reason = vcpu_run(prepare(vm, SLOT_AT, 0, 0x22));
    check("backing.read_only_mapping_read", good);
    check("backing.read_only_mapping_write_refused", reason != KVM_EXIT_IO && *(u64 *)(void *)memory == 0x21);
    mprotect(memory, PAGE_SIZE, PROT_READ | PROT_WRITE);
    check("backing.read_only_mapping_write_again", finishes(&vm->vcpu[0]) && *(u64 *)(void *)memory == 0x22);
}

/* After fork() all pages are shared and read-only in L1: what L2 writes is for the parent only. */
static void copy_on_write(struct vm *vm, u8 *memory)
{
    int go[2];
    bool good = touch(vm, PAGES, 5) && pipe(go) == 0;
    pid_t child = fork();
    if (child == 0) {
        char byte;
        bool same = read(go[0], &byte, 1) == 1;
        for (u64 i = 0; i < PAGES; i++)
            same &= *(u64 *)(void *)(memory + i * PAGE_SIZE) == 5;
        _exit(same ? 0 : 1);
    }
    good &= read_sum(vm, PAGES) == PAGES * 5 && touch(vm, PAGES, 6) && read_sum(vm, PAGES) == PAGES * 6;
    good &= *(u64 *)(void *)(memory + BACKING_BYTES - PAGE_SIZE) == 6;
    int status = 1;
    good &= write(go[1], "x", 1) == 1 && waitpid(child, &status, 0) == child;
    check("backing.copy_on_write", good);
    check_eq("backing.copy_on_write_child", (u64)status, 0);
    close(go[0]);
    close(go[1]);
}

void group_backing(void)
{
    struct vm vm;
    vm_create(&vm, SMALL_VM, VM_PLAIN);
    u8 *memory = fresh_memory(BACKING_BYTES);
    vm_slot(&vm, SLOT, SLOT_AT, BACKING_BYTES, memory, 0);
    dropped_and_replaced(&vm, memory);
    while_running(&vm, memory);
    protected_by_client(&vm, memory);
    copy_on_write(&vm, memory);
    vm_destroy(&vm);
    munmap(memory, BACKING_BYTES);
}

/* --- first touch
 * ------------------------------------------------------------------------------------------------------ */

#define TOUCH_BYTES MIB(64)

static void timed_touch(struct vm *vm, u64 pages, const char *what, const char *ends)
{
    START(vm, touch_pages64, MODE_LONG);
    prepare(vm, SLOT_AT, pages, 1);
    u64 started = time_stamp();
    bool good = finishes(&vm->vcpu[0]);
    bench(what, pages, time_stamp() - started, "pages");
    check(ends, good);
}

static void touch_with(int advice, const char *const *names)
{
    struct vm vm;
    vm_create(&vm, SMALL_VM, VM_PLAIN);
    u8 *area = fresh_memory(TOUCH_BYTES + MIB(2));
    u8 *memory = area + (-(u64)area & (MIB(2) - 1));
    madvise(memory, TOUCH_BYTES, advice);
    vm_slot(&vm, SLOT, SLOT_AT, TOUCH_BYTES, memory, 0);
    u64 pages = TOUCH_BYTES / PAGE_SIZE;
    timed_touch(&vm, pages, names[0], names[1]);
    timed_touch(&vm, pages, names[2], names[3]);
    /* The memory stays, the entries go: only L1's KVM and what is below it work in the next touch. */
    vm_slot(&vm, SLOT, SLOT_AT, 0, NULL, 0);
    vm_slot(&vm, SLOT, SLOT_AT, TOUCH_BYTES, memory, 0);
    timed_touch(&vm, pages, names[4], names[5]);
    u64 started = time_stamp();
    madvise(memory, TOUCH_BYTES, MADV_DONTNEED);
    bench(names[6], pages, time_stamp() - started, "pages");
    timed_touch(&vm, pages, names[7], names[8]);
    u64 sum = 0;
    for (u64 i = 0; i < pages; i++)
        sum += *(u64 *)(void *)(memory + i * PAGE_SIZE);
    check_eq(names[9], sum, pages);
    vm_destroy(&vm);
    munmap(area, TOUCH_BYTES + MIB(2));
}

void group_touch(void)
{
    static const char *const small[] = {
        "touch4k-fresh",       "touch.small_fresh",  "touch4k-again", "touch.small_again",
        "touch4k-zapped",      "touch.small_zapped", "drop4k",        "touch4k-dropped",
        "touch.small_dropped", "touch.small_sum"};
    static const char *const huge[] = {
        "touch2m-fresh",     "touch.huge_fresh", "touch2m-again",   "touch.huge_again",   "touch2m-zapped",
        "touch.huge_zapped", "drop2m",           "touch2m-dropped", "touch.huge_dropped", "touch.huge_sum"};
    touch_with(MADV_NOHUGEPAGE, small);
    touch_with(MADV_HUGEPAGE, huge);
}
