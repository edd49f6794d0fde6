#include "shardd/epochs.h"

#include "libcommon/check.h"

#include <string.h>

void epochs_add(struct epochs *epochs, uint64_t epoch, uint64_t index) {
    if (epochs->count > 0) {
        const struct epoch_start *last = &epochs->starts[epochs->count - 1];
        sk_assert(epoch >= last->epoch);
        sk_assert(index > last->index);
        if (epoch == last->epoch) return;
    }
    if (epochs->count == EPOCHS_MAX) {
        memmove(&epochs->starts[0], &epochs->starts[1], (EPOCHS_MAX - 1) * sizeof epochs->starts[0]);
        epochs->count--;
    }
    epochs->starts[epochs->count++] = (struct epoch_start){.epoch = epoch, .index = index};
}

void epochs_cut(struct epochs *epochs, uint64_t index) {
    while (epochs->count > 0 && epochs->starts[epochs->count - 1].index > index) epochs->count--;
}

uint64_t epochs_at(const struct epochs *epochs, uint64_t index) {
    for (uint32_t i = epochs->count; i-- > 0;) {
        if (epochs->starts[i].index <= index) return epochs->starts[i].epoch;
    }
    return 0;
}

/* Whether a table begins with the log itself, so that what it does not name does not exist. */
static bool is_whole(const struct epochs *epochs) { return epochs->count > 0 && epochs->starts[0].index == 1; }

bool epochs_common(const struct epochs *ours, uint64_t last_index, const struct epochs *theirs, uint64_t *common) {
    *common = 0;
    uint32_t a = ours->count, b = theirs->count;
    while (a > 0 && b > 0) {
        const struct epoch_start *our = &ours->starts[a - 1], *their = &theirs->starts[b - 1];
        if (our->epoch > their->epoch) {
            a--;
        } else if (their->epoch > our->epoch) {
            b--;
        } else {
            uint64_t our_end = a == ours->count ? last_index : ours->starts[a].index - 1;
            /* the leader's own epoch goes on: all that we have of it is the leader's */
            uint64_t their_end = b == theirs->count ? our_end : theirs->starts[b].index - 1;
            *common = our_end < their_end ? our_end : their_end;
            return true;
        }
    }
    return last_index == 0 || (is_whole(ours) && is_whole(theirs));
}

bool epochs_are_valid(const struct epochs *epochs, uint64_t last_index) {
    if (epochs->count > EPOCHS_MAX) return false;
    for (uint32_t i = 0; i < epochs->count; i++) {
        const struct epoch_start *start = &epochs->starts[i];
        if (start->epoch == 0 || start->index == 0 || start->index > last_index) return false;
        if (i > 0 && (start->epoch <= start[-1].epoch || start->index <= start[-1].index)) return false;
    }
    return true;
}
