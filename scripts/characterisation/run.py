"""Runs scenes, several at a time, and puts their texts together in a fixed order."""

import concurrent.futures
import re
import traceback
from pathlib import Path

import processes
from processes import Failed
from scene import Scene
from scenes import (
    clients,
    command_lines,
    gaps,
    limits,
    losses,
    metrics,
    origins,
    publishing,
    requests,
    starts,
    streams,
)

# The slowest first.
MODULES = (
    limits,
    clients,
    requests,
    origins,
    publishing,
    streams,
    starts,
    gaps,
    losses,
    metrics,
    command_lines,
)


def scenes():
    """Returns the title and the function of every scene, in the order of the file."""
    for module in MODULES:
        module_name = module.__name__.rsplit(".", 1)[1]
        for entry in module.SCENES:
            function, arguments = entry if isinstance(entry, tuple) else (entry, ())
            words = [module_name, function.__name__.replace("_", " "), *arguments]
            yield ", ".join(words), function, arguments


def describe(programs, work, options, titles=None):
    """Returns the description of the programs in a directory; of all scenes, or of those named.

    After a failure the other scenes still run, and all failures are reported together.
    """
    chosen = [
        entry
        for entry in scenes()
        if re.search(options.only or "", entry[0]) and (titles is None or entry[0] in titles)
    ]
    work.mkdir(parents=True)
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        running = [
            pool.submit(_run, title, function, arguments, programs, work / f"scene-{number}")
            for number, (title, function, arguments) in enumerate(chosen)
        ]
        try:
            concurrent.futures.wait(running)
        except BaseException:
            # Without their programs the scenes that are running fail at once.
            pool.shutdown(wait=False, cancel_futures=True)
            processes.stop_all()
            raise
    failures = [str(future.exception()) for future in running if future.exception()]
    if failures:
        raise Failed("\n\n".join(failures))
    return "".join(future.result() for future in running)


def _run(title, function, arguments, programs, directory):
    """Runs one scene and returns its text."""
    scene = Scene(title, programs, directory)
    try:
        function(scene, *arguments)
    except Exception as error:
        raise Failed(f"{title} ({_place(error)}): {error!r}") from error
    finally:
        scene.close()
    return scene.transcript.text()


def _place(error):
    """Returns the last line of a scene that an error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    in_scenes = [frame for frame in frames if Path(frame.filename).parent.name == "scenes"]
    last = (in_scenes or frames)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"
