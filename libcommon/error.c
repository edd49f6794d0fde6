#include "error.h"

#include <errno.h>
#include <string.h>

const char *error_name(int err) {
    switch (err) {
    case SK_OK:
        return "OK";
#define X(symbol, code, name, outcome, text)                                                                      \
    case symbol:                                                                                                  \
        return name;
        SK_CLIENT_ERRORS(X)
        SK_DAEMON_ERRORS(X)
        SK_FAULTS(X)
#undef X
    default:
        return "UNKNOWN";
    }
}

const char *error_text(int err) {
    switch (err) {
    case SK_OK:
        return "no error";
#define X(symbol, code, name, outcome, text)                                                                      \
    case symbol:                                                                                                  \
        return text;
        SK_CLIENT_ERRORS(X)
        SK_DAEMON_ERRORS(X)
        SK_FAULTS(X)
#undef X
    default:
        return "an error code this version does not know";
    }
}

enum sk_outcome error_outcome(int err) {
    switch (err) {
#define X(symbol, code, name, outcome, text)                                                                      \
    case symbol:                                                                                                  \
        return outcome;
        SK_CLIENT_ERRORS(X)
        SK_DAEMON_ERRORS(X)
        SK_FAULTS(X)
#undef X
    default:
        return SK_UNKNOWN;
    }
}

bool error_is_for_clients(int err) { return err > 0 && err <= SK_CLIENT_LAST; }

int error_from_errno(int number) {
    switch (number) {
    case ENOMEM:
        return SK_ENOMEM;
    case ENOSPC:
    case EDQUOT:
        return SK_ENOSPC;
    default:
        return SK_EIO;
    }
}

int error_from_name(const char *name, size_t name_bytes) {
#define X(symbol, code, text_name, outcome, text)                                                                 \
    if (name_bytes == sizeof text_name - 1 && memcmp(name, text_name, name_bytes) == 0) return symbol;
    SK_CLIENT_ERRORS(X)
    SK_DAEMON_ERRORS(X)
    SK_FAULTS(X)
#undef X
    return SK_EUNEXPECTED;
}
