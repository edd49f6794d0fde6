/* Order, which libraft does not check: SIGPIPE ignored (by main) · loop · transport · io · its settings · raft with its
 * settings · bootstrap · start · run. Back: raft_close, in whose callback the io, the
 * transport and our own handles are closed, then the loop until nothing is left on it. Nothing may call libraft
 * from another thread. */
#include "metad/raft_loop.h"

#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/cluster_net.h"
#include "libcommon/error.h"
#include "libcommon/log.h"

#include <dirent.h>
#include <endian.h>
#include <fcntl.h>
#include <limits.h>
#include <raft/uv.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A follower waits once to twice as long before it stands for election: a new leader is there within half a second of the old
 * one's death (tests/bench/metad_failover.py). */
#define ELECTION_TIMEOUT_MS 200u
#define HEARTBEAT_MS        40u
#define CONNECT_RETRY_MS    100u
#define HEARD_MS            1000u /* many heartbeats */
#define DISK_RETRY_MS       1000u
#define SNAPSHOT_THRESHOLD  1024u
/* Small values meet a crash: a snapshot that arrives while the follower writes its own is a NULL dereference. */
#define SNAPSHOT_TRAILING 8192u
/* With 1 MiB the default space threshold refuses every write. */
#define SEGMENT_BYTES   ((size_t)2 * 1024 * 1024)
#define ENTRY_ALIGNMENT 8u

/* A request to libraft under way. libraft may look at it after its callback, so it is freed a tick later.
 */
struct request {
    union {
        struct raft_apply apply;
        struct raft_barrier barrier;
        struct raft_change change;
        struct raft_transfer transfer;
    };
    struct raft_loop *loop;
    raft_loop_done_cb done_cb;
    void *arg;
    struct request *next; /* in `finished` */
};

struct heard {
    uint64_t id; /* 0 = nobody */
    uint64_t at_ms;
};

struct raft_loop {
    uv_loop_t uv;
    uv_async_t async;
    uv_timer_t timer;
    uv_prepare_t turn;              /* before the loop waits */
    struct transport *transport;    /* owned; NULL without a secret, */
    struct raft_uv_transport alone; /* which takes its place then */
    struct raft_io io;
    struct raft raft;
    struct raft_loop_options options; /* what it borrowed for raft_loop_open is not used after that */
    bool started;
    bool leads;
    bool failed;
    struct request *finished; /* owned */
    struct raft_loop_loaded loaded;
    uint64_t stored, stored_ms; /* last_stored of libraft, and since when entries have waited for it to grow */
    struct heard heard[RAFT_LOOP_SERVERS_MAX];

    /* libraft's own functions behind our wrappers. */
    int (*set_term)(struct raft_io *, raft_term);
    int (*set_vote)(struct raft_io *, raft_id);
    int (*snapshot_put)(struct raft_io *, unsigned, struct raft_io_snapshot_put *, const struct raft_snapshot *,
                        raft_io_snapshot_put_cb);
    int (*snapshot_get)(struct raft_io *, struct raft_io_snapshot_get *, raft_io_snapshot_get_cb);
    int (*send)(struct raft_io *, struct raft_io_send *, const struct raft_message *, raft_io_send_cb);
    int (*start)(struct raft_io *, unsigned, raft_io_tick_cb, raft_io_recv_cb);
    raft_io_recv_cb receive;
};

/* libraft gives its callbacks no argument of ours: `data` of the io is its own. */
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

/* ---- who is heard ---- */

/* In the place that it has, or of whoever was heard of least. */
static void note_heard(struct raft_loop *loop, uint64_t id) {
    struct heard *place = &loop->heard[0];
    for (unsigned i = 1; i < RAFT_LOOP_SERVERS_MAX && place->id != id; i++) {
        if (loop->heard[i].id == id || loop->heard[i].at_ms < place->at_ms) place = &loop->heard[i];
    }
    *place = (struct heard){id, uv_now(&loop->uv)};
}

static bool is_heard(const struct raft_loop *loop, uint64_t id) {
    for (unsigned i = 0; i < RAFT_LOOP_SERVERS_MAX; i++) {
        if (loop->heard[i].id == id) return uv_now(&loop->uv) - loop->heard[i].at_ms < HEARD_MS;
    }
    return id == loop->options.server_id;
}

/* In the latest configuration; NULL = it is no member. */
static struct raft_server *find_server(const struct raft *raft, raft_id id) {
    for (unsigned i = 0; i < raft->configuration.n; i++) {
        if (raft->configuration.servers[i].id == id) return &raft->configuration.servers[i];
    }
    return NULL;
}

/* ---- wrapped functions of libraft ---- */

/* The package is built without assertions, and a failed write of term or vote is only asserted: to go on could be to vote twice in
 * one term (Raft paper, section 5.2). libraft cannot be told, so the process ends here; a full disk is the usual reason. */
__attribute__((noreturn)) static void stop_at_once(const struct raft_loop *loop, const char *event,
                                                   uint64_t number, int code) {
    char text[512], quoted[600];
    (void)snprintf(text, sizeof text, "%s: %s", loop->options.directory, raft_strerror(code));
    log_event(LOG_ERROR, event, "number=%llu text=%s", (unsigned long long)number,
              log_quote(text, quoted, sizeof quoted));
    _exit(EXIT_FAILURE);
}

static int set_term_wrapped(struct raft_io *io, raft_term term) {
    struct raft_loop *loop = loop_of(io, io);
    int code = loop->set_term(io, term);
    if (code != 0) stop_at_once(loop, "raft_term_not_stored", term, code);
    return 0;
}

static int set_vote_wrapped(struct raft_io *io, raft_id server) {
    struct raft_loop *loop = loop_of(io, io);
    int code = loop->set_vote(io, server);
    if (code != 0) stop_at_once(loop, "raft_vote_not_stored", server, code);
    return 0;
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

bool raft_loop_is_sound(const struct raft *raft, const struct raft_snapshot *snapshot, unsigned trailing) {
    bool comes_from_leader = trailing == 0;
    raft_index uncommitted = raft->configuration_uncommitted_index;
    return comes_from_leader || uncommitted == 0 || uncommitted > snapshot->index;
}

static int snapshot_put_wrapped(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *request,
                                const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb) {
    struct raft_loop *loop = loop_of(io, io);
    if (!raft_loop_is_sound(&loop->raft, snapshot, trailing)) return RAFT_BUSY;
    return loop->snapshot_put(io, trailing, request, snapshot, cb);
}

/* As if there were no more yet: whoever gets too little says so, and the rest follows. */
static void end_before_configuration(struct raft_append_entries *append) {
    for (unsigned i = 1; i < append->n_entries; i++) {
        if (append->entries[i].type == RAFT_CHANGE) append->n_entries = i;
    }
}

void raft_loop_correct_message(const struct raft *raft, const struct raft_loop_loaded *loaded,
                               struct raft_message *message) {
    struct raft_request_vote_result *vote = &message->request_vote_result;
    struct raft_install_snapshot *install = &message->install_snapshot;
    if (message->type == RAFT_REQUEST_VOTE_RESULT && vote->pre_vote && !vote->vote_granted) {
        if (vote->term < raft_current_term(raft)) vote->term = raft_current_term(raft);
    } else if (message->type == RAFT_INSTALL_SNAPSHOT && install->last_index == loaded->index) {
        install->last_term = loaded->term;
    } else if (message->type == RAFT_APPEND_ENTRIES) {
        end_before_configuration(&message->append_entries);
    }
}

/* libraft connects anew to a server whose address differs from that of the message before, and takes it from its configuration
 * or, in answers, from what the server calls itself: they may differ. Our transport goes by the id. */
static const char *one_address(const struct raft *raft, raft_id id, const char *otherwise) {
    const struct raft_server *server = find_server(raft, id);
    return server != NULL ? server->address : otherwise;
}

/* libraft's TCP encodes the message before it returns. */
static int send_wrapped(struct raft_io *io, struct raft_io_send *request, const struct raft_message *message,
                        raft_io_send_cb cb) {
    struct raft_loop *loop = loop_of(io, io);
    struct raft_message sent = *message;
    sent.server_address = one_address(&loop->raft, sent.server_id, sent.server_address);
    raft_loop_correct_message(&loop->raft, &loop->loaded, &sent);
    return loop->send(io, request, &sent, cb);
}

static int copy_configuration(const struct raft_configuration *from, struct raft_configuration *to) {
    int code = 0;
    raft_configuration_init(to);
    for (unsigned i = 0; i < from->n && code == 0; i++) {
        const struct raft_server *server = &from->servers[i];
        code = raft_configuration_add(to, server->id, server->address, server->role);
    }
    if (code != 0) raft_configuration_close(to);
    return code;
}

/* Also while a snapshot comes in place of the log libraft has the old index. */
static bool has_uncommitted_until(const struct raft *raft, raft_index index) {
    raft_index uncommitted = raft->configuration_uncommitted_index;
    return uncommitted != 0 && uncommitted <= index && !raft->snapshot.installing;
}

/* Of one that is followed by another: there is never more than one that is not committed (Raft dissertation, section 4.1), which is
 * what libraft itself goes by when it starts. */
static void commit_configuration(struct raft *raft) {
    struct raft_configuration committed;
    if (copy_configuration(&raft->configuration, &committed) != 0) return;
    raft_configuration_close(&raft->configuration_committed);
    raft->configuration_committed = committed;
    raft->configuration_committed_index = raft->configuration_uncommitted_index;
    raft->configuration_uncommitted_index = 0;
}

/* `message` may bring a configuration after one that is not known to be committed. Without its entries it says whether the leader
 * has that one, too. */
static void commit_earlier_configuration(struct raft *raft, const struct raft_message *message,
                                         raft_io_recv_cb receive) {
    const struct raft_append_entries *append = &message->append_entries;
    if (append->n_entries == 0 || append->entries[0].type != RAFT_CHANGE) return;
    if (!has_uncommitted_until(raft, append->prev_log_index)) return;
    struct raft_message without = *message;
    without.append_entries.entries = NULL;
    without.append_entries.n_entries = 0;
    receive(raft->io, &without);
    bool same = raft->state == RAFT_FOLLOWER && raft->current_term == append->term &&
                raft->follower_state.match >= append->prev_log_index;
    if (same && has_uncommitted_until(raft, append->prev_log_index)) commit_configuration(raft);
}

/* Neither its configuration nor who leads changes by a request for a vote. */
void raft_loop_receive(struct raft *raft, struct raft_message *message, raft_io_recv_cb receive) {
    if (message->type == RAFT_APPEND_ENTRIES) commit_earlier_configuration(raft, message, receive);
    struct raft_server *self = find_server(raft, raft->id);
    if (message->type != RAFT_REQUEST_VOTE || raft->state != RAFT_FOLLOWER || self == NULL ||
        self->role == RAFT_VOTER) {
        receive(raft->io, message);
        return;
    }
    int role = self->role;
    raft_id leader = raft->follower_state.current_leader.id;
    self->role = RAFT_VOTER;
    raft->follower_state.current_leader.id = 0;
    receive(raft->io, message);
    self->role = role;
    raft->follower_state.current_leader.id = leader;
}

int raft_loop_begin_term(struct raft *raft) {
    raft_term term = raft->current_term + 1;
    if (raft->state != RAFT_LEADER) return 0;
    int code = raft->io->set_term(raft->io, term);
    if (code == 0) code = raft->io->set_vote(raft->io, raft->id);
    if (code != 0) return code;
    raft->current_term = term;
    raft->voted_for = raft->id;
    return 0;
}

static void received_cb(struct raft_io *io, struct raft_message *message) {
    struct raft_loop *loop = loop_of(io, io);
    note_heard(loop, message->server_id);
    raft_loop_receive(&loop->raft, message, loop->receive);
}

static int start_wrapped(struct raft_io *io, unsigned tick_ms, raft_io_tick_cb tick_cb, raft_io_recv_cb receive) {
    struct raft_loop *loop = loop_of(io, io);
    loop->receive = receive;
    return loop->start(io, tick_ms, tick_cb, received_cb);
}

/* ---- without other servers ---- */

static int alone_init(struct raft_uv_transport *transport, raft_id id, const char *address) {
    (void)transport;
    (void)id;
    (void)address;
    return 0;
}

static int alone_listen(struct raft_uv_transport *transport, raft_uv_accept_cb cb) {
    (void)transport;
    (void)cb;
    return 0;
}

/* Of a server that was started without the secret of its group: it cannot call, and libraft tries again. */
static int alone_connect(struct raft_uv_transport *transport, struct raft_uv_connect *request, raft_id id,
                         const char *address, raft_uv_connect_cb cb) {
    (void)transport;
    (void)request;
    (void)id;
    (void)address;
    (void)cb;
    return RAFT_NOCONNECTION;
}

static void alone_close(struct raft_uv_transport *transport, raft_uv_transport_close_cb cb) { cb(transport); }

static const struct raft_uv_transport alone = {
    .version = 1, .init = alone_init, .listen = alone_listen, .connect = alone_connect, .close = alone_close};

/* ---- with them ---- */

/* libraft's getters lack the const. */
static struct raft *raft_of(const struct raft_loop *loop) { return (struct raft *)(uintptr_t)&loop->raft; }

static void self_cb(void *arg, struct handshake_server *self) {
    struct raft_loop *loop = arg;
    self->id = loop->options.server_id;
    self->last_index = raft_loop_last_index(loop);
    loop->options.self_cb(loop->options.arg, self);
}

static bool is_member(const struct raft_loop *loop, uint64_t id) { return find_server(&loop->raft, id) != NULL; }

/* 0.22 knows no membership: whoever connects is heard. One that has been removed gets no word from those that have a leader. Who
 * hears of none hears everybody: it has no configuration yet, or one from before those came who lead now. */
static bool is_member_cb(void *arg, uint64_t id) {
    struct raft_loop *loop = arg;
    uint64_t leader = raft_loop_leader(loop);
    return is_member(loop, id) || leader == 0 || !is_heard(loop, leader);
}

/* 0.22 calls everybody to whom it ever had something to say, ten times a second, for as long as it runs: also those that have been
 * removed. Who is no member and has said nothing is called by nobody. */
static void address_cb(void *arg, uint64_t id, const char *name, char address[TRANSPORT_ADDRESS_BYTES]) {
    struct raft_loop *loop = arg;
    address[0] = 0;
    if (!is_member(loop, id) && !is_heard(loop, id)) return;
    loop->options.address_cb(loop->options.arg, id, name, address);
}

static void met_cb(void *arg, const struct handshake_server *server) {
    struct raft_loop *loop = arg;
    loop->options.met_cb(loop->options.arg, server);
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

static void watch_disk(struct raft_loop *loop) {
    uint64_t stored = loop->raft.last_stored, now_ms = clock_boottime_ms();
    if (stored != loop->stored || stored >= raft_loop_last_index(loop)) loop->stored_ms = now_ms;
    loop->stored = stored;
}

/* A change under way is either in the log, and not committed, or waits for the server that is to be promoted. */
struct raft_change *raft_loop_take_forgotten(struct raft *raft) {
    struct raft_change *change = raft->legacy.change;
    if (change == NULL || raft->state != RAFT_LEADER) return NULL;
    if (raft->configuration_uncommitted_index != 0 || raft->leader_state.promotee_id != 0) return NULL;
    raft->legacy.change = NULL;
    return change;
}

static void changed_cb(struct raft_change *change, int status);

static void end_forgotten(struct raft_loop *loop) {
    struct raft_change *forgotten = raft_loop_take_forgotten(&loop->raft);
    if (forgotten != NULL) changed_cb(forgotten, RAFT_CANCELED);
}

static void timer_cb(uv_timer_t *timer) {
    struct raft_loop *loop = timer->data;
    free_finished(loop);
    watch_disk(loop);
    if (loop->started) watch_state(loop);
    if (loop->started && !loop->failed) end_forgotten(loop);
    if (!loop->failed) loop->options.tick_cb(loop->options.arg);
}

static void turn_cb(uv_prepare_t *turn) {
    struct raft_loop *loop = turn->data;
    if (!loop->failed) loop->options.turn_cb(loop->options.arg);
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
    (void)uv_prepare_init(&loop->uv, &loop->turn);
    loop->turn.data = loop;
    return SK_OK;
}

static int init_transport(struct raft_loop *loop, char *text, size_t text_bytes) {
    loop->alone = alone;
    if (loop->options.secret.size == 0) return SK_OK;
    struct transport_options options = {.loop = &loop->uv,
                                        .secret = loop->options.secret,
                                        .bind = loop->options.bind_address,
                                        .tls = cluster_net_identity(),
                                        .arg = loop,
                                        .self_cb = self_cb,
                                        .is_member_cb = is_member_cb,
                                        .address_cb = address_cb,
                                        .met_cb = met_cb};
    int err = transport_new(&loop->transport, &options);
    if (err != SK_OK) (void)snprintf(text, text_bytes, "%s: %s", loop->options.bind_address, error_text(err));
    return err;
}

static int init_io(struct raft_loop *loop, char *text, size_t text_bytes) {
    struct raft_uv_transport *transport = loop->transport != NULL ? transport_raft(loop->transport) : &loop->alone;
    int code = raft_uv_init(&loop->io, &loop->uv, loop->options.directory, transport);
    if (code != 0) return open_failed(code, loop->options.directory, loop->io.errmsg, text, text_bytes);
    loop->set_term = loop->io.set_term;
    loop->io.set_term = set_term_wrapped;
    loop->set_vote = loop->io.set_vote;
    loop->io.set_vote = set_vote_wrapped;
    loop->snapshot_put = loop->io.snapshot_put;
    loop->io.snapshot_put = snapshot_put_wrapped;
    loop->snapshot_get = loop->io.snapshot_get;
    loop->io.snapshot_get = snapshot_get_wrapped;
    loop->send = loop->io.send;
    loop->io.send = send_wrapped;
    loop->start = loop->io.start;
    loop->io.start = start_wrapped;
    raft_uv_set_segment_size(&loop->io, SEGMENT_BYTES);
    raft_uv_set_disk_retry(&loop->io, DISK_RETRY_MS);
    raft_uv_set_connect_retry_delay(&loop->io, CONNECT_RETRY_MS);
    /* On by default: it would rename damaged segments and go on with what is left of the log. */
    raft_uv_set_auto_recovery(&loop->io, false);
    return SK_OK;
}

static int init_raft(struct raft_loop *loop, char *text, size_t text_bytes) {
    int code = raft_init(&loop->raft, &loop->io, loop->options.fsm, loop->options.server_id, loop->options.name);
    if (code != 0) return open_failed(code, "raft", raft_errmsg(&loop->raft), text, text_bytes);
    raft_set_election_timeout(&loop->raft, ELECTION_TIMEOUT_MS);
    raft_set_heartbeat_timeout(&loop->raft, HEARTBEAT_MS);
    raft_set_pre_vote(&loop->raft, true);
    raft_set_snapshot_threshold(&loop->raft, SNAPSHOT_THRESHOLD);
    raft_set_snapshot_trailing(&loop->raft, SNAPSHOT_TRAILING);
    return SK_OK;
}

static void close_handles(struct raft_loop *loop) {
    uv_close((uv_handle_t *)&loop->async, NULL);
    uv_close((uv_handle_t *)&loop->timer, NULL);
    uv_close((uv_handle_t *)&loop->turn, NULL);
}

/* After raft_close nothing of libraft is on the loop any more. */
static void raft_closed_cb(struct raft *raft) {
    struct raft_loop *loop = loop_of(raft, raft);
    raft_uv_close(&loop->io);
    close_handles(loop);
}

static void finish_uv(struct raft_loop *loop) {
    while (uv_run(&loop->uv, UV_RUN_DEFAULT) != 0) continue; /* an earlier uv_stop ends the first run at once */
    transport_free(loop->transport);
    int code = uv_loop_close(&loop->uv);
    sk_assert(code == 0);
}

int raft_loop_open(struct raft_loop **out, const struct raft_loop_options *options, char *text,
                   size_t text_bytes) {
    struct raft_loop *loop = calloc(1, sizeof *loop);
    if (loop == NULL) {
        (void)snprintf(text, text_bytes, "out of memory");
        return SK_ENOMEM;
    }
    loop->options = *options;
    int err = init_uv(loop);
    if (err != SK_OK) {
        (void)snprintf(text, text_bytes, "the event loop: %s", error_text(err));
        free(loop);
        return err;
    }
    err = init_transport(loop, text, text_bytes);
    if (err == SK_OK) err = init_io(loop, text, text_bytes);
    if (err == SK_OK) {
        err = init_raft(loop, text, text_bytes);
        if (err != SK_OK) raft_uv_close(&loop->io);
    }
    if (err != SK_OK) {
        close_handles(loop);
        finish_uv(loop);
        free(loop);
        return err;
    }
    (void)uv_timer_start(&loop->timer, timer_cb, 0, RAFT_LOOP_TICK_MS);
    (void)uv_prepare_start(&loop->turn, turn_cb);
    *out = loop;
    return SK_OK;
}

/* One that was interrupted after that finds it there. */
static int form(struct raft_loop *loop, char *text, size_t text_bytes) {
    struct raft_configuration configuration;
    raft_configuration_init(&configuration);
    int code = raft_configuration_add(&configuration, loop->options.server_id, loop->options.name, RAFT_VOTER);
    if (code == 0) code = raft_bootstrap(&loop->raft, &configuration);
    raft_configuration_close(&configuration);
    if (code == 0 || code == RAFT_CANTBOOTSTRAP) return SK_OK;
    return open_failed(code, loop->options.directory, raft_errmsg(&loop->raft), text, text_bytes);
}

/* libraft's checksum of a batch's header: CRC-32 by its polynomial, highest bit first, from 0, as its files show. */
static uint32_t add_to_checksum(uint32_t sum, const uint8_t *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        sum ^= (uint32_t)bytes[i] << 24;
        for (int bit = 0; bit < 8; bit++) sum = sum << 1 ^ ((sum & 0x80000000u) != 0 ? 0x04c11db7u : 0);
    }
    return sum;
}

/* A batch of entries in an open segment, which begins with eight bytes of its own. All is little-endian: two checksums of four bytes,
 * the first of what follows them up to the entries; the number of entries; for each of them sixteen bytes, of which the last
 * four are its size; the entries. */
struct batch {
    off_t end;  /* behind it */
    bool sound; /* its header is what was written */
};

enum batch_result { BATCH_READ, BATCH_NONE, BATCH_NONSENSE };

/* NONSENSE: libraft would not survive what it says, or the file ends within it. */
static enum batch_result read_batch(int fd, off_t at, off_t size, struct batch *batch) {
    uint8_t head[16], entry[16];
    uint32_t checksum;
    uint64_t count;
    if (at + (off_t)sizeof head > size || pread(fd, head, sizeof head, at) != sizeof head) return BATCH_NONSENSE;
    memcpy(&checksum, head, sizeof checksum);
    memcpy(&count, head + 8, sizeof count);
    count = le64toh(count);
    if (count == 0) return BATCH_NONE;
    if (count > SEGMENT_BYTES / sizeof entry) return BATCH_NONSENSE;
    uint32_t sum = add_to_checksum(0, head + 8, 8);
    batch->end = at + (off_t)(sizeof head + sizeof entry * count);
    for (uint64_t i = 0; i < count; i++) {
        uint32_t bytes;
        off_t from = at + (off_t)(sizeof head + sizeof entry * i);
        if (pread(fd, entry, sizeof entry, from) != sizeof entry) return BATCH_NONSENSE;
        memcpy(&bytes, entry + 12, sizeof bytes);
        batch->end += le32toh(bytes);
        sum = add_to_checksum(sum, entry, sizeof entry);
    }
    batch->sound = sum == le32toh(checksum);
    return batch->end > size ? BATCH_NONSENSE : BATCH_READ;
}

/* 0.22 believes a batch's header before it has looked at its checksum: it allocates and reads as much as that says, and dies of
 * nonsense. It also frees entries twice when an open segment ends within a batch of them; it makes these files with their full
 * size, and cuts them to what is in them before it gives them the name of a closed one. Where a write was torn it does what
 * it should, and so it does where the entries are damaged: it drops them, which check_seen notices. */
static bool is_readable(int fd, off_t size) {
    struct batch batch;
    bool whole = size >= (off_t)SEGMENT_BYTES;
    for (off_t at = 8; whole || at < size; at = batch.end) {
        if (whole && at + 16 > size) return true;
        enum batch_result result = read_batch(fd, at, size, &batch);
        if (result != BATCH_READ) return result == BATCH_NONE && whole;
        if (!batch.sound && whole) return true; /* it goes no further either */
    }
    return true;
}

static int check_open_segment(const struct raft_loop *loop, const char *name, char *text, size_t text_bytes) {
    char path[PATH_MAX];
    uint64_t format = 0;
    struct stat status;
    (void)snprintf(path, sizeof path, "%s/%s", loop->options.directory, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return SK_OK; /* libraft says what is wrong with it */
    bool begun = pread(fd, &format, sizeof format, 0) == sizeof format && format != 0;
    bool readable = fstat(fd, &status) != 0 || is_readable(fd, status.st_size);
    (void)close(fd);
    if (!begun || readable) return SK_OK;
    (void)snprintf(text, text_bytes, "%s: damaged: what it says of a batch of entries cannot be", path);
    return SK_ECORRUPT;
}

static int check_segments(const struct raft_loop *loop, char *text, size_t text_bytes) {
    int err = SK_OK;
    DIR *directory = opendir(loop->options.directory);
    if (directory == NULL) return SK_OK; /* likewise */
    for (struct dirent *file; err == SK_OK && (file = readdir(directory)) != NULL;) {
        if (strncmp(file->d_name, "open-", 5) != 0) continue;
        err = check_open_segment(loop, file->d_name, text, text_bytes);
    }
    (void)closedir(directory);
    return err;
}

static int lost(const struct raft_loop *loop, const char *what, uint64_t seen, uint64_t found, char *text,
                size_t text_bytes) {
    (void)snprintf(text, text_bytes, "%s: damaged: %s was %llu, and is %llu", loop->options.directory, what,
                   (unsigned long long)seen, (unsigned long long)found);
    return SK_ECORRUPT;
}

static int check_seen(const struct raft_loop *loop, struct raft_loop_seen seen, char *text, size_t text_bytes) {
    uint64_t term = raft_loop_term(loop), vote = loop->raft.voted_for, index = raft_loop_last_index(loop);
    if (term < seen.term)
        return lost(loop, "the term in metadata1 and metadata2", seen.term, term, text, text_bytes);
    if (term == seen.term && seen.vote != 0 && vote != seen.vote) {
        return lost(loop, "the vote in metadata1 and metadata2", seen.vote, vote, text, text_bytes);
    }
    if (index < seen.index) return lost(loop, "the end of the log", seen.index, index, text, text_bytes);
    return SK_OK;
}

/* It would lead itself. */
static bool is_alone(const struct raft_loop *loop) {
    const struct raft_configuration *configuration = &loop->raft.configuration;
    return configuration->n == 1 && configuration->servers[0].id == loop->options.server_id;
}

int raft_loop_start(struct raft_loop *loop, enum raft_loop_start how, struct raft_loop_seen seen, char *text,
                    size_t text_bytes) {
    sk_assert(!loop->started);
    int err = check_segments(loop, text, text_bytes);
    if (err == SK_OK && how == RAFT_LOOP_FORM) err = form(loop, text, text_bytes);
    if (err != SK_OK) return err;
    int code = raft_start(&loop->raft);
    if (code != 0) {
        const char *listening = loop->transport == NULL ? "" : transport_raft(loop->transport)->errmsg;
        if (code == RAFT_IOERR && strncmp(listening, "bind", 4) == 0) {
            (void)snprintf(text, text_bytes, "%s", listening);
            return SK_ENET;
        }
        return open_failed(code, loop->options.directory, raft_errmsg(&loop->raft), text, text_bytes);
    }
    loop->started = true;
    if (how != RAFT_LOOP_JOIN && raft_last_index(&loop->raft) == 0) {
        return open_failed(RAFT_CORRUPT, loop->options.directory, "the log of an earlier run is missing", text,
                           text_bytes);
    }
    if (how == RAFT_LOOP_JOIN && is_alone(loop)) {
        (void)snprintf(text, text_bytes, "%s: the beginning of another group, without a cluster: remove it",
                       loop->options.directory);
        return SK_ECONFIG;
    }
    err = check_seen(loop, seen, text, text_bytes);
    if (err == SK_OK)
        (void)raft_loop_begin_term(&loop->raft); /* set_term_wrapped does not return with a failure */
    return err;
}

void raft_loop_run(struct raft_loop *loop) { (void)uv_run(&loop->uv, UV_RUN_DEFAULT); }

void raft_loop_stop(struct raft_loop *loop) { uv_stop(&loop->uv); }

void raft_loop_wake(struct raft_loop *loop) { (void)uv_async_send(&loop->async); }

void raft_loop_close(struct raft_loop *loop) {
    if (loop == NULL) return;
    (void)uv_timer_stop(&loop->timer);
    (void)uv_prepare_stop(&loop->turn);
    raft_close(&loop->raft, raft_closed_cb);
    finish_uv(loop);
    free_finished(loop);
    free(loop);
}

/* ---- what the others ask ---- */

bool raft_loop_leads(const struct raft_loop *loop) { return loop->leads; }

uint64_t raft_loop_leader(const struct raft_loop *loop) {
    raft_id id;
    const char *address;
    raft_leader(raft_of(loop), &id, &address);
    return id;
}

uint64_t raft_loop_term(const struct raft_loop *loop) { return raft_current_term(&loop->raft); }

uint64_t raft_loop_commit_index(const struct raft_loop *loop) { return raft_commit_index(&loop->raft); }

uint64_t raft_loop_last_index(const struct raft_loop *loop) { return raft_last_index(raft_of(loop)); }

struct raft_loop_seen raft_loop_seen(const struct raft_loop *loop) {
    uint64_t applied = raft_last_applied(raft_of(loop)), stored = loop->raft.last_stored;
    return (struct raft_loop_seen){raft_loop_term(loop), loop->raft.voted_for,
                                   applied < stored ? applied : stored};
}

uint64_t raft_loop_disk_waits_ms(const struct raft_loop *loop) {
    bool waits = loop->stored < raft_loop_last_index(loop);
    return waits ? clock_boottime_ms() - loop->stored_ms : 0;
}

uint32_t raft_loop_servers(const struct raft_loop *loop, struct raft_loop_server servers[RAFT_LOOP_SERVERS_MAX]) {
    const struct raft_configuration *configuration = &loop->raft.configuration;
    sk_assert(configuration->n <= RAFT_LOOP_SERVERS_MAX);
    for (unsigned i = 0; i < configuration->n; i++) {
        const struct raft_server *server = &configuration->servers[i];
        servers[i] = (struct raft_loop_server){server->id, server->address, server->role == RAFT_VOTER,
                                               is_heard(loop, server->id)};
    }
    return configuration->n;
}

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

static void changed_cb(struct raft_change *change, int status) { request_finish(change->data, status); }

int raft_loop_change(struct raft_loop *loop, enum raft_loop_change change, uint64_t id, const char *name,
                     raft_loop_done_cb done_cb, void *arg) {
    struct raft_loop_server servers[RAFT_LOOP_SERVERS_MAX];
    if (change == RAFT_LOOP_ADD && raft_loop_servers(loop, servers) == RAFT_LOOP_SERVERS_MAX)
        return SK_UNAVAILABLE;
    struct request *request = request_new(loop, done_cb, arg);
    if (request == NULL) return SK_ENOMEM;
    request->change.data = request;
    int code = 0;
    switch (change) {
    case RAFT_LOOP_ADD:
        code = raft_add(&loop->raft, &request->change, id, name, changed_cb);
        break;
    case RAFT_LOOP_PROMOTE:
        code = raft_assign(&loop->raft, &request->change, id, RAFT_VOTER, changed_cb);
        /* 0.22 keeps it also if it has refused. */
        if (code != 0 && loop->raft.legacy.change == &request->change) loop->raft.legacy.change = NULL;
        break;
    case RAFT_LOOP_REMOVE:
        code = raft_remove(&loop->raft, &request->change, id, changed_cb);
        break;
    }
    if (code != 0) free(request);
    return refusal_of(code);
}

static void transferred_cb(struct raft_transfer *transfer) { request_finish(transfer->data, 0); }

/* libraft's own choice may be one that is dead. 0 = there is none. */
static raft_id find_successor(struct raft_loop *loop) {
    struct raft_loop_server servers[RAFT_LOOP_SERVERS_MAX];
    uint32_t count = raft_loop_servers(loop, servers);
    raft_id successor = 0;
    raft_index most = 0;
    for (uint32_t i = 0; i < count; i++) {
        raft_index match;
        if (!servers[i].votes || !servers[i].heard || servers[i].id == loop->options.server_id) continue;
        if (raft_match_index(&loop->raft, servers[i].id, &match) != 0 || match < most) continue;
        successor = servers[i].id;
        most = match;
    }
    return successor;
}

int raft_loop_transfer(struct raft_loop *loop, raft_loop_done_cb done_cb, void *arg) {
    if (raft_state(&loop->raft) != RAFT_LEADER) return SK_NOT_LEADER;
    raft_id successor = find_successor(loop);
    if (successor == 0) return SK_UNAVAILABLE;
    struct request *request = request_new(loop, done_cb, arg);
    if (request == NULL) return SK_ENOMEM;
    request->transfer.data = request;
    int code = raft_transfer(&loop->raft, &request->transfer, successor, transferred_cb);
    if (code != 0) free(request);
    return refusal_of(code);
}

int raft_loop_ask(struct raft_loop *loop, const char *address, transport_asked_cb asked_cb, void *arg) {
    if (loop->transport == NULL) return SK_UNAVAILABLE;
    return transport_ask(loop->transport, address, asked_cb, arg);
}
