/* A flight is one request at a time, over and over:
 *
 *   SENDING ──▶ RECEIVING ──▶ (counted) ──▶ SENDING          the next, while there is one
 *      │            │
 *      └────────────┴──▶ PAUSING ──▶ SENDING                  after an error; when loading, the same again
 *
 * Everything of a flight is touched by its callback alone, one at a time; the main thread starts flights and then
 * only reads atomics. */
#include "bench.h"

#include "bench_request.h"
#include "client.h"
#include "door.h"
#include "histogram.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "session.h"

#include <inttypes.h>
#include <jansson.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LOAD_BATCH       100
#define PAUSE_MS         10
#define LOAD_RETRIES_MAX 3000 /* of one request: half a minute and more */
#define GRACE_MS         2000 /* beyond the gateway's own deadline */
#define CODES_MAX        16
#define CODE_BYTES       24
#define TICK_MS          100

enum flight_state { FLIGHT_SENDING, FLIGHT_RECEIVING, FLIGHT_PAUSING };

struct bench;

struct flight {
    struct bench *bench;
    nng_ctx ctx;
    nng_aio *aio; /* owned */
    enum flight_state state;
    struct keys_chooser chooser;
    struct bench_command *commands; /* owned; of the request in flight */
    uint64_t count, reads;
    uint32_t msgid;
    uint32_t retries;
    uint64_t start_us;
};

struct code_count {
    char code[CODE_BYTES];
    uint64_t count;
};

struct bench {
    const struct bench_options *options;
    struct bench_maker *maker;
    struct keys_plan plan;
    nng_socket *sockets; /* owned; options->connections, opened so far: socket_count */
    uint64_t socket_count;
    struct flight *flights; /* owned; options->in_flight, ready so far: flight_count */
    uint64_t flight_count;
    struct histogram *reads, *writes;                          /* owned: one allocation of five */
    struct histogram *reads_before, *writes_before, *interval; /* the main thread's */
    uint64_t load_batch;

    bool loading; /* set while no flight is in the air */
    atomic_bool stop;
    atomic_uint_fast64_t loaded_next; /* the next key to load */
    atomic_uint_fast64_t done;        /* commands answered without error in this phase */
    atomic_uint_fast64_t missing;
    atomic_uint_fast64_t failed;

    pthread_mutex_t lock;
    pthread_cond_t landed;
    uint64_t flying;                    /* under lock */
    struct code_count codes[CODES_MAX]; /* under lock */
};

struct bench_options bench_defaults(void) {
    return (struct bench_options){
        .connections = 1,
        .in_flight = 64,
        .batch = 1,
        .value_bytes = 100,
        .keys = 1000000,
        .reads_percent = 50,
        .duration_ms = 60000,
    };
}

static void count_errors(struct bench *bench, struct slice code, uint64_t count) {
    atomic_fetch_add_explicit(&bench->failed, count, memory_order_relaxed);
    size_t size = code.size < CODE_BYTES ? code.size : CODE_BYTES - 1;
    pthread_mutex_lock(&bench->lock);
    for (int i = 0; i < CODES_MAX; i++) {
        struct code_count *known = &bench->codes[i];
        if (known->count == 0) memcpy(known->code, code.data, size);
        if (strlen(known->code) != size || memcmp(known->code, code.data, size) != 0) continue;
        known->count += count;
        break;
    }
    pthread_mutex_unlock(&bench->lock);
}

/* ---- a flight ---- */

static void flight_land(struct flight *flight) {
    struct bench *bench = flight->bench;
    pthread_mutex_lock(&bench->lock);
    if (--bench->flying == 0) pthread_cond_signal(&bench->landed);
    pthread_mutex_unlock(&bench->lock);
}

/* The next commands to send; false when there are none. */
static bool choose_load(struct flight *flight) {
    struct bench *bench = flight->bench;
    uint64_t first = atomic_fetch_add_explicit(&bench->loaded_next, bench->load_batch, memory_order_relaxed);
    uint64_t keys = bench->options->keys;
    if (first >= keys) return false;
    flight->count = keys - first < bench->load_batch ? keys - first : bench->load_batch;
    flight->reads = 0;
    for (uint64_t i = 0; i < flight->count; i++)
        flight->commands[i] = (struct bench_command){.key = first + i, .write = true};
    return true;
}

static bool choose_read(struct flight *flight) {
    uint64_t percent = flight->bench->options->reads_percent;
    return percent >= 100 || (percent > 0 && keys_random(&flight->chooser) % 100 < percent);
}

static void choose_run(struct flight *flight) {
    const struct bench_options *options = flight->bench->options;
    bool read = choose_read(flight);
    flight->count = options->batch;
    flight->reads = 0;
    for (uint64_t i = 0; i < flight->count; i++) {
        if (i > 0 && !options->whole_batches) read = choose_read(flight);
        flight->commands[i] = (struct bench_command){.key = keys_choose(&flight->chooser), .write = !read};
        flight->reads += read;
    }
}

static void flight_send(struct flight *flight) {
    struct bench *bench = flight->bench;
    nng_msg *message;
    if (nng_msg_alloc(&message, bench_request_bytes_max(bench->maker, flight->count)) != 0) {
        count_errors(bench, slice_of_text("ENOMEM"), flight->count);
        flight_land(flight);
        return;
    }
    uint64_t id[2] = {keys_random(&flight->chooser), keys_random(&flight->chooser)};
    size_t size = bench_request_write(bench->maker, nng_msg_body(message), ++flight->msgid, flight->commands,
                                      flight->count, id);
    nng_msg_chop(message, nng_msg_len(message) - size);
    flight->state = FLIGHT_SENDING;
    flight->start_us = clock_boottime_us();
    nng_aio_set_msg(flight->aio, message);
    nng_ctx_send(flight->ctx, flight->aio);
}

static void flight_next(struct flight *flight) {
    struct bench *bench = flight->bench;
    flight->retries = 0;
    bool more = !atomic_load_explicit(&bench->stop, memory_order_relaxed);
    if (more && bench->loading) more = choose_load(flight);
    if (!more) {
        flight_land(flight);
        return;
    }
    if (!bench->loading) choose_run(flight);
    flight_send(flight);
}

static void flight_pause(struct flight *flight) {
    flight->retries++;
    flight->state = FLIGHT_PAUSING;
    nng_sleep_aio(PAUSE_MS, flight->aio);
}

static void flight_resume(struct flight *flight) {
    struct bench *bench = flight->bench;
    if (bench->loading && flight->retries == LOAD_RETRIES_MAX) atomic_store(&bench->stop, true);
    if (!bench->loading || atomic_load_explicit(&bench->stop, memory_order_relaxed)) flight_next(flight);
    else flight_send(flight); /* the same SETs: they may well have happened */
}

static void flight_fail(struct flight *flight, int rc) {
    const char *code = rc == NNG_ETIMEDOUT ? "(no answer)" : "(connection lost)";
    count_errors(flight->bench, slice_of_text(code), flight->count);
    flight_pause(flight);
}

static void flight_count_answers(struct flight *flight, const struct bench_answers *answers) {
    struct bench *bench = flight->bench;
    if (answers->failed > 0) count_errors(bench, answers->code, answers->failed);
    bool repeat = bench->loading && answers->failed > 0;
    if (!repeat) atomic_fetch_add_explicit(&bench->done, answers->ok, memory_order_relaxed);
    if (answers->failed > 0) {
        flight_pause(flight);
        return;
    }
    atomic_fetch_add_explicit(&bench->missing, answers->missing, memory_order_relaxed);
    if (!bench->loading) {
        uint64_t took_us = clock_boottime_us() - flight->start_us;
        histogram_record(bench->reads, took_us, flight->reads);
        histogram_record(bench->writes, took_us, flight->count - flight->reads);
    }
    flight_next(flight);
}

static void flight_receive(struct flight *flight) {
    nng_msg *message = nng_aio_get_msg(flight->aio);
    struct bench_answers answers;
    int err = bench_reply_read(slice_of(nng_msg_body(message), nng_msg_len(message)), flight->count, &answers);
    if (err != SK_OK)
        answers = (struct bench_answers){.failed = flight->count, .code = slice_of_text("(malformed answer)")};
    /* answers.code points into the message. */
    if (answers.failed == 0) nng_msg_free(message);
    bool failed = answers.failed > 0;
    flight_count_answers(flight, &answers);
    if (failed) nng_msg_free(message);
}

static void flight_cb(void *arg) {
    struct flight *flight = arg;
    int rc = nng_aio_result(flight->aio);
    switch (flight->state) {
    case FLIGHT_SENDING:
        if (rc != 0) {
            nng_msg_free(nng_aio_get_msg(flight->aio)); /* not sent: still ours */
            flight_fail(flight, rc);
            return;
        }
        flight->state = FLIGHT_RECEIVING;
        nng_ctx_recv(flight->ctx, flight->aio);
        return;
    case FLIGHT_RECEIVING:
        if (rc != 0) flight_fail(flight, rc);
        else flight_receive(flight);
        return;
    case FLIGHT_PAUSING:
        flight_resume(flight);
        return;
    }
}

/* ---- setting up ---- */

static int connect_all(struct bench *bench) {
    for (uint64_t i = 0; i < bench->options->connections; i++) {
        nng_socket *socket = &bench->sockets[i];
        int rc = nng_req0_open(socket);
        if (rc == 0) bench->socket_count++;
        if (rc == 0) rc = nng_socket_set_ms(*socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE);
        if (rc == 0) rc = nng_socket_set_size(*socket, NNG_OPT_RECVMAXSZ, MESSAGE_BYTES_MAX + 65536);
        if (rc == 0) rc = nng_socket_set_ms(*socket, NNG_OPT_RECONNMINT, 20);
        if (rc == 0) rc = nng_socket_set_ms(*socket, NNG_OPT_RECONNMAXT, 200);
        nng_dialer dialer;
        if (rc == 0) rc = door_dialer(&dialer, *socket, bench->options->gateway);
        if (rc == 0) rc = nng_dialer_start(dialer, 0);
        if (rc == 0) continue;
        fprintf(stderr, "skerry: connection %" PRIu64 " to %s: %s\n", i + 1, bench->options->gateway,
                nng_strerror(rc));
        return SK_ENET;
    }
    return SK_OK;
}

static int make_flights(struct bench *bench) {
    uint64_t commands = bench->options->batch > bench->load_batch ? bench->options->batch : bench->load_batch;
    uint64_t seed[2];
    client_make_id((uint8_t *)seed);
    for (uint64_t i = 0; i < bench->options->in_flight; i++) {
        struct flight *flight = &bench->flights[i];
        flight->bench = bench;
        flight->commands = calloc(commands, sizeof *flight->commands);
        keys_chooser_init(&flight->chooser, &bench->plan, seed[0] + i);
        bench->flight_count++;
        int rc = nng_ctx_open(&flight->ctx, bench->sockets[i % bench->options->connections]);
        if (rc == 0) rc = nng_aio_alloc(&flight->aio, flight_cb, flight);
        if (rc != 0 || flight->commands == NULL) return SK_ENOMEM;
        nng_aio_set_timeout(flight->aio, (nng_duration)(bench->options->timeout_ms + GRACE_MS));
    }
    return SK_OK;
}

/* The gateway's first connection says why it cannot be reached. */
static int probe(const struct bench_options *options) {
    struct client *client;
    char text[128] = "";
    int err = client_open(&client, options->gateway, options->timeout_ms, text, sizeof text);
    if (err == SK_OK) client_close(client);
    else fprintf(stderr, "skerry: cannot reach the gateway at %s: %s\n", options->gateway, text);
    return err;
}

static int set_up(struct bench *bench) {
    const struct bench_options *options = bench->options;
    bench->load_batch = options->batch > LOAD_BATCH ? options->batch : LOAD_BATCH;
    while (bench->load_batch > 1 && bench->load_batch * (options->value_bytes + 64) > MESSAGE_BYTES_MAX / 8)
        bench->load_batch /= 2;
    uint64_t batch_max = options->batch > bench->load_batch ? options->batch : bench->load_batch;
    struct bench_maker_options maker = {.value_bytes = options->value_bytes,
                                        .batch_max = batch_max,
                                        .ids = options->ids,
                                        .follower_reads = options->follower_reads,
                                        .timeout_ms = options->timeout_ms,
                                        .token = door_token()};
    int err = bench_maker_new(&bench->maker, &maker);
    if (err == SK_TOOLARGE) fprintf(stderr, "skerry: a batch of such values is larger than a message may be\n");
    if (err != SK_OK) return err;
    keys_plan_init(&bench->plan, (enum keys_distribution)options->distribution, options->keys);
    bench->sockets = calloc(options->connections, sizeof *bench->sockets);
    bench->flights = calloc(options->in_flight, sizeof *bench->flights);
    bench->reads = calloc(5, sizeof *bench->reads);
    if (bench->sockets == NULL || bench->flights == NULL || bench->reads == NULL) return SK_ENOMEM;
    bench->writes = bench->reads + 1;
    bench->reads_before = bench->reads + 2;
    bench->writes_before = bench->reads + 3;
    bench->interval = bench->reads + 4;
    err = probe(options);
    if (err == SK_OK) err = connect_all(bench);
    return err == SK_OK ? make_flights(bench) : err;
}

/* No flight is in the air. */
static void tear_down(struct bench *bench) {
    for (uint64_t i = 0; i < bench->flight_count; i++) {
        if (bench->flights[i].aio != NULL) nng_aio_stop(bench->flights[i].aio);
        nng_aio_free(bench->flights[i].aio); /* before the context: nng 1.5.2 may still be at expiring it */
        nng_ctx_close(bench->flights[i].ctx);
        free(bench->flights[i].commands);
    }
    for (uint64_t i = 0; i < bench->socket_count; i++) nng_close(bench->sockets[i]);
    bench_maker_free(bench->maker);
    free(bench->sockets);
    free(bench->flights);
    free(bench->reads);
    pthread_mutex_destroy(&bench->lock);
    pthread_cond_destroy(&bench->landed);
}

/* ---- a phase: all flights up, progress each second, all down ---- */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number) {
    (void)number;
    interrupted = 1;
}

/* True when the last flight has landed. */
static bool wait_tick(struct bench *bench) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += TICK_MS * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&bench->lock);
    int rc = 0;
    while (bench->flying > 0 && rc == 0) rc = pthread_cond_timedwait(&bench->landed, &bench->lock, &until);
    bool landed = bench->flying == 0;
    pthread_mutex_unlock(&bench->lock);
    return landed;
}

struct progress {
    uint64_t start_us, last_us, last_done;
    bool terminal, shown;
};

static void show_progress(struct bench *bench, struct progress *progress) {
    uint64_t now_us = clock_boottime_us();
    uint64_t done = atomic_load_explicit(&bench->done, memory_order_relaxed);
    double rate = (double)(done - progress->last_done) * 1e6 / (double)(now_us - progress->last_us);
    progress->last_us = now_us;
    progress->last_done = done;
    progress->shown = true;
    fprintf(stderr, "%s", progress->terminal ? "\r\x1b[K" : "");
    uint64_t failed = atomic_load_explicit(&bench->failed, memory_order_relaxed);
    if (bench->loading) {
        uint64_t keys = bench->options->keys;
        fprintf(stderr, "loading: %" PRIu64 " of %" PRIu64 " keys (%.0f %%), %.0f/s, errors %" PRIu64, done, keys,
                (double)done * 100.0 / (double)keys, rate, failed);
    } else {
        memset(bench->interval, 0, sizeof *bench->interval);
        histogram_add_interval(bench->reads, bench->reads_before, bench->interval);
        histogram_add_interval(bench->writes, bench->writes_before, bench->interval);
        fprintf(stderr, "%3.0f s  %.0f ops/s  p99 %.2f ms  errors %" PRIu64,
                (double)(now_us - progress->start_us) / 1e6, rate,
                (double)histogram_percentile(bench->interval, 99) / 1000.0, failed);
    }
    fprintf(stderr, "%s", progress->terminal ? "" : "\n");
}

/* Microseconds it took, until `duration_ms` was over or there was nothing left to do, and in `done` what was
 * answered by then. */
static uint64_t run_phase(struct bench *bench, uint64_t duration_ms, uint64_t *done) {
    uint64_t start_us = clock_boottime_us(), stop_us = 0;
    struct progress progress = {.start_us = start_us, .last_us = start_us, .terminal = isatty(STDERR_FILENO)};
    atomic_store(&bench->done, 0);
    bench->flying = bench->flight_count;
    for (uint64_t i = 0; i < bench->flight_count; i++) flight_next(&bench->flights[i]);
    while (!wait_tick(bench)) {
        uint64_t now_us = clock_boottime_us();
        bool over = interrupted || (duration_ms > 0 && now_us - start_us >= duration_ms * 1000);
        if (over && stop_us == 0) {
            stop_us = now_us;
            *done = atomic_load(&bench->done);
            atomic_store(&bench->stop, true);
        }
        if (now_us - progress.last_us >= 1000000 && stop_us == 0) show_progress(bench, &progress);
    }
    if (progress.shown && progress.terminal) fprintf(stderr, "\n");
    if (stop_us == 0) {
        stop_us = clock_boottime_us();
        *done = atomic_load(&bench->done);
    }
    return stop_us - start_us;
}

/* ---- the result ---- */

static const struct {
    const char *name;
    double percent;
} percentiles[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99.9", 99.9}};

#define PERCENTILES (sizeof percentiles / sizeof percentiles[0])

static void show_kind(const char *name, const struct histogram *histogram, double seconds) {
    uint64_t count = histogram_count(histogram);
    if (count == 0) return;
    printf("%-7s %12" PRIu64 "  %10.0f/s ", name, count, (double)count / seconds);
    for (size_t i = 0; i < PERCENTILES; i++)
        printf("  %s %.3f", percentiles[i].name,
               (double)histogram_percentile(histogram, percentiles[i].percent) / 1000.0);
    printf("  max %.3f ms\n", (double)histogram_max(histogram) / 1000.0);
}

static void show_result(struct bench *bench, uint64_t done, double seconds) {
    const struct bench_options *options = bench->options;
    static const char *const distributions[] = {"uniform", "zipf", "sequential"};
    printf("%" PRIu64 " in flight over %" PRIu64 " connections, batch %" PRIu64 ", %" PRIu64
           " keys %s, values of %" PRIu64 " bytes, %" PRIu64 " %% reads, %ld cores\n",
           options->in_flight, options->connections, options->batch, options->keys,
           distributions[options->distribution], options->value_bytes, options->reads_percent,
           sysconf(_SC_NPROCESSORS_ONLN));
    printf("total   %12" PRIu64 "  %10.0f/s  in %.1f s\n", done, (double)done / seconds, seconds);
    show_kind("reads", bench->reads, seconds);
    show_kind("writes", bench->writes, seconds);
    uint64_t missing = atomic_load(&bench->missing);
    if (missing > 0) printf("missing %12" PRIu64 "  reads found no key (--load sets them all first)\n", missing);
    for (int i = 0; i < CODES_MAX && bench->codes[i].count > 0; i++)
        printf("error   %12" PRIu64 "  %s\n", bench->codes[i].count, bench->codes[i].code);
}

static json_t *kind_as_json(const struct histogram *histogram, double seconds) {
    uint64_t count = histogram_count(histogram);
    json_t *json = json_pack("{s:I,s:f,s:I}", "count", (json_int_t)count, "per_second", (double)count / seconds,
                             "max_us", (json_int_t)histogram_max(histogram));
    for (size_t i = 0; i < PERCENTILES; i++) {
        char name[16];
        snprintf(name, sizeof name, "%s_us", percentiles[i].name);
        uint64_t value = histogram_percentile(histogram, percentiles[i].percent);
        json_object_set_new(json, name, json_integer((json_int_t)value));
    }
    return json;
}

static void show_result_json(struct bench *bench, uint64_t done, double seconds) {
    const struct bench_options *options = bench->options;
    static const char *const distributions[] = {"uniform", "zipf", "sequential"};
    json_t *errors = json_object();
    for (int i = 0; i < CODES_MAX && bench->codes[i].count > 0; i++)
        json_object_set_new(errors, bench->codes[i].code, json_integer((json_int_t)bench->codes[i].count));
    json_t *json = json_pack(
        "{s:I,s:f,s:f,s:I,s:o,s:o,s:o}", "commands", (json_int_t)done, "seconds", seconds, "per_second",
        (double)done / seconds, "missing", (json_int_t)atomic_load(&bench->missing), "reads",
        kind_as_json(bench->reads, seconds), "writes", kind_as_json(bench->writes, seconds), "errors", errors);
    json_t *how =
        json_pack("{s:I,s:I,s:I,s:I,s:I,s:s,s:I,s:b,s:I}", "connections", (json_int_t)options->connections,
                  "in_flight", (json_int_t)options->in_flight, "batch", (json_int_t)options->batch, "value_bytes",
                  (json_int_t)options->value_bytes, "keys", (json_int_t)options->keys, "distribution",
                  distributions[options->distribution], "reads_percent", (json_int_t)options->reads_percent, "ids",
                  options->ids, "cores", (json_int_t)sysconf(_SC_NPROCESSORS_ONLN));
    json_object_set_new(json, "options", how);
    json_dumpf(json, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    printf("\n");
    json_decref(json);
}

/* ---- the module ---- */

/* False when it did not end well: no use in going on. */
static bool load_keys(struct bench *bench) {
    uint64_t done;
    bench->loading = true;
    uint64_t took_us = run_phase(bench, 0, &done);
    bench->loading = false;
    bool whole = done == bench->options->keys;
    fprintf(stderr, "loaded %" PRIu64 " of %" PRIu64 " keys in %.1f s, %.0f/s\n", done, bench->options->keys,
            (double)took_us / 1e6, (double)done * 1e6 / (double)took_us);
    for (int i = 0; i < CODES_MAX && bench->codes[i].count > 0; i++)
        fprintf(stderr, "  error %" PRIu64 " %s\n", bench->codes[i].count, bench->codes[i].code);
    memset(bench->codes, 0, sizeof bench->codes); /* no flight is in the air */
    atomic_store(&bench->failed, 0);
    return whole;
}

static int run(struct bench *bench) {
    if (bench->options->load && !load_keys(bench)) return EXIT_ERROR_ANSWER;
    uint64_t done;
    double seconds = (double)run_phase(bench, bench->options->duration_ms, &done) / 1e6;
    if (bench->options->json) show_result_json(bench, done, seconds);
    else show_result(bench, done, seconds);
    return atomic_load(&bench->failed) == 0 ? EXIT_OK : EXIT_ERROR_ANSWER;
}

int bench_run(const struct bench_options *options) {
    struct bench bench = {.options = options};
    pthread_mutex_init(&bench.lock, NULL);
    pthread_cond_init(&bench.landed, NULL);
    struct sigaction action = {.sa_handler = on_interrupt}, old;
    int err = set_up(&bench);
    sigaction(SIGINT, &action, &old);
    int code;
    if (err == SK_OK) code = run(&bench);
    else
        code = err == SK_ENET                            ? EXIT_UNREACHABLE
               : err == SK_TOOLARGE || err == SK_ECONFIG ? EXIT_USAGE
                                                         : EXIT_ERROR_ANSWER;
    sigaction(SIGINT, &old, NULL);
    tear_down(&bench);
    return code;
}
