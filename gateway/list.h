/* A doubly linked list whose links live in its members: adding and removing cost nothing and cannot fail. The loop
 * thread only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct link {
    struct link *before, *after; /* NULL: in no list */
};

struct list {
    struct link head; /* private: a ring through the head */
};

#define list_entry(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

static inline void list_init(struct list *list) { list->head.before = list->head.after = &list->head; }

static inline bool list_empty(const struct list *list) { return list->head.after == &list->head; }

static inline bool link_in_list(const struct link *link) { return link->after != NULL; }

static inline void list_add_last(struct list *list, struct link *link) {
    link->before = list->head.before;
    link->after = &list->head;
    link->before->after = link;
    list->head.before = link;
}

/* Does nothing to a link that is in no list. */
static inline void list_remove(struct link *link) {
    if (link->after == NULL) return;
    link->before->after = link->after;
    link->after->before = link->before;
    link->before = link->after = NULL;
}

/* NULL when empty. */
static inline struct link *list_first(const struct list *list) {
    return list_empty(list) ? NULL : list->head.after;
}

/* NULL after the last. */
static inline struct link *list_next(const struct list *list, const struct link *link) {
    return link->after == &list->head ? NULL : link->after;
}

/* Appends all of `from` to `list`, in order; `from` is empty afterwards. */
static inline void list_move_all(struct list *list, struct list *from) {
    if (list_empty(from)) return;
    from->head.after->before = list->head.before;
    list->head.before->after = from->head.after;
    from->head.before->after = &list->head;
    list->head.before = from->head.before;
    list_init(from);
}
