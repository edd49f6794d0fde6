#include "shardd/identity.h"

#include "libcommon/error.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];
static char text[512];

static int make_root(void **state) {
    (void)state;
    snprintf(root, sizeof root, "/tmp/skerry-identity-XXXXXX");
    return mkdtemp(root) == NULL;
}

static int remove_root(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static void path_in_root(char *path, const char *name) { snprintf(path, 128, "%s/%s", root, name); }

static void write_file(const char *path, const char *content) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
}

static void test_made_once_and_found_again(void **state) {
    (void)state;
    char directory[128];
    struct identity made, found;
    int fd;
    path_in_root(directory, "a/b/node");
    assert_int_equal(identity_open(directory, 3, &made, &fd, text, sizeof text), SK_OK);
    assert_int_equal(made.lanes, 3);
    made.node_id = 12;
    made.cluster = 0xfedcba9876543210u;
    made.suspect = true;
    assert_int_equal(identity_store(directory, &made), SK_OK);
    close(fd);
    assert_int_equal(identity_open(directory, 8, &found, &fd, text, sizeof text), SK_OK);
    assert_memory_equal(made.store_id, found.store_id, 16);
    assert_int_equal(found.lanes, 3);
    assert_int_equal(found.node_id, 12);
    assert_int_equal(found.cluster, made.cluster);
    assert_true(found.suspect);
    close(fd);
}

static void test_a_second_process_is_refused(void **state) {
    (void)state;
    char directory[128];
    struct identity identity;
    int fd, second;
    path_in_root(directory, "locked");
    assert_int_equal(identity_open(directory, 1, &identity, &fd, text, sizeof text), SK_OK);
    assert_int_equal(identity_open(directory, 1, &identity, &second, text, sizeof text), SK_ELOCKED);
    assert_non_null(strstr(text, directory));
    close(fd);
    assert_int_equal(identity_open(directory, 1, &identity, &fd, text, sizeof text), SK_OK);
    close(fd);
}

static void test_bad_files(void **state) {
    (void)state;
    char directory[128], path[128], content[512] = "";
    struct identity identity;
    int fd;
    path_in_root(directory, "bad");
    path_in_root(path, "bad/IDENTITY");
    assert_int_equal(identity_open(directory, 1, &identity, &fd, text, sizeof text), SK_OK);
    close(fd);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t size = fread(content, 1, sizeof content - 1, file);
    fclose(file);
    for (size_t cut = 0; cut < size; cut++) {
        char shorter[512];
        snprintf(shorter, sizeof shorter, "%.*s", (int)cut, content);
        write_file(path, shorter);
        assert_int_equal(identity_open(directory, 1, &identity, &fd, text, sizeof text), SK_ECORRUPT);
        assert_non_null(strstr(text, path));
    }
    write_file(path, "format 3\nwhatever\n");
    assert_int_equal(identity_open(directory, 1, &identity, &fd, text, sizeof text), SK_EVERSION);
}

/* Data without its identity is never taken for a new store (R13). */
static void test_lost_identity(void **state) {
    (void)state;
    char directory[128], path[128], lane[128];
    struct identity identity;
    int fd;
    path_in_root(directory, "lost");
    path_in_root(path, "lost/IDENTITY");
    path_in_root(lane, "lost/lane-0");
    assert_int_equal(identity_open(directory, 1, &identity, &fd, text, sizeof text), SK_OK);
    close(fd);
    write_file(lane, "");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(identity_open(directory, 1, &identity, &fd, text, sizeof text), SK_ECORRUPT);
}

static void test_unwritable(void **state) {
    (void)state;
    struct identity identity;
    int fd;
    assert_int_not_equal(identity_open("/proc/no/such", 1, &identity, &fd, text, sizeof text), SK_OK);
    assert_non_null(strstr(text, "/proc/no/such"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_made_once_and_found_again),
        cmocka_unit_test(test_a_second_process_is_refused),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_lost_identity),
        cmocka_unit_test(test_unwritable),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
