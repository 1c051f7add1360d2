/* SPDX-License-Identifier: MIT */
/*
 * Next RIP by NRIP save or by decoding; see svm/instruction.h. Opcodes: APM vol. 3 appendix A.
 */
#include "svm/instruction.h"

#include "arch/x86.h"
#include "mm/guest-mem.h"

/* Group 7 (0F 01) with mod = 3 is told apart by the whole ModRM byte. */
enum { OPCODE_GROUP_7 = 0x01, MODRM_NONE = 0, OPCODE_ESCAPE = 0x0f, OPCODE_MOV_TO_CR = 0x22 };

static const struct {
    u8 opcode; /* after 0F */
    u8 modrm;
    u8 bytes; /* without prefixes */
} instructions[] = {
    [SVM_INSTRUCTION_CPUID] = {0xa2, MODRM_NONE, 2},
    [SVM_INSTRUCTION_RDMSR] = {0x32, MODRM_NONE, 2},
    [SVM_INSTRUCTION_WRMSR] = {0x30, MODRM_NONE, 2},
    [SVM_INSTRUCTION_INVD] = {0x08, MODRM_NONE, 2},
    [SVM_INSTRUCTION_XSETBV] = {OPCODE_GROUP_7, 0xd1, 3},
    [SVM_INSTRUCTION_VMMCALL] = {OPCODE_GROUP_7, 0xd9, 3},
    [SVM_INSTRUCTION_VMRUN] = {OPCODE_GROUP_7, 0xd8, 3},
    [SVM_INSTRUCTION_VMLOAD] = {OPCODE_GROUP_7, 0xda, 3},
    [SVM_INSTRUCTION_VMSAVE] = {OPCODE_GROUP_7, 0xdb, 3},
    [SVM_INSTRUCTION_STGI] = {OPCODE_GROUP_7, 0xdc, 3},
    [SVM_INSTRUCTION_CLGI] = {OPCODE_GROUP_7, 0xdd, 3},
    [SVM_INSTRUCTION_INVLPGA] = {OPCODE_GROUP_7, 0xdf, 3},
};

static u8 modrm_of(const struct instruction *decoded)
{
    return (u8)(decoded->mod << 6 | (decoded->reg & 7) << 3 | (decoded->rm & 7));
}

static bool is_0f(const struct instruction *decoded, u8 opcode)
{
    return decoded->encoding == ENCODING_LEGACY && decoded->map == OPCODE_MAP_0F && decoded->opcode == opcode;
}

bool svm_instruction_is(const struct instruction *decoded, enum svm_instruction which)
{
    if (!is_0f(decoded, instructions[which].opcode))
        return false;
    return instructions[which].modrm == MODRM_NONE || modrm_of(decoded) == instructions[which].modrm;
}

bool svm_instruction_needs_svm(const struct instruction *decoded)
{
    u8 modrm = modrm_of(decoded);

    return is_0f(decoded, OPCODE_GROUP_7) && modrm >= 0xd8 && modrm <= 0xdf &&
           modrm != instructions[SVM_INSTRUCTION_VMMCALL].modrm;
}

bool svm_instruction_moves_to_paging_cr(const struct instruction *decoded)
{
    return is_0f(decoded, OPCODE_MOV_TO_CR) && (decoded->reg == 3 || decoded->reg == 4);
}

bool svm_fetch_instruction(struct svm_vcpu *svm, struct instruction *decoded)
{
    struct linear_context context = svm_linear_context(svm);
    u8 bytes[INSTRUCTION_MAX_BYTES];
    size_t count = linear_fetch(&context, svm_linear_rip(svm), bytes, sizeof(bytes));

    return decode_instruction(bytes, count, svm_decode_mode(svm), decoded) == DECODE_OK;
}

static void set_next_rip(struct svm_vcpu *svm, u64 length)
{
    u64 next = svm->vmcb->save.rip + length;

    svm->next_rip = svm_context(svm).code64 ? next : (u32)next;
}

static struct svm_last_instruction *site_of(struct svm_vcpu *svm, u64 rip)
{
    return &svm->site[(rip ^ rip >> 4) % SVM_SITES];
}

/* As svm_is_last_instruction(), for three bytes, and for the one guest that has a site: not L2. */
static bool is_known_site(const struct svm_vcpu *svm, const struct svm_last_instruction *site,
                          enum svm_instruction which)
{
    const struct vmcb_save *save = &svm->vmcb->save;

    if (site->bytes == NULL)
        return false;
    const u8 *third = (const u8 *)site->bytes + sizeof(u16);
    return !svm->vcpu->l2_running && site->rip == save->rip && site->cr3 == save->cr3 &&
           site->cs_attributes == save->cs.attributes && site->efer == save->efer &&
           __atomic_load_n(site->bytes, __ATOMIC_RELAXED) ==
               (OPCODE_ESCAPE | instructions[which].opcode << 8) &&
           __atomic_load_n(third, __ATOMIC_RELAXED) == instructions[which].modrm;
}

/* For the next exit by the same instruction: a loop around CPUID is what a guest measures a hypervisor with.
 */
static void remember(struct svm_vcpu *svm, struct svm_last_instruction *last, size_t bytes,
                     const struct linear_context *context)
{
    const struct vmcb_save *save = &svm->vmcb->save;
    unsigned access = ACCESS_FETCH | (context->cpl == 3 ? ACCESS_USER : 0);
    struct walk code;

    last->cs_attributes = SVM_LAST_NONE;
    if (!context->code_64 || context->host != NULL ||
        walk(context->paging, context->memory, context->root, save->rip, access, &code) != WALK_OK)
        return;
    last->bytes = guest_view(gpa(code.address), bytes);
    if (last->bytes == NULL)
        return;
    last->rip = save->rip;
    last->cr3 = save->cr3;
    last->efer = save->efer;
    last->cs_attributes = save->cs.attributes;
}

/*
 * What remains when there is no NRIP save, as in QEMU's TCG. The exit itself proves which instruction it was;
 * only its prefixes are unknown, and nearly always there are none: two or three bytes tell.
 */
bool svm_decode_next_rip(struct svm_vcpu *svm, enum svm_instruction which)
{
    size_t wanted = instructions[which].bytes;
    struct svm_last_instruction *last =
        wanted == sizeof(u16) ? &svm->last : site_of(svm, svm->vmcb->save.rip);

    if (wanted != sizeof(u16) && is_known_site(svm, last, which)) {
        set_next_rip(svm, wanted);
        return true;
    }

    struct linear_context context = svm_linear_context(svm);
    struct instruction decoded;
    u8 bytes[3];
    size_t count = linear_fetch(&context, svm_linear_rip(svm), bytes, wanted);

    /* In ROM or a device's memory, which Umbra does not read: prefixes are assumed to be absent. */
    bool plain = count < wanted || (bytes[0] == OPCODE_ESCAPE && bytes[1] == instructions[which].opcode &&
                                    (wanted == 2 || bytes[2] == instructions[which].modrm));
    if (plain) {
        set_next_rip(svm, wanted);
        if (count == wanted && !svm->vcpu->l2_running)
            remember(svm, last, wanted, &context);
        return true;
    }
    if (!svm_fetch_instruction(svm, &decoded) || !svm_instruction_is(&decoded, which))
        return false;
    set_next_rip(svm, decoded.length);
    return true;
}
