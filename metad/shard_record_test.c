/* Stories of one shard's record: a state, a change, the state after it. */
#include "metad/shard_record.h"

#include "libcommon/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define NODES      5u
#define REBUILT_ID 900u

/* The cluster: node i + 1 has incarnation (i + 1) * 10. The shard's replicas are on nodes 1 to `replica_count`. */
static struct map_node cluster[NODES + 1];
static const struct map_node *nodes[MAP_REPLICAS_MAX];
static struct map_shard shard;
static const char *text;

static void look_up_nodes(void) {
    for (uint32_t i = 0; i < shard.replica_count; i++) nodes[i] = &cluster[shard.replicas[i].node - 1];
}

static void start(uint32_t replicas) {
    for (uint32_t i = 0; i <= NODES; i++) {
        cluster[i] = (struct map_node){.id = i + 1, .alive = true, .incarnation = (i + 1) * 10};
    }
    for (uint32_t i = 0; i < replicas; i++) nodes[i] = &cluster[i];
    shard_record_start(&shard, nodes, replicas, 100);
}

/* "1,2,3" */
static const char *show(const uint32_t *ids, uint32_t count) {
    static char rooms[4][64];
    static unsigned turn;
    char *room = rooms[turn++ % 4];
    int at = 0;
    room[0] = 0;
    for (uint32_t i = 0; i < count; i++)
        at += snprintf(room + at, 64 - (size_t)at, "%s%u", i > 0 ? "," : "", ids[i]);
    return room;
}

static void assert_sets(const char *isr, const char *eligible) {
    assert_string_equal(show(shard.isr, shard.isr_count), isr);
    assert_string_equal(show(shard.eligible, shard.eligible_count), eligible);
    assert_true(shard_record_is_sound(&shard));
}

static void assert_leader(uint32_t node, uint64_t epoch) {
    assert_int_equal(shard.leader, node);
    assert_int_equal(shard.leader_epoch, epoch);
    if (node != 0) assert_int_equal(shard.leader_incarnation, cluster[node - 1].incarnation);
}

/* What `sender` asks for; whatever the answer, it is checked that a refusal changes nothing and anything else raises
 * config_version by one. */
static int ask(uint32_t sender, struct shard_change change) {
    struct map_shard before = shard;
    text = NULL;
    look_up_nodes();
    const struct map_node *from = &cluster[sender - 1];
    int err = change.kind == SHARD_CHANGE_REBUILD
                  ? shard_record_rebuild(&shard, nodes, from, &change, REBUILT_ID, &text)
                  : shard_record_change(&shard, nodes, from, &change, &text);
    if (err == SK_OK) {
        assert_int_equal(shard.config_version, before.config_version + 1);
        assert_null(text);
    } else {
        assert_memory_equal(&shard, &before, sizeof shard);
        assert_non_null(text);
    }
    return err;
}

static struct shard_change change_of(enum shard_change_kind kind) {
    return (struct shard_change){
        .kind = kind, .config_version = shard.config_version, .leader_epoch = shard.leader_epoch};
}

/* `isr` ends with 0. */
static struct shard_change isr_of(const uint32_t *isr) {
    struct shard_change change = change_of(SHARD_CHANGE_ISR);
    for (; isr[change.isr_count] != 0; change.isr_count++) {
        uint32_t node = isr[change.isr_count];
        change.isr[change.isr_count] = node;
        change.incarnations[change.isr_count] = node <= NODES + 1 ? cluster[node - 1].incarnation : 0;
    }
    return change;
}

#define ISR(...) isr_of((const uint32_t[]){__VA_ARGS__, 0})

static struct shard_change to_node(enum shard_change_kind kind, uint32_t node) {
    struct shard_change change = change_of(kind);
    change.node = node;
    return change;
}

static int claim_by(uint32_t node) { return ask(node, change_of(SHARD_CHANGE_CLAIM)); }

static void a_shard_begins_with_all_in_sync(void **state) {
    (void)state;
    start(3);
    assert_sets("1,2,3", "");
    assert_leader(1, 1);
    assert_int_equal(shard.config_version, 1);
    assert_int_equal(shard.min_isr, 2);
    assert_int_equal(shard.replicas[2].replica_id, 102);
    start(1);
    assert_sets("1", "");
    assert_int_equal(shard.min_isr, 1);
}

static void r18_a_change_was_decided_on_what_is_there(void **state) {
    (void)state;
    start(3);
    struct shard_change stale = ISR(1, 2);
    assert_int_equal(ask(1, stale), SK_OK);
    assert_int_equal(ask(1, stale), SK_CONFLICT); /* the same one again, when the answer was lost */
    struct shard_change early = ISR(1, 2, 3);
    early.config_version++;
    assert_int_equal(ask(1, early), SK_CONFLICT);
    stale = change_of(SHARD_CHANGE_CLAIM);
    stale.config_version--;
    assert_int_equal(ask(2, stale), SK_CONFLICT);
    stale = to_node(SHARD_CHANGE_HANDOVER, 2);
    stale.config_version--;
    assert_int_equal(ask(1, stale), SK_CONFLICT);
}

static void r6_only_the_incarnation_of_the_record_leads(void **state) {
    (void)state;
    start(3);
    assert_int_equal(ask(2, ISR(1, 2)), SK_NOT_LEADER);
    assert_int_equal(ask(2, to_node(SHARD_CHANGE_HANDOVER, 3)), SK_NOT_LEADER);
    assert_int_equal(ask(2, to_node(SHARD_CHANGE_RETIRE, 3)), SK_NOT_LEADER);
    assert_int_equal(ask(2, change_of(SHARD_CHANGE_HANDOVER_GIVEN_UP)), SK_NOT_LEADER);
    cluster[0].incarnation = 11; /* it has started again, and the record does not say so */
    assert_int_equal(ask(1, ISR(1, 2)), SK_NOT_LEADER);
    assert_int_equal(ask(1, change_of(SHARD_CHANGE_HANDOVER_GIVEN_UP)), SK_NOT_LEADER);
    assert_true(shard_record_restart(&shard, &cluster[0]));
    assert_leader(1, 2);
    assert_sets("1,2,3", "");
    assert_int_equal(shard.config_version, 2);
    assert_int_equal(ask(1, ISR(1, 2)), SK_OK);
    assert_false(shard_record_restart(&shard, &cluster[1])); /* a follower */
    assert_int_equal(shard.config_version, 3);
}

static void the_epoch_must_be_the_leaders(void **state) {
    (void)state;
    start(3);
    struct shard_change change = ISR(1, 2);
    change.leader_epoch++;
    assert_int_equal(ask(1, change), SK_STALE_EPOCH);
    change = to_node(SHARD_CHANGE_HANDOVER, 2);
    change.leader_epoch = 0;
    assert_int_equal(ask(1, change), SK_STALE_EPOCH);
}

static void the_isr_shrinks_and_grows(void **state) {
    (void)state;
    start(3);
    assert_int_equal(ask(1, ISR(3, 1)), SK_OK);
    assert_sets("3,1", "");
    assert_leader(1, 1);                        /* neither leader nor epoch change */
    assert_int_equal(ask(1, ISR(1, 2)), SK_OK); /* one for another */
    assert_sets("1,2", "");
    assert_int_equal(ask(1, ISR(1, 2, 3)), SK_OK);
    assert_sets("1,2,3", "");
}

static void senseless_sets_are_refused(void **state) {
    (void)state;
    start(3);
    assert_int_equal(ask(1, ISR(1, 4)), SK_BADREQUEST); /* no replica */
    assert_int_equal(ask(1, ISR(1, 2, 2)), SK_BADREQUEST);
    assert_int_equal(ask(1, ISR(1, 2, 3, 1)), SK_BADREQUEST);
    assert_int_equal(ask(1, ISR(2, 3)), SK_BADREQUEST);    /* without the leader */
    assert_int_equal(ask(1, ISR(0)), SK_BADREQUEST);       /* empty */
    assert_int_equal(ask(1, ISR(3, 2, 1)), SK_BADREQUEST); /* what is there */
    struct shard_change change = ISR(1, 2);
    change.isr[1] = 0;
    assert_int_equal(ask(1, change), SK_BADREQUEST);
}

static void r22_a_leader_never_shrinks_below_min_isr(void **state) {
    (void)state;
    start(3);
    assert_int_equal(ask(1, ISR(1)), SK_UNAVAILABLE);
    assert_int_equal(ask(1, ISR(1, 2)), SK_OK);
    assert_int_equal(ask(1, ISR(1)), SK_UNAVAILABLE);
    start(2); /* both, always */
    assert_int_equal(ask(1, ISR(1)), SK_UNAVAILABLE);
    start(5);
    assert_int_equal(ask(1, ISR(1, 2, 3)), SK_OK);
    assert_int_equal(ask(1, ISR(1, 4)), SK_UNAVAILABLE); /* not by an exchange either */
}

/* R4: what a node has acknowledged in an earlier life proves nothing about this one. */
static void r4_who_joins_has_the_incarnation_that_metad_knows(void **state) {
    (void)state;
    start(3);
    assert_int_equal(ask(1, ISR(1, 2)), SK_OK);
    struct shard_change change = ISR(1, 2, 3);
    cluster[2].incarnation = 31;
    assert_int_equal(ask(1, change), SK_CONFLICT);
    cluster[1].incarnation = 21; /* a member that stays is not asked */
    change.incarnations[2] = 31;
    assert_int_equal(ask(1, change), SK_OK);
    assert_sets("1,2,3", "");
}

static void the_first_claim_wins(void **state) {
    (void)state;
    start(3);
    struct shard_change second = change_of(SHARD_CHANGE_CLAIM);
    assert_int_equal(claim_by(3), SK_OK);
    assert_leader(3, 2);
    assert_sets("2,3", ""); /* the old leader is out: what is left has min_isr members */
    assert_int_equal(ask(2, second), SK_CONFLICT);
    assert_int_equal(claim_by(3), SK_CONFLICT);    /* leads already */
    assert_int_equal(claim_by(1), SK_UNAVAILABLE); /* out, and back with whatever it has */
}

static void r11_a_claim_never_takes_the_isr_below_min_isr(void **state) {
    (void)state;
    start(3);
    assert_int_equal(ask(1, ISR(1, 2)), SK_OK);
    assert_int_equal(claim_by(3), SK_UNAVAILABLE); /* it is behind */
    assert_int_equal(claim_by(2), SK_OK);
    assert_leader(2, 2);
    assert_sets("1,2", ""); /* the old leader counts until it is replaced or back */
    assert_int_equal(claim_by(1), SK_OK);
    assert_sets("1,2", "");
    assert_leader(1, 3);
    /* The third one catches up; then the other can go. */
    assert_int_equal(ask(1, ISR(1, 2, 3)), SK_OK);
    assert_int_equal(ask(1, ISR(1, 3)), SK_OK);
    assert_sets("1,3", "");
}

static void r11_retired_followers_leave_others_eligible(void **state) {
    (void)state;
    start(5); /* min_isr 3 */
    assert_int_equal(ask(1, ISR(1, 2, 3)), SK_OK);
    assert_int_equal(ask(1, to_node(SHARD_CHANGE_RETIRE, 3)), SK_OK);
    assert_sets("1,2", ""); /* below min_isr, and 3 is not eligible: it has lost data (R31) */
    assert_int_equal(claim_by(3), SK_UNAVAILABLE);
    assert_int_equal(claim_by(4), SK_UNAVAILABLE);
    assert_int_equal(ask(1, ISR(1, 2, 4)), SK_OK);
    assert_sets("1,2,4", "");
}

/* The isr is short, and others hold all that is committed. As long as no leader takes the isr below min_isr nothing leads
 * to it from a start, so it is made by hand. */
static void be_short(uint32_t replicas) {
    start(replicas);
    shard.isr_count = 1;
    shard.eligible_count = 2;
    shard.eligible[0] = 2;
    shard.eligible[1] = 3;
    assert_true(shard_record_is_sound(&shard));
}

static void r11_a_claim_from_eligible_leads_alone(void **state) {
    (void)state;
    be_short(3);
    assert_int_equal(claim_by(3), SK_OK);
    assert_leader(3, 2);
    assert_sets("3", "1,2");
    assert_int_equal(claim_by(1), SK_OK); /* everything committed is there, too */
    assert_leader(1, 3);
    assert_sets("1", "3,2");
    assert_int_equal(ask(1, ISR(1, 2)), SK_OK); /* min_isr again: nobody is eligible */
    assert_sets("1,2", "");
    assert_int_equal(claim_by(3), SK_UNAVAILABLE);

    be_short(3);
    assert_int_equal(ask(1, to_node(SHARD_CHANGE_RETIRE, 3)), SK_OK);
    assert_sets("1", "2");
    assert_int_equal(claim_by(2), SK_OK);
    assert_sets("2", "1");
}

static void r11_eligible_is_recomputed_while_the_isr_is_short(void **state) {
    (void)state;
    be_short(5); /* min_isr 3 */
    assert_int_equal(ask(1, ISR(1, 3)), SK_OK);
    assert_sets("1,3", "2");
    assert_int_equal(claim_by(3), SK_OK); /* from a short isr: it stays as it is */
    assert_sets("1,3", "2");
    assert_int_equal(ask(3, ISR(1, 3, 5)), SK_OK);
    assert_sets("1,3,5", "");
}

static void a_node_that_counts_as_dead_does_not_lead(void **state) {
    (void)state;
    start(3);
    cluster[1].alive = false;
    assert_int_equal(claim_by(2), SK_UNAVAILABLE);
    assert_int_equal(ask(1, to_node(SHARD_CHANGE_HANDOVER, 2)), SK_UNAVAILABLE);
    cluster[1].alive = true;
    assert_int_equal(claim_by(2), SK_OK);
}

/* The leader restarted and the record has not been told; it claims like any other member. */
static void a_restarted_leader_may_claim(void **state) {
    (void)state;
    start(3);
    cluster[0].incarnation = 11;
    assert_int_equal(claim_by(1), SK_OK);
    assert_leader(1, 2);
    assert_sets("1,2,3", "");
}

static void r20_a_handover_changes_the_leader_and_nothing_else(void **state) {
    (void)state;
    start(3);
    assert_int_equal(ask(1, ISR(1, 2)), SK_OK);
    assert_int_equal(ask(1, to_node(SHARD_CHANGE_HANDOVER, 3)), SK_UNAVAILABLE); /* not in sync */
    assert_int_equal(ask(1, to_node(SHARD_CHANGE_HANDOVER, 9)), SK_UNAVAILABLE);
    assert_int_equal(ask(1, to_node(SHARD_CHANGE_HANDOVER, 1)), SK_BADREQUEST);
    cluster[1].incarnation = 21; /* it leads as what it is now */
    assert_int_equal(ask(1, to_node(SHARD_CHANGE_HANDOVER, 2)), SK_OK);
    assert_leader(2, 2);
    assert_sets("1,2", "");
    assert_int_equal(ask(1, ISR(1)), SK_NOT_LEADER);
}

static int wish(uint32_t node, bool preferred) {
    struct map_shard before = shard;
    text = NULL;
    look_up_nodes();
    int err = shard_record_wish(&shard, nodes, shard.config_version, node, preferred, &text);
    assert_int_equal(shard.config_version, before.config_version + (err == SK_OK ? 1 : 0));
    if (err != SK_OK) assert_memory_equal(&shard, &before, sizeof shard);
    return err;
}

static void r20_a_wish_is_fulfilled_given_up_or_withdrawn(void **state) {
    (void)state;
    start(3);
    assert_int_equal(wish(2, false), SK_OK);
    assert_int_equal(shard.wanted_leader, 2);
    assert_leader(1, 1); /* asked, and no more */
    assert_int_equal(ask(1, to_node(SHARD_CHANGE_HANDOVER, 2)), SK_OK);
    assert_int_equal(shard.wanted_leader, 0);

    start(3);
    assert_int_equal(wish(2, false), SK_OK);
    struct shard_change late = to_node(SHARD_CHANGE_HANDOVER, 2);
    assert_int_equal(ask(1, change_of(SHARD_CHANGE_HANDOVER_GIVEN_UP)), SK_OK);
    assert_int_equal(shard.wanted_leader, 0);
    assert_leader(1, 1);
    assert_int_equal(ask(1, late), SK_CONFLICT); /* what was under way is void */
    assert_int_equal(ask(1, change_of(SHARD_CHANGE_HANDOVER_GIVEN_UP)),
                     SK_OK); /* so it serves without a wish, too */

    assert_int_equal(wish(3, false), SK_OK);
    assert_int_equal(wish(0, false), SK_OK);
    assert_int_equal(shard.wanted_leader, 0);
    assert_int_equal(wish(0, false), SK_CONFLICT);

    assert_int_equal(wish(3, false), SK_OK);
    assert_int_equal(claim_by(2), SK_OK); /* another leader is not bound by it */
    assert_int_equal(shard.wanted_leader, 0);

    start(3);
    assert_int_equal(wish(3, false), SK_OK);
    assert_int_equal(ask(1, ISR(1, 2)), SK_OK); /* it may not lead any more */
    assert_int_equal(shard.wanted_leader, 0);

    start(3);
    assert_int_equal(wish(3, false), SK_OK);
    assert_int_equal(ask(1, to_node(SHARD_CHANGE_RETIRE, 2)), SK_OK); /* this one still may */
    assert_int_equal(shard.wanted_leader, 3);
}

static void wishes_that_cannot_be_are_refused(void **state) {
    (void)state;
    start(3);
    assert_int_equal(ask(1, ISR(1, 2)), SK_OK);
    assert_int_equal(wish(3, false), SK_UNAVAILABLE);
    assert_int_equal(wish(4, false), SK_NOT_FOUND);
    assert_int_equal(wish(1, false), SK_CONFLICT);
    cluster[1].alive = false;
    assert_int_equal(wish(2, true), SK_UNAVAILABLE);
    look_up_nodes();
    assert_int_equal(shard_record_wish(&shard, nodes, shard.config_version - 1, 2, true, &text), SK_CONFLICT);
}

static void a_persons_wish_changes_who_is_preferred(void **state) {
    (void)state;
    start(3);
    assert_int_equal(wish(3, true), SK_OK);
    assert_int_equal(shard.wanted_leader, 3);
    assert_int_equal(shard.replicas[0].node, 3);
    assert_int_equal(shard.replicas[0].replica_id, 102);
    assert_int_equal(shard.replicas[1].node, 2);
    assert_int_equal(shard.replicas[2].node, 1);
    assert_int_equal(wish(1, true), SK_OK); /* it leads: nothing is asked of it */
    assert_int_equal(shard.wanted_leader, 0);
    assert_int_equal(shard.replicas[0].node, 1);
}

static void r31_a_replica_that_lost_data_is_in_no_set(void **state) {
    (void)state;
    start(3);
    assert_int_equal(ask(1, to_node(SHARD_CHANGE_RETIRE, 1)), SK_BADREQUEST);
    assert_int_equal(ask(1, to_node(SHARD_CHANGE_RETIRE, 9)), SK_BADREQUEST);
    assert_int_equal(ask(1, to_node(SHARD_CHANGE_RETIRE, 3)), SK_OK);
    assert_sets("1,2", "");
    assert_int_equal(ask(1, to_node(SHARD_CHANGE_RETIRE, 3)), SK_BADREQUEST); /* it is out */
    assert_int_equal(ask(1, to_node(SHARD_CHANGE_RETIRE, 2)), SK_OK);         /* below min_isr, too */
    assert_sets("1", "");
    assert_int_equal(ask(1, ISR(1, 2)), SK_OK); /* it caught up from nothing */
    assert_sets("1,2", "");
}

static int rebuild(uint32_t sender, uint32_t node, uint32_t successor) {
    struct shard_change change = to_node(SHARD_CHANGE_REBUILD, node);
    change.successor = successor;
    return ask(sender, change);
}

static void r24_a_replica_that_differs_begins_anew(void **state) {
    (void)state;
    start(3);
    assert_int_equal(rebuild(2, 3, 0), SK_NOT_LEADER);
    assert_int_equal(rebuild(1, 9, 0), SK_BADREQUEST);
    assert_int_equal(rebuild(1, 3, 2), SK_BADREQUEST); /* the leader stays */
    assert_int_equal(rebuild(1, 3, 0), SK_OK);
    assert_sets("1,2", "");
    assert_int_equal(shard.replicas[2].node, 3);
    assert_int_equal(shard.replicas[2].replica_id, REBUILT_ID);
    assert_int_equal(shard.leader_epoch, 1);
    assert_int_equal(rebuild(1, 2, 0), SK_UNAVAILABLE); /* it is one of two copies */
    shard.replicas[2].replica_id = 0;
    assert_int_equal(rebuild(1, 3, 0), SK_OK); /* out of the isr, nobody counts on it */
    assert_sets("1,2", "");
    assert_int_equal(shard.replicas[2].replica_id, REBUILT_ID);
    assert_int_equal(ask(1, ISR(1, 2, 3)), SK_OK);
    struct shard_change stale = to_node(SHARD_CHANGE_REBUILD, 3);
    stale.config_version--;
    assert_int_equal(ask(1, stale), SK_CONFLICT);
}

static void r24_a_leader_that_differs_goes_with_its_leadership(void **state) {
    (void)state;
    start(3);
    assert_int_equal(rebuild(1, 1, 0), SK_UNAVAILABLE);
    assert_int_equal(rebuild(1, 1, 1), SK_UNAVAILABLE);
    cluster[1].alive = false;
    assert_int_equal(rebuild(1, 1, 2), SK_UNAVAILABLE);
    cluster[1].alive = true;
    assert_int_equal(rebuild(1, 1, 2), SK_OK);
    assert_sets("2,3", "");
    assert_int_equal(shard.leader, 2);
    assert_int_equal(shard.leader_incarnation, cluster[1].incarnation);
    assert_int_equal(shard.leader_epoch, 2);
    assert_int_equal(shard.replicas[0].replica_id, REBUILT_ID);
    assert_int_equal(rebuild(2, 2, 3), SK_UNAVAILABLE); /* below min_isr */
    assert_int_equal(rebuild(2, 2, 1), SK_UNAVAILABLE);
}

/* A copy that may be the only other one of something stays, whatever is wrong with it. */
static void r24_nobody_is_rebuilt_while_the_isr_is_short(void **state) {
    (void)state;
    be_short(5);
    for (uint32_t node = 1; node <= NODES; node++) {
        if (node == shard.leader || map_find_replica(&shard, node) == NULL) continue;
        bool counted = map_in_isr(&shard, node) || shard_record_is_eligible(&shard, node);
        assert_int_equal(rebuild(shard.leader, node, 0), counted ? SK_UNAVAILABLE : SK_OK);
    }
}

static int replace(uint32_t from, uint32_t to) {
    struct map_shard before = shard;
    text = NULL;
    look_up_nodes();
    int err = shard_record_replace(&shard, nodes, shard.config_version, from, &cluster[to - 1], 500, &text);
    assert_int_equal(shard.config_version, before.config_version + (err == SK_OK ? 1 : 0));
    if (err != SK_OK) assert_memory_equal(&shard, &before, sizeof shard);
    return err;
}

static void r13_a_wiped_node_gets_empty_replicas(void **state) {
    (void)state;
    start(3);
    assert_int_equal(replace(2, 4), SK_CONFLICT); /* alive */
    cluster[1].alive = false;
    assert_int_equal(replace(2, 4), SK_CONFLICT); /* still in sync: the leader must have done without it first */
    assert_int_equal(ask(1, ISR(1, 3)), SK_OK);
    cluster[1].alive = true;
    assert_int_equal(replace(2, 4), SK_CONFLICT); /* it is only behind */
    cluster[1].alive = false;
    cluster[3].alive = false;
    assert_int_equal(replace(2, 4), SK_CONFLICT);
    cluster[3].alive = true;
    look_up_nodes();
    assert_int_equal(shard_record_replace(&shard, nodes, 1, 2, &cluster[3], 500, &text), SK_CONFLICT);
    assert_int_equal(replace(2, 3), SK_CONFLICT); /* has one already */
    assert_int_equal(replace(5, 4), SK_CONFLICT); /* has none */
    assert_int_equal(replace(2, 4), SK_OK);
    assert_sets("1,3", ""); /* it catches up first */
    assert_leader(1, 1);
    assert_int_equal(shard.replicas[1].node, 4); /* the same place */
    assert_int_equal(shard.replicas[1].replica_id, 500);
    assert_int_equal(claim_by(4), SK_UNAVAILABLE);
    assert_int_equal(ask(1, ISR(1, 3, 4)), SK_OK);

    be_short(3); /* eligible holds back, too */
    cluster[1].alive = false;
    assert_int_equal(replace(2, 4), SK_CONFLICT);
}

static int force(uint32_t node) {
    struct map_shard before = shard;
    text = NULL;
    look_up_nodes();
    int err = shard_record_force(&shard, nodes, shard.config_version, node, 900, &text);
    assert_int_equal(shard.config_version, before.config_version + (err == SK_OK ? 1 : 0));
    if (err != SK_OK) assert_memory_equal(&shard, &before, sizeof shard);
    return err;
}

static void r12_a_forced_leader_is_alone_and_the_others_begin_anew(void **state) {
    (void)state;
    start(3);
    assert_int_equal(wish(2, false), SK_OK);
    assert_int_equal(ask(1, ISR(1, 2)), SK_OK);
    assert_int_equal(force(4), SK_NOT_FOUND);
    cluster[2].alive = false;
    assert_int_equal(force(3), SK_UNAVAILABLE);
    cluster[2].alive = true;
    cluster[0].alive = cluster[1].alive = false;
    assert_int_equal(force(3), SK_OK); /* it was in neither set */
    assert_leader(3, 2);
    assert_sets("3", "");
    assert_int_equal(shard.data_loss_generation, 1);
    assert_int_equal(shard.min_isr, 2);
    assert_int_equal(shard.wanted_leader, 0);
    assert_int_equal(shard.replicas[0].replica_id, 900);
    assert_int_equal(shard.replicas[1].replica_id, 901);
    assert_int_equal(shard.replicas[2].replica_id, 102); /* the one that counts */
    cluster[0].alive = cluster[1].alive = true;
    assert_int_equal(claim_by(1), SK_UNAVAILABLE); /* whoever led before may not claim it back */
    assert_int_equal(ask(1, change_of(SHARD_CHANGE_HANDOVER_GIVEN_UP)), SK_NOT_LEADER);
    assert_int_equal(ask(3, ISR(3, 1)), SK_OK);
    assert_int_equal(force(3), SK_OK); /* and again: one more loss */
    assert_int_equal(shard.data_loss_generation, 2);
    look_up_nodes();
    assert_int_equal(shard_record_force(&shard, nodes, 0, 3, 900, &text), SK_CONFLICT);
}

/* ---- R19: moving a replica ---- */

/* One step of a move; whatever the answer, a refusal changes nothing and anything else raises config_version by one. */
enum move_step { START, FINISH, CANCEL };

static int move(enum move_step step, uint32_t from, uint32_t to) {
    struct map_shard before = shard;
    uint64_t version = shard.config_version;
    int err = SK_OK;
    text = NULL;
    look_up_nodes();
    if (step == START)
        err = shard_record_start_move(&shard, nodes, version, from, &cluster[to - 1], 500 + version, &text);
    if (step == FINISH) err = shard_record_finish_move(&shard, version, &text);
    if (step == CANCEL) err = shard_record_cancel_move(&shard, version, &text);
    assert_int_equal(shard.config_version, version + (err == SK_OK ? 1 : 0));
    if (err != SK_OK) assert_memory_equal(&shard, &before, sizeof shard);
    assert_true((err == SK_OK) == (text == NULL));
    assert_true(shard_record_is_sound(&shard));
    return err;
}

static void assert_replicas(const char *expected) {
    uint32_t ids[MAP_REPLICAS_MAX];
    for (uint32_t i = 0; i < shard.replica_count; i++) ids[i] = shard.replicas[i].node;
    assert_string_equal(show(ids, shard.replica_count), expected);
}

static void r19_a_replica_moves_by_growing_first(void **state) {
    (void)state;
    start(3);
    assert_int_equal(move(START, 2, 4), SK_OK);
    assert_replicas("1,2,3,4");
    assert_sets("1,2,3", ""); /* it is in no set, and no more are needed */
    assert_int_equal(shard.min_isr, 2);
    assert_int_equal(shard.replicas[3].replica_id, 501);
    assert_int_equal(claim_by(4), SK_UNAVAILABLE);
    assert_int_equal(move(FINISH, 0, 0), SK_UNAVAILABLE); /* it has not joined */
    assert_int_equal(ask(1, ISR(1, 2, 3, 4)), SK_OK);
    assert_int_equal(move(FINISH, 0, 0), SK_OK);
    assert_replicas("1,4,3"); /* in the other's place */
    assert_int_equal(shard.replicas[1].replica_id, 501);
    assert_sets("1,3,4", "");
    assert_leader(1, 1);
    assert_int_equal(shard.min_isr, 2);
    assert_int_equal(shard.move_to, 0);
    assert_int_equal(move(FINISH, 0, 0), SK_CONFLICT); /* again, when the answer was lost */
    assert_int_equal(claim_by(2), SK_UNAVAILABLE);     /* it is no replica any more */
}

static void r19_moves_that_cannot_be_are_not_started(void **state) {
    (void)state;
    start(3);
    look_up_nodes();
    assert_int_equal(shard_record_start_move(&shard, nodes, 0, 2, &cluster[3], 500, &text), SK_CONFLICT);
    assert_int_equal(move(START, 2, 3), SK_CONFLICT); /* has one already */
    assert_int_equal(move(START, 5, 4), SK_CONFLICT); /* has none */
    cluster[3].alive = false;
    assert_int_equal(move(START, 2, 4), SK_CONFLICT);
    cluster[3].alive = true;
    for (int node_state = MAP_NODE_DRAINING; node_state <= MAP_NODE_STATE_LAST; node_state++) {
        cluster[3].state = (enum map_node_state)node_state;
        assert_int_equal(move(START, 2, 4), SK_CONFLICT);
    }
    cluster[3].state = MAP_NODE_MEMBER;
    assert_int_equal(move(START, 2, 4), SK_OK);
    assert_int_equal(move(START, 2, 4), SK_CONFLICT); /* again */
    assert_int_equal(move(START, 3, 5), SK_CONFLICT); /* one at a time (R18) */
    assert_int_equal(move(START, 0, 5), SK_CONFLICT);
    assert_int_equal(move(START, 0, 4), SK_CONFLICT);
    assert_int_equal(move(START, 4, 4), SK_CONFLICT);
    start(5);
    shard.replica_count = MAP_REPLICAS_MAX;
    for (uint32_t i = 5; i < MAP_REPLICAS_MAX; i++) shard.replicas[i].node = i + 2;
    for (uint32_t i = 0; i < MAP_REPLICAS_MAX; i++) nodes[i] = &cluster[0];
    uint64_t version = shard.config_version;
    assert_int_equal(shard_record_start_move(&shard, nodes, version, 2, &cluster[5], 500, &text), SK_CONFLICT);
}

static void r19_a_leader_hands_over_before_it_goes(void **state) {
    (void)state;
    start(3);
    assert_int_equal(move(START, 1, 4), SK_OK);
    assert_int_equal(ask(1, ISR(1, 2, 3, 4)), SK_OK);
    assert_int_equal(move(FINISH, 0, 0), SK_UNAVAILABLE);
    assert_int_equal(wish(4, false), SK_OK);
    assert_int_equal(ask(1, to_node(SHARD_CHANGE_HANDOVER, 4)), SK_OK);
    assert_int_equal(move(FINISH, 0, 0), SK_OK);
    assert_replicas("4,2,3");
    assert_sets("2,3,4", "");
    assert_leader(4, 2);

    start(3); /* a person prefers the one that came: it stays where it was put */
    assert_int_equal(move(START, 1, 4), SK_OK);
    assert_int_equal(ask(1, ISR(1, 2, 3, 4)), SK_OK);
    assert_int_equal(wish(4, true), SK_OK);
    assert_replicas("4,2,3,1");
    assert_int_equal(ask(1, to_node(SHARD_CHANGE_HANDOVER, 4)), SK_OK);
    assert_int_equal(move(FINISH, 0, 0), SK_OK);
    assert_replicas("4,2,3");

    start(3); /* a wish for the one that goes is over with it */
    assert_int_equal(move(START, 2, 4), SK_OK);
    assert_int_equal(ask(1, ISR(1, 2, 3, 4)), SK_OK);
    assert_int_equal(wish(2, false), SK_OK);
    assert_int_equal(move(FINISH, 0, 0), SK_OK);
    assert_int_equal(shard.wanted_leader, 0);
}

static void r19_a_move_leaves_min_isr_in_sync(void **state) {
    (void)state;
    start(3);
    assert_int_equal(move(START, 2, 4), SK_OK);
    assert_int_equal(ask(1, ISR(1, 4)), SK_OK); /* 2 and 3 are away */
    assert_int_equal(move(FINISH, 0, 0), SK_OK);
    assert_replicas("1,4,3");

    start(3); /* the one that goes is one of the two that are in sync */
    assert_int_equal(move(START, 2, 4), SK_OK);
    assert_int_equal(ask(1, ISR(1, 2, 4)), SK_OK);
    assert_int_equal(ask(1, ISR(2, 1)), SK_OK);
    assert_int_equal(move(FINISH, 0, 0), SK_UNAVAILABLE); /* 4 has left again */
    assert_int_equal(ask(1, to_node(SHARD_CHANGE_RETIRE, 2)), SK_OK);
    assert_int_equal(ask(1, ISR(1, 4)), SK_OK);
    assert_int_equal(ask(1, to_node(SHARD_CHANGE_RETIRE, 4)), SK_OK);
    assert_int_equal(move(FINISH, 0, 0), SK_UNAVAILABLE);
    assert_sets("1", "");
    assert_int_equal(ask(1, ISR(1, 4)), SK_OK);
    assert_int_equal(move(FINISH, 0, 0), SK_OK);
}

/* Nothing but the one that leads and the one that came is left in sync. */
static void r19_a_move_may_rid_the_shard_of_another(void **state) {
    (void)state;
    start(3);
    assert_int_equal(move(START, 2, 4), SK_OK);
    assert_int_equal(ask(1, ISR(1, 2, 3, 4)), SK_OK);
    assert_int_equal(ask(1, ISR(1, 2, 4)), SK_OK);
    assert_int_equal(ask(1, ISR(2, 1)), SK_OK); /* 3 and 4 are away, */
    assert_int_equal(ask(1, ISR(2, 1, 4)), SK_OK);
    assert_int_equal(ask(1, to_node(SHARD_CHANGE_RETIRE, 4)), SK_OK);
    assert_int_equal(ask(1, to_node(SHARD_CHANGE_HANDOVER, 2)), SK_OK);
    assert_int_equal(ask(2, ISR(1, 2, 4)), SK_OK);
    assert_int_equal(ask(2, to_node(SHARD_CHANGE_RETIRE, 1)), SK_OK); /* and 1 is lost */
    assert_int_equal(move(FINISH, 0, 0), SK_UNAVAILABLE);             /* 2 leads, and only 4 is there else */
    assert_int_equal(move(CANCEL, 0, 0), SK_CONFLICT);
    assert_int_equal(move(START, 1, 4), SK_OK); /* so let 1 go instead of 2 */
    assert_replicas("1,2,3,4");
    assert_int_equal(shard.replicas[3].replica_id, 501); /* the stay of 4 goes on */
    assert_int_equal(move(FINISH, 0, 0), SK_OK);
    assert_replicas("4,2,3");
    assert_sets("2,4", "");
}

static void r19_a_shard_grows_to_what_is_wanted(void **state) {
    (void)state;
    start(1);
    assert_int_equal(move(START, 0, 2), SK_OK);
    assert_int_equal(shard.min_isr, 1); /* no harder to write to than before */
    assert_int_equal(move(FINISH, 0, 0), SK_UNAVAILABLE);
    assert_int_equal(ask(1, ISR(1, 2)), SK_OK);
    assert_int_equal(move(FINISH, 0, 0), SK_OK);
    assert_replicas("1,2");
    assert_sets("1,2", "");
    assert_int_equal(shard.min_isr, 2);
    assert_int_equal(move(START, 0, 3), SK_OK);
    assert_int_equal(ask(1, ISR(1, 2, 3)), SK_OK);
    assert_int_equal(move(FINISH, 0, 0), SK_OK);
    assert_replicas("1,2,3");
    assert_int_equal(shard.min_isr, 2);
    assert_int_equal(move(START, 0, 4), SK_OK); /* 4 replicas need 3 in sync */
    assert_int_equal(ask(1, ISR(1, 4)), SK_OK);
    assert_int_equal(move(FINISH, 0, 0), SK_UNAVAILABLE);
    assert_int_equal(ask(1, ISR(1, 2, 4)), SK_OK);
    assert_int_equal(move(FINISH, 0, 0), SK_OK);
    assert_int_equal(shard.min_isr, 3);

    start(3); /* what a person has set for the same number of replicas stays */
    shard.min_isr = 1;
    assert_int_equal(move(START, 2, 4), SK_OK);
    assert_int_equal(ask(1, ISR(1, 4)), SK_OK);
    assert_int_equal(move(FINISH, 0, 0), SK_OK);
    assert_int_equal(shard.min_isr, 1);
}

static void r19_a_move_is_cancelled_unless_it_is_needed(void **state) {
    (void)state;
    start(3);
    assert_int_equal(move(CANCEL, 0, 0), SK_CONFLICT);
    assert_int_equal(move(START, 2, 4), SK_OK);
    look_up_nodes();
    assert_int_equal(shard_record_cancel_move(&shard, 0, &text), SK_CONFLICT);
    assert_int_equal(shard_record_finish_move(&shard, 0, &text), SK_CONFLICT);
    struct shard_change join = ISR(1, 2, 3, 4);
    assert_int_equal(move(CANCEL, 0, 0), SK_OK);
    assert_replicas("1,2,3");
    assert_int_equal(shard.move_from, 0);
    assert_int_equal(ask(1, join), SK_CONFLICT); /* it was decided on the older record */
    assert_int_equal(move(START, 2, 4), SK_OK);
    assert_int_equal(shard.replicas[3].replica_id, 503); /* another stay */
    assert_int_equal(ask(1, ISR(1, 2, 3, 4)), SK_OK);
    assert_int_equal(move(CANCEL, 0, 0), SK_CONFLICT); /* in sync: it may hold what others have lost */
    be_short(3);
    assert_int_equal(ask(1, ISR(1, 2)), SK_OK);
    assert_int_equal(move(START, 3, 4), SK_OK);
    assert_int_equal(ask(1, ISR(1, 2, 4)), SK_OK);
    assert_int_equal(ask(1, to_node(SHARD_CHANGE_RETIRE, 2)), SK_OK);
    assert_int_equal(claim_by(4), SK_OK);
    assert_int_equal(move(CANCEL, 0, 0), SK_CONFLICT); /* it leads */
}

static void r13_a_move_goes_on_when_a_node_is_wiped(void **state) {
    (void)state;
    start(3);
    assert_int_equal(move(START, 2, 4), SK_OK);
    assert_int_equal(ask(1, ISR(1, 3)), SK_OK);
    cluster[1].alive = cluster[3].alive = false;
    cluster[4].state = MAP_NODE_DRAINING;
    assert_int_equal(replace(4, 5), SK_CONFLICT);
    cluster[4].state = MAP_NODE_MEMBER;
    assert_int_equal(replace(4, 5), SK_OK);
    assert_int_equal(shard.move_to, 5);
    assert_int_equal(ask(1, ISR(1, 3, 5)), SK_OK);
    assert_int_equal(replace(2, 6), SK_OK); /* it may be needed until the move is finished */
    assert_int_equal(shard.move_from, 6);
    assert_int_equal(move(FINISH, 0, 0), SK_OK);
    assert_replicas("1,5,3");
}

static void r12_a_move_goes_on_under_a_forced_leader(void **state) {
    (void)state;
    start(3);
    assert_int_equal(move(START, 2, 4), SK_OK);
    assert_int_equal(ask(1, ISR(1, 2, 3, 4)), SK_OK);
    assert_int_equal(force(3), SK_OK);
    assert_sets("3", "");
    assert_int_equal(shard.replicas[3].replica_id, 902); /* it begins anew like the others */
    assert_int_equal(move(FINISH, 0, 0), SK_UNAVAILABLE);
    assert_int_equal(ask(3, ISR(3, 4)), SK_OK);
    assert_int_equal(move(FINISH, 0, 0), SK_OK);
    assert_replicas("1,4,3");

    start(3); /* the one that came is the one that is left */
    assert_int_equal(move(START, 2, 4), SK_OK);
    assert_int_equal(force(4), SK_OK);
    assert_int_equal(move(CANCEL, 0, 0), SK_CONFLICT);
    assert_int_equal(move(FINISH, 0, 0), SK_OK); /* alone, and 2 has nothing that counts */
    assert_replicas("1,4,3");
    assert_sets("4", "");

    start(3); /* with it, it is min_isr */
    assert_int_equal(move(START, 2, 4), SK_OK);
    assert_int_equal(force(4), SK_OK);
    assert_int_equal(ask(4, ISR(4, 2)), SK_OK);
    assert_int_equal(move(FINISH, 0, 0), SK_UNAVAILABLE);

    be_short(3); /* so it is, where it may lead */
    assert_int_equal(move(START, 2, 4), SK_OK);
    assert_int_equal(ask(1, to_node(SHARD_CHANGE_RETIRE, 3)), SK_OK);
    shard.min_isr = 3;
    assert_int_equal(ask(1, ISR(1, 4)), SK_OK);
    assert_sets("1,4", "2");
    assert_int_equal(move(FINISH, 0, 0), SK_UNAVAILABLE);
}

static void unsound_records_are_told(void **state) {
    (void)state;
    start(3), assert_true(shard_record_is_sound(&shard));
    start(3), shard.leader = 4, assert_false(shard_record_is_sound(&shard));
    start(3), shard.leader = 0, assert_false(shard_record_is_sound(&shard));
    start(3), shard.isr_count = 0, assert_false(shard_record_is_sound(&shard));
    start(3), shard.isr[0] = 2, assert_false(shard_record_is_sound(&shard));
    start(3), shard.isr[2] = 4, assert_false(shard_record_is_sound(&shard));
    start(3), shard.min_isr = 4, assert_false(shard_record_is_sound(&shard));
    start(3), shard.min_isr = 0, assert_false(shard_record_is_sound(&shard));
    start(3), shard.replica_count = 0, assert_false(shard_record_is_sound(&shard));
    start(3), shard.wanted_leader = 1, assert_false(shard_record_is_sound(&shard));
    start(3), shard.wanted_leader = 4, assert_false(shard_record_is_sound(&shard));
    start(3), shard.isr_count = 2, shard.eligible[0] = 3, shard.eligible_count = 1;
    assert_false(shard_record_is_sound(&shard)); /* nobody is, at min_isr */
    start(3), shard.move_to = 3, assert_true(shard_record_is_sound(&shard));
    start(3), shard.move_to = 4, assert_false(shard_record_is_sound(&shard));
    start(3), shard.move_to = shard.move_from = 3, assert_false(shard_record_is_sound(&shard));
    start(3), shard.move_to = 3, shard.move_from = 4, assert_false(shard_record_is_sound(&shard));
    start(3), shard.move_from = 3, assert_false(shard_record_is_sound(&shard));
    be_short(3), shard.eligible[0] = 1, assert_false(shard_record_is_sound(&shard));
    be_short(3), shard.eligible[0] = 3, assert_false(shard_record_is_sound(&shard));
    be_short(3), shard.eligible[0] = 9, assert_false(shard_record_is_sound(&shard));
}

static uint32_t roll(uint32_t below) {
    static uint32_t random = 4711;
    random = random * 1664525u + 1013904223u;
    return (random >> 8) % below;
}

static struct shard_change random_change(void) {
    struct shard_change change = change_of((enum shard_change_kind)roll(6));
    change.node = 1 + roll(NODES);
    if (change.kind == SHARD_CHANGE_REBUILD && roll(2) == 0) change.successor = 1 + roll(NODES);
    for (uint32_t node = 1; node <= NODES; node++) {
        if (roll(2) == 0) continue;
        change.isr[change.isr_count] = node;
        change.incarnations[change.isr_count++] = cluster[node - 1].incarnation;
    }
    return change;
}

/* Whether each member of the isr has all of it. */
static bool may_all_lead(const uint64_t held[NODES + 1], uint64_t committed) {
    for (uint32_t i = 0; i < shard.isr_count; i++) {
        if (held[shard.isr[i]] != committed) return false;
    }
    return true;
}

/* R11, R19, with data: each change by everyone and each step of moves at random, while whoever leads commits when it may.
 * `held` is how much of what was ever committed a node has: whoever leads has all of it, or somebody's data was lost. That
 * the record stays sound is asserted inside. */
static void r11_whatever_comes_the_leader_holds_what_was_committed(void **state) {
    (void)state;
    uint64_t committed = 0, held[NODES + 1] = {0};
    uint32_t applied[6] = {0}, moved[3] = {0}, from_eligible = 0;
    for (int round = 0; round < 300000; round++) {
        if (round % 300 == 0) {
            be_short(4);
            for (uint32_t node = 1; node <= NODES; node++) held[node] = node <= 3 ? committed : 0;
        }
        uint32_t sender = roll(2) == 0 ? shard.leader : 1 + roll(NODES);
        struct shard_change change = random_change();
        if (roll(50) == 0) cluster[sender - 1].alive = !cluster[sender - 1].alive;
        if (roll(4) == 0) {
            enum move_step step = (enum move_step)roll(3);
            uint32_t to = 1 + roll(NODES), came = shard.move_to;
            if (move(step, roll(8) == 0 ? 0 : 1 + roll(NODES), to) != SK_OK) continue;
            moved[step]++;
            if (step == START && came == 0) held[to] = 0;
            assert_true(held[shard.leader] == committed);
            if (shard.isr_count >= shard.min_isr) assert_true(may_all_lead(held, committed));
            continue;
        }
        bool was_eligible = shard_record_is_eligible(&shard, sender);
        if (ask(sender, change) != SK_OK) continue;
        applied[change.kind]++;
        from_eligible += change.kind == SHARD_CHANGE_CLAIM && was_eligible;
        if (change.kind == SHARD_CHANGE_RETIRE || change.kind == SHARD_CHANGE_REBUILD) held[change.node] = 0;
        assert_true(held[shard.leader] == committed);
        for (uint32_t i = 0; i < shard.isr_count; i++) held[shard.isr[i]] = committed; /* R4: caught up */
        if (shard.isr_count < shard.min_isr) continue;
        committed++;
        for (uint32_t i = 0; i < shard.isr_count; i++) held[shard.isr[i]] = committed;
    }
    for (uint32_t kind = 0; kind < 6; kind++) assert_true(applied[kind] > 500);
    for (uint32_t step = 0; step < 3; step++) assert_true(moved[step] > 200);
    assert_true(from_eligible > 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shard_begins_with_all_in_sync),
        cmocka_unit_test(r18_a_change_was_decided_on_what_is_there),
        cmocka_unit_test(r6_only_the_incarnation_of_the_record_leads),
        cmocka_unit_test(the_epoch_must_be_the_leaders),
        cmocka_unit_test(the_isr_shrinks_and_grows),
        cmocka_unit_test(senseless_sets_are_refused),
        cmocka_unit_test(r22_a_leader_never_shrinks_below_min_isr),
        cmocka_unit_test(r4_who_joins_has_the_incarnation_that_metad_knows),
        cmocka_unit_test(the_first_claim_wins),
        cmocka_unit_test(r11_a_claim_never_takes_the_isr_below_min_isr),
        cmocka_unit_test(r11_retired_followers_leave_others_eligible),
        cmocka_unit_test(r11_a_claim_from_eligible_leads_alone),
        cmocka_unit_test(r11_eligible_is_recomputed_while_the_isr_is_short),
        cmocka_unit_test(a_node_that_counts_as_dead_does_not_lead),
        cmocka_unit_test(a_restarted_leader_may_claim),
        cmocka_unit_test(r20_a_handover_changes_the_leader_and_nothing_else),
        cmocka_unit_test(r20_a_wish_is_fulfilled_given_up_or_withdrawn),
        cmocka_unit_test(wishes_that_cannot_be_are_refused),
        cmocka_unit_test(a_persons_wish_changes_who_is_preferred),
        cmocka_unit_test(r31_a_replica_that_lost_data_is_in_no_set),
        cmocka_unit_test(r24_a_replica_that_differs_begins_anew),
        cmocka_unit_test(r24_a_leader_that_differs_goes_with_its_leadership),
        cmocka_unit_test(r24_nobody_is_rebuilt_while_the_isr_is_short),
        cmocka_unit_test(r13_a_wiped_node_gets_empty_replicas),
        cmocka_unit_test(r12_a_forced_leader_is_alone_and_the_others_begin_anew),
        cmocka_unit_test(r19_a_replica_moves_by_growing_first),
        cmocka_unit_test(r19_moves_that_cannot_be_are_not_started),
        cmocka_unit_test(r19_a_leader_hands_over_before_it_goes),
        cmocka_unit_test(r19_a_move_leaves_min_isr_in_sync),
        cmocka_unit_test(r19_a_move_may_rid_the_shard_of_another),
        cmocka_unit_test(r19_a_shard_grows_to_what_is_wanted),
        cmocka_unit_test(r19_a_move_is_cancelled_unless_it_is_needed),
        cmocka_unit_test(r13_a_move_goes_on_when_a_node_is_wiped),
        cmocka_unit_test(r12_a_move_goes_on_under_a_forced_leader),
        cmocka_unit_test(unsound_records_are_told),
        cmocka_unit_test(r11_whatever_comes_the_leader_holds_what_was_committed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
