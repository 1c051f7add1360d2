/* SPDX-License-Identifier: MIT */
/*
 * Group `modes`: control-register changes and trips through every paging mode and real mode, where a
 * hypervisor has to follow the guest.
 */
#include "tests/guest/guest.h"

enum { MSR_EFER = 0xc0000080, REAL_MAP_MAX = 64 };

extern u64 directories[4 * 512], pml4[512];

static u64 pae_pointers[4] __attribute__((aligned(4096)));
static u32 legacy_directory[1024] __attribute__((aligned(4096)));

static void check_mode(const char *name, u32 cr0_bits, u32 cr4_bits, u32 efer_bits)
{
    struct cpuid want = cpuid(0, 0);
    char text[64];
    print_to(text, sizeof(text), "modes.%s_cpuid", name);
    check(text, mode_result.cpuid_eax == want.eax && mode_result.cpuid_ebx == want.ebx &&
                    mode_result.cpuid_ecx == want.ecx && mode_result.cpuid_edx == want.edx);
    print_to(text, sizeof(text), "modes.%s_cr0", name);
    check_eq(text, mode_result.cr0 & (CR0_PE | CR0_PG), cr0_bits);
    print_to(text, sizeof(text), "modes.%s_cr4", name);
    check_eq(text, mode_result.cr4 & (CR4_PAE | CR4_PSE), cr4_bits);
    print_to(text, sizeof(text), "modes.%s_efer", name);
    check_eq(text, mode_result.efer & (EFER_LME | EFER_LMA), efer_bits);
    print_to(text, sizeof(text), "modes.%s_and_back", name);
    check(text, (rdmsr(MSR_EFER) & (EFER_LME | EFER_LMA)) == (EFER_LME | EFER_LMA) && (read_cr0() & CR0_PG));
}

static void paging_modes(void)
{
    for (unsigned i = 0; i < 4; i++)
        pae_pointers[i] = (u64)&directories[i * 512] | PTE_P;
    for (unsigned i = 0; i < 1024; i++)
        legacy_directory[i] = i << 22 | PTE_PS | PTE_W | PTE_P;
    print("guest: to protected mode without paging\n");
    trip_flat();
    check_mode("flat", CR0_PE, CR4_PAE, 0);
    print("guest: to PAE paging\n");
    memset(&mode_result, 0, sizeof(mode_result));
    trip_pae((u32)(u64)pae_pointers);
    check_mode("pae", (u32)(CR0_PE | CR0_PG), CR4_PAE, 0);
    print("guest: to 32-bit paging\n");
    memset(&mode_result, 0, sizeof(mode_result));
    trip_legacy((u32)(u64)legacy_directory);
    check_mode("legacy", (u32)(CR0_PE | CR0_PG), CR4_PSE, 0);
}

static void real_mode(void)
{
    volatile u32 *result = (volatile u32 *)(u64)REAL_BUFFER;
    print("guest: to real mode\n");
    trip_real();
    struct cpuid want = cpuid(0, 0);
    check("modes.real_bios_map", result[0] > 2 && result[0] < REAL_MAP_MAX);
    check_eq("modes.real_ud_taken", result[1], 1);
    check_eq("modes.real_msw", result[3] & CR0_PE, 0);
    check("modes.real_cpuid",
          result[4] == want.eax && result[5] == want.ebx && result[6] == want.ecx && result[7] == want.edx);
    check_eq("modes.real_efer", result[8] & (EFER_LME | EFER_LMA), 0);
    for (u32 i = 0; i < result[0] && i < REAL_MAP_MAX; i++) {
        const volatile u32 *entry = result + 16 + 5 * i;
        print("guest: fact modes.bios_map %08x%08x + %08x%08x type %u\n", entry[1], entry[0], entry[3],
              entry[2], entry[4]);
    }
}

static void cr0_bits(void)
{
    u64 cr0 = read_cr0();
    write_cr0(cr0 & ~CR0_NE);
    check_eq("modes.cr0_ne_clear", read_cr0() & CR0_NE, 0);
    write_cr0(cr0 | CR0_NE);
    check_eq("modes.cr0_ne_set", read_cr0() & CR0_NE, CR0_NE);
    write_cr0(cr0 | CR0_CD);
    check_eq("modes.cr0_cd_set", read_cr0() & CR0_CD, CR0_CD);
    __asm__ volatile("wbinvd");
    write_cr0(cr0 | CR0_CD | CR0_NW);
    check_eq("modes.cr0_cd_nw_set", read_cr0() & (CR0_CD | CR0_NW), CR0_CD | CR0_NW);
    write_cr0(cr0 & ~(CR0_CD | CR0_NW));
    check_eq("modes.cr0_cd_clear", read_cr0() & (CR0_CD | CR0_NW), 0);
    check_eq("modes.cr0_write_back", try_write_cr0(cr0), NO_FAULT);
    if (on_tcg()) {
        note_skipped("modes.cr0_refused_values",
                     "TCG takes them, and no SVM guest can be entered with such a CR0");
    } else {
        check_eq("modes.cr0_nw_without_cd", try_write_cr0((cr0 | CR0_NW) & ~CR0_CD), EXC_GP);
        check_eq("modes.cr0_high_bits", try_write_cr0(cr0 | BIT(40)), EXC_GP);
        check_eq("modes.cr0_pg_without_pe", try_write_cr0(cr0 & ~CR0_PE), EXC_GP);
        check_eq("modes.cr0_pg_off_in_64_bit", try_write_cr0(cr0 & ~CR0_PG), EXC_GP);
    }
    check_eq("modes.cr0_unchanged", read_cr0(), cr0);
    u64 word;
    __asm__ volatile("smsw %0" : "=r"(word));
    check_eq("modes.smsw", word & 0xffff, cr0 & 0xffff);
    __asm__ volatile("lmsw %w0" ::"r"((u32)(cr0 | CR0_TS)));
    check_eq("modes.lmsw_sets_ts", read_cr0() & CR0_TS, CR0_TS);
    __asm__ volatile("lmsw %w0" ::"r"(0));
    check_eq("modes.lmsw_keeps_pe", read_cr0() & (CR0_PE | CR0_TS), CR0_PE);
    write_cr0(cr0 | CR0_TS);
    __asm__ volatile("clts");
    check_eq("modes.clts", read_cr0() & CR0_TS, 0);
    write_cr0(cr0);
    /* WP decides whether ring 0 may write to a read-only page. */
    static u64 word_page[512] __attribute__((aligned(4096)));
    window_map(20, (u64)word_page, PTE_P);
    check_eq("modes.wp_set", try_write64(WINDOW + 20 * PAGE_SIZE, 1), EXC_PF);
    if (is_intel && cpuid(7, 0).ecx & BIT(7)) {
        note_skipped("modes.wp_clear", "this model of Bochs panics at it");
    } else {
        write_cr0(cr0 & ~CR0_WP);
        check_eq("modes.wp_clear", try_write64(WINDOW + 20 * PAGE_SIZE, 1), NO_FAULT);
        write_cr0(cr0);
    }
}

static void cr4_bits(void)
{
    static const struct {
        const char *name;
        u64 bit;
        bool not_in_tcg;
    } bits[] = {{"vme", CR4_VME, false},       {"pvi", CR4_PVI, false},
                {"tsd", CR4_TSD, false},       {"de", CR4_DE, false},
                {"pse", CR4_PSE, false},       {"mce", CR4_MCE, false},
                {"pge", CR4_PGE, false},       {"pce", CR4_PCE, false},
                {"osfxsr", CR4_OSFXSR, false}, {"osxmmexcpt", CR4_OSXMMEXCPT, false},
                {"umip", CR4_UMIP, false},     {"fsgsbase", CR4_FSGSBASE, false},
                {"pcide", CR4_PCIDE, false},   {"osxsave", CR4_OSXSAVE, false},
                {"smep", CR4_SMEP, false},     {"smap", CR4_SMAP, false},
                {"pke", CR4_PKE, false},       {"cet", CR4_CET, true},
                {"pks", CR4_PKS, false},       {"uintr", CR4_UINTR, true}};
    u64 cr4 = read_cr4();
    char name[64];
    for (size_t i = 0; i < ARRAY_SIZE(bits); i++) {
        if (bits[i].not_in_tcg && reserved_cr4_is_deadly())
            continue;
        u64 vector = try_write_cr4(cr4 ^ bits[i].bit);
        u64 now = read_cr4();
        print("guest: fact modes.cr4_%s vector %lx bit %u\n", bits[i].name, vector, (now & bits[i].bit) != 0);
        write_cr4(cr4);
        print_to(name, sizeof(name), "modes.cr4_%s", bits[i].name);
        check(name, vector == NO_FAULT ? now == (cr4 ^ bits[i].bit) : vector == EXC_GP && now == cr4);
    }
    if (reserved_cr4_is_deadly()) {
        note_skipped("modes.cr4_refused_values", "TCG dies of them");
        return;
    }
    check_eq("modes.cr4_pae_off_in_long_mode", try_write_cr4(cr4 & ~CR4_PAE), EXC_GP);
    check_eq("modes.cr4_la57_in_long_mode", try_write_cr4(cr4 | CR4_LA57), EXC_GP);
    check_eq("modes.cr4_reserved_15", try_write_cr4(cr4 | BIT(15)), EXC_GP);
    check_eq("modes.cr4_reserved_63", try_write_cr4(cr4 | BIT(63)), EXC_GP);
    check_eq("modes.cr4_unchanged", read_cr4(), cr4);
}

static void cr3_and_pcid(void)
{
    u64 cr3 = read_cr3(), cr4 = read_cr4();
    check_eq("modes.cr3_pwt_pcd", try_write_cr3(cr3 | PTE_PWT | PTE_PCD), NO_FAULT);
    check_eq("modes.cr3_read_back", read_cr3(), cr3 | PTE_PWT | PTE_PCD);
    write_cr3(cr3);
    if (on_tcg())
        note_skipped("modes.cr3_reserved", "TCG dies of it");
    else
        check_eq("modes.cr3_reserved", try_write_cr3(cr3 | BIT(physical_bits)), EXC_GP);
    if (!(cpuid(1, 0).ecx & BIT(17))) {
        note_skipped("modes.pcid", "the CPU has none");
        return;
    }
    check_eq("modes.pcide", try_write_cr4(cr4 | CR4_PCIDE), NO_FAULT);
    check_eq("modes.pcid_5", try_write_cr3(cr3 | 5), NO_FAULT);
    check_eq("modes.pcid_read_back", read_cr3(), cr3 | 5);
    check_eq("modes.pcid_no_flush", try_write_cr3(cr3 | 5 | BIT(63)), NO_FAULT);
    check_eq("modes.pcid_no_flush_reads_as_zero", read_cr3(), cr3 | 5);
    write_cr3(cr3);
    write_cr4(cr4);
}

/* A translation that the guest changes and invalidates must be gone, with global pages and without. */
static void invalidation(void)
{
    static u64 one[512] __attribute__((aligned(4096))), two[512] __attribute__((aligned(4096)));
    u64 *address = window_map(21, (u64)one, PTE_P | PTE_W | PTE_G);
    one[0] = 1;
    two[0] = 2;
    write_cr4(read_cr4() | CR4_PGE);
    check_eq("modes.before_invlpg", *(volatile u64 *)address, 1);
    window_map(21, (u64)two, PTE_P | PTE_W | PTE_G);
    check_eq("modes.after_invlpg", *(volatile u64 *)address, 2);
    window_table()[21] = (u64)one | PTE_P | PTE_W | PTE_G;
    write_cr4(read_cr4() & ~CR4_PGE);
    check_eq("modes.after_pge_toggle", *(volatile u64 *)address, 1);
    window_table()[21] = (u64)two | PTE_P | PTE_W;
    flush_tlb();
    check_eq("modes.after_cr3", *(volatile u64 *)address, 2);
}

void group_modes(void)
{
    cr0_bits();
    cr4_bits();
    cr3_and_pcid();
    invalidation();
    paging_modes();
    real_mode();
}

/* The BIOS finds this shutdown code in the CMOS and jumps where the vector at 40:67 says, without a POST. */
static void reset_cpu(void)
{
    out8(0x70, 0x8f);
    out8(0x71, 0x0a);
    apic_send_init();
}

void group_init(void)
{
    apic_init();
    print("guest: INIT to itself\n");
    trip_init(reset_cpu);
    out8(0x70, 0x0f);
    out8(0x71, 0);
    check("init.came_back", true);
    check_eq("init.cr0", mode_result.cr0 & (CR0_PG | CR0_WP | CR0_NE), 0);
    check_eq("init.cr4", mode_result.cr4, 0);
    check_eq("init.efer", mode_result.efer, 0);
    const struct code code = {CODE("\x0f\xa2")};
    check_eq("init.ring3_works", execute(RING3_64, &code), VECTOR_DONE);
    check_eq("init.still_where_it_was", hypercall(HYPERCALL_FEATURES, 0, 0, 0).vector,
             under_umbra ? NO_FAULT : EXC_UD);
    for (unsigned i = 0; i < 3; i++)
        trip_init(reset_cpu);
    check("init.came_back_again", true);
}
