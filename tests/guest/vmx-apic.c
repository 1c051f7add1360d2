/* SPDX-License-Identifier: MIT */
/*
 * Group vmx-apic: the virtual APIC of L2: TPR shadow and threshold, the APIC-access page, APIC-register
 * virtualization, x2APIC mode, virtual-interrupt delivery, EOI exits and posted interrupts. Source: SDM vol.
 * 3C ch. 30, 27.7.5, table 28-6.
 */
#include "tests/guest/vmx.h"

enum {
    REG_ID = 0x20,
    REG_VERSION = 0x30,
    REG_TPR = 0x80,
    REG_PPR = 0xa0,
    REG_EOI = 0xb0,
    REG_LDR = 0xd0,
    REG_ISR = 0x100,
    REG_IRR = 0x200,
    REG_CURRENT = 0x390,
    REG_SELF_IPI = 0x3f0,
    MSR_TPR = 0x808,
    MSR_LDR = 0x80d,
    MSR_SELF_IPI = 0x83f,
    PAGE_APIC = 8,
    VECTOR = 0x51,
    NOTIFICATION = 0xf2
};

static u8 vapic[PAGE_SIZE] __attribute__((aligned(4096))),
    access_page[PAGE_SIZE] __attribute__((aligned(4096)));
static u8 bitmap[PAGE_SIZE] __attribute__((aligned(4096)));
/* A page of its own: Bochs wants it aligned so, where 64 bytes would do. */
static struct {
    u64 requests[4];
    u64 control;
    u8 rest[PAGE_SIZE - 40];
} posted __attribute__((aligned(4096)));

L2_CODE(code_nop, "", "nop");
L2_CODE(code_read_cr8, "", "mov %cr8, %rax");
L2_CODE(code_write_cr8, "", "mov %rax, %cr8");
L2_CODE(code_read, "", "mov (%rbx), %eax");
L2_CODE(code_write, "", "mov %eax, (%rbx)");
L2_CODE(code_int, "", "int $0x45");
L2_CODE(code_rdmsr, "", "rdmsr");
L2_CODE(code_wrmsr, "", "wrmsr");
L2_CODE(code_sti, "", "sti\nnop");

static void expect(const char *what, u64 got, u64 want)
{
    check_part("vmx-apic", what, got, want);
}

static u32 *reg(unsigned offset)
{
    return (u32 *)&vapic[offset];
}

static void prepare(void)
{
    vmx_reset();
    memset(vapic, 0, sizeof(vapic));
    memset(bitmap, 0, sizeof(bitmap));
    vmx_set(WORD_PRIMARY, PRIMARY_TPR_SHADOW | PRIMARY_MSR_BITMAPS);
    vmx_clear(WORD_PRIMARY, PRIMARY_CR8_LOAD_EXITING | PRIMARY_CR8_STORE_EXITING);
    vmwrite(VMCS_MSR_BITMAPS, (u64)bitmap);
    vmwrite(VMCS_VIRTUAL_APIC, (u64)vapic);
    vmwrite(VMCS_TPR_THRESHOLD, 0);
}

/* --- TPR shadow --- */

static void check_tpr_shadow(void)
{
    prepare();
    *reg(REG_TPR) = 0x5f;
    expect("cr8.read", vmx_run(&code_read_cr8), REASON_VMCALL);
    expect("cr8.value", l2.rax, 5);
    l2.rax = 9;
    expect("cr8.write", vmx_run(&code_write_cr8), REASON_VMCALL);
    expect("cr8.written", *reg(REG_TPR), 0x90);
    l2.rax = 16;
    expect("cr8.reserved", vmx_run(&code_write_cr8), REASON_EXCEPTION_OR_NMI);
    expect("cr8.reserved_kept", *reg(REG_TPR), 0x90);
    vmwrite(VMCS_TPR_THRESHOLD, 6);
    l2.rax = 6;
    expect("threshold.at", vmx_run(&code_write_cr8), REASON_VMCALL);
    l2.rax = 5;
    expect("threshold.below", vmx_run(&code_write_cr8), REASON_TPR_BELOW_THRESHOLD);
    expect("threshold.below_rip", vmread(VMCS_GUEST_RIP), (u64)code_write_cr8.next);
    expect("threshold.below_written", *reg(REG_TPR), 0x50);
    expect("threshold.entry_refused", vmx_run(&code_nop), RUN_FAILED + 7);
    vmwrite(VMCS_TPR_THRESHOLD, BIT(4));
    expect("threshold.reserved", vmx_run(&code_nop), RUN_FAILED + 7);
    prepare();
    vmwrite(VMCS_VIRTUAL_APIC, (u64)vapic + 16);
    expect("vapic.unaligned", vmx_run(&code_nop), RUN_FAILED + 7);
    prepare();
    vmx_set(WORD_PRIMARY, PRIMARY_CR8_LOAD_EXITING);
    l2.rax = 3;
    expect("cr8.load_exiting", vmx_run(&code_write_cr8), REASON_CONTROL_REGISTER);
    expect("cr8.load_exiting_kept", *reg(REG_TPR), 0);
}

/* The CPU writes VTPR by the page's physical address: that the page is a table of EPT, too, is for Umbra to
 * know. */
static void check_page_that_is_a_table(void)
{
    enum { PAGE_VTPR = REG_TPR / sizeof(u64), ROUNDS = 12 };
    unsigned wrong = 0;

    prepare();
    l2.rbx = (u64)l2_window(PAGE_VTPR, PTE_P | PTE_W | PTE_A | PTE_D);
    ept_window[PAGE_VTPR] = (u64)access_page | EPT_RWX | EPT_XU | EPT_WB;
    vmwrite(VMCS_VIRTUAL_APIC, (u64)ept_window);
    for (unsigned i = 0; i < ROUNDS; i++) {
        (void)try_invept(2, 0, 0);
        wrong += vmx_run(&code_read) != REASON_VMCALL;
    }
    expect("table.reads", wrong, 0);
    l2.rax = 0;
    expect("table.write", vmx_run(&code_write_cr8), REASON_VMCALL);
    expect("table.written", ept_window[PAGE_VTPR] & EPT_RWX, 0);
    (void)try_invept(2, 0, 0);
    expect("table.gone", vmx_run(&code_read), REASON_EPT_VIOLATION);
}

/* --- the APIC-access page --- */

static void prepare_access(unsigned offset)
{
    prepare();
    vmx_set(WORD_SECONDARY, SECONDARY_APIC_ACCESSES);
    vmwrite(VMCS_APIC_ACCESS, (u64)access_page);
    l2.rbx = (u64)l2_window(PAGE_APIC, PTE_P | PTE_W | PTE_A | PTE_D) + offset;
    ept_window[PAGE_APIC] = (u64)access_page | EPT_RWX | EPT_XU | EPT_WB;
    (void)try_invept(2, 0, 0);
}

static void expect_access(const char *what, const struct l2_code *code, unsigned offset, u64 type)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "vmx-apic.access.%s", what);
    check_part(prefix, "reason", vmx_run(code), REASON_APIC_ACCESS);
    check_part(prefix, "qualification", vmread(VMCS_EXIT_QUALIFICATION) & BITS(15, 0), type << 12 | offset);
    check_part(prefix, "rip", vmread(VMCS_GUEST_RIP), (u64)code->at);
}

static void check_accesses(void)
{
    prepare_access(REG_VERSION);
    expect_access("read", &code_read, REG_VERSION, 0);
    expect_access("write", &code_write, REG_VERSION, 1);
    /* No fetch: Bochs panics. */
    /* Delivery of an event through a table in the page. */
    prepare_access(0);
    vmwrite(VMCS_GUEST_IDTR_BASE, l2.rbx);
    expect_access("event", &code_int, 16 * 0x45, 3);
    expect("access.event_vectoring", vmread(VMCS_VECTORING),
           INTERRUPTION_VALID | INTERRUPTION_SOFTWARE | 0x45);
    /* VTPR is there without an exit. */
    prepare_access(REG_TPR);
    *reg(REG_TPR) = 0x77;
    expect("access.tpr_read", vmx_run(&code_read), REASON_VMCALL);
    expect("access.tpr_value", l2.rax, 0x77);
    l2.rax = 0x21;
    expect("access.tpr_write", vmx_run(&code_write), REASON_VMCALL);
    expect("access.tpr_written", *reg(REG_TPR), 0x21);
    vmwrite(VMCS_TPR_THRESHOLD, 2);
    l2.rax = 0x1f;
    expect("access.tpr_below", vmx_run(&code_write), REASON_TPR_BELOW_THRESHOLD);
    expect("access.tpr_below_rip", vmread(VMCS_GUEST_RIP), (u64)code_write.next);
    /* With APIC accesses virtualized an entry finds VTPR below the threshold and exits. */
    expect("access.entry_below", vmx_run(&code_nop), REASON_TPR_BELOW_THRESHOLD);
    expect("access.entry_below_rip", vmread(VMCS_GUEST_RIP), (u64)code_nop.start);
    /* EPT is asked first. */
    prepare_access(REG_VERSION);
    ept_window[PAGE_APIC] = (u64)access_page | EPT_R | EPT_WB;
    (void)try_invept(2, 0, 0);
    expect("access.ept_first", vmx_run(&code_write), REASON_EPT_VIOLATION);
    prepare_access(REG_VERSION);
    vmwrite(VMCS_APIC_ACCESS, (u64)access_page + 0x10);
    expect("access.unaligned", vmx_run(&code_nop), RUN_FAILED + 7);
    vmwrite(VMCS_APIC_ACCESS, (u64)access_page);
    vmx_set(WORD_SECONDARY, SECONDARY_X2APIC_MODE);
    expect("access.and_x2apic", vmx_run(&code_nop), RUN_FAILED + 7);
}

static void check_register_virtualization(void)
{
    if (!vmx_has(WORD_SECONDARY, SECONDARY_APIC_REGISTERS)) {
        note_skipped("vmx-apic.registers", "not offered");
        return;
    }
    prepare_access(REG_LDR);
    vmx_set(WORD_SECONDARY, SECONDARY_APIC_REGISTERS);
    *reg(REG_LDR) = 0x12345678;
    expect("registers.read", vmx_run(&code_read), REASON_VMCALL);
    expect("registers.value", l2.rax, 0x12345678);
    l2.rax = 0xaa000000;
    expect("registers.write", vmx_run(&code_write), REASON_APIC_WRITE);
    expect("registers.write_offset", vmread(VMCS_EXIT_QUALIFICATION), REG_LDR);
    expect("registers.write_rip", vmread(VMCS_GUEST_RIP), (u64)code_write.next);
    expect("registers.written", *reg(REG_LDR), 0xaa000000);
    l2.rbx += REG_CURRENT - REG_LDR;
    expect_access("current_count", &code_read, REG_CURRENT, 0);
    l2.rbx -= REG_CURRENT - REG_ISR;
    expect_access("write_isr", &code_write, REG_ISR, 1);
    vmwrite(VMCS_GUEST_RFLAGS, 2);
    prepare();
    vmx_set(WORD_SECONDARY, SECONDARY_APIC_REGISTERS);
    vmx_clear(WORD_PRIMARY, PRIMARY_TPR_SHADOW);
    expect("registers.without_tpr_shadow", vmx_run(&code_nop), RUN_FAILED + 7);
}

/* --- x2APIC mode --- */

static void check_x2apic(void)
{
    prepare();
    vmx_set(WORD_SECONDARY, SECONDARY_X2APIC_MODE);
    *reg(REG_TPR) = 0x34;
    l2.rcx = MSR_TPR;
    expect("x2apic.read", vmx_run(&code_rdmsr), REASON_VMCALL);
    expect("x2apic.value", l2.rax, 0x34);
    l2.rax = 0x56;
    l2.rdx = 0;
    expect("x2apic.write", vmx_run(&code_wrmsr), REASON_VMCALL);
    expect("x2apic.written", *reg(REG_TPR), 0x56);
    l2.rax = 0x100;
    expect("x2apic.reserved", vmx_run(&code_wrmsr), REASON_EXCEPTION_OR_NMI);
    bitmap[MSR_TPR / 8] = (u8)(1 << MSR_TPR % 8);
    expect("x2apic.intercepted", vmx_run(&code_rdmsr), REASON_RDMSR);
    if (!vmx_has(WORD_SECONDARY, SECONDARY_APIC_REGISTERS))
        return;
    prepare();
    vmx_set(WORD_SECONDARY, SECONDARY_X2APIC_MODE | SECONDARY_APIC_REGISTERS);
    *reg(REG_LDR) = 0x99887766;
    l2.rcx = MSR_LDR;
    expect("x2apic.ldr", vmx_run(&code_rdmsr), REASON_VMCALL);
    expect("x2apic.ldr_value", l2.rax, 0x99887766);
}

/* --- virtual interrupts --- */

static void set_bit(unsigned base, unsigned vector)
{
    *reg(base + vector / 32 * 16) |= (u32)1 << vector % 32;
}

static bool has_bit(unsigned base, unsigned vector)
{
    return (*reg(base + vector / 32 * 16) >> vector % 32 & 1) != 0;
}

static void prepare_delivery(void)
{
    prepare_access(REG_EOI);
    vmx_set(WORD_PIN, PIN_EXTERNAL_INTERRUPT_EXITING);
    vmx_set(WORD_SECONDARY, SECONDARY_VIRTUAL_INTERRUPTS | SECONDARY_APIC_REGISTERS);
    vmwrite(VMCS_GUEST_INTERRUPT_STATUS, 0);
    for (unsigned i = 0; i < 4; i++)
        vmwrite((enum vmcs_field)(VMCS_EOI_EXIT_BITMAP0 + 2 * i), 0);
    /* The handler's way is trodden first: if the delivery of a virtual interrupt faults, Bochs tells of
     * another vector. */
    (void)vmx_run(&code_int);
    vmwrite(VMCS_GUEST_RSP, (u64)l2_stack + PAGE_SIZE - 64);
    vmwrite(VMCS_GUEST_RFLAGS, 2 | RFLAGS_IF);
}

static void check_delivery(void)
{
    prepare_delivery();
    set_bit(REG_IRR, VECTOR);
    vmwrite(VMCS_GUEST_INTERRUPT_STATUS, VECTOR);
    expect("delivery.arrives", vmx_run(&code_nop) == REASON_VMCALL ? l2.rax : 0, L2_VECTOR + VECTOR);
    expect("delivery.irr", has_bit(REG_IRR, VECTOR), false);
    expect("delivery.isr", has_bit(REG_ISR, VECTOR), true);
    expect("delivery.status", vmread(VMCS_GUEST_INTERRUPT_STATUS), VECTOR << 8);
    expect("delivery.ppr", *reg(REG_PPR) & 0xf0, VECTOR & 0xf0);
    /* EOI: without and with its bit in the bitmap. */
    expect("eoi.runs", vmx_run(&code_write), REASON_VMCALL);
    expect("eoi.status", vmread(VMCS_GUEST_INTERRUPT_STATUS), 0);
    expect("eoi.isr", has_bit(REG_ISR, VECTOR), false);
    set_bit(REG_ISR, VECTOR);
    vmwrite(VMCS_GUEST_INTERRUPT_STATUS, VECTOR << 8);
    vmwrite((enum vmcs_field)(VMCS_EOI_EXIT_BITMAP0 + 2 * (VECTOR / 64)), BIT(VECTOR % 64));
    expect("eoi.exits", vmx_run(&code_write), REASON_VIRTUALIZED_EOI);
    expect("eoi.vector", vmread(VMCS_EXIT_QUALIFICATION), VECTOR);
    expect("eoi.rip", vmread(VMCS_GUEST_RIP), (u64)code_write.next);
    expect("eoi.done", vmread(VMCS_GUEST_INTERRUPT_STATUS), 0);
}

static void check_masked_delivery(void)
{
    prepare_delivery();
    set_bit(REG_IRR, VECTOR);
    vmwrite(VMCS_GUEST_INTERRUPT_STATUS, VECTOR);
    vmwrite(VMCS_GUEST_RFLAGS, 2);
    expect("masked.by_if", vmx_run(&code_nop), REASON_VMCALL);
    expect("masked.by_if_status", vmread(VMCS_GUEST_INTERRUPT_STATUS), VECTOR);
    expect("masked.after_sti", vmx_run(&code_sti) == REASON_VMCALL ? l2.rax : 0, L2_VECTOR + VECTOR);
    prepare_delivery();
    set_bit(REG_IRR, VECTOR);
    *reg(REG_TPR) = VECTOR & 0xf0;
    vmwrite(VMCS_GUEST_INTERRUPT_STATUS, VECTOR);
    expect("masked.by_tpr", vmx_run(&code_nop), REASON_VMCALL);
    l2.rax = 0;
    expect("masked.after_cr8", vmx_run(&code_write_cr8) == REASON_VMCALL ? l2.rax : 0, L2_VECTOR + VECTOR);
    prepare_delivery();
    set_bit(REG_IRR, VECTOR);
    vmwrite(VMCS_GUEST_INTERRUPT_STATUS, VECTOR);
    vmx_set(WORD_PRIMARY, PRIMARY_INTERRUPT_WINDOW);
    expect("masked.by_window", vmx_run(&code_nop), REASON_INTERRUPT_WINDOW);
    expect("masked.by_window_status", vmread(VMCS_GUEST_INTERRUPT_STATUS), VECTOR);
    /* L2's IPI to itself. */
    prepare_delivery();
    vmx_clear(WORD_SECONDARY, SECONDARY_APIC_ACCESSES);
    vmx_set(WORD_SECONDARY, SECONDARY_X2APIC_MODE);
    l2.rcx = MSR_SELF_IPI;
    l2.rax = VECTOR;
    expect("self_ipi", vmx_run(&code_wrmsr) == REASON_VMCALL ? l2.rax : 0, L2_VECTOR + VECTOR);
    expect("self_ipi.status", vmread(VMCS_GUEST_INTERRUPT_STATUS), VECTOR << 8);
    prepare_delivery();
    vmx_clear(WORD_PIN, PIN_EXTERNAL_INTERRUPT_EXITING);
    expect("delivery.without_exiting", vmx_run(&code_nop), RUN_FAILED + 7);
}

static void prepare_posted(void)
{
    prepare_delivery();
    memset(&posted, 0, sizeof(posted));
    vmx_set(WORD_EXIT, EXIT_ACKNOWLEDGE_INTERRUPT);
    vmx_set(WORD_PIN, PIN_POSTED_INTERRUPTS);
    vmwrite(VMCS_POSTED_INTERRUPT_VECTOR, NOTIFICATION);
    vmwrite(VMCS_POSTED_INTERRUPT_DESCRIPTOR, (u64)&posted);
}

static void check_posted(void)
{
    if (!vmx_has(WORD_PIN, PIN_POSTED_INTERRUPTS)) {
        note_skipped("vmx-apic.posted", "not offered");
        return;
    }
    apic_init();
    prepare_posted();
    posted.requests[VECTOR / 64] = BIT(VECTOR % 64);
    posted.control = 1;
    apic_send_self(NOTIFICATION);
    expect("posted.arrives", vmx_run(&code_nop) == REASON_VMCALL ? l2.rax : 0, L2_VECTOR + VECTOR);
    expect("posted.taken", posted.requests[VECTOR / 64], 0);
    expect("posted.outstanding", posted.control & 1, 0);
    expect("posted.status", vmread(VMCS_GUEST_INTERRUPT_STATUS), VECTOR << 8);
    expect("posted.isr", has_bit(REG_ISR, VECTOR), true);
    /* Any other vector is an exit. */
    prepare_posted();
    posted.requests[VECTOR / 64] = BIT(VECTOR % 64);
    apic_send_self(VECTOR_SELF);
    expect("posted.other", vmx_run(&code_nop), REASON_EXTERNAL_INTERRUPT);
    expect("posted.other_vector", vmread(VMCS_EXIT_INTERRUPTION), INTERRUPTION_VALID | VECTOR_SELF);
    expect("posted.other_kept", posted.requests[VECTOR / 64], BIT(VECTOR % 64));
    apic_write(APIC_EOI, 0);
    prepare_posted();
    vmwrite(VMCS_POSTED_INTERRUPT_VECTOR, 0x100);
    expect("posted.vector_256", vmx_run(&code_nop), RUN_FAILED + 7);
    prepare_posted();
    vmwrite(VMCS_POSTED_INTERRUPT_DESCRIPTOR, (u64)&posted + 32);
    expect("posted.unaligned", vmx_run(&code_nop), RUN_FAILED + 7);
    prepare_posted();
    vmx_clear(WORD_EXIT, EXIT_ACKNOWLEDGE_INTERRUPT);
    expect("posted.without_acknowledge", vmx_run(&code_nop), RUN_FAILED + 7);
}

void group_vmx_apic(void)
{
    if (!vmx_start("vmx-apic"))
        return;
    check_tpr_shadow();
    check_page_that_is_a_table();
    check_accesses();
    check_register_virtualization();
    check_x2apic();
    if (vmx_has(WORD_SECONDARY, SECONDARY_VIRTUAL_INTERRUPTS)) {
        check_delivery();
        check_masked_delivery();
        check_posted();
    } else {
        note_skipped("vmx-apic.delivery", "not offered");
    }
    vmx_stop();
}
