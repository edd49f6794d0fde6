/* How the kernel shares the processors among a daemon's threads and its neighbours'. */
#pragma once

/* Asks for SCHED_BATCH (sched(7)) for the calling thread and all that it starts: a thread that is woken then waits until a processor is
 * free instead of taking it from who woke it. A command passes through many threads of several processes; each does what it
 * has at hand before the next begins, so more commands go through every step together. With all of a cluster on 2 cores a write costs
 * two thirds of the processor time, a read half. At the start, before there are other threads. Where it is not allowed nothing changes. */
void scheduling_batch(void);
