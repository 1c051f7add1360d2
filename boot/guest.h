/* SPDX-License-Identifier: MIT */
/*
 * Loading the guest: the first module of boot_info, which is recognised by its content, and the further ones,
 * which are the guest's own. A guest that is refused leaves all memory as it was. Called once, at boot, by
 * the one CPU that runs.
 */
#ifndef UMBRA_BOOT_GUEST_H
#define UMBRA_BOOT_GUEST_H

#include "arch/types.h"
#include "boot/info.h"
#include "mm/memmap.h"
#include "vcpu/start.h"

enum guest_status {
    GUEST_OK,
    GUEST_NO_MODULE,     /* the boot loader passed none, or one that is not in the guest's RAM */
    GUEST_UNKNOWN_IMAGE, /* neither Linux nor multiboot */
    GUEST_DAMAGED_IMAGE, /* its headers contradict its size, or each other */
    GUEST_UNSUPPORTED,   /* sound, but it asks for something that Umbra does not have */
    GUEST_COMMAND_LINE,  /* longer than the guest takes */
    GUEST_NO_ROOM,       /* there is no free RAM where it, or its modules, must go */
};

enum { GUEST_SENTENCE_BYTES = 200 };

/*
 * Loads the guest into the RAM ranges of `memory`, the map that the guest is told (Umbra's region and all
 * that Umbra keeps must not be RAM in it), and fills in the state in which it starts. Physical memory is
 * reached through mm/phys.h: all RAM of the map and the first MByte must be mapped. `sentence`, of at least
 * GUEST_SENTENCE_BYTES, always gets one sentence without a full stop: what was loaded where, or what was
 * found and what to do. The modules of `info` are no longer where it says after GUEST_OK.
 */
enum guest_status guest_load(const struct boot_info *info, const struct memmap *memory,
                             struct start_state *start, char *sentence, size_t size);

#endif
