#include "log.h"

#include "clock.h"
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A longer line is cut: it stays one write, and what a pipe takes whole (PIPE_BUF). */
#define LINE_BYTES_MAX 4096u

static const char *const level_names[] = {
    [LOG_ERROR] = "error",
    [LOG_WARNING] = "warning",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
};

/* Set once before other threads start, read by all. */
static const char *log_daemon = "skerry";
static enum log_level log_most = LOG_INFO;

void log_init(const char *daemon, enum log_level most) {
    log_daemon = daemon;
    log_most = most;
}

int log_level_parse(const char *text, enum log_level *level) {
    for (size_t i = 0; i < sizeof level_names / sizeof level_names[0]; i++) {
        if (strcmp(text, level_names[i]) != 0) continue;
        *level = (enum log_level)i;
        return SK_OK;
    }
    return SK_ECONFIG;
}

/* How much snprintf put into `room` bytes, given what it answered. */
static size_t printed_bytes(int answer, size_t room) {
    if (answer < 0 || room == 0) return 0;
    return (size_t)answer < room ? (size_t)answer : room - 1;
}

static size_t print_head(char *line, size_t room, enum log_level level, const char *event) {
    uint64_t now_us = clock_realtime_us();
    time_t seconds = (time_t)(now_us / 1000000u);
    struct tm date;
    gmtime_r(&seconds, &date);
    size_t size = strftime(line, room, "%Y-%m-%dT%H:%M:%S", &date);
    int answer = snprintf(line + size, room - size, ".%06uZ level=%s daemon=%s event=%s",
                          (unsigned)(now_us % 1000000u), level_names[level], log_daemon, event);
    return size + printed_bytes(answer, room - size);
}

/* A line that is not written whole is lost: there is nowhere to tell it. */
static void write_line(const char *line, size_t size) {
    ssize_t written;
    do {
        written = write(STDERR_FILENO, line, size);
    } while (written < 0 && errno == EINTR);
}

void log_event(enum log_level level, const char *event, const char *format, ...) {
    if (level > log_most) return;
    int saved_errno = errno;
    char line[LINE_BYTES_MAX];
    size_t size = print_head(line, sizeof line, level, event);
    if (format[0] != '\0' && size + 2 < sizeof line) {
        line[size++] = ' ';
        va_list arguments;
        va_start(arguments, format);
        int answer = vsnprintf(line + size, sizeof line - size, format, arguments);
        va_end(arguments);
        size_t printed = printed_bytes(answer, sizeof line - size);
        for (size_t i = size; i < size + printed; i++) {
            if (line[i] == '\n' || line[i] == '\r') line[i] = ' ';
        }
        size += printed;
    }
    line[size++] = '\n'; /* in place of the final 0 */
    write_line(line, size);
    errno = saved_errno;
}

/* One byte of quoted text into `escape`; returns how many characters. */
static size_t escape_byte(unsigned char byte, char escape[5]) {
    if (byte == '"' || byte == '\\') return (size_t)snprintf(escape, 5, "\\%c", byte);
    if (byte == '\n') return (size_t)snprintf(escape, 5, "\\n");
    if (byte < 0x20 || byte >= 0x7f) return (size_t)snprintf(escape, 5, "\\x%02x", byte);
    return (size_t)snprintf(escape, 5, "%c", byte);
}

const char *log_quote(const char *text, char *room, size_t size) {
    if (size < 3) { /* no place for two quotes and the final 0 */
        if (size > 0) room[0] = '\0';
        return room;
    }
    size_t used = 0;
    room[used++] = '"';
    for (; *text != '\0'; text++) {
        char escape[5];
        size_t count = escape_byte((unsigned char)*text, escape);
        if (used + count + 2 > size) break;
        memcpy(room + used, escape, count);
        used += count;
    }
    room[used++] = '"';
    room[used] = '\0';
    return room;
}
