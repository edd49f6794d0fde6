/* A timer wheel: arming and disarming cost the same however many are armed (Varghese and Lauck, 1987, scheme 4).
 * Times are milliseconds of clock_boottime_ms, given by the caller. A timer fires at the first advance at or after
 * its time, up to TIMER_TICK_MS late. The loop thread only. */
#pragma once

#include "gateway/list.h"

#include <stdint.h>

#define TIMER_BUCKETS 4096u
#define TIMER_TICK_MS 16u
#define TIMER_SPAN_MS                                                                                             \
    (TIMER_BUCKETS * TIMER_TICK_MS) /* 65.5 s: more than TIMEOUT_MS_MAX; later is armed as this */

struct timer {
    struct link link; /* private; all zero = not armed */
};

struct timer_wheel {
    struct list buckets[TIMER_BUCKETS]; /* private */
    uint64_t tick;                      /* private: the first one that was not handled yet */
    uint32_t armed;                     /* timers in the wheel */
};

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ms);

/* `timer` is not armed. */
void timer_arm(struct timer_wheel *wheel, struct timer *timer, uint64_t at_ms);

/* A timer that is not armed stays so. */
void timer_disarm(struct timer_wheel *wheel, struct timer *timer);

/* One timer whose time has come, disarmed; NULL when there is none more. To be called until then. */
struct timer *timer_wheel_advance(struct timer_wheel *wheel, uint64_t now_ms);
