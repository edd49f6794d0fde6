/* The state machine that libraft drives: its entries go to the catalog, the catalog goes into snapshots. On the
 * thread of the Raft loop; also runs under <raft/fixture.h>. */
#pragma once

#include "metad/catalog.h"

#include <raft.h>

/* Called for each command applied, also those of other servers and of the log replayed at start; `command` and
 * `answer` are borrowed, what the answer owns may be taken. After a snapshot was restored both are NULL. */
typedef void (*fsm_applied_cb)(void *arg, const struct log_command *command, struct catalog_answer *answer);

/* Embedded. */
struct fsm {
    struct raft_fsm raft; /* given to raft_init */
    struct catalog catalog;
    fsm_applied_cb applied_cb; /* may be NULL */
    void *arg;
    char fault[128]; /* why an apply or a restore failed, for people; "" = none did */
};

void fsm_init(struct fsm *fsm, fsm_applied_cb applied_cb, void *arg);
void fsm_deinit(struct fsm *fsm);
