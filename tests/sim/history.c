#include "tests/sim/history.h"

#include "libcommon/check.h"
#include "tests/check/check.h"

#include <stdio.h>
#include <stdlib.h>

/* A run takes some thousands of them; where many increments have unknown outcomes, what they add up to takes for ever. */
#define STATES_MAX 100000

void history_init(struct history *history) { *history = (struct history){0}; }

void history_deinit(struct history *history) {
    free(history->items);
    *history = (struct history){0};
}

void history_add(struct history *history, const struct history_item *item) {
    if (history->count == history->room) {
        history->room = history->room == 0 ? 256 : history->room * 2;
        history->items = realloc(history->items, history->room * sizeof *history->items);
        sk_assert(history->items != NULL);
    }
    history->items[history->count++] = *item;
}

/* ---- judging ---- */

static struct check_value value_for_check(const struct value *value) {
    if (!value->present) return (struct check_value){.present = false};
    return (struct check_value){.present = true, .bytes = slice_of((const uint8_t *)value->bytes, value->length)};
}

/* An item in the words of the judge; its bytes are the item's. */
static struct check_op translate(const struct history_item *item) {
    static const enum check_kind kinds[] = {
        [COMMAND_GET] = CHECK_GET, [COMMAND_SET] = CHECK_SET,   [COMMAND_DEL] = CHECK_DEL,
        [COMMAND_CAS] = CHECK_CAS, [COMMAND_INCR] = CHECK_INCR, [COMMAND_APPEND] = CHECK_APPEND,
    };
    const struct command *command = &item->command;
    return (struct check_op){.client = command->client,
                             .kind = kinds[command->op],
                             .unknown = item->unknown,
                             .begin = (int64_t)item->begin_us,
                             .end = (int64_t)item->end_us,
                             .value = value_for_check(&command->value),
                             .expected = value_for_check(&command->expected),
                             .amount = command->amount,
                             .got = value_for_check(&item->result.got),
                             .answer = item->result.answer};
}

static void add(struct check *check, const struct history_item *item) {
    struct check_op op = translate(item);
    char key = (char)('0' + item->command.key);
    const char *fault = check_add(check, slice_of((const uint8_t *)&key, 1), &op);
    sk_assert(fault == NULL); /* what the machine answers is of the right form */
}

enum history_verdict history_judge(const struct history *history, char *text, size_t text_size) {
    static const enum history_verdict verdicts[] = {
        [CHECK_GOOD] = HISTORY_GOOD, [CHECK_BAD] = HISTORY_BAD, [CHECK_UNDECIDED] = HISTORY_UNDECIDED};
    struct check *check = check_new();
    for (size_t i = 0; i < history->count; i++) add(check, &history->items[i]);
    struct check_report report;
    check_set_budget(check, STATES_MAX);
    check_run(check, &report);
    enum history_verdict verdict = verdicts[report.verdict];
    if (verdict == HISTORY_BAD)
        snprintf(text, text_size, "%.*s", (int)report.text.size, (const char *)report.text.data);
    check_report_deinit(&report);
    check_free(check);
    return verdict;
}
