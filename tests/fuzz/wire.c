/* Frames between gateway and shardd: the header and the items of its kind. What is read is written again and must be the
 * bytes that came: the decoder accepts nothing that the encoder does not write. */
#include "libcommon/wire.h"
#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"

static void check_inside(struct slice part, struct slice whole) {
    if (part.size == 0) return;
    sk_assert(part.data >= whole.data && part.data + part.size <= whole.data + whole.size);
}

/* The next item of the kind, also written to `again`. */
static int copy_item(enum frame_kind kind, struct slice *rest, struct slice whole, struct buffer *again) {
    struct request_item request;
    struct answer_item answer;
    size_t before = again->size;
    if (kind == FRAME_REQUESTS) {
        int rc = frame_read_request(rest, &request);
        if (rc != SK_OK) return rc;
        sk_assert(request.id.size <= ID_BYTES_MAX);
        check_inside(request.id, whole);
        check_inside(request.body, whole);
        frame_add_request(again, &request);
        sk_assert(again->size - before == frame_request_bytes(&request));
        return SK_OK;
    }
    int rc = frame_read_answer(rest, &answer);
    if (rc != SK_OK) return rc;
    sk_assert(answer.err >= 0);
    check_inside(answer.body, whole);
    frame_add_answer(again, &answer);
    sk_assert(again->size - before == frame_answer_bytes(&answer));
    return SK_OK;
}

/* Items of either kind, wherever they begin: what is no frame must be as harmless. */
static void read_items(struct slice bytes) {
    struct request_item request;
    struct answer_item answer;
    struct slice rest = bytes;
    while (frame_read_request(&rest, &request) == SK_OK) continue;
    rest = bytes;
    while (frame_read_answer(&rest, &answer) == SK_OK) continue;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice frame = slice_of(data, size), rest;
    struct frame_header header;
    read_items(frame);
    if (frame_read_header(frame, &header, &rest) != SK_OK) return 0;
    sk_assert(header.return_address.size <= WIRE_ADDRESS_BYTES_MAX);
    check_inside(header.return_address, frame);
    struct buffer again;
    buffer_init(&again);
    frame_begin(&again, &header);
    int rc = SK_OK;
    while (rc == SK_OK) rc = copy_item(header.kind, &rest, frame, &again);
    if (rc == SK_NOT_FOUND) sk_assert(slice_equal(buffer_slice(&again), frame));
    buffer_deinit(&again);
    return 0;
}
