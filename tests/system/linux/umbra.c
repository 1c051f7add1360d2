/* SPDX-License-Identifier: MIT */
/*
 * Talks to Umbra from the Linux guest: `umbra features`, `umbra exits`, `umbra report [LINES]`. Works for
 * every user when Umbra was started with hypercalls=user; otherwise, and without Umbra, it says so. Built
 * without a C library, as the initramfs is small.
 */
#include "vcpu/hypercall.h"

enum { SYSCALL_WRITE = 1, SYSCALL_SIGACTION = 13, SYSCALL_EXIT = 60 };
enum { SIGNAL_ILL = 4, SIGNAL_SET_BYTES = 8 };
#define SIGNAL_RESTORER 0x04000000ul

struct kernel_sigaction {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    unsigned long mask;
};

static long system_call(long number, long a, long b, long c, long d)
{
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}

static void print(const char *text)
{
    unsigned long length = 0;
    while (text[length] != '\0')
        length++;
    system_call(SYSCALL_WRITE, 1, (long)text, (long)length, 0);
}

static void print_number(unsigned long value)
{
    char digits[21];
    unsigned at = sizeof(digits) - 1;
    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    print(&digits[at]);
}

static _Noreturn void leave(int status)
{
    for (;;)
        system_call(SYSCALL_EXIT, status, 0, 0, 0);
}

static void not_there(int signal)
{
    (void)signal;
    print("guest: no Umbra answers: is it there, and started with hypercalls=user?\n");
    leave(1);
}

static void leave_after_signal(void)
{
    leave(1);
}

static int is_amd(void)
{
    unsigned a = 0, b, c, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
    return c == 0x444d4163; /* "cAMD" of "AuthenticAMD" */
}

struct answer {
    unsigned long rbx, rcx;
};

static struct answer ask(unsigned long function, unsigned long argument)
{
    unsigned long status = HYPERCALL_MAGIC;
    struct answer answer = {0, function};
    if (is_amd())
        __asm__ volatile("vmmcall"
                         : "+a"(status), "=b"(answer.rbx), "+c"(answer.rcx)
                         : "d"(argument)
                         : "memory");
    else
        __asm__ volatile("vmcall"
                         : "+a"(status), "=b"(answer.rbx), "+c"(answer.rcx)
                         : "d"(argument)
                         : "memory");
    if ((unsigned)status != HYPERCALL_OK) {
        print("guest: Umbra refuses\n");
        leave(1);
    }
    return answer;
}

static int same(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

static unsigned long number(const char *text)
{
    unsigned long value = 0;
    while (*text >= '0' && *text <= '9')
        value = value * 10 + (unsigned long)(*text++ - '0');
    return value;
}

static _Noreturn void run(long count, char **words)
{
    static const struct kernel_sigaction action = {not_there, SIGNAL_RESTORER, leave_after_signal, 0};
    system_call(SYSCALL_SIGACTION, SIGNAL_ILL, (long)&action, 0, SIGNAL_SET_BYTES);

    if (count >= 2 && same(words[1], "exits")) {
        unsigned long exits = ask(HYPERCALL_EXITS, 0).rbx;
        print("guest: exits ");
        print_number(exits);
        print("\n");
    } else if (count >= 2 && same(words[1], "report")) {
        ask(HYPERCALL_REPORT, count >= 3 ? number(words[2]) : 16);
    } else if (count >= 2 && same(words[1], "features")) {
        unsigned long features = ask(HYPERCALL_FEATURES, 0).rbx;
        print("guest: MBEC or GMET ");
        print((features & HYPERCALL_FEATURE_MODE_BASED_EXECUTE) != 0 ? "on\n" : "off\n");
    } else {
        print("usage: umbra features | exits | report [LINES]\n");
        leave(2);
    }
    leave(0);
}

void start_with_stack(long *stack);

__attribute__((used)) void start_with_stack(long *stack)
{
    run(stack[0], (char **)&stack[1]);
}

__asm__(
    ".global start\nstart:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall start_with_stack\n");
