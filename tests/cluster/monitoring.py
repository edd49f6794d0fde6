"""Debian's Prometheus, watching a cluster by the files under deploy/: the same scrape configuration and alert rules, made quick."""

import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request

from harness import PATIENCE_S, ROOT, free_ports, wait_for

CONFIG = ROOT / "deploy" / "prometheus" / "prometheus.yml"
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "skerry.json"
INTERVAL = "500ms"  # between scrapes, and between evaluations of the rules
GIVEN_BY_PROMETHEUS = {"up", "ALERTS"}
WORDS = {"and", "or", "unless", "bool", "offset"}  # of PromQL, that are not followed by a parenthesis


def target_of(daemon):
    return daemon.flag("--http-listen").removeprefix("http://")


def quick_config(cluster):
    """The configuration as it is, but for its intervals and each job's targets."""
    text = CONFIG.read_text()
    text, intervals = re.subn(r"_interval: 5s", f"_interval: {INTERVAL}", text)
    assert intervals == 2
    for kind, daemons in (("metad", cluster.metads), ("shardd", cluster.nodes), ("gateway", cluster.gateways)):
        targets = json.dumps([target_of(daemon) for daemon in daemons])
        text, jobs = re.subn(rf"(job_name: skerry-{kind}\n.*\n.*targets: )\[.*\]", rf"\g<1>{targets}", text)
        assert jobs == 1, kind
    return text


def quick_rules():
    """The rules as they are, but for how long each has to be true: a second."""
    text, waits = re.subn(r"^( +for:) \d+[smh]$", r"\1 1s", RULES.read_text(), flags=re.MULTILINE)
    assert waits > 10
    return text


def names_in(expression):
    """Of metrics in an expression of PromQL: what is left when texts, labels, ranges and functions are taken away."""
    rest = re.sub(r'"(\\.|[^"\\])*"', "", expression)
    rest = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", rest)
    rest = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", rest)
    return set(re.findall(r"(?<![\w:.])[a-zA-Z_:][\w:]*\b(?!\s*\()", rest)) - WORDS


def dashboard_expressions():
    """As a dashboard would ask that shows all."""
    def walk(part):
        if isinstance(part, dict):
            yield from ([part["expr"]] if "expr" in part else [])
            part = list(part.values())
        if isinstance(part, list):
            for one in part:
                yield from walk(one)
    return [expression.replace("$__rate_interval", "1m").replace("$cluster", ".*").replace("$instance", ".*")
            for expression in walk(json.loads(DASHBOARD.read_text()))]


class Prometheus:
    def __init__(self, directory, cluster):
        self.directory = directory
        self.directory.mkdir()
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        self.config = directory / CONFIG.name
        self.config.write_text(quick_config(cluster))
        (directory / RULES.name).write_text(quick_rules())
        self.process = None

    def start(self):
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                ["prometheus", f"--config.file={self.config}", f"--storage.tsdb.path={self.directory / 'data'}",
                 f"--web.listen-address={self.address}", "--log.level=warn"], stdout=log, stderr=log)
        wait_for(self.is_ready, "Prometheus is ready")

    def is_ready(self):
        assert self.process.poll() is None, (self.directory / "log").read_text()
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=PATIENCE_S) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait(PATIENCE_S)

    def ask(self, path, **parameters):
        try:
            with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}",
                                        timeout=PATIENCE_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expression):
        """What it is now: for each series its labels, and its value."""
        data = self.ask("query", query=expression)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(one["metric"], float(one["value"][1])) for one in data["result"]]

    def rules(self):
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]

    def alerts(self):
        """Those that fire: each by name, with the target it is about, if it is about one."""
        firing = [alert for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing"]
        for alert in firing:
            assert "error" not in alert["annotations"]["summary"], alert  # a template that fails says so in its text
        return {(alert["labels"]["alertname"], alert["labels"].get("instance", "")) for alert in firing}
