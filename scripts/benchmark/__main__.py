"""`scripts/bench`: runs scenarios, stores the measurements, and writes the table."""

import os
import shutil
import signal
import sys
import time

import ceiling
import credentials
import fanout
import handshakes
import idle
import ingest
import many_channels
import options as command_line
import personal
import processes
import procfs
import replay
import results
import servers
import slow
import soak
import storm
import table
from subject import Measured

SCENARIOS = {
    "A": fanout.a,
    "B": fanout.b,
    "C": fanout.c,
    "D": idle.d,
    "E": ceiling.e,
    "F": ingest.f,
    "G": storm.g,
    "H": replay.h,
    "I": slow.i,
    "J": personal.j,
    "K": personal.k,
    "L": many_channels.l,
    "M": many_channels.m,
    "N": fanout.n,
    "O": ceiling.o,
    "P": storm.p,
    "Q": idle.q,
    "R": fanout.r,
    "S": handshakes.s,
    "T": credentials.t,
    "U": idle.u,
}
# The soak is not part of a full run.
SOAK = {"soak": soak.soak}


def say(text):
    print(text, file=sys.stderr, flush=True)


def title(scenario):
    """Returns the first line of the scenario's docstring."""
    return scenario.__doc__.splitlines()[0]


def in_turn(subjects, run):
    """Returns the subjects in the order for a run. The order alternates, so that no subject is always first."""
    return subjects if run % 2 else subjects[::-1]


def measure(place, subject):
    """Measures a subject. Also returns the number of cores that other programs used in the meantime."""
    before, since = procfs.cpu_of_others(), time.monotonic()
    try:
        measured = subject.run(place)
    except processes.Failed as error:
        say(str(error))
        measured = Measured({}, [str(error).splitlines()[0]])
    # Programs that still run would count as other programs.
    processes.stop_all()
    return measured, max(0.0, procfs.cpu_of_others() - before) / (time.monotonic() - since)


def run_scenario(options, place, letter, about):
    """Executes all runs of a scenario; returns True if all are valid."""
    scenario = (SCENARIOS | SOAK)[letter]
    kept = results.Results(options, letter, title(scenario), about)
    is_well = True
    names = [subject.name for subject in scenario(options)]
    if unknown := [name for name in options.only if name not in names]:
        say(f"{letter}: there is no {', '.join(unknown)}; there are {', '.join(names)}")
        return False
    for run in range(kept.first_run, kept.first_run + options.runs):
        for subject in in_turn(scenario(options), run):
            if options.only and subject.name not in options.only:
                continue
            measured, others = measure(place, subject)
            kept.add(run, subject.name, measured, others)
            shown = ", ".join(f"{name} {value:.4g}" for name, value in measured.figures.items())
            say(f"{letter} {run}  {subject.name}: {shown}")
            for problem in measured.problems:
                say(f"{letter} {run}  {subject.name}: INVALID: {problem}")
                is_well = is_well and subject.is_peer
    return is_well


def main():
    options = command_line.parse(sys.argv[1:], list(SCENARIOS))
    # SIGTERM must stop the started programs, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options.out.mkdir(parents=True, exist_ok=True)
    place = servers.Place(options.bin, options.out.resolve() / f"work-{os.getpid()}", command_line.fanout_threads())
    about = {"machine": results.machine(), "date": results.now(), "versions": results.versions(options)}
    try:
        is_well = all([run_scenario(options, place, letter, about) for letter in options.scenarios])
    except KeyboardInterrupt:
        return 130
    finally:
        processes.stop_all()
        shutil.rmtree(place.work, ignore_errors=True)
    text = table.markdown(results.read_all(options.out))
    (options.out / "table.md").write_text(text)
    print(text, end="")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
