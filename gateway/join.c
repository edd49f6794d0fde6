#include "gateway/join.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/mp.h"
#include "libcommon/wire.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#define COUNTERS_MAX           128u /* different names in the answers to INFO; more are left out */
#define COUNTER_NAME_BYTES_MAX 64u
#define INFO_BYTES_MAX         (COUNTERS_MAX * (COUNTER_NAME_BYTES_MAX + 32u) + 2048u)
#define MIXED_TEXT_BYTES       256u

static void answer(struct sub *sub, int err, struct slice result) {
    sub->answered = true;
    sub->err = err;
    sub->result = result;
}

static void answer_text(struct sub *sub, int err, const char *text) { answer(sub, err, slice_of_text(text)); }

/* An encoded value made here, copied into the arena. */
static void answer_buffer(struct sub *sub, struct arena *arena, struct buffer *buffer) {
    uint8_t *copy = buffer->failed ? NULL : arena_alloc(arena, buffer->size);
    if (copy == NULL) {
        bool writes = sub->command != NULL && (sub->command->flags & COMMAND_WRITE) != 0;
        answer_text(sub, writes ? SK_DONE : SK_OVERLOADED, "out of memory for the answer");
    } else {
        memcpy(copy, buffer->data, buffer->size);
        answer(sub, SK_OK, slice_of(copy, buffer->size));
    }
    buffer_deinit(buffer);
}

/* --- outcome ------------------------------------------------------------------------------------------------- */

static int outcome_of_reads(const struct sub *sub, struct slice *text) {
    for (uint32_t i = 0; i < sub->part_count; i++) {
        if (sub->parts[i].err == SK_OK) continue;
        *text = sub->parts[i].result;
        return sub->parts[i].err;
    }
    return SK_OK;
}

static int mixed(const struct part *refused, uint32_t happened, uint32_t count, struct arena *arena,
                 struct slice *text) {
    char *room = arena_alloc(arena, MIXED_TEXT_BYTES);
    if (room == NULL) {
        *text = slice_of_text("part of it happened");
        return SK_TIMEOUT;
    }
    int shown = refused->result.size > 120 ? 120 : (int)refused->result.size;
    (void)snprintf(room, MIXED_TEXT_BYTES, "part of it happened (%u of %u shards); shard %u answered %s: %.*s",
                   happened, count, refused->shard, error_name(refused->err), shown,
                   (const char *)refused->result.data);
    *text = slice_of_text(room);
    return SK_TIMEOUT;
}

static int outcome_of_writes(const struct sub *sub, struct arena *arena, struct slice *text) {
    uint32_t happened = 0;
    const struct part *unknown = NULL, *refused = NULL, *done = NULL;
    for (uint32_t i = 0; i < sub->part_count; i++) {
        const struct part *part = &sub->parts[i];
        enum sk_outcome outcome = part->err == SK_OK ? SK_HAPPENED : error_outcome(part->err);
        if (outcome == SK_HAPPENED) {
            happened++;
            if (part->err != SK_OK) done = part;
        } else if (outcome == SK_UNKNOWN) {
            /* TIMEOUT before the other codes that leave it open: it is the one that clients know best */
            if (unknown == NULL || part->err == SK_TIMEOUT) unknown = part;
        } else if (refused == NULL) {
            refused = part;
        }
    }
    if (unknown != NULL) {
        *text = unknown->result;
        return unknown->err;
    }
    if (refused != NULL) {
        if (happened > 0) return mixed(refused, happened, sub->part_count, arena, text);
        *text = refused->result;
        return refused->err;
    }
    if (done != NULL) {
        *text = done->result;
        return done->err;
    }
    return SK_OK;
}

int join_outcome(const struct sub *sub, struct arena *arena, struct slice *text) {
    bool writes = (sub->parts[0].flags & REQUEST_WRITE) != 0;
    return writes ? outcome_of_writes(sub, arena, text) : outcome_of_reads(sub, text);
}

/* --- joining ------------------------------------------------------------------------------------------------- */

static void nonsense(struct sub *sub) {
    answer_text(sub, SK_INTERNAL, "the answers of the shards do not fit together");
}

static void join_sum(struct sub *sub, struct arena *arena) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < sub->part_count; i++) {
        struct mp_reader reader = mp_reader_of(sub->parts[i].result);
        uint64_t number;
        if (mp_read_uint(&reader, &number) != SK_OK) {
            nonsense(sub);
            return;
        }
        sum += number;
    }
    struct buffer buffer;
    buffer_init(&buffer);
    mp_write_uint(&buffer, sum);
    answer_buffer(sub, arena, &buffer);
}

static void join_positions(struct sub *sub, struct arena *arena) {
    struct mp_reader *readers = arena_alloc(arena, sub->part_count * sizeof *readers);
    if (readers == NULL) {
        answer_text(sub, SK_OVERLOADED, "out of memory for the answer");
        return;
    }
    size_t bytes = 5;
    for (uint32_t i = 0; i < sub->part_count; i++) {
        uint32_t count;
        readers[i] = mp_reader_of(sub->parts[i].result);
        if (mp_read_array(&readers[i], &count) != SK_OK) {
            nonsense(sub);
            return;
        }
        bytes += sub->parts[i].result.size;
    }
    if (bytes > MESSAGE_BYTES_MAX) {
        answer_text(sub, SK_TOOLARGE, "the answer is larger than a message may be");
        return;
    }
    struct buffer buffer;
    buffer_init(&buffer);
    mp_write_array(&buffer, sub->key_count);
    for (uint32_t i = 0; i < sub->key_count; i++) {
        struct slice value;
        if (mp_skip(&readers[sub->key_parts[i]], &value) != SK_OK) {
            buffer_deinit(&buffer);
            nonsense(sub);
            return;
        }
        mp_write_raw(&buffer, value);
    }
    answer_buffer(sub, arena, &buffer);
}

struct counter {
    struct slice name;
    uint64_t value;
};

struct counters {
    struct counter all[COUNTERS_MAX];
    uint32_t count;
};

static void add_counter(struct counters *counters, struct slice name, uint64_t value) {
    for (uint32_t i = 0; i < counters->count; i++) {
        if (!slice_equal(counters->all[i].name, name)) continue;
        counters->all[i].value += value;
        return;
    }
    if (counters->count == COUNTERS_MAX || name.size > COUNTER_NAME_BYTES_MAX) return;
    counters->all[counters->count++] = (struct counter){.name = name, .value = value};
}

static int add_counters(struct counters *counters, struct slice map) {
    struct mp_reader reader = mp_reader_of(map);
    uint32_t count;
    if (mp_read_map(&reader, &count) != SK_OK) return SK_EPROTO;
    for (uint32_t i = 0; i < count; i++) {
        struct slice name;
        struct mp_value value;
        if (mp_read_bytes(&reader, &name) != SK_OK || mp_read(&reader, &value) != SK_OK) return SK_EPROTO;
        if (value.type == MP_UINT) add_counter(counters, name, value.uint);
    }
    return SK_OK;
}

struct text {
    char *at, *end;
};

__attribute__((format(printf, 2, 3))) static void add_text(struct text *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int bytes = vsnprintf(text->at, (size_t)(text->end - text->at), format, arguments);
    va_end(arguments);
    if (bytes > 0 && bytes < text->end - text->at) text->at += bytes;
}

static bool is_word(struct slice word, const char *text) {
    return word.size == strlen(text) && strncasecmp((const char *)word.data, text, word.size) == 0;
}

/* Whether INFO's arguments ask for this section: none asks for all. */
static bool wants(const struct sub *sub, const char *section) {
    struct mp_reader reader = mp_reader_of(sub->params);
    uint32_t count;
    if (mp_read_array(&reader, &count) != SK_OK || count == 0) return true;
    for (uint32_t i = 0; i < count; i++) {
        struct slice name;
        if (mp_read_bytes(&reader, &name) != SK_OK) return false;
        if (is_word(name, section)) return true;
        if (is_word(name, "all") || is_word(name, "everything") || is_word(name, "default")) return true;
    }
    return false;
}

static uint64_t counter_of(const struct counters *counters, const char *name) {
    for (uint32_t i = 0; i < counters->count; i++) {
        if (slice_equal(counters->all[i].name, slice_of_text(name))) return counters->all[i].value;
    }
    return 0;
}

static void add_keyspace(struct text *text, const struct counters *counters) {
    uint64_t keys = counter_of(counters, "keys");
    add_text(text, "# Keyspace\r\n");
    if (keys > 0) {
        add_text(text, "db0:keys=%" PRIu64 ",expires=%" PRIu64 ",avg_ttl=0\r\n", keys,
                 counter_of(counters, "expires"));
    }
    for (uint32_t i = 0; i < counters->count; i++) {
        const struct counter *counter = &counters->all[i];
        add_text(text, "%.*s:%" PRIu64 "\r\n", (int)counter->name.size, (const char *)counter->name.data,
                 counter->value);
    }
}

/* Sections and names are Redis's where they mean the same here: its clients and tools look for them. */
static void add_info(struct text *text, const struct sub *sub, const struct counters *counters,
                     const struct gateway_facts *facts) {
    if (wants(sub, "server")) {
        add_text(text,
                 "# Server\r\nredis_version:" REDIS_VERSION "\r\nredis_mode:standalone\r\nskerry_version:%s\r\n"
                 "uptime_in_seconds:%" PRIu64 "\r\nuptime_in_days:%" PRIu64 "\r\n\r\n",
                 SKERRY_VERSION, facts->uptime_s, facts->uptime_s / 86400u);
    }
    if (wants(sub, "clients")) {
        add_text(text,
                 "# Clients\r\nconnected_clients:%" PRIu64 "\r\nblocked_clients:%" PRIu64 "\r\n"
                 "requests_in_flight:%" PRIu64 "\r\n\r\n",
                 facts->connections, facts->requests_waiting, facts->requests_in_flight);
    }
    if (wants(sub, "memory")) {
        add_text(text,
                 "# Memory\r\nused_memory_dataset:%" PRIu64
                 "\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n\r\n",
                 counter_of(counters, "key_bytes") + counter_of(counters, "value_bytes"));
    }
    if (wants(sub, "persistence")) add_text(text, "# Persistence\r\nloading:0\r\naof_enabled:1\r\n\r\n");
    if (wants(sub, "stats")) {
        add_text(text,
                 "# Stats\r\ntotal_requests_processed:%" PRIu64 "\r\ntotal_commands_processed:%" PRIu64 "\r\n\r\n",
                 facts->requests, facts->commands);
    }
    if (wants(sub, "replication")) add_text(text, "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n\r\n");
    if (wants(sub, "cluster")) {
        add_text(text,
                 "# Cluster\r\ncluster_enabled:0\r\nmap_version:%" PRIu64 "\r\nshards:%u\r\nnodes:%u\r\n\r\n",
                 facts->map_version, facts->shards, facts->nodes);
    }
    if (wants(sub, "keyspace")) add_keyspace(text, counters);
}

static void join_info(struct sub *sub, struct arena *arena, const struct gateway_facts *facts) {
    struct counters counters = {.count = 0};
    for (uint32_t i = 0; i < sub->part_count; i++) {
        if (add_counters(&counters, sub->parts[i].result) == SK_OK) continue;
        nonsense(sub);
        return;
    }
    char room[INFO_BYTES_MAX];
    room[0] = 0;
    struct text text = {.at = room, .end = room + sizeof room};
    add_info(&text, sub, &counters, facts);
    struct buffer buffer;
    buffer_init(&buffer);
    mp_write_bin(&buffer, slice_of(room, (size_t)(text.at - room)));
    answer_buffer(sub, arena, &buffer);
}

void join_answer(struct sub *sub, struct arena *arena, const struct gateway_facts *facts) {
    sk_assert(sub->part_count > 0 && sub->parts_left == 0);
    const struct part *first = &sub->parts[0];
    enum command_join join = sub->command == NULL ? JOIN_NONE : sub->command->join;
    if (sub->part_count == 1 && join != JOIN_INFO) {
        answer(sub, first->err, first->result);
        return;
    }
    struct slice text = {0};
    int err = join_outcome(sub, arena, &text);
    if (err != SK_OK) {
        answer(sub, err, text);
        return;
    }
    switch (join) {
    case JOIN_NONE:
    case JOIN_STATUS:
        answer(sub, SK_OK, first->result);
        break;
    case JOIN_SUM:
        join_sum(sub, arena);
        break;
    case JOIN_POSITIONS:
        join_positions(sub, arena);
        break;
    case JOIN_INFO:
        join_info(sub, arena, facts);
        break;
    }
}
