/* For tests: the definition of linearizability, tried word by word. Every order that time allows is done on the plain model,
 * without any idea of how to be quick; for histories of a few operations. */
#pragma once

#include "check.h"

#define REFERENCE_OPS_MAX 16

bool reference_is_linearizable(const struct check_op *ops, size_t count);
