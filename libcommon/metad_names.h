/* Where metad's servers are. One list says it to everybody: addresses where they take requests,
 * "tcp://metad-1:7100,tcp://metad-2:7100", given to the servers themselves (--peers) and to whoever asks them (--metad). A
 * server's other sockets lie at fixed distances from that port, and "metad-1:7100" is its name. Pure; any thread. */
#pragma once

#include "buffer.h"

#define METAD_NAME_BYTES     264u /* "host:port" with its zero */
#define METAD_SERVERS_MAX    9u   /* in a list: those of a group and some that are to take their places */
#define METAD_PUBLISH_OFFSET 1u   /* its port for versions of the map lies so much above */
#define METAD_RAFT_OFFSET    10u  /* and that for the other servers */

/* The names in a list, in its order. SK_ECONFIG: an entry is not "tcp://host:port" with a port that leaves room for the
 * others, one is there twice, or there are too many. */
int metad_names_of(const char *addresses, char names[METAD_SERVERS_MAX][METAD_NAME_BYTES], uint32_t *count);

/* "host:port" with another port. SK_ECONFIG: not a name, or too long. */
int metad_name_shift(const char *name, uint32_t offset, char *shifted, size_t bytes);

/* Appends the addresses, separated by commas and with a zero at the end, where the servers of a list publish. SK_ECONFIG,
 * SK_ENOMEM. */
int metad_names_publish(const char *addresses, struct buffer *publish);
