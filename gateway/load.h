/* The bytes that all clients of the gateway have in flight, by whichever door, under one cap. Any thread. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct load {
    uint64_t bytes_max;
    atomic_ullong bytes; /* private */
};

static inline void load_init(struct load *load, uint64_t bytes_max) {
    load->bytes_max = bytes_max;
    atomic_init(&load->bytes, 0);
}

static inline bool load_has_room(const struct load *load, uint64_t bytes) {
    return atomic_load((atomic_ullong *)(uintptr_t)&load->bytes) + bytes <= load->bytes_max;
}

static inline void load_add(struct load *load, uint64_t bytes) { atomic_fetch_add(&load->bytes, bytes); }

static inline void load_sub(struct load *load, uint64_t bytes) { atomic_fetch_sub(&load->bytes, bytes); }
