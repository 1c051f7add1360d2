# SPDX-License-Identifier: MIT
# Umbra's only Makefile. `make help` lists the targets.

BUILD    := build
PLATFORM ?= $(BUILD)/platform
CPU      ?= all
export UMBRA_PLATFORM := $(PLATFORM)

CC       := gcc
HOSTCC   := gcc
OBJCOPY  := objcopy

WARNINGS := -Wall -Wextra -Wconversion -Wshadow -Wcast-qual -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
# The guest's FPU and vector state stays in the registers while Umbra runs: no code of ours may touch it.
CFLAGS   := -std=c17 -O2 -g -m64 -ffreestanding -mgeneral-regs-only -mno-red-zone -mcmodel=kernel -fno-pic \
            -fno-stack-protector -fno-omit-frame-pointer -fno-asynchronous-unwind-tables -fno-common \
            -fno-tree-loop-distribute-patterns -fno-strict-aliasing -fno-align-loops -fno-align-jumps -ffunction-sections -fcf-protection=none $(WARNINGS) -I. -I$(BUILD)
# What runs at boot, once before a death, or at rare exits is made for size: the image has a budget, and the other exits need the room.
COLD     := $(filter boot/% drivers/% %/setup.c %/dump.c %-name.c %/capability.c %-capability.c,$(wildcard */*.c)) \
            $(addprefix arch/,decode.c exception.c format.c log.c) $(addprefix mm/,memmap.c mtrr.c own-tables.c) \
            $(addprefix vcpu/,msr-policy.c shootdown.c violation.c) $(addprefix vmx/,control-registers.c guest-state.c) \
            $(addprefix svm/,startup.c step.c) nested/vmx-msr.c
LDFLAGS  := -nostdlib -static -no-pie -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack -Wl,--build-id=none -Wl,--gc-sections

# --- the hypervisor -------------------------------------------------------------------------------------------------------

ROOMS    := arch drivers mm vcpu vmx svm nested boot
SOURCES  := $(sort $(wildcard $(ROOMS:%=%/*.c) $(ROOMS:%=%/*.S)))
# The two variants differ in one object: the hypercalls that only tests may have.
VARIANTS := vcpu/hypercall-none.c vcpu/hypercall-test.c
COMMON   := $(filter-out $(VARIANTS) vcpu/asm-offsets.c,$(SOURCES))
OBJECTS  := $(COMMON:%=$(BUILD)/obj/%.o)

.PHONY: all iso run setup test test-long test-unit test-boot test-nested test-style prove fuzz bench bench-paging size clean help
all: $(BUILD)/umbra.elf

$(BUILD)/umbra.elf: $(OBJECTS) $(BUILD)/obj/vcpu/hypercall-none.c.o $(BUILD)/linker.ld
$(BUILD)/umbra-test.elf: $(OBJECTS) $(BUILD)/obj/vcpu/hypercall-test.c.o $(BUILD)/linker.ld
$(BUILD)/umbra.elf $(BUILD)/umbra-test.elf:
	@echo "  LINK    $@"
	@$(CC) $(LDFLAGS) -Wl,-T,$(BUILD)/linker.ld -o $@.part $(filter %.o,$^) && mv $@.part $@

$(BUILD)/linker.ld: linker.ld arch/layout.h
	@mkdir -p $(@D)
	@$(CC) -E -P -x c -I. $< -o $@

$(BUILD)/asm-offsets.h: vcpu/asm-offsets.c
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS) -MMD -MP -MT $@ -MF $@.d -S $< -o $@.s
	@sed -n 's/^->\([A-Z0-9_]*\) [$$]\{0,1\}\([0-9]*\).*/#define \1 \2/p' $@.s > $@

$(BUILD)/obj/%.c.o: %.c
	@mkdir -p $(@D)
	@echo "  CC      $<"
	@$(CC) $(CFLAGS) -MMD -MP -c $< -o $@

$(COLD:%=$(BUILD)/obj/%.o): CFLAGS += -Os
# Ordinary walks: instructions are counted there, see bench-paging.
$(BUILD)/obj/mm/walk-quick.c.o: CFLAGS += -momit-leaf-frame-pointer

$(BUILD)/obj/%.S.o: %.S $(BUILD)/asm-offsets.h
	@mkdir -p $(@D)
	@echo "  AS      $<"
	@$(CC) $(CFLAGS) -MMD -MP -c $< -o $@

size: $(BUILD)/umbra.elf
	@tests/style/check size

-include $(shell find $(BUILD)/obj $(BUILD)/unit $(BUILD)/guest $(BUILD)/asm-offsets.h.d -name '*.d' -type f 2>/dev/null)

# --- unit tests on the host -----------------------------------------------------------------------------------------------

HOSTFLAGS := -std=gnu17 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer $(WARNINGS) -I. -I$(BUILD)

# Every unit test by name, with the sources that it is linked with; none is found by itself, so none is lost unseen.
# unit-main-NAME: the test's own source, where that is not tests/unit/test-NAME.c.
UNIT_TESTS :=
walker := $(wildcard mm/walk*.c)
UNIT_TESTS += format
unit-format := arch/format.c
UNIT_TESTS += local-apic
unit-local-apic := drivers/local-apic.c
UNIT_TESTS += acpi
unit-acpi := drivers/acpi.c
UNIT_TESTS += decode
unit-decode := arch/decode.c arch/decode-tables.c
UNIT_TESTS += decode-zydis
unit-decode-zydis := arch/decode.c arch/decode-tables.c
unit-libs-decode-zydis := -lZydis
UNIT_TESTS += guest-mem
unit-guest-mem := mm/guest-mem.c mm/guest-paging.c mm/memmap.c mm/linear.c $(walker) mm/fault.c mm/paging.c mm/paging-format.c mm/permission.c
UNIT_TESTS += vmx-controls
unit-vmx-controls := vmx/controls.c vmx/cr0.c
UNIT_TESTS += nested-vmx-exit
unit-nested-vmx-exit := nested/vmx-merge.c nested/vmx-verdict.c
UNIT_TESTS += nested-vmx-event
unit-nested-vmx-event := nested/vmx-event.c
UNIT_TESTS += nested-svm
unit-nested-svm := nested/svm-capability.c nested/svm-check.c nested/svm-merge.c nested/svm-verdict.c svm/controls.c
UNIT_TESTS += nested-svm-entry
unit-nested-svm-entry := nested/svm-entry.c nested/svm-slot.c nested/svm-check.c nested/svm-merge.c svm/controls.c mm/paging-format.c
svm-pure := svm/controls.c svm/efer.c svm/event.c svm/exit-name.c svm/instruction.c svm/nmi.c svm/step.c svm/view.c \
            mm/paging.c mm/paging-format.c mm/permission.c arch/decode.c arch/decode-tables.c tests/unit/svm-case.c
UNIT_TESTS += svm
unit-svm := $(svm-pure)
UNIT_TESTS += svm-step
unit-svm-step := $(svm-pure)
UNIT_TESTS += svm-nmi
unit-svm-nmi := $(svm-pure)
UNIT_TESTS += svm-halt
unit-svm-halt := svm/halt.c $(svm-pure)
# Exits of L2 from svm_l2_exit() on, with all that Umbra itself does at them.
UNIT_TESTS += nested-svm-exit
unit-nested-svm-exit := nested/svm-exit.c nested/svm-verdict.c svm/exit.c svm/event.c svm/step.c svm/controls.c svm/exit-name.c tests/unit/svm-exit-doubles.c
unit-flags-nested-svm-exit := -iquote tests/unit/double
UNIT_TESTS += nested-svm-transition
unit-nested-svm-transition := $(addprefix nested/svm-,entry.c exit.c gif.c slot.c check.c merge.c verdict.c msr.c) $(svm-pure)
unit-flags-nested-svm-transition := -iquote tests/unit/double
UNIT_TESTS += memmap
unit-memmap := mm/memmap.c
UNIT_TESTS += frame
unit-frame := mm/frame.c
UNIT_TESTS += mtrr
unit-mtrr := mm/mtrr.c
tdp-test-tools := tests/unit/tdp-specification.c tests/unit/simulated-tlb.c tests/unit/checked-frames.c
UNIT_TESTS += tdp
unit-tdp := mm/tdp.c mm/tdp-format.c mm/mtrr.c tests/unit/tdp-model.c $(tdp-test-tools)
UNIT_TESTS += tdp-entries
unit-tdp-entries := mm/tdp.c mm/tdp-format.c mm/mtrr.c $(tdp-test-tools)
UNIT_TESTS += tdp-track
unit-tdp-track := mm/tdp.c mm/tdp-format.c mm/mtrr.c $(tdp-test-tools)
vcpu-test-tools := vcpu/shootdown.c vcpu/nested.c tests/unit/vcpu-doubles.c tests/unit/checked-frames.c mm/tdp.c mm/tdp-format.c mm/mtrr.c mm/memmap.c
UNIT_TESTS += cpuid
unit-cpuid := vcpu/cpuid.c vcpu/nested.c
UNIT_TESTS += msr-policy
unit-msr-policy := vcpu/msr-policy.c
UNIT_TESTS += msr
unit-msr := vcpu/msr.c vcpu/msr-policy.c vcpu/machine.c vcpu/accounting.c $(vcpu-test-tools)
UNIT_TESTS += violation
unit-violation := vcpu/violation.c vcpu/hypercall-none.c vcpu/machine.c vcpu/accounting.c $(vcpu-test-tools)
UNIT_TESTS += hypercall
unit-hypercall := vcpu/hypercall.c vcpu/hypercall-test.c vcpu/violation.c vcpu/start.c vcpu/xcr.c vcpu/machine.c \
                  vcpu/accounting.c $(vcpu-test-tools)
# With threads as CPUs, under ThreadSanitizer; SHOOTDOWN_STEPS and _SEED in the environment for other runs.
UNIT_TESTS += shootdown
unit-shootdown := vcpu/machine.c vcpu/accounting.c $(vcpu-test-tools)
unit-flags-shootdown := -fno-sanitize=all -fsanitize=thread -pthread
boot-test-tools := tests/unit/arena.c mm/memmap.c arch/format.c
guest-loaders := $(wildcard boot/guest*.c) boot/elf.c boot/options.c drivers/acpi.c $(boot-test-tools)
UNIT_TESTS += boot-info
unit-boot-info := boot/info.c $(boot-test-tools)
UNIT_TESTS += options
unit-options := boot/options.c arch/format.c
UNIT_TESTS += guest-linux
unit-guest-linux := $(guest-loaders)
UNIT_TESTS += guest-multiboot
unit-guest-multiboot := tests/unit/multiboot-guest.c $(guest-loaders)
UNIT_TESTS += guest-multiboot-damage
unit-guest-multiboot-damage := tests/unit/multiboot-guest.c $(guest-loaders)

# The paging core against its specification: millions of cases, so built fast, with only the undefined-behaviour
# sanitizer; NAME-asan is the same test with all of them and fewer cases.
paging-core := mm/paging.c mm/paging-format.c mm/permission.c $(walker) mm/fault.c mm/linear.c
paging-twin := tests/unit/paging-case.c tests/unit/paging-compare.c $(wildcard tests/specification/*.c)
UNIT_TESTS += paging
unit-paging := $(paging-core)
fast-flags := -O2 -fno-sanitize=all -fsanitize=undefined -fno-sanitize-recover=all
UNIT_TESTS += permission
unit-permission := $(paging-core) $(paging-twin)
unit-flags-permission := $(fast-flags)
UNIT_TESTS += walk
unit-walk := $(paging-core) $(paging-twin)
unit-flags-walk := $(fast-flags)
UNIT_TESTS += walk-2d
unit-walk-2d := $(paging-core) $(paging-twin)
unit-flags-walk-2d := $(fast-flags)
UNIT_TESTS += linear
unit-linear := $(paging-core) $(paging-twin)
unit-flags-linear := $(fast-flags)
UNIT_TESTS += walk-asan walk-2d-asan linear-asan
unit-main-walk-asan := tests/unit/test-walk.c
unit-walk-asan := $(paging-core) $(paging-twin)
unit-flags-walk-asan := -DWALK_CASES=120000u
unit-main-walk-2d-asan := tests/unit/test-walk-2d.c
unit-walk-2d-asan := $(paging-core) $(paging-twin)
unit-flags-walk-2d-asan := -DWALK_2D_CASES=40000u
unit-main-linear-asan := tests/unit/test-linear.c
unit-linear-asan := $(paging-core) $(paging-twin)
unit-flags-linear-asan := -DLINEAR_ADDRESSES=500000u -DLINEAR_OPERANDS=60000u

# The shadow MMU under a simulated L1 and hardware that forgets nothing; SHADOW_STEPS and _SEED in the environment for other runs.
shadow-world := $(wildcard nested/shadow*.c) tests/unit/shadow-world.c tests/unit/shadow-hardware.c mm/tdp.c mm/tdp-format.c \
                mm/mtrr.c mm/frame.c mm/paging.c mm/paging-format.c mm/permission.c $(walker) mm/fault.c \
                tests/unit/paging-case.c $(wildcard tests/specification/*.c)
UNIT_TESTS += shadow
unit-shadow := $(shadow-world)
unit-flags-shadow := $(fast-flags)
UNIT_TESTS += shadow-asan
unit-main-shadow-asan := tests/unit/test-shadow.c
unit-shadow-asan := $(shadow-world)
unit-flags-shadow-asan := -DSHADOW_DEFAULT_STEPS=6000
shadow-case := $(shadow-world) tests/unit/shadow-case.c
UNIT_TESTS += shadow-cases
unit-shadow-cases := $(shadow-case)
UNIT_TESTS += shadow-invalidation
unit-shadow-invalidation := $(shadow-case)
UNIT_TESTS += shadow-progress
unit-shadow-progress := $(shadow-case)
UNIT_TESTS += shadow-quick
unit-shadow-quick := $(shadow-case)
# Two CPUs, stopped after each atomic operation.
UNIT_TESTS += shadow-races
unit-shadow-races := $(shadow-case) tests/unit/two-cpus.c
unit-flags-shadow-races := $(fast-flags) -iquote tests/unit/stepped
unit-libs-shadow-races := -lpthread
# Several CPUs at once, each a thread.
UNIT_TESTS += shadow-threads
unit-shadow-threads := $(wildcard nested/shadow*.c) mm/tdp.c mm/tdp-format.c mm/mtrr.c mm/frame.c $(paging-core)
unit-flags-shadow-threads := -O2 -fno-sanitize=all -fsanitize=thread
unit-libs-shadow-threads := -lpthread

# What L1 is told of its VMX, the fields of its VMCS, and the checks of its VM entries.
vmx-checks := $(wildcard nested/vmx-check*.c) nested/vmx-capability.c nested/vmx-fields.c $(paging-core) tests/unit/vmx-check-case.c
UNIT_TESTS += vmx-check
unit-vmx-check := $(vmx-checks)
UNIT_TESTS += vmx-capability
unit-vmx-capability := $(vmx-checks)
UNIT_TESTS += vmx-fields
unit-vmx-fields := nested/vmx-operand-decode.c $(vmx-checks)

# The transitions, on a simulated CPU, against one that saves and loads everything each time.
UNIT_TESTS += nested-vmx-state
unit-nested-vmx-state := $(addprefix nested/vmx-,state.c vmcs02.c shadowing.c exit.c enter.c launch.c instructions.c merge.c verdict.c \
                         event.c operand-decode.c) vmx/event.c tests/unit/simulated-vmx.c tests/unit/nested-vmx-doubles.c \
                         tests/unit/checked-frames.c $(vmx-checks)
unit-flags-nested-vmx-state := -iquote tests/unit/double

UNIT_BINARIES := $(UNIT_TESTS:%=$(BUILD)/unit/test-%)

# Every header, for every test: seconds to rebuild, and none is forgotten.
UNIT_HEADERS := $(wildcard $(ROOMS:%=%/*.h) tests/unit/*.h tests/unit/double/*/*.h tests/unit/stepped/*/*.h tests/specification/*.h)

define unit_rule
$(BUILD)/unit/test-$(1): $(or $(unit-main-$(1)),tests/unit/test-$(1).c) $(unit-$(1)) $(UNIT_HEADERS)
	@mkdir -p $$(@D)
	@echo "  HOSTCC  $$@"
	@$(HOSTCC) $(HOSTFLAGS) $(unit-flags-$(1)) $$(filter %.c,$$^) -o $$@ -lcmocka $(unit-libs-$(1))
endef
$(foreach test,$(UNIT_TESTS),$(eval $(call unit_rule,$(test))))

test-unit: $(UNIT_BINARIES)
	@tests/summary unit $(BUILD)/results/unit -- $(UNIT_BINARIES)

# --- guests and system tests ----------------------------------------------------------------------------------------------

-include tests/guest/guest.mk

setup:
	@tests/platform/setup all

LINUX := --guest $(PLATFORM)/linux/vmlinuz --module $(BUILD)/guest/initramfs.cpio.gz

iso: setup
	@$(MAKE) --no-print-directory all guests
	@tests/system/make-iso $(BUILD)/umbra.elf $(PLATFORM)/linux/vmlinuz $(BUILD)/guest/initramfs.cpio.gz $(BUILD)/umbra.iso

run: setup
	@$(MAKE) --no-print-directory all guests
	@tests/system/run --cpu $(if $(filter amd,$(CPU)),amd,intel) --interactive $(LINUX) \
		--cmdline 'console=ttyS0' --umbra-args 'hypercalls=user'

test-boot: setup
	@$(MAKE) --no-print-directory $(BUILD)/umbra.elf $(BUILD)/umbra-test.elf guests
	@tests/system/test-boot --cpu $(CPU) --results $(BUILD)/results/boot

# The paging core alone, on the host: the hypervisor's objects, counted by valgrind.
$(BUILD)/bench/paging: tests/bench/paging.c $(patsubst %,$(BUILD)/obj/mm/%.c.o,paging paging-format permission walk walk-general walk-mark walk-2d walk-quick)
	@mkdir -p $(@D)
	@echo "  HOSTCC  $@"
	@$(HOSTCC) -std=gnu17 -O2 -g -no-pie $(WARNINGS) -I. $^ -o $@

bench-paging: $(BUILD)/bench/paging
	@tests/bench/paging $<

# The guest as a hypervisor: our own small L1, and Linux with KVM's guests and Linux in them.
test-nested: setup
	@$(MAKE) --no-print-directory $(BUILD)/umbra.elf $(BUILD)/umbra-test.elf guests nested-guests
	@tests/system/test-boot --nested --cpu $(CPU) --results $(BUILD)/results/nested

bench: setup
	@$(MAKE) --no-print-directory all guests
	@tests/style/check size
	@$(MAKE) --no-print-directory bench-paging
	@tests/bench/run --cpu $(CPU)

test-style:
	@tests/style/check --results $(BUILD)/results/style

# The CBMC proofs of the paging core.
prove:
	@tests/platform/setup cbmc
	@tests/proof/run --results $(BUILD)/results/proof

fuzz:
	@tests/fuzz/run --results $(BUILD)/results/fuzz

test: setup
	@rm -rf $(BUILD)/results
	@$(MAKE) --no-print-directory all
	-@$(MAKE) --no-print-directory test-style
	-@$(MAKE) --no-print-directory test-unit
	-@$(MAKE) --no-print-directory prove
	-@$(MAKE) --no-print-directory fuzz
	-@$(MAKE) --no-print-directory test-boot
	-@$(MAKE) --no-print-directory test-nested
	@tests/summary total $(BUILD)/results style unit proof fuzz boot nested

# On demand only: random tests until the time is up.
MINUTES ?= 10
test-long: setup
	@$(MAKE) --no-print-directory all guests $(patsubst %,$(BUILD)/unit/test-%,shadow shadow-threads shootdown)
	@tests/long --minutes $(MINUTES) $(SEED:%=--seed %)

clean:
	@echo "  CLEAN   $(BUILD) (the downloaded platform in $(PLATFORM) stays; rm -rf it by hand)"
	@find $(BUILD) -mindepth 1 -maxdepth 1 ! -name platform -exec rm -rf {} + 2>/dev/null || true

help:
	@sed -n 's/^## //p' Makefile

## make            build/umbra.elf
## make iso        build/umbra.iso: GRUB, Umbra and the Linux guest, for an emulator or a USB stick
## make run        Umbra in an emulated Ice Lake with a Linux guest, to a shell on this terminal (CPU=amd: an emulated Zen)
## make test       all that CI runs; its parts: test-style, test-unit, prove, fuzz (minutes), test-boot (CPU=intel|amd limits it)
## make test-long  random tests with other seeds (MINUTES=10 in all, SEED=N to repeat): the shadow MMU, threads, fuzzers, a hostile L1
## make prove      the CBMC proofs of the paging core
## make fuzz       the fuzz targets, each for a fixed number of executions
## make test-nested  our own L1, Linux as L1 with KVM guests of its own, and Linux in Linux (CPU=intel|amd limits it)
## make bench      instructions and exits per event, on both emulated CPUs
## make setup      what the others do first where it is needed: Debian packages, emulators and kernels in build/platform
## make size       text and data against the budget
## make clean      everything but the downloaded platform
