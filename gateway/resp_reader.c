#include "gateway/resp_reader.h"

#include "libcommon/limits.h"

#include <stdio.h>
#include <stdlib.h>

#define SPANS_FIRST 8u
#define SPANS_KEPT  64u /* more are given back when the command is done */

_Static_assert(MESSAGE_BYTES_MAX <= UINT32_MAX, "places in the input fit a span");

struct resp_span {
    uint32_t start, size;
};

void resp_reader_init(struct resp_reader *reader, size_t command_bytes_max) {
    *reader = (struct resp_reader){.command_bytes_max = command_bytes_max};
    buffer_init(&reader->line);
}

void resp_reader_deinit(struct resp_reader *reader) {
    free(reader->spans);
    buffer_deinit(&reader->line);
    *reader = (struct resp_reader){0};
}

/* The next command begins at the start of what is left of the input. */
static void begin_anew(struct resp_reader *reader) {
    reader->words = reader->words_left = 0;
    reader->in_word = false;
    reader->at = reader->searched = 0;
    if (reader->span_capacity <= SPANS_KEPT) return;
    free(reader->spans);
    reader->spans = NULL;
    reader->span_capacity = 0;
}

static enum resp_event broken(struct resp_command *command, const char *error) {
    command->error = error;
    return RESP_BROKEN;
}

static bool add_span(struct resp_reader *reader, size_t start, size_t size) {
    if (reader->words == reader->span_capacity) {
        uint32_t capacity = reader->span_capacity == 0 ? SPANS_FIRST : reader->span_capacity * 2;
        struct resp_span *spans = realloc(reader->spans, capacity * sizeof *spans);
        if (spans == NULL) return false;
        reader->spans = spans;
        reader->span_capacity = capacity;
    }
    reader->spans[reader->words++] = (struct resp_span){.start = (uint32_t)start, .size = (uint32_t)size};
    return true;
}

static void give_words(const struct resp_reader *reader, const uint8_t *base, struct resp_command *command) {
    for (uint32_t i = 0; i < reader->words; i++) {
        const struct resp_span *span = &reader->spans[i];
        command->words[i] =
            slice_of(base == NULL ? NULL : base + span->start, span->size); /* NULL: only empty words */
    }
    command->count = reader->words;
}

/* --- lengths ------------------------------------------------------------------------------------------------- */

/* The line at `at`, up to its '\r'; like Redis this takes any byte behind that for the '\n'. */
static enum resp_event find_line(struct resp_reader *reader, struct slice input, const char *too_long,
                                 struct slice *line, struct resp_command *command) {
    const uint8_t *start = input.data + reader->at;
    size_t left = input.size - reader->at;
    const uint8_t *end =
        left > reader->searched ? memchr(start + reader->searched, '\r', left - reader->searched) : NULL;
    size_t size = end == NULL ? left : (size_t)(end - start);
    if (size > RESP_INLINE_BYTES_MAX) return broken(command, too_long);
    reader->searched = size;
    if (end == NULL || size + 2 > left) return RESP_MORE;
    *line = slice_of(start, size);
    return RESP_COMMAND;
}

/* Decimal as Redis takes it: no blanks, no plus, no zeros in front. */
static bool parse_number(struct slice text, int64_t *number) {
    bool negative = text.size > 0 && text.data[0] == '-';
    size_t at = negative ? 1 : 0;
    if (at == text.size || text.size > 11) return false; /* nothing that is allowed has more digits */
    if (text.data[at] == '0' && text.size > 1) return false;
    int64_t sum = 0;
    for (; at < text.size; at++) {
        if (text.data[at] < '0' || text.data[at] > '9') return false;
        sum = sum * 10 + (text.data[at] - '0');
    }
    *number = negative ? -sum : sum;
    return true;
}

static void step_over(struct resp_reader *reader, struct slice line) {
    reader->at += line.size + 2;
    reader->searched = 0;
}

/* "*3\r\n". An array of nothing is stepped over, and then words_left is 0. */
static enum resp_event read_array(struct resp_reader *reader, struct slice input, bool stranger,
                                  struct resp_command *command) {
    struct slice line;
    int64_t count;
    enum resp_event event = find_line(reader, input, "Protocol error: too big mbulk count string", &line, command);
    if (event != RESP_COMMAND) return event;
    if (!parse_number(slice_of(line.data + 1, line.size - 1), &count) || count > (int64_t)RESP_WORDS_MAX) {
        return broken(command, "Protocol error: invalid multibulk length");
    }
    if (stranger && count > (int64_t)RESP_STRANGER_WORDS_MAX) {
        return broken(command, "Protocol error: unauthenticated multibulk length");
    }
    step_over(reader, line);
    reader->words_left = count > 0 ? (uint32_t)count : 0;
    return RESP_COMMAND;
}

/* "$5\r\n" */
static enum resp_event read_length(struct resp_reader *reader, struct slice input, bool stranger,
                                   struct resp_command *command) {
    struct slice line;
    int64_t size;
    enum resp_event event = find_line(reader, input, "Protocol error: too big bulk count string", &line, command);
    if (event != RESP_COMMAND) return event;
    if (line.size == 0 || line.data[0] != '$') {
        static const char said[] = "Protocol error: expected '$', got '%c'";
        buffer_clear(&reader->line, 0);
        char *text = (char *)buffer_extend(&reader->line, sizeof said);
        if (text == NULL) return RESP_NO_MEMORY;
        uint8_t byte = input.data[reader->at];
        (void)snprintf(text, sizeof said, "Protocol error: expected '$', got '%c'",
                       byte < 0x20 || byte > 0x7e ? '?' : byte);
        return broken(command, text);
    }
    if (!parse_number(slice_of(line.data + 1, line.size - 1), &size) || size < 0 ||
        size > (int64_t)VALUE_BYTES_MAX) {
        return broken(command, "Protocol error: invalid bulk length");
    }
    if (stranger && size > (int64_t)RESP_STRANGER_WORD_MAX) {
        return broken(command, "Protocol error: unauthenticated bulk length");
    }
    step_over(reader, line);
    if (reader->at + (size_t)size > reader->command_bytes_max) {
        return broken(command, "Protocol error: too big command");
    }
    reader->in_word = true;
    reader->word_bytes = (uint32_t)size;
    return RESP_COMMAND;
}

static enum resp_event read_words(struct resp_reader *reader, struct slice input, bool stranger,
                                  struct resp_command *command) {
    while (reader->words_left > 0) {
        if (!reader->in_word) {
            enum resp_event event = read_length(reader, input, stranger, command);
            if (event != RESP_COMMAND) return event;
        }
        if (input.size - reader->at < (size_t)reader->word_bytes + 2) return RESP_MORE;
        if (!add_span(reader, reader->at, reader->word_bytes)) return RESP_NO_MEMORY;
        reader->at += (size_t)reader->word_bytes + 2;
        reader->in_word = false;
        reader->words_left--;
    }
    give_words(reader, input.data, command);
    return RESP_COMMAND;
}

/* --- inline -------------------------------------------------------------------------------------------------- */

static bool is_blank(uint8_t byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }

static int hex_digit(uint8_t byte) {
    if (byte >= '0' && byte <= '9') return byte - '0';
    if (byte >= 'a' && byte <= 'f') return byte - 'a' + 10;
    if (byte >= 'A' && byte <= 'F') return byte - 'A' + 10;
    return -1;
}

/* What the escape at `text`, behind its backslash, stands for. Its bytes. */
static size_t unescape(struct slice text, uint8_t *byte) {
    if (text.size >= 3 && text.data[0] == 'x' && hex_digit(text.data[1]) >= 0 && hex_digit(text.data[2]) >= 0) {
        *byte = (uint8_t)(hex_digit(text.data[1]) * 16 + hex_digit(text.data[2]));
        return 3;
    }
    static const char letters[] = "nrtba", meanings[] = "\n\r\t\b\a";
    const char *found = text.data[0] == '\0' ? NULL : strchr(letters, text.data[0]);
    *byte = found == NULL ? text.data[0] : (uint8_t)meanings[found - letters];
    return 1;
}

/* The quoted part at `at`, which stands on the quote, up to behind its end. False: it has no end, or text follows it. */
static bool read_quoted(struct resp_reader *reader, struct slice line, size_t *at) {
    uint8_t quote = line.data[*at], byte;
    size_t i = *at + 1;
    while (i < line.size && line.data[i] != quote) {
        byte = line.data[i++];
        if (byte == '\\' && quote == '"' && i < line.size) {
            i += unescape(slice_of(line.data + i, line.size - i), &byte);
        } else if (byte == '\\' && quote == '\'' && i < line.size && line.data[i] == '\'') {
            byte = line.data[i++];
        }
        buffer_append(&reader->line, &byte, 1);
    }
    if (i >= line.size) return false;
    *at = i + 1;
    return *at == line.size || is_blank(line.data[*at]);
}

/* Words between blanks, with quotes as redis-cli has them. */
static enum resp_event split_line(struct resp_reader *reader, struct slice line, struct resp_command *command) {
    buffer_clear(&reader->line, RESP_INLINE_BYTES_MAX);
    size_t at = 0;
    for (;;) {
        while (at < line.size && is_blank(line.data[at])) at++;
        if (at == line.size) break;
        size_t start = reader->line.size;
        while (at < line.size && !is_blank(line.data[at])) {
            if (line.data[at] == '"' || line.data[at] == '\'') {
                if (!read_quoted(reader, line, &at)) {
                    return broken(command, "Protocol error: unbalanced quotes in request");
                }
            } else {
                buffer_append(&reader->line, &line.data[at++], 1);
            }
        }
        if (reader->words == RESP_WORDS_MAX) return broken(command, "Protocol error: too big inline request");
        if (!add_span(reader, start, reader->line.size - start)) return RESP_NO_MEMORY;
    }
    if (reader->line.failed) return RESP_NO_MEMORY;
    give_words(reader, reader->line.data, command);
    return RESP_COMMAND;
}

/* A line up to '\n', with or without '\r' before it. An empty one leaves no words. */
static enum resp_event read_inline(struct resp_reader *reader, struct slice input, struct resp_command *command) {
    const uint8_t *end = input.size > reader->searched
                             ? memchr(input.data + reader->searched, '\n', input.size - reader->searched)
                             : NULL;
    size_t size = end == NULL ? input.size : (size_t)(end - input.data);
    if (size > RESP_INLINE_BYTES_MAX) return broken(command, "Protocol error: too big inline request");
    reader->searched = size;
    if (end == NULL) return RESP_MORE;
    reader->at = size + 1;
    if (size > 0 && input.data[size - 1] == '\r') size--;
    return split_line(reader, slice_of(input.data, size), command);
}

/* --- commands ------------------------------------------------------------------------------------------------ */

enum resp_event resp_reader_next(struct resp_reader *reader, struct slice input, bool stranger,
                                 struct resp_command *command, size_t *taken) {
    *taken = 0;
    command->count = 0;
    while (input.size > 0) {
        enum resp_event event = RESP_COMMAND;
        if (input.data[0] != '*') {
            event = read_inline(reader, input, command);
        } else {
            if (reader->words_left == 0) event = read_array(reader, input, stranger, command);
            if (event == RESP_COMMAND && reader->words_left > 0)
                event = read_words(reader, input, stranger, command);
        }
        if (event != RESP_COMMAND) return event;
        *taken += reader->at;
        input = slice_of(input.data + reader->at, input.size - reader->at);
        begin_anew(reader);
        if (command->count > 0) return RESP_COMMAND;
    }
    return RESP_MORE;
}
