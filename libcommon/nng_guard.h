/* A way around a defect of nng 1.5.2 that stops the whole process from closing connections. Linked into every program that
 * uses libcommon (libcommon/CMakeLists.txt); nothing needs to be called.
 *
 * A connection's transport (tcp, ipc) takes a message in parts: its length, then its body, or whatever the kernel had
 * room for. Between two parts it is in a callback, and if the connection is closed just then, by either end's fault or
 * by nng_close or nng_pipe_close, the next part's nng_stream_recv or nng_stream_send is refused: without a word, since the aio
 * is stopped. So the operation of the protocol above never ends, and nng's one thread that destroys connections waits
 * for it for ever: no nng_close returns any more, no NNG_PIPE_EV_REM_POST is called, no descriptor is closed. Any peer that
 * sends when it is being closed can cause this.
 *
 * The two functions are part of nng's interface and its transports call them through the dynamic linker, which finds
 * ours first. Ours call nng's, and end what was refused with NNG_ECLOSED. With any other version of nng than the one whose
 * source this follows from they only pass on. Skerry itself must not give them aios that it has stopped. */
#pragma once

#include <stdint.h>

/* How many operations were ended so. Any thread. */
uint64_t nng_guard_ended(void);
