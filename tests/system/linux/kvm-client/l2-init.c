/* SPDX-License-Identifier: MIT */
/*
 * The client as first process of a Linux in L2. A thread on each CPU that is on line writes to memory which
 * comes and goes for all of them, and compares what another wrote: page faults on all CPUs, interrupts from
 * each to each that wake and that flush. Then it says how many did so, and resets the machine.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <termios.h>
#include <unistd.h>

#include "tests/system/linux/kvm-client/client.h"

enum { CPUS_MAX = 16, LOAD_ROUNDS = 20, WORDS = 8 * PAGE_SIZE / sizeof(u64) };

struct load {
    pthread_t thread;
    unsigned cpu;
    unsigned number;
    bool good;
};

static struct load loads[CPUS_MAX];
static unsigned count;
static pthread_barrier_t step;
static u64 (*memory)[WORDS]; /* one part for each thread; the first thread maps and unmaps them */

static bool all_are(const u64 *words, u64 value)
{
    for (unsigned i = 0; i < WORDS; i++) {
        if (words[i] != value)
            return false;
    }
    return true;
}

static bool load_round(const struct load *load, u64 round)
{
    unsigned other = (load->number + 1) % count;

    if (load->number == 0)
        memory = fresh_memory(count * sizeof(memory[0]));
    pthread_barrier_wait(&step);
    /* Not what was there a round ago, in pages that other CPUs have unmapped. */
    bool good = all_are(memory[load->number], 0) && sched_getcpu() == (int)load->cpu;
    for (unsigned i = 0; i < WORDS; i++)
        memory[load->number][i] = round << 8 | load->number;
    pthread_barrier_wait(&step);
    good = all_are(memory[other], round << 8 | other) && good;
    pthread_barrier_wait(&step);
    if (load->number == 0)
        munmap(memory, count * sizeof(memory[0]));
    return good;
}

static void *work(void *argument)
{
    struct load *load = argument;
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(load->cpu, &set);
    load->good = sched_setaffinity(0, sizeof(set), &set) == 0;
    for (u64 round = 1; round <= LOAD_ROUNDS; round++)
        load->good = load_round(load, round) && load->good;
    return NULL;
}

/* Returns how many CPUs are on line and have done their work. */
static unsigned work_on_all(void)
{
    unsigned good = 0;
    cpu_set_t set;

    sched_getaffinity(0, sizeof(set), &set);
    for (unsigned cpu = 0; cpu < CPU_SETSIZE && count < CPUS_MAX; cpu++) {
        if (CPU_ISSET(cpu, &set)) {
            loads[count] = (struct load){.cpu = cpu, .number = count};
            count++;
        }
    }
    pthread_barrier_init(&step, NULL, count);
    for (unsigned i = 0; i < count; i++) {
        if (pthread_create(&loads[i].thread, NULL, work, &loads[i]) != 0)
            return 0;
    }
    for (unsigned i = 0; i < count; i++) {
        pthread_join(loads[i].thread, NULL);
        good += loads[i].good;
    }
    return good;
}

_Noreturn void l2_init(void)
{
    printf(L2_DONE "\n", work_on_all());
    tcdrain(STDOUT_FILENO);
    reboot(RB_AUTOBOOT);
    for (;;)
        pause();
}
