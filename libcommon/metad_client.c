#include "metad_client.h"

#include "check.h"
#include "clock.h"
#include "cluster_net.h"
#include "error.h"
#include "limits.h"
#include "mp.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define TARGETS_MAX        16u
#define ADDRESS_BYTES      280u /* more than a scheme and a name (metad_names.h) */
#define RECONNECT_MS_LEAST 20
#define RECONNECT_MS_MOST  500
/* What one address of several gets to connect, before the next one is tried; the turn goes on while there is time. */
#define CONNECT_MS_MOST 300u
/* What one address of several gets to answer at first: its server may have been stopped, while another leads by now. Twice as much
 * after each that did not, since it may be metad that is slow; and this again after an answer. */
#define ANSWER_MS_LEAST 300u
#define ANSWER_MS_MOST  10000u
/* Who has not connected for so long dials anew: TCP's own tries come ever more rarely, and after a long cut the next would
 * be seconds after its end. */
#define DIAL_MS 1000u

/* One metad server. Its socket redials by itself, and is closed with the client only: by then the aio is freed. In
 * nng 1.5.2 the thread that expires aios may otherwise still be about to cancel an operation of that socket that has
 * just ended by itself; nng_aio_free alone waits for it. */
struct target {
    char address[ADDRESS_BYTES];
    nng_socket socket; /* opened once the place is used */
    bool open;
    nng_dialer dialer; /* to the address; id 0 = none */
    atomic_int pipe;   /* the latest connection's id; 0 = none yet */
    uint64_t alone_ms; /* since then nothing could be sent, or it has been dialled since; 0 = something could */
};

struct metad_client {
    struct target targets[TARGETS_MAX];
    size_t given;   /* targets named at the start; the others were named by NOT_LEADER answers */
    size_t count;   /* of targets */
    size_t current; /* where the next call goes first */
    uint32_t answer_ms;
    uint32_t msgid;
    struct buffer request;
    nng_aio *aio;
    atomic_bool cancelled;
};

static int error_from_nng(int rv) {
    switch (rv) {
    case 0:
        return SK_OK;
    case NNG_ENOMEM:
        return SK_ENOMEM;
    case NNG_ETIMEDOUT:
        return SK_ETIMEDOUT;
    case NNG_ECANCELED:
    case NNG_ECLOSED:
        return SK_ECLOSED;
    case NNG_EADDRINVAL:
    case NNG_EINVAL:
    case NNG_ENOTSUP:
        return SK_ECONFIG;
    default:
        return SK_ENET;
    }
}

static int set_socket_options(nng_socket socket) {
    /* No resending of its own: R10. */
    int rv = nng_socket_set_ms(socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE);
    if (rv == 0) rv = nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, MESSAGE_BYTES_MAX);
    if (rv == 0) rv = nng_socket_set_ms(socket, NNG_OPT_RECONNMINT, RECONNECT_MS_LEAST);
    if (rv == 0) rv = nng_socket_set_ms(socket, NNG_OPT_RECONNMAXT, RECONNECT_MS_MOST);
    return rv;
}

static void connected_cb(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    struct target *target = arg;
    (void)event;
    atomic_store(&target->pipe, nng_pipe_id(pipe));
}

static int open_socket(struct target *target) {
    int rv = nng_req0_open(&target->socket);
    if (rv != 0) return rv;
    rv = set_socket_options(target->socket);
    if (rv == 0) rv = nng_pipe_notify(target->socket, NNG_PIPE_EV_ADD_PRE, connected_cb, target);
    if (rv != 0) nng_close(target->socket);
    target->open = rv == 0;
    return rv;
}

/* Connects to the address, no longer to the one before. */
static int open_target(struct target *target) {
    int rv = target->open ? 0 : open_socket(target);
    if (nng_dialer_id(target->dialer) > 0) nng_dialer_close(target->dialer);
    target->dialer = (nng_dialer)NNG_DIALER_INITIALIZER;
    if (rv == 0) rv = cluster_net_dialer(&target->dialer, target->socket, target->address);
    if (rv == 0) rv = nng_dialer_start(target->dialer, NNG_FLAG_NONBLOCK);
    return error_from_nng(rv);
}

/* The socket makes a new connection by itself. */
static void close_connection(struct target *target) {
    nng_pipe pipe = {.id = (uint32_t)atomic_load(&target->pipe)};
    (void)nng_pipe_close(pipe);
}

static int set_address(struct target *target, struct slice address) {
    if (address.size == 0 || address.size >= ADDRESS_BYTES) return SK_ECONFIG;
    memcpy(target->address, address.data, address.size);
    target->address[address.size] = '\0';
    return SK_OK;
}

/* Appends a target and starts to connect. */
static int add_target(struct metad_client *client, struct slice address) {
    if (client->count == TARGETS_MAX) return SK_ECONFIG;
    struct target *target = &client->targets[client->count];
    int rc = set_address(target, address);
    if (rc == SK_OK) rc = open_target(target);
    if (rc == SK_OK) client->count++;
    return rc;
}

static int add_targets(struct metad_client *client, const char *addresses) {
    struct slice rest = slice_of_text(addresses), address;
    for (bool more = true; more;) {
        more = slice_cut(&rest, ',', &address);
        int rc = add_target(client, address);
        if (rc != SK_OK) return rc;
    }
    return SK_OK;
}

int metad_client_new(struct metad_client **client, const char *addresses) {
    struct metad_client *made = calloc(1, sizeof *made);
    if (made == NULL) return SK_ENOMEM;
    made->answer_ms = ANSWER_MS_LEAST;
    buffer_init(&made->request);
    int rc = error_from_nng(nng_aio_alloc(&made->aio, NULL, NULL));
    if (rc == SK_OK) rc = add_targets(made, addresses);
    if (rc != SK_OK) {
        metad_client_free(made);
        return rc;
    }
    made->given = made->count;
    *client = made;
    return SK_OK;
}

void metad_client_free(struct metad_client *client) {
    if (client == NULL) return;
    if (client->aio != NULL) nng_aio_free(client->aio);
    for (size_t i = 0; i < TARGETS_MAX; i++) {
        if (client->targets[i].open) nng_close(client->targets[i].socket);
    }
    buffer_deinit(&client->request);
    free(client);
}

void metad_client_cancel(struct metad_client *client) {
    atomic_store(&client->cancelled, true);
    nng_aio_cancel(client->aio);
}

/* Waits for what was just started on the aio. Whoever cancels sets the flag first and aborts then: either the
 * abort meets the operation, or the flag is seen here. */
static int wait_aio(struct metad_client *client) {
    if (atomic_load(&client->cancelled)) nng_aio_cancel(client->aio);
    nng_aio_wait(client->aio);
    return nng_aio_result(client->aio);
}

/* SK_OK: it went to a connection. Otherwise it surely did not. */
static int send_request(struct metad_client *client, struct target *target, uint32_t wait_ms) {
    nng_msg *msg;
    if (nng_msg_alloc(&msg, client->request.size) != 0) return SK_ENOMEM;
    memcpy(nng_msg_body(msg), client->request.data, client->request.size);
    nng_aio_set_msg(client->aio, msg);
    nng_aio_set_timeout(client->aio, (nng_duration)wait_ms);
    nng_send_aio(target->socket, client->aio);
    int rv = wait_aio(client);
    if (rv != 0) nng_msg_free(nng_aio_get_msg(client->aio)); /* a failed send leaves it ours */
    nng_aio_set_msg(client->aio, NULL);
    return error_from_nng(rv);
}

static int receive_reply(struct metad_client *client, struct target *target, uint32_t wait_ms, nng_msg **msg) {
    nng_aio_set_timeout(client->aio, (nng_duration)wait_ms);
    nng_recv_aio(target->socket, client->aio);
    int rv = wait_aio(client);
    if (rv == 0) {
        *msg = nng_aio_get_msg(client->aio);
        nng_aio_set_msg(client->aio, NULL);
        return SK_OK;
    }
    int rc = error_from_nng(rv);
    if (rc == SK_ECLOSED) return atomic_load(&client->cancelled) ? SK_ECLOSED : SK_ENET;
    /* A connection that stays silent may be dead without anyone noticing: start afresh. */
    if (rc == SK_ETIMEDOUT) close_connection(target);
    return rc;
}

static void set_error_text(char *text, size_t text_bytes, struct slice from) {
    if (text_bytes == 0) return;
    size_t size = from.size < text_bytes ? from.size : text_bytes - 1;
    if (size > 0) memcpy(text, from.data, size);
    text[size] = '\0';
}

/* Our own words, for an error that metad did not answer. */
static int fail(int rc, const char *what, const struct target *target, char *text, size_t text_bytes) {
    if (text_bytes > 0) snprintf(text, text_bytes, "%s %s: %s", what, target->address, error_text(rc));
    return rc;
}

/* The `error` of a reply: SK_OK for nil, else its code. SK_EPROTO: neither. */
static int read_error(struct mp_reader *reader, struct slice *text) {
    struct mp_value value;
    int rc = mp_read(reader, &value);
    if (rc != SK_OK) return rc;
    *text = slice_of(NULL, 0);
    if (value.type == MP_NIL) return SK_OK;
    struct slice name;
    if (value.type != MP_ARRAY || value.count != 2) return SK_EPROTO;
    if (mp_read_str(reader, &name) != SK_OK || mp_read_str(reader, text) != SK_OK) return SK_EPROTO;
    return error_from_name((const char *)name.data, name.size);
}

/* `error_text` and `result` point into the reply. SK_EPROTO: not the reply to this request. */
static int read_reply(struct slice reply, uint32_t msgid, struct slice *error_text, struct slice *result) {
    struct mp_reader reader = mp_reader_of(reply);
    uint32_t parts;
    uint64_t kind, number;
    *error_text = slice_of(NULL, 0);
    if (mp_read_array(&reader, &parts) != SK_OK || parts != 4) return SK_EPROTO;
    if (mp_read_uint(&reader, &kind) != SK_OK || kind != 1) return SK_EPROTO;
    if (mp_read_uint(&reader, &number) != SK_OK || number != msgid) return SK_EPROTO;
    int rc = read_error(&reader, error_text);
    if (rc == SK_EPROTO || mp_skip(&reader, result) != SK_OK || mp_left(&reader) != 0) return SK_EPROTO;
    return rc;
}

/* What the end of a send, begun then, says of the connection. */
static void note_send(struct target *target, int rc, uint64_t begin_ms) {
    uint64_t now_ms = clock_boottime_ms();
    if (rc != SK_ETIMEDOUT) {
        target->alone_ms = 0;
        return;
    }
    if (target->alone_ms == 0) target->alone_ms = begin_ms;
    if (now_ms - target->alone_ms < DIAL_MS) return;
    target->alone_ms = now_ms;
    (void)open_target(target); /* if it fails, the next send will time out too */
}

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* By when the current target has to answer, with `deadline_ms` for the whole call. */
static uint64_t answer_deadline(const struct metad_client *client, uint64_t deadline_ms) {
    uint64_t most_ms = clock_boottime_ms() + client->answer_ms;
    return client->count == 1 || deadline_ms < most_ms ? deadline_ms : most_ms;
}

/* One request to one server, connection included. `sent` tells whether it may have arrived. */
static int call_target(struct metad_client *client, struct target *target, uint32_t connect_ms,
                       uint64_t deadline_ms, struct buffer *result, char *text, size_t text_bytes, bool *sent) {
    *sent = false;
    uint64_t begin_ms = clock_boottime_ms();
    int rc = send_request(client, target, connect_ms);
    note_send(target, rc, begin_ms);
    if (rc != SK_OK) return fail(rc, "no connection to metad", target, text, text_bytes);
    *sent = true;
    uint64_t now_ms = clock_boottime_ms();
    uint64_t until_ms = answer_deadline(client, deadline_ms);
    nng_msg *msg = NULL;
    rc = receive_reply(client, target, now_ms < until_ms ? (uint32_t)(until_ms - now_ms) : 0, &msg);
    client->answer_ms = rc != SK_ETIMEDOUT ? ANSWER_MS_LEAST : least(2 * client->answer_ms, ANSWER_MS_MOST);
    if (rc != SK_OK) return fail(rc, "no answer from metad", target, text, text_bytes);
    struct slice answer_text, answer;
    rc = read_reply(slice_of(nng_msg_body(msg), nng_msg_len(msg)), client->msgid, &answer_text, &answer);
    set_error_text(text, text_bytes, answer_text);
    if (rc == SK_EPROTO && answer_text.size == 0) fail(rc, "bad answer from metad", target, text, text_bytes);
    if (rc == SK_OK && result != NULL) {
        buffer_append(result, answer.data, answer.size);
        if (result->failed) rc = SK_ENOMEM;
    }
    nng_msg_free(msg);
    return rc;
}

/* The first URL in a text, empty = none. */
static struct slice find_url(const char *text) {
    const char *colon = strstr(text, "://");
    if (colon == NULL) return slice_of(NULL, 0);
    const char *start = colon;
    while (start > text && strchr(" \t,;'\"([=", start[-1]) == NULL) start--;
    size_t size = (size_t)(colon - start) + strcspn(colon, " \t,;'\")]");
    return slice_of(start, size);
}

/* Makes the server that a NOT_LEADER answer names the current one. A leader that was not among the given addresses
 * gets a place of its own; when they run out, the last one. False = it names none. */
static bool follow_leader(struct metad_client *client, const char *text) {
    struct slice url = find_url(text);
    if (url.size == 0) return false;
    for (size_t i = 0; i < client->count; i++) {
        if (!slice_equal(url, slice_of_text(client->targets[i].address))) continue;
        if (i == client->current) return false; /* names itself: it does not know either */
        client->current = i;
        return true;
    }
    if (client->count == TARGETS_MAX) {
        if (client->given == TARGETS_MAX) return false;
        client->count--;
    }
    size_t place = client->count;
    if (add_target(client, url) != SK_OK) {
        if (client->current >= client->count) client->current = 0;
        return false;
    }
    client->current = place;
    return true;
}

/* A server named by an answer is tried when it is named; the turn goes over the given ones. */
static void next_target(struct metad_client *client) { client->current = (client->current + 1) % client->given; }

static void encode_request(struct metad_client *client, const char *method, struct slice params) {
    buffer_clear(&client->request, 65536);
    mp_write_array(&client->request, 4);
    mp_write_uint(&client->request, 0);
    mp_write_uint(&client->request, ++client->msgid);
    mp_write_text(&client->request, method);
    mp_write_raw(&client->request, params);
}

/* How long the current target may take to connect, with `left_ms` for the whole call. */
static uint32_t connect_share(const struct metad_client *client, uint32_t left_ms) {
    if (client->count == 1) return left_ms;
    return left_ms < CONNECT_MS_MOST ? left_ms : CONNECT_MS_MOST;
}

int metad_client_call(struct metad_client *client, const char *method, struct slice params, uint32_t timeout_ms,
                      struct buffer *result, char *text, size_t text_bytes) {
    char reason[ADDRESS_BYTES * 2] = "";
    uint64_t deadline_ms = clock_boottime_ms() + timeout_ms;
    size_t refusals = 0; /* answers and failures that came at once: an election must not make us spin */
    int rc;
    encode_request(client, method, params);
    if (client->request.failed) return SK_ENOMEM;
    for (;;) {
        if (result != NULL) buffer_clear(result, SIZE_MAX);
        uint64_t now_ms = clock_boottime_ms();
        uint32_t left_ms = now_ms < deadline_ms ? (uint32_t)(deadline_ms - now_ms) : 0;
        bool sent;
        rc = call_target(client, &client->targets[client->current], connect_share(client, left_ms), deadline_ms,
                         result, reason, sizeof reason, &sent);
        if (atomic_load(&client->cancelled)) {
            rc = SK_ECLOSED;
            break;
        }
        /* Who hears of no leader may be cut off from the others, and not from us. */
        bool may_know = rc == SK_RETRY && client->count > 1;
        if (rc == SK_NOT_LEADER || may_know) {
            if (may_know || !follow_leader(client, reason)) next_target(client);
            if (++refusals > client->given + 1) break;
        } else if (!sent) {
            next_target(client);
            if (rc != SK_ETIMEDOUT && ++refusals > client->given + 1) break;
        } else {
            if (rc == SK_ETIMEDOUT || rc == SK_ENET) next_target(client); /* for the next call */
            break;
        }
        if (clock_boottime_ms() >= deadline_ms) break;
    }
    set_error_text(text, text_bytes, slice_of_text(rc == SK_OK ? "" : reason));
    return rc;
}
