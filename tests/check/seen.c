#include "seen.h"

#include "index.h"
#include "memory.h"

#include <xxhash.h>

/* A place as it is kept: these words, then the slots. The set is no part of what is hashed. */
struct head {
    uint32_t used, end, value, before;
};
/* Places that differ in the set alone: so many are kept, since each is compared with a new one. */
#define LIKE_MAX 64

#define HEAD_WORDS (sizeof(struct head) / sizeof(uint64_t))

struct seen {
    uint32_t slot_words, set_words;
    uint64_t *places; /* owned */
    size_t place_count, place_capacity;
    struct index place_index;
    uint64_t *sets; /* owned; each set_words long, bits of its members */
    size_t set_count, set_capacity;
    struct index set_index;
    uint32_t turn;
    uint64_t *room; /* owned: one place or set that is being made */
    seen_covers_cb *covers;
    void *context;
};

static size_t place_bytes(const struct seen *seen) { return (HEAD_WORDS + seen->slot_words) * sizeof(uint64_t); }

static size_t set_bytes(const struct seen *seen) { return seen->set_words * sizeof(uint64_t); }

static const uint64_t *set_bits(const struct seen *seen, uint32_t set) {
    return seen->sets + (size_t)set * seen->set_words;
}

static void add_set(struct seen *seen, uint64_t hash) {
    seen->sets = memory_room(seen->sets, seen->set_count, &seen->set_capacity, set_bytes(seen));
    memcpy(seen->sets + seen->set_count * seen->set_words, seen->room, set_bytes(seen));
    index_add(&seen->set_index, hash, (uint32_t)seen->set_count++);
}

struct seen *seen_new(uint32_t slot_words, uint32_t set_member_max, seen_covers_cb *covers, void *context) {
    struct seen *seen = memory_zeroed(1, sizeof *seen);
    seen->slot_words = slot_words;
    seen->covers = covers;
    seen->context = context;
    seen->set_words = set_member_max / 64 + 1;
    seen->room = memory_zeroed(HEAD_WORDS + slot_words + seen->set_words, sizeof *seen->room);
    add_set(seen, XXH3_64bits(seen->room, set_bytes(seen))); /* SEEN_SET_EMPTY */
    return seen;
}

void seen_free(struct seen *seen) {
    if (seen == NULL) return;
    free(seen->places);
    free(seen->sets);
    free(seen->room);
    index_deinit(&seen->place_index);
    index_deinit(&seen->set_index);
    free(seen);
}

uint32_t seen_set_with(struct seen *seen, uint32_t set, uint32_t member) {
    memcpy(seen->room, set_bits(seen, set), set_bytes(seen));
    seen->room[member / 64] |= UINT64_C(1) << member % 64;
    uint64_t hash = XXH3_64bits(seen->room, set_bytes(seen));
    struct index_walk walk;
    for (uint32_t i = index_first(&seen->set_index, hash, &walk); i != INDEX_NONE;
         i = index_next(&seen->set_index, &walk)) {
        if (memcmp(set_bits(seen, i), seen->room, set_bytes(seen)) == 0) return i;
    }
    add_set(seen, hash);
    return (uint32_t)seen->set_count - 1;
}

static bool is_subset(const struct seen *seen, uint32_t part, uint32_t whole) {
    if (part == whole || part == SEEN_SET_EMPTY) return true;
    const uint64_t *a = set_bits(seen, part), *b = set_bits(seen, whole);
    for (uint32_t i = 0; i < seen->set_words; i++) {
        if ((a[i] & ~b[i]) != 0) return false;
    }
    return true;
}

/* What of a place is compared: all but `used`, which stands first. */
static const uint8_t *compared(const uint64_t *place) { return (const uint8_t *)place + sizeof(uint32_t); }

static size_t compared_bytes(const struct seen *seen) { return place_bytes(seen) - sizeof(uint32_t); }

/* The place in the room becomes a new one, or takes the turn of one of `like` others that it may stand for. Forgetting
 * a place costs no more than searching it again. */
static void remember(struct seen *seen, uint64_t hash, uint32_t like_count, const uint32_t *like) {
    const size_t words = HEAD_WORDS + seen->slot_words;
    if (like_count == LIKE_MAX) {
        memcpy(seen->places + like[seen->turn++ % LIKE_MAX] * words, seen->room, place_bytes(seen));
        return;
    }
    seen->places = memory_room(seen->places, seen->place_count, &seen->place_capacity, place_bytes(seen));
    memcpy(seen->places + seen->place_count * words, seen->room, place_bytes(seen));
    index_add(&seen->place_index, hash, (uint32_t)seen->place_count++);
}

bool seen_before(struct seen *seen, const struct seen_place *place) {
    const size_t words = HEAD_WORDS + seen->slot_words;
    uint32_t like[LIKE_MAX], like_count = 0;
    const struct head head = {
        .used = place->used, .end = place->end, .value = place->value, .before = place->before};
    memcpy(seen->room, &head, sizeof head);
    memcpy(seen->room + HEAD_WORDS, place->slots, seen->slot_words * sizeof(uint64_t));
    uint64_t hash = XXH3_64bits(compared(seen->room), compared_bytes(seen));
    struct index_walk walk;
    for (uint32_t i = index_first(&seen->place_index, hash, &walk); i != INDEX_NONE;
         i = index_next(&seen->place_index, &walk)) {
        uint64_t *known = seen->places + i * words;
        if (memcmp(compared(known), compared(seen->room), compared_bytes(seen)) != 0) continue;
        uint32_t used;
        memcpy(&used, known, sizeof used);
        if (is_subset(seen, used, place->used)) return true;
        if (seen->covers(seen->context, set_bits(seen, used), set_bits(seen, place->used))) return true;
        if (is_subset(seen, place->used, used)) {
            memcpy(known, &place->used, sizeof used); /* what that place could reach, this one can */
            return false;
        }
        if (like_count < LIKE_MAX) like[like_count++] = i;
    }
    remember(seen, hash, like_count, like);
    return false;
}
