/* What all clients of the gateway take together, by whichever door: connections, and bytes in flight. Any thread. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct load {
    uint64_t bytes_max;
    uint32_t connections_max;
    atomic_ullong bytes; /* private, as the next */
    atomic_uint connections;
};

static inline void load_init(struct load *load, uint64_t bytes_max, uint32_t connections_max) {
    load->bytes_max = bytes_max;
    load->connections_max = connections_max;
    atomic_init(&load->bytes, 0);
    atomic_init(&load->connections, 0);
}

/* Whether another connection has a place; doors that ask at one moment may both be told so. */
static inline bool load_has_place(const struct load *load) {
    return atomic_load((atomic_uint *)(uintptr_t)&load->connections) < load->connections_max;
}

static inline void load_take_place(struct load *load) { atomic_fetch_add(&load->connections, 1); }

static inline void load_give_place_back(struct load *load) { atomic_fetch_sub(&load->connections, 1); }

static inline bool load_has_room(const struct load *load, uint64_t bytes) {
    return atomic_load((atomic_ullong *)(uintptr_t)&load->bytes) + bytes <= load->bytes_max;
}

static inline void load_add(struct load *load, uint64_t bytes) { atomic_fetch_add(&load->bytes, bytes); }

static inline void load_sub(struct load *load, uint64_t bytes) { atomic_fetch_sub(&load->bytes, bytes); }
