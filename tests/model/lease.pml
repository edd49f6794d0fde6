/* Leases: beacons, promises and their late answers, claims, changes of the in-sync set, hand-over and release, restarts.
 * No log: of it only is kept who has opened an epoch, and whether its first entry is committed (log.pml has the rest). Time
 * is in ticks. A tick is the same for all nodes, but a clock may miss SLOW of them.
 *
 * Without LATE a beacon and its answer come at once or not at all. That is the worst case: what comes later gives the
 * leader a shorter lease for a longer promise. With LATE both take any time. Of what is under way between a leader and a
 * follower only the latest is kept: an earlier one gives the leader less and binds the follower as long.
 *
 * Checked: nobody serves a read when a later epoch has committed or served anything. */
#include "rules.pml"
#include "record.pml"

#define LEASE 2
#define GRACE (rule(R15_GRACE_IS_LONGER) -> LEASE + 1 : LEASE) /* > lease * (1 + drift) */
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef LATE
#define LATE 0
#endif
#ifndef SLOW
#define SLOW 0
#endif

typedef replica {
    unsigned held : 4;     /* a leader's config_version; 0 = of no interest */
    bit leads;
    bit serves;            /* the first entry of its epoch is committed and executed */
    bit checked;           /* without R14: the lease was good once for a read that is still to be done */
    unsigned seen : 3;     /* seen_epoch, stored as well */
    unsigned opened : 3;   /* opened_epoch */
    unsigned promise : 2;  /* not to lead for so many ticks */
    unsigned promised : 3; /* promised_epoch */
    unsigned proposed : 4; /* a leader's: in an ISR that was asked for under this config_version */
    unsigned left_to : 2;  /* a leader's: it has asked to hand over to this node - 1; 0 = no */
    byte lease[NODES];     /* a leader's: ticks from the sending of the latest beacon that was answered */
};
replica at[NODES];

typedef reign {
    unsigned followers : 4; /* who has ever opened the epoch */
    unsigned leader : 2;
    bit released;           /* RELEASE is under way, */
    unsigned successor : 2; /* to this node */
    byte beacon[NODES];     /* under way: what is left of the lease; 0 = nothing that is worth anything */
    byte answer[NODES];
};
reign sent[EPOCHS + 1];

unsigned served : 3; /* for the property: the highest epoch in which anything was committed */
unsigned crashes : 2 = CRASHES;
unsigned slow : 2 = SLOW;

hidden byte i, e;

#define me       at[_pid]
#define my_epoch map[me.held].epoch
#define my_reign sent[my_epoch]
#define my_isr   map[me.held].isr

/* R3: the lease is of the widest set, too. R2 */
#define confirmed (rule(R2_CONFIRMED) || me.proposed == 0 -> my_isr : my_isr & me.proposed)
#define widest    (confirmed | (rule(R3_PROPOSED_COUNTS) -> me.proposed : 0))

#define holds(node)   (node == _pid || !HAS(widest, node) || me.lease[node] > 0)
#define holds_any     (me.lease[0] + me.lease[1] + me.lease[NODES - 1] > 0)
#define all_hold      (holds(0) && holds(1) && holds(NODES - 1))
/* R15. R16: of who is eligible nobody has asked for a promise. Alone, all hold. */
#define lease_holds                                                                                               \
    ((rule(R15_EVERY_MEMBER) -> all_hold : all_hold || holds_any) &&                                               \
     (map[me.held].eligible == 0 || !rule(R16_ELIGIBLE)))

inline step_down() {
    me.leads = 0;
    me.serves = 0;
    me.checked = 0;
    me.held = 0;
    me.proposed = 0;
    me.left_to = 0;
    for (i : 0 .. NODES - 1) { me.lease[i] = 0 }
    i = 0
}

/* R20: what was promised to us in our epoch is void; we serve it no more. */
inline release() {
    my_reign.released = 1;
    my_reign.successor = me.left_to - 1;
    printf("%d: releases node %d from epoch %d\n", _pid, my_reign.successor, my_epoch)
}

inline take_config(v) {
    if
    :: me.leads && gives(v, _pid) && map[v].epoch == my_epoch ->
        me.held = v;
        me.proposed = 0;
        me.left_to = 0;
        printf("%d: leads by version %d\n", _pid, v)
    :: else ->
        if
        :: me.leads && me.left_to != 0 && map[v].leader == me.left_to - 1 && map[v].epoch == my_epoch + 1 -> release()
        :: else
        fi;
        step_down();
        if
        :: gives(v, _pid) && map[v].epoch >= me.seen ->
            me.leads = 1;
            me.held = v;
            me.seen = my_epoch;
            me.opened = 0;
            my_reign.leader = _pid;
            my_reign.followers = BIT(_pid);
            printf("%d: leads in epoch %d, has promised for %d\n", _pid, my_epoch, me.promise)
        :: else
        fi
    fi
}

#define outwaited (me.promise == 0)

/* R5: the first entry is committed only when our own promise has run out. */
inline commit_first() {
    me.serves = 1;
    served = MAX(served, my_epoch);
    printf("%d: serves in epoch %d\n", _pid, my_epoch)
}

inline ask_for_isr(node) {
    me.proposed = me.proposed | my_isr ^ BIT(node);
    printf("%d: asks for isr %d by version %d\n", _pid, my_isr ^ BIT(node), me.held);
    if
    :: me.held == version && may_change_isr(_pid, my_isr ^ BIT(node)) -> record_change_isr(_pid, my_isr ^ BIT(node))
    :: else
    fi
}

inline open(epoch) {
    if
    :: epoch > me.seen -> step_down()
    :: else
    fi;
    me.seen = epoch;
    me.opened = epoch;
    sent[epoch].followers = sent[epoch].followers | BIT(_pid);
    printf("%d: opens epoch %d\n", _pid, epoch)
}

/* R15: the answer is a promise, from now on, whenever the beacon was sent. */
inline promise_in(epoch) {
    me.promise = GRACE;
    me.promised = MAX(me.promised, epoch);
    printf("%d: promises in epoch %d\n", _pid, epoch)
}

/* on_release: an old release voids no promise to a later leader. */
#define is_released(epoch)                                                                                        \
    (sent[epoch].released && sent[epoch].successor == _pid && me.promise > 0 &&                                    \
     (me.promised <= epoch && epoch + 1 >= me.seen || !rule(R20_RELEASE_OF_EPOCH)))

inline take_release(epoch) {
    if
    :: epoch + 1 > me.seen -> step_down(); me.seen = epoch + 1
    :: else
    fi;
    me.promise = 0;
    printf("%d: is released from epoch %d\n", _pid, epoch)
}

inline crash() {
    crashes--;
    step_down();
    me.opened = 0;
    me.promised = 0;
    me.promise = (rule(R15_RESTART_PROMISES) -> GRACE : 0); /* R15: as if its predecessor had promised just now */
    printf("%d: starts again\n", _pid);
    record_restart(_pid)
}

#define runs_down(x) if :: x > 0 -> x-- :: else fi

inline tick(late) {
    printf("clock: a tick\n");
    for (i : 0 .. NODES - 1) {
        if
        :: i != late ->
            runs_down(at[i].promise);
            for (e : 0 .. NODES - 1) { runs_down(at[i].lease[e]) }
        :: else
        fi
    }
    /* R15: by the sender's clock, from before the sending */
    for (e : 1 .. EPOCHS) {
        if
        :: sent[e].leader != late && rule(R15_FROM_SENDING) ->
            for (i : 0 .. NODES - 1) { runs_down(sent[e].beacon[i]); runs_down(sent[e].answer[i]) }
        :: else
        fi
    }
    i = 0;
    e = 0
}

/* ---- what may happen ---- */

#define is_news(v) (me.leads && me.held < v || gives(v, _pid) && map[v].epoch > me.seen)
#define TAKE(v)    :: d_step { v <= version && is_news(v) -> take_config(v) }

#define OPEN(epoch)                                                                                               \
    :: d_step { sent[epoch].followers != 0 && sent[epoch].leader != _pid && epoch >= me.seen && me.opened != epoch ->  \
           open(epoch) }

/* A follower answers in the epoch that it has opened, if it has seen no other. */
#define answers(epoch)                                                                                            \
    (me.opened == epoch && me.seen == epoch || !rule(R15_EPOCH_OF_ANSWER) && sent[epoch].leader != _pid && me.seen > epoch)
#define goes_on(e1)     (at[sent[e1].leader].leads && map[at[sent[e1].leader].held].epoch == e1)
#define is_fresh(epoch) (at[sent[epoch].leader].lease[_pid] < LEASE || me.promise < GRACE || me.promised < epoch)
#define BEACON(epoch)                                                                                             \
    :: d_step { LATE && sent[epoch].beacon[_pid] > 0 && answers(epoch) ->                                          \
           sent[epoch].answer[_pid] = MAX(sent[epoch].answer[_pid], sent[epoch].beacon[_pid]);                     \
           sent[epoch].beacon[_pid] = 0;                                                                           \
           promise_in(epoch) }                                                                                     \
    :: d_step { !LATE && answers(epoch) && goes_on(epoch) && is_fresh(epoch) ->                                    \
           at[sent[epoch].leader].lease[_pid] = LEASE;                                                             \
           promise_in(epoch) }

#define RELEASE(epoch) :: d_step { is_released(epoch) -> take_release(epoch) }

#define SEND(node)                                                                                                \
    :: d_step { LATE && me.leads && node != _pid && HAS(my_reign.followers, node) && my_reign.beacon[node] < LEASE ->      \
           my_reign.beacon[node] = LEASE }
#define ANSWER(node)                                                                                              \
    :: d_step { me.leads && my_reign.answer[node] > me.lease[node] ->                                              \
           me.lease[node] = my_reign.answer[node];                                                                 \
           my_reign.answer[node] = 0 }

/* R4, R5: nobody is added before our own promise has run out. */
#define may_join(node) (HAS(my_reign.followers, node) && (outwaited || !rule(R5_JOINED_LATER)))
#define ASK(node)                                                                                                 \
    :: d_step { me.leads && node != _pid && (HAS(my_isr, node) || !HAS(me.proposed, node)) &&                      \
           (HAS(my_isr, node) -> COUNT(my_isr) > MIN_ISR || SHRINKS_BELOW : may_join(node)) &&                     \
           (me.held == version && version < VERSIONS || !rule(R2_CONFIRMED)) -> ask_for_isr(node) }

/* R20: only a serving leader. Its asking and what metad makes of it are one step. */
#define HANDOVER(node)                                                                                            \
    :: d_step { me.leads && (me.serves || !rule(R20_SERVING)) && me.left_to == 0 && me.held == version &&          \
           may_hand_over(_pid, node) ->                                                                            \
           me.left_to = node + 1;                                                                                  \
           printf("%d: hands over to node %d\n", _pid, node);                                                      \
           record_hand_over(node) }                                                                                \
    :: d_step { !rule(R20_OUTCOME_KNOWN) && me.leads && me.serves && node != _pid && HAS(my_isr, node) &&          \
           !my_reign.released ->                                                                                   \
           me.left_to = node + 1;                                                                                  \
           release() }

active [NODES] proctype node() {
    d_step {
        if
        :: version == 0 -> record_start()
        :: else
        fi
    }
end:
    do
    TAKE(1) TAKE(2) TAKE(3)
#if VERSIONS > 3
    TAKE(4)
#endif
#if VERSIONS > 4
    TAKE(5)
#endif
    OPEN(1) OPEN(2) BEACON(1) BEACON(2) RELEASE(1) RELEASE(2)
#if EPOCHS > 2
    OPEN(3) BEACON(3) RELEASE(3)
#endif
#if EPOCHS > 3
    OPEN(4) BEACON(4) RELEASE(4)
#endif
    SEND(0) SEND(1) ANSWER(0) ANSWER(1) ASK(0) ASK(1) HANDOVER(0) HANDOVER(1)
#if NODES > 2
    SEND(2) ANSWER(2) ASK(2) HANDOVER(2)
#endif

    :: d_step { me.leads && !me.serves && (outwaited || !rule(R15_WAITS_OUT)) && COUNT(my_isr) >= MIN_ISR &&
           (widest & ~my_reign.followers) == 0 -> commit_first() }

    /* R14: the lease is checked next to the read. */
    :: d_step { !rule(R14_CHECKED_THEN) && me.serves && lease_holds && !me.checked -> me.checked = 1 }
    :: d_step { me.serves && (rule(R14_CHECKED_THEN) -> lease_holds : me.checked) && served > my_epoch ->
           printf("%d: reads in epoch %d\n", _pid, my_epoch);
           check(READS_NEWEST, false) }

    :: d_step { crashes > 0 && may_restart(_pid) -> crash() }
    :: d_step { !me.leads && me.seen <= now_record.epoch && may_claim(_pid) -> record_claim(_pid) }
    od
}

active proctype clock() {
end:
    do
    :: d_step { version > 0 -> tick(NODES) }
    :: d_step { slow > 0 && version > 0 -> slow--; tick(map[version].leader) }
    :: d_step { slow > 0 && version > 1 -> slow--; tick(map[version - 1].leader) }
    od
}
