/* Stores and reads through a gateway of Skerry.
 *
 * apt-get install libnng-dev libmsgpack-dev && cc -o hello hello.c -lnng -lmsgpackc
 * usage: ./hello [ADDRESS]    SKERRY_TOKEN is sent if it is set. */
#include <msgpack.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/supplemental/util/platform.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_MS 10000 /* twice what the gateway takes at most (option timeout_ms) */
#define TRIES       6

typedef const char *command[4]; /* name, arguments, NULL */

struct reply { /* [1, msgid, error, result] */
    nng_msg *message;
    msgpack_unpacked value; /* texts in it lie in the message */
    const msgpack_object
        *error; /* nil or [code, text]: docs/protocol.md says of each code whether a write was done */
    const msgpack_object *result; /* a value is bin, a status str, an integer int, what is missing nil */
};

static nng_socket gateway;

static void leave(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

/* A name for one write, unlike all others. */
static const char *new_id(void) {
    static uint32_t session[3], number;
    static char id[64];
    for (int i = 0; number == 0 && i < 3; i++) session[i] = nng_random();
    snprintf(id, sizeof id, "%08x%08x%08x-%u", session[0], session[1], session[2], ++number);
    return id;
}

static void pack_text(msgpack_packer *packer, const char *text) {
    msgpack_pack_str_with_body(packer, text, strlen(text));
}

/* NAME, [ARGUMENT, ...] */
static void pack_command(msgpack_packer *packer, const command words) {
    size_t count = 0;
    while (words[1 + count] != NULL) count++;
    pack_text(packer, words[0]);
    msgpack_pack_array(packer, count);
    for (size_t i = 1; i <= count; i++) pack_text(packer, words[i]);
}

/* [0, msgid, NAME, [ARGUMENT, ...], {"id": ID, "token": TOKEN}]; several commands are the arguments of "batch". */
static void pack_request(msgpack_sbuffer *request, const char *id, const command *commands, size_t count) {
    const char *token = getenv("SKERRY_TOKEN");
    bool has_token = token != NULL && token[0] != 0;
    msgpack_packer packer;
    msgpack_packer_init(&packer, request, msgpack_sbuffer_write);
    msgpack_pack_array(&packer, 5);
    msgpack_pack_int(&packer, 0);
    msgpack_pack_int(&packer, 1); /* msgid: REQ knows whose reply it gets, so all may have the same */
    if (count == 1) {
        pack_command(&packer, commands[0]);
    } else {
        pack_text(&packer, "batch");
        msgpack_pack_array(&packer, count);
        for (size_t i = 0; i < count; i++) {
            msgpack_pack_array(&packer, 2);
            pack_command(&packer, commands[i]);
        }
    }
    msgpack_pack_map(&packer, has_token ? 2 : 1);
    pack_text(&packer, "id"); /* reads take an id too, and do not mind it */
    pack_text(&packer, id);
    if (has_token) {
        pack_text(&packer, "token");
        pack_text(&packer, token);
    }
}

static void reply_free(struct reply *reply) {
    msgpack_unpacked_destroy(&reply->value);
    if (reply->message != NULL) nng_msg_free(reply->message);
}

/* False if no reply came. The reply is to be freed in any case. */
static bool exchange(const msgpack_sbuffer *request, struct reply *reply) {
    reply->message = NULL;
    msgpack_unpacked_init(&reply->value);
    if (nng_send(gateway, request->data, request->size, 0) != 0) return false;
    if (nng_recvmsg(gateway, &reply->message, 0) != 0) return false;
    const char *bytes = nng_msg_body(reply->message);
    if (msgpack_unpack_next(&reply->value, bytes, nng_msg_len(reply->message), NULL) != MSGPACK_UNPACK_SUCCESS ||
        reply->value.data.type != MSGPACK_OBJECT_ARRAY || reply->value.data.via.array.size != 4)
        leave("reply", "malformed");
    reply->error = &reply->value.data.via.array.ptr[2];
    reply->result = &reply->value.data.via.array.ptr[3];
    return true;
}

/* UNAVAILABLE and OVERLOADED say that it was surely not done. After TIMEOUT nobody knows. */
static bool asks_to_send_again(const msgpack_object *error) {
    static const char *const codes[] = {"TIMEOUT", "UNAVAILABLE", "OVERLOADED"};
    if (error->type == MSGPACK_OBJECT_NIL) return false;
    msgpack_object_str code = error->via.array.ptr[0].via.str;
    for (size_t i = 0; i < 3; i++) {
        if (code.size == strlen(codes[i]) && memcmp(code.ptr, codes[i], code.size) == 0) return true;
    }
    return false;
}

/* Sends the commands until there is an answer that stays, or gives up. What may have been done, as after TIMEOUT or
 * when no reply came, must have the same id again: under one id a write happens once, however often it comes. */
static void call(struct reply *reply, const char *id, const command *commands, size_t count) {
    msgpack_sbuffer request;
    msgpack_sbuffer_init(&request);
    pack_request(&request, id, commands, count);
    for (int try = 1; !exchange(&request, reply) || asks_to_send_again(reply->error); try++) {
        reply_free(reply);
        if (try == TRIES) leave(commands[0][0], "no definite answer");
        nng_msleep(50 << try);
    }
    msgpack_sbuffer_destroy(&request);
}

/* The result, or the code of the error. */
static void print(const msgpack_object *error, const msgpack_object *result) {
    const msgpack_object *object = error->type == MSGPACK_OBJECT_NIL ? result : &error->via.array.ptr[0];
    if (object->type == MSGPACK_OBJECT_STR) printf("%.*s", (int)object->via.str.size, object->via.str.ptr);
    else if (object->type == MSGPACK_OBJECT_BIN) printf("%.*s", (int)object->via.bin.size, object->via.bin.ptr);
    else msgpack_object_print(stdout, *object); /* 42, nil */
}

static void show(const char *title, const char *id, const command words) {
    struct reply reply;
    call(&reply, id, (const command *)words, 1);
    printf("%s: ", title);
    print(reply.error, reply.result);
    printf("\n");
    reply_free(&reply);
}

/* Many commands in one message. It is not atomic; each has its own [error, result]. Whoever finds TIMEOUT among the
 * errors sends the whole batch again under the same id. */
static void show_batch(const command *commands, size_t count) {
    struct reply reply;
    call(&reply, new_id(), commands, count);
    if (reply.error->type != MSGPACK_OBJECT_NIL) leave("batch", "refused");
    printf("batch: ");
    for (size_t i = 0; i < reply.result->via.array.size; i++) {
        const msgpack_object *pair = reply.result->via.array.ptr[i].via.array.ptr;
        if (i > 0) printf(", ");
        print(&pair[0], &pair[1]);
    }
    printf("\n");
    reply_free(&reply);
}

int main(int argc, char **argv) {
    const char *address = argc > 1 ? argv[1] : "tcp://127.0.0.1:7400";
    int err = nng_req0_open(&gateway);
    /* REQ can send again by itself, but here `call` decides what is sent again. */
    if (err == 0) err = nng_socket_set_ms(gateway, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE);
    if (err == 0) err = nng_socket_set_ms(gateway, NNG_OPT_SENDTIMEO, PATIENCE_MS);
    if (err == 0) err = nng_socket_set_ms(gateway, NNG_OPT_RECVTIMEO, PATIENCE_MS);
    if (err == 0) err = nng_socket_set_size(gateway, NNG_OPT_RECVMAXSZ, 0); /* else 1 MiB */
    if (err == 0) err = nng_dial(gateway, address, NULL, NNG_FLAG_NONBLOCK);
    if (err != 0) leave(address, nng_strerror(err));

    show("SET", new_id(), (command){"SET", "hello:greeting", "hello"});
    show("GET", new_id(), (command){"GET", "hello:greeting"});
    show("GET of a missing key", new_id(), (command){"GET", "hello:missing"});

    const command batch[] = {
        {"SET", "hello:visits", "41"}, {"STRLEN", "hello:greeting"}, {"INCR", "hello:greeting"}};
    show_batch(batch, sizeof batch / sizeof batch[0]);

    const char *id = new_id();
    show("INCR", id, (command){"INCR", "hello:visits"});
    show("INCR with the same id", id, (command){"INCR", "hello:visits"}); /* answered again, not done again */

    show("INCR of a text", new_id(), (command){"INCR", "hello:greeting"});
    nng_close(gateway);
    return 0;
}
