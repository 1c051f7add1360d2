/* SPDX-License-Identifier: MIT */
/*
 * kexec KERNEL INITRD COMMAND-LINE: loads that kernel with kexec_file_load, to be started in the place of the
 * running one by reboot(RB_KEXEC) later, which is another program's. Built without a C library.
 */

enum { SYSCALL_WRITE = 1, SYSCALL_OPEN = 2, SYSCALL_EXIT = 60, SYSCALL_KEXEC_FILE_LOAD = 320 };

static long system_call(long number, long a, long b, long c, long d, long e)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

static long length(const char *text)
{
    long count = 0;
    while (text[count] != '\0')
        count++;
    return count;
}

static _Noreturn void leave(long status)
{
    for (;;)
        system_call(SYSCALL_EXIT, status, 0, 0, 0, 0);
}

static _Noreturn void fail(const char *what)
{
    system_call(SYSCALL_WRITE, 1, (long)what, length(what), 0, 0);
    leave(1);
}

static long open_file(const char *path)
{
    long file = system_call(SYSCALL_OPEN, (long)path, 0, 0, 0, 0);
    if (file < 0)
        fail("guest: kexec: no such file\n");
    return file;
}

void start_with_stack(long *stack);

__attribute__((used)) void start_with_stack(long *stack)
{
    char **words = (char **)&stack[1];

    if (stack[0] != 4)
        fail("usage: kexec KERNEL INITRD COMMAND-LINE\n");
    if (system_call(SYSCALL_KEXEC_FILE_LOAD, open_file(words[1]), open_file(words[2]), length(words[3]) + 1,
                    (long)words[3], 0) != 0)
        fail("guest: kexec: the kernel cannot be loaded\n");
    leave(0);
}

__asm__(
    ".global start\nstart:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall start_with_stack\n");
