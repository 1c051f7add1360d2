/* SPDX-License-Identifier: MIT */
/* The bridge to mm/'s walker, permission engine and fault encodings; it decides nothing itself. */
#include "tests/guest/oracle.h"

#include "arch/x86.h"
#include "mm/walk.h"

enum { SECOND_R = 1, SECOND_W = 2, SECOND_XS = 4, SECOND_XU = 8 };

static struct paging paging;
static u64 root;

static enum memory_status load(const struct paging_memory *memory, gpa_t address, unsigned bytes, u64 *value)
{
    (void)memory;
    if (bytes == sizeof(u32))
        *value = *(volatile u32 *)address.raw;
    else
        *value = *(volatile u64 *)address.raw;
    return MEMORY_OK;
}

/* There is one CPU, and it is here: nothing changes in between. */
static enum memory_status compare_exchange(const struct paging_memory *memory, gpa_t address, unsigned bytes,
                                           u64 expected, u64 desired)
{
    u64 value;

    load(memory, address, bytes, &value);
    if (value != expected)
        return MEMORY_CHANGED;
    if (bytes == sizeof(u32))
        *(volatile u32 *)address.raw = (u32)desired;
    else
        *(volatile u64 *)address.raw = desired;
    return MEMORY_OK;
}

static const struct paging_memory memory = {.load = load, .compare_exchange = compare_exchange};

void oracle_set(const struct oracle_machine *machine)
{
    struct paging_cpu cpu = {
        .maxphyaddr = machine->maxphyaddr, .page_1g = machine->page_1g, .amd = machine->amd};

    paging_init(&paging, paging_role_guest(&cpu, machine->cr0, machine->cr4, machine->efer));
    permission_set_keys(&paging.permission, paging.role, machine->pkru, machine->pkrs);
    paging.pdptes = machine->pdptes;
    root = machine->cr3;
}

static unsigned kind_bits(enum oracle_kind kind)
{
    return kind == ORACLE_FETCH ? ACCESS_FETCH : kind == ORACLE_WRITE ? ACCESS_WRITE : ACCESS_READ;
}

struct oracle_answer oracle_access(u64 linear, const struct oracle_access *access)
{
    unsigned bits = kind_bits(access->kind) | (access->user ? ACCESS_USER : 0u);
    struct oracle_answer answer = {.fault = false};
    struct walk walk;
    unsigned rights;

    if (access->ac && !access->user && access->kind != ORACLE_FETCH)
        bits |= ACCESS_AC;
    answer.fault = walk_and_mark(&paging, &memory, root, linear, bits, &walk) != WALK_OK;
    answer.physical = answer.fault ? 0 : walk.address;
    answer.level = answer.fault ? walk.fault.level : walk.level;
    rights = answer.fault ? walk.fault.rights : walk.rights;
    answer.user_page = (rights & RIGHT_U) != 0;
    answer.walked = !answer.fault || walk.fault.reason == FAULT_PERMISSION;
    if (!answer.fault)
        return answer;
    answer.error_code = fault_pf_error_code(paging.role, &walk.fault);
    answer.key = answer.walked && walk.fault.key;
    answer.rights = answer.walked && permission_rights_fault(&paging.permission, bits, rights);
    return answer;
}

/* Umbra's own EPT or NPT, as vmx/ and svm/ set it up. */
static struct paging_role second_role(const struct oracle_second *format)
{
    const struct paging_cpu cpu = {
        .maxphyaddr = 52, .page_1g = true, .execute_only = true, .amd = !format->intel};

    if (format->intel)
        return paging_role_ept(&cpu, 3u << 3 | (format->ept_ad ? BIT(6) : 0), format->mode_based, false);
    return paging_role_npt(&cpu, CR0_PE | CR0_PG | CR0_WP, CR4_PAE, EFER_LME | EFER_LMA | EFER_NXE,
                           format->mode_based);
}

/* What the entries of a page with these permissions accumulate to. */
static unsigned second_rights(const struct oracle_second *format, unsigned permissions)
{
    unsigned rights = (permissions & SECOND_R) != 0 ? RIGHT_R : 0u;

    rights |= (permissions & SECOND_W) != 0 ? RIGHT_W : 0u;
    if (format->intel) {
        rights |= (permissions & SECOND_XS) != 0 ? RIGHT_X : 0u;
        return rights | (format->mode_based && (permissions & SECOND_XU) != 0 ? RIGHT_XU : 0u);
    }
    rights |= (permissions & SECOND_XU) != 0 ? RIGHT_X : 0u;
    /* GMET: a page of the user's is one that the supervisor may not fetch from. */
    if (!format->mode_based || (permissions & (SECOND_XS | SECOND_XU)) == SECOND_XU)
        rights |= RIGHT_U;
    return rights;
}

static unsigned second_access(const struct oracle_second *format, const struct oracle_access *access,
                              const struct oracle_linear *linear)
{
    unsigned bits = kind_bits(access->kind);

    if (linear->table) /* EPT: with A/D flags every access to a table is a write; NPT: a user's write */
        return format->intel ? (format->ept_ad ? ACCESS_WRITE : bits) : ACCESS_WRITE | ACCESS_USER;
    if (format->intel)
        return bits | (access->kind == ORACLE_FETCH && linear->user ? ACCESS_USER : 0u);
    return bits | (access->user ? ACCESS_USER : 0u);
}

struct oracle_violation oracle_second(const struct oracle_second *format, unsigned permissions,
                                      const struct oracle_access *access, const struct oracle_linear *linear)
{
    struct paging_role role = second_role(format);
    struct fault fault = {.reason = permissions == 0 ? FAULT_NOT_PRESENT : FAULT_PERMISSION};
    struct oracle_violation answer;

    fault.access = (u8)second_access(format, access, linear);
    fault.rights = permissions == 0 ? 0 : (u8)second_rights(format, permissions);
    fault.supplied = (u32)(FAULT_LINEAR_VALID | (linear->table ? 0 : FAULT_FINAL) |
                           (linear->user ? FAULT_LINEAR_USER : 0) | (linear->write ? FAULT_LINEAR_WRITE : 0) |
                           (linear->execute_disabled ? FAULT_LINEAR_XD : 0));
    paging_init(&paging, role);
    answer.violation =
        permissions == 0 || permission_rights_fault(&paging.permission, fault.access, fault.rights);
    answer.reason = format->intel ? fault_ept_qualification(role, &fault, format->advanced)
                                  : fault_npf_exit_info_1(role, &fault);
    return answer;
}
