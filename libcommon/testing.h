/* For tests: cmocka with what it needs, and a look at what a piece of code wrote to stdout or stderr. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* For a test with a directory of its own: set up and tear down. `*state` is its path. */
static inline int testing_make_directory(void **state) {
    char *directory = strdup("/tmp/skerry-test-XXXXXX");
    *state = directory;
    return directory != NULL && mkdtemp(directory) != NULL ? 0 : -1;
}

static inline int testing_remove_directory(void **state) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", (char *)*state);
    free(*state);
    return system(command);
}

struct capture {
    int fd;    /* the descriptor that is redirected */
    int saved; /* what it was */
    FILE *file;
};

/* From here on `fd` (1 or 2) writes into a file. */
static inline void capture_begin(struct capture *capture, int fd) {
    fflush(NULL);
    capture->fd = fd;
    capture->saved = dup(fd);
    capture->file = tmpfile();
    if (capture->saved < 0 || capture->file == NULL || dup2(fileno(capture->file), fd) < 0) abort();
}

/* What has come since; `room` gets a string. The descriptor is itself again. */
static inline size_t capture_end(struct capture *capture, char *room, size_t size) {
    fflush(NULL);
    if (dup2(capture->saved, capture->fd) < 0) abort();
    close(capture->saved);
    rewind(capture->file);
    size_t got = fread(room, 1, size - 1, capture->file);
    room[got] = '\0';
    fclose(capture->file);
    return got;
}

/* How often `part` stands in `text`. */
static inline size_t count_of(const char *text, const char *part) {
    size_t count = 0;
    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part)) count++;
    return count;
}
