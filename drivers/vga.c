/* SPDX-License-Identifier: MIT */
#include "drivers/vga.h"

#include "arch/print.h"

enum { ATTRIBUTE_GREY_ON_BLACK = 0x07 };

static struct {
    volatile u16 *cells;
    unsigned columns, rows;
    unsigned column, row;
} screen;

static u16 cell(char c)
{
    return (u16)(ATTRIBUTE_GREY_ON_BLACK << 8 | (u8)c);
}

static void vga_new_line(void)
{
    screen.column = 0;
    if (screen.row + 1 < screen.rows) {
        screen.row++;
        return;
    }
    unsigned last = (screen.rows - 1) * screen.columns;
    for (unsigned i = 0; i < last; i++)
        screen.cells[i] = screen.cells[i + screen.columns];
    for (unsigned i = 0; i < screen.columns; i++)
        screen.cells[last + i] = cell(' ');
}

static void vga_write(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\n') {
            vga_new_line();
            continue;
        }
        if (screen.column == screen.columns)
            vga_new_line();
        screen.cells[screen.row * screen.columns + screen.column++] = cell(text[i]);
    }
}

void vga_init(volatile u16 *buffer, unsigned columns, unsigned rows)
{
    screen.cells = buffer;
    screen.columns = columns;
    screen.rows = rows;
    screen.column = 0;
    screen.row = 0;
    for (unsigned i = 0; i < columns * rows; i++)
        buffer[i] = cell(' ');
    log_add_sink(vga_write, false);
}
