/* What LMPOP and ZMPOP and their blocking forms say from numkeys on: numkeys key … end [COUNT count]. */
#pragma once

#include "shardd/commands/call.h"

struct multiple_pop {
    const struct slice *keys; /* of the call's arguments */
    size_t key_count;
    bool from_last; /* from the end that the second word names */
    int64_t count;
};

/* `at`: the argument numkeys; `first`, `last`: the words for the ends, in upper case. SK_OK or SK_BADREQUEST (told). */
int multiple_pop_read(struct call *call, size_t at, const char *first, const char *last,
                      struct multiple_pop *wanted);
