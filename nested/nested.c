/* SPDX-License-Identifier: MIT */
/* Chooses the vendor's nested virtualization; see nested/nested.h. */
#include "nested/nested.h"

#include "nested/svm-nested.h"
#include "nested/vmx-nested.h"
#include "vcpu/shootdown.h"

void nested_shoot_down(void *owner)
{
    struct vcpu *vcpu = owner;

    machine_lock(vcpu);
    shootdown(vcpu);
    machine_unlock(vcpu);
}

const char *nested_start(struct vcpu *vcpu)
{
    bool done = machine.tdp.config.format == TDP_EPT ? nested_vmx_init(vcpu) : nested_svm_init(vcpu);
    if (!done)
        return "Umbra's memory pool is too small for nested virtualization: give the machine more memory, or "
               "boot with nested=off";
    return NULL;
}
