#include "change_sender.h"

#include "check.h"
#include "clock.h"
#include "error.h"
#include "limits.h"
#include "log.h"
#include "metad_client.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define CALL_MS       1000u
#define AGAIN_MS      20u /* after an answer that came at once and was of no use */
#define CLOSE_GRACE_S 1

/* At most one change for each shard. */
struct batch {
    struct shard_change *changes; /* owned */
    uint32_t count, capacity;
};

struct change_sender {
    struct change_sender_options options;
    pthread_t thread;

    /* Under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool closing;
    uint32_t node_id; /* 0 = not registered yet */
    uint64_t incarnation;
    struct batch waiting;
    uint32_t places[SHARD_COUNT_MAX]; /* of the shard's change in `waiting`, counted from 1; 0 = it has none */
    struct metad_client *client;      /* set once, by the thread; NULL before */

    /* The thread's. */
    struct batch leaving;
    struct buffer params, result;
    bool told_lost; /* logged that metad does not answer */
};

/* ---- what has gathered ---- */

static bool make_room(struct batch *batch) {
    if (batch->count < batch->capacity) return true;
    uint32_t capacity = batch->capacity == 0 ? 64 : batch->capacity * 2;
    struct shard_change *changes = realloc(batch->changes, capacity * sizeof *changes);
    if (changes == NULL) return false;
    batch->changes = changes;
    batch->capacity = capacity;
    return true;
}

void change_sender_add(struct change_sender *sender, const struct shard_change *change) {
    sk_assert(change->shard < SHARD_COUNT_MAX);
    struct batch *waiting = &sender->waiting;
    uint32_t *place = &sender->places[change->shard];
    pthread_mutex_lock(&sender->lock);
    if (sender->node_id != 0 && *place == 0 && make_room(waiting)) *place = ++waiting->count;
    if (*place != 0) waiting->changes[*place - 1] = *change;
    if (waiting->count == 1) pthread_cond_signal(&sender->changed);
    pthread_mutex_unlock(&sender->lock);
}

void change_sender_identify(struct change_sender *sender, uint32_t node_id, uint64_t incarnation) {
    pthread_mutex_lock(&sender->lock);
    sender->node_id = node_id;
    sender->incarnation = incarnation;
    pthread_mutex_unlock(&sender->lock);
}

/* Waits for changes and moves them to `leaving`. False = the sender closes. */
static bool take(struct change_sender *sender) {
    pthread_mutex_lock(&sender->lock);
    while (!sender->closing && sender->waiting.count == 0) pthread_cond_wait(&sender->changed, &sender->lock);
    struct batch empty = sender->leaving;
    sender->leaving = sender->waiting;
    sender->waiting = empty;
    sender->waiting.count = 0;
    for (uint32_t i = 0; i < sender->leaving.count; i++) sender->places[sender->leaving.changes[i].shard] = 0;
    bool closing = sender->closing;
    pthread_mutex_unlock(&sender->lock);
    return !closing;
}

/* ---- requests ---- */

static bool is_closing(struct change_sender *sender) {
    pthread_mutex_lock(&sender->lock);
    bool closing = sender->closing;
    pthread_mutex_unlock(&sender->lock);
    return closing;
}

/* A client of its own: a heartbeat does not wait for a change that metad's disk is slow with. */
static int connect_client(struct change_sender *sender) {
    if (sender->client != NULL) return SK_OK; /* only this thread sets it */
    struct metad_client *client;
    int rc = metad_client_new(&client, sender->options.metad_addresses);
    if (rc != SK_OK) return rc;
    pthread_mutex_lock(&sender->lock);
    sender->client = client;
    pthread_mutex_unlock(&sender->lock);
    return SK_OK;
}

static void encode_params(struct change_sender *sender, const struct shard_change *changes, uint32_t count) {
    struct buffer *params = &sender->params;
    pthread_mutex_lock(&sender->lock);
    uint32_t node_id = sender->node_id;
    uint64_t incarnation = sender->incarnation;
    pthread_mutex_unlock(&sender->lock);
    buffer_clear(params, 65536);
    mp_write_array(params, 4);
    mp_write_uint(params, node_id);
    mp_write_uint(params, incarnation);
    mp_write_bin(params, slice_of(sender->options.store_id, sizeof sender->options.store_id));
    mp_write_array(params, count);
    for (uint32_t i = 0; i < count; i++) shard_change_encode(&changes[i], params);
}

/* [nil or [code, text], config_version] */
static int read_outcome(struct mp_reader *reader, const struct shard_change *change) {
    uint32_t parts;
    uint64_t config_version;
    struct slice code = slice_of(NULL, 0), text = code;
    int rc = mp_read_array(reader, &parts);
    if (rc == SK_OK && parts != 2) rc = SK_EPROTO;
    if (rc != SK_OK) return rc;
    struct mp_reader ahead = *reader;
    struct mp_value value;
    rc = mp_read(&ahead, &value);
    if (rc == SK_OK && value.type == MP_NIL) {
        *reader = ahead;
    } else {
        rc = mp_read_array(reader, &parts);
        if (rc == SK_OK && parts != 2) rc = SK_EPROTO;
        if (rc == SK_OK) rc = mp_read_str(reader, &code);
        if (rc == SK_OK) rc = mp_read_str(reader, &text);
    }
    if (rc == SK_OK) rc = mp_read_uint(reader, &config_version);
    if (rc != SK_OK || code.size == 0) return rc;
    log_event(LOG_DEBUG, "change_refused", "by=%s shard=%" PRIu32 " config=%" PRIu64 " error=%.*s text=\"%.*s\"",
              shard_change_name(change->kind), change->shard, config_version, (int)code.size,
              (const char *)code.data, (int)text.size, (const char *)text.data);
    return SK_OK;
}

static int read_outcomes(struct mp_reader *reader, const struct shard_change *changes, uint32_t count) {
    uint32_t given;
    int rc = mp_read_array(reader, &given);
    if (rc == SK_OK && given != count) rc = SK_EPROTO;
    for (uint32_t i = 0; rc == SK_OK && i < count; i++) rc = read_outcome(reader, &changes[i]);
    return rc;
}

/* {map_version, changes: [outcome, …]} */
static int read_result(struct slice bytes, const struct shard_change *changes, uint32_t count, uint64_t *version) {
    struct mp_reader reader = mp_reader_of(bytes);
    uint32_t fields;
    int rc = mp_read_map(&reader, &fields);
    for (uint32_t i = 0; rc == SK_OK && i < fields; i++) {
        struct slice key;
        rc = mp_read_str(&reader, &key);
        if (rc != SK_OK) break;
        if (slice_equal(key, slice_of_text("map_version"))) rc = mp_read_uint(&reader, version);
        else if (slice_equal(key, slice_of_text("changes"))) rc = read_outcomes(&reader, changes, count);
        else rc = mp_skip(&reader, NULL);
    }
    return rc;
}

/* metad answered or did not; one line when that changes. */
static void note_answer(struct change_sender *sender, uint32_t count, int rc, const char *text) {
    bool lost = rc != SK_OK;
    if (lost == sender->told_lost || rc == SK_ECLOSED) return;
    sender->told_lost = lost;
    char quoted[600];
    if (lost) {
        log_event(LOG_WARNING, "changes_lost", "count=%" PRIu32 " err=%s text=%s", count, error_name(rc),
                  log_quote(text, quoted, sizeof quoted));
    } else {
        log_event(LOG_INFO, "changes_back", "count=%" PRIu32, count);
    }
}

/* Until metad has decided, while there is time: a new leader of its group may be there in a moment, and whoever asked waits. A
 * change holds for one version of the record, so one that was done and is asked for again is refused. */
static int ask_metad(struct change_sender *sender, char *text, size_t text_bytes) {
    int rc = sender->params.failed ? SK_ENOMEM : connect_client(sender);
    if (rc != SK_OK) return rc;
    uint64_t now_ms = clock_boottime_ms(), deadline_ms = now_ms + CALL_MS;
    for (;;) {
        rc = metad_client_call(sender->client, "change", buffer_slice(&sender->params),
                               (uint32_t)(deadline_ms - now_ms), &sender->result, text, text_bytes);
        bool may_pass = rc == SK_ETIMEDOUT || rc == SK_ENET || rc == SK_RETRY || rc == SK_NOT_LEADER;
        if (!may_pass || is_closing(sender)) return rc;
        usleep(AGAIN_MS * 1000);
        now_ms = clock_boottime_ms();
        if (now_ms >= deadline_ms) return rc;
    }
}

static void send_some(struct change_sender *sender, const struct shard_change *changes, uint32_t count) {
    char text[256] = "";
    uint64_t version = 0;
    encode_params(sender, changes, count);
    int rc = ask_metad(sender, text, sizeof text);
    if (rc == SK_OK) rc = read_result(buffer_slice(&sender->result), changes, count, &version);
    note_answer(sender, count, rc, text);
    sender->options.done_cb(sender->options.arg, rc == SK_OK ? version : 0);
}

static void *run(void *arg) {
    struct change_sender *sender = arg;
    while (take(sender)) {
        for (uint32_t at = 0; at < sender->leaving.count && !is_closing(sender);) {
            uint32_t left = sender->leaving.count - at;
            uint32_t count = left < SHARD_CHANGES_MAX ? left : SHARD_CHANGES_MAX;
            send_some(sender, &sender->leaving.changes[at], count);
            at += count;
        }
    }
    return NULL;
}

/* ---- life ---- */

static void free_sender(struct change_sender *sender) {
    metad_client_free(sender->client);
    buffer_deinit(&sender->params);
    buffer_deinit(&sender->result);
    free(sender->waiting.changes);
    free(sender->leaving.changes);
    pthread_cond_destroy(&sender->changed);
    pthread_mutex_destroy(&sender->lock);
    free(sender);
}

int change_sender_open(struct change_sender **sender, const struct change_sender_options *options) {
    struct change_sender *made = calloc(1, sizeof *made);
    if (made == NULL) return SK_ENOMEM;
    made->options = *options;
    buffer_init(&made->params);
    buffer_init(&made->result);
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->changed, NULL);
    if (pthread_create(&made->thread, NULL, run, made) != 0) {
        free_sender(made);
        return SK_ENOMEM;
    }
    *sender = made;
    return SK_OK;
}

/* A call in progress is given time to be answered, as in member.c. */
static void join(struct change_sender *sender) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += CLOSE_GRACE_S;
    if (pthread_timedjoin_np(sender->thread, NULL, &until) == 0) return;
    pthread_mutex_lock(&sender->lock);
    struct metad_client *client = sender->client;
    pthread_mutex_unlock(&sender->lock);
    if (client != NULL) metad_client_cancel(client);
    int rc = pthread_join(sender->thread, NULL);
    sk_assert(rc == 0);
}

void change_sender_stop(struct change_sender *sender) {
    pthread_mutex_lock(&sender->lock);
    bool stopped = sender->closing;
    sender->closing = true;
    pthread_cond_signal(&sender->changed);
    pthread_mutex_unlock(&sender->lock);
    if (!stopped) join(sender);
}

void change_sender_close(struct change_sender *sender) {
    if (sender == NULL) return;
    change_sender_stop(sender);
    free_sender(sender);
}
