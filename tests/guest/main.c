/* SPDX-License-Identifier: MIT */
/* Chooses the groups of tests that the command line names: test=NAME[,NAME...]. */
#include "tests/guest/guest.h"
#include "tests/guest/hostile.h"

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
    {"init", group_init},
    {"memory", group_memory},
    {"mbec", group_mbec},
    {"gmet", group_gmet},
    {"paging", group_paging},
    {"paging-legacy", group_paging_legacy},
    {"second-level", group_second_level},
    {"exits", group_exits},
    {"hostile", group_hostile},
    {"smp", group_smp},
    {"smp-start", group_smp_start},
    {"smp-halt", group_smp_halt},
    {"vmx-smp", group_vmx_smp},
    {"smp-restart", group_smp_restart},
    {"triple", group_triple},
    {"fatal", group_fatal},
    {"bench-vmx", group_bench_vmx},
    {"bench-svm", group_bench_svm},
    {"bench-smp", group_bench_smp},
    {"vmx-controls", group_vmx_controls},
    {"vmx-events", group_vmx_events},
    {"vmx-ept", group_vmx_ept},
    {"vmx-exits", group_vmx_exits},
    {"vmx-instructions", group_vmx_instructions},
    {"vmx-checks", group_vmx_checks},
    {"vmx-shadow", group_vmx_shadow},
    {"vmx-functions", group_vmx_functions},
    {"vmx-apic", group_vmx_apic},
    {"vmx-nmi", group_vmx_nmi},
    {"vmx-modes", group_vmx_modes},
    {"vmx-lists", group_vmx_lists},
    {"vmx-random", group_vmx_random},
    {"vmx-abort-store", group_vmx_abort_store},
    {"vmx-abort-load", group_vmx_abort_load},
    {"vmx-abort-pdpte", group_vmx_abort_pdpte},
    {"svm-instructions", group_svm_instructions},
    {"svm-checks", group_svm_checks},
    {"svm-exits", group_svm_exits},
    {"svm-maps", group_svm_maps},
    {"svm-exceptions", group_svm_exceptions},
    {"svm-events", group_svm_events},
    {"svm-npt", group_svm_npt},
    {"svm-npt-walks", group_svm_npt_walks},
    {"svm-npt-hosts", group_svm_npt_hosts},
    {"svm-state", group_svm_state},
    {"svm-modes", group_svm_modes},
    {"svm-features", group_svm_features},
    {"svm-random", group_svm_random},
    {"svm-smp", group_svm_smp},
    {"hostile-vmx", group_hostile_vmx},
    {"hostile-svm", group_hostile_svm},
};

/* Runs the group that the first word of `list` names; false if there is no such group. */
static bool run_group(const char *list)
{
    for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
        size_t length = strlen(groups[i].name);
        bool ends = starts_with(list, groups[i].name) &&
                    (list[length] == ',' || list[length] == ' ' || !list[length]);
        if (ends) {
            print("guest: group %s\n", groups[i].name);
            groups[i].run();
            return true;
        }
    }
    return false;
}

static void run_groups(const char *list)
{
    check("test= is given", list != NULL);
    while (list && *list && *list != ' ') {
        check("test= names a known group", run_group(list));
        while (*list && *list != ' ' && *list != ',')
            list++;
        if (*list == ',')
            list++;
    }
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
    tables_init();
    pic_init();
    hypercall_init();
    print("guest: started by %s, %s CPU, %s\n", boot.protocol, is_intel ? "Intel" : "AMD",
          !under_umbra ? "bare"
          : test_build ? "under Umbra, test build"
                       : "under Umbra");
    check_place(option(boot.command_line, "under"));
    run_groups(option(boot.command_line, "test"));
    finish();
}
