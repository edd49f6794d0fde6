/* The PULL socket to which shardds push their answers: bytes of frames, handed to the loop one by one. The loop
 * thread only, but for the callbacks inside, which post. */
#pragma once

#include "libcommon/mailbox.h"
#include "libcommon/slice.h"

struct door_frames;

struct door_frames_handler {
    void *arg;
    /* An answer frame; the bytes are borrowed until it returns. `pipe` names the connection it came by. */
    void (*frame_cb)(void *arg, struct slice frame, int pipe);
    /* That connection is gone. */
    void (*lost_cb)(void *arg, int pipe);
};

/* Listens at `address` (cluster_net.h). SK_ENOMEM; SK_ECONFIG, with the reason in `text` of `text_bytes`. */
int door_frames_open(struct door_frames **door, struct mailbox *mailbox, const char *address,
                     const struct door_frames_handler *handler, char *text, size_t text_bytes);

/* Where it listens: as given, with the port that the system chose for 0. */
const char *door_frames_address(const struct door_frames *door);

/* No frame arrives afterwards; posts may still be in the mailbox, and do nothing. */
void door_frames_close(struct door_frames *door);
void door_frames_free(struct door_frames *door); /* after close, when the mailbox has been emptied */
