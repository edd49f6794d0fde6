#include "secret.h"

#include "error.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_BYTES_MAX (TOKENS_MAX * (SECRET_BYTES_MAX + 2u))

struct tokens {
    struct buffer bytes; /* of the file; the tokens point into it */
    struct slice list[TOKENS_MAX];
    uint32_t count;
};

static size_t trimmed(const uint8_t *bytes, size_t size) {
    while (size > 0 && bytes[size - 1] != 0 && strchr(" \t\r\n", bytes[size - 1]) != NULL) size--;
    return size;
}

static bool is_long_enough(size_t size) { return size >= SECRET_BYTES_MIN && size <= SECRET_BYTES_MAX; }

/* All of the file, up to one byte more than it may have. */
static int read_file(struct buffer *out, size_t bytes_max, const char *flag, const char *path, char *text,
                     size_t text_bytes) {
    size_t before = out->size;
    uint8_t *bytes = buffer_extend(out, bytes_max + 1);
    if (bytes == NULL) {
        (void)snprintf(text, text_bytes, "%s: %s", flag, error_text(SK_ENOMEM));
        return SK_ENOMEM;
    }
    FILE *file = fopen(path, "re");
    size_t size = file == NULL ? 0 : fread(bytes, 1, bytes_max + 1, file);
    bool failed = file == NULL || ferror(file) != 0;
    if (failed) (void)snprintf(text, text_bytes, "%s: %s: %s", flag, path, strerror(errno));
    if (file != NULL) (void)fclose(file);
    out->size = before + size;
    return failed ? SK_ECONFIG : SK_OK;
}

int secret_read(struct buffer *secret, const char *flag, const char *path, char *text, size_t text_bytes) {
    size_t before = secret->size;
    int err = read_file(secret, SECRET_BYTES_MAX, flag, path, text, text_bytes);
    if (err != SK_OK) return err;
    bool fits = secret->size - before <= SECRET_BYTES_MAX;
    size_t size = trimmed(secret->data + before, secret->size - before);
    secret->size = before + size;
    if (fits && is_long_enough(size)) return SK_OK;
    (void)snprintf(text, text_bytes, "%s: %s: a secret has %u to %u bytes", flag, path, SECRET_BYTES_MIN,
                   SECRET_BYTES_MAX);
    return SK_ECONFIG;
}

/* Finds the lines. SK_ECONFIG: one of them is no token, there is none, or there are too many. */
static int split(struct tokens *tokens) {
    struct slice rest = buffer_slice(&tokens->bytes), line;
    for (bool more = true; more;) {
        more = slice_cut(&rest, '\n', &line);
        line.size = trimmed(line.data, line.size);
        if (line.size == 0) continue;
        if (!is_long_enough(line.size) || tokens->count == TOKENS_MAX) return SK_ECONFIG;
        tokens->list[tokens->count++] = line;
    }
    return tokens->count > 0 ? SK_OK : SK_ECONFIG;
}

int tokens_read(struct tokens **tokens, const char *flag, const char *path, char *text, size_t text_bytes) {
    struct tokens *made = calloc(1, sizeof *made);
    if (made == NULL) {
        (void)snprintf(text, text_bytes, "%s: %s", flag, error_text(SK_ENOMEM));
        return SK_ENOMEM;
    }
    int err = read_file(&made->bytes, FILE_BYTES_MAX, flag, path, text, text_bytes);
    if (err == SK_OK && (made->bytes.size > FILE_BYTES_MAX || split(made) != SK_OK)) {
        (void)snprintf(text, text_bytes, "%s: %s: a token has %u to %u bytes; one a line, up to %u of them", flag,
                       path, SECRET_BYTES_MIN, SECRET_BYTES_MAX, TOKENS_MAX);
        err = SK_ECONFIG;
    }
    if (err != SK_OK) {
        tokens_free(made);
        return err;
    }
    *tokens = made;
    return SK_OK;
}

void tokens_free(struct tokens *tokens) {
    if (tokens == NULL) return;
    if (tokens->bytes.data != NULL) sodium_memzero(tokens->bytes.data, tokens->bytes.capacity);
    buffer_deinit(&tokens->bytes);
    free(tokens);
}

bool tokens_match(const struct tokens *tokens, struct slice shown) {
    bool match = false;
    for (uint32_t i = 0; i < tokens->count; i++) { /* all of them, whichever it is */
        struct slice token = tokens->list[i];
        match |= token.size == shown.size && sodium_memcmp(token.data, shown.data, token.size) == 0;
    }
    return match;
}

struct slice tokens_first(const struct tokens *tokens) {
    return tokens->list[0];
}
