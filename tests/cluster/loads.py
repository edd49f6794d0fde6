"""A load of all data types: players who share the keys of invariants.py and of fodder.py, and a giant (giants.py)."""

import collections
import itertools
import random
import secrets

from asking import Asker
from fodder import Fodder
from giants import ELEMENTS, Giant
from harness import PATIENCE_S, Client
from http_client import HttpClient
from invariants import INVARIANTS, WAITING
from replicas import tag_of

OLD_WRITES = 100  # of each player; one of them is asked for again
REPEAT_ONE_IN = 20  # steps
FODDERS = 2
FODDER_STEPS = 0.4  # how many of all
FINISHING_S = 300  # the giant may be at its first element when all should rest


class Player(Asker):
    """One client, which does one step after the other on what there is."""

    def __init__(self, number, make_client, run, seed, timeout_ms, resolves):
        super().__init__(make_client, timeout_ms, resolves)
        self.number = number
        self.run_name = run  # ids of other runs are other ids
        self.chance = random.Random(seed)
        self.numbers = itertools.count(1)
        self.old_writes = collections.deque(maxlen=OLD_WRITES)
        self.steps = 0
        self.invariants, self.fodder = [], []

    def work(self):
        try:
            while not self.stopping.is_set():
                self.chance.choice(self.fodder if self.chance.random() < FODDER_STEPS else self.invariants).step(self)
                self.steps += 1
                if self.old_writes and self.chance.randrange(REPEAT_ONE_IN) == 0:
                    command, name, result, options = self.chance.choice(self.old_writes)
                    self.repeat(command, name, result, **options)
        finally:
            self.client.close()

    def unique(self):
        """Unlike all else in this run; the player's later ones have larger numbers."""
        return f"{self.number}-{next(self.numbers)}".encode()

    def new_name(self):
        """An id."""
        return f"{self.run_name}-{self.unique().decode()}"

    def doubts(self):
        """How often it has not been answered so far."""
        return self.errors["LOST"] + self.errors["TIMEOUT"]

    def write(self, command, name=None, insists=False, **options):
        name = name or self.new_name()
        outcome, result = self.ask(command, name, insists=insists, **options)
        if outcome == "done" and self.resolves and not (command[0] in WAITING and result is None):
            self.old_writes.append((command, name, result, options))
        return outcome, result

    def read(self, command, **options):
        return self.ask(command, None, **options)


class TypesLoad:
    """`start`, `operations`, `rest`, `read_back` and `give_up` as a Workload has them (history.py)."""

    def __init__(self, cluster, shards, seed, players=6, giants=3, giant_elements=ELEMENTS, timeout_ms=1500):
        self.nng = [gateway.flag("--listen") for gateway in cluster.gateways]
        self.http = [gateway.flag("--http-listen") for gateway in cluster.gateways]
        self.timeout_ms = timeout_ms
        print("types seed", seed)
        chance = random.Random(seed)
        run = secrets.token_hex(4)
        tags = (f"{run}:{{{tag_of(shard, shards)}}}" for shard in itertools.cycle(chance.sample(range(shards), shards)))
        self.invariants = [kind(f"{next(tags)}:{kind.__name__}") for kind in INVARIANTS]
        self.fodder = [Fodder(f"{next(tags)}:fodder{i}") for i in range(FODDERS)]
        self.players = [Player(number, self.clients_from(number, HttpClient if number % 3 == 1 else Client), run, f"{seed}-{number}",
                               timeout_ms, resolves=number % 3 != 2) for number in range(players)]
        for player in self.players:
            player.invariants, player.fodder = self.invariants, self.fodder
        self.giant = Giant(self.clients_from(players), [f"{next(tags)}:giant{i}" for i in range(giants)],
                           random.Random(f"{seed}-giants"), timeout_ms, giant_elements)

    def clients_from(self, number, kind=Client):
        """What makes connections to one gateway after the other, by one of their doors."""
        addresses = self.http if kind is HttpClient else self.nng
        turns = itertools.islice(itertools.cycle(addresses), number % len(addresses), None)
        return lambda: kind(next(turns), timeout_ms=self.timeout_ms + 3000)

    def start(self):
        for invariant in self.invariants:
            invariant.prepare(self.players[0])
        for asker in self.askers():
            asker.start()
        return self

    def askers(self):
        return [*self.players, self.giant]

    def operations(self):
        """How many steps. A player that failed fails here."""
        for asker in self.askers():
            asker.check()
        return sum(player.steps for player in self.players)

    def rest(self):
        self.give_up()
        for asker in self.askers():
            asker.join(FINISHING_S)
            assert not asker.is_alive(), "a client of the types does not end"
        self.operations()

    def read_back(self):
        """Nobody writes any more: what is there is what was acknowledged."""
        with Client(self.nng[0]) as client:
            def read(command, **options):
                return client(*command, timeout_ms=PATIENCE_S * 1000, **options)
            for invariant in self.invariants:
                invariant.check(read)

    def give_up(self):
        for asker in self.askers():
            asker.stopping.set()

    def errors(self):
        return sum((asker.errors for asker in self.askers()), collections.Counter())
