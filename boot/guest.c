/* SPDX-License-Identifier: MIT */
/* Recognises the guest image by its content and hands it to the loader of its kind. */
#include "boot/guest.h"

#include "arch/print.h"
#include "arch/string.h"
#include "boot/guest-plan.h"
#include "drivers/acpi.h"
#include "mm/phys.h"

/* ACPI 6.5 table 5.3: from this revision on the RSDP has its XSDT address. */
enum { RSDP_REVISION = 15, RSDP_EXTENDED_REVISION = 2 };

static enum guest_status check_modules(struct guest_plan *plan)
{
    const struct boot_info *info = plan->info;
    if (info->module_count == 0)
        return plan_refuse(
            plan, GUEST_NO_MODULE,
            "there is no guest: name its image in a module2 line after Umbra's multiboot2 line");
    for (unsigned i = 0; i < info->module_count; i++) {
        const struct boot_module *module = &info->module[i];
        if (module->start != module->end &&
            !memmap_covers(plan->memory, module->start, module->end - module->start, MEM_RAM))
            return plan_refuse(
                plan, GUEST_NO_MODULE,
                "module %u, at 0x%lx to 0x%lx, is not in RAM that the guest may use: the boot loader "
                "or the memory map is wrong",
                i + 1, (unsigned long)module->start, (unsigned long)module->end);
    }
    return GUEST_OK;
}

static enum guest_status refuse_unknown(struct guest_plan *plan, struct span image)
{
    if (image.bytes < 4)
        return plan_refuse(plan, GUEST_UNKNOWN_IMAGE,
                           "the guest module has only %u bytes: check the first module2 line",
                           (unsigned)image.bytes);
    return plan_refuse(
        plan, GUEST_UNKNOWN_IMAGE,
        "the guest module is neither a Linux bzImage nor a multiboot kernel (it begins with %02x %02x "
        "%02x %02x): check the first module2 line",
        span_u8(image, 0), span_u8(image, 1), span_u8(image, 2), span_u8(image, 3));
}

/* multiboot2 before multiboot1: a kernel that has both headers learns more from the newer protocol. */
static enum guest_status load_by_kind(struct guest_plan *plan, struct start_state *start)
{
    struct span image = plan_image(plan);
    u64 header2 = 0, header1 = 0;
    if (linux_recognise(image))
        return linux_load(plan, start);
    enum header_search search2 = multiboot2_find_header(image, &header2);
    if (search2 == HEADER_FOUND)
        return multiboot2_load(plan, header2, start);
    enum header_search search1 = multiboot1_find_header(image, &header1);
    if (search1 == HEADER_FOUND)
        return multiboot1_load(plan, header1, start);
    if (search2 == HEADER_BAD_CHECKSUM || search1 == HEADER_BAD_CHECKSUM)
        return plan_refuse(
            plan, GUEST_DAMAGED_IMAGE,
            "the guest module has a multiboot magic number at offset %u, but the checksum there is "
            "wrong: build or copy it again",
            (unsigned)(search2 == HEADER_BAD_CHECKSUM ? header2 : header1));
    return refuse_unknown(plan, image);
}

static void find_rsdp(struct guest_plan *plan)
{
    const struct acpi_window low = {phys_to_virt(hpa(0)), MIB(1)};
    plan->rsdp_address = acpi_find_rsdp(&low);
    if (plan->rsdp_address == 0) {
        plan->rsdp_bytes = plan->info->rsdp_bytes;
        memcpy(plan->rsdp, plan->info->rsdp, plan->rsdp_bytes);
        return;
    }
    struct span found = span_part((struct span){low.base, low.limit}, plan->rsdp_address, BOOT_RSDP_BYTES);
    bool extended = span_u8(found, RSDP_REVISION) >= RSDP_EXTENDED_REVISION && found.bytes == BOOT_RSDP_BYTES;
    plan->rsdp_bytes = extended ? BOOT_RSDP_BYTES : ACPI_RSDP_MIN_BYTES;
    memcpy(plan->rsdp, found.base, plan->rsdp_bytes);
}

enum guest_status guest_load(const struct boot_info *info, const struct memmap *memory,
                             struct start_state *start, char *sentence, size_t size)
{
    static struct guest_plan plan;
    memset(&plan, 0, sizeof(plan));
    plan.info = info;
    plan.memory = memory;
    plan.sentence = sentence;
    plan.sentence_bytes = size;
    memset(start, 0, sizeof(*start));

    enum guest_status status = check_modules(&plan);
    if (status != GUEST_OK)
        return status;
    find_rsdp(&plan);
    return load_by_kind(&plan, start);
}
