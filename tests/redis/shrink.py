"""Makes of a long run that ends with a difference a short one that still has it."""

import time

import values
from runner import Difference

KEYS = frozenset(values.KEYS)
MORE_WORDS = 40  # of a command, up to which its words are tried one by one


def keys_of(command):
    return KEYS.intersection(command[1:])


def name_of(command):
    """With that of the runner's command (@scan), if it is in one. All of @block, which is nothing without the rest."""
    size = {b"@other": 2, b"@scan": 2, b"@block": len(command)}.get(command[0], 1)
    return [word.upper() for word in command[:size]]


def related(commands, last):
    """Those that may have to do with the keys of `last`: they name one of them, or one that such a command names."""
    keys = set(keys_of(last))
    while True:
        kept = [command for command in commands if keys & keys_of(command) or not keys_of(command)]
        more = keys.union(*map(keys_of, kept)) if len(keys) < 8 else keys
        if more == keys:
            return kept
        keys = more


class Shrinker:
    def __init__(self, runner, patience_s=20):
        self.runner, self.patience_s = runner, patience_s

    def shrink(self, commands, difference):
        """`commands` end with the one that was answered unlike. The shortest found, and its difference; None if it does not
        come again."""
        self.name, self.signature = name_of(difference.command), difference.signature()
        self.deadline = time.monotonic() + self.patience_s
        self.best = None
        if not self.try_it([*related(commands[:-1], difference.command), commands[-1]]) and not self.try_it(commands):
            return None
        self.drop_commands()
        self.drop_words()
        return self.best

    def try_it(self, commands):
        """Whether these have it, too; then they are the best until now."""
        if self.best is not None and time.monotonic() > self.deadline:
            return False
        self.runner.reset()
        try:
            self.runner.run(commands)
        except Difference as difference:
            if name_of(difference.command) != self.name or difference.signature() != self.signature:
                return False
            self.best = list(commands[:difference.at + 1]), difference
            return True
        return False

    def drop_commands(self):
        """Half of them, a quarter, … one by one."""
        size = max(1, len(self.best[0]) // 2)
        while True:
            at = 0
            while at < len(self.best[0]) - 1:
                commands = self.best[0]
                end = min(at + size, len(commands) - 1)
                if not self.try_it(commands[:at] + commands[end:]):
                    at = end
            if size == 1:
                return
            size //= 2

    def drop_words(self):
        """Of each command, its words; long ones become short."""
        for at in range(len(self.best[0])):
            half = len(self.best[0][at]) // 2
            while half > MORE_WORDS:  # a command of very many words
                command = self.best[0][at]
                if half >= len(command) or not self.change(at, command[:-half]):
                    half //= 2
            place = min(len(self.best[0][at]), MORE_WORDS) - 1
            while place >= len(name_of(self.best[0][at])):
                command = self.best[0][at]
                if not self.change(at, command[:place] + command[place + 1:]) and len(command[place]) > 8:
                    self.change(at, command[:place] + [b"x"] + command[place + 1:])
                place -= 1

    def change(self, at, command):
        commands = self.best[0]
        return self.try_it(commands[:at] + [command] + commands[at + 1:])
