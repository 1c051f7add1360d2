/* SPDX-License-Identifier: MIT */
/*
 * The encodings of the VMCS fields that Umbra uses or lets L1 use, under the headings of SDM vol. 3D appendix
 * B, and VMREAD and VMWRITE. All accesses are to the current VMCS of this CPU.
 */
#ifndef UMBRA_VMX_VMCS_H
#define UMBRA_VMX_VMCS_H

#include "arch/types.h"

enum vmcs_field {
    /* B.1.1 16-bit control fields */
    VMCS_VPID = 0x0000,
    VMCS_POSTED_INTERRUPT_VECTOR = 0x0002,
    VMCS_EPTP_INDEX = 0x0004,

    /* B.1.2 16-bit guest-state fields */
    VMCS_GUEST_ES_SELECTOR = 0x0800,
    VMCS_GUEST_CS_SELECTOR = 0x0802,
    VMCS_GUEST_SS_SELECTOR = 0x0804,
    VMCS_GUEST_DS_SELECTOR = 0x0806,
    VMCS_GUEST_FS_SELECTOR = 0x0808,
    VMCS_GUEST_GS_SELECTOR = 0x080a,
    VMCS_GUEST_LDTR_SELECTOR = 0x080c,
    VMCS_GUEST_TR_SELECTOR = 0x080e,
    VMCS_GUEST_INTERRUPT_STATUS = 0x0810,
    VMCS_PML_INDEX = 0x0812,

    /* B.1.3 16-bit host-state fields */
    VMCS_HOST_ES_SELECTOR = 0x0c00,
    VMCS_HOST_CS_SELECTOR = 0x0c02,
    VMCS_HOST_SS_SELECTOR = 0x0c04,
    VMCS_HOST_DS_SELECTOR = 0x0c06,
    VMCS_HOST_FS_SELECTOR = 0x0c08,
    VMCS_HOST_GS_SELECTOR = 0x0c0a,
    VMCS_HOST_TR_SELECTOR = 0x0c0c,

    /* B.2.1 64-bit control fields */
    VMCS_IO_BITMAP_A = 0x2000,
    VMCS_IO_BITMAP_B = 0x2002,
    VMCS_MSR_BITMAPS = 0x2004,
    VMCS_EXIT_MSR_STORE = 0x2006,
    VMCS_EXIT_MSR_LOAD = 0x2008,
    VMCS_ENTRY_MSR_LOAD = 0x200a,
    VMCS_EXECUTIVE_VMCS = 0x200c,
    VMCS_PML_ADDRESS = 0x200e,
    VMCS_TSC_OFFSET = 0x2010,
    VMCS_VIRTUAL_APIC = 0x2012,
    VMCS_APIC_ACCESS = 0x2014,
    VMCS_POSTED_INTERRUPT_DESCRIPTOR = 0x2016,
    VMCS_VM_FUNCTION_CONTROLS = 0x2018,
    VMCS_EPT_POINTER = 0x201a,
    VMCS_EOI_EXIT_BITMAP0 = 0x201c,
    VMCS_EOI_EXIT_BITMAP1 = 0x201e,
    VMCS_EOI_EXIT_BITMAP2 = 0x2020,
    VMCS_EOI_EXIT_BITMAP3 = 0x2022,
    VMCS_EPTP_LIST = 0x2024,
    VMCS_VMREAD_BITMAP = 0x2026,
    VMCS_VMWRITE_BITMAP = 0x2028,
    VMCS_VE_INFORMATION = 0x202a,
    VMCS_XSS_EXITING_BITMAP = 0x202c,
    VMCS_ENCLS_EXITING_BITMAP = 0x202e,
    VMCS_TSC_MULTIPLIER = 0x2032,

    /* B.2.2 64-bit read-only data field */
    VMCS_GUEST_PHYSICAL_ADDRESS = 0x2400,

    /* B.2.3 64-bit guest-state fields */
    VMCS_LINK_POINTER = 0x2800,
    VMCS_GUEST_DEBUGCTL = 0x2802,
    VMCS_GUEST_PAT = 0x2804,
    VMCS_GUEST_EFER = 0x2806,
    VMCS_GUEST_PERF_GLOBAL_CTRL = 0x2808,
    VMCS_GUEST_PDPTE0 = 0x280a,
    VMCS_GUEST_PDPTE1 = 0x280c,
    VMCS_GUEST_PDPTE2 = 0x280e,
    VMCS_GUEST_PDPTE3 = 0x2810,
    VMCS_GUEST_BNDCFGS = 0x2812,
    VMCS_GUEST_RTIT_CTL = 0x2814,
    VMCS_GUEST_LBR_CTL = 0x2816,
    VMCS_GUEST_PKRS = 0x2818,

    /* B.2.4 64-bit host-state fields */
    VMCS_HOST_PAT = 0x2c00,
    VMCS_HOST_EFER = 0x2c02,
    VMCS_HOST_PERF_GLOBAL_CTRL = 0x2c04,
    VMCS_HOST_PKRS = 0x2c06,

    /* B.3.1 32-bit control fields */
    VMCS_PIN_CONTROLS = 0x4000,
    VMCS_PRIMARY_CONTROLS = 0x4002,
    VMCS_EXCEPTION_BITMAP = 0x4004,
    VMCS_PAGE_FAULT_MASK = 0x4006,
    VMCS_PAGE_FAULT_MATCH = 0x4008,
    VMCS_CR3_TARGET_COUNT = 0x400a,
    VMCS_EXIT_CONTROLS = 0x400c,
    VMCS_EXIT_MSR_STORE_COUNT = 0x400e,
    VMCS_EXIT_MSR_LOAD_COUNT = 0x4010,
    VMCS_ENTRY_CONTROLS = 0x4012,
    VMCS_ENTRY_MSR_LOAD_COUNT = 0x4014,
    VMCS_ENTRY_INTERRUPTION = 0x4016,
    VMCS_ENTRY_ERROR_CODE = 0x4018,
    VMCS_ENTRY_INSTRUCTION_LENGTH = 0x401a,
    VMCS_TPR_THRESHOLD = 0x401c,
    VMCS_SECONDARY_CONTROLS = 0x401e,
    VMCS_PLE_GAP = 0x4020,
    VMCS_PLE_WINDOW = 0x4022,

    /* B.3.2 32-bit read-only data fields */
    VMCS_INSTRUCTION_ERROR = 0x4400,
    VMCS_EXIT_REASON = 0x4402,
    VMCS_EXIT_INTERRUPTION = 0x4404,
    VMCS_EXIT_ERROR_CODE = 0x4406,
    VMCS_VECTORING = 0x4408, /* IDT-vectoring information */
    VMCS_VECTORING_ERROR_CODE = 0x440a,
    VMCS_EXIT_INSTRUCTION_LENGTH = 0x440c,
    VMCS_EXIT_INSTRUCTION_INFORMATION = 0x440e,

    /* B.3.3 32-bit guest-state fields */
    VMCS_GUEST_ES_LIMIT = 0x4800,
    VMCS_GUEST_CS_LIMIT = 0x4802,
    VMCS_GUEST_SS_LIMIT = 0x4804,
    VMCS_GUEST_DS_LIMIT = 0x4806,
    VMCS_GUEST_FS_LIMIT = 0x4808,
    VMCS_GUEST_GS_LIMIT = 0x480a,
    VMCS_GUEST_LDTR_LIMIT = 0x480c,
    VMCS_GUEST_TR_LIMIT = 0x480e,
    VMCS_GUEST_GDTR_LIMIT = 0x4810,
    VMCS_GUEST_IDTR_LIMIT = 0x4812,
    VMCS_GUEST_ES_RIGHTS = 0x4814,
    VMCS_GUEST_CS_RIGHTS = 0x4816,
    VMCS_GUEST_SS_RIGHTS = 0x4818,
    VMCS_GUEST_DS_RIGHTS = 0x481a,
    VMCS_GUEST_FS_RIGHTS = 0x481c,
    VMCS_GUEST_GS_RIGHTS = 0x481e,
    VMCS_GUEST_LDTR_RIGHTS = 0x4820,
    VMCS_GUEST_TR_RIGHTS = 0x4822,
    VMCS_GUEST_INTERRUPTIBILITY = 0x4824,
    VMCS_GUEST_ACTIVITY = 0x4826,
    VMCS_GUEST_SMBASE = 0x4828,
    VMCS_GUEST_SYSENTER_CS = 0x482a,
    VMCS_GUEST_PREEMPTION_TIMER = 0x482e,

    /* B.3.4 32-bit host-state field */
    VMCS_HOST_SYSENTER_CS = 0x4c00,

    /* B.4.1 natural-width control fields */
    VMCS_CR0_MASK = 0x6000,
    VMCS_CR4_MASK = 0x6002,
    VMCS_CR0_SHADOW = 0x6004,
    VMCS_CR4_SHADOW = 0x6006,
    VMCS_CR3_TARGET0 = 0x6008,
    VMCS_CR3_TARGET1 = 0x600a,
    VMCS_CR3_TARGET2 = 0x600c,
    VMCS_CR3_TARGET3 = 0x600e,

    /* B.4.2 natural-width read-only data fields */
    VMCS_EXIT_QUALIFICATION = 0x6400,
    VMCS_IO_RCX = 0x6402,
    VMCS_IO_RSI = 0x6404,
    VMCS_IO_RDI = 0x6406,
    VMCS_IO_RIP = 0x6408,
    VMCS_GUEST_LINEAR_ADDRESS = 0x640a,

    /* B.4.3 natural-width guest-state fields */
    VMCS_GUEST_CR0 = 0x6800,
    VMCS_GUEST_CR3 = 0x6802,
    VMCS_GUEST_CR4 = 0x6804,
    VMCS_GUEST_ES_BASE = 0x6806,
    VMCS_GUEST_CS_BASE = 0x6808,
    VMCS_GUEST_SS_BASE = 0x680a,
    VMCS_GUEST_DS_BASE = 0x680c,
    VMCS_GUEST_FS_BASE = 0x680e,
    VMCS_GUEST_GS_BASE = 0x6810,
    VMCS_GUEST_LDTR_BASE = 0x6812,
    VMCS_GUEST_TR_BASE = 0x6814,
    VMCS_GUEST_GDTR_BASE = 0x6816,
    VMCS_GUEST_IDTR_BASE = 0x6818,
    VMCS_GUEST_DR7 = 0x681a,
    VMCS_GUEST_RSP = 0x681c,
    VMCS_GUEST_RIP = 0x681e,
    VMCS_GUEST_RFLAGS = 0x6820,
    VMCS_GUEST_PENDING_DEBUG = 0x6822,
    VMCS_GUEST_SYSENTER_ESP = 0x6824,
    VMCS_GUEST_SYSENTER_EIP = 0x6826,
    VMCS_GUEST_S_CET = 0x6828,
    VMCS_GUEST_SSP = 0x682a,
    VMCS_GUEST_INTERRUPT_SSP_TABLE = 0x682c,

    /* B.4.4 natural-width host-state fields */
    VMCS_HOST_CR0 = 0x6c00,
    VMCS_HOST_CR3 = 0x6c02,
    VMCS_HOST_CR4 = 0x6c04,
    VMCS_HOST_FS_BASE = 0x6c06,
    VMCS_HOST_GS_BASE = 0x6c08,
    VMCS_HOST_TR_BASE = 0x6c0a,
    VMCS_HOST_GDTR_BASE = 0x6c0c,
    VMCS_HOST_IDTR_BASE = 0x6c0e,
    VMCS_HOST_SYSENTER_ESP = 0x6c10,
    VMCS_HOST_SYSENTER_EIP = 0x6c12,
    VMCS_HOST_RSP = 0x6c14,
    VMCS_HOST_RIP = 0x6c16,
    VMCS_HOST_S_CET = 0x6c18,
    VMCS_HOST_SSP = 0x6c1a,
    VMCS_HOST_INTERRUPT_SSP_TABLE = 0x6c1c,
};

/* Segment registers in the order of their VMCS fields: a field of segment s is the one of ES plus 2 * s. */
enum vmcs_segment {
    VMCS_ES,
    VMCS_CS,
    VMCS_SS,
    VMCS_DS,
    VMCS_FS,
    VMCS_GS,
    VMCS_LDTR,
    VMCS_TR,
    VMCS_SEGMENTS,
};

static inline enum vmcs_field vmcs_segment_field(enum vmcs_field field_of_es, enum vmcs_segment segment)
{
    return (enum vmcs_field)((u32)field_of_es + 2u * (u32)segment);
}

/* Access rights of a segment, SDM vol. 3C table 25-2: bits 7:0 and 15:12 as in a descriptor. */
#define RIGHTS_DPL(rights) ((rights) >> 5 & 3)
#define RIGHTS_LONG        BIT(13)
#define RIGHTS_BIG         BIT(14) /* D/B */
#define RIGHTS_UNUSABLE    BIT(16)

/* Interruptibility state, SDM vol. 3C table 25-3. */
#define BLOCKING_BY_STI    BIT(0)
#define BLOCKING_BY_MOV_SS BIT(1)
#define BLOCKING_BY_NMI    BIT(3)

/* Activity state, SDM vol. 3C 25.4.2. */
enum activity_state {
    ACTIVITY_ACTIVE = 0,
    ACTIVITY_HLT = 1,
    ACTIVITY_SHUTDOWN = 2,
    ACTIVITY_WAIT_FOR_SIPI = 3
};

/* Pending debug exceptions, SDM vol. 3C table 25-4. */
#define PENDING_DEBUG_ENABLED     BIT(12) /* a breakpoint that DR7 enables */
#define PENDING_DEBUG_BS          BIT(14)
#define PENDING_DEBUG_TRANSACTION BIT(16)

/* VM-entry, VM-exit and IDT-vectoring interruption information, SDM vol. 3C tables 25-16, 25-18 and 25-19. */
#define INTERRUPTION_VECTOR     BITS(7, 0)
#define INTERRUPTION_TYPE       BITS(10, 8)
#define INTERRUPTION_EXTERNAL   (0ull << 8)
#define INTERRUPTION_NMI        (2ull << 8)
#define INTERRUPTION_HARDWARE   (3ull << 8) /* hardware exception */
#define INTERRUPTION_SOFTWARE   (4ull << 8) /* INT n */
#define INTERRUPTION_PRIVILEGED (5ull << 8) /* INT1 */
#define INTERRUPTION_TRAP       (6ull << 8) /* INT3, INTO */
#define INTERRUPTION_OTHER      (7ull << 8) /* entries only: an MTF exit is pending */
#define INTERRUPTION_ERROR_CODE BIT(11)
#define INTERRUPTION_VALID      BIT(31)

/* A field that the CPU does not have, or no current VMCS: a bug in Umbra, since setup checked the
 * capabilities. */
_Noreturn void vmcs_access_failed(enum vmcs_field field);

/* False if the CPU has no such field or there is no current VMCS; *value is undefined then. */
static inline bool vmread_safe(enum vmcs_field field, u64 *value)
{
    bool failed;
    __asm__ volatile("vmread %2, %1" : "=@ccbe"(failed), "=r"(*value) : "r"((u64)field));
    return !failed;
}

static inline u64 vmread(enum vmcs_field field)
{
    u64 value;
    if (__builtin_expect(!vmread_safe(field, &value), false))
        vmcs_access_failed(field);
    return value;
}

static inline void vmwrite(enum vmcs_field field, u64 value)
{
    bool failed;
    __asm__ volatile("vmwrite %1, %2" : "=@ccbe"(failed) : "r"(value), "r"((u64)field) : "memory");
    if (__builtin_expect(failed, false))
        vmcs_access_failed(field);
}

/*
 * For the path that every exit takes: without the check. Only for fields that all CPUs have, after a checked
 * access of the same exit has shown that there is a current VMCS.
 */
static inline __attribute__((always_inline)) u64 vmread_unchecked(enum vmcs_field field)
{
    u64 value;
    __asm__ volatile("mov %1, %k0; vmread %0, %0" : "=r"(value) : "i"(field) : "cc");
    return value;
}

/* The same with the 8 bytes at `from`, of which the CPU takes the field's width. */
static inline __attribute__((always_inline)) void vmwrite_from(enum vmcs_field field, const void *from)
{
    __asm__ volatile("vmwrite %0, %1" : : "m"(*(const u64 *)from), "r"((u64)field) : "cc", "memory");
}

static inline void vmwrite_unchecked(enum vmcs_field field, u64 value)
{
    __asm__ volatile("vmwrite %0, %1" : : "r"(value), "r"((u64)field) : "cc", "memory");
}

#endif
