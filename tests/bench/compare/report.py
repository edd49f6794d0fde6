"""Results as JSON, as Markdown, and as the table in README.md. Results are a dictionary of loads by name, each from its latest run."""

import json
import statistics

from processes import ROOT

FOLDER = ROOT / "build" / "bench"
FORM = 1  # to be raised when what results have in them changes
README = ROOT / "README.md"
BEGIN, END = "<!-- scripts/bench --readme writes from here -->", "<!-- to here -->"
README_LEGEND = """Commands a second (p50 / p99 in ms), medians of the rounds; the ratio is the median of the rounds' ratios, of Skerry to what is beside
it: of latencies and memory less is better. Keys of 16 bytes at random, values of 100 bytes unless told; Skerry: three shardd, one metad and
one gateway by `skerry up` with its defaults, unless told."""
UNITS = {"per_second": "commands/s", "p50_ms": "p50", "p99_ms": "p99", "private_mb": "private memory"}


def read():
    """Without what an older or newer scripts/bench wrote in another form."""
    path = FOLDER / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    return {name: load for name, load in results.items() if load.get("form") == FORM}


def write(results, order):
    """Whole or not at all, after each measurement."""
    results = {name: results[name] for name in order if name in results}
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in (("results.json", json.dumps(results, indent=1) + "\n"), ("results.md", as_markdown(results))):
        part = FOLDER / (name + ".part")
        part.write_text(text)
        part.rename(FOLDER / name)


# ---- figures ----

def median(rounds, figure):
    known = [figures[figure] for figures in rounds if figures[figure] is not None]
    return statistics.median(known) if known else None


def ratios(measure, subject, peer):
    """Of the subject to the peer, in each round that both have; above 1 is more."""
    figure = measure["compared"]
    pairs = zip(measure["rounds"].get(subject, []), measure["rounds"].get(peer, []))
    return [a[figure] / b[figure] for a, b in pairs if a[figure] and b[figure]]


def number(value, digits=0):
    return "" if value is None else f"{value:,.{digits}f}"


def ms(value):
    return "" if value is None else f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def ratio_cells(measure, subject, peer):
    found = ratios(measure, subject, peer)
    if not found:
        return "", ""
    return " / ".join(f"{ratio:.2f}" for ratio in found), f"**{statistics.median(found):.2f}**"


# ---- Markdown ----

def table(head, rows, left=1):
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *rows]) + "\n"


def notes(measure):
    """What went wrong, which nobody shall overlook."""
    for name, rounds in measure["rounds"].items():
        errors = {}
        for figures in rounds:
            for code, count in figures["errors"].items():
                errors[code] = errors.get(code, 0) + count
        if errors:
            yield f"- {name}: errors: {', '.join(f'{count:,} {code}' for code, count in errors.items())}\n"
        missing = sum(figures["missing"] for figures in rounds)
        if missing:
            yield f"- {name}: {missing:,} reads found nothing\n"


def measure_rows(measure, subject):
    for name, rounds in measure["rounds"].items():
        compared = ("", "") if name == subject else ratio_cells(measure, subject, name)
        asked = measure["in_flight"] > 0
        yield [name, number(median(rounds, "per_second")) if asked else "", ms(median(rounds, "p50_ms")), ms(median(rounds, "p99_ms")),
               number(median(rounds, "cpu_per_million"), 1), number(median(rounds, "cpu_percent"), 1),
               number(median(rounds, "private_mb")), number(median(rounds, "dirty_mb")), number(median(rounds, "rss_mb")), *compared]


def load_as_markdown(load):
    subject = load["contestants"][0]
    parts = [f"## {load['name']}: {load['title']}\n\nPromise: {load['promise']}. {how(load)}\n"]
    for measure in load["measures"]:
        head = ["medians", "commands/s", "p50 ms", "p99 ms", "CPU s per million", "% of a core", "private MB", "of it dirty", "resident MB",
                f"{subject} to it, {UNITS[measure['compared']]}, each round", "median"]
        parts.append(f"### {measure['name']}\n\n{measure_settings(measure, load)}\n\n{table(head, measure_rows(measure, subject))}"
                     + "".join(notes(measure)))
    return "\n".join(parts)


def measure_settings(measure, load):
    """Without what the contestants differ in: their names say it."""
    if measure["in_flight"] == 0:
        return f"{load['keys']:,} keys, values of {load['value_bytes']:,} bytes; watched for {measure['seconds']:g} s."
    settings = {"in_flight": f"{measure['in_flight']} requests in flight", "connections": f"{measure['connections']} connections",
                "batch": f"{measure['batch']} commands a request", "reads": f"{measure['reads']} % reads", "keys": f"{load['keys']:,} keys"}
    told = [text for name, text in settings.items() if name not in load["varied"]]
    return f"{', '.join(told)}, values of {load['value_bytes']:,} bytes, {measure['seconds']:g} s."


def how(load):
    made = load["made"]
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    return (f"{made['time'][:10]}, {made['cores']} cores ({made['processor']}), systems and load programs on the same machine; {versions}; "
            f"rounds one after the other: {made['rounds']}{', short ones: for a look only' if made['quick'] else ''}.")


def as_markdown(results):
    return "# Skerry beside its peers\n\n" + "\n".join(load_as_markdown(load) for load in results.values())


# ---- README ----

def side(rounds):
    figures = [number(median(rounds, "per_second")) + "/s", ms(median(rounds, "p50_ms")), ms(median(rounds, "p99_ms"))]
    return f"{figures[0]} ({figures[1]} / {figures[2]})"


def idle_side(rounds):
    return f"{number(median(rounds, 'private_mb'))} MB, {number(median(rounds, 'cpu_percent'), 1)} %"


def readme_rows(load):
    subject = load["contestants"][0]
    for measure in load["measures"]:
        show = idle_side if measure["in_flight"] == 0 else side
        for peer in load["contestants"][1:]:
            if not measure["rounds"].get(subject) or not measure["rounds"].get(peer):
                continue
            what = load["title"] + ("" if len(load["measures"]) == 1 else f": {measure['name']}")
            keys = "" if "keys" in load["varied"] else f" ({load['keys']:,} keys)"
            median_ratio = ratio_cells(measure, subject, peer)[1]
            yield [what + keys, f"{subject}: {show(measure['rounds'][subject])}", f"{peer}: {show(measure['rounds'][peer])}",
                   f"{median_ratio} {UNITS[measure['compared']]}"]


def readme_table(results):
    """Of runs made alike, one sentence says how; else each load's sentence stands in results.md alone."""
    rows = [row for load in results.values() for row in readme_rows(load)]
    sentences = list(dict.fromkeys(how(load) for load in results.values()))
    return ("\n".join(sentences) + "\n\n" + README_LEGEND + "\n\n"
            + table(["load", "Skerry", "beside", "ratio"], rows, left=3))


def replace_between_markers(text, inside):
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"README.md has no place for the table: {BEGIN} … {END}")
    return f"{before}{begin}\n\n{inside}\n{end}{after}"


def write_readme(results):
    if not results:
        raise SystemExit("there are no results yet: run scripts/bench first")
    README.write_text(replace_between_markers(README.read_text(), readme_table(results)))
