#include "wait_time.h"

#include "error.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>

/* What follows knows no other locale than this: a static object of the C library. */
static locale_t plain_locale(void) { return newlocale(LC_ALL_MASK, "C", (locale_t)0); }

bool real_parse(struct slice text, long double *number) {
    char room[REAL_TEXT_MAX];
    if (text.size == 0 || text.size >= sizeof room) return false;
    memcpy(room, text.data, text.size);
    room[text.size] = '\0';
    if (room[0] == ' ' || (room[0] >= '\t' && room[0] <= '\r')) return false;
    char *end;
    errno = 0;
    long double parsed = strtold_l(room, &end, plain_locale());
    if (end != room + text.size || isnan(parsed)) return false;
    if (errno == ERANGE && (isinf(parsed) || parsed == 0)) return false;
    *number = parsed;
    return true;
}

/* What is beyond 2^63 ms is negative to Redis 7.0. */
int wait_time_read(struct slice word, uint64_t *wait_ms, const char **text) {
    long double seconds;
    if (!real_parse(word, &seconds)) {
        *text = "timeout is not a float or out of range";
        return SK_BADREQUEST;
    }
    long double ms = ceill(seconds * 1000);
    if (!(ms >= 0 && ms < 0x1p63L)) {
        *text = "timeout is negative";
        return SK_BADREQUEST;
    }
    *wait_ms = ms == 0 ? WAIT_FOR_EVER : (uint64_t)ms;
    return SK_OK;
}
