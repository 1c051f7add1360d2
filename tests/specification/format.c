/* SPDX-License-Identifier: MIT */
/*
 * What one entry of each paging structure is: present or not, table or page, which bits must be zero, and
 * where it points. From SDM 4.3, 4.4, 4.5 (tables 4-4 to 4-20), 29.3.2 (tables 29-1 to 29-7) and
 * APM 5.2, 5.3.
 */
#include "tests/specification/specification.h"

bool spec_is_ept(enum spec_format format)
{
    return format == SPEC_EPT4 || format == SPEC_EPT5;
}

/* SDM table 4-1 and 29.3.2: page directory and page table; and up to three levels above. */
unsigned spec_levels(enum spec_format format)
{
    switch (format) {
    case SPEC_32BIT:
        return 2;
    case SPEC_PAE:
        return 3;
    case SPEC_LONG4:
    case SPEC_EPT4:
        return 4;
    case SPEC_LONG5:
    case SPEC_EPT5:
        return 5;
    case SPEC_NO_PAGING:
        break;
    }
    return 0;
}

/* SDM 4.3: 32-bit paging has 4-byte entries; all others have 8-byte ones. */
unsigned spec_entry_bytes(enum spec_format format)
{
    return format == SPEC_32BIT ? 4 : 8;
}

/* SDM table 4-1 and 29.3.2: how many low bits of an input address the tables translate. */
unsigned spec_address_bits(enum spec_format format)
{
    switch (format) {
    case SPEC_32BIT:
    case SPEC_PAE:
        return 32;
    case SPEC_LONG4:
    case SPEC_EPT4:
        return 48;
    default:
        return 57;
    }
}

/*
 * SDM tables 4-3, 4-7, 4-12 and 25-9; APM 15.25.4. The first table: CR3 bits 31:12 (32-bit), 31:5 (PAE),
 * 51:12 (the others). LAM's CR3 bits 62:61 and the EPTP's low control bits are no address.
 */
u64 spec_root_table(const struct spec_paging *paging)
{
    switch (paging->format) {
    case SPEC_32BIT:
        return paging->root & 0xFFFFF000u;
    case SPEC_PAE:
        return paging->root & 0xFFFFFFE0u;
    default:
        return paging->root & 0x000FFFFFFFFFF000u;
    }
}

/* SDM 4.3 (figure 4-2): ten bits each; 4.4.2: two bits choose the PDPTE, then nine each; 4.5, 29.3.2: nine
 * each. */
u64 spec_index(enum spec_format format, unsigned level, u64 address)
{
    if (format == SPEC_32BIT)
        return level == 2 ? (address >> 22) % 1024 : (address >> 12) % 1024;
    if (format == SPEC_PAE && level == 3)
        return (address >> 30) % 4;
    switch (level) {
    case 5:
        return (address >> 48) % 512;
    case 4:
        return (address >> 39) % 512;
    case 3:
        return (address >> 30) % 512;
    case 2:
        return (address >> 21) % 512;
    default:
        return (address >> 12) % 512;
    }
}

/* The bytes of address space that one entry of a level stands for. */
u64 spec_entry_page_size(enum spec_format format, unsigned level)
{
    if (level == 1)
        return KIB(4);
    if (level == 2)
        return format == SPEC_32BIT ? MIB(4) : MIB(2);
    return level == 3 ? GIB(1) : level == 4 ? GIB(512) : GIB(256 * 1024);
}

/*
 * SDM 4.3 to 4.5: bit 0. SDM 29.3.2: an EPT entry is present if any of bits 2:0 is 1, or, while MBEC is on,
 * if bit 10 is 1.
 */
bool spec_present(const struct spec_paging *paging, unsigned level, u64 entry)
{
    (void)level;
    if (!spec_is_ept(paging->format))
        return (entry & 0x1) != 0;
    if ((entry & 0x7) != 0)
        return true;
    return paging->mbec && (entry & 0x400) != 0;
}

/*
 * Level 1 entries always map a page (bit 7 is PAT there, or ignored in EPT). PS (bit 7) makes a PDE map 2
 * MByte; in 32-bit paging 4 MByte, if CR4.PSE = 1, else it is ignored (SDM 4.3). A PDPTE of 4- and 5-level
 * paging or EPT maps 1 GByte with PS = 1 (SDM 4.5, 29.3.2). A PAE PDPTE maps no page, nor does a PML4E or
 * PML5E: there bit 7 is reserved.
 */
bool spec_maps_page(const struct spec_paging *paging, unsigned level, u64 entry)
{
    bool ps = (entry & 0x80) != 0;

    if (level == 1)
        return true;
    if (level == 2)
        return ps && (paging->format != SPEC_32BIT || paging->pse);
    if (level == 3)
        return ps && paging->format != SPEC_PAE;
    return false;
}

/* SDM 4.1.4: physical-address bits at and above MAXPHYADDR, up to `top`. */
static u64 address_bits_beyond(const struct spec_paging *paging, unsigned top)
{
    u64 bits = 0;

    for (unsigned bit = 32; bit <= 63; bit++)
        if (bit >= paging->maxphyaddr && bit <= top)
            bits |= 1ull << bit;
    return bits;
}

/*
 * SDM tables 4-4 to 4-6: only a PDE that maps 4 MByte has reserved bits. With PSE-36 bits 20:13 are
 * physical-address bits 39:32, of which those at or above M = min(40, MAXPHYADDR) are reserved, as is bit 21.
 * Without PSE-36 bits 21:13 are reserved.
 */
static u64 reserved_32bit(const struct spec_paging *paging, unsigned level, u64 entry)
{
    u64 bits = 1u << 21;

    if (level != 2 || !spec_maps_page(paging, level, entry))
        return 0;
    for (unsigned bit = 13; bit <= 20; bit++)
        if (!paging->pse36 || bit - 13 + 32 >= paging->maxphyaddr)
            bits |= 1u << bit;
    return bits;
}

/*
 * SDM table 4-8: in a PAE PDPTE bits 2:1, 8:5 and 63:MAXPHYADDR are reserved. Tables 4-9 to 4-11: in the
 * lower levels bits 62:MAXPHYADDR, bit 63 if EFER.NXE = 0, and bits 20:13 of a PDE that maps 2 MByte.
 * APM 5.2.3 (figures 5-9 to 5-14) says the same.
 */
static u64 reserved_pae(const struct spec_paging *paging, unsigned level, u64 entry)
{
    u64 bits;

    if (level == 3)
        return address_bits_beyond(paging, 63) | 0x1E6;
    bits = address_bits_beyond(paging, 62);
    if (!paging->nxe)
        bits |= 1ull << 63;
    if (level == 2 && spec_maps_page(paging, level, entry))
        bits |= 0x1FE000;
    return bits;
}

/*
 * SDM tables 4-14 to 4-20: bits 51:MAXPHYADDR; bit 63 if EFER.NXE = 0; bit 7 of a PML5E or PML4E; bit 7 of a
 * PDPTE where 1-GByte pages are not supported (4.1.4); bits 29:13 of a PDPTE that maps 1 GByte, bits 20:13 of
 * a PDE that maps 2 MByte. APM 5.3.3, 5.3.4 (figures 5-18, 5-22): AMD CPUs want bit 8 of a PML5E or PML4E
 * zero as well.
 */
static u64 reserved_long(const struct spec_paging *paging, unsigned level, u64 entry)
{
    u64 bits = address_bits_beyond(paging, 51);

    if (!paging->nxe)
        bits |= 1ull << 63;
    if (level >= 4)
        bits |= paging->amd ? 0x180 : 0x80;
    if (level == 3 && !paging->page1gb)
        bits |= 0x80;
    if (level == 3 && (entry & 0x80) != 0 && paging->page1gb)
        bits |= 0x3FFFE000;
    if (level == 2 && (entry & 0x80) != 0)
        bits |= 0x1FE000;
    return bits;
}

/*
 * SDM tables 29-1 to 29-7: bits 51:MAXPHYADDR; bits 7:3 of a PML5E or PML4E; bits 6:3 of a PDPTE or PDE that
 * points to a table; bits 29:12 of a PDPTE that maps 1 GByte, bits 20:12 of a PDE that maps 2 MByte; bit 7
 * where that page size is not supported (appendix A.10, bits 16 and 17).
 */
static u64 reserved_ept(const struct spec_paging *paging, unsigned level, u64 entry)
{
    u64 bits = address_bits_beyond(paging, 51);
    bool page = spec_maps_page(paging, level, entry);

    if (level >= 4)
        bits |= 0xF8;
    if ((level == 3 || level == 2) && !page)
        bits |= 0x78;
    if (level == 3 && page)
        bits |= 0x3FFFF000u | (paging->page1gb ? 0 : 0x80);
    if (level == 2 && page)
        bits |= 0x1FF000u | (paging->page2mb ? 0 : 0x80);
    return bits;
}

u64 spec_reserved_bits(const struct spec_paging *paging, unsigned level, u64 entry)
{
    if (paging->format == SPEC_32BIT)
        return reserved_32bit(paging, level, entry);
    if (paging->format == SPEC_PAE)
        return reserved_pae(paging, level, entry);
    if (spec_is_ept(paging->format))
        return reserved_ept(paging, level, entry);
    return reserved_long(paging, level, entry);
}

/*
 * SDM 29.3.3.1, for a present entry. Bit 0 clear and bit 1 set. Without support for execute-only
 * translations: bit 0 clear and bit 2 set, or, with MBEC, bit 0 clear and bit 10 set. A reserved bit set. A
 * leaf with memory type 2, 3 or 7.
 */
bool spec_ept_misconfigured(const struct spec_paging *paging, unsigned level, u64 entry)
{
    bool r = (entry & 0x1) != 0, w = (entry & 0x2) != 0, x = (entry & 0x4) != 0;
    bool xu = paging->mbec && (entry & 0x400) != 0;
    unsigned memory_type = (unsigned)(entry >> 3) & 7;

    if (!r && w)
        return true;
    if (!r && (x || xu) && !paging->execute_only)
        return true;
    if ((entry & spec_reserved_bits(paging, level, entry)) != 0)
        return true;
    return spec_maps_page(paging, level, entry) && (memory_type == 2 || memory_type == 3 || memory_type == 7);
}

/*
 * The table or page that an entry without reserved bits points to. 32-bit paging: bits 31:12; a 4-MByte page
 * has bits 31:22 there and bits 39:32 in bits 20:13 (SDM table 4-4). Else bits 51:12, cut to the page's size.
 */
u64 spec_entry_address(const struct spec_paging *paging, unsigned level, u64 entry)
{
    u64 address = entry & 0x000FFFFFFFFFF000u;

    if (paging->format == SPEC_32BIT) {
        if (level == 2 && spec_maps_page(paging, level, entry))
            return (entry & 0xFFC00000u) | ((entry >> 13) & 0xFF) << 32;
        return entry & 0xFFFFF000u;
    }
    if (level > 1 && spec_maps_page(paging, level, entry))
        address -= address % spec_entry_page_size(paging->format, level);
    return address;
}
