/* Bare TCP clients that send or read without a pause while the other end closes their connections: without the guard
 * nng 1.5.2 stops closing connections after a few. And clients that go before they are accepted: without it nobody is, any
 * more. And how many threads nng has. */
#include "nng_guard.h"

#include "testing.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/reqrep0/rep.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <unistd.h>

enum { CLIENTS = 2, CLOSES = 500, TEST_S = 120, UNENDED_MAX = 100, BIG_BYTES = 4 << 20 };

struct fixture {
    nng_socket socket;
    uint16_t port;
    pthread_t clients[CLIENTS];
    atomic_bool over;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    nng_pipe pipe; /* the latest */
    unsigned begun, ended;
};

static void pipe_cb(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    struct fixture *fixture = arg;
    pthread_mutex_lock(&fixture->lock);
    if (event == NNG_PIPE_EV_ADD_POST) {
        fixture->pipe = pipe;
        fixture->begun++;
    } else {
        fixture->ended++;
    }
    pthread_cond_broadcast(&fixture->changed);
    pthread_mutex_unlock(&fixture->lock);
}

/* Waits for a connection beyond the `seen` first ones. */
static nng_pipe wait_for_another(struct fixture *fixture, unsigned *seen) {
    pthread_mutex_lock(&fixture->lock);
    while (fixture->begun == *seen) pthread_cond_wait(&fixture->changed, &fixture->lock);
    *seen = fixture->begun;
    nng_pipe pipe = fixture->pipe;
    pthread_mutex_unlock(&fixture->lock);
    return pipe;
}

static void wait_for_ends(struct fixture *fixture, unsigned unended_max) {
    pthread_mutex_lock(&fixture->lock);
    while (fixture->begun - fixture->ended > unended_max) pthread_cond_wait(&fixture->changed, &fixture->lock);
    pthread_mutex_unlock(&fixture->lock);
}

static int connect_silently(const struct fixture *fixture) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = fixture->port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
    if (fd >= 0) close(fd);
    return -1;
}

static int connect_to(const struct fixture *fixture, const char greeting[8]) {
    char theirs[8];
    int fd = connect_silently(fixture);
    if (fd >= 0 && send(fd, greeting, 8, MSG_NOSIGNAL) == 8 && recv(fd, theirs, 8, MSG_WAITALL) == 8) return fd;
    if (fd >= 0) close(fd);
    return -1;
}

/* Small messages, as fast as they go. */
static void *send_always(void *arg) {
    struct fixture *fixture = arg;
    char messages[64][108];
    memset(messages, 'x', sizeof messages);
    for (size_t i = 0; i < 64; i++) memcpy(messages[i], "\0\0\0\0\0\0\0\x64", 8); /* the length */
    while (!atomic_load(&fixture->over)) {
        int fd = connect_to(fixture, "\0SP\0\0\x50\0\0");
        if (fd < 0) continue;
        while (send(fd, messages, sizeof messages, MSG_NOSIGNAL) > 0) continue;
        close(fd);
    }
    return NULL;
}

/* Asks once and reads the answer as fast as it comes. */
static void *ask_and_read(void *arg) {
    struct fixture *fixture = arg;
    static const char request[12] = "\0\0\0\0\0\0\0\4\x80\0\0\1"; /* the length, the number */
    char bytes[65536];
    while (!atomic_load(&fixture->over)) {
        int fd = connect_to(fixture, "\0SP\0\0\x30\0\0");
        if (fd < 0) continue;
        if (send(fd, request, sizeof request, MSG_NOSIGNAL) > 0) {
            while (recv(fd, bytes, sizeof bytes, 0) > 0) continue;
        }
        close(fd);
    }
    return NULL;
}

static void listen_at(struct fixture *fixture, int (*open)(nng_socket *)) {
    nng_listener listener;
    nng_sockaddr address;
    *fixture = (struct fixture){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    assert_int_equal(open(&fixture->socket), 0);
    assert_int_equal(nng_pipe_notify(fixture->socket, NNG_PIPE_EV_ADD_POST, pipe_cb, fixture), 0);
    assert_int_equal(nng_pipe_notify(fixture->socket, NNG_PIPE_EV_REM_POST, pipe_cb, fixture), 0);
    assert_int_equal(nng_listen(fixture->socket, "tcp://127.0.0.1:0", &listener, 0), 0);
    assert_int_equal(nng_listener_get_addr(listener, NNG_OPT_LOCADDR, &address), 0);
    fixture->port = address.s_in.sa_port;
}

static void start(struct fixture *fixture, int (*open)(nng_socket *), void *(*client)(void *)) {
    listen_at(fixture, open);
    for (int i = 0; i < CLIENTS; i++) {
        assert_int_equal(pthread_create(&fixture->clients[i], NULL, client, fixture), 0);
    }
}

static void stop(struct fixture *fixture) {
    atomic_store(&fixture->over, true);
    assert_int_equal(nng_close(fixture->socket), 0);
    for (int i = 0; i < CLIENTS; i++) pthread_join(fixture->clients[i], NULL);
    wait_for_ends(fixture, 0);
}

/* A close seldom meets the moment: there are so many, and then more until `met` counts one. nng of another version is not
 * guarded; it must do without. */
static bool is_enough(unsigned closes, uint64_t (*met)(void), uint64_t before) {
    bool guarded = strcmp(nng_version(), "1.5.2") == 0;
    return closes >= CLOSES && (!guarded || met() > before);
}

static void test_closed_while_receiving(void **state) {
    (void)state;
    struct fixture fixture;
    uint64_t before = nng_guard_ended();
    start(&fixture, nng_pull0_open, send_always);
    for (unsigned closes = 0, seen = 0; !is_enough(closes, nng_guard_ended, before); closes++) {
        nng_msg *message;
        nng_pipe pipe = wait_for_another(&fixture, &seen);
        assert_int_equal(nng_recvmsg(fixture.socket, &message, 0), 0);
        nng_msg_free(message);
        (void)nng_pipe_close(pipe);
        wait_for_ends(&fixture, UNENDED_MAX);
    }
    stop(&fixture);
}

static void test_closed_while_sending(void **state) {
    (void)state;
    struct fixture fixture;
    uint64_t before = nng_guard_ended();
    start(&fixture, nng_rep0_open, ask_and_read);
    for (unsigned closes = 0; !is_enough(closes, nng_guard_ended, before); closes++) {
        nng_msg *request, *answer;
        assert_int_equal(nng_recvmsg(fixture.socket, &request, 0), 0);
        assert_int_equal(nng_msg_alloc(&answer, BIG_BYTES), 0);
        assert_int_equal(nng_sendmsg(fixture.socket, answer, 0), 0);
        (void)nng_pipe_close(nng_msg_get_pipe(request));
        nng_msg_free(request);
        wait_for_ends(&fixture, UNENDED_MAX);
    }
    stop(&fixture);
}

/* As a host does that loses power and hears of the connection again. */
static void close_and_reset(int fd) {
    struct linger at_once = {.l_onoff = 1};
    (void)shutdown(fd, SHUT_WR);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    close(fd);
}

static void test_reset_before_it_is_accepted(void **state) {
    (void)state;
    struct fixture fixture;
    uint64_t before = nng_guard_resets();
    listen_at(&fixture, nng_pull0_open);
    for (unsigned closes = 0; !is_enough(closes, nng_guard_resets, before); closes++) {
        int fd = connect_silently(&fixture);
        if (fd >= 0) close_and_reset(fd);
    }
    int fd = connect_to(&fixture, "\0SP\0\0\x50\0\0");
    assert_true(fd >= 0);
    unsigned seen = 0;
    (void)wait_for_another(&fixture, &seen);
    close(fd);
    assert_int_equal(nng_close(fixture.socket), 0);
    wait_for_ends(&fixture, 0);
}

/* Threads of this process that bear this name. */
static long count_threads(const char *name) {
    DIR *tasks = opendir("/proc/self/task");
    long count = 0;
    assert_non_null(tasks);
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        char path[64], comm[32] = "";
        (void)snprintf(path, sizeof path, "/proc/self/task/%.20s/comm", task->d_name);
        FILE *file = fopen(path, "r");
        if (file == NULL) continue;
        if (fgets(comm, sizeof comm, file) != NULL) comm[strcspn(comm, "\n")] = '\0';
        (void)fclose(file);
        count += strcmp(comm, name) == 0;
    }
    (void)closedir(tasks);
    return count;
}

static void test_as_many_threads_as_cores(void **state) {
    (void)state;
    nng_socket socket;
    long cores = get_nprocs(), half = cores / 2;
    long told = half < 1 ? 1 : half > NNG_GUARD_CORES_MAX ? NNG_GUARD_CORES_MAX : half;
    assert_int_equal(sysconf(_SC_NPROCESSORS_ONLN), cores); /* others hear the truth */
    assert_int_equal(nng_pull0_open(&socket), 0);
    if (strcmp(nng_version(), "1.5.2") == 0) {
        while (count_threads("nng:task") < 2 * told) (void)sched_yield(); /* they name themselves */
        assert_int_equal(count_threads("nng:task"), 2 * told);
    }
    assert_int_equal(nng_close(socket), 0);
}

static void test_mutexes_of_others_stay_as_they_are(void **state) {
    (void)state;
    pthread_mutexattr_t attributes;
    int type = -1;
    assert_int_equal(pthread_mutexattr_init(&attributes), 0);
    assert_int_equal(pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK), 0);
    assert_int_equal(pthread_mutexattr_gettype(&attributes, &type), 0);
    assert_int_equal(type, PTHREAD_MUTEX_ERRORCHECK);
    assert_int_equal(pthread_mutexattr_destroy(&attributes), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_closed_while_receiving),
        cmocka_unit_test(test_closed_while_sending),
        cmocka_unit_test(test_reset_before_it_is_accepted),
        cmocka_unit_test(test_as_many_threads_as_cores),
        cmocka_unit_test(test_mutexes_of_others_stay_as_they_are),
    };
    alarm(TEST_S); /* without the guard it would wait for ever */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
