#include "fake_gateway.h"

#include "libcommon/error.h"
#include "libcommon/mp.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* The scalability protocols' TCP mapping by hand: 8 bytes of greeting, then messages behind their length in 8 bytes; a
 * request starts with 4 bytes that its reply repeats. Not nng's REP, since nng 1.5.2 has one thread that tears down
 * pipes, and nng_pipe_close on one with requests waiting may block it for the whole process. */
#define CONNECTIONS_MAX 64
#define GREETING_BYTES  8
#define HEAD_BYTES      12

struct fake_gateway {
    int listen_fd, stop_fds[2];
    int fds[CONNECTIONS_MAX]; /* -1: free */
    char address[64];
    pthread_t thread;
    fake_answer_cb answer_cb;
    void *arg;
};

static bool read_all(int fd, void *room, size_t size) {
    return size == 0 || recv(fd, room, size, MSG_WAITALL) == (ssize_t)size;
}

static bool send_all(int fd, const uint8_t *data, size_t size) {
    while (size > 0) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent <= 0) return false;
        data += sent;
        size -= (size_t)sent;
    }
    return true;
}

static void put_length(uint8_t room[8], uint64_t length) {
    for (int i = 7; i >= 0; i--, length >>= 8) room[i] = (uint8_t)length;
}

/* One request and its answer; false when the connection is to be closed. */
static bool serve_one(struct fake_gateway *fake, int fd) {
    uint8_t head[HEAD_BYTES];
    if (!read_all(fd, head, sizeof head)) return false;
    uint64_t size = 0;
    for (int i = 0; i < 8; i++) size = size << 8 | head[i];
    if (size < 4) return false;
    struct buffer request, reply;
    buffer_init(&request);
    buffer_init(&reply);
    buffer_append(&reply, head, sizeof head);
    uint8_t *room = buffer_extend(&request, size - 4);
    bool more = (room != NULL || size == 4) && read_all(fd, room, size - 4);
    if (more) fake->answer_cb(fake->arg, buffer_slice(&request), &reply);
    more = more && reply.size > HEAD_BYTES && !reply.failed;
    if (more) put_length(reply.data, reply.size - 8);
    more = more && send_all(fd, reply.data, reply.size);
    buffer_deinit(&request);
    buffer_deinit(&reply);
    return more;
}

static void accept_one(struct fake_gateway *fake) {
    static const uint8_t greeting[GREETING_BYTES] = {0, 'S', 'P', 0, 0, 0x31, 0, 0}; /* 0x31: REP, version 0 */
    uint8_t theirs[GREETING_BYTES];
    int fd = accept(fake->listen_fd, NULL, NULL), at = 0, on = 1;
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    while (at < CONNECTIONS_MAX && fake->fds[at] >= 0) at++;
    bool greeted =
        at < CONNECTIONS_MAX && send_all(fd, greeting, sizeof greeting) && read_all(fd, theirs, sizeof theirs);
    if (greeted) fake->fds[at] = fd;
    else close(fd);
}

static void *serve(void *arg) {
    struct fake_gateway *fake = arg;
    for (;;) {
        struct pollfd fds[CONNECTIONS_MAX + 2];
        for (int i = 0; i < CONNECTIONS_MAX; i++) fds[i] = (struct pollfd){.fd = fake->fds[i], .events = POLLIN};
        fds[CONNECTIONS_MAX] = (struct pollfd){.fd = fake->listen_fd, .events = POLLIN};
        fds[CONNECTIONS_MAX + 1] = (struct pollfd){.fd = fake->stop_fds[0], .events = POLLIN};
        if (poll(fds, CONNECTIONS_MAX + 2, -1) < 0) continue;
        if (fds[CONNECTIONS_MAX + 1].revents != 0) return NULL;
        for (int i = 0; i < CONNECTIONS_MAX; i++) {
            if (fds[i].revents == 0 || serve_one(fake, fake->fds[i])) continue;
            close(fake->fds[i]);
            fake->fds[i] = -1;
        }
        if (fds[CONNECTIONS_MAX].revents != 0) accept_one(fake);
    }
}

static bool listen_anywhere(struct fake_gateway *fake) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    fake->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool listens = fake->listen_fd >= 0 && bind(fake->listen_fd, (struct sockaddr *)&address, size) == 0 &&
                   listen(fake->listen_fd, CONNECTIONS_MAX) == 0 &&
                   getsockname(fake->listen_fd, (struct sockaddr *)&address, &size) == 0;
    snprintf(fake->address, sizeof fake->address, "tcp://127.0.0.1:%d", ntohs(address.sin_port));
    return listens;
}

struct fake_gateway *fake_gateway_new(fake_answer_cb answer_cb, void *arg) {
    struct fake_gateway *fake = calloc(1, sizeof *fake);
    if (fake == NULL) return NULL;
    fake->answer_cb = answer_cb;
    fake->arg = arg;
    for (int i = 0; i < CONNECTIONS_MAX; i++) fake->fds[i] = -1;
    bool runs = listen_anywhere(fake) && pipe(fake->stop_fds) == 0 &&
                pthread_create(&fake->thread, NULL, serve, fake) == 0;
    if (runs) return fake;
    free(fake);
    return NULL;
}

void fake_gateway_free(struct fake_gateway *fake) {
    close(fake->stop_fds[1]);
    pthread_join(fake->thread, NULL);
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        if (fake->fds[i] >= 0) close(fake->fds[i]);
    close(fake->stop_fds[0]);
    close(fake->listen_fd);
    free(fake);
}

const char *fake_gateway_address(const struct fake_gateway *fake) { return fake->address; }

bool fake_request_read(struct slice request, struct fake_request *read) {
    struct mp_reader reader = mp_reader_of(request);
    *read = (struct fake_request){0};
    uint32_t count;
    uint64_t kind;
    bool sound = mp_read_array(&reader, &count) == SK_OK && (count == 4 || count == 5) &&
                 mp_read_uint(&reader, &kind) == SK_OK && kind == 0 &&
                 mp_read_uint(&reader, &read->msgid) == SK_OK && mp_read_str(&reader, &read->method) == SK_OK &&
                 mp_skip(&reader, &read->params) == SK_OK;
    if (sound && count == 5) sound = mp_skip(&reader, &read->options) == SK_OK;
    return sound && mp_left(&reader) == 0;
}

void fake_reply_begin(struct buffer *reply, uint64_t msgid) {
    mp_write_array(reply, 4);
    mp_write_uint(reply, 1);
    mp_write_uint(reply, msgid);
    mp_write_nil(reply);
}

void fake_reply_error(struct buffer *reply, uint64_t msgid, const char *code, const char *text) {
    mp_write_array(reply, 4);
    mp_write_uint(reply, 1);
    mp_write_uint(reply, msgid);
    mp_write_array(reply, 2);
    mp_write_text(reply, code);
    mp_write_text(reply, text);
    mp_write_nil(reply);
}
