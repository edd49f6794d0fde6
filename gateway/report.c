#include "gateway/report.h"

#include "gateway/page.h"
#include "libcommon/clock.h"

#define LOOP_SILENT_MS 10000u /* a loop that has not come round for so long does not work */

uint32_t report_connections(const struct report *report) {
    uint32_t sum = 0;
    for (int door = 0; door < DOOR_KINDS; door++) sum += atomic_load(&report->connections[door]);
    return sum;
}

static void health(void *arg, struct http_answer *answer) {
    const struct report *report = arg;
    uint64_t ticked_ms = atomic_load(&report->ticked_ms);
    bool silent = ticked_ms != 0 && clock_boottime_ms() > ticked_ms + LOOP_SILENT_MS;
    http_answer_health(answer, silent ? "the loop has not come round for 10 s" : "");
}

const char *report_waits_for(const struct report *report) {
    if (atomic_load(&report->leaving)) return "it is ending";
    if (atomic_load(&report->map_version) == 0) return "metad has not sent a map yet";
    if (atomic_load(&report->shards) == 0) return "the cluster's shards are not created yet";
    if (atomic_load(&report->nodes_connected) == 0) return "no node is connected";
    return "";
}

static void ready(void *arg, struct http_answer *answer) { http_answer_health(answer, report_waits_for(arg)); }

static void metrics(void *arg, struct http_answer *answer) {
    const struct report *report = arg;
    struct buffer *page = &answer->body;
    answer->type = METRICS_MEDIA_TYPE;
    metrics_process(page, "gateway");
    metrics_one(page, "skerry_ready", METRICS_GAUGE, report_waits_for(report)[0] == '\0', "1: /readyz says so.");
    metrics_one(page, "skerry_map_version", METRICS_GAUGE, atomic_load(&report->map_version),
                "Version of the map that it goes by.");
    metrics_family(page, "skerry_client_connections", METRICS_GAUGE,
                   "Clients connected, by the door they came by.");
    for (int door = 0; door < DOOR_KINDS; door++) {
        metrics_uint(page, "skerry_client_connections", atomic_load(&report->connections[door]), "door=\"%s\"",
                     door_name((enum door_kind)door));
    }
    metrics_one(page, "skerry_client_connections_refused_total", METRICS_COUNTER,
                atomic_load(&report->connections_refused), "Clients refused: --connections-max were connected.");
    metrics_one(page, "skerry_requests_in_flight", METRICS_GAUGE, atomic_load(&report->requests_in_flight),
                "Messages that are not answered yet.");
    metrics_one(page, "skerry_requests_waiting", METRICS_GAUGE, atomic_load(&report->requests_waiting),
                "Of them, those of blocking commands, which wait for something to take.");
    metrics_one(page, "skerry_nodes", METRICS_GAUGE, atomic_load(&report->nodes), "Nodes of the map.");
    metrics_one(page, "skerry_node_connections", METRICS_GAUGE, atomic_load(&report->nodes_connected),
                "Of them, those that are connected.");
    tally_write(report->tally, page);
}

const struct http_page report_pages[] = {{"/healthz", health},     {"/readyz", ready},
                                         {"/metrics", metrics},    {"/", page_html},
                                         {"/icon.svg", page_icon}, {"/status.json", page_status}};
const size_t report_page_count = sizeof report_pages / sizeof *report_pages;
