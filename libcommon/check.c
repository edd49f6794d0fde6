#include "check.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void check_failed(const char *file, int line, const char *condition) {
    fprintf(stderr, "event=assertion_failed file=%s line=%d condition=\"%s\"\n", file, line, condition);
    abort();
}
