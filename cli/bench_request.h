/* The requests of `skerry bench` as bytes: [0, msgid, "GET" or "SET" or "batch", params, options], put together
 * from templates made once. The maker is shared and does not change; any thread. */
#pragma once

#include "keys.h"
#include "libcommon/slice.h"

struct bench_maker;

struct bench_maker_options {
    uint64_t value_bytes, batch_max;
    bool ids, follower_reads; /* the options id and read */
    uint32_t timeout_ms;
    struct slice token; /* the option token; empty: none */
};

/* SK_OK, SK_TOOLARGE (a request would be over the limit of a message), SK_ENOMEM. */
int bench_maker_new(struct bench_maker **maker, const struct bench_maker_options *options);
void bench_maker_free(struct bench_maker *maker);

/* Room that any request of up to `count` commands fits in. */
size_t bench_request_bytes_max(const struct bench_maker *maker, uint64_t count);

struct bench_command {
    uint64_t key;
    bool write;
};

/* Writes a request of `count` commands, 1 or a batch, and returns its size. `id`: two random numbers, used when
 * the maker has ids and one of the commands is a write. */
size_t bench_request_write(const struct bench_maker *maker, uint8_t *room, uint32_t msgid,
                           const struct bench_command *commands, uint64_t count, const uint64_t id[2]);

struct bench_answers {
    uint64_t ok, missing; /* missing: nil among them */
    uint64_t failed;
    struct slice code; /* of the last that failed; points into the message */
};

/* Reads the reply to a request of `count` commands. An error for all of it fails them all. SK_OK, SK_EPROTO. */
int bench_reply_read(struct slice message, uint64_t count, struct bench_answers *answers);
