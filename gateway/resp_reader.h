/* Takes commands off the bytes that a client of the Redis protocol sends: arrays of bulk strings, and inline commands.
 * Incremental: bytes may come in any pieces. What is broken gets Redis's words (https://redis.io/docs/reference/protocol-spec
 * and what redis-server 7 answers). The bytes are not trusted, and no declared length makes anything be allocated. Pure; one
 * thread at a time. */
#pragma once

#include "libcommon/buffer.h"

#define RESP_WORDS_MAX        20001u       /* of a command: its name and as many arguments as a shard takes */
#define RESP_INLINE_BYTES_MAX (64u * 1024) /* of an inline command, and of a line that tells a length */

/* Of a client that has not proved itself yet. */
#define RESP_STRANGER_WORDS_MAX 10u
#define RESP_STRANGER_WORD_MAX  16384u

enum resp_event {
    RESP_MORE,    /* the command is not whole yet */
    RESP_COMMAND, /* `words` has it */
    RESP_BROKEN,  /* `error` says what is wrong; nothing more can be read */
    RESP_NO_MEMORY,
};

/* A command that was taken off. Large: one serves all connections of a thread. */
struct resp_command {
    struct slice words[RESP_WORDS_MAX]; /* borrowed from the input, or from the reader, until the next call */
    uint32_t count;                     /* at least 1 */
    const char *error;                  /* "Protocol error: …" */
};

struct resp_span;

/* Of one connection; embedded. */
struct resp_reader {
    size_t command_bytes_max;

    /* private: of the command at hand */
    struct resp_span *spans; /* owned: the words so far, as places in the input */
    uint32_t span_capacity;
    uint32_t words;      /* so many spans */
    uint32_t words_left; /* of an array; 0: its first line is not read yet */
    bool in_word;        /* the length of the next word is read: */
    uint32_t word_bytes;
    size_t at;          /* how far into the input it was understood */
    size_t searched;    /* and how far behind that there is no end of a line */
    struct buffer line; /* an inline command's words without their quotes */
};

void resp_reader_init(struct resp_reader *reader, size_t command_bytes_max);
void resp_reader_deinit(struct resp_reader *reader);

/* Looks for a command at the start of `input`, which begins with the first byte that was not taken off before, and has what an
 * earlier call has seen unchanged. `taken`: so many bytes are to be left out from now on, when the words are no longer
 * needed; with RESP_MORE it may be what stands before the command. `stranger`: only small commands are read. */
enum resp_event resp_reader_next(struct resp_reader *reader, struct slice input, bool stranger,
                                 struct resp_command *command, size_t *taken);
