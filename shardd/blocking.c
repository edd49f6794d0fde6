#include "shardd/blocking.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

#include <stdlib.h>
#include <xxhash.h>

#define WHEEL_TICK_US 5000u
#define WHEEL_TICKS   256u
_Static_assert(WAIT_SLICE_MS * 1000u < (WHEEL_TICKS - 1) * WHEEL_TICK_US,
               "no deadline may be a turn of the wheel away");

/* ---- a hash table of things that begin with a node ---- */

struct node {
    struct node *next;
    uint64_t hash;
};

struct table {
    struct node **buckets; /* owned */
    uint32_t capacity;     /* a power of two */
    uint32_t count;
};

static int table_init(struct table *table) {
    table->capacity = 64;
    table->buckets = calloc(table->capacity, sizeof(struct node *));
    return table->buckets == NULL ? SK_ENOMEM : SK_OK;
}

static struct node *table_bucket(const struct table *table, uint64_t hash) {
    return table->buckets[hash & (table->capacity - 1)];
}

/* Without memory the chains become longer. */
static void table_grow(struct table *table) {
    uint32_t capacity = table->capacity * 2;
    struct node **buckets = calloc(capacity, sizeof *buckets);
    if (buckets == NULL) return;
    for (uint32_t i = 0; i < table->capacity; i++) {
        for (struct node *node = table->buckets[i]; node != NULL;) {
            struct node *next = node->next;
            node->next = buckets[node->hash & (capacity - 1)];
            buckets[node->hash & (capacity - 1)] = node;
            node = next;
        }
    }
    free(table->buckets);
    table->buckets = buckets;
    table->capacity = capacity;
}

static void table_add(struct table *table, struct node *node, uint64_t hash) {
    if (table->count >= table->capacity) table_grow(table);
    struct node **bucket = &table->buckets[hash & (table->capacity - 1)];
    *node = (struct node){.next = *bucket, .hash = hash};
    *bucket = node;
    table->count++;
}

static void table_remove(struct table *table, struct node *node) {
    struct node **at = &table->buckets[node->hash & (table->capacity - 1)];
    while (*at != node) at = &(*at)->next;
    *at = node->next;
    table->count--;
}

/* ---- what is in them ---- */

/* A key that somebody waits for, with who is parked there: a binary heap, who has waited longest first. */
struct queue {
    struct node node; /* first */
    struct blocking_shard *at;
    struct place **heap; /* owned */
    uint32_t parked;     /* in the heap, which has */
    uint32_t capacity;   /* room for all */
    uint32_t places;     /* of waiters here, those in the log among them */
    struct queue *ready_before, *ready_after;
    bool is_ready;
    uint8_t type;
    uint32_t in_log; /* waiters that went into the log for this key */
    size_t key_size;
    uint8_t key[];
};

/* Of a waiter in the queue of one of its keys. */
struct place {
    struct entrant *of;
    struct queue *queue;
    uint32_t index; /* in the heap, while it is parked */
};

/* A waiter with what is private of it. Its places, id and body follow. */
struct entrant {
    struct node node; /* first */
    struct waiter waiter;
    uint64_t session;
    uint64_t since_us, turn; /* since when its client waits, and of those who wait as long, when it came */
    struct entrant **tick, *late_before, *late_after; /* in the wheel, while it is parked */
    struct entrant *shard_before, *shard_after;       /* of its shard */
    struct queue *woken_for; /* in the log for this key; NULL: for none, or its queue has gone */
    size_t bytes;
    size_t place_count;
    struct place places[];
};

/* A name that has ended without anything. */
struct ended {
    struct node node; /* first */
    uint64_t session, number;
    uint64_t until_us;
    struct ended *after;
};

struct blocking {
    struct table names;  /* of entrants */
    struct table queues; /* by key */
    struct table ended;
    struct ended *ended_first, *ended_last;
    struct queue *ready_first, *ready_last;
    struct entrant *wheel[WHEEL_TICKS];
    uint64_t tick; /* the first that is not over */
    uint64_t turns;
    size_t bytes;
};

static struct entrant *entrant_of(const struct waiter *waiter) {
    return (struct entrant *)(void *)((uint8_t *)(uintptr_t)waiter - offsetof(struct entrant, waiter));
}

static uint64_t hash_of_name(uint64_t session, uint64_t number) {
    uint64_t name[2] = {session, number};
    return XXH3_64bits(name, sizeof name);
}

static uint64_t hash_of_key(const struct blocking_shard *at, struct slice key, uint8_t type) {
    return XXH3_64bits_withSeed(key.data, key.size, (uint64_t)at->shard << 8 | type);
}

int blocking_new(struct blocking **made, uint64_t now_us) {
    struct blocking *blocking = calloc(1, sizeof *blocking);
    if (blocking == NULL) return SK_ENOMEM;
    blocking->tick = now_us / WHEEL_TICK_US;
    bool whole = table_init(&blocking->names) == SK_OK && table_init(&blocking->queues) == SK_OK &&
                 table_init(&blocking->ended) == SK_OK;
    if (!whole) {
        blocking_free(blocking);
        return SK_ENOMEM;
    }
    *made = blocking;
    return SK_OK;
}

static void forget_first_ended(struct blocking *blocking) {
    struct ended *ended = blocking->ended_first;
    blocking->ended_first = ended->after;
    if (ended->after == NULL) blocking->ended_last = NULL;
    table_remove(&blocking->ended, &ended->node);
    free(ended);
}

void blocking_free(struct blocking *blocking) {
    if (blocking == NULL) return;
    sk_assert(blocking->names.count == 0 && blocking->queues.count == 0);
    while (blocking->ended_first != NULL) forget_first_ended(blocking);
    free(blocking->names.buckets);
    free(blocking->queues.buckets);
    free(blocking->ended.buckets);
    free(blocking);
}

uint32_t blocking_count(const struct blocking *blocking) { return blocking->names.count; }

struct waiter *blocking_find(const struct blocking *blocking, uint64_t session, uint64_t number) {
    uint64_t hash = hash_of_name(session, number);
    for (struct node *node = table_bucket(&blocking->names, hash); node != NULL; node = node->next) {
        struct entrant *entrant = (struct entrant *)node;
        if (entrant->session == session && entrant->waiter.item.number == number) return &entrant->waiter;
    }
    return NULL;
}

/* ---- queues ---- */

static struct queue *find_queue(const struct blocking_shard *at, struct slice key, uint8_t type) {
    uint64_t hash = hash_of_key(at, key, type);
    for (struct node *node = table_bucket(&at->blocking->queues, hash); node != NULL; node = node->next) {
        struct queue *queue = (struct queue *)node;
        bool same = queue->at == at && queue->type == type && queue->key_size == key.size;
        if (same && (key.size == 0 || memcmp(queue->key, key.data, key.size) == 0)) return queue;
    }
    return NULL;
}

/* NULL: out of memory. */
static struct queue *make_queue(struct blocking_shard *at, struct slice key, uint8_t type) {
    struct queue *queue = find_queue(at, key, type);
    if (queue != NULL) return queue;
    queue = calloc(1, sizeof *queue + key.size);
    if (queue == NULL) return NULL;
    queue->at = at;
    queue->type = type;
    queue->key_size = key.size;
    if (key.size > 0) memcpy(queue->key, key.data, key.size);
    table_add(&at->blocking->queues, &queue->node, hash_of_key(at, key, type));
    at->blocking->bytes += sizeof *queue + key.size;
    return queue;
}

static void make_ready(struct blocking *blocking, struct queue *queue) {
    if (queue->is_ready) return;
    queue->is_ready = true;
    queue->ready_before = blocking->ready_last;
    queue->ready_after = NULL;
    if (blocking->ready_last != NULL) blocking->ready_last->ready_after = queue;
    else blocking->ready_first = queue;
    blocking->ready_last = queue;
}

static void make_unready(struct blocking *blocking, struct queue *queue) {
    if (!queue->is_ready) return;
    queue->is_ready = false;
    if (queue->ready_before != NULL) queue->ready_before->ready_after = queue->ready_after;
    else blocking->ready_first = queue->ready_after;
    if (queue->ready_after != NULL) queue->ready_after->ready_before = queue->ready_before;
    else blocking->ready_last = queue->ready_before;
}

/* ---- who is parked at a key ---- */

static bool is_elder(const struct entrant *a, uint64_t since_us, uint64_t turn) {
    return a->since_us != since_us ? a->since_us < since_us : a->turn < turn;
}

static bool is_before(const struct place *a, const struct place *b) {
    return is_elder(a->of, b->of->since_us, b->of->turn);
}

static void set_index(struct queue *queue, uint32_t index, struct place *place) {
    queue->heap[index] = place;
    place->index = index;
}

static void rise(struct queue *queue, uint32_t index, struct place *place) {
    for (; index > 0 && is_before(place, queue->heap[(index - 1) / 2]); index = (index - 1) / 2) {
        set_index(queue, index, queue->heap[(index - 1) / 2]);
    }
    set_index(queue, index, place);
}

static void sink(struct queue *queue, uint32_t index, struct place *place) {
    for (uint32_t child = 2 * index + 1; child < queue->parked; child = 2 * index + 1) {
        if (child + 1 < queue->parked && is_before(queue->heap[child + 1], queue->heap[child])) child++;
        if (!is_before(queue->heap[child], place)) break;
        set_index(queue, index, queue->heap[child]);
        index = child;
    }
    set_index(queue, index, place);
}

static void enter_heap(struct place *place) {
    struct queue *queue = place->queue;
    sk_assert(queue->parked < queue->capacity);
    rise(queue, queue->parked++, place);
}

static void leave_heap(struct place *place) {
    struct queue *queue = place->queue;
    uint32_t index = place->index;
    struct place *last = queue->heap[--queue->parked];
    if (last == place) return;
    if (is_before(last, place)) rise(queue, index, last);
    else sink(queue, index, last);
}

/* Room for one place more. False: out of memory. */
static bool reserve_place(struct queue *queue) {
    if (queue->places < queue->capacity) return true;
    uint32_t capacity = queue->capacity == 0 ? 2 : queue->capacity * 2;
    struct place **heap = realloc(queue->heap, capacity * sizeof(struct place *));
    if (heap == NULL) return false;
    queue->heap = heap;
    queue->capacity = capacity;
    return true;
}

/* A queue ends with its last place. */
static void end_if_empty(struct blocking *blocking, struct queue *queue) {
    if (queue->places > 0) return;
    make_unready(blocking, queue);
    table_remove(&blocking->queues, &queue->node);
    blocking->bytes -= sizeof *queue + queue->key_size;
    free(queue->heap);
    free(queue);
}

void blocking_stored_cb(void *arg, struct slice key, uint8_t type) {
    struct blocking_shard *at = arg;
    struct queue *queue = find_queue(at, key, type);
    if (queue != NULL) make_ready(at->blocking, queue);
}

bool blocking_first_ready(const struct blocking *blocking, struct blocking_ready *ready) {
    const struct queue *queue = blocking->ready_first;
    if (queue == NULL) return false;
    *ready = (struct blocking_ready){.at = queue->at,
                                     .key = slice_of(queue->key, queue->key_size),
                                     .type = queue->type,
                                     .in_log = queue->in_log};
    return true;
}

struct waiter *blocking_first_parked(const struct blocking *blocking) {
    const struct queue *queue = blocking->ready_first;
    struct waiter *first = queue->parked == 0 ? NULL : &queue->heap[0]->of->waiter;
    return first == NULL || first->has_ended ? NULL : first;
}

void blocking_served(struct blocking *blocking) { make_unready(blocking, blocking->ready_first); }

/* ---- time ---- */

/* A tick is over when the deadlines in it are. One that is over already comes with the next. */
static void enter_wheel(struct blocking *blocking, struct entrant *entrant) {
    uint64_t tick = entrant->waiter.deadline_us / WHEEL_TICK_US;
    if (tick < blocking->tick) tick = blocking->tick;
    entrant->tick = &blocking->wheel[tick % WHEEL_TICKS];
    entrant->late_before = NULL;
    entrant->late_after = *entrant->tick;
    if (*entrant->tick != NULL) (*entrant->tick)->late_before = entrant;
    *entrant->tick = entrant;
}

static void leave_wheel(struct entrant *entrant) {
    if (entrant->late_before != NULL) entrant->late_before->late_after = entrant->late_after;
    else *entrant->tick = entrant->late_after;
    if (entrant->late_after != NULL) entrant->late_after->late_before = entrant->late_before;
}

struct waiter *blocking_next_late(struct blocking *blocking, uint64_t now_us) {
    while (blocking->tick < now_us / WHEEL_TICK_US) {
        struct entrant *entrant = blocking->wheel[blocking->tick % WHEEL_TICKS];
        if (entrant != NULL) return &entrant->waiter;
        blocking->tick++;
    }
    while (blocking->ended_first != NULL && blocking->ended_first->until_us <= now_us)
        forget_first_ended(blocking);
    return NULL;
}

/* ---- waiters ---- */

/* Once in the heap of a queue it is parked; a slot there is kept for it meanwhile. */
static size_t bytes_of(const struct blocking_request *request) {
    size_t per_key = sizeof(struct place) + 2 * sizeof(struct place *);
    return sizeof(struct entrant) + request->key_count * per_key + request->item->id.size +
           request->item->body.size;
}

static struct slice copy_behind(uint8_t **at, struct slice bytes) {
    if (bytes.size > 0) memcpy(*at, bytes.data, bytes.size);
    struct slice copy = slice_of(*at, bytes.size);
    *at += bytes.size;
    return copy;
}

static void enter_shard(struct entrant *entrant) {
    struct blocking_shard *at = entrant->waiter.at;
    entrant->shard_after = at->waiters == NULL ? NULL : entrant_of(at->waiters);
    if (entrant->shard_after != NULL) entrant->shard_after->shard_before = entrant;
    at->waiters = &entrant->waiter;
}

static void leave_shard(struct entrant *entrant) {
    struct entrant *before = entrant->shard_before, *after = entrant->shard_after;
    if (before != NULL) before->shard_after = after;
    else entrant->waiter.at->waiters = after == NULL ? NULL : &after->waiter;
    if (after != NULL) after->shard_before = before;
}

/* Where it is as long as it is parked. */
static void enter_parked(struct blocking *blocking, struct entrant *entrant) {
    for (size_t i = 0; i < entrant->place_count; i++) enter_heap(&entrant->places[i]);
    enter_wheel(blocking, entrant);
}

/* Behind a place that was kept others may have come to their turn. */
static void leave_parked(struct blocking *blocking, struct entrant *entrant) {
    for (size_t i = 0; i < entrant->place_count; i++) {
        leave_heap(&entrant->places[i]);
        if (entrant->waiter.has_ended) make_ready(blocking, entrant->places[i].queue);
    }
    leave_wheel(entrant);
}

static void free_entrant(struct blocking *blocking, struct entrant *entrant) {
    for (size_t i = 0; i < entrant->place_count; i++) {
        entrant->places[i].queue->places--;
        end_if_empty(blocking, entrant->places[i].queue);
    }
    blocking->bytes -= entrant->bytes;
    free(entrant);
}

/* Gives it a place at each of the keys. SK_OK, SK_ENOMEM. */
static int take_places(struct blocking_shard *at, struct entrant *entrant,
                       const struct blocking_request *request) {
    for (size_t i = 0; i < request->key_count; i++) {
        struct queue *queue = make_queue(at, request->keys[i], request->type);
        if (queue == NULL) return SK_ENOMEM;
        if (!reserve_place(queue)) {
            end_if_empty(at->blocking, queue);
            return SK_ENOMEM;
        }
        queue->places++;
        entrant->places[entrant->place_count++] = (struct place){.of = entrant, .queue = queue};
    }
    return SK_OK;
}

/* Whose place is kept for the request; NULL: nobody's. */
static struct entrant *find_followed(const struct blocking *blocking, const struct blocking_request *request) {
    struct waiter *before = blocking_find(blocking, request->session, request->item->follows);
    return before != NULL && before->has_ended ? entrant_of(before) : NULL;
}

bool blocking_has_elders(const struct blocking_shard *at, const struct blocking_request *request) {
    if (at->waiters == NULL) return false;
    const struct entrant *followed = find_followed(at->blocking, request);
    uint64_t since_us = followed != NULL ? followed->since_us : request->since_us;
    uint64_t turn = followed != NULL ? followed->turn : at->blocking->turns;
    for (size_t i = 0; i < request->key_count; i++) {
        const struct queue *queue = find_queue(at, request->keys[i], request->type);
        if (queue != NULL && queue->parked > 0 && is_elder(queue->heap[0]->of, since_us, turn)) return true;
    }
    return false;
}

int blocking_add(struct blocking_shard *at, const struct blocking_request *request, struct frame *frame,
                 struct waiter **waiter) {
    struct blocking *blocking = at->blocking;
    size_t bytes = bytes_of(request);
    if (blocking->names.count >= BLOCKING_WAITERS_MAX || blocking->bytes + bytes > BLOCKING_BYTES_MAX)
        return SK_BUSY;
    struct entrant *entrant = calloc(1, bytes);
    if (entrant == NULL) return SK_ENOMEM;
    uint8_t *behind = (uint8_t *)&entrant->places[request->key_count];
    entrant->bytes = bytes;
    entrant->session = request->session;
    entrant->since_us = request->since_us;
    entrant->turn = blocking->turns++;
    entrant->waiter = (struct waiter){.frame = frame,
                                      .item = *request->item,
                                      .at = at,
                                      .deadline_us = request->deadline_us,
                                      .in_log = request->in_log};
    entrant->waiter.item.id = copy_behind(&behind, request->item->id);
    entrant->waiter.item.body = copy_behind(&behind, request->item->body);
    blocking->bytes += bytes;
    if (take_places(at, entrant, request) != SK_OK) {
        free_entrant(blocking, entrant);
        return SK_ENOMEM;
    }
    table_add(&blocking->names, &entrant->node, hash_of_name(request->session, request->item->number));
    enter_shard(entrant);
    struct entrant *followed = find_followed(blocking, request);
    if (followed != NULL) {
        entrant->since_us = followed->since_us;
        entrant->turn = followed->turn;
        blocking_remove(blocking, &followed->waiter);
    }
    if (!request->in_log) enter_parked(blocking, entrant);
    *waiter = &entrant->waiter;
    return SK_OK;
}

/* It may have left for others what it was woken for. */
static void leave_log(struct blocking *blocking, struct entrant *entrant) {
    struct queue *queue = entrant->woken_for;
    if (queue == NULL) return;
    queue->in_log--;
    make_ready(blocking, queue);
    entrant->woken_for = NULL;
}

void blocking_remove(struct blocking *blocking, struct waiter *waiter) {
    struct entrant *entrant = entrant_of(waiter);
    if (waiter->in_log) leave_log(blocking, entrant);
    else leave_parked(blocking, entrant);
    leave_shard(entrant);
    table_remove(&blocking->names, &entrant->node);
    free_entrant(blocking, entrant);
}

/* Without memory, or with too many, the oldest are forgotten earlier. */
static void remember_ended(struct blocking *blocking, uint64_t session, uint64_t number, uint64_t now_us) {
    if (blocking->ended.count >= BLOCKING_ENDED_MAX) forget_first_ended(blocking);
    struct ended *ended = malloc(sizeof *ended);
    if (ended == NULL) return;
    *ended = (struct ended){.session = session, .number = number, .until_us = now_us + BLOCKING_ENDED_US};
    table_add(&blocking->ended, &ended->node, hash_of_name(session, number));
    if (blocking->ended_last != NULL) blocking->ended_last->after = ended;
    else blocking->ended_first = ended;
    blocking->ended_last = ended;
}

void blocking_end(struct blocking *blocking, struct waiter *waiter, uint64_t now_us) {
    remember_ended(blocking, entrant_of(waiter)->session, waiter->item.number, now_us);
    waiter->has_ended = true;
    blocking_move_deadline(blocking, waiter, now_us + BLOCKING_KEPT_US);
}

bool blocking_has_ended(const struct blocking *blocking, uint64_t session, uint64_t number) {
    uint64_t hash = hash_of_name(session, number);
    for (struct node *node = table_bucket(&blocking->ended, hash); node != NULL; node = node->next) {
        const struct ended *ended = (const struct ended *)node;
        if (ended->session == session && ended->number == number) return true;
    }
    return false;
}

void blocking_park(struct waiter *waiter) {
    struct blocking *blocking = waiter->at->blocking;
    struct entrant *entrant = entrant_of(waiter);
    sk_assert(waiter->in_log);
    leave_log(blocking, entrant);
    waiter->in_log = false;
    enter_parked(blocking, entrant);
}

void blocking_wake(struct blocking *blocking, struct waiter *waiter) {
    struct entrant *entrant = entrant_of(waiter);
    sk_assert(!waiter->in_log && blocking->ready_first != NULL);
    leave_parked(blocking, entrant);
    waiter->in_log = true;
    entrant->woken_for = blocking->ready_first;
    entrant->woken_for->in_log++;
}

void blocking_move_deadline(struct blocking *blocking, struct waiter *waiter, uint64_t deadline_us) {
    struct entrant *entrant = entrant_of(waiter);
    if (!waiter->in_log) leave_wheel(entrant);
    waiter->deadline_us = deadline_us;
    if (!waiter->in_log) enter_wheel(blocking, entrant);
}

struct waiter *blocking_next_parked(const struct blocking_shard *at) {
    for (struct waiter *waiter = at->waiters; waiter != NULL;) {
        if (!waiter->in_log) return waiter;
        struct entrant *after = entrant_of(waiter)->shard_after;
        waiter = after == NULL ? NULL : &after->waiter;
    }
    return NULL;
}
