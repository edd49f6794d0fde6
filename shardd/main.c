#include "libcommon/cluster_net.h"
#include "libcommon/ending.h"
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "libcommon/metad_names.h"
#include "libcommon/plant.h"
#include "libcommon/scheduling.h"
#include "shardd/shardd.h"

#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EXIT_BAD_CONFIG = 2 };

struct settings {
    struct shardd_options shardd;
    struct cluster_net_settings net;
    uint64_t lanes, sync_interval_ms, id_window_ms, durability, scheduling, log_level;
    bool accept_suspect;
};

static enum config_result load(struct config **config, struct settings *settings, int argc, char **argv) {
    static char host[256];
    if (gethostname(host, sizeof host - 1) != 0) snprintf(host, sizeof host, "127.0.0.1");
    struct shardd_options *shardd = &settings->shardd;
    const struct config_option options[] = {
        {"data-dir", CONFIG_TEXT, &shardd->data_dir, NULL, 0, 0, NULL, "directory of this node's data"},
        {"metad", CONFIG_TEXT, &shardd->metad_addresses, "tcp://127.0.0.1:7100", 0, 0, NULL,
         "addresses of metad's servers, tcp://host:port, comma-separated"},
        {"frames-listen", CONFIG_TEXT, &shardd->frames_listen, "tcp://0.0.0.0:7200", 0, 0, NULL,
         "where gateways push their requests"},
        {"replication-listen", CONFIG_TEXT, &shardd->replication_listen, "tcp://0.0.0.0:7210", 0, 0, NULL,
         "where other nodes push what they replicate"},
        {"http-listen", CONFIG_TEXT, &shardd->http_listen, "http://0.0.0.0:7280", 0, 0, NULL,
         "where /healthz, /readyz and /metrics are; none: nowhere"},
        {"advertise", CONFIG_TEXT, &shardd->advertise, host, 0, 0, NULL, "host that others reach this node by"},
        {"lanes", CONFIG_UINT, &settings->lanes, "0", 0, 64, NULL,
         "threads with a log and a store each; fixed with the data directory; 0: half the cores"},
        {"durability", CONFIG_CHOICE, &settings->durability, "always", 0, 0, "always|interval",
         "always: on disk before a write is acknowledged; interval: synced now and then"},
        {"sync-interval", CONFIG_DURATION_MS, &settings->sync_interval_ms, "100ms", 1, 60000, NULL,
         "with --durability interval: how often"},
        SCHEDULING_OPTION(&settings->scheduling),
        {"memtable-size", CONFIG_BYTES, &shardd->memtable_bytes, "32MiB", 64 * 1024, 4ull << 30, NULL,
         "changes in memory per lane before a checkpoint"},
        {"cache-size", CONFIG_BYTES, &shardd->cache_bytes, "32MiB", 0, 64ull << 30, NULL,
         "records in memory per lane that reads have found on disk; 0: none"},
        {"checkpoint-interval", CONFIG_DURATION_MS, &shardd->checkpoint_interval_ms, "60s", 100, 0, NULL,
         "a checkpoint at the latest after this"},
        {"segment-size", CONFIG_BYTES, &shardd->segment_bytes, "64MiB", 1024 * 1024, 1ull << 30, NULL,
         "size of a log segment; fixed with the data directory; bounds the largest write"},
        {"log-keep", CONFIG_BYTES, &shardd->log_keep_bytes, "512MiB", 0, 0, NULL,
         "log kept per lane for replicas that lag; beyond it they get a snapshot"},
        {"drain-timeout", CONFIG_DURATION_MS, &shardd->drain_ms, "10s", 0, 3600000, NULL,
         "at SIGTERM: so long others may take over what is led here; 0s: not at all"},
        {"verify-interval", CONFIG_DURATION_MS, &shardd->verify_interval_ms, "60m", 0, 0, NULL,
         "how often a leader compares the content of its replicas, slowly; 0s: only when a person wants it"},
        {"id-window", CONFIG_DURATION_MS, &settings->id_window_ms, "10m", 1, 7ull * 24 * 3600 * 1000, NULL,
         "how long a client's id is remembered"},
        {"ids-per-shard", CONFIG_UINT, &shardd->ids_max, "1000000", 1, 0, NULL,
         "ids remembered per shard; beyond it OVERLOADED"},
        {"accept-suspect", CONFIG_SWITCH, &settings->accept_suspect, "false", 0, 0, NULL,
         "open a store on which a sync has failed"},
        CLUSTER_NET_OPTIONS(&settings->net),
        {"log-level", CONFIG_CHOICE, &settings->log_level, "info", 0, 0, "error|warning|info|debug",
         "what is logged"},
    };
    enum config_result result = config_load(config, "shardd", "Skerry's storage daemon: keeps shards on disk.",
                                            options, sizeof options / sizeof options[0], argc, argv);
    shardd->lanes = (uint32_t)settings->lanes;
    shardd->sync_interval_ms = settings->durability == 0 ? 0 : (uint32_t)settings->sync_interval_ms;
    shardd->id_window_ms = (uint32_t)settings->id_window_ms;
    shardd->accept_suspect = settings->accept_suspect;
    return result;
}

/* Signals to end are waited for, in one place; every thread inherits the mask. */
static void block_signals(void) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static int run(const struct settings *settings) {
    struct shardd *shardd = NULL;
    const struct shardd_options *options = &settings->shardd;
    char text[1024] = "";
    int err = cluster_net_use(&settings->net, text, sizeof text);
    if (err == SK_OK) {
        err = cluster_net_check(&settings->net, "--frames-listen", options->frames_listen, text, sizeof text);
    }
    if (err == SK_OK) {
        err = cluster_net_check(&settings->net, "--replication-listen", options->replication_listen, text,
                                sizeof text);
    }
    if (err == SK_OK) err = shardd_open(&shardd, options, text, sizeof text);
    if (err != SK_OK) {
        fprintf(stderr, "shardd: %s\n", text[0] != 0 ? text : error_text(err));
        return EXIT_BAD_CONFIG;
    }
    int code = shardd_run(shardd);
    ending_guard(30, code); /* after the hand-over: time to answer what is in flight and to finish a checkpoint */
    shardd_close(shardd);
    cluster_net_end();
    return code;
}

int main(int argc, char **argv) {
    struct config *config = NULL;
    struct settings settings = {0};
    enum config_result result = load(&config, &settings, argc, argv);
    if (result != CONFIG_RUN) return result == CONFIG_HELP ? 0 : EXIT_BAD_CONFIG;

    (void)umask(077); /* clients' data */
    log_init("shardd", (enum log_level)settings.log_level);
    scheduling_use((enum scheduling)settings.scheduling);
    if (SKERRY_PLANTS != 0) log_event(LOG_ERROR, "planted", "bug=%s", SKERRY_PLANT_NAMES);
    block_signals();
    struct buffer publish;
    buffer_init(&publish);
    int code = EXIT_BAD_CONFIG;
    if (metad_names_publish(settings.shardd.metad_addresses, &publish) == SK_OK) {
        settings.shardd.publish_addresses = (const char *)publish.data;
        code = run(&settings);
    } else {
        fprintf(stderr, "shardd: --metad: '%s' is not a list of addresses tcp://host:port\n",
                settings.shardd.metad_addresses);
    }
    buffer_deinit(&publish);
    config_free(config);
    return code;
}
