#include "plan.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define METAD_PORT  7100
#define SHARDD_PORT 7200
#define PORT_STEP   1000 /* between processes of a kind */
#define HTTP_OFFSET 80   /* above a process's first port, and its highest: 7280 beside 7200 */

const char *plan_kind_name(enum plan_kind kind) {
    static const char *const names[] = {"metad", "shardd", "gateway"};
    return names[kind];
}

uint64_t plan_lanes(uint64_t cores, uint64_t nodes) {
    uint64_t lanes = cores / 2 / nodes;
    return lanes > 0 ? lanes : 1;
}

/* Building stops at the first failed allocation and plan_make looks once at the end. */
struct builder {
    struct plan_process *process;
    bool failed;
    bool too_many;
};

static void add_arg(struct builder *builder, char *arg /* owned */) {
    struct plan_process *process = builder->process;
    if (arg == NULL) builder->failed = true;
    if (process->arg_count == PLAN_ARGS_MAX) {
        builder->too_many = true;
        free(arg);
        return;
    }
    process->args[process->arg_count++] = arg;
}

__attribute__((format(printf, 2, 3))) static char *format_text(struct builder *builder, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char *text;
    int rc = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (rc >= 0) return text;
    builder->failed = true;
    return NULL;
}

static void add_flag(struct builder *builder, const char *name, const char *value) {
    add_arg(builder, strdup(name));
    add_arg(builder, strdup(value));
}

static void add_flag_number(struct builder *builder, const char *name, uint64_t number) {
    add_arg(builder, strdup(name));
    add_arg(builder, format_text(builder, "%" PRIu64, number));
}

static void add_flag_tcp(struct builder *builder, const char *name, uint64_t port) {
    add_arg(builder, strdup(name));
    add_arg(builder, format_text(builder, "tcp://127.0.0.1:%" PRIu64, port));
}

static void add_flag_http(struct builder *builder, uint64_t first_port) {
    add_arg(builder, strdup("--http-listen"));
    add_arg(builder, format_text(builder, "http://127.0.0.1:%" PRIu64, first_port + HTTP_OFFSET));
}

/* One list for metad's servers and for those who ask them. */
static void write_metads(const struct plan_options *options, char list[PLAN_METADS_BYTES]) {
    int size = 0;
    for (uint64_t i = 0; i < options->metads; i++) {
        size += snprintf(list + size, (size_t)(PLAN_METADS_BYTES - size), "%stcp://127.0.0.1:%" PRIu64,
                         i > 0 ? "," : "", METAD_PORT + options->port_offset + i * PORT_STEP);
    }
}

/* A word that names another kind is that kind's; what names none is shardd's. */
static void add_extra(struct builder *builder, const struct plan_options *options) {
    for (size_t i = 0; i < options->extra_count; i++) {
        const char *word = options->extra[i];
        enum plan_kind owner = PLAN_SHARDD;
        for (int kind = PLAN_METAD; kind < PLAN_KINDS; kind++) {
            const char *name = plan_kind_name((enum plan_kind)kind);
            size_t size = strlen(name);
            if (strncmp(options->extra[i], name, size) != 0 || options->extra[i][size] != ':') continue;
            owner = (enum plan_kind)kind;
            word = options->extra[i] + size + 1;
        }
        if (owner == builder->process->kind) add_arg(builder, strdup(word));
    }
}

static void add_flags_of_kind(struct builder *builder, const struct plan_options *options, uint64_t offset) {
    char metads[PLAN_METADS_BYTES];
    write_metads(options, metads);
    switch (builder->process->kind) {
    case PLAN_METAD:
        add_flag_tcp(builder, "--listen", METAD_PORT + offset);
        add_flag_http(builder, METAD_PORT + offset);
        if (options->metads > 1) {
            add_flag(builder, "--peers", metads);
            add_arg(builder, strdup("--secret-file"));
            add_arg(builder, format_text(builder, "%s/%s", options->data, PLAN_SECRET));
        }
        add_flag_number(builder, "--shards", options->shards);
        add_flag_number(builder, "--expect-nodes", options->nodes);
        return;
    case PLAN_SHARDD:
        add_flag_tcp(builder, "--frames-listen", SHARDD_PORT + offset);
        add_flag_tcp(builder, "--replication-listen", SHARDD_PORT + 10 + offset);
        add_flag_http(builder, SHARDD_PORT + offset);
        add_flag_number(builder, "--lanes", options->lanes);
        if (options->durability != NULL) add_flag(builder, "--durability", options->durability);
        add_flag(builder, "--metad", metads);
        return;
    case PLAN_GATEWAY:
        add_flag_tcp(builder, "--listen", options->gateway_port + offset);
        add_flag_tcp(builder, "--resp-listen", options->resp_port + offset);
        add_flag_tcp(builder, "--frames-listen", options->gateway_port + 10 + offset);
        add_flag_http(builder, options->gateway_port + offset);
        add_flag(builder, "--metad", metads);
        return;
    case PLAN_KINDS:
        break;
    }
    sk_assert(!"a kind of process");
}

static void build_process(struct builder *builder, const struct plan_options *options, enum plan_kind kind,
                          uint32_t number) {
    struct plan_process *process = builder->process;
    process->kind = kind;
    snprintf(process->name, sizeof process->name, "%s-%" PRIu32, plan_kind_name(kind), number);
    process->log = format_text(builder, "%s/log/%s.log", options->data, process->name);
    add_arg(builder, strdup(options->programs[kind]));
    if (kind != PLAN_GATEWAY) {
        process->data = format_text(builder, "%s/%s", options->data, process->name);
        add_flag(builder, "--data-dir", process->data != NULL ? process->data : "");
    }
    add_flag(builder, "--advertise", "127.0.0.1");
    add_flags_of_kind(builder, options, options->port_offset + (number - 1) * PORT_STEP);
    add_extra(builder, options);
}

static uint64_t highest_port(const struct plan_options *options) {
    uint64_t shardd = SHARDD_PORT + (options->nodes - 1) * PORT_STEP;
    uint64_t metad = METAD_PORT + (options->metads - 1) * PORT_STEP;
    uint64_t highest = shardd > options->gateway_port ? shardd : options->gateway_port;
    if (metad > highest) highest = metad;
    if (options->resp_port > highest + HTTP_OFFSET) return options->resp_port + options->port_offset;
    return highest + HTTP_OFFSET + options->port_offset;
}

/* An extra flag may have moved the gateway's HTTP, or ended it. */
static void write_page(struct plan *plan, const struct plan_options *options) {
    const struct plan_process *gateway = &plan->processes[plan->count - 1];
    uint32_t flags = 0;
    for (size_t i = 0; i < gateway->arg_count; i++) flags += strncmp(gateway->args[i], "--http-listen", 13) == 0;
    if (flags > 1) return;
    snprintf(plan->page, sizeof plan->page, "http://127.0.0.1:%" PRIu64 "/",
             options->gateway_port + options->port_offset + HTTP_OFFSET);
}

int plan_make(struct plan *plan, const struct plan_options *options, char *text, size_t text_bytes) {
    *plan = (struct plan){0};
    uint64_t highest = highest_port(options);
    if (highest > 65535) {
        snprintf(text, text_bytes, "ports would go up to %" PRIu64, highest);
        return SK_ECONFIG;
    }
    write_metads(options, plan->metad);
    snprintf(plan->gateway, sizeof plan->gateway, "tcp://127.0.0.1:%" PRIu64,
             options->gateway_port + options->port_offset);
    plan->resp_port = options->resp_port + options->port_offset;
    size_t count = options->metads + options->nodes + 1;
    plan->processes = calloc(count, sizeof *plan->processes);
    if (plan->processes == NULL) return SK_ENOMEM;
    plan->count = count;
    struct builder builder = {0};
    for (size_t i = 0; i < count; i++) {
        enum plan_kind kind = i < options->metads ? PLAN_METAD : i + 1 == count ? PLAN_GATEWAY : PLAN_SHARDD;
        size_t first = kind == PLAN_METAD ? 0 : kind == PLAN_SHARDD ? options->metads : count - 1;
        builder.process = &plan->processes[i];
        build_process(&builder, options, kind, (uint32_t)(i - first + 1));
    }
    if (!builder.failed && !builder.too_many) {
        write_page(plan, options);
        return SK_OK;
    }
    if (builder.too_many) snprintf(text, text_bytes, "too many extra flags");
    plan_deinit(plan);
    return builder.too_many ? SK_ECONFIG : SK_ENOMEM;
}

void plan_deinit(struct plan *plan) {
    for (size_t i = 0; i < plan->count; i++) {
        struct plan_process *process = &plan->processes[i];
        for (size_t a = 0; a < process->arg_count; a++) free(process->args[a]);
        free(process->data);
        free(process->log);
    }
    free(plan->processes);
    *plan = (struct plan){0};
}
