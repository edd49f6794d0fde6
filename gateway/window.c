#include "gateway/window.h"

void window_init(struct window *window, uint32_t node) {
    uint64_t first = (uint64_t)node << WINDOW_NODE_SHIFT;
    *window = (struct window){.sent = first, .taken = first, .stall_ms = WINDOW_STALL_MS};
}

bool window_open(const struct window *window) { return window->sent - window->taken < WINDOW_FRAMES_MAX; }

bool window_empty(const struct window *window) { return window->sent == window->taken; }

uint64_t window_send(struct window *window, uint64_t now_ms) {
    if (window_empty(window)) window->progress_ms = now_ms;
    return ++window->sent;
}

void window_on_taken(struct window *window, uint64_t number, uint64_t now_ms) {
    if (number <= window->taken || number > window->sent) return;
    window->taken = number;
    window->progress_ms = now_ms;
    window->stall_ms = WINDOW_STALL_MS;
}

bool window_still(const struct window *window, uint64_t still_ms, uint64_t now_ms) {
    return !window_empty(window) && now_ms >= window->progress_ms + still_ms;
}

bool window_stalled(const struct window *window, uint64_t now_ms) {
    return window_still(window, window->stall_ms, now_ms);
}

void window_on_stall(struct window *window) {
    window->stall_ms *= 2;
    if (window->stall_ms > WINDOW_STALL_MS_MAX) window->stall_ms = WINDOW_STALL_MS_MAX;
    window_reset(window);
}

bool window_slow(const struct window *window, uint64_t now_ms) {
    return window_still(window, WINDOW_SLOW_MS, now_ms);
}

void window_reset(struct window *window) { window->taken = window->sent; }

bool seen_first_time(struct seen *seen, uint64_t incarnation, uint64_t number) {
    if (incarnation != seen->incarnation || seen->bits == 0) {
        *seen = (struct seen){.incarnation = incarnation, .highest = number, .bits = 1};
        return true;
    }
    if (number > seen->highest) {
        uint64_t by = number - seen->highest;
        seen->bits = by < 64 ? seen->bits << by : 0;
        seen->bits |= 1;
        seen->highest = number;
        return true;
    }
    uint64_t age = seen->highest - number;
    if (age >= 64 || (seen->bits >> age & 1) != 0) return false;
    seen->bits |= (uint64_t)1 << age;
    return true;
}
