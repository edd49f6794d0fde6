/* From a command's number to the command: an open hash table (linear probing, removal by shifting back, Knuth 6.4
 * algorithm R). Numbers are given in sequence, so the number itself is a perfect hash as long as few are old. The
 * loop thread only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct numbers_entry {
    uint64_t number; /* 0 = free */
    void *value;
};

struct numbers {
    struct numbers_entry *entries; /* private, owned */
    uint32_t capacity;             /* private, a power of two or 0 */
    uint32_t count;
};

void numbers_init(struct numbers *numbers);
void numbers_deinit(struct numbers *numbers);

/* `number` is not 0 and not in the table. SK_OK or SK_ENOMEM. */
int numbers_put(struct numbers *numbers, uint64_t number, void *value);

/* NULL = not in the table. */
void *numbers_get(const struct numbers *numbers, uint64_t number);

/* A number that is not in the table is ignored. */
void numbers_remove(struct numbers *numbers, uint64_t number);
