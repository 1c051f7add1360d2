/* SPDX-License-Identifier: MIT */
/* See tests/unit/nested-vmx-doubles.h. What none of the tests comes to ends the test. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "tests/unit/nested-vmx-doubles.h"

#include <cmocka.h>

#include "arch/cpu.h"
#include "arch/print.h"
#include "arch/reset.h"
#include "mm/frame.h"
#include "mm/guest-mem.h"
#include "mm/guest-paging.h"
#include "mm/memmap.h"
#include "nested/vmx-operand.h"
#include "vcpu/shootdown.h"

u8 double_memory[DOUBLE_MEMORY_BYTES] __attribute__((aligned(4096)));
u64 double_operand;
jmp_buf double_launched;
struct machine machine;
struct vmx_capability vmx_capability;
struct paging_memory guest_paging_memory;

/* --- L1's memory --- */

static bool is_memory(u64 address, u64 bytes)
{
    return address < DOUBLE_MEMORY_BYTES && bytes <= DOUBLE_MEMORY_BYTES - address;
}

bool memmap_guest_owns(gpa_t start, u64 bytes)
{
    return is_memory(start.raw, bytes);
}

const void *guest_view(gpa_t source, size_t bytes)
{
    return is_memory(source.raw, bytes) ? double_memory + source.raw : NULL;
}

enum guest_mem_status guest_read(gpa_t source, void *dst, size_t bytes)
{
    assert_true(is_memory(source.raw, bytes));
    memcpy(dst, double_memory + source.raw, bytes);
    return GUEST_MEM_OK;
}

enum guest_mem_status guest_write(gpa_t target, const void *src, size_t bytes)
{
    assert_true(is_memory(target.raw, bytes));
    memcpy(double_memory + target.raw, src, bytes);
    return GUEST_MEM_OK;
}

enum guest_mem_status nested_vmx_write(gpa_t address, const void *src, size_t bytes)
{
    return guest_write(address, src, bytes);
}

enum guest_mem_status guest_load_u32(gpa_t source, u32 *value)
{
    return guest_read(source, value, sizeof(*value));
}

bool vmx_operand_read(struct vcpu *vcpu, const struct vmx_operand *operand, void *dst, u32 bytes,
                      enum exit_action *action)
{
    (void)vcpu, (void)operand, (void)action;
    memcpy(dst, &double_operand, bytes);
    return true;
}

const u64 *vmx_operand_find_of_l1(struct vcpu *vcpu, u32 information, u32 bytes)
{
    (void)vcpu, (void)information, (void)bytes;
    return NULL;
}

bool vmx_operand_read_of_l1(struct vcpu *vcpu, void *dst, u32 bytes, enum exit_action *action)
{
    (void)vcpu, (void)action;
    memcpy(dst, &double_operand, bytes);
    return true;
}

bool vmx_operand_write(struct vcpu *vcpu, const struct vmx_operand *operand, const void *src, u32 bytes,
                       enum exit_action *action)
{
    (void)vcpu, (void)operand, (void)action;
    memcpy(&double_operand, src, bytes);
    return true;
}

/* --- this CPU --- */

bool rdmsr_safe(u32 msr, u64 *value)
{
    (void)msr;
    *value = ~0ull;
    return true;
}

bool vmx_alloc_region(hpa_t *region)
{
    return frame_alloc(region);
}

void vmx_l2_exit_entry(void)
{
    fail();
}

void vmx_write_host_state(void)
{
}

void vmx_finish_exit(struct vcpu *vcpu, enum exit_action action, u64 rip)
{
    (void)vcpu, (void)rip;
    assert_int_equal(action, EXIT_RESUME);
}

void vmx_launch(struct vcpu *vcpu, u64 host_rsp)
{
    (void)vcpu, (void)host_rsp;
    longjmp(double_launched, 1);
}

bool vmx_set_root_operation(struct vcpu *vcpu, bool on)
{
    (void)vcpu, (void)on;
    return false;
}

u64 vmx_guest_cr0(void)
{
    return ~0ull;
}

bool vmx_code64(void)
{
    return true;
}

bool vmx_load_pdptes(void)
{
    return true;
}

bool shootdown_nmi(struct vcpu *vcpu)
{
    (void)vcpu;
    return false;
}

/* --- the shadow MMU and the rest --- */

struct shadow *nested_vmx_shadow(void)
{
    static u8 shadow;
    return (struct shadow *)(void *)&shadow;
}

struct shadow_cpu *nested_vmx_shadow_cpu(const struct vcpu *vcpu)
{
    return &vmcs02_state_of(vcpu)->shadow_cpu;
}

struct shadow_key l2_shadow_key(const struct vmcs12 *vmcs12)
{
    return (struct shadow_key){.pointer = vmcs12->ept_pointer};
}

/* Called, with nothing to do here. */
#define NOTHING(function, ...)                                                                               \
    void function(__VA_ARGS__)                                                                               \
    {                                                                                                        \
    }
#pragma GCC diagnostic ignored "-Wunused-parameter"
NOTHING(log_line, enum log_level level, const char *format, ...)
NOTHING(log_quiet, bool quiet)
NOTHING(vmx_flush_linear, struct vcpu *vcpu)
NOTHING(nested_vmx_invalidate_linear, struct vcpu *vcpu, u32 l1_vpid)
NOTHING(l2_acquire_tables, struct vcpu *vcpu, struct nested_vmx *nested)
NOTHING(shadow_invalidate_all, struct shadow_cpu *storage)
NOTHING(shadow_invalidate_pointer, struct shadow *shadow, struct shadow_cpu *storage, u64 pointer)
NOTHING(nested_vmx_will_write, gpa_t address, u64 bytes)
NOTHING(violation_step_done, struct vcpu *vcpu)
NOTHING(shootdown_wait_begins, struct vcpu *vcpu)
NOTHING(shootdown_wait_ends, struct vcpu *vcpu)

bool shadow_cpu_init(struct shadow *shadow, struct shadow_cpu *storage, u16 first_tag, void *owner)
{
    return true;
}

/* Not called. */
#define NEVER(type, function, ...)                                                                           \
    type function(__VA_ARGS__)                                                                               \
    {                                                                                                        \
        fail_msg("%s is called", #function);                                                                 \
        abort();                                                                                             \
    }
_Noreturn void abort(void);
NEVER(_Noreturn void, fatal, const char *format, ...)
NEVER(_Noreturn void, machine_reset, void)
NEVER(void, vcpu_report, const struct vcpu *vcpu)
NEVER(u64 *, tdp_track, struct tdp *tdp, gpa_t page)
NEVER(bool, l1_intercepts_msr, const struct vcpu *vcpu, const struct vmcs12 *vmcs12, bool write)
NEVER(bool, l2_second_level_filled, struct nested_vmx *nested)
NEVER(enum exit_action, l2_second_level_exit, struct vcpu *vcpu, u32 reason)
NEVER(enum exit_action, l2_vmfunc_exit, struct vcpu *vcpu)
NEVER(u32, msr_list_load, struct vcpu *vcpu, u64 list, u32 entries)
NEVER(u32, msr_list_store, struct vcpu *vcpu, u64 list, u32 entries)
NEVER(enum exit_action, rdmsr_exit, struct vcpu *vcpu)
NEVER(enum exit_action, wrmsr_exit, struct vcpu *vcpu)
NEVER(const char *, vmx_instruction_error_name, u64 error)
