/* SPDX-License-Identifier: MIT */
/*
 * Group `memory`: Umbra's own memory as the guest meets it. Reads give ones, writes are dropped, a fetch is
 * #UD, page tables there are tables full of ones; and nothing else in the guest is disturbed by it.
 */
#include "tests/guest/guest.h"

enum {
    PAGE_FIRST = 40,
    PAGE_NEXT = 41,
    PAGE_BEFORE = 39,
    PAGE_COPY = 44,
    ERROR_P = 1,
    ERROR_W = 2,
    ERROR_U = 4,
    ERROR_RSVD = 8
};
#define ONES (~0ull)

static u64 region_start, region_end, accesses_before;
static u8 copy[PAGE_SIZE] __attribute__((aligned(4096)));
static volatile unsigned interrupts, traps;
static volatile u64 trap_rip, trap_dr6;

static u64 accesses(void)
{
    return hypercall(HYPERCALL_TEST_MEMORY_ACCESSES, 0, 0, 0).rbx;
}

/* Maps the page before `physical`, it and the next one behind each other; the linear address of `physical`.
 */
static u64 map_around(u64 physical)
{
    window_map(PAGE_BEFORE, physical - PAGE_SIZE, PTE_P | PTE_W | PTE_U);
    window_map(PAGE_FIRST, physical, PTE_P | PTE_W | PTE_U);
    window_map(PAGE_NEXT, physical + PAGE_SIZE, PTE_P | PTE_W | PTE_U);
    return WINDOW + PAGE_FIRST * PAGE_SIZE;
}

static const struct {
    const char *name, *bytes;
    size_t size;
    u64 rax; /* expected, with RAX = 0x1111111111111111 before */
} loads[] = {
    {"mov8", "\x8a\x06", 2, 0x11111111111111ff},
    {"mov16", "\x66\x8b\x06", 3, 0x111111111111ffff},
    {"mov32", "\x8b\x06", 2, 0xffffffff},
    {"mov64", "\x48\x8b\x06", 3, ONES},
    {"mov64_unaligned", "\x48\x8b\x46\x03", 4, ONES},
    {"movzx", "\x0f\xb6\x06", 3, 0xff},
    {"movsx", "\x48\x0f\xbe\x06", 4, ONES},
    {"and", "\x48\x23\x06", 3, 0x1111111111111111},
    {"lodsq", "\x48\xad", 2, ONES},
    {"xchg", "\x48\x87\x06", 3, ONES},
    {"xadd", "\xf0\x48\x0f\xc1\x06", 5, ONES},
    {"movbe_like_bswap", "\x48\x8b\x06\x48\x0f\xc8", 6, ONES},
};

static const struct {
    const char *name, *bytes;
    size_t size;
} stores[] = {
    {"mov8", "\x88\x06", 2},
    {"mov16", "\x66\x89\x06", 3},
    {"mov32", "\x89\x06", 2},
    {"mov64", "\x48\x89\x06", 3},
    {"mov_immediate", "\x48\xc7\x06\x78\x56\x34\x12", 7},
    {"add", "\x48\x01\x06", 3},
    {"and_zero", "\x48\x83\x26\x00", 4},
    {"not", "\x48\xf7\x16", 3},
    {"inc_locked", "\xf0\x48\xff\x06", 4},
    {"cmpxchg", "\x48\x83\xc8\xff\x48\x0f\xb1\x0e", 8},
    {"stosq", "\x48\x89\xf7\x48\xab", 5},
    {"btr", "\x48\x0f\xba\x36\x05", 5},
};

static void loads_and_stores(const char *place, u64 physical)
{
    u64 address = map_around(physical), value;
    bool good = true;
    char name[64];
    for (size_t i = 0; i < ARRAY_SIZE(loads); i++) {
        const struct code code = {
            .bytes = loads[i].bytes, .size = loads[i].size, .rax = 0x1111111111111111, .rsi = address};
        for (enum code_mode mode = RING0_64; mode <= RING3_64; mode++) {
            u64 vector = execute(mode, &code);
            if (vector == VECTOR_DONE && fault.frame.rax == loads[i].rax &&
                fault.frame.rip == execute_address(mode) + code.size + 2)
                continue;
            print("guest: %s at %s %s: vector %lu rax 0x%lx\n", loads[i].name, place, code_mode_name[mode],
                  vector, fault.frame.rax);
            good = false;
        }
    }
    print_to(name, sizeof(name), "memory.%s_reads_as_ones", place);
    check(name, good);
    good = true;
    for (size_t i = 0; i < ARRAY_SIZE(stores); i++) {
        const struct code code = {.bytes = stores[i].bytes,
                                  .size = stores[i].size,
                                  .rax = 0x2222222222222222,
                                  .rcx = 5,
                                  .rsi = address};
        u64 vector = execute(RING0_64, &code);
        if (vector == VECTOR_DONE && try_read64(address, &value) == NO_FAULT && value == ONES)
            continue;
        print("guest: %s at %s: vector %lu, then reads 0x%lx\n", stores[i].name, place, vector, value);
        good = false;
    }
    print_to(name, sizeof(name), "memory.%s_drops_writes", place);
    check(name, good);
}

static bool all_bytes(const u8 *bytes, size_t count, u8 value)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] != value)
            return false;
    }
    return true;
}

static void strings(void)
{
    u64 address = map_around(region_start);
    /* REP MOVSB */
    struct code code = {CODE("\xf3\xa4"), .rcx = 64, .rsi = address + 100, .rdi = (u64)copy};
    memset(copy, 0, sizeof(copy));
    check_eq("memory.rep_movsb_out", execute(RING0_64, &code), VECTOR_DONE);
    check("memory.rep_movsb_out_ones",
          all_bytes(copy, 64, 0xff) && all_bytes(copy + 64, 64, 0) && fault.frame.rcx == 0);
    memset(copy, 0x55, sizeof(copy));
    code.rsi = (u64)copy;
    code.rdi = address + 100;
    check_eq("memory.rep_movsb_in", execute(RING0_64, &code), VECTOR_DONE);
    check("memory.rep_movsb_in_dropped", all_bytes((const u8 *)address + 100, 4, 0xff));
    /* REP MOVSQ from one page of the region to another, over a page boundary: four pages at once. */
    code.bytes = "\xf3\x48\xa5";
    code.size = 3;
    code.rcx = 16;
    code.rsi = address + PAGE_SIZE - 64;
    code.rdi = address + PAGE_SIZE - 72;
    check_eq("memory.rep_movsq_inside", execute(RING0_64, &code), VECTOR_DONE);
    if (!boot_is_ram(region_start - PAGE_SIZE, PAGE_SIZE)) {
        note_skipped("memory.edge", "no RAM below the region");
        return;
    }
    u8 *before = (u8 *)address - 64, saved[64];
    memcpy(saved, before, sizeof(saved));
    memset(before, 0x33, 64);
    memset(copy, 0, sizeof(copy));
    code = (struct code){CODE("\xf3\xa4"), .rcx = 128, .rsi = address - 64, .rdi = (u64)copy};
    check_eq("memory.rep_movsb_over_edge", execute(RING0_64, &code), VECTOR_DONE);
    check("memory.rep_movsb_over_edge_content",
          all_bytes(copy, 64, 0x33) && all_bytes(copy + 64, 64, 0xff) && copy[128] == 0);
    code = (struct code){CODE("\x48\x8b\x06"), .rsi = address - 4};
    check_eq("memory.mov64_over_edge", execute(RING0_64, &code) == VECTOR_DONE ? fault.frame.rax : 0,
             0xffffffff33333333);
    code = (struct code){CODE("\x48\x89\x06"), .rax = 0x4444444444444444, .rsi = address - 4};
    check_eq("memory.mov64_store_over_edge", execute(RING0_64, &code), VECTOR_DONE);
    check("memory.store_over_edge_lands_outside_only",
          all_bytes(before, 60, 0x33) && all_bytes(before + 60, 4, 0x44) && all_bytes(before + 64, 4, 0xff));
    memcpy(before, saved, sizeof(saved));
}

static void stack_and_vectors(void)
{
    u64 address = map_around(region_start) + 512, cr0 = read_cr0(), cr4 = read_cr4();
    /* MOV RDI, RSP; MOV RSP, RSI; PUSH RAX; POP RBX; MOV RSP, RDI */
    const struct code push = {CODE("\x48\x89\xe7\x48\x89\xf4\x50\x5b\x48\x89\xfc"), .rax = 7, .rsi = address};
    check_eq("memory.push_pop", execute(RING0_64, &push) == VECTOR_DONE ? fault.frame.rbx : 0, ONES);
    /* MOV RDI, RSP; MOV RSP, RSI; PUSHFQ; MOV RSP, RDI; PUSHFQ; POP RBX: the flags that follow are the
     * guest's own. */
    const struct code pushf = {CODE("\x48\x89\xe7\x48\x89\xf4\x9c\x48\x89\xfc\x9c\x5b"), .rsi = address};
    u64 vector = execute(RING0_64, &pushf);
    check("memory.pushf_leaves_no_trap_flag",
          vector == VECTOR_DONE && !(fault.frame.rbx & RFLAGS_TF) && !(fault.frame.rflags & RFLAGS_TF));
    write_cr0((cr0 & ~(CR0_EM | CR0_TS)) | CR0_MP);
    write_cr4(cr4 | CR4_OSFXSR);
    /* MOVUPS XMM0, [RSI]; MOVUPS [RDI], XMM0; MOVUPS [RSI], XMM0 */
    memset(copy, 0, 32);
    const struct code sse = {CODE("\x0f\x10\x06\x0f\x11\x07\x0f\x11\x06"), .rsi = address, .rdi = (u64)copy};
    check_eq("memory.sse", execute(RING0_64, &sse), VECTOR_DONE);
    check("memory.sse_ones", all_bytes(copy, 16, 0xff) && copy[16] == 0);
    write_cr4(cr4);
    write_cr0(cr0);
}

static void fetches(void)
{
    u64 address = map_around(region_start);
    for (enum code_mode mode = RING0_64; mode <= RING3_32; mode++) {
        char name[64];
        u64 vector = execute_at(mode, address + 16, &(const struct code){0});
        print_to(name, sizeof(name), "memory.fetch_%s", code_mode_name[mode]);
        check(name, vector == EXC_UD && fault.frame.rip == address + 16);
    }
}

/* A page table in Umbra's memory is a table of ones: present, with reserved bits set. */
static void page_tables(void)
{
    extern u64 pml4[512];
    u64 saved = *window_directory_entry(), value, address = WINDOW + 77 * PAGE_SIZE, other = 5ull << 39;
    *window_directory_entry() = region_start | PTE_P | PTE_W | PTE_U;
    flush_tlb();
    u64 vector = try_read64(address, &value);
    bool good =
        vector == EXC_PF && (fault.error & ~(u64)ERROR_U) == (ERROR_P | ERROR_RSVD) && fault.cr2 == address;
    vector = try_write64(address, 1);
    good =
        good && vector == EXC_PF && fault.error == (ERROR_P | ERROR_W | ERROR_RSVD) && fault.cr2 == address;
    *window_directory_entry() = saved;
    flush_tlb();
    check("memory.page_table_in_region", good);
    pml4[5] = region_start | PTE_P | PTE_W | PTE_U;
    vector = try_read64(other, &value);
    check("memory.page_directory_pointers_in_region",
          vector == EXC_PF && fault.error == (ERROR_P | ERROR_RSVD) && fault.cr2 == other);
    pml4[5] = 0;
    flush_tlb();
}

static bool on_trap(struct frame *frame)
{
    traps++;
    trap_rip = frame->rip;
    __asm__ volatile("mov %%dr6, %0" : "=r"(trap_dr6));
    __asm__ volatile("mov %0, %%dr6" ::"r"(0xffff0ff0ull));
    frame->rflags &= ~RFLAGS_TF;
    return true;
}

static bool on_interrupt(struct frame *frame)
{
    interrupts++;
    trap_rip = frame->rip;
    apic_write(APIC_EOI, 0);
    return true;
}

static void traps_and_interrupts(void)
{
    u64 address = map_around(region_start + PAGE_SIZE) + 8;
    trap_set_hook(EXC_DB, on_trap);
    struct code code = {CODE("\x48\x8b\x06\x90"), .rsi = address, .rflags = RFLAGS_TF};
    traps = 0;
    u64 vector = execute(RING0_64, &code);
    check("memory.step_over_read", vector == VECTOR_DONE && traps == 1 &&
                                       trap_rip == execute_address(RING0_64) + 3 &&
                                       (trap_dr6 & 0xe00f) == 0x4000 && fault.frame.rax == ONES);
    traps = 0;
    vector = execute(RING3_64, &code);
    check("memory.step_over_read_ring3",
          vector == VECTOR_DONE && traps == 1 && trap_rip == execute_address(RING3_64) + 3);
    code.rflags = 0;
    traps = 0;
    vector = execute(RING0_64, &code);
    check("memory.no_step_without_tf",
          vector == VECTOR_DONE && traps == 0 && !(fault.frame.rflags & RFLAGS_TF));
    u64 dr6;
    __asm__ volatile("mov %%dr6, %0" : "=r"(dr6));
    check_eq("memory.dr6_untouched", dr6 & 0xe00f, 0);
    /* A watchpoint of the guest's own on the same access. */
    __asm__ volatile("mov %0, %%dr0; mov %1, %%dr7" ::"r"(address), "r"(0x000b0402ull));
    traps = 0;
    vector = execute(RING0_64, &code);
    __asm__ volatile("mov %0, %%dr7" ::"r"(0x400ull));
    check("memory.watchpoint", vector == VECTOR_DONE && traps == 1 &&
                                   trap_rip == execute_address(RING0_64) + 3 && (trap_dr6 & 0x400f) == 1);
    trap_set_hook(EXC_DB, NULL);

    apic_init();
    trap_set_hook(VECTOR_SELF, on_interrupt);
    interrupts = 0;
    apic_send_self(VECTOR_SELF);
    /* STI; MOV RAX, [RSI]; NOP: taken after the access, which the interrupt shadow of STI covers. */
    code = (struct code){CODE("\xfb\x48\x8b\x06\x90\x90\xfa"), .rsi = address};
    vector = execute(RING0_64, &code);
    check("memory.interrupt_after_shadow", vector == VECTOR_DONE && interrupts == 1 &&
                                               fault.frame.rax == ONES &&
                                               trap_rip == execute_address(RING0_64) + 4);

    trap_set_hook(VECTOR_TIMER, on_interrupt);
    interrupts = 0;
    apic_write(APIC_DIVIDE, 0xb);
    apic_write(APIC_LVT_TIMER, 0x20000 | VECTOR_TIMER);
    apic_write(APIC_INITIAL, 30000);
    bool ones = true;
    unsigned i;
    __asm__ volatile("sti");
    for (i = 0; i < 200000 && (interrupts < 20 || i < 200); i++)
        ones = ones && *(volatile u64 *)address == ONES;
    __asm__ volatile("cli");
    apic_write(APIC_LVT_TIMER, 0x10000);
    apic_write(APIC_INITIAL, 0);
    check("memory.reads_under_interrupts", ones);
    check("memory.interrupts_during_reads", interrupts >= 20);
}

void group_memory(void)
{
    if (!umbra_region(&region_start, &region_end)) {
        check("memory.nothing_to_hide_on_a_bare_cpu", !under_umbra);
        return;
    }
    print("guest: Umbra's region 0x%lx-0x%lx\n", region_start, region_end);
    check("memory.region_sane",
          region_end > region_start && !((region_start | region_end) & PAGE_MASK) && region_start >= MIB(1));
    accesses_before = test_build ? accesses() : 0;
    loads_and_stores("first", region_start);
    loads_and_stores("last", region_end - 2 * PAGE_SIZE);
    for (unsigned i = 1; i < 8; i++) {
        u64 pages = (region_end - region_start) / PAGE_SIZE, value;
        u64 page = region_start + pages * i / 8 * PAGE_SIZE;
        u64 address = map_around(page);
        if (try_read64(address + 0xff8, &value) != NO_FAULT || value != ONES)
            check_eq("memory.middle", value, ONES);
    }
    u64 value;
    try_read64(map_around(region_end - PAGE_SIZE) + 0xff8, &value);
    check_eq("memory.very_last_bytes", value, ONES);
    strings();
    stack_and_vectors();
    fetches();
    page_tables();
    traps_and_interrupts();
    if (test_build)
        check("memory.accesses_counted", accesses() >= accesses_before + 100);
}
