/* SPDX-License-Identifier: MIT */
/*
 * Guests on all CPUs of L1 at once, a thread of ours for each vCPU: VMs of their own, and one VM that they
 * share while its memory is taken away and given back. A write that a stale translation lets through is
 * missing in KVM's log.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <termios.h>
#include <unistd.h>

#include "arch/x86.h"
#include "tests/system/linux/kvm-client/client.h"

L2(counter64);
L2(touch_pages64);
L2(hammer64);

enum {
    ROUNDS = 20,
    EXITS = 200,
    PAGES = 1500,
    LOG_ROUNDS = 10,
    PATIENCE = 200, /* alarms that a guest may be interrupted by */
    VM_BYTES = 16 << 20,
    SLOT_PAGES = VM_BYTES / 4096,
};

struct worker {
    pthread_t thread;
    unsigned cpu;
    struct vm vm;
    struct vcpu *vcpu;
    u64 good; /* what it has done as it should */
};

static struct worker workers[VCPUS_MAX];
static unsigned count;

static void stay_on(unsigned cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof(set), &set);
}

/* Not vcpu_run(), whose limit is one vCPU's: the alarm may find any thread. */
static bool leaves_at(struct vcpu *vcpu, u16 port)
{
    for (unsigned i = 0; i < PATIENCE; i++) {
        vcpu->run->immediate_exit = 0;
        if (ioctl(vcpu->fd, KVM_RUN, 0) == 0)
            return vcpu->run->exit_reason == KVM_EXIT_IO && vcpu->run->io.port == port;
        if (errno != EINTR)
            return false;
    }
    return false;
}

static void on_all(void *(*run)(void *))
{
    for (unsigned i = 0; i < count; i++) {
        workers[i].good = 0;
        if (pthread_create(&workers[i].thread, NULL, run, &workers[i]) != 0)
            end_group("pthread_create");
    }
}

static u64 wait_for_all(void)
{
    u64 good = 0;
    for (unsigned i = 0; i < count; i++) {
        pthread_join(workers[i].thread, NULL);
        good += workers[i].good;
    }
    return good;
}

static void start_at(struct vcpu *vcpu, u64 code, u64 rdi, u64 rcx, u64 rax)
{
    start_in(vcpu, MODE_LONG, code);
    struct kvm_regs regs = get_regs(vcpu);
    regs.rdi = rdi;
    regs.rcx = rcx;
    regs.rax = rax;
    regs.rsi = L2_DATA + 0x800;
    /* On Bochs no interrupt of L1's ends a guest whose own are off. */
    regs.rflags |= RFLAGS_IF;
    regs.rsp = L2_STACK - 0x100 * (u64)(vcpu - vcpu->vm->vcpu);
    set_regs(vcpu, &regs);
}

/* First touches, with memory that comes and goes, and exits. */
static void *own_vm(void *argument)
{
    struct worker *worker = argument;
    struct vcpu *vcpu = &worker->vm.vcpu[0];
    u64 *words = (u64 *)(void *)(worker->vm.memory + L2_DATA);

    stay_on(worker->cpu);
    for (u64 round = 1; round <= ROUNDS; round++) {
        vm_code(&worker->vm, L2_CODE, l2_touch_pages64, l2_touch_pages64_end);
        start_at(vcpu, L2_CODE, L2_DATA, PAGES, round << 8 | worker->cpu);
        bool good = leaves_at(vcpu, PORT_END);
        for (u64 page = 0; page < PAGES; page++)
            good = good && words[page * 512] == (round << 8 | worker->cpu);
        worker->good += good;
        vm_slot(&worker->vm, 0, 0, 0, worker->vm.memory, 0);
        vm_slot(&worker->vm, 0, 0, VM_BYTES, worker->vm.memory, 0);
    }
    *words = 0;
    vm_code(&worker->vm, L2_CODE, l2_counter64, l2_counter64_end);
    start_at(vcpu, L2_CODE, L2_DATA, 0, 0);
    for (u64 i = 1; i <= EXITS; i++)
        worker->good += leaves_at(vcpu, PORT_VALUE) && io_value(vcpu) == i;
    return NULL;
}

static void vms_at_once(void)
{
    for (unsigned i = 0; i < count; i++)
        vm_create(&workers[i].vm, VM_BYTES, VM_PLAIN);
    u64 started = time_stamp();
    on_all(own_vm);
    check_eq("smp.vms_at_once", wait_for_all(), (u64)count * (ROUNDS + EXITS));
    bench("smp-vms", count, time_stamp() - started, "VMs");
    for (unsigned i = 0; i < count; i++)
        vm_destroy(&workers[i].vm);
}

/* --- one VM --- */

static void *shared_counter(void *argument)
{
    struct worker *worker = argument;

    stay_on(worker->cpu);
    for (unsigned i = 0; i < EXITS; i++)
        worker->good += leaves_at(worker->vcpu, PORT_VALUE);
    return NULL;
}

static void *hammer(void *argument)
{
    struct worker *worker = argument;

    stay_on(worker->cpu);
    worker->good = leaves_at(worker->vcpu, PORT_END);
    return NULL;
}

static volatile u64 *counter_of(struct vm *vm, unsigned i)
{
    return (volatile u64 *)(void *)(vm->memory + L2_DATA + 4096 * (u64)(i + 1));
}

static void get_log(const struct vm *vm, u8 *bitmap)
{
    struct kvm_dirty_log log = {.slot = 0, .dirty_bitmap = bitmap};
    must(vm->fd, KVM_GET_DIRTY_LOG, &log, "KVM_GET_DIRTY_LOG");
}

/* Waits until L2 has counted on, but not for ever. */
static bool counts_on(volatile u64 *counter)
{
    u64 before = *counter;
    for (unsigned n = 0; n < 1000 && *counter == before; n++)
        usleep(100);
    return *counter != before;
}

/* What is written after the log was taken is in the next one. */
static unsigned log_round(struct vm *vm)
{
    static u8 bitmap[SLOT_PAGES / 8];
    unsigned seen = 0;

    get_log(vm, bitmap);
    for (unsigned i = 0; i < count; i++)
        counts_on(counter_of(vm, i));
    /* A write that the CPU has logged by itself reaches the bitmap at the next exit, if only that of a timer.
     */
    usleep(20000);
    get_log(vm, bitmap);
    for (unsigned i = 0; i < count; i++) {
        u64 page = L2_DATA / 4096 + i + 1;
        seen += bitmap[page / 8] >> page % 8 & 1;
    }
    return seen;
}

static void one_vm(void)
{
    static struct vm vm;
    const struct kvm_mp_state runnable = {KVM_MP_STATE_RUNNABLE};
    unsigned seen = 0;

    vm_create(&vm, VM_BYTES, VM_PLAIN);
    for (unsigned i = 0; i < count; i++) {
        workers[i].vcpu = i == 0 ? &vm.vcpu[0] : vcpu_create(&vm);
        if (i != 0)
            must(workers[i].vcpu->fd, KVM_SET_MP_STATE, &runnable, "KVM_SET_MP_STATE");
    }
    vm_code(&vm, L2_CODE, l2_counter64, l2_counter64_end);
    for (unsigned i = 0; i < count; i++)
        start_at(workers[i].vcpu, L2_CODE, L2_DATA, 0, 0);
    on_all(shared_counter);
    check_eq("smp.one_vm_exits", wait_for_all(), (u64)count * EXITS);
    check_eq("smp.one_vm_counted", *(u64 *)(void *)(vm.memory + L2_DATA), (u64)count * EXITS);

    vm_code(&vm, L2_CODE, l2_hammer64, l2_hammer64_end);
    for (unsigned i = 0; i < count; i++)
        start_at(workers[i].vcpu, L2_CODE, L2_DATA + 4096 * (u64)(i + 1), 0, 0);
    vm_slot(&vm, 0, 0, VM_BYTES, vm.memory, KVM_MEM_LOG_DIRTY_PAGES);
    on_all(hammer);
    for (unsigned round = 0; round < LOG_ROUNDS; round++)
        seen += log_round(&vm);
    *(volatile u64 *)(void *)(vm.memory + L2_DATA + 0x800) = 1;
    check_eq("smp.hammers_end", wait_for_all(), count);
    check_eq("smp.no_write_missed", seen, (u64)count * LOG_ROUNDS);
    vm_destroy(&vm);
}

static void find_cpus(void)
{
    count = cpus_of_l1();
    note("%u CPUs", count);
    for (unsigned i = 0; i < count; i++)
        workers[i].cpu = i;
}

void group_smp(void)
{
    find_cpus();
    vms_at_once();
    one_vm();
}

/* --- the end of L1 --- */

/*
 * VMs that never leave L2 by themselves, one on each CPU; when all of them are seen to run, the kernel that
 * was loaded before takes the place of this one.
 */
void group_kexec(void)
{
    u64 running = 0;

    find_cpus();
    for (unsigned i = 0; i < count; i++) {
        struct vm *vm = &workers[i].vm;
        vm_create(vm, VM_BYTES, VM_PLAIN);
        workers[i].vcpu = &vm->vcpu[0];
        vm_code(vm, L2_CODE, l2_hammer64, l2_hammer64_end);
        start_at(workers[i].vcpu, L2_CODE, L2_DATA, 0, 0);
    }
    on_all(hammer);
    for (unsigned round = 0; round < ROUNDS; round++) {
        running = 0;
        for (unsigned i = 0; i < count; i++)
            running += counts_on((volatile u64 *)(void *)(workers[i].vm.memory + L2_DATA));
    }
    check_eq("kexec.vms_run", running, count);
    tcdrain(STDOUT_FILENO);
    reboot(RB_KEXEC);
    end_group("kexec");
}
