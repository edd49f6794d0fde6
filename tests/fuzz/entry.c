/* Payloads of log entries: whatever decodes is encoded again to the same bytes. */
#include "shardd/entry.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice payload = slice_of(data, size);
    struct buffer again;
    struct entry entry;
    buffer_init(&again);
    if (entry_decode(payload, true, &entry) == SK_OK) {
        entry_encode_command(&again, &entry);
        sk_assert(!again.failed && slice_equal(buffer_slice(&again), payload));
    }
    buffer_clear(&again, SIZE_MAX);
    if (entry_decode(payload, false, &entry) == SK_OK) {
        entry_encode_plain(&again, entry.commit_index);
        sk_assert(!again.failed && slice_equal(buffer_slice(&again), payload));
    }
    buffer_deinit(&again);
    return 0;
}
