/* SPDX-License-Identifier: MIT */
/*
 * Formatted output to Umbra's consoles (serial, VGA text) and the in-memory log. It allocates nothing and may
 * be called in any context, an exception handler included.
 */
#ifndef UMBRA_ARCH_PRINT_H
#define UMBRA_ARCH_PRINT_H

#include "arch/types.h"

#include <stdarg.h>

enum log_level {
    LOG_ERROR,
    LOG_WARN,
    LOG_INFO,
    LOG_DEBUG,
};

/*
 * Writes at most `size` bytes with the terminating zero; returns the length without it that was written.
 * Conversions: %s %c %d %u %x %p %% with 0, -, width, and the lengths l, ll, z. Anything else is printed as
 * is.
 */
size_t format(char *buffer, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
size_t format_va(char *buffer, size_t size, const char *fmt, va_list args);

/* One line, without prefix and newline: `umbra: ` and the line end are added here. */
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Lines above this level are dropped; before the first call, all but errors. */
void log_set_level(enum log_level level);

/*
 * Adds an output, which gets whole lines, "\n" at the end. At most LOG_SINKS of them; a further one is
 * ignored. An output that is not `always` gets nothing while log_quiet() holds: the guest's own screen.
 */
enum { LOG_SINKS = 4 };
typedef void (*log_sink_fn)(const char *text, size_t length);
void log_add_sink(log_sink_fn write, bool always);
void log_remove_sink(log_sink_fn write);
void log_quiet(bool quiet);

/* A report's lines with the general-purpose registers, in hardware order (enum gpr_index). */
void log_registers(const u64 gpr[16]);

/* Called once by fatal() before its sentence, to stop what else runs, and once after it, to print what the
 * upper rooms know; they must bear any state. */
extern void (*fatal_stop_hook)(void), (*fatal_hook)(void);

/* Prints `umbra: fatal: ` and the sentence, then the state that every fatal report shows, and stops this CPU.
 */
_Noreturn void fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/* A condition that cannot be false; `reason` says why in words. */
#define ASSERT(condition, reason)                                                                            \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            fatal("assertion failed at %s:%d: %s", __FILE__, __LINE__, reason);                              \
    } while (0)

#endif
