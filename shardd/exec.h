/* Executes commands on a shard's state: deterministic, a function of state, command and time alone, so every
 * replica that executes the same log has the same state. Knows nothing of logs, lanes and networks. Only the
 * shard's lane calls. */
#pragma once

#include "libcommon/buffer.h"
#include "libcommon/commands.h"
#include "shardd/commands/args.h"
#include "shardd/kv.h"

/* What is counted as the state changes. Part of the state: the lane stores it with the shard. */
struct exec_counters {
    uint64_t keys;
    uint64_t expires;   /* keys with a deadline */
    uint64_t key_bytes; /* of keys and values as clients see them */
    uint64_t value_bytes;
    uint64_t garbage; /* collections that are gone, and whose elements are not */
    uint64_t changes; /* raised by each: gives versions and the ids of collections */
};

struct exec {
    struct kv *kv;                 /* borrowed */
    struct exec_counters counters; /* loaded and stored by the owner */
    uint32_t shard;
    uint32_t shard_count;

    /* Is told of each key at which a collection is stored, also where that is undone later; NULL: nobody is. */
    void (*stored_cb)(void *arg, struct slice key, uint8_t type);
    void *stored_arg;

    /* private */
    struct buffer scratch;   /* the value being built */
    struct buffer gathered;  /* keys of elements, before they are changed */
    struct buffer assembled; /* a string that lies in chunks, in one piece */
    struct args args;        /* of the command being executed */
    const struct keyspace_hasher *hasher;
    uint64_t first_deadline_us; /* no deadline is before it, */
    bool first_deadline_known;  /* and one is at it, or there is none at all */
    uint32_t removed_at_once;   /* elements, by the entry being executed */
    bool draws;                 /* the body that was checked last */
};

/* What an execution knows besides state and command. */
struct exec_moment {
    uint64_t time_us; /* since 1970: the entry's for writes, the leader's for reads */
    uint64_t chance;  /* what random choices are drawn from; for writes from the entry */
    bool waits;       /* a blocking command that finds nothing is SK_RETRY; else its answer is nil */
};

/* `counters` start at zero: the owner loads them after this. Deinit and init again when the state under `kv` was
 * exchanged. */
void exec_init(struct exec *exec, struct kv *kv, uint32_t shard, uint32_t shard_count);
void exec_deinit(struct exec *exec);

/* Checks a body (wire.h, request_item.body) before it is logged: known command, arity, argument kinds, limits,
 * keys that belong to this shard, READ or WRITE as `writes` says. SK_OK, or SK_BADREQUEST, SK_TOOLARGE,
 * SK_CROSSSLOT with a text in `answer`. What passes never fails later for its form (option syntax is the
 * executor's to refuse). */
int exec_check(struct exec *exec, struct slice body, bool atomic, bool writes, struct buffer *answer);

/* Which words of a command are keys; `args` are its decoded arguments, and fit its arity. */
struct command_keys exec_keys(const struct command *command, const struct args *args);

/* Whether the body that was checked last draws by chance: its entry has to carry what from. */
bool exec_draws(const struct exec *exec);

/* Executes a checked body. Appends to `answer` the result as MessagePack (SK_OK) or a text (a client error, > 0; nothing was changed). Negative: a fault. An
 * atomic batch is all or nothing: at the first command that answers an error everything is undone, and the error
 * is that command's with its position in the text. Its result is an array of [nil, result]. SK_RETRY: see exec_moment. */
int exec_run(struct exec *exec, struct slice body, bool atomic, const struct exec_moment *moment,
             struct buffer *answer);

/* What a blocking command waits for. The keys lie in the body or with the exec, until the next command. */
struct exec_awaited {
    uint8_t type; /* enum object_type */
    const struct slice *keys;
    size_t key_count;
};

/* What a checked command would do by that time. SK_RETRY: it would find nothing to take, and has to wait; SK_OK: it would take
 * something; else it never waits, or is refused; or a fault. `awaited` says for what it waits, if it ever does. Nothing
 * changes; `scratch` is scratch. */
int exec_awaits(struct exec *exec, struct slice body, uint64_t time_us, struct buffer *scratch,
                struct exec_awaited *awaited);

/* How many elements the collection of that type at a key has; 0: there is none. SK_OK or a fault. */
int exec_count_elements(struct exec *exec, struct slice key, uint8_t type, uint64_t time_us, uint64_t *count);

/* exec_check and exec_run of a single read in one, decoding it once. */
int exec_read(struct exec *exec, struct slice body, const struct exec_moment *moment, struct buffer *answer);

/* Removes at most `limit` keys whose deadline is at or before `now_us`, and about as many elements of collections that
 * are gone. `removed` gets how many keys. SK_OK or a fault. */
int exec_sweep(struct exec *exec, uint64_t now_us, uint32_t limit, uint32_t *removed);

/* What is changed from begin on is undone by end if `err` of it is not SK_OK, which it answers, or else a fault. Not nested. */
struct exec_attempt {
    struct exec_counters before; /* private */
};
int exec_attempt_begin(struct exec *exec, struct exec_attempt *attempt);
int exec_attempt_end(struct exec *exec, const struct exec_attempt *attempt, int err);

/* When exec_sweep has something to do: at the earliest deadline in the shard in microseconds since 1970, UINT64_MAX if
 * there is none; 0 if there is something now. SK_OK or a fault. */
int exec_next_deadline(struct exec *exec, uint64_t *deadline_us);
