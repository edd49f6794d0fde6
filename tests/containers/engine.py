"""The container engine, the project of compose.yaml, and a client on its network, by their command lines."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import sysconfig

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "cluster"))

import harness  # noqa: E402

WORK = ROOT / "build" / "containers"
DOCKER = os.environ.get("SKERRY_DOCKER", "docker")
COMPOSE = shlex.split(os.environ.get("SKERRY_COMPOSE", "docker-compose"))
BASE = "debian:bookworm-slim"
IMAGE = "skerry-test"
CLIENT_IMAGE = "skerry-test-client"
PROJECT = "skerrytest"
PORTS = "17400-17409"
GATEWAYS = "tcp://gateway:7400"
METADS = "tcp://metad-1:7100,tcp://metad-2:7100,tcp://metad-3:7100"
PATIENCE_S = 90  # a state that has not come by then never will


def run(*words, check=True, **options):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
    assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def docker(*words, **options):
    return run(DOCKER, *words, **options).stdout.strip()


def wait_for(condition, what, patience_s=PATIENCE_S):
    return harness.wait_for(condition, what, patience_s, pause_s=0.1)  # each look may be a command of the engine's


def build(image, *words):
    """Returns the image's size in bytes."""
    with (WORK / f"{image}.log").open("w") as log:
        done = subprocess.run([DOCKER, "build", "-t", image, *words], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    assert done.returncode == 0, (WORK / f"{image}.log").read_text()[-3000:]
    return image_bytes(image)


def image_bytes(image):
    return int(docker("image", "inspect", "--format", "{{.Size}}", image))


class Container:
    def __init__(self, number, service=None):
        self.id = number
        self.service = service

    def inspect(self):
        return json.loads(docker("inspect", self.id))[0]

    def state(self):
        return self.inspect()["State"]

    def is_healthy(self):
        state = self.state()
        return state["Running"] and state["Health"]["Status"] == "healthy"

    def logs(self):
        done = run(DOCKER, "logs", self.id)
        return done.stdout + done.stderr

    def logs_of_this_start(self):
        done = run(DOCKER, "logs", "--since", self.state()["StartedAt"], self.id)
        return done.stdout + done.stderr

    def execute(self, *words, **options):
        return run(DOCKER, "exec", self.id, *words, **options)

    def start(self):
        docker("start", self.id)

    def kill(self):
        docker("kill", "--signal", "KILL", self.id)


class Project:
    """compose.yaml, under a name of its own."""

    def __init__(self):
        self.file = ROOT / "compose.yaml"
        self.network = f"{PROJECT}_default"
        self.observer = None

    def environment(self):
        return {**os.environ, "SKERRY_IMAGE": IMAGE, "SKERRY_PORTS": PORTS, "COMPOSE_PROJECT_NAME": PROJECT,
                "COMPOSE_FILE": str(self.file), "COMPOSE": shlex.join(COMPOSE), "DOCKER": DOCKER}

    def compose(self, *words, **options):
        return run(*COMPOSE, "--project-directory", ROOT, *words, env=self.environment(), **options)

    def run_beside(self, program):
        return run(program, env=self.environment(), cwd=ROOT)

    def run_commands(self, text):
        """Commands as they stand in the documents, but for the names of this project."""
        text = text.replace("docker compose", shlex.join(COMPOSE)).replace("docker run", f"{DOCKER} run")
        text = text.replace("skerry_$volume", f"{PROJECT}_$volume").replace(" skerry \\", f" {IMAGE} \\")
        place = WORK / "copies"
        place.mkdir(exist_ok=True)
        run("bash", "-euc", text, env=self.environment(), cwd=place)

    def up(self, *words):
        self.compose("up", "-d", "--no-build", *words)

    def all_containers(self):
        """Of the daemons, in the order in which they depend on each other."""
        label = "com.docker.compose"
        listed = docker("ps", "--all", "--filter", f"label={label}.project={PROJECT}", "--format",
                        f'{{{{.Label "{label}.service"}}}} {{{{.Label "{label}.container-number"}}}} {{{{.ID}}}}')
        order = ("metad", "shardd", "gateway")
        found = [line.split() for line in listed.splitlines() if not line.startswith("secret ")]
        found.sort(key=lambda words: (order.index(words[0].split("-")[0]), words))
        return [Container(number, service) for service, _, number in found]

    def containers(self, service):
        return [container for container in self.all_containers() if container.service == service]

    def container(self, service):
        return self.containers(service)[0]

    def wait_healthy(self, containers=None):
        containers = containers or self.all_containers()
        wait_for(lambda: all(container.is_healthy() for container in containers), "every container is healthy")

    # What metad says, asked from a container that stays when the others come and go.

    def observe(self):
        self.observer = Container(docker("run", "-d", "--label", PROJECT, "--network", self.network,
                                         "--env", f"SKERRY_METAD={METADS}", "--env", f"SKERRY_GATEWAY={GATEWAYS}", IMAGE, "sleep", "infinity"))

    def skerry(self, *words, **options):
        return self.observer.execute("skerry", *words, **options)

    def status(self):
        """None when metad does not answer."""
        done = self.skerry("status", "--json", check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def is_in_sync(self, status):
        nodes = status["map"]["nodes"]
        alive = {node["id"] for node in nodes if node["alive"]}
        shards = status["map"]["shards"]
        return len(alive) == len(nodes) and shards and all(
            shard["leader"] in alive and len(shard["isr"]) == len(shard["replicas"]) for shard in shards)

    def wait_in_sync(self):
        """Every node is alive, every shard led, every replica in sync."""
        return wait_for(lambda: (status := self.status()) and self.is_in_sync(status) and status, "all are in sync")

    def end_observer(self):
        if self.observer is not None:
            docker("rm", "-f", self.observer.id)
        self.observer = None

    def down(self):
        beside = docker("ps", "--all", "--quiet", "--filter", f"label={PROJECT}").split()
        if beside:
            docker("rm", "-f", *beside)
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")

    def keep_logs(self):
        logs = self.compose("logs", "--no-color", "--timestamps", check=False)
        (WORK / "cluster.log").write_text(logs.stdout + logs.stderr)


def client_words(project):
    """How a client is started: Python's packages are those of the process that runs this."""
    packages = sysconfig.get_path("purelib")
    return ["--label", PROJECT, "--network", project.network, "--volume", f"{packages}:/packages:ro", "--env", "PYTHONPATH=/packages",
            "--volume", f"{ROOT}/tests/containers/load.py:/load.py:ro", CLIENT_IMAGE, "python3", "/load.py", GATEWAYS]


class Load:
    """tests/containers/load.py in a container on the network, until `stop`."""

    def __init__(self, project, name):
        self.container = Container(docker("run", "-d", *client_words(project), name))
        self.wait_for_rounds()

    def rounds(self):
        return max([int(number) for number in re.findall(r"^rounds (\d+)$", self.container.logs(), re.M)], default=0)

    def wait_for_rounds(self, more=2):
        """Every client has written to every shard it writes to."""
        target = self.rounds() + more

        def are_done():
            assert self.container.state()["Running"], self.container.logs()
            return self.rounds() >= target
        wait_for(are_done, "writes go on")

    def stop(self):
        """Nothing is missing, and nothing has failed. Returns what was seen."""
        docker("kill", "--signal", "TERM", self.container.id, check=False)
        code = docker("wait", self.container.id)
        last = self.container.logs().strip().splitlines()[-1]
        docker("rm", self.container.id)
        assert code == "0", last
        return json.loads(last)

    def discard(self):
        docker("rm", "-f", self.container.id, check=False)


def check_counts(project, counts):
    run(DOCKER, "run", "--rm", "-i", *client_words(project), "--check", input=json.dumps(counts))
