/* SPDX-License-Identifier: MIT */
/*
 * Checks, before anything is changed, that this CPU and its firmware let Umbra run a guest: each refusal is
 * one sentence.
 */
#include "vmx/capability.h"

#include "arch/cpu.h"
#include "arch/msr.h"
#include "arch/print.h"
#include "arch/string.h"

/* CPUID.01H:ECX */
#define CPUID_1_ECX_VMX BIT(5)
/* CPUID.0AH: performance monitoring */
#define CPUID_PMU 0xau

/* The upper half of a capability MSR says what may be 1. */
#define MAY_BE_ONE(bit) ((u64)(bit) << 32)

struct vmx_capability vmx_capability;

static char sentence[320];

#define refuse(...) (format(sentence, sizeof(sentence), __VA_ARGS__), sentence)

static const char *check_firmware(void)
{
    if ((cpuid(1, 0).ecx & CPUID_1_ECX_VMX) == 0) {
        return "this CPU has no VMX (CPUID.01H:ECX bit 5 is 0): Umbra needs an Intel CPU with VT-x, or "
               "nested virtualization switched on in the hypervisor below";
    }
    u64 control = rdmsr(MSR_IA32_FEATURE_CONTROL);
    if ((control & IA32_FEATURE_CONTROL_LOCK) != 0 && (control & IA32_FEATURE_CONTROL_VMX_OUTSIDE_SMX) == 0) {
        return refuse("firmware has locked VMX off (IA32_FEATURE_CONTROL is %lx): switch VT-x on in the "
                      "firmware's setup and power-cycle the machine",
                      control);
    }
    return NULL;
}

/* A VPID without a way to flush it alone is of no use: such a CPU runs without one and flushes at each entry
 * and exit. */
static bool vpid_usable(u64 ept_vpid)
{
    return (ept_vpid & VPID_INVVPID) != 0 &&
           (ept_vpid & (VPID_INVVPID_SINGLE_CONTEXT | VPID_INVVPID_ALL_CONTEXTS)) != 0;
}

/* Emulators offer the controls without the MSR; it exists from version 2 on of the PMU (SDM vol. 3B 20.2.2).
 */
static bool perf_global_ctrl_exists(void)
{
    return cpuid(0, 0).eax >= CPUID_PMU && (cpuid(CPUID_PMU, 0).eax & BITS(7, 0)) >= 2;
}

static void read_controls(struct control_capability *allowed)
{
    bool precise = (rdmsr(MSR_IA32_VMX_BASIC) & VMX_BASIC_TRUE_CONTROLS) != 0;

    *allowed = (struct control_capability){{
        [CONTROL_PIN] = rdmsr(precise ? MSR_IA32_VMX_TRUE_PINBASED_CTLS : MSR_IA32_VMX_PINBASED_CTLS),
        [CONTROL_PRIMARY] = rdmsr(precise ? MSR_IA32_VMX_TRUE_PROCBASED_CTLS : MSR_IA32_VMX_PROCBASED_CTLS),
        [CONTROL_EXIT] = rdmsr(precise ? MSR_IA32_VMX_TRUE_EXIT_CTLS : MSR_IA32_VMX_EXIT_CTLS),
        [CONTROL_ENTRY] = rdmsr(precise ? MSR_IA32_VMX_TRUE_ENTRY_CTLS : MSR_IA32_VMX_ENTRY_CTLS),
    }};
    /* The two MSRs below exist only if a control says so. */
    if ((allowed->word[CONTROL_PRIMARY] & MAY_BE_ONE(PRIMARY_SECONDARY_CONTROLS)) != 0)
        allowed->word[CONTROL_SECONDARY] = rdmsr(MSR_IA32_VMX_PROCBASED_CTLS2);
    if ((allowed->word[CONTROL_SECONDARY] & MAY_BE_ONE(SECONDARY_EPT | SECONDARY_VPID)) != 0)
        vmx_capability.ept_vpid = rdmsr(MSR_IA32_VMX_EPT_VPID_CAP);
    if (!vpid_usable(vmx_capability.ept_vpid))
        allowed->word[CONTROL_SECONDARY] &= ~MAY_BE_ONE(SECONDARY_VPID);
    if (!perf_global_ctrl_exists())
        allowed->word[CONTROL_EXIT] &= ~MAY_BE_ONE(EXIT_LOAD_PERF_GLOBAL_CTRL | EXIT_SAVE_PERF_GLOBAL_CTRL);
}

static const char *check_controls(void)
{
    struct control_capability allowed;

    read_controls(&allowed);
    struct control_verdict verdict = controls_combine(&allowed, &vmx_capability.controls);
    if (verdict.row == NULL)
        return NULL;
    return refuse("this CPU does not let the %s control \"%s\" be %d, which Umbra needs because %s: a newer "
                  "CPU is needed, or the hypervisor below has to offer it",
                  control_word_name(verdict.word), verdict.row->name, verdict.must_be_one ? 0 : 1,
                  verdict.row->reason);
}

static const char *check_ept(void)
{
    static const struct {
        u64 bit;
        const char *name;
    } needed[] = {
        {EPT_WALK_4, "4-level tables"},
        {EPT_WRITE_BACK, "write-back paging structures"},
        {EPT_PAGE_2M, "2-MByte pages"},
        {EPT_INVEPT, "INVEPT"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
        if ((vmx_capability.ept_vpid & needed[i].bit) == 0) {
            return refuse("this CPU's EPT lacks %s (IA32_VMX_EPT_VPID_CAP is %lx): a newer CPU is needed, or "
                          "the hypervisor below has to offer it",
                          needed[i].name, vmx_capability.ept_vpid);
        }
    }
    if ((vmx_capability.ept_vpid & (EPT_INVEPT_SINGLE_CONTEXT | EPT_INVEPT_ALL_CONTEXTS)) == 0)
        return "this CPU's INVEPT has no type that Umbra can use: the hypervisor below has to offer "
               "single-context INVEPT";
    return NULL;
}

static const char *check_control_registers(void)
{
    vmx_capability.cr0_fixed0 = rdmsr(MSR_IA32_VMX_CR0_FIXED0);
    vmx_capability.cr0_fixed1 = rdmsr(MSR_IA32_VMX_CR0_FIXED1);
    vmx_capability.cr4_fixed0 = rdmsr(MSR_IA32_VMX_CR4_FIXED0);
    vmx_capability.cr4_fixed1 = rdmsr(MSR_IA32_VMX_CR4_FIXED1);
    vmx_capability.cr0_forced = vmx_capability.cr0_fixed0 & ~(CR0_PE | CR0_PG);
    if ((vmx_capability.cr4_fixed0 & CR4_GUEST_OWNED) != 0 || (vmx_capability.cr0_forced & ~CR0_NE) != 0) {
        return refuse("this CPU requires control-register bits in VMX operation that a guest must be free to "
                      "clear (IA32_VMX_CR0_FIXED0 is %lx, IA32_VMX_CR4_FIXED0 is %lx): no such CPU is known, "
                      "please report it",
                      vmx_capability.cr0_fixed0, vmx_capability.cr4_fixed0);
    }
    return NULL;
}

const char *vmx_probe(struct tdp_config *config)
{
    const char *refusal = check_firmware();
    if (refusal != NULL)
        return refusal;
    vmx_capability.revision = (u32)(rdmsr(MSR_IA32_VMX_BASIC) & VMX_BASIC_REVISION);
    if ((refusal = check_controls()) != NULL || (refusal = check_ept()) != NULL ||
        (refusal = check_control_registers()) != NULL)
        return refusal;

    *config = (struct tdp_config){
        .format = TDP_EPT,
        .mode_based_execute = (vmx_capability.controls.word[CONTROL_SECONDARY] & SECONDARY_MBEC) != 0,
        .execute_only = (vmx_capability.ept_vpid & EPT_EXECUTE_ONLY) != 0,
        .accessed_dirty = (vmx_capability.ept_vpid & EPT_ACCESSED_DIRTY) != 0,
        .page_1g = (vmx_capability.ept_vpid & EPT_PAGE_1G) != 0,
        .maxphyaddr = cpuid(0x80000008, 0).eax & 0xff,
    };
    return NULL;
}

static bool alike(const struct vmx_capability *a, const struct vmx_capability *b)
{
    return a->revision == b->revision && a->ept_vpid == b->ept_vpid && a->cr0_fixed0 == b->cr0_fixed0 &&
           a->cr0_fixed1 == b->cr0_fixed1 && a->cr4_fixed0 == b->cr4_fixed0 &&
           a->cr4_fixed1 == b->cr4_fixed1 &&
           memcmp(a->controls.word, b->controls.word, sizeof(a->controls.word)) == 0;
}

const char *vmx_match(void)
{
    struct vmx_capability first = vmx_capability;
    struct tdp_config config;
    const char *refusal = vmx_probe(&config);

    if (refusal != NULL)
        return refusal;
    if (!alike(&first, &vmx_capability))
        return "its VMX is not that of the boot CPU: all CPUs of a machine have to be alike";
    if ((rdmsr(MSR_IA32_VMX_MISC) & VMX_MISC_ACTIVITY_SIPI) == 0 ||
        (vmx_capability.ept_vpid & EPT_INVEPT_ALL_CONTEXTS) == 0)
        return "its VMX cannot wait for a start-up IPI, or has no INVEPT of all contexts, which Umbra needs "
               "with more than one CPU: the hypervisor below has to offer it, or to give the machine one CPU";
    return NULL;
}
