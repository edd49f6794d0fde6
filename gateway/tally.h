/* What the gateway counts for its metrics and its page: written by the loop thread, but for what doors count, each its
 * own; read by any. */
#pragma once

#include "gateway/client.h"
#include "libcommon/commands.h"
#include "libcommon/error.h"
#include "libcommon/metrics.h"

/* Commands beside those of the table: atomic batches as a whole, and what could not be read. */
enum { TALLY_ATOMIC = COMMAND_COUNT, TALLY_INVALID, TALLY_COMMANDS };

/* What came of it: SK_OK and the codes that clients see. */
#define TALLY_OUTCOMES (SK_CLIENT_LAST + 1)

enum tally_class { TALLY_READ, TALLY_WRITE, TALLY_LOCAL, TALLY_CLASSES };

/* Embedded, zeroed. */
struct tally {
    metrics_counter requests[DOOR_KINDS];                     /* messages that came, by each door */
    metrics_counter door_commands[DOOR_KINDS];                /* commands in those that were taken */
    metrics_counter own_commands[DOOR_KINDS];                 /* commands that the door answered; by its thread */
    metrics_counter unauthorized[DOOR_KINDS];                 /* commands without a good token; by its thread */
    metrics_counter connections_refused[DOOR_KINDS];          /* too many, or no TLS; by its thread */
    metrics_counter refused[TALLY_OUTCOMES];                  /* of them, answered with one error as a whole */
    metrics_counter commands[TALLY_COMMANDS][TALLY_OUTCOMES]; /* by what came of them */
    struct metrics_histogram durations[TALLY_CLASSES];        /* of messages, from arrival to reply */
    metrics_counter retries;                                  /* times that a part had to wait for another try */
    metrics_counter frames, frame_commands;                   /* sent to nodes */
    metrics_counter answer_frames, answers;                   /* from nodes */
};

/* One command of a message was answered with `err`. `command`: an enum command_id, or one of those above. */
void tally_command(struct tally *tally, int command, int err);

/* A whole message was answered with `err`. */
void tally_refusal(struct tally *tally, int err);

/* The families of all that, for a page of metrics. */
void tally_write(const struct tally *tally, struct buffer *page);
