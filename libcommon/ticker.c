#include "libcommon/ticker.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

struct ticker {
    uint32_t period_ms;
    void (*tick_cb)(void *arg);
    void *arg;
    pthread_t thread;
    pthread_mutex_t lock; /* guards stopped */
    pthread_cond_t changed;
    bool stopped;
};

static struct timespec after(uint32_t ms) {
    struct timespec at;
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += ms / 1000;
    at.tv_nsec += (long)(ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_nsec -= 1000000000;
        at.tv_sec++;
    }
    return at;
}

/* False: stopped. */
static bool wait_for_turn(struct ticker *ticker) {
    struct timespec until = after(ticker->period_ms);
    int err = 0;
    pthread_mutex_lock(&ticker->lock);
    while (!ticker->stopped && err != ETIMEDOUT) {
        err = pthread_cond_timedwait(&ticker->changed, &ticker->lock, &until);
    }
    bool stopped = ticker->stopped;
    pthread_mutex_unlock(&ticker->lock);
    return !stopped;
}

static void *run(void *arg) {
    struct ticker *ticker = arg;
    do ticker->tick_cb(ticker->arg);
    while (wait_for_turn(ticker));
    return NULL;
}

static void release(struct ticker *ticker) {
    pthread_cond_destroy(&ticker->changed);
    pthread_mutex_destroy(&ticker->lock);
    free(ticker);
}

int ticker_new(struct ticker **made, uint32_t period_ms, void (*tick_cb)(void *arg), void *arg) {
    struct ticker *ticker = calloc(1, sizeof *ticker);
    pthread_condattr_t attributes;
    if (ticker == NULL) return SK_ENOMEM;
    ticker->period_ms = period_ms;
    ticker->tick_cb = tick_cb;
    ticker->arg = arg;
    pthread_mutex_init(&ticker->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&ticker->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pthread_create(&ticker->thread, NULL, run, ticker) != 0) {
        release(ticker);
        return SK_ENOMEM;
    }
    *made = ticker;
    return SK_OK;
}

void ticker_free(struct ticker *ticker) {
    if (ticker == NULL) return;
    pthread_mutex_lock(&ticker->lock);
    ticker->stopped = true;
    pthread_cond_signal(&ticker->changed);
    pthread_mutex_unlock(&ticker->lock);
    int err = pthread_join(ticker->thread, NULL);
    sk_assert(err == 0);
    release(ticker);
}
