/* Order, which libraft does not check: SIGPIPE ignored (by main) · loop · TCP transport · wrapped connect · io ·
 * its settings · raft with its settings · bootstrap · start · run. Back: raft_close, in whose callback the io, the
 * transport and our own handles are closed, then the loop until nothing is left on it. Nothing may call libraft
 * from another thread. */
#include "metad/raft_loop.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/log.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <raft/uv.h>
#include <stdio.h>
#include <stdlib.h>

#define ELECTION_TIMEOUT_MS 300u
#define HEARTBEAT_MS        50u
#define CONNECT_RETRY_MS    100u
#define DISK_RETRY_MS       1000u
#define SNAPSHOT_THRESHOLD  1024u
/* Small values meet a crash: a snapshot that arrives while the follower writes its own is a NULL dereference. */
#define SNAPSHOT_TRAILING 8192u
/* With 1 MiB the default space threshold refuses every write. */
#define SEGMENT_BYTES   ((size_t)2 * 1024 * 1024)
#define ENTRY_ALIGNMENT 8u

/* A raft_apply or raft_barrier under way. libraft may look at it after its callback, so it is freed a tick later.
 */
struct request {
    union {
        struct raft_apply apply;
        struct raft_barrier barrier;
    };
    struct raft_loop *loop;
    raft_loop_done_cb done_cb;
    void *arg;
    struct request *next; /* in `finished` */
};

struct raft_loop {
    uv_loop_t uv;
    uv_async_t async;
    uv_timer_t timer;
    struct raft_uv_transport transport;
    struct raft_io io;
    struct raft raft;
    struct raft_loop_options options;
    uint64_t peer_ids[RAFT_LOOP_SERVERS_MAX]; /* the other servers */
    uint32_t peer_count;
    bool leads;
    bool failed;
    struct request *finished; /* owned */
    struct raft_loop_loaded loaded;

    /* libraft's own functions behind our wrappers. */
    int (*connect)(struct raft_uv_transport *, struct raft_uv_connect *, raft_id, const char *,
                   raft_uv_connect_cb);
    int (*listen)(struct raft_uv_transport *, raft_uv_accept_cb);
    raft_uv_accept_cb accept_cb;
    int (*set_term)(struct raft_io *, raft_term);
    int (*set_vote)(struct raft_io *, raft_id);
    int (*snapshot_get)(struct raft_io *, struct raft_io_snapshot_get *, raft_io_snapshot_get_cb);
    int (*send)(struct raft_io *, struct raft_io_send *, const struct raft_message *, raft_io_send_cb);
};

/* libraft gives its callbacks no argument of ours: `data` of transport and io are its own. One process has one
 * loop in production and a few in tests, so the transport is found by its place in the struct. */
#define loop_of(pointer, member) ((struct raft_loop *)((char *)(pointer)-offsetof(struct raft_loop, member)))

static int err_of(int code) {
    switch (code) {
    case 0:
        return SK_OK;
    case RAFT_NOMEM:
        return SK_ENOMEM;
    case RAFT_NOTLEADER:
        return SK_NOT_LEADER;
    case RAFT_NOSPACE:
        return SK_DISKFULL;
    case RAFT_LEADERSHIPLOST: /* the entry is in the log, and another leader decides about it */
    case RAFT_SHUTDOWN:
    case RAFT_CANCELED:
        return SK_TIMEOUT;
    case RAFT_CORRUPT:
    case RAFT_MALFORMED:
        return SK_ECORRUPT;
    case RAFT_IOERR:
        return SK_EIO;
    default:
        return SK_EUNEXPECTED;
    }
}

/* Of a proposal that libraft refuses at once, so that it surely does not happen. */
static int refusal_of(int code) {
    switch (code) {
    case 0:
        return SK_OK;
    case RAFT_NOMEM:
        return SK_ENOMEM;
    case RAFT_NOTLEADER:
        return SK_NOT_LEADER;
    case RAFT_NOSPACE:
        return SK_DISKFULL;
    default:
        return SK_UNAVAILABLE;
    }
}

/* ---- wrapped functions of libraft ---- */

/* 0.22 does not set TCP_NODELAY: an append would wait for the acknowledgement of the one before. */
struct connecting {
    struct raft_uv_connect *request; /* libraft's */
    raft_uv_connect_cb cb;
    struct raft_uv_connect ours;
};

static void connected_cb(struct raft_uv_connect *ours, struct uv_stream_s *stream, int status) {
    struct connecting *connecting = ours->data;
    if (status == 0) (void)uv_tcp_nodelay((uv_tcp_t *)stream, 1);
    connecting->cb(connecting->request, stream, status);
    free(connecting);
}

static int connect_wrapped(struct raft_uv_transport *transport, struct raft_uv_connect *request, raft_id id,
                           const char *address, raft_uv_connect_cb cb) {
    struct raft_loop *loop = loop_of(transport, transport);
    struct connecting *connecting = calloc(1, sizeof *connecting);
    if (connecting == NULL) return RAFT_NOMEM;
    connecting->request = request;
    connecting->cb = cb;
    connecting->ours.data = connecting;
    int code = loop->connect(transport, &connecting->ours, id, address, connected_cb);
    if (code != 0) free(connecting);
    return code;
}

static void free_stream_cb(uv_handle_t *handle) { free(handle); }

/* 0.22 knows no membership: whoever connects is heard. Servers that are not of the group are turned away here. */
static void accepted_cb(struct raft_uv_transport *transport, raft_id id, const char *address,
                        struct uv_stream_s *stream) {
    struct raft_loop *loop = loop_of(transport, transport);
    for (uint32_t i = 0; i < loop->peer_count; i++) {
        if (loop->peer_ids[i] == id) {
            (void)uv_tcp_nodelay((uv_tcp_t *)stream, 1);
            loop->accept_cb(transport, id, address, stream);
            return;
        }
    }
    log_event(LOG_WARNING, "raft_peer_refused", "server=%llu", id);
    uv_close((uv_handle_t *)stream, free_stream_cb);
}

/* A group of one has nobody to listen to, so no stranger gets a byte to libraft. */
static int listen_wrapped(struct raft_uv_transport *transport, raft_uv_accept_cb cb) {
    struct raft_loop *loop = loop_of(transport, transport);
    loop->accept_cb = cb;
    return loop->peer_count == 0 ? 0 : loop->listen(transport, accepted_cb);
}

/* The package is built without assertions, and a failed write of term or vote is only asserted: to go on could be
 * to vote twice in one term (Raft paper, section 5.2). */
static int set_term_wrapped(struct raft_io *io, raft_term term) {
    int code = loop_of(io, io)->set_term(io, term);
    if (code != 0) log_event(LOG_ERROR, "raft_term_not_stored", "term=%llu", term);
    sk_assert(code == 0);
    return code;
}

static int set_vote_wrapped(struct raft_io *io, raft_id server) {
    int code = loop_of(io, io)->set_vote(io, server);
    if (code != 0) log_event(LOG_ERROR, "raft_vote_not_stored", "server=%llu", server);
    sk_assert(code == 0);
    return code;
}

/* 0.22 does not look at the term of what snapshot_get delivers, so it is kept for the message that follows at once. */
struct loading {
    struct raft_loop *loop;
    struct raft_io_snapshot_get *request; /* libraft's */
    raft_io_snapshot_get_cb cb;
    struct raft_io_snapshot_get ours;
};

static void loaded_cb(struct raft_io_snapshot_get *ours, struct raft_snapshot *snapshot, int status) {
    struct loading *loading = ours->data;
    if (status == 0) loading->loop->loaded = (struct raft_loop_loaded){snapshot->index, snapshot->term};
    loading->cb(loading->request, snapshot, status);
    free(loading);
}

static int snapshot_get_wrapped(struct raft_io *io, struct raft_io_snapshot_get *request,
                                raft_io_snapshot_get_cb cb) {
    struct raft_loop *loop = loop_of(io, io);
    struct loading *loading = calloc(1, sizeof *loading);
    if (loading == NULL) return RAFT_NOMEM;
    *loading = (struct loading){.loop = loop, .request = request, .cb = cb, .ours = {.data = loading}};
    int code = loop->snapshot_get(io, &loading->ours, loaded_cb);
    if (code != 0) free(loading);
    return code;
}

void raft_loop_correct_message(const struct raft *raft, const struct raft_loop_loaded *loaded,
                               struct raft_message *message) {
    struct raft_request_vote_result *vote = &message->request_vote_result;
    struct raft_install_snapshot *install = &message->install_snapshot;
    if (message->type == RAFT_REQUEST_VOTE_RESULT && vote->pre_vote && !vote->vote_granted) {
        if (vote->term < raft_current_term(raft)) vote->term = raft_current_term(raft);
    } else if (message->type == RAFT_INSTALL_SNAPSHOT && install->last_index == loaded->index) {
        install->last_term = loaded->term;
    }
}

/* libraft's TCP encodes the message before it returns. */
static int send_wrapped(struct raft_io *io, struct raft_io_send *request, const struct raft_message *message,
                        raft_io_send_cb cb) {
    struct raft_loop *loop = loop_of(io, io);
    struct raft_message sent = *message;
    raft_loop_correct_message(&loop->raft, &loop->loaded, &sent);
    return loop->send(io, request, &sent, cb);
}

/* ---- the loop's own events ---- */

static void free_finished(struct raft_loop *loop) {
    while (loop->finished != NULL) {
        struct request *request = loop->finished;
        loop->finished = request->next;
        free(request);
    }
}

/* libraft tells nobody of a change of its state, so we look after whatever may have changed it and on every tick.
 */
static void watch_state(struct raft_loop *loop) {
    int state = (int)raft_state(&loop->raft);
    if (state == RAFT_UNAVAILABLE && !loop->failed) {
        loop->failed = true;
        loop->leads = false;
        uv_stop(&loop->uv);
        loop->options.fault_cb(loop->options.arg, SK_EIO, raft_errmsg(&loop->raft));
        return;
    }
    bool leads = state == RAFT_LEADER;
    if (leads == loop->leads) return;
    loop->leads = leads;
    loop->options.role_cb(loop->options.arg);
}

static void timer_cb(uv_timer_t *timer) {
    struct raft_loop *loop = timer->data;
    free_finished(loop);
    watch_state(loop);
    if (!loop->failed) loop->options.tick_cb(loop->options.arg);
}

static void async_cb(uv_async_t *async) {
    struct raft_loop *loop = async->data;
    loop->options.wake_cb(loop->options.arg);
}

/* ---- open ---- */

static int open_failed(int code, const char *what, const char *detail, char *text, size_t text_bytes) {
    (void)snprintf(text, text_bytes, "%s: %s", what,
                   detail != NULL && detail[0] != 0 ? detail : raft_strerror(code));
    return err_of(code);
}

static int init_uv(struct raft_loop *loop) {
    if (uv_loop_init(&loop->uv) != 0) return SK_ENOMEM;
    /* Neither of these can fail with these arguments, except the async's eventfd at the limit of open files. */
    int code = uv_async_init(&loop->uv, &loop->async, async_cb);
    if (code != 0) {
        (void)uv_loop_close(&loop->uv);
        return code == UV_ENOMEM ? SK_ENOMEM : SK_EIO;
    }
    loop->async.data = loop;
    (void)uv_timer_init(&loop->uv, &loop->timer);
    loop->timer.data = loop;
    return SK_OK;
}

static int init_io(struct raft_loop *loop, char *text, size_t text_bytes) {
    loop->transport.version = 1;
    loop->transport.data = NULL;
    int code = raft_uv_tcp_init(&loop->transport, &loop->uv);
    if (code != 0) return open_failed(code, "raft transport", NULL, text, text_bytes);
    if (loop->peer_count > 0) {
        code = raft_uv_tcp_set_bind_address(&loop->transport, loop->options.bind_address);
        if (code != 0) {
            raft_uv_tcp_close(&loop->transport);
            (void)open_failed(code, loop->options.bind_address, "not an address", text, text_bytes);
            return SK_ECONFIG;
        }
    }
    loop->connect = loop->transport.connect;
    loop->transport.connect = connect_wrapped;
    loop->listen = loop->transport.listen;
    loop->transport.listen = listen_wrapped;
    code = raft_uv_init(&loop->io, &loop->uv, loop->options.directory, &loop->transport);
    if (code != 0) {
        raft_uv_tcp_close(&loop->transport);
        return open_failed(code, loop->options.directory, loop->io.errmsg, text, text_bytes);
    }
    loop->set_term = loop->io.set_term;
    loop->io.set_term = set_term_wrapped;
    loop->set_vote = loop->io.set_vote;
    loop->io.set_vote = set_vote_wrapped;
    loop->snapshot_get = loop->io.snapshot_get;
    loop->io.snapshot_get = snapshot_get_wrapped;
    loop->send = loop->io.send;
    loop->io.send = send_wrapped;
    raft_uv_set_segment_size(&loop->io, SEGMENT_BYTES);
    raft_uv_set_disk_retry(&loop->io, DISK_RETRY_MS);
    raft_uv_set_connect_retry_delay(&loop->io, CONNECT_RETRY_MS);
    /* On by default: it would rename damaged segments and go on with what is left of the log. */
    raft_uv_set_auto_recovery(&loop->io, false);
    return SK_OK;
}

static int init_raft(struct raft_loop *loop, const char *address, char *text, size_t text_bytes) {
    int code = raft_init(&loop->raft, &loop->io, loop->options.fsm, loop->options.server_id, address);
    if (code != 0) return open_failed(code, "raft", raft_errmsg(&loop->raft), text, text_bytes);
    raft_set_election_timeout(&loop->raft, ELECTION_TIMEOUT_MS);
    raft_set_heartbeat_timeout(&loop->raft, HEARTBEAT_MS);
    raft_set_pre_vote(&loop->raft, true);
    raft_set_snapshot_threshold(&loop->raft, SNAPSHOT_THRESHOLD);
    raft_set_snapshot_trailing(&loop->raft, SNAPSHOT_TRAILING);
    return SK_OK;
}

/* Every first server writes the same configuration as entry 1. One that was interrupted after that finds it there.
 */
static int bootstrap(struct raft_loop *loop, char *text, size_t text_bytes) {
    struct raft_configuration configuration;
    raft_configuration_init(&configuration);
    int code = 0;
    for (uint32_t i = 0; i < loop->options.server_count && code == 0; i++) {
        const struct raft_loop_server *server = &loop->options.servers[i];
        code = raft_configuration_add(&configuration, server->id, server->address, RAFT_VOTER);
    }
    if (code == 0) code = raft_bootstrap(&loop->raft, &configuration);
    raft_configuration_close(&configuration);
    if (code == 0 || code == RAFT_CANTBOOTSTRAP) return SK_OK;
    return open_failed(code, loop->options.directory, raft_errmsg(&loop->raft), text, text_bytes);
}

static int start(struct raft_loop *loop, char *text, size_t text_bytes) {
    int code = raft_start(&loop->raft);
    if (code != 0) {
        (void)open_failed(code, loop->options.directory, raft_errmsg(&loop->raft), text, text_bytes);
        /* The files were read before the socket was opened: what is left to fail is the address. */
        return code == RAFT_IOERR && strstr(text, "bind") != NULL ? SK_ENET : err_of(code);
    }
    if (raft_last_index(&loop->raft) == 0) {
        return open_failed(RAFT_CORRUPT, loop->options.directory, "the log of an earlier run is missing", text,
                           text_bytes);
    }
    (void)uv_timer_start(&loop->timer, timer_cb, 0, RAFT_LOOP_TICK_MS);
    return SK_OK;
}

static void close_handles(struct raft_loop *loop) {
    uv_close((uv_handle_t *)&loop->async, NULL);
    uv_close((uv_handle_t *)&loop->timer, NULL);
}

/* After raft_close nothing of libraft is on the loop any more. */
static void raft_closed_cb(struct raft *raft) {
    struct raft_loop *loop = loop_of(raft, raft);
    raft_uv_close(&loop->io);
    raft_uv_tcp_close(&loop->transport);
    close_handles(loop);
}

static void finish_uv(struct raft_loop *loop) {
    while (uv_run(&loop->uv, UV_RUN_DEFAULT) != 0) continue; /* an earlier uv_stop ends the first run at once */
    int code = uv_loop_close(&loop->uv);
    sk_assert(code == 0);
}

int raft_loop_open(struct raft_loop **out, const struct raft_loop_options *options, char *text,
                   size_t text_bytes) {
    sk_assert(options->server_count >= 1);
    sk_assert(options->server_count <= RAFT_LOOP_SERVERS_MAX);
    struct raft_loop *loop = calloc(1, sizeof *loop);
    if (loop == NULL) return SK_ENOMEM;
    loop->options = *options;
    const char *address = NULL;
    for (uint32_t i = 0; i < options->server_count; i++) {
        if (options->servers[i].id == options->server_id) {
            address = options->servers[i].address;
        } else {
            loop->peer_ids[loop->peer_count++] = options->servers[i].id;
        }
    }
    sk_assert(address != NULL);
    int err = init_uv(loop);
    if (err != SK_OK) {
        (void)snprintf(text, text_bytes, "the event loop: %s", error_text(err));
        free(loop);
        return err;
    }
    err = init_io(loop, text, text_bytes);
    if (err == SK_OK) {
        err = init_raft(loop, address, text, text_bytes);
        if (err != SK_OK) {
            raft_uv_close(&loop->io);
            raft_uv_tcp_close(&loop->transport);
        }
    }
    if (err != SK_OK) {
        close_handles(loop);
        finish_uv(loop);
        free(loop);
        return err;
    }
    if (options->form) err = bootstrap(loop, text, text_bytes);
    if (err == SK_OK) err = start(loop, text, text_bytes);
    if (err != SK_OK) {
        raft_loop_close(loop);
        return err;
    }
    loop->options.servers = NULL;
    *out = loop;
    return SK_OK;
}

void raft_loop_run(struct raft_loop *loop) { (void)uv_run(&loop->uv, UV_RUN_DEFAULT); }

void raft_loop_stop(struct raft_loop *loop) { uv_stop(&loop->uv); }

void raft_loop_wake(struct raft_loop *loop) { (void)uv_async_send(&loop->async); }

void raft_loop_close(struct raft_loop *loop) {
    if (loop == NULL) return;
    (void)uv_timer_stop(&loop->timer);
    raft_close(&loop->raft, raft_closed_cb);
    finish_uv(loop);
    free_finished(loop);
    free(loop);
}

/* ---- what the others ask ---- */

bool raft_loop_leads(const struct raft_loop *loop) { return loop->leads; }

/* libraft's getters lack the const. */
static struct raft *raft_of(const struct raft_loop *loop) { return (struct raft *)(uintptr_t)&loop->raft; }

uint64_t raft_loop_leader(const struct raft_loop *loop) {
    raft_id id;
    const char *address;
    raft_leader(raft_of(loop), &id, &address);
    return id;
}

uint64_t raft_loop_term(const struct raft_loop *loop) { return raft_current_term(&loop->raft); }

uint64_t raft_loop_commit_index(const struct raft_loop *loop) { return raft_commit_index(&loop->raft); }

static struct request *request_new(struct raft_loop *loop, raft_loop_done_cb done_cb, void *arg) {
    struct request *request = calloc(1, sizeof *request);
    if (request == NULL) return NULL;
    request->loop = loop;
    request->done_cb = done_cb;
    request->arg = arg;
    return request;
}

static void request_finish(struct request *request, int status) {
    struct raft_loop *loop = request->loop;
    request->next = loop->finished;
    loop->finished = request;
    request->done_cb(request->arg, err_of(status));
}

static void applied_cb(struct raft_apply *apply, int status, void *result) {
    (void)result;
    request_finish(apply->data, status);
}

static void barrier_cb(struct raft_barrier *barrier, int status) { request_finish(barrier->data, status); }

int raft_loop_propose(struct raft_loop *loop, struct slice entry, raft_loop_done_cb done_cb, void *arg) {
    sk_assert(entry.size % ENTRY_ALIGNMENT == 0);
    struct request *request = request_new(loop, done_cb, arg);
    if (request == NULL) return SK_ENOMEM;
    /* One buffer a call: of several all but the first are dropped in silence. */
    struct raft_buffer copy = {.base = raft_malloc(entry.size), .len = entry.size};
    if (copy.base == NULL) {
        free(request);
        return SK_ENOMEM;
    }
    memcpy(copy.base, entry.data, entry.size);
    request->apply.data = request;
    int code = raft_apply(&loop->raft, &request->apply, &copy, 1, applied_cb);
    if (code != 0) {
        raft_free(copy.base); /* libraft's only if it succeeded */
        free(request);
    }
    return refusal_of(code);
}

int raft_loop_barrier(struct raft_loop *loop, raft_loop_done_cb done_cb, void *arg) {
    struct request *request = request_new(loop, done_cb, arg);
    if (request == NULL) return SK_ENOMEM;
    request->barrier.data = request;
    int code = raft_barrier(&loop->raft, &request->barrier, barrier_cb);
    if (code != 0) free(request);
    return refusal_of(code);
}
