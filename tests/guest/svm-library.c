/* SPDX-License-Identifier: MIT */
/*
 * The test guest's own little L1 on AMD: EFER.SVME, one VMCB that is reset between checks, its permission
 * maps and nested tables, and the SVM instructions with how they ended. Source: APM vol. 2 ch. 15.
 */
#include "tests/guest/svm.h"

#define PAGE_ALIGNED __attribute__((aligned(4096)))

struct vmcb vmcb PAGE_ALIGNED;
u8 svm_host_area[PAGE_SIZE] PAGE_ALIGNED;
u8 svm_io_map[3 * PAGE_SIZE] PAGE_ALIGNED, svm_msr_map[2 * PAGE_SIZE] PAGE_ALIGNED;
u64 npt_pml4[512] L1_TABLE, npt_pdpt[512] L1_TABLE, npt_directory[4 * 512] L1_TABLE;
u64 npt_window_directory[512] L1_TABLE, npt_window[512] L1_TABLE;
unsigned svm_enter_flags;
void (*svm_entry)(struct l2_registers *registers, u64 address, unsigned flags) = svm_enter;
static u8 user_code[PAGE_SIZE] PAGE_ALIGNED, user_stack[PAGE_SIZE] PAGE_ALIGNED;

enum { WINDOW_USER_CODE = 500, WINDOW_USER_STACK = 501 };

enum { CPUID_SVM = 0x8000000a, CPUID_EXTENDED = 0x80000001, EXT_ECX_SVM = 1 << 2 };

/* --- instructions --- */

#define TRY(instruction, ...)                                                                                \
    fault.vector = NO_FAULT;                                                                                 \
    __asm__ volatile(FAULTABLE(instruction)::__VA_ARGS__ : "memory", "cc");                                  \
    return fault.vector

u64 try_vmrun(u64 address)
{
    TRY("vmrun %%rax", "a"(address));
}

u64 try_vmload(u64 address)
{
    TRY("vmload %%rax", "a"(address));
}

u64 try_vmsave(u64 address)
{
    TRY("vmsave %%rax", "a"(address));
}

u64 try_stgi(void)
{
    TRY("stgi", "i"(0));
}

u64 try_clgi(void)
{
    TRY("clgi", "i"(0));
}

u64 try_invlpga(u64 address, u32 asid)
{
    TRY("invlpga %%rax, %%ecx", "a"(address), "c"(asid));
}

u64 try_skinit(u64 address)
{
    TRY("skinit %%eax", "a"(address));
}

/* --- SVM on and off --- */

bool svm_has(u32 features)
{
    return (cpuid(CPUID_SVM, 0).edx & features) == features;
}

bool svm_start(const char *group)
{
    if (is_intel || (cpuid(CPUID_EXTENDED, 0).ecx & EXT_ECX_SVM) == 0) {
        note_skipped(group, "the CPU has no SVM");
        return false;
    }
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
    wrmsr(MSR_VM_HSAVE_PA, (u64)svm_host_area);
    svm_reset();
    return true;
}

void svm_stop(void)
{
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~EFER_SVME);
    check_eq("svm.svme_off", rdmsr(MSR_EFER) & EFER_SVME, 0);
}

/* --- the VMCB --- */

void svm_intercept(u32 code)
{
    vmcb.control.intercept[code / 32] |= 1u << code % 32;
}

void svm_allow(u32 code)
{
    vmcb.control.intercept[code / 32] &= ~(1u << code % 32);
}

static void reset_control(void)
{
    struct vmcb_control *control = &vmcb.control;

    control->intercept[VMCB_INTERCEPT_EXCEPTIONS] = ~(1u << EXC_NMI);
    svm_intercept(VMEXIT_VMRUN);
    svm_intercept(VMEXIT_VMMCALL);
    svm_intercept(VMEXIT_SHUTDOWN);
    control->iopm_base_pa = (u64)svm_io_map;
    control->msrpm_base_pa = (u64)svm_msr_map;
    control->asid = 1;
    /* The tables have been written anew. */
    control->tlb_control = TLB_CONTROL_FLUSH_ALL;
    control->nested_control = NP_ENABLE;
    control->n_cr3 = (u64)npt_pml4;
}

static struct vmcb_segment segment(u16 selector, u16 attributes)
{
    return (struct vmcb_segment){.selector = selector, .attributes = attributes, .limit = 0xffffffff};
}

static void reset_save(void)
{
    struct vmcb_save *save = &vmcb.save;
    struct {
        u16 limit;
        u64 base;
    } __attribute__((packed)) table;

    save->cs = segment(SEL_CODE64, 0xa9b);
    save->ss = save->ds = save->es = save->fs = save->gs = segment(SEL_DATA, 0xc93);
    __asm__ volatile("sgdt %0" : "=m"(table));
    save->gdtr = (struct vmcb_segment){.limit = table.limit, .base = table.base};
    save->idtr = (struct vmcb_segment){.limit = L2_IDT_BYTES - 1, .base = (u64)l2_idt};
    save->efer = rdmsr(MSR_EFER);
    save->cr0 = read_cr0();
    save->cr3 = read_cr3();
    save->cr4 = read_cr4();
    save->dr6 = 0xffff0ff0;
    save->dr7 = 0x400;
    save->rflags = 2;
    save->rsp = (u64)l2_stack + PAGE_SIZE - 64;
    save->g_pat = rdmsr(MSR_IA32_PAT);
}

void svm_reset(void)
{
    memset(&vmcb, 0, sizeof(vmcb));
    memset(svm_io_map, 0, sizeof(svm_io_map));
    memset(svm_msr_map, 0, sizeof(svm_msr_map));
    svm_enter_flags = 0;
    npt_init();
    reset_control();
    reset_save();
    l2_init(svm_l2_vectors);
}

u64 svm_resume(void)
{
    vmcb.save.rax = l2.rax;
    svm_entry(&l2, (u64)&vmcb, svm_enter_flags);
    l2.rax = vmcb.save.rax;
    vmcb.control.tlb_control = TLB_CONTROL_NOTHING;
    return vmcb.control.exit_code;
}

u64 svm_run(const struct l2_code *code)
{
    vmcb.save.rip = (u64)code->start;
    return svm_resume();
}

u64 svm_at_user(const struct l2_code *code, const u8 *address)
{
    return WINDOW + WINDOW_USER_CODE * PAGE_SIZE + (u64)(address - code->start);
}

u64 svm_run_user(const struct l2_code *code)
{
    struct vmcb_save *save = &vmcb.save;
    size_t bytes = (size_t)(code->next - code->start);

    save->cs = segment(SEL_USER_CODE64, 0xafb);
    save->ss = save->ds = save->es = segment(SEL_USER_DATA, 0xcf3);
    save->cpl = 3;
    memcpy(user_code, code->start, bytes);
    memcpy(user_code + bytes, "\x0f\x01\xd9", 3); /* VMMCALL */
    save->rip = (u64)window_map(WINDOW_USER_CODE, (u64)user_code, PTE_P | PTE_U | PTE_A);
    save->rsp = (u64)window_map(WINDOW_USER_STACK, (u64)user_stack, PTE_P | PTE_W | PTE_U | PTE_A | PTE_D) +
                PAGE_SIZE - 64;
    return svm_resume();
}

u64 svm_run_vector(const struct l2_code *code)
{
    u64 exit_code = svm_run(code);

    return exit_code == VMEXIT_VMMCALL ? l2.rax : exit_code;
}

/* --- nested tables --- */

void npt_init(void)
{
    memset(npt_pml4, 0, sizeof(npt_pml4));
    memset(npt_pdpt, 0, sizeof(npt_pdpt));
    npt_pml4[0] = (u64)npt_pdpt | NPT_ALL;
    for (unsigned i = 0; i < 4; i++)
        npt_pdpt[i] = (u64)&npt_directory[512 * i] | NPT_ALL;
    for (u64 i = 0; i < ARRAY_SIZE(npt_directory); i++)
        npt_directory[i] = i << 21 | NPT_ALL | PTE_PS;
    npt_pdpt[4] = (u64)npt_window_directory | NPT_ALL;
    memset(npt_window_directory, 0, sizeof(npt_window_directory));
    npt_window_directory[0] = (u64)npt_window | NPT_ALL;
    memset(npt_window, 0, sizeof(npt_window));
}
