/* SPDX-License-Identifier: MIT */
/*
 * Umbra's own hypercalls, for experiments and tests: VMCALL (Intel) or VMMCALL (AMD) with EAX =
 * HYPERCALL_MAGIC and the function in ECX; arguments in RDX, RSI, RDI (EDX, ESI, EDI outside 64-bit mode);
 * EAX returns enum hypercall_status. With any other EAX, from who may not call (option hypercalls=), or for a
 * function that this build lacks, the instruction is what it is on the CPU that the guest sees: #UD, or, with
 * VMX or SVM on, what nested/ makes of it. This
 * header is also used by the test guests: it needs nothing but integers.
 */
#ifndef UMBRA_VCPU_HYPERCALL_H
#define UMBRA_VCPU_HYPERCALL_H

#define HYPERCALL_MAGIC   0x554d4252 /* "UMBR" */

#define HYPERCALL_VERSION 1

enum hypercall_function {
    /* EBX = enum hypercall_feature bits, ECX = version. */
    HYPERCALL_FEATURES = 0,
    /* Prints the exit counters and the last EDX ring entries on Umbra's console. */
    HYPERCALL_REPORT = 1,
    /* EBX = exits so far, low 32 bits (RBX, all of it, in 64-bit mode). */
    HYPERCALL_EXITS = 2,

    /* Test builds only. Access of guest-physical [RDX, RSI) becomes EDI: 1 read, 2 write, 4 fetch by
       supervisor, 8 fetch by user. */
    HYPERCALL_TEST_PROTECT = 0x100,
    /* The last violation of such a protection: EBX = number so far, RDX = exit qualification or EXITINFO1,
     * RSI = guest-physical, RDI = guest linear address. The page has been opened again. */
    HYPERCALL_TEST_LAST_VIOLATION = 0x101,
    /* RDX = start, RSI = end of Umbra's own region: what the guest must not reach. */
    HYPERCALL_TEST_REGION = 0x102,
    /* EBX = accesses to Umbra's own memory that were counted. */
    HYPERCALL_TEST_MEMORY_ACCESSES = 0x103,
    /* Ends Umbra with a fatal report. */
    HYPERCALL_TEST_FATAL = 0x104,
};

enum hypercall_feature {
    HYPERCALL_FEATURE_MODE_BASED_EXECUTE = 1, /* MBEC or GMET is on */
    HYPERCALL_FEATURE_TEST_BUILD = 2,
};

enum hypercall_status {
    HYPERCALL_OK = 0,
    HYPERCALL_BAD_ARGUMENT = 1,
    HYPERCALL_REFUSED =
        2, /* Umbra's own memory, no memory for tables, or an access the format cannot express */
};

#endif
