/* SPDX-License-Identifier: MIT */
/*
 * Linux as L2: a bzImage through its 64-bit entry (Documentation/arch/x86/boot.rst), with an initrd, a serial
 * port and the kernel's interrupt controllers and timer. Its console appears with `l2: ` in front of each
 * line. The initrd holds this same program, which as first process says a word and resets the machine.
 */
#define _GNU_SOURCE
#include <asm/bootparam.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "tests/system/linux/kvm-client/client.h"
#include "tests/system/linux/kvm-client/serial.h"

#define KERNEL_FILE "/lib/l2/vmlinuz"
#define INITRD_FILE "/lib/l2/initrd.cpio.gz"
#define MARKER      "kvm-client: init of L2 reached"
#define L2_MEMORY   MIB(192)

enum { BOOT_PARAMS = 0x7000, COMMAND_LINE = 0x20000, LOAD_ADDRESS = 0x1000000, INITRD_ADDRESS = 0x8000000 };
enum { SECTOR = 512, ENTRY_64 = 0x200, HEADER_AT = 0x1f1, LOADER_UNKNOWN = 0xff, E820_RAM = 1 };
enum { KEYBOARD_COMMAND = 0x64, RESET = 0xfe };
enum { MSR_MISC_ENABLE = 0x1a0, MSR_MTRR_DEFAULT = 0x2ff };

_Noreturn void l2_init(void)
{
    puts(MARKER);
    tcdrain(STDOUT_FILENO);
    reboot(RB_AUTOBOOT);
    for (;;)
        pause();
}

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
    strcpy((char *)vm->memory + COMMAND_LINE, "console=ttyS0 rdinit=/init reboot=k panic=-1 acpi=off pci=off "
                                              "no_timer_check nokaslr random.trust_cpu=on mitigations=off");
    params->hdr.type_of_loader = LOADER_UNKNOWN;
    params->hdr.cmd_line_ptr = COMMAND_LINE;
    params->hdr.ramdisk_image = INITRD_ADDRESS;
    params->hdr.ramdisk_size = (u32)initrd;
    add_memory(params, 0, 0x9f000);
    add_memory(params, MIB(1), vm->bytes);
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

static u32 run_linux(struct vcpu *vcpu, struct serial *serial, u64 *exits)
{
    u32 reason;
    for (;;) {
        reason = vcpu_run(vcpu);
        ++*exits;
        if (reason == KVM_EXIT_IO && !handle_io(vcpu, serial))
            return 0;
        if (reason == KVM_EXIT_MMIO)
            memset(vcpu->run->mmio.data, 0xff, 8);
        else if (reason != KVM_EXIT_IO)
            return reason;
    }
}

void group_linux(void)
{
    struct vm vm;
    struct serial serial = {.marker = MARKER};
    vm_create(&vm, L2_MEMORY, VM_IRQCHIP);
    check("linux.loaded", load(&vm));
    struct vcpu *vcpu = &vm.vcpu[0];
    start_in(vcpu, MODE_LONG, LOAD_ADDRESS + ENTRY_64);
    struct kvm_regs regs = get_regs(vcpu);
    regs.rsi = BOOT_PARAMS;
    set_regs(vcpu, &regs);
    set_msr(vcpu, MSR_MISC_ENABLE, 0x1801);
    set_msr(vcpu, MSR_MTRR_DEFAULT, 0xc06);
    u64 exits = 0, started = time_stamp();
    u32 reason = run_linux(vcpu, &serial, &exits);
    serial_flush(&serial);
    if (reason)
        note("Linux in L2 left with reason %u at 0x%llx", reason, get_regs(vcpu).rip);
    if (serial.marked)
        bench("linux-to-init", 1, serial.marked - started, "boots");
    bench("linux", exits, time_stamp() - started, "exits");
    check("linux.init_reached", serial.marked != 0);
    check_eq("linux.reset", reason, 0);
    vm_destroy(&vm);
}
