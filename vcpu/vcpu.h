/* SPDX-License-Identifier: MIT */
/*
 * One virtual CPU per CPU, and the vendor-neutral half of its exits: each handler works on values, changes
 * the vcpu and says with an enum exit_action what the vendor has to do with the guest's instruction. Only
 * vmx/ and svm/ touch a VMCS or VMCB. Locking: a vcpu is used by its own CPU only, but for what
 * shootdown.h and the list of lent pages say; struct machine is written at boot only, but for its tdp and
 * mtrr, which have a lock.
 */
#ifndef UMBRA_VCPU_VCPU_H
#define UMBRA_VCPU_VCPU_H

#include "arch/types.h"
#include "arch/x86.h"
#include "mm/mtrr.h"
#include "mm/tdp.h"
#include "vcpu/accounting.h"
#include "vcpu/start.h"

enum exit_action {
    EXIT_RESUME, /* re-enter at the same instruction */
    EXIT_SKIP,   /* the instruction is done: advance RIP, clear the interrupt shadow, honour a trap flag */
    EXIT_UD,     /* inject #UD */
    EXIT_GP,     /* inject #GP(0) */
    EXIT_STEP,   /* execute exactly one guest instruction (MTF or TF), then call violation_step_done() */
};

/* Whose hypercalls are answered (option hypercalls=); everybody else's are #UD. */
enum hypercall_callers {
    HYPERCALLS_OFF,
    HYPERCALLS_KERNEL, /* CPL 0 */
    HYPERCALLS_USER,   /* any CPL */
};

struct vendor;
struct vcpu;

enum { CPUS_MAX = 64 };

/* What all virtual CPUs share; vcpu/machine.c. */
struct machine {
    const struct vendor *vendor;
    struct vcpu *vcpu[CPUS_MAX]; /* by index; number 0 is the boot CPU */
    unsigned cpus;               /* grows at boot only */
    struct tdp tdp;              /* under machine_lock() once the guest runs: vcpu/shootdown.h */
    /*
     * Intel: the guest's view, one for all CPUs, which have to agree anyway (SDM vol. 3A 12.11.8); AMD:
     * unused, the guest owns the real ones.
     */
    struct mtrr_state mtrr;
    bool nested;             /* virtualization features are shown to the guest: its option nested= */
    bool vmcs_shadowing;     /* nested VMX uses it where the CPU has it */
    bool mode_based_execute; /* MBEC or GMET is on */
    enum hypercall_callers hypercalls;
    u64 physical_limit; /* one past the highest guest-physical address: machine_physical_limit() */
};

extern struct machine machine;

/*
 * One past the highest guest-physical address that names memory or a device once only: 1 << maxphyaddr, less
 * the address bits that choose an encryption key (TME-MK, SME), at most 1 << 48 for four-level tables.
 */
u64 machine_physical_limit(unsigned maxphyaddr);

/*
 * Maps guest-physical [start, end) identically in machine.tdp, with the memory types of the guest's MTRRs.
 * The caller knows that no byte of it is Umbra's. On TDP_NO_MEMORY a first part of the range may be done.
 */
enum tdp_status machine_map(u64 start, u64 end, unsigned access);

enum { SCRATCH_MAX = 16 };

struct vcpu {
    /* Hardware register order (enum gpr_index); the entry stubs know this to be first. RSP's slot is not used
     * by the stubs: the vendor keeps RSP in the VMCS or VMCB and fills the slot where a handler asks for it.
     */
    u64 gpr[GPR_COUNT];
    void *vendor; /* struct vmx_vcpu or struct svm_vcpu */
    void *nested; /* struct nested_vmx or struct nested_svm; NULL unless machine.nested */
    unsigned index;
    u32 apic_id;
    /* vcpu/shootdown.h; written by this CPU, but for `kicked`. */
    u64 flushed;        /* the generation up to which this CPU has flushed */
    bool kicked;        /* Umbra has sent it an NMI that it has not taken yet */
    bool waiting;       /* for a SIPI */
    bool apic_disabled; /* as the guest sees it */
    bool l2_running;    /* the next entry is to the guest's guest; false unless machine.nested */
    bool nmi_pending;   /* an NMI came while Umbra ran; set by the NMI handler, injected by the vendor */
    struct accounting accounting;
    /* Pages of Umbra's region that are lent as a page of ones during EXIT_STEP. */
    hpa_t scratch;
    unsigned scratch_count;
    u64 scratch_page[SCRATCH_MAX];
    /* The last violation that was answered by re-entering at the same instruction, and how often without
     * another exit in between; `exit` is accounting.exits then. */
    struct {
        u64 page, rip, exit;
        u32 access, count;
    } repeated;
    /* Test builds: the last second-level violation that policy caused; see vcpu/hypercall.h. */
    struct {
        u64 count, raw, gpa, gva, rip;
    } last_violation;
};

/* Makes a zeroed vcpu usable: its index and its scratch page. False if the frame pool is empty. */
bool vcpu_init(struct vcpu *vcpu, unsigned index);

/* The part of a fatal report that is about this vcpu: exit counters and the last exits. */
void vcpu_report(const struct vcpu *vcpu);

/* The vendor's registers that vendor-neutral handlers need, read by the vendor before the call. */
struct exit_context {
    u64 rip, rflags, cr0, cr4, efer;
    unsigned cpl;
    bool code64; /* CS.L with EFER.LMA */
};

/* CPUID: reads gpr RAX and RCX, writes RAX, RBX, RCX, RDX. The real CPUID, corrected by vcpu/cpuid.h. */
enum exit_action cpuid_exit(struct vcpu *vcpu, u64 guest_cr4);

/*
 * RDMSR and WRMSR that the permission map intercepts, or cannot express. ECX names the MSR. WRMSR may change
 * machine.tdp: the caller flushes afterwards if machine.tdp.flush_pending. AMD: the vendor answers EFER
 * itself, before these.
 */
enum exit_action rdmsr_exit(struct vcpu *vcpu);
enum exit_action wrmsr_exit(struct vcpu *vcpu);

/* XSETBV: checks CPL, OSXSAVE, XCR number and value as the CPU does, then sets the real XCR0, which is the
 * guest's. */
enum exit_action xsetbv_exit(struct vcpu *vcpu, const struct exit_context *context);

/* INVD becomes WBINVD: discarding dirty lines would discard Umbra's too. CPL was checked by the CPU. */
enum exit_action invd_exit(void);

/* A second-level violation (EPT violation, or #NPF). */
struct violation {
    gpa_t gpa;
    gva_t gva;
    bool gva_valid;
    unsigned
        access; /* enum tdp_access bits that were attempted: a fetch is TDP_XS or TDP_XU or both if unknown */
    u64 raw;    /* exit qualification or EXITINFO1, for reports */
};
/*
 * Umbra's own memory: data reads as ones and writes are dropped (EXIT_STEP), a fetch is #UD. Unmapped MMIO is
 * mapped (EXIT_RESUME). Test builds: a page that a hypercall protected is recorded in last_violation and
 * opened again (EXIT_RESUME). Anything else is a fatal report that names the guest's act. The caller flushes
 * afterwards if machine.tdp.flush_pending.
 */
enum exit_action violation_exit(struct vcpu *vcpu, const struct violation *violation,
                                const struct exit_context *context);
/* After the one instruction of EXIT_STEP: takes the scratch pages away again, so the caller flushes before it
 * re-enters. */
void violation_step_done(struct vcpu *vcpu);

/*
 * VMCALL or VMMCALL: vcpu/hypercall.h. EXIT_UD if it is not one of Umbra's, or the caller may not. May change
 * machine.tdp, as WRMSR may.
 */
enum exit_action hypercall_exit(struct vcpu *vcpu, const struct exit_context *context);

/* Hardware state that INIT gives (START_REAL at the reset vector), and a SIPI with its vector. */
void start_state_init(struct start_state *start);
void start_state_sipi(struct start_state *start, u8 vector);

#endif
