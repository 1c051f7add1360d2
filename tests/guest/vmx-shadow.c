/* SPDX-License-Identifier: MIT */
/*
 * Group vmx-shadow: shadow VMCSs, and L2's VMREAD and VMWRITE of the one that L1 has linked: which exit,
 * which act on it, how they fail, and the faults of their operands in both stages of translation. Source: SDM
 * vol. 3C 25.10, 26.1.3, 27.3.1.5, vol. 3D ch. 31.
 */
#include "tests/guest/vmx.h"

#define GUEST_STATE (EXIT_REASON_ENTRY_FAILURE | REASON_ENTRY_GUEST_STATE)
#define SHADOW      BIT(31)

enum { PAGE_TEST = 8, PAGE_NEXT = 9, PAGE_USER = 10 };

L2_CODE(code_read, "", "vmread %rcx, %rax\npushfq\npop %rdx");
L2_CODE(code_write, "", "vmwrite %rax, %rcx\npushfq\npop %rdx");
L2_CODE(code_read_memory, "", "vmread %rcx, (%rbx)\npushfq\npop %rdx");
L2_CODE(code_write_memory, "", "vmwrite (%rbx), %rcx\npushfq\npop %rdx");
L2_CODE(code_nothing, "", "nop");

static u8 bitmap[2][PAGE_SIZE] __attribute__((aligned(4096)));
static u8 page[2][PAGE_SIZE] __attribute__((aligned(4096)));
static u64 log[512] __attribute__((aligned(4096)));

static void expect(const char *what, u64 got, u64 want)
{
    check_part("vmx-shadow", what, got, want);
}

static u32 revision(void)
{
    return (u32)rdmsr(MSR_IA32_VMX_BASIC) & 0x7fffffff;
}

static void set_revision(u64 value)
{
    u32 word = (u32)value;

    memcpy(other_region, &word, sizeof(word));
}

/* A field of the shadow VMCS, by L1. */
static u64 shadow_field(u64 field, bool write, u64 value)
{
    u64 result = 0;

    (void)try_vmptrld((u64)other_region);
    if (write)
        (void)try_vmwrite(field, value);
    (void)try_vmread(field, &result);
    (void)try_vmptrld((u64)vmcs_region);
    return result;
}

/* Both bitmaps let everything through. */
static void prepare(void)
{
    vmx_reset();
    memset(bitmap, 0, sizeof(bitmap));
    vmx_set(WORD_SECONDARY, SECONDARY_VMCS_SHADOWING);
    vmwrite(VMCS_VMREAD_BITMAP, (u64)bitmap[0]);
    vmwrite(VMCS_VMWRITE_BITMAP, (u64)bitmap[1]);
    vmwrite(VMCS_LINK_POINTER, (u64)other_region);
    l2.rbx = (u64)l2_window(PAGE_TEST, PTE_P | PTE_W | PTE_U | PTE_A | PTE_D);
    ept_window[PAGE_TEST] = (u64)page[0] | EPT_RWX | EPT_WB;
    (void)try_invept(2, 0, 0);
}

/* --- regions --- */

static void check_regions(void)
{
    set_revision(revision() | SHADOW);
    expect("vmclear", try_vmclear((u64)other_region), END_SUCCEED);
    expect("vmptrld", try_vmptrld((u64)other_region), END_SUCCEED);
    expect("vmlaunch", try_vmlaunch(), END_INVALID);
    expect("vmresume", try_vmresume(), END_INVALID);
    expect("vmwrite", try_vmwrite(VMCS_GUEST_RIP, 0x1234), END_SUCCEED);
    expect("vmptrld_other", try_vmptrld((u64)vmcs_region), END_SUCCEED);
    expect("kept", shadow_field(VMCS_GUEST_RIP, false, 0), 0x1234);
}

static void check_link(const char *name, u64 pointer, u64 revision_there, bool shadowing, bool good)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "vmx-shadow.link.%s", name);
    prepare();
    if (!shadowing)
        vmx_clear(WORD_SECONDARY, SECONDARY_VMCS_SHADOWING);
    set_revision(revision_there);
    vmwrite(VMCS_LINK_POINTER, pointer);
    check_part(prefix, "result", vmx_run(&code_nothing), good ? (u64)REASON_VMCALL : GUEST_STATE);
    if (!good)
        check_part(prefix, "qualification", vmread(VMCS_EXIT_QUALIFICATION), 4);
    set_revision(revision() | SHADOW);
}

static void check_links(void)
{
    u64 link = (u64)other_region;

    check_link("shadow", link, revision() | SHADOW, true, true);
    check_link("ordinary", link, revision(), true, false);
    check_link("shadow_without_control", link, revision() | SHADOW, false, false);
    check_link("ordinary_without_control", link, revision(), false, true);
    check_link("revision", link, (revision() ^ 1) | SHADOW, true, false);
    check_link("none", ~0ull, 0, true, true);
    check_link("unaligned", link + 8, revision() | SHADOW, true, false);
    check_link("current", (u64)vmcs_region, revision() | SHADOW, true, false);
    prepare();
    vmwrite(VMCS_VMREAD_BITMAP, (u64)bitmap[0] + 8);
    expect("vmread_bitmap", vmx_run(&code_nothing), RUN_FAILED + 7);
    vmwrite(VMCS_VMREAD_BITMAP, (u64)bitmap[0]);
    vmwrite(VMCS_VMWRITE_BITMAP, (u64)bitmap[1] | BIT(physical_bits));
    expect("vmwrite_bitmap", vmx_run(&code_nothing), RUN_FAILED + 7);
}

/* --- accesses --- */

static u64 flags(void)
{
    return l2.rdx & END_FLAGS;
}

static void check_registers(void)
{
    prepare();
    (void)shadow_field(VMCS_TSC_OFFSET, true, 0x1122334455667788);
    l2.rcx = VMCS_TSC_OFFSET;
    expect("read", vmx_run(&code_read), REASON_VMCALL);
    expect("read.value", l2.rax, 0x1122334455667788);
    expect("read.flags", flags(), END_SUCCEED);
    l2.rcx = VMCS_TSC_OFFSET | 1;
    expect("read_high", vmx_run(&code_read), REASON_VMCALL);
    expect("read_high.value", l2.rax, 0x11223344);
    l2.rax = 0x99aabbcc;
    expect("write_high", vmx_run(&code_write), REASON_VMCALL);
    expect("write_high.value", shadow_field(VMCS_TSC_OFFSET, false, 0), 0x99aabbcc55667788);
    expect("own_field_untouched", vmread(VMCS_TSC_OFFSET), 0);
    l2.rcx = VMCS_GUEST_CS_SELECTOR;
    l2.rax = 0x123456789;
    expect("write_16", vmx_run(&code_write), REASON_VMCALL);
    expect("write_16.value", shadow_field(VMCS_GUEST_CS_SELECTOR, false, 0), 0x6789);
    expect("write_16.read", vmx_run(&code_read), REASON_VMCALL);
    expect("write_16.read_value", l2.rax, 0x6789);
    l2.rcx = VMCS_EXIT_QUALIFICATION;
    l2.rax = 0x55;
    expect("write_information", vmx_run(&code_write), REASON_VMCALL);
    bool any = (rdmsr(MSR_IA32_VMX_MISC) & BIT(29)) != 0;
    expect("write_information.flags", flags(), any ? END_SUCCEED : END_VALID);
}

static void check_failures(void)
{
    prepare();
    vmwrite(VMCS_INSTRUCTION_ERROR, 0);
    l2.rcx = 0x6;
    expect("no_field", vmx_run(&code_read), REASON_VMCALL);
    expect("no_field.flags", flags(), END_VALID);
    expect("no_field.error", vmread(VMCS_INSTRUCTION_ERROR), 12);
    expect("no_field_write", vmx_run(&code_write), REASON_VMCALL);
    expect("no_field_write.flags", flags(), END_VALID);
    l2.rcx = BIT(15) | VMCS_GUEST_RIP;
    expect("bit_15", vmx_run(&code_read), REASON_VMREAD);
    l2.rcx = BIT(40) | VMCS_GUEST_RIP;
    expect("bit_40", vmx_run(&code_write), REASON_VMWRITE);
    vmwrite(VMCS_LINK_POINTER, ~0ull);
    l2.rcx = VMCS_GUEST_RIP;
    expect("no_link", vmx_run(&code_read), REASON_VMCALL);
    expect("no_link.flags", flags(), END_INVALID);
    expect("no_link_write", vmx_run(&code_write), REASON_VMCALL);
    expect("no_link_write.flags", flags(), END_INVALID);
}

static void check_bitmaps(void)
{
    static const u64 fields[] = {VMCS_VPID, VMCS_GUEST_RIP, VMCS_TSC_OFFSET | 1, 0x7fff};
    char prefix[64];

    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
        u64 field = fields[i];
        print_to(prefix, sizeof(prefix), "vmx-shadow.bitmap.%x", (u32)field);
        prepare();
        l2.rcx = field;
        bitmap[0][field / 8] = (u8)(1 << field % 8);
        check_part(prefix, "read_exits", vmx_run(&code_read), REASON_VMREAD);
        check_part(prefix, "write_runs", vmx_run(&code_write), REASON_VMCALL);
        bitmap[0][field / 8] = 0;
        bitmap[1][field / 8] = (u8)(1 << field % 8);
        check_part(prefix, "read_runs", vmx_run(&code_read), REASON_VMCALL);
        check_part(prefix, "write_exits", vmx_run(&code_write), REASON_VMWRITE);
    }
    prepare();
    vmx_clear(WORD_SECONDARY, SECONDARY_VMCS_SHADOWING);
    vmwrite(VMCS_LINK_POINTER, ~0ull);
    l2.rcx = VMCS_GUEST_RIP;
    expect("off.read", vmx_run(&code_read), REASON_VMREAD);
    expect("off.write", vmx_run(&code_write), REASON_VMWRITE);
}

/* Ring 3 is stopped by CPL, but only where the bitmap lets it come so far. */
static void check_ring3(void)
{
    prepare();
    memcpy(page[1], code_read.at, (size_t)(code_read.next - code_read.at));
    l2.rcx = VMCS_GUEST_RIP;
    vmwrite(VMCS_GUEST_RIP, (u64)window_map(PAGE_USER, (u64)page[1], PTE_P | PTE_U | PTE_A));
    vmwrite(VMCS_GUEST_CS_SELECTOR, SEL_USER_CODE64);
    vmwrite(VMCS_GUEST_CS_RIGHTS, 0xa0fb);
    vmwrite(VMCS_GUEST_SS_SELECTOR, SEL_USER_DATA);
    vmwrite(VMCS_GUEST_SS_RIGHTS, 0xc0f3);
    expect("ring3", vmx_resume(), REASON_EXCEPTION_OR_NMI);
    expect("ring3.vector", vmread(VMCS_EXIT_INTERRUPTION) & 0xff, EXC_GP);
    bitmap[0][VMCS_GUEST_RIP / 8] = (u8)(1 << VMCS_GUEST_RIP % 8);
    expect("ring3.exits", vmx_resume(), REASON_VMREAD);
}

/* --- operands in memory --- */

static void check_memory(void)
{
    const u64 value = 0x0102030405060708;

    prepare();
    (void)shadow_field(VMCS_TSC_OFFSET, true, value);
    l2.rcx = VMCS_TSC_OFFSET;
    memset(page, 0, sizeof(page));
    expect("memory.read", vmx_run(&code_read_memory), REASON_VMCALL);
    expect("memory.value", *(u64 *)page[0], value);
    *(u64 *)page[0] = ~value;
    expect("memory.write", vmx_run(&code_write_memory), REASON_VMCALL);
    expect("memory.written", shadow_field(VMCS_TSC_OFFSET, false, 0), ~value);
    /* Over the end of a page, into one that lies elsewhere. */
    (void)l2_window(PAGE_NEXT, PTE_P | PTE_W | PTE_A | PTE_D);
    ept_window[PAGE_NEXT] = (u64)page[1] | EPT_RWX | EPT_WB;
    memset(page, 0, sizeof(page));
    (void)shadow_field(VMCS_TSC_OFFSET, true, value);
    l2.rbx += PAGE_SIZE - 3;
    expect("memory.crossing", vmx_run(&code_read_memory), REASON_VMCALL);
    check("vmx-shadow.memory.crossing_first", memcmp(page[0] + PAGE_SIZE - 3, &value, 3) == 0);
    check("vmx-shadow.memory.crossing_second", memcmp(page[1], (const u8 *)&value + 3, 5) == 0);
    /* The second page denied: nothing is written to the first. */
    ept_window[PAGE_NEXT] = (u64)page[1] | EPT_R | EPT_WB;
    (void)try_invept(2, 0, 0);
    memset(page, 0, sizeof(page));
    expect("memory.second_denied", vmx_run(&code_read_memory), REASON_EPT_VIOLATION);
    expect("memory.second_physical", vmread(VMCS_GUEST_PHYSICAL_ADDRESS), EPT_WINDOW + PAGE_NEXT * PAGE_SIZE);
    expect("memory.second_linear", vmread(VMCS_GUEST_LINEAR_ADDRESS), WINDOW + PAGE_NEXT * PAGE_SIZE);
    expect("memory.second_first_untouched", page[0][PAGE_SIZE - 1], 0);
}

/* Faults of the first stage, as exits and through L2's own table. */
static void check_page_faults(void)
{
    prepare();
    window_set(PAGE_TEST, 0);
    flush_tlb();
    l2.rcx = VMCS_GUEST_RIP;
    expect("fault.reason", vmx_run(&code_read_memory), REASON_EXCEPTION_OR_NMI);
    expect("fault.information", vmread(VMCS_EXIT_INTERRUPTION) & ~BIT(12),
           INTERRUPTION_VALID | INTERRUPTION_HARDWARE | INTERRUPTION_ERROR_CODE | EXC_PF);
    expect("fault.error_code", vmread(VMCS_EXIT_ERROR_CODE), 2);
    expect("fault.address", vmread(VMCS_EXIT_QUALIFICATION), l2.rbx);
    expect("fault.rip", vmread(VMCS_GUEST_RIP), (u64)code_read_memory.at);
    expect("fault.write", vmx_run(&code_write_memory), REASON_EXCEPTION_OR_NMI);
    expect("fault.write_error_code", vmread(VMCS_EXIT_ERROR_CODE), 0);
    vmwrite(VMCS_EXCEPTION_BITMAP, 0);
    expect("fault.own", vmx_run(&code_read_memory) == REASON_VMCALL ? l2.rax : 0, L2_VECTOR + EXC_PF);
    expect("fault.own_address", read_cr2(), l2.rbx);
    vmwrite(VMCS_EXCEPTION_BITMAP, 0);
    vmwrite(VMCS_PAGE_FAULT_MASK, 2);
    vmwrite(VMCS_PAGE_FAULT_MATCH, 0);
    expect("fault.filtered", vmx_run(&code_read_memory), REASON_EXCEPTION_OR_NMI);
    l2.rbx = BIT(60);
    expect("fault.not_canonical", vmx_run(&code_read_memory) == REASON_VMCALL ? l2.rax : 0,
           L2_VECTOR + EXC_GP);
}

static void check_violations(void)
{
    prepare();
    l2.rcx = VMCS_GUEST_RIP;
    l2.rbx += 0x18;
    ept_window[PAGE_TEST] = (u64)page[0] | EPT_R | EPT_WB;
    (void)try_invept(2, 0, 0);
    expect("violation.reason", vmx_run(&code_read_memory), REASON_EPT_VIOLATION);
    expect("violation.qualification", vmread(VMCS_EXIT_QUALIFICATION) & 0x1bf,
           2 | EPT_R << 3 | BIT(7) | BIT(8));
    expect("violation.physical", vmread(VMCS_GUEST_PHYSICAL_ADDRESS),
           EPT_WINDOW + PAGE_TEST * PAGE_SIZE + 0x18);
    expect("violation.linear", vmread(VMCS_GUEST_LINEAR_ADDRESS), l2.rbx);
    expect("violation.rip", vmread(VMCS_GUEST_RIP), (u64)code_read_memory.at);
    expect("violation.write_runs", vmx_run(&code_write_memory), REASON_VMCALL);
    ept_window[PAGE_TEST] = (u64)page[0] | EPT_W | EPT_WB;
    (void)try_invept(2, 0, 0);
    expect("misconfiguration", vmx_run(&code_write_memory), REASON_EPT_MISCONFIGURATION);
    expect("misconfiguration.physical", vmread(VMCS_GUEST_PHYSICAL_ADDRESS),
           EPT_WINDOW + PAGE_TEST * PAGE_SIZE + 0x18);
}

/* The dirty flag of the page that VMREAD writes to, and L1's log. */
static void check_log(void)
{
    if (!vmx_has(WORD_SECONDARY, SECONDARY_PML) || !ept_has(BIT(21))) {
        note_skipped("vmx-shadow.log", "no page-modification log");
        return;
    }
    prepare();
    memset(log, 0, sizeof(log));
    vmx_set(WORD_SECONDARY, SECONDARY_PML);
    vmwrite(VMCS_EPT_POINTER, ept_pointer() | EPTP_AD);
    vmwrite(VMCS_PML_ADDRESS, (u64)log);
    vmwrite(VMCS_PML_INDEX, 511);
    l2.rcx = VMCS_GUEST_RIP;
    expect("log.run", vmx_run(&code_read_memory), REASON_VMCALL);
    expect("log.dirty", ept_window[PAGE_TEST] & EPT_D, EPT_D);
    unsigned found = 0;
    for (u64 i = vmread(VMCS_PML_INDEX) + 1; i < 512; i++)
        found += log[i] == EPT_WINDOW + PAGE_TEST * PAGE_SIZE;
    expect("log.entries", found, 1);
    u64 index = vmread(VMCS_PML_INDEX);
    expect("log.again", vmx_run(&code_read_memory), REASON_VMCALL);
    expect("log.again_index", vmread(VMCS_PML_INDEX), index);
    ept_window[PAGE_TEST] = (u64)page[0] | EPT_RWX | EPT_WB;
    (void)try_invept(2, 0, 0);
    vmwrite(VMCS_PML_INDEX, 0xffff);
    expect("log.full", vmx_run(&code_read_memory), REASON_PML_FULL);
    expect("log.full_rip", vmread(VMCS_GUEST_RIP), (u64)code_read_memory.at);
    expect("log.full_not_dirty", ept_window[PAGE_TEST] & EPT_D, 0);
}

void group_vmx_shadow(void)
{
    if (!vmx_start("vmx-shadow"))
        return;
    if (!vmx_has(WORD_SECONDARY, SECONDARY_VMCS_SHADOWING)) {
        note_skipped("vmx-shadow", "the CPU has no VMCS shadowing");
        vmx_stop();
        return;
    }
    check_regions();
    check_links();
    check_registers();
    check_failures();
    check_bitmaps();
    check_ring3();
    check_memory();
    check_page_faults();
    check_violations();
    check_log();
    set_revision(revision());
    vmx_stop();
}
