/* The commands that the gateway answers by itself: PING ECHO TIME COMMAND. Pure but for the clock of TIME. */
#pragma once

#include "gateway/message.h"
#include "libcommon/buffer.h"

/* Answers `sub`, a valid COMMAND_GATEWAY command: appends the result to `result` and returns SK_OK; or
 * SK_BADREQUEST with `text` set to why. `now_us` is since 1970. */
int local_answer(const struct sub *sub, uint64_t now_us, struct buffer *result, const char **text);
