#include "shardd/peer_intake.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

static void drop_assembled(struct peer_intake *intake) {
    buffer_deinit(&intake->assembled);
    intake->total_bytes = 0;
}

void peer_intake_deinit(struct peer_intake *intake) { drop_assembled(intake); }

bool peer_intake_on_incarnation(struct peer_intake *intake, uint64_t incarnation) {
    if (incarnation < intake->incarnation) return false;
    if (incarnation == intake->incarnation) return true;
    drop_assembled(intake);
    *intake = (struct peer_intake){.incarnation = incarnation, .generation = intake->generation + 1};
    return true;
}

bool peer_intake_on_frame(struct peer_intake *intake, const struct peer_header *header, size_t bulk_bytes) {
    if (header->connection < intake->connection) return false;
    if (header->connection > intake->connection) {
        drop_assembled(intake);
        intake->connection = header->connection;
        intake->number = 0;
        intake->arrived = intake->held = 0;
        intake->generation++;
    }
    if (header->item_count == 0) return true; /* repeats a number, and says only what was heard */
    if (header->number <= intake->number || header->bulk_before < intake->arrived) return false;
    /* Frames before it were refused here or never came: their bytes must not block the sender's window for ever. */
    if (header->number != intake->number + 1) drop_assembled(intake);
    intake->number = header->number;
    intake->arrived = header->bulk_before + bulk_bytes;
    return true;
}

uint64_t peer_intake_hold(struct peer_intake *intake, size_t bulk_bytes) {
    intake->held += bulk_bytes;
    return intake->generation;
}

void peer_intake_release(struct peer_intake *intake, uint64_t generation, size_t bulk_bytes) {
    if (generation != intake->generation) return;
    sk_assert(intake->held >= bulk_bytes);
    intake->held -= bulk_bytes;
}

uint64_t peer_intake_taken(const struct peer_intake *intake) { return intake->arrived - intake->held; }

int peer_intake_on_chunk(struct peer_intake *intake, const struct peer_chunk *chunk, struct buffer *item) {
    if (chunk->offset == 0) {
        drop_assembled(intake);
        intake->stream = chunk->stream;
        intake->total_bytes = chunk->total_bytes;
    }
    struct buffer *assembled = &intake->assembled;
    bool continues = intake->total_bytes > 0 && chunk->stream == intake->stream &&
                     chunk->total_bytes == intake->total_bytes && chunk->offset == assembled->size;
    if (!continues) {
        drop_assembled(intake);
        return SK_RETRY;
    }
    buffer_append(assembled, chunk->bytes.data, chunk->bytes.size);
    if (assembled->failed) {
        drop_assembled(intake);
        return SK_ENOMEM;
    }
    if (assembled->size < intake->total_bytes) return SK_RETRY;
    if (peer_wire_check_assembled(buffer_slice(assembled)) != SK_OK) {
        drop_assembled(intake);
        return SK_EPROTO;
    }
    *item = *assembled;
    buffer_init(assembled);
    drop_assembled(intake);
    return SK_OK;
}
