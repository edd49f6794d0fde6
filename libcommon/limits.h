/* The limits of the contract (docs/protocol.md), in one place and tied together. */
#pragma once

#define KEY_BYTES_MAX         65536u              /* 64 KiB */
#define VALUE_BYTES_MAX       (16u * 1024 * 1024) /* 16 MiB */
#define MESSAGE_BYTES_MAX     (64u * 1024 * 1024) /* 64 MiB, requests and replies */
#define MESSAGE_COMMANDS_MAX  10000u              /* commands or keys in one message */
#define SCAN_COUNT_MAX        10000u
#define ELEMENTS_CHANGED_MAX  50000u  /* of sorted sets, by one command: well within a lease */
#define ELEMENTS_MET_MAX      250000u /* by one command that combines sorted sets, or copies a collection */
#define ID_BYTES_MAX          64u     /* the option `id` */
#define RESULT_KEPT_BYTES_MAX 4096u   /* a larger result of a named write is not kept: DONE */
#define TIMEOUT_MS_DEFAULT    5000u
#define TIMEOUT_MS_MAX        60000u
#define WAIT_SLICE_MS         1000u /* a blocking command waits so long at a shard, then the gateway asks again */
#define SHARD_COUNT_MAX       16384u

/* Bytes of a frame between daemons, by the largest item it must carry: one message of a client and its header. */
#define FRAME_BYTES_MAX (MESSAGE_BYTES_MAX + 65536u)

_Static_assert(KEY_BYTES_MAX + VALUE_BYTES_MAX < MESSAGE_BYTES_MAX, "one SET must fit in a message");
