"""How early something may expire: a shard's time may be ahead of the clock, as far as its leaders have logged when they began.

What the code does (R26): an epoch's time begins where that of the one before may have been, and a bit later to be sure; what it
is ahead of the clock by then it gives back by going slower, an eighth. A process that has started knows no more than the
latest time of all shards of its lane; so the most advanced one may lift the others."""

import bisect
import datetime
import re
import time
import typing

# So far may an epoch begin beyond the most advanced one: the grace time, and the age of the time that a restart finds on
# disk (shardd/replica.h); and what it takes to write a line.
JUMP_US = 700_000 + 1_500_000 + 100_000
SLOWER_BY = 8
BEGUN = re.compile(r"^(\S+) .* event=role shard=(\d+) role=(?:starting|leader) epoch=(\d+) index=\d+ ahead_us=(\d+)$", re.MULTILINE)


class Epoch(typing.NamedTuple):
    began: int  # as the history has times: microseconds, monotonic
    number: int
    ahead_us: int

    def ahead_at(self, time_us):
        """At least."""
        return max(0, self.ahead_us - max(0, time_us - self.began) // SLOWER_BY)


def parse(text):
    """{shard: {number of an epoch: Epoch}}; times in microseconds since 1970."""
    epochs = {}
    for stamp, shard, number, ahead_us in BEGUN.findall(text):
        began = datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00"))
        epoch = Epoch(round(began.timestamp() * 1e6), int(number), int(ahead_us))
        epochs.setdefault(int(shard), {}).setdefault(epoch.number, epoch)  # the first line about it
    return epochs


class Leads:
    """Of a cluster's shards: its epochs."""

    def __init__(self, texts, offset_us=None):
        """From the logs of all nodes. `offset_us`: of the wall clock from the history's."""
        if offset_us is None:
            offset_us = round((time.time() - time.monotonic()) * 1e6)
        epochs = {}
        for text in texts:
            for shard, found in parse(text).items():
                epochs.setdefault(shard, {}).update(found)
        self.epochs = {shard: sorted(epoch._replace(began=epoch.began - offset_us) for epoch in found.values())
                       for shard, found in epochs.items()}
        self.check()

    @classmethod
    def of(cls, cluster):
        return cls(node.log.read_text(errors="replace") for node in cluster.nodes + cluster.spares if node.log.exists())

    def check(self):
        """What leaders say of themselves is as far as it may be."""
        most_us = 0  # in all that began before; what is given back again does not matter
        for epoch in sorted(epoch for found in self.epochs.values() for epoch in found):
            assert epoch.ahead_us <= most_us + JUMP_US, f"{epoch} is further ahead than {most_us} allows"
            most_us = max(most_us, epoch.ahead_us)

    def early_us(self, shard, begin_us, end_us, due_us):
        """By how much what is given a life between `begin_us` and `end_us` may be gone before it is due, by a clock: by as
        much as a later epoch was further ahead."""
        epochs = self.epochs.get(shard, [])
        first = max(0, bisect.bisect_right(epochs, begin_us, key=lambda epoch: epoch.began) - 1)
        before = [epoch for epoch in epochs[first:] if epoch.began <= max(begin_us, end_us)]
        later = [epoch for epoch in epochs[first + 1:] if epoch.began <= due_us]
        if not later:
            return 0
        least_us = min((epoch.ahead_at(end_us) for epoch in before), default=0)
        return max(0, max(epoch.ahead_us for epoch in later) - least_us)
