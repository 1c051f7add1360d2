/* SPDX-License-Identifier: MIT */
/*
 * RDMSR and WRMSR that the permission map intercepts. A value that the CPU itself refuses becomes the guest's
 * #GP, because every write-through is tried on the real MSR. What the policy denies is #GP, counted, and
 * logged once per MSR.
 */
#include "arch/cpu.h"
#include "arch/msr.h"
#include "arch/print.h"
#include "drivers/local-apic.h"
#include "mm/memmap.h"
#include "vcpu/msr-policy.h"
#include "vcpu/nested.h"
#include "vcpu/shootdown.h"

static bool on_intel(void)
{
    return machine.tdp.config.format == TDP_EPT;
}

/* The first write of each kind gets a line. Two CPUs may race for it: then there are two lines. */
static void log_dropped_microcode(u32 msr)
{
    static bool logged;
    if (!logged)
        log_info("guest microcode update through MSR %x dropped: the CPU keeps what firmware loaded", msr);
    logged = true;
}

/* Logs an MSR once. When the memory of what was logged is full, further ones are counted only.
 * Whose exchange fills an entry, logs it. */
static void log_denied_once(u32 msr, const char *access)
{
    static u64 logged[64];
    const u64 entry = BIT(32) | msr; /* not 0, whatever the number */
    u64 there = entry;

    for (unsigned i = 0; i < ARRAY_SIZE(logged); i++) {
        there = 0;
        if (__atomic_compare_exchange_n(&logged[i], &there, entry, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED) ||
            there == entry)
            break;
    }
    if (there != 0)
        return;
    log_debug("guest %s of MSR %x denied: %s", access, msr, msr_policy_reason(msr, on_intel()));
}

static enum exit_action deny(struct vcpu *vcpu, u32 msr, const char *access)
{
    vcpu->accounting.denied_msrs++;
    log_denied_once(msr, access);
    return EXIT_GP;
}

/*
 * Local machine check exceptions stay as firmware allowed them: machine checks are the guest's. A CPU that
 * has no such MSR any more, because nothing that it controls exists, still reads as locked.
 */
static u64 read_feature_control(void)
{
    u64 real = 0;
    (void)rdmsr_safe(MSR_IA32_FEATURE_CONTROL, &real);
    return IA32_FEATURE_CONTROL_LOCK | (machine.nested ? IA32_FEATURE_CONTROL_VMX_OUTSIDE_SMX : 0) |
           (real & IA32_FEATURE_CONTROL_LMCE_ON);
}

/* Those that the policy denies or answers for a CPU without virtualization: nested/ has others for them. */
static bool is_nested_msr(u32 msr)
{
    if (!machine.nested)
        return false;
    if (on_intel())
        return msr >= MSR_IA32_VMX_BASIC && msr <= MSR_IA32_VMX_EXIT_CTLS2;
    return msr == MSR_VM_CR || msr == MSR_VM_HSAVE_PA || msr == MSR_TSC_RATIO;
}

static bool read_masked(u32 msr, u64 clear, u64 set, u64 *value)
{
    u64 real;
    if (!rdmsr_safe(msr, &real))
        return false;
    *value = (real & ~clear) | set;
    return true;
}

/* False: #GP. */
static bool read_handled(const struct vcpu *vcpu, u32 msr, u64 *value)
{
    switch (msr) {
    case MSR_IA32_APIC_BASE:
        return read_masked(msr, vcpu->apic_disabled ? IA32_APIC_BASE_EN : 0, 0, value);
    case MSR_IA32_FEATURE_CONTROL:
        *value = read_feature_control();
        return true;
    case MSR_IA32_MISC_ENABLE:
        return read_masked(msr, 0, IA32_MISC_ENABLE_PEBS_UNAVAILABLE, value);
    case MSR_IA32_PERF_CAPABILITIES:
        return read_masked(msr, IA32_PERF_CAPABILITIES_PEBS, 0, value);
    case MSR_VM_CR:
        *value = VM_CR_LOCK | VM_CR_SVMDIS;
        return true;
    default:
        if (!mtrr_owns(&machine.mtrr, msr))
            return false;
        *value = mtrr_read(&machine.mtrr, msr);
        return true;
    }
}

/*
 * With the local APIC off a CPU gets no NMI from another, so the real one stays on where there are several:
 * in the state after a reset, with everything masked, it does all that a guest can see of one that is off,
 * but for the interrupt pins. Leaving x2APIC mode leads through the real thing.
 */
static bool disable_apic(struct vcpu *vcpu, u64 real, u64 value)
{
    if ((value & IA32_APIC_BASE_EXTD) != 0)
        return false;
    if ((real & IA32_APIC_BASE_EXTD) != 0 && !wrmsr_safe(MSR_IA32_APIC_BASE, value))
        return false;
    if (!wrmsr_safe(MSR_IA32_APIC_BASE, value | IA32_APIC_BASE_EN))
        return false;
    local_apic_reset();
    vcpu->apic_disabled = true;
    return true;
}

/* Umbra reaches the APIC where it was at boot, so it may not be moved. x2APIC mode comes after xAPIC mode. */
static bool write_apic_base_of_many(struct vcpu *vcpu, u64 value)
{
    u64 real = 0;

    if (!rdmsr_safe(MSR_IA32_APIC_BASE, &real) ||
        ((real ^ value) & ~(IA32_APIC_BASE_EN | IA32_APIC_BASE_EXTD)) != 0)
        return false;
    if ((value & IA32_APIC_BASE_EN) == 0)
        return disable_apic(vcpu, real, value);
    if (vcpu->apic_disabled && (value & IA32_APIC_BASE_EXTD) != 0)
        return false;
    if (!wrmsr_safe(MSR_IA32_APIC_BASE, value))
        return false;
    vcpu->apic_disabled = false;
    return true;
}

/* The registers would answer at that page before the second-level tables' target could: keep them off
 * Umbra's. */
static bool write_apic_base(struct vcpu *vcpu, u64 value)
{
    u64 page = align_down(value, PAGE_SIZE);
    if (machine.cpus > 1)
        return write_apic_base_of_many(vcpu, value);
    if (page >= machine.physical_limit || umbra_region_overlaps(page, PAGE_SIZE))
        return false;
    return wrmsr_safe(MSR_IA32_APIC_BASE, value);
}

/*
 * With XD off, the tables that Umbra itself runs on would have a reserved bit set. The PEBS bit is read-only,
 * and the guest writes back what it was told.
 */
static bool write_misc_enable(u64 value)
{
    u64 real;
    if ((value & IA32_MISC_ENABLE_XD_DISABLE) != 0 || !rdmsr_safe(MSR_IA32_MISC_ENABLE, &real))
        return false;
    return wrmsr_safe(MSR_IA32_MISC_ENABLE, (value & ~IA32_MISC_ENABLE_PEBS_UNAVAILABLE) |
                                                (real & IA32_MISC_ENABLE_PEBS_UNAVAILABLE));
}

static bool write_xss(u64 value)
{
    return (value & IA32_XSS_PT) == 0 && wrmsr_safe(MSR_IA32_XSS, value);
}

/*
 * Under a set LOCK, LOCK and SVMDIS ignore writes (APM vol. 2 15.30.1). The other bits concern INIT, A20 and
 * debug ports and are kept from the guest the same way.
 */
static bool write_vm_cr(u64 value)
{
    return (value & VM_CR_RESERVED) == 0;
}

static bool is_fixed_mtrr(u32 msr)
{
    return msr >= MSR_IA32_MTRR_FIX64K_00000 && msr <= MSR_IA32_MTRR_FIX4K_F8000;
}

/*
 * Only what is in effect shapes the tables: the manual's procedure (SDM vol. 3A 12.11.8) changes ranges while
 * all MTRRs are off, and so retypes twice however many registers it writes.
 */
static bool write_mtrr(u32 msr, u64 value)
{
    /* With all MTRRs off everything is uncached: SDM vol. 3A 12.11.2.1. */
    static const struct mtrr_state all_uncached;
    struct mtrr_state *mtrr = &machine.mtrr;
    u64 before = mtrr_read(mtrr, msr);
    bool in_effect = (mtrr->def_type & IA32_MTRR_DEF_TYPE_E) != 0;
    u64 end = is_fixed_mtrr(msr) ? MIB(1) : machine.physical_limit;

    if (!mtrr_write(mtrr, msr, value))
        return false;
    in_effect = in_effect || (mtrr->def_type & IA32_MTRR_DEF_TYPE_E) != 0;
    if (!in_effect || mtrr_read(mtrr, msr) == before || tdp_retype(&machine.tdp, 0, end, mtrr) == TDP_OK)
        return true;
    /*
     * A mask with holes can ask for more tables than there is memory for. One type for everything needs none,
     * and uncached is right for any memory, only slow.
     */
    log_warn("the guest wrote %lx to MTRR %x, which Umbra's tables have no room for: all memory is uncached "
             "until the next write",
             value, msr);
    if (tdp_retype(&machine.tdp, 0, machine.physical_limit, &all_uncached) != TDP_OK)
        fatal("Umbra's memory is exhausted after the guest wrote %lx to MTRR %x", value, msr);
    return true;
}

static bool write_mtrr_locked(struct vcpu *vcpu, u32 msr, u64 value)
{
    machine_lock(vcpu);
    bool valid = write_mtrr(msr, value);
    machine_unlock(vcpu);
    return valid;
}

/* AMD: MSRs of which the guest may change some bits and leaves the others as they are. */
static const struct changeable {
    u32 msr;
    u64 bits;
} changeable[] = {
    {MSR_SYSCFG, SYSCFG_MTRR_FIX_DRAM_MOD_EN},
    {MSR_HWCR, HWCR_FFDIS | HWCR_MON_MWAIT_DIS | HWCR_MON_MWAIT_USER_EN | HWCR_MC_STATUS_WR_EN |
                   HWCR_IO_CFG_GP_FAULT | HWCR_CPB_DIS | HWCR_EFF_FREQ_CNT_MWAIT |
                   HWCR_EFF_FREQ_READ_ONLY_LOCK | HWCR_IRPERF_EN | HWCR_CPUID_USER_DIS},
    {MSR_NB_CFG, NB_CFG_ENABLE_CF8_EXT_CFG},
    {MSR_LS_CFG,
     LS_CFG_SSBD_FAMILY_17H | LS_CFG_ERRATUM_793 | LS_CFG_SSBD_FAMILY_16H | LS_CFG_SSBD_FAMILY_15H},
    {MSR_IC_CFG, IC_CFG_WAY_ACCESS_FILTER},
    {MSR_DC_CFG, 0},
    {MSR_TW_CFG, 0},
    {MSR_FP_CFG, FP_CFG_ZEN1_DENORMAL_FIX},
    {MSR_DE_CFG, DE_CFG_LFENCE_SERIALIZE | DE_CFG_ZEN2_FP_BACKUP_FIX | DE_CFG_ERRATUM_665},
    {MSR_BU_CFG2, BU_CFG2_WC_PLUS_DISABLE},
    {MSR_BP_CFG, BP_CFG_BP_SPEC_REDUCE | BP_CFG_SHARED_BTB_FIX | BP_CFG_ZEN2_FIX},
    {MSR_DE_CFG2, DE_CFG2_SUPPRESS_NON_BRANCH},
};

static bool write_changeable(u32 msr, u64 value)
{
    u64 real;
    for (size_t i = 0; i < ARRAY_SIZE(changeable); i++) {
        if (changeable[i].msr == msr)
            return rdmsr_safe(msr, &real) && ((real ^ value) & ~changeable[i].bits) == 0 &&
                   wrmsr_safe(msr, value);
    }
    return false;
}

/* False: #GP. */
static bool write_handled(struct vcpu *vcpu, u32 msr, u64 value)
{
    switch (msr) {
    case MSR_IA32_APIC_BASE:
        return write_apic_base(vcpu, value);
    case MSR_IA32_BIOS_UPDT_TRIG:
    case MSR_PATCH_LOADER:
        log_dropped_microcode(msr);
        return true;
    case MSR_IA32_MISC_ENABLE:
        return write_misc_enable(value);
    case MSR_IA32_XSS:
        return write_xss(value);
    case MSR_VM_CR:
        return write_vm_cr(value);
    default:
        return mtrr_owns(&machine.mtrr, msr) ? write_mtrr_locked(vcpu, msr, value)
                                             : write_changeable(msr, value);
    }
}

enum exit_action rdmsr_exit(struct vcpu *vcpu)
{
    u32 msr = (u32)vcpu->gpr[GPR_RCX];
    enum msr_rule rule = msr_policy(msr, on_intel()).read;
    u64 value;

    if (is_nested_msr(msr)) {
        if (!nested_hooks->msr_read(vcpu, msr, &value))
            return EXIT_GP;
    } else if (rule == MSR_DENY) {
        return deny(vcpu, msr, "read");
    } else if (rule == MSR_PASS ? !rdmsr_safe(msr, &value) : !read_handled(vcpu, msr, &value)) {
        return EXIT_GP;
    }
    vcpu->gpr[GPR_RAX] = (u32)value;
    vcpu->gpr[GPR_RDX] = value >> 32;
    return EXIT_SKIP;
}

enum exit_action wrmsr_exit(struct vcpu *vcpu)
{
    u32 msr = (u32)vcpu->gpr[GPR_RCX];
    u64 value = vcpu->gpr[GPR_RDX] << 32 | (u32)vcpu->gpr[GPR_RAX];
    enum msr_rule rule = msr_policy(msr, on_intel()).write;

    if (is_nested_msr(msr))
        return nested_hooks->msr_write(vcpu, msr, value) ? EXIT_SKIP : EXIT_GP;
    if (rule == MSR_DENY)
        return deny(vcpu, msr, "write");
    if (rule == MSR_PASS ? !wrmsr_safe(msr, value) : !write_handled(vcpu, msr, value))
        return EXIT_GP;
    return EXIT_SKIP;
}
