/* SPDX-License-Identifier: MIT */
/* Output on COM1 at 115200 baud, and a small formatter. Polls; needs no interrupt. */
#include <stdarg.h>

#include "tests/guest/guest.h"

enum { COM1 = 0x3f8, LINE_CONTROL = COM1 + 3, LINE_STATUS = COM1 + 5, STATUS_EMPTY = 0x20 };

void console_init(void)
{
    out8(COM1 + 1, 0);
    out8(LINE_CONTROL, 0x80);
    out8(COM1, 1);
    out8(COM1 + 1, 0);
    out8(LINE_CONTROL, 3);
    out8(COM1 + 2, 1);
    out8(COM1 + 4, 3);
}

static void put_serial(char letter)
{
    /* Bounded, so that a machine without COM1 does not hang here. */
    for (unsigned i = 0; i < 1000000 && !(in8(LINE_STATUS) & STATUS_EMPTY); i++)
        ;
    out8(COM1, (u8)letter);
}

struct output {
    char *buffer; /* NULL: the serial port */
    size_t size, used;
};

static void put(struct output *out, char letter)
{
    if (!out->buffer) {
        if (letter == '\n')
            put_serial('\r');
        put_serial(letter);
    } else if (out->used + 1 < out->size) {
        out->buffer[out->used++] = letter;
    }
}

static void put_number(struct output *out, u64 value, unsigned base, unsigned width, char pad)
{
    char text[24];
    unsigned length = 0;
    do {
        text[length++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    while (width > length) {
        put(out, pad);
        width--;
    }
    while (length)
        put(out, text[--length]);
}

static void format_to(struct output *out, const char *format, va_list list)
{
    for (; *format; format++) {
        if (*format != '%') {
            put(out, *format);
            continue;
        }
        char pad = ' ';
        unsigned width = 0;
        bool wide = false;
        format++;
        if (*format == '0')
            pad = '0';
        for (; *format >= '0' && *format <= '9'; format++)
            width = width * 10 + (unsigned)(*format - '0');
        for (; *format == 'l'; format++)
            wide = true;
        if (*format == 's') {
            for (const char *text = va_arg(list, const char *); *text; text++)
                put(out, *text);
        } else if (*format == 'c') {
            put(out, (char)va_arg(list, int));
        } else if (*format == 'd') {
            i64 value = wide ? va_arg(list, i64) : va_arg(list, int);
            if (value < 0)
                put(out, '-');
            put_number(out, value < 0 ? 0 - (u64)value : (u64)value, 10, width, pad);
        } else if (*format == 'u' || *format == 'x') {
            u64 value = wide ? va_arg(list, u64) : va_arg(list, u32);
            put_number(out, value, *format == 'x' ? 16 : 10, width, pad);
        } else {
            put(out, *format);
        }
    }
}

void print(const char *format, ...)
{
    struct output out = {0};
    va_list list;
    va_start(list, format);
    format_to(&out, format, list);
    va_end(list);
}

void print_to(char *buffer, size_t size, const char *format, ...)
{
    struct output out = {.buffer = buffer, .size = size};
    va_list list;
    va_start(list, format);
    format_to(&out, format, list);
    va_end(list);
    buffer[out.used] = 0;
}
