/* The operations of all clients with what they were told, for a judge who knows nothing of logs and replicas
 * (tests/check). */
#pragma once

#include "tests/sim/machine.h"

#include <stddef.h>

struct history_item {
    struct command command;
    struct result result;
    bool unknown;
    uint64_t begin_us, end_us;
};

struct history {
    struct history_item *items; /* owned */
    size_t count, room;
};

void history_init(struct history *history);
void history_deinit(struct history *history);
void history_add(struct history *history, const struct history_item *item);

enum history_verdict {
    HISTORY_GOOD,
    HISTORY_BAD,
    HISTORY_UNDECIDED, /* too many unknown outcomes for the judge's budget */
};

/* Whether one store that does one operation after the other could have answered all this. If not, `text` says why, cut to
 * fit. */
enum history_verdict history_judge(const struct history *history, char *text, size_t text_size);
