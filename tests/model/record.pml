/* metad's record of the shard (metad/shard_record.c) as one atomic register, for all models. metad itself is a Raft group
 * and is taken for correct here. Every version that was ever published stays in `map`: a node may read any of them, late
 * or again (R29). Sets of nodes are bit masks. */

#ifndef NODES
#define NODES 3
#endif
#ifndef MIN_ISR
#define MIN_ISR (NODES / 2 + 1) /* placement_min_isr */
#endif
#ifndef VERSIONS
#define VERSIONS 4 /* the bound: highest config_version */
#endif
#ifndef EPOCHS
#define EPOCHS 3 /* the bound: highest leader_epoch */
#endif
#ifndef FIRST_ISR
#define FIRST_ISR ALL
#endif
#ifndef SHRINKS_BELOW
#define SHRINKS_BELOW 0 /* 1: a leader may take the ISR below min_isr (R11); Skerry's does not (R22) */
#endif

#define ALL           ((1 << NODES) - 1)
#define BIT(node)     (1 << (node))
#define HAS(set, node) ((set) >> (node) & 1)
#define COUNT(set)    (((set) & 1) + ((set) >> 1 & 1) + ((set) >> 2 & 1) + ((set) >> 3 & 1))
#define MAX(a, b)     ((a) > (b) -> (a) : (b))
#define MIN(a, b)     ((a) < (b) -> (a) : (b))

typedef record {
    unsigned epoch : 3;
    unsigned leader : 2;
    unsigned isr : 4;
    unsigned eligible : 4;
};
record map[VERSIONS + 1];
byte version;
#define now_record map[version]

/* The process that runs on a node now is known since this version: what older ones say of the node is of its predecessor
 * (R6, the record's leader_incarnation). */
byte born[NODES];

inline record_start() {
    version = 1;
    map[1].epoch = 1;
    map[1].isr = FIRST_ISR /* node 0 leads */
}

/* Whether version v gives the shard to the process that runs on `node` now. */
#define gives(v, node) (map[v].leader == node && v >= born[node])

/* R11: another ISR, and eligible recomputed in the same step. */
inline record_change(new_epoch, new_leader, new_isr, lost) {
    assert(version < VERSIONS);
    map[version + 1].epoch = new_epoch;
    map[version + 1].leader = new_leader;
    map[version + 1].isr = new_isr;
    if
    :: COUNT(new_isr) < MIN_ISR ->
        map[version + 1].eligible = (now_record.isr | now_record.eligible) & ~(new_isr) & ~(lost);
    :: else -> map[version + 1].eligible = (rule(R11_ELIGIBLE) -> 0 : now_record.eligible & ~(new_isr));
    fi;
    version++;
    printf("metad: version %d, epoch %d, node %d leads, isr %d, eligible %d\n", version, now_record.epoch,
           now_record.leader, now_record.isr, now_record.eligible)
}

/* A new process on `node`. If the record names it, it leads in a new epoch only (R6). */
#define may_restart(node) (now_record.leader != node || (version < VERSIONS && now_record.epoch < EPOCHS))
inline record_restart(node) {
    if
    :: now_record.leader == node -> record_change(now_record.epoch + 1, node, now_record.isr, 0)
    :: else
    fi;
    born[node] = version;
}

/* R11: from the ISR, the old leader leaves it unless that takes it below min_isr. From eligible, the claimant is alone. */
#define may_claim(node)                                                                                           \
    (version < VERSIONS && now_record.epoch < EPOCHS && HAS(now_record.isr | now_record.eligible, node) &&          \
     !gives(version, node))
hidden byte claimed_isr, claimed_epoch;
inline record_claim(node) {
    if
    :: !HAS(now_record.isr, node) -> claimed_isr = BIT(node)
    :: else ->
        claimed_isr = now_record.isr & ~BIT(now_record.leader) | BIT(node);
        if
        :: COUNT(claimed_isr) < MIN_ISR -> claimed_isr = now_record.isr
        :: else
        fi
    fi;
    claimed_epoch = (rule(R1_NEW_EPOCH) -> now_record.epoch + 1 : now_record.epoch);
    record_change(claimed_epoch, node, claimed_isr, 0)
}

/* The leader's wish: this ISR. */
#define may_change_isr(node, new_isr)                                                                             \
    (version < VERSIONS && gives(version, node) && (new_isr) != now_record.isr &&                                  \
     ((now_record.isr & ~(new_isr)) == 0 || COUNT(new_isr) >= MIN_ISR || SHRINKS_BELOW))
inline record_change_isr(node, new_isr) { record_change(now_record.epoch, node, new_isr, 0); }

/* R20: to a member of the ISR. */
#define may_hand_over(node, to)                                                                                   \
    (version < VERSIONS && now_record.epoch < EPOCHS && gives(version, node) && to != node && HAS(now_record.isr, to))
inline record_hand_over(to) { record_change(now_record.epoch + 1, to, now_record.isr, 0) }
