/* SPDX-License-Identifier: MIT */
/*
 * Next RIP by NRIP save or by decoding; see svm/instruction.h. Opcodes: APM vol. 3 appendix A.
 */
#include "svm/instruction.h"

#include "arch/x86.h"
#include "mm/guest-mem.h"

/* Group 7 (0F 01) with mod = 3 is told apart by the whole ModRM byte. */
enum { OPCODE_GROUP_7 = 0x01, OPCODE_MOV_TO_CR = 0x22 };
/* In the primary map. */
enum { OPCODE_MOV_TO_MEMORY = 0x89, OPCODE_MOV_EAX_TO_MEMORY = 0xa3, OPCODE_MOV_IMMEDIATE = 0xc7 };

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
    u32 bytes = svm_instruction_bytes[which];

    if (which == SVM_INSTRUCTION_HLT)
        return decoded->encoding == ENCODING_LEGACY && decoded->map == OPCODE_MAP_PRIMARY &&
               decoded->opcode == bytes;
    return is_0f(decoded, (u8)(bytes >> 8)) &&
           (svm_instruction_length(which) == 2 || modrm_of(decoded) == bytes >> 16);
}

bool svm_instruction_needs_svm(const struct instruction *decoded)
{
    u8 modrm = modrm_of(decoded);

    return is_0f(decoded, OPCODE_GROUP_7) && modrm >= 0xd8 && modrm <= 0xdf &&
           !svm_instruction_is(decoded, SVM_INSTRUCTION_VMMCALL);
}

bool svm_instruction_moves_to_paging_cr(const struct instruction *decoded)
{
    return is_0f(decoded, OPCODE_MOV_TO_CR) && (decoded->reg == 3 || decoded->reg == 4);
}

bool svm_instruction_stores(const struct instruction *decoded, const u64 gpr[GPR_COUNT], u32 *value)
{
    if (decoded->encoding != ENCODING_LEGACY || decoded->map != OPCODE_MAP_PRIMARY || decoded->lock ||
        decoded->operand_bytes != sizeof(u32) || !decoded->memory.present)
        return false;
    switch (decoded->opcode) {
    case OPCODE_MOV_TO_MEMORY:
        *value = (u32)gpr[decoded->reg];
        return true;
    case OPCODE_MOV_EAX_TO_MEMORY:
        *value = (u32)gpr[GPR_RAX];
        return true;
    case OPCODE_MOV_IMMEDIATE:
        *value = (u32)decoded->immediate;
        return (decoded->reg & 7) == 0;
    default:
        return false;
    }
}

bool svm_fetch_instruction(struct svm_vcpu *svm, struct instruction *decoded)
{
    struct linear_context context = svm_linear_context(svm);
    u8 bytes[INSTRUCTION_MAX_BYTES];
    size_t count = linear_fetch(&context, svm_linear_rip(svm), bytes, sizeof(bytes));

    return decode_instruction(bytes, count, svm_decode_mode(svm), decoded) == DECODE_OK;
}

void svm_set_next_rip(struct svm_vcpu *svm, u64 length)
{
    u64 next = svm->vmcb->save.rip + length;

    svm->next_rip = svm_code_is_64bit(&svm->vmcb->save) ? next : (u32)next;
}

/* For the next exit by the same instruction: a loop around CPUID is what a guest measures a hypervisor with.
 */
static void remember(struct svm_vcpu *svm, enum svm_instruction which, const struct linear_context *context)
{
    const struct vmcb_save *save = &svm->vmcb->save;
    unsigned access = ACCESS_FETCH | (context->cpl == 3 ? ACCESS_USER : 0);
    struct svm_site *site = svm->site[which];
    struct walk code;

    if (!context->code_64 || svm->vcpu->l2_running ||
        walk(context->paging, context->memory, context->root, save->rip, access, &code) != WALK_OK)
        return;
    const void *bytes = guest_view(gpa(code.address), sizeof(u32));
    if (bytes == NULL)
        return;
    /* Known by another CR3, or for bytes that are no longer these: in its old place. */
    if (site[0].rip != save->rip)
        site[1] = site[0];
    site[0] = (struct svm_site){save->rip, save->cr3, bytes};
}

static u64 mask_of_bytes(unsigned bytes)
{
    return ~0ull >> (64 - 8 * bytes);
}

/*
 * What remains when there is no NRIP save, as in QEMU's TCG, or when an address in rAX may have another size.
 * The exit itself proves which instruction it was; only its prefixes are unknown, and nearly always there are
 * none: one to three bytes tell.
 */
bool svm_decode_next_rip(struct svm_vcpu *svm, enum svm_instruction which)
{
    static const u8 default_address_bytes[] = {
        [DECODE_MODE_16] = 2, [DECODE_MODE_32] = 4, [DECODE_MODE_64] = 8};
    size_t wanted = svm_instruction_length(which);
    struct linear_context context = svm_linear_context(svm);
    struct instruction decoded;
    u32 bytes = 0;
    size_t count = linear_fetch(&context, svm_linear_rip(svm), (u8 *)&bytes, wanted);

    /* In ROM or a device's memory, which Umbra does not read: prefixes are assumed to be absent. */
    if (count < wanted || bytes == svm_instruction_bytes[which]) {
        svm_set_next_rip(svm, wanted);
        svm->address_mask = mask_of_bytes(default_address_bytes[svm_decode_mode(svm)]);
        if (count == wanted)
            remember(svm, which, &context);
        return true;
    }
    if (!svm_fetch_instruction(svm, &decoded) || !svm_instruction_is(&decoded, which))
        return false;
    svm_set_next_rip(svm, decoded.length);
    svm->address_mask = mask_of_bytes(decoded.address_bytes);
    return true;
}
