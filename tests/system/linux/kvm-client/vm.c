/* SPDX-License-Identifier: MIT */
/*
 * VMs, vCPUs and memory slots through /dev/kvm, and the run loop with a time limit. A refusal by KVM where it
 * must not refuse ends the group.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/system/linux/kvm-client/client.h"

enum { CPUID_ENTRIES = 256 };

static struct kvm_run *volatile running;

int may(int fd, unsigned long request, const void *argument)
{
    return ioctl(fd, request, argument);
}

int must(int fd, unsigned long request, const void *argument, const char *what)
{
    int result;

    /* The alarm is for KVM_RUN; whatever else takes its time (KVM_CREATE_VM) begins anew. */
    do {
        result = ioctl(fd, request, argument);
    } while (result < 0 && errno == EINTR);
    if (result < 0) {
        note("%s: %s", what, strerror(errno));
        end_group(what);
    }
    return result;
}

static void time_is_up(int number)
{
    (void)number;
    /* Also if the signal comes just before the ioctl. */
    if (running)
        running->immediate_exit = 1;
}

int kvm_fd(void)
{
    static int fd = -1;
    if (fd >= 0)
        return fd;
    fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        end_group("open /dev/kvm");
    struct sigaction action = {.sa_handler = time_is_up};
    sigaction(SIGALRM, &action, NULL);
    if (ioctl(fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
        end_group("KVM_GET_API_VERSION");
    return fd;
}

bool kvm_has(long capability)
{
    return ioctl(kvm_fd(), KVM_CHECK_EXTENSION, capability) > 0;
}

struct kvm_cpuid2 *supported_cpuid(void)
{
    static struct kvm_cpuid2 *leaves;
    if (leaves)
        return leaves;
    leaves = calloc(1, sizeof(*leaves) + CPUID_ENTRIES * sizeof(leaves->entries[0]));
    if (!leaves)
        end_group("memory");
    leaves->nent = CPUID_ENTRIES;
    must(kvm_fd(), KVM_GET_SUPPORTED_CPUID, leaves, "KVM_GET_SUPPORTED_CPUID");
    return leaves;
}

u32 supported_cpuid_register(u32 leaf, u32 subleaf, unsigned reg)
{
    const struct kvm_cpuid2 *leaves = supported_cpuid();
    for (u32 i = 0; i < leaves->nent; i++) {
        const struct kvm_cpuid_entry2 *entry = &leaves->entries[i];
        if (entry->function == leaf && entry->index == subleaf)
            return (const u32[]){entry->eax, entry->ebx, entry->ecx, entry->edx}[reg];
    }
    return 0;
}

void *fresh_memory(u64 bytes)
{
    void *memory =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        end_group("mmap");
    return memory;
}

void vm_slot(struct vm *vm, u32 slot, u64 address, u64 bytes, void *memory, u32 flags)
{
    struct kvm_userspace_memory_region region = {.slot = slot,
                                                 .flags = flags,
                                                 .guest_phys_addr = address,
                                                 .memory_size = bytes,
                                                 .userspace_addr = (u64)memory};
    must(vm->fd, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
}

static size_t run_bytes(void)
{
    return (size_t)must(kvm_fd(), KVM_GET_VCPU_MMAP_SIZE, NULL, "KVM_GET_VCPU_MMAP_SIZE");
}

/* What KVM supports, with the APIC IDs of this vCPU, which KVM leaves to its clients. */
static struct kvm_cpuid2 *cpuid_of(u32 apic_id)
{
    struct kvm_cpuid2 *leaves = supported_cpuid();
    for (u32 i = 0; i < leaves->nent; i++) {
        struct kvm_cpuid_entry2 *entry = &leaves->entries[i];
        if (entry->function == 1)
            entry->ebx = (entry->ebx & 0xffffff) | apic_id << 24;
        else if (entry->function == 0xb || entry->function == 0x1f)
            entry->edx = apic_id;
        else if (entry->function == 0x8000001e)
            entry->eax = apic_id;
    }
    return leaves;
}

unsigned cpus_of_l1(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);

    return online > VCPUS_MAX ? VCPUS_MAX : (unsigned)online;
}

struct vcpu *vcpu_create(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[vm->vcpus];
    vcpu->vm = vm;
    vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, (unsigned long)vm->vcpus);
    if (vcpu->fd < 0)
        end_group("KVM_CREATE_VCPU");
    const struct kvm_cpuid2 *leaves = cpuid_of(vm->vcpus++);
    void *shared = mmap(NULL, run_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (shared == MAP_FAILED)
        end_group("mmap of a vCPU");
    vcpu->run = shared;
    must(vcpu->fd, KVM_SET_CPUID2, leaves, "KVM_SET_CPUID2");
    return vcpu;
}

static void create_irqchip(struct vm *vm)
{
    struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
    must(vm->fd, KVM_CREATE_IRQCHIP, NULL, "KVM_CREATE_IRQCHIP");
    must(vm->fd, KVM_CREATE_PIT2, &pit, "KVM_CREATE_PIT2");
}

void vm_create(struct vm *vm, u64 bytes, enum vm_kind kind)
{
    memset(vm, 0, sizeof(*vm));
    vm->fd = must(kvm_fd(), KVM_CREATE_VM, NULL, "KVM_CREATE_VM");
    /* Intel's KVM wants room for a task-state segment of its own, in an address range that no slot uses. */
    may(vm->fd, KVM_SET_TSS_ADDR, (const void *)0xfffbd000ul);
    if (kind == VM_IRQCHIP)
        create_irqchip(vm);
    vm->bytes = bytes;
    vm->memory = fresh_memory(bytes);
    vm->next_table = L2_TABLES;
    vm_slot(vm, 0, 0, bytes, vm->memory, 0);
    write_l2_tables(vm);
    write_identity_tables(vm);
    vcpu_create(vm);
}

void vm_destroy(struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpus; i++) {
        munmap(vm->vcpu[i].run, run_bytes());
        close(vm->vcpu[i].fd);
    }
    close(vm->fd);
    munmap(vm->memory, vm->bytes);
}

void vm_code(struct vm *vm, u64 address, const u8 *begin, const u8 *end)
{
    memcpy(vm->memory + address, begin, (size_t)(end - begin));
}

struct l2_record *record_of(struct vm *vm)
{
    return (struct l2_record *)(void *)(vm->memory + L2_RECORD);
}

u32 vcpu_run(struct vcpu *vcpu)
{
    running = vcpu->run;
    int result = ioctl(vcpu->fd, KVM_RUN, 0);
    int why = errno;
    running = NULL;
    if (result == 0)
        return vcpu->run->exit_reason;
    return why == EINTR ? EXIT_TIME_OUT : EXIT_ERRNO + (u32)why;
}

static void tell_stop(struct vcpu *vcpu, u32 reason)
{
    struct kvm_regs regs = get_regs(vcpu);
    const struct l2_record *record = record_of(vcpu->vm);
    note("stopped with reason %u (port 0x%x, suberror %u) at rip 0x%llx; last vector %u error 0x%x rip "
         "0x%llx cr2 0x%llx",
         reason, reason == KVM_EXIT_IO ? vcpu->run->io.port : 0,
         reason == KVM_EXIT_INTERNAL_ERROR ? vcpu->run->internal.suberror : 0, regs.rip,
         (unsigned)record->vector, (unsigned)record->error, (unsigned long long)record->rip,
         (unsigned long long)record->cr2);
}

bool stops(struct vcpu *vcpu, u32 reason)
{
    u32 got = vcpu_run(vcpu);
    if (got != reason)
        tell_stop(vcpu, got);
    return got == reason;
}

bool stops_at_port(struct vcpu *vcpu, u16 port)
{
    u32 got = vcpu_run(vcpu);
    bool there =
        got == KVM_EXIT_IO && vcpu->run->io.direction == KVM_EXIT_IO_OUT && vcpu->run->io.port == port;
    if (!there)
        tell_stop(vcpu, got);
    return there;
}

void complete(struct vcpu *vcpu)
{
    /* KVM finishes an I/O instruction at the next KVM_RUN; this one then goes no further. */
    vcpu->run->immediate_exit = 1;
    ioctl(vcpu->fd, KVM_RUN, 0);
    vcpu->run->immediate_exit = 0;
}

bool finishes(struct vcpu *vcpu)
{
    bool there = stops_at_port(vcpu, PORT_END);
    complete(vcpu);
    return there;
}

u64 io_value(const struct vcpu *vcpu)
{
    u64 value = 0;
    memcpy(&value, (const u8 *)vcpu->run + vcpu->run->io.data_offset, vcpu->run->io.size);
    return value;
}

void answer_io(struct vcpu *vcpu, u64 value)
{
    memcpy((u8 *)vcpu->run + vcpu->run->io.data_offset, &value, vcpu->run->io.size);
}

u64 mmio_value(const struct vcpu *vcpu)
{
    u64 value = 0;
    memcpy(&value, vcpu->run->mmio.data, vcpu->run->mmio.len & 15);
    return value;
}
