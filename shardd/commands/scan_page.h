/* What SCAN, HSCAN, SSCAN and ZSCAN have in common: the options MATCH and COUNT, and the limits of a page. Nothing is kept from one
 * page to the next. A cursor is a place in an order of hashes, which no change moves, so Redis's promise holds under changes:
 * what is there from the first page to the last is seen. */
#pragma once

#include "shardd/commands/call.h"

struct scan_options {
    int64_t count; /* examine so many */
    bool matches;
    struct slice pattern;
};

/* Reads options from argument `at` on. `other` (may be NULL) is asked for those that are not common: false = a syntax error.
 * SK_OK, SK_BADREQUEST or SK_TOOLARGE (told). */
struct scan_others {
    bool (*read_cb)(struct scan_others *others, struct slice word, struct slice argument);
};
int scan_read_options(struct call *call, size_t at, struct scan_others *others, struct scan_options *options);

/* What a page has come to. Its items are gathered in the exec's scratch, since the cursor stands before them in the answer. */
struct scan_page {
    struct buffer *items; /* as MessagePack */
    uint32_t item_count;
    int64_t examined;
    uint64_t work;
    uint64_t position; /* of what was examined last */
    uint64_t next;     /* the cursor that follows; 0 = the end */
};

void scan_page_start(struct call *call, struct scan_page *page);
/* Whether the page ends before what lies at `position`, which is then the next cursor. */
bool scan_page_ends(struct scan_page *page, const struct scan_options *options, uint64_t position);
/* Counts what lies at `position` as examined; answers whether its name is wanted: the caller adds the items then. */
bool scan_page_wants(struct scan_page *page, const struct scan_options *options, uint64_t position,
                     struct slice name);
int scan_page_answer(struct call *call, const struct scan_page *page);

/* HSCAN and its like, whole: the named elements of the collection at the first argument, the cursor being the second. Of each
 * that is wanted `add_cb` adds the items; it answers how many, 0 of what is damaged. */
int scan_elements(struct call *call, uint8_t type,
                  uint32_t (*add_cb)(struct buffer *items, struct slice name, struct slice value));
