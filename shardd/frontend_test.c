/* The frontend against a gateway's sockets: real nng, inproc addresses. */
#include "shardd/frontend.h"

#include "libcommon/error.h"

#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/supplemental/util/platform.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { CLUSTER = 77, INCARNATION = 5, WAIT_MS = 10000, FRAMES_MAX = 300 };

struct fixture {
    struct frontend *frontend;
    nng_socket push, pull; /* the gateway's */
    char answers[64];
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    struct frame *frames[FRAMES_MAX]; /* owned */
    size_t frame_count;
};

static unsigned fixture_number;

static void frame_cb(void *arg, struct frame *frame) {
    struct fixture *fixture = arg;
    pthread_mutex_lock(&fixture->lock);
    assert_true(fixture->frame_count < FRAMES_MAX);
    fixture->frames[fixture->frame_count++] = frame;
    pthread_cond_signal(&fixture->arrived);
    pthread_mutex_unlock(&fixture->lock);
}

static int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    char listen[64], text[256];
    unsigned number = fixture_number++;
    pthread_mutex_init(&fixture->lock, NULL);
    pthread_cond_init(&fixture->arrived, NULL);
    snprintf(listen, sizeof listen, "inproc://frontend-%u", number);
    snprintf(fixture->answers, sizeof fixture->answers, "inproc://gateway-%u", number);
    struct frontend_options options = {.listen = listen, .frame_cb = frame_cb, .arg = fixture};
    if (frontend_open(&fixture->frontend, &options, text, sizeof text, NULL) != SK_OK) return -1;
    frontend_start(fixture->frontend, CLUSTER, INCARNATION);
    if (nng_pull0_open(&fixture->pull) != 0 || nng_listen(fixture->pull, fixture->answers, NULL, 0) != 0)
        return -1;
    if (nng_push0_open(&fixture->push) != 0 || nng_dial(fixture->push, listen, NULL, 0) != 0) return -1;
    nng_socket_set_ms(fixture->pull, NNG_OPT_RECVTIMEO, WAIT_MS);
    nng_socket_set_ms(fixture->push, NNG_OPT_SENDTIMEO, WAIT_MS);
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    nng_close(fixture->push);
    for (size_t i = 0; i < fixture->frame_count; i++) frame_unref(fixture->frames[i]);
    frontend_close(fixture->frontend);
    nng_close(fixture->pull);
    pthread_cond_destroy(&fixture->arrived);
    pthread_mutex_destroy(&fixture->lock);
    free(fixture);
    return 0;
}

static struct frame *wait_for_frame(struct fixture *fixture, size_t at) {
    pthread_mutex_lock(&fixture->lock);
    while (fixture->frame_count <= at) pthread_cond_wait(&fixture->arrived, &fixture->lock);
    struct frame *frame = fixture->frames[at];
    pthread_mutex_unlock(&fixture->lock);
    return frame;
}

static struct frame_header header_of(struct fixture *fixture, uint64_t session) {
    return (struct frame_header){.kind = FRAME_REQUESTS,
                                 .cluster = CLUSTER,
                                 .session = session,
                                 .incarnation = INCARNATION,
                                 .return_address = slice_of_text(fixture->answers)};
}

/* `seen`: answers up to there have come. */
static void push_having_seen(struct fixture *fixture, const struct frame_header *header, uint64_t number,
                             uint64_t seen) {
    struct buffer buffer;
    struct request_item item = {
        .number = 100 + number, .timeout_ms = 1000, .body = slice_of_text("\xa3GET\x91\xa1k")};
    buffer_init(&buffer);
    frame_begin(&buffer, header);
    frame_add_request(&buffer, &item);
    frame_finish(buffer.data, number, seen, 1);
    assert_int_equal(nng_send(fixture->push, buffer.data, buffer.size, 0), 0);
    buffer_deinit(&buffer);
}

static void push(struct fixture *fixture, const struct frame_header *header, uint64_t number) {
    push_having_seen(fixture, header, number, 0);
}

/* The next frame of answers; its item (if any) into `item`, valid until the message is freed. */
static nng_msg *pull(struct fixture *fixture, struct frame_header *header, struct answer_item *item) {
    nng_msg *message;
    struct slice rest;
    assert_int_equal(nng_recvmsg(fixture->pull, &message, 0), 0);
    assert_int_equal(frame_read_header(slice_of(nng_msg_body(message), nng_msg_len(message)), header, &rest),
                     SK_OK);
    if (header->item_count > 0) assert_int_equal(frame_read_answer(&rest, item), SK_OK);
    return message;
}

/* False: there is no room for it. */
static bool try_answer(struct frame *frame, const struct answer_item *item) {
    if (!frontend_reserve(frame->link, frame_answer_bytes(item))) return false;
    struct buffer items;
    buffer_init(&items);
    frame_add_answer(&items, item);
    frontend_answer(frame->link, buffer_slice(&items), 1);
    buffer_deinit(&items);
    return true;
}

static void answer(struct frame *frame, uint64_t number) {
    assert_true(try_answer(frame, &(struct answer_item){.number = number, .body = slice_of_text("\xc0")}));
}

static void test_request_and_answer(void **state) {
    struct fixture *fixture = *state;
    struct frame_header header = header_of(fixture, 9);
    struct request_item request;
    struct answer_item item;
    push(fixture, &header, 1);
    struct frame *frame = wait_for_frame(fixture, 0);
    struct slice rest = frame->items;
    assert_int_equal(frame_read_request(&rest, &request), SK_OK);
    assert_int_equal(request.number, 101);

    answer(frame, 101);
    nng_msg *message = pull(fixture, &header, &item);
    assert_int_equal(header.kind, FRAME_ANSWERS);
    assert_int_equal(header.session, 9);
    assert_int_equal(header.incarnation, INCARNATION);
    assert_int_equal(header.number, 1);
    assert_int_equal(header.taken, 1);
    assert_int_equal(item.number, 101);
    nng_msg_free(message);
}

/* The message has gone long before it is answered. */
static void test_an_answer_without_the_frame(void **state) {
    struct fixture *fixture = *state;
    struct frame_header header = header_of(fixture, 9);
    struct answer_item item;
    push(fixture, &header, 1);
    struct frame *stub = frame_stub(wait_for_frame(fixture, 0));
    assert_non_null(stub);
    assert_int_equal(stub->header.session, 9);
    frame_unref(fixture->frames[0]);
    fixture->frame_count = 0;
    answer(stub, 101);
    nng_msg *message = pull(fixture, &header, &item);
    assert_int_equal(header.session, 9);
    assert_int_equal(item.number, 101);
    nng_msg_free(message);
    frame_unref(stub);
}

/* What is not for this node of this cluster, or not whole, reaches no lane; what comes after it does. */
static void test_bad_frames_are_refused(void **state) {
    struct fixture *fixture = *state;
    struct frame_header header = header_of(fixture, 9);
    header.cluster = CLUSTER + 1;
    push(fixture, &header, 1);
    header = header_of(fixture, 9);
    header.incarnation = INCARNATION - 1;
    push(fixture, &header, 2);
    header = header_of(fixture, 9);
    header.kind = FRAME_ANSWERS;
    push(fixture, &header, 3);
    header = header_of(fixture, 9);
    header.return_address = slice_of(NULL, 0);
    push(fixture, &header, 4);
    assert_int_equal(nng_send(fixture->push, (void *)"garbage", 7, 0), 0);
    assert_int_equal(nng_send(fixture->push, (void *)"", 0, 0), 0);
    header = header_of(fixture, 9);
    push(fixture, &header, 7);
    assert_int_equal(wait_for_frame(fixture, 0)->header.number, 7);
    assert_int_equal(fixture->frame_count, 1);
}

/* A gateway learns what was taken where nothing is answered: at once when its window is half used, else by the tick. */
static void test_taken_is_told_without_answers(void **state) {
    struct fixture *fixture = *state;
    struct frame_header header = header_of(fixture, 9), told;
    struct answer_item item;
    push(fixture, &header, 1);
    push(fixture, &header, 2);
    nng_msg *message = pull(fixture, &told, &item);
    assert_int_equal(told.taken, 2);
    assert_int_equal(told.item_count, 0);
    nng_msg_free(message);
    push(fixture, &header, 3);
    wait_for_frame(fixture, 2);
    do { /* the callback that counts it may still be running */
        frontend_tick(fixture->frontend);
        message = pull(fixture, &told, &item);
        nng_msg_free(message);
    } while (told.taken < 3);
    assert_int_equal(told.taken, 3);
}

/* A gateway that was started again at its address: the new start is answered; answers to the old one go nowhere. */
static void test_a_gateway_starts_again(void **state) {
    struct fixture *fixture = *state;
    struct frame_header header = header_of(fixture, 9), told;
    struct answer_item item;
    push(fixture, &header, 1);
    struct frame *old = wait_for_frame(fixture, 0);
    header = header_of(fixture, 10);
    push(fixture, &header, 1);
    struct frame *fresh = wait_for_frame(fixture, 1);
    assert_ptr_not_equal(old->link, fresh->link);
    answer(old, 101);
    answer(fresh, 101);
    nng_msg *message = pull(fixture, &told, &item);
    assert_int_equal(told.session, 10);
    nng_msg_free(message);
}

/* Large answers have room up to the soft cap, small ones beyond it; when the gateway takes them again there is room for
 * all, and none that had room is missing. */
static void test_room_for_answers(void **state) {
    struct fixture *fixture = *state;
    struct frame_header header = header_of(fixture, 9), told;
    header.return_address = slice_of_text("inproc://gateway-deaf"); /* nobody listens there yet */
    push(fixture, &header, 1);
    struct frame *frame = wait_for_frame(fixture, 0);
    static uint8_t value[1 << 20];
    uint64_t number = 0, large;
    while (try_answer(frame, &(struct answer_item){.number = number + 1, .body = slice_of(value, sizeof value)})) {
        assert_true(++number < 100);
    }
    large = number;
    assert_true(large * sizeof value >= ANSWERS_BYTES_SOFT);
    assert_false(frontend_has_room(frame->link));
    for (int i = 0; i < 1000; i++) answer(frame, ++number);

    assert_int_equal(nng_listen(fixture->pull, "inproc://gateway-deaf", NULL, 0), 0);
    for (uint64_t seen = 0; seen < number;) {
        struct answer_item item;
        struct slice rest;
        nng_msg *message;
        assert_int_equal(nng_recvmsg(fixture->pull, &message, 0), 0);
        struct slice bytes = slice_of(nng_msg_body(message), nng_msg_len(message));
        assert_int_equal(frame_read_header(bytes, &told, &rest), SK_OK);
        while (frame_read_answer(&rest, &item) == SK_OK) assert_int_equal(item.number, ++seen);
        nng_msg_free(message);
    }
    assert_true(frontend_has_room(frame->link));
    assert_true(frontend_reserve(frame->link, sizeof value));
    frontend_release(frame->link, sizeof value);

    /* however large one is, small ones have room behind it, and there is an end to them */
    assert_true(frontend_reserve(frame->link, ANSWERS_BYTES_SOFT - 1));
    assert_true(frontend_reserve(frame->link, MESSAGE_BYTES_MAX));
    size_t reserved = ANSWERS_BYTES_SOFT - 1 + MESSAGE_BYTES_MAX;
    while (frontend_reserve(frame->link, ANSWER_BYTES_SMALL)) reserved += ANSWER_BYTES_SMALL;
    assert_true(reserved <= ANSWERS_BYTES_MAX && reserved + ANSWER_BYTES_SMALL > ANSWERS_BYTES_MAX);
    frontend_release(frame->link, reserved);
    assert_true(frontend_reserve(frame->link, sizeof value));
}

/* A connection to a gateway that breaks is followed by another, on which answers go on. */
static void test_a_lost_connection(void **state) {
    struct fixture *fixture = *state;
    struct frame_header header = header_of(fixture, 9), told;
    struct answer_item item;
    push(fixture, &header, 1);
    struct frame *frame = wait_for_frame(fixture, 0);
    answer(frame, 101);
    nng_msg_free(pull(fixture, &told, &item));
    assert_int_equal(nng_close(fixture->pull), 0);
    assert_int_equal(nng_pull0_open(&fixture->pull), 0);
    assert_int_equal(nng_listen(fixture->pull, fixture->answers, NULL, 0), 0);
    nng_socket_set_ms(fixture->pull, NNG_OPT_RECVTIMEO, 50);
    nng_msg *message = NULL;
    for (int waited_ms = 0; message == NULL && waited_ms < WAIT_MS; waited_ms += 50) {
        frontend_tick(fixture->frontend);
        answer(frame, 101);
        if (nng_recvmsg(fixture->pull, &message, 0) != 0) message = NULL;
    }
    assert_non_null(message);
    nng_msg_free(message);
}

/* What a gateway is answered last. */
struct last {
    uint64_t number; /* of the frame */
    int pipe;        /* on which it came */
};

/* The gateway asks once more, saying what it has seen, and is answered. */
static struct last ask(struct fixture *fixture, const struct frame_header *header, uint64_t seen) {
    struct frame_header told = {0};
    struct answer_item item;
    struct last last = {0};
    size_t at = fixture->frame_count;
    push_having_seen(fixture, header, at + 1, seen);
    struct frame *frame = wait_for_frame(fixture, at);
    frontend_tick(fixture->frontend);
    answer(frame, 101);
    while (told.item_count == 0) {
        nng_msg *message = pull(fixture, &told, &item);
        last = (struct last){.number = told.number, .pipe = nng_pipe_id(nng_msg_get_pipe(message))};
        nng_msg_free(message);
    }
    nng_msleep(20);
    return last;
}

/* Who asks and asks and says that no answer has come gets them on another connection; who sees them keeps his. */
static void test_answers_that_do_not_arrive(void **state) {
    struct fixture *fixture = *state;
    struct frame_header header = header_of(fixture, 9);
    struct last first = ask(fixture, &header, 0), last = first;
    while (fixture->frame_count < FRAMES_MAX / 3) { /* for longer than it would take */
        last = ask(fixture, &header, last.number);
        assert_int_equal(last.pipe, first.pipe);
    }
    uint64_t seen = last.number;
    while (last.pipe == first.pipe) last = ask(fixture, &header, seen);
}

static void test_an_address_in_use(void **state) {
    struct fixture *fixture = *state;
    struct frontend *second;
    char listen[64], text[256];
    snprintf(listen, sizeof listen, "inproc://frontend-%u", fixture_number - 1);
    struct frontend_options options = {.listen = listen, .frame_cb = frame_cb, .arg = fixture};
    assert_int_equal(frontend_open(&second, &options, text, sizeof text, NULL), SK_ECONFIG);
    assert_non_null(strstr(text, listen));
    options.listen = "nonsense";
    assert_int_equal(frontend_open(&second, &options, text, sizeof text, NULL), SK_ECONFIG);
    assert_non_null(strstr(text, "nonsense"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_request_and_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_answer_without_the_frame, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_frames_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_taken_is_told_without_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_gateway_starts_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_room_for_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_lost_connection, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answers_that_do_not_arrive, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_address_in_use, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
