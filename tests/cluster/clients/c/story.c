/* The story of test_resp.py by hiredis: story HOST PORT PREFIX. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static redisContext *redis;

static redisReply *checked(redisReply *reply) {
    if (reply != NULL) return reply;
    (void)fprintf(stderr, "no reply: %s\n", redis->errstr);
    exit(1);
}

#define ask(...) checked(redisCommand(redis, __VA_ARGS__))

static void tell(const char *what, redisReply *reply) {
    if (reply->type == REDIS_REPLY_NIL) printf("%s: nil\n", what);
    else if (reply->type == REDIS_REPLY_ERROR)
        printf("%s: %.*s\n", what, (int)strcspn(reply->str, " "), reply->str);
    else printf("%s: %s\n", what, reply->str);
    freeReplyObject(reply);
}

/* The numbers 1 to 100, asked for at once. */
static void pipeline(const char *prefix) {
    int count = 0;
    for (int i = 0; i < 100; i++) redisAppendCommand(redis, "INCR {%s}:n", prefix);
    for (int i = 1; i <= 100; i++) {
        void *reply;
        if (redisGetReply(redis, &reply) != REDIS_OK) exit(1);
        count += ((redisReply *)reply)->integer == i;
        freeReplyObject(reply);
    }
    printf("pipeline: 1 to %d\n", count);
}

static void transaction(const char *prefix) {
    freeReplyObject(ask("MULTI"));
    freeReplyObject(ask("SET {%s}:t x", prefix));
    freeReplyObject(ask("INCR {%s}:n", prefix));
    freeReplyObject(ask("GET {%s}:greeting", prefix));
    redisReply *reply = ask("EXEC");
    printf("transaction: %s %lld %s\n", reply->element[0]->str, reply->element[1]->integer,
           reply->element[2]->str);
    freeReplyObject(reply);
}

static void watched(const char *prefix) {
    freeReplyObject(ask("WATCH {%s}:n", prefix));
    freeReplyObject(ask("INCR {%s}:n", prefix));
    freeReplyObject(ask("MULTI"));
    freeReplyObject(ask("SET {%s}:n 0", prefix));
    redisReply *reply = ask("EXEC");
    printf("watched: %s\n", reply->type == REDIS_REPLY_NIL ? "not done" : "done");
    freeReplyObject(reply);
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    redis = redisConnect(argv[1], atoi(argv[2]));
    if (redis == NULL || redis->err != 0) return 1;
    const char *prefix = argv[3];
    tell("PING", ask("PING"));
    tell("SET", ask("SET {%s}:greeting hello", prefix));
    tell("GET", ask("GET {%s}:greeting", prefix));
    tell("GET of a missing key", ask("GET {%s}:none", prefix));
    tell("INCR of a text", ask("INCR {%s}:greeting", prefix));
    pipeline(prefix);
    transaction(prefix);
    watched(prefix);
    redisFree(redis);
    return 0;
}
