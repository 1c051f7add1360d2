/* SPDX-License-Identifier: MIT */
/* The memory and string functions that the compiler and Umbra need, with their ISO C meaning. */
#ifndef UMBRA_ARCH_STRING_H
#define UMBRA_ARCH_STRING_H

#include <stddef.h>

void *memcpy(void *restrict dst, const void *restrict src, size_t bytes);
void *memmove(void *dst, const void *src, size_t bytes);
void *memset(void *dst, int value, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);
size_t strlen(const char *s);
size_t strnlen(const char *s, size_t limit);

#endif
