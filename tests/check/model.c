#include "model.h"

#include "memory.h"
#include "number.h"

void model_init(struct model *model) {
    *model = (struct model){0};
    buffer_init(&model->text);
}

void model_deinit(struct model *model) { buffer_deinit(&model->text); }

struct check_value model_value(const struct model *model) {
    return (struct check_value){.present = model->present, .bytes = buffer_slice(&model->text)};
}

static void append(struct model *model, struct slice bytes) {
    model->present = true;
    buffer_append(&model->text, bytes.data, bytes.size);
    sk_assert(!model->text.failed);
}

static void set(struct model *model, const struct check_value *value) {
    buffer_clear(&model->text, SIZE_MAX);
    model->present = false;
    if (value->present) append(model, value->bytes);
}

static bool incr(struct model *model, struct check_op *op) {
    int64_t number = 0;
    char room[NUMBER_TEXT_MAX];
    if (model->present && !number_parse(buffer_slice(&model->text), &number)) return false;
    if (__builtin_add_overflow(number, op->amount, &number)) return false;
    struct check_value value = {.present = true, .bytes = slice_of(room, number_print(number, room))};
    set(model, &value);
    op->answer = number;
    return true;
}

bool model_do(struct model *model, struct check_op *op) {
    struct check_value now = model_value(model);
    switch (op->kind) {
    case CHECK_GET:
        op->got = now;
        break;
    case CHECK_SET:
        set(model, &op->value);
        break;
    case CHECK_DEL:
        op->answer = model->present;
        set(model, &(struct check_value){.present = false});
        break;
    case CHECK_CAS:
        op->answer = check_value_equal(&now, &op->expected);
        if (op->answer == 1) set(model, &op->value);
        break;
    case CHECK_INCR:
        return incr(model, op);
    case CHECK_APPEND:
        append(model, op->value.bytes);
        op->answer = (int64_t)model->text.size;
        break;
    }
    return true;
}

bool model_same_answer(const struct check_op *a, const struct check_op *b) {
    switch (a->kind) {
    case CHECK_GET:
        return check_value_equal(&a->got, &b->got);
    case CHECK_SET:
        return true;
    case CHECK_DEL:
    case CHECK_CAS:
    case CHECK_INCR:
    case CHECK_APPEND:
        return a->answer == b->answer;
    }
    return false;
}
