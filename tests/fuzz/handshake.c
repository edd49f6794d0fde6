/* The greeting between metad servers: either side of it hears whatever comes, in pieces; and two that know the same secret
 * hear each other with some bytes changed on the way. Nobody may be taken for somebody else by that. */
#include "metad/handshake.h"
#include "libcommon/check.h"
#include "libcommon/error.h"

#include <string.h>

#define MESSAGE_BYTES_MAX HANDSHAKE_REPLY_BYTES
#define CHANGE_BYTES      3u /* where, two of them, and by what */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct handshake_server dialing = {.id = 1, .cluster = 7, .name = "a:1"};
static const struct handshake_server accepting = {.id = 2, .cluster = 7, .name = "b:2"};

static void hear_all(struct handshake *handshake, struct slice bytes, size_t piece_bytes) {
    struct slice say;
    int err = SK_RETRY;
    while (bytes.size > 0 && err == SK_RETRY) {
        size_t taken = piece_bytes < bytes.size ? piece_bytes : bytes.size;
        err = handshake_feed(handshake, slice_of(bytes.data, taken), &say);
        bytes = slice_of(bytes.data + taken, bytes.size - taken);
    }
    sk_assert(handshake_other(handshake) == NULL);
    sk_assert(handshake_reason(handshake) != NULL);
}

/* One change from the input, if there is one left. */
static struct slice change(struct slice message, struct slice *changes, uint8_t room[MESSAGE_BYTES_MAX],
                           bool *changed) {
    memcpy(room, message.data, message.size);
    if (changes->size < CHANGE_BYTES) return slice_of(room, message.size);
    size_t at = (size_t)(changes->data[0] << 8 | changes->data[1]) % message.size;
    room[at] ^= changes->data[2];
    if (changes->data[2] != 0) *changed = true;
    *changes = slice_of(changes->data + CHANGE_BYTES, changes->size - CHANGE_BYTES);
    return slice_of(room, message.size);
}

static void talk(const struct handshake_key *key, struct slice changes) {
    struct handshake dialer, acceptor;
    struct slice say;
    uint8_t room[MESSAGE_BYTES_MAX];
    bool changed = false;
    handshake_begin_dialer(&dialer, key, &dialing, HANDSHAKE_RAFT, accepting.id, &say);
    handshake_begin_acceptor(&acceptor, key, &accepting);
    if (handshake_feed(&acceptor, change(say, &changes, room, &changed), &say) != SK_RETRY) return;
    if (handshake_feed(&dialer, change(say, &changes, room, &changed), &say) != SK_RETRY) return;
    sk_assert(!changed);
    int err = handshake_feed(&acceptor, change(say, &changes, room, &changed), &say);
    sk_assert((err == SK_OK) == !changed);
    if (changed) return;
    sk_assert(handshake_decide(&acceptor, true, &say) == SK_OK);
    sk_assert(handshake_feed(&dialer, say, &say) == SK_OK);
    sk_assert(handshake_other(&dialer)->id == accepting.id && handshake_other(&acceptor)->id == dialing.id);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct handshake_key key;
    struct handshake handshake;
    struct slice say;
    if (size == 0) return 0;
    sk_assert(handshake_key_init(&key, slice_of_text("secret")) == SK_OK);
    struct slice bytes = slice_of(data + 1, size - 1);
    size_t piece_bytes = data[0] + 1u;
    handshake_begin_acceptor(&handshake, &key, &accepting);
    hear_all(&handshake, bytes, piece_bytes);
    handshake_begin_dialer(&handshake, &key, &dialing, HANDSHAKE_ASK, 0, &say);
    hear_all(&handshake, bytes, piece_bytes);
    talk(&key, bytes);
    return 0;
}
