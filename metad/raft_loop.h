/* The one thread of metad: a libuv loop with libraft 0.22 on it. Everything that is known of libraft's ways is in
 * the .c file, at the line that needs it; the other files see commands, barriers and who leads. All functions
 * belong to the thread that runs the loop, except raft_loop_wake. RAFT_ codes become sk_err here.
 *
 * 0.15, which bookworm itself carries, loses committed entries: it counts replicas for entries of older terms
 * (Raft paper, section 5.4.2). */
#pragma once

#include "libcommon/slice.h"
#include "metad/transport.h"

#include <raft.h>
#include <uv.h>

#define RAFT_LOOP_SERVERS_MAX 7u /* five that vote, and two that are on their way in or out */

struct raft_loop;

/* A server of the group, by the latest configuration in this server's log. */
struct raft_loop_server {
    uint64_t id; /* > 0 */
    const char
        *name;  /* "host:port" of its requests when it was added; borrowed until the next event of the loop */
    bool votes; /* else it only follows, on its way in */
    bool
        heard; /* it is this one, or has sent something not long ago: to a leader each voter does so all the time */
};

struct raft_loop_options {
    const char *directory;      /* exists */
    uint64_t server_id;         /* > 0 */
    const char *name;           /* "host:port": in the configuration of a group that this server forms */
    struct slice secret;        /* of the group; empty: no other server is called or heard, and no port opened */
    const char *bind_address;   /* "host:port" for the others */
    struct raft_fsm *fsm;       /* borrowed until raft_loop_close returns */
    void *arg;                  /* of the callbacks */
    void (*role_cb)(void *arg); /* this server has become leader, or is none any more */
    void (*tick_cb)(void *arg); /* every RAFT_LOOP_TICK_MS, also before raft_loop_start */
    void (*turn_cb)(void *arg); /* at the end of each turn of the loop */
    void (*wake_cb)(void *arg); /* some time after raft_loop_wake; one call may stand for many */
    /* The server cannot go on (a fault of disk or state machine, said by `text`): the loop has been stopped. */
    void (*fault_cb)(void *arg, int err, const char *text);
    /* As in metad/transport.h; not called without a secret. */
    void (*self_cb)(void *arg, struct handshake_server *self);
    void (*address_cb)(void *arg, uint64_t id, const char *name, char address[TRANSPORT_ADDRESS_BYTES]);
    void (*met_cb)(void *arg, const struct handshake_server *server);
};

#define RAFT_LOOP_TICK_MS 20u

/* Nothing is read or bound yet. On failure `text` says why: SK_ECONFIG (not an address), SK_EIO, SK_ENOMEM. */
int raft_loop_open(struct raft_loop **loop, const struct raft_loop_options *options, char *text,
                   size_t text_bytes);

enum raft_loop_start {
    RAFT_LOOP_FORM,  /* the log begins with this server as the only one, if there is none yet */
    RAFT_LOOP_JOIN,  /* there may be no log yet: a leader that adds this server will send one */
    RAFT_LOOP_GO_ON, /* it must be there */
};

/* How far what libraft keeps on disk has been. It has no checksum for its term and vote, and takes damage at the end of the log
 * for an entry that was not written to its end: a server that went on so could break its word. */
struct raft_loop_seen {
    uint64_t term, vote; /* whom it has voted for in the term; 0 = nobody */
    uint64_t index;      /* of the last entry that is applied, and on this server's disk */
};

/* Loads the log, applies what is known to be committed, and takes part in the group; once. `seen`: of earlier runs, at least. Callbacks come only from
 * raft_loop_run, except those of the fsm. On failure `text` says why: SK_ECORRUPT (the files are damaged, or missing though they
 * must be there), SK_ECONFIG (RAFT_LOOP_JOIN, and the log is that of a group of its own), SK_ENET (the address is taken), SK_EIO,
 * SK_ENOMEM; what is left to do then is raft_loop_close. */
int raft_loop_start(struct raft_loop *loop, enum raft_loop_start how, struct raft_loop_seen seen, char *text,
                    size_t text_bytes);

/* Of this run, for a later one. */
struct raft_loop_seen raft_loop_seen(const struct raft_loop *loop);

/* Runs callbacks until raft_loop_stop. */
void raft_loop_run(struct raft_loop *loop);
void raft_loop_stop(struct raft_loop *loop);

/* Any thread, and signal handlers: calls wake_cb on the loop. */
void raft_loop_wake(struct raft_loop *loop);

/* Stops libraft and frees all. Proposals and barriers still open are told SK_TIMEOUT before it returns. */
void raft_loop_close(struct raft_loop *loop);

bool raft_loop_leads(const struct raft_loop *loop);

/* Who leads as far as is known; 0 = nobody. */
uint64_t raft_loop_leader(const struct raft_loop *loop);

uint64_t raft_loop_term(const struct raft_loop *loop);
uint64_t raft_loop_commit_index(const struct raft_loop *loop);

/* Says what became of a proposal or barrier: SK_OK (committed and applied here), SK_TIMEOUT (it may still come to
 * pass), or a fault. */
typedef void (*raft_loop_done_cb)(void *arg, int err);

/* Proposes an entry; `entry` is copied, its size a multiple of 8. SK_OK: done_cb follows. SK_NOT_LEADER,
 * SK_DISKFULL, SK_ENOMEM, SK_UNAVAILABLE: it surely does not happen, and done_cb is not called. */
int raft_loop_propose(struct raft_loop *loop, struct slice entry, raft_loop_done_cb done_cb, void *arg);

/* done_cb(SK_OK) once everything committed before this call is applied here and this server still leads: what is
 * read then is linearizable. Errors as for raft_loop_propose. */
int raft_loop_barrier(struct raft_loop *loop, raft_loop_done_cb done_cb, void *arg);

/* For how long entries have waited for this server's disk, 0 = none does. A leader goes on without its own while others store
 * them. */
uint64_t raft_loop_disk_waits_ms(const struct raft_loop *loop);

/* How many servers the configuration has, and who they are. */
uint32_t raft_loop_servers(const struct raft_loop *loop, struct raft_loop_server servers[RAFT_LOOP_SERVERS_MAX]);

uint64_t raft_loop_last_index(const struct raft_loop *loop);

enum raft_loop_change {
    RAFT_LOOP_ADD,     /* a server that follows and does not vote */
    RAFT_LOOP_PROMOTE, /* as soon as it has caught up, it votes */
    RAFT_LOOP_REMOVE,
};

/* Changes the configuration, one server at a time (Raft dissertation, section 4.1); `name`: of one to add. Errors as for
 * raft_loop_propose. */
int raft_loop_change(struct raft_loop *loop, enum raft_loop_change change, uint64_t id, const char *name,
                     raft_loop_done_cb done_cb, void *arg);

/* Lets another voter lead, of those that are heard of the one with most of the log; whether it does, raft_loop_leader tells after
 * done_cb. SK_OK: done_cb follows. SK_UNAVAILABLE: there is none. */
int raft_loop_transfer(struct raft_loop *loop, raft_loop_done_cb done_cb, void *arg);

/* Who is at that address? transport_ask (metad/transport.h), and SK_UNAVAILABLE without a secret. */
int raft_loop_ask(struct raft_loop *loop, const char *address, transport_asked_cb asked_cb, void *arg);

/* A snapshot that was read for a follower. */
struct raft_loop_loaded {
    raft_index index;
    raft_term term;
};

/* What libraft 0.22 gets wrong in messages, put right on their way out:
 *
 * - A server in a newer term that refuses a vote before an election answers with the candidate's term and not with its
 *   own, so the candidate stays in the older one. If it also has the longest log of those that are left, nobody is
 *   elected any more.
 * - When a newer snapshot was read than the one that was to be sent, the message has the index of the newer and the term
 *   of the older. A follower that has stored that dies of the next entry, at each start.
 * - Of several entries a follower takes the first that is new to it for the one with the configuration. If that is another, it
 *   never knows the configuration committed: as a leader it refuses every change, and if the entry does not stand, the
 *   configuration does.
 *
 * For send functions of struct raft_io: `loaded` is what its snapshot_get has delivered last. */
void raft_loop_correct_message(const struct raft *raft, const struct raft_loop_loaded *loaded,
                               struct raft_message *message);

/* Hands a message that has come on to libraft.
 *
 * 0.22 lets only those vote who are voters by their own configuration, and by that none who still hears of a leader; but who is
 * to vote need not know it yet (Raft dissertation, section 4.1: servers process requests without consulting their current
 * configuration). If the only voter made one of a server that did not hear of it, neither would ever lead. A vote that is not
 * needed is not counted.
 *
 * 0.22 knows of one configuration that is not committed. If another comes before the follower hears that it is, it is
 * forgotten: should the other not stand, the follower goes back to the one before both, and stays there. */
void raft_loop_receive(struct raft *raft, struct raft_message *message, raft_io_recv_cb receive);

/* The change that libraft 0.22 will never call back: when a server that is to vote is level, and the entry is refused
 * (RAFT_NOSPACE, RAFT_NOMEM), it keeps the request as long as it leads. It has it no longer then. NULL = there is none. */
struct raft_change *raft_loop_take_forgotten(struct raft *raft);

/* After raft_start. 0.22 has the only voter lead at once, in the term it was in: what it wrote in that before, and lost, others may
 * have been sent, and take for what it writes there next. So it leads in a new one (Raft paper, section 5.2). 0, or what storing
 * the term came to. */
int raft_loop_begin_term(struct raft *raft);

/* For snapshot_put functions of struct raft_io: whether the snapshot has the right configuration. When several are committed at one
 * go (after a start all of them can be), 0.22 may take it in between, with an older one than it is of. Refused, it is taken again
 * at the next event. */
bool raft_loop_is_sound(const struct raft *raft, const struct raft_snapshot *snapshot, unsigned trailing);
