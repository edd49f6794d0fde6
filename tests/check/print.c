#include "print.h"

#include "memory.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define LINE_BYTES_MAX 512
#define PRINT_BYTES    60 /* of a longer text, half of this from each of its ends */

void print_format(struct buffer *text, const char *format, ...) {
    char line[LINE_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    sk_assert(size >= 0 && (size_t)size < sizeof line);
    buffer_append(text, line, (size_t)size);
    sk_assert(!text->failed);
}

static void print_part(struct buffer *text, struct slice bytes) {
    for (size_t i = 0; i < bytes.size; i++) {
        uint8_t byte = bytes.data[i];
        bool plain = byte >= ' ' && byte <= '~' && byte != '"' && byte != '\\';
        print_format(text, plain ? "%c" : "\\x%02x", byte);
    }
}

void print_bytes(struct buffer *text, struct slice bytes) {
    print_format(text, "\"");
    if (bytes.size <= PRINT_BYTES) {
        print_part(text, bytes);
    } else {
        print_part(text, slice_of(bytes.data, PRINT_BYTES / 2));
        print_format(text, "...(%zu bytes)...", bytes.size);
        print_part(text, slice_of(bytes.data + bytes.size - PRINT_BYTES / 2, PRINT_BYTES / 2));
    }
    print_format(text, "\"");
}

void print_value(struct buffer *text, const struct check_value *value) {
    if (value->present) {
        print_bytes(text, value->bytes);
    } else {
        print_format(text, "nil");
    }
}

static void print_call(struct buffer *text, const struct check_op *op) {
    switch (op->kind) {
    case CHECK_GET:
        print_format(text, "get");
        break;
    case CHECK_SET:
        print_format(text, "set ");
        print_value(text, &op->value);
        break;
    case CHECK_DEL:
        print_format(text, "del");
        break;
    case CHECK_CAS:
        if (op->is_expiry) {
            print_format(text, "time ends ");
            print_value(text, &op->expected);
            break;
        }
        print_format(text, "cas ");
        print_value(text, &op->expected);
        print_format(text, " to ");
        print_value(text, &op->value);
        break;
    case CHECK_INCR:
        print_format(text, "incr by %" PRId64, op->amount);
        break;
    case CHECK_APPEND:
        print_format(text, "append ");
        print_value(text, &op->value);
        break;
    }
}

static void print_answer(struct buffer *text, const struct check_op *op) {
    if (op->is_expiry) {
        print_format(text, ", if it has not been replaced");
    } else if (op->unknown) {
        print_format(text, ", outcome unknown");
    } else if (op->kind == CHECK_GET) {
        print_format(text, " answered ");
        print_value(text, &op->got);
    } else if (op->kind != CHECK_SET) {
        print_format(text, " answered %" PRId64, op->answer);
    }
}

void print_op(struct buffer *text, const struct check_op *op) {
    if (op->unknown) {
        print_format(text, "    [%" PRId64 ", ...] ", op->begin);
    } else {
        print_format(text, "    [%" PRId64 ", %" PRId64 "] ", op->begin, op->end);
    }
    print_format(text, "client %" PRIu64 ": ", op->client);
    print_call(text, op);
    print_answer(text, op);
    print_format(text, "\n");
}
