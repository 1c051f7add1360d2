/* SPDX-License-Identifier: MIT */
/*
 * In the place of arch/atomic.h: after each of its operations another simulated CPU may go on; see
 * tests/unit/two-cpus.h. What they do is the same.
 */
#ifndef UMBRA_TESTS_UNIT_STEPPED_ARCH_ATOMIC_H
#define UMBRA_TESTS_UNIT_STEPPED_ARCH_ATOMIC_H

#include <arch/atomic.h>

#include "tests/unit/two-cpus.h"

#define STEPPED_AS(name, operation)                                                                          \
    __extension__({                                                                                          \
        __auto_type name = (operation);                                                                      \
        two_cpus_step();                                                                                     \
        name;                                                                                                \
    })
#define STEPPED_NAMED(number, operation)  STEPPED_AS(stepped_##number, operation)
#define STEPPED_NUMBER(number, operation) STEPPED_NAMED(number, operation)
#define STEPPED(operation)                STEPPED_NUMBER(__COUNTER__, operation)
#define STEPPED_STORE(operation)          ((operation), two_cpus_step())

#undef atomic_peek
#undef atomic_poke
#undef atomic_acquire
#undef atomic_release
#undef atomic_load
#undef atomic_store
#undef atomic_exchange
#undef atomic_add
#undef atomic_or
#undef atomic_and
#define atomic_peek(word)                   STEPPED(__atomic_load_n((word), __ATOMIC_RELAXED))
#define atomic_poke(word, value)            STEPPED_STORE(__atomic_store_n((word), (value), __ATOMIC_RELAXED))
#define atomic_acquire(word)                STEPPED(__atomic_load_n((word), __ATOMIC_ACQUIRE))
#define atomic_release(word, value)         STEPPED_STORE(__atomic_store_n((word), (value), __ATOMIC_RELEASE))
#define atomic_load(word)                   STEPPED(__atomic_load_n((word), __ATOMIC_SEQ_CST))
#define atomic_store(word, value)           STEPPED_STORE(__atomic_store_n((word), (value), __ATOMIC_SEQ_CST))
#define atomic_exchange(word, value)        STEPPED(__atomic_exchange_n((word), (value), __ATOMIC_SEQ_CST))
#define atomic_add(word, value)             STEPPED(__atomic_fetch_add((word), (value), __ATOMIC_SEQ_CST))
#define atomic_or(word, bits)               STEPPED(__atomic_fetch_or((word), (bits), __ATOMIC_SEQ_CST))
#define atomic_and(word, bits)              STEPPED(__atomic_fetch_and((word), (bits), __ATOMIC_SEQ_CST))
#define atomic_cas(word, expected, desired) STEPPED(atomic_cas(word, expected, desired))

#define spin_lock(lock)                     two_cpus_lock(&(lock)->held)
#define spin_unlock(lock)                   atomic_release(&(lock)->held, 0)
#define cpu_relax()                         two_cpus_relax()

#endif
