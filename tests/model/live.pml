/* When faults stop, writes go on. Three replicas; before `calm` messages may be lost, one process may be restarted, one
 * node may die for ever, a leader may be claimed from and a member put out of the ISR without need. What is repeated is
 * explicit here: OPEN, APPEND, the wish for an ISR; a message under way is one slot for each direction.
 *
 * Of the log is kept whether a follower has all of the leader's, the first entry of the epoch included. No time: silence is
 * a leader that is dead.
 *
 * Checked under weak fairness: a write that is begun when all is calm is committed. */
#include "rules.pml"
#define VERSIONS 12
#define EPOCHS 5
#include "record.pml"

#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef RESTARTS
#define RESTARTS 1
#endif
#ifndef NEEDLESS
#define NEEDLESS 1
#endif

mtype = { none, lost, open_it, entries, ack, ack_level, refusal };

bit alive[NODES];
byte held[NODES];    /* config_version of the process that leads; 0 = it does not */
byte seen[NODES];
byte opened[NODES];
bit level[NODES];    /* has all of the log of the epoch that it has opened */

/* Of the leader of the newest epoch that anybody leads: */
byte leading;        /* that epoch */
byte lead;           /* its node */
bit first;           /* its first entry is in its log */
byte stream;         /* PROGRESS_STREAM, the others PROBE */
byte matched;        /* known to be level */
byte proposed;       /* a wish that has not reached metad, and is not seen to be void */

mtype to[NODES] = none;
mtype from[NODES] = none;
byte from_epoch[NODES];

bit calm, writing, written;
byte deaths = DEATHS, restarts = RESTARTS, needless = NEEDLESS;

#define the_isr (map[held[lead]].isr)
#define leads (leading > 0 && alive[lead] && held[lead] > 0)
#define widest (the_isr | proposed)
#define mine (leads && lead != _pid)

inline stop_leading() {
    held[_pid] = 0;
    if
    :: leading > 0 && lead == _pid ->
        leading = 0;
        first = 0;
        stream = 0;
        matched = 0;
        proposed = 0;
            to[0] = none;
        to[1] = none;
        to[2] = none
    :: else
    fi
}

/* Whoever leads an older epoch meanwhile commits nothing that matters here; it is left out. */
inline begin_epoch() {
    leading = now_record.epoch;
    lead = _pid;
    printf("%d: leads in epoch %d\n", _pid, leading);
    held[_pid] = version;
    seen[_pid] = leading;
    opened[_pid] = 0;
    level[_pid] = 0;
    first = 0;
    stream = 0;
    matched = 0;
    proposed = 0;
    to[0] = none;
    to[1] = none;
    to[2] = none
}

#define SEND(node)                                                                                                \
    :: d_step { leads && lead == _pid && node != _pid && to[node] == none && !HAS(stream, node) ->                   \
           to[node] = open_it;                                                                                     \
           printf("%d: sends OPEN to %d\n", _pid, node) }                                                          \
    :: d_step { leads && lead == _pid && node != _pid && to[node] == none && HAS(stream, node) &&                  \
           (first && !HAS(matched, node)) ->                                                                       \
           to[node] = entries;                                                                                     \
           printf("%d: sends entries to %d\n", _pid, node) }

#define RECEIVE(node)                                                                                             \
    :: d_step { leads && lead == _pid && from[node] != none ->                                                     \
           if                                                                                                      \
           :: from_epoch[node] > leading -> seen[_pid] = MAX(seen[_pid], from_epoch[node]); from[node] = none;      \
               stop_leading()                                                                                      \
           :: from_epoch[node] == leading && from[node] == ack ->                                                  \
               stream = stream | BIT(node); from[node] = none;                                                     \
               printf("%d: hears that %d has opened\n", _pid, node)                                                \
           :: from_epoch[node] == leading && from[node] == ack_level ->                                            \
               stream = stream | BIT(node); matched = matched | BIT(node); from[node] = none;                      \
               printf("%d: hears that %d is level\n", _pid, node)                                                  \
           :: from[node] == refusal && from_epoch[node] <= leading ->                                              \
               stream = (rule(R27_OPENED_AGAIN) -> stream & ~BIT(node) : stream);                                  \
               matched = matched & ~BIT(node); from[node] = none;                                                  \
               printf("%d: is refused by %d\n", _pid, node)                                                        \
           :: else -> from[node] = none                                                                            \
           fi }

#define wants_out(node) (HAS(the_isr, node) && COUNT(the_isr) > MIN_ISR && !alive[node])
#define wants_in(node)                                                                                            \
    (!HAS(the_isr, node) && alive[node] && first && HAS(matched, node) &&                                              \
     (rule(R5_JOINED_BEFORE) || (widest & ~(matched | BIT(lead))) == 0))
#define asks (leads && lead == _pid && held[_pid] == version && version < VERSIONS)

/* A wish may be lost, and is repeated as long as it is one. One that is none any more is taken back. */
#define ASK(node)                                                                                                 \
    :: d_step { asks && node != _pid && (wants_out(node) || wants_in(node)) ->                                     \
           record_change_isr(_pid, the_isr ^ BIT(node)) }                                                              \
    :: d_step { asks && !calm && node != _pid && wants_in(node) && proposed == 0 ->                                \
           proposed = BIT(node);                                                                                   \
           printf("%d: wants %d in, and the wish is lost\n", _pid, node) }                                         \
    :: d_step { asks && rule(R3_TAKEN_BACK) && HAS(proposed & ~the_isr, node) && !wants_in(node) ->                    \
           record_change_isr(_pid, the_isr) }                                                                          \
    :: d_step { asks && !calm && needless > 0 && node != _pid && HAS(the_isr, node) && COUNT(the_isr) > MIN_ISR ->         \
           needless--;                                                                                             \
           record_change_isr(_pid, the_isr ^ BIT(node)) }

active [NODES] proctype node() {
    d_step {
        if
        :: version == 0 ->
            record_start();
            alive[0] = 1;
            alive[1] = 1;
            alive[2] = 1
        :: else
        fi
    }
end:
    do
    /* configuration */
    :: d_step { alive[_pid] && gives(version, _pid) && now_record.epoch >= seen[_pid] && now_record.epoch > leading ->
           begin_epoch() }
    :: d_step { leads && lead == _pid && held[_pid] < version && now_record.epoch == leading ->
           held[_pid] = version;
           proposed = 0 }
    :: d_step { leads && lead == _pid && now_record.epoch > leading -> stop_leading() }
    :: d_step { alive[_pid] && version > 0 && may_claim(_pid) && seen[_pid] <= now_record.epoch &&
           (!alive[now_record.leader] || !calm && needless > 0) ->
           needless = (alive[now_record.leader] -> needless - 1 : needless);
           record_claim(_pid) }

    /* leader */
    :: d_step { leads && lead == _pid && !first && COUNT(stream | BIT(_pid)) >= MIN_ISR ->
           first = 1;
           printf("%d: appends its first entry\n", _pid) }
    :: d_step { leads && lead == _pid && first && calm && !writing ->
           writing = 1;
           printf("%d: begins a write\n", _pid);
           matched = 0;
           level[0] = 0;
           level[1] = 0;
           level[2] = 0 }
    :: d_step { leads && lead == _pid && first && writing && COUNT(the_isr) >= MIN_ISR &&
           (widest & ~(matched | BIT(_pid))) == 0 -> written = 1 }
    SEND(0) SEND(1) SEND(2)
    RECEIVE(0) RECEIVE(1) RECEIVE(2)
    ASK(0) ASK(1) ASK(2)

    /* follower */
    :: d_step { alive[_pid] && mine && to[_pid] != none && to[_pid] != lost && from[_pid] == none ->
           if
           :: leading < seen[_pid] -> from[_pid] = refusal; from_epoch[_pid] = seen[_pid]
           :: leading >= seen[_pid] && to[_pid] == open_it ->
               seen[_pid] = leading;
               level[_pid] = (opened[_pid] == leading -> level[_pid] : 0);
               opened[_pid] = leading;
               from[_pid] = (level[_pid] -> ack_level : ack);
               from_epoch[_pid] = leading
           :: leading >= seen[_pid] && to[_pid] == entries ->
               if
               :: opened[_pid] == leading -> level[_pid] = 1; from[_pid] = ack_level; from_epoch[_pid] = leading
               :: else -> from[_pid] = refusal; from_epoch[_pid] = seen[_pid]
               fi
           fi;
           to[_pid] = none }

    /* faults */
    :: d_step { !calm && to[_pid] != none -> to[_pid] = (rule(R27_SENT_AGAIN) -> none : lost) }
    :: d_step { !calm && from[_pid] != none -> from[_pid] = none }
    :: d_step { !calm && version > 0 && deaths > 0 && alive[_pid] -> 
           deaths--;
           stop_leading();
           alive[_pid] = 0;
           printf("%d: dies\n", _pid) }
    :: d_step { !calm && version > 0 && restarts > 0 && alive[_pid] && may_restart(_pid) ->
           restarts--;
           stop_leading();
           opened[_pid] = 0;
           level[_pid] = 0;
           printf("%d: starts again\n", _pid);
           record_restart(_pid) }
    od
}

active proctype weather() {
    d_step { version > 0 -> calm = 1; printf("weather: calm\n") }
}

ltl goes_on { <> written }
