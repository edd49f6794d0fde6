#include "metad/shard_record.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/plant.h"
#include "metad/placement.h"

static bool ids_have(const uint32_t *ids, uint32_t count, uint32_t id) {
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] == id) return true;
    }
    return false;
}

bool shard_record_is_eligible(const struct map_shard *shard, uint32_t node) {
    return ids_have(shard->eligible, shard->eligible_count, node);
}

bool shard_record_is_counted(const struct map_shard *shard, uint32_t node) {
    return map_in_isr(shard, node) || shard_record_is_eligible(shard, node);
}

/* Every one a replica of the shard, none twice. */
static bool ids_are_replicas(const struct map_shard *shard, const uint32_t *ids, uint32_t count) {
    if (count > shard->replica_count) return false;
    for (uint32_t i = 0; i < count; i++) {
        if (map_find_replica(shard, ids[i]) == NULL || ids_have(ids, i, ids[i])) return false;
    }
    return true;
}

static bool move_is_sound(const struct map_shard *shard) {
    if (shard->move_to == 0) return shard->move_from == 0;
    if (map_find_replica(shard, shard->move_to) == NULL || shard->move_from == shard->move_to) return false;
    return shard->move_from == 0 || map_find_replica(shard, shard->move_from) != NULL;
}

bool shard_record_is_sound(const struct map_shard *shard) {
    if (shard->replica_count == 0 || shard->min_isr == 0 || shard->min_isr > shard->replica_count) return false;
    if (!ids_are_replicas(shard, shard->isr, shard->isr_count)) return false;
    if (!ids_are_replicas(shard, shard->eligible, shard->eligible_count)) return false;
    for (uint32_t i = 0; i < shard->eligible_count; i++) {
        if (map_in_isr(shard, shard->eligible[i])) return false;
    }
    if (shard->isr_count >= shard->min_isr && shard->eligible_count > 0) return false;
    if (!map_in_isr(shard, shard->leader) || !move_is_sound(shard)) return false;
    if (shard->wanted_leader == 0) return true;
    return shard->wanted_leader != shard->leader && map_in_isr(shard, shard->wanted_leader);
}

static int refuse(const char **text, int err, const char *why) {
    *text = why;
    return err;
}

static int has_changed(const char **text) {
    return refuse(text, SK_CONFLICT, "the record has changed since this was decided");
}

static const struct map_node *node_of(const struct map_shard *shard, const struct map_node *const nodes[],
                                      uint32_t node) {
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        if (shard->replicas[i].node == node) return nodes[i];
    }
    return NULL;
}

/* Ends every change. A wish for a node that may not lead any more, or that leads, is over. */
static void finish(struct map_shard *shard) {
    if (shard->wanted_leader == shard->leader || !map_in_isr(shard, shard->wanted_leader)) {
        shard->wanted_leader = 0;
    }
    shard->config_version++;
    sk_assert(shard_record_is_sound(shard));
}

/* R11: another isr, and eligible recomputed in the same step. They hold everything committed: nothing was committed
 * without the old isr, and nothing at all while that was below min_isr. `lost` has lost data and is in neither (R31); 0 =
 * nobody. */
static void set_isr(struct map_shard *shard, const uint32_t *isr, uint32_t count, uint32_t lost) {
    uint32_t holders[2 * MAP_REPLICAS_MAX]; /* the old isr and the old eligible */
    uint32_t holder_count = 0;
    for (uint32_t i = 0; i < shard->isr_count; i++) holders[holder_count++] = shard->isr[i];
    for (uint32_t i = 0; i < shard->eligible_count; i++) holders[holder_count++] = shard->eligible[i];
    memmove(shard->isr, isr, count * sizeof *isr);
    shard->isr_count = count;
    shard->eligible_count = 0;
    if (count >= shard->min_isr) return;
    for (uint32_t i = 0; i < holder_count; i++) {
        if (holders[i] == lost || map_in_isr(shard, holders[i])) continue;
        shard->eligible[shard->eligible_count++] = holders[i];
    }
}

static uint32_t copy_without(const uint32_t *ids, uint32_t count, uint32_t id, uint32_t rest[MAP_REPLICAS_MAX]) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] != id) rest[kept++] = ids[i];
    }
    return kept;
}

static void set_leader(struct map_shard *shard, const struct map_node *node) {
    shard->leader = node->id;
    shard->leader_incarnation = node->incarnation;
    shard->leader_epoch++;
}

/* ---- what metad begins by itself ---- */

void shard_record_start(struct map_shard *shard, const struct map_node *const nodes[], uint32_t count,
                        uint64_t first_replica_id) {
    *shard = (struct map_shard){
        .leader_epoch = 1,
        .config_version = 1,
        .leader = nodes[0]->id,
        .leader_incarnation = nodes[0]->incarnation,
        .min_isr = placement_min_isr(count),
        .replica_count = count,
        .isr_count = count,
    };
    for (uint32_t i = 0; i < count; i++) {
        shard->replicas[i] = (struct map_replica){.node = nodes[i]->id, .replica_id = first_replica_id + i};
        shard->isr[i] = nodes[i]->id;
    }
    sk_assert(shard_record_is_sound(shard));
}

/* The leader is in the isr, so it holds everything committed and may go on. With others in the isr this gives them nothing
 * they lack: they may claim the shard when they hear nothing of it, as before. */
bool shard_record_restart(struct map_shard *shard, const struct map_node *node) {
    if (shard->leader != node->id) return false;
    set_leader(shard, node);
    if (PLANTED(RESTART_GOES_ON)) shard->leader_epoch--;
    finish(shard);
    return true;
}

/* ---- what a shardd asks for ---- */

/* R6: the incarnation that the record names, and no other. */
static bool leads(const struct map_shard *shard, const struct map_node *sender) {
    return shard->leader == sender->id && shard->leader_incarnation == sender->incarnation;
}

static int check_leader(const struct map_shard *shard, const struct map_node *sender, const char **text) {
    return leads(shard, sender) ? SK_OK : refuse(text, SK_NOT_LEADER, "the sender does not lead the shard");
}

static int check_epoch(const struct map_shard *shard, uint64_t epoch, const char **text) {
    return epoch == shard->leader_epoch ? SK_OK
                                        : refuse(text, SK_STALE_EPOCH, "the change is of another leader epoch");
}

/* R4: whoever joins has shown what it holds under the incarnation that it has now. */
static bool joiners_are_current(const struct map_shard *shard, const struct map_node *const nodes[],
                                const struct shard_change *change) {
    for (uint32_t i = 0; i < change->isr_count; i++) {
        if (map_in_isr(shard, change->isr[i]) || PLANTED(STALE_JOINER)) continue;
        if (node_of(shard, nodes, change->isr[i])->incarnation != change->incarnations[i]) return false;
    }
    return true;
}

static uint32_t count_leavers(const struct map_shard *shard, const struct shard_change *change) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < shard->isr_count; i++) {
        count += !ids_have(change->isr, change->isr_count, shard->isr[i]);
    }
    return count;
}

static int change_isr(struct map_shard *shard, const struct map_node *const nodes[],
                      const struct shard_change *change, const char **text) {
    int err = check_epoch(shard, change->leader_epoch, text);
    if (err != SK_OK) return err;
    if (!ids_are_replicas(shard, change->isr, change->isr_count)) {
        return refuse(text, SK_BADREQUEST, "the set names a node that is no replica, or one twice");
    }
    if (!ids_have(change->isr, change->isr_count, shard->leader)) {
        return refuse(text, SK_BADREQUEST, "the set is without the leader");
    }
    uint32_t leavers = count_leavers(shard, change);
    if (leavers == 0 && change->isr_count == shard->isr_count) {
        return refuse(text, SK_BADREQUEST, "the set is the one that is there");
    }
    /* R22: who cannot reach min_isr gives way to a follower instead. */
    if (leavers > 0 && change->isr_count < shard->min_isr) {
        return refuse(text, SK_UNAVAILABLE, "a leader does not take the set below min_isr");
    }
    if (!joiners_are_current(shard, nodes, change)) {
        return refuse(text, SK_CONFLICT, "a node that would join has started again");
    }
    set_isr(shard, change->isr, change->isr_count, 0);
    finish(shard);
    return SK_OK;
}

/* R11: from the isr, the old leader leaves it unless that takes it below min_isr; then it counts until it is replaced or
 * back. From eligible, the claimant is alone in it. */
static int claim(struct map_shard *shard, const struct map_node *sender, const char **text) {
    bool in_isr = map_in_isr(shard, sender->id);
    if (leads(shard, sender)) return refuse(text, SK_CONFLICT, "the sender leads the shard already");
    if (!shard_record_is_counted(shard, sender->id)) {
        return refuse(text, SK_UNAVAILABLE, "the sender may lack what was committed");
    }
    if (!sender->alive) return refuse(text, SK_UNAVAILABLE, "the sender counts as dead");
    uint32_t isr[MAP_REPLICAS_MAX] = {sender->id};
    uint32_t count = 1;
    if (in_isr) {
        uint32_t leaver = shard->leader == sender->id ? 0 : shard->leader;
        count = copy_without(shard->isr, shard->isr_count, leaver, isr);
        if (count < shard->min_isr) count = copy_without(shard->isr, shard->isr_count, 0, isr);
    }
    set_isr(shard, isr, count, 0);
    set_leader(shard, sender);
    shard->wanted_leader = 0;
    finish(shard);
    return SK_OK;
}

static int hand_over(struct map_shard *shard, const struct map_node *const nodes[],
                     const struct shard_change *change, const char **text) {
    int err = check_epoch(shard, change->leader_epoch, text);
    if (err != SK_OK) return err;
    if (change->node == shard->leader) return refuse(text, SK_BADREQUEST, "the sender leads the shard already");
    if (!map_in_isr(shard, change->node)) {
        return refuse(text, SK_UNAVAILABLE, "the node to lead is not in sync");
    }
    const struct map_node *to = node_of(shard, nodes, change->node);
    if (!to->alive) return refuse(text, SK_UNAVAILABLE, "the node to lead counts as dead");
    set_leader(shard, to);
    shard->wanted_leader = 0;
    finish(shard);
    return SK_OK;
}

/* R31. Below min_isr, too: a replica without the data makes nothing safer by being counted. */
static int retire(struct map_shard *shard, uint32_t node, const char **text) {
    if (node == shard->leader) return refuse(text, SK_BADREQUEST, "a leader does not retire itself");
    if (!shard_record_is_counted(shard, node)) {
        return refuse(text, SK_BADREQUEST, "the node is neither in sync nor eligible");
    }
    uint32_t isr[MAP_REPLICAS_MAX];
    uint32_t count = copy_without(shard->isr, shard->isr_count, node, isr);
    set_isr(shard, isr, count, node);
    finish(shard);
    return SK_OK;
}

int shard_record_change(struct map_shard *shard, const struct map_node *const nodes[],
                        const struct map_node *sender, const struct shard_change *change, const char **text) {
    if (change->config_version != shard->config_version) return has_changed(text);
    if (change->kind == SHARD_CHANGE_CLAIM) return claim(shard, sender, text);
    int err = check_leader(shard, sender, text);
    if (err != SK_OK) return err;
    switch (change->kind) {
    case SHARD_CHANGE_ISR:
        return change_isr(shard, nodes, change, text);
    case SHARD_CHANGE_HANDOVER:
        return hand_over(shard, nodes, change, text);
    case SHARD_CHANGE_RETIRE:
        return retire(shard, change->node, text);
    case SHARD_CHANGE_HANDOVER_GIVEN_UP: /* also without a wish: a hand-over on its way is void then (R20) */
        shard->wanted_leader = 0;
        finish(shard);
        return SK_OK;
    case SHARD_CHANGE_CLAIM:
    case SHARD_CHANGE_REBUILD:
        break;
    }
    return SK_EUNEXPECTED;
}

/* Who leads when the leader's own replica goes: it has what was committed, as any claimant from the isr. */
static int check_successor(const struct map_shard *shard, const struct map_node *const nodes[],
                           const struct shard_change *change, const char **text) {
    if (change->node != shard->leader) {
        return change->successor == 0 ? SK_OK
                                      : refuse(text, SK_BADREQUEST, "the leader stays, and has no successor");
    }
    if (change->successor == shard->leader || !map_in_isr(shard, change->successor)) {
        return refuse(text, SK_UNAVAILABLE, "the node to lead is not in sync");
    }
    if (!node_of(shard, nodes, change->successor)->alive) {
        return refuse(text, SK_UNAVAILABLE, "the node to lead counts as dead");
    }
    return SK_OK;
}

int shard_record_rebuild(struct map_shard *shard, const struct map_node *const nodes[],
                         const struct map_node *sender, const struct shard_change *change, uint64_t replica_id,
                         const char **text) {
    if (change->config_version != shard->config_version) return has_changed(text);
    int err = check_leader(shard, sender, text);
    if (err != SK_OK) return err;
    if (map_find_replica(shard, change->node) == NULL) {
        return refuse(text, SK_BADREQUEST, "the node has no replica of the shard");
    }
    uint32_t isr[MAP_REPLICAS_MAX];
    uint32_t count = copy_without(shard->isr, shard->isr_count, change->node, isr);
    bool counts = shard_record_is_counted(shard, change->node);
    if (counts && count < shard->min_isr) {
        return refuse(text, SK_UNAVAILABLE, "without that replica too few are in sync");
    }
    err = check_successor(shard, nodes, change, text);
    if (err != SK_OK) return err;
    if (change->node == shard->leader) set_leader(shard, node_of(shard, nodes, change->successor));
    if (counts) set_isr(shard, isr, count, change->node);
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        if (shard->replicas[i].node == change->node) shard->replicas[i].replica_id = replica_id;
    }
    finish(shard);
    return SK_OK;
}

/* ---- what metad decides, or a person ---- */

static void prefer(struct map_shard *shard, uint32_t node) {
    for (uint32_t i = 1; i < shard->replica_count; i++) {
        if (shard->replicas[i].node != node) continue;
        struct map_replica first = shard->replicas[0];
        shard->replicas[0] = shard->replicas[i];
        shard->replicas[i] = first;
    }
}

static int withdraw_wish(struct map_shard *shard, const char **text) {
    if (shard->wanted_leader == 0) return refuse(text, SK_CONFLICT, "no hand-over is wanted");
    shard->wanted_leader = 0;
    finish(shard);
    return SK_OK;
}

int shard_record_wish(struct map_shard *shard, const struct map_node *const nodes[], uint64_t config_version,
                      uint32_t node, bool preferred, const char **text) {
    if (config_version != shard->config_version) return has_changed(text);
    if (node == 0) return withdraw_wish(shard, text);
    const struct map_node *to = node_of(shard, nodes, node);
    if (to == NULL) return refuse(text, SK_NOT_FOUND, "the node has no replica of the shard");
    if (!map_in_isr(shard, node)) return refuse(text, SK_UNAVAILABLE, "the node is not in sync");
    if (node == shard->leader && !preferred) return refuse(text, SK_CONFLICT, "the node leads the shard already");
    if (!to->alive) return refuse(text, SK_UNAVAILABLE, "the node counts as dead");
    if (preferred) prefer(shard, node);
    shard->wanted_leader = node;
    finish(shard);
    return SK_OK;
}

/* Who is to get a replica. */
static int check_newcomer(const struct map_shard *shard, const struct map_node *to, const char **text) {
    if (!to->alive) return refuse(text, SK_CONFLICT, "the node that would get the replica is dead");
    if (to->state != MAP_NODE_MEMBER) {
        return refuse(text, SK_CONFLICT, "the node that would get the replica is to lose what it has");
    }
    if (map_find_replica(shard, to->id) != NULL) {
        return refuse(text, SK_CONFLICT, "the node that would get the replica has one already");
    }
    return SK_OK;
}

int shard_record_replace(struct map_shard *shard, const struct map_node *const nodes[], uint64_t config_version,
                         uint32_t from, const struct map_node *to, uint64_t replica_id, const char **text) {
    if (config_version != shard->config_version) return has_changed(text);
    const struct map_node *dead = node_of(shard, nodes, from);
    if (dead == NULL) return refuse(text, SK_CONFLICT, "the node has no replica of the shard");
    if (dead->alive) return refuse(text, SK_CONFLICT, "the node is alive");
    int err = check_newcomer(shard, to, text);
    if (err != SK_OK) return err;
    if (shard_record_is_counted(shard, from)) {
        return refuse(text, SK_CONFLICT, "the node may hold what was committed");
    }
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        if (shard->replicas[i].node != from) continue;
        shard->replicas[i] = (struct map_replica){.node = to->id, .replica_id = replica_id};
    }
    if (shard->move_to == from) shard->move_to = to->id;
    if (shard->move_from == from)
        shard->move_from = to->id; /* it goes all the same, but may be needed until then */
    finish(shard);
    return SK_OK;
}

int shard_record_force(struct map_shard *shard, const struct map_node *const nodes[], uint64_t config_version,
                       uint32_t node, uint64_t first_replica_id, const char **text) {
    if (config_version != shard->config_version) return has_changed(text);
    const struct map_node *leader = node_of(shard, nodes, node);
    if (leader == NULL) return refuse(text, SK_NOT_FOUND, "the node has no replica of the shard");
    if (!leader->alive) return refuse(text, SK_UNAVAILABLE, "the node counts as dead");
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        if (shard->replicas[i].node != node) shard->replicas[i].replica_id = first_replica_id++;
    }
    shard->isr[0] = node;
    shard->isr_count = 1;
    shard->eligible_count = 0; /* declared dead, all of them */
    shard->wanted_leader = 0;
    shard->data_loss_generation++;
    set_leader(shard, leader);
    finish(shard);
    return SK_OK;
}

/* ---- moving a replica (R19) ---- */

static uint32_t slot_of(const struct map_shard *shard, uint32_t node) {
    uint32_t slot = 0;
    while (shard->replicas[slot].node != node) slot++;
    return slot;
}

static void remove_replica(struct map_shard *shard, uint32_t node) {
    uint32_t slot = slot_of(shard, node);
    shard->replica_count--;
    for (; slot < shard->replica_count; slot++) shard->replicas[slot] = shard->replicas[slot + 1];
    shard->replicas[slot] = (struct map_replica){0};
}

static void end_move(struct map_shard *shard) {
    shard->move_from = shard->move_to = 0;
    finish(shard);
}

int shard_record_start_move(struct map_shard *shard, const struct map_node *const nodes[], uint64_t config_version,
                            uint32_t from, const struct map_node *to, uint64_t replica_id, const char **text) {
    if (config_version != shard->config_version) return has_changed(text);
    bool other_from = shard->move_to == to->id && from != 0 && from != to->id && from != shard->move_from;
    if (shard->move_to != 0 && !other_from)
        return refuse(text, SK_CONFLICT, "a replica of the shard moves already");
    if (from != 0 && node_of(shard, nodes, from) == NULL) {
        return refuse(text, SK_CONFLICT, "the node has no replica of the shard");
    }
    if (shard->move_to == 0) {
        int err = check_newcomer(shard, to, text);
        if (err != SK_OK) return err;
        if (shard->replica_count == MAP_REPLICAS_MAX) {
            return refuse(text, SK_CONFLICT, "the shard has as many replicas as it can");
        }
        shard->replicas[shard->replica_count++] = (struct map_replica){.node = to->id, .replica_id = replica_id};
        shard->move_to = to->id;
    }
    shard->move_from = from;
    finish(shard);
    return SK_OK;
}

int shard_record_finish_move(struct map_shard *shard, uint64_t config_version, const char **text) {
    if (config_version != shard->config_version) return has_changed(text);
    if (shard->move_to == 0) return refuse(text, SK_CONFLICT, "no replica of the shard moves");
    if (!map_in_isr(shard, shard->move_to)) {
        return refuse(text, SK_UNAVAILABLE, "the replica that came is not in sync");
    }
    if (shard->leader == shard->move_from) return refuse(text, SK_UNAVAILABLE, "the replica that is to go leads");
    uint32_t isr[MAP_REPLICAS_MAX];
    uint32_t count = copy_without(shard->isr, shard->isr_count, shard->move_from, isr);
    uint32_t min_isr = shard->min_isr;
    if (shard->move_from == 0 && placement_min_isr(shard->replica_count) > min_isr) {
        min_isr = placement_min_isr(shard->replica_count);
    }
    bool fewer_count = shard_record_is_counted(shard, shard->move_from) || min_isr > shard->min_isr;
    if (fewer_count && count < min_isr) return refuse(text, SK_UNAVAILABLE, "too few replicas would be in sync");
    shard->min_isr = min_isr;
    set_isr(shard, isr, count, 0);
    if (shard->move_from != 0) { /* its place among those that should lead goes along, if that is a better one */
        uint32_t came = slot_of(shard, shard->move_to), goes = slot_of(shard, shard->move_from);
        struct map_replica place = shard->replicas[came];
        remove_replica(shard, came < goes ? shard->move_from : shard->move_to);
        if (goes < came) shard->replicas[goes] = place;
    }
    end_move(shard);
    return SK_OK;
}

int shard_record_cancel_move(struct map_shard *shard, uint64_t config_version, const char **text) {
    if (config_version != shard->config_version) return has_changed(text);
    if (shard->move_to == 0) return refuse(text, SK_CONFLICT, "no replica of the shard moves");
    if (shard_record_is_counted(shard, shard->move_to)) {
        return refuse(text, SK_CONFLICT, "the replica that came may hold what was committed");
    }
    remove_replica(shard, shard->move_to);
    end_move(shard);
    return SK_OK;
}
