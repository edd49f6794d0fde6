/* The one thread of metad: a libuv loop with libraft 0.22 on it. Everything that is known of libraft's ways is in
 * the .c file, at the line that needs it; the other files see commands, barriers and who leads. All functions
 * belong to the thread that runs the loop, except raft_loop_wake. RAFT_ codes become sk_err here.
 *
 * 0.15, which bookworm itself carries, loses committed entries: it counts replicas for entries of older terms
 * (Raft paper, section 5.4.2). */
#pragma once

#include "libcommon/slice.h"

#include <raft.h>
#include <uv.h>

#define RAFT_LOOP_SERVERS_MAX 5

struct raft_loop;

/* A server of the group. */
struct raft_loop_server {
    uint64_t id;         /* > 0 */
    const char *address; /* "host:port" of its Raft socket */
};

struct raft_loop_options {
    const char *directory; /* exists */
    bool form;             /* first start: the log begins with these servers. Else it must be there already. */
    uint64_t server_id;    /* of this one, among `servers` */
    const char *bind_address;
    const struct raft_loop_server *servers; /* borrowed until raft_loop_open returns */
    uint32_t server_count;                  /* 1, 3 or 5 */
    struct raft_fsm *fsm;                   /* borrowed until raft_loop_close returns */
    void *arg;                              /* of the callbacks */
    void (*role_cb)(void *arg);             /* this server has become leader, or is none any more */
    void (*tick_cb)(void *arg);             /* every RAFT_LOOP_TICK_MS */
    void (*wake_cb)(void *arg);             /* some time after raft_loop_wake; one call may stand for many */
    /* The server cannot go on (a fault of disk or state machine, said by `text`): the loop has been stopped. */
    void (*fault_cb)(void *arg, int err, const char *text);
};

#define RAFT_LOOP_TICK_MS 20u

/* Loads the log, applies what is known to be committed, and starts. Callbacks come only from raft_loop_run, except
 * those of the fsm. On failure `text` says why: SK_ECORRUPT (the files are damaged, or missing though `form` is
 * false), SK_ENET (the address is taken), SK_ECONFIG (not an address), SK_EIO, SK_ENOMEM. */
int raft_loop_open(struct raft_loop **loop, const struct raft_loop_options *options, char *text,
                   size_t text_bytes);

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
 *
 * For send functions of struct raft_io: `loaded` is what its snapshot_get has delivered last. */
void raft_loop_correct_message(const struct raft *raft, const struct raft_loop_loaded *loaded,
                               struct raft_message *message);
