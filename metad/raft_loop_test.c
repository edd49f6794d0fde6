/* What the loop does where libraft leaves something undone; alone in its group, and in real time. */
#include "metad/raft_loop.h"

#include "libcommon/error.h"
#include "libcommon/log.h"

#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static char root[] = "/tmp/skerry-raft-loop-XXXXXX";
static struct raft_loop *loop;
static int done_count, done_err;

static int apply(struct raft_fsm *fsm, const struct raft_buffer *buffer, void **result) {
    (void)fsm;
    (void)buffer;
    *result = NULL;
    return 0;
}

static struct raft_fsm fsm = {.version = 2, .apply = apply};

static void nothing_cb(void *arg) { (void)arg; }
static void tick_cb(void *arg) {
    (void)arg;
    raft_loop_stop(loop);
}

static void fault_cb(void *arg, int err, const char *text) {
    (void)arg;
    fail_msg("%s: %s", error_name(err), text);
}

static void done_cb(void *arg, int err) {
    (void)arg;
    done_count++;
    done_err = err;
}

static int remove_cb(const char *path, const struct stat *status, int type, struct FTW *place) {
    (void)status;
    (void)type;
    (void)place;
    return remove(path);
}

static int set_up(void **state) {
    (void)state;
    char text[256];
    strcpy(root + sizeof root - 7, "XXXXXX");
    assert_non_null(mkdtemp(root));
    struct raft_loop_options options = {.directory = root,
                                        .server_id = 1,
                                        .name = "a:7100",
                                        .fsm = &fsm,
                                        .role_cb = nothing_cb,
                                        .tick_cb = tick_cb,
                                        .turn_cb = nothing_cb,
                                        .wake_cb = nothing_cb,
                                        .fault_cb = fault_cb};
    assert_int_equal(raft_loop_open(&loop, &options, text, sizeof text), SK_OK);
    assert_int_equal(raft_loop_start(loop, RAFT_LOOP_FORM, (struct raft_loop_seen){0}, text, sizeof text), SK_OK);
    while (!raft_loop_leads(loop)) raft_loop_run(loop);
    done_count = 0;
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    return nftw(root, remove_cb, 16, FTW_DEPTH | FTW_PHYS);
}

static bool no_memory;
static const struct raft_heap *own;

static void *failing_malloc(void *data, size_t size) { return no_memory ? NULL : own->malloc(data, size); }

/* libraft 0.22 keeps a request for a promotion that it has refused. */
static void a_promotion_that_is_refused_is_over(void **state) {
    (void)state;
    own = raft_heap_get();
    struct raft_heap heap = *own;
    heap.malloc = failing_malloc;
    assert_int_equal(raft_loop_change(loop, RAFT_LOOP_ADD, 5, "b:7100", done_cb, NULL), SK_OK);
    while (done_count == 0) raft_loop_run(loop);
    assert_int_equal(done_err, SK_OK);
    raft_heap_set(&heap);
    no_memory = true;
    assert_int_equal(raft_loop_change(loop, RAFT_LOOP_PROMOTE, 5, NULL, done_cb, NULL), SK_ENOMEM);
    no_memory = false;
    raft_heap_set_default();
    raft_loop_close(loop);
    assert_int_equal(done_count, 1);
}

int main(void) {
    (void)signal(SIGPIPE, SIG_IGN);
    log_init("raft_loop_test", LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_promotion_that_is_refused_is_over, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
