/* The one error type of Skerry.
 *
 * Positive codes are answers: the caller handles them and the wire carries them. Codes up to SK_CLIENT_LAST reach
 * clients by name (the closed list of docs/protocol.md); the others pass between daemons only. Negative codes are
 * faults of this process, passed up unchanged. errno, MDB_, NNG_ and RAFT_ codes become one of these in the one file
 * that calls that library. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* What an error says about the write it answers (replication rule R9: three outcomes). */
enum sk_outcome {
    SK_NOT_DONE, /* surely did not happen */
    SK_UNKNOWN,  /* may have happened */
    SK_HAPPENED, /* did happen */
};

/* X(symbol, code, name, outcome, text): codes that clients see. */
#define SK_CLIENT_ERRORS(X)                                                                                       \
    X(SK_BADREQUEST, 1, "BADREQUEST", SK_NOT_DONE, "the request is malformed or its arguments are not valid")     \
    X(SK_BADVALUE, 2, "BADVALUE", SK_NOT_DONE, "the stored value does not allow this command")                    \
    X(SK_WRONGTYPE, 3, "WRONGTYPE", SK_NOT_DONE, "the key holds a value of another type")                         \
    X(SK_TOOLARGE, 4, "TOOLARGE", SK_NOT_DONE, "a limit on size or count is exceeded")                            \
    X(SK_CROSSSLOT, 5, "CROSSSLOT", SK_NOT_DONE, "the keys do not share a slot")                                  \
    X(SK_OVERLOADED, 6, "OVERLOADED", SK_NOT_DONE, "too much is in flight; try again later")                      \
    X(SK_UNAVAILABLE, 7, "UNAVAILABLE", SK_NOT_DONE, "the shard cannot serve now")                                \
    X(SK_DISKFULL, 8, "DISKFULL", SK_NOT_DONE, "the shard's disk is full; it still reads")                        \
    X(SK_TIMEOUT, 9, "TIMEOUT", SK_UNKNOWN, "no definite answer before the deadline")                             \
    X(SK_DONE, 10, "DONE", SK_HAPPENED, "the write happened; its result is not kept")                             \
    X(SK_FORGOTTEN, 11, "FORGOTTEN", SK_UNKNOWN, "the name of this write is no longer remembered")                \
    X(SK_INTERNAL, 12, "INTERNAL", SK_UNKNOWN, "the server met a fault; its log says which")                      \
    X(SK_NOAUTH, 13, "NOAUTH", SK_NOT_DONE, "the gateway wants a token, and the request has none that is good")

#define SK_CLIENT_LAST 13

/* Codes between daemons. */
#define SK_DAEMON_ERRORS(X)                                                                                       \
    X(SK_NOT_LEADER, 32, "NOT_LEADER", SK_NOT_DONE, "this replica does not lead the shard")                       \
    X(SK_STALE_EPOCH, 33, "STALE_EPOCH", SK_NOT_DONE, "the message is of an older epoch")                         \
    X(SK_BUSY, 34, "BUSY", SK_NOT_DONE, "a queue is full")                                                        \
    X(SK_NOT_FOUND, 35, "NOT_FOUND", SK_NOT_DONE, "there is no such thing")                                       \
    X(SK_CONFLICT, 36, "CONFLICT", SK_NOT_DONE, "what was compared has changed")                                  \
    X(SK_RETRY, 37, "RETRY", SK_NOT_DONE, "not ready yet; ask again")                                             \
    X(SK_LOST, 38, "LOST", SK_UNKNOWN, "leadership ended before the command was decided")                         \
    X(SK_REMOVED, 39, "REMOVED", SK_NOT_DONE, "the node was removed from the cluster")

/* Faults of this process. */
#define SK_FAULTS(X)                                                                                              \
    X(SK_ENOMEM, -1, "ENOMEM", SK_UNKNOWN, "out of memory")                                                       \
    X(SK_EIO, -2, "EIO", SK_UNKNOWN, "input/output error")                                                        \
    X(SK_EPROTO, -3, "EPROTO", SK_UNKNOWN, "malformed bytes")                                                     \
    X(SK_ECORRUPT, -4, "ECORRUPT", SK_UNKNOWN, "stored data is damaged")                                          \
    X(SK_ENOSPC, -5, "ENOSPC", SK_UNKNOWN, "no space left")                                                       \
    X(SK_ECONFIG, -6, "ECONFIG", SK_UNKNOWN, "bad configuration")                                                 \
    X(SK_ECLOSED, -7, "ECLOSED", SK_UNKNOWN, "closed")                                                            \
    X(SK_ETIMEDOUT, -8, "ETIMEDOUT", SK_UNKNOWN, "timed out")                                                     \
    X(SK_EVERSION, -9, "EVERSION", SK_UNKNOWN, "format of another version")                                       \
    X(SK_ELOCKED, -10, "ELOCKED", SK_UNKNOWN, "in use by another process")                                        \
    X(SK_ENET, -11, "ENET", SK_UNKNOWN, "network error")                                                          \
    X(SK_EUNEXPECTED, -12, "EUNEXPECTED", SK_UNKNOWN, "a library call failed unexpectedly")

enum sk_err {
    SK_OK = 0,
#define X(symbol, code, name, outcome, text) symbol = code,
    SK_CLIENT_ERRORS(X) SK_DAEMON_ERRORS(X) SK_FAULTS(X)
#undef X
};

/* "WRONGTYPE". Unknown codes answer "UNKNOWN". Any thread; static memory. */
const char *error_name(int err);

/* One sentence for people. Any thread; static memory. */
const char *error_text(int err);

/* What `err` says about a write. */
enum sk_outcome error_outcome(int err);

/* Whether clients may see this code. */
bool error_is_for_clients(int err);

/* The errno of a failed system call as sk_err: ENOMEM, ENOSPC (also EDQUOT) or EIO. */
int error_from_errno(int number);

/* The code with this name, as error_name tells it; SK_EUNEXPECTED = no such code. */
int error_from_name(const char *name, size_t name_bytes);
