#include "metad/group.h"

#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#define ASK_SOON_MS  500u   /* again so long after an answer, while one is needed, */
#define ASK_LATER_MS 10000u /* and while none is */
#define TELL_MS      2000u  /* who waits for others for so long says so */
#define RETRY_MS     500u   /* after a change of the group that failed */
#define PROMOTE_MS   10000u /* again, of a server that the list does not name: nobody knows whether it is there */
#define WISH_MS      45000u /* longer than libraft waits for a server that is to be promoted */
#define KNOWN_MAX    32u    /* servers whose place is remembered */

/* Of a name in the list. */
struct peer {
    char name[METAD_NAME_BYTES];
    struct group *group;
    bool asking;
    uint64_t ask_ms;                /* when next */
    bool answered;                  /* the last time */
    struct handshake_server server; /* who, then */
};

struct known {
    uint64_t id;
    uint64_t met_ms;
    char name[METAD_NAME_BYTES];
};

struct wish {
    enum group_wish kind;
    char name[METAD_NAME_BYTES];
    uint64_t number; /* from 1 */
    bool begun;      /* GROUP_ADD: it is known who is there; GROUP_REMOVE: it has been told to go */
    struct handshake_server server;
    uint64_t deadline_ms;
    group_done_cb done_cb; /* NULL = there is no wish */
    void *arg;
};

struct group {
    struct group_options options;
    char name[METAD_NAME_BYTES];
    struct peer peers[METAD_SERVERS_MAX];
    uint32_t peer_count;
    uint64_t digest; /* of the list */
    struct raft_loop *loop;
    bool started; /* it is decided how */
    bool told;    /* that it waits */
    uint64_t begin_ms;

    struct known known[KNOWN_MAX];
    uint32_t known_count;

    bool changing;       /* the configuration, */
    uint64_t change_ms;  /* and not again before this */
    uint64_t promote_ms; /* nor of a server that the list does not name */
    struct wish wish;
    uint64_t wishes;    /* so far */
    uint64_t asked_for; /* the number of the wish that somebody is being asked for; 0 = of none */
};

/* ---- who is where ---- */

static struct known *find_known(struct group *group, uint64_t id) {
    for (uint32_t i = 0; i < group->known_count; i++) {
        if (group->known[i].id == id) return &group->known[i];
    }
    return NULL;
}

static struct known *make_known(struct group *group) {
    if (group->known_count < KNOWN_MAX) return &group->known[group->known_count++];
    struct known *oldest = &group->known[0];
    for (uint32_t i = 1; i < KNOWN_MAX; i++) {
        if (group->known[i].met_ms < oldest->met_ms) oldest = &group->known[i];
    }
    return oldest;
}

void group_met(struct group *group, const struct handshake_server *server) {
    struct known *known = find_known(group, server->id);
    if (known == NULL) known = make_known(group);
    if (known->id != server->id || strcmp(known->name, server->name) != 0) {
        log_event(LOG_INFO, "server_met", "server=%016" PRIx64 " name=%s", server->id, server->name);
    }
    *known = (struct known){.id = server->id, .met_ms = clock_boottime_ms()};
    (void)snprintf(known->name, sizeof known->name, "%s", server->name);
}

static const struct raft_loop_server *find_id(const struct raft_loop_server *servers, uint32_t count,
                                              uint64_t id) {
    for (uint32_t i = 0; i < count; i++) {
        if (servers[i].id == id) return &servers[i];
    }
    return NULL;
}

const char *group_name_of(const struct group *group, uint64_t id) {
    struct raft_loop_server servers[RAFT_LOOP_SERVERS_MAX];
    if (id == group->options.id) return group->name;
    for (uint32_t i = 0; i < group->known_count; i++) {
        if (group->known[i].id == id) return group->known[i].name;
    }
    const struct raft_loop_server *server = find_id(servers, raft_loop_servers(group->loop, servers), id);
    return server != NULL ? server->name : NULL;
}

static void raft_address(const char *name, char address[TRANSPORT_ADDRESS_BYTES]) {
    if (metad_name_shift(name, METAD_RAFT_OFFSET, address, TRANSPORT_ADDRESS_BYTES) != SK_OK) address[0] = '\0';
}

void group_address(struct group *group, uint64_t id, const char *name, char address[TRANSPORT_ADDRESS_BYTES]) {
    const struct known *known = find_known(group, id);
    raft_address(known != NULL ? known->name : name, address);
}

void group_self(struct group *group, struct handshake_server *self) {
    self->cluster = group->options.cluster_cb(group->options.arg);
    self->peers = group->digest;
    (void)snprintf(self->name, sizeof self->name, "%s", group->name);
}

/* ---- the names in the list ---- */

static bool is_self(const struct group *group, const struct peer *peer) {
    return strcmp(peer->name, group->name) == 0;
}

static bool is_new(const struct handshake_server *server) {
    return server->cluster == 0 && server->last_index == 0;
}

/* Whether it matters soon who is at that name. */
static bool is_urgent(const struct group *group, const struct peer *peer) {
    struct raft_loop_server servers[RAFT_LOOP_SERVERS_MAX];
    return !group->started || !peer->answered || raft_loop_servers(group->loop, servers) < group->peer_count;
}

static void peer_asked_cb(void *arg, int err, const struct handshake_server *server) {
    struct peer *peer = arg;
    struct group *group = peer->group;
    peer->asking = false;
    peer->answered = err == SK_OK;
    if (err == SK_OK) peer->server = *server;
    peer->ask_ms = clock_boottime_ms() + (is_urgent(group, peer) ? ASK_SOON_MS : ASK_LATER_MS);
}

static void ask_peers(struct group *group, uint64_t now_ms) {
    for (uint32_t i = 0; i < group->peer_count; i++) {
        struct peer *peer = &group->peers[i];
        char address[TRANSPORT_ADDRESS_BYTES];
        if (is_self(group, peer) || peer->asking || now_ms < peer->ask_ms) continue;
        raft_address(peer->name, address);
        peer->asking = raft_loop_ask(group->loop, address, peer_asked_cb, peer) == SK_OK;
        peer->ask_ms = now_ms + ASK_SOON_MS;
    }
}

/* ---- the beginning ---- */

bool group_knows_start(const struct group *group, enum raft_loop_start *how) {
    *how = RAFT_LOOP_GO_ON;
    if (group->options.cluster_cb(group->options.arg) != 0) return true;
    bool first = group->peer_count == 0 || is_self(group, &group->peers[0]);
    *how = first ? RAFT_LOOP_FORM : RAFT_LOOP_JOIN;
    return !first || group->peer_count <= 1;
}

/* Of the first server in the list, whose own directory is new. False = not decided yet: somebody has not answered, or was
 * started with another list, so that it could be forming a group of its own. */
static bool decide_start(const struct group *group, enum raft_loop_start *how) {
    bool all_new = true;
    *how = RAFT_LOOP_FORM;
    for (uint32_t i = 0; i < group->peer_count; i++) {
        const struct peer *peer = &group->peers[i];
        if (is_self(group, peer)) continue;
        if (peer->answered && !is_new(&peer->server)) {
            *how = RAFT_LOOP_JOIN;
            return true;
        }
        all_new = all_new && peer->answered && peer->server.peers == group->digest;
    }
    return all_new;
}

static void tell_who_is_missing(struct group *group, uint64_t now_ms) {
    if (group->told || now_ms - group->begin_ms < TELL_MS) return;
    group->told = true;
    for (uint32_t i = 0; i < group->peer_count; i++) {
        const struct peer *peer = &group->peers[i];
        if (is_self(group, peer)) continue;
        if (!peer->answered) {
            log_event(LOG_WARNING, "waiting_for_server", "name=%s text=\"the group is formed when all have come\"",
                      peer->name);
        } else if (peer->server.peers != group->digest) {
            log_event(LOG_WARNING, "waiting_for_server", "name=%s text=\"it was started with other --peers\"",
                      peer->name);
        }
    }
}

static void try_start(struct group *group, uint64_t now_ms) {
    enum raft_loop_start how;
    if (!decide_start(group, &how)) {
        tell_who_is_missing(group, now_ms);
        return;
    }
    group->started = true;
    if (how == RAFT_LOOP_JOIN) {
        log_event(LOG_WARNING, "waiting_to_be_added",
                  "text=\"the group is there, and this server's directory is new\"");
    }
    group->options.start_cb(group->options.arg, how);
}

/* ---- changes ---- */

static void end_wish(struct group *group, int err, const char *text) {
    struct wish wish = group->wish;
    group->wish = (struct wish){0};
    if (wish.done_cb != NULL) wish.done_cb(wish.arg, err, text);
}

static void end_wish_of(struct group *group, int err, const char *what) {
    char text[GROUP_TEXT_BYTES];
    (void)snprintf(text, sizeof text, "%.*s: %s", (int)METAD_NAME_BYTES, group->wish.name, what);
    end_wish(group, err, text);
}

static void changed_cb(void *arg, int err) {
    struct group *group = arg;
    group->changing = false;
    if (err == SK_OK) return;
    log_event(LOG_WARNING, "server_change_failed", "error=%s", error_name(err));
    group->change_ms = clock_boottime_ms() + RETRY_MS;
}

static void change(struct group *group, enum raft_loop_change kind, uint64_t id, const char *name) {
    static const char *const events[] = {"server_adding", "server_promoting", "server_removing"};
    log_event(LOG_INFO, events[kind], "server=%016" PRIx64 " name=%s", id, name);
    int err = raft_loop_change(group->loop, kind, id, name, changed_cb, group);
    group->changing = err == SK_OK;
    if (err != SK_OK) changed_cb(group, err);
}

/* libraft says the same when nobody has taken over. Until it knows that, it takes no entries; so not again at once. */
static void transferred_cb(void *arg, int err) {
    struct group *group = arg;
    (void)err;
    group->changing = false;
    group->change_ms = clock_boottime_ms() + RETRY_MS;
}

/* Its own removal another leader has to see to. */
static void hand_over(struct group *group) {
    int err = raft_loop_transfer(group->loop, transferred_cb, group);
    group->changing = err == SK_OK;
    if (err != SK_OK) transferred_cb(group, err);
}

/* By where it is, as far as is known: one that has moved is not where it was when it came. */
static const struct raft_loop_server *find_named(const struct group *group, const struct raft_loop_server *servers,
                                                 uint32_t count, const char *name) {
    for (uint32_t i = 0; i < count; i++) {
        const char *known = group_name_of(group, servers[i].id);
        if (strcmp(known, name) == 0) return &servers[i];
    }
    return NULL;
}

static bool is_last_voter(const struct raft_loop_server *servers, uint32_t count, uint64_t id) {
    for (uint32_t i = 0; i < count; i++) {
        if (servers[i].votes && servers[i].id != id) return false;
    }
    return true;
}

/* The others decide about a removal without whoever goes. */
static bool is_needed(const struct raft_loop_server *servers, uint32_t count, uint64_t id) {
    uint32_t voters = 0, heard = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!servers[i].votes || servers[i].id == id) continue;
        voters++;
        heard += servers[i].heard;
    }
    return heard <= voters / 2;
}

static void step_remove(struct group *group, const struct raft_loop_server *servers, uint32_t count) {
    const struct raft_loop_server *server = find_named(group, servers, count, group->wish.name);
    bool begun = group->wish.begun;
    if (server == NULL) {
        end_wish_of(group, begun ? SK_OK : SK_NOT_FOUND, "no server of the group");
    } else if (is_last_voter(servers, count, server->id)) {
        end_wish_of(group, SK_BADREQUEST, "the only server that votes cannot be removed");
    } else if (is_needed(servers, count, server->id)) {
        end_wish_of(group, SK_UNAVAILABLE, "of the others too few are heard of to go on without it");
    } else if (server->id == group->options.id) {
        hand_over(group);
    } else {
        group->wish.begun = true;
        change(group, RAFT_LOOP_REMOVE, server->id, server->name);
    }
}

static void wish_asked_cb(void *arg, int err, const struct handshake_server *server) {
    struct group *group = arg;
    struct wish *wish = &group->wish;
    bool given_up = group->asked_for != wish->number;
    group->asked_for = 0;
    if (given_up) return;
    if (err == SK_OK) {
        wish->begun = true;
        wish->server = *server;
    } else if (err == SK_CONFLICT) {
        end_wish_of(group, SK_CONFLICT, "a server of another cluster");
    } else if (err == SK_EPROTO) {
        end_wish_of(group, SK_UNAVAILABLE, "no metad server, or one with another secret or other certificates");
    } else {
        end_wish_of(group, SK_UNAVAILABLE, error_text(err));
    }
}

static void ask_for_wish(struct group *group) {
    char address[TRANSPORT_ADDRESS_BYTES];
    raft_address(group->wish.name, address);
    int err = raft_loop_ask(group->loop, address, wish_asked_cb, group);
    if (err == SK_OK) {
        group->asked_for = group->wish.number;
    } else if (err == SK_UNAVAILABLE) {
        end_wish_of(group, SK_UNAVAILABLE, "the leader was started without --secret-file, and calls nobody");
    } else {
        end_wish_of(group, SK_UNAVAILABLE, error_text(err));
    }
}

/* The one that was there before goes first: with it the group might have no majority for the newcomer. */
static void step_add(struct group *group, const struct raft_loop_server *servers, uint32_t count) {
    const struct wish *wish = &group->wish;
    if (!wish->begun) {
        if (group->asked_for == 0) ask_for_wish(group);
        return;
    }
    const struct raft_loop_server *server = find_id(servers, count, wish->server.id);
    const struct raft_loop_server *before = find_named(group, servers, count, wish->name);
    if (server != NULL && server->votes) {
        end_wish(group, SK_OK, "");
    } else if (server != NULL) {
        change(group, RAFT_LOOP_PROMOTE, server->id, server->name);
    } else if (wish->server.cluster == 0 &&
               wish->server.last_index > 0) { /* it is forming one, or was interrupted in that */
        end_wish_of(group, SK_CONFLICT, "a server with a log of its own; only one that is new can be added");
    } else if (before != NULL && before->id == group->options.id) {
        end_wish_of(group, SK_BADREQUEST, "the leader's own name");
    } else if (before != NULL && is_needed(servers, count, before->id)) {
        end_wish_of(group, SK_UNAVAILABLE, "too few others are heard of to put another in its place");
    } else if (before != NULL) {
        change(group, RAFT_LOOP_REMOVE, before->id, before->name);
    } else {
        change(group, RAFT_LOOP_ADD, wish->server.id, wish->name);
    }
}

static void step_wish(struct group *group, const struct raft_loop_server *servers, uint32_t count) {
    if (group->wish.kind == GROUP_ADD) {
        step_add(group, servers, count);
    } else {
        step_remove(group, servers, count);
    }
}

/* Whoever has been taken in is to vote, also if the person who wanted that has been told that the leader was changing. */
static void promote_unlisted(struct group *group, const struct raft_loop_server *servers, uint32_t count) {
    uint64_t now_ms = clock_boottime_ms();
    if (now_ms < group->promote_ms) return;
    group->promote_ms = now_ms + PROMOTE_MS;
    for (uint32_t i = 0; i < count; i++) {
        if (servers[i].votes) continue;
        change(group, RAFT_LOOP_PROMOTE, servers[i].id, servers[i].name);
        return;
    }
}

/* A group that is not complete yet takes in those of the list that are new; and who has been taken in is to vote. */
static void complete(struct group *group, const struct raft_loop_server *servers, uint32_t count) {
    uint32_t wanted = group->peer_count < RAFT_LOOP_SERVERS_MAX ? group->peer_count : RAFT_LOOP_SERVERS_MAX;
    for (uint32_t i = 0; i < group->peer_count; i++) {
        const struct peer *peer = &group->peers[i];
        if (is_self(group, peer) || !peer->answered) continue;
        const struct raft_loop_server *server = find_id(servers, count, peer->server.id);
        if (server != NULL && !server->votes) {
            change(group, RAFT_LOOP_PROMOTE, server->id, peer->name);
            return;
        }
        if (server != NULL || count >= wanted || !is_new(&peer->server)) continue;
        if (find_named(group, servers, count, peer->name) != NULL) continue; /* a person decides */
        change(group, RAFT_LOOP_ADD, peer->server.id, peer->name);
        return;
    }
    promote_unlisted(group, servers, count);
}

void group_wish(struct group *group, enum group_wish kind, struct slice name, group_done_cb done_cb, void *arg) {
    char text[METAD_NAME_BYTES], shifted[METAD_NAME_BYTES];
    if (group->wish.done_cb != NULL) {
        done_cb(arg, SK_BUSY, "another change of metad's servers is under way");
        return;
    }
    (void)snprintf(text, sizeof text, "%.*s", (int)name.size, (const char *)name.data);
    if (name.size >= sizeof text || metad_name_shift(text, METAD_RAFT_OFFSET, shifted, sizeof shifted) != SK_OK) {
        done_cb(arg, SK_BADREQUEST, "a server's name is host:port, as in --peers");
        return;
    }
    group->wish = (struct wish){.kind = kind,
                                .number = ++group->wishes,
                                .deadline_ms = clock_boottime_ms() + WISH_MS,
                                .done_cb = done_cb,
                                .arg = arg};
    memcpy(group->wish.name, text, sizeof text);
}

void group_give_up(struct group *group) {
    if (group->wish.done_cb != NULL)
        end_wish(group, SK_TIMEOUT, "the leader is changing; it may yet come to pass");
}

void group_on_tick(struct group *group, bool ready) {
    struct raft_loop_server servers[RAFT_LOOP_SERVERS_MAX];
    uint64_t now_ms = clock_boottime_ms();
    ask_peers(group, now_ms);
    if (!group->started) try_start(group, now_ms);
    if (group->wish.done_cb != NULL && now_ms >= group->wish.deadline_ms) {
        end_wish_of(group, SK_TIMEOUT, "the group did not agree in time; it may yet");
    }
    if (!ready || group->changing || now_ms < group->change_ms) return;
    if (group->options.cluster_cb(group->options.arg) == 0) return; /* what is to be shared is not there yet */
    uint32_t count = raft_loop_servers(group->loop, servers);
    if (group->wish.done_cb != NULL) {
        step_wish(group, servers, count);
    } else {
        complete(group, servers, count);
    }
}

bool group_is_complete(const struct group *group) {
    struct raft_loop_server servers[RAFT_LOOP_SERVERS_MAX];
    uint32_t count = raft_loop_servers(group->loop, servers), voters = 0;
    for (uint32_t i = 0; i < count; i++) voters += servers[i].votes;
    return voters >= group->peer_count;
}

/* ---- life ---- */

static uint64_t digest_of(const struct group *group) {
    uint64_t digest = 0;
    for (uint32_t i = 0; i < group->peer_count; i++) {
        digest = XXH64(group->peers[i].name, strlen(group->peers[i].name) + 1, digest);
    }
    return digest;
}

int group_new(struct group **out, const struct group_options *options) {
    struct group *group = calloc(1, sizeof *group);
    if (group == NULL) return SK_ENOMEM;
    group->options = *options; /* name and peers are copied, and not used from there */
    group->peer_count = options->peer_count;
    (void)snprintf(group->name, sizeof group->name, "%s", options->name);
    for (uint32_t i = 0; i < options->peer_count; i++) {
        group->peers[i].group = group;
        memcpy(group->peers[i].name, options->peers[i], METAD_NAME_BYTES);
    }
    group->digest = digest_of(group);
    group->begin_ms = clock_boottime_ms();
    enum raft_loop_start how;
    group->started = group_knows_start(group, &how);
    *out = group;
    return SK_OK;
}

void group_attach(struct group *group, struct raft_loop *loop) { group->loop = loop; }

void group_free(struct group *group) { free(group); }
