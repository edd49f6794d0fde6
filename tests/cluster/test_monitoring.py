"""Metrics as Prometheus sees them: the files under deploy/ against a real one, and a cluster that fails."""

import re
import subprocess

import msgpack
import pytest

from harness import ROOT, Cluster, wait_for
from monitoring import GIVEN_BY_PROMETHEUS, RULES, Prometheus, dashboard_expressions, names_in, target_of

SHARDS = 8
DEPLOY = ROOT / "deploy" / "prometheus"


@pytest.fixture
def cluster(tmp_path):
    cluster = Cluster(tmp_path / "cluster", nodes=3, shards=SHARDS, metads=1).start()
    yield cluster
    cluster.kill_all()


@pytest.fixture
def prometheus(tmp_path, cluster):
    prometheus = Prometheus(tmp_path / "prometheus", cluster)
    prometheus.start()
    yield prometheus
    prometheus.stop()


def promtool(*words, **options):
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def some_traffic(client):
    """Of every kind: reads, writes, messages for no shard, and errors."""
    for number in range(20):
        client("SET", f"key-{number}", "value")
        client("GET", f"key-{number}")
    client.ask("GET", "key-0", read="follower")
    client("batch", ["SET", ["a", 1]], ["GET", ["a"]], ["NONSENSE", []])
    client("PING")
    assert client.ask("INCR", "key-0")[0][0] == "BADVALUE"
    assert msgpack.unpackb(client.raw(b"nonsense"))[2][0] == "BADREQUEST"


def test_promtool_accepts_the_files():
    for name in ("prometheus.yml", "compose.yml"):
        promtool("check", "config", DEPLOY / name)
    promtool("test", "rules", DEPLOY / "alerts_test.yml")


def test_every_alert_is_explained():
    """In the table of docs/operations.md, whose links lead somewhere."""
    text = (ROOT / "docs" / "operations.md").read_text()
    named = re.findall(r"^\| `(Skerry\w+)` \|", text, re.MULTILINE)
    assert named == re.findall(r"- alert: (\w+)", RULES.read_text())
    sections = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^## (.+)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= sections


def test_promtool_has_no_complaint_about_the_pages(cluster):
    with cluster.client() as client:
        some_traffic(client)
    for daemon in cluster.daemons():
        assert promtool("check", "metrics", input=daemon.page("/metrics")[1]) == "", daemon.name


def test_names_are_found_in_expressions():
    assert names_in('sum by (le, a_label) (rate(a_b:c{x="not_this{", y=~".*"}[5m])) / on (cluster) group_left () d > 1e3 '
                    'and e offset 1m unless f == bool 1') == {"a_b:c", "d", "e", "f"}


def test_dashboard_and_rules_name_what_there_is(cluster, prometheus):
    """Every name is on some page. Prometheus evaluates each expression, and those of the dashboard show something."""
    with cluster.client() as client:
        some_traffic(client)
        there = {name.partition("{")[0] for daemon in cluster.daemons() for name in daemon.metrics()} | GIVEN_BY_PROMETHEUS
        rules = wait_for(lambda: (rules := prometheus.rules()) and all(rule["health"] != "unknown" for rule in rules) and rules,
                         "every rule has been evaluated")
        for rule in rules:
            assert rule["health"] == "ok", rule
            assert names_in(rule["query"]) <= there, rule["query"]

        def shows(expression):
            return prometheus.query(expression) or some_traffic(client)
        for expression in dashboard_expressions():
            assert names_in(expression) <= there, expression
            if "ALERTS" in expression:  # of which there should be none
                prometheus.query(expression)
            else:
                wait_for(lambda expression=expression: shows(expression), expression)


# They tell of a slow machine, which one that runs tests may be, rather than of what was done to the cluster.
OF_SPEED = {"SkerryLatencyHigh", "SkerryLeaseMarginLow", "SkerryExecutionBehind", "SkerryCommitsStuck", "SkerryMetadDiskSlow",
            "SkerryClocksDiffer", "SkerryMapOld"}


def told_of(prometheus):
    return {alert for alert in prometheus.alerts() if alert[0] not in OF_SPEED}


def test_alerts_fire_and_resolve(cluster, prometheus):
    wait_for(lambda: len(prometheus.query('up == 1')) == len(cluster.daemons()), "every daemon is scraped")
    wait_for(lambda: told_of(prometheus) == set(), "nothing fires")

    node = cluster.nodes[0]
    node.kill()
    wait_for(lambda: told_of(prometheus) == {("SkerryDaemonDown", target_of(node)), ("SkerryNodeDead", ""),
                                             ("SkerryShardsDegraded", "")}, "a dead node is told of, and nothing else")
    node.start()
    wait_for(lambda: told_of(prometheus) == set(), "all is well again")

    for node in cluster.nodes[:2]:
        node.kill()
    with cluster.client() as client:
        def alerts():
            for number in range(SHARDS):
                client.ask("SET", f"key-{number}", "value", timeout_ms=100)
            return {name for name, _ in prometheus.alerts()}
        wait_for(lambda: alerts() >= {"SkerryShardsUnwritable", "SkerryCommandsFail"}, "clients are refused, and that is told of")
    cluster.nodes[2].kill()
    wait_for(lambda: ("SkerryShardsLeaderless", "") in prometheus.alerts(), "nobody can lead, and that is told of")
    cluster.metad.kill()
    cluster.gateway.kill()
    wait_for(lambda: {("SkerryMetadNoLeader", ""), ("SkerryNoGateway", ""), ("SkerryDaemonDown", target_of(cluster.metad))} <=
             prometheus.alerts(), "nobody is left to tell, and that is told of")
