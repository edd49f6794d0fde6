"""Ways to set up a cluster that tests have in common."""

# Checkpoints come often and the log is given back at once, so that who was away for long finds it gone.
SHORT_LOG = ["--memtable-size", "256KiB", "--segment-size", "1MiB", "--checkpoint-interval", "300ms", "--log-keep", "1MiB"]

VARIANTS = {
    "one_lane": {},
    "lanes": {"lanes": (1, 2, 3)},
    "snapshots": {"shardd_flags": SHORT_LOG},
    "lanes_and_snapshots": {"shardd_flags": SHORT_LOG, "lanes": (1, 2, 3)},
}
