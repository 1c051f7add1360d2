/* SPDX-License-Identifier: MIT */
/*
 * The VM-execution, VM-exit and VM-entry controls: what each bit is called, what Umbra wants of it and why,
 * and how that is combined with what the CPU allows. Pure: capabilities come in as values, control words go
 * out. Source: SDM vol. 3C 25.6 to 25.8, vol. 3D appendix A.3 to A.5.
 */
#ifndef UMBRA_VMX_CONTROLS_H
#define UMBRA_VMX_CONTROLS_H

#include "arch/types.h"

/* In the order in which a CPU is judged: that it lacks EPT says more than what else it lacks. */
enum control_word {
    CONTROL_SECONDARY, /* secondary processor-based VM-execution controls */
    CONTROL_PIN,       /* pin-based VM-execution controls */
    CONTROL_PRIMARY,   /* primary processor-based VM-execution controls */
    CONTROL_EXIT,      /* primary VM-exit controls */
    CONTROL_ENTRY,     /* VM-entry controls */
    CONTROL_WORDS,
};

/* Pin-based */
#define PIN_EXTERNAL_INTERRUPT_EXITING BIT(0)
#define PIN_NMI_EXITING                BIT(3)
#define PIN_VIRTUAL_NMIS               BIT(5)
#define PIN_PREEMPTION_TIMER           BIT(6)
#define PIN_POSTED_INTERRUPTS          BIT(7)

/* Primary processor-based */
#define PRIMARY_INTERRUPT_WINDOW   BIT(2)
#define PRIMARY_TSC_OFFSETTING     BIT(3)
#define PRIMARY_HLT_EXITING        BIT(7)
#define PRIMARY_INVLPG_EXITING     BIT(9)
#define PRIMARY_MWAIT_EXITING      BIT(10)
#define PRIMARY_RDPMC_EXITING      BIT(11)
#define PRIMARY_RDTSC_EXITING      BIT(12)
#define PRIMARY_CR3_LOAD_EXITING   BIT(15)
#define PRIMARY_CR3_STORE_EXITING  BIT(16)
#define PRIMARY_TERTIARY_CONTROLS  BIT(17)
#define PRIMARY_CR8_LOAD_EXITING   BIT(19)
#define PRIMARY_CR8_STORE_EXITING  BIT(20)
#define PRIMARY_TPR_SHADOW         BIT(21)
#define PRIMARY_NMI_WINDOW         BIT(22)
#define PRIMARY_MOV_DR_EXITING     BIT(23)
#define PRIMARY_IO_EXITING         BIT(24)
#define PRIMARY_IO_BITMAPS         BIT(25)
#define PRIMARY_MONITOR_TRAP_FLAG  BIT(27)
#define PRIMARY_MSR_BITMAPS        BIT(28)
#define PRIMARY_MONITOR_EXITING    BIT(29)
#define PRIMARY_PAUSE_EXITING      BIT(30)
#define PRIMARY_SECONDARY_CONTROLS BIT(31)

/* Secondary processor-based */
#define SECONDARY_APIC_ACCESSES            BIT(0)
#define SECONDARY_EPT                      BIT(1)
#define SECONDARY_DESCRIPTOR_TABLE_EXITING BIT(2)
#define SECONDARY_RDTSCP                   BIT(3)
#define SECONDARY_X2APIC_MODE              BIT(4)
#define SECONDARY_VPID                     BIT(5)
#define SECONDARY_WBINVD_EXITING           BIT(6)
#define SECONDARY_UNRESTRICTED_GUEST       BIT(7)
#define SECONDARY_APIC_REGISTERS           BIT(8)
#define SECONDARY_VIRTUAL_INTERRUPTS       BIT(9)
#define SECONDARY_PAUSE_LOOP_EXITING       BIT(10)
#define SECONDARY_RDRAND_EXITING           BIT(11)
#define SECONDARY_INVPCID                  BIT(12)
#define SECONDARY_VM_FUNCTIONS             BIT(13)
#define SECONDARY_VMCS_SHADOWING           BIT(14)
#define SECONDARY_ENCLS_EXITING            BIT(15)
#define SECONDARY_RDSEED_EXITING           BIT(16)
#define SECONDARY_PML                      BIT(17)
#define SECONDARY_EPT_VIOLATION_VE         BIT(18)
#define SECONDARY_CONCEAL_VMX_FROM_PT      BIT(19)
#define SECONDARY_XSAVES                   BIT(20)
#define SECONDARY_PASID_TRANSLATION        BIT(21)
#define SECONDARY_MBEC                     BIT(22)
#define SECONDARY_SPP                      BIT(23)
#define SECONDARY_PT_GUEST_PHYSICAL        BIT(24)
#define SECONDARY_TSC_SCALING              BIT(25)
#define SECONDARY_USER_WAIT_PAUSE          BIT(26)
#define SECONDARY_PCONFIG                  BIT(27)
#define SECONDARY_ENCLV_EXITING            BIT(28)
#define SECONDARY_BUS_LOCK_DETECTION       BIT(30)
#define SECONDARY_INSTRUCTION_TIMEOUT      BIT(31)

/* VM-exit */
#define EXIT_SAVE_DEBUG            BIT(2)
#define EXIT_HOST_64               BIT(9)
#define EXIT_LOAD_PERF_GLOBAL_CTRL BIT(12)
#define EXIT_ACKNOWLEDGE_INTERRUPT BIT(15)
#define EXIT_SAVE_PAT              BIT(18)
#define EXIT_LOAD_PAT              BIT(19)
#define EXIT_SAVE_EFER             BIT(20)
#define EXIT_LOAD_EFER             BIT(21)
#define EXIT_SAVE_PREEMPTION_TIMER BIT(22)
#define EXIT_CLEAR_BNDCFGS         BIT(23)
#define EXIT_CONCEAL_VMX_FROM_PT   BIT(24)
#define EXIT_CLEAR_RTIT_CTL        BIT(25)
#define EXIT_CLEAR_LBR_CTL         BIT(26)
#define EXIT_CLEAR_UINV            BIT(27)
#define EXIT_LOAD_CET              BIT(28)
#define EXIT_LOAD_PKRS             BIT(29)
#define EXIT_SAVE_PERF_GLOBAL_CTRL BIT(30)
#define EXIT_SECONDARY_CONTROLS    BIT(31)

/* VM-entry */
#define ENTRY_LOAD_DEBUG            BIT(2)
#define ENTRY_IA32E_GUEST           BIT(9)
#define ENTRY_TO_SMM                BIT(10)
#define ENTRY_END_DUAL_MONITOR      BIT(11)
#define ENTRY_LOAD_PERF_GLOBAL_CTRL BIT(13)
#define ENTRY_LOAD_PAT              BIT(14)
#define ENTRY_LOAD_EFER             BIT(15)
#define ENTRY_LOAD_BNDCFGS          BIT(16)
#define ENTRY_CONCEAL_VMX_FROM_PT   BIT(17)
#define ENTRY_LOAD_RTIT_CTL         BIT(18)
#define ENTRY_LOAD_UINV             BIT(19)
#define ENTRY_LOAD_CET              BIT(20)
#define ENTRY_LOAD_LBR_CTL          BIT(21)
#define ENTRY_LOAD_PKRS             BIT(22)

enum control_use {
    CONTROL_REQUIRED,  /* on; without it Umbra does not start */
    CONTROL_WANTED,    /* on where the CPU has it, with all other bits of the same feature */
    CONTROL_SWITCHED,  /* starts off and changes while the guest runs: both settings must be available */
    CONTROL_FORBIDDEN, /* off; a CPU on which it cannot be off is refused */
};

/* Controls of different words that make sense together only: state that is loaded at entry and put away at
 * exit. */
enum control_feature {
    FEATURE_NONE,
    FEATURE_PERF_GLOBAL_CTRL,
    FEATURE_BNDCFGS,
    FEATURE_RTIT_CTL,
    FEATURE_LBR_CTL,
    FEATURE_CET,
    FEATURE_PKRS,
    CONTROL_FEATURES,
};

struct control_row {
    u32 bit;
    u8 use;             /* enum control_use */
    u8 feature;         /* enum control_feature */
    const char *name;   /* the manual's */
    const char *reason; /* a clause that completes "because ..." */
};

/*
 * What the CPU allows, as the (TRUE) capability MSRs say it, SDM vol. 3D A.2: bits 31:0 are 1 where the
 * control must be 1, bits 63:32 are 1 where it may be 1.
 */
struct control_capability {
    u64 word[CONTROL_WORDS];
};

struct vmx_controls {
    u32 word[CONTROL_WORDS];
    bool feature[CONTROL_FEATURES]; /* all controls of the feature are on */
};

/* Why a CPU does not do; row is NULL if it does. */
struct control_verdict {
    const struct control_row *row;
    enum control_word word;
    bool must_be_one; /* the CPU does not allow 0; else it does not allow 1 */
};

/* Bits that the table does not name stay off unless the CPU requires them on (the default1 class). */
struct control_verdict controls_combine(const struct control_capability *capability,
                                        struct vmx_controls *controls);

/* The manual's name of a control word. */
const char *control_word_name(enum control_word word);

/* The rows of a word, for tests and reports. */
const struct control_row *control_rows(enum control_word word, size_t *count);

#endif
