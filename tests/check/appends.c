#include "appends.h"

#include "memory.h"

struct routes {
    uint32_t first, count; /* in all_routes */
    bool found;            /* they have been looked for */
};

/* ---- makers ---- */

static int compare_makers(const struct maker *a, const struct maker *b) {
    int order = slice_compare(a->piece, b->piece);
    if (order != 0) return order;
    return (a->bytes_after > b->bytes_after) - (a->bytes_after < b->bytes_after);
}

static int compare_makers_cb(const void *a, const void *b) { return compare_makers(a, b); }

static int compare_sizes(const void *a, const void *b) {
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

static void collect_sizes(struct appends *appends) {
    size_t *sizes = memory_zeroed(appends->maker_count, sizeof *sizes), kept = 0;
    for (uint32_t i = 0; i < appends->maker_count; i++) sizes[i] = appends->makers[i].piece.size;
    qsort(sizes, appends->maker_count, sizeof *sizes, compare_sizes);
    for (uint32_t i = 0; i < appends->maker_count; i++) {
        if (kept == 0 || sizes[i] != sizes[kept - 1]) sizes[kept++] = sizes[i];
    }
    appends->sizes = sizes;
    appends->size_count = kept;
}

/* Whether a number could be a number still with the piece behind it. */
static bool is_part_of_number(struct slice piece) {
    for (size_t i = 0; i < piece.size; i++) {
        if (piece.data[i] != '-' && (piece.data[i] < '0' || piece.data[i] > '9')) return false;
    }
    return true;
}

bool appends_is_plain(const struct maker *maker, bool adds) {
    return maker->piece.size > 0 && !maker->has_more_holders && !(adds && is_part_of_number(maker->piece));
}

uint32_t appends_find(const struct appends *appends, struct slice piece, uint64_t bytes_after) {
    const struct maker wanted = {.piece = piece, .bytes_after = bytes_after};
    uint32_t low = 0, high = appends->maker_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = compare_makers(&appends->makers[middle], &wanted);
        if (order == 0) return middle;
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return MAKER_NONE;
}

/* ---- which texts hold which pieces ---- */

static void add_holder(struct appends *appends, uint32_t number, struct slice text) {
    if (number == MAKER_NONE) return;
    struct maker *maker = &appends->makers[number];
    uint32_t value = values_of_text(appends->values, text);
    if (maker->holder == VALUE_NONE) maker->holder = value;
    if (maker->holder != value) maker->has_more_holders = true;
}

static void find_held(struct appends *appends, struct slice text, size_t piece_size) {
    for (size_t end = piece_size; end <= text.size; end++) {
        struct slice piece = slice_of(text.data + end - piece_size, piece_size);
        add_holder(appends, appends_find(appends, piece, end), slice_of(text.data, end));
        add_holder(appends, appends_find(appends, piece, BYTES_ANY), slice_of(text.data, end));
    }
}

/* Texts in their order: one that the next begins with holds nothing that the next does not hold. */
static bool is_begin_of_next(const struct values *values, uint32_t target) {
    struct slice text = values_target_text(values, target), next = values_target_text(values, target + 1);
    return text.size <= next.size && slice_equal(text, slice_of(next.data, text.size));
}

static void find_holders(struct appends *appends) {
    for (uint32_t target = 0; target + 2 < values_target_count(appends->values); target++) {
        if (is_begin_of_next(appends->values, target)) continue;
        for (size_t i = 0; i < appends->size_count; i++) {
            find_held(appends, values_target_text(appends->values, target), appends->sizes[i]);
        }
    }
}

void appends_init_take(struct appends *appends, struct values *values, struct maker *makers, uint32_t count) {
    *appends = (struct appends){.makers = makers, .values = values};
    qsort(makers, count, sizeof *makers, compare_makers_cb);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t kept = appends->maker_count;
        if (kept > 0 && compare_makers(&makers[i], &makers[kept - 1]) == 0) continue;
        makers[kept] = makers[i];
        makers[kept].holder = VALUE_NONE;
        makers[kept].has_more_holders = false;
        if (is_part_of_number(makers[kept].piece)) appends->makes_numbers = true;
        appends->maker_count++;
    }
    collect_sizes(appends);
    find_holders(appends);
}

void appends_deinit(struct appends *appends) {
    free(appends->makers);
    free(appends->sizes);
    free(appends->routes);
    free(appends->all_routes);
}

/* ---- how appends make a text ---- */

static void add_route(struct appends *appends, uint32_t maker, uint32_t from) {
    appends->all_routes = memory_room(appends->all_routes, appends->all_routes_count,
                                      &appends->all_routes_capacity, sizeof *appends->all_routes);
    appends->all_routes[appends->all_routes_count++] = (struct route){.maker = maker, .from = from};
}

/* Routes by appends of one length after them. Nil with a piece behind it is the piece, as the empty text is. */
static void find_routes_by(struct appends *appends, struct slice text, size_t piece_size, uint64_t bytes_after) {
    size_t rest = text.size - piece_size;
    uint32_t maker = appends_find(appends, slice_of(text.data + rest, piece_size), bytes_after);
    if (maker == MAKER_NONE) return;
    if (rest == 0) add_route(appends, maker, VALUE_NIL);
    if (piece_size > 0) add_route(appends, maker, values_of_text(appends->values, slice_of(text.data, rest)));
}

static void find_routes(struct appends *appends, uint32_t value) {
    struct slice text = values_text(appends->values, value);
    appends->routes[value] = (struct routes){.first = (uint32_t)appends->all_routes_count, .found = true};
    if (values_get(appends->values, value)->kind != VALUE_IS_TEXT) return;
    for (size_t i = 0; i < appends->size_count && appends->sizes[i] <= text.size; i++) {
        find_routes_by(appends, text, appends->sizes[i], text.size);
        find_routes_by(appends, text, appends->sizes[i], BYTES_ANY);
    }
    appends->routes[value].count = (uint32_t)appends->all_routes_count - appends->routes[value].first;
}

uint32_t appends_find_routes(struct appends *appends, uint32_t value, uint32_t *first) {
    appends->routes = memory_reach(appends->routes, value, &appends->routes_capacity, sizeof *appends->routes);
    if (!appends->routes[value].found) find_routes(appends, value);
    *first = appends->routes[value].first;
    return appends->routes[value].count;
}

struct route appends_route(const struct appends *appends, uint32_t number) {
    return appends->all_routes[number];
}
