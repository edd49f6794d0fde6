import random

import pytest

from harness import Cluster


def pytest_addoption(parser):
    parser.addoption("--rounds", type=int, default=24, help="crashes in each of the crash tests")
    parser.addoption("--catch-up-keys", type=int, default=50_000, help="keys that change while a node is away")
    parser.addoption("--fault-seconds", type=int, default=20, help="how long faults go on under the checked workload")
    parser.addoption("--metad-tries", type=int, default=3, help="how often the leader of metad is killed or stopped in a test")
    parser.addoption("--fault-seed", type=int, default=None, help="of the faults and the workload; random unless given")


@pytest.fixture
def rounds(request):
    return request.config.getoption("--rounds")


@pytest.fixture
def catch_up_keys(request):
    return request.config.getoption("--catch-up-keys")


@pytest.fixture
def metad_tries(request):
    return request.config.getoption("--metad-tries")


@pytest.fixture
def fault_seconds(request):
    return request.config.getoption("--fault-seconds")


@pytest.fixture
def fault_seed(request):
    seed = request.config.getoption("--fault-seed")
    return random.SystemRandom().randrange(1 << 32) if seed is None else seed


@pytest.fixture
def make_cluster(tmp_path):
    """Makes clusters that end with the test, also a failed one."""
    made = []

    def make(name="cluster", **options):
        cluster = Cluster(tmp_path / name, **options)
        made.append(cluster)
        return cluster

    yield make
    for cluster in made:
        cluster.kill_all()


@pytest.fixture(scope="module")
def shared(module_directory):
    """One cluster for the tests of a module that leave it whole."""
    cluster = Cluster(module_directory / "shared").start()
    yield cluster
    cluster.stop()
