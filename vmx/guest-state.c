/* SPDX-License-Identifier: MIT */
/*
 * The guest-state area: how a start state becomes VMCS fields, and how vendor-neutral code sees the guest's
 * registers.
 */
#include "arch/cpu.h"
#include "vmx/capability.h"
#include "vmx/vmx.h"

/* Access rights in the VMCS's format: type, S, DPL and P in bits 7:0, L, D/B and G in bits 15:13. */
#define RIGHTS_CODE16   0x009b /* as after INIT, but with the type of code: the CPU shows no difference */
#define RIGHTS_DATA16   0x0093
#define RIGHTS_CODE32   0xc09b
#define RIGHTS_CODE64   0xa09b
#define RIGHTS_DATA32   0xc093
#define RIGHTS_LDT      0x0082
#define RIGHTS_TSS_BUSY 0x008b
#define LIMIT_64K       0xffff
#define LIMIT_4G        0xffffffff
#define DR6_INIT        0xffff0ff0
#define DR7_INIT        0x400

struct segment {
    u64 selector, base, limit, rights;
};

static void write_segment(enum vmcs_segment segment, const struct segment *value)
{
    vmwrite(vmcs_segment_field(VMCS_GUEST_ES_SELECTOR, segment), value->selector);
    vmwrite(vmcs_segment_field(VMCS_GUEST_ES_BASE, segment), value->base);
    vmwrite(vmcs_segment_field(VMCS_GUEST_ES_LIMIT, segment), value->limit);
    vmwrite(vmcs_segment_field(VMCS_GUEST_ES_RIGHTS, segment), value->rights);
}

static void write_segments(const struct start_state *start)
{
    static const struct segment ldtr = {0, 0, LIMIT_64K, RIGHTS_LDT};
    static const struct segment tr = {0, 0, LIMIT_64K, RIGHTS_TSS_BUSY};
    bool real = start->mode == START_REAL;
    struct segment code = {start->cs_selector, real ? start->cs_base : 0, real ? LIMIT_64K : LIMIT_4G,
                           real ? RIGHTS_CODE16 : RIGHTS_CODE32};
    struct segment data = {start->data_selector, real ? (u64)start->data_selector << 4 : 0,
                           real ? LIMIT_64K : LIMIT_4G, real ? RIGHTS_DATA16 : RIGHTS_DATA32};

    if (start->mode == START_LONG64)
        code.rights = RIGHTS_CODE64;
    write_segment(VMCS_CS, &code);
    write_segment(VMCS_ES, &data);
    write_segment(VMCS_SS, &data);
    write_segment(VMCS_DS, &data);
    write_segment(VMCS_FS, &data);
    write_segment(VMCS_GS, &data);
    write_segment(VMCS_LDTR, &ldtr);
    write_segment(VMCS_TR, &tr);
    vmwrite(VMCS_GUEST_GDTR_BASE, start->gdt_base);
    vmwrite(VMCS_GUEST_GDTR_LIMIT, real ? LIMIT_64K : start->gdt_limit);
    /* A loaded kernel brings its own IDT; until then an exception is a triple fault, which Umbra reports. */
    vmwrite(VMCS_GUEST_IDTR_BASE, 0);
    vmwrite(VMCS_GUEST_IDTR_LIMIT, real ? LIMIT_64K : 0);
}

static void write_control_registers(const struct start_state *start)
{
    u64 cr0 = CR0_ET;
    u64 cr4 = 0;
    u64 efer = 0;
    u64 entry = vmx_capability.controls.word[CONTROL_ENTRY];

    if (start->mode != START_REAL)
        cr0 |= CR0_PE;
    if (start->mode == START_LONG64) {
        cr0 |= CR0_PG;
        cr4 |= CR4_PAE;
        efer |= EFER_LME | EFER_LMA;
        entry |= ENTRY_IA32E_GUEST;
    }
    vmwrite(VMCS_GUEST_CR0, cr0 | vmx_capability.cr0_forced);
    vmwrite(VMCS_CR0_MASK, vmx_capability.cr0_forced);
    vmwrite(VMCS_CR0_SHADOW, cr0);
    vmwrite(VMCS_GUEST_CR4, cr4 | vmx_capability.cr4_fixed0);
    vmwrite(VMCS_CR4_MASK, ~CR4_GUEST_OWNED);
    vmwrite(VMCS_CR4_SHADOW, cr4);
    vmwrite(VMCS_GUEST_CR3, start->mode == START_LONG64 ? start->cr3 : 0);
    vmwrite(VMCS_GUEST_EFER, efer);
    vmwrite(VMCS_ENTRY_CONTROLS, entry);
}

void vmx_guest_state_reset(struct vcpu *vcpu, const struct start_state *start)
{
    write_control_registers(start);
    write_segments(start);
    for (unsigned i = 0; i < GPR_COUNT; i++)
        vcpu->gpr[i] = start->gpr[i];
    vmwrite(VMCS_GUEST_RSP, start->gpr[GPR_RSP]);
    vmwrite(VMCS_GUEST_RIP, start->rip);
    vmwrite(VMCS_GUEST_RFLAGS, RFLAGS_RESERVED1);
    vmwrite(VMCS_GUEST_DR7, DR7_INIT);
    vmwrite(VMCS_GUEST_DEBUGCTL, 0);
    vmwrite(VMCS_GUEST_PENDING_DEBUG, 0);
    vmwrite(VMCS_GUEST_INTERRUPTIBILITY, 0);
    vmwrite(VMCS_GUEST_ACTIVITY, ACTIVITY_ACTIVE);
    vmwrite(VMCS_ENTRY_INTERRUPTION, 0);
    write_cr2(0);
    write_dr6(DR6_INIT);
    vmx_flush_linear(vcpu);
}

u64 vmx_guest_cr0(void)
{
    u64 mask = vmx_capability.cr0_forced;
    return (vmread(VMCS_GUEST_CR0) & ~mask) | (vmread(VMCS_CR0_SHADOW) & mask);
}

bool vmx_code64(void)
{
    return (vmread(VMCS_GUEST_EFER) & EFER_LMA) != 0 && (vmread(VMCS_GUEST_CS_RIGHTS) & RIGHTS_LONG) != 0;
}

void vmx_exit_context(struct vcpu *vcpu, struct exit_context *context)
{
    vcpu->gpr[GPR_RSP] = vmread(VMCS_GUEST_RSP);
    *context = (struct exit_context){
        .rip = vmread(VMCS_GUEST_RIP),
        .rflags = vmread(VMCS_GUEST_RFLAGS),
        .cr0 = vmx_guest_cr0(),
        .cr4 = vmx_guest_cr4(),
        .efer = vmread(VMCS_GUEST_EFER),
        .cpl = (unsigned)RIGHTS_DPL(vmread(VMCS_GUEST_SS_RIGHTS)),
        .code64 = vmx_code64(),
    };
}
