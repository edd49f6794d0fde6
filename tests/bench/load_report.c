#include "load_report.h"

#include <stdio.h>

static json_t *kind_as_json(const struct histogram *histogram, double seconds) {
    if (histogram == NULL || histogram_count(histogram) == 0) return json_pack("{s:i}", "count", 0);
    json_int_t count = (json_int_t)histogram_count(histogram);
    return json_pack("{s:I,s:f,s:I,s:I,s:I}", "count", count, "per_second", (double)count / seconds, "p50_us",
                     (json_int_t)histogram_percentile(histogram, 50), "p99_us",
                     (json_int_t)histogram_percentile(histogram, 99), "max_us",
                     (json_int_t)histogram_max(histogram));
}

void load_report_print(const struct load_report *report) {
    json_t *json = json_pack("{s:I,s:f,s:f,s:I,s:o,s:o}", "commands", (json_int_t)report->commands, "seconds",
                             report->seconds, "per_second", (double)report->commands / report->seconds, "missing",
                             (json_int_t)report->missing, "reads", kind_as_json(report->reads, report->seconds),
                             "writes", kind_as_json(report->writes, report->seconds));
    json_object_set_new(json, "errors", report->errors != NULL ? json_incref(report->errors) : json_object());
    if (report->cpu_seconds >= 0) json_object_set_new(json, "cpu_seconds", json_real(report->cpu_seconds));
    json_dumpf(json, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    printf("\n");
    json_decref(json);
}
