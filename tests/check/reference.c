#include "reference.h"

#include "memory.h"
#include "model.h"

struct reference {
    const struct check_op *ops;
    size_t count;
};

static bool is_in(uint32_t set, size_t op) { return (set >> op & 1) != 0; }

/* Time forbids an operation while another that ended before it began has not been done. */
static bool may_be_next(const struct reference *reference, uint32_t done, size_t op) {
    for (size_t i = 0; i < reference->count; i++) {
        if (is_in(done, i) || reference->ops[i].unknown) continue;
        if (reference->ops[i].end < reference->ops[op].begin) return false;
    }
    return true;
}

static bool is_complete(const struct reference *reference, uint32_t done) {
    for (size_t i = 0; i < reference->count; i++) {
        if (!is_in(done, i) && !reference->ops[i].unknown) return false;
    }
    return true;
}

static bool can_be_completed(const struct reference *reference, uint32_t done, const struct model *now);

static bool can_go_on_with(const struct reference *reference, uint32_t done, const struct model *now, size_t op) {
    struct check_op tried = reference->ops[op];
    struct check_value value = model_value(now);
    struct model next;
    model_init(&next);
    next.present = value.present;
    buffer_append(&next.text, value.bytes.data, value.bytes.size);
    bool accepted = model_do(&next, &tried);
    bool same = tried.unknown || (accepted && model_same_answer(&tried, &reference->ops[op]));
    bool can = same && can_be_completed(reference, done | UINT32_C(1) << op, &next);
    model_deinit(&next);
    return can;
}

static bool can_be_completed(const struct reference *reference, uint32_t done, const struct model *now) {
    if (is_complete(reference, done)) return true;
    for (size_t i = 0; i < reference->count; i++) {
        if (is_in(done, i) || !may_be_next(reference, done, i)) continue;
        if (can_go_on_with(reference, done, now, i)) return true;
    }
    return false;
}

bool reference_is_linearizable(const struct check_op *ops, size_t count) {
    sk_assert(count <= REFERENCE_OPS_MAX);
    const struct reference reference = {.ops = ops, .count = count};
    struct model empty;
    model_init(&empty);
    bool can = can_be_completed(&reference, 0, &empty);
    model_deinit(&empty);
    return can;
}
