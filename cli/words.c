#include "words.h"

#include "libcommon/error.h"

#include <stdlib.h>

struct parser {
    const uint8_t *at, *end;
    uint8_t *out; /* where the next byte of a word goes */
};

static bool is_space(uint8_t byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }

static int hex_digit(uint8_t byte) {
    if (byte >= '0' && byte <= '9') return byte - '0';
    if (byte >= 'a' && byte <= 'f') return byte - 'a' + 10;
    if (byte >= 'A' && byte <= 'F') return byte - 'A' + 10;
    return -1;
}

static uint8_t unescape(uint8_t byte) {
    switch (byte) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'b':
        return '\b';
    case 'a':
        return '\a';
    default:
        return byte;
    }
}

/* After a backslash inside double quotes. */
static void parse_escape(struct parser *parser) {
    if (parser->end - parser->at >= 3 && parser->at[0] == 'x' && hex_digit(parser->at[1]) >= 0 &&
        hex_digit(parser->at[2]) >= 0) {
        *parser->out++ = (uint8_t)(hex_digit(parser->at[1]) * 16 + hex_digit(parser->at[2]));
        parser->at += 3;
    } else {
        *parser->out++ = unescape(*parser->at++);
    }
}

/* From after the opening quote to after the closing one. */
static int parse_quoted(struct parser *parser, uint8_t quote) {
    while (parser->at < parser->end) {
        uint8_t byte = *parser->at++;
        if (byte == quote) {
            bool ends = parser->at == parser->end || is_space(*parser->at);
            return ends ? SK_OK : SK_BADREQUEST;
        }
        bool more = parser->at < parser->end;
        if (byte == '\\' && more && quote == '"') parse_escape(parser);
        else if (byte == '\\' && more && *parser->at == '\'') *parser->out++ = *parser->at++;
        else *parser->out++ = byte;
    }
    return SK_BADREQUEST;
}

/* A quote may open in the middle of a word and then also ends it. */
static int parse_word(struct parser *parser, struct word *word) {
    uint8_t *start = parser->out;
    int err = SK_OK;
    word->quoted = false;
    while (parser->at < parser->end && !is_space(*parser->at)) {
        uint8_t byte = *parser->at++;
        if (byte == '"' || byte == '\'') {
            word->quoted = true;
            err = parse_quoted(parser, byte);
            break;
        }
        *parser->out++ = byte;
    }
    word->bytes = slice_of(start, (size_t)(parser->out - start));
    return err;
}

int words_parse(struct slice line, struct words *words) {
    /* A word takes at least a byte and the space after it; no byte of the line becomes two. */
    *words = (struct words){.items = malloc((line.size / 2 + 1) * sizeof *words->items),
                            .bytes = malloc(line.size + 1)};
    struct parser parser = {.at = line.data, .end = line.data + line.size, .out = words->bytes};
    int err = words->items == NULL || words->bytes == NULL ? SK_ENOMEM : SK_OK;
    while (err == SK_OK) {
        while (parser.at < parser.end && is_space(*parser.at)) parser.at++;
        if (parser.at == parser.end) return SK_OK;
        err = parse_word(&parser, &words->items[words->count++]);
    }
    words_deinit(words);
    return err;
}

void words_deinit(struct words *words) {
    free(words->items);
    free(words->bytes);
    *words = (struct words){0};
}

static char escape_letter(uint8_t byte) {
    switch (byte) {
    case '\\':
        return '\\';
    case '"':
        return '"';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    case '\a':
        return 'a';
    case '\b':
        return 'b';
    default:
        return 0;
    }
}

size_t words_quote(struct slice bytes, char *room) {
    static const char digits[] = "0123456789abcdef";
    char *out = room;
    *out++ = '"';
    for (size_t i = 0; i < bytes.size; i++) {
        uint8_t byte = bytes.data[i];
        char letter = escape_letter(byte);
        if (letter != 0) {
            *out++ = '\\';
            *out++ = letter;
        } else if (byte >= 0x20 && byte < 0x7f) {
            *out++ = (char)byte;
        } else {
            *out++ = '\\';
            *out++ = 'x';
            *out++ = digits[byte >> 4];
            *out++ = digits[byte & 15];
        }
    }
    *out++ = '"';
    return (size_t)(out - room);
}
