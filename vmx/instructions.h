/* SPDX-License-Identifier: MIT */
/*
 * One inline function per VMX instruction, but for VMREAD and VMWRITE, which are in vmx/vmcs.h, and the
 * entries, which are in vmx/entry.S. True means that the instruction succeeded (SDM vol. 3D 31.2).
 */
#ifndef UMBRA_VMX_INSTRUCTIONS_H
#define UMBRA_VMX_INSTRUCTIONS_H

#include "arch/types.h"

static inline bool vmxon(hpa_t region)
{
    bool failed;
    __asm__ volatile("vmxon %1" : "=@ccbe"(failed) : "m"(region.raw) : "memory");
    return !failed;
}

static inline bool vmclear(hpa_t vmcs)
{
    bool failed;
    __asm__ volatile("vmclear %1" : "=@ccbe"(failed) : "m"(vmcs.raw) : "memory");
    return !failed;
}

static inline bool vmptrld(hpa_t vmcs)
{
    bool failed;
    __asm__ volatile("vmptrld %1" : "=@ccbe"(failed) : "m"(vmcs.raw) : "memory");
    return !failed;
}

/* Types of INVEPT and INVVPID. */
enum { INV_SINGLE_CONTEXT = 1, INV_ALL_CONTEXTS = 2 };

static inline bool invept(u64 type, u64 ept_pointer)
{
    const struct {
        u64 ept_pointer, reserved;
    } descriptor = {ept_pointer, 0};
    bool failed;
    __asm__ volatile("invept %1, %2" : "=@ccbe"(failed) : "m"(descriptor), "r"(type) : "memory");
    return !failed;
}

static inline bool invvpid(u64 type, u16 vpid)
{
    const struct {
        u64 vpid, linear_address;
    } descriptor = {vpid, 0};
    bool failed;
    __asm__ volatile("invvpid %1, %2" : "=@ccbe"(failed) : "m"(descriptor), "r"(type) : "memory");
    return !failed;
}

#endif
