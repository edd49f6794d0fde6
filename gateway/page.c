#include "gateway/page.h"

#include "gateway/json.h"
#include "gateway/page_files.h"
#include "gateway/report.h"
#include "libcommon/clock.h"

void page_html(void *arg, struct http_answer *answer) {
    (void)arg;
    answer->type = "text/html; charset=utf-8";
    buffer_append(&answer->body, page_html_file, sizeof page_html_file);
}

void page_icon(void *arg, struct http_answer *answer) {
    (void)arg;
    answer->type = "image/svg+xml";
    buffer_append(&answer->body, page_icon_file, sizeof page_icon_file);
}

/* ---- what changes ---- */

static void write_gateway(struct json *json, const struct report *report, uint64_t now_ms) {
    json_begin_object(json, "gateway");
    json_text(json, "host", slice_of_text(report->host));
    json_text(json, "address", slice_of_text(report->address));
    json_uint(json, "uptime_ms", now_ms - report->started_ms);
    json_text(json, "waits_for", slice_of_text(report_waits_for(report)));
    json_uint(json, "in_flight", atomic_load(&report->requests_in_flight));
    json_uint(json, "connections", report_connections(report));
    json_uint(json, "nodes", atomic_load(&report->nodes));
    json_uint(json, "nodes_connected", atomic_load(&report->nodes_connected));
    json_uint(json, "map_version", atomic_load(&report->map_version));
    json_end_object(json);
}

static void write_cluster(struct json *json, const struct report *report) {
    static const char *const states[] = {
        [WATCH_ASKING] = "asking", [WATCH_ANSWERS] = "answers", [WATCH_SILENT] = "silent"};
    struct watch_view view;
    struct buffer cluster;
    buffer_init(&cluster);
    watch_look(report->watch, &view, &cluster);
    json_begin_object(json, "metad");
    json_text(json, "state", slice_of_text(states[view.state]));
    json_text(json, "text", slice_of_text(view.text));
    json_end_object(json);
    if (view.has_cluster) {
        json_raw(json, "cluster", buffer_slice(&cluster));
        json_uint(json, "cluster_age_ms", view.age_ms);
        json_bool(json, "cluster_of_map", view.of_map);
    } else {
        json_null(json, "cluster");
    }
    if (cluster.failed) json->out->failed = true;
    buffer_deinit(&cluster);
}

static void write_history(struct json *json, const struct history *history, uint64_t now_ms) {
    struct history_sample samples[HISTORY_SAMPLES];
    uint32_t count = history_read(history, samples);
    json_begin_object(json, "history");
    json_begin_array(json, "age_ms");
    for (uint32_t i = 0; i < count; i++) {
        json_uint(json, NULL, now_ms > samples[i].at_ms ? now_ms - samples[i].at_ms : 0);
    }
    json_end_array(json);
    for (int value = 0; value < HISTORY_VALUES; value++) {
        json_begin_array(json, history_value_name((enum history_value)value));
        for (uint32_t i = 0; i < count; i++) {
            uint32_t number = samples[i].values[value];
            if (number == HISTORY_NONE) json_null(json, NULL);
            else json_uint(json, NULL, number);
        }
        json_end_array(json);
    }
    json_end_object(json);
}

void page_status(void *arg, struct http_answer *answer) {
    const struct report *report = arg;
    uint64_t now_ms = clock_boottime_ms();
    struct json json;
    answer->type = "application/json";
    json_init(&json, &answer->body);
    json_begin_object(&json, NULL);
    json_text(&json, "version", slice_of_text(SKERRY_VERSION));
    write_gateway(&json, report, now_ms);
    write_cluster(&json, report);
    write_history(&json, report->history, now_ms);
    json_end_object(&json);
}
