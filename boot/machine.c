/* SPDX-License-Identifier: MIT */
#include "boot/machine.h"

#include "arch/cpu.h"
#include "arch/msr.h"
#include "arch/string.h"
#include "mm/memmap.h"
#include "vcpu/vcpu.h"

#define CPUID_FEATURES           1u
#define CPUID_EDX_MTRR           BIT(12)
#define CPUID_EXTENDED_ADDRESSES 0x80000008u

static void read_mtrrs(struct mtrr_state *mtrr, unsigned maxphyaddr)
{
    mtrr->maxphyaddr = maxphyaddr;
    mtrr->cap = rdmsr(MSR_IA32_MTRRCAP);
    mtrr->def_type = rdmsr(MSR_IA32_MTRR_DEF_TYPE);
    mtrr->variable_count = (unsigned)min_u64(mtrr->cap & IA32_MTRRCAP_VCNT, MTRR_VARIABLE_MAX);
    for (unsigned i = 0; (mtrr->cap & IA32_MTRRCAP_FIX) != 0 && i < MTRR_FIXED_COUNT; i++)
        mtrr->fixed[i] = rdmsr(mtrr_fixed_msr(i));
    for (unsigned i = 0; i < mtrr->variable_count; i++) {
        mtrr->variable[i].base = rdmsr(MSR_IA32_MTRR_PHYSBASE0 + 2 * i);
        mtrr->variable[i].mask = rdmsr(MSR_IA32_MTRR_PHYSMASK0 + 2 * i);
    }
}

const char *boot_machine_init(const struct tdp_config *config)
{
    static const char no_memory[] = "Umbra's memory pool is too small for the second-level tables: give the "
                                    "machine more memory and report it";
    u64 mapped = align_up(max_u64(GIB(4), memmap_ram_top(&guest_memmap)), GIB(1));

    machine.physical_limit = machine_physical_limit(config->maxphyaddr);
    machine.mode_based_execute = config->mode_based_execute;
    if (tdp_init(&machine.tdp, config) != TDP_OK ||
        tdp_map(&machine.tdp, 0, min_u64(mapped, machine.physical_limit), TDP_RWX, MT_WB) != TDP_OK ||
        tdp_unmap(&machine.tdp, umbra_region.start, umbra_region.end) != TDP_OK)
        return no_memory;

    if (config->format == TDP_EPT && (cpuid(CPUID_FEATURES, 0).edx & CPUID_EDX_MTRR) != 0) {
        read_mtrrs(&machine.mtrr, config->maxphyaddr);
        if (tdp_retype(&machine.tdp, 0, min_u64(mapped, machine.physical_limit), &machine.mtrr) != TDP_OK)
            return no_memory;
    }
    /* No CPU has used the tables yet. */
    tdp_flushed(&machine.tdp);
    return NULL;
}

bool boot_machine_mtrrs_agree(void)
{
    struct mtrr_state mtrr;

    if (machine.mtrr.cap == 0)
        return true;
    memset(&mtrr, 0, sizeof(mtrr));
    read_mtrrs(&mtrr, machine.mtrr.maxphyaddr);
    return memcmp(&mtrr, &machine.mtrr, sizeof(mtrr)) == 0;
}
