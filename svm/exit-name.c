/* SPDX-License-Identifier: MIT */
/*
 * Names of exit codes, APM vol. 2 appendix C, table C-1.
 */
#include "svm/exit-name.h"

#include "svm/vmcb.h"

#define NAMES_0_TO_15(before, after)                                                                         \
    before "0" after, before "1" after, before "2" after, before "3" after, before "4" after,                \
        before "5" after, before "6" after, before "7" after, before "8" after, before "9" after,            \
        before "10" after, before "11" after, before "12" after, before "13" after, before "14" after,       \
        before "15" after
#define NAMES_16_TO_31(before, after)                                                                        \
    before "16" after, before "17" after, before "18" after, before "19" after, before "20" after,           \
        before "21" after, before "22" after, before "23" after, before "24" after, before "25" after,       \
        before "26" after, before "27" after, before "28" after, before "29" after, before "30" after,       \
        before "31" after

/* In the order of the codes: each line starts at the code that its comment names. */
static const char *const names[SVM_EXIT_COUNT] = {
    NAMES_0_TO_15("VMEXIT_CR", "_READ"), /* 00h */
    NAMES_0_TO_15("VMEXIT_CR", "_WRITE"),
    NAMES_0_TO_15("VMEXIT_DR", "_READ"), /* 20h */
    NAMES_0_TO_15("VMEXIT_DR", "_WRITE"),
    NAMES_0_TO_15("VMEXIT_EXCP", ""), /* 40h */
    NAMES_16_TO_31("VMEXIT_EXCP", ""),
    "VMEXIT_INTR", /* 60h */
    "VMEXIT_NMI",
    "VMEXIT_SMI",
    "VMEXIT_INIT",
    "VMEXIT_VINTR",
    "VMEXIT_CR0_SEL_WRITE",
    "VMEXIT_IDTR_READ",
    "VMEXIT_GDTR_READ",
    "VMEXIT_LDTR_READ", /* 68h */
    "VMEXIT_TR_READ",
    "VMEXIT_IDTR_WRITE",
    "VMEXIT_GDTR_WRITE",
    "VMEXIT_LDTR_WRITE",
    "VMEXIT_TR_WRITE",
    "VMEXIT_RDTSC",
    "VMEXIT_RDPMC",
    "VMEXIT_PUSHF", /* 70h */
    "VMEXIT_POPF",
    "VMEXIT_CPUID",
    "VMEXIT_RSM",
    "VMEXIT_IRET",
    "VMEXIT_SWINT",
    "VMEXIT_INVD",
    "VMEXIT_PAUSE",
    "VMEXIT_HLT", /* 78h */
    "VMEXIT_INVLPG",
    "VMEXIT_INVLPGA",
    "VMEXIT_IOIO",
    "VMEXIT_MSR",
    "VMEXIT_TASK_SWITCH",
    "VMEXIT_FERR_FREEZE",
    "VMEXIT_SHUTDOWN",
    "VMEXIT_VMRUN", /* 80h */
    "VMEXIT_VMMCALL",
    "VMEXIT_VMLOAD",
    "VMEXIT_VMSAVE",
    "VMEXIT_STGI",
    "VMEXIT_CLGI",
    "VMEXIT_SKINIT",
    "VMEXIT_RDTSCP",
    "VMEXIT_ICEBP", /* 88h */
    "VMEXIT_WBINVD",
    "VMEXIT_MONITOR",
    "VMEXIT_MWAIT",
    "VMEXIT_MWAIT_CONDITIONAL",
    "VMEXIT_XSETBV",
    "VMEXIT_RDPRU",
    "VMEXIT_EFER_WRITE_TRAP",
    NAMES_0_TO_15("VMEXIT_CR", "_WRITE_TRAP"), /* 90h */
    "VMEXIT_INVLPGB",                          /* A0h */
    "VMEXIT_INVLPGB_ILLEGAL",
    "VMEXIT_INVPCID",
    "VMEXIT_MCOMMIT",
    "VMEXIT_TLBSYNC",
    "VMEXIT_BUSLOCK",
    "VMEXIT_IDLE_HLT",
    "unknown",
    "VMEXIT_NPF", /* A8h: 400h */
    "AVIC_INCOMPLETE_IPI",
    "AVIC_NOACCEL",
    "VMEXIT_VMGEXIT",
    "VMEXIT_INVALID",
    "unknown",
};

u32 svm_exit_index_slow(u64 code)
{
    if (code < SVM_EXIT_DENSE)
        return (u32)code;
    if (code >= VMEXIT_NPF && code < VMEXIT_NPF + 4)
        return SVM_EXIT_NPF + (u32)(code - VMEXIT_NPF);
    return code == VMEXIT_INVALID ? SVM_EXIT_INVALID : SVM_EXIT_UNKNOWN;
}

const char *svm_exit_name(u32 index)
{
    return index < SVM_EXIT_COUNT ? names[index] : "unknown";
}
