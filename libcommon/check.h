/* Assertions that stay on in release builds. They are for our own mistakes; bytes from wire or disk get an error. */
#pragma once

/* Writes where and what failed to stderr and aborts. */
_Noreturn void check_failed(const char *file, int line, const char *condition);

#define sk_assert(condition) ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition))
