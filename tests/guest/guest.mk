# SPDX-License-Identifier: MIT
# The test guest in its three forms; included by the top Makefile, or used alone: make -f tests/guest/guest.mk guests
#   guest.elf      multiboot1, ELF32
#   guest-mb2.elf  multiboot2, ELF32
#   guest.bin      multiboot1, flat, with the address fields of a.out kernels

BUILD ?= build
GUEST_BUILD := $(BUILD)/guest
GUEST_CC ?= gcc
GUEST_CFLAGS := -std=gnu17 -m64 -O2 -ffreestanding -fno-pic -mno-red-zone -mgeneral-regs-only -mcmodel=small \
	-fno-stack-protector -fno-strict-aliasing -fno-tree-loop-distribute-patterns -fno-asynchronous-unwind-tables -fcf-protection=none -I. -MMD -MP \
	-Wall -Wextra -Wconversion -Wshadow -Wcast-qual -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
GUEST_C := $(wildcard tests/guest/*.c)
GUEST_S := tests/guest/entry.S tests/guest/vectors.S tests/guest/modes.S tests/guest/legacy.S tests/guest/vmx-enter.S \
	tests/guest/vmx-bench.S tests/guest/svm-bench.S tests/guest/vmx-legacy.S tests/guest/svm-enter.S \
	tests/guest/svm-hosts.S tests/guest/smp.S
# Umbra's paging core, which the groups `paging` and `second-level` compare the CPU with.
GUEST_ORACLE := paging paging-format permission walk walk-general walk-mark walk-2d fault
GUEST_OBJECTS := $(GUEST_C:tests/guest/%.c=$(GUEST_BUILD)/%.o) $(GUEST_S:tests/guest/%.S=$(GUEST_BUILD)/%.o) \
	$(GUEST_ORACLE:%=$(GUEST_BUILD)/mm/%.o)
GUEST_HEADERS := mb1 mb2 flat
GUEST_IMAGES := $(GUEST_BUILD)/guest.elf $(GUEST_BUILD)/guest-mb2.elf $(GUEST_BUILD)/guest.bin

.PHONY: guests
guests: $(GUEST_IMAGES) $(GUEST_BUILD)/initramfs.cpio.gz

$(GUEST_C:tests/guest/%.c=$(GUEST_BUILD)/%.o): $(GUEST_BUILD)/%.o: tests/guest/%.c tests/guest/guest.mk
	@mkdir -p $(@D)
	@echo "  GUESTCC $@"
	@$(GUEST_CC) $(GUEST_CFLAGS) -c -o $@ $<

$(GUEST_ORACLE:%=$(GUEST_BUILD)/mm/%.o): $(GUEST_BUILD)/mm/%.o: mm/%.c tests/guest/guest.mk
	@mkdir -p $(@D)
	@echo "  GUESTCC $@"
	@$(GUEST_CC) $(GUEST_CFLAGS) -c -o $@ $<

$(GUEST_S:tests/guest/%.S=$(GUEST_BUILD)/%.o): $(GUEST_BUILD)/%.o: tests/guest/%.S tests/guest/guest.mk
	@mkdir -p $(@D)
	@echo "  GUESTCC $@"
	@$(GUEST_CC) $(GUEST_CFLAGS) -c -o $@ $<

$(GUEST_BUILD)/header-mb1.o: GUEST_HEADER := -DHEADER_MB1=1
$(GUEST_BUILD)/header-mb2.o: GUEST_HEADER := -DHEADER_MB2=1
$(GUEST_BUILD)/header-flat.o: GUEST_HEADER := -DHEADER_FLAT=1
$(GUEST_HEADERS:%=$(GUEST_BUILD)/header-%.o): $(GUEST_BUILD)/header-%.o: tests/guest/header.S tests/guest/guest.mk
	@mkdir -p $(@D)
	@echo "  GUESTCC $@"
	@$(GUEST_CC) $(GUEST_CFLAGS) $(GUEST_HEADER) -c -o $@ $<

$(GUEST_HEADERS:%=$(GUEST_BUILD)/guest-%.elf64): $(GUEST_BUILD)/guest-%.elf64: $(GUEST_BUILD)/header-%.o $(GUEST_OBJECTS) tests/guest/guest.ld
	@$(GUEST_CC) -m64 -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,noexecstack -Wl,--no-warn-rwx-segments \
		-T tests/guest/guest.ld -o $@ $(filter %.o,$^)

$(GUEST_BUILD)/guest.elf: $(GUEST_BUILD)/guest-mb1.elf64
	@echo "  OBJCOPY $@"
	@objcopy -S -O elf32-i386 $< $@
$(GUEST_BUILD)/guest-mb2.elf: $(GUEST_BUILD)/guest-mb2.elf64
	@echo "  OBJCOPY $@"
	@objcopy -S -O elf32-i386 $< $@
$(GUEST_BUILD)/guest.bin: $(GUEST_BUILD)/guest-flat.elf64
	@echo "  OBJCOPY $@"
	@objcopy -S -O binary $< $@

-include $(wildcard $(GUEST_BUILD)/*.d $(GUEST_BUILD)/mm/*.d)

# Need the platform's busybox; the last two also its Linux. -kvm has KVM's modules and the KVM client, -l2 also a Linux to
# be booted as L2 by it, -kexec one to be booted in its own place: apart, so that the ordinary one stays small.
INITRAMFS_SOURCES := $(filter-out tests/system/linux/kvm-client,$(wildcard tests/system/linux/*))
KVM_CLIENT_SOURCES := $(wildcard tests/system/linux/kvm-client/*)
.PHONY: nested-guests
nested-guests: $(GUEST_BUILD)/initramfs-kvm.cpio.gz $(GUEST_BUILD)/initramfs-l2.cpio.gz $(GUEST_BUILD)/initramfs-kexec.cpio.gz

$(GUEST_BUILD)/initramfs-kvm.cpio.gz: INITRAMFS_OPTIONS := --kvm
$(GUEST_BUILD)/initramfs-l2.cpio.gz: INITRAMFS_OPTIONS := --l2-linux
$(GUEST_BUILD)/initramfs-kexec.cpio.gz: INITRAMFS_OPTIONS := --kexec $(GUEST_BUILD)/initramfs-kvm.cpio.gz
$(GUEST_BUILD)/initramfs-kexec.cpio.gz: $(GUEST_BUILD)/initramfs-kvm.cpio.gz
$(GUEST_BUILD)/initramfs-kvm.cpio.gz $(GUEST_BUILD)/initramfs-l2.cpio.gz $(GUEST_BUILD)/initramfs-kexec.cpio.gz: $(KVM_CLIENT_SOURCES)
$(GUEST_BUILD)/initramfs.cpio.gz $(GUEST_BUILD)/initramfs-kvm.cpio.gz $(GUEST_BUILD)/initramfs-l2.cpio.gz $(GUEST_BUILD)/initramfs-kexec.cpio.gz: $(INITRAMFS_SOURCES)
	@echo "  CPIO    $@"
	@tests/system/linux/mkinitramfs $(INITRAMFS_OPTIONS) -o $@
