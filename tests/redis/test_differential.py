"""The differential test finds what differs and nothing else: redis-server against itself, with and without planted
differences."""

import argparse

import pytest

from canonical import EXACT, uncached
from differential import Episodes, Report, parse_options
from plants import PLANTS
from resp import NIL_ARRAY, Connection, Incomplete, encode, parse
from runner import Difference, Side
from servers import Redis
from shrink import Shrinker


@pytest.fixture(scope="module")
def servers(module_directory):
    both = [Redis(module_directory), Redis(module_directory)]
    yield both
    for server in both:
        server.stop()


def differ(servers, commands, change=lambda command: command, seed=7, differences=1):
    """The report of so many commands, of which `change` makes others for the first server."""
    options = parse_options(["--commands", str(commands), "--seed", str(seed), "--differences", str(differences)])
    report = Report(options.differences)
    episodes = Episodes([Side(servers[0].port, change=lambda command: uncached(change(command))), Side(servers[1].port)], lambda name: True, options, report)
    episodes.run()
    return report, episodes.runner.compared


def test_alike(servers):
    report, compared = differ(servers, 50000)
    assert not report.found, report.examples
    assert compared >= 50000


@pytest.mark.parametrize("name", PLANTS)
def test_planted(servers, name):
    plant = PLANTS[name]()
    report, compared = differ(servers, 200000, plant)
    assert plant.seen > 0
    assert report.found, f"not found among {compared} commands"


def test_short(servers):
    """What is left of thousands of commands has nothing in it that is not needed."""
    report, _ = differ(servers, 200000, PLANTS["an open bound"]())
    (_, text), = report.examples.values()
    commands = [line.split() for line in text.splitlines() if line.startswith("    ")]
    assert 2 <= len(commands) <= 4, text
    assert commands[-1][0].upper() == "ZRANGEBYSCORE" and len(commands[-1]) == 4, text


class Wanting:
    """A runner that finds a difference where these words come in this order, each at the begin of a command."""

    def __init__(self, *words):
        self.words = words

    def reset(self):
        self.runs = getattr(self, "runs", 0) + 1

    def run(self, commands):
        wanted = list(self.words)
        for at, command in enumerate(commands):
            if command[0] == wanted[0]:
                del wanted[0]
            if not wanted:
                raise Difference(at, command, 1, 2)


def test_shrinks_to_what_is_needed():
    commands = [[b"%d" % n, b"{a}s0", *[b"word"] * (n % 300)] for n in range(2000)]
    runner = Wanting(b"3", b"299", b"1700", b"1999")
    best, difference = Shrinker(runner, patience_s=60).shrink(commands, Difference(1999, commands[-1], 1, 2))
    assert best == [[b"3"], [b"299"], [b"1700"], [b"1999"]]
    assert difference.at == 3
    assert runner.runs < 1000


def test_what_does_not_come_again_is_not_shrunk():
    assert Shrinker(Wanting(b"never")).shrink([[b"GET", b"{a}s0"]], Difference(0, [b"GET", b"{a}s0"], 1, 2)) is None


def test_same_seed_same_commands(servers):
    reports = [differ(servers, 200000, PLANTS["from the wrong end"]()) for _ in range(2)]
    assert reports[0][0].found == reports[1][0].found and reports[0][1] == reports[1][1]


def test_replies_of_every_kind():
    data = (b"+OK\r\n-ERR no\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n$0\r\n\r\n*-1\r\n*2\r\n:1\r\n*0\r\n_\r\n#t\r\n,1.5\r\n(12345\r\n"
            b"=5\r\ntxt:a\r\n~1\r\n:1\r\n%1\r\n+a\r\n:2\r\n>1\r\n+b\r\n")
    wanted = [("+", b"OK"), ("-", b"ERR no"), -7, b"a\r\n", None, b"", NIL_ARRAY, [1, []], ("_", None), ("#", b"t"), (",", b"1.5"),
              ("(", b"12345"), ("=", b"txt:a"), ("~", [1]), ("%", [(("+", b"a"), 2)]), (">", [("+", b"b")])]
    at, replies = 0, []
    while at < len(data):
        reply, end = parse(data, at)
        for cut in range(at, end):
            with pytest.raises(Incomplete):
                parse(data[:cut], at)
        replies.append(reply)
        at = end
    assert replies == wanted


def test_more_than_the_sockets_hold(servers):
    """Neither side waits for the other to read."""
    connection = Connection(servers[0].port)
    word = b"x" * 100000
    assert connection.ask_all([[b"ECHO", word]] * 500) == [word] * 500
    connection.close()


def test_encode():
    assert encode([b"SET", b"", b"a\r\n"]) == b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$3\r\na\r\n\r\n"


def test_options_are_read():
    assert isinstance(parse_options(["--seed", "1"]), argparse.Namespace)
    assert parse_options(["--seed", "1", "--family", "lists"]).families == {"lists": 1}


def test_scores_know_one_zero():
    popped = [b"key", b"member", (",", b"0")]
    expected = [b"key", b"member", (",", b"-0")]
    for command in ([b"bzpopmin", b"key", b"0.01"], [b"ZPOPMIN", b"key"], [b"@block", b"3", b"BZPOPMIN", b"key", b"20", b"ZADD"]):
        assert EXACT.same(command, popped, expected)
    assert not EXACT.same([b"GET", b"key"], b"0", b"-0")
