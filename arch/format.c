/* SPDX-License-Identifier: MIT */
/* A small printf: the conversions that Umbra's messages use, into a bounded buffer. Pure, used on the host as
 * well. */
#include "arch/print.h"
#include "arch/string.h"

struct output {
    char *buffer;
    size_t size, length;
};

struct conversion {
    bool zero, left;
    unsigned width;
    unsigned longs;
};

static void put(struct output *out, char c)
{
    if (out->length + 1 < out->size)
        out->buffer[out->length++] = c;
}

static void put_field(struct output *out, const struct conversion *conversion, const char *text,
                      size_t length)
{
    size_t padding = conversion->width > length ? conversion->width - length : 0;
    bool zero = conversion->zero && !conversion->left;
    /* A sign stays in front of padding zeros. */
    if (zero && length != 0 && text[0] == '-') {
        put(out, *text++);
        length--;
    }
    for (size_t i = 0; !conversion->left && i < padding; i++)
        put(out, zero ? '0' : ' ');
    for (size_t i = 0; i < length; i++)
        put(out, text[i]);
    for (size_t i = 0; conversion->left && i < padding; i++)
        put(out, ' ');
}

static void put_number(struct output *out, const struct conversion *conversion, u64 value, unsigned base,
                       bool negative)
{
    char digits[24];
    size_t start = sizeof(digits);
    do {
        digits[--start] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    if (negative)
        digits[--start] = '-';
    put_field(out, conversion, &digits[start], sizeof(digits) - start);
}

static const char *parse_conversion(const char *fmt, struct conversion *conversion)
{
    *conversion = (struct conversion){0};
    for (;; fmt++) {
        if (*fmt == '0')
            conversion->zero = true;
        else if (*fmt == '-')
            conversion->left = true;
        else
            break;
    }
    for (; *fmt >= '0' && *fmt <= '9'; fmt++)
        conversion->width = conversion->width * 10 + (unsigned)(*fmt - '0');
    for (; *fmt == 'l' || *fmt == 'z'; fmt++)
        conversion->longs++;
    return fmt;
}

size_t format_va(char *buffer, size_t size, const char *fmt, va_list args)
{
    struct output out = {.buffer = buffer, .size = size};

    for (; *fmt != '\0'; fmt++) {
        struct conversion conversion;
        if (*fmt != '%') {
            put(&out, *fmt);
            continue;
        }
        fmt = parse_conversion(fmt + 1, &conversion);
        switch (*fmt) {
        case 's': {
            const char *text = va_arg(args, const char *);
            put_field(&out, &conversion, text, strlen(text));
            break;
        }
        case 'c':
            put(&out, (char)va_arg(args, int));
            break;
        case 'd': {
            i64 value = conversion.longs != 0 ? va_arg(args, i64) : va_arg(args, int);
            put_number(&out, &conversion, value < 0 ? -(u64)value : (u64)value, 10, value < 0);
            break;
        }
        case 'u':
        case 'x': {
            u64 value = conversion.longs != 0 ? va_arg(args, u64) : va_arg(args, unsigned);
            put_number(&out, &conversion, value, *fmt == 'u' ? 10 : 16, false);
            break;
        }
        case 'p':
            conversion = (struct conversion){.zero = true, .width = 16};
            put_number(&out, &conversion, (uintptr_t)va_arg(args, void *), 16, false);
            break;
        case '\0':
            fmt--;
            break;
        default:
            put(&out, *fmt);
            break;
        }
    }
    if (size != 0)
        buffer[out.length] = '\0';
    return out.length;
}

size_t format(char *buffer, size_t size, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    size_t length = format_va(buffer, size, fmt, args);
    va_end(args);
    return length;
}
