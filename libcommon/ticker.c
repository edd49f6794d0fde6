#include "libcommon/ticker.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

struct ticker {
    uint32_t (*tick_cb)(void *arg);
    void *arg;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    bool woken;
    bool stopped; /* the owner's to change */
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
static bool wait_for_turn(struct ticker *ticker, uint32_t wait_ms) {
    struct timespec until = after(wait_ms);
    int err = 0;
    pthread_mutex_lock(&ticker->lock);
    while (!ticker->woken && !ticker->stopped && err != ETIMEDOUT) {
        err = pthread_cond_timedwait(&ticker->changed, &ticker->lock, &until);
    }
    bool stopped = ticker->stopped;
    ticker->woken = false;
    pthread_mutex_unlock(&ticker->lock);
    return !stopped;
}

static void *run(void *arg) {
    struct ticker *ticker = arg;
    uint32_t wait_ms;
    do wait_ms = ticker->tick_cb(ticker->arg);
    while (wait_for_turn(ticker, wait_ms));
    return NULL;
}

static void release(struct ticker *ticker) {
    pthread_cond_destroy(&ticker->changed);
    pthread_mutex_destroy(&ticker->lock);
    free(ticker);
}

int ticker_new(struct ticker **made, uint32_t (*tick_cb)(void *arg), void *arg) {
    struct ticker *ticker = calloc(1, sizeof *ticker);
    pthread_condattr_t attributes;
    if (ticker == NULL) return SK_ENOMEM;
    ticker->tick_cb = tick_cb;
    ticker->arg = arg;
    pthread_mutex_init(&ticker->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&ticker->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    *made = ticker;
    if (pthread_create(&ticker->thread, NULL, run, ticker) == 0) return SK_OK;
    *made = NULL;
    release(ticker);
    return SK_ENOMEM;
}

static void tell(struct ticker *ticker, bool *what) {
    pthread_mutex_lock(&ticker->lock);
    *what = true;
    pthread_cond_signal(&ticker->changed);
    pthread_mutex_unlock(&ticker->lock);
}

void ticker_wake(struct ticker *ticker) { tell(ticker, &ticker->woken); }

void ticker_stop(struct ticker *ticker) {
    if (ticker == NULL || ticker->stopped) return;
    tell(ticker, &ticker->stopped);
    int err = pthread_join(ticker->thread, NULL);
    sk_assert(err == 0);
}

void ticker_free(struct ticker *ticker) {
    if (ticker == NULL) return;
    ticker_stop(ticker);
    release(ticker);
}
