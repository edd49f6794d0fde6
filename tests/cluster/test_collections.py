"""Hashes and sets on several replicas: what is drawn by chance, and where elements lie, is the same on all of them, whatever each has
in its memtable and whatever in its store."""

import random

from replicas import Replicas

SETS, MEMBERS = 8, 6000
CHECKPOINTS = ["--checkpoint-interval", "200ms"]


def churn(client, dice, held):
    """A step on a random set: some members come, some are popped, by ones and by hundreds."""
    number = dice.randrange(SETS)
    key, members = f"set:{number}", held[number]
    if len(members) < MEMBERS and dice.random() < 0.4:
        new = {f"{dice.randrange(10 * MEMBERS)}".encode() for _ in range(dice.choice((1, 30, 2000)))}
        assert client("SADD", key, *new) == len(new - members)
        members |= new
    else:
        count = dice.choice((1, 1, 5, 50, 1500))
        popped = client("SPOP", key, count)
        assert len(set(popped)) == len(popped) == min(count, len(members)) and members.issuperset(popped)
        members.difference_update(popped)
    client("HSET", "hash", f"field{number}", len(members), f"passing{dice.random()}", "")
    passing = [field for field in client("HKEYS", "hash") if field.startswith(b"passing")]
    assert client("HDEL", "hash", *passing) == len(passing) == 1


def test_replicas_draw_the_same(make_cluster):
    cluster = make_cluster(shards=4, shardd_flags=CHECKPOINTS).start()
    replicas = Replicas(cluster)
    replicas.wait_in_sync()
    dice, held = random.Random(5), [set() for _ in range(SETS)]
    with cluster.client() as client:
        for node in cluster.nodes:
            for _ in range(320):  # in all enough for the hash's elements to get a new id
                churn(client, dice, held)
            node.kill()  # its successor goes on with what it drew
            for _ in range(100):
                churn(client, dice, held)
            node.start()
            replicas.wait_in_sync()
        for number, members in enumerate(held):
            assert set(client("SMEMBERS", f"set:{number}")) == members
            assert client("HGET", "hash", f"field{number}") == str(len(members)).encode()
    replicas.wait_level()
    replicas.verify()
