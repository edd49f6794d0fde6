#include "nng_guard.h"

#include "check.h"

#include <dlfcn.h>
#include <nng/nng.h>
#include <stdatomic.h>
#include <string.h>

typedef void stream_operation(nng_stream *stream, nng_aio *aio);

/* Written before main, and only read from then on. */
static stream_operation *library_recv, *library_send;
static bool library_forgets;

static atomic_uint_fast64_t ended;

static stream_operation *find(const char *name) {
    stream_operation *found;
    void *symbol = dlsym(RTLD_NEXT, name);
    sk_assert(symbol != NULL);
    memcpy(&found, &symbol, sizeof found); /* C has no cast for it, POSIX promises it */
    return found;
}

__attribute__((constructor)) static void find_library(void) {
    library_recv = find("nng_stream_recv");
    library_send = find("nng_stream_send");
    library_forgets = strcmp(nng_version(), "1.5.2") == 0;
}

/* Nothing but the refusal leaves NNG_ECANCELED here. The transports stop an aio with that result only after they have
 * closed it, which ends what it does with NNG_ECLOSED; and the callback of one that has ended already waits for the
 * lock which our caller holds. */
static void end_if_refused(nng_aio *aio) {
    if (!library_forgets || nng_aio_result(aio) != NNG_ECANCELED) return;
    atomic_fetch_add(&ended, 1);
    nng_aio_finish(aio, NNG_ECLOSED);
}

void nng_stream_recv(nng_stream *stream, nng_aio *aio) {
    library_recv(stream, aio);
    end_if_refused(aio);
}

void nng_stream_send(nng_stream *stream, nng_aio *aio) {
    library_send(stream, aio);
    end_if_refused(aio);
}

uint64_t nng_guard_ended(void) { return atomic_load(&ended); }
