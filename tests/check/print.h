/* Operations and values as a person reads them. */
#pragma once

#include "check.h"

/* Like printf; behind what the buffer holds. */
void print_format(struct buffer *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "text", with what is not printable as \x00; of a long one the begin and the end. */
void print_bytes(struct buffer *text, struct slice bytes);

/* Likewise, or nil. */
void print_value(struct buffer *text, const struct check_value *value);

/* One line: times, client, operation, answer. */
void print_op(struct buffer *text, const struct check_op *op);
