/* SPDX-License-Identifier: MIT */
/*
 * The pages that L1 uses as VMCBs: two-way associative, so that the two of a loop that runs a guest (the
 * guest's and the host's, for VMLOAD) never evict each other. It keeps no pointer but to L1's RAM, which
 * stays L1's.
 */
#include "mm/guest-mem.h"
#include "nested/svm-nested.h"

/* Not the slot of the L2 that runs: it may itself execute VMLOAD and VMSAVE with whatever address. */
static struct svm_slot *make(struct nested_svm *nested, struct svm_slot *way, u64 address)
{
    struct vmcb *vmcb12 = address < nested->facts.physical_limit ? guest_page(gpa(address)) : NULL;

    if (vmcb12 == NULL)
        return NULL;
    if (way->address != SVM_SLOT_FREE && nested->slot != way + 1)
        way++;
    shadow_will_write(nested->shadow, &nested->shadow_cpu, gpa(address), PAGE_SIZE);
    way->address = address;
    way->vmcb12 = vmcb12;
    way->loaded = false;
    return way;
}

struct svm_slot *nested_svm_slot(struct nested_svm *nested, u64 address)
{
    struct svm_slot *way = &nested->slots[(address >> PAGE_SHIFT) % SVM_SLOT_SETS * SVM_SLOT_WAYS];

    for (unsigned i = 0; i < SVM_SLOT_WAYS; i++) {
        if (way[i].address == address)
            return nested->other = &way[i];
    }
    way = make(nested, way, address);
    if (way != NULL)
        nested->other = way;
    return way;
}

void nested_svm_forget(struct svm_vcpu *svm)
{
    struct nested_svm *nested = nested_svm_of(svm->vcpu);

    for (unsigned i = 0; i < SVM_SLOTS; i++)
        nested->slots[i].loaded = false;
    svm->l1_svme_change = false;
}
