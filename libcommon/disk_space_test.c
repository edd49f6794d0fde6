#include "libcommon/disk_space.h"

#include "libcommon/clock.h"
#include "libcommon/testing.h"

#include <errno.h>
#include <pthread.h>
#include <sys/statvfs.h>

#define WAIT_MS 10000u

/* The disk: this is what disk_space calls. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool hangs, fails;
    unsigned asked; /* how often */
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

int statvfs(const char *path, struct statvfs *found) {
    assert_string_equal(path, "the directory");
    pthread_mutex_lock(&disk.lock);
    disk.asked++;
    pthread_cond_broadcast(&disk.changed);
    while (disk.hangs) pthread_cond_wait(&disk.changed, &disk.lock);
    bool fails = disk.fails;
    pthread_mutex_unlock(&disk.lock);
    *found = (struct statvfs){.f_frsize = 4096, .f_blocks = 1000, .f_bfree = 300, .f_bavail = 250};
    errno = EIO;
    return fails ? -1 : 0;
}

static void set_disk(bool hangs, bool fails) {
    pthread_mutex_lock(&disk.lock);
    disk.hangs = hangs;
    disk.fails = fails;
    disk.asked = 0;
    pthread_cond_broadcast(&disk.changed);
    pthread_mutex_unlock(&disk.lock);
}

static void wait_until_asked(void) {
    pthread_mutex_lock(&disk.lock);
    while (disk.asked == 0) pthread_cond_wait(&disk.changed, &disk.lock);
    pthread_mutex_unlock(&disk.lock);
}

/* Whether a page has the figures. */
static bool is_told(struct disk_space *space) {
    static const char size[] = "\nskerry_disk_size_bytes 4096000\n",
                      available[] = "\nskerry_disk_available_bytes 1024000\n";
    struct buffer page;
    buffer_init(&page);
    disk_space_write(space, &page);
    buffer_append(&page, "", 1);
    bool told = strstr((const char *)page.data, size) != NULL;
    assert_int_equal(told, strstr((const char *)page.data, available) != NULL);
    assert_int_equal(told, page.size > 1);
    buffer_deinit(&page);
    return told;
}

static void wait_until_told(struct disk_space *space) {
    uint64_t until_ms = clock_boottime_ms() + WAIT_MS;
    while (!is_told(space) && clock_boottime_ms() < until_ms) usleep(1000);
    assert_true(is_told(space));
}

static void a_disk_that_hangs_keeps_no_page_waiting(void **state) {
    (void)state;
    set_disk(true, false);
    struct disk_space *space = disk_space_open("the directory");
    assert_non_null(space);
    wait_until_asked();
    assert_false(is_told(space)); /* and not waited for */
    set_disk(false, false);
    wait_until_told(space);
    set_disk(true, false); /* again, and what was known is told */
    wait_until_asked();
    assert_true(is_told(space));
    set_disk(false, false);
    disk_space_close(space);
}

static void what_a_disk_does_not_say_is_not_told(void **state) {
    (void)state;
    set_disk(false, true);
    struct disk_space *space = disk_space_open("the directory");
    assert_non_null(space);
    wait_until_asked();
    assert_false(is_told(space));
    set_disk(false, false);
    wait_until_told(space);
    disk_space_close(space);
    disk_space_close(NULL);
    assert_false(is_told(NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_disk_that_hangs_keeps_no_page_waiting),
        cmocka_unit_test(what_a_disk_does_not_say_is_not_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
