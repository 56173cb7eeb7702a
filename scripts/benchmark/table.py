"""The table: medians of the runs, ratios within runs, and goals."""

from statistics import median

import validity
from goals import PEERS, ROWS


def markdown(scenarios):
    """Returns a Markdown table of all measurements, by scenario."""
    if not scenarios:
        return "nothing was measured\n"
    lines = _about(scenarios)
    if any(data["quick"] for data in scenarios.values()):
        lines += ["", "**A quick run: it shows that the benchmark works, and its figures mean nothing.**"]
    for letter in sorted(scenarios):
        data = scenarios[letter]
        peers = [peer for peer in PEERS if any(run["subject"] == peer for run in data["runs"])]
        columns = [*_columns(letter), *(f"{peer} (ours / it)" for peer in peers), "must reach", "met?"]
        rule = "|---|" + "---:|" * (len(columns) - 3) + "---|---|"
        rows = [line for row in ROWS if row.scenario == letter and (line := _line(row, data, peers))]
        lines += ["", f"**{letter}.** {data['title']}", "", "| " + " | ".join(columns) + " |", rule, *rows]
        if notes := [f"- {note}" for note in _notes(data)]:
            lines += ["", *notes]
    return "\n".join([*lines, ""])


def _columns(letter):
    """Returns the first columns. The subject beside ours is the floor, or ours in another way."""
    beside = next((row.floor for row in ROWS if row.scenario == letter and row.floor), "floor")
    return ["figure", "ours", beside, f"ours / {'floor' if beside == 'floor' else 'it'}"]


def _about(scenarios):
    data = scenarios[min(scenarios)]
    machine, versions = data["machine"], data["versions"]
    versions = ", ".join(version if name == "python" else f"{name} {version}" for name, version in versions.items())
    memory = f"{machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}"
    return [f"{data['date'][:10]}, {machine['cpu']}, {memory}; {versions}."]


def values(data, subject, figure):
    """Returns a figure of a subject by run, from valid runs; if there are none, from runs in which nothing was lost."""
    runs = [
        run for run in data["runs"] if run["subject"] == subject and figure in run["figures"] and not run["problems"]
    ]
    valid = [run for run in runs if not validity.of_run(data, run)]
    return {run["run"]: run["figures"][figure] for run in valid or runs}


def counts(data, subject):
    """Returns True if a subject has a valid run."""
    return any(run["subject"] == subject and not validity.of_run(data, run) for run in data["runs"])


def ratio(data, figure, ours, other):
    """Returns the median of the ratios of two subjects within a run, or None if they share no run."""
    mine, theirs = values(data, ours, figure), values(data, other, figure)
    ratios = [mine[run] / theirs[run] for run in mine.keys() & theirs.keys() if theirs[run]]
    return median(ratios) if ratios else None


def difference(data, figure, ours, other):
    """Returns the median of the differences of two subjects within a run, or None if they share no run."""
    mine, theirs = values(data, ours, figure), values(data, other, figure)
    differences = [mine[run] - theirs[run] for run in mine.keys() & theirs.keys()]
    return median(differences) if differences else None


def _line(row, data, peers):
    mine = values(data, row.ours, row.figure)
    if not mine:
        return None
    cells = [row.label, _number(median(mine.values()))]
    floor = values(data, row.floor, row.figure)
    cells += (
        [_number(median(floor.values())), _times(ratio(data, row.figure, row.ours, row.floor))] if floor else ["", ""]
    )
    cells += [_peer(data, row, peer) for peer in peers]
    cells += ["; ".join(map(str, row.goals)), _met(data, row)]
    return "| " + " | ".join(cells) + " |"


def _peer(data, row, peer):
    theirs = values(data, peer, row.figure)
    if not theirs or peer not in row.peers:
        return ""
    times = _times(ratio(data, row.figure, row.ours, peer))
    return _number(median(theirs.values())) + (f" ({times})" if times else "")


def _met(data, row):
    if not row.goals:
        return ""
    answers = []
    for goal in row.goals:
        if goal.is_added:
            value = difference(data, row.figure, row.ours, goal.of)
        elif goal.of:
            value = ratio(data, row.figure, row.ours, goal.of)
        else:
            value = median(values(data, row.ours, row.figure).values())
        if value is None:
            answers.append("not measured")
        elif not counts(data, row.ours) or (goal.of and not counts(data, goal.of)):
            answers.append("invalid: something else was running")
        else:
            answers.append("yes" if goal.is_met(value) else "**no**")
    return "; ".join(answers)


def _notes(data):
    """Yields a line per invalid run, with the reason."""
    for run in data["runs"]:
        if reason := validity.of_run(data, run):
            yield f"run {run['run']}, {run['subject']}: invalid: {reason}"


def _times(value):
    return "" if value is None else f"{value:.2f} ×" if value >= 0.095 else f"1/{1 / value:.0f}" if value > 0 else "0 ×"


def _number(value):
    if value >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"
