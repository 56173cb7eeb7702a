"""The subjects of a scenario, and their measurements."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Measured:
    """Figures by name, error messages, and the unchanged reports of the tools."""

    figures: dict
    problems: list
    reports: dict = field(default_factory=dict)


@dataclass
class Subject:
    """A server in a scenario. `run` takes the place and returns the measurement."""

    name: str
    run: Callable

    @property
    def is_peer(self):
        """True for servers other than sse-server and the floor. If a peer loses events, the benchmark does not fail."""
        return not self.name.startswith(("ours", "floor"))
