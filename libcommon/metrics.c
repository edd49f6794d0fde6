#include "libcommon/metrics.h"

#include "libcommon/tls_guard.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES   512u
#define LABELS_BYTES 384u

static const uint64_t bounds_us[] = METRICS_BOUNDS_US;
_Static_assert(sizeof bounds_us / sizeof *bounds_us == METRICS_BUCKETS - 1, "one bucket has no bound");

/* ---- what is counted ---- */

void metrics_observe(struct metrics_histogram *histogram, uint64_t us, uint64_t count) {
    uint32_t bucket = 0;
    while (bucket < METRICS_BUCKETS - 1 && us > bounds_us[bucket]) bucket++;
    metrics_add(&histogram->counts[bucket], count);
    metrics_add(&histogram->sum_us, us * count);
}

void metrics_merge(struct metrics_histogram *to, const struct metrics_histogram *from) {
    for (uint32_t i = 0; i < METRICS_BUCKETS; i++) metrics_add(&to->counts[i], metrics_get(&from->counts[i]));
    metrics_add(&to->sum_us, metrics_get(&from->sum_us));
}

/* ---- a page of them ---- */

static void append(struct buffer *page, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void append(struct buffer *page, const char *format, ...) {
    char line[LINE_BYTES + LABELS_BYTES];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (size < 0 || (size_t)size >= sizeof line) { /* a line that is cut is not one of the format */
        page->failed = true;
        return;
    }
    buffer_append(page, line, (size_t)size);
}

void metrics_family(struct buffer *page, const char *name, enum metrics_type type, const char *help) {
    static const char *const types[] = {"counter", "gauge", "histogram"};
    append(page, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, types[type]);
}

/* "name{labels} " */
static void append_name(struct buffer *page, const char *name, const char *labels) {
    if (labels[0] == '\0') append(page, "%s ", name);
    else append(page, "%s{%s} ", name, labels);
}

#define FORMAT_LABELS(room, labels)                                                                               \
    do {                                                                                                          \
        va_list arguments;                                                                                        \
        va_start(arguments, labels);                                                                              \
        (void)vsnprintf(room, sizeof room, labels, arguments);                                                    \
        va_end(arguments);                                                                                        \
    } while (0)

void metrics_uint(struct buffer *page, const char *name, uint64_t value, const char *labels, ...) {
    char room[LABELS_BYTES];
    FORMAT_LABELS(room, labels);
    append_name(page, name, room);
    append(page, "%" PRIu64 "\n", value);
}

/* Exact, where a double would be rounded. */
static void append_seconds(struct buffer *page, int64_t us) {
    uint64_t size = us < 0 ? 0 - (uint64_t)us : (uint64_t)us;
    append(page, "%s%" PRIu64 ".%06" PRIu64 "\n", us < 0 ? "-" : "", size / 1000000, size % 1000000);
}

void metrics_seconds(struct buffer *page, const char *name, int64_t us, const char *labels, ...) {
    char room[LABELS_BYTES];
    FORMAT_LABELS(room, labels);
    append_name(page, name, room);
    append_seconds(page, us);
}

void metrics_histogram(struct buffer *page, const char *name, const struct metrics_histogram *histogram,
                       const char *labels, ...) {
    char room[LABELS_BYTES];
    FORMAT_LABELS(room, labels);
    const char *comma = room[0] == '\0' ? "" : ",";
    uint64_t count = 0;
    for (uint32_t i = 0; i < METRICS_BUCKETS; i++) {
        count += metrics_get(&histogram->counts[i]);
        if (i < METRICS_BUCKETS - 1) {
            append(page, "%s_bucket{%s%sle=\"%g\"} %" PRIu64 "\n", name, room, comma, (double)bounds_us[i] / 1e6,
                   count);
        } else {
            append(page, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, room, comma, count);
        }
    }
    char full[LINE_BYTES];
    (void)snprintf(full, sizeof full, "%s_sum", name);
    append_name(page, full, room);
    append_seconds(page, (int64_t)metrics_get(&histogram->sum_us));
    (void)snprintf(full, sizeof full, "%s_count", name);
    append_name(page, full, room);
    append(page, "%" PRIu64 "\n", count);
}

void metrics_one(struct buffer *page, const char *name, enum metrics_type type, uint64_t value, const char *help) {
    metrics_family(page, name, type, help);
    metrics_uint(page, name, value, "%s", "");
}

const char *metrics_quote(const char *text, char *room, size_t size) {
    size_t used = 0;
    for (; *text != '\0' && used + 3 <= size; text++) {
        if (*text == '\\' || *text == '"' || *text == '\n') room[used++] = '\\';
        room[used++] = *text == '\n' ? 'n' : *text;
    }
    room[used] = '\0';
    return room;
}

/* ---- the process ---- */

/* Field `number` of /proc/self/stat, from 3 on: those behind the program's name. 0 = it cannot be read. */
static uint64_t read_stat(unsigned number) {
    char text[1024];
    FILE *file = fopen("/proc/self/stat", "re");
    if (file == NULL) return 0;
    size_t size = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file);
    text[size] = '\0';
    char *at = strrchr(text, ')'); /* the name may hold spaces */
    for (unsigned field = 2; at != NULL && field < number; field++) at = strchr(at + 1, ' ');
    return at == NULL ? 0 : strtoull(at + 1, NULL, 10);
}

static uint64_t boot_seconds(void) {
    char line[256];
    unsigned long long seconds = 0;
    FILE *file = fopen("/proc/stat", "re");
    if (file == NULL) return 0;
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "btime ", 6) == 0) seconds = strtoull(line + 6, NULL, 10);
    }
    (void)fclose(file);
    return seconds;
}

static uint64_t count_open_files(void) {
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL) return 0;
    uint64_t count = 0;
    while (readdir(directory) != NULL) count++;
    (void)closedir(directory);
    return count < 3 ? 0 : count - 3; /* ".", ".." and the directory itself */
}

static int64_t wall_clock_us(void) {
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void write_handshakes(struct buffer *page, const char *side, struct tls_guard_counts counts) {
    static const char name[] = "skerry_tls_handshakes_total";
    metrics_uint(page, name, counts.done, "side=\"%s\",outcome=\"done\"", side);
    metrics_uint(page, name, counts.refused, "side=\"%s\",outcome=\"refused\"", side);
    metrics_uint(page, name, counts.timed_out, "side=\"%s\",outcome=\"timed_out\"", side);
    metrics_uint(page, name, counts.broken, "side=\"%s\",outcome=\"broken\"", side);
}

void metrics_process(struct buffer *page, const char *daemon) {
    enum { THREADS = 20, STARTED = 22, VIRTUAL_BYTES = 23, RESIDENT_PAGES = 24 };
    struct rusage usage = {0};
    struct rlimit files = {0};
    (void)getrusage(RUSAGE_SELF, &usage);
    (void)getrlimit(RLIMIT_NOFILE, &files);
    uint64_t ticks = (uint64_t)sysconf(_SC_CLK_TCK), page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    int64_t cpu_us = (int64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 + usage.ru_utime.tv_usec +
                     usage.ru_stime.tv_usec;
    int64_t started_us = (int64_t)(boot_seconds() * 1000000 + read_stat(STARTED) * 1000000 / ticks);

    metrics_family(page, "skerry_build_info", METRICS_GAUGE, "Always 1; what runs, in the labels.");
    metrics_uint(page, "skerry_build_info", 1, "daemon=\"%s\",version=\"%s\"", daemon, SKERRY_VERSION);
    metrics_family(page, "process_cpu_seconds_total", METRICS_COUNTER, "Processor time used, user and system.");
    metrics_seconds(page, "process_cpu_seconds_total", cpu_us, "%s", "");
    metrics_family(page, "process_start_time_seconds", METRICS_GAUGE, "When the process began, since 1970.");
    metrics_seconds(page, "process_start_time_seconds", started_us, "%s", "");
    metrics_one(page, "process_resident_memory_bytes", METRICS_GAUGE, read_stat(RESIDENT_PAGES) * page_bytes,
                "Memory in use, pages of files that are mapped included.");
    metrics_one(page, "process_virtual_memory_bytes", METRICS_GAUGE, read_stat(VIRTUAL_BYTES),
                "Addresses in use; a shardd maps 1 TiB for each lane.");
    metrics_one(page, "process_open_fds", METRICS_GAUGE, count_open_files(), "Open files and sockets.");
    metrics_one(page, "process_max_fds", METRICS_GAUGE, files.rlim_cur, "As many of them as there may be.");
    metrics_one(page, "process_threads", METRICS_GAUGE, read_stat(THREADS), "Threads.");
    metrics_one(page, "process_major_page_faults_total", METRICS_COUNTER, (uint64_t)usage.ru_majflt,
                "Pages that had to come from disk.");
    metrics_family(page, "skerry_clock_seconds", METRICS_GAUGE, "The host's clock, since 1970.");
    metrics_seconds(page, "skerry_clock_seconds", wall_clock_us(), "%s", "");
    metrics_family(page, "skerry_tls_handshakes_total", METRICS_COUNTER,
                   "TLS handshakes by who connected and what came of them; refused: on either side.");
    write_handshakes(page, "accepted", tls_guard_accepted());
    write_handshakes(page, "dialled", tls_guard_dialled());
}
