/* Commands of one run of `skerry`: encodes them, calls the gateway, prints the answers. One thread. */
#pragma once

#include "print.h"
#include "words.h"

#include <stdio.h>

/* Exit codes of `skerry`. */
enum exit_code {
    EXIT_OK = 0,
    EXIT_ERROR_ANSWER = 1, /* or something else failed */
    EXIT_USAGE = 2,
    EXIT_UNREACHABLE = 3, /* the gateway: nothing was sent */
};

struct session_options {
    const char *gateway; /* nng URL */
    uint32_t timeout_ms; /* 1 to TIMEOUT_MS_MAX */
    const char *id;      /* of the first write; ID#2, ID#3, … of the next. NULL: a fresh random one for each */
    bool no_id;          /* none at all: writes are then not repeated */
    bool read_follower;
    const char *nil_word; /* this word, not quoted, is nil in CAS */
    enum print_format format;
};

struct session;

/* Connects. SK_OK, else what client_open returns, said on stderr. `options` is borrowed. */
int session_open(struct session **session, const struct session_options *options);
void session_close(struct session *session); /* NULL is allowed */

/* One command, its answer on `out`. */
enum exit_code session_run(struct session *session, const struct word *words, size_t count, FILE *out);

/* One command a line until the end of `in`; empty lines and lines starting with # are skipped. The worst of the
 * codes; stops when the gateway cannot be reached. */
enum exit_code session_run_lines(struct session *session, FILE *in, FILE *out);

/* The lines of `in` as `batch` requests, with answers in their order: as many as fit in one, or in exactly one
 * when `atomic`. */
enum exit_code session_run_batch(struct session *session, FILE *in, bool atomic, FILE *out);

/* The params of a command, one MessagePack array: arguments as bin, in CAS the word for nil as nil. `words` has
 * the name first. */
void session_encode_params(struct buffer *out, const struct word *words, size_t count, const char *nil_word);
