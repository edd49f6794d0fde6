#include "metad/fsm.h"

#include "libcommon/error.h"
#include "libcommon/log.h"

#include <stdio.h>

/* A fault of the state machine ends the process: to go on would be to differ from the other servers. */
static int fault(struct fsm *fsm, const char *what, int err) {
    (void)snprintf(fsm->fault, sizeof fsm->fault, "%s: %s", what, error_text(err));
    log_event(LOG_ERROR, "fsm_fault", "what=\"%s\" error=%s", what, error_name(err));
    return err == SK_ENOMEM ? RAFT_NOMEM : RAFT_MALFORMED;
}

static int apply_cb(struct raft_fsm *raft, const struct raft_buffer *entry, void **result) {
    struct fsm *fsm = raft->data;
    *result = NULL; /* answers go through applied_cb: libraft hands a result to the proposer only, and late */
    struct log_command command;
    int err = command_decode(slice_of(entry->base, entry->len), &command);
    if (err != SK_OK) return fault(fsm, "an entry of the log cannot be read", err);
    struct catalog_answer answer;
    err = catalog_apply(&fsm->catalog, &command, &answer);
    if (err == SK_OK && fsm->applied_cb != NULL) fsm->applied_cb(fsm->arg, &command, &answer);
    catalog_answer_deinit(&answer);
    command_deinit(&command);
    return err == SK_OK ? 0 : fault(fsm, "an entry of the log cannot be applied", err);
}

/* libraft wants its own allocations here, and frees them itself as long as snapshot_finalize is NULL. */
static int snapshot_cb(struct raft_fsm *raft, struct raft_buffer *parts[], unsigned *part_count) {
    struct fsm *fsm = raft->data;
    struct buffer bytes;
    buffer_init(&bytes);
    catalog_encode(&fsm->catalog, &bytes);
    struct raft_buffer *part = bytes.failed ? NULL : raft_malloc(sizeof *part);
    void *copy = part == NULL ? NULL : raft_malloc(bytes.size);
    if (copy != NULL) {
        memcpy(copy, bytes.data, bytes.size);
        *part = (struct raft_buffer){.base = copy, .len = bytes.size};
        *parts = part;
        *part_count = 1;
    } else {
        raft_free(part);
    }
    buffer_deinit(&bytes);
    return copy != NULL ? 0 : RAFT_NOMEM;
}

static int restore_cb(struct raft_fsm *raft, struct raft_buffer *snapshot) {
    struct fsm *fsm = raft->data;
    int err = catalog_decode(&fsm->catalog, slice_of(snapshot->base, snapshot->len));
    if (err != SK_OK) return fault(fsm, "the snapshot cannot be read", err);
    raft_free(snapshot->base); /* ours as soon as we succeed */
    if (fsm->applied_cb != NULL) fsm->applied_cb(fsm->arg, NULL, NULL);
    return 0;
}

void fsm_init(struct fsm *fsm, fsm_applied_cb applied_cb, void *arg) {
    *fsm = (struct fsm){
        .raft = {.version = 2, .apply = apply_cb, .snapshot = snapshot_cb, .restore = restore_cb},
        .applied_cb = applied_cb,
        .arg = arg,
    };
    fsm->raft.data = fsm;
    catalog_init(&fsm->catalog);
}

void fsm_deinit(struct fsm *fsm) { catalog_deinit(&fsm->catalog); }
