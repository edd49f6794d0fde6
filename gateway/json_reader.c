#include "gateway/json_reader.h"

#include "gateway/utf8.h"
#include "libcommon/check.h"

#define NAME_KEPT_BYTES 4096u

struct json_reader json_reader_of(struct slice text) {
    const uint8_t *end = text.size == 0 ? text.data : text.data + text.size; /* no arithmetic on NULL */
    return (struct json_reader){.at = text.data, .end = end, .begin = text.data};
}

size_t json_reader_offset(const struct json_reader *reader) {
    return reader->begin == NULL ? 0 : (size_t)(reader->at - reader->begin);
}

static bool fail(struct json_reader *reader, const char *error) {
    reader->error = error;
    return false;
}

static size_t left(const struct json_reader *reader) { return (size_t)(reader->end - reader->at); }

static void skip_space(struct json_reader *reader) {
    while (reader->at != reader->end &&
           (*reader->at == ' ' || *reader->at == '\n' || *reader->at == '\r' || *reader->at == '\t')) {
        reader->at++;
    }
}

/* Steps over `byte` if it stands here. */
static bool take(struct json_reader *reader, char byte) {
    if (reader->at == reader->end || *reader->at != (uint8_t)byte) return false;
    reader->at++;
    return true;
}

static bool take_word(struct json_reader *reader, const char *word) {
    size_t size = strlen(word);
    if (left(reader) < size || memcmp(reader->at, word, size) != 0) return false;
    reader->at += size;
    return true;
}

enum json_kind json_reader_kind(struct json_reader *reader) {
    skip_space(reader);
    if (reader->at == reader->end) return JSON_NOTHING;
    switch (*reader->at) {
    case 'n':
        return JSON_NULL;
    case 't':
    case 'f':
        return JSON_BOOL;
    case '"':
        return JSON_STRING;
    case '[':
        return JSON_ARRAY;
    case '{':
        return JSON_OBJECT;
    default:
        return *reader->at == '-' || (*reader->at >= '0' && *reader->at <= '9') ? JSON_NUMBER : JSON_NOTHING;
    }
}

/* ---- scalars ---- */

bool json_reader_null(struct json_reader *reader) {
    skip_space(reader);
    return take_word(reader, "null") || fail(reader, "null is expected");
}

bool json_reader_bool(struct json_reader *reader, bool *value) {
    skip_space(reader);
    *value = take_word(reader, "true");
    return *value || take_word(reader, "false") || fail(reader, "true or false is expected");
}

/* How many digits stand here. */
static size_t take_digits(struct json_reader *reader) {
    const uint8_t *first = reader->at;
    while (reader->at != reader->end && *reader->at >= '0' && *reader->at <= '9') reader->at++;
    return (size_t)(reader->at - first);
}

bool json_reader_number(struct json_reader *reader, struct slice *digits, bool *whole) {
    skip_space(reader);
    const uint8_t *first = reader->at;
    (void)take(reader, '-');
    bool zero = reader->at != reader->end && *reader->at == '0';
    size_t count = take_digits(reader);
    if (count == 0) return fail(reader, "a number is expected");
    if (zero && count > 1) return fail(reader, "a number begins with 0");
    *whole = true;
    if (take(reader, '.')) {
        *whole = false;
        if (take_digits(reader) == 0) return fail(reader, "digits are missing behind the point of a number");
    }
    if (take(reader, 'e') || take(reader, 'E')) {
        *whole = false;
        if (!take(reader, '-')) (void)take(reader, '+');
        if (take_digits(reader) == 0) return fail(reader, "digits are missing in the exponent of a number");
    }
    *digits = slice_of(first, (size_t)(reader->at - first));
    return true;
}

/* ---- strings ---- */

/* Four digits of "\uXXXX". */
static bool take_hex(struct json_reader *reader, uint32_t *number) {
    if (left(reader) < 4) return fail(reader, "an escape is cut off");
    *number = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t byte = *reader->at++;
        uint8_t letter = byte | 0x20;
        bool digit = byte >= '0' && byte <= '9';
        if (!digit && (letter < 'a' || letter > 'f'))
            return fail(reader, "an escape \\u is not of four hex digits");
        *number = *number << 4 | (uint32_t)(digit ? byte - '0' : letter - 'a' + 10);
    }
    return true;
}

static bool take_unicode(struct json_reader *reader, struct buffer *text) {
    uint32_t character, low;
    if (!take_hex(reader, &character)) return false;
    if (character >= 0xd800 && character < 0xe000) { /* a half of a pair, which must be the first */
        if (character >= 0xdc00 || !take_word(reader, "\\u")) return fail(reader, "a lone surrogate");
        if (!take_hex(reader, &low)) return false;
        if (low < 0xdc00 || low > 0xdfff) return fail(reader, "a lone surrogate");
        character = 0x10000 + ((character - 0xd800) << 10) + (low - 0xdc00);
    }
    uint8_t room[4];
    buffer_append(text, room, utf8_encode(character, room));
    return true;
}

/* What follows a backslash. */
static bool take_escape(struct json_reader *reader, struct buffer *text) {
    static const char names[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
    if (take(reader, 'u')) return take_unicode(reader, text);
    const char *found = left(reader) == 0 || *reader->at == 0 ? NULL : strchr(names, *reader->at);
    if (found == NULL) return fail(reader, "an unknown escape in a string");
    reader->at++;
    buffer_append(text, &bytes[found - names], 1);
    return true;
}

bool json_reader_string(struct json_reader *reader, struct buffer *text) {
    skip_space(reader);
    if (!take(reader, '"')) return fail(reader, "a string is expected");
    const uint8_t *first = reader->at; /* of what stands as it is */
    while (reader->at != reader->end) {
        uint8_t byte = *reader->at;
        if (byte == '"' || byte == '\\') {
            buffer_append(text, first, (size_t)(reader->at - first));
            reader->at++;
            if (byte == '"') return true;
            if (!take_escape(reader, text)) return false;
            first = reader->at;
            continue;
        }
        if (byte < 0x20) return fail(reader, "a control character in a string");
        size_t bytes = utf8_character_bytes(slice_of(reader->at, left(reader)));
        if (bytes == 0) return fail(reader, "a string is not UTF-8");
        reader->at += bytes;
    }
    return fail(reader, "a string is cut off");
}

/* ---- containers ---- */

bool json_reader_enter(struct json_reader *reader, enum json_kind container) {
    sk_assert(container == JSON_ARRAY || container == JSON_OBJECT);
    skip_space(reader);
    if (!take(reader, container == JSON_ARRAY ? '[' : '{')) {
        return fail(reader, container == JSON_ARRAY ? "an array is expected" : "an object is expected");
    }
    if (reader->depth == JSON_DEPTH_MAX) return fail(reader, "nested too deep");
    reader->begun &= ~(UINT32_C(1) << reader->depth);
    reader->depth++;
    return true;
}

static bool next(struct json_reader *reader, char bracket, bool *more) {
    sk_assert(reader->depth > 0);
    uint32_t bit = UINT32_C(1) << (reader->depth - 1);
    skip_space(reader);
    *more = !take(reader, bracket);
    if (!*more) {
        reader->depth--;
        return true;
    }
    if ((reader->begun & bit) != 0 && !take(reader, ',')) {
        return fail(reader, bracket == ']' ? "a comma or ] is expected" : "a comma or } is expected");
    }
    reader->begun |= bit;
    return true;
}

bool json_reader_element(struct json_reader *reader, bool *more) { return next(reader, ']', more); }

bool json_reader_member(struct json_reader *reader, bool *more, struct buffer *name) {
    if (!next(reader, '}', more)) return false;
    if (!*more) return true;
    buffer_clear(name, NAME_KEPT_BYTES);
    if (!json_reader_string(reader, name)) return false;
    skip_space(reader);
    return take(reader, ':') || fail(reader, "a colon is expected behind a name");
}

bool json_reader_end(struct json_reader *reader) {
    sk_assert(reader->depth == 0);
    skip_space(reader);
    return reader->at == reader->end || fail(reader, "something follows the value");
}
