/* The clocks. The pure cores take time as an argument; only shells call these. Any thread. */
#pragma once

#include <stdint.h>

/* Microseconds since boot, suspended time included (CLOCK_BOOTTIME): durations, deadlines, leases. */
uint64_t clock_boottime_us(void);

/* Milliseconds of the same clock. */
uint64_t clock_boottime_ms(void);

/* Microseconds of processor time that the calling thread has used. */
uint64_t clock_thread_cpu_us(void);

/* Microseconds since 1970: only where a date is meant. */
uint64_t clock_realtime_us(void);
