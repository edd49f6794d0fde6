/* The interactive prompt: line editing and history (~/.skerry_history) by libedit, completion from the command
 * table. One thread. */
#pragma once

#include "session.h"

/* Reads commands until Ctrl-D, `quit` or `exit`. `address` is shown before the cursor. Never returns EXIT_USAGE.
 */
enum exit_code prompt_run(struct session *session, const char *address);
