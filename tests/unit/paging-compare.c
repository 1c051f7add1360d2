/* SPDX-License-Identifier: MIT */
/*
 * Comparison of what mm/ says of a translation with what the specification says, and the printing of a whole
 * case when they differ. Rights of an entry are combined here once more, bit by bit.
 */
#include <inttypes.h>
#include <stdio.h>

#include "tests/unit/paging-case.h"

const char *case_compare_flags(const struct case_memory *memory, const struct spec_flag_sets *flags,
                               bool some)
{
    if (memory->writes > CASE_JOURNAL || flags->count >= SPEC_FLAG_SETS_MAX)
        return "more flags set than any walk can";
    for (unsigned i = 0; !some && i < flags->count; i++)
        if ((case_peek(memory, flags->set[i].address, 4) & flags->set[i].bits) != flags->set[i].bits)
            return "an accessed or dirty flag was not set";
    for (unsigned w = 0; w < memory->writes; w++) {
        u64 changed = memory->journal[w].before ^ memory->journal[w].after;
        u64 allowed = 0;

        for (unsigned i = 0; i < flags->count; i++) {
            if (flags->set[i].address == memory->journal[w].address)
                allowed |= flags->set[i].bits;
            if (flags->set[i].address == memory->journal[w].address + 4)
                allowed |= (u64)flags->set[i].bits << 32;
        }
        if ((changed & ~allowed) != 0)
            return "a bit was changed that is not to be changed";
    }
    return NULL;
}

/* mm/rights.h, of the entries of a walk that reached its leaf. */
static unsigned expected_rights(const struct spec_paging *spec, const struct spec_path *path)
{
    bool r = true, w = true, x = true, xu = true, w_above = true;
    u64 leaf = path->step[path->count - 1].entry;

    if (!spec_is_ept(spec->format)) {
        unsigned rights = RIGHT_R;
        struct spec_paging with_cet = *spec;

        with_cet.cet = true;
        rights |= spec_path_writable(spec, path) ? RIGHT_W : 0u;
        rights |= spec_path_user(spec, path) ? RIGHT_U : 0u;
        rights |= spec_path_execute_disabled(spec, path) ? 0u : RIGHT_X;
        return rights | (spec_path_shadow_stack(&with_cet, path) ? RIGHT_SS : 0u);
    }
    for (unsigned i = 0; i < path->count; i++) {
        u64 entry = path->step[i].entry;

        r = r && (entry & 1) != 0;
        w = w && (entry & 2) != 0;
        w_above = w_above && (i + 1 == path->count || (entry & 2) != 0);
        x = x && (entry & 4) != 0;
        xu = xu && (entry & 0x400) != 0;
    }
    return (r ? RIGHT_R : 0u) | (w ? RIGHT_W : 0u) | (x ? RIGHT_X : 0u) | (xu && spec->mbec ? RIGHT_XU : 0u) |
           (r && w_above && leaf >> 60 != 0 && (leaf >> 60 & 1) != 0 && spec->supervisor_shadow_stack
                ? RIGHT_SS
                : 0u);
}

static const char *compare_entries(const struct spec_translation *spec, const struct walk *code)
{
    for (unsigned i = 0; i < spec->path.count; i++) {
        unsigned level = spec->path.step[i].level;
        u64 address = spec->path.step[i].loaded ? ~0ull : spec->path.step[i].address;

        if (code->entry[level].address != address)
            return "entry address";
        if (((code->entry[level].value ^ spec->path.step[i].entry) & ~0x360ull) != 0)
            return "entry value";
        if ((spec->path.step[i].entry & ~code->entry[level].value) != 0)
            return "entry value lost a flag";
    }
    return NULL;
}

/* SHADOW STACK in guest formats counts only with CR4.CET: the code may report it or not without. */
static unsigned comparable(const struct spec_paging *spec, unsigned rights)
{
    return spec->cet || spec_is_ept(spec->format) ? rights : rights & ~(unsigned)RIGHT_SS;
}

static const char *compare_success(const struct case_tables *tables, const struct spec_translation *spec,
                                   const struct walk *code)
{
    const struct spec_paging *paging = &tables->spec;
    const char *wrong;
    u64 leaf;

    if (code->address != spec->address)
        return "translation";
    if (paging->format == SPEC_NO_PAGING)
        return code->level == 0 ? NULL : "level without paging";
    if (code->level != spec->path.step[spec->path.count - 1].level)
        return "level of the leaf";
    if (paging_level_span(role_format(tables->code.role), code->level) != spec->page_size)
        return "page size";
    leaf = spec->path.step[spec->path.count - 1].entry;
    if (comparable(paging, code->rights) != comparable(paging, expected_rights(paging, &spec->path)))
        return "accumulated rights";
    if ((paging->format == SPEC_LONG4 || paging->format == SPEC_LONG5) && code->key != (leaf >> 59 & 15))
        return "protection key";
    wrong = compare_entries(spec, code);
    if (wrong == NULL && ((code->leaf ^ leaf) & ~0x360ull) != 0)
        wrong = "leaf value";
    return wrong;
}

/* Which entry is to blame, and that all entries down to it are reported; above the root if none was read. */
static const char *compare_blame(const struct spec_paging *paging, const struct spec_translation *spec,
                                 const struct walk *code)
{
    unsigned read = spec->path.count;

    if (code->fault.level != (read == 0 ? spec_levels(paging->format) + 1 : spec->path.step[read - 1].level))
        return "level of the fault";
    return compare_entries(spec, code);
}

static const char *compare_memory_failure(const struct spec_translation *spec, enum walk_status status)
{
    if (spec->result == SPEC_NO_MEMORY)
        return status == WALK_NOT_MEMORY ? NULL : "a table that is not memory";
    return status == WALK_NOT_MEMORY ? "memory was refused" : NULL;
}

const char *case_compare_walk(const struct case_tables *tables, const struct spec_translation *spec,
                              enum walk_status status, const struct walk *code)
{
    if (spec->result == SPEC_NO_MEMORY || status == WALK_NOT_MEMORY)
        return compare_memory_failure(spec, status);
    if ((spec->result == SPEC_TRANSLATED) != (status == WALK_OK))
        return "fault or not";
    if (spec->result == SPEC_TRANSLATED)
        return compare_success(tables, spec, code);
    if (fault_pf_error_code(tables->code.role, &code->fault) != spec->code)
        return "#PF error code";
    return compare_blame(&tables->spec, spec, code);
}

const char *case_compare_second(const struct spec_second *second, const struct case_tables *tables,
                                const struct spec_translation *spec, enum walk_status status,
                                const struct walk *code)
{
    if (spec->result == SPEC_NO_MEMORY || status == WALK_NOT_MEMORY)
        return compare_memory_failure(spec, status);
    if ((spec->result == SPEC_TRANSLATED) != (status == WALK_OK))
        return "fault or not";
    if (spec->result == SPEC_TRANSLATED)
        return compare_success(tables, spec, code);
    if (code->fault.address != spec->gpa)
        return "guest-physical address of the fault";
    if ((spec->result == SPEC_EPT_MISCONFIGURATION) !=
        (second->kind == SPEC_SECOND_EPT && code->fault.reason == FAULT_RESERVED))
        return "misconfiguration or violation";
    if (spec->result == SPEC_EPT_VIOLATION) {
        u64 qualification = fault_ept_qualification(tables->code.role, &code->fault, second->advanced);

        if (((qualification ^ spec->qualification) & ~spec->qualification_undefined) != 0)
            return "exit qualification";
        if ((qualification & spec->qualification_undefined & 0xE40) != 0)
            return "undefined qualification bits that Umbra reports as 0";
    }
    if (spec->result == SPEC_NPF && fault_npf_exit_info_1(tables->code.role, &code->fault) != spec->exitinfo1)
        return "EXITINFO1";
    return compare_blame(&tables->spec, spec, code);
}

/* --- printing
 * ------------------------------------------------------------------------------------------------------ */

void case_print_tables(const char *name, const struct spec_paging *spec)
{
    static const char *const formats[] = {"no paging", "32-bit", "PAE", "4-level", "5-level", "EPT4", "EPT5"};

    printf("  %s: %s root %#" PRIx64 " maxphyaddr %u%s%s%s\n", name, formats[spec->format], spec->root,
           spec->maxphyaddr, spec->amd ? " AMD" : "", spec->page1gb ? " 1G" : "", spec->pse ? " PSE" : "");
    printf("    wp %d nxe %d smep %d smap %d pke %d pks %d cet %d pkru %#x pkrs %#x gmet %d\n", spec->wp,
           spec->nxe, spec->smep, spec->smap, spec->pke, spec->pks, spec->cet, spec->pkru, spec->pkrs,
           spec->gmet);
    printf("    mbec %d execute-only %d A/D %d sss %d\n", spec->mbec, spec->execute_only, spec->ept_ad,
           spec->supervisor_shadow_stack);
    if (spec->pdpte_loaded)
        printf("    PDPTEs %#" PRIx64 " %#" PRIx64 " %#" PRIx64 " %#" PRIx64 "\n", spec->pdpte[0],
               spec->pdpte[1], spec->pdpte[2], spec->pdpte[3]);
}

void case_print_access(const struct spec_access *access)
{
    static const char *const kinds[] = {"read", "write", "fetch"};

    printf("  access: %s cpl %u ac %d implicit %d shadow-stack %d wruss %d\n", kinds[access->kind],
           access->cpl, access->ac, access->implicit, access->shadow_stack, access->wruss);
}

void case_print_translation(const char *name, const struct spec_translation *spec)
{
    static const char *const results[] = {"translated",           "#PF",  "EPT violation",
                                          "EPT misconfiguration", "#NPF", "no memory"};

    printf("  %s says: %s address %#" PRIx64 " size %#" PRIx64 " code %#x qualification %#" PRIx64
           " (undefined %#" PRIx64 ") exitinfo1 %#" PRIx64 " gpa %#" PRIx64 "\n",
           name, results[spec->result], spec->address, spec->page_size, spec->code, spec->qualification,
           spec->qualification_undefined, spec->exitinfo1, spec->gpa);
    for (unsigned i = 0; i < spec->path.count; i++)
        printf("    level %u at %#" PRIx64 ": %#018" PRIx64 "%s\n", spec->path.step[i].level,
               spec->path.step[i].address, spec->path.step[i].entry,
               spec->path.step[i].loaded ? " (register)" : "");
}

void case_print_walk(const char *name, enum walk_status status, const struct walk *code)
{
    static const char *const statuses[] = {"ok", "fault", "not memory", "contended"};

    printf("  %s says: %s address %#" PRIx64 " level %u root level %u rights %#x key %u leaf %#" PRIx64 "\n",
           name, statuses[status], code->address, code->level, code->root_level, code->rights, code->key,
           code->leaf);
    printf("    fault: reason %u level %u access %#x rights %#x key %d ss %d supplied %#x address %#" PRIx64
           "\n",
           code->fault.reason, code->fault.level, code->fault.access, code->fault.rights, code->fault.key,
           code->fault.ss_entry, code->fault.supplied, code->fault.address);
    for (unsigned level = code->root_level; level >= 1 && level <= PAGING_LEVELS_MAX; level--)
        printf("    level %u at %#" PRIx64 ": %#018" PRIx64 "\n", level, code->entry[level].address,
               code->entry[level].value);
}

void case_print_flags(const struct case_memory *memory, const struct spec_flag_sets *flags)
{
    printf("  memory at %#" PRIx64 ", window of %#" PRIx64 " bytes\n", memory->base,
           memory->code.window_bytes);
    for (unsigned i = 0; i < flags->count; i++)
        printf("    to be set: %#x at %#" PRIx64 "\n", flags->set[i].bits, flags->set[i].address);
    for (unsigned w = 0; w < memory->writes && w < CASE_JOURNAL; w++)
        printf("    written: %#" PRIx64 " over %#" PRIx64 " at %#" PRIx64 "\n", memory->journal[w].after,
               memory->journal[w].before, memory->journal[w].address);
}
