#include "libcommon/scheduling.h"

#include "libcommon/log.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

void scheduling_use(enum scheduling scheduling) {
    if (scheduling == SCHEDULING_NORMAL) return;
    struct sched_param parameter = {0};
    if (sched_setscheduler(0, SCHED_BATCH, &parameter) == 0) return;
    log_event(LOG_INFO, "not_scheduled_as_batch", "error=%s", strerror(errno));
}
