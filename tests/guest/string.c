/* SPDX-License-Identifier: MIT */
/* Memory and text functions of the test guest, and the words of its command line. */
#include "tests/guest/guest.h"

void *memset(void *to, int value, size_t bytes)
{
    u8 *out = to;
    for (size_t i = 0; i < bytes; i++)
        out[i] = (u8)value;
    return to;
}

void *memcpy(void *to, const void *from, size_t bytes)
{
    u8 *out = to;
    const u8 *in = from;
    for (size_t i = 0; i < bytes; i++)
        out[i] = in[i];
    return to;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
    const u8 *left = a, *right = b;
    for (size_t i = 0; i < bytes; i++) {
        if (left[i] != right[i])
            return left[i] < right[i] ? -1 : 1;
    }
    return 0;
}

size_t strlen(const char *text)
{
    size_t length = 0;
    while (text[length])
        length++;
    return length;
}

bool starts_with(const char *text, const char *prefix)
{
    return memcmp(text, prefix, strlen(prefix)) == 0;
}

const char *option(const char *command_line, const char *key)
{
    size_t length = strlen(key);
    for (const char *word = command_line; *word; word++) {
        bool at_start = word == command_line || word[-1] == ' ';
        if (at_start && starts_with(word, key) && word[length] == '=')
            return word + length + 1;
    }
    return NULL;
}

static unsigned digit(char letter)
{
    if (letter >= '0' && letter <= '9')
        return (unsigned)(letter - '0');
    if (letter >= 'a' && letter <= 'f')
        return (unsigned)(letter - 'a') + 10;
    return 16;
}

u64 number(const char *text, const char **end)
{
    unsigned base = 10;
    u64 value = 0;
    if (text[0] == '0' && text[1] == 'x') {
        base = 16;
        text += 2;
    }
    for (; digit(*text) < base; text++)
        value = value * base + digit(*text);
    if (end)
        *end = text;
    return value;
}
