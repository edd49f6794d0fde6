#include "generate.h"

#include "memory.h"
#include "model.h"

#include <inttypes.h>
#include <stdio.h>

#define LATE 20 /* an unknown operation may take effect so many times later than it should */

/* splitmix64. */
uint64_t random_below(struct random *random, uint64_t below) {
    uint64_t mixed = random->state += UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    return (mixed ^ mixed >> 31) % below;
}

struct slice generated_text(struct generated *generated, struct slice bytes) {
    generated->texts =
        memory_room(generated->texts, generated->text_count, &generated->text_capacity, sizeof *generated->texts);
    char *copy = memory_zeroed(bytes.size + 1, 1);
    if (bytes.size > 0) memcpy(copy, bytes.data, bytes.size);
    generated->texts[generated->text_count++] = copy;
    return slice_of(copy, bytes.size);
}

struct making {
    const struct generate_options *options;
    struct generated *generated;
    struct random random;
    struct model model;
    uint64_t texts; /* values made so far */
};

/* An operation with the moment of its effect. */
struct effect {
    int64_t time; /* INT64_MAX = never */
    struct check_op op;
};

static enum check_kind choose_kind(struct making *making) {
    uint64_t sum = 0, at = 0;
    for (int i = 0; i < 6; i++) sum += making->options->weights[i];
    uint64_t chosen = random_below(&making->random, sum);
    for (int i = 0; i < 5; i++) {
        at += making->options->weights[i];
        if (chosen < at) return (enum check_kind)i;
    }
    return CHECK_APPEND;
}

static struct check_value make_value(struct making *making) {
    static const char *const few[] = {"a", "b", "1", "c", "2", "", "-", "0"};
    char room[32];
    uint32_t values = making->options->values;
    const char *text = room;
    snprintf(room, sizeof room, "v%" PRIu64 ";", ++making->texts);
    if (values > 0) text = few[random_below(&making->random, values)];
    return (struct check_value){.present = true, .bytes = generated_text(making->generated, slice_of_text(text))};
}

/* What a client may take for the value: mostly what it is. */
static struct check_value guess_value(struct making *making) {
    struct check_value now = model_value(&making->model);
    uint64_t chance = random_below(&making->random, 10);
    if (chance == 0) return make_value(making);
    if (chance == 1) return (struct check_value){.present = false};
    if (now.present) now.bytes = generated_text(making->generated, now.bytes);
    return now;
}

static void choose_arguments(struct making *making, struct check_op *op) {
    switch (op->kind) {
    case CHECK_GET:
    case CHECK_DEL:
        break;
    case CHECK_CAS:
        op->expected = guess_value(making);
        if (random_below(&making->random, 8) > 0) op->value = make_value(making);
        break;
    case CHECK_SET:
    case CHECK_APPEND:
        op->value = make_value(making);
        break;
    case CHECK_INCR:
        op->amount =
            making->options->amount_min + (int64_t)random_below(&making->random, making->options->amounts);
        break;
    }
}

static int compare_effects(const void *a, const void *b) {
    const struct effect *x = a, *y = b;
    if (x->time != y->time) return x->time < y->time ? -1 : 1;
    if (x->op.begin != y->op.begin) return x->op.begin < y->op.begin ? -1 : 1;
    return (x->op.client > y->op.client) - (x->op.client < y->op.client);
}

static int compare_begins(const void *a, const void *b) {
    const struct check_op *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->client > y->client) - (x->client < y->client);
}

/* Times of all operations: the client that is free first begins the next one. */
static void choose_times(struct making *making, struct effect *effects) {
    const struct generate_options *options = making->options;
    int64_t *unoccupied = memory_zeroed(options->clients, sizeof *unoccupied);
    for (uint32_t i = 0; i < options->operations; i++) {
        uint32_t client = 0;
        for (uint32_t j = 1; j < options->clients; j++) {
            if (unoccupied[j] < unoccupied[client]) client = j;
        }
        struct check_op *op = &effects[i].op;
        *op = (struct check_op){.client = client, .kind = choose_kind(making)};
        op->begin = unoccupied[client] + (int64_t)random_below(&making->random, options->step_max / 2 + 1);
        effects[i].time = op->begin + (int64_t)random_below(&making->random, options->step_max + 1);
        op->end = effects[i].time + (int64_t)random_below(&making->random, options->step_max + 1);
        unoccupied[client] = op->end + 1;
    }
    free(unoccupied);
}

/* Some writes lose their outcome: they take effect when they would have, or late, or never. */
static void lose_outcomes(struct making *making, struct effect *effects) {
    const struct generate_options *options = making->options;
    uint32_t tries = 100 * options->unknown;
    for (uint32_t lost = 0; lost < options->unknown && tries > 0; tries--) {
        struct effect *effect = &effects[random_below(&making->random, options->operations)];
        if (effect->op.unknown || effect->op.kind == CHECK_GET) continue;
        effect->op.unknown = true;
        lost++;
        uint64_t fate = random_below(&making->random, 3);
        if (fate == 0) effect->time = INT64_MAX;
        if (fate == 1) effect->time += (int64_t)random_below(&making->random, LATE * options->step_max + 1);
    }
}

static void keep(struct making *making, const struct check_op *done) {
    struct generated *generated = making->generated;
    struct check_op *op = &generated->ops[generated->count++];
    *op = *done;
    if (op->kind == CHECK_GET && op->got.present) op->got.bytes = generated_text(generated, op->got.bytes);
}

void generate(const struct generate_options *options, struct generated *generated) {
    struct making making = {.options = options, .generated = generated, .random = {options->seed}};
    struct effect *effects = memory_zeroed(options->operations, sizeof *effects);
    *generated = (struct generated){.ops = memory_zeroed(options->operations, sizeof *generated->ops)};
    model_init(&making.model);
    choose_times(&making, effects);
    lose_outcomes(&making, effects);
    qsort(effects, options->operations, sizeof *effects, compare_effects);
    for (uint32_t i = 0; i < options->operations; i++) {
        struct check_op *op = &effects[i].op;
        choose_arguments(&making, op);
        bool happens = effects[i].time != INT64_MAX;
        if (happens && !model_do(&making.model, op) && !op->unknown) continue;
        keep(&making, op);
    }
    qsort(generated->ops, generated->count, sizeof *generated->ops, compare_begins);
    model_deinit(&making.model);
    free(effects);
}

void generated_deinit(struct generated *generated) {
    for (size_t i = 0; i < generated->text_count; i++) free(generated->texts[i]);
    free(generated->texts);
    free(generated->ops);
}

void generated_add(const struct generated *generated, struct check *check, const char *key) {
    for (size_t i = 0; i < generated->count; i++) {
        const char *fault = check_add(check, slice_of_text(key), &generated->ops[i]);
        sk_assert(fault == NULL);
    }
}
