/* SPDX-License-Identifier: MIT */
/*
 * The guest's state in words, for fatal reports. It reads only, and bears a VMCS that is missing or half
 * built.
 */
#include "arch/cpu.h"
#include "arch/print.h"
#include "vmx/vmx.h"

/* VM-instruction error numbers, SDM vol. 3D 31.4 */
static const char *const instruction_errors[] = {
    [1] = "VMCALL executed in VMX root operation",
    [2] = "VMCLEAR with invalid physical address",
    [3] = "VMCLEAR with VMXON pointer",
    [4] = "VMLAUNCH with non-clear VMCS",
    [5] = "VMRESUME with non-launched VMCS",
    [6] = "VMRESUME after VMXOFF",
    [7] = "VM entry with invalid control field(s)",
    [8] = "VM entry with invalid host-state field(s)",
    [9] = "VMPTRLD with invalid physical address",
    [10] = "VMPTRLD with VMXON pointer",
    [11] = "VMPTRLD with incorrect VMCS revision identifier",
    [12] = "VMREAD/VMWRITE from/to unsupported VMCS component",
    [13] = "VMWRITE to read-only VMCS component",
    [15] = "VMXON executed in VMX root operation",
    [16] = "VM entry with invalid executive-VMCS pointer",
    [17] = "VM entry with non-launched executive VMCS",
    [18] = "VM entry with executive-VMCS pointer not VMXON pointer",
    [19] = "VMCALL with non-clear VMCS",
    [20] = "VMCALL with invalid VM-exit control fields",
    [22] = "VMCALL with incorrect MSEG revision identifier",
    [23] = "VMXOFF under dual-monitor treatment of SMIs and SMM",
    [24] = "VMCALL with invalid SMM-monitor features",
    [25] = "VM entry with invalid VM-execution control fields in executive VMCS",
    [26] = "VM entry with events blocked by MOV SS",
    [28] = "Invalid operand to INVEPT/INVVPID",
};

const char *vmx_instruction_error_name(u64 error)
{
    if (error >= ARRAY_SIZE(instruction_errors) || instruction_errors[error] == NULL)
        return "unknown";
    return instruction_errors[error];
}

void vmcs_access_failed(enum vmcs_field field)
{
    fatal("access to VMCS field %x failed: the CPU does not have it, or no VMCS is current", (unsigned)field);
}

static u64 field(enum vmcs_field name)
{
    u64 value;
    return vmread_safe(name, &value) ? value : 0;
}

static void dump_registers(struct vcpu *vcpu)
{
    vcpu->gpr[GPR_RSP] = field(VMCS_GUEST_RSP);
    log_registers(vcpu->gpr);
    log_error("  rip %016lx  rflags %08lx", field(VMCS_GUEST_RIP), field(VMCS_GUEST_RFLAGS));
    log_error("  cr0 %lx (sees %lx)  cr2 %lx  cr3 %lx  cr4 %lx (sees %lx)  efer %lx", field(VMCS_GUEST_CR0),
              field(VMCS_CR0_SHADOW), read_cr2(), field(VMCS_GUEST_CR3), field(VMCS_GUEST_CR4),
              field(VMCS_CR4_SHADOW), field(VMCS_GUEST_EFER));
}

static void dump_segments(void)
{
    static const char names[VMCS_SEGMENTS][5] = {"es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"};

    for (unsigned s = 0; s < VMCS_SEGMENTS; s++) {
        enum vmcs_segment segment = (enum vmcs_segment)s;
        log_error("  %-4s %04lx base %016lx limit %08lx rights %05lx", names[s],
                  field(vmcs_segment_field(VMCS_GUEST_ES_SELECTOR, segment)),
                  field(vmcs_segment_field(VMCS_GUEST_ES_BASE, segment)),
                  field(vmcs_segment_field(VMCS_GUEST_ES_LIMIT, segment)),
                  field(vmcs_segment_field(VMCS_GUEST_ES_RIGHTS, segment)));
    }
    log_error("  gdtr base %016lx limit %04lx  idtr base %016lx limit %04lx", field(VMCS_GUEST_GDTR_BASE),
              field(VMCS_GUEST_GDTR_LIMIT), field(VMCS_GUEST_IDTR_BASE), field(VMCS_GUEST_IDTR_LIMIT));
}

static void dump_controls(void)
{
    log_error("  controls: pin %lx primary %lx secondary %lx exit %lx entry %lx", field(VMCS_PIN_CONTROLS),
              field(VMCS_PRIMARY_CONTROLS), field(VMCS_SECONDARY_CONTROLS), field(VMCS_EXIT_CONTROLS),
              field(VMCS_ENTRY_CONTROLS));
    log_error("  eptp %lx  activity %lx  interruptibility %lx  pending debug %lx", field(VMCS_EPT_POINTER),
              field(VMCS_GUEST_ACTIVITY), field(VMCS_GUEST_INTERRUPTIBILITY),
              field(VMCS_GUEST_PENDING_DEBUG));
    log_error("  exit reason %lx  qualification %lx  guest-physical %lx  linear %lx", field(VMCS_EXIT_REASON),
              field(VMCS_EXIT_QUALIFICATION), field(VMCS_GUEST_PHYSICAL_ADDRESS),
              field(VMCS_GUEST_LINEAR_ADDRESS));
    log_error("  exit interruption %lx  IDT-vectoring %lx  entry interruption %lx",
              field(VMCS_EXIT_INTERRUPTION), field(VMCS_VECTORING), field(VMCS_ENTRY_INTERRUPTION));
}

void vmx_dump(struct vcpu *vcpu)
{
    log_error("guest state of CPU %u:", vcpu->index);
    if (vcpu->vendor == NULL || !vmx_of(vcpu)->vmcs_current) {
        log_error("  there is none yet");
        return;
    }
    dump_registers(vcpu);
    dump_segments();
    dump_controls();
}
