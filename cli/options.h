/* The command line of `skerry`: a table of options is parsed up to the first word that is none. The daemons have
 * libcommon/config.h instead; here options stand before and after a subcommand and there is no file. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_type {
    OPTION_TEXT,        /* const char *, borrowed from argv */
    OPTION_UINT,        /* uint64_t */
    OPTION_DURATION_MS, /* uint64_t of milliseconds: "5s", "250ms", "2m"; a bare number is seconds */
    OPTION_SWITCH,      /* bool, set to true */
    OPTION_CHOICE,      /* uint64_t: position in `choices` ("uniform|zipf") */
};

struct option {
    const char *name; /* "--json" */
    enum option_type type;
    void *target;
    uint64_t least, most; /* numbers and durations; most 0 = no bound */
    const char *choices;
    const char *value; /* what help calls the value; NULL for switches */
    const char *help;  /* one line, with the default; NULL = not shown */
};

/* Parses options from argv[*at] on and leaves *at at the first word that is none; "--" ends them and is stepped
 * over.
 * "--name value" and "--name=value". SK_OK, or SK_ECONFIG: `text` says what is wrong. */
int options_parse(const struct option *options, size_t count, int argc, char **argv, int *at, char *text,
                  size_t text_bytes);

/* "5s", "250ms", "2m", "1h", "5" (seconds) to milliseconds. SK_OK or SK_ECONFIG. */
int options_parse_duration(const char *text, uint64_t *ms);

/* The table as lines of help on stdout. */
void options_print_help(const struct option *options, size_t count);
