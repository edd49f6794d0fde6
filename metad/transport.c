/* A greeting is a connection from its first step (an address to look up, or a call that comes in) until both ends are known. It
 * ends once, by greeting_end, which closes what it has on the loop; when that has gone, greeting_leave tells whoever waits how
 * it went, hands the stream over, and frees the rest. So nobody is called back from within his own call, and a callback that
 * closes the transport meets no greeting halfway through its last step.
 *
 * What of libuv this rests on: a handle may be freed in its close callback and not before; closing a stream ends its connect and
 * write requests before that, with UV_ECANCELED; a lookup that a thread has begun cannot be cancelled, so it has a life of
 * its own, and only the transport's close waits for it. */
#include "metad/transport.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "metad/tls_link.h"

#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define BACKLOG           128
#define PORT_BYTES        6u
#define PORT_MAX          65535ul
#define LOG_INTERVAL_MS   1000u
#define UNACKNOWLEDGED_MS 3000u /* much longer than a new leader takes, much shorter than TCP's patience */
#define KEEPALIVE_S       10u
/* Enough for all that another version may say at first: a byte left unread would reset the connection, and our answer with it. */
#define READ_BYTES 1024u
/* A side's part of a handshake. */
#define MESSAGES_MAX 2u

enum greeting_kind {
    GREETING_STRANGER, /* has called us */
    GREETING_ASK,      /* transport_ask */
    GREETING_RAFT,     /* libraft's connect */
};

struct lookup {
    uv_getaddrinfo_t request;
    struct transport *transport;
    struct greeting *greeting; /* NULL once it has ended */
};

struct greeting {
    struct transport *transport;
    struct greeting *previous, *next; /* in the transport's list until greeting_leave */
    enum greeting_kind kind;
    char address[TRANSPORT_ADDRESS_BYTES]; /* dialled, or whence the stranger calls */
    uv_timer_t timer;
    uv_stream_t *stream;   /* owned, from raft_malloc; NULL before and after, and while `link` is there */
    struct tls_link *link; /* whose handshake is under way */
    uint32_t handles;      /* the timer, and streams that are being closed */
    bool protected;        /* as it has to be: the proof may begin */
    bool concluded;        /* all was heard; `err` counts once all was said */
    bool ended;
    bool met;
    int err;

    struct lookup *lookup;            /* frees itself */
    struct addrinfo *found;           /* owned */
    const struct addrinfo *candidate; /* of `found`: to be tried next */
    uv_connect_t connecting;

    struct handshake handshake;
    uv_write_t writes[MESSAGES_MAX];
    uint32_t writes_begun, writes_done;
    char read[READ_BYTES];

    uint64_t wanted;                 /* GREETING_RAFT */
    struct raft_uv_connect *request; /* GREETING_RAFT: libraft's */
    transport_asked_cb asked_cb;     /* GREETING_ASK */
    void *arg;                       /* of asked_cb */
};

struct transport {
    struct transport_options options; /* without secret, bind and tls */
    char bind[TRANSPORT_ADDRESS_BYTES];
    struct handshake_key key;
    struct raft_uv_transport raft;
    struct tls_links *links; /* owned; NULL: connections are plain */
    uv_tcp_t listener;
    bool listening; /* `listener` is on the loop */
    bool closing;
    bool unanswered; /* a stranger for whom there was no memory: libuv reports no other before it is accepted */
    raft_uv_accept_cb accept_cb;
    raft_uv_transport_close_cb close_cb;
    struct greeting *first, *last; /* owned; in the order in which they began */
    uint32_t strangers;            /* of them, not ended */
    uint32_t
        open; /* greetings, lookups, the listener, links being closed, and 1 until closing: close_cb comes at 0 */
    uint64_t quiet_until_ms; /* for the log */
    uint32_t unlogged;
};

static void leave(struct transport *transport) {
    sk_assert(transport->open > 0);
    if (--transport->open == 0) transport->close_cb(&transport->raft);
}

/* ---- addresses ---- */

static bool port_is_valid(const char *port) {
    size_t digits = strspn(port, "0123456789");
    return digits > 0 && digits < PORT_BYTES && port[digits] == 0 && strtoul(port, NULL, 10) <= PORT_MAX;
}

static bool split_address(const char *address, char host[TRANSPORT_ADDRESS_BYTES], char port[PORT_BYTES]) {
    const char *colon = strrchr(address, ':');
    if (colon == NULL || !port_is_valid(colon + 1)) return false;
    size_t size = (size_t)(colon - address);
    if (size > 2 && address[0] == '[' && colon[-1] == ']') {
        address++;
        size -= 2;
    } else if (memchr(address, ':', size) != NULL) {
        return false; /* an IPv6 address has to stand in brackets */
    }
    if (size == 0 || size >= TRANSPORT_ADDRESS_BYTES) return false;
    memcpy(host, address, size);
    host[size] = 0;
    (void)snprintf(port, PORT_BYTES, "%s", colon + 1);
    return true;
}

static void read_peer_address(struct greeting *greeting) {
    struct sockaddr_storage peer;
    int size = sizeof peer;
    char host[64];
    char port[PORT_BYTES];
    if (uv_tcp_getpeername((uv_tcp_t *)greeting->stream, (struct sockaddr *)&peer, &size) != 0 ||
        getnameinfo((struct sockaddr *)&peer, (socklen_t)size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        (void)snprintf(greeting->address, sizeof greeting->address, "unknown"); /* gone already */
        return;
    }
    bool brackets = peer.ss_family == AF_INET6;
    (void)snprintf(greeting->address, sizeof greeting->address, "%s%s%s:%s", brackets ? "[" : "", host,
                   brackets ? "]" : "", port);
}

/* ---- the life of a greeting ---- */

static void timeout_cb(uv_timer_t *timer);

static struct greeting *greeting_new(struct transport *transport, enum greeting_kind kind) {
    struct greeting *greeting = calloc(1, sizeof *greeting);
    if (greeting == NULL) return NULL;
    greeting->transport = transport;
    greeting->kind = kind;
    greeting->previous = transport->last;
    if (transport->last != NULL) {
        transport->last->next = greeting;
    } else {
        transport->first = greeting;
    }
    transport->last = greeting;
    transport->open++;
    if (kind == GREETING_STRANGER) transport->strangers++;
    (void)uv_timer_init(transport->options.loop, &greeting->timer);
    greeting->timer.data = greeting;
    greeting->handles = 1;
    uv_update_time(transport->options.loop); /* before its first run the loop's time may be long ago */
    (void)uv_timer_start(&greeting->timer, timeout_cb, transport->options.limit_ms, 0);
    return greeting;
}

static void unlink_greeting(struct greeting *greeting) {
    struct transport *transport = greeting->transport;
    if (greeting->previous != NULL) {
        greeting->previous->next = greeting->next;
    } else {
        transport->first = greeting->next;
    }
    if (greeting->next != NULL) {
        greeting->next->previous = greeting->previous;
    } else {
        transport->last = greeting->previous;
    }
}

static uv_stream_t *take_stream(struct greeting *greeting) {
    uv_stream_t *stream = greeting->stream;
    greeting->stream = NULL;
    if (stream != NULL) stream->data = NULL;
    return stream;
}

static int raft_code_of(int err) {
    switch (err) {
    case SK_OK:
        return 0;
    case SK_ECLOSED:
        return RAFT_CANCELED;
    default:
        return RAFT_NOCONNECTION;
    }
}

static void tell(struct greeting *greeting) {
    struct transport *transport = greeting->transport;
    const struct handshake_server *other = handshake_other(&greeting->handshake);
    struct uv_stream_s *stream = take_stream(greeting);
    switch (greeting->kind) {
    case GREETING_STRANGER:
        if (stream != NULL) transport->accept_cb(&transport->raft, other->id, other->name, stream);
        break;
    case GREETING_ASK:
        greeting->asked_cb(greeting->arg, greeting->err, other);
        break;
    case GREETING_RAFT:
        greeting->request->cb(greeting->request, stream, raft_code_of(greeting->err));
        break;
    }
}

static void called_cb(uv_stream_t *listener, int status);

/* One of its handles has gone. */
static void greeting_leave(struct greeting *greeting) {
    if (--greeting->handles > 0) return;
    sk_assert(greeting->ended);
    struct transport *transport = greeting->transport;
    unlink_greeting(greeting);
    tell(greeting);
    uv_freeaddrinfo(greeting->found);
    free(greeting);
    if (transport->unanswered && !transport->closing) called_cb((uv_stream_t *)&transport->listener, 0);
    leave(transport);
}

static void stream_closed_cb(uv_handle_t *handle) {
    struct greeting *greeting = handle->data;
    raft_free(handle);
    greeting_leave(greeting);
}

static void timer_closed_cb(uv_handle_t *handle) { greeting_leave(handle->data); }

static int open_tcp(struct greeting *greeting) {
    sk_assert(greeting->stream == NULL);
    uv_tcp_t *tcp = raft_malloc(sizeof *tcp);
    if (tcp == NULL) return SK_ENOMEM;
    (void)uv_tcp_init(greeting->transport->options.loop, tcp);
    tcp->data = greeting;
    greeting->stream = (uv_stream_t *)tcp;
    return SK_OK;
}

static void close_stream(struct greeting *greeting) {
    if (greeting->stream == NULL) return;
    uv_close((uv_handle_t *)greeting->stream, stream_closed_cb);
    greeting->handles++;
    greeting->stream = NULL;
}

static bool is_for_raft(const struct greeting *greeting) {
    return greeting->kind == GREETING_RAFT ||
           (greeting->kind == GREETING_STRANGER && handshake_purpose(&greeting->handshake) == HANDSHAKE_RAFT);
}

/* Whether this end is news: what a stranger did, or that one whom we have called is not who he should be. What went wrong in TLS is
 * told there. */
static bool is_refusal(const struct greeting *greeting) {
    if (!greeting->protected) return false;
    switch (greeting->err) {
    case SK_OK:
    case SK_ECLOSED:
    case SK_ENOMEM:
        return false;
    case SK_ENET:
    case SK_ETIMEDOUT:
        return greeting->kind == GREETING_STRANGER;
    default:
        return greeting->kind != GREETING_ASK; /* who asks is told */
    }
}

/* Strangers set the pace of this, so it has a limit. */
static void log_refusal(const struct greeting *greeting) {
    struct transport *transport = greeting->transport;
    uint64_t now_ms = uv_now(transport->options.loop);
    if (now_ms < transport->quiet_until_ms) {
        transport->unlogged++;
        return;
    }
    const struct handshake_server *other = handshake_other(&greeting->handshake);
    log_event(LOG_WARNING, "raft_peer_refused", "server=%" PRIu64 " address=%s error=%s reason=\"%s\" unlogged=%u",
              other != NULL ? other->id : 0, greeting->address, error_name(greeting->err),
              handshake_reason(&greeting->handshake), transport->unlogged);
    transport->quiet_until_ms = now_ms + LOG_INTERVAL_MS;
    transport->unlogged = 0;
}

static void give_up_link(struct greeting *greeting) {
    if (greeting->link == NULL) return;
    tls_link_cancel(greeting->link, greeting->err == SK_ETIMEDOUT || greeting->err == SK_BUSY);
    greeting->link = NULL;
}

static void forget_lookup(struct greeting *greeting) {
    if (greeting->lookup == NULL) return;
    greeting->lookup->greeting = NULL;
    (void)uv_cancel((uv_req_t *)&greeting->lookup->request);
    greeting->lookup = NULL;
}

/* A second time it makes a failure of a success that nobody has been told yet. */
static void greeting_end(struct greeting *greeting, int err) {
    greeting->err = err;
    if (err != SK_OK || !is_for_raft(greeting)) close_stream(greeting);
    if (greeting->ended) return;
    greeting->ended = true;
    if (greeting->kind == GREETING_STRANGER) greeting->transport->strangers--;
    if (is_refusal(greeting)) log_refusal(greeting);
    forget_lookup(greeting);
    give_up_link(greeting);
    uv_close((uv_handle_t *)&greeting->timer, timer_closed_cb);
}

static void timeout_cb(uv_timer_t *timer) { greeting_end(timer->data, SK_ETIMEDOUT); }

/* ---- the handshake on a stream ---- */

static void written_cb(uv_write_t *write, int status) {
    struct greeting *greeting = write->data;
    greeting->writes_done++;
    if (greeting->ended) return;
    if (status != 0) {
        greeting_end(greeting, SK_ENET);
    } else if (greeting->concluded && greeting->writes_done == greeting->writes_begun) {
        greeting_end(greeting, greeting->err);
    }
}

/* `words` lie in the handshake, which lives until the write is over. */
static void say(struct greeting *greeting, struct slice words) {
    if (words.size == 0 || greeting->ended) return;
    sk_assert(greeting->writes_begun < MESSAGES_MAX);
    uv_write_t *write = &greeting->writes[greeting->writes_begun];
    write->data = greeting;
    uv_buf_t bytes = uv_buf_init((char *)(uintptr_t)words.data, (unsigned)words.size);
    if (uv_write(write, greeting->stream, &bytes, 1, written_cb) == 0) {
        greeting->writes_begun++;
    } else {
        greeting_end(greeting, SK_ENET);
    }
}

/* Reading stops here, so that what comes next is libraft's. */
static void conclude(struct greeting *greeting, int err) {
    if (greeting->ended) return;
    (void)uv_read_stop(greeting->stream);
    greeting->concluded = true;
    greeting->err = err;
    if (greeting->writes_done == greeting->writes_begun) greeting_end(greeting, err);
}

static void tell_who_it_is(struct greeting *greeting) {
    struct transport *transport = greeting->transport;
    const struct handshake_server *other = handshake_other(&greeting->handshake);
    if (other == NULL || greeting->met) return;
    greeting->met = true;
    transport->options.met_cb(transport->options.arg, other);
}

static int decide(struct greeting *greeting) {
    const struct transport_options *options = &greeting->transport->options;
    struct slice words;
    bool is_member = options->is_member_cb(options->arg, handshake_other(&greeting->handshake)->id);
    int err = handshake_decide(&greeting->handshake, is_member, &words);
    say(greeting, words);
    return err;
}

static void room_cb(uv_handle_t *handle, size_t suggested_bytes, uv_buf_t *room) {
    (void)suggested_bytes;
    struct greeting *greeting = handle->data;
    *room = uv_buf_init(greeting->read, sizeof greeting->read);
}

static void read_cb(uv_stream_t *stream, ssize_t size, const uv_buf_t *bytes) {
    struct greeting *greeting = stream->data;
    if (size < 0) {
        greeting_end(greeting, SK_ENET);
        return;
    }
    struct slice words;
    int err = handshake_feed(&greeting->handshake, slice_of(bytes->base, (size_t)size), &words);
    say(greeting, words);
    tell_who_it_is(greeting);
    if (err == SK_RETRY || greeting->ended) return;
    if (err == SK_OK && greeting->kind == GREETING_STRANGER) err = decide(greeting);
    conclude(greeting, err);
}

/* Asked for anew for each greeting: the log grows and the cluster comes to be known. */
static struct handshake_server self_of(const struct transport *transport) {
    struct handshake_server self = {0};
    transport->options.self_cb(transport->options.arg, &self);
    return self;
}

/* Without TCP_NODELAY libraft's appends would each wait for the acknowledgement of the one before. It has no limit for a write:
 * after a long cut TCP's next try may come a minute later, so that a connection which is not acknowledged has to end. And who
 * only listens is told by nobody that its caller has gone. */
static void tune(uv_tcp_t *tcp) {
    uv_os_fd_t fd;
    unsigned limit_ms = UNACKNOWLEDGED_MS;
    (void)uv_tcp_nodelay(tcp, 1);
    (void)uv_tcp_keepalive(tcp, 1, KEEPALIVE_S);
    if (uv_fileno((uv_handle_t *)tcp, &fd) != 0) return;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit_ms, sizeof limit_ms);
}

static void begin_proof(struct greeting *greeting) {
    struct transport *transport = greeting->transport;
    struct handshake_server self = self_of(transport);
    struct slice words = {0};
    if (greeting->kind == GREETING_STRANGER) {
        handshake_begin_acceptor(&greeting->handshake, &transport->key, &self);
    } else {
        enum handshake_purpose purpose = greeting->kind == GREETING_RAFT ? HANDSHAKE_RAFT : HANDSHAKE_ASK;
        handshake_begin_dialer(&greeting->handshake, &transport->key, &self, purpose, greeting->wanted, &words);
    }
    greeting->protected = true;
    int code = uv_read_start(greeting->stream, room_cb, read_cb);
    if (code != 0) greeting_end(greeting, SK_ENET);
    say(greeting, words);
}

static void protected_cb(void *arg, int err, uv_stream_t *stream) {
    struct greeting *greeting = arg;
    greeting->link = NULL;
    if (err != SK_OK) {
        greeting_end(greeting, err);
        return;
    }
    greeting->stream = stream;
    stream->data = greeting;
    begin_proof(greeting);
}

/* The link has the socket for itself; the handle by which it was connected goes. */
static int begin_link(struct greeting *greeting) {
    char host[TRANSPORT_ADDRESS_BYTES];
    char port[PORT_BYTES];
    uv_os_fd_t connected;
    bool calls = greeting->kind != GREETING_STRANGER;
    if (calls) (void)split_address(greeting->address, host, port); /* dial has done it once */
    if (uv_fileno((uv_handle_t *)greeting->stream, &connected) != 0) return SK_ENET;
    int fd = fcntl(connected, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) return SK_ENET;
    close_stream(greeting);
    return tls_link_begin(&greeting->link, greeting->transport->links, fd, calls ? host : NULL, protected_cb,
                          greeting);
}

/* From here on both sides have a connection. */
static void begin_handshake(struct greeting *greeting) {
    tune((uv_tcp_t *)greeting->stream);
    if (greeting->transport->links == NULL) {
        begin_proof(greeting);
        return;
    }
    int err = begin_link(greeting);
    if (err != SK_OK) greeting_end(greeting, err);
}

/* ---- calling ---- */

static void dial_next(struct greeting *greeting);

static void connected_cb(uv_connect_t *connecting, int status) {
    struct greeting *greeting = connecting->data;
    if (greeting->ended) return;
    if (status != 0) {
        close_stream(greeting);
        dial_next(greeting);
    } else {
        begin_handshake(greeting);
    }
}

/* A name may have several addresses, and one server behind one of them ("localhost" has two). */
static void dial_next(struct greeting *greeting) {
    greeting->connecting.data = greeting;
    while (greeting->candidate != NULL) {
        const struct sockaddr *address = greeting->candidate->ai_addr;
        greeting->candidate = greeting->candidate->ai_next;
        int err = open_tcp(greeting);
        if (err != SK_OK) {
            greeting_end(greeting, err);
            return;
        }
        if (uv_tcp_connect(&greeting->connecting, (uv_tcp_t *)greeting->stream, address, connected_cb) == 0)
            return;
        close_stream(greeting);
    }
    greeting_end(greeting, SK_ENET);
}

static void found_cb(uv_getaddrinfo_t *request, int status, struct addrinfo *found) {
    struct lookup *lookup = request->data;
    struct greeting *greeting = lookup->greeting;
    struct transport *transport = lookup->transport;
    free(lookup);
    if (greeting == NULL) {
        uv_freeaddrinfo(found);
    } else {
        greeting->lookup = NULL;
        greeting->found = status == 0 ? found : NULL;
        greeting->candidate = greeting->found;
        dial_next(greeting);
    }
    leave(transport);
}

static int begin_lookup(struct greeting *greeting, const char *host, const char *port) {
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct transport *transport = greeting->transport;
    struct lookup *lookup = calloc(1, sizeof *lookup);
    if (lookup == NULL) return SK_ENOMEM;
    lookup->transport = transport;
    lookup->greeting = greeting;
    lookup->request.data = lookup;
    int code = uv_getaddrinfo(transport->options.loop, &lookup->request, found_cb, host, port, &hints);
    if (code != 0) {
        free(lookup);
        return code == UV_ENOMEM ? SK_ENOMEM : SK_ENET;
    }
    greeting->lookup = lookup;
    transport->open++;
    return SK_OK;
}

static void dial(struct greeting *greeting, const char *address) {
    char host[TRANSPORT_ADDRESS_BYTES];
    char port[PORT_BYTES];
    (void)snprintf(greeting->address, sizeof greeting->address, "%s", address);
    int err = split_address(address, host, port) ? begin_lookup(greeting, host, port) : SK_ENET;
    if (err != SK_OK) greeting_end(greeting, err);
}

static int transport_connect(struct raft_uv_transport *raft, struct raft_uv_connect *request, raft_id id,
                             const char *name, raft_uv_connect_cb cb) {
    struct transport *transport = raft->impl;
    sk_assert(!transport->closing);
    struct greeting *greeting = greeting_new(transport, GREETING_RAFT);
    if (greeting == NULL) return RAFT_NOMEM;
    request->cb = cb;
    greeting->request = request;
    greeting->wanted = id;
    char address[TRANSPORT_ADDRESS_BYTES] = "";
    transport->options.address_cb(transport->options.arg, id, name, address);
    dial(greeting, address);
    return 0;
}

int transport_ask(struct transport *transport, const char *address, transport_asked_cb asked_cb, void *arg) {
    if (transport->closing) return SK_ECLOSED;
    struct greeting *greeting = greeting_new(transport, GREETING_ASK);
    if (greeting == NULL) return SK_ENOMEM;
    greeting->asked_cb = asked_cb;
    greeting->arg = arg;
    dial(greeting, address);
    return SK_OK;
}

/* ---- being called ---- */

static struct greeting *oldest_stranger(const struct transport *transport) {
    struct greeting *greeting = transport->first;
    while (greeting->kind != GREETING_STRANGER || greeting->ended) greeting = greeting->next;
    return greeting;
}

static void called_cb(uv_stream_t *listener, int status) {
    struct transport *transport = listener->data;
    if (status != 0) return; /* of this one call; libuv goes on listening */
    if (transport->strangers == TRANSPORT_STRANGERS_MAX) greeting_end(oldest_stranger(transport), SK_BUSY);
    struct greeting *greeting = greeting_new(transport, GREETING_STRANGER);
    int err = greeting != NULL ? open_tcp(greeting) : SK_ENOMEM;
    transport->unanswered = err != SK_OK;
    if (greeting == NULL) return;
    if (err == SK_OK && uv_accept(listener, greeting->stream) != 0) err = SK_ENET;
    if (err != SK_OK) {
        greeting_end(greeting, err);
        return;
    }
    read_peer_address(greeting);
    begin_handshake(greeting);
}

static int cannot_listen(struct transport *transport, int code) {
    (void)snprintf(transport->raft.errmsg, sizeof transport->raft.errmsg, "bind %.200s: %s", transport->bind,
                   uv_strerror(code));
    return RAFT_IOERR;
}

static int bind_listener(struct transport *transport) {
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    char host[TRANSPORT_ADDRESS_BYTES];
    char port[PORT_BYTES];
    uv_getaddrinfo_t lookup;
    (void)split_address(transport->bind, host, port); /* transport_new has done it once */
    int code = uv_getaddrinfo(transport->options.loop, &lookup, NULL, host, port, &hints);
    if (code != 0) return code;
    code = uv_tcp_bind(&transport->listener, lookup.addrinfo->ai_addr, 0);
    uv_freeaddrinfo(lookup.addrinfo);
    return code;
}

static int transport_listen(struct raft_uv_transport *raft, raft_uv_accept_cb cb) {
    struct transport *transport = raft->impl;
    sk_assert(!transport->listening);
    transport->accept_cb = cb;
    (void)uv_tcp_init(transport->options.loop, &transport->listener);
    transport->listener.data = transport;
    transport->listening = true;
    transport->open++;
    int code = bind_listener(transport);
    if (code == 0) code = uv_listen((uv_stream_t *)&transport->listener, BACKLOG, called_cb);
    return code == 0 ? 0 : cannot_listen(transport, code);
}

/* ---- begin and end ---- */

/* What libraft says here of this server comes from its configuration; self_cb knows better. */
static int transport_init(struct raft_uv_transport *raft, raft_id id, const char *address) {
    (void)raft;
    (void)id;
    (void)address;
    return 0;
}

static void listener_closed_cb(uv_handle_t *handle) { leave(handle->data); }

static void links_closed_cb(void *arg) { leave(arg); }

static void transport_close(struct raft_uv_transport *raft, raft_uv_transport_close_cb cb) {
    struct transport *transport = raft->impl;
    sk_assert(!transport->closing);
    transport->closing = true;
    transport->close_cb = cb;
    if (transport->listening) uv_close((uv_handle_t *)&transport->listener, listener_closed_cb);
    for (struct greeting *greeting = transport->first; greeting != NULL; greeting = greeting->next) {
        greeting_end(greeting, SK_ECLOSED);
    }
    if (transport->links != NULL) {
        transport->open++;
        tls_links_close(transport->links, links_closed_cb, transport);
    }
    leave(transport);
}

int transport_new(struct transport **out, const struct transport_options *options) {
    char host[TRANSPORT_ADDRESS_BYTES];
    char port[PORT_BYTES];
    if (strlen(options->bind) >= TRANSPORT_ADDRESS_BYTES || !split_address(options->bind, host, port)) {
        return SK_ECONFIG;
    }
    struct transport *transport = calloc(1, sizeof *transport);
    if (transport == NULL) return SK_ENOMEM;
    int err = handshake_key_init(&transport->key, options->secret);
    if (err == SK_OK && options->tls != NULL) err = tls_links_new(&transport->links, options->loop, options->tls);
    if (err != SK_OK) {
        handshake_key_deinit(&transport->key);
        free(transport);
        return err;
    }
    transport->options = *options;
    transport->options.secret = slice_of(NULL, 0);
    transport->options.bind = NULL;
    transport->options.tls = NULL;
    if (options->limit_ms == 0) transport->options.limit_ms = TRANSPORT_MS;
    (void)snprintf(transport->bind, sizeof transport->bind, "%s", options->bind);
    transport->open = 1;
    transport->raft = (struct raft_uv_transport){
        .version = 1,
        .impl = transport,
        .init = transport_init,
        .listen = transport_listen,
        .connect = transport_connect,
        .close = transport_close,
    };
    *out = transport;
    return SK_OK;
}

struct raft_uv_transport *transport_raft(struct transport *transport) {
    return &transport->raft;
}

void transport_free(struct transport *transport) {
    if (transport == NULL) return;
    sk_assert(transport->open == (transport->closing ? 0 : 1));
    tls_links_free(transport->links);
    handshake_key_deinit(&transport->key);
    free(transport);
}
