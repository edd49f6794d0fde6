#include "member.h"

#include "change_sender.h"
#include "check.h"
#include "clock.h"
#include "cluster_net.h"
#include "error.h"
#include "log.h"
#include "mailbox.h"
#include "metad_client.h"
#include "mp.h"

#include <inttypes.h>
#include <nng/nng.h>
#include <nng/protocol/pubsub0/sub.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#define CALL_MS           2000u
#define REGISTER_AGAIN_MS 200u
#define CLOSE_GRACE_S     1
#define MAP_ASK_MS        1000u
#define LOST_AGAIN_MS     100u /* after a request that metad has not answered: another server may lead in a moment */
/* After a fetch that brought nothing: whoever asked was told by someone who knows more than the metad we reach. */
#define MAP_REPEAT_MS       20u
#define PUBLICATION_PREFIX  "map"
#define PUBLISHED_BYTES_MAX 256u
#define ADDRESS_BYTES       256u

/* How we stand with metad; each change is one line of the log.
 *
 *   WAITING --registered--> JOINED --no answer--> LOST --answer--> JOINED
 *      |                      |                    |
 *      |                      +---- NOT_FOUND -----+--> WAITING (gateway) or REFUSED (shardd)
 *      +--refused--> REFUSED (the thread only waits to be closed)
 */
enum state { WAITING, JOINED, LOST, REFUSED };

static const bool state_moves[4][4] = {
    [WAITING] = {[JOINED] = true, [REFUSED] = true},
    [JOINED] = {[LOST] = true, [WAITING] = true, [REFUSED] = true},
    [LOST] = {[JOINED] = true, [WAITING] = true},
};

struct member {
    /* Fixed before the thread starts. */
    struct member_options options;
    struct member_callbacks callbacks;
    uint8_t
        start[16]; /* random: names this start of the process, so that a repeated registration is known as one */
    pthread_t thread;
    struct mailbox *bell;         /* only to be woken */
    struct change_sender *sender; /* of a shardd */
    struct metad_client *client;
    nng_socket subscription;
    nng_aio *subscription_aio;

    /* Any thread. */
    atomic_bool closing;
    atomic_bool asked;            /* fetch the map now: someone says that there may be a newer one */
    atomic_uint_fast64_t told;    /* metad itself said since the last fetch that there is this version */
    atomic_uint_fast64_t version; /* of the newest map handed out */

    /* The member's thread. */
    enum state state;
    bool told_waiting; /* logged that metad does not answer yet */
    bool was_registered;
    struct member_identity identity;
    uint64_t register_us, heartbeat_us, map_us; /* when next; of clock_boottime_us() */
    uint64_t fetch_least_us;                    /* `asked` counts from then on */
    struct buffer params, stats, result;
    char text[512]; /* of the last error */
};

static void enter_state(struct member *member, enum state state) {
    sk_assert(state_moves[member->state][state]);
    member->state = state;
}

static void ask_for_map(struct member *member) {
    atomic_store(&member->asked, true);
    mailbox_wake(member->bell);
}

void member_refresh(struct member *member, uint64_t known_version) {
    if (atomic_load(&member->version) > known_version) return;
    ask_for_map(member);
}

/* Any thread: metad has this version. It is fetched at once, whatever was fetched before. */
static void tell_version(struct member *member, uint64_t version) {
    if (version <= atomic_load(&member->version)) return;
    uint_fast64_t told = atomic_load(&member->told);
    while (told < version && !atomic_compare_exchange_weak(&member->told, &told, version)) continue;
    mailbox_wake(member->bell);
}

/* A request with changes is answered or lost; then what it did is not known, and nor is the version. */
static void changes_done_cb(void *arg, uint64_t map_version) {
    struct member *member = arg;
    if (map_version == 0) {
        ask_for_map(member);
    } else {
        tell_version(member, map_version);
    }
}

void member_change(struct member *member, const struct shard_change *change) {
    sk_assert(member->sender != NULL);
    change_sender_add(member->sender, change);
}

/* The subscription: callbacks of nng's threads. They only ring the bell. */

/* The version that a publication announces, 0 = malformed. */
static uint64_t read_publication(struct slice body) {
    const size_t prefix = strlen(PUBLICATION_PREFIX);
    if (body.size < prefix) return 0;
    struct mp_reader reader = mp_reader_of(slice_of(body.data + prefix, body.size - prefix));
    uint64_t version;
    return mp_read_uint(&reader, &version) == SK_OK ? version : 0;
}

static void subscription_cb(void *arg) {
    struct member *member = arg;
    int rv = nng_aio_result(member->subscription_aio);
    if (rv == NNG_ECLOSED || rv == NNG_ECANCELED || atomic_load(&member->closing)) {
        if (rv == 0) nng_msg_free(nng_aio_get_msg(member->subscription_aio));
        return;
    }
    if (rv == 0) {
        nng_msg *msg = nng_aio_get_msg(member->subscription_aio);
        uint64_t version = read_publication(slice_of(nng_msg_body(msg), nng_msg_len(msg)));
        nng_msg_free(msg);
        tell_version(member, version);
    }
    nng_recv_aio(member->subscription, member->subscription_aio);
}

/* Publications before the connection are lost to us. */
static void connected_cb(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    (void)pipe;
    (void)event;
    ask_for_map(arg);
}

static int dial_publishers(nng_socket socket, const char *addresses) {
    struct slice rest = slice_of_text(addresses), part;
    for (bool more = true; more;) {
        char address[ADDRESS_BYTES];
        more = slice_cut(&rest, ',', &part);
        if (part.size == 0 || part.size >= sizeof address) return SK_ECONFIG;
        memcpy(address, part.data, part.size);
        address[part.size] = '\0';
        nng_dialer dialer;
        int rv = cluster_net_dialer(&dialer, socket, address);
        if (rv == 0) rv = nng_dialer_start(dialer, NNG_FLAG_NONBLOCK);
        if (rv != 0) return rv == NNG_ENOMEM ? SK_ENOMEM : SK_ECONFIG;
    }
    return SK_OK;
}

static int subscribe(struct member *member) {
    if (nng_sub0_open(&member->subscription) != 0) return SK_ENOMEM;
    nng_socket socket = member->subscription;
    int rv = nng_socket_set(socket, NNG_OPT_SUB_SUBSCRIBE, PUBLICATION_PREFIX, strlen(PUBLICATION_PREFIX));
    if (rv == 0) rv = nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, PUBLISHED_BYTES_MAX);
    if (rv == 0) rv = nng_socket_set_ms(socket, NNG_OPT_RECONNMINT, 50);
    if (rv == 0) rv = nng_socket_set_ms(socket, NNG_OPT_RECONNMAXT, 1000);
    if (rv == 0) rv = nng_pipe_notify(socket, NNG_PIPE_EV_ADD_POST, connected_cb, member);
    if (rv == 0) rv = nng_aio_alloc(&member->subscription_aio, subscription_cb, member);
    if (rv != 0) return SK_ENOMEM;
    int rc = dial_publishers(socket, member->options.publish_addresses);
    if (rc == SK_OK) nng_recv_aio(socket, member->subscription_aio);
    return rc;
}

static void unsubscribe(struct member *member) {
    if (member->subscription_aio != NULL)
        nng_aio_stop(member->subscription_aio); /* before the socket: shardd/frontend.c */
    if (nng_socket_id(member->subscription) > 0) nng_close(member->subscription);
    if (member->subscription_aio != NULL) nng_aio_free(member->subscription_aio);
}

/* Calls to metad. */

static int call(struct member *member, const char *method) {
    if (member->params.failed) return SK_ENOMEM;
    return metad_client_call(member->client, method, buffer_slice(&member->params), CALL_MS, &member->result,
                             member->text, sizeof member->text);
}

static const char *kind_name(const struct member *member) {
    return member->options.kind == MEMBER_SHARDD ? "shardd" : "gateway";
}

static void log_error(enum log_level level, const char *event, int rc, const char *text) {
    char quoted[600];
    log_event(level, event, "err=%s text=%s", error_name(rc), log_quote(text, quoted, sizeof quoted));
}

static void write_key_text(struct buffer *buffer, const char *key, const char *text) {
    mp_write_text(buffer, key);
    mp_write_text(buffer, text == NULL ? "" : text);
}

static void write_key_uint(struct buffer *buffer, const char *key, uint64_t number) {
    mp_write_text(buffer, key);
    mp_write_uint(buffer, number);
}

static void encode_registration(struct member *member) {
    const struct member_options *options = &member->options;
    struct buffer *params = &member->params;
    bool shardd = options->kind == MEMBER_SHARDD;
    buffer_clear(params, SIZE_MAX);
    mp_write_array(params, 2);
    mp_write_text(params, kind_name(member));
    mp_write_map(params, shardd ? 8 : 3);
    mp_write_text(params, "store_id");
    mp_write_bin(params, slice_of(options->store_id, sizeof options->store_id));
    write_key_text(params, "host", options->host);
    write_key_text(params, "frames_address", options->frames_address);
    if (!shardd) return;
    write_key_uint(params, "node_id", options->node_id);
    write_key_uint(params, "cluster", options->cluster);
    write_key_uint(params, "lanes", options->lanes);
    mp_write_text(params, "start");
    mp_write_bin(params, slice_of(member->start, sizeof member->start));
    write_key_text(params, "replication_address", options->replication_address);
}

static bool key_is(struct slice key, const char *name) { return slice_equal(key, slice_of_text(name)); }

static int decode_identity(struct slice bytes, struct member_identity *identity) {
    struct mp_reader reader = mp_reader_of(bytes);
    uint32_t fields;
    uint64_t node_id = 0;
    *identity = (struct member_identity){0};
    int rc = mp_read_map(&reader, &fields);
    for (uint32_t i = 0; rc == SK_OK && i < fields; i++) {
        struct slice key;
        rc = mp_read_str(&reader, &key);
        if (rc != SK_OK) break;
        if (key_is(key, "cluster")) rc = mp_read_uint(&reader, &identity->cluster);
        else if (key_is(key, "node_id")) rc = mp_read_uint(&reader, &node_id);
        else if (key_is(key, "incarnation")) rc = mp_read_uint(&reader, &identity->incarnation);
        else rc = mp_skip(&reader, NULL);
    }
    if (rc == SK_OK && node_id > UINT32_MAX) rc = SK_EPROTO;
    identity->node_id = (uint32_t)node_id;
    return rc;
}

static void joined(struct member *member, const struct member_identity *identity, uint64_t now_us) {
    enter_state(member, JOINED);
    log_event(LOG_INFO, "member_registered", "cluster=%016" PRIx64 " node=%" PRIu32 " incarnation=%" PRIu64,
              identity->cluster, identity->node_id, identity->incarnation);
    member->identity = *identity;
    if (member->sender != NULL) {
        change_sender_identify(member->sender, identity->node_id, identity->incarnation);
    }
    member->heartbeat_us = now_us;
    member->map_us = now_us;
    member->told_waiting = false;
    if (member->was_registered) return;
    member->was_registered = true;
    member->callbacks.registered_cb(member->callbacks.arg, identity);
}

static void refused(struct member *member, int rc) {
    enter_state(member, REFUSED);
    log_error(LOG_ERROR, "member_refused", rc, member->text);
    member->callbacks.refused_cb(member->callbacks.arg, rc, member->text);
}

static void do_register(struct member *member) {
    encode_registration(member);
    int rc = call(member, "register");
    struct member_identity identity;
    if (rc == SK_OK) rc = decode_identity(buffer_slice(&member->result), &identity);
    uint64_t now_us = clock_boottime_us();
    if (rc == SK_OK) {
        joined(member, &identity, now_us);
    } else if (rc == SK_CONFLICT || rc == SK_BADREQUEST || rc == SK_REMOVED) {
        refused(member, rc);
    } else if (rc != SK_ECLOSED) {
        member->register_us = now_us + REGISTER_AGAIN_MS * 1000u;
        if (!member->told_waiting) log_error(LOG_WARNING, "member_waiting", rc, member->text);
        member->told_waiting = true;
    }
}

/* metad answered or did not, while we are registered. */
static void note_answer(struct member *member, int rc) {
    bool answered = rc == SK_OK || rc == SK_NOT_FOUND || rc == SK_REMOVED;
    if (rc == SK_ECLOSED) return;
    if (answered && member->state == LOST) {
        enter_state(member, JOINED);
        log_event(LOG_INFO, "member_back", "node=%" PRIu32, member->identity.node_id);
    } else if (!answered && member->state == JOINED) {
        enter_state(member, LOST);
        log_error(LOG_WARNING, "member_lost", rc, member->text);
    }
}

static void encode_heartbeat(struct member *member) {
    struct buffer *params = &member->params;
    buffer_clear(&member->stats, 65536);
    if (member->callbacks.stats_cb != NULL) member->callbacks.stats_cb(member->callbacks.arg, &member->stats);
    if (member->stats.size == 0 || member->stats.failed) {
        buffer_clear(&member->stats, 65536);
        mp_write_map(&member->stats, 0);
    }
    buffer_clear(params, 65536);
    mp_write_array(params, 5);
    mp_write_text(params, kind_name(member));
    mp_write_uint(params, member->identity.node_id);
    mp_write_uint(params, member->identity.incarnation);
    mp_write_bin(params, slice_of(member->options.store_id, sizeof member->options.store_id));
    mp_write_raw(params, buffer_slice(&member->stats));
}

static int decode_heartbeat(struct slice bytes, uint64_t *version) {
    struct mp_reader reader = mp_reader_of(bytes);
    uint32_t fields;
    int rc = mp_read_map(&reader, &fields);
    for (uint32_t i = 0; rc == SK_OK && i < fields; i++) {
        struct slice key;
        rc = mp_read_str(&reader, &key);
        if (rc == SK_OK) rc = key_is(key, "map_version") ? mp_read_uint(&reader, version) : mp_skip(&reader, NULL);
    }
    return rc;
}

/* metad does not know this start any more. Of a gateway it forgets what it has not heard of for a while. A shardd's it
 * has replaced by another process with the same store: to register again would take the shards from that one, which
 * would take them back, and so on. */
static void unknown(struct member *member, uint64_t now_us) {
    if (member->options.kind == MEMBER_SHARDD) {
        (void)snprintf(member->text, sizeof member->text,
                       "metad no longer knows this start of node %" PRIu32
                       ": another process runs on a copy of its data directory, or metad was set up anew",
                       member->identity.node_id);
        refused(member, SK_CONFLICT);
        return;
    }
    enter_state(member, WAITING);
    log_event(LOG_WARNING, "member_unknown", "node=%" PRIu32, member->identity.node_id);
    member->register_us = now_us;
}

static void do_heartbeat(struct member *member) {
    encode_heartbeat(member);
    int rc = call(member, "heartbeat");
    uint64_t version = 0;
    if (rc == SK_OK) rc = decode_heartbeat(buffer_slice(&member->result), &version);
    note_answer(member, rc);
    uint64_t now_us = clock_boottime_us();
    uint32_t pause_ms = member->options.heartbeat_ms;
    if (member->state == LOST && LOST_AGAIN_MS < pause_ms) pause_ms = LOST_AGAIN_MS;
    member->heartbeat_us = now_us + pause_ms * (uint64_t)1000;
    if (rc == SK_REMOVED) {
        refused(member, rc);
    } else if (rc == SK_NOT_FOUND) {
        unknown(member, now_us);
    } else if (rc == SK_OK) {
        bool newer = version > atomic_load(&member->version);
        member->map_us = newer ? now_us : now_us + MAP_ASK_MS * 1000u;
    }
}

/* The answer to `map`: nil, or the encoded map, as it is or within a bin. SK_NOT_FOUND = nil. */
static int decode_map_answer(struct slice bytes, struct map **map) {
    struct mp_reader reader = mp_reader_of(bytes);
    struct mp_value value;
    int rc = mp_read(&reader, &value);
    if (rc != SK_OK) return rc;
    if (value.type == MP_NIL) return SK_NOT_FOUND;
    return map_decode(value.type == MP_BIN ? value.bytes : bytes, map);
}

/* Hands out a newer map of our cluster. False = it is not. */
static bool give_map(struct member *member, const struct map *map) {
    if (map->version <= atomic_load(&member->version)) return false;
    if (map->cluster != 0 && map->cluster != member->identity.cluster) {
        log_event(LOG_ERROR, "member_map_refused", "cluster=%016" PRIx64 " own=%016" PRIx64, map->cluster,
                  member->identity.cluster);
        return false;
    }
    log_event(LOG_DEBUG, "member_map", "version=%" PRIu64 " nodes=%" PRIu32 " shards=%" PRIu32, map->version,
              map->node_count, map->shard_count);
    /* Before the callback: whoever asks again from now on means a newer one still. */
    atomic_store(&member->version, map->version);
    member->callbacks.map_cb(member->callbacks.arg, map);
    return true;
}

static void fetch_map(struct member *member) {
    atomic_store(&member->asked, false); /* what is asked from now on wants another fetch */
    atomic_store(&member->told, 0);      /* likewise; so what is told and never comes is fetched once */
    buffer_clear(&member->params, 65536);
    mp_write_array(&member->params, 1);
    mp_write_uint(&member->params, atomic_load(&member->version));
    int rc = call(member, "map");
    struct map *map = NULL;
    if (rc == SK_OK) {
        rc = decode_map_answer(buffer_slice(&member->result), &map);
        if (rc == SK_EPROTO) log_error(LOG_ERROR, "member_map_malformed", rc, "");
        if (rc == SK_NOT_FOUND) rc = SK_OK;
    }
    note_answer(member, rc);
    bool news = map != NULL && give_map(member, map);
    map_unref(map);
    uint64_t now_us = clock_boottime_us();
    member->map_us = now_us + (member->state == LOST ? LOST_AGAIN_MS : MAP_ASK_MS) * 1000u;
    member->fetch_least_us = news ? now_us : now_us + MAP_REPEAT_MS * 1000u;
    buffer_clear(&member->result, 1u << 20);
}

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* Does what is due and answers when the next thing is. */
static uint64_t step(struct member *member) {
    uint64_t now_us = clock_boottime_us();
    switch (member->state) {
    case REFUSED:
        return UINT64_MAX;
    case WAITING:
        if (now_us >= member->register_us) do_register(member);
        return member->state == WAITING ? member->register_us : 0;
    default:
        break;
    }
    if (now_us >= member->heartbeat_us) do_heartbeat(member);
    if (member->state == WAITING || member->state == REFUSED) return 0;
    bool asked = atomic_load(&member->asked) && now_us >= member->fetch_least_us;
    bool told = atomic_load(&member->told) > atomic_load(&member->version);
    if (now_us >= member->map_us || asked || told) fetch_map(member);
    uint64_t next_us = least(member->heartbeat_us, member->map_us);
    return atomic_load(&member->asked) ? least(next_us, member->fetch_least_us) : next_us;
}

static void *run(void *arg) {
    struct member *member = arg;
    while (!atomic_load(&member->closing)) {
        uint64_t next_us = step(member);
        mailbox_take(member->bell, next_us);
    }
    return NULL;
}

static int open_sender(struct member *member) {
    struct change_sender_options options = {
        .metad_addresses = member->options.metad_addresses, .arg = member, .done_cb = changes_done_cb};
    if (member->options.kind != MEMBER_SHARDD) return SK_OK;
    memcpy(options.store_id, member->options.store_id, sizeof options.store_id);
    return change_sender_open(&member->sender, &options);
}

static void free_member(struct member *member) {
    change_sender_close(member->sender);
    unsubscribe(member);
    metad_client_free(member->client);
    mailbox_free(member->bell);
    buffer_deinit(&member->params);
    buffer_deinit(&member->stats);
    buffer_deinit(&member->result);
    free(member);
}

int member_open(struct member **member, const struct member_options *options,
                const struct member_callbacks *callbacks) {
    struct member *made = calloc(1, sizeof *made);
    if (made == NULL) return SK_ENOMEM;
    made->options = *options;
    made->callbacks = *callbacks;
    ssize_t got = getrandom(made->start, sizeof made->start, 0);
    sk_assert(got == (ssize_t)sizeof made->start);
    int rc = mailbox_new(&made->bell, 1);
    if (rc == SK_OK) rc = metad_client_new(&made->client, options->metad_addresses);
    if (rc == SK_OK) rc = open_sender(made);
    if (rc == SK_OK) rc = subscribe(made);
    if (rc == SK_OK && pthread_create(&made->thread, NULL, run, made) != 0) rc = SK_ENOMEM;
    if (rc != SK_OK) {
        atomic_store(&made->closing, true);
        free_member(made);
        return rc == SK_ENOMEM ? SK_ENOMEM : SK_ECONFIG;
    }
    *member = made;
    return SK_OK;
}

/* A call in progress is given time to be answered before it is cut short: nng 1.5.2 deadlocks when a socket is closed in
 * the moment in which a message arrives (its reaper waits for a receive that was never started). */
static void join(struct member *member) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += CLOSE_GRACE_S;
    if (pthread_timedjoin_np(member->thread, NULL, &until) == 0) return;
    metad_client_cancel(member->client);
    int rc = pthread_join(member->thread, NULL);
    sk_assert(rc == 0);
}

void member_stop(struct member *member) {
    if (atomic_exchange(&member->closing, true)) return;
    mailbox_wake(member->bell);
    join(member);
    if (member->sender != NULL) change_sender_stop(member->sender);
}

void member_close(struct member *member) {
    if (member == NULL) return;
    member_stop(member);
    free_member(member);
}
