/* SPDX-License-Identifier: MIT */
/*
 * The SVM half of a virtual CPU, and what the files of svm/ share with each other and with nested/svm-*.
 * Between two exits all guest state is in the VMCB, in vcpu->gpr, or live in registers that Umbra does not
 * use (XCR0, FPU, DR0 to DR3, TSC_AUX, PKRU ...). While an exit is handled vcpu->gpr[GPR_RAX] stands for
 * VMCB.RAX.
 */
#ifndef UMBRA_SVM_SVM_H
#define UMBRA_SVM_SVM_H

#include "arch/cpu.h"
#include "arch/decode.h"
#include "arch/msr.h"
#include "arch/x86.h"
#include "mm/linear.h"
#include "svm/vmcb.h"
#include "vcpu/vcpu.h"

/* What the next exit has to undo; nearly always nothing. */
enum svm_unusual {
    SVM_STEPPING = 1,     /* svm/step.h */
    SVM_WATCHING = 2,     /* svm_event_inject() */
    SVM_L2_GIF_CLEAR = 4, /* L2 runs with a GIF of 0: nested/svm-gif.c */
    SVM_L2_GUESSED = 8,   /* VMEXIT_INVALID was taken for an instruction's: nested/svm-exit.c */
};

/* The instructions that cause exits and are executed for the guest. */
enum svm_instruction {
    SVM_INSTRUCTION_CPUID,
    SVM_INSTRUCTION_RDMSR,
    SVM_INSTRUCTION_WRMSR,
    SVM_INSTRUCTION_INVD,
    SVM_INSTRUCTION_XSETBV,
    SVM_INSTRUCTION_VMMCALL,
    SVM_INSTRUCTION_HLT,
    SVM_INSTRUCTION_VMRUN,
    SVM_INSTRUCTION_VMLOAD,
    SVM_INSTRUCTION_VMSAVE,
    SVM_INSTRUCTION_STGI,
    SVM_INSTRUCTION_CLGI,
    SVM_INSTRUCTION_INVLPGA,
    SVM_INSTRUCTIONS,
};

/* One guest instruction being executed on its own: svm/step.h. */
struct svm_step {
    bool guest_btf;
    bool loads_flags; /* the instruction is an IRET, which loads RFLAGS */
    u64 rip;
    u64 rflags; /* the guest's TF and RF among them */
    u64 dr6;
    u64 interrupt_state;
    u64 v_intr; /* V_INTR_MASKING, and what virtual events wait */
    u32 nmi_intercept;
};

/*
 * A plain instruction in 64-bit code of the guest (of L1) that caused an exit before, and where its bytes
 * are: svm/instruction.h.
 */
struct svm_site {
    u64 rip, cr3;
    const void *bytes; /* four, in the guest's RAM; read anew each time */
};
#define SVM_SITE_NONE (~0ull) /* as RIP: no instruction is there */
enum { SVM_SITES = 2 };       /* of each kind: what runs a guest has two VMLOADs */

/* The stack frame of svm_run_loop(), which C changes while an exit is handled. */
struct svm_frame {
    u64 vcpu;
    u64 vmcb;          /* physical: L1's, also the place of what VMLOAD and VMSAVE switch, for L1 and L2 */
    u64 host_vmcb;     /* physical */
    u64 next;          /* where the loop goes on: svm_enter_guest or svm_enter_l2 */
    u64 l2_vmcb;       /* physical */
    u64 l2_interrupts; /* 1: RFLAGS.IF is set at VMRUN of L2 */
};

struct svm_vcpu {
    struct vmcb *vmcb; /* the guest's; with nested virtualization: of whichever of L1 and L2 runs */
    struct vcpu *vcpu;
    u64 next_rip;     /* valid while an exit of an instruction is handled, after svm_find_next_rip() */
    u64 address_mask; /* likewise, if it takes an address in rAX: the effective address size */
    u32 clean;        /* CLEAN_KNOWN, or 0 if the CPU has no clean bits */
    u32 unusual;      /* enum svm_unusual */
    u32 exceptions;   /* intercept word of exceptions of *vmcb, in normal operation */
    hpa_t vmcb_frame;
    hpa_t host_vmcb_frame; /* Umbra's own state that VMRUN does not switch; and svm/halt.h */
    u64 efer_writable;
    struct svm_site site[SVM_INSTRUCTIONS][SVM_SITES];
    struct paging paging; /* the guest's, for svm_linear_context() */
    struct svm_step step;
    struct svm_frame *frame; /* valid once the guest runs */
    /* The rest is for nested virtualization: svm/switch.c. */
    struct vmcb *vmcb01;       /* L1's */
    const struct paging *host; /* while L2 runs: L1's nested paging, or NULL if it uses none */
    u64 host_root;
    u64 tsc_ratio;       /* L1's TSC_RATIO: the CPU's while L2 runs, which is 1.0 else */
    u64 held_tpr;        /* CR8 when vmcb01 began to hold events */
    bool l1_svme;        /* EFER.SVME as L1 sees it */
    bool l1_svme_change; /* it was written, or an INIT came: what L1's VMCBs held does not count any more */
    bool events_held;    /* vmcb01 is set up for L1's GIF = 0, which is meant unless L2 runs */
    bool init_pending;   /* an INIT came meanwhile */
    bool init_is_sx;     /* VM_CR.R_INIT as L1 sees it: INIT raises #SX */
    /* Several CPUs: svm/startup.h, svm/nmi.h */
    bool waits;            /* for a SIPI */
    bool expects;          /* the hook is on for it; under machine_lock() */
    bool apic_opened;      /* the page of the local APIC is writable until the step is done */
    u64 sipi;              /* written by the CPU whose guest sends it */
    bool asks, init_found; /* an INIT was taken: what do the other CPUs' ICRs say? */
    u64 sipi_found;
    bool nmi_blocked; /* the guest's NMIs, until it has executed the IRET at iret_rip */
    bool iret_begun;
    u64 iret_rip;
};
_Static_assert(sizeof(struct svm_vcpu) <= PAGE_SIZE, "it is allocated as one frame");

static inline struct svm_vcpu *svm_of(const struct vcpu *vcpu)
{
    return vcpu->vendor;
}

/* The CPU must not use its own copy of these groups (CLEAN_...) of the VMCB at the next VMRUN. */
static inline void svm_changed(struct svm_vcpu *svm, u32 groups)
{
    svm->vmcb->control.clean &= ~groups;
}

/* The guest's translations go at the next VMRUN, before the first guest instruction. */
void svm_flush_guest(struct svm_vcpu *svm);
/* The same for L1's, whoever runs now. */
void svm_flush_l1(struct svm_vcpu *svm);
/* For vendor.flush. */
void svm_flush_guests(struct vcpu *vcpu);

/* The registers that the neutral handlers ask for. */
struct exit_context svm_context(const struct svm_vcpu *svm);
/* For access to guest memory by linear address; refers to svm->paging. */
struct linear_context svm_linear_context(struct svm_vcpu *svm);
/* How the guest's code is to be decoded, and the linear address of CS:RIP. */
enum decode_mode svm_decode_mode(const struct svm_vcpu *svm);
u64 svm_linear_rip(const struct svm_vcpu *svm);

/* vendor.dump */
void svm_dump(struct vcpu *vcpu);

/* The guest cannot go on: reports it as a triple fault, for that reason, and resets the machine. */
_Noreturn void svm_guest_shutdown(struct svm_vcpu *svm, const char *reason);

/* svm/setup.c: puts a start state into the VMCB; everything else in it becomes as after INIT. */
void svm_load_start(struct svm_vcpu *svm, const struct start_state *start);

/*
 * svm/entry.S: loads the guest's registers, VMLOAD, VMRUN, VMSAVE, saves them, calls svm_exit(vcpu), for
 * ever. It runs on the stack that ends at stack_top (16-byte aligned) and leaves nothing on the caller's.
 * Physical addresses.
 */
_Noreturn void svm_run_loop(struct vcpu *vcpu, u64 vmcb, u64 host_vmcb, u64 stack_top);
/* Its two heads, for svm_frame.next. */
extern const char svm_enter_guest[], svm_enter_l2[];
/* VMSAVE of the current state; CLGI; and one moment with GIF set, in which what is pending comes in. */
void svm_vmsave(u64 vmcb);
void svm_clgi(void);
void svm_take_pending(void);
/* The same until *word, which is 0 before, is written, or something has come. Uses MONITOR and MWAIT. */
void svm_wait_for_write(const u64 *word);
/* VMRUN of what keeps to itself: it changes no register but RAX, and nothing that VMLOAD loads. */
void svm_vmrun(u64 vmcb);
/*
 * svm/startup.c: svm_take_pending(); an NMI goes to the hook, and an INIT into init_pending. Both may have
 * come, whichever of them the exit is for, since GIF is clear from then on.
 */
void svm_take_events(struct svm_vcpu *svm);

/* svm/exit.c: handles the exit that the VMCB describes; when it returns the guest can be entered. */
void svm_exit(struct vcpu *vcpu);
/* The same for L2. */
void svm_l2_exit(struct vcpu *vcpu);

/* svm/exit.c: L1 gets the INIT or NMI that waits for it, if it can have one now. */
enum exit_action svm_deliver_held(struct svm_vcpu *svm);

/* --- for nested/ --- */

/* svm/exit.c: what Umbra does for the running guest at that exit, as if there were no nesting. */
enum exit_action svm_handle(struct svm_vcpu *svm, u32 index);
/* The end of an exit that has no quick way, of L1 and of L2: see nested_hooks. */
void svm_exit_general(struct svm_vcpu *svm, u32 index);
void svm_l2_exit_ends(struct svm_vcpu *svm, enum exit_action action);

/* svm/step.c: Umbra has executed an instruction for a guest that single-steps itself: delivers the trap that
 * is due. */
void svm_step_emulated(struct svm_vcpu *svm);

/* The instruction at RIP is done, and ends there: what the CPU does at its end. */
static inline void svm_skip_to(struct svm_vcpu *svm, u64 next_rip)
{
    struct vmcb *vmcb = svm->vmcb;

    vmcb->save.rip = next_rip;
    vmcb->control.interrupt_state &= ~INTERRUPT_SHADOW;
    if (__builtin_expect((vmcb->save.rflags & (RFLAGS_RF | RFLAGS_TF)) != 0, 0)) {
        vmcb->save.rflags &= ~RFLAGS_RF;
        if ((vmcb->save.rflags & RFLAGS_TF) != 0)
            svm_step_emulated(svm);
    }
}
/* What the exit has changed in Umbra's tables reaches the guest that is entered next, be it another than the
 * one that left. */
void svm_flush_changes(struct svm_vcpu *svm);
/*
 * An access that Umbra's own tables deny, by what runs now. EXIT_STEP while an event is being delivered
 * cannot be: that ends in a report.
 */
enum exit_action svm_violation(struct svm_vcpu *svm, const struct violation *violation);
/* The INIT was taken from the CPU: L1 is as after it. An NMI that waits is the caller's. */
void svm_guest_init(struct svm_vcpu *svm);

/* svm/nmi.c: NMIs are blocked, and another of L1 and L2 goes on: its IRET counts from now on. */
void svm_nmi_follow(struct svm_vcpu *svm);

/* Who is entered next: L2 with this VMCB (physical address too), RFLAGS.IF so at VMRUN, and exception
 * intercepts as they are in it; or L1. */
static inline void svm_switch_to_l2(struct svm_vcpu *svm, struct vmcb *vmcb, hpa_t address, bool interrupts)
{
    /* A flush that waits for an entry is for all translations of this CPU. */
    if (__builtin_expect(svm->vmcb->control.tlb_control != TLB_CONTROL_NOTHING, 0))
        vmcb->control.tlb_control = TLB_CONTROL_FLUSH_ALL;
    svm->vmcb = vmcb;
    if (__builtin_expect(svm->nmi_blocked, 0))
        svm_nmi_follow(svm);
    if (__builtin_expect(svm->tsc_ratio != TSC_RATIO_ONE, 0))
        (void)wrmsr_safe(MSR_TSC_RATIO, svm->tsc_ratio);
    svm->exceptions = vmcb->control.intercept[VMCB_INTERCEPT_EXCEPTIONS];
    svm->frame->l2_vmcb = address.raw;
    svm->frame->l2_interrupts = interrupts;
    svm->vcpu->l2_running = true;
    svm->frame->next = (uintptr_t)svm_enter_l2;
}

static inline void svm_switch_to_l1(struct svm_vcpu *svm)
{
    if (__builtin_expect(svm->vmcb->control.tlb_control != TLB_CONTROL_NOTHING, 0))
        svm->vmcb01->control.tlb_control = TLB_CONTROL_FLUSH_ALL;
    svm->vmcb = svm->vmcb01;
    if (__builtin_expect(svm->nmi_blocked, 0))
        svm_nmi_follow(svm);
    if (__builtin_expect(svm->tsc_ratio != TSC_RATIO_ONE, 0))
        (void)wrmsr_safe(MSR_TSC_RATIO, TSC_RATIO_ONE);
    svm->exceptions = svm->vmcb01->control.intercept[VMCB_INTERCEPT_EXCEPTIONS];
    svm->vcpu->l2_running = false;
    svm->frame->next = (uintptr_t)svm_enter_guest;
}

/* The GIF that L1 or L2 runs with. */
static inline bool svm_gif_is_clear(const struct svm_vcpu *svm)
{
    return svm->vcpu->l2_running ? (svm->unusual & SVM_L2_GIF_CLEAR) != 0 : svm->events_held;
}

/*
 * svm/switch.c. L1's GIF, which is not the CPU's: with 0, interrupts wait because VMRUN sees Umbra's
 * RFLAGS.IF, which is 0; an NMI or INIT is taken by Umbra and kept until it is 1 again. To be called while
 * L1's VMCB is the current one; with `set` after the instruction that sets it was skipped.
 */
void svm_set_gif(struct svm_vcpu *svm, bool set);
/*
 * VMRUN sets GIF, VMEXIT clears it again: svm_release_tpr() at the one, when CR8, which L1 may have changed
 * while it was not the CPU's, becomes real; svm_hold_events() at the other, whatever was before. In between
 * vmcb01 may stay as it is.
 */
static inline void svm_release_tpr(struct svm_vcpu *svm)
{
    u64 tpr = svm->vmcb01->control.v_intr & BITS(3, 0); /* the half of V_TPR that CR8 shows */

    /* Not to undo what was written to the APIC's register itself meanwhile. */
    if (svm->events_held && tpr != svm->held_tpr)
        write_cr8(tpr);
}

/* With V_INTR_MASKING, MOV to and from CR8 means V_TPR and no longer the APIC's. */
static inline void svm_hold_events(struct svm_vcpu *svm)
{
    struct vmcb_control *control = &svm->vmcb01->control;
    u64 tpr = read_cr8();

    svm->held_tpr = tpr;
    control->v_intr = (control->v_intr & ~V_TPR) | V_INTR_MASKING | tpr;
    control->intercept[VMEXIT_NMI / 32] |= 1u << VMEXIT_NMI % 32;
    svm->events_held = true;
    control->clean &= ~(u32)(CLEAN_INTERCEPTS | CLEAN_TPR);
}
/* EFER.SVME as L1 sees it decides whether #GP has to be looked at. */
void svm_set_l1_svme(struct svm_vcpu *svm, bool set);

#endif
