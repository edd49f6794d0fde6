#include "gateway/door_nng.h"

#include "gateway/load.h"
#include "gateway/post.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "libcommon/tls.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define ADDRESS_BYTES 256u
#define BUCKETS       1024u /* of connections by pipe id */
#define REFUSING_PART 16u   /* one context more for each of so many: what tells others that all are in use */
#define LOG_EACH_MS   1000u

/* A client's connection. The loop adds to the counters, nng's threads take away when a reply has gone. The last of
 * the table's reference and those of its requests frees it. */
struct connection {
    struct connection *next; /* in its bucket; the loop */
    int pipe;
    atomic_uint references;
    atomic_uint requests;
    atomic_ullong bytes;
};

/* A connection that is being closed, since there was no place for it. */
struct refused {
    struct refused *next;
    int pipe;
};

/* One message of a client, from its arrival to its reply. */
struct door_request {
    struct post post;
    struct client client;
    struct door_nng *door;
    nng_ctx context;
    nng_aio *receive_aio, *send_aio;
    nng_pipe pipe;
    nng_msg *message;              /* owned, from arrival to reply */
    struct connection *connection; /* a reference, from arrival to the end of the send */
    uint64_t bytes;                /* counted for it */
    bool admitted;
};

struct door_nng {
    struct door_nng_options options;
    nng_socket socket;
    atomic_bool closed;
    char address[ADDRESS_BYTES];
    struct connection *buckets[BUCKETS]; /* the loop */
    pthread_mutex_t pipes_lock;          /* guards the next two */
    struct refused *refusals;            /* owned: not gone yet */
    uint64_t refused_told_ms;            /* when the log last said that connections are refused; 0: never */
    atomic_uint connections;             /* changed under the lock, as the next */
    atomic_ullong refused;
    atomic_uint in_flight; /* from arrival until the reply has gone */
    atomic_uint admitted;  /* of these, those that were not refused */
    uint32_t request_count;
    struct door_request *requests; /* owned array */
};

/* --- connections --------------------------------------------------------------------------------------------- */

static void connection_unref(struct connection *connection) {
    if (atomic_fetch_sub(&connection->references, 1) == 1) free(connection);
}

static struct connection **bucket_of(struct door_nng *door, int pipe) {
    return &door->buckets[(unsigned)pipe % BUCKETS];
}

/* The connection of a pipe with a reference for the caller; NULL when out of memory. Others of its bucket with nothing in
 * flight are forgotten on the way: all that they could tell is zero, and so nobody needs to tell that a pipe has gone. */
static struct connection *connection_get(struct door_nng *door, int pipe) {
    struct connection *found = NULL;
    struct connection **at = bucket_of(door, pipe);
    while (*at != NULL) {
        struct connection *connection = *at;
        if (connection->pipe == pipe) {
            found = connection;
        } else if (atomic_load(&connection->references) == 1) {
            *at = connection->next;
            connection_unref(connection);
            continue;
        }
        at = &connection->next;
    }
    if (found == NULL) {
        found = calloc(1, sizeof *found);
        if (found == NULL) return NULL;
        found->pipe = pipe;
        atomic_init(&found->references, 1);
        *at = found;
    }
    atomic_fetch_add(&found->references, 1);
    return found;
}

/* Whether a new connection has a place. One that has none is closed and takes none meanwhile, or many who try again and again
 * would keep a place that has become free from everybody; only without memory it does. The lock is held. */
static bool take_place(struct door_nng *door, int pipe) {
    bool room = load_has_place(door->options.load);
    struct refused *refused = room ? NULL : malloc(sizeof *refused);
    if (!room) atomic_fetch_add(&door->refused, 1);
    if (refused == NULL) {
        atomic_fetch_add(&door->connections, 1);
        load_take_place(door->options.load);
    } else {
        *refused = (struct refused){.next = door->refusals, .pipe = pipe};
        door->refusals = refused;
    }
    return room;
}

static void give_place_back(struct door_nng *door, int pipe) {
    struct refused **at = &door->refusals;
    while (*at != NULL && (*at)->pipe != pipe) at = &(*at)->next;
    struct refused *refused = *at;
    if (refused == NULL) {
        atomic_fetch_sub(&door->connections, 1);
        load_give_place_back(door->options.load);
    } else {
        *at = refused->next;
        free(refused);
    }
}

/* Once a second is enough to know. The lock is held. */
static bool tell_refusal(struct door_nng *door) {
    uint64_t now_ms = clock_boottime_ms();
    if (door->refused_told_ms != 0 && now_ms < door->refused_told_ms + LOG_EACH_MS) return false;
    door->refused_told_ms = now_ms;
    return true;
}

/* nng calls it with ADD_PRE for every connection, also for one that then does not speak REQ, and with REM_POST when it is gone. */
static void pipe_cb(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    struct door_nng *door = arg;
    int id = nng_pipe_id(pipe);
    bool refuse = false, tell = false;
    char name[PEER_NAME_BYTES];
    pthread_mutex_lock(&door->pipes_lock);
    if (event == NNG_PIPE_EV_ADD_PRE) {
        refuse = !take_place(door, id);
        tell = refuse && tell_refusal(door);
    } else {
        give_place_back(door, id);
    }
    pthread_mutex_unlock(&door->pipes_lock);
    if (tell) {
        log_event(LOG_WARNING, "connections_refused", "from=%s most=%u count=%llu", peer_name_of_pipe(pipe, name),
                  door->options.load->connections_max, (unsigned long long)door_nng_connections_refused(door));
    }
    if (refuse) (void)nng_pipe_close(pipe);
}

/* --- counting ------------------------------------------------------------------------------------------------ */

static void count(struct door_request *request, uint64_t bytes) {
    request->bytes += bytes;
    atomic_fetch_add(&request->connection->bytes, bytes);
    load_add(request->door->options.load, bytes);
}

static void uncount(struct door_request *request) {
    struct connection *connection = request->connection;
    if (connection == NULL) return;
    atomic_fetch_sub(&connection->bytes, request->bytes);
    load_sub(request->door->options.load, request->bytes);
    atomic_fetch_sub(&connection->requests, 1);
    if (request->admitted) atomic_fetch_sub(&request->door->admitted, 1);
    request->admitted = false;
    request->bytes = 0;
    request->connection = NULL;
    connection_unref(connection);
}

static bool has_room(const struct door_request *request, uint64_t bytes) {
    const struct door_nng_options *options = &request->door->options;
    return atomic_load(&request->connection->bytes) + bytes <= options->connection_bytes_max &&
           load_has_room(options->load, bytes);
}

static bool charge(struct client *client, uint64_t bytes) {
    struct door_request *request = list_entry(client, struct door_request, client);
    if (request->connection == NULL || !has_room(request, bytes)) return false;
    count(request, bytes);
    return true;
}

/* Counts a message that came: SK_OK, or SK_OVERLOADED when it exceeds a cap (its bytes are counted all the same). */
static int admit(struct door_request *request) {
    struct door_nng *door = request->door;
    request->connection = connection_get(door, nng_pipe_id(request->pipe));
    if (request->connection == NULL) return SK_OVERLOADED;
    uint64_t bytes = nng_msg_len(request->message);
    bool room = has_room(request, bytes) && atomic_load(&door->admitted) < door->options.requests_max;
    uint32_t requests = atomic_fetch_add(&request->connection->requests, 1) + 1;
    count(request, bytes);
    if (!room || requests > door->options.connection_requests_max) return SK_OVERLOADED;
    atomic_fetch_add(&door->admitted, 1);
    request->admitted = true;
    return SK_OK;
}

/* --- a request's way ----------------------------------------------------------------------------------------- */

static void on_request(struct post *post) {
    struct door_request *request = list_entry(post, struct door_request, post);
    struct door_nng *door = request->door;
    if (atomic_load(&door->closed)) return;
    request->pipe = nng_msg_get_pipe(request->message);
    int err = admit(request);
    struct slice bytes = slice_of(nng_msg_body(request->message), nng_msg_len(request->message));
    door->options.request_cb(door->options.arg, &request->client, bytes, err);
}

static void receive_cb(void *arg) {
    struct door_request *request = arg;
    int rv = nng_aio_result(request->receive_aio);
    if (rv == NNG_ECLOSED || rv == NNG_ECANCELED) return;
    if (rv != 0) { /* one message that could not be taken, such as for want of memory */
        nng_ctx_recv(request->context, request->receive_aio);
        return;
    }
    request->message = nng_aio_get_msg(request->receive_aio);
    atomic_fetch_add(&request->door->in_flight, 1);
    post_to(request->door->options.mailbox, &request->post);
}

static void send_cb(void *arg) {
    struct door_request *request = arg;
    int rv = nng_aio_result(request->send_aio);
    if (rv != 0) {
        nng_msg_free(nng_aio_get_msg(request->send_aio));
        nng_aio_set_msg(request->send_aio, NULL);
    }
    if (rv == NNG_ETIMEDOUT) (void)nng_pipe_close(request->pipe);
    uncount(request);
    atomic_fetch_sub(&request->door->in_flight, 1);
    if (rv == NNG_ECLOSED && atomic_load(&request->door->closed)) return;
    nng_ctx_recv(request->context, request->receive_aio);
}

/* nng forgets a pipe when it is closed, and then knows no listener of it. */
static bool gone(const struct client *client) {
    const struct door_request *request = list_entry(client, struct door_request, client);
    return nng_listener_id(nng_pipe_listener(request->pipe)) < 0;
}

static void name(const struct client *client, char room[PEER_NAME_BYTES]) {
    const struct door_request *request = list_entry(client, struct door_request, client);
    (void)peer_name_of_pipe(request->pipe, room);
}

static void reply_to(struct client *client, struct slice reply) {
    struct door_request *request = list_entry(client, struct door_request, client);
    nng_msg *message;
    uint64_t asked_bytes = nng_msg_len(request->message);
    nng_msg_free(request->message);
    request->message = NULL;
    if (nng_msg_alloc(&message, reply.size) != 0) {
        /* no memory to say anything: the client sees its connection break */
        log_event(LOG_ERROR, "reply_dropped", "bytes=%zu", reply.size);
        (void)nng_pipe_close(request->pipe);
        uncount(request);
        atomic_fetch_sub(&request->door->in_flight, 1);
        nng_ctx_recv(request->context, request->receive_aio);
        return;
    }
    memcpy(nng_msg_body(message), reply.data, reply.size);
    if (request->connection != NULL && reply.size > asked_bytes) count(request, reply.size - asked_bytes);
    nng_aio_set_msg(request->send_aio, message);
    nng_ctx_send(request->context, request->send_aio);
}

static const struct client_ops nng_client = {
    .door = DOOR_NNG, .charge = charge, .gone = gone, .name = name, .reply = reply_to};

/* --- open and close ------------------------------------------------------------------------------------------ */

static int open_requests(struct door_nng *door) {
    uint32_t contexts = door->options.requests_max + door->options.requests_max / REFUSING_PART + 1;
    door->requests = calloc(contexts, sizeof *door->requests);
    if (door->requests == NULL) return NNG_ENOMEM;
    for (uint32_t i = 0; i < contexts; i++) {
        struct door_request *request = &door->requests[i];
        request->door = door;
        request->post.handle = on_request;
        request->client.ops = &nng_client;
        int rv = nng_ctx_open(&request->context, door->socket);
        if (rv == 0) rv = nng_aio_alloc(&request->receive_aio, receive_cb, request);
        if (rv == 0) rv = nng_aio_alloc(&request->send_aio, send_cb, request);
        door->request_count = i + 1;
        if (rv != 0) return rv;
        nng_aio_set_timeout(request->send_aio, DOOR_SEND_MS_MAX);
    }
    return 0;
}

/* The kernel asks a peer that has long been silent whether it is there: one whose host has gone, or that a firewall has forgotten,
 * would keep its place for ever. Transports other than TCP have no such peers, and refuse the option. */
static int keep_alive(nng_listener listener) {
    int rv = nng_listener_set_bool(listener, NNG_OPT_TCP_KEEPALIVE, true);
    return rv == NNG_ENOTSUP ? 0 : rv;
}

static int listen_at(struct door_nng *door) {
    nng_listener listener;
    char *url;
    const char *address = door->options.address;
    int rv = tls_is_url(address) ? tls_listener(&listener, door->socket, address, door->options.tls)
                                 : nng_listener_create(&listener, door->socket, address);
    if (rv == 0) rv = keep_alive(listener);
    if (rv == 0) rv = nng_listener_start(listener, 0);
    if (rv == 0) rv = nng_listener_get_string(listener, NNG_OPT_URL, &url);
    if (rv != 0) return rv;
    (void)snprintf(door->address, sizeof door->address, "%s", url);
    nng_strfree(url);
    return 0;
}

int door_nng_open(struct door_nng **out, const struct door_nng_options *options, char *text, size_t text_bytes) {
    struct door_nng *door = calloc(1, sizeof *door);
    if (door == NULL) return SK_ENOMEM;
    door->options = *options;
    int rv = nng_rep0_open(&door->socket);
    if (rv != 0) {
        free(door);
        return SK_ENOMEM;
    }
    pthread_mutex_init(&door->pipes_lock, NULL);
    rv = nng_socket_set_size(door->socket, NNG_OPT_RECVMAXSZ, options->message_bytes_max);
    if (rv == 0) rv = nng_pipe_notify(door->socket, NNG_PIPE_EV_ADD_PRE, pipe_cb, door);
    if (rv == 0) rv = nng_pipe_notify(door->socket, NNG_PIPE_EV_REM_POST, pipe_cb, door);
    if (rv == 0) rv = open_requests(door);
    if (rv == 0) rv = listen_at(door);
    if (rv != 0) {
        (void)snprintf(text, text_bytes, "cannot listen at %s: %s", options->address, nng_strerror(rv));
        door_nng_close(door);
        door_nng_free(door);
        return rv == NNG_ENOMEM ? SK_ENOMEM : SK_ECONFIG;
    }
    for (uint32_t i = 0; i < door->request_count; i++) {
        nng_ctx_recv(door->requests[i].context, door->requests[i].receive_aio);
    }
    *out = door;
    return SK_OK;
}

const char *door_nng_address(const struct door_nng *door) { return door->address; }

uint32_t door_nng_connections(const struct door_nng *door) { return atomic_load(&door->connections); }

uint64_t door_nng_connections_refused(const struct door_nng *door) { return atomic_load(&door->refused); }

uint32_t door_nng_in_flight(const struct door_nng *door) { return atomic_load(&door->in_flight); }

void door_nng_close(struct door_nng *door) {
    if (door == NULL || atomic_exchange(&door->closed, true)) return;
    for (uint32_t i = 0; i < door->request_count; i++) { /* before the socket: shardd/frontend.c says why */
        struct door_request *request = &door->requests[i];
        if (request->receive_aio != NULL) nng_aio_stop(request->receive_aio);
        if (request->send_aio != NULL) nng_aio_stop(request->send_aio);
    }
    (void)nng_close(door->socket);
}

void door_nng_free(struct door_nng *door) {
    if (door == NULL) return;
    for (uint32_t i = 0; i < door->request_count; i++) {
        struct door_request *request = &door->requests[i];
        if (request->receive_aio != NULL) nng_aio_free(request->receive_aio);
        if (request->send_aio != NULL) nng_aio_free(request->send_aio);
        if (request->message != NULL) nng_msg_free(request->message);
        uncount(request);
    }
    for (uint32_t i = 0; i < BUCKETS; i++) {
        while (door->buckets[i] != NULL) {
            struct connection *connection = door->buckets[i];
            door->buckets[i] = connection->next;
            connection_unref(connection);
        }
    }
    pthread_mutex_destroy(&door->pipes_lock);
    free(door->requests);
    free(door);
}
