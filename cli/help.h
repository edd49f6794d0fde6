/* `skerry --help` and `skerry help COMMAND`, read off the command table, and what the prompt completes. One
 * thread. */
#pragma once

#include "libcommon/commands.h"

/* Name, arity, keys and summary on stdout. SK_OK, SK_NOT_FOUND. */
int help_print_command(struct slice name);

/* Every command with its summary on stdout. */
void help_print_commands(void);

/* The `at`th option word of a command: the words of capitals after the ';' of its summary. Empty when there are no
 * more. */
struct slice help_option(const struct command *command, size_t at);
