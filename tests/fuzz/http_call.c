/* Whatever the head and body of a request say: it becomes a message, or an answer; and whatever a reply says becomes an
 * answer. The input has lines: method, target, a line for each header field ("-": none), and then the body, which is the reply,
 * too. */
#include "gateway/http_call.h"
#include "libcommon/check.h"
#include "libcommon/error.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *text_of(struct slice line) {
    char *text = malloc(line.size + 1);
    sk_assert(text != NULL);
    if (line.size > 0) memcpy(text, line.data, line.size);
    text[line.size] = '\0';
    return text;
}

static void answer(const struct http_call *call, struct slice reply) {
    struct http_answer answer = {.status = 200, .type = "text/plain"};
    buffer_init(&answer.body);
    http_call_answer(call, reply, &answer);
    sk_assert(answer.status >= 200 && answer.status < 600);
    sk_assert(answer.type != NULL || answer.body.size == 0);
    buffer_deinit(&answer.body);
}

static void check_message(struct slice message) {
    struct mp_reader reader = mp_reader_of(message);
    uint32_t five;
    sk_assert(mp_read_array(&reader, &five) == SK_OK && five == 5);
    for (uint32_t i = 0; i < five; i++) sk_assert(mp_skip(&reader, NULL) == SK_OK);
    sk_assert(mp_left(&reader) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice rest = slice_of(data, size), method, target, line;
    const struct http_rules rules = {.hosts = "db.example.com", .message_bytes_max = size};
    (void)slice_cut(&rest, '\n', &method);
    if (!slice_cut(&rest, '\n', &target)) return 0;
    char *method_text = text_of(method), *target_text = text_of(target);
    struct http_head head = {.method = method_text, .target = target_text};
    for (size_t i = 0; i < FIELD_COUNT; i++) buffer_init(&head.fields[i]);
    for (size_t i = 0; i < FIELD_COUNT && slice_cut(&rest, '\n', &line) && line.size > 0; i++) {
        head.counts[i] = line.data[0] == '-' ? 0 : 1;
        if (head.counts[i] > 0) buffer_append(&head.fields[i], line.data, line.size);
    }
    struct http_call call;
    struct buffer message;
    buffer_init(&message);
    http_call_init(&call, &head, &rules);
    if (http_call_asks(&call)) http_call_message(&call, rest, &message);
    if (http_call_asks(&call)) check_message(buffer_slice(&message));
    answer(&call, rest);
    answer(&call, buffer_slice(&message));
    http_call_deinit(&call);
    for (size_t i = 0; i < FIELD_COUNT; i++) buffer_deinit(&head.fields[i]);
    buffer_deinit(&message);
    free(method_text);
    free(target_text);
    return 0;
}
