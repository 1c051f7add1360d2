/* SPDX-License-Identifier: MIT */
/* The table of Umbra's options and their values. Pure; a new option is a row in the table and a function. */
#include "boot/options.h"

#include "arch/string.h"
#include "drivers/serial.h"

/* The divisor latch of a 16550 has 16 bits, and the UART takes eight ports. */
#define UART_DIVISOR_MAX 0xffffu
#define UART_PORT_MAX    0xfff8u

struct text {
    const char *start;
    size_t length;
};

struct option {
    const char *key;
    const char *allowed;
    /* Stores the value; true if it did, otherwise *fault says why not. */
    bool (*set)(struct boot_options *options, struct text value, enum option_fault *fault);
};

static bool text_is(struct text text, const char *word)
{
    return text.length == strlen(word) && memcmp(text.start, word, text.length) == 0;
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* All of `text` as a number of that base, at most `limit`. */
static bool parse_number(struct text text, u32 base, u32 limit, u32 *number)
{
    u64 value = 0;
    for (size_t i = 0; i < text.length; i++) {
        int digit = digit_value(text.start[i]);
        if (digit < 0 || (u32)digit >= base)
            return false;
        value = value * base + (u32)digit;
        if (value > limit)
            return false;
    }
    *number = (u32)value;
    return text.length != 0;
}

/* Cuts `text` at the first comma; what follows it is returned, with start NULL if there is no comma. */
static struct text split_at_comma(struct text *text)
{
    for (size_t i = 0; i < text->length; i++) {
        if (text->start[i] == ',') {
            struct text rest = {text->start + i + 1, text->length - i - 1};
            text->length = i;
            return rest;
        }
    }
    return (struct text){NULL, 0};
}

static bool parse_port(struct text text, u32 *port)
{
    if (text_is(text, "com1")) {
        *port = SERIAL_COM1;
        return true;
    }
    if (text_is(text, "com2")) {
        *port = SERIAL_COM2;
        return true;
    }
    if (text.length < 3 || text.start[0] != '0' || text.start[1] != 'x')
        return false;
    return parse_number((struct text){text.start + 2, text.length - 2}, 16, UART_PORT_MAX, port) &&
           *port != 0;
}

static bool set_console(struct boot_options *options, struct text value, enum option_fault *fault)
{
    u32 port, rate = (u32)SERIAL_BAUD_MAX;
    *fault = OPTION_BAD_VALUE;
    if (text_is(value, "none")) {
        options->serial = false;
        return true;
    }
    struct text baud = split_at_comma(&value);
    if (!parse_port(value, &port))
        return false;
    if (baud.start != NULL && !parse_number(baud, 10, (u32)SERIAL_BAUD_MAX, &rate))
        return false;
    if (rate == 0 || (u32)SERIAL_BAUD_MAX % rate != 0 || (u32)SERIAL_BAUD_MAX / rate > UART_DIVISOR_MAX)
        return false;
    options->serial = true;
    options->serial_port = (u16)port;
    options->serial_baud = rate;
    return true;
}

static bool set_log_level(struct boot_options *options, struct text value, enum option_fault *fault)
{
    static const char *const name[] = {
        [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"};
    for (unsigned i = 0; i < ARRAY_SIZE(name); i++) {
        if (text_is(value, name[i])) {
            options->log_level = (enum log_level)i;
            return true;
        }
    }
    *fault = OPTION_BAD_VALUE;
    return false;
}

static bool set_switch(bool *option, struct text value, enum option_fault *fault)
{
    bool on = text_is(value, "on");
    if (!on && !text_is(value, "off")) {
        *fault = OPTION_BAD_VALUE;
        return false;
    }
    *option = on;
    return true;
}

static bool set_nested(struct boot_options *options, struct text value, enum option_fault *fault)
{
    return set_switch(&options->nested, value, fault);
}

static bool set_vmcs_shadowing(struct boot_options *options, struct text value, enum option_fault *fault)
{
    return set_switch(&options->vmcs_shadowing, value, fault);
}

/* What to do about the other CPUs: see find_cpus() in boot/main.c. */
static bool set_cpus(struct boot_options *options, struct text value, enum option_fault *fault)
{
    bool unprotected = text_is(value, "unprotected");
    if (!unprotected && !text_is(value, "all")) {
        *fault = OPTION_BAD_VALUE;
        return false;
    }
    options->unprotected_cpus = unprotected;
    return true;
}

static bool set_hypercalls(struct boot_options *options, struct text value, enum option_fault *fault)
{
    static const char *const name[] = {
        [HYPERCALLS_OFF] = "off", [HYPERCALLS_KERNEL] = "kernel", [HYPERCALLS_USER] = "user"};
    for (unsigned i = 0; i < ARRAY_SIZE(name); i++) {
        if (text_is(value, name[i])) {
            options->hypercalls = (enum hypercall_callers)i;
            return true;
        }
    }
    *fault = OPTION_BAD_VALUE;
    return false;
}

static const struct option table[] = {
    {"console", "com1, com2 or 0xPORT, each with an optional ,BAUD that divides 115200, or none",
     set_console},
    {"loglevel", "error, warn, info or debug", set_log_level},
    {"nested", "on or off", set_nested},
    {"vmcs-shadowing", "on or off", set_vmcs_shadowing},
    {"cpus", "all or unprotected", set_cpus},
    {"hypercalls", "off, kernel or user", set_hypercalls},
};

static void complain(struct boot_options *options, struct text word, enum option_fault fault,
                     const char *allowed)
{
    if (options->complaint_count < OPTION_COMPLAINTS_MAX) {
        struct option_complaint *complaint = &options->complaint[options->complaint_count];
        size_t length = min_u64(word.length, OPTION_WORD_BYTES - 1);
        complaint->fault = fault;
        complaint->allowed = allowed;
        memcpy(complaint->word, word.start, length);
        complaint->word[length] = '\0';
    }
    options->complaint_count++;
}

static void parse_word(struct boot_options *options, struct text word)
{
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        size_t key_length = strlen(table[i].key);
        if (word.length <= key_length || word.start[key_length] != '=' ||
            memcmp(word.start, table[i].key, key_length) != 0)
            continue;
        struct text value = {word.start + key_length + 1, word.length - key_length - 1};
        enum option_fault fault;
        if (!table[i].set(options, value, &fault))
            complain(options, word, fault, table[i].allowed);
        return;
    }
    complain(options, word, OPTION_UNKNOWN, NULL);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The next word at or behind *line, which is moved behind it; length 0 at the end. */
static struct text next_word(const char **line)
{
    const char *start = *line;
    while (is_blank(*start))
        start++;
    const char *end = start;
    while (*end != '\0' && !is_blank(*end))
        end++;
    *line = end;
    return (struct text){start, (size_t)(end - start)};
}

static bool has_equals_sign(struct text word)
{
    for (size_t i = 0; i < word.length; i++) {
        if (word.start[i] == '=')
            return true;
    }
    return false;
}

void options_parse(struct boot_options *options, const char *line)
{
    memset(options, 0, sizeof(*options));
    options->serial = true;
    options->serial_port = SERIAL_COM1;
    options->serial_baud = (u32)SERIAL_BAUD_MAX;
    options->log_level = LOG_INFO;
    options->hypercalls = HYPERCALLS_KERNEL;
    options->nested = true;
    options->vmcs_shadowing = true;

    struct text word = next_word(&line);
    /* The loader's own name for Umbra, which is no option. */
    if (word.length != 0 && (word.start[0] == '/' || !has_equals_sign(word)))
        word = next_word(&line);
    for (; word.length != 0; word = next_word(&line))
        parse_word(options, word);
}

static void unknown_text(const char *word, char *sentence, size_t size)
{
    size_t length = format(sentence, size, "option %s is not known and ignored: there are", word);
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++)
        length += format(sentence + length, size - length, " %s=", table[i].key);
}

void options_complaint_text(const struct option_complaint *complaint, char *sentence, size_t size)
{
    switch (complaint->fault) {
    case OPTION_UNKNOWN:
        unknown_text(complaint->word, sentence, size);
        break;
    case OPTION_BAD_VALUE:
        format(sentence, size, "option %s is ignored: its value must be %s", complaint->word,
               complaint->allowed);
        break;
    }
}

const char *options_skip_file_name(const char *line)
{
    const char *rest = line;
    struct text word = next_word(&rest);
    if (word.length == 0 || word.start[0] != '/')
        return line;
    while (is_blank(*rest))
        rest++;
    return rest;
}
