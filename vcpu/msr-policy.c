/* SPDX-License-Identifier: MIT */
/*
 * The MSR allow-list. An MSR passes through if no value of it lets a guest reach Umbra's memory or outlive
 * Umbra's control; that it can slow itself down, or count and time Umbra's instructions, is accepted.
 * Everything else is handled or denied.
 */
#include "vcpu/msr-policy.h"

#include "arch/msr.h"

/* Short names keep the table readable. */
#define D MSR_DENY
#define P MSR_PASS
#define H MSR_HANDLE

/*
 * SDM vol. 4; APM vol. 2 appendix A and the processor programming references. Denied rows need not stand
 * here, since what is missing is denied: they say why an MSR that a guest may look for is not there.
 */
const struct msr_policy_row msr_policy_table[] = {
    /* Time */
    {0x10, 0x10, MSR_BOTH, P, P, "TSC: the guest's; Umbra only stamps its trace with it"},
    {0x3b, 0x3b, MSR_BOTH, P, P, "TSC_ADJUST: as the TSC"},
    {0x6e0, 0x6e0, MSR_BOTH, P, P, "TSC_DEADLINE: the local APIC timer is the guest's"},
    {0xc0000104, 0xc0000104, MSR_AMD, D, D, "TSC_RATIO: part of SVM, which is hidden, unless nested"},

    /* Local APIC */
    {0x1b, 0x1b, MSR_BOTH, H, H,
     "APIC_BASE: must not be moved onto Umbra's memory; NMIs between CPUs need it"},
    {0x800, 0x8ff, MSR_BOTH, P, P, "x2APIC: the local APIC is the guest's"},

    /* Virtualization, SMM, and what firmware locks */
    {0x3a, 0x3a, MSR_INTEL, H, D,
     "FEATURE_CONTROL: reads as locked with SMX and SGX off, VMX too unless nested"},
    {0x480, 0x493, MSR_INTEL, D, D, "VMX capabilities: VMX is hidden, unless nested"},
    {0x9b, 0x9b, MSR_INTEL, D, D, "SMM_MONITOR_CTL: part of VMX and SMX"},
    {0x9e, 0x9e, MSR_INTEL, D, D, "SMBASE: moves SMM's memory"},
    {0x34, 0x34, MSR_INTEL, P, D, "SMI_COUNT: a counter"},
    {0xc0010114, 0xc0010114, MSR_AMD, H, H, "VM_CR: reads as locked with SVM off"},
    {0xc0010117, 0xc0010117, MSR_AMD, D, D, "VM_HSAVE_PA: part of SVM, which is hidden"},
    {0xc0010118, 0xc0010119, MSR_AMD, D, D, "SMM and SVM keys: SVM is hidden"},
    {0xc001011b, 0xc001011b, MSR_AMD, D, D, "AVIC doorbell: SVM is hidden"},
    {0xc001011e, 0xc001011f, MSR_AMD, D, D, "VM_PAGE_FLUSH, VIRT_SPEC_CTRL: for guests of SVM"},
    {0xc0010130, 0xc001013f, MSR_AMD, D, D,
     "SEV, GHCB, RMP: memory encryption is hidden; RMP tables guard memory"},
    {0xc0010111, 0xc0010113, MSR_AMD, P, D, "SMM_BASE, SMM_ADDR, SMM_MASK: a write reroutes memory"},
    {0xc0010116, 0xc0010116, MSR_AMD, D, D, "SMM_CTL: enters and leaves SMM by hand"},

    /* Microcode and identity */
    {0x17, 0x17, MSR_INTEL, P, D, "PLATFORM_ID: constant"},
    {0x79, 0x79, MSR_INTEL, D, H, "BIOS_UPDT_TRIG: loads from a linear address of Umbra's space; dropped"},
    {0x7b, 0x7c, MSR_INTEL, P, D, "MCU_ENUMERATION, MCU_STATUS: constant"},
    {0x8b, 0x8b, MSR_BOTH, P, P, "BIOS_SIGN_ID, PATCH_LEVEL: a revision; written 0 before CPUID fills it in"},
    {0xc0010020, 0xc0010020, MSR_AMD, D, H,
     "PATCH_LOADER: loads from a linear address of Umbra's space; dropped"},
    {0x4e, 0x4f, MSR_INTEL, P, P, "PPIN: an inventory number and its lock"},
    {0xc00102f0, 0xc00102f1, MSR_AMD, P, P, "PPIN: an inventory number and its lock"},
    {0xc0010030, 0xc0010035, MSR_AMD, P, D, "processor name: Umbra does not lend it for writing"},
    {0xc0010140, 0xc0010141, MSR_AMD, P, D, "OSVW: which errata apply; firmware's to write"},
    {0xc001100c, 0xc001100c, MSR_AMD, P, D, "NODE_ID: constant"},
    {0xc0011002, 0xc0011005, MSR_AMD, P, D, "CPUID overrides: Umbra chose its features by CPUID"},

    /* System calls, segment bases, extended features */
    {0x174, 0x176, MSR_BOTH, P, P, "SYSENTER: the VMCS or VMCB switches it"},
    {0xc0000080, 0xc0000080, MSR_INTEL, P, P, "EFER: the VMCS loads and saves it"},
    {0xc0000080, 0xc0000080, MSR_AMD, H, H, "EFER: SVME stays on and hidden; answered by svm/"},
    {0xc0000081, 0xc0000084, MSR_BOTH, P, P, "STAR, LSTAR, CSTAR, FMASK: Umbra makes no system calls"},
    {0xc0000100, 0xc0000101, MSR_BOTH, P, P, "FS_BASE, GS_BASE: the VMCS or VMCB switches them"},
    {0xc0000102, 0xc0000103, MSR_BOTH, P, P, "KERNEL_GS_BASE, TSC_AUX: Umbra uses neither SWAPGS nor RDTSCP"},
    {0x6a0, 0x6a0, MSR_BOTH, P, P, "U_CET: user mode only"},
    {0x6a2, 0x6a2, MSR_BOTH, P, P, "S_CET: without effect in Umbra, which runs with CR4.CET = 0"},
    {0x6a4, 0x6a8, MSR_BOTH, P, P, "shadow-stack pointers: used only with CR4.CET = 1"},
    {0x6e1, 0x6e1, MSR_BOTH, P, P, "PKRS: without effect in Umbra, which runs with CR4.PKS = 0"},
    {0xda0, 0xda0, MSR_BOTH, P, H, "XSS: XRSTORS of component 8 would write the processor-trace MSRs"},
    {0x1c4, 0x1c5, MSR_BOTH, P, P, "XFD, XFD_ERR: Umbra has no extended state"},
    {0xd90, 0xd90, MSR_INTEL, P, P, "BNDCFGS: Umbra checks no bounds"},
    {0xd93, 0xd93, MSR_INTEL, P, P,
     "PASID: devices are the guest's, and their DMA is not the CPU's to check"},
    {0xe1, 0xe1, MSR_INTEL, P, P, "UMWAIT_CONTROL: how long a wait may be"},
    {0x985, 0x98a, MSR_INTEL, P, P,
     "user interrupts: without effect in Umbra, which runs with CR4.UINTR = 0"},
    {0x990, 0x991, MSR_INTEL, P, P, "key locker status: Umbra keeps no key in it"},
    {0xd91, 0xd92, MSR_INTEL, P, P, "key locker backup: Umbra keeps no key in it"},
    {0x17da, 0x17da, MSR_INTEL, P, P, "HRESET_ENABLE: what of its history a CPU forgets"},
    {0x140, 0x140, MSR_INTEL, P, P, "MISC_FEATURES_ENABLES: CPUID faulting and MWAIT, both for user mode"},

    /* Memory types and memory routing */
    {0x277, 0x277, MSR_BOTH, P, P, "PAT: the VMCS or VMCB switches it"},
    {0xfe, 0xfe, MSR_INTEL, H, D, "MTRRCAP: of the copy that shapes the EPT's memory types"},
    {0x200, 0x23f, MSR_INTEL, H, H,
     "MTRRs: do not apply through EPT, so a copy shapes the EPT's memory types"},
    {0x250, 0x250, MSR_INTEL, H, H, "MTRRs: as above"},
    {0x258, 0x259, MSR_INTEL, H, H, "MTRRs: as above"},
    {0x268, 0x26f, MSR_INTEL, H, H, "MTRRs: as above"},
    {0x2ff, 0x2ff, MSR_INTEL, H, H, "MTRRs: as above"},
    {0xfe, 0xfe, MSR_AMD, P, P, "MTRRcap: constant"},
    {0x200, 0x20f, MSR_AMD, P, P, "MTRRs: apply through NPT; a type slows Umbra down but opens nothing"},
    {0x250, 0x250, MSR_AMD, P, P, "MTRRs: as above; the routing bits concern the guest's low 1 MByte only"},
    {0x258, 0x259, MSR_AMD, P, P, "MTRRs: as above"},
    {0x268, 0x26f, MSR_AMD, P, P, "MTRRs: as above"},
    {0x2ff, 0x2ff, MSR_AMD, P, P, "MTRRs: as above"},
    {0x1f2, 0x1f5, MSR_INTEL, D, D, "SMRR, PRMRR: take memory away from all but SMM or SGX"},
    {0x87, 0x87, MSR_INTEL, P, D, "MKTME_KEYID_PARTITIONING: constant"},
    {0x981, 0x984, MSR_INTEL, P, D, "TME: a key change turns memory into noise"},
    {0xc0010010, 0xc0010010, MSR_AMD, P, H,
     "SYSCFG: memory routing and encryption stay as firmware left them"},
    {0xc0010016, 0xc0010019, MSR_AMD, P, D, "IORR: a write reroutes memory"},
    {0xc001001a, 0xc001001a, MSR_AMD, P, D, "TOP_MEM: a write reroutes memory"},
    {0xc001001d, 0xc001001d, MSR_AMD, P, D, "TOP_MEM2: a write reroutes memory"},
    {0xc001001f, 0xc001001f, MSR_AMD, P, H, "NB_CFG: only the way to configuration space may change"},
    {0xc0010055, 0xc0010055, MSR_AMD, P, D, "interrupt pending message: I/O and SMI routing"},
    {0xc0010058, 0xc0010058, MSR_AMD, P, D, "MMIO configuration base: a write lays it over memory"},

    /* Core configuration: errata and mitigations that the guest's kernel applies */
    {0xc0010015, 0xc0010015, MSR_AMD, P, H, "HWCR: SMM lock and INVD conversion stay"},
    {0xc0011020, 0xc0011023, MSR_AMD, P, H,
     "LS_CFG, IC_CFG, DC_CFG, TW_CFG: only known errata bits may change"},
    {0xc0011028, 0xc001102a, MSR_AMD, P, H, "FP_CFG, DE_CFG, BU_CFG2: only known errata bits may change"},
    {0xc001102e, 0xc001102e, MSR_AMD, P, H, "BP_CFG: only known errata bits may change"},
    {0xc00110e3, 0xc00110e3, MSR_AMD, P, H, "DE_CFG2: only known errata bits may change"},
    {0x33, 0x33, MSR_INTEL, P, P, "TEST_CTRL: Umbra splits no lock over cache lines"},
    {0xbc, 0xbd, MSR_INTEL, P, P, "MISC_PACKAGE_CTLS, XAPIC_DISABLE_STATUS: power filter, a status"},
    {0xcf, 0xcf, MSR_INTEL, P, D, "CORE_CAPABILITIES: constant"},
    {0x10a, 0x10a, MSR_BOTH, P, D, "ARCH_CAPABILITIES: constant"},
    {0x48, 0x49, MSR_BOTH, P, P, "SPEC_CTRL, PRED_CMD: speculation, the guest's choice"},
    {0x10b, 0x10b, MSR_BOTH, P, P, "FLUSH_CMD: flushes the L1 data cache"},
    {0x10f, 0x10f, MSR_INTEL, P, P, "TSX_FORCE_ABORT: Umbra runs no transactions"},
    {0x122, 0x123, MSR_INTEL, P, P, "TSX_CTRL, MCU_OPT_CTRL: mitigations, the guest's choice"},
    {0x1a0, 0x1a0, MSR_INTEL, H, H, "MISC_ENABLE: XD must stay, PEBS is hidden"},
    {0x1a4, 0x1a4, MSR_INTEL, P, P, "MISC_FEATURE_CONTROL: prefetchers"},

    /* Machine check: the guest's to configure and to read */
    {0x179, 0x17b, MSR_BOTH, P, P, "MCG: machine checks are the guest's"},
    {0x17f, 0x17f, MSR_INTEL, P, P, "ERROR_CONTROL: machine checks are the guest's"},
    {0x280, 0x29f, MSR_INTEL, P, P, "MCi_CTL2: machine checks are the guest's"},
    {0x400, 0x47f, MSR_BOTH, P, P, "MCi: machine checks are the guest's"},
    {0x4d0, 0x4d0, MSR_INTEL, P, P, "MCG_EXT_CTL: machine checks are the guest's"},
    {0xc0000408, 0xc0000410, MSR_AMD, P, P, "MC4_MISC, MCA_INTR_CFG: machine checks are the guest's"},
    {0xc0002000, 0xc0002fff, MSR_AMD, P, P, "MCA banks: machine checks are the guest's"},
    {0xc0010044, 0xc001004a, MSR_AMD, P, P, "MCi_CTL_MASK: machine checks are the guest's"},
    {0xc0010400, 0xc001043f, MSR_AMD, P, P, "MCA_CTL_MASK: machine checks are the guest's"},
    {0xc0010074, 0xc0010074, MSR_AMD, P, P, "CPU_WATCHDOG_TIMER: reports through machine checks"},

    /* Performance monitoring: what Umbra does can be counted and timed, not read */
    {0xc1, 0xc8, MSR_INTEL, P, P, "PMC: a count"},
    {0x186, 0x18d, MSR_INTEL, P, P, "PERFEVTSEL: what is counted"},
    {0x1a6, 0x1a7, MSR_INTEL, P, P, "OFFCORE_RSP: what is counted"},
    {0x309, 0x318, MSR_INTEL, P, P, "fixed counters: a count"},
    {0x329, 0x329, MSR_INTEL, P, P, "PERF_METRICS: a count"},
    {0x345, 0x345, MSR_INTEL, H, D, "PERF_CAPABILITIES: PEBS is hidden"},
    {0x38d, 0x397, MSR_INTEL, P, P, "global control and status, uncore control: what is counted"},
    {0x3b0, 0x3b7, MSR_INTEL, P, P, "uncore counters: what is counted"},
    {0x700, 0x76f, MSR_INTEL, P, P, "uncore counters: what is counted"},
    {0x3f1, 0x3f2, MSR_INTEL, D, D,
     "PEBS: a record of Umbra's events would go to a linear address of Umbra's space"},
    {0x3f6, 0x3f7, MSR_INTEL, P, P, "PEBS_LD_LAT, PEBS_FRONTEND: filters, without effect while PEBS is off"},
    {0x4c1, 0x4c8, MSR_INTEL, P, P, "A_PMC: a count"},
    {0x600, 0x600, MSR_INTEL, P, P, "DS_AREA: for branch traces only, which a VM exit stops, so EPT applies"},
    {0xc0000300, 0xc0000303, MSR_AMD, P, P, "PerfCntrGlobal: what is counted"},
    {0xc0010000, 0xc0010007, MSR_AMD, P, P, "PERF_LEGACY: what is counted"},
    {0xc0010200, 0xc001020f, MSR_AMD, P, P, "PERF_CTL, PERF_CTR: what is counted"},
    {0xc0010230, 0xc001023b, MSR_AMD, P, P, "L3 counters: what is counted"},
    {0xc0010240, 0xc001024f, MSR_AMD, P, P, "data fabric counters: what is counted"},
    {0xc0010280, 0xc0010280, MSR_AMD, P, P, "performance time stamp: a count"},
    {0xc0011030, 0xc001103d, MSR_AMD, P, P, "IBS: samples go to MSRs, not to memory"},

    /* Debugging and traces */
    {0x1d9, 0x1d9, MSR_BOTH, P, P, "DEBUGCTL: a VM exit clears it (Intel); its bits change no memory (AMD)"},
    {0x1db, 0x1de, MSR_BOTH, P, P, "last branch and exception: addresses"},
    {0x40, 0x47, MSR_INTEL, P, P, "LASTBRANCH FROM: addresses"},
    {0x60, 0x67, MSR_INTEL, P, P, "LASTBRANCH TO: addresses"},
    {0x1c8, 0x1c9, MSR_INTEL, P, P, "LBR_SELECT, LASTBRANCH_TOS: filter and index"},
    {0x680, 0x69f, MSR_INTEL, P, P,
     "LASTBRANCH FROM: addresses; earlier CPUs: CORE_PERF_LIMIT_REASONS, a status"},
    {0x6c0, 0x6df, MSR_INTEL, P, P, "LASTBRANCH TO: addresses"},
    {0xdc0, 0xddf, MSR_INTEL, P, P, "LBR_INFO: cycles and flags"},
    {0x1200, 0x121f, MSR_INTEL, P, P, "LBR_INFO: cycles and flags"},
    {0x14ce, 0x14cf, MSR_INTEL, P, P, "LBR_CTL, LBR_DEPTH: kept in registers, not in memory"},
    {0x1500, 0x151f, MSR_INTEL, P, P, "LBR_FROM: addresses"},
    {0x1600, 0x161f, MSR_INTEL, P, P, "LBR_TO: addresses"},
    {0x560, 0x561, MSR_INTEL, D, D, "RTIT_OUTPUT: processor trace writes to any physical address"},
    {0x570, 0x572, MSR_INTEL, D, D, "RTIT_CTL, STATUS, CR3_MATCH: processor trace is hidden"},
    {0x580, 0x587, MSR_INTEL, D, D, "RTIT_ADDR: processor trace is hidden"},
    {0xc80, 0xc80, MSR_INTEL, P, D, "DEBUG_INTERFACE: opens the CPU to a debugger"},
    {0xc000010e, 0xc000010f, MSR_AMD, P, P, "LBR_SELECT, DBG_EXTN_CFG: filter and index"},
    {0xc0010300, 0xc001031f, MSR_AMD, P, P, "LBR FROM and TO: addresses"},
    {0xc0011019, 0xc001101b, MSR_AMD, P, P, "DR1..3_ADDR_MASK: breakpoints are off in Umbra"},
    {0xc0011027, 0xc0011027, MSR_AMD, P, P, "DR0_ADDR_MASK: breakpoints are off in Umbra"},

    /* SGX */
    {0x8c, 0x8f, MSR_INTEL, D, D, "SGXLEPUBKEYHASH: SGX is hidden"},
    {0x300, 0x301, MSR_INTEL, D, D, "SGXOWNEREPOCH: SGX is hidden"},
    {0x500, 0x500, MSR_INTEL, D, D, "SGX_SVN_STATUS: SGX is hidden"},

    /* Power, heat, clocks: the guest may slow itself down; voltages stay firmware's */
    {0x2a, 0x2a, MSR_INTEL, P, D, "EBL_CR_POWERON: clock ratios, constant"},
    {0xcd, 0xce, MSR_INTEL, P, D, "FSB_FREQ, PLATFORM_INFO: clock ratios, constant"},
    {0xe2, 0xe2, MSR_INTEL, P, P, "PKG_CST_CONFIG_CONTROL: which sleep states are used"},
    {0xe4, 0xe4, MSR_INTEL, P, D, "PMG_IO_CAPTURE_BASE: would turn Umbra's serial port into a sleep state"},
    {0xe7, 0xe8, MSR_BOTH, P, P, "MPERF, APERF: a count"},
    {0x150, 0x150, MSR_INTEL, D, D, "OC_MAILBOX: voltages make a CPU compute wrongly"},
    {0x198, 0x199, MSR_INTEL, P, P, "PERF_STATUS, PERF_CTL: clock ratio"},
    {0x19a, 0x19d, MSR_INTEL, P, P, "CLOCK_MODULATION, THERM: clock and heat"},
    {0x1a2, 0x1a2, MSR_INTEL, P, P, "TEMPERATURE_TARGET: heat"},
    {0x1aa, 0x1aa, MSR_INTEL, P, P, "MISC_PWR_MGMT: clock coordination"},
    {0x1ad, 0x1af, MSR_INTEL, P, P, "TURBO_RATIO_LIMIT: clock ratio"},
    {0x1b0, 0x1b2, MSR_INTEL, P, P, "ENERGY_PERF_BIAS, PACKAGE_THERM: clock and heat"},
    {0x1fc, 0x1fc, MSR_INTEL, P, P, "POWER_CTL: sleep states"},
    {0x3f8, 0x3ff, MSR_INTEL, P, P, "sleep-state residency: a count"},
    {0x606, 0x669, MSR_INTEL, P, P, "RAPL, CONFIG_TDP, residency: energy limits and counts"},
    {0x66a, 0x66d, MSR_INTEL, P, D, "Atom core and turbo ratios: constant"},
    {0x6b0, 0x6b1, MSR_INTEL, P, P, "GRAPHICS and RING_PERF_LIMIT_REASONS: a status"},
    {0x770, 0x777, MSR_INTEL, P, P, "HWP: clock ratio"},
    {0xdb0, 0xdb2, MSR_INTEL, P, P, "HDC: duty cycle"},
    {0x17d0, 0x17d4, MSR_INTEL, D, D, "HFI: a table is written to any physical address"},
    {0xc00000e7, 0xc00000e9, MSR_AMD, P, P, "MPERF, APERF, IRPERF: a count"},
    {0xc00002b0, 0xc00002b4, MSR_AMD, P, P, "CPPC: clock ratio"},
    {0xc0010061, 0xc0010063, MSR_AMD, P, P, "P-state limit, control and status: clock ratio"},
    {0xc0010064, 0xc001006b, MSR_AMD, P, D, "P-state definitions: voltages make a CPU compute wrongly"},
    {0xc0010070, 0xc0010071, MSR_AMD, P, D, "COFVID: voltages make a CPU compute wrongly"},
    {0xc0010073, 0xc0010073, MSR_AMD, P, D,
     "C-state base: would turn Umbra's serial port into a sleep state"},
    {0xc0010292, 0xc0010293, MSR_AMD, P, D, "hardware P-state status: clock ratio"},
    {0xc0010299, 0xc001029b, MSR_AMD, P, D, "RAPL: energy counts"},

    /* Sharing of caches and memory bandwidth */
    {0xc81, 0xc83, MSR_BOTH, P, P, "cache allocation: can slow Umbra down, opens nothing"},
    {0xc8d, 0xd5f, MSR_BOTH, P, P, "cache and bandwidth monitoring and allocation: as above"},
    {0xc0000200, 0xc000028f, MSR_AMD, P, P, "bandwidth allocation: as above"},
    {0xc00003fd, 0xc0000407, MSR_AMD, P, P, "bandwidth monitoring: a count"},
};

#undef D
#undef P
#undef H

const size_t msr_policy_rows = ARRAY_SIZE(msr_policy_table);

static const struct msr_policy_row *find_row(u32 msr, enum msr_vendor vendor)
{
    for (size_t i = 0; i < msr_policy_rows; i++) {
        const struct msr_policy_row *row = &msr_policy_table[i];
        if (msr >= row->first && msr <= row->last && (row->vendor & vendor) != 0)
            return row;
    }
    return NULL;
}

struct msr_rules msr_policy(u32 msr, bool intel)
{
    const struct msr_policy_row *row = find_row(msr, intel ? MSR_INTEL : MSR_AMD);
    if (row == NULL)
        return (struct msr_rules){MSR_DENY, MSR_DENY};
    return (struct msr_rules){row->read, row->write};
}

const char *msr_policy_reason(u32 msr, bool intel)
{
    const struct msr_policy_row *row = find_row(msr, intel ? MSR_INTEL : MSR_AMD);
    return row == NULL ? "not on the list of MSRs that a guest may use" : row->reason;
}

/* Where a permission map has the bits of the 8,192 MSRs from `base` on. */
struct map_window {
    u32 base;
    u32 read_bit, write_bit; /* of the first MSR, counted in bits from the start of the map */
    u32 stride;              /* bits from one MSR to the next */
};

enum { WINDOW_MSRS = 0x2000 };

/* SDM vol. 3C 25.6.9: four bitmaps of 1 KByte each. */
static const struct map_window vmx_windows[] = {
    {0x0, 0, 2048 * 8, 1},
    {0xc0000000, 1024 * 8, 3072 * 8, 1},
};

/* APM vol. 2 15.11: two bits per MSR, read below write. */
static const struct map_window svm_windows[] = {
    {0x0, 0, 1, 2},
    {0xc0000000, 2048 * 8, 2048 * 8 + 1, 2},
    {0xc0010000, 4096 * 8, 4096 * 8 + 1, 2},
};

static void clear_bit(u8 *map, u32 bit)
{
    map[bit / 8] &= (u8) ~(1u << bit % 8);
}

static void open_row(u8 *map, const struct map_window *window, const struct msr_policy_row *row)
{
    for (u32 msr = row->first; msr <= row->last; msr++) {
        u32 offset = (msr - window->base) * window->stride;
        if (msr - window->base >= WINDOW_MSRS)
            continue;
        if (row->read == MSR_PASS)
            clear_bit(map, window->read_bit + offset);
        if (row->write == MSR_PASS)
            clear_bit(map, window->write_bit + offset);
    }
}

static void fill_map(u8 *map, const struct map_window *windows, size_t count, enum msr_vendor vendor)
{
    for (size_t row = 0; row < msr_policy_rows; row++) {
        if ((msr_policy_table[row].vendor & vendor) == 0)
            continue;
        for (size_t i = 0; i < count; i++)
            open_row(map, &windows[i], &msr_policy_table[row]);
    }
}

void msr_policy_fill_vmx_bitmap(u8 *bitmap)
{
    fill_map(bitmap, vmx_windows, ARRAY_SIZE(vmx_windows), MSR_INTEL);
}

void msr_policy_fill_svm_map(u8 *map)
{
    fill_map(map, svm_windows, ARRAY_SIZE(svm_windows), MSR_AMD);
}
