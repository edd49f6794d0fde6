#include "shardd/commands/scan_page.h"

#include "libcommon/error.h"
#include "shardd/collection.h"
#include "shardd/commands/glob.h"

#define COUNT_DEFAULT     10
#define PATTERN_BYTES_MAX 1024u

/* A page ends early (COUNT is a hint) when its items are this many bytes, or so many bytes of pattern and name were
 * laid against each other: a step of the lane stays short. */
#define PAGE_BYTES 1048576u
#define PAGE_WORK  8388608u

/* ---- options ---- */

static int read_count(struct call *call, struct slice text, int64_t *count) {
    if (!args_parse_int(text, count)) return call_refuse_not_int(call);
    if (*count < 1) return call_refuse_syntax(call);
    if (*count > (int64_t)SCAN_COUNT_MAX) {
        return call_refuse(call, SK_TOOLARGE, "COUNT is limited to %u", SCAN_COUNT_MAX);
    }
    return SK_OK;
}

static int read_pattern(struct call *call, struct slice pattern, struct scan_options *options) {
    if (pattern.size > PATTERN_BYTES_MAX) {
        return call_refuse(call, SK_TOOLARGE, "MATCH is limited to %u bytes", PATTERN_BYTES_MAX);
    }
    options->pattern = pattern;
    options->matches = !slice_equal(pattern, slice_of_text("*"));
    return SK_OK;
}

int scan_read_options(struct call *call, size_t at, struct scan_others *others, struct scan_options *options) {
    *options = (struct scan_options){.count = COUNT_DEFAULT};
    for (size_t i = at; i < call->count; i += 2) {
        struct slice word = call->args[i];
        if (i + 1 == call->count) return call_refuse_syntax(call);
        struct slice argument = call->args[i + 1];
        int err = SK_OK;
        if (args_is_word(word, "COUNT")) {
            err = read_count(call, argument, &options->count);
        } else if (args_is_word(word, "MATCH")) {
            err = read_pattern(call, argument, options);
        } else if (others == NULL || !others->read_cb(others, word, argument)) {
            err = call_refuse_syntax(call);
        }
        if (err != SK_OK) return err;
    }
    return SK_OK;
}

/* ---- pages ---- */

void scan_page_start(struct call *call, struct scan_page *page) {
    *page = (struct scan_page){.items = &call->exec->scratch};
    buffer_clear(page->items, PAGE_BYTES);
}

/* Never between those of one position: the cursor could not tell them apart. */
static bool is_full(const struct scan_page *page, const struct scan_options *options, uint64_t position) {
    if (page->examined == 0 || position == page->position) return page->items->size > RESULT_BYTES_MAX;
    return page->examined >= options->count || page->items->size >= PAGE_BYTES || page->work >= PAGE_WORK;
}

bool scan_page_ends(struct scan_page *page, const struct scan_options *options, uint64_t position) {
    if (!is_full(page, options, position)) return false;
    page->next = position;
    return true;
}

bool scan_page_wants(struct scan_page *page, const struct scan_options *options, uint64_t position,
                     struct slice name) {
    page->position = position;
    page->examined++;
    if (!options->matches) return true;
    page->work += options->pattern.size * name.size;
    return glob_match(options->pattern, name);
}

int scan_page_answer(struct call *call, const struct scan_page *page) {
    if (page->items->failed) return SK_ENOMEM;
    char text[ARGS_INT_TEXT_MAX];
    mp_write_array(call->answer, 2);
    mp_write_bin(call->answer, slice_of(text, args_print_uint(page->next, text)));
    mp_write_array(call->answer, page->item_count);
    mp_write_raw(call->answer, buffer_slice(page->items));
    return call_limit_answer(call);
}

/* ---- elements ---- */

typedef uint32_t (*add_cb)(struct buffer *items, struct slice name, struct slice value);

static int walk(struct call *call, uint64_t id, uint64_t from, const struct scan_options *options, add_cb add,
                struct scan_page *page) {
    struct element_walk walk;
    int err = element_walk_open(call->exec, id, from, &walk);
    if (err != SK_OK) return err;
    uint64_t position;
    struct slice name, value;
    while ((err = element_walk_next(&walk, &position, &name, &value)) == SK_OK) {
        if (scan_page_ends(page, options, position)) break;
        if (!scan_page_wants(page, options, position, name)) continue;
        uint32_t added = add(page->items, name, value);
        page->item_count += added;
        if (added > 0) continue;
        err = SK_ECORRUPT;
        break;
    }
    element_walk_close(&walk);
    return err == SK_NOT_FOUND ? SK_OK : err;
}

int scan_elements(struct call *call, uint8_t type, add_cb add) {
    uint64_t from;
    struct collection collection;
    struct scan_options options = {0};
    struct scan_page page;
    if (!args_parse_uint(call->args[1], &from)) return call_refuse(call, SK_BADREQUEST, "invalid cursor");
    int err = collection_find(call, call->args[0], type, &collection);
    if (err != SK_OK) return err;
    scan_page_start(call, &page);
    if (!collection.object.found)
        return scan_page_answer(call, &page); /* Redis does not look at the options then */
    err = scan_read_options(call, 2, NULL, &options);
    if (err != SK_OK) return err;
    if (from <= ELEMENT_POSITION_MAX) err = walk(call, collection.id, from, &options, add, &page);
    return err == SK_OK ? scan_page_answer(call, &page) : err;
}
