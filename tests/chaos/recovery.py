"""How long after the last fault has healed every shard takes writes again."""

import itertools
import time

import pynng

from harness import Background, Client
from replicas import tag_of

TRY_MS = 500  # the deadline of a try
PAUSE_S = 0.03  # between two
OK = "OK"


class Prober(Background):
    """Writes to one shard all the time, through one gateway and then the next when there is no answer."""

    def __init__(self, addresses, shard, key):
        super().__init__()
        self.shard = shard
        self.key = key
        self.addresses = itertools.islice(itertools.cycle(addresses), shard % len(addresses), None)
        self.tries = []  # of (when it was answered, what with); "OK" was acknowledged

    def work(self):
        client = self.make_client()
        while not self.stopping.wait(PAUSE_S):
            try:
                error, _ = client.ask("SET", self.key, "probe", timeout_ms=TRY_MS)
            except pynng.exceptions.NNGException as failure:
                self.tries.append((time.monotonic(), f"{type(failure).__name__} from {client.address}"))
                client.close()
                client = self.make_client()
                continue
            self.tries.append((time.monotonic(), OK if error is None else " ".join(error)))
        client.close()

    def make_client(self):
        return Client(next(self.addresses), timeout_ms=TRY_MS + 200)

    def first_after(self, time_s):
        return next((answered_s for answered_s, answer in self.tries if answered_s >= time_s and answer == OK), None)

    def story_after(self, time_s):
        """What came before the first write after that time."""
        first_s = self.first_after(time_s) or time.monotonic()
        return [f"{answered_s - time_s:.2f} s: {answer}" for answered_s, answer in self.tries if time_s <= answered_s <= first_s]


class Probers:
    """One for every shard."""

    def __init__(self, addresses, shards):
        self.probers = [Prober(addresses, shard, f"probe:{{{tag_of(shard, shards)}}}") for shard in range(shards)]
        for prober in self.probers:
            prober.start()

    def recovered_after(self, time_s):
        """Of every shard, how long after that time it took a write; None if some have not yet."""
        for prober in self.probers:
            prober.check()
        firsts = [prober.first_after(time_s) for prober in self.probers]
        return None if None in firsts else [first - time_s for first in firsts]

    def stories_after(self, time_s, seconds):
        """Of the shards that took no write for so long after that time, what was answered instead."""
        late = [prober for prober in self.probers if (prober.first_after(time_s) or float("inf")) - time_s > seconds]
        return "\n".join(f"shard {prober.shard}: {', '.join(prober.story_after(time_s))}" for prober in late)

    def finish(self):
        for prober in self.probers:
            prober.stopping.set()
        for prober in self.probers:
            prober.finish()
