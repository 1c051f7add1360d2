/* SPDX-License-Identifier: MIT */
/* Threads that hand a baton to each other; see tests/unit/two-cpus.h. */
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/two-cpus.h"

enum { RELAXES_MAX = 1000000, VISITS = 8, PLACES = 512 };

struct cpu {
    void (*act)(void), (*after)(void);
    sem_t baton;
    unsigned steps, limit;
    bool stopped, done;
    bool lent; /* the baton, for one step */
    struct {
        const void *address;
        unsigned visits;
    } place[PLACES];
};

static struct cpu pair[2];
static _Thread_local struct cpu *self;
static unsigned relaxes;

static struct cpu *other(void)
{
    return self == &pair[0] ? &pair[1] : &pair[0];
}

static void take(struct cpu *cpu)
{
    while (sem_wait(&cpu->baton) != 0)
        ;
}

static void hand_over(void)
{
    if (other()->done)
        return;
    sem_post(&other()->baton);
    take(self);
}

/* Loops are long: only the first visits of each place in the program are steps. */
static bool is_often_visited(const void *address)
{
    unsigned i = (unsigned)((u64)(uintptr_t)address % PLACES);

    while (self->place[i].address != address && self->place[i].address != NULL)
        i = (i + 1) % PLACES;
    self->place[i].address = address;
    return self->place[i].visits++ >= VISITS;
}

void two_cpus_step(void)
{
    if (self == NULL || is_often_visited(__builtin_return_address(0)))
        return;
    bool ends = self->steps++ == self->limit;
    self->stopped |= ends;
    if (!ends && !self->lent)
        return;
    self->lent = false;
    hand_over();
}

void two_cpus_relax(void)
{
    if (self == NULL || ++relaxes > RELAXES_MAX) {
        fprintf(stderr, "a CPU waits for ever\n");
        abort();
    }
    other()->lent = true;
    hand_over();
}

void two_cpus_lock(u32 *held)
{
    two_cpus_step();
    while (*held != 0)
        two_cpus_relax();
    *held = 1;
}

static void *run(void *cpu)
{
    self = cpu;
    take(self);
    two_cpus_step();
    self->act();
    self->limit = self->steps - 1;
    if (self->after != NULL)
        self->after();
    self->done = true;
    sem_post(&other()->baton);
    return NULL;
}

struct two_cpus_stopped two_cpus_run(const struct two_cpus *cpus, unsigned first, unsigned second)
{
    pthread_t thread[2];

    pair[0] = (struct cpu){.act = cpus->first, .after = cpus->after_first, .limit = first};
    pair[1] = (struct cpu){.act = cpus->second, .limit = second};
    relaxes = 0;
    for (unsigned i = 0; i < 2; i++)
        sem_init(&pair[i].baton, 0, i == 0);
    for (unsigned i = 0; i < 2; i++) {
        if (pthread_create(&thread[i], NULL, run, &pair[i]) != 0)
            abort();
    }
    for (unsigned i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    for (unsigned i = 0; i < 2; i++)
        sem_destroy(&pair[i].baton);
    return (struct two_cpus_stopped){pair[0].stopped, pair[1].stopped};
}

unsigned two_cpus_run_all(const struct two_cpus *cpus, unsigned stride, void (*prepare)(void),
                          void (*check)(void))
{
    struct two_cpus_stopped stopped = {true, true};
    unsigned runs = 0;

    for (unsigned first = 0; stopped.first; first++) {
        stopped.second = true;
        for (unsigned second = 0; stopped.second; second += stride, runs++) {
            prepare();
            stopped = two_cpus_run(cpus, first, second);
            check();
        }
    }
    return runs;
}
