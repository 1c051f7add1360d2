/* SPDX-License-Identifier: MIT */
#include "boot/processors.h"

#include "arch/cpu.h"
#include "arch/layout.h"
#include "arch/msr.h"
#include "arch/print.h"
#include "arch/string.h"
#include "boot/machine.h"
#include "boot/memory.h"
#include "drivers/local-apic.h"
#include "mm/frame.h"
#include "mm/phys.h"
#include "nested/nested.h"
#include "vcpu/shootdown.h"
#include "vcpu/vendor.h"

#define CPUID_FEATURES   1u
#define CPUID_ECX_XSAVE  BIT(26)
#define CPUID_STRUCTURED 7u
#define CPUID_EBX_SMEP   BIT(7)
#define CPUID_EBX_SMAP   BIT(20)

/* Reads of port 80H, which take about a microsecond each: SDM vol. 3A 9.4.4.1 wants the first two. */
enum { INIT_DELAY = 10000, STARTUP_DELAY = 200, PATIENCE = 2000000 };
#define DELAY_PORT   0x80
#define CONVENTIONAL KIB(640)
#define XAPIC_IDS    0xffu

/* boot/entry.S: what the CPU that is being started finds at the page of its start-up IPI. */
extern const u8 ap_trampoline[], ap_trampoline_end[];
extern const u32 ap_trampoline_root;
/* Where that code goes on, on the stack ap_stack_top. */
extern u64 ap_stack_top;
_Noreturn void ap_main(void);

/* The one CPU that is on its way; both sides change `state` in turn. */
static struct {
    enum { STARTING, ARRIVED, PREPARING, READY, REFUSED } state;
    struct percpu *cpu;
    struct cpu_stacks stacks;
    const char *problem;
} coming;

static struct percpu *controlled[CPUS_MAX];

void processors_set_control_registers(void)
{
    u64 cr4 = read_cr4() | CR4_PGE | CR4_MCE;
    struct cpuid_regs features = cpuid(CPUID_FEATURES, 0);
    struct cpuid_regs structured = {0};

    if (cpuid(0, 0).eax >= CPUID_STRUCTURED)
        structured = cpuid(CPUID_STRUCTURED, 0);
    if ((features.ecx & CPUID_ECX_XSAVE) != 0)
        cr4 |= CR4_OSXSAVE; /* XSETBV on behalf of the guest */
    if ((structured.ebx & CPUID_EBX_SMEP) != 0)
        cr4 |= CR4_SMEP;
    if ((structured.ebx & CPUID_EBX_SMAP) != 0)
        cr4 |= CR4_SMAP;
    write_cr4(cr4);
    wrmsr(MSR_IA32_PAT, IA32_PAT_RESET);
}

static struct percpu *create(unsigned index, struct cpu_stacks *stacks)
{
    hpa_t cpu_frames, vcpu_frames;

    if (!frame_alloc_contiguous((sizeof(struct percpu) + PAGE_MASK) / PAGE_SIZE, &cpu_frames) ||
        !frame_alloc_contiguous((sizeof(struct vcpu) + PAGE_MASK) / PAGE_SIZE, &vcpu_frames) ||
        !boot_memory_map_stacks(index, stacks) || !vcpu_init(phys_to_virt(vcpu_frames), index))
        fatal("Umbra's memory pool is too small for the data of CPU %u: give the machine more memory and "
              "report it",
              index);

    struct percpu *cpu = phys_to_virt(cpu_frames);
    cpu->index = index;
    cpu->vcpu = phys_to_virt(vcpu_frames);
    controlled[index] = cpu;
    machine.vcpu[index] = cpu->vcpu;
    machine.cpus = index + 1;
    return cpu;
}

struct percpu *processors_create_first(void)
{
    struct cpu_stacks stacks;
    struct percpu *cpu = create(0, &stacks);

    cpu_tables_load(cpu, &stacks);
    return cpu;
}

/* By the stack in use, not by GS: on AMD an exception may come while the guest's GS base is still loaded. */
static struct vcpu *dying(void)
{
    u64 here = (uintptr_t)__builtin_frame_address(0);
    u64 index = (here - LAYOUT_STACKS) / LAYOUT_STACK_SLOT;

    if (here < LAYOUT_STACKS || index >= ARRAY_SIZE(controlled) || controlled[index] == NULL)
        return NULL;
    wrmsr(MSR_GS_BASE, (uintptr_t)controlled[index]);
    return controlled[index]->vcpu;
}

void processors_stop_others(void)
{
    const struct vcpu *vcpu = dying();

    if (vcpu != NULL)
        shootdown_stop_others(vcpu);
}

void processors_report_death(void)
{
    struct vcpu *vcpu = dying();

    if (vcpu == NULL)
        return;
    machine.vendor->dump(vcpu);
    vcpu_report(vcpu);
}

/* --- on a CPU that is being started --- */

static void set_state(unsigned state)
{
    __atomic_store_n(&coming.state, state, __ATOMIC_SEQ_CST);
}

static bool state_is(unsigned state)
{
    return __atomic_load_n(&coming.state, __ATOMIC_SEQ_CST) == state;
}

/* NULL, or why it cannot be used. */
static const char *prepare(struct vcpu *vcpu)
{
    const char *problem = machine.vendor->match();

    if (problem == NULL)
        problem = machine.vendor->enable(vcpu);
    if (problem == NULL)
        problem = machine.vendor->prepare(vcpu, NULL);
    if (problem == NULL && machine.nested)
        problem = nested_start(vcpu);
    return problem;
}

/*
 * The last thing that the boot CPU waits for is READY, some hundred instructions before the VM entry. The
 * guest's first SIPI comes after the boot CPU has loaded the guest, and an INIT of the guest's, which VMX
 * root operation and wait-for-SIPI both ignore: not even an SMI in between is so long.
 */
void ap_main(void)
{
    struct percpu *cpu = coming.cpu;

    cpu_tables_load(cpu, &coming.stacks);
    processors_set_control_registers();
    set_state(ARRIVED);
    while (!state_is(PREPARING))
        cpu_relax();
    coming.problem = prepare(cpu->vcpu);
    if (coming.problem != NULL) {
        set_state(REFUSED);
        cpu_stop();
    }
    if (!boot_machine_mtrrs_agree())
        log_warn("firmware gave CPU %u other memory types (MTRRs) than the boot CPU", cpu->index);
    shootdown_wait_begins(cpu->vcpu);
    set_state(READY);
    machine.vendor->run(cpu->vcpu);
    __builtin_unreachable();
}

/* --- on the boot CPU --- */

static void delay(unsigned reads)
{
    while (reads-- != 0) {
        (void)inb(DELAY_PORT);
        cpu_relax();
    }
}

static bool wait_until_left(unsigned state, unsigned reads)
{
    while (state_is(state) && reads-- != 0) {
        (void)inb(DELAY_PORT);
        cpu_relax(); /* an emulator whose CPUs take turns runs the other one */
    }
    return !state_is(state);
}

/* After its arrival no SIPI is on the way any more: the guest would take it. */
static void start(u32 apic_id, u64 page)
{
    u32 startup = APIC_SEND_STARTUP | (u32)(page >> PAGE_SHIFT);

    set_state(STARTING);
    local_apic_send(apic_id, APIC_SEND_INIT);
    delay(INIT_DELAY);
    local_apic_send(apic_id, startup);
    if (!wait_until_left(STARTING, STARTUP_DELAY))
        local_apic_send(apic_id, startup);
    if (!wait_until_left(STARTING, PATIENCE))
        fatal("the CPU with APIC ID %u does not start: switch it off in the firmware", apic_id);
    delay(STARTUP_DELAY);
    set_state(PREPARING);
    if (!wait_until_left(PREPARING, PATIENCE))
        fatal("the CPU with APIC ID %u does not become ready: please report it", apic_id);
    if (state_is(REFUSED))
        fatal("the CPU with APIC ID %u cannot be used: %s", apic_id, coming.problem);
}

static void start_one(u32 apic_id, u64 page)
{
    if (apic_id >= XAPIC_IDS && (rdmsr(MSR_IA32_APIC_BASE) & IA32_APIC_BASE_EXTD) == 0)
        fatal(
            "the CPU with APIC ID %u can be reached in x2APIC mode only, which the firmware has not chosen: "
            "switch x2APIC on there, or that CPU off",
            apic_id);
    coming.cpu = create(machine.cpus, &coming.stacks);
    if (!boot_memory_map_local_apic(coming.cpu, local_apic_page()))
        fatal("Umbra's memory pool is too small to map local APICs: please report it");
    coming.cpu->vcpu->apic_id = apic_id;
    ap_stack_top = coming.cpu->stack_top = coming.stacks.exit;
    start(apic_id, page);
}

void processors_start_others(const struct acpi_cpus *cpus, const struct memmap *memory)
{
    u8 *image = phys_to_virt(hpa(0)), saved[256];
    u64 bytes = (uintptr_t)ap_trampoline_end - (uintptr_t)ap_trampoline, page;

    if (cpus->count <= 1)
        return;
    if (!boot_memory_map_local_apic(this_cpu(), local_apic_page()))
        fatal("Umbra's memory pool is too small to map local APICs: please report it");
    u32 own = local_apic_id();
    this_cpu()->vcpu->apic_id = own;
    if (memmap_find_highest(memory, PAGE_SIZE, PAGE_SIZE, CONVENTIONAL, NULL, 0, &page) != MEMMAP_OK)
        fatal("there is no page of RAM below 640 KByte in which the other CPUs could start");

    /* What was there comes back: it is the guest's. */
    image += page;
    memcpy(saved, image, bytes);
    memcpy(image, ap_trampoline, bytes);
    *(u32 *)&image[(uintptr_t)&ap_trampoline_root - (uintptr_t)ap_trampoline] = (u32)read_cr3();
    for (unsigned i = 0; i < cpus->count; i++) {
        if (cpus->apic_id[i] != own)
            start_one(cpus->apic_id[i], page);
    }
    memcpy(image, saved, bytes);
    /* Not to be taken for one of the guest's: svm/startup.h. */
    local_apic_forget_command();
    log_info("%u CPUs", machine.cpus);
}
