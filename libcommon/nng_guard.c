#include "nng_guard.h"

#include "check.h"
#include "tls_guard.h"

#include <dlfcn.h>
#include <errno.h>
#include <nng/nng.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef void stream_operation(nng_stream *stream, nng_aio *aio);
typedef long configuration(int name);
typedef int mutex_setting(pthread_mutexattr_t *attributes, int type);
typedef ssize_t message_operation(int fd, const struct msghdr *message, int flags);

/* Written before main, and only read from then on. */
static stream_operation *library_recv, *library_send;
static message_operation *library_sendmsg;
static configuration *library_sysconf;
static mutex_setting *library_settype;
static const void *library; /* where nng begins */
static bool library_is_defective;

static atomic_uint_fast64_t ended, resets;

/* The thread sanitizer itself asks sysconf, before anything that it has instrumented can run. */
#define BEFORE_SANITIZER __attribute__((no_sanitize("thread")))

/* `function` points to a pointer to one: C has no cast for it, POSIX promises that the bytes are the same. */
BEFORE_SANITIZER static void find(const char *name, void *function) {
    void *symbol = dlsym(RTLD_NEXT, name);
    sk_assert(symbol != NULL);
    memcpy(function, &symbol, sizeof symbol);
}

/* The program or library that has this address. NULL: none. */
BEFORE_SANITIZER static const void *object_of(const void *address) {
    Dl_info info;
    return dladdr(address, &info) != 0 ? info.dli_fbase : NULL;
}

__attribute__((constructor)) static void find_library(void) {
    find("nng_stream_recv", &library_recv);
    find("nng_stream_send", &library_send);
    find("sendmsg", &library_sendmsg);
    library = object_of(dlsym(RTLD_DEFAULT, "nng_version"));
    library_is_defective = strcmp(nng_version(), "1.5.2") == 0;
}

/* Nothing but the refusal leaves NNG_ECANCELED here. The transports stop an aio with that result only after they have
 * closed it, which ends what it does with NNG_ECLOSED; and the callback of one that has ended already waits for the
 * lock which our caller holds. It ends as if the peer had reset the connection: with NNG_ECLOSED a connection that TLS has
 * closed while it was being made would end the listener or dialer (tls_guard.h). */
static void end_if_refused(nng_aio *aio) {
    if (!library_is_defective || nng_aio_result(aio) != NNG_ECANCELED) return;
    atomic_fetch_add(&ended, 1);
    nng_aio_finish(aio, NNG_ECONNRESET);
}

void nng_stream_recv(nng_stream *stream, nng_aio *aio) {
    tls_guard_on_receive(stream, aio);
    library_recv(stream, aio);
    end_if_refused(aio);
}

void nng_stream_send(nng_stream *stream, nng_aio *aio) {
    tls_guard_on_send(stream, aio);
    library_send(stream, aio);
    end_if_refused(aio);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    ssize_t sent = library_sendmsg(fd, message, flags);
    if (sent < 0 && errno == EPIPE && library_is_defective) {
        atomic_fetch_add(&resets, 1);
        errno = ECONNRESET;
    }
    return sent;
}

BEFORE_SANITIZER static bool is_nng(const void *caller) {
    return library_is_defective && object_of(caller) == library;
}

/* Other libraries ask before main, and before find_library. */
BEFORE_SANITIZER long sysconf(int name) {
    if (library_sysconf == NULL) find("sysconf", &library_sysconf);
    long value = library_sysconf(name);
    if (name != _SC_NPROCESSORS_ONLN || !is_nng(__builtin_return_address(0))) return value;
    long half = value / 2;
    return half < 1 ? 1 : half > NNG_GUARD_CORES_MAX ? NNG_GUARD_CORES_MAX : half;
}

int pthread_mutexattr_settype(pthread_mutexattr_t *attributes, int type) {
    if (library_settype == NULL) find("pthread_mutexattr_settype", &library_settype);
    return library_settype(attributes, is_nng(__builtin_return_address(0)) ? PTHREAD_MUTEX_ADAPTIVE_NP : type);
}

uint64_t nng_guard_ended(void) { return atomic_load(&ended); }

uint64_t nng_guard_resets(void) { return atomic_load(&resets); }
