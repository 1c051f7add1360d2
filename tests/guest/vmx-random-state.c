/* SPDX-License-Identifier: MIT */
/*
 * Random changes of the VMCS for group vmx-random. Most give a VMCS that can be entered, a share does not.
 * Nothing of L1's own is within L2's reach, and each L2 comes to an end.
 */
#include "tests/guest/random-l2.h"
#include "tests/guest/vmx-random.h"

#define PAGE_ALIGNED __attribute__((aligned(4096)))

/*
 * STORED is a VMCALL, for who jumps there. TIMER_TICKS are enough for an L2 of ours to do all that it has to
 * do, with what Umbra does for it, unless it sleeps.
 */
enum { TIMER_TICKS = 400000, LIST_ENTRIES = 4, WINDOW_IDT = 9, STORED = 0xc1010f };

static u8 io_bitmaps[2 * PAGE_SIZE] PAGE_ALIGNED, msr_bitmap[PAGE_SIZE] PAGE_ALIGNED;
static u8 field_bitmaps[2][PAGE_SIZE] PAGE_ALIGNED, virtual_apic[PAGE_SIZE] PAGE_ALIGNED;
struct msr_entry {
    u64 index, value;
};
static struct msr_entry entry_list[LIST_ENTRIES] __attribute__((aligned(16))),
    store_list[LIST_ENTRIES] __attribute__((aligned(16))),
    load_list[LIST_ENTRIES] __attribute__((aligned(16)));

/* --- controls --- */

static const struct toggle {
    enum vmx_word word;
    u64 bit;
} toggles[] = {
    {WORD_PIN, PIN_EXTERNAL_INTERRUPT_EXITING},
    {WORD_PIN, PIN_NMI_EXITING},
    {WORD_PIN, PIN_NMI_EXITING | PIN_VIRTUAL_NMIS},
    {WORD_PIN, PIN_VIRTUAL_NMIS},
    {WORD_PIN, PIN_PREEMPTION_TIMER},
    {WORD_PRIMARY, PRIMARY_INTERRUPT_WINDOW},
    {WORD_PRIMARY, PRIMARY_TSC_OFFSETTING},
    {WORD_PRIMARY, PRIMARY_HLT_EXITING},
    {WORD_PRIMARY, PRIMARY_INVLPG_EXITING},
    {WORD_PRIMARY, PRIMARY_MWAIT_EXITING},
    {WORD_PRIMARY, PRIMARY_RDPMC_EXITING},
    {WORD_PRIMARY, PRIMARY_RDTSC_EXITING},
    {WORD_PRIMARY, PRIMARY_CR3_LOAD_EXITING},
    {WORD_PRIMARY, PRIMARY_CR3_STORE_EXITING},
    {WORD_PRIMARY, PRIMARY_CR8_LOAD_EXITING},
    {WORD_PRIMARY, PRIMARY_CR8_STORE_EXITING},
    {WORD_PRIMARY, PRIMARY_TPR_SHADOW},
    {WORD_PRIMARY, PRIMARY_NMI_WINDOW},
    {WORD_PRIMARY, PRIMARY_MOV_DR_EXITING},
    {WORD_PRIMARY, PRIMARY_IO_EXITING},
    {WORD_PRIMARY, PRIMARY_IO_BITMAPS},
    {WORD_PRIMARY, PRIMARY_MONITOR_TRAP_FLAG},
    {WORD_PRIMARY, PRIMARY_MSR_BITMAPS},
    {WORD_PRIMARY, PRIMARY_MONITOR_EXITING},
    {WORD_PRIMARY, PRIMARY_PAUSE_EXITING},
    {WORD_SECONDARY, SECONDARY_APIC_ACCESSES},
    {WORD_SECONDARY, SECONDARY_EPT},
    {WORD_SECONDARY, SECONDARY_DESCRIPTOR_TABLE_EXITING},
    {WORD_SECONDARY, SECONDARY_RDTSCP},
    {WORD_SECONDARY, SECONDARY_X2APIC_MODE},
    {WORD_SECONDARY, SECONDARY_VPID},
    {WORD_SECONDARY, SECONDARY_WBINVD_EXITING},
    {WORD_SECONDARY, SECONDARY_UNRESTRICTED_GUEST},
    {WORD_SECONDARY, SECONDARY_APIC_REGISTERS},
    {WORD_SECONDARY, SECONDARY_RDRAND_EXITING},
    {WORD_SECONDARY, SECONDARY_INVPCID},
    {WORD_SECONDARY, SECONDARY_VM_FUNCTIONS},
    {WORD_SECONDARY, SECONDARY_VMCS_SHADOWING},
    {WORD_SECONDARY, SECONDARY_RDSEED_EXITING},
    {WORD_SECONDARY, SECONDARY_XSAVES},
    {WORD_SECONDARY, SECONDARY_MBEC},
    {WORD_SECONDARY, SECONDARY_TSC_SCALING},
    {WORD_EXIT, EXIT_SAVE_DEBUG},
    {WORD_EXIT, EXIT_ACKNOWLEDGE_INTERRUPT},
    {WORD_EXIT, EXIT_SAVE_PAT},
    {WORD_EXIT, EXIT_LOAD_PAT},
    {WORD_EXIT, EXIT_SAVE_EFER},
    {WORD_EXIT, EXIT_LOAD_EFER},
    {WORD_EXIT, EXIT_SAVE_PREEMPTION_TIMER},
    {WORD_ENTRY, ENTRY_LOAD_DEBUG},
    {WORD_ENTRY, ENTRY_LOAD_PAT},
    {WORD_ENTRY, ENTRY_LOAD_EFER},
};
/* Of these no bit may be other than it is. */
static const struct toggle refused[] = {
    {WORD_PIN, BIT(1)},        {WORD_PIN, BIT(9)},        {WORD_PRIMARY, BIT(1)},
    {WORD_PRIMARY, BIT(0)},    {WORD_SECONDARY, BIT(29)}, {WORD_EXIT, BIT(0)},
    {WORD_EXIT, EXIT_HOST_64}, {WORD_ENTRY, BIT(0)},      {WORD_ENTRY, BIT(31)},
};

static enum vmcs_field word_field(enum vmx_word word)
{
    static const enum vmcs_field fields[WORDS] = {VMCS_PIN_CONTROLS, VMCS_PRIMARY_CONTROLS,
                                                  VMCS_SECONDARY_CONTROLS, VMCS_EXIT_CONTROLS,
                                                  VMCS_ENTRY_CONTROLS};
    return fields[word];
}

static bool is_on(enum vmx_word word, u64 bits)
{
    return (vmread(word_field(word)) & bits) == bits;
}

static void toggle_field(enum vmcs_field field, u64 bits)
{
    vmwrite(field, vmread(field) ^ bits);
}

static void change_control(void)
{
    const struct toggle *toggle = &toggles[hostile_below(ARRAY_SIZE(toggles))];

    if (vmx_has(toggle->word, toggle->bit))
        toggle_field(word_field(toggle->word), toggle->bit);
}

static void change_controls(void)
{
    for (unsigned i = 0; i < 4; i++)
        change_control();
}

static void change_to_refused(void)
{
    const struct toggle *toggle = &refused[hostile_below(ARRAY_SIZE(refused))];

    if (hostile_chance(30))
        toggle_field(word_field(toggle->word), toggle->bit);
}

static void change_exceptions(void)
{
    vmwrite(VMCS_EXCEPTION_BITMAP, hostile_chance(40) ? 0 : hostile_random() & BITS(31, 0));
    vmwrite(VMCS_PAGE_FAULT_MASK, hostile_below(32));
    vmwrite(VMCS_PAGE_FAULT_MATCH, hostile_below(4));
}

static void change_masks(void)
{
    static const enum vmcs_field fields[] = {VMCS_CR0_MASK, VMCS_CR0_SHADOW, VMCS_CR4_MASK, VMCS_CR4_SHADOW};

    vmwrite(fields[hostile_below(ARRAY_SIZE(fields))], hostile_random() & BITS(31, 0));
}

static void change_cr3_targets(void)
{
    u64 value = hostile_chance(70) ? read_cr3() : hostile_random();

    vmwrite(VMCS_CR3_TARGET_COUNT, hostile_below(6));
    vmwrite((enum vmcs_field)(VMCS_CR3_TARGET0 + 2 * hostile_below(4)), value);
}

static void change_maps(void)
{
    memset(hostile_chance(50) ? io_bitmaps : msr_bitmap, (int)hostile_below(256), PAGE_SIZE);
    memset(io_bitmaps + PAGE_SIZE, (int)hostile_below(256), PAGE_SIZE);
    memset(field_bitmaps, (int)hostile_below(256), sizeof(field_bitmaps));
    if (hostile_chance(5))
        vmwrite(hostile_chance(50) ? VMCS_MSR_BITMAPS : VMCS_IO_BITMAP_B, (u64)msr_bitmap + 8);
}

static void change_tpr(void)
{
    vmwrite(VMCS_TPR_THRESHOLD, hostile_chance(5) ? hostile_random() & BITS(31, 0) : hostile_below(16));
    virtual_apic[APIC_TPR] = (u8)hostile_random();
    if (hostile_chance(10))
        vmwrite(VMCS_VIRTUAL_APIC, hostile_chance(50) ? (u64)virtual_apic + 16 : BIT(physical_bits));
}

static void change_pointers(void)
{
    switch (hostile_below(8)) {
    case 0:
        vmwrite(VMCS_VPID, hostile_below(4));
        break;
    case 1:
        vmwrite(VMCS_LINK_POINTER, hostile_chance(70) ? (u64)other_region : hostile_below(3) * 8);
        break;
    case 2:
        vmwrite(VMCS_EPT_POINTER, ept_pointer() | (ept_has(BIT(21)) ? EPTP_AD : 0));
        break;
    case 3:
        vmwrite(VMCS_EPT_POINTER, ept_pointer() ^ BIT(hostile_below(12)));
        break;
    case 4:
        vmwrite(VMCS_TSC_OFFSET, hostile_random());
        break;
    default:
        (void)try_vmclear((u64)vmcs_region);
        (void)try_vmptrld((u64)vmcs_region);
        break;
    }
}

/* --- events --- */

static void change_event(void)
{
    static const u16 events[] = {
        INTERRUPTION_EXTERNAL | 0x20,
        INTERRUPTION_EXTERNAL | 0xff,
        INTERRUPTION_NMI | EXC_NMI,
        INTERRUPTION_HARDWARE | EXC_DE,
        INTERRUPTION_HARDWARE | EXC_DB,
        INTERRUPTION_HARDWARE | EXC_UD,
        INTERRUPTION_HARDWARE | EXC_DF | INTERRUPTION_ERROR_CODE,
        INTERRUPTION_HARDWARE | EXC_GP | INTERRUPTION_ERROR_CODE,
        INTERRUPTION_HARDWARE | EXC_PF | INTERRUPTION_ERROR_CODE,
        INTERRUPTION_HARDWARE | EXC_AC | INTERRUPTION_ERROR_CODE,
        INTERRUPTION_SOFTWARE | 0x80,
        INTERRUPTION_SOFTWARE | 0x81,
        INTERRUPTION_PRIVILEGED | EXC_DB,
        INTERRUPTION_TRAP | EXC_BP,
        INTERRUPTION_TRAP | EXC_OF,
        INTERRUPTION_OTHER,
        /* refused, or only with certain features */
        INTERRUPTION_NMI | 3,
        INTERRUPTION_HARDWARE | 0x20,
        INTERRUPTION_HARDWARE | EXC_GP,
        INTERRUPTION_HARDWARE | EXC_UD | INTERRUPTION_ERROR_CODE,
        INTERRUPTION_EXTERNAL | 0x20 | INTERRUPTION_ERROR_CODE,
        INTERRUPTION_OTHER | 1,
        1 << 8 | 0x20,
        INTERRUPTION_EXTERNAL | 0x20 | 1 << 12,
    };
    u64 event = events[hostile_below(hostile_chance(85) ? 16 : ARRAY_SIZE(events))];

    if ((event & INTERRUPTION_TYPE) == INTERRUPTION_EXTERNAL && hostile_chance(80))
        vmwrite(VMCS_GUEST_RFLAGS, vmread(VMCS_GUEST_RFLAGS) | RFLAGS_IF);
    vmwrite(VMCS_ENTRY_INTERRUPTION, INTERRUPTION_VALID | event);
    vmwrite(VMCS_ENTRY_ERROR_CODE, hostile_chance(5) ? BIT(16) : hostile_below(8));
    vmwrite(VMCS_ENTRY_INSTRUCTION_LENGTH, hostile_chance(95) ? 1 + hostile_below(4) : hostile_below(18));
}

static void change_interruptibility(void)
{
    static const u8 values[] = {
        BLOCKING_BY_STI, BLOCKING_BY_MOV_SS, BLOCKING_BY_NMI, BLOCKING_BY_NMI | BLOCKING_BY_MOV_SS, 3, 4, 16};
    u64 value = values[hostile_below(hostile_chance(90) ? 4 : ARRAY_SIZE(values))];

    vmwrite(VMCS_GUEST_INTERRUPTIBILITY, value);
    if ((value & BLOCKING_BY_STI) != 0 && hostile_chance(80))
        vmwrite(VMCS_GUEST_RFLAGS, vmread(VMCS_GUEST_RFLAGS) | RFLAGS_IF);
}

static void change_activity(void)
{
    vmwrite(VMCS_GUEST_ACTIVITY, hostile_chance(90) ? ACTIVITY_HLT : 4 + hostile_below(4));
}

static void change_pending_debug(void)
{
    /* Not "enabled breakpoint" alone, which is no #DB to Bochs. */
    static const u16 values[] = {1,           BIT(3), BIT(12) | 1, BIT(14), BIT(14) | BIT(12) | 2,
                                 BIT(14) | 1, BIT(4), BIT(13)};

    vmwrite(VMCS_GUEST_PENDING_DEBUG, values[hostile_below(hostile_chance(90) ? 6 : ARRAY_SIZE(values))]);
}

/* It never expires in the middle of an L2: at once in some series, else when L2 sleeps. */
static u64 timer;

static void reset_timer(void)
{
    unsigned rate = rdmsr(MSR_IA32_VMX_MISC) & 31;

    timer = hostile_chance(25) ? 0 : (u64)TIMER_TICKS >> rate;
    if (timer != 0)
        return;
    /* Bochs saves what is left of the time of an earlier entry, where the last one began with 0. */
    for (u64 start = rdtsc(); rdtsc() - start < TIMER_TICKS;)
        ;
}

static void change_timer(void)
{
    vmx_set(WORD_PIN, PIN_PREEMPTION_TIMER);
}

/* --- state --- */

static void change_flags(void)
{
    static const u8 bits[] = {8, 9, 9, 0, 10, 16, 18, 21, 1, 15, 17};

    toggle_field(VMCS_GUEST_RFLAGS, BIT(bits[hostile_below(hostile_chance(90) ? 8 : ARRAY_SIZE(bits))]));
}

static void change_control_register(void)
{
    static const u8 of_cr0[] = {1, 2, 3, 16, 18, 5, 28, 31},
                    of_cr4[] = {2, 3, 4, 6, 7, 8, 9, 10, 18, 20, 21, 5, 13, 30};

    switch (hostile_below(7)) {
    case 0:
    case 1:
        toggle_field(VMCS_GUEST_CR0, BIT(of_cr0[hostile_below(hostile_chance(80) ? 5 : ARRAY_SIZE(of_cr0))]));
        break;
    case 2:
    case 3:
        toggle_field(VMCS_GUEST_CR4,
                     BIT(of_cr4[hostile_below(hostile_chance(80) ? 11 : ARRAY_SIZE(of_cr4))]));
        break;
    case 4:
        toggle_field(VMCS_GUEST_CR3, hostile_chance(20) ? BIT(60) : BIT(3));
        break;
    case 5:
        toggle_field(VMCS_GUEST_EFER, hostile_chance(50)   ? EFER_SCE
                                      : hostile_chance(50) ? EFER_NXE
                                                           : EFER_LMA);
        break;
    default:
        vmwrite(VMCS_GUEST_PAT, hostile_chance(80) ? 0x0007040600070406 : 0x0007040600070402);
        break;
    }
}

/* DR0 to DR3 are the same for L1 and L2. */
static void change_debug(void)
{
    static const u64 values[] = {0x400, 0x401, 0x400 | BIT(2) | 3ull << 20, 0x2400, 0x455, BIT(32) | 0x400};

    vmwrite(VMCS_GUEST_DR7, values[hostile_below(ARRAY_SIZE(values))]);
}

static void change_segment(void)
{
    enum vmcs_segment segment = (enum vmcs_segment)hostile_below(VMCS_SEGMENTS);
    enum vmcs_field rights = vmcs_segment_field(VMCS_GUEST_ES_RIGHTS, segment);

    switch (hostile_below(6)) {
    case 0:
        toggle_field(rights, BIT(hostile_below(18)));
        break;
    case 1:
        toggle_field(vmcs_segment_field(VMCS_GUEST_ES_SELECTOR, segment), BIT(hostile_below(6)));
        break;
    case 2:
        vmwrite(VMCS_GUEST_GS_BASE, hostile_odd_value());
        break;
    case 3:
        vmwrite(VMCS_GUEST_IDTR_LIMIT, hostile_chance(5) ? BIT(16) : hostile_below(L2_IDT_BYTES));
        break;
    case 4:
        vmwrite(VMCS_GUEST_GDTR_LIMIT, hostile_below(0x58));
        break;
    default: /* compatibility mode */
        toggle_field(VMCS_GUEST_CS_RIGHTS, RIGHTS_LONG | RIGHTS_BIG);
        break;
    }
}

static void change_sysenter(void)
{
    static const enum vmcs_field fields[] = {
        VMCS_GUEST_SYSENTER_CS, VMCS_GUEST_SYSENTER_ESP, VMCS_GUEST_SYSENTER_EIP, VMCS_HOST_SYSENTER_CS,
        VMCS_HOST_SYSENTER_ESP, VMCS_GUEST_FS_BASE,      VMCS_HOST_FS_BASE,       VMCS_HOST_GS_BASE};
    u64 value = hostile_chance(10) ? hostile_odd_value() : hostile_random() & BITS(31, 0);
    enum vmcs_field field = fields[hostile_below(ARRAY_SIZE(fields))];

    /* Of the host's CS selector Bochs loads 16 bits only. */
    vmwrite(field, field == VMCS_HOST_SYSENTER_CS ? value & BITS(15, 0) : value);
}

static void change_host(void)
{
    static const struct {
        enum vmcs_field field;
        u64 value;
    } values[] = {
        {VMCS_HOST_DS_SELECTOR, 0},
        {VMCS_HOST_FS_SELECTOR, 0},
        {VMCS_HOST_CS_SELECTOR, 0},
        {VMCS_HOST_TR_SELECTOR, 0},
        {VMCS_HOST_ES_SELECTOR, SEL_DATA | 4},
        {VMCS_HOST_CR4, 0},
        {VMCS_HOST_CR0, CR0_PE},
        {VMCS_HOST_CR3, BIT(60)},
        {VMCS_HOST_PAT, 2},
        {VMCS_HOST_EFER, 0},
        {VMCS_HOST_RIP, BIT(63)},
        {VMCS_HOST_TR_BASE, BIT(62)},
    };
    unsigned row = hostile_below(hostile_chance(80) ? 2 : ARRAY_SIZE(values));

    vmwrite(values[row].field, values[row].value);
}

/* --- memory --- */

static void change_memory(void)
{
    static const u16 permissions[] = {0,     EPT_R, EPT_R | EPT_W, EPT_R | EPT_X, EPT_R | EPT_W | EPT_X,
                                      EPT_X, EPT_W, EPT_RWX};

    ept_window[RANDOM_PAGE] = (u64)random_data | EPT_WB |
                              permissions[hostile_below(ARRAY_SIZE(permissions))] |
                              (hostile_chance(5) ? 7 << 3 : 0) | (hostile_chance(20) ? EPT_A | EPT_D : 0);
    if (hostile_chance(5))
        ept_window[RANDOM_PAGE] = 0;
    (void)try_invept(hostile_chance(50) ? 1 : 2, ept_pointer(), 0);
    if (hostile_chance(50))
        (void)try_invept(1, ept_pointer() | EPTP_AD, 0);
    l2.rbx = (u64)l2_window(RANDOM_PAGE, PTE_P | PTE_W | PTE_A | PTE_D | (hostile_chance(10) ? PTE_U : 0));
}

/* L2's interrupt table where L1's EPT maps it or not. */
static void change_table(void)
{
    ept_window[WINDOW_IDT] = hostile_chance(50) ? 0 : (u64)l2_idt | EPT_WB | EPT_R;
    (void)try_invept(2, 0, 0);
    vmwrite(VMCS_GUEST_IDTR_BASE, (u64)l2_window(WINDOW_IDT, PTE_P | PTE_A | PTE_D));
}

/* --- lists of MSRs --- */

static u32 harmless_msr(void)
{
    static const u32 msrs[] = {MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_FMASK, MSR_TSC_AUX, MSR_KERNEL_GS_BASE};

    return msrs[hostile_below(ARRAY_SIZE(msrs))];
}

static void change_lists(void)
{
    static const struct msr_entry bad[] = {{MSR_FS_BASE, 1},
                                           {MSR_GS_BASE, 1},
                                           {0x808, 0},
                                           {MSR_LSTAR, BIT(62)},
                                           {MSR_STAR | BIT(32), 1},
                                           {0x2000, 0},
                                           {MSR_TSC_AUX, BIT(32)},
                                           {MSR_IA32_PAT, 0x0202020202020202}};

    for (unsigned i = 0; i < LIST_ENTRIES; i++) {
        entry_list[i] = (struct msr_entry){harmless_msr(), hostile_random() & BITS(30, 0)};
        store_list[i] = (struct msr_entry){harmless_msr(), 0};
        load_list[i] = (struct msr_entry){harmless_msr(), hostile_random() & BITS(30, 0)};
    }
    if (hostile_chance(20))
        entry_list[hostile_below(LIST_ENTRIES)] = bad[hostile_below(ARRAY_SIZE(bad))];
    vmwrite(VMCS_ENTRY_MSR_LOAD_COUNT, hostile_chance(50) ? hostile_below(LIST_ENTRIES + 1) : 0);
    vmwrite(VMCS_EXIT_MSR_STORE_COUNT, hostile_chance(50) ? hostile_below(LIST_ENTRIES + 1) : 0);
    vmwrite(VMCS_EXIT_MSR_LOAD_COUNT, hostile_chance(50) ? hostile_below(LIST_ENTRIES + 1) : 0);
    if (hostile_chance(5))
        vmwrite(VMCS_ENTRY_MSR_LOAD, (u64)entry_list + 8);
}

/* --- all of it --- */

void random_change(void)
{
    static void (*const changes[])(void) = {
        change_control,    change_control,
        change_control,    change_controls,
        change_to_refused, change_exceptions,
        change_masks,      change_cr3_targets,
        change_maps,       change_tpr,
        change_pointers,   change_event,
        change_event,      change_interruptibility,
        change_activity,   change_pending_debug,
        change_timer,      change_flags,
        change_flags,      change_control_register,
        change_debug,      change_segment,
        change_sysenter,   change_host,
        change_memory,     change_memory,
        change_table,      change_lists,
    };

    changes[hostile_below(ARRAY_SIZE(changes))]();
}

/* A shadow VMCS for L2's VMREAD and VMWRITE, with a field in it. */
static void reset_shadow_vmcs(void)
{
    u32 revision = (u32)rdmsr(MSR_IA32_VMX_BASIC) & 0x7fffffff;

    if (!vmx_has(WORD_SECONDARY, SECONDARY_VMCS_SHADOWING))
        return;
    revision |= (u32)BIT(31);
    memcpy(other_region, &revision, sizeof(revision));
    (void)try_vmclear((u64)other_region);
    (void)try_vmptrld((u64)other_region);
    (void)try_vmwrite(VMCS_GUEST_RSP, 0x1122334455667788);
    (void)try_vmwrite(VMCS_GUEST_ES_SELECTOR, 0x99aa);
    (void)try_vmclear((u64)other_region);
    (void)try_vmptrld((u64)vmcs_region);
}

void random_reset(void)
{
    /* The VMCS becomes a new one now and then; else what it had before goes on underneath. */
    if (hostile_chance(30)) {
        (void)try_vmclear((u64)vmcs_region);
        (void)try_vmptrld((u64)vmcs_region);
    }
    vmx_reset();
    reset_shadow_vmcs();
    memset(io_bitmaps, 0, sizeof(io_bitmaps));
    memset(msr_bitmap, 0, sizeof(msr_bitmap));
    memset(field_bitmaps, 0, sizeof(field_bitmaps));
    memset(virtual_apic, 0, sizeof(virtual_apic));
    vmwrite(VMCS_IO_BITMAP_A, (u64)io_bitmaps);
    vmwrite(VMCS_IO_BITMAP_B, (u64)io_bitmaps + PAGE_SIZE);
    vmwrite(VMCS_MSR_BITMAPS, (u64)msr_bitmap);
    (void)try_vmwrite(VMCS_VMREAD_BITMAP, (u64)field_bitmaps[0]);
    (void)try_vmwrite(VMCS_VMWRITE_BITMAP, (u64)field_bitmaps[1]);
    (void)try_vmwrite(VMCS_VM_FUNCTION_CONTROLS, 0);
    (void)try_vmwrite(VMCS_TSC_MULTIPLIER, BIT(48));
    vmwrite(VMCS_VIRTUAL_APIC, (u64)virtual_apic);
    (void)try_vmwrite(VMCS_APIC_ACCESS, 0xfee00000);
    vmwrite(VMCS_ENTRY_MSR_LOAD, (u64)entry_list);
    vmwrite(VMCS_EXIT_MSR_STORE, (u64)store_list);
    vmwrite(VMCS_EXIT_MSR_LOAD, (u64)load_list);
    reset_timer();
    ept_window[RANDOM_PAGE] = (u64)random_data | EPT_RWX | EPT_WB;
    (void)try_invept(2, 0, 0);
    if (hostile_chance(60))
        change_exceptions();
    if (hostile_chance(60))
        change_controls();
}

/* What would not come to an end, or is not the same everywhere. */
static void mend(void)
{
    bool sleeps = vmread(VMCS_GUEST_ACTIVITY) == ACTIVITY_HLT || !is_on(WORD_PRIMARY, PRIMARY_HLT_EXITING) ||
                  !is_on(WORD_PRIMARY, PRIMARY_MWAIT_EXITING);
    u64 blocking = vmread(VMCS_GUEST_INTERRUPTIBILITY), event = vmread(VMCS_ENTRY_INTERRUPTION);
    u64 type = event & INTERRUPTION_TYPE;
    bool injects = (event & INTERRUPTION_VALID) != 0;

    /* Bochs lets any exception be injected into HLT, and an NMI when virtual ones are blocked; whether STI
     * blocks its injection is the CPU's choice, which Umbra learns after L1's MSRs have been loaded. */
    if (injects && type >= INTERRUPTION_HARDWARE && type != INTERRUPTION_OTHER)
        vmwrite(VMCS_GUEST_ACTIVITY, vmread(VMCS_GUEST_ACTIVITY) & ~(u64)ACTIVITY_HLT);
    if (injects && type == INTERRUPTION_NMI)
        vmwrite(VMCS_GUEST_INTERRUPTIBILITY, blocking & ~(BLOCKING_BY_NMI | BLOCKING_BY_STI));
    /* Bochs does not compare BS with TF, which it has to be in a shadow and in HLT. */
    if ((blocking & BITS(1, 0)) != 0 || vmread(VMCS_GUEST_ACTIVITY) == ACTIVITY_HLT) {
        u64 pending = vmread(VMCS_GUEST_PENDING_DEBUG) & ~PENDING_DEBUG_BS;
        bool trap = (vmread(VMCS_GUEST_RFLAGS) & RFLAGS_TF) != 0;
        vmwrite(VMCS_GUEST_PENDING_DEBUG, pending | (trap ? PENDING_DEBUG_BS : 0));
    }
    if (sleeps)
        vmx_set(WORD_PIN, PIN_PREEMPTION_TIMER);
    vmwrite(VMCS_GUEST_PREEMPTION_TIMER, timer);
}

static void set_debug_registers(u64 instruction)
{
    __asm__ volatile("mov %0, %%dr0\nmov %1, %%dr1\nmov %2, %%dr6" ::"r"(instruction), "r"(l2.rbx),
                     "r"(0xffff0ff0ull));
}

void random_prepare(const u8 *at)
{
    static const u16 of_cr4[] = {BIT(2), BIT(3), BIT(8), BIT(11), BIT(14), BIT(15)};
    static const u64 of_cr0[] = {CR0_MP, CR0_EM, CR0_NE, CR0_WP, CR0_CD, CR0_PG, CR0_PE};
    static const u32 fields[] = {VMCS_GUEST_RSP, VMCS_GUEST_ES_SELECTOR, VMCS_GUEST_RSP | 1, 0x6,
                                 VMCS_EXIT_REASON};

    if (!is_on(WORD_SECONDARY, SECONDARY_EPT) || !is_on(WORD_PRIMARY, PRIMARY_SECONDARY_CONTROLS))
        l2.rbx = (u64)random_data;
    mend();
    l2.r8 = 0x1200 + hostile_below(16);
    if (l2.rcx == MSR_EFER)
        l2.r8 = hostile_chance(50) ? 0xd00 : 0xd01;
    l2.r9 = hostile_chance(10) ? 0x80000000 : 0;
    l2.r10 = of_cr4[hostile_below(ARRAY_SIZE(of_cr4))];
    l2.r11 = of_cr0[hostile_below(ARRAY_SIZE(of_cr0))];
    l2.r12 = fields[hostile_below(ARRAY_SIZE(fields))];
    memset(random_data, 0, 256);
    *(u64 *)random_data = STORED;
    set_debug_registers((u64)at);
}

void random_print_memory(void)
{
    const u64 *words = (const u64 *)random_data;
    u64 dr6;

    __asm__ volatile("mov %%dr6, %0" : "=r"(dr6));
    if (dr6 != 0xffff0ff0)
        print(" dr6 %lx", dr6);
    for (unsigned i = 0; i < 16; i++) {
        if (words[i] != (i == 0 ? (u64)STORED : 0))
            print(" data%u %lx", i, words[i]);
    }
    print(" tpr %x ept %lx", virtual_apic[APIC_TPR], ept_window[RANDOM_PAGE]);
    for (u64 i = 0; i < vmread(VMCS_EXIT_MSR_STORE_COUNT) && i < LIST_ENTRIES; i++)
        print(" stored %lx", store_list[i].value);
}
