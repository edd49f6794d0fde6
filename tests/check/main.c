/* skerry-check FILE: judges a history of clients (history_file.h). The reasons of a bad one come first, the last line is a
 * summary. Exit code 0: linearizable. 1: not. 2: the file or the command line is wrong. 3: undecided, within the budget of
 * states. */
#include "check.h"
#include "history_file.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>

enum exit_code { EXIT_GOOD = 0, EXIT_BAD = 1, EXIT_INPUT = 2, EXIT_UNDECIDED = 3 };

static int usage(FILE *file, int code) {
    fputs("usage: skerry-check [--budget STATES] FILE\n"
          "  Judges whether the history in FILE (JSON lines; - is standard input) is linearizable.\n"
          "  --budget STATES  places that the search of a key may visit before it gives up (4000000)\n"
          "  exit code: 0 linearizable, 1 not, 2 bad input, 3 undecided\n",
          file);
    return code;
}

static bool read_file(const char *path, struct check *check) {
    char fault[512];
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(path, "r");
    if (file == NULL) {
        fprintf(stderr, "skerry-check: %s: %s\n", path, strerror(errno));
        return false;
    }
    bool good = history_read(file, check, fault, sizeof fault);
    if (!good) fprintf(stderr, "skerry-check: %s: %s\n", path, fault);
    if (!is_stdin) fclose(file);
    return good;
}

static enum exit_code judge(const struct check *check) {
    static const struct {
        const char *word;
        enum exit_code code;
    } results[] = {[CHECK_GOOD] = {"ok", EXIT_GOOD},
                   [CHECK_BAD] = {"violation", EXIT_BAD},
                   [CHECK_UNDECIDED] = {"undecided", EXIT_UNDECIDED}};
    struct check_report report;
    check_run(check, &report);
    if (report.text.size > 0) fwrite(report.text.data, 1, report.text.size, stdout);
    printf("keys=%" PRIu64 " operations=%" PRIu64 " unknown=%" PRIu64 " states=%" PRIu64 " result=%s\n",
           report.keys, report.operations, report.unknown, report.states, results[report.verdict].word);
    enum exit_code code = results[report.verdict].code;
    check_report_deinit(&report);
    return code;
}

/* A positive decimal number. */
static bool parse_budget(const char *text, uint64_t *states) {
    char *end;
    errno = 0;
    *states = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0' && text[0] >= '0' && text[0] <= '9' && *states > 0;
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"budget", required_argument, NULL, 'b'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    uint64_t states = CHECK_STATES_DEFAULT;
    for (int option; (option = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (option == 'h') return usage(stdout, EXIT_GOOD);
        if (option != 'b' || !parse_budget(optarg, &states)) return usage(stderr, EXIT_INPUT);
    }
    if (optind + 1 != argc) return usage(stderr, EXIT_INPUT);
    struct check *check = check_new();
    check_set_budget(check, states);
    enum exit_code code = read_file(argv[optind], check) ? judge(check) : EXIT_INPUT;
    check_free(check);
    return code;
}
