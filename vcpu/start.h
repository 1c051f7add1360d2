/* SPDX-License-Identifier: MIT */
/*
 * The processor state in which a guest starts, as the loaders of boot/ fill it in and the vendors put it into
 * a VMCS or VMCB. Everything not named here is as after INIT (SDM vol. 3A table 10-1, APM vol. 2 table 14-1).
 */
#ifndef UMBRA_VCPU_START_H
#define UMBRA_VCPU_START_H

#include "arch/types.h"
#include "arch/x86.h"

enum start_mode {
    START_REAL, /* CS:IP = cs_selector:rip, CS base = cs_base; as after INIT or SIPI, or a BIOS boot sector */
    START_PROTECTED32, /* flat 4-GByte segments, paging off, A20 on: multiboot */
    START_LONG64,      /* paging on with cr3, flat 64-bit code segment: Linux 64-bit boot protocol */
};

struct start_state {
    enum start_mode mode;
    u64 rip;
    u64 gpr[GPR_COUNT]; /* gpr[GPR_RSP] is the stack pointer */
    u64 cr3; /* START_LONG64 only: guest-physical address of a PML4 that maps what the guest needs */
    u16 cs_selector, data_selector;
    u64 cs_base;  /* START_REAL only */
    u64 gdt_base; /* guest-physical; 0 with limit 0 if there is none */
    u16 gdt_limit;
};

#endif
