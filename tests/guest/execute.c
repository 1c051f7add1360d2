/* SPDX-License-Identifier: MIT */
/* Runs machine code given as bytes in ring 0 or 3, in 64-bit or compatibility mode, until it ends in an
 * exception. */
#include "tests/guest/guest.h"

enum { PAGE_CODE = 0, PAGE_STACK = 2, FLAGS_FIXED = 2 };

extern _Noreturn void enter_code(const void *frame);

const char *const code_mode_name[4] = {"ring0-64", "ring3-64", "ring0-32", "ring3-32"};
static u8 code_pages[2 * PAGE_SIZE] __attribute__((aligned(4096)));
static u8 stack_page[PAGE_SIZE] __attribute__((aligned(4096)));

static bool user(enum code_mode mode)
{
    return mode == RING3_64 || mode == RING3_32;
}

static void load_data_segments(unsigned selector)
{
    __asm__ volatile("mov %0, %%ds; mov %0, %%es" ::"r"(selector));
}

u64 execute_address(enum code_mode mode)
{
    return user(mode) ? WINDOW + PAGE_CODE * PAGE_SIZE : (u64)code_pages;
}

u64 execute_at(enum code_mode mode, u64 address, const struct code *code)
{
    static const u16 code_selector[4] = {SEL_CODE64, SEL_USER_CODE64, SEL_CODE32, SEL_USER_CODE32};
    struct frame frame = {.rax = code->rax,
                          .rbx = code->rbx,
                          .rcx = code->rcx,
                          .rdx = code->rdx,
                          .rsi = code->rsi,
                          .rdi = code->rdi,
                          .rip = address,
                          .cs = code_selector[mode],
                          .rflags = FLAGS_FIXED | code->rflags,
                          .ss = user(mode) ? SEL_USER_DATA : SEL_DATA};
    u8 *stack = window_map(PAGE_STACK, (u64)stack_page, PTE_P | PTE_W | PTE_U);
    frame.rsp = (user(mode) ? (u64)stack : (u64)stack_page) + PAGE_SIZE - 64;
    load_data_segments(user(mode) ? SEL_USER_DATA : SEL_DATA);
    u64 vector = attempt(enter_code, &frame);
    load_data_segments(SEL_DATA);
    return vector;
}

u64 execute(enum code_mode mode, const struct code *code)
{
    memcpy(code_pages, code->bytes, code->size);
    memcpy(code_pages + code->size, "\xcd\x80", 2);
    window_map(PAGE_CODE, (u64)code_pages, PTE_P | PTE_U);
    window_map(PAGE_CODE + 1, (u64)code_pages + PAGE_SIZE, PTE_P | PTE_U);
    return execute_at(mode, execute_address(mode), code);
}
