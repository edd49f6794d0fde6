/* What a log entry says: the payload of wal.h's entries. Every payload opens with the leader's commit index when the
 * entry was appended, so that replay may execute up to it without asking anyone; a WAL_COMMAND goes on with the write's
 * name (docs/replication.md, R10) and the command. Decoding trusts nothing. */
#pragma once

#include "libcommon/buffer.h"

/* A write's name, by which a repeat is recognised: the client's `id` and which command of its message this is, or the
 * gateway's session and number. */
struct entry_name {
    struct slice id;    /* empty: session and number name the write */
    uint32_t id_part;   /* with id */
    uint32_t window_ms; /* with id: how long it is remembered, by log time; decided by the leader, so all agree */
    uint64_t session;
    uint64_t number;
    uint64_t floor; /* the session's lowest number of this shard that may still be sent again */
};

struct entry {
    uint64_t commit_index;
    struct entry_name name;
    bool atomic; /* body is an atomic batch */
    bool waits;  /* a blocking command that waits where it finds nothing: that is not remembered under its name */
    uint64_t chance;   /* what its random choices are drawn from; 0: it makes none */
    struct slice body; /* as in wire.h; empty for all but WAL_COMMAND */
};

/* Appends the payload of a command. */
void entry_encode_command(struct buffer *buffer, const struct entry *entry);

/* Appends the payload of an entry that carries nothing but the commit index. */
void entry_encode_plain(struct buffer *buffer, uint64_t commit_index);

/* Decodes either; slices point into the payload. SK_OK or SK_EPROTO. */
int entry_decode(struct slice payload, bool is_command, struct entry *entry);
