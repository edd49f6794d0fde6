/* Configuration of a daemon from one table: flags, then the environment (SKERRY_DATA_DIR for --data-dir), then a flat
 * YAML file (--config; `data-dir: /var/lib/skerry`), then defaults. --help prints the table. Once at start. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum config_type {
    CONFIG_TEXT,        /* const char *, owned by the config */
    CONFIG_UINT,        /* uint64_t */
    CONFIG_BYTES,       /* uint64_t; "64MiB", "512KiB", "1GiB" or plain bytes */
    CONFIG_DURATION_MS, /* uint64_t of milliseconds; "10m", "5s", "250ms" */
    CONFIG_SWITCH,      /* bool; a flag alone means true; else true/false/yes/no/on/off */
    CONFIG_CHOICE,      /* uint64_t: position in `choices` ("always|interval") */
};

struct config_option {
    const char *name; /* "data-dir" */
    enum config_type type;
    void *target;         /* where the value goes, by type */
    const char *fallback; /* the default as text; NULL = required */
    uint64_t least, most; /* numbers: allowed range; most 0 = no bound */
    const char *choices;
    const char *help; /* one line */
};

struct config; /* owns the texts handed out */

enum config_result {
    CONFIG_RUN,
    CONFIG_HELP, /* --help or --version was asked and printed: exit 0 */
    CONFIG_BAD,  /* said in one line on stderr, naming flag, variable or file and line: exit 2 */
};

/* `about` opens the help. "--config", "--help" and "--version" are added by this module. Unknown flags and unknown keys of
 * the file are errors; the environment is shared by daemons, so variables are only
 * looked up, never listed. */
/* `config` is NULL unless CONFIG_RUN. Text values live as long as it; an empty variable counts as not set; a default
 * may lie outside of least and most ("0" for "choose by yourself"). */
enum config_result config_load(struct config **config, const char *daemon, const char *about,
                               const struct config_option *options, size_t option_count, int argc, char **argv);
void config_free(struct config *config);
