#include "tests/sim/shell.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "shardd/replica_internal.h"
#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TRANSFER_US_MAX   500000u
#define INSTALL_US_MAX    300000u
#define SNAPSHOT_GIVEN_UP 5000000u /* a transfer of which nothing is heard */
#define CHECKPOINT_US_MAX 200000u
#define SWEEP_PPM         20000u  /* per tick, when something has expired */
#define VERIFY_PPM        20000u  /* per tick */
#define DIFFERS_PPM       200000u /* of those: a replica is called other than the rest */

static void obey(struct sim *sim, struct host *host, const struct replica_effects *effects,
                 const struct parcel *parcel);

/* ---- events ---- */

static const char *const event_names[] = {
    [REPLICA_CONFIG] = "CONFIG",       [REPLICA_WRITE] = "WRITE",
    [REPLICA_SWEEP] = "SWEEP",         [REPLICA_READ] = "READ",
    [REPLICA_VERIFY] = "VERIFY",       [REPLICA_REBUILD] = "REBUILD",
    [REPLICA_APPENDED] = "APPENDED",   [REPLICA_DURABLE] = "DURABLE",
    [REPLICA_ADOPTED] = "ADOPTED",     [REPLICA_STORED] = "STORED",
    [REPLICA_EXECUTED] = "EXECUTED",   [REPLICA_MESSAGE] = "MESSAGE",
    [REPLICA_SENT] = "SENT",           [REPLICA_FLUSH] = "FLUSH",
    [REPLICA_TICK] = "TICK",           [REPLICA_PEER_DOWN] = "PEER_DOWN",
    [REPLICA_PEER_UP] = "PEER_UP",     [REPLICA_RELEASED] = "RELEASED",
    [REPLICA_INSTALL] = "INSTALL",     [REPLICA_SNAPSHOT_FAILED] = "SNAPSHOT_FAILED",
    [REPLICA_INSTALLED] = "INSTALLED", [REPLICA_INSTALL_FAILED] = "INSTALL_FAILED",
    [REPLICA_FAIL] = "FAIL",           [REPLICA_READ_STALE] = "READ_STALE",
};

static const char *const message_names[] = {
    [REPLICA_OPEN] = "OPEN",       [REPLICA_APPEND] = "APPEND",   [REPLICA_ACK] = "ACK",
    [REPLICA_BEACON] = "BEACON",   [REPLICA_PROMISE] = "PROMISE", [REPLICA_REFUSAL] = "REFUSAL",
    [REPLICA_RELEASE] = "RELEASE",
};

static const char *const change_names[] = {"none", "isr", "claim", "handover", "stay", "retire", "rebuild"};

static void trace_message(struct sim *sim, const struct host *host, const char *arrow,
                          const struct replica_message *message) {
    sim_print(sim,
              "h%u %s  %-7s n%u>n%u epoch=%" PRIu64 " inc=%" PRIu64 " prev=%" PRIu64 "/%" PRIu64
              " n=%u commit=%" PRIu64 " durable=%" PRIu64 " last=%" PRIu64 " gap=%d sent=%" PRIu64
              " opens=%u/%" PRIu64 "@%" PRIu64,
              host->number, arrow, message_names[message->type], message->from, message->to, message->epoch,
              message->from_incarnation, message->prev_index, message->prev_epoch, message->entry_count,
              message->commit_index, message->durable_index, message->last_index, message->gap, message->sent_us,
              message->epochs.count,
              message->epochs.count == 0 ? 0 : message->epochs.starts[message->epochs.count - 1].epoch,
              message->epochs.count == 0 ? 0 : message->epochs.starts[message->epochs.count - 1].index);
}

static void trace_event(struct sim *sim, const struct host *host, const struct replica_event *event) {
    if (event->type == REPLICA_MESSAGE) {
        trace_message(sim, host, "<-", event->message);
    } else if (event->type != REPLICA_TICK && event->type != REPLICA_FLUSH) {
        sim_print(sim, "h%u     %s index=%" PRIu64 " epoch=%" PRIu64 " peer=%u", host->number,
                  event_names[event->type], event->index, event->epoch, event->peer);
    }
}

static void trace_effects(struct sim *sim, const struct host *host, const struct replica_effects *effects,
                          const struct replica *old) {
    const struct replica *replica = &host->replica;
    if (effects->adopt || effects->append != REPLICA_ENTRY_NONE || effects->take_count > 0) {
        sim_print(sim, "h%u =>  adopt=%d append=%d take=%u+%u epoch=%" PRIu64 " index=%" PRIu64, host->number,
                  effects->adopt, effects->append, effects->take_skip, effects->take_count, effects->epoch,
                  effects->index);
    }
    if (effects->refused != SK_OK)
        sim_print(sim, "h%u =>  refused %s", host->number, error_name(effects->refused));
    if (effects->change.kind != REPLICA_CHANGE_NONE) {
        sim_print(sim, "h%u =>  change %s version=%" PRIu64 " to=%u isr=%u,%u,%u,%u,%u/%u", host->number,
                  change_names[effects->change.kind], effects->change.config_version, effects->change.to,
                  effects->change.isr[0], effects->change.isr[1], effects->change.isr[2], effects->change.isr[3],
                  effects->change.isr[4], effects->change.isr_count);
    }
    if (effects->snapshot_to != 0) sim_print(sim, "h%u =>  snapshot to=n%u", host->number, effects->snapshot_to);
    bool changed = old->role != replica->role || old->commit_index != replica->commit_index ||
                   old->last_index != replica->last_index || old->durable_index != replica->durable_index ||
                   old->seen_epoch != replica->seen_epoch || old->stored_epoch != replica->stored_epoch ||
                   old->opened_epoch != replica->opened_epoch ||
                   old->config.config_version != replica->config.config_version;
    if (changed) {
        sim_print(sim,
                  "h%u  =  %s seen=%" PRIu64 " stored=%" PRIu64 " opened=%" PRIu64 " version=%" PRIu64
                  " last=%" PRIu64 "/%" PRIu64 " durable=%" PRIu64 " commit=%" PRIu64 " applied=%" PRIu64,
                  host->number, replica_role_name(replica->role), replica->seen_epoch, replica->stored_epoch,
                  replica->opened_epoch, replica->config.config_version, replica->last_index, replica->last_epoch,
                  replica->durable_index, replica->commit_index, replica->applied_index);
    }
}

/* One step of the core; the caller does what it asks for. */
static void step(struct sim *sim, struct host *host, struct replica_event *event,
                 struct replica_effects *effects) {
    event->boot_us = host_boot_us(sim, host);
    event->wall_us = host_wall_us(sim, host);
    if (sim->options.verbose) {
        struct replica old = host->replica;
        trace_event(sim, host, event);
        replica_step(&host->replica, event, effects);
        trace_effects(sim, host, effects, &old);
    } else {
        replica_step(&host->replica, event, effects);
    }
    ledger_on_step(sim, host);
}

static void feed(struct sim *sim, struct host *host, struct replica_event event, const struct parcel *parcel) {
    struct replica_effects effects;
    step(sim, host, &event, &effects);
    obey(sim, host, &effects, parcel);
}

/* Events of which the shell knows that they only tell the core something: it asks for nothing (lane_step_inner). */
static void tell(struct sim *sim, struct host *host, struct replica_event event) {
    struct replica_effects effects;
    step(sim, host, &event, &effects);
    if (effects.failed != NULL) sim_fail(sim, "the core of h%u stops: %s", host->number, effects.failed);
    bool asks = effects.adopt || effects.append != REPLICA_ENTRY_NONE || effects.take_count > 0 ||
                effects.became_leader || effects.stepped_down || effects.change.kind != REPLICA_CHANGE_NONE ||
                effects.snapshot_to != 0 || effects.send_count > 0;
    if (asks) sim_fail(sim, "the core of h%u asks for something at %s", host->number, event_names[event.type]);
}

/* ---- the log in memory ---- */

static struct log_item *log_at(const struct host *host, uint64_t index) {
    sk_assert(index >= host->log_first && index <= host->log_last);
    return &host->log[index - host->log_first];
}

static void log_push(struct host *host, uint32_t entry, uint64_t position) {
    uint64_t count = host->log_last + 1 - host->log_first;
    if (count == host->log_room) {
        host->log_room = host->log_room == 0 ? 256 : host->log_room * 2;
        host->log = realloc(host->log, host->log_room * sizeof *host->log);
        sk_assert(host->log != NULL);
    }
    host->log[count] = (struct log_item){.entry = entry, .position = position};
    host->log_last++;
}

static void log_cut(struct host *host, uint64_t index) {
    if (index < host->log_last) host->log_last = index;
}

static void log_release(struct host *host, uint64_t first) {
    uint64_t gone = first - host->log_first;
    memmove(host->log, host->log + gone, (host->log_last + 1 - first) * sizeof *host->log);
    host->log_first = first;
}

static void log_restart(struct host *host, uint64_t applied) {
    host->log_first = applied + 1;
    host->log_last = applied;
}

/* Puts an entry behind the log. False: the disk is full. */
static bool append_entry(struct sim *sim, struct host *host, uint32_t number) {
    const struct sim_entry *entry = &sim->entries[number];
    struct record record = {.kind = RECORD_ENTRY,
                            .entry = number,
                            .index = entry->index,
                            .epoch = entry->epoch,
                            .time_us = entry->time_us};
    uint64_t position = host->drive.end;
    if (!drive_append(&host->drive, &record)) return false;
    sk_assert(entry->index == host->log_last + 1);
    log_push(host, number, position);
    tell(sim, host,
         (struct replica_event){
             .type = REPLICA_APPENDED, .index = entry->index, .epoch = entry->epoch, .time_us = entry->time_us});
    return true;
}

/* An entry that the core asks for as a leader. 0: the disk is full. */
static uint32_t append_new(struct sim *sim, struct host *host, const struct replica_effects *effects,
                           const struct command *command) {
    if (host->drive.full) return 0;
    struct sim_entry entry = {.index = effects->index,
                              .epoch = effects->epoch,
                              .time_us = effects->time_us,
                              .commit_index = host->replica.commit_index,
                              .kind = effects->append};
    if (command != NULL) entry.command = *command;
    uint32_t number = sim_add_entry(sim, &entry);
    ledger_on_created(sim, number);
    append_entry(sim, host, number);
    return number;
}

/* ---- answers ---- */

static void answer(struct sim *sim, struct host *host, uint32_t client, struct parcel_answer body) {
    body.host = host->number;
    body.started_us = host->started_us;
    body.sent_us = sim->now_us;
    clients_answer(sim, host->number, client, &body);
}

static void answer_waiting_unknown(struct sim *sim, struct host *host) { /* R8 */
    for (uint32_t i = 0; i < host->waiting_count; i++) {
        const struct waiting *waiting = &host->waiting[i];
        answer(sim, host, waiting->client,
               (struct parcel_answer){.number = waiting->number, .attempt = waiting->attempt, .code = SK_LOST});
    }
    host->waiting_count = 0;
}

static void add_waiting(struct host *host, const struct waiting *waiting) {
    if (host->waiting_count == host->waiting_room) {
        host->waiting_room = host->waiting_room == 0 ? 16 : host->waiting_room * 2;
        host->waiting = realloc(host->waiting, host->waiting_room * sizeof *host->waiting);
        sk_assert(host->waiting != NULL);
    }
    host->waiting[host->waiting_count++] = *waiting;
}

/* ---- effects ---- */

static void adopt(struct sim *sim, struct host *host, uint64_t epoch, uint64_t index) {
    struct record record = {.kind = RECORD_ADOPT, .epoch = epoch, .index = index};
    if (!drive_append(&host->drive, &record)) return;
    host->adopted_position = host->drive.end;
    if (host->machine.applied_index > index) sim_fail(sim, "h%u cuts what it has executed", host->number);
    log_cut(host, index);
    tell(sim, host, (struct replica_event){.type = REPLICA_ADOPTED, .epoch = epoch, .index = index});
}

static void take(struct sim *sim, struct host *host, uint32_t skip, uint32_t count, const struct parcel *parcel) {
    sk_assert(parcel != NULL && skip + count <= parcel->message.entry_count);
    host->took_all = true;
    for (uint32_t i = skip; i < skip + count && host->took_all; i++) {
        host->took_all = append_entry(sim, host, parcel->message.entries[i]);
    }
}

/* Adds entries to an APPEND: as many as fit. False: there are none, or the log does not reach back to them. */
static bool add_entries(struct sim *sim, const struct host *host, struct parcel_message *message) {
    uint64_t first = message->head.prev_index + 1;
    if (first < host->log_first || first > host->log_last) return false;
    uint64_t count = host->log_last + 1 - first;
    if (count > sim->weather.batch_max) count = sim->weather.batch_max;
    for (uint32_t i = 0; i < count; i++) message->entries[i] = log_at(host, first + i)->entry;
    message->head.entry_count = message->entry_count = (uint32_t)count;
    return true;
}

/* One message. False: it has no entries though it should, or nothing more goes out. */
static bool send_one(struct sim *sim, struct host *host, uint32_t to, const struct replica_message *message,
                     bool with_entries, uint32_t *entry_count) {
    struct parcel *parcel = parcel_new(&sim->parcels);
    parcel->message.head = *message;
    parcel->message.entry_count = 0;
    if (with_entries && !add_entries(sim, host, &parcel->message)) {
        parcel_free(&sim->parcels, parcel);
        return false;
    }
    *entry_count = parcel->message.entry_count;
    if (sim->options.verbose) trace_message(sim, host, "->", &parcel->message.head);
    return network_send(sim, host->number, to, parcel);
}

/* What the core asks for, as far as there is room; the core is told how far that was. */
static void send_entries(struct sim *sim, struct host *host, uint32_t to, struct replica_message message) {
    uint64_t first = message.prev_index;
    uint32_t count;
    for (uint32_t i = 0; i < sim->weather.appends_max; i++) {
        if (!send_one(sim, host, to, &message, true, &count)) break;
        message.prev_index += count;
        message.prev_epoch = epochs_at(&host->replica.epochs, message.prev_index);
    }
    if (message.prev_index == first) return;
    tell(sim, host, (struct replica_event){.type = REPLICA_SENT, .peer = message.to, .index = message.prev_index});
}

/* Planted: a beacon vouches whether or not the lease holds. */
static void vouch_anyway(const struct host *host, struct replica_message *beacon) {
    int slot = replica_slot(&host->replica, beacon->to);
    const struct progress *progress = &host->replica.progress[slot];
    beacon->echo_us = progress->promised_us;
    beacon->echo_incarnation = progress->incarnation;
}

static void send(struct sim *sim, struct host *host, const struct replica_send *send) {
    struct replica_message message = send->message;
    uint32_t to = sim_metad_host_of(sim, message.to), count;
    if (to == HOSTS_MAX) return;
    bool vouches = message.type == REPLICA_BEACON && sim->options.plant == PLANT_VOUCH_WITHOUT_LEASE;
    if (vouches) vouch_anyway(host, &message);
    if (send->with_entries) {
        send_entries(sim, host, to, message);
    } else {
        send_one(sim, host, to, &message, false, &count);
    }
}

static void start_snapshot(struct sim *sim, struct host *host, uint32_t node);

/* The core stops only when it has met a bug. But for a known limit: a member of the in-sync set meets a leader after as
 * many epochs as tables remember, and knows of nothing that was committed in any of them. */
static void on_failed(struct sim *sim, const struct host *host, const char *why) {
    const struct replica *replica = &host->replica;
    uint64_t known_epoch = epochs_at(&replica->epochs, replica->commit_index);
    if (sim->options.judge_alone) return;
    if (replica->seen_epoch - known_epoch >= EPOCHS_MAX) sim_end(sim, "beyond the table of epochs");
    sim_fail(sim, "the core of h%u stops: %s", host->number, why);
}

static void obey(struct sim *sim, struct host *host, const struct replica_effects *effects,
                 const struct parcel *parcel) {
    if (effects->failed != NULL) on_failed(sim, host, effects->failed);
    if (effects->stepped_down) answer_waiting_unknown(sim, host);
    if (effects->became_leader) {
        ledger_on_became_leader(sim, host);
        faults_aim(sim, host->number);
    }
    if (effects->adopt) adopt(sim, host, effects->epoch, effects->index);
    if (effects->take_count > 0) take(sim, host, effects->take_skip, effects->take_count, parcel);
    if (effects->change.kind != REPLICA_CHANGE_NONE) sim_metad_change(sim, host->number, &effects->change);
    if (effects->snapshot_to != 0) start_snapshot(sim, host, effects->snapshot_to);
    for (uint32_t i = 0; i < effects->send_count; i++) send(sim, host, &effects->sends[i]);
    bool plain = effects->append != REPLICA_ENTRY_NONE && effects->append != REPLICA_ENTRY_COMMAND;
    if (plain) append_new(sim, host, effects, NULL);
}

/* ---- executing ---- */

static void answer_executed(struct sim *sim, struct host *host, const struct sim_entry *entry,
                            const struct result *result) {
    uint32_t done = 0;
    while (done < host->waiting_count && host->waiting[done].index <= entry->index) {
        const struct waiting *waiting = &host->waiting[done++];
        bool may = waiting->index == entry->index && waiting->epoch == entry->epoch &&
                   replica_may_answer(&host->replica, entry->epoch);
        answer(sim, host, waiting->client,
               (struct parcel_answer){.number = waiting->number,
                                      .attempt = waiting->attempt,
                                      .code = may ? SK_OK : SK_LOST,
                                      .result = *result,
                                      .index = entry->index,
                                      .time_us = entry->time_us});
    }
    memmove(host->waiting, host->waiting + done, (host->waiting_count - done) * sizeof *host->waiting);
    host->waiting_count -= done;
}

static void execute_next(struct sim *sim, struct host *host) {
    uint32_t number = log_at(host, host->machine.applied_index + 1)->entry;
    const struct sim_entry *entry = &sim->entries[number];
    struct machine_step todo = {.index = entry->index,
                                .epoch = entry->epoch,
                                .time_us = entry->time_us,
                                .sweep = entry->kind == REPLICA_ENTRY_SWEEP,
                                .nameless = sim->options.plant == PLANT_NO_NAMES,
                                .command = entry->kind == REPLICA_ENTRY_COMMAND ? &entry->command : NULL};
    struct result result;
    enum machine_outcome outcome = machine_execute(&host->machine, &todo, &result);
    ledger_on_executed(sim, host, number, outcome);
    tell(sim, host,
         (struct replica_event){.type = REPLICA_EXECUTED, .index = entry->index, .time_us = todo.time_us});
    if (outcome == MACHINE_FORGOTTEN) result.refused = true;
    if (host->waiting_count > 0) answer_executed(sim, host, &sim->entries[number], &result);
}

/* False: there is more. While a snapshot replaces the state nothing is executed. */
static bool execute(struct sim *sim, struct host *host) {
    if (host->installing != NULL || host->replica.role == REPLICA_FAILED) return true;
    for (uint32_t i = 0; host->machine.applied_index < host->replica.commit_index; i++) {
        if (i == sim->weather.execute_max) return false;
        execute_next(sim, host);
    }
    return true;
}

/* ---- requests ---- */

static void take_read(struct sim *sim, struct host *host, const struct parcel_request *request) {
    struct parcel_answer body = {.number = request->command.number, .attempt = request->attempt};
    struct replica_event event = {.type = request->stale ? REPLICA_READ_STALE : REPLICA_READ};
    struct replica_effects effects = {.time_us = replica_time_us(&host->replica, host_boot_us(sim, host))};
    bool leads = host->replica.role == REPLICA_LEADER, follows = host->replica.role == REPLICA_FOLLOWER;
    bool asks = leads ? sim->options.plant != PLANT_NO_LEASE
                      : !follows || !request->stale || sim->options.plant != PLANT_NO_VOUCH;
    if (asks) {
        step(sim, host, &event, &effects);
        body.code = effects.refused;
    }
    if (body.code == SK_OK) {
        body.result = machine_read(&host->machine, &request->command, effects.time_us);
        body.index = host->machine.applied_index;
        body.time_us = effects.time_us;
        body.stale = follows;
        body.digest = host->machine.digest;
    }
    answer(sim, host, request->command.client, body);
}

static void take_write(struct sim *sim, struct host *host, const struct parcel_request *request) {
    const struct command *command = &request->command;
    struct parcel_answer body = {.number = command->number, .attempt = request->attempt};
    struct replica_event event = {.type = REPLICA_WRITE};
    struct replica_effects effects;
    step(sim, host, &event, &effects);
    body.code = effects.refused;
    enum machine_outcome outcome = MACHINE_DONE;
    bool looks = sim->options.plant != PLANT_NO_NAMES;
    if (body.code == SK_OK && looks) outcome = machine_find(&host->machine, command, &body.result);
    if (outcome == MACHINE_REPEAT) { /* that it was executed is read here, so the lease must hold (R5, R14) */
        event.type = REPLICA_READ;
        step(sim, host, &event, &effects);
        body.code = effects.refused;
    } else if (outcome == MACHINE_FORGOTTEN) {
        body.code = SK_FORGOTTEN;
    } else if (body.code == SK_OK) {
        struct waiting waiting = {.index = effects.index,
                                  .epoch = effects.epoch,
                                  .client = command->client,
                                  .number = command->number,
                                  .attempt = request->attempt};
        if (append_new(sim, host, &effects, command) != 0) {
            add_waiting(host, &waiting);
            return;
        }
        body.code = SK_DISKFULL;
    }
    answer(sim, host, command->client, body);
}

static void take_request(struct sim *sim, struct host *host, const struct parcel_request *request) {
    if (!host->has_replica || host->incarnation == 0) {
        answer(sim, host, request->command.client,
               (struct parcel_answer){
                   .number = request->command.number, .attempt = request->attempt, .code = SK_NOT_LEADER});
    } else if (request->command.op == COMMAND_GET) {
        take_read(sim, host, request);
    } else {
        take_write(sim, host, request);
    }
}

static void sweep(struct sim *sim, struct host *host) {
    if (host->replica.role != REPLICA_LEADER) return;
    if (!machine_has_expired(&host->machine, host->replica.last_time_us)) return;
    if (!chance_happens(&sim->chance, SWEEP_PPM)) return;
    feed(sim, host, (struct replica_event){.type = REPLICA_SWEEP}, NULL);
}

/* Markers change nothing, so what each replica has is judged by the ledger as ever. Rarely a replica is said to differ, which
 * it does not: it begins anew all the same, and nothing may be missing after that. Only
 * where leaders change anyway: else tests count on one. */
static void verify(struct sim *sim, struct host *host) {
    const struct map_shard *config = &host->replica.config;
    if (host->replica.role != REPLICA_LEADER || !faults_has(sim, FAULT_HANDOVER)) return;
    if (!chance_happens(&sim->chance, VERIFY_PPM)) return;
    feed(sim, host, (struct replica_event){.type = REPLICA_VERIFY}, NULL);
    if (!chance_happens(&sim->chance, DIFFERS_PPM) || host->replica.role != REPLICA_LEADER) return;
    uint32_t node = config->replicas[chance_below(&sim->chance, config->replica_count)].node;
    uint32_t successor = config->isr[chance_below(&sim->chance, config->isr_count)]; /* metad has a word in that */
    bool is_own = node == host->replica.node;
    struct replica_event event = {.type = REPLICA_REBUILD, .peer = node, .successor = is_own ? successor : 0};
    feed(sim, host, event, NULL);
}

/* ---- what the disk has done ---- */

/* Whether the record's entry is still the log's. */
static bool is_live(const struct host *host, const struct record *record, uint64_t position) {
    if (record->index < host->log_first) return record->index <= host->machine.applied_index;
    return record->index <= host->log_last && log_at(host, record->index)->position == position;
}

static void tell_entry(struct sim *sim, struct host *host, uint64_t position) {
    struct record record = host->drive.records[position];
    tell(sim, host,
         (struct replica_event){
             .type = REPLICA_DURABLE, .index = record.index, .epoch = record.epoch, .time_us = record.time_us});
}

/* The entries from `first` on, before `end`, are durable: each is told, or only the last that is still the log's. */
static void tell_entries(struct sim *sim, struct host *host, uint64_t first, uint64_t end) {
    uint64_t last_live = end;
    for (uint64_t i = first; i < end; i++) {
        if (is_live(host, &host->drive.records[i], i)) last_live = i;
    }
    for (uint64_t i = first; i < end; i++) {
        bool live = is_live(host, &host->drive.records[i], i);
        if (live ? !sim->weather.durable_once || i == last_live : sim->weather.durable_of_cut) {
            tell_entry(sim, host, i);
        }
    }
}

static void tell_durable(struct sim *sim, struct host *host, uint64_t until) {
    while (host->told_position < until) {
        uint64_t first = host->told_position, end = first;
        while (end < until && host->drive.records[end].kind == RECORD_ENTRY) end++;
        if (end > first) {
            host->told_position = end;
            tell_entries(sim, host, first, end);
            continue;
        }
        struct record record = host->drive.records[host->told_position++];
        if (record.kind == RECORD_TIME) host->time_synced_us = record.time_us;
        if (record.kind != RECORD_ADOPT) continue;
        tell(sim, host,
             (struct replica_event){.type = REPLICA_STORED, .index = record.index, .epoch = record.epoch});
    }
}

/* a: host, b: its life. */
static void on_group_end(struct sim *sim, const struct event *event) {
    struct host *host = &sim->hosts[event->a];
    if (host->life != event->b || host->state == HOST_DOWN || host->drive.suspect) return;
    drive_complete(&host->drive);
    host_deliver(sim, host, (struct mail){.kind = MAIL_SYNCED});
}

static void flush_log(struct sim *sim, struct host *host) {
    if (host->drive.suspect || !drive_flush(&host->drive)) return;
    const struct sim_weather *weather = &sim->weather;
    uint64_t delay_us = host->drive.slow_us > 0
                            ? chance_between(&sim->chance, host->drive.slow_us / 2, host->drive.slow_us)
                            : chance_spread(&sim->chance, weather->sync_us_min, weather->sync_us_max);
    sim_after(sim, delay_us, on_group_end, host->number, host->life, NULL);
}

/* ---- checkpoints ---- */

static struct image take_image(const struct host *host) {
    struct image image = {.machine = host->machine,
                          .epochs = host->replica.epochs,
                          .stored_epoch = host->replica.stored_epoch,
                          .time_us = host->replica.last_time_us,
                          .replay_from = host->told_position};
    epochs_cut(&image.epochs, host->machine.applied_index);
    uint64_t next = host->machine.applied_index + 1;
    if (next <= host->log_last && log_at(host, next)->position < image.replay_from) {
        image.replay_from = log_at(host, next)->position;
    }
    return image;
}

static void on_checkpoint_end(struct sim *sim, const struct event *event) {
    struct host *host = &sim->hosts[event->a];
    if (host->life != event->b || host->state == HOST_DOWN || !host->drive.checkpointing) return;
    drive_end_checkpoint(&host->drive, !host->drive.full);
    host_deliver(sim, host, (struct mail){.kind = MAIL_CHECKPOINTED});
}

/* Not while a cut is not durable: what it cuts is there again after a crash, and then nothing of it may be missing. */
static void checkpoint_now_and_then(struct sim *sim, struct host *host) {
    if (sim->now_us < host->checkpoint_us || host->drive.checkpointing || host->installing != NULL) return;
    if (host->adopted_position > host->told_position) return;
    uint64_t mean_us = sim->weather.checkpoint_us;
    host->checkpoint_us = sim->now_us + chance_spread(&sim->chance, mean_us / 4, mean_us * 2);
    struct image image = take_image(host);
    drive_start_checkpoint(&host->drive, &image);
    sim_after(sim, chance_spread(&sim->chance, 500, CHECKPOINT_US_MAX), on_checkpoint_end, host->number,
              host->life, NULL);
}

/* What the checkpoint holds may go, if all replicas have it (keep_index), and sometimes if not. */
static void release_log(struct sim *sim, struct host *host) {
    uint64_t last = host->drive.image.machine.applied_index;
    bool all = chance_happens(&sim->chance, sim->weather.release_ppm);
    if (!all && host->replica.keep_index < last) last = host->replica.keep_index;
    for (uint32_t i = 0; i < HOSTS_MAX; i++) {
        if (host->snapshots[i].under_way && host->snapshots[i].index < last) last = host->snapshots[i].index;
    }
    if (last < host->log_first || last > host->log_last) return;
    log_release(host, last + 1);
    host->drive.release = host->drive.image.replay_from;
    if (host->log_first <= host->log_last && log_at(host, host->log_first)->position < host->drive.release) {
        host->drive.release = log_at(host, host->log_first)->position;
    }
    feed(sim, host, (struct replica_event){.type = REPLICA_RELEASED, .index = host->log_first}, NULL);
}

/* ---- snapshots, the leader's side ---- */

static void tell_sender(struct sim *sim, uint32_t from, uint64_t life, uint32_t to, bool installed) {
    struct host *sender = &sim->hosts[from];
    if (sender->life != life) return;
    host_deliver(sim, sender,
                 (struct mail){.kind = MAIL_SNAPSHOT_ENDED, .other = to, .number = installed ? 1 : 0});
}

/* a: from << 8 | to, b: life of each. */
static void on_transferred(struct sim *sim, const struct event *event) {
    uint32_t from = (uint32_t)(event->a >> 8), to = (uint32_t)(event->a & 0xff);
    uint64_t from_life = event->b >> 32, to_life = event->b & UINT32_MAX;
    bool arrives = sim->hosts[from].life == from_life && sim->hosts[from].state == HOST_RUNNING &&
                   sim->hosts[to].life == to_life && sim->hosts[to].state == HOST_RUNNING &&
                   network_connects(sim, from, to) &&
                   !chance_happens(&sim->chance, sim->weather.install_fails_ppm);
    if (!arrives) {
        parcel_free(&sim->parcels, event->data);
        tell_sender(sim, from, from_life, to, false);
        return;
    }
    host_deliver(sim, &sim->hosts[to],
                 (struct mail){.kind = MAIL_SNAPSHOT, .other = from, .number = from_life, .parcel = event->data});
}

static void start_snapshot(struct sim *sim, struct host *host, uint32_t node) {
    uint32_t to = sim_metad_host_of(sim, node);
    if (to == HOSTS_MAX || host->snapshots[to].under_way || host->installing != NULL) return;
    struct parcel *parcel = parcel_new(&sim->parcels);
    parcel->snapshot.image = take_image(host);
    parcel->snapshot.epoch = host->replica.config.leader_epoch;
    struct machine *machine = &parcel->snapshot.image.machine;
    if (sim->options.plant == PLANT_FORGET_NAMES) memset(machine->sessions, 0, sizeof machine->sessions);
    host->snapshots[to].under_way = true;
    host->snapshots[to].index = host->machine.applied_index;
    host->snapshots[to].until_us = sim->now_us + SNAPSHOT_GIVEN_UP;
    sim->snapshots++;
    sim_after(sim, chance_spread(&sim->chance, 2000, TRANSFER_US_MAX), on_transferred,
              (uint64_t)host->number << 8 | to, (uint64_t)host->life << 32 | sim->hosts[to].life, parcel);
}

static void end_snapshot(struct sim *sim, struct host *host, uint32_t to, bool installed) {
    if (!host->snapshots[to].under_way) return;
    host->snapshots[to].under_way = false;
    if (installed || !host->has_replica) return;
    tell(sim, host, (struct replica_event){.type = REPLICA_SNAPSHOT_FAILED, .peer = sim->hosts[to].drive.node});
}

static void give_up_snapshots(struct sim *sim, struct host *host) {
    for (uint32_t to = 0; to < sim->host_count; to++) {
        if (host->snapshots[to].under_way && sim->now_us > host->snapshots[to].until_us) {
            end_snapshot(sim, host, to, false);
        }
    }
}

/* ---- snapshots, the follower's side ---- */

static void on_install_end(struct sim *sim, const struct event *event) {
    struct host *host = &sim->hosts[event->a];
    if (host->life != event->b || host->state == HOST_DOWN) return;
    bool worked = !chance_happens(&sim->chance, sim->weather.install_fails_ppm);
    host_deliver(sim, host, (struct mail){.kind = MAIL_INSTALL_ENDED, .number = worked ? 1 : 0});
}

/* From here on until the end the store counts as empty. */
static void on_install_marked(struct sim *sim, const struct event *event) {
    struct host *host = &sim->hosts[event->a];
    if (host->life != event->b || host->state == HOST_DOWN || host->installing == NULL) return;
    sim_trace(sim, "h%u     install is marked", host->number);
    drive_start_install(&host->drive);
    sim_after(sim, chance_spread(&sim->chance, 1000, INSTALL_US_MAX), on_install_end, host->number, host->life,
              NULL);
}

static void take_snapshot(struct sim *sim, struct host *host, struct mail *mail) {
    const struct parcel_snapshot *snapshot = &mail->parcel->snapshot;
    struct replica_event event = {
        .type = REPLICA_INSTALL, .index = snapshot->image.machine.applied_index, .epoch = snapshot->epoch};
    struct replica_effects effects = {.refused = SK_CONFLICT};
    if (host->has_replica && host->installing == NULL) step(sim, host, &event, &effects);
    if (effects.refused != SK_OK) {
        tell_sender(sim, mail->other, mail->number, host->number, false);
        return;
    }
    host->installing = mail->parcel;
    host->install_from = mail->other;
    host->install_life = mail->number;
    mail->parcel = NULL;
    sim_after(sim, chance_spread(&sim->chance, 200, INSTALL_US_MAX), on_install_marked, host->number, host->life,
              NULL);
}

static void end_install(struct sim *sim, struct host *host, bool worked) {
    struct parcel *parcel = host->installing;
    if (parcel == NULL) return;
    host->installing = NULL;
    host->drive.checkpointing = false;
    struct image *image = &parcel->snapshot.image;
    sim_trace(sim, "h%u     install ends worked=%d index=%" PRIu64, host->number, worked,
              image->machine.applied_index);
    if (worked) {
        image->stored_epoch = host->replica.stored_epoch;
        if (host->replica.last_time_us > image->time_us) image->time_us = host->replica.last_time_us;
        drive_end_install(&host->drive, image);
        host->machine = image->machine;
        log_restart(host, image->machine.applied_index);
        ledger_on_opened(sim, host);
        tell(sim, host,
             (struct replica_event){.type = REPLICA_INSTALLED,
                                    .index = image->machine.applied_index,
                                    .epoch = parcel->snapshot.epoch,
                                    .time_us = image->time_us,
                                    .epochs = &image->epochs});
    } else {
        drive_end_install(&host->drive, NULL);
        tell(sim, host, (struct replica_event){.type = REPLICA_INSTALL_FAILED});
    }
    tell_sender(sim, host->install_from, host->install_life, host->number, worked);
    parcel_free(&sim->parcels, parcel);
}

/* ---- messages of peers ---- */

static void take_message(struct sim *sim, struct host *host, const struct parcel *parcel) {
    struct replica_message message = parcel->message.head;
    if (message.to != host->drive.node || host->incarnation == 0) return;
    if (message.echo_us != 0 && sim->options.plant == PLANT_KEEP_VOUCH) message.echo_us = host_boot_us(sim, host);
    feed(sim, host, (struct replica_event){.type = REPLICA_MESSAGE, .message = &message}, parcel);
}

static void push_bulk(struct host *host, struct parcel *parcel) {
    parcel->next = NULL;
    if (host->bulk == NULL) host->bulk_tail = &host->bulk;
    *host->bulk_tail = parcel;
    host->bulk_tail = &parcel->next;
}

static void pop_bulk(struct sim *sim, struct host *host) {
    struct parcel *parcel = host->bulk;
    host->bulk = parcel->next;
    parcel_free(&sim->parcels, parcel);
}

/* Messages with entries, oldest first; one whose entries do not all go into the log now has to wait, and all behind it. */
static void take_bulk(struct sim *sim, struct host *host) {
    while (host->bulk != NULL) {
        host->took_all = true;
        take_message(sim, host, host->bulk);
        if (!host->took_all) return;
        pop_bulk(sim, host);
    }
}

static void on_message(struct sim *sim, struct host *host, struct mail *mail) {
    if (sim->weather.bulk_waits && mail->parcel->message.entry_count > 0) {
        push_bulk(host, mail->parcel);
        mail->parcel = NULL;
    } else {
        take_message(sim, host, mail->parcel);
    }
}

/* ---- opening and closing ---- */

static void begin_replica(struct sim *sim, struct host *host) {
    replica_init(&host->replica, SHARD, host->drive.replica_id, &sim->weather.times, host->start_us);
    host->has_replica = true;
    host->checkpoint_us = sim->now_us + chance_below(&sim->chance, sim->weather.checkpoint_us);
}

static void replay_entry(struct sim *sim, struct host *host, const struct record *record, uint64_t position) {
    const struct sim_entry *entry = &sim->entries[record->entry];
    if (position < host->drive.void_before) return;
    if (entry->index <= host->machine.applied_index) return;
    bool behind_state = host->replica.last_index == host->machine.applied_index;
    if (behind_state && entry->epoch < host->replica.last_epoch)
        return; /* cut by a record that is yet to come (R7) */
    int err =
        replica_restore_entry(&host->replica, entry->index, entry->epoch, entry->time_us, entry->commit_index);
    if (err == SK_STALE_EPOCH) return; /* the same, if it is so: replica_restore_end */
    if (err != SK_OK) {
        sim_fail(sim,
                 "h%u cannot open its log: entry %" PRIu64 " of epoch %" PRIu64 " behind %" PRIu64 " of %" PRIu64,
                 host->number, entry->index, entry->epoch, host->replica.last_index, host->replica.last_epoch);
    }
    log_push(host, record->entry, position);
    while (host->machine.applied_index < host->replica.commit_index) execute_next(sim, host);
}

static void replay_adopted(struct sim *sim, struct host *host, const struct record *record) {
    enum plant plant = sim->options.plant;
    if (plant == PLANT_FORGET_ADOPTED) return;
    uint64_t index = plant == PLANT_KEEP_TAIL ? host->replica.last_index : record->index;
    if (replica_restore_adopted(&host->replica, record->epoch, index) != SK_OK) {
        sim_fail(sim, "h%u cannot open its log: epoch %" PRIu64 " cuts behind %" PRIu64, host->number,
                 record->epoch, record->index);
    }
    log_cut(host, host->replica.last_index);
}

void shell_open(struct sim *sim, struct host *host) {
    const struct image *image = &host->drive.image;
    host->machine = image->machine;
    host->told_position = host->drive.end;
    host->adopted_position = 0;
    host->time_kept_us = host->time_synced_us = 0;
    log_restart(host, image->machine.applied_index);
    if (host->drive.replica_id == 0) return;
    begin_replica(sim, host);
    ledger_on_opened(sim, host);
    replica_restore_state(&host->replica, image->machine.applied_index, &image->epochs, image->stored_epoch,
                          image->time_us);
    uint64_t position = sim->weather.replay_all ? host->drive.release : image->replay_from;
    for (; position < host->drive.end; position++) {
        struct record record = host->drive.records[position];
        switch (record.kind) {
        case RECORD_ENTRY:
            replay_entry(sim, host, &record, position);
            break;
        case RECORD_ADOPT:
            replay_adopted(sim, host, &record);
            break;
        case RECORD_TIME:
            replica_restore_time(&host->replica, record.time_us);
            break;
        }
    }
    if (replica_restore_end(&host->replica) != SK_OK) sim_fail(sim, "h%u opens a log with a hole", host->number);
    tell(sim, host, (struct replica_event){.type = REPLICA_RELEASED, .index = host->log_first});
}

void shell_close(struct sim *sim, struct host *host) {
    if (host->installing != NULL) {
        if (sim->options.plant == PLANT_HALF_INSTALL && host->drive.installing) {
            uint64_t applied = host->drive.image.machine.applied_index;
            host->drive.image.machine = host->installing->snapshot.image.machine;
            host->drive.image.machine.applied_index = applied;
            host->drive.installing = false;
        }
        tell_sender(sim, host->install_from, host->install_life, host->number, false);
        parcel_free(&sim->parcels, host->installing);
        host->installing = NULL;
    }
    while (host->bulk != NULL) pop_bulk(sim, host);
    host->has_replica = false;
    host->waiting_count = 0;
    memset(host->snapshots, 0, sizeof host->snapshots);
    memset(host->peers, 0, sizeof host->peers);
    memset(host->peer_down, 0, sizeof host->peer_down);
}

/* ---- who this is ---- */

static void take_identity(struct host *host, const struct mail *mail) {
    if (host->incarnation != 0) return;
    host->incarnation = mail->number;
    host->drive.node = mail->other;
    if (host->has_replica) replica_identify(&host->replica, host->drive.node, host->incarnation);
}

/* Another stay of the shard begins on this node; what an earlier one has left goes first (R13). */
static void begin_stay(struct sim *sim, struct host *host, uint64_t replica_id) {
    sim_trace(sim, "h%u    stay %" PRIu64 " begins", host->number, replica_id);
    shell_close(sim, host);
    drive_drop_replica(&host->drive);
    host->drive.replica_id = replica_id;
    host->machine = (struct machine){0};
    host->told_position = host->adopted_position = 0;
    host->time_kept_us = host->time_synced_us = 0;
    log_restart(host, 0);
    ledger_on_opened(sim, host);
    begin_replica(sim, host);
}

/* The stay ends: the record has it no more. What the disk has of it goes, durably. */
static void end_stay(struct sim *sim, struct host *host) {
    sim_trace(sim, "h%u    stay %" PRIu64 " ends", host->number, host->drive.replica_id);
    answer_waiting_unknown(sim, host);
    while (host->bulk != NULL) pop_bulk(sim, host);
    memset(host->snapshots, 0, sizeof host->snapshots);
    drive_drop_replica(&host->drive);
    host->has_replica = false;
    host->machine = (struct machine){0};
    log_restart(host, 0);
}

/* R29: older records than the process has seen say nothing any more. */
static void take_config(struct sim *sim, struct host *host, const struct map_shard *config) {
    if (host->incarnation == 0) return;
    if (config->config_version < host->config_version && sim->options.plant != PLANT_OLD_RECORD) return;
    const struct map_replica *replica = map_find_replica(config, host->drive.node);
    bool ended = host->has_replica && (replica == NULL || replica->replica_id != host->drive.replica_id);
    if (ended && host->installing != NULL) return; /* the next one tells again */
    host->config_version = config->config_version;
    if (ended) end_stay(sim, host);
    if (replica == NULL) return;
    if (!host->has_replica) begin_stay(sim, host, replica->replica_id);
    replica_identify(&host->replica, host->drive.node, host->incarnation);
    feed(sim, host, (struct replica_event){.type = REPLICA_CONFIG, .config = config}, NULL);
    for (uint32_t i = 0; i < HOSTS_MAX; i++) {
        if (!host->peer_down[i] || host->peers[i] == 0) continue;
        tell(sim, host, (struct replica_event){.type = REPLICA_PEER_DOWN, .peer = host->peers[i]});
    }
}

/* ---- a step ---- */

static void tick(struct sim *sim, struct host *host) {
    give_up_snapshots(sim, host);
    if (host->incarnation == 0) return;
    feed(sim, host, (struct replica_event){.type = REPLICA_TICK, .time_us = host->time_synced_us}, NULL);
    sweep(sim, host);
    verify(sim, host);
    bool waits = host->time_synced_us < host->time_kept_us;
    if (!waits && host->replica.last_time_us >= host->time_kept_us + REPLICA_TIME_KEPT_US) {
        struct record record = {.kind = RECORD_TIME, .time_us = host->replica.last_time_us};
        if (drive_append(&host->drive, &record)) host->time_kept_us = record.time_us;
    }
}

static void take_peer(struct sim *sim, struct host *host, const struct mail *mail) {
    bool up = mail->kind == MAIL_PEER_UP;
    if (up || host->peers[mail->other] == 0) host->peers[mail->other] = sim->hosts[mail->other].drive.node;
    host->peer_down[mail->other] = !up;
    uint32_t node = host->peers[mail->other];
    if (node == 0 || !host->has_replica) return;
    feed(sim, host, (struct replica_event){.type = up ? REPLICA_PEER_UP : REPLICA_PEER_DOWN, .peer = node}, NULL);
}

void shell_take(struct sim *sim, struct host *host, struct mail *mail) {
    switch (mail->kind) {
    case MAIL_REQUEST:
        take_request(sim, host, &mail->parcel->request);
        return;
    case MAIL_CONFIG:
        take_config(sim, host, &mail->parcel->config);
        return;
    case MAIL_REGISTERED:
        take_identity(host, mail);
        return;
    case MAIL_PEER_UP:
    case MAIL_PEER_DOWN:
        take_peer(sim, host, mail);
        return;
    case MAIL_SNAPSHOT:
        take_snapshot(sim, host, mail);
        return;
    case MAIL_SNAPSHOT_ENDED:
        end_snapshot(sim, host, mail->other, mail->number == 1);
        return;
    default:
        break;
    }
    if (!host->has_replica) return;
    switch (mail->kind) {
    case MAIL_TICK:
        tick(sim, host);
        return;
    case MAIL_MESSAGE:
        on_message(sim, host, mail);
        return;
    case MAIL_SYNCED:
        tell_durable(sim, host, host->drive.synced);
        return;
    case MAIL_SYNC_FAILED:
        feed(sim, host, (struct replica_event){.type = REPLICA_FAIL}, NULL);
        return;
    case MAIL_CHECKPOINTED:
        release_log(sim, host);
        return;
    case MAIL_INSTALL_ENDED:
        end_install(sim, host, mail->number == 1);
        return;
    default:
        return;
    }
}

bool shell_finish_step(struct sim *sim, struct host *host) {
    if (!host->has_replica) return true;
    take_bulk(sim, host);
    if (host->incarnation != 0) feed(sim, host, (struct replica_event){.type = REPLICA_FLUSH}, NULL);
    flush_log(sim, host);
    bool finished = execute(sim, host);
    if (sim->options.plant == PLANT_EARLY_SYNC) tell_durable(sim, host, host->drive.end);
    if (host->replica.role != REPLICA_FAILED) checkpoint_now_and_then(sim, host);
    return finished;
}
