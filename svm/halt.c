/* SPDX-License-Identifier: MIT */
#include "svm/halt.h"

#include "arch/layout.h"
#include "arch/print.h"
#include "mm/memmap.h"
#include "mm/phys.h"
#include "svm/controls.h"
#include "svm/event.h"
#include "svm/instruction.h"
#include "svm/nmi.h"

extern const char svm_halt_code[];

/*
 * In real mode, without nested paging: what it fetches is where the image lies, below 4 GByte. Everything is
 * intercepted but SMIs, after which it goes on.
 */
void svm_halt_prepare(struct svm_vcpu *svm)
{
    const struct start_state start = {
        .mode = START_REAL,
        .cs_base = umbra_region.start + ((uintptr_t)svm_halt_code - LAYOUT_IMAGE),
    };
    struct vmcb_control *control;

    svm->vmcb = phys_to_virt(svm->host_vmcb_frame);
    svm_load_start(svm, &start);
    control = &svm->vmcb->control;
    svm_controls_set_intercepts(control->intercept);
    control->intercept[VMCB_INTERCEPT_EXCEPTIONS] = ~0u;
    control->intercept[VMEXIT_INTR / 32] |= 1u << VMEXIT_INTR % 32 | 1u << VMEXIT_NMI % 32;
    control->asid = ASID_HALT;
    control->tlb_control = TLB_CONTROL_NOTHING;
    svm->vmcb = svm->vmcb01;
}

/* With GIF = 0 it sleeps for ever. */
static bool is_woken(const struct svm_vcpu *svm)
{
    return (svm->vmcb->control.event_inj & EVENT_VALID) != 0 ||
           (!svm_gif_is_clear(svm) && (svm->init_pending || svm_nmi_is_due(svm)));
}

/* As the guest would have: interrupts as RFLAGS.IF and the local APIC let them come, and machine checks. */
static u64 wait(const struct svm_vcpu *svm)
{
    struct vmcb *halt = phys_to_virt(svm->host_vmcb_frame);
    const struct vmcb_save *save = &svm->vmcb->save;

    halt->save.rip = 0;
    halt->save.rflags = RFLAGS_RESERVED1 | (svm_gif_is_clear(svm) ? 0 : save->rflags & RFLAGS_IF);
    halt->save.cr4 = save->cr4 & CR4_MCE;
    svm_vmrun(svm->host_vmcb_frame.raw);
    return halt->control.exit_code;
}

enum exit_action svm_halt(struct svm_vcpu *svm)
{
    svm->next_rip = svm->vmcb->control.n_rip;
    if (!svm_features.nrip_save && !svm_decode_next_rip(svm, SVM_INSTRUCTION_HLT))
        return EXIT_RESUME;
    /* A trap that is due to who single-steps it wakes it up again. */
    svm_skip_to(svm, svm->next_rip);
    /* Whatever IRET unblocks NMIs has ended, be the next instruction the same again. */
    svm->nmi_blocked = svm->nmi_blocked && !svm->iret_begun;
    while (!is_woken(svm)) {
        u64 code = wait(svm);
        switch (code) {
        case VMEXIT_INTR:    /* it is still pending */
        case VMEXIT_VMMCALL: /* SMM code has chosen not to go back to the HLT */
            return EXIT_RESUME;
        case VMEXIT_NMI:
        case VMEXIT_INIT:
            svm_take_events(svm);
            break;
        case VMEXIT_EXCP0 + EXC_MC:
            svm_event_inject(svm, EVENT_VALID | EVENT_TYPE_EXCEPTION | EXC_MC);
            break;
        case VMEXIT_SHUTDOWN:
            svm_guest_shutdown(svm, "a machine check in HLT, with CR4.MCE = 0");
        default:
            fatal("exit %lx of a CPU that waits for its guest: a bug of Umbra's, please report it", code);
        }
    }
    return svm_deliver_held(svm);
}
