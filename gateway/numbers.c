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

static void place(struct numbers *numbers, uint64_t number, void *value) {
    uint32_t at = home_of(numbers, number);
    while (numbers->entries[at].number != 0) at = (at + 1) & (numbers->capacity - 1);
    numbers->entries[at] = (struct numbers_entry){.number = number, .value = value};
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
    uint32_t mask = numbers->capacity - 1;
    uint32_t at = hole;
    for (;;) {
        numbers->entries[hole].number = 0;
        uint32_t home;
        do {
            at = (at + 1) & mask;
            if (numbers->entries[at].number == 0) return;
            home = home_of(numbers, numbers->entries[at].number);
            /* What lies where it may stay: its home is after the hole, seen along the ring up to itself. */
        } while (((at - home) & mask) < ((at - hole) & mask));
        numbers->entries[hole] = numbers->entries[at];
        hole = at;
    }
}
