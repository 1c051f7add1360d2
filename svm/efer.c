/* SPDX-License-Identifier: MIT */
/*
 * Rules of WRMSR to EFER, see svm/efer.h.
 */
#include "svm/efer.h"

#include "arch/x86.h"

/* EFER bits that are newer than long mode, APM vol. 2 3.1.7 */
#define EFER_MCOMMIT BIT(17)
#define EFER_INTWB   BIT(18)
#define EFER_UAIE    BIT(20)
#define EFER_AIBRSE  BIT(21)

static const struct {
    u64 bit;
    unsigned word;   /* index of the CPUID word in struct efer_features */
    u32 cpuid;       /* the bit exists if this one is set ... */
    bool when_clear; /* ... or if it is clear */
} efer_bits[] = {
    {EFER_SCE, 1, BIT(11), false},    /* SYSCALL */
    {EFER_LME, 1, BIT(29), false},    /* long mode */
    {EFER_NXE, 1, BIT(20), false},    /* NX */
    {EFER_LMSLE, 2, BIT(20), true},   /* EferLmsleUnsupported */
    {EFER_FFXSR, 1, BIT(25), false},  /* FFXSR */
    {EFER_TCE, 0, BIT(17), false},    /* TCE */
    {EFER_MCOMMIT, 2, BIT(8), false}, /* MCOMMIT */
    {EFER_INTWB, 2, BIT(13), false},  /* INT_WBINVD */
    {EFER_UAIE, 3, BIT(7), false},    /* UpperAddressIgnore */
    {EFER_AIBRSE, 3, BIT(8), false},  /* AutomaticIBRS */
};

u64 svm_efer_writable(const struct efer_features *features)
{
    const u32 words[] = {features->leaf_80000001_ecx, features->leaf_80000001_edx,
                         features->leaf_80000008_ebx, features->leaf_80000021_eax};
    u64 writable = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(efer_bits); i++) {
        bool set = (words[efer_bits[i].word] & efer_bits[i].cpuid) != 0;
        if (set != efer_bits[i].when_clear)
            writable |= efer_bits[i].bit;
    }
    return writable;
}

bool svm_efer_write(u64 current, u64 wanted, u64 cr0, u64 writable, u64 *result)
{
    const u64 kept = EFER_LMA | EFER_SVME;

    if ((wanted & ~(writable | EFER_LMA)) != 0)
        return false;
    if ((cr0 & CR0_PG) != 0 && ((current ^ wanted) & EFER_LME) != 0)
        return false;
    *result = (wanted & ~kept) | (current & kept);
    return true;
}

u64 svm_efer_visible(u64 current)
{
    return current & ~EFER_SVME;
}
