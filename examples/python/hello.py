"""Stores and reads through a gateway of Skerry.

usage: hello.py [ADDRESS]    SKERRY_TOKEN is sent if it is set. Needs: pip install pynng msgpack"""

import itertools
import os
import sys
import time
import uuid

import msgpack
import pynng

# After these the same request is sent again. UNAVAILABLE and OVERLOADED: it was surely not done. TIMEOUT: perhaps it
# was, so it must have the same id again, under which a write happens once, however often it comes.
SEND_AGAIN = {"TIMEOUT", "UNAVAILABLE", "OVERLOADED"}
PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6)


class ReplyError(Exception):
    """What the gateway answered instead of a result. docs/protocol.md says of each code whether a write was done."""

    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code


class Skerry:
    def __init__(self, address):
        # REQ can send again by itself, but here we decide what is sent again: resend_time -1. The gateway answers
        # within 5 s (option timeout_ms); who hears nothing for twice as long has lost the reply.
        self.socket = pynng.Req0(resend_time=-1, send_timeout=10_000, recv_timeout=10_000)
        self.socket.recv_max_size = 0  # else 1 MiB
        self.socket.dial(address, block=False)
        self.session = uuid.uuid4().hex
        self.numbers = itertools.count(1)
        self.options = {"token": os.environ["SKERRY_TOKEN"]} if os.environ.get("SKERRY_TOKEN") else {}

    def new_id(self):
        """A name for one write, unlike all others."""
        return f"{self.session}-{next(self.numbers)}"

    def call(self, method, *params, id=None):
        """The result of a command. Reads take an id too, and do not mind it."""
        options = {**self.options, "id": id or self.new_id()}
        msgid = 1  # REQ knows whose reply it gets, so all may have the same
        request = msgpack.packb([0, msgid, method, params, options])
        for pause_s in (*PAUSES_S, None):
            error, result = self.exchange(request)
            if error is None:
                return result
            if error[0] not in SEND_AGAIN or pause_s is None:
                raise ReplyError(*error)
            time.sleep(pause_s)

    def exchange(self, request):
        try:
            self.socket.send(request)
            reply = self.socket.recv()
        except pynng.NNGException as failure:  # as after TIMEOUT nobody knows whether it was done
            return ("TIMEOUT", f"no reply: {failure}"), None
        _, _, error, result = msgpack.unpackb(reply, strict_map_key=False)
        return error, result


def text(result):
    """Values are bytes, statuses str, integers int; what is missing is None."""
    return "nil" if result is None else result.decode() if isinstance(result, bytes) else str(result)


def main():
    skerry = Skerry(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:7400")

    print("SET:", text(skerry.call("SET", "hello:greeting", "hello")))
    print("GET:", text(skerry.call("GET", "hello:greeting")))
    print("GET of a missing key:", text(skerry.call("GET", "hello:missing")))

    # Many commands in one message. It is not atomic; each has its own error and result. Whoever finds TIMEOUT among
    # the errors sends the whole batch again under the same id.
    replies = skerry.call(
        "batch", ["SET", ["hello:visits", "41"]], ["STRLEN", ["hello:greeting"]], ["INCR", ["hello:greeting"]])
    print("batch:", ", ".join(error[0] if error else text(result) for error, result in replies))

    id = skerry.new_id()
    print("INCR:", text(skerry.call("INCR", "hello:visits", id=id)))
    print("INCR with the same id:", text(skerry.call("INCR", "hello:visits", id=id)))  # not done again

    try:
        skerry.call("INCR", "hello:greeting")
    except ReplyError as error:
        print("INCR of a text:", error.code)


if __name__ == "__main__":
    main()
