/* Messages to metad and entries of its log: what decodes must encode and decode again. */
#include "libcommon/check.h"
#include "libcommon/error.h"
#include "metad/catalog.h"
#include "metad/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_request(struct slice bytes) {
    struct request request;
    char text[REQUEST_TEXT_BYTES] = "";
    int err = request_decode(bytes, &request, text);
    sk_assert(err == SK_OK || text[0] != 0);
    if (err != SK_OK || request.method != REQUEST_CHANGE) return;
    struct mp_reader reader = mp_reader_of(request.change.changes);
    struct shard_change change;
    for (uint32_t i = 0; i < request.change.count; i++) {
        sk_assert(shard_change_decode(&reader, &change) == SK_OK);
        sk_assert(change.isr_count <= MAP_REPLICAS_MAX);
    }
    sk_assert(mp_left(&reader) == 0);
}

static void try_command(struct slice bytes) {
    struct log_command command, again;
    if (command_decode(bytes, &command) != SK_OK) return;
    struct buffer encoded;
    buffer_init(&encoded);
    command_encode(&command, &encoded);
    sk_assert(command_decode(buffer_slice(&encoded), &again) == SK_OK);
    sk_assert(again.kind == command.kind);
    command_deinit(&again);
    command_deinit(&command);
    buffer_deinit(&encoded);
}

static void try_snapshot(struct slice bytes) {
    struct catalog catalog;
    catalog_init(&catalog);
    (void)catalog_decode(&catalog, bytes);
    catalog_deinit(&catalog);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    try_request(slice_of(data, size));
    try_command(slice_of(data, size));
    try_snapshot(slice_of(data, size));
    return 0;
}
