/* The daemon: flags, signals, exit code. 0 = stopped by a signal, 1 = a fault, 2 = set up wrongly. */
#include "libcommon/config.h"
#include "libcommon/ending.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/log.h"
#include "libcommon/map.h"
#include "libcommon/plant.h"
#include "metad/metad.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXIT_SETUP 2

struct settings {
    const char *data_dir, *listen, *publish_listen, *raft_listen, *advertise, *log_level;
    uint64_t shards, expect_nodes, replicas, node_timeout_ms, node_dead_after_ms, moves_max;
};

static struct metad *running; /* for the signal handler; set before signals are let in */

static void stop_handler(int number) {
    (void)number;
    metad_stop(running);
}

static int bad_setup(const char *text) {
    (void)fprintf(stderr, "metad: %s\n", text);
    return EXIT_SETUP;
}

static enum config_result load_settings(struct settings *settings, struct config **config, int argc, char **argv) {
    const struct config_option options[] = {
        {.name = "data-dir",
         .type = CONFIG_TEXT,
         .target = &settings->data_dir,
         .help = "where the catalog and its log are kept; made if missing"},
        {.name = "listen",
         .type = CONFIG_TEXT,
         .target = &settings->listen,
         .fallback = "tcp://0.0.0.0:7100",
         .help = "nng URL for requests"},
        {.name = "publish-listen",
         .type = CONFIG_TEXT,
         .target = &settings->publish_listen,
         .fallback = "tcp://0.0.0.0:7101",
         .help = "nng URL on which versions of the map are published"},
        {.name = "raft-listen",
         .type = CONFIG_TEXT,
         .target = &settings->raft_listen,
         .fallback = "0.0.0.0:7110",
         .help = "address:port for the other metad servers; a single server opens no such port"},
        {.name = "advertise",
         .type = CONFIG_TEXT,
         .target = &settings->advertise,
         .fallback = "",
         .help = "host name by which others reach this daemon (default: its host name)"},
        {.name = "shards",
         .type = CONFIG_UINT,
         .target = &settings->shards,
         .fallback = "64",
         .least = 1,
         .most = SHARD_COUNT_MAX,
         .help = "number of shards, a power of two; counts when the cluster is created"},
        {.name = "expect-nodes",
         .type = CONFIG_UINT,
         .target = &settings->expect_nodes,
         .fallback = "1",
         .least = 1,
         .most = MAP_NODES_MAX,
         .help = "create the shards when so many shardd have come; counts when the cluster is created"},
        {.name = "replicas",
         .type = CONFIG_UINT,
         .target = &settings->replicas,
         .fallback = "3",
         .least = 1,
         .most = MAP_WANTED_MAX,
         .help = "replicas wanted of each shard; counts when the cluster is created"},
        {.name = "node-timeout",
         .type = CONFIG_DURATION_MS,
         .target = &settings->node_timeout_ms,
         .fallback = "2s",
         .least = 100,
         .most = 3600000,
         .help = "a node that is silent for longer is shown as dead"},
        {.name = "node-dead-after",
         .type = CONFIG_DURATION_MS,
         .target = &settings->node_dead_after_ms,
         .fallback = "10m",
         .least = 1000,
         .most = 7 * 24 * 3600000u,
         .help = "a node that is dead for so long loses its replicas to others"},
        {.name = "moves-max",
         .type = CONFIG_UINT,
         .target = &settings->moves_max,
         .fallback = "1",
         .least = 1,
         .most = SHARD_COUNT_MAX,
         .help = "shards that get a replica on another node at the same time"},
        {.name = "log-level",
         .type = CONFIG_TEXT,
         .target = &settings->log_level,
         .fallback = "info",
         .help = "error, warning, info or debug"},
    };
    return config_load(config, "metad", "keeps the map of a Skerry cluster: nodes, shards, who leads what",
                       options, sizeof options / sizeof options[0], argc, argv);
}

/* "host:port" for others from the port of an address to listen on. */
static bool advertise(const char *host, const char *listen, const char *scheme, char *room, size_t room_bytes) {
    const char *port = strrchr(listen, ':');
    if (port == NULL) return false;
    int size = snprintf(room, room_bytes, "%s%s%s", scheme, host, port);
    return size > 0 && (size_t)size < room_bytes;
}

/* The process' signals: nng's threads inherit the block, so a handler runs on this thread only. */
static void block_signals(sigset_t *stopping) {
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(stopping);
    (void)sigaddset(stopping, SIGTERM);
    (void)sigaddset(stopping, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, stopping, NULL);
    struct sigaction action = {.sa_handler = stop_handler, .sa_flags = SA_RESTART};
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
}

static bool is_setup_error(int err) {
    return err == SK_ECONFIG || err == SK_ELOCKED || err == SK_EVERSION || err == SK_ENET;
}

static int serve(const struct metad_options *options) {
    sigset_t stopping;
    block_signals(&stopping);
    char text[METAD_TEXT_BYTES];
    int err = metad_new(&running, options, text);
    if (err != SK_OK) {
        (void)fprintf(stderr, "metad: %s\n", text);
        return is_setup_error(err) ? EXIT_SETUP : EXIT_FAILURE;
    }
    log_event(LOG_INFO, "started", "version=%s listen=%s publish=%s", SKERRY_VERSION, options->listen,
              options->publish_listen);
    (void)pthread_sigmask(SIG_UNBLOCK, &stopping, NULL);
    err = metad_run(running);
    (void)pthread_sigmask(SIG_BLOCK, &stopping, NULL);
    ending_guard(10, err == SK_OK ? EXIT_SUCCESS : EXIT_FAILURE);
    metad_free(running);
    log_event(LOG_INFO, "stopped", "error=%s", err == SK_OK ? "none" : error_name(err));
    return err == SK_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int run(const struct settings *settings) {
    enum log_level level;
    if (log_level_parse(settings->log_level, &level) != SK_OK) {
        return bad_setup("--log-level: error, warning, info or debug");
    }
    log_init("metad", level);
    if (SKERRY_PLANTS != 0) log_event(LOG_ERROR, "planted", "bug=%s", SKERRY_PLANT_NAMES);
    if ((settings->shards & (settings->shards - 1)) != 0) return bad_setup("--shards: not a power of two");
    char host[256], raft_address[512], request_address[512];
    if (settings->advertise[0] != 0) {
        (void)snprintf(host, sizeof host, "%s", settings->advertise);
    } else if (gethostname(host, sizeof host) != 0) {
        (void)snprintf(host, sizeof host, "127.0.0.1");
    }
    host[sizeof host - 1] = 0;
    if (!advertise(host, settings->raft_listen, "", raft_address, sizeof raft_address)) {
        return bad_setup("--raft-listen: not an address:port");
    }
    bool tcp = strncmp(settings->listen, "tcp://", 6) == 0;
    if (!tcp) {
        (void)snprintf(request_address, sizeof request_address, "%s", settings->listen);
    } else if (!advertise(host, settings->listen, "tcp://", request_address, sizeof request_address)) {
        return bad_setup("--listen: not an address");
    }
    struct metad_options options = {
        .data_dir = settings->data_dir,
        .listen = settings->listen,
        .publish_listen = settings->publish_listen,
        .raft_listen = settings->raft_listen,
        .server_id = 1,
        .servers = {{.id = 1, .raft_address = raft_address, .request_address = request_address}},
        .server_count = 1,
        .shards = (uint32_t)settings->shards,
        .expect_nodes = (uint32_t)settings->expect_nodes,
        .replicas = (uint32_t)settings->replicas,
        .node_timeout_ms = settings->node_timeout_ms,
        .node_dead_after_ms = settings->node_dead_after_ms,
        .moves_max = (uint32_t)settings->moves_max,
    };
    return serve(&options);
}

int main(int argc, char **argv) {
    struct settings settings = {0};
    struct config *config = NULL;
    enum config_result result = load_settings(&settings, &config, argc, argv);
    int code = EXIT_SUCCESS;
    if (result == CONFIG_BAD) code = EXIT_SETUP;
    if (result == CONFIG_RUN) code = run(&settings);
    config_free(config);
    return code;
}
