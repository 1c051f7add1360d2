/* SPDX-License-Identifier: MIT */
/* Chooses the groups of tests that the command line names: test=NAME[,NAME...]. */
#include "tests/guest/guest.h"

_Noreturn void main(void);

static const struct {
    const char *name;
    void (*run)(void);
} groups[] = {
    {"boot", group_boot},
    {"facts", group_facts},
    {"cpuid", group_cpuid},
    {"msrs", group_msrs},
    {"hidden", group_hidden},
    {"exceptions", group_exceptions},
    {"interrupts", group_interrupts},
    {"nmi", group_nmi},
    {"modes", group_modes},
    {"memory", group_memory},
    {"mbec", group_mbec},
    {"gmet", group_gmet},
    {"exits", group_exits},
    {"hostile", group_hostile},
    {"triple", group_triple},
};

static bool is_group(const char *word)
{
    for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
        if (list_has(word, groups[i].name) && starts_with(word, groups[i].name))
            return true;
    }
    return false;
}

static void check_words(const char *list)
{
    bool known = list && *list && *list != ' ';
    while (list && *list && *list != ' ') {
        known = known && is_group(list);
        while (*list && *list != ' ' && *list != ',')
            list++;
        if (*list == ',')
            list++;
    }
    check("test= names known groups", known);
}

static void check_place(const char *place)
{
    if (place)
        check("runs where under= says", starts_with(place, under_umbra ? "umbra" : "bare"));
}

_Noreturn void main(void)
{
    console_init();
    boot_read();
    trap_init();
    cpu_init();
    paging_init();
    pic_init();
    hypercall_init();
    print("guest: started by %s, %s CPU, %s\n", boot.protocol, is_intel ? "Intel" : "AMD",
          !under_umbra ? "bare"
          : test_build ? "under Umbra, test build"
                       : "under Umbra");
    const char *list = option(boot.command_line, "test");
    check_words(list);
    check_place(option(boot.command_line, "under"));
    for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
        if (list_has(list, groups[i].name)) {
            print("guest: group %s\n", groups[i].name);
            groups[i].run();
        }
    }
    finish();
}
