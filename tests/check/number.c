#include "number.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

size_t number_print(int64_t number, char *room) {
    char text[NUMBER_TEXT_MAX + 1];
    int size = snprintf(text, sizeof text, "%" PRId64, number);
    memcpy(room, text, (size_t)size);
    return (size_t)size;
}

/* A text is an integer if the integer is written like that. */
bool number_parse(struct slice text, int64_t *number) {
    char room[NUMBER_TEXT_MAX + 1], again[NUMBER_TEXT_MAX];
    if (text.size == 0 || text.size >= sizeof room) return false;
    memcpy(room, text.data, text.size);
    room[text.size] = '\0';
    errno = 0;
    long long parsed = strtoll(room, NULL, 10);
    if (errno != 0) return false;
    *number = parsed;
    return slice_equal(text, slice_of(again, number_print(parsed, again)));
}
