/* How many frames to a shardd are out: sent, and not yet reported as taken in its answers. While a few are out,
 * commands gather; so batches grow by themselves under load. Frames may be lost at a disconnect (R27), so a window
 * that does not move is reset and what was in it is sent again. And which answer frames were seen before, since a
 * repeated refusal would otherwise count against a later attempt. Pure; times are milliseconds.
 *
 * The number of a frame has the node's id in its upper bits: `taken` in an answer frame, which says nothing else
 * of its sender, then tells whose it is. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define WINDOW_FRAMES_MAX   4u
#define WINDOW_STALL_MS     1000u
#define WINDOW_STALL_MS_MAX 16000u
#define WINDOW_SLOW_MS      200u
#define WINDOW_NODE_SHIFT   40

struct window {
    uint64_t sent;        /* number of the last frame */
    uint64_t taken;       /* everything up to here counts as arrived */
    uint64_t progress_ms; /* when the window last moved, or went from empty to not */
    uint64_t stall_ms; /* it may stand still for so long: twice as long after each stall, until it has moved, since
                             a slow network must have time for a large frame */
};

static inline uint32_t window_node_of(uint64_t number) { return (uint32_t)(number >> WINDOW_NODE_SHIFT); }

void window_init(struct window *window, uint32_t node);

/* Whether another frame may go. */
bool window_open(const struct window *window);

/* No frame is out. */
bool window_empty(const struct window *window);

/* The number of the next frame, which counts as sent from now on. */
uint64_t window_send(struct window *window, uint64_t now_ms);

/* The other side has taken everything up to `number`. Old news and numbers never sent are ignored. */
void window_on_taken(struct window *window, uint64_t number, uint64_t now_ms);

/* Frames are out and nothing has moved for so long. */
bool window_still(const struct window *window, uint64_t still_ms, uint64_t now_ms);

/* Frames are out and nothing has moved for WINDOW_STALL_MS, or longer after other stalls. */
bool window_stalled(const struct window *window, uint64_t now_ms);

/* Then what is out counts as lost. */
void window_on_stall(struct window *window);

/* Nothing has moved for WINDOW_SLOW_MS: who can ask another does. */
bool window_slow(const struct window *window, uint64_t now_ms);

/* What is out counts as lost. */
void window_reset(struct window *window);

/* Numbers seen from one sender, the newest 64 of them (the anti-replay window of RFC 4303, section 3.4.3). */
struct seen {
    uint64_t incarnation; /* of the sender: another one starts anew */
    uint64_t highest;
    uint64_t bits; /* bit i: highest - i was seen */
};

/* Whether `number` is new, and notes it. What is too old to tell counts as seen. */
bool seen_first_time(struct seen *seen, uint64_t incarnation, uint64_t number);
