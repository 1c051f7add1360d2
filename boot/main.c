/* SPDX-License-Identifier: MIT */
/*
 * The order in which Umbra comes up: consoles, what the loader said, checks, its own place in memory, the
 * machine, the guest, and then the exit loop for ever. Each step that can fail ends here, in one sentence.
 */
#include "arch/cpu.h"
#include "arch/exception.h"
#include "arch/layout.h"
#include "arch/msr.h"
#include "arch/print.h"
#include "arch/string.h"
#include "boot/guest.h"
#include "boot/info.h"
#include "boot/machine.h"
#include "boot/memory.h"
#include "boot/multiboot.h"
#include "boot/options.h"
#include "boot/processors.h"
#include "drivers/acpi.h"
#include "drivers/serial.h"
#include "drivers/vga.h"
#include "mm/frame.h"
#include "mm/phys.h"
#include "nested/nested.h"
#include "vcpu/vendor.h"

#define VGA_TEXT_BUFFER   0xb8000u
#define CPUID_FEATURES    1u
#define CPUID_ECX_VMX     BIT(5)
#define CPUID_EXTENDED    0x80000001u
#define CPUID_EXT_ECX_SVM BIT(2)

static struct boot_info info;
static struct boot_options options;
static struct start_state start;
static struct acpi_cpus cpus;
static u64 entry_tsc; /* when boot_main() began: what Umbra's start costs */

void boot_main(u32 magic, u32 physical);
_Noreturn void boot_switch_stack(u64 stack_top, void (*continue_at)(void));

/* Until the real per-CPU data can be made: so that an exception on the way there is reported, too. */
static void load_boot_tables(void)
{
    static struct percpu boot_cpu;
    static u8 stack[8192] __attribute__((aligned(16)));
    u64 top = (uintptr_t)stack + sizeof(stack);

    idt_init();
    cpu_tables_load(&boot_cpu, &(struct cpu_stacks){.exit = top, .nmi = top, .fault = top});
}

static struct acpi_window low_memory(void)
{
    return (struct acpi_window){phys_to_virt(hpa(0)), GIB(4)};
}

static void start_consoles(void)
{
    if (options.serial)
        serial_init(options.serial_port, options.serial_baud);
    else
        serial_off();
    log_set_level(options.log_level);
    if (!info.framebuffer.present || info.framebuffer.type == MB_FRAMEBUFFER_EGA_TEXT)
        vga_init(phys_to_virt(hpa(VGA_TEXT_BUFFER)), 80, 25);
}

static void report_complaints(void)
{
    unsigned kept =
        options.complaint_count < OPTION_COMPLAINTS_MAX ? options.complaint_count : OPTION_COMPLAINTS_MAX;
    for (unsigned i = 0; i < kept; i++) {
        char sentence[200];
        options_complaint_text(&options.complaint[i], sentence, sizeof(sentence));
        log_warn("%s", sentence);
    }
    if (kept < options.complaint_count)
        log_warn("%u more words of the command line are ignored", options.complaint_count - kept);
}

static void read_loader(u32 magic, u32 physical)
{
    enum boot_info_status status = boot_info_parse(&info, magic, physical);
    if (status != BOOT_INFO_OK)
        fatal("%s", boot_info_status_text(status));
    options_parse(&options, info.command_line);
    start_consoles();
    log_info("Umbra starts, loaded by %s", info.loader_name);
    report_complaints();
}

static const struct vendor *find_vendor(void)
{
    if ((cpuid(CPUID_FEATURES, 0).ecx & CPUID_ECX_VMX) != 0)
        return &vmx_vendor;
    if (cpuid(0x80000000, 0).eax >= CPUID_EXTENDED && (cpuid(CPUID_EXTENDED, 0).ecx & CPUID_EXT_ECX_SVM) != 0)
        return &svm_vendor;
    fatal("this CPU offers neither VMX nor SVM: use an Intel or AMD CPU with virtualization and switch it on "
          "in the firmware");
}

/* All that firmware has enabled: on a CPU that Umbra does not control the guest could do whatever it likes.
 */
static void find_cpus(void)
{
    struct acpi_window window = low_memory();
    u64 found = info.rsdp_bytes == 0 ? acpi_find_rsdp(&window) : 0;
    const u8 *rsdp = found != 0 ? phys_to_virt(hpa(found)) : info.rsdp;

    acpi_find_cpus(&window, rsdp, found != 0 ? ACPI_RSDP_MIN_BYTES : info.rsdp_bytes, &cpus);
    if (options.unprotected_cpus && cpus.count > 1) {
        log_warn("%u CPUs, of which Umbra controls one: what the guest runs on the others is not confined",
                 cpus.count);
        cpus.count = 1;
    }
    if (cpus.count > CPUS_MAX)
        fatal("this machine has %u CPUs and this version of Umbra controls %u at most: switch the others off "
              "in the firmware, or boot with cpus=unprotected to use one and let the guest have the others "
              "outside of Umbra",
              cpus.count, (unsigned)CPUS_MAX);
}

static void die_if(const char *problem)
{
    if (problem != NULL)
        fatal("%s", problem);
}

/* On the CPU's own stack, with everything in place: the last steps before the guest. */
static void run_guest(void)
{
    struct vcpu *vcpu = this_cpu()->vcpu;
    const struct vendor *vendor = machine.vendor;
    char sentence[GUEST_SENTENCE_BYTES];

    die_if(vendor->enable(vcpu));
    processors_start_others(&cpus, &guest_memmap);
    if (guest_load(&info, &guest_memmap, &start, sentence, sizeof(sentence)) != GUEST_OK)
        fatal("%s", sentence);
    log_info("%s", sentence);

    die_if(vendor->prepare(vcpu, &start));
    if (machine.nested)
        die_if(nested_start(vcpu));
    fatal_stop_hook = processors_stop_others;
    fatal_hook = processors_report_death;
    log_info("up in %lu TSC ticks: the guest starts at %lx, %lu KByte of Umbra's memory are free",
             read_tsc() - entry_tsc, start.rip, frame_free_count() * PAGE_SIZE / 1024);
    /* From here on the screen is the guest's. */
    log_quiet(true);
    vendor->run(vcpu);
}

void boot_main(u32 magic, u32 physical)
{
    struct tdp_config config = {0};

    entry_tsc = read_tsc();
    direct_map_base = LAYOUT_DIRECT_MAP;
    serial_init(SERIAL_COM1, SERIAL_BAUD_MAX);
    load_boot_tables();
    read_loader(magic, physical);
    machine.vendor = find_vendor();
    die_if(machine.vendor->probe(&config));
    find_cpus();
    processors_set_control_registers();
    die_if(boot_memory_init(&info, cpus.count));
    log_info("%s, %s, Umbra's memory is %lx to %lx", machine.vendor->name,
             config.format == TDP_EPT
                 ? (config.mode_based_execute
                        ? "MBEC on"
                        : "no MBEC in this CPU: user and supervisor fetches share one permission")
                 : (config.mode_based_execute
                        ? "GMET on"
                        : "no GMET in this CPU: user and supervisor fetches share one permission"),
             umbra_region.start, umbra_region.end);
    die_if(boot_machine_init(&config));
    machine.hypercalls = options.hypercalls;
    machine.nested = options.nested;
    machine.vmcs_shadowing = options.vmcs_shadowing;

    boot_switch_stack(processors_create_first()->stack_top, run_guest);
}
