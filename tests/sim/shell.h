/* The shell of the core in a simulated process: feeds it events and does what it asks for (shardd/replica.h). host.c calls,
 * in a step of the process. */
#pragma once

#include "tests/sim/host.h"

/* Opening: the replica as the drive has it. */
void shell_open(struct sim *sim, struct host *host);

/* Who this process is, once metad has said so. */
void shell_identify(struct sim *sim, struct host *host);

/* One mail. Its parcel is kept, and then set to NULL, or stays the caller's. */
void shell_take(struct sim *sim, struct host *host, struct mail *mail);

/* The end of a step. False: there is more to execute. */
bool shell_finish_step(struct sim *sim, struct host *host);

/* The process has gone. */
void shell_close(struct sim *sim, struct host *host);
