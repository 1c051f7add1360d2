/* SPDX-License-Identifier: MIT */
/*
 * Control-register accesses that exit: writes that change a bit which VMX operation keeps. CR0.NE has to be 1
 * in the real register (the guest's own value is in the read shadow), and most guests write it once. Of CR4,
 * bits that the guest may not have exit, so each such write is #GP(0), as on a CPU without the feature; VMXE
 * is in the read shadow of a guest that is shown VMX. In VMX operation of the guest PE and PG are kept, too.
 * Everything else, paging and IA-32e mode included, the CPU does by itself in an unrestricted guest. Source:
 * SDM vol. 3C 26.1.3, 26.3, 28.2.1.
 */
#include "arch/cpu.h"
#include "arch/print.h"
#include "mm/guest-mem.h"
#include "vmx/capability.h"
#include "vmx/cr0.h"
#include "vmx/cr4.h"
#include "vmx/vmx.h"

/* Exit qualification, SDM vol. 3C table 28-3 */
#define ACCESS_REGISTER(qualification)    ((qualification)&BITS(3, 0))
#define ACCESS_TYPE(qualification)        ((qualification) >> 4 & 3)
#define ACCESS_GPR(qualification)         ((qualification) >> 8 & 15)
#define ACCESS_LMSW_SOURCE(qualification) ((qualification) >> 16 & BITS(15, 0))

enum access_type { ACCESS_MOV_TO, ACCESS_MOV_FROM, ACCESS_CLTS, ACCESS_LMSW };

enum { PDPTES = 4 };
#define CR3_PAE_BASE   BITS(31, 5)
#define PDPTE_PRESENT  BIT(0)
#define PDPTE_RESERVED (BITS(2, 1) | BITS(8, 5))

bool vmx_load_pdptes(void)
{
    static const enum vmcs_field fields[PDPTES] = {VMCS_GUEST_PDPTE0, VMCS_GUEST_PDPTE1, VMCS_GUEST_PDPTE2,
                                                   VMCS_GUEST_PDPTE3};
    u64 reserved = PDPTE_RESERVED | ~(machine.physical_limit - 1);
    u64 pdpte[PDPTES];

    /* What is not the guest's memory reads as ones, which have reserved bits set. */
    if (guest_read(gpa(vmread(VMCS_GUEST_CR3) & CR3_PAE_BASE), pdpte, sizeof(pdpte)) != GUEST_MEM_OK)
        return false;
    for (unsigned i = 0; i < PDPTES; i++) {
        if ((pdpte[i] & PDPTE_PRESENT) != 0 && (pdpte[i] & reserved) != 0)
            return false;
    }
    for (unsigned i = 0; i < PDPTES; i++)
        vmwrite(fields[i], pdpte[i]);
    return true;
}

/* CD and NW are no part of the VMCS's CR0: entries and exits leave the real ones alone (SDM vol.
 * 3C 27.3.2.1, 28.5.1). */
static void write_cache_bits(u64 cr0)
{
    u64 real = read_cr0();
    u64 wanted = (real & ~(CR0_CD | CR0_NW)) | (cr0 & (CR0_CD | CR0_NW));
    if (wanted != real)
        write_cr0(wanted);
}

static void set_efer(u64 efer)
{
    u64 entry = vmread(VMCS_ENTRY_CONTROLS) & ~ENTRY_IA32E_GUEST;
    if ((efer & EFER_LMA) != 0)
        entry |= ENTRY_IA32E_GUEST;
    vmwrite(VMCS_GUEST_EFER, efer);
    vmwrite(VMCS_ENTRY_CONTROLS, entry);
}

/* CR0_FIXED0 in the guest's VMX operation, SDM vol. 3C 24.8: what only root operation of a hypervisor keeps.
 */
#define CR0_KEPT_IN_ROOT_OPERATION (CR0_PE | CR0_NE | CR0_PG)

void vmx_write_cr0_mask(const struct vcpu *vcpu)
{
    u64 kept = vmx_of(vcpu)->root_operation ? CR0_KEPT_IN_ROOT_OPERATION : 0;

    vmwrite(VMCS_CR0_MASK, vmx_capability.cr0_forced | kept);
}

static enum exit_action write_guest_cr0(struct vcpu *vcpu, u64 value)
{
    u64 cs_rights = vmread(VMCS_GUEST_CS_RIGHTS);
    u64 tr_type = vmread(VMCS_GUEST_TR_RIGHTS) & BITS(3, 0);
    struct cr0_change change = {
        .old = vmx_guest_cr0(),
        .new = cr0_effective(value) | (value & BITS(63, 32)),
        .cr4 = vmx_guest_cr4(),
        .efer = vmread(VMCS_GUEST_EFER),
        .code64 = vmx_code64(),
        .cs_long = (cs_rights & RIGHTS_LONG) != 0,
        .tss16 = tr_type == 1 || tr_type == 3,
    };

    if (!cr0_change_valid(&change))
        return EXIT_GP;
    if (vmx_of(vcpu)->root_operation && (~change.new &CR0_KEPT_IN_ROOT_OPERATION) != 0)
        return EXIT_GP;
    if (cr0_change_loads_pdptes(&change) && !vmx_load_pdptes())
        return EXIT_GP;
    if (cr0_change_efer(&change) != change.efer)
        set_efer(cr0_change_efer(&change));
    write_cache_bits(change.new);
    vmx_set_guest_cr0(change.new);
    vmx_flush_linear(vcpu);
    return EXIT_SKIP;
}

static enum exit_action write_guest_cr4(struct vcpu *vcpu, u64 value)
{
    struct cr4_change change = {
        .old = vmx_guest_cr4(),
        .new = value,
        .allowed = vmx_capability.cr4_fixed1 &(CR4_GUEST_OWNED | (machine.nested ? CR4_VMXE : 0)),
        .cr0 = vmx_guest_cr0(),
        .cr3 = vmread(VMCS_GUEST_CR3),
        .efer = vmread(VMCS_GUEST_EFER),
        .vmx_operation = vmx_of(vcpu)->root_operation,
    };

    if (!cr4_change_valid(&change))
        return EXIT_GP;
    if (cr4_change_loads_pdptes(&change) && !vmx_load_pdptes())
        return EXIT_GP;
    vmx_set_guest_cr4(value);
    vmx_flush_linear(vcpu);
    return EXIT_SKIP;
}

static u64 source_operand(struct vcpu *vcpu, u64 qualification)
{
    unsigned index = (unsigned)ACCESS_GPR(qualification);
    u64 value = index == GPR_RSP ? vmread(VMCS_GUEST_RSP) : vcpu->gpr[index];
    return vmx_code64() ? value : value & BITS(31, 0);
}

enum exit_action vmx_control_register_exit(struct vcpu *vcpu, u64 qualification)
{
    unsigned number = (unsigned)ACCESS_REGISTER(qualification);

    switch (ACCESS_TYPE(qualification)) {
    case ACCESS_MOV_TO:
        if (number == 0)
            return write_guest_cr0(vcpu, source_operand(vcpu, qualification));
        if (number == 4)
            return write_guest_cr4(vcpu, source_operand(vcpu, qualification));
        break;
    case ACCESS_CLTS:
        return write_guest_cr0(vcpu, vmx_guest_cr0() & ~CR0_TS);
    case ACCESS_LMSW:
        return write_guest_cr0(vcpu, cr0_lmsw(vmx_guest_cr0(), ACCESS_LMSW_SOURCE(qualification)));
    default:
        break;
    }
    fatal("the guest's access to CR%u at %lx exited though no control asks for it (qualification %lx)",
          number, vmread(VMCS_GUEST_RIP), qualification);
}
