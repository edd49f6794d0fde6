/* Who is at the other end of a connection, for the log: "10.0.0.7:51234", "[fd00::7]:51234"; "local" where there is no address. Any
 * thread. */
#pragma once

#include <nng/nng.h>

#define PEER_NAME_BYTES 56u /* the longest IPv6 address in brackets, and its port */

/* Return `name`. */
const char *peer_name(const nng_sockaddr *address, char name[PEER_NAME_BYTES]);
const char *peer_name_of_pipe(nng_pipe pipe, char name[PEER_NAME_BYTES]); /* "gone" when nng has forgotten it */
const char *peer_name_of_socket(int fd, char name[PEER_NAME_BYTES]); /* "gone" when it is not connected any more */
