"""Clients that ask until they are answered, however often what they ask gets lost."""

import collections
import http.client
import time

import pynng

from harness import PATIENCE_S, Background

NOT_DONE = {"UNAVAILABLE", "OVERLOADED", "DISKFULL"}  # surely not; the same may succeed later
REFUSED = {"BADVALUE", "WRONGTYPE", "TOOLARGE"}  # surely not, and never will
RENAMED_NOTHING = ["BADREQUEST", "no such key"]  # all others are mistakes of the test
BROKEN = (pynng.exceptions.NNGException, OSError, http.client.HTTPException)  # connections, of any door
PAUSE_S = 0.005  # before the same is asked again


class Asker(Background):
    """One client. `make_client` makes a connection, to another gateway each time. resolves: after TIMEOUT it asks again
    under the same id until it knows; else such a write is left unknown."""

    def __init__(self, make_client, timeout_ms, resolves=False):
        super().__init__()
        self.make_client = make_client
        self.client = make_client()
        self.timeout_ms = timeout_ms
        self.resolves = resolves
        self.errors = collections.Counter()  # by code

    def ask(self, command, name, repeatable=True, insists=False, **options):
        """Until there is an answer: the id makes a repeat harmless, and reads are harmless anyway. What has surely not
        happened may be asked again in any case. Answers "done" and the result, "refused" and the code, "failed" (surely not
        done) or "unknown". insists: it is not content with these two, even if it should stop."""
        options |= {"timeout_ms": self.timeout_ms} | ({} if name is None else {"id": name})
        begin_s = time.monotonic()
        may_have_happened = False
        while True:
            error, result = self.ask_once(command, options)
            if error is None:
                return "done", result
            self.errors[error] += 1
            if error in REFUSED:
                return "refused", error
            resolves = self.resolves or insists or name is None
            if repeatable and (error == "LOST" or (error == "TIMEOUT" and resolves)):
                may_have_happened = True
            elif error not in NOT_DONE:  # TIMEOUT, FORGOTTEN, INTERNAL, DONE
                assert not insists, f"{command} with id {name} was answered {error}"
                return "unknown", None
            time.sleep(PAUSE_S)
            if self.stopping.is_set() and not insists:
                return ("unknown" if may_have_happened else "failed"), None
            assert not self.stopping.is_set() or time.monotonic() < begin_s + PATIENCE_S, f"never answered: {command[:2]}: {error}"

    def ask_once(self, command, options):
        """The error's code and the result. "LOST": no answer came, as when the gateway has died."""
        try:
            error, result = self.client.ask(*command, **options)
        except BROKEN:
            self.client.close()
            self.client = self.make_client()
            return "LOST", None
        if error is None:
            return None, result
        if error == RENAMED_NOTHING:
            return "BADVALUE", None
        assert error[0] != "BADREQUEST", (command, error)
        return error[0], None

    def repeat(self, command, name, result, **options):
        """What has been done is not done again, and its answer stays."""
        outcome, again = self.ask(command, name, **options)
        assert (outcome, again) == ("done", result) or self.stopping.is_set(), \
            f"{command} with id {name} was answered {result} and then {outcome} {again}"
