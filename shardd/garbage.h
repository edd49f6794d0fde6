/* Elements of collections that are gone. Who removes or overwrites a collection drops its head, and so it is gone for
 * everybody; a few elements go at once, and of more the id is noted as garbage in the state: 0x51 ‖ id (8 bytes), with
 * the key of the last element that was removed as its value. Sweeps, which are entries of the log, take them away in
 * portions (exec_sweep). So removing a million elements costs its caller what removing one does, and all replicas remove
 * the same at the same entry. Only the shard's lane calls. */
#pragma once

#include "shardd/exec.h"

/* The elements under `id` have no head any more. SK_OK or a fault. */
int garbage_add(struct exec *exec, uint64_t id);

/* Removes the next elements, at most `limit`. SK_OK or a fault. */
int garbage_sweep(struct exec *exec, uint32_t limit);
