/* SPDX-License-Identifier: MIT */
/*
 * Group bench-smp: L2's first touches of 4-KByte pages, by all CPUs at once, through one page table of L1's
 * and through one for each; and HLT of one CPU. cpus=N on the command line. The time-stamp counter is the
 * instructions of each CPU on Bochs, whose CPUs take turns, and the sum of all with QEMU's -icount; L2 pauses
 * after each touch, which gives the turn away there.
 */
#include "tests/guest/bench.h"
#include "tests/guest/svm.h"
#undef L2_CODE /* of neither vendor here */
#include "tests/guest/vmx.h"

enum { CPUS = 4, PAGES = 60, OWN = CPUS * PAGES, VECTOR_HALT = 0x45 };

extern const u8 bench_touch_start[], bench_svm_touch_start[];

static struct {
    u8 vmxon[PAGE_SIZE], control[PAGE_SIZE], host_area[PAGE_SIZE];
} mine[CPUS] __attribute__((aligned(4096)));
static struct l2_registers l2_of[CPUS];
static bool launched[CPUS];

static unsigned cpus, arrived;
static bool failed;

/* Until all CPUs have come to their n-th barrier. */
static void barrier(unsigned n)
{
    (void)__atomic_fetch_add(&arrived, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&arrived, __ATOMIC_SEQ_CST) < n * cpus)
        __asm__ volatile("pause");
}

/* --- one CPU --- */

static void begin_vmx(unsigned cpu)
{
    vmx_begin(mine[cpu].vmxon, mine[cpu].control);
    vmx_reset_vmcs();
    if (vmx_has(WORD_SECONDARY, SECONDARY_VPID))
        vmx_set(WORD_SECONDARY, SECONDARY_VPID);
    if (vmx_has(WORD_SECONDARY, SECONDARY_MBEC))
        vmx_set(WORD_SECONDARY, SECONDARY_MBEC);
}

static bool run_vmx(unsigned cpu)
{
    vmwrite(VMCS_GUEST_RIP, (u64)bench_touch_start);
    bool entered = vmx_enter(&l2_of[cpu], !launched[cpu]) == 0;
    launched[cpu] = true;
    return entered && vmread(VMCS_EXIT_REASON) == REASON_VMCALL;
}

static void begin_svm(unsigned cpu)
{
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
    wrmsr(MSR_VM_HSAVE_PA, (u64)mine[cpu].host_area);
    memcpy(mine[cpu].control, &vmcb, sizeof(vmcb));
}

static bool run_svm(unsigned cpu)
{
    struct vmcb *own = (struct vmcb *)(void *)mine[cpu].control;

    own->save.rip = (u64)bench_svm_touch_start;
    svm_enter(&l2_of[cpu], (u64)own, 0);
    own->control.tlb_control = TLB_CONTROL_NOTHING;
    return own->control.exit_code == VMEXIT_VMMCALL;
}

static void touch(unsigned cpu, unsigned first, unsigned count)
{
    struct l2_registers *registers = &l2_of[cpu];

    registers->rbx = WINDOW + (cpu * PAGES + first) * PAGE_SIZE;
    registers->rsi = PAGE_SIZE;
    registers->rcx = count;
    if (!(is_intel ? run_vmx(cpu) : run_svm(cpu)))
        __atomic_store_n(&failed, true, __ATOMIC_SEQ_CST);
}

/* --- all of them --- */

/* The first page brings the root and the tables; then the others, for the first and for the second time. */
static void touch_pages(const char *name, unsigned cpu, unsigned first, unsigned *barriers)
{
    u64 at[2][3], exits[2][3];

    touch(cpu, first, 1);
    for (unsigned i = 0; i < 2; i++) {
        barrier(++*barriers);
        at[i][0] = rdtsc();
        exits[i][0] = cpu == 0 ? bench_exits() : 0;
        at[i][1] = rdtsc();
        touch(cpu, first + 1, PAGES - 1);
        barrier(++*barriers);
        at[i][2] = rdtsc();
        exits[i][1] = cpu == 0 ? bench_exits() : 0;
    }
    if (cpu != 0)
        return;
    u64 ticks = (at[0][2] - at[0][1]) - (at[1][2] - at[1][1]);
    bench_row(name, PAGES - 1, (exits[0][1] - exits[0][0]) - (exits[1][1] - exits[1][0]),
              on_tcg() ? ticks / cpus : ticks);
}

static void work(unsigned cpu)
{
    unsigned barriers = 0;

    if (is_intel)
        begin_vmx(cpu);
    else
        begin_svm(cpu);
    touch_pages("touch-one-table", cpu, 0, &barriers);
    touch_pages("touch-own-tables", cpu, OWN, &barriers);
    barrier(++barriers);
    while (cpu != 0)
        __asm__ volatile("cli; hlt");
}

static bool on_interrupt(struct frame *frame)
{
    (void)frame;
    apic_write(APIC_EOI, 0);
    return true;
}

/* What a HLT costs more than a NOP, with an interrupt that waits. The others sleep, so that the ticks are its
 * own. */
static void halt(void)
{
    u64 at[3], exits[3];

    for (unsigned i = 0; i < 3; i++) {
        at[i] = rdtsc();
        exits[i] = bench_exits();
        for (unsigned n = 0; n < BENCH_LOOPS && i < 2; n++) {
            apic_send(0, ICR_SELF | ICR_FIXED | VECTOR_HALT);
            if (i == 0)
                __asm__ volatile("sti; nop; cli" ::: "memory");
            else
                __asm__ volatile("sti; hlt; cli" ::: "memory");
        }
    }
    bench_row("halt", BENCH_LOOPS, (exits[2] - exits[1]) - (exits[1] - exits[0]),
              (at[2] - at[1]) - (at[1] - at[0]));
}

/* Window pages from 0 on are of one table; from OWN on those of each CPU are of a table of its own. */
static void map(u64 *window, u64 *window_directory, u64 leaf, u64 table)
{
    const u64 flags = PTE_P | PTE_W | PTE_A | PTE_D;

    for (unsigned cpu = 0; cpu < cpus; cpu++) {
        for (unsigned i = 0; i < PAGES; i++) {
            unsigned page = cpu * PAGES + i;
            (void)l2_window(page, flags);
            window[page] = bench_tables[cpu][i] = (u64)bench_target[i & 1] | leaf;
            (void)window_map(OWN + page, BENCH_TABLES_GPA + cpu * MIB(2) + i * PAGE_SIZE, flags);
        }
        window_directory[1 + cpu] = (u64)bench_tables[cpu] | table;
    }
}

void group_bench_smp(void)
{
    cpus = 1 + smp_start();
    bench_require("bench.cpus", cpus <= CPUS);
    if (is_intel ? !vmx_start("bench-smp") : !svm_start("bench-smp"))
        return;
    if (is_intel) {
        check_eq("bench-smp.vmxoff", try_vmxoff(), END_SUCCEED);
        map(ept_window, ept_window_directory, EPT_RWX | EPT_XU | EPT_WB | EPT_A | EPT_D, EPT_RWX | EPT_XU);
    } else {
        map(npt_window, npt_window_directory, NPT_ALL | PTE_A | PTE_D, NPT_ALL);
    }
    if (cpus > 1)
        bench_require("bench.call", smp_call(work));
    work(0);
    trap_set_hook(VECTOR_HALT, on_interrupt);
    halt();
    check("bench-smp.all_touched", !failed);
}
