/* SPDX-License-Identifier: MIT */
/*
 * The virtual machine control block: its layout, bits and exit codes under the manual's names. Only data that
 * the CPU defines; what Umbra chooses to put there is in svm/controls.h and svm/setup.c. Source: APM vol. 2
 * appendix B (layout), appendix C (exit codes), 15.9 to 15.25.
 */
#ifndef UMBRA_SVM_VMCB_H
#define UMBRA_SVM_VMCB_H

#include "arch/types.h"
#include "mm/npf-info.h"

/* Exit code n below 0xC0 belongs to bit n % 32 of intercept word n / 32. */
enum { VMCB_INTERCEPT_WORDS = 6, VMCB_INTERCEPT_EXCEPTIONS = 2 };

/* 0 is Umbra's; those of L2 follow the last. */
enum { ASID_HALT = 1, ASID_GUEST };

/* TLB_CONTROL, table 15-9 */
enum {
    TLB_CONTROL_NOTHING = 0,
    TLB_CONTROL_FLUSH_ALL = 1,   /* every ASID, global pages included */
    TLB_CONTROL_FLUSH_GUEST = 3, /* this ASID; needs FlushByAsid */
    TLB_CONTROL_FLUSH_NON_GLOBAL = 7,
};

/* Offset 060h */
#define V_TPR          BITS(7, 0)
#define V_IRQ          BIT(8)
#define V_GIF          BIT(9)
#define V_NMI          BIT(11) /* 15.21.10 */
#define V_NMI_MASK     BIT(12)
#define V_INTR_PRIO    BITS(19, 16)
#define V_IGN_TPR      BIT(20)
#define V_INTR_MASKING BIT(24)
#define V_GIF_ENABLE   BIT(25)
#define V_NMI_ENABLE   BIT(26)
#define V_INTR_VECTOR  BITS(39, 32)

/* Offset 068h */
#define INTERRUPT_SHADOW     BIT(0)
#define GUEST_INTERRUPT_MASK BIT(1)

/* Offset 090h */
#define NP_ENABLE   BIT(0)
#define GMET_ENABLE BIT(3)

/* Offset 0B8h */
#define LBR_VIRTUALIZATION_ENABLE    BIT(0)
#define VMLOAD_VIRTUALIZATION_ENABLE BIT(1) /* and VMSAVE: 15.33.1 */

/* Clean bits, offset 0C0h, 15.15.3: the CPU may use its own copy of that group. */
#define CLEAN_INTERCEPTS BIT(0) /* TSC offset and PAUSE filter among them */
#define CLEAN_MAPS       BIT(1) /* addresses of the permission maps, not what is in them */
#define CLEAN_ASID       BIT(2)
#define CLEAN_TPR        BIT(3) /* V_INTR_MASKING among them */
#define CLEAN_NP         BIT(4) /* nCR3, gPAT */
#define CLEAN_CRX        BIT(5) /* CR0, CR3, CR4, EFER */
#define CLEAN_DRX        BIT(6)
#define CLEAN_DT         BIT(7)
#define CLEAN_SEGMENTS   BIT(8) /* CS, DS, ES, SS, CPL */
#define CLEAN_CR2        BIT(9)
#define CLEAN_LBR        BIT(10) /* DebugCtl among them */
#define CLEAN_KNOWN      BITS(10, 0)

/* EVENTINJ and EXITINTINFO, 15.20 and 15.7.2 */
#define EVENT_VECTOR_MASK    BITS(7, 0)
#define EVENT_TYPE_MASK      BITS(10, 8)
#define EVENT_TYPE_INTR      (0ull << 8)
#define EVENT_TYPE_NMI       (2ull << 8)
#define EVENT_TYPE_EXCEPTION (3ull << 8)
#define EVENT_TYPE_SOFTWARE  (4ull << 8)
#define EVENT_ERROR_VALID    BIT(11)
#define EVENT_VALID          BIT(31)
#define EVENT_ERROR_SHIFT    32u

/* Exit codes, appendix C. A CPU that defines a new one below 0xC0 uses it only after Umbra sets its
 * intercept. */
enum vmexit_code {
    VMEXIT_CR0_READ = 0x000,
    VMEXIT_CR0_WRITE = 0x010,
    VMEXIT_DR0_READ = 0x020,
    VMEXIT_DR0_WRITE = 0x030,
    VMEXIT_EXCP0 = 0x040,
    VMEXIT_INTR = 0x060,
    VMEXIT_NMI = 0x061,
    VMEXIT_SMI = 0x062,
    VMEXIT_INIT = 0x063,
    VMEXIT_VINTR = 0x064,
    VMEXIT_CPUID = 0x072,
    VMEXIT_IRET = 0x074,
    VMEXIT_INVD = 0x076,
    VMEXIT_HLT = 0x078,
    VMEXIT_INVLPGA = 0x07a,
    VMEXIT_IOIO = 0x07b,
    VMEXIT_MSR = 0x07c,
    VMEXIT_SHUTDOWN = 0x07f,
    VMEXIT_VMRUN = 0x080,
    VMEXIT_VMMCALL = 0x081,
    VMEXIT_VMLOAD = 0x082,
    VMEXIT_VMSAVE = 0x083,
    VMEXIT_STGI = 0x084,
    VMEXIT_CLGI = 0x085,
    VMEXIT_SKINIT = 0x086,
    VMEXIT_XSETBV = 0x08d,
    VMEXIT_NPF = 0x400,
};
#define VMEXIT_INVALID (~0ull)

/* Segment attributes as the VMCB packs them: descriptor bits 55:52 and 47:40, 15.5.1 */
#define SEGMENT_TYPE_MASK BITS(3, 0)
#define SEGMENT_S         BIT(4)
#define SEGMENT_DPL_SHIFT 5u
#define SEGMENT_P         BIT(7)
#define SEGMENT_L         BIT(9)
#define SEGMENT_DB        BIT(10)
#define SEGMENT_G         BIT(11)

struct vmcb_segment {
    u16 selector;
    u16 attributes;
    u32 limit;
    u64 base;
};

struct vmcb_control {
    u32 intercept[VMCB_INTERCEPT_WORDS];
    u8 reserved_018[0x3c - 0x18];
    u16 pause_filter_threshold;
    u16 pause_filter_count;
    u64 iopm_base_pa;
    u64 msrpm_base_pa;
    u64 tsc_offset;
    u32 asid;
    u8 tlb_control;
    u8 reserved_05d[3];
    u64 v_intr; /* V_TPR, V_IRQ, V_GIF, V_INTR_MASKING, V_INTR_VECTOR ... */
    u64 interrupt_state;
    u64 exit_code;
    u64 exit_info_1;
    u64 exit_info_2;
    u64 exit_int_info;
    u64 nested_control;
    u64 avic_apic_bar;
    u64 ghcb_pa;
    u64 event_inj;
    u64 n_cr3;
    u64 lbr_control;
    u32 clean;
    u32 reserved_0c4;
    u64 n_rip; /* valid with NRIPS, for instruction intercepts */
    u8 bytes_fetched;
    u8 instruction_bytes[15];
    u8 reserved_0e0[0x400 - 0xe0];
};

struct vmcb_save {
    struct vmcb_segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
    u8 reserved_0a0[0xcb - 0xa0];
    u8 cpl;
    u32 reserved_0cc;
    u64 efer;
    u8 reserved_0d8[0x148 - 0xd8];
    u64 cr4, cr3, cr0;
    u64 dr7, dr6;
    u64 rflags, rip;
    u8 reserved_180[0x1d8 - 0x180];
    u64 rsp;
    u64 s_cet, ssp, isst_addr;
    u64 rax;
    u64 star, lstar, cstar, sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip;
    u64 cr2;
    u8 reserved_248[0x268 - 0x248];
    u64 g_pat;
    u64 dbgctl, br_from, br_to, last_excp_from, last_excp_to;
    u8 reserved_298[0x2e0 - 0x298];
    u64 spec_ctrl; /* on CPUs that virtualize that MSR, which then always do */
    u8 reserved_2e8[0xc00 - 0x2e8];
};

struct vmcb {
    struct vmcb_control control;
    struct vmcb_save save;
};

#define VMCB_AT(field, offset)                                                                               \
    _Static_assert(offsetof(struct vmcb, field) == (offset), "APM vol. 2 appendix B: " #field)
VMCB_AT(control.intercept, 0x000);
VMCB_AT(control.pause_filter_threshold, 0x03c);
VMCB_AT(control.iopm_base_pa, 0x040);
VMCB_AT(control.msrpm_base_pa, 0x048);
VMCB_AT(control.tsc_offset, 0x050);
VMCB_AT(control.asid, 0x058);
VMCB_AT(control.tlb_control, 0x05c);
VMCB_AT(control.v_intr, 0x060);
VMCB_AT(control.interrupt_state, 0x068);
VMCB_AT(control.exit_code, 0x070);
VMCB_AT(control.exit_int_info, 0x088);
VMCB_AT(control.nested_control, 0x090);
VMCB_AT(control.event_inj, 0x0a8);
VMCB_AT(control.n_cr3, 0x0b0);
VMCB_AT(control.lbr_control, 0x0b8);
VMCB_AT(control.clean, 0x0c0);
VMCB_AT(control.n_rip, 0x0c8);
VMCB_AT(control.bytes_fetched, 0x0d0);
VMCB_AT(save.es, 0x400);
VMCB_AT(save.tr, 0x490);
VMCB_AT(save.cpl, 0x4cb);
VMCB_AT(save.efer, 0x4d0);
VMCB_AT(save.cr4, 0x548);
VMCB_AT(save.dr6, 0x568);
VMCB_AT(save.rip, 0x578);
VMCB_AT(save.rsp, 0x5d8);
VMCB_AT(save.rax, 0x5f8);
VMCB_AT(save.star, 0x600);
VMCB_AT(save.kernel_gs_base, 0x620);
VMCB_AT(save.cr2, 0x640);
VMCB_AT(save.g_pat, 0x668);
VMCB_AT(save.dbgctl, 0x670);
VMCB_AT(save.spec_ctrl, 0x6e0);
#undef VMCB_AT
_Static_assert(sizeof(struct vmcb) == 0x1000, "a VMCB is one page");

#endif
