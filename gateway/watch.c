#include "gateway/watch.h"

#include "gateway/cluster_json.h"
#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/metad_client.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ASK_MS     1000u /* at most once in so long */
#define CALL_MS    1500u /* what metad has to answer */
#define KEPT_BYTES (1u << 20)

struct watch {
    struct metad_client *client; /* the thread's; others only cancel it */
    pthread_t thread;
    struct status last; /* the thread's, as the next: metad's last answer; no map: it has never answered */
    uint64_t last_ms;   /* when it came */
    struct buffer answer, fresh; /* what comes, and JSON in the making */

    /* under the lock, which is held for moves and copies of memory only */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool closing;
    uint64_t looked_ms;     /* the last look; 0 = none yet */
    enum watch_state state; /* of the last question to metad */
    char text[WATCH_TEXT_BYTES];
    struct buffer cluster; /* JSON; empty: none yet */
    bool of_map;
    uint64_t version; /* of the map in it */
    uint64_t made_ms; /* when metad answered, or the map came */

    /* under a lock of its own: the loop does not wait for copies */
    pthread_mutex_t map_lock;
    struct map *map; /* a reference; NULL: none yet */
    uint64_t map_ms; /* when it came */
};

/* ---- making JSON, on the thread ---- */

/* Shows `status` from now on. The memory of the old JSON is used for the next. */
static void show(struct watch *watch, const struct status *status, bool of_map, uint64_t made_ms) {
    buffer_clear(&watch->fresh, KEPT_BYTES);
    cluster_json_write(status, &watch->fresh);
    if (watch->fresh.failed) return; /* what is shown grows old, and says so */
    pthread_mutex_lock(&watch->lock);
    struct buffer old = watch->cluster;
    watch->cluster = watch->fresh;
    watch->fresh = old;
    watch->of_map = of_map;
    watch->version = status->map->version;
    watch->made_ms = made_ms;
    pthread_mutex_unlock(&watch->lock);
}

/* The gateway's own map may know more than metad's last answer. */
static void show_map(struct watch *watch) {
    pthread_mutex_lock(&watch->map_lock);
    struct map *map = watch->map == NULL ? NULL : map_ref(watch->map);
    uint64_t map_ms = watch->map_ms;
    pthread_mutex_unlock(&watch->map_lock);
    /* Only this thread changes these two. */
    if (map != NULL && (watch->cluster.size == 0 || map->version > watch->version)) {
        struct status status = watch->last; /* what the daemons told goes with it, as old as it is */
        status.map = map;
        show(watch, &status, true, watch->last.map == NULL ? map_ms : watch->last_ms);
    }
    map_unref(map);
}

static void note(struct watch *watch, enum watch_state state, const char *text) {
    pthread_mutex_lock(&watch->lock);
    watch->state = state;
    (void)snprintf(watch->text, sizeof watch->text, "%s", text);
    pthread_mutex_unlock(&watch->lock);
}

static void ask(struct watch *watch) {
    static const uint8_t no_params[] = {0x90};
    char text[WATCH_TEXT_BYTES] = "";
    struct status status;
    int err = metad_client_call(watch->client, "status", slice_of(no_params, sizeof no_params), CALL_MS,
                                &watch->answer, text, sizeof text);
    if (err == SK_OK) err = status_read(&status, &watch->answer);
    if (err != SK_OK) {
        show_map(watch);
        note(watch, WATCH_SILENT, text[0] != '\0' ? text : error_text(err));
        return;
    }
    status_deinit(&watch->last);
    watch->last = status;
    watch->last_ms = clock_boottime_ms();
    show(watch, &status, false, watch->last_ms);
    note(watch, WATCH_ANSWERS, "");
}

/* ---- the thread ---- */

static bool somebody_looks(const struct watch *watch, uint64_t now_ms) {
    return watch->looked_ms != 0 && now_ms < watch->looked_ms + WATCH_IDLE_MS;
}

/* Under the lock, which it lets go of meanwhile. */
static void wait_ms(struct watch *watch, uint64_t ms) {
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + ms * 1000000u;
    until.tv_sec += (time_t)(ns / 1000000000u);
    until.tv_nsec = (long)(ns % 1000000000u);
    (void)pthread_cond_timedwait(&watch->changed, &watch->lock, &until);
}

/* Until it is time to ask. False: the watch is to end. */
static bool wait_for_look(struct watch *watch, uint64_t asked_ms) {
    pthread_mutex_lock(&watch->lock);
    for (;;) {
        uint64_t now_ms = clock_boottime_ms();
        bool looks = somebody_looks(watch, now_ms);
        if (watch->closing || (looks && now_ms >= asked_ms + ASK_MS)) break;
        if (looks) wait_ms(watch, asked_ms + ASK_MS - now_ms);
        else pthread_cond_wait(&watch->changed, &watch->lock);
    }
    bool closing = watch->closing;
    pthread_mutex_unlock(&watch->lock);
    return !closing;
}

static void *run(void *arg) {
    struct watch *watch = arg;
    uint64_t asked_ms = 0;
    while (wait_for_look(watch, asked_ms)) {
        asked_ms = clock_boottime_ms();
        if (watch->cluster.size == 0) show_map(watch); /* better than nothing until metad answers */
        ask(watch);
    }
    return NULL;
}

/* ---- the module ---- */

void watch_set_map(struct watch *watch, const struct map *map) {
    struct map *held = map_ref(map);
    pthread_mutex_lock(&watch->map_lock);
    struct map *old = watch->map;
    watch->map = held;
    watch->map_ms = clock_boottime_ms();
    pthread_mutex_unlock(&watch->map_lock);
    map_unref(old);
}

void watch_look(struct watch *watch, struct watch_view *view, struct buffer *cluster) {
    uint64_t now_ms = clock_boottime_ms();
    pthread_mutex_lock(&watch->lock);
    /* What was answered before a pause says nothing about now. */
    if (!somebody_looks(watch, now_ms)) watch->state = WATCH_ASKING;
    watch->looked_ms = now_ms;
    *view = (struct watch_view){.state = watch->state, .of_map = watch->of_map};
    memcpy(view->text, watch->text, sizeof view->text);
    uint64_t age_ms = now_ms > watch->made_ms ? now_ms - watch->made_ms : 0;
    bool stale = watch->state == WATCH_ASKING && !watch->of_map && age_ms >= WATCH_IDLE_MS;
    if (watch->cluster.size > 0 && !stale) {
        view->has_cluster = true;
        view->age_ms = age_ms;
        buffer_append(cluster, watch->cluster.data, watch->cluster.size);
    }
    pthread_cond_signal(&watch->changed);
    pthread_mutex_unlock(&watch->lock);
}

static void free_watch(struct watch *watch) {
    metad_client_free(watch->client);
    status_deinit(&watch->last);
    buffer_deinit(&watch->answer);
    buffer_deinit(&watch->fresh);
    buffer_deinit(&watch->cluster);
    map_unref(watch->map);
    (void)pthread_cond_destroy(&watch->changed);
    (void)pthread_mutex_destroy(&watch->lock);
    (void)pthread_mutex_destroy(&watch->map_lock);
    free(watch);
}

int watch_open(struct watch **out, const char *metad_addresses) {
    struct watch *watch = calloc(1, sizeof *watch);
    if (watch == NULL) return SK_ENOMEM;
    pthread_condattr_t by_monotonic;
    (void)pthread_condattr_init(&by_monotonic);
    (void)pthread_condattr_setclock(&by_monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&watch->changed, &by_monotonic);
    (void)pthread_condattr_destroy(&by_monotonic);
    (void)pthread_mutex_init(&watch->lock, NULL);
    (void)pthread_mutex_init(&watch->map_lock, NULL);
    buffer_init(&watch->answer);
    buffer_init(&watch->fresh);
    buffer_init(&watch->cluster);
    int err = metad_client_new(&watch->client, metad_addresses);
    if (err == SK_OK && pthread_create(&watch->thread, NULL, run, watch) != 0) err = SK_ENOMEM;
    if (err != SK_OK) {
        free_watch(watch);
        return err;
    }
    *out = watch;
    return SK_OK;
}

void watch_close(struct watch *watch) {
    if (watch == NULL) return;
    pthread_mutex_lock(&watch->lock);
    watch->closing = true;
    pthread_cond_signal(&watch->changed);
    pthread_mutex_unlock(&watch->lock);
    metad_client_cancel(watch->client);
    int err = pthread_join(watch->thread, NULL);
    sk_assert(err == 0);
    free_watch(watch);
}
