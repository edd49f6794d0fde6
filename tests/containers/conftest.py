import shutil

import pytest

import engine
from engine import Load, Project


@pytest.fixture(scope="session")
def image():
    """Builds it; its size in bytes."""
    return engine.build(engine.IMAGE, ".")


@pytest.fixture(scope="session")
def client_image():
    engine.build(engine.CLIENT_IMAGE, "tests/containers")


@pytest.fixture(scope="session")
def project(image, client_image):
    """The cluster that all tests share, each of which leaves it whole."""
    project = Project()
    project.down()  # what an earlier run left
    project.up()
    project.observe()
    yield project
    project.keep_logs()
    project.down()
    shutil.rmtree(engine.WORK / "copies", ignore_errors=True)


@pytest.fixture
def load(project, request):
    """Runs beside the test, and judges at its end, whatever it says."""
    load = Load(project, request.node.name)
    yield load
    try:
        seen = load.stop()
        print(f"{request.node.name}: {seen['increments']} increments, {seen['retries']} retries, "
              f"the longest took {seen['longest_s']} s")
    finally:
        load.discard()
