/* SPDX-License-Identifier: MIT */
/*
 * The capability MSRs that L1 reads. Each bit is offered only if the hardware has it and the table below says
 * how it is done. Source: SDM vol. 3D appendix A.
 */
#include "nested/vmx-capability.h"

#include "arch/x86.h"
#include "nested/vmx-fields.h"

/* Short names keep the table readable. How it comes that L1's setting has its effect on L2 is for readers
 * only. */
#define PIN(control, how)                                                                                    \
    {                                                                                                        \
        PIN_##control, CONTROL_PIN                                                                           \
    }
#define PRIMARY(control, how)                                                                                \
    {                                                                                                        \
        PRIMARY_##control, CONTROL_PRIMARY                                                                   \
    }
#define SECONDARY(control, how)                                                                              \
    {                                                                                                        \
        SECONDARY_##control, CONTROL_SECONDARY                                                               \
    }
#define EXIT(control, how)                                                                                   \
    {                                                                                                        \
        EXIT_##control, CONTROL_EXIT                                                                         \
    }
#define ENTRY(control, how)                                                                                  \
    {                                                                                                        \
        ENTRY_##control, CONTROL_ENTRY                                                                       \
    }

const struct nested_control_row nested_control_rows[] = {
    PIN(EXTERNAL_INTERRUPT_EXITING, "interrupts are L1's, so its setting is the hardware's"),
    PIN(NMI_EXITING, "NMIs always exit, and go to L1 if it asked for them"),
    PIN(VIRTUAL_NMIS, "L1's setting is the hardware's while L2 runs"),
    PIN(PREEMPTION_TIMER, "Umbra does not use the timer, so L2 has it"),
    PIN(POSTED_INTERRUPTS, "interrupts and the descriptor's memory are L1's, so the hardware's are"),

    PRIMARY(INTERRUPT_WINDOW, "L1's setting is the hardware's"),
    PRIMARY(TSC_OFFSETTING, "Umbra has no offset of its own"),
    PRIMARY(HLT_EXITING, "L1's setting is the hardware's"),
    PRIMARY(INVLPG_EXITING, "L1's setting is the hardware's"),
    PRIMARY(MWAIT_EXITING, "L1's setting is the hardware's"),
    PRIMARY(RDPMC_EXITING, "L1's setting is the hardware's"),
    PRIMARY(RDTSC_EXITING, "L1's setting is the hardware's"),
    PRIMARY(CR3_LOAD_EXITING, "L1's setting is the hardware's"),
    PRIMARY(CR3_STORE_EXITING, "L1's setting is the hardware's"),
    PRIMARY(CR8_LOAD_EXITING, "L1's setting is the hardware's"),
    PRIMARY(CR8_STORE_EXITING, "L1's setting is the hardware's"),
    PRIMARY(TPR_SHADOW, "L1's virtual-APIC page is a page of the hardware's at the same address"),
    PRIMARY(NMI_WINDOW, "L1's setting is the hardware's, besides Umbra's own use"),
    PRIMARY(MOV_DR_EXITING, "L1's setting is the hardware's"),
    PRIMARY(IO_EXITING, "L1's setting is the hardware's"),
    PRIMARY(IO_BITMAPS, "devices are L1's, so its bitmaps are the hardware's at the same address"),
    PRIMARY(MONITOR_TRAP_FLAG, "L1's setting is the hardware's, besides Umbra's own use"),
    PRIMARY(MSR_BITMAPS, "L2 runs with L1's bitmaps and Umbra's, merged"),
    PRIMARY(MONITOR_EXITING, "L1's setting is the hardware's"),
    PRIMARY(PAUSE_EXITING, "L1's setting is the hardware's"),
    PRIMARY(SECONDARY_CONTROLS, "some of them are offered"),

    SECONDARY(APIC_ACCESSES, "L1's APIC-access page is a page of the hardware's at the same address"),
    SECONDARY(EPT, "L1's tables are shadowed"),
    SECONDARY(DESCRIPTOR_TABLE_EXITING, "L1's setting is the hardware's"),
    SECONDARY(RDTSCP, "L1's setting is the hardware's"),
    SECONDARY(X2APIC_MODE, "the virtual-APIC page is the hardware's"),
    SECONDARY(VPID, "each VPID of L1 gets a tag of its own, or the tag is flushed"),
    SECONDARY(WBINVD_EXITING, "L1's setting is the hardware's"),
    SECONDARY(UNRESTRICTED_GUEST, "Umbra itself runs on CPUs only that have it"),
    SECONDARY(APIC_REGISTERS, "the virtual-APIC page is the hardware's"),
    SECONDARY(VIRTUAL_INTERRUPTS, "the virtual-APIC page is the hardware's, and the guest interrupt status"),
    SECONDARY(PAUSE_LOOP_EXITING, "L1's setting is the hardware's"),
    SECONDARY(RDRAND_EXITING, "L1's setting is the hardware's"),
    SECONDARY(INVPCID, "L1's setting is the hardware's"),
    SECONDARY(VM_FUNCTIONS, "VMFUNC of L2 exits, and Umbra exchanges the shadow"),
    SECONDARY(RDSEED_EXITING, "L1's setting is the hardware's"),
    SECONDARY(VMCS_SHADOWING, "VMREAD and VMWRITE of L2 exit, and Umbra executes those that L1 lets through"),
    SECONDARY(PML, "the shadow knows which of L1's dirty flags a write sets, and writes the log"),
    SECONDARY(EPT_VIOLATION_VE, "the shadow knows which violations are L1's and convertible"),
    SECONDARY(XSAVES, "L1's setting is the hardware's, its bitmap too"),
    SECONDARY(MBEC, "shadow tables always have both execute permissions"),
    SECONDARY(TSC_SCALING, "Umbra does not scale, so L1's multiplier is the hardware's"),
    SECONDARY(USER_WAIT_PAUSE, "L1's setting is the hardware's"),

    EXIT(SAVE_DEBUG, "Umbra saves them at each exit and hands them on if L1 asks"),
    EXIT(HOST_64, "L1's host state is loaded by Umbra in either mode"),
    EXIT(ACKNOWLEDGE_INTERRUPT, "L1's setting is the hardware's"),
    EXIT(SAVE_PAT, "Umbra saves it at each exit and hands it on if L1 asks"),
    EXIT(LOAD_PAT, "loaded with L1's host state"),
    EXIT(SAVE_EFER, "Umbra saves it at each exit and hands it on if L1 asks"),
    EXIT(LOAD_EFER, "loaded with L1's host state"),
    EXIT(SAVE_PREEMPTION_TIMER, "the hardware saves the timer that L2 had"),
    EXIT(CLEAR_BNDCFGS, "cleared with L1's host state"),
    EXIT(LOAD_CET, "loaded with L1's host state"),
    EXIT(LOAD_PKRS, "loaded with L1's host state"),
    EXIT(LOAD_PERF_GLOBAL_CTRL, "loaded with L1's host state"),

    ENTRY(LOAD_DEBUG, "L2's debug state is loaded from vmcs02, whoever it comes from"),
    ENTRY(IA32E_GUEST, "L1's setting is the hardware's"),
    ENTRY(LOAD_PAT, "L2's PAT is loaded from vmcs02, whoever it comes from"),
    ENTRY(LOAD_EFER, "L2's EFER is loaded from vmcs02, whoever it comes from"),
    ENTRY(LOAD_BNDCFGS, "loaded from vmcs02, whoever it comes from"),
    ENTRY(LOAD_CET, "loaded from vmcs02, whoever it comes from"),
    ENTRY(LOAD_PKRS, "loaded from vmcs02, whoever it comes from"),
    ENTRY(LOAD_PERF_GLOBAL_CTRL, "loaded from vmcs02, whoever it comes from"),
};

#undef PIN
#undef PRIMARY
#undef SECONDARY
#undef EXIT
#undef ENTRY

const size_t nested_control_count = ARRAY_SIZE(nested_control_rows);

/* Of EPT: what shadow tables can do where Umbra's own can. */
#define EPT_IMPLEMENTED                                                                                      \
    (EPT_EXECUTE_ONLY | EPT_WALK_4 | EPT_WRITE_BACK | EPT_PAGE_2M | EPT_PAGE_1G | EPT_INVEPT |               \
     EPT_ACCESSED_DIRTY | EPT_ADVANCED_INFORMATION | EPT_INVEPT_SINGLE_CONTEXT | EPT_INVEPT_ALL_CONTEXTS)
/* Whatever the hardware has: Umbra executes L1's INVVPID and drops what it names, or more. */
#define INVVPID_EMULATED                                                                                     \
    (VPID_INVVPID | VPID_INVVPID_ADDRESS | VPID_INVVPID_SINGLE_CONTEXT | VPID_INVVPID_ALL_CONTEXTS |         \
     VPID_INVVPID_RETAINING_GLOBALS)

/* Controls that are 1 in CPUs that do not know them: SDM vol. 3D A.3.1, A.3.2, A.4, A.5. */
static const u32 default1[CONTROL_WORDS] = {
    [CONTROL_PIN] = 0x00000016,
    [CONTROL_PRIMARY] = 0x0401e172,
    [CONTROL_EXIT] = 0x00036dff,
    [CONTROL_ENTRY] = 0x000011ff,
};

struct control_msrs {
    u32 plain, precise; /* the TRUE MSR; equal: there is only one */
};

static const struct control_msrs control_msrs[CONTROL_WORDS] = {
    [CONTROL_PIN] = {MSR_IA32_VMX_PINBASED_CTLS, MSR_IA32_VMX_TRUE_PINBASED_CTLS},
    [CONTROL_PRIMARY] = {MSR_IA32_VMX_PROCBASED_CTLS, MSR_IA32_VMX_TRUE_PROCBASED_CTLS},
    [CONTROL_SECONDARY] = {MSR_IA32_VMX_PROCBASED_CTLS2, MSR_IA32_VMX_PROCBASED_CTLS2},
    [CONTROL_EXIT] = {MSR_IA32_VMX_EXIT_CTLS, MSR_IA32_VMX_TRUE_EXIT_CTLS},
    [CONTROL_ENTRY] = {MSR_IA32_VMX_ENTRY_CTLS, MSR_IA32_VMX_TRUE_ENTRY_CTLS},
};

struct nested_vmx_capability nested_vmx_capability;

static u64 hardware_msr(const struct vmx_hardware *hardware, u32 msr)
{
    return hardware->msr[msr - MSR_IA32_VMX_BASIC];
}

static void set_msr(struct nested_vmx_capability *capability, u32 msr, u64 value)
{
    capability->msr[msr - MSR_IA32_VMX_BASIC] = value;
}

static bool is_precise(u64 basic)
{
    return (basic & VMX_BASIC_TRUE_CONTROLS) != 0;
}

u64 nested_vmx_allowed(const struct nested_vmx_capability *capability, enum control_word word)
{
    bool precise = is_precise(nested_vmx_msr(capability, MSR_IA32_VMX_BASIC));

    return nested_vmx_msr(capability, precise ? control_msrs[word].precise : control_msrs[word].plain);
}

/* --- controls --- */

static u64 implemented(enum control_word word, const struct vmx_hardware *hardware)
{
    const u64 counters = word == CONTROL_EXIT    ? EXIT_LOAD_PERF_GLOBAL_CTRL
                         : word == CONTROL_ENTRY ? ENTRY_LOAD_PERF_GLOBAL_CTRL
                                                 : 0;
    u64 bits = 0;

    for (size_t i = 0; i < nested_control_count; i++) {
        if (nested_control_rows[i].word == word)
            bits |= nested_control_rows[i].bit;
    }
    return hardware->perf_global_ctrl ? bits : bits & ~counters;
}

/*
 * What must be 1 for the hardware must be 1 for L1; what is 1 by default and has no name must be, too. The
 * MSRs without TRUE demand all of the default ones (SDM vol. 3D A.2).
 */
static void compute_word(const struct vmx_hardware *hardware, enum control_word word,
                         struct nested_vmx_capability *capability)
{
    bool precise = is_precise(hardware_msr(hardware, MSR_IA32_VMX_BASIC));
    u64 real = hardware_msr(hardware, precise ? control_msrs[word].precise : control_msrs[word].plain);
    u64 known = implemented(word, hardware);
    u64 must = (real & BITS(31, 0)) | (default1[word] & ~known);
    u64 may = (real >> 32 & (known | default1[word])) | must;

    set_msr(capability, control_msrs[word].precise, may << 32 | must);
    set_msr(capability, control_msrs[word].plain, may << 32 | must | default1[word]);
    if (!precise && control_msrs[word].plain != control_msrs[word].precise)
        set_msr(capability, control_msrs[word].precise, 0);
}

/* --- the other MSRs --- */

static u64 basic(const struct vmx_hardware *hardware)
{
    const u64 as_hardware = VMX_BASIC_INS_OUTS | VMX_BASIC_TRUE_CONTROLS | VMX_BASIC_ANY_ERROR_CODE;

    return VMCS12_REVISION | PAGE_SIZE << VMX_BASIC_REGION_SHIFT | VMX_BASIC_WRITE_BACK |
           (hardware_msr(hardware, MSR_IA32_VMX_BASIC) & as_hardware);
}

/*
 * L2 in HLT, or in wait-for-SIPI, is a CPU in that state; shutdown is not offered: what wakes a CPU up from
 * it differs. VMWRITE is Umbra's, so it can write any field.
 */
static u64 misc(const struct vmx_hardware *hardware)
{
    const u64 as_hardware = VMX_MISC_TIMER_RATE | VMX_MISC_STORES_LMA | VMX_MISC_ACTIVITY_HLT |
                            VMX_MISC_ACTIVITY_SIPI | VMX_MISC_INJECT_LENGTH_0;

    return (hardware_msr(hardware, MSR_IA32_VMX_MISC) & as_hardware) | VMX_MISC_VMWRITE_ANY |
           (u64)CR3_TARGETS << VMX_MISC_CR3_TARGETS_SHIFT;
}

static u64 ept_vpid(const struct vmx_hardware *hardware, const struct nested_vmx_capability *capability)
{
    u64 real = hardware_msr(hardware, MSR_IA32_VMX_EPT_VPID_CAP);
    u64 offered = 0;

    if (nested_vmx_offers(capability, CONTROL_SECONDARY, SECONDARY_EPT))
        offered |= real & EPT_IMPLEMENTED;
    if (nested_vmx_offers(capability, CONTROL_SECONDARY, SECONDARY_VPID))
        offered |= INVVPID_EMULATED;
    return offered;
}

/* Bits that the guest may set with Umbra below, whatever else the CPU has. */
static u64 cr4_fixed1(const struct vmx_hardware *hardware)
{
    return hardware_msr(hardware, MSR_IA32_VMX_CR4_FIXED1) & (CR4_GUEST_OWNED | CR4_VMXE);
}

/* --- bits of MSRs that the VMCS has fields of --- */

#define S_CET_SHADOW_STACK BITS(1, 0)
#define S_CET_IBT          (BITS(5, 2) | BITS(63, 10))
#define CR3_LAM            (BIT(61) | BIT(62))

static void compute_valid_bits(const struct vmx_hardware *hardware, struct nested_vmx_capability *capability)
{
    capability->maxphyaddr = hardware->maxphyaddr;
    capability->la57 = hardware->la57;
    capability->rtm = hardware->rtm;
    capability->perf_global_valid = hardware->perf_global_valid;
    capability->efer_valid = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    capability->debugctl_valid = hardware->debugctl_valid;
    capability->s_cet_valid =
        (hardware->cet_shadow_stack ? S_CET_SHADOW_STACK : 0) | (hardware->cet_ibt ? S_CET_IBT : 0);
    capability->cr3_valid = BITS(hardware->maxphyaddr - 1, 0) | (hardware->lam ? CR3_LAM : 0);
}

void nested_vmx_capability_compute(const struct vmx_hardware *hardware,
                                   struct nested_vmx_capability *capability)
{
    *capability = (struct nested_vmx_capability){0};
    set_msr(capability, MSR_IA32_VMX_BASIC, basic(hardware));
    for (unsigned word = 0; word < CONTROL_WORDS; word++)
        compute_word(hardware, (enum control_word)word, capability);
    set_msr(capability, MSR_IA32_VMX_MISC, misc(hardware));
    set_msr(capability, MSR_IA32_VMX_CR0_FIXED0, hardware_msr(hardware, MSR_IA32_VMX_CR0_FIXED0));
    set_msr(capability, MSR_IA32_VMX_CR0_FIXED1, hardware_msr(hardware, MSR_IA32_VMX_CR0_FIXED1));
    set_msr(capability, MSR_IA32_VMX_CR4_FIXED0, hardware_msr(hardware, MSR_IA32_VMX_CR4_FIXED0));
    set_msr(capability, MSR_IA32_VMX_CR4_FIXED1, cr4_fixed1(hardware));
    set_msr(capability, MSR_IA32_VMX_EPT_VPID_CAP, ept_vpid(hardware, capability));
    if (nested_vmx_offers(capability, CONTROL_SECONDARY, SECONDARY_VM_FUNCTIONS)) {
        set_msr(capability, MSR_IA32_VMX_VMFUNC,
                hardware_msr(hardware, MSR_IA32_VMX_VMFUNC) & VMFUNC_EPTP_SWITCHING);
    }
    vmcs12_offer_fields(capability);
    set_msr(capability, MSR_IA32_VMX_VMCS_ENUM, (u64)vmcs12_highest_index(capability) << 1);
    compute_valid_bits(hardware, capability);
}

bool nested_vmx_msr_exists(const struct nested_vmx_capability *capability, u32 msr)
{
    switch (msr) {
    case MSR_IA32_VMX_PROCBASED_CTLS2:
        return nested_vmx_offers(capability, CONTROL_PRIMARY, PRIMARY_SECONDARY_CONTROLS);
    case MSR_IA32_VMX_EPT_VPID_CAP:
        return nested_vmx_offers(capability, CONTROL_SECONDARY, SECONDARY_EPT | SECONDARY_VPID);
    case MSR_IA32_VMX_TRUE_PINBASED_CTLS:
    case MSR_IA32_VMX_TRUE_PROCBASED_CTLS:
    case MSR_IA32_VMX_TRUE_EXIT_CTLS:
    case MSR_IA32_VMX_TRUE_ENTRY_CTLS:
        return is_precise(nested_vmx_msr(capability, MSR_IA32_VMX_BASIC));
    case MSR_IA32_VMX_VMFUNC:
        return nested_vmx_offers(capability, CONTROL_SECONDARY, SECONDARY_VM_FUNCTIONS);
    case MSR_IA32_VMX_PROCBASED_CTLS3:
    case MSR_IA32_VMX_EXIT_CTLS2:
        return false;
    default:
        return msr >= MSR_IA32_VMX_BASIC && msr <= MSR_IA32_VMX_VMCS_ENUM;
    }
}
