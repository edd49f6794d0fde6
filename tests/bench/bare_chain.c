/* What the transport alone allows: a client, a gateway and servers that do no work, in the shape of Skerry's own chain.
 * REQ contexts at the client, REP contexts at the gateway, frames over PUSH and PULL that gather what comes while one is
 * on its way. With --write each frame is appended to a preallocated file and synced, by the server and by a second one
 * that it sends the frame on to, before it is answered. Each part is a process of its own, as Skerry's daemons are. */
#include "bare_chain.h"

#include "cli/options.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/scheduling.h"
#include "load_report.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/supplemental/util/platform.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ---- client ---- */

struct call {
    nng_ctx ctx;
    nng_aio *aio;
    uint64_t begin_us;
    bool receiving, answered;
};

static struct histogram latencies;
static atomic_bool counting, ended;
static atomic_uint_fast64_t calls_answered; /* once at least */

static void call_begin(struct call *call) {
    nng_msg *request;
    bare_must(nng_msg_alloc(&request, BARE_REQUEST_BYTES), "message");
    call->begin_us = clock_boottime_us();
    call->receiving = false;
    nng_aio_set_msg(call->aio, request);
    nng_ctx_send(call->ctx, call->aio);
}

static void call_cb(void *arg) {
    struct call *call = arg;
    if (atomic_load_explicit(&ended, memory_order_relaxed)) return;
    bare_must(nng_aio_result(call->aio), "call");
    if (!call->receiving) {
        call->receiving = true;
        nng_ctx_recv(call->ctx, call->aio);
        return;
    }
    nng_msg_free(nng_aio_get_msg(call->aio));
    if (!call->answered) atomic_fetch_add(&calls_answered, 1);
    call->answered = true;
    if (atomic_load_explicit(&counting, memory_order_relaxed))
        histogram_record(&latencies, clock_boottime_us() - call->begin_us, 1);
    call_begin(call);
}

static nng_socket connect_one(const char *url) {
    nng_socket req;
    bare_must(nng_req0_open(&req), "req");
    bare_must(nng_socket_set_ms(req, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE), "option");
    bare_must(nng_socket_set_ms(req, NNG_OPT_RECONNMINT, 10), "option");
    bare_must(nng_dial(req, url, NULL, NNG_FLAG_NONBLOCK), url);
    return req;
}

static void begin_calls(const struct bare_options *options) {
    char url[64];
    bare_url(options, BARE_PORT_CLIENTS, url);
    nng_socket *sockets = calloc(options->connections, sizeof *sockets);
    struct call *calls = calloc(options->in_flight, sizeof *calls);
    if (sockets == NULL || calls == NULL) bare_must(NNG_ENOMEM, "calls");
    for (uint64_t i = 0; i < options->connections; i++) sockets[i] = connect_one(url);
    for (uint64_t i = 0; i < options->in_flight; i++) {
        bare_must(nng_ctx_open(&calls[i].ctx, sockets[i % options->connections]), "context");
        bare_must(nng_aio_alloc(&calls[i].aio, call_cb, &calls[i]), "aio");
        call_begin(&calls[i]);
    }
}

/* ---- processes ---- */

static double cpu_seconds_of(pid_t pid) {
    clockid_t clock;
    struct timespec used;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0)
        bare_must(NNG_ECLOSED, "a process of the chain");
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

static double cpu_seconds_of_all(const pid_t *children, uint64_t count) {
    double sum = 0;
    for (uint64_t i = 0; i < count; i++) sum += cpu_seconds_of(children[i]);
    return sum;
}

static pid_t start(const struct bare_options *options, uint64_t which) {
    pid_t chain = getpid(), child = fork();
    if (child < 0) bare_must(NNG_ENOMEM, "fork");
    if (child > 0) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != chain) _exit(1);
    scheduling_use(SCHEDULING_BATCH); /* as the daemons do */
    if (which == options->servers) bare_gateway_run(options);
    bare_server_run(options, (int)which);
}

static void measure(const struct bare_options *options, const pid_t *children, uint64_t warm_up_ms,
                    uint64_t duration_ms) {
    begin_calls(options);
    while (atomic_load(&calls_answered) < options->in_flight)
        nng_msleep(10); /* logs are written, all are connected */
    nng_msleep((nng_duration)warm_up_ms);
    double cpu_before = cpu_seconds_of_all(children, options->servers + 1);
    uint64_t begin_us = clock_boottime_us();
    atomic_store(&counting, true);
    nng_msleep((nng_duration)duration_ms);
    atomic_store(&counting, false);
    bool writes = options->write_directory != NULL;
    struct load_report report = {.seconds = (double)(clock_boottime_us() - begin_us) / 1e6,
                                 .commands = histogram_count(&latencies),
                                 .reads = writes ? NULL : &latencies,
                                 .writes = writes ? &latencies : NULL};
    report.cpu_seconds = cpu_seconds_of_all(children, options->servers + 1) - cpu_before;
    load_report_print(&report);
}

static const char *mistake_in(const struct bare_options *options) {
    if (options->connections > options->in_flight) return "each connection has something in flight";
    if (options->copies > options->servers) return "each copy lies on a server of its own";
    return NULL;
}

int main(int argc, char **argv) {
    struct bare_options chain = {
        .in_flight = 64, .connections = 1, .servers = 3, .copies = 2, .port = 20000 + (uint64_t)getpid() % 10000};
    uint64_t duration_ms = 10000, warm_up_ms = 1000;
    bool help = false;
    const struct option options[] = {
        {"--in-flight", OPTION_UINT, &chain.in_flight, 1, BARE_CONTEXTS, NULL, "N", "requests at once (64)"},
        {"--connections", OPTION_UINT, &chain.connections, 1, BARE_CONTEXTS, NULL, "N", "over so many (1)"},
        {"--servers", OPTION_UINT, &chain.servers, 1, BARE_SERVERS_MAX, NULL, "N", "behind the gateway (3)"},
        {"--write", OPTION_TEXT, &chain.write_directory, 0, 0, NULL, "DIR", "append and sync there"},
        {"--copies", OPTION_UINT, &chain.copies, 1, 2, NULL, "N", "of what is written: at how many servers (2)"},
        {"--port", OPTION_UINT, &chain.port, 1, 65000, NULL, "PORT", "the first of twelve"},
        {"--warm-up", OPTION_DURATION_MS, &warm_up_ms, 0, 0, NULL, "TIME", "not counted (1s)"},
        {"--duration", OPTION_DURATION_MS, &duration_ms, 1, 0, NULL, "TIME", "how long (10s)"},
        {"--help", OPTION_SWITCH, &help, 0, 0, NULL, NULL, "this text"},
    };
    char text[256];
    int at = 1;
    const char *mistake = options_parse(options, COUNT(options), argc, argv, &at, text, sizeof text) != SK_OK
                              ? text
                          : at < argc ? "only options are expected"
                                      : mistake_in(&chain);
    if (help || mistake != NULL) {
        if (mistake != NULL) fprintf(stderr, "bare_chain: %s\n", mistake);
        options_print_help(options, COUNT(options));
        return mistake != NULL ? 2 : 0;
    }
    pid_t children[BARE_SERVERS_MAX + 1];
    for (uint64_t i = 0; i <= chain.servers; i++) children[i] = start(&chain, i);
    measure(&chain, children, warm_up_ms, duration_ms);
    atomic_store(&ended, true);
    for (uint64_t i = 0; i <= chain.servers; i++) {
        kill(children[i], SIGKILL);
        waitpid(children[i], NULL, 0);
    }
    return 0; /* calls under way end with the process */
}
