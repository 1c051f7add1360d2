/* SPDX-License-Identifier: MIT */
/*
 * XSETBV and INVD: two instructions that always exit and are done for the guest as the CPU would do them.
 * XCR0 is the guest's while Umbra runs, too, because Umbra has no extended state.
 */
#include "arch/cpu.h"
#include "vcpu/vcpu.h"

/* State component 62, lightweight profiling (AMD): hidden, since its records go to memory by themselves. */
#define XCR0_LWP BIT(62)

/* SDM vol. 2D XSETBV; what makes a value of XCR0 valid is the CPU's to say. */
enum exit_action xsetbv_exit(struct vcpu *vcpu, const struct exit_context *context)
{
    u32 index = (u32)vcpu->gpr[GPR_RCX];
    u64 value = vcpu->gpr[GPR_RDX] << 32 | (u32)vcpu->gpr[GPR_RAX];

    if ((context->cr4 & CR4_OSXSAVE) == 0)
        return EXIT_UD;
    if (context->cpl != 0 || index != 0 || (value & XCR0_LWP) != 0 || !xsetbv_safe(index, value))
        return EXIT_GP;
    return EXIT_SKIP;
}

enum exit_action invd_exit(void)
{
    wbinvd();
    return EXIT_SKIP;
}
