/* For tests: a metad of one thread that answers what a function of the test says. Addresses are sockets in a directory
 * of the test's own, so that runs side by side do not meet. */
#pragma once

#include "error.h"
#include "mp.h"

#include <nng/nng.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/reqrep0/rep.h>
#include <pthread.h>
#include <sched.h>

#include "testing.h"

#define FAKE_SILENT (-1000) /* no answer */
#define FAKE_RAW    (-1001) /* `result` is the whole reply */

/* Called on the fake's thread. Answers an error code, or SK_OK with the encoded result in `result`; `text` (of 256
 * bytes) goes with an error. */
typedef int fake_handler(void *arg, struct slice method, struct slice params, struct buffer *result, char *text);

struct fake_metad {
    fake_handler *handler;
    void *arg;
    nng_socket requests;
    pthread_t thread;
};

static inline void fake_reply(struct buffer *reply, uint64_t msgid, int rc, const char *text,
                              const struct buffer *result) {
    mp_write_array(reply, 4);
    mp_write_uint(reply, 1);
    mp_write_uint(reply, msgid);
    if (rc == SK_OK) {
        mp_write_nil(reply);
        mp_write_raw(reply, buffer_slice(result));
    } else {
        mp_write_array(reply, 2);
        mp_write_text(reply, error_name(rc));
        mp_write_text(reply, text);
        mp_write_nil(reply);
    }
}

/* The reply to a request; false = none. The client is ours, so its requests are well formed. */
static inline bool fake_handle(struct fake_metad *fake, struct slice request, struct buffer *reply) {
    struct mp_reader reader = mp_reader_of(request);
    uint32_t parts;
    uint64_t kind, msgid;
    struct slice method, params;
    char text[256] = "";
    if (mp_read_array(&reader, &parts) != SK_OK || parts != 4 || mp_read_uint(&reader, &kind) != SK_OK ||
        kind != 0 || mp_read_uint(&reader, &msgid) != SK_OK || mp_read_str(&reader, &method) != SK_OK ||
        mp_skip(&reader, &params) != SK_OK || mp_left(&reader) != 0)
        abort();
    struct buffer result;
    buffer_init(&result);
    int rc = fake->handler(fake->arg, method, params, &result, text);
    if (rc == FAKE_RAW) mp_write_raw(reply, buffer_slice(&result));
    else if (rc != FAKE_SILENT) fake_reply(reply, msgid, rc, text, &result);
    buffer_deinit(&result);
    return rc != FAKE_SILENT;
}

static inline void *fake_run(void *arg) {
    struct fake_metad *fake = arg;
    nng_msg *msg;
    while (nng_recvmsg(fake->requests, &msg, 0) == 0) {
        struct buffer reply;
        buffer_init(&reply);
        bool answers = fake_handle(fake, slice_of(nng_msg_body(msg), nng_msg_len(msg)), &reply);
        nng_msg_free(msg);
        if (answers) nng_send(fake->requests, reply.data, reply.size, 0);
        buffer_deinit(&reply);
    }
    return NULL;
}

static inline void fake_start(struct fake_metad *fake, const char *address, fake_handler *handler, void *arg) {
    fake->handler = handler;
    fake->arg = arg;
    if (nng_rep0_open(&fake->requests) != 0) abort();
    int rv = nng_listen(fake->requests, address, NULL, 0);
    if (rv != 0) {
        fprintf(stderr, "%s: %s\n", address, nng_strerror(rv));
        abort();
    }
    if (pthread_create(&fake->thread, NULL, fake_run, fake) != 0) abort();
}

static inline void fake_stop(struct fake_metad *fake) {
    nng_close(fake->requests);
    pthread_join(fake->thread, NULL);
}

/* A directory for sockets; removed by directory_remove with what may lie in it. */
static inline void directory_make(char path[32]) {
    strcpy(path, "/tmp/skerry_test_XXXXXX");
    if (mkdtemp(path) == NULL) abort();
}

static inline const char *address_in(const char *directory, const char *name, char room[64]) {
    snprintf(room, 64, "ipc://%s/%s", directory, name);
    return room;
}

static inline void directory_remove(const char *directory, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        unlink(path);
    }
    rmdir(directory);
}
