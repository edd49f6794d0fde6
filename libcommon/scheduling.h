/* How the kernel shares the processors among a daemon's threads and its neighbours'. */
#pragma once

enum scheduling { SCHEDULING_BATCH, SCHEDULING_NORMAL };

/* The flag of the daemons that clients wait for (libcommon/config.h). `target`: a uint64_t, of enum scheduling. */
#define SCHEDULING_OPTION(option_target)                                                                          \
    {                                                                                                             \
        .name = "scheduling", .type = CONFIG_CHOICE, .target = (option_target), .fallback = "batch",              \
        .choices = "batch|normal",                                                                                \
        .help =                                                                                                   \
            "batch: more commands a second; normal: sooner answers where other programs use up all processors"    \
    }

/* SCHEDULING_BATCH asks for SCHED_BATCH (sched(7)) for the calling thread and all that it starts: a thread that is woken then waits
 * until a processor is free instead of taking it from who runs. A command passes through many threads of several processes; each does
 * what it has at hand before the next begins, so more commands go through every step together. With all of a cluster on 2 cores a write
 * costs two thirds of the processor time, a read half. But where other programs leave no processor free, each step may wait until the next tick of the
 * kernel. At the start, before there are other threads. Where it is not allowed nothing changes. */
void scheduling_use(enum scheduling scheduling);
