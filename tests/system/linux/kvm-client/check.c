/* SPDX-License-Identifier: MIT */
/*
 * Checks and their lines, the groups by name, and the totals at the end, without which a run counts as
 * failed. Usage: kvm-client under=bare|umbra [GROUP...]; all groups but the long ones if none is named.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/system/linux/kvm-client/client.h"

/*
 * Seconds of L1's clock, which on Bochs are a billion and a half instructions each. TCG runs on the host's
 * clock, by which a Linux that was kept waiting while it measured its own may count four seconds for one; the
 * emulator's processor time ends what takes longer.
 */
enum { GROUP_SECONDS = 12, GROUP_SECONDS_TCG = 90, LONG_GROUP_SECONDS = 400, LONG_GROUP_SECONDS_TCG = 6000 };

bool under_umbra;
static unsigned passed, failed;
static jmp_buf next_group;
static const char *current_group;

void check(const char *name, bool good)
{
    const char *deviation = good ? NULL : deviation_of(name);
    if (good)
        printf("kvm: PASS %s\n", name);
    else if (deviation)
        printf("kvm: PASS %s (emulator: %s)\n", name, deviation);
    else
        printf("kvm: FAIL %s\n", name);
    passed += good || deviation;
    failed += !(good || deviation);
}

void check_eq(const char *name, u64 got, u64 want)
{
    if (got == want || deviation_of(name)) {
        check(name, got == want);
        return;
    }
    failed++;
    printf("kvm: FAIL %s (got 0x%llx, want 0x%llx)\n", name, (unsigned long long)got,
           (unsigned long long)want);
}

void note(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("kvm: note ");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
}

void skip(const char *name, const char *reason)
{
    printf("kvm: SKIP %s: %s\n", name, reason);
}

void bench(const char *name, u64 count, u64 ticks, const char *unit)
{
    printf("kvm: bench %s %s=%llu tsc=%llu total=%llu\n", name, unit, (unsigned long long)count,
           (unsigned long long)(ticks / count), (unsigned long long)ticks);
}

_Noreturn void end_group(const char *what)
{
    failed++;
    printf("kvm: FAIL %s.ended_early (%s)\n", current_group, what);
    longjmp(next_group, 1);
}

struct cpuid {
    u32 eax, ebx, ecx, edx;
};

static struct cpuid cpuid(u32 leaf)
{
    struct cpuid result;
    __asm__ volatile("cpuid"
                     : "=a"(result.eax), "=b"(result.ebx), "=c"(result.ecx), "=d"(result.edx)
                     : "a"(leaf), "c"(0));
    return result;
}

bool on_amd(void)
{
    return cpuid(0).ecx == 0x444d4163; /* "cAMD" */
}

bool on_tcg(void)
{
    struct cpuid leaf = cpuid(0x40000000);
    return leaf.ebx == 0x54474354 && leaf.ecx == 0x43544743; /* "TCGTCGTCGTCG" */
}

u64 time_stamp(void)
{
    u32 low, high;
    __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high)::"memory");
    return (u64)high << 32 | low;
}

static const struct group {
    const char *name;
    void (*run)(void);
    bool on_request;
} groups[] = {
    {"modes", group_modes, false},
    {"exits", group_exits, false},
    {"exceptions", group_exceptions, false},
    {"events", group_events, false},
    {"irqchip", group_irqchip, false},
    {"apic", group_apic, false},
    {"memory", group_memory, false},
    {"dirty", group_dirty, false},
    {"backing", group_backing, false},
    {"paging", group_paging, false},
    {"tables", group_tables, false},
    {"state", group_state, false},
    {"debug", group_debug, false},
    {"msrs", group_msrs, false},
    {"many", group_many, false},
    {"errors", group_errors, false},
    {"bench", group_bench, false},
    {"touch", group_touch, false},
    {"smp", group_smp, true},
    {"kexec", group_kexec, true},
    {"linux", group_linux, true},
    {"linux-smp", group_linux_smp, true},
};

static void run_group(const struct group *group)
{
    /* A guest that never leaves: the signal makes KVM_RUN return, see vcpu_run(). */
    struct itimerval limit = {.it_interval = {1, 0}};
    if (group->on_request)
        limit.it_value.tv_sec = on_tcg() ? LONG_GROUP_SECONDS_TCG : LONG_GROUP_SECONDS;
    else
        limit.it_value.tv_sec = on_tcg() ? GROUP_SECONDS_TCG : GROUP_SECONDS;
    setitimer(ITIMER_REAL, &limit, NULL);
    current_group = group->name;
    printf("kvm: group %s\n", group->name);
    u64 started = time_stamp();
    if (setjmp(next_group) == 0)
        group->run();
    printf("kvm: time %s tsc=%llu\n", group->name, (unsigned long long)(time_stamp() - started));
}

static const struct group *group_of(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
        if (strcmp(groups[i].name, name) == 0)
            return &groups[i];
    }
    printf("kvm: FAIL there is no group %s\n", name);
    failed++;
    return NULL;
}

int main(int count, char **words)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (getpid() == 1)
        l2_init();
    bool named = false;
    for (int i = 1; i < count; i++) {
        const struct group *group = NULL;
        if (strncmp(words[i], "under=", 6) == 0)
            under_umbra = strcmp(words[i], "under=umbra") == 0;
        else if (named = true, (group = group_of(words[i])) != NULL)
            run_group(group);
    }
    for (size_t i = 0; !named && i < ARRAY_SIZE(groups); i++) {
        if (!groups[i].on_request)
            run_group(&groups[i]);
    }
    printf("kvm: %u passed, %u failed\n", passed, failed);
    return failed || !passed;
}
