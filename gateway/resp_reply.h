/* Replies in the Redis protocol, RESP2 and RESP3, and how a result of the contract (docs/protocol.md, "Results") becomes one.
 * Appends to a buffer, where a failed allocation shows. Pure; one thread at a time. */
#pragma once

#include "libcommon/commands.h"
#include "libcommon/mp.h"

enum resp_protocol { RESP2 = 2, RESP3 = 3 };

void resp_write_status(struct buffer *out, const char *text);
/* What stands in `text` for control characters is a blank. */
void resp_write_error(struct buffer *out, const char *prefix, struct slice text);
void resp_write_int(struct buffer *out, int64_t number);
void resp_write_bulk(struct buffer *out, struct slice bytes);
void resp_write_text(struct buffer *out, const char *text); /* a bulk */
void resp_write_nil(struct buffer *out, enum resp_protocol protocol);
void resp_write_nil_array(struct buffer *out, enum resp_protocol protocol);
void resp_write_array(struct buffer *out, uint32_t count);
/* Pairs follow: a map, or an array of twice as many. */
void resp_write_map(struct buffer *out, enum resp_protocol protocol, uint32_t pairs);
/* Text for people: verbatim in RESP3. */
void resp_write_verbatim(struct buffer *out, enum resp_protocol protocol, struct slice text);

/* As Redis 7.0 prints it: with 17 digits, where it takes so many. */
#define RESP_DOUBLE_BYTES 40u
struct slice resp_print_double(double real, char room[RESP_DOUBLE_BYTES]);

/* How the results of a command are told: its COMMAND_REPLY_ flags, as far as `words` (with the name) do not change them. */
unsigned resp_reply_flags(const struct command *command, uint32_t words);

/* One result, by the COMMAND_REPLY_ flags of its command. SK_OK; SK_EPROTO, and what was appended is of no use. */
int resp_write_result(struct buffer *out, enum resp_protocol protocol, unsigned flags, struct slice result);

/* [code, text] of the contract. What was read may lie anywhere. SK_OK, SK_EPROTO. */
int resp_write_contract_error(struct buffer *out, struct mp_reader *error);
