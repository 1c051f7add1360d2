/* SPDX-License-Identifier: MIT */
/*
 * The checks of a VM entry by name: X(name, section, rule) for each, where `section` is of SDM vol. 3C and
 * `rule` says what must hold. In the manual's order.
 */
#ifndef UMBRA_NESTED_VMX_CHECK_LIST_H
#define UMBRA_NESTED_VMX_CHECK_LIST_H

/* clang-format off */
/* Controls: VM-instruction error 7. */
#define VMX_CHECK_LIST_CONTROLS(X) \
    X(PIN_RESERVED, "27.2.1.1", "pin-based controls: only settings that IA32_VMX_PINBASED_CTLS allows") \
    X(PRIMARY_RESERVED, "27.2.1.1", \
      "primary processor-based controls: only settings that IA32_VMX_PROCBASED_CTLS allows") \
    X(SECONDARY_RESERVED, "27.2.1.1", \
      "secondary processor-based controls: only settings that IA32_VMX_PROCBASED_CTLS2 allows") \
    X(CR3_TARGET_COUNT, "27.2.1.1", "CR3-target count: at most 4") \
    X(IO_BITMAP, "27.2.1.1", "I/O bitmap addresses: aligned to 4 KByte, within the address width") \
    X(MSR_BITMAPS, "27.2.1.1", "MSR-bitmap address: aligned to 4 KByte, within the address width") \
    X(VIRTUAL_APIC, "27.2.1.1", "virtual-APIC address: aligned to 4 KByte, within the address width") \
    X(TPR_THRESHOLD_RESERVED, "27.2.1.1", "TPR threshold: bits 31:4 are 0 without virtual-interrupt delivery") \
    X(TPR_THRESHOLD_VTPR, "27.2.1.1", \
      "TPR threshold: not above bits 7:4 of VTPR, unless APIC accesses or interrupts are virtualized") \
    X(NEEDS_TPR_SHADOW, "27.2.1.1", \
      "x2APIC mode, APIC-register virtualization, virtual-interrupt delivery: only with TPR shadow") \
    X(VIRTUAL_NMIS, "27.2.1.1", "virtual NMIs: only with NMI exiting") \
    X(NMI_WINDOW, "27.2.1.1", "NMI-window exiting: only with virtual NMIs") \
    X(APIC_ACCESS, "27.2.1.1", "APIC-access address: aligned to 4 KByte, within the address width") \
    X(X2APIC_AND_APIC_ACCESSES, "27.2.1.1", "virtualize x2APIC mode: not together with virtualize APIC accesses") \
    X(VIRTUAL_INTERRUPTS, "27.2.1.1", "virtual-interrupt delivery: only with external-interrupt exiting") \
    X(POSTED_INTERRUPTS, "27.2.1.1", \
      "posted interrupts: only with virtual-interrupt delivery and acknowledge interrupt on exit") \
    X(POSTED_INTERRUPT_VECTOR, "27.2.1.1", "posted-interrupt notification vector: at most 255") \
    X(POSTED_INTERRUPT_DESCRIPTOR, "27.2.1.1", \
      "posted-interrupt descriptor address: aligned to 64 bytes, within the address width") \
    X(VPID, "27.2.1.1", "VPID: not 0") \
    X(EPT_POINTER, "27.2.1.1", "EPTP: supported memory type, walk length and flags, within the address width") \
    X(PML_WITHOUT_EPT, "27.2.1.1", "PML: only with EPT") \
    X(PML_ADDRESS, "27.2.1.1", "PML address: aligned to 4 KByte, within the address width") \
    X(UNRESTRICTED_WITHOUT_EPT, "27.2.1.1", "unrestricted guest: only with EPT") \
    X(MBEC_WITHOUT_EPT, "27.2.1.1", "mode-based execute control: only with EPT") \
    X(VM_FUNCTIONS_RESERVED, "27.2.1.1", "VM-function controls: only those that IA32_VMX_VMFUNC allows") \
    X(EPTP_SWITCHING_WITHOUT_EPT, "27.2.1.1", "EPTP switching: only with EPT") \
    X(EPTP_LIST, "27.2.1.1", "EPTP-list address: aligned to 4 KByte, within the address width") \
    X(VMREAD_BITMAP, "27.2.1.1", "VMREAD-bitmap address: aligned to 4 KByte, within the address width") \
    X(VMWRITE_BITMAP, "27.2.1.1", "VMWRITE-bitmap address: aligned to 4 KByte, within the address width") \
    X(VE_INFORMATION, "27.2.1.1", \
      "virtualization-exception information address: aligned to 4 KByte, within the address width") \
    X(TSC_MULTIPLIER, "27.2.1.1", "TSC multiplier: not 0") \
    X(EXIT_RESERVED, "27.2.1.2", "VM-exit controls: only settings that IA32_VMX_EXIT_CTLS allows") \
    X(SAVE_PREEMPTION_TIMER, "27.2.1.2", "save VMX-preemption timer value: only with the timer") \
    X(EXIT_MSR_STORE, "27.2.1.2", \
      "VM-exit MSR-store address: aligned to 16 bytes, the area within the address width") \
    X(EXIT_MSR_LOAD, "27.2.1.2", "VM-exit MSR-load address: aligned to 16 bytes, the area within the address width") \
    X(ENTRY_RESERVED, "27.2.1.3", "VM-entry controls: only settings that IA32_VMX_ENTRY_CTLS allows") \
    X(ENTRY_MSR_LOAD, "27.2.1.3", \
      "VM-entry MSR-load address: aligned to 16 bytes, the area within the address width") \
    X(EVENT_TYPE, "27.2.1.3", "event injection: the type is not reserved") \
    X(EVENT_VECTOR, "27.2.1.3", "event injection: the vector is one of that type") \
    X(EVENT_ERROR_CODE, "27.2.1.3", "event injection: an error code exactly where the exception has one") \
    X(EVENT_RESERVED, "27.2.1.3", "event injection: bits 30:12 are 0") \
    X(EVENT_ERROR_CODE_RESERVED, "27.2.1.3", "event injection: bits 31:16 of the error code are 0") \
    X(EVENT_LENGTH, "27.2.1.3", \
      "event injection: the instruction length of a software event is 0 or 1 to 15")

/* Host state: VM-instruction error 8. */
#define VMX_CHECK_LIST_HOST(X) \
    X(HOST_CR0, "27.2.2", "host CR0: the fixed bits") \
    X(HOST_CR4, "27.2.2", "host CR4: the fixed bits") \
    X(HOST_CET_WITHOUT_WP, "27.2.2", "host CR4.CET: only with CR0.WP") \
    X(HOST_CR3, "27.2.2", "host CR3: no bits beyond the address width") \
    X(HOST_SYSENTER, "27.2.2", "host IA32_SYSENTER_ESP and EIP: canonical") \
    X(HOST_PERF_GLOBAL_CTRL, "27.2.2", "host IA32_PERF_GLOBAL_CTRL: no reserved bits") \
    X(HOST_PAT, "27.2.2", "host IA32_PAT: memory types 0, 1, 4, 5, 6, 7") \
    X(HOST_EFER_RESERVED, "27.2.2", "host IA32_EFER: no reserved bits") \
    X(HOST_EFER_MODE, "27.2.2", "host IA32_EFER: LMA and LME as host address-space size") \
    X(HOST_S_CET, "27.2.2", "host IA32_S_CET: no reserved bits, canonical, not both SUPPRESS and TRACKER") \
    X(HOST_SSP, "27.2.2", "host SSP: bits 1:0 are 0, canonical") \
    X(HOST_SSP_TABLE, "27.2.2", "host IA32_INTERRUPT_SSP_TABLE_ADDR: canonical") \
    X(HOST_PKRS, "27.2.2", "host IA32_PKRS: bits 63:32 are 0") \
    X(HOST_SELECTOR, "27.2.3", "host selectors: TI and RPL are 0") \
    X(HOST_CS, "27.2.3", "host CS: not null") \
    X(HOST_TR, "27.2.3", "host TR: not null") \
    X(HOST_SS, "27.2.3", "host SS: not null outside 64-bit mode") \
    X(HOST_BASE, "27.2.3", "host FS, GS, GDTR, IDTR and TR bases: canonical") \
    X(L1_NOT_IN_IA32E, "27.2.4", "outside IA-32e mode: neither IA-32e mode guest nor host address-space size") \
    X(L1_IN_IA32E, "27.2.4", "in IA-32e mode: host address-space size") \
    X(HOST_32_GUEST_64, "27.2.4", "without host address-space size: no IA-32e mode guest") \
    X(HOST_32_PCIDE, "27.2.4", "without host address-space size: host CR4.PCIDE is 0") \
    X(HOST_32_RIP, "27.2.4", "without host address-space size: bits 63:32 of host RIP are 0") \
    X(HOST_32_CET, "27.2.4", "without host address-space size: bits 63:32 of host IA32_S_CET and SSP are 0") \
    X(HOST_64_PAE, "27.2.4", "host address-space size: host CR4.PAE is 1") \
    X(HOST_64_RIP, "27.2.4", "host address-space size: host RIP is canonical")

/* Guest state: entry failure, exit reason 33. */
#define VMX_CHECK_LIST_GUEST(X) \
    X(GUEST_CR0, "27.3.1.1", "CR0: the fixed bits, but PE and PG of an unrestricted guest") \
    X(GUEST_PG_WITHOUT_PE, "27.3.1.1", "CR0: PG only with PE") \
    X(GUEST_CR4, "27.3.1.1", "CR4: the fixed bits") \
    X(GUEST_CET_WITHOUT_WP, "27.3.1.1", "CR4.CET: only with CR0.WP") \
    X(GUEST_DEBUGCTL, "27.3.1.1", "IA32_DEBUGCTL: no reserved bits") \
    X(GUEST_64_PAGING, "27.3.1.1", "IA-32e mode guest: CR0.PG and CR4.PAE are 1") \
    X(GUEST_32_PCIDE, "27.3.1.1", "without IA-32e mode guest: CR4.PCIDE is 0") \
    X(GUEST_CR3, "27.3.1.1", "CR3: no bits beyond the address width") \
    X(GUEST_DR7, "27.3.1.1", "DR7: bits 63:32 are 0") \
    X(GUEST_SYSENTER, "27.3.1.1", "IA32_SYSENTER_ESP and EIP: canonical") \
    X(GUEST_S_CET, "27.3.1.1", "IA32_S_CET: no reserved bits, canonical, not both SUPPRESS and TRACKER") \
    X(GUEST_SSP_TABLE, "27.3.1.1", "IA32_INTERRUPT_SSP_TABLE_ADDR: canonical") \
    X(GUEST_PERF_GLOBAL_CTRL, "27.3.1.1", "IA32_PERF_GLOBAL_CTRL: no reserved bits") \
    X(GUEST_PAT, "27.3.1.1", "IA32_PAT: memory types 0, 1, 4, 5, 6, 7") \
    X(GUEST_EFER_RESERVED, "27.3.1.1", "IA32_EFER: no reserved bits") \
    X(GUEST_EFER_LMA, "27.3.1.1", "IA32_EFER.LMA: as IA-32e mode guest") \
    X(GUEST_EFER_LME, "27.3.1.1", "IA32_EFER.LME: as LMA while CR0.PG is 1") \
    X(GUEST_BNDCFGS, "27.3.1.1", "IA32_BNDCFGS: bits 11:2 are 0, canonical") \
    X(GUEST_PKRS, "27.3.1.1", "IA32_PKRS: bits 63:32 are 0") \
    X(TR_SELECTOR, "27.3.1.2", "TR selector: TI is 0") \
    X(LDTR_SELECTOR, "27.3.1.2", "LDTR selector: TI is 0") \
    X(SS_RPL, "27.3.1.2", "SS selector: the RPL of CS, but for virtual-8086 mode and unrestricted guests") \
    X(V86_BASE, "27.3.1.2", "virtual-8086 mode: each base is the selector times 16") \
    X(CANONICAL_BASE, "27.3.1.2", "bases of TR, FS, GS and a usable LDTR: canonical") \
    X(BASE_32, "27.3.1.2", "bases of CS and of usable SS, DS, ES: bits 63:32 are 0") \
    X(V86_LIMIT, "27.3.1.2", "virtual-8086 mode: each limit is FFFFH") \
    X(V86_RIGHTS, "27.3.1.2", "virtual-8086 mode: access rights are F3H") \
    X(CS_TYPE, "27.3.1.2", "CS: an accessed code segment; in an unrestricted guest also type 3") \
    X(SS_TYPE, "27.3.1.2", "SS: type 3 or 7") \
    X(DATA_TYPE, "27.3.1.2", "DS, ES, FS, GS: accessed, and readable if code") \
    X(SEGMENT_S, "27.3.1.2", "CS, SS, DS, ES, FS, GS: S is 1") \
    X(CS_DPL, "27.3.1.2", "CS: a DPL that fits its type and the DPL of SS") \
    X(SS_DPL_RPL, "27.3.1.2", "SS: DPL is the RPL, but in unrestricted guests") \
    X(SS_DPL_0, "27.3.1.2", "SS: DPL is 0 if CR0.PE is 0 or CS has type 3") \
    X(DATA_DPL, "27.3.1.2", "DS, ES, FS, GS: DPL not below RPL, but for conforming code and unrestricted guests") \
    X(SEGMENT_PRESENT, "27.3.1.2", "CS, SS, DS, ES, FS, GS: present") \
    X(SEGMENT_RESERVED, "27.3.1.2", "CS, SS, DS, ES, FS, GS: reserved bits of the access rights are 0") \
    X(CS_L_AND_D, "27.3.1.2", "CS: not both L and D in IA-32e mode") \
    X(SEGMENT_GRANULARITY, "27.3.1.2", "CS, SS, DS, ES, FS, GS: G fits the limit") \
    X(TR_TYPE, "27.3.1.2", "TR: a busy TSS, in IA-32e mode of 64 bits") \
    X(TR_RIGHTS, "27.3.1.2", "TR: usable and present, S and reserved bits are 0") \
    X(TR_GRANULARITY, "27.3.1.2", "TR: G fits the limit") \
    X(LDTR_TYPE, "27.3.1.2", "LDTR: type 2") \
    X(LDTR_RIGHTS, "27.3.1.2", "LDTR: present, S and reserved bits are 0") \
    X(LDTR_GRANULARITY, "27.3.1.2", "LDTR: G fits the limit") \
    X(DESCRIPTOR_TABLE_BASE, "27.3.1.3", "GDTR and IDTR: base canonical") \
    X(DESCRIPTOR_TABLE_LIMIT, "27.3.1.3", "GDTR and IDTR: bits 31:16 of the limit are 0") \
    X(RIP, "27.3.1.4", \
      "RIP: bits 63:32 are 0 outside 64-bit mode, else those beyond the linear-address width are equal") \
    X(RFLAGS_RESERVED, "27.3.1.4", "RFLAGS: reserved bits") \
    X(VM_FLAG, "27.3.1.4", "RFLAGS.VM: only in protected mode and outside IA-32e mode") \
    X(INTERRUPT_FLAG, "27.3.1.4", "RFLAGS.IF: 1 if an external interrupt is injected") \
    X(SSP, "27.3.1.4", "SSP: bits 1:0 are 0, canonical; bits 63:32 are 0 outside 64-bit mode") \
    X(ACTIVITY_UNSUPPORTED, "27.3.1.5", "activity state: one that IA32_VMX_MISC offers") \
    X(ACTIVITY_HLT_DPL, "27.3.1.5", "activity state: HLT only with SS.DPL = 0") \
    X(ACTIVITY_BLOCKING, "27.3.1.5", "activity state: active while STI or MOV SS blocks") \
    X(ACTIVITY_EVENT, "27.3.1.5", "activity state: one in which the injected event can be delivered") \
    X(INTERRUPTIBILITY_RESERVED, "27.3.1.5", "interruptibility: bits 31:5 and those of SMM and enclaves are 0") \
    X(BLOCKING_BOTH, "27.3.1.5", "interruptibility: not by STI and MOV SS at once") \
    X(BLOCKING_STI_IF, "27.3.1.5", "interruptibility: STI blocks only with RFLAGS.IF") \
    X(BLOCKING_EXTERNAL, "27.3.1.5", \
      "interruptibility: neither STI nor MOV SS blocks an injected external interrupt") \
    X(BLOCKING_NMI_MOV_SS, "27.3.1.5", "interruptibility: MOV SS does not block an injected NMI") \
    X(BLOCKING_NMI, "27.3.1.5", "interruptibility: NMIs are not blocked when one is injected with virtual NMIs") \
    X(PENDING_DEBUG_RESERVED, "27.3.1.5", "pending debug exceptions: reserved bits are 0") \
    X(PENDING_DEBUG_STEP, "27.3.1.5", \
      "pending debug exceptions: BS as RFLAGS.TF and IA32_DEBUGCTL.BTF tell, while events are blocked or in HLT") \
    X(PENDING_DEBUG_RTM, "27.3.1.5", \
      "pending debug exceptions: RTM only alone with bit 12, on a CPU with RTM, not blocked by MOV SS") \
    X(LINK_POINTER_ADDRESS, "27.3.1.5", "VMCS link pointer: aligned to 4 KByte, within the address width") \
    X(LINK_POINTER_REVISION, "27.3.1.5", \
      "VMCS link pointer: the revision is there, and the shadow indicator as VMCS shadowing") \
    X(LINK_POINTER_CURRENT, "27.3.1.5", "VMCS link pointer: not the current VMCS") \
    X(PDPTES, "27.3.1.6", "PDPTEs of PAE paging: no reserved bits")

#define VMX_CHECK_LIST(X) VMX_CHECK_LIST_CONTROLS(X) VMX_CHECK_LIST_HOST(X) VMX_CHECK_LIST_GUEST(X)
/* clang-format on */

#endif
