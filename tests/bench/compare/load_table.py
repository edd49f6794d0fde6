"""The table of what is measured. Every contestant of a load makes the same promise when it answers, so that classes are not mixed;
where one cannot, the load's text says so. The first one is what the others are compared with."""

import dataclasses
from typing import Callable

from disk import Disk
from systems import BareChain, Etcd, Nutcracker, Redis, RedisDirect, Skerry, SkerryResp

LONG_S = 60  # a load that outlasts checkpoints and the rewriting of files


@dataclasses.dataclass(frozen=True)
class Measure:
    name: str
    reads: int = 0  # percent
    in_flight: int = 64  # requests at once; 0: nothing is asked, the system is only watched
    connections: int = 64
    batch: int = 1
    whole_batches: bool = False
    seconds: int = None  # None: as the command line says
    compared: str = "per_second"  # the figure that ratios are of


@dataclasses.dataclass(frozen=True)
class Contestant:
    name: str
    system: Callable  # of a directory
    changes: dict = dataclasses.field(default_factory=dict)  # of the load's or the measure's settings, where these are what is compared


@dataclasses.dataclass(frozen=True)
class Load:
    name: str
    title: str
    promise: str
    measures: tuple
    contestants: tuple
    keys: int = 100_000
    value_bytes: int = 100
    fresh: bool = False  # every round on new data, and no start between loading and measuring


WRITES = Measure("writes")
READS = Measure("reads", reads=100)
BATCHED_WRITES = Measure("batches of 16 writes", in_flight=50, connections=50, batch=16, seconds=LONG_S)
BATCHED_READS = Measure("batches of 100 reads", reads=100, in_flight=50, connections=50, batch=100)
ONE_WRITE = Measure("writes, one in flight", in_flight=1, connections=1, compared="p50_ms")
IDLE = Measure("idle", in_flight=0, connections=0, seconds=30, compared="private_mb")

THREE_COPIES = "three copies, all synced before the answer"
SKERRY = Contestant("Skerry", Skerry)
ETCD_3 = Contestant("etcd, 3 members", lambda directory: Etcd(directory, 3))
REDIS_WAIT = Contestant("Redis, 2 replicas, WAIT 2", lambda directory: Redis(directory, "always", replicas=2, wait=2))
BARE = Contestant("bare chain", BareChain)


def skerry(name, **changes):
    return Contestant(name, Skerry, changes)


def resp(name, batch, reads):
    return Measure(name, reads=reads, in_flight=50, connections=50, batch=batch)


LOADS = [
    Load("writes", "Unbatched writes, 64 in flight", THREE_COPIES, (WRITES,), (SKERRY, ETCD_3, REDIS_WAIT, BARE)),
    Load("write-latency", "Unbatched writes, one in flight", THREE_COPIES, (ONE_WRITE,), (SKERRY, ETCD_3, REDIS_WAIT, BARE)),
    Load("batched-writes", "Batches of 16 writes over 50 connections",
         THREE_COPIES + "; etcd: each batch a transaction; Redis: a WAIT behind each batch", (BATCHED_WRITES,),
         (SKERRY, ETCD_3, REDIS_WAIT), keys=1_000_000),
    Load("reads", "Linearizable reads, unbatched, 64 in flight",
         "linearizable; Redis: of its one primary, which does not know whether another has taken its place", (READS,),
         (SKERRY, ETCD_3, REDIS_WAIT, BARE)),
    Load("batched-reads", "Linearizable reads, batches of 100 over 50 connections",
         "linearizable; etcd: each batch a transaction; Redis: of its one primary, which does not know whether another has taken its place",
         (BATCHED_READS,), (SKERRY, ETCD_3, REDIS_WAIT), keys=1_000_000),
    Load("resp", "Redis's protocol, 50 connections, redis-benchmark",
         "Skerry: three copies synced; Redis: one copy synced, and two replicas that get it a moment later",
         (resp("writes", 1, 0), resp("reads", 1, 100), resp("writes, pipelines of 16", 16, 0), resp("reads, pipelines of 16", 16, 100)),
         (Contestant("Skerry", SkerryResp),
          Contestant("Redis, 2 replicas", lambda directory: RedisDirect(directory, "always", replicas=2)),
          Contestant("Redis, 2 replicas, behind nutcracker", lambda directory: Nutcracker(directory, "always", replicas=2)))),
    Load("mixed", "Reads beside writes: batches of 16 over 50 connections", THREE_COPIES + "; latencies are those of reads",
         (Measure("reads beside writes", reads=90, in_flight=50, connections=50, batch=16, compared="p99_ms"),),
         (skerry("10 % writes, in batches of their own", whole_batches=True), skerry("only reads", reads=100), skerry("10 % writes, in all batches")),
         keys=1_000_000),
    Load("keys", "10,000,000 keys beside 100,000", THREE_COPIES, (READS, WRITES, BATCHED_READS, BATCHED_WRITES),
         (skerry("10,000,000 keys", keys=10_000_000), skerry("100,000 keys", keys=100_000))),
    Load("large-values", "Values of 1 MiB, 16 in flight", THREE_COPIES + " on one disk; the disk: a sixth of its rate of synced writes of 1 MiB",
         (Measure("writes", in_flight=16, connections=16),), (SKERRY, Contestant("a sixth of the disk", lambda directory: Disk(directory, 6))),
         keys=200, value_bytes=1 << 20),
    Load("idle", "A whole cluster that nobody asks anything", THREE_COPIES, (IDLE,),
         (SKERRY, ETCD_3, REDIS_WAIT), keys=1_000_000, fresh=True),
    Load("one-copy-unsynced", "One copy, 64 in flight", "one copy, synced within a second after the answer", (READS, WRITES),
         (Contestant("Skerry, 1 node", lambda directory: Skerry(directory, ["--nodes", 1, "--durability", "interval"])),
          Contestant("Redis", lambda directory: Redis(directory, "everysec")),
          Contestant("bare chain, 1 server", lambda directory: BareChain(directory, servers=1, synced=False, copies=1)))),
    Load("one-copy-synced", "One copy, 64 in flight", "one copy, synced before the answer", (READS, WRITES),
         (Contestant("Skerry, 1 node", lambda directory: Skerry(directory, ["--nodes", 1])),
          Contestant("Redis", lambda directory: Redis(directory, "always")),
          Contestant("etcd, 1 member", lambda directory: Etcd(directory, 1)),
          Contestant("bare chain, 1 server", lambda directory: BareChain(directory, servers=1, copies=1)))),
]
