/* SPDX-License-Identifier: MIT */
/*
 * Checks and their lines: `guest: PASS name`, `guest: FAIL name (got .., want ..)`, `guest: fact name value`,
 * and the totals at the end, without which a run counts as failed.
 */
#include "tests/guest/guest.h"

/* QEMU's isa-debug-exit; Bochs's port of the unmapped-device, which ends it at these letters. */
enum { PORT_QEMU_EXIT = 0xf4, PORT_BOCHS_SHUTDOWN = 0x8900 };

static unsigned passed, failed;

static bool forgiven(const char *name)
{
    const char *deviation = deviation_of(name);
    if (deviation)
        print("guest: PASS %s (emulator: %s)\n", name, deviation);
    return deviation != NULL;
}

void check(const char *name, bool good)
{
    if (good)
        print("guest: PASS %s\n", name);
    else if (!forgiven(name)) {
        failed++;
        print("guest: FAIL %s\n", name);
        return;
    }
    passed++;
}

void check_eq(const char *name, u64 got, u64 want)
{
    if (got == want || deviation_of(name)) {
        check(name, got == want);
        return;
    }
    failed++;
    print("guest: FAIL %s (got 0x%lx, want 0x%lx)\n", name, got, want);
}

void fact(const char *name, u64 value)
{
    print("guest: fact %s 0x%lx\n", name, value);
}

void note_skipped(const char *name, const char *reason)
{
    print("guest: SKIP %s: %s\n", name, reason);
}

static _Noreturn void end_emulator(void)
{
    /* Bochs writes its serial log late: let the last bytes leave the UART first. */
    for (unsigned i = 0; i < 1000000 && (in8(0x3fd) & 0x40) == 0; i++)
        ;
    for (const char *letter = "Shutdown"; *letter; letter++)
        out8(PORT_BOCHS_SHUTDOWN, (u8)*letter);
    out8(PORT_QEMU_EXIT, failed ? 1 : 0);
    for (;;)
        __asm__ volatile("cli; hlt");
}

_Noreturn void finish(void)
{
    print("guest: %u passed, %u failed\n", passed, failed);
    end_emulator();
}

_Noreturn void give_up(const char *reason)
{
    failed++;
    print("guest: FAIL %s\n", reason);
    finish();
}
