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

/*
 * Of a guest that uses not all its CPUs: after so many writes to the ICR or the APIC's page no SIPI is
 * expected any more, until an INIT comes. A boot takes fewer; and it is long enough to see a start by a SIPI
 * without an INIT.
 */
enum { WRITES_WITHOUT_SIPI = 1 << 14 };

/* Under machine_lock() once the guest runs. */
static unsigned expected; /* CPUs that expect a SIPI */
static unsigned opened;   /* CPUs that step over an access to the APIC's page */
static bool hooked;
static u32 futile_writes; /* that the hook has caught since a CPU last began or ceased to expect a SIPI;
                             counted without the lock */
static u64 page;          /* of the local APICs; all are at the same address, which they keep */

/* What CPUs tell each other of SIPIs; taken with GIF clear, or by the NMI handler. */
static struct spinlock sipi_lock;

/* Has an INIT come to this CPU, in a moment with GIF set, since the last call? */
static bool init_came(void)
{
    struct percpu *cpu = this_cpu();
    bool came = cpu->init_came;

    cpu->init_came = false;
    return came;
}

void svm_take_events(struct svm_vcpu *svm)
{
    svm_take_pending();
    if (init_came())
        svm->init_pending = true;
}

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
    bool on = expected != 0 && opened == 0;

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
    svm->waits = svm->expects = true;
    expected++;
}

void svm_startup_begin(void)
{
    if (machine.cpus <= 1)
        return;
    page = local_apic_page().raw;
    local_apic_keep_startup();
    update_hook();
}

static u64 delivery_mode(u64 command)
{
    return command & APIC_DELIVERY_MODE;
}

/* The first vector counts, as in a CPU that has started by it. */
static bool take_sipi(struct svm_vcpu *svm, u64 command)
{
    if (svm->sipi != 0 || delivery_mode(command) != APIC_DELIVERY_STARTUP)
        return false;
    atomic_release(&svm->sipi, SIPI_CAME | (command & 0xff));
    return true;
}

/*
 * A SIPI that was found in an ICR may be from before the INIT, and mean nothing: it does if that INIT is
 * still in another CPU's. So a CPU that has taken one asks all others first. False: the SIPI is to stay where
 * it is, because this one has another already, and may have an INIT yet to come before it.
 */
static bool take_found(struct svm_vcpu *svm, u64 command)
{
    if (!svm->asks)
        return take_sipi(svm, command);
    if (delivery_mode(command) == APIC_DELIVERY_INIT)
        svm->init_found = true;
    else if (svm->sipi_found == 0)
        svm->sipi_found = SIPI_CAME | (command & 0xff);
    return true;
}

/* While it has not started by a SIPI from before, an INIT takes that back; later, it finds the INIT in its
 * guest. */
static bool take_sent(struct svm_vcpu *svm, u64 command)
{
    if (delivery_mode(command) != APIC_DELIVERY_INIT)
        return take_sipi(svm, command);
    if (svm->waits) {
        svm->init_found = true;
        atomic_release(&svm->sipi, 0);
    }
    return true;
}

/*
 * An INIT or SIPI that the guest sends now, or that was found in this CPU's ICR, to whoever waits and is
 * addressed. False if it is still to come to one of them.
 */
static bool deliver(u64 command, bool found)
{
    const struct vcpu *self = this_cpu()->vcpu;
    bool x2apic = local_apic_is_x2apic(), all = true;

    spin_lock(&sipi_lock);
    for (unsigned i = 0; i < machine.cpus; i++) {
        struct vcpu *vcpu = machine.vcpu[i];
        if (vcpu == self || !apic_command_reaches(command, x2apic, vcpu->apic_id, false))
            continue;
        if (!atomic_load(&vcpu->waiting) || !(found ? take_found : take_sent)(svm_of(vcpu), command))
            all = false;
    }
    spin_unlock(&sipi_lock);
    return all;
}

/* An INIT that is ended (SDM vol. 3A 11.6.1: level, de-assert) is none. */
static bool is_init_or_startup(u64 command)
{
    u64 mode = delivery_mode(command);

    return mode == APIC_DELIVERY_STARTUP ||
           (mode == APIC_DELIVERY_INIT &&
            (command & (APIC_LEVEL_TRIGGER | APIC_ASSERT)) != APIC_LEVEL_TRIGGER);
}

void svm_startup_look_for_missed(void)
{
    if (!atomic_load(&hooked) || atomic_load(&this_cpu()->vcpu->waiting))
        return;
    u64 command = local_apic_command();
    if (delivery_mode(command) == APIC_DELIVERY_INIT)
        (void)deliver(command, true);
    else if (is_init_or_startup(command) && deliver(command, true))
        local_apic_forget_command();
}

static void ask(struct svm_vcpu *svm)
{
    spin_lock(&sipi_lock);
    svm->asks = true;
    svm->sipi_found = 0;
    svm->init_found = false;
    spin_unlock(&sipi_lock);
}

static void stop_asking(struct svm_vcpu *svm)
{
    spin_lock(&sipi_lock);
    svm->asks = false;
    if (svm->sipi == 0 && !svm->init_found)
        atomic_release(&svm->sipi, svm->sipi_found);
    spin_unlock(&sipi_lock);
}

/* By another CPU, too, for one that waits. */
static void set_expects(struct svm_vcpu *svm, bool on)
{
    expected += (unsigned)on - (unsigned)svm->expects;
    svm->expects = on;
    futile_writes = 0;
}

static void begin_to_expect(struct svm_vcpu *svm)
{
    machine_lock(svm->vcpu);
    /* Also if the hook is on: another CPU may have sent its SIPI before this one expected it. */
    if (!svm->expects)
        machine.tdp.flush_pending = true;
    set_expects(svm, true);
    update_hook();
    machine_unlock(svm->vcpu);
    stop_asking(svm);
}

static void cease_to_expect(struct svm_vcpu *svm)
{
    machine_lock(svm->vcpu);
    set_expects(svm, false);
    update_hook();
    machine_unlock(svm->vcpu);
}

/* The hook has caught a write. Those that wait in vain cost the others no more. */
static void count_write(struct vcpu *vcpu)
{
    if (atomic_add(&futile_writes, 1) + 1 < WRITES_WITHOUT_SIPI)
        return;
    machine_lock(vcpu);
    /* Not if one has begun to expect one just now. */
    if (futile_writes >= WRITES_WITHOUT_SIPI) {
        for (unsigned i = 0; i < machine.cpus; i++)
            set_expects(svm_of(machine.vcpu[i]), false);
        update_hook();
    }
    machine_unlock(vcpu);
}

void svm_startup_wait_begins(struct svm_vcpu *svm)
{
    svm->waits = true;
    atomic_release(&svm->sipi, 0);
    ask(svm);
    shootdown_wait_begins(svm->vcpu);
    begin_to_expect(svm);
}

/*
 * In between an INIT, which means nothing to a CPU that waits for a SIPI, but that one may follow, is
 * swallowed, and an NMI is none of the guest's.
 */
static void idle(struct svm_vcpu *svm)
{
    if ((cpuid(CPUID_FEATURES, 0).ecx & CPUID_ECX_MONITOR) != 0) {
        svm_wait_for_write(&svm->sipi);
    } else {
        svm_take_pending();
        cpu_relax();
    }
    if (init_came()) {
        ask(svm);
        begin_to_expect(svm);
    }
}

/* Returns the SIPI that it has got, or 0: an INIT has taken it back. */
static u64 stop_waiting(struct svm_vcpu *svm)
{
    spin_lock(&sipi_lock);
    u64 sipi = svm->sipi;
    svm->waits = sipi == 0;
    spin_unlock(&sipi_lock);
    return sipi;
}

void svm_startup_wait(struct svm_vcpu *svm)
{
    struct start_state start = {0};
    u64 sipi;

    if (!svm->waits)
        return;
    do {
        while (atomic_load(&svm->sipi) == 0)
            idle(svm);
        /* An INIT that came before the SIPI must not stop what the SIPI has started. */
        svm_take_pending();
        (void)init_came();
        sipi = stop_waiting(svm);
    } while (sipi == 0);
    cease_to_expect(svm);
    svm->vcpu->nmi_pending = false;
    start_state_sipi(&start, (u8)sipi);
    svm_load_start(svm, &start);
    shootdown_wait_ends(svm->vcpu);
}

/*
 * A SIPI has an effect only on CPUs that wait, all of them in Umbra, and so it goes its way like everything
 * else: the ICR has to show it, and to keep it for svm_startup_look_for_missed() where one is addressed that
 * does not wait yet.
 */
bool svm_startup_write_msr(u64 command)
{
    count_write(this_cpu()->vcpu);
    if (is_init_or_startup(command) && local_apic_is_x2apic())
        (void)deliver(command, false);
    return wrmsr_safe(MSR_X2APIC_ICR, command);
}

static void write_register(unsigned offset, u32 value)
{
    u64 destination = local_apic_read(APIC_ICR_HIGH) >> 24;

    if (offset == APIC_ICR && is_init_or_startup(value))
        (void)deliver(destination << 32 | value, false);
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
    count_write(svm->vcpu);
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
