/* Names: two writes of one gateway, sent again when the answer does not come, on two replicas that execute the log by
 * themselves (shardd/dedup, gateway/request). Of the log is used what log.pml shows: what is committed stays, and another
 * leader may lack any part of the rest.
 *
 * Write 1 has the lower number. An entry of write 2 says whether the gateway may still send write 1 again (its floor).
 *
 * Checked: each replica executes a name at most once, and what the gateway tells its client is true (R9). */
#include "rules.pml"

#ifndef INDEXES
#define INDEXES 3
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef LEADERS
#define LEADERS 2
#endif

/* entries */
#define WRITE_1 1
#define WRITE_2 2        /* floor: 1 */
#define WRITE_2_ALONE 3  /* floor: 2, write 1 is over */
#define name_of(entry) ((entry) == WRITE_1 -> 1 : 2)
#define floor_of(entry) ((entry) == WRITE_2_ALONE -> 2 : 1)

byte log[INDEXES + 1];
unsigned last : 3;
unsigned committed : 3;
bit leader;
unsigned leaders : 2 = LEADERS;
unsigned crashes : 2 = CRASHES;

typedef state { /* what execution makes: in memory, and as the last checkpoint has it */
    unsigned applied : 3;
    byte executed[3]; /* how often, of each name */
    byte names;       /* the table: bit w */
    unsigned floor : 2;
};
state memory[2];
state disk[2];

/* The gateway's, of each write. */
#define IDLE 0
#define OUT 1      /* an attempt is under way */
#define WAITED 2   /* it is in the leader's log, and the leader will answer */
mtype = { nothing, done, not_done, unknown };
byte attempt[3];
bit doubt[3];      /* one attempt or more ended without an answer: it may yet be executed */
byte late[3];      /* copies under way that nobody waits for */
mtype told[3] = nothing;

hidden byte i, w;

inline copy(to, from) {
    to.applied = from.applied;
    to.executed[1] = from.executed[1];
    to.executed[2] = from.executed[2];
    to.names = from.names;
    to.floor = from.floor
}

inline append(entry) {
    last++;
    log[last] = entry;
    printf("leader %d: appends write %d at index %d\n", leader, name_of(entry), last)
}

/* R10: the name is checked and stored in the step that executes. */
inline execute(r) {
    memory[r].applied++;
    i = log[memory[r].applied];
    w = name_of(i);
    if
    :: memory[r].names >> w & 1 && rule(R10_CHECKED_AT_EXECUTION) -> skip /* the first result is the answer */
    :: w < memory[r].floor && rule(R10_FORGOTTEN_IS_NOT_NEW) -> skip     /* FORGOTTEN */
    :: else ->
        memory[r].executed[w]++;
        printf("replica %d: executes write %d at index %d\n", r, w, memory[r].applied);
        if
        :: rule(R10_STORED_WITH_IT) || r == leader -> memory[r].names = memory[r].names | 1 << w
        :: else
        fi
    fi;
    memory[r].floor = (floor_of(i) > memory[r].floor -> floor_of(i) : memory[r].floor);
    if
    :: memory[r].floor > 1 -> memory[r].names = memory[r].names & ~2
    :: else
    fi;
    if
    :: r == leader && attempt[w] == WAITED -> attempt[w] = IDLE; told[w] = done; printf("gateway: write %d is done\n", w)
    :: else
    fi;
    i = 0;
    check(EXECUTED_ONCE, memory[r].executed[w] <= 1);
    check(TOLD_TRUTH, told[w] != not_done || memory[r].executed[w] == 0)
}

/* R8: what the old leader had appended and not answered is "unknown". */
inline drop_waiting(number) {
    if
    :: attempt[number] == WAITED ->
        attempt[number] = IDLE;
        doubt[number] = (rule(R8_APPENDED_IS_UNKNOWN) -> 1 : doubt[number])
    :: else
    fi
}

inline lead(r) {
    leaders--;
    leader = r;
    drop_waiting(1);
    drop_waiting(2);
    printf("replica %d: leads, with indexes to %d\n", r, last)
}

#define SEND(number)                                                                                              \
    :: d_step { told[number] == nothing && attempt[number] == IDLE && late[number] < 2 ->                          \
           attempt[number] = OUT }                                                                                 \
    /* it reaches who does not lead: surely not done by this attempt */                                            \
    :: d_step { attempt[number] == OUT ->                                                                          \
           attempt[number] = IDLE;                                                                                 \
           doubt[number] = (rule(R9_ALL_ATTEMPTS) -> doubt[number] : 0);                                           \
           printf("gateway: write %d was refused\n", number) }                                                     \
    /* the connection breaks, or the frame; a copy may come yet */                                                 \
    :: d_step { attempt[number] == OUT ->                                                                          \
           attempt[number] = IDLE;                                                                                 \
           doubt[number] = 1;                                                                                      \
           late[number]++;                                                                                         \
           printf("gateway: knows nothing of write %d\n", number) }                                                \
    /* the deadline */                                                                                             \
    :: d_step { told[number] == nothing && (doubt[number] || attempt[number] != IDLE) ->                           \
           told[number] = unknown;                                                                                 \
           late[number] = (attempt[number] == OUT -> late[number] + 1 : late[number]);                             \
           attempt[number] = IDLE }                                                                                \
    :: d_step { told[number] == nothing && !doubt[number] && attempt[number] == IDLE ->                            \
           told[number] = not_done;                                                                                \
           printf("gateway: write %d is surely not done\n", number);                                               \
           check(TOLD_TRUTH, memory[0].executed[number] + memory[1].executed[number] == 0) }

#define WRITE_2_NOW (told[1] != nothing -> WRITE_2_ALONE : WRITE_2)
#define is_known(number) (memory[leader].names >> number & 1)

/* A leader looks at what it has executed before it appends, to answer at once; this decides nothing. */
#define RECEIVE(number, entry)                                                                                    \
    :: d_step { attempt[number] == OUT && last < INDEXES && (rule(R10_CHECKED_AT_EXECUTION) || !is_known(number)) ->\
           append(entry);                                                                                          \
           attempt[number] = WAITED }                                                                              \
    :: d_step { late[number] > 0 && last < INDEXES && (rule(R10_CHECKED_AT_EXECUTION) || !is_known(number)) ->     \
           append(entry);                                                                                          \
           late[number]-- }

#define REPLICA(r)                                                                                                \
    :: d_step { memory[r].applied < committed -> execute(r) }                                                      \
    :: d_step { disk[r].applied < memory[r].applied ->                                                             \
           if                                                                                                      \
           :: rule(R25_ONE_TRANSACTION) -> copy(disk[r], memory[r])                                                \
           :: else -> disk[r].executed[1] = memory[r].executed[1]; disk[r].executed[2] = memory[r].executed[2]     \
           fi;                                                                                                     \
           printf("replica %d: has a checkpoint of index %d\n", r, memory[r].applied) }                            \
    :: d_step { crashes > 0 && leader != r ->                                                                      \
           crashes--;                                                                                              \
           copy(memory[r], disk[r]);                                                                               \
           printf("replica %d: starts again from index %d\n", r, memory[r].applied) }                              \
    /* a snapshot from the leader */                                                                               \
    :: d_step { leader != r && memory[r].applied < memory[1 - r].applied ->                                        \
           i = memory[r].names;                                                                                    \
           copy(memory[r], memory[1 - r]);                                                                         \
           memory[r].names = (rule(R10_NAMES_TRAVEL) -> memory[r].names : i);                                      \
           i = 0;                                                                                                  \
           copy(disk[r], memory[r]);                                                                               \
           printf("replica %d: installs a snapshot of index %d\n", r, memory[r].applied) }                         \
    :: d_step { !rule(R10_BY_LOG_TIME) && memory[r].names != 0 ->                                                  \
           memory[r].names = 0;                                                                                    \
           printf("replica %d: forgets names by its clock\n", r) }                                                 \
    :: d_step { leaders > 0 && leader != r -> lead(r) }

active proctype world() {
end:
    do
    SEND(1) SEND(2)
    RECEIVE(1, WRITE_1) RECEIVE(2, WRITE_2_NOW)
    REPLICA(0) REPLICA(1)
    :: d_step { committed < last -> committed++ }
    :: d_step { leaders > 0 && committed < last -> /* the next leader lacks the last entry */
           log[last] = 0;
           last--;
           lead(1 - leader) }
    od
}
