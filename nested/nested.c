/* SPDX-License-Identifier: MIT */
/* Chooses the vendor's nested virtualization; see nested/nested.h. */
#include "nested/nested.h"

#include "mm/frame.h"
#include "mm/guest-paging.h"
#include "mm/memmap.h"
#include "nested/svm-nested.h"
#include "nested/vmx-nested.h"
#include "vcpu/shootdown.h"

/* A shadow page costs a little more than two frames: half of what is free at boot stays free. */
enum { SHADOW_POOL_SHARE = 5, SHADOW_POOL_MAX = 4096 };

static void shoot_down(void *owner)
{
    struct vcpu *vcpu = owner;

    machine_lock(vcpu);
    shootdown(vcpu);
    machine_unlock(vcpu);
}

struct shadow_config nested_shadow_config(void)
{
    return (struct shadow_config){
        .tdp = &machine.tdp,
        .memory = &guest_paging_memory,
        .memory_limit = memmap_ram_top(&guest_memmap),
        .cpus = CPUS_MAX,
        .shoot_down = shoot_down,
        .pages = (u32)min_u64(frame_free_count() / SHADOW_POOL_SHARE, SHADOW_POOL_MAX),
        .quiet = SHADOW_QUIET,
    };
}

const char *nested_start(struct vcpu *vcpu)
{
    bool done = machine.tdp.config.format == TDP_EPT ? nested_vmx_init(vcpu) : nested_svm_init(vcpu);
    if (!done)
        return "Umbra's memory pool is too small for nested virtualization: give the machine more memory, or "
               "boot with nested=off";
    return NULL;
}
