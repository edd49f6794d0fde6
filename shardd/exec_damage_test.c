/* Records whose bytes are damaged: a command that meets one answers something, or tells of the damage as a fault, and never
 * reads or writes where it should not. SEED repeats a run. */
#include "shardd/collection.h"
#include "shardd/exec.h"
#include "shardd/kv_memory.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "libcommon/error.h"
#include "shardd/random_entries.h"

enum { TRIALS = 1500, BEFORE = 40, AFTER = 60, RECORDS_MAX = 4096 };

struct trial {
    struct kv *kv;
    struct exec exec;
    uint64_t time_us;
    struct buffer answer;
};

/* SK_OK or a client's error; a fault. */
static int execute(struct trial *trial, const struct logged *entry) {
    struct slice body = buffer_slice(&entry->body);
    uint32_t removed;
    buffer_clear(&trial->answer, 65536);
    if (entry->kind == ENTRY_READ) return exec_read(&trial->exec, body, &entry->moment, &trial->answer);
    if (entry->kind == ENTRY_SWEEP) {
        return exec_sweep(&trial->exec, entry->moment.time_us, entry->limit, &removed);
    }
    bool atomic = entry->kind != ENTRY_WRITE;
    int err = exec_check(&trial->exec, body, atomic, true, &trial->answer);
    return err == SK_OK ? exec_run(&trial->exec, body, atomic, &entry->moment, &trial->answer) : err;
}

/* So many entries, or until a fault. */
static int execute_some(struct trial *trial, uint32_t count) {
    int err = SK_OK;
    for (uint32_t i = 0; err >= 0 && i < count; i++) {
        struct logged entry;
        make_entry(&entry, &trial->time_us);
        err = execute(trial, &entry);
        buffer_deinit(&entry.body);
    }
    return err;
}

/* A record by chance, with its copies in `key` and `value`. */
static bool draw_record(struct trial *trial, struct buffer *key, struct buffer *value) {
    struct kv_iter *iter;
    struct slice found_key, found_value;
    uint32_t met = 0;
    assert_int_equal(kv_iter_open(trial->kv, slice_of("", 0), &iter), SK_OK);
    while (kv_iter_next(iter, &found_key, &found_value) == SK_OK) {
        if (draw(++met) > 0) continue;
        buffer_clear(key, 65536);
        buffer_clear(value, 65536);
        buffer_append(key, found_key.data, found_key.size);
        buffer_append(value, found_value.data, found_value.size);
    }
    kv_iter_close(iter);
    return met > 0;
}

static void damage_bytes(struct buffer *bytes) {
    if (bytes->size == 0) return;
    uint32_t at = draw((uint32_t)bytes->size);
    switch (draw(4)) {
    case 0:
        bytes->data[at] ^= (uint8_t)(1u << draw(8));
        break;
    case 1:
        memset(bytes->data + at, draw(2) ? 0xff : 0, bytes->size - at < 8 ? bytes->size - at : 8);
        break;
    case 2:
        bytes->size = at;
        break;
    default:
        buffer_append(bytes, "\xff\0\x7f\x80\1", 5);
    }
}

static void damage(struct trial *trial) {
    struct buffer key, value;
    buffer_init(&key);
    buffer_init(&value);
    if (draw_record(trial, &key, &value)) {
        uint32_t how = draw(8);
        if (how == 0) assert_int_equal(kv_del(trial->kv, buffer_slice(&key)), SK_OK);
        if (how == 1) damage_bytes(&key);
        if (how > 1) damage_bytes(&value);
        if (how > 0 && key.size > 0 && key.size <= KV_KEY_BYTES_MAX) {
            assert_int_equal(kv_put(trial->kv, buffer_slice(&key), buffer_slice(&value)), SK_OK);
        }
    }
    buffer_deinit(&key);
    buffer_deinit(&value);
}

static void commands_live_with_damage(void **state) {
    (void)state;
    uint32_t told = 0;
    draw_seed();
    for (uint32_t i = 0; i < TRIALS; i++) {
        struct trial trial = {.time_us = 1700000000000000};
        unsigned own = seed;
        assert_int_equal(kv_new_memory(&trial.kv), SK_OK);
        exec_init(&trial.exec, trial.kv, 0, 1);
        buffer_init(&trial.answer);
        assert_true(execute_some(&trial, BEFORE) >= 0);
        damage(&trial);
        int err = execute_some(&trial, AFTER);
        if (err < 0 && err != SK_ECORRUPT) fail_msg("SEED=%u: %s", own, error_name(err));
        told += err < 0;
        buffer_deinit(&trial.answer);
        exec_deinit(&trial.exec);
        kv_free_memory(trial.kv);
    }
    assert_true(told > TRIALS / 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(commands_live_with_damage)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
