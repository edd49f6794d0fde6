#include "metad/datadir.h"

#include "libcommon/error.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];
static char path[128];
static char text[512];

static int set_up(void **state) {
    (void)state;
    (void)snprintf(root, sizeof root, "/tmp/skerry-datadir-XXXXXX");
    assert_non_null(mkdtemp(root));
    (void)snprintf(path, sizeof path, "%s/deep/er", root);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    static const char *const names[] = {
        "deep/er/raft/x",    "deep/er/raft", "deep/er/lock", "deep/er/metad", "deep/er/seen",
        "deep/er/metad.new", "deep/er",      "deep",         "file",          ""};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char name[160];
        (void)snprintf(name, sizeof name, "%s/%s", root, names[i]);
        (void)remove(name);
    }
    return access(root, F_OK) == 0; /* nothing may be left */
}

static void write_file(const char *name, const char *content) {
    char full[192];
    (void)snprintf(full, sizeof full, "%s/%s", path, name);
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    (void)fputs(content, file);
    assert_int_equal(fclose(file), 0);
}

static int open_and_close(void) {
    struct datadir *datadir = NULL;
    text[0] = 0;
    int err = datadir_open(&datadir, path, text, sizeof text);
    assert_true((err == SK_OK) == (text[0] == 0));
    assert_null(strchr(text, '\n'));
    if (err != SK_OK) assert_non_null(strstr(text, path));
    datadir_close(datadir);
    return err;
}

static void a_directory_is_made_and_remembers(void **state) {
    (void)state;
    struct datadir *datadir;
    assert_int_equal(datadir_open(&datadir, path, text, sizeof text), SK_OK);
    assert_true(datadir_cluster(datadir) == 0);
    assert_int_equal(access(datadir_raft_path(datadir), W_OK), 0);
    assert_int_equal(datadir_set_cluster(datadir, 0xfedcba9876543210u, text, sizeof text), SK_OK);
    datadir_close(datadir);
    write_file("raft/x", "");
    assert_int_equal(datadir_open(&datadir, path, text, sizeof text), SK_OK);
    assert_true(datadir_cluster(datadir) == 0xfedcba9876543210u);
    datadir_close(datadir);
}

/* Each has its id from the start, so that one which has lost its disk is another. */
static void servers_are_unlike(void **state) {
    (void)state;
    struct datadir *datadir;
    assert_int_equal(datadir_open(&datadir, path, text, sizeof text), SK_OK);
    uint64_t id = datadir_server(datadir);
    assert_true(id != 0);
    datadir_close(datadir);
    assert_int_equal(datadir_open(&datadir, path, text, sizeof text), SK_OK);
    assert_true(datadir_server(datadir) == id);
    datadir_close(datadir);
    assert_int_equal(tear_down(NULL), 0);
    assert_int_equal(set_up(NULL), 0);
    assert_int_equal(datadir_open(&datadir, path, text, sizeof text), SK_OK);
    assert_true(datadir_server(datadir) != id);
    datadir_close(datadir);
}

static void what_was_seen_is_a_lower_bound(void **state) {
    (void)state;
    struct datadir *datadir;
    struct raft_loop_seen none = {0}, seen = {.term = 7, .vote = UINT64_MAX, .index = UINT64_MAX - 1}, read;
    assert_int_equal(datadir_open(&datadir, path, text, sizeof text), SK_OK);
    read = datadir_seen(datadir);
    assert_memory_equal(&read, &none, sizeof none);
    datadir_note_seen(datadir, seen);
    datadir_close(datadir);
    assert_int_equal(datadir_open(&datadir, path, text, sizeof text), SK_OK);
    read = datadir_seen(datadir);
    assert_memory_equal(&read, &seen, sizeof seen);
    datadir_close(datadir);
    write_file("seen", "00000000000000000007 000"); /* torn */
    assert_int_equal(datadir_open(&datadir, path, text, sizeof text), SK_OK);
    read = datadir_seen(datadir);
    assert_memory_equal(&read, &none, sizeof none);
    datadir_close(datadir);
}

static void one_process_at_a_time(void **state) {
    (void)state;
    struct datadir *datadir;
    assert_int_equal(datadir_open(&datadir, path, text, sizeof text), SK_OK);
    assert_int_equal(open_and_close(), SK_ELOCKED);
    datadir_close(datadir);
    assert_int_equal(open_and_close(), SK_OK);
}

static void a_newer_format_is_refused(void **state) {
    (void)state;
    assert_int_equal(open_and_close(), SK_OK);
    write_file("metad", "skerry metad\nformat 2\nwhatever comes then\n");
    assert_int_equal(open_and_close(), SK_EVERSION);
}

static void a_damaged_identity_is_refused(void **state) {
    (void)state;
    static const char *const contents[] = {
        "",
        "skerry metad\n",
        "skerry metad\nformat x\n",
        "skerry metad\nformat 1\nserver 1\n",
        "skerry metad\nformat 1\nserver 0\ncluster 0000000000000001\n",
        "skerry metad\nformat 1\nserver 1\ncluster 00000000000000",
        "skerry metad\nformat 1\nserver 1\ncluster 0000000000000001\nmore\n",
    };
    assert_int_equal(open_and_close(), SK_OK);
    for (size_t i = 0; i < sizeof contents / sizeof contents[0]; i++) {
        write_file("metad", contents[i]);
        assert_int_equal(open_and_close(), SK_ECORRUPT);
    }
}

/* Never taken for a new directory. */
static void lost_files_are_noticed(void **state) {
    (void)state;
    struct datadir *datadir;
    assert_int_equal(datadir_open(&datadir, path, text, sizeof text), SK_OK);
    assert_int_equal(datadir_set_cluster(datadir, 5, text, sizeof text), SK_OK);
    datadir_close(datadir);
    assert_int_equal(open_and_close(), SK_ECORRUPT); /* raft/ is empty */
    write_file("raft/x", "");
    assert_int_equal(open_and_close(), SK_OK);
    char name[192];
    (void)snprintf(name, sizeof name, "%s/metad", path);
    assert_int_equal(remove(name), 0);
    assert_int_equal(open_and_close(), SK_ECORRUPT); /* raft/ is not */
}

static void places_that_cannot_be_are_refused(void **state) {
    (void)state;
    struct datadir *datadir;
    char name[192];
    (void)snprintf(name, sizeof name, "%s/file", root);
    int fd = open(name, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(datadir_open(&datadir, name, text, sizeof text), SK_ECONFIG);
    assert_non_null(strstr(text, name));
    (void)snprintf(name, sizeof name, "%s/file/below", root);
    assert_int_equal(datadir_open(&datadir, name, text, sizeof text), SK_ECONFIG);
    assert_int_equal(datadir_open(&datadir, "", text, sizeof text), SK_ECONFIG);
    assert_int_equal(datadir_open(&datadir, "/proc/skerry", text, sizeof text), SK_ECONFIG);
    char longest[8192];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    assert_int_equal(datadir_open(&datadir, longest, text, sizeof text), SK_ECONFIG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_directory_is_made_and_remembers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_seen_is_a_lower_bound, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_process_at_a_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(servers_are_unlike, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_newer_format_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_identity_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lost_files_are_noticed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(places_that_cannot_be_are_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
