#include "metad/handshake.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

#include <endian.h>
#include <sodium.h>
#include <string.h>

static const uint8_t magic[8] = {'S', 'k', 'e', 'r', 'r', 'y', 'M', 'R'};

/* Bytes of this many at most go either way. */
_Static_assert(HANDSHAKE_HELLO_BYTES + HANDSHAKE_REPLY_BYTES < 1024, "a stranger makes nobody keep more");
_Static_assert(HANDSHAKE_KEY_BYTES == crypto_auth_hmacsha512256_KEYBYTES, "the hash of the secret is the key");
_Static_assert(HANDSHAKE_PROOF_BYTES == crypto_auth_hmacsha512256_BYTES, "a proof is an HMAC");

/* What a handshake waits for. DECIDING: handshake_decide.
 *
 *   acceptor: HELLO -> PROOF -> DECIDING -> OVER
 *   dialer:   REPLY -> VERDICT -> OVER
 *
 * and an error leads to OVER from everywhere. */
enum state { STATE_HELLO, STATE_REPLY, STATE_PROOF, STATE_VERDICT, STATE_DECIDING, STATE_OVER };

/* ---- codec ---- */

static uint8_t *put(uint8_t *at, const void *bytes, size_t size) {
    memcpy(at, bytes, size);
    return at + size;
}

static uint8_t *put_u32(uint8_t *at, uint32_t number) {
    number = htobe32(number);
    return put(at, &number, sizeof number);
}

static uint8_t *put_u64(uint8_t *at, uint64_t number) {
    number = htobe64(number);
    return put(at, &number, sizeof number);
}

static const uint8_t *get_u32(const uint8_t *at, uint32_t *number) {
    memcpy(number, at, sizeof *number);
    *number = be32toh(*number);
    return at + sizeof *number;
}

static const uint8_t *get_u64(const uint8_t *at, uint64_t *number) {
    memcpy(number, at, sizeof *number);
    *number = be64toh(*number);
    return at + sizeof *number;
}

static uint8_t *put_head(uint8_t *at) {
    at = put(at, magic, sizeof magic);
    return put_u32(at, HANDSHAKE_VERSION);
}

/* A name is shown in logs and dialled by clients. */
static bool name_is_valid(const char name[HANDSHAKE_NAME_BYTES]) {
    size_t size = strnlen(name, HANDSHAKE_NAME_BYTES);
    if (size == 0 || size == HANDSHAKE_NAME_BYTES) return false;
    for (size_t i = 0; i < size; i++) {
        if (name[i] <= ' ' || name[i] > '~') return false;
    }
    return true;
}

static bool server_is_valid(const struct handshake_server *server) {
    return server->id != 0 && name_is_valid(server->name);
}

/* What stands behind the name's end stays here. */
static uint8_t *put_server(uint8_t *at, const struct handshake_server *server) {
    at = put_u64(at, server->id);
    at = put_u64(at, server->cluster);
    at = put_u64(at, server->last_index);
    at = put_u64(at, server->peers);
    memset(at, 0, HANDSHAKE_NAME_BYTES);
    memcpy(at, server->name, strlen(server->name));
    return at + HANDSHAKE_NAME_BYTES;
}

static bool get_server(const uint8_t *at, struct handshake_server *server) {
    static const uint8_t zeros[HANDSHAKE_NAME_BYTES];
    at = get_u64(at, &server->id);
    at = get_u64(at, &server->cluster);
    at = get_u64(at, &server->last_index);
    at = get_u64(at, &server->peers);
    memcpy(server->name, at, HANDSHAKE_NAME_BYTES);
    if (!server_is_valid(server)) return false;
    size_t size = strlen(server->name);
    return memcmp(server->name + size, zeros, HANDSHAKE_NAME_BYTES - size) == 0;
}

static void encode_hello(struct handshake *handshake) {
    uint8_t *at = put_head(handshake->hello);
    at = put_u32(at, handshake->purpose);
    at = put_u64(at, handshake->wanted);
    at = put_server(at, &handshake->self);
    randombytes_buf(at, HANDSHAKE_NONCE_BYTES);
}

static bool decode_hello(struct handshake *handshake) {
    const uint8_t *at = get_u32(handshake->hello + HANDSHAKE_HEAD_BYTES, &handshake->purpose);
    at = get_u64(at, &handshake->wanted);
    return handshake->purpose <= HANDSHAKE_RAFT && get_server(at, &handshake->other);
}

/* ---- proofs ---- */

/* Both sides' proofs are of the same two messages; the role tells them apart, so that neither can be sent back as the other. */
enum role { ROLE_DIALER = 'd', ROLE_ACCEPTOR = 'a' };

static void prove(const struct handshake *handshake, enum role role, uint8_t proof[HANDSHAKE_PROOF_BYTES]) {
    const uint8_t role_byte = (uint8_t)role;
    crypto_auth_hmacsha512256_state state;
    (void)crypto_auth_hmacsha512256_init(&state, handshake->key->bytes, HANDSHAKE_KEY_BYTES);
    (void)crypto_auth_hmacsha512256_update(&state, &role_byte, 1);
    (void)crypto_auth_hmacsha512256_update(&state, handshake->hello, HANDSHAKE_HELLO_BYTES);
    (void)crypto_auth_hmacsha512256_update(&state, handshake->reply, HANDSHAKE_SIGNED_BYTES);
    (void)crypto_auth_hmacsha512256_final(&state, proof);
    sodium_memzero(&state, sizeof state);
}

/* In a time that does not depend on where they differ. */
static bool is_proof(const struct handshake *handshake, enum role role,
                     const uint8_t said[HANDSHAKE_PROOF_BYTES]) {
    uint8_t proof[HANDSHAKE_PROOF_BYTES];
    prove(handshake, role, proof);
    return sodium_memcmp(proof, said, HANDSHAKE_PROOF_BYTES) == 0;
}

int handshake_key_init(struct handshake_key *key, struct slice secret) {
    sk_assert(secret.size > 0);
    if (sodium_init() < 0) return SK_EUNEXPECTED;
    (void)crypto_generichash(key->bytes, sizeof key->bytes, secret.data, secret.size, NULL, 0);
    return SK_OK;
}

void handshake_key_deinit(struct handshake_key *key) { sodium_memzero(key, sizeof *key); }

/* ---- the steps ---- */

static const char *refusal_text(int err) {
    switch (err) {
    case SK_CONFLICT:
        return "of another cluster";
    case SK_NOT_FOUND:
        return "not the server that was wanted";
    case SK_REMOVED:
        return "not a member";
    default:
        return "";
    }
}

static int end(struct handshake *handshake, int err, const char *reason) {
    handshake->state = STATE_OVER;
    handshake->reason = reason;
    return err;
}

/* What both sides know: each comes to the same. */
static int judge(const struct handshake *handshake, uint64_t acceptor_id) {
    const struct handshake_server *self = &handshake->self, *other = &handshake->other;
    if (self->cluster != 0 && other->cluster != 0 && self->cluster != other->cluster) return SK_CONFLICT;
    if (handshake->wanted != 0 && handshake->wanted != acceptor_id) return SK_NOT_FOUND;
    if (handshake->purpose == HANDSHAKE_RAFT && self->id == other->id) return SK_NOT_FOUND;
    return SK_OK;
}

static int on_hello(struct handshake *handshake, struct slice *say) {
    if (!decode_hello(handshake)) return end(handshake, SK_EPROTO, "a malformed greeting");
    uint8_t *at = put_head(handshake->reply);
    at = put_server(at, &handshake->self);
    randombytes_buf(at, HANDSHAKE_NONCE_BYTES);
    prove(handshake, ROLE_ACCEPTOR, handshake->reply + HANDSHAKE_SIGNED_BYTES);
    *say = slice_of(handshake->reply, HANDSHAKE_REPLY_BYTES);
    handshake->state = STATE_PROOF;
    handshake->reason = "has not proved who it is: another secret?";
    return SK_RETRY;
}

/* Also one that is not wanted gets the proof: it shall know who has called. */
static int on_reply(struct handshake *handshake, struct slice *say) {
    if (!get_server(handshake->reply + HANDSHAKE_HEAD_BYTES, &handshake->other)) {
        return end(handshake, SK_EPROTO, "a malformed greeting");
    }
    if (!is_proof(handshake, ROLE_ACCEPTOR, handshake->reply + HANDSHAKE_SIGNED_BYTES)) {
        return end(handshake, SK_EPROTO, "another secret");
    }
    handshake->proved = true;
    prove(handshake, ROLE_DIALER, handshake->proof);
    *say = slice_of(handshake->proof, HANDSHAKE_PROOF_BYTES);
    handshake->state = STATE_VERDICT;
    handshake->reason = "has not said whether it takes this server";
    return SK_RETRY;
}

static int on_proof(struct handshake *handshake) {
    if (!is_proof(handshake, ROLE_DIALER, handshake->proof)) return end(handshake, SK_EPROTO, "another secret");
    handshake->proved = true;
    handshake->state = STATE_DECIDING;
    handshake->reason = "";
    return SK_OK;
}

/* A refusal that both could foresee counts even if the acceptor does not say it. */
static int on_verdict(struct handshake *handshake) {
    int err = handshake->verdict[0];
    if (err == SK_OK) err = judge(handshake, handshake->other.id);
    if (err != SK_OK && refusal_text(err)[0] == 0) return end(handshake, SK_EPROTO, "an unknown verdict");
    return end(handshake, err, refusal_text(err));
}

/* The message that is coming: where it goes and its size. */
static uint8_t *incoming(struct handshake *handshake, uint32_t *size) {
    switch ((enum state)handshake->state) {
    case STATE_HELLO:
        *size = HANDSHAKE_HELLO_BYTES;
        return handshake->hello;
    case STATE_REPLY:
        *size = HANDSHAKE_REPLY_BYTES;
        return handshake->reply;
    case STATE_PROOF:
        *size = HANDSHAKE_PROOF_BYTES;
        return handshake->proof;
    case STATE_VERDICT:
        *size = HANDSHAKE_VERDICT_BYTES;
        return handshake->verdict;
    case STATE_DECIDING:
    case STATE_OVER:
        break;
    }
    *size = 0;
    return NULL;
}

static int on_message(struct handshake *handshake, struct slice *say) {
    handshake->arrived = 0;
    switch ((enum state)handshake->state) {
    case STATE_HELLO:
        return on_hello(handshake, say);
    case STATE_REPLY:
        return on_reply(handshake, say);
    case STATE_PROOF:
        return on_proof(handshake);
    default:
        return on_verdict(handshake);
    }
}

/* As soon as the head is there: another version's message may be shorter than ours. */
static int check_head(struct handshake *handshake, const uint8_t *head, struct slice *say) {
    uint32_t version;
    if (memcmp(head, magic, sizeof magic) != 0) return end(handshake, SK_EPROTO, "not a metad");
    (void)get_u32(head + sizeof magic, &version);
    if (version == HANDSHAKE_VERSION) return SK_OK;
    if (handshake->state == STATE_HELLO) {
        (void)put_head(handshake->reply);
        *say = slice_of(handshake->reply, HANDSHAKE_HEAD_BYTES);
    }
    return end(handshake, SK_EVERSION, "of another version");
}

static bool has_head(const struct handshake *handshake) {
    return handshake->state == STATE_HELLO || handshake->state == STATE_REPLY;
}

/* Takes from `bytes` what the message that is coming still lacks; of one with a head, that first. */
static int feed_some(struct handshake *handshake, struct slice *bytes, struct slice *say) {
    uint32_t size;
    uint8_t *message = incoming(handshake, &size);
    if (message == NULL) return end(handshake, SK_EPROTO, "more bytes than are allowed");
    bool head = has_head(handshake) && handshake->arrived < HANDSHAKE_HEAD_BYTES;
    uint32_t lacking = (head ? HANDSHAKE_HEAD_BYTES : size) - handshake->arrived;
    uint32_t taken = bytes->size < lacking ? (uint32_t)bytes->size : lacking;
    memcpy(message + handshake->arrived, bytes->data, taken);
    handshake->arrived += taken;
    *bytes = slice_of(bytes->data + taken, bytes->size - taken);
    if (taken < lacking) return SK_RETRY;
    if (!head) return on_message(handshake, say);
    int err = check_head(handshake, message, say);
    return err == SK_OK ? SK_RETRY : err;
}

void handshake_begin_dialer(struct handshake *handshake, const struct handshake_key *key,
                            const struct handshake_server *self, enum handshake_purpose purpose, uint64_t wanted,
                            struct slice *say) {
    sk_assert(server_is_valid(self));
    *handshake = (struct handshake){
        .key = key,
        .self = *self,
        .purpose = purpose,
        .wanted = wanted,
        .state = STATE_REPLY,
        .reason = "has not said who it is",
    };
    encode_hello(handshake);
    *say = slice_of(handshake->hello, HANDSHAKE_HELLO_BYTES);
}

void handshake_begin_acceptor(struct handshake *handshake, const struct handshake_key *key,
                              const struct handshake_server *self) {
    sk_assert(server_is_valid(self));
    *handshake = (struct handshake){
        .key = key,
        .self = *self,
        .state = STATE_HELLO,
        .reason = "has not said who it is",
    };
}

int handshake_feed(struct handshake *handshake, struct slice bytes, struct slice *say) {
    *say = slice_of(NULL, 0);
    int err = SK_RETRY;
    while (bytes.size > 0 && (err == SK_RETRY || err == SK_OK)) err = feed_some(handshake, &bytes, say);
    return err;
}

int handshake_decide(struct handshake *handshake, bool is_member, struct slice *say) {
    sk_assert(handshake->state == STATE_DECIDING);
    int err = judge(handshake, handshake->self.id);
    if (err == SK_OK && handshake->purpose == HANDSHAKE_RAFT && !is_member) err = SK_REMOVED;
    handshake->verdict[0] = (uint8_t)err;
    *say = slice_of(handshake->verdict, HANDSHAKE_VERDICT_BYTES);
    return end(handshake, err, refusal_text(err));
}

const struct handshake_server *handshake_other(const struct handshake *handshake) {
    return handshake->proved ? &handshake->other : NULL;
}

enum handshake_purpose handshake_purpose(const struct handshake *handshake) {
    return (enum handshake_purpose)handshake->purpose;
}

const char *handshake_reason(const struct handshake *handshake) { return handshake->reason; }
