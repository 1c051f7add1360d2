/* SPDX-License-Identifier: MIT */
/*
 * Group svm-instructions: each SVM instruction with SVM off, outside ring 0 and with operands that it must
 * refuse; what VMLOAD, VMSAVE, VMRUN and #VMEXIT move and leave alone; the MSRs. Source: APM vol. 2 15.4 to
 * 15.6, 15.30, vol. 3 ch. 4.
 */
#include "tests/guest/svm.h"

#define FILL 0x5a5a5a5a5a5a5a5a

static struct vmcb other __attribute__((aligned(4096))), own __attribute__((aligned(4096)));

L2_CODE(code_nothing, "", "nop");
L2_CODE(code_change,
        "mov $0x1111111111111111, %rcx\nmov $0x2222222222222222, %r15\nmov %rcx, %cr2\nxor %eax, %eax\n"
        "mov $0x602, %ecx\nmov %rcx, %dr7\nstd\nmov $0x18, %ecx\nmov %ecx, %es",
        "nop");

static void expect(const char *what, u64 got, u64 want)
{
    check_part("svm-instructions", what, got, want);
}

static u64 beyond_width(void)
{
    return BIT(physical_bits);
}

/* --- the opcodes, wherever they must not work --- */

enum { SKINIT = 6 };

static const struct {
    const char *name;
    const char *bytes;
    u64 ring3; /* with SVM on */
} opcodes[] = {
    {"vmrun", "\x0f\x01\xd8", EXC_GP},  {"vmmcall", "\x0f\x01\xd9", EXC_UD},
    {"vmload", "\x0f\x01\xda", EXC_GP}, {"vmsave", "\x0f\x01\xdb", EXC_GP},
    {"stgi", "\x0f\x01\xdc", EXC_GP},   {"clgi", "\x0f\x01\xdd", EXC_GP},
    {"skinit", "\x0f\x01\xde", EXC_UD}, {"invlpga", "\x0f\x01\xdf", EXC_GP},
};

/* Where there is SKINIT it would start something else. */
static bool is_skinit(unsigned index)
{
    enum { EXT_ECX_SKINIT = 1 << 12 };

    return index == SKINIT && (cpuid(0x80000001, 0).ecx & EXT_ECX_SKINIT) != 0;
}

static u64 execute_opcode(enum code_mode mode, unsigned index)
{
    const struct code code = {.bytes = opcodes[index].bytes, .size = 3, .rax = (u64)&other};

    return execute(mode, &code);
}

static void check_off(void)
{
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~EFER_SVME);
    for (unsigned i = 0; i < ARRAY_SIZE(opcodes); i++) {
        if (is_skinit(i))
            continue;
        for (enum code_mode mode = RING0_64; mode <= RING3_32; mode++) {
            char prefix[64];
            print_to(prefix, sizeof(prefix), "svm-instructions.off.%s", opcodes[i].name);
            check_part(prefix, code_mode_name[mode], execute_opcode(mode, i), EXC_UD);
        }
    }
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
    expect("svme_on", rdmsr(MSR_EFER) & EFER_SVME, EFER_SVME);
}

static void check_ring3(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(opcodes); i++) {
        if (is_skinit(i))
            continue;
        for (enum code_mode mode = RING3_64; mode <= RING3_32; mode += RING3_32 - RING3_64) {
            char prefix[64];
            print_to(prefix, sizeof(prefix), "svm-instructions.ring3.%s", opcodes[i].name);
            check_part(prefix, code_mode_name[mode], execute_opcode(mode, i), opcodes[i].ring3);
            if (opcodes[i].ring3 == EXC_GP)
                check_part(prefix, "error_code", fault.error, 0);
        }
    }
    expect("vmmcall_ring0", execute_opcode(RING0_64, 1), EXC_UD);
    if (!is_skinit(SKINIT))
        expect("skinit_ring0", try_skinit((u64)&other), EXC_UD);
}

/* --- operands --- */

static const struct {
    const char *name;
    u64 (*run)(u64 address);
    char last_byte;
} with_address[] = {
    {"vmrun", try_vmrun, '\xd8'}, {"vmload", try_vmload, '\xda'}, {"vmsave", try_vmsave, '\xdb'}};

static void check_address(const char *prefix, u64 (*run)(u64), const char *what, u64 address)
{
    check_part(prefix, what, run(address), EXC_GP);
    check_part(prefix, "error_code", fault.error, 0);
}

static void check_addresses(void)
{
    u64 start, end;

    for (unsigned i = 0; i < ARRAY_SIZE(with_address); i++) {
        u64 (*run)(u64) = with_address[i].run;
        char prefix[64];
        print_to(prefix, sizeof(prefix), "svm-instructions.address.%s", with_address[i].name);
        check_address(prefix, run, "odd", (u64)&other + 1);
        check_address(prefix, run, "half_page", (u64)&other + 0x800);
        check_address(prefix, run, "beyond_width", (u64)&other | beyond_width());
        check_address(prefix, run, "negative", (u64)&other | BIT(63));
        if (!umbra_region(&start, &end))
            continue;
        check_address(prefix, run, "first_of_umbra", start);
        check_address(prefix, run, "last_of_umbra", end - PAGE_SIZE);
        check_address(prefix, run, "no_memory", beyond_width() - PAGE_SIZE);
    }
}

/* In 32-bit code, and with an address-size prefix, the operand is EAX. */
static void check_address_size(void)
{
    for (unsigned i = 1; i < ARRAY_SIZE(with_address); i++) {
        char prefix[64], bytes[4] = {'\x67', '\x0f', '\x01', with_address[i].last_byte};
        struct code code = {.bytes = bytes, .size = 4, .rax = (u64)&other | BIT(63)};
        print_to(prefix, sizeof(prefix), "svm-instructions.address.%s", with_address[i].name);
        (void)try_vmsave((u64)&other);
        check_part(prefix, "eax_by_prefix", execute(RING0_64, &code), VECTOR_DONE);
        code.bytes++;
        code.size--;
        check_part(prefix, "rax_without", execute(RING0_64, &code), EXC_GP);
    }
}

/* From compatibility mode, too: and back to it. */
static void check_compatibility_mode(void)
{
    struct code code = {CODE("\x0f\x01\xd8"), .rax = (u64)&vmcb};

    svm_reset();
    vmcb.save.rip = (u64)code_nothing.start;
    expect("compatibility.vmrun", execute(RING0_32, &code), VECTOR_DONE);
    expect("compatibility.rip", fault.frame.rip, execute_address(RING0_32) + 5);
    expect("compatibility.selector", fault.frame.cs, SEL_CODE32);
    expect("compatibility.rax", fault.frame.rax, (u64)&vmcb);
    (void)try_stgi();
    expect("compatibility.exit", vmcb.control.exit_code, VMEXIT_VMMCALL);
    expect("compatibility.l2_was_64", vmcb.save.rip, (u64)code_nothing.next);
}

static void check_others(void)
{
    expect("invlpga_own_asid", try_invlpga((u64)&other, 0), NO_FAULT);
    expect("invlpga_first_asid", try_invlpga((u64)&other, 1), NO_FAULT);
    expect("invlpga_any_asid", try_invlpga(BIT(63), 0xffffffff), NO_FAULT);
    expect("clgi", try_clgi(), NO_FAULT);
    expect("clgi_again", try_clgi(), NO_FAULT);
    expect("stgi", try_stgi(), NO_FAULT);
    expect("stgi_again", try_stgi(), NO_FAULT);
}

/* --- VMSAVE and VMLOAD --- */

static const struct {
    const char *name;
    u32 msr;
    u16 offset;
} moved_msrs[] = {
    {"star", MSR_STAR, offsetof(struct vmcb, save.star)},
    {"lstar", MSR_LSTAR, offsetof(struct vmcb, save.lstar)},
    {"cstar", MSR_CSTAR, offsetof(struct vmcb, save.cstar)},
    {"sfmask", MSR_FMASK, offsetof(struct vmcb, save.sfmask)},
    {"kernel_gs_base", MSR_KERNEL_GS_BASE, offsetof(struct vmcb, save.kernel_gs_base)},
    {"sysenter_cs", MSR_IA32_SYSENTER_CS, offsetof(struct vmcb, save.sysenter_cs)},
    {"sysenter_esp", MSR_IA32_SYSENTER_ESP, offsetof(struct vmcb, save.sysenter_esp)},
    {"sysenter_eip", MSR_IA32_SYSENTER_EIP, offsetof(struct vmcb, save.sysenter_eip)},
    {"fs_base", MSR_FS_BASE, offsetof(struct vmcb, save.fs.base)},
    {"gs_base", MSR_GS_BASE, offsetof(struct vmcb, save.gs.base)},
};

static u64 *quad(struct vmcb *page, unsigned offset)
{
    return (u64 *)((u8 *)page + offset);
}

static u64 pattern(unsigned index)
{
    return 0x1234567000 + index * 0x101;
}

static void check_save(void)
{
    const struct vmcb_save *save = &other.save;
    unsigned changed = 0;

    /* The trips to ring 3 have left FS and GS null. */
    __asm__ volatile("mov %0, %%fs\nmov %0, %%gs" ::"r"(SEL_DATA));
    for (unsigned i = 0; i < ARRAY_SIZE(moved_msrs); i++)
        wrmsr(moved_msrs[i].msr, pattern(i) & (moved_msrs[i].msr == MSR_IA32_SYSENTER_CS ? 0xffff : ~0ull));
    memset(&other, 0x5a, sizeof(other));
    expect("vmsave", try_vmsave((u64)&other), NO_FAULT);
    for (unsigned i = 0; i < ARRAY_SIZE(moved_msrs); i++)
        check_part("svm-instructions.vmsave", moved_msrs[i].name, *quad(&other, moved_msrs[i].offset),
                   rdmsr(moved_msrs[i].msr));
    expect("vmsave.tr_selector", save->tr.selector, SEL_TSS);
    expect("vmsave.tr_base", save->tr.base, own.save.tr.base);
    expect("vmsave.tr_limit", save->tr.limit, own.save.tr.limit);
    /* Without the busy bit: QEMU's LTR sets it in memory alone. */
    expect("vmsave.tr_attributes", save->tr.attributes & 0xfd, 0x89);
    expect("vmsave.fs_selector", save->fs.selector, SEL_DATA);
    expect("vmsave.fs_attributes", save->fs.attributes, 0xc93);
    expect("vmsave.fs_limit", save->fs.limit, 0xffffffff);
    expect("vmsave.gs_selector", save->gs.selector, SEL_DATA);
    expect("vmsave.ldtr_selector", save->ldtr.selector, 0);
    /* All the rest is VMRUN's, or nobody's. */
    for (unsigned offset = 0; offset < PAGE_SIZE; offset += 8) {
        bool moved =
            offset - 0x440 < 0x20 || offset - 0x470 < 0x10 || offset - 0x490 < 0x10 || offset - 0x600 < 0x40;
        changed += !moved && *quad(&other, offset) != FILL;
    }
    expect("vmsave.rest", changed, 0);
}

static void check_load(void)
{
    unsigned sign = cpuid(0x80000008, 0).eax >> 8 & 0xff;
    u16 selector;

    for (unsigned i = 0; i < ARRAY_SIZE(moved_msrs); i++)
        *quad(&other, moved_msrs[i].offset) ^= 0x110;
    other.save.fs.selector = SEL_USER_DATA;
    other.save.ldtr.selector = 0x60;
    expect("vmload", try_vmload((u64)&other), NO_FAULT);
    for (unsigned i = 0; i < ARRAY_SIZE(moved_msrs); i++)
        check_part("svm-instructions.vmload", moved_msrs[i].name, rdmsr(moved_msrs[i].msr),
                   *quad(&other, moved_msrs[i].offset));
    __asm__ volatile("mov %%fs, %0" : "=r"(selector));
    expect("vmload.fs_selector", selector, SEL_USER_DATA);
    __asm__ volatile("sldt %0" : "=r"(selector));
    expect("vmload.ldtr_selector", selector, 0x60);
    __asm__ volatile("str %0" : "=r"(selector));
    expect("vmload.tr_selector", selector, SEL_TSS);
    /* 15.5.1: bases are made canonical. */
    other.save.gs.base = BIT(sign - 1) | 0x1000;
    other.save.kernel_gs_base = BIT(sign - 1) | 0x2000;
    (void)try_vmload((u64)&other);
    expect("vmload.gs_base_canonical", rdmsr(MSR_GS_BASE), BITS(63, sign - 1) | 0x1000);
    expect("vmload.kernel_gs_base_canonical", rdmsr(MSR_KERNEL_GS_BASE), BITS(63, sign - 1) | 0x2000);
    expect("vmload.back", try_vmload((u64)&own), NO_FAULT);
}

/* --- VMRUN and #VMEXIT --- */

struct host {
    u64 cr0, cr3, cr4, efer, rflags, dr7, gdt_base, idt_base;
    u16 gdt_limit, idt_limit, cs, ss, ds, es;
};

static struct host read_host(void)
{
    struct host host = {.cr0 = read_cr0(), .cr3 = read_cr3(), .cr4 = read_cr4(), .efer = rdmsr(MSR_EFER)};
    struct {
        u16 limit;
        u64 base;
    } __attribute__((packed)) table;

    __asm__ volatile("mov %%dr7, %0" : "=r"(host.dr7));
    host.rflags = read_rflags() & (RFLAGS_IF | BIT(10));
    __asm__ volatile("sgdt %0" : "=m"(table));
    host.gdt_base = table.base;
    host.gdt_limit = table.limit;
    __asm__ volatile("sidt %0" : "=m"(table));
    host.idt_base = table.base;
    host.idt_limit = table.limit;
    __asm__ volatile("mov %%cs, %0\nmov %%ss, %1\nmov %%ds, %2\nmov %%es, %3"
                     : "=r"(host.cs), "=r"(host.ss), "=r"(host.ds), "=r"(host.es));
    return host;
}

static void check_host(const struct host *before)
{
    const struct host after = read_host();

    expect("exit.cr0", after.cr0, before->cr0);
    expect("exit.cr3", after.cr3, before->cr3);
    expect("exit.cr4", after.cr4, before->cr4);
    expect("exit.efer", after.efer, before->efer);
    expect("exit.rflags", after.rflags, before->rflags);
    expect("exit.dr7", after.dr7, 0x400);
    expect("exit.gdt_base", after.gdt_base, before->gdt_base);
    expect("exit.gdt_limit", after.gdt_limit, before->gdt_limit);
    expect("exit.idt_base", after.idt_base, before->idt_base);
    expect("exit.idt_limit", after.idt_limit, before->idt_limit);
    expect("exit.cs", after.cs, before->cs);
    expect("exit.ss", after.ss, before->ss);
    expect("exit.ds", after.ds, before->ds);
    expect("exit.es", after.es, before->es);
}

static void check_world_switch(void)
{
    static const u64 dr6 = 0xffff4ff0;
    struct host before;
    u64 left;

    svm_reset();
    vmcb.save.cr0 |= CR0_TS;
    vmcb.save.cr4 |= CR4_PGE;
    vmcb.save.dr6 = dr6;
    vmcb.save.gdtr.limit = 0x4f;
    __asm__ volatile("mov %0, %%dr7\nmov %1, %%dr6" ::"r"(0x700ull), "r"(0xffff0ff0ull));
    before = read_host();
    expect("run", svm_run(&code_change), VMEXIT_VMMCALL);
    check_host(&before);
    __asm__ volatile("mov %%dr6, %0" : "=r"(left));
    expect("exit.dr6_of_l2", left, dr6);
    expect("exit.cr2_of_l2", read_cr2(), 0x1111111111111111);
    __asm__ volatile("mov %0, %%dr6" ::"r"(0xffff0ff0ull));
    expect("saved.rip", vmcb.save.rip, (u64)code_change.next);
    expect("saved.rax", vmcb.save.rax, 0);
    expect("saved.rsp", vmcb.save.rsp, (u64)l2_stack + PAGE_SIZE - 64);
    expect("saved.r15", l2.r15, 0x2222222222222222);
    expect("saved.rflags", vmcb.save.rflags & BIT(10), BIT(10));
    expect("saved.cr0", vmcb.save.cr0, before.cr0 | CR0_TS);
    expect("saved.cr2", vmcb.save.cr2, 0x1111111111111111);
    expect("saved.cr3", vmcb.save.cr3, before.cr3);
    expect("saved.cr4", vmcb.save.cr4, before.cr4 | CR4_PGE);
    expect("saved.dr6", vmcb.save.dr6, dr6);
    expect("saved.dr7", vmcb.save.dr7, 0x602);
    expect("saved.efer", vmcb.save.efer, before.efer);
    expect("saved.es", vmcb.save.es.selector, SEL_CODE32);
    expect("saved.gdt_limit", vmcb.save.gdtr.limit, 0x4f);
    expect("saved.cpl", vmcb.save.cpl, 0);
    expect("saved.cs", vmcb.save.cs.selector, SEL_CODE64);
    expect("saved.cs_attributes", vmcb.save.cs.attributes, 0xa9b);
    expect("saved.no_event", vmcb.control.exit_int_info & EVENT_VALID, 0);
    /* Not VMRUN's to save: VMSAVE's. */
    expect("saved.fs_untouched", vmcb.save.fs.selector, SEL_DATA);
    expect("saved.star_untouched", vmcb.save.star, 0);
    if (svm_has(SVM_HAS_NRIPS))
        expect("saved.n_rip", vmcb.control.n_rip, (u64)code_change.next + 3);
}

/* --- MSRs and CPUID --- */

static void check_msrs(void)
{
    u64 value = 0, before = rdmsr(MSR_VM_HSAVE_PA);

    expect("hsave.read", before, (u64)svm_host_area);
    expect("hsave.odd", try_wrmsr(MSR_VM_HSAVE_PA, (u64)svm_host_area + 1), EXC_GP);
    expect("hsave.half_page", try_wrmsr(MSR_VM_HSAVE_PA, (u64)svm_host_area + 0x800), EXC_GP);
    expect("hsave.beyond_width", try_wrmsr(MSR_VM_HSAVE_PA, (u64)svm_host_area | beyond_width()), EXC_GP);
    expect("hsave.kept", rdmsr(MSR_VM_HSAVE_PA), before);
    expect("vm_cr.read", try_rdmsr(MSR_VM_CR, &value), NO_FAULT);
    expect("vm_cr.allowed", value & VM_CR_SVMDIS, 0);
    expect("vm_cr.reserved", try_wrmsr(MSR_VM_CR, value | BIT(5)), EXC_GP);
    expect("vm_cr.reserved_high", try_wrmsr(MSR_VM_CR, value | BIT(63)), EXC_GP);
    expect("vm_cr.same", try_wrmsr(MSR_VM_CR, value), NO_FAULT);
    struct cpuid leaf = cpuid(0x8000000a, 0);
    expect("cpuid.revision", leaf.eax & 0xff, 1);
    check("svm-instructions.cpuid.asids", leaf.ebx >= 2);
    expect("cpuid.reserved", leaf.ecx, 0);
    check("svm-instructions.cpuid.nested_paging", (leaf.edx & 1) != 0);
}

void group_svm_instructions(void)
{
    if (!svm_start("svm-instructions"))
        return;
    (void)try_vmsave((u64)&own);
    check_off();
    check_ring3();
    check_addresses();
    check_address_size();
    check_compatibility_mode();
    check_others();
    check_save();
    check_load();
    check_world_switch();
    check_msrs();
    svm_stop();
}
