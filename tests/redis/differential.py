"""The differential test: random commands for Skerry and for a redis-server, whose answers must be alike.

Every episode begins without keys; every other one speaks RESP3. Differences are made as short as they can be and printed,
each kind once. Ends with a line "N passed, N failed": families of commands."""

import argparse
import collections
import contextlib
import pathlib
import random
import sys
import tempfile
import time

from canonical import uncached
from families import FAMILIES
from generate import Generator
from resp import Closed, Connection, is_error
from runner import Difference, Runner, Side, states_of
from servers import Redis, Skerry
from shrink import Shrinker, keys_of

EPISODE = 10000  # commands
SHOWN_BYTES = 300
SHOWN_COMMANDS = 40
RECENT = 8  # commands shown that came before, where a difference could not be made short


def show(value):
    """A reply or a word, cut."""
    text = repr(value)
    return text if len(text) <= SHOWN_BYTES else f"{text[:SHOWN_BYTES]}… ({len(text)} characters)"


def show_command(command):
    """As one could type it into redis-cli."""
    return " ".join(map(show_word, command[:40])) + (f" … ({len(command)} words)" if len(command) > 40 else "")


def show_word(word):
    text = repr(word)[2:-1].replace("\\'", "'")
    if len(text) > SHOWN_BYTES:
        return f'"{text[:40]}…" ({len(word)} bytes)'
    return text if text and all(c.isalnum() or c in "-_.:{}*+@" for c in text) else '"' + text.replace('"', '\\"') + '"'


def has_commands(port, without):
    """A function that tells whether a server has a command of that name, and it is not to be left out."""
    connection = Connection(port)
    names = {(entry[0][1] if isinstance(entry[0], tuple) else entry[0]).upper() for entry in connection.ask(b"COMMAND")}
    connection.close()
    return lambda name: name.encode() in names and name not in without


class Report:
    def __init__(self, limit):
        self.limit = limit
        self.found = collections.Counter()  # by signature
        self.examples = {}  # by signature: (family, text)

    def is_known(self, difference):
        self.found[difference.signature()] += 1
        return self.found[difference.signature()] > 1

    def add(self, difference, episode, commands, known_again, beside=()):
        """`beside`: more lines about it."""
        lines = [f"{len(commands)} commands of episode {episode}" + ("" if known_again else ", which does not come again alone")]
        lines += ["    …"] * (len(commands) > SHOWN_COMMANDS)
        lines += [f"    {show_command(command)}" for command in commands[-SHOWN_COMMANDS:]]
        lines += [f"  expected: {show(difference.expected)}", f"  answered: {show(difference.got)}", *beside]
        self.examples[difference.signature()] = family_of(difference.command), "\n".join(lines)
        print(f"\ndifference ({family_of(difference.command)}): " + "\n".join(lines), flush=True)

    def is_full(self):
        return len(self.found) >= self.limit


def family_of(command):
    name = command[1] if command[0] in (b"@other", b"@scan") else command[0]
    if name.upper() == b"EXEC":
        return "transactions"
    if name == b"@block":
        return "waiting"
    lines = ((family, line.split()[1]) for family, (_, text) in FAMILIES.items() for line in text.strip().splitlines())
    return next((family for family, first in lines if first.encode() == name.upper()), "keys")


def recent(commands, difference):
    """The last that named a key of the command that was answered unlike."""
    keys = keys_of(difference.command)
    return [*[command for command in commands[:-1] if keys & keys_of(command)][-RECENT:], commands[-1]]


class Episodes:
    """`count` commands from one seed."""

    def __init__(self, sides, has, options, report):
        self.sides, self.has, self.options, self.report = sides, has, options, report
        self.runner = Runner(*sides, batch=options.batch)
        self.left_out = set()

    def run(self):
        began = shown = time.monotonic()
        number = self.options.episode
        while self.runner.compared < self.options.commands and not self.report.is_full():
            self.run_one(number)
            if self.options.seconds and time.monotonic() - began > self.options.seconds:
                break
            number += 1
            if time.monotonic() - shown > 15:
                shown = time.monotonic()
                print(f"{self.runner.compared} commands compared, {sum(self.report.found.values())} differences, "
                      f"{self.runner.compared / (shown - began):.0f}/s", flush=True)

    def run_one(self, number):
        for side in self.sides:
            side.protocol = 3 if number % 2 and self.has("HELLO") else 2
        generator = Generator(f"{self.options.seed}/{number}", self.has, self.options.families)
        self.left_out |= generator.left_out
        commands = []

        def remembered():
            for command in generator.commands(EPISODE):
                commands.append(command)
                yield command
        try:
            self.runner.reset()
            self.runner.run(remembered())
        except Difference as difference:
            self.tell(difference, number, commands[:difference.at + 1])

    def tell(self, difference, number, commands):
        if self.report.is_known(difference):
            return
        compared = self.runner.compared
        contents = self.contents_of(keys_of(difference.command))  # before they are gone
        shrunk = Shrinker(self.runner).shrink(commands, difference)
        self.runner.compared = compared
        if shrunk is None:
            self.report.add(difference, number, recent(commands, difference), known_again=False, beside=contents)
        else:
            self.report.add(shrunk[1], number, shrunk[0], known_again=True)


    def contents_of(self, keys):
        """Of some keys, as both servers have them now."""
        try:
            both = [states_of(side, sorted(keys)) for side in self.sides]
        except Closed:
            return []
        return [f"  {show_word(key)} there: {show(expected)}\n  {show_word(key)} here:  {show(got)}"
                for key, got, expected in zip(sorted(keys), *both)]


def parse_options(words):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commands", type=int, default=1000000, help="how many (1000000)")
    parser.add_argument("--seconds", type=float, default=0, help="stop after so long, if not before")
    parser.add_argument("--seed", type=int, default=None, help="the same seed gives the same commands")
    parser.add_argument("--episode", type=int, default=0, help="begin with that one")
    parser.add_argument("--batch", type=int, default=400, help="commands a pipeline (400)")
    parser.add_argument("--family", action="append", choices=FAMILIES, help="only that one; may be given several times")
    parser.add_argument("--without", action="append", default=[], help="leave out the command of that name")
    parser.add_argument("--differences", type=int, default=20, help="stop after so many kinds of them (20)")
    parser.add_argument("--redis", action="store_true", help="compare redis-server with itself: a test of the test")
    parser.add_argument("--port", type=int, help="a server that runs, in place of a new Skerry")
    options = parser.parse_args(words)
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 32)
    options.families = dict.fromkeys(options.family, 1) if options.family else None
    return options


def main(words):
    options = parse_options(words)
    print(f"seed {options.seed}", flush=True)
    report = Report(options.differences)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skerry-differential-")))
        reference = Redis(directory)
        stack.callback(reference.stop)
        skerry = None
        if options.redis:
            subject = Redis(directory)
            stack.callback(subject.stop)
        elif not options.port:
            subject = skerry = Skerry(directory / "skerry")
            stack.callback(subject.stop)
        port = options.port or subject.port
        episodes = Episodes((Side(port, change=uncached if options.redis else None), Side(reference.port)), has_commands(port, options.without), options, report)
        failure = ""
        try:
            episodes.run()
        except Closed as closed:
            failure = f"a server went away: {closed}"
        same, said = skerry.verify() if skerry and not failure else (True, "")
        print(said)
    return summary(options, report, episodes, time.monotonic() - began, failure or ("" if same else said))


def summary(options, report, episodes, seconds, failure):
    print()
    if episodes.left_out:
        print("commands that the server does not have: " + " ".join(sorted(episodes.left_out)))
    for signature, times in report.found.most_common():
        print(f"{times:6} times: {b' | '.join(signature).decode(errors='replace')}")
    if failure:
        print(f"failed: {failure}")
    kinds = len(report.found)
    print(f"evidence: differential | {episodes.runner.compared} commands, seed {options.seed}, {seconds:.0f} s | {kinds} differences")
    families = options.family or FAMILIES
    bad = {family for family, _ in report.examples.values()}
    print(f"{len(set(families) - bad)} passed, {len(bad) + bool(failure)} failed")
    return 1 if bad or failure else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
