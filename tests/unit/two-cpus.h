/* SPDX-License-Identifier: MIT */
/*
 * Two CPUs, of which one runs at a time, so that a race comes out the same each time. Each is a thread; where
 * one stops and the other goes on is told in steps, which are the atomic operations of a program that is
 * built with tests/unit/stepped/arch/atomic.h; of one that is in a long loop, the first few times. Memory is
 * sequentially consistent.
 */
#ifndef UMBRA_TESTS_UNIT_TWO_CPUS_H
#define UMBRA_TESTS_UNIT_TWO_CPUS_H

#include "arch/types.h"

/* What the CPUs do, and what is looked at when the first one has done it. None of these may fail an assertion
 * of cmocka's. */
struct two_cpus {
    void (*first)(void), (*second)(void);
    void (*after_first)(void);
};

/* Where they stopped; false: it had come to its end before. */
struct two_cpus_stopped {
    bool first, second;
};

/*
 * The first CPU runs for so many steps, then the second one, then the first one to its end, then the second
 * one. Who has to wait for the other lets it go on by a step.
 */
struct two_cpus_stopped two_cpus_run(const struct two_cpus *cpus, unsigned first, unsigned second);
/* Each combination of steps, of which only every `stride`-th of the second CPU's; `prepare` and `check` come
 * before and after. Returns their number. */
unsigned two_cpus_run_all(const struct two_cpus *cpus, unsigned stride, void (*prepare)(void),
                          void (*check)(void));

/* By the CPU that runs; without effect elsewhere. */
void two_cpus_step(void);
void two_cpus_relax(void);
void two_cpus_lock(u32 *held);

#endif
