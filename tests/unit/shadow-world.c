/* SPDX-License-Identifier: MIT */
/* Memory, tables and their history; see tests/unit/shadow-world.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/print.h"
#include "arch/x86.h"
#include "mm/frame.h"
#include "mm/memmap.h"
#include "mm/phys.h"
#include "mm/tdp-format.h"
#include "tests/unit/paging-case.h"
#include "tests/unit/random.h"
#include "tests/unit/shadow-world.h"

u64 direct_map_base;
struct mem_range umbra_region;
struct world world;

static u8 arena[WORLD_END] __attribute__((aligned(4096)));

#define HOST_PAT 0x0007040600070406ull
#define L1_PAT   0x0001050600070406ull

_Noreturn void fatal(const char *fmt, ...)
{
    (void)fmt;
    abort();
}

/* --- memory --- */

bool world_is_table(u64 address)
{
    return address >= WORLD_FRAMES_START && address < WORLD_FRAMES_END;
}

static unsigned word_bytes(void)
{
    return spec_entry_bytes(world.plan.format);
}

u64 world_peek(u64 address)
{
    u64 value = 0;

    memcpy(&value, arena + address, word_bytes());
    return value;
}

void world_store(u64 address, u64 value)
{
    u64 word = (address - WORLD_FRAMES_START) / word_bytes();
    u64 old = world_peek(address);

    if (word_bytes() == 4)
        value = (u32)value;
    if (old == value)
        return;
    if (world.history[word].count == WORLD_HISTORY) {
        world.overflow = true;
        world.history[word].count--;
    }
    world.now++;
    world.history[word].value[world.history[word].count] = old;
    world.history[word].end[world.history[word].count++] = world.now;
    memcpy(arena + address, &value, word_bytes());
}

static bool read_any(void *context, u64 address, unsigned bytes, u64 *value)
{
    (void)context;
    if (address + bytes > WORLD_END)
        return false;
    *value = 0;
    memcpy(value, arena + address, bytes);
    return true;
}

/* Umbra's own map: what is asleep may be written all the same. */
static bool read_own(void *context, u64 address, unsigned bytes, u64 *value)
{
    bool there = read_any(context, address, bytes, value);

    if (there && (*value & TDP_ASLEEP) != 0)
        *value = (*value & ~TDP_ASLEEP) | PTE_W;
    return there;
}

static bool read_l1(void *context, u64 address, unsigned bytes, u64 *value)
{
    return world_is_table(address) && read_any(context, address, bytes, value);
}

/* A walk of Umbra's own map to the entry that maps the page. */
static bool own_leaf(u64 address, struct spec_translation *walk)
{
    const struct spec_second_access read = {.kind = SPEC_READ};

    *walk = spec_walk_second(&world.own, &world.all_memory, address, &read, NULL);
    return walk->page_size != 0;
}

void world_l1_store(u64 address, u64 value)
{
    u64 frame = (address - WORLD_FRAMES_START) / PAGE_SIZE;
    struct spec_translation walk;

    world_honour_flush();
    if (!world.l1_dirty_cached[frame] && own_leaf(address, &walk)) {
        u64 *entry = (u64 *)(void *)(arena + walk.path.step[walk.path.count - 1].address);
        if ((*entry & EPTE_W) == 0 && tdp_wake(&world.tdp, gpa(address)))
            world.wakes++;
        if (!world.ept || world.plan.accessed_dirty)
            *entry |= world.ept ? BIT(9) : BIT(6);
        world.l1_dirty_cached[frame] = true;
    }
    world_store(address, value);
}

void world_honour_flush(void)
{
    if (!world.tdp.flush_pending)
        return;
    memset(world.l1_dirty_cached, 0, sizeof(world.l1_dirty_cached));
    tdp_flushed(&world.tdp);
}

static enum memory_status load(const struct paging_memory *memory, gpa_t address, unsigned bytes, u64 *value)
{
    (void)memory;
    return read_l1(NULL, address.raw, bytes, value) ? MEMORY_OK : MEMORY_NOT_OWNED;
}

static enum memory_status compare_exchange(const struct paging_memory *memory, gpa_t address, unsigned bytes,
                                           u64 expected, u64 desired)
{
    (void)memory;
    (void)bytes;
    if (!world_is_table(address.raw))
        return MEMORY_NOT_OWNED;
    if (random_chance(world.disturb_percent))
        world_l1_store(address.raw, expected ^ BIT(random_below(12)));
    if (world_peek(address.raw) != expected)
        return MEMORY_CHANGED;
    world_store(address.raw, desired);
    return MEMORY_OK;
}

static bool log_dirty(void *context, l2_gpa_t address, bool dirties)
{
    (void)context;
    (void)address;
    world.logged += dirties && !world.log_full;
    return !world.log_full;
}

/* --- making it --- */

static struct paging_cpu cpu_of_plan(void)
{
    return (struct paging_cpu){.maxphyaddr = 40,
                               .page_1g = world.plan.page_1g,
                               .execute_only = world.plan.execute_only,
                               .amd = !world.ept};
}

static void make_ept_root(struct world_root *root, bool mode_based, bool accessed_dirty)
{
    struct case_ept ept = {.cpu = cpu_of_plan(), .mbec = mode_based, .advanced = true};
    struct case_tables tables;

    ept.eptp = 6 | (world.plan.format == SPEC_EPT5 ? 4u : 3u) << 3 | (accessed_dirty ? BIT(6) : 0);
    case_ept(&tables, &ept);
    root->key.pointer = (root->key.pointer & ENTRY_ADDRESS) | ept.eptp;
    root->key.role = tables.code.role;
    root->second = (struct spec_second){SPEC_SECOND_EPT, true, tables.spec};
}

static void make_npt_root(struct world_root *root, bool mode_based, bool nxe)
{
    static const u64 cr4[] = {[SPEC_32BIT] = CR4_PSE,
                              [SPEC_PAE] = CR4_PAE,
                              [SPEC_LONG4] = CR4_PAE,
                              [SPEC_LONG5] = CR4_PAE | CR4_LA57};
    struct case_machine host = {.cpu = cpu_of_plan(),
                                .cr0 = CR0_PE | CR0_PG | CR0_WP,
                                .cr4 = cr4[world.plan.format] | CR4_SMEP,
                                .efer = nxe ? EFER_NXE : 0};
    struct case_tables tables;

    if (world.plan.format == SPEC_LONG4 || world.plan.format == SPEC_LONG5)
        host.efer |= EFER_LME | EFER_LMA;
    case_npt(&tables, &host, mode_based);
    root->key.role = tables.code.role;
    root->key.pat = L1_PAT;
    root->second = (struct spec_second){SPEC_SECOND_NPT, false, tables.spec};
}

static void make_root(unsigned i)
{
    struct world_root *root = &world.root[i];
    bool mode_based = world.plan.l1_mode_based && i % 2 == 0;

    /* Some roles share their tables. */
    root->key.pointer = WORLD_FRAMES_START + (i % 3 == 0 ? i : i / 2) * PAGE_SIZE;
    if (world.plan.format == SPEC_PAE)
        root->key.pointer += i % 5 * 32;
    if (world.plan.hostile_percent != 0 && i % 7 == 3)
        root->key.pointer = i == 3 ? WORLD_UMBRA_START + PAGE_SIZE : GIB(1);
    if (world.ept)
        make_ept_root(root, mode_based, world.plan.accessed_dirty && i % 4 < 2);
    else
        make_npt_root(root, mode_based, world.plan.nxe && i % 4 < 2);
    root->second.tables.root = root->key.pointer;
}

/* Few enough that they share tables, many enough to fill some. */
static u64 random_address(void)
{
    static const u64 index[] = {0, 0, 0, 1, 5, 6, 256, 511};
    bool legacy = world.plan.format == SPEC_PAE || world.plan.format == SPEC_32BIT;
    u64 address = (random_below(20) == 0 ? random_u64() : index[random_below(8)]) % 512 << 12;

    address |= index[random_below(6)] << 21 | random_below(2) << 30;
    if (!legacy)
        address |= (random_chance(80) ? 0 : random_below(512)) << 39;
    if ((world.plan.format == SPEC_EPT5 || world.plan.format == SPEC_LONG5) && random_chance(4))
        address |= BIT(48);
    return address | (random_u64() & PAGE_MASK);
}

static void make_addresses(void)
{
    for (unsigned i = 0; i < WORLD_ADDRESSES; i++) {
        bool again;
        do {
            world.address[i] = random_address();
            again = false;
            for (unsigned j = 0; j < i; j++)
                again |= (world.address[i] ^ world.address[j]) < PAGE_SIZE;
        } while (again);
    }
}

static void make_own_map(void)
{
    const struct tdp_config config = {
        .format = world.ept ? TDP_EPT : TDP_NPT,
        .mode_based_execute = world.plan.mode_based_execute,
        .execute_only = world.ept && world.plan.execute_only,
        .accessed_dirty = !world.ept || world.plan.accessed_dirty,
        .page_1g = world.plan.page_1g,
        .maxphyaddr = 40,
    };

    assert_int_equal(tdp_init(&world.tdp, &config), TDP_OK);
    assert_int_equal(tdp_map(&world.tdp, 0, WORLD_MAPPED, TDP_RWX, MT_WB), TDP_OK);
    assert_int_equal(tdp_unmap(&world.tdp, WORLD_UMBRA_START, WORLD_END), TDP_OK);
    world.own = (struct spec_second){
        .kind = world.ept ? SPEC_SECOND_EPT : SPEC_SECOND_NPT,
        .tables = {.format = world.ept ? SPEC_EPT4 : SPEC_LONG4,
                   .root = world.tdp.root.raw,
                   .maxphyaddr = 40,
                   .amd = !world.ept,
                   .page1gb = config.page_1g,
                   .page2mb = true,
                   .wp = true,
                   .nxe = true,
                   .execute_only = config.execute_only,
                   .mbec = world.ept && config.mode_based_execute,
                   .gmet = !world.ept && config.mode_based_execute},
    };
}

void world_seed(u64 seed)
{
    random_seed(seed);
}

void world_make(const struct world_plan *plan)
{
    memset(&world, 0, sizeof(world));
    memset(arena + WORLD_FRAMES_START, 0, WORLD_FRAMES_END - WORLD_FRAMES_START);
    world.plan = *plan;
    world.ept = spec_is_ept(plan->format);
    world.memory = (struct paging_memory){
        .load = load,
        .compare_exchange = compare_exchange,
    };
    if (plan->window || random_chance(50))
        paging_set_window(&world.memory, arena + WORLD_FRAMES_START, WORLD_FRAMES_START,
                          WORLD_FRAMES_END - WORLD_FRAMES_START);
    world.l1_memory = (struct spec_memory){.read = read_l1};
    world.all_memory = (struct spec_memory){.read = read_any};
    direct_map_base = (u64)(uintptr_t)arena;
    umbra_region = (struct mem_range){.start = WORLD_UMBRA_START, .end = WORLD_END};
    frame_pool_init(hpa(WORLD_UMBRA_START), hpa(WORLD_END));
    make_own_map();
    tdp_flushed(&world.tdp);
    const struct shadow_config config = {
        .tdp = &world.tdp,
        .memory = &world.memory,
        .cpus = plan->shoot_down != NULL ? 2 : 1,
        .shoot_down = plan->shoot_down,
        .memory_limit = WORLD_MAPPED,
        .host_pat = HOST_PAT,
        .pages = plan->pages,
        .quiet = plan->quiet,
        .advanced_information = true,
        .log_dirty = log_dirty,
    };
    world.shadow = shadow_init(&config);
    assert_non_null(world.shadow);
    assert_true(shadow_cpu_init(world.shadow, &world.cpu, 7, NULL));
    if (plan->shoot_down != NULL)
        assert_true(shadow_cpu_init(world.shadow, &world.second_cpu, 7 + SHADOW_TAGS, NULL));
    memset(world.invalidated, 1, sizeof(world.invalidated));
    for (unsigned i = 0; i < WORLD_ROOTS; i++)
        make_root(i);
    world.entry = world.root[0].second.tables;
    make_addresses();
    hardware_reset();
}

/* --- what L1 permits --- */

static bool uses_flags(const struct spec_paging *tables, unsigned level)
{
    if (spec_is_ept(tables->format))
        return tables->ept_ad;
    return tables->format != SPEC_PAE || level != 3;
}

/* Hardware sets the flags before it uses an entry, so a value without them was never used. */
static bool flags_set(const struct spec_paging *tables, unsigned level, u64 entry, bool leaf, bool write)
{
    bool ept = spec_is_ept(tables->format);

    if (!uses_flags(tables, level))
        return true;
    if ((entry & (ept ? BIT(8) : BIT(5))) == 0)
        return false;
    return !leaf || !write || (entry & (ept ? BIT(9) : BIT(6))) != 0;
}

/* SDM vol. 3A table 12-7: rows are L1's EPT type, in the place of PAT; columns are the MTRRs'. */
static unsigned combined_type(unsigned own, unsigned l1)
{
    static const u8 type[7][7] = {
        [0] = {[0] = 0, [1] = 0, [4] = 0, [5] = 0, [6] = 0},
        [1] = {[0] = 1, [1] = 1, [4] = 1, [5] = 1, [6] = 1},
        [4] = {[0] = 0, [1] = 0, [4] = 4, [5] = 4, [6] = 4},
        [5] = {[0] = 0, [1] = 0, [4] = 5, [5] = 5, [6] = 5},
        [6] = {[0] = 0, [1] = 1, [4] = 4, [5] = 5, [6] = 6},
    };
    return type[l1][own];
}

static unsigned pat_type(u64 pat, u64 entry, unsigned level)
{
    u64 high = level == 1 ? entry >> 7 & 1 : entry >> 12 & 1;
    return (unsigned)(pat >> 8 * ((entry >> 3 & 3) | high << 2) & 7);
}

static bool type_fits(u64 l1_leaf, unsigned level, u64 target, u64 shadow_leaf, unsigned shadow_level)
{
    if (world.ept)
        return (shadow_leaf >> 3 & 7) == combined_type(world_own_type(target), l1_leaf >> 3 & 7) &&
               (shadow_leaf & 0x40) == (l1_leaf & 0x40);
    unsigned l1 = pat_type(L1_PAT, l1_leaf, level), shadow = pat_type(HOST_PAT, shadow_leaf, shadow_level);
    return shadow == l1 || (shadow == 0 && (l1 == 1 || l1 == 5));
}

struct search {
    const struct spec_paging *tables;
    const struct world_access *access;
    u32 since;
    u64 target, shadow_leaf;
    unsigned shadow_level;
    struct spec_path path;
};

static bool search_level(struct search *search, unsigned level, u64 table);

static bool search_value(struct search *search, unsigned level, u64 entry)
{
    const struct spec_paging *tables = search->tables;
    const struct spec_second_access *access = &search->access->access;
    bool leaf = spec_maps_page(tables, level, entry);
    bool write = access->kind == SPEC_WRITE || (access->guest_table && (!world.ept || tables->ept_ad));

    if (!spec_present(tables, level, entry) || !flags_set(tables, level, entry, leaf, write))
        return false;
    if (world.ept ? spec_ept_misconfigured(tables, level, entry)
                  : (entry & spec_reserved_bits(tables, level, entry)) != 0)
        return false;
    search->path.step[search->path.count].entry = entry;
    search->path.step[search->path.count++].level = level;
    bool found;
    u64 next = spec_entry_address(tables, level, entry);
    if (!leaf) {
        found = search_level(search, level - 1, next);
    } else {
        u64 size = spec_entry_page_size(tables->format, level);
        u64 target = (next + search->access->address % size) & ~PAGE_MASK;
        found = target == search->target &&
                (world.ept ? spec_permission_ept(tables, access, &search->path)
                           : spec_permission_npt(tables, access, &search->path)) &&
                type_fits(entry, level, target, search->shadow_leaf, search->shadow_level);
    }
    search->path.count--;
    return found;
}

static bool search_level(struct search *search, unsigned level, u64 table)
{
    u64 index = spec_index(search->tables->format, level, search->access->address);
    u64 where = table + index * word_bytes();

    if (!world_is_table(where))
        return false;
    if (search_value(search, level, world_peek(where)))
        return true;
    u64 word = (where - WORLD_FRAMES_START) / word_bytes();
    for (unsigned i = world.history[word].count; i-- > 0 && world.history[word].end[i] > search->since;) {
        if (search_value(search, level, world.history[word].value[i]))
            return true;
    }
    return false;
}

bool world_permits(unsigned root, u32 since, const struct world_access *access, u64 target, u64 shadow_leaf,
                   unsigned shadow_level)
{
    const struct spec_paging *tables = &world.root[root].second.tables;
    struct search search = {.tables = tables,
                            .access = access,
                            .since = since,
                            .target = target & ~PAGE_MASK,
                            .shadow_leaf = shadow_leaf,
                            .shadow_level = shadow_level};

    if (access->address >> spec_address_bits(tables->format) != 0)
        return false;
    return search_level(&search, spec_levels(tables->format), spec_root_table(tables));
}

bool world_own_permits(unsigned root, u64 address, const struct spec_second_access *access)
{
    const struct spec_memory own_memory = {.read = read_own};
    struct spec_second_access final = *access;

    final.guest_table = false;
    if (access->guest_table && (!world.ept || world.root[root].second.tables.ept_ad))
        final.kind = SPEC_WRITE;
    return spec_walk_second(&world.own, &own_memory, address, &final, NULL).result == SPEC_TRANSLATED;
}

unsigned world_own_type(u64 address)
{
    struct spec_translation walk;

    return own_leaf(address, &walk) ? walk.path.step[walk.path.count - 1].entry >> 3 & 7 : 0;
}

/* --- accesses --- */

/* Some are favoured, so that the same is mapped, used, changed and used again. */
static u64 random_l2_address(void)
{
    return world.address[random_below(random_chance(70) ? 10 : WORLD_ADDRESSES)];
}

struct spec_translation world_l1_walk(unsigned root, const struct world_access *access)
{
    return spec_walk_second(&world.root[root].second, &world.l1_memory, access->address, &access->access,
                            NULL);
}

/* As the vendor reads it from the exit: see struct shadow_access. */
unsigned world_access_bits(unsigned root, const struct spec_second_access *access)
{
    struct spec_second_access seen = *access;

    if (access->guest_table && (!world.ept || world.root[root].second.tables.ept_ad))
        seen.kind = SPEC_WRITE;
    if (access->guest_table)
        seen.cpl = 3;
    return case_second_access(&world.root[root].second, &seen);
}

u32 world_supplied_bits(const struct spec_second_access *access)
{
    if (access->guest_table)
        return FAULT_LINEAR_VALID;
    return (u32)(FAULT_LINEAR_VALID | FAULT_FINAL | (access->linear_user ? FAULT_LINEAR_USER : 0) |
                 (access->linear_write ? FAULT_LINEAR_WRITE : 0) | (access->linear_nx ? FAULT_LINEAR_XD : 0));
}

struct world_access world_random_access(void)
{
    static const enum spec_kind kinds[] = {SPEC_READ, SPEC_WRITE, SPEC_WRITE, SPEC_FETCH};
    struct world_access access = {.address = random_l2_address()};

    access.access.kind = kinds[random_below(4)];
    access.access.cpl = random_chance(50) ? 3 : 0;
    access.access.linear_user = random_chance(50);
    access.access.linear_write = random_chance(50);
    access.access.linear_nx = access.access.kind != SPEC_FETCH && random_chance(50);
    if (access.access.kind == SPEC_READ && random_chance(30))
        access.access = (struct spec_second_access){.kind = SPEC_READ, .guest_table = true};
    return access;
}

/* --- edits --- */

bool world_entry(unsigned root, u64 address, unsigned level, u64 *where)
{
    const struct world_access read = {.address = address};
    struct spec_translation walk = world_l1_walk(root, &read);

    for (unsigned i = 0; i < walk.path.count; i++) {
        *where = walk.path.step[i].address;
        if (walk.path.step[i].level == level)
            return true;
    }
    return false;
}

static u64 random_frame(void)
{
    return WORLD_FRAMES_START + random_below(WORLD_FRAMES) * PAGE_SIZE;
}

u64 world_random_target(void)
{
    static const u64 gigabytes[] = {0, 0, 0, 1, 3, 5};

    if (random_chance(5))
        return random_frame();
    if (random_chance(4))
        return WORLD_UMBRA_START + random_below(4) * PAGE_SIZE;
    return GIB(gigabytes[random_below(world.plan.format == SPEC_32BIT ? 5 : 6)]) + MIB(2) * random_below(4) +
           random_below(4) * PAGE_SIZE;
}

static u64 full_rights(unsigned level)
{
    if (world.ept)
        return 0x407 | 0x300;
    return world.plan.format == SPEC_PAE && level == 3 ? 1 : 0x67;
}

static u64 plain_entry(unsigned level, bool leaf, u64 target)
{
    u64 size = spec_entry_page_size(world.plan.format, level);
    u64 entry = leaf ? target & ~(size - 1) : target;

    if (leaf && world.ept)
        entry |= 6 << 3;
    return entry | full_rights(level) | (leaf && level > 1 ? 0x80 : 0);
}

static bool may_be_leaf(unsigned level)
{
    return level == 1 || spec_maps_page(&world.entry, level, 0x80);
}

/* Does the entry lead to a table that is one? */
static bool leads_on(const struct spec_paging *tables, unsigned level, u64 entry)
{
    bool invalid = world.ept ? spec_ept_misconfigured(tables, level, entry)
                             : (entry & spec_reserved_bits(tables, level, entry)) != 0;

    return spec_present(tables, level, entry) && !spec_maps_page(tables, level, entry) && !invalid &&
           world_is_table(spec_entry_address(tables, level, entry));
}

bool world_map(unsigned root, u64 address, unsigned level, u64 target)
{
    const struct spec_paging *tables = &world.root[root].second.tables;
    u64 where;

    for (unsigned at = spec_levels(world.plan.format); at > level; at--) {
        if (!world_entry(root, address, at, &where))
            return false;
        if (!leads_on(tables, at, world_peek(where)))
            world_l1_store(
                where,
                plain_entry(at, false, WORLD_FRAMES_START + (12 + world.next_frame++ % 12) * PAGE_SIZE));
    }
    if (!world_entry(root, address, level, &where))
        return false;
    world_l1_store(where, plain_entry(level, true, target));
    return true;
}

static u64 edited(unsigned level, u64 old)
{
    bool leaf = may_be_leaf(level) && (level == 1 || random_chance(35));
    u64 target = leaf ? world_random_target() : random_frame();
    u64 rights = world.ept ? 0x407 : BIT(63) | 0x6;
    u64 dice = random_below(100);

    if (old == 0 || dice < 25)
        return random_chance(60) ? plain_entry(level, leaf, target)
                                 : case_ordinary_entry(&world.entry, level, leaf, target);
    if (dice < 50)
        return old ^ (random_u64() & rights & random_u64());
    if (dice < 65)
        return old ^ (random_u64() & (world.ept ? 0x300 : 0x60));
    if (dice < 75)
        return old | full_rights(level);
    if (dice < 80)
        return old ^ (random_u64() & (world.ept ? 0x78 : 0x98) & random_u64());
    return dice < 92 ? 0 : case_spoil_entry(&world.entry, level, old);
}

/* All the way to a page, so that there is something to change. */
static void map_at_random(void)
{
    u64 address = random_l2_address();
    unsigned level = random_chance(70) ? 1 : 2;

    if (address < BIT(spec_address_bits(world.plan.format)) && (level == 1 || may_be_leaf(level)))
        world_map((unsigned)random_below(4), address, level, world_random_target());
}

/*
 * What an L1 might write to do harm: Umbra's memory as table and as page, addresses beyond MAXPHYADDR and
 * beyond memory, the table itself and its neighbours at every level, all with any rights; and noise.
 */
static u64 hostile_entry(u64 frame)
{
    u64 rights = full_rights(1) | (random_u64() & (random_chance(50) ? 0x80 : 0xff8 | BIT(63)));
    u64 umbra = WORLD_UMBRA_START + random_below(WORLD_END - WORLD_UMBRA_START);

    switch (random_below(6)) {
    case 0:
        return random_u64();
    case 1:
        return (umbra & ~PAGE_MASK) | rights;
    case 2:
        return BIT(40 + random_below(12)) | random_frame() | rights;
    case 3:
        return frame | rights;
    case 4:
        return ((random_u64() & BITS(39, 12)) | rights);
    default:
        return random_frame() | rights;
    }
}

static void fill_with_garbage(u64 frame)
{
    u64 bytes = word_bytes();

    /* The words that the addresses in use select, and some others. */
    for (unsigned i = 0; i < WORLD_ADDRESSES; i++) {
        unsigned level = 1 + (unsigned)random_below(spec_levels(world.plan.format));
        u64 index = random_chance(80) ? spec_index(world.plan.format, level, world.address[i])
                                      : random_below(PAGE_SIZE / bytes);
        world_l1_store(frame + index * bytes, hostile_entry(frame));
    }
}

void world_random_edit(void)
{
    if (random_chance(world.plan.hostile_percent)) {
        fill_with_garbage(random_frame());
        return;
    }
    if (random_chance(8)) {
        map_at_random();
        return;
    }
    const struct world_access read = {.address = random_l2_address()};
    struct spec_translation walk = world_l1_walk((unsigned)random_below(WORLD_ROOTS), &read);

    if (walk.path.count == 0)
        return;
    /* Mostly the lowest level that is reached, so that deep tables come about. */
    unsigned i = random_chance(70) ? walk.path.count - 1 : (unsigned)random_below(walk.path.count);
    u64 where = walk.path.step[i].address;
    u64 value = edited(walk.path.step[i].level, world_peek(where));
    /* Umbra writes to a few tables only: these are always compared from then on. */
    if (where / PAGE_SIZE % 8 == 3 && random_chance(25)) {
        world_honour_flush();
        shadow_will_write(world.shadow, &world.cpu, gpa(where), word_bytes());
        world_store(where, value);
    } else {
        world_l1_store(where, value);
    }
}
