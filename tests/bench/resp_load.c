/* Loads a server that speaks Redis's protocol, in the manner of `skerry bench`, and prints one line of JSON. Beyond
 * redis-benchmark it can send `WAIT replicas 0` behind every batch of writes, so that a batch counts as answered when the
 * replicas have it, too.
 *
 * Each connection has one batch of commands under way: it is written whole, all its replies are read, the next follows. A
 * command's latency is its batch's. One thread, one libuv loop. */
#include "cli/keys.h"
#include "cli/options.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "load_report.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <uv.h>

#define COUNT(array)    (sizeof(array) / sizeof(array)[0])
#define LOAD_BATCH      100
#define COMMAND_BYTES   128 /* of a command without its value, and of a reply likewise */
#define ERROR_BYTES     512 /* room for one long error */
#define CONNECTIONS_MAX 10000

struct load_options {
    uint64_t port, connections, batch, value_bytes, keys, reads_percent, duration_ms, wait_replicas;
    bool load;
};

struct connection {
    struct loader *loader;
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    struct keys_chooser chooser;
    char *request, *replies; /* owned */
    size_t reply_bytes, reply_at;
    uint64_t begin_us, commands, reads, failed;
    uint64_t left;       /* replies to come */
    bool wait_under_way; /* the last of them is WAIT's */
};

struct loader {
    const struct load_options *options;
    uv_loop_t loop;
    uv_timer_t timer;
    struct connection *connections; /* owned */
    uint64_t flying;
    struct keys_plan plan;
    char *value;       /* owned */
    size_t room_bytes; /* of a connection's requests, and of its replies */
    struct histogram reads, writes;
    json_t *errors; /* owned */
    uint64_t done, missing, begin_us, end_us, done_at_end;
    bool loading, stopping;
    uint64_t loaded_next;
};

static _Noreturn void give_up(const char *what, const char *why) {
    fprintf(stderr, "resp_load: %s: %s\n", what, why);
    exit(1);
}

static void must(int rc, const char *what) {
    if (rc < 0) give_up(what, uv_strerror(rc));
}

/* ---- requests ---- */

static size_t put_set(const struct loader *loader, char *out, uint64_t key) {
    uint64_t value_bytes = loader->options->value_bytes;
    int head = sprintf(out, "*3\r\n$3\r\nSET\r\n$%d\r\n", KEYS_BYTES);
    char *at = out + head;
    keys_write(key, (uint8_t *)at);
    at += KEYS_BYTES;
    at += sprintf(at, "\r\n$%" PRIu64 "\r\n", value_bytes);
    memcpy(at, loader->value, value_bytes);
    memcpy(at + value_bytes, "\r\n", 2);
    return (size_t)(at - out) + value_bytes + 2;
}

static size_t put_get(char *out, uint64_t key) {
    int head = sprintf(out, "*2\r\n$3\r\nGET\r\n$%d\r\n", KEYS_BYTES);
    keys_write(key, (uint8_t *)out + head);
    memcpy(out + head + KEYS_BYTES, "\r\n", 2);
    return (size_t)head + KEYS_BYTES + 2;
}

static size_t put_wait(const struct loader *loader, char *out) {
    uint64_t replicas = loader->options->wait_replicas;
    return (size_t)sprintf(out, "*3\r\n$4\r\nWAIT\r\n$1\r\n%" PRIu64 "\r\n$1\r\n0\r\n", replicas);
}

/* The next keys in order; their count, 0 when all are loaded. */
static uint64_t take_keys_to_load(struct loader *loader, uint64_t *first) {
    uint64_t left = loader->options->keys - loader->loaded_next;
    uint64_t count = left < LOAD_BATCH ? left : LOAD_BATCH;
    *first = loader->loaded_next;
    loader->loaded_next += count;
    return count;
}

static bool choose_read(struct connection *connection) {
    return keys_random(&connection->chooser) % 100 < connection->loader->options->reads_percent;
}

/* Bytes of the next batch; 0: there is none. */
static size_t write_batch(struct connection *connection) {
    struct loader *loader = connection->loader;
    uint64_t first = 0, count = loader->options->batch;
    if (loader->stopping) return 0;
    if (loader->loading) count = take_keys_to_load(loader, &first);
    char *out = connection->request;
    connection->reads = connection->failed = 0;
    for (uint64_t i = 0; i < count; i++) {
        bool read = !loader->loading && choose_read(connection);
        uint64_t key = loader->loading ? first + i : keys_choose(&connection->chooser);
        out += read ? put_get(out, key) : put_set(loader, out, key);
        connection->reads += read;
    }
    connection->commands = count;
    connection->wait_under_way = loader->options->wait_replicas > 0 && connection->reads < count;
    if (connection->wait_under_way) out += put_wait(loader, out);
    connection->left = count + connection->wait_under_way;
    return (size_t)(out - connection->request);
}

/* ---- a phase: every connection sends batch after batch until there are no more ---- */

static void end_phase(struct loader *loader) {
    if (loader->end_us == 0) {
        loader->end_us = clock_boottime_us();
        loader->done_at_end = loader->done;
    }
    uv_timer_stop(&loader->timer);
    uv_stop(&loader->loop);
}

static void written_cb(uv_write_t *write, int status) {
    (void)write;
    must(status, "write");
}

static void send_next(struct connection *connection) {
    size_t bytes = write_batch(connection);
    if (bytes == 0) {
        if (--connection->loader->flying == 0) end_phase(connection->loader);
        return;
    }
    uv_buf_t buffer = uv_buf_init(connection->request, (unsigned)bytes);
    connection->begin_us = clock_boottime_us();
    must(uv_write(&connection->write, (uv_stream_t *)&connection->tcp, &buffer, 1, written_cb), "write");
}

static void count_error(struct loader *loader, const char *code, size_t bytes) {
    json_t *before = json_object_getn(loader->errors, code, bytes);
    json_object_setn_new(loader->errors, code, bytes, json_integer(json_integer_value(before) + 1));
}

static void end_batch(struct connection *connection) {
    struct loader *loader = connection->loader;
    loader->done += connection->commands - connection->failed;
    if (!loader->loading && connection->failed == 0) {
        uint64_t took_us = clock_boottime_us() - connection->begin_us;
        histogram_record(&loader->reads, took_us, connection->reads);
        histogram_record(&loader->writes, took_us, connection->commands - connection->reads);
    }
    send_next(connection);
}

/* ---- replies ---- */

/* WAIT told how many replicas have the writes before it: too few, and none of these counts. */
static void judge_wait(struct connection *connection, const char *line) {
    if (line[0] == ':' && strtoull(line + 1, NULL, 10) >= connection->loader->options->wait_replicas) return;
    count_error(connection->loader, "WAIT", 4);
    connection->failed = connection->commands;
}

static void judge_reply(struct connection *connection, const char *line, size_t bytes) {
    if (connection->wait_under_way && connection->left == 1) {
        judge_wait(connection, line);
    } else if (line[0] == '-') {
        const char *space = memchr(line, ' ', bytes);
        count_error(connection->loader, line + 1, (space != NULL ? (size_t)(space - line) : bytes) - 1);
        connection->failed++;
    } else if (line[0] == '$' && line[1] == '-') {
        connection->loader->missing++;
    }
}

/* One whole reply from reply_at on; false: it goes on behind what is there. Only what GET, SET and WAIT answer. */
static bool take_reply(struct connection *connection) {
    const char *line = connection->replies + connection->reply_at;
    size_t left = connection->reply_bytes - connection->reply_at;
    const char *end = memmem(line, left, "\r\n", 2);
    if (end == NULL) return false;
    size_t bytes = (size_t)(end - line) + 2;
    if (strchr("+-:$", line[0]) == NULL) give_up("reply", "is none to GET, SET or WAIT");
    if (line[0] == '$' && line[1] != '-') bytes += strtoull(line + 1, NULL, 10) + 2;
    if (bytes > left) return false;
    judge_reply(connection, line, (size_t)(end - line));
    connection->reply_at += bytes;
    connection->left--;
    return true;
}

static void read_cb(uv_stream_t *stream, ssize_t bytes, const uv_buf_t *buffer) {
    (void)buffer;
    struct connection *connection = stream->data;
    must((int)bytes, "read");
    connection->reply_bytes += (size_t)bytes;
    while (connection->left > 0 && take_reply(connection)) continue;
    if (connection->left > 0) return;
    if (connection->reply_at != connection->reply_bytes) give_up("reply", "to nothing");
    connection->reply_at = connection->reply_bytes = 0;
    end_batch(connection);
}

static void room_cb(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    (void)suggested;
    struct connection *connection = handle->data;
    size_t room = connection->loader->room_bytes - connection->reply_bytes;
    if (room == 0) give_up("reply", "is longer than any of GET, SET or WAIT");
    *buffer = uv_buf_init(connection->replies + connection->reply_bytes, (unsigned)room);
}

/* ---- setting up ---- */

static void connected_cb(uv_connect_t *connect, int status) {
    struct connection *connection = connect->data;
    must(status, "connect");
    must(uv_tcp_nodelay(&connection->tcp, 1), "connect");
    must(uv_read_start((uv_stream_t *)&connection->tcp, room_cb, read_cb), "read");
    if (--connection->loader->flying == 0) uv_stop(&connection->loader->loop);
}

static void open_connection(struct loader *loader, struct connection *connection, uint64_t seed) {
    struct sockaddr_in address;
    connection->loader = loader;
    connection->tcp.data = connection->connect.data = connection;
    keys_chooser_init(&connection->chooser, &loader->plan, seed);
    connection->request = malloc(loader->room_bytes);
    connection->replies = malloc(loader->room_bytes);
    if (connection->request == NULL || connection->replies == NULL) give_up("connection", "no memory");
    must(uv_ip4_addr("127.0.0.1", (int)loader->options->port, &address), "address");
    must(uv_tcp_init(&loader->loop, &connection->tcp), "socket");
    must(uv_tcp_connect(&connection->connect, &connection->tcp, (const struct sockaddr *)&address, connected_cb),
         "connect");
}

static void open_all(struct loader *loader) {
    const struct load_options *options = loader->options;
    uint64_t seed, commands = options->batch > LOAD_BATCH || !options->load ? options->batch : LOAD_BATCH;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) give_up("seed", strerror(errno));
    loader->room_bytes = (commands + 1) * (options->value_bytes + COMMAND_BYTES) + ERROR_BYTES;
    keys_plan_init(&loader->plan, KEYS_UNIFORM, options->keys);
    loader->value = malloc(options->value_bytes + 1);
    loader->connections = calloc(options->connections, sizeof *loader->connections);
    loader->errors = json_object();
    if (loader->value == NULL || loader->connections == NULL) give_up("connections", "no memory");
    struct keys_chooser bytes;
    keys_chooser_init(&bytes, &loader->plan, seed);
    for (uint64_t i = 0; i < options->value_bytes; i++) loader->value[i] = (char)(keys_random(&bytes) >> 56);
    must(uv_loop_init(&loader->loop), "loop");
    must(uv_timer_init(&loader->loop, &loader->timer), "timer");
    loader->flying = options->connections;
    for (uint64_t i = 0; i < options->connections; i++)
        open_connection(loader, &loader->connections[i], seed + 1 + i);
    uv_run(&loader->loop, UV_RUN_DEFAULT);
}

static void time_is_up_cb(uv_timer_t *timer) {
    struct loader *loader = timer->data;
    loader->stopping = true;
    loader->end_us = clock_boottime_us();
    loader->done_at_end = loader->done;
}

static void run_phase(struct loader *loader, bool loading) {
    loader->loading = loading;
    loader->done = loader->end_us = 0;
    loader->timer.data = loader;
    if (!loading) must(uv_timer_start(&loader->timer, time_is_up_cb, loader->options->duration_ms, 0), "timer");
    loader->begin_us = clock_boottime_us();
    loader->flying = loader->options->connections;
    for (uint64_t i = 0; i < loader->options->connections; i++) send_next(&loader->connections[i]);
    uv_run(&loader->loop, UV_RUN_DEFAULT);
}

/* ---- the program ---- */

static struct loader loader; /* too large for the stack */

static int run(const struct load_options *options) {
    loader.options = options;
    open_all(&loader);
    if (options->load) run_phase(&loader, true);
    if (json_object_size(loader.errors) > 0) give_up("loading", json_dumps(loader.errors, 0));
    run_phase(&loader, false);
    struct load_report report = {.commands = loader.done_at_end,
                                 .seconds = (double)(loader.end_us - loader.begin_us) / 1e6,
                                 .reads = &loader.reads,
                                 .writes = &loader.writes,
                                 .missing = loader.missing,
                                 .errors = loader.errors,
                                 .cpu_seconds = -1};
    load_report_print(&report);
    return json_object_size(loader.errors) == 0 ? 0 : 1;
}

int main(int argc, char **argv) {
    struct load_options load = {
        .port = 6379, .connections = 50, .batch = 1, .value_bytes = 100, .keys = 1000000, .duration_ms = 10000};
    bool help = false;
    const struct option options[] = {
        {"--port", OPTION_UINT, &load.port, 1, 65535, NULL, "PORT", "of the server on this machine (6379)"},
        {"--connections", OPTION_UINT, &load.connections, 1, CONNECTIONS_MAX, NULL, "N",
         "each with one batch under way (50)"},
        {"--batch", OPTION_UINT, &load.batch, 1, 10000, NULL, "N", "commands sent at once (1)"},
        {"--value-size", OPTION_UINT, &load.value_bytes, 0, 16 << 20, NULL, "BYTES", "of a value (100)"},
        {"--keys", OPTION_UINT, &load.keys, 1, 1000000000000ull, NULL, "N", "distinct keys of 16 bytes (1000000)"},
        {"--reads", OPTION_UINT, &load.reads_percent, 0, 100, NULL, "PERCENT", "GET among the commands (0)"},
        {"--wait", OPTION_UINT, &load.wait_replicas, 0, 9, NULL, "N",
         "WAIT for so many replicas behind each batch (0)"},
        {"--duration", OPTION_DURATION_MS, &load.duration_ms, 1, 0, NULL, "TIME", "how long (10s)"},
        {"--load", OPTION_SWITCH, &load.load, 0, 0, NULL, NULL, "first set every key once"},
        {"--help", OPTION_SWITCH, &help, 0, 0, NULL, NULL, "this text"},
    };
    char text[256] = "only options are expected";
    int at = 1;
    bool wrong = options_parse(options, COUNT(options), argc, argv, &at, text, sizeof text) != SK_OK || at < argc;
    if (!help && !wrong) return run(&load);
    if (wrong) fprintf(stderr, "resp_load: %s\n", text);
    options_print_help(options, COUNT(options));
    return wrong ? 2 : 0;
}
