"""Bytes as they come over the wire: what clients rarely send and servers must answer all the same, and what no client should
send. Skerry answers with the bytes that redis-server answers with, and closes the connection where that does."""

import random
import socket

import pytest

from resp import Connection, is_error

ANSWERED_S = 20
EXCHANGES = {
    "inline": b"PING\r\n",
    "inline, words": b"SET inline value\r\nGET inline\r\n",
    "inline, only a line feed": b"PING\nECHO a\n",
    "inline, blanks": b"   ECHO    a   \r\n",
    "inline, quoted": b'ECHO "a b\\x41\\n\\"c"\r\nECHO \'a\\\'b\\n\'\r\n',
    "inline, empty quotes": b'ECHO ""\r\n',
    "inline, quotes not closed": b'ECHO "a\r\n',
    "inline, behind a quote": b'ECHO "a"b\r\n',
    "nothing": b"\r\n\r\nPING\r\n",
    "no words": b"*0\r\nPING\r\n",
    "fewer than no words": b"*-1\r\nPING\r\n",
    "an array": b"*2\r\n$4\r\nECHO\r\n$3\r\na\r\n\r\n",
    "an empty word": b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
    "an empty command": b"*1\r\n$0\r\n\r\n",
    "many at once": b"*1\r\n$4\r\nPING\r\n" * 1000,
    "a count that is none": b"*x\r\n",
    "a count too large": b"*99999999999\r\n",
    "a size that is none": b"*1\r\n$x\r\n",
    "a size below zero": b"*1\r\n$-1\r\n",
    "a size too large": b"*1\r\n$99999999999\r\n",
    "no size": b"*1\r\nPING\r\n",
    "an answer": b"*1\r\n:1\r\n",
    "an error behind what is right": b"PING\r\n*1\r\n!1\r\n",
    "QUIT": b"PING\r\nQUIT\r\nPING\r\n",
    "HELLO": b"HELLO 4\r\nHELLO x\r\nHELLO 3 FOO\r\n",
    "AUTH without a password": b"AUTH x\r\n",
    "RESET": b"MULTI\r\nRESET\r\nGET none\r\n",
}


def exchange(port, data, chunks):
    """What comes back to the data and a PING behind it, and whether the connection is closed."""
    end = b"*2\r\n$4\r\nECHO\r\n$12\r\nthat was all\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWERED_S) as connection:
        answer = b""
        try:
            for chunk in [*chunks(data), end]:
                connection.sendall(chunk)
            while not answer.endswith(b"$12\r\nthat was all\r\n"):
                more = connection.recv(65536)
                if not more:
                    return answer, True
                answer += more
        except ConnectionError:
            return answer, True
        return answer, False


def whole(data):
    return [data]


def in_pieces(data):
    dice = random.Random(len(data))
    cuts = sorted(dice.randrange(len(data)) for _ in range(min(20, len(data))))
    return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)])]


@pytest.mark.parametrize("name", EXCHANGES)
@pytest.mark.parametrize("chunks", (whole, in_pieces))
def test_exchange(redis, skerry, name, chunks):
    expected, got = (exchange(server.port, EXCHANGES[name], chunks) for server in (redis, skerry))
    assert got == expected


def described(port):
    """{command: (words, first key, last key, step)}, of those that have no commands below them."""
    connection = Connection(port)
    entries = connection.ask("COMMAND")
    connection.close()
    return {entry[0]: (entry[1], *entry[3:6]) for entry in entries if len(entry) < 10 or not entry[9]}


def test_commands_are_described_alike(redis, skerry):
    """Clients find the keys by it."""
    expected, got = described(redis.port), described(skerry.port)
    unlike = {name: (got[name], expected[name]) for name in got.keys() & expected.keys() if got[name] != expected[name]}
    assert not unlike
    assert len(got.keys() & expected.keys()) > 40


def test_unlike_protocols_of_two_connections(skerry):
    old, new = Connection(skerry.port), Connection(skerry.port)
    assert not is_error(new.ask("HELLO", 3))
    assert (old.ask("GET", "none"), new.ask("GET", "none")) == (None, ("_", None))
    old.close()
    new.close()
