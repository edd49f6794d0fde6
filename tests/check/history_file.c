#include "history_file.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

/* One line that is being read. */
struct line {
    json_t *fields; /* owned */
    struct check_op op;
    struct slice key;
    bool failed;       /* surely not done: not to be added */
    const char *fault; /* NULL = none so far; static memory */
};

static const struct kind_name {
    const char *name;
    enum check_kind kind;
} kind_names[] = {
    {"get", CHECK_GET}, {"set", CHECK_SET},   {"del", CHECK_DEL},
    {"cas", CHECK_CAS}, {"incr", CHECK_INCR}, {"append", CHECK_APPEND},
};
#define KIND_COUNT (sizeof kind_names / sizeof kind_names[0])

static void read_int(struct line *line, const char *name, int64_t *number) {
    const json_t *field = json_object_get(line->fields, name);
    if (!json_is_integer(field)) {
        line->fault = "a field that must be an integer is missing or something else";
        return;
    }
    *number = json_integer_value(field);
}

/* A string, or null for nil. */
static void read_value(struct line *line, const char *name, struct check_value *value) {
    const json_t *field = json_object_get(line->fields, name);
    if (json_is_null(field)) {
        value->present = false;
    } else if (json_is_string(field)) {
        value->present = true;
        value->bytes = slice_of(json_string_value(field), json_string_length(field));
    } else {
        line->fault = "a value is missing, or neither a string nor null";
    }
}

static void read_kind(struct line *line) {
    const char *name = json_string_value(json_object_get(line->fields, "op"));
    for (size_t i = 0; name != NULL && i < KIND_COUNT; i++) {
        if (strcmp(name, kind_names[i].name) != 0) continue;
        line->op.kind = kind_names[i].kind;
        return;
    }
    line->fault = "op is missing or not one of get set del cas incr append";
}

static void read_arguments(struct line *line) {
    struct check_op *op = &line->op;
    switch (op->kind) {
    case CHECK_GET:
    case CHECK_DEL:
        break;
    case CHECK_CAS:
        read_value(line, "expected", &op->expected);
        read_value(line, "value", &op->value);
        break;
    case CHECK_SET:
        if (json_object_get(line->fields, "expires") != NULL) read_int(line, "expires", &op->expires);
        read_value(line, "value", &op->value);
        break;
    case CHECK_APPEND:
        read_value(line, "value", &op->value);
        break;
    case CHECK_INCR:
        op->amount = 1;
        if (json_object_get(line->fields, "amount") != NULL) read_int(line, "amount", &op->amount);
        break;
    }
}

static void read_outcome(struct line *line) {
    const json_t *field = json_object_get(line->fields, "outcome");
    const char *outcome = field == NULL ? "done" : json_string_value(field);
    line->op.unknown = json_is_null(json_object_get(line->fields, "end"));
    if (outcome == NULL) {
        line->fault = "outcome is not a string";
    } else if (strcmp(outcome, "unknown") == 0) {
        line->op.unknown = true;
    } else if (strcmp(outcome, "failed") == 0) {
        line->failed = true;
    } else if (strcmp(outcome, "done") != 0) {
        line->fault = "outcome is not one of done unknown failed";
    }
}

static void read_result(struct line *line) {
    if (line->op.unknown || line->failed) return;
    read_int(line, "end", &line->op.end);
    if (line->op.kind == CHECK_GET) {
        read_value(line, "result", &line->op.got);
    } else if (line->op.kind != CHECK_SET) {
        read_int(line, "result", &line->op.answer);
    }
}

static void read_fields(struct line *line) {
    const json_t *key = json_object_get(line->fields, "key");
    const json_t *client = json_object_get(line->fields, "client");
    if (!json_is_string(key)) line->fault = "key is missing or not a string";
    if (client != NULL && !json_is_integer(client)) line->fault = "client is not an integer";
    line->key = slice_of(json_string_value(key), json_string_length(key));
    line->op.client = (uint64_t)json_integer_value(client);
    read_int(line, "begin", &line->op.begin);
    read_kind(line);
    if (line->fault != NULL) return;
    read_arguments(line);
    read_outcome(line);
    read_result(line);
}

/* NULL, or what is wrong with the line. `error` holds the text if it is jansson's. */
static const char *add_line(struct check *check, const char *text, size_t size, json_error_t *error) {
    struct line line = {.fields = json_loadb(text, size, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, error)};
    if (line.fields == NULL) return error->text;
    if (json_is_object(line.fields)) {
        read_fields(&line);
    } else {
        line.fault = "not an object";
    }
    if (line.fault == NULL && !line.failed) line.fault = check_add(check, line.key, &line.op);
    json_decref(line.fields);
    return line.fault;
}

static bool is_empty(const char *text, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (strchr(" \t\r\n", text[i]) == NULL || text[i] == '\0') return false;
    }
    return true;
}

bool history_read(FILE *file, struct check *check, char *fault, size_t fault_bytes) {
    char *text = NULL;
    size_t capacity = 0;
    uint64_t number = 0;
    bool good = true;
    ssize_t size;
    errno = 0;
    while (good && (size = getline(&text, &capacity, file)) >= 0) {
        number++;
        if (is_empty(text, (size_t)size)) continue;
        json_error_t error;
        const char *wrong = add_line(check, text, (size_t)size, &error);
        good = wrong == NULL;
        if (!good) snprintf(fault, fault_bytes, "line %llu: %s", (unsigned long long)number, wrong);
    }
    if (good && ferror(file)) {
        snprintf(fault, fault_bytes, "cannot be read: %s", strerror(errno));
        good = false;
    }
    free(text);
    return good;
}
