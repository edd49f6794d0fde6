/* Calls back over and over on a thread of its own. Unlike nng's timers, which look at the clock without a pause for the last
 * millisecond before each of them (nng 1.5.2), it costs nothing between its calls. */
#pragma once

#include <stdint.h>

struct ticker;

/* The first call comes at once, the next as many milliseconds after it has returned as it says, or after a wake. SK_ENOMEM: no
 * memory, or no thread. `made` is set before the first call. */
int ticker_new(struct ticker **made, uint32_t (*tick_cb)(void *arg), void *arg);

/* Any thread, also within a call: another one comes at once behind the one under way, if any. */
void ticker_wake(struct ticker *ticker);

/* Waits for a call under way; then none comes, and a wake does nothing. Not within a call; one thread. NULL is allowed. */
void ticker_stop(struct ticker *ticker);

/* Stops it first. Nobody may wake it any more. NULL is allowed. */
void ticker_free(struct ticker *ticker);
