/* The daemon: flags, signals, exit code. 0 = stopped by a signal, 1 = a fault, 2 = set up wrongly. */
#include "libcommon/buffer.h"
#include "libcommon/cluster_net.h"
#include "libcommon/ending.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/log.h"
#include "libcommon/map.h"
#include "libcommon/metad_names.h"
#include "libcommon/plant.h"
#include "libcommon/secret.h"
#include "metad/metad.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXIT_SETUP 2
#define GROUP_MAX  5u

struct settings {
    const char *data_dir, *listen, *peers, *secret_file, *http_listen, *advertise, *log_level;
    struct cluster_net_settings net;
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
         .help = "nng URL for requests; versions of the map are published one port above, other servers heard ten "
                 "above"},
        {.name = "peers",
         .type = CONFIG_TEXT,
         .target = &settings->peers,
         .fallback = "",
         .help = "nng URLs of all metad servers, separated by commas, this one among them; the same list for all"},
        {.name = "secret-file",
         .type = CONFIG_TEXT,
         .target = &settings->secret_file,
         .fallback = "",
         .help = "a file with what all metad servers know and nobody else; lets other servers in"},
        {.name = "http-listen",
         .type = CONFIG_TEXT,
         .target = &settings->http_listen,
         .fallback = "http://0.0.0.0:7180",
         .help = "where /healthz, /readyz and /metrics are; none: nowhere"},
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
        CLUSTER_NET_OPTIONS(&settings->net),
        {.name = "log-level",
         .type = CONFIG_TEXT,
         .target = &settings->log_level,
         .fallback = "info",
         .help = "error, warning, info or debug"},
    };
    return config_load(config, "metad", "keeps the map of a Skerry cluster: nodes, shards, who leads what",
                       options, sizeof options / sizeof options[0], argc, argv);
}

/* Where this server listens, and what it is called. */
struct addresses {
    char listen[METAD_NAME_BYTES]; /* "host:port" */
    char publish[METAD_NAME_BYTES + sizeof "tcp://"], raft[METAD_NAME_BYTES];
    char name[METAD_NAME_BYTES];
    char peers[METAD_SERVERS_MAX][METAD_NAME_BYTES];
    uint32_t peer_count;
};

static bool find_name(const struct settings *settings, struct addresses *addresses) {
    char host[METAD_NAME_BYTES - sizeof ":65535"];
    if (settings->advertise[0] != 0) {
        if ((size_t)snprintf(host, sizeof host, "%s", settings->advertise) >= sizeof host) return false;
    } else if (gethostname(host, sizeof host) != 0) {
        (void)snprintf(host, sizeof host, "127.0.0.1");
    }
    host[sizeof host - 1] = 0;
    (void)snprintf(addresses->name, sizeof addresses->name, "%s%s", host, strrchr(addresses->listen, ':'));
    char checked[METAD_NAME_BYTES];
    return metad_name_shift(addresses->name, 0, checked, sizeof checked) == SK_OK;
}

static bool is_among(const struct addresses *addresses) {
    for (uint32_t i = 0; i < addresses->peer_count; i++) {
        if (strcmp(addresses->peers[i], addresses->name) == 0) return true;
    }
    return addresses->peer_count == 0;
}

/* SK_OK, or `text` says what is wrong. */
static int find_addresses(const struct settings *settings, struct addresses *addresses, char *text,
                          size_t text_bytes) {
    char listens[METAD_SERVERS_MAX][METAD_NAME_BYTES], publish[METAD_NAME_BYTES];
    uint32_t count;
    *addresses = (struct addresses){0};
    if (metad_names_of(settings->listen, listens, &count) != SK_OK || count != 1) {
        (void)snprintf(text, text_bytes, "--listen: '%s' is not an address tcp://host:port", settings->listen);
        return SK_ECONFIG;
    }
    memcpy(addresses->listen, listens[0], METAD_NAME_BYTES);
    (void)metad_name_shift(listens[0], METAD_PUBLISH_OFFSET, publish, sizeof publish);
    (void)snprintf(addresses->publish, sizeof addresses->publish, "tcp://%s", publish);
    (void)metad_name_shift(listens[0], METAD_RAFT_OFFSET, addresses->raft, sizeof addresses->raft);
    if (!find_name(settings, addresses)) {
        (void)snprintf(text, text_bytes, "--advertise: '%s' is not a host name", settings->advertise);
        return SK_ECONFIG;
    }
    if (settings->peers[0] != 0 &&
        metad_names_of(settings->peers, addresses->peers, &addresses->peer_count) != SK_OK) {
        (void)snprintf(text, text_bytes, "--peers: '%s' is not a list of addresses tcp://host:port",
                       settings->peers);
        return SK_ECONFIG;
    }
    if (addresses->peer_count > 0 && (addresses->peer_count % 2 == 0 || addresses->peer_count > GROUP_MAX)) {
        (void)snprintf(text, text_bytes, "--peers: a group has 1, 3 or %u servers", GROUP_MAX);
        return SK_ECONFIG;
    }
    if (!is_among(addresses)) {
        (void)snprintf(text, text_bytes,
                       "--peers: this server, tcp://%s (--advertise, --listen), is not in the list",
                       addresses->name);
        return SK_ECONFIG;
    }
    return SK_OK;
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
    cluster_net_end();
    log_event(LOG_INFO, "stopped", "error=%s", err == SK_OK ? "none" : error_name(err));
    return err == SK_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int run(const struct settings *settings) {
    enum log_level level;
    if (log_level_parse(settings->log_level, &level) != SK_OK) {
        return bad_setup("--log-level: error, warning, info or debug");
    }
    (void)umask(077); /* what the log says of the cluster is for nobody else on this host */
    log_init("metad", level);
    if (SKERRY_PLANTS != 0) log_event(LOG_ERROR, "planted", "bug=%s", SKERRY_PLANT_NAMES);
    if ((settings->shards & (settings->shards - 1)) != 0) return bad_setup("--shards: not a power of two");
    struct addresses addresses;
    char text[METAD_TEXT_BYTES];
    if (find_addresses(settings, &addresses, text, sizeof text) != SK_OK) return bad_setup(text);
    struct buffer secret;
    buffer_init(&secret);
    int err = cluster_net_use(&settings->net, text, sizeof text);
    if (err == SK_OK) err = cluster_net_check(&settings->net, "--listen", settings->listen, text, sizeof text);
    if (err == SK_OK && settings->secret_file[0] != 0) {
        err = secret_read(&secret, "--secret-file", settings->secret_file, text, sizeof text);
    }
    if (err == SK_OK && addresses.peer_count > 1 && secret.size == 0) {
        (void)snprintf(text, sizeof text, "--peers: several servers need a --secret-file");
        err = SK_ECONFIG;
    }
    struct metad_options options = {
        .data_dir = settings->data_dir,
        .listen = settings->listen,
        .publish_listen = addresses.publish,
        .raft_listen = addresses.raft,
        .http_listen = settings->http_listen,
        .name = addresses.name,
        .peers = addresses.peers,
        .peer_count = addresses.peer_count,
        .secret = buffer_slice(&secret),
        .shards = (uint32_t)settings->shards,
        .expect_nodes = (uint32_t)settings->expect_nodes,
        .replicas = (uint32_t)settings->replicas,
        .node_timeout_ms = settings->node_timeout_ms,
        .node_dead_after_ms = settings->node_dead_after_ms,
        .moves_max = (uint32_t)settings->moves_max,
    };
    int code = err == SK_OK ? serve(&options) : bad_setup(text);
    buffer_deinit(&secret);
    return code;
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
