#include "metad/record_log.h"

#include "libcommon/error.h"
#include "libcommon/log.h"

#include <inttypes.h>
#include <stdio.h>

static int print_ids(char *room, size_t room_bytes, const char *name, const uint32_t *ids, uint32_t count) {
    int at = snprintf(room, room_bytes, " %s=", name);
    for (uint32_t i = 0; i < count; i++) {
        at += snprintf(room + at, room_bytes - (size_t)at, "%s%" PRIu32, i > 0 ? "," : "", ids[i]);
    }
    return at;
}

/* `by` names the change. */
static void log_record(const struct catalog *catalog, enum log_level level, const char *by, uint32_t shard) {
    const struct map_shard *record = &catalog->shards[shard];
    uint32_t replicas[MAP_REPLICAS_MAX];
    for (uint32_t i = 0; i < record->replica_count; i++) replicas[i] = record->replicas[i].node;
    char sets[4 * (MAP_REPLICAS_MAX + 1) * 12];
    int at = print_ids(sets, sizeof sets, "isr", record->isr, record->isr_count);
    at += print_ids(sets + at, sizeof sets - (size_t)at, "eligible", record->eligible, record->eligible_count);
    (void)print_ids(sets + at, sizeof sets - (size_t)at, "replicas", replicas, record->replica_count);
    log_event(level, "shard_changed",
              "by=%s shard=%" PRIu32 " epoch=%" PRIu64 " config=%" PRIu64 " leader=%" PRIu32 " wanted=%" PRIu32
              "%s move=%" PRIu32 ">%" PRIu32 " losses=%" PRIu64 " map=%" PRIu64,
              by, shard, record->leader_epoch, record->config_version, record->leader, record->wanted_leader, sets,
              record->move_from, record->move_to, record->data_loss_generation, catalog->version);
}

static void log_changes(const struct catalog *catalog, const struct command_change_shards *command,
                        const struct catalog_answer *answer) {
    for (uint32_t i = 0; i < answer->change_count; i++) {
        const struct shard_change *change = &command->changes[i];
        const struct catalog_change_answer *outcome = &answer->changes[i];
        if (outcome->err == SK_OK) {
            enum log_level level = change->kind == SHARD_CHANGE_REBUILD ? LOG_WARNING : LOG_INFO;
            log_record(catalog, level, shard_change_name(change->kind), change->shard);
        } else { /* whoever asks does it again: not one line for each time */
            log_event(LOG_DEBUG, "change_refused", "by=%s shard=%" PRIu32 " node=%" PRIu32 " error=%s text=\"%s\"",
                      shard_change_name(change->kind), change->shard, command->node_id, error_name(outcome->err),
                      outcome->text);
        }
    }
}

static const char *const move_names[] = {[COMMAND_MOVE_START] = "move_start",
                                         [COMMAND_MOVE_FINISH] = "move_finish",
                                         [COMMAND_MOVE_CANCEL] = "move_cancel"};

void record_log(const struct catalog *catalog, const struct log_command *command,
                const struct catalog_answer *answer) {
    if (answer->err != SK_OK) return; /* told where the outcome is */
    if (command->kind == COMMAND_CHANGE_SHARDS) {
        log_changes(catalog, &command->change_shards, answer);
    } else if (command->kind == COMMAND_WISH_LEADER) {
        log_record(catalog, LOG_INFO, "wish", command->wish_leader.shard);
    } else if (command->kind == COMMAND_REPLACE_REPLICA) {
        log_record(catalog, LOG_INFO, "replace", command->replace_replica.shard);
    } else if (command->kind == COMMAND_FORCE_LEADER) {
        log_record(catalog, LOG_WARNING, "force", command->force_leader.shard);
    } else if (command->kind == COMMAND_MOVE_REPLICA) {
        log_record(catalog, LOG_INFO, move_names[command->move_replica.step], command->move_replica.shard);
    } else if (command->kind == COMMAND_CHANGE_NODE) {
        const struct map_node *node = &catalog_find_node(catalog, command->change_node.node_id)->map;
        log_event(LOG_INFO, "node_changed", "node=%" PRIu32 " state=%s map=%" PRIu64, node->id,
                  map_node_state_name(node->state), catalog->version);
    }
}
