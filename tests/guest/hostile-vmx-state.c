/* SPDX-License-Identifier: MIT */
/*
 * The VMCS of group `hostile-vmx`: its fields by what they may become, states that L2 can be entered with in
 * every mode, and random values. What L1 itself needs to live on is never left to chance.
 */
#include "tests/guest/hostile-vmx.h"

static const enum vmcs_field control_fields[] = {
    VMCS_PIN_CONTROLS,  VMCS_PRIMARY_CONTROLS, VMCS_SECONDARY_CONTROLS,
    VMCS_EXIT_CONTROLS, VMCS_ENTRY_CONTROLS,
};
static const enum vmcs_field pointer_fields[] = {
    VMCS_IO_BITMAP_A,    VMCS_IO_BITMAP_B,    VMCS_MSR_BITMAPS,
    VMCS_ENTRY_MSR_LOAD, VMCS_EXECUTIVE_VMCS, VMCS_PML_ADDRESS,
    VMCS_VIRTUAL_APIC,   VMCS_APIC_ACCESS,    VMCS_POSTED_INTERRUPT_DESCRIPTOR,
    VMCS_EPT_POINTER,    VMCS_EPTP_LIST,      VMCS_VMREAD_BITMAP,
    VMCS_VMWRITE_BITMAP, VMCS_VE_INFORMATION, VMCS_LINK_POINTER,
};
static const enum vmcs_field count_fields[] = {
    VMCS_VPID,
    VMCS_POSTED_INTERRUPT_VECTOR,
    VMCS_EPTP_INDEX,
    VMCS_GUEST_INTERRUPT_STATUS,
    VMCS_PML_INDEX,
    VMCS_CR3_TARGET_COUNT,
    VMCS_ENTRY_MSR_LOAD_COUNT,
    VMCS_ENTRY_INTERRUPTION,
    VMCS_ENTRY_ERROR_CODE,
    VMCS_ENTRY_INSTRUCTION_LENGTH,
    VMCS_TPR_THRESHOLD,
    VMCS_PLE_GAP,
    VMCS_PLE_WINDOW,
    VMCS_VM_FUNCTION_CONTROLS,
    VMCS_GUEST_INTERRUPTIBILITY,
    VMCS_GUEST_ACTIVITY,
    VMCS_GUEST_SMBASE,
};
static const enum vmcs_field state_fields[] = {
    VMCS_TSC_OFFSET,
    VMCS_EOI_EXIT_BITMAP0,
    VMCS_EOI_EXIT_BITMAP1,
    VMCS_EOI_EXIT_BITMAP2,
    VMCS_EOI_EXIT_BITMAP3,
    VMCS_XSS_EXITING_BITMAP,
    VMCS_ENCLS_EXITING_BITMAP,
    VMCS_TSC_MULTIPLIER,
    VMCS_EXCEPTION_BITMAP,
    VMCS_PAGE_FAULT_MASK,
    VMCS_PAGE_FAULT_MATCH,
    VMCS_CR0_MASK,
    VMCS_CR4_MASK,
    VMCS_CR0_SHADOW,
    VMCS_CR4_SHADOW,
    VMCS_CR3_TARGET0,
    VMCS_CR3_TARGET1,
    VMCS_GUEST_ES_SELECTOR,
    VMCS_GUEST_CS_SELECTOR,
    VMCS_GUEST_SS_SELECTOR,
    VMCS_GUEST_DS_SELECTOR,
    VMCS_GUEST_FS_SELECTOR,
    VMCS_GUEST_GS_SELECTOR,
    VMCS_GUEST_LDTR_SELECTOR,
    VMCS_GUEST_TR_SELECTOR,
    VMCS_GUEST_ES_BASE,
    VMCS_GUEST_CS_BASE,
    VMCS_GUEST_SS_BASE,
    VMCS_GUEST_DS_BASE,
    VMCS_GUEST_FS_BASE,
    VMCS_GUEST_GS_BASE,
    VMCS_GUEST_LDTR_BASE,
    VMCS_GUEST_TR_BASE,
    VMCS_GUEST_GDTR_BASE,
    VMCS_GUEST_IDTR_BASE,
    VMCS_GUEST_ES_LIMIT,
    VMCS_GUEST_CS_LIMIT,
    VMCS_GUEST_SS_LIMIT,
    VMCS_GUEST_DS_LIMIT,
    VMCS_GUEST_FS_LIMIT,
    VMCS_GUEST_GS_LIMIT,
    VMCS_GUEST_LDTR_LIMIT,
    VMCS_GUEST_TR_LIMIT,
    VMCS_GUEST_GDTR_LIMIT,
    VMCS_GUEST_IDTR_LIMIT,
    VMCS_GUEST_ES_RIGHTS,
    VMCS_GUEST_CS_RIGHTS,
    VMCS_GUEST_SS_RIGHTS,
    VMCS_GUEST_DS_RIGHTS,
    VMCS_GUEST_FS_RIGHTS,
    VMCS_GUEST_GS_RIGHTS,
    VMCS_GUEST_LDTR_RIGHTS,
    VMCS_GUEST_TR_RIGHTS,
    VMCS_GUEST_CR0,
    VMCS_GUEST_CR3,
    VMCS_GUEST_CR4,
    VMCS_GUEST_DR7,
    VMCS_GUEST_RSP,
    VMCS_GUEST_RIP,
    VMCS_GUEST_RFLAGS,
    VMCS_GUEST_PENDING_DEBUG,
    VMCS_GUEST_SYSENTER_CS,
    VMCS_GUEST_SYSENTER_ESP,
    VMCS_GUEST_SYSENTER_EIP,
    VMCS_GUEST_DEBUGCTL,
    VMCS_GUEST_PAT,
    VMCS_GUEST_EFER,
    VMCS_GUEST_PERF_GLOBAL_CTRL,
    VMCS_GUEST_PDPTE0,
    VMCS_GUEST_PDPTE1,
    VMCS_GUEST_PDPTE2,
    VMCS_GUEST_PDPTE3,
    VMCS_GUEST_BNDCFGS,
    VMCS_GUEST_PKRS,
    VMCS_GUEST_S_CET,
    VMCS_GUEST_SSP,
    VMCS_GUEST_INTERRUPT_SSP_TABLE,
};
static const enum vmcs_field guard_fields[] = {
    VMCS_EXIT_MSR_STORE,
    VMCS_EXIT_MSR_LOAD,
    VMCS_EXIT_MSR_STORE_COUNT,
    VMCS_EXIT_MSR_LOAD_COUNT,
    VMCS_GUEST_PREEMPTION_TIMER,
    VMCS_HOST_ES_SELECTOR,
    VMCS_HOST_CS_SELECTOR,
    VMCS_HOST_SS_SELECTOR,
    VMCS_HOST_DS_SELECTOR,
    VMCS_HOST_FS_SELECTOR,
    VMCS_HOST_GS_SELECTOR,
    VMCS_HOST_TR_SELECTOR,
    VMCS_HOST_PAT,
    VMCS_HOST_EFER,
    VMCS_HOST_PERF_GLOBAL_CTRL,
    VMCS_HOST_PKRS,
    VMCS_HOST_SYSENTER_CS,
    VMCS_HOST_CR0,
    VMCS_HOST_CR3,
    VMCS_HOST_CR4,
    VMCS_HOST_FS_BASE,
    VMCS_HOST_GS_BASE,
    VMCS_HOST_TR_BASE,
    VMCS_HOST_GDTR_BASE,
    VMCS_HOST_IDTR_BASE,
    VMCS_HOST_SYSENTER_ESP,
    VMCS_HOST_SYSENTER_EIP,
    VMCS_HOST_RIP,
    VMCS_HOST_S_CET,
    VMCS_HOST_SSP,
    VMCS_HOST_INTERRUPT_SSP_TABLE,
};

struct hostile_fields fields;

/* L1's own pages, which no table leads L2 to: they decide what L2's ports and MSRs are. */
static u8 io_bitmap[2 * PAGE_SIZE] __attribute__((aligned(4096))),
    msr_bitmap[PAGE_SIZE] __attribute__((aligned(4096)));
static u64 exit_list[2 * 8] __attribute__((aligned(16)));

/* Values that the manual's checks have to refuse: SDM vol. 3C 27.2.2. */
static const struct {
    u32 encoding;
    u64 value;
} refused[] = {
    {VMCS_HOST_CR0, 0},
    {VMCS_HOST_CR4, 0},
    {VMCS_HOST_CR3, BIT(60)},
    {VMCS_HOST_CS_SELECTOR, 0},
    {VMCS_HOST_CS_SELECTOR, SEL_CODE64 | 3},
    {VMCS_HOST_DS_SELECTOR, SEL_DATA | 4},
    {VMCS_HOST_TR_SELECTOR, 0},
    {VMCS_HOST_FS_BASE, BIT(63)},
    {VMCS_HOST_IDTR_BASE, BIT(62)},
    {VMCS_HOST_GDTR_BASE, BIT(61)},
    {VMCS_HOST_SYSENTER_EIP, BIT(63)},
    {VMCS_HOST_RIP, BIT(63)},
    {VMCS_HOST_PAT, 2},
    {VMCS_HOST_EFER, 0},
    {VMCS_EXIT_MSR_STORE, ~0ull},
    {VMCS_EXIT_MSR_LOAD, 8},
};

static void add_fields(enum field_use use, const enum vmcs_field *encodings, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        u64 value = 0;
        if (try_vmread(encodings[i], &value) != END_SUCCEED)
            continue;
        fields.encoding[fields.count] = encodings[i];
        fields.use[fields.count] = use;
        fields.plain[fields.count++] = value;
    }
}

void hostile_fields_init(void)
{
    fields.count = 0;
    add_fields(USE_CONTROL, control_fields, ARRAY_SIZE(control_fields));
    add_fields(USE_POINTER, pointer_fields, ARRAY_SIZE(pointer_fields));
    add_fields(USE_COUNT, count_fields, ARRAY_SIZE(count_fields));
    add_fields(USE_STATE, state_fields, ARRAY_SIZE(state_fields));
    add_fields(USE_GUARD, guard_fields, ARRAY_SIZE(guard_fields));
}

/* fields.count if the CPU has no such field. */
unsigned hostile_field_index(u32 encoding)
{
    unsigned i = 0;

    while (i < fields.count && fields.encoding[i] != encoding)
        i++;
    return i;
}

static void want(u32 encoding, u64 value)
{
    unsigned index = hostile_field_index(encoding);

    if (index < fields.count)
        fields.wanted[index] = value;
}

static u64 wanted(u32 encoding)
{
    unsigned index = hostile_field_index(encoding);

    return index < fields.count ? fields.wanted[index] : 0;
}

void hostile_write_lists(void)
{
    static const u32 harmless[] = {MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP, MSR_STAR, MSR_KERNEL_GS_BASE};
    static const u16 ports[] = {0x80, 0x84, 0xed, 0x86};

    memset(io_bitmap, 0xff, sizeof(io_bitmap));
    memset(msr_bitmap, 0xff, sizeof(msr_bitmap));
    for (unsigned i = 0; i < ARRAY_SIZE(ports); i++)
        io_bitmap[ports[i] / 8] &= (u8) ~(hostile_chance(50) << ports[i] % 8);
    for (unsigned i = 0; i < 24; i++) {
        u32 msr = hostile_msr(), bit = (msr & 0x1fff) + (msr >> 31) * 0x2000 + hostile_below(2) * 0x4000;
        msr_bitmap[bit / 8] &= (u8) ~(1 << bit % 8);
    }
    for (unsigned i = 0; i < 8; i++) {
        exit_list[2 * i] = harmless[hostile_below(ARRAY_SIZE(harmless))];
        exit_list[2 * i + 1] = 0;
    }
    for (unsigned page = 0; page < LIST_PAGES; page++) {
        u64 *words = (u64 *)play_page(PAGE_LISTS + page);
        for (unsigned i = 0; i < 512; i += 1 + hostile_below(16)) {
            /* MSR lists, EPTP lists, descriptors: whoever reads it as what. */
            words[i] = hostile_chance(50)   ? hostile_msr()
                       : hostile_chance(50) ? play_page(PAGE_NESTED + hostile_below(NESTED_ROOTS)) | 0x1e
                                            : hostile_odd_value();
        }
    }
}

static void want_segments(u64 rights_of_code, u64 rights_of_data, u64 base, u64 limit)
{
    for (unsigned segment = VMCS_ES; segment <= VMCS_GS; segment++) {
        want(vmcs_segment_field(VMCS_GUEST_ES_BASE, segment), base);
        want(vmcs_segment_field(VMCS_GUEST_ES_LIMIT, segment), limit);
        want(vmcs_segment_field(VMCS_GUEST_ES_RIGHTS, segment),
             segment == VMCS_CS ? rights_of_code : rights_of_data);
    }
}

static void want_without_long_mode(void)
{
    u64 entry = wanted(VMCS_ENTRY_CONTROLS) & ~ENTRY_IA32E_GUEST;

    want(VMCS_ENTRY_CONTROLS, entry);
    want(VMCS_GUEST_EFER, 0);
    want_segments(0xc09b, 0xc093, 0, 0xffffffff);
}

/* One of the modes that an L2 can be in: 64-bit in rings 0 and 3, real, virtual-8086, and without paging. */
static void want_mode(void)
{
    u64 cr0 = wanted(VMCS_GUEST_CR0), cr4 = wanted(VMCS_GUEST_CR4);

    want(VMCS_GUEST_CR3, play_page(PAGE_L2_TABLES));
    switch (hostile_below(8)) {
    case 0: /* real mode, or with segments that real mode cannot have */
        want_without_long_mode();
        want(VMCS_GUEST_CR0, cr0 & ~(CR0_PG | CR0_PE));
        want(VMCS_GUEST_CR4, cr4 & ~CR4_PAE);
        want_segments(0x9b, 0x93, PLAYGROUND, 0xffff);
        want(VMCS_GUEST_RSP, 0x7f00);
        break;
    case 1:
        want_without_long_mode();
        want(VMCS_GUEST_CR0, cr0 & ~CR0_PG);
        break;
    case 2: /* PAE */
        want_without_long_mode();
        want(VMCS_GUEST_CR3, play_page(PAGE_L2_TABLES + 4));
        want(VMCS_GUEST_PDPTE0, play_page(PAGE_L2_TABLES + 2) | 1);
        break;
    case 3: /* 32-bit paging */
        want_without_long_mode();
        want(VMCS_GUEST_CR3, play_page(PAGE_L2_TABLES + 5));
        want(VMCS_GUEST_CR4, (cr4 & ~CR4_PAE) | CR4_PSE);
        break;
    case 4:
        want_segments(0xa0fb, 0xc0f3, 0, 0xffffffff);
        for (unsigned segment = VMCS_ES; segment <= VMCS_GS; segment++)
            want(vmcs_segment_field(VMCS_GUEST_ES_SELECTOR, segment),
                 segment == VMCS_CS ? SEL_USER_CODE64 : SEL_USER_DATA);
        break;
    default:
        break;
    }
}

/* What any L2 of ours needs lest it take L1 with it: a time limit, and intercepts for all that is not its
 * own. */
static u64 guarded(u32 encoding, u64 value)
{
    switch (encoding) {
    case VMCS_PIN_CONTROLS:
        return value | PIN_PREEMPTION_TIMER;
    case VMCS_PRIMARY_CONTROLS:
        if ((value & PRIMARY_IO_BITMAPS) == 0)
            value |= PRIMARY_IO_EXITING;
        return value;
    case VMCS_GUEST_ACTIVITY: /* nothing that this L1 has would end waiting for SIPI */
        return value == ACTIVITY_WAIT_FOR_SIPI ? ACTIVITY_HLT : value;
    default:
        return value;
    }
}

static u64 bitmap_pointer(const u8 *own)
{
    u64 pointer = hostile_pointer();

    /* In the playground it would have holes; what is no memory reads as ones. */
    return pointer >= PLAYGROUND - PAGE_SIZE && pointer < MIB(64) ? (u64)own : pointer == 0 ? 1 : pointer;
}

static u64 random_event(void)
{
    if (hostile_chance(20))
        return hostile_odd_value();
    return INTERRUPTION_VALID | (u64)hostile_below(8) << 8 |
           (hostile_chance(40) ? INTERRUPTION_ERROR_CODE : 0) | hostile_below(hostile_chance(70) ? 32 : 256);
}

static u64 random_pointer_for(u32 encoding)
{
    u64 pointer;

    switch (encoding) {
    case VMCS_IO_BITMAP_A:
        return bitmap_pointer(io_bitmap);
    case VMCS_IO_BITMAP_B:
        return bitmap_pointer(io_bitmap + PAGE_SIZE);
    case VMCS_MSR_BITMAPS:
        return bitmap_pointer(msr_bitmap);
    case VMCS_EPT_POINTER:
        if (hostile_chance(70))
            return play_page(PAGE_NESTED + hostile_below(hostile_chance(70) ? 3 : NESTED_PAGES)) | 0x1e |
                   (hostile_chance(50) ? EPTP_AD : 0);
        return hostile_pointer() | (hostile_chance(80) ? 0x1e : hostile_random() & 0xfff);
    case VMCS_APIC_ACCESS:
        pointer = hostile_pointer();
        return pointer >= PLAYGROUND && pointer < PLAYGROUND + MIB(2) ? play_page(PAGE_APIC) : pointer;
    case VMCS_LINK_POINTER:
        return hostile_chance(60) ? play_page(PAGE_CONTROL + hostile_below(CONTROL_PAGES))
                                  : hostile_pointer();
    default:
        return hostile_pointer();
    }
}

static u64 random_count_for(u32 encoding)
{
    switch (encoding) {
    case VMCS_ENTRY_INTERRUPTION:
        return random_event();
    case VMCS_ENTRY_MSR_LOAD_COUNT:
        return hostile_chance(80) ? hostile_below(8) : hostile_odd_value();
    default:
        return hostile_chance(75) ? hostile_below(16) : hostile_odd_value();
    }
}

static u64 random_control(u64 value)
{
    for (unsigned i = hostile_below(4) + 1; i > 0; i--)
        value ^= BIT(hostile_below(32));
    return value;
}

static u64 random_state_for(u32 encoding, u64 value)
{
    /* Without EPT of L1's the tables are all that keeps L2 in the playground. */
    if (encoding == VMCS_GUEST_CR3 || (encoding >= VMCS_GUEST_PDPTE0 && encoding <= VMCS_GUEST_PDPTE3 + 1))
        return hostile_chance(50) ? play_page(PAGE_L2_TABLES + hostile_below(6)) | hostile_below(32)
                                  : (hostile_random() & ~BITS(40, 12));
    switch (hostile_below(4)) {
    case 0:
        return hostile_odd_value();
    case 1:
        return value ^ BIT(hostile_below(64));
    case 2:
        return value + (hostile_below(33) - 16);
    default:
        return hostile_l2_value();
    }
}

u64 hostile_field_value(unsigned index)
{
    u32 encoding = fields.encoding[index];
    u64 value = fields.wanted[index];

    switch (fields.use[index]) {
    case USE_CONTROL:
        value = random_control(value);
        break;
    case USE_POINTER:
        value = random_pointer_for(encoding);
        break;
    case USE_COUNT:
        value = random_count_for(encoding);
        break;
    case USE_STATE:
        value = random_state_for(encoding, value);
        break;
    default:
        break;
    }
    return guarded(encoding, value);
}

void hostile_write_wanted(bool guards_only)
{
    for (unsigned i = 0; i < fields.count; i++) {
        bool guard =
            fields.use[i] == USE_GUARD || fields.use[i] == USE_CONTROL || fields.use[i] == USE_POINTER;
        if (guard || !guards_only)
            (void)try_vmwrite(fields.encoding[i], fields.wanted[i]);
    }
    /* Random VMWRITEs can have put it anywhere. */
    if (guards_only) {
        (void)try_vmwrite(VMCS_GUEST_CR3, wanted(VMCS_GUEST_CR3));
        (void)try_vmwrite(VMCS_GUEST_ACTIVITY, 0);
    }
}

static void want_lists(void)
{
    want(VMCS_IO_BITMAP_A, (u64)io_bitmap);
    want(VMCS_IO_BITMAP_B, (u64)io_bitmap + PAGE_SIZE);
    want(VMCS_MSR_BITMAPS, (u64)msr_bitmap);
    want(VMCS_EXIT_MSR_STORE, (u64)exit_list);
    want(VMCS_EXIT_MSR_LOAD, (u64)exit_list);
    want(VMCS_EXIT_MSR_STORE_COUNT, hostile_below(4));
    want(VMCS_EXIT_MSR_LOAD_COUNT, hostile_below(4));
    want(VMCS_ENTRY_MSR_LOAD, play_page(PAGE_LISTS));
    want(VMCS_PML_ADDRESS, play_page(PAGE_LISTS + 1));
    want(VMCS_VIRTUAL_APIC, play_page(PAGE_LISTS + 2));
    want(VMCS_APIC_ACCESS, hostile_chance(50) ? play_page(PAGE_APIC) : 0xfee00000);
    want(VMCS_POSTED_INTERRUPT_DESCRIPTOR, play_page(PAGE_LISTS + 3));
    want(VMCS_POSTED_INTERRUPT_VECTOR, VECTOR_SELF);
    want(VMCS_EPTP_LIST, play_page(PAGE_LISTS + 4));
    want(VMCS_VE_INFORMATION, play_page(PAGE_LISTS + 5));
    want(VMCS_VMREAD_BITMAP, play_page(PAGE_LISTS + 6));
    want(VMCS_VMWRITE_BITMAP, play_page(PAGE_LISTS + 7));
    want(VMCS_PML_INDEX, hostile_below(16));
    want(VMCS_VPID, 1 + hostile_below(3));
    want(VMCS_VM_FUNCTION_CONTROLS, 1);
    want(VMCS_TSC_MULTIPLIER, BIT(48));
}

/* Optional controls that each work with the fields as they are: some of them in each episode. */
static void want_controls(void)
{
    static const struct {
        u32 encoding;
        enum vmx_word word;
        u64 bits;
    } options[] = {
        {VMCS_PIN_CONTROLS, WORD_PIN, PIN_EXTERNAL_INTERRUPT_EXITING},
        {VMCS_PIN_CONTROLS, WORD_PIN, PIN_NMI_EXITING},
        {VMCS_PRIMARY_CONTROLS, WORD_PRIMARY, PRIMARY_IO_BITMAPS},
        {VMCS_PRIMARY_CONTROLS, WORD_PRIMARY, PRIMARY_MSR_BITMAPS},
        {VMCS_PRIMARY_CONTROLS, WORD_PRIMARY, PRIMARY_TPR_SHADOW},
        {VMCS_PRIMARY_CONTROLS, WORD_PRIMARY, PRIMARY_HLT_EXITING},
        {VMCS_PRIMARY_CONTROLS, WORD_PRIMARY, PRIMARY_MONITOR_TRAP_FLAG},
        {VMCS_PRIMARY_CONTROLS, WORD_PRIMARY, PRIMARY_CR3_LOAD_EXITING | PRIMARY_CR3_STORE_EXITING},
        {VMCS_SECONDARY_CONTROLS, WORD_SECONDARY, SECONDARY_MBEC},
        {VMCS_SECONDARY_CONTROLS, WORD_SECONDARY, SECONDARY_PML},
        {VMCS_SECONDARY_CONTROLS, WORD_SECONDARY, SECONDARY_VM_FUNCTIONS},
        {VMCS_SECONDARY_CONTROLS, WORD_SECONDARY, SECONDARY_EPT_VIOLATION_VE},
        {VMCS_SECONDARY_CONTROLS, WORD_SECONDARY, SECONDARY_VPID},
        {VMCS_SECONDARY_CONTROLS, WORD_SECONDARY, SECONDARY_VMCS_SHADOWING},
        {VMCS_SECONDARY_CONTROLS, WORD_SECONDARY, SECONDARY_DESCRIPTOR_TABLE_EXITING},
        {VMCS_EXIT_CONTROLS, WORD_EXIT, EXIT_ACKNOWLEDGE_INTERRUPT},
        {VMCS_EXIT_CONTROLS, WORD_EXIT, EXIT_SAVE_PREEMPTION_TIMER},
    };
    u64 secondary = SECONDARY_UNRESTRICTED_GUEST | SECONDARY_EPT | SECONDARY_RDTSCP | SECONDARY_INVPCID |
                    SECONDARY_XSAVES;

    want(VMCS_PIN_CONTROLS, guarded(VMCS_PIN_CONTROLS, wanted(VMCS_PIN_CONTROLS)));
    want(VMCS_PRIMARY_CONTROLS, guarded(VMCS_PRIMARY_CONTROLS, wanted(VMCS_PRIMARY_CONTROLS)));
    if (vmx_has(WORD_SECONDARY, secondary))
        want(VMCS_SECONDARY_CONTROLS, secondary);
    want(VMCS_EXCEPTION_BITMAP, hostile_chance(60) ? 0 : hostile_random() & 0xffffffff);
    want(VMCS_EPT_POINTER,
         play_page(PAGE_NESTED) | 0x1e | (hostile_chance(70) && ept_has(BIT(21)) ? EPTP_AD : 0));
    for (unsigned i = 0; i < ARRAY_SIZE(options); i++) {
        if (!hostile_chance(35) || !vmx_has(options[i].word, options[i].bits))
            continue;
        if (options[i].bits == SECONDARY_PML && (wanted(VMCS_EPT_POINTER) & EPTP_AD) == 0)
            continue;
        want(options[i].encoding, wanted(options[i].encoding) | options[i].bits);
    }
    if ((wanted(VMCS_PRIMARY_CONTROLS) & PRIMARY_TPR_SHADOW) != 0 && hostile_chance(50)) {
        u64 apic =
            SECONDARY_APIC_REGISTERS | (hostile_chance(50) ? SECONDARY_APIC_ACCESSES : SECONDARY_X2APIC_MODE);
        if (vmx_has(WORD_SECONDARY, apic))
            want(VMCS_SECONDARY_CONTROLS, wanted(VMCS_SECONDARY_CONTROLS) | apic);
    }
}

void hostile_want_state(void)
{
    memcpy(fields.wanted, fields.plain, sizeof(fields.wanted));
    want_controls();
    want_lists();
    want(VMCS_GUEST_GDTR_BASE, play_page(PAGE_GDT));
    want(VMCS_GUEST_IDTR_BASE, play_page(PAGE_IDT));
    want(VMCS_GUEST_TR_BASE, play_page(PAGE_DATA));
    want(VMCS_GUEST_RSP, play_page(PAGE_STACK) + 0x800);
    want(VMCS_GUEST_RFLAGS, 2 | (hostile_chance(50) ? RFLAGS_IF : 0));
    want(VMCS_GUEST_RIP, hostile_code_address());
    want(VMCS_GUEST_PREEMPTION_TIMER, 1 + hostile_below(100));
    want_mode();
}

void hostile_restore_field(u64 encoding)
{
    unsigned index = hostile_field_index((u32)encoding & ~1u);

    if (index < fields.count && fields.use[index] != USE_STATE && fields.use[index] != USE_COUNT)
        (void)try_vmwrite(fields.encoding[index], fields.wanted[index]);
}

unsigned hostile_spoil_host(void)
{
    unsigned row = hostile_below(ARRAY_SIZE(refused));

    (void)try_vmwrite(refused[row].encoding, refused[row].value);
    /* With no list there is no address to check. */
    (void)try_vmwrite(VMCS_EXIT_MSR_STORE_COUNT, 1);
    (void)try_vmwrite(VMCS_EXIT_MSR_LOAD_COUNT, 1);
    return hostile_field_index(refused[row].encoding);
}
