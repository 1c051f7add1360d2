/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* REG_ERR */
#include "tests/unit/arena.h"

#include "arch/print.h"
#include "mm/phys.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define ARENA_BYTES GIB(8)
#define FAULT_WRITE 2 /* bit 1 of the #PF error code */

u64 direct_map_base;
bool arena_written;

static struct memmap layout;

void fatal(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, "\n");
    abort();
}

static void protect(u64 start, u64 end, int access)
{
    if (mprotect(arena_at(start), end - start, access) != 0) {
        perror("mprotect");
        abort();
    }
}

static void protect_ram(int access)
{
    for (unsigned i = 0; i < layout.count; i++) {
        if (layout.range[i].type == MEM_RAM)
            protect(layout.range[i].start, layout.range[i].end, access);
    }
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    const ucontext_t *user = context;
    u64 physical = (u64)(uintptr_t)info->si_addr - direct_map_base;
    (void)number;
    if ((user->uc_mcontext.gregs[REG_ERR] & FAULT_WRITE) != 0 &&
        memmap_covers(&layout, physical, 1, MEM_RAM) && !arena_written) {
        arena_written = true;
        protect_ram(PROT_READ | PROT_WRITE);
        return;
    }
    char line[80];
    int length = snprintf(line, sizeof(line), "stray %s of physical address 0x%lx\n",
                          (user->uc_mcontext.gregs[REG_ERR] & FAULT_WRITE) != 0 ? "write" : "read", physical);
    if (write(STDERR_FILENO, line, (size_t)length) != length)
        abort();
    signal(SIGABRT, SIG_DFL);
    abort();
}

static void create(void)
{
    void *base = mmap(NULL, ARENA_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        perror("mmap");
        abort();
    }
    direct_map_base = (u64)(uintptr_t)base;
}

void arena_layout(const struct memmap *map)
{
    if (direct_map_base == 0)
        create();
    protect(0, ARENA_BYTES, PROT_NONE);
    protect(0, MIB(1), PROT_READ);
    layout = *map;
    arena_disarm();
}

void arena_arm(void)
{
    /* Each time, because cmocka installs a handler of its own before each test. */
    struct sigaction action = {.sa_flags = SA_SIGINFO | SA_NODEFER};
    action.sa_sigaction = on_fault;
    sigaction(SIGSEGV, &action, NULL);
    arena_written = false;
    protect_ram(PROT_READ);
}

void arena_disarm(void)
{
    /* A second write fault is a stray one. */
    arena_written = true;
    protect_ram(PROT_READ | PROT_WRITE);
}

void arena_open_low(void)
{
    if (direct_map_base == 0)
        create();
    protect(0, GIB(4), PROT_READ | PROT_WRITE);
}

void arena_put(u64 physical, const void *bytes, size_t count)
{
    bool low = physical < MIB(1) && !memmap_covers(&layout, physical, count, MEM_RAM);
    if (low)
        protect(0, MIB(1), PROT_READ | PROT_WRITE);
    memcpy(arena_at(physical), bytes, count);
    if (low) {
        protect(0, MIB(1), PROT_READ);
        protect_ram(PROT_READ | PROT_WRITE);
    }
}

void *arena_at(u64 physical)
{
    return (void *)(uintptr_t)(direct_map_base + physical);
}

u16 arena_u16(u64 physical)
{
    u16 value;
    memcpy(&value, arena_at(physical), sizeof(value));
    return value;
}

u32 arena_u32(u64 physical)
{
    u32 value;
    memcpy(&value, arena_at(physical), sizeof(value));
    return value;
}

u64 arena_u64(u64 physical)
{
    u64 value;
    memcpy(&value, arena_at(physical), sizeof(value));
    return value;
}
