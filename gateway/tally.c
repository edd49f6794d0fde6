#include "gateway/tally.h"

#include <ctype.h>

/* Codes that clients do not see end as INTERNAL. */
static int outcome_of(int err) { return err >= 0 && err <= SK_CLIENT_LAST ? err : SK_INTERNAL; }

void tally_command(struct tally *tally, int command, int err) {
    metrics_add(&tally->commands[command][outcome_of(err)], 1);
}

void tally_refusal(struct tally *tally, int err) { metrics_add(&tally->refused[outcome_of(err)], 1); }

/* ---- metrics ---- */

static const char *lower(const char *name, char room[32]) {
    size_t i = 0;
    for (; name[i] != '\0' && i < 31; i++) room[i] = (char)tolower((unsigned char)name[i]);
    room[i] = '\0';
    return room;
}

static const char *command_name(int command, char room[32]) {
    if (command == TALLY_ATOMIC) return "atomic_batch";
    if (command == TALLY_INVALID) return "invalid";
    return lower(command_table[command].name, room);
}

static const char *outcome_name(int outcome, char room[32]) {
    return outcome == SK_OK ? "ok" : lower(error_name(outcome), room);
}

static void write_commands(const struct tally *tally, struct buffer *page) {
    static const char name[] = "skerry_commands_total";
    char command_room[32], outcome_room[32];
    metrics_family(page, name, METRICS_COUNTER, "Commands answered, by what came of them.");
    for (int command = 0; command < TALLY_COMMANDS; command++) {
        for (int outcome = 0; outcome < (int)TALLY_OUTCOMES; outcome++) {
            uint64_t count = metrics_get(&tally->commands[command][outcome]);
            if (count == 0 && (outcome != SK_OK || command >= COMMAND_COUNT)) continue;
            metrics_uint(page, name, count, "command=\"%s\",outcome=\"%s\"", command_name(command, command_room),
                         outcome_name(outcome, outcome_room));
        }
    }
}

/* Summed over commands, and each outcome is there from the start, so that a first error shows as a rise. */
static void write_outcomes(const struct tally *tally, struct buffer *page) {
    static const char name[] = "skerry_command_outcomes_total";
    char room[32];
    metrics_family(page, name, METRICS_COUNTER, "Commands answered, by what came of them, whichever they were.");
    for (int outcome = 0; outcome < (int)TALLY_OUTCOMES; outcome++) {
        uint64_t sum = 0;
        for (int command = 0; command < TALLY_COMMANDS; command++) {
            sum += metrics_get(&tally->commands[command][outcome]);
        }
        metrics_uint(page, name, sum, "outcome=\"%s\"", outcome_name(outcome, room));
    }
}

/* Every code is there from the start, so that a first error shows as a rise. */
static void write_refusals(const struct tally *tally, struct buffer *page) {
    static const char name[] = "skerry_requests_refused_total";
    char room[32];
    metrics_family(page, name, METRICS_COUNTER, "Messages answered with one error as a whole, by its code.");
    for (int outcome = SK_OK + 1; outcome < (int)TALLY_OUTCOMES; outcome++) {
        metrics_uint(page, name, metrics_get(&tally->refused[outcome]), "code=\"%s\"",
                     outcome_name(outcome, room));
    }
}

static void write_durations(const struct tally *tally, struct buffer *page) {
    static const char name[] = "skerry_request_duration_seconds";
    static const char *const classes[TALLY_CLASSES] = {"read", "write", "local"};
    metrics_family(page, name, METRICS_HISTOGRAM,
                   "Messages, from arrival to reply: those that write, that only read, that need no shard.");
    for (int class = 0; class < TALLY_CLASSES; class ++) {
        metrics_histogram(page, name, &tally->durations[class], "class=\"%s\"", classes[class]);
    }
}

/* A family with a sample for each door, which is the sum of both. */
static void write_doors(struct buffer *page, const char *name, const char *help,
                        const metrics_counter a[DOOR_KINDS], const metrics_counter b[DOOR_KINDS]) {
    metrics_family(page, name, METRICS_COUNTER, help);
    for (int door = 0; door < DOOR_KINDS; door++) {
        uint64_t sum = metrics_get(&a[door]) + (b == NULL ? 0 : metrics_get(&b[door]));
        metrics_uint(page, name, sum, "door=\"%s\"", door_name((enum door_kind)door));
    }
}

void tally_write(const struct tally *tally, struct buffer *page) {
    write_doors(page, "skerry_requests_total", "Messages from clients, by the door they came by.", tally->requests,
                NULL);
    write_doors(page, "skerry_door_commands_total", "Commands from clients, by the door they came by.",
                tally->door_commands, tally->own_commands);
    write_doors(page, "skerry_door_unauthorized_total",
                "Of them, those that the door itself refused for want of a good token.", tally->unauthorized,
                NULL);
    write_doors(page, "skerry_door_connections_refused_total",
                "Connections that the door closed at once: there were too many, or no TLS was spoken.",
                tally->connections_refused, NULL);
    write_refusals(tally, page);
    write_commands(tally, page);
    write_outcomes(tally, page);
    write_durations(tally, page);
    metrics_one(
        page, "skerry_command_retries_total", METRICS_COUNTER, metrics_get(&tally->retries),
        "Times that a command for a shard had to wait for another try: no way to its leader, refused or lost.");
    metrics_one(page, "skerry_request_frames_total", METRICS_COUNTER, metrics_get(&tally->frames),
                "Frames sent to nodes.");
    metrics_one(page, "skerry_request_frame_commands_total", METRICS_COUNTER, metrics_get(&tally->frame_commands),
                "Commands in them: divided by the frames, how well commands gather.");
    metrics_one(page, "skerry_answer_frames_total", METRICS_COUNTER, metrics_get(&tally->answer_frames),
                "Frames from nodes.");
    metrics_one(page, "skerry_answer_frame_answers_total", METRICS_COUNTER, metrics_get(&tally->answers),
                "Answers in them.");
}
