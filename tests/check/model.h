/* One key of the store in the plainest words: a text that operations are done on, one after the other. What the search
 * finds is done here again, so that no mistake in it can pass a history; the tests generate histories with it. */
#pragma once

#include "check.h"

struct model {
    bool present;
    struct buffer text; /* owned; the value if present */
};

void model_init(struct model *model); /* nil */
void model_deinit(struct model *model);

/* The value; borrowed until the next operation. */
struct check_value model_value(const struct model *model);

/* Does the operation and puts its answer into `got` or `answer`, in place of what is there. False: the store refuses
 * it (not an integer, overflow), and nothing has changed. */
bool model_do(struct model *model, struct check_op *op);

/* Whether two operations of one kind have the same answer. */
bool model_same_answer(const struct check_op *a, const struct check_op *b);

static inline bool check_value_equal(const struct check_value *a, const struct check_value *b) {
    return a->present == b->present && (!a->present || slice_equal(a->bytes, b->bytes));
}
