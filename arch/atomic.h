/* SPDX-License-Identifier: MIT */
/*
 * Words that several CPUs use at once: short names for the compiler's atomic builtins, and a spin lock.
 * Orders are acquire, release or sequentially consistent; there is no fence that stands alone, which
 * ThreadSanitizer would not see.
 */
#ifndef UMBRA_ARCH_ATOMIC_H
#define UMBRA_ARCH_ATOMIC_H

#include "arch/cpu.h"
#include "arch/types.h"

/* No order: statistics, ages, and what is checked again later. */
#define atomic_peek(word)        __atomic_load_n((word), __ATOMIC_RELAXED)
#define atomic_poke(word, value) __atomic_store_n((word), (value), __ATOMIC_RELAXED)
/* What was written before the release is seen after the acquire that reads it. */
#define atomic_acquire(word)        __atomic_load_n((word), __ATOMIC_ACQUIRE)
#define atomic_release(word, value) __atomic_store_n((word), (value), __ATOMIC_RELEASE)
/* These are in one order for all CPUs; each from the exchange on returns the old value. */
#define atomic_load(word)            __atomic_load_n((word), __ATOMIC_SEQ_CST)
#define atomic_store(word, value)    __atomic_store_n((word), (value), __ATOMIC_SEQ_CST)
#define atomic_exchange(word, value) __atomic_exchange_n((word), (value), __ATOMIC_SEQ_CST)
#define atomic_add(word, value)      __atomic_fetch_add((word), (value), __ATOMIC_SEQ_CST)
#define atomic_or(word, bits)        __atomic_fetch_or((word), (bits), __ATOMIC_SEQ_CST)
#define atomic_and(word, bits)       __atomic_fetch_and((word), (bits), __ATOMIC_SEQ_CST)

/* Stores `desired` if the word is `expected`. */
/* NOLINTNEXTLINE(readability-non-const-parameter): the builtin writes *word, unseen by the checker. */
static inline bool atomic_cas(u64 *word, u64 expected, u64 desired)
{
    return __atomic_compare_exchange_n(word, &expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/*
 * For pieces of work whose length no guest decides. Not taken by NMI handlers; the holder waits for no other
 * CPU.
 */
struct spinlock {
    u32 held;
};

static inline void spin_lock(struct spinlock *lock)
{
    while (__atomic_exchange_n(&lock->held, 1, __ATOMIC_ACQUIRE) != 0) {
        while (atomic_peek(&lock->held) != 0)
            cpu_relax();
    }
}

static inline void spin_unlock(struct spinlock *lock)
{
    atomic_release(&lock->held, 0);
}

#endif
