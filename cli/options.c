#include "options.h"

#include "libcommon/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool parse_uint(const char *text, const char **rest, uint64_t *number) {
    if (text[0] < '0' || text[0] > '9') return false;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0) return false;
    *rest = end;
    *number = value;
    return true;
}

int options_parse_duration(const char *text, uint64_t *ms) {
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"", 1000}, {"m", 60000}, {"h", 3600000}};
    const char *unit;
    uint64_t number;
    if (!parse_uint(text, &unit, &number)) return SK_ECONFIG;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(unit, units[i].unit) != 0) continue;
        if (number > UINT64_MAX / units[i].ms) return SK_ECONFIG;
        *ms = number * units[i].ms;
        return SK_OK;
    }
    return SK_ECONFIG;
}

static int parse_choice(const char *choices, const char *text, uint64_t *position) {
    size_t size = strlen(text);
    uint64_t at = 0;
    for (const char *choice = choices;; choice = strchr(choice, '|') + 1, at++) {
        size_t choice_size = strcspn(choice, "|");
        if (choice_size == size && memcmp(choice, text, size) == 0) {
            *position = at;
            return SK_OK;
        }
        if (choice[choice_size] == 0) return SK_ECONFIG;
    }
}

static int parse_value(const struct option *option, const char *value) {
    const char *rest = "";
    uint64_t number = 0;
    switch (option->type) {
    case OPTION_TEXT:
        *(const char **)option->target = value;
        return SK_OK;
    case OPTION_UINT:
        if (!parse_uint(value, &rest, &number) || *rest != 0) return SK_ECONFIG;
        break;
    case OPTION_DURATION_MS:
        if (options_parse_duration(value, &number) != SK_OK) return SK_ECONFIG;
        break;
    case OPTION_CHOICE:
        return parse_choice(option->choices, value, option->target);
    case OPTION_SWITCH:
        return SK_ECONFIG; /* takes no value */
    }
    if (number < option->least || (option->most != 0 && number > option->most)) return SK_ECONFIG;
    *(uint64_t *)option->target = number;
    return SK_OK;
}

/* The option that `word` names; `value` is what follows its '=', or NULL. */
static const struct option *find_option(const struct option *options, size_t count, const char *word,
                                        const char **value) {
    size_t size = strcspn(word, "=");
    for (size_t i = 0; i < count; i++) {
        if (strlen(options[i].name) != size || memcmp(options[i].name, word, size) != 0) continue;
        *value = word[size] == '=' ? word + size + 1 : NULL;
        return &options[i];
    }
    return NULL;
}

static void explain_bad_value(const struct option *option, const char *value, char *text, size_t text_bytes) {
    int used = snprintf(text, text_bytes, "'%s' is not a value for %s", value, option->name);
    if (used < 0 || (size_t)used >= text_bytes) return;
    char *at = text + used;
    size_t left = text_bytes - (size_t)used;
    if (option->type == OPTION_CHOICE) snprintf(at, left, " (%s)", option->choices);
    else if (option->type == OPTION_DURATION_MS) snprintf(at, left, " (a duration such as 250ms, 5s, 2m)");
    else if (option->type == OPTION_UINT && option->most != 0)
        snprintf(at, left, " (%llu to %llu)", (unsigned long long)option->least, (unsigned long long)option->most);
    else if (option->type == OPTION_SWITCH) snprintf(at, left, ", which takes none");
}

int options_parse(const struct option *options, size_t count, int argc, char **argv, int *at, char *text,
                  size_t text_bytes) {
    while (*at < argc && argv[*at][0] == '-' && argv[*at][1] != 0) {
        const char *word = argv[*at];
        if (strcmp(word, "--") == 0) {
            ++*at;
            return SK_OK;
        }
        const char *value;
        const struct option *option = find_option(options, count, word, &value);
        if (option == NULL) {
            snprintf(text, text_bytes, "unknown option '%s'", word);
            return SK_ECONFIG;
        }
        ++*at;
        if (option->type == OPTION_SWITCH && value == NULL) {
            *(bool *)option->target = true;
            continue;
        }
        if (value == NULL && *at == argc) {
            snprintf(text, text_bytes, "%s needs a value", option->name);
            return SK_ECONFIG;
        }
        if (value == NULL) value = argv[(*at)++];
        int err = parse_value(option, value);
        if (err != SK_OK) {
            explain_bad_value(option, value, text, text_bytes);
            return err;
        }
    }
    return SK_OK;
}

void options_print_help(const struct option *options, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (options[i].help == NULL) continue;
        char left[64];
        const char *value = options[i].type == OPTION_CHOICE ? options[i].choices : options[i].value;
        snprintf(left, sizeof left, "%s%s%s", options[i].name, value != NULL ? " " : "",
                 value != NULL ? value : "");
        printf("  %-34s %s\n", left, options[i].help);
    }
}
