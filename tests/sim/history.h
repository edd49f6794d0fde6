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

/* Whether one store that does one operation after the other could have answered all this. False: `text` says why, cut
 * to fit. */
bool history_judge(const struct history *history, char *text, size_t text_size);
