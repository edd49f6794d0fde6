#include "shardd/commands/members.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

#include <stdlib.h>

#define SMALL         128u /* elements: one cell */
#define CELL_ELEMENTS 16u  /* in the mean */
#define CELL_RANKS    64u
#define TRIES_MAX     256u /* each finds one with a probability of 1/4 */
#define WALK_FACTOR   64u  /* drawing one costs about what walking over so many does */

/* ---- adding ---- */

void members_add_name(struct call *call, struct slice name, struct slice value) {
    (void)value;
    mp_write_bin(call->answer, name);
}

void members_add_value(struct call *call, struct slice name, struct slice value) {
    (void)name;
    mp_write_bin(call->answer, value);
}

void members_add_both(struct call *call, struct slice name, struct slice value) {
    mp_write_bin(call->answer, name);
    mp_write_bin(call->answer, value);
}

void members_add_pair(struct call *call, struct slice name, struct slice value) {
    mp_write_array(call->answer, 2);
    members_add_both(call, name, value);
}

/* Adds at most `*limit` of those from a position on, and takes them off it. */
static int add_from(struct call *call, const struct collection *collection, uint64_t from, uint64_t *limit,
                    members_cb *add) {
    struct element_walk walk;
    int err = element_walk_open(call->exec, collection->id, from, &walk);
    if (err != SK_OK) return err;
    uint64_t position;
    struct slice name, value;
    while (err == SK_OK && *limit > 0) {
        err = element_walk_next(&walk, &position, &name, &value);
        if (err != SK_OK) break;
        add(call, name, value);
        (*limit)--;
        err = call_limit_answer(call);
    }
    element_walk_close(&walk);
    return err == SK_NOT_FOUND ? SK_OK : err;
}

int members_walk(struct call *call, const struct collection *collection, members_cb *add) {
    uint64_t left = collection->count;
    if (left == 0) return SK_OK;
    int err = add_from(call, collection, 0, &left, add);
    return err == SK_OK && left > 0 ? SK_ECORRUPT : err;
}

/* ---- drawing ---- */

struct draw {
    struct call *call;
    const struct collection *collection;
    members_cb *add;
    uint64_t cells;
    uint64_t ranks; /* of each */
};

static struct draw draw_of(struct call *call, const struct collection *collection, members_cb *add) {
    struct draw draw = {.call = call, .collection = collection, .add = add};
    bool is_small = collection->count <= SMALL;
    draw.cells = is_small ? 1 : collection->count / CELL_ELEMENTS;
    draw.ranks = is_small ? collection->count : CELL_RANKS;
    return draw;
}

/* A cell and a rank in it as one number. */
static uint64_t draw_place(const struct draw *draw) {
    return chance_below(&draw->call->chance, draw->cells * draw->ranks);
}

static uint64_t cell_start(const struct draw *draw, uint64_t cell) {
    return (uint64_t)(((unsigned __int128)cell << 48) / draw->cells);
}

/* Adds the element at a place. SK_NOT_FOUND: there is none. */
static int add_place(const struct draw *draw, uint64_t place) {
    uint64_t cell = place / draw->ranks, rank = place % draw->ranks;
    struct element_walk walk;
    int err = element_walk_open(draw->call->exec, draw->collection->id, cell_start(draw, cell), &walk);
    if (err != SK_OK) return err;
    if (cell + 1 < draw->cells) element_walk_end_at(&walk, cell_start(draw, cell + 1));
    uint64_t position;
    struct slice name, value;
    do {
        err = element_walk_next(&walk, &position, &name, &value);
    } while (err == SK_OK && rank-- > 0);
    if (err == SK_OK) draw->add(draw->call, name, value);
    element_walk_close(&walk);
    return err == SK_OK ? call_limit_answer(draw->call) : err;
}

/* Where draws find nothing, since nearly all elements share few hashes: `count` that follow each other. */
static int add_neighbours(const struct draw *draw, uint64_t count) {
    uint64_t from = chance_next(&draw->call->chance) >> 16;
    int err = add_from(draw->call, draw->collection, from, &count, draw->add);
    if (err == SK_OK && count > 0) err = add_from(draw->call, draw->collection, 0, &count, draw->add);
    return err == SK_OK && count > 0 ? SK_ECORRUPT : err;
}

static int draw_one(const struct draw *draw) {
    int err = SK_NOT_FOUND;
    for (unsigned i = 0; i < TRIES_MAX && err == SK_NOT_FOUND; i++) err = add_place(draw, draw_place(draw));
    return err == SK_NOT_FOUND ? add_neighbours(draw, 1) : err;
}

int members_draw_one(struct call *call, const struct collection *collection, members_cb *add) {
    sk_assert(collection->count > 0);
    struct draw draw = draw_of(call, collection, add);
    return draw_one(&draw);
}

static int draw_repeating(const struct draw *draw, uint64_t count) {
    int err = SK_OK;
    for (uint64_t i = 0; i < count && err == SK_OK; i++) err = draw_one(draw);
    return err;
}

/* Algorithm S: an element is chosen with a probability of those that are wanted yet to those that are left. */
static int choose_walking(const struct draw *draw, uint64_t wanted) {
    struct element_walk walk;
    int err = element_walk_open(draw->call->exec, draw->collection->id, 0, &walk);
    if (err != SK_OK) return err;
    uint64_t position;
    struct slice name, value;
    for (uint64_t left = draw->collection->count; wanted > 0 && err == SK_OK; left--) {
        err = left == 0 ? SK_ECORRUPT : element_walk_next(&walk, &position, &name, &value);
        if (err != SK_OK || chance_below(&draw->call->chance, left) >= wanted) continue;
        draw->add(draw->call, name, value);
        wanted--;
        err = call_limit_answer(draw->call);
    }
    element_walk_close(&walk);
    return err == SK_NOT_FOUND ? SK_ECORRUPT : err;
}

/* The places that were drawn: open addressing, at most half full. */
struct places {
    uint64_t *slots; /* owned; a place + 1, 0 = free */
    size_t size;     /* a power of two */
};

static int places_init(struct places *places, uint64_t count) {
    places->size = 2;
    while (places->size < 2 * count) places->size *= 2;
    places->slots = calloc(places->size, sizeof *places->slots);
    return places->slots == NULL ? SK_ENOMEM : SK_OK;
}

static uint64_t *places_slot(const struct places *places, uint64_t place) {
    size_t at = (size_t)(place * 0x9e3779b97f4a7c15u >> 32) & (places->size - 1);
    while (places->slots[at] != 0 && places->slots[at] != place + 1) at = (at + 1) & (places->size - 1);
    return &places->slots[at];
}

static int add_new_place(const struct draw *draw, const struct places *places) {
    for (unsigned i = 0; i < TRIES_MAX; i++) {
        uint64_t place = draw_place(draw);
        uint64_t *slot = places_slot(places, place);
        if (*slot != 0) continue;
        int err = add_place(draw, place);
        if (err == SK_OK) *slot = place + 1;
        if (err != SK_NOT_FOUND) return err;
    }
    return SK_NOT_FOUND;
}

static int choose_places(const struct draw *draw, uint64_t count) {
    struct places places;
    int err = places_init(&places, count);
    if (err != SK_OK) return err;
    size_t start = draw->call->answer->size;
    for (uint64_t i = 0; i < count && err == SK_OK; i++) err = add_new_place(draw, &places);
    free(places.slots);
    if (err != SK_NOT_FOUND) return err;
    draw->call->answer->size = start;
    return add_neighbours(draw, count);
}

int members_draw(struct call *call, const struct collection *collection, int64_t count, members_cb *add) {
    uint64_t amount = count < 0 ? 0 - (uint64_t)count : (uint64_t)count;
    bool all = count >= 0 && amount >= collection->count;
    if (all || collection->count == 0) {
        mp_write_array(call->answer, (uint32_t)collection->count);
        return members_walk(call, collection, add);
    }
    if (amount > MEMBERS_DRAWN_MAX) {
        return call_refuse(call, SK_TOOLARGE, "count is limited to %u, unless it is that of all",
                           MEMBERS_DRAWN_MAX);
    }
    struct draw draw = draw_of(call, collection, add);
    mp_write_array(call->answer, (uint32_t)amount);
    if (count < 0) return draw_repeating(&draw, amount);
    bool many = draw.cells == 1 || collection->count / WALK_FACTOR <= amount;
    return many ? choose_walking(&draw, amount) : choose_places(&draw, amount);
}

int members_read_count(struct call *call, struct slice text, int64_t *count) {
    if (!args_parse_int(text, count)) return call_refuse_not_int(call);
    if (*count > INT64_MIN) return SK_OK;
    return call_refuse(call, SK_BADREQUEST, "value is out of range, value must between %lld and %lld",
                       (long long)-INT64_MAX, (long long)INT64_MAX);
}
