#include "shardd/progress.h"

void progress_restart(struct progress *progress, uint64_t now_us) {
    progress->state = PROGRESS_PROBE;
    progress->match_index = 0;
    progress->next_index = 0;
    progress->sent_us = progress->opened_us = progress->beacon_us = 0;
    progress->since_us = progress->level_us = progress->mark_us = now_us;
    progress->mark_index = UINT64_MAX;
}

void progress_begin_epoch(struct progress *progress, uint64_t now_us) {
    progress_restart(progress, now_us);
    progress->acked_index = progress->owed_index = 0;
    progress->answered_us = progress->promised_us = progress->promised_at_us = 0;
    progress->join_us = progress->back_off_us = progress->joined_us = 0;
}

void progress_change_process(struct progress *progress, uint64_t incarnation, uint64_t now_us) {
    progress_restart(progress, now_us);
    progress->incarnation = incarnation;
    if (progress->acked_index > progress->owed_index) progress->owed_index = progress->acked_index;
    progress->acked_index = 0;
    progress->promised_us = progress->promised_at_us = 0; /* of another process, maybe of another clock (R17) */
}

void progress_on_match(struct progress *progress, uint64_t match_index, uint64_t last_index, uint64_t now_us) {
    if (match_index > progress->match_index) progress->match_index = match_index;
    if (match_index > progress->acked_index) progress->acked_index = match_index;
    if (progress->match_index >= progress->mark_index && progress->mark_us > progress->level_us)
        progress->level_us = progress->mark_us;
    progress_tick(progress, last_index, now_us);
}

void progress_tick(struct progress *progress, uint64_t last_index, uint64_t now_us) {
    if (progress->state != PROGRESS_STREAM) return;
    if (progress->match_index >= last_index) progress->level_us = now_us;
    if (progress->match_index >= progress->mark_index || progress->mark_index == UINT64_MAX) {
        progress->mark_index = last_index;
        progress->mark_us = now_us;
    }
}
