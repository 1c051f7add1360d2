/* SPDX-License-Identifier: MIT */
/*
 * vmcs12: the VMCS that L1 writes for L2, as Umbra keeps it: in L1's VMCS region in memory while it is not
 * current, in Umbra's own memory while it is. One member per supported field, under the field's name; the
 * layout is Umbra's own choice (SDM vol. 3C 25.2) and never shown to L1 but as bytes.
 * Which encoding is which member, who may write it and which control it belongs to is in nested/vmx-fields.c.
 */
#ifndef UMBRA_NESTED_VMCS12_H
#define UMBRA_NESTED_VMCS12_H

#include "arch/types.h"
#include "vmx/vmcs.h"

/*
 * The VMCS revision identifier that L1 sees (IA32_VMX_BASIC bits 30:0). It changes whenever the layout does,
 * and is unlike any CPU's, so that a region of the hardware's is not taken for one of ours.
 */
#define VMCS12_REVISION 0x00756d01u

/* Bit 31 of the first word: a shadow VMCS (SDM vol. 3C 25.10). */
#define VMCS_SHADOW_INDICATOR BIT(31)

enum vmcs12_launch_state { VMCS12_CLEAR, VMCS12_LAUNCHED };

enum { CR3_TARGETS = 4, EOI_EXIT_BITMAPS = 4, VMCS_PDPTES = 4, HOST_SEGMENTS = VMCS_TR + 1 };

/*
 * Segment arrays are indexed by enum vmcs_segment. host_selector has ES to GS and TR; its element VMCS_LDTR
 * is no field and stays 0.
 */
struct vmcs12 {
    u32 revision;        /* with VMCS_SHADOW_INDICATOR */
    u32 abort_indicator; /* VMX-abort indicator, SDM vol. 3C 28.7 */
    u32 launch_state;    /* enum vmcs12_launch_state */
    u32 reserved;

    /* 64-bit control fields */
    u64 io_bitmap_a, io_bitmap_b, msr_bitmaps;
    u64 exit_msr_store, exit_msr_load, entry_msr_load; /* addresses */
    u64 executive_vmcs, pml_address, tsc_offset;
    u64 virtual_apic, apic_access, posted_interrupt_descriptor; /* addresses */
    u64 vm_function_controls, ept_pointer;
    u64 eoi_exit_bitmap[EOI_EXIT_BITMAPS];
    u64 eptp_list, vmread_bitmap, vmwrite_bitmap, ve_information; /* addresses */
    u64 xss_exiting_bitmap, encls_exiting_bitmap, tsc_multiplier;

    /* 64-bit read-only data field */
    u64 guest_physical_address;

    /* 64-bit guest-state fields */
    u64 link_pointer, guest_debugctl, guest_pat, guest_efer, guest_perf_global_ctrl;
    u64 guest_pdpte[VMCS_PDPTES];
    u64 guest_bndcfgs, guest_pkrs;

    /* 64-bit host-state fields */
    u64 host_pat, host_efer, host_perf_global_ctrl, host_pkrs;

    /* Natural-width control fields */
    u64 cr0_mask, cr4_mask, cr0_shadow, cr4_shadow;
    u64 cr3_target[CR3_TARGETS];

    /* Natural-width read-only data fields */
    u64 exit_qualification, io_rcx, io_rsi, io_rdi, io_rip, guest_linear_address;

    /* Natural-width guest-state fields */
    u64 guest_cr0, guest_cr3, guest_cr4;
    u64 guest_base[VMCS_SEGMENTS];
    u64 guest_gdtr_base, guest_idtr_base;
    u64 guest_dr7, guest_rsp, guest_rip, guest_rflags, guest_pending_debug;
    u64 guest_sysenter_esp, guest_sysenter_eip;
    u64 guest_s_cet, guest_ssp, guest_interrupt_ssp_table;

    /* Natural-width host-state fields */
    u64 host_cr0, host_cr3, host_cr4;
    u64 host_fs_base, host_gs_base, host_tr_base, host_gdtr_base, host_idtr_base;
    u64 host_sysenter_esp, host_sysenter_eip, host_rsp, host_rip;
    u64 host_s_cet, host_ssp, host_interrupt_ssp_table;

    /* 32-bit control fields */
    u32 pin_controls, primary_controls, secondary_controls, exit_controls, entry_controls;
    u32 exception_bitmap, page_fault_mask, page_fault_match, cr3_target_count;
    u32 exit_msr_store_count, exit_msr_load_count, entry_msr_load_count;
    u32 entry_interruption, entry_error_code, entry_instruction_length;
    u32 tpr_threshold, ple_gap, ple_window;

    /* 32-bit read-only data fields */
    u32 instruction_error, exit_reason, exit_interruption, exit_error_code;
    u32 vectoring, vectoring_error_code; /* IDT-vectoring information */
    u32 exit_instruction_length, exit_instruction_information;

    /* 32-bit guest-state fields */
    u32 guest_limit[VMCS_SEGMENTS], guest_rights[VMCS_SEGMENTS];
    u32 guest_gdtr_limit, guest_idtr_limit;
    u32 guest_interruptibility, guest_activity, guest_smbase, guest_sysenter_cs, guest_preemption_timer;

    /* 32-bit host-state field */
    u32 host_sysenter_cs;

    /* 16-bit control fields */
    u16 vpid, posted_interrupt_vector, eptp_index;

    /* 16-bit guest-state fields */
    u16 guest_selector[VMCS_SEGMENTS];
    u16 guest_interrupt_status, pml_index;

    /* 16-bit host-state fields */
    u16 host_selector[HOST_SEGMENTS];
    u16 padding[3];
};

/* A change of any of these is a change of the layout: give VMCS12_REVISION a new value with it. */
_Static_assert(offsetof(struct vmcs12, io_bitmap_a) == 16, "header");
_Static_assert(offsetof(struct vmcs12, cr0_mask) == 344, "64-bit fields");
_Static_assert(offsetof(struct vmcs12, pin_controls) == 760, "natural-width fields");
_Static_assert(offsetof(struct vmcs12, vpid) == 960, "32-bit fields");
_Static_assert(sizeof(struct vmcs12) == 1008, "16-bit fields");

/*
 * Groups of fields that an entry deals with together: a VMWRITE marks the group of its field in
 * nested_vmx.dirty.
 */
enum vmcs12_group {
    VMCS12_CONTROLS = 1 << 0, /* VM-execution, exit and entry controls, their addresses and masks */
    VMCS12_EVENT = 1 << 1,    /* VM-entry interruption information, error code, instruction length; and what
                                 has to fit an event: interruptibility, RFLAGS */
    VMCS12_HOST = 1 << 2,     /* host state */
    VMCS12_SEGMENTS = 1 << 3, /* guest segments, descriptor-table registers, SYSENTER */
    VMCS12_GUEST = 1 << 4,    /* guest state that few entries change: CR0, CR3, CR4, MSRs, DR7, PDPTEs,
                                 activity, pending debug exceptions */
    VMCS12_HOT = 1 << 5,      /* guest state that most entries change: RIP, RSP, and what is not checked */
    VMCS12_INFORMATION = 1 << 6, /* read-only data: no entry reads it */
    VMCS12_ALL = (1 << 7) - 1,
    /* What an entry checks. */
    VMCS12_CHECKED = VMCS12_ALL & ~VMCS12_INFORMATION,
    /* Stays in vmcs02 after an exit until it is asked for: nested_vmx.unsaved. */
    VMCS12_LAZY = VMCS12_SEGMENTS | VMCS12_GUEST,
};

#endif
