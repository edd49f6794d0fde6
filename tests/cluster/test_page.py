"""The gateway's status page, as a browser shows it."""

import pytest

from browser import PROGRAM, Browser
from harness import Background, Client, Cluster, wait_for

SHARDS = 16
PHONE = 360  # pixels
# Elsewhere on this machine networks come and go, and Chromium then breaks off what it is loading. The page asks again.
NETWORK_CHANGED = "net::ERR_NETWORK_CHANGED"

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed (scripts/install-deps installs it)")


class Load(Background):
    """Reads, writes and errors, one after the other."""

    def __init__(self, address):
        super().__init__()
        self.address = address

    def work(self):
        with Client(self.address) as client:
            while not self.stopping.is_set():
                client.ask("batch", *([["SET", [f"key-{number}", "value"]] for number in range(20)]
                                      + [["GET", [f"key-{number}"]] for number in range(40)] + [["INCR", ["key-1"]]]))


@pytest.fixture
def cluster(tmp_path):
    cluster = Cluster(tmp_path, nodes=3, shards=SHARDS, gateways=2)
    cluster.start()
    yield cluster
    cluster.kill_all()


@pytest.fixture
def browser(cluster):
    browser = Browser(cluster.directory)
    browser.resize(1200, 900)
    browser.open(url_of(cluster))
    yield browser
    browser.close()


def url_of(cluster):
    return cluster.gateway.flag("--http-listen") + "/"


def wait_for_state(browser, state):
    wait_for(lambda: browser.run("document.body && document.body.dataset.state") == state, f"the page says {state}")


def states_of(browser, selector):
    return browser.run(f"[...document.querySelectorAll('{selector}')].map(one => one.dataset.state)")


def number_of(browser, tile):
    return browser.text(f"#tile-{tile} dd")


def nothing_is_wrong(cluster, browser):
    errors = [error for error in browser.errors if NETWORK_CHANGED not in error]
    assert errors == []
    assert all(url.startswith(url_of(cluster)) for url in browser.requests), browser.requests


def fits(browser, width):
    """Nothing reaches over the edge; a phone would zoom out until it does not."""
    return browser.run("[document.documentElement.scrollWidth, innerWidth]") == [width, width]


def test_the_page_shows_the_cluster(cluster, browser):
    wait_for_state(browser, "well")
    assert states_of(browser, "#nodes tr") == ["alive"] * 3
    assert states_of(browser, "#shards button") == ["whole"] * SHARDS
    led = [browser.run(f"document.querySelectorAll('#shards [data-leader=\"{node}\"]').length") for node in (1, 2, 3)]
    assert sum(led) == SHARDS
    assert browser.text("#metad").startswith("127.0.0.1:") and "leads" in browser.text("#metad")
    assert browser.text("#gateways").count("alive") == 2 and browser.text("#gateways").count("(this one)") == 1
    wait_for(lambda: number_of(browser, "commands") == "0", "nobody works")

    # numbers move under load, and the lines grow
    load = Load(cluster.address)
    load.start()
    seen = set()
    wait_for(lambda: seen.add(number_of(browser, "commands")) or len(seen) > 3, "the number of commands moves")
    wait_for(lambda: "ms" in number_of(browser, "p99") + number_of(browser, "write"), "latencies are shown")
    wait_for(lambda: number_of(browser, "keys") == "20", "keys are counted")
    for look in ("read", "write", "error"):
        wait_for(lambda look=look: browser.run(f"document.querySelector('#throughput .line.{look}').getTotalLength()") > 5, f"a line of {look}")
    wait_for(lambda: browser.run("document.querySelector('#nodes [data-name=\"writes/s\"]').textContent") not in ("–", "0"), "what a node does")
    load.finish()

    # a shard tells who has it, by pointer and by keyboard
    browser.run("document.querySelector('#shards button').click()")
    assert browser.text("#shard").startswith("Shard 0 · slots 0–1023 · node ")
    browser.run("document.querySelector('#shards button').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}))")
    assert browser.text("#shard").startswith("Shard 1 · ")

    for width, dark in ((PHONE, False), (PHONE, True), (700, False), (1200, True)):
        browser.resize(width, 800, dark)
        wait_for(lambda width=width: fits(browser, width), f"it fits {width} pixels")

    # a hidden tab asks nothing
    hide = "Object.defineProperty(document, 'hidden', {configurable: true, get: () => %s}); document.dispatchEvent(new Event('visibilitychange'))"
    browser.run("window.asks = 0; { const asked = window.fetch; window.fetch = (...all) => { asks++; return asked(...all) } }")
    wait_for(lambda: browser.run("asks") > 1, "it asks again and again")
    browser.run(hide % "true" + "; new Promise(done => setTimeout(done, 500))")  # what it had begun to ask ends
    browser.run("asks = 0")
    browser.run("new Promise(done => setTimeout(done, 1500))")
    assert browser.run("asks") == 0
    browser.run(hide % "false")
    wait_for(lambda: browser.run("asks") > 1, "it goes on")
    nothing_is_wrong(cluster, browser)


def test_the_page_shows_what_is_lost(cluster, browser):
    wait_for_state(browser, "well")
    cluster.nodes[2].kill()
    wait_for_state(browser, "degraded")
    wait_for(lambda: states_of(browser, "#nodes tr").count("dead") == 1, "the dead node is shown")
    wait_for(lambda: states_of(browser, "#shards button") == ["behind"] * SHARDS, "shards lack a replica, and are led")
    assert " is dead." in browser.text("#words")
    assert number_of(browser, "nodes") == "2 / 3"
    cluster.metad.kill()
    wait_for(lambda: "metad does not answer" in browser.text("#words"), "metad's silence is told")
    assert len(states_of(browser, "#nodes tr")) == 3
    cluster.metad.start()
    wait_for(lambda: "metad does not answer" not in browser.text("#words"), "metad is there again")
    cluster.nodes[1].kill()
    wait_for(lambda: browser.run("document.body.dataset.state") == "unwritable", "two of three are lost")
    nothing_is_wrong(cluster, browser)
    cluster.gateway.kill()
    wait_for_state(browser, "silent")
    assert len(states_of(browser, "#nodes tr")) == 3  # as it was
    cluster.nodes[1].start()
    cluster.nodes[2].start()
    cluster.gateway.start()
    wait_for_state(browser, "well")


def test_names_from_outside_are_text(tmp_path):
    """A gateway may call itself anything; metad tells it to all."""
    name = "<svg/onload=window.broken=1><script>window.broken=1</script>"
    cluster = Cluster(tmp_path, nodes=1, shards=1, gateways=2)
    cluster.gateways[1].flags[cluster.gateways[1].flags.index("--advertise") + 1] = name
    browser = None
    try:
        cluster.start()
        browser = Browser(cluster.directory)
        browser.open(url_of(cluster))
        wait_for(lambda: name in browser.text("#gateways"), "the name is shown as it is")
        assert browser.run("[window.broken, document.querySelectorAll('#gateways *').length, document.scripts.length]") == [None, 8, 1]
        nothing_is_wrong(cluster, browser)
    finally:
        if browser is not None:
            browser.close()
        cluster.kill_all()
