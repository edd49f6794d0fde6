"""Clients that count, and bear no error."""

from harness import Background, Client, wait_for


class Counter(Background):
    """Increments a key in each shard in turn, under ids, with the gateway's own deadline (5 s). It tries again what surely
    has not happened, and takes no other error."""

    def __init__(self, address, name, tags):
        super().__init__()
        self.client = Client(address)
        self.name = name
        self.keys = [f"{name}:{{{tag}}}" for tag in tags]
        self.counts = dict.fromkeys(self.keys, 0)
        self.rounds = 0

    def count(self, key):
        number = f"{key}:{self.counts[key]}"
        while True:
            error, result = self.client.ask("INCR", key, id=number)
            if error is None:
                break
            assert error[0] == "UNAVAILABLE", f"{key}: {error}"
        self.counts[key] += 1
        assert result == self.counts[key], f"{key} is {result} after {self.counts[key]} increments"

    def work(self):
        while not self.stopping.is_set():
            for key in self.keys:
                self.count(key)
            self.rounds += 1

    def stop(self):
        self.finish()
        for key, count in self.counts.items():
            assert self.client("GET", key) == str(count).encode(), key
        self.client.close()


def wait_for_rounds(counters, more=2):
    """Everybody has written to every shard."""
    targets = [counter.rounds + more for counter in counters]
    wait_for(lambda: all(counter.failure or counter.rounds >= target for counter, target in zip(counters, targets)),
             "every shard takes writes")
    for counter in counters:
        counter.check()
