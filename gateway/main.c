/* The gateway's process: configuration, signals, one exit. */
#include "gateway/gateway.h"
#include "libcommon/cluster_net.h"
#include "libcommon/descriptors.h"
#include "libcommon/ending.h"
#include "libcommon/error.h"
#include "libcommon/exposure.h"
#include "libcommon/http.h"
#include "libcommon/limits.h"
#include "libcommon/log.h"
#include "libcommon/metad_names.h"
#include "libcommon/scheduling.h"
#include "libcommon/secret.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define EXIT_CONFIG       2
#define REASON_BYTES      512
#define DESCRIPTORS_SPARE 512u /* for all but clients: nodes, metad, HTTP, handshakes */
#define RESP_LISTEN_BYTES 256

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

/* What protects the gateway's doors, as it was set up. */
struct protection {
    struct cluster_net_settings net;
    struct tls_files client_files;
    const char *token_file;
    struct tls *client_tls; /* owned; of an address of TLS it has a certificate */
    struct tokens *tokens;  /* owned; NULL: clients need none */
};

static int refuse(char *text, size_t text_bytes, const char *flag, const char *why, const char *address) {
    (void)snprintf(text, text_bytes, "%s: '%s' %s", flag, address, why);
    return SK_ECONFIG;
}

#define NOT_SAFE                                                                                                    \
    "can be reached by other hosts: give tls+tcp://… with --client-tls-cert, --client-tls-key and --token-file, " \
    "listen on 127.0.0.1, or allow it with --insecure"

/* Whether clients may connect to the door as it is. */
static int check_door(const struct protection *protection, const char *listen, char *text, size_t text_bytes) {
    bool certified = protection->client_files.cert[0] != 0;
    if (tls_is_url(listen) && !certified) {
        return refuse(text, text_bytes, "--listen", "needs --client-tls-cert and --client-tls-key", listen);
    }
    if (!tls_is_url(listen) && (certified || protection->client_files.ca[0] != 0)) {
        return refuse(text, text_bytes, "--listen",
                      "is not of TLS, and --client-tls-… says so: give tls+tcp://host:port", listen);
    }
    bool safe = tls_is_url(listen) && protection->tokens != NULL;
    if (safe || protection->net.insecure || exposure_is_local(listen)) return SK_OK;
    return refuse(text, text_bytes, "--listen", NOT_SAFE, listen);
}

/* Nobody said where the door for Redis's protocol is: at its usual port, where the other is. */
static const char *usual_resp_listen(const char *listen, char room[RESP_LISTEN_BYTES]) {
    const char *host = strstr(listen, "://"), *port = strrchr(listen, ':');
    bool is_tcp = strncmp(listen, "tcp", 3) == 0 || strncmp(listen, "tls+tcp", 7) == 0;
    if (!is_tcp || host == NULL || port <= host) return "none";
    (void)snprintf(room, RESP_LISTEN_BYTES, "tcp%.*s:6379", (int)(port - host), host);
    return room;
}

/* With a certificate the door speaks TLS, whichever scheme its address has. */
static int check_resp_door(const struct protection *protection, const char *listen, char *text,
                           size_t text_bytes) {
    bool certified = protection->client_files.cert[0] != 0;
    if (strcmp(listen, "none") == 0) return SK_OK;
    if (strncmp(listen, "tcp://", 6) != 0 && strncmp(listen, "tls+tcp://", 10) != 0) {
        return refuse(text, text_bytes, "--resp-listen", "is not tcp://host:port or none", listen);
    }
    if (tls_is_url(listen) && !certified) {
        return refuse(text, text_bytes, "--resp-listen", "needs --client-tls-cert and --client-tls-key", listen);
    }
    bool safe = certified && protection->tokens != NULL;
    if (safe || protection->net.insecure || exposure_is_local(listen)) return SK_OK;
    return refuse(text, text_bytes, "--resp-listen", NOT_SAFE, listen);
}

/* The HTTP port is open to all for its pages; the door there only where it is as safe as the other has to be. Answers why
 * not, or NULL. */
static const char *http_closed_by(const struct protection *protection, const char *listen) {
    bool safe = http_is_tls(listen) && protection->tokens != NULL;
    if (safe || protection->net.insecure || exposure_is_local(listen)) return NULL;
    return "--http-listen can be reached by other hosts: the door for clients there needs https://… with "
           "--client-tls-cert, --client-tls-key and --token-file, or 127.0.0.1, or --insecure";
}

static int check_http(const struct protection *protection, const char *listen, char *text, size_t text_bytes) {
    if (!http_is_tls(listen) || protection->client_files.cert[0] != 0) return SK_OK;
    return refuse(text, text_bytes, "--http-listen", "needs --client-tls-cert and --client-tls-key", listen);
}

/* Reads the files, and checks that they protect what they must. SK_OK, or `text` says what is wrong. */
static int protect(struct protection *protection, const struct gateway_options *options, char *text,
                   size_t text_bytes) {
    int err = cluster_net_use(&protection->net, text, text_bytes);
    if (err == SK_OK) {
        err = tls_read(&protection->client_tls, &protection->client_files, "--client-tls", text, text_bytes);
    }
    if (err == SK_OK && protection->token_file[0] != 0) {
        err = tokens_read(&protection->tokens, "--token-file", protection->token_file, text, text_bytes);
    }
    if (err == SK_OK) err = check_door(protection, options->listen, text, text_bytes);
    if (err == SK_OK) err = check_resp_door(protection, options->resp_listen, text, text_bytes);
    if (err == SK_OK) err = check_http(protection, options->http_listen, text, text_bytes);
    if (err == SK_OK) {
        err = cluster_net_check(&protection->net, "--frames-listen", options->frames_listen, text, text_bytes);
    }
    return err;
}

static void unprotect(struct protection *protection) {
    tls_free(protection->client_tls);
    tokens_free(protection->tokens);
    cluster_net_end();
}

/* Clients must not use up the descriptors by which the gateway reaches the cluster. */
static void fit_connections(struct gateway_options *options) {
    uint64_t descriptors = descriptors_raise();
    uint64_t room = descriptors > 2 * DESCRIPTORS_SPARE ? descriptors - DESCRIPTORS_SPARE : descriptors / 2;
    uint64_t wanted = options->connections_max + options->http_connections_max;
    if (wanted <= room) return;
    if (options->http_connections_max > room / 4) options->http_connections_max = room / 4;
    uint64_t rest = room - options->http_connections_max;
    if (options->connections_max > rest) options->connections_max = rest;
    log_event(LOG_WARNING, "few_descriptors",
              "descriptors=%llu connections_max=%llu http_connections_max=%llu wanted=%llu",
              (unsigned long long)descriptors, (unsigned long long)options->connections_max,
              (unsigned long long)options->http_connections_max, (unsigned long long)wanted);
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
    struct protection protection = {0};
    uint64_t log_level, scheduling;
    const struct config_option table[] = {
        {.name = "listen",
         .type = CONFIG_TEXT,
         .target = &options.listen,
         .fallback = "tcp://0.0.0.0:7400",
         .help = "nng URL where clients connect"},
        {.name = "resp-listen",
         .type = CONFIG_TEXT,
         .target = &options.resp_listen,
         .fallback = "",
         .help = "tcp://host:port where clients of the Redis protocol connect, by TLS with client-tls-cert; none: "
                 "nowhere (default: port 6379 where listen is)"},
        {.name = "frames-listen",
         .type = CONFIG_TEXT,
         .target = &options.frames_listen,
         .fallback = "tcp://0.0.0.0:7410",
         .help = "nng URL where shardds push their answers"},
        {.name = "http-listen",
         .type = CONFIG_TEXT,
         .target = &options.http_listen,
         .fallback = "http://0.0.0.0:7480",
         .help = "where the status page, /healthz, /readyz, /metrics and the HTTP door for clients (/v1/) are; "
                 "https://… by --client-tls-…; none: nowhere"},
        {.name = "http-hosts",
         .type = CONFIG_TEXT,
         .target = &options.http_hosts,
         .fallback = "",
         .help = "names with dots by which clients reach the HTTP door, with commas between; * any. Only without "
                 "--token-file, against pages that point their own names here"},
        {.name = "http-connections-max",
         .type = CONFIG_UINT,
         .target = &options.http_connections_max,
         .fallback = "2048",
         .least = 1,
         .most = 65536,
         .help = "connections to --http-listen"},
        {.name = "http-connections-of-one-max",
         .type = CONFIG_UINT,
         .target = &options.http_connections_of_one_max,
         .fallback = "1024",
         .least = 1,
         .most = 65536,
         .help = "of them, from one address: nobody keeps probes out by holding all"},
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
        {.name = "connections-max",
         .type = CONFIG_UINT,
         .target = &options.connections_max,
         .fallback = "10000",
         .least = 1,
         .most = 1000000,
         .help = "clients connected, by all doors; beyond: a new connection is closed"},
        {.name = "message-max",
         .type = CONFIG_BYTES,
         .target = &options.message_bytes_max,
         .fallback = "64MiB",
         .least = 1024,
         .most = MESSAGE_BYTES_MAX,
         .help = "bytes of one message; beyond: the connection that sends it is closed"},
        {.name = "requests-max",
         .type = CONFIG_UINT,
         .target = &options.requests_max,
         .fallback = "4096",
         .least = 1,
         .most = 65536,
         .help = "requests in flight of each door; beyond: OVERLOADED, or they wait (RESP)"},
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
        {.name = "client-tls-cert",
         .type = CONFIG_TEXT,
         .target = &protection.client_files.cert,
         .fallback = "",
         .help = "file (PEM) with the certificate shown to clients; with --listen tls+tcp://…"},
        {.name = "client-tls-key",
         .type = CONFIG_TEXT,
         .target = &protection.client_files.key,
         .fallback = "",
         .help = "file with its key"},
        {.name = "client-tls-ca",
         .type = CONFIG_TEXT,
         .target = &protection.client_files.ca,
         .fallback = "",
         .help = "file with a CA: clients must show a certificate that it signed"},
        {.name = "token-file",
         .type = CONFIG_TEXT,
         .target = &protection.token_file,
         .fallback = "",
         .help = "file with tokens of 16 bytes or more, one a line: each request must show one"},
        CLUSTER_NET_OPTIONS(&protection.net),
        SCHEDULING_OPTION(&scheduling),
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
    scheduling_use((enum scheduling)scheduling);
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL); /* before any thread: all inherit it */
    (void)signal(SIGPIPE, SIG_IGN);
    struct buffer publish;
    buffer_init(&publish);
    char usual[RESP_LISTEN_BYTES];
    if (options.resp_listen[0] == 0) options.resp_listen = usual_resp_listen(options.listen, usual);
    int code = EXIT_CONFIG;
    char text[REASON_BYTES];
    if (protect(&protection, &options, text, sizeof text) != SK_OK) {
        (void)fprintf(stderr, "gateway: %s\n", text);
    } else if (metad_names_publish(options.metad, &publish) == SK_OK) {
        options.metad_publish = (const char *)publish.data;
        options.client_tls = protection.client_tls;
        options.tokens = protection.tokens;
        fit_connections(&options);
        options.http_closed = http_closed_by(&protection, options.http_listen);
        options.http_certificates = http_is_tls(options.http_listen) && protection.client_files.ca[0] != 0;
        code = run(&options, &signals);
    } else {
        (void)fprintf(stderr, "gateway: --metad: '%s' is not a list of addresses tcp://host:port\n",
                      options.metad);
    }
    buffer_deinit(&publish);
    unprotect(&protection);
    config_free(config);
    return code;
}
