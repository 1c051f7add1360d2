/* SPDX-License-Identifier: MIT */
/* Chooses the vendor's nested virtualization; see nested/nested.h. */
#include "nested/nested.h"

#include "mm/guest-paging.h"
#include "nested/vmx-nested.h"

const char *nested_start(struct vcpu *vcpu)
{
    guest_paging_settled();
    if (machine.tdp.config.format != TDP_EPT)
        return "nested=on: this version of Umbra has no nested virtualization on AMD CPUs, boot with "
               "nested=off";
    if (!nested_vmx_init(vcpu))
        return "Umbra's memory pool is too small for nested virtualization: give the machine more memory, or "
               "boot with nested=off";
    return NULL;
}
