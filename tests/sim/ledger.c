#include "tests/sim/ledger.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void ledger_init(struct sim *sim) { sim->ledger = (struct ledger){0}; }

void ledger_deinit(struct ledger *ledger) {
    free(ledger->indexes);
    free(ledger->epochs);
    free(ledger->shown);
    for (uint32_t i = 0; i < CLIENTS_MAX; i++) free(ledger->names[i]);
    *ledger = (struct ledger){0};
}

/* Room for [index] in an array of zeroed items. */
static void *grown(void *items, uint64_t *room, uint64_t index, size_t item_size) {
    if (index < *room) return items;
    uint64_t wanted = *room == 0 ? 256 : *room;
    while (wanted <= index) wanted *= 2;
    char *bytes = realloc(items, wanted * item_size);
    sk_assert(bytes != NULL);
    memset(bytes + *room * item_size, 0, (wanted - *room) * item_size);
    *room = wanted;
    return bytes;
}

static struct ledger_index *index_at(struct sim *sim, uint64_t index) {
    struct ledger *ledger = &sim->ledger;
    ledger->indexes = grown(ledger->indexes, &ledger->index_room, index, sizeof *ledger->indexes);
    return &ledger->indexes[index];
}

static struct ledger_name *name_of(struct sim *sim, const struct command *command) {
    struct ledger *ledger = &sim->ledger;
    uint32_t client = command->client;
    ledger->names[client] =
        grown(ledger->names[client], &ledger->name_rooms[client], command->number, sizeof *ledger->names[client]);
    return &ledger->names[client][command->number];
}

/* An index and an epoch name one entry: an epoch has one leader, which appends each index once (R6). */
void ledger_on_created(struct sim *sim, uint32_t number) {
    if (sim->options.judge_alone) return;
    struct sim_entry *entry = &sim->entries[number];
    struct ledger_index *at = index_at(sim, entry->index);
    for (uint32_t other = at->newest; other != 0; other = sim->entries[other].older) {
        if (sim->entries[other].epoch == entry->epoch) {
            sim_fail(sim, "two entries have index %" PRIu64 " and epoch %" PRIu64, entry->index, entry->epoch);
        }
    }
    entry->older = at->newest;
    at->newest = number;
}

void ledger_on_opened(struct sim *sim, const struct host *host) {
    sim->ledger.checked[host->number] = host->machine.applied_index;
}

/* What any replica considers committed at an index is the same entry everywhere and for ever. */
static void check_committed(struct sim *sim, const struct host *host, uint64_t index) {
    struct ledger *ledger = &sim->ledger;
    if (index < host->log_first) return; /* executed, and compared by the digest of the state */
    if (index > host->log_last) {
        sim_fail(sim, "h%u has committed %" PRIu64 ", which it does not have", host->number, index);
    }
    uint32_t entry = host->log[index - host->log_first].entry;
    struct ledger_index *at = index_at(sim, index);
    if (at->committed == 0) {
        at->committed = entry;
        if (index > ledger->committed_last) ledger->committed_last = index;
    } else if (at->committed != entry) {
        sim_fail(sim,
                 "h%u has committed index %" PRIu64 " of epoch %" PRIu64 ", but that of epoch %" PRIu64 " was",
                 host->number, index, sim->entries[entry].epoch, sim->entries[at->committed].epoch);
    }
}

void ledger_on_step(struct sim *sim, const struct host *host) {
    if (sim->options.judge_alone) return;
    uint64_t *checked = &sim->ledger.checked[host->number], commit = host->replica.commit_index;
    if (commit < *checked) sim_fail(sim, "the commit index of h%u goes back to %" PRIu64, host->number, commit);
    for (; *checked < commit; ++*checked) check_committed(sim, host, *checked + 1);
}

/* Who leads an epoch has everything that was committed when metad made it leader: all of it, as long as no later epoch has
 * begun. And no epoch is led by two processes (R6). */
void ledger_on_became_leader(struct sim *sim, const struct host *host) {
    if (sim->options.judge_alone) return;
    struct ledger *ledger = &sim->ledger;
    uint64_t epoch = host->replica.config.leader_epoch;
    ledger->epochs = grown(ledger->epochs, &ledger->epoch_room, epoch, sizeof *ledger->epochs);
    struct ledger_epoch *led = &ledger->epochs[epoch];
    sim_trace(sim, "h%u    leads epoch=%" PRIu64 " last=%" PRIu64, host->number, epoch, host->log_last);
    if (led->led && (led->host != host->number || led->life != host->life)) {
        sim_fail(sim, "epoch %" PRIu64 " is led by h%u and by h%u", epoch, led->host, host->number);
    }
    *led = (struct ledger_epoch){.led = true, .host = host->number, .life = host->life};
    if (epoch != sim->metad.record.leader_epoch) return;
    if (host->log_last < ledger->committed_last) {
        sim_fail(sim, "h%u leads epoch %" PRIu64 " without index %" PRIu64 ", which is committed", host->number,
                 epoch, ledger->committed_last);
    }
    for (uint64_t i = host->log_first; i <= ledger->committed_last; i++) {
        if (host->log[i - host->log_first].entry == ledger->indexes[i].committed) continue;
        sim_fail(sim, "h%u leads epoch %" PRIu64 " with another entry at %" PRIu64 " than is committed",
                 host->number, epoch, i);
    }
}

/* Equal logs lead to equal states; a name is executed once (R10), and never after a client was told that it was not. */
void ledger_on_executed(struct sim *sim, const struct host *host, uint32_t number, enum machine_outcome outcome) {
    if (sim->options.judge_alone) return;
    const struct sim_entry *entry = &sim->entries[number];
    struct ledger_index *at = index_at(sim, entry->index);
    if (at->digest != 0 && at->digest != host->machine.digest) {
        sim_fail(sim, "the state of h%u at %" PRIu64 " is another than elsewhere", host->number, entry->index);
    }
    at->digest = host->machine.digest;
    if (entry->kind != REPLICA_ENTRY_COMMAND || outcome != MACHINE_DONE) return;
    struct ledger_name *name = name_of(sim, &entry->command);
    if (name->index != 0 && name->index != entry->index) {
        sim_fail(sim, "write %" PRIu64 " of client %u is executed at %" PRIu64 " and at %" PRIu64,
                 entry->command.number, entry->command.client, name->index, entry->index);
    }
    if (name->surely_not) {
        sim_fail(sim, "write %" PRIu64 " of client %u is executed though it was surely not done",
                 entry->command.number, entry->command.client);
    }
    name->index = entry->index;
}

struct ledger_floor ledger_floor(const struct ledger *ledger) {
    return (struct ledger_floor){
        .index = ledger->answered_last, .time_us = ledger->answered_time_us, .at_us = ledger->answered_at_us};
}

static void note_shown(struct sim *sim, uint64_t index, uint64_t time_us) {
    struct ledger *ledger = &sim->ledger;
    uint64_t last = ledger->shown_count;
    ledger->shown = grown(ledger->shown, &ledger->shown_room, last + 1, sizeof *ledger->shown);
    struct ledger_shown next = ledger->shown[last];
    if (index <= next.index && time_us <= next.time_us) return;
    if (index > next.index) next.index = index;
    if (time_us > next.time_us) next.time_us = time_us;
    next.at_us = sim->now_us;
    ledger->shown[++ledger->shown_count] = next;
}

/* The last at or before `at_us`. */
static struct ledger_shown shown_by(const struct ledger *ledger, uint64_t at_us) {
    uint64_t low = 0, high = ledger->shown_count;
    if (ledger->shown == NULL) return (struct ledger_shown){0};
    while (low < high) {
        uint64_t middle = (low + high + 1) / 2;
        if (ledger->shown[middle].at_us <= at_us) low = middle;
        else high = middle - 1;
    }
    return ledger->shown[low];
}

/* The time that a read has shown as past stays so for those that come after it. */
static void raise_time(struct ledger *ledger, const struct parcel_answer *answer, uint64_t time_us) {
    if (time_us <= ledger->answered_time_us) return;
    ledger->answered_time_us = time_us;
    ledger->answered_at_us = answer->sent_us;
}

/* Operations take effect in the order of the log. Whatever began after an answer that showed a position must see at
 * least that: with equal states this is linearizability. The same for time: what was read as expired stays so (R26). But a
 * process that has restarted since knows the time only as recorded, and clocks that run apart or back show that. */
void ledger_on_answered(struct sim *sim, const struct command *command, const struct ledger_floor *floor,
                        const struct parcel_answer *answer) {
    if (sim->options.judge_alone) return;
    struct ledger *ledger = &sim->ledger;
    uint64_t index = answer->index, time_us = answer->time_us;
    if (command->op != COMMAND_GET) {
        index = name_of(sim, command)->index;
        if (index == 0) {
            sim_fail(sim, "write %" PRIu64 " of client %u was answered but never executed", command->number,
                     command->client);
        }
        time_us = sim->entries[ledger->indexes[index].committed].time_us;
    }
    if (index < floor->index) {
        sim_fail(sim, "client %u sees the state at %" PRIu64 " after that at %" PRIu64 " was seen",
                 command->client, index, floor->index);
    }
    bool knows = !faults_may(sim, FAULT_CLOCK) || answer->started_us < floor->at_us;
    if (time_us < floor->time_us && knows) {
        sim_fail(sim, "client %u is answered by time %" PRIu64 " after %" PRIu64 " was seen", command->client,
                 time_us, floor->time_us);
    }
    if (index > ledger->answered_last) ledger->answered_last = index;
    raise_time(ledger, answer, time_us);
    note_shown(sim, index, time_us);
}

/* It shows a state that was committed, and nothing older than what had been shown REPLICA_STALE_US before it began: by the
 * clock of the follower, which may run at another rate than true time. So does its time, unless clocks may jump. What its
 * time has shown as expired stays so (R26). */
void ledger_on_stale(struct sim *sim, const struct command *command, uint64_t begin_us,
                     const struct parcel_answer *answer) {
    if (sim->options.judge_alone) return;
    const struct ledger_index *at = index_at(sim, answer->index);
    if (answer->index > 0 && (at->committed == 0 || (at->digest != 0 && at->digest != answer->digest))) {
        sim_fail(sim, "client %u reads at h%u what is not the state at %" PRIu64, command->client, answer->host,
                 answer->index);
    }
    uint64_t stale_us = host_true_us(&sim->hosts[answer->host], REPLICA_STALE_US) + 1;
    struct ledger_shown least = shown_by(&sim->ledger, begin_us > stale_us ? begin_us - stale_us : 0);
    if (answer->index < least.index) {
        sim_fail(sim,
                 "client %u reads the state at %" PRIu64 " from h%u, but %" PRIu64 " was seen at %" PRIu64
                 " and it began at %" PRIu64,
                 command->client, answer->index, answer->host, least.index, least.at_us, begin_us);
    }
    if (answer->time_us < least.time_us && !faults_may(sim, FAULT_CLOCK)) {
        sim_fail(sim, "client %u is answered by h%u by time %" PRIu64 ", but %" PRIu64 " was seen at %" PRIu64,
                 command->client, answer->host, answer->time_us, least.time_us, least.at_us);
    }
    raise_time(&sim->ledger, answer, answer->time_us);
}

void ledger_on_refused(struct sim *sim, const struct command *command) {
    if (sim->options.judge_alone) return;
    struct ledger_name *name = name_of(sim, command);
    if (name->index != 0) {
        sim_fail(sim, "write %" PRIu64 " of client %u is executed but the client is told that it is surely not",
                 command->number, command->client);
    }
    name->surely_not = true;
}

/* At most one replica may serve reads at an instant (R15). */
static void check_one_serves(struct sim *sim) {
    uint32_t leaders = 0, serving = 0;
    for (uint32_t i = 0; i < sim->host_count; i++) {
        const struct host *host = &sim->hosts[i];
        leaders += host->state == HOST_RUNNING && host->has_replica && host->replica.role == REPLICA_LEADER;
    }
    for (uint32_t i = 0; leaders > 1 && i < sim->host_count; i++) serving += host_may_serve(sim, &sim->hosts[i]);
    if (serving > 1) sim_fail(sim, "%u replicas may serve at once", serving);
}

/* Everything committed is durable on every member of the in-sync set that metad has on record, and on all that are
 * eligible: any of them may lead next (R2, R3, R4, R11). Lost stores do not count, nor one that has lost its tail before
 * metad can know that. */
static void check_holds_all(struct sim *sim, uint32_t node) {
    struct ledger *ledger = &sim->ledger;
    uint32_t number = sim_metad_host_of(sim, node);
    if (number == HOSTS_MAX || sim->hosts[number].drive.node != node) return;
    struct drive *drive = &sim->hosts[number].drive;
    if (drive->suspect || drive->lost_tail || (!drive->installing && drive->agreed == ledger->committed_last))
        return;
    uint32_t entry;
    while (!drive->installing && drive->agreed < ledger->committed_last &&
           drive_has(drive, drive->agreed + 1, &entry) &&
           (entry == 0 || entry == ledger->indexes[drive->agreed + 1].committed)) {
        drive->agreed++;
    }
    if (drive->installing || drive->agreed < ledger->committed_last) {
        sim_fail(sim, "node %u (h%u) may lead but index %" PRIu64 ", which is committed, is not safe there", node,
                 number, drive->installing ? 1 : drive->agreed + 1);
    }
}

void ledger_check(struct sim *sim) {
    if (sim->options.judge_alone) return;
    const struct map_shard *record = &sim->metad.record;
    check_one_serves(sim);
    for (uint32_t i = 0; i < record->isr_count; i++) check_holds_all(sim, record->isr[i]);
    for (uint32_t i = 0; i < record->eligible_count; i++) check_holds_all(sim, record->eligible[i]);
}
