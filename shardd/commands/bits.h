/* What commands on bits share. */
#pragma once

#include "shardd/commands/call.h"

#define BITS_OFFSET_MAX UINT32_MAX

/* An offset in bits: 0 to BITS_OFFSET_MAX. */
bool bits_parse_offset(struct slice text, uint64_t *offset);
int bits_refuse_offset(struct call *call);
