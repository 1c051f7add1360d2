/* SPDX-License-Identifier: MIT */
/*
 * Linux bzImage by the 64-bit boot protocol (the kernel's Documentation/arch/x86/boot.rst): kernel, initrd,
 * boot_params, E820, and the page tables and GDT with which it is entered. No EFI hand-over. Offsets are
 * those of struct boot_params, in which the setup header has the same offset as in the image.
 */
#include "arch/print.h"
#include "arch/string.h"
#include "boot/guest-plan.h"
#include "boot/multiboot.h"
#include "boot/options.h"
#include "mm/phys.h"

enum {
    /* struct boot_params before and behind the setup header */
    SCREEN_INFO = 0x000,
    ACPI_RSDP_ADDR = 0x070,
    EXT_RAMDISK_IMAGE = 0x0c0,
    EXT_RAMDISK_SIZE = 0x0c4,
    EXT_CMD_LINE_PTR = 0x0c8,
    E820_ENTRIES = 0x1e8,
    E820_TABLE = 0x2d0,
    E820_TABLE_MAX = 128,
    E820_ENTRY_BYTES = 20,

    /* setup header */
    SETUP_HEADER = 0x1f1,
    SETUP_SECTS = 0x1f1,
    SYSSIZE = 0x1f4,
    VID_MODE = 0x1fa,
    BOOT_FLAG = 0x1fe,
    JUMP_DISTANCE = 0x201,
    JUMP_END = 0x202,
    HEADER_MAGIC = 0x202,
    PROTOCOL_VERSION = 0x206,
    TYPE_OF_LOADER = 0x210,
    LOADFLAGS = 0x211,
    CODE32_START = 0x214,
    RAMDISK_IMAGE = 0x218,
    RAMDISK_SIZE = 0x21c,
    CMD_LINE_PTR = 0x228,
    INITRD_ADDR_MAX = 0x22c,
    KERNEL_ALIGNMENT = 0x230,
    RELOCATABLE_KERNEL = 0x234,
    XLOADFLAGS = 0x236,
    CMDLINE_SIZE = 0x238,
    SETUP_DATA = 0x250,
    PREF_ADDRESS = 0x258,
    INIT_SIZE = 0x260,
    SETUP_HEADER_NEEDED = 0x264, /* all fields of protocol 2.12 */
    SETUP_HEADER_MAX = 0x290,    /* where boot_params goes on */

    /* struct screen_info */
    ORIG_Y = 0x01,
    ORIG_VIDEO_MODE = 0x06,
    ORIG_VIDEO_COLS = 0x07,
    ORIG_VIDEO_LINES = 0x0e,
    ORIG_VIDEO_IS_VGA = 0x0f,
    ORIG_VIDEO_POINTS = 0x10,
    LFB_WIDTH = 0x12,
    LFB_HEIGHT = 0x14,
    LFB_DEPTH = 0x16,
    LFB_BASE = 0x18,
    LFB_SIZE = 0x1c,
    LFB_LINELENGTH = 0x24,
    LFB_RED_SIZE = 0x26,
    LFB_RESERVED_SIZE = 0x2c,
    LFB_RESERVED_POSITION = 0x2d,
    LFB_PAGES = 0x32,
    LFB_CAPABILITIES = 0x36,
    LFB_EXT_BASE = 0x3a,

    /* struct setup_data */
    SETUP_DATA_NEXT = 0,
    SETUP_DATA_TYPE = 8,
    SETUP_DATA_LEN = 12,
    SETUP_DATA_BYTES = 16,
    SETUP_TYPE_NONE = 0,
    SETUP_TYPE_E820_EXT = 1,
};

#define LINUX_BOOT_FLAG     0xaa55u
#define LINUX_HEADER_MAGIC  0x53726448u /* "HdrS" */
#define LINUX_PROTOCOL_MIN  0x020cu     /* 2.12: xloadflags */
#define LOADED_HIGH         BIT(0)
#define XLF_KERNEL_64       BIT(0)
#define XLF_ABOVE_4G        BIT(1)
#define LOADER_UNDEFINED    0xffu
#define VID_MODE_NORMAL     0xffffu
#define ENTRY_64            0x200u
#define SECTOR_BYTES        512u
#define SETUP_SECTS_DEFAULT 4u

/* include/uapi/linux/screen_info.h: values of orig_video_isVGA and capabilities. */
#define VIDEO_VGA_TEXT   1u
#define VIDEO_LINEAR     0x23u
#define VIDEO_64BIT_BASE BIT(1)
#define VGA_MODE_80X25   3u
#define LFB_SIZE_UNIT    KIB(64)
#define SCREEN_LIMIT     0xffffu /* sizes have 16 bits */

/* The guest's first page tables and GDT, SDM vol. 3A 4.5 and 3.4.5. Selectors as the boot protocol demands.
 */
#define ENTRY_PRESENT_WRITABLE 0x3ull
#define ENTRY_LARGE            BIT(7)
#define BOOT_CS                0x10u
#define BOOT_DS                0x18u
#define GDT_CODE64             0x00af9b000000ffffull
#define GDT_DATA               0x00cf93000000ffffull
enum { TABLE_ENTRIES = 512, DIRECTORIES = 4, GDT_ENTRIES = 4 };

/* The first page and what real-mode code and BIOS use are left alone. */
#define SCRATCH_FLOOR KIB(64)

struct linux_image {
    u8 header[SETUP_HEADER_MAX]; /* only [SETUP_HEADER, header_end) is filled */
    u64 header_end;
    u64 kernel_offset, kernel_bytes; /* the protected-mode part, in the image */
    u64 alignment, preferred, init_bytes;
    u64 initrd_max; /* one past the highest address that an initrd may take */
    bool relocatable;
    const char *command_line;
    size_t command_line_bytes; /* with the terminating zero */
};

/* Guest-physical addresses. */
struct linux_layout {
    u64 kernel;
    u64 initrd, initrd_bytes;
    /* One block: PML4, PDPT, page directories, boot_params, GDT, and the rest by need. */
    u64 page_tables, boot_params, gdt, command_line, e820_data, rsdp_data;
};

bool linux_recognise(struct span image)
{
    return span_u32(image, HEADER_MAGIC) == LINUX_HEADER_MAGIC;
}

/* --- the image --- */

static enum guest_status check_kind(struct guest_plan *plan, struct span image)
{
    unsigned version = span_u16(image, PROTOCOL_VERSION);
    if (span_u16(image, BOOT_FLAG) != LINUX_BOOT_FLAG || image.bytes < SETUP_HEADER_NEEDED)
        return plan_refuse(plan, GUEST_DAMAGED_IMAGE,
                           "the guest is a Linux image with a damaged boot sector: copy it again");
    if (version < LINUX_PROTOCOL_MIN)
        return plan_refuse(
            plan, GUEST_UNSUPPORTED,
            "the guest is a Linux image of boot protocol %u.%02u: a 64-bit kernel with protocol 2.12 "
            "(Linux 3.8) or later is needed",
            version >> 8, version & 0xff);
    if ((span_u8(image, LOADFLAGS) & LOADED_HIGH) == 0 || (span_u16(image, XLOADFLAGS) & XLF_KERNEL_64) == 0)
        return plan_refuse(
            plan, GUEST_UNSUPPORTED,
            "the guest is a Linux image without a 64-bit entry point: use a kernel for x86-64");
    return GUEST_OK;
}

static enum guest_status measure(struct guest_plan *plan, struct span image, struct linux_image *guest)
{
    u64 sectors = span_u8(image, SETUP_SECTS);
    u64 promised = (u64)span_u32(image, SYSSIZE) * 16;
    guest->kernel_offset = ((sectors == 0 ? SETUP_SECTS_DEFAULT : sectors) + 1) * SECTOR_BYTES;
    u64 present = image.bytes > guest->kernel_offset ? image.bytes - guest->kernel_offset : 0;
    /* syssize counts paragraphs: the last one need not be whole. What follows is a signature, no kernel. */
    if (promised > align_up(present, 16))
        return plan_refuse(plan, GUEST_DAMAGED_IMAGE,
                           "the guest's Linux image is cut short: it has %lu bytes of %lu",
                           (unsigned long)image.bytes, (unsigned long)(guest->kernel_offset + promised));
    guest->kernel_bytes = min_u64(promised, present);
    guest->header_end = (u64)JUMP_END + span_u8(image, JUMP_DISTANCE);
    if (guest->kernel_bytes <= ENTRY_64 || guest->header_end < SETUP_HEADER_NEEDED ||
        guest->header_end > SETUP_HEADER_MAX || !span_holds(image, 0, guest->header_end))
        return plan_refuse(
            plan, GUEST_DAMAGED_IMAGE,
            "the guest's Linux image is damaged: its setup header ends at 0x%lx and %lu bytes of "
            "kernel follow",
            (unsigned long)guest->header_end, (unsigned long)guest->kernel_bytes);
    memcpy(guest->header + SETUP_HEADER, image.base + SETUP_HEADER, guest->header_end - SETUP_HEADER);
    return GUEST_OK;
}

static enum guest_status read_demands(struct guest_plan *plan, struct linux_image *guest)
{
    struct span header = {guest->header, sizeof(guest->header)};
    guest->alignment = span_u32(header, KERNEL_ALIGNMENT);
    guest->relocatable = span_u8(header, RELOCATABLE_KERNEL) != 0;
    guest->preferred = span_u64(header, PREF_ADDRESS);
    guest->init_bytes = align_up(max_u64(span_u32(header, INIT_SIZE), guest->kernel_bytes), PAGE_SIZE);
    guest->initrd_max = (u64)span_u32(header, INITRD_ADDR_MAX) + 1;
    if ((span_u16(header, XLOADFLAGS) & XLF_ABOVE_4G) != 0)
        guest->initrd_max = ~0ull;
    if (guest->alignment < PAGE_SIZE || (guest->alignment & (guest->alignment - 1)) != 0)
        return plan_refuse(plan, GUEST_DAMAGED_IMAGE,
                           "the guest's Linux image is damaged: it asks for an alignment of 0x%lx bytes",
                           (unsigned long)guest->alignment);

    guest->command_line = options_skip_file_name(plan->info->module[0].string);
    guest->command_line_bytes = strlen(guest->command_line) + 1;
    u64 limit = span_u32(header, CMDLINE_SIZE);
    if (guest->command_line_bytes - 1 > limit)
        return plan_refuse(
            plan, GUEST_COMMAND_LINE,
            "the guest's command line has %lu characters, but this Linux takes %lu: shorten it",
            (unsigned long)guest->command_line_bytes - 1, (unsigned long)limit);
    return GUEST_OK;
}

/* --- places --- */

static bool is_aligned(u64 value, u64 alignment)
{
    return (value & (alignment - 1)) == 0;
}

/* A kernel that is loaded below its preferred address moves itself up to it, so that is the lowest place. */
static enum guest_status place_kernel(struct guest_plan *plan, const struct linux_image *guest, u64 *kernel)
{
    u64 end = guest->preferred + guest->init_bytes;
    *kernel = guest->preferred;
    if (guest->preferred >= MIB(1) && is_aligned(guest->preferred, guest->alignment) && end <= GIB(4) &&
        end > guest->preferred && plan_take(plan, guest->preferred, guest->init_bytes))
        return GUEST_OK;
    const struct plan_request request = {
        .bytes = guest->init_bytes,
        .alignment = guest->alignment,
        .floor = max_u64(guest->preferred, MIB(1)),
        .limit = GIB(4),
        .module = 0,
    };
    if (guest->relocatable && plan_place(plan, &request, kernel))
        return GUEST_OK;
    return plan_refuse(
        plan, GUEST_NO_ROOM,
        "the guest's Linux kernel needs %lu KByte of RAM in one piece at 0x%lx%s, which this machine "
        "does not have free",
        (unsigned long)(guest->init_bytes >> 10), (unsigned long)guest->preferred,
        guest->relocatable ? " or above, below 4 GByte" : "");
}

static bool initrd_may_stay(struct guest_plan *plan, const struct linux_image *guest, u64 start, u64 bytes)
{
    return is_aligned(start, PAGE_SIZE) && start >= MIB(1) && start + bytes <= guest->initrd_max &&
           plan_take(plan, start, bytes);
}

/*
 * All modules behind the kernel, one after the other on multiples of four: Linux reads archives that follow
 * each other. The last page is taken as a whole because Linux frees it as a whole.
 */
static enum guest_status place_initrd(struct guest_plan *plan, const struct linux_image *guest,
                                      struct linux_layout *layout)
{
    const struct boot_info *info = plan->info;
    u64 bytes = 0, whole;
    for (unsigned i = 1; i < info->module_count; i++)
        bytes = align_up(bytes, 4) + (info->module[i].end - info->module[i].start);
    layout->initrd_bytes = bytes;
    if (bytes == 0)
        return GUEST_OK;
    whole = align_up(bytes, PAGE_SIZE);
    layout->initrd = info->module[1].start;
    if (info->module_count == 2 && initrd_may_stay(plan, guest, layout->initrd, whole))
        return GUEST_OK;

    const struct plan_request request = {
        .bytes = whole,
        .alignment = PAGE_SIZE,
        .floor = MIB(1),
        .limit = guest->initrd_max,
        .highest = true,
        .module = info->module_count == 2 ? 1 : PLAN_NO_MODULE,
    };
    if (!plan_place(plan, &request, &layout->initrd))
        return plan_refuse(
            plan, GUEST_NO_ROOM,
            "the guest's initrd needs %lu KByte of RAM in one piece, which is not free beside the kernel "
            "(%lu KByte)",
            (unsigned long)(whole >> 10), (unsigned long)(guest->init_bytes >> 10));
    u64 at = 0;
    for (unsigned i = 1; i < info->module_count; i++) {
        u64 length = info->module[i].end - info->module[i].start;
        plan_move(plan, info->module[i].start, layout->initrd + at, length);
        plan_zero(plan, layout->initrd + at + length, align_up(length, 4) - length);
        at += align_up(length, 4);
    }
    return GUEST_OK;
}

static unsigned e820_overflow(const struct guest_plan *plan)
{
    unsigned count = plan->memory->count;
    return count > E820_TABLE_MAX ? count - E820_TABLE_MAX : 0;
}

/* Gives `bytes` of the block to a structure; 0 if it is not needed. */
static u64 carve(u64 *next, u64 bytes)
{
    u64 place = bytes == 0 ? 0 : *next;
    *next += align_up(bytes, 16);
    return place;
}

static enum guest_status place_scratch(struct guest_plan *plan, const struct linux_image *guest,
                                       struct linux_layout *layout)
{
    u64 e820_bytes = (u64)e820_overflow(plan) * E820_ENTRY_BYTES;
    u64 rsdp_bytes = plan->rsdp_address == 0 ? plan->rsdp_bytes : 0, next = 0;
    layout->page_tables = carve(&next, (2 + DIRECTORIES) * PAGE_SIZE);
    u64 boot_params = carve(&next, PAGE_SIZE);
    layout->gdt = carve(&next, GDT_ENTRIES * sizeof(u64));
    layout->command_line = carve(&next, guest->command_line_bytes);
    layout->e820_data = carve(&next, e820_bytes == 0 ? 0 : SETUP_DATA_BYTES + e820_bytes);
    layout->rsdp_data = carve(&next, rsdp_bytes == 0 ? 0 : SETUP_DATA_BYTES + rsdp_bytes);

    const struct plan_request request = {
        .bytes = align_up(next, PAGE_SIZE),
        .alignment = PAGE_SIZE,
        .floor = SCRATCH_FLOOR,
        .limit = GIB(4),
        .highest = true,
        .module = PLAN_NO_MODULE,
    };
    u64 block;
    if (!plan_place(plan, &request, &block))
        return plan_refuse(
            plan, GUEST_NO_ROOM,
            "there are no %lu KByte of RAM free below 4 GByte for the boot parameters of the guest's "
            "Linux",
            (unsigned long)(request.bytes >> 10));
    layout->page_tables = block;
    layout->boot_params = block + boot_params;
    layout->gdt += block;
    layout->command_line += block;
    layout->e820_data += layout->e820_data == 0 ? 0 : block;
    layout->rsdp_data += layout->rsdp_data == 0 ? 0 : block;
    return GUEST_OK;
}

/* --- what Linux finds in memory --- */

static void put(u8 *structure, u64 offset, u64 value, size_t bytes)
{
    memcpy(structure + offset, &value, bytes);
}

/* The cursor goes to the last line: Linux scrolls what Umbra wrote instead of overwriting it. */
static void put_text_screen(u8 *params)
{
    put(params, SCREEN_INFO + ORIG_Y, 24, 1);
    put(params, SCREEN_INFO + ORIG_VIDEO_MODE, VGA_MODE_80X25, 1);
    put(params, SCREEN_INFO + ORIG_VIDEO_COLS, 80, 1);
    put(params, SCREEN_INFO + ORIG_VIDEO_LINES, 25, 1);
    put(params, SCREEN_INFO + ORIG_VIDEO_IS_VGA, VIDEO_VGA_TEXT, 1);
    put(params, SCREEN_INFO + ORIG_VIDEO_POINTS, 16, 2);
}

static void put_linear_screen(u8 *params, const struct boot_framebuffer *framebuffer)
{
    const u8 channels[6] = {framebuffer->red_size,   framebuffer->red_position,
                            framebuffer->green_size, framebuffer->green_position,
                            framebuffer->blue_size,  framebuffer->blue_position};
    unsigned used = 0u + framebuffer->red_size + framebuffer->green_size + framebuffer->blue_size;
    u64 bytes = (u64)framebuffer->pitch * framebuffer->height;

    put(params, SCREEN_INFO + ORIG_VIDEO_IS_VGA, VIDEO_LINEAR, 1);
    put(params, SCREEN_INFO + LFB_WIDTH, framebuffer->width, 2);
    put(params, SCREEN_INFO + LFB_HEIGHT, framebuffer->height, 2);
    put(params, SCREEN_INFO + LFB_DEPTH, framebuffer->bpp, 2);
    put(params, SCREEN_INFO + LFB_BASE, framebuffer->address, 4);
    put(params, SCREEN_INFO + LFB_SIZE, align_up(bytes, LFB_SIZE_UNIT) / LFB_SIZE_UNIT, 4);
    put(params, SCREEN_INFO + LFB_LINELENGTH, framebuffer->pitch, 2);
    memcpy(params + SCREEN_INFO + LFB_RED_SIZE, channels, sizeof(channels));
    if (framebuffer->bpp == 32 && used < 32) {
        put(params, SCREEN_INFO + LFB_RESERVED_SIZE, 32 - used, 1);
        put(params, SCREEN_INFO + LFB_RESERVED_POSITION, used, 1);
    }
    put(params, SCREEN_INFO + LFB_PAGES, 1, 2);
    put(params, SCREEN_INFO + LFB_CAPABILITIES, framebuffer->address >= GIB(4) ? VIDEO_64BIT_BASE : 0, 4);
    put(params, SCREEN_INFO + LFB_EXT_BASE, framebuffer->address >> 32, 4);
}

static void put_screen(u8 *params, const struct boot_framebuffer *framebuffer)
{
    bool linear = framebuffer->present && framebuffer->type != MB_FRAMEBUFFER_EGA_TEXT &&
                  framebuffer->width <= SCREEN_LIMIT && framebuffer->height <= SCREEN_LIMIT &&
                  framebuffer->pitch <= SCREEN_LIMIT;
    if (linear)
        put_linear_screen(params, framebuffer);
    else
        put_text_screen(params);
}

static void put_e820_entry(u8 *entry, const struct mem_range *range)
{
    put(entry, 0, range->start, 8);
    put(entry, 8, range->end - range->start, 8);
    put(entry, 16, range->type, 4);
}

/* A node of the setup_data list in front of the others; its payload follows it. */
static u8 *put_setup_data(u8 *params, u64 physical, u32 type, u64 bytes)
{
    u8 *node = phys_to_virt(hpa(physical));
    u64 next;
    memcpy(&next, params + SETUP_DATA, sizeof(next));
    put(node, SETUP_DATA_NEXT, next, 8);
    put(node, SETUP_DATA_TYPE, type, 4);
    put(node, SETUP_DATA_LEN, bytes, 4);
    put(params, SETUP_DATA, physical, 8);
    return node + SETUP_DATA_BYTES;
}

/* Ranges that do not fit into boot_params go into a list that Linux reads a little later. */
static void put_e820(const struct guest_plan *plan, const struct linux_layout *layout, u8 *params)
{
    const struct memmap *memory = plan->memory;
    unsigned overflow = e820_overflow(plan), count = memory->count - overflow;
    for (unsigned i = 0; i < count; i++)
        put_e820_entry(params + E820_TABLE + (size_t)i * E820_ENTRY_BYTES, &memory->range[i]);
    put(params, E820_ENTRIES, count, 1);
    if (overflow == 0)
        return;
    u8 *payload =
        put_setup_data(params, layout->e820_data, SETUP_TYPE_E820_EXT, (u64)overflow * E820_ENTRY_BYTES);
    for (size_t i = 0; i < overflow; i++)
        put_e820_entry(payload + (size_t)i * E820_ENTRY_BYTES, &memory->range[count + i]);
}

/* A copy of the RSDP travels as setup_data of no type, because Linux keeps that memory until it has read it.
 */
static void put_rsdp(const struct guest_plan *plan, const struct linux_layout *layout, u8 *params)
{
    u64 address = plan->rsdp_address;
    if (layout->rsdp_data != 0) {
        u8 *payload = put_setup_data(params, layout->rsdp_data, SETUP_TYPE_NONE, plan->rsdp_bytes);
        memcpy(payload, plan->rsdp, plan->rsdp_bytes);
        address = layout->rsdp_data + SETUP_DATA_BYTES;
    }
    put(params, ACPI_RSDP_ADDR, address, 8);
}

static void build_boot_params(const struct guest_plan *plan, const struct linux_image *guest,
                              const struct linux_layout *layout)
{
    u8 *params = phys_to_virt(hpa(layout->boot_params));
    memset(params, 0, PAGE_SIZE);
    memcpy(params + SETUP_HEADER, guest->header + SETUP_HEADER, guest->header_end - SETUP_HEADER);
    put(params, TYPE_OF_LOADER, LOADER_UNDEFINED, 1);
    put(params, VID_MODE, VID_MODE_NORMAL, 2);
    put(params, CODE32_START, layout->kernel, 4);
    put(params, RAMDISK_IMAGE, layout->initrd, 4);
    put(params, EXT_RAMDISK_IMAGE, layout->initrd >> 32, 4);
    put(params, RAMDISK_SIZE, layout->initrd_bytes, 4);
    put(params, EXT_RAMDISK_SIZE, layout->initrd_bytes >> 32, 4);
    put(params, CMD_LINE_PTR, layout->command_line, 4);
    put(params, EXT_CMD_LINE_PTR, 0, 4);
    put(params, SETUP_DATA, 0, 8);
    memcpy(phys_to_virt(hpa(layout->command_line)), guest->command_line, guest->command_line_bytes);
    put_screen(params, &plan->info->framebuffer);
    put_e820(plan, layout, params);
    put_rsdp(plan, layout, params);
}

/* An identity map of the first 4 GByte, in which kernel and boot parameters lie; Linux maps all else itself.
 */
static void build_page_tables(const struct linux_layout *layout)
{
    u64 *pml4 = phys_to_virt(hpa(layout->page_tables));
    u64 *pdpt = pml4 + TABLE_ENTRIES, *directory = pdpt + TABLE_ENTRIES;
    u64 first_directory = layout->page_tables + 2 * PAGE_SIZE;
    memset(pml4, 0, 2 * PAGE_SIZE);
    pml4[0] = (layout->page_tables + PAGE_SIZE) | ENTRY_PRESENT_WRITABLE;
    for (u64 i = 0; i < DIRECTORIES; i++)
        pdpt[i] = (first_directory + i * PAGE_SIZE) | ENTRY_PRESENT_WRITABLE;
    for (u64 i = 0; i < (u64)DIRECTORIES * TABLE_ENTRIES; i++)
        directory[i] = i * MIB(2) | ENTRY_LARGE | ENTRY_PRESENT_WRITABLE;
}

static void build_gdt(const struct linux_layout *layout)
{
    u64 *gdt = phys_to_virt(hpa(layout->gdt));
    memset(gdt, 0, GDT_ENTRIES * sizeof(u64));
    gdt[BOOT_CS / 8] = GDT_CODE64;
    gdt[BOOT_DS / 8] = GDT_DATA;
}

static void set_start(const struct linux_layout *layout, struct start_state *start)
{
    start->mode = START_LONG64;
    start->rip = layout->kernel + ENTRY_64;
    start->gpr[GPR_RSI] = layout->boot_params;
    start->cr3 = layout->page_tables;
    start->cs_selector = BOOT_CS;
    start->data_selector = BOOT_DS;
    start->gdt_base = layout->gdt;
    start->gdt_limit = GDT_ENTRIES * sizeof(u64) - 1;
}

static void describe(struct guest_plan *plan, const struct linux_image *guest,
                     const struct linux_layout *layout)
{
    unsigned version = span_u16((struct span){guest->header, sizeof(guest->header)}, PROTOCOL_VERSION);
    size_t length = format(plan->sentence, plan->sentence_bytes,
                           "the guest is Linux (boot protocol %u.%02u) at 0x%lx, with ", version >> 8,
                           version & 0xff, (unsigned long)layout->kernel);
    if (layout->initrd_bytes == 0)
        format(plan->sentence + length, plan->sentence_bytes - length, "no initrd");
    else
        format(plan->sentence + length, plan->sentence_bytes - length, "an initrd of %lu KByte at 0x%lx",
               (unsigned long)((layout->initrd_bytes + 1023) >> 10), (unsigned long)layout->initrd);
}

enum guest_status linux_load(struct guest_plan *plan, struct start_state *start)
{
    static struct linux_image guest;
    struct linux_layout layout = {0};
    struct span image = plan_image(plan);

    enum guest_status status = check_kind(plan, image);
    if (status == GUEST_OK)
        status = measure(plan, image, &guest);
    if (status == GUEST_OK)
        status = read_demands(plan, &guest);
    if (status == GUEST_OK)
        status = place_kernel(plan, &guest, &layout.kernel);
    if (status == GUEST_OK)
        status = place_initrd(plan, &guest, &layout);
    if (status == GUEST_OK)
        status = place_scratch(plan, &guest, &layout);
    if (status != GUEST_OK)
        return status;

    plan_move(plan, plan->info->module[0].start + guest.kernel_offset, layout.kernel, guest.kernel_bytes);
    if (!plan_schedule(plan))
        return plan_refuse(
            plan, GUEST_NO_ROOM,
            "the guest's Linux kernel and its initrd lie in each other's way and there is no free RAM "
            "to move them through: use a machine with more memory");
    plan_execute(plan);
    build_boot_params(plan, &guest, &layout);
    build_page_tables(&layout);
    build_gdt(&layout);
    set_start(&layout, start);
    describe(plan, &guest, &layout);
    return GUEST_OK;
}
