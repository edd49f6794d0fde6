/* The MessagePack cursor: skipping, and a walk that reads every value by its type. Both must agree on what is valid, stay
 * within the bytes and end. */
#include "libcommon/mp.h"
#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/map.h"

/* One value and all that it holds, as far as the cursor's own depth goes. */
static int walk(struct mp_reader *reader, unsigned depth) {
    struct mp_value value;
    if (depth > MP_DEPTH_MAX) return SK_EPROTO;
    int rc = mp_read(reader, &value);
    if (rc != SK_OK) return rc;
    uint64_t elements = 0;
    switch (value.type) {
    case MP_STR:
    case MP_BIN:
    case MP_EXT:
        sk_assert(value.bytes.data + value.bytes.size == reader->at);
        break;
    case MP_INT:
        sk_assert(value.sint < 0);
        break;
    case MP_ARRAY:
        elements = value.count;
        break;
    case MP_MAP:
        elements = 2 * (uint64_t)value.count;
        break;
    default:
        break;
    }
    sk_assert(elements <= mp_left(reader));
    for (uint64_t i = 0; rc == SK_OK && i < elements; i++) rc = walk(reader, depth + 1);
    return rc;
}

/* The typed reads of a request: an array, a kind, a number, a name, the parameters. */
static void read_request(struct slice bytes) {
    struct mp_reader reader = mp_reader_of(bytes);
    uint32_t count;
    uint64_t number;
    bool boolean;
    struct slice name, span;
    if (mp_read_array(&reader, &count) != SK_OK || mp_read_uint(&reader, &number) != SK_OK) return;
    struct mp_reader other = reader;
    (void)mp_read_bool(&other, &boolean);
    other = reader;
    (void)mp_read_bytes(&other, &name);
    if (mp_read_uint(&reader, &number) != SK_OK || mp_read_str(&reader, &name) != SK_OK) return;
    if (mp_skip(&reader, &span) == SK_OK) sk_assert(span.data + span.size == reader.at);
    (void)mp_read_map(&reader, &count);
}

/* What decodes is encoded to what decodes to the same. */
static void decode_map(struct slice bytes) {
    struct map *map, *again;
    struct buffer first, second;
    if (map_decode(bytes, &map) != SK_OK) return;
    buffer_init(&first);
    buffer_init(&second);
    map_encode(map, &first);
    int rc = map_decode(buffer_slice(&first), &again);
    sk_assert(rc == SK_OK);
    map_encode(again, &second);
    sk_assert(slice_equal(buffer_slice(&first), buffer_slice(&second)));
    buffer_deinit(&first);
    buffer_deinit(&second);
    map_unref(map);
    map_unref(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice bytes = slice_of(data, size);
    struct mp_reader skipper = mp_reader_of(bytes), walker = mp_reader_of(bytes);
    struct slice span;
    int rc = SK_OK;
    while (rc == SK_OK && mp_left(&skipper) > 0) {
        const uint8_t *start = skipper.at;
        rc = mp_skip(&skipper, &span);
        sk_assert(walk(&walker, 1) == rc);
        if (rc != SK_OK) break;
        sk_assert(skipper.at == walker.at && span.data == start && start + span.size == skipper.at);
    }
    read_request(bytes);
    decode_map(bytes);
    return 0;
}
