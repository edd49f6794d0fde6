#include "prompt.h"

#include "help.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"

#include <editline/readline.h>
#include <stdlib.h>

#define HISTORY_LINES_MAX 1000
#define SLOW_US           500000 /* answers later than this say how long they took, as in redis-cli */

static char *history_path(void) {
    const char *home = getenv("HOME");
    char *path;
    if (home == NULL || asprintf(&path, "%s/.skerry_history", home) < 0) return NULL;
    return path;
}

static char *copy_cased(struct slice word, const char *like) {
    char *copy = calloc(1, word.size + 1);
    bool lower = like[0] >= 'a' && like[0] <= 'z';
    for (size_t i = 0; copy != NULL && i < word.size; i++)
        copy[i] = (char)(lower && word.data[i] >= 'A' && word.data[i] <= 'Z' ? word.data[i] + 32 : word.data[i]);
    return copy;
}

static bool has_prefix(struct slice word, const char *prefix) {
    size_t size = strlen(prefix);
    return size <= word.size && strncasecmp((const char *)word.data, prefix, size) == 0;
}

/* libedit calls this with state 0, 1, …: each the next candidate, in memory that it frees. */
static char *complete_name(const char *prefix, int state) {
    static size_t next;
    if (state == 0) next = 0;
    while (next < COMMAND_COUNT) {
        struct slice name = slice_of_text(command_table[next++].name);
        if (has_prefix(name, prefix)) return copy_cased(name, prefix);
    }
    return NULL;
}

static const struct command *completed_command;

static char *complete_option(const char *prefix, int state) {
    static size_t next;
    if (state == 0) next = 0;
    for (;;) {
        struct slice option = help_option(completed_command, next++);
        if (option.size == 0) return NULL;
        if (has_prefix(option, prefix)) return copy_cased(option, prefix);
    }
}

static char **complete(const char *prefix, int start, int end) {
    (void)end;
    rl_attempted_completion_over = 1; /* never file names */
    const char *line = rl_line_buffer;
    size_t skip = strspn(line, " ");
    struct slice name = slice_of(line + skip, strcspn(line + skip, " "));
    bool helps = name.size == 4 && strncasecmp(line + skip, "help", 4) == 0;
    if ((size_t)start <= skip || helps) return rl_completion_matches(prefix, complete_name);
    completed_command = command_find(name);
    return completed_command == NULL ? NULL : rl_completion_matches(prefix, complete_option);
}

static bool is_word(const struct word *word, const char *text) {
    return word->bytes.size == strlen(text) &&
           strncasecmp((const char *)word->bytes.data, text, word->bytes.size) == 0;
}

static void help(const struct words *words) {
    if (words->count == 1) help_print_commands();
    else if (help_print_command(words->items[1].bytes) != SK_OK) printf("no such command\n");
}

/* False when the prompt is to end. */
static bool run_line(struct session *session, const struct words *words) {
    if (words->count == 0) return true;
    if (is_word(&words->items[0], "quit") || is_word(&words->items[0], "exit")) return false;
    if (is_word(&words->items[0], "help")) {
        help(words);
        return true;
    }
    uint64_t start_us = clock_boottime_us();
    session_run(session, words->items, words->count, stdout);
    uint64_t took_us = clock_boottime_us() - start_us;
    if (took_us >= SLOW_US) printf("(%.2fs)\n", (double)took_us / 1e6);
    return true;
}

static bool take_line(struct session *session, const char *line) {
    struct words words;
    if (words_parse(slice_of_text(line), &words) != SK_OK) {
        printf("(error) BADREQUEST a quote is not closed\n");
        return true;
    }
    bool more = run_line(session, &words);
    words_deinit(&words);
    return more;
}

enum exit_code prompt_run(struct session *session, const char *address) {
    char *path = history_path();
    char *text;
    const char *host = strstr(address, "://") != NULL ? strstr(address, "://") + 3 : address;
    if (asprintf(&text, "%s> ", host) < 0) text = NULL;
    rl_readline_name = "skerry";
    rl_attempted_completion_function = complete;
    using_history();
    stifle_history(HISTORY_LINES_MAX);
    if (path != NULL) read_history(path);
    for (bool more = true; more;) {
        char *line = readline(text != NULL ? text : "> ");
        if (line == NULL) {
            printf("\n");
            break;
        }
        if (line[0] != 0) add_history(line);
        more = take_line(session, line);
        free(line);
    }
    if (path != NULL) write_history(path);
    free(path);
    free(text);
    return EXIT_OK;
}
