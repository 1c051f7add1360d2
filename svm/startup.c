/* SPDX-License-Identifier: MIT */
#include "svm/startup.h"

#include "arch/cpu.h"
#include "arch/msr.h"
#include "arch/percpu.h"
#include "arch/print.h"
#include "drivers/local-apic.h"
#include "mm/phys.h"
#include "svm/instruction.h"
#include "svm/npf.h"
#include "vcpu/shootdown.h"

#define CPUID_FEATURES    1u
#define CPUID_ECX_MONITOR BIT(3)

/* svm_vcpu.sipi: the vector is in the low byte. */
#define SIPI_CAME BIT(8)

enum { APIC_REGISTER_BYTES = 16 };

/* Under machine_lock() once the guest runs. */
static unsigned waiting, opened; /* CPUs that wait; CPUs that step over an access to the APIC's page */
static bool hooked;
static u64 page; /* of the local APICs; all are at the same address, which they keep */

/* Two bits for each MSR, the second for writes: APM vol. 2 15.11. */
static void intercept_msr(const struct svm_vcpu *svm, u32 msr, bool on)
{
    u8 *map = phys_to_virt(hpa(svm->vmcb01->control.msrpm_base_pa));
    u8 bit = (u8)(2u << msr % 4 * 2);

    if (on)
        (void)__atomic_fetch_or(&map[msr / 4], bit, __ATOMIC_SEQ_CST);
    else
        (void)__atomic_fetch_and(&map[msr / 4], (u8)~bit, __ATOMIC_SEQ_CST);
}

/* The lock is held, or the guest does not run yet. What is not unlocked before is in effect after the
 * shoot-down in machine_unlock(). */
static void update_hook(void)
{
    bool on = waiting != 0 && opened == 0;

    if (on == hooked)
        return;
    for (unsigned i = 0; i < machine.cpus; i++)
        intercept_msr(svm_of(machine.vcpu[i]), MSR_X2APIC_ICR, on);
    if (tdp_protect(&machine.tdp, page, page + PAGE_SIZE, on ? TDP_RWX & ~(unsigned)TDP_W : TDP_RWX) !=
        TDP_OK)
        fatal("no memory is left to watch for start-up IPIs: give the machine more memory");
    machine.tdp.flush_pending = true;
    (void)atomic_exchange(&hooked, on);
}

void svm_startup_expect(struct svm_vcpu *svm)
{
    svm->waits = true;
    waiting++;
}

void svm_startup_begin(void)
{
    if (machine.cpus <= 1)
        return;
    page = local_apic_page().raw;
    update_hook();
}

/*
 * To whoever waits and is addressed. The first vector counts, as in a CPU that has started by it. False if an
 * addressed CPU does not wait, or not any more: it has started, or is about to, or the INIT before is still
 * on its way.
 */
static bool deliver(u64 command)
{
    const struct vcpu *self = this_cpu()->vcpu;
    bool x2apic = local_apic_is_x2apic(), all = true;

    for (unsigned i = 0; i < machine.cpus; i++) {
        struct vcpu *vcpu = machine.vcpu[i];
        if (vcpu == self || !apic_command_reaches(command, x2apic, vcpu->apic_id, false))
            continue;
        if (!atomic_load(&vcpu->waiting) || !atomic_cas(&svm_of(vcpu)->sipi, 0, SIPI_CAME | (command & 0xff)))
            all = false;
    }
    return all;
}

static bool is_startup(u64 command)
{
    return (command & APIC_DELIVERY_MODE) == APIC_DELIVERY_STARTUP;
}

void svm_startup_look_for_missed(void)
{
    if (!atomic_load(&hooked) || atomic_load(&this_cpu()->vcpu->waiting))
        return;
    u64 command = local_apic_command();
    /* Who does not take it now, because he has a SIPI already, may have an INIT yet to come before this one.
     */
    if (is_startup(command) && deliver(command))
        local_apic_forget_command();
}

void svm_startup_wait_begins(struct svm_vcpu *svm)
{
    svm->waits = true;
    atomic_release(&svm->sipi, 0);
    shootdown_wait_begins(svm->vcpu);
    machine_lock(svm->vcpu);
    waiting++;
    update_hook();
    /* Also if it was on before: another CPU may have sent its SIPI before this one waited. */
    machine.tdp.flush_pending = true;
    machine_unlock(svm->vcpu);
}

/*
 * In between INIT, which means nothing to a CPU that waits for a SIPI, is swallowed, and an NMI is none of
 * the guest's.
 */
static void idle(struct svm_vcpu *svm)
{
    if ((cpuid(CPUID_FEATURES, 0).ecx & CPUID_ECX_MONITOR) != 0) {
        svm_wait_for_write(&svm->sipi);
    } else {
        svm_take_pending();
        cpu_relax();
    }
}

void svm_startup_wait(struct svm_vcpu *svm)
{
    struct start_state start = {0};
    u64 sipi;

    if (!svm->waits)
        return;
    while ((sipi = atomic_load(&svm->sipi)) == 0)
        idle(svm);
    /* An INIT that came before the SIPI must not stop what the SIPI has started. */
    svm_take_pending();
    svm->waits = false;
    machine_lock(svm->vcpu);
    waiting--;
    update_hook();
    machine_unlock(svm->vcpu);
    svm->vcpu->nmi_pending = false;
    start_state_sipi(&start, (u8)sipi);
    svm_load_start(svm, &start);
    shootdown_wait_ends(svm->vcpu);
}

/*
 * What is no SIPI goes its way. A SIPI has an effect only on CPUs that wait, all of them in Umbra; but where
 * one is addressed that does not wait yet, the ICR has to keep it for svm_startup_look_for_missed().
 */
bool svm_startup_write_msr(u64 command)
{
    return (is_startup(command) && deliver(command)) || wrmsr_safe(MSR_X2APIC_ICR, command);
}

static void write_register(unsigned offset, u32 value)
{
    u64 destination = local_apic_read(APIC_ICR_HIGH) >> 24;

    if (offset != APIC_ICR || !is_startup(value) || !deliver(destination << 32 | value))
        local_apic_write(offset, value);
}

/* Anything but a plain store is rare: it is executed on the open page, and then the ICR tells what it was. */
static enum exit_action open_page(struct svm_vcpu *svm)
{
    if (!svm->apic_opened) {
        svm->apic_opened = true;
        machine_lock(svm->vcpu);
        opened++;
        update_hook();
        machine_unlock(svm->vcpu);
    }
    return EXIT_STEP;
}

void svm_startup_step_done(struct svm_vcpu *svm)
{
    if (!svm->apic_opened)
        return;
    svm->apic_opened = false;
    machine_lock(svm->vcpu);
    opened--;
    update_hook();
    machine_unlock(svm->vcpu);
}

bool svm_startup_write_page(struct svm_vcpu *svm, const struct violation *violation, enum exit_action *action)
{
    struct instruction decoded;
    unsigned offset = (unsigned)(violation->gpa.raw & PAGE_MASK);
    u32 value;

    if (machine.cpus <= 1 || align_down(violation->gpa.raw, PAGE_SIZE) != page ||
        (violation->access & TDP_W) == 0)
        return false;
    if (!atomic_load(&hooked)) {
        /* It went off meanwhile. */
        svm_flush_guest(svm);
        *action = EXIT_RESUME;
        return true;
    }
    svm->vcpu->gpr[GPR_RSP] = svm->vmcb->save.rsp;
    if ((violation->raw & NPF_TABLE_WALK) != 0 || svm->vcpu->l2_running || local_apic_is_x2apic() ||
        offset % APIC_REGISTER_BYTES != 0 || !svm_fetch_instruction(svm, &decoded) ||
        !svm_instruction_stores(&decoded, svm->vcpu->gpr, &value)) {
        *action = open_page(svm);
        return true;
    }
    write_register(offset, value);
    svm_set_next_rip(svm, decoded.length);
    *action = EXIT_SKIP;
    return true;
}
