#include "gateway/http_place.h"

#include "libcommon/error.h"
#include "libcommon/limits.h"

/* Names of a query, as bits of what a resource takes and of what has been given. */
enum parameter {
    PARAMETER_TTL_MS = 1,
    PARAMETER_KEEP_TTL = 2,
    PARAMETER_PREFIX = 4,
    PARAMETER_CURSOR = 8,
    PARAMETER_LIMIT = 16,
    PARAMETER_TIMEOUT_MS = 32,
    PARAMETER_READ = 64,
};

static int refuse(struct http_place *place, int err, const char *error) {
    place->error = error;
    return err;
}

/* ---- decoding ---- */

static int hex(uint8_t byte) {
    uint8_t letter = byte | 0x20;
    if (byte >= '0' && byte <= '9') return byte - '0';
    return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

static int decode(struct http_place *place, struct slice text, bool plus_is_space, struct buffer *out) {
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.data[i];
        if (byte == '%') {
            int high = i + 2 < text.size ? hex(text.data[i + 1]) : -1;
            int low = i + 2 < text.size ? hex(text.data[i + 2]) : -1;
            if (high < 0 || low < 0) return refuse(place, SK_BADREQUEST, "a % is not followed by two hex digits");
            byte = (uint8_t)(high * 16 + low);
            i += 2;
        } else if (byte == '+' && plus_is_space) {
            byte = ' ';
        }
        buffer_append(out, &byte, 1);
    }
    return out->failed ? SK_ENOMEM : SK_OK;
}

/* A decimal number from 1 (or 0) to `most`, digits alone. */
static bool read_number(struct slice text, uint64_t least, uint64_t most, uint64_t *number) {
    *number = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return false;
        uint64_t digit = (uint64_t)(text.data[i] - '0');
        if (*number > (UINT64_MAX - digit) / 10) return false;
        *number = *number * 10 + digit;
    }
    return text.size > 0 && *number >= least && *number <= most;
}

static bool is(struct slice text, const char *word) { return slice_equal(text, slice_of_text(word)); }

/* ---- the path ---- */

static int read_path(struct http_place *place, struct slice path) {
    static const char keys[] = HTTP_PREFIX "keys", key[] = HTTP_PREFIX "keys/";
    if (is(path, keys)) {
        place->resource = HTTP_KEYS;
    } else if (is(path, HTTP_PREFIX "commands")) {
        place->resource = HTTP_COMMANDS;
    } else if (is(path, HTTP_PREFIX "openapi.json")) {
        place->resource = HTTP_OPENAPI;
    } else if (path.size >= sizeof key - 1 && memcmp(path.data, key, sizeof key - 1) == 0) {
        place->resource = HTTP_KEY;
        struct slice rest = slice_of(path.data + sizeof key - 1, path.size - (sizeof key - 1));
        int err = decode(place, rest, false, &place->key);
        if (err != SK_OK) return err;
        if (place->key.size > KEY_BYTES_MAX) return refuse(place, SK_TOOLARGE, "the key is longer than 64 KiB");
    }
    return SK_OK;
}

/* ---- the query ---- */

static unsigned parameters_of(enum http_resource resource) {
    switch (resource) {
    case HTTP_KEY:
        return PARAMETER_TTL_MS | PARAMETER_KEEP_TTL | PARAMETER_TIMEOUT_MS | PARAMETER_READ;
    case HTTP_KEYS:
        return PARAMETER_PREFIX | PARAMETER_CURSOR | PARAMETER_LIMIT | PARAMETER_TIMEOUT_MS | PARAMETER_READ;
    case HTTP_COMMANDS:
        return PARAMETER_TIMEOUT_MS | PARAMETER_READ;
    case HTTP_OPENAPI:
    case HTTP_NOWHERE:
        break;
    }
    return 0;
}

static unsigned parameter_of(struct slice name) {
    static const struct {
        const char *name;
        unsigned parameter;
    } table[] = {{"ttl_ms", PARAMETER_TTL_MS},        {"keep_ttl", PARAMETER_KEEP_TTL},
                 {"prefix", PARAMETER_PREFIX},        {"cursor", PARAMETER_CURSOR},
                 {"limit", PARAMETER_LIMIT},          {"read", PARAMETER_READ},
                 {"timeout_ms", PARAMETER_TIMEOUT_MS}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (is(name, table[i].name)) return table[i].parameter;
    }
    return 0;
}

static int take_parameter(struct http_place *place, unsigned parameter, struct slice value) {
    uint64_t number = 0;
    switch (parameter) {
    case PARAMETER_TTL_MS:
        if (read_number(value, 1, INT64_MAX, &place->ttl_ms)) return SK_OK;
        return refuse(place, SK_BADREQUEST, "ttl_ms is not a whole number of 1 or more");
    case PARAMETER_KEEP_TTL:
        place->keep_ttl = is(value, "true");
        if (place->keep_ttl || is(value, "false")) return SK_OK;
        return refuse(place, SK_BADREQUEST, "keep_ttl is not true or false");
    case PARAMETER_CURSOR:
        if (read_number(value, 0, UINT64_MAX, &place->cursor)) return SK_OK;
        return refuse(place, SK_BADREQUEST, "cursor is not one that was answered");
    case PARAMETER_LIMIT:
        if (!read_number(value, 1, SCAN_COUNT_MAX, &number)) {
            return refuse(place, SK_BADREQUEST, "limit is not a whole number of 1 to 10000");
        }
        place->limit = (uint32_t)number;
        return SK_OK;
    case PARAMETER_TIMEOUT_MS:
        if (!read_number(value, 1, TIMEOUT_MS_MAX, &number)) {
            return refuse(place, SK_BADREQUEST, "timeout_ms is not a whole number of 1 to 60000");
        }
        place->timeout_ms = (uint32_t)number;
        return SK_OK;
    case PARAMETER_READ:
        place->follower_reads = is(value, "follower");
        if (place->follower_reads || is(value, "leader")) return SK_OK;
        return refuse(place, SK_BADREQUEST, "read is not leader or follower");
    default:
        buffer_append(&place->prefix, value.data, value.size);
        return place->prefix.failed ? SK_ENOMEM : SK_OK;
    }
}

/* One name=value. */
static int read_pair(struct http_place *place, struct slice pair, unsigned *given) {
    struct slice name;
    bool has_value = slice_cut(&pair, '=', &name);
    unsigned parameter = parameter_of(name);
    if ((parameter & parameters_of(place->resource)) == 0) {
        return refuse(place, SK_BADREQUEST, "the query has a name that is not known here");
    }
    if (!has_value) return refuse(place, SK_BADREQUEST, "a name of the query has no value");
    if ((*given & parameter) != 0) return refuse(place, SK_BADREQUEST, "the query has a name twice");
    *given |= parameter;
    struct buffer value;
    buffer_init(&value);
    int err = decode(place, pair, true, &value);
    if (err == SK_OK) err = take_parameter(place, parameter, buffer_slice(&value));
    buffer_deinit(&value);
    return err;
}

static int read_query(struct http_place *place, struct slice query) {
    unsigned given = 0;
    struct slice pair;
    bool more = query.size > 0;
    int err = SK_OK;
    while (more && err == SK_OK) {
        more = slice_cut(&query, '&', &pair);
        err = read_pair(place, pair, &given);
    }
    if (err == SK_OK && place->ttl_ms != 0 && place->keep_ttl) {
        return refuse(place, SK_BADREQUEST, "ttl_ms and keep_ttl exclude each other");
    }
    return err;
}

int http_place_init(struct http_place *place, const char *target) {
    *place = (struct http_place){.limit = HTTP_LIMIT_DEFAULT};
    buffer_init(&place->key);
    buffer_init(&place->prefix);
    struct slice rest = slice_of_text(target), path;
    bool has_query = slice_cut(&rest, '?', &path);
    int err = read_path(place, path);
    return err == SK_OK && has_query && place->resource != HTTP_NOWHERE ? read_query(place, rest) : err;
}

void http_place_deinit(struct http_place *place) {
    buffer_deinit(&place->key);
    buffer_deinit(&place->prefix);
}
