/* Calls back over and over on a thread of its own. Unlike nng's timers, which look at the clock without a pause for the last
 * millisecond before each of them (nng 1.5.2), it costs nothing between its calls. */
#pragma once

#include <stdint.h>

struct ticker;

/* The first call comes at once, the next `period_ms` after it has returned. SK_ENOMEM: no memory, or no thread. */
int ticker_new(struct ticker **ticker, uint32_t period_ms, void (*tick_cb)(void *arg), void *arg);

/* Waits for a call under way; then none comes. Not within a call. NULL is allowed. */
void ticker_free(struct ticker *ticker);
