/* SPDX-License-Identifier: MIT */
/*
 * Linux as L2, with one CPU or as many as L1 has, each a thread: a bzImage through its 64-bit entry
 * (Documentation/arch/x86/boot.rst), with an initrd, a serial port and the kernel's interrupt controllers and
 * timer. Its console appears with `l2: ` in front of each line. The initrd holds this same program, which as
 * first process has every CPU work (l2-init.c) and resets the machine.
 */
#define _GNU_SOURCE
#include <asm/bootparam.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/system/linux/kvm-client/client.h"
#include "tests/system/linux/kvm-client/serial.h"

#define KERNEL_FILE "/lib/l2/vmlinuz"
#define INITRD_FILE "/lib/l2/initrd.cpio.gz"
#define L2_MEMORY   MIB(192)

enum { BOOT_PARAMS = 0x7000, COMMAND_LINE = 0x20000, LOAD_ADDRESS = 0x1000000, INITRD_ADDRESS = 0x8000000 };
enum { SECTOR = 512, ENTRY_64 = 0x200, HEADER_AT = 0x1f1, LOADER_UNKNOWN = 0xff, E820_RAM = 1 };
enum { KEYBOARD_COMMAND = 0x64, RESET = 0xfe };
enum { MSR_MISC_ENABLE = 0x1a0, MSR_MTRR_DEFAULT = 0x2ff };

static struct machine {
    struct vm vm;
    struct serial serial;
    pthread_t threads[VCPUS_MAX];
    pthread_mutex_t lock; /* for all devices, and for what follows */
    u64 exits;
    u32 reason; /* why it ended; 0 if L2 has reset itself */
    atomic_bool ended;
} machine;

/* Reads a whole file to L2's memory; returns its length, 0 if it is not there or does not fit. */
static u64 load_file(struct vm *vm, const char *path, u64 address, u64 skipped)
{
    int file = open(path, O_RDONLY);
    if (file < 0)
        return 0;
    struct stat status;
    u64 done = 0;
    if (fstat(file, &status) == 0 && (u64)status.st_size > skipped &&
        address + (u64)status.st_size < vm->bytes) {
        u64 length = (u64)status.st_size - skipped;
        ssize_t part = 1;
        for (; done < length && part > 0; done += part > 0 ? (u64)part : 0)
            part = pread(file, vm->memory + address + done, length - done, (off_t)(skipped + done));
        done = done == length ? done : 0;
    }
    close(file);
    return done;
}

static void add_memory(struct boot_params *params, u64 start, u64 end)
{
    params->e820_table[params->e820_entries++] =
        (struct boot_e820_entry){.addr = start, .size = end - start, .type = E820_RAM};
}

static bool load(struct vm *vm)
{
    u8 head[2 * SECTOR];
    int file = open(KERNEL_FILE, O_RDONLY);
    bool there = file >= 0 && read(file, head, sizeof(head)) == sizeof(head);
    if (file >= 0)
        close(file);
    struct boot_params *params = (struct boot_params *)(void *)(vm->memory + BOOT_PARAMS);
    memset(params, 0, sizeof(*params));
    memcpy(&params->hdr, head + HEADER_AT, sizeof(params->hdr));
    if (!there || params->hdr.header != 0x53726448 || !(params->hdr.xloadflags & XLF_KERNEL_64))
        return false;
    u64 initrd = load_file(vm, INITRD_FILE, INITRD_ADDRESS, 0);
    u64 kernel = load_file(vm, KERNEL_FILE, LOAD_ADDRESS, (params->hdr.setup_sects + 1ull) * SECTOR);
    /* With several CPUs it says nothing but what goes wrong: each character is three exits. */
    sprintf((char *)vm->memory + COMMAND_LINE,
            "console=ttyS0 rdinit=/init reboot=k panic=-1 acpi=off pci=off no_timer_check nokaslr "
            "random.trust_cpu=on mitigations=off%s",
            vm->vcpus > 1 ? " quiet tsc=reliable" : "");
    params->hdr.type_of_loader = LOADER_UNKNOWN;
    params->hdr.cmd_line_ptr = COMMAND_LINE;
    params->hdr.ramdisk_image = INITRD_ADDRESS;
    params->hdr.ramdisk_size = (u32)initrd;
    add_memory(params, 0, 0x9f000);
    add_memory(params, MIB(1), vm->bytes);
    if (vm->vcpus > 1)
        write_mp_table(vm);
    return kernel != 0 && initrd != 0 && LOAD_ADDRESS + (u64)params->hdr.init_size < INITRD_ADDRESS;
}

/* One exit's I/O; false when L2 resets the machine. */
static bool handle_io(struct vcpu *vcpu, struct serial *serial)
{
    struct kvm_run *run = vcpu->run;
    u8 *data = (u8 *)run + run->io.data_offset;
    bool out = run->io.direction == KVM_EXIT_IO_OUT;
    for (u32 i = 0; i < run->io.count; i++, data += run->io.size) {
        if (out && run->io.port == KEYBOARD_COMMAND && *data == RESET)
            return false;
        if (run->io.port >= SERIAL_PORT && run->io.port < SERIAL_PORT + 8 && out)
            serial_write(serial, run->io.port - SERIAL_PORT, *data);
        else if (run->io.port >= SERIAL_PORT && run->io.port < SERIAL_PORT + 8)
            *data = serial_read(serial, run->io.port - SERIAL_PORT);
        else if (!out)
            memset(data, run->io.port == KEYBOARD_COMMAND ? 0 : 0xff, run->io.size);
    }
    const struct kvm_irq_level level = {{SERIAL_IRQ}, serial_requests(serial)};
    if (level.level != serial->line) {
        must(vcpu->vm->fd, KVM_IRQ_LINE, &level, "KVM_IRQ_LINE");
        serial->line = level.level;
    }
    return true;
}

static void end_machine(u32 reason)
{
    machine.reason = reason;
    machine.ended = true;
    /* A signal that comes just before KVM_RUN ends it, too. */
    for (unsigned i = 0; i < machine.vm.vcpus; i++) {
        machine.vm.vcpu[i].run->immediate_exit = 1;
        pthread_kill(machine.threads[i], SIGUSR1);
    }
}

static void handle_exit(struct vcpu *vcpu)
{
    u32 reason = vcpu->run->exit_reason;
    machine.exits++;
    if (reason == KVM_EXIT_MMIO)
        memset(vcpu->run->mmio.data, 0xff, 8);
    else if (reason != KVM_EXIT_IO)
        end_machine(reason);
    else if (!handle_io(vcpu, &machine.serial))
        end_machine(0);
}

static void *run_cpu(void *argument)
{
    struct vcpu *vcpu = argument;
    while (!machine.ended) {
        int why = ioctl(vcpu->fd, KVM_RUN, 0) == 0 ? 0 : errno;
        pthread_mutex_lock(&machine.lock);
        if (why == 0 && !machine.ended)
            handle_exit(vcpu);
        /* EAGAIN: its SIPI has come. But for the end, the only signal is the alarm, which the first thread
         * gets. */
        else if (why != EAGAIN && !machine.ended)
            end_machine(why == EINTR ? EXIT_TIME_OUT : EXIT_ERRNO + (u32)why);
        pthread_mutex_unlock(&machine.lock);
    }
    return NULL;
}

static void be_interrupted(int number)
{
    (void)number;
}

static void run_machine(void)
{
    const struct sigaction action = {.sa_handler = be_interrupted};
    sigaction(SIGUSR1, &action, NULL);
    machine.threads[0] = pthread_self();
    pthread_mutex_lock(&machine.lock);
    for (unsigned i = 1; i < machine.vm.vcpus; i++) {
        if (pthread_create(&machine.threads[i], NULL, run_cpu, &machine.vm.vcpu[i]) != 0)
            _exit(1);
    }
    pthread_mutex_unlock(&machine.lock);
    run_cpu(&machine.vm.vcpu[0]);
    for (unsigned i = 1; i < machine.vm.vcpus; i++)
        pthread_join(machine.threads[i], NULL);
}

static void prepare_first_cpu(struct vcpu *vcpu)
{
    start_in(vcpu, MODE_LONG, LOAD_ADDRESS + ENTRY_64);
    struct kvm_regs regs = get_regs(vcpu);
    regs.rsi = BOOT_PARAMS;
    set_regs(vcpu, &regs);
}

static void boot_linux(unsigned cpus)
{
    struct vm *vm = &machine.vm;
    struct serial *serial = &machine.serial;
    char marker[80];

    snprintf(marker, sizeof(marker), L2_DONE, cpus);
    machine = (struct machine){.serial = {.marker = marker}, .lock = PTHREAD_MUTEX_INITIALIZER};
    vm_create(vm, L2_MEMORY, VM_IRQCHIP);
    /* The others wait for INIT and SIPI. */
    while (vm->vcpus < cpus)
        vcpu_create(vm);
    for (unsigned i = 0; i < cpus; i++) {
        set_msr(&vm->vcpu[i], MSR_MISC_ENABLE, 0x1801);
        set_msr(&vm->vcpu[i], MSR_MTRR_DEFAULT, 0xc06);
    }
    check("linux.loaded", load(vm));
    prepare_first_cpu(&vm->vcpu[0]);
    u64 started = time_stamp();
    run_machine();
    serial_flush(serial);
    if (machine.reason)
        note("Linux in L2 left with reason %u at 0x%llx", machine.reason, get_regs(&vm->vcpu[0]).rip);
    if (serial->marked)
        bench("linux-to-init", 1, serial->marked - started, "boots");
    bench("linux", machine.exits, time_stamp() - started, "exits");
    check("linux.all_cpus_worked", serial->marked != 0);
    check_eq("linux.reset", machine.reason, 0);
    vm_destroy(vm);
}

void group_linux(void)
{
    boot_linux(1);
}

void group_linux_smp(void)
{
    unsigned cpus = cpus_of_l1();

    note("%u CPUs", cpus);
    boot_linux(cpus);
}
