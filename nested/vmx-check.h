/* SPDX-License-Identifier: MIT */
/*
 * The checks that VM entry makes before it loads anything (SDM vol. 3C 27.2 and 27.3.1), over a vmcs12 that
 * is already in Umbra's memory. Pure: memory of L1 is read through an accessor, nothing is changed. What each
 * check says is in the table of vmx-check-text.c, under the name that is returned.
 */
#ifndef UMBRA_NESTED_VMX_CHECK_H
#define UMBRA_NESTED_VMX_CHECK_H

#include "mm/paging.h"
#include "nested/vmcs12.h"
#include "nested/vmx-capability.h"
#include "nested/vmx-check-list.h"

enum vmx_check {
    VMX_CHECK_OK,
#define UMBRA_VMX_CHECK(name, section, rule) VMX_CHECK_##name,
    VMX_CHECK_LIST(UMBRA_VMX_CHECK)
#undef UMBRA_VMX_CHECK
        VMX_CHECKS,
};

struct vmx_check_input {
    const struct vmcs12 *vmcs12;
    const struct nested_vmx_capability *capability;
    const struct paging_memory *memory; /* of L1, by its guest-physical addresses */
    u64 current;                        /* the current-VMCS pointer */
    bool l1_long_mode;                  /* L1's IA32_EFER.LMA */
};

/*
 * 27.2.1: VM-execution, VM-exit and VM-entry control fields, except for event injection. A failure is
 * VM-instruction error 7.
 */
enum vmx_check vmx_check_controls(const struct vmx_check_input *input);
/* Of these the one that can fail though L1 has changed no field: the virtual TPR is in its memory. */
enum vmx_check vmx_check_virtual_tpr(const struct vmx_check_input *input);
/* 27.2.1.3, of event injection only: error 7. */
enum vmx_check vmx_check_event(const struct vmx_check_input *input);
/* 27.2.2, 27.2.3, 27.2.4: the host-state area and the address-space size: error 8. */
enum vmx_check vmx_check_host(const struct vmx_check_input *input);

/*
 * 27.3.1: the guest-state area. A failure is an entry failure with basic exit reason 33 and the qualification
 * of vmx_check_qualification(). The first function makes all checks; the others are its parts: `_rare` those
 * that only a change of VMCS12_CONTROLS, VMCS12_SEGMENTS or VMCS12_GUEST can make fail, and outside of IA-32e
 * mode one of RFLAGS.VM; `_always` the others, of which `rip` are those of a change of RIP or RSP alone.
 */
enum vmx_check vmx_check_guest(const struct vmx_check_input *input);
enum vmx_check vmx_check_guest_rare(const struct vmx_check_input *input);
enum vmx_check vmx_check_guest_always(const struct vmx_check_input *input);
enum vmx_check vmx_check_rip(const struct vmx_check_input *input);
/* Does `_always` read the debug controls, besides what every exit saves? */
bool vmx_check_reads_debugctl(const struct vmcs12 *vmcs12);

/* Of the parts that are used in more than one of the files. */
enum vmx_check vmx_check_segments(const struct vmx_check_input *input);

/* SDM vol. 3C 27.8: 0, 2 (PDPTEs) or 4 (VMCS link pointer). */
u64 vmx_check_qualification(enum vmx_check check);

/* The section of SDM vol. 3C and what must hold, for debug logs. */
struct vmx_check_text {
    const char *section, *rule;
};
const struct vmx_check_text *vmx_check_text(enum vmx_check check);

/*
 * Would a VM entry with this EPTP pass (27.2.1.1)? Also INVEPT's check (SDM vol. 3D 31.3).
 */
bool vmx_check_eptp(const struct nested_vmx_capability *capability, u64 eptp);

#endif
