/* The log: epochs, the in-sync set, the cutting dialogue, crashes that lose what was not synced. No time: a lease has no
 * part in what is committed (lease.pml). The core's steps (shardd/replica*.c) as atomic steps of `node`.
 *
 * Entries are named by their epoch and index, as one leader makes each. What a leader has ever sent stays in `sent`: it may
 * arrive at any time, twice, or never. Whatever a leader may conclude from acknowledgements only grows within an epoch, so
 * it keeps no table of its own: `acked` is what is under way or has come.
 *
 * Without FINE, steps are taken together where nothing between them can do harm that others cannot do:
 *   a follower's append and its sync       a crash in between is an entry that did not come
 *   adopting an epoch and its sync         a crash in between is an OPEN that did not come
 *   a leader's asking and metad's change   a wish that is not fulfilled only adds to whom commit waits for */
#include "rules.pml"
#include "record.pml"

#ifndef INDEXES
#define INDEXES 3 /* the bound: length of a log */
#endif
#ifndef CRASHES
#define CRASHES 1 /* the bound: crashes of all nodes together */
#endif
#ifndef WIPES
#define WIPES 0 /* the bound: disks that are lost (R13, R31) */
#endif
#ifndef FINE
#define FINE 0
#endif

typedef replica {
    unsigned held : 4;     /* a leader's config_version; 0 = of no interest */
    bit leads;             /* in map[held].epoch: STARTING, or LEADER once commit >= first */
    unsigned seen : 3;     /* seen_epoch */
    unsigned stored : 3;   /* stored_epoch */
    unsigned opened : 3;   /* opened_epoch */
    unsigned adopting : 3; /* the record that adopts this epoch is not synced yet; */
    unsigned uncut : 3;    /* what the disk has until then: log[last + 1 .. uncut] still holds it */
    unsigned last : 3;
    unsigned durable : 3;
    unsigned commit : 3;   /* of a leader */
    unsigned known : 3;    /* the most that it may know to be committed: for R7's check alone */
    byte log[INDEXES + 1]; /* each entry; 0 = none */
    unsigned proposed : 4; /* all of the ISRs that were asked for under this config_version: */
    byte asked;            /* bit s: the ISR s */
#if MUTANT == R18_COMPARE
    byte on_the_way;       /* the same, under any */
#define asks_for(s) (me.on_the_way >> s & 1)
#else
#define asks_for(s) (me.asked >> s & 1 && me.held == version)
#endif
};
replica at[NODES];

/* What the leader of an epoch has sent. */
typedef reign {
    unsigned leader : 2;
    bit open;              /* OPEN, with the epochs of log[1..base] */
    unsigned base : 3;     /* its last index when the epoch began */
    unsigned first : 3;    /* the entry that opened the epoch */
    unsigned last : 3;     /* APPEND up to here, */
    unsigned commit : 3;   /* with the commit index */
    byte log[INDEXES + 1];
    byte acked[NODES];     /* the most that each has acknowledged in it, plus 1; 0 = nothing */
};
reign sent[EPOCHS + 1];

/* For the properties alone. */
byte committed[INDEXES + 1]; /* the entry that somebody has committed there */
unsigned committed_last : 3;

unsigned crashes : 2 = CRASHES;
unsigned wipes : 2 = WIPES;

hidden byte i, keep, set, ours, theirs;

#define me       at[_pid]
#define my_epoch map[me.held].epoch
#define my_reign sent[my_epoch]
#define my_isr   map[me.held].isr

/* A process started again on the same node in the same epoch (only without R6) makes other entries of the same name. */
#define entry_of(epoch) (epoch + (rule(R6_NEW_REIGN) -> 0 : 8 * (CRASHES - crashes)))
#define epoch_of(entry) ((entry) & 7)

/* ---- own disk ---- */

inline store_adopted() {
    for (i : me.last + 1 .. INDEXES) { me.log[i] = 0 }
    me.uncut = 0;
    me.stored = MAX(me.stored, me.adopting);
    me.adopting = 0
}

inline acknowledge() {
    if
    :: !me.leads && me.opened != 0 && me.opened == me.seen ->
        sent[me.opened].acked[_pid] =
            MAX(sent[me.opened].acked[_pid], (rule(R23_ACK_AFTER_SYNC) -> me.durable : me.last) + 1);
        me.known = MAX(me.known, MIN(sent[me.opened].commit, me.durable));
        check(LOGS_AGREE, me.known == 0 || me.log[me.known] == committed[me.known])
    :: else
    fi
}

inline sync() {
    if
    :: me.adopting != 0 ->
        if
        :: !me.leads && me.adopting == me.seen -> me.opened = me.adopting
        :: else
        fi;
        store_adopted()
    :: else ->
        me.durable++;
        printf("%d: has synced index %d\n", _pid, me.durable);
        me.stored = MAX(me.stored, epoch_of(me.log[me.durable]))
    fi;
    acknowledge()
}

/* ---- as leader ---- */

inline step_down() {
    me.leads = 0;
    me.held = 0;
    me.asked = 0;
    me.proposed = 0;
    me.commit = 0 /* it stays known; that nobody knows it any more is the worst case */
}

/* R1: its epoch is stored before OPEN leaves. */
inline begin_epoch() {
    me.leads = 1;
    me.opened = 0;
    if
    :: me.adopting != 0 -> store_adopted() /* that lies before ours on the disk: nobody can tell the order */
    :: else
    fi;
    for (i : 1 .. me.last) { my_reign.log[i] = me.log[i] }
    my_reign.leader = _pid;
    my_reign.base = me.last;
    my_reign.last = me.last;
    my_reign.open = 1;
    printf("%d: leads in epoch %d from index %d on\n", _pid, my_epoch, me.last + 1);
    if
    :: rule(R1_LEADER_STORES) -> me.durable = me.last; me.stored = my_epoch
    :: else
    fi
}

/* on_config. Of versions that do not let it lead only a leader's are of interest. */
inline take_config(v) {
    if
    :: me.leads && gives(v, _pid) && map[v].epoch == my_epoch ->
        me.asked = 0;
        me.proposed = 0;
        me.held = v;
        printf("%d: leads by version %d\n", _pid, v)
    :: else ->
        step_down();
        me.seen = MAX(me.seen, map[v].epoch);
        if
        :: gives(v, _pid) && map[v].epoch == me.seen ->
            me.held = v;
            begin_epoch()
        :: else
        fi
    fi
}

inline append() {
    me.last++;
    me.log[me.last] = entry_of(my_epoch);
    my_reign.log[me.last] = me.log[me.last];
    my_reign.last = me.last;
    printf("%d: appends index %d of epoch %d\n", _pid, me.last, my_epoch)
}

/* R3: the confirmed ISR and whoever is proposed. R2: whoever is only proposed to leave still counts. */
#define confirmed (rule(R2_CONFIRMED) || me.asked == 0 -> my_isr : me.proposed)
#define widest    (confirmed | (rule(R3_PROPOSED_COUNTS) -> me.proposed : 0))

#define has(node, index) (node == _pid -> me.durable >= index || !rule(R6_OWN_SYNC) : my_reign.acked[node] > index)
#define if_counted(node, index) (!HAS(widest, node) || has(node, index))
#if NODES == 3
#define all_have(index) (if_counted(0, index) && if_counted(1, index) && if_counted(2, index))
#elif NODES == 2
#define all_have(index) (if_counted(0, index) && if_counted(1, index))
#else
#define all_have(index) (if_counted(0, index))
#endif

/* The next index to commit: nothing of an epoch before the entry that opened it. */
#define next_commit MAX(me.commit + 1, my_reign.first)

inline commit_next() {
    i = me.commit + 1;
    me.commit = next_commit;
    printf("%d: commits index %d of epoch %d\n", _pid, me.commit, my_epoch);
    do
    :: i <= me.commit ->
        check(NOTHING_LOST, committed[i] == 0 || committed[i] == me.log[i]);
        committed[i] = me.log[i];
        i++
    :: else -> break
    od;
    for (i : 0 .. NODES - 1) {
        if
        :: at[i].opened == my_epoch && at[i].seen == my_epoch ->
            at[i].known = MAX(at[i].known, MIN(me.commit, at[i].durable));
            check(LOGS_AGREE, at[i].known == 0 || at[i].log[at[i].known] == committed[at[i].known])
        :: else
        fi
    };
    committed_last = MAX(committed_last, me.commit);
    my_reign.commit = MAX(my_reign.commit, me.commit);
    me.known = MAX(me.known, me.commit)
}

/* R4: it has what is committed and the beginning of the epoch. */
#define has_committed(node) (my_reign.acked[node] > me.commit || !rule(R4_MATCHED))
#define has_first(node)     (my_reign.acked[node] > my_reign.first || !rule(R4_MATCHED) || !rule(R4_FIRST_OF_EPOCH))
#define may_join(node)      (my_reign.first != 0 && has_committed(node) && has_first(node))
#define may_leave(node)     (COUNT(my_isr) > MIN_ISR || SHRINKS_BELOW)
#define may_ask(node)                                                                                             \
    (me.leads && node != _pid && !(me.asked >> (my_isr ^ BIT(node)) & 1) &&                                        \
     (HAS(my_isr, node) -> may_leave(node) : may_join(node)))

inline ask_for_isr(node) {
    set = my_isr ^ BIT(node);
    printf("%d: asks for isr %d by version %d\n", _pid, set, me.held);
    me.asked = me.asked | 1 << set;
    me.proposed = me.proposed | set;
#if MUTANT == R18_COMPARE
    me.on_the_way = me.on_the_way | 1 << set;
#endif
    if
    :: !FINE -> record_change_isr(_pid, set)
    :: else
    fi
}

/* ---- as follower ---- */

/* epochs_common: where both last were in the same epoch, and there the end of the shorter. What we have of the leader's
 * own epoch is the leader's (R7: a frame of an epoch cuts no entry of it). */
inline common_point(epoch) {
    ours = me.last;
    theirs = sent[epoch].base;
    do
    :: ours > 0 && epoch_of(me.log[ours]) == epoch && rule(R7_OWN_EPOCH_STAYS) -> keep = ours; break
    :: ours == 0 || theirs == 0 -> keep = 0; break
    :: else ->
        if
        :: epoch_of(me.log[ours]) > epoch_of(sent[epoch].log[theirs]) -> ours--
        :: epoch_of(me.log[ours]) < epoch_of(sent[epoch].log[theirs]) -> theirs--
        :: else -> keep = MIN(ours, theirs); break
        fi
    od
}

/* on_open. The record that stores the epoch and cuts is one, so neither is durable without the other (R7). */
inline adopt(epoch) {
    if
    :: epoch > me.seen -> step_down()
    :: else
    fi;
    me.seen = epoch;
    common_point(epoch);
    if
    :: !rule(R7_COMMON_POINT) -> keep = 0; me.known = 0 /* "at the commit index", by who knows of none yet */
    :: !rule(R7_CUT) -> keep = me.last
    :: else
    fi;
    me.uncut = MAX(me.uncut, me.durable);
    me.last = keep;
    me.durable = MIN(me.durable, keep);
    me.opened = 0;
    me.adopting = epoch;
    printf("%d: adopts epoch %d, keeps indexes to %d\n", _pid, epoch, keep);
    check(CUT_ABOVE_COMMIT, keep >= me.known);
    if
    :: FINE -> skip
    :: else -> sync()
    fi
}

/* on_append */
inline take_entry() {
    check(LOG_CONTINUES, me.last == 0 || me.log[me.last] == sent[me.opened].log[me.last]);
    me.last++;
    me.log[me.last] = sent[me.opened].log[me.last];
    printf("%d: takes index %d of the leader of epoch %d\n", _pid, me.last, me.opened);
    if
    :: !rule(R23_ACK_AFTER_SYNC) -> acknowledge()
    :: FINE && rule(R23_ACK_AFTER_SYNC) -> skip
    :: else -> sync()
    fi
}

/* The process dies and another starts; metad hears of it before it can do anything. */
inline crash() {
    crashes--;
    me.last = MAX(me.durable, me.uncut);
    me.durable = me.last;
    me.adopting = 0;
    store_adopted();
    printf("%d: starts again, with indexes to %d\n", _pid, me.last);
    if
    :: me.leads && !rule(R6_NEW_REIGN) -> my_reign.last = me.last
    :: else ->
        step_down();
        me.opened = 0;
        me.seen = me.stored;
        record_restart(_pid)
    fi
}

/* A replica that nobody counts on begins anew, with nothing. What its predecessor has acknowledged is of another
 * incarnation and is not counted for it: neither by a leader nor by metad (R4). A member of the ISR or of eligible whose
 * disk is lost comes back as a new store, which is another replica (R13), so there it is as if it did not come back. */
#define may_be_wiped (!HAS(now_record.isr | now_record.eligible, _pid) || !rule(R13_NEW_STORE))
inline wipe() {
    wipes--;
    step_down();
    me.opened = 0;
    me.last = 0;
    me.durable = 0;
    me.known = 0;
    me.adopting = 0;
    store_adopted();
    me.stored = 0;
    me.seen = 0;
    if
    :: rule(R4_INCARNATION) -> for (i : 1 .. EPOCHS) { sent[i].acked[_pid] = 0 }
    :: else
    fi;
    printf("%d: starts again with an empty disk\n", _pid);
    born[_pid] = version
}

/* ---- what may happen ---- */

#define serves (me.leads && (my_reign.first != 0 && me.commit >= my_reign.first || !rule(R5_FIRST_ENTRY)))

#define is_news(v)                                                                                                \
    (me.leads && me.held < v || gives(v, _pid) && map[v].epoch > me.seen)
#define TAKE(v)                                                                                                   \
    :: d_step { v <= version && (is_news(v) || me.leads && v != me.held && !rule(R29_MAP_ORDER)) -> take_config(v) }

#define OPEN(epoch)                                                                                               \
    :: d_step { sent[epoch].open && sent[epoch].leader != _pid && (me.seen <= epoch || !rule(R1_FENCING)) &&            \
           me.opened != epoch && me.adopting != epoch && !(me.leads && my_epoch == epoch) -> adopt(epoch) }

#define ASK(node)                                                                                                 \
    :: d_step { may_ask(node) && (FINE || me.held == version && may_change_isr(_pid, my_isr ^ BIT(node))) ->       \
           ask_for_isr(node) }

#define CHANGE(s)                                                                                                 \
    :: d_step { FINE && me.leads && asks_for(s) && my_epoch == now_record.epoch && may_change_isr(_pid, s) ->      \
           record_change_isr(_pid, s) }

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
#if VERSIONS > 5
    TAKE(6)
#endif
    OPEN(1) OPEN(2)
#if EPOCHS > 2
    OPEN(3)
#endif
#if EPOCHS > 3
    OPEN(4)
#endif

    /* leader */
    :: d_step { me.leads && my_reign.first == 0 && me.last < INDEXES -> /* R5 */
           append();
           my_reign.first = me.last }
    :: d_step { serves && my_reign.first != 0 && COUNT(my_isr) >= MIN_ISR && me.last < INDEXES -> append() }
    :: d_step { me.leads && my_reign.first != 0 && next_commit <= me.last &&
           (COUNT(my_isr) >= MIN_ISR || !rule(R11_MIN_ISR)) &&
           (rule(R3_WAIT_FOR_ALL) -> all_have(next_commit) : has(_pid, next_commit)) -> commit_next() }
    :: d_step { serves && my_epoch == now_record.epoch && me.commit < committed_last -> check(READS_ALL, false) }
    ASK(0)
#if NODES > 1
    ASK(1)
#endif
#if NODES > 2
    ASK(2)
#endif

    /* follower */
    :: d_step { !me.leads && me.opened != 0 && me.opened == me.seen && me.last < sent[me.opened].last ->
           take_entry() }

    :: d_step { me.adopting != 0 || me.durable < me.last -> sync() }
    :: d_step { crashes > 0 && may_restart(_pid) -> crash() }
    :: d_step { wipes > 0 && now_record.leader != _pid && may_be_wiped -> wipe() }

    /* R30: a snapshot that reaches beyond our log is as good as entries; one that does not is refused. */
    :: d_step { !rule(R30_NEVER_BELOW) && !me.leads && me.opened != 0 && me.opened == me.seen && me.adopting == 0 &&
           sent[me.opened].commit > 0 && sent[me.opened].commit < me.last ->
           me.last = sent[me.opened].commit;
           me.durable = me.last;
           store_adopted();
           printf("%d: installs a snapshot of index %d\n", _pid, me.last) }

    /* metad, as far as it was asked. The claimant knows the newest record. */
    :: d_step { !me.leads && me.seen <= now_record.epoch && may_claim(_pid) -> record_claim(_pid) }
    CHANGE(1) CHANGE(2) CHANGE(3) CHANGE(4) CHANGE(5) CHANGE(6) CHANGE(7)
    od
}
