/* Whatever bytes a client of the Redis protocol sends, in whatever pieces: the reader finds the same commands and the same end,
 * what a session makes of them is a message that message_parse takes apart, and any reply to it is told or refused.
 *
 * The first byte says how the rest is cut. */
#include "gateway/message.h"
#include "gateway/resp_session.h"
#include "libcommon/check.h"
#include "libcommon/error.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define COMMAND_BYTES_MAX (1u * 1024 * 1024)

static struct resp_command *command;

/* What was read: the words of all commands, and how it ended. */
struct account {
    struct buffer words;
    enum resp_event end;
};

static void note(struct account *account) {
    for (uint32_t i = 0; i < command->count; i++) {
        uint32_t size = (uint32_t)command->words[i].size;
        buffer_append(&account->words, &size, sizeof size);
        buffer_append(&account->words, command->words[i].data, size);
    }
    buffer_append(&account->words, &command->count, sizeof command->count);
}

/* Reads `input` when only its first `cut` bytes have come, and then all of it. */
static struct account read_cut(struct slice input, size_t cut, bool stranger) {
    struct account account = {.end = RESP_MORE};
    struct resp_reader reader;
    size_t at = 0;
    resp_reader_init(&reader, COMMAND_BYTES_MAX);
    for (int round = 0; round < 2 && account.end != RESP_BROKEN; round++) {
        size_t given = round == 0 ? cut : input.size;
        uint8_t *copy = malloc(given - at + 1); /* what is read beyond it is found */
        if (given > at) memcpy(copy, input.data + at, given - at);
        size_t start = at, taken;
        do {
            struct slice rest = slice_of(copy + (at - start), given - at);
            account.end = resp_reader_next(&reader, rest, stranger, command, &taken);
            sk_assert(taken <= rest.size);
            at += taken;
            if (account.end == RESP_COMMAND) note(&account);
            if (account.end == RESP_BROKEN) sk_assert(command->error != NULL);
        } while (account.end == RESP_COMMAND);
        free(copy);
    }
    resp_reader_deinit(&reader);
    return account;
}

static void check_cuts(struct slice input, size_t cut, bool stranger) {
    struct account whole = read_cut(input, input.size, stranger), parts = read_cut(input, cut, stranger);
    sk_assert(whole.end == parts.end);
    sk_assert(slice_equal(buffer_slice(&whole.words), buffer_slice(&parts.words)));
    buffer_deinit(&whole.words);
    buffer_deinit(&parts.words);
}

static void list_cb(void *arg, const struct resp_session *self, const struct resp_choice *choice,
                    struct buffer *out) {
    (void)arg, (void)self, (void)choice;
    buffer_append(out, "x\n", 2);
}

/* Now and then there is none. */
static bool has_room_cb(void *arg, const struct resp_session *self, uint64_t bytes) {
    (void)arg, (void)self;
    return bytes % 16 != 15;
}

static uint32_t kill_cb(void *arg, struct resp_session *self, const struct resp_choice *choice) {
    (void)arg, (void)self, (void)choice;
    return 0;
}

static void unauthorized_cb(void *arg) { (void)arg; }

/* The gateway takes what was made of the commands. */
static void check_message(struct slice bytes) {
    static struct message_scratch *scratch;
    static struct arena_pool pool;
    struct arena arena;
    struct message message;
    if (scratch == NULL && message_scratch_new(&scratch) != SK_OK) return;
    arena_init(&arena, &pool);
    int err = message_parse(&message, bytes, 16, NULL, &arena, scratch);
    sk_assert(err == SK_OK || err == SK_TOOLARGE);
    arena_clear(&arena);
}

/* Whether the connection goes on. */
static bool answer(struct resp_session *session, struct resp_batch *batch, struct slice result) {
    struct buffer out, reply;
    buffer_init(&out);
    buffer_init(&reply);
    mp_write_array(&reply, 4);
    mp_write_uint(&reply, 1);
    mp_write_uint(&reply, 0);
    mp_write_nil(&reply);
    if (batch->commands > 1) mp_write_array(&reply, batch->commands);
    for (uint32_t i = 0; i < batch->commands; i++) {
        if (batch->commands > 1) {
            mp_write_array(&reply, 2);
            mp_write_nil(&reply);
        }
        mp_write_raw(&reply, result);
    }
    if (batch->commands > 0) check_message(resp_batch_seal(batch, session->follower_reads));
    int err = resp_session_answer(session, batch, buffer_slice(&reply), &out);
    sk_assert(err == SK_OK || err == SK_EPROTO || err == SK_RETRY);
    buffer_deinit(&out);
    buffer_deinit(&reply);
    resp_batch_clear(batch);
    return err != SK_EPROTO;
}

/* A connection's way, every shard answering with what stands at the input's end. */
static void check_session(struct slice input, struct slice result) {
    static const struct resp_host host = {
        .list_cb = list_cb, .kill_cb = kill_cb, .has_room_cb = has_room_cb, .unauthorized_cb = unauthorized_cb};
    struct resp_session session;
    struct resp_reader reader;
    struct resp_batch batch;
    enum resp_event event = RESP_COMMAND;
    resp_session_init(&session, &host, 1);
    resp_reader_init(&reader, COMMAND_BYTES_MAX);
    resp_batch_init(&batch);
    bool goes_on = true;
    while (goes_on && event == RESP_COMMAND && !session.closing) {
        while (!batch.full && !session.closing) {
            size_t taken;
            event = resp_reader_next(&reader, input, false, command, &taken);
            if (event == RESP_COMMAND && !resp_session_take(&session, command, &batch)) break;
            input = slice_of(input.data + taken, input.size - taken);
            if (event == RESP_BROKEN) resp_session_break(&session, command->error, &batch);
            if (event != RESP_COMMAND) break;
        }
        goes_on = answer(&session, &batch, result);
    }
    resp_batch_deinit(&batch);
    resp_reader_deinit(&reader);
    resp_session_deinit(&session);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (command == NULL) command = malloc(sizeof *command);
    if (size == 0) return 0;
    struct slice input = slice_of(data + 1, size - 1);
    check_cuts(input, input.size * data[0] / 255, data[0] % 2 == 0);
    size_t tail = input.size < 8 ? input.size : 8;
    check_session(input, slice_of(input.data + input.size - tail, tail));
    return 0;
}
