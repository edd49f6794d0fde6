#include "check.h"

#include "explain.h"
#include "index.h"
#include "memory.h"
#include "model.h"
#include "obvious.h"
#include "print.h"

#include <inttypes.h>
#include <xxhash.h>

#define CHUNK_BYTES   65536
#define EXPLAINED_MAX 3 /* bad keys that are explained; the others are named */

/* The operations of one key. */
struct history {
    struct slice key;
    struct check_op *ops; /* owned */
    size_t count, capacity;
};

/* Copied bytes; they stay where they are. */
struct chunk {
    struct chunk *next;
    size_t size, capacity;
    uint8_t bytes[];
};

struct check {
    struct history *histories; /* owned, in the order of their first operation */
    size_t count, capacity;
    struct index index;
    struct chunk *chunks; /* owned */
    uint64_t states_max;
};

struct check *check_new(void) {
    struct check *check = memory_zeroed(1, sizeof *check);
    check->states_max = CHECK_STATES_DEFAULT;
    return check;
}

void check_free(struct check *check) {
    if (check == NULL) return;
    for (size_t i = 0; i < check->count; i++) free(check->histories[i].ops);
    free(check->histories);
    index_deinit(&check->index);
    while (check->chunks != NULL) {
        struct chunk *next = check->chunks->next;
        free(check->chunks);
        check->chunks = next;
    }
    free(check);
}

void check_set_budget(struct check *check, uint64_t states) { check->states_max = states; }

static struct slice copy_bytes(struct check *check, struct slice bytes) {
    struct chunk *chunk = check->chunks;
    if (chunk == NULL || chunk->capacity - chunk->size < bytes.size) {
        size_t capacity = bytes.size > CHUNK_BYTES ? bytes.size : CHUNK_BYTES;
        chunk = memory_zeroed(1, sizeof *chunk + capacity);
        chunk->capacity = capacity;
        chunk->next = check->chunks;
        check->chunks = chunk;
    }
    uint8_t *copy = chunk->bytes + chunk->size;
    if (bytes.size > 0) memcpy(copy, bytes.data, bytes.size);
    chunk->size += bytes.size;
    return slice_of(copy, bytes.size);
}

static void copy_value(struct check *check, struct check_value *value) {
    if (value->present) value->bytes = copy_bytes(check, value->bytes);
}

static struct history *history_of(struct check *check, struct slice key) {
    uint64_t hash = XXH3_64bits(key.data == NULL ? (const uint8_t *)"" : key.data, key.size);
    struct index_walk walk;
    for (uint32_t i = index_first(&check->index, hash, &walk); i != INDEX_NONE;
         i = index_next(&check->index, &walk)) {
        if (slice_equal(check->histories[i].key, key)) return &check->histories[i];
    }
    check->histories = memory_room(check->histories, check->count, &check->capacity, sizeof *check->histories);
    check->histories[check->count] = (struct history){.key = copy_bytes(check, key)};
    index_add(&check->index, hash, (uint32_t)check->count);
    return &check->histories[check->count++];
}

static const char *find_fault(const struct check_op *op) {
    bool writes_text = op->kind == CHECK_SET || op->kind == CHECK_APPEND;
    if (writes_text && !op->value.present) return "a value is needed, nil is none";
    if (op->expires != 0 && op->kind != CHECK_SET) return "only what is set expires";
    if (op->expires != 0 && op->expires < op->begin) return "it expires before it begins";
    if (op->unknown) return NULL;
    if (op->end < op->begin) return "it ends before it begins";
    bool yes_or_no = op->kind == CHECK_DEL || op->kind == CHECK_CAS;
    if (yes_or_no && op->answer != 0 && op->answer != 1) return "it answers 0 or 1";
    if (op->kind == CHECK_APPEND && op->answer < 0) return "a length is not negative";
    return NULL;
}

static void append_op(struct history *history, const struct check_op *op) {
    history->ops = memory_room(history->ops, history->count, &history->capacity, sizeof *history->ops);
    history->ops[history->count++] = *op;
}

/* A value that may end by itself: as if somebody had asked to replace it by nil, and nobody knows whether it was done. */
static void append_expiry(struct history *history, const struct check_op *set) {
    const struct check_op expiry = {.client = set->client,
                                    .kind = CHECK_CAS,
                                    .unknown = true,
                                    .is_expiry = true,
                                    .begin = set->expires,
                                    .expected = set->value};
    append_op(history, &expiry);
}

const char *check_add(struct check *check, struct slice key, const struct check_op *op) {
    const char *fault = find_fault(op);
    if (fault != NULL) return fault;
    struct history *history = history_of(check, key);
    struct check_op copy = *op;
    copy_value(check, &copy.value);
    copy_value(check, &copy.expected);
    copy_value(check, &copy.got);
    append_op(history, &copy);
    if (copy.expires != 0) append_expiry(history, &copy);
    return NULL;
}

/* ---- judging ---- */

/* That the order found is one: each answer is what the plain model answers, and nothing stands behind what began only after
 * its end. Else the search is wrong. */
static void verify(const struct history *history, const struct problem *problem,
                   const struct search_report *found) {
    struct model model;
    model_init(&model);
    int64_t latest_begin = INT64_MIN;
    uint32_t known = 0;
    for (uint32_t i = 0; i < found->order_count; i++) {
        const struct check_op *op = &history->ops[problem->steps[found->order[i]].source];
        struct check_op done = *op;
        bool accepted = model_do(&model, &done);
        if (op->begin > latest_begin) latest_begin = op->begin;
        if (op->unknown) continue;
        sk_assert(accepted && model_same_answer(op, &done));
        sk_assert(op->end >= latest_begin);
        known++;
    }
    sk_assert(known == problem->known_count);
    model_deinit(&model);
}

static void name_key(const struct history *history, const char *what, struct buffer *text) {
    print_format(text, "key ");
    print_bytes(text, history->key);
    print_format(text, ": %s\n", what);
}

#define BAD_TEXT "not linearizable: no store that does one operation after the other gives these answers"

static void explain_bad(const struct check *check, const struct history *history, uint32_t furthest,
                        struct check_report *report) {
    if (report->keys_bad > EXPLAINED_MAX) return;
    explain(history->ops, history->count, furthest, check->states_max, &report->states, &report->text);
}

static void judge_by_search(const struct check *check, const struct history *history, struct problem *problem,
                            struct check_report *report) {
    struct search_report found;
    search_run(problem, check->states_max, &found);
    report->states += found.states;
    switch (found.result) {
    case SEARCH_FOUND:
        verify(history, problem, &found);
        break;
    case SEARCH_NONE:
        report->keys_bad++;
        name_key(history, BAD_TEXT, &report->text);
        explain_bad(check, history, problem->steps[found.furthest].source, report);
        break;
    case SEARCH_GAVE_UP:
        report->keys_undecided++;
        name_key(history, "undecided: the search ended at its budget of states", &report->text);
        break;
    }
    free(found.order);
}

static void judge(const struct check *check, const struct history *history, struct check_report *report) {
    struct problem *problem = problem_new(history->ops, history->count);
    struct buffer reason;
    buffer_init(&reason);
    if (obvious_find(problem, history->ops, &reason)) {
        report->keys_bad++;
        name_key(history, BAD_TEXT, &report->text);
        buffer_append(&report->text, reason.data, reason.size);
        sk_assert(!report->text.failed);
    } else {
        judge_by_search(check, history, problem, report);
    }
    buffer_deinit(&reason);
    problem_free(problem);
}

void check_run(const struct check *check, struct check_report *report) {
    *report = (struct check_report){.keys = check->count};
    buffer_init(&report->text);
    for (size_t i = 0; i < check->count; i++) {
        const struct history *history = &check->histories[i];
        for (size_t j = 0; j < history->count; j++) {
            const struct check_op *op = &history->ops[j];
            if (op->is_expiry) continue;
            report->operations++;
            report->unknown += op->unknown;
        }
        judge(check, history, report);
    }
    report->verdict = report->keys_bad > 0 ? CHECK_BAD : report->keys_undecided > 0 ? CHECK_UNDECIDED : CHECK_GOOD;
}

void check_report_deinit(struct check_report *report) { buffer_deinit(&report->text); }
