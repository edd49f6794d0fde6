"""Differences that are planted to see whether the test finds them: each changes some commands on their way to the server
under test."""


def without(word):
    """Options that are overlooked."""
    return lambda command: [other for other in command[:2]] + [other for other in command[2:] if other.upper() != word]


def replaced(word, by):
    return lambda command: [by if other == word else other for other in command]


def lost(_):
    """Answered, but not done."""
    return [b"CLIENT", b"SETNAME", b"lost"]


def shifted(command):
    """A bound that is not left out."""
    return command[:2] + [word.removeprefix(b"(") for word in command[2:]]


def positive(command):
    """LREM from the wrong end."""
    return [*command[:2], command[2].removeprefix(b"-"), *command[3:]] if len(command) == 4 else command


class Plant:
    """Every `every`th command of that name goes through `change`."""

    def __init__(self, name, change, every=1):
        self.name, self.change, self.every, self.seen = name, change, every, 0

    def __call__(self, command):
        if command[0].upper() != self.name:
            return command
        self.seen += 1
        return self.change(command) if self.seen % self.every == 0 else command


PLANTS = {
    "an option overlooked": lambda: Plant(b"SET", without(b"KEEPTTL")),
    "GT for LT": lambda: Plant(b"EXPIREAT", replaced(b"GT", b"LT")),
    "an open bound": lambda: Plant(b"ZRANGEBYSCORE", shifted),
    "from the wrong end": lambda: Plant(b"LREM", positive),
    "a write that is lost": lambda: Plant(b"MSET", lost, every=50),
    "only the content is wrong": lambda: Plant(b"ZUNIONSTORE", replaced(b"MIN", b"MAX")),
    "a member too many": lambda: Plant(b"SPOP", lambda command: command[:2] + ([b"2"] if len(command) == 2 else command[2:])),
}
