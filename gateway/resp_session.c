#include "gateway/resp_session.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/secret.h"

#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#define BATCH_BYTES_MAX       (1u * 1024 * 1024) /* a batch is full beyond; one command may be larger */
#define KEPT_BYTES            4096u              /* of buffers between batches */
#define ERROR_TEXT_BYTES      320u
#define TRANSACTION_BYTES_MAX (MESSAGE_BYTES_MAX / 2) /* so that EXEC fits a message */
#define SHOWN_MAX             128                     /* bytes of what was sent, in an error */
#define HEAD_BYTES            14u                     /* of a message, see write_head */

enum told_kind {
    TOLD_TEXT,    /* `count` bytes of text */
    TOLD_COMMAND, /* the result of the next command */
    TOLD_EXEC,    /* of the next command, or of none, the results of `count` inner ones */
    TOLD_WATCH,   /* the versions that `count` commands have found */
};

/* What to make of the reply to a command. */
struct told {
    uint8_t kind; /* enum told_kind */
    uint8_t protocol;
    bool silent;    /* CLIENT REPLY OFF or SKIP */
    bool sent;      /* TOLD_EXEC: it is a command of the message */
    unsigned flags; /* COMMAND_REPLY_… */
    uint32_t count;
};

/* A command being taken. */
struct taking {
    struct resp_session *session;
    struct resp_batch *batch;
    const struct command *entry;
    const struct slice *words;
    uint32_t count;
    bool silent;
    struct buffer *out; /* for a reply that is known, */
    size_t start;       /* from here on */
};

/* --- life ---------------------------------------------------------------------------------------------------- */

void resp_session_init(struct resp_session *session, const struct resp_host *host, uint64_t id) {
    *session = (struct resp_session){.host = host, .id = id, .protocol = RESP2, .proven = host->tokens == NULL};
    buffer_init(&session->transaction.commands);
    buffer_init(&session->transaction.told);
    buffer_init(&session->transaction.text);
    buffer_init(&session->watched);
    buffer_init(&session->watching);
}

void resp_session_deinit(struct resp_session *session) {
    buffer_deinit(&session->transaction.commands);
    buffer_deinit(&session->transaction.told);
    buffer_deinit(&session->transaction.text);
    buffer_deinit(&session->watched);
    buffer_deinit(&session->watching);
}

size_t resp_session_bytes(const struct resp_session *session) {
    const struct resp_transaction *transaction = &session->transaction;
    return transaction->commands.capacity + transaction->told.capacity + transaction->text.capacity +
           session->watched.capacity + session->watching.capacity;
}

void resp_batch_init(struct resp_batch *batch) {
    *batch = (struct resp_batch){.only_reads = true};
    buffer_init(&batch->message);
    buffer_init(&batch->told);
    buffer_init(&batch->inner);
    buffer_init(&batch->text);
}

void resp_batch_deinit(struct resp_batch *batch) {
    buffer_deinit(&batch->message);
    buffer_deinit(&batch->told);
    buffer_deinit(&batch->inner);
    buffer_deinit(&batch->text);
}

void resp_batch_clear(struct resp_batch *batch) {
    buffer_clear(&batch->message, KEPT_BYTES);
    buffer_clear(&batch->told, KEPT_BYTES);
    buffer_clear(&batch->inner, KEPT_BYTES);
    buffer_clear(&batch->text, KEPT_BYTES);
    batch->commands = batch->words = batch->count = 0;
    batch->full = false;
    batch->only_reads = true;
}

size_t resp_batch_bytes(const struct resp_batch *batch) {
    return batch->message.capacity + batch->told.capacity + batch->inner.capacity + batch->text.capacity;
}

static void forget_queued(struct resp_transaction *transaction) {
    buffer_clear(&transaction->commands, KEPT_BYTES);
    buffer_clear(&transaction->told, KEPT_BYTES);
    buffer_clear(&transaction->text, KEPT_BYTES);
}

static void end_transaction(struct resp_session *session) {
    struct resp_transaction *transaction = &session->transaction;
    forget_queued(transaction);
    transaction->open = transaction->aborted = false;
    transaction->count = transaction->command_count = transaction->words = 0;
}

static void forget_watched(struct resp_session *session) {
    buffer_clear(&session->watched, KEPT_BYTES);
    session->watched_count = 0;
}

/* --- words --------------------------------------------------------------------------------------------------- */

static bool word_is(struct slice word, const char *text) {
    return word.size == strlen(text) && strncasecmp((const char *)word.data, text, word.size) == 0;
}

static bool parse_int(struct slice word, int64_t *number) {
    bool negative = word.size > 0 && word.data[0] == '-';
    uint64_t sum = 0;
    size_t at = negative ? 1 : 0;
    if (at == word.size || word.size - at > 19) return false; /* more do not fit */
    if (word.data[at] == '0' && word.size > 1) return false;  /* as Redis */
    for (; at < word.size; at++) {
        if (word.data[at] < '0' || word.data[at] > '9') return false;
        sum = sum * 10 + (uint64_t)(word.data[at] - '0');
    }
    if (sum > (uint64_t)INT64_MAX + negative) return false;
    *number = negative ? (int64_t)(0 - sum) : (int64_t)sum;
    return true;
}

static uint64_t words_bytes(const struct slice *words, uint32_t count) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) bytes += words[i].size;
    return bytes;
}

static int shown_size(struct slice word) { return word.size > SHOWN_MAX ? SHOWN_MAX : (int)word.size; }

__attribute__((format(printf, 2, 3))) static void refuse(struct taking *taking, const char *format, ...) {
    char text[ERROR_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    char *rest = strchr(text, ' '); /* every format begins with the prefix */
    sk_assert(rest != NULL);
    *rest++ = '\0';
    resp_write_error(taking->out, text, slice_of_text(rest));
}

static void refuse_arity(struct taking *taking) {
    char name[RESP_NAME_BYTES];
    size_t size = 0;
    for (; taking->entry->name[size] != '\0' && size < sizeof name - 1; size++) {
        char letter = taking->entry->name[size];
        name[size] = letter >= 'A' && letter <= 'Z' ? (char)(letter + ('a' - 'A')) : letter;
    }
    name[size] = '\0';
    refuse(taking, "ERR wrong number of arguments for '%s' command", name);
}

static void refuse_unknown(struct taking *taking) {
    char arguments[SHOWN_MAX + 8] = "";
    int size = 0;
    for (uint32_t i = 1; i < taking->count && size < SHOWN_MAX; i++) {
        int room = SHOWN_MAX - size;
        int shown = (size_t)room < taking->words[i].size ? room : (int)taking->words[i].size;
        size += snprintf(arguments + size, sizeof arguments - (size_t)size, "'%.*s' ", shown,
                         (const char *)taking->words[i].data);
        if (size >= (int)sizeof arguments) size = (int)sizeof arguments - 1;
    }
    refuse(taking, "ERR unknown command '%.*s', with args beginning with: %s", shown_size(taking->words[0]),
           (const char *)taking->words[0].data, arguments);
}

static void refuse_subcommand(struct taking *taking) {
    refuse(taking, "ERR unknown subcommand '%.*s'. Try %s HELP.", shown_size(taking->words[1]),
           (const char *)taking->words[1].data, taking->entry->name);
}

static void refuse_syntax(struct taking *taking) { refuse(taking, "ERR syntax error"); }

static void answer_ok(struct taking *taking) { resp_write_status(taking->out, "OK"); }

/* --- what is told of them ------------------------------------------------------------------------------------ */

static struct told told_of(const struct taking *taking, enum told_kind kind, uint32_t count) {
    return (struct told){.kind = (uint8_t)kind,
                         .protocol = (uint8_t)taking->session->protocol,
                         .silent = taking->silent,
                         .count = count};
}

static void add_told(struct buffer *list, struct told told) { buffer_append(list, &told, sizeof told); }

/* `bytes` of text were appended. Neighbours become one. */
static void add_text(struct taking *taking, struct buffer *list, size_t bytes) {
    if (list->size >= sizeof(struct told) && !list->failed) {
        struct told last;
        memcpy(&last, list->data + list->size - sizeof last, sizeof last);
        if (last.kind == TOLD_TEXT) {
            last.count += (uint32_t)bytes;
            memcpy(list->data + list->size - sizeof last, &last, sizeof last);
            return;
        }
    }
    add_told(list, told_of(taking, TOLD_TEXT, (uint32_t)bytes));
}

/* --- commands for shards ------------------------------------------------------------------------------------- */

/* [0, 0, "batch", [count commands]], the count in a form of fixed size; behind the commands follow the options. */
static void write_head(struct buffer *message) {
    static const uint8_t head[HEAD_BYTES] = {0, 0, 0, 0xa5, 'b', 'a', 't', 'c', 'h', 0xdd};
    buffer_append(message, head, sizeof head);
}

/* A single command, [method, params], becomes [0, 0, method, params]: two bytes more, at the end of the head. */
static struct slice seal_head(struct buffer *message, uint32_t commands, bool options) {
    uint8_t first = options ? 0x95 : 0x94;
    if (commands == 1) {
        uint8_t *start = message->data + HEAD_BYTES - 2;
        start[0] = first;
        start[1] = start[2] = 0;
        return slice_of(start, message->size - (HEAD_BYTES - 2));
    }
    message->data[0] = first;
    for (uint32_t i = 0; i < 4; i++) message->data[10 + i] = (uint8_t)(commands >> (24 - 8 * i));
    return buffer_slice(message);
}

static void write_command(struct buffer *out, const struct slice *words, uint32_t count) {
    mp_write_array(out, 2);
    mp_write_str(out, words[0]);
    mp_write_array(out, count - 1);
    for (uint32_t i = 1; i < count; i++) mp_write_bin(out, words[i]);
}

static struct buffer *next_command(struct resp_batch *batch, uint32_t words) {
    if (batch->message.size == 0) write_head(&batch->message);
    batch->commands++;
    batch->words += words;
    return &batch->message;
}

static void note_fill(struct resp_batch *batch) {
    if (batch->commands >= MESSAGE_COMMANDS_MAX || batch->message.size >= BATCH_BYTES_MAX ||
        batch->text.size >= BATCH_BYTES_MAX) {
        batch->full = true;
    }
}

static void forward(struct taking *taking) {
    struct told told = told_of(taking, TOLD_COMMAND, 1);
    told.flags = resp_reply_flags(taking->entry, taking->count);
    write_command(next_command(taking->batch, taking->count), taking->words, taking->count);
    add_told(&taking->batch->told, told);
    if ((taking->entry->flags & COMMAND_WRITE) != 0) taking->batch->only_reads = false;
}

/* Alone, since it may wait. Nil says that it has waited, whatever it tells otherwise. */
static void forward_blocking(struct taking *taking) {
    struct told told = told_of(taking, TOLD_COMMAND, 1);
    told.flags = resp_reply_flags(taking->entry, taking->count) | COMMAND_REPLY_NIL_ARRAY;
    write_command(next_command(taking->batch, taking->count), taking->words, taking->count);
    add_told(&taking->batch->told, told);
    taking->batch->only_reads = false;
    taking->batch->full = true;
}

/* --- transactions -------------------------------------------------------------------------------------------- */

static void on_multi(struct taking *taking) {
    struct resp_transaction *transaction = &taking->session->transaction;
    if (transaction->open) {
        refuse(taking, "ERR MULTI calls can not be nested");
        return;
    }
    transaction->open = true;
    answer_ok(taking);
}

static void on_discard(struct taking *taking) {
    if (!taking->session->transaction.open) {
        refuse(taking, "ERR DISCARD without MULTI");
        return;
    }
    end_transaction(taking->session);
    forget_watched(taking->session);
    answer_ok(taking);
}

/* EXEC of the contract: [[[key, version], …], [[method, params], …]]. */
static void write_exec(struct resp_session *session, struct resp_batch *batch) {
    const struct resp_transaction *transaction = &session->transaction;
    struct buffer *message = next_command(batch, transaction->words + session->watched_count);
    mp_write_array(message, 2);
    mp_write_text(message, "EXEC");
    mp_write_array(message, 2);
    mp_write_array(message, session->watched_count);
    mp_write_raw(message, buffer_slice(&session->watched));
    mp_write_array(message, transaction->command_count);
    mp_write_raw(message, buffer_slice(&transaction->commands));
}

static void on_exec(struct taking *taking) {
    struct resp_session *session = taking->session;
    struct resp_transaction *transaction = &session->transaction;
    struct resp_batch *batch = taking->batch;
    if (!transaction->open) {
        refuse(taking, "ERR EXEC without MULTI");
        return;
    }
    batch->only_reads = false; /* what stands in a transaction is not taken apart */
    bool failed = transaction->commands.failed || transaction->told.failed || transaction->text.failed;
    if (transaction->aborted || failed) {
        refuse(taking, "EXECABORT Transaction discarded because of previous errors.");
    } else {
        struct told told = told_of(taking, TOLD_EXEC, transaction->count);
        told.sent = transaction->command_count + session->watched_count > 0;
        if (told.sent) write_exec(session, batch);
        add_told(&batch->told, told);
        buffer_append(&batch->inner, transaction->told.data, transaction->told.size);
        buffer_append(&batch->text, transaction->text.data, transaction->text.size);
    }
    end_transaction(session);
    forget_watched(session);
}

static void on_watch(struct taking *taking) {
    struct resp_session *session = taking->session;
    struct resp_batch *batch = taking->batch;
    uint32_t keys = taking->count - 1;
    if (session->transaction.open) {
        refuse(taking, "ERR WATCH inside MULTI is not allowed");
        return;
    }
    if (session->watched_count + keys > MESSAGE_COMMANDS_MAX ||
        session->watched.size + session->watching.size > BATCH_BYTES_MAX) {
        refuse(taking, "TOOLARGE too many keys are watched");
        return;
    }
    for (uint32_t i = 1; i < taking->count; i++) {
        const struct slice words[] = {slice_of_text("VERSION"), taking->words[i]};
        write_command(next_command(batch, 2), words, 2);
        mp_write_bin(&session->watching, taking->words[i]);
    }
    add_told(&batch->told, told_of(taking, TOLD_WATCH, keys));
    batch->only_reads = false;
    batch->full = true; /* what follows may be the EXEC that needs the versions */
}

/* A command for a shard waits for EXEC. */
static void queue_command(struct taking *taking) {
    struct resp_transaction *transaction = &taking->session->transaction;
    struct told told = told_of(taking, TOLD_COMMAND, 1);
    told.flags = resp_reply_flags(taking->entry, taking->count);
    write_command(&transaction->commands, taking->words, taking->count);
    add_told(&transaction->told, told);
    transaction->command_count++;
    transaction->words += taking->count;
}

static void on_ping(struct taking *taking);
static void on_echo(struct taking *taking);
static void on_select(struct taking *taking);

/* One that the connection answers itself does so at once, and EXEC tells what. */
static bool queue_answer(struct taking *taking) {
    struct resp_transaction *transaction = &taking->session->transaction;
    struct taking inner = *taking;
    size_t before = transaction->text.size;
    inner.out = &transaction->text;
    switch (taking->entry->id) {
    case COMMAND_ID_PING:
        on_ping(&inner);
        break;
    case COMMAND_ID_ECHO:
        on_echo(&inner);
        break;
    case COMMAND_ID_SELECT:
        on_select(&inner);
        break;
    default:
        if (command_groups_whole(taking->entry, taking->count)) return false;
        refuse_arity(&inner); /* Redis finds this out when it executes it */
    }
    add_told(&transaction->told, told_of(taking, TOLD_TEXT, (uint32_t)(transaction->text.size - before)));
    return true;
}

static void queue(struct taking *taking) {
    struct resp_transaction *transaction = &taking->session->transaction;
    const struct resp_host *host = taking->session->host;
    bool has_keys = taking->entry->first_key > 0;
    uint64_t bytes = words_bytes(taking->words, taking->count);
    uint64_t kept = transaction->commands.size + transaction->text.size + taking->session->watched.size;
    if (transaction->count >= MESSAGE_COMMANDS_MAX || kept + bytes > TRANSACTION_BYTES_MAX) {
        refuse(taking, "TOOLARGE the transaction is too large");
    } else if (!host->has_room_cb(host->arg, taking->session, bytes)) { /* it may wait for its EXEC for ever */
        refuse(taking, "OVERLOADED too many bytes in flight");
    } else if (has_keys && command_groups_whole(taking->entry, taking->count)) {
        queue_command(taking);
    } else if (!queue_answer(taking)) {
        refuse(taking, "ERR Command not allowed inside a transaction");
    }
    if (taking->out->size > taking->start) transaction->aborted = true;
    else resp_write_status(taking->out, "QUEUED");
    if (transaction->aborted) forget_queued(transaction); /* EXEC will not want it */
    else transaction->count++;
}

/* --- the connection ------------------------------------------------------------------------------------------ */

static void on_ping(struct taking *taking) {
    if (taking->count > 2) refuse_arity(taking);
    else if (taking->count == 2) resp_write_bulk(taking->out, taking->words[1]);
    else resp_write_status(taking->out, "PONG");
}

static void on_echo(struct taking *taking) { resp_write_bulk(taking->out, taking->words[1]); }

static void on_select(struct taking *taking) {
    int64_t index;
    if (!parse_int(taking->words[1], &index)) refuse(taking, "ERR value is not an integer or out of range");
    else if (index < INT32_MIN || index > INT32_MAX)
        refuse(taking, "ERR value is out of range, value must between -2147483648 and 2147483647");
    else if (index != 0) refuse(taking, "ERR DB index is out of range");
    else answer_ok(taking);
}

static void on_quit(struct taking *taking) {
    answer_ok(taking);
    taking->session->closing = true;
}

static void on_reset(struct taking *taking) {
    struct resp_session *session = taking->session;
    end_transaction(session);
    forget_watched(session);
    session->proven = session->host->tokens == NULL;
    session->protocol = RESP2;
    session->follower_reads = false;
    session->replies = REPLIES_ON;
    taking->silent = false;
    session->name[0] = '\0';
    resp_write_status(taking->out, "RESET");
}

/* Whether user and password open the door; says so if not. */
static bool prove(struct taking *taking, struct slice user, struct slice password) {
    struct resp_session *session = taking->session;
    const struct tokens *tokens = session->host->tokens;
    bool good = word_is(user, "default") && (tokens == NULL || tokens_match(tokens, password));
    if (good) {
        session->proven = true;
        return true;
    }
    session->host->unauthorized_cb(session->host->arg);
    refuse(taking, "WRONGPASS invalid username-password pair or user is disabled.");
    return false;
}

static void on_auth(struct taking *taking) {
    if (taking->count > 3) {
        refuse_syntax(taking);
    } else if (taking->count == 2 && taking->session->host->tokens == NULL) {
        refuse(taking, "ERR AUTH <password> called without any password configured for the default user. Are you "
                       "sure your configuration is correct?");
    } else if (taking->count == 2) {
        if (prove(taking, slice_of_text("default"), taking->words[1])) answer_ok(taking);
    } else if (prove(taking, taking->words[1], taking->words[2])) {
        answer_ok(taking);
    }
}

/* A name that may stand in a line of CLIENT LIST. */
static bool is_plain(struct slice name) {
    for (size_t i = 0; i < name.size; i++) {
        if (name.data[i] < '!' || name.data[i] > '~') return false;
    }
    return true;
}

static bool take_name(struct taking *taking, struct slice name, const char *what, char room[RESP_NAME_BYTES]) {
    if (!is_plain(name)) {
        refuse(taking, "ERR %s cannot contain spaces, newlines or special characters.", what);
    } else if (name.size >= RESP_NAME_BYTES) {
        refuse(taking, "ERR %s is longer than %u bytes", what, RESP_NAME_BYTES - 1);
    } else {
        memcpy(room, name.data, name.size);
        room[name.size] = '\0';
        return true;
    }
    return false;
}

struct hello {
    enum resp_protocol protocol;
    bool proves, names;
    struct slice user, password, name;
};

static bool read_hello(struct taking *taking, struct hello *hello) {
    int64_t version;
    uint32_t at = 2;
    *hello = (struct hello){.protocol = taking->session->protocol};
    if (taking->count > 1) {
        if (!parse_int(taking->words[1], &version)) {
            refuse(taking, "ERR Protocol version is not an integer or out of range");
            return false;
        }
        if (version != RESP2 && version != RESP3) {
            refuse(taking, "NOPROTO unsupported protocol version");
            return false;
        }
        hello->protocol = (enum resp_protocol)version;
    }
    while (at < taking->count) {
        uint32_t left = taking->count - at - 1;
        if (word_is(taking->words[at], "AUTH") && left >= 2) {
            hello->proves = true;
            hello->user = taking->words[at + 1];
            hello->password = taking->words[at + 2];
            at += 3;
        } else if (word_is(taking->words[at], "SETNAME") && left >= 1) {
            hello->names = true;
            hello->name = taking->words[at + 1];
            at += 2;
        } else {
            refuse(taking, "ERR Syntax error in HELLO option '%.*s'", shown_size(taking->words[at]),
                   (const char *)taking->words[at].data);
            return false;
        }
    }
    return true;
}

static void answer_hello(struct taking *taking) {
    struct buffer *out = taking->out;
    enum resp_protocol protocol = taking->session->protocol;
    resp_write_map(out, protocol, 7);
    resp_write_text(out, "server");
    resp_write_text(out, "redis");
    resp_write_text(out, "version");
    resp_write_text(out, REDIS_VERSION);
    resp_write_text(out, "proto");
    resp_write_int(out, (int64_t)protocol);
    resp_write_text(out, "id");
    resp_write_int(out, (int64_t)taking->session->id);
    resp_write_text(out, "mode");
    resp_write_text(out, "standalone");
    resp_write_text(out, "role");
    resp_write_text(out, "master");
    resp_write_text(out, "modules");
    resp_write_array(out, 0);
}

static void on_hello(struct taking *taking) {
    struct resp_session *session = taking->session;
    struct hello hello;
    if (!read_hello(taking, &hello)) return;
    if (hello.proves && !prove(taking, hello.user, hello.password)) return;
    if (!session->proven) {
        session->host->unauthorized_cb(session->host->arg);
        refuse(taking,
               "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> "
               "AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol "
               "version at the same time");
        return;
    }
    if (hello.names && !take_name(taking, hello.name, "Client names", session->name)) return;
    session->protocol = hello.protocol;
    answer_hello(taking);
}

/* --- CLIENT -------------------------------------------------------------------------------------------------- */

/* ID, ADDR, LADDR, TYPE, USER, SKIPME with their values, from word `at` on. */
static bool read_choice(struct taking *taking, uint32_t at, bool ids, struct resp_choice *choice, bool *nobody) {
    for (; at + 1 < taking->count; at += 2) {
        struct slice value = taking->words[at + 1];
        int64_t id;
        if (word_is(taking->words[at], "ID") && ids) {
            if (!parse_int(value, &id) || id <= 0) {
                refuse(taking, "ERR client-id should be greater than 0");
                return false;
            }
            choice->by_id = true;
            choice->id = (uint64_t)id;
        } else if (word_is(taking->words[at], "ADDR")) {
            choice->address = value;
        } else if (word_is(taking->words[at], "LADDR")) {
            choice->local_address = value;
        } else if (word_is(taking->words[at], "TYPE")) {
            *nobody = *nobody || !word_is(value, "normal");
        } else if (word_is(taking->words[at], "USER")) {
            *nobody = *nobody || !word_is(value, "default");
        } else if (word_is(taking->words[at], "SKIPME") && (word_is(value, "yes") || word_is(value, "no"))) {
            choice->skip_self = word_is(value, "yes");
        } else {
            refuse_syntax(taking);
            return false;
        }
    }
    if (at == taking->count) return true;
    refuse_syntax(taking);
    return false;
}

static void client_list(struct taking *taking) {
    const struct resp_host *host = taking->session->host;
    struct resp_choice choice = {0};
    struct buffer text;
    bool nobody = false;
    buffer_init(&text);
    if (taking->count > 2 && word_is(taking->words[2], "ID")) {
        for (uint32_t i = 3; i < taking->count; i++) {
            int64_t id;
            if (!parse_int(taking->words[i], &id)) {
                refuse(taking, "ERR Invalid client ID");
                buffer_deinit(&text);
                return;
            }
            choice = (struct resp_choice){.by_id = true, .id = (uint64_t)id};
            host->list_cb(host->arg, taking->session, &choice, &text);
        }
    } else if (!read_choice(taking, 2, false, &choice, &nobody)) {
        return;
    } else if (!nobody) {
        host->list_cb(host->arg, taking->session, &choice, &text);
    }
    resp_write_verbatim(taking->out, taking->session->protocol, buffer_slice(&text));
    taking->out->failed = taking->out->failed || text.failed;
    buffer_deinit(&text);
}

static void client_info(struct taking *taking) {
    const struct resp_host *host = taking->session->host;
    struct buffer text;
    buffer_init(&text);
    host->list_cb(host->arg, taking->session, NULL, &text);
    resp_write_verbatim(taking->out, taking->session->protocol, buffer_slice(&text));
    taking->out->failed = taking->out->failed || text.failed;
    buffer_deinit(&text);
}

static void client_kill(struct taking *taking) {
    const struct resp_host *host = taking->session->host;
    bool is_old = taking->count == 3, nobody = false;
    struct resp_choice choice = {.skip_self = !is_old};
    if (is_old) {
        choice.address = taking->words[2];
    } else if (!read_choice(taking, 2, true, &choice, &nobody)) {
        return;
    }
    uint32_t killed = nobody ? 0 : host->kill_cb(host->arg, taking->session, &choice);
    if (!is_old) resp_write_int(taking->out, killed);
    else if (killed > 0) answer_ok(taking);
    else refuse(taking, "ERR No such client");
}

static void client_setinfo(struct taking *taking) {
    struct resp_session *session = taking->session;
    bool is_version = word_is(taking->words[2], "LIB-VER");
    if (!is_version && !word_is(taking->words[2], "LIB-NAME")) {
        refuse(taking, "ERR Unrecognized option '%.*s'", shown_size(taking->words[2]),
               (const char *)taking->words[2].data);
        return;
    }
    if (take_name(taking, taking->words[3], is_version ? "lib-ver" : "lib-name",
                  is_version ? session->version : session->library)) {
        answer_ok(taking);
    }
}

static void client_reply(struct taking *taking) {
    struct resp_session *session = taking->session;
    struct slice how = taking->words[2];
    if (word_is(how, "ON")) {
        session->replies = REPLIES_ON;
        taking->silent = false;
        answer_ok(taking);
    } else if (word_is(how, "OFF")) {
        session->replies = REPLIES_OFF;
    } else if (word_is(how, "SKIP")) {
        if (session->replies != REPLIES_OFF) session->replies = REPLIES_SKIP_NEXT;
    } else {
        refuse_syntax(taking);
    }
}

static void on_client(struct taking *taking) {
    struct resp_session *session = taking->session;
    struct slice what = taking->words[1];
    uint32_t count = taking->count;
    if (word_is(what, "ID") && count == 2) {
        resp_write_int(taking->out, (int64_t)session->id);
    } else if (word_is(what, "GETNAME") && count == 2) {
        if (session->name[0] == '\0') resp_write_nil(taking->out, session->protocol);
        else resp_write_text(taking->out, session->name);
    } else if (word_is(what, "SETNAME") && count == 3) {
        if (take_name(taking, taking->words[2], "Client names", session->name)) answer_ok(taking);
    } else if (word_is(what, "SETINFO") && count == 4) {
        client_setinfo(taking);
    } else if (word_is(what, "INFO") && count == 2) {
        client_info(taking);
    } else if (word_is(what, "LIST")) {
        client_list(taking);
    } else if (word_is(what, "KILL") && count > 2) {
        client_kill(taking);
    } else if (word_is(what, "REPLY") && count == 3) {
        client_reply(taking);
    } else if ((word_is(what, "NO-EVICT") || word_is(what, "NO-TOUCH")) && count == 3) {
        if (word_is(taking->words[2], "on") || word_is(taking->words[2], "off")) answer_ok(taking);
        else refuse_syntax(taking);
    } else {
        refuse_subcommand(taking);
    }
}

/* --- CONFIG -------------------------------------------------------------------------------------------------- */

/* What tools ask when they connect, in Redis's words for how things are here. */
static const struct {
    const char *name, *value;
} settings[] = {
    {"save", ""},
    {"appendonly", "yes"},
    {"appendfsync", "always"},
    {"databases", "1"},
    {"maxmemory", "0"},
    {"maxmemory-policy", "noeviction"},
    {"timeout", "0"},
    {"proto-max-bulk-len", "16777216"},
    {"notify-keyspace-events", ""},
};
#define SETTING_COUNT (sizeof settings / sizeof *settings)

static bool is_asked_for(const struct taking *taking, const char *name) {
    for (uint32_t i = 2; i < taking->count; i++) {
        char pattern[RESP_NAME_BYTES];
        struct slice word = taking->words[i];
        if (word.size >= sizeof pattern) continue;
        memcpy(pattern, word.data, word.size);
        pattern[word.size] = '\0';
        if (fnmatch(pattern, name, FNM_CASEFOLD) == 0) return true;
    }
    return false;
}

static void on_config(struct taking *taking) {
    if (!word_is(taking->words[1], "GET")) {
        refuse(taking, "ERR CONFIG %.*s is not supported: settings are the daemons' flags",
               shown_size(taking->words[1]), (const char *)taking->words[1].data);
        return;
    }
    if (taking->count == 2) {
        refuse(taking, "ERR wrong number of arguments for 'config|get' command");
        return;
    }
    uint32_t count = 0;
    for (size_t i = 0; i < SETTING_COUNT; i++) count += is_asked_for(taking, settings[i].name);
    resp_write_map(taking->out, taking->session->protocol, count);
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        if (!is_asked_for(taking, settings[i].name)) continue;
        resp_write_text(taking->out, settings[i].name);
        resp_write_text(taking->out, settings[i].value);
    }
}

/* --- taking -------------------------------------------------------------------------------------------------- */

static void on_reads(struct taking *taking, bool follower) {
    taking->session->follower_reads = follower;
    answer_ok(taking);
}

/* Of a connection: answered at once, or what becomes of it is in the batch. */
static void run_session(struct taking *taking) {
    switch (taking->entry->id) {
    case COMMAND_ID_HELLO:
        on_hello(taking);
        return;
    case COMMAND_ID_AUTH:
        on_auth(taking);
        return;
    case COMMAND_ID_CLIENT:
        on_client(taking);
        return;
    case COMMAND_ID_SELECT:
        on_select(taking);
        return;
    case COMMAND_ID_QUIT:
        on_quit(taking);
        return;
    case COMMAND_ID_RESET:
        on_reset(taking);
        return;
    case COMMAND_ID_READONLY:
        on_reads(taking, true);
        return;
    case COMMAND_ID_READWRITE:
        on_reads(taking, false);
        return;
    case COMMAND_ID_CONFIG:
        on_config(taking);
        return;
    case COMMAND_ID_MULTI:
        on_multi(taking);
        return;
    case COMMAND_ID_EXEC:
        on_exec(taking);
        return;
    case COMMAND_ID_DISCARD:
        on_discard(taking);
        return;
    case COMMAND_ID_WATCH:
        on_watch(taking);
        return;
    case COMMAND_ID_UNWATCH:
        forget_watched(taking->session);
        answer_ok(taking);
        return;
    default:
        refuse(taking, "ERR %s command not allowed", taking->entry->name);
    }
}

/* Open to who has not proved itself. */
static bool is_for_strangers(const struct command *entry) {
    return entry != NULL && (entry->id == COMMAND_ID_AUTH || entry->id == COMMAND_ID_HELLO ||
                             entry->id == COMMAND_ID_QUIT || entry->id == COMMAND_ID_RESET);
}

/* Happens at once also behind MULTI. */
static bool is_for_now(const struct command *entry) {
    return entry->id == COMMAND_ID_EXEC || entry->id == COMMAND_ID_DISCARD || entry->id == COMMAND_ID_MULTI ||
           entry->id == COMMAND_ID_WATCH || entry->id == COMMAND_ID_QUIT || entry->id == COMMAND_ID_RESET;
}

/* A web page can make a browser send these to any port. */
static bool is_of_http(struct slice name) { return word_is(name, "POST") || word_is(name, "HOST:"); }

static void take(struct taking *taking) {
    struct resp_session *session = taking->session;
    const struct command *entry = taking->entry;
    bool queues = session->transaction.open && (entry == NULL || !is_for_now(entry));
    if (!session->proven && !is_for_strangers(entry)) {
        session->host->unauthorized_cb(session->host->arg);
        refuse(taking, "NOAUTH Authentication required.");
    } else if (entry == NULL && is_of_http(taking->words[0])) {
        session->closing = true;
    } else if (entry == NULL) {
        refuse_unknown(taking);
        session->transaction.aborted = queues;
    } else if (!command_arity_ok(entry, taking->count) && entry->id == COMMAND_ID_EXEC) {
        refuse(taking, "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command");
        end_transaction(session);
        forget_watched(session);
    } else if (!command_arity_ok(entry, taking->count)) {
        refuse_arity(taking);
        session->transaction.aborted = session->transaction.aborted || session->transaction.open;
    } else if (queues) {
        queue(taking);
    } else if ((entry->flags & COMMAND_SESSION) != 0) {
        run_session(taking);
    } else if (entry->id == COMMAND_ID_PING) {
        on_ping(taking);
    } else if (entry->id == COMMAND_ID_ECHO) {
        on_echo(taking);
    } else if ((entry->flags & COMMAND_BLOCKING) != 0) {
        forward_blocking(taking);
    } else {
        forward(taking);
    }
}

/* Whether the command must begin a message of its own: the limits of a message are on all of its commands. */
static bool must_wait(const struct resp_session *session, const struct command *entry,
                      const struct resp_command *command, const struct resp_batch *batch) {
    if (entry == NULL) return false;
    bool blocks = (entry->flags & COMMAND_BLOCKING) != 0 && !session->transaction.open;
    if (blocks) return batch->count > 0; /* nobody's reply waits with it, not even one that is known */
    if (batch->commands == 0) return false;
    if (entry->id == COMMAND_ID_READONLY || entry->id == COMMAND_ID_READWRITE) return true;
    uint64_t words = command->count, bytes = words_bytes(command->words, command->count);
    if (entry->id == COMMAND_ID_EXEC) {
        words += session->transaction.words + session->watched_count;
        bytes += session->transaction.commands.size + session->watched.size;
    }
    return batch->words + words > MESSAGE_COMMANDS_MAX || batch->message.size + bytes > MESSAGE_BYTES_MAX / 2;
}

bool resp_session_take(struct resp_session *session, const struct resp_command *command,
                       struct resp_batch *batch) {
    const struct command *entry = command_find(command->words[0]);
    if (must_wait(session, entry, command, batch)) return false;
    struct taking taking = {
        .session = session,
        .batch = batch,
        .entry = entry,
        .words = command->words,
        .count = command->count,
        .silent = session->replies == REPLIES_OFF || session->replies == REPLIES_SKIP_THIS,
        .out = &batch->text,
        .start = batch->text.size,
    };
    bool skipped = session->replies == REPLIES_SKIP_THIS;
    size_t told = batch->told.size;
    take(&taking);
    if (taking.silent || session->replies == REPLIES_SKIP_NEXT) {
        /* the text of an EXEC belongs to what is told of it */
        if (batch->told.size == told) batch->text.size = taking.start;
    } else if (batch->told.size == told && batch->text.size > taking.start) {
        add_text(&taking, &batch->told, batch->text.size - taking.start);
    }
    if (skipped && session->replies == REPLIES_SKIP_THIS) session->replies = REPLIES_ON;
    if (session->replies == REPLIES_SKIP_NEXT) session->replies = REPLIES_SKIP_THIS;
    if (entry != NULL) session->last = entry;
    batch->count++;
    note_fill(batch);
    return true;
}

void resp_session_break(struct resp_session *session, const char *error, struct resp_batch *batch) {
    struct taking taking = {.session = session, .batch = batch, .out = &batch->text, .start = batch->text.size};
    session->closing = true;
    if (error[0] == '\0') return;
    resp_write_error(&batch->text, "ERR", slice_of_text(error));
    add_text(&taking, &batch->told, batch->text.size - taking.start);
}

struct slice resp_batch_seal(struct resp_batch *batch, bool follower_reads) {
    sk_assert(batch->commands > 0);
    if (follower_reads) {
        mp_write_map(&batch->message, 1);
        mp_write_text(&batch->message, "read");
        mp_write_text(&batch->message, "follower");
    }
    if (batch->message.failed || batch->told.failed || batch->inner.failed || batch->text.failed)
        return slice_of("", 0);
    return seal_head(&batch->message, batch->commands, follower_reads);
}

/* --- answers ------------------------------------------------------------------------------------------------- */

/* The replies being made from a batch and the contract's reply to it. */
struct answering {
    struct resp_session *session;
    struct mp_reader results; /* [error or nil, result] of each command; */
    bool is_single;           /* or the result of the only one */
    bool can_retry;           /* another reply may have what this one had no room for */
    struct slice refused;     /* the error that the whole message got; empty: it got none */
    struct slice text;        /* what is left of it */
    struct buffer *out;
};

static void take_text(struct answering *answering, uint32_t bytes) {
    sk_assert(bytes <= answering->text.size);
    buffer_append(answering->out, answering->text.data, bytes);
    answering->text = slice_of(answering->text.data + bytes, answering->text.size - bytes);
}

/* The next [error or nil, result]: `error` is empty if it is nil. */
static int next_result(struct answering *answering, struct slice *error, struct slice *result) {
    uint32_t two;
    *error = answering->refused;
    if (error->size > 0) return SK_OK;
    if (answering->is_single) return mp_skip(&answering->results, result);
    if (mp_read_array(&answering->results, &two) != SK_OK || two != 2 ||
        mp_skip(&answering->results, error) != SK_OK || mp_skip(&answering->results, result) != SK_OK) {
        return SK_EPROTO;
    }
    if (error->data[0] == 0xc0) error->size = 0;
    return SK_OK;
}

static int write_error(struct answering *answering, struct slice error) {
    struct mp_reader reader = mp_reader_of(error);
    return resp_write_contract_error(answering->out, &reader);
}

/* The command was not executed, or is a read, whose answer had no room beside the others'. */
static bool had_no_room(struct slice error) {
    struct mp_reader reader = mp_reader_of(error);
    uint32_t two;
    struct slice code;
    if (mp_read_array(&reader, &two) != SK_OK || mp_read_bytes(&reader, &code) != SK_OK) return false;
    int err = error_from_name((const char *)code.data, code.size);
    return err == SK_TOOLARGE || err == SK_OVERLOADED;
}

static int answer_command(struct answering *answering, const struct told *told) {
    struct slice error, result;
    int err = next_result(answering, &error, &result);
    if (err != SK_OK) return err;
    if (error.size > 0 && answering->can_retry && had_no_room(error)) return SK_RETRY;
    if (error.size > 0) return write_error(answering, error);
    return resp_write_result(answering->out, told->protocol, told->flags, result);
}

/* All versions or none: who watches half of the keys does not know which. */
static int answer_watch(struct answering *answering, const struct told *told) {
    struct resp_session *session = answering->session;
    struct mp_reader keys = mp_reader_of(buffer_slice(&session->watching));
    struct slice error, result, key, first_error = {0};
    size_t before = session->watched.size;
    int err = SK_OK;
    for (uint32_t i = 0; err == SK_OK && i < told->count; i++) {
        err = next_result(answering, &error, &result);
        if (err == SK_OK) err = mp_skip(&keys, &key);
        if (err != SK_OK) break;
        if (error.size > 0) {
            first_error = error;
            continue;
        }
        mp_write_array(&session->watched, 2);
        mp_write_raw(&session->watched, key);
        mp_write_raw(&session->watched, result);
    }
    buffer_clear(&session->watching, KEPT_BYTES);
    if (err != SK_OK) return err;
    if (session->watched.failed) return SK_ENOMEM;
    if (first_error.size > 0) {
        session->watched.size = before;
        return write_error(answering, first_error);
    }
    session->watched_count += told->count;
    resp_write_status(answering->out, "OK");
    return SK_OK;
}

static int answer_inner(struct answering *answering, const struct told *told, const struct told *inner) {
    for (uint32_t i = 0; i < told->count; i++) {
        int err = SK_OK;
        if (inner[i].kind == TOLD_TEXT) take_text(answering, inner[i].count);
        else err = answer_command(answering, &inner[i]);
        if (err != SK_OK) return err;
    }
    return SK_OK;
}

/* Steps over what would be told of the commands of a transaction. */
static void skip_inner(struct answering *answering, const struct told *told, const struct told *inner) {
    size_t before = answering->out->size;
    for (uint32_t i = 0; i < told->count; i++) {
        if (inner[i].kind == TOLD_TEXT) take_text(answering, inner[i].count);
    }
    answering->out->size = before;
}

static int answer_exec(struct answering *answering, const struct told *told, const struct told *inner) {
    struct slice error = {0}, result = {0};
    struct mp_reader outer = answering->results, reader;
    bool is_single = answering->is_single;
    uint32_t count = 0, commands = 0;
    if (told->sent) {
        int err = next_result(answering, &error, &result);
        if (err != SK_OK) return err;
        outer = answering->results;
        if (error.size > 0 || result.data[0] == 0xc0) {
            skip_inner(answering, told, inner);
            if (error.size > 0) return write_error(answering, error);
            resp_write_nil_array(answering->out, told->protocol);
            return SK_OK;
        }
        reader = mp_reader_of(result);
        if (mp_read_array(&reader, &count) != SK_OK) return SK_EPROTO;
        answering->results = reader;
    }
    for (uint32_t i = 0; i < told->count; i++) commands += inner[i].kind == TOLD_COMMAND;
    if (commands != count) return SK_EPROTO;
    resp_write_array(answering->out, told->count);
    answering->is_single = answering->can_retry = false;
    int err = answer_inner(answering, told, inner);
    answering->is_single = is_single;
    answering->results = outer;
    return err;
}

static int answer_one(struct answering *answering, const struct told *told, const struct told *inner) {
    switch (told->kind) {
    case TOLD_TEXT:
        take_text(answering, told->count);
        return SK_OK;
    case TOLD_COMMAND:
        return answer_command(answering, told);
    case TOLD_EXEC:
        return answer_exec(answering, told, inner);
    default:
        return answer_watch(answering, told);
    }
}

/* Finds what is for the commands in [1, msgid, error, results]. */
static int open_reply(struct answering *answering, struct slice reply, uint32_t commands) {
    struct mp_reader reader = mp_reader_of(reply);
    struct slice error;
    uint64_t kind, msgid;
    uint32_t count;
    if (mp_read_array(&reader, &count) != SK_OK || count != 4 || mp_read_uint(&reader, &kind) != SK_OK ||
        kind != 1 || mp_read_uint(&reader, &msgid) != SK_OK || mp_skip(&reader, &error) != SK_OK) {
        return SK_EPROTO;
    }
    if (error.data[0] != 0xc0) {
        answering->refused = error;
        return SK_OK;
    }
    answering->is_single = commands == 1;
    if (!answering->is_single && (mp_read_array(&reader, &count) != SK_OK || count != commands)) return SK_EPROTO;
    answering->results = reader;
    return SK_OK;
}

/* Takes what was answered out of a sealed batch, which only reads: the first `told`, among them `commands` for shards. */
static void drop_answered(struct resp_batch *batch, size_t told, uint32_t commands, struct slice text_left) {
    struct mp_reader reader =
        mp_reader_of(slice_of(batch->message.data + HEAD_BYTES, batch->message.size - HEAD_BYTES));
    for (uint32_t i = 0; i < commands; i++) (void)mp_skip(&reader, NULL);
    const uint8_t *left = reader.at;
    for (uint32_t i = commands; i < batch->commands; i++) (void)mp_skip(&reader, NULL);
    size_t left_bytes = (size_t)(reader.at - left); /* the options that stand behind them come again */
    memmove(batch->message.data + HEAD_BYTES, left, left_bytes);
    batch->message.size = HEAD_BYTES + left_bytes;
    batch->commands -= commands;
    batch->told.size -= told * sizeof(struct told);
    memmove(batch->told.data, batch->told.data + told * sizeof(struct told), batch->told.size);
    if (text_left.size > 0) memmove(batch->text.data, text_left.data, text_left.size);
    batch->text.size = text_left.size;
}

int resp_session_answer(struct resp_session *session, struct resp_batch *batch, struct slice reply,
                        struct buffer *out) {
    if (batch->told.failed || batch->inner.failed || batch->text.failed) return SK_ENOMEM;
    struct answering answering = {.session = session, .text = buffer_slice(&batch->text), .out = out};
    int err = batch->commands > 0 ? open_reply(&answering, reply, batch->commands) : SK_OK;
    const struct told *told = (const struct told *)(const void *)batch->told.data;
    const struct told *inner = (const struct told *)(const void *)batch->inner.data;
    size_t count = batch->told.size / sizeof *told;
    uint32_t commands = 0; /* answered */
    for (size_t i = 0; err == SK_OK && i < count; i++) {
        size_t before = out->size;
        answering.can_retry = batch->only_reads && commands > 0 && answering.refused.size == 0;
        err = answer_one(&answering, &told[i], inner);
        if (err == SK_RETRY) {
            drop_answered(batch, i, commands, answering.text);
            return SK_RETRY;
        }
        commands += told[i].kind == TOLD_COMMAND;
        if (told[i].kind == TOLD_EXEC && told[i].count > 0) inner += told[i].count;
        if (told[i].silent && !out->failed) out->size = before;
    }
    return err == SK_OK && out->failed ? SK_ENOMEM : err;
}
