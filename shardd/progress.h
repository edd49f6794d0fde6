/* A leader's view of one follower: what it has, what was sent, when it answered. Pure data with small functions; part of
 * struct replica (after raft's struct of the same name in cowsql/raft). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum progress_state {
    PROGRESS_PROBE,    /* OPEN was sent, or is to be: what the follower has is not known in this epoch */
    PROGRESS_STREAM,   /* entries flow */
    PROGRESS_SNAPSHOT, /* the log does not reach back to what it needs */
};

struct progress {
    uint32_t node;
    uint64_t replica_id;
    uint64_t incarnation; /* of its process, as last heard; 0 = never */
    bool down;            /* its connection is closed and has not come back */
    uint64_t up_us;       /* when it came back last */

    enum progress_state state;
    uint64_t match_index; /* durable there, in this epoch, under this incarnation (R4) */
    uint64_t acked_index; /* the highest that this process of it has ever acknowledged in this epoch */
    uint64_t owed_index;  /* and that its earlier ones have: it may not have less (R31) */
    uint64_t next_index;  /* to be sent next */
    uint64_t sent_us;     /* entries were last sent */
    uint64_t opened_us;   /* OPEN was last sent; 0 = it is due */
    uint64_t beacon_us;   /* a beacon was last sent; 0 = it is due */

    uint64_t since_us;    /* the epoch began, or its process was first heard: what it owes counts from here */
    uint64_t answered_us; /* the sending of the latest beacon it has answered: the lease counts from it (R15) */
    uint64_t promised_us; /* its own clock in the last of its promises; 0 = none of this process in this epoch, */
    uint64_t promised_at_us; /* and when that came (R17) */
    uint64_t level_us;       /* when it was last level with the log (R18) */
    uint64_t mark_index;     /* level at mark_us once it has this */
    uint64_t mark_us;

    uint64_t join_us;     /* not into the ISR before (R18) */
    uint64_t back_off_us; /* how long it stayed out after the last removal */
    uint64_t joined_us;   /* when it came into the ISR; 0 = before this epoch */
};

/* What a follower has is asked anew. Keeps who it is, and what it has acknowledged. */
void progress_restart(struct progress *progress, uint64_t now_us);

/* The same, at the beginning of an epoch: nothing has been acknowledged in it. */
void progress_begin_epoch(struct progress *progress, uint64_t now_us);

/* The same, as another process of it is heard: what the one before had acknowledged it has to have. */
void progress_change_process(struct progress *progress, uint64_t incarnation, uint64_t now_us);

/* It has everything up to `match_index` durably; the log ends at `last_index`. */
void progress_on_match(struct progress *progress, uint64_t match_index, uint64_t last_index, uint64_t now_us);

/* Time passes: when it has all of the log it is level. */
void progress_tick(struct progress *progress, uint64_t last_index, uint64_t now_us);
