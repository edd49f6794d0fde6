#include "gateway/numbers.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

#include <stddef.h>
#include <stdlib.h>

#define CAPACITY_FIRST 1024u

void numbers_init(struct numbers *numbers) { *numbers = (struct numbers){0}; }

void numbers_deinit(struct numbers *numbers) {
    free(numbers->entries);
    *numbers = (struct numbers){0};
}

static uint32_t home_of(const struct numbers *numbers, uint64_t number) {
    return (uint32_t)number & (numbers->capacity - 1);
}

/* How far the entry at `at` lies behind where it would best lie. */
static uint32_t distance_of(const struct numbers *numbers, uint32_t at) {
    return (at - home_of(numbers, numbers->entries[at].number)) & (numbers->capacity - 1);
}

/* Whoever is nearer to its home gives way. */
static void place(struct numbers *numbers, uint64_t number, void *value) {
    struct numbers_entry entry = {.number = number, .value = value};
    uint32_t at = home_of(numbers, number), distance = 0;
    while (numbers->entries[at].number != 0) {
        uint32_t other = distance_of(numbers, at);
        if (other < distance) {
            struct numbers_entry displaced = numbers->entries[at];
            numbers->entries[at] = entry;
            entry = displaced;
            distance = other;
        }
        at = (at + 1) & (numbers->capacity - 1);
        distance++;
    }
    numbers->entries[at] = entry;
}

static int grow(struct numbers *numbers) {
    struct numbers old = *numbers;
    uint32_t capacity = old.capacity == 0 ? CAPACITY_FIRST : old.capacity * 2;
    if (capacity < old.capacity) return SK_ENOMEM;
    struct numbers_entry *entries = calloc(capacity, sizeof *entries);
    if (entries == NULL) return SK_ENOMEM;
    numbers->entries = entries;
    numbers->capacity = capacity;
    for (uint32_t i = 0; i < old.capacity; i++) {
        if (old.entries[i].number != 0) place(numbers, old.entries[i].number, old.entries[i].value);
    }
    free(old.entries);
    return SK_OK;
}

int numbers_put(struct numbers *numbers, uint64_t number, void *value) {
    sk_assert(number != 0);
    if (numbers->count >= numbers->capacity / 2) {
        int err = grow(numbers);
        if (err != SK_OK) return err;
    }
    place(numbers, number, value);
    numbers->count++;
    return SK_OK;
}

/* The entry of `number`; false when there is none. */
static bool find(const struct numbers *numbers, uint64_t number, uint32_t *found) {
    if (numbers->capacity == 0 || number == 0) return false;
    uint32_t at = home_of(numbers, number);
    while (numbers->entries[at].number != 0) {
        if (numbers->entries[at].number == number) {
            *found = at;
            return true;
        }
        at = (at + 1) & (numbers->capacity - 1);
    }
    return false;
}

void *numbers_get(const struct numbers *numbers, uint64_t number) {
    uint32_t at;
    return find(numbers, number, &at) ? numbers->entries[at].value : NULL;
}

void numbers_remove(struct numbers *numbers, uint64_t number) {
    uint32_t hole;
    if (!find(numbers, number, &hole)) return;
    numbers->count--;
    /* Those behind move up, as far as the first that is free or at its home: behind that one everybody is where they
     * may stay, which plain probing would not promise. */
    uint32_t next = (hole + 1) & (numbers->capacity - 1);
    while (numbers->entries[next].number != 0 && distance_of(numbers, next) != 0) {
        numbers->entries[hole] = numbers->entries[next];
        hole = next;
        next = (next + 1) & (numbers->capacity - 1);
    }
    numbers->entries[hole].number = 0;
}
