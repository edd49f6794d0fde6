/* OBJECT: what Redis tells of how a value is stored, as a Redis with default settings would store it. There an encoding also
 * depends on how a value came to be what it is; here it is a function of the value. */
#include "shardd/collection.h"

#include "libcommon/error.h"

#define EMBSTR_BYTES_MAX   44u
#define LISTPACK_COUNT_MAX 128u /* hash-max-listpack-entries, zset-max-listpack-entries, */
#define LISTPACK_BYTES_MAX 64u  /* and -value */
#define INTSET_COUNT_MAX   512u /* set-max-intset-entries */
#define REFERENCES         1

static const char *string_encoding(struct slice bytes) {
    int64_t number;
    if (args_parse_int(bytes, &number)) return "int";
    return bytes.size <= EMBSTR_BYTES_MAX ? "embstr" : "raw";
}

static bool is_short(struct slice name, struct slice value) {
    return name.size <= LISTPACK_BYTES_MAX && value.size <= LISTPACK_BYTES_MAX;
}

static bool is_integer(struct slice name, struct slice value) {
    int64_t number;
    (void)value;
    return args_parse_int(name, &number);
}

/* Whether there are at most `max` elements, all of such a kind. */
static int all_are(struct call *call, const struct collection *collection, uint64_t max,
                   bool (*is)(struct slice name, struct slice value), bool *all) {
    struct element_walk walk;
    uint64_t position;
    struct slice name, value;
    *all = collection->count <= max;
    if (!*all) return SK_OK;
    int err = element_walk_open(call->exec, collection->id, 0, &walk);
    if (err != SK_OK) return err;
    while (*all && (err = element_walk_next(&walk, &position, &name, &value)) == SK_OK) *all = is(name, value);
    element_walk_close(&walk);
    return err == SK_NOT_FOUND ? SK_OK : err;
}

static int collection_encoding(struct call *call, const struct object *object, const char **encoding) {
    struct collection collection;
    bool all;
    int err = collection_read(object->type, object->payload, &collection);
    if (err != SK_OK) return err;
    switch (object->type) {
    case OBJECT_SET:
        err = all_are(call, &collection, INTSET_COUNT_MAX, is_integer, &all);
        *encoding = all ? "intset" : "hashtable";
        return err;
    case OBJECT_HASH:
        err = all_are(call, &collection, LISTPACK_COUNT_MAX, is_short, &all);
        *encoding = all ? "listpack" : "hashtable";
        return err;
    case OBJECT_ZSET:
        err = all_are(call, &collection, LISTPACK_COUNT_MAX, is_short, &all);
        *encoding = all ? "listpack" : "skiplist";
        return err;
    case OBJECT_LIST:
        *encoding = "quicklist";
        return SK_OK;
    default: /* a string in chunks */
        *encoding = "raw";
        return SK_OK;
    }
}

static int answer_encoding(struct call *call, const struct object *object) {
    const char *encoding = "raw";
    int err = SK_OK;
    if (object->type == OBJECT_STRING) {
        encoding = string_encoding(object->payload);
    } else {
        err = collection_encoding(call, object, &encoding);
    }
    return err == SK_OK ? call_answer_bin(call, slice_of_text(encoding)) : err;
}

int execute_object(struct call *call) {
    struct slice what = call->args[0];
    struct object object;
    bool encoding = args_is_word(what, "ENCODING"), references = args_is_word(what, "REFCOUNT");
    if (args_is_word(what, "FREQ") || args_is_word(what, "IDLETIME")) {
        return call_refuse(call, SK_BADREQUEST, "access to keys is not tracked");
    }
    if (!encoding && !references) {
        char name[CALL_NAME_SHOWN_MAX];
        return call_refuse(call, SK_BADREQUEST, "unknown subcommand '%s'. Try OBJECT ENCODING.",
                           call_name_shown(what, name));
    }
    int err = keyspace_find(call->exec, call->args[1], call->now_us, &object);
    if (err != SK_OK) return err;
    if (!object.found) return call_answer_nil(call);
    return references ? call_answer_int(call, REFERENCES) : answer_encoding(call, &object);
}
