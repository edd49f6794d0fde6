/* A kv (kv.h) that lives in a memtable alone, without files: for tests of what executes against one. */
#pragma once

#include "shardd/kv.h"

/* SK_ENOMEM. */
int kv_new_memory(struct kv **kv);
void kv_free_memory(struct kv *kv); /* NULL is allowed */

/* How many deleted records iterators have met so far: what deletions cost those who walk. */
uint64_t kv_memory_passed(const struct kv *kv);
/* How many records iterators have given so far: what walks cost. */
uint64_t kv_memory_met(const struct kv *kv);
