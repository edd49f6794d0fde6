"""A small grammar for commands: one line of text says what a command may look like, and is compiled into a function that
makes one such command at random.

    WORD, 0       itself, in any case now and then
    word          a value of that name (values.py)
    ( a | b )     one of them
    [ a ]         it or nothing
    { a | b }     options: some of them, in any order, also twice
    item+         once or more; very often now and then
    #word         a count, and so many values of that name; another count now and then
"""

import re

TOKEN = re.compile(r"[()\[\]{}|]\+?|[^\s()\[\]{}|]+")
MANY = 0.003  # of repetitions, so many times more than most
WRONG_COUNT = 0.03


class Choice:
    def __init__(self, alternatives):
        self.alternatives = alternatives

    def make(self, dice, out):
        dice.pick(self.alternatives).make(dice, out)


class Maybe:
    def __init__(self, item):
        self.item = item

    def make(self, dice, out):
        if dice.random() < 0.4:
            self.item.make(dice, out)


class Options:
    def __init__(self, alternatives):
        self.alternatives = alternatives

    def make(self, dice, out):
        while dice.random() < 0.45:
            dice.pick(self.alternatives).make(dice, out)


class Repeated:
    def __init__(self, item):
        self.item = item

    def make(self, dice, out):
        if dice.random() < MANY:
            times = dice.below(1500) + 1
        else:
            times = 1
            while times < 8 and dice.random() < 0.5:
                times += 1
        for _ in range(times):
            self.item.make(dice, out)


class Sequence:
    def __init__(self, items):
        self.items = items

    def make(self, dice, out):
        for item in self.items:
            item.make(dice, out)


class Literal:
    def __init__(self, word):
        assert not word.islower(), f"no value is called {word}"
        self.word = word.encode()

    def make(self, dice, out):
        out.append(self.word if dice.random() < 0.9 else dice.any_case(self.word))


class Value:
    def __init__(self, name, values):
        self.value = values[name]

    def make(self, dice, out):
        out.append(self.value(dice))


class Counted:
    """A count and so many values behind it."""

    def __init__(self, name, values):
        self.value = values[name]

    def make(self, dice, out):
        count = 1 + dice.below(3)
        said = b"%d" % count if dice.random() >= WRONG_COUNT else dice.pick([b"0", b"-1", b"1", b"100", b"x", b"2"])
        out.append(said)
        for _ in range(count):
            out.append(self.value(dice))


def compile_line(text, values):
    """The line's command: an object with `make(dice, out)`."""
    tokens = TOKEN.findall(text)
    item, rest = read_sequence(tokens, values, ends="")
    assert not rest, text
    return item


def read_sequence(tokens, values, ends):
    """Items up to one of the closing marks, which stays."""
    items = []
    while tokens and tokens[0] != "|" and tokens[0][0] not in (ends or " "):
        token, tokens = tokens[0], tokens[1:]
        if token[0] in "([{":
            item, token, tokens = read_group(token, tokens, values)
        elif token[0] == "#":
            item = Counted(token[1:].rstrip("+"), values)
        elif token.rstrip("+") in values:
            item = Value(token.rstrip("+"), values)
        else:
            item = Literal(token.rstrip("+"))
        items.append(Repeated(item) if token.endswith("+") else item)
    return items[0] if len(items) == 1 else Sequence(items), tokens


def read_group(opening, tokens, values):
    """What stands up to the mark that closes the group, that mark, and what is behind it."""
    closing = {"(": ")", "[": "]", "{": "}"}[opening]
    alternatives = []
    while True:
        item, tokens = read_sequence(tokens, values, ends=closing)
        alternatives.append(item)
        mark, tokens = tokens[0], tokens[1:]
        if mark != "|":
            break
    assert mark[0] == closing, (opening, mark)
    if opening == "{":
        return Options(alternatives), mark, tokens
    item = alternatives[0] if len(alternatives) == 1 else Choice(alternatives)
    return (Maybe(item) if opening == "[" else item), mark, tokens
