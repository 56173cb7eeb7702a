"""What is measured in a scenario, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Measured:
    """Figures by name, what was wrong in words, and the reports of the tools as they were."""

    figures: dict
    problems: list
    reports: dict = field(default_factory=dict)


@dataclass
class Subject:
    """A server in a scenario. `run` takes the place and gives what was measured."""

    name: str
    run: Callable

    @property
    def is_peer(self):
        """Neither ours nor the floor: what it loses is a finding, and no reason to fail."""
        return not self.name.startswith(("ours", "floor"))
