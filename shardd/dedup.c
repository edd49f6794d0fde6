#include "shardd/dedup.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/plant.h"
#include "shardd/keyspace.h"

#include <endian.h>
#include <stdlib.h>

/* A gateway lives at most TIMEOUT_MS_MAX with a request; one that has written nothing for this long of log time sends
 * none of its old numbers again. */
#define SESSION_IDLE_US (10ull * 60 * 1000000)
#define INLINE_BYTES    16

/* Results by number, ascending; nearly always appended at the end. */
struct numbered {
    uint64_t number;
    int32_t err;
    uint32_t size;
    union {
        uint8_t inlined[INLINE_BYTES]; /* size <= INLINE_BYTES */
        uint8_t *heap;                 /* owned */
    };
};

struct session {
    uint64_t id;
    uint64_t floor;
    uint64_t last_us;
    struct numbered *results; /* owned; [head, tail) are in use */
    size_t head, tail, capacity;
};

struct dedup {
    struct kv *kv;
    struct session *sessions; /* owned */
    size_t session_count, session_capacity;
    uint64_t id_count;
    uint64_t next_expiry_us; /* not above the oldest id's; UINT64_MAX = none */
    struct buffer scratch;
};

int dedup_new(struct dedup **dedup, struct kv *kv) {
    struct dedup *made = calloc(1, sizeof *made);
    if (made == NULL) return SK_ENOMEM;
    made->kv = kv;
    made->next_expiry_us = UINT64_MAX;
    *dedup = made;
    return SK_OK;
}

static void numbered_deinit(struct numbered *result) {
    if (result->size > INLINE_BYTES) free(result->heap);
}

static void session_deinit(struct session *session) {
    for (size_t i = session->head; i < session->tail; i++) numbered_deinit(&session->results[i]);
    free(session->results);
}

void dedup_free(struct dedup *dedup) {
    if (dedup == NULL) return;
    for (size_t i = 0; i < dedup->session_count; i++) session_deinit(&dedup->sessions[i]);
    free(dedup->sessions);
    buffer_deinit(&dedup->scratch);
    free(dedup);
}

/* ---- gateway names ---- */

static struct session *find_session(const struct dedup *dedup, uint64_t id) {
    for (size_t i = 0; i < dedup->session_count; i++) {
        if (dedup->sessions[i].id == id) return &dedup->sessions[i];
    }
    return NULL;
}

static struct session *add_session(struct dedup *dedup, uint64_t id) {
    if (dedup->session_count == dedup->session_capacity) {
        size_t capacity = dedup->session_capacity == 0 ? 4 : dedup->session_capacity * 2;
        struct session *grown = realloc(dedup->sessions, capacity * sizeof *grown);
        if (grown == NULL) return NULL;
        dedup->sessions = grown;
        dedup->session_capacity = capacity;
    }
    struct session *session = &dedup->sessions[dedup->session_count++];
    *session = (struct session){.id = id};
    return session;
}

/* The first position whose number is not below `number`. */
static size_t lower_bound(const struct session *session, uint64_t number) {
    size_t low = session->head, high = session->tail;
    if (high > low && session->results[high - 1].number < number) return high;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (session->results[middle].number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void raise_floor(struct session *session, uint64_t floor) {
    if (floor <= session->floor) return;
    session->floor = floor;
    while (session->head < session->tail && session->results[session->head].number < floor) {
        numbered_deinit(&session->results[session->head++]);
    }
    if (session->head == session->tail) session->head = session->tail = 0;
}

/* Room for one more behind the tail, by moving to the front or growing. */
static bool make_room(struct session *session) {
    if (session->tail < session->capacity) return true;
    size_t used = session->tail - session->head;
    if (session->head >= session->capacity / 2 && session->head > 0) {
        memmove(session->results, session->results + session->head, used * sizeof *session->results);
    } else {
        size_t capacity = session->capacity == 0 ? 16 : session->capacity * 2;
        struct numbered *grown = malloc(capacity * sizeof *grown);
        if (grown == NULL) return false;
        if (used > 0) memcpy(grown, session->results + session->head, used * sizeof *grown);
        free(session->results);
        session->results = grown;
        session->capacity = capacity;
    }
    session->head = 0;
    session->tail = used;
    return true;
}

static int insert_result(struct session *session, uint64_t number, int err, struct slice body) {
    struct numbered result = {.number = number, .err = err, .size = (uint32_t)body.size};
    if (body.size <= INLINE_BYTES) {
        if (body.size > 0) memcpy(result.inlined, body.data, body.size);
    } else {
        result.heap = malloc(body.size);
        if (result.heap == NULL) return SK_ENOMEM;
        memcpy(result.heap, body.data, body.size);
    }
    if (!make_room(session)) {
        numbered_deinit(&result);
        return SK_ENOMEM;
    }
    size_t at = lower_bound(session, number);
    sk_assert(at == session->tail || session->results[at].number != number);
    memmove(&session->results[at + 1], &session->results[at], (session->tail - at) * sizeof result);
    session->results[at] = result;
    session->tail++;
    return SK_OK;
}

static int find_number(const struct dedup *dedup, const struct entry_name *name, struct dedup_result *result) {
    const struct session *session = find_session(dedup, name->session);
    if (session == NULL) return SK_NOT_FOUND;
    if (name->number < session->floor) return SK_FORGOTTEN;
    size_t at = lower_bound(session, name->number);
    if (at == session->tail || session->results[at].number != name->number) return SK_NOT_FOUND;
    const struct numbered *found = &session->results[at];
    result->err = found->err;
    result->body = slice_of(found->size <= INLINE_BYTES ? found->inlined : found->heap, found->size);
    return SK_OK;
}

static void forget_idle_session(struct dedup *dedup, uint64_t time_us) {
    for (size_t i = 0; i < dedup->session_count; i++) {
        struct session *session = &dedup->sessions[i];
        if (time_us < session->last_us + SESSION_IDLE_US) continue;
        session_deinit(session);
        *session = dedup->sessions[--dedup->session_count];
        dedup->sessions[dedup->session_count] = (struct session){0};
        return;
    }
}

static int store_number(struct dedup *dedup, const struct entry_name *name, uint64_t time_us, int err,
                        struct slice body) {
    struct session *session = find_session(dedup, name->session);
    if (session == NULL) {
        forget_idle_session(dedup, time_us);
        session = add_session(dedup, name->session);
    }
    if (session == NULL) return SK_ENOMEM;
    session->last_us = time_us;
    raise_floor(session, name->floor);
    return insert_result(session, name->number, err, body);
}

/* ---- client ids: record = expires_us u64, err i32, result ---- */

struct id_key {
    uint8_t bytes[2 + 8 + ID_BYTES_MAX + 4];
    size_t size;
};

static void id_key_init(struct id_key *key, const struct entry_name *name) {
    uint32_t part = htobe32(name->id_part);
    uint8_t *at = key->bytes;
    *at++ = RECORD_NAME;
    *at++ = (uint8_t)name->id.size;
    memcpy(at, name->id.data, name->id.size);
    at += name->id.size;
    memcpy(at, &part, sizeof part);
    key->size = (size_t)(at - key->bytes) + sizeof part;
}

/* The record that finds `id_key` by age: kind, time big-endian, the key without its kind. */
/* The first key that an id of that age may have. */
static void age_key_start(struct id_key *key, uint64_t expires_us) {
    uint64_t ordered = htobe64(expires_us);
    key->bytes[0] = RECORD_NAME_ORDER;
    memcpy(key->bytes + 1, &ordered, sizeof ordered);
    key->size = 9;
}

static void age_key_init(struct id_key *key, uint64_t expires_us, const uint8_t *id_key, size_t id_key_bytes) {
    age_key_start(key, expires_us);
    memcpy(key->bytes + key->size, id_key + 1, id_key_bytes - 1);
    key->size += id_key_bytes - 1;
}

static int find_id(struct dedup *dedup, const struct entry_name *name, uint64_t time_us,
                   struct dedup_result *result) {
    struct id_key key;
    struct slice value;
    id_key_init(&key, name);
    int err = kv_get(dedup->kv, slice_of(key.bytes, key.size), &value);
    if (err != SK_OK) return err;
    uint64_t expires_us;
    int32_t stored;
    if (value.size < sizeof expires_us + sizeof stored) return SK_ECORRUPT;
    memcpy(&expires_us, value.data, sizeof expires_us);
    memcpy(&stored, value.data + sizeof expires_us, sizeof stored);
    if (expires_us <= time_us) return SK_NOT_FOUND; /* after the window an id is new */
    size_t head = sizeof expires_us + sizeof stored;
    result->err = stored;
    result->body = slice_of(value.data + head, value.size - head);
    return SK_OK;
}

/* Removes what an id left behind whose window is over, if it is used again before it was swept. */
static int remove_old_id(struct dedup *dedup, const struct id_key *key) {
    struct slice value;
    int err = kv_get(dedup->kv, slice_of(key->bytes, key->size), &value);
    if (err == SK_NOT_FOUND) return SK_OK;
    if (err != SK_OK) return err;
    if (value.size < sizeof(uint64_t)) return SK_ECORRUPT;
    uint64_t expires_us;
    struct id_key age;
    memcpy(&expires_us, value.data, sizeof expires_us);
    age_key_init(&age, expires_us, key->bytes, key->size);
    dedup->id_count--;
    return kv_del(dedup->kv, slice_of(age.bytes, age.size));
}

static int store_id(struct dedup *dedup, const struct entry_name *name, uint64_t time_us, int err,
                    struct slice body) {
    struct id_key key, age;
    uint64_t expires_us = time_us + (uint64_t)name->window_ms * 1000;
    int32_t stored = err;
    id_key_init(&key, name);
    age_key_init(&age, expires_us, key.bytes, key.size);
    int fault = remove_old_id(dedup, &key);
    if (fault != SK_OK) return fault;

    buffer_clear(&dedup->scratch, RESULT_KEPT_BYTES_MAX + 64);
    buffer_append(&dedup->scratch, &expires_us, sizeof expires_us);
    buffer_append(&dedup->scratch, &stored, sizeof stored);
    buffer_append(&dedup->scratch, body.data, body.size);
    if (dedup->scratch.failed) return SK_ENOMEM;
    fault = kv_put(dedup->kv, slice_of(key.bytes, key.size), buffer_slice(&dedup->scratch));
    if (fault == SK_OK) fault = kv_put(dedup->kv, slice_of(age.bytes, age.size), slice_of(NULL, 0));
    if (fault != SK_OK) return fault;
    dedup->id_count++;
    if (expires_us < dedup->next_expiry_us) dedup->next_expiry_us = expires_us;
    return dedup_sweep(dedup, time_us, 2);
}

/* The oldest id's age key; SK_NOT_FOUND if there is none. Copied, since no iterator lives across a change. Looked for from
 * where it may be: before that lies what was removed, which may be a lot until a checkpoint takes it away. */
static int oldest_id(struct dedup *dedup, struct id_key *age, uint64_t *expires_us) {
    struct id_key from;
    struct kv_iter *iter;
    struct slice key, value;
    age_key_start(&from, dedup->next_expiry_us);
    int err = kv_iter_open(dedup->kv, slice_of(from.bytes, from.size), &iter);
    if (err != SK_OK) return err;
    err = kv_iter_next(iter, &key, &value);
    if (err == SK_OK && key.data[0] != RECORD_NAME_ORDER) err = SK_NOT_FOUND;
    if (err == SK_OK && (key.size < 9 + 5 || key.size > sizeof age->bytes)) err = SK_ECORRUPT;
    if (err == SK_OK) {
        uint64_t ordered;
        memcpy(&ordered, key.data + 1, sizeof ordered);
        *expires_us = be64toh(ordered);
        memcpy(age->bytes, key.data, key.size);
        age->size = key.size;
    }
    kv_iter_close(iter);
    return err;
}

int dedup_sweep(struct dedup *dedup, uint64_t time_us, uint32_t limit) {
    for (uint32_t removed = 0; dedup->next_expiry_us <= time_us; removed++) {
        struct id_key age, key;
        uint64_t expires_us;
        int err = oldest_id(dedup, &age, &expires_us);
        if (err == SK_NOT_FOUND) {
            dedup->next_expiry_us = UINT64_MAX;
            return SK_OK;
        }
        if (err != SK_OK) return err;
        dedup->next_expiry_us = expires_us;
        if (expires_us > time_us || removed == limit) return SK_OK;

        key.bytes[0] = RECORD_NAME;
        key.size = age.size - 8;
        memcpy(key.bytes + 1, age.bytes + 9, key.size - 1);
        err = kv_del(dedup->kv, slice_of(age.bytes, age.size));
        if (err == SK_OK) err = kv_del(dedup->kv, slice_of(key.bytes, key.size));
        if (err != SK_OK) return err;
        sk_assert(dedup->id_count > 0);
        dedup->id_count--;
    }
    return SK_OK;
}

/* ---- both ---- */

int dedup_find(struct dedup *dedup, const struct entry_name *name, uint64_t time_us, struct dedup_result *result) {
    return name->id.size > 0 ? find_id(dedup, name, time_us, result) : find_number(dedup, name, result);
}

int dedup_store(struct dedup *dedup, const struct entry_name *name, uint64_t time_us, int err, struct slice body) {
    if (body.size > RESULT_KEPT_BYTES_MAX) {
        err = SK_DONE;
        body = slice_of(NULL, 0);
    }
    return name->id.size > 0 ? store_id(dedup, name, time_us, err, body)
                             : store_number(dedup, name, time_us, err, body);
}

uint64_t dedup_id_count(const struct dedup *dedup) { return dedup->id_count; }

uint64_t dedup_next_expiry_us(const struct dedup *dedup) { return dedup->next_expiry_us; }

/* ---- the shard's record ---- */

static void put_u64(struct buffer *buffer, uint64_t number) { buffer_append(buffer, &number, sizeof number); }

void dedup_save(const struct dedup *dedup, struct buffer *buffer) {
    size_t session_count = PLANTED(NAMES_APART) ? 0 : dedup->session_count;
    put_u64(buffer, dedup->id_count);
    put_u64(buffer, session_count);
    for (size_t i = 0; i < session_count; i++) {
        const struct session *session = &dedup->sessions[i];
        put_u64(buffer, session->id);
        put_u64(buffer, session->floor);
        put_u64(buffer, session->last_us);
        put_u64(buffer, session->tail - session->head);
        for (size_t j = session->head; j < session->tail; j++) {
            const struct numbered *result = &session->results[j];
            put_u64(buffer, result->number);
            put_u64(buffer, (uint64_t)(uint32_t)result->err << 32 | result->size);
            buffer_append(buffer, result->size <= INLINE_BYTES ? result->inlined : result->heap, result->size);
        }
    }
}

static bool take_u64(struct slice *rest, uint64_t *number) {
    if (rest->size < sizeof *number) return false;
    memcpy(number, rest->data, sizeof *number);
    *rest = slice_of(rest->data + sizeof *number, rest->size - sizeof *number);
    return true;
}

static int load_session(struct dedup *dedup, struct slice *rest) {
    uint64_t id, floor, last_us, count;
    if (!take_u64(rest, &id) || !take_u64(rest, &floor) || !take_u64(rest, &last_us) || !take_u64(rest, &count)) {
        return SK_ECORRUPT;
    }
    struct session *session = add_session(dedup, id);
    if (session == NULL) return SK_ENOMEM;
    session->floor = floor;
    session->last_us = last_us;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t number, err_and_size;
        if (!take_u64(rest, &number) || !take_u64(rest, &err_and_size)) return SK_ECORRUPT;
        uint32_t size = (uint32_t)err_and_size;
        if (size > rest->size || size > RESULT_KEPT_BYTES_MAX) return SK_ECORRUPT;
        size_t used = session->tail - session->head;
        if (used > 0 && session->results[session->tail - 1].number >= number) return SK_ECORRUPT;
        int err = insert_result(session, number, (int)(err_and_size >> 32), slice_of(rest->data, size));
        if (err != SK_OK) return err;
        *rest = slice_of(rest->data + size, rest->size - size);
    }
    return SK_OK;
}

int dedup_load(struct dedup *dedup, struct slice saved) {
    uint64_t id_count, session_count;
    if (!take_u64(&saved, &id_count) || !take_u64(&saved, &session_count)) return SK_ECORRUPT;
    for (uint64_t i = 0; i < session_count; i++) {
        int err = load_session(dedup, &saved);
        if (err != SK_OK) return err;
    }
    if (saved.size != 0) return SK_ECORRUPT;
    dedup->id_count = id_count;
    dedup->next_expiry_us = id_count > 0 ? 0 : UINT64_MAX; /* the next sweep finds the oldest */
    return SK_OK;
}
