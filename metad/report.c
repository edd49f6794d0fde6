#include "metad/report.h"

#include "libcommon/clock.h"
#include "libcommon/metrics.h"

#define LOOP_SILENT_MS 10000u /* a loop that has not come round for so long does not work */

void report_init(struct report *report) {
    *report = (struct report){0};
    pthread_mutex_init(&report->lock, NULL);
}

void report_deinit(struct report *report) { pthread_mutex_destroy(&report->lock); }

void report_tell(struct report *report, const struct report_facts *facts, uint64_t now_ms) {
    pthread_mutex_lock(&report->lock);
    report->facts = *facts;
    report->told_ms = now_ms;
    pthread_mutex_unlock(&report->lock);
}

/* When it was told; 0: never. */
static uint64_t read_facts(struct report *report, struct report_facts *facts) {
    pthread_mutex_lock(&report->lock);
    *facts = report->facts;
    uint64_t told_ms = report->told_ms;
    pthread_mutex_unlock(&report->lock);
    return told_ms;
}

static void health(void *arg, struct http_answer *answer) {
    struct report_facts facts;
    uint64_t told_ms = read_facts(arg, &facts);
    bool silent = told_ms != 0 && clock_boottime_ms() > told_ms + LOOP_SILENT_MS;
    http_answer_health(answer, silent ? "the loop has not come round for 10 s" : "");
}

/* One that follows serves, too: it says who leads. */
static const char *waits_for(const struct report_facts *facts) {
    if (facts->leaving) return "it is ending";
    if (!facts->leader_known) return "no server of the group leads, as far as is known here";
    if (facts->leads && !facts->ready) return "it leads and is not ready yet";
    return "";
}

static void ready(void *arg, struct http_answer *answer) {
    struct report_facts facts;
    (void)read_facts(arg, &facts);
    http_answer_health(answer, waits_for(&facts));
}

static void write_server(const struct report_facts *facts, struct buffer *page) {
    metrics_one(page, "skerry_ready", METRICS_GAUGE, waits_for(facts)[0] == '\0', "1: /readyz says so.");
    metrics_one(page, "skerry_metad_leads", METRICS_GAUGE, facts->leads, "1: this server leads the group.");
    metrics_one(page, "skerry_metad_leader_known", METRICS_GAUGE, facts->leader_known,
                "1: some server leads, as far as this one knows.");
    metrics_one(page, "skerry_metad_servers", METRICS_GAUGE, facts->servers, "Servers of the group.");
    metrics_one(page, "skerry_metad_voters", METRICS_GAUGE, facts->voters, "Of them, those that vote.");
    metrics_one(page, "skerry_metad_term", METRICS_GAUGE, facts->term, "Raft's term.");
    metrics_one(page, "skerry_metad_commit_index", METRICS_GAUGE, facts->commit_index,
                "Highest entry that is committed, as far as this server knows.");
    metrics_one(page, "skerry_metad_last_index", METRICS_GAUGE, facts->last_index,
                "Last entry of this server's log.");
    metrics_one(page, "skerry_metad_requests_total", METRICS_COUNTER, facts->calls, "Requests that came.");
    metrics_family(page, "skerry_metad_disk_wait_seconds", METRICS_GAUGE,
                   "So long entries have waited for this server's disk.");
    metrics_seconds(page, "skerry_metad_disk_wait_seconds", (int64_t)facts->disk_waits_ms * 1000, "%s", "");
}

static void write_cluster(const struct report_facts *facts, struct buffer *page) {
    metrics_one(page, "skerry_map_version", METRICS_GAUGE, facts->map_version, "Version of the map.");
    metrics_family(page, "skerry_cluster_nodes", METRICS_GAUGE, "Nodes that were not removed.");
    metrics_uint(page, "skerry_cluster_nodes", facts->nodes_alive, "state=\"alive\"");
    metrics_uint(page, "skerry_cluster_nodes", facts->nodes_dead, "state=\"dead\"");
    metrics_one(page, "skerry_cluster_nodes_draining", METRICS_GAUGE, facts->nodes_draining,
                "Of them, those that a person takes away.");
    metrics_one(page, "skerry_cluster_shards", METRICS_GAUGE, facts->shards, "Shards.");
    metrics_one(page, "skerry_cluster_shards_leaderless", METRICS_GAUGE, facts->shards_leaderless,
                "Shards whose leader is not alive.");
    metrics_one(page, "skerry_cluster_shards_unwritable", METRICS_GAUGE, facts->shards_unwritable,
                "Shards with fewer replicas in sync and alive than a write needs.");
    metrics_one(page, "skerry_cluster_shards_degraded", METRICS_GAUGE, facts->shards_degraded,
                "Shards with a replica that is not in sync.");
    metrics_one(page, "skerry_cluster_shards_moving", METRICS_GAUGE, facts->shards_moving,
                "Shards of which a replica moves.");
    metrics_one(page, "skerry_cluster_data_losses_total", METRICS_COUNTER, facts->data_losses,
                "Times that a person forced a leader and gave up what others had.");
}

static void metrics(void *arg, struct http_answer *answer) {
    struct report *report = arg;
    struct report_facts facts;
    (void)read_facts(report, &facts);
    answer->type = METRICS_MEDIA_TYPE;
    metrics_process(&answer->body, "metad");
    disk_space_write(report->disk, &answer->body);
    write_server(&facts, &answer->body);
    write_cluster(&facts, &answer->body);
}

const struct http_page report_pages[] = {{"/healthz", health}, {"/readyz", ready}, {"/metrics", metrics}};
const size_t report_page_count = sizeof report_pages / sizeof *report_pages;
