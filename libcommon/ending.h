/* The end of a daemon. nng 1.5.2 can wait for ever in nng_close when a socket is closed while a message arrives (its issue
 * 1543); a daemon that has drained must end all the same. */
#pragma once

/* From now on the process has `seconds` to end by itself; then it ends with `code`, saying so on stderr. Once, when
 * everything that counts is done. */
void ending_guard(unsigned seconds, int code);
