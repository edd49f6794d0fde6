/* The first bytes of each connection between two metad servers: each side says who it is and proves that it knows the group's
 * secret, by a challenge of the other (HMAC-SHA-512-256 of everything that was said, with both sides' random numbers), so that
 * neither a stranger nor a replay is heard. What follows is neither encrypted nor signed: that is the work of TLS, which lies below
 * all this where there is any (metad/tls_link.h). Without it, whoever calls can have a proof to guess the secret by, offline: it must be
 * long and random.
 *
 *   dialer   HELLO   magic, version, purpose, whom it wants, who it is, 32 random bytes
 *   acceptor REPLY   magic, version, who it is, 32 random bytes, proof
 *   dialer   PROOF   proof
 *   acceptor VERDICT one byte: whether it is taken, or why not
 *
 * Numbers are big-endian and each message has one size, so that a reader knows what to wait for and a stranger makes nobody
 * keep more. Magic and version stay where they are in every version; an acceptor answers a HELLO of another version by its own
 * two, so that both sides know.
 *
 * Pure but for its random numbers: bytes in, bytes out; no socket, no clock, no memory of its own. One thread. */
#pragma once

#include "libcommon/slice.h"

#include <stdbool.h>
#include <stdint.h>

#define HANDSHAKE_VERSION    1u
#define HANDSHAKE_NAME_BYTES 264u /* "host:port" with its zero */

/* A server as it says of itself. */
struct handshake_server {
    uint64_t id;         /* > 0; of its data directory, for ever */
    uint64_t cluster;    /* 0 = it knows none yet */
    uint64_t last_index; /* of its log; 0 = it is new */
    uint64_t peers;      /* a digest of the addresses that it was started with */
    /* "host:port" where its clients find it: printable, without spaces, not empty. */
    char name[HANDSHAKE_NAME_BYTES];
};

enum handshake_purpose {
    HANDSHAKE_ASK, /* only to know who is there */
    HANDSHAKE_RAFT /* messages of libraft follow from the dialer */
};

#define HANDSHAKE_KEY_BYTES   32u
#define HANDSHAKE_NONCE_BYTES 32u
#define HANDSHAKE_PROOF_BYTES 32u

/* The messages' sizes. SIGNED: of REPLY what the proofs cover, which is all but its proof. */
#define HANDSHAKE_HEAD_BYTES    12u /* magic and version */
#define HANDSHAKE_SERVER_BYTES  (4 * 8u + HANDSHAKE_NAME_BYTES)
#define HANDSHAKE_HELLO_BYTES   (HANDSHAKE_HEAD_BYTES + 4u + 8u + HANDSHAKE_SERVER_BYTES + HANDSHAKE_NONCE_BYTES)
#define HANDSHAKE_SIGNED_BYTES  (HANDSHAKE_HEAD_BYTES + HANDSHAKE_SERVER_BYTES + HANDSHAKE_NONCE_BYTES)
#define HANDSHAKE_REPLY_BYTES   (HANDSHAKE_SIGNED_BYTES + HANDSHAKE_PROOF_BYTES)
#define HANDSHAKE_VERDICT_BYTES 1u

/* What the proofs are made with. */
struct handshake_key {
    uint8_t bytes[HANDSHAKE_KEY_BYTES];
};

/* SK_EUNEXPECTED: the system gives no random numbers. */
int handshake_key_init(struct handshake_key *key, struct slice secret);

/* Wipes it. */
void handshake_key_deinit(struct handshake_key *key);

/* One side's part in one handshake. Its fields are private; it stays where it is, since it lends out its messages. */
struct handshake {
    const struct handshake_key *key; /* borrowed */
    struct handshake_server self;
    struct handshake_server other; /* as it says */
    uint64_t wanted;               /* by the dialer; 0 = whoever it is */
    const char *reason;            /* static */
    uint32_t purpose;
    int state;
    bool proved;      /* `other` is who it says */
    uint32_t arrived; /* bytes of the message that is coming */
    uint8_t hello[HANDSHAKE_HELLO_BYTES];
    uint8_t reply[HANDSHAKE_REPLY_BYTES];
    uint8_t proof[HANDSHAKE_PROOF_BYTES];
    uint8_t verdict[HANDSHAKE_VERDICT_BYTES];
};

/* `key` is borrowed for the handshake's life, `self` is copied. What is to be sent comes out in `say` here and below; it lies in
 * the handshake and stays there. `wanted`: the id that has to answer; 0 = whoever it is. */
void handshake_begin_dialer(struct handshake *handshake, const struct handshake_key *key,
                            const struct handshake_server *self, enum handshake_purpose purpose, uint64_t wanted,
                            struct slice *say);
void handshake_begin_acceptor(struct handshake *handshake, const struct handshake_key *key,
                              const struct handshake_server *self);

/* Takes what the other side has sent, in whatever pieces it comes. SK_RETRY: more has to come. For the dialer everything else
 * is the end, for the acceptor everything but SK_OK:
 *
 *   SK_OK         dialer: it is taken. Acceptor: the other has proved who it is; handshake_decide is next.
 *   SK_CONFLICT   the other is of another cluster
 *   SK_NOT_FOUND  whom the dialer wants is not here; or, for HANDSHAKE_RAFT, both sides are the same server
 *   SK_REMOVED    the acceptor counts the dialer among no members
 *   SK_EVERSION   the other speaks another version
 *   SK_EPROTO     it is no metad, has another secret, or has sent more than it may
 *
 * `say` is to be sent also with an error. */
int handshake_feed(struct handshake *handshake, struct slice bytes, struct slice *say);

/* The acceptor's last word, after handshake_feed has returned SK_OK: SK_OK (the dialer is taken), SK_CONFLICT, SK_NOT_FOUND or
 * SK_REMOVED. `is_member`: whether it may send messages of libraft; counts for HANDSHAKE_RAFT alone. */
int handshake_decide(struct handshake *handshake, bool is_member, struct slice *say);

/* Who the other side is, from its proof on; NULL before. Lies in the handshake. */
const struct handshake_server *handshake_other(const struct handshake *handshake);

/* Of the dialer, once handshake_other knows it. */
enum handshake_purpose handshake_purpose(const struct handshake *handshake);

/* In a few words why this handshake has not ended well, or would not if it ended now. Static memory. */
const char *handshake_reason(const struct handshake *handshake);
