/* SPDX-License-Identifier: MIT */
/* Where a CPU starts after INIT and after a start-up IPI: SDM vol. 3A 10.1.1 and 9.4, APM vol. 2 14.1
 * and 15.27. */
#include "vcpu/vcpu.h"

#include "arch/cpu.h"

#define CPUID_SIGNATURE 1u

/* SDM vol. 3A table 10-1, APM vol. 2 table 14-1 */
#define INIT_CS_SELECTOR 0xf000u
#define INIT_CS_BASE     0xffff0000u
#define INIT_RIP         0xfff0u
#define INIT_GDT_LIMIT   0xffffu

void start_state_init(struct start_state *start)
{
    *start = (struct start_state){
        .mode = START_REAL,
        .rip = INIT_RIP,
        .cs_selector = INIT_CS_SELECTOR,
        .cs_base = INIT_CS_BASE,
        .gdt_limit = INIT_GDT_LIMIT,
    };
    /* Family, model and stepping are in EDX. */
    start->gpr[GPR_RDX] = cpuid(CPUID_SIGNATURE, 0).eax;
}

/* The vector is the number of the 4-KByte page below 1 MByte at which the CPU starts (SDM vol. 3A 9.4.4.1).
 */
void start_state_sipi(struct start_state *start, u8 vector)
{
    start_state_init(start);
    start->rip = 0;
    start->cs_selector = (u16)(vector << 8);
    start->cs_base = (u64)vector << PAGE_SHIFT;
}
