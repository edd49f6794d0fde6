#include "tests/sim/drive.h"

#include "libcommon/check.h"

#include <stdlib.h>
#include <string.h>

void drive_init(struct drive *drive, uint64_t store) { *drive = (struct drive){.store = store}; }

void drive_deinit(struct drive *drive) {
    free(drive->records);
    free(drive->durable);
    *drive = (struct drive){0};
}

void drive_wipe(struct drive *drive, uint64_t store) {
    drive_deinit(drive);
    drive_init(drive, store);
}

void drive_drop_replica(struct drive *drive) {
    struct drive kept = *drive;
    drive_wipe(drive, kept.store);
    drive->node = kept.node;
    drive->suspect = kept.suspect;
    drive->full = kept.full;
    drive->slow_us = kept.slow_us;
}

bool drive_append(struct drive *drive, const struct record *record) {
    if (drive->full) return false;
    if (drive->end == drive->room) {
        drive->room = drive->room == 0 ? 256 : drive->room * 2;
        drive->records = realloc(drive->records, drive->room * sizeof *drive->records);
        sk_assert(drive->records != NULL);
    }
    drive->records[drive->end++] = *record;
    return true;
}

bool drive_flush(struct drive *drive) {
    if (drive->group > drive->synced || drive->end == drive->synced) return false;
    drive->group = drive->end;
    return true;
}

static void truncate_durable(struct drive *drive, uint64_t index) {
    if (drive->durable_last > index) drive->durable_last = index;
    if (drive->agreed > index) drive->agreed = index;
}

static void put_durable(struct drive *drive, uint64_t index, uint32_t entry) {
    if (index >= drive->durable_room) {
        uint64_t room = drive->durable_room == 0 ? 256 : drive->durable_room;
        while (room <= index) room *= 2;
        drive->durable = realloc(drive->durable, room * sizeof *drive->durable);
        sk_assert(drive->durable != NULL);
        memset(drive->durable + drive->durable_room, 0, (room - drive->durable_room) * sizeof *drive->durable);
        drive->durable_room = room;
    }
    drive->durable[index] = entry;
    drive->durable_last = index;
}

static void empty_state(struct drive *drive) {
    uint64_t stored_epoch = drive->image.stored_epoch, time_us = drive->image.time_us;
    for (uint64_t i = drive->release; i < drive->end; i++) {
        const struct record *record = &drive->records[i];
        if (record->kind == RECORD_ADOPT && record->epoch > stored_epoch) stored_epoch = record->epoch;
        if (record->time_us > time_us) time_us = record->time_us;
    }
    drive->image = (struct image){.stored_epoch = stored_epoch, .time_us = time_us, .replay_from = drive->end};
    drive->release = drive->void_before = drive->end;
    truncate_durable(drive, 0);
}

static void make_durable(struct drive *drive, uint64_t position) {
    const struct record *record = &drive->records[position];
    if (position < drive->void_before) return;
    switch (record->kind) {
    case RECORD_ENTRY:
        if (record->index > drive->image.machine.applied_index) put_durable(drive, record->index, record->entry);
        break;
    case RECORD_ADOPT:
        if (record->index < drive->durable_last) truncate_durable(drive, record->index);
        break;
    case RECORD_TIME:
        break;
    }
}

void drive_complete(struct drive *drive) {
    for (; drive->synced < drive->group; drive->synced++) make_durable(drive, drive->synced);
}

void drive_crash(struct drive *drive, struct chance *chance) {
    uint64_t flying = drive->group - drive->synced;
    uint64_t whole =
        flying == 0 || chance_happens(chance, CHANCE_ALWAYS / 2) ? 0 : chance_below(chance, flying + 1);
    drive->group = drive->synced + whole;
    drive_complete(drive);
    drive->end = drive->synced;
    if (drive->image.replay_from > drive->end) drive->image.replay_from = drive->end;
    if (drive->release > drive->end) drive->release = drive->end;
    if (drive->void_before > drive->end) drive->void_before = drive->end;
    drive->checkpointing = false;
    if (drive->installing) empty_state(drive);
    drive->installing = false;
}

/* Only entries, so that no epoch and no time is forgotten. */
bool drive_lose_tail(struct drive *drive, struct chance *chance) {
    uint64_t first = drive->end;
    sk_assert(drive->group == drive->end && drive->synced == drive->end);
    while (first > drive->image.replay_from && first > drive->release && first > drive->void_before &&
           drive->records[first - 1].kind == RECORD_ENTRY &&
           drive->records[first - 1].index > drive->image.machine.applied_index) {
        first--;
    }
    if (first == drive->end) return false;
    uint64_t end = chance_between(chance, first, drive->end - 1);
    truncate_durable(drive, drive->records[end].index - 1);
    drive->end = drive->synced = drive->group = end;
    drive->lost_tail = true;
    return true;
}

void drive_start_checkpoint(struct drive *drive, const struct image *image) {
    sk_assert(!drive->checkpointing && !drive->installing);
    drive->next = *image;
    drive->checkpointing = true;
}

static void take_image(struct drive *drive, const struct image *image) {
    uint64_t applied = image->machine.applied_index;
    drive->image = *image;
    if (drive->durable_last < applied) put_durable(drive, applied, 0);
}

void drive_end_checkpoint(struct drive *drive, bool written) {
    if (drive->checkpointing && written) take_image(drive, &drive->next);
    drive->checkpointing = false;
}

void drive_start_install(struct drive *drive) {
    drive->installing = true;
    drive->checkpointing = false;
}

void drive_end_install(struct drive *drive, const struct image *image) {
    drive->installing = false;
    if (image == NULL) return;
    truncate_durable(drive, 0);
    take_image(drive, image);
    drive->image.replay_from = drive->release = drive->void_before = drive->end;
}

bool drive_has(const struct drive *drive, uint64_t index, uint32_t *entry) {
    *entry = 0;
    if (index <= drive->image.machine.applied_index) return true;
    if (index > drive->durable_last) return false;
    *entry = drive->durable[index];
    return *entry != 0;
}
