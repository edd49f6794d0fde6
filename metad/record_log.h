/* What commands have changed in the records of shards, as lines of the log: one for each change, with the record as it is then;
 * a refused change is told at level debug only, since whoever asks does it again. Any thread. */
#pragma once

#include "metad/catalog.h"

/* After `command` has been applied with this answer. Nothing for commands that are not about records, or were refused
 * as a whole. */
void record_log(const struct catalog *catalog, const struct log_command *command,
                const struct catalog_answer *answer);
