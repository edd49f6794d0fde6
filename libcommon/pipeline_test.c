/* A pipeline against bare PULL sockets. */
#include "pipeline.h"

#include "error.h"
#include "testing.h"

#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <pthread.h>
#include <time.h>

enum { WAIT_S = 20 };

struct fixture {
    nng_socket pull;
    char address[64];
    struct pipeline *pipeline;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    unsigned ups, losts, sents;
    unsigned ends; /* of the PULL socket's connections */
};

static void count(struct fixture *fixture, unsigned *counter) {
    pthread_mutex_lock(&fixture->lock);
    ++*counter;
    pthread_cond_broadcast(&fixture->changed);
    pthread_mutex_unlock(&fixture->lock);
}

static void up_cb(void *arg, struct pipeline *pipeline) {
    struct fixture *fixture = arg;
    (void)pipeline;
    count(fixture, &fixture->ups);
}

static void lost_cb(void *arg, struct pipeline *pipeline) {
    struct fixture *fixture = arg;
    (void)pipeline;
    count(fixture, &fixture->losts);
}

static void sent_cb(void *arg, struct pipeline *pipeline) {
    struct fixture *fixture = arg;
    (void)pipeline;
    count(fixture, &fixture->sents);
}

/* Waits until *counter is at least `least`. */
static void wait_for(struct fixture *fixture, const unsigned *counter, unsigned least) {
    struct timespec until;
    int rc = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WAIT_S;
    pthread_mutex_lock(&fixture->lock);
    while (*counter < least && rc == 0) rc = pthread_cond_timedwait(&fixture->changed, &fixture->lock, &until);
    pthread_mutex_unlock(&fixture->lock);
    assert_int_equal(rc, 0);
}

static void listen_on(struct fixture *fixture, const char *address) {
    nng_listener listener;
    int port;
    assert_int_equal(nng_pull0_open(&fixture->pull), 0);
    nng_socket_set_ms(fixture->pull, NNG_OPT_RECVTIMEO, WAIT_S * 1000);
    assert_int_equal(nng_listen(fixture->pull, address, &listener, 0), 0);
    assert_int_equal(nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port), 0);
    snprintf(fixture->address, sizeof fixture->address, "tcp://127.0.0.1:%d", port);
}

static int open_to(struct fixture *fixture, const char *address) {
    struct pipeline_options options = {
        .address = address, .arg = fixture, .up_cb = up_cb, .lost_cb = lost_cb, .sent_cb = sent_cb};
    return pipeline_open(&fixture->pipeline, &options);
}

static int set_up(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&fixture->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&fixture->lock, NULL);
    listen_on(fixture, "tcp://127.0.0.1:0");
    assert_int_equal(open_to(fixture, fixture->address), SK_OK);
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    pipeline_close(fixture->pipeline);
    nng_close(fixture->pull);
    pthread_cond_destroy(&fixture->changed);
    pthread_mutex_destroy(&fixture->lock);
    free(fixture);
    return 0;
}

static nng_msg *message_of(char content) {
    nng_msg *message;
    assert_int_equal(nng_msg_alloc(&message, 1), 0);
    *(char *)nng_msg_body(message) = content;
    return message;
}

static void test_messages_arrive(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(pipeline_dial(fixture->pipeline), SK_OK);
    wait_for(fixture, &fixture->ups, 1);
    for (int i = 'a'; i < 'z'; i++) {
        assert_int_equal(pipeline_send(fixture->pipeline, message_of((char)i)), SK_OK);
        wait_for(fixture, &fixture->sents, (unsigned)(i - 'a') + 1);
    }
    for (int i = 'a'; i < 'z'; i++) {
        nng_msg *message;
        assert_int_equal(nng_recvmsg(fixture->pull, &message, 0), 0);
        assert_int_equal(*(char *)nng_msg_body(message), i);
        nng_msg_free(message);
    }
}

static void test_nothing_is_sent_before_it_is_up(void **state) {
    struct fixture *fixture = *state;
    nng_msg *message = message_of('a');
    assert_int_equal(pipeline_send(fixture->pipeline, message), SK_ECLOSED);
    nng_msg_free(message);
}

/* Sends and receives: then the connection stands on both sides. nng 1.5.2 leaks a listener that is closed before. */
static void exchange(struct fixture *fixture) {
    nng_msg *message;
    assert_int_equal(pipeline_send(fixture->pipeline, message_of('a')), SK_OK);
    assert_int_equal(nng_recvmsg(fixture->pull, &message, 0), 0);
    nng_msg_free(message);
}

static void test_it_waits_for_its_listener(void **state) {
    struct fixture *fixture = *state;
    char address[64];
    memcpy(address, fixture->address, sizeof address);
    nng_close(fixture->pull);
    assert_int_equal(pipeline_dial(fixture->pipeline), SK_OK);
    listen_on(fixture, address);
    wait_for(fixture, &fixture->ups, 1);
    exchange(fixture);
}

static void test_nothing_is_sent_when_it_is_lost(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(pipeline_dial(fixture->pipeline), SK_OK);
    wait_for(fixture, &fixture->ups, 1);
    exchange(fixture);
    nng_close(fixture->pull);
    wait_for(fixture, &fixture->losts, 1);
    nng_msg *message = message_of('a');
    assert_int_equal(pipeline_send(fixture->pipeline, message), SK_ECLOSED);
    nng_msg_free(message);
}

static void pull_cb(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    struct fixture *fixture = arg;
    (void)pipe;
    (void)event;
    count(fixture, &fixture->ends);
}

/* When its connection has ended it is done, although somebody listens again: nng dials in vain. */
static void test_one_connection(void **state) {
    struct fixture *fixture = *state;
    static const char address[] = "inproc://pipeline"; /* no handshakes */
    nng_close(fixture->pull);
    pipeline_close(fixture->pipeline);
    assert_int_equal(nng_pull0_open(&fixture->pull), 0);
    assert_int_equal(nng_listen(fixture->pull, address, NULL, 0), 0);
    assert_int_equal(open_to(fixture, address), SK_OK);
    assert_int_equal(pipeline_dial(fixture->pipeline), SK_OK);
    wait_for(fixture, &fixture->ups, 1);
    nng_close(fixture->pull);
    wait_for(fixture, &fixture->losts, 1);
    assert_int_equal(nng_pull0_open(&fixture->pull), 0);
    nng_pipe_notify(fixture->pull, NNG_PIPE_EV_REM_POST, pull_cb, fixture);
    assert_int_equal(nng_listen(fixture->pull, address, NULL, 0), 0);
    wait_for(fixture, &fixture->ends, 3);
    assert_int_equal(fixture->ups, 1);
    assert_int_equal(fixture->losts, 1);
}

/* What nng could not hand over when the connection ends is given up. */
static void test_a_message_that_is_stuck(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(pipeline_dial(fixture->pipeline), SK_OK);
    wait_for(fixture, &fixture->ups, 1);
    unsigned sent = 0;
    bool stuck = false;
    while (!stuck) { /* nobody receives: the network's buffers fill */
        nng_msg *message;
        assert_int_equal(nng_msg_alloc(&message, 8u << 20), 0);
        assert_int_equal(pipeline_send(fixture->pipeline, message), SK_OK);
        sent++;
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += 1;
        int rc = 0;
        pthread_mutex_lock(&fixture->lock);
        while (fixture->sents < sent && rc == 0)
            rc = pthread_cond_timedwait(&fixture->changed, &fixture->lock, &until);
        stuck = rc != 0;
        pthread_mutex_unlock(&fixture->lock);
    }
    nng_close(fixture->pull);
    wait_for(fixture, &fixture->losts, 1);
    wait_for(fixture, &fixture->sents, sent);
}

static void test_closing_while_it_dials(void **state) {
    struct fixture *fixture = *state;
    nng_close(fixture->pull);
    assert_int_equal(pipeline_dial(fixture->pipeline), SK_OK);
    pipeline_close(fixture->pipeline);
    fixture->pipeline = NULL;
    assert_int_equal(fixture->ups + fixture->losts, 0);
}

static void test_what_is_no_address(void **state) {
    struct fixture *fixture = *state;
    struct pipeline *pipeline = fixture->pipeline;
    assert_int_equal(open_to(fixture, "nonsense"), SK_ECONFIG);
    assert_int_equal(open_to(fixture, "nothing://127.0.0.1:1"), SK_ECONFIG);
    fixture->pipeline = pipeline;
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_messages_arrive),
        TEST(test_nothing_is_sent_before_it_is_up),
        TEST(test_it_waits_for_its_listener),
        TEST(test_nothing_is_sent_when_it_is_lost),
        TEST(test_one_connection),
        TEST(test_a_message_that_is_stuck),
        TEST(test_closing_while_it_dials),
        TEST(test_what_is_no_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
