/* The history of one key, made ready for a search: each operation reduced to what it asks of the value and makes of it,
 * and everything that can be known before the search starts.
 *
 * Operations become steps of fewer kinds. A DEL that found nothing and a CAS that changed nothing are reads; an INCR that
 * answered 5 is a CAS from "4" to "5". Unknown reads are left out. The history is not kept, but its bytes are used. */
#pragma once

#include "appends.h"
#include "check.h"

enum step_kind {
    STEP_READ,   /* the value is `from` */
    STEP_DIFFER, /* the value is anything but `from` */
    STEP_PUT,    /* any value becomes `to` */
    STEP_DROP,   /* any value but nil becomes nil */
    STEP_SWAP,   /* `from` becomes `to`, another value */
    STEP_ADD,    /* INCR; if known, of nil or `from` (which is 0), which becomes `to` */
    STEP_APPEND, /* the piece comes behind; if known, then `bytes_after` is the new length */
};

#define STEP_GROUPLESS UINT32_MAX

struct step {
    enum step_kind kind;
    bool known;
    bool anonymous;       /* unknown append: its maker has no holder, so that only its length matters */
    uint32_t from, to;    /* values, where the kind has them */
    int64_t amount;       /* of an unknown add */
    struct slice piece;   /* of an append */
    uint64_t bytes_after; /* of a known append; else BYTES_ANY */
    uint32_t maker;       /* of an append: those of the same piece and bytes_after are one maker */
    uint32_t group;       /* known: a number shared with those that do the same; STEP_GROUPLESS = it is alone */
    uint32_t slot;        /* known: no two whose times overlap have the same one */
    uint32_t begin, end;  /* places in the one order of all begins and ends of the key; end only if known */
    uint32_t source;      /* place in the history */
};

/* Unknown steps that do the same: which of them is taken does not matter, so they are taken in the order of begin. */
struct step_group {
    uint32_t first, count; /* among the steps */
};

struct problem {
    struct values *values; /* owned */
    /* Owned: the known ones in the order of begin, then the unknown ones group by group, in each by begin. */
    struct step *steps;
    uint32_t step_count, known_count;
    struct step_group *groups; /* owned, in the order of their first begin */
    uint32_t group_count;
    uint32_t *places; /* owned: the step that begins or ends at each place */
    uint32_t place_count;
    uint32_t slot_count;
    struct appends appends;
    bool adds;         /* there are unknown adds */
    bool adds_only_up; /* none of them makes a number smaller */
    /* private */
    struct slice *named; /* owned array */
    char *numbers;       /* owned: texts of numbers that are named */
};

/* From the operations of one key, in any order. */
struct problem *problem_new(const struct check_op *ops, size_t count);
void problem_free(struct problem *problem);

/* What the step makes of a value. False: the value is not one that it can have met. */
bool step_apply(const struct step *step, struct values *values, uint32_t value, uint32_t *next);

static inline bool step_is_read(const struct step *step) {
    return step->kind == STEP_READ || step->kind == STEP_DIFFER;
}

/* The one value that the step must meet; VALUE_NONE if several would do. */
static inline uint32_t step_needs(const struct step *step) {
    return step->kind == STEP_READ || step->kind == STEP_SWAP ? step->from : VALUE_NONE;
}

/* The one value that the step makes, whatever it meets; VALUE_NONE if that depends. */
static inline uint32_t step_makes(const struct step *step) {
    switch (step->kind) {
    case STEP_PUT:
    case STEP_SWAP:
        return step->to;
    case STEP_DROP:
        return VALUE_NIL;
    case STEP_ADD:
        return step->known ? step->to : VALUE_NONE;
    default:
        return VALUE_NONE;
    }
}
