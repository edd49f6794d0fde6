/* A way around two defects of nng 1.5.2, each of which ends the use of a whole process, and two settings for speed. Linked into every program that uses
 * libcommon (libcommon/CMakeLists.txt); nothing needs to be called.
 *
 * The first stops the process from closing connections. A connection's transport (tcp, ipc) takes a message in parts: its length, then its body, or whatever the kernel had
 * room for. Between two parts it is in a callback, and if the connection is closed just then, by either end's fault or
 * by nng_close or nng_pipe_close, the next part's nng_stream_recv or nng_stream_send is refused: without a word, since the aio
 * is stopped. So the operation of the protocol above never ends, and nng's one thread that destroys connections waits
 * for it for ever: no nng_close returns any more, no NNG_PIPE_EV_REM_POST is called, no descriptor is closed. Any peer that
 * sends when it is being closed can cause this.
 *
 * nng_stream_recv and nng_stream_send are part of nng's interface and its transports call them through the dynamic linker,
 * which finds ours first. Ours call nng's, and end what was refused with NNG_ECONNRESET. Skerry itself must not give them aios
 * that it has stopped.
 *
 * The second makes a listener deaf for ever. A peer that has closed its end and then reset the connection before it was
 * accepted (a host that loses power does; so does any program that wants to) leaves EPIPE to the first write to it; nng
 * reads that as NNG_ECLOSED, and an accept that ends with it as the end of the listener. Connections are still made, and
 * nobody reads from them. Later versions of nng tell the two apart. Ours is a sendmsg between nng and the C library
 * that says ECONNRESET instead, which nng takes for what it is: a peer that has gone.
 *
 * Callbacks of nng run on twice as many threads as there are cores, for which every message is a contest: each wakes another of them,
 * and they wait for one lock. NNG_GUARD_CORES_MAX and half of the cores are what we tell nng when it asks sysconf, so it starts as many
 * threads as there are cores, and 8 at most. On 2 cores, with all of a cluster on them, a command costs a quarter less for it.
 *
 * The locks for which they wait are held for moments, and nng makes them of the kind that looks for mistakes and sleeps at once. We make them of the
 * kind that tries again for a moment first (PTHREAD_MUTEX_ADAPTIVE_NP): a quarter of a gateway's time was waiting and waking.
 *
 * With any other version of nng than the one whose source this follows from all of them only pass on. */
#pragma once

#include <stdint.h>

#define NNG_GUARD_CORES_MAX 4 /* nng never believes in more */

/* How many operations were ended so. Any thread. */
uint64_t nng_guard_ended(void);

/* How many writes met a peer that had closed and reset its connection. Any thread. */
uint64_t nng_guard_resets(void);
