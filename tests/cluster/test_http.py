"""What daemons tell over HTTP: health, readiness, metrics."""

import signal
import subprocess

import pytest

from counters import Counter, wait_for_rounds
from harness import BINARIES, PATIENCE_S, Client, Cluster, wait_for
from replicas import Replicas, tag_of

SHARDS = 8


@pytest.fixture
def cluster(tmp_path):
    cluster = Cluster(tmp_path, nodes=3, shards=SHARDS, metads=1)
    cluster.start()
    yield cluster
    cluster.kill_all()


def is_ready(daemon):
    return daemon.page("/readyz") == (200, "ok\n")


def waits_for(daemon, reason):
    wait_for(lambda: daemon.page("/readyz") == (503, f"{reason}\n"), f"{daemon.name} says {reason}")


def test_every_daemon_becomes_ready(cluster):
    for daemon in [cluster.metad, *cluster.nodes, cluster.gateway]:
        wait_for(lambda daemon=daemon: is_ready(daemon), f"{daemon.name} is ready")
        assert daemon.page("/healthz") == (200, "ok\n")
        assert daemon.page("/nothing")[0] == 404
        assert daemon.metrics()["skerry_ready"] == 1


def test_metrics_count_what_happens(cluster):
    gateway, before = cluster.gateway, cluster.gateway.metrics()
    reads = sum(node.metrics()["skerry_read_duration_seconds_count"] for node in cluster.nodes)
    with Client(cluster.address) as client:
        for number in range(20):
            client("SET", f"key-{number}", "value")
            client("GET", f"key-{number}")
        assert client.ask("INCR", "key-0")[0][0] == "BADVALUE"
        client("batch", ["SET", ["a", 1]], ["GET", ["a"]], ["NONSENSE", []])
        assert client.ask("GET")[0][0] == "BADREQUEST"
    told = {name: value - before.get(name, 0) for name, value in gateway.metrics().items()}
    assert told['skerry_commands_total{command="set",outcome="ok"}'] == 21
    assert told['skerry_commands_total{command="get",outcome="ok"}'] == 21
    assert told['skerry_commands_total{command="incr",outcome="badvalue"}'] == 1
    assert told['skerry_commands_total{command="invalid",outcome="badrequest"}'] == 1
    assert told['skerry_requests_refused_total{code="badrequest"}'] + \
        told.get('skerry_commands_total{command="get",outcome="badrequest"}', 0) == 1
    assert told['skerry_request_duration_seconds_count{class="write"}'] == 22
    assert told['skerry_request_duration_seconds_count{class="read"}'] == 20
    assert told['skerry_requests_total{door="nng"}'] == 43
    assert 0 < told["skerry_request_frames_total"] <= told["skerry_request_frame_commands_total"]
    assert gateway.metrics()["skerry_node_connections"] == 3

    def nodes_know():  # what lanes publish is up to a tick old, or more if they have to wait for a processor
        nodes = [node.metrics() for node in cluster.nodes]
        written = sum(node['skerry_writes_total{lane="0"}'] for node in nodes)
        return nodes if written == 22 and not any(node["skerry_lagging_replicas"] for node in nodes) else None
    nodes = wait_for(nodes_know, "every write is told of, and all replicas are in sync")
    assert sum(node["skerry_leading_shards"] for node in nodes) == SHARDS
    for stage in ("queue", "log", "replicate", "execute"):
        name = f'skerry_write_stage_duration_seconds_count{{stage="{stage}"}}'
        assert sum(node[name] for node in nodes) == 22
    assert sum(node["skerry_read_duration_seconds_count"] for node in nodes) == reads + 21
    for node in nodes:
        assert node["skerry_replicas"] == SHARDS
        led = [name for name in node if name.startswith("skerry_shard_lease_margin_seconds")]
        assert len(led) == node["skerry_leading_shards"]
        assert all(0 < node[name] <= 0.5 for name in led)
        assert node["skerry_peer_connections"] == node["skerry_peers"] == 2

    metad = cluster.metad.metrics()
    assert metad['skerry_cluster_nodes{state="alive"}'] == 3
    assert metad["skerry_cluster_shards"] == SHARDS
    assert metad["skerry_metad_leads"] == 1


def test_what_is_missing_is_said(cluster):
    """And a daemon that is alive and waits is healthy."""
    first = cluster.nodes[0]
    for node in cluster.nodes:
        node.stop()
    cluster.metad.stop()
    first.start()
    waits_for(first, "metad has not registered it yet")
    assert first.page("/healthz") == (200, "ok\n")
    cluster.metad.start()
    wait_for(lambda: first.page("/readyz")[1].endswith("replicas here are not in sync\n"), "it waits for the others")
    wait_for(lambda: cluster.metad.metrics()["skerry_cluster_shards_unwritable"] > 0 or
             cluster.metad.metrics()["skerry_cluster_shards_degraded"] == SHARDS, "shards are told of")
    for node in cluster.nodes[1:3]:
        node.start()
    for daemon in [cluster.metad, *cluster.nodes, cluster.gateway]:
        wait_for(lambda daemon=daemon: is_ready(daemon), f"{daemon.name} is ready")


def test_start_order_does_not_matter(tmp_path):
    cluster = Cluster(tmp_path, nodes=3, shards=SHARDS, metads=3)
    try:
        cluster.gateway.start()
        waits_for(cluster.gateway, "metad has not sent a map yet")
        cluster.nodes[0].start()
        waits_for(cluster.nodes[0], "metad has not registered it yet")
        cluster.metads[2].start()
        waits_for(cluster.metads[2], "no server of the group leads, as far as is known here")
        for daemon in [*cluster.nodes[1:3], *cluster.metads[:2]]:
            daemon.start()
        for daemon in [*cluster.metads, *cluster.nodes, cluster.gateway]:
            wait_for(lambda daemon=daemon: is_ready(daemon), f"{daemon.name} is ready")
    finally:
        cluster.kill_all()


def test_skerry_health(cluster):
    def health(*words):
        return subprocess.run([BINARIES["skerry"], "health", *words], capture_output=True, text=True, check=False)
    wait_for(lambda: is_ready(cluster.gateway), "the gateway is ready")
    url = cluster.gateway.flag("--http-listen")
    assert (health(f"{url}/readyz").returncode, health(f"{url}/readyz").stdout) == (0, "ok\n")
    assert health(f"{url}/nothing").returncode == 1
    assert health("tcp://127.0.0.1:1").returncode == 2
    cluster.gateway.signal(signal.SIGSTOP)
    assert health("--timeout", "100ms", f"{url}/readyz").returncode == 3
    cluster.gateway.signal(signal.SIGCONT)
    cluster.gateway.stop()
    assert health(f"{url}/readyz").returncode == 3


def test_sigterm_hands_over_what_is_led(cluster):
    """Each node in turn is ended and started again under clients: nobody sees an error, nor waits for a failover."""
    replicas = Replicas(cluster)
    counters = [Counter(cluster.address, f"counter-{number}", [tag_of(shard, SHARDS) for shard in range(SHARDS)]) for number in range(4)]
    for counter in counters:
        counter.start()
    for node in cluster.nodes:
        replicas.wait_in_sync()
        wait_for(lambda node=node: is_ready(node), f"{node.name} is ready")
        wait_for_rounds(counters)
        assert node.stop() == 0
        assert " left=0 " in node.log.read_text(errors="replace").rsplit("event=handed_over", 1)[1]
        wait_for_rounds(counters)
        node.start()
    for counter in counters:
        counter.stop()


def test_a_cluster_that_ends_as_a_whole_does_not_wait_long(cluster):
    """Nobody is left to take over: each gives up."""
    for node in cluster.nodes:
        node.end()
    for node in cluster.nodes:
        assert node.reap(PATIENCE_S) == 0
        assert node.said("event=handed_over")
