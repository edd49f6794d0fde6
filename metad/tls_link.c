/* A link is two sockets that are polled, and what was read from the one and not yet written to the other. Whatever event comes,
 * all is done that can be done without waiting; the results of the calls, and not the events, say how each socket is. Then each is
 * polled for what it is waited for:
 *
 *             to be read                           to be written to
 *   net       nothing is left for the stream       something is left for the other side
 *   local     nothing is left for the other side   something is left for the stream
 *
 * so that of a link that has not ended at least one is polled, and an error of a polled socket is met by the very call that was
 * waited for. tls_session keeps no bytes back, so that readiness misses nothing. That the stream has been closed is polled for
 * besides: what is left for the other side may never be taken.
 *
 *   SHAKING -> OPEN -> ENDED
 *
 * An end is an end at once, with all handles being closed, and the link is freed when the last of them has gone. The handles
 * are of uv_poll_t, which have no requests that could come back later. */
#include "metad/tls_link.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/tls_session.h"

#include <errno.h>
#include <raft.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TURNS_MAX     16 /* records in each direction before others of the loop have their turn */
#define CALLERS_SHARE 4u /* of the loop's time not more than one part in so many goes to handshakes of callers */

enum state { SHAKING, OPEN, ENDED };

/* Read on one side, not yet written on the other. */
struct stock {
    size_t begin, end;
    uint8_t bytes[TLS_SESSION_BYTES];
};

struct side {
    int fd; /* owned; -1: none */
    uv_poll_t poll;
    int events; /* polled for */
    bool over;  /* nothing more comes from it */
    bool deaf;  /* it takes nothing more; what it had sent before may still come */
    bool left;  /* its other end is closed, whatever may still come from it; of `local` */
};

struct tls_link {
    struct tls_links *links;
    struct tls_link *previous, *next;
    enum state state;
    struct tls_session *session; /* owned; NULL once ended */
    struct side net, local;
    struct stock inward, outward; /* to `local`, to `net` */
    uv_timer_t timer;             /* for a handshake that is put off; from the stream's end on */
    bool is_called;
    uint32_t handles; /* on the loop */
    tls_link_up_cb up_cb;
    void *arg;
};

struct tls_links {
    uv_loop_t *loop;
    struct tls_context *context; /* owned */
    struct tls_link *first;      /* owned */
    uint64_t callers_due_ms;     /* no handshake of a caller goes on before */
    bool closing;
    void (*closed_cb)(void *arg);
    void *arg;
};

/* ---- the end of a link ---- */

static void unlink_link(struct tls_link *link) {
    if (link->previous != NULL) {
        link->previous->next = link->next;
    } else {
        link->links->first = link->next;
    }
    if (link->next != NULL) link->next->previous = link->previous;
}

static void tell_if_closed(struct tls_links *links) {
    if (links->closing && links->first == NULL) links->closed_cb(links->arg);
}

static void handle_closed_cb(uv_handle_t *handle) {
    struct tls_link *link = handle->data;
    if (--link->handles > 0) return;
    struct tls_links *links = link->links;
    unlink_link(link);
    free(link);
    tell_if_closed(links);
}

/* Bytes that nobody has read would make of the end of a connection its reset, and the other side would lose our last words. */
static void drain(int fd) {
    uint8_t room[4096];
    if (fd < 0) return;
    for (int turns = 0; turns < TURNS_MAX && recv(fd, room, sizeof room, MSG_DONTWAIT) > 0; turns++) continue;
}

static void close_side(struct side *side) {
    if (side->fd < 0) return;
    uv_close((uv_handle_t *)&side->poll, handle_closed_cb);
    (void)close(side->fd);
    side->fd = -1;
}

static void end(struct tls_link *link, bool late) {
    if (link->state == ENDED) return;
    link->state = ENDED;
    tls_session_free(link->session, late);
    link->session = NULL;
    drain(link->net.fd);
    close_side(&link->net);
    close_side(&link->local);
    uv_close((uv_handle_t *)&link->timer, handle_closed_cb);
}

static void linger_cb(uv_timer_t *timer) { end(timer->data, false); }

/* ---- polling ---- */

static void poll_cb(uv_poll_t *poll, int status, int events);

static void poll_for(struct side *side, int events) {
    if (side->fd < 0 || events == side->events) return;
    side->events = events;
    int code = events == 0 ? uv_poll_stop(&side->poll) : uv_poll_start(&side->poll, events, poll_cb);
    sk_assert(code == 0); /* nothing else polls this descriptor */
}

static bool is_empty(const struct stock *stock) { return stock->begin == stock->end; }

static void poll_both(struct tls_link *link) {
    const struct side *from = &link->net, *to = &link->local;
    bool in_empty = is_empty(&link->inward), out_empty = is_empty(&link->outward);
    int net = 0, local = 0;
    if (link->state == SHAKING) {
        net = tls_session_is_full(link->session) ? UV_WRITABLE : UV_READABLE;
    } else {
        if (in_empty && !from->over && !to->deaf && !to->over) net |= UV_READABLE;
        if (out_empty && !to->over && !from->deaf && !from->over) local |= UV_READABLE;
        if (!out_empty) net |= UV_WRITABLE;
        if (!in_empty) local |= UV_WRITABLE;
        sk_assert(net != 0 || local != 0);
        if (!to->left) local |= UV_DISCONNECT;
    }
    poll_for(&link->net, net);
    poll_for(&link->local, local);
}

static int add_side(struct tls_link *link, struct side *side, int fd) {
    int code = uv_poll_init(link->links->loop, &side->poll, fd);
    if (code != 0) return code == UV_ENOMEM ? SK_ENOMEM : SK_ENET;
    side->fd = fd;
    side->poll.data = link;
    link->handles++;
    return SK_OK;
}

/* ---- what goes through ---- */

static bool is_moment(int error) { return error == EAGAIN || error == EINTR; }

static void discard(struct stock *stock) { stock->begin = stock->end = 0; }

/* From the other side to the stream. Whether anything has moved. */
static bool move_inward(struct tls_link *link) {
    struct stock *stock = &link->inward;
    struct side *from = &link->net, *to = &link->local;
    if (to->deaf || to->over) return false;
    if (is_empty(stock) && !from->over) {
        discard(stock);
        int err = tls_session_read(link->session, stock->bytes, &stock->end);
        from->over = err != SK_OK && err != SK_RETRY;
        if (from->over) discard(&link->outward);
    }
    if (is_empty(stock)) return false;
    ssize_t sent =
        send(to->fd, stock->bytes + stock->begin, stock->end - stock->begin, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
        to->deaf = !is_moment(errno);
        if (to->deaf) discard(stock);
        return false;
    }
    stock->begin += (size_t)sent;
    return true;
}

/* From the stream to the other side. */
static bool move_outward(struct tls_link *link) {
    struct stock *stock = &link->outward;
    struct side *from = &link->local, *to = &link->net;
    if (to->deaf || to->over) return false;
    if (is_empty(stock) && !from->over) {
        ssize_t received = recv(from->fd, stock->bytes, sizeof stock->bytes, MSG_DONTWAIT);
        discard(stock);
        if (received > 0) stock->end = (size_t)received;
        from->over = received == 0 || (received < 0 && !is_moment(errno));
        if (from->over) discard(&link->inward);
    }
    if (is_empty(stock)) return false;
    size_t taken = 0;
    int err =
        tls_session_write(link->session, slice_of(stock->bytes + stock->begin, stock->end - stock->begin), &taken);
    if (err != SK_OK) {
        to->deaf = err != SK_RETRY;
        if (to->deaf) discard(stock);
        return false;
    }
    stock->begin += taken;
    return true;
}

/* Whoever has closed the stream reads nothing more, and whoever has closed the connection hears nothing more: that is thrown
 * away, and what they had said before goes on its way. */
static bool is_done(const struct tls_link *link) {
    if (link->local.over) return is_empty(&link->outward);
    if (link->net.over) return is_empty(&link->inward);
    return link->local.deaf && link->net.deaf;
}

static void go_on(struct tls_link *link) {
    bool moved = true;
    for (int turns = 0; moved && turns < TURNS_MAX; turns++) {
        moved = move_inward(link);
        moved = move_outward(link) || moved;
    }
    if (is_done(link)) {
        if (!link->net.deaf && !link->net.over) tls_session_finish(link->session);
        end(link, false);
        return;
    }
    if (link->local.left && !uv_is_active((uv_handle_t *)&link->timer)) {
        (void)uv_timer_start(&link->timer, linger_cb, TLS_LINK_LINGER_MS, 0);
    }
    poll_both(link);
}

/* ---- the handshake ---- */

static void stream_closed_cb(uv_handle_t *handle) { raft_free(handle); }

/* The stream, on one of two new sockets. */
static int open_stream(struct tls_link *link, uv_stream_t **stream) {
    int pair[2];
    uv_pipe_t *pipe = raft_malloc(sizeof *pipe);
    if (pipe == NULL) return SK_ENOMEM;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) {
        raft_free(pipe);
        return SK_ENET;
    }
    (void)uv_pipe_init(link->links->loop, pipe, 0);
    int err = uv_pipe_open(pipe, pair[0]) == 0 ? SK_OK : SK_ENET;
    if (err != SK_OK) (void)close(pair[0]);
    if (err == SK_OK) err = add_side(link, &link->local, pair[1]);
    if (err != SK_OK) {
        (void)close(pair[1]);
        uv_close((uv_handle_t *)pipe, stream_closed_cb);
        return err;
    }
    pipe->data = NULL;
    *stream = (uv_stream_t *)pipe;
    return SK_OK;
}

static uint64_t thread_ns(void) {
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A step may take milliseconds, and what Raft has to do in time is done on the same loop. */
static int take_step(struct tls_link *link) {
    struct tls_links *links = link->links;
    uint64_t begin_ns = thread_ns();
    int err = tls_session_handshake(link->session);
    uint64_t took_ns = thread_ns() - begin_ns;
    if (link->is_called) links->callers_due_ms = uv_now(links->loop) + took_ns * CALLERS_SHARE / 1000000u;
    return err;
}

static void shake(struct tls_link *link) {
    uv_stream_t *stream = NULL;
    int err = take_step(link);
    if (err == SK_OK) err = open_stream(link, &stream);
    if (err == SK_OK) link->state = OPEN;
    if (err == SK_OK || err == SK_RETRY) {
        poll_both(link);
    } else {
        end(link, false);
    }
    if (err != SK_RETRY) link->up_cb(link->arg, err, stream);
}

static void put_off_cb(uv_timer_t *timer);

/* Whoever calls, and as often as he likes, sets the pace of nobody else. */
static void shake_in_turn(struct tls_link *link) {
    uint64_t now_ms = uv_now(link->links->loop), due_ms = link->links->callers_due_ms;
    if (link->is_called && now_ms < due_ms) {
        poll_for(&link->net, 0);
        (void)uv_timer_start(&link->timer, put_off_cb, due_ms - now_ms, 0);
    } else {
        shake(link);
    }
}

static void put_off_cb(uv_timer_t *timer) { shake_in_turn(timer->data); }

static void poll_cb(uv_poll_t *poll, int status, int events) {
    struct tls_link *link = poll->data;
    struct side *side = poll == &link->net.poll ? &link->net : &link->local;
    if (status != 0) side->events = 0; /* libuv has stopped it; what is wrong is said by the next call */
    if (status != 0 || (events & UV_DISCONNECT) != 0) side->left = true;
    if (link->state == SHAKING) {
        shake_in_turn(link);
    } else {
        go_on(link);
    }
}

/* ---- begin ---- */

static struct tls_link *link_new(struct tls_links *links) {
    struct tls_link *link = calloc(1, sizeof *link);
    if (link == NULL) return NULL;
    link->links = links;
    link->net.fd = link->local.fd = -1;
    link->next = links->first;
    if (links->first != NULL) links->first->previous = link;
    links->first = link;
    (void)uv_timer_init(links->loop, &link->timer);
    link->timer.data = link;
    link->handles = 1;
    return link;
}

int tls_link_begin(struct tls_link **out, struct tls_links *links, int fd, const char *server,
                   tls_link_up_cb up_cb, void *arg) {
    struct tls_link *link = links->closing ? NULL : link_new(links);
    if (link == NULL) {
        (void)close(fd);
        return links->closing ? SK_ECLOSED : SK_ENOMEM;
    }
    link->is_called = server == NULL;
    link->up_cb = up_cb;
    link->arg = arg;
    int err = add_side(link, &link->net, fd);
    if (err != SK_OK) {
        (void)close(fd);
    } else {
        err = tls_session_new(&link->session, links->context, fd, server);
    }
    if (err != SK_OK) {
        end(link, false);
        return err == SK_ECONFIG ? SK_ENET : err; /* nobody has such a name */
    }
    poll_for(&link->net, server != NULL ? UV_WRITABLE : UV_READABLE);
    *out = link;
    return SK_OK;
}

void tls_link_cancel(struct tls_link *link, bool late) {
    sk_assert(link->state == SHAKING);
    end(link, late);
}

/* ---- all of them ---- */

int tls_links_new(struct tls_links **out, uv_loop_t *loop, const struct tls *tls) {
    struct tls_links *links = calloc(1, sizeof *links);
    if (links == NULL) return SK_ENOMEM;
    int err = tls_context_new(&links->context, tls);
    if (err != SK_OK) {
        free(links);
        return err;
    }
    links->loop = loop;
    *out = links;
    return SK_OK;
}

void tls_links_close(struct tls_links *links, void (*closed_cb)(void *arg), void *arg) {
    sk_assert(!links->closing);
    links->closing = true;
    links->closed_cb = closed_cb;
    links->arg = arg;
    for (struct tls_link *link = links->first; link != NULL; link = link->next) end(link, false);
    tell_if_closed(links);
}

void tls_links_free(struct tls_links *links) {
    if (links == NULL) return;
    sk_assert(links->first == NULL);
    tls_context_free(links->context);
    free(links);
}
