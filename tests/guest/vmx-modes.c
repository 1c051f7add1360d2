/* SPDX-License-Identifier: MIT */
/*
 * Group vmx-modes: L2 outside IA-32e mode: real mode, virtual-8086 mode, protected mode without paging, with
 * 32-bit and with PAE paging, with and without EPT; what exits and violations tell there, how L2 goes from
 * mode to mode, and task switches. Source: SDM vol. 3C 26.3, 27.3.1.6, 27.3.2.4, 28.3.4, table 28-2.
 */
#include "tests/guest/vmx.h"

#define GUEST_STATE (EXIT_REASON_ENTRY_FAILURE | REASON_ENTRY_GUEST_STATE)

enum {
    LOW_CODE = 0x8000, /* REAL_BASE of layout.h: free while no trip is made */
    LOW_VECTORS = 0x9000,
    LOW_STACK = 0x7c00,
    GATE_VECTOR = 0x45,
    TASK_VECTOR = 0x46,
    SEL_TASK = 0x58,
    SEL_TASK_OTHER = 0x60,
    LINEAR = 0xd0000000,
    PDE_4M = 0x83,
};

#define CODE32(name, before, instruction) L2_CODE(name, ".code32\n" before, instruction "\nvmcall\n.code64")
#define CODE16(name, before, instruction) L2_CODE(name, ".code16\n" before, instruction "\nvmcall\n.code64")

CODE16(real_nop, "", "nop");
CODE16(real_cpuid, "", "cpuid");
CODE16(real_int, "", "int $0x45");
CODE16(real_ud, "", "ud2");
CODE16(real_gp, "mov $0xffff, %bx", "mov (%bx), %ax");
CODE16(real_write, "movl $0x11223344, %eax", "movl %eax, (%bx)");
CODE16(real_outs, "mov $0x80, %dx\nmov $0x60, %si", "outsb");
CODE16(real_to_protected, "mov %cr0, %eax\nor $1, %al\nmov %eax, %cr0", "ljmpl $0x18, $protected_end");
__asm__(".pushsection .text\n.code32\nprotected_end: vmcall\n.code64\n.popsection");
CODE32(protected_nop, "", "nop");
CODE32(protected_write, "", "movl %eax, (%ebx)");
CODE32(protected_read, "", "movl (%ebx), %eax");
CODE32(protected_jump, "", "jmp *%ebx");
CODE32(protected_cr3, "", "movl %eax, %cr3");
CODE32(protected_int, "", "int $0x45");
CODE32(protected_vmread, "", "vmread %ecx, (%ebx)");
CODE32(protected_vmwrite, "", "vmwrite (%ebx), %ecx");
CODE32(task_jump, "", "ljmp $0x60, $0");
CODE32(task_call, "", "lcall $0x60, $0");
CODE32(task_iret, "pushfl\norl $0x4000, (%esp)\npopfl", "iretl");
CODE32(task_int, "", "int $0x46");
CODE32(task_ud, "", "ud2");

static u8 page[PAGE_SIZE] __attribute__((aligned(4096)));
static u32 directory32[1024] __attribute__((aligned(4096))), table32[1024] __attribute__((aligned(4096)));
static u64 pdpt[512] __attribute__((aligned(4096))), other_pdpt[512] __attribute__((aligned(4096))),
    pae_directory[4 * 512] __attribute__((aligned(4096)));
static u64 gdt32[16] __attribute__((aligned(16))), idt32[256] __attribute__((aligned(16)));
static u32 task[2][26] __attribute__((aligned(256)));

static void expect(const char *what, u64 got, u64 want)
{
    check_part("vmx-modes", what, got, want);
}

/* --- states --- */

static void segment(enum vmcs_segment number, u16 selector, u64 base, u32 limit, u32 rights)
{
    vmwrite(vmcs_segment_field(VMCS_GUEST_ES_SELECTOR, number), selector);
    vmwrite(vmcs_segment_field(VMCS_GUEST_ES_BASE, number), base);
    vmwrite(vmcs_segment_field(VMCS_GUEST_ES_LIMIT, number), limit);
    vmwrite(vmcs_segment_field(VMCS_GUEST_ES_RIGHTS, number), rights);
}

static void data_segments(u16 selector, u64 base, u32 limit, u32 rights)
{
    static const enum vmcs_segment numbers[] = {VMCS_ES, VMCS_SS, VMCS_DS, VMCS_FS, VMCS_GS};

    for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++)
        segment(numbers[i], selector, base, limit, rights);
}

/* Out of IA-32e mode; CR0 has `paging` or not. */
static void prepare(u64 cr0_bits, u64 cr4_bits)
{
    u64 cr0 = (read_cr0() & ~(CR0_PE | CR0_PG | CR0_WP)) | cr0_bits;
    u64 cr4 = (read_cr4() & ~(CR4_PAE | CR4_PCIDE)) | cr4_bits;

    vmx_reset();
    if ((cr0_bits & CR0_PG) == 0)
        vmx_set(WORD_SECONDARY, SECONDARY_UNRESTRICTED_GUEST);
    vmx_clear(WORD_ENTRY, ENTRY_IA32E_GUEST);
    vmwrite(VMCS_GUEST_EFER, 0);
    vmwrite(VMCS_GUEST_CR0, cr0);
    vmwrite(VMCS_GUEST_CR4, cr4);
    vmwrite(VMCS_GUEST_CR3, 0);
    segment(VMCS_CS, SEL_CODE32, 0, 0xffffffff, 0xc09b);
    for (unsigned i = 0; i < 4; i++)
        vmwrite((enum vmcs_field)(VMCS_GUEST_PDPTE0 + 2 * i), 0);
}

/* CS starts at the code, which lies anywhere: only entries, not far jumps, get such a base. */
static void prepare_real(const struct l2_code *code)
{
    prepare(0, 0);
    segment(VMCS_CS, 0x100, (u64)code->start, 0xffff, 0x9b);
    data_segments(0, 0, 0xffff, 0x93);
    vmwrite(VMCS_GUEST_RSP, LOW_STACK);
    vmwrite(VMCS_GUEST_IDTR_BASE, LOW_VECTORS);
    vmwrite(VMCS_GUEST_IDTR_LIMIT, 0x3ff);
    for (u64 i = 0; i < 256; i++) {
        *(u32 *)(LOW_VECTORS + 4 * i) = (u32)(LOW_CODE + 8 * i); /* segment 0 */
        memcpy((void *)(LOW_CODE + 8 * i), "\x0f\x01\xc1", 3);   /* VMCALL */
    }
    vmwrite(VMCS_GUEST_RIP, 0);
}

static u64 run_real(const struct l2_code *code)
{
    segment(VMCS_CS, 0x100, (u64)code->start, 0xffff, 0x9b);
    vmwrite(VMCS_GUEST_RIP, 0);
    return vmx_resume();
}

/* The exit is VMCALL in the handler of that vector. */
static u64 real_vector(u64 reason)
{
    u64 at = vmread(VMCS_GUEST_RIP) - LOW_CODE;

    return reason == REASON_VMCALL && vmread(VMCS_GUEST_CS_BASE) == 0 ? at / 8 : ~0ull;
}

/* --- real mode --- */

static void check_real(void)
{
    prepare_real(&real_nop);
    expect("real.runs", run_real(&real_nop), REASON_VMCALL);
    expect("real.rip", vmread(VMCS_GUEST_RIP), 1);
    expect("real.cr0", vmread(VMCS_GUEST_CR0) & (CR0_PE | CR0_PG), 0);
    expect("real.efer", vmread(VMCS_GUEST_EFER), 0);
    expect("real.cpuid", run_real(&real_cpuid), REASON_CPUID);
    l2.rbx = 0x6000;
    expect("real.write", run_real(&real_write), REASON_VMCALL);
    expect("real.written", *(volatile u32 *)0x6000, 0x11223344);
    vmx_set(WORD_PRIMARY, PRIMARY_IO_EXITING);
    expect("real.outs", run_real(&real_outs), REASON_IO);
    expect("real.outs_qualification", vmread(VMCS_EXIT_QUALIFICATION), 0x800010);
    expect("real.outs_information", vmread(VMCS_EXIT_INSTRUCTION_INFORMATION) & (BITS(9, 7) | BITS(17, 15)),
           3u << 15);
    expect("real.outs_linear", vmread(VMCS_GUEST_LINEAR_ADDRESS), 0x60);
}

static void check_real_events(void)
{
    prepare_real(&real_int);
    vmwrite(VMCS_EXCEPTION_BITMAP, 0);
    expect("real.int", real_vector(run_real(&real_int)), 0x45);
    expect("real.int_frame", vmread(VMCS_GUEST_RSP), LOW_STACK - 6);
    expect("real.int_ip", *(volatile u16 *)(LOW_STACK - 6), 2);
    expect("real.int_cs", *(volatile u16 *)(LOW_STACK - 4), 0x100);
    expect("real.ud", real_vector(run_real(&real_ud)), EXC_UD);
    expect("real.gp", real_vector(run_real(&real_gp)), EXC_GP);
    vmwrite(VMCS_EXCEPTION_BITMAP, 0xffffffff);
    expect("real.gp_exits", run_real(&real_gp), REASON_EXCEPTION_OR_NMI);
    /* Real mode has no error codes. */
    expect("real.gp_information", vmread(VMCS_EXIT_INTERRUPTION),
           INTERRUPTION_VALID | INTERRUPTION_HARDWARE | EXC_GP);
    vmwrite(VMCS_ENTRY_INTERRUPTION, INTERRUPTION_VALID | INTERRUPTION_HARDWARE | EXC_GP);
    expect("real.inject_gp", real_vector(run_real(&real_nop)), EXC_GP);
    vmwrite(VMCS_ENTRY_INTERRUPTION,
            INTERRUPTION_VALID | INTERRUPTION_HARDWARE | INTERRUPTION_ERROR_CODE | EXC_GP);
    expect("real.inject_error_code", run_real(&real_nop), RUN_FAILED + 7);
    vmwrite(VMCS_ENTRY_INTERRUPTION, INTERRUPTION_VALID | INTERRUPTION_EXTERNAL | 0x77);
    vmwrite(VMCS_GUEST_RFLAGS, 2 | RFLAGS_IF);
    expect("real.inject_external", real_vector(run_real(&real_nop)), 0x77);
    /* An exit on the way through the vector table. */
    vmwrite(VMCS_GUEST_RFLAGS, 2);
    vmwrite(VMCS_GUEST_IDTR_BASE, EPT_WINDOW - PAGE_SIZE);
    ept_directory[4 * 512 - 1] = 0;
    (void)try_invept(2, 0, 0);
    expect("real.vectoring", run_real(&real_int), REASON_EPT_VIOLATION);
    expect("real.vectoring_information", vmread(VMCS_VECTORING),
           INTERRUPTION_VALID | INTERRUPTION_SOFTWARE | 0x45);
    expect("real.vectoring_length", vmread(VMCS_EXIT_INSTRUCTION_LENGTH), 2);
}

/* Paging off: every linear address is a user's, writable and executable (SDM vol. 3C table 28-7). */
static void check_unpaged_violations(bool real)
{
    const u64 bits = 2 | EPT_R << 3 | BIT(7) | BIT(8) | (ept_has(BIT(22)) ? BIT(9) | BIT(10) : 0);
    const char *name = real ? "vmx-modes.real" : "vmx-modes.protected";
    u64 reason;

    if (real) {
        prepare_real(&real_write);
        data_segments(0, (u64)page, 0xffff, 0x93);
    } else {
        prepare(CR0_PE, 0);
    }
    /* A page table in place of the 2-MByte page. */
    u64 *entry = &ept_directory[(u64)page >> 21];
    for (u64 i = 0; i < 512; i++)
        ept_window[i] = ((u64)page & ~(MIB(2) - 1)) + i * PAGE_SIZE + (EPT_RWX | EPT_XU | EPT_WB);
    ept_window[(u64)page >> 12 & 511] = (u64)page | EPT_R | EPT_WB;
    *entry = (u64)ept_window | EPT_RWX | EPT_XU;
    (void)try_invept(2, 0, 0);
    l2.rbx = real ? 0x10 : (u64)page + 0x10;
    reason = real ? run_real(&real_write) : vmx_run(&protected_write);
    check_part(name, "violation", reason, REASON_EPT_VIOLATION);
    check_part(name, "violation_qualification", vmread(VMCS_EXIT_QUALIFICATION) & 0xfbf, bits);
    check_part(name, "violation_linear", vmread(VMCS_GUEST_LINEAR_ADDRESS), (u64)page + 0x10);
    check_part(name, "violation_physical", vmread(VMCS_GUEST_PHYSICAL_ADDRESS), (u64)page + 0x10);
    ept_window[(u64)page >> 12 & 511] = (u64)page | EPT_R | EPT_W | EPT_WB;
    reason = real ? run_real(&real_write) : vmx_run(&protected_write);
    check_part(name, "allowed", reason, REASON_VMCALL);
    if (real || !vmx_has(WORD_SECONDARY, SECONDARY_MBEC))
        return;
    /* A fetch is a user's, too. */
    memcpy(page, "\x0f\x01\xc1", 3);
    l2.rbx = (u64)page;
    vmx_set(WORD_SECONDARY, SECONDARY_MBEC);
    ept_window[(u64)page >> 12 & 511] = (u64)page | EPT_R | EPT_X | EPT_WB;
    (void)try_invept(2, 0, 0);
    check_part(name, "fetch_supervisor_page", vmx_run(&protected_jump), REASON_EPT_VIOLATION);
    ept_window[(u64)page >> 12 & 511] = (u64)page | EPT_R | EPT_XU | EPT_WB;
    (void)try_invept(2, 0, 0);
    check_part(name, "fetch_user_page", vmx_run(&protected_jump), REASON_VMCALL);
}

static void check_mode_change(void)
{
    extern u64 gdt[];

    prepare_real(&real_to_protected);
    vmwrite(VMCS_GUEST_GDTR_BASE, (u64)gdt);
    expect("to_protected", run_real(&real_to_protected), REASON_VMCALL);
    expect("to_protected.cr0", vmread(VMCS_GUEST_CR0) & (CR0_PE | CR0_PG), CR0_PE);
    expect("to_protected.cs", vmread(VMCS_GUEST_CS_SELECTOR), SEL_CODE32);
    expect("to_protected.base", vmread(VMCS_GUEST_CS_BASE), 0);
    /* With PE owned by L1 the same write exits. */
    prepare_real(&real_to_protected);
    vmwrite(VMCS_CR0_MASK, CR0_PE);
    expect("owned_pe", run_real(&real_to_protected), REASON_CONTROL_REGISTER);
    vmx_clear(WORD_SECONDARY, SECONDARY_UNRESTRICTED_GUEST);
    expect("restricted", run_real(&real_nop), GUEST_STATE);
}

static void check_virtual_8086(void)
{
    prepare(CR0_PE, 0);
    memcpy((void *)LOW_CODE, "\x90\x0f\xa2\x0f\x01\xc1", 6); /* NOP, CPUID, VMCALL */
    segment(VMCS_CS, LOW_CODE >> 4, LOW_CODE, 0xffff, 0xf3);
    data_segments(LOW_CODE >> 4, LOW_CODE, 0xffff, 0xf3);
    vmwrite(VMCS_GUEST_RFLAGS, 2 | RFLAGS_VM | BITS(13, 12));
    vmwrite(VMCS_GUEST_RSP, 0x800);
    vmwrite(VMCS_GUEST_RIP, 0);
    expect("virtual_8086.cpuid", vmx_resume(), REASON_CPUID);
    expect("virtual_8086.rip", vmread(VMCS_GUEST_RIP), 1);
    expect("virtual_8086.rflags", vmread(VMCS_GUEST_RFLAGS) & RFLAGS_VM, RFLAGS_VM);
    vmwrite(VMCS_GUEST_RIP, 3);
    expect("virtual_8086.vmcall", vmx_resume(), REASON_VMCALL);
    vmwrite(VMCS_GUEST_DS_BASE, LOW_CODE + 16);
    expect("virtual_8086.base", vmx_resume(), GUEST_STATE);
}

/* --- 32-bit paging --- */

static void prepare_32(void)
{
    prepare(CR0_PE | CR0_PG | CR0_WP, CR4_PSE);
    for (u32 i = 0; i < 1024; i++)
        directory32[i] = i << 22 | PDE_4M;
    memset(table32, 0, sizeof(table32));
    directory32[LINEAR >> 22] = (u32)(u64)table32 | PTE_P | PTE_W;
    table32[0] = (u32)(u64)page | PTE_P | PTE_W;
    vmwrite(VMCS_GUEST_CR3, (u64)directory32);
    l2.rbx = LINEAR + 0x10;
}

static void check_32_bit(bool ept)
{
    const char *name = ept ? "vmx-modes.paging32" : "vmx-modes.paging32_without_ept";

    prepare_32();
    if (!ept)
        vmx_clear(WORD_SECONDARY, SECONDARY_EPT);
    l2.rax = 0x5a5a5a5a;
    check_part(name, "write", vmx_run(&protected_write), REASON_VMCALL);
    check_part(name, "written", *(u32 *)(page + 0x10), 0x5a5a5a5a);
    check_part(name, "accessed", directory32[LINEAR >> 22] & PTE_A, PTE_A);
    check_part(name, "dirty", table32[0] & (PTE_A | PTE_D), PTE_A | PTE_D);
    l2.rbx = LINEAR + PAGE_SIZE;
    check_part(name, "fault", vmx_run(&protected_read), REASON_EXCEPTION_OR_NMI);
    check_part(name, "fault_error", vmread(VMCS_EXIT_ERROR_CODE), 0);
    check_part(name, "fault_address", vmread(VMCS_EXIT_QUALIFICATION), LINEAR + PAGE_SIZE);
    if (!ept)
        return;
    /* The page table in a place where EPT allows no access. */
    l2.rbx = LINEAR;
    directory32[LINEAR >> 22] = (u32)(MIB(2) * 2047) | PTE_P | PTE_W;
    ept_directory[2047] = 0;
    (void)try_invept(2, 0, 0);
    check_part(name, "walk", vmx_run(&protected_read), REASON_EPT_VIOLATION);
    check_part(name, "walk_qualification", vmread(VMCS_EXIT_QUALIFICATION) & 0x1bd, 1 | BIT(7));
    check_part(name, "walk_physical", vmread(VMCS_GUEST_PHYSICAL_ADDRESS), MIB(2) * 2047);
    check_part(name, "walk_linear", vmread(VMCS_GUEST_LINEAR_ADDRESS), LINEAR);
}

/* --- PAE paging --- */

static void prepare_pae(void)
{
    prepare(CR0_PE | CR0_PG | CR0_WP, CR4_PAE);
    for (u64 i = 0; i < 4 * 512; i++)
        pae_directory[i] = i << 21 | PTE_P | PTE_W | PTE_PS;
    for (unsigned i = 0; i < 4; i++) {
        pdpt[i] = (u64)&pae_directory[512 * i] | PTE_P;
        vmwrite((enum vmcs_field)(VMCS_GUEST_PDPTE0 + 2 * i), pdpt[i]);
    }
    memcpy(other_pdpt, pdpt, 32);
    vmwrite(VMCS_GUEST_CR3, (u64)pdpt);
    l2.rbx = (u64)page + 0x20;
}

static u64 pdpte(unsigned index)
{
    return vmread((enum vmcs_field)(VMCS_GUEST_PDPTE0 + 2 * index));
}

static void check_pae(void)
{
    prepare_pae();
    l2.rax = 0x77777777;
    expect("pae.write", vmx_run(&protected_write), REASON_VMCALL);
    expect("pae.written", *(u32 *)(page + 0x20), 0x77777777);
    expect("pae.saved", pdpte(1), pdpt[1]);
    /* With EPT the VMCS has the PDPTEs: what is in memory matters at MOV to CR3. */
    pdpt[3] = 0;
    l2.rbx = 0xfee00030; /* the APIC's version, in the fourth GByte */
    expect("pae.vmcs_counts", vmx_run(&protected_read), REASON_VMCALL);
    vmwrite(VMCS_GUEST_PDPTE3, 0);
    expect("pae.not_present", vmx_run(&protected_read), REASON_EXCEPTION_OR_NMI);
    expect("pae.not_present_error", vmread(VMCS_EXIT_ERROR_CODE), 0);
    vmx_clear(WORD_PRIMARY, PRIMARY_CR3_LOAD_EXITING);
    l2.rax = (u64)other_pdpt;
    expect("pae.mov_cr3", vmx_run(&protected_cr3), REASON_VMCALL);
    expect("pae.mov_cr3_loaded", pdpte(3), other_pdpt[3]);
    expect("pae.mov_cr3_value", vmread(VMCS_GUEST_CR3), (u64)other_pdpt);
    expect("pae.present_again", vmx_run(&protected_read), REASON_VMCALL);
    other_pdpt[2] |= BIT(1);
    l2.rax = (u64)other_pdpt;
    expect("pae.mov_cr3_reserved", vmx_run(&protected_cr3), REASON_EXCEPTION_OR_NMI);
    expect("pae.mov_cr3_vector", vmread(VMCS_EXIT_INTERRUPTION) & 0xff, EXC_GP);
    /* The table where EPT denies it: no linear address is known. */
    ept_directory[2047] = 0;
    (void)try_invept(2, 0, 0);
    l2.rax = MIB(2) * 2047;
    expect("pae.mov_cr3_violation", vmx_run(&protected_cr3), REASON_EPT_VIOLATION);
    expect("pae.mov_cr3_qualification", vmread(VMCS_EXIT_QUALIFICATION) & 0x1bd, 1);
    expect("pae.mov_cr3_physical", vmread(VMCS_GUEST_PHYSICAL_ADDRESS), MIB(2) * 2047);
    expect("pae.mov_cr3_rip", vmread(VMCS_GUEST_RIP), (u64)protected_cr3.at);
}

static void check_pae_entries(void)
{
    prepare_pae();
    vmwrite(VMCS_GUEST_PDPTE2, pdpt[2] | BIT(5));
    expect("pae.reserved", vmx_run(&protected_nop), GUEST_STATE);
    expect("pae.reserved_qualification", vmread(VMCS_EXIT_QUALIFICATION), 2);
    vmwrite(VMCS_GUEST_PDPTE2, pdpt[2] | BIT(physical_bits));
    expect("pae.width", vmx_run(&protected_nop), GUEST_STATE);
    vmwrite(VMCS_GUEST_PDPTE2, BIT(5));
    expect("pae.reserved_not_present", vmx_run(&protected_nop), REASON_VMCALL);
    /* Without EPT they come from memory. */
    prepare_pae();
    vmx_clear(WORD_SECONDARY, SECONDARY_EPT);
    vmwrite(VMCS_GUEST_PDPTE0, 0);
    l2.rax = 0x12121212;
    expect("pae_without_ept.write", vmx_run(&protected_write), REASON_VMCALL);
    expect("pae_without_ept.written", *(u32 *)(page + 0x20), 0x12121212);
    pdpt[1] |= BIT(6);
    expect("pae_without_ept.reserved", vmx_run(&protected_nop), GUEST_STATE);
    expect("pae_without_ept.qualification", vmread(VMCS_EXIT_QUALIFICATION), 2);
    pdpt[1] &= ~BIT(6);
    expect("pae_without_ept.good_again", vmx_run(&protected_nop), REASON_VMCALL);
}

/* VMREAD and VMWRITE of a shadow VMCS have operands of 32 bits here, reached through PAE paging. */
static void check_pae_shadow_vmcs(void)
{
    static u8 bitmaps[PAGE_SIZE] __attribute__((aligned(4096)));
    u32 revision = (u32)rdmsr(MSR_IA32_VMX_BASIC) & 0x7fffffff, shadow = revision | (u32)BIT(31);

    if (!vmx_has(WORD_SECONDARY, SECONDARY_VMCS_SHADOWING)) {
        note_skipped("vmx-modes.shadow_vmcs", "not offered");
        return;
    }
    memcpy(other_region, &shadow, sizeof(shadow));
    (void)try_vmclear((u64)other_region);
    (void)try_vmptrld((u64)other_region);
    vmwrite(VMCS_TSC_OFFSET, 0x1122334455667788);
    (void)try_vmptrld((u64)vmcs_region);
    prepare_pae();
    vmx_set(WORD_SECONDARY, SECONDARY_VMCS_SHADOWING);
    vmwrite(VMCS_VMREAD_BITMAP, (u64)bitmaps);
    vmwrite(VMCS_VMWRITE_BITMAP, (u64)bitmaps);
    vmwrite(VMCS_LINK_POINTER, (u64)other_region);
    memset(page, 0xee, 64);
    l2.rbx = (u64)page + 0x20;
    l2.rcx = VMCS_TSC_OFFSET;
    expect("shadow_vmcs.read", vmx_run(&protected_vmread), REASON_VMCALL);
    expect("shadow_vmcs.value", *(u64 *)(page + 0x20), 0xeeeeeeee55667788);
    *(u32 *)(page + 0x20) = 0x99aabbcc;
    l2.rcx = BIT(32) | VMCS_TSC_OFFSET; /* bits that are no part of ECX */
    expect("shadow_vmcs.write", vmx_run(&protected_vmwrite), REASON_VMCALL);
    l2.rcx = BIT(15) | VMCS_TSC_OFFSET;
    expect("shadow_vmcs.bit_15", vmx_run(&protected_vmread), REASON_VMREAD);
    vmwrite(VMCS_GUEST_PDPTE0, 0);
    vmwrite(VMCS_GUEST_PDPTE3, pdpt[0]);
    l2.rbx = GIB(3) + (u64)page + 0x20;
    l2.rcx = VMCS_TSC_OFFSET | 1;
    vmwrite(VMCS_GUEST_CS_BASE, GIB(3));
    expect("shadow_vmcs.pdpte", vmx_run(&protected_vmread), REASON_VMCALL);
    expect("shadow_vmcs.high_cleared", *(u32 *)(page + 0x20), 0);
    memcpy(other_region, &revision, sizeof(revision));
}

/* --- task switches --- */

static u64 descriptor(u64 base, u32 limit, u64 rights)
{
    return (limit & 0xffff) | (base & 0xffffff) << 16 | rights << 40 | (base >> 24 & 0xff) << 56;
}

/* In 32-bit paging, with a table of descriptors of its own. */
static void prepare_tasks(void)
{
    extern u64 gdt[];

    prepare_32();
    memcpy(gdt32, gdt, 0x50);
    gdt32[SEL_TASK / 8] = descriptor((u64)task[0], sizeof(task[0]) - 1, 0x8b);
    gdt32[SEL_TASK_OTHER / 8] = descriptor((u64)task[1], sizeof(task[1]) - 1, 0x89);
    task[0][0] = SEL_TASK_OTHER; /* the previous task, for IRET */
    vmwrite(VMCS_GUEST_GDTR_BASE, (u64)gdt32);
    vmwrite(VMCS_GUEST_GDTR_LIMIT, sizeof(gdt32) - 1);
    segment(VMCS_TR, SEL_TASK, (u64)task[0], sizeof(task[0]) - 1, 0x8b);
    memset(idt32, 0, sizeof(idt32));
    idt32[TASK_VECTOR] = idt32[EXC_UD] = (u64)SEL_TASK_OTHER << 16 | 0x8500ull << 32;
    vmwrite(VMCS_GUEST_IDTR_BASE, (u64)idt32);
    vmwrite(VMCS_GUEST_IDTR_LIMIT, sizeof(idt32) - 1);
    vmwrite(VMCS_EXCEPTION_BITMAP, 0);
}

static void task_exit(const char *what, const struct l2_code *code, u64 source, u64 length, u64 vectoring)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "vmx-modes.task.%s", what);
    check_part(prefix, "reason", vmx_run(code), REASON_TASK_SWITCH);
    check_part(prefix, "qualification", vmread(VMCS_EXIT_QUALIFICATION), source << 30 | SEL_TASK_OTHER);
    check_part(prefix, "vectoring", vmread(VMCS_VECTORING), vectoring);
    if (length != 0)
        check_part(prefix, "length", vmread(VMCS_EXIT_INSTRUCTION_LENGTH), length);
    check_part(prefix, "tr", vmread(VMCS_GUEST_TR_SELECTOR), SEL_TASK);
}

static void check_tasks(void)
{
    prepare_tasks();
    task_exit("call", &task_call, 0, 7, 0);
    task_exit("jump", &task_jump, 2, 7, 0);
    task_exit("int", &task_int, 3, 2, INTERRUPTION_VALID | INTERRUPTION_SOFTWARE | TASK_VECTOR);
    task_exit("exception", &task_ud, 3, 0, INTERRUPTION_VALID | INTERRUPTION_HARDWARE | EXC_UD);
    expect("task.exception.rip", vmread(VMCS_GUEST_RIP), (u64)task_ud.at);
    vmwrite(VMCS_ENTRY_INTERRUPTION, INTERRUPTION_VALID | INTERRUPTION_EXTERNAL | TASK_VECTOR);
    vmwrite(VMCS_GUEST_RFLAGS, 2 | RFLAGS_IF);
    task_exit("injected", &protected_nop, 3, 0, INTERRUPTION_VALID | INTERRUPTION_EXTERNAL | TASK_VECTOR);
    vmwrite(VMCS_GUEST_RFLAGS, 2);
    /* IRET goes back to a task that is busy. */
    gdt32[SEL_TASK_OTHER / 8] |= BIT(41);
    task_exit("iret", &task_iret, 1, 1, 0);
    /* A gate to 32-bit code is no task switch. */
    idt32[GATE_VECTOR] = ((u64)protected_nop.next & 0xffff) | (u64)SEL_CODE32 << 16 | 0x8e00ull << 32 |
                         ((u64)protected_nop.next >> 16) << 48;
    vmwrite(VMCS_GUEST_RFLAGS, 2);
    expect("gate32", vmx_run(&protected_int), REASON_VMCALL);
    expect("gate32.rip", vmread(VMCS_GUEST_RIP), (u64)protected_nop.next);
    /* A descriptor that is none of a task: the fault comes first. */
    prepare_tasks();
    vmwrite(VMCS_EXCEPTION_BITMAP, 0xffffffff);
    gdt32[SEL_TASK_OTHER / 8] |= BIT(41);
    expect("task.busy", vmx_run(&task_jump), REASON_EXCEPTION_OR_NMI);
    expect("task.busy_vector", vmread(VMCS_EXIT_INTERRUPTION) & 0xff, EXC_GP);
    expect("task.busy_error", vmread(VMCS_EXIT_ERROR_CODE), SEL_TASK_OTHER);
}

/* --- L1 in 32-bit mode --- */

enum {
    LEGACY_STEPS = 13,
    LEGACY_NO_FIELD = 8,
    LEGACY_LAUNCH_FAILED = 9,
    LEGACY_EXIT = 10,
    NOT_DONE = 0xffff
};

/* What vmx-legacy.S takes and gives. */
static struct vmx_legacy {
    u64 cr3, vmxon, region, pointer;
    u32 high, full, guard, cleared, reason, host_cr3, host_cs, unused;
    u32 flags[LEGACY_STEPS];
} legacy;
_Static_assert(offsetof(struct vmx_legacy, flags) == 64, "as in vmx-legacy.S");

void trip_vmx(struct vmx_legacy *legacy);

/* The VMCS is written in 64-bit mode and put away: an L1 in 32-bit mode has PAE paging for itself and L2. */
static void prepare_legacy(u64 host_cr3)
{
    prepare_pae();
    vmwrite(VMCS_GUEST_RIP, (u64)protected_nop.start);
    vmx_clear(WORD_EXIT, EXIT_HOST_64);
    vmwrite(VMCS_HOST_EFER, rdmsr(MSR_EFER) & ~(EFER_LMA | EFER_LME));
    vmwrite(VMCS_HOST_CR3, host_cr3);
    vmwrite(VMCS_HOST_CS_SELECTOR, SEL_CODE32);
    (void)try_vmclear((u64)vmcs_region);
    (void)try_vmxoff();
    memset(&legacy, 0xff, sizeof(legacy));
    legacy.cr3 = (u64)pdpt;
    legacy.vmxon = (u64)vmx_region;
    legacy.region = (u64)vmcs_region;
    for (unsigned i = 0; i < LEGACY_STEPS; i++)
        legacy.flags[i] = NOT_DONE;
}

static void check_legacy_l1(void)
{
    static const char *const names[LEGACY_STEPS] = {
        "vmxon",       "vmptrld",       "vmptrst",        "vmwrite",  "vmwrite_high",
        "vmread_high", "vmread_memory", "vmwrite_memory", "no_field", "vmlaunch",
        "exit_flags",  "vmclear",       "vmxoff"};

    prepare_legacy((u64)other_pdpt);
    trip_vmx(&legacy);
    for (unsigned i = 0; i < LEGACY_STEPS; i++) {
        u64 want = i == LEGACY_NO_FIELD ? (u64)END_VALID : END_SUCCEED;
        u64 got = legacy.flags[i] == NOT_DONE ? (u64)NOT_DONE : legacy.flags[i] & (u64)END_FLAGS;
        check_part("vmx-modes.legacy", names[i], got, i == LEGACY_LAUNCH_FAILED ? (u64)NOT_DONE : want);
    }
    expect("legacy.pointer", legacy.pointer, (u64)vmcs_region);
    expect("legacy.high", legacy.high, 0x01234567);
    expect("legacy.full", legacy.full, 0x89abcdef);
    expect("legacy.guard", legacy.guard, 0xffffffff);
    expect("legacy.cleared", legacy.cleared, 0);
    expect("legacy.exit_reason", legacy.reason, REASON_VMCALL);
    expect("legacy.host_cr3", legacy.host_cr3, (u64)other_pdpt);
    expect("legacy.host_cs", legacy.host_cs, SEL_CODE32);
    expect("legacy.vmxon_again", try_vmxon((u64)vmx_region), END_SUCCEED);
    (void)try_vmptrld((u64)vmcs_region);
}

void group_vmx_modes(void)
{
    if (!vmx_start("vmx-modes"))
        return;
    if (vmx_has(WORD_SECONDARY, SECONDARY_UNRESTRICTED_GUEST)) {
        check_real();
        check_real_events();
        check_unpaged_violations(true);
        check_unpaged_violations(false);
        check_mode_change();
        check_virtual_8086();
    } else {
        note_skipped("vmx-modes.real", "no unrestricted guest");
    }
    check_32_bit(true);
    check_32_bit(false);
    check_pae();
    check_pae_entries();
    check_pae_shadow_vmcs();
    check_tasks();
    check_legacy_l1();
    vmx_stop();
}

/* VMX abort 2: an exit to an L1 in PAE paging whose PDPTEs have reserved bits. */
void group_vmx_abort_pdpte(void)
{
    if (!vmx_start("vmx-abort-pdpte"))
        give_up("there is VMX");
    prepare_legacy((u64)other_pdpt);
    other_pdpt[2] |= BIT(1);
    print("guest: VMX abort follows\n");
    trip_vmx(&legacy);
    check("the exit does not come back", false);
}
