"""Writes docs/redis-compatibility.md: which of Redis's commands Skerry has. From the command table (libcommon/commands.def), the
list of Redis's commands (redis_commands.txt), and how some differ (docs/redis-differences.txt).

usage: compatibility.py [--check | --refresh]
    --check     says whether the file is what it should be, and writes nothing
    --refresh   writes redis_commands.txt anew, as the redis-server on this machine has them"""

import collections
import pathlib
import re
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NAMES = HERE / "redis_commands.txt"
TABLE = ROOT / "libcommon" / "commands.def"
DIFFERENCES = ROOT / "docs" / "redis-differences.txt"
PAGE = ROOT / "docs" / "redis-compatibility.md"

GROUPS = {"string": "Strings", "generic": "Keys", "hash": "Hashes", "list": "Lists", "set": "Sets", "sorted-set": "Sorted sets",
          "bitmap": "Bitmaps", "hyperloglog": "HyperLogLog", "transactions": "Transactions", "connection": "Connection", "server": "Server",
          "pubsub": "Publish and subscribe", "scripting": "Scripts and functions", "stream": "Streams", "geo": "Geography",
          "cluster": "Redis Cluster"}


def refresh():
    from servers import Redis
    from resp import Connection
    with tempfile.TemporaryDirectory() as directory:
        server = Redis(directory)
        connection = Connection(server.port)
        docs = connection.ask(b"COMMAND", b"DOCS")
        version = re.search(rb"redis_version:(\S+)", connection.ask(b"INFO", b"server")).group(1).decode()
        server.stop()
    lines = []
    for name, entry in zip(docs[::2], docs[1::2]):
        facts = dict(zip(entry[::2], entry[1::2]))
        lines.append(f"{facts[b'group'].decode()} {name.decode().upper()}\n")
    NAMES.write_text(f"# The commands of redis-server {version} by group; by compatibility.py --refresh.\n" + "".join(sorted(lines)))


def read_names():
    """{group: [name]}, and Redis's version."""
    first, *lines = NAMES.read_text().splitlines()
    groups = collections.defaultdict(list)
    for line in lines:
        group, name = line.split()
        groups[group].append(name)
    return groups, re.search(r"redis-server (\d+\.\d+)", first).group(1)


def read_table():
    """Skerry's commands: {name: what it does}."""
    entries = re.findall(r'^SK_COMMAND\((\w+),.*?"((?:[^"\\]|\\.)*)"\)', TABLE.read_text(), re.MULTILINE | re.DOTALL)
    return dict(entries)


def read_differences():
    """What is said of all, and {name: how it differs}. Lines that begin with a space go on with the one before."""
    lines = []
    for line in DIFFERENCES.read_text().splitlines():
        if line.startswith(" "):
            lines[-1] += " " + line.strip()
        elif line and not line.startswith("#"):
            lines.append(line)
    general = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
    by_name = {}
    for line in lines:
        if not line.startswith("- "):
            names, how = line.split(": ", 1)
            by_name.update(dict.fromkeys(names.split(), how))
    return general, by_name


def state_of(name, table, differences):
    if name not in table:
        assert name not in differences, f"{DIFFERENCES.name} tells how {name} differs, which Skerry does not have"
        return "no"
    return f"differs: {differences[name]}" if name in differences else "yes"


def make_page():
    groups, version = read_names()
    table = read_table()
    general, differences = read_differences()
    unknown = set(differences) - {name for names in groups.values() for name in names} - set(table)
    assert not unknown, f"{DIFFERENCES.name} names {unknown}"
    redis_names = {name for names in groups.values() for name in names}
    has = len(redis_names & set(table))
    lines = [
        "# Skerry and Redis's commands", "",
        f"Which commands of Redis {version} Skerry has at its RESP door. Made by `tests/redis/compatibility.py` from the command table and",
        "`docs/redis-differences.txt`; `scripts/differential` compares the answers of both to random commands. "
        f"Of {len(redis_names)} commands Skerry has {has}.",
        "", "## What differs", "", *(f"- {text}" for text in general), ""]
    for group, title in GROUPS.items():
        lines += [f"## {title}", "", "| command | |", "| --- | --- |"]
        lines += [f"| {name} | {state_of(name, table, differences)} |" for name in sorted(groups.pop(group))]
        lines.append("")
    assert not groups, f"groups without a title: {list(groups)}"
    lines += ["## Commands of Skerry's own", "", "| command | |", "| --- | --- |"]
    lines += [f"| {name} | {table[name].replace('|', chr(92) + '|')} |" for name in sorted(set(table) - redis_names)]
    return "\n".join(lines) + "\n"


def main(words):
    if words == ["--refresh"]:
        refresh()
        return 0
    page = make_page()
    if words == ["--check"]:
        if PAGE.exists() and PAGE.read_text() == page:
            return 0
        print(f"{PAGE.relative_to(ROOT)} is not what the command table says: run tests/redis/compatibility.py", file=sys.stderr)
        return 1
    if words:
        print(__doc__, file=sys.stderr)
        return 2
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
