/* SPDX-License-Identifier: MIT */
/*
 * Roles from control registers, reserved bits from roles; see mm/paging-format.h for the sources. It runs
 * when a mode changes, never during a walk.
 */
#include "mm/paging-format.h"
#include "arch/x86.h"

/* The extended-page-table pointer, SDM vol. 3C table 25-9. */
#define EPTP_WALK_LENGTH BITS(5, 3) /* minus 1 */
#define EPTP_LENGTH_5    (4ull << 3)
#define EPTP_AD          BIT(6)
#define EPTP_SSS         BIT(7)

enum { PSE36_WIDTH = 40 }; /* bits of the widest address that a 4-MByte page can have */

static u32 flag(bool condition, u64 role_bit)
{
    return condition ? (u32)role_bit : 0;
}

static u32 role_base(const struct paging_cpu *cpu, enum paging_format_id format)
{
    return (u32)format | cpu->maxphyaddr << ROLE_MAXPHYADDR_SHIFT;
}

static enum paging_format_id format_of_mode(u64 cr0, u64 cr4, u64 efer)
{
    if ((cr0 & CR0_PG) == 0)
        return PAGING_NONE;
    if ((efer & EFER_LMA) != 0)
        return (cr4 & CR4_LA57) != 0 ? PAGING_5LEVEL : PAGING_4LEVEL;
    return (cr4 & CR4_PAE) != 0 ? PAGING_PAE : PAGING_32BIT;
}

/* What guest tables and NPT have in common. */
static u32 role_of_mode(const struct paging_cpu *cpu, enum paging_format_id format, u64 cr4, u64 efer)
{
    bool long_mode = format == PAGING_4LEVEL || format == PAGING_5LEVEL;

    return role_base(cpu, format) | flag(format != PAGING_32BIT && (efer & EFER_NXE) != 0, ROLE_NXE) |
           flag((cr4 & CR4_SMEP) != 0, ROLE_SMEP) |
           flag(format == PAGING_32BIT && (cr4 & CR4_PSE) != 0, ROLE_PSE) |
           flag(long_mode && cpu->page_1g, ROLE_PAGE_1G) | flag(long_mode && cpu->amd, ROLE_BIT8_RSVD);
}

struct paging_role paging_role_guest(const struct paging_cpu *cpu, u64 cr0, u64 cr4, u64 efer)
{
    enum paging_format_id format = format_of_mode(cr0, cr4, efer);
    bool long_mode = format == PAGING_4LEVEL || format == PAGING_5LEVEL;

    if (format == PAGING_NONE)
        return (struct paging_role){PAGING_NONE};
    return (struct paging_role){role_of_mode(cpu, format, cr4, efer) | flag((cr0 & CR0_WP) != 0, ROLE_WP) |
                                flag((cr4 & CR4_SMAP) != 0, ROLE_SMAP) |
                                flag((cr4 & CR4_CET) != 0, ROLE_CET) |
                                flag(long_mode && (cr4 & CR4_PKE) != 0, ROLE_PKU) |
                                flag(long_mode && (cr4 & CR4_PKS) != 0, ROLE_PKS)};
}

struct paging_role paging_role_npt(const struct paging_cpu *cpu, u64 cr0, u64 cr4, u64 efer, bool gmet)
{
    enum paging_format_id format = format_of_mode(cr0, cr4, efer);

    if (format == PAGING_NONE)
        return (struct paging_role){PAGING_NONE};
    return (struct paging_role){role_of_mode(cpu, format, cr4, efer) | (u32)(ROLE_NPT | ROLE_WP) |
                                flag(gmet, ROLE_GMET)};
}

struct paging_role paging_role_ept(const struct paging_cpu *cpu, u64 eptp, bool mbec, bool spp)
{
    bool length_5 = (eptp & EPTP_WALK_LENGTH) == EPTP_LENGTH_5;

    return (struct paging_role){
        role_base(cpu, length_5 ? PAGING_EPT5 : PAGING_EPT4) | flag(mbec, ROLE_MBEC) |
        flag(cpu->execute_only, ROLE_EXECUTE_ONLY) | flag((eptp & EPTP_AD) != 0, ROLE_EPT_AD) |
        flag((eptp & EPTP_SSS) != 0, ROLE_EPT_SSS) | flag(spp, ROLE_SPP) | flag(cpu->page_1g, ROLE_PAGE_1G)};
}

static u64 address_bits_reserved(struct paging_role role)
{
    unsigned width = role_maxphyaddr(role);

    return width < 52 ? BITS(51, width) : 0;
}

static bool is_large_page(struct paging_role role, unsigned level, bool bit7)
{
    return bit7 && (level == 2 || (level == 3 && role_has(role, ROLE_PAGE_1G)));
}

/* PSE-36: bits 20:13 are address bits 39:32, SDM vol. 3A table 4-4. */
static u64 reserved_32bit(struct paging_role role, unsigned level, bool bit7)
{
    unsigned width = role_maxphyaddr(role);

    if (level != 2 || !bit7 || !role_has(role, ROLE_PSE))
        return 0;
    return BIT(21) | (width < PSE36_WIDTH ? BITS(20, 13 + width - 32) : 0);
}

/* SDM vol. 3A tables 4-8 to 4-11. */
static u64 reserved_pae(struct paging_role role, unsigned level, bool bit7)
{
    u64 reserved = address_bits_reserved(role);

    if (level == 3)
        return reserved | BITS(2, 1) | BITS(8, 5) | BITS(63, 52);
    reserved |= BITS(62, 52) | (role_has(role, ROLE_NXE) ? 0 : PTE_XD);
    return level == 2 && bit7 ? reserved | BITS(20, 13) : reserved;
}

/* SDM vol. 3A tables 4-14 to 4-20; bit 8 of AMD: APM vol. 2 5.3.3 and 5.3.4. */
static u64 reserved_long_mode(struct paging_role role, unsigned level, bool bit7)
{
    u64 reserved = address_bits_reserved(role) | (role_has(role, ROLE_NXE) ? 0 : PTE_XD);

    if (level == 1)
        return reserved;
    if (is_large_page(role, level, bit7))
        return reserved | (level == 2 ? BITS(20, 13) : BITS(29, 13));
    if (level >= 4 && role_has(role, ROLE_BIT8_RSVD))
        reserved |= BIT(8);
    return bit7 ? reserved | ENTRY_PS : reserved;
}

/* SDM vol. 3C tables 29-1 to 29-7. */
static u64 reserved_ept(struct paging_role role, unsigned level, bool bit7)
{
    u64 reserved = address_bits_reserved(role);

    if (level == 1)
        return reserved;
    if (is_large_page(role, level, bit7))
        return reserved | (level == 2 ? BITS(20, 12) : BITS(29, 12));
    return reserved | BITS(6, 3) | (bit7 ? ENTRY_PS : 0);
}

u64 paging_reserved_bits(struct paging_role role, unsigned level, bool bit7)
{
    switch (role_format(role)) {
    case PAGING_32BIT:
        return reserved_32bit(role, level, bit7);
    case PAGING_PAE:
        return reserved_pae(role, level, bit7);
    case PAGING_4LEVEL:
    case PAGING_5LEVEL:
        return reserved_long_mode(role, level, bit7);
    case PAGING_EPT4:
    case PAGING_EPT5:
        return reserved_ept(role, level, bit7);
    default:
        return 0;
    }
}

static bool ept_value_misconfigured(struct paging_role role, unsigned low_bits, bool execute_for_user)
{
    unsigned type = low_bits >> EPTE_TYPE_SHIFT;
    bool execute = (low_bits & EPTE_X) != 0 || execute_for_user;
    bool present = (low_bits & (EPTE_R | EPTE_W)) != 0 || execute;

    if (!present)
        return false;
    if (type == 2 || type == 3 || type == 7)
        return true;
    if ((low_bits & EPTE_R) != 0)
        return false;
    return (low_bits & EPTE_W) != 0 || !role_has(role, ROLE_EXECUTE_ONLY);
}

u64 paging_ept_misconfigured(struct paging_role role, bool xu)
{
    u64 set = 0;

    for (unsigned low_bits = 0; low_bits < 64; low_bits++) {
        if (ept_value_misconfigured(role, low_bits, xu && role_has(role, ROLE_MBEC)))
            set |= BIT(low_bits);
    }
    return set;
}
