/* Whatever bytes a client sends: message_parse answers or refuses, reads nothing beyond them, and what it hands out lies
 * within them or within its arena. */
#include "gateway/local.h"
#include "gateway/message.h"
#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/mp.h"
#include "libcommon/wire.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A part's body is two whole values, and its shard exists. */
static void check_part(const struct part *part, uint32_t shard_count) {
    struct mp_reader reader = mp_reader_of(part->body);
    sk_assert(part->shard < shard_count);
    sk_assert(mp_skip(&reader, NULL) == SK_OK);
    sk_assert(mp_skip(&reader, NULL) == SK_OK);
    sk_assert(mp_left(&reader) == 0);
}

static void check_local(const struct sub *sub) {
    struct buffer result;
    const char *text = NULL;
    buffer_init(&result);
    if (local_answer(sub, 1, &result, &text) == SK_OK) {
        struct mp_reader reader = mp_reader_of(buffer_slice(&result));
        sk_assert(mp_skip(&reader, NULL) == SK_OK);
        sk_assert(mp_left(&reader) == 0);
    } else {
        sk_assert(text != NULL);
    }
    buffer_deinit(&result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct message_scratch *scratch;
    static struct arena_pool pool;
    if (scratch == NULL && message_scratch_new(&scratch) != SK_OK) return 0;
    struct arena arena;
    struct message message;
    uint32_t shard_count = size % 2 == 0 ? 64 : 1;
    arena_init(&arena, &pool);
    int err = message_parse(&message, slice_of(data, size), shard_count, NULL, &arena, scratch);
    if (err != SK_OK) {
        sk_assert(error_is_for_clients(err) && message.error != NULL);
        message.sub_count = 0;
    }
    for (uint32_t i = 0; i < message.sub_count; i++) {
        const struct sub *sub = &message.subs[i];
        sk_assert(!sub->answered || (sub->err != SK_OK && sub->part_count == 0));
        for (uint32_t j = 0; j < sub->part_count; j++) check_part(&sub->parts[j], shard_count);
        if (!sub->answered && sub->part_count == 0) check_local(sub);
    }
    arena_clear(&arena);
    return 0;
}
