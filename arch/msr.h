/* SPDX-License-Identifier: MIT */
/*
 * Numbers of model-specific registers and the bits of them that Umbra looks at, under their manual names,
 * grouped as the manuals group them. MSRs that only pass through are numbers in the table of
 * vcpu/msr-policy.c and not here. Source: SDM vol. 4 tables 2-2 and following; APM vol. 2 appendix A and the
 * processor programming references.
 */
#ifndef UMBRA_ARCH_MSR_H
#define UMBRA_ARCH_MSR_H

#include "arch/types.h"

/* Time */
#define MSR_IA32_TSC        0x10u
#define MSR_IA32_TSC_ADJUST 0x3bu

/* Local APIC: SDM vol. 3A 11.4.4, 11.12; APM vol. 2 16.3, 16.9 */
#define MSR_IA32_APIC_BASE  0x1bu
#define IA32_APIC_BASE_BSP  BIT(8)
#define IA32_APIC_BASE_EXTD BIT(10) /* x2APIC mode */
#define IA32_APIC_BASE_EN   BIT(11)
#define MSR_X2APIC_FIRST    0x800u
#define MSR_X2APIC_SVR      0x80fu
#define MSR_X2APIC_ICR      0x830u

/* System calls, segment bases, extended features */
#define MSR_IA32_SYSENTER_CS  0x174u
#define MSR_IA32_SYSENTER_ESP 0x175u
#define MSR_IA32_SYSENTER_EIP 0x176u
#define MSR_EFER              0xc0000080u /* bits: arch/x86.h */
#define MSR_STAR              0xc0000081u
#define MSR_LSTAR             0xc0000082u
#define MSR_CSTAR             0xc0000083u
#define MSR_FMASK             0xc0000084u
#define MSR_FS_BASE           0xc0000100u
#define MSR_GS_BASE           0xc0000101u
#define MSR_KERNEL_GS_BASE    0xc0000102u
#define MSR_TSC_AUX           0xc0000103u

/* Memory types: SDM vol. 3A 12.11, 12.12; APM vol. 2 7.7, 7.8 */
#define MSR_IA32_PAT               0x277u
#define IA32_PAT_RESET             0x0007040600070406ull /* after power-on: SDM vol. 3A 12.12.4 */
#define MSR_IA32_MTRRCAP           0xfeu
#define IA32_MTRRCAP_VCNT          BITS(7, 0)
#define IA32_MTRRCAP_FIX           BIT(8)  /* the fixed-range registers exist */
#define IA32_MTRRCAP_WC            BIT(10) /* write-combining exists */
#define MSR_IA32_MTRR_PHYSBASE0    0x200u  /* base and mask of range n: 200H + 2n, 201H + 2n */
#define MSR_IA32_MTRR_PHYSMASK0    0x201u
#define MSR_IA32_MTRR_FIX64K_00000 0x250u
#define MSR_IA32_MTRR_FIX16K_80000 0x258u
#define MSR_IA32_MTRR_FIX16K_A0000 0x259u
#define MSR_IA32_MTRR_FIX4K_C0000  0x268u
#define MSR_IA32_MTRR_FIX4K_C8000  0x269u
#define MSR_IA32_MTRR_FIX4K_D0000  0x26au
#define MSR_IA32_MTRR_FIX4K_D8000  0x26bu
#define MSR_IA32_MTRR_FIX4K_E0000  0x26cu
#define MSR_IA32_MTRR_FIX4K_E8000  0x26du
#define MSR_IA32_MTRR_FIX4K_F0000  0x26eu
#define MSR_IA32_MTRR_FIX4K_F8000  0x26fu
#define MSR_IA32_MTRR_DEF_TYPE     0x2ffu
#define IA32_MTRR_DEF_TYPE_FE      BIT(10) /* fixed ranges are enabled */
#define IA32_MTRR_DEF_TYPE_E       BIT(11) /* MTRRs are enabled; without it all memory is UC */

/* Which features exist and are allowed */
#define MSR_IA32_FEATURE_CONTROL             0x3au
#define IA32_FEATURE_CONTROL_LOCK            BIT(0)
#define IA32_FEATURE_CONTROL_VMX_OUTSIDE_SMX BIT(2)
#define IA32_FEATURE_CONTROL_LMCE_ON         BIT(20)
#define MSR_IA32_MISC_ENABLE                 0x1a0u
#define IA32_MISC_ENABLE_PEBS_UNAVAILABLE    BIT(12)
#define IA32_MISC_ENABLE_XD_DISABLE          BIT(34)
#define MSR_IA32_XSS                         0xda0u
#define IA32_XSS_PT                          BIT(8)

/* Microcode: SDM vol. 3A 10.11; APM vol. 2 appendix A */
#define MSR_IA32_BIOS_UPDT_TRIG 0x79u
#define MSR_PATCH_LOADER        0xc0010020u

/* Speculation control, SDM vol. 3A and vol. 4; APM vol. 2 3.2.9 */
#define MSR_IA32_SPEC_CTRL 0x48u
#define MSR_IA32_PRED_CMD  0x49u

/* Debug and performance monitoring: SDM vol. 3B ch. 18 and 20; APM vol. 2 ch. 13 */
#define MSR_IA32_DEBUGCTL           0x1d9u
#define MSR_IA32_PERF_CAPABILITIES  0x345u
#define IA32_PERF_CAPABILITIES_PEBS (BIT(6) | BIT(7) | BITS(11, 8) | BIT(14) | BIT(16) | BIT(17))
#define MSR_IA32_PERF_GLOBAL_CTRL   0x38fu

/* Control-flow enforcement and protection keys */
#define MSR_IA32_S_CET               0x6a2u
#define MSR_IA32_INTERRUPT_SSP_TABLE 0x6a8u
#define MSR_IA32_PKRS                0x6e1u
#define MSR_IA32_BNDCFGS             0xd90u

/* Total memory encryption: SDM vol. 4, Intel's memory encryption technologies specification */
#define MSR_IA32_TME_ACTIVATE        0x982u
#define IA32_TME_ACTIVATE_ENABLE     BIT(1)
#define IA32_TME_ACTIVATE_KEYID_BITS BITS(35, 32) /* so many high physical-address bits choose a key */

/* VMX capabilities: SDM vol. 3D appendix A */
#define MSR_IA32_VMX_BASIC               0x480u
#define MSR_IA32_VMX_PINBASED_CTLS       0x481u
#define MSR_IA32_VMX_PROCBASED_CTLS      0x482u
#define MSR_IA32_VMX_EXIT_CTLS           0x483u
#define MSR_IA32_VMX_ENTRY_CTLS          0x484u
#define MSR_IA32_VMX_MISC                0x485u
#define MSR_IA32_VMX_CR0_FIXED0          0x486u
#define MSR_IA32_VMX_CR0_FIXED1          0x487u
#define MSR_IA32_VMX_CR4_FIXED0          0x488u
#define MSR_IA32_VMX_CR4_FIXED1          0x489u
#define MSR_IA32_VMX_VMCS_ENUM           0x48au
#define MSR_IA32_VMX_PROCBASED_CTLS2     0x48bu
#define MSR_IA32_VMX_EPT_VPID_CAP        0x48cu
#define MSR_IA32_VMX_TRUE_PINBASED_CTLS  0x48du
#define MSR_IA32_VMX_TRUE_PROCBASED_CTLS 0x48eu
#define MSR_IA32_VMX_TRUE_EXIT_CTLS      0x48fu
#define MSR_IA32_VMX_TRUE_ENTRY_CTLS     0x490u
#define MSR_IA32_VMX_VMFUNC              0x491u
#define MSR_IA32_VMX_PROCBASED_CTLS3     0x492u
#define MSR_IA32_VMX_EXIT_CTLS2          0x493u

/* AMD system configuration: APM vol. 2 3.2, 7.9, 7.10 */
#define MSR_SYSCFG                    0xc0010010u
#define SYSCFG_MTRR_FIX_DRAM_MOD_EN   BIT(19)
#define SYSCFG_MEM_ENCRYPTION_MODE_EN BIT(23)
#define MSR_HWCR                      0xc0010015u
#define HWCR_FFDIS                    BIT(6) /* family 0FH: TLB flush filter disable */
#define HWCR_MON_MWAIT_DIS            BIT(9)
#define HWCR_MON_MWAIT_USER_EN        BIT(10)
#define HWCR_MC_STATUS_WR_EN          BIT(18)
#define HWCR_IO_CFG_GP_FAULT          BIT(20)
#define HWCR_CPB_DIS                  BIT(25)
#define HWCR_EFF_FREQ_CNT_MWAIT       BIT(26)
#define HWCR_EFF_FREQ_READ_ONLY_LOCK  BIT(27)
#define HWCR_IRPERF_EN                BIT(30)
#define HWCR_CPUID_USER_DIS           BIT(35)
#define MSR_NB_CFG                    0xc001001fu
#define NB_CFG_ENABLE_CF8_EXT_CFG     BIT(46)

/* SVM: APM vol. 2 15.30 */
#define MSR_TSC_RATIO      0xc0000104u /* 8.32 fixed point: 15.30.5 */
#define TSC_RATIO_ONE      BIT(32)
#define TSC_RATIO_RESERVED BITS(63, 40)
#define MSR_VM_CR          0xc0010114u
#define VM_CR_R_INIT       BIT(1)
#define VM_CR_LOCK         BIT(3)
#define VM_CR_SVMDIS       BIT(4)
#define VM_CR_RESERVED     BITS(63, 5)
#define MSR_VM_HSAVE_PA    0xc0010117u

/* AMD core configuration that errata and mitigations change: revision guides, optimization guides. */
#define MSR_LS_CFG                  0xc0011020u
#define LS_CFG_SSBD_FAMILY_17H      BIT(10)
#define LS_CFG_ERRATUM_793          BIT(15)
#define LS_CFG_SSBD_FAMILY_16H      BIT(33)
#define LS_CFG_SSBD_FAMILY_15H      BIT(54)
#define MSR_IC_CFG                  0xc0011021u
#define IC_CFG_WAY_ACCESS_FILTER    BITS(4, 1) /* family 15H */
#define MSR_DC_CFG                  0xc0011022u
#define MSR_TW_CFG                  0xc0011023u
#define MSR_FP_CFG                  0xc0011028u
#define FP_CFG_ZEN1_DENORMAL_FIX    BIT(9)
#define MSR_DE_CFG                  0xc0011029u
#define DE_CFG_LFENCE_SERIALIZE     BIT(1)
#define DE_CFG_ZEN2_FP_BACKUP_FIX   BIT(9)
#define DE_CFG_ERRATUM_665          BIT(31)
#define MSR_BU_CFG2                 0xc001102au
#define BU_CFG2_WC_PLUS_DISABLE     BIT(24) /* family 10H */
#define MSR_BP_CFG                  0xc001102eu
#define BP_CFG_BP_SPEC_REDUCE       BIT(4)
#define BP_CFG_SHARED_BTB_FIX       BIT(5)
#define BP_CFG_ZEN2_FIX             BIT(33)
#define MSR_DE_CFG2                 0xc00110e3u
#define DE_CFG2_SUPPRESS_NON_BRANCH BIT(1)

#endif
