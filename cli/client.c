#include "client.h"

#include "door.h"
#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/mp.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define GRACE_MS 1000 /* beyond the gateway's deadline */

struct client {
    nng_socket socket;
    nng_aio *aio;          /* owned */
    nng_msg *reply;        /* owned: the last answer */
    struct buffer request; /* encoded */
    uint64_t msgid;
};

/* A dial that blocks would wait as long as the kernel does for an address that drops packets, so it runs in a
 * thread that is cut short by closing the socket. */
struct dial {
    nng_dialer dialer;
    int rc;
    bool done;
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

static void *dial_thread(void *arg) {
    struct dial *dial = arg;
    int rc = nng_dialer_start(dial->dialer, 0);
    pthread_mutex_lock(&dial->lock);
    dial->rc = rc;
    dial->done = true;
    pthread_cond_signal(&dial->changed);
    pthread_mutex_unlock(&dial->lock);
    return NULL;
}

static bool dial_wait(struct dial *dial, uint32_t timeout_ms) {
    uint64_t deadline_us = clock_realtime_us() + timeout_ms * 1000ull; /* the clock of pthread_cond_timedwait */
    struct timespec deadline = {.tv_sec = (time_t)(deadline_us / 1000000),
                                .tv_nsec = (long)(deadline_us % 1000000 * 1000)};
    pthread_mutex_lock(&dial->lock);
    int rc = 0;
    while (!dial->done && rc == 0) rc = pthread_cond_timedwait(&dial->changed, &dial->lock, &deadline);
    bool done = dial->done;
    pthread_mutex_unlock(&dial->lock);
    return done;
}

/* An nng code; NNG_ETIMEDOUT leaves the socket closed. */
static int dial_within(nng_socket socket, nng_dialer dialer, uint32_t timeout_ms) {
    struct dial dial = {.dialer = dialer, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    pthread_t thread;
    if (pthread_create(&thread, NULL, dial_thread, &dial) != 0) return NNG_ENOMEM;
    bool done = dial_wait(&dial, timeout_ms);
    if (!done) nng_close(socket);
    pthread_join(thread, NULL);
    return done ? dial.rc : NNG_ETIMEDOUT;
}

static int set_options(nng_socket socket) {
    int rc = nng_socket_set_ms(socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE);
    if (rc == 0) rc = nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, MESSAGE_BYTES_MAX + 65536);
    if (rc == 0) rc = nng_socket_set_ms(socket, NNG_OPT_RECONNMINT, 20);
    if (rc == 0) rc = nng_socket_set_ms(socket, NNG_OPT_RECONNMAXT, 200);
    return rc;
}

static int translate_open(int rc) {
    switch (rc) {
    case 0:
        return SK_OK;
    case NNG_ENOMEM:
        return SK_ENOMEM;
    case NNG_EADDRINVAL:
    case NNG_ENOTSUP:
    case NNG_EINVAL:
        return SK_ECONFIG;
    default:
        return SK_ENET;
    }
}

int client_open(struct client **client, const char *address, uint32_t timeout_ms, char *text, size_t text_bytes) {
    struct client *opened = calloc(1, sizeof *opened);
    if (opened == NULL) return SK_ENOMEM;
    nng_dialer dialer;
    int rc = nng_req0_open(&opened->socket);
    if (rc == 0) rc = set_options(opened->socket);
    if (rc == 0) rc = nng_aio_alloc(&opened->aio, NULL, NULL);
    if (rc == 0) rc = door_dialer(&dialer, opened->socket, address);
    if (rc == 0) rc = dial_within(opened->socket, dialer, timeout_ms);
    if (rc == 0) {
        *client = opened;
        return SK_OK;
    }
    snprintf(text, text_bytes, "%s", nng_strerror(rc));
    client_close(opened);
    return translate_open(rc);
}

void client_close(struct client *client) {
    if (client == NULL) return;
    nng_aio_free(client->aio); /* before the socket: nng 1.5.2 may still be at expiring it */
    nng_close(client->socket);
    nng_msg_free(client->reply);
    buffer_deinit(&client->request);
    free(client);
}

void client_make_id(uint8_t id[CLIENT_ID_BYTES]) {
    ssize_t rc = getrandom(id, CLIENT_ID_BYTES, 0);
    sk_assert(rc == CLIENT_ID_BYTES); /* up to 256 bytes are never cut short */
}

static void encode_options(struct buffer *out, const struct client_call *call) {
    struct slice token = door_token();
    mp_write_map(out, 1u + (call->id.size > 0) + call->atomic + call->read_follower + (token.size > 0));
    if (token.size > 0) {
        mp_write_text(out, "token");
        mp_write_bin(out, token);
    }
    mp_write_text(out, "timeout_ms");
    mp_write_uint(out, call->timeout_ms);
    if (call->id.size > 0) {
        mp_write_text(out, "id");
        mp_write_bin(out, call->id);
    }
    if (call->atomic) {
        mp_write_text(out, "atomic");
        mp_write_bool(out, true);
    }
    if (call->read_follower) {
        mp_write_text(out, "read");
        mp_write_text(out, "follower");
    }
}

static void encode_call(struct buffer *out, uint64_t msgid, const struct client_call *call) {
    mp_write_array(out, 5);
    mp_write_uint(out, 0);
    mp_write_uint(out, msgid);
    mp_write_str(out, call->method);
    mp_write_raw(out, call->params);
    encode_options(out, call);
}

static int read_error(struct mp_reader *reader, struct client_reply *reply) {
    struct mp_value value;
    int err = mp_read(reader, &value);
    if (err != SK_OK || value.type == MP_NIL) return err;
    reply->failed = true;
    if (value.type != MP_ARRAY || value.count != 2) return SK_EPROTO;
    err = mp_read_bytes(reader, &reply->code);
    return err != SK_OK ? err : mp_read_bytes(reader, &reply->text);
}

int client_read_answer(struct mp_reader *reader, struct client_reply *reply) {
    *reply = (struct client_reply){0};
    int err = read_error(reader, reply);
    return err != SK_OK ? err : mp_skip(reader, &reply->result);
}

int client_read_reply(struct slice message, uint64_t msgid, struct client_reply *reply) {
    struct mp_reader reader = mp_reader_of(message);
    uint32_t count;
    uint64_t kind, number;
    int err = mp_read_array(&reader, &count);
    if (err == SK_OK) err = mp_read_uint(&reader, &kind);
    if (err == SK_OK) err = mp_read_uint(&reader, &number);
    if (err == SK_OK && (count != 4 || kind != 1 || number != msgid)) err = SK_EPROTO;
    if (err == SK_OK) err = client_read_answer(&reader, reply);
    if (err == SK_OK && mp_left(&reader) != 0) err = SK_EPROTO;
    return err;
}

static nng_duration time_left(uint64_t deadline_ms) {
    uint64_t now_ms = clock_boottime_ms();
    if (now_ms >= deadline_ms) return 1;
    uint64_t left_ms = deadline_ms - now_ms;
    return left_ms > INT32_MAX ? NNG_DURATION_INFINITE : (nng_duration)left_ms;
}

/* An nng code; NNG_ENOMEM too. */
static int send_request(struct client *client, uint64_t deadline_ms) {
    nng_msg *message;
    int rc = nng_msg_alloc(&message, 0);
    if (rc != 0) return rc;
    rc = nng_msg_append(message, client->request.data, client->request.size);
    if (rc == 0) {
        nng_aio_set_msg(client->aio, message);
        nng_aio_set_timeout(client->aio, time_left(deadline_ms));
        nng_send_aio(client->socket, client->aio);
        nng_aio_wait(client->aio);
        rc = nng_aio_result(client->aio);
    }
    if (rc != 0) nng_msg_free(message); /* nng owns it only if the send succeeded */
    return rc;
}

static int receive_reply(struct client *client, uint64_t deadline_ms) {
    nng_msg_free(client->reply);
    client->reply = NULL;
    nng_aio_set_timeout(client->aio, time_left(deadline_ms));
    nng_recv_aio(client->socket, client->aio);
    nng_aio_wait(client->aio);
    int rc = nng_aio_result(client->aio);
    if (rc == 0) client->reply = nng_aio_get_msg(client->aio);
    return rc;
}

int client_call(struct client *client, const struct client_call *call, struct client_reply *reply) {
    uint64_t wait_ms = call->wait_ms < UINT64_MAX / 2 ? call->wait_ms : UINT64_MAX / 2; /* no sum overflows */
    uint64_t deadline_ms = clock_boottime_ms() + wait_ms + call->timeout_ms + GRACE_MS;
    client->msgid++;
    buffer_clear(&client->request, 1 << 20);
    encode_call(&client->request, client->msgid, call);
    if (client->request.failed) return SK_ENOMEM;
    for (bool sent = false;;) {
        int rc = send_request(client, deadline_ms);
        if (rc == NNG_ENOMEM) return SK_ENOMEM;
        if (rc != 0) return sent ? SK_ETIMEDOUT : SK_ENET;
        sent = true;
        rc = receive_reply(client, deadline_ms);
        if (rc == 0) break;
        if (!call->repeatable || rc == NNG_ETIMEDOUT || clock_boottime_ms() >= deadline_ms) return SK_ETIMEDOUT;
    }
    struct slice message = slice_of(nng_msg_body(client->reply), nng_msg_len(client->reply));
    return client_read_reply(message, client->msgid, reply);
}
