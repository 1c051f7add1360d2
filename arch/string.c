/* SPDX-License-Identifier: MIT */
/*
 * Memory and string functions. Copies and fills use the string instructions, eight bytes a step: they are
 * short, need no vector register, and count few instructions.
 */
#include "arch/string.h"

#include "arch/types.h"

void *memcpy(void *restrict dst, const void *restrict src, size_t bytes)
{
    void *to = dst;
    const void *from = src;
    size_t words = bytes / 8, rest = bytes % 8;
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(rest) : : "memory");
    return dst;
}

void *memmove(void *dst, const void *src, size_t bytes)
{
    if ((uintptr_t)dst - (uintptr_t)src >= bytes)
        return memcpy(dst, src, bytes);
    /* The destination starts inside the source: copy from the end, odd bytes first, then whole words. */
    char *to = (char *)dst + bytes - 1;
    const char *from = (const char *)src + bytes - 1;
    size_t words = bytes / 8, rest = bytes % 8;
    __asm__ volatile("std; rep movsb; sub $7, %0; sub $7, %1; mov %3, %2; rep movsq; cld"
                     : "+&D"(to), "+&S"(from), "+&c"(rest)
                     : "r"(words)
                     : "memory", "cc");
    return dst;
}

void *memset(void *dst, int value, size_t bytes)
{
    void *to = dst;
    size_t words = bytes / 8, rest = bytes % 8;
    u64 pattern = (u8)value * 0x0101010101010101ull;
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(words) : "a"(pattern) : "memory");
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(rest) : "a"(pattern) : "memory");
    return dst;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
    const u8 *x = a, *y = b;
    for (size_t i = 0; i < bytes; i++) {
        if (x[i] != y[i])
            return x[i] - y[i];
    }
    return 0;
}

size_t strlen(const char *s)
{
    size_t length = 0;
    while (s[length] != '\0')
        length++;
    return length;
}

size_t strnlen(const char *s, size_t limit)
{
    size_t length = 0;
    while (length < limit && s[length] != '\0')
        length++;
    return length;
}
