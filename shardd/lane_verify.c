/* Replicas are compared (shardd/verify.h). A leader begins: at times in the background, or when the map says that a person
 * wants it; one shard of the lane after the other. Every replica that executes the marker scrubs, a turn now and then, so
 * that commands and other shards hardly notice. Who differs, or is damaged, is reported, and metad is asked to let it begin
 * anew (R24). */
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "shardd/lane_internal.h"
#include "shardd/verdict.h"

#include <stdio.h>

#define TURN_US         1000u  /* of work, */
#define PAUSE_US        19000u /* and then so long nothing: a twentieth of the lane's time; */
#define PAUSE_WANTED_US 4000u  /* a fifth where a person waits */
#define STEP_RECORDS    128u
#define STEP_BYTES      (1u << 20)
#define OPEN_MAX        8u       /* markers that are not judged */
#define SILENT_US       5000000u /* a member of the in-sync set that tells nothing for so long has not answered */
#define AGAIN_US        1000000u /* what is not complete begins again after this */
#define REPAIR_US       100000u  /* metad is asked again */
#define WANTED_US       3600000000u /* a person does not wait for longer: later leaders do not begin for it */

static uint64_t map_generation(const struct lane *lane) {
    return lane->map == NULL ? 0 : lane->map->verify_generation;
}

/* Whether a person may be waiting for what has not been done for the map's generation. */
static bool is_wanted(const struct lane *lane, uint64_t done_generation) {
    uint64_t generation = map_generation(lane);
    bool is_young = lane->verify.generation == generation && lane->now_us - lane->verify.generation_us < WANTED_US;
    return generation > done_generation && is_young;
}

/* ---- the scrub of a replica ---- */

void lane_drop_scrub(struct lane *lane, struct shard *shard) {
    struct verification *verify = &shard->verify;
    scrub_free(verify->scrub);
    verify->scrub = NULL;
    if (verify->is_running) lane->verify.running--;
    verify->is_running = false;
}

/* Without memory there is none, as if it had been dropped. */
void lane_on_marker_executed(struct lane *lane, struct shard *shard, const struct pending *marker) {
    struct verification *verify = &shard->verify;
    struct scrub_sum base;
    lane_drop_scrub(lane, shard);
    verify->scrub_epoch = marker->epoch;
    verify->scrub_index = marker->index;
    if (shard_hash_memory(shard, marker, &lane->payload, &base) != SK_OK) return;
    if (scrub_new(&verify->scrub, shard->kv, base) != SK_OK) return;
    verify->is_running = true;
    lane->verify.running++;
}

/* One goes on to its end before the next, since each that runs makes writes dearer. */
static struct shard *running_shard(struct lane *lane) {
    for (uint32_t i = 0; i < lane->shards.slot_count; i++) {
        uint32_t slot = (lane->verify.slot + i) % lane->shards.slot_count;
        struct shard *shard = lane->shards.slots[slot];
        if (shard == NULL || !shard->verify.is_running) continue;
        lane->verify.slot = slot;
        return shard;
    }
    return NULL;
}

static void end_scrub(struct lane *lane, struct shard *shard) {
    struct verification *verify = &shard->verify;
    verify->is_running = false;
    lane->verify.running--;
    verify->scrub_generation = map_generation(lane);
    if (scrub_state(verify->scrub) == SCRUB_DAMAGED) lane_log_read_fault(lane, shard, SK_ECORRUPT);
}

void lane_scrub(struct lane *lane) {
    if (lane->verify.running == 0 || lane->now_us < lane->verify.turn_us) return;
    uint64_t begin_us = clock_boottime_us(), now_us = begin_us;
    bool hurries = false;
    struct shard *shard;
    while (now_us - begin_us < TURN_US && (shard = running_shard(lane)) != NULL) {
        hurries = is_wanted(lane, shard->verify.scrub_generation);
        if (scrub_step(shard->verify.scrub, STEP_RECORDS, STEP_BYTES) != SK_OK) break; /* no memory: later */
        if (scrub_state(shard->verify.scrub) != SCRUB_RUNS) end_scrub(lane, shard);
        now_us = clock_boottime_us();
    }
    lane->verify.turn_us = now_us + (hurries ? PAUSE_WANTED_US : PAUSE_US);
}

uint64_t lane_scrub_due_us(const struct lane *lane) {
    return lane->verify.running == 0 ? UINT64_MAX : lane->verify.turn_us;
}

/* What came of the marker here. */
static enum verify_news news_of(const struct shard *shard, uint64_t epoch, uint64_t index, struct scrub_sum *sum) {
    const struct verification *verify = &shard->verify;
    if (shard->replica.applied_index < index) return VERIFY_UNDER_WAY;
    bool is_ours = verify->scrub_epoch == epoch && verify->scrub_index == index && verify->scrub != NULL;
    if (!is_ours) return VERIFY_DROPPED;
    switch (scrub_state(verify->scrub)) {
    case SCRUB_DONE:
        *sum = scrub_result(verify->scrub);
        return VERIFY_SUMMED;
    case SCRUB_DAMAGED:
        return VERIFY_DAMAGED;
    case SCRUB_RUNS:
        break;
    }
    return VERIFY_UNDER_WAY;
}

/* ---- damage that executing has met ---- */

/* The log has what follows, but it cannot be executed: this replica is of no use, and the others of the lane go on. */
void lane_on_damage(struct lane *lane, struct shard *shard) {
    lane_log_read_fault(lane, shard, SK_ECORRUPT);
    lane_end_verification(lane, shard);
    shard->verify.is_damaged = true;
    struct replica_event event = {.type = REPLICA_FAIL};
    (void)lane_drive(lane, shard, &event);
    lane_release_waiters(lane, shard, shard->replica.applied_index);
}

/* To all others, since a replica that has failed does not follow who leads. */
static void tell_damage(struct lane *lane, struct shard *shard) {
    if (lane->map == NULL || lane->now_us - shard->verify.damage_told_us < AGAIN_US) return;
    shard->verify.damage_told_us = lane->now_us;
    struct verify_reply reply = {.to = {.shard = shard->id, .replica_id = shard->replica.replica_id},
                                 .news = VERIFY_DAMAGED};
    const struct map_shard *config = &lane->map->shards[shard->id];
    for (uint32_t i = 0; i < config->replica_count; i++) {
        uint32_t node = config->replicas[i].node;
        if (node != lane->node) peer_outbox_add_reply(&lane->peer_outbox, node, &reply);
    }
}

static bool want_repair(struct verification *verify, const struct map_replica *wrong,
                        const struct map_replica *successor);
static void note_finding(struct lane *lane, const struct shard *shard, uint32_t node, enum verify_fault fault);

static void on_told_damage(struct lane *lane, struct shard *shard, const struct verify_reply *reply,
                           uint32_t from) {
    const struct map_replica *replica = map_find_replica(&shard->replica.config, from);
    if (shard->replica.role != REPLICA_LEADER || replica == NULL) return;
    if (replica->replica_id != reply->to.replica_id || !want_repair(&shard->verify, replica, NULL)) return;
    log_event(LOG_ERROR, "replica_damaged", "shard=%u node=%u replica=%llu", shard->id, from,
              (unsigned long long)replica->replica_id);
    note_finding(lane, shard, from, VERIFY_FAULT_DAMAGED);
}

/* ---- between replicas ---- */

static void on_question(struct lane *lane, const struct verify_question *question, uint32_t from) {
    const struct shard *shard = shard_table_find(&lane->shards, question->shard);
    struct verify_reply reply = {.to = *question};
    if (shard == NULL || shard->replica.replica_id != question->replica_id) return;
    reply.news = news_of(shard, question->epoch, question->index, &reply.sum);
    peer_outbox_add_reply(&lane->peer_outbox, from, &reply);
}

static struct verify_told *find_told(struct verification *verify, uint32_t node, uint64_t replica_id) {
    for (uint32_t i = 0; i < verify->told_count; i++) {
        struct verify_told *told = &verify->told[i];
        if (told->node == node && told->replica_id == replica_id) return told;
    }
    return NULL;
}

static void on_reply(struct lane *lane, const struct verify_reply *reply, uint32_t from) {
    struct shard *shard = shard_table_find(&lane->shards, reply->to.shard);
    if (shard == NULL) return;
    if (reply->to.index == 0) {
        if (reply->news == VERIFY_DAMAGED) on_told_damage(lane, shard, reply, from);
        return;
    }
    struct verification *verify = &shard->verify;
    if (!verify->is_open) return;
    struct verify_told *told = find_told(verify, from, reply->to.replica_id);
    if (told == NULL || reply->to.epoch != verify->epoch || reply->to.index != verify->index) return;
    if (told->news != VERIFY_UNDER_WAY) return; /* late, or repeated */
    told->news = reply->news;
    told->sum = reply->sum;
    told->heard_us = lane->now_us;
}

void lane_on_verify_item(struct lane *lane, const struct peer_item *item, uint32_t from) {
    if (item->kind == PEER_VERIFY_QUESTION) {
        on_question(lane, &item->is.question, from);
    } else {
        on_reply(lane, &item->is.reply, from);
    }
}

/* ---- what a leader makes of it ---- */

/* What a member of the in-sync set has told so far. NULL: there have been more replicas than there can be at once. */
static struct verify_told *told_by(struct lane *lane, struct verification *verify,
                                   const struct map_replica *replica) {
    struct verify_told *told = find_told(verify, replica->node, replica->replica_id);
    if (told != NULL || verify->told_count == MAP_REPLICAS_MAX) return told;
    told = &verify->told[verify->told_count++];
    *told =
        (struct verify_told){.node = replica->node, .replica_id = replica->replica_id, .heard_us = lane->now_us};
    return told;
}

static void ask(struct lane *lane, const struct shard *shard, const struct map_replica *replica) {
    struct verify_question question = {.shard = shard->id,
                                       .replica_id = replica->replica_id,
                                       .epoch = shard->verify.epoch,
                                       .index = shard->verify.index};
    peer_outbox_add_question(&lane->peer_outbox, replica->node, &question);
}

/* Fills in the member's answer, or asks it. False: it is still awaited. */
static bool collect(struct lane *lane, struct shard *shard, const struct map_replica *replica,
                    struct verdict_answer *answer) {
    struct verify_told *told = told_by(lane, &shard->verify, replica);
    if (told == NULL) return true;
    if (replica->node == lane->node) {
        told->news = news_of(shard, shard->verify.epoch, shard->verify.index, &told->sum);
    } else if (told->news == VERIFY_UNDER_WAY) {
        if (lane->now_us - told->heard_us > SILENT_US) return true;
        ask(lane, shard, replica);
    }
    if (told->news == VERIFY_SUMMED) *answer = (struct verdict_answer){.kind = VERDICT_SUM, .sum = told->sum};
    if (told->news == VERIFY_DAMAGED) answer->kind = VERDICT_DAMAGED;
    return told->news != VERIFY_UNDER_WAY;
}

static void note_finding(struct lane *lane, const struct shard *shard, uint32_t node, enum verify_fault fault) {
    struct verify_finding finding = {.generation = shard->verify.generation,
                                     .index = shard->verify.index,
                                     .shard = shard->id,
                                     .node = node,
                                     .fault = fault};
    verify_stats_note(&lane->verify.stats, &finding);
}

/* "1:0123456789abcdef… 2:damaged 3:-" */
static void print_answers(const struct map_replica *const members[], const struct verdict_answer *answers,
                          uint32_t count, char *text, size_t text_bytes) {
    size_t at = 0;
    text[0] = 0;
    for (uint32_t i = 0; i < count && at < text_bytes; i++) {
        char one[64];
        if (answers[i].kind == VERDICT_SUM) {
            snprintf(one, sizeof one, "%016llx%016llx", (unsigned long long)answers[i].sum.high,
                     (unsigned long long)answers[i].sum.low);
        } else {
            snprintf(one, sizeof one, "%s", answers[i].kind == VERDICT_DAMAGED ? "damaged" : "-");
        }
        at += (size_t)snprintf(text + at, text_bytes - at, "%s%u:%s", i > 0 ? " " : "", members[i]->node, one);
    }
}

static void log_answers(enum log_level level, const char *event, const struct shard *shard, uint32_t node,
                        const char *answers) {
    log_event(level, event, "shard=%u node=%u epoch=%llu index=%llu sums=\"%s\"", shard->id, node,
              (unsigned long long)shard->verify.epoch, (unsigned long long)shard->verify.index, answers);
}

/* False: it is wanted already. */
static bool want_repair(struct verification *verify, const struct map_replica *wrong,
                        const struct map_replica *successor) {
    struct verify_repair wanted = {.wrong = *wrong};
    if (successor != NULL) wanted.successor = *successor;
    for (uint32_t i = 0; i < verify->repair_count; i++) {
        const struct verify_repair *repair = &verify->repairs[i];
        bool same = repair->wrong.replica_id == wrong->replica_id &&
                    repair->successor.replica_id == wanted.successor.replica_id;
        if (same) return false;
    }
    if (verify->repair_count == MAP_REPLICAS_MAX) return false;
    verify->repairs[verify->repair_count++] = wanted;
    return true;
}

/* Who is wrong begins anew, from a leader that is right. One that is not lets nobody else begin anew: it goes itself, and who
 * is right leads. */
static void decide_repairs(struct lane *lane, struct shard *shard, const struct map_replica *const members[],
                           uint32_t count, const struct verdict *verdict) {
    uint32_t wrong = verdict->differs | verdict->damaged;
    const struct map_replica *own = NULL;
    if (verdict->sound == 0) return;
    for (uint32_t i = 0; i < count; i++) {
        if (members[i]->node == lane->node && (wrong >> i & 1) != 0) own = members[i];
    }
    for (uint32_t i = 0; i < count; i++) {
        if (own != NULL && (verdict->sound >> i & 1) != 0) (void)want_repair(&shard->verify, own, members[i]);
        if (own == NULL && (wrong >> i & 1) != 0) (void)want_repair(&shard->verify, members[i], NULL);
    }
}

static void report(struct lane *lane, struct shard *shard, const struct map_replica *const members[],
                   const struct verdict_answer *answers, uint32_t count, const struct verdict *verdict) {
    char text[MAP_REPLICAS_MAX * 48];
    print_answers(members, answers, count, text, sizeof text);
    for (uint32_t i = 0; i < count; i++) {
        if ((verdict->differs >> i & 1) != 0) {
            log_answers(LOG_ERROR, "verify_differs", shard, members[i]->node, text);
            note_finding(lane, shard, members[i]->node, VERIFY_FAULT_DIFFERS);
        } else if ((verdict->damaged >> i & 1) != 0) {
            log_answers(LOG_ERROR, "verify_damaged", shard, members[i]->node, text);
            note_finding(lane, shard, members[i]->node, VERIFY_FAULT_DAMAGED);
        }
    }
    if (verdict->undecided) {
        log_answers(LOG_ERROR, "verify_undecided", shard, 0, text);
        note_finding(lane, shard, 0, VERIFY_FAULT_UNDECIDED);
    }
    if (verdict->equal) log_answers(LOG_DEBUG, "verify_equal", shard, 0, text);
    if (verdict->missing != 0) log_answers(LOG_INFO, "verify_incomplete", shard, 0, text);
}

static void close_verification(struct lane *lane, struct shard *shard) {
    shard->verify.is_open = false;
    shard->verify.again_us = lane->now_us + AGAIN_US;
    lane->verify.open--;
}

void lane_end_verification(struct lane *lane, struct shard *shard) {
    lane_drop_scrub(lane, shard);
    if (shard->verify.is_open) close_verification(lane, shard);
}

static void conclude(struct lane *lane, struct shard *shard, const struct map_replica *const members[],
                     const struct verdict_answer *answers, uint32_t count) {
    struct verification *verify = &shard->verify;
    struct verdict verdict = verdict_of(answers, count);
    report(lane, shard, members, answers, count, &verdict);
    decide_repairs(lane, shard, members, count, &verdict);
    close_verification(lane, shard);
    if (verdict.missing != 0) return; /* again, soon */
    lane->verify.stats.verified++;
    verify->done_generation = verify->generation;
    verify->due_us = lane->now_us + lane->options.verify_interval_ms * 1000;
}

/* The members of the in-sync set as it is now: who has left it is not waited for. */
static void watch(struct lane *lane, struct shard *shard) {
    const struct replica *replica = &shard->replica;
    const struct map_replica *members[MAP_REPLICAS_MAX];
    struct verdict_answer answers[MAP_REPLICAS_MAX] = {0};
    uint32_t count = 0;
    bool all_told = true;
    if (replica->role != REPLICA_LEADER || replica->config.leader_epoch != shard->verify.epoch) {
        close_verification(lane, shard);
        return;
    }
    if (replica->applied_index < shard->verify.index || shard->verify.is_running) return;
    for (uint32_t i = 0; i < replica->config.isr_count; i++) {
        const struct map_replica *member = map_find_replica(&replica->config, replica->config.isr[i]);
        members[count] = member;
        all_told = collect(lane, shard, member, &answers[count++]) && all_told;
    }
    if (all_told) conclude(lane, shard, members, answers, count);
}

/* ---- when ---- */

/* Shards begin at different times, and in each life of a process at the same. */
static void set_first_due(struct lane *lane, struct shard *shard) {
    uint64_t interval_us = lane->options.verify_interval_ms * 1000;
    uint64_t share =
        shard->id * 2654435769u % 1024; /* Knuth, The Art of Computer Programming 3, 6.4: golden ratio */
    shard->verify.due_us = lane->now_us + interval_us / 1024 * (share + 1);
}

void lane_on_marker_appended(struct lane *lane, struct shard *shard, uint64_t epoch, uint64_t index) {
    struct verification *verify = &shard->verify;
    verify->is_open = true;
    verify->epoch = epoch;
    verify->index = index;
    verify->generation = map_generation(lane);
    verify->is_suspected = false;
    verify->told_count = 0;
    lane->verify.open++;
    lane->verify.last_begun = shard->id;
}

/* One scrub after the other, so that no more writes than need be have to do with one. Answers are waited for together. */
static bool last_is_scrubbed(const struct lane *lane) {
    const struct shard *last = shard_table_find(&lane->shards, lane->verify.last_begun);
    if (last == NULL || !last->verify.is_open) return true;
    return last->replica.applied_index >= last->verify.index && !last->verify.is_running;
}

static void begin_if_due(struct lane *lane, struct shard *shard) {
    struct verification *verify = &shard->verify;
    bool in_background = lane->options.verify_interval_ms > 0;
    if (shard->replica.role != REPLICA_LEADER) return;
    if (in_background && verify->due_us == 0) set_first_due(lane, shard);
    bool due = is_wanted(lane, verify->done_generation) || verify->is_suspected ||
               (in_background && lane->now_us >= verify->due_us);
    bool may = lane->verify.open < OPEN_MAX && last_is_scrubbed(lane) && !verify->is_running &&
               lane->now_us >= verify->again_us;
    if (!due || !may || lane_write_gate(lane) != SK_OK) return;
    struct replica_event event = {.type = REPLICA_VERIFY};
    (void)lane_drive(lane, shard, &event);
}

static bool is_there(const struct shard *shard, const struct map_replica *stay) {
    const struct map_replica *replica = map_find_replica(&shard->replica.config, stay->node);
    return replica != NULL && replica->replica_id == stay->replica_id;
}

/* Done: the replica is another by now; or whoever was to lead is, and may have what it has from us. Nobody but its leader
 * asks, and one that does not serve cannot. */
static bool is_over(const struct shard *shard, const struct verify_repair *repair) {
    return !is_there(shard, &repair->wrong) ||
           (repair->successor.node != 0 && !is_there(shard, &repair->successor));
}

/* The first one that can be: what has to wait, because too few are in sync, may wait for another one. */
static void repair(struct lane *lane, struct shard *shard) {
    struct verification *verify = &shard->verify;
    if (!replica_leads(&shard->replica)) verify->repair_count = 0;
    if (verify->repair_count == 0 || lane->now_us - verify->repair_us < REPAIR_US) return;
    verify->repair_us = lane->now_us;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < verify->repair_count; i++) {
        if (!is_over(shard, &verify->repairs[i])) verify->repairs[kept++] = verify->repairs[i];
    }
    verify->repair_count = kept;
    int err = SK_UNAVAILABLE;
    for (uint32_t i = 0; i < kept && err != SK_OK; i++) {
        const struct verify_repair *wanted = &verify->repairs[i];
        struct replica_event event = {
            .type = REPLICA_REBUILD, .peer = wanted->wrong.node, .successor = wanted->successor.node};
        err = lane_drive(lane, shard, &event)->refused;
    }
}

void lane_tick_verification(struct lane *lane, struct shard *shard) {
    if (lane->verify.generation != map_generation(lane)) {
        lane->verify.generation = map_generation(lane);
        lane->verify.generation_us = lane->now_us;
    }
    bool read_met_damage = shard->verify.is_suspected && shard->replica.role == REPLICA_FOLLOWER;
    if (read_met_damage)
        lane_on_damage(lane, shard); /* what a leader's read has met a verification looks at first */
    if (shard->verify.is_damaged) {
        tell_damage(lane, shard);
        return;
    }
    if (shard->verify.is_open) {
        watch(lane, shard);
    } else {
        begin_if_due(lane, shard);
    }
    repair(lane, shard);
}

void lane_fill_verify_stats(const struct lane *lane, struct verify_stats *stats) {
    *stats = lane->verify.stats;
    stats->generation = map_generation(lane);
    stats->running = lane->verify.running;
    for (uint32_t i = 0; i < lane->shards.slot_count; i++) {
        const struct shard *shard = lane->shards.slots[i];
        if (shard == NULL || shard->replica.role != REPLICA_LEADER) continue;
        if (shard->verify.done_generation >= stats->generation) verify_stats_set_done(stats, shard->id);
    }
}
