/* SPDX-License-Identifier: MIT */
/*
 * The test guest: a small multiboot kernel that checks what a guest of Umbra (or of a bare CPU) should see,
 * and prints one line per check on COM1. Everything its files share is declared here. It trusts nothing that
 * Umbra says about itself: what it knows of Umbra is the ABI in vcpu/hypercall.h.
 */
#ifndef UMBRA_TESTS_GUEST_GUEST_H
#define UMBRA_TESTS_GUEST_GUEST_H

#include "arch/types.h"
#include "arch/x86.h"
#include "tests/guest/layout.h"
#include "vcpu/hypercall.h"

/* --- console.c --- */
void console_init(void);
/* %s %c %d %u %x with l for 64 bits, a width and zero padding. */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
void print_to(char *buffer, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* --- string.c --- */
void *memset(void *to, int value, size_t bytes);
void *memcpy(void *to, const void *from, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);
size_t strlen(const char *text);
bool starts_with(const char *text, const char *prefix);
/* The text after `key=` in a command line, NULL if there is none. */
const char *option(const char *command_line, const char *key);
/* Decimal or 0x number; the first character after it in *end if end is not NULL. */
u64 number(const char *text, const char **end);

/* --- check.c --- */
void check(const char *name, bool good);
void check_eq(const char *name, u64 got, u64 want);
/* A value to be compared between a bare run and one under Umbra. */
void fact(const char *name, u64 value);
void note_skipped(const char *name, const char *reason);
/* Prints the totals, then ends the emulator. */
_Noreturn void finish(void);
/* As finish(), after a failure that leaves nothing to go on with. */
_Noreturn void give_up(const char *reason);

/* --- deviations.c --- */
/* What this emulator does instead of what the check expects, NULL if it is not known to deviate there. */
const char *deviation_of(const char *check);

/* --- boot.c --- */
enum { MODULES_MAX = 8, RANGES_MAX = 64, TEXT_BYTES = 512 };
struct boot_range {
    u64 start, bytes;
    u32 type;
};
struct boot_module {
    u64 start, end;
    char text[TEXT_BYTES];
};
struct boot {
    const char *protocol;
    char command_line[TEXT_BYTES];
    char loader[64];
    bool has_memory_sizes, has_command_line;
    u32 lower_kib, upper_kib;
    unsigned range_count, module_count;
    struct boot_range range[RANGES_MAX];
    struct boot_module module[MODULES_MAX];
};
extern struct boot boot;
void boot_read(void);
/* True if all of [start, start + bytes) is RAM by the boot loader's map. */
bool boot_is_ram(u64 start, u64 bytes);

/* --- trap.c, vectors.S --- */
enum {
    NO_FAULT = 0xffff,
    VECTOR_DONE = 0x80,
    VECTOR_PIT = 0x20,
    VECTOR_TIMER = 0x40,
    VECTOR_SELF = 0x41,
    VECTOR_SPURIOUS = 0xff
};
struct frame {
    u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    u64 vector, error;
    u64 rip, cs, rflags, rsp, ss;
};
struct fault {
    u64 vector; /* NO_FAULT if there was none */
    u64 error, cr2, dr6;
    struct frame frame;
};
/* The last exception that was caught. */
extern struct fault fault;
void trap_init(void);
/* Called first for every vector; true: return to the interrupted code. */
typedef bool trap_hook(struct frame *frame);
void trap_set_hook(unsigned vector, trap_hook *hook);
void trap_set_present(unsigned vector, bool present);
/* Calls code(argument); an exception in it, or INT 80H, ends it. Returns the vector, or NO_FAULT. */
u64 attempt(void (*code)(const void *), const void *argument);

/* An instruction in inline assembly at which an exception is recorded in `fault` and which is then left out.
 */
#define FAULTABLE(instruction)                                                                               \
    "1: " instruction "\n2:\n.pushsection .fixups, \"a\"\n.quad 1b, 2b\n.popsection\n"

/* --- execute.c: machine code given as bytes, in any ring and mode --- */
enum code_mode { RING0_64, RING3_64, RING0_32, RING3_32 };
struct code {
    const char *bytes;
    size_t size;
    u64 rax, rbx, rcx, rdx, rsi, rdi;
    u64 rflags; /* extra bits */
};
#define CODE(text) .bytes = (text), .size = sizeof(text) - 1
/* Runs the bytes, followed by INT 80H, and returns the vector that ended them (VECTOR_DONE if they ran
 * through). */
u64 execute(enum code_mode mode, const struct code *code);
/* The same for code that is in place already, at the linear address. */
u64 execute_at(enum code_mode mode, u64 address, const struct code *code);
/* Linear address where execute() puts the bytes. */
u64 execute_address(enum code_mode mode);
extern const char *const code_mode_name[4];

/* --- paging.c --- */
enum {
    PTE_P = 1,
    PTE_W = 2,
    PTE_U = 4,
    PTE_PWT = 8,
    PTE_PCD = 16,
    PTE_A = 32,
    PTE_D = 64,
    PTE_PS = 128,
    PTE_G = 256
};
#define PTE_NX BIT(63)
/* Linear 0..4 GByte is mapped one to one, supervisor, but for the window: 512 pages to map at will. */
#define WINDOW 0xd0000000ull
void tables_init(void);
/* Gives window page `index` that entry and returns its linear address. */
void *window_map(unsigned index, u64 physical, u64 flags);
void window_set(unsigned index, u64 entry);
u64 window_get(unsigned index);
u64 *window_table(void);
/* The page-directory entry above the window, for tests that replace it. */
u64 *window_directory_entry(void);
void flush_tlb(void);

/* --- cpu.c --- */
struct cpuid {
    u32 eax, ebx, ecx, edx;
};
struct cpuid cpuid(u32 leaf, u32 subleaf);
extern bool is_intel;
extern unsigned physical_bits;
void cpu_init(void);
/* What the run is on, as the emulators give themselves away: for deviations by name. */
bool on_bochs(void);
bool on_tcg(void);
/* TCG answers a reserved CR4 or CR3 bit with an SVM exit, in a guest or not: nothing that is to live may try.
 */
bool reserved_cr4_is_deadly(void);

static inline u64 read_cr0(void)
{
    u64 value;
    __asm__ volatile("mov %%cr0, %0" : "=r"(value)::"memory");
    return value;
}
static inline void write_cr0(u64 value)
{
    __asm__ volatile("mov %0, %%cr0" ::"r"(value) : "memory");
}
static inline u64 read_cr2(void)
{
    u64 value;
    __asm__ volatile("mov %%cr2, %0" : "=r"(value)::"memory");
    return value;
}
static inline u64 read_cr3(void)
{
    u64 value;
    __asm__ volatile("mov %%cr3, %0" : "=r"(value)::"memory");
    return value;
}
static inline void write_cr3(u64 value)
{
    __asm__ volatile("mov %0, %%cr3" ::"r"(value) : "memory");
}
static inline u64 read_cr4(void)
{
    u64 value;
    __asm__ volatile("mov %%cr4, %0" : "=r"(value)::"memory");
    return value;
}
static inline void write_cr4(u64 value)
{
    __asm__ volatile("mov %0, %%cr4" ::"r"(value) : "memory");
}
static inline void invlpg(const void *address)
{
    __asm__ volatile("invlpg (%0)" ::"r"(address) : "memory");
}
static inline u64 rdtsc(void)
{
    u32 low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high)::"memory");
    return (u64)high << 32 | low;
}
static inline void out8(u16 port, u8 value)
{
    __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}
static inline u8 in8(u16 port)
{
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static inline u64 read_rflags(void)
{
    u64 value;
    __asm__ volatile("pushfq; pop %0" : "=r"(value)::"memory");
    return value;
}

/* Each returns the vector of the exception, or NO_FAULT. */
u64 try_rdmsr(u32 msr, u64 *value);
u64 try_wrmsr(u32 msr, u64 value);
u64 try_write_cr0(u64 value);
u64 try_write_cr3(u64 value);
u64 try_write_cr4(u64 value);
u64 try_xsetbv(u32 index, u64 value);
u64 try_read64(u64 address, u64 *value);
u64 try_write64(u64 address, u64 value);
/* For MSRs that every CPU of ours has: an exception ends the run. */
u64 rdmsr(u32 msr);
void wrmsr(u32 msr, u64 value);

/* --- hypercall.c --- */
struct hypercall {
    u64 vector; /* NO_FAULT if it was taken */
    u32 status;
    u64 rbx, rcx, rdx, rsi, rdi;
};
struct hypercall hypercall(u32 function, u64 rdx, u64 rsi, u64 rdi);
extern bool under_umbra, test_build, mode_based_execute;
void hypercall_init(void);
/* Umbra's own memory; false if it is not known. */
bool umbra_region(u64 *start, u64 *end);

/* --- apic.c --- */
void pic_init(void);
void pic_mask(u16 mask);
void pic_eoi(void);
void pit_periodic(u32 hertz);
void apic_init(void);
bool apic_enable_x2apic(void);
extern bool apic_is_x2apic;
enum {
    APIC_ID = 0x20,
    APIC_EOI = 0xb0,
    APIC_SVR = 0xf0,
    APIC_TPR = 0x80,
    APIC_ICR = 0x300,
    APIC_LVT_TIMER = 0x320,
    APIC_LVT_LINT0 = 0x350,
    APIC_INITIAL = 0x380,
    APIC_CURRENT = 0x390,
    APIC_DIVIDE = 0x3e0
};
u32 apic_read(unsigned offset);
void apic_write(unsigned offset, u32 value);
/* Fixed interrupt, or NMI if `vector` is EXC_NMI, to this CPU itself. */
void apic_send_self(unsigned vector);
/* Any interprocessor interrupt; `id` as the mode of this CPU's APIC has it. */
enum {
    ICR_NMI = 0x4400,
    ICR_INIT = 0x4500,
    ICR_STARTUP = 0x4600,
    ICR_FIXED = 0x4000,
    ICR_SELF = 0x40000,
    ICR_OTHERS = 0xc0000
};
u32 apic_id(void);
void apic_send(u32 id, u32 command);
/* INIT to this CPU itself, which then starts at the reset vector. */
void apic_send_init(void);

/* --- modes.S: state for trips out of long mode --- */
struct mode_result {
    u32 cpuid_eax, cpuid_ebx, cpuid_ecx, cpuid_edx; /* leaf 0 */
    u32 cr0, cr4, efer, word;
};
extern struct mode_result mode_result;
void trip_flat(void);
void trip_pae(u32 pdpt);
void trip_legacy(u32 page_directory);
void trip_real(void);
void trip_init(void (*reset)(void));

/* --- the groups --- */
void group_boot(void);
void group_facts(void);
void group_cpuid(void);
void group_msrs(void);
void group_exceptions(void);
void group_interrupts(void);
void group_nmi(void);
void group_modes(void);
void group_init(void);
void group_memory(void);
void group_mbec(void);
void group_gmet(void);
void group_triple(void);
void group_fatal(void);
void group_exits(void);
void group_hostile(void);
void group_hidden(void);
void group_smp(void);
void group_smp_start(void);
void group_smp_halt(void);
void group_smp_restart(void);
void group_vmx_smp(void);
/* The other CPUs: starts them, if they are not yet, and returns how many there are. */
unsigned smp_start(void);
/* One of them sends that IPI, until smp_rest(), or once after a moment. */
void smp_send(u32 id, u32 command);
void smp_send_once(u32 id, u32 command);
void smp_send_and_wait(u32 id, u32 command);
/* All of them call it, with their numbers from 1; returns when all have begun. False: one has not. */
bool smp_call(void (*function)(unsigned cpu));
/* They do nothing any more; returns when all have ended what they did. False: one has not. */
bool smp_rest(void);
/* Number `who`, from 0 on: its APIC ID; how often it has started; did it come to that number? */
u32 smp_id(unsigned who);
unsigned smp_starts(unsigned who);
bool smp_has_started(unsigned who, unsigned starts);
/* It calls that function, while the others sleep: false if it does not come to it. Then it has to be waited
 * for by smp_returned(), or to be stopped by an INIT and told to forget it before it starts anew. */
bool smp_call_one(unsigned who, void (*function)(void));
bool smp_returned(unsigned who);
void smp_forget_call(void);
/* All CPUs: false if one does not get there. */
bool smp_x2apic(void);
/* Some time, in which another CPU gets to what it has to do. */
void smp_settle(void);
/* NMIs that the handler of this CPU, the boot CPU, has got. */
extern volatile unsigned smp_own_nmis;
void group_bench_vmx(void);
void group_bench_svm(void);
void group_bench_smp(void);
void group_vmx_controls(void);
void group_vmx_events(void);
void group_vmx_ept(void);
void group_paging(void);
void group_paging_legacy(void);
void group_second_level(void);
void group_vmx_exits(void);

/* --- vmx-instructions.c --- */
void group_vmx_instructions(void);

/* --- vmx-checks.c --- */
void group_vmx_checks(void);

/* --- vmx-shadow.c --- */
void group_vmx_shadow(void);

/* --- vmx-functions.c --- */
void group_vmx_functions(void);

/* --- vmx-apic.c --- */
void group_vmx_apic(void);

/* --- vmx-nmi.c --- */
void group_vmx_nmi(void);

/* --- vmx-modes.c --- */
void group_vmx_modes(void);
void group_vmx_abort_pdpte(void);

/* --- vmx-lists.c --- */
void group_vmx_lists(void);
void group_vmx_abort_store(void);
void group_vmx_abort_load(void);

/* --- vmx-random.c --- */
void group_vmx_random(void);

/* --- svm-*.c --- */
void group_svm_instructions(void);
void group_svm_checks(void);
void group_svm_exits(void);
void group_svm_maps(void);
void group_svm_exceptions(void);
void group_svm_events(void);
void group_svm_npt(void);
void group_svm_npt_walks(void);
void group_svm_npt_hosts(void);
void group_svm_state(void);
void group_svm_modes(void);
void group_svm_features(void);
void group_svm_random(void);
void group_svm_smp(void);

#endif
