#include "cluster_dir.h"

#include "libcommon/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    char root[64], path[128], text[512];
};

static int set_up(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    strcpy(fixture->root, "/tmp/skerry-cluster-dir-XXXXXX");
    if (mkdtemp(fixture->root) == NULL) return -1;
    snprintf(fixture->path, sizeof fixture->path, "%s/a/b", fixture->root);
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    static const char *const names[] = {"a/b/log",
                                        "a/b/up.lock",
                                        "a/b/up.settings",
                                        "a/b/up.settings.new",
                                        "a/b/secret",
                                        "a/b/secret.new",
                                        "a/b",
                                        "a",
                                        ""};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", fixture->root, names[i]);
        remove(path);
    }
    free(fixture);
    return 0;
}

static void made_with_all_above(void **state) {
    struct fixture *fixture = *state;
    for (int again = 0; again < 2; again++)
        assert_int_equal(cluster_dir_make(fixture->path, fixture->text, sizeof fixture->text), SK_OK);
    char log[256];
    struct stat info;
    snprintf(log, sizeof log, "%s/log", fixture->path);
    assert_int_equal(stat(log, &info), 0);
    assert_true(S_ISDIR(info.st_mode));
}

static void cannot_be_made_below_a_file(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(cluster_dir_make("/dev/null/x", fixture->text, sizeof fixture->text), SK_EIO);
    assert_string_equal(fixture->text, "cannot make the directory /dev/null/x: Not a directory");
}

static void one_at_a_time(void **state) {
    struct fixture *fixture = *state;
    int first, second;
    assert_int_equal(cluster_dir_make(fixture->path, fixture->text, sizeof fixture->text), SK_OK);
    assert_int_equal(cluster_dir_holder(fixture->path), 0);
    assert_int_equal(cluster_dir_lock(fixture->path, 0, &first, fixture->text, sizeof fixture->text), SK_OK);
    assert_int_equal(cluster_dir_holder(fixture->path), getpid());
    assert_int_equal(cluster_dir_lock(fixture->path, 0, &second, fixture->text, sizeof fixture->text), SK_ELOCKED);
    char expected[512];
    snprintf(expected, sizeof expected, "%s is in use by another `skerry up` (pid %d)", fixture->path,
             (int)getpid());
    assert_string_equal(fixture->text, expected);
    close(first);
    assert_int_equal(cluster_dir_holder(fixture->path), 0);
    assert_int_equal(cluster_dir_lock(fixture->path, 0, &second, fixture->text, sizeof fixture->text), SK_OK);
    close(second);
}

/* A supervisor that takes the lock, starts a daemon that holds it on, and dies. The daemon ends when `daemon_fd` is
 * closed. */
static void leave_an_orphan(struct fixture *fixture, int *daemon_fd) {
    int fds[2], lock;
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (cluster_dir_lock(fixture->path, 0, &lock, fixture->text, sizeof fixture->text) != SK_OK) _exit(1);
        if (fork() != 0) _exit(0);
        close(fds[1]);
        char byte;
        _exit(read(fds[0], &byte, 1) == 0 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(fds[0]);
    *daemon_fd = fds[1];
}

static void orphans_hold_it_and_are_waited_for(void **state) {
    struct fixture *fixture = *state;
    int daemon_fd, lock;
    assert_int_equal(cluster_dir_make(fixture->path, fixture->text, sizeof fixture->text), SK_OK);
    leave_an_orphan(fixture, &daemon_fd);
    assert_int_equal(cluster_dir_lock(fixture->path, 0, &lock, fixture->text, sizeof fixture->text), SK_ELOCKED);
    assert_non_null(strstr(fixture->text, "daemons whose `skerry up` was killed"));
    close(daemon_fd);
    assert_int_equal(cluster_dir_lock(fixture->path, 60000, &lock, fixture->text, sizeof fixture->text), SK_OK);
    close(lock);
}

static void settings_are_kept(void **state) {
    struct fixture *fixture = *state;
    struct cluster_settings written = {.nodes = 3, .shards = 64, .lanes = 2, .metads = 5}, read = {0};
    assert_int_equal(cluster_dir_make(fixture->path, fixture->text, sizeof fixture->text), SK_OK);
    assert_int_equal(cluster_dir_read_settings(fixture->path, &read), SK_NOT_FOUND);
    assert_int_equal(cluster_dir_write_settings(fixture->path, &written), SK_OK);
    assert_int_equal(cluster_dir_read_settings(fixture->path, &read), SK_OK);
    assert_memory_equal(&written, &read, sizeof read);
    char path[256];
    snprintf(path, sizeof path, "%s/up.settings", fixture->path);
    FILE *file = fopen(path, "w");
    fputs("nodes 3\nshards many\n", file);
    fclose(file);
    assert_int_equal(cluster_dir_read_settings(fixture->path, &read), SK_ECORRUPT);
    assert_int_equal(cluster_dir_write_settings("/dev/null", &written), SK_EIO);
}

/* Settings of a version that had one metad. */
static void old_settings_have_one_metad(void **state) {
    struct fixture *fixture = *state;
    struct cluster_settings read = {0};
    char path[256];
    assert_int_equal(cluster_dir_make(fixture->path, fixture->text, sizeof fixture->text), SK_OK);
    snprintf(path, sizeof path, "%s/up.settings", fixture->path);
    FILE *file = fopen(path, "w");
    fputs("nodes 3\nshards 64\nlanes 2\n", file);
    fclose(file);
    assert_int_equal(cluster_dir_read_settings(fixture->path, &read), SK_OK);
    assert_int_equal(read.lanes, 2);
    assert_int_equal(read.metads, 1);
}

static void read_secret(const struct fixture *fixture, char secret[128]) {
    char path[256];
    snprintf(path, sizeof path, "%s/secret", fixture->path);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    secret[fread(secret, 1, 127, file)] = 0;
    fclose(file);
}

static void a_secret_is_made_once(void **state) {
    struct fixture *fixture = *state;
    char path[256], first[128], again[128];
    struct stat info;
    assert_int_equal(cluster_dir_make_secret(fixture->path, "secret"), SK_EIO); /* there is no directory yet */
    assert_int_equal(cluster_dir_make(fixture->path, fixture->text, sizeof fixture->text), SK_OK);
    snprintf(path, sizeof path, "%s/secret.new", fixture->path); /* of one that was killed; it was less careful */
    FILE *file = fopen(path, "w");
    fputs("half a sec", file);
    fclose(file);
    mode_t before = umask(0);
    assert_int_equal(cluster_dir_make_secret(fixture->path, "secret"), SK_OK);
    umask(before);
    read_secret(fixture, first);
    assert_int_equal(strspn(first, "0123456789abcdef"), 64);
    assert_string_equal(first + 64, "\n");
    assert_int_equal(access(path, F_OK), -1);
    snprintf(path, sizeof path, "%s/secret", fixture->path);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(cluster_dir_make_secret(fixture->path, "secret"), SK_OK);
    read_secret(fixture, again);
    assert_string_equal(first, again);
    assert_int_equal(remove(path), 0);
    assert_int_equal(cluster_dir_make_secret(fixture->path, "secret"), SK_OK);
    read_secret(fixture, again);
    assert_string_not_equal(first, again);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(made_with_all_above, set_up, tear_down),
        cmocka_unit_test_setup_teardown(cannot_be_made_below_a_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_at_a_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(orphans_hold_it_and_are_waited_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(settings_are_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(old_settings_have_one_metad, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_secret_is_made_once, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
