/* Random entries of a shard's log, for tests of what executes them: writes of all types, of few keys and of short, long, empty and
 * binary names, alone and in batches; sweeps; and reads, which are not of a log. The environment's SEED repeats a run. */
#pragma once

#include "libcommon/mp.h"
#include "shardd/element.h"
#include "shardd/exec.h"
#include "shardd/keyspace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static unsigned seed;
static inline void draw_seed(void) {
    const char *given = getenv("SEED");
    seed = given != NULL ? (unsigned)atoi(given) : (unsigned)time(NULL);
    print_message("SEED=%u\n", seed);
}

static inline uint32_t draw(uint32_t limit) { return (uint32_t)rand_r(&seed) % limit; }

enum entry_kind { ENTRY_WRITE, ENTRY_BATCH, ENTRY_EXEC, ENTRY_SWEEP, ENTRY_READ };

struct logged {
    enum entry_kind kind;
    struct exec_moment moment;
    struct buffer body;
    uint32_t limit; /* of a sweep */
};

/* K a key, M a member, B one behind '[', V a value, I an integer, U one that is not negative, S a score, T milliseconds,
 * O an offset, ? a bit, * some members, & pairs of a score and a member, % pairs of a member and a value; other words as they
 * are. The first letter is that of the family, whose keys are mostly drawn. */
static const char *const writes[] = {
    "s SET K V",
    "s SET K V PX T",
    "s SET K V KEEPTTL",
    "s SET K V NX",
    "s SET K V XX GET",
    "s GETSET K V",
    "s GETDEL K",
    "s GETEX K PX T",
    "s MSET K V K V K V",
    "s APPEND K V",
    "s SETRANGE K O V",
    "s INCRBY K I",
    "s INCRBYFLOAT K S",
    "s CAS K V V",
    "b SETBIT K O ?",
    "b SETBIT K O ?",
    "b BITOP AND K K K",
    "b BITOP XOR K K K",
    "b BITOP NOT K K",
    "b BITFIELD K SET u7 O U INCRBY i9 O I GET u13 O",
    "b PEXPIRE K T",
    "p PFADD K * M",
    "p PFMERGE K K K",
    "h HSET K M V M V",
    "h HSET K %",
    "h HSETNX K M V",
    "h HDEL K M M M M M M",
    "h HDEL K *",
    "h HINCRBY K M I",
    "h HINCRBYFLOAT K M S",
    "h PEXPIRE K T",
    "e SADD K M M M M",
    "e SADD K *",
    "e SREM K M M M M",
    "e SREM K *",
    "e SPOP K",
    "e SPOP K U",
    "e SMOVE K K M",
    "e SINTERSTORE K K K",
    "e SUNIONSTORE K K K",
    "e SDIFFSTORE K K K",
    "e SORT K ALPHA STORE K",
    "e PEXPIRE K T",
    "l LPUSH K M M V",
    "l RPUSH K *",
    "l RPUSHX K M",
    "l LPOP K",
    "l RPOP K U",
    "l LMPOP 2 K K LEFT COUNT U",
    "l LMOVE K K LEFT RIGHT",
    "l RPOPLPUSH K K",
    "l LSET K I V",
    "l BLPOP K K 0",
    "l BLMOVE K K RIGHT LEFT 1",
    "l LINSERT K BEFORE M V",
    "l LINSERT K AFTER M V",
    "l LREM K I M",
    "l LTRIM K U I",
    "l SORT K ALPHA DESC STORE K",
    "l PEXPIRE K T",
    "z ZADD K S M S M S M",
    "z ZADD K &",
    "z ZADD K GT CH S M S M",
    "z ZINCRBY K S M",
    "z ZREM K M M M",
    "z ZREM K *",
    "z ZRANGESTORE K K U I",
    "z ZREMRANGEBYRANK K U U",
    "z ZREMRANGEBYSCORE K S S",
    "z ZREMRANGEBYLEX K B B",
    "z ZPOPMIN K U",
    "z ZPOPMAX K",
    "z ZMPOP 2 K K MAX COUNT U",
    "z ZUNIONSTORE K 2 K K WEIGHTS S S",
    "z ZINTERSTORE K 3 K K K AGGREGATE MAX",
    "z ZDIFFSTORE K 2 K K",
    "z PEXPIRE K T",
    "a DEL K",
    "a DEL K K K",
    "a RENAME K K",
    "a RENAMENX K K",
    "a COPY K K",
    "a COPY K K REPLACE",
    "a PEXPIRE K T",
    "a PERSIST K",
    "a SET K V",
};

static const char *const reads[] = {
    "s GET K",
    "s MGET K K K",
    "s GETRANGE K U O",
    "s STRLEN K",
    "b BITCOUNT K",
    "b BITPOS K ?",
    "b GETBIT K O",
    "b BITFIELD_RO K GET u9 O",
    "p PFCOUNT K K",
    "h HGETALL K",
    "h HMGET K M M M",
    "h HRANDFIELD K I WITHVALUES",
    "h HSCAN K 0 COUNT 7",
    "e SMEMBERS K",
    "e SRANDMEMBER K I",
    "e SINTER K K",
    "e SUNION K K",
    "e SDIFF K K",
    "e SINTERCARD 2 K K",
    "e SSCAN K 0 COUNT 7",
    "l LRANGE K U I",
    "l LPOS K M COUNT 0",
    "l LINDEX K I",
    "l SORT_RO K ALPHA",
    "z ZRANGE K 0 -1 WITHSCORES",
    "z ZRANGEBYSCORE K S S LIMIT U 5",
    "z ZREVRANGEBYLEX K B B",
    "z ZRANK K M",
    "z ZSCAN K 0 COUNT 7",
    "z ZCOUNT K S S",
    "z ZRANDMEMBER K I WITHSCORES",
    "z ZINTER 2 K K WITHSCORES",
    "a TYPE K",
    "a PTTL K",
    "a OBJECT ENCODING K",
    "a SCAN 0 COUNT 12",
    "a EXISTS K K K",
    "a INFO",
};

static inline void add_text(struct buffer *params, const char *text) { mp_write_bin(params, slice_of_text(text)); }

static inline void add_number(struct buffer *params, int64_t number) {
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)number);
    add_text(params, text);
}

/* `start`, made long by a run of one letter, and a number: short ones are but start and number. */
static inline void add_name(struct buffer *params, const char *start, size_t run, uint32_t number) {
    struct buffer name;
    char text[16];
    buffer_init(&name);
    buffer_append(&name, start, strlen(start));
    uint8_t *room = buffer_extend(&name, run);
    if (room != NULL) memset(room, 'x', run);
    snprintf(text, sizeof text, "%u", number);
    buffer_append(&name, text, strlen(text));
    mp_write_bin(params, buffer_slice(&name));
    buffer_deinit(&name);
}

static inline char draw_family(void) { return "sbphelz"[draw(7)]; }

static inline void add_key(struct buffer *params, char family) {
    char start[8];
    if (draw(20) == 0) family = draw_family();
    snprintf(start, sizeof start, "{a}%c", family);
    add_name(params, start, draw(8) == 0 ? KEYSPACE_KEY_INLINE_MAX + 20 : 0, draw(4));
}

static inline void add_member(struct buffer *params, const char *start) {
    switch (draw(12)) {
    case 0:
        add_text(params, start);
        return;
    case 1:
        add_name(params, start, ELEMENT_NAME_INLINE_MAX + 20, draw(12));
        return;
    case 2:
        add_number(params, draw(10));
        return;
    default:
        add_name(params, start, 0, draw(40));
    }
}

static inline void add_value(struct buffer *params) {
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    if (draw(4) == 0) add_number(params, (int64_t)draw(1000) - 500);
    else if (draw(40) == 0) add_name(params, "", 3000 + draw(6000), draw(10));
    else if (draw(8) == 0) mp_write_bin(params, slice_of("\0\xff\0\x80\r\n", draw(7)));
    else mp_write_bin(params, slice_of(letters + draw(20), draw(16)));
}

static inline void add_score(struct buffer *params) {
    static const char *const scores[] = {"0", "-0", "1", "-1.5", "inf", "-inf", "1e300", "3.0e-5", "17", "0.1"};
    if (draw(3) == 0) add_number(params, draw(40));
    else add_text(params, scores[draw(sizeof scores / sizeof scores[0])]);
}

/* A word of a template; returns how many words of the command it has become. */
static inline uint32_t add_word(struct buffer *params, char family, const char *word) {
    uint32_t first = draw(300), some = draw(3) == 0 ? 90 + draw(200) : 1 + draw(12);
    switch (word[1] != '\0' ? '\0' : word[0]) {
    case 'K':
        add_key(params, family);
        return 1;
    case 'M':
        add_member(params, "m");
        return 1;
    case 'B':
        add_member(params, "[m");
        return 1;
    case 'V':
        add_value(params);
        return 1;
    case 'I':
        add_number(params, (int64_t)draw(30) - 15);
        return 1;
    case 'U':
        add_number(params, draw(20));
        return 1;
    case 'S':
        add_score(params);
        return 1;
    case 'T':
        add_number(params, 1 + draw(2000));
        return 1;
    case 'O':
        add_number(params, draw(4) == 0 ? draw(200000) : draw(300));
        return 1;
    case '?':
        add_number(params, draw(2));
        return 1;
    case '*':
        for (uint32_t i = 0; i < some; i++) add_name(params, "m", 0, first + i);
        return some;
    case '&':
        for (uint32_t i = 0; i < some; i++) {
            add_score(params);
            add_name(params, "m", 0, first + i);
        }
        return 2 * some;
    case '%':
        for (uint32_t i = 0; i < some; i++) {
            add_name(params, "m", 0, first + i);
            add_value(params);
        }
        return 2 * some;
    default:
        add_text(params, word);
        return 1;
    }
}

/* [method, params] without the head of a pair, as a body has it. */
static inline void add_command(struct buffer *body, const char *template) {
    char line[128], *rest = line;
    struct buffer params;
    uint32_t count = 0;
    char family = template[0] == 'a' ? draw_family() : template[0];
    buffer_init(&params);
    snprintf(line, sizeof line, "%s", template + 2);
    mp_write_text(body, strtok_r(line, " ", &rest));
    for (char *word; (word = strtok_r(NULL, " ", &rest)) != NULL;) count += add_word(&params, family, word);
    mp_write_array(body, count);
    mp_write_raw(body, buffer_slice(&params));
    buffer_deinit(&params);
}

#define DRAWN(templates) templates[draw(sizeof templates / sizeof templates[0])]

static inline void make_entry(struct logged *entry, uint64_t *time_us) {
    uint32_t what = draw(20);
    *time_us += draw(3) == 0 ? draw(60000) : 0;
    *entry = (struct logged){.kind = what == 0   ? ENTRY_SWEEP
                                     : what < 3  ? ENTRY_BATCH
                                     : what < 5  ? ENTRY_EXEC
                                     : what < 10 ? ENTRY_READ
                                                 : ENTRY_WRITE,
                             .moment = {.time_us = *time_us, .chance = draw(1u << 30)},
                             .limit = 1 + draw(100)};
    buffer_init(&entry->body);
    if (entry->kind == ENTRY_BATCH || entry->kind == ENTRY_EXEC) {
        uint32_t count = 1 + draw(5);
        mp_write_text(&entry->body, entry->kind == ENTRY_EXEC ? "EXEC" : "BATCH");
        if (entry->kind == ENTRY_EXEC) {
            mp_write_array(&entry->body, 2);
            mp_write_array(&entry->body, 0); /* no key is watched */
        }
        mp_write_array(&entry->body, count);
        for (uint32_t i = 0; i < count; i++) {
            mp_write_array(&entry->body, 2);
            add_command(&entry->body, draw(6) == 0 ? "h HGETALL K" : DRAWN(writes));
        }
    } else if (entry->kind != ENTRY_SWEEP) {
        add_command(&entry->body, entry->kind == ENTRY_READ ? DRAWN(reads) : DRAWN(writes));
    }
}
