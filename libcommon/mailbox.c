#include "mailbox.h"

#include "check.h"
#include "clock.h"
#include "error.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

struct mailbox {
    uint32_t capacity;
    pthread_mutex_t mutex;
    pthread_cond_t arrived;
    /* Below: under `mutex`. */
    struct mail *first, *last; /* borrowed from post to take */
    uint32_t count;
    bool woken;
    bool waiting; /* the owner sleeps and nobody has signalled it yet */
};

int mailbox_new(struct mailbox **mailbox, uint32_t capacity) {
    struct mailbox *made = calloc(1, sizeof *made);
    if (made == NULL) return SK_ENOMEM;
    made->capacity = capacity;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    int rc = pthread_cond_init(&made->arrived, &attributes);
    sk_assert(rc == 0); /* glibc allocates nothing here and the attributes are valid */
    pthread_condattr_destroy(&attributes);
    rc = pthread_mutex_init(&made->mutex, NULL);
    sk_assert(rc == 0);
    *mailbox = made;
    return SK_OK;
}

void mailbox_free(struct mailbox *mailbox) {
    if (mailbox == NULL) return;
    sk_assert(mailbox->first == NULL);
    pthread_cond_destroy(&mailbox->arrived);
    pthread_mutex_destroy(&mailbox->mutex);
    free(mailbox);
}

/* Unlocks, and signals only an owner that sleeps unsignalled: under load it never does, and a post is then two
 * uncontended atomics. Outside the lock, so that the owner does not wake up only to wait for it. */
static void unlock_and_signal(struct mailbox *mailbox) {
    bool signal = mailbox->waiting;
    mailbox->waiting = false;
    pthread_mutex_unlock(&mailbox->mutex);
    if (signal) pthread_cond_signal(&mailbox->arrived);
}

static void append(struct mailbox *mailbox, struct mail *mail) {
    mail->next = NULL;
    if (mailbox->last != NULL) mailbox->last->next = mail;
    else mailbox->first = mail;
    mailbox->last = mail;
    mailbox->count++;
}

int mailbox_post(struct mailbox *mailbox, struct mail *mail) {
    pthread_mutex_lock(&mailbox->mutex);
    if (mailbox->count >= mailbox->capacity) {
        pthread_mutex_unlock(&mailbox->mutex);
        return SK_BUSY;
    }
    append(mailbox, mail);
    unlock_and_signal(mailbox);
    return SK_OK;
}

void mailbox_post_always(struct mailbox *mailbox, struct mail *mail) {
    pthread_mutex_lock(&mailbox->mutex);
    append(mailbox, mail);
    unlock_and_signal(mailbox);
}

void mailbox_wake(struct mailbox *mailbox) {
    pthread_mutex_lock(&mailbox->mutex);
    mailbox->woken = true;
    unlock_and_signal(mailbox);
}

/* `wait_us` from now on the clock the condition waits by. */
static struct timespec monotonic_after(uint64_t wait_us) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(wait_us / 1000000u);
    until.tv_nsec += (long)(wait_us % 1000000u) * 1000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    return until;
}

/* With the lock held: until there is something, or the deadline of CLOCK_BOOTTIME, which no condition can wait by.
 * A suspended machine wakes up late once, by what it had left to wait. */
static void wait_for_mail(struct mailbox *mailbox, uint64_t deadline_us) {
    const uint64_t day_us = 86400u * 1000000ull; /* keeps far deadlines within time_t */
    while (mailbox->first == NULL && !mailbox->woken) {
        uint64_t now_us = clock_boottime_us();
        if (now_us >= deadline_us) break;
        uint64_t wait_us = deadline_us - now_us < day_us ? deadline_us - now_us : day_us;
        struct timespec until = monotonic_after(wait_us);
        mailbox->waiting = true;
        pthread_cond_timedwait(&mailbox->arrived, &mailbox->mutex, &until);
        mailbox->waiting = false;
    }
}

struct mail *mailbox_take(struct mailbox *mailbox, uint64_t deadline_us) {
    pthread_mutex_lock(&mailbox->mutex);
    if (deadline_us != 0) wait_for_mail(mailbox, deadline_us);
    struct mail *list = mailbox->first;
    mailbox->first = NULL;
    mailbox->last = NULL;
    mailbox->count = 0;
    mailbox->woken = false;
    pthread_mutex_unlock(&mailbox->mutex);
    return list;
}
