/* What the transport alone allows: a client, a gateway and three servers that do no work, in the shape of Skerry's own
 * chain. REQ contexts at the client, REP contexts at the gateway, frames over PUSH and PULL both ways that gather what
 * comes while one is on its way; with --write, each frame is appended to a preallocated file and synced before it is
 * answered. Each part is a process of its own, as Skerry's daemons are.
 *
 *   bare_chain IN_FLIGHT SECONDS [--write DIRECTORY] */
#include "cli/histogram.h"
#include "libcommon/clock.h"

#include <fcntl.h>
#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/supplemental/util/platform.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SERVERS = 3, CONTEXTS = 256, REQUEST_BYTES = 130, ITEM_BYTES = 160, LOG_BYTES = 64 << 20 };

static char root[64]; /* sockets of the chain lie here */

static void must(int rv, const char *what) {
    if (rv == 0) return;
    fprintf(stderr, "bare_chain: %s: %s\n", what, nng_strerror(rv));
    _exit(1);
}

static int port_of(int which) { return 20000 + (int)(strtoul(root, NULL, 10) % 20000) + which; }

static void url_of(char *url, int which) { snprintf(url, 64, "tcp://127.0.0.1:%d", port_of(which)); }

/* ---- a pipe for frames: items gather while a frame is on its way ---- */

struct sender {
    nng_socket socket;
    nng_aio *aio;
    pthread_mutex_t lock;
    nng_msg *pending; /* NULL: nothing gathered */
    bool sending;
};

static void sender_next(struct sender *sender) {
    if (sender->sending || sender->pending == NULL) return;
    nng_aio_set_msg(sender->aio, sender->pending);
    sender->pending = NULL;
    sender->sending = true;
    nng_send_aio(sender->socket, sender->aio);
}

static void sent_cb(void *arg) {
    struct sender *sender = arg;
    pthread_mutex_lock(&sender->lock);
    sender->sending = false;
    sender_next(sender);
    pthread_mutex_unlock(&sender->lock);
}

static void sender_open(struct sender *sender, int which) {
    char url[64];
    url_of(url, which);
    pthread_mutex_init(&sender->lock, NULL);
    must(nng_push0_open(&sender->socket), "push");
    must(nng_aio_alloc(&sender->aio, sent_cb, sender), "aio");
    must(nng_socket_set_ms(sender->socket, NNG_OPT_RECONNMINT, 10), "option");
    must(nng_dial(sender->socket, url, NULL, NNG_FLAG_NONBLOCK), url);
}

static void sender_add(struct sender *sender, const void *item, size_t size) {
    pthread_mutex_lock(&sender->lock);
    if (sender->pending == NULL) must(nng_msg_alloc(&sender->pending, 0), "message");
    must(nng_msg_append(sender->pending, item, size), "append");
    sender_next(sender);
    pthread_mutex_unlock(&sender->lock);
}

/* ---- server: PULL, an optional synced append, PUSH ---- */

static _Noreturn void run_server(int which, const char *log_directory) {
    char url[64], path[256];
    nng_socket pull;
    struct sender answers = {0};
    int fd = -1;
    off_t at = 0;
    if (log_directory != NULL) {
        snprintf(path, sizeof path, "%s/bare-chain-%d", log_directory, which);
        fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
        char *zeros = calloc(1, LOG_BYTES);
        if (fd < 0 || zeros == NULL || write(fd, zeros, LOG_BYTES) != LOG_BYTES || fsync(fd) != 0) _exit(1);
        free(zeros);
        unlink(path);
    }
    url_of(url, 1 + which);
    must(nng_pull0_open(&pull), "pull");
    must(nng_listen(pull, url, NULL, 0), url);
    sender_open(&answers, 10);
    for (;;) {
        nng_msg *frame;
        must(nng_recvmsg(pull, &frame, 0), "receive");
        if (fd >= 0) {
            size_t size = nng_msg_len(frame);
            if (at + (off_t)size > LOG_BYTES) at = 0;
            if (pwrite(fd, nng_msg_body(frame), size, at) != (ssize_t)size || fdatasync(fd) != 0) _exit(1);
            at += (off_t)size;
        }
        sender_add(&answers, nng_msg_body(frame), nng_msg_len(frame));
        nng_msg_free(frame);
    }
}

/* ---- gateway: REP contexts, a frame per server, answers matched by context ---- */

struct context {
    nng_ctx ctx;
    nng_aio *aio;
    bool replying;
};

static struct context contexts[CONTEXTS];
static struct sender servers[SERVERS];

static void context_cb(void *arg) {
    struct context *context = arg;
    if (nng_aio_result(context->aio) != 0) _exit(1);
    if (context->replying) {
        context->replying = false;
        nng_ctx_recv(context->ctx, context->aio);
        return;
    }
    uint8_t item[ITEM_BYTES] = {0};
    uint32_t number = (uint32_t)(context - contexts);
    nng_msg *request = nng_aio_get_msg(context->aio);
    memcpy(item, &number, sizeof number);
    memcpy(item + sizeof number, nng_msg_body(request), nng_msg_len(request));
    nng_msg_free(request);
    sender_add(&servers[number % SERVERS], item, sizeof item);
}

static void answer(uint32_t number) {
    nng_msg *reply;
    must(nng_msg_alloc(&reply, 8), "message");
    contexts[number].replying = true;
    nng_aio_set_msg(contexts[number].aio, reply);
    nng_ctx_send(contexts[number].ctx, contexts[number].aio);
}

static _Noreturn void run_gateway(void) {
    char url[64];
    nng_socket rep, pull;
    url_of(url, 10);
    must(nng_pull0_open(&pull), "pull");
    must(nng_listen(pull, url, NULL, 0), url);
    for (int i = 0; i < SERVERS; i++) sender_open(&servers[i], 1 + i);
    must(nng_rep0_open(&rep), "rep");
    for (int i = 0; i < CONTEXTS; i++) {
        must(nng_ctx_open(&contexts[i].ctx, rep), "context");
        must(nng_aio_alloc(&contexts[i].aio, context_cb, &contexts[i]), "aio");
        nng_ctx_recv(contexts[i].ctx, contexts[i].aio);
    }
    url_of(url, 0);
    must(nng_listen(rep, url, NULL, 0), url);
    for (;;) {
        nng_msg *frame;
        must(nng_recvmsg(pull, &frame, 0), "receive");
        const uint8_t *item = nng_msg_body(frame);
        for (size_t left = nng_msg_len(frame); left >= ITEM_BYTES; left -= ITEM_BYTES, item += ITEM_BYTES) {
            uint32_t number;
            memcpy(&number, item, sizeof number);
            answer(number);
        }
        nng_msg_free(frame);
    }
}

/* ---- client ---- */

struct call {
    nng_ctx ctx;
    nng_aio *aio;
    uint64_t begin_us;
    bool receiving;
};

static struct histogram *latencies;
static atomic_ullong answered;

static void call_begin(struct call *call) {
    nng_msg *request;
    must(nng_msg_alloc(&request, REQUEST_BYTES), "message");
    call->begin_us = clock_boottime_us();
    call->receiving = false;
    nng_aio_set_msg(call->aio, request);
    nng_ctx_send(call->ctx, call->aio);
}

static void call_cb(void *arg) {
    struct call *call = arg;
    if (nng_aio_result(call->aio) != 0) return;
    if (!call->receiving) {
        call->receiving = true;
        nng_ctx_recv(call->ctx, call->aio);
        return;
    }
    nng_msg_free(nng_aio_get_msg(call->aio));
    histogram_record(latencies, clock_boottime_us() - call->begin_us, 1);
    atomic_fetch_add(&answered, 1);
    call_begin(call);
}

static void run_client(int in_flight, int seconds) {
    char url[64];
    nng_socket req;
    url_of(url, 0);
    must(nng_req0_open(&req), "req");
    must(nng_socket_set_ms(req, NNG_OPT_RECONNMINT, 10), "option");
    must(nng_dial(req, url, NULL, NNG_FLAG_NONBLOCK), url);
    struct call *calls = calloc((size_t)in_flight, sizeof *calls);
    for (int i = 0; i < in_flight; i++) {
        must(nng_ctx_open(&calls[i].ctx, req), "context");
        must(nng_aio_alloc(&calls[i].aio, call_cb, &calls[i]), "aio");
        call_begin(&calls[i]);
    }
    nng_msleep(500); /* connections; not counted */
    uint64_t before = atomic_load(&answered), begin_us = clock_boottime_us();
    nng_msleep(seconds * 1000);
    uint64_t count = atomic_load(&answered) - before;
    double took = (double)(clock_boottime_us() - begin_us) / 1e6;
    printf("bare chain: %.0f/s with %d in flight, p50 %.2f ms, p99 %.2f ms\n", (double)count / took, in_flight,
           (double)histogram_percentile(latencies, 50) / 1000, (double)histogram_percentile(latencies, 99) / 1000);
}

int main(int argc, char **argv) {
    if (argc != 3 && !(argc == 5 && strcmp(argv[3], "--write") == 0)) {
        fprintf(stderr, "usage: bare_chain IN_FLIGHT SECONDS [--write DIRECTORY]\n");
        return 2;
    }
    snprintf(root, sizeof root, "%d", getpid());
    pid_t children[SERVERS + 1];
    for (int i = 0; i <= SERVERS; i++) {
        children[i] = fork();
        if (children[i] != 0) continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (i == SERVERS) run_gateway();
        run_server(i, argc == 5 ? argv[4] : NULL);
    }
    latencies = calloc(1, sizeof *latencies);
    if (latencies == NULL) return 1;
    run_client(atoi(argv[1]), atoi(argv[2]));
    for (int i = 0; i <= SERVERS; i++) {
        kill(children[i], SIGKILL);
        waitpid(children[i], NULL, 0);
    }
    return 0;
}
