"""compose.yaml in a real container engine. The tests share a cluster, in this order; each waits until it is whole again."""

import re
import subprocess

import pytest

import engine
from engine import Load, check_counts, docker, run, wait_for

MIB = 1 << 20


def test_the_image_is_small(image):
    assert image - engine.image_bytes(engine.BASE) < 120 * MIB


@pytest.mark.parametrize("program", ["metad", "shardd", "gateway", "skerry"])
def test_the_image_has_every_program(image, program):
    assert docker("run", "--rm", "--read-only", "--cap-drop", "ALL", engine.IMAGE, program, "--version")


def test_compose_2_reads_it():
    """Where it is installed; the other tests use what SKERRY_COMPOSE names, 1.29 unless told otherwise."""
    if run(engine.DOCKER, "compose", "version", check=False).returncode != 0:
        pytest.skip("docker compose is not installed")
    run(engine.DOCKER, "compose", "--file", engine.ROOT / "compose.yaml", "config", "--quiet")


def test_it_comes_up_and_serves(project):
    project.wait_healthy()
    project.wait_in_sync()
    assert len(project.containers("gateway")) == 2
    assert project.skerry("SET", "greeting", "hello").stdout.strip() == "OK"
    assert project.skerry("GET", "greeting").stdout.strip() == "hello"


def test_daemons_have_no_rights(project):
    look = "grep -E '^(Uid|CapEff|NoNewPrivs):' /proc/1/status; touch /here /usr/here; touch /tmp/here"
    for container in project.all_containers():
        seen = container.execute("sh", "-c", look)
        assert seen.stdout.split() == ["Uid:", *4 * ["10001"], "CapEff:", 16 * "0", "NoNewPrivs:", "1"]
        assert seen.stderr.count("Read-only file system") == 2, seen.stderr


def test_gateways_are_published_to_this_machine_alone(project):
    for container in project.all_containers():
        ports = container.inspect()["NetworkSettings"]["Ports"]
        bound = [host["HostIp"] for hosts in ports.values() for host in hosts or []]
        assert set(bound) == ({"127.0.0.1"} if container.service == "gateway" else set())


def test_a_shardd_is_killed(project, load):
    shardd = project.container("shardd-2")
    shardd.kill()
    load.wait_for_rounds()
    shardd.start()
    project.wait_in_sync()
    load.wait_for_rounds()


def test_a_shardd_that_dies_is_started_again(project, load):
    shardd = project.container("shardd-1")
    before = shardd.state()
    subprocess.run(["kill", "-KILL", str(before["Pid"])], check=True)  # not by the engine, which would leave it stopped
    wait_for(lambda: (state := shardd.state())["Running"] and state["Pid"] != before["Pid"], "it is started again")
    project.wait_in_sync()
    load.wait_for_rounds()


def test_a_shardd_is_cut_off(project, load):
    shardd = project.container("shardd-3")
    docker("network", "disconnect", project.network, shardd.id)
    load.wait_for_rounds()
    docker("network", "connect", "--alias", "shardd-3", project.network, shardd.id)
    project.wait_in_sync()
    load.wait_for_rounds()


def test_the_leader_of_metad_is_killed(project, load):
    name = next(name for _, name, _, leads in project.status()["metad"]["servers"] if leads)
    metad = project.container(name.split(":")[0])
    metad.kill()
    load.wait_for_rounds()
    project.container("shardd-1").kill()  # somebody must decide who follows
    load.wait_for_rounds()
    project.container("shardd-1").start()
    metad.start()
    project.wait_in_sync()
    project.wait_healthy()


def test_every_container_is_replaced_in_turn(project, load):
    """By the script that docs/operations.md has people use."""
    before = project.all_containers()
    done = project.run_beside(engine.ROOT / "deploy" / "compose-upgrade")
    assert len(done.stdout.split()) == len(before), done.stdout
    assert done.stderr == "", "a container did not end by itself"
    assert not {container.id for container in before} & {container.id for container in project.all_containers()}
    load.wait_for_rounds()


def test_volumes_are_backed_up_and_restored(project):
    """By the commands of docs/operations.md."""
    text = (engine.ROOT / "docs" / "operations.md").read_text()
    back_up, restore = re.findall(r"```\n((?: *)docker compose (?:stop|down)\n.*?)```", text, re.S)
    load = Load(project, "kept")
    load.wait_for_rounds()
    counts = load.stop()["counts"]
    project.run_commands(back_up)
    project.wait_in_sync()
    project.skerry("SET", "greeting", "later")
    project.end_observer()  # which is on the network
    project.run_commands(restore)
    project.observe()
    project.wait_in_sync()
    assert project.skerry("GET", "greeting").stdout.strip() == "hello"
    check_counts(project, counts)


def test_the_order_of_starts_does_not_matter_and_data_stays(project):
    load = Load(project, "stays")
    load.wait_for_rounds()
    counts = load.stop()["counts"]
    containers = project.all_containers()
    project.compose("stop")
    assert all(container.state()["ExitCode"] == 0 for container in containers)
    metads, others = containers[:3], containers[3:]
    for container in reversed(others):
        container.start()
    for container in others:
        wait_for(lambda: "event=member_waiting" in container.logs_of_this_start(), "it says that it waits for metad")
        assert not container.is_healthy()
    for container in metads:
        container.start()
    project.wait_in_sync()
    project.wait_healthy()
    check_counts(project, counts)


def test_gateways_are_scaled(project, load):
    project.up("--scale", "gateway=4", "--no-recreate")
    gateways = project.containers("gateway")
    assert len(gateways) == 4
    project.wait_healthy(gateways)
    for gateway in gateways:
        assert gateway.execute("skerry", "GET", "greeting").stdout.strip() == "hello"
    load.wait_for_rounds()
    project.up("--scale", "gateway=2", "--no-recreate")
    wait_for(lambda: len(project.containers("gateway")) == 2, "two of them end")
    load.wait_for_rounds()


def with_a_fourth_shardd(text):
    """compose.yaml, and what docs/operations.md says: shardd-3's lines once more, as shardd-4."""
    service = re.search(r"^  shardd-3:\n(?:    .*\n)+", text, re.M).group()
    volume = re.search(r"^  shardd-3:\n(?!    )", text, re.M).group()
    return text.replace(service, service + service.replace("shardd-3", "shardd-4")) \
        .replace("\nvolumes:\n", "\nvolumes:\n" + volume.replace("shardd-3", "shardd-4"))


def test_a_shardd_service_is_added(project, load):
    text = with_a_fourth_shardd(project.file.read_text())
    project.file = engine.WORK / "compose.yaml"
    project.file.write_text(text)
    project.up("--no-recreate", "shardd-4")
    status = wait_for(lambda: (status := project.status()) and len(status["map"]["nodes"]) == 4 and status, "a fourth node")
    node = max(node["id"] for node in status["map"]["nodes"])

    def is_used():
        status = project.status()
        shards = status["map"]["shards"] if status else []
        return sum(node in shard["isr"] for shard in shards) > 2 and any(shard["leader"] == node for shard in shards)
    wait_for(is_used, "the new node has replicas and leads")
    load.wait_for_rounds()
