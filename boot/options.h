/* SPDX-License-Identifier: MIT */
/*
 * Umbra's command line: words `key=value`, separated by blanks. What it does not know, or cannot do, is
 * recorded so that the caller can say it in one sentence each once there is a console, and has no other
 * effect.
 */
#ifndef UMBRA_BOOT_OPTIONS_H
#define UMBRA_BOOT_OPTIONS_H

#include "arch/print.h"
#include "arch/types.h"
#include "vcpu/vcpu.h"

enum { OPTION_COMPLAINTS_MAX = 16, OPTION_WORD_BYTES = 48 };

enum option_fault {
    OPTION_UNKNOWN,   /* no such key, or no `=` */
    OPTION_BAD_VALUE, /* the key is known, the value is not */
};

struct option_complaint {
    enum option_fault fault;
    char word[OPTION_WORD_BYTES]; /* as it was written, cut off if longer */
    const char *allowed;          /* the values that the key takes; NULL for OPTION_UNKNOWN */
};

struct boot_options {
    bool serial;     /* console=none clears it */
    u16 serial_port; /* I/O port of the UART's first register */
    u32 serial_baud; /* divides 115,200 */
    enum log_level log_level;
    bool nested;           /* nested=off clears it: the guest is shown no virtualization */
    bool vmcs_shadowing;   /* vmcs-shadowing=off clears it: nested VMX goes without */
    bool unprotected_cpus; /* cpus=unprotected: go on although the guest can start CPUs outside of Umbra */
    enum hypercall_callers hypercalls;
    unsigned complaint_count; /* how many there were; only the first OPTION_COMPLAINTS_MAX are kept */
    struct option_complaint complaint[OPTION_COMPLAINTS_MAX];
};

/* Sets the defaults (COM1, 115,200 baud, info, nested with VMCS shadowing, all CPUs, hypercalls by the
 * kernel), then what `line` says. The last of several words with one key counts. */
void options_parse(struct boot_options *options, const char *line);

/* The sentence for one kept complaint; a buffer of 200 bytes holds each. */
void options_complaint_text(const struct option_complaint *complaint, char *sentence, size_t size);

/*
 * The command line without a leading file name: some loaders pass it (GRUB Legacy, SYSLINUX), GRUB 2 does
 * not. A file name is a first word that begins with `/`.
 */
const char *options_skip_file_name(const char *line);

#endif
