/* SPDX-License-Identifier: MIT */
/*
 * The shadow MMU: second-level tables for L2 in Umbra's own format, where each entry is the permission of
 * L1's EPT or NPT AND that of Umbra's own map. Vendor-neutral and pure: it reaches L1's memory through
 * mm/paging.h's accessor and its own tables through mm/phys.h, and asks for flushes instead of doing them.
 * L1's tables are never write-protected: what L1 changes counts where the architecture says it must.
 *
 * How the vendor uses it (one struct shadow for the machine, one struct shadow_cpu per CPU):
 * - before each entry into L2: shadow_acquire(); put use.root into the EPTP or nCR3, use.tag into the VPID or
 *   ASID, and flush if it says so. It is cheap when nothing happened.
 * - on an EPT violation or misconfiguration, or VMEXIT_NPF, while L2 runs: shadow_fault(), then as the
 *   outcome says.
 * - on L1's INVEPT, INVVPID, VMRUN with TLB_CONTROL, INVLPGA: the invalidation functions. They only take
 *   notes; the work is done by the next shadow_acquire(), when L1 has made all its changes.
 * - before Umbra itself, or the CPU by a physical address in a VMCS, writes into L1's memory:
 *   shadow_will_write().
 *
 * Locking: none is the caller's. Any number of CPUs may be inside; struct shadow_cpu is used by its own CPU
 * only. How they keep out of each other's way: docs/nested.md, "Several CPUs".
 */
#ifndef UMBRA_NESTED_SHADOW_H
#define UMBRA_NESTED_SHADOW_H

#include "arch/types.h"
#include "mm/tdp.h"
#include "mm/walk.h"

/* Guest-physical address of L2: what L1's EPT or NPT translates. */
typedef struct {
    u64 raw;
} l2_gpa_t;

static inline l2_gpa_t l2_gpa(u64 raw)
{
    return (l2_gpa_t){raw};
}

enum {
    /* L1 roots that are shadowed at a time, besides those that CPUs use now; the least recently used one
     * makes room */
    SHADOW_ROOTS = 16,
    SHADOW_TAGS = 32, /* VPIDs or ASIDs used for L2, per CPU */
    SHADOW_CPUS_MAX = 64,
    SHADOW_QUIET =
        8, /* for struct shadow_config: sleep and the exit that ends it cost as much as a few looks */
    SHADOW_PAGES_MIN =
        16, /* for tests; one instruction may need some hundred pages, so a machine has thousands */
};

/*
 * Everything that shapes the content of a root's tables. Two uses share tables only if all of it is equal.
 * `pointer` is the EPTP or nCR3 as L1 gave it: only its address bits count, all else must be in `role`.
 */
struct shadow_key {
    u64 pointer;
    struct paging_role role; /* paging_role_ept() or paging_role_npt() with what L1's virtual CPU can do */
    u64 pat;                 /* NPT: L1's IA32_PAT (L1's is the host PAT of L2); EPT: 0 */
};

struct shadow_config {
    struct tdp *tdp; /* Umbra's own map; its format is the shadow's format */
    const struct paging_memory
        *memory;      /* of L1, by its guest-physical addresses; lives as long as the shadow */
    u64 memory_limit; /* one past the highest address of L1's RAM: memmap_ram_top() */
    u64 host_pat;     /* NPT: IA32_PAT that is in force while Umbra runs (VMRUN saves it as the host's) */
    u32 cpus;         /* that may call in, 1 to SHADOW_CPUS_MAX */
    /*
     * Returns when no CPU uses a translation that it had cached before the call, of L1 or of L2, or a flag of
     * Umbra's own map that it had cached as set. Called without locks and outside of all functions below on
     * this CPU's part, while other CPUs may be anywhere, in it too; not before a second one has come
     * to shadow_cpu_init(), which had `owner`.
     */
    void (*shoot_down)(void *owner);
    u32 pages; /* in the pool, at least SHADOW_PAGES_MIN; each costs a little over 8 KByte */
    /* After so many invalidations of one root that find nothing changed, L1's tables are write-protected
     * until their first write, so that the next ones need not look at them. 0: never. */
    u32 quiet;
    bool advanced_information; /* EPT: bit 22 of IA32_VMX_EPT_VPID_CAP as L1 sees it */
    /*
     * Page-modification logging for L1, or NULL: called when an access of L2 is about to set flags in L1's
     * tables; `dirties`: the dirty flag of the leaf, which is what is logged. False: L1's log is full,
     * nothing is set and shadow_fault() ends in SHADOW_LOG_FULL. To be true at once if L1 does not use it.
     */
    bool (*log_dirty)(void *context, l2_gpa_t address, bool dirties);
    void *context;
};

/* Since the start, of all CPUs; for tests, and for who looks with a debugger: no report has them. Words only.
 */
struct shadow_statistics {
    u64 faults, filled, reflected, policy, spurious;
    u64 pages_used, pages_evicted, roots_evicted;
    u64 synchronisations;    /* of one root after an invalidation by L1 */
    u64 tables_compared;     /* shadow tables whose L1 table was (or may have been) written since */
    u64 entries_dropped;     /* because L1's entry had changed */
    u64 flushes;             /* asked for by shadow_acquire() */
    u64 drops_of_everything; /* because Umbra's own map changed */
};

struct shadow; /* nested/shadow-internal.h; one object, made by shadow_init() */

/*
 * Carves the pool out of the frame allocator, at boot. NULL if there is not enough of it. The one object is
 * returned; a second call (host tests) makes it anew.
 */
struct shadow *shadow_init(const struct shadow_config *config);
void shadow_statistics(const struct shadow *shadow, struct shadow_statistics *sum);

enum { SHADOW_CPU_BYTES = 1536 };
/*
 * Storage for one CPU, once for each; the VPIDs or ASIDs first_tag to first_tag + SHADOW_TAGS - 1 are L2's
 * from now on. All their translations are flushed at first use. False, and the CPU may not be used with the
 * functions below: the frame pool is empty.
 */
struct shadow_cpu {
    u64 opaque[SHADOW_CPU_BYTES / 8];
};
bool shadow_cpu_init(struct shadow *shadow, struct shadow_cpu *storage, u16 first_tag, void *owner);

/* --- roots --- */

/* What to run L2 with; valid until the next call of shadow_acquire() on this CPU. */
struct shadow_use {
    hpa_t root; /* the shadow's 4-level root table. EPTP: | 6 (write-back) | 3 << 3 (4 levels) | A/D as in
                   L1's EPTP */
    u16 tag;    /* VPID or ASID */
    /*
     * Owed before L2 runs. flush_tables: INVEPT single-context of that EPTP; flush_linear: INVVPID
     * single-context of the tag. AMD: either is TLB_CONTROL "flush this ASID". Reported once: the caller does
     * it.
     */
    bool flush_tables, flush_linear;
    u32 handle; /* names the root to the functions below */
};

enum shadow_acquire_status {
    SHADOW_ACQUIRED,
    SHADOW_ROLE_UNSUPPORTED, /* PAGING_NONE, supervisor shadow-stack control, SPP: not to be offered to L1 */
    SHADOW_NO_PAGES,         /* the pool is too small for one root: cannot happen with SHADOW_PAGES_MIN */
};

/*
 * Finds or makes the shadow of an L1 root, brings it up to date if L1 has invalidated it since, and finds a
 * tag. To be called when L1's entry has passed all checks: what L1 changes after it, it owes an invalidation
 * for. Should the hardware refuse the entry all the same, shadow_invalidate_pointer() undoes that. `l1_tag`
 * is the VPID or ASID that L1 gave L2 (0 with VPIDs off; then the caller also calls
 * shadow_invalidate_linear(0) at each entry of L2, as the CPU would flush). One tag belongs to one (root,
 * l1_tag). May set flush_pending of Umbra's own map (dirty flags were cleared in it): the caller honours that
 * before L1 runs again.
 */
enum shadow_acquire_status shadow_acquire(struct shadow *shadow, struct shadow_cpu *storage,
                                          const struct shadow_key *key, u32 l1_tag, struct shadow_use *use);

/*
 * Instead of shadow_acquire() with the same key and tag as the last one on this CPU, if that succeeded: its
 * answer still holds, and only the flushes are owed that are told (those of struct shadow_use); or it does
 * not, and shadow_acquire() has to be called.
 */
enum shadow_renewal {
    SHADOW_EXPIRED = 0,
    SHADOW_RENEWED = 1,
    SHADOW_FLUSH_TABLES = 2, /* besides SHADOW_RENEWED */
    SHADOW_FLUSH_LINEAR = 4,
};
unsigned shadow_renew(struct shadow *shadow, struct shadow_cpu *storage);

/*
 * For mm/walk.h and mm/linear.h: L1's tables as second stage (linear_context.host and host_root), as they are
 * until this CPU acquires another root. NULL if gone.
 */
const struct paging *shadow_paging(const struct shadow *shadow, u32 handle, u64 *pointer);

/* --- faults --- */

/* An EPT violation, EPT misconfiguration or nested page fault while L2 ran on a root. */
struct shadow_access {
    l2_gpa_t address; /* guest-physical, offset in the page included, as hardware reported it */
    /*
     * enum access. EPT, from the exit qualification: WRITE, FETCH, SHADOW_STACK, and USER for a fetch whose
     * linear address is user-mode (qualification bit 9; without advanced information the caller finds out
     * with mm/linear.h or mm/walk.h; it matters only while L1's role or Umbra's own map tells XS from XU).
     * NPT: fault_npf_access() with Umbra's own GMET. After an EPT misconfiguration: ACCESS_READ.
     */
    unsigned access;
    /*
     * FAULT_* of mm/fault.h: EPT: bits 7 to 12, 15 and 16 of the qualification; NPT: FAULT_LINEAR_VALID, and
     * FAULT_FINAL if EXITINFO1 bit 32 is set. Everything else in the reflected fault comes from L1's tables.
     */
    u32 supplied;
    u64 rip; /* of L2: tells an access that is repeated without progress from one that comes again */
};

enum shadow_outcome {
    SHADOW_FILLED,  /* L2 may go on at the same instruction, after shadow_acquire() as before each entry */
    SHADOW_REFLECT, /* L1's tables deny it: EPT violation or #NPF to L1; result.fault, result.qualification */
    SHADOW_MISCONFIGURED, /* L1's EPT is misconfigured: exit reason 49 to L1; no qualification */
    SHADOW_LOG_FULL, /* page-modification log-full exit to L1 (reason 62), for the log_dirty hook said so */
    /*
     * L1 allows it, Umbra's own map does not: result.own is what to hand to violation_exit() of vcpu/vcpu.h:
     * unmapped device memory (then re-enter L2) or policy.
     */
    SHADOW_POLICY,
    /*
     * The same, and the address is Umbra's own memory. violation_exit() lends the scratch page by mapping it
     * in machine.tdp and asks to step one instruction: re-enter L2 with MTF (or TF); its access faults again,
     * and the shadow is filled with what machine.tdp then holds. violation_step_done() takes the page back;
     * the next shadow_acquire() sees that Umbra's map has changed, drops what came from it and asks for the
     * flush.
     */
    SHADOW_UMBRA_MEMORY,
    SHADOW_STALE, /* the handle's root is gone or outdated: acquire again and re-enter; the fault comes again
                   */
    SHADOW_NO_PROGRESS, /* SHADOW_REPEAT_LIMIT times the same fault with nothing left to fill: end with a
                           report */
};

enum { SHADOW_REPEAT_LIMIT = 1000 };

struct shadow_result {
    /* REFLECT and MISCONFIGURED: by L1's tables; fault_npf_exit_info_1() or `qualification` say it for L1. */
    struct fault fault;
    u64 qualification; /* EPT REFLECT: the exit qualification for L1, complete */
    u64 exit_info_1;   /* NPT REFLECT: EXITINFO1 for L1, complete */
    bool
        convertible; /* EPT REFLECT: suppress-#VE (bit 63) is 0 in the entry that decided: L1's #VE applies */
    /* POLICY and UMBRA_MEMORY: */
    struct {
        gpa_t address;   /* L1's guest-physical address that L1's tables give */
        unsigned access; /* enum tdp_access bits that were attempted */
    } own;
};

/*
 * First L1's tables as they are now (with A/D flags set in them as the CPU would), then Umbra's own map, then
 * the shadow is filled with the largest page that both and the memory type allow. When L1's tables deny, the
 * shadow entries for that address are dropped in all roots with the same table address (EP4TA), since a
 * violation invalidates them and L1 may change the entry without an INVEPT.
 */
enum shadow_outcome shadow_fault(struct shadow *shadow, struct shadow_cpu *storage, u32 handle,
                                 const struct shadow_access *access, struct shadow_result *result);

/*
 * The same for the ordinary fault, tried first: while L2 runs on what the last shadow_acquire() on this CPU
 * gave, and no function below was called since. `address` and `access` as in struct shadow_access. True: it
 * is filled, and L2 may be entered again at once: nothing is owed, and shadow_acquire() would say so. False:
 * nothing has happened, and shadow_fault() is to be called.
 */
bool shadow_fault_quick(struct shadow *shadow, struct shadow_cpu *storage, l2_gpa_t address, unsigned access);

/*
 * --- invalidation by L1 ---
 * What it owes is owed by the CPU that executed it. What is found to have changed is dropped for all.
 */

/* INVEPT single-context: all roles of the roots whose pointer has the same bits 51:12. */
void shadow_invalidate_pointer(struct shadow *shadow, struct shadow_cpu *storage, u64 pointer);
/* INVEPT global. AMD: TLB_CONTROL "flush all". */
void shadow_invalidate_all(struct shadow_cpu *storage);
/* AMD: TLB_CONTROL "flush this guest's", full or non-global: what is cached for an ASID of L1, of both
 * stages. */
void shadow_invalidate_l1_tag(struct shadow_cpu *storage, u32 l1_tag);

#define SHADOW_ALL_TAGS 0xffffffffu
/*
 * Linear translations only: INVVPID (each type; SHADOW_ALL_TAGS for all-context), INVLPGA, and what else
 * makes L2's linear translations stale. The tables stay as they are; the next shadow_acquire() with that tag
 * says flush_linear.
 */
void shadow_invalidate_linear(struct shadow_cpu *storage, u32 l1_tag);

/*
 * Umbra's own map has changed: nothing that was made from it before can be reached when this returns, but
 * what a CPU has cached. To be called between the change and the flush of all CPUs that ends it, so that none
 * makes something old of it after that flush. (A single CPU need not: shadow_acquire() does it.)
 */
void shadow_follow_own_map(struct shadow *shadow, struct shadow_cpu *storage);

/*
 * From now on Umbra itself (an operand of an emulated instruction, a vmcs12), or the CPU by a physical
 * address (a virtual-APIC page), may write [address, address + bytes) of L1's memory at any time, for which
 * hardware sets no dirty flag: tables there are always compared. To be called before the first such write;
 * cheap from the second one on. log_dirty() may call it.
 */
void shadow_will_write(struct shadow *shadow, struct shadow_cpu *storage, gpa_t address, u64 bytes);

#endif
