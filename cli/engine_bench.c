#include "engine_bench.h"

#include "engine_load.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "session.h"
#include "shardd/bench/bare_lmdb.h"
#include "shardd/bench/engine.h"

#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOADS_MAX              16
#define MEMTABLE_BYTES         (32u << 20) /* shardd's defaults: of a memtable, */
#define CACHE_BYTES            (32u << 20) /* of its cache, */
#define CHECKPOINT_INTERVAL_MS 60000u      /* of its age, */
#define CHECKPOINT_TXN_BYTES   (4u << 20)  /* and of a checkpoint's transactions */
#define MAP_BYTES              (1ull << 40)
#define MAP_BYTES_COUNTED      (4ull << 30) /* valgrind has not as many addresses */
#define LOADING_INTERVAL_MS    100u         /* so that what is loaded is soon in the store */
#define LOADING_BATCH          100u
#define MEMTABLE_RECORD_BYTES  80u /* of a record beside its key and value, about */
#define SEED                   42u /* the same keys in each run */
#define FLOOR_MS_MAX           5000u

/* What a load came to, or LMDB alone. */
struct result {
    const char *name;
    uint64_t commands, took_us;
    uint64_t cpu_us; /* processor time of the thread that does it: of a load the lane's */
};

/* A load, and what stands beside it. */
struct row {
    struct result load, floor; /* the floor's name is NULL: nothing does */
};

struct run {
    const struct engine_bench_options *options;
    char directory[PATH_MAX];
    struct engine *engine;
    struct keys_plan plan;
    struct keys_chooser chooser;
    struct buffer value, body;
    struct row rows[LOADS_MAX];
    size_t row_count;
};

struct engine_bench_options engine_bench_defaults(void) {
    return (struct engine_bench_options){
        .keys = 1000000,
        .cache_bytes = CACHE_BYTES,
        .value_bytes = 100,
        .batch = 1000,
        .in_flight = 4, /* as many frames as a gateway has under way to a node */
        .shards = 64,
        .reads_percent = ENGINE_BENCH_APART,
        .duration_ms = 10000,
    };
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number) {
    (void)number;
    interrupted = 1;
}

static int complain(const char *what, int err, const char *text) {
    fprintf(stderr, "skerry: %s: %s\n", what, text[0] != 0 ? text : error_text(err));
    return err;
}

static double per_second(const struct result *result) {
    return result->took_us == 0 ? 0 : (double)result->commands * 1e6 / (double)result->took_us;
}

static double cpu_ns(const struct result *result) {
    return result->commands == 0 ? 0 : (double)result->cpu_us * 1000 / (double)result->commands;
}

/* So many times its floor does it do: by the time it took, and by the processor's, which other processes do not blur. */
static double ratio(const struct row *row) { return per_second(&row->load) / per_second(&row->floor); }

static double cpu_ratio(const struct row *row) {
    return row->load.cpu_us == 0 ? 0 : cpu_ns(&row->floor) / cpu_ns(&row->load);
}

/* ---- the lane ---- */

static int open_engine(struct run *run, uint64_t checkpoint_interval_ms, uint64_t frames_max) {
    char directory[PATH_MAX + 8], text[512] = "";
    bool is_counted = run->options->operations > 0;
    snprintf(directory, sizeof directory, "%s/lane-0", run->directory);
    struct engine_options options = {.directory = directory,
                                     .shard_count = (uint32_t)run->options->shards,
                                     .memtable_bytes = MEMTABLE_BYTES,
                                     .cache_bytes = run->options->cache_bytes,
                                     .checkpoint_interval_ms = checkpoint_interval_ms,
                                     .map_bytes = is_counted ? MAP_BYTES_COUNTED : MAP_BYTES,
                                     .frames_max = (uint32_t)frames_max};
    int err = engine_open(&run->engine, &options, text, sizeof text);
    return err == SK_OK ? SK_OK : complain("cannot open the engine", err, text);
}

static void close_engine(struct run *run) {
    engine_close(run->engine);
    run->engine = NULL;
}

static void add_command(struct run *run, const struct engine_load *load, uint64_t number) {
    uint8_t key[KEYS_BYTES];
    engine_load_write(load, number, buffer_slice(&run->value), &run->body, key);
    engine_add(run->engine, slice_of(key, sizeof key), engine_load_is_write(load), buffer_slice(&run->body));
}

/* Sets every key once, and waits until all of them are in the store. */
static int load_keys(struct run *run) {
    const struct engine_load *set = engine_load_find(slice_of_text("SET"));
    uint64_t keys = run->options->keys, begin_us = clock_boottime_us();
    int err = open_engine(run, LOADING_INTERVAL_MS, 4);
    for (uint64_t number = 0; err == SK_OK && number < keys && !interrupted; number++) {
        add_command(run, set, number);
        if ((number + 1) % LOADING_BATCH == 0) err = engine_send(run->engine);
    }
    if (err == SK_OK) err = engine_drain(run->engine);
    if (err == SK_OK && engine_counts(run->engine).refused > 0) err = engine_counts(run->engine).refused_err;
    if (err == SK_OK) engine_wait_for_checkpoint(run->engine);
    close_engine(run);
    if (err != SK_OK) return complain("loading", err, "");
    double seconds = (double)(clock_boottime_us() - begin_us) / 1e6;
    fprintf(stderr, "loaded %" PRIu64 " keys in %.1f s\n", keys, seconds);
    return SK_OK;
}

/* ---- a load ---- */

/* What the next command is: of the load, or of GET and SET mixed. */
static const struct engine_load *choose_load(struct run *run, const struct engine_load *load) {
    if (load != NULL) return load;
    bool reads = keys_random(&run->chooser) % 100 < run->options->reads_percent;
    return engine_load_find(slice_of_text(reads ? "GET" : "SET"));
}

static bool is_over(const struct run *run, uint64_t begin_us, uint64_t sent) {
    const struct engine_bench_options *options = run->options;
    if (interrupted) return true;
    if (options->operations > 0) return sent >= options->operations;
    return clock_boottime_us() - begin_us >= options->duration_ms * 1000;
}

/* Frame after frame; with --operations each waits for the one before, so that every run takes the same steps. */
static int measure(struct run *run, const struct engine_load *load) {
    const struct engine_bench_options *options = run->options;
    uint64_t begin_us = clock_boottime_us(), sent = 0;
    int err = SK_OK;
    while (err == SK_OK && !is_over(run, begin_us, sent)) {
        for (uint64_t i = 0; i < options->batch; i++)
            add_command(run, choose_load(run, load), keys_choose(&run->chooser));
        sent += options->batch;
        err = options->operations > 0 ? engine_drain(run->engine) : engine_send(run->engine);
    }
    return err == SK_OK ? engine_drain(run->engine) : err;
}

/* Called before a load and behind it: where it is called scripts/engine-counts begins to count, and reads what was counted. */
__attribute__((noinline)) static void engine_bench_mark(const struct result *result) {
    __asm__ volatile("" : : "r"(result) : "memory"); /* not left out */
}

static int run_load(struct run *run, const struct engine_load *load, const char *name) {
    struct result *result = &run->rows[run->row_count++].load;
    struct engine_counts before = engine_counts(run->engine);
    uint64_t cpu_us = engine_state(run->engine).lane_cpu_us, begin_us = clock_boottime_us();
    engine_bench_mark(result);
    int err = measure(run, load);
    engine_bench_mark(result);
    struct engine_counts after = engine_counts(run->engine);
    *result = (struct result){.name = name,
                              .commands = after.answered - before.answered,
                              .took_us = clock_boottime_us() - begin_us,
                              .cpu_us = engine_state(run->engine).lane_cpu_us - cpu_us};
    if (err == SK_OK && after.refused > before.refused) err = after.refused_err;
    if (err != SK_OK) return complain(name, err, "");
    uint64_t missing = after.missing - before.missing;
    if (missing > 0) fprintf(stderr, "%s: %" PRIu64 " found no key (--load sets them all first)\n", name, missing);
    return SK_OK;
}

static int run_named_loads(struct run *run) {
    const char *names = run->options->loads != NULL ? run->options->loads : "GET,SET";
    int err = SK_OK;
    while (err == SK_OK && *names != 0 && !interrupted) {
        size_t size = strcspn(names, ",");
        const struct engine_load *load = engine_load_find(slice_of(names, size));
        err = run_load(run, load, engine_load_name(load));
        names += size + (names[size] != 0);
    }
    return err;
}

static int run_loads(struct run *run) {
    uint64_t in_flight = run->options->operations > 0 ? 1 : run->options->in_flight;
    int err = open_engine(run, CHECKPOINT_INTERVAL_MS, in_flight);
    if (err != SK_OK) return err;
    err = run->options->reads_percent == ENGINE_BENCH_APART ? run_named_loads(run) : run_load(run, NULL, "mixed");
    close_engine(run);
    return err;
}

/* ---- LMDB alone ---- */

static int compare_numbers(const void *a, const void *b) {
    uint64_t left, right;
    memcpy(&left, a, sizeof left);
    memcpy(&right, b, sizeof right);
    return left < right ? -1 : left > right;
}

/* Numbers in order, without repeats. */
static size_t sort_numbers(uint64_t *numbers, size_t count) {
    size_t kept = 0;
    qsort(numbers, count, sizeof *numbers, compare_numbers);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || numbers[i] != numbers[kept - 1]) numbers[kept++] = numbers[i];
    return kept;
}

/* In transactions as a checkpoint's. */
static int put_sorted(struct run *run, struct bare_lmdb *lmdb, const uint64_t *numbers, size_t count) {
    size_t per_transaction = CHECKPOINT_TXN_BYTES / (KEYS_BYTES + run->value.size) + 1;
    int err = SK_OK;
    for (size_t at = 0; err == SK_OK && at < count;) {
        size_t end = count - at < per_transaction ? count : at + per_transaction;
        err = bare_lmdb_begin(lmdb);
        for (; err == SK_OK && at < end; at++) {
            uint8_t key[KEYS_BYTES];
            keys_write(numbers[at], key);
            err = bare_lmdb_put(lmdb, slice_of(key, sizeof key), buffer_slice(&run->value));
        }
        if (err == SK_OK) err = bare_lmdb_commit(lmdb);
    }
    return err;
}

/* Room for the keys that a full memtable has, at most all. */
static size_t checkpoint_keys(const struct run *run) {
    return MEMTABLE_BYTES / (KEYS_BYTES + run->value.size + MEMTABLE_RECORD_BYTES) + 1;
}

/* Some order of the numbers below 2^bits, without repeats: each step can be undone. */
static uint64_t permute(uint64_t number, unsigned bits) {
    uint64_t mask = (UINT64_C(1) << bits) - 1;
    for (int round = 0; round < 2; round++) {
        number = number * 0x9e3779b97f4a7c15u & mask;
        number ^= number >> (bits / 2 + 1);
    }
    return number;
}

/* Each key once, a checkpoint's worth at a time, as they come to a lane whose keys are spread by their hash: LMDB's pages are as
 * full as they are there. */
static int load_floor(struct run *run, struct bare_lmdb *lmdb, uint64_t *numbers) {
    size_t most = checkpoint_keys(run), count = 0;
    unsigned bits = 1;
    int err = SK_OK;
    while (UINT64_C(1) << bits < run->options->keys) bits++;
    for (uint64_t i = 0; err == SK_OK && i < UINT64_C(1) << bits; i++) {
        uint64_t number = permute(i, bits);
        if (number < run->options->keys) numbers[count++] = number;
        if (count < most && i + 1 < UINT64_C(1) << bits) continue;
        err = put_sorted(run, lmdb, numbers, sort_numbers(numbers, count));
        count = 0;
    }
    return err;
}

static uint64_t floor_us(const struct run *run) {
    uint64_t ms = run->options->duration_ms;
    return (ms < FLOOR_MS_MAX ? ms : FLOOR_MS_MAX) * 1000;
}

static int measure_puts(struct run *run, struct bare_lmdb *lmdb, uint64_t *numbers, struct result *puts) {
    int err = SK_OK;
    while (err == SK_OK && puts->took_us < floor_us(run) && !interrupted) {
        size_t count = checkpoint_keys(run);
        for (size_t i = 0; i < count; i++) numbers[i] = keys_choose(&run->chooser);
        count = sort_numbers(numbers, count);
        uint64_t begin_us = clock_boottime_us(), cpu_us = clock_thread_cpu_us();
        err = put_sorted(run, lmdb, numbers, count);
        puts->took_us += clock_boottime_us() - begin_us;
        puts->cpu_us += clock_thread_cpu_us() - cpu_us;
        puts->commands += count;
    }
    return err;
}

static int measure_gets(struct run *run, struct bare_lmdb *lmdb, struct result *gets) {
    uint64_t begin_us = clock_boottime_us(), cpu_us = clock_thread_cpu_us();
    int err = bare_lmdb_begin_reading(lmdb);
    if (err != SK_OK) return err;
    while (err == SK_OK && gets->took_us < floor_us(run) && !interrupted) {
        for (int i = 0; err == SK_OK && i < 1000; i++) {
            uint8_t key[KEYS_BYTES];
            struct slice value;
            keys_write(keys_choose(&run->chooser), key);
            err = bare_lmdb_get(lmdb, slice_of(key, sizeof key), &value);
            if (err == SK_OK && value.size != run->value.size) err = SK_ECORRUPT;
        }
        gets->commands += 1000;
        gets->took_us = clock_boottime_us() - begin_us;
        gets->cpu_us = clock_thread_cpu_us() - cpu_us;
    }
    bare_lmdb_end_reading(lmdb);
    return err;
}

static int measure_floor(struct run *run, struct bare_lmdb *lmdb, struct result *gets, struct result *puts) {
    uint64_t *numbers = calloc(checkpoint_keys(run), sizeof *numbers);
    if (numbers == NULL) return SK_ENOMEM;
    int err = load_floor(run, lmdb, numbers);
    if (err == SK_OK) err = measure_gets(run, lmdb, gets);
    if (err == SK_OK) err = measure_puts(run, lmdb, numbers, puts);
    free(numbers);
    return err;
}

static void stand_beside(struct run *run, const char *name, const struct result *floor) {
    for (size_t i = 0; i < run->row_count; i++)
        if (strcmp(run->rows[i].load.name, name) == 0) run->rows[i].floor = *floor;
}

static int remove_cb(const char *path, const struct stat *status, int type, struct FTW *place) {
    (void)status, (void)type, (void)place;
    return remove(path);
}

static void remove_tree(const char *path) { (void)nftw(path, remove_cb, 16, FTW_DEPTH | FTW_PHYS); }

static int run_floor(struct run *run) {
    char directory[PATH_MAX + 16], text[512] = "";
    struct bare_lmdb *lmdb;
    struct result gets = {.name = "LMDB get"}, puts = {.name = "sorted LMDB puts"};
    snprintf(directory, sizeof directory, "%s/bare-lmdb", run->directory);
    remove_tree(directory);
    int err = bare_lmdb_open(&lmdb, directory, text, sizeof text);
    if (err != SK_OK) return complain("LMDB alone", err, text);
    err = measure_floor(run, lmdb, &gets, &puts);
    bare_lmdb_close(lmdb);
    remove_tree(directory);
    if (err != SK_OK) return complain("LMDB alone", err, "");
    stand_beside(run, "GET", &gets);
    stand_beside(run, "SET", &puts);
    return SK_OK;
}

/* ---- the result ---- */

static void show(const struct run *run, FILE *out) {
    const struct engine_bench_options *options = run->options;
    fprintf(out,
            "engine: one lane, %" PRIu64 " shards, %" PRIu64 " keys of %d bytes, values of %" PRIu64
            " bytes, frames of %" PRIu64 " commands, %" PRIu64 " in flight, %ld cores\n",
            options->shards, options->keys, KEYS_BYTES, options->value_bytes, options->batch, options->in_flight,
            sysconf(_SC_NPROCESSORS_ONLN));
    for (size_t i = 0; i < run->row_count; i++) {
        const struct row *row = &run->rows[i];
        fprintf(out, "%-6s %12" PRIu64 "  %10.0f/s  %6.0f ns of the lane's processor time\n", row->load.name,
                row->load.commands, per_second(&row->load), cpu_ns(&row->load));
        if (row->floor.name == NULL) continue;
        fprintf(out, "       %.2f x %s (%.0f/s); by processor time %.2f x (%.0f ns)\n", ratio(row),
                row->floor.name, per_second(&row->floor), cpu_ratio(row), cpu_ns(&row->floor));
    }
}

static json_t *row_as_json(const struct row *row) {
    const struct result *load = &row->load;
    json_t *json =
        json_pack("{s:s,s:I,s:f,s:f,s:f}", "name", load->name, "commands", (json_int_t)load->commands, "seconds",
                  (double)load->took_us / 1e6, "per_second", per_second(load), "cpu_ns", cpu_ns(load));
    if (row->floor.name != NULL) {
        json_t *floor =
            json_pack("{s:s,s:f,s:f,s:f,s:f}", "name", row->floor.name, "per_second", per_second(&row->floor),
                      "cpu_ns", cpu_ns(&row->floor), "ratio", ratio(row), "cpu_ratio", cpu_ratio(row));
        json_object_set_new(json, "floor", floor);
    }
    return json;
}

static void show_json(const struct run *run, FILE *out) {
    const struct engine_bench_options *options = run->options;
    json_t *loads = json_array();
    for (size_t i = 0; i < run->row_count; i++) json_array_append_new(loads, row_as_json(&run->rows[i]));
    json_t *how = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "shards", (json_int_t)options->shards, "keys",
                            (json_int_t)options->keys, "value_bytes", (json_int_t)options->value_bytes, "batch",
                            (json_int_t)options->batch, "in_flight", (json_int_t)options->in_flight, "cores",
                            (json_int_t)sysconf(_SC_NPROCESSORS_ONLN));
    json_t *json = json_pack("{s:o,s:o}", "loads", loads, "options", how);
    json_dumpf(json, out, JSON_COMPACT | JSON_REAL_PRECISION(9));
    fprintf(out, "\n");
    json_decref(json);
}

/* ---- the module ---- */

static bool loads_are_known(const char *names) {
    size_t count = 0;
    for (; names != NULL && *names != 0; count++) {
        size_t size = strcspn(names, ",");
        if (engine_load_find(slice_of(names, size)) == NULL) return false;
        names += size + (names[size] != 0);
    }
    return count <= LOADS_MAX;
}

static int make_directory(struct run *run) {
    const char *data = run->options->data;
    snprintf(run->directory, sizeof run->directory, "%s", data != NULL ? data : "skerry-engine-XXXXXX");
    bool made = data != NULL ? mkdir(data, 0700) == 0 || errno == EEXIST : mkdtemp(run->directory) != NULL;
    return made ? SK_OK : complain(run->directory, error_from_errno(errno), strerror(errno));
}

static void make_value(struct run *run) {
    struct keys_chooser chooser = {.random = 1};
    buffer_init(&run->value);
    uint8_t *bytes = buffer_extend(&run->value, run->options->value_bytes);
    for (uint64_t i = 0; bytes != NULL && i < run->options->value_bytes; i++)
        bytes[i] = (uint8_t)(keys_random(&chooser) >> 56);
}

static int run_all(struct run *run) {
    const struct engine_bench_options *options = run->options;
    bool loads = options->load || options->data == NULL;
    int err = loads ? load_keys(run) : SK_OK;
    if (err == SK_OK) err = run_loads(run);
    if (err == SK_OK && options->operations == 0) err = run_floor(run);
    return err;
}

int engine_bench_run(const struct engine_bench_options *options, FILE *out) {
    struct run run = {.options = options};
    if (!loads_are_known(options->loads)) {
        fprintf(stderr, "skerry: '%s' is no list of loads (skerry bench --engine --help)\n", options->loads);
        return EXIT_USAGE;
    }
    log_init("engine", LOG_WARNING);
    if (make_directory(&run) != SK_OK) return EXIT_USAGE;
    keys_plan_init(&run.plan, KEYS_UNIFORM, options->keys);
    keys_chooser_init(&run.chooser, &run.plan, SEED);
    make_value(&run);
    buffer_init(&run.body);
    struct sigaction action = {.sa_handler = on_interrupt}, old;
    sigaction(SIGINT, &action, &old);
    int err = run.value.failed ? SK_ENOMEM : run_all(&run);
    sigaction(SIGINT, &old, NULL);
    if (options->data == NULL) remove_tree(run.directory);
    if (err == SK_OK && options->json) show_json(&run, out);
    else if (err == SK_OK) show(&run, out);
    buffer_deinit(&run.value);
    buffer_deinit(&run.body);
    return err == SK_OK ? EXIT_OK : EXIT_ERROR_ANSWER;
}
