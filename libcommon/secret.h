/* Secrets in files: what metad's servers share (--secret-file), what clients show (--token-file). White space at the end of
 * the file, or of a line, does not count. Read once at start; then any thread. */
#pragma once

#include "buffer.h"

#include <stdbool.h>

#define SECRET_BYTES_MIN 16u
#define SECRET_BYTES_MAX 4096u
#define TOKENS_MAX       16u

/* Appends what is in the file at `path`. SK_ECONFIG: `text` says what is wrong, and names `flag` and the file. SK_ENOMEM. */
int secret_read(struct buffer *secret, const char *flag, const char *path, char *text, size_t text_bytes);

/* The tokens in a file, one a line, each of SECRET_BYTES_MIN to SECRET_BYTES_MAX bytes; empty lines are skipped. Who checks takes
 * any of them, so that the next can be in use before the last is taken away; who shows one shows the first. */
struct tokens;

/* SK_ECONFIG, SK_ENOMEM: as above. */
int tokens_read(struct tokens **tokens, const char *flag, const char *path, char *text, size_t text_bytes);
void tokens_free(struct tokens *tokens); /* NULL is allowed */

/* Whether it is one of them. How long that takes tells nothing but how long they are. */
bool tokens_match(const struct tokens *tokens, struct slice shown);

/* The first; lives as long as the tokens. */
struct slice tokens_first(const struct tokens *tokens);
