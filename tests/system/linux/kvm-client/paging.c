/* SPDX-License-Identifier: MIT */
/*
 * Page tables of L2's own, in all formats of SDM volume 3, chapter 4: 32-bit, PAE and 4-level.
 */
#include <string.h>

#include "tests/system/linux/kvm-client/client.h"

enum { LOW_BYTES = 0x200000 };

static unsigned levels_of(enum format format)
{
    return format == FORMAT_LONG ? 4 : format == FORMAT_PAE ? 3 : 2;
}

static u64 new_table(struct vm *vm)
{
    u64 table = vm->next_table;
    vm->next_table += PAGE_SIZE;
    if (vm->next_table > L2_DATA)
        end_group("too many page tables");
    memset(vm->memory + table, 0, PAGE_SIZE);
    return table;
}

u64 get_entry(struct vm *vm, enum format format, u64 entry)
{
    u64 value = 0;
    memcpy(&value, vm->memory + entry, format == FORMAT_32 ? 4 : 8);
    return value;
}

void set_entry(struct vm *vm, enum format format, u64 entry, u64 value)
{
    memcpy(vm->memory + entry, &value, format == FORMAT_32 ? 4 : 8);
}

static u64 entry_in(enum format format, u64 table, u64 va, unsigned level)
{
    unsigned width = format == FORMAT_32 ? 10 : 9, bytes = format == FORMAT_32 ? 4 : 8;
    u64 index = va >> (12 + width * (level - 1)) & ((1u << width) - 1);
    return table + index * bytes;
}

u64 entry_of(struct vm *vm, enum format format, u64 root, u64 va, unsigned level)
{
    u64 table = root;
    for (unsigned at = levels_of(format); at > level; at--)
        table = get_entry(vm, format, entry_in(format, table, va, at)) & BITS(51, 12);
    return entry_in(format, table, va, level);
}

void map(struct vm *vm, enum format format, u64 root, u64 va, u64 pa, unsigned level, u64 flags)
{
    u64 table = root;
    for (unsigned at = levels_of(format); at > level; at--) {
        u64 entry = entry_in(format, table, va, at);
        /* The four top entries of PAE have no rights. */
        u64 rights = format == FORMAT_PAE && at == 3 ? PTE_P : PTE_P | PTE_W | PTE_U;
        if ((get_entry(vm, format, entry) & PTE_P) == 0)
            set_entry(vm, format, entry, new_table(vm) | rights);
        table = get_entry(vm, format, entry) & BITS(51, 12);
    }
    set_entry(vm, format, entry_in(format, table, va, level), pa | flags | (level > 1 ? PTE_PS : 0));
}

u64 new_root(struct vm *vm, enum format format, bool user)
{
    u64 root = new_table(vm);
    for (u64 page = 0; page < LOW_BYTES; page += PAGE_SIZE) {
        bool for_user = user && (page == L2_CODE || page == (L2_STACK & ~PAGE_MASK));
        map(vm, format, root, page, page, 1, PTE_P | PTE_W | (for_user ? PTE_U : 0));
    }
    return root;
}
