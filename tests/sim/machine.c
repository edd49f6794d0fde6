#include "tests/sim/machine.h"

#include "libcommon/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_MAX 1000000000000 /* beyond it INCR is refused */

struct value value_of_number(int64_t number) {
    struct value value = {.present = true};
    char text[32];
    int length = snprintf(text, sizeof text, "%" PRId64, number);
    sk_assert(length > 0 && (size_t)length <= MACHINE_VALUE_BYTES);
    memcpy(value.bytes, text, (size_t)length);
    value.length = (uint8_t)length;
    return value;
}

bool value_equal(const struct value *a, const struct value *b) {
    if (a->present != b->present) return false;
    return !a->present || (a->length == b->length && memcmp(a->bytes, b->bytes, a->length) == 0);
}

static int64_t number_of_value(const struct value *value) {
    char text[MACHINE_VALUE_BYTES + 1] = {0};
    if (!value->present) return 0;
    memcpy(text, value->bytes, value->length);
    return strtoll(text, NULL, 10);
}

static uint64_t mix(uint64_t digest, uint64_t value) {
    digest = (digest ^ value) * 0x9fb21c651e98df25u;
    return digest ^ (digest >> 32);
}

static uint64_t mix_value(uint64_t digest, const struct value *value) {
    uint64_t words[3] = {value->present ? value->length + 1u : 0};
    if (value->present) memcpy(words, value->bytes, value->length < 16 ? value->length : 16);
    return mix(mix(mix(digest, words[0]), words[1]), value->present ? value->length : 99u);
}

/* What key holds at `time_us`. */
static struct value look(const struct machine *machine, uint32_t key, uint64_t time_us) {
    if (key == MACHINE_EXPIRES && time_us >= machine->expires_us) return (struct value){0};
    return machine->keys[key];
}

static void increment(struct machine *machine, const struct command *command, const struct value *old,
                      struct result *result) {
    int64_t sum = number_of_value(old) + command->amount;
    if (sum > NUMBER_MAX || sum < -NUMBER_MAX) {
        result->refused = true;
        return;
    }
    machine->keys[command->key] = value_of_number(sum);
    result->answer = sum;
}

static void append(struct machine *machine, const struct command *command, const struct value *old,
                   struct result *result) {
    size_t length = old->present ? old->length : 0;
    if (length + command->value.length > MACHINE_VALUE_BYTES) {
        result->refused = true;
        return;
    }
    struct value joined = *old;
    joined.present = true;
    joined.length = (uint8_t)(length + command->value.length);
    memcpy(joined.bytes + length, command->value.bytes, command->value.length);
    machine->keys[command->key] = joined;
    result->answer = joined.length;
}

static struct result run(struct machine *machine, uint64_t time_us, const struct command *command) {
    struct result result = {0};
    struct value old = look(machine, command->key, time_us);
    switch (command->op) {
    case COMMAND_GET:
        result.got = old;
        break;
    case COMMAND_SET:
        machine->keys[command->key] = command->value;
        if (command->key == MACHINE_EXPIRES) machine->expires_us = time_us + command->ttl_us;
        break;
    case COMMAND_DEL:
        result.answer = old.present;
        machine->keys[command->key] = (struct value){0};
        break;
    case COMMAND_CAS:
        result.answer = value_equal(&old, &command->expected);
        if (result.answer == 1) machine->keys[command->key] = command->value;
        break;
    case COMMAND_INCR:
        increment(machine, command, &old, &result);
        break;
    case COMMAND_APPEND:
        append(machine, command, &old, &result);
        break;
    }
    return result;
}

enum machine_outcome machine_find(const struct machine *machine, const struct command *command,
                                  struct result *result) {
    const struct session *session = &machine->sessions[command->client];
    if (command->number > session->number) return MACHINE_DONE;
    if (command->number < session->number) return MACHINE_FORGOTTEN;
    *result = session->result;
    return MACHINE_REPEAT;
}

bool machine_has_expired(const struct machine *machine, uint64_t time_us) {
    return machine->keys[MACHINE_EXPIRES].present && time_us >= machine->expires_us;
}

enum machine_outcome machine_execute(struct machine *machine, const struct machine_step *step,
                                     struct result *result) {
    sk_assert(step->index == machine->applied_index + 1);
    machine->applied_index = step->index;
    enum machine_outcome outcome = MACHINE_DONE;
    *result = (struct result){0};
    if (step->sweep && machine_has_expired(machine, step->time_us)) {
        machine->keys[MACHINE_EXPIRES] = (struct value){0};
    }
    if (step->command != NULL) {
        if (!step->nameless) outcome = machine_find(machine, step->command, result);
        if (outcome == MACHINE_DONE) { /* R10: checked and stored in the step that executes */
            *result = run(machine, step->time_us, step->command);
            machine->sessions[step->command->client] = (struct session){step->command->number, *result};
        }
    }
    uint64_t digest = mix(mix(mix(machine->digest, step->index), step->epoch), step->time_us);
    digest = mix(mix(digest, outcome), (uint64_t)result->answer * 2 + result->refused);
    for (uint32_t key = 0; key < MACHINE_KEYS; key++) digest = mix_value(digest, &machine->keys[key]);
    machine->digest = digest;
    return outcome;
}

struct result machine_read(const struct machine *machine, const struct command *command, uint64_t time_us) {
    return (struct result){.got = look(machine, command->key, time_us)};
}
