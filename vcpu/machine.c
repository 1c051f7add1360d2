/* SPDX-License-Identifier: MIT */
/* What all virtual CPUs share, the making of one, and its part of a fatal report. */
#include "vcpu/vcpu.h"

#include "arch/cpu.h"
#include "arch/msr.h"
#include "mm/frame.h"

/* Four levels of second-level tables translate so many bits: SDM vol. 3C 29.3.2. */
enum { TDP_ADDRESS_BITS = 48 };

enum { REPORT_EXITS = 16 };

#define CPUID_STRUCTURED         0x7u
#define CPUID_ECX_TME            BIT(13)
#define CPUID_EXTENDED           0x80000000u
#define CPUID_ENCRYPTION         0x8000001fu
#define CPUID_EBX_REDUCTION(ebx) ((ebx) >> 6 & 0x3f) /* physical-address bits that encryption takes */

struct machine machine;

/* TME-MK: the highest physical-address bits choose a key (SDM vol. 4, IA32_TME_ACTIVATE). */
static unsigned tme_key_bits(void)
{
    u64 activate;
    if (cpuid(0, 0).eax < CPUID_STRUCTURED || (cpuid(CPUID_STRUCTURED, 0).ecx & CPUID_ECX_TME) == 0 ||
        !rdmsr_safe(MSR_IA32_TME_ACTIVATE, &activate) || (activate & IA32_TME_ACTIVATE_ENABLE) == 0)
        return 0;
    return (unsigned)((activate & IA32_TME_ACTIVATE_KEYID_BITS) >> 32);
}

/* SME: with encryption allowed, the C-bit and those above it are no address bits (APM vol. 2 7.10.1). */
static unsigned sme_key_bits(void)
{
    u64 syscfg;
    if (cpuid(CPUID_EXTENDED, 0).eax < CPUID_ENCRYPTION || !rdmsr_safe(MSR_SYSCFG, &syscfg) ||
        (syscfg & SYSCFG_MEM_ENCRYPTION_MODE_EN) == 0)
        return 0;
    return CPUID_EBX_REDUCTION(cpuid(CPUID_ENCRYPTION, 0).ebx);
}

u64 machine_physical_limit(unsigned maxphyaddr)
{
    unsigned key_bits = tme_key_bits() + sme_key_bits();
    return BIT(min_u64(maxphyaddr - key_bits, TDP_ADDRESS_BITS));
}

static enum memory_type type_of(u64 start, u64 end, u64 *uniform_end)
{
    if (machine.tdp.config.format == TDP_EPT)
        return mtrr_type(&machine.mtrr, start, end, uniform_end);
    *uniform_end = end;
    return MT_WB;
}

enum tdp_status machine_map(u64 start, u64 end, unsigned access)
{
    enum tdp_status status = TDP_OK;
    u64 next;

    for (u64 at = start; at < end && status == TDP_OK; at = next) {
        enum memory_type type = type_of(at, end, &next);
        status = tdp_map(&machine.tdp, at, next, access, type);
    }
    return status;
}

bool vcpu_init(struct vcpu *vcpu, unsigned index)
{
    vcpu->index = index;
    return frame_alloc(&vcpu->scratch);
}

void vcpu_report(const struct vcpu *vcpu)
{
    accounting_print(&vcpu->accounting, REPORT_EXITS);
}
