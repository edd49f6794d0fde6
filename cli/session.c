#include "session.h"

#include "client.h"
#include "libcommon/commands.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/mp.h"
#include "libcommon/wait_time.h"

#include <inttypes.h>
#include <stdlib.h>

/* Room for the message around a batch and for the sizes before its parts. */
#define BATCH_BYTES_MAX (MESSAGE_BYTES_MAX - 65536u)

struct session {
    const struct session_options *options; /* borrowed */
    struct client *client;                 /* owned */
    struct buffer params;
    struct buffer out;
    struct buffer id;     /* of the write at hand, if it is made of the one that was given */
    uint64_t named_count; /* writes that have got such an id */
};

int session_open(struct session **session, const struct session_options *options) {
    struct session *opened = calloc(1, sizeof *opened);
    if (opened == NULL) return SK_ENOMEM;
    opened->options = options;
    char text[128] = "";
    int err = client_open(&opened->client, options->gateway, options->timeout_ms, text, sizeof text);
    if (err == SK_OK) {
        *session = opened;
        return SK_OK;
    }
    fprintf(stderr, "skerry: cannot reach the gateway at %s: %s\n", options->gateway, text);
    free(opened);
    return err;
}

void session_close(struct session *session) {
    if (session == NULL) return;
    client_close(session->client);
    buffer_deinit(&session->params);
    buffer_deinit(&session->out);
    buffer_deinit(&session->id);
    free(session);
}

static const struct command *command_of(const struct word *words, size_t count) {
    return count == 0 ? NULL : command_find(words[0].bytes);
}

void session_encode_params(struct buffer *out, const struct word *words, size_t count, const char *nil_word) {
    const struct command *command = command_of(words, count);
    bool nil_allowed = command != NULL && command->id == COMMAND_ID_CAS;
    mp_write_array(out, (uint32_t)(count - 1));
    for (size_t i = 1; i < count; i++) {
        bool nil =
            nil_allowed && i >= 2 && !words[i].quoted && slice_equal(words[i].bytes, slice_of_text(nil_word));
        if (nil) mp_write_nil(out);
        else mp_write_bin(out, words[i].bytes);
    }
}

static enum exit_code write_out(struct session *session, FILE *out, enum exit_code code) {
    bool lost = session->out.failed;
    if (session->out.size > 0 && fwrite(session->out.data, 1, session->out.size, out) != session->out.size)
        lost = true;
    if (fflush(out) != 0) lost = true;
    if (!lost) return code;
    fprintf(stderr, "skerry: the answer could not be written\n");
    return EXIT_ERROR_ANSWER;
}

static enum exit_code print_code(struct session *session, FILE *out, const char *code, const char *text) {
    buffer_clear(&session->out, 1 << 20);
    print_failure(&session->out, session->options->format, slice_of_text(code), slice_of_text(text));
    return write_out(session, out, EXIT_ERROR_ANSWER);
}

/* Says that no answer came. */
static enum exit_code explain_failure(struct session *session, int err, bool write, FILE *out) {
    switch (err) {
    case SK_ENET:
        fprintf(stderr, "skerry: cannot reach the gateway at %s: connection lost\n", session->options->gateway);
        return EXIT_UNREACHABLE;
    case SK_ETIMEDOUT:
        return print_code(session, out, "TIMEOUT",
                          write ? "no answer from the gateway; the write may have happened"
                                : "no answer from the gateway");
    case SK_EPROTO:
        return print_code(session, out, "INTERNAL", "the gateway's answer is malformed");
    default:
        return print_code(session, out, error_name(err), error_text(err));
    }
}

/* The id that was given names the first write; under the same name the next would only get the first's answer. Those
 * after it are ID#2, ID#3, …: the same ones when the same lines are run again. SK_ENOMEM. */
static int make_given_id(struct session *session, struct slice *id) {
    char suffix[24] = "";
    if (session->options->id[0] != 0 && ++session->named_count > 1)
        snprintf(suffix, sizeof suffix, "#%" PRIu64, session->named_count);
    buffer_clear(&session->id, SIZE_MAX);
    buffer_append(&session->id, session->options->id, strlen(session->options->id));
    buffer_append(&session->id, suffix, strlen(suffix));
    *id = buffer_slice(&session->id);
    return session->id.failed ? SK_ENOMEM : SK_OK;
}

/* An id for a write, and whether the call may be sent again. Unknown commands may be writes. SK_ENOMEM. */
static int name_call(struct session *session, bool write, uint8_t id[CLIENT_ID_BYTES], struct client_call *call) {
    int err = SK_OK;
    if (write && !session->options->no_id) {
        if (session->options->id != NULL) {
            err = make_given_id(session, &call->id);
        } else {
            client_make_id(id);
            call->id = slice_of(id, CLIENT_ID_BYTES);
        }
    }
    call->repeatable = !write || call->id.size > 0;
    return err;
}

static bool is_write(const struct command *command) {
    return command == NULL || (command->flags & COMMAND_WRITE) != 0;
}

static uint64_t wait_ms_of(const struct command *command, const struct word *words, size_t count) {
    uint64_t wait_ms;
    const char *text;
    bool waits = command != NULL && (command->flags & COMMAND_BLOCKING) != 0 && count > 1;
    if (!waits || wait_time_read(words[command_wait_word(command, count)].bytes, &wait_ms, &text) != SK_OK)
        return 0;
    return wait_ms;
}

static enum exit_code print_reply(struct session *session, const struct client_reply *reply,
                                  enum print_format format, FILE *out) {
    buffer_clear(&session->out, 1 << 20);
    int err = reply->failed ? print_failure(&session->out, session->options->format, reply->code, reply->text)
                            : print_result(&session->out, format, reply->result);
    if (err == SK_EPROTO) return explain_failure(session, err, false, out);
    return write_out(session, out, reply->failed ? EXIT_ERROR_ANSWER : EXIT_OK);
}

enum exit_code session_run(struct session *session, const struct word *words, size_t count, FILE *out) {
    const struct command *command = command_of(words, count);
    bool write = is_write(command);
    buffer_clear(&session->params, 1 << 20);
    session_encode_params(&session->params, words, count, session->options->nil_word);
    if (session->params.failed) return explain_failure(session, SK_ENOMEM, false, out);
    uint8_t id[CLIENT_ID_BYTES];
    struct client_call call = {
        .method = words[0].bytes,
        .params = buffer_slice(&session->params),
        .read_follower = session->options->read_follower,
        .timeout_ms = session->options->timeout_ms,
        .wait_ms = wait_ms_of(command, words, count),
    };
    struct client_reply reply;
    int err = name_call(session, write, id, &call);
    if (err == SK_OK) err = client_call(session->client, &call, &reply);
    if (err != SK_OK) return explain_failure(session, err, write, out);
    /* INFO is text of many lines, which redis-cli also never quotes. */
    bool text = command != NULL && command->id == COMMAND_ID_INFO && session->options->format == PRINT_TTY;
    return print_reply(session, &reply, text ? PRINT_RAW : session->options->format, out);
}

/* The next line that holds a command, as words. SK_OK, SK_NOT_FOUND at the end of `in`, or what words_parse says.
 */
static int next_command(FILE *in, char **line, size_t *capacity, struct words *words) {
    for (;;) {
        ssize_t size = getline(line, capacity, in);
        if (size < 0) return SK_NOT_FOUND;
        int err = words_parse(slice_of(*line, (size_t)size), words);
        if (err != SK_OK) return err;
        bool comment = words->count > 0 && words->items[0].bytes.size > 0 && words->items[0].bytes.data[0] == '#';
        if (words->count > 0 && !comment) return SK_OK;
        words_deinit(words);
    }
}

static enum exit_code worse(enum exit_code a, enum exit_code b) { return a > b ? a : b; }

enum exit_code session_run_lines(struct session *session, FILE *in, FILE *out) {
    char *line = NULL;
    size_t capacity = 0;
    enum exit_code worst = EXIT_OK;
    while (worst != EXIT_UNREACHABLE) {
        struct words words;
        int err = next_command(in, &line, &capacity, &words);
        if (err == SK_NOT_FOUND) break;
        if (err != SK_OK) {
            worst = worse(worst, print_code(session, out, "BADREQUEST", "a quote is not closed"));
            continue;
        }
        worst = worse(worst, session_run(session, words.items, words.count, out));
        words_deinit(&words);
    }
    free(line);
    return worst;
}

/* A batch being gathered: `count` encoded pairs [method, params]. */
struct batch {
    struct buffer pairs;
    uint32_t count;
    bool write;
};

static enum exit_code print_batch(struct session *session, struct slice result, uint32_t count, FILE *out) {
    struct mp_reader reader = mp_reader_of(result);
    uint32_t answers;
    if (mp_read_array(&reader, &answers) != SK_OK || answers != count)
        return explain_failure(session, SK_EPROTO, true, out);
    enum exit_code worst = EXIT_OK;
    for (uint32_t i = 0; i < answers; i++) {
        uint32_t two;
        struct client_reply reply;
        bool sound =
            mp_read_array(&reader, &two) == SK_OK && two == 2 && client_read_answer(&reader, &reply) == SK_OK;
        if (!sound) return explain_failure(session, SK_EPROTO, true, out);
        worst = worse(worst, print_reply(session, &reply, session->options->format, out));
    }
    return worst;
}

static enum exit_code send_batch(struct session *session, struct batch *batch, bool atomic, FILE *out) {
    uint32_t count = batch->count;
    bool write = batch->write;
    bool failed = batch->pairs.failed;
    buffer_clear(&session->params, 1 << 20);
    mp_write_array(&session->params, count);
    mp_write_raw(&session->params, buffer_slice(&batch->pairs));
    buffer_clear(&batch->pairs, 1 << 20);
    batch->count = 0;
    batch->write = false;
    if (session->params.failed || failed) return explain_failure(session, SK_ENOMEM, false, out);
    uint8_t id[CLIENT_ID_BYTES];
    struct client_call call = {
        .method = slice_of_text("batch"),
        .params = buffer_slice(&session->params),
        .atomic = atomic,
        .read_follower = session->options->read_follower,
        .timeout_ms = session->options->timeout_ms,
    };
    struct client_reply reply;
    int err = name_call(session, write, id, &call);
    if (err == SK_OK) err = client_call(session->client, &call, &reply);
    if (err != SK_OK) return explain_failure(session, err, write, out);
    if (reply.failed) return print_reply(session, &reply, session->options->format, out);
    return print_batch(session, reply.result, count, out);
}

static void add_to_batch(struct batch *batch, const struct session *session, const struct words *words) {
    mp_write_array(&batch->pairs, 2);
    mp_write_str(&batch->pairs, words->items[0].bytes);
    session_encode_params(&batch->pairs, words->items, words->count, session->options->nil_word);
    batch->count++;
    batch->write = batch->write || is_write(command_of(words->items, words->count));
}

static bool batch_is_full(const struct batch *batch, const struct words *words) {
    size_t bytes = batch->pairs.size;
    for (size_t i = 0; i < words->count; i++) bytes += words->items[i].bytes.size + 8;
    return batch->count == MESSAGE_COMMANDS_MAX || (batch->count > 0 && bytes > BATCH_BYTES_MAX);
}

enum exit_code session_run_batch(struct session *session, FILE *in, bool atomic, FILE *out) {
    struct batch batch = {0};
    buffer_init(&batch.pairs);
    char *line = NULL;
    size_t capacity = 0;
    enum exit_code worst = EXIT_OK;
    bool more = true;
    while (more && worst != EXIT_UNREACHABLE) {
        struct words words;
        int err = next_command(in, &line, &capacity, &words);
        more = err != SK_NOT_FOUND;
        if (more && err != SK_OK) { /* what was to be done is not known, so the rest is not done either */
            worst = print_code(session, out, "BADREQUEST", "a quote is not closed");
            break;
        }
        /* An atomic batch that is too large is the gateway's to refuse. */
        bool flush = more ? !atomic && batch_is_full(&batch, &words) : batch.count > 0;
        if (flush) worst = worse(worst, send_batch(session, &batch, atomic, out));
        if (!more) break;
        add_to_batch(&batch, session, &words);
        words_deinit(&words);
    }
    buffer_deinit(&batch.pairs);
    free(line);
    return worst;
}
