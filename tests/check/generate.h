/* For tests: histories of one key that are good, because they are made from an order of effects on the plain model, each
 * inside the time of its operation. The seed decides everything. */
#pragma once

#include "check.h"

struct random {
    uint64_t state; /* any seed */
};

/* 0 to below - 1. */
uint64_t random_below(struct random *random, uint64_t below);

struct generate_options {
    uint64_t seed;
    uint32_t operations, clients;
    uint32_t unknown;    /* so many of the writes get an unknown outcome */
    uint32_t weights[6]; /* how often each check_kind comes, relative to the others */
    uint32_t values;     /* texts to choose from; 0 = each write has its own */
    int64_t amount_min;  /* INCR is by one of so many amounts, from this on */
    uint32_t amounts;
    uint32_t step_max; /* an operation takes up to twice this, and then its client waits up to half of it */
};

struct generated {
    struct check_op *ops; /* owned; in the order of their begin */
    size_t count;         /* without those that the store would refuse */
    char **texts;         /* owned, private */
    size_t text_count, text_capacity;
};

void generate(const struct generate_options *options, struct generated *generated);
void generated_deinit(struct generated *generated);

/* A copy of the bytes that lives as long as `generated`. */
struct slice generated_text(struct generated *generated, struct slice bytes);

/* Adds all to a check, under one key. */
void generated_add(const struct generated *generated, struct check *check, const char *key);
