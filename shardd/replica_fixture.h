/* For stories about the replication core: up to five replicas of one shard in virtual time. Each node is the shell of its
 * core, with a log whose records are durable once synced; messages wait in one queue, from which a story takes what it
 * wants to lose, delay or repeat; metad is a record that is changed by compare-and-set. world_settle does what is due
 * until nothing is, without time passing; world_pass lets time pass. Included by one test program each. */
#pragma once

#include "shardd/replica.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/testing.h"

#define WORLD_NODES   5u
#define WORLD_ENTRIES 600u
#define WORLD_RECORDS 2000u
#define WORLD_MAIL    256u
#define MAIL_ENTRIES  100u
#define TICK_US       10000u
#define BEGIN_US      10000000u /* CLOCK_BOOTTIME of all when a story begins */
#define WALL_ZERO_US  UINT64_C(1700000000000000)
#define SHARD         5u

enum { BEACON_US = 100000, LEASE_US = 500000, GRACE_US = 700000, LAG_US = 400000, RETRY_US = 100000 };

static const struct replica_times story_times = {BEACON_US, LEASE_US, GRACE_US, LAG_US, RETRY_US};

struct entry {
    uint64_t epoch, time_us, commit_index;
    uint64_t tag; /* no two entries have the same */
};

/* Of a log on disk. */
struct record {
    bool is_entry; /* else the record of an adopted epoch */
    uint64_t index, epoch;
    struct entry entry;
};

struct node {
    struct replica replica;
    struct replica_effects effects; /* of the last event that was told to it */
    uint64_t incarnation;
    int64_t wall_offset_us;
    bool up;
    bool paused; /* stopped, as by SIGSTOP */
    bool deaf;   /* no map reaches it */
    bool mute;   /* no change that it asks for reaches metad */
    bool stuck;  /* nothing is synced */
    bool full;   /* nothing can be appended */
    bool idle;   /* what is committed is not executed yet */

    struct record disk[WORLD_RECORDS];
    uint32_t records, synced;
    struct entry log[WORLD_ENTRIES]; /* by index */
    uint64_t time_us, time_at_us;    /* the leader's time on disk, synced at once, and when it went there */

    /* what it has asked for so far */
    struct replica_change asked; /* last */
    uint32_t asks;
    bool asks_now; /* metad has not looked at `asked` */
    uint32_t became_leader, stepped_down;
    uint32_t snapshot_to;
    const char *failed;
};

struct mail {
    struct replica_message message;
    struct entry entries[MAIL_ENTRIES];
};

struct world {
    uint64_t now_us;
    uint32_t count;
    struct node nodes[WORLD_NODES + 1]; /* by id, from 1 */
    struct map_shard record;
    bool cut[WORLD_NODES + 1][WORLD_NODES + 1]; /* what is sent from … to … is lost */
    struct mail mail[WORLD_MAIL];
    uint32_t mails;
    uint64_t next_incarnation, next_tag;
};

/* ---- the shell of a core ---- */

static inline void node_obey(struct world *world, uint32_t id, const struct mail *mail);

static inline uint64_t node_wall_us(const struct world *world, const struct node *node) {
    return (uint64_t)((int64_t)(WALL_ZERO_US + world->now_us) + node->wall_offset_us);
}

/* One event, and what came of it is done. The effects stay in node->effects. */
static inline struct replica_effects *world_tell(struct world *world, uint32_t id, struct replica_event event) {
    struct node *node = &world->nodes[id];
    sk_assert(node->up);
    event.boot_us = world->now_us;
    event.wall_us = node_wall_us(world, node);
    replica_step(&node->replica, &event, &node->effects);
    node_obey(world, id, NULL);
    return &node->effects;
}

/* Events after which the core may ask for nothing. */
static inline void node_tell_only(struct world *world, uint32_t id, struct replica_event event) {
    struct replica_effects effects;
    event.boot_us = world->now_us;
    replica_step(&world->nodes[id].replica, &event, &effects);
    sk_assert(effects.send_count == 0 && effects.change.kind == REPLICA_CHANGE_NONE && !effects.adopt);
    sk_assert(effects.append == REPLICA_ENTRY_NONE && effects.failed == NULL);
}

static inline void node_write_record(struct node *node, const struct record *record) {
    sk_assert(node->records < WORLD_RECORDS);
    node->disk[node->records++] = *record;
}

static inline void node_append(struct world *world, uint32_t id, uint64_t index, const struct entry *entry) {
    struct node *node = &world->nodes[id];
    sk_assert(index < WORLD_ENTRIES);
    node->log[index] = *entry;
    node_write_record(node,
                      &(struct record){.is_entry = true, .index = index, .epoch = entry->epoch, .entry = *entry});
    node_tell_only(
        world, id,
        (struct replica_event){
            .type = REPLICA_APPENDED, .index = index, .epoch = entry->epoch, .time_us = entry->time_us});
}

static inline void node_append_new(struct world *world, uint32_t id, const struct replica_effects *effects) {
    struct node *node = &world->nodes[id];
    if (node->full) return;
    struct entry entry = {.epoch = effects->epoch,
                          .time_us = effects->time_us,
                          .commit_index = node->replica.commit_index,
                          .tag = ++world->next_tag};
    node_append(world, id, effects->index, &entry);
}

static inline void world_post(struct world *world, const struct mail *mail) {
    if (world->cut[mail->message.from][mail->message.to]) return;
    sk_assert(world->mails < WORLD_MAIL);
    world->mail[world->mails++] = *mail;
}

static inline void node_send(struct world *world, uint32_t id, const struct replica_send *send) {
    struct node *node = &world->nodes[id];
    static struct mail mail;
    mail.message = send->message;
    if (send->with_entries) {
        uint64_t first = send->message.prev_index + 1, last = node->replica.last_index;
        sk_assert(first >= node->replica.first_index && first <= last);
        if (last - first >= MAIL_ENTRIES) last = first + MAIL_ENTRIES - 1;
        mail.message.entry_count = (uint32_t)(last - first + 1);
        for (uint64_t index = first; index <= last; index++) mail.entries[index - first] = node->log[index];
    }
    world_post(world, &mail);
    if (!send->with_entries) return;
    uint64_t sent = send->message.prev_index + mail.message.entry_count;
    node_tell_only(world, id,
                   (struct replica_event){.type = REPLICA_SENT, .peer = send->message.to, .index = sent});
}

static inline void node_obey(struct world *world, uint32_t id, const struct mail *mail) {
    struct node *node = &world->nodes[id];
    struct replica_effects effects = node->effects;
    if (effects.failed != NULL) node->failed = effects.failed;
    node->stepped_down += effects.stepped_down;
    node->became_leader += effects.became_leader;
    if (effects.adopt && !node->full) {
        node_write_record(node, &(struct record){.index = effects.index, .epoch = effects.epoch});
        node_tell_only(
            world, id,
            (struct replica_event){.type = REPLICA_ADOPTED, .index = effects.index, .epoch = effects.epoch});
    }
    for (uint32_t i = 0; i < effects.take_count && !node->full; i++) {
        uint32_t place = effects.take_skip + i;
        node_append(world, id, mail->message.prev_index + 1 + place, &mail->entries[place]);
    }
    if (effects.change.kind != REPLICA_CHANGE_NONE) {
        node->asked = effects.change;
        node->asks++;
        node->asks_now = true;
    }
    if (effects.snapshot_to != 0) node->snapshot_to = effects.snapshot_to;
    for (uint32_t i = 0; i < effects.send_count; i++) node_send(world, id, &effects.sends[i]);
    if (effects.append != REPLICA_ENTRY_NONE && effects.append != REPLICA_ENTRY_COMMAND) {
        node_append_new(world, id, &effects);
    }
}

/* Everything in the log so far becomes durable. */
static inline void world_sync(struct world *world, uint32_t id) {
    struct node *node = &world->nodes[id];
    while (node->synced < node->records) {
        const struct record *record = &node->disk[node->synced++];
        node_tell_only(world, id,
                       (struct replica_event){.type = record->is_entry ? REPLICA_DURABLE : REPLICA_STORED,
                                              .index = record->index,
                                              .epoch = record->epoch,
                                              .time_us = record->entry.time_us});
    }
}

static inline void world_execute(struct world *world, uint32_t id) {
    struct replica *replica = &world->nodes[id].replica;
    while (replica->applied_index < replica->commit_index) {
        uint64_t index = replica->applied_index + 1;
        node_tell_only(world, id,
                       (struct replica_event){.type = REPLICA_EXECUTED,
                                              .index = index,
                                              .time_us = world->nodes[id].log[index].time_us});
    }
}

static inline void world_flush(struct world *world, uint32_t id) {
    world_tell(world, id, (struct replica_event){.type = REPLICA_FLUSH});
}

/* A client's command at `id`; appended if the core lets it. */
static inline int world_write(struct world *world, uint32_t id) {
    struct replica_effects *effects = world_tell(world, id, (struct replica_event){.type = REPLICA_WRITE});
    int refused = effects->refused;
    if (refused == SK_OK)
        node_append_new(world, id,
                        &(struct replica_effects){
                            .epoch = effects->epoch, .index = effects->index, .time_us = effects->time_us});
    return refused;
}

static inline int world_read(struct world *world, uint32_t id) {
    return world_tell(world, id, (struct replica_event){.type = REPLICA_READ})->refused;
}

/* ---- messages ---- */

/* Hands a message to its receiver, whatever the queue holds. */
static inline struct replica_effects *world_hand(struct world *world, const struct mail *mail) {
    struct node *node = &world->nodes[mail->message.to];
    struct mail copy = *mail;
    struct replica_event event = {.type = REPLICA_MESSAGE, .boot_us = world->now_us, .message = &copy.message};
    replica_step(&node->replica, &event, &node->effects);
    node_obey(world, mail->message.to, &copy);
    return &node->effects;
}

/* A message of the core without entries, as a story makes it up. */
static inline struct replica_effects *world_hand_message(struct world *world, struct replica_message message) {
    static struct mail mail;
    mail.message = message;
    mail.message.shard = SHARD;
    return world_hand(world, &mail);
}

/* Takes the first message of that kind out of the queue. False: there is none. */
static inline bool world_take(struct world *world, uint32_t from, uint32_t to, enum replica_message_type type,
                              struct mail *taken) {
    for (uint32_t i = 0; i < world->mails; i++) {
        const struct replica_message *message = &world->mail[i].message;
        if (message->from != from || message->to != to || message->type != type) continue;
        if (taken != NULL) *taken = world->mail[i];
        world->mails--;
        memmove(&world->mail[i], &world->mail[i + 1], (world->mails - i) * sizeof world->mail[0]);
        return true;
    }
    return false;
}

/* The same, and it has to be there. */
static inline struct mail world_expect(struct world *world, uint32_t from, uint32_t to,
                                       enum replica_message_type type) {
    struct mail mail;
    assert_true(world_take(world, from, to, type, &mail));
    return mail;
}

static inline void world_lose_mail(struct world *world) { world->mails = 0; }

/* ---- metad ---- */

static inline bool ids_have(const uint32_t *ids, uint32_t count, uint32_t id) {
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] == id) return true;
    }
    return false;
}

/* R11: eligible is made anew with each change of the set. */
static inline void record_set_isr(struct map_shard *record, const uint32_t *isr, uint32_t count, uint32_t lost) {
    struct map_shard old = *record;
    memmove(record->isr, isr, count * sizeof *isr);
    record->isr_count = count;
    record->eligible_count = 0;
    if (count >= record->min_isr) return;
    for (uint32_t i = 0; i < old.isr_count + old.eligible_count; i++) {
        uint32_t id = i < old.isr_count ? old.isr[i] : old.eligible[i - old.isr_count];
        if (id != lost && !ids_have(isr, count, id)) record->eligible[record->eligible_count++] = id;
    }
}

static inline void record_set_leader(struct world *world, uint32_t id) {
    world->record.leader = id;
    world->record.leader_incarnation = world->nodes[id].incarnation;
    world->record.leader_epoch++;
    world->record.wanted_leader = 0;
}

static inline uint32_t ids_without(const uint32_t *ids, uint32_t count, uint32_t id, uint32_t *rest) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] != id) rest[kept++] = ids[i];
    }
    return kept;
}

static inline bool record_joiners_are_current(const struct world *world, const struct replica_change *change) {
    for (uint32_t i = 0; i < change->isr_count; i++) {
        if (ids_have(world->record.isr, world->record.isr_count, change->isr[i])) continue;
        if (world->nodes[change->isr[i]].incarnation != change->incarnations[i]) return false;
    }
    return true;
}

/* Whether metad has done what `id` asks for. */
static inline bool world_change(struct world *world, uint32_t id, const struct replica_change *change) {
    struct map_shard *record = &world->record;
    uint32_t rest[MAP_REPLICAS_MAX];
    uint64_t incarnation = world->nodes[id].incarnation;
    bool leads = record->leader == id && record->leader_incarnation == incarnation;
    bool in_isr = ids_have(record->isr, record->isr_count, id);
    if (change->config_version != record->config_version) return false;
    if (change->kind == REPLICA_CHANGE_CLAIM) {
        uint32_t count = ids_without(record->isr, record->isr_count, record->leader, rest);
        if (!in_isr && !ids_have(record->eligible, record->eligible_count, id)) return false;
        if (!in_isr) record_set_isr(record, &id, 1, 0);
        else if (count >= record->min_isr) record_set_isr(record, rest, count, 0);
        record_set_leader(world, id);
    } else if (!leads || change->leader_epoch != record->leader_epoch) {
        return false;
    } else if (change->kind == REPLICA_CHANGE_ISR) {
        if (!record_joiners_are_current(world, change)) return false;
        record_set_isr(record, change->isr, change->isr_count, 0);
    } else if (change->kind == REPLICA_CHANGE_HANDOVER) {
        record_set_leader(world, change->to);
    } else if (change->kind == REPLICA_CHANGE_STAY) {
        record->wanted_leader = 0;
    } else {
        bool counted = ids_have(record->isr, record->isr_count, change->to) ||
                       ids_have(record->eligible, record->eligible_count, change->to);
        if (!counted) return false;
        record_set_isr(record, rest, ids_without(record->isr, record->isr_count, change->to, rest), change->to);
    }
    record->config_version++;
    return true;
}

static inline struct replica_effects *world_configure(struct world *world, uint32_t id) {
    struct map_shard record = world->record;
    return world_tell(world, id, (struct replica_event){.type = REPLICA_CONFIG, .config = &record});
}

/* The record as it is now, to everybody who hears it. */
static inline void world_publish(struct world *world) {
    for (uint32_t id = 1; id <= world->count; id++) {
        const struct node *node = &world->nodes[id];
        if (node->up && !node->paused && !node->deaf) world_configure(world, id);
    }
}

/* A change that no replica has asked for: the caller has put it into the record. */
static inline void world_decree(struct world *world) {
    world->record.config_version++;
    world_publish(world);
}

static inline void world_serve_metad(struct world *world) {
    for (uint32_t id = 1; id <= world->count; id++) {
        struct node *node = &world->nodes[id];
        if (!node->asks_now || node->mute) continue;
        node->asks_now = false;
        if (world_change(world, id, &node->asked)) world_publish(world);
    }
}

/* ---- all together ---- */

static inline void world_settle(struct world *world) {
    static struct mail mail;
    for (uint32_t round = 0; round < 1000; round++) {
        bool quiet = true;
        for (uint32_t id = 1; id <= world->count; id++) {
            struct node *node = &world->nodes[id];
            if (!node->up || node->paused) continue;
            if (!node->stuck) world_sync(world, id);
            if (!node->idle) world_execute(world, id);
            uint32_t mails = world->mails, records = node->records;
            world_flush(world, id);
            quiet = quiet && mails == world->mails && records == node->records;
        }
        world_serve_metad(world);
        for (uint32_t i = 0; i < world->mails;) {
            const struct node *node = &world->nodes[world->mail[i].message.to];
            if (node->up && node->paused) { /* it lies in the queue until the process goes on */
                i++;
                continue;
            }
            mail = world->mail[i];
            world->mails--;
            memmove(&world->mail[i], &world->mail[i + 1], (world->mails - i) * sizeof world->mail[0]);
            if (node->up) world_hand(world, &mail);
            quiet = false;
        }
        if (quiet) return;
    }
    fail_msg("the replicas find no rest");
}

static inline void world_tick(struct world *world) {
    world->now_us += TICK_US;
    for (uint32_t id = 1; id <= world->count; id++) {
        const struct node *node = &world->nodes[id];
        if (!node->up || node->paused) continue;
        world_tell(world, id, (struct replica_event){.type = REPLICA_TICK, .time_us = node->time_us});
    }
    for (uint32_t id = 1; id <= world->count; id++) {
        struct node *node = &world->nodes[id];
        if (!node->up || node->paused || node->full || node->stuck) continue;
        if (node->replica.last_time_us < node->time_us + REPLICA_TIME_KEPT_US) continue;
        node->time_us = node->replica.last_time_us;
        node->time_at_us = world->now_us;
    }
}

static inline void world_pass(struct world *world, uint64_t us) {
    for (uint64_t end_us = world->now_us + us; world->now_us < end_us;) {
        world_tick(world);
        world_settle(world);
    }
}

/* Time passes, and nothing that is due is done: for stories that do it by hand. */
static inline void world_wait(struct world *world, uint64_t us) { world->now_us += us; }

/* A process with what its disk holds. */
static inline void world_start(struct world *world, uint32_t id) {
    struct node *node = &world->nodes[id];
    replica_init(&node->replica, SHARD, 10 + id, &story_times, world->now_us);
    for (uint32_t i = 0; i < node->records; i++) {
        const struct record *record = &node->disk[i];
        if (!record->is_entry) {
            assert_int_equal(replica_restore_adopted(&node->replica, record->epoch, record->index), SK_OK);
            continue;
        }
        node->log[record->index] = record->entry;
        assert_int_equal(replica_restore_entry(&node->replica, record->index, record->epoch, record->entry.time_us,
                                               record->entry.commit_index),
                         SK_OK);
    }
    replica_restore_time(&node->replica, node->time_us);
    node->incarnation = world->next_incarnation++;
    node->up = true;
    node->asks_now = node->paused = false;
    replica_identify(&node->replica, id, node->incarnation);
    world_execute(world, id);
}

static inline void world_crash(struct world *world, uint32_t id) {
    struct node *node = &world->nodes[id];
    node->records = node->synced;
    node->up = node->asks_now = false;
    for (uint32_t i = 0; i < world->mails;) {
        if (world->mail[i].message.to != id) {
            i++;
            continue;
        }
        world->mails--;
        memmove(&world->mail[i], &world->mail[i + 1], (world->mails - i) * sizeof world->mail[0]);
    }
}

/* After a crash; metad hears of it (R6). */
static inline void world_restart(struct world *world, uint32_t id) {
    world_start(world, id);
    if (world->record.leader == id) {
        record_set_leader(world, id);
        world->record.config_version++;
    }
    world_publish(world);
}

static inline void world_cut_off(struct world *world, uint32_t a, uint32_t b) {
    world->cut[a][b] = world->cut[b][a] = true;
}

static inline void world_join(struct world *world, uint32_t a, uint32_t b) {
    world->cut[a][b] = world->cut[b][a] = false;
}

/* `count` fresh replicas, all of them in sync, and nobody has seen the record: node 1 is to lead. */
static inline struct world *world_new(uint32_t count, uint32_t min_isr) {
    struct world *world = calloc(1, sizeof *world);
    sk_assert(world != NULL && count <= WORLD_NODES);
    world->now_us = BEGIN_US;
    world->count = count;
    world->next_incarnation = 100;
    world->record = (struct map_shard){.leader_epoch = 1,
                                       .config_version = 1,
                                       .leader = 1,
                                       .leader_incarnation = 100,
                                       .min_isr = min_isr,
                                       .replica_count = count,
                                       .isr_count = count};
    for (uint32_t id = 1; id <= count; id++) {
        world->record.replicas[id - 1] = (struct map_replica){.node = id, .replica_id = 10 + id};
        world->record.isr[id - 1] = id;
        world_start(world, id);
    }
    return world;
}

/* The same, some time later: node 1 leads in epoch 1 and serves. */
static inline struct world *world_serving(uint32_t count, uint32_t min_isr) {
    struct world *world = world_new(count, min_isr);
    world_publish(world);
    world_pass(world, 1000000);
    assert_int_equal(world->nodes[1].replica.role, REPLICA_LEADER);
    assert_int_equal(world->record.isr_count, count);
    return world;
}

static inline void world_free(struct world *world) { free(world); }

/* ---- looking ---- */

static inline struct replica *world_replica(struct world *world, uint32_t id) { return &world->nodes[id].replica; }

static inline bool world_in_isr(const struct world *world, uint32_t id) {
    return ids_have(world->record.isr, world->record.isr_count, id);
}

/* What both have committed is the same. */
static inline void world_assert_agree(const struct world *world) {
    for (uint32_t a = 1; a <= world->count; a++) {
        for (uint32_t b = a + 1; b <= world->count; b++) {
            uint64_t end = world->nodes[a].replica.commit_index;
            if (world->nodes[b].replica.commit_index < end) end = world->nodes[b].replica.commit_index;
            for (uint64_t index = 1; index <= end; index++) {
                assert_int_equal(world->nodes[a].log[index].tag, world->nodes[b].log[index].tag);
            }
        }
    }
}
