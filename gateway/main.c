/* The gateway's process: configuration, signals, one exit. */
#include "gateway/gateway.h"
#include "libcommon/config.h"
#include "libcommon/ending.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/log.h"
#include "libcommon/metad_names.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>

#define EXIT_CONFIG  2
#define REASON_BYTES 512

/* Waits for SIGTERM or SIGINT, which every thread blocks. */
static void *signal_thread(void *arg) {
    sigset_t *signals = ((void **)arg)[0];
    struct gateway *gateway = ((void **)arg)[1];
    int number;
    while (sigwait(signals, &number) != 0) {
    }
    gateway_stop(gateway);
    return NULL;
}

static int run(const struct gateway_options *options, sigset_t *signals) {
    struct gateway *gateway;
    char text[REASON_BYTES];
    if (gateway_open(&gateway, options, text, sizeof text) != SK_OK) {
        (void)fprintf(stderr, "gateway: %s\n", text);
        return EXIT_CONFIG;
    }
    void *arg[2] = {signals, gateway};
    pthread_t thread;
    if (pthread_create(&thread, NULL, signal_thread, arg) != 0) {
        (void)fprintf(stderr, "gateway: cannot start a thread\n");
        gateway_stop(gateway);
        (void)gateway_run(gateway);
        gateway_free(gateway);
        return EXIT_CONFIG;
    }
    int code = gateway_run(gateway);
    (void)pthread_cancel(thread);
    (void)pthread_join(thread, NULL);
    ending_guard(5, code);
    gateway_free(gateway);
    return code;
}

int main(int argc, char **argv) {
    struct gateway_options options = {0};
    uint64_t log_level;
    const struct config_option table[] = {
        {.name = "listen",
         .type = CONFIG_TEXT,
         .target = &options.listen,
         .fallback = "tcp://0.0.0.0:7400",
         .help = "nng URL where clients connect"},
        {.name = "frames-listen",
         .type = CONFIG_TEXT,
         .target = &options.frames_listen,
         .fallback = "tcp://0.0.0.0:7410",
         .help = "nng URL where shardds push their answers"},
        {.name = "http-listen",
         .type = CONFIG_TEXT,
         .target = &options.http_listen,
         .fallback = "http://0.0.0.0:7480",
         .help = "where the status page, /healthz, /readyz and /metrics are; none: nowhere"},
        {.name = "advertise",
         .type = CONFIG_TEXT,
         .target = &options.advertise,
         .fallback = "",
         .help = "host name by which shardds reach frames-listen (default: this host's name)"},
        {.name = "metad",
         .type = CONFIG_TEXT,
         .target = &options.metad,
         .fallback = "tcp://127.0.0.1:7100",
         .help = "nng URLs of metad's servers, separated by commas"},
        {.name = "requests-max",
         .type = CONFIG_UINT,
         .target = &options.requests_max,
         .fallback = "4096",
         .least = 1,
         .most = 65536,
         .help = "requests in flight of all clients; beyond: OVERLOADED"},
        {.name = "connection-requests-max",
         .type = CONFIG_UINT,
         .target = &options.connection_requests_max,
         .fallback = "1024",
         .least = 1,
         .most = 65536,
         .help = "requests in flight of one connection; beyond: OVERLOADED"},
        {.name = "connection-bytes-max",
         .type = CONFIG_BYTES,
         .target = &options.connection_bytes_max,
         .fallback = "128MiB",
         .least = 1024,
         .help = "bytes in flight of one connection; beyond: OVERLOADED"},
        {.name = "bytes-max",
         .type = CONFIG_BYTES,
         .target = &options.bytes_max,
         .fallback = "512MiB",
         .least = 1024,
         .help = "bytes in flight of all clients; beyond: OVERLOADED"},
        {.name = "timeout",
         .type = CONFIG_DURATION_MS,
         .target = &options.timeout_ms,
         .fallback = "5s",
         .least = 1,
         .most = TIMEOUT_MS_MAX,
         .help = "deadline of requests that do not say one"},
        {.name = "log-level",
         .type = CONFIG_CHOICE,
         .target = &log_level,
         .fallback = "info",
         .choices = "error|warning|info|debug",
         .help = "what is logged"},
    };
    struct config *config;
    switch (config_load(&config, "gateway",
                        "The single ingress of a Skerry cluster: takes clients' requests to shards.", table,
                        sizeof table / sizeof *table, argc, argv)) {
    case CONFIG_HELP:
        return 0;
    case CONFIG_BAD:
        return EXIT_CONFIG;
    case CONFIG_RUN:
        break;
    }
    log_init("gateway", (enum log_level)log_level);
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL); /* before any thread: all inherit it */
    (void)signal(SIGPIPE, SIG_IGN);
    struct buffer publish;
    buffer_init(&publish);
    int code = EXIT_CONFIG;
    if (metad_names_publish(options.metad, &publish) == SK_OK) {
        options.metad_publish = (const char *)publish.data;
        code = run(&options, &signals);
    } else {
        (void)fprintf(stderr, "gateway: --metad: '%s' is not a list of addresses tcp://host:port\n",
                      options.metad);
    }
    buffer_deinit(&publish);
    config_free(config);
    return code;
}
