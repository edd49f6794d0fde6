/* skerry-sim: runs seeds and says which fail. */
#include "tests/sim/sim.h"

#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] = "usage: skerry-sim [--seed N | --seeds FROM..TO] [--events N] [--faults "
                            "all|none|LIST]\n"
                            "                  [--plant BUG] [--judge-alone] [--first] [--verbose]\n"
                            "  --seed N          one seed (1)\n"
                            "  --seeds FROM..TO  all of these\n"
                            "  --events N        events before the faults stop and all must recover (20000)\n"
                            "  --events LOW..HIGH  each seed has its own number of them\n"
                            "  --faults LIST     which faults may be drawn, separated by commas:";

struct arguments {
    struct sim_options options;
    uint64_t from, to;
    uint64_t events_min, events_max;
    bool first; /* ends with the first seed that fails */
};

static void print_usage(FILE *file) {
    fprintf(file, "%s\n", usage);
#define X(symbol, name, text) fprintf(file, "                      %-10s %s\n", name, text);
    FAULTS(X)
#undef X
    fprintf(file, "  --plant BUG       plants a bug, to see that it is found:\n");
#define X(symbol, name, text) fprintf(file, "                      %-18s %s\n", name, text);
    PLANTS(X)
#undef X
    fprintf(file, "  --judge-alone     no invariants: what clients were told decides alone\n"
                  "  --first           ends with the first seed that fails\n"
                  "  --verbose         a line for everything that happens\n"
                  "Prints a line for each seed that fails, and exits with 1 if one did.\n");
}

static bool parse_number(const char *text, uint64_t *number) {
    char *end;
    *number = strtoull(text, &end, 10);
    return end != text && *end == '\0';
}

/* N, or FROM..TO. */
static bool parse_range(char *text, uint64_t *from, uint64_t *to) {
    char *dots = strstr(text, "..");
    if (dots == NULL) {
        if (!parse_number(text, from)) return false;
        *to = *from;
        return true;
    }
    *dots = '\0';
    return parse_number(text, from) && parse_number(dots + 2, to) && *from <= *to;
}

static bool parse(int count, char **texts, struct arguments *arguments) {
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},   {"seeds", required_argument, NULL, 'r'},
        {"events", required_argument, NULL, 'e'}, {"faults", required_argument, NULL, 'f'},
        {"plant", required_argument, NULL, 'p'},  {"verbose", no_argument, NULL, 'v'},
        {"judge-alone", no_argument, NULL, 'j'},  {"first", no_argument, NULL, '1'},
        {"help", no_argument, NULL, 'h'},         {0}};
    *arguments = (struct arguments){
        .options = {.faults = FAULTS_ALL}, .from = 1, .to = 1, .events_min = 20000, .events_max = 20000};
    for (int option; (option = getopt_long(count, texts, "", options, NULL)) != -1;) {
        bool good = true;
        switch (option) {
        case 's':
            good = parse_number(optarg, &arguments->from);
            arguments->to = arguments->from;
            break;
        case 'r':
            good = parse_range(optarg, &arguments->from, &arguments->to);
            break;
        case 'e':
            good = parse_range(optarg, &arguments->events_min, &arguments->events_max);
            break;
        case 'f':
            good = faults_parse(optarg, &arguments->options.faults);
            break;
        case 'p':
            good = plant_parse(optarg, &arguments->options.plant);
            break;
        case 'j':
            arguments->options.judge_alone = true;
            break;
        case '1':
            arguments->first = true;
            break;
        case 'v':
            arguments->options.verbose = true;
            break;
        case 'h':
            print_usage(stdout);
            exit(0);
        default:
            return false;
        }
        if (!good) return false;
    }
    return optind == count && arguments->events_min > 0;
}

/* As many events as the seed says, small numbers as likely as large ones; what happens in them does not depend on it. */
static uint64_t draw_events(const struct arguments *arguments, uint64_t seed) {
    struct chance chance;
    chance_init(&chance, ~seed);
    return chance_spread(&chance, arguments->events_min, arguments->events_max);
}

/* An assertion of the core ends the process: it says so, with the seed. Made ready before each run, since little may be
 * called in a handler. */
static char last_words[64];

static void prepare_last_words(uint64_t seed) {
    snprintf(last_words, sizeof last_words, "seed %" PRIu64 ": an assertion failed\n", seed);
}

static void on_abort(int signal_number) {
    (void)signal_number;
    if (write(STDOUT_FILENO, last_words, strlen(last_words)) < 0) _exit(3);
    _exit(1);
}

int main(int count, char **texts) {
    struct arguments arguments;
    if (!parse(count, texts, &arguments)) {
        print_usage(stderr);
        return 2;
    }
    signal(SIGABRT, on_abort);
    setvbuf(stdout, NULL, arguments.options.verbose ? _IOFBF : _IOLBF, 1u << 16);
    uint64_t runs = 0, failed = 0, limits = 0;
    for (uint64_t seed = arguments.from;; seed++) {
        struct sim_report report;
        arguments.options.seed = seed;
        arguments.options.events = draw_events(&arguments, seed);
        prepare_last_words(seed);
        if (!sim_run(&arguments.options, &report)) {
            failed++;
            printf("seed %" PRIu64 ": %s (at %" PRIu64 " us, event %" PRIu64 ")\n", seed, report.text,
                   report.at_us, report.events);
        } else if (arguments.from == arguments.to) {
            printf("seed %" PRIu64 ": %s: %" PRIu64 " events, %" PRIu64 " us, %" PRIu64 " writes, %" PRIu64
                   " reads, %" PRIu64 " stale, %" PRIu64 " unknown, %" PRIu64 " epochs, %" PRIu64
                   " snapshots, %" PRIu64 " moves, digest %016" PRIx64 "\n",
                   seed, report.limit == NULL ? "good" : report.limit, report.events, report.at_us, report.writes,
                   report.reads, report.stale, report.unknown, report.epochs, report.snapshots, report.moves,
                   report.digest);
        }
        runs++;
        limits += report.limit != NULL;
        if (seed == arguments.to || (failed > 0 && arguments.first)) break;
    }
    if (limits > 0) printf("%" PRIu64 " came to a known limit\n", limits);
    if (arguments.from != arguments.to) {
        printf("%" PRIu64 " passed, %" PRIu64 " failed\n", runs - failed, failed);
    }
    return failed > 0 ? 1 : 0;
}
