/* QEMU plugin: counts retired instructions between two calls of getsid(0) by the emulated program.
 *
 * At every call one line "INSTRUCTIONS MEMORY SIMD" is written to standard error, counted from the
 * start. Memory are loads and stores without those of SVE; SIMD is arithmetic on vector and
 * floating-point registers, Advanced SIMD, and all of SVE. Classes are those of the top level of the
 * A64 encoding, bits 28 to 25.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>

#include <qemu-plugin.h>

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

enum { ALL, MEMORY, SIMD, KINDS };
enum { GETSID = 156 };

static struct qemu_plugin_scoreboard *boards[KINDS];
static qemu_plugin_u64 counters[KINDS];

static void count(struct qemu_plugin_insn *instruction, int kind)
{
    qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(
        instruction, QEMU_PLUGIN_INLINE_ADD_U64, counters[kind], 1);
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
        uint32_t word = 0;
        qemu_plugin_insn_data(instruction, &word, sizeof word);
        unsigned group = word >> 25 & 0xf;
        count(instruction, ALL);
        if ((group & 5) == 4)
            count(instruction, MEMORY);
        else if ((group & 7) == 7 || group == 2)
            count(instruction, SIMD);
    }
}

static void called(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t a1, uint64_t a2,
                   uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    (void)id, (void)cpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number == GETSID && a1 == 0)
        fprintf(stderr, "%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", qemu_plugin_u64_sum(counters[ALL]),
                qemu_plugin_u64_sum(counters[MEMORY]), qemu_plugin_u64_sum(counters[SIMD]));
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
                                           char **argv)
{
    (void)info, (void)argc, (void)argv;
    for (int kind = 0; kind < KINDS; kind++) {
        boards[kind] = qemu_plugin_scoreboard_new(sizeof(uint64_t));
        counters[kind] = qemu_plugin_scoreboard_u64(boards[kind]);
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
