/* Which servers form this metad group, and where each of them is.
 *
 * A server's id is its data directory's; its name ("host:port", libcommon/metad_names.h) only says where it is now. All
 * servers of a group are started with one list of names. The first in it forms the group, alone, once all the others have
 * said that they are new; then, as the leader, it adds them one by one. A server that is new while the group is not (its disk
 * was lost) waits until a person adds it: the one that it was may have voted, and that must not be forgotten unseen.
 *
 * Who is where is learnt from each handshake (metad/transport.h), and the names of the list are asked again and again; so a
 * group that was moved to new addresses as a whole finds itself.
 *
 * On the thread of the Raft loop. */
#pragma once

#include "libcommon/metad_names.h"
#include "metad/raft_loop.h"

#define GROUP_TEXT_BYTES 384u

struct group;

struct group_options {
    uint64_t id;                     /* of this server */
    const char *name;                /* its own; copied */
    char (*peers)[METAD_NAME_BYTES]; /* the list, copied */
    uint32_t peer_count;             /* 0 = none was given */
    void *arg;
    uint64_t (*cluster_cb)(void *arg); /* that this server knows; 0 = none */
    /* Once, unless group_start has: how the Raft loop is to be started. */
    void (*start_cb)(void *arg, enum raft_loop_start how);
};

/* SK_ENOMEM. */
int group_new(struct group **group, const struct group_options *options);
void group_free(struct group *group); /* after raft_loop_close; NULL is allowed */

/* Borrowed from here on. */
void group_attach(struct group *group, struct raft_loop *loop);

/* Whether it is known already how to start; else start_cb tells. */
bool group_knows_start(const struct group *group, enum raft_loop_start *how);

/* Every RAFT_LOOP_TICK_MS. `ready`: this server leads, and all that was committed before is applied. */
void group_on_tick(struct group *group, bool ready);

/* For the Raft loop's options. */
void group_self(struct group *group, struct handshake_server *self);
void group_address(struct group *group, uint64_t id, const char *name, char address[TRANSPORT_ADDRESS_BYTES]);
void group_met(struct group *group, const struct handshake_server *server);

/* What became of a person's wish: SK_OK, or why not, with one line of `text`. */
typedef void (*group_done_cb)(void *arg, int err, const char *text);

enum group_wish { GROUP_ADD, GROUP_REMOVE };

/* Adds the server that is there now, in place of the one that was there before if that is another, or removes the one of that
 * name; on the leader. done_cb always comes, at once or later. SK_BUSY: another wish is under way. */
void group_wish(struct group *group, enum group_wish wish, struct slice name, group_done_cb done_cb, void *arg);

/* As many vote as the list names. */
bool group_is_complete(const struct group *group);

/* Ends a wish that is under way: this server leads no more, or ends. */
void group_give_up(struct group *group);

/* Where a server is, as far as is known: its name. Borrowed until the next event of the loop; NULL = not known. */
const char *group_name_of(const struct group *group, uint64_t id);
