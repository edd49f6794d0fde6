/* Logging: one line an event on stderr, `key=value`, keys in fixed order:
 *   2026-01-31T12:00:00.000000Z level=info daemon=shardd event=checkpoint_done lane=0 entries=1200
 * Values are printf-formatted by the caller; text that may hold spaces or quotes goes through log_quote. Any thread;
 * a line is written whole by one write. */
#pragma once

#include <stddef.h>

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

/* Once at start, before other threads. `daemon` is static. */
void log_init(const char *daemon, enum log_level most);

/* "error", "warning", "info", "debug" to a level: SK_OK or SK_ECONFIG. */
int log_level_parse(const char *text, enum log_level *level);

/* `event` is a stable id such as "checkpoint_done"; `format` gives the other keys ("" for none). */
void log_event(enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* `text` in double quotes, with \" \\ \n \xNN escapes, cut to fit `room` of `size` bytes. Returns `room`. */
const char *log_quote(const char *text, char *room, size_t size);
