"""deploy/kubernetes and compose.yaml as far as they can be judged without a cluster or an engine: are they what the schemas say,
and does what one names exist in the other?"""

import functools
import re
import subprocess

import kubernetes_validate
import pytest
import yaml

from harness import BINARIES, ROOT

DAEMONS = ("metad", "shardd", "gateway")
OLDEST, NEWEST = "1.27", "1.37"  # versions of Kubernetes
HTTP_PORTS = {"metad": 7180, "shardd": 7280, "gateway": 7480}
PATHS = {"/healthz", "/readyz"}
FILES = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
OBJECTS = [thing for file in FILES for thing in yaml.safe_load_all(file.read_text()) if thing["kind"] != "Kustomization"]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())


def name_of(thing):
    return f"{thing['kind']}/{thing['metadata']['name']}"


def find(kind, name):
    return next(thing for thing in OBJECTS if name_of(thing) == f"{kind}/{name}")


def workload(daemon):
    return find("Deployment" if daemon == "gateway" else "StatefulSet", daemon)


def pod(daemon):
    return workload(daemon)["spec"]["template"]


def container(daemon):
    only, = pod(daemon)["spec"]["containers"]
    return only


@functools.cache
def help_of(daemon):
    return subprocess.run([BINARIES[daemon], "--help"], capture_output=True, text=True, check=True).stdout


def default_ports(daemon):
    return {int(port) for port in re.findall(r"default: (?:\w+://0\.0\.0\.0:|port )(\d+)\b", help_of(daemon))}


def selects(selector, labels):
    return selector.items() <= labels.items()


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("thing", OBJECTS, ids=name_of)
def test_it_is_what_the_schema_says(thing, version):
    kubernetes_validate.validate(thing, version, strict=True)


def test_kustomization_lists_every_file():
    listed = yaml.safe_load((ROOT / "deploy/kubernetes/kustomization.yaml").read_text())["resources"]
    assert sorted([*listed, "kustomization.yaml"]) == [file.name for file in FILES]


@pytest.mark.parametrize("thing", OBJECTS, ids=name_of)
def test_selectors_find_the_pods_of_that_name(thing):
    spec = thing["spec"]
    selector = spec.get("selector") or spec["podSelector"]
    selector = selector.get("matchLabels", selector)
    found = [daemon for daemon in DAEMONS if selects(selector, pod(daemon)["metadata"]["labels"])]
    assert found == [thing["metadata"]["name"]]


@pytest.mark.parametrize("daemon", DAEMONS)
def test_ports_and_paths_are_those_of_the_daemon(daemon):
    ports = {port["name"]: port["containerPort"] for port in container(daemon)["ports"]}
    derived = {7101, 7110} if daemon == "metad" else set()  # from that of requests
    assert set(ports.values()) == default_ports(daemon) | derived | {HTTP_PORTS[daemon]}
    for port in find("Service", daemon)["spec"]["ports"]:
        assert ports[port.get("targetPort", port["name"])] == port["port"]
    probes = [container(daemon)[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")]
    assert all(ports[probe["port"]] == HTTP_PORTS[daemon] and probe["path"] in PATHS for probe in probes)
    assert probes[2]["path"] == "/readyz"


@pytest.mark.parametrize("daemon", DAEMONS)
def test_variables_are_flags_of_the_daemon(daemon):
    """So that a flag which is renamed, or was never there, is not ignored in silence."""
    names = {variable["name"] for variable in container(daemon)["env"]}
    names |= {name for service, said in COMPOSE["services"].items() if service.split("-")[0] == daemon
              for name in said["environment"]}
    unknown = {name for name in names if name.startswith("SKERRY_") and not re.search(rf"\b{name}\b", help_of(daemon))}
    if daemon == "metad":
        unknown.discard("SKERRY_METAD")  # for `skerry` in the same container
    assert not unknown


@pytest.mark.parametrize("daemon", ["metad", "shardd"])
def test_pods_have_names_before_they_are_ready(daemon):
    spec = workload(daemon)["spec"]
    service = find("Service", spec["serviceName"])["spec"]
    assert service["clusterIP"] == "None" and service["publishNotReadyAddresses"]
    advertised = next(variable["value"] for variable in container(daemon)["env"] if variable["name"] == "SKERRY_ADVERTISE")
    assert advertised == f"$(POD_NAME).{spec['serviceName']}"
    assert spec["podManagementPolicy"] == "Parallel"


def test_all_name_the_same_metad_servers():
    spec = workload("metad")["spec"]
    servers = ",".join(f"tcp://metad-{i}.{spec['serviceName']}:7100" for i in range(spec["replicas"]))
    said = [variable["value"] for daemon in DAEMONS for variable in container(daemon)["env"]
            if variable["name"] in ("SKERRY_PEERS", "SKERRY_METAD")]
    assert said == [servers] * len(DAEMONS)


@pytest.mark.parametrize("daemon", DAEMONS)
def test_mounts_are_there(daemon):
    spec = pod(daemon)["spec"]
    volumes = {volume["name"] for volume in spec["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in workload(daemon)["spec"].get("volumeClaimTemplates", [])}
    assert {mount["name"] for mount in container(daemon)["volumeMounts"]} == volumes


@pytest.mark.parametrize("daemon", DAEMONS)
def test_pods_have_no_rights_and_time_to_drain(daemon):
    spec = pod(daemon)["spec"]
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 10001
    assert container(daemon)["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                                    "capabilities": {"drop": ["ALL"]}}
    assert spec["terminationGracePeriodSeconds"] >= 30
    assert container(daemon)["resources"]["limits"].keys() == {"cpu", "memory"}


@pytest.mark.parametrize("daemon", DAEMONS)
def test_policies_name_ports_that_are_there(daemon):
    ports = {port["name"] for port in container(daemon)["ports"]}
    rules = find("NetworkPolicy", daemon)["spec"]["ingress"]
    assert {port["port"] for rule in rules for port in rule["ports"]} == ports


@pytest.mark.parametrize("caller, daemon, port", [
    ("metad", "metad", "raft"), ("metad", "metad", "requests"), ("shardd", "metad", "requests"), ("shardd", "metad", "publish"),
    ("gateway", "metad", "requests"), ("gateway", "metad", "publish"), ("gateway", "shardd", "frames"),
    ("shardd", "shardd", "replication"), ("shardd", "gateway", "frames"), (None, "gateway", "clients"),
])
def test_policies_let_through_what_is_needed(caller, daemon, port):
    labels = pod(caller)["metadata"]["labels"] if caller else {}
    rules = [rule for rule in find("NetworkPolicy", daemon)["spec"]["ingress"] if {"port": port} in rule["ports"]]
    assert any("from" not in rule or any(selects(peer["podSelector"]["matchLabels"], labels) for peer in rule["from"])
               for rule in rules)


@pytest.mark.parametrize("daemon", DAEMONS)
def test_policies_let_nobody_but_prometheus_see_figures(daemon):
    rule, = (rule for rule in find("NetworkPolicy", daemon)["spec"]["ingress"] if {"port": "http"} in rule["ports"])
    assert rule["ports"] == [{"port": "http"}]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
                             "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}}]


@pytest.mark.parametrize("daemon, port", [("metad", "requests"), ("metad", "raft"), ("shardd", "frames"),
                                          ("shardd", "replication"), ("gateway", "frames")])
def test_policies_keep_strangers_out(daemon, port):
    rules = [rule for rule in find("NetworkPolicy", daemon)["spec"]["ingress"] if {"port": port} in rule["ports"]]
    assert rules and all("from" in rule for rule in rules)


def test_compose_publishes_gateways_to_this_machine_alone():
    published = {service: said["ports"] for service, said in COMPOSE["services"].items() if "ports" in said}
    assert published.keys() == {"gateway"} and all(port.startswith("127.0.0.1:") for port in published["gateway"])


def test_compose_makes_secrets_once(tmp_path):
    """What the service `secret` runs, in folders of our own."""
    script = COMPOSE["services"]["secret"]["command"][-1].replace("$$", "$")
    for folder in ("secret", "token"):
        (tmp_path / folder).mkdir()
        script = script.replace(f"/{folder}/", f"{tmp_path}/{folder}/")
    files = [tmp_path / "secret" / "metad", tmp_path / "token" / "clients"]
    said = COMPOSE["services"]
    assert said["metad-1"]["environment"]["SKERRY_SECRET_FILE"] == "/secret/metad"
    for lost in ([], [], [files[1]]):  # at the first start, at another one, and with what an older compose.yaml has made
        for file in lost:
            file.unlink()
        kept = {file: file.read_text() for file in files if file.exists()}
        subprocess.run(["sh", "-euc", script], check=True)
        assert all(file.read_text() == text for file, text in kept.items())
        made = [file.read_text() for file in files]
        assert made[0] != made[1] and all(len(text.strip()) == 44 for text in made)
        assert [file.stat().st_mode & 0o777 for file in files] == [0o600, 0o600]
        assert sorted(path for folder in ("secret", "token") for path in (tmp_path / folder).iterdir()) == files
    for folder, service in (("secret", "metad-1"), ("token", "gateway")):
        assert f"{folder}:/{folder}:ro" in said[service]["volumes"]
        assert f"{folder}:/{folder}" in said["secret"]["volumes"] and folder in COMPOSE["volumes"]


def test_compose_limits_every_service():
    for service, said in COMPOSE["services"].items():
        assert said["read_only"] and said["cap_drop"] == ["ALL"], service
        assert said.keys() >= {"mem_limit", "cpus", "pids_limit"}, service
        assert service == "secret" or said.keys() >= {"healthcheck", "depends_on", "stop_grace_period"}, service
