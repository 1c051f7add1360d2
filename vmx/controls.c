/* SPDX-License-Identifier: MIT */
/*
 * One table per control word, in which every bit that the manual names has a use and a reason, and the
 * function that combines the tables with the capability MSRs. The guest keeps its CPU to itself, so nearly
 * all that could make it exit is forbidden.
 */
#include "vmx/controls.h"

static const struct control_row pin_rows[] = {
    {PIN_EXTERNAL_INTERRUPT_EXITING, CONTROL_FORBIDDEN, FEATURE_NONE, "external-interrupt exiting",
     "interrupts are the guest's"},
    {PIN_NMI_EXITING, CONTROL_REQUIRED, FEATURE_NONE, "NMI exiting",
     "virtual NMIs need it, and an NMI that comes while Umbra runs has to wait for the guest"},
    {PIN_VIRTUAL_NMIS, CONTROL_REQUIRED, FEATURE_NONE, "virtual NMIs",
     "only they tell when the guest can take an NMI"},
    {PIN_PREEMPTION_TIMER, CONTROL_FORBIDDEN, FEATURE_NONE, "activate VMX-preemption timer",
     "the guest is never preempted"},
    {PIN_POSTED_INTERRUPTS, CONTROL_FORBIDDEN, FEATURE_NONE, "process posted interrupts",
     "the local APIC is the guest's own"},
};

static const struct control_row primary_rows[] = {
    {PRIMARY_INTERRUPT_WINDOW, CONTROL_FORBIDDEN, FEATURE_NONE, "interrupt-window exiting",
     "Umbra injects no interrupts"},
    {PRIMARY_TSC_OFFSETTING, CONTROL_FORBIDDEN, FEATURE_NONE, "use TSC offsetting",
     "the guest has the real TSC"},
    {PRIMARY_HLT_EXITING, CONTROL_FORBIDDEN, FEATURE_NONE, "HLT exiting", "there is nobody else to run"},
    {PRIMARY_INVLPG_EXITING, CONTROL_FORBIDDEN, FEATURE_NONE, "INVLPG exiting",
     "with EPT the guest's paging is its own"},
    {PRIMARY_MWAIT_EXITING, CONTROL_FORBIDDEN, FEATURE_NONE, "MWAIT exiting", "power states are the guest's"},
    {PRIMARY_RDPMC_EXITING, CONTROL_FORBIDDEN, FEATURE_NONE, "RDPMC exiting", "the PMU is the guest's"},
    {PRIMARY_RDTSC_EXITING, CONTROL_FORBIDDEN, FEATURE_NONE, "RDTSC exiting", "the guest has the real TSC"},
    {PRIMARY_CR3_LOAD_EXITING, CONTROL_FORBIDDEN, FEATURE_NONE, "CR3-load exiting",
     "with EPT the guest's paging is its own"},
    {PRIMARY_CR3_STORE_EXITING, CONTROL_FORBIDDEN, FEATURE_NONE, "CR3-store exiting",
     "with EPT the guest's paging is its own"},
    {PRIMARY_TERTIARY_CONTROLS, CONTROL_FORBIDDEN, FEATURE_NONE, "activate tertiary controls",
     "nothing in them is needed; without them LOADIWKEY does not exit, RDMSRLIST and WRMSRLIST are #UD"},
    {PRIMARY_CR8_LOAD_EXITING, CONTROL_FORBIDDEN, FEATURE_NONE, "CR8-load exiting",
     "the local APIC is the guest's own"},
    {PRIMARY_CR8_STORE_EXITING, CONTROL_FORBIDDEN, FEATURE_NONE, "CR8-store exiting",
     "the local APIC is the guest's own"},
    {PRIMARY_TPR_SHADOW, CONTROL_FORBIDDEN, FEATURE_NONE, "use TPR shadow",
     "the local APIC is the guest's own"},
    {PRIMARY_NMI_WINDOW, CONTROL_SWITCHED, FEATURE_NONE, "NMI-window exiting",
     "a pending NMI is injected as soon as the guest can take it"},
    {PRIMARY_MOV_DR_EXITING, CONTROL_FORBIDDEN, FEATURE_NONE, "MOV-DR exiting",
     "debug registers are the guest's"},
    {PRIMARY_IO_EXITING, CONTROL_FORBIDDEN, FEATURE_NONE, "unconditional I/O exiting",
     "devices are the guest's"},
    {PRIMARY_IO_BITMAPS, CONTROL_FORBIDDEN, FEATURE_NONE, "use I/O bitmaps", "devices are the guest's"},
    {PRIMARY_MONITOR_TRAP_FLAG, CONTROL_SWITCHED, FEATURE_NONE, "monitor trap flag",
     "an access to Umbra's own memory is stepped over with it"},
    {PRIMARY_MSR_BITMAPS, CONTROL_REQUIRED, FEATURE_NONE, "use MSR bitmaps",
     "they are the allow-list of MSRs"},
    {PRIMARY_MONITOR_EXITING, CONTROL_FORBIDDEN, FEATURE_NONE, "MONITOR exiting",
     "power states are the guest's"},
    {PRIMARY_PAUSE_EXITING, CONTROL_FORBIDDEN, FEATURE_NONE, "PAUSE exiting", "there is nobody else to run"},
    {PRIMARY_SECONDARY_CONTROLS, CONTROL_REQUIRED, FEATURE_NONE, "activate secondary controls",
     "EPT and unrestricted guest are among them"},
};

/*
 * Some rows enable an instruction. Where the control is missing that instruction is #UD in the guest,
 * whatever CPUID says: no CPU is known that has the instruction and VMX with secondary controls but not the
 * control.
 */
static const struct control_row secondary_rows[] = {
    {SECONDARY_APIC_ACCESSES, CONTROL_FORBIDDEN, FEATURE_NONE, "virtualize APIC accesses",
     "the local APIC is the guest's own"},
    {SECONDARY_EPT, CONTROL_REQUIRED, FEATURE_NONE, "enable EPT", "it keeps Umbra's memory from the guest"},
    {SECONDARY_DESCRIPTOR_TABLE_EXITING, CONTROL_FORBIDDEN, FEATURE_NONE, "descriptor-table exiting",
     "descriptor tables are the guest's"},
    {SECONDARY_RDTSCP, CONTROL_WANTED, FEATURE_NONE, "enable RDTSCP", "the guest may use RDTSCP and RDPID"},
    {SECONDARY_X2APIC_MODE, CONTROL_FORBIDDEN, FEATURE_NONE, "virtualize x2APIC mode",
     "the local APIC is the guest's own"},
    {SECONDARY_VPID, CONTROL_WANTED, FEATURE_NONE, "enable VPID", "exits then flush no TLB"},
    {SECONDARY_WBINVD_EXITING, CONTROL_FORBIDDEN, FEATURE_NONE, "WBINVD exiting", "caches are the guest's"},
    {SECONDARY_UNRESTRICTED_GUEST, CONTROL_REQUIRED, FEATURE_NONE, "unrestricted guest",
     "the guest may run in real mode and without paging"},
    {SECONDARY_APIC_REGISTERS, CONTROL_FORBIDDEN, FEATURE_NONE, "APIC-register virtualization",
     "the local APIC is the guest's own"},
    {SECONDARY_VIRTUAL_INTERRUPTS, CONTROL_FORBIDDEN, FEATURE_NONE, "virtual-interrupt delivery",
     "the local APIC is the guest's own"},
    {SECONDARY_PAUSE_LOOP_EXITING, CONTROL_FORBIDDEN, FEATURE_NONE, "PAUSE-loop exiting",
     "there is nobody else to run"},
    {SECONDARY_RDRAND_EXITING, CONTROL_FORBIDDEN, FEATURE_NONE, "RDRAND exiting",
     "it holds no secret of Umbra"},
    {SECONDARY_INVPCID, CONTROL_WANTED, FEATURE_NONE, "enable INVPCID", "the guest may use INVPCID"},
    {SECONDARY_VM_FUNCTIONS, CONTROL_FORBIDDEN, FEATURE_NONE, "enable VM functions",
     "VMX is hidden, so VMFUNC is #UD"},
    {SECONDARY_VMCS_SHADOWING, CONTROL_FORBIDDEN, FEATURE_NONE, "VMCS shadowing",
     "VMX is hidden, so VMREAD and VMWRITE are #UD"},
    {SECONDARY_ENCLS_EXITING, CONTROL_FORBIDDEN, FEATURE_NONE, "enable ENCLS exiting",
     "enclaves are the guest's"},
    {SECONDARY_RDSEED_EXITING, CONTROL_FORBIDDEN, FEATURE_NONE, "RDSEED exiting",
     "it holds no secret of Umbra"},
    {SECONDARY_PML, CONTROL_FORBIDDEN, FEATURE_NONE, "enable PML", "Umbra keeps no log of written pages"},
    {SECONDARY_EPT_VIOLATION_VE, CONTROL_FORBIDDEN, FEATURE_NONE, "EPT-violation #VE",
     "EPT violations are Umbra's to judge"},
    {SECONDARY_CONCEAL_VMX_FROM_PT, CONTROL_WANTED, FEATURE_NONE, "conceal VMX from PT",
     "a trace of the guest does not show Umbra"},
    {SECONDARY_XSAVES, CONTROL_WANTED, FEATURE_NONE, "enable XSAVES/XRSTORS", "the guest may use them"},
    {SECONDARY_PASID_TRANSLATION, CONTROL_FORBIDDEN, FEATURE_NONE, "PASID translation",
     "PASIDs are the guest's own"},
    {SECONDARY_MBEC, CONTROL_WANTED, FEATURE_NONE, "mode-based execute control for EPT",
     "user and supervisor execution are separate permissions"},
    {SECONDARY_SPP, CONTROL_FORBIDDEN, FEATURE_NONE, "sub-page write permissions for EPT",
     "Umbra has no sub-page policy"},
    {SECONDARY_PT_GUEST_PHYSICAL, CONTROL_FORBIDDEN, FEATURE_NONE, "Intel PT uses guest physical addresses",
     "the guest may not use PT's output MSRs"},
    {SECONDARY_TSC_SCALING, CONTROL_FORBIDDEN, FEATURE_NONE, "use TSC scaling", "the guest has the real TSC"},
    {SECONDARY_USER_WAIT_PAUSE, CONTROL_WANTED, FEATURE_NONE, "enable user wait and pause",
     "the guest may use UMONITOR, UMWAIT and TPAUSE"},
    {SECONDARY_PCONFIG, CONTROL_FORBIDDEN, FEATURE_NONE, "enable PCONFIG", "PCONFIG is hidden, so it is #UD"},
    {SECONDARY_ENCLV_EXITING, CONTROL_FORBIDDEN, FEATURE_NONE, "enable ENCLV exiting",
     "enclaves are the guest's"},
    {SECONDARY_BUS_LOCK_DETECTION, CONTROL_FORBIDDEN, FEATURE_NONE, "VMM bus-lock detection",
     "there is nobody else to disturb"},
    {SECONDARY_INSTRUCTION_TIMEOUT, CONTROL_FORBIDDEN, FEATURE_NONE, "instruction timeout",
     "there is nobody else to disturb"},
};

static const struct control_row exit_rows[] = {
    {EXIT_SAVE_DEBUG, CONTROL_REQUIRED, FEATURE_NONE, "save debug controls",
     "the exit resets DR7 and IA32_DEBUGCTL, which are the guest's"},
    {EXIT_HOST_64, CONTROL_REQUIRED, FEATURE_NONE, "host address-space size", "Umbra runs in 64-bit mode"},
    {EXIT_LOAD_PERF_GLOBAL_CTRL, CONTROL_WANTED, FEATURE_PERF_GLOBAL_CTRL, "load IA32_PERF_GLOBAL_CTRL",
     "the guest's counters do not count Umbra"},
    {EXIT_ACKNOWLEDGE_INTERRUPT, CONTROL_FORBIDDEN, FEATURE_NONE, "acknowledge interrupt on exit",
     "interrupts are the guest's"},
    {EXIT_SAVE_PAT, CONTROL_REQUIRED, FEATURE_NONE, "save IA32_PAT", "the guest writes it without an exit"},
    {EXIT_LOAD_PAT, CONTROL_REQUIRED, FEATURE_NONE, "load IA32_PAT", "Umbra's own tables use Umbra's PAT"},
    {EXIT_SAVE_EFER, CONTROL_REQUIRED, FEATURE_NONE, "save IA32_EFER", "the guest writes it without an exit"},
    {EXIT_LOAD_EFER, CONTROL_REQUIRED, FEATURE_NONE, "load IA32_EFER", "Umbra's own tables use NX"},
    {EXIT_SAVE_PREEMPTION_TIMER, CONTROL_FORBIDDEN, FEATURE_NONE, "save VMX-preemption timer value",
     "the guest is never preempted"},
    {EXIT_CLEAR_BNDCFGS, CONTROL_WANTED, FEATURE_BNDCFGS, "clear IA32_BNDCFGS",
     "with it set, Umbra's branches would reset the guest's bound registers"},
    {EXIT_CONCEAL_VMX_FROM_PT, CONTROL_WANTED, FEATURE_NONE, "conceal VMX from PT",
     "a trace of the guest does not show Umbra"},
    {EXIT_CLEAR_RTIT_CTL, CONTROL_WANTED, FEATURE_RTIT_CTL, "clear IA32_RTIT_CTL",
     "a trace of the guest does not show Umbra"},
    {EXIT_CLEAR_LBR_CTL, CONTROL_WANTED, FEATURE_LBR_CTL, "clear IA32_LBR_CTL",
     "the guest's branch records do not show Umbra"},
    {EXIT_CLEAR_UINV, CONTROL_FORBIDDEN, FEATURE_NONE, "clear UINV",
     "Umbra takes no interrupts, so the guest's value may stay"},
    {EXIT_LOAD_CET, CONTROL_WANTED, FEATURE_CET, "load CET state", "Umbra has no shadow stack"},
    {EXIT_LOAD_PKRS, CONTROL_WANTED, FEATURE_PKRS, "load PKRS", "Umbra has its own"},
    {EXIT_SAVE_PERF_GLOBAL_CTRL, CONTROL_WANTED, FEATURE_PERF_GLOBAL_CTRL, "save IA32_PERF_GLOBAL_CTRL",
     "the guest writes it without an exit, so it can be loaded only where it is also saved"},
    {EXIT_SECONDARY_CONTROLS, CONTROL_FORBIDDEN, FEATURE_NONE, "activate secondary controls",
     "nothing in them is needed"},
};

static const struct control_row entry_rows[] = {
    {ENTRY_LOAD_DEBUG, CONTROL_REQUIRED, FEATURE_NONE, "load debug controls",
     "the exit resets DR7 and IA32_DEBUGCTL, which are the guest's"},
    {ENTRY_IA32E_GUEST, CONTROL_SWITCHED, FEATURE_NONE, "IA-32e mode guest",
     "it follows the guest's EFER.LMA"},
    {ENTRY_TO_SMM, CONTROL_FORBIDDEN, FEATURE_NONE, "entry to SMM", "Umbra is no SMM monitor"},
    {ENTRY_END_DUAL_MONITOR, CONTROL_FORBIDDEN, FEATURE_NONE, "deactivate dual-monitor treatment",
     "Umbra is no SMM monitor"},
    {ENTRY_LOAD_PERF_GLOBAL_CTRL, CONTROL_WANTED, FEATURE_PERF_GLOBAL_CTRL, "load IA32_PERF_GLOBAL_CTRL",
     "the guest's counters do not count Umbra"},
    {ENTRY_LOAD_PAT, CONTROL_REQUIRED, FEATURE_NONE, "load IA32_PAT", "the guest has its own"},
    {ENTRY_LOAD_EFER, CONTROL_REQUIRED, FEATURE_NONE, "load IA32_EFER", "the guest has its own"},
    {ENTRY_LOAD_BNDCFGS, CONTROL_WANTED, FEATURE_BNDCFGS, "load IA32_BNDCFGS", "the exit clears it"},
    {ENTRY_CONCEAL_VMX_FROM_PT, CONTROL_WANTED, FEATURE_NONE, "conceal VMX from PT",
     "a trace of the guest does not show Umbra"},
    {ENTRY_LOAD_RTIT_CTL, CONTROL_WANTED, FEATURE_RTIT_CTL, "load IA32_RTIT_CTL", "the exit clears it"},
    {ENTRY_LOAD_UINV, CONTROL_FORBIDDEN, FEATURE_NONE, "load UINV",
     "Umbra takes no interrupts, so the guest's value may stay"},
    {ENTRY_LOAD_CET, CONTROL_WANTED, FEATURE_CET, "load CET state", "the exit replaces it"},
    {ENTRY_LOAD_LBR_CTL, CONTROL_WANTED, FEATURE_LBR_CTL, "load guest IA32_LBR_CTL", "the exit clears it"},
    {ENTRY_LOAD_PKRS, CONTROL_WANTED, FEATURE_PKRS, "load PKRS", "the exit replaces it"},
};

static const struct {
    const char *name;
    const struct control_row *rows;
    size_t count;
} words[CONTROL_WORDS] = {
    [CONTROL_PIN] = {"pin-based VM-execution", pin_rows, ARRAY_SIZE(pin_rows)},
    [CONTROL_PRIMARY] = {"primary processor-based VM-execution", primary_rows, ARRAY_SIZE(primary_rows)},
    [CONTROL_SECONDARY] = {"secondary processor-based VM-execution", secondary_rows,
                           ARRAY_SIZE(secondary_rows)},
    [CONTROL_EXIT] = {"VM-exit", exit_rows, ARRAY_SIZE(exit_rows)},
    [CONTROL_ENTRY] = {"VM-entry", entry_rows, ARRAY_SIZE(entry_rows)},
};

const char *control_word_name(enum control_word word)
{
    return words[word].name;
}

const struct control_row *control_rows(enum control_word word, size_t *count)
{
    *count = words[word].count;
    return words[word].rows;
}

static bool may_be_one(u64 capability, u64 bit)
{
    return ((capability >> 32) & bit) != 0;
}

static bool must_be_one(u64 capability, u64 bit)
{
    return (capability & bit) != 0;
}

/* A feature is there if every control of it, in every word, is. */
static void find_features(const struct control_capability *capability, bool *feature)
{
    for (unsigned i = 0; i < CONTROL_FEATURES; i++)
        feature[i] = true;
    for (unsigned w = 0; w < CONTROL_WORDS; w++) {
        for (const struct control_row *row = words[w].rows; row < words[w].rows + words[w].count; row++) {
            if (row->feature != FEATURE_NONE && !may_be_one(capability->word[w], row->bit))
                feature[row->feature] = false;
        }
    }
}

/* True if the CPU allows what the row needs; *on says whether the bit is set. */
static bool decide(const struct control_row *row, u64 capability, const bool *feature, bool *on)
{
    bool one = may_be_one(capability, row->bit);
    bool zero = !must_be_one(capability, row->bit);

    switch (row->use) {
    case CONTROL_REQUIRED:
        *on = true;
        return one;
    case CONTROL_WANTED:
        *on = one && feature[row->feature];
        return *on || zero;
    case CONTROL_SWITCHED:
        *on = false;
        return one && zero;
    case CONTROL_FORBIDDEN:
        *on = false;
        return zero;
    }
    return false;
}

struct control_verdict controls_combine(const struct control_capability *capability,
                                        struct vmx_controls *controls)
{
    find_features(capability, controls->feature);
    for (unsigned w = 0; w < CONTROL_WORDS; w++) {
        u64 allowed = capability->word[w];
        u64 value = allowed & BITS(31, 0);

        for (const struct control_row *row = words[w].rows; row < words[w].rows + words[w].count; row++) {
            bool on;
            if (!decide(row, allowed, controls->feature, &on))
                return (struct control_verdict){row, (enum control_word)w, must_be_one(allowed, row->bit)};
            if (on)
                value |= row->bit;
        }
        controls->word[w] = (u32)value;
    }
    return (struct control_verdict){NULL, CONTROL_WORDS, false};
}
