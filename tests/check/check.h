/* Are the answers that clients got those of one store that does one operation after the other (linearizable: Herlihy
 * and Wing, "Linearizability: a correctness condition for concurrent objects")?
 *
 * Each key is judged by itself, which is enough: linearizability is local. What a key can do is the store's own
 * contract for strings: GET SET DEL CAS INCRBY APPEND, and values that expire. A write that took effect twice, or not at all
 * though it was acknowledged, is an impossible history like any other; so is a value that is gone before its time, or
 * comes back after it was seen to be gone.
 *
 * Deterministic: no clock, no random numbers; the same operations in the same order get the same report. Each object
 * belongs to one thread at a time. Out of memory ends the process (memory.h). */
#pragma once

#include "libcommon/buffer.h"

#define CHECK_STATES_DEFAULT 4000000

enum check_kind { CHECK_GET, CHECK_SET, CHECK_DEL, CHECK_CAS, CHECK_INCR, CHECK_APPEND };

/* What a key holds. */
struct check_value {
    bool present; /* false: nil */
    struct slice bytes;
};

struct check_op {
    uint64_t client; /* for the report only */
    enum check_kind kind;
    /* The outcome was never learnt (TIMEOUT, a dead client): the operation may take effect at any moment after its
     * begin, once, or never. Its end and its answer mean nothing. One that surely has not happened is not added. */
    bool unknown;
    /* Any clock, as long as it is one clock. An operation ends before another begins only if its end is smaller;
     * equal times count as overlapping. */
    int64_t begin, end;
    struct check_value value;    /* set, append: what is written; cas: the new value, nil = delete */
    struct check_value expected; /* cas: nil = absent */
    int64_t amount;              /* incr */
    /* set: from this time on the value may be gone by itself, once; 0 = never. Nothing else in the history writes that
     * value. When it must be gone is not judged. */
    int64_t expires;
    bool is_expiry;         /* check_add's own: that end of a value, which a client never asks for */
    struct check_value got; /* answer of get */
    int64_t answer;         /* answer of del and cas: 0 or 1; incr: the new number; append: the new length */
};

enum check_verdict { CHECK_GOOD, CHECK_BAD, CHECK_UNDECIDED };

struct check_report {
    enum check_verdict verdict; /* bad if any key is bad, else undecided if any is */
    uint64_t keys, operations, unknown;
    uint64_t keys_bad, keys_undecided;
    uint64_t states;    /* visited in all searches; a measure of the work that no machine's speed is in */
    struct buffer text; /* why, in lines; empty when good */
};

struct check;

struct check *check_new(void);
void check_free(struct check *check); /* NULL is allowed */

/* States that the search of a key may visit before it gives up; CHECK_STATES_DEFAULT unless set. It bounds memory:
 * about 50 bytes a state, and more with many unknown operations. */
void check_set_budget(struct check *check, uint64_t states);

/* Adds an operation of a key; bytes are copied. In any order. NULL, or what is wrong with it, and then it is not
 * added; static memory. */
const char *check_add(struct check *check, struct slice key, const struct check_op *op);

/* Judges what has been added so far; more may be added afterwards. The report is to be deinitialised. */
void check_run(const struct check *check, struct check_report *report);

void check_report_deinit(struct check_report *report);
