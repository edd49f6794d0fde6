#include "help.h"

#include "libcommon/error.h"

#include <stdio.h>

static bool is_option(struct slice word) {
    for (size_t i = 0; i < word.size; i++)
        if (word.data[i] < 'A' || word.data[i] > 'Z') return false;
    return word.size >= 2;
}

struct slice help_option(const struct command *command, size_t at) {
    const char *text = strchr(command->summary, ';');
    while (text != NULL && *text != 0) {
        text += strspn(text, "; ,.");
        struct slice word = slice_of(text, strcspn(text, "; ,."));
        text += word.size;
        if (is_option(word) && at-- == 0) return word;
    }
    return slice_of("", 0);
}

static void print_arguments(const struct command *command) {
    int least = command->arity < 0 ? -command->arity : command->arity;
    for (int word = 1; word < least; word++) printf(word == command->first_key ? " key" : " argument");
    if (command->arity < 0) printf(command->last_key == -1 && command->key_step == 1 ? " [key ...]" : " [...]");
}

int help_print_command(struct slice name) {
    const struct command *command = command_find(name);
    if (command == NULL) return SK_NOT_FOUND;
    printf("%s", command->name);
    print_arguments(command);
    printf("\n  %s\n", command->summary);
    if ((command->flags & COMMAND_WRITE) != 0)
        printf("  A write: sent with an id, so a retry takes effect once.\n");
    if ((command->flags & COMMAND_SPLIT) != 0)
        printf("  Its keys may lie in many shards; not atomic across them.\n");
    if ((command->flags & COMMAND_ALL_SHARDS) != 0) printf("  Adds up the answers of all shards.\n");
    return SK_OK;
}

void help_print_commands(void) {
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        printf("  %-12s %s\n", command_table[i].name, command_table[i].summary);
}
