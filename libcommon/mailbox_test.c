#include "mailbox.h"

#include "clock.h"
#include "error.h"

#include <pthread.h>
#include <sched.h>

#include "testing.h"

#define FAR_US (60u * 1000000u) /* a wait that a test never sits out */

struct letter {
    struct mail mail; /* first */
    unsigned sender, number;
};

static struct mailbox *new_mailbox(uint32_t capacity) {
    struct mailbox *mailbox;
    assert_int_equal(mailbox_new(&mailbox, capacity), SK_OK);
    return mailbox;
}

static void test_oldest_first_and_all_at_once(void **state) {
    (void)state;
    struct mailbox *mailbox = new_mailbox(10);
    struct letter letters[3] = {{.number = 0}, {.number = 1}, {.number = 2}};
    assert_null(mailbox_take(mailbox, 0));
    for (int i = 0; i < 3; i++) assert_int_equal(mailbox_post(mailbox, &letters[i].mail), SK_OK);
    struct mail *list = mailbox_take(mailbox, clock_boottime_us() + FAR_US);
    for (int i = 0; i < 3; i++) {
        assert_ptr_equal(list, &letters[i].mail);
        list = list->next;
    }
    assert_null(list);
    assert_null(mailbox_take(mailbox, 0));
    mailbox_free(mailbox);
}

static void test_capacity_bounds_post_only(void **state) {
    (void)state;
    struct mailbox *mailbox = new_mailbox(2);
    struct letter letters[4];
    assert_int_equal(mailbox_post(mailbox, &letters[0].mail), SK_OK);
    assert_int_equal(mailbox_post(mailbox, &letters[1].mail), SK_OK);
    assert_int_equal(mailbox_post(mailbox, &letters[2].mail), SK_BUSY);
    mailbox_post_always(mailbox, &letters[3].mail);
    assert_int_equal(mailbox_post(mailbox, &letters[2].mail), SK_BUSY);
    struct mail *list = mailbox_take(mailbox, 0);
    assert_ptr_equal(list->next->next, &letters[3].mail);
    assert_null(list->next->next->next);
    assert_int_equal(mailbox_post(mailbox, &letters[2].mail), SK_OK); /* room again */
    assert_ptr_equal(mailbox_take(mailbox, 0), &letters[2].mail);
    mailbox_free(mailbox);
}

static void test_the_deadline_ends_a_wait(void **state) {
    (void)state;
    struct mailbox *mailbox = new_mailbox(1);
    uint64_t deadline_us = clock_boottime_us() + 20000;
    assert_null(mailbox_take(mailbox, deadline_us));
    assert_true(clock_boottime_us() >= deadline_us);
    assert_null(mailbox_take(mailbox, 1)); /* long past */
    mailbox_free(mailbox);
}

static void test_a_wake_is_kept_for_the_next_take(void **state) {
    (void)state;
    struct mailbox *mailbox = new_mailbox(1);
    mailbox_wake(mailbox);
    mailbox_wake(mailbox);
    assert_null(mailbox_take(mailbox, UINT64_MAX)); /* the farthest deadline there is */
    uint64_t deadline_us = clock_boottime_us() + 1000;
    assert_null(mailbox_take(mailbox, deadline_us)); /* both were one */
    assert_true(clock_boottime_us() >= deadline_us);
    mailbox_free(mailbox);
}

static void *wake_it(void *arg) {
    mailbox_wake(arg);
    return NULL;
}

static void test_a_wake_ends_a_wait(void **state) {
    (void)state;
    for (int round = 0; round < 200; round++) {
        struct mailbox *mailbox = new_mailbox(1);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, wake_it, mailbox), 0);
        uint64_t deadline_us = clock_boottime_us() + FAR_US;
        assert_null(mailbox_take(mailbox, deadline_us));
        assert_true(clock_boottime_us() < deadline_us);
        pthread_join(thread, NULL);
        mailbox_free(mailbox);
    }
}

#define SENDERS 4
#define LETTERS 20000u

struct sender {
    struct mailbox *mailbox;
    struct letter *letters;
    unsigned number;
    bool always;
    unsigned refused;
};

static void *send_letters(void *arg) {
    struct sender *sender = arg;
    for (unsigned i = 0; i < LETTERS; i++) {
        struct letter *letter = &sender->letters[i];
        letter->sender = sender->number;
        letter->number = i;
        if (sender->always) {
            mailbox_post_always(sender->mailbox, &letter->mail);
            continue;
        }
        while (mailbox_post(sender->mailbox, &letter->mail) != SK_OK) {
            sender->refused++;
            sched_yield();
        }
    }
    return NULL;
}

/* Each sender's letters arrive all, once and in order, whoever else posts. */
static void test_many_senders(void **state) {
    (void)state;
    struct mailbox *mailbox = new_mailbox(64);
    struct sender senders[SENDERS] = {0};
    pthread_t threads[SENDERS];
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.mailbox = mailbox, .number = i, .always = i % 2 == 1};
        senders[i].letters = calloc(LETTERS, sizeof *senders[i].letters);
        assert_non_null(senders[i].letters);
        assert_int_equal(pthread_create(&threads[i], NULL, send_letters, &senders[i]), 0);
    }
    unsigned next[SENDERS] = {0}, total = 0;
    while (total < SENDERS * LETTERS) {
        uint64_t deadline_us = clock_boottime_us() + FAR_US;
        struct mail *list = mailbox_take(mailbox, deadline_us);
        if (list == NULL) assert_true(clock_boottime_us() < deadline_us);
        while (list != NULL) {
            struct letter *letter = (struct letter *)list;
            list = list->next;
            assert_int_equal(letter->number, next[letter->sender]);
            next[letter->sender]++;
            total++;
        }
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        pthread_join(threads[i], NULL);
        free(senders[i].letters);
    }
    assert_null(mailbox_take(mailbox, 0));
    mailbox_free(mailbox);
}

/* Back and forth, so that each take waits: a signal that is lost stops this until the deadline. */
struct pair {
    struct mailbox *there, *back;
};

static void *answer_letters(void *arg) {
    struct pair *pair = arg;
    for (unsigned i = 0; i < 5000; i++) {
        struct mail *mail = mailbox_take(pair->there, clock_boottime_us() + FAR_US);
        if (mail == NULL) return NULL;
        mailbox_post_always(pair->back, mail);
    }
    return NULL;
}

static void test_no_signal_is_lost(void **state) {
    (void)state;
    struct pair pair = {new_mailbox(1), new_mailbox(1)};
    struct letter letter;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, answer_letters, &pair), 0);
    for (unsigned i = 0; i < 5000; i++) {
        assert_int_equal(mailbox_post(pair.there, &letter.mail), SK_OK);
        assert_ptr_equal(mailbox_take(pair.back, clock_boottime_us() + FAR_US), &letter.mail);
    }
    pthread_join(thread, NULL);
    mailbox_free(pair.there);
    mailbox_free(pair.back);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oldest_first_and_all_at_once),
        cmocka_unit_test(test_capacity_bounds_post_only),
        cmocka_unit_test(test_the_deadline_ends_a_wait),
        cmocka_unit_test(test_a_wake_is_kept_for_the_next_take),
        cmocka_unit_test(test_a_wake_ends_a_wait),
        cmocka_unit_test(test_many_senders),
        cmocka_unit_test(test_no_signal_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
