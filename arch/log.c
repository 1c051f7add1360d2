/* SPDX-License-Identifier: MIT */
/*
 * Umbra's log: each line goes to the outputs that drivers registered and into a ring in memory, which a
 * debugger or a later crash dump can read when there is no console. It also ends Umbra: fatal().
 */
#include "arch/cpu.h"
#include "arch/print.h"
#include "arch/string.h"
#include "arch/x86.h"

enum { LOG_RING_BYTES = 16384, LOG_LINE_BYTES = 320, LOG_WAIT_POLLS = 1 << 22 };

static const char log_prefix[] = "umbra: ";

/* Found in a memory dump by its first bytes, which log_emit() writes: with an initial value all of it would
 * be in the image file. */
static struct {
    char magic[16];
    u64 written; /* bytes so far; the ring position is this modulo LOG_RING_BYTES */
    char text[LOG_RING_BYTES];
} log_ring;

static struct {
    log_sink_fn write;
    bool always;
} sinks[LOG_SINKS];

static enum log_level log_threshold;
static bool log_is_quiet;

void (*fatal_stop_hook)(void), (*fatal_hook)(void);

void log_set_level(enum log_level level)
{
    log_threshold = level;
}

void log_add_sink(log_sink_fn write, bool always)
{
    for (unsigned i = 0; i < LOG_SINKS; i++) {
        if (sinks[i].write == NULL) {
            sinks[i].write = write;
            sinks[i].always = always;
            return;
        }
    }
}

void log_remove_sink(log_sink_fn write)
{
    for (unsigned i = 0; i < LOG_SINKS; i++) {
        if (sinks[i].write == write)
            sinks[i].write = NULL;
    }
}

void log_quiet(bool quiet)
{
    log_is_quiet = quiet;
}

/*
 * One line at a time. The CPU that holds the lock may be the one that dies, or one that will never run again:
 * so the wait is as long as some lines take on a serial port, and no longer.
 */
static bool line_busy;

static void begin_line(void)
{
    for (unsigned i = 0; i < LOG_WAIT_POLLS && __atomic_exchange_n(&line_busy, true, __ATOMIC_ACQUIRE); i++)
        cpu_relax();
}

static void end_line(void)
{
    __atomic_store_n(&line_busy, false, __ATOMIC_RELEASE);
}

static void log_emit(const char *text, size_t length)
{
    static const char magic[sizeof(log_ring.magic)] = "umbra log ring";

    if (log_ring.written == 0)
        memcpy(log_ring.magic, magic, sizeof(magic));
    for (size_t i = 0; i < length; i++)
        log_ring.text[log_ring.written++ % LOG_RING_BYTES] = text[i];
    for (unsigned i = 0; i < LOG_SINKS; i++) {
        if (sinks[i].write != NULL && (sinks[i].always || !log_is_quiet))
            sinks[i].write(text, length);
    }
}

static void log_prefixed(const char *prefix, const char *fmt, va_list args)
{
    char line[LOG_LINE_BYTES];
    size_t length = format(line, sizeof(line) - 1, "%s%s", log_prefix, prefix);
    length += format_va(&line[length], sizeof(line) - 1 - length, fmt, args);
    line[length++] = '\n';
    begin_line();
    log_emit(line, length);
    end_line();
}

void log_line(enum log_level level, const char *fmt, ...)
{
    if (level > log_threshold)
        return;
    va_list args;
    va_start(args, fmt);
    log_prefixed("", fmt, args);
    va_end(args);
}

void log_registers(const u64 gpr[GPR_COUNT])
{
    static const char names[GPR_COUNT][4] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                             "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

    for (unsigned i = 0; i < GPR_COUNT; i += 4) {
        log_error("  %s %016lx  %s %016lx  %s %016lx  %s %016lx", names[i], gpr[i], names[i + 1], gpr[i + 1],
                  names[i + 2], gpr[i + 2], names[i + 3], gpr[i + 3]);
    }
}

/* Return addresses by the chain of frame pointers, as long as it climbs within this stack. */
static void log_backtrace(const u64 *frame)
{
    enum { DEPTH_MAX = 16, STACK_REACH = 16384 };
    const u64 *start = frame;

    for (unsigned depth = 0; depth < DEPTH_MAX; depth++) {
        if (frame < start || frame >= start + STACK_REACH / sizeof(u64) || (uintptr_t)frame % 8 != 0)
            return;
        if (frame[1] == 0)
            return;
        log_error("  called from %016lx", frame[1]);
        if (frame[0] <= (uintptr_t)frame)
            return;
        frame = (const u64 *)frame[0]; // NOLINT(performance-no-int-to-ptr)
    }
}

void fatal(const char *fmt, ...)
{
    static bool dying;
    va_list args;

    /* A second failure, while the first one is reported, must not recurse. */
    bool first = !__atomic_exchange_n(&dying, true, __ATOMIC_SEQ_CST);
    if (first && fatal_stop_hook != NULL)
        fatal_stop_hook();
    log_quiet(false);
    va_start(args, fmt);
    log_prefixed("fatal: ", fmt, args);
    va_end(args);
    if (first) {
        log_backtrace(__builtin_frame_address(0));
        if (fatal_hook != NULL)
            fatal_hook();
    }
    cpu_stop();
}
