/* What the appends of a history can make: which of them could be the last to have made a text, and of what; and which texts
 * hold what was appended. */
#pragma once

#include "value.h"

#define MAKER_NONE UINT32_MAX
#define BYTES_ANY  UINT64_MAX

/* Appends of the same piece, and if known with the same length after. */
struct maker {
    struct slice piece;
    uint64_t bytes_after; /* BYTES_ANY: unknown appends */
    /* A text that it may be the last to have appended to, so that the named texts that begin with it may hold its piece;
     * VALUE_NONE = there is none. And whether there are more such. */
    uint32_t holder;
    bool has_more_holders;
};

/* A way in which an append makes a text: the maker, and what it must meet. */
struct route {
    uint32_t maker, from;
};

struct appends {
    struct maker *makers; /* owned, in the order of piece and bytes_after, each once */
    uint32_t maker_count;
    bool makes_numbers; /* one of them might make a number of what is none, or another of one */
    /* private */
    struct values *values; /* borrowed */
    size_t *sizes;         /* owned: the different sizes of pieces, ascending */
    size_t size_count;
    struct routes *routes; /* owned, by value */
    size_t routes_capacity;
    struct route *all_routes; /* owned */
    size_t all_routes_count, all_routes_capacity;
};

/* Takes `makers`, one of each append, of which piece and bytes_after are set, in any order. */
void appends_init_take(struct appends *appends, struct values *values, struct maker *makers, uint32_t count);
void appends_deinit(struct appends *appends);

uint32_t appends_find(const struct appends *appends, struct slice piece, uint64_t bytes_after); /* or MAKER_NONE */

/* How appends make the value: routes *first to *first + the answer - 1. */
uint32_t appends_find_routes(struct appends *appends, uint32_t value, uint32_t *first);
struct route appends_route(const struct appends *appends, uint32_t number);

/* Whether, while no named text holds its piece, nothing but its length matters. `adds`: there are INCRs that may meet any
 * number. */
bool appends_is_plain(const struct maker *maker, bool adds);
