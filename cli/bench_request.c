#include "bench_request.h"

#include "client.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/mp.h"

#include <stdlib.h>

#define MESSAGE_HEAD_BYTES 32 /* array, kind, msgid, method, count: 1 + 1 + 5 + 6 + 5 and some */

struct bench_maker {
    struct buffer get, set; /* method and params, with room for the key at key_at */
    size_t get_key_at, set_key_at;
    struct buffer options, options_with_id; /* the id's 16 bytes are the last */
};

/* Where the key's bytes begin is answered. */
static size_t make_command(struct buffer *out, const char *method, const uint8_t *value, size_t value_bytes) {
    uint8_t key[KEYS_BYTES] = {0};
    mp_write_text(out, method);
    mp_write_array(out, value != NULL ? 2 : 1);
    mp_write_bin(out, slice_of(key, sizeof key));
    size_t key_at = out->size - sizeof key;
    if (value != NULL) mp_write_bin(out, slice_of(value, value_bytes));
    return key_at;
}

static void make_options(struct buffer *out, const struct bench_maker_options *options, bool id) {
    static const uint8_t zeros[CLIENT_ID_BYTES];
    mp_write_map(out, 1u + options->follower_reads + id + (options->token.size > 0));
    if (options->token.size > 0) {
        mp_write_text(out, "token");
        mp_write_bin(out, options->token);
    }
    mp_write_text(out, "timeout_ms");
    mp_write_uint(out, options->timeout_ms);
    if (options->follower_reads) {
        mp_write_text(out, "read");
        mp_write_text(out, "follower");
    }
    if (!id) return;
    mp_write_text(out, "id");
    mp_write_bin(out, slice_of(zeros, sizeof zeros));
}

int bench_maker_new(struct bench_maker **maker, const struct bench_maker_options *options) {
    struct bench_maker *made = calloc(1, sizeof *made);
    uint64_t value_bytes = options->value_bytes;
    uint8_t *value = malloc(value_bytes + 1);
    if (made == NULL || value == NULL) {
        free(made);
        free(value);
        return SK_ENOMEM;
    }
    struct keys_chooser chooser = {.random = 1};
    for (uint64_t i = 0; i < value_bytes; i++) value[i] = (uint8_t)(keys_random(&chooser) >> 56);
    made->get_key_at = make_command(&made->get, "GET", NULL, 0);
    made->set_key_at = make_command(&made->set, "SET", value, value_bytes);
    make_options(&made->options, options, false);
    if (options->ids) make_options(&made->options_with_id, options, true);
    free(value);
    bool failed = made->get.failed || made->set.failed || made->options.failed || made->options_with_id.failed;
    int err = failed                                                                  ? SK_ENOMEM
              : bench_request_bytes_max(made, options->batch_max) > MESSAGE_BYTES_MAX ? SK_TOOLARGE
                                                                                      : SK_OK;
    if (err != SK_OK) bench_maker_free(made);
    else *maker = made;
    return err;
}

void bench_maker_free(struct bench_maker *maker) {
    if (maker == NULL) return;
    buffer_deinit(&maker->get);
    buffer_deinit(&maker->set);
    buffer_deinit(&maker->options);
    buffer_deinit(&maker->options_with_id);
    free(maker);
}

size_t bench_request_bytes_max(const struct bench_maker *maker, uint64_t count) {
    return MESSAGE_HEAD_BYTES + count * (maker->set.size + 1) + maker->options.size + maker->options_with_id.size;
}

static uint8_t *put(uint8_t *out, const void *bytes, size_t size) {
    memcpy(out, bytes, size);
    return out + size;
}

static uint8_t *put_u32(uint8_t *out, uint8_t type, uint32_t number) {
    uint8_t bytes[] = {type, (uint8_t)(number >> 24), (uint8_t)(number >> 16), (uint8_t)(number >> 8),
                       (uint8_t)number};
    return put(out, bytes, sizeof bytes);
}

static uint8_t *put_command(const struct bench_maker *maker, uint8_t *out, const struct bench_command *command) {
    const struct buffer *template = command->write ? &maker->set : &maker->get;
    keys_write(command->key, put(out, template->data, template->size) - template->size +
                                 (command->write ? maker->set_key_at : maker->get_key_at));
    return out + template->size;
}

size_t bench_request_write(const struct bench_maker *maker, uint8_t *room, uint32_t msgid,
                           const struct bench_command *commands, uint64_t count, const uint64_t id[2]) {
    static const uint8_t head[] = {0x95, 0x00}, batch[] = {0xa5, 'b', 'a', 't', 'c', 'h'}, pair[] = {0x92};
    uint8_t *out = put_u32(put(room, head, sizeof head), 0xce, msgid);
    bool write = false;
    if (count > 1) out = put_u32(put(out, batch, sizeof batch), 0xdd, (uint32_t)count);
    for (uint64_t i = 0; i < count; i++) {
        if (count > 1) out = put(out, pair, sizeof pair);
        out = put_command(maker, out, &commands[i]);
        write = write || commands[i].write;
    }
    if (!write || maker->options_with_id.size == 0)
        return (size_t)(put(out, maker->options.data, maker->options.size) - room);
    out = put(out, maker->options_with_id.data, maker->options_with_id.size - CLIENT_ID_BYTES);
    return (size_t)(put(out, id, CLIENT_ID_BYTES) - room);
}

/* After [1, msgid: error, result], or the same of a pair. */
static int read_answer(struct mp_reader *reader, struct bench_answers *answers) {
    struct mp_value value;
    int err = mp_read(reader, &value);
    if (err != SK_OK) return err;
    if (value.type == MP_NIL) {
        answers->missing += reader->at < reader->end && *reader->at == 0xc0;
        answers->ok++;
        return mp_skip(reader, NULL);
    }
    if (value.type != MP_ARRAY || value.count != 2) return SK_EPROTO;
    err = mp_read_bytes(reader, &answers->code);
    if (err == SK_OK) err = mp_skip(reader, NULL);
    if (err == SK_OK) err = mp_skip(reader, NULL);
    answers->failed++;
    return err;
}

static int read_batch(struct slice result, uint64_t count, struct bench_answers *answers) {
    struct mp_reader reader = mp_reader_of(result);
    uint32_t pairs, two;
    int err = mp_read_array(&reader, &pairs);
    if (err == SK_OK && pairs != count) err = SK_EPROTO;
    for (uint32_t i = 0; err == SK_OK && i < pairs; i++) {
        err = mp_read_array(&reader, &two);
        if (err == SK_OK) err = two == 2 ? read_answer(&reader, answers) : SK_EPROTO;
    }
    return err;
}

int bench_reply_read(struct slice message, uint64_t count, struct bench_answers *answers) {
    *answers = (struct bench_answers){0};
    struct mp_reader reader = mp_reader_of(message);
    uint32_t four;
    uint64_t number;
    struct mp_value error;
    int err = mp_read_array(&reader, &four);
    if (err == SK_OK) err = four == 4 ? mp_read_uint(&reader, &number) : SK_EPROTO;
    if (err == SK_OK) err = mp_skip(&reader, NULL); /* msgid: REQ matches replies by itself */
    if (err != SK_OK) return err;
    struct mp_reader ahead = reader;
    err = mp_read(&ahead, &error);
    if (err == SK_OK && error.type == MP_NIL && count > 1)
        return read_batch(slice_of(ahead.at, mp_left(&ahead)), count, answers);
    err = read_answer(&reader, answers);
    if (answers->failed > 0) answers->failed = count;
    return err;
}
