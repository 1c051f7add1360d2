/* SPDX-License-Identifier: MIT */
/* The consistency checks of VMRUN, a row each; see nested/svm-check.h. */
#include "nested/svm-check.h"

#include "arch/x86.h"

/*
 * What a permission map takes from its base on: 15.10.1, 15.11. The base's low bits are ignored. The MSR map
 * has two pages, but CPUs refuse it at the last two of the address space: their check is the same for both
 * maps.
 */
#define MAP_BYTES (3 * PAGE_SIZE)

static bool long_mode_paging(const struct vmcb_save *save)
{
    return (save->efer & EFER_LME) != 0 && (save->cr0 & CR0_PG) != 0;
}

static enum svm_check check_control_registers(const struct vmcb_save *save,
                                              const struct svm_check_facts *facts)
{
    if ((save->cr0 & (CR0_CD | CR0_NW)) == CR0_NW)
        return SVM_CHECK_CR0_NW_WITHOUT_CD;
    if ((save->cr0 & BITS(63, 32)) != 0)
        return SVM_CHECK_CR0_HIGH;
    if (long_mode_paging(save) && save->cr3 >= facts->physical_limit)
        return SVM_CHECK_CR3_RESERVED;
    if ((save->cr4 & ~facts->cr4_valid) != 0)
        return SVM_CHECK_CR4_RESERVED;
    if ((save->dr6 & BITS(63, 32)) != 0)
        return SVM_CHECK_DR6_HIGH;
    if ((save->dr7 & BITS(63, 32)) != 0)
        return SVM_CHECK_DR7_HIGH;
    return SVM_CHECK_PASSED;
}

static enum svm_check check_mode(const struct vmcb_save *save)
{
    /* Without LME, paging in real mode is legal in a guest: 15.19. */
    if (!long_mode_paging(save))
        return SVM_CHECK_PASSED;
    if ((save->cr0 & CR0_PE) == 0)
        return SVM_CHECK_LONG_MODE_WITHOUT_PE;
    if ((save->cr4 & CR4_PAE) == 0)
        return SVM_CHECK_LONG_MODE_WITHOUT_PAE;
    if ((save->cs.attributes & SEGMENT_L) != 0 && (save->cs.attributes & SEGMENT_DB) != 0)
        return SVM_CHECK_CS_L_AND_D;
    return SVM_CHECK_PASSED;
}

static enum svm_check check_save(const struct vmcb_save *save, const struct svm_check_facts *facts)
{
    enum svm_check result;

    if ((save->efer & EFER_SVME) == 0)
        return SVM_CHECK_SVME_CLEAR;
    if ((save->efer & ~facts->efer_valid) != 0)
        return SVM_CHECK_EFER_RESERVED;
    result = check_control_registers(save, facts);
    return result != SVM_CHECK_PASSED ? result : check_mode(save);
}

static bool intercepted(const struct vmcb_control *control, u32 code)
{
    return (control->intercept[code / 32] >> code % 32 & 1) != 0;
}

static bool map_fits(u64 base, u64 limit)
{
    base = align_down(base, PAGE_SIZE);
    return base < limit && MAP_BYTES <= limit - base;
}

/* 15.20: reserved types, and exceptions that are none. */
static bool event_is_legal(u64 event)
{
    u64 vector = event & EVENT_VECTOR_MASK;

    if ((event & EVENT_VALID) == 0)
        return true;
    switch (event & EVENT_TYPE_MASK) {
    case EVENT_TYPE_INTR:
    case EVENT_TYPE_NMI:
    case EVENT_TYPE_SOFTWARE:
        return true;
    case EVENT_TYPE_EXCEPTION:
        return vector < 32 && vector != EXC_NMI;
    default:
        return false;
    }
}

/* Of eight memory types: 2, 3 and those above 7 are none (7.8.1). */
static bool pat_is_legal(u64 pat)
{
    for (unsigned i = 0; i < 8; i++, pat >>= 8) {
        u64 type = pat & 0xff;
        if (type > 7 || type == 2 || type == 3)
            return false;
    }
    return true;
}

static enum svm_check check_nested_paging(const struct vmcb_control *control, const struct vmcb_save *save,
                                          const struct svm_check_facts *facts)
{
    if ((control->nested_control & NP_ENABLE) == 0)
        return SVM_CHECK_PASSED;
    if (!facts->host_paging)
        return SVM_CHECK_NESTED_PAGING_WITHOUT_PAGING;
    if (control->n_cr3 >= facts->physical_limit)
        return SVM_CHECK_NESTED_CR3;
    return pat_is_legal(save->g_pat) ? SVM_CHECK_PASSED : SVM_CHECK_GUEST_PAT;
}

static enum svm_check check_control(const struct vmcb_control *control, const struct svm_check_facts *facts)
{
    if (!intercepted(control, VMEXIT_VMRUN))
        return SVM_CHECK_VMRUN_NOT_INTERCEPTED;
    if ((intercepted(control, VMEXIT_IOIO) && !map_fits(control->iopm_base_pa, facts->physical_limit)) ||
        (intercepted(control, VMEXIT_MSR) && !map_fits(control->msrpm_base_pa, facts->physical_limit)))
        return SVM_CHECK_PERMISSION_MAP_ADDRESS;
    if (control->asid == 0)
        return SVM_CHECK_ASID_ZERO;
    if (facts->virtual_nmi && (control->v_intr & V_NMI_ENABLE) != 0 && !intercepted(control, VMEXIT_NMI))
        return SVM_CHECK_VIRTUAL_NMI;
    return event_is_legal(control->event_inj) ? SVM_CHECK_PASSED : SVM_CHECK_EVENT;
}

enum svm_check svm_check_vmcb(const struct vmcb_control *control, const struct vmcb_save *save,
                              const struct svm_check_facts *facts)
{
    enum svm_check result = check_save(save, facts);

    if (result == SVM_CHECK_PASSED)
        result = check_control(control, facts);
    return result != SVM_CHECK_PASSED ? result : check_nested_paging(control, save, facts);
}
