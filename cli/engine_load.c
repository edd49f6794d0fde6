#include "engine_load.h"

#include "libcommon/mp.h"

#include <strings.h>

#define COLLECTION_ELEMENTS 100u
#define PREFIX_BYTES        4u /* in place of keys_write's "key:" */

/* What follows the key. */
enum arguments { ARGUMENTS_NONE, ARGUMENTS_VALUE, ARGUMENTS_FIELD_VALUE, ARGUMENTS_SCORE_MEMBER };

struct engine_load {
    const char *name;
    const char *prefix;
    uint64_t numbers_per_key;
    enum arguments arguments;
    bool is_write;
};

static const struct engine_load loads[] = {
    {.name = "GET", .prefix = "key:", .numbers_per_key = 1, .arguments = ARGUMENTS_NONE},
    {.name = "SET", .prefix = "key:", .numbers_per_key = 1, .arguments = ARGUMENTS_VALUE, .is_write = true},
    {.name = "INCR", .prefix = "num:", .numbers_per_key = 1, .arguments = ARGUMENTS_NONE, .is_write = true},
    {.name = "HSET",
     .prefix = "map:",
     .numbers_per_key = COLLECTION_ELEMENTS,
     .arguments = ARGUMENTS_FIELD_VALUE,
     .is_write = true},
    {.name = "ZADD",
     .prefix = "set:",
     .numbers_per_key = COLLECTION_ELEMENTS,
     .arguments = ARGUMENTS_SCORE_MEMBER,
     .is_write = true},
    {.name = "LPUSH",
     .prefix = "lst:",
     .numbers_per_key = COLLECTION_ELEMENTS,
     .arguments = ARGUMENTS_VALUE,
     .is_write = true},
};

const struct engine_load *engine_load_at(size_t at) {
    return at < sizeof loads / sizeof loads[0] ? &loads[at] : NULL;
}

const struct engine_load *engine_load_find(struct slice name) {
    const struct engine_load *load = NULL;
    for (size_t at = 0; (load = engine_load_at(at)) != NULL; at++) {
        if (strlen(load->name) == name.size && strncasecmp(load->name, (const char *)name.data, name.size) == 0)
            break;
    }
    return load;
}

const char *engine_load_name(const struct engine_load *load) { return load->name; }

bool engine_load_is_write(const struct engine_load *load) { return load->is_write; }

static uint32_t argument_count(enum arguments arguments) {
    static const uint32_t counts[] = {
        [ARGUMENTS_NONE] = 1, [ARGUMENTS_VALUE] = 2, [ARGUMENTS_FIELD_VALUE] = 3, [ARGUMENTS_SCORE_MEMBER] = 3};
    return counts[arguments];
}

void engine_load_write(const struct engine_load *load, uint64_t number, struct slice value, struct buffer *body,
                       uint8_t key[KEYS_BYTES]) {
    uint8_t element[KEYS_BYTES];
    keys_write(number / load->numbers_per_key, key);
    memcpy(key, load->prefix, PREFIX_BYTES);
    keys_write(number, element);
    body->size = 0;
    mp_write_text(body, load->name);
    mp_write_array(body, argument_count(load->arguments));
    mp_write_bin(body, slice_of(key, KEYS_BYTES));
    switch (load->arguments) {
    case ARGUMENTS_NONE:
        return;
    case ARGUMENTS_VALUE:
        mp_write_bin(body, value);
        return;
    case ARGUMENTS_FIELD_VALUE:
        mp_write_bin(body, slice_of(element, sizeof element));
        mp_write_bin(body, value);
        return;
    case ARGUMENTS_SCORE_MEMBER:
        mp_write_uint(body, number);
        mp_write_bin(body, slice_of(element, sizeof element));
        return;
    }
}
