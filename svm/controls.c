/* SPDX-License-Identifier: MIT */
/*
 * The table of intercepts. What is not in it costs the guest nothing: interrupts, SMI, I/O, MWAIT, PAUSE,
 * CR0 to CR8, debug registers, TSC and performance counters, INVLPG, task switches, and all exceptions but
 * #GP; nor do NMI and HLT with one CPU, see svm/nmi.h and svm/halt.h. CR0 and CR4 need no guard: SVM has no
 * enable bit there, and no bit of theirs weakens nested paging.
 */
#include "svm/controls.h"

#include "arch/x86.h"

const struct svm_intercept svm_intercepts[] = {
    {VMEXIT_CPUID,
     "virtualization features and what the guest's CR4 and XCR0 imply are answered by Umbra's policy"},
    {VMEXIT_MSR, "MSR_PROT: MSRs outside the allow-list stay Umbra's; the permission map opens the others"},
    {VMEXIT_XSETBV, "XCR0 is live while Umbra runs, so the checks are done on the guest's behalf"},
    {VMEXIT_INVD, "INVD would discard Umbra's dirty cache lines too"},
    {VMEXIT_SHUTDOWN, "a triple fault is reported before the machine is reset"},
    {VMEXIT_INIT, "an INIT would take the CPU out of the guest and out of Umbra"},
    {VMEXIT_VMRUN, "required by VMRUN's consistency check; SVM is hidden: #UD"},
    {VMEXIT_VMMCALL, "Umbra's hypercalls; any other is #UD"},
    {VMEXIT_VMLOAD, "takes a host-physical address, if not virtualized; SVM is hidden: #UD"},
    {VMEXIT_VMSAVE, "takes a host-physical address, if not virtualized; SVM is hidden: #UD"},
    {VMEXIT_STGI, "SVM is hidden: #UD"},
    {VMEXIT_CLGI, "would hold off INIT, NMI and SMI for good; SVM is hidden: #UD"},
    {VMEXIT_SKINIT, "would start another hypervisor in Umbra's place; hidden: #UD"},
    {VMEXIT_INVLPGA, "names an ASID, and ASIDs are Umbra's; SVM is hidden: #UD"},
    {VMEXIT_EXCP0 + EXC_GP,
     "an SVM instruction raises #GP for its CPL or its RAX before its intercept, but with SVM hidden "
     "it has to be #UD; any other #GP goes back to the guest"},
};

const unsigned svm_intercept_count = ARRAY_SIZE(svm_intercepts);

void svm_controls_set_intercepts(u32 words[VMCB_INTERCEPT_WORDS])
{
    for (unsigned i = 0; i < VMCB_INTERCEPT_WORDS; i++)
        words[i] = 0;
    for (unsigned i = 0; i < svm_intercept_count; i++)
        words[svm_intercepts[i].code / 32] |= (u32)BIT(svm_intercepts[i].code % 32);
}

void svm_controls_vmload(struct vmcb_control *control, bool direct)
{
    const u32 bits = 1u << VMEXIT_VMLOAD % 32 | 1u << VMEXIT_VMSAVE % 32;

    if (direct) {
        control->intercept[VMEXIT_VMLOAD / 32] &= ~bits;
        control->lbr_control |= VMLOAD_VIRTUALIZATION_ENABLE;
    } else {
        control->intercept[VMEXIT_VMLOAD / 32] |= bits;
        control->lbr_control &= ~VMLOAD_VIRTUALIZATION_ENABLE;
    }
}

u32 svm_controls_exceptions(void)
{
    return (u32)BIT(EXC_GP);
}

u32 svm_controls_delivery_exceptions(void)
{
    /* Those that delivery can raise and that do not simply follow it. */
    return svm_controls_exceptions() |
           (u32)(BIT(EXC_TS) | BIT(EXC_NP) | BIT(EXC_SS) | BIT(EXC_GP) | BIT(EXC_PF) | BIT(EXC_CP));
}

u32 svm_controls_step_exceptions(void)
{
    /* Bit 2 has no effect (NMI has its own intercept). A machine check is the guest's to handle, stepped or
     * not. */
    return ~(u32)(BIT(EXC_NMI) | BIT(EXC_MC));
}
