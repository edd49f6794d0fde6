"""RESP, the protocol of Redis (2 and 3): commands into bytes, bytes into replies, and a connection for pipelines.

A reply is a Python value that keeps its kind, so that `==` compares what a client would see:

    integer     int                        bulk string   bytes
    status      ("+", bytes)               error         ("-", bytes)
    nil         None, or NIL_ARRAY         array         list
    the others of RESP3                    (their first character, value); a map's value is a list of pairs
"""

import select
import socket
import time

NIL_ARRAY = ("*", None)
PATIENCE_S = 120


class Incomplete(Exception):
    """The reply goes on behind the bytes that are there."""


class Closed(Exception):
    """The server closed the connection, or says nothing any more."""


def encode(command):
    """One command, a list of bytes."""
    parts = [b"*%d\r\n" % len(command)]
    for word in command:
        parts.append(b"$%d\r\n%b\r\n" % (len(word), word))
    return b"".join(parts)


def parse(data, at):
    """The reply that begins at `at`, and where it ends."""
    line_end = data.find(b"\r\n", at)
    if line_end < 0:
        raise Incomplete
    kind = data[at:at + 1]
    after = line_end + 2
    if kind == b"$":
        size = int(data[at + 1:line_end])
        if size < 0:
            return None, after
        end = after + size
        if end + 2 > len(data):
            raise Incomplete
        return data[after:end], end + 2
    if kind == b":":
        return int(data[at + 1:line_end]), after
    line = data[at + 1:line_end]
    if kind == b"+" or kind == b"-":
        return (kind.decode(), line), after
    if kind == b"*":
        return parse_array(data, after, int(line))
    return parse_resp3(kind.decode(), line, data, after)


def parse_array(data, at, count):
    if count < 0:
        return NIL_ARRAY, at
    items = []
    for _ in range(count):
        item, at = parse(data, at)
        items.append(item)
    return items, at


def parse_resp3(kind, line, data, at):
    if kind in ",#(":
        return (kind, line), at
    if kind == "_":
        return ("_", None), at
    if kind in "=!":
        end = at + int(line)
        if end + 2 > len(data):
            raise Incomplete
        return (kind, data[at:end]), end + 2
    if kind in "~>":
        items, at = parse_array(data, at, int(line))
        return (kind, items), at
    if kind in "%|":
        items, at = parse_array(data, at, 2 * int(line))
        return (kind, list(zip(items[::2], items[1::2]))), at
    raise ValueError(f"no reply begins with {kind!r}: {line[:80]!r}")


def is_error(reply):
    return isinstance(reply, tuple) and reply[0] == "-"


class Connection:
    """Commands go out and replies come in at the same time: neither side can wait for the other to read."""

    def __init__(self, port, host="127.0.0.1"):
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.unsent = memoryview(b"")
        self.data = b""

    def close(self):
        self.socket.close()

    def send(self, commands):
        """Begins to send; `receive` goes on with it."""
        self.unsent = memoryview(bytes(self.unsent) + b"".join(map(encode, commands)))
        self.push()

    def push(self):
        try:
            while self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent):]
        except BlockingIOError:
            pass

    def receive(self, count, patience_s=PATIENCE_S):
        """So many replies, when all have come."""
        replies = []
        deadline = time.monotonic() + patience_s
        while True:
            self.take(replies, count)
            if len(replies) == count:
                return replies
            self.wait(deadline, len(replies), count)

    def take(self, replies, count):
        """What is there whole."""
        data, at = self.data, 0
        try:
            while len(replies) < count:
                reply, at = parse(data, at)
                replies.append(reply)
        except Incomplete:
            pass
        self.data = data[at:]

    def wait(self, deadline, have, count):
        """Until more has come, sending what is left to send meanwhile."""
        readable, writable, _ = select.select([self.socket], [self.socket] if self.unsent else [], [],
                                              max(0, deadline - time.monotonic()))
        if not readable and not writable:
            raise Closed(f"no answer: {have} of {count} replies came")
        if writable:
            self.push()
        if readable:
            try:
                chunk = self.socket.recv(1 << 20)
            except ConnectionError as error:
                raise Closed(f"{error}: {have} of {count} replies came") from error
            if not chunk:
                raise Closed(f"connection closed: {have} of {count} replies came")
            self.data += chunk

    def ask_all(self, commands):
        self.send(commands)
        return self.receive(len(commands))

    def ask(self, *words):
        """One command of words or numbers."""
        return self.ask_all([[word if isinstance(word, bytes) else str(word).encode() for word in words]])[0]
