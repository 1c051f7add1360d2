/* SPDX-License-Identifier: MIT */
/* What the tests of svm/'s pure half share; see tests/unit/svm-case.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "arch/cpu.h"
#include "arch/msr.h"
#include "arch/x86.h"
#include "drivers/local-apic.h"
#include "mm/guest-mem.h"
#include "mm/guest-paging.h"
#include "svm/capability.h"
#include "svm/controls.h"
#include "svm/efer.h"
#include "svm/event.h"
#include "svm/exit-name.h"
#include "svm/instruction.h"
#include "svm/npf.h"
#include "svm/startup.h"
#include "svm/step.h"
#include "tests/unit/svm-case.h"
#include "vcpu/shootdown.h"

struct machine machine;
struct svm_features svm_features;

struct vmcb vmcb;
struct vcpu vcpu;
struct svm_vcpu svm;
u8 code[INSTRUCTION_MAX_BYTES];
size_t code_bytes;
unsigned fetches;
unsigned steps_done;
unsigned own_nmis;
bool nmi_is_kick;
jmp_buf shutdown_jump;

/* What svm/ calls and this test replaces. */
void violation_step_done(struct vcpu *of)
{
    assert_ptr_equal(of, &vcpu);
    steps_done++;
}

void svm_startup_step_done(struct svm_vcpu *of)
{
    assert_ptr_equal(of, &svm);
}

bool shootdown_nmi(struct vcpu *of)
{
    assert_ptr_equal(of, &vcpu);
    return nmi_is_kick;
}

void local_apic_send(u32 destination, u32 command)
{
    assert_int_equal(destination, vcpu.apic_id);
    assert_int_equal(command, APIC_SEND_NMI);
    own_nmis++;
}

void svm_guest_shutdown(struct svm_vcpu *of, const char *reason)
{
    (void)of;
    (void)reason;
    longjmp(shutdown_jump, 1);
}

struct paging_memory guest_paging_memory;

size_t linear_fetch(const struct linear_context *context, u64 linear, u8 *dst, size_t bytes)
{
    size_t count = bytes < code_bytes ? bytes : code_bytes;

    assert_ptr_equal(context->memory, &guest_paging_memory);
    assert_int_equal(linear, svm_linear_rip(&svm));
    memcpy(dst, code, count);
    fetches++;
    return count;
}

enum walk_status walk(const struct paging *paging, const struct paging_memory *memory, u64 root, u64 address,
                      unsigned access, struct walk *result)
{
    assert_int_equal(role_format(paging->role), PAGING_4LEVEL);
    assert_ptr_equal(memory, &guest_paging_memory);
    assert_int_equal(root, vmcb.save.cr3);
    assert_int_equal(access, ACCESS_FETCH | (vmcb.save.cpl == 3 ? ACCESS_USER : 0));
    result->address = address & PAGE_MASK;
    return WALK_OK;
}

/* One page of RAM; the code is at the same place in each page. */
const void *guest_view(gpa_t source, size_t bytes)
{
    return source.raw + bytes <= PAGE_SIZE ? code : NULL;
}

/* Only without LBR virtualization. */
u64 live_debugctl;

bool rdmsr_safe(u32 msr, u64 *value)
{
    assert_int_equal(msr, MSR_IA32_DEBUGCTL);
    *value = live_debugctl;
    return true;
}

/* 1.0 unless a test says so; the CPU refuses what is reserved. */
u64 live_tsc_ratio;

bool wrmsr_safe(u32 msr, u64 value)
{
    if (msr == MSR_TSC_RATIO) {
        if ((value & TSC_RATIO_RESERVED) == 0)
            live_tsc_ratio = value;
        return (value & TSC_RATIO_RESERVED) == 0;
    }
    assert_int_equal(msr, MSR_IA32_DEBUGCTL);
    live_debugctl = value;
    return true;
}

int svm_case_set_up(void **state)
{
    (void)state;
    memset(&vmcb, 0, sizeof(vmcb));
    memset(&vcpu, 0, sizeof(vcpu));
    svm = (struct svm_vcpu){
        .vmcb = &vmcb, .vcpu = &vcpu, .clean = CLEAN_KNOWN, .exceptions = svm_controls_exceptions()};
    memset(svm.site, 0xff, sizeof(svm.site));
    vcpu.vendor = &svm;
    svm.tsc_ratio = live_tsc_ratio = TSC_RATIO_ONE;
    svm_features = (struct svm_features){.lbr_virtualization = true, .clean_bits = true};
    svm_controls_set_intercepts(vmcb.control.intercept);
    vmcb.save.cr0 = CR0_PE | CR0_PG;
    vmcb.save.efer = EFER_SVME | EFER_LME | EFER_LMA;
    vmcb.save.cs.attributes = SEGMENT_L;
    vmcb.save.rip = 0x401000;
    vmcb.save.rflags = RFLAGS_RESERVED1 | RFLAGS_IF;
    vmcb.save.dr6 = 0xffff0ff0;
    vmcb.save.dr7 = 0x400;
    vmcb.control.clean = CLEAN_KNOWN;
    steps_done = own_nmis = 0;
    nmi_is_kick = false;
    vcpu.apic_id = 7;
    machine.cpus = 1;
    machine.tdp.config.maxphyaddr = 40;
    code_bytes = 0;
    return 0;
}

void set_code(const char *bytes, size_t count)
{
    memset(code, 0x90, sizeof(code));
    memcpy(code, bytes, count);
    code_bytes = sizeof(code);
}
