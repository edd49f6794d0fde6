/* Who may touch what: everything of a connection belongs to the door's thread, but from the post of its message to the
 * reply, when `message` and `reply` are the loop thread's. The counters are atomic. A connection is freed by the door's
 * thread, when its socket is closed and no message of it is with the loop. */
#include "gateway/door_resp.h"

#include "gateway/load.h"
#include "gateway/post.h"
#include "gateway/resp_session.h"
#include "gateway/tally.h"
#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/log.h"
#include "libcommon/tls.h"
#include "libcommon/tls_channel.h"

#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#define ADDRESS_BYTES     256u
#define BACKLOG           1024
#define KEEPALIVE_S       60u
#define READ_BYTES        65536u
#define GATHER_BYTES      (256u * 1024)  /* read ahead while a message is under way */
#define OUTPUT_BYTES      (1024u * 1024) /* of replies not taken, beyond which nothing more is begun */
#define KEPT_BYTES        4096u          /* of buffers while they are not needed */
#define COMMAND_BYTES_MAX (MESSAGE_BYTES_MAX - 65536u) /* what it becomes fits a message */
#define TICK_MS           100u
#define WALK_TICKS        10u    /* so many ticks pass between looks at all connections */
#define HANDSHAKE_MS_MAX  10000u /* of TLS */
#define STRANGER_MS_MAX   60000u /* until a token has been shown, where one is asked for */
#define STALL_MS_MAX      10000u /* without taking anything of its replies */
#define LOG_EACH_MS       1000u
#define OVERLOADED_MS_MAX 5000u /* with a part of a command, while there is no room for the rest */

struct connection {
    struct door_resp *door;
    uv_tcp_t tcp;
    uv_write_t write;
    struct link link;         /* among all */
    struct link waiting_link; /* among those whose message waits for others' */
    struct resp_session session;
    struct resp_reader reader;
    struct resp_batch batch;
    struct tls_channel *tls; /* owned; NULL: plain */
    char peer[PEER_NAME_BYTES], local[PEER_NAME_BYTES];
    uint64_t came_ms, active_ms;
    uint64_t stranger_ms; /* since when no token has been shown that is asked for */

    struct buffer input;   /* not taken yet */
    struct buffer output;  /* replies not given to the socket yet */
    struct buffer cipher;  /* of TLS: what is to follow `writing` */
    struct buffer writing; /* what the socket has */
    bool is_writing, is_reading;
    bool under_way;     /* a message is with the loop, or waits to be */
    bool is_unfinished; /* the batch is to be sent again */
    bool ended;         /* the client sends nothing more */
    bool closing, closed;
    bool is_counted;        /* among those in flight */
    uint64_t overloaded_ms; /* since when it is not read from for want of room; 0: it is not */
    size_t stalled_bytes;   /* of what is written, at the last look, */
    uint64_t stalled_ms;    /* and since when */

    /* of the message under way */
    struct client client;
    struct post post;
    struct slice message;
    struct buffer reply;
    struct connection *next_replied; /* under the door's lock */

    atomic_ullong held_bytes;    /* counted of its buffers */
    atomic_ullong charged_bytes; /* counted by the loop for the message */
    atomic_bool gone;
};

struct door_resp {
    struct door_resp_options options;
    char address[ADDRESS_BYTES];
    pthread_t thread;
    atomic_bool closed;
    atomic_uint connections;
    atomic_uint in_flight;
    uv_async_t async;

    pthread_mutex_t lock; /* guards the list */
    struct connection *replied;

    /* the door's thread */
    uv_loop_t loop;
    uv_tcp_t listener;
    uv_timer_t timer;
    struct resp_host host;
    struct tls_server *tls; /* owned */
    struct list all;
    struct list waiting;
    uint32_t under_way; /* messages with the loop */
    uint64_t last_id;
    uint64_t ticks;
    uint64_t now_ms;          /* CLOCK_BOOTTIME, when the loop came round last */
    uint64_t refusal_told_ms; /* of the last line in the log about a connection that was refused; 0: none */
    bool somebody_overloaded;
    bool unaccepted; /* a connection waits for memory to be accepted with */
    bool ending;
    size_t command_bytes_max;
    struct resp_command *command; /* owned: the one at hand */
    uint8_t received[READ_BYTES];
};

static void advance(struct connection *connection);

/* --- ends ---------------------------------------------------------------------------------------------------- */

static void connection_free(struct connection *connection) {
    struct load *load = connection->door->options.load;
    load_sub(load, atomic_load(&connection->held_bytes) + atomic_load(&connection->charged_bytes));
    list_remove(&connection->link);
    list_remove(&connection->waiting_link);
    resp_session_deinit(&connection->session);
    resp_reader_deinit(&connection->reader);
    resp_batch_deinit(&connection->batch);
    tls_channel_free(connection->tls);
    buffer_deinit(&connection->input);
    buffer_deinit(&connection->output);
    buffer_deinit(&connection->cipher);
    buffer_deinit(&connection->writing);
    buffer_deinit(&connection->reply);
    free(connection);
}

static bool is_with_loop(const struct connection *connection) {
    return connection->under_way && !link_in_list(&connection->waiting_link);
}

/* Of replies, not written yet. */
static size_t pending_bytes(const struct connection *connection) {
    return connection->output.size + connection->cipher.size +
           (connection->is_writing ? connection->writing.size : 0);
}

/* In flight is a connection with a message under way, or with replies that are not written. */
static void count_in_flight(struct connection *connection) {
    bool owed = !connection->closing && (connection->is_unfinished || pending_bytes(connection) > 0);
    bool counted = connection->under_way || owed;
    if (counted == connection->is_counted) return;
    connection->is_counted = counted;
    if (counted) atomic_fetch_add(&connection->door->in_flight, 1);
    else atomic_fetch_sub(&connection->door->in_flight, 1);
}

static void closed_cb(uv_handle_t *handle) {
    struct connection *connection = handle->data;
    connection->closed = true;
    if (!is_with_loop(connection)) connection_free(connection);
}

/* At once, with all that it has. */
static void connection_close(struct connection *connection) {
    if (connection->closing) return;
    connection->closing = true;
    atomic_store(&connection->gone, true);
    atomic_fetch_sub(&connection->door->connections, 1);
    load_give_place_back(connection->door->options.load);
    if (link_in_list(&connection->waiting_link)) {
        list_remove(&connection->waiting_link);
        connection->under_way = false;
    }
    count_in_flight(connection);
    uv_close((uv_handle_t *)&connection->tcp, closed_cb);
}

/* --- room ---------------------------------------------------------------------------------------------------- */

static void recount(struct connection *connection) {
    struct load *load = connection->door->options.load;
    uint64_t before = atomic_load(&connection->held_bytes);
    uint64_t now = connection->input.capacity + connection->output.capacity + connection->cipher.capacity +
                   connection->writing.capacity + resp_batch_bytes(&connection->batch) +
                   resp_session_bytes(&connection->session);
    atomic_store(&connection->held_bytes, now);
    if (now > before) load_add(load, now - before);
    else load_sub(load, before - now);
}

/* --- client: the loop thread --------------------------------------------------------------------------------- */

static bool charge(struct client *client, uint64_t bytes) {
    struct connection *connection = list_entry(client, struct connection, client);
    const struct door_resp_options *options = &connection->door->options;
    uint64_t own = atomic_load(&connection->held_bytes) + atomic_load(&connection->charged_bytes);
    if (own + bytes > options->connection_bytes_max || !load_has_room(options->load, bytes)) return false;
    atomic_fetch_add(&connection->charged_bytes, bytes);
    load_add(options->load, bytes);
    return true;
}

static void name(const struct client *client, char room[PEER_NAME_BYTES]) {
    const struct connection *connection = list_entry(client, struct connection, client);
    (void)snprintf(room, PEER_NAME_BYTES, "%s", connection->peer);
}

static bool gone(const struct client *client) {
    const struct connection *connection = list_entry(client, struct connection, client);
    return atomic_load((atomic_bool *)(uintptr_t)&connection->gone);
}

static void reply_to(struct client *client, struct slice reply) {
    struct connection *connection = list_entry(client, struct connection, client);
    struct door_resp *door = connection->door;
    buffer_append(&connection->reply, reply.data, reply.size);
    pthread_mutex_lock(&door->lock);
    connection->next_replied = door->replied;
    door->replied = connection;
    pthread_mutex_unlock(&door->lock);
    if (!atomic_load(&door->closed)) (void)uv_async_send(&door->async);
}

static const struct client_ops resp_client = {
    .door = DOOR_RESP, .charge = charge, .gone = gone, .name = name, .reply = reply_to};

static void on_request(struct post *post) {
    struct connection *connection = list_entry(post, struct connection, post);
    struct door_resp *door = connection->door;
    if (atomic_load(&door->closed)) return;
    door->options.request_cb(door->options.arg, &connection->client, connection->message, SK_OK);
}

/* --- output -------------------------------------------------------------------------------------------------- */

static void written_cb(uv_write_t *write, int status) {
    struct connection *connection = write->data;
    connection->is_writing = false;
    buffer_clear(&connection->writing, KEPT_BYTES);
    if (status != 0) connection_close(connection);
    else advance(connection);
}

static void swap(struct buffer *a, struct buffer *b) {
    struct buffer kept = *a;
    *a = *b;
    *b = kept;
}

/* Gives the socket what there is for it, unless it has something. */
static void flush(struct connection *connection) {
    if (connection->closing || connection->is_writing) return;
    struct buffer *next = connection->tls == NULL ? &connection->output : &connection->cipher;
    int err = SK_OK;
    if (connection->tls != NULL && connection->output.size > 0) {
        err = tls_channel_send(connection->tls, buffer_slice(&connection->output), &connection->cipher);
        buffer_clear(&connection->output, KEPT_BYTES);
    }
    if (err == SK_OK && next->size == 0 && !next->failed) return;
    swap(next, &connection->writing);
    uv_buf_t part = uv_buf_init((char *)connection->writing.data, (unsigned)connection->writing.size);
    connection->write.data = connection;
    connection->stalled_ms = 0;
    if (err != SK_OK || connection->writing.failed ||
        uv_write(&connection->write, (uv_stream_t *)&connection->tcp, &part, 1, written_cb) != 0) {
        connection_close(connection);
        return;
    }
    connection->is_writing = true;
}

/* --- messages ------------------------------------------------------------------------------------------------ */

static void post_message(struct connection *connection) {
    struct door_resp *door = connection->door;
    door->under_way++;
    post_to(door->options.mailbox, &connection->post);
}

/* What was taken goes to the loop, now or when others' replies have come. */
static void send_batch(struct connection *connection) {
    struct door_resp *door = connection->door;
    connection->message = resp_batch_seal(&connection->batch, connection->session.follower_reads);
    if (connection->message.size == 0) {
        connection_close(connection);
        return;
    }
    connection->under_way = true;
    count_in_flight(connection);
    if (door->under_way < door->options.requests_max) post_message(connection);
    else list_add_last(&door->waiting, &connection->waiting_link);
}

/* Tells what came of the batch; the rest of one that was too large for a reply goes on its way again when this has been
 * taken. */
static void answer_batch(struct connection *connection, struct slice reply) {
    int err = resp_session_answer(&connection->session, &connection->batch, reply, &connection->output);
    if (err == SK_RETRY) {
        connection->is_unfinished = true;
        return;
    }
    if (err != SK_OK) {
        log_event(LOG_ERROR, "reply_dropped", "door=resp why=\"%s\" bytes=%zu", error_text(err), reply.size);
        connection_close(connection);
    }
    resp_batch_clear(&connection->batch);
}

static void drop_front(struct buffer *buffer, size_t bytes) {
    if (bytes == 0) return;
    size_t left = buffer->size - bytes;
    if (left == 0) {
        buffer_clear(buffer, KEPT_BYTES);
        return;
    }
    memmove(buffer->data, buffer->data + bytes, left);
    buffer->size = left;
}

/* Takes the whole commands that have come into the batch, as far as it goes. False: there was none. */
static bool gather(struct connection *connection) {
    struct door_resp *door = connection->door;
    struct resp_session *session = &connection->session;
    struct resp_batch *batch = &connection->batch;
    struct slice rest = buffer_slice(&connection->input);
    size_t taken;
    while (!batch->full && !session->closing && rest.size > 0) {
        enum resp_event event =
            resp_reader_next(&connection->reader, rest, !session->proven, door->command, &taken);
        if (event == RESP_COMMAND && !resp_session_take(session, door->command, batch)) break;
        rest = slice_of(rest.data + taken, rest.size - taken);
        if (event == RESP_COMMAND) continue;
        if (event == RESP_BROKEN) resp_session_break(session, door->command->error, batch);
        if (event == RESP_NO_MEMORY) session->closing = true;
        break;
    }
    drop_front(&connection->input, connection->input.size - rest.size);
    return batch->count > 0 || batch->text.size > 0;
}

/* --- input --------------------------------------------------------------------------------------------------- */

static void alloc_cb(uv_handle_t *handle, size_t wanted, uv_buf_t *room) {
    struct connection *connection = handle->data;
    (void)wanted;
    *room = uv_buf_init((char *)connection->door->received, sizeof connection->door->received);
}

/* Counts, and says one a second. */
static void note_refused(struct door_resp *door, const char *peer, const char *why) {
    metrics_counter *count = &door->options.tally->connections_refused[DOOR_RESP];
    metrics_add(count, 1);
    if (door->refusal_told_ms != 0 && door->now_ms < door->refusal_told_ms + LOG_EACH_MS) return;
    door->refusal_told_ms = door->now_ms;
    log_event(LOG_WARNING, "connection_refused", "door=resp from=%s count=%llu why=\"%s\"", peer,
              (unsigned long long)metrics_get(count), why);
}

static void on_bytes(struct connection *connection, struct slice bytes) {
    connection->active_ms = connection->door->now_ms;
    if (connection->tls == NULL) {
        buffer_append(&connection->input, bytes.data, bytes.size);
    } else {
        int err = tls_channel_receive(connection->tls, bytes, &connection->input, &connection->cipher);
        if (err == SK_ECLOSED) connection->ended = true;
        else if (err != SK_OK) connection->session.closing = true; /* behind what TLS has to say of it */
        if (err != SK_OK && !tls_channel_open(connection->tls)) {
            note_refused(connection->door, connection->peer, "no handshake of TLS");
        }
    }
    if (connection->input.failed) connection_close(connection);
}

static void read_cb(uv_stream_t *stream, ssize_t size, const uv_buf_t *room) {
    struct connection *connection = stream->data;
    if (size == 0) return;
    if (size > 0) {
        on_bytes(connection, slice_of(room->base, (size_t)size));
    } else if (size == UV_EOF) { /* what it has sent is answered, in case that it listens still */
        connection->ended = true;
        atomic_store(&connection->gone, true);
    } else {
        connection_close(connection);
    }
    advance(connection);
}

/* Whether more is to be read now: while a message is under way or replies wait to be taken, a little ahead. */
static bool wants_input(struct connection *connection) {
    struct door_resp *door = connection->door;
    if (connection->ended || connection->session.closing) return false;
    bool ahead = connection->under_way || connection->is_unfinished || pending_bytes(connection) > OUTPUT_BYTES;
    if (ahead && connection->input.size >= GATHER_BYTES) return false;
    if (load_has_room(door->options.load, READ_BYTES) || connection->input.size == 0) {
        connection->overloaded_ms = 0;
        return true;
    }
    if (connection->overloaded_ms == 0) connection->overloaded_ms = door->now_ms;
    door->somebody_overloaded = true;
    return false;
}

static void adjust_reading(struct connection *connection) {
    bool wanted = wants_input(connection);
    if (wanted == connection->is_reading) return;
    connection->is_reading = wanted;
    uv_stream_t *stream = (uv_stream_t *)&connection->tcp;
    int rv = wanted ? uv_read_start(stream, alloc_cb, read_cb) : uv_read_stop(stream);
    if (rv != 0) connection_close(connection);
}

/* --- a connection's way -------------------------------------------------------------------------------------- */

/* Nothing is left to do for it. */
static bool is_done(const struct connection *connection) {
    bool over = connection->session.closing || connection->ended;
    return over && !connection->under_way && !connection->is_unfinished && pending_bytes(connection) == 0;
}

/* Does all that can be done now. The connection may be closed by it, but not freed. */
static void advance(struct connection *connection) {
    while (!connection->closing && !connection->under_way && pending_bytes(connection) <= OUTPUT_BYTES &&
           (connection->is_unfinished || gather(connection))) {
        connection->is_unfinished = false;
        if (connection->batch.commands > 0) send_batch(connection);
        else answer_batch(connection, slice_of("", 0));
    }
    flush(connection);
    if (connection->closing) return;
    if (is_done(connection)) {
        connection_close(connection);
        return;
    }
    adjust_reading(connection);
    count_in_flight(connection);
    recount(connection);
}

/* The loop has replied. */
static void on_reply(struct connection *connection) {
    struct door_resp *door = connection->door;
    door->under_way--;
    connection->under_way = false;
    load_sub(door->options.load, atomic_exchange(&connection->charged_bytes, 0));
    if (connection->closing) {
        count_in_flight(connection);
        if (connection->closed) connection_free(connection);
        return;
    }
    if (connection->reply.failed) connection_close(connection);
    else answer_batch(connection, buffer_slice(&connection->reply));
    buffer_clear(&connection->reply, KEPT_BYTES);
    advance(connection);
}

static void send_waiting(struct door_resp *door) {
    while (!list_empty(&door->waiting) && door->under_way < door->options.requests_max) {
        struct connection *connection = list_entry(list_first(&door->waiting), struct connection, waiting_link);
        list_remove(&connection->waiting_link);
        post_message(connection);
    }
}

/* --- connections --------------------------------------------------------------------------------------------- */

static void name_address(const struct sockaddr_storage *address, char text[PEER_NAME_BYTES]) {
    char host[48] = "?";
    bool is_six = address->ss_family == AF_INET6;
    const struct sockaddr_in *four = (const struct sockaddr_in *)(const void *)address;
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)(const void *)address;
    if (is_six) (void)uv_ip6_name(six, host, sizeof host);
    else (void)uv_ip4_name(four, host, sizeof host);
    (void)snprintf(text, PEER_NAME_BYTES, is_six ? "[%s]:%u" : "%s:%u", host,
                   ntohs(is_six ? six->sin6_port : four->sin_port));
}

static void name_ends(struct connection *connection) {
    struct sockaddr_storage address = {0};
    int size = sizeof address;
    if (uv_tcp_getpeername(&connection->tcp, (struct sockaddr *)&address, &size) == 0) {
        name_address(&address, connection->peer);
    }
    size = sizeof address;
    if (uv_tcp_getsockname(&connection->tcp, (struct sockaddr *)&address, &size) == 0) {
        name_address(&address, connection->local);
    }
}

static struct connection *connection_new(struct door_resp *door) {
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL) return NULL;
    connection->door = door;
    /* The session takes no command for shards from a stranger; a RESET behind one changes nothing for it. */
    connection->client = (struct client){.ops = &resp_client, .proven = true};
    connection->post.handle = on_request;
    connection->came_ms = connection->active_ms = connection->stranger_ms = door->now_ms;
    resp_session_init(&connection->session, &door->host, ++door->last_id);
    resp_reader_init(&connection->reader, door->command_bytes_max);
    resp_batch_init(&connection->batch);
    list_add_last(&door->all, &connection->link);
    return connection;
}

static void refuse_connection(struct connection *connection, const char *error) {
    struct door_resp *door = connection->door;
    resp_write_error(&connection->output, "ERR", slice_of_text(error));
    connection->session.closing = true;
    note_refused(door, connection->peer, error);
    advance(connection);
}

static void connection_cb(uv_stream_t *listener, int status) {
    struct door_resp *door = listener->data;
    if (status != 0) return;
    struct connection *connection = connection_new(door);
    if (connection == NULL) {
        door->unaccepted = true; /* the timer tries again: until then libuv asks no more */
        return;
    }
    (void)uv_tcp_init(&door->loop, &connection->tcp);
    connection->tcp.data = connection;
    bool has_place = load_has_place(door->options.load);
    atomic_fetch_add(&door->connections, 1);
    load_take_place(door->options.load);
    if (uv_accept(listener, (uv_stream_t *)&connection->tcp) != 0 ||
        (door->tls != NULL && tls_channel_new(&connection->tls, door->tls) != SK_OK)) {
        connection_close(connection);
        return;
    }
    (void)uv_tcp_nodelay(&connection->tcp, 1);
    (void)uv_tcp_keepalive(&connection->tcp, 1, KEEPALIVE_S);
    name_ends(connection);
    if (!has_place && connection->tls == NULL) {
        refuse_connection(connection, "max number of clients reached");
    } else if (!has_place) {
        note_refused(door, connection->peer, "max number of clients reached");
        connection_close(connection);
    } else {
        advance(connection);
    }
}

/* --- what sessions ask of others ----------------------------------------------------------------------------- */

static bool is_chosen(const struct connection *connection, const struct resp_session *self,
                      const struct resp_choice *choice) {
    if (connection->closing) return false;
    if (choice == NULL) return &connection->session == self;
    if (choice->skip_self && &connection->session == self) return false;
    if (choice->by_id && connection->session.id != choice->id) return false;
    if (choice->address.size > 0 && !slice_equal(choice->address, slice_of_text(connection->peer))) return false;
    return choice->local_address.size == 0 || slice_equal(choice->local_address, slice_of_text(connection->local));
}

static void list_cb(void *arg, const struct resp_session *self, const struct resp_choice *choice,
                    struct buffer *out) {
    struct door_resp *door = arg;
    for (struct link *link = list_first(&door->all); link != NULL; link = list_next(&door->all, link)) {
        const struct connection *connection = list_entry(link, struct connection, link);
        const struct resp_session *session = &connection->session;
        if (!is_chosen(connection, self, choice)) continue;
        char line[512];
        int size = snprintf(
            line, sizeof line,
            "id=%llu addr=%s laddr=%s name=%s age=%llu idle=%llu flags=%s db=0 sub=0 psub=0 multi=%d qbuf=%zu "
            "omem=%zu tot-mem=%llu cmd=%s user=default resp=%d lib-name=%s lib-ver=%s\n",
            (unsigned long long)session->id, connection->peer, connection->local, session->name,
            (unsigned long long)(door->now_ms - connection->came_ms) / 1000,
            (unsigned long long)(door->now_ms - connection->active_ms) / 1000,
            session->transaction.open ? "x" : "N",
            session->transaction.open ? (int)session->transaction.count : -1, connection->input.size,
            pending_bytes(connection),
            (unsigned long long)atomic_load((atomic_ullong *)(uintptr_t)&connection->held_bytes),
            session->last == NULL ? "NULL" : session->last->name, (int)session->protocol, session->library,
            session->version);
        buffer_append(out, line, (size_t)size < sizeof line ? (size_t)size : sizeof line - 1);
    }
}

static uint32_t kill_cb(void *arg, struct resp_session *self, const struct resp_choice *choice) {
    struct door_resp *door = arg;
    uint32_t count = 0;
    struct link *next;
    for (struct link *link = list_first(&door->all); link != NULL; link = next) {
        struct connection *connection = list_entry(link, struct connection, link);
        next = list_next(&door->all, link); /* closing frees nothing yet */
        if (!is_chosen(connection, self, choice)) continue;
        count++;
        if (&connection->session == self) self->closing = true;
        else connection_close(connection);
    }
    return count;
}

/* EXEC makes a message of it all, and its connection must have room for that, too. */
static bool has_room_cb(void *arg, const struct resp_session *self, uint64_t bytes) {
    const struct door_resp *door = arg;
    return resp_session_bytes(self) + bytes <= door->options.connection_bytes_max / 2 &&
           load_has_room(door->options.load, bytes);
}

static void unauthorized_cb(void *arg) {
    struct door_resp *door = arg;
    metrics_add(&door->options.tally->unauthorized[DOOR_RESP], 1);
}

/* --- time ---------------------------------------------------------------------------------------------------- */

/* Its replies are not taken. */
static bool is_stalled(struct connection *connection, uint64_t now_ms) {
    if (!connection->is_writing) return false;
    size_t left = uv_stream_get_write_queue_size((uv_stream_t *)&connection->tcp);
    if (connection->stalled_ms == 0 || left != connection->stalled_bytes) {
        connection->stalled_ms = now_ms;
        connection->stalled_bytes = left;
    }
    return now_ms >= connection->stalled_ms + STALL_MS_MAX;
}

static void look_at(struct connection *connection, uint64_t now_ms) {
    if (connection->session.proven) connection->stranger_ms = now_ms;
    bool in_handshake = connection->tls != NULL && !tls_channel_open(connection->tls);
    if (in_handshake && now_ms > connection->came_ms + HANDSHAKE_MS_MAX) {
        note_refused(connection->door, connection->peer, "the handshake stands still");
        connection_close(connection);
    } else if (now_ms > connection->stranger_ms + STRANGER_MS_MAX) {
        connection_close(connection);
    } else if (is_stalled(connection, now_ms)) {
        log_event(LOG_WARNING, "client_closed", "door=resp peer=%s bytes=%zu why=\"it does not take its replies\"",
                  connection->peer, pending_bytes(connection));
        connection_close(connection);
    } else if (connection->overloaded_ms != 0 && !connection->under_way && pending_bytes(connection) == 0 &&
               now_ms > connection->overloaded_ms + OVERLOADED_MS_MAX) {
        resp_write_error(&connection->output, "OVERLOADED", slice_of_text(error_text(SK_OVERLOADED)));
        connection->session.closing = true;
        advance(connection);
    } else if (connection->overloaded_ms != 0) {
        advance(connection);
    }
}

static void timer_cb(uv_timer_t *timer) {
    struct door_resp *door = timer->data;
    struct link *next;
    bool overloaded = door->somebody_overloaded;
    door->now_ms = clock_boottime_ms();
    if (door->unaccepted) {
        door->unaccepted = false;
        connection_cb((uv_stream_t *)&door->listener, 0);
    }
    if (++door->ticks % WALK_TICKS != 0 && !overloaded) return;
    door->somebody_overloaded = false;
    for (struct link *link = list_first(&door->all); link != NULL; link = next) {
        struct connection *connection = list_entry(link, struct connection, link);
        next = list_next(&door->all, link);
        if (!connection->closing) look_at(connection, door->now_ms);
    }
}

/* --- the thread ---------------------------------------------------------------------------------------------- */

static void end_all(struct door_resp *door) {
    if (door->ending) return;
    door->ending = true;
    for (struct link *link = list_first(&door->all); link != NULL; link = list_next(&door->all, link)) {
        connection_close(list_entry(link, struct connection, link));
    }
    uv_close((uv_handle_t *)&door->listener, NULL);
    uv_close((uv_handle_t *)&door->timer, NULL);
    uv_close((uv_handle_t *)&door->async, NULL);
}

static void async_cb(uv_async_t *async) {
    struct door_resp *door = async->data;
    if (atomic_load(&door->closed)) {
        end_all(door);
        return;
    }
    door->now_ms = clock_boottime_ms();
    pthread_mutex_lock(&door->lock);
    struct connection *connection = door->replied;
    door->replied = NULL;
    pthread_mutex_unlock(&door->lock);
    while (connection != NULL) {
        struct connection *next = connection->next_replied;
        on_reply(connection);
        connection = next;
    }
    send_waiting(door);
}

static void *run(void *arg) {
    struct door_resp *door = arg;
    (void)uv_run(&door->loop, UV_RUN_DEFAULT);
    return NULL;
}

/* --- open and close ------------------------------------------------------------------------------------------ */

/* "tcp://host:port", the host perhaps in brackets. */
static int find_address(const char *url, struct sockaddr_storage *address) {
    char host[ADDRESS_BYTES];
    const char *start = strstr(url, "://"), *port = strrchr(url, ':');
    if (start == NULL || port <= start || (size_t)(port - start) >= sizeof host) return UV_EINVAL;
    start += 3;
    if (*start == '[' && port[-1] == ']')
        (void)snprintf(host, sizeof host, "%.*s", (int)(port - start - 2), start + 1);
    else (void)snprintf(host, sizeof host, "%.*s", (int)(port - start), start);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found;
    if (getaddrinfo(host[0] == '\0' || strcmp(host, "*") == 0 ? NULL : host, port + 1, &hints, &found) != 0) {
        return UV_EAI_NONAME;
    }
    memcpy(address, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return 0;
}

static int listen_at(struct door_resp *door) {
    struct sockaddr_storage address = {0};
    int rv = find_address(door->options.address, &address);
    if (rv == 0) rv = uv_tcp_bind(&door->listener, (struct sockaddr *)&address, 0);
    if (rv == 0) rv = uv_listen((uv_stream_t *)&door->listener, BACKLOG, connection_cb);
    int size = sizeof address;
    if (rv == 0) rv = uv_tcp_getsockname(&door->listener, (struct sockaddr *)&address, &size);
    if (rv != 0) return rv;
    char name[PEER_NAME_BYTES];
    name_address(&address, name);
    (void)snprintf(door->address, sizeof door->address, "%s://%s", door->tls == NULL ? "tcp" : "tls+tcp", name);
    return 0;
}

/* `opened`: closing takes the loop. */
static int open_loop(struct door_resp *door, bool *opened) {
    int rv = uv_loop_init(&door->loop);
    if (rv != 0) return rv;
    (void)uv_tcp_init(&door->loop, &door->listener);
    (void)uv_timer_init(&door->loop, &door->timer);
    (void)uv_async_init(&door->loop, &door->async, async_cb);
    door->listener.data = door->timer.data = door->async.data = door;
    *opened = true;
    rv = listen_at(door);
    if (rv == 0) rv = uv_timer_start(&door->timer, timer_cb, TICK_MS, TICK_MS);
    return rv;
}

/* What a command may have: it must fit in a message, and beside that in what its connection may hold. */
static size_t most_of_a_command(const struct door_resp_options *options) {
    uint64_t most = COMMAND_BYTES_MAX;
    if (options->message_bytes_max < most) most = options->message_bytes_max;
    if (options->connection_bytes_max / 2 < most) most = options->connection_bytes_max / 2;
    return (size_t)most;
}

int door_resp_open(struct door_resp **out, const struct door_resp_options *options, char *text,
                   size_t text_bytes) {
    struct door_resp *door = calloc(1, sizeof *door);
    if (door == NULL) return SK_ENOMEM;
    door->options = *options;
    door->now_ms = clock_boottime_ms();
    door->host = (struct resp_host){.tokens = options->tokens,
                                    .arg = door,
                                    .list_cb = list_cb,
                                    .kill_cb = kill_cb,
                                    .has_room_cb = has_room_cb,
                                    .unauthorized_cb = unauthorized_cb};
    door->command_bytes_max = most_of_a_command(options);
    list_init(&door->all);
    list_init(&door->waiting);
    (void)pthread_mutex_init(&door->lock, NULL);
    door->command = malloc(sizeof *door->command);
    int err = door->command == NULL ? SK_ENOMEM : SK_OK;
    if (err == SK_OK && options->tls != NULL) {
        err = tls_server_new(&door->tls, options->tls);
        (void)snprintf(text, text_bytes, "cannot serve TLS with its certificate: %s", error_text(err));
    }
    bool opened = false;
    int rv = err == SK_OK ? open_loop(door, &opened) : 0;
    if (rv != 0) {
        (void)snprintf(text, text_bytes, "cannot listen at %s: %s", options->address, uv_strerror(rv));
        err = rv == UV_ENOMEM ? SK_ENOMEM : SK_ECONFIG;
    }
    if (err == SK_OK && pthread_create(&door->thread, NULL, run, door) != 0) err = SK_ENOMEM;
    if (err == SK_OK) {
        *out = door;
        return SK_OK;
    }
    if (opened) { /* on this thread, since there is no other */
        end_all(door);
        (void)run(door);
        (void)uv_loop_close(&door->loop);
    }
    door_resp_free(door);
    return err;
}

const char *door_resp_address(const struct door_resp *door) { return door->address; }

uint32_t door_resp_connections(const struct door_resp *door) {
    return door == NULL ? 0 : atomic_load(&door->connections);
}

uint32_t door_resp_in_flight(const struct door_resp *door) {
    return door == NULL ? 0 : atomic_load(&door->in_flight);
}

void door_resp_close(struct door_resp *door) {
    if (door == NULL || atomic_exchange(&door->closed, true)) return;
    (void)uv_async_send(&door->async);
    (void)pthread_join(door->thread, NULL);
    (void)uv_loop_close(&door->loop);
}

void door_resp_free(struct door_resp *door) {
    if (door == NULL) return;
    while (!list_empty(&door->all)) connection_free(list_entry(list_first(&door->all), struct connection, link));
    tls_server_free(door->tls);
    (void)pthread_mutex_destroy(&door->lock);
    free(door->command);
    free(door);
}
