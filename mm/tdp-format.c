/* SPDX-License-Identifier: MIT */
/*
 * Encoding and decoding of EPT entries (SDM vol. 3C 29.3.2) and NPT entries (APM vol. 2 5.3 and 15.25), with
 * MBEC and GMET on or off. It decides nothing about what is mapped where.
 */
#include "mm/tdp-format.h"

static bool ept_representable(const struct tdp_config *config, unsigned access, enum memory_type type)
{
    unsigned execute = access & (TDP_XS | TDP_XU);

    if (type != MT_UC && type != MT_WC && type != MT_WT && type != MT_WP && type != MT_WB)
        return false;
    if (!config->mode_based_execute && execute != 0 && execute != (TDP_XS | TDP_XU))
        return false;
    /* Without R, W is always a misconfiguration and execute is one without execute-only support: 29.3.3.1. */
    if ((access & TDP_R) == 0)
        return (access & TDP_W) == 0 && config->execute_only;
    return true;
}

static bool npt_representable(const struct tdp_config *config, unsigned access)
{
    unsigned execute = access & (TDP_XS | TDP_XU);

    if ((access & TDP_R) == 0)
        return false;
    /* GMET can take fetches away from the supervisor alone, never from the user alone. */
    return execute == 0 || execute == (TDP_XS | TDP_XU) || (execute == TDP_XU && config->mode_based_execute);
}

bool tdp_representable(const struct tdp_config *config, unsigned access, enum memory_type type)
{
    if (access == 0)
        return true;
    if ((access & ~(unsigned)TDP_RWX) != 0)
        return false;
    return config->format == TDP_EPT ? ept_representable(config, access, type)
                                     : npt_representable(config, access);
}

bool tdp_leaf_level(const struct tdp_config *config, unsigned level)
{
    return level <= 2 || (level == 3 && config->page_1g);
}

/* A and D stay clear: Umbra needs neither of its own map, and a dirty bit must tell a guest's write. */
static u64 ept_leaf_entry(const struct tdp_config *config, u64 target, unsigned access, enum memory_type type)
{
    u64 entry = target | (u64)type << EPTE_TYPE_SHIFT;

    entry |= (access & TDP_R) != 0 ? EPTE_R : 0;
    entry |= (access & TDP_W) != 0 ? EPTE_W : 0;
    entry |= (access & TDP_XS) != 0 ? EPTE_X : 0;
    entry |= config->mode_based_execute && (access & TDP_XU) != 0 ? EPTE_XU : 0;
    return entry;
}

/*
 * A and D are set in advance so that the CPU need not write them. Without GMET every nested access is a user
 * access, so U is always set; with GMET a set U forbids the supervisor to fetch (and U says nothing about
 * data).
 */
static u64 npt_leaf_entry(const struct tdp_config *config, u64 target, unsigned access)
{
    u64 entry = target | PTE_P | PTE_A | PTE_D;
    bool user = !config->mode_based_execute || (access & (TDP_XS | TDP_XU)) == TDP_XU;

    entry |= (access & TDP_W) != 0 ? PTE_W : 0;
    entry |= user ? PTE_U : 0;
    entry |= (access & TDP_XU) != 0 ? 0 : PTE_XD;
    return entry;
}

u64 tdp_leaf_entry(const struct tdp_config *config, unsigned level, u64 target, unsigned access,
                   enum memory_type type)
{
    if (access == 0)
        return 0;
    u64 entry = config->format == TDP_EPT ? ept_leaf_entry(config, target, access, type)
                                          : npt_leaf_entry(config, target, access);
    return level > 1 ? entry | ENTRY_PS : entry;
}

u64 tdp_table_entry(const struct tdp_config *config, hpa_t table)
{
    if (config->format == TDP_NPT)
        return table.raw | PTE_P | PTE_W | PTE_U | PTE_A;
    return table.raw | EPTE_R | EPTE_W | EPTE_X | (config->mode_based_execute ? EPTE_XU : 0);
}

unsigned tdp_entry_access(const struct tdp_config *config, u64 entry)
{
    unsigned access = (entry & TDP_ASLEEP) != 0 ? TDP_W : 0;

    if (config->format == TDP_NPT) {
        bool user_only = config->mode_based_execute && (entry & PTE_U) != 0;
        access |= TDP_R | ((entry & PTE_W) != 0 ? TDP_W : 0);
        if ((entry & PTE_XD) == 0)
            access |= user_only ? TDP_XU : TDP_XS | TDP_XU;
        return access;
    }
    u64 user_execute = config->mode_based_execute ? EPTE_XU : EPTE_X;
    access |= (entry & EPTE_R) != 0 ? TDP_R : 0;
    access |= (entry & EPTE_W) != 0 ? TDP_W : 0;
    access |= (entry & EPTE_X) != 0 ? TDP_XS : 0;
    access |= (entry & user_execute) != 0 ? TDP_XU : 0;
    return access;
}

enum memory_type tdp_entry_type(const struct tdp_config *config, u64 entry)
{
    return config->format == TDP_NPT ? MT_WB : (enum memory_type)(entry >> EPTE_TYPE_SHIFT & 7);
}
