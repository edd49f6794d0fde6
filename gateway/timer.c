#include "gateway/timer.h"

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ms) {
    for (uint32_t i = 0; i < TIMER_BUCKETS; i++) list_init(&wheel->buckets[i]);
    wheel->tick = now_ms / TIMER_TICK_MS;
    wheel->armed = 0;
}

void timer_arm(struct timer_wheel *wheel, struct timer *timer, uint64_t at_ms) {
    uint64_t tick = (at_ms + TIMER_TICK_MS - 1) / TIMER_TICK_MS;
    if (tick < wheel->tick) tick = wheel->tick;
    uint64_t last = wheel->tick + TIMER_BUCKETS - 1;
    if (tick > last) tick = last;
    list_add_last(&wheel->buckets[tick % TIMER_BUCKETS], &timer->link);
    wheel->armed++;
}

void timer_disarm(struct timer_wheel *wheel, struct timer *timer) {
    if (!link_in_list(&timer->link)) return;
    list_remove(&timer->link);
    wheel->armed--;
}

struct timer *timer_wheel_advance(struct timer_wheel *wheel, uint64_t now_ms) {
    uint64_t now_tick = now_ms / TIMER_TICK_MS;
    if (wheel->armed == 0) {
        if (wheel->tick <= now_tick) wheel->tick = now_tick + 1;
        return NULL;
    }
    /* A bucket is left only when it is empty: what fires may arm others for the same tick. */
    for (; wheel->tick <= now_tick; wheel->tick++) {
        struct link *link = list_first(&wheel->buckets[wheel->tick % TIMER_BUCKETS]);
        if (link == NULL) continue;
        list_remove(link);
        wheel->armed--;
        return list_entry(link, struct timer, link);
    }
    return NULL;
}
