/* How much room the file system of a directory has, for a page of metrics. A thread asks it now and then: a disk that hangs, or a file
 * system whose server has gone, keeps who asks waiting, and that must not be the thread that makes the pages. */
#pragma once

#include "libcommon/buffer.h"

#define DISK_SPACE_EACH_MS 2000u
#define DISK_SPACE_OLD_MS  30000u /* figures that are older are told no more */

struct disk_space;

/* Begins to ask; `directory` is borrowed until the end. NULL: there is no memory or no thread, and pages go without. */
struct disk_space *disk_space_open(const char *directory);

/* Waits until the thread has ended: for as long as the disk hangs. NULL is fine. */
void disk_space_close(struct disk_space *space);

/* The families about it; none where nothing is known. Never waits. Any thread. */
void disk_space_write(struct disk_space *space, struct buffer *page);
