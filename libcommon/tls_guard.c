#include "tls_guard.h"

#include "check.h"
#include "clock.h"
#include "log.h"
#include "peer_name.h"

#include <dlfcn.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define BUCKETS     1024u
#define TICK_MS     250
#define LOG_EACH_MS 1000u

enum role { ACCEPTED, DIALLED, ROLES };

/* A connection from its first handshake to its end. Made, found and ended by calls that nng makes under the connection's own lock
 * or when nothing else of it runs; `lock` guards the tables, and that `receive` and `send` exist as long as it is in them. */
struct connection {
    struct connection *next_of_ssl, *next_of_stream; /* in their buckets */
    struct connection *earlier, *later; /* among the handshakes under way, in the order of their begin */
    const void *ssl;
    nng_stream *stream;      /* of TCP; NULL until it is used */
    nng_aio *receive, *send; /* what TLS does there; it has one of each */
    uint64_t deadline_ms;
    enum role role;
    bool under_way;
    bool late; /* was aborted */
    char peer[PEER_NAME_BYTES], local[PEER_NAME_BYTES];
};

static struct {
    pthread_mutex_t lock; /* guards what follows */
    struct connection *by_ssl[BUCKETS], *by_stream[BUCKETS];
    struct connection *first, *last; /* handshakes under way */
    nng_aio *timer;                  /* made at the first of them, and kept */
    bool ticking;
    atomic_uint connections;
} table = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct { atomic_uint_fast64_t done, refused, timed_out, broken; } counts[ROLES];

static atomic_uint handshake_ms = TLS_GUARD_HANDSHAKE_MS;

/* Whose handshake this thread is in. */
static _Thread_local struct connection *current;

/* ---- the libraries ---- */

typedef int ssl_operation(mbedtls_ssl_context *ssl);
typedef void ssl_end(mbedtls_ssl_context *ssl);
typedef void stream_end(nng_stream *stream);

/* Written before main, and only read from then on. */
static ssl_operation *library_handshake;
static ssl_end *library_free;
static stream_end *library_close;
static bool library_is_defective;

/* As in nng_guard.c. */
static void find(const char *name, void *function) {
    void *symbol = dlsym(RTLD_NEXT, name);
    sk_assert(symbol != NULL);
    memcpy(function, &symbol, sizeof symbol);
}

__attribute__((constructor)) static void find_libraries(void) {
    find("mbedtls_ssl_handshake", &library_handshake);
    find("mbedtls_ssl_free", &library_free);
    find("nng_stream_close", &library_close);
    library_is_defective = MBEDTLS_VERSION_MAJOR == 2 && strcmp(nng_version(), "1.5.2") == 0;
}

/* ---- telling ---- */

/* One a second of each kind, with how many there have been. */
static void tell(const struct connection *connection, const char *event, uint64_t count, const char *why,
                 atomic_uint_fast64_t *told_ms) {
    uint64_t now_ms = clock_boottime_ms();
    uint_fast64_t before_ms = atomic_load(told_ms);
    if (before_ms != 0 && now_ms < before_ms + LOG_EACH_MS) return;
    if (!atomic_compare_exchange_strong(told_ms, &before_ms, now_ms)) return;
    log_event(LOG_WARNING, event, "%s=%s at=%s count=%llu why=\"%s\"",
              connection->role == ACCEPTED ? "from" : "to", connection->peer, connection->local,
              (unsigned long long)count, why);
}

/* What is wrong with the peer's certificate. */
static const char *explain_certificate(const mbedtls_ssl_context *ssl) {
    uint32_t flags = mbedtls_ssl_get_verify_result(ssl);
    if ((flags & MBEDTLS_X509_BADCERT_MISSING) != 0) return "it shows no certificate";
    if ((flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED) != 0) return "its certificate is not signed by the CA";
    if ((flags & MBEDTLS_X509_BADCERT_EXPIRED) != 0) return "its certificate has expired";
    if ((flags & MBEDTLS_X509_BADCERT_FUTURE) != 0) return "its certificate is not valid yet";
    if ((flags & MBEDTLS_X509_BADCERT_CN_MISMATCH) != 0) return "its certificate is for another name";
    return "its certificate may not be used so";
}

static const char *explain(const mbedtls_ssl_context *ssl, int code) {
    switch (code) {
    case MBEDTLS_ERR_X509_CERT_VERIFY_FAILED:
        return explain_certificate(ssl);
#if MBEDTLS_VERSION_MAJOR == 2
    case MBEDTLS_ERR_SSL_NO_CLIENT_CERTIFICATE:
        return "it shows no certificate";
#endif
    case MBEDTLS_ERR_SSL_INVALID_RECORD:
#if MBEDTLS_VERSION_MAJOR == 2
    case MBEDTLS_ERR_SSL_BAD_HS_CLIENT_HELLO:
#endif
        return "it does not speak TLS, or not 1.2";
    case MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE:
        return "it refuses us";
    default:
        return "the handshake failed";
    }
}

static void note_failure(const struct connection *connection, const mbedtls_ssl_context *ssl, int code) {
    static atomic_uint_fast64_t told_ms[ROLES];
    uint64_t count = atomic_fetch_add(&counts[connection->role].refused, 1) + 1;
    char why[96];
    (void)snprintf(why, sizeof why, "%s (-0x%04x)", explain(ssl, code), (unsigned)-code);
    tell(connection, "tls_refused", count, why, &told_ms[connection->role]);
}

/* It has ended without having failed. */
static void note_end(const struct connection *connection) {
    static atomic_uint_fast64_t broken_ms[ROLES], late_ms[ROLES];
    enum role role = connection->role;
    if (connection->late) {
        tell(connection, "tls_timed_out", atomic_fetch_add(&counts[role].timed_out, 1) + 1,
             "the handshake stood still", &late_ms[role]);
    } else {
        tell(connection, "tls_broken", atomic_fetch_add(&counts[role].broken, 1) + 1,
             "the connection ended within the handshake", &broken_ms[role]);
    }
}

/* ---- the tables; the lock is held ---- */

static size_t bucket_of(const void *pointer) { return ((uintptr_t)pointer >> 6) * 2654435761u % BUCKETS; }

static struct connection *find_by_ssl(const void *ssl) {
    struct connection *found = table.by_ssl[bucket_of(ssl)];
    while (found != NULL && found->ssl != ssl) found = found->next_of_ssl;
    return found;
}

static struct connection *find_by_stream(const nng_stream *stream) {
    struct connection *found = table.by_stream[bucket_of(stream)];
    while (found != NULL && found->stream != stream) found = found->next_of_stream;
    return found;
}

static void end_under_way(struct connection *connection) {
    if (!connection->under_way) return;
    connection->under_way = false;
    if (connection->earlier != NULL) connection->earlier->later = connection->later;
    else table.first = connection->later;
    if (connection->later != NULL) connection->later->earlier = connection->earlier;
    else table.last = connection->earlier;
}

static void remove_connection(struct connection *connection) {
    struct connection **at = &table.by_ssl[bucket_of(connection->ssl)];
    while (*at != connection) at = &(*at)->next_of_ssl;
    *at = connection->next_of_ssl;
    if (connection->stream != NULL) {
        at = &table.by_stream[bucket_of(connection->stream)];
        while (*at != connection) at = &(*at)->next_of_stream;
        *at = connection->next_of_stream;
    }
    end_under_way(connection);
    atomic_fetch_sub(&table.connections, 1);
}

/* Whatever it waits for ends as timed out, and with it the connection. */
static void abort_late(uint64_t now_ms) {
    for (struct connection *at = table.first; at != NULL && at->deadline_ms <= now_ms; at = at->later) {
        at->late = true; /* if it is not waiting just now it is met at the next tick */
        if (at->receive != NULL) nng_aio_abort(at->receive, NNG_ETIMEDOUT);
        if (at->send != NULL) nng_aio_abort(at->send, NNG_ETIMEDOUT);
    }
}

static void timer_cb(void *arg) {
    (void)arg;
    pthread_mutex_lock(&table.lock);
    abort_late(clock_boottime_ms());
    table.ticking = table.first != NULL;
    if (table.ticking) nng_sleep_aio(TICK_MS, table.timer);
    pthread_mutex_unlock(&table.lock);
}

/* Without memory for the timer the handshakes have no limit, as without all this. */
static void tick(void) {
    if (table.ticking) return;
    if (table.timer == NULL && nng_aio_alloc(&table.timer, timer_cb, NULL) != 0) return;
    table.ticking = true;
    nng_sleep_aio(TICK_MS, table.timer);
}

static void add_connection(struct connection *connection) {
    size_t bucket = bucket_of(connection->ssl);
    connection->next_of_ssl = table.by_ssl[bucket];
    table.by_ssl[bucket] = connection;
    connection->under_way = true;
    connection->earlier = table.last;
    if (table.last != NULL) table.last->later = connection;
    else table.first = connection;
    table.last = connection;
    atomic_fetch_add(&table.connections, 1);
    tick();
}

/* ---- what nng and mbedtls call ---- */

/* NULL: out of memory, and it goes without. */
static struct connection *connection_of(const mbedtls_ssl_context *ssl) {
    pthread_mutex_lock(&table.lock);
    struct connection *connection = find_by_ssl(ssl);
    if (connection == NULL && (connection = calloc(1, sizeof *connection)) != NULL) {
        connection->ssl = ssl;
#if MBEDTLS_VERSION_MAJOR == 2
        connection->role = ssl->conf->endpoint == MBEDTLS_SSL_IS_CLIENT ? DIALLED : ACCEPTED;
#endif
        connection->deadline_ms = clock_boottime_ms() + atomic_load(&handshake_ms);
        add_connection(connection);
    }
    pthread_mutex_unlock(&table.lock);
    return connection;
}

int mbedtls_ssl_handshake(mbedtls_ssl_context *ssl) {
    struct connection *connection = library_is_defective ? connection_of(ssl) : NULL;
    if (connection == NULL) return library_handshake(ssl);
    struct connection *outer = current;
    current = connection;
    int code = library_handshake(ssl);
    current = outer;
    if (code == MBEDTLS_ERR_SSL_WANT_READ || code == MBEDTLS_ERR_SSL_WANT_WRITE) return code;
    pthread_mutex_lock(&table.lock);
    bool first = connection->under_way; /* nng may ask once more after a failure */
    end_under_way(connection);
    pthread_mutex_unlock(&table.lock);
    if (first && code == 0) atomic_fetch_add(&counts[connection->role].done, 1);
    if (first && code != 0) note_failure(connection, ssl, code);
    return code;
}

void mbedtls_ssl_free(mbedtls_ssl_context *ssl) {
    struct connection *connection = NULL;
    bool under_way = false;
    if (atomic_load(&table.connections) > 0) {
        pthread_mutex_lock(&table.lock);
        connection = find_by_ssl(ssl);
        if (connection != NULL) {
            under_way = connection->under_way;
            remove_connection(connection);
        }
        pthread_mutex_unlock(&table.lock);
    }
    if (under_way) note_end(connection);
    free(connection);
    library_free(ssl);
}

/* The first use of the stream below this thread's handshake. */
static void note_stream(nng_stream *stream) {
    nng_sockaddr address;
    current->stream = stream;
    size_t bucket = bucket_of(stream);
    current->next_of_stream = table.by_stream[bucket];
    table.by_stream[bucket] = current;
    memset(&address, 0, sizeof address);
    (void)nng_stream_get_addr(stream, NNG_OPT_REMADDR, &address);
    (void)peer_name(&address, current->peer);
    memset(&address, 0, sizeof address);
    (void)nng_stream_get_addr(stream, NNG_OPT_LOCADDR, &address);
    (void)peer_name(&address, current->local);
}

static void note_operation(nng_stream *stream, nng_aio *aio, nng_aio **place) {
    if (*place != NULL) return;
    pthread_mutex_lock(&table.lock);
    if (current->stream == NULL) note_stream(stream);
    *place = aio;
    pthread_mutex_unlock(&table.lock);
}

void tls_guard_on_receive(nng_stream *stream, nng_aio *aio) {
    if (current != NULL) note_operation(stream, aio, &current->receive);
}

void tls_guard_on_send(nng_stream *stream, nng_aio *aio) {
    if (current != NULL) note_operation(stream, aio, &current->send);
}

/* The caller's connection exists until this returns, so its operations do. */
void nng_stream_close(nng_stream *stream) {
    nng_aio *receive = NULL, *send = NULL;
    if (atomic_load(&table.connections) > 0) {
        pthread_mutex_lock(&table.lock);
        struct connection *connection = find_by_stream(stream);
        if (connection != NULL) {
            receive = connection->receive;
            send = connection->send;
        }
        pthread_mutex_unlock(&table.lock);
    }
    if (receive != NULL) nng_aio_abort(receive, NNG_ECONNRESET);
    if (send != NULL) nng_aio_abort(send, NNG_ECONNRESET);
    library_close(stream);
}

/* ---- what tls_session calls ---- */

/* The same as nng has it. */
static nng_sockaddr nng_address_of(const struct sockaddr_storage *address) {
    nng_sockaddr same = {.s_family = NNG_AF_UNSPEC};
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        same.s_in =
            (nng_sockaddr_in){.sa_family = NNG_AF_INET, .sa_port = in->sin_port, .sa_addr = in->sin_addr.s_addr};
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
        same.s_in6 = (nng_sockaddr_in6){.sa_family = NNG_AF_INET6, .sa_port = in6->sin6_port};
        memcpy(same.s_in6.sa_addr, &in6->sin6_addr, sizeof same.s_in6.sa_addr);
    }
    return same;
}

void tls_guard_on_socket(const struct mbedtls_ssl_context *ssl, int fd) {
    struct connection *connection = library_is_defective ? connection_of(ssl) : NULL;
    if (connection == NULL) return;
    struct sockaddr_storage peer = {0}, local = {0};
    socklen_t peer_bytes = sizeof peer, local_bytes = sizeof local;
    (void)getpeername(fd, (struct sockaddr *)&peer, &peer_bytes);
    (void)getsockname(fd, (struct sockaddr *)&local, &local_bytes);
    nng_sockaddr address = nng_address_of(&peer);
    (void)peer_name(&address, connection->peer);
    address = nng_address_of(&local);
    (void)peer_name(&address, connection->local);
}

void tls_guard_on_late(const struct mbedtls_ssl_context *ssl) {
    pthread_mutex_lock(&table.lock);
    struct connection *connection = find_by_ssl(ssl);
    if (connection != NULL) connection->late = true;
    pthread_mutex_unlock(&table.lock);
}

/* ---- counts ---- */

static struct tls_guard_counts counts_of(enum role role) {
    return (struct tls_guard_counts){
        .done = atomic_load(&counts[role].done),
        .refused = atomic_load(&counts[role].refused),
        .timed_out = atomic_load(&counts[role].timed_out),
        .broken = atomic_load(&counts[role].broken),
    };
}

struct tls_guard_counts tls_guard_accepted(void) {
    return counts_of(ACCEPTED);
}

struct tls_guard_counts tls_guard_dialled(void) {
    return counts_of(DIALLED);
}

uint64_t tls_guard_refused(void) {
    struct tls_guard_counts accepted = tls_guard_accepted();
    return accepted.refused + accepted.timed_out + accepted.broken;
}

void tls_guard_limit(uint32_t limit_ms) { atomic_store(&handshake_ms, limit_ms); }
