/* `skerry`: data commands, prompt, status, bench and a whole local cluster in one program. */
#include "admin.h"
#include "admin_node.h"
#include "admin_server.h"
#include "bench.h"
#include "door.h"
#include "engine_bench.h"
#include "health.h"
#include "help.h"
#include "libcommon/cluster_net.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "options.h"
#include "prompt.h"
#include "session.h"
#include "status.h"
#include "up.h"
#include "verify.h"

#include <stdlib.h>
#include <unistd.h>

#define GATEWAY_DEFAULT "tcp://127.0.0.1:7400"
#define METAD_DEFAULT   "tcp://127.0.0.1:7100"

struct globals {
    const char *gateway, *metad, *id, *nil_word;
    uint64_t timeout_ms, read;
    struct door_settings door;
    struct cluster_net_settings net;
    bool json, raw, no_raw, no_id, stdin_last, help, version;
    bool protected; /* what is in the two settings is in use */
};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* The options that any subcommand takes too. */
#define COMMON_OPTIONS(globals)                                                                                     \
    {"--gateway",                                                                                                   \
     OPTION_TEXT,                                                                                                   \
     &(globals)->gateway,                                                                                           \
     0,                                                                                                             \
     0,                                                                                                             \
     NULL,                                                                                                          \
     "URL",                                                                                                         \
     "the gateway (" GATEWAY_DEFAULT "; $SKERRY_GATEWAY)"},                                                         \
        {"--metad",                                                                                                 \
         OPTION_TEXT,                                                                                               \
         &(globals)->metad,                                                                                         \
         0,                                                                                                         \
         0,                                                                                                         \
         NULL,                                                                                                      \
         "URL[,URL]",                                                                                               \
         "metad, for status and admin (" METAD_DEFAULT "; $SKERRY_METAD)"},                                         \
        {"--timeout", OPTION_DURATION_MS,          &(globals)->timeout_ms, 1, TIMEOUT_MS_MAX, NULL,                 \
         "TIME",      "deadline of a request (5s)"},                                                                \
        {"--json",                                                                                                  \
         OPTION_SWITCH,                                                                                             \
         &(globals)->json,                                                                                          \
         0,                                                                                                         \
         0,                                                                                                         \
         NULL,                                                                                                      \
         NULL,                                                                                                      \
         "answers as JSON; bytes that are no UTF-8 as {\"$bin\": base64}"},                                         \
        {"--token-file",                                                                                            \
         OPTION_TEXT,                                                                                               \
         &(globals)->door.token_file,                                                                               \
         0,                                                                                                         \
         0,                                                                                                         \
         NULL,                                                                                                      \
         "FILE",                                                                                                    \
         "with the token to show the gateway ($SKERRY_TOKEN_FILE)"},                                                \
        {"--client-tls-ca",                                                                                         \
         OPTION_TEXT,                                                                                               \
         &(globals)->door.files.ca,                                                                                 \
         0,                                                                                                         \
         0,                                                                                                         \
         NULL,                                                                                                      \
         "FILE",                                                                                                    \
         "the CA of a gateway at tls+tcp://… ($SKERRY_CLIENT_TLS_CA)"},                                             \
        {"--client-tls-cert",                                                                                       \
         OPTION_TEXT,                                                                                               \
         &(globals)->door.files.cert,                                                                               \
         0,                                                                                                         \
         0,                                                                                                         \
         NULL,                                                                                                      \
         "FILE",                                                                                                    \
         "certificate for it, if it wants one ($SKERRY_CLIENT_TLS_CERT)"},                                          \
        {"--client-tls-key",                                                                                        \
         OPTION_TEXT,                                                                                               \
         &(globals)->door.files.key,                                                                                \
         0,                                                                                                         \
         0,                                                                                                         \
         NULL,                                                                                                      \
         "FILE",                                                                                                    \
         "and its key ($SKERRY_CLIENT_TLS_KEY)"},                                                                   \
        {"--tls-ca",                                                                                                \
         OPTION_TEXT,                                                                                               \
         &(globals)->net.files.ca,                                                                                  \
         0,                                                                                                         \
         0,                                                                                                         \
         NULL,                                                                                                      \
         "FILE",                                                                                                    \
         "the CA of the cluster's daemons, for metad ($SKERRY_TLS_CA)"},                                            \
        {"--tls-cert",                                                                                              \
         OPTION_TEXT,                                                                                               \
         &(globals)->net.files.cert,                                                                                \
         0,                                                                                                         \
         0,                                                                                                         \
         NULL,                                                                                                      \
         "FILE",                                                                                                    \
         "certificate that it signed ($SKERRY_TLS_CERT)"},                                                          \
        {"--tls-key", OPTION_TEXT, &(globals)->net.files.key, 0, 0, NULL, "FILE", "and its key ($SKERRY_TLS_KEY)"}, \
        {"--help", OPTION_SWITCH, &(globals)->help, 0, 0, NULL, NULL, "this text"}, {                               \
        "-h", OPTION_SWITCH, &(globals)->help, 0, 0, NULL, NULL, NULL                                               \
    }

static int usage(const char *text) {
    fprintf(stderr, "skerry: %s (skerry --help)\n", text);
    return EXIT_USAGE;
}

/* Reads what protects connections, once, before the first. -1 to go on, else the exit code. */
static int protect(struct globals *globals) {
    char text[512] = "";
    if (globals->protected) return -1;
    globals->protected = true;
    int err = cluster_net_use(&globals->net, text, sizeof text);
    if (err == SK_OK) err = door_use(&globals->door, text, sizeof text);
    if (err == SK_OK && tls_is_url(globals->gateway) && globals->door.files.ca == NULL) {
        snprintf(text, sizeof text, "a gateway at tls+tcp:// needs --client-tls-ca");
        err = SK_ECONFIG;
    }
    return err == SK_OK ? -1 : usage(text);
}

/* ---- subcommands: each gets the words after its name ---- */

/* Parses all of argv from *at on; -1 to go on, else the exit code. */
static int parse(const struct option *options, size_t count, struct globals *globals, const char *synopsis,
                 int argc, char **argv, int *at, bool words_allowed) {
    char text[256];
    if (options_parse(options, count, argc, argv, at, text, sizeof text) != SK_OK) return usage(text);
    if (globals->help) {
        printf("usage: %s\n", synopsis);
        options_print_help(options, count);
        return EXIT_OK;
    }
    if (*at < argc && !words_allowed) {
        snprintf(text, sizeof text, "'%s' is not expected here", argv[*at]);
        return usage(text);
    }
    return protect(globals);
}

static int run_status(struct globals *globals, int argc, char **argv, int at) {
    struct status_options status = {.wait_seconds = UINT64_MAX};
    const struct option options[] = {
        {"--wait", OPTION_UINT, &status.wait_seconds, 0, 86400, NULL, "SECONDS",
         "until every shard is led and the gateway serves; exit code 1 when it takes longer"},
        {"--shards", OPTION_SWITCH, &status.shards, 0, 0, NULL, NULL,
         "every shard, not only those without a leader or below min_isr"},
        COMMON_OPTIONS(globals),
    };
    int code = parse(options, COUNT(options), globals, "skerry status [options]", argc, argv, &at, false);
    if (code >= 0) return code;
    status.wait = status.wait_seconds != UINT64_MAX;
    status.metad = globals->metad;
    status.gateway = globals->gateway;
    status.json = globals->json;
    status.timeout_ms = (uint32_t)globals->timeout_ms;
    return status_run(&status);
}

static int run_health(struct globals *globals, int argc, char **argv, int at) {
    const char *url = HEALTH_URL_DEFAULT;
    const struct option options[] = {COMMON_OPTIONS(globals)};
    static const char synopsis[] =
        "skerry health [URL]\n"
        "Whether a daemon's page http://HOST:PORT/readyz or /healthz says that it is well "
        "(" HEALTH_URL_DEFAULT ").";
    int code = parse(options, COUNT(options), globals, synopsis, argc, argv, &at, true);
    if (code >= 0) return code;
    if (at < argc) url = argv[at++];
    code = parse(options, COUNT(options), globals, synopsis, argc, argv, &at, false);
    return code >= 0 ? code : health_run(url, (uint32_t)globals->timeout_ms);
}

static int run_up(struct globals *globals, int argc, char **argv, int at) {
    struct up_options up = {.data = "data", .gateway_port = 7400, .resp_port = 6379};
    uint64_t durability = UINT64_MAX;
    const struct option options[] = {
        {"--data", OPTION_TEXT, &up.data, 0, 0, NULL, "DIR", "everything is kept there (data)"},
        {"--nodes", OPTION_UINT, &up.nodes, 1, PLAN_NODES_MAX, NULL, "N", "shardd processes (3)"},
        {"--metad", OPTION_UINT, &up.metads, 1, PLAN_METADS_MAX, NULL, "N", "metad processes: 1, 3 or 5 (1)"},
        {"--shards", OPTION_UINT, &up.shards, 1, SHARD_COUNT_MAX, NULL, "N",
         "a power of two, fixed when the cluster is created (64)"},
        {"--lanes", OPTION_UINT, &up.lanes, 1, 256, NULL, "N",
         "of each shardd, fixed likewise (max(1, cores / 2 / nodes))"},
        {"--durability", OPTION_CHOICE, &durability, 0, 0, "always|interval", NULL,
         "when an answer means that it is on disk"},
        {"--gateway-port", OPTION_UINT, &up.gateway_port, 1, 65535, NULL, "PORT", "of the gateway (7400)"},
        {"--resp-port", OPTION_UINT, &up.resp_port, 1, 65535, NULL, "PORT",
         "of the gateway's Redis protocol (6379)"},
        {"--port-offset", OPTION_UINT, &up.port_offset, 0, 50000, NULL, "N",
         "added to every port, so that several clusters fit on a machine (0)"},
        {"--detach", OPTION_SWITCH, &up.detach, 0, 0, NULL, NULL, "return when it is ready and leave it running"},
        {"--stop", OPTION_SWITCH, &up.stop, 0, 0, NULL, NULL, "end the cluster that runs on DIR"},
        {"--help", OPTION_SWITCH, &globals->help, 0, 0, NULL, NULL, "this text"},
    };
    static const char synopsis[] = "skerry up [options] [-- FLAG ...]\n"
                                   "A whole cluster on this machine. FLAGs go to every shardd; metad:--flag and "
                                   "gateway:--flag go there.";
    int code = parse(options, COUNT(options), globals, synopsis, argc, argv, &at, true);
    if (code >= 0) return code;
    if (at < argc && strcmp(argv[at - 1], "--") != 0) return usage("flags of daemons stand after --");
    if ((up.shards & (up.shards - 1)) != 0) return usage("--shards is a power of two");
    if (up.metads != 0 && up.metads % 2 == 0) return usage("--metad is 1, 3 or 5");
    if (durability != UINT64_MAX) up.durability = durability == 0 ? "always" : "interval";
    up.extra = argv + at;
    up.extra_count = (size_t)(argc - at);
    return up_run(&up);
}

static int run_engine_bench(struct globals *globals, int argc, char **argv, int at) {
    struct engine_bench_options bench = engine_bench_defaults();
    bool engine = true;
    const struct option options[] = {
        {"--engine", OPTION_SWITCH, &engine, 0, 0, NULL, NULL,
         "one lane by itself, without network, replicas or metad"},
        {"--loads", OPTION_TEXT, &bench.loads, 0, 0, NULL, "NAME[,NAME]",
         "GET, SET, INCR, HSET, ZADD, LPUSH, one after the other (GET,SET)"},
        {"--reads", OPTION_UINT, &bench.reads_percent, 0, 100, NULL, "PERCENT",
         "one load of GET and SET instead, with so many GET"},
        {"--keys", OPTION_UINT, &bench.keys, 1, 1000000000000ull, NULL, "N",
         "distinct keys of 16 bytes (1000000)"},
        {"--value-size", OPTION_UINT, &bench.value_bytes, 0, VALUE_BYTES_MAX, NULL, "BYTES", "of a value (100)"},
        {"--batch", OPTION_UINT, &bench.batch, 1, MESSAGE_COMMANDS_MAX, NULL, "N", "commands in a frame (1000)"},
        {"--in-flight", OPTION_UINT, &bench.in_flight, 1, 1000, NULL, "N", "frames at once (4)"},
        {"--shards", OPTION_UINT, &bench.shards, 1, SHARD_COUNT_MAX, NULL, "N",
         "of the lane, a power of two (64)"},
        {"--cache-size", OPTION_UINT, &bench.cache_bytes, 0, 0, NULL, "BYTES",
         "records in memory that reads have found on disk, as of a shardd; 0: none (33554432)"},
        {"--duration", OPTION_DURATION_MS, &bench.duration_ms, 1, 0, NULL, "TIME", "of each load (10s)"},
        {"--operations", OPTION_UINT, &bench.operations, 1, 0, NULL, "N",
         "of each load, in place of a time, one frame at a time; nothing of LMDB alone"},
        {"--data", OPTION_TEXT, &bench.data, 0, 0, NULL, "DIR",
         "used and kept; a disk, no tmpfs (a new one here, removed at the end)"},
        {"--load", OPTION_SWITCH, &bench.load, 0, 0, NULL, NULL,
         "first set every key once; in a new directory always"},
        {"--json", OPTION_SWITCH, &bench.json, 0, 0, NULL, NULL, "the result as JSON"},
        {"--help", OPTION_SWITCH, &globals->help, 0, 0, NULL, NULL, "this text"},
    };
    int code = parse(options, COUNT(options), globals, "skerry bench --engine [options]", argc, argv, &at, false);
    if (code >= 0) return code;
    if ((bench.shards & (bench.shards - 1)) != 0) return usage("--shards is a power of two");
    bench.json = bench.json || globals->json;
    return engine_bench_run(&bench, stdout);
}

static bool has_word(int argc, char **argv, int at, const char *word) {
    for (; at < argc; at++)
        if (strcmp(argv[at], word) == 0) return true;
    return false;
}

static int run_bench(struct globals *globals, int argc, char **argv, int at) {
    if (has_word(argc, argv, at, "--engine")) return run_engine_bench(globals, argc, argv, at);
    bool engine = false; /* only told of here */
    struct bench_options bench = bench_defaults();
    const struct option options[] = {
        {"--connections", OPTION_UINT, &bench.connections, 1, 10000, NULL, "N", "connections to the gateway (1)"},
        {"--in-flight", OPTION_UINT, &bench.in_flight, 1, 100000, NULL, "N", "requests at once, over all (64)"},
        {"--batch", OPTION_UINT, &bench.batch, 1, MESSAGE_COMMANDS_MAX, NULL, "N", "commands in a request (1)"},
        {"--value-size", OPTION_UINT, &bench.value_bytes, 0, VALUE_BYTES_MAX, NULL, "BYTES", "of a value (100)"},
        {"--keys", OPTION_UINT, &bench.keys, 1, 1000000000000ull, NULL, "N",
         "distinct keys of 16 bytes (1000000)"},
        {"--distribution", OPTION_CHOICE, &bench.distribution, 0, 0, "uniform|zipf|sequential", NULL,
         "of the keys (uniform)"},
        {"--reads", OPTION_UINT, &bench.reads_percent, 0, 100, NULL, "PERCENT", "GET among the commands (50)"},
        {"--whole-batches", OPTION_SWITCH, &bench.whole_batches, 0, 0, NULL, NULL,
         "all commands of a request are GET, or all are SET"},
        {"--duration", OPTION_DURATION_MS, &bench.duration_ms, 1, 0, NULL, "TIME", "how long (60s)"},
        {"--load", OPTION_SWITCH, &bench.load, 0, 0, NULL, NULL, "first set every key once"},
        {"--ids", OPTION_SWITCH, &bench.ids, 0, 0, NULL, NULL, "send each write with an id of its own"},
        {"--read", OPTION_CHOICE, &globals->read, 0, 0, "leader|follower", NULL,
         "follower: GET from any in-sync replica (leader)"},
        {"--engine", OPTION_SWITCH, &engine, 0, 0, NULL, NULL,
         "instead: one lane by itself, without the network (skerry bench --engine --help)"},
        COMMON_OPTIONS(globals),
    };
    int code = parse(options, COUNT(options), globals, "skerry bench [options]", argc, argv, &at, false);
    if (code >= 0) return code;
    bench.gateway = globals->gateway;
    bench.json = globals->json;
    bench.follower_reads = globals->read == 1;
    bench.timeout_ms = (uint32_t)globals->timeout_ms;
    return bench_run(&bench);
}

static bool parse_id(const char *word, uint64_t most, uint32_t *id) {
    char *end;
    if (word[0] < '0' || word[0] > '9') return false;
    unsigned long long value = strtoull(word, &end, 10); /* ULLONG_MAX when it does not fit */
    if (*end != 0 || value > most) return false;
    *id = (uint32_t)value;
    return true;
}

static int run_verify(struct globals *globals, int argc, char **argv, int at) {
    struct verify_options verify = {.wait_seconds = 600};
    const struct option options[] = {
        {"--wait", OPTION_UINT, &verify.wait_seconds, 0, 86400, NULL, "SECONDS",
         "until every shard is compared; exit code 1 when it takes longer (600)"},
        COMMON_OPTIONS(globals),
    };
    static const char synopsis[] = "skerry admin verify [options]";
    int code = parse(options, COUNT(options), globals, synopsis, argc, argv, &at, false);
    if (code >= 0) return code;
    verify.metad = globals->metad;
    verify.timeout_ms = (uint32_t)globals->timeout_ms;
    verify.json = globals->json;
    return verify_run(&verify);
}

static int run_admin_node(const struct globals *globals, enum admin_node_change change, const char *node,
                          bool no_wait) {
    struct admin_node_options options = {.metad = globals->metad,
                                         .timeout_ms = (uint32_t)globals->timeout_ms,
                                         .change = change,
                                         .no_wait = no_wait};
    if (!parse_id(node, UINT32_MAX, &options.node) || options.node == 0) return usage("admin: NODE is a number");
    return admin_node(&options);
}

static int run_admin_server(const struct globals *globals, const char *change, const char *name) {
    struct admin_server_options options = {
        .metad = globals->metad, .timeout_ms = (uint32_t)globals->timeout_ms, .name = name};
    options.add = strcmp(change, "add") == 0;
    if (!options.add && strcmp(change, "remove") != 0) return usage("admin: metad add or metad remove");
    if (name[0] == 0) return usage("admin: a server's HOST:PORT is missing");
    return admin_server(&options);
}

static int run_admin(struct globals *globals, int argc, char **argv, int at) {
    if (at < argc && strcmp(argv[at], "verify") == 0) return run_verify(globals, argc, argv, at + 1);
    struct admin_options admin = {0};
    bool no_wait = false;
    const struct option options[] = {
        {"--yes-lose-data", OPTION_SWITCH, &admin.yes_lose_data, 0, 0, NULL, NULL,
         "of force-leader: do it; without, only show what there is"},
        {"--no-wait", OPTION_SWITCH, &no_wait, 0, 0, NULL, NULL,
         "of add, drain and remove: return as soon as it is decided"},
        COMMON_OPTIONS(globals),
    };
    static const char synopsis[] =
        "skerry admin handover SHARD NODE                       the leader hands over; NODE is preferred from now "
        "on\n"
        "       skerry admin force-leader SHARD NODE --yes-lose-data   NODE leads, and what it lacks is lost\n"
        "       skerry admin add NODE                                  NODE gets its share again: ends drain and "
        "remove\n"
        "       skerry health [URL]                       would the gateway, or the daemon at URL, serve now?\n"
        "       skerry admin drain NODE                                what NODE has goes to others\n"
        "       skerry admin remove NODE                               NODE, drained or dead, goes for ever\n"
        "       skerry admin metad add|remove HOST:PORT                which servers metad consists of\n"
        "       skerry admin verify [--wait SECONDS]                   compares what the replicas of each shard "
        "have";
    const char *words[3] = {"", "", ""}; /* options may stand anywhere between them */
    size_t count = 0;
    for (;;) {
        int code = parse(options, COUNT(options), globals, synopsis, argc, argv, &at, count < COUNT(words));
        if (code >= 0) return code;
        if (at == argc) break;
        words[count++] = argv[at++];
    }
    bool handover = strcmp(words[0], "handover") == 0;
    enum admin_node_change change;
    if (admin_node_parse(words[0], &change)) {
        if (count != 2) return usage("admin: one node");
        if (admin.yes_lose_data) return usage("admin: only force-leader loses data");
        return run_admin_node(globals, change, words[1], no_wait);
    }
    if (strcmp(words[0], "metad") == 0) {
        if (admin.yes_lose_data || no_wait) return usage("admin: metad has no such option");
        return run_admin_server(globals, words[1], words[2]);
    }
    if (!handover && strcmp(words[0], "force-leader") != 0) {
        return usage("admin: add, drain, remove, handover, force-leader, metad or verify");
    }
    if (no_wait) return usage("admin: --no-wait is of add, drain and remove");
    if (count < 3) return usage("admin: a shard and a node are missing");
    if (!parse_id(words[1], SHARD_COUNT_MAX - 1, &admin.shard)) return usage("admin: SHARD is a number");
    if (!parse_id(words[2], UINT32_MAX, &admin.node) || admin.node == 0) return usage("admin: NODE is a number");
    if (handover && admin.yes_lose_data) return usage("admin: a handover loses nothing");
    admin.metad = globals->metad;
    admin.timeout_ms = (uint32_t)globals->timeout_ms;
    return handover ? admin_handover(&admin) : admin_force_leader(&admin);
}

static int run_help(int argc, char **argv, int at) {
    if (at == argc) {
        help_print_commands();
        return EXIT_OK;
    }
    if (help_print_command(slice_of_text(argv[at])) == SK_OK) return EXIT_OK;
    return usage("no such command");
}

/* ---- data commands ---- */

static enum print_format choose_format(const struct globals *globals) {
    if (globals->json) return PRINT_JSON;
    if (globals->raw) return PRINT_RAW;
    return globals->no_raw || isatty(STDOUT_FILENO) ? PRINT_TTY : PRINT_RAW;
}

/* -x: all of stdin is one more argument. */
static int read_stdin(struct buffer *input) {
    for (;;) {
        uint8_t chunk[65536];
        size_t size = fread(chunk, 1, sizeof chunk, stdin);
        buffer_append(input, chunk, size);
        if (input->failed) return SK_ENOMEM;
        if (size < sizeof chunk) return ferror(stdin) ? SK_EIO : SK_OK;
    }
}

static int run_words(struct session *session, const struct globals *globals, char **argv, size_t count) {
    struct word *words = calloc(count + 1, sizeof *words);
    struct buffer input;
    buffer_init(&input);
    int code = EXIT_ERROR_ANSWER;
    for (size_t i = 0; words != NULL && i < count; i++) words[i].bytes = slice_of_text(argv[i]);
    bool ok = words != NULL;
    if (ok && globals->stdin_last) {
        ok = read_stdin(&input) == SK_OK;
        words[count++] = (struct word){.bytes = buffer_slice(&input), .quoted = true};
    }
    if (ok) code = session_run(session, words, count, stdout);
    else fprintf(stderr, "skerry: cannot read the arguments\n");
    buffer_deinit(&input);
    free(words);
    return code;
}

enum data_mode { MODE_WORDS, MODE_LINES, MODE_PROMPT, MODE_BATCH, MODE_BATCH_ATOMIC };

static int run_data(struct globals *globals, enum data_mode mode, int argc, char **argv, int at) {
    int code = protect(globals);
    if (code >= 0) return code;
    struct session_options options = {
        .gateway = globals->gateway,
        .timeout_ms = (uint32_t)globals->timeout_ms,
        .id = globals->id,
        .no_id = globals->no_id,
        .read_follower = globals->read == 1,
        .nil_word = globals->nil_word,
        .format = choose_format(globals),
    };
    struct session *session;
    int err = session_open(&session, &options);
    if (err != SK_OK) return err == SK_ECONFIG ? EXIT_USAGE : EXIT_UNREACHABLE;
    code = EXIT_OK;
    switch (mode) {
    case MODE_WORDS:
        code = run_words(session, globals, argv + at, (size_t)(argc - at));
        break;
    case MODE_LINES:
        code = session_run_lines(session, stdin, stdout);
        break;
    case MODE_PROMPT:
        code = prompt_run(session, globals->gateway);
        break;
    case MODE_BATCH:
    case MODE_BATCH_ATOMIC:
        code = session_run_batch(session, stdin, mode == MODE_BATCH_ATOMIC, stdout);
        break;
    }
    session_close(session);
    return code;
}

static int run_batch(struct globals *globals, int argc, char **argv, int at) {
    bool atomic = false;
    const struct option options[] = {
        {"--atomic", OPTION_SWITCH, &atomic, 0, 0, NULL, NULL, "all or nothing; the keys share a slot"},
        COMMON_OPTIONS(globals),
    };
    static const char synopsis[] = "skerry batch [options] < LINES";
    int code = parse(options, COUNT(options), globals, synopsis, argc, argv, &at, false);
    return code >= 0 ? code : run_data(globals, atomic ? MODE_BATCH_ATOMIC : MODE_BATCH, argc, argv, at);
}

/* ---- all of it ---- */

static void print_help(const struct option *options, size_t count) {
    printf(
        "usage: skerry [options] COMMAND [argument ...]   one command of the list below (skerry help COMMAND)\n"
        "       skerry [options]                          a prompt; commands from stdin when that is no terminal\n"
        "       skerry [options] batch [--atomic]         commands from stdin, many in a request\n"
        "       skerry status [--wait SECONDS] [--shards] nodes, shards, leaders, sizes\n"
        "       skerry health [URL]                       would the gateway, or the daemon at URL, serve now?\n"
        "       skerry admin drain NODE                   empties a node (skerry admin --help: add, remove, "
        "handover, "
        "force-leader, verify)\n"
        "       skerry up [--data DIR] [--nodes N] ...    a whole cluster on this machine (skerry up --help)\n"
        "       skerry bench [--load] ...                 measures the cluster (skerry bench "
        "--help)\n\noptions:\n");
    options_print_help(options, count);
    printf("\nCommands from lines are quoted as in redis-cli: \"\\x00\\n\", 'as is'. Each write is sent with an "
           "id and\n"
           "again under it when the connection breaks, so it takes effect once (--no-id: neither).\n"
           "exit code: 0 fine, 1 an error answer, 2 usage, 3 the gateway cannot be reached\n\ncommands:\n");
    help_print_commands();
}

static int run_named(struct globals *globals, int argc, char **argv, int at) {
    const char *name = argv[at];
    if (strcmp(name, "status") == 0) return run_status(globals, argc, argv, at + 1);
    if (strcmp(name, "health") == 0) return run_health(globals, argc, argv, at + 1);
    if (strcmp(name, "up") == 0) return run_up(globals, argc, argv, at + 1);
    if (strcmp(name, "bench") == 0) return run_bench(globals, argc, argv, at + 1);
    if (strcmp(name, "batch") == 0) return run_batch(globals, argc, argv, at + 1);
    if (strcmp(name, "admin") == 0) return run_admin(globals, argc, argv, at + 1);
    if (strcmp(name, "help") == 0) return run_help(argc, argv, at + 1);
    return run_data(globals, MODE_WORDS, argc, argv, at);
}

static const char *from_environment(const char *name, const char *fallback) {
    const char *value = getenv(name);
    return value != NULL && value[0] != 0 ? value : fallback;
}

int main(int argc, char **argv) {
    struct globals globals = {
        .gateway = from_environment("SKERRY_GATEWAY", GATEWAY_DEFAULT),
        .metad = from_environment("SKERRY_METAD", METAD_DEFAULT),
        .door = {.token_file = from_environment("SKERRY_TOKEN_FILE", NULL),
                 .files = {.ca = from_environment("SKERRY_CLIENT_TLS_CA", NULL),
                           .cert = from_environment("SKERRY_CLIENT_TLS_CERT", NULL),
                           .key = from_environment("SKERRY_CLIENT_TLS_KEY", NULL)}},
        .net = {.files = {.ca = from_environment("SKERRY_TLS_CA", NULL),
                          .cert = from_environment("SKERRY_TLS_CERT", NULL),
                          .key = from_environment("SKERRY_TLS_KEY", NULL)}},
        .nil_word = "(nil)",
        .timeout_ms = TIMEOUT_MS_DEFAULT,
    };
    const struct option options[] = {
        COMMON_OPTIONS(&globals),
        {"--raw", OPTION_SWITCH, &globals.raw, 0, 0, NULL, NULL,
         "bytes as they are (default unless on a terminal)"},
        {"--no-raw", OPTION_SWITCH, &globals.no_raw, 0, 0, NULL, NULL, "as on a terminal"},
        {"--id", OPTION_TEXT, &globals.id, 0, 0, NULL, "ID",
         "the id of a write, 1 to 64 bytes; ID#2 and so on of the next (a random one)"},
        {"--no-id", OPTION_SWITCH, &globals.no_id, 0, 0, NULL, NULL, "no ids; writes are not repeated"},
        {"--read", OPTION_CHOICE, &globals.read, 0, 0, "leader|follower", NULL,
         "follower: from any in-sync replica, a little stale"},
        {"--nil", OPTION_TEXT, &globals.nil_word, 0, 0, NULL, "WORD", "the word that means nil in CAS ((nil))"},
        {"-x", OPTION_SWITCH, &globals.stdin_last, 0, 0, NULL, NULL, "stdin is the last argument"},
        {"--version", OPTION_SWITCH, &globals.version, 0, 0, NULL, NULL, "the version"},
    };
    char text[256];
    int at = 1;
    if (options_parse(options, COUNT(options), argc, argv, &at, text, sizeof text) != SK_OK) return usage(text);
    if (globals.version) {
        printf("skerry %s\n", SKERRY_VERSION);
        return EXIT_OK;
    }
    if (globals.help) {
        print_help(options, COUNT(options));
        return EXIT_OK;
    }
    enum data_mode mode = isatty(STDIN_FILENO) ? MODE_PROMPT : MODE_LINES;
    int code = at < argc ? run_named(&globals, argc, argv, at) : run_data(&globals, mode, argc, argv, at);
    door_end();
    cluster_net_end();
    return code;
}
