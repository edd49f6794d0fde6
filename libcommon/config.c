#include "config.h"

#include "check.h"
#include "error.h"
#include "log.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define NAME_BYTES_MAX 64u

enum source { FROM_NOWHERE, FROM_FLAG, FROM_ENVIRONMENT, FROM_FILE, FROM_FALLBACK };

/* What was said about one option, and where. */
struct setting {
    char *text; /* owned; NULL while nothing was said */
    enum source source;
    size_t line; /* FROM_FILE, from 1 */
};

struct config {
    const char *daemon;
    const struct config_option *options;
    size_t option_count;
    char *path;                /* owned: the file, NULL = none */
    bool path_from_flag;       /* else from SKERRY_CONFIG */
    struct setting settings[]; /* as the options; a CONFIG_TEXT's target points to its text */
};

static bool complain(const struct config *config, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* One line on stderr. Always false, so that a check can return it. */
static bool complain(const struct config *config, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "%s: bad configuration: %s\n", config->daemon, text);
    return false;
}

static void variable_of(const char *name, char variable[NAME_BYTES_MAX + 8]) {
    size_t size = (size_t)snprintf(variable, NAME_BYTES_MAX + 8, "SKERRY_%s", name);
    sk_assert(size < NAME_BYTES_MAX + 8);
    for (char *at = variable; *at != '\0'; at++) *at = *at == '-' ? '_' : (char)toupper((unsigned char)*at);
}

/* "--lanes", "SKERRY_LANES" or "skerry.yaml:3: lanes". */
static const char *place_of(const struct config *config, size_t i, char *room, size_t size) {
    const struct setting *setting = &config->settings[i];
    const char *name = config->options[i].name;
    char variable[NAME_BYTES_MAX + 8];
    switch (setting->source) {
    case FROM_ENVIRONMENT:
        variable_of(name, variable);
        snprintf(room, size, "%s", variable);
        break;
    case FROM_FILE:
        snprintf(room, size, "%s:%zu: %s", config->path, setting->line, name);
        break;
    default:
        snprintf(room, size, "--%s", name);
    }
    return room;
}

static bool set_text(struct setting *setting, const char *text, enum source source, size_t line) {
    char *copy = strdup(text);
    if (copy == NULL) return false;
    free(setting->text);
    *setting = (struct setting){.text = copy, .source = source, .line = line};
    return true;
}

/* The position of the option, option_count = unknown. */
static size_t find_option(const struct config *config, const char *name, size_t name_bytes) {
    size_t i = 0;
    for (; i < config->option_count; i++) {
        const char *known = config->options[i].name;
        if (strlen(known) == name_bytes && memcmp(known, name, name_bytes) == 0) break;
    }
    return i;
}

/* Values: text to number, by type. Each answers what it wanted to see, NULL = fine. */

static const char *parse_digits(const char *text, uint64_t *number, const char **end) {
    if (!isdigit((unsigned char)text[0])) return "a number";
    errno = 0;
    char *stopped;
    unsigned long long parsed = strtoull(text, &stopped, 10);
    if (errno == ERANGE) return "a smaller number";
    *number = parsed;
    *end = stopped;
    return NULL;
}

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit byte_units[] = {
    {"", 1}, {"KiB", 1ull << 10}, {"MiB", 1ull << 20}, {"GiB", 1ull << 30}, {"TiB", 1ull << 40}, {NULL, 0}};

static const struct unit duration_units[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 3600 * 1000}, {"d", 24 * 3600 * 1000}, {NULL, 0}};

static const char *parse_with_unit(const char *text, const struct unit *units, const char *wanted,
                                   uint64_t *number) {
    const char *end;
    if (parse_digits(text, number, &end) != NULL) return wanted;
    if (*number == 0 && end[0] == '\0') return NULL; /* 0 is 0 in any unit */
    for (; units->name != NULL; units++) {
        if (strcmp(end, units->name) != 0) continue;
        return __builtin_mul_overflow(*number, units->factor, number) ? "a smaller number" : NULL;
    }
    return wanted;
}

static const char *parse_uint(const char *text, uint64_t *number) {
    const char *end;
    const char *wanted = parse_digits(text, number, &end);
    if (wanted != NULL) return wanted;
    return end[0] == '\0' ? NULL : "a number";
}

static const char *parse_switch(const char *text, bool *on) {
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcasecmp(text, words[i]) != 0) continue;
        *on = i % 2 == 1;
        return NULL;
    }
    return "true or false";
}

static const char *parse_choice(const char *text, const char *choices, uint64_t *position) {
    size_t text_bytes = strlen(text);
    uint64_t i = 0;
    for (const char *at = choices; at != NULL; i++) {
        const char *bar = strchr(at, '|');
        size_t bytes = bar == NULL ? strlen(at) : (size_t)(bar - at);
        if (bytes == text_bytes && memcmp(at, text, bytes) == 0) {
            *position = i;
            return NULL;
        }
        at = bar == NULL ? NULL : bar + 1;
    }
    return choices;
}

static const char *parse_number(const struct config_option *option, const char *text, uint64_t *number) {
    switch (option->type) {
    case CONFIG_UINT:
        return parse_uint(text, number);
    case CONFIG_BYTES:
        return parse_with_unit(text, byte_units, "a size such as 64MiB", number);
    case CONFIG_DURATION_MS:
        return parse_with_unit(text, duration_units, "a duration such as 250ms, 5s or 10m", number);
    case CONFIG_CHOICE:
        return parse_choice(text, option->choices, number);
    default:
        check_failed(__FILE__, __LINE__, "the type is a number's");
    }
}

/* Checks the text of option `i` and puts its value where it goes. */
static bool assign(const struct config *config, size_t i) {
    const struct config_option *option = &config->options[i];
    const struct setting *setting = &config->settings[i];
    char place[512], quoted[128];
    place_of(config, i, place, sizeof place);
    if (option->type == CONFIG_TEXT) {
        if (setting->text[0] == '\0' && option->fallback == NULL)
            return complain(config, "%s must not be empty", place);
        *(const char **)option->target = setting->text;
        return true;
    }
    uint64_t number = 0;
    bool on = false;
    const char *wanted = option->type == CONFIG_SWITCH ? parse_switch(setting->text, &on)
                                                       : parse_number(option, setting->text, &number);
    sk_assert(wanted == NULL || setting->source != FROM_FALLBACK);
    if (wanted != NULL)
        return complain(config, "%s wants %s, not %s", place, wanted,
                        log_quote(setting->text, quoted, sizeof quoted));
    if (option->type == CONFIG_SWITCH) {
        *(bool *)option->target = on;
        return true;
    }
    /* A default may lie outside: "0" for "choose by yourself". */
    bool bounded = setting->source != FROM_FALLBACK && option->type != CONFIG_CHOICE;
    if (bounded && number < option->least)
        return complain(config, "%s must be at least %llu%s, not %s", place, (unsigned long long)option->least,
                        option->type == CONFIG_DURATION_MS ? " ms" : "",
                        log_quote(setting->text, quoted, sizeof quoted));
    if (bounded && option->most != 0 && number > option->most)
        return complain(config, "%s must be at most %llu%s, not %s", place, (unsigned long long)option->most,
                        option->type == CONFIG_DURATION_MS ? " ms" : "",
                        log_quote(setting->text, quoted, sizeof quoted));
    *(uint64_t *)option->target = number;
    return true;
}

/* Flags. */

/* The value that follows a flag: after its '=' or as the next word; `at` moves on. NULL = there is none. */
static const char *flag_value(const char *equals, int argc, char **argv, int *at) {
    if (equals != NULL) return equals + 1;
    return *at + 1 < argc ? argv[++*at] : NULL;
}

/* A switch takes the next word only if that is plainly meant for it. */
static const char *switch_value(const char *equals, int argc, char **argv, int *at) {
    if (equals != NULL) return equals + 1;
    bool on;
    if (*at + 1 < argc && parse_switch(argv[*at + 1], &on) == NULL) return argv[++*at];
    return "true";
}

static bool take_flag(struct config *config, int argc, char **argv, int *at) {
    char quoted[128];
    const char *word = argv[*at];
    if (strncmp(word, "--", 2) != 0 || word[2] == '\0')
        return complain(config, "unexpected argument %s; --help lists the flags",
                        log_quote(word, quoted, sizeof quoted));
    const char *name = word + 2;
    const char *equals = strchr(name, '=');
    size_t name_bytes = equals == NULL ? strlen(name) : (size_t)(equals - name);
    bool is_config = name_bytes == strlen("config") && memcmp(name, "config", name_bytes) == 0;
    size_t i = find_option(config, name, name_bytes);
    if (!is_config && i == config->option_count)
        return complain(config, "unknown flag %s; --help lists the flags", log_quote(word, quoted, sizeof quoted));
    bool is_switch = !is_config && config->options[i].type == CONFIG_SWITCH;
    const char *value = is_switch ? switch_value(equals, argc, argv, at) : flag_value(equals, argc, argv, at);
    if (value == NULL) return complain(config, "--%.*s needs a value", (int)name_bytes, name);
    if (!is_config)
        return set_text(&config->settings[i], value, FROM_FLAG, 0) || complain(config, "out of memory");
    if (value[0] == '\0') return complain(config, "--config needs a file name");
    free(config->path);
    config->path = strdup(value);
    config->path_from_flag = true;
    return config->path != NULL || complain(config, "out of memory");
}

/* The environment. A variable that is set but empty counts as not set: that is what compose files pass on. */

static const char *variable_value(const char *name) {
    char variable[NAME_BYTES_MAX + 8];
    variable_of(name, variable);
    const char *value = getenv(variable);
    return value == NULL || value[0] == '\0' ? NULL : value;
}

static bool take_environment(struct config *config) {
    for (size_t i = 0; i < config->option_count; i++) {
        if (config->settings[i].source != FROM_NOWHERE) continue;
        const char *value = variable_value(config->options[i].name);
        if (value == NULL) continue;
        if (!set_text(&config->settings[i], value, FROM_ENVIRONMENT, 0)) return complain(config, "out of memory");
    }
    const char *path = config->path == NULL ? variable_value("config") : NULL;
    if (path != NULL) {
        config->path = strdup(path);
        if (config->path == NULL) return complain(config, "out of memory");
    }
    return true;
}

/* The file. */

struct file_state {
    struct config *config;
    size_t depth;     /* 1 inside the map */
    size_t documents; /* begun */
    size_t option;    /* whose value comes next; option_count = a key comes next */
    bool *said;       /* by option: the file has named it already */
};

static bool scalar_is_text(const yaml_event_t *event) {
    return memchr(event->data.scalar.value, 0, event->data.scalar.length) == NULL;
}

static bool take_key(struct file_state *state, const char *key, size_t line) {
    struct config *config = state->config;
    char quoted[128];
    size_t i = find_option(config, key, strlen(key));
    if (i == config->option_count)
        return complain(config, "%s:%zu: unknown key %s", config->path, line,
                        log_quote(key, quoted, sizeof quoted));
    if (state->said[i]) return complain(config, "%s:%zu: %s is there twice", config->path, line, key);
    state->said[i] = true;
    state->option = i;
    return true;
}

static bool take_scalar(struct file_state *state, const yaml_event_t *event, size_t line) {
    struct config *config = state->config;
    const char *text = (const char *)event->data.scalar.value;
    if (state->depth != 1)
        return complain(config, "%s:%zu: the file must hold lines of the form `name: value`", config->path, line);
    if (!scalar_is_text(event)) return complain(config, "%s:%zu: a zero byte in a value", config->path, line);
    if (state->option == config->option_count) return take_key(state, text, line);
    struct setting *setting = &config->settings[state->option];
    state->option = config->option_count;
    if (setting->source != FROM_NOWHERE) return true; /* flags and the environment go first */
    return set_text(setting, text, FROM_FILE, line) || complain(config, "out of memory");
}

static bool take_event(struct file_state *state, const yaml_event_t *event) {
    struct config *config = state->config;
    size_t line = event->start_mark.line + 1;
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return take_scalar(state, event, line);
    case YAML_MAPPING_START_EVENT:
        if (state->depth == 0) {
            state->depth = 1;
            return true;
        }
        return complain(config, "%s:%zu: a map within the map; values are single words", config->path, line);
    case YAML_MAPPING_END_EVENT:
        state->depth = 0;
        return true;
    case YAML_SEQUENCE_START_EVENT:
        return complain(config, "%s:%zu: a list; values are single words", config->path, line);
    case YAML_ALIAS_EVENT:
        return complain(config, "%s:%zu: an alias; values are single words", config->path, line);
    case YAML_DOCUMENT_START_EVENT:
        if (++state->documents > 1) return complain(config, "%s:%zu: a second document", config->path, line);
        return true;
    default:
        return true;
    }
}

static bool parse_file(struct file_state *state, yaml_parser_t *parser) {
    for (;;) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event)) {
            return complain(state->config, "%s:%zu: not YAML: %s", state->config->path,
                            parser->problem_mark.line + 1, parser->problem == NULL ? "?" : parser->problem);
        }
        bool ended = event.type == YAML_STREAM_END_EVENT;
        bool ok = take_event(state, &event);
        yaml_event_delete(&event);
        if (!ok || ended) return ok;
    }
}

static bool take_file(struct config *config) {
    if (config->path == NULL) return true;
    const char *from = config->path_from_flag ? "--config" : "SKERRY_CONFIG";
    FILE *file = fopen(config->path, "re");
    if (file == NULL) return complain(config, "%s: %s: %s", from, config->path, strerror(errno));
    struct file_state state = {.config = config, .option = config->option_count};
    state.said = calloc(config->option_count + 1, sizeof *state.said);
    yaml_parser_t parser;
    bool ok;
    if (state.said == NULL || !yaml_parser_initialize(&parser)) {
        ok = complain(config, "out of memory");
    } else {
        yaml_parser_set_input_file(&parser, file);
        ok = parse_file(&state, &parser);
        yaml_parser_delete(&parser);
    }
    free(state.said);
    fclose(file);
    return ok;
}

/* Defaults, then the values. */

static bool take_fallbacks(struct config *config) {
    for (size_t i = 0; i < config->option_count; i++) {
        const struct config_option *option = &config->options[i];
        if (config->settings[i].source != FROM_NOWHERE) continue;
        char variable[NAME_BYTES_MAX + 8];
        variable_of(option->name, variable);
        if (option->fallback == NULL)
            return complain(config, "--%s is required (or %s, or `%s:` in the file)", option->name, variable,
                            option->name);
        if (!set_text(&config->settings[i], option->fallback, FROM_FALLBACK, 0))
            return complain(config, "out of memory");
    }
    return true;
}

static void print_option(const char *name, const char *value, const char *help, const char *fallback) {
    char variable[NAME_BYTES_MAX + 8];
    variable_of(name, variable);
    printf("  --%s%s%s\n      %s\n", name, value[0] == '\0' ? "" : " ", value, help);
    if (fallback == NULL) printf("      required; %s\n", variable);
    else printf("      default: %s; %s\n", fallback[0] == '\0' ? "none" : fallback, variable);
}

static const char *value_word(const struct config_option *option) {
    switch (option->type) {
    case CONFIG_UINT:
        return "NUMBER";
    case CONFIG_BYTES:
        return "SIZE";
    case CONFIG_DURATION_MS:
        return "DURATION";
    case CONFIG_SWITCH:
        return "[true|false]";
    case CONFIG_CHOICE:
        return option->choices;
    default:
        return "TEXT";
    }
}

static void print_help(const struct config *config, const char *about) {
    printf("skerry %s %s: %s\n\nUsage: %s [--name value | --name=value]...\n\n", config->daemon, SKERRY_VERSION,
           about, config->daemon);
    printf("Flags go before the environment, that before the file, that before the default.\n"
           "Sizes: 4096, 512KiB, 64MiB, 1GiB. Durations: 250ms, 5s, 10m, 1h.\n\n");
    for (size_t i = 0; i < config->option_count; i++) {
        const struct config_option *option = &config->options[i];
        print_option(option->name, value_word(option), option->help, option->fallback);
    }
    print_option("config", "FILE", "YAML file of lines `name: value`, named as the flags", "");
    printf("  --help\n      Prints this\n  --version\n      Prints the version\n");
    fflush(stdout);
}

static enum config_result fill(struct config *config, const char *about, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(config, about);
            return CONFIG_HELP;
        }
        if (strcmp(argv[i], "--version") == 0) {
            printf("skerry %s %s\n", config->daemon, SKERRY_VERSION);
            fflush(stdout);
            return CONFIG_HELP;
        }
        if (!take_flag(config, argc, argv, &i)) return CONFIG_BAD;
    }
    if (!take_environment(config) || !take_file(config) || !take_fallbacks(config)) return CONFIG_BAD;
    for (size_t i = 0; i < config->option_count; i++) {
        if (!assign(config, i)) return CONFIG_BAD;
    }
    return CONFIG_RUN;
}

enum config_result config_load(struct config **config, const char *daemon, const char *about,
                               const struct config_option *options, size_t option_count, int argc, char **argv) {
    *config = NULL;
    struct config *made = calloc(1, sizeof *made + option_count * sizeof made->settings[0]);
    if (made == NULL) {
        fprintf(stderr, "%s: bad configuration: out of memory\n", daemon);
        return CONFIG_BAD;
    }
    made->daemon = daemon;
    made->options = options;
    made->option_count = option_count;
    enum config_result result = fill(made, about, argc, argv);
    if (result == CONFIG_RUN) *config = made;
    else config_free(made);
    return result;
}

void config_free(struct config *config) {
    if (config == NULL) return;
    for (size_t i = 0; i < config->option_count; i++) free(config->settings[i].text);
    free(config->path);
    free(config);
}
