/* SPDX-License-Identifier: MIT */
/*
 * What this CPU caches of translations (SDM vol. 3C 29.4), and when Umbra has to drop it. With a VPID neither
 * entries nor exits flush anything, so each case is named here and called where it arises.
 */
#include "arch/print.h"
#include "vmx/capability.h"
#include "vmx/instructions.h"
#include "vmx/vmx.h"

static void flush_ept(u64 type, u64 ept_pointer)
{
    bool done = invept(type, ept_pointer);
    ASSERT(done, "INVEPT failed with a type that IA32_VMX_EPT_VPID_CAP offers");
}

static void flush_vpid(u64 type, u16 vpid)
{
    bool done = invvpid(type, vpid);
    ASSERT(done, "INVVPID failed with a type that IA32_VMX_EPT_VPID_CAP offers");
}

/*
 * VMXON flushes nothing: an earlier hypervisor may have used the same tags. Without all-context types there
 * is no way to do so and no need either: those types are offered by all CPUs known.
 */
void vmx_flush_all(void)
{
    if ((vmx_capability.ept_vpid & EPT_INVEPT_ALL_CONTEXTS) != 0)
        flush_ept(INV_ALL_CONTEXTS, 0);
    if ((vmx_capability.ept_vpid & VPID_INVVPID) != 0 &&
        (vmx_capability.ept_vpid & VPID_INVVPID_ALL_CONTEXTS) != 0)
        flush_vpid(INV_ALL_CONTEXTS, 0);
}

void vmx_flush_ept_pointer(u64 ept_pointer)
{
    bool single = (vmx_capability.ept_vpid & EPT_INVEPT_SINGLE_CONTEXT) != 0;

    flush_ept(single ? INV_SINGLE_CONTEXT : INV_ALL_CONTEXTS, ept_pointer);
}

/*
 * Alone, a CPU flushes the shadows of nested/ when it next uses them; but one that answers another may be
 * about to enter L2.
 */
void vmx_flush_guests(struct vcpu *vcpu)
{
    if (machine.cpus > 1)
        flush_ept(INV_ALL_CONTEXTS, 0);
    else
        vmx_flush_ept_pointer(vmx_of(vcpu)->ept_pointer);
}

void vmx_flush_linear(struct vcpu *vcpu)
{
    vmx_flush_vpid(vmx_of(vcpu)->vpid);
}

void vmx_flush_vpid(u16 vpid)
{
    if (vpid == 0)
        return; /* the next entry does it */
    bool single = (vmx_capability.ept_vpid & VPID_INVVPID_SINGLE_CONTEXT) != 0;
    flush_vpid(single ? INV_SINGLE_CONTEXT : INV_ALL_CONTEXTS, vpid);
}
