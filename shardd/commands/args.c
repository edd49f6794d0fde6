#include "shardd/commands/args.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/wait_time.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define NUMBER_TEXT_MAX 32u /* an integer, or a double by %.17g */

void args_init(struct args *args) {
    *args = (struct args){0};
    buffer_init(&args->rendered);
}

void args_deinit(struct args *args) {
    free(args->items);
    buffer_deinit(&args->rendered);
    args_init(args);
}

static int reserve(struct args *args, size_t count) {
    if (count <= args->capacity) return SK_OK;
    size_t capacity = args->capacity == 0 ? 16 : args->capacity;
    while (capacity < count) capacity *= 2;
    struct slice *items = realloc(args->items, capacity * sizeof *items);
    if (items == NULL) return SK_ENOMEM;
    args->items = items;
    args->capacity = capacity;
    return SK_OK;
}

/* printf's decimal point follows the thread's locale: the C locale for the time of a call. */
static locale_t c_locale(void) {
    return newlocale(LC_ALL_MASK, "C", (locale_t)0); /* a static object of the C library: nothing to free */
}

static size_t print_double(double real, char *room) {
    locale_t old = uselocale(c_locale());
    int length = snprintf(room, NUMBER_TEXT_MAX, "%.17g", real);
    uselocale(old);
    sk_assert(length > 0 && length < (int)NUMBER_TEXT_MAX);
    return (size_t)length;
}

/* A number as text in `rendered`, which gets room for all that may still come at once: items point into it. */
static int render(struct args *args, const struct mp_value *value, size_t values_left, struct slice *item) {
    struct buffer *rendered = &args->rendered;
    if (rendered->size == 0) {
        if (buffer_extend(rendered, values_left * NUMBER_TEXT_MAX) == NULL) return SK_ENOMEM;
        rendered->size = 0;
    }
    sk_assert(rendered->capacity - rendered->size >= NUMBER_TEXT_MAX);
    char *room = (char *)rendered->data + rendered->size;
    size_t length;
    if (value->type == MP_UINT) {
        length = args_print_uint(value->uint, room);
    } else if (value->type == MP_INT) {
        length = args_print_int(value->sint, room);
    } else {
        length = print_double(value->real, room);
    }
    rendered->size += length;
    *item = slice_of(room, length);
    return SK_OK;
}

static int decode_one(struct args *args, struct mp_reader *reader, bool nil_allowed, size_t values_left,
                      struct slice *item, const char **text) {
    struct mp_value value;
    if (mp_read(reader, &value) != SK_OK) {
        *text = "the arguments are malformed";
        return SK_BADREQUEST;
    }
    switch (value.type) {
    case MP_STR:
    case MP_BIN:
        *item = value.bytes.size > 0 ? value.bytes : slice_of("", 0);
        if (item->size <= VALUE_BYTES_MAX) return SK_OK;
        *text = "string exceeds maximum allowed size";
        return SK_TOOLARGE;
    case MP_UINT:
    case MP_INT:
    case MP_FLOAT:
        return render(args, &value, values_left, item);
    case MP_NIL:
        *item = slice_of(NULL, 0);
        if (nil_allowed) return SK_OK;
        *text = "an argument is nil";
        return SK_BADREQUEST;
    default:
        *text = "an argument is neither text nor a number";
        return SK_BADREQUEST;
    }
}

int args_decode(struct args *args, struct mp_reader *reader, bool nil_allowed, const char **text) {
    args->count = 0;
    buffer_clear(&args->rendered, 4096);
    uint32_t count;
    if (mp_read_array(reader, &count) != SK_OK) {
        *text = "the arguments are not an array";
        return SK_BADREQUEST;
    }
    if (count > ARGS_COUNT_MAX) {
        *text = "too many arguments";
        return SK_TOOLARGE;
    }
    int err = reserve(args, count);
    for (size_t i = 0; err == SK_OK && i < count; i++) {
        err = decode_one(args, reader, nil_allowed, count - i, &args->items[i], text);
    }
    if (err == SK_OK) args->count = count;
    return err;
}

/* Numbers */

static bool is_digit(uint8_t byte) { return byte >= '0' && byte <= '9'; }

bool args_parse_uint(struct slice text, uint64_t *number) {
    if (text.size == 0) return false;
    uint64_t sum = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (!is_digit(text.data[i])) return false;
        if (__builtin_mul_overflow(sum, 10u, &sum)) return false;
        if (__builtin_add_overflow(sum, (uint64_t)(text.data[i] - '0'), &sum)) return false;
    }
    *number = sum;
    return true;
}

bool args_parse_int(struct slice text, int64_t *number) {
    bool negative = text.size > 0 && text.data[0] == '-';
    struct slice digits = negative ? slice_of(text.data + 1, text.size - 1) : text;
    uint64_t size_of_it;
    if (!args_parse_uint(digits, &size_of_it)) return false;
    if (digits.data[0] == '0' && (digits.size > 1 || negative)) return false;
    if (size_of_it > (uint64_t)INT64_MAX + negative) return false;
    *number = negative ? (int64_t)(0 - size_of_it) : (int64_t)size_of_it;
    return true;
}

bool args_parse_real(struct slice text, long double *number) { return real_parse(text, number); }

/* strtod's; `errno` says whether it is out of range. False: more than a number, or NaN. */
static bool parse_double(struct slice text, double *number) {
    char room[ARGS_REAL_TEXT_MAX];
    if (text.size >= sizeof room) return false;
    if (text.size > 0) memcpy(room, text.data, text.size);
    room[text.size] = '\0';
    char *end;
    errno = 0;
    *number = strtod_l(room, &end, c_locale());
    return end == room + text.size && !isnan(*number);
}

bool args_parse_double(struct slice text, double *number) {
    if (text.size == 0 || text.data[0] == ' ' || (text.data[0] >= '\t' && text.data[0] <= '\r')) return false;
    if (!parse_double(text, number)) return false;
    return errno != ERANGE || !(isinf(*number) || *number == 0);
}

bool args_parse_bound(struct slice text, double *number) { return parse_double(text, number); }

size_t args_print_uint(uint64_t number, char *room) {
    char backwards[ARGS_INT_TEXT_MAX];
    size_t length = 0;
    do {
        backwards[length++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    for (size_t i = 0; i < length; i++) room[i] = backwards[length - 1 - i];
    return length;
}

size_t args_print_int(int64_t number, char *room) {
    if (number >= 0) return args_print_uint((uint64_t)number, room);
    room[0] = '-';
    return 1 + args_print_uint(0 - (uint64_t)number, room + 1);
}

size_t args_print_real(long double number, char *room) {
    sk_assert(isfinite(number));
    locale_t old = uselocale(c_locale());
    int printed = snprintf(room, ARGS_REAL_TEXT_MAX, "%.17Lf", number);
    uselocale(old);
    sk_assert(printed > 0 && printed < (int)ARGS_REAL_TEXT_MAX);
    size_t length = (size_t)printed;
    while (room[length - 1] == '0') length--; /* the point stops it */
    if (room[length - 1] == '.') length--;
    if (length == 2 && room[0] == '-' && room[1] == '0') {
        room[0] = '0';
        length = 1;
    }
    return length;
}

/* Words */

static uint8_t to_upper(uint8_t byte) { return byte >= 'a' && byte <= 'z' ? (uint8_t)(byte - 'a' + 'A') : byte; }

bool args_is_word(struct slice arg, const char *word) {
    for (size_t i = 0; i < arg.size; i++) {
        if (word[i] == '\0' || to_upper(arg.data[i]) != (uint8_t)word[i]) return false;
    }
    return word[arg.size] == '\0';
}
