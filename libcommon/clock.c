#include "clock.h"

#include "check.h"

#include <time.h>

static uint64_t read_us(clockid_t id) {
    struct timespec now;
    int rc = clock_gettime(id, &now);
    sk_assert(rc == 0);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

uint64_t clock_boottime_us(void) { return read_us(CLOCK_BOOTTIME); }

uint64_t clock_boottime_ms(void) { return clock_boottime_us() / 1000u; }

uint64_t clock_thread_cpu_us(void) { return read_us(CLOCK_THREAD_CPUTIME_ID); }

uint64_t clock_realtime_us(void) { return read_us(CLOCK_REALTIME); }
